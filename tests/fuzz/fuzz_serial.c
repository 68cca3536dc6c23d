/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The UART's registers, somebody who types, and its saved state. */
#include "kvm/serial.h"

#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/harness.h"

static void reload(vmm_serial *serial, gboolean reset)
{
	g_autoptr(vmm_state) before = vmm_state_new();
	g_autoptr(vmm_state) after = vmm_state_new();

	vmm_serial_save(serial, before);
	if (reset)
		vmm_serial_reset(serial);
	g_assert(vmm_serial_load(serial, before, VMM_LOAD_CHECK, NULL));
	g_assert(vmm_serial_load(serial, before, VMM_LOAD_APPLY, NULL));
	vmm_serial_save(serial, after);
	g_assert(!vmm_state_difference(before, after));
}

static void load(vmm_serial *serial, struct fuzz_input *input)
{
	g_autoptr(vmm_state) state = vmm_state_new();
	guint8 payload[40] = { 0 };
	guint version = fuzz_u8(input) & 3;

	fuzz_bytes(input, payload, 32);
	vmm_state_put(state, "serial", 0, version, payload, 32 + (version == 3 ? 1 : 0),
		      NULL);
	if (vmm_serial_load(serial, state, VMM_LOAD_CHECK, NULL))
		g_assert(vmm_serial_load(serial, state, VMM_LOAD_APPLY, NULL));
}

static void step(struct fake_platform *fake, vmm_serial *serial, int far,
		 struct fuzz_input *input)
{
	guint8 op = fuzz_u8(input);
	guint16 port = VMM_SERIAL_PORT + (op >> 4 & 7);
	guint8 bytes[32];
	gssize n;

	switch (op & 7) {
	case 0:
	case 1:
	case 2:
		fake_out(fake, port, fuzz_u8(input), 1);
		break;
	case 3:
	case 4:
		fake_in(fake, port, op & 8 ? fuzz_len(input) & 7 : 1);
		break;
	case 5:
		n = write(far, bytes, fuzz_bytes(input, bytes, op >> 3));
		if (n >= 0)
			n = read(far, bytes, sizeof(bytes));
		fake_run(fake);
		break;
	case 6:
		reload(serial, op & 8);
		break;
	default:
		load(serial, input);
		break;
	}
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	struct fake_platform *fake = fake_platform_new(FUZZ_MEMORY);
	g_autofree char *spec = NULL;
	vmm_chardev *chardev;
	vmm_serial *serial;
	int pair[2];

	fuzz_quiet();
	g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	spec = g_strdup_printf("fd:%d", pair[0]);
	chardev = vmm_chardev_new(spec, fake->platform.loop, NULL);
	serial = vmm_serial_new(&fake->platform, chardev);
	while (input.left)
		step(fake, serial, pair[1], &input);
	fake_run(fake);
	vmm_serial_free(serial);
	vmm_chardev_free(chardev);
	close(pair[1]);
	fake_platform_free(fake);
	return 0;
}
