/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What rewriters of two nodes tell each other: connections as they begin, and, with
 * each checkpoint, all that a promoted guest's clients see otherwise than it does. */
#include "netcompare/rewrite_private.h"

#include <netinet/in.h>
#include <string.h>

static void put_key(struct wire_rewrite_key *wire, const struct ncmp_flow_key *key)
{
	memset(wire, 0, sizeof(*wire));
	memcpy(wire->source, key->source, sizeof(wire->source));
	memcpy(wire->target, key->target, sizeof(wire->target));
	wire->source_port = wire_put16(key->source_port);
	wire->target_port = wire_put16(key->target_port);
	wire->vlan = wire_put16(key->vlan);
	wire->inner_vlan = wire_put16(key->inner_vlan);
	wire->family = key->family;
	wire->device = key->device;
}

static gboolean is_zero(const guint8 *bytes, gsize len)
{
	for (gsize i = 0; i < len; i++)
		if (bytes[i])
			return FALSE;
	return TRUE;
}

static const char *get_key(struct ncmp_flow_key *key,
			   const struct wire_rewrite_key *wire)
{
	memset(key, 0, sizeof(*key));
	memcpy(key->source, wire->source, sizeof(key->source));
	memcpy(key->target, wire->target, sizeof(key->target));
	key->source_port = wire_get16(wire->source_port);
	key->target_port = wire_get16(wire->target_port);
	key->vlan = wire_get16(wire->vlan);
	key->inner_vlan = wire_get16(wire->inner_vlan);
	key->family = wire->family;
	key->protocol = IPPROTO_TCP;
	key->device = wire->device;
	if (key->family != 4 && key->family != 6)
		return "a connection of no known family";
	if (key->family == 4 &&
	    (!is_zero(key->source + 4, 12) || !is_zero(key->target + 4, 12)))
		return "an address longer than its family's";
	if (key->vlan > 0xfff || key->inner_vlan > 0xfff)
		return "a VLAN that is none";
	if (!is_zero(wire->pad, sizeof(wire->pad)))
		return "padding that is not zero";
	return NULL;
}

gboolean ncmp_rewriter_birth(guint8 device, const guint8 *frame, gsize len,
			     struct wire_rewrite_birth *birth)
{
	struct ncmp_packet packet;

	ncmp_packet_parse_frame(&packet, frame, len, device);
	if (packet.kind != NCMP_KIND_TCP || !(packet.flags & NCMP_TCP_SYN))
		return FALSE;
	put_key(&birth->key, &packet.key);
	birth->isn = wire_put32(packet.seq);
	return TRUE;
}

const char *ncmp_rewriter_learn(ncmp_rewriter *rewriter,
				const struct wire_rewrite_birth *birth, gint64 now_ns)
{
	struct ncmp_connection *connection;
	struct ncmp_flow_key key;
	const char *why = get_key(&key, &birth->key);

	if (why)
		return why;
	connection = ncmp_table_find(rewriter, &key);
	/* After the promotion what the primary's guest began and this one did not is
	 * not known to any client. */
	if (!connection && rewriter->promoted)
		return NULL;
	if (!connection)
		connection = ncmp_table_add(rewriter, &key, now_ns);
	rewriter->counters.learned++;
	ncmp_connection_told(connection, wire_get32(birth->isn));
	ncmp_table_touch(rewriter, connection, now_ns);
	return NULL;
}

static gboolean is_worth_saving(const struct ncmp_connection *connection)
{
	guint32 matters = WIRE_REWRITE_OWN | WIRE_REWRITE_ISN | WIRE_REWRITE_TS;

	if (connection->flags & (NCMP_CONNECTION_NATIVE | NCMP_CONNECTION_RESET))
		return FALSE;
	return connection->flags & matters || connection->ts_before;
}

static void put_connection(const ncmp_rewriter *rewriter,
			   struct wire_rewrite_connection *wire,
			   const struct ncmp_connection *connection)
{
	guint32 ts_offset = connection->ts_offset;

	if (!(connection->flags & WIRE_REWRITE_TS))
		ts_offset += ncmp_rewriter_margin(rewriter, connection);
	put_key(&wire->key, &connection->key);
	wire->flags = wire_put32(connection->flags & WIRE_REWRITE_FLAGS);
	wire->own_isn = wire_put32(connection->own_isn);
	wire->isn = wire_put32(connection->isn);
	wire->irs = wire_put32(connection->irs);
	wire->ts_before = wire_put32(connection->ts_before);
	wire->ts_offset = wire_put32(ts_offset);
	wire->ts_from = wire_put32(connection->ts_from);
}

