/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One virtual processor: creating and running it. Its state is in kvm/vcpu_state.c. */
#include "kvm/vcpu_private.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm/error.h"

vmm_vcpu *vmm_vcpu_new(struct vmm_hypervisor *hv, guint id, GError **error)
{
	vmm_vcpu *vcpu = g_new0(vmm_vcpu, 1);

	vcpu->hv = hv;
	vcpu->id = id;
	vcpu->fd = ioctl(hv->vm_fd, KVM_CREATE_VCPU, (gulong)id);
	vcpu->run = MAP_FAILED;
	if (vcpu->fd < 0) {
		vmm_error_errno(error, errno, "create vCPU %u", id);
		goto out;
	}
	vcpu->run = mmap(NULL, hv->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vmm_error_errno(error, errno, "map the shared page of vCPU %u", id);
		goto out;
	}
	return vcpu;
out:
	vmm_vcpu_free(vcpu);
	return NULL;
}

gboolean vmm_vcpu_set_cpuid(vmm_vcpu *vcpu, const vmm_cpuid *cpuid, GError **error)
{
	if (!vmm_cpuid_set(cpuid, vcpu->fd, vcpu->id, error))
		return FALSE;
	vmm_vcpu_state_init(vcpu);
	return vmm_vcpu_capture(vcpu, error);
}

void vmm_vcpu_free(vmm_vcpu *vcpu)
{
	if (!vcpu)
		return;
	if (vcpu->run != MAP_FAILED)
		munmap(vcpu->run, vcpu->hv->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	vmm_vcpu_state_clear(vcpu);
	g_free(vcpu->failure);
	g_free(vcpu);
}

guint vmm_vcpu_id(const vmm_vcpu *vcpu)
{
	return vcpu->id;
}

int vmm_vcpu_fd(const vmm_vcpu *vcpu)
{
	return vcpu->fd;
}

const char *vmm_vcpu_failure(const vmm_vcpu *vcpu)
{
	return vcpu->failure;
}

/* A string instruction hands over several items at once. */
static void handle_port(vmm_vcpu *vcpu, const struct vmm_platform *platform)
{
	struct kvm_run *run = vcpu->run;
	guint8 *data = (guint8 *)run + run->io.data_offset;
	guint len = run->io.size;

	vmm_loop_lock(platform->loop);
	for (guint i = 0; i < run->io.count; i++, data += len) {
		guint64 value = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, len);
			vmm_bus_write(platform->pio, run->io.port, value, len);
		} else {
			vmm_bus_read(platform->pio, run->io.port, &value, len);
			memcpy(data, &value, len);
		}
	}
	vmm_loop_unlock(platform->loop);
}

static void handle_mmio(vmm_vcpu *vcpu, const struct vmm_platform *platform)
{
	struct kvm_run *run = vcpu->run;
	guint len = MIN(run->mmio.len, 8u);
	guint64 value = 0;

	vmm_loop_lock(platform->loop);
	if (run->mmio.is_write) {
		memcpy(&value, run->mmio.data, len);
		vmm_bus_write(platform->mmio, run->mmio.phys_addr, value, len);
	} else {
		vmm_bus_read(platform->mmio, run->mmio.phys_addr, &value, len);
		memcpy(run->mmio.data, &value, len);
	}
	vmm_loop_unlock(platform->loop);
}

static enum vmm_exit fail(vmm_vcpu *vcpu, const char *format, ...) G_GNUC_PRINTF(2, 3);
static enum vmm_exit fail(vmm_vcpu *vcpu, const char *format, ...)
{
	g_autofree char *what = NULL;
	struct kvm_regs regs = { 0 };
	va_list args;

	va_start(args, format);
	what = g_strdup_vprintf(format, args);
	va_end(args);
	ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	g_free(vcpu->failure);
	vcpu->failure = g_strdup_printf("vCPU %u: %s at rip %#" G_GINT64_MODIFIER "x",
					vcpu->id, what, (guint64)regs.rip);
	return VMM_EXIT_FAILED;
}

static enum vmm_exit fail_internal(vmm_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		return fail(vcpu, "KVM cannot emulate an instruction of the guest");
	return fail(vcpu, "KVM internal error %u", run->internal.suberror);
}

enum vmm_exit vmm_vcpu_run(vmm_vcpu *vcpu, const struct vmm_platform *platform)
{
	struct kvm_run *run = vcpu->run;

	if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
		if (errno == EINTR || errno == EAGAIN)
			return VMM_EXIT_INTERRUPTED;
		return fail(vcpu, "KVM_RUN: %s", g_strerror(errno));
	}
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_port(vcpu, platform);
		return VMM_EXIT_DONE;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu, platform);
		return VMM_EXIT_DONE;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return VMM_EXIT_DONE;
	case KVM_EXIT_DIRTY_RING_FULL:
		return VMM_EXIT_RING_FULL;
	case KVM_EXIT_SHUTDOWN:
		return VMM_EXIT_RESET;
	case KVM_EXIT_FAIL_ENTRY:
		return fail(vcpu, "KVM failed to enter the guest (hardware reason %#llx)",
			    run->fail_entry.hardware_entry_failure_reason);
	case KVM_EXIT_INTERNAL_ERROR:
		return fail_internal(vcpu);
	default:
		return fail(vcpu, "unexpected exit %u", run->exit_reason);
	}
}

void vmm_vcpu_interrupt(vmm_vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

void vmm_vcpu_clear_interrupt(vmm_vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
}

void vmm_vcpu_tell_stopped(vmm_vcpu *vcpu)
{
	/* EINVAL: this guest uses no kvm-clock. */
	if (ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0) < 0 && errno != EINVAL)
		g_debug("vCPU %u: tell of the stop: %s", vcpu->id, g_strerror(errno));
}
