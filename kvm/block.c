/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-blk with one queue.
 *
 * Every request gets a buffer of the device's own. Data to be written is copied out of
 * guest memory when the request is taken, data that was read is copied in when it
 * completes: both with the device lock, so that while the machine is paused nothing
 * writes to its memory, and what the driver changes after it notified is not seen half.
 *
 * `in_flight` holds every request that was taken and not returned, in the order taken.
 * Its heads are what is saved. Whoever loads them takes each chain from the ring's
 * descriptors again, as if it had just been offered: reads, writes, flushes and zeroing
 * can be done twice. That is bounded like everything else: as long as BYTES_MAX are
 * out, the rest of `in_flight` (and then of the ring) waits for completions.
 *
 * A driver that does not negotiate FLUSH expects that what was written is durable
 * (5.2.6): each of its writes is followed by a flush before it completes.
 *
 * What the disk fails is the guest's to handle (S_IOERR), and an event, at most one a
 * second. What the driver asks against the rules of the device is S_IOERR or S_UNSUPP,
 * and no event; chains that cannot even carry a status break the device.
 */
#include "kvm/block.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "base/ratelimit.h"
#include "kvm/error.h"
#include "kvm/iov.h"

#define QUEUE 0
/* Requests taken in one run of a handler. */
#define BATCH 64
/* A chain has two buffers besides data. Linux stays below the product of the two. */
#define SEGMENTS_MAX (VMM_CHAIN_MAX - 2)
#define SEGMENT_MAX (16u << 10)
#define REQUEST_MAX (4u << 20)
G_STATIC_ASSERT(SEGMENTS_MAX *SEGMENT_MAX <= REQUEST_MAX);
/* Of buffers, with requests out at the disk. */
#define BYTES_MAX (32u << 20)
/* Of buffers kept for the next request. */
#define KEPT_MAX (8u << 20)
#define DISCARD_MAX (1u << 30) /* bytes of one discard or write-zeroes */
/* A file system's block: less than that is not freed. */
#define DISCARD_ALIGNMENT 4096u

#define BUFFER_SHIFT 12	  /* the smallest buffer: a page */
#define BUFFER_CLASSES 11 /* doubling up to REQUEST_MAX */
G_STATIC_ASSERT((1u << (BUFFER_SHIFT + BUFFER_CLASSES - 1)) == REQUEST_MAX);

#define BIT(name) (1ull << VIRTIO_BLK_F_##name)

struct request {
	/* First: a forgotten request is freed by the disk as this. */
	struct vmm_disk_request disk;
	vmm_block *block;
	GList link;	     /* in `in_flight` */
	enum vmm_disk_op op; /* as asked for; `disk.op` may have moved on to FLUSH */
	guint16 head;
	gsize room;	/* bytes of the buffer */
	guint32 in_len; /* of the chain's in-buffers */
	guint8 *status; /* their last byte, in guest memory */
	guint n_in;	/* READ: where the data goes, in guest memory */
	struct iovec in[];
};

struct vmm_block {
	vmm_virtio *virtio;
	const struct vmm_platform *platform;
	struct vmm_disk *disk;
	guint instance;
	char *name;			  /* "block0": for events */
	char serial[VIRTIO_BLK_ID_BYTES]; /* padded with NUL; may fill the field */
	GQueue in_flight;		  /* struct request, in the order taken */
	/* Heads that were loaded and not yet taken again: from `next_loaded` on. The
	 * ring is looked at only after them. */
	guint16 loaded[VMM_QUEUE_SIZE_MAX];
	guint n_loaded, next_loaded;
	gboolean taken[VMM_QUEUE_SIZE_MAX]; /* by head: in one of the two */
	gboolean full;			    /* BYTES_MAX are out: completions resume */
	gboolean submitted;		    /* flush_submissions() is due */
	gsize bytes_out, bytes_kept;
	GPtrArray *kept[BUFFER_CLASSES];
	struct vmm_block_counters counters;
	struct base_ratelimit errors_told;
	struct vmm_chain chain; /* too big for the stack; used within one call */
};

/* Buffers. */

static guint buffer_class(gsize len)
{
	guint class_ = 0;

	while (((gsize)1 << (BUFFER_SHIFT + class_)) < len)
		class_++;
	return class_;
}

