/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages into batches.
 *
 * Each form that costs time has a running average of what a try of it takes and of what
 * it saves. It pays while sending the bytes it saves would take longer than finding
 * them. What is saved is known of every try; the clock is read at one in TIMED of them,
 * for reading it takes a quarter of a DELTA's time. Averages start at nothing, and a
 * time counts for no more than four times the average (plus a little), so that a thread
 * that was preempted once does not take a good form away.
 *
 * LZ4 is not accelerated: at 4 it takes a twentieth less time on pages of real programs
 * and makes them as much longer. It gives up sooner, but by then it is seldom tried.
 */
#include "checkpoint/pages.h"

#include <emmintrin.h>
#include <lz4.h>
#include <string.h>

#include "base/clock.h"

#define LINE 64u
#define LINE_WORDS (LINE / 4)
/* The largest that one line adds to a delta. */
#define LINE_MOST (sizeof(wire_u16) + LINE)
#define DELTA_ENOUGH 1024u /* a delta up to here: LZ4 would hardly be shorter */
#define LZ4_ACCELERATION 1
#define WIRE_AT_FIRST 125000000u /* bytes per second */
#define TIMED 8u
#define WEIGHT (1.0 / 16) /* of the newest try in an average */
#define TIME_MOST(average) (4 * (average) + 1000) /* ns that one try counts for */

struct worth {
	double saved; /* bytes per try */
	double spent; /* ns per try */
	guint tries, skipped;
};

struct ckpt_encoder {
	double byte_ns; /* to send one; 0: any form pays */
	struct worth delta, lz4;
	struct ckpt_form_counters counters;
	guint8 delta_bytes[CKPT_PAGE + LINE_MOST];
	guint8 lz4_bytes[CKPT_PAGE];
	guint64 lz4_state[]; /* LZ4_sizeofState() bytes */
};

ckpt_encoder *ckpt_encoder_new(void)
{
	ckpt_encoder *encoder = g_malloc0(sizeof(*encoder) + (gsize)LZ4_sizeofState());

	ckpt_encoder_set_wire(encoder, WIRE_AT_FIRST);
	return encoder;
}

void ckpt_encoder_free(ckpt_encoder *encoder)
{
	g_free(encoder);
}

void ckpt_encoder_set_wire(ckpt_encoder *encoder, guint64 bytes_per_second)
{
	encoder->byte_ns = bytes_per_second ? 1e9 / (double)bytes_per_second : 0;
}

void ckpt_encoder_get_counters(const ckpt_encoder *encoder,
			       struct ckpt_form_counters *counters)
{
	*counters = encoder->counters;
}

static gboolean pays(const struct worth *worth, double byte_ns)
{
	return !byte_ns || worth->saved * byte_ns >= worth->spent;
}

static gboolean shall_try(struct worth *worth, double byte_ns)
{
	if (!pays(worth, byte_ns) && ++worth->skipped < CKPT_SAMPLE)
		return FALSE;
	worth->skipped = 0;
	return TRUE;
}

/* 0: this try is not timed. */
static guint64 start_of_try(struct worth *worth, double byte_ns)
{
	if (worth->tries++ % TIMED && pays(worth, byte_ns))
		return 0;
	return base_clock_monotonic_ns();
}

static void end_of_try(struct worth *worth, guint64 start, guint saved)
{
	double spent;

	worth->saved += (saved - worth->saved) * WEIGHT;
	if (!start)
		return;
	spent = (double)(base_clock_monotonic_ns() - start);
	spent = MIN(spent, TIME_MOST(worth->spent));
	worth->spent += (spent - worth->spent) * WEIGHT;
}

/* All ones in the words of a quarter of a line that are the same. */
static inline __m128i same_words(const guint8 *a, const guint8 *b, guint quarter)
{
	return _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)a + quarter),
			       _mm_loadu_si128((const __m128i *)b + quarter));
}

/* A bit for each word of the line that differs. */
static inline guint changed_words(const guint8 *page, const guint8 *before)
{
	__m128i low = _mm_packs_epi32(same_words(page, before, 0),
				      same_words(page, before, 1));
	__m128i high = _mm_packs_epi32(same_words(page, before, 2),
				       same_words(page, before, 3));

	return (guint)_mm_movemask_epi8(_mm_packs_epi16(low, high)) ^ 0xffff;
}

static guint8 *put_line(guint8 *to, guint changed, const guint8 *line)
{
	wire_u16 words = wire_put16((guint16)changed);

	memcpy(to, &words, sizeof(words));
	to += sizeof(words);
	if (changed == 0xffff) {
		memcpy(to, line, LINE);
		return to + LINE;
	}
	for (; changed; changed &= changed - 1, to += 4)
		memcpy(to, line + 4 * (guint)__builtin_ctz(changed), 4);
	return to;
}

/* Its length; CKPT_PAGE if it would be as long or longer. `to` has room for one line
 * more. */
