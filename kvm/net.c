/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-net with one queue pair.
 *
 * To the host: the frame goes from guest memory straight into the port, behind a header
 * that was copied once, judged against the frame and the negotiated features, and
 * reduced to what a port has to know. So neither the host's kernel nor whoever
 * replicates sees a field that the guest can still change. Where the port has no room,
 * the chain goes back to the ring and the port's ready() resumes: nothing is ever half
 * sent.
 *
 * To the guest: the port writes straight into the driver's next chain. With mergeable
 * buffers a chain may be shorter than the frame; what does not fit lands in `spill` and
 * is spread over further chains, which the driver sees all at once. If there are not
 * enough of them the frame waits in `held`, and the port is not asked again until the
 * driver has added some: a tap's readiness is level-triggered and would spin.
 *
 * A frame in `held` is saved with the queues: whoever replicates has counted it as given.
 * It is dropped when the driver resets the device.
 */
#include "kvm/net.h"

#include <linux/if_ether.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "kvm/error.h"
#include "kvm/iov.h"

#define RX 0
#define TX 1
/* Frames in one run of a handler: a few hundred microseconds at the most. */
#define BATCH 64
#define HEADER sizeof(struct virtio_net_hdr_v1)
#define PAYLOAD_MAX (VMM_NET_FRAME_MAX - HEADER)

#define BIT(name) (1ull << VIRTIO_NET_F_##name)
#define OFFLOADS                                                         \
	(BIT(CSUM) | BIT(GUEST_CSUM) | BIT(HOST_TSO4) | BIT(HOST_TSO6) | \
	 BIT(HOST_ECN) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6) | BIT(GUEST_ECN))

G_STATIC_ASSERT(HEADER == 12);

/* A chain that has its part of a frame, not yet returned to the driver. */
struct filled {
	guint16 head;
	guint32 written;
};

struct vmm_net {
	guint instance;
	vmm_virtio *virtio;
	const struct vmm_platform *platform;
	struct vmm_net_port *port;
	guint8 mac[6];
	struct vmm_net_counters counters;
	gboolean tx_full; /* the port had no room; it calls ready() */
	gboolean hearing; /* the port was told that we want frames */
	/* A frame that the driver had no room for: its header and payload. */
	struct virtio_net_hdr_v1 held_header;
	gsize held;    /* payload bytes in `spill`; 0: none */
	guint8 *spill; /* PAYLOAD_MAX bytes */
	struct filled filled[VMM_QUEUE_SIZE_MAX];
	/* Too big for a stack that handlers share; used within one call each. */
	struct vmm_chain chain, more;
	struct iovec pieces[VMM_CHAIN_MAX + 2];
};

static gboolean has(const vmm_net *net, guint64 feature)
{
	return vmm_virtio_features(net->virtio) & feature;
}

/* The checksum that the other side is to fill in must lie in the frame. */
static gboolean judge_checksum(const struct virtio_net_hdr_v1 *header, gsize payload)
{
	gsize start = GUINT16_FROM_LE(header->csum_start);
	gsize offset = GUINT16_FROM_LE(header->csum_offset);

	return start + offset + sizeof(guint16) <= payload;
}

