/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's time across saving and loading.
 *
 * The state holds each clock's value and the TAI instant at which it was read; whoever
 * loads it adds the time since. The TSC is set by its offset to the host's counter, the
 * same way for each vCPU with the differences between them kept, so that no vCPU sees
 * another's time go back (Documentation/virt/kvm/devices/vcpu.rst, 4.1, without its error
 * of mixing two hosts' frequencies: what is carried is the guest's value, not an offset).
 */
#include "kvm/clock.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "base/clock.h"
#include "kvm/error.h"

/* KVM itself takes frequencies this close for equal (its tsc_tolerance_ppm). */
#define TSC_TOLERANCE_PPM 250
/* A kvm-clock that the guest computes itself may be ahead of KVM's by rounding. */
#define KVMCLOCK_MARGIN_NS 1000
#define BRACKETS 4

guint64 vmm_clock_pvclock_ns(const struct vmm_pvclock *page, guint64 tsc)
{
	unsigned __int128 delta = tsc >= page->tsc_timestamp ? tsc - page->tsc_timestamp : 0;

	if (page->shift >= 0)
		delta <<= MIN(page->shift, 32);
	else
		delta >>= MIN(-page->shift, 63);
	return page->system_time + (guint64)((delta * page->mul) >> 32);
}

guint64 vmm_clock_ticks(guint64 ns, guint khz)
{
	unsigned __int128 ticks = (unsigned __int128)ns * khz / 1000000u;

	return ticks > G_MAXUINT64 ? G_MAXUINT64 : (guint64)ticks;
}

/* Clamped to what a clock can show. */
static guint64 moved(guint64 ns, gint64 by)
{
	__int128 sum = (__int128)ns + by;

	return (guint64)CLAMP(sum, (__int128)0, (__int128)G_MAXUINT64);
}

guint64 vmm_clock_elapsed(const struct vmm_clock *saved, guint64 tai_ns, gint32 tai_offset_s,
			  const gint64 *peer_ns, guint64 *ahead_ns)
{
	guint64 then = saved->tai_ns;

	/* What was measured holds for whatever the clocks are called. */
	if (peer_ns)
		tai_ns = moved(tai_ns, *peer_ns);
	/* A host that was never told the offset has UTC in its TAI clock. */
	else if (!saved->tai_offset_s && tai_offset_s)
		tai_ns -= (guint64)tai_offset_s * G_GUINT64_CONSTANT(1000000000);
	else if (saved->tai_offset_s && !tai_offset_s)
		then -= (guint64)saved->tai_offset_s * G_GUINT64_CONSTANT(1000000000);
	*ahead_ns = then > tai_ns ? then - tai_ns : 0;
	return tai_ns > then ? tai_ns - then : 0;
}

/* The host's TSC and TAI at one instant: the closest of a few tries. */
static void read_pair(guint64 *host_tsc, guint64 *tai_ns)
{
	guint64 best = G_MAXUINT64;

	for (guint i = 0; i < BRACKETS; i++) {
		guint64 before = __rdtsc();
		guint64 tai = base_clock_tai_ns();
		guint64 after = __rdtsc();

		if (after - before < best) {
			best = after - before;
			*host_tsc = before + (after - before) / 2;
			*tai_ns = tai;
		}
	}
}

/* The host's counter as KVM scales it for the guest, at the instant at which the host's own
 * was `host_tsc`: with a vCPU's offset it is that vCPU's TSC. Equal to `host_tsc` unless
 * the guest runs at another frequency, and then known to within a call's duration; taken
 * once for all vCPUs, so that the error is the same for each. */
static gboolean scaled_base(const vmm_vcpu *vcpu, guint64 host_tsc, guint64 *base)
{
	guint64 offset, tsc, before, after;

	before = __rdtsc();
	if (!vmm_vcpu_get_tsc(vcpu, &tsc))
		return FALSE;
	after = __rdtsc();
	if (!vmm_vcpu_get_tsc_offset(vcpu, &offset))
		return FALSE;
	if (tsc - offset >= before && tsc - offset <= after)
		*base = host_tsc;
	else
		*base = tsc - offset - (before + (after - before) / 2 - host_tsc);
	return TRUE;
}

static gboolean read_tscs(struct vmm_clock *clock, vmm_vcpu *const *vcpus, guint64 host_tsc)
{
	guint64 base = 0, offset;
	gboolean exact = scaled_base(vcpus[0], host_tsc, &base);

	for (guint i = 0; i < clock->cpus; i++) {
		if (exact && vmm_vcpu_get_tsc_offset(vcpus[i], &offset))
			clock->tsc[i] = base + offset;
		else if (!vmm_vcpu_get_tsc(vcpus[i], &clock->tsc[i]))
			return FALSE;
	}
	return TRUE;
}

/* The structure at MSR_KVM_SYSTEM_TIME_NEW's address. */
struct shared_clock {
	guint32 version, pad;
	guint64 tsc_timestamp, system_time;
	guint32 mul;
	gint8 shift;
	guint8 flags, pad2[2];
};
G_STATIC_ASSERT(sizeof(struct shared_clock) == 32);

