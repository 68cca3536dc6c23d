/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A heartbeat as it goes over the network, and the judge of what comes in. */
#include "heartbeat/message.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stddef.h>
#include <string.h>
#include <xxhash.h>

#include "heartbeat/error.h"

#define LABEL "colo heartbeat 1" /* what the derived key is for */
#define SIGNED_BYTES offsetof(struct hb_datagram, mac)

struct hb_codec {
	gnutls_hmac_hd_t mac;
	guint64 pair;
	guint node;
};

/* HKDF: the pair's name is part of what is derived, so that two pairs that share a key
 * file by mistake do not understand each other. */
static int derive(const base_key *key, const char *pair, guint8 derived[HB_MAC_BYTES])
{
	const gnutls_datum_t salt = { (unsigned char *)LABEL, sizeof(LABEL) - 1 };
	const gnutls_datum_t info = { (unsigned char *)pair, (unsigned)strlen(pair) };
	guint8 middle[HB_MAC_BYTES];
	const gnutls_datum_t extracted = { middle, sizeof(middle) };
	gnutls_datum_t secret;
	gsize length;
	int rc;

	secret.data = (unsigned char *)base_key_bytes(key, &length);
	secret.size = (unsigned)length;
	rc = gnutls_hkdf_extract(GNUTLS_MAC_SHA256, &secret, &salt, middle);
	if (!rc)
		rc = gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &extracted, &info, derived,
					HB_MAC_BYTES);
	explicit_bzero(middle, sizeof(middle));
	return rc;
}

hb_codec *hb_codec_new(const base_key *key, const char *pair, guint node,
		       GError **error)
{
	g_autoptr(hb_codec) codec = g_new0(hb_codec, 1);
	guint8 derived[HB_MAC_BYTES];
	int rc = derive(key, pair, derived);

	codec->node = node;
	codec->pair = XXH3_64bits(pair, strlen(pair));
	if (!rc)
		rc = gnutls_hmac_init(&codec->mac, GNUTLS_MAC_SHA256, derived,
				      sizeof(derived));
	explicit_bzero(derived, sizeof(derived));
	if (rc) {
		codec->mac = NULL;
		hb_error_set(error, HB_ERROR_HOST, "derive the key of heartbeats: %s",
			     gnutls_strerror(rc));
		return NULL;
	}
	return g_steal_pointer(&codec);
}

void hb_codec_free(hb_codec *codec)
{
	if (!codec)
		return;
	if (codec->mac)
		gnutls_hmac_deinit(codec->mac, NULL); /* wipes its key */
	g_free(codec);
}

static void compute(hb_codec *codec, const struct hb_datagram *datagram,
		    guint8 mac[HB_MAC_BYTES])
{
	/* Fails only where GnuTLS is not fit for use at all: then the MAC stays all
	 * zero, and sealed() below refuses one. */
	memset(mac, 0, HB_MAC_BYTES);
	if (!gnutls_hmac(codec->mac, datagram, SIGNED_BYTES))
		gnutls_hmac_output(codec->mac, mac);
}

void hb_codec_sign(hb_codec *codec, struct hb_datagram *datagram)
{
	compute(codec, datagram, datagram->mac);
}

void hb_codec_seal(hb_codec *codec, const struct hb_message *message,
		   struct hb_datagram *datagram)
{
	*datagram = (struct hb_datagram){
		.magic = wire_put32(HB_DATAGRAM_MAGIC),
		.version = wire_put16(HB_DATAGRAM_VERSION),
		.node = (guint8)codec->node,
		.path = (guint8)message->path,
		.pair = wire_put64(codec->pair),
		.session = wire_put64(message->session),
		.echo = wire_put64(message->echo),
		.greets = wire_put64(message->greets),
		.sequence = wire_put64(message->sequence),
		.self = message->self,
		.sent_ns = wire_put64(message->sent_ns),
		.sent_tai_ns = wire_put64(message->sent_tai_ns),
		.heard_sent_ns = wire_put64(message->heard_sent_ns),
		.heard_age_ns = wire_put64(message->heard_age_ns),
		.tai_offset_s = wire_put32(message->tai_offset_s),
		.hears = message->hears,
	};
	hb_codec_sign(codec, datagram);
}

void hb_codec_head(const hb_codec *codec, guint path, guint8 head[16])
{
	const struct hb_datagram datagram = {
		.magic = wire_put32(HB_DATAGRAM_MAGIC),
		.version = wire_put16(HB_DATAGRAM_VERSION),
		.node = (guint8)!codec->node,
		.path = (guint8)path,
		.pair = wire_put64(codec->pair),
	};

	G_STATIC_ASSERT(offsetof(struct hb_datagram, session) == 16);
	memcpy(head, &datagram, 16);
}

/* Whether it may be a heartbeat of this pair, before anything costs anything. */
static gboolean looks_right(const hb_codec *codec, const struct hb_datagram *datagram)
{
	return wire_get32(datagram->magic) == HB_DATAGRAM_MAGIC &&
	       wire_get16(datagram->version) == HB_DATAGRAM_VERSION &&
	       wire_get64(datagram->pair) == codec->pair && datagram->node < 2;
}

/* In constant time. */
static gboolean sealed(hb_codec *codec, const struct hb_datagram *datagram)
{
	static const guint8 none[HB_MAC_BYTES];
	guint8 mac[HB_MAC_BYTES];

	compute(codec, datagram, mac);
	return !gnutls_memcmp(mac, datagram->mac, sizeof(mac)) &&
	       gnutls_memcmp(mac, none, sizeof(mac));
}

static gboolean padding_is_zero(const struct hb_datagram *datagram)
{
	static const guint8 zero[8];

	return !memcmp(datagram->zero, zero, sizeof(datagram->zero)) &&
	       !memcmp(datagram->self.zero, zero, sizeof(datagram->self.zero));
}

static void unpack(const struct hb_datagram *datagram, struct hb_message *message)
{
	*message = (struct hb_message){
		.node = datagram->node,
		.path = datagram->path,
		.session = wire_get64(datagram->session),
		.echo = wire_get64(datagram->echo),
		.greets = wire_get64(datagram->greets),
		.sequence = wire_get64(datagram->sequence),
		.self = datagram->self,
		.sent_ns = wire_get64(datagram->sent_ns),
		.sent_tai_ns = wire_get64(datagram->sent_tai_ns),
		.heard_sent_ns = wire_get64(datagram->heard_sent_ns),
		.heard_age_ns = wire_get64(datagram->heard_age_ns),
		.tai_offset_s = wire_get32(datagram->tai_offset_s),
		.hears = datagram->hears,
	};
}

enum hb_verdict hb_codec_open(hb_codec *codec, guint path, const void *bytes,
			      gsize length, struct hb_message *message)
{
	struct hb_datagram datagram;

	if (length != sizeof(datagram))
		return HB_MALFORMED;
	memcpy(&datagram, bytes, sizeof(datagram));
	if (!looks_right(codec, &datagram))
		return HB_MALFORMED;
	if (!sealed(codec, &datagram))
		return HB_FORGED;
	if (datagram.node == codec->node)
		return HB_REFLECTED;
	unpack(&datagram, message);
	if (datagram.path != path || !message->session || !message->sequence ||
	    !padding_is_zero(&datagram))
		return HB_MALFORMED;
	return HB_HEARD;
}
