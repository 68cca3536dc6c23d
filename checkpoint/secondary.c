/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The secondary's side of the epochs. */
#include "checkpoint/secondary.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/clock.h"
#include "checkpoint/fault.h"
#include "checkpoint/lanes.h"
#include "checkpoint/replica.h"
#include "checkpoint/verify.h"
#include "kvm/timer.h"

#define HELLO_MS 10000
/* A trim costs a walk over the pages' ages: not at every apply. */
#define TRIM_EVERY 64
/* From one look at how much the guest has written to the next. */
#define LOOK_MS 20

/* Where in the protocol we are: decides what may come. */
enum phase {
	FILLING, /* first sync: pages go into the base as they come; nothing runs */
	BETWEEN, /* the last checkpoint is applied */
	ARRIVING, /* after a CUT, before its END */
};

struct ckpt_secondary {
	vmm_machine *machine;
	vmm_memory *memory;
	struct ckpt_secondary_options options;
	struct ckpt_twin_streams streams;
	struct ckpt_secondary_hooks hooks;
	void *data;
	ckpt_link *link;
	ckpt_digester *digester;
	ckpt_replica *replica;
	ckpt_lanes *lanes;
	GMutex fill_turn; /* the fillers' */
	ckpt_filler *filler; /* of the link's share of first sync, until the first CUT */
	GArray *own_dirty; /* guint32 */

	/* Under the device lock. */
	guint asked; /* in this epoch: a bit per enum ckpt_reason */
	vmm_timer *look;
	GArray *looked; /* guint32 */

	/* Of the receiving thread. */
	enum phase phase;
	gboolean synced; /* what is written to the disks from here on is held */
	guint64 arriving; /* epoch */
	struct ckpt_cut cut;
	guint64 pages_in; /* pages and matched digests of this checkpoint */
	vmm_state *state; /* of the arriving checkpoint */
	GByteArray *state_bytes, *state_before; /* its bytes, and the last commit's */
	guint64 state_checksum;
	guint64 *verify; /* the primary's digests of its pages; NULL: not asked for */
	guint64 verify_in; /* how many came */
	GArray *verify_disk; /* struct ckpt_verify_range */

	GMutex lock; /* of what follows */
	guint64 committed; /* the last of which COMMITTED was said */
	guint64 epoch; /* the last that was applied */
	gboolean handed; /* the last commit is the primary's last */
	gboolean failed; /* an apply went wrong half-way: nothing here can run */
};

static gboolean foul(GError **error, const char *what)
{
	g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL, "the primary sent %s", what);
	return FALSE;
}

/* Asking for checkpoints. */

/* Holding the device lock. */
static void need(void *data, enum ckpt_reason reason)
{
	ckpt_secondary *secondary = data;
	wire_u32 wire = wire_put32(reason);
	struct iovec iov = { &wire, sizeof(wire) };

	if (secondary->asked & 1u << reason)
		return;
	secondary->asked |= 1u << reason;
	ckpt_link_post(secondary->link, CKPT_NEED, 0, &iov, 1);
}

/* What the running guest has written so far is in KVM's log, which can be looked at without
 * stopping it, or starting anew. */
static void look(void *data)
{
	ckpt_secondary *secondary = data;

	vmm_machine_peek(secondary->machine, secondary->looked);
	if (ckpt_replica_private_with(secondary->replica,
				      (const guint32 *)(void *)secondary->looked->data,
				      secondary->looked->len) >=
	    secondary->options.private_max)
		need(secondary, CKPT_REASON_PRIVATE);
}

static void set_asking(ckpt_secondary *secondary, gboolean on)
{
	vmm_loop *loop = vmm_machine_loop(secondary->machine);

	vmm_loop_lock(loop);
	g_clear_pointer(&secondary->look, vmm_timer_free);
	if (on) {
		secondary->look = vmm_timer_new(loop, look, secondary);
		vmm_timer_set(secondary->look, LOOK_MS, LOOK_MS);
	}
	if (secondary->streams.set_need)
		secondary->streams.set_need(secondary->streams.data, on ? need : NULL,
					    on ? secondary : NULL);
	vmm_loop_unlock(loop);
}

