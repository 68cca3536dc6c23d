/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The UART, as a driver sees it and as it is saved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/serial_reg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/serial.h"
#include "tests/unit/fake_platform.h"

struct rig {
	struct fake_platform *fake;
	vmm_chardev *chardev;
	vmm_serial *serial;
	int far; /* the user's end of the line */
};

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);
	g_autofree char *spec = NULL;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	spec = g_strdup_printf("fd:%d", pair[0]);
	rig->far = pair[1];
	rig->fake = fake_platform_new(1u << 20);
	rig->chardev = vmm_chardev_new(spec, rig->fake->platform.loop, NULL);
	assert_non_null(rig->chardev);
	rig->serial = vmm_serial_new(&rig->fake->platform, rig->chardev);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vmm_serial_free(rig->serial);
	vmm_chardev_free(rig->chardev);
	close(rig->far);
	fake_platform_free(rig->fake);
	g_free(rig);
	return 0;
}

static guint8 in(struct rig *rig, guint reg)
{
	return (guint8)fake_in(rig->fake, (guint16)(VMM_SERIAL_PORT + reg), 1);
}

static void out(struct rig *rig, guint reg, guint8 value)
{
	fake_out(rig->fake, (guint16)(VMM_SERIAL_PORT + reg), value, 1);
}

static void type(struct rig *rig, const char *text)
{
	assert_int_equal(write(rig->far, text, strlen(text)), strlen(text));
	fake_run(rig->fake);
}

static gboolean irq(struct rig *rig)
{
	return rig->fake->irq[VMM_SERIAL_IRQ];
}

static void what_is_sent_arrives(void **state)
{
	struct rig *rig = *state;
	char text[16] = "";

	for (const char *c = "hello\n"; *c; c++) {
		assert_int_equal(in(rig, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
		out(rig, UART_TX, (guint8)*c);
	}
	fake_run(rig->fake);
	assert_int_equal(read(rig->far, text, sizeof(text)), 6);
	assert_string_equal(text, "hello\n");
	assert_false(irq(rig));
}

static void what_is_typed_is_received_in_order(void **state)
{
	struct rig *rig = *state;

	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO);
	type(rig, "abc");
	for (const char *c = "abc"; *c; c++) {
		assert_true(in(rig, UART_LSR) & UART_LSR_DR);
		assert_int_equal(in(rig, UART_RX), *c);
	}
	assert_false(in(rig, UART_LSR) & UART_LSR_DR);
	assert_int_equal(in(rig, UART_RX), 0);
}

static void input_waits_until_there_is_room(void **state)
{
	struct rig *rig = *state;
	const char *text = "0123456789abcdefghijklmnopqrstuvwxyz";

	type(rig, text);
	for (const char *c = text; *c; c++) {
		fake_run(rig->fake);
		assert_int_equal(in(rig, UART_RX), *c);
		assert_false(in(rig, UART_LSR) & UART_LSR_OE);
	}
	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO);
	type(rig, text);
	for (const char *c = text; *c; c++) {
		fake_run(rig->fake);
		assert_int_equal(in(rig, UART_RX), *c);
		assert_false(in(rig, UART_LSR) & UART_LSR_OE);
	}
}

static void received_bytes_interrupt_by_trigger_level(void **state)
{
	struct rig *rig = *state;

	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_4);
	out(rig, UART_IER, UART_IER_RDI);
	assert_false(irq(rig));
	type(rig, "abc");
	assert_true(irq(rig));
	assert_int_equal(in(rig, UART_IIR), 0xc0 | UART_IIR_RX_TIMEOUT);
	type(rig, "d");
	assert_int_equal(in(rig, UART_IIR), 0xc0 | UART_IIR_RDI);
	for (guint i = 0; i < 4; i++)
		in(rig, UART_RX);
	assert_int_equal(in(rig, UART_IIR), 0xc0 | UART_IIR_NO_INT);
	assert_false(irq(rig));
}

static void an_empty_transmitter_interrupts_until_it_is_identified(void **state)
{
	struct rig *rig = *state;

	out(rig, UART_IER, UART_IER_THRI);
	assert_true(irq(rig));
	assert_int_equal(in(rig, UART_IIR), UART_IIR_THRI);
	assert_int_equal(in(rig, UART_IIR), UART_IIR_NO_INT);
	assert_false(irq(rig));
	out(rig, UART_TX, 'x');
	assert_true(irq(rig));
	/* Off and on again: asked for anew. */
	in(rig, UART_IIR);
	out(rig, UART_IER, 0);
	out(rig, UART_IER, UART_IER_THRI);
	assert_int_equal(in(rig, UART_IIR), UART_IIR_THRI);
}

