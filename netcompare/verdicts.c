/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which packets wait for a verdict, and in which order verdicts are given.
 *
 * A ring with a bit for each id from the oldest that waits to the newest that came. A
 * packet whose verdict is still to be flushed no longer waits; one that goes out
 * changed keeps a bit in a second ring until then, so that a run stops at it.
 */
#include "netcompare/verdicts.h"

#include <string.h>

#define RING_MIN 4096u
/* A packet that is still held when this many others have come is dropped: that is never
 * wrong, and it is not the first to be late. */
#define RING_MAX (1u << 27)

struct accepted {
	guint32 id;
	gboolean changed;
	gsize offset, len; /* of the changed bytes */
};

struct ncmp_verdicts {
	guint64 *waits, *changes; /* bits, `size` of them */
	guint16 *lens; /* of those that wait */
	guint32 size; /* a power of two */
	guint32 first; /* all before it were judged, in earlier flushes or in this one
			*/
	guint32 next; /* after the newest */
	gboolean started;
	guint waiting;
	guint64 waiting_bytes;
	GArray *accepted; /* struct accepted, in the order of the calls */
	GArray *dropped; /* guint32 */
	GByteArray *bytes; /* of changed packets */
};

static gboolean get_bit(const guint64 *bits, guint32 size, guint32 id)
{
	guint32 at = id & (size - 1);

	return bits[at / 64] >> (at % 64) & 1;
}

static void set_bit(guint64 *bits, guint32 size, guint32 id, gboolean value)
{
	guint32 at = id & (size - 1);

	if (value)
		bits[at / 64] |= G_GUINT64_CONSTANT(1) << (at % 64);
	else
		bits[at / 64] &= ~(G_GUINT64_CONSTANT(1) << (at % 64));
}

/* Steps over what no longer needs to be known. */
static void advance(ncmp_verdicts *v)
{
	while (v->first != v->next && !get_bit(v->waits, v->size, v->first) &&
	       !get_bit(v->changes, v->size, v->first))
		v->first++;
}

static guint64 *regrown(guint64 *old, guint32 old_size, guint32 size, guint32 first,
			guint32 next)
{
	guint64 *bits = g_new0(guint64, size / 64);

	for (guint32 id = first; id != next; id++)
		if (get_bit(old, old_size, id))
			set_bit(bits, size, id, TRUE);
	g_free(old);
	return bits;
}

/* Makes room for all ids from the first to `id`. */
static void make_room(ncmp_verdicts *v, guint32 id)
{
	guint32 size = v->size;

	while (id - v->first >= size && size < RING_MAX)
		size *= 2;
	if (size != v->size) {
		guint16 *lens = g_new(guint16, size);

		for (guint32 at = v->first; at != v->next; at++)
			lens[at & (size - 1)] = v->lens[at & (v->size - 1)];
		g_free(v->lens);
		v->lens = lens;
		v->waits = regrown(v->waits, v->size, size, v->first, v->next);
		v->changes = regrown(v->changes, v->size, size, v->first, v->next);
		v->size = size;
	}
	for (; id - v->first >= size; v->first++) {
		ncmp_verdicts_drop(v, v->first);
		set_bit(v->changes, size, v->first, FALSE);
	}
}

ncmp_verdicts *ncmp_verdicts_new(void)
{
	ncmp_verdicts *v = g_new0(ncmp_verdicts, 1);

	v->size = RING_MIN;
	v->waits = g_new0(guint64, RING_MIN / 64);
	v->changes = g_new0(guint64, RING_MIN / 64);
	v->lens = g_new(guint16, RING_MIN);
	v->accepted = g_array_new(FALSE, FALSE, sizeof(struct accepted));
	v->dropped = g_array_new(FALSE, FALSE, sizeof(guint32));
	v->bytes = g_byte_array_new();
	return v;
}

void ncmp_verdicts_free(ncmp_verdicts *v)
{
	if (!v)
		return;
	g_free(v->waits);
	g_free(v->changes);
	g_free(v->lens);
	g_array_unref(v->accepted);
	g_array_unref(v->dropped);
	g_byte_array_unref(v->bytes);
	g_free(v);
}

