/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-blk over a disk in memory that completes when the test says so. */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kvm/block.h"
#include "kvm/error.h"
#include "tests/unit/fake_disk.h"
#include "tests/unit/fake_driver.h"

#define DISK_BYTES (8u << 20)
#define BIT(name) (1ull << VIRTIO_BLK_F_##name)
#define ALL (~0ull)

struct machine {
	struct fake_platform *fake;
	vmm_pci *pci;
	struct fake_disk slow;
	vmm_block *block;
	struct fake_driver driver;
	struct fake_queue *queue;
	guint64 header, data, status; /* guest addresses; 1 MiB of data */
};

static struct machine *machine_new(gboolean readonly, guint64 features)
{
	struct machine *m = g_new0(struct machine, 1);

	m->fake = fake_platform_new(64 << 20);
	m->pci = vmm_pci_new(&m->fake->platform);
	fake_disk_init(&m->slow, DISK_BYTES, readonly);
	m->block = vmm_block_new_take(m->pci, &m->fake->platform, 0, "serial-1",
				      &m->slow.disk, NULL);
	assert_non_null(m->block);
	assert_true(fake_driver_find(&m->driver, m->fake, VIRTIO_ID_BLOCK, 0));
	fake_driver_start(&m->driver, features, 256);
	m->queue = &m->driver.queue[0];
	m->header = fake_alloc(m->fake, 256 * 16, 16);
	m->status = fake_alloc(m->fake, 256, 16);
	m->data = fake_alloc(m->fake, 1 << 20, 4096);
	return m;
}

static void machine_free(struct machine *m)
{
	vmm_block_free(m->block);
	vmm_pci_free(m->pci);
	fake_disk_clear(&m->slow);
	fake_platform_free(m->fake);
	g_free(m);
}

static guint8 *status(struct machine *m, guint slot)
{
	return fake_at(m->fake, m->status + slot, 1);
}

/* Offers a request with header, `len` bytes of data at `data` and status `slot`. */
static guint16 offer(struct machine *m, guint slot, guint32 type, guint64 sector,
		     guint64 data, guint32 len, gboolean in)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	struct fake_buffer buffers[3] = { { m->header + 16 * slot, 16, FALSE } };
	guint n = 1;

	memcpy(fake_at(m->fake, m->header + 16 * slot, 16), &header, 16);
	*status(m, slot) = 0xee;
	if (len)
		buffers[n++] = (struct fake_buffer){ data, len, in };
	buffers[n++] = (struct fake_buffer){ m->status + slot, 1, TRUE };
	return fake_queue_add(m->queue, buffers, n);
}

static guint16 offer_write(struct machine *m, guint slot, guint64 sector, guint32 len)
{
	return offer(m, slot, VIRTIO_BLK_T_OUT, sector, m->data, len, FALSE);
}

static guint16 offer_read(struct machine *m, guint slot, guint64 sector, guint32 len)
{
	return offer(m, slot, VIRTIO_BLK_T_IN, sector, m->data, len, TRUE);
}

static gboolean is_broken(struct machine *m)
{
	return fake_driver_status(&m->driver) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static gboolean is_marked(struct machine *m, guint64 gpa)
{
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));

	vmm_memory_take_marked(m->fake->platform.memory, pages);
	for (guint i = 0; i < pages->len; i++)
		if (g_array_index(pages, guint32, i) == gpa / VMM_PAGE)
			return TRUE;
	return FALSE;
}