/* Pages. */

static const void *before(void *data, guint32 page)
{
	ckpt_secondary *secondary = data;

	return ckpt_replica_base(secondary->replica, page);
}

static gboolean stage_page(void *data, guint32 page, const void *content)
{
	ckpt_secondary *secondary = data;

	secondary->pages_in++;
	return ckpt_replica_stage(secondary->replica, page, content);
}

static gboolean take_sync_pages(ckpt_filler *filler, const struct base_message *message,
				GError **error)
{
	const char *why;

	return ckpt_filler_take(filler, message->payload, message->length, &why) ||
	       foul(error, why);
}

static gboolean take_pages(ckpt_secondary *secondary, const struct base_message *message,
			   GError **error)
{
	const struct ckpt_page_sink sink = { secondary, before, stage_page };
	const char *why = NULL;

	return ckpt_decode(message->payload, message->length,
			   vmm_memory_pages(secondary->memory), &sink, &why) ||
	       foul(error, why ?: "a page that there is no room for");
}

/* Digests: those of the guest's present pages that match are kept; the others are wanted. */
static gboolean take_digests(ckpt_secondary *secondary, const struct base_message *message,
			     GError **error)
{
	const struct ckpt_page_digest *entries = (const void *)message->payload;
	gsize count = message->length / sizeof(*entries);
	g_autofree wire_u32 *wanted = g_new(wire_u32, count + 1);
	struct iovec iov = { wanted, 0 };
	guint n = 0;

	if (message->length % sizeof(*entries))
		return foul(error, "half a digest");
	for (gsize i = 0; i < count; i++) {
		struct ckpt_digest digest = { wire_get64(entries[i].low),
					      wire_get64(entries[i].high) };
		guint32 page = wire_get32(entries[i].page);

		if (page >= vmm_memory_pages(secondary->memory) || wire_get32(entries[i].pad))
			return foul(error, "a digest of a page that does not exist");
		if (ckpt_replica_stage_present(secondary->replica, page, secondary->digester,
					       digest))
			secondary->pages_in++;
		else
			wanted[n++] = entries[i].page;
	}
	iov.iov_len = n * sizeof(*wanted);
	ckpt_link_post(secondary->link, CKPT_WANTED, message->epoch, &iov, n ? 1 : 0);
	return TRUE;
}

/* Beginning and end. */

static gboolean take_cut(ckpt_secondary *secondary, const struct base_message *message,
			 GError **error)
{
	const char *why;

	if (message->epoch != secondary->epoch + 1 || !secondary->synced)
		return foul(error, "a checkpoint out of turn");
	why = ckpt_lanes_wait(secondary->lanes);
	if (why)
		return foul(error, why);
	if (secondary->filler)
		ckpt_fault(CKPT_FAULT_LANES_ENDED);
	g_clear_pointer(&secondary->filler, ckpt_filler_free);
	memcpy(&secondary->cut, message->payload, sizeof(secondary->cut));
	if (secondary->cut.run > 1)
		return foul(error, "a mode that does not exist");
	if (wire_get32(secondary->cut.reason) >= CKPT_REASONS || secondary->cut.pad[0] ||
	    secondary->cut.pad[1] || secondary->cut.pad[2])
		return foul(error, "a cut for no known reason");
	if (wire_get64(secondary->cut.dirty) > vmm_memory_pages(secondary->memory))
		return foul(error, "a cut with more pages than there are");
	secondary->phase = ARRIVING;
	secondary->arriving = message->epoch;
	secondary->pages_in = secondary->verify_in = 0;
	g_array_set_size(secondary->verify_disk, 0);
	g_clear_pointer(&secondary->state, vmm_state_free);
	return TRUE;
}

static gboolean take_state(ckpt_secondary *secondary, const struct base_message *message,
			   GError **error)
{
	GByteArray *bytes = secondary->state_bytes;
	const char *why;

	if (secondary->state)
		return foul(error, "two states");
	if (!ckpt_state_unpack(message->payload, message->length, secondary->state_before,
			       bytes, &why))
		return foul(error, why);
	secondary->state = vmm_state_parse(bytes->data, bytes->len, error);
	if (!secondary->state)
		return FALSE;
	secondary->state_checksum = XXH3_64bits(bytes->data, bytes->len);
	return TRUE;
}

