/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vCPU's complete state: reading it from KVM, giving it back, saving and loading.
 *
 * The orders matter (Documentation/virt/kvm/api.rst; and what others learned):
 * reading starts with the MP state, which lets KVM process a pending INIT or SIPI, and ends
 * with the events; giving back sets the local APIC before the MSRs, since a TSC deadline
 * is dropped while the timer is not in deadline mode, and the deadline after the TSC.
 */
#include "kvm/vcpu_private.h"

#include <asm/kvm_para.h>
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm/error.h"

#define MSR_TSC 0x10u
#define MSR_SYSENTER_ESP 0x175u
#define MSR_SYSENTER_EIP 0x176u
#define MSR_TSC_DEADLINE 0x6e0u
/* Intel SDM vol. 3A, 11.5: offsets in the APIC page, bits of the timer's LVT entry. */
/* Worked out by KVM from two others when it needs it, and when it is given a state: what it
 * hands out may be old. */
#define LAPIC_PRIORITY 0xa0
#define LAPIC_REQUESTS 0x200
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_INITIAL_COUNT 0x380
#define LAPIC_CURRENT_COUNT 0x390
#define LVT_MASKED (1u << 16)
#define TIMER_MODE (3u << 17)
#define TIMER_MODE_ONE_SHOT (0u << 17)
#define TIMER_MODE_DEADLINE (2u << 17)

/* Ranges that are never saved, mostly since their features are kept from the guest. */
static const struct {
	guint32 first, last;
} skipped_msrs[] = {
	{ MSR_TSC, MSR_TSC }, /* travels as time, see kvm/clock.h */
	{ 0x8b, 0x8b }, /* microcode revision: the host's */
	/* Setting them makes KVM write the time into the guest's memory, once: an order, not
	 * a state. */
	{ MSR_KVM_WALL_CLOCK, MSR_KVM_WALL_CLOCK },
	{ MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_WALL_CLOCK_NEW },
	{ 0xc1, 0xc8 }, /* performance counters, their events and control */
	{ 0x186, 0x18d },
	{ 0x309, 0x30b },
	{ 0x345, 0x345 },
	{ 0x38d, 0x390 },
	{ 0x4c1, 0x4c8 },
	{ 0x480, 0x4af }, /* VMX */
	{ 0x560, 0x58f }, /* processor trace */
	{ 0x40000000, 0x400001ff }, /* Hyper-V */
	{ 0xc0010000, 0xc0010007 }, /* AMD performance counters */
	{ 0xc0010114, 0xc0010117 }, /* SVM */
	{ 0xc0010200, 0xc001020b },
	{ 0xc0000300, 0xc0000302 },
	{ MSR_KVM_ASYNC_PF_EN, MSR_KVM_ASYNC_PF_EN },
	{ MSR_KVM_ASYNC_PF_INT, MSR_KVM_ASYNC_PF_ACK },
	{ MSR_KVM_STEAL_TIME, MSR_KVM_STEAL_TIME },
	{ MSR_KVM_MIGRATION_CONTROL, MSR_KVM_MIGRATION_CONTROL },
};

/* Saved although KVM_GET_MSR_INDEX_LIST does not name them: memory types. */
static const struct {
	guint32 first, last;
} extra_msrs[] = {
	{ 0x200, 0x20f }, { 0x250, 0x250 }, { 0x258, 0x259 }, { 0x268, 0x26f },
	{ 0x2ff, 0x2ff },
};

static gboolean is_skipped(guint32 index)
{
	for (guint i = 0; i < G_N_ELEMENTS(skipped_msrs); i++)
		if (index >= skipped_msrs[i].first && index <= skipped_msrs[i].last)
			return TRUE;
	return FALSE;
}

static gboolean get_msr(int fd, guint32 index, guint64 *value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { .head.nmsrs = 1, .entry.index = index };

	if (ioctl(fd, KVM_GET_MSRS, &one) != 1)
		return FALSE;
	*value = one.entry.data;
	return TRUE;
}

static gboolean set_msr(int fd, guint32 index, guint64 value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };

	return ioctl(fd, KVM_SET_MSRS, &one) == 1;
}

static struct kvm_msr_entry *find_msr(const vmm_vcpu *vcpu, guint32 index)
{
	for (guint i = 0; i < vcpu->copy.msrs.head.nmsrs; i++)
		if (vcpu->copy.msrs.entries[i].index == index)
			return (struct kvm_msr_entry *)&vcpu->copy.msrs.entries[i];
	return NULL;
}

