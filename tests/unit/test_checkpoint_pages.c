/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages into batches and back, and batches that nobody here made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib.h>
#include <string.h>

#include "checkpoint/pages.h"

#define PAGES 8u

typedef guint8 content[CKPT_PAGE];

/* What a secondary has: the last checkpoint's pages, and what a batch brought. */
struct guest {
	content *before; /* may be NULL */
	content now[PAGES];
	gboolean taken[PAGES];
	guint takes, most; /* it refuses the page after `most`; 0: none */
};

static const void *guest_before(void *data, guint32 number)
{
	struct guest *guest = data;

	return guest->before ? guest->before[number] : NULL;
}

static gboolean guest_take(void *data, guint32 number, const void *bytes)
{
	struct guest *guest = data;

	assert_true(number < PAGES);
	assert_false(guest->taken[number]);
	if (guest->most && guest->takes == guest->most)
		return FALSE;
	memcpy(guest->now[number], bytes, CKPT_PAGE);
	guest->taken[number] = TRUE;
	guest->takes++;
	return TRUE;
}

/* NULL, or why it was refused. The batch lies in memory that ends where it does. */
static const char *decode(struct guest *guest, const GByteArray *batch)
{
	const struct ckpt_page_sink sink = { guest, guest_before, guest_take };
	g_autofree guint8 *exact = g_memdup2(batch->data, batch->len);
	const char *why = "";

	memset(guest->taken, 0, sizeof(guest->taken));
	guest->takes = 0;
	if (ckpt_decode(exact, batch->len, PAGES, &sink, &why))
		return NULL;
	return why ?: "not taken";
}

static void fill_random(guint8 *page, guint seed)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

	for (guint i = 0; i < CKPT_PAGE; i++)
		page[i] = (guint8)g_rand_int(rand);
}

static void fill_text(guint8 *page, guint seed)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
	g_autoptr(GString) text = g_string_new(NULL);

	while (text->len < CKPT_PAGE)
		g_string_append_printf(text, "%u GET /item/%u 200 in %u ms\n",
				       g_rand_int_range(rand, 1000, 9999),
				       g_rand_int_range(rand, 0, 500),
				       g_rand_int_range(rand, 0, 100));
	memcpy(page, text->str, CKPT_PAGE);
}

/* Other bits in `words` words of 32 bits, no two of them in one place. */
static void change_words(guint8 *page, guint words, guint seed)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
	gboolean changed[CKPT_PAGE / 4] = { FALSE };

	while (words) {
		guint at = (guint)g_rand_int_range(rand, 0, CKPT_PAGE / 4);

		if (changed[at])
			continue;
		changed[at] = TRUE;
		page[4 * at + words % 4] ^= 0x40;
		words--;
	}
}

static enum ckpt_form encode_one(const guint8 *page, const guint8 *before,
				 GByteArray *batch)
{
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();

	ckpt_encoder_set_wire(encoder, 0);
	return ckpt_encode(encoder, 3, page, before, batch);
}

/* `page` goes over as `form` and comes out as it was. */
static void assert_goes_over(content page, content *before, enum ckpt_form form)
{
	g_autoptr(GByteArray) batch = g_byte_array_new();
	g_autofree struct guest *guest = g_new0(struct guest, 1);

	guest->before = before;
	assert_int_equal(encode_one(page, before ? before[3] : NULL, batch), form);
	assert_null(decode(guest, batch));
	assert_int_equal(guest->takes, form == CKPT_SAME ? 0 : 1);
	if (form != CKPT_SAME)
		assert_memory_equal(guest->now[3], page, CKPT_PAGE);
}

static void a_page_of_zeros_is_only_named(void **state)
{
	content page = { 0 };
	g_autoptr(GByteArray) batch = g_byte_array_new();

	assert_goes_over(page, NULL, CKPT_ZERO);
	encode_one(page, NULL, batch);
	assert_int_equal(batch->len, sizeof(struct wire_page));
}