static gboolean take_verify(ckpt_secondary *secondary, const struct base_message *message,
			    GError **error)
{
	const wire_u64 *digests = (const void *)message->payload;
	gsize count = message->length / sizeof(*digests);

	if (!secondary->verify || message->length % sizeof(*digests) ||
	    count > vmm_memory_pages(secondary->memory) - secondary->verify_in)
		return foul(error, "digests to verify that nobody asked for");
	for (gsize i = 0; i < count; i++)
		secondary->verify[secondary->verify_in++] = wire_get64(digests[i]);
	return TRUE;
}

static gboolean judge_range(ckpt_secondary *secondary, const struct ckpt_verify_range *range)
{
	static const guint8 zero[sizeof(range->pad)];
	guint64 offset = wire_get64(range->offset), length = wire_get32(range->length), size;

	if (range->disk >= vmm_machine_disks(secondary->machine) ||
	    memcmp(range->pad, zero, sizeof(zero)))
		return FALSE;
	size = vmm_machine_disk_bytes(secondary->machine, range->disk);
	return length && length <= CKPT_VERIFY_RANGE_MAX && length <= size &&
	       offset <= size - length;
}

static gboolean take_verify_disk(ckpt_secondary *secondary,
				 const struct base_message *message, GError **error)
{
	const struct ckpt_verify_range *ranges = (const void *)message->payload;
	gsize count = message->length / sizeof(*ranges);

	if (!secondary->verify || message->length % sizeof(*ranges) ||
	    count > CKPT_VERIFY_RANGES_MAX - secondary->verify_disk->len)
		return foul(error, "digests of disks that nobody asked for");
	for (gsize i = 0; i < count; i++)
		if (!judge_range(secondary, &ranges[i]))
			return foul(error, "a digest of a range that no disk has");
	g_array_append_vals(secondary->verify_disk, ranges, (guint)count);
	return TRUE;
}

static gboolean streams_may_commit(ckpt_secondary *secondary)
{
	vmm_loop *loop = vmm_machine_loop(secondary->machine);
	guint64 input = wire_get64(secondary->cut.input), disk = wire_get64(secondary->cut.disk);
	gboolean may;

	if (!secondary->streams.may_commit)
		return !input && !disk;
	vmm_loop_lock(loop);
	may = secondary->streams.may_commit(secondary->streams.data, input, disk);
	vmm_loop_unlock(loop);
	return may;
}

static gboolean take_end(ckpt_secondary *secondary, const struct base_message *message,
			 GError **error)
{
	struct ckpt_end end;

	memcpy(&end, message->payload, sizeof(end));
	if (!secondary->state)
		return foul(error, "a checkpoint without a state");
	if (wire_get64(end.pages) != secondary->pages_in)
		return foul(error, "a checkpoint with another number of pages than it says");
	if (ckpt_replica_staged(secondary->replica) != secondary->pages_in)
		return foul(error, "a checkpoint in which a page comes twice");
	if (wire_get64(end.state_checksum) != secondary->state_checksum)
		return foul(error, "a state that is not the one that it means");
	if (wire_get64(end.verify) != secondary->verify_in ||
	    (secondary->verify && secondary->verify_in != vmm_memory_pages(secondary->memory)))
		return foul(error, "another number of digests to verify than there are pages");
	if (wire_get64(end.verify_disk) != secondary->verify_disk->len)
		return foul(error, "another number of digests of disks than it says");
	if (!streams_may_commit(secondary))
		return foul(error, "a checkpoint whose input or disk writes are not all here");
	/* Judged before it counts as ours: a commit must not fail to apply. */
	return vmm_machine_check(secondary->machine, secondary->state, error);
}

/* Applying. */

static gboolean differs(ckpt_secondary *secondary, const char *what, GError **error)
{
	g_set_error(error, CKPT_ERROR, CKPT_ERROR_VERIFY,
		    "verify: checkpoint %" G_GUINT64_FORMAT ": %s", secondary->arriving, what);
	return FALSE;
}

