/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A secondary that goes wrong on purpose. */
#include "tests/micro/fault.h"

#include <linux/serial_reg.h>

#include "kvm/machine_private.h"

static gboolean strikes(struct fault *fault, enum fault_kind kind)
{
	return g_atomic_int_compare_and_exchange(&fault->kind, (gint)kind, FAULT_NONE);
}

static void set_need(void *data, void (*need)(void *need_data, enum ckpt_reason reason),
		     void *need_data)
{
	struct fault *fault = data;

	fault->real.set_need(fault->real.data, need, need_data);
}

static void start(void *data, ckpt_link *link, const guint8 *secret)
{
	struct fault *fault = data;

	fault->real.start(fault->real.data, link, secret);
}

static const char *sync_disk(void *data, const void *payload, gsize len)
{
	struct fault *fault = data;

	return fault->real.sync_disk(fault->real.data, payload, len);
}

static const char *input(void *data, const void *payload, gsize len)
{
	struct fault *fault = data;

	return fault->real.input(fault->real.data, payload, len);
}

static const char *addresses(void *data, const void *payload, gsize len)
{
	struct fault *fault = data;

	return fault->real.addresses(fault->real.data, payload, len);
}

static void listen_to_guest(void *data, gboolean on)
{
	struct fault *fault = data;

	fault->real.listen(fault->real.data, on);
}

static const char *filter(void *data, const void *payload, gsize len)
{
	struct fault *fault = data;

	return fault->real.filter(fault->real.data, payload, len);
}

static const char *disk_write(void *data, const struct ckpt_disk_head *head,
			      const void *bytes, gsize len, gboolean first_sync)
{
	struct fault *fault = data;
	g_autofree guint8 *spoilt = NULL;

	if (head->op == VMM_DISK_WRITE && !first_sync && strikes(fault, FAULT_DISK)) {
		spoilt = g_memdup2(bytes, len);
		spoilt[len / 2] ^= 1;
		bytes = spoilt;
	}
	return fault->real.disk_write(fault->real.data, head, bytes, len, first_sync);
}

static gboolean disk_read(void *data, guint disk, guint64 offset, void *bytes, gsize len,
			  GError **error)
{
	struct fault *fault = data;

	return fault->real.disk_read(fault->real.data, disk, offset, bytes, len, error);
}

static gboolean may_commit(void *data, guint64 numbered_input, guint64 disk)
{
	struct fault *fault = data;

	return fault->real.may_commit(fault->real.data, numbered_input, disk);
}

static void applied(void *data, guint64 epoch, guint64 numbered_input, guint64 disk)
{
	struct fault *fault = data;

	fault->real.applied(fault->real.data, epoch, numbered_input, disk);
	/* As from the guest, and with the device lock as there. */
	if (strikes(fault, FAULT_STATE))
		vmm_bus_write(fault->machine->pio, VMM_SERIAL_PORT + UART_SCR, 0x5a, 1);
}

static gboolean is_behind(void *data)
{
	struct fault *fault = data;

	return fault->real.is_behind(fault->real.data);
}

static void promote(void *data)
{
	struct fault *fault = data;

	fault->real.promote(fault->real.data);
}

struct ckpt_twin_streams fault_streams(struct fault *fault,
				       const struct ckpt_twin_streams *real,
				       vmm_machine *machine)
{
	fault->real = *real;
	fault->machine = machine;
	return (struct ckpt_twin_streams){
		.data = fault,
		.set_need = set_need,
		.start = start,
		.sync_disk = sync_disk,
		.input = input,
		.addresses = addresses,
		.listen = listen_to_guest,
		.filter = filter,
		.disk_write = disk_write,
		.disk_read = disk_read,
		.may_commit = may_commit,
		.applied = applied,
		.is_behind = is_behind,
		.promote = promote,
	};
}