static void add_msr(vmm_vcpu *vcpu, guint32 index)
{
	guint64 value;
	guint32 *n = &vcpu->copy.msrs.head.nmsrs;

	if (*n < VMM_MSRS_MAX && !is_skipped(index) && !find_msr(vcpu, index) &&
	    get_msr(vcpu->fd, index, &value))
		vcpu->copy.msrs.entries[(*n)++].index = index;
}

void vmm_vcpu_state_init(vmm_vcpu *vcpu)
{
	vcpu->copy.xsave = g_malloc0(vcpu->hv->xsave_size);
	for (guint i = 0; i < vcpu->hv->msrs->len; i++)
		if (g_array_index(vcpu->hv->msrs, guint32, i) != MSR_TSC_DEADLINE)
			add_msr(vcpu, g_array_index(vcpu->hv->msrs, guint32, i));
	for (guint i = 0; i < G_N_ELEMENTS(extra_msrs); i++)
		for (guint32 msr = extra_msrs[i].first; msr <= extra_msrs[i].last; msr++)
			add_msr(vcpu, msr);
	/* The last, so that all the others can be given back in one call. */
	if (vcpu->hv->tsc_deadline)
		add_msr(vcpu, MSR_TSC_DEADLINE);
}

void vmm_vcpu_state_clear(vmm_vcpu *vcpu)
{
	g_free(vcpu->copy.xsave);
}

struct kvm_regs *vmm_vcpu_regs(vmm_vcpu *vcpu)
{
	return &vcpu->copy.regs;
}

struct kvm_sregs2 *vmm_vcpu_sregs(vmm_vcpu *vcpu)
{
	return &vcpu->copy.sregs;
}

gboolean vmm_vcpu_msr(const vmm_vcpu *vcpu, guint32 index, guint64 *value)
{
	const struct kvm_msr_entry *entry = find_msr(vcpu, index);

	if (entry)
		*value = entry->data;
	return entry != NULL;
}

gboolean vmm_vcpu_set_msr(vmm_vcpu *vcpu, guint32 index, guint64 value)
{
	struct kvm_msr_entry *entry = find_msr(vcpu, index);

	if (entry)
		entry->data = value;
	return entry != NULL;
}

static gboolean call(const vmm_vcpu *vcpu, gulong request, const void *arg, const char *what,
		     GError **error)
{
	if (ioctl(vcpu->fd, request, arg) >= 0)
		return TRUE;
	return vmm_error_errno(error, errno, "vCPU %u: %s", vcpu->id, what);
}

static gulong xsave_request(const vmm_vcpu *vcpu)
{
	return vcpu->hv->xsave_size > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 :
								 KVM_GET_XSAVE;
}

static gboolean capture_msrs(vmm_vcpu *vcpu, GError **error)
{
	guint32 n = vcpu->copy.msrs.head.nmsrs;
	int got = ioctl(vcpu->fd, KVM_GET_MSRS, &vcpu->copy.msrs);

	if (got == (int)n)
		return TRUE;
	if (got < 0)
		return vmm_error_errno(error, errno, "vCPU %u: read MSRs", vcpu->id);
	return vmm_error_set(error, VMM_ERROR_HOST, "vCPU %u: KVM no longer reads MSR %#x",
			     vcpu->id, vcpu->copy.msrs.entries[got].index);
}

static guint32 lapic_reg(const struct kvm_lapic_state *lapic, guint offset)
{
	guint32 value;

	memcpy(&value, lapic->regs + offset, sizeof(value));
	return value;
}

/* A timer that fired has deadline or count 0 although its interrupt may not have reached
 * the APIC's registers yet: such a one is made to fire again. An interrupt too many is
 * harmless, one too few stops a guest for good. */
static void mend_timer(vmm_vcpu *vcpu)
{
	static const guint32 one = 1;
	struct kvm_lapic_state *lapic = &vcpu->copy.lapic;
	struct kvm_msr_entry *deadline = find_msr(vcpu, MSR_TSC_DEADLINE);
	guint32 lvt = lapic_reg(lapic, LAPIC_LVT_TIMER);

	if (lvt & LVT_MASKED)
		return;
	switch (lvt & TIMER_MODE) {
	case TIMER_MODE_DEADLINE:
		if (deadline && !deadline->data)
			deadline->data = 1;
		break;
	case TIMER_MODE_ONE_SHOT:
		if (lapic_reg(lapic, LAPIC_INITIAL_COUNT) &&
		    !lapic_reg(lapic, LAPIC_CURRENT_COUNT))
			memcpy(lapic->regs + LAPIC_CURRENT_COUNT, &one, sizeof(one));
		break;
	}
}

