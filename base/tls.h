/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The TLS 1.3 session of a channel, between memory and memory: it never waits, and
 * whoever has the socket moves bytes with base_tls_fill() and base_tls_drain().
 *
 * One thread may seal and drain while another fills and opens.
 */
#ifndef BASE_TLS_H
#define BASE_TLS_H

#include "base/key.h"

#define BASE_TLS_RECORD_MAX 16384u /* bytes that one record carries */

typedef struct base_tls base_tls;
/* `key` must outlive the handshake. */
base_tls *base_tls_new(gboolean server, const base_key *key, GError **error);
void base_tls_free(base_tls *tls);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(base_tls, base_tls_free)

enum base_tls_progress {
	BASE_TLS_DONE,
	BASE_TLS_HUNGRY, /* all that was filled is used up; more is needed */
	BASE_TLS_FAILED,
};
/* Goes as far as it can. Whatever it returns, there may be something to drain. */
enum base_tls_progress base_tls_handshake(base_tls *tls, GError **error);

/* Takes what a socket has, without waiting: how many bytes, 0 at its end, or -errno. */
gssize base_tls_fill(base_tls *tls, int fd);
/* Gives a socket what it takes, without waiting: 0 or -errno. */
int base_tls_drain(base_tls *tls, int fd);
/* How many bytes are to be drained. */
gsize base_tls_pending(base_tls *tls);
/* Whether a record may be sealed before more is drained. */
gboolean base_tls_has_room(base_tls *tls);

/* Seals one record of 1 to BASE_TLS_RECORD_MAX bytes. Needs room. */
gboolean base_tls_seal(base_tls *tls, const void *bytes, gsize length,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* DONE: up to `room` bytes were put there, as many as `got` says. */
enum base_tls_progress base_tls_open(base_tls *tls, void *where, gsize room, gsize *got,
				     GError **error);
/* Whether part of a record is there. The opening thread. */
gboolean base_tls_mid_record(const base_tls *tls);

/* Says that nothing more will come. */
void base_tls_say_goodbye(base_tls *tls);

/* The next record is sealed with a new key. The sealing thread. */
void base_tls_rekey(base_tls *tls);
/* Keys that sealed something after the first one, and those of the peer. Any thread. */
void base_tls_get_rekeys(base_tls *tls, guint64 *ours, guint64 *peers);

#endif
