/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Saved state: what goes in comes out, and what is not right is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

#include "kvm/error.h"
#include "kvm/state.h"

struct sample {
	guint64 a;
	guint32 b[2];
	guint8 c;
	guint8 pad[7];
};
static const struct vmm_state_field sample_fields[] = {
	VMM_STATE_FIELD(struct sample, a),
	VMM_STATE_FIELD(struct sample, b),
	VMM_STATE_FIELD(struct sample, c),
	{ 0 },
};

#define HEADER sizeof(struct wire_state_header)
#define SECTION sizeof(struct wire_section_header)

/* Two sections: "first".0 with a sample, "second".7 with five bytes (and three of
 * padding). */
static vmm_state *make(void)
{
	const struct sample sample = { 0x1122334455667788, { 1, 2 }, 3, { 0 } };
	vmm_state *state = vmm_state_new();

	vmm_state_put(state, "first", 0, 1, &sample, sizeof(sample), sample_fields);
	vmm_state_put(state, "second", 7, 2, "hello", 5, NULL);
	return state;
}

/* The bytes of make(), to be spoilt. */
static guint8 *make_bytes(gsize *len)
{
	g_autoptr(vmm_state) state = make();
	const guint8 *bytes = vmm_state_bytes(state, len);

	return g_memdup2(bytes, *len);
}

/* Makes the header right again after the rest was spoilt. */
static void mend_header(guint8 *bytes, gsize len)
{
	struct wire_state_header header;

	memcpy(&header, bytes, sizeof(header));
	header.length = wire_put64(len - HEADER);
	header.checksum = wire_put64(XXH3_64bits(bytes + HEADER, len - HEADER));
	memcpy(bytes, &header, sizeof(header));
}

static void refused(const guint8 *bytes, gsize len, const char *why)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(vmm_state) state = vmm_state_parse(bytes, len, &error);

	if (state)
		fail_msg("taken although %s", why);
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE));
	if (!strstr(error->message, why))
		fail_msg("refused with \"%s\" and not \"%s\"", error->message, why);
}

static void what_was_put_is_found_after_parsing(void **state)
{
	gsize len, got;
	g_autofree guint8 *bytes = make_bytes(&len);
	g_autoptr(vmm_state) parsed = vmm_state_parse(bytes, len, NULL);
	const struct sample *sample;
	const char *text;

	assert_non_null(parsed);
	memset(bytes, 0xff, len); /* it keeps a copy */
	sample = vmm_state_get(parsed, "first", 0, 1, sizeof(*sample), sizeof(*sample),
			       NULL, NULL);
	assert_non_null(sample);
	assert_int_equal(sample->a, 0x1122334455667788);
	assert_int_equal((gsize)sample % 8, 0);
	text = vmm_state_get(parsed, "second", 7, 2, 1, 100, &got, NULL);
	assert_int_equal(got, 5);
	assert_memory_equal(text, "hello", 5);
	assert_int_equal((gsize)text % 8, 0);
	assert_true(vmm_state_all_used(parsed, NULL));
}

static void what_was_put_can_be_read_without_parsing(void **state)
{
	g_autoptr(vmm_state) saved = make();

	assert_non_null(vmm_state_get(saved, "first", 0, 1, 0, 100, NULL, NULL));
	assert_true(vmm_state_has(saved, "second", 7));
	assert_false(vmm_state_has(saved, "second", 0));
	assert_false(vmm_state_has(saved, "secon", 7));
}

static void the_bytes_are_the_same_each_time(void **state)
{
	gsize len_a, len_b;
	g_autofree guint8 *a = make_bytes(&len_a), *b = make_bytes(&len_b);
	g_autoptr(vmm_state) parsed = vmm_state_parse(a, len_a, NULL);
	const guint8 *c;
	gsize len_c;

	assert_int_equal(len_a, HEADER + SECTION + sizeof(struct sample) + SECTION + 8);
	assert_int_equal(len_a, len_b);
	assert_memory_equal(a, b, len_a);
	c = vmm_state_bytes(parsed, &len_c);
	assert_int_equal(len_c, len_a);
	assert_memory_equal(a, c, len_a);
}