gboolean vmm_vcpu_capture(vmm_vcpu *vcpu, GError **error)
{
	struct vmm_vcpu_copy *copy = &vcpu->copy;
	gboolean ok;

	ok = call(vcpu, KVM_GET_MP_STATE, &copy->mp, "read MP state", error) &&
	     call(vcpu, KVM_GET_REGS, &copy->regs, "read registers", error) &&
	     call(vcpu, KVM_GET_SREGS2, &copy->sregs, "read special registers", error) &&
	     call(vcpu, xsave_request(vcpu), copy->xsave, "read XSAVE state", error) &&
	     (!vcpu->hv->xcrs ||
	      call(vcpu, KVM_GET_XCRS, &copy->xcrs, "read XCRs", error)) &&
	     call(vcpu, KVM_GET_DEBUGREGS, &copy->debug, "read debug registers", error) &&
	     call(vcpu, KVM_GET_LAPIC, &copy->lapic, "read local APIC", error) &&
	     capture_msrs(vcpu, error) &&
	     call(vcpu, KVM_GET_VCPU_EVENTS, &copy->events, "read events", error);
	if (ok)
		mend_timer(vcpu);
	return ok;
}

/* KVM takes MSRs one after the other up to the first that it refuses; one that has the
 * wanted value already is no harm. */
static gboolean restore_msrs(vmm_vcpu *vcpu, GError **error)
{
	const struct kvm_msr_entry *entries = vcpu->copy.msrs.entries;
	g_autofree struct kvm_msrs *batch =
		g_malloc0(sizeof(*batch) + VMM_MSRS_MAX * sizeof(*entries));
	guint n = vcpu->copy.msrs.head.nmsrs;

	if (n && entries[n - 1].index == MSR_TSC_DEADLINE)
		n--;
	for (guint done = 0; done < n; done++) {
		guint64 now;
		int took;

		batch->nmsrs = n - done;
		memcpy(batch->entries, entries + done, (n - done) * sizeof(*entries));
		took = ioctl(vcpu->fd, KVM_SET_MSRS, batch);
		if (took < 0)
			return vmm_error_errno(error, errno, "vCPU %u: set MSRs", vcpu->id);
		done += (guint)took;
		if (done < n && (!get_msr(vcpu->fd, entries[done].index, &now) ||
				 now != entries[done].data))
			return vmm_error_set(error, VMM_ERROR_STATE,
					     "vCPU %u: KVM refuses %#" G_GINT64_MODIFIER
					     "x for MSR %#x", vcpu->id,
					     (guint64)entries[done].data,
					     entries[done].index);
	}
	return TRUE;
}

gboolean vmm_vcpu_restore(vmm_vcpu *vcpu, GError **error)
{
	const struct vmm_vcpu_copy *copy = &vcpu->copy;

	return call(vcpu, KVM_SET_MP_STATE, &copy->mp, "set MP state", error) &&
	       call(vcpu, KVM_SET_REGS, &copy->regs, "set registers", error) &&
	       call(vcpu, KVM_SET_SREGS2, &copy->sregs, "set special registers", error) &&
	       (!vcpu->hv->xcrs || call(vcpu, KVM_SET_XCRS, &copy->xcrs, "set XCRs", error)) &&
	       call(vcpu, KVM_SET_XSAVE, copy->xsave, "set XSAVE state", error) &&
	       call(vcpu, KVM_SET_DEBUGREGS, &copy->debug, "set debug registers", error) &&
	       call(vcpu, KVM_SET_LAPIC, &copy->lapic, "set local APIC", error) &&
	       restore_msrs(vcpu, error) &&
	       call(vcpu, KVM_SET_VCPU_EVENTS, &copy->events, "set events", error);
}

gboolean vmm_vcpu_restore_deadline(vmm_vcpu *vcpu, guint64 tsc_shift, GError **error)
{
	const struct kvm_msr_entry *deadline = find_msr(vcpu, MSR_TSC_DEADLINE);
	guint64 value = deadline ? deadline->data : 0;

	/* 0 is no deadline, 1 one that has passed whatever the counter says. */
	if (value > 1)
		value = MAX(value + tsc_shift, 1);
	if (!deadline || set_msr(vcpu->fd, MSR_TSC_DEADLINE, value))
		return TRUE;
	return vmm_error_set(error, VMM_ERROR_STATE, "vCPU %u: KVM refuses a TSC deadline",
			     vcpu->id);
}

