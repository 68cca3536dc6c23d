/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a machine's devices are made of so that it can be either side of a pair. */
#include "checkpoint/node.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "checkpoint/announce.h"
#include "checkpoint/disk_out.h"
#include "checkpoint/disk_twin.h"
#include "checkpoint/fault.h"
#include "checkpoint/mirror.h"
#include "checkpoint/node_sync.h"
#include "checkpoint/relay.h"

#define INPUT_NEED (16u << 20)
#define INPUT_MAX (64u << 20)
/* Bytes of disk writes kept in memory on the secondary. */
#define DISK_NEED (32u << 20)
#define OWN_MAX (128u << 20)
#define HELD_MAX (256u << 20)
#define BACKLOG_MAX (128u << 20)
/* The secondary's. */
#define FLUSH_AFTER_MS 1000

struct card {
	ckpt_addresses *addresses;
	guint8 mac[6];
	guint64 told; /* of ckpt_addresses_changes(): what the secondary was sent */
	struct vmm_net_port *real; /* the tap; borrowed */
	struct vmm_net_port *relay; /* above it, and the twin's; borrowed */
	/* Of a twin. */
	struct vmm_net_port *port; /* borrowed */
	ckpt_announcer *announcer; /* NULL before the promotion */
};

struct ckpt_node {
	gboolean is_twin;
	struct ckpt_node_hooks hooks;
	vmm_machine *machine;
	ckpt_link *link; /* as a primary; NULL: nobody is replicated to */
	gboolean mirroring; /* a first cut was taken */

	guint nets;
	struct card cards[VMM_NETS_MAX];
	ckpt_mirror *mirror;
	struct ckpt_filter filter; /* `ops` NULL: none */
	GByteArray *filter_told; /* its state, as the secondary has it */
	ckpt_disk_out *disk_out;
	vmm_source *answer_kept; /* NULL until the first disk is opened */
	int event_fd; /* never readable: that source is called by vmm_loop_again() */
	ckpt_node_sync_out *sync_out; /* as a primary with a link */
	/* Of a twin. */
	ckpt_input *input;
	ckpt_twin *twin;
	ckpt_disk_twins *disk_twins; /* NULL until the first disk is opened */
	guint64 input_need, disk_need;
	void (*need)(void *data, enum ckpt_reason reason); /* NULL: nobody to ask */
	void *need_data;
	ckpt_node_sync_in *sync_in; /* with a link and disks */
	ckpt_link *output; /* where frames that the guest sends go; NULL: nobody listens */
	ckpt_link *twin_link; /* with a link */
	gboolean output_lost; /* frames of this epoch */
	GByteArray *filter_next; /* its state from the next checkpoint on */
	guint64 filter_total; /* how long that will be */
	gboolean filter_came; /* some of it, since the last checkpoint */
};

/* The primary's outgoing streams. */

static void send_input(void *data, const struct iovec *iov, guint count)
{
	ckpt_node *node = data;

	ckpt_link_post(node->link, CKPT_INPUT, 0, iov, count);
}

static void send_disk_write(void *data, const struct ckpt_disk_head *head, const void *bytes)
{
	ckpt_node *node = data;
	const struct iovec iov[] = { { (void *)head, sizeof(*head) },
				     { (void *)bytes, wire_get64(head->length) } };

	ckpt_link_post(node->link, CKPT_DISK_WRITE, 0, iov, bytes ? 2 : 1);
}

static void start(void *data, ckpt_link *link, const guint8 *secret)
{
	ckpt_node *node = data;

	if (link) {
		node->link = link;
		for (guint i = 0; i < node->nets; i++)
			node->cards[i].told = 0;
		g_byte_array_set_size(node->filter_told, 0);
		ckpt_disk_out_forward(node->disk_out, TRUE);
		node->sync_out = ckpt_node_sync_out_new(node->disk_out, link, secret);
		return;
	}
	g_clear_pointer(&node->sync_out, ckpt_node_sync_out_free);
	ckpt_disk_out_forward(node->disk_out, FALSE);
	for (guint i = 0; i < node->nets; i++)
		ckpt_relay_stop(node->cards[i].relay);
	ckpt_mirror_stop(node->mirror);
	node->mirroring = FALSE;
	node->link = NULL;
}