static gboolean verify_memory(ckpt_secondary *secondary, GError **error)
{
	g_autofree char *difference = NULL;

	if (!secondary->verify)
		return TRUE;
	difference = ckpt_verify_difference(secondary->memory, secondary->verify);
	return !difference || differs(secondary, difference, error);
}

static gboolean verify_state(ckpt_secondary *secondary, GError **error)
{
	g_autofree char *difference = NULL;

	if (!secondary->verify)
		return TRUE;
	difference = vmm_machine_difference(secondary->machine, secondary->state);
	return !difference || differs(secondary, difference, error);
}

/* While the guest runs: what its own disk writes are is not looked at. */
static gboolean verify_disks(ckpt_secondary *secondary, GError **error)
{
	const struct ckpt_twin_streams *streams = &secondary->streams;
	vmm_loop *loop = vmm_machine_loop(secondary->machine);
	guint count = streams->disk_read ? secondary->verify_disk->len : 0;
	void *scratch = NULL;
	g_autofree char *difference = NULL;

	if (count && posix_memalign(&scratch, CKPT_PAGE, CKPT_VERIFY_RANGE_MAX))
		g_error("out of memory");
	for (guint i = 0; i < count && !difference && !ckpt_link_is_lost(secondary->link);
	     i++) {
		vmm_loop_lock(loop);
		difference = ckpt_verify_disk_difference(
			&g_array_index(secondary->verify_disk, struct ckpt_verify_range, i),
			streams->disk_read, streams->data, scratch);
		vmm_loop_unlock(loop);
	}
	free(scratch);
	return !difference || differs(secondary, difference, error);
}

static gboolean apply_memory(ckpt_secondary *secondary, GError **error)
{
	vmm_loop *loop = vmm_machine_loop(secondary->machine);

	/* Before the first one nothing has run, and nothing is tracked. */
	g_array_set_size(secondary->own_dirty, 0);
	if (secondary->epoch &&
	    !vmm_machine_collect(secondary->machine, secondary->own_dirty, error))
		return FALSE;
	vmm_loop_lock(loop);
	ckpt_replica_apply(secondary->replica,
			   (const guint32 *)(void *)secondary->own_dirty->data,
			   secondary->own_dirty->len);
	if (secondary->arriving % TRIM_EVERY == 0 ||
	    ckpt_replica_private_pages(secondary->replica) >= secondary->options.private_max)
		ckpt_replica_trim(secondary->replica, secondary->options.private_max / 2);
	secondary->asked = 0;
	vmm_loop_unlock(loop);
	return TRUE;
}

/* Between here and its end the guest stands still. */
static gboolean apply(ckpt_secondary *secondary, guint64 *took_ns, GError **error)
{
	guint64 start = base_clock_monotonic_ns();
	vmm_loop *loop = vmm_machine_loop(secondary->machine);

	if (!vmm_machine_pause(secondary->machine, error))
		return FALSE;
	ckpt_fault(CKPT_FAULT_AT_REST);
	if (!apply_memory(secondary, error) || !verify_memory(secondary, error))
		return FALSE;
	ckpt_fault(CKPT_FAULT_MEMORY_APPLIED);
	/* Before the load, which may make KVM write guest memory. */
	if (!secondary->epoch && !vmm_machine_track(secondary->machine, TRUE, error))
		return FALSE;
	if (!vmm_machine_load(secondary->machine, secondary->state, error))
		return FALSE;
	ckpt_fault(CKPT_FAULT_STATE_LOADED);
	if (secondary->streams.applied) {
		vmm_loop_lock(loop);
		secondary->streams.applied(secondary->streams.data, secondary->arriving,
					   wire_get64(secondary->cut.input),
					   wire_get64(secondary->cut.disk));
		vmm_loop_unlock(loop);
	}
	ckpt_fault(CKPT_FAULT_STREAMS_APPLIED);
	/* The last before it runs, whatever happened to it here. */
	if (!verify_state(secondary, error))
		return FALSE;
	if (secondary->cut.run && !vmm_machine_resume(secondary->machine, error))
		return FALSE;
	*took_ns = base_clock_monotonic_ns() - start;
	ckpt_fault(CKPT_FAULT_RUNS);
	if (wire_get32(secondary->cut.reason) == CKPT_REASON_HANDOVER)
		ckpt_fault(CKPT_FAULT_HANDED);
	return TRUE;
}