#define FIELD(type, member) VMM_STATE_FIELD(struct type, member)
static const struct vmm_state_field regs_fields[] = {
	FIELD(kvm_regs, rax), FIELD(kvm_regs, rbx), FIELD(kvm_regs, rcx), FIELD(kvm_regs, rdx),
	FIELD(kvm_regs, rsi), FIELD(kvm_regs, rdi), FIELD(kvm_regs, rsp), FIELD(kvm_regs, rbp),
	FIELD(kvm_regs, r8),  FIELD(kvm_regs, r9),  FIELD(kvm_regs, r10), FIELD(kvm_regs, r11),
	FIELD(kvm_regs, r12), FIELD(kvm_regs, r13), FIELD(kvm_regs, r14), FIELD(kvm_regs, r15),
	FIELD(kvm_regs, rip), FIELD(kvm_regs, rflags), { 0 },
};
static const struct vmm_state_field sregs_fields[] = {
	FIELD(kvm_sregs2, cs),	FIELD(kvm_sregs2, ds),	  FIELD(kvm_sregs2, es),
	FIELD(kvm_sregs2, fs),	FIELD(kvm_sregs2, gs),	  FIELD(kvm_sregs2, ss),
	FIELD(kvm_sregs2, tr),	FIELD(kvm_sregs2, ldt),	  FIELD(kvm_sregs2, gdt),
	FIELD(kvm_sregs2, idt), FIELD(kvm_sregs2, cr0),	  FIELD(kvm_sregs2, cr2),
	FIELD(kvm_sregs2, cr3), FIELD(kvm_sregs2, cr4),	  FIELD(kvm_sregs2, cr8),
	FIELD(kvm_sregs2, efer), FIELD(kvm_sregs2, apic_base), FIELD(kvm_sregs2, flags),
	FIELD(kvm_sregs2, pdptrs), { 0 },
};
static const struct vmm_state_field events_fields[] = {
	FIELD(kvm_vcpu_events, exception), FIELD(kvm_vcpu_events, interrupt),
	FIELD(kvm_vcpu_events, nmi),	   FIELD(kvm_vcpu_events, sipi_vector),
	FIELD(kvm_vcpu_events, flags),	   FIELD(kvm_vcpu_events, smi),
	FIELD(kvm_vcpu_events, triple_fault), { 0 },
};
#undef FIELD

/* The parts of fixed size. XSAVE and the MSRs depend on the host and come after. */
static const struct part {
	const char *name;
	gsize offset, size; /* in the copy */
	const struct vmm_state_field *fields;
} parts[] = {
#define PART(name, member, fields)                                                       \
	{ name, G_STRUCT_OFFSET(struct vmm_vcpu_copy, member),                           \
	  sizeof(((struct vmm_vcpu_copy *)0)->member), fields }
	PART("vcpu-mp", mp, NULL),	    PART("vcpu-regs", regs, regs_fields),
	PART("vcpu-sregs", sregs, sregs_fields), PART("vcpu-xcrs", xcrs, NULL),
	PART("vcpu-debug", debug, NULL),    PART("vcpu-lapic", lapic, NULL),
	PART("vcpu-events", events, events_fields),
#undef PART
};

struct saved_msr {
	wire_u32 index, pad;
	wire_u64 value;
};

void vmm_vcpu_save(const vmm_vcpu *vcpu, vmm_state *state)
{
	const guint8 *copy = (const guint8 *)&vcpu->copy;
	struct saved_msr msrs[VMM_MSRS_MAX] = { 0 };
	guint n = vcpu->copy.msrs.head.nmsrs;

	for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
		vmm_state_put(state, parts[i].name, vcpu->id, 1, copy + parts[i].offset,
			      parts[i].size, parts[i].fields);
	vmm_state_put(state, "vcpu-xsave", vcpu->id, 1, vcpu->copy.xsave,
		      vcpu->hv->xsave_size, NULL);
	for (guint i = 0; i < n; i++) {
		msrs[i].index = wire_put32(vcpu->copy.msrs.entries[i].index);
		msrs[i].value = wire_put64(vcpu->copy.msrs.entries[i].data);
	}
	vmm_state_put(state, "vcpu-msrs", vcpu->id, 1, msrs, n * sizeof(msrs[0]), NULL);
}

static gboolean load_msrs(vmm_vcpu *vcpu, const vmm_state *state, enum vmm_load pass,
			  GError **error)
{
	gsize len;
	const struct saved_msr *saved =
		vmm_state_get(state, "vcpu-msrs", vcpu->id, 1, 0,
			      VMM_MSRS_MAX * sizeof(*saved), &len, error);

	if (!saved)
		return FALSE;
	if (len % sizeof(*saved))
		return vmm_error_set(error, VMM_ERROR_STATE, "saved vcpu-msrs.%u: odd length",
				     vcpu->id);
	/* What the saved state does not have keeps the value that it has here. */
	for (gsize i = 0; i < len / sizeof(*saved); i++) {
		guint32 index = wire_get32(saved[i].index);
		guint64 value = wire_get64(saved[i].value);
		struct kvm_msr_entry *entry = find_msr(vcpu, index);

		if (!entry && value)
			return vmm_error_set(error, VMM_ERROR_STATE,
					     "saved vcpu-msrs.%u: this host cannot set MSR %#x",
					     vcpu->id, index);
		if (entry && pass == VMM_LOAD_APPLY)
			entry->data = value;
	}
	return TRUE;
}