static void relay_frame(void *data, guint device, const struct iovec *frame)
{
	ckpt_node *node = data;

	ckpt_mirror_frame(node->mirror, device, frame);
}

static void hand_over(void *data)
{
	ckpt_node *node = data;
	vmm_loop *loop = vmm_machine_loop(node->machine);

	vmm_loop_lock(loop);
	for (guint i = 0; node->link && i < node->nets; i++)
		ckpt_relay_start(node->cards[i].relay, relay_frame, node);
	vmm_loop_unlock(loop);
	ckpt_fault(CKPT_FAULT_HANDOVER_RELAYS);
}

/* Input is mirrored from the first cut on: what came before is in the checkpoint. */
static guint64 input_number(void *data)
{
	ckpt_node *node = data;
	vmm_loop *loop = vmm_machine_loop(node->machine);
	guint64 number;

	vmm_loop_lock(loop);
	if (!node->mirroring && node->link) {
		node->mirroring = TRUE;
		ckpt_mirror_start(node->mirror, send_input, node);
	}
	number = ckpt_mirror_number(node->mirror);
	vmm_loop_unlock(loop);
	return number;
}

static guint64 disk_number(void *data)
{
	ckpt_node *node = data;
	vmm_loop *loop = vmm_machine_loop(node->machine);
	guint64 number;

	vmm_loop_lock(loop);
	number = ckpt_disk_out_number(node->disk_out);
	vmm_loop_unlock(loop);
	return number;
}

static gboolean sync_step(void *data)
{
	ckpt_node *node = data;

	return node->sync_out && ckpt_node_sync_out_step(node->sync_out);
}

static gboolean sync_answer(void *data, const void *payload, gsize len, GError **error)
{
	ckpt_node *node = data;

	/* Without it the link is about to end. */
	return !node->sync_out ||
	       ckpt_node_sync_out_take(node->sync_out, payload, len, error);
}

static gboolean sync_counters(void *data, guint disk, struct ckpt_disk_sync_counters *counters)
{
	ckpt_node *node = data;

	return node->sync_out && ckpt_node_sync_out_get(node->sync_out, disk, counters);
}

static void send_addresses(ckpt_node *node, guint net)
{
	struct ckpt_addresses_head head = { .net = (guint8)net };
	struct ckpt_address all[CKPT_ADDRESSES_ALL];
	struct card *card = &node->cards[net];
	guint count = ckpt_addresses_copy(card->addresses, all);
	const struct iovec iov[] = { { &head, sizeof(head) },
				     { all, count * sizeof(all[0]) } };

	ckpt_link_post(node->link, CKPT_ADDRESSES, 0, iov, G_N_ELEMENTS(iov));
	card->told = ckpt_addresses_changes(card->addresses);
}

/* The secondary's filter begins each epoch with this; told where it changed. */
static void send_filter(ckpt_node *node, guint64 epoch)
{
	g_autoptr(GByteArray) state = g_byte_array_new();
	struct ckpt_filter_head head;
	gsize at = 0;

	if (!node->filter.ops)
		return;
	node->filter.ops->save(node->filter.filter, state);
	if (state->len == node->filter_told->len &&
	    (!state->len || !memcmp(state->data, node->filter_told->data, state->len)))
		return;
	/* A secondary that refuses it says so: that ends the link and not the guest. */
	do {
		gsize part = MIN(state->len - at, CKPT_BATCH_MAX);
		const struct iovec iov[] = { { &head, sizeof(head) },
					     { state->data + at, part } };

		head.total = wire_put64(state->len);
		head.offset = wire_put64(at);
		ckpt_link_post(node->link, CKPT_FILTER, epoch, iov, part ? 2 : 1);
		at += part;
	} while (at < state->len);
	g_byte_array_unref(node->filter_told);
	node->filter_told = g_steal_pointer(&state);
}

