/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who the peer is: its session, and which of its datagrams are new. */
#include "heartbeat/peer.h"

#include <string.h>

#define WINDOW 64u /* datagrams that may overtake one */

void hb_peer_init(struct hb_peer *peer, guint64 ours)
{
	*peer = (struct hb_peer){ .ours = ours, .dice = ours };
}

static gboolean is_past(const struct hb_peer *peer, guint64 session)
{
	for (guint i = 0; i < MIN(peer->pasts, HB_PAST_MAX); i++)
		if (peer->past[i] == session)
			return TRUE;
	return FALSE;
}

/* A linear congruential generator modulo 2^64 (Knuth, The Art of Computer Programming, volume
 * 2, section 3.3.4): its upper half. */
static guint32 roll(struct hb_peer *peer)
{
	peer->dice = peer->dice * G_GUINT64_CONSTANT(6364136223846793005) +
		     G_GUINT64_CONSTANT(1442695040888963407);
	return (guint32)(peer->dice >> 32);
}

/* Which place it gets depends on the number, so that many recorded sessions push each
 * other out, and a new one only by chance. Of those that want one place, such as a daemon
 * and the one before it that lingers, each datagram has the same chance to be the one that
 * is greeted next (Knuth, section 3.4.2, algorithm R): they come in the same order in each
 * interval, and by any rule of order one of them could be too early or too late each time. */
static void note_stranger(struct hb_peer *peer, guint64 session)
{
	const guint place = session % HB_STRANGERS_MAX;

	if (roll(peer) % ++peer->wanted[place] == 0)
		peer->strangers[place] = session;
}

static void adopt(struct hb_peer *peer, guint64 session)
{
	if (peer->session)
		peer->past[peer->pasts++ % HB_PAST_MAX] = peer->session;
	peer->session = session;
	memset(peer->strangers, 0, sizeof(peer->strangers));
	memset(peer->path, 0, sizeof(peer->path));
}

static enum hb_verdict judge_sequence(struct hb_peer *peer, guint path,
				      guint64 sequence)
{
	guint64 *highest = &peer->path[path].highest, *seen = &peer->path[path].seen;
	guint64 behind;

	if (sequence > *highest) {
		guint64 ahead = sequence - *highest;

		*seen = (ahead < WINDOW ? *seen << ahead : 0) | 1;
		*highest = sequence;
		return HB_HEARD;
	}
	behind = *highest - sequence;
	if (behind >= WINDOW || *seen & G_GUINT64_CONSTANT(1) << behind)
		return HB_REPLAYED;
	*seen |= G_GUINT64_CONSTANT(1) << behind;
	return HB_LATE;
}

enum hb_verdict hb_peer_judge(struct hb_peer *peer, const struct hb_message *message,
			      gboolean proven)
{
	gboolean knows_us =
		message->echo == peer->ours || message->greets == peer->ours;

	if (is_past(peer, message->session))
		return HB_REPLAYED;
	if (message->session != peer->session) {
		if (!knows_us || (peer->session && !proven)) {
			note_stranger(peer, message->session);
			return message->echo || message->greets ? HB_REPLAYED
								: HB_GREETING;
		}
		adopt(peer, message->session);
	}
	return knows_us ? judge_sequence(peer, message->path, message->sequence)
			: HB_REPLAYED;
}

gboolean hb_peer_is_worn(const struct hb_peer *peer)
{
	return peer->pasts >= HB_PAST_MAX;
}

void hb_peer_renew(struct hb_peer *peer, guint64 ours)
{
	peer->ours = ours;
	peer->pasts = 0;
}

guint64 hb_peer_next_stranger(struct hb_peer *peer)
{
	for (guint i = 0; i < HB_STRANGERS_MAX; i++) {
		const guint place = peer->turn++ % HB_STRANGERS_MAX;

		peer->wanted[place] = 0;
		if (peer->strangers[place])
			return peer->strangers[place];
	}
	return 0;
}