static void a_byte_anywhere_makes_a_page_not_zero(void **state)
{
	/* Not aligned. */
	guint8 bytes[CKPT_PAGE + 1] = { 0 };

	assert_true(ckpt_page_is_zero(bytes + 1));
	for (guint i = 1; i <= CKPT_PAGE; i++) {
		bytes[i] = 0x80;
		assert_false(ckpt_page_is_zero(bytes + 1));
		bytes[i] = 0;
	}
}

static void a_random_page_goes_raw(void **state)
{
	content page;

	fill_random(page, 1);
	assert_goes_over(page, NULL, CKPT_RAW);
}

static void a_page_of_text_is_compressed(void **state)
{
	content page;

	fill_text(page, 1);
	assert_goes_over(page, NULL, CKPT_LZ4);
}

static void a_page_as_before_is_not_sent(void **state)
{
	content page, before[PAGES] = { 0 };
	g_autoptr(GByteArray) batch = g_byte_array_new();

	fill_random(page, 1);
	memcpy(before[3], page, CKPT_PAGE);
	assert_goes_over(page, before, CKPT_SAME);
	assert_int_equal(encode_one(page, before[3], batch), CKPT_SAME);
	assert_int_equal(batch->len, 0);
	/* Of zeros too. */
	memset(page, 0, CKPT_PAGE);
	memset(before[3], 0, CKPT_PAGE);
	assert_goes_over(page, before, CKPT_SAME);
}

static void a_page_with_a_few_words_changed_goes_as_a_delta(void **state)
{
	content page, before[PAGES];
	static const guint words[] = { 1, 2, 8, 64, 200, 700 };

	for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
		fill_random(page, i);
		memcpy(before[3], page, CKPT_PAGE);
		change_words(page, words[i], i);
		assert_goes_over(page, before, CKPT_DELTA);
	}
}

static void a_delta_of_one_word_takes_as_many_bytes_as_the_format_says(void **state)
{
	content page, before[PAGES];

	fill_random(before[3], 1);
	for (guint at = 0; at < CKPT_PAGE; at++) {
		g_autoptr(GByteArray) batch = g_byte_array_new();

		memcpy(page, before[3], CKPT_PAGE);
		page[at] ^= 1;
		assert_int_equal(encode_one(page, before[3], batch), CKPT_DELTA);
		assert_int_equal(batch->len, sizeof(struct wire_page) +
						     sizeof(struct wire_delta) + 2 + 4);
		if (at % 61 == 0)
			assert_goes_over(page, before, CKPT_DELTA);
	}
}

static void lines_that_changed_whole_go_as_a_delta(void **state)
{
	content page, before[PAGES];

	fill_random(page, 1);
	fill_random(before[3], 2);
	memcpy(page + 64, before[3] + 64, 60 * 64);
	assert_goes_over(page, before, CKPT_DELTA);
}

static void a_page_changed_all_over_goes_whole(void **state)
{
	content page, before[PAGES];

	fill_random(page, 1);
	fill_random(before[3], 2);
	assert_goes_over(page, before, CKPT_RAW);
	fill_text(page, 1);
	assert_goes_over(page, before, CKPT_LZ4);
	memset(page, 0, CKPT_PAGE);
	assert_goes_over(page, before, CKPT_ZERO);
}

static void the_longest_delta_is_shorter_than_a_page(void **state)
{
	content page, before[PAGES];

	for (guint words = 61 * 16; words <= 63 * 16; words++) {
		fill_random(page, 1);
		memcpy(before[3], page, CKPT_PAGE);
		for (guint i = 0; i < words; i++)
			page[4 * i] ^= 1;
		assert_goes_over(page, before,
				 8 + 4 * words + 2 * ((words + 15) / 16) < CKPT_PAGE
					 ? CKPT_DELTA
					 : CKPT_RAW);
	}
}

