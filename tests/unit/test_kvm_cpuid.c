/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest is told about its processor, on this machine's KVM. */
#include <asm/kvm_para.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm/cpuid.h"
#include "kvm/error.h"

#define BIT(n) (1u << (n))
#define SKIPPED 77
#define CPUS_MAX 8

enum { LEAF, INDEX, FLAGS, EAX, EBX, ECX, EDX, PAD, WORDS };

/* A saved table, as words. */
struct table {
	vmm_state *state;
	const guint32 *words;
	gsize n;
};

static void clear_table(struct table *table)
{
	vmm_state_free(table->state);
}
#define auto_table __attribute__((cleanup(clear_table))) struct table

static int set_up(void **state)
{
	struct vmm_hypervisor *hv = g_new0(struct vmm_hypervisor, 1);
	g_autoptr(GError) error = NULL;

	if (!vmm_hypervisor_open(hv, &error))
		fail_msg("%s", error->message);
	*state = hv;
	return 0;
}

static int tear_down(void **state)
{
	vmm_hypervisor_close(*state);
	g_free(*state);
	return 0;
}

/* NULL where this host lacks what a baseline asks for. */
static vmm_cpuid *try_cpuid(struct vmm_hypervisor *hv, const char *model, guint cpus,
			    gboolean invariant)
{
	g_autoptr(GError) error = NULL;
	vmm_cpuid *cpuid = vmm_cpuid_new(hv, model, cpus, invariant, &error);

	if (cpuid)
		return cpuid;
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_HOST));
	assert_non_null(strstr(error->message, model));
	return NULL;
}

static struct table read_table(const vmm_cpuid *cpuid)
{
	struct table table = { .state = vmm_state_new() };
	gsize len;

	vmm_cpuid_save(cpuid, table.state);
	table.words = vmm_state_get(table.state, "cpuid", 0, 1, 0, 1 << 20, &len, NULL);
	assert_non_null(table.words);
	table.n = len / (WORDS * 4);
	assert_int_equal(len, table.n * WORDS * 4);
	return table;
}

static struct table table_of(struct vmm_hypervisor *hv, const char *model, guint cpus,
			     gboolean invariant)
{
	g_autoptr(vmm_cpuid) cpuid = try_cpuid(hv, model, cpus, invariant);

	if (!cpuid)
		return (struct table){ 0 };
	return read_table(cpuid);
}

static const guint32 *leaf(const struct table *table, guint32 number, guint32 index)
{
	for (gsize i = 0; i < table->n; i++) {
		const guint32 *w = table->words + i * WORDS;

		if (w[LEAF] == number && w[INDEX] == index)
			return w;
	}
	return NULL;
}

static guint32 value(const struct table *table, guint32 number, guint32 index,
		     guint reg)
{
	const guint32 *w = leaf(table, number, index);

	return w ? w[reg] : 0;
}

static void what_cannot_be_carried_over_is_hidden(void **state)
{
	static const char *const models[] = { "host", "x86-64-v2", "x86-64-v3" };
	static const guint32 blank[] = { 5,    6,    0xa,  0xf,	       0x10,	  0x12,
					 0x14, 0x1d, 0x1e, 0x8000000a, 0x8000001f };

	for (guint i = 0; i < G_N_ELEMENTS(models); i++) {
		auto_table t = table_of(*state, models[i], 2, FALSE);

		/* VMX, SVM, PMU (PDCM, perfctr), MONITOR, PT, AMX. */
		assert_int_equal(value(&t, 1, 0, ECX) & (BIT(3) | BIT(5) | BIT(15)), 0);
		assert_int_equal(value(&t, 0x80000001, 0, ECX) & (BIT(2) | BIT(23)), 0);
		assert_int_equal(value(&t, 7, 0, EBX) & BIT(25), 0);
		assert_int_equal(value(&t, 7, 0, EDX) & (BIT(22) | BIT(24) | BIT(25)),
				 0);
		assert_int_equal(value(&t, 0xd, 0, EAX) & (BIT(17) | BIT(18)), 0);
		/* Asynchronous page faults, steal time. */
		assert_int_equal(value(&t, KVM_CPUID_FEATURES, 0, EAX) &
					 (BIT(KVM_FEATURE_ASYNC_PF) |
					  BIT(KVM_FEATURE_STEAL_TIME) |
					  BIT(KVM_FEATURE_ASYNC_PF_INT)),
				 0);
		for (guint b = 0; b < G_N_ELEMENTS(blank); b++)
			for (guint reg = EAX; reg <= EDX; reg++)
				assert_int_equal(value(&t, blank[b], 0, reg), 0);
	}
}