/* FALSE: the segmentation asked for is none that `v4`, `v6` and `ecn` allow. */
static gboolean judge_segments(const vmm_net *net,
			       const struct virtio_net_hdr_v1 *header, gsize payload,
			       guint64 v4, guint64 v6, guint64 ecn)
{
	guint8 type = header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
	guint64 needed;

	if (type == VIRTIO_NET_HDR_GSO_TCPV4)
		needed = v4;
	else if (type == VIRTIO_NET_HDR_GSO_TCPV6)
		needed = v6;
	else
		return FALSE;
	if (!has(net, needed))
		return FALSE;
	if ((header->gso_type & VIRTIO_NET_HDR_GSO_ECN) && !has(net, ecn))
		return FALSE;
	/* Each segment gets a checksum of its own (5.1.6.2). */
	return (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && header->gso_size &&
	       GUINT16_FROM_LE(header->hdr_len) <= payload;
}

/* Reduces a header of the driver's to what a port needs; FALSE where it asks for what
 * was not negotiated or reaches beyond the frame. */
static gboolean judge_sent(const vmm_net *net, struct virtio_net_hdr_v1 *header,
			   gsize payload)
{
	struct virtio_net_hdr_v1 clean = { 0 };

	if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		if (!has(net, BIT(CSUM)) || !judge_checksum(header, payload))
			return FALSE;
		clean.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		clean.csum_start = header->csum_start;
		clean.csum_offset = header->csum_offset;
	}
	if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		if (!judge_segments(net, header, payload, BIT(HOST_TSO4),
				    BIT(HOST_TSO6), BIT(HOST_ECN)))
			return FALSE;
		clean.gso_type = header->gso_type;
		clean.gso_size = header->gso_size;
		clean.hdr_len = header->hdr_len;
	}
	*header = clean;
	return TRUE;
}

/* The same for a header from the port. Frames that it prepared before the driver
 * (another one, perhaps) said what it accepts are refused here. */
static gboolean judge_received(const vmm_net *net, struct virtio_net_hdr_v1 *header,
			       gsize payload)
{
	struct virtio_net_hdr_v1 clean = { .num_buffers = GUINT16_TO_LE(1) };

	if (payload < ETH_HLEN)
		return FALSE;
	if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		if (!has(net, BIT(GUEST_CSUM)) || !judge_checksum(header, payload))
			return FALSE;
		clean.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		clean.csum_start = header->csum_start;
		clean.csum_offset = header->csum_offset;
	} else if (has(net, BIT(GUEST_CSUM))) {
		clean.flags = header->flags & VIRTIO_NET_HDR_F_DATA_VALID;
	}
	if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		if (!judge_segments(net, header, payload, BIT(GUEST_TSO4),
				    BIT(GUEST_TSO6), BIT(GUEST_ECN)))
			return FALSE;
		clean.gso_type = header->gso_type;
		clean.gso_size = header->gso_size;
		clean.hdr_len = header->hdr_len;
	}
	*header = clean;
	return TRUE;
}

/* FALSE: the port has no room for it now. */
static gboolean send_chain(vmm_net *net, const struct vmm_chain *chain)
{
	struct virtio_net_hdr_v1 header;
	gsize payload = chain->out_len - MIN(chain->out_len, HEADER);
	guint n;

	if (payload < ETH_HLEN || payload > PAYLOAD_MAX) {
		net->counters.tx_dropped++;
		return TRUE;
	}
	vmm_iov_read(VMM_CHAIN_OUT(chain), chain->n_out, 0, &header, HEADER);
	if (!judge_sent(net, &header, payload)) {
		net->counters.tx_dropped++;
		return TRUE;
	}
	net->pieces[0] = (struct iovec){ &header, HEADER };
	n = vmm_iov_slice(VMM_CHAIN_OUT(chain), chain->n_out, HEADER, payload,
			  net->pieces + 1);
	if (!net->port->send(net->port->data, net->pieces, n + 1))
		return FALSE;
	net->counters.tx_frames++;
	net->counters.tx_bytes += payload;
	return TRUE;
}