/* Pages 1, 2, 4 and 6, each of another form, and 7, which is as before. */
static void make_mixed(GByteArray *batch, content pages[PAGES], content before[PAGES])
{
	static const enum ckpt_form forms[] = { CKPT_ZERO, CKPT_RAW, CKPT_LZ4,
						CKPT_DELTA };
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();

	ckpt_encoder_set_wire(encoder, 0);
	memset(pages, 0, PAGES * sizeof(content));
	memset(before, 0, PAGES * sizeof(content));
	fill_random(pages[2], 2);
	fill_text(pages[4], 4);
	fill_random(before[6], 6);
	memcpy(pages[6], before[6], CKPT_PAGE);
	change_words(pages[6], 20, 6);
	fill_text(before[7], 7);
	memcpy(pages[7], before[7], CKPT_PAGE);
	for (guint i = 0; i < 4; i++)
		assert_int_equal(ckpt_encode(encoder, i ? 2 * i : 1,
					     pages[i ? 2 * i : 1],
					     i == 3 ? before[6] : NULL, batch),
				 forms[i]);
	assert_int_equal(ckpt_encode(encoder, 7, pages[7], before[7], batch),
			 CKPT_SAME);
}

static void a_batch_of_all_forms_goes_over(void **state)
{
	content pages[PAGES], before[PAGES];
	g_autoptr(GByteArray) batch = g_byte_array_new();
	g_autofree struct guest *guest = g_new0(struct guest, 1);

	make_mixed(batch, pages, before);
	guest->before = before;
	assert_null(decode(guest, batch));
	assert_int_equal(guest->takes, 4);
	assert_false(guest->taken[7]);
	for (guint i = 0; i < PAGES; i++)
		if (guest->taken[i])
			assert_memory_equal(guest->now[i], pages[i], CKPT_PAGE);
}

/* Byte for byte, with a page that was given up in between. */
static void encoded_in_its_place_a_batch_is_the_same(void **state)
{
	content pages[PAGES], before[PAGES];
	g_autoptr(GByteArray) unused_batch = g_byte_array_new();
	g_autoptr(GByteArray) copied = g_byte_array_new();
	g_autoptr(GByteArray) placed = g_byte_array_new();
	g_autoptr(ckpt_encoder) first = ckpt_encoder_new();
	g_autoptr(ckpt_encoder) second = ckpt_encoder_new();
	ckpt_encoder *encoders[2] = { first, second };
	struct ckpt_form_counters counters[2];

	make_mixed(unused_batch, pages, before);
	for (guint i = 0; i < 2; i++)
		ckpt_encoder_set_wire(encoders[i], 0);
	for (guint i = 0; i < PAGES; i++) {
		enum ckpt_form form = ckpt_encode(encoders[0], i, pages[i], NULL, copied);

		memset(ckpt_encode_room(placed), 0xaa, CKPT_PAGE);
		ckpt_encode_nothing(placed);
		memcpy(ckpt_encode_room(placed), pages[i], CKPT_PAGE);
		assert_int_equal(ckpt_encode_there(encoders[1], i, placed), form);
	}
	assert_int_equal(placed->len, copied->len);
	assert_memory_equal(placed->data, copied->data, copied->len);
	for (guint i = 0; i < 2; i++)
		ckpt_encoder_get_counters(encoders[i], &counters[i]);
	assert_memory_equal(&counters[0], &counters[1], sizeof(counters[0]));
}

static void an_empty_batch_has_no_pages(void **state)
{
	g_autoptr(GByteArray) batch = g_byte_array_new();
	g_autofree struct guest *guest = g_new0(struct guest, 1);

	assert_null(decode(guest, batch));
	assert_int_equal(guest->takes, 0);
}

static void any_byte_changed_is_lived_through(void **state)
{
	content pages[PAGES], before[PAGES];
	g_autoptr(GByteArray) batch = g_byte_array_new();
	g_autofree struct guest *guest = g_new0(struct guest, 1);
	guint refused = 0;

	make_mixed(batch, pages, before);
	guest->before = before;
	for (guint i = 0; i < batch->len; i++)
		for (guint bit = 0; bit <= 8; bit++) {
			guint8 flip = bit < 8 ? (guint8)(1 << bit) : 0xff;

			batch->data[i] ^= flip;
			if (decode(guest, batch))
				refused++;
			else
				assert_int_equal(guest->takes, 4);
			batch->data[i] ^= flip;
		}
	assert_true(refused > 0);
	assert_null(decode(guest, batch));
}