/* The state with its section "block" replaced, as somebody hostile would. */
static vmm_state *forge(struct machine *m, const guint16 *heads, guint32 count,
			guint32 said)
{
	vmm_state *state = vmm_state_new();
	guint8 payload[516] = { 0 };
	gsize len;
	g_autoptr(vmm_state) copy = vmm_state_new();

	vmm_virtio_save(vmm_block_virtio(m->block), copy);
	memcpy(payload, &said, 4);
	for (guint i = 0; i < count; i++)
		memcpy(payload + 4 + 2 * i, &heads[i], 2);
	/* Those before are as they were. */
	const void *pci = vmm_state_get(copy, "pci-block", 0, 1, 0, 65536, &len, NULL);

	assert_non_null(pci);
	vmm_state_put(state, "pci-block", 0, 1, pci, len, NULL);
	const void *virtio =
		vmm_state_get(copy, "virtio-block", 0, 1, 0, 65536, &len, NULL);

	assert_non_null(virtio);
	vmm_state_put(state, "virtio-block", 0, 1, virtio, len, NULL);
	vmm_state_put(state, "block", 0, 1, payload, sizeof(payload), NULL);
	return state;
}

static gboolean check(struct machine *m, const vmm_state *state)
{
	g_autoptr(GError) error = NULL;
	gboolean ok = vmm_virtio_load(vmm_block_virtio(m->block), state, VMM_LOAD_CHECK,
				      &error);

	assert_true(ok || error);
	return ok;
}

static void apply(struct machine *m, const vmm_state *state)
{
	vmm_virtio *virtio = vmm_block_virtio(m->block);

	assert_true(vmm_virtio_load(virtio, state, VMM_LOAD_CHECK, NULL));
	assert_true(vmm_virtio_load(virtio, state, VMM_LOAD_APPLY, NULL));
}

/* As the machine does before it runs again. */
static void go_on(struct machine *m)
{
	vmm_virtio_loaded(vmm_block_virtio(m->block));
	fake_run(m->fake);
}

static void what_is_written_can_be_read_again(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	guint8 *data = fake_at(m->fake, m->data, 8192);
	struct vmm_block_counters counters;
	guint32 len;

	memset(data, 0x5a, 4096);
	offer_write(m, 0, 8, 4096);
	fake_queue_kick(m->queue);
	assert_int_equal(m->slow.waiting->len, 1);
	assert_int_equal(*status(m, 0), 0xee);
	/* What the driver changes now is too late. */
	memset(data, 0, 4096);
	fake_disk_complete(&m->slow, 0);
	assert_int_equal(*status(m, 0), VIRTIO_BLK_S_OK);
	assert_true(fake_queue_take_used(m->queue, NULL, &len));
	assert_int_equal(len, 1);

	offer_read(m, 1, 8, 4096);
	fake_queue_kick(m->queue);
	fake_disk_complete(&m->slow, 0);
	assert_true(fake_queue_take_used(m->queue, NULL, &len));
	assert_int_equal(len, 4097);
	for (guint i = 0; i < 4096; i++)
		assert_int_equal(data[i], 0x5a);
	vmm_block_get_counters(m->block, &counters);
	assert_int_equal(counters.reads, 1);
	assert_int_equal(counters.written_bytes, 4096);
	assert_int_equal(counters.in_flight, 0);
	machine_free(m);
}

static void what_the_device_writes_is_marked(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	guint64 data = m->data + 8192;

	offer(m, 0, VIRTIO_BLK_T_IN, 0, data, 4096, TRUE);
	fake_queue_kick(m->queue);
	vmm_memory_track(m->fake->platform.memory, TRUE);
	fake_disk_complete(&m->slow, 0);
	assert_true(is_marked(m, data));
	offer(m, 1, VIRTIO_BLK_T_IN, 0, data, 4096, TRUE);
	fake_queue_kick(m->queue);
	fake_disk_complete(&m->slow, 0);
	assert_true(is_marked(m, m->status));
	/* A read that fails wrote nothing but its status. */
	m->slow.result = -EIO;
	offer(m, 2, VIRTIO_BLK_T_IN, 0, data, 4096, TRUE);
	fake_queue_kick(m->queue);
	fake_disk_complete(&m->slow, 0);
	assert_false(is_marked(m, data));
	assert_int_equal(*status(m, 2), VIRTIO_BLK_S_IOERR);
	machine_free(m);
}