static void at_cut(void *data, guint64 epoch)
{
	ckpt_node *node = data;
	vmm_loop *loop = vmm_machine_loop(node->machine);

	vmm_loop_lock(loop);
	for (guint i = 0; node->link && i < node->nets; i++)
		if (ckpt_addresses_changes(node->cards[i].addresses) != node->cards[i].told)
			send_addresses(node, i);
	if (node->link)
		send_filter(node, epoch);
	vmm_loop_unlock(loop);
}

static void disk_digests(void *data, GArray *ranges)
{
	ckpt_node *node = data;
	vmm_loop *loop = vmm_machine_loop(node->machine);

	vmm_loop_lock(loop);
	ckpt_disk_out_digests(node->disk_out, ranges);
	vmm_loop_unlock(loop);
}

struct ckpt_streams ckpt_node_streams(ckpt_node *node)
{
	return (struct ckpt_streams){
		.data = node,
		.start = start,
		.input_number = input_number,
		.disk_number = disk_number,
		.sync_step = sync_step,
		.sync_answer = sync_answer,
		.sync_counters = sync_counters,
		.at_cut = at_cut,
		.disk_digests = disk_digests,
		.hand_over = hand_over,
	};
}

/* The secondary's incoming streams. */

static void set_need(void *data, void (*need)(void *need_data, enum ckpt_reason reason),
		     void *need_data)
{
	ckpt_node *node = data;

	node->need = need;
	node->need_data = need_data;
}

static void need(ckpt_node *node, enum ckpt_reason reason)
{
	if (node->need)
		node->need(node->need_data, reason);
}

/* There is input that its devices have not had. */
static void wake_guest(ckpt_node *node)
{
	ckpt_twin_wake(node->twin);
	vmm_machine_poll_rng(node->machine);
	vmm_machine_poll_consoles(node->machine);
}

static void start_twin(void *data, ckpt_link *link, const guint8 *secret)
{
	ckpt_node *node = data;

	g_clear_pointer(&node->sync_in, ckpt_node_sync_in_free);
	if (node->disk_twins)
		ckpt_disk_twins_drop_held(node->disk_twins);
	node->twin_link = link;
	node->output = NULL;
	node->filter_came = FALSE;
	if (!link)
		return;
	g_byte_array_set_size(node->filter_told, 0);
	ckpt_input_restart(node->input);
	if (node->disk_twins)
		node->sync_in = ckpt_node_sync_in_new(node->disk_twins, link, secret);
}

static const char *take_sync_disk(void *data, const void *payload, gsize len)
{
	ckpt_node *node = data;

	return node->sync_in ? ckpt_node_sync_in_take(node->sync_in, payload, len) :
			       "a piece of a disk for a machine without disks";
}

static const char *take_input(void *data, const void *payload, gsize len)
{
	ckpt_node *node = data;
	const char *why = ckpt_input_add(node->input, payload, len);

	if (why)
		return why;
	wake_guest(node);
	if (ckpt_input_kept_bytes(node->input) >= node->input_need)
		need(node, CKPT_REASON_INPUT);
	return NULL;
}

static const char *take_addresses(void *data, const void *payload, gsize len)
{
	static const guint8 zero[sizeof(((struct ckpt_addresses_head *)0)->pad)];
	ckpt_node *node = data;
	struct ckpt_addresses_head head;
	struct ckpt_address all[CKPT_ADDRESSES_ALL];

	if (len < sizeof(head) || len - sizeof(head) > sizeof(all) ||
	    (len - sizeof(head)) % sizeof(all[0]))
		return "addresses in pieces";
	memcpy(&head, payload, sizeof(head));
	len -= sizeof(head);
	memcpy(all, (const guint8 *)payload + sizeof(head), len);
	if (head.net >= node->nets || memcmp(head.pad, zero, sizeof(zero)))
		return "addresses of an unknown card";
	for (guint i = 0; i < len / sizeof(all[0]); i++)
		if (!ckpt_address_is_possible(&all[i]))
			return "an address that no guest can have";
	for (guint i = 0; i < len / sizeof(all[0]); i++)
		if (!ckpt_addresses_add(node->cards[head.net].addresses, &all[i]))
			g_assert_not_reached();
	return NULL;
}