static void a_batch_cut_anywhere_but_between_pages_is_refused(void **state)
{
	content pages[PAGES], before[PAGES];
	g_autoptr(GByteArray) batch = g_byte_array_new();
	g_autofree struct guest *guest = g_new0(struct guest, 1);
	guint whole = 0;

	make_mixed(batch, pages, before);
	guest->before = before;
	while (batch->len) {
		g_byte_array_set_size(batch, batch->len - 1);
		if (!decode(guest, batch))
			whole++;
	}
	/* After none, one, two and three pages. */
	assert_int_equal(whole, 4);
}

static void put(GByteArray *batch, guint32 number, guint form, const void *bytes,
		guint length)
{
	const struct wire_page header = { wire_put32(number), wire_put16((guint16)form),
					  wire_put16((guint16)length) };

	g_byte_array_append(batch, (const guint8 *)&header, sizeof(header));
	g_byte_array_append(batch, bytes, length);
}

static void assert_refused(guint32 number, guint form, const void *bytes, guint length,
			   const char *reason)
{
	static content before[PAGES];
	g_autoptr(GByteArray) batch = g_byte_array_new();
	g_autofree struct guest *guest = g_new0(struct guest, 1);

	guest->before = before;
	put(batch, number, form, bytes, length);
	assert_string_equal(decode(guest, batch), reason);
	assert_int_equal(guest->takes, 0);
}

static void a_page_outside_memory_is_refused(void **state)
{
	assert_refused(PAGES, CKPT_ZERO, "", 0, "a page outside memory");
	assert_refused(G_MAXUINT32, CKPT_ZERO, "", 0, "a page outside memory");
}

static void numbers_that_do_not_grow_are_refused(void **state)
{
	static const guint32 numbers[][2] = { { 2, 2 }, { 2, 1 }, { 7, 0 }, { 0, 0 } };

	for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
		g_autoptr(GByteArray) batch = g_byte_array_new();
		g_autofree struct guest *guest = g_new0(struct guest, 1);

		put(batch, numbers[i][0], CKPT_ZERO, "", 0);
		put(batch, numbers[i][1], CKPT_ZERO, "", 0);
		assert_string_equal(decode(guest, batch), "a page out of order");
		assert_int_equal(guest->takes, 1);
	}
}

static gboolean count(void *data, guint32 number, const void *bytes)
{
	++*(guint *)data;
	return TRUE;
}

static void nothing_comes_after_the_last_number_there_is(void **state)
{
	g_autoptr(GByteArray) batch = g_byte_array_new();
	guint takes = 0;
	const struct ckpt_page_sink sink = { &takes, NULL, count };
	const char *why = "";

	put(batch, G_MAXUINT32, CKPT_ZERO, "", 0);
	assert_true(ckpt_decode(batch->data, batch->len, 1ull << 32, &sink, &why));
	assert_int_equal(takes, 1);
	put(batch, 0, CKPT_ZERO, "", 0);
	assert_false(ckpt_decode(batch->data, batch->len, 1ull << 32, &sink, &why));
	assert_string_equal(why, "a page out of order");
}

static void forms_that_are_not_are_refused(void **state)
{
	assert_refused(1, CKPT_SAME, "", 0, "a page of an unknown form");
	assert_refused(1, CKPT_FORMS, "", 0, "a page of an unknown form");
	assert_refused(1, G_MAXUINT16, "", 0, "a page of an unknown form");
}