/* Sends what the driver offers, up to a batch. */
static void run_tx(vmm_net *net)
{
	struct vmm_queue *queue = vmm_virtio_queue(net->virtio, TX);
	gboolean more = TRUE;

	if (!vmm_virtio_running(net->virtio) || net->tx_full)
		return;
	vmm_queue_want_kicks(queue, FALSE);
	for (guint n = 0; n < BATCH && !vmm_loop_wanted(net->platform->loop); n++) {
		enum vmm_pop pop = vmm_queue_pop(queue, &net->chain);

		if (pop == VMM_POP_EMPTY) {
			/* Asked before the second look, or a chain added between the
			 * two would lie there unseen. */
			vmm_queue_want_kicks(queue, TRUE);
			more = vmm_queue_has_work(queue);
			if (!more)
				break;
			vmm_queue_want_kicks(queue, FALSE);
			continue;
		}
		if (pop == VMM_POP_BROKEN) {
			more = FALSE;
			break;
		}
		if (!send_chain(net, &net->chain)) {
			vmm_queue_unpop(queue, 1);
			net->tx_full = TRUE;
			more = FALSE;
			break;
		}
		vmm_queue_push(queue, &net->chain, 0);
	}
	if (more)
		vmm_virtio_again(net->virtio, TX);
	/* Last: it may find the queue broken and stop the device. */
	vmm_virtio_signal(net->virtio, TX);
}

static void hear(vmm_net *net, gboolean want)
{
	if (net->hearing == want)
		return;
	net->hearing = want;
	net->port->want_receive(net->port->data, want);
}

/* The next buffer; EMPTY only after the driver was asked to say when it adds one. All
 * chains popped so far count as taken then, so that with event indices it is the next
 * new one that brings the notification, whatever goes back to the ring afterwards. */
static enum vmm_pop pop_buffer(struct vmm_queue *queue, struct vmm_chain *chain)
{
	enum vmm_pop pop = vmm_queue_pop(queue, chain);

	if (pop != VMM_POP_EMPTY)
		return pop;
	vmm_queue_want_kicks(queue, TRUE);
	pop = vmm_queue_pop(queue, chain);
	if (pop == VMM_POP_CHAIN)
		vmm_queue_want_kicks(queue, FALSE);
	return pop;
}

enum delivery {
	DELIVERED,
	DROPPED,
	NO_FRAME,
	NO_BUFFER,
	BROKEN,
};

/* Says that the device wrote `len` bytes into a chain that is not pushed as it is. */
static void mark_in(vmm_net *net, const struct vmm_chain *chain, gsize len)
{
	vmm_iov_mark(net->platform->memory, VMM_CHAIN_IN(chain), chain->n_in,
		     MIN(len, chain->in_len));
}

/* A frame whose first `placed` bytes (header included) are in net->chain, the chain
 * popped first: spreads the `rest_len` bytes at `rest` over further chains and returns
 * all of them. NO_BUFFER: there are too few; those popped are back in the ring. */
static enum delivery spread(vmm_net *net, struct virtio_net_hdr_v1 *header,
			    gsize placed, const guint8 *rest, gsize rest_len)
{
	struct vmm_queue *queue = vmm_virtio_queue(net->virtio, RX);
	gsize done = 0;
	guint n = 1;

	/* Also where they go back: their memory has changed all the same. */
	mark_in(net, &net->chain, placed);
	net->filled[0] = (struct filled){ net->chain.head, (guint32)placed };
	while (done < rest_len) {
		enum vmm_pop pop;
		gsize part;

		if (n == queue->size) {
			/* A full ring of them is too little: it never fits. */
			vmm_queue_unpop(queue, n);
			return DROPPED;
		}
		pop = pop_buffer(queue, &net->more);
		if (pop == VMM_POP_EMPTY) {
			vmm_queue_unpop(queue, n);
			return NO_BUFFER;
		}
		if (pop == VMM_POP_BROKEN)
			return BROKEN;
		if (!net->more.in_len) {
			vmm_virtio_break(net->virtio,
					 "a receive buffer is not writable");
			return BROKEN;
		}
		part = vmm_iov_write(VMM_CHAIN_IN(&net->more), net->more.n_in, 0,
				     rest + done, rest_len - done);
		mark_in(net, &net->more, part);
		net->filled[n++] = (struct filled){ net->more.head, (guint32)part };
		done += part;
	}
	header->num_buffers = GUINT16_TO_LE((guint16)n);
	vmm_iov_write(VMM_CHAIN_IN(&net->chain), net->chain.n_in, 0, header, HEADER);
	for (guint i = 0; i < n - 1; i++)
		vmm_queue_stage_head(queue, net->filled[i].head,
				     net->filled[i].written);
	vmm_queue_push_head(queue, net->filled[n - 1].head, net->filled[n - 1].written);
	return DELIVERED;
}

