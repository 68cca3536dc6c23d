/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ports by which a guest ends, resets and panics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kvm/error.h"
#include "kvm/layout.h"
#include "kvm/power.h"
#include "tests/unit/fake_platform.h"

struct rig {
	struct fake_platform *fake;
	vmm_power *power;
};

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->fake = fake_platform_new(1u << 20);
	rig->power = vmm_power_new(&rig->fake->platform);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vmm_power_free(rig->power);
	fake_platform_free(rig->fake);
	g_free(rig);
	return 0;
}

static guint count(struct rig *rig, enum vmm_event_type type)
{
	return fake_event_count(rig->fake, type);
}

static void only_sleep_state_5_switches_off(void **state)
{
	struct rig *rig = *state;

	for (guint value = 0; value < 256; value++)
		if (!(value & 0x20) || (value >> 2 & 7) != VMM_SLEEP_TYPE_S5)
			fake_out(rig->fake, VMM_PORT_SLEEP_CONTROL, value, 1);
	fake_out(rig->fake, VMM_PORT_SLEEP_STATUS, 0x20 | VMM_SLEEP_TYPE_S5 << 2, 1);
	assert_int_equal(rig->fake->events->len, 0);
	assert_int_equal(fake_in(rig->fake, VMM_PORT_SLEEP_STATUS, 1), 0);
	fake_out(rig->fake, VMM_PORT_SLEEP_CONTROL, 0x20 | VMM_SLEEP_TYPE_S5 << 2, 1);
	assert_int_equal(count(rig, VMM_EVENT_POWEROFF), 1);
	assert_int_equal(rig->fake->events->len, 1);
}

static void the_keyboard_controller_resets(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(fake_in(rig->fake, VMM_PORT_KEYBOARD, 1), 0);
	fake_out(rig->fake, VMM_PORT_KEYBOARD, 0xd1, 1);
	assert_int_equal(rig->fake->events->len, 0);
	fake_out(rig->fake, VMM_PORT_KEYBOARD, 0xfe, 1);
	assert_int_equal(count(rig, VMM_EVENT_RESET), 1);
}

static void the_reset_register_resets_when_its_line_is_pulled(void **state)
{
	struct rig *rig = *state;

	vmm_power_reset_register(rig->power, 0x02);
	assert_int_equal(rig->fake->events->len, 0);
	vmm_power_reset_register(rig->power, VMM_RESET_VALUE);
	assert_int_equal(count(rig, VMM_EVENT_RESET), 1);
	vmm_power_reset_register(rig->power, 0x0e);
	assert_int_equal(count(rig, VMM_EVENT_RESET), 2);
}

static void a_panic_is_told_and_asks_for_nothing(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(fake_in(rig->fake, VMM_PORT_PANIC, 1), 3);
	fake_out(rig->fake, VMM_PORT_PANIC, 0xfc, 1);
	assert_int_equal(rig->fake->events->len, 0);
	fake_out(rig->fake, VMM_PORT_PANIC, 1, 1);
	fake_out(rig->fake, VMM_PORT_PANIC, 2, 1);
	assert_int_equal(count(rig, VMM_EVENT_PANIC), 2);
	assert_int_equal(rig->fake->events->len, 2);
	vmm_power_again(rig->power);
	assert_int_equal(rig->fake->events->len, 2);
}

static void each_kind_of_panic_is_told_once_until_a_reset(void **state)
{
	struct rig *rig = *state;

	for (guint i = 0; i < 1000; i++)
		fake_out(rig->fake, VMM_PORT_PANIC, 1, 1);
	assert_int_equal(count(rig, VMM_EVENT_PANIC), 1);
	for (guint i = 0; i < 1000; i++)
		fake_out(rig->fake, VMM_PORT_PANIC, 3, 1);
	assert_int_equal(count(rig, VMM_EVENT_PANIC), 2);
	vmm_power_reset(rig->power);
	fake_out(rig->fake, VMM_PORT_PANIC, 3, 1);
	fake_out(rig->fake, VMM_PORT_PANIC, 3, 1);
	assert_int_equal(count(rig, VMM_EVENT_PANIC), 3);
}

