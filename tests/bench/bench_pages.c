/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a page costs on its way: digest, search for zeros, each form made and read back;
 * beside a memcpy of the same pages, each round of one right after a round of the
 * other. The pages of a set fit a second-level cache with what came before them.
 * `settled` is an encoder for a wire of 1 Gbit/s that saw such pages before; else every
 * form is tried.
 *
 * bench_pages [ROUNDS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "checkpoint/pages.h"

#define PAGES 32u

typedef guint8 content[CKPT_PAGE];

struct bench {
	guint rounds;
	content *pages, *before, *copies;
	ckpt_digester *digester;
	ckpt_encoder *encoder;
	GByteArray *batch;
	volatile guint64 sink; /* so that nothing is left out as unused */
};

static void copy(struct bench *bench)
{
	for (guint i = 0; i < PAGES; i++) {
		memcpy(bench->copies[i], bench->pages[i], CKPT_PAGE);
		bench->sink += bench->copies[i][i];
	}
}

static void digest(struct bench *bench)
{
	for (guint i = 0; i < PAGES; i++)
		bench->sink += ckpt_digest_page(bench->digester, bench->pages[i]).low;
}

static void zero(struct bench *bench)
{
	for (guint i = 0; i < PAGES; i++)
		bench->sink += (guint64)ckpt_page_is_zero(bench->pages[i]);
}

static void encode(struct bench *bench)
{
	g_byte_array_set_size(bench->batch, 0);
	for (guint i = 0; i < PAGES; i++)
		ckpt_encode(bench->encoder, i, bench->pages[i], NULL, bench->batch);
}

static void encode_change(struct bench *bench)
{
	g_byte_array_set_size(bench->batch, 0);
	for (guint i = 0; i < PAGES; i++)
		ckpt_encode(bench->encoder, i, bench->pages[i], bench->before[i],
			    bench->batch);
}

static const void *before(void *data, guint32 number)
{
	struct bench *bench = data;

	return bench->before[number];
}

static gboolean take(void *data, guint32 number, const void *bytes)
{
	struct bench *bench = data;

	memcpy(bench->copies[number], bytes, CKPT_PAGE);
	return TRUE;
}

static void decode(struct bench *bench)
{
	const struct ckpt_page_sink sink = { bench, before, take };
	const char *why;

	if (!ckpt_decode(bench->batch->data, bench->batch->len, PAGES, &sink, &why))
		g_error("decode: %s", why);
}

static int compare(const void *a, const void *b)
{
	guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;

	return x < y ? -1 : x > y;
}

static guint64 time_of(struct bench *bench, void (*work)(struct bench *bench))
{
	guint64 start = base_clock_monotonic_ns();

	work(bench);
	return base_clock_monotonic_ns() - start;
}

static void measure(struct bench *bench, const char *what, const char *pages,
		    void (*work)(struct bench *bench))
{
	g_autofree guint64 *work_ns = g_new(guint64, bench->rounds);
	g_autofree guint64 *copy_ns = g_new(guint64, bench->rounds);
	double ns, plain;

	for (guint i = 0; i < bench->rounds; i++) {
		copy_ns[i] = time_of(bench, copy);
		work_ns[i] = time_of(bench, work);
	}
	qsort(work_ns, bench->rounds, sizeof(*work_ns), compare);
	qsort(copy_ns, bench->rounds, sizeof(*copy_ns), compare);
	ns = (double)work_ns[bench->rounds / 2] / PAGES;
	plain = (double)copy_ns[bench->rounds / 2] / PAGES;
	printf("pages what=%s of=%s ns=%.0f memcpy_ns=%.0f ratio=%.2f", what, pages, ns,
	       plain, ns / plain);
	if (work == encode || work == encode_change)
		printf(" bytes=%.0f", (double)bench->batch->len / PAGES);
	printf("\n");
	fflush(stdout);
}

static void fill_random(struct bench *bench)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);

	for (guint i = 0; i < PAGES * CKPT_PAGE; i++)
		bench->pages[0][i] = (guint8)g_rand_int(rand);
}

/* Lines of a log, much alike. */
static void fill_text(struct bench *bench)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	g_autoptr(GString) text = g_string_new(NULL);

	while (text->len < PAGES * CKPT_PAGE)
		g_string_append_printf(
			text,
			"10.0.%d.%d - - [21/Nov/2026:11:%02d:%02d] \"GET /item/%d\" "
			"200 %d\n",
			g_rand_int_range(rand, 0, 4), g_rand_int_range(rand, 1, 255),
			g_rand_int_range(rand, 0, 60), g_rand_int_range(rand, 0, 60),
			g_rand_int_range(rand, 0, 5000),
			g_rand_int_range(rand, 100, 90000));
	memcpy(bench->pages, text->str, PAGES * CKPT_PAGE);
}

static void change_words(struct bench *bench, guint words)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);

	memcpy(bench->before, bench->pages, PAGES * CKPT_PAGE);
	for (guint i = 0; i < PAGES; i++)
		for (guint n = 0; n < words; n++)
			bench->pages[i][8 * g_rand_int_range(rand, 0, CKPT_PAGE / 8)] ^=
				1;
}

static void renew(struct bench *bench, guint64 bytes_per_second)
{
	ckpt_encoder_free(bench->encoder);
	bench->encoder = ckpt_encoder_new();
	ckpt_encoder_set_wire(bench->encoder, bytes_per_second);
}

static void measure_forms(struct bench *bench, const char *pages,
			  void (*work)(struct bench *bench))
{
	renew(bench, 0);
	measure(bench, "encode", pages, work);
	measure(bench, "decode", pages, decode);
	renew(bench, 125000000);
	for (guint i = 0; i < 100; i++)
		work(bench);
	measure(bench, "encode-settled", pages, work);
}

static content *new_pages(void)
{
	content *pages = aligned_alloc(CKPT_PAGE, PAGES * CKPT_PAGE);

	memset(pages, 0, PAGES * CKPT_PAGE);
	return pages;
}

int main(int argc, char **argv)
{
	static const guint words[] = { 1, 8, 64 };
	guint8 secret[CKPT_SECRET];
	struct bench bench = {
		.rounds = argc > 1 ? MAX((guint)atoi(argv[1]), 1) : 2000,
		.pages = new_pages(),
		.before = new_pages(),
		.copies = new_pages(),
		.batch = g_byte_array_new(),
	};

	for (guint i = 0; i < CKPT_SECRET; i++)
		secret[i] = (guint8)g_random_int();
	bench.digester = ckpt_digester_new(secret);
	measure(&bench, "zero-test", "zeros", zero);
	measure_forms(&bench, "zeros", encode);
	fill_random(&bench);
	measure(&bench, "zero-test", "random", zero);
	measure(&bench, "digest", "random", digest);
	measure_forms(&bench, "random", encode);
	for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
		g_autofree char *name = g_strdup_printf("%u-words-changed", words[i]);

		change_words(&bench, words[i]);
		measure_forms(&bench, name, encode_change);
	}
	fill_text(&bench);
	measure_forms(&bench, "text", encode);
	measure_forms(&bench, "text-over-random", encode_change);
	ckpt_digester_free(bench.digester);
	ckpt_encoder_free(bench.encoder);
	g_byte_array_unref(bench.batch);
	free(bench.pages);
	free(bench.before);
	free(bench.copies);
	return 0;
}
