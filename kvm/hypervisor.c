/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /dev/kvm: what this host's KVM can do, and one virtual machine's descriptor. */
#include "kvm/hypervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm/error.h"

/* Below the APIC page, as far from RAM and the PCI window as any other choice. Needed on
 * Intel hosts, harmless elsewhere (Documentation/virt/kvm/api.rst, 4.36 and 4.41). */
#define TSS_ADDRESS 0xfffbd000ull
#define IDENTITY_MAP_ADDRESS 0xfffbc000ull

static const struct {
	int capability;
	const char *name;
} required[] = {
	{ KVM_CAP_USER_MEMORY, "user memory" },
	{ KVM_CAP_IRQCHIP, "an in-kernel interrupt controller" },
	{ KVM_CAP_PIT2, "an in-kernel timer" },
	{ KVM_CAP_SIGNAL_MSI, "message-signalled interrupts" },
	{ KVM_CAP_IOEVENTFD, "ioeventfd" },
	{ KVM_CAP_EXT_CPUID, "extended CPUID" },
	{ KVM_CAP_GET_MSR_FEATURES, "MSR features" },
	{ KVM_CAP_MP_STATE, "MP state" },
	{ KVM_CAP_VCPU_EVENTS, "vCPU events" },
	{ KVM_CAP_ADJUST_CLOCK, "an adjustable clock" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
	{ KVM_CAP_SREGS2, "special registers with PDPTRs (Linux 5.14)" },
	{ KVM_CAP_XSAVE, "XSAVE state" },
	{ KVM_CAP_DEBUGREGS, "debug registers" },
};

static int capability(int fd, int number)
{
	int value = ioctl(fd, KVM_CHECK_EXTENSION, (gulong)number);

	return value < 0 ? 0 : value;
}

static gboolean open_kvm(struct vmm_hypervisor *hv, GError **error)
{
	int version, run_size;

	hv->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (hv->kvm_fd < 0)
		return vmm_error_errno(error, errno, "open /dev/kvm");
	version = ioctl(hv->kvm_fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION)
		return vmm_error_set(error, VMM_ERROR_HOST,
				     "/dev/kvm has API version %d, not %d", version,
				     KVM_API_VERSION);
	for (guint i = 0; i < G_N_ELEMENTS(required); i++)
		if (!capability(hv->kvm_fd, required[i].capability))
			return vmm_error_set(error, VMM_ERROR_HOST,
					     "this host's KVM lacks %s", required[i].name);
	run_size = ioctl(hv->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (run_size < (int)sizeof(struct kvm_run))
		return vmm_error_errno(error, errno, "size of a vCPU's shared page");
	hv->run_size = (guint)run_size;
	return TRUE;
}

static gboolean create_vm(struct vmm_hypervisor *hv, GError **error)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	guint64 identity = IDENTITY_MAP_ADDRESS;

	/* Work of io_uring for this thread counts as a signal. */
	do {
		hv->vm_fd = ioctl(hv->kvm_fd, KVM_CREATE_VM, 0);
	} while (hv->vm_fd < 0 && errno == EINTR);
	if (hv->vm_fd < 0)
		return vmm_error_errno(error, errno, "create a virtual machine");
	/* Absent where the hardware does not need them. */
	ioctl(hv->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	ioctl(hv->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDRESS);
	if (ioctl(hv->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return vmm_error_errno(error, errno, "create interrupt controllers");
	if (ioctl(hv->vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return vmm_error_errno(error, errno, "create the interval timer");
	return TRUE;
}

static void enable(struct vmm_hypervisor *hv, guint32 number, guint64 arg, gboolean *on)
{
	struct kvm_enable_cap cap = { .cap = number, .args = { arg } };

	*on = capability(hv->vm_fd, (int)number) &&
	      ioctl(hv->vm_fd, KVM_ENABLE_CAP, &cap) == 0;
}

static void ask(struct vmm_hypervisor *hv)
{
	int manual, ring;

	manual = capability(hv->vm_fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	hv->manual_protect = manual & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	ring = capability(hv->vm_fd, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
	if (!ring)
		ring = capability(hv->vm_fd, KVM_CAP_DIRTY_LOG_RING);
	hv->ring_entries = (guint)ring / sizeof(struct kvm_dirty_gfn);
	hv->tsc_deadline = capability(hv->kvm_fd, KVM_CAP_TSC_DEADLINE_TIMER);
	hv->tsc_control = capability(hv->kvm_fd, KVM_CAP_TSC_CONTROL);
	hv->any_length_eventfd = capability(hv->vm_fd, KVM_CAP_IOEVENTFD_ANY_LENGTH);
	hv->xcrs = capability(hv->kvm_fd, KVM_CAP_XCRS);
	hv->xsave_size = MAX((guint)capability(hv->vm_fd, KVM_CAP_XSAVE2),
			     (guint)sizeof(struct kvm_xsave));
	enable(hv, KVM_CAP_EXCEPTION_PAYLOAD, 1, &hv->exception_payload);
	enable(hv, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1, &hv->triple_fault_event);
}

static gboolean list_msrs(struct vmm_hypervisor *hv, GError **error)
{
	g_autofree struct kvm_msr_list *list = NULL;
	struct kvm_msr_list probe = { 0 };

	if (ioctl(hv->kvm_fd, KVM_GET_MSR_INDEX_LIST, &probe) == 0 || errno != E2BIG)
		return vmm_error_set(error, VMM_ERROR_HOST, "KVM names no MSRs to save");
	list = g_malloc0(sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
	list->nmsrs = probe.nmsrs;
	if (ioctl(hv->kvm_fd, KVM_GET_MSR_INDEX_LIST, list) < 0)
		return vmm_error_errno(error, errno, "list the MSRs to save");
	hv->msrs = g_array_new(FALSE, FALSE, sizeof(guint32));
	g_array_append_vals(hv->msrs, list->indices, list->nmsrs);
	return TRUE;
}

gboolean vmm_hypervisor_open(struct vmm_hypervisor *hv, GError **error)
{
	memset(hv, 0, sizeof(*hv));
	hv->kvm_fd = hv->vm_fd = -1;
	if (!open_kvm(hv, error) || !create_vm(hv, error) || !list_msrs(hv, error)) {
		vmm_hypervisor_close(hv);
		return FALSE;
	}
	ask(hv);
	return TRUE;
}

void vmm_hypervisor_close(struct vmm_hypervisor *hv)
{
	g_clear_pointer(&hv->msrs, g_array_unref);
	if (hv->vm_fd >= 0)
		close(hv->vm_fd);
	if (hv->kvm_fd >= 0)
		close(hv->kvm_fd);
	hv->vm_fd = hv->kvm_fd = -1;
}

gboolean vmm_hypervisor_set_memory(struct vmm_hypervisor *hv, const vmm_memory *memory,
				   gboolean log, GError **error)
{
	guint count;
	const struct vmm_bank *banks = vmm_memory_banks(memory, &count);

	for (guint i = 0; i < count; i++) {
		struct kvm_userspace_memory_region region = {
			.slot = i,
			.flags = log ? KVM_MEM_LOG_DIRTY_PAGES : 0,
			.guest_phys_addr = banks[i].gpa,
			.memory_size = banks[i].size,
			.userspace_addr = (guint64)(gulong)banks[i].host,
		};

		if (ioctl(hv->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
			return vmm_error_errno(error, errno, "give memory bank %u to KVM", i);
	}
	return TRUE;
}