static guint make_delta(guint8 *to, const guint8 *page, const guint8 *before)
{
	guint8 *end = to + sizeof(struct wire_delta);
	struct wire_delta delta;
	guint64 lines = 0;

	for (guint line = 0; line < CKPT_PAGE / LINE; line++) {
		guint changed = changed_words(page + line * LINE, before + line * LINE);

		if (!changed)
			continue;
		lines |= 1ull << line;
		end = put_line(end, changed, page + line * LINE);
		if (end - to >= CKPT_PAGE)
			return CKPT_PAGE;
	}
	delta.lines = wire_put64(lines);
	memcpy(to, &delta, sizeof(delta));
	return (guint)(end - to);
}

static guint try_delta(ckpt_encoder *encoder, const void *page, const void *before)
{
	guint64 start = start_of_try(&encoder->delta, encoder->byte_ns);
	guint length = make_delta(encoder->delta_bytes, page, before);

	encoder->counters.tried_delta++;
	end_of_try(&encoder->delta, start, CKPT_PAGE - length);
	return length;
}

/* Its length; `best` if it is not shorter. */
static guint try_lz4(ckpt_encoder *encoder, const void *page, guint best)
{
	guint64 start = start_of_try(&encoder->lz4, encoder->byte_ns);
	int made = LZ4_compress_fast_extState(encoder->lz4_state, page,
					      (char *)encoder->lz4_bytes, CKPT_PAGE,
					      (int)best - 1, LZ4_ACCELERATION);
	guint length = made > 0 ? (guint)made : best;

	encoder->counters.tried_lz4++;
	end_of_try(&encoder->lz4, start, best - length);
	return length;
}

static struct wire_page count_entry(ckpt_encoder *encoder, guint32 number,
				    enum ckpt_form form, guint length)
{
	encoder->counters.pages[form]++;
	encoder->counters.bytes[form] += sizeof(struct wire_page) + length;
	return (struct wire_page){
		.page = wire_put32(number),
		.form = wire_put16((guint16)form),
		.length = wire_put16((guint16)length),
	};
}

static enum ckpt_form put(ckpt_encoder *encoder, GByteArray *batch, guint32 number,
			  enum ckpt_form form, const void *bytes, guint length)
{
	const struct wire_page header = count_entry(encoder, number, form, length);

	g_byte_array_append(batch, (const guint8 *)&header, sizeof(header));
	if (length)
		g_byte_array_append(batch, bytes, length);
	return form;
}

enum ckpt_form ckpt_encode(ckpt_encoder *encoder, guint32 number, const void *page,
			   const void *before, GByteArray *batch)
{
	enum ckpt_form form = CKPT_RAW;
	const void *bytes = page;
	guint length = CKPT_PAGE, tried;
	gboolean same;

	if (before && shall_try(&encoder->delta, encoder->byte_ns)) {
		tried = try_delta(encoder, page, before);
		if (tried < length) {
			form = CKPT_DELTA;
			bytes = encoder->delta_bytes;
			length = tried;
		}
		same = length == sizeof(struct wire_delta);
	} else {
		same = before && !memcmp(page, before, CKPT_PAGE);
	}
	if (same) {
		encoder->counters.pages[CKPT_SAME]++;
		return CKPT_SAME;
	}
	if (ckpt_page_is_zero(page))
		return put(encoder, batch, number, CKPT_ZERO, NULL, 0);
	if (length > DELTA_ENOUGH && shall_try(&encoder->lz4, encoder->byte_ns)) {
		tried = try_lz4(encoder, page, length);
		if (tried < length) {
			form = CKPT_LZ4;
			bytes = encoder->lz4_bytes;
			length = tried;
		}
	}
	return put(encoder, batch, number, form, bytes, length);
}

#define ROOM (sizeof(struct wire_page) + CKPT_PAGE)

guint8 *ckpt_encode_room(GByteArray *batch)
{
	g_byte_array_set_size(batch, (guint)(batch->len + ROOM));
	return batch->data + batch->len - CKPT_PAGE;
}

void ckpt_encode_nothing(GByteArray *batch)
{
	g_byte_array_set_size(batch, (guint)(batch->len - ROOM));
}

enum ckpt_form ckpt_encode_there(ckpt_encoder *encoder, guint32 number, GByteArray *batch)
{
	guint8 *entry = batch->data + batch->len - ROOM, *page = entry + ROOM - CKPT_PAGE;
	enum ckpt_form form = CKPT_RAW;
	guint length = CKPT_PAGE;
	struct wire_page header;

	if (ckpt_page_is_zero(page)) {
		form = CKPT_ZERO;
		length = 0;
	} else if (shall_try(&encoder->lz4, encoder->byte_ns)) {
		length = try_lz4(encoder, page, CKPT_PAGE);
		if (length < CKPT_PAGE) {
			form = CKPT_LZ4;
			memcpy(page, encoder->lz4_bytes, length);
		}
	}
	header = count_entry(encoder, number, form, length);
	memcpy(entry, &header, sizeof(header));
	g_byte_array_set_size(batch, batch->len - (CKPT_PAGE - length));
	return form;
}