static void a_reset_state_is_empty_and_can_be_filled_again(void **state)
{
	g_autoptr(vmm_state) saved = vmm_state_new(), once = make();
	g_autofree char *junk = g_strnfill(1000, 'x');
	g_autofree char *difference = NULL;
	gsize len, len_once;

	vmm_state_put(saved, "second", 7, 9, junk, 1000, NULL);
	vmm_state_reset(saved);
	assert_false(vmm_state_has(saved, "second", 7));
	vmm_state_bytes(saved, &len);
	assert_int_equal(len, HEADER);
	{
		const struct sample sample = { 0x1122334455667788, { 1, 2 }, 3, { 0 } };

		vmm_state_put(saved, "first", 0, 1, &sample, sizeof(sample), NULL);
		vmm_state_put(saved, "second", 7, 2, "hello", 5, NULL);
	}
	/* What was there before must not show in the padding. */
	assert_memory_equal(vmm_state_bytes(saved, &len),
			    vmm_state_bytes(once, &len_once), len);
	assert_int_equal(len, len_once);
}

static void an_empty_state_is_a_state(void **state)
{
	g_autoptr(vmm_state) saved = vmm_state_new(), parsed = NULL;
	gsize len;
	const guint8 *bytes = vmm_state_bytes(saved, &len);

	parsed = vmm_state_parse(bytes, len, NULL);
	assert_non_null(parsed);
	assert_true(vmm_state_all_used(parsed, NULL));
}

static void names_may_fill_their_field_and_sections_may_be_empty(void **state)
{
	g_autoptr(vmm_state) saved = vmm_state_new(), parsed = NULL;
	gsize len;
	const guint8 *bytes;

	vmm_state_put(saved, "sixteen-letters!", 65535, 65535, NULL, 0, NULL);
	vmm_state_put(saved, "sixteen-letters", 65535, 1, "x", 1, NULL);
	bytes = vmm_state_bytes(saved, &len);
	parsed = vmm_state_parse(bytes, len, NULL);
	assert_non_null(vmm_state_get(parsed, "sixteen-letters!", 65535, 65535, 0, 0,
				      &len, NULL));
	assert_int_equal(len, 0);
	assert_non_null(
		vmm_state_get(parsed, "sixteen-letters", 65535, 1, 1, 1, NULL, NULL));
}

static void the_largest_section_is_taken_and_the_whole_may_be_large(void **state)
{
	g_autoptr(vmm_state) saved = vmm_state_new(), parsed = NULL;
	g_autofree guint8 *data = g_malloc(WIRE_SECTION_MAX);
	gsize len;
	const guint8 *bytes;

	memset(data, 0x5a, WIRE_SECTION_MAX);
	for (guint i = 0; i < 15; i++)
		vmm_state_put(saved, "large", i, 1, data, WIRE_SECTION_MAX, NULL);
	bytes = vmm_state_bytes(saved, &len);
	parsed = vmm_state_parse(bytes, len, NULL);
	assert_non_null(parsed);
	assert_memory_equal(vmm_state_get(parsed, "large", 14, 1, WIRE_SECTION_MAX,
					  WIRE_SECTION_MAX, NULL, NULL),
			    data, WIRE_SECTION_MAX);
}

static void a_section_that_is_not_as_asked_for_is_refused(void **state)
{
	static const struct {
		const char *name;
		guint instance, version;
		gsize min, max;
	} wrong[] = {
		{ "third", 0, 1, 0, 99 }, { "first", 1, 1, 0, 99 },
		{ "first", 0, 2, 0, 99 }, { "second", 7, 2, 6, 99 },
		{ "second", 7, 2, 0, 4 },
	};
	g_autoptr(vmm_state) saved = make();

	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autoptr(GError) error = NULL;

		assert_null(vmm_state_get(saved, wrong[i].name, wrong[i].instance,
					  wrong[i].version, wrong[i].min, wrong[i].max,
					  NULL, &error));
		assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE));
		assert_non_null(strstr(error->message, wrong[i].name));
	}
}

static void a_section_that_nobody_asked_for_is_refused(void **state)
{
	g_autoptr(GError) error = NULL, refusal = NULL;
	gsize len;
	g_autofree guint8 *bytes = make_bytes(&len);
	g_autoptr(vmm_state) parsed = vmm_state_parse(bytes, len, NULL);

	assert_non_null(vmm_state_get(parsed, "first", 0, 1, 0, 99, NULL, NULL));
	/* Refusing it does not count as using it. */
	assert_null(vmm_state_get(parsed, "second", 7, 3, 0, 99, NULL, &refusal));
	assert_false(vmm_state_all_used(parsed, &error));
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE));
	assert_non_null(strstr(error->message, "second.7"));
}