/* Takes the first chain for a frame into net->chain. */
static enum delivery first_buffer(vmm_net *net)
{
	enum vmm_pop pop = pop_buffer(vmm_virtio_queue(net->virtio, RX), &net->chain);

	if (pop == VMM_POP_EMPTY)
		return NO_BUFFER;
	if (pop == VMM_POP_BROKEN)
		return BROKEN;
	if (net->chain.in_len < HEADER) {
		vmm_virtio_break(net->virtio,
				 "a receive buffer is shorter than a header");
		return BROKEN;
	}
	return DELIVERED;
}

static void count_received(vmm_net *net, enum delivery delivery, gsize payload)
{
	if (delivery == DELIVERED) {
		net->counters.rx_frames++;
		net->counters.rx_bytes += payload;
	} else if (delivery == DROPPED) {
		net->counters.rx_dropped++;
	}
}

/* Delivers the frame that waited for buffers. */
static enum delivery deliver_held(vmm_net *net)
{
	struct virtio_net_hdr_v1 header = net->held_header;
	gsize payload = net->held;
	enum delivery delivery;
	gsize part;

	/* Only one that was loaded can ask for what this driver does not take. */
	if (!judge_received(net, &header, payload)) {
		net->held = 0;
		net->counters.rx_dropped++;
		return DROPPED;
	}
	delivery = first_buffer(net);
	if (delivery != DELIVERED)
		return delivery;
	part = vmm_iov_write(VMM_CHAIN_IN(&net->chain), net->chain.n_in, HEADER,
			     net->spill, payload);
	delivery =
		spread(net, &header, HEADER + part, net->spill + part, payload - part);
	if (delivery != NO_BUFFER)
		net->held = 0;
	count_received(net, delivery, payload);
	return delivery;
}

/* Keeps a frame whose first `part` bytes are in net->chain and whose others are at the
 * start of the spill buffer. That the driver may have changed the former by now harms
 * nobody but itself. */
static void hold(vmm_net *net, const struct virtio_net_hdr_v1 *header, gsize part,
		 gsize payload)
{
	memmove(net->spill + part, net->spill, payload - part);
	vmm_iov_read(VMM_CHAIN_IN(&net->chain), net->chain.n_in, HEADER, net->spill,
		     part);
	net->held_header = *header;
	net->held = payload;
}

/* Has the port write its next frame into the driver's next buffers. */
static enum delivery receive_frame(vmm_net *net)
{
	struct vmm_queue *queue = vmm_virtio_queue(net->virtio, RX);
	struct vmm_chain *chain = &net->chain;
	struct virtio_net_hdr_v1 header;
	enum delivery delivery = first_buffer(net);
	gsize room, payload;
	gssize got;
	guint n = 1;

	if (delivery != DELIVERED)
		return delivery;
	room = MIN(chain->in_len - HEADER, PAYLOAD_MAX);
	net->pieces[0] = (struct iovec){ &header, HEADER };
	n += vmm_iov_slice(VMM_CHAIN_IN(chain), chain->n_in, HEADER, room,
			   net->pieces + 1);
	if (room < PAYLOAD_MAX && has(net, BIT(MRG_RXBUF)))
		net->pieces[n++] = (struct iovec){ net->spill, PAYLOAD_MAX - room };
	got = net->port->receive(net->port->data, net->pieces, n);
	if (got == 0) {
		vmm_queue_unpop(queue, 1);
		return NO_FRAME;
	}
	payload = got > (gssize)HEADER ? (gsize)got - HEADER : 0;
	if (got < 0 || !judge_received(net, &header, payload)) {
		/* The port may have filled the buffer before it knew. */
		mark_in(net, chain, HEADER + room);
		vmm_queue_unpop(queue, 1);
		net->counters.rx_dropped++;
		return DROPPED;
	}
	if (payload > room) {
		delivery =
			spread(net, &header, HEADER + room, net->spill, payload - room);
		if (delivery == NO_BUFFER)
			hold(net, &header, room, payload);
	} else {
		vmm_iov_write(VMM_CHAIN_IN(chain), chain->n_in, 0, &header, HEADER);
		vmm_queue_push(queue, chain, (guint32)(HEADER + payload));
	}
	count_received(net, delivery, payload);
	return delivery;
}