static void lengths_that_cannot_be_are_refused(void **state)
{
	guint8 bytes[2 * CKPT_PAGE] = { 0 };
	const char *zero = "a page of zeros with a length";
	const char *raw = "a raw page of another length than a page's";
	const char *lz4 = "compressed data that is not one page";
	const char *delta = "a delta that does not add up";

	assert_refused(1, CKPT_ZERO, bytes, 1, zero);
	assert_refused(1, CKPT_RAW, bytes, 0, raw);
	assert_refused(1, CKPT_RAW, bytes, CKPT_PAGE - 1, raw);
	assert_refused(1, CKPT_RAW, bytes, CKPT_PAGE + 1, raw);
	assert_refused(1, CKPT_LZ4, bytes, 0, lz4);
	assert_refused(1, CKPT_LZ4, bytes, 1, lz4);
	assert_refused(1, CKPT_LZ4, bytes, CKPT_PAGE, lz4);
	assert_refused(1, CKPT_LZ4, bytes, CKPT_PAGE + 1, lz4);
	assert_refused(1, CKPT_DELTA, bytes, 0, delta);
	assert_refused(1, CKPT_DELTA, bytes, 7, delta);
	assert_refused(1, CKPT_DELTA, bytes, 9, delta);
	assert_refused(1, CKPT_DELTA, bytes, CKPT_PAGE, "a delta longer than a page");
}

static void compressed_data_of_another_length_than_a_page_is_refused(void **state)
{
	/* One literal and a match of the rest of 4095 and of 4097 bytes, by LZ4's
	 * rules: token, literal, offset, lengths, then five last literals. */
	for (guint total = CKPT_PAGE - 1; total <= CKPT_PAGE + 1; total++) {
		guint8 bytes[64] = { 0x1f, 'a', 1, 0 };
		guint at = 4, match = total - 1 - 5 - 4 - 15;
		g_autoptr(GByteArray) batch = g_byte_array_new();
		g_autofree struct guest *guest = g_new0(struct guest, 1);

		for (; match >= 255; match -= 255)
			bytes[at++] = 255;
		bytes[at++] = (guint8)match;
		bytes[at++] = 0x50;
		memcpy(bytes + at, "aaaaa", 5);
		put(batch, 1, CKPT_LZ4, bytes, at + 5);
		if (total == CKPT_PAGE) {
			assert_null(decode(guest, batch));
			assert_int_equal(guest->now[1][CKPT_PAGE - 1], 'a');
		} else {
			assert_non_null(decode(guest, batch));
		}
	}
}

static void deltas_that_do_not_add_up_are_refused(void **state)
{
	const char *why = "a delta that does not add up";

	/* A line without its words; with an empty set of words; with one word too few;
	 * with a byte too many. */
	assert_refused(1, CKPT_DELTA, "\1\0\0\0\0\0\0\0", 8, why);
	assert_refused(1, CKPT_DELTA, "\1\0\0\0\0\0\0\0\1", 9, why);
	assert_refused(1, CKPT_DELTA, "\1\0\0\0\0\0\0\0\0\0", 10, why);
	assert_refused(1, CKPT_DELTA, "\1\0\0\0\0\0\0\0\3\0abcd", 14, why);
	assert_refused(1, CKPT_DELTA, "\1\0\0\0\0\0\0\0\1\0abcde", 15, why);
}

static void a_delta_to_a_page_that_is_not_there_is_refused(void **state)
{
	g_autoptr(GByteArray) batch = g_byte_array_new();
	g_autofree struct guest *guest = g_new0(struct guest, 1);
	const struct ckpt_page_sink sink = { guest, NULL, guest_take };
	const char *why = "";

	put(batch, 1, CKPT_DELTA, "\1\0\0\0\0\0\0\0\1\0abcd", 14);
	assert_string_equal(decode(guest, batch),
			    "a delta to a page that is not there");
	assert_false(ckpt_decode(batch->data, batch->len, PAGES, &sink, &why));
	assert_string_equal(why, "a delta to a page that is not there");
}

static void a_page_not_wanted_ends_the_reading(void **state)
{
	content pages[PAGES], before[PAGES];
	g_autoptr(GByteArray) batch = g_byte_array_new();
	g_autofree struct guest *guest = g_new0(struct guest, 1);

	make_mixed(batch, pages, before);
	guest->before = before;
	guest->most = 2;
	assert_string_equal(decode(guest, batch), "not taken");
	assert_int_equal(guest->takes, 2);
}

