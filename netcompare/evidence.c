/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What shows a divergence, as packets in a capture file. */
#include "netcompare/evidence.h"

#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>

#define ETHERTYPE_IPV4 0x0800u
#define ETHERTYPE_IPV6 0x86ddu
#define PACKET_MAX 65535u

static void add_ip(GByteArray *packet, const struct ncmp_flow_key *key, gsize len)
{
	struct ip6_hdr six = { 0 };
	struct iphdr four = { 0 };

	if (key->family == 6) {
		six.ip6_flow = htonl(6u << 28);
		six.ip6_plen = htons((guint16)len);
		six.ip6_nxt = key->protocol;
		memcpy(&six.ip6_src, key->source, sizeof(six.ip6_src));
		memcpy(&six.ip6_dst, key->target, sizeof(six.ip6_dst));
		g_byte_array_append(packet, (guint8 *)&six, sizeof(six));
		return;
	}
	four.version = 4;
	four.ihl = 5;
	four.tot_len = htons((guint16)(sizeof(four) + len));
	four.protocol = key->protocol;
	memcpy(&four.saddr, key->source, sizeof(four.saddr));
	memcpy(&four.daddr, key->target, sizeof(four.daddr));
	g_byte_array_append(packet, (guint8 *)&four, sizeof(four));
}

/* A packet of which the comparison kept only what is in it. */
static GByteArray *rebuild(const struct ncmp_divergence *d, const guint8 *bytes,
			   gsize len)
{
	gboolean is_tcp = d->key->protocol == IPPROTO_TCP;
	struct tcphdr tcp = { .th_sport = htons(d->key->source_port),
			      .th_dport = htons(d->key->target_port),
			      .th_seq = htonl((guint32)d->position),
			      .th_off = sizeof(tcp) / 4,
			      .th_flags = TH_ACK };
	gsize head = is_tcp ? sizeof(tcp) : 0;
	GByteArray *packet = g_byte_array_new();

	len = MIN(len, PACKET_MAX - sizeof(struct ip6_hdr) - sizeof(tcp));
	add_ip(packet, d->key, head + len);
	if (is_tcp)
		g_byte_array_append(packet, (guint8 *)&tcp, sizeof(tcp));
	g_byte_array_append(packet, bytes, (guint)len);
	return packet;
}

static void dump_side(ncmp_dump *dump, enum ncmp_dump_side side,
		      const struct ncmp_divergence *d, const guint8 *bytes, gsize len,
		      const char *comment, gint64 time_ns)
{
	guint16 vlan = d->key ? d->key->vlan : 0;
	g_autoptr(GByteArray) rebuilt = NULL;
	guint16 ethertype;

	if (!bytes || !len)
		return;
	if (d->cause == NCMP_CAUSE_PAYLOAD && d->key) {
		rebuilt = rebuild(d, bytes, len);
		bytes = rebuilt->data;
		len = rebuilt->len;
	}
	ethertype = bytes[0] >> 4 == 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
	ncmp_dump_packet(dump, side, time_ns, ethertype, vlan, bytes, len, comment);
}

void ncmp_evidence_dump(ncmp_dump *dump, const struct ncmp_divergence *d,
			gint64 time_ns)
{
	g_autofree char *comment = g_strdup_printf(
		"%s in epoch %" G_GUINT64_FORMAT " at position %" G_GUINT64_FORMAT,
		ncmp_cause_name(d->cause), d->epoch, d->position);

	dump_side(dump, NCMP_DUMP_PRIMARY, d, d->primary, d->primary_len, comment,
		  time_ns);
	dump_side(dump, NCMP_DUMP_SECONDARY, d, d->secondary, d->secondary_len, comment,
		  time_ns);
}