/* Delivers what the port has, up to a batch. */
static void run_rx(vmm_net *net)
{
	enum delivery delivery = DELIVERED;

	if (!vmm_virtio_running(net->virtio))
		return;
	vmm_queue_want_kicks(vmm_virtio_queue(net->virtio, RX), FALSE);
	hear(net, TRUE);
	for (guint n = 0; n < BATCH && !vmm_loop_wanted(net->platform->loop); n++) {
		delivery = net->held ? deliver_held(net) : receive_frame(net);
		if (delivery != DELIVERED && delivery != DROPPED)
			break;
	}
	if (delivery == NO_BUFFER)
		hear(net, FALSE);
	if (delivery == DELIVERED || delivery == DROPPED)
		vmm_virtio_again(net->virtio, RX);
	/* Last: it may find the queue broken and stop the device. */
	vmm_virtio_signal(net->virtio, RX);
}

static void on_ready(void *data)
{
	vmm_net *net = data;

	if (net->tx_full) {
		net->tx_full = FALSE;
		run_tx(net);
	}
	if (net->hearing)
		run_rx(net);
}

static void config_read(void *data, guint offset, void *buf, guint len)
{
	const vmm_net *net = data;
	struct virtio_net_config config = {
		.status = GUINT16_TO_LE(VIRTIO_NET_S_LINK_UP),
		.max_virtqueue_pairs = GUINT16_TO_LE(1),
	};

	memcpy(config.mac, net->mac, sizeof(config.mac));
	memcpy(buf, (guint8 *)&config + offset, len);
}

/* As before the first frame, but for one that was loaded. */
static void start(void *data)
{
	vmm_net *net = data;

	net->tx_full = FALSE;
	hear(net, FALSE);
	net->port->set_offloads(net->port->data,
				vmm_virtio_features(net->virtio) &
					(BIT(GUEST_CSUM) | BIT(GUEST_TSO4) |
					 BIT(GUEST_TSO6) | BIT(GUEST_ECN)));
	/* Some drivers notify before they set DRIVER_OK, which nobody heard. */
	vmm_virtio_again(net->virtio, RX);
	vmm_virtio_again(net->virtio, TX);
}

static void stop(void *data)
{
	vmm_net *net = data;

	net->held = 0;
	net->tx_full = FALSE;
	hear(net, FALSE);
}

static void kick(void *data, guint index)
{
	if (index == RX)
		run_rx(data);
	else if (index == TX)
		run_tx(data);
}

/* Saved state. */

#define SAVED_VERSION 1

/* The frame that waits, `length` bytes of it behind this; all zero where there is none. */
struct net_saved {
	wire_u32 length;
	guint8 header[HEADER];
};
G_STATIC_ASSERT(sizeof(struct net_saved) == 16);

static const struct vmm_state_field net_fields[] = {
	VMM_STATE_FIELD(struct net_saved, length),
	VMM_STATE_FIELD(struct net_saved, header),
	{ "frame", sizeof(struct net_saved), PAYLOAD_MAX },
	{ 0 },
};

