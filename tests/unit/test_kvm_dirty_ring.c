/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The dirty ring when signals come while KVM protects pages again. No guest runs: entries
 * are put into the ring as KVM does it. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm/dirty.h"

#define SKIPPED 77
#define MEMORY (256ull << 20)
#define PAGES (MEMORY / VMM_PAGE)
#define ROUNDS 20

struct rig {
	struct vmm_hypervisor hv;
	vmm_memory *memory;
	vmm_dirty *dirty;
	vmm_loop *loop; /* never started: for its lock */
	int vcpu;
	struct kvm_dirty_gfn *entries;
	guint32 size, next;
	GArray *pages;
};

static volatile sig_atomic_t signals;

static void on_alarm(int number)
{
	signals++;
}

static struct rig *make(void)
{
	struct rig *rig = g_new0(struct rig, 1);
	g_autoptr(GError) error = NULL;

	rig->loop = vmm_loop_new(&error);
	assert_non_null(rig->loop);
	assert_true(vmm_hypervisor_open(&rig->hv, &error));
	rig->memory = vmm_memory_new(MEMORY, &error);
	assert_non_null(rig->memory);
	rig->pages = g_array_new(FALSE, FALSE, sizeof(guint32));
	if (!rig->hv.ring_entries)
		return rig;
	rig->dirty = vmm_dirty_new(&rig->hv, rig->memory, VMM_DIRTY_RING, &error);
	assert_non_null(rig->dirty);
	rig->vcpu = ioctl(rig->hv.vm_fd, KVM_CREATE_VCPU, 0ul);
	assert_true(rig->vcpu >= 0);
	assert_true(vmm_dirty_add_vcpu(rig->dirty, 0, rig->vcpu, &error));
	assert_true(vmm_hypervisor_set_memory(&rig->hv, rig->memory, FALSE, &error));
	assert_true(vmm_dirty_start(rig->dirty, rig->loop, &error));
	rig->size = MIN(rig->hv.ring_entries, 65536u);
	rig->entries = mmap(NULL, rig->size * sizeof(*rig->entries), PROT_READ | PROT_WRITE,
			    MAP_SHARED, rig->vcpu,
			    (off_t)KVM_DIRTY_LOG_PAGE_OFFSET * sysconf(_SC_PAGESIZE));
	assert_true(rig->entries != MAP_FAILED);
	return rig;
}

static void unmake(struct rig *rig)
{
	if (rig->entries) {
		munmap(rig->entries, rig->size * sizeof(*rig->entries));
		close(rig->vcpu);
	}
	vmm_dirty_free(rig->dirty);
	vmm_loop_free(rig->loop);
	vmm_hypervisor_close(&rig->hv);
	vmm_memory_free(rig->memory);
	g_array_unref(rig->pages);
	g_free(rig);
}

static void fill(struct rig *rig)
{
	for (guint32 i = 0; i < rig->size; i++, rig->next++) {
		struct kvm_dirty_gfn *entry = &rig->entries[rig->next % rig->size];

		entry->slot = 0;
		/* Far apart, so that KVM does not take many at once. */
		entry->offset = (guint64)i * 127 % PAGES;
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_DIRTY, __ATOMIC_RELEASE);
	}
}

static void signal_every_us(glong us)
{
	struct itimerval timer = { { 0, us }, { 0, us } };

	setitimer(ITIMER_REAL, &timer, NULL);
}

/* What KVM has not protected again although it was taken. */
static int left_over(const struct rig *rig)
{
	return ioctl(rig->hv.vm_fd, KVM_RESET_DIRTY_RINGS, 0);
}

static void collecting_leaves_no_page_unprotected_when_signals_come(void **state)
{
	struct rig *rig = *state;
	g_autoptr(GError) error = NULL;

	if (!rig->dirty)
		skip();
	signals = 0;
	for (guint i = 0; i < ROUNDS; i++) {
		gboolean ok;

		fill(rig);
		g_array_set_size(rig->pages, 0);
		signal_every_us(100);
		ok = vmm_dirty_collect(rig->dirty, rig->pages, &error);
		signal_every_us(0);
		assert_true(ok);
		assert_int_equal(rig->pages->len, MIN(rig->size, PAGES));
		assert_int_equal(left_over(rig), 0);
	}
	assert_true(signals > 0);
}

static void emptying_a_full_ring_leaves_no_page_unprotected_when_signals_come(void **state)
{
	struct rig *rig = *state;
	g_autoptr(GError) error = NULL;

	if (!rig->dirty)
		skip();
	signals = 0;
	for (guint i = 0; i < ROUNDS; i++) {
		fill(rig);
		signal_every_us(100);
		vmm_dirty_ring_full(rig->dirty, 0);
		signal_every_us(0);
		assert_int_equal(left_over(rig), 0);
	}
	assert_true(signals > 0);
	/* However often they were emptied, each page is there once. */
	g_array_set_size(rig->pages, 0);
	assert_true(vmm_dirty_collect(rig->dirty, rig->pages, &error));
	assert_int_equal(rig->pages->len, MIN(rig->size, PAGES));
}

static int set_up(void **state)
{
	*state = make();
	return 0;
}

static int tear_down(void **state)
{
	unmake(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			collecting_leaves_no_page_unprotected_when_signals_come, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			emptying_a_full_ring_leaves_no_page_unprotected_when_signals_come,
			set_up, tear_down),
	};
	struct sigaction action = { .sa_handler = on_alarm };

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "SKIPPED: /dev/kvm: %s\n", g_strerror(errno));
		return SKIPPED;
	}
	sigaction(SIGALRM, &action, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