static void a_guest_can_see_that_it_is_one(void **state)
{
	auto_table t = table_of(*state, "host", 1, FALSE);

	assert_true(value(&t, 1, 0, ECX) & BIT(31));
	assert_memory_equal(leaf(&t, 0x40000000, 0) + EBX, "KVMKVMKVM\0\0\0", 12);
	assert_true(value(&t, KVM_CPUID_FEATURES, 0, EAX) &
		    BIT(KVM_FEATURE_CLOCKSOURCE2));
}

static void the_topology_is_one_package_of_cores(void **state)
{
	static const guint bits[] = { 0, 0, 1, 2, 2, 3, 3, 3, 3 };

	for (guint cpus = 1; cpus <= CPUS_MAX; cpus++) {
		auto_table t = table_of(*state, "host", cpus, FALSE);
		guint32 ebx = value(&t, 1, 0, EBX), edx = value(&t, 1, 0, EDX);

		assert_int_equal(ebx >> 16 & 0xff, cpus);
		assert_int_equal(ebx >> 24, 0);
		assert_int_equal(!!(edx & BIT(28)), cpus > 1);
		/* A core has one thread, the package `cpus` cores. */
		assert_int_equal(value(&t, 0xb, 0, EAX), 0);
		assert_int_equal(value(&t, 0xb, 0, EBX), 1);
		assert_int_equal(value(&t, 0xb, 0, ECX), 1 << 8);
		assert_int_equal(value(&t, 0xb, 1, EAX), bits[cpus]);
		assert_int_equal(value(&t, 0xb, 1, EBX), cpus);
		assert_int_equal(value(&t, 0xb, 1, ECX), 2 << 8 | 1);
		assert_null(leaf(&t, 0xb, 2));
		if (value(&t, 4, 0, EAX) & 0x1f) {
			assert_int_equal(value(&t, 4, 0, EAX) >> 26,
					 (1u << bits[cpus]) - 1);
			assert_int_equal(value(&t, 4, 0, EAX) >> 14 & 0xfff, 0);
		}
		if (leaf(&t, 0x80000008, 0))
			assert_int_equal(value(&t, 0x80000008, 0, ECX) & 0xff,
					 cpus - 1);
	}
}

static void kvm_takes_the_table_and_each_vcpu_sees_its_own_number(void **state)
{
	struct vmm_hypervisor *hv = *state;
	static const char *const models[] = { "host", "x86-64-v2", "x86-64-v3" };
	int fds[3];

	for (guint i = 0; i < 3; i++) {
		fds[i] = ioctl(hv->vm_fd, KVM_CREATE_VCPU, (gulong)i);
		assert_true(fds[i] >= 0);
	}
	for (guint m = 0; m < G_N_ELEMENTS(models); m++) {
		g_autoptr(vmm_cpuid) cpuid = try_cpuid(hv, models[m], 3, FALSE);

		for (guint i = 0; cpuid && i < 3; i++) {
			g_autofree struct kvm_cpuid2 *got = g_malloc0(
				sizeof(*got) + 256 * sizeof(struct kvm_cpuid_entry2));
			g_autoptr(GError) error = NULL;
			guint seen = 0;

			if (!vmm_cpuid_set(cpuid, fds[i], i, &error))
				fail_msg("%s", error->message);
			got->nent = 256;
			assert_int_equal(ioctl(fds[i], KVM_GET_CPUID2, got), 0);
			for (guint e = 0; e < got->nent; e++) {
				const struct kvm_cpuid_entry2 *entry = &got->entries[e];

				if (entry->function == 1) {
					assert_int_equal(entry->ebx >> 24, i);
					seen++;
				} else if (entry->function == 0xb) {
					assert_int_equal(entry->edx, i);
					seen++;
				}
			}
			assert_int_equal(seen, 3);
		}
	}
	for (guint i = 0; i < 3; i++)
		close(fds[i]);
}