static void encode_many(ckpt_encoder *encoder, const guint8 *page, const guint8 *before,
			guint times)
{
	g_autoptr(GByteArray) batch = g_byte_array_new();

	for (guint i = 0; i < times; i++) {
		g_byte_array_set_size(batch, 0);
		ckpt_encode(encoder, i, page, before, batch);
	}
}

/* As slow as any: time counts for nothing beside a byte saved. */
#define SLOW_WIRE 100000

static void what_cannot_be_compressed_is_soon_tried_on_samples_only(void **state)
{
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();
	struct ckpt_form_counters first, last;
	content page;

	ckpt_encoder_set_wire(encoder, SLOW_WIRE);
	fill_random(page, 1);
	encode_many(encoder, page, NULL, 1000);
	ckpt_encoder_get_counters(encoder, &first);
	assert_in_range(first.tried_lz4, 1000 / CKPT_SAMPLE, 100);
	encode_many(encoder, page, NULL, CKPT_SAMPLE * 10);
	ckpt_encoder_get_counters(encoder, &last);
	assert_int_equal(last.tried_lz4 - first.tried_lz4, 10);
	assert_int_equal(last.pages[CKPT_RAW], 1000 + CKPT_SAMPLE * 10);
}

static void what_can_be_compressed_again_is_compressed_again(void **state)
{
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();
	struct ckpt_form_counters first, last;
	content random, text;

	ckpt_encoder_set_wire(encoder, SLOW_WIRE);
	fill_random(random, 1);
	fill_text(text, 1);
	encode_many(encoder, random, NULL, 10000);
	ckpt_encoder_get_counters(encoder, &first);
	assert_int_equal(first.pages[CKPT_LZ4], 0);
	encode_many(encoder, text, NULL, 1000);
	ckpt_encoder_get_counters(encoder, &last);
	assert_in_range(last.pages[CKPT_LZ4], 1000 - 2 * CKPT_SAMPLE, 1000);
}

static void pages_rewritten_each_time_are_soon_not_compared_but_on_samples(void **state)
{
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();
	struct ckpt_form_counters counters;
	content page, before;

	ckpt_encoder_set_wire(encoder, SLOW_WIRE);
	fill_random(page, 1);
	fill_random(before, 2);
	encode_many(encoder, page, before, 1000);
	ckpt_encoder_get_counters(encoder, &counters);
	assert_in_range(counters.tried_delta, 1000 / CKPT_SAMPLE, 100);
	/* And still a page as before is not sent. */
	encode_many(encoder, page, page, 100);
	ckpt_encoder_get_counters(encoder, &counters);
	assert_int_equal(counters.pages[CKPT_SAME], 100);
}

static void on_a_wire_faster_than_any_compression_nothing_is_compressed(void **state)
{
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();
	struct ckpt_form_counters counters;
	content page;

	ckpt_encoder_set_wire(encoder, G_MAXUINT64);
	fill_text(page, 1);
	encode_many(encoder, page, NULL, 1000);
	ckpt_encoder_get_counters(encoder, &counters);
	assert_in_range(counters.tried_lz4, 1, 50);
}

static void where_only_bytes_count_all_is_always_tried(void **state)
{
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();
	struct ckpt_form_counters counters;
	content page, before;

	ckpt_encoder_set_wire(encoder, 0);
	fill_random(page, 1);
	fill_random(before, 2);
	encode_many(encoder, page, before, 1000);
	ckpt_encoder_get_counters(encoder, &counters);
	assert_int_equal(counters.tried_delta, 1000);
	assert_int_equal(counters.tried_lz4, 1000);
}