/* What the guest itself reads from its clock page; 0 where it has none. */
static guint64 read_pvclock(const vmm_vcpu *vcpu, const vmm_memory *memory, guint64 tsc)
{
	const struct shared_clock *shared;
	struct shared_clock page;
	struct vmm_pvclock clock;
	guint64 msr;

	if (!vmm_vcpu_msr(vcpu, MSR_KVM_SYSTEM_TIME_NEW, &msr) || !(msr & 1))
		return 0;
	shared = vmm_memory_at(memory, msr & ~1ull, sizeof(page));
	if (!shared)
		return 0;
	memcpy(&page, shared, sizeof(page));
	/* A page that the guest has written over says nothing. */
	if (page.version & 1 || page.tsc_timestamp > tsc || !page.mul)
		return 0;
	clock = (struct vmm_pvclock){ page.tsc_timestamp, page.system_time, page.mul,
				      page.shift };
	return vmm_clock_pvclock_ns(&clock, tsc);
}

gboolean vmm_clock_capture(struct vmm_clock *clock, struct vmm_hypervisor *hv,
			   vmm_vcpu *const *vcpus, guint n, const vmm_memory *memory,
			   GError **error)
{
	struct kvm_clock_data data = { 0 };
	guint64 host_tsc = 0;

	memset(clock, 0, sizeof(*clock));
	clock->cpus = n;
	clock->tsc_khz = vmm_vcpu_tsc_khz(vcpus[0]);
	clock->tai_offset_s = base_clock_tai_offset_s();
	if (ioctl(hv->vm_fd, KVM_GET_CLOCK, &data) < 0)
		return vmm_error_errno(error, errno, "read kvm-clock");
	/* Read after kvm-clock: the pair's instant is then not before it. */
	read_pair(&host_tsc, &clock->tai_ns);
	clock->kvmclock_ns = data.clock;
	if (data.flags & KVM_CLOCK_HOST_TSC && clock->tsc_khz && host_tsc > data.host_tsc)
		clock->kvmclock_ns += (guint64)((unsigned __int128)(host_tsc - data.host_tsc) *
						1000000u / clock->tsc_khz);
	if (!read_tscs(clock, vcpus, host_tsc))
		return vmm_error_set(error, VMM_ERROR_HOST, "KVM does not read the TSC");
	for (guint i = 0; i < n; i++) {
		guint64 shown;

		shown = read_pvclock(vcpus[i], memory, clock->tsc[i]);
		/* A nonsense page is the guest's own affair, but not its host's. */
		if (shown > clock->kvmclock_ns &&
		    shown - clock->kvmclock_ns < KVMCLOCK_MARGIN_NS * 1000)
			clock->kvmclock_ns = shown;
	}
	return TRUE;
}

static gboolean near(guint a, guint b)
{
	guint64 difference = a > b ? a - b : b - a;

	return difference * 1000000u <= (guint64)a * TSC_TOLERANCE_PPM;
}

static gboolean set_frequency(const struct vmm_clock *saved, vmm_vcpu *const *vcpus, guint n,
			      GError **error)
{
	guint here = vmm_vcpu_tsc_khz(vcpus[0]);

	if (!saved->tsc_khz || saved->tsc_khz == here)
		return TRUE;
	for (guint i = 0; i < n; i++)
		if (!vmm_vcpu_set_tsc_khz(vcpus[i], saved->tsc_khz) &&
		    !near(saved->tsc_khz, here))
			return vmm_error_set(error, VMM_ERROR_STATE,
					     "the guest's TSC runs at %u kHz, this host's at %u "
					     "kHz and cannot be scaled", saved->tsc_khz, here);
	return TRUE;
}

void vmm_clock_start(gboolean settable, vmm_vcpu *const *vcpus, guint n)
{
	guint64 base;

	if (!settable || !scaled_base(vcpus[0], __rdtsc(), &base))
		return;
	for (guint i = 0; i < n; i++)
		if (!vmm_vcpu_set_tsc_offset(vcpus[i], -base))
			return;
}

/* Gives each vCPU its counter, `elapsed_ns` after the saved instant, now being `host_tsc`. */
static void set_tscs(const struct vmm_clock *saved, vmm_vcpu *const *vcpus,
		     guint64 elapsed_ns, guint64 host_tsc)
{
	guint64 ticks = vmm_clock_ticks(elapsed_ns, saved->tsc_khz);
	guint64 base;

	if (!scaled_base(vcpus[0], host_tsc, &base))
		return;
	for (guint i = 0; i < saved->cpus; i++)
		if (!vmm_vcpu_set_tsc_offset(vcpus[i], saved->tsc[i] + ticks - base))
			return;
}

