/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The console, a hostile guest, and somebody who types. */
#include "kvm/console.h"

#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/harness.h"

static void type_or_read(void *data, struct fuzz_input *input)
{
	int far = *(int *)data;
	guint8 bytes[64];
	gssize n;

	if (input->left % 8)
		return;
	n = write(far, input->data, MIN(input->left, 40));
	if (n >= 0)
		n = read(far, bytes, sizeof(bytes));
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	struct fuzz_input input = { data, size };
	struct fake_platform *fake = fake_platform_new(FUZZ_MEMORY);
	vmm_pci *pci = vmm_pci_new(&fake->platform);
	struct fake_driver driver;
	g_autofree char *spec = NULL;
	vmm_chardev *chardev;
	vmm_console *console;
	int pair[2];

	fuzz_quiet();
	g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	spec = g_strdup_printf("fd:%d", pair[0]);
	chardev = vmm_chardev_new(spec, fake->platform.loop, NULL);
	console = vmm_console_new(pci, &fake->platform, 0, chardev, NULL);
	g_assert(console && fake_driver_find(&driver, fake, 3, 0));
	fake_driver_start(&driver, G_MAXUINT64, 16);
	fuzz_virtio(&input, &driver, vmm_console_virtio(console), type_or_read,
		    &pair[1]);
	vmm_console_free(console);
	vmm_chardev_free(chardev);
	close(pair[1]);
	vmm_pci_free(pci);
	fake_platform_free(fake);
	return 0;
}
