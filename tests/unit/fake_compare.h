/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A comparison with a primary and a secondary that do what a test says, and a record of
 * what went out. */
#ifndef FAKE_COMPARE_H
#define FAKE_COMPARE_H

#include "netcompare/compare.h"
#include "tests/unit/fake_packet.h"

#define FAKE_MS ((gint64)1000000)

enum fake_verdict {
	FAKE_HELD,
	FAKE_OUT,
	FAKE_CHANGED,
	FAKE_DROPPED,
};

struct fake_compare {
	ncmp_compare *compare;
	gint64 now_ns;
	guint64 epoch; /* that the secondary's frames are tagged with */
	guint next_id;
	GArray *verdicts; /* of enum fake_verdict, by id */
	GArray *order; /* ids in the order in which they went out */
	GByteArray *changed; /* the last one that was changed */
	guint asked; /* how often a checkpoint was asked for */
	enum ncmp_cause cause; /* of the last time */
	guint64 position;
	gboolean segmentable, partial; /* of what the primary sends next */
};

/* Guarded, epoch 1 committed and begun. `options` may be NULL. */
void fake_compare_begin(struct fake_compare *fake,
			const struct ncmp_compare_options *options);
/* The same with a closed gate. */
void fake_compare_begin_closed(struct fake_compare *fake,
			       const struct ncmp_compare_options *options);
void fake_compare_end(struct fake_compare *fake);
/* A marker and its commit; the secondary's frames are of it from now on. */
void fake_compare_turn(struct fake_compare *fake, guint64 epoch);
void fake_compare_wait(struct fake_compare *fake, gint64 ms);

/* Each returns the packet's id. */
guint fake_primary(struct fake_compare *fake, const guint8 *packet, gsize len,
		   guint16 ethertype);
guint fake_primary_tcp(struct fake_compare *fake, const struct fake_packet *packet);
guint fake_primary_udp(struct fake_compare *fake, const struct fake_packet *packet);

void fake_secondary(struct fake_compare *fake, const guint8 *packet, gsize len,
		    guint16 ethertype);
void fake_secondary_tcp(struct fake_compare *fake, const struct fake_packet *packet);
void fake_secondary_udp(struct fake_compare *fake, const struct fake_packet *packet);

enum fake_verdict fake_verdict(const struct fake_compare *fake, guint id);
struct ncmp_compare_counters fake_counters(const struct fake_compare *fake);

#endif