gboolean vmm_clock_restore(const struct vmm_clock *saved, const struct vmm_clock_how *how,
			   struct vmm_hypervisor *hv,
			   vmm_vcpu *const *vcpus, guint n, guint64 *tsc_shift,
			   GError **error)
{
	struct kvm_clock_data data = { 0 };
	guint64 host_tsc = 0, tai_ns = 0, ahead_ns = 0, elapsed_ns = 0, tsc;
	guint left_out;

	g_assert(saved->cpus == n);
	if (!set_frequency(saved, vcpus, n, error))
		return FALSE;
	read_pair(&host_tsc, &tai_ns);
	if (how->policy == VMM_CLOCK_ADVANCE)
		elapsed_ns = vmm_clock_elapsed(saved, tai_ns, base_clock_tai_offset_s(),
					       how->peer_ns, &ahead_ns);
	if (ahead_ns && base_ratelimit_pass(how->complaints, &left_out))
		g_warning("clock: the state was saved %.3f ms in this host's future: the "
			  "guest's time goes on from where it was",
			  (double)ahead_ns / 1e6);
	/* Where the guest's TSC is the host's whatever it is set to, KVM must not believe
	 * otherwise: it works kvm-clock out from that, and vCPUs would see it differ. */
	*tsc_shift = 0;
	if (how->settable)
		set_tscs(saved, vcpus, elapsed_ns, host_tsc);
	else if (vmm_vcpu_get_tsc(vcpus[0], &tsc))
		*tsc_shift = tsc - (saved->tsc[0] +
				    vmm_clock_ticks(elapsed_ns, saved->tsc_khz));
	data.clock = saved->kvmclock_ns + elapsed_ns + KVMCLOCK_MARGIN_NS;
	if (ioctl(hv->vm_fd, KVM_SET_CLOCK, &data) < 0)
		return vmm_error_errno(error, errno, "set kvm-clock");
	return TRUE;
}

gboolean vmm_clock_probe_tsc(vmm_vcpu *vcpu)
{
	const guint64 step = 1ull << 40;
	guint64 before, after, offset, got;
	gboolean works;

	if (!vmm_vcpu_get_tsc_offset(vcpu, &offset) || !vmm_vcpu_get_tsc(vcpu, &before))
		return FALSE;
	works = vmm_vcpu_set_tsc_offset(vcpu, offset + step) &&
		vmm_vcpu_get_tsc_offset(vcpu, &got) && got == offset + step &&
		vmm_vcpu_get_tsc(vcpu, &after) && after - before >= step &&
		after - before < step + (1ull << 36);
	vmm_vcpu_set_tsc_offset(vcpu, offset);
	return works;
}

struct saved_clock {
	wire_u64 tai_ns;
	wire_u64 kvmclock_ns;
	wire_u32 tai_offset_s; /* two's complement */
	wire_u32 tsc_khz;
	wire_u32 cpus, pad;
	wire_u64 tsc[VMM_CPUS_MAX];
};
static const struct vmm_state_field saved_fields[] = {
	VMM_STATE_FIELD(struct saved_clock, tai_ns),
	VMM_STATE_FIELD(struct saved_clock, kvmclock_ns),
	VMM_STATE_FIELD(struct saved_clock, tai_offset_s),
	VMM_STATE_FIELD(struct saved_clock, tsc_khz),
	VMM_STATE_FIELD(struct saved_clock, cpus),
	VMM_STATE_FIELD(struct saved_clock, tsc),
	{ 0 },
};

void vmm_clock_save(const struct vmm_clock *clock, vmm_state *state)
{
	struct saved_clock saved = { 0 };

	saved.tai_ns = wire_put64(clock->tai_ns);
	saved.kvmclock_ns = wire_put64(clock->kvmclock_ns);
	saved.tai_offset_s = wire_put32((guint32)clock->tai_offset_s);
	saved.tsc_khz = wire_put32(clock->tsc_khz);
	saved.cpus = wire_put32(clock->cpus);
	for (guint i = 0; i < clock->cpus; i++)
		saved.tsc[i] = wire_put64(clock->tsc[i]);
	vmm_state_put(state, "clock", 0, 1, &saved, sizeof(saved), saved_fields);
}

gboolean vmm_clock_load(struct vmm_clock *clock, const vmm_state *state, GError **error)
{
	const struct saved_clock *saved =
		vmm_state_get(state, "clock", 0, 1, sizeof(*saved), sizeof(*saved), NULL, error);

	if (!saved)
		return FALSE;
	memset(clock, 0, sizeof(*clock));
	clock->tai_ns = wire_get64(saved->tai_ns);
	clock->kvmclock_ns = wire_get64(saved->kvmclock_ns);
	clock->tai_offset_s = (gint32)wire_get32(saved->tai_offset_s);
	clock->tsc_khz = wire_get32(saved->tsc_khz);
	clock->cpus = wire_get32(saved->cpus);
	if (clock->cpus > VMM_CPUS_MAX)
		return vmm_error_set(error, VMM_ERROR_STATE, "saved clock.0 has %u vCPUs",
				     clock->cpus);
	for (guint i = 0; i < clock->cpus; i++)
		clock->tsc[i] = wire_get64(saved->tsc[i]);
	return TRUE;
}