/* A disk that cannot keep up delays the primary's next cut, which waits for APPLIED. What it
 * sends meanwhile waits in the socket. */
static void wait_for_disk(ckpt_secondary *secondary)
{
	vmm_loop *loop = vmm_machine_loop(secondary->machine);
	gboolean behind = secondary->streams.is_behind != NULL;

	while (behind && !ckpt_link_is_lost(secondary->link)) {
		vmm_loop_lock(loop);
		behind = secondary->streams.is_behind(secondary->streams.data);
		vmm_loop_unlock(loop);
		if (behind)
			g_usleep(1000);
	}
}

static gboolean commit(ckpt_secondary *secondary, GError **error)
{
	struct ckpt_applied applied = { 0 };
	struct iovec iov = { &applied, sizeof(applied) };
	guint64 took = 0;

	ckpt_fault(CKPT_FAULT_JUDGED);
	g_mutex_lock(&secondary->lock);
	secondary->committed = secondary->arriving;
	secondary->handed = wire_get32(secondary->cut.reason) == CKPT_REASON_HANDOVER;
	g_mutex_unlock(&secondary->lock);
	g_byte_array_set_size(secondary->state_before, 0);
	g_byte_array_append(secondary->state_before, secondary->state_bytes->data,
			    secondary->state_bytes->len);
	/* Nobody needs any more what its guest sent before. */
	ckpt_link_drop_joined(secondary->link);
	/* The commit point: from here on a promotion yields this checkpoint, and the link's
	 * end cannot come between, for it is this thread that would notice. */
	ckpt_link_post(secondary->link, CKPT_COMMITTED, secondary->arriving, NULL, 0);
	ckpt_fault(CKPT_FAULT_SAID_COMMITTED);
	if (secondary->hooks.committed)
		secondary->hooks.committed(secondary->data, secondary->arriving);
	if (!apply(secondary, &took, error) || !verify_disks(secondary, error)) {
		g_mutex_lock(&secondary->lock);
		secondary->failed = TRUE;
		g_mutex_unlock(&secondary->lock);
		return FALSE;
	}
	g_mutex_lock(&secondary->lock);
	secondary->epoch = secondary->arriving;
	g_mutex_unlock(&secondary->lock);
	secondary->phase = BETWEEN;
	wait_for_disk(secondary);
	applied.apply_ns = wire_put64(took);
	applied.private_pages = wire_put64(ckpt_replica_private_pages(secondary->replica));
	applied.own_dirty = wire_put64(secondary->own_dirty->len);
	ckpt_link_post(secondary->link, CKPT_APPLIED, secondary->epoch, &iov, 1);
	return TRUE;
}

/* Streams. */

/* Input, addresses or a filter's state. */
static gboolean take_stream(ckpt_secondary *secondary, const struct base_message *message,
			    const char *(*take)(void *data, const void *payload, gsize len),
			    GError **error)
{
	vmm_loop *loop = vmm_machine_loop(secondary->machine);
	const char *why = "input, addresses or a filter's state that nobody here takes";

	vmm_loop_lock(loop);
	if (take)
		why = take(secondary->streams.data, message->payload, message->length);
	vmm_loop_unlock(loop);
	return !why || foul(error, why);
}

static gboolean take_disk_write(ckpt_secondary *secondary,
				const struct base_message *message, GError **error)
{
	vmm_loop *loop = vmm_machine_loop(secondary->machine);
	struct ckpt_disk_head head;
	const char *why = "disk writes that nobody here takes";

	memcpy(&head, message->payload, sizeof(head));
	vmm_loop_lock(loop);
	if (secondary->streams.disk_write)
		why = secondary->streams.disk_write(secondary->streams.data, &head,
						    message->payload + sizeof(head),
						    message->length - sizeof(head),
						    !secondary->synced);
	vmm_loop_unlock(loop);
	if (why)
		return foul(error, why);
	/* Between checkpoints the primary's next cut waits for this. */
	if (!secondary->synced)
		wait_for_disk(secondary);
	return TRUE;
}