guint32 ncmp_verdicts_arrived(ncmp_verdicts *v, guint32 id, guint16 len)
{
	guint32 left_out;

	if (!v->started) {
		v->started = TRUE;
		v->first = v->next = id;
	}
	left_out = id - v->next;
	advance(v);
	if (id - v->first >= v->size)
		make_room(v, id);
	v->next = id + 1;
	set_bit(v->waits, v->size, id, TRUE);
	v->lens[id & (v->size - 1)] = len;
	v->waiting++;
	v->waiting_bytes += len;
	return left_out;
}

gboolean ncmp_verdicts_waits(const ncmp_verdicts *v, guint32 id)
{
	return v->started && id - v->first < v->next - v->first &&
	       get_bit(v->waits, v->size, id);
}

static gboolean judge(ncmp_verdicts *v, guint32 id)
{
	if (!ncmp_verdicts_waits(v, id))
		return FALSE;
	set_bit(v->waits, v->size, id, FALSE);
	v->waiting--;
	v->waiting_bytes -= v->lens[id & (v->size - 1)];
	return TRUE;
}

gboolean ncmp_verdicts_accept(ncmp_verdicts *v, guint32 id, const guint8 *changed,
			      gsize len)
{
	struct accepted accepted = { id, changed != NULL, v->bytes->len, len };

	if (!judge(v, id))
		return FALSE;
	if (changed) {
		set_bit(v->changes, v->size, id, TRUE);
		g_byte_array_append(v->bytes, changed, (guint)len);
	}
	g_array_append_val(v->accepted, accepted);
	return TRUE;
}

gboolean ncmp_verdicts_drop(ncmp_verdicts *v, guint32 id)
{
	if (!judge(v, id))
		return FALSE;
	g_array_append_val(v->dropped, id);
	return TRUE;
}

guint ncmp_verdicts_drop_all(ncmp_verdicts *v)
{
	guint dropped = v->waiting;

	for (guint32 id = v->first; v->waiting; id++)
		ncmp_verdicts_drop(v, id);
	return dropped;
}

/* The newest accepted packet before which everything is judged: those up to it can be
 * accepted by one call. How many of this flush these are. */
static guint find_run(const ncmp_verdicts *v, guint32 *last)
{
	guint run = 0;

	for (guint i = 0; i < v->accepted->len; i++) {
		guint32 id = g_array_index(v->accepted, struct accepted, i).id;

		/* `first` has stepped over what is judged: what is behind it is old. */
		if (id - v->first < v->next - v->first)
			continue;
		if (!run++ || (gint32)(id - *last) > 0)
			*last = id;
	}
	return run;
}

void ncmp_verdicts_flush(ncmp_verdicts *v, ncmp_verdict_fn say, void *data)
{
	guint32 last = 0;
	guint run;

	for (guint i = 0; i < v->dropped->len; i++)
		say(data, NCMP_VERDICT_DROP, g_array_index(v->dropped, guint32, i),
		    NULL, 0);
	advance(v);
	run = find_run(v, &last);
	if (run > 1)
		say(data, NCMP_VERDICT_ACCEPT_UP_TO, last, NULL, 0);
	for (guint i = 0; i < v->accepted->len; i++) {
		const struct accepted *a =
			&g_array_index(v->accepted, struct accepted, i);

		if (a->changed) {
			set_bit(v->changes, v->size, a->id, FALSE);
			say(data, NCMP_VERDICT_CHANGE, a->id,
			    v->bytes->data + a->offset, a->len);
		} else if (run <= 1 || (gint32)(a->id - last) > 0) {
			say(data, NCMP_VERDICT_ACCEPT, a->id, NULL, 0);
		}
	}
	g_array_set_size(v->accepted, 0);
	g_array_set_size(v->dropped, 0);
	g_byte_array_set_size(v->bytes, 0);
}

guint ncmp_verdicts_waiting(const ncmp_verdicts *v)
{
	return v->waiting;
}

guint64 ncmp_verdicts_waiting_bytes(const ncmp_verdicts *v)
{
	return v->waiting_bytes;
}