static void the_button_is_a_pulse_and_an_event_read_once(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(fake_in(rig->fake, VMM_PORT_EVENT, 1), 0);
	vmm_power_press(rig->power);
	assert_int_equal(rig->fake->irq_rises[VMM_EVENT_IRQ], 1);
	assert_false(rig->fake->irq[VMM_EVENT_IRQ]);
	fake_out(rig->fake, VMM_PORT_EVENT, 0, 1);
	assert_int_equal(fake_in(rig->fake, VMM_PORT_EVENT, 1), 1);
	assert_int_equal(fake_in(rig->fake, VMM_PORT_EVENT, 1), 0);
	assert_int_equal(rig->fake->events->len, 0);
}

static void a_reset_forgets_what_was_pending(void **state)
{
	struct rig *rig = *state;

	vmm_power_press(rig->power);
	vmm_power_fault(rig->power);
	assert_int_equal(count(rig, VMM_EVENT_RESET), 1);
	vmm_power_reset(rig->power);
	vmm_power_again(rig->power);
	assert_int_equal(count(rig, VMM_EVENT_RESET), 1);
	assert_int_equal(fake_in(rig->fake, VMM_PORT_EVENT, 1), 0);
}

/* Saves the rig's power, and loads it into a new one of its own. */
static struct rig *moved(struct rig *rig)
{
	g_autoptr(vmm_state) saved = vmm_state_new();
	struct rig *other = NULL;

	vmm_power_save(rig->power, saved);
	set_up((void **)&other);
	assert_true(vmm_power_load(other->power, saved, VMM_LOAD_CHECK, NULL));
	vmm_power_again(other->power);
	assert_int_equal(other->fake->events->len, 0);
	assert_true(vmm_power_load(other->power, saved, VMM_LOAD_APPLY, NULL));
	return other;
}

static void what_was_asked_for_is_said_again_after_a_load(void **state)
{
	struct rig *rig = *state, *other;

	vmm_power_fault(rig->power);
	other = moved(rig);
	assert_int_equal(other->fake->events->len, 0);
	vmm_power_again(other->power);
	assert_int_equal(count(other, VMM_EVENT_RESET), 1);
	tear_down((void **)&other);

	fake_out(rig->fake, VMM_PORT_SLEEP_CONTROL, 0x20 | VMM_SLEEP_TYPE_S5 << 2, 1);
	other = moved(rig);
	vmm_power_again(other->power);
	assert_int_equal(count(other, VMM_EVENT_POWEROFF), 1);
	assert_int_equal(count(other, VMM_EVENT_RESET), 0);
	tear_down((void **)&other);
}

static void a_pressed_button_survives_a_load(void **state)
{
	struct rig *rig = *state, *other;

	vmm_power_press(rig->power);
	other = moved(rig);
	vmm_power_again(other->power);
	assert_int_equal(other->fake->events->len, 0);
	assert_int_equal(fake_in(other->fake, VMM_PORT_EVENT, 1), 1);
	tear_down((void **)&other);
}

static void a_state_with_unknown_bits_is_refused(void **state)
{
	static const guint8 wrong[][8] = {
		{ 2 }, { 0x80 }, { 0, 3 }, { 1, 0xff }, { 0, 0, 1 }
	};
	struct rig *rig = *state;

	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autoptr(vmm_state) saved = vmm_state_new();
		g_autoptr(GError) error = NULL;

		vmm_state_put(saved, "power", 0, 1, wrong[i], 8, NULL);
		assert_false(vmm_power_load(rig->power, saved, VMM_LOAD_CHECK, &error));
		assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE));
	}
}

static void its_ports_are_free_when_it_is_gone(void **state)
{
	struct rig *rig = *state;

	vmm_power_free(rig->power);
	assert_int_equal(fake_in(rig->fake, VMM_PORT_PANIC, 1), 0xff);
	assert_int_equal(fake_in(rig->fake, VMM_PORT_EVENT, 1), 0xff);
	rig->power = vmm_power_new(&rig->fake->platform);
	assert_int_equal(fake_in(rig->fake, VMM_PORT_PANIC, 1), 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(only_sleep_state_5_switches_off),
		TEST(the_keyboard_controller_resets),
		TEST(the_reset_register_resets_when_its_line_is_pulled),
		TEST(a_panic_is_told_and_asks_for_nothing),
		TEST(each_kind_of_panic_is_told_once_until_a_reset),
		TEST(the_button_is_a_pulse_and_an_event_read_once),
		TEST(a_reset_forgets_what_was_pending),
		TEST(what_was_asked_for_is_said_again_after_a_load),
		TEST(a_pressed_button_survives_a_load),
		TEST(a_state_with_unknown_bits_is_refused),
		TEST(its_ports_are_free_when_it_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