static gboolean take_listen(ckpt_secondary *secondary, const struct base_message *message,
			    GError **error)
{
	static const guint8 zero[sizeof(((struct ckpt_listen *)0)->pad)];
	vmm_loop *loop = vmm_machine_loop(secondary->machine);
	struct ckpt_listen listen;

	memcpy(&listen, message->payload, sizeof(listen));
	if (!secondary->streams.listen || listen.on > 1 ||
	    memcmp(listen.pad, zero, sizeof(zero)))
		return foul(error, "a wish for output that makes no sense here");
	vmm_loop_lock(loop);
	secondary->streams.listen(secondary->streams.data, listen.on);
	vmm_loop_unlock(loop);
	return TRUE;
}

/* What is sent at the cut overtakes the CUT. */
static gboolean take_filter(ckpt_secondary *secondary, const struct base_message *message,
			    GError **error)
{
	if (message->epoch != secondary->epoch + 1 || secondary->phase == ARRIVING)
		return foul(error, "a filter's state out of turn");
	return take_stream(secondary, message, secondary->streams.filter, error);
}

static gboolean take_sync_disk(ckpt_secondary *secondary, const struct base_message *message,
			       GError **error)
{
	vmm_loop *loop = vmm_machine_loop(secondary->machine);
	const char *why = "a disk's first sync that nobody here takes";

	vmm_loop_lock(loop);
	if (secondary->streams.sync_disk)
		why = secondary->streams.sync_disk(secondary->streams.data, message->payload,
						   message->length);
	vmm_loop_unlock(loop);
	return !why || foul(error, why);
}

/* Which messages may come in which phase. */
static gboolean may_come(enum phase phase, guint16 type)
{
	switch (type) {
	case CKPT_INPUT:
	case CKPT_ADDRESSES:
	case CKPT_DISK_WRITE:
	case CKPT_LISTEN:
	case CKPT_FILTER:
		return TRUE;
	case CKPT_SYNC_PAGES:
	case CKPT_SYNC_DISK:
	case CKPT_SYNCED:
		return phase == FILLING;
	case CKPT_CUT:
		return phase == FILLING || phase == BETWEEN;
	case CKPT_PAGES:
	case CKPT_DIGESTS:
	case CKPT_STATE:
	case CKPT_VERIFY:
	case CKPT_VERIFY_DISK:
	case CKPT_END:
		return phase == ARRIVING;
	}
	return FALSE;
}

/* Which may not come after it. */
static gboolean is_before_synced(guint16 type)
{
	return type == CKPT_SYNC_DISK || type == CKPT_SYNCED;
}

static gboolean take_message(void *data, const struct base_message *message, GError **error)
{
	ckpt_secondary *secondary = data;

	if (!may_come(secondary->phase, message->type) ||
	    (secondary->synced && is_before_synced(message->type)))
		return foul(error, "a message out of order");
	switch (message->type) {
	case CKPT_INPUT:
		return take_stream(secondary, message, secondary->streams.input, error);
	case CKPT_ADDRESSES:
		return take_stream(secondary, message, secondary->streams.addresses, error);
	case CKPT_LISTEN:
		return take_listen(secondary, message, error);
	case CKPT_FILTER:
		return take_filter(secondary, message, error);
	case CKPT_DISK_WRITE:
		return take_disk_write(secondary, message, error);
	case CKPT_SYNCED:
		secondary->synced = TRUE;
		return TRUE;
	case CKPT_SYNC_DISK:
		return take_sync_disk(secondary, message, error);
	case CKPT_SYNC_PAGES:
		return take_sync_pages(secondary->filler, message, error);
	case CKPT_CUT:
		return take_cut(secondary, message, error);
	}
	if (message->epoch != secondary->arriving)
		return foul(error, "a part of another checkpoint");
	switch (message->type) {
	case CKPT_PAGES:
		return take_pages(secondary, message, error);
	case CKPT_DIGESTS:
		return take_digests(secondary, message, error);
	case CKPT_STATE:
		return take_state(secondary, message, error);
	case CKPT_VERIFY:
		return take_verify(secondary, message, error);
	case CKPT_VERIFY_DISK:
		return take_verify_disk(secondary, message, error);
	default:
		return take_end(secondary, message, error) &&
		       commit(secondary, error);
	}
}

