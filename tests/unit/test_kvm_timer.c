/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A timer of the I/O loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvm/timer.h"

struct rig {
	vmm_loop *loop;
	vmm_timer *timer;
	guint times;
	gboolean end;
};

static void on_time(void *data)
{
	struct rig *rig = data;

	rig->times++;
	if (rig->end)
		g_clear_pointer(&rig->timer, vmm_timer_free);
}

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->loop = vmm_loop_new(NULL);
	rig->timer = vmm_timer_new(rig->loop, on_time, rig);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vmm_timer_free(rig->timer);
	vmm_loop_free(rig->loop);
	g_free(rig);
	return 0;
}

static void run_until(struct rig *rig, guint times)
{
	for (guint i = 0; i < 1000 && rig->times < times; i++)
		vmm_loop_iterate(rig->loop, 10);
	assert_true(rig->times >= times);
}

static void it_comes_once_or_again_and_again(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vmm_loop_iterate(rig->loop, 0), 0);
	vmm_timer_set(rig->timer, 0, 0);
	run_until(rig, 1);
	assert_int_equal(vmm_loop_iterate(rig->loop, 20), 0);
	assert_int_equal(rig->times, 1);
	vmm_timer_set(rig->timer, 1, 2);
	run_until(rig, 4);
}

static void it_may_be_freed_when_it_comes(void **state)
{
	struct rig *rig = *state;

	rig->end = TRUE;
	vmm_timer_set(rig->timer, 1, 1);
	run_until(rig, 1);
	assert_null(rig->timer);
	vmm_loop_iterate(rig->loop, 5);
	assert_int_equal(rig->times, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(it_comes_once_or_again_and_again),
		TEST(it_may_be_freed_when_it_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
