/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A model of the kernel's queue checks that each packet gets just the verdict that it
 * was given, in an order that clients may see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "netcompare/verdicts.h"

enum fate { ABSENT, WAITING, ACCEPTED, CHANGED, DROPPED };

struct kernel {
	GArray *waiting; /* guint32, in the order of arrival */
	GArray *went; /* guint32, in the order in which they went out */
	GHashTable *fates; /* id -> fate */
	guint calls;
};

static enum fate fate(struct kernel *kernel, guint32 id)
{
	return GPOINTER_TO_UINT(
		g_hash_table_lookup(kernel->fates, GUINT_TO_POINTER(id)));
}

static void set_fate(struct kernel *kernel, guint32 id, enum fate to)
{
	assert_int_equal(fate(kernel, id), to == WAITING ? ABSENT : WAITING);
	g_hash_table_insert(kernel->fates, GUINT_TO_POINTER(id), GUINT_TO_POINTER(to));
	if (to == ACCEPTED || to == CHANGED)
		g_array_append_val(kernel->went, id);
}

static void take_out(struct kernel *kernel, guint32 id)
{
	for (guint i = 0; i < kernel->waiting->len; i++)
		if (g_array_index(kernel->waiting, guint32, i) == id) {
			g_array_remove_index(kernel->waiting, i);
			return;
		}
	fail_msg("id %u does not wait in the kernel", id);
}

static void say(void *data, enum ncmp_verdict verdict, guint32 id,
		const guint8 *changed, gsize len)
{
	struct kernel *kernel = data;

	kernel->calls++;
	if (verdict == NCMP_VERDICT_ACCEPT_UP_TO) {
		while (kernel->waiting->len) {
			guint32 at = g_array_index(kernel->waiting, guint32, 0);

			if ((gint32)(at - id) > 0)
				break;
			take_out(kernel, at);
			set_fate(kernel, at, ACCEPTED);
		}
		return;
	}
	take_out(kernel, id);
	set_fate(kernel, id,
		 verdict == NCMP_VERDICT_DROP	  ? DROPPED
		 : verdict == NCMP_VERDICT_CHANGE ? CHANGED
						  : ACCEPTED);
	if (verdict == NCMP_VERDICT_CHANGE) {
		assert_int_equal(len, sizeof(id));
		assert_memory_equal(changed, &id, sizeof(id));
	}
}

static void arrive(ncmp_verdicts *verdicts, struct kernel *kernel, guint32 id)
{
	ncmp_verdicts_arrived(verdicts, id, 100);
	g_array_append_val(kernel->waiting, id);
	set_fate(kernel, id, WAITING);
}

static struct kernel new_kernel(void)
{
	return (struct kernel){ g_array_new(FALSE, FALSE, sizeof(guint32)),
				g_array_new(FALSE, FALSE, sizeof(guint32)),
				g_hash_table_new(NULL, NULL), 0 };
}

static void free_kernel(struct kernel *kernel)
{
	g_array_unref(kernel->waiting);
	g_array_unref(kernel->went);
	g_hash_table_unref(kernel->fates);
}

static void what_comes_in_order_and_is_accepted_goes_with_one_call(void **state)
{
	g_autoptr(ncmp_verdicts) verdicts = ncmp_verdicts_new();
	struct kernel kernel = new_kernel();

	for (guint32 id = 1; id <= 100; id++) {
		arrive(verdicts, &kernel, id);
		assert_true(ncmp_verdicts_accept(verdicts, id, NULL, 0));
	}
	ncmp_verdicts_flush(verdicts, say, &kernel);
	assert_int_equal(kernel.calls, 1);
	assert_int_equal(kernel.went->len, 100);
	free_kernel(&kernel);
}

static void a_held_packet_is_never_accepted_with_others(void **state)
{
	g_autoptr(ncmp_verdicts) verdicts = ncmp_verdicts_new();
	struct kernel kernel = new_kernel();

	for (guint32 id = 10; id < 20; id++)
		arrive(verdicts, &kernel, id);
	for (guint32 id = 10; id < 20; id++)
		if (id != 13)
			ncmp_verdicts_accept(verdicts, id, NULL, 0);
	ncmp_verdicts_flush(verdicts, say, &kernel);
	assert_int_equal(fate(&kernel, 13), WAITING);
	assert_int_equal(kernel.went->len, 9);
	/* A flush later it goes, and with it what came after. */
	arrive(verdicts, &kernel, 20);
	ncmp_verdicts_accept(verdicts, 20, NULL, 0);
	ncmp_verdicts_accept(verdicts, 13, NULL, 0);
	ncmp_verdicts_flush(verdicts, say, &kernel);
	assert_int_equal(kernel.went->len, 11);
	free_kernel(&kernel);
}