static void interrupts_are_identified_by_precedence(void **state)
{
	struct rig *rig = *state;

	out(rig, UART_MCR, UART_MCR_LOOP);
	out(rig, UART_IER, UART_IER_RLSI | UART_IER_RDI | UART_IER_THRI | UART_IER_MSI);
	in(rig, UART_MSR);
	out(rig, UART_TX, 'a');
	out(rig, UART_TX, 'b'); /* overruns */
	out(rig, UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
	assert_int_equal(in(rig, UART_IIR), UART_IIR_RLSI);
	assert_true(in(rig, UART_LSR) & UART_LSR_OE);
	assert_int_equal(in(rig, UART_IIR), UART_IIR_RDI);
	assert_int_equal(in(rig, UART_RX), 'b');
	assert_int_equal(in(rig, UART_IIR), UART_IIR_THRI);
	assert_int_equal(in(rig, UART_IIR), UART_IIR_MSI);
	assert_int_equal(in(rig, UART_MSR), UART_MSR_CTS | UART_MSR_DCTS);
	assert_int_equal(in(rig, UART_IIR), UART_IIR_NO_INT);
	assert_false(irq(rig));
}

/* What Linux's 8250 driver does to find out what it has. */
static void a_driver_finds_a_16550a(void **state)
{
	struct rig *rig = *state;

	out(rig, UART_IER, 0);
	assert_int_equal(in(rig, UART_IER), 0);
	out(rig, UART_IER, 0x0f);
	assert_int_equal(in(rig, UART_IER), 0x0f);
	out(rig, UART_IER, 0xff);
	assert_int_equal(in(rig, UART_IER), 0x0f);
	out(rig, UART_IER, 0);
	out(rig, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(in(rig, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(rig, UART_MCR, 0);
	assert_int_equal(in(rig, UART_MSR) & 0xf0,
			 UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	out(rig, UART_LCR, UART_LCR_CONF_MODE_B);
	out(rig, UART_EFR, 0);
	out(rig, UART_LCR, 0);
	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(in(rig, UART_IIR) >> 6, 3);
	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	assert_int_equal(in(rig, UART_IIR) >> 5, 6);
	out(rig, UART_SCR, 0xa5);
	assert_int_equal(in(rig, UART_SCR), 0xa5);
}

static void the_divisor_hides_behind_its_latch(void **state)
{
	struct rig *rig = *state;

	out(rig, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(rig, UART_DLL, 0x34);
	out(rig, UART_DLM, 0x12);
	assert_int_equal(in(rig, UART_DLL), 0x34);
	assert_int_equal(in(rig, UART_DLM), 0x12);
	out(rig, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(in(rig, UART_RX), 0);
	assert_int_equal(in(rig, UART_IER), 0);
	assert_int_equal(in(rig, UART_LCR), UART_LCR_WLEN8);
}

static void wide_accesses_are_not_for_it(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(fake_in(rig->fake, VMM_SERIAL_PORT, 2), 0xffff);
	fake_out(rig->fake, VMM_SERIAL_PORT + UART_SCR - 1, 0x1234, 2);
	assert_int_equal(in(rig, UART_SCR), 0);
}

static void in_loopback_the_line_is_cut(void **state)
{
	struct rig *rig = *state;
	char byte;

	out(rig, UART_MCR, UART_MCR_LOOP);
	type(rig, "x");
	assert_false(in(rig, UART_LSR) & UART_LSR_DR);
	out(rig, UART_TX, 'y');
	assert_int_equal(in(rig, UART_RX), 'y');
	fake_run(rig->fake);
	assert_int_equal(read(rig->far, &byte, 1), -1);
	out(rig, UART_MCR, 0);
	fake_run(rig->fake);
	assert_int_equal(in(rig, UART_RX), 'x');
}

static void clearing_the_fifo_makes_room(void **state)
{
	struct rig *rig = *state;

	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO);
	type(rig, "0123456789abcdefXYZ");
	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	fake_run(rig->fake);
	assert_int_equal(in(rig, UART_RX), 'X');
}

static void it_comes_back_as_it_was_saved(void **state)
{
	struct rig *rig = *state;
	g_autoptr(vmm_state) before = vmm_state_new();
	g_autoptr(vmm_state) after = vmm_state_new();

	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
	out(rig, UART_IER, UART_IER_RDI | UART_IER_THRI);
	out(rig, UART_LCR, UART_LCR_WLEN8);
	out(rig, UART_SCR, 0x77);
	type(rig, "abc");
	in(rig, UART_RX);
	vmm_serial_save(rig->serial, before);
	vmm_serial_reset(rig->serial);
	assert_false(irq(rig));
	assert_true(vmm_serial_load(rig->serial, before, VMM_LOAD_CHECK, NULL));
	assert_false(irq(rig));
	assert_true(vmm_serial_load(rig->serial, before, VMM_LOAD_APPLY, NULL));
	assert_true(irq(rig));
	vmm_serial_save(rig->serial, after);
	assert_null(vmm_state_difference(before, after));
	assert_int_equal(in(rig, UART_RX), 'b');
	assert_int_equal(in(rig, UART_SCR), 0x77);
}

static void a_saved_one_that_cannot_be_is_refused(void **state)
{
	static const struct {
		guint at;
		guint8 byte;
	} bad[] = { { 0, 0x10 }, { 1, 0x02 }, { 1, 0x40 }, { 3, 0x20 }, { 7, 0x01 },
		    { 8, 0x10 }, { 9, 0x02 }, { 10, 2 },   { 11, 1 },	{ 16, 1 } };
	struct rig *rig = *state;

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(vmm_state) saved = vmm_state_new();
		g_autoptr(GError) error = NULL;
		guint8 payload[32] = { 0 };

		payload[bad[i].at] = bad[i].byte;
		vmm_state_put(saved, "serial", 0, 1, payload, sizeof(payload), NULL);
		assert_false(
			vmm_serial_load(rig->serial, saved, VMM_LOAD_CHECK, &error));
		assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE));
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(what_is_sent_arrives),
		TEST(what_is_typed_is_received_in_order),
		TEST(input_waits_until_there_is_room),
		TEST(received_bytes_interrupt_by_trigger_level),
		TEST(an_empty_transmitter_interrupts_until_it_is_identified),
		TEST(interrupts_are_identified_by_precedence),
		TEST(a_driver_finds_a_16550a),
		TEST(the_divisor_hides_behind_its_latch),
		TEST(wide_accesses_are_not_for_it),
		TEST(in_loopback_the_line_is_cut),
		TEST(clearing_the_fifo_makes_room),
		TEST(it_comes_back_as_it_was_saved),
		TEST(a_saved_one_that_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