static void no_leaf_is_there_twice(void **state)
{
	static const char *const models[] = { "host", "x86-64-v2", "x86-64-v3" };

	for (guint m = 0; m < G_N_ELEMENTS(models); m++) {
		auto_table t = table_of(*state, models[m], 8, FALSE);

		for (gsize i = 0; i < t.n; i++)
			assert_ptr_equal(leaf(&t, t.words[i * WORDS + LEAF],
					      t.words[i * WORDS + INDEX]),
					 t.words + i * WORDS);
	}
}

static void invariant_tsc_is_shown_only_where_it_may_be(void **state)
{
	auto_table without = table_of(*state, "host", 1, FALSE);
	auto_table with = table_of(*state, "host", 1, TRUE);

	assert_int_equal(value(&without, 0x80000007, 0, EDX), 0);
	assert_int_equal(value(&with, 0x80000007, 0, EDX) & ~BIT(8), 0);
}

/* Nothing that the level does not define, or that differs between hosts of one vendor.
 */
static void a_baseline_shows_its_level_and_no_more(void **state)
{
	for (guint v = 2; v <= 3; v++) {
		g_autofree char *model = g_strdup_printf("x86-64-v%u", v);
		auto_table t = table_of(*state, model, 2, TRUE);
		auto_table other = table_of(*state, model, 2, FALSE);
		guint32 ecx = value(&t, 1, 0, ECX);
		char brand[49] = "";

		if (!t.n) {
			print_message("# this host is no %s\n", model);
			continue;
		}
		assert_int_equal(ecx & 0x00982201, 0x00982201);
		assert_int_equal(!!(ecx & BIT(28)), v == 3); /* AVX */
		assert_int_equal(ecx & (BIT(1) | BIT(25) | BIT(30)), 0);
		assert_int_equal(value(&t, 7, 0, EBX) &
					 ~(BIT(3) | BIT(5) | BIT(7) | BIT(8) | BIT(20)),
				 0);
		assert_int_equal(value(&t, 7, 0, ECX) | value(&t, 7, 0, EDX), 0);
		assert_int_equal(value(&t, 0, 0, EAX), 0xd);
		assert_int_equal(value(&t, 0x80000000, 0, EAX), 0x80000008);
		assert_null(leaf(&t, 0x80000007, 0));
		for (guint i = 0; i < 3; i++)
			memcpy(brand + 16 * i, leaf(&t, 0x80000002 + i, 0) + EAX, 16);
		assert_non_null(strstr(brand, model));
		/* Whatever may be shown of the TSC. */
		assert_int_equal(t.n, other.n);
		assert_memory_equal(t.words, other.words, t.n * WORDS * 4);
	}
}

static void an_unknown_model_is_refused_with_those_there_are(void **state)
{
	g_autoptr(GError) error = NULL;

	assert_true(vmm_cpuid_is_model("host"));
	assert_true(vmm_cpuid_is_model("x86-64-v3"));
	assert_false(vmm_cpuid_is_model("x86-64-v4"));
	assert_null(vmm_cpuid_new(*state, "pentium", 1, FALSE, &error));
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_CONFIG));
	assert_non_null(strstr(error->message, "x86-64-v2"));
}

static void an_equal_table_is_taken(void **state)
{
	g_autoptr(vmm_cpuid) a = try_cpuid(*state, "host", 3, TRUE);
	g_autoptr(vmm_cpuid) b = try_cpuid(*state, "host", 3, TRUE);
	g_autoptr(vmm_state) saved = vmm_state_new();

	vmm_cpuid_save(a, saved);
	assert_true(vmm_cpuid_check(b, saved, NULL));
}

