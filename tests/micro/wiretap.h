/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Somebody with the pair's key between the two nodes: every message of either goes through a
 * hook, which may change, drop, add to, delay or cut it. What is sent on need not be a message.
 */
#ifndef TESTS_WIRETAP_H
#define TESTS_WIRETAP_H

#include "base/frame.h"
#include "base/key.h"

enum { TO_SECONDARY, TO_PRIMARY };

struct wiretap_message {
	guint way; /* TO_SECONDARY or TO_PRIMARY */
	guint index; /* of all messages both ways, from 0 */
	guint16 type;
	guint64 epoch;
	/* Frame and payload as they came; the hook leaves here what is to go on. */
	GByteArray *bytes;
	gboolean cut; /* set by the hook: both connections are closed after these bytes */
	guint trickle_ms; /* set by the hook: a byte at a time, that far apart */
};

/* On the tap's thread. */
typedef void (*wiretap_fn)(void *data, struct wiretap_message *message);

typedef struct wiretap wiretap;
/* `ends`: what the primary (as TLS client) and the secondary are to be given. */
wiretap *wiretap_new(const base_key *key, wiretap_fn fn, void *data, int ends[2]);
/* Closes both connections. */
void wiretap_free(wiretap *tap);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(wiretap, wiretap_free)

/* Appends a message as a peer would send it. */
void wiretap_put(GByteArray *bytes, guint16 type, guint64 epoch, const void *payload,
		 gsize len);
/* Makes the one message in `bytes`, whatever its frame says by now, one with the length that
 * it has and the right checksum. */
void wiretap_mend(GByteArray *bytes);

#endif