static void pieces_of_any_shape_make_a_request(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_OUT, .sector = 1 };
	guint8 *all = fake_at(m->fake, m->data, 4096);
	/* Header and data in one, split where nobody would. */
	struct fake_buffer out[] = {
		{ m->data, 3, FALSE },
		{ m->data + 3, 14, FALSE },
		{ m->data + 17, 511, FALSE },
		{ m->data + 4096, 9, TRUE }, /* the status is the last byte */
	};

	memcpy(all, &header, 16);
	for (guint i = 0; i < 512; i++)
		all[16 + i] = (guint8)i;
	*(guint8 *)fake_at(m->fake, m->data + 4104, 1) = 0xee;
	fake_queue_add(m->queue, out, 4);
	fake_queue_kick(m->queue);
	fake_disk_complete(&m->slow, 0);
	for (guint i = 0; i < 512; i++)
		assert_int_equal(m->slow.bytes[512 + i], (guint8)i);
	assert_int_equal(*(guint8 *)fake_at(m->fake, m->data + 4104, 1),
			 VIRTIO_BLK_S_OK);

	header.type = VIRTIO_BLK_T_IN;
	memcpy(all, &header, 16);
	struct fake_buffer in[] = {
		{ m->data, 16, FALSE },
		{ m->data + 8192, 1, TRUE },
		{ m->data + 8200, 512, TRUE }, /* 511 of data, and the status */
	};
	fake_queue_add(m->queue, in, 3);
	fake_queue_kick(m->queue);
	fake_disk_complete(&m->slow, 0);
	for (guint i = 1; i < 512; i++)
		assert_int_equal(*(guint8 *)fake_at(m->fake, m->data + 8199 + i, 1),
				 (guint8)i);
	assert_int_equal(*(guint8 *)fake_at(m->fake, m->data + 8711, 1),
			 VIRTIO_BLK_S_OK);
	machine_free(m);
}

static void a_range_outside_the_disk_is_refused(void **unused)
{
	static const struct {
		guint64 sector;
		guint32 len;
	} bad[] = {
		{ DISK_BYTES / 512, 512 },
		{ DISK_BYTES / 512 - 1, 1024 },
		{ G_MAXUINT64, 512 },
		{ G_MAXUINT64 / 512 + 1, 512 },
		{ G_MAXUINT64 - 1, 1024 },
		{ 0, 511 },
		{ 0, 513 },
		{ 0, 0 },
	};
	struct machine *m = machine_new(FALSE, ALL);
	struct vmm_block_counters counters;

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		offer_read(m, 2 * i, bad[i].sector, bad[i].len);
		offer_write(m, 2 * i + 1, bad[i].sector, bad[i].len);
	}
	fake_queue_kick(m->queue);
	for (guint i = 0; i < 2 * G_N_ELEMENTS(bad); i++)
		assert_int_equal(*status(m, i), VIRTIO_BLK_S_IOERR);
	assert_int_equal(m->slow.waiting->len, 0);
	assert_false(is_broken(m));
	assert_int_equal(fake_event_count(m->fake, VMM_EVENT_DISK_ERROR), 0);
	vmm_block_get_counters(m->block, &counters);
	assert_int_equal(counters.errors, 2 * G_N_ELEMENTS(bad));
	machine_free(m);
}

