/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest is told about its processor (Intel SDM vol. 2A, CPUID; AMD APM vol. 3,
 * appendix E; Documentation/virt/kvm/x86/cpuid.rst). */
#include "kvm/cpuid.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm/error.h"

#define ENTRIES_MAX VMM_CPUID_ROWS_MAX
#define BIT(n) (1u << (n))

struct vmm_cpuid {
	guint cpus;
	guint n;
	struct kvm_cpuid_entry2 entries[ENTRIES_MAX];
};

enum reg { EAX, EBX, ECX, EDX };
static const char *const reg_names[] = { "eax", "ebx", "ecx", "edx" };

static guint32 *reg_of(struct kvm_cpuid_entry2 *entry, enum reg reg)
{
	guint32 *const regs[] = { &entry->eax, &entry->ebx, &entry->ecx, &entry->edx };

	return regs[reg];
}

/* Kept from every guest: it cannot be carried over, or would make the two VMs differ. */
static const struct {
	guint32 leaf, index;
	enum reg reg;
	guint32 bits;
} hidden[] = {
	/* DTES64, MONITOR, DS-CPL, VMX, SMX, EST, TM2, PDCM */
	{ 1, 0, ECX, BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(15) },
	/* DS, ACPI thermal, TM, PBE */
	{ 1, 0, EDX, BIT(21) | BIT(22) | BIT(29) | BIT(31) },
	/* SGX, RDT monitoring and allocation, processor trace */
	{ 7, 0, EBX, BIT(2) | BIT(12) | BIT(15) | BIT(25) },
	/* WAITPKG, SGX launch control */
	{ 7, 0, ECX, BIT(5) | BIT(30) },
	/* PCONFIG, LBR, AMX (its state needs a grant from the kernel) */
	{ 7, 0, EDX, BIT(18) | BIT(19) | BIT(22) | BIT(24) | BIT(25) },
	{ 7, 1, EAX, BIT(21) },
	{ 7, 1, EDX, BIT(8) },
	/* AMX tile state in XCR0 */
	{ 0xd, 0, EAX, BIT(17) | BIT(18) },
	/* SVM, IBS, SKINIT, WDT, LWP, node id, topology extensions, performance counters,
	 * MWAITX */
	{ 0x80000001, 0, ECX,
	  BIT(2) | BIT(10) | BIT(12) | BIT(13) | BIT(15) | BIT(19) | BIT(22) | BIT(23) |
		  BIT(24) | BIT(28) | BIT(29) },
	/* steal time (its page would differ at each checkpoint), asynchronous page faults,
	 * TLB flush (needs steal time), extended destination ids, guest memory attributes,
	 * migration control */
	{ KVM_CPUID_FEATURES, 0, EAX,
	  BIT(4) | BIT(5) | BIT(9) | BIT(10) | BIT(14) | BIT(15) | BIT(16) | BIT(17) },
};

/* Leaves of which nothing is shown: monitor, thermal, PMU, RDT, SGX, PT, frequencies,
 * hybrid, AMX, V2 topology; SVM, cache and processor topology extensions, SEV, PMU. */
static const guint32 blank[] = { 5,    6,    0xa,  0xf,  0x10, 0x12,	   0x14,
				 0x15, 0x16, 0x1a, 0x1d, 0x1e, 0x1f,	   0x8000000a,
				 0x8000001d, 0x8000001e, 0x8000001f, 0x80000022 };

struct baseline_bits {
	guint32 leaf, index;
	enum reg reg;
	guint32 v2, v3; /* all of these must be there, and nothing else is shown */
	guint32 any; /* shown where the host has it: the same on all hosts of one vendor */
};

/* The x86-64 psABI's micro-architecture levels, and what system software needs beside and
 * every host has that comes into question. */
