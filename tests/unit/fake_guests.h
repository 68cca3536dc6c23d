/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two guests that send what some bytes say, and a naive reference of what may leave: it
 * notes for each position of each stream who sent what, and when. It knows where an
 * epoch really begins, whether the comparison was told or not.
 */
#ifndef FAKE_GUESTS_H
#define FAKE_GUESTS_H

#include <glib.h>

struct fake_guests_result {
	guint packets, released; /* of the primary, before the last commit */
	guint asked;
	gboolean honest; /* the two differed in nothing but segmentation and time */
};

/* Aborts where something leaves that must not, or where honest guests diverge, or are
 * held for ever. */
struct fake_guests_result fake_guests_run(const guint8 *data, gsize size);

#endif
