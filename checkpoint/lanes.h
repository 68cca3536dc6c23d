/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections beside the link, for first sync: each carries its share of the pages
 * (ckpt_lane_of()), and is encrypted and decrypted by threads of its own. Lane 0 is the link
 * itself. What is of consequence all goes over that one; here there are
 *
 *	JOIN			the first message: of which session, and which lane
 *	SYNC_PAGES ...
 *	SYNC_END		before the first CUT, which counts only when all lanes are here
 *
 * A page always takes the same lane, so what comes of it last is its last content. A lane that
 * is lost before its end (on the primary: before it is closed) loses the link; it is lost with
 * the link. Closed ones keep their descriptors until the lanes are freed.
 */
#ifndef CKPT_LANES_H
#define CKPT_LANES_H

#include "checkpoint/fill.h"
#include "checkpoint/link.h"
#include "checkpoint/protocol.h"

typedef struct ckpt_lanes ckpt_lanes;

/* The primary says nothing on any connection before it has made all of them, one after the
 * other: so long the secondary waits for the first word on each. */
#define CKPT_LANES_FIRST_MS 60000u

struct ckpt_lanes_options {
	guint count; /* the link included; 1 to CKPT_LANES_MAX */
	guint silence_ms;
	vmm_memory *memory; /* the secondary's, to be filled; NULL: the primary's side */
	GMutex *turn; /* with it: see ckpt_filler_new() */
	/* A lane was lost that was still needed. On its threads, or that of whoever refuses the
	 * lanes; never waits for a lane. */
	void (*lost)(void *data, const char *why);
	void *data;
};

/* `token` is the session's. */
ckpt_lanes *ckpt_lanes_new(const struct ckpt_lanes_options *options,
			   const guint8 token[CKPT_TOKEN]);
void ckpt_lanes_free(ckpt_lanes *lanes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_lanes, ckpt_lanes_free)

/* The primary's: opens the next lane on this channel, fresh from its handshake. */
gboolean ckpt_lanes_open_take(ckpt_lanes *lanes, base_channel *channel,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The primary's, once all are open: starts their threads. */
void ckpt_lanes_start(ckpt_lanes *lanes);
/* The primary's: the link of a lane from 1 on; it lives as long as the lanes do. */
ckpt_link *ckpt_lanes_link(ckpt_lanes *lanes, guint lane);
/* The primary's: says that no more comes. FALSE: over. */
gboolean ckpt_lanes_say_end(ckpt_lanes *lanes) G_GNUC_WARN_UNUSED_RESULT;

/* The secondary's: a peer wants to join. Takes the channel, which becomes NULL; or returns why
 * it may not (static text). Any thread. */
const char *ckpt_lanes_join(ckpt_lanes *lanes, const struct ckpt_join *join,
			    base_channel **channel) G_GNUC_WARN_UNUSED_RESULT;
/* The secondary's: waits until all lanes are at their end; NULL or why that will not be. */
const char *ckpt_lanes_wait(ckpt_lanes *lanes) G_GNUC_WARN_UNUSED_RESULT;

/* The link is lost: so are they. Waits for nothing. Any thread. */
void ckpt_lanes_refuse(ckpt_lanes *lanes, const char *why);
/* They are needed no more: closes them. Not from their threads. */
void ckpt_lanes_close(ckpt_lanes *lanes);
/* Adds what went over them. */
void ckpt_lanes_add_counters(ckpt_lanes *lanes, struct base_channel_counters *counters);

#endif