/* What was sent before is not told: who begins to listen hears that it has missed some. */
static void listen_to_guest(void *data, gboolean on)
{
	ckpt_node *node = data;

	node->output = on ? node->twin_link : NULL;
}

static const char *take_filter(void *data, const void *payload, gsize len)
{
	ckpt_node *node = data;
	struct ckpt_filter_head head;
	guint64 total;

	memcpy(&head, payload, sizeof(head));
	len -= sizeof(head);
	total = wire_get64(head.total);
	if (!node->filter.ops)
		return "the state of a filter that there is none of here";
	if (!node->filter_came) {
		g_byte_array_set_size(node->filter_next, 0);
		node->filter_total = total;
		node->filter_came = TRUE;
	} else if (!node->filter_next->len || node->filter_next->len == total) {
		return "a filter's state twice";
	}
	if (total > CKPT_FILTER_MAX || total != node->filter_total ||
	    wire_get64(head.offset) != node->filter_next->len ||
	    len > total - node->filter_next->len || (total && !len))
		return "a filter's state in pieces that do not fit";
	g_byte_array_append(node->filter_next, (const guint8 *)payload + sizeof(head),
			    (guint)len);
	return NULL;
}

/* What one filter takes, another takes: so the state is judged before it counts. */
static gboolean filter_may_commit(ckpt_node *node)
{
	const struct ckpt_filter_ops *ops = node->filter.ops;
	const char *why;
	void *trial;

	if (!node->filter_came)
		return TRUE;
	if (node->filter_next->len != node->filter_total)
		return FALSE;
	trial = ops->new();
	why = ops->load(trial, node->filter_next->data, node->filter_next->len);
	ops->free(trial);
	if (why)
		g_warning("the primary's frame filter has a state that is refused: %s", why);
	return !why;
}

static void apply_filter(ckpt_node *node)
{
	GByteArray *state = node->filter_told;

	if (!node->filter.ops)
		return;
	if (node->filter_came) {
		node->filter_told = node->filter_next;
		node->filter_next = state;
		node->filter_came = FALSE;
		state = node->filter_told;
	}
	if (node->filter.ops->load(node->filter.filter, state->data, state->len))
		g_assert_not_reached(); /* another one took it */
}

static const char *take_disk_write(void *data, const struct ckpt_disk_head *head,
				   const void *bytes, gsize len, gboolean first_sync)
{
	ckpt_node *node = data;
	const char *why = "a write to a machine without disks";

	if (!node->disk_twins ||
	    !ckpt_disk_twins_hold(node->disk_twins, head, bytes, len, &why))
		return why;
	if (first_sync)
		ckpt_disk_twins_commit(node->disk_twins, wire_get64(head->number));
	return NULL;
}

static gboolean disk_read(void *data, guint disk, guint64 offset, void *bytes, gsize len,
			  GError **error)
{
	ckpt_node *node = data;

	/* Judged by the machine's disks, so there are some. */
	return ckpt_disk_twins_read(node->disk_twins, disk, offset, bytes, len, error);
}

static gboolean may_commit(void *data, guint64 input, guint64 disk)
{
	ckpt_node *node = data;

	return ckpt_input_covers(node->input, input) && filter_may_commit(node) &&
	       (node->disk_twins ? ckpt_disk_twins_may_commit(node->disk_twins, disk) :
				   disk == 0);
}

