/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dirty tracking without a guest: what devices wrote, switching on and off. That no
 * write of a vCPU is missed is for the tests with the micro-guest. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm/dirty.h"
#include "kvm/error.h"

#define SKIPPED 77
#define MEMORY ((3ull << 30) + (64ull << 20)) /* two banks */

struct rig {
	struct vmm_hypervisor hv;
	vmm_memory *memory;
	vmm_dirty *dirty;
	vmm_loop *loop; /* never started: for its lock */
	int vcpu;
	GArray *pages;
};

/* NULL where this host lacks the method. */
static struct rig *make(enum vmm_dirty_method method)
{
	struct rig *rig = g_new0(struct rig, 1);
	g_autoptr(GError) error = NULL;

	rig->loop = vmm_loop_new(&error);
	assert_non_null(rig->loop);
	if (!vmm_hypervisor_open(&rig->hv, &error))
		fail_msg("%s", error->message);
	rig->memory = vmm_memory_new(MEMORY, NULL);
	rig->pages = g_array_new(FALSE, FALSE, sizeof(guint32));
	rig->dirty = vmm_dirty_new(&rig->hv, rig->memory, method, &error);
	if (!rig->dirty) {
		assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_HOST));
		print_message("# %s\n", error->message);
		rig->vcpu = -1;
		return rig;
	}
	rig->vcpu = ioctl(rig->hv.vm_fd, KVM_CREATE_VCPU, 0ul);
	assert_true(rig->vcpu >= 0);
	assert_true(vmm_dirty_add_vcpu(rig->dirty, 0, rig->vcpu, &error));
	assert_true(vmm_hypervisor_set_memory(&rig->hv, rig->memory, FALSE, &error));
	return rig;
}

static void unmake(struct rig *rig)
{
	if (rig->vcpu >= 0)
		close(rig->vcpu);
	vmm_dirty_free(rig->dirty);
	vmm_loop_free(rig->loop);
	vmm_hypervisor_close(&rig->hv);
	vmm_memory_free(rig->memory);
	g_array_unref(rig->pages);
	g_free(rig);
}

static guint collect(struct rig *rig)
{
	g_autoptr(GError) error = NULL;

	g_array_set_size(rig->pages, 0);
	if (!vmm_dirty_collect(rig->dirty, rig->pages, &error))
		fail_msg("%s", error->message);
	return rig->pages->len;
}

static guint32 page(struct rig *rig, guint i)
{
	return g_array_index(rig->pages, guint32, i);
}

static void follow(enum vmm_dirty_method method)
{
	struct rig *rig = make(method);
	g_autoptr(GError) error = NULL;

	if (!rig->dirty) {
		unmake(rig);
		skip();
	}
	assert_false(vmm_dirty_started(rig->dirty));
	vmm_memory_mark(rig->memory, 0, 1);
	for (guint round = 0; round < 50; round++) {
		assert_true(vmm_dirty_start(rig->dirty, rig->loop, &error));
		assert_true(vmm_dirty_started(rig->dirty));
		assert_int_equal(collect(rig), 0);
		vmm_memory_mark(rig->memory, 5 * VMM_PAGE, 1);
		vmm_memory_mark(rig->memory, VMM_HOLE_END, 1);
		vmm_memory_mark(rig->memory, 5 * VMM_PAGE, VMM_PAGE);
		assert_int_equal(collect(rig), 2);
		assert_int_equal(page(rig, 0), 5);
		assert_int_equal(page(rig, 1), VMM_HOLE_START / VMM_PAGE);
		assert_int_equal(collect(rig), 0);
		vmm_memory_mark(rig->memory, 0, 1);
		assert_true(vmm_dirty_stop(rig->dirty, rig->loop, &error));
		assert_true(vmm_dirty_stop(rig->dirty, rig->loop, &error));
		assert_false(vmm_dirty_started(rig->dirty));
	}
	unmake(rig);
}

static void the_ring_gives_what_devices_wrote(void **state)
{
	follow(VMM_DIRTY_RING);
}

static void the_bitmap_gives_what_devices_wrote(void **state)
{
	follow(VMM_DIRTY_BITMAP);
}

static void starting_again_forgets_what_devices_wrote(void **state)
{
	struct rig *rig = make(VMM_DIRTY_AUTO);

	assert_non_null(rig->dirty);
	assert_true(vmm_dirty_start(rig->dirty, rig->loop, NULL));
	vmm_memory_mark(rig->memory, 0, 1);
	assert_true(vmm_dirty_start(rig->dirty, rig->loop, NULL));
	assert_int_equal(collect(rig), 0);
	unmake(rig);
}

static void collecting_appends(void **state)
{
	struct rig *rig = make(VMM_DIRTY_AUTO);
	guint32 already[] = { 5, 5, 9 };

	assert_non_null(rig->dirty);
	assert_true(vmm_dirty_start(rig->dirty, rig->loop, NULL));
	g_array_append_vals(rig->pages, already, 3);
	vmm_memory_mark(rig->memory, 9 * VMM_PAGE, 1);
	assert_true(vmm_dirty_collect(rig->dirty, rig->pages, NULL));
	assert_int_equal(rig->pages->len, 4);
	assert_int_equal(page(rig, 1), 5);
	assert_int_equal(page(rig, 3), 9);
	unmake(rig);
}

static void the_method_has_a_name(void **state)
{
	struct rig *rig = make(VMM_DIRTY_BITMAP);

	if (rig->dirty)
		assert_string_equal(vmm_dirty_name(rig->dirty), "bitmap");
	unmake(rig);
	rig = make(VMM_DIRTY_RING);
	if (rig->dirty)
		assert_string_equal(vmm_dirty_name(rig->dirty), "ring");
	unmake(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_ring_gives_what_devices_wrote),
		cmocka_unit_test(the_bitmap_gives_what_devices_wrote),
		cmocka_unit_test(starting_again_forgets_what_devices_wrote),
		cmocka_unit_test(collecting_appends),
		cmocka_unit_test(the_method_has_a_name),
	};
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		fprintf(stderr, "SKIPPED: /dev/kvm: %s; dirty pages come from there\n",
			g_strerror(errno));
		return SKIPPED;
	}
	close(fd);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