gboolean vmm_vcpu_load(vmm_vcpu *vcpu, const vmm_state *state, enum vmm_load pass,
		       GError **error)
{
	guint8 *copy = (guint8 *)&vcpu->copy;
	const void *saved;

	for (guint i = 0; i < G_N_ELEMENTS(parts); i++) {
		saved = vmm_state_get(state, parts[i].name, vcpu->id, 1, parts[i].size,
				      parts[i].size, NULL, error);
		if (!saved)
			return FALSE;
		if (pass == VMM_LOAD_APPLY)
			memcpy(copy + parts[i].offset, saved, parts[i].size);
	}
	saved = vmm_state_get(state, "vcpu-xsave", vcpu->id, 1, vcpu->hv->xsave_size,
			      vcpu->hv->xsave_size, NULL, error);
	if (!saved)
		return FALSE;
	if (pass == VMM_LOAD_APPLY)
		memcpy(vcpu->copy.xsave, saved, vcpu->hv->xsave_size);
	return load_msrs(vcpu, state, pass, error);
}

/* Where the timer's interrupt is noted. */
static gsize timer_request_byte(const guint8 *lapic)
{
	guint vector = lapic[LAPIC_LVT_TIMER];

	return LAPIC_REQUESTS + vector / 32 * 16 + vector % 32 / 8;
}

/* KVM on SVM hosts hands out 64 bits of SYSENTER's addresses and takes back 32, except for
 * guests with an Intel CPU: others have no SYSENTER in long mode, and use 32 elsewhere
 * (arch/x86/kvm/svm/svm.c, svm_set_msr()). */
static gboolean is_lost_half(guint32 index, gsize at)
{
	guint eax, ebx = 0, ecx, edx;

	if ((index != MSR_SYSENTER_ESP && index != MSR_SYSENTER_EIP) ||
	    at % sizeof(struct saved_msr) < G_STRUCT_OFFSET(struct saved_msr, value) + 4)
		return FALSE;
	return __get_cpuid(0, &eax, &ebx, &ecx, &edx) && ebx != signature_INTEL_ebx;
}

gboolean vmm_vcpu_judge_difference(const char *section, const guint8 *payload, gsize at,
				   char **name)
{
	struct saved_msr msr;

	if (!strcmp(section, "vcpu-lapic")) {
		gsize reg = at & ~(gsize)15;

		*name = g_strdup_printf("register %#zx", reg);
		return reg != LAPIC_PRIORITY && reg != LAPIC_CURRENT_COUNT &&
		       at != timer_request_byte(payload);
	}
	if (!strcmp(section, "vcpu-msrs")) {
		memcpy(&msr, payload + (at & ~(gsize)15), sizeof(msr));
		*name = g_strdup_printf("MSR %#x", wire_get32(msr.index));
		return wire_get32(msr.index) != MSR_TSC_DEADLINE &&
		       !is_lost_half(wire_get32(msr.index), at);
	}
	return TRUE;
}

static gboolean tsc_attribute(const vmm_vcpu *vcpu, gulong request, guint64 *offset)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (guint64)(gulong)offset,
	};

	return ioctl(vcpu->fd, request, &attr) == 0;
}

gboolean vmm_vcpu_get_tsc_offset(const vmm_vcpu *vcpu, guint64 *offset)
{
	return tsc_attribute(vcpu, KVM_GET_DEVICE_ATTR, offset);
}

gboolean vmm_vcpu_set_tsc_offset(vmm_vcpu *vcpu, guint64 offset)
{
	return tsc_attribute(vcpu, KVM_SET_DEVICE_ATTR, &offset);
}

gboolean vmm_vcpu_get_tsc(const vmm_vcpu *vcpu, guint64 *tsc)
{
	return get_msr(vcpu->fd, MSR_TSC, tsc);
}

guint vmm_vcpu_tsc_khz(const vmm_vcpu *vcpu)
{
	int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	return khz < 0 ? 0 : (guint)khz;
}

gboolean vmm_vcpu_set_tsc_khz(vmm_vcpu *vcpu, guint khz)
{
	return ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (gulong)khz) == 0;
}
