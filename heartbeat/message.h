/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A heartbeat as it goes over the network, and the judge of what comes in.
 *
 * One UDP datagram of one size for everything, little-endian, under an HMAC-SHA-256.
 * The MAC's key is derived from the pair's (HKDF-SHA-256, with the pair's name), which
 * itself authenticates nothing here. The format is in this header and not in
 * base/wire.h because it carries a struct hb_self, which base/ knows nothing of.
 */
#ifndef HB_MESSAGE_H
#define HB_MESSAGE_H

#include "base/key.h"
#include "heartbeat/local.h"

#define HB_DATAGRAM_MAGIC 0x42484c43u /* "CLHB" */
#define HB_DATAGRAM_VERSION 1
#define HB_MAC_BYTES 32u

struct hb_datagram {
	wire_u32 magic;
	wire_u16 version;
	guint8 node; /* of the sender, 0 or 1 */
	guint8 path; /* which it is sent on */
	wire_u64 pair; /* a hash of the pair's name */
	wire_u64 session; /* of the sender: random, new at each start; never 0 */
	wire_u64 echo; /* the receiver's session as the sender believes it; 0: none */
	wire_u64 greets; /* a session that the sender heard of but cannot trust yet; 0:
			    none */
	wire_u64 sequence; /* of this session on this path, from 1 on */
	struct hb_self self;
	wire_u64 sent_ns; /* CLOCK_MONOTONIC of the sender */
	wire_u64 sent_tai_ns; /* CLOCK_TAI at the same instant */
	/* The last of the receiver's datagrams that was heard on this path: when the
	 * receiver sent it, and how long ago, by the sender's clock, it came. 0, 0:
	 * none yet. */
	wire_u64 heard_sent_ns, heard_age_ns;
	wire_u32 tai_offset_s; /* of the sender's kernel: 0 where it was never told */
	guint8 hears; /* bit i: path i is up for the sender */
	guint8 zero[3];
	guint8 mac[HB_MAC_BYTES]; /* of all before it */
};
G_STATIC_ASSERT(sizeof(struct hb_datagram) == 144);

/* The same in this host's numbers. */
struct hb_message {
	guint node, path;
	guint64 session, echo, greets, sequence;
	struct hb_self self;
	guint64 sent_ns, sent_tai_ns;
	guint64 heard_sent_ns, heard_age_ns;
	guint32 tai_offset_s;
	guint8 hears;
};

/* What becomes of a datagram. */
enum hb_verdict {
	HB_HEARD, /* new, and the peer knows our session: it lives */
	HB_LATE, /* was overtaken on its way: for statistics only */
	HB_GREETING, /* of a peer that has not heard us yet, and may be none */
	HB_MALFORMED, /* size, magic, version, pair, node, path or padding */
	HB_FORGED, /* the MAC is wrong */
	HB_REPLAYED, /* seen before, or not of this session of ours */
	HB_REFLECTED, /* our own come back */
	HB__VERDICTS
};

/* Seals and opens heartbeats of one node of a pair. One thread; sealing and opening
 * neither allocate nor wait. */
typedef struct hb_codec hb_codec;
/* Derives its key from the pair's, which it keeps no copy of. `node` is ours.
 * HB_ERROR_HOST: GnuTLS does not do it. */
hb_codec *hb_codec_new(const base_key *key, const char *pair, guint node,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;
void hb_codec_free(hb_codec *codec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(hb_codec, hb_codec_free)

/* Makes a datagram of everything in `message` but the node, which is ours. */
void hb_codec_seal(hb_codec *codec, const struct hb_message *message,
		   struct hb_datagram *datagram);
/* What each datagram of the peer on this path begins with: the first 16 bytes, up to
 * the session. */
void hb_codec_head(const hb_codec *codec, guint path, guint8 head[16]);
/* Puts the right MAC onto whatever else a datagram says; for tests, too. */
void hb_codec_sign(hb_codec *codec, struct hb_datagram *datagram);
/* Judges what came in on a path: HB_HEARD if it is the peer's and for this path
 * (whether it is new is hb_peer_judge()'s to say), then `message` is filled. What can
 * be refused without computing a MAC is. */
enum hb_verdict hb_codec_open(hb_codec *codec, guint path, const void *bytes,
			      gsize length, struct hb_message *message);

#endif