static void link_lost(void *data, const GError *error)
{
	ckpt_secondary *secondary = data;

	ckpt_lanes_refuse(secondary->lanes, error->message);
	if (secondary->hooks.lost)
		secondary->hooks.lost(secondary->data, ckpt_link_peer_end(secondary->link),
				      error->message);
}

static const struct ckpt_link_ops link_ops = { take_message, link_lost };

static void lane_lost(void *data, const char *why)
{
	ckpt_secondary *secondary = data;

	ckpt_link_refuse(secondary->link, why);
}

const char *ckpt_secondary_join(ckpt_secondary *secondary, const struct ckpt_join *join,
				base_channel **channel)
{
	return ckpt_lanes_join(secondary->lanes, join, channel);
}

/* `link` NULL: the link has ended. */
static void start_streams(ckpt_secondary *secondary, ckpt_link *link, const guint8 *secret)
{
	vmm_loop *loop = vmm_machine_loop(secondary->machine);

	if (!secondary->streams.start)
		return;
	vmm_loop_lock(loop);
	secondary->streams.start(secondary->streams.data, link, secret);
	vmm_loop_unlock(loop);
}

ckpt_secondary *ckpt_secondary_new_take(vmm_machine *machine, base_channel *channel_take,
					const struct ckpt_secondary_options *options,
					const struct ckpt_twin_streams *streams,
					const struct ckpt_secondary_hooks *hooks, void *data,
					GError **error)
{
	g_autoptr(base_channel) channel = channel_take;
	g_autoptr(ckpt_secondary) secondary = g_new0(ckpt_secondary, 1);
	struct ckpt_lanes_options lanes = { .memory = vmm_machine_memory(machine),
					    .turn = &secondary->fill_turn,
					    .lost = lane_lost,
					    .data = secondary };
	struct ckpt_hello ours, theirs;

	g_mutex_init(&secondary->lock);
	g_mutex_init(&secondary->fill_turn);
	secondary->machine = machine;
	secondary->memory = lanes.memory;
	secondary->options = *options;
	if (!secondary->options.private_max)
		secondary->options.private_max = vmm_memory_pages(secondary->memory) / 10;
	secondary->streams = *streams;
	secondary->hooks = *hooks;
	secondary->data = data;
	secondary->own_dirty = g_array_new(FALSE, FALSE, sizeof(guint32));
	secondary->verify_disk =
		g_array_new(FALSE, FALSE, sizeof(struct ckpt_verify_range));
	secondary->state_bytes = g_byte_array_new();
	secondary->state_before = g_byte_array_new();
	ckpt_hello_fill(&ours, machine, FALSE, FALSE, 0, NULL);
	if (!ckpt_hello_exchange(channel, &ours, &theirs, options->hello_ms ?: HELLO_MS, error))
		return NULL;
	lanes.count = wire_get32(theirs.connections);
	secondary->digester = ckpt_digester_new(theirs.secret);
	if (theirs.verify)
		secondary->verify = g_new0(guint64, vmm_memory_pages(secondary->memory));
	/* Its guest may crash or switch off in an epoch: the next checkpoint heals it. */
	vmm_machine_keep_loadable(machine, TRUE);
	/* Whatever was here is no part of what comes. */
	vmm_memory_clear(secondary->memory);
	secondary->filler = ckpt_filler_new(secondary->memory, &secondary->fill_turn, 0,
					    lanes.count);
	secondary->replica = ckpt_replica_new(
		secondary->memory, (guint)vmm_memory_pages(secondary->memory));
	secondary->link = ckpt_link_new_take(g_steal_pointer(&channel), &link_ops, secondary,
					     options->silence_ms ?:
						     wire_get32(theirs.silence_ms));
	if (lanes.count > 1)
		ckpt_link_wait_for_first(secondary->link, CKPT_LANES_FIRST_MS);
	lanes.silence_ms = options->silence_ms ?: wire_get32(theirs.silence_ms);
	secondary->lanes = ckpt_lanes_new(&lanes, theirs.token);
	secondary->looked = g_array_new(FALSE, FALSE, sizeof(guint32));
	set_asking(secondary, TRUE);
	start_streams(secondary, secondary->link, theirs.secret);
	ckpt_link_start(secondary->link);
	return g_steal_pointer(&secondary);
}