static void a_state_cut_anywhere_is_refused(void **state)
{
	gsize len;
	g_autofree guint8 *bytes = make_bytes(&len);

	for (gsize cut = 0; cut < len; cut++) {
		g_autofree guint8 *copy = g_memdup2(bytes, cut);
		g_autoptr(vmm_state) parsed = NULL;
		g_autoptr(GError) error = NULL;

		parsed = vmm_state_parse(copy, cut, &error);
		assert_null(parsed);
		assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE));
		/* Also when header and checksum fit what is left. */
		if (cut < HEADER)
			continue;
		mend_header(copy, cut);
		parsed = vmm_state_parse(copy, cut, NULL);
		assert_null(parsed);
	}
}

static void any_flipped_bit_is_noticed(void **state)
{
	gsize len;
	g_autofree guint8 *bytes = make_bytes(&len);

	for (gsize bit = 0; bit < len * 8; bit++) {
		g_autoptr(vmm_state) parsed = NULL;

		bytes[bit / 8] ^= (guint8)(1 << bit % 8);
		parsed = vmm_state_parse(bytes, len, NULL);
		assert_null(parsed);
		bytes[bit / 8] ^= (guint8)(1 << bit % 8);
	}
}

static void a_header_that_is_not_ours_is_refused(void **state)
{
	struct wire_state_header header;
	gsize len;
	g_autofree guint8 *bytes = make_bytes(&len), *longer = g_malloc0(len + 8);

	memcpy(longer, bytes, len);
	refused(longer, len + 8, "where it says");
	mend_header(longer, len + 8);
	refused(longer, len + 8, "after its last section");

	memcpy(&header, bytes, sizeof(header));
	header.magic = wire_put32(0x12345678);
	memcpy(bytes, &header, sizeof(header));
	refused(bytes, len, "not a saved state");
	header.magic = wire_put32(WIRE_STATE_MAGIC);
	header.version = wire_put16(WIRE_STATE_VERSION + 1);
	memcpy(bytes, &header, sizeof(header));
	refused(bytes, len, "format 2");
	header.version = wire_put16(WIRE_STATE_VERSION);
	header.sections = wire_put16(3);
	memcpy(bytes, &header, sizeof(header));
	refused(bytes, len, "cut off");
	header.sections = wire_put16(1);
	memcpy(bytes, &header, sizeof(header));
	refused(bytes, len, "after its last section");
}

static void spoil_section(gsize at, struct wire_section_header spoilt, const char *why)
{
	gsize len;
	g_autofree guint8 *bytes = make_bytes(&len);

	memcpy(bytes + at, &spoilt, sizeof(spoilt));
	mend_header(bytes, len);
	refused(bytes, len, why);
}

static void a_section_header_that_is_not_right_is_refused(void **state)
{
	static const guint32 lengths[] = { 9,	       1u << 20,   (1u << 20) + 1,
					   0x7fffffff, 0xfffffff8, 0xfffffffb,
					   0xffffffff };
	const gsize second = HEADER + SECTION + sizeof(struct sample);
	struct wire_section_header good = { .name = "second",
					    .version = wire_put16(2),
					    .instance = wire_put16(7),
					    .length = wire_put32(5) };
	struct wire_section_header bad = good;

	for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
		bad.length = wire_put32(lengths[i]);
		spoil_section(second, bad, "longer than what there is");
	}
	bad = good;
	bad.length = wire_put32(4);
	spoil_section(second, bad, "padding");
	bad = good;
	memset(bad.name, 0, sizeof(bad.name));
	spoil_section(second, bad, "without a proper name");
	bad = good;
	bad.name[10] = 'x'; /* after the end of the name */
	spoil_section(second, bad, "without a proper name");
	bad = good;
	bad.name[2] = '\n';
	spoil_section(second, bad, "without a proper name");
	bad = good;
	bad.name[0] = (char)0xc3;
	spoil_section(second, bad, "without a proper name");
	bad = (struct wire_section_header){ .name = "first", .length = wire_put32(5) };
	spoil_section(second, bad, "first.0 comes twice");
}

static void a_state_that_is_too_large_is_refused(void **state)
{
	g_autofree guint8 *bytes = g_malloc0(HEADER + WIRE_STATE_MAX + 1);

	refused(bytes, HEADER + WIRE_STATE_MAX + 1, "bytes");
	refused(bytes, HEADER + WIRE_STATE_MAX, "not a saved state");
	refused(bytes, 0, "0 bytes");
}

static void equal_states_do_not_differ(void **state)
{
	g_autoptr(vmm_state) a = make(), b = make();

	assert_null(vmm_state_difference(a, b));
}

static void assert_difference(const vmm_state *a, const vmm_state *b,
			      const char *expected)
{
	g_autofree char *difference = vmm_state_difference(a, b);

	assert_non_null(difference);
	assert_string_equal(difference, expected);
}