static const struct baseline_bits baseline[] = {
	/* SSE3, SSSE3, CX16, SSE4.1, SSE4.2, POPCNT, x2APIC, TSC deadline, hypervisor; v3:
	 * FMA, MOVBE, XSAVE, AVX, F16C. */
	{ 1, 0, ECX,
	  BIT(0) | BIT(9) | BIT(13) | BIT(19) | BIT(20) | BIT(21) | BIT(23) | BIT(24) |
		  BIT(31),
	  BIT(12) | BIT(22) | BIT(26) | BIT(28) | BIT(29), 0 },
	/* FPU, TSC, MSR, PAE, CX8, APIC, CMOV, CLFSH, MMX, FXSR, SSE, SSE2; VME, DE, PSE,
	 * MCE, SEP, MTRR, PGE, MCA, PAT, PSE36. */
	{ 1, 0, EDX,
	  BIT(0) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(9) | BIT(15) | BIT(19) |
		  BIT(23) | BIT(24) | BIT(25) | BIT(26),
	  0,
	  BIT(1) | BIT(2) | BIT(3) | BIT(7) | BIT(11) | BIT(12) | BIT(13) | BIT(14) |
		  BIT(16) | BIT(17) },
	/* v3: BMI1, AVX2, BMI2, and SMEP, which all such processors have */
	{ 7, 0, EBX, 0, BIT(3) | BIT(5) | BIT(7) | BIT(8), 0 },
	/* x87, SSE, AVX state */
	{ 0xd, 0, EAX, 0, BIT(0) | BIT(1) | BIT(2), 0 },
	/* LAHF; v3: LZCNT */
	{ 0x80000001, 0, ECX, BIT(0), BIT(5), 0 },
	/* SYSCALL, NX, LM; RDTSCP and, on AMD, the bits that mirror leaf 1 */
	{ 0x80000001, 0, EDX, BIT(11) | BIT(20) | BIT(29), 0, BIT(27) | 0x0183f3ff },
	/* clock source, no I/O delay, its stable variant; end of interrupt, spinlocks */
	{ KVM_CPUID_FEATURES, 0, EAX, BIT(3), 0, BIT(0) | BIT(1) | BIT(6) | BIT(7) | BIT(24) },
};

/* Leaves that a baseline shows; of those that are not in `baseline` above, all. */
static const guint32 baseline_leaves[] = { 0,	       1,	   7,	       0xb,
					   0xd,	       0x40000000, 0x40000001, 0x80000000,
					   0x80000001, 0x80000002, 0x80000003, 0x80000004,
					   0x80000008 };

gboolean vmm_cpuid_is_model(const char *model)
{
	return !strcmp(model, "host") || !strcmp(model, "x86-64-v2") ||
	       !strcmp(model, "x86-64-v3");
}

static struct kvm_cpuid_entry2 *find(const vmm_cpuid *cpuid, guint32 leaf, guint32 index)
{
	for (guint i = 0; i < cpuid->n; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == leaf &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
			return (struct kvm_cpuid_entry2 *)e;
	}
	return NULL;
}

static gboolean has_leaf(const guint32 *leaves, gsize n, guint32 leaf)
{
	for (gsize i = 0; i < n; i++)
		if (leaves[i] == leaf)
			return TRUE;
	return FALSE;
}

static void remove_entry(vmm_cpuid *cpuid, guint at)
{
	memmove(&cpuid->entries[at], &cpuid->entries[at + 1],
		(cpuid->n - at - 1) * sizeof(cpuid->entries[0]));
	cpuid->n--;
}

static gboolean read_supported(vmm_cpuid *cpuid, struct vmm_hypervisor *hv, GError **error)
{
	g_autofree struct kvm_cpuid2 *table =
		g_malloc0(sizeof(*table) + sizeof(cpuid->entries));

	table->nent = ENTRIES_MAX;
	if (ioctl(hv->kvm_fd, KVM_GET_SUPPORTED_CPUID, table) < 0)
		return vmm_error_errno(error, errno, "ask KVM what CPUID it supports");
	cpuid->n = MIN(table->nent, (guint32)ENTRIES_MAX - 8);
	memcpy(cpuid->entries, table->entries, cpuid->n * sizeof(cpuid->entries[0]));
	return TRUE;
}

