/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages on the wire: which form each takes, and back.
 *
 * Forms, the cheapest that says it first: ZERO; SAME (as in the last checkpoint: nothing
 * is sent); TWIN (the secondary's present page has this content: a digest was sent and it
 * said so); DELTA against the last checkpoint's content; LZ4; RAW. Digests are XXH3-128
 * keyed with a secret of the session, so that a guest cannot make two pages collide.
 *
 * Pure computation: no I/O, no threads of its own; an encoder or decoder belongs to one
 * thread at a time.
 */
#ifndef CKPT_PAGES_H
#define CKPT_PAGES_H

#include <glib.h>

#include "base/wire.h"

#define CKPT_PAGE 4096u
#define CKPT_SECRET 192u /* bytes of the digests' key */

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
/* TRUE if all of it is zero; vectorised. */
gboolean ckpt_page_is_zero(const void *page);

enum ckpt_form {
	CKPT_ZERO = 1,
	CKPT_RAW = 2,
	CKPT_LZ4 = 3,
	CKPT_DELTA = 4, /* LZ4 of the XOR with the last checkpoint's content */
	CKPT_FORMS,
};

/* One page in a batch on the wire, followed by `length` bytes, unpadded. */
struct wire_page {
	wire_u32 page; /* number */
	wire_u16 form;
	wire_u16 length; /* 0 for ZERO, CKPT_PAGE for RAW, else 1 to CKPT_PAGE - 1 */
};
G_STATIC_ASSERT(sizeof(struct wire_page) == 8);

struct ckpt_form_counters {
	guint64 pages[CKPT_FORMS], bytes[CKPT_FORMS]; /* bytes on the wire, headers too */
	guint64 tried_delta, tried_lz4; /* how often, to see what did not pay */
};

/* Encodes pages into batches. Leaves out a form that measures show not to pay: a form that
 * saved little for its time over the last pages is tried on a sample only, until it pays
 * again. */
typedef struct ckpt_encoder ckpt_encoder;
ckpt_encoder *ckpt_encoder_new(void);
void ckpt_encoder_free(ckpt_encoder *encoder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_encoder, ckpt_encoder_free)
/* Appends one page to `batch`. `before`: the last checkpoint's content, or NULL where it is
 * not at hand. Returns the form. */
enum ckpt_form ckpt_encode(ckpt_encoder *encoder, guint32 number, const void *page,
			   const void *before, GByteArray *batch);
void ckpt_encoder_get_counters(const ckpt_encoder *encoder,
			       struct ckpt_form_counters *counters);

/* Reads a batch that came from outside. Calls `take` for each page with its content (valid
 * during the call). `before(data, number)` gives the last checkpoint's content for a DELTA.
 * FALSE, with the reason in `why` (static text), at the first thing that is not right: a
 * number of `pages` or more, numbers that do not grow (within one batch), a length or form
 * that cannot be, data that does not decode to exactly a page, bytes left over. Pages before
 * it were taken: the caller keeps all aside until the whole checkpoint is in. */
struct ckpt_page_sink {
	void *data;
	const void *(*before)(void *data, guint32 number);
	gboolean (*take)(void *data, guint32 number, const void *content);
};
gboolean ckpt_decode(const void *batch, gsize len, guint64 pages,
		     const struct ckpt_page_sink *sink, const char **why)
	G_GNUC_WARN_UNUSED_RESULT;

#endif