static void a_request_above_the_limit_is_refused(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	guint64 big = fake_alloc(m->fake, (4 << 20) + 512, 4096);

	offer(m, 0, VIRTIO_BLK_T_IN, 0, big, (4 << 20) + 512, TRUE);
	offer(m, 1, VIRTIO_BLK_T_IN, 0, big, 4 << 20, TRUE);
	fake_queue_kick(m->queue);
	assert_int_equal(*status(m, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(m->slow.waiting->len, 1);
	fake_disk_complete_all(&m->slow);
	assert_int_equal(*status(m, 1), VIRTIO_BLK_S_OK);
	machine_free(m);
}

static void a_request_without_header_or_status_breaks_the_device(void **unused)
{
	for (guint i = 0; i < 3; i++) {
		struct machine *m = machine_new(FALSE, ALL);
		struct fake_buffer buffers[] = { { m->header, i == 0 ? 15 : 16, FALSE },
						 { m->status, 1, TRUE } };

		offer_read(m, 4, 0, 512);
		/* Without out, without in, and with a header that is cut off. */
		if (i == 1)
			fake_queue_add(m->queue, buffers, 1);
		else
			fake_queue_add(m->queue, buffers + (i == 2), i == 2 ? 1 : 2);
		fake_queue_kick(m->queue);
		assert_true(is_broken(m));
		assert_int_equal(fake_event_count(m->fake, VMM_EVENT_DEVICE_BROKEN), 1);
		/* Whatever was in flight is gone with it. */
		assert_int_equal(m->slow.waiting->len, 0);
		assert_int_equal(m->slow.forgotten, 1);
		/* And it works again after a reset. */
		fake_driver_start(&m->driver, ALL, 256);
		offer_read(m, 0, 0, 512);
		fake_queue_kick(m->queue);
		fake_disk_complete_all(&m->slow);
		assert_int_equal(*status(m, 0), VIRTIO_BLK_S_OK);
		machine_free(m);
	}
}

static void a_request_that_is_in_flight_cannot_be_offered_again(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	guint16 head = offer_read(m, 0, 0, 512);

	fake_queue_kick(m->queue);
	assert_int_equal(m->slow.waiting->len, 1);
	fake_queue_offer(m->queue, head);
	fake_queue_kick(m->queue);
	assert_true(is_broken(m));
	assert_int_equal(m->slow.waiting->len, 0);
	machine_free(m);
}

static void a_read_only_disk_refuses_to_be_changed(void **unused)
{
	struct machine *m = machine_new(TRUE, ALL);
	guint64 offered = fake_driver_offered(&m->driver);

	assert_true(offered & BIT(RO));
	assert_false(offered & (BIT(DISCARD) | BIT(WRITE_ZEROES)));
	offer_write(m, 0, 0, 512);
	offer(m, 1, VIRTIO_BLK_T_DISCARD, 0, m->data, 16, FALSE);
	offer(m, 2, VIRTIO_BLK_T_WRITE_ZEROES, 0, m->data, 16, FALSE);
	offer_read(m, 3, 0, 512);
	offer(m, 4, VIRTIO_BLK_T_FLUSH, 0, 0, 0, FALSE);
	fake_queue_kick(m->queue);
	assert_int_equal(*status(m, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(*status(m, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(*status(m, 2), VIRTIO_BLK_S_UNSUPP);
	fake_disk_complete_all(&m->slow);
	assert_int_equal(*status(m, 3), VIRTIO_BLK_S_OK);
	assert_int_equal(*status(m, 4), VIRTIO_BLK_S_OK);
	machine_free(m);
}

static void put_segment(struct machine *m, guint64 at, guint64 sector, guint32 sectors,
			guint32 flags)
{
	struct virtio_blk_discard_write_zeroes segment = { sector, sectors, flags };

	memcpy(fake_at(m->fake, at, 16), &segment, 16);
}

static void discards_and_zeroes_reach_the_disk(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);

	put_segment(m, m->data, 8, 16, 0);
	put_segment(m, m->data + 16, 64, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	offer(m, 0, VIRTIO_BLK_T_DISCARD, 0, m->data, 16, FALSE);
	offer(m, 1, VIRTIO_BLK_T_WRITE_ZEROES, 0, m->data + 16, 16, FALSE);
	fake_queue_kick(m->queue);
	assert_int_equal(m->slow.waiting->len, 2);

	const struct vmm_disk_request *discard = m->slow.waiting->pdata[0];
	const struct vmm_disk_request *zeroes = m->slow.waiting->pdata[1];

	assert_int_equal(discard->op, VMM_DISK_DISCARD);
	assert_int_equal(discard->offset, 4096);
	assert_int_equal(discard->len, 8192);
	assert_int_equal(zeroes->op, VMM_DISK_ZEROES);
	assert_true(zeroes->unmap);
	fake_disk_complete_all(&m->slow);
	assert_int_equal(*status(m, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(*status(m, 1), VIRTIO_BLK_S_OK);
	machine_free(m);
}

static void a_discard_is_judged(void **unused)
{
	static const struct {
		guint64 sector;
		guint32 sectors, flags, len, type;
		guint8 status;
	} bad[] = {
		{ DISK_BYTES / 512, 1, 0, 16, VIRTIO_BLK_T_DISCARD,
		  VIRTIO_BLK_S_IOERR },
		{ 1, DISK_BYTES / 512, 0, 16, VIRTIO_BLK_T_DISCARD,
		  VIRTIO_BLK_S_IOERR },
		{ 0, G_MAXUINT32, 0, 16, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_S_IOERR },
		{ G_MAXUINT64, 2, 0, 16, VIRTIO_BLK_T_WRITE_ZEROES,
		  VIRTIO_BLK_S_IOERR },
		{ 0, 1, 1, 16, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_S_UNSUPP },
		{ 0, 1, 2, 16, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_S_UNSUPP },
		{ 0, 1, 0, 15, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_S_IOERR },
		{ 0, 1, 0, 32, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_S_IOERR },
		{ 0, 0, 0, 16, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_S_IOERR },
	};
	struct machine *m = machine_new(FALSE, ALL);

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		put_segment(m, m->data + 64 * i, bad[i].sector, bad[i].sectors,
			    bad[i].flags);
		offer(m, i, bad[i].type, 0, m->data + 64 * i, bad[i].len, FALSE);
	}
	fake_queue_kick(m->queue);
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
		assert_int_equal(*status(m, i), bad[i].status);
	assert_int_equal(m->slow.waiting->len, 0);
	machine_free(m);
}

static void the_serial_number_can_be_asked_for(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);

	memset(fake_at(m->fake, m->data, 32), 0xff, 32);
	offer(m, 0, VIRTIO_BLK_T_GET_ID, 0, m->data, 20, TRUE);
	offer(m, 1, VIRTIO_BLK_T_GET_ID, 0, m->data + 64, 4, TRUE);
	fake_queue_kick(m->queue);
	assert_int_equal(*status(m, 0), VIRTIO_BLK_S_OK);
	assert_memory_equal(fake_at(m->fake, m->data, 20),
			    "serial-1\0\0\0\0\0\0\0\0\0\0\0", 20);
	assert_memory_equal(fake_at(m->fake, m->data + 64, 5), "seri\0", 5);
	machine_free(m);
}

static void an_unknown_request_is_unsupported(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);

	offer(m, 0, VIRTIO_BLK_T_SECURE_ERASE, 0, m->data, 16, FALSE);
	offer(m, 1, 0xdeadbeef, 0, 0, 0, FALSE);
	fake_queue_kick(m->queue);
	assert_int_equal(*status(m, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(*status(m, 1), VIRTIO_BLK_S_UNSUPP);
	machine_free(m);
}

static void without_flush_each_write_is_flushed_before_it_completes(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL & ~BIT(FLUSH));

	offer_write(m, 0, 0, 512);
	fake_queue_kick(m->queue);
	fake_disk_complete(&m->slow, 0);
	assert_int_equal(*status(m, 0), 0xee);
	assert_int_equal(m->slow.waiting->len, 1);
	fake_disk_complete(&m->slow, 0);
	assert_int_equal(m->slow.flushes, 1);
	assert_int_equal(*status(m, 0), VIRTIO_BLK_S_OK);
	machine_free(m);
}

static void buffers_in_use_are_bounded_and_completions_resume(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);

	/* 40 of 1 MiB, of which 32 fit. */
	for (guint i = 0; i < 40; i++)
		offer_read(m, i, 0, 1 << 20);
	fake_queue_kick(m->queue);
	assert_int_equal(m->slow.waiting->len, 32);
	fake_disk_complete(&m->slow, 5);
	assert_int_equal(m->slow.waiting->len, 32);
	fake_disk_complete_all(&m->slow);
	for (guint i = 0; i < 40; i++)
		assert_int_equal(*status(m, i), VIRTIO_BLK_S_OK);
	/* And goes on afterwards. */
	offer_read(m, 40, 0, 512);
	fake_queue_kick(m->queue);
	fake_disk_complete_all(&m->slow);
	assert_int_equal(*status(m, 40), VIRTIO_BLK_S_OK);
	machine_free(m);
}

static void a_batch_takes_one_submission_and_one_interrupt(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL & ~VMM_VIRTIO_F_EVENT_IDX);

	for (guint i = 0; i < 10; i++)
		offer_read(m, i, i, 512);
	fake_forget(m->fake);
	m->slow.submissions = 0;
	fake_queue_kick(m->queue);
	assert_int_equal(m->slow.submissions, 1);
	for (guint i = 0; i < 10; i++) {
		struct vmm_disk_request *request =
			g_ptr_array_steal_index(m->slow.waiting, 0);

		request->done(request, 0);
	}
	assert_int_equal(m->fake->msis->len, 0);
	m->slow.disk.batch_done(m->slow.disk.user);
	assert_int_equal(m->fake->msis->len, 1);
	machine_free(m);
}

static void errors_of_the_host_are_told_once_a_second(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);

	m->slow.result = -EIO;
	for (guint i = 0; i < 20; i++)
		offer_write(m, i, i, 512);
	fake_queue_kick(m->queue);
	fake_disk_complete_all(&m->slow);
	for (guint i = 0; i < 20; i++)
		assert_int_equal(*status(m, i), VIRTIO_BLK_S_IOERR);
	assert_int_equal(fake_event_count(m->fake, VMM_EVENT_DISK_ERROR), 1);
	machine_free(m);
}

static gboolean sync_fails(void *data, GError **error)
{
	return vmm_error_set(error, VMM_ERROR_HOST, "broken");
}

static void a_sync_is_the_disks_where_it_has_one(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	g_autoptr(GError) error = NULL;

	m->slow.disk.sync = NULL;
	assert_true(vmm_block_sync(m->block, NULL));
	m->slow.disk.sync = sync_fails;
	assert_false(vmm_block_sync(m->block, &error));
	assert_non_null(error);
	machine_free(m);
}

static void requests_in_flight_are_issued_again_by_who_loads_them(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	g_autoptr(vmm_state) state = vmm_state_new();
	guint8 *data = fake_at(m->fake, m->data, 4096);

	memset(data, 7, 4096);
	offer_write(m, 0, 0, 4096);
	offer(m, 1, VIRTIO_BLK_T_IN, 100, m->data + 8192, 512, TRUE);
	offer_write(m, 2, 16, 512);
	fake_queue_kick(m->queue);
	fake_disk_complete(&m->slow, 1);
	assert_int_equal(*status(m, 1), VIRTIO_BLK_S_OK);
	vmm_virtio_save(vmm_block_virtio(m->block), state);

	/* Another machine with the same memory, as after a failover. */
	struct machine *other = machine_new(FALSE, ALL);

	memcpy(fake_at(other->fake, 0, 16 << 20), fake_at(m->fake, 0, 16 << 20),
	       16 << 20);
	apply(other, state);
	assert_int_equal(other->slow.waiting->len, 0);
	go_on(other);
	assert_int_equal(other->slow.waiting->len, 2);
	/* In the order in which they were taken. */
	assert_int_equal(
		((struct vmm_disk_request *)other->slow.waiting->pdata[0])->offset, 0);
	assert_int_equal(
		((struct vmm_disk_request *)other->slow.waiting->pdata[1])->offset,
		16 * 512);
	fake_disk_complete_all(&other->slow);
	assert_int_equal(*status(other, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(*status(other, 2), VIRTIO_BLK_S_OK);
	assert_int_equal(other->slow.bytes[4095], 7);
	assert_int_equal(fake_queue_used_idx(other->queue), 3);
	machine_free(other);
	machine_free(m);
}

static void saving_twice_gives_the_same_bytes(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	g_autoptr(vmm_state) a = vmm_state_new();
	g_autoptr(vmm_state) b = vmm_state_new();
	g_autoptr(vmm_state) c = vmm_state_new();
	g_autofree char *difference = NULL;

	for (guint i = 0; i < 5; i++)
		offer_write(m, i, i, 512);
	fake_queue_kick(m->queue);
	fake_disk_complete(&m->slow, 2);
	vmm_virtio_save(vmm_block_virtio(m->block), a);
	vmm_virtio_save(vmm_block_virtio(m->block), b);
	difference = vmm_state_difference(a, b);
	assert_null(difference);
	/* Nor does it matter whether what was loaded was issued yet. */
	apply(m, a);
	vmm_virtio_save(vmm_block_virtio(m->block), c);
	difference = vmm_state_difference(a, c);
	assert_null(difference);
	go_on(m);
	vmm_state_reset(c);
	vmm_virtio_save(vmm_block_virtio(m->block), c);
	/* The rest may differ: loading raises every interrupt once more. */
	assert_memory_equal(vmm_state_get(a, "block", 0, 1, 516, 516, NULL, NULL),
			    vmm_state_get(c, "block", 0, 1, 516, 516, NULL, NULL), 516);
	machine_free(m);
}

static void loading_over_a_live_machine_forgets_what_is_in_flight(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	g_autoptr(vmm_state) state = vmm_state_new();

	offer_write(m, 0, 0, 512);
	fake_queue_kick(m->queue);
	vmm_virtio_save(vmm_block_virtio(m->block), state);
	offer_write(m, 1, 1, 512);
	fake_queue_kick(m->queue);
	assert_int_equal(m->slow.waiting->len, 2);
	apply(m, state);
	assert_int_equal(m->slow.forgotten, 2);
	assert_int_equal(m->slow.waiting->len, 0);
	go_on(m);
	/* The one that was in flight then; the other is offered anew by the ring. */
	assert_int_equal(m->slow.waiting->len, 2);
	fake_disk_complete_all(&m->slow);
	assert_int_equal(*status(m, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(*status(m, 1), VIRTIO_BLK_S_OK);
	machine_free(m);
}

static void a_reset_forgets_what_is_in_flight(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);

	for (guint i = 0; i < 3; i++)
		offer_write(m, i, i, 512);
	fake_queue_kick(m->queue);
	fake_driver_set_status(&m->driver, 0);
	assert_int_equal(m->slow.forgotten, 3);
	assert_int_equal(*status(m, 0), 0xee);
	machine_free(m);
}

static void a_state_that_cannot_be_is_refused(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	const guint16 twice[] = { 3, 4, 3 };
	const guint16 beyond[] = { 256 };
	const guint16 padding[] = { 1, 2 };
	g_autoptr(vmm_state) good = forge(m, twice, 2, 2);
	g_autoptr(vmm_state) a = forge(m, twice, 3, 3);
	g_autoptr(vmm_state) b = forge(m, beyond, 1, 1);
	g_autoptr(vmm_state) c = forge(m, padding, 2, 1);
	g_autoptr(vmm_state) d = forge(m, NULL, 0, 257);

	assert_true(check(m, good));
	assert_false(check(m, a));
	assert_false(check(m, b));
	assert_false(check(m, c));
	assert_false(check(m, d));
	machine_free(m);
}

static void a_loaded_request_that_is_no_chain_breaks_the_device(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	const guint16 heads[] = { 9 };
	g_autoptr(vmm_state) state = forge(m, heads, 1, 1);

	fake_queue_set_desc(m->queue, 9, G_MAXUINT64 - 4, 512, FAKE_DESC_WRITE, 0);
	apply(m, state);
	go_on(m);
	assert_true(is_broken(m));
	machine_free(m);
}

static void loaded_requests_are_bounded_too(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	g_autoptr(vmm_state) state = vmm_state_new();

	for (guint i = 0; i < 32; i++)
		offer_read(m, i, 0, 1 << 20);
	fake_queue_kick(m->queue);
	vmm_virtio_save(vmm_block_virtio(m->block), state);
	/* The driver makes them larger while nobody looks. */
	for (guint i = 0; i < 32; i++)
		fake_queue_set_desc(m->queue, 3 * i + 1, m->data, 4 << 20,
				    FAKE_DESC_NEXT | FAKE_DESC_WRITE,
				    (guint16)(3 * i + 2));
	apply(m, state);
	go_on(m);
	assert_int_equal(m->slow.waiting->len, 8);
	fake_disk_complete_all(&m->slow);
	for (guint i = 0; i < 32; i++)
		assert_int_equal(*status(m, i), VIRTIO_BLK_S_OK);
	machine_free(m);
}

static void the_configuration_tells_limits_and_size(void **unused)
{
	struct machine *m = machine_new(FALSE, ALL);
	struct virtio_blk_config config = { 0 };

	fake_config_read(&m->driver, 0, &config, 60);
	assert_int_equal(config.capacity, DISK_BYTES / 512);
	assert_int_equal(config.blk_size, 512);
	assert_true((guint64)config.seg_max * config.size_max <= 4 << 20);
	assert_int_equal(config.max_discard_seg, 1);
	assert_int_equal(config.write_zeroes_may_unmap, 1);
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_can_be_read_again),
		cmocka_unit_test(what_the_device_writes_is_marked),
		cmocka_unit_test(pieces_of_any_shape_make_a_request),
		cmocka_unit_test(a_range_outside_the_disk_is_refused),
		cmocka_unit_test(a_request_above_the_limit_is_refused),
		cmocka_unit_test(a_request_without_header_or_status_breaks_the_device),
		cmocka_unit_test(a_request_that_is_in_flight_cannot_be_offered_again),
		cmocka_unit_test(a_read_only_disk_refuses_to_be_changed),
		cmocka_unit_test(discards_and_zeroes_reach_the_disk),
		cmocka_unit_test(a_discard_is_judged),
		cmocka_unit_test(the_serial_number_can_be_asked_for),
		cmocka_unit_test(an_unknown_request_is_unsupported),
		cmocka_unit_test(
			without_flush_each_write_is_flushed_before_it_completes),
		cmocka_unit_test(buffers_in_use_are_bounded_and_completions_resume),
		cmocka_unit_test(a_batch_takes_one_submission_and_one_interrupt),
		cmocka_unit_test(errors_of_the_host_are_told_once_a_second),
		cmocka_unit_test(a_sync_is_the_disks_where_it_has_one),
		cmocka_unit_test(requests_in_flight_are_issued_again_by_who_loads_them),
		cmocka_unit_test(saving_twice_gives_the_same_bytes),
		cmocka_unit_test(loading_over_a_live_machine_forgets_what_is_in_flight),
		cmocka_unit_test(a_reset_forgets_what_is_in_flight),
		cmocka_unit_test(a_state_that_cannot_be_is_refused),
		cmocka_unit_test(a_loaded_request_that_is_no_chain_breaks_the_device),
		cmocka_unit_test(loaded_requests_are_bounded_too),
		cmocka_unit_test(the_configuration_tells_limits_and_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