static void hide(vmm_cpuid *cpuid)
{
	for (guint i = 0; i < cpuid->n;) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
		gboolean amx_state = e->function == 0xd && (e->index == 17 || e->index == 18);

		if (has_leaf(blank, G_N_ELEMENTS(blank), e->function) || amx_state)
			remove_entry(cpuid, i);
		else
			i++;
	}
	for (guint i = 0; i < G_N_ELEMENTS(hidden); i++) {
		struct kvm_cpuid_entry2 *e = find(cpuid, hidden[i].leaf, hidden[i].index);

		if (e)
			*reg_of(e, hidden[i].reg) &= ~hidden[i].bits;
	}
}

/* Keeps only what the baseline has; notes in `missing` what it has and the host lacks. */
static void reduce(vmm_cpuid *cpuid, gboolean v3, GString *missing)
{
	for (guint i = 0; i < cpuid->n;) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
		gboolean keep = has_leaf(baseline_leaves, G_N_ELEMENTS(baseline_leaves),
					 e->function) &&
				!(e->function == 7 && e->index > 0) &&
				!(e->function == 0xd && (!v3 || e->index > 2));

		if (keep)
			i++;
		else
			remove_entry(cpuid, i);
	}
	for (guint i = 0; i < G_N_ELEMENTS(baseline); i++) {
		const struct baseline_bits *b = &baseline[i];
		struct kvm_cpuid_entry2 *e = find(cpuid, b->leaf, b->index);
		guint32 wanted = b->v2 | (v3 ? b->v3 : 0);
		guint32 have = e ? *reg_of(e, b->reg) : 0;

		if (wanted & ~have)
			g_string_append_printf(missing, "%s%#x.%s bits %#x",
					       missing->len ? ", " : "", b->leaf,
					       reg_names[b->reg], wanted & ~have);
		if (e)
			*reg_of(e, b->reg) &= wanted | b->any;
	}
}

/* A processor of no particular make, so that two hosts of one vendor present the same. */
static void name_baseline(vmm_cpuid *cpuid, gboolean v3)
{
	char brand[48] = { 0 };
	struct kvm_cpuid_entry2 *e = find(cpuid, 0, 0);
	gboolean amd = e && e->ebx == 0x68747541; /* "Auth" of AuthenticAMD */

	if (e)
		e->eax = 0xd;
	e = find(cpuid, 1, 0);
	if (e) { /* family 15 model 107 or family 6 model 60, as others name such machines */
		e->eax = amd ? 0x00060fb1 : 0x000306c1;
		e->ebx = 8 << 8; /* lines of 64 bytes are flushed */
	}
	e = find(cpuid, 7, 0);
	if (e) {
		e->eax = 0;
		e->ecx = e->edx = 0;
	}
	e = find(cpuid, 0xd, 0);
	if (e) {
		e->ebx = e->ecx = 576 + 256; /* legacy area, header, AVX */
		e->edx = 0;
	}
	e = find(cpuid, 0xd, 1);
	if (e)
		e->eax = e->ebx = e->ecx = e->edx = 0;
	e = find(cpuid, 0x80000000, 0);
	if (e)
		e->eax = 0x80000008;
	e = find(cpuid, 0x80000001, 0);
	if (e)
		e->eax = e->ebx = 0;
	e = find(cpuid, 0x80000008, 0);
	if (e) {
		e->eax = 48 << 8 | 39; /* linear and physical bits that all have */
		e->ebx = e->edx = 0;
	}
	e = find(cpuid, 0x40000000, 0);
	if (e)
		e->eax = KVM_CPUID_FEATURES;
	g_snprintf(brand, sizeof(brand), "x86-64-v%u virtual processor", v3 ? 3 : 2);
	for (guint i = 0; i < 3; i++) {
		e = find(cpuid, 0x80000002 + i, 0);
		if (e)
			for (guint r = 0; r < 4; r++)
				memcpy(reg_of(e, r), brand + i * 16 + r * 4, 4);
	}
}