static void a_difference_names_section_and_field(void **state)
{
	struct sample sample = { 0x1122334455667788, { 1, 0x10002 }, 3, { 0 } };
	g_autoptr(vmm_state) a = make(), b = vmm_state_new(), c = NULL;
	gsize len;
	const guint8 *bytes;

	vmm_state_put(b, "second", 7, 2, "hello", 5, NULL);
	vmm_state_put(b, "first", 0, 1, &sample, sizeof(sample), NULL);
	assert_difference(a, b, "first.0: b differs (byte 6 of it)");
	/* Without names, by place. */
	assert_difference(b, a, "first.0: byte 14 differs");
	bytes = vmm_state_bytes(b, &len);
	c = vmm_state_parse(bytes, len, NULL);
	assert_difference(a, c, "first.0: b differs (byte 6 of it)");
	vmm_state_reset(b);
	sample.b[1] = 2;
	sample.pad[1] = 1;
	vmm_state_put(b, "second", 7, 2, "hello", 5, NULL);
	vmm_state_put(b, "first", 0, 1, &sample, sizeof(sample), NULL);
	assert_difference(a, b, "first.0: byte 18 differs");
}

static void a_difference_names_what_only_one_has(void **state)
{
	g_autoptr(vmm_state) a = make(), b = make(), c = vmm_state_new();

	vmm_state_put(b, "third", 1, 1, "x", 1, NULL);
	assert_difference(a, b, "third.1: only in the second");
	assert_difference(b, a, "third.1: only in the first");
	vmm_state_put(c, "third", 1, 1, "xy", 2, NULL);
	assert_difference(c, b, "third.1: version or length differs");
}

/* Of the first section `b` means nothing, and the second's bytes have names. */
static gboolean judge(const char *section, const guint8 *payload, gsize at, char **name)
{
	if (!strcmp(section, "second"))
		*name = g_strdup_printf("letter %c", payload[at]);
	return strcmp(section, "first") != 0 || at < 8 || at >= 16;
}

static void all_differences_that_mean_something_are_named(void **state)
{
	struct sample sample = { 0x1122334455667788, { 9, 9 }, 3, { 0 } };
	g_autoptr(vmm_state) a = make(), b = vmm_state_new(), c = make();
	g_autofree char *none = vmm_state_differences(a, c, judge, 5);
	g_autofree char *some = NULL, *first = NULL, *let_pass = NULL;

	assert_null(none);
	vmm_state_put(b, "first", 0, 1, &sample, sizeof(sample), NULL);
	vmm_state_put(b, "second", 7, 2, "hello", 5, NULL);
	let_pass = vmm_state_differences(a, b, judge, 5);
	assert_null(let_pass);
	vmm_state_reset(b);
	sample.a = 1;
	vmm_state_put(b, "first", 0, 1, &sample, sizeof(sample), NULL);
	vmm_state_put(b, "second", 7, 2, "jello", 5, NULL);
	vmm_state_put(b, "third", 1, 1, "x", 1, NULL);
	some = vmm_state_differences(a, b, judge, 5);
	assert_string_equal(some,
			    "first.0: a; second.7: letter h; third.1: only in the second");
	first = vmm_state_differences(a, b, judge, 1);
	assert_string_equal(first, "first.0: a; and 2 more");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_found_after_parsing),
		cmocka_unit_test(what_was_put_can_be_read_without_parsing),
		cmocka_unit_test(the_bytes_are_the_same_each_time),
		cmocka_unit_test(a_reset_state_is_empty_and_can_be_filled_again),
		cmocka_unit_test(an_empty_state_is_a_state),
		cmocka_unit_test(names_may_fill_their_field_and_sections_may_be_empty),
		cmocka_unit_test(
			the_largest_section_is_taken_and_the_whole_may_be_large),
		cmocka_unit_test(a_section_that_is_not_as_asked_for_is_refused),
		cmocka_unit_test(a_section_that_nobody_asked_for_is_refused),
		cmocka_unit_test(a_state_cut_anywhere_is_refused),
		cmocka_unit_test(any_flipped_bit_is_noticed),
		cmocka_unit_test(a_header_that_is_not_ours_is_refused),
		cmocka_unit_test(a_section_header_that_is_not_right_is_refused),
		cmocka_unit_test(a_state_that_is_too_large_is_refused),
		cmocka_unit_test(equal_states_do_not_differ),
		cmocka_unit_test(a_difference_names_section_and_field),
		cmocka_unit_test(a_difference_names_what_only_one_has),
		cmocka_unit_test(all_differences_that_mean_something_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