static void counters_add_up_to_the_batch(void **state)
{
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();
	g_autoptr(GByteArray) batch = g_byte_array_new();
	struct ckpt_form_counters counters;
	guint64 pages = 0, bytes = 0;
	guint seen[CKPT_FORMS] = { 0 };
	content page, before;

	for (guint i = 0; i < 500; i++) {
		memset(page, 0, CKPT_PAGE);
		memset(before, 0xaa, CKPT_PAGE);
		if (i % 5 == 1)
			fill_random(page, i);
		if (i % 5 == 2)
			fill_text(page, i);
		if (i % 5 >= 3)
			memcpy(page, before, CKPT_PAGE);
		if (i % 5 == 4)
			change_words(page, i, i);
		seen[ckpt_encode(encoder, i, page, i % 7 ? before : NULL, batch)]++;
	}
	ckpt_encoder_get_counters(encoder, &counters);
	for (guint form = 0; form < CKPT_FORMS; form++) {
		assert_true(seen[form] > 0);
		assert_int_equal(counters.pages[form], seen[form]);
		pages += counters.pages[form];
		bytes += counters.bytes[form];
	}
	assert_int_equal(pages, 500);
	assert_int_equal(bytes, batch->len);
	assert_int_equal(counters.bytes[CKPT_SAME], 0);
	assert_int_equal(counters.bytes[CKPT_ZERO], 8 * seen[CKPT_ZERO]);
	assert_int_equal(counters.bytes[CKPT_RAW], (8 + CKPT_PAGE) * seen[CKPT_RAW]);
}

static gboolean equal(struct ckpt_digest a, struct ckpt_digest b)
{
	return a.low == b.low && a.high == b.high;
}

static ckpt_digester *digester(guint seed)
{
	content bytes;

	fill_random(bytes, seed);
	return ckpt_digester_new(bytes);
}

static void digests_are_equal_for_equal_pages_under_one_key(void **state)
{
	g_autoptr(ckpt_digester) one = digester(1);
	g_autoptr(ckpt_digester) again = digester(1);
	guint8 page[CKPT_PAGE], copy[CKPT_PAGE + 1];

	fill_random(page, 1);
	memcpy(copy + 1, page, CKPT_PAGE);
	assert_true(
		equal(ckpt_digest_page(one, page), ckpt_digest_page(again, copy + 1)));
}

static void digests_differ_by_any_bit_of_the_page(void **state)
{
	g_autoptr(ckpt_digester) one = digester(1);
	g_autoptr(GHashTable) low =
		g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	struct ckpt_digest base;
	content page;

	fill_text(page, 1);
	base = ckpt_digest_page(one, page);
	for (guint bit = 0; bit < 8 * CKPT_PAGE; bit++) {
		struct ckpt_digest other;

		page[bit / 8] ^= 1 << bit % 8;
		other = ckpt_digest_page(one, page);
		page[bit / 8] ^= 1 << bit % 8;
		assert_true(other.low != base.low && other.high != base.high);
		assert_true(other.low != other.high);
		assert_true(g_hash_table_add(low, g_memdup2(&other.low, 8)));
	}
}

static void digests_differ_by_the_key(void **state)
{
	g_autoptr(ckpt_digester) one = digester(1);
	g_autoptr(ckpt_digester) other = digester(2);
	content page;
	struct ckpt_digest a, b;

	fill_random(page, 1);
	a = ckpt_digest_page(one, page);
	b = ckpt_digest_page(other, page);
	assert_true(a.low != b.low && a.high != b.high);
}

/* A 64-bit word of the page goes into a sum of its own and, multiplied, into another;
 * 32 bits of key are enough to make two pages in which both cancel. */
static void put_word(guint8 *page, guint stripe, guint lane, guint32 high, guint32 low)
{
	guint64 word = GUINT64_TO_LE((guint64)high << 32 | low);

	memcpy(page + 64 * stripe + 8 * lane, &word, 8);
}