static struct kvm_cpuid_entry2 *add_entry(vmm_cpuid *cpuid, guint32 leaf, guint32 index,
					  gboolean indexed)
{
	struct kvm_cpuid_entry2 *e = find(cpuid, leaf, index);

	if (!e) {
		g_assert(cpuid->n < ENTRIES_MAX);
		e = &cpuid->entries[cpuid->n++];
		memset(e, 0, sizeof(*e));
	}
	e->function = leaf;
	e->index = index;
	e->flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
	return e;
}

/* One package with a core for each vCPU. */
static void set_topology(vmm_cpuid *cpuid)
{
	guint bits = cpuid->cpus > 1 ? g_bit_storage(cpuid->cpus - 1) : 0;
	struct kvm_cpuid_entry2 *e = find(cpuid, 1, 0);

	if (e) {
		e->ebx = (e->ebx & 0xff00) | cpuid->cpus << 16;
		e->edx = cpuid->cpus > 1 ? e->edx | BIT(28) : e->edx & ~BIT(28);
	}
	for (guint i = 0; i < cpuid->n; i++) {
		struct kvm_cpuid_entry2 *c = &cpuid->entries[i];

		/* Cores in the package; each cache is one core's. */
		if (c->function == 4 && (c->eax & 0x1f))
			c->eax = (c->eax & 0x3fff) | ((1u << bits) - 1) << 26;
	}
	for (guint i = 0; i < cpuid->n;)
		if (cpuid->entries[i].function == 0xb)
			remove_entry(cpuid, i);
		else
			i++;
	e = add_entry(cpuid, 0xb, 0, TRUE);
	e->eax = 0;
	e->ebx = 1;
	e->ecx = 1 << 8;
	e = add_entry(cpuid, 0xb, 1, TRUE);
	e->eax = bits;
	e->ebx = cpuid->cpus;
	e->ecx = 2 << 8 | 1;
	e = find(cpuid, 0x80000008, 0);
	if (e)
		e->ecx = cpuid->cpus > 1 ? bits << 12 | (cpuid->cpus - 1) : 0;
}

static void show(vmm_cpuid *cpuid, struct vmm_hypervisor *hv, gboolean invariant_tsc)
{
	struct kvm_cpuid_entry2 *e = find(cpuid, 1, 0);

	if (e) {
		e->ecx |= BIT(31);
		/* KVM supports it with an in-kernel APIC but does not list it. */
		if (hv->tsc_deadline)
			e->ecx |= BIT(24);
	}
	e = find(cpuid, 0x80000007, 0);
	if (e) {
		e->eax = e->ebx = e->ecx = 0;
		e->edx &= invariant_tsc ? BIT(8) : 0;
	}
}

vmm_cpuid *vmm_cpuid_new(struct vmm_hypervisor *hv, const char *model, guint cpus,
			 gboolean invariant_tsc, GError **error)
{
	g_autoptr(vmm_cpuid) cpuid = g_new0(vmm_cpuid, 1);
	g_autoptr(GString) missing = g_string_new(NULL);
	gboolean v3 = !strcmp(model, "x86-64-v3");

	cpuid->cpus = cpus;
	if (!vmm_cpuid_is_model(model)) {
		vmm_error_set(error, VMM_ERROR_CONFIG,
			      "cpu model %s: unknown; there are host, x86-64-v2, x86-64-v3",
			      model);
		return NULL;
	}
	if (!read_supported(cpuid, hv, error))
		return NULL;
	hide(cpuid);
	show(cpuid, hv, invariant_tsc);
	if (strcmp(model, "host")) {
		reduce(cpuid, v3, missing);
		name_baseline(cpuid, v3);
	}
	if (missing->len) {
		vmm_error_set(error, VMM_ERROR_HOST,
			      "cpu model %s: this host lacks CPUID %s", model, missing->str);
		return NULL;
	}
	set_topology(cpuid);
	return g_steal_pointer(&cpuid);
}

void vmm_cpuid_free(vmm_cpuid *cpuid)
{
	g_free(cpuid);
}

