/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A path of heartbeats: one UDP socket between an address of ours and one of the
 * peer's.
 *
 * The socket is bound, not connected: errors that come by ICMP, which anybody can send,
 * do not reach it. What goes wrong with it is never final. Whenever the kernel will not
 * send, or there is no socket, hb_path_mend() makes a new one: the address or the
 * device may have come back. Binding to a device needs no right since Linux 5.7, so
 * this works without any.
 */
#ifndef HB_PATH_H
#define HB_PATH_H

#include "heartbeat/error.h"
#include "heartbeat/filter.h"

typedef struct hb_path hb_path;
/* `words`: LOCAL,REMOTE[,DEVICE], numeric HOST:PORT or [IPV6]:PORT of one family.
 * HB_ERROR_CONFIG: it is not. Opens nothing. */
hb_path *hb_path_new(const char *words, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void hb_path_free(hb_path *path);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(hb_path, hb_path_free)
/* As it was given, for the log. */
const char *hb_path_words(const hb_path *path);

/* Opens the socket, where there is none or it gave trouble. 0, or -errno with why in
 * words at `*what`. The descriptor changes. */
int hb_path_mend(hb_path *path, const char **what);
/* Whether hb_path_mend() is needed. */
gboolean hb_path_is_broken(const hb_path *path);
/* From now on it only sends, from any port: the port is free for somebody else. */
void hb_path_only_send(hb_path *path);
/* In a flood: see heartbeat/filter.h. A new socket is without. FALSE: the kernel would
 * not. */
gboolean hb_path_filter(hb_path *path, const guint8 head[HB_FILTER_HEAD],
			guint64 session);
void hb_path_unfilter(hb_path *path);
/* -1: none. Non-blocking; the path's own. */
int hb_path_fd(const hb_path *path);

/* 0, or -errno; never waits. What cannot be sent is not sent later. */
int hb_path_send(hb_path *path, const void *bytes, gsize length);
/* Length of the next datagram, cut to `room`; -EAGAIN: there is none. */
gssize hb_path_receive(hb_path *path, void *bytes, gsize room);

#endif