static guint8 *get_buffer(vmm_block *block, gsize room)
{
	GPtrArray *kept = block->kept[buffer_class(room)];
	void *buffer = NULL;

	if (kept->len) {
		block->bytes_kept -= room;
		return g_ptr_array_steal_index_fast(kept, kept->len - 1);
	}
	if (posix_memalign(&buffer, 1u << BUFFER_SHIFT, room))
		g_error("out of memory");
	return buffer;
}

static void put_buffer(vmm_block *block, guint8 *buffer, gsize room)
{
	if (!buffer)
		return;
	if (block->bytes_kept + room > KEPT_MAX) {
		free(buffer);
		return;
	}
	block->bytes_kept += room;
	g_ptr_array_add(block->kept[buffer_class(room)], buffer);
}

/* The end of a request. */

static void return_chain(vmm_block *block, guint16 head, guint8 *status_at,
			 guint32 in_len, guint8 status)
{
	*status_at = status;
	vmm_memory_mark_host(block->platform->memory, status_at, 1);
	if (status != VIRTIO_BLK_S_OK)
		block->counters.errors++;
	block->taken[head] = FALSE;
	vmm_queue_push_head(vmm_virtio_queue(block->virtio, QUEUE), head, in_len);
}

static guint8 *status_of(const struct vmm_chain *chain)
{
	const struct iovec *last = VMM_CHAIN_IN(chain) + chain->n_in - 1;

	return (guint8 *)last->iov_base + last->iov_len - 1;
}

/* A request that needs no disk, or must not have it. */
static void answer(vmm_block *block, const struct vmm_chain *chain, guint8 status)
{
	return_chain(block, chain->head, status_of(chain), (guint32)chain->in_len,
		     status);
}

static void count(vmm_block *block, const struct request *request)
{
	switch (request->op) {
	case VMM_DISK_READ:
		block->counters.reads++;
		block->counters.read_bytes += request->disk.len;
		break;
	case VMM_DISK_WRITE:
		block->counters.writes++;
		block->counters.written_bytes += request->disk.len;
		break;
	case VMM_DISK_FLUSH:
		block->counters.flushes++;
		break;
	case VMM_DISK_DISCARD:
	case VMM_DISK_ZEROES:
		block->counters.discards++;
		break;
	}
}

gboolean vmm_disk_is_whole(const struct vmm_disk *disk, const struct vmm_disk_request *request)
{
	return (request->offset | request->len) % disk->block_size == 0;
}

static void report_error(vmm_block *block, const struct request *request, int err)
{
	static const char *const names[] = {
		[VMM_DISK_READ] = "read",      [VMM_DISK_WRITE] = "write",
		[VMM_DISK_FLUSH] = "flush",    [VMM_DISK_DISCARD] = "discard",
		[VMM_DISK_ZEROES] = "zeroing",
	};
	g_autofree char *detail = NULL;
	guint left_out;

	/* Not the host's failure: the driver was told the block size. */
	if (err == EINVAL && !vmm_disk_is_whole(block->disk, &request->disk))
		return;
	if (!base_ratelimit_pass(&block->errors_told, &left_out))
		return;
	detail = g_strdup_printf(
		"%s of %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT
		": %s (and %u more before)",
		names[request->op], request->disk.len, request->disk.offset,
		g_strerror(err), left_out);
	block->platform->event(block->platform->host, VMM_EVENT_DISK_ERROR, block->name,
			       detail);
}

static gboolean is_write_through(const vmm_block *block)
{
	return !(vmm_virtio_features(block->virtio) & BIT(FLUSH));
}

static void submit(vmm_block *block, struct request *request)
{
	block->disk->submit(block->disk->data, &request->disk);
	block->submitted = TRUE;
}