gboolean vmm_cpuid_set(const vmm_cpuid *cpuid, int vcpu_fd, guint id, GError **error)
{
	g_autofree struct kvm_cpuid2 *table =
		g_malloc0(sizeof(*table) + cpuid->n * sizeof(cpuid->entries[0]));

	table->nent = cpuid->n;
	memcpy(table->entries, cpuid->entries, cpuid->n * sizeof(cpuid->entries[0]));
	for (guint i = 0; i < cpuid->n; i++) {
		struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (e->function == 1)
			e->ebx = (e->ebx & 0xffffff) | id << 24;
		else if (e->function == 0xb)
			e->edx = id;
	}
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, table) < 0)
		return vmm_error_errno(error, errno, "give vCPU %u its CPUID", id);
	return TRUE;
}

guint vmm_cpuid_rows(const vmm_cpuid *cpuid, struct vmm_cpuid_row rows[VMM_CPUID_ROWS_MAX])
{
	for (guint i = 0; i < cpuid->n; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		rows[i] = (struct vmm_cpuid_row){
			.leaf = wire_put32(e->function),
			.index = wire_put32(e->index),
			.flags = wire_put32(e->flags),
			.eax = wire_put32(e->eax),
			.ebx = wire_put32(e->ebx),
			.ecx = wire_put32(e->ecx),
			.edx = wire_put32(e->edx),
		};
	}
	return cpuid->n;
}

void vmm_cpuid_save(const vmm_cpuid *cpuid, vmm_state *state)
{
	struct vmm_cpuid_row saved[VMM_CPUID_ROWS_MAX];
	guint n = vmm_cpuid_rows(cpuid, saved);

	vmm_state_put(state, "cpuid", 0, 1, saved, n * sizeof(saved[0]), NULL);
}

static gboolean refuse_reg(GError **error, const struct vmm_cpuid_row *s, enum reg reg,
			   guint32 saved, guint32 here)
{
	return vmm_error_set(error, VMM_ERROR_STATE,
			     "CPUID %#x.%u %s was %#x where the state was saved and is %#x "
			     "here: use the same --cpu-model on like hosts, or a baseline",
			     wire_get32(s->leaf), wire_get32(s->index), reg_names[reg], saved,
			     here);
}

static gboolean is_saved(const struct kvm_cpuid_entry2 *e, const struct vmm_cpuid_row *saved,
			 gsize n)
{
	for (gsize i = 0; i < n; i++)
		if (wire_get32(saved[i].leaf) == e->function &&
		    wire_get32(saved[i].index) == e->index)
			return TRUE;
	return FALSE;
}

gboolean vmm_cpuid_check(const vmm_cpuid *cpuid, const vmm_state *state, GError **error)
{
	gsize len;
	const struct vmm_cpuid_row *saved =
		vmm_state_get(state, "cpuid", 0, 1, 0, ENTRIES_MAX * sizeof(*saved), &len, error);

	if (!saved)
		return FALSE;
	for (guint i = 0; i < len / sizeof(*saved); i++) {
		const struct vmm_cpuid_row *s = &saved[i];
		const guint32 there[] = { wire_get32(s->eax), wire_get32(s->ebx),
					  wire_get32(s->ecx), wire_get32(s->edx) };
		struct kvm_cpuid_entry2 *e =
			find(cpuid, wire_get32(s->leaf), wire_get32(s->index));

		for (enum reg r = EAX; r <= EDX; r++) {
			guint32 here = e ? *reg_of(e, r) : 0;

			if (there[r] != here)
				return refuse_reg(error, s, r, there[r], here);
		}
	}
	if (len != cpuid->n * sizeof(*saved))
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "CPUID had %zu leaves where the state was saved and has "
				     "%u here", len / sizeof(*saved), cpuid->n);
	for (guint i = 0; i < cpuid->n; i++)
		if (!is_saved(&cpuid->entries[i], saved, len / sizeof(*saved)))
			return vmm_error_set(error, VMM_ERROR_STATE,
					     "CPUID had no leaf %#x.%u where the state was "
					     "saved", cpuid->entries[i].function,
					     cpuid->entries[i].index);
	return TRUE;
}
