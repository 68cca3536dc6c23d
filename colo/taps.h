/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The taps that colo-vm opens, made and put on their bridges before, with
 * CAP_NET_ADMIN. One that somebody else made is used as it is where it will do, and
 * never removed: ours have an alias ("colo PAIR", as `ip -d link` shows it).
 *
 * Any thread. The kernel answers at once, but for others who hold its lock of
 * interfaces.
 */
#ifndef COLO_TAPS_H
#define COLO_TAPS_H

#include <glib.h>

struct colo_tap {
	const char *name;
	const char *bridge; /* NULL: none, it is routed by whoever set it up */
	const char *pair; /* whose it is, where we make it */
};

/* Makes the tap if it is not there, puts it on its bridge, brings it up, and turns
 * receive packet steering off, which would change the order of packets.
 * COLO_ERROR_CONFIG: the names cannot be, or are of other kinds of interfaces;
 * COLO_ERROR_HOST: the host refuses. Each with what to do. A tap that was made for it
 * is removed again on failure. */
gboolean colo_tap_prepare(const struct colo_tap *tap,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same without changing anything: would it be possible (a tap that is not there is
 * no fault)? For `colo check`. */
gboolean colo_tap_check(const struct colo_tap *tap,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Removes it if it is one of ours, of that pair; another one, or none, is left as it
 * is. */
gboolean colo_tap_remove(const struct colo_tap *tap,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