static void pages_equal_under_half_of_the_key_differ_under_the_other(void **state)
{
	guint8 secret[CKPT_SECRET];
	guint32 key[2][2]; /* of two stripes: low, high */
	content page, other, bytes;
	g_autoptr(ckpt_digester) one = NULL;
	struct ckpt_digest a, b;
	guint found = 0;

	fill_random(bytes, 1);
	memcpy(secret, bytes, sizeof(secret));
	one = ckpt_digester_new(secret);
	for (guint stripe = 1; stripe < 16; stripe++) {
		memcpy(key[0], secret + 8 * 2, 8);
		memcpy(key[1], secret + 8 * (stripe + 2), 8);
		fill_random(page, 2);
		memcpy(other, page, CKPT_PAGE);
		/* Products of opposite signs, of the same factor. */
		put_word(page, 0, 2, GUINT32_FROM_LE(key[0][1]) ^ 0x12345678, 1);
		put_word(other, 0, 2, GUINT32_FROM_LE(key[0][1]) ^ 0x12345678,
			 1u << 31 | 1);
		put_word(page, stripe, 2, GUINT32_FROM_LE(key[1][1]) ^ 0x12345678,
			 1u << 31 | 1);
		put_word(other, stripe, 2, GUINT32_FROM_LE(key[1][1]) ^ 0x12345678, 1);
		a = ckpt_digest_page(one, page);
		b = ckpt_digest_page(one, other);
		found += a.low == b.low;
		assert_true(a.high != b.high);
	}
	assert_true(found > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_of_zeros_is_only_named),
		cmocka_unit_test(a_byte_anywhere_makes_a_page_not_zero),
		cmocka_unit_test(a_random_page_goes_raw),
		cmocka_unit_test(a_page_of_text_is_compressed),
		cmocka_unit_test(a_page_as_before_is_not_sent),
		cmocka_unit_test(a_page_with_a_few_words_changed_goes_as_a_delta),
		cmocka_unit_test(
			a_delta_of_one_word_takes_as_many_bytes_as_the_format_says),
		cmocka_unit_test(lines_that_changed_whole_go_as_a_delta),
		cmocka_unit_test(a_page_changed_all_over_goes_whole),
		cmocka_unit_test(the_longest_delta_is_shorter_than_a_page),
		cmocka_unit_test(a_batch_of_all_forms_goes_over),
		cmocka_unit_test(an_empty_batch_has_no_pages),
		cmocka_unit_test(encoded_in_its_place_a_batch_is_the_same),
		cmocka_unit_test(any_byte_changed_is_lived_through),
		cmocka_unit_test(a_batch_cut_anywhere_but_between_pages_is_refused),
		cmocka_unit_test(a_page_outside_memory_is_refused),
		cmocka_unit_test(numbers_that_do_not_grow_are_refused),
		cmocka_unit_test(nothing_comes_after_the_last_number_there_is),
		cmocka_unit_test(forms_that_are_not_are_refused),
		cmocka_unit_test(lengths_that_cannot_be_are_refused),
		cmocka_unit_test(
			compressed_data_of_another_length_than_a_page_is_refused),
		cmocka_unit_test(deltas_that_do_not_add_up_are_refused),
		cmocka_unit_test(a_delta_to_a_page_that_is_not_there_is_refused),
		cmocka_unit_test(a_page_not_wanted_ends_the_reading),
		cmocka_unit_test(
			what_cannot_be_compressed_is_soon_tried_on_samples_only),
		cmocka_unit_test(what_can_be_compressed_again_is_compressed_again),
		cmocka_unit_test(
			pages_rewritten_each_time_are_soon_not_compared_but_on_samples),
		cmocka_unit_test(
			on_a_wire_faster_than_any_compression_nothing_is_compressed),
		cmocka_unit_test(where_only_bytes_count_all_is_always_tried),
		cmocka_unit_test(counters_add_up_to_the_batch),
		cmocka_unit_test(digests_are_equal_for_equal_pages_under_one_key),
		cmocka_unit_test(digests_differ_by_any_bit_of_the_page),
		cmocka_unit_test(digests_differ_by_the_key),
		cmocka_unit_test(
			pages_equal_under_half_of_the_key_differ_under_the_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