static void applied(void *data, guint64 epoch, guint64 input, guint64 disk)
{
	ckpt_node *node = data;

	ckpt_input_applied(node->input, input);
	if (node->disk_twins)
		ckpt_disk_twins_commit(node->disk_twins, disk);
	apply_filter(node);
	node->output_lost = FALSE;
	ckpt_twin_set_epoch(node->twin, epoch);
	ckpt_twin_wake(node->twin);
	vmm_machine_poll_consoles(node->machine);
}

static gboolean is_behind(void *data)
{
	ckpt_node *node = data;
	struct ckpt_disk_twin_counters counters;

	if (!node->disk_twins)
		return FALSE;
	ckpt_disk_twins_get_counters(node->disk_twins, &counters);
	return counters.backlog_bytes > BACKLOG_MAX;
}

static void durable(void *data, int error)
{
	ckpt_node *node = data;

	if (node->hooks.durable)
		node->hooks.durable(node->hooks.data, error);
}

static void announce(ckpt_node *node)
{
	vmm_loop *loop = vmm_machine_loop(node->machine);

	for (guint i = 0; i < node->nets; i++) {
		struct card *card = &node->cards[i];
		struct vmm_net_port *real =
			card->port ? ckpt_twin_port_real(card->port) : NULL;

		if (real && !card->announcer)
			card->announcer = ckpt_announcer_new(loop, card->addresses,
							     card->mac, real);
	}
}

static void promote(void *data)
{
	ckpt_node *node = data;

	g_clear_pointer(&node->sync_in, ckpt_node_sync_in_free);
	if (node->disk_twins) {
		ckpt_disk_twins_drop_held(node->disk_twins);
		ckpt_disk_twins_promote(node->disk_twins, durable, node);
	}
	/* The loop may have been held all the time, with nobody to read it. */
	vmm_machine_discard_console_input(node->machine);
	node->output = NULL;
	node->filter.is_twin = FALSE;
	if (node->filter.ops)
		node->filter.ops->promote(node->filter.filter);
	ckpt_twin_promote(node->twin);
	announce(node);
	wake_guest(node);
}

struct ckpt_twin_streams ckpt_node_twin_streams(ckpt_node *node)
{
	return (struct ckpt_twin_streams){
		.data = node,
		.set_need = set_need,
		.start = start_twin,
		.input = take_input,
		.addresses = take_addresses,
		.listen = listen_to_guest,
		.filter = take_filter,
		.disk_write = take_disk_write,
		.sync_disk = take_sync_disk,
		.disk_read = disk_read,
		.may_commit = may_commit,
		.applied = applied,
		.is_behind = is_behind,
		.promote = promote,
	};
}

/* The machine's devices. */

static void output(void *data, guint64 epoch, guint device, const struct iovec *iov,
		   guint count)
{
	ckpt_node *node = data;
	struct ckpt_output_head head = { .device = (guint8)device,
					 .lost = node->output_lost != FALSE };
	struct iovec pieces[1 + CKPT_MIRROR_PIECES_MAX];
	gsize len = 0;

	g_assert(count <= CKPT_MIRROR_PIECES_MAX);
	pieces[0] = (struct iovec){ &head, sizeof(head) };
	for (guint i = 0; i < count; i++) {
		pieces[1 + i] = iov[i];
		len += iov[i].iov_len;
	}
	head.length = wire_put32((guint32)len);
	/* Before the first checkpoint nothing runs. */
	node->output_lost = !node->output || !epoch ||
			    !ckpt_link_join(node->output, CKPT_OUTPUT, epoch, pieces,
					    1 + count, CKPT_OUTPUT_MAX);
}