static void refused(const vmm_cpuid *cpuid, const guint32 *words, gsize n, gsize extra,
		    const char *why)
{
	g_autoptr(vmm_state) spoilt = vmm_state_new();
	g_autoptr(GError) error = NULL;

	vmm_state_put(spoilt, "cpuid", 0, 1, words, n * WORDS * 4 + extra, NULL);
	assert_false(vmm_cpuid_check(cpuid, spoilt, &error));
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE));
	if (!strstr(error->message, why))
		fail_msg("refused with \"%s\" and not \"%s\"", error->message, why);
}

static void a_table_that_differs_is_refused_by_leaf_and_register(void **state)
{
	g_autoptr(vmm_cpuid) cpuid = try_cpuid(*state, "host", 2, FALSE);
	auto_table t = read_table(cpuid);
	g_autofree guint32 *words =
		g_memdup2(t.words, (t.n + 1) * WORDS * 4 - WORDS * 4);
	g_autofree guint32 *more = g_malloc0((t.n + 1) * WORDS * 4);
	gsize at = (gsize)(leaf(&t, 7, 0) - t.words);
	g_autoptr(vmm_state) none = vmm_state_new();

	words[at + EBX] ^= BIT(30);
	refused(cpuid, words, t.n, 0, "CPUID 0x7.0 ebx");
	words[at + EBX] ^= BIT(30);
	at = (gsize)(leaf(&t, 0xb, 1) - t.words);
	words[at + EAX]++;
	refused(cpuid, words, t.n, 0, "CPUID 0xb.1 eax");
	words[at + EAX]--;
	/* A leaf that is not here, with or without content. */
	memcpy(more, words, t.n * WORDS * 4);
	more[t.n * WORDS + LEAF] = 0x8fff0000;
	refused(cpuid, more, t.n + 1, 0, "leaves");
	more[t.n * WORDS + EDX] = 5;
	refused(cpuid, more, t.n + 1, 0, "CPUID 0x8fff0000.0 edx");
	/* One that is only here. */
	refused(cpuid, words, t.n - 1, 0, "leaves");
	refused(cpuid, words, 0, 0, "leaves");
	refused(cpuid, words, t.n - 1, 8, "leaves");
	assert_false(vmm_cpuid_check(cpuid, none, NULL));
}

static void a_leaf_twice_does_not_hide_one_that_is_missing(void **state)
{
	g_autoptr(vmm_cpuid) cpuid = try_cpuid(*state, "host", 2, FALSE);
	auto_table t = read_table(cpuid);
	g_autofree guint32 *words = g_memdup2(t.words, t.n * WORDS * 4);
	gsize first = (gsize)(leaf(&t, 1, 0) - t.words);
	gsize other = (gsize)(leaf(&t, 7, 0) - t.words);

	memcpy(words + other, words + first, WORDS * 4);
	refused(cpuid, words, t.n, 0, "no leaf 0x7.0");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(what_cannot_be_carried_over_is_hidden),
		TEST(a_guest_can_see_that_it_is_one),
		TEST(the_topology_is_one_package_of_cores),
		TEST(kvm_takes_the_table_and_each_vcpu_sees_its_own_number),
		TEST(no_leaf_is_there_twice),
		TEST(invariant_tsc_is_shown_only_where_it_may_be),
		TEST(a_baseline_shows_its_level_and_no_more),
		TEST(an_unknown_model_is_refused_with_those_there_are),
		TEST(an_equal_table_is_taken),
		TEST(a_table_that_differs_is_refused_by_leaf_and_register),
		TEST(a_leaf_twice_does_not_hide_one_that_is_missing),
	};
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		fprintf(stderr, "SKIPPED: /dev/kvm: %s; CPUID comes from there\n",
			g_strerror(errno));
		return SKIPPED;
	}
	close(fd);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