void ckpt_secondary_free(ckpt_secondary *secondary)
{
	if (!secondary)
		return;
	if (secondary->looked)
		set_asking(secondary, FALSE);
	if (secondary->link)
		ckpt_link_stop(secondary->link, CKPT_END_UNPROTECT,
			       "the secondary ends replication");
	if (secondary->link)
		start_streams(secondary, NULL, NULL);
	ckpt_lanes_free(secondary->lanes);
	ckpt_link_free(secondary->link);
	ckpt_filler_free(secondary->filler);
	ckpt_replica_free(secondary->replica);
	ckpt_digester_free(secondary->digester);
	g_clear_pointer(&secondary->state, vmm_state_free);
	g_byte_array_unref(secondary->state_bytes);
	g_byte_array_unref(secondary->state_before);
	g_free(secondary->verify);
	g_array_unref(secondary->verify_disk);
	g_array_unref(secondary->own_dirty);
	g_clear_pointer(&secondary->looked, g_array_unref);
	g_mutex_clear(&secondary->lock);
	g_mutex_clear(&secondary->fill_turn);
	g_free(secondary);
}

gboolean ckpt_secondary_promote(ckpt_secondary *secondary, GError **error)
{
	vmm_loop *loop = vmm_machine_loop(secondary->machine);

	if (!ckpt_secondary_epoch(secondary)) {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_MODE,
			    "nothing to promote: no checkpoint has been committed");
		return FALSE;
	}
	/* A commit that is being applied is finished by the thread that this waits for. */
	ckpt_link_stop(secondary->link, CKPT_END_PROMOTED, "the secondary is promoted");
	if (secondary->failed) {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_MODE,
			    "nothing to promote: a checkpoint could not be applied");
		return FALSE;
	}
	ckpt_fault(CKPT_FAULT_PROMOTING);
	ckpt_replica_forget(secondary->replica);
	set_asking(secondary, FALSE);
	if (secondary->streams.promote) {
		vmm_loop_lock(loop);
		secondary->streams.promote(secondary->streams.data);
		vmm_loop_unlock(loop);
	}
	ckpt_fault(CKPT_FAULT_DISKS_PROMOTED);
	/* From here on there is no way back. */
	vmm_machine_keep_loadable(secondary->machine, FALSE);
	if (vmm_machine_run_state(secondary->machine) != VMM_RUNNING &&
	    !vmm_machine_resume(secondary->machine, error))
		return FALSE;
	vmm_machine_untrack(secondary->machine);
	ckpt_fault(CKPT_FAULT_PROMOTED);
	return TRUE;
}

guint64 ckpt_secondary_epoch(ckpt_secondary *secondary)
{
	guint64 epoch;

	g_mutex_lock(&secondary->lock);
	epoch = secondary->committed;
	g_mutex_unlock(&secondary->lock);
	return epoch;
}

gboolean ckpt_secondary_is_handed(ckpt_secondary *secondary)
{
	gboolean handed;

	g_mutex_lock(&secondary->lock);
	handed = secondary->handed && !secondary->failed;
	g_mutex_unlock(&secondary->lock);
	return handed;
}

gboolean ckpt_secondary_is_promotable(ckpt_secondary *secondary)
{
	gboolean can;

	g_mutex_lock(&secondary->lock);
	can = secondary->committed && !secondary->failed;
	g_mutex_unlock(&secondary->lock);
	return can;
}

void ckpt_secondary_refuse(ckpt_secondary *secondary, const char *why)
{
	ckpt_link_refuse(secondary->link, why);
}
