/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages on the wire: which form each takes, and back.
 *
 * Forms, the cheapest that says it first: SAME (as in the last checkpoint: nothing is
 * sent); ZERO; TWIN (the secondary's present page has this content: a digest was sent
 * and it said so); DELTA against the last checkpoint's content; LZ4; RAW.
 *
 * A digest is two XXH3-64 under the two halves of a secret of the session. Random pages
 * are equal by it with a chance of 2^-128, pages made for it by somebody who does not
 * know the secret with 2^-64 for each pair he tries. (Of XXH3-128 both halves come from
 * the same accumulators, where 32 guessed bits are enough; two hashes cost 80 ns per
 * page more.)
 *
 * Pure computation: no I/O, no threads of its own; an encoder or decoder belongs to one
 * thread at a time.
 */
#ifndef CKPT_PAGES_H
#define CKPT_PAGES_H

#include <glib.h>

#include "base/wire.h"

#define CKPT_PAGE 4096u
#define CKPT_SECRET 384u /* bytes of the digests' key, all of them random */

struct ckpt_digest {
	guint64 low, high;
};

/* Work with digests under one key. */
typedef struct ckpt_digester ckpt_digester;
ckpt_digester *ckpt_digester_new(const guint8 secret[CKPT_SECRET]);
void ckpt_digester_free(ckpt_digester *digester);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_digester, ckpt_digester_free)
/* Any thread. */
struct ckpt_digest ckpt_digest_page(const ckpt_digester *digester, const void *page);
/* TRUE if all of it is zero; the C library's memcmp does it, by vectors. */
gboolean ckpt_page_is_zero(const void *page);

/* Which of the connections of a first sync carries a page: what comes again comes by the
 * same, so that the last is the last. */
#define CKPT_LANE_PAGES 64u
static inline guint ckpt_lane_of(guint32 page, guint lanes)
{
	return page / CKPT_LANE_PAGES % lanes;
}

enum ckpt_form {
	CKPT_SAME = 0, /* never on the wire */
	CKPT_ZERO = 1,
	CKPT_RAW = 2,
	CKPT_LZ4 = 3, /* of the page itself, a block without a frame */
	CKPT_DELTA = 4, /* what of the last checkpoint's content changed */
	CKPT_FORMS,
};

/* One page in a batch on the wire, followed by `length` bytes, unpadded. */
struct wire_page {
	wire_u32 page; /* number */
	wire_u16 form;
	wire_u16 length; /* 0 for ZERO, CKPT_PAGE for RAW, else 1 to CKPT_PAGE - 1 */
};
G_STATIC_ASSERT(sizeof(struct wire_page) == 8);

/*
 * A DELTA: which lines of 64 bytes changed, a bit each, the first line lowest; then for
 * each of them which of its 16 words of 32 bits changed (a wire_u16, not 0) and those
 * words as they are now. On pages of real programs it takes a third of the time of LZ4
 * over the XOR and is as short where little changed; where much did, LZ4 of the page is
 * shorter than either.
 */
struct wire_delta {
	wire_u64 lines;
};
G_STATIC_ASSERT(sizeof(struct wire_delta) == 8);

struct ckpt_form_counters {
	guint64 pages[CKPT_FORMS];
	guint64 bytes[CKPT_FORMS]; /* on the wire, headers too */
	guint64 tried_delta, tried_lz4; /* how often, to see what did not pay */
};

/* Encodes pages into batches. Measures what DELTA and LZ4 take and save; one that took
 * longer over the last pages than sending what it saved would have is tried on one page
 * in CKPT_SAMPLE only, until it pays again. */
#define CKPT_SAMPLE 61u /* a prime: what guests do repeats in powers of two */
typedef struct ckpt_encoder ckpt_encoder;
ckpt_encoder *ckpt_encoder_new(void);
void ckpt_encoder_free(ckpt_encoder *encoder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_encoder, ckpt_encoder_free)
/* What the way to the secondary takes, encryption and all. 0: as many bytes saved as
 * can be, whatever the time. At first 1 Gbit/s. */
void ckpt_encoder_set_wire(ckpt_encoder *encoder, guint64 bytes_per_second);
/* Appends one page to `batch`, or nothing for SAME. `before`: the last checkpoint's
 * content, or NULL where it is not at hand. Neither may change during the call. Numbers
 * must grow within one batch. Returns the form. */
enum ckpt_form ckpt_encode(ckpt_encoder *encoder, guint32 number, const void *page,
			   const void *before, GByteArray *batch);
/* The same without a copy, for a page that changes: `ckpt_encode_room()` is where its content
 * is to be put, in the batch already; then it becomes an entry, without a DELTA, or goes away
 * again. */
guint8 *ckpt_encode_room(GByteArray *batch);
enum ckpt_form ckpt_encode_there(ckpt_encoder *encoder, guint32 number, GByteArray *batch);
void ckpt_encode_nothing(GByteArray *batch);
void ckpt_encoder_get_counters(const ckpt_encoder *encoder,
			       struct ckpt_form_counters *counters);

/* Reads a batch that came from outside. Calls `take` for each page with its content
 * (valid during the call, at any alignment); FALSE from it ends the reading, with `why`
 * NULL. `before(data, number)` gives the last checkpoint's content for a DELTA, NULL if
 * there is none; may be NULL itself. FALSE, with the reason in `why` (static text), at
 * the first thing that is not right: a number of `pages` or more, numbers that do not
 * grow (within one batch), a length or form that cannot be, data that does not decode
 * to exactly a page, bytes left over. Pages before it were taken: the caller keeps all
 * aside until the whole checkpoint is in. */
struct ckpt_page_sink {
	void *data;
	const void *(*before)(void *data, guint32 number);
	gboolean (*take)(void *data, guint32 number, const void *content);
};
gboolean ckpt_decode(const void *batch, gsize len, guint64 pages,
		     const struct ckpt_page_sink *sink, const char **why)
	G_GNUC_WARN_UNUSED_RESULT;

#endif