static void save(void *data, vmm_state *state)
{
	const vmm_net *net = data;
	g_autofree guint8 *bytes = g_malloc(sizeof(struct net_saved) + net->held);
	struct net_saved saved = { .length = wire_put32((guint32)net->held) };

	if (net->held)
		memcpy(saved.header, &net->held_header, HEADER);
	memcpy(bytes, &saved, sizeof(saved));
	memcpy(bytes + sizeof(saved), net->spill, net->held);
	vmm_state_put(state, "net", net->instance, SAVED_VERSION, bytes,
		      sizeof(saved) + net->held, net_fields);
}

/* NULL, or what cannot be loaded. `len`: of the frame. Whether the driver takes what the
 * header asks for is judged when it is delivered. */
static const char *check_saved(const struct net_saved *saved, gsize len)
{
	static const guint8 zero[HEADER];
	struct virtio_net_hdr_v1 header;

	if (wire_get32(saved->length) != len)
		return "the frame that waits has not its length";
	if (!len)
		return memcmp(saved->header, zero, HEADER) ?
			       "a frame waits that has no bytes" :
			       NULL;
	memcpy(&header, saved->header, HEADER);
	if (len < ETH_HLEN)
		return "the frame that waits is too short";
	if (header.num_buffers != GUINT16_TO_LE(1) ||
	    (header.flags & ~(VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID)))
		return "the frame that waits has an impossible header";
	return NULL;
}

static gboolean load(void *data, const vmm_state *state, enum vmm_load pass,
		     GError **error)
{
	vmm_net *net = data;
	gsize len = 0;
	const struct net_saved *saved =
		vmm_state_get(state, "net", net->instance, SAVED_VERSION,
			      sizeof(*saved), sizeof(*saved) + PAYLOAD_MAX, &len, error);
	const char *why;

	if (!saved)
		return FALSE;
	len -= sizeof(*saved);
	why = check_saved(saved, len);
	if (why)
		return vmm_error_set(error, VMM_ERROR_STATE, "saved net.%u: %s",
				     net->instance, why);
	/* A device that does not run has no frame, whatever the state says, nor one whose
	 * driver takes each in one buffer. */
	if (pass == VMM_LOAD_CHECK || !vmm_virtio_running(net->virtio) ||
	    !has(net, BIT(MRG_RXBUF)))
		return TRUE;
	memcpy(&net->held_header, saved->header, HEADER);
	memcpy(net->spill, saved + 1, len);
	net->held = len;
	return TRUE;
}

static const struct vmm_virtio_class net_class = {
	.name = "net",
	.type = VIRTIO_ID_NET,
	.pci_class = 0x020000,
	.queues = 2,
	.config_len = G_STRUCT_OFFSET(struct virtio_net_config, mtu),
	.config_read = config_read,
	.start = start,
	.stop = stop,
	.kick = kick,
	.save = save,
	.load = load,
};

vmm_net *vmm_net_new_take(vmm_pci *pci, const struct vmm_platform *platform,
			  guint instance, const guint8 mac[6],
			  struct vmm_net_port *port, GError **error)
{
	vmm_net *net = g_new0(vmm_net, 1);

	net->instance = instance;
	net->platform = platform;
	net->port = port;
	memcpy(net->mac, mac, sizeof(net->mac));
	net->spill = g_malloc(PAYLOAD_MAX);
	net->virtio = vmm_virtio_new(pci, platform, &net_class, instance,
				     BIT(MAC) | BIT(STATUS) | BIT(MRG_RXBUF) |
					     (port->features & OFFLOADS),
				     net, error);
	if (!net->virtio) {
		vmm_net_free(net);
		return NULL;
	}
	port->attach(port->data, on_ready, net);
	return net;
}

void vmm_net_free(vmm_net *net)
{
	if (!net)
		return;
	vmm_virtio_free(net->virtio);
	net->port->free(net->port->data);
	g_free(net->spill);
	g_free(net);
}

vmm_virtio *vmm_net_virtio(vmm_net *net)
{
	return net->virtio;
}

void vmm_net_get_counters(const vmm_net *net, struct vmm_net_counters *counters)
{
	*counters = net->counters;
}