static void a_verdict_is_given_once(void **state)
{
	g_autoptr(ncmp_verdicts) verdicts = ncmp_verdicts_new();

	assert_false(ncmp_verdicts_accept(verdicts, 1, NULL, 0));
	ncmp_verdicts_arrived(verdicts, 1, 100);
	assert_true(ncmp_verdicts_accept(verdicts, 1, NULL, 0));
	assert_false(ncmp_verdicts_accept(verdicts, 1, NULL, 0));
	assert_false(ncmp_verdicts_drop(verdicts, 1));
	assert_false(ncmp_verdicts_drop(verdicts, 2));
}

static void lost_ids_are_counted(void **state)
{
	g_autoptr(ncmp_verdicts) verdicts = ncmp_verdicts_new();

	assert_int_equal(ncmp_verdicts_arrived(verdicts, G_MAXUINT32 - 1, 100), 0);
	assert_int_equal(ncmp_verdicts_arrived(verdicts, G_MAXUINT32, 100), 0);
	assert_int_equal(ncmp_verdicts_arrived(verdicts, 0, 100), 0);
	assert_int_equal(ncmp_verdicts_arrived(verdicts, 5, 100), 4);
}

/* Within one connection (id modulo 7 here) verdicts are accepted in order of arrival.
 */
static void random_verdicts_are_what_the_kernel_does(guint32 seed, guint32 first)
{
	g_autoptr(ncmp_verdicts) verdicts = ncmp_verdicts_new();
	struct kernel kernel = new_kernel();
	g_autoptr(GRand) random = g_rand_new_with_seed(seed);
	g_autoptr(GHashTable) said = g_hash_table_new(NULL, NULL);
	guint32 id = first, held[7] = { 0 };
	g_autoptr(GArray) open = g_array_new(FALSE, FALSE, sizeof(guint32));
	guint32 last_out[7];
	gboolean any_out[7] = { FALSE };

	for (guint round = 0; round < 300; round++) {
		guint come = (guint)g_rand_int_range(random, 0, round % 50 ? 40 : 9000);

		for (guint i = 0; i < come; i++, id++) {
			if (!g_rand_int_range(random, 0, 200))
				continue; /* lost */
			arrive(verdicts, &kernel, id);
			g_array_append_val(open, id);
		}
		memset(held, 0, sizeof(held));
		for (guint i = 0; i < open->len;) {
			guint32 at = g_array_index(open, guint32, i);
			int what = g_rand_int_range(random, 0, 20);
			enum fate want = what < 14   ? ACCEPTED
					 : what < 16 ? CHANGED
					 : what < 18 ? DROPPED
						     : WAITING;

			if (held[at % 7] && want != DROPPED)
				want = WAITING;
			if (want == ACCEPTED)
				assert_true(
					ncmp_verdicts_accept(verdicts, at, NULL, 0));
			else if (want == CHANGED)
				assert_true(ncmp_verdicts_accept(
					verdicts, at, (guint8 *)&at, sizeof(at)));
			else if (want == DROPPED)
				assert_true(ncmp_verdicts_drop(verdicts, at));
			if (want == WAITING) {
				held[at % 7] = 1;
				i++;
			} else {
				g_array_remove_index(open, i);
				g_hash_table_insert(said, GUINT_TO_POINTER(at),
						    GUINT_TO_POINTER(want));
			}
		}
		ncmp_verdicts_flush(verdicts, say, &kernel);
		assert_int_equal(ncmp_verdicts_waiting(verdicts), open->len);
		assert_int_equal(kernel.waiting->len, open->len);
		assert_int_equal(ncmp_verdicts_waiting_bytes(verdicts),
				 open->len * 100);
	}
	GHashTableIter iter;
	gpointer key, want;
	g_hash_table_iter_init(&iter, said);
	while (g_hash_table_iter_next(&iter, &key, &want))
		assert_int_equal(fate(&kernel, GPOINTER_TO_UINT(key)),
				 GPOINTER_TO_UINT(want));
	for (guint i = 0; i < kernel.went->len; i++) {
		guint32 at = g_array_index(kernel.went, guint32, i);

		if (any_out[at % 7] && first < G_MAXUINT32 / 2)
			assert_true(at > last_out[at % 7]);
		any_out[at % 7] = TRUE;
		last_out[at % 7] = at;
	}
	assert_int_equal(ncmp_verdicts_drop_all(verdicts), open->len);
	ncmp_verdicts_flush(verdicts, say, &kernel);
	assert_int_equal(kernel.waiting->len, 0);
	free_kernel(&kernel);
}

static void whatever_is_decided_is_what_the_kernel_does(void **state)
{
	for (guint32 seed = 1; seed <= 5; seed++)
		random_verdicts_are_what_the_kernel_does(seed, 1);
}

static void ids_may_wrap(void **state)
{
	random_verdicts_are_what_the_kernel_does(9, G_MAXUINT32 - 3000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			what_comes_in_order_and_is_accepted_goes_with_one_call),
		cmocka_unit_test(a_held_packet_is_never_accepted_with_others),
		cmocka_unit_test(a_verdict_is_given_once),
		cmocka_unit_test(lost_ids_are_counted),
		cmocka_unit_test(whatever_is_decided_is_what_the_kernel_does),
		cmocka_unit_test(ids_may_wrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
