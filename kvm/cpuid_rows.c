/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What differs between two guests' CPUID, in words. */
#include "kvm/cpuid_rows.h"

#define NAMES_MAX 12 /* in one list */

/* Of each bit from the lowest on, as /proc/cpuinfo has them; "-": one without a name. */
static const struct {
	guint32 leaf, index;
	guint reg; /* 0 is eax */
	const char *names;
} words[] = {
	{ 1, 0, 2,
	  "sse3 pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr "
	  "pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave "
	  "osxsave avx f16c rdrand hypervisor" },
	{ 1, 0, 3,
	  "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush "
	  "- dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe" },
	{ 7, 0, 1,
	  "fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep bmi2 erms invpcid rtm cqm "
	  "zero_fcs_fds mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma - clflushopt "
	  "clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl" },
	{ 7, 0, 2,
	  "prefetchwt1 avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk gfni vaes "
	  "vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid - "
	  "bus_lock_detect cldemote - movdiri movdir64b enqcmd sgx_lc pks" },
	{ 7, 0, 3,
	  "- - avx512_4vnniw avx512_4fmaps fsrm - - - avx512_vp2intersect srbds_ctrl md_clear "
	  "rtm_always_abort - rtm_force_abort serialize hybrid tsxldtrk - pconfig arch_lbr ibt "
	  "- amx_bf16 avx512_fp16 amx_tile amx_int8 spec_ctrl intel_stibp flush_l1d "
	  "arch_capabilities core_capabilities spec_ctrl_ssbd" },
	{ 7, 1, 0,
	  "- - - - avx_vnni avx512_bf16 lass cmpccxadd arch_perfmon_ext - fzrm fsrs fsrc - - - - "
	  "fred lkgs wrmsrns - amx_fp16 - avx_ifma - - lam - - - - -" },
	{ 0xd, 1, 0, "xsaveopt xsavec xgetbv1 xsaves xfd" },
	{ 0x80000001, 0, 2,
	  "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs "
	  "xop skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - "
	  "bpext ptsc perfctr_llc mwaitx" },
	{ 0x80000001, 0, 3,
	  "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp "
	  "- lm 3dnowext 3dnow" },
	{ 0x80000007, 0, 3, "- - - - - - - - invariant_tsc" },
	{ 0x80000008, 0, 1,
	  "clzero irperf xsaveerptr - rdpru - - - - wbnoinvd - - ibpb - ibrs stibp - stibp_always "
	  "- - - - - - amd_ssbd virt_ssbd amd_ssb_no" },
	{ 0x40000001, 0, 0,
	  "kvm_clock kvm_nop_io_delay kvm_mmu_op kvm_clock2 kvm_async_pf kvm_steal_time "
	  "kvm_pv_eoi kvm_pv_unhalt - kvm_pv_tlb_flush kvm_async_pf_vmexit kvm_pv_send_ipi "
	  "kvm_poll_control kvm_pv_sched_yield kvm_async_pf_int kvm_msi_ext_dest_id - - - - - - "
	  "- - kvm_clock_stable" },
};

static const char *const reg_names[] = { "eax", "ebx", "ecx", "edx" };

static const struct vmm_cpuid_row *find(const struct vmm_cpuid_row *rows, gsize n,
					guint32 leaf, guint32 index)
{
	for (gsize i = 0; i < n; i++)
		if (wire_get32(rows[i].leaf) == leaf && wire_get32(rows[i].index) == index)
			return &rows[i];
	return NULL;
}

static guint32 reg_of(const struct vmm_cpuid_row *row, guint reg)
{
	if (!row)
		return 0;
	switch (reg) {
	case 0:
		return wire_get32(row->eax);
	case 1:
		return wire_get32(row->ebx);
	case 2:
		return wire_get32(row->ecx);
	default:
		return wire_get32(row->edx);
	}
}

/* The features of `bits` in the words of `names`. */
static void add_names(GString *list, guint *count, guint32 bits, const char *names)
{
	g_auto(GStrv) split = g_strsplit(names, " ", -1);
	guint known = g_strv_length(split);

	for (guint bit = 0; bit < 32; bit++) {
		if (!(bits & 1u << bit) || bit >= known || *split[bit] == '-')
			continue;
		if (++*count <= NAMES_MAX)
			g_string_append_printf(list, " %s", split[bit]);
		else if (*count == NAMES_MAX + 1)
			g_string_append(list, " ...");
	}
}

/* What the first has and the second lacks. */
static char *lacking(const struct vmm_cpuid_row *has, gsize n,
		     const struct vmm_cpuid_row *lacks, gsize m)
{
	GString *list = g_string_new(NULL);
	guint count = 0;

	for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
		guint32 there = reg_of(find(has, n, words[i].leaf, words[i].index),
				       words[i].reg);
		guint32 here = reg_of(find(lacks, m, words[i].leaf, words[i].index),
				      words[i].reg);

		add_names(list, &count, there & ~here, words[i].names);
	}
	return g_string_free(list, FALSE);
}

/* The first register in which a row of `rows` is not as in `others`. */
static char *first_difference(const struct vmm_cpuid_row *rows, gsize n,
			      const struct vmm_cpuid_row *others, gsize m, gboolean ours)
{
	for (gsize i = 0; i < n; i++) {
		guint32 leaf = wire_get32(rows[i].leaf), index = wire_get32(rows[i].index);
		const struct vmm_cpuid_row *other = find(others, m, leaf, index);

		for (guint reg = 0; reg < 4; reg++) {
			guint32 a = reg_of(&rows[i], reg), b = reg_of(other, reg);

			if (a != b)
				return g_strdup_printf("CPUID %#x.%u %s is %#x here and %#x "
						       "there", leaf, index, reg_names[reg],
						       ours ? a : b, ours ? b : a);
		}
	}
	return NULL;
}

char *vmm_cpuid_rows_difference(const struct vmm_cpuid_row *ours, gsize n,
				const struct vmm_cpuid_row *theirs, gsize m)
{
	char *other = first_difference(ours, n, theirs, m, TRUE);
	g_autofree char *peer = NULL, *here = NULL, *first = NULL;

	if (!other)
		other = first_difference(theirs, m, ours, n, FALSE);
	if (!other)
		return NULL;
	peer = lacking(ours, n, theirs, m);
	here = lacking(theirs, m, ours, n);
	if (!*peer && !*here)
		return other;
	g_free(other);
	return g_strdup_printf("%s%s%s%s%s", *peer ? "the peer lacks" : "", peer,
			       *peer && *here ? ", " : "", *here ? "this host lacks" : "",
			       here);
}