static void on_done(struct vmm_disk_request *disk_request, int result)
{
	struct request *request = (struct request *)disk_request;
	vmm_block *block = request->block;

	if (result == 0 && request->op != VMM_DISK_READ && is_write_through(block) &&
	    request->disk.op != VMM_DISK_FLUSH) {
		request->disk.op = VMM_DISK_FLUSH;
		submit(block, request);
		return;
	}
	if (result == 0 && request->op == VMM_DISK_READ) {
		vmm_iov_write(request->in, request->n_in, 0, request->disk.buffer,
			      request->disk.len);
		vmm_iov_mark(block->platform->memory, request->in, request->n_in,
			     request->disk.len);
	}
	if (result == 0)
		count(block, request);
	else
		report_error(block, request, -result);
	g_queue_unlink(&block->in_flight, &request->link);
	return_chain(block, request->head, request->status, request->in_len,
		     result == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
	block->bytes_out -= request->room;
	put_buffer(block, request->disk.buffer, request->room);
	g_free(request);
}

/* Whatever is in flight belongs to a life of the device that has ended. */
static void forget_all(vmm_block *block)
{
	GList *link;

	while ((link = g_queue_pop_head_link(&block->in_flight))) {
		struct request *request = link->data;

		/* Frees the request, and the link with it, and the buffer. */
		block->disk->forget(block->disk->data, &request->disk);
	}
	memset(block->taken, 0, sizeof(block->taken));
	block->n_loaded = block->next_loaded = 0;
	block->bytes_out = 0;
	block->full = FALSE;
}

/* The beginning of a request. */

enum take {
	TAKEN,	 /* at the disk, or answered */
	FULL,	 /* no buffer now */
	NOTHING, /* no chain */
	BROKEN,
};

/* What a driver asks for, copied and judged. */
struct asked {
	enum vmm_disk_op op;
	guint64 offset, len;
	gboolean unmap;
};

/* S_OK if the range lies in the disk and consists of sectors. */
static guint8 judge_range(const vmm_block *block, guint64 sector, guint64 len,
			  struct asked *asked)
{
	guint64 sectors = block->disk->size / VMM_SECTOR;

	if (!len || len % VMM_SECTOR || sector > sectors ||
	    len / VMM_SECTOR > sectors - sector)
		return VIRTIO_BLK_S_IOERR;
	asked->offset = sector * VMM_SECTOR;
	asked->len = len;
	return VIRTIO_BLK_S_OK;
}

static guint8 judge_data(const vmm_block *block, enum vmm_disk_op op, guint64 sector,
			 guint64 len, struct asked *asked)
{
	if (len > REQUEST_MAX || (op == VMM_DISK_WRITE && block->disk->readonly))
		return VIRTIO_BLK_S_IOERR;
	asked->op = op;
	return judge_range(block, sector, len, asked);
}

static guint8 judge_zeroing(const vmm_block *block, enum vmm_disk_op op,
			    const struct vmm_chain *chain, struct asked *asked)
{
	struct virtio_blk_discard_write_zeroes segment;
	guint64 len;
	guint32 flags;

	if (op == VMM_DISK_DISCARD ? !block->disk->can_discard : !block->disk->can_zero)
		return VIRTIO_BLK_S_UNSUPP;
	if (block->disk->readonly ||
	    chain->out_len != sizeof(struct virtio_blk_outhdr) + sizeof(segment))
		return VIRTIO_BLK_S_IOERR;
	vmm_iov_read(VMM_CHAIN_OUT(chain), chain->n_out,
		     sizeof(struct virtio_blk_outhdr), &segment, sizeof(segment));
	len = (guint64)GUINT32_FROM_LE(segment.num_sectors) * VMM_SECTOR;
	flags = GUINT32_FROM_LE(segment.flags);
	if (flags & ~(op == VMM_DISK_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
		return VIRTIO_BLK_S_UNSUPP;
	if (len > DISCARD_MAX)
		return VIRTIO_BLK_S_IOERR;
	asked->op = op;
	asked->unmap = flags != 0;
	return judge_range(block, GUINT64_FROM_LE(segment.sector), len, asked);
}

/* S_OK, or the status that refuses it. */
static guint8 judge(const vmm_block *block, const struct vmm_chain *chain, guint32 type,
		    guint64 sector, struct asked *asked)
{
	switch (type) {
	case VIRTIO_BLK_T_IN:
		return judge_data(block, VMM_DISK_READ, sector, chain->in_len - 1,
				  asked);
	case VIRTIO_BLK_T_OUT:
		return judge_data(block, VMM_DISK_WRITE, sector,
				  chain->out_len - sizeof(struct virtio_blk_outhdr),
				  asked);
	case VIRTIO_BLK_T_FLUSH:
		asked->op = VMM_DISK_FLUSH;
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_DISCARD:
		return judge_zeroing(block, VMM_DISK_DISCARD, chain, asked);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return judge_zeroing(block, VMM_DISK_ZEROES, chain, asked);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

static void answer_id(vmm_block *block, const struct vmm_chain *chain)
{
	gsize len = vmm_iov_write(VMM_CHAIN_IN(chain), chain->n_in, 0, block->serial,
				  MIN(chain->in_len - 1, sizeof(block->serial)));

	vmm_iov_mark(block->platform->memory, VMM_CHAIN_IN(chain), chain->n_in, len);
	answer(block, chain, VIRTIO_BLK_S_OK);
}

static enum take issue(vmm_block *block, const struct vmm_chain *chain,
		       const struct asked *asked)
{
	gboolean has_data = asked->op == VMM_DISK_READ || asked->op == VMM_DISK_WRITE;
	guint n_in = asked->op == VMM_DISK_READ ? chain->n_in : 0;
	gsize room = 0;
	struct request *request;

	if (has_data) {
		room = (gsize)1 << (BUFFER_SHIFT + buffer_class(asked->len));
		if (block->bytes_out + room > BYTES_MAX)
			return FULL;
	}
	request = g_malloc0(sizeof(*request) + n_in * sizeof(struct iovec));
	request->disk = (struct vmm_disk_request){
		.op = asked->op,
		.offset = asked->offset,
		.len = asked->len,
		.unmap = asked->unmap,
		.done = on_done,
	};
	request->block = block;
	request->link.data = request;
	request->op = asked->op;
	request->head = chain->head;
	request->in_len = (guint32)chain->in_len;
	request->status = status_of(chain);
	if (n_in)
		request->n_in = vmm_iov_slice(VMM_CHAIN_IN(chain), n_in, 0, asked->len,
					      request->in);
	if (has_data) {
		request->room = room;
		request->disk.buffer = get_buffer(block, room);
		block->bytes_out += room;
	}
	if (asked->op == VMM_DISK_WRITE)
		vmm_iov_read(VMM_CHAIN_OUT(chain), chain->n_out,
			     sizeof(struct virtio_blk_outhdr), request->disk.buffer,
			     asked->len);
	block->taken[chain->head] = TRUE;
	g_queue_push_tail_link(&block->in_flight, &request->link);
	submit(block, request);
	return TAKEN;
}

static enum take take_chain(vmm_block *block, const struct vmm_chain *chain)
{
	struct virtio_blk_outhdr header;
	struct asked asked = { 0 };
	guint32 type;
	guint8 status;

	if (chain->out_len < sizeof(header) || !chain->in_len) {
		vmm_virtio_break(block->virtio, "a request has no header or no status");
		return BROKEN;
	}
	vmm_iov_read(VMM_CHAIN_OUT(chain), chain->n_out, 0, &header, sizeof(header));
	type = GUINT32_FROM_LE(header.type);
	if (type == VIRTIO_BLK_T_GET_ID) {
		answer_id(block, chain);
		return TAKEN;
	}
	status = judge(block, chain, type, GUINT64_FROM_LE(header.sector), &asked);
	if (status == VIRTIO_BLK_S_OK)
		return issue(block, chain, &asked);
	answer(block, chain, status);
	return TAKEN;
}

/* The next request that was in flight when the state was saved. */
static enum take take_loaded(vmm_block *block)
{
	struct vmm_queue *queue = vmm_virtio_queue(block->virtio, QUEUE);
	enum take take;

	if (vmm_queue_chain_at(queue, block->loaded[block->next_loaded],
			       &block->chain) != VMM_POP_CHAIN)
		return BROKEN;
	take = take_chain(block, &block->chain);
	if (take == TAKEN)
		block->next_loaded++;
	return take;
}

/* The next request in the ring. */
static enum take take_offered(vmm_block *block)
{
	struct vmm_queue *queue = vmm_virtio_queue(block->virtio, QUEUE);
	enum vmm_pop pop = vmm_queue_pop(queue, &block->chain);
	enum take take;

	if (pop == VMM_POP_EMPTY) {
		/* Asked before the second look, or a chain added between the two would
		 * lie there unseen. */
		vmm_queue_want_kicks(queue, TRUE);
		pop = vmm_queue_pop(queue, &block->chain);
		if (pop == VMM_POP_EMPTY)
			return NOTHING;
		vmm_queue_want_kicks(queue, FALSE);
	}
	if (pop == VMM_POP_BROKEN)
		return BROKEN;
	if (block->taken[block->chain.head]) {
		vmm_virtio_break(block->virtio, "a request is offered twice");
		return BROKEN;
	}
	take = take_chain(block, &block->chain);
	if (take == FULL)
		vmm_queue_unpop(queue, 1);
	return take;
}

/* Takes what there is, up to a batch. */
static void run(vmm_block *block)
{
	enum take take = TAKEN;

	if (!vmm_virtio_running(block->virtio))
		return;
	vmm_queue_want_kicks(vmm_virtio_queue(block->virtio, QUEUE), FALSE);
	for (guint n = 0; n < BATCH && take == TAKEN; n++) {
		if (vmm_loop_wanted(block->platform->loop))
			break;
		take = block->next_loaded < block->n_loaded ? take_loaded(block)
							    : take_offered(block);
	}
	block->full = take == FULL;
	if (take == TAKEN)
		vmm_virtio_again(block->virtio, QUEUE);
}

/* After everything that may have submitted or pushed. */
static void settle(vmm_block *block)
{
	if (block->submitted) {
		block->submitted = FALSE;
		block->disk->flush_submissions(block->disk->data);
	}
	/* Last: it may find the queue broken and stop the device. */
	vmm_virtio_signal(block->virtio, QUEUE);
}

static void on_batch_done(void *user)
{
	vmm_block *block = user;

	if (block->full)
		run(block);
	settle(block);
}

/* The device's class. */

static void config_read(void *data, guint offset, void *buf, guint len)
{
	const vmm_block *block = data;
	const struct vmm_disk *disk = block->disk;
	struct virtio_blk_config config = {
		.capacity = GUINT64_TO_LE(disk->size / VMM_SECTOR),
		.size_max = GUINT32_TO_LE(SEGMENT_MAX),
		.seg_max = GUINT32_TO_LE(SEGMENTS_MAX),
		.blk_size = GUINT32_TO_LE(disk->block_size),
		.num_queues = GUINT16_TO_LE(1),
	};

	if (disk->can_discard && !disk->readonly) {
		config.max_discard_sectors = GUINT32_TO_LE(DISCARD_MAX / VMM_SECTOR);
		config.max_discard_seg = GUINT32_TO_LE(1);
		config.discard_sector_alignment =
			GUINT32_TO_LE(DISCARD_ALIGNMENT / VMM_SECTOR);
	}
	if (disk->can_zero && !disk->readonly) {
		config.max_write_zeroes_sectors =
			GUINT32_TO_LE(DISCARD_MAX / VMM_SECTOR);
		config.max_write_zeroes_seg = GUINT32_TO_LE(1);
		config.write_zeroes_may_unmap = 1;
	}
	memcpy(buf, (guint8 *)&config + offset, len);
}

static void start(void *data)
{
	vmm_block *block = data;

	/* Some drivers notify before they set DRIVER_OK, which nobody heard. */
	vmm_virtio_again(block->virtio, QUEUE);
}

static void stop(void *data)
{
	forget_all(data);
}

static void kick(void *data, guint index)
{
	run(data);
	settle(data);
}

#define SAVED_VERSION 1

struct block_saved {
	wire_u32 count;
	wire_u16 heads[VMM_QUEUE_SIZE_MAX]; /* in the order taken; the rest is zero */
};
G_STATIC_ASSERT(sizeof(struct block_saved) == 516);

static const struct vmm_state_field block_fields[] = {
	VMM_STATE_FIELD(struct block_saved, count),
	VMM_STATE_FIELD(struct block_saved, heads),
	{ 0 },
};

static void save(void *data, vmm_state *state)
{
	const vmm_block *block = data;
	struct block_saved saved = { 0 };
	guint n = 0;

	/* Each has a head of its own, so they fit. */
	for (const GList *l = block->in_flight.head; l; l = l->next) {
		const struct request *request = l->data;

		saved.heads[n++] = wire_put16(request->head);
	}
	for (guint i = block->next_loaded; i < block->n_loaded; i++)
		saved.heads[n++] = wire_put16(block->loaded[i]);
	saved.count = wire_put32(n);
	vmm_state_put(state, "block", block->instance, SAVED_VERSION, &saved,
		      sizeof(saved), block_fields);
}

/* NULL, or what cannot be loaded. */
static const char *check_saved(const struct block_saved *saved)
{
	guint32 n = wire_get32(saved->count);
	gboolean seen[VMM_QUEUE_SIZE_MAX] = { 0 };

	if (n > VMM_QUEUE_SIZE_MAX)
		return "more requests are in flight than can be";
	for (guint i = 0; i < VMM_QUEUE_SIZE_MAX; i++) {
		guint16 head = wire_get16(saved->heads[i]);

		if (i >= n) {
			if (head)
				return "padding is not zero";
			continue;
		}
		if (head >= VMM_QUEUE_SIZE_MAX)
			return "a request in flight is out of range";
		if (seen[head])
			return "a request is in flight twice";
		seen[head] = TRUE;
	}
	return NULL;
}

static gboolean load(void *data, const vmm_state *state, enum vmm_load pass,
		     GError **error)
{
	vmm_block *block = data;
	const struct block_saved *saved =
		vmm_state_get(state, "block", block->instance, SAVED_VERSION,
			      sizeof(*saved), sizeof(*saved), NULL, error);
	const char *why;

	if (!saved)
		return FALSE;
	why = check_saved(saved);
	if (why)
		return vmm_error_set(error, VMM_ERROR_STATE, "saved block.%u: %s",
				     block->instance, why);
	if (pass == VMM_LOAD_CHECK)
		return TRUE;
	forget_all(block);
	/* A device that does not run has nothing in flight, whatever the state says. */
	if (!vmm_virtio_running(block->virtio))
		return TRUE;
	block->n_loaded = wire_get32(saved->count);
	for (guint i = 0; i < block->n_loaded; i++) {
		block->loaded[i] = wire_get16(saved->heads[i]);
		block->taken[block->loaded[i]] = TRUE;
	}
	return TRUE;
}

static void loaded(void *data)
{
	run(data);
	settle(data);
}

static const struct vmm_virtio_class block_class = {
	.name = "block",
	.type = VIRTIO_ID_BLOCK,
	.pci_class = 0x018000, /* mass storage, of no further kind */
	.queues = 1,
	.config_len =
		G_STRUCT_OFFSET(struct virtio_blk_config, write_zeroes_may_unmap) + 4,
	.config_read = config_read,
	.start = start,
	.stop = stop,
	.kick = kick,
	.save = save,
	.load = load,
	.loaded = loaded,
};

static guint64 offered(const struct vmm_disk *disk)
{
	guint64 features = BIT(SIZE_MAX) | BIT(SEG_MAX) | BIT(BLK_SIZE) | BIT(FLUSH);

	if (disk->readonly)
		return features | BIT(RO);
	if (disk->can_discard)
		features |= BIT(DISCARD);
	if (disk->can_zero)
		features |= BIT(WRITE_ZEROES);
	return features;
}

static void free_buffers(vmm_block *block)
{
	for (guint i = 0; i < BUFFER_CLASSES; i++)
		g_ptr_array_unref(block->kept[i]);
}

vmm_block *vmm_block_new_take(vmm_pci *pci, const struct vmm_platform *platform,
			      guint instance, const char *serial, struct vmm_disk *disk,
			      GError **error)
{
	vmm_block *block = g_new0(vmm_block, 1);

	block->platform = platform;
	block->disk = disk;
	block->instance = instance;
	block->name = g_strdup_printf("block%u", instance);
	if (serial)
		memcpy(block->serial, serial,
		       MIN(strlen(serial), sizeof(block->serial)));
	for (guint i = 0; i < BUFFER_CLASSES; i++)
		block->kept[i] = g_ptr_array_new_with_free_func(free);
	block->virtio = vmm_virtio_new(pci, platform, &block_class, instance,
				       offered(disk), block, error);
	if (!block->virtio) {
		vmm_block_free(block);
		return NULL;
	}
	disk->batch_done = on_batch_done;
	disk->user = block;
	return block;
}

void vmm_block_free(vmm_block *block)
{
	if (!block)
		return;
	vmm_virtio_free(block->virtio);
	forget_all(block);
	block->disk->free(block->disk->data);
	free_buffers(block);
	g_free(block->name);
	g_free(block);
}

vmm_virtio *vmm_block_virtio(vmm_block *block)
{
	return block->virtio;
}

const struct vmm_disk *vmm_block_disk(const vmm_block *block)
{
	return block->disk;
}

gboolean vmm_block_sync(vmm_block *block, GError **error)
{
	return !block->disk->sync || block->disk->sync(block->disk->data, error);
}

void vmm_block_get_counters(const vmm_block *block, struct vmm_block_counters *counters)
{
	*counters = block->counters;
	counters->in_flight =
		block->in_flight.length + block->n_loaded - block->next_loaded;
}