static const char *get_connection(struct ncmp_connection *connection,
				  const struct wire_rewrite_connection *wire)
{
	guint32 flags = wire_get32(wire->flags);

	if (flags & ~WIRE_REWRITE_FLAGS)
		return "a connection with unknown flags";
	connection->flags = flags | NCMP_CONNECTION_LOADED;
	connection->own_isn = wire_get32(wire->own_isn);
	connection->isn = wire_get32(wire->isn);
	connection->irs = wire_get32(wire->irs);
	connection->ts_before = wire_get32(wire->ts_before);
	connection->ts_offset = wire_get32(wire->ts_offset);
	connection->ts_from = wire_get32(wire->ts_from);
	if ((!(flags & WIRE_REWRITE_OWN) && connection->own_isn) ||
	    (!(flags & WIRE_REWRITE_ISN) && connection->isn) ||
	    (!(flags & WIRE_REWRITE_IRS) && connection->irs) ||
	    (!(flags & WIRE_REWRITE_TS) && connection->ts_from))
		return "a connection with a number that it does not have";
	if (flags & WIRE_REWRITE_OWN && flags & WIRE_REWRITE_ISN)
		connection->delta = connection->isn - connection->own_isn;
	return NULL;
}

void ncmp_rewriter_save(const ncmp_rewriter *rewriter, GByteArray *out)
{
	struct wire_rewrite_head head = {
		.version = wire_put16(NCMP_REWRITE_VERSION),
		.size = wire_put16(sizeof(struct wire_rewrite_connection)),
	};
	guint at = out->len;
	guint32 count = 0;

	if (!rewriter->promoted)
		return;
	if (!rewriter->settled)
		head.ts_offset = wire_put32(rewriter->ts_offset +
					    ncmp_rewriter_margin(rewriter, NULL));
	g_byte_array_append(out, (guint8 *)&head, sizeof(head));
	for (guint i = 0; i < NCMP_CLASSES; i++) {
		for (GList *link = rewriter->classes[i].head; link; link = link->next) {
			struct wire_rewrite_connection wire;

			if (!is_worth_saving(link->data))
				continue;
			put_connection(rewriter, &wire, link->data);
			g_byte_array_append(out, (guint8 *)&wire, sizeof(wire));
			count++;
		}
	}
	if (!count && rewriter->settled) {
		g_byte_array_set_size(out, at);
		return;
	}
	head.count = wire_put32(count);
	memcpy(out->data + at, &head, sizeof(head));
}

static const char *load(ncmp_rewriter *rewriter, const guint8 *bytes, gsize len,
			gint64 now_ns)
{
	struct wire_rewrite_head head;
	guint32 count;

	if (len < sizeof(head))
		return "translations without a head";
	memcpy(&head, bytes, sizeof(head));
	bytes += sizeof(head);
	len -= sizeof(head);
	count = wire_get32(head.count);
	if (wire_get16(head.version) != NCMP_REWRITE_VERSION)
		return "translations of another version";
	if (wire_get16(head.size) != sizeof(struct wire_rewrite_connection))
		return "translations of another size";
	if (wire_get32(head.pad))
		return "padding that is not zero";
	if (count > rewriter->connections_max)
		return "more translations than are kept";
	if (len != (gsize)count * sizeof(struct wire_rewrite_connection))
		return "translations of another number than said";
	rewriter->ts_offset = wire_get32(head.ts_offset);
	for (; count; count--) {
		struct ncmp_connection *connection;
		struct wire_rewrite_connection wire;
		struct ncmp_flow_key key;
		const char *why;

		memcpy(&wire, bytes, sizeof(wire));
		bytes += sizeof(wire);
		why = get_key(&key, &wire.key);
		if (why)
			return why;
		if (ncmp_table_find(rewriter, &key))
			return "a connection twice";
		connection = ncmp_table_add(rewriter, &key, now_ns);
		why = get_connection(connection, &wire);
		if (why)
			return why;
		ncmp_table_touch(rewriter, connection, now_ns);
	}
	return NULL;
}

const char *ncmp_rewriter_load(ncmp_rewriter *rewriter, const guint8 *bytes, gsize len,
			       gint64 now_ns)
{
	g_autoptr(ncmp_rewriter) loaded = NULL;
	const char *why = NULL;

	if (rewriter->promoted)
		return "translations for a guest that was promoted";
	if (!len) {
		ncmp_table_clear(rewriter);
		rewriter->ts_offset = 0;
		return NULL;
	}
	loaded = ncmp_rewriter_new(rewriter->connections_max, rewriter->seed);
	why = load(loaded, bytes, len, now_ns);
	if (!why)
		ncmp_table_swap(rewriter, loaded);
	return why;
}
