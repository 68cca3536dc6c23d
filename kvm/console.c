/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-console with one port. It keeps nothing: output goes to the chardev as the
 * driver gives it, and input is taken from there only when there is a buffer to put it
 * into.
 */
#include "kvm/console.h"

#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "kvm/iov.h"

#define RECEIVE 0u
#define TRANSMIT 1u
#define BATCH 64u
#define PCI_CLASS_COMMUNICATION_OTHER 0x00078000u
/* Input taken at once: a driver's buffer can have gigabytes. */
#define INPUT_MAX 4096u

struct vmm_console {
	vmm_virtio *virtio;
	vmm_loop *loop;
	vmm_chardev *chardev;
};

static void transmit(vmm_console *console)
{
	struct vmm_queue *queue = vmm_virtio_queue(console->virtio, TRANSMIT);
	struct vmm_chain chain;
	guint sent = 0;

	while (vmm_queue_pop(queue, &chain) == VMM_POP_CHAIN) {
		for (guint i = 0; i < chain.n_out; i++)
			vmm_chardev_output(console->chardev,
					   VMM_CHAIN_OUT(&chain)[i].iov_base,
					   VMM_CHAIN_OUT(&chain)[i].iov_len);
		vmm_queue_push(queue, &chain, 0);
		if (++sent < BATCH && !vmm_loop_wanted(console->loop))
			continue;
		vmm_virtio_again(console->virtio, TRANSMIT);
		break;
	}
	vmm_virtio_signal(console->virtio, TRANSMIT);
}

/* The driver's next receive buffer; FALSE where there is none. */
static gboolean next_buffer(vmm_console *console, struct vmm_chain *chain)
{
	struct vmm_queue *queue = vmm_virtio_queue(console->virtio, RECEIVE);
	enum vmm_pop popped;

	if (!vmm_virtio_running(console->virtio))
		return FALSE;
	popped = vmm_queue_pop(queue, chain);
	if (popped == VMM_POP_BROKEN)
		vmm_virtio_break(console->virtio, queue->broken);
	else if (popped == VMM_POP_CHAIN && !chain->n_in)
		vmm_virtio_break(console->virtio, "a receive buffer cannot be written");
	return popped == VMM_POP_CHAIN && chain->n_in;
}

static gsize room(void *data)
{
	vmm_console *console = data;
	struct vmm_chain chain;

	if (!next_buffer(console, &chain))
		return 0;
	vmm_queue_unpop(vmm_virtio_queue(console->virtio, RECEIVE), 1);
	return MIN(chain.in_len, INPUT_MAX);
}

/* A driver that made its buffers smaller since room() was asked loses what does not
 * fit. */
static void input(void *data, const guint8 *bytes, gsize len)
{
	vmm_console *console = data;
	struct vmm_queue *queue = vmm_virtio_queue(console->virtio, RECEIVE);
	struct vmm_chain chain;

	while (len && next_buffer(console, &chain)) {
		gsize done =
			vmm_iov_write(VMM_CHAIN_IN(&chain), chain.n_in, 0, bytes, len);

		vmm_queue_push(queue, &chain, (guint32)done);
		bytes += done;
		len -= done;
	}
	vmm_virtio_signal(console->virtio, RECEIVE);
}

static const struct vmm_chardev_ops chardev_ops = { room, input };

static void kick(void *data, guint index)
{
	vmm_console *console = data;

	if (index == TRANSMIT)
		transmit(console);
	else
		vmm_chardev_poll(console->chardev);
}

static void start(void *data)
{
	vmm_console *console = data;

	vmm_chardev_poll(console->chardev);
}

/* There is no room from here on: room() says so. */
static void stop(void *data)
{
}

/* No size, no further ports: nothing of it was offered. */
static void config_read(void *data, guint offset, void *buf, guint len)
{
	memset(buf, 0, len);
}

static const struct vmm_virtio_class console_class = {
	.name = "console",
	.type = VIRTIO_ID_CONSOLE,
	.pci_class = PCI_CLASS_COMMUNICATION_OTHER,
	.queues = 2,
	.config_len = sizeof(struct virtio_console_config),
	.config_read = config_read,
	.start = start,
	.stop = stop,
	.kick = kick,
};

vmm_console *vmm_console_new(vmm_pci *pci, const struct vmm_platform *platform,
			     guint instance, vmm_chardev *chardev, GError **error)
{
	vmm_console *console = g_new0(vmm_console, 1);

	console->loop = platform->loop;
	console->chardev = chardev;
	console->virtio = vmm_virtio_new(pci, platform, &console_class, instance, 0,
					 console, error);
	if (!console->virtio) {
		g_free(console);
		return NULL;
	}
	vmm_chardev_connect(chardev, &chardev_ops, console);
	return console;
}

void vmm_console_free(vmm_console *console)
{
	if (!console)
		return;
	vmm_chardev_connect(console->chardev, NULL, NULL);
	vmm_virtio_free(console->virtio);
	g_free(console);
}

vmm_virtio *vmm_console_virtio(vmm_console *console)
{
	return console->virtio;
}