static struct vmm_net_port *open_net(void *data, guint index,
				     const struct vmm_net_config *config, vmm_loop *loop,
				     GError **error)
{
	ckpt_node *node = data;
	struct card *card = &node->cards[index];
	struct vmm_net_port *port = vmm_tap_open(config->tap, loop, error);

	memcpy(card->mac, config->mac, sizeof(card->mac));
	card->real = port;
	if (!port)
		return NULL;
	if (node->is_twin)
		card->port = port = ckpt_twin_port_new_take(node->twin, index, port, loop,
							    card->addresses);
	card->relay = port = ckpt_relay_port_new_take(port, index, loop);
	port = ckpt_mirror_port_new_take(port, index, node->mirror,
					 node->is_twin ? NULL : card->addresses);
	return node->filter.ops ? ckpt_filter_port_new_take(port, index, &node->filter) : port;
}

static void disk_needs(void *data)
{
	need(data, CKPT_REASON_DISK);
}

static void disk_failed(void *data, guint index, enum vmm_disk_op op, int error)
{
	ckpt_node *node = data;

	g_warning("disk %u: cannot %s: %s", index,
		  op == VMM_DISK_READ ? "be read" : "write what was committed",
		  g_strerror(-error));
	if (node->hooks.disk_failed)
		node->hooks.disk_failed(node->hooks.data, index, op, error);
}

static void disk_kept(void *data, guint index, const struct vmm_disk_request *request,
		      int error)
{
	ckpt_node *node = data;

	if (node->hooks.disk_kept)
		node->hooks.disk_kept(node->hooks.data, index, request, error);
}

static void answer_kept(void *data, guint32 events)
{
	ckpt_node *node = data;

	ckpt_disk_out_answer_kept(node->disk_out);
}

void ckpt_node_keep_refused(ckpt_node *node, gboolean on)
{
	vmm_loop *loop = vmm_machine_loop(node->machine);

	vmm_loop_lock(loop);
	ckpt_disk_out_keep(node->disk_out, on ? disk_kept : NULL);
	if (!on && node->answer_kept)
		vmm_loop_again(node->answer_kept);
	vmm_loop_unlock(loop);
}

static struct vmm_disk *open_disk(void *data, guint index,
				  const struct vmm_disk_config *config, vmm_loop *loop,
				  GError **error)
{
	ckpt_node *node = data;
	const struct ckpt_disk_twin_hooks hooks = { node, disk_needs, disk_failed };
	const struct ckpt_disk_twin_limits limits = { node->disk_need, OWN_MAX,
						      node->disk_need, HELD_MAX };
	struct vmm_disk *disk = vmm_disk_open(config->path, config->readonly, config->direct,
					      loop, error);

	if (!disk)
		return NULL;
	if (!node->answer_kept)
		node->answer_kept = vmm_loop_add(loop, node->event_fd, 0, answer_kept, node);
	if (node->is_twin && !node->disk_twins) {
		node->disk_twins = ckpt_disk_twins_new(loop, &hooks, &limits);
		ckpt_disk_twins_flush_after(node->disk_twins, FLUSH_AFTER_MS);
	}
	if (node->is_twin)
		disk = ckpt_disk_twin_new_take(disk, index, node->disk_twins);
	return ckpt_disk_out_new_take(disk, index, node->disk_out);
}

static gsize entropy(void *data, void *bytes, gsize len)
{
	ckpt_node *node = data;

	return ckpt_mirror_rng(node->mirror, bytes, len);
}

static void console_given(void *data, guint console, const guint8 *bytes, gsize len)
{
	ckpt_node *node = data;

	ckpt_mirror_console(node->mirror, console, bytes, len);
}

static gsize console_next(void *data, guint console, guint8 *bytes, gsize len)
{
	ckpt_node *node = data;

	return ckpt_twin_console(node->twin, console, bytes, len);
}

static gboolean console_is_live(void *data)
{
	ckpt_node *node = data;

	return ckpt_twin_is_promoted(node->twin);
}

/* What has a place in the loop. */
static void closed(void *data)
{
	ckpt_node *node = data;

	for (guint i = 0; i < node->nets; i++)
		g_clear_pointer(&node->cards[i].announcer, ckpt_announcer_free);
	g_clear_pointer(&node->answer_kept, vmm_source_remove);
	g_clear_pointer(&node->disk_twins, ckpt_disk_twins_free);
	g_clear_pointer(&node->twin, ckpt_twin_free);
}

