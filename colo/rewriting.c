/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sequence rewriter as a guest's frame filter. A primary that never was a secondary
 * has none to speak of: it is made, empty, and shown nothing until the machine is
 * promoted.
 */
#include "colo/rewriting.h"

#include <string.h>

#include "base/clock.h"
#include "netcompare/rewrite.h"

#define NS_PER_MS 1000000

G_STATIC_ASSERT(sizeof(struct wire_rewrite_birth) <= CKPT_FILTER_NOTE_MAX);

static gint64 now_ns(void)
{
	return (gint64)base_clock_monotonic_ns();
}

struct rewriting {
	ncmp_rewriter *rewriter;
	gboolean promoted;
};

static void *rewriting_new(void)
{
	struct rewriting *rewriting = g_new0(struct rewriting, 1);

	rewriting->rewriter = ncmp_rewriter_new(0, g_random_int());
	return rewriting;
}

static void rewriting_free(void *data)
{
	struct rewriting *rewriting = data;

	ncmp_rewriter_free(rewriting->rewriter);
	g_free(rewriting);
}

static gboolean is_idle(void *data)
{
	const struct rewriting *rewriting = data;

	return !rewriting->promoted || ncmp_rewriter_is_idle(rewriting->rewriter);
}

static ncmp_rewriter *rewriter_of(void *data)
{
	return ((struct rewriting *)data)->rewriter;
}

static enum ckpt_filter_verdict in(void *data, guint device, guint8 *frame, gsize len,
				   gboolean partial)
{
	switch (ncmp_rewriter_in(rewriter_of(data), (guint8)device, frame, len, partial,
				 now_ns())) {
	case NCMP_REWRITE_CHANGED:
		return CKPT_FILTER_CHANGED;
	case NCMP_REWRITE_HOLD:
		return CKPT_FILTER_HOLD;
	default:
		return CKPT_FILTER_AS_IT_WAS;
	}
}

static guint hold_ms(void *data)
{
	gint64 left = ncmp_rewriter_hold_until(rewriter_of(data)) - now_ns();

	return (guint)CLAMP(left / NS_PER_MS + 1, 1, NCMP_REWRITE_HOLD_MS);
}

static enum ckpt_filter_verdict out(void *data, guint device, guint8 *frame, gsize len,
				    gboolean partial)
{
	return ncmp_rewriter_out(rewriter_of(data), (guint8)device, frame, len, partial,
				 now_ns())
		       ? CKPT_FILTER_CHANGED
		       : CKPT_FILTER_AS_IT_WAS;
}

static gsize note(guint device, const guint8 *frame, gsize len, guint8 *bytes)
{
	struct wire_rewrite_birth birth;

	if (!ncmp_rewriter_birth((guint8)device, frame, len, &birth))
		return 0;
	memcpy(bytes, &birth, sizeof(birth));
	return sizeof(birth);
}

static const char *learn(void *data, const guint8 *bytes, gsize len)
{
	struct wire_rewrite_birth birth;

	if (len != sizeof(birth))
		return "a connection's birth has not its length";
	memcpy(&birth, bytes, sizeof(birth));
	return ncmp_rewriter_learn(rewriter_of(data), &birth, now_ns());
}

static void save(void *data, GByteArray *bytes)
{
	ncmp_rewriter_save(rewriter_of(data), bytes);
}

static const char *load(void *data, const guint8 *bytes, gsize len)
{
	return ncmp_rewriter_load(rewriter_of(data), bytes, len, now_ns());
}

static void promote(void *data)
{
	struct rewriting *rewriting = data;

	rewriting->promoted = TRUE;
	ncmp_rewriter_promote(rewriting->rewriter, now_ns());
}

const struct ckpt_filter_ops colo_rewriting = {
	.new = rewriting_new,
	.free = rewriting_free,
	.is_idle = is_idle,
	.in = in,
	.hold_ms = hold_ms,
	.out = out,
	.note = note,
	.learn = learn,
	.save = save,
	.load = load,
	.promote = promote,
};