struct vmm_backends ckpt_node_backends(ckpt_node *node)
{
	return (struct vmm_backends){
		.data = node,
		.open_net = open_net,
		.open_disk = open_disk,
		.rng = entropy,
		.console = {
			.data = node,
			.given = console_given,
			.next = node->is_twin ? console_next : NULL,
			.is_live = node->is_twin ? console_is_live : NULL,
		},
		.closed = closed,
		.private_memory = node->is_twin,
	};
}

ckpt_node *ckpt_node_new(gboolean twin, guint nets, const struct ckpt_node_hooks *hooks,
			 const struct ckpt_filter_ops *filter)
{
	ckpt_node *node = g_new0(ckpt_node, 1);

	node->is_twin = twin;
	node->hooks = *hooks;
	node->input_need = INPUT_NEED;
	node->disk_need = DISK_NEED;
	g_assert(nets <= VMM_NETS_MAX);
	node->nets = nets;
	for (guint i = 0; i < nets; i++)
		node->cards[i].addresses = ckpt_addresses_new();
	node->disk_out = ckpt_disk_out_new(send_disk_write, node);
	node->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (node->event_fd < 0)
		g_error("eventfd for disks: %s", g_strerror(errno));
	node->filter_told = g_byte_array_new();
	node->filter_next = g_byte_array_new();
	if (filter)
		ckpt_filter_init(&node->filter, filter, twin);
	if (twin) {
		node->input = ckpt_input_new(nets, INPUT_MAX);
		node->twin = ckpt_twin_new(node->input, output, node);
		ckpt_twin_set_filter(node->twin, filter ? &node->filter : NULL);
	}
	node->mirror = twin ? ckpt_mirror_new(ckpt_twin_rng, node->twin) :
			      ckpt_mirror_new(NULL, NULL);
	ckpt_mirror_set_filter(node->mirror, filter);
	return node;
}

void ckpt_node_free(ckpt_node *node)
{
	if (!node)
		return;
	ckpt_mirror_free(node->mirror);
	ckpt_disk_out_free(node->disk_out);
	base_fd_clear(&node->event_fd);
	ckpt_disk_twins_free(node->disk_twins);
	ckpt_twin_free(node->twin);
	ckpt_input_free(node->input);
	ckpt_filter_clear(&node->filter);
	g_byte_array_unref(node->filter_told);
	g_byte_array_unref(node->filter_next);
	for (guint i = 0; i < node->nets; i++)
		ckpt_addresses_free(node->cards[i].addresses);
	g_free(node);
}

void ckpt_node_set_needs(ckpt_node *node, guint64 input, guint64 disk)
{
	node->input_need = input;
	node->disk_need = disk;
}

void ckpt_node_attach(ckpt_node *node, vmm_machine *machine)
{
	node->machine = machine;
}

const ckpt_addresses *ckpt_node_addresses(const ckpt_node *node, guint net)
{
	return node->cards[net].addresses;
}

const guint8 *ckpt_node_mac(const ckpt_node *node)
{
	return node->cards[0].mac;
}

gboolean ckpt_node_send_own(ckpt_node *node, const void *frame, gsize len)
{
	static const guint8 header[CKPT_NET_HEADER];
	vmm_loop *loop = vmm_machine_loop(node->machine);
	const struct iovec iov[] = { { (void *)header, sizeof(header) },
				     { (void *)frame, len } };
	struct vmm_net_port *real = node->cards[0].real;
	gboolean sent;

	vmm_loop_lock(loop);
	sent = real && (!node->is_twin || ckpt_twin_is_promoted(node->twin)) &&
	       real->send(real->data, iov, G_N_ELEMENTS(iov));
	vmm_loop_unlock(loop);
	return sent;
}
