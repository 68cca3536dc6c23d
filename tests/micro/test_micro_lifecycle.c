/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's life: starting, pausing, quiescing, resetting, ending, going back to a
 * saved state; what is refused in between, and what is left when it is gone.
 */
#include <dirent.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/micro/micro.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
/* Longer than the guest takes from its answer to doing what it was asked. */
#define BEFORE_IT_HAPPENS_US 100000

static void must(gboolean done, GError **error)
{
	if (!done)
		fail_msg("%s", *error ? (*error)->message : "no error set");
	assert_null(*error);
}

static void wrong_mode(gboolean done, GError *error, const char *call)
{
	g_autoptr(GError) owned = error;

	if (done)
		fail_msg("not refused: %s", call);
	assert_true(g_error_matches(owned, VMM_ERROR, VMM_ERROR_MODE));
}

static void pause_it(micro *guest)
{
	g_autoptr(GError) error = NULL;

	must(vmm_machine_pause(micro_machine(guest), &error), &error);
	assert_int_equal(vmm_machine_run_state(micro_machine(guest)), VMM_PAUSED);
}

static void resume_it(micro *guest)
{
	g_autoptr(GError) error = NULL;

	must(vmm_machine_resume(micro_machine(guest), &error), &error);
	assert_int_equal(vmm_machine_run_state(micro_machine(guest)), VMM_RUNNING);
}

static guint64 hash_memory(micro *guest)
{
	vmm_memory *memory = vmm_machine_memory(micro_machine(guest));

	return XXH3_64bits(vmm_memory_page(memory, 0), vmm_memory_bytes(memory));
}

static guint64 ask_number(micro *guest, const char *question, const char *key)
{
	g_autofree char *answer = micro_do(guest, "%s", question);

	return micro_number(answer, key);
}

static void assert_healthy(micro *guest)
{
	g_autofree char *answer = micro_do(guest, "ping 5");

	assert_string_equal(answer, "ok pong=5");
	assert_int_equal(ask_number(guest, "verify", "bad"), 0);
}

/* Everything at once: memory, timers, clocks, and the disk if there is one. */
static void work(micro *guest)
{
	g_free(micro_do(guest, "dirty 1000 50000 3"));
	g_free(micro_do(guest, "timer 500"));
	g_free(micro_do(guest, "clockwatch start"));
}

static void boots(guint cpus, guint64 memory)
{
	struct micro_options options = { .cpus = cpus, .memory = memory };
	g_autoptr(micro) guest = micro_new(&options);
	guint64 pages = ask_number(guest, "memory", "ram_pages");

	assert_int_equal(ask_number(guest, "vcpus", "vcpus"), cpus);
	/* All of it but the BIOS area. */
	assert_true(pages <= memory / VMM_PAGE && pages > memory / VMM_PAGE - 512);
	if (memory > VMM_HOLE_START) {
		g_free(micro_do(guest, "sum 0x100000000 4096"));
		g_free(micro_do(guest, "sum 0x%" G_GINT64_MODIFIER "x 4096",
				(guint64)(memory + GIB - VMM_PAGE)));
	}
	g_free(micro_do(guest, "dirty 200"));
	assert_healthy(guest);
}

static void one_vcpu_boots(void **state)
{
	boots(1, 64 * MIB);
}

static void two_vcpus_boot(void **state)
{
	boots(2, GIB);
}

static void eight_vcpus_boot(void **state)
{
	boots(8, 64 * MIB);
}

static void memory_up_to_the_hole_boots(void **state)
{
	boots(1, 3 * GIB);
}

static void memory_above_the_hole_boots(void **state)
{
	boots(1, 3 * GIB + MIB);
	boots(8, 5 * GIB);
}

static void a_paused_machine_stands_still(void **state)
{
	g_autofree char *disk = micro_file(16 * MIB);
	struct micro_options options = { .cpus = 2, .disk = disk };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(vmm_state) before = vmm_state_new(), after = vmm_state_new();
	g_autoptr(GError) error = NULL;

	work(guest);
	g_free(micro_do(guest, "blkbg 1000"));
	for (guint i = 0; i < 10; i++) {
		g_autofree char *difference = NULL;
		guint64 hash;

		micro_sleep_ms(guest, i);
		pause_it(guest);
		hash = hash_memory(guest);
		must(vmm_machine_save(micro_machine(guest), before, &error), &error);
		micro_sleep_ms(guest, 30);
		assert_true(hash_memory(guest) == hash);
		must(vmm_machine_save(micro_machine(guest), after, &error), &error);
		difference = vmm_state_difference(before, after);
		if (difference)
			fail_msg("%s", difference);
		resume_it(guest);
		g_free(micro_do(guest, "ping"));
	}
	assert_int_equal(ask_number(guest, "blkbg", "bad"), 0);
	g_free(micro_do(guest, "stop"));
	assert_healthy(guest);
	assert_int_equal(micro_events(guest, VMM_EVENT_PAUSED), 10);
	assert_int_equal(micro_events(guest, VMM_EVENT_RESUMED), 11);
	g_clear_pointer(&guest, micro_free);
	micro_remove(g_steal_pointer(&disk));
}

static void nothing_to_do(void *data)
{
	guint *calls = data;

	(*calls)++;
}

static void what_does_not_fit_the_run_state_is_refused(void **state)
{
	struct micro_options options = { 0 };
	g_autoptr(GError) error = NULL;
	g_autoptr(micro) guest = micro_try_new(&options, &error);
	vmm_machine *machine = micro_machine(guest);
	g_autoptr(vmm_state) saved = vmm_state_new();
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));
	guint calls = 0;

#define REFUSED(call)                             \
	do {                                      \
		GError *refusal = NULL;           \
		gboolean done = call;             \
                                                  \
		wrong_mode(done, refusal, #call); \
	} while (0)
	assert_int_equal(vmm_machine_run_state(machine), VMM_PREPARED);
	must(vmm_machine_pause(machine, &error), &error);
	assert_int_equal(vmm_machine_run_state(machine), VMM_PREPARED);
	REFUSED(vmm_machine_quiesce(machine, nothing_to_do, &calls, &refusal));
	REFUSED(vmm_machine_reset(machine, &refusal));
	REFUSED(vmm_machine_powerdown(machine, &refusal));
	REFUSED(vmm_machine_collect(machine, pages, &refusal));
	must(vmm_machine_save(machine, saved, &error), &error);

	resume_it(guest);
	REFUSED(vmm_machine_resume(machine, &refusal));
	REFUSED(vmm_machine_save(machine, saved, &refusal));
	REFUSED(vmm_machine_load(machine, saved, &refusal));
	REFUSED(vmm_machine_collect(machine, pages, &refusal));
	g_free(micro_do(guest, "ping"));

	pause_it(guest);
	pause_it(guest);
	REFUSED(vmm_machine_powerdown(machine, &refusal));
	assert_int_equal(calls, 0);
	must(vmm_machine_quiesce(machine, nothing_to_do, &calls, &error), &error);
	assert_int_equal(calls, 1);
	assert_int_equal(vmm_machine_run_state(machine), VMM_PAUSED);
	resume_it(guest);
	must(vmm_machine_powerdown(machine, &error), &error);
	must(vmm_machine_quiesce(machine, nothing_to_do, &calls, &error), &error);
	assert_int_equal(calls, 2);

	g_free(micro_do(guest, "poweroff"));
	assert_true(micro_wait_event(guest, VMM_EVENT_POWEROFF, 1));
	assert_int_equal(vmm_machine_run_state(machine), VMM_ENDED);
	REFUSED(vmm_machine_resume(machine, &refusal));
	REFUSED(vmm_machine_pause(machine, &refusal));
	/* It stands still as the guest left it: a last checkpoint can be taken. */
	must(vmm_machine_quiesce(machine, nothing_to_do, &calls, &error), &error);
	assert_int_equal(calls, 3);
	assert_int_equal(vmm_machine_run_state(machine), VMM_ENDED);
	REFUSED(vmm_machine_reset(machine, &refusal));
	REFUSED(vmm_machine_powerdown(machine, &refusal));
	REFUSED(vmm_machine_save(machine, saved, &refusal));
	REFUSED(vmm_machine_load(machine, saved, &refusal));
	REFUSED(vmm_machine_collect(machine, pages, &refusal));
#undef REFUSED
}

struct cut {
	micro *guest;
	vmm_state *state;
	guint done;
	gboolean hash, moved;
};

static void cut(void *data)
{
	struct cut *at = data;
	guint64 before = at->hash ? hash_memory(at->guest) : 0;

	at->done += vmm_machine_save(micro_machine(at->guest), at->state, NULL);
	if (at->hash)
		at->moved |= hash_memory(at->guest) != before;
}

static void a_working_guest_does_not_notice_a_thousand_short_pauses(void **state)
{
	enum { PAUSES = 1000, COMPUTATION = 3000000 };
	g_autofree char *disk = micro_file(16 * MIB);
	struct micro_options options = { .cpus = 3, .disk = disk };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(vmm_state) saved = vmm_state_new();
	struct cut at = { .guest = guest, .state = saved };
	g_autoptr(GError) error = NULL;
	g_autofree char *clocks = NULL, *timers = NULL;
	guint64 value;

	g_free(micro_do(guest, "compute %u", COMPUTATION));
	{
		g_autofree char *answer = micro_do(guest, "compute");

		value = micro_hex(answer, "value");
	}
	work(guest);
	g_free(micro_do(guest, "blkbg 500"));
	g_free(micro_do(guest, "compute %u bg 1", COMPUTATION));
	for (guint i = 0; i < PAUSES; i++) {
		at.hash = i % 50 == 0;
		must(vmm_machine_quiesce(micro_machine(guest), cut, &at, &error),
		     &error);
		assert_int_equal(at.done, i + 1);
		assert_false(at.moved);
		assert_int_equal(vmm_machine_run_state(micro_machine(guest)),
				 VMM_RUNNING);
		if (i % 4 == 0)
			g_free(micro_do(guest, "ping"));
	}
	for (guint i = 0; i < 600; i++) {
		g_autofree char *answer = micro_do(guest, "compute");

		if (micro_number(answer, "done") == COMPUTATION) {
			assert_true(micro_hex(answer, "value") == value);
			break;
		}
		assert_int_not_equal(i, 599);
		micro_sleep_ms(guest, 20);
	}
	clocks = micro_do(guest, "clockwatch report");
	assert_int_equal(micro_number(clocks, "tsc_decreases"), 0);
	assert_int_equal(micro_number(clocks, "kvm_decreases"), 0);
	timers = micro_do(guest, "timer");
	for (guint i = 0; i < 3; i++) {
		g_autofree char *key = g_strdup_printf("cpu%u.no_irq", i);

		assert_int_equal(micro_number(timers, key), 0);
	}
	assert_int_equal(ask_number(guest, "blkbg", "bad"), 0);
	assert_int_equal(ask_number(guest, "blkbg", "errors"), 0);
	g_free(micro_do(guest, "stop"));
	assert_healthy(guest);
	g_clear_pointer(&guest, micro_free);
	micro_remove(g_steal_pointer(&disk));
}

static void a_guest_that_asks_for_a_reset_starts_again(void **state)
{
	g_autofree char *disk = micro_file(16 * MIB);
	struct micro_options options = { .cpus = 2, .disk = disk };
	g_autoptr(micro) guest = micro_new(&options);

	for (guint i = 1; i <= 5; i++) {
		g_free(micro_do(guest, "blkwrite 0 %u 16 %u", i * 16, i));
		work(guest);
		g_free(micro_do(guest, "blkbg 500"));
		g_free(micro_do(guest, "reboot"));
		assert_true(micro_wait_event(guest, VMM_EVENT_RESET, i));
		g_free(micro_do(guest, "ping"));
		assert_int_equal(micro_events(guest, VMM_EVENT_RESET), i);
		/* Nothing is left of the earlier life but the disk's content. */
		assert_int_equal(ask_number(guest, "vcpus", "vcpus"), 2);
		assert_int_equal(ask_number(guest, "memory", "dirtied"), 0);
		assert_int_equal(ask_number(guest, "verify all", "bad"), 0);
		for (guint k = 1; k <= i; k++) {
			g_autofree char *question =
				g_strdup_printf("blkverify 0 %u 16 %u", k * 16, k);

			assert_int_equal(ask_number(guest, question, "bad"), 0);
		}
		g_free(micro_do(guest, "rng 100"));
	}
	g_clear_pointer(&guest, micro_free);
	micro_remove(g_steal_pointer(&disk));
}

static void a_machine_is_reset_from_outside_running_or_paused(void **state)
{
	struct micro_options options = { .cpus = 2 };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(GError) error = NULL;

	for (guint i = 0; i < 5; i++) {
		work(guest);
		must(vmm_machine_reset(micro_machine(guest), &error), &error);
		assert_int_equal(vmm_machine_run_state(micro_machine(guest)),
				 VMM_RUNNING);
		g_free(micro_do(guest, "ping"));
		assert_int_equal(ask_number(guest, "memory", "dirtied"), 0);

		g_free(micro_do(guest, "dirty 10"));
		pause_it(guest);
		must(vmm_machine_reset(micro_machine(guest), &error), &error);
		assert_int_equal(vmm_machine_run_state(micro_machine(guest)),
				 VMM_PAUSED);
		resume_it(guest);
		assert_int_equal(ask_number(guest, "memory", "dirtied"), 0);
	}
	/* The button is not the guest's request. */
	assert_int_equal(micro_events(guest, VMM_EVENT_RESET), 0);
}

static void a_reset_counts_as_a_change_of_all_memory(void **state)
{
	struct micro_options options = { 0 };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));
	g_autoptr(GError) error = NULL;

	must(vmm_machine_track(micro_machine(guest), TRUE, &error), &error);
	pause_it(guest);
	must(vmm_machine_collect(micro_machine(guest), pages, &error), &error);
	must(vmm_machine_reset(micro_machine(guest), &error), &error);
	must(vmm_machine_collect(micro_machine(guest), pages, &error), &error);
	assert_int_equal(pages->len,
			 vmm_memory_pages(vmm_machine_memory(micro_machine(guest))));
	resume_it(guest);
	g_free(micro_do(guest, "ping"));
}

static void power_off_ends_the_machine(void **state)
{
	struct micro_options options = { .cpus = 2 };
	g_autoptr(micro) guest = micro_new(&options);
	guint64 hash;

	work(guest);
	g_free(micro_do(guest, "poweroff"));
	assert_true(micro_wait_event(guest, VMM_EVENT_POWEROFF, 1));
	assert_int_equal(vmm_machine_run_state(micro_machine(guest)), VMM_ENDED);
	hash = hash_memory(guest);
	micro_sleep_ms(guest, 30);
	assert_true(hash_memory(guest) == hash);
	assert_int_equal(micro_events(guest, VMM_EVENT_POWEROFF), 1);
	assert_int_equal(micro_events(guest, VMM_EVENT_FAILED), 0);
}

static void a_panic_is_told_and_the_guest_decides_what_follows(void **state)
{
	struct micro_options options = { 0 };
	g_autoptr(micro) guest = micro_new(&options);

	g_free(micro_do(guest, "panic"));
	assert_true(micro_wait_event(guest, VMM_EVENT_PANIC, 1));
	assert_string_equal(micro_event_detail(guest, VMM_EVENT_PANIC), "panicked");
	assert_int_equal(vmm_machine_run_state(micro_machine(guest)), VMM_RUNNING);
	assert_healthy(guest);
	assert_int_equal(micro_events(guest, VMM_EVENT_RESET), 0);
}

static void count_event(void *data, const struct vmm_event *event)
{
	guint *counts = data;

	counts[event->type]++;
}

static void without_reboot_a_reset_ends_the_machine(void **state)
{
	guint counts[16] = { 0 };
	guint64 start = base_clock_monotonic_ns();
	struct vmm_config config;
	g_autoptr(vmm_machine) machine = NULL;
	g_autoptr(GError) error = NULL;

	vmm_config_init(&config);
	config.kernel =
		g_strdup(g_getenv("MICROGUEST") ?: "build/guest/microguest.bin");
	config.append = g_strdup("cmd=reboot");
	config.memory = 64 * MIB;
	config.cpus = 1;
	config.reboot_exits = TRUE;
	g_free(config.console);
	config.console = g_strdup("none");
	machine = vmm_machine_new(&config, FALSE, count_event, counts, &error);
	vmm_config_clear(&config);
	if (!machine)
		fail_msg("%s", error->message);
	must(vmm_machine_resume(machine, &error), &error);
	while (!counts[VMM_EVENT_RESET] &&
	       base_clock_monotonic_ns() - start < 10000000000) {
		g_main_context_iteration(NULL, FALSE);
		g_usleep(500);
	}
	assert_int_equal(counts[VMM_EVENT_RESET], 1);
	assert_int_equal(vmm_machine_run_state(machine), VMM_ENDED);
}

/* Going back to a saved state. */

struct point {
	vmm_state *state; /* as it came over a wire */
	guint8 *memory;
};

static void save_point(micro *guest, struct point *point)
{
	vmm_memory *memory = vmm_machine_memory(micro_machine(guest));
	g_autoptr(vmm_state) saved = vmm_state_new();
	g_autoptr(GError) error = NULL;
	const guint8 *bytes;
	gsize len;

	must(vmm_machine_save(micro_machine(guest), saved, &error), &error);
	bytes = vmm_state_bytes(saved, &len);
	point->state = vmm_state_parse(bytes, len, &error);
	assert_non_null(point->state);
	point->memory = g_memdup2(vmm_memory_page(memory, 0), vmm_memory_bytes(memory));
}

static void clear_point(struct point *point)
{
	g_clear_pointer(&point->state, vmm_state_free);
	g_clear_pointer(&point->memory, g_free);
}

/* Only the pages that differ, as a checkpoint would. */
static void load_point(micro *guest, const struct point *point)
{
	vmm_memory *memory = vmm_machine_memory(micro_machine(guest));
	g_autoptr(GError) error = NULL;

	must(vmm_machine_load(micro_machine(guest), point->state, &error), &error);
	for (guint64 i = 0; i < vmm_memory_pages(memory); i++)
		if (memcmp(vmm_memory_page(memory, i), point->memory + i * VMM_PAGE,
			   VMM_PAGE))
			memcpy(vmm_memory_page(memory, i), point->memory + i * VMM_PAGE,
			       VMM_PAGE);
}

static void a_machine_goes_back_to_a_saved_state_again_and_again(void **state)
{
	enum { COMPUTATION = 30000000, ROUNDS = 25 };
	struct micro_options options = { .cpus = 3 };
	g_autoptr(micro) guest = micro_new(&options);
	struct point point = { 0 };
	guint64 dirtied, done, last = 0, value;

	{
		g_autofree char *answer = micro_do(guest, "compute 1000000");

		value = micro_hex(answer, "value");
	}
	g_free(micro_do(guest, "dirty 700 0 11"));
	g_free(micro_do(guest, "timer 300"));
	g_free(micro_do(guest, "compute %u bg 1", COMPUTATION));
	dirtied = ask_number(guest, "memory", "dirtied");
	done = ask_number(guest, "compute", "done");
	pause_it(guest);
	save_point(guest, &point);
	for (guint i = 0; i < ROUNDS; i++) {
		resume_it(guest);
		assert_int_equal(ask_number(guest, "memory", "dirtied"), dirtied);
		assert_true(ask_number(guest, "compute", "done") >= done);
		g_free(micro_do(guest, "dirty %u 0 %u", 100 + i * 50, i));
		assert_true(ask_number(guest, "memory", "dirtied") > dirtied);
		g_free(micro_do(guest, "rng 3000"));
		g_free(micro_do(guest, "clockwatch start"));
		micro_sleep_ms(guest, i % 5);
		last = ask_number(guest, "compute", "done");
		if (i % 2)
			g_free(micro_do(guest, "dirty 500 max 5"));
		pause_it(guest);
		load_point(guest, &point);
	}
	assert_true(last >= done);
	resume_it(guest);
	assert_int_equal(ask_number(guest, "memory", "dirtied"), dirtied);
	assert_healthy(guest);
	g_free(micro_do(guest, "stop"));
	{
		g_autofree char *timers = micro_do(guest, "timer");
		g_autofree char *answer = micro_do(guest, "compute 1000000");

		assert_int_equal(micro_number(timers, "cpu0.no_irq"), 0);
		assert_int_equal(micro_number(timers, "cpu1.no_irq"), 0);
		assert_int_equal(micro_number(timers, "cpu2.no_irq"), 0);
		assert_true(micro_hex(answer, "value") == value);
	}
	assert_int_equal(micro_events(guest, VMM_EVENT_DEVICE_BROKEN), 0);
	clear_point(&point);
}

#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01u
#define CLOCK_PAGE 32u /* bytes of what KVM keeps up to date there */

/* Where the guest's kvm-clock page of vCPU `id` is: KVM writes there when it likes. */
static guint64 clock_page(const vmm_state *state, guint id)
{
	gsize len;
	const guint8 *at =
		vmm_state_get(state, "vcpu-msrs", id, 1, 0, 1 << 20, &len, NULL);

	for (gsize i = 0; at && i + 16 <= len; i += 16) {
		guint32 index;
		guint64 value;

		memcpy(&index, at + i, sizeof(index));
		memcpy(&value, at + i + 8, sizeof(value));
		if (index == MSR_KVM_SYSTEM_TIME_NEW && value & 1)
			return value & ~1ull;
	}
	return G_MAXUINT64;
}

/* But for the clock pages of the first two vCPUs. */
static void assert_same_memory(micro *guest, const guint8 *before,
			       const vmm_state *state)
{
	vmm_memory *memory = vmm_machine_memory(micro_machine(guest));
	const guint8 *now = vmm_memory_page(memory, 0);
	guint64 first = clock_page(state, 0), second = clock_page(state, 1);

	if (!memcmp(before, now, vmm_memory_bytes(memory)))
		return;
	for (guint64 i = 0; i < vmm_memory_bytes(memory); i++)
		if (before[i] != now[i] && i - first >= CLOCK_PAGE &&
		    i - second >= CLOCK_PAGE)
			fail_msg("memory differs at %#" G_GINT64_MODIFIER "x", i);
}

static void a_state_loaded_and_saved_again_is_the_same_but_for_time(void **state)
{
	struct micro_options options = { .cpus = 2 };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(vmm_state) again = vmm_state_new();
	g_autoptr(GError) error = NULL;
	g_autofree char *difference = NULL;
	struct point point = { 0 };

	pause_it(guest);
	save_point(guest, &point);
	must(vmm_machine_load(micro_machine(guest), point.state, &error), &error);
	/* Whoever loads gives memory before or after: loading leaves it alone. */
	assert_same_memory(guest, point.memory, point.state);
	must(vmm_machine_save(micro_machine(guest), again, &error), &error);
	difference = vmm_state_difference(again, point.state);
	if (difference && !g_str_has_prefix(difference, "clock.0: ") &&
	    !g_str_has_prefix(difference, "vcpu-lapic.") &&
	    !g_str_has_prefix(difference, "vcpu-msrs."))
		fail_msg("%s", difference);
	clear_point(&point);
}

/* The saved bytes with those of one section changed; or without that section. */
typedef void (*spoil_fn)(guint8 *payload, gsize len);

static vmm_state *spoil(const vmm_state *good, const char *name, guint instance,
			spoil_fn change)
{
	vmm_state *spoilt = vmm_state_new();
	gsize len, at = sizeof(struct wire_state_header);
	const guint8 *bytes = vmm_state_bytes((vmm_state *)good, &len);
	gboolean found = FALSE;

	while (at < len) {
		struct wire_section_header header;
		char section[WIRE_SECTION_NAME + 1] = "";
		g_autofree guint8 *payload = NULL;
		gsize size;

		memcpy(&header, bytes + at, sizeof(header));
		memcpy(section, header.name, WIRE_SECTION_NAME);
		size = wire_get32(header.length);
		at += sizeof(header);
		payload = g_memdup2(bytes + at, size);
		at += (size + 7) & ~(gsize)7;
		if (!strcmp(section, name) && wire_get16(header.instance) == instance) {
			found = TRUE;
			if (!change)
				continue;
			change(payload, size);
		}
		vmm_state_put(spoilt, section, wire_get16(header.instance),
			      wire_get16(header.version), payload, size, NULL);
	}
	assert_true(found);
	return spoilt;
}

static void impossible_cr4(guint8 *payload, gsize len)
{
	struct kvm_sregs2 *sregs = (void *)payload;

	sregs->cr4 |= 1ull << 63;
}

static void impossible_efer(guint8 *payload, gsize len)
{
	struct kvm_sregs2 *sregs = (void *)payload;

	sregs->efer |= 1ull << 40;
}

static void unknown_msr(guint8 *payload, gsize len)
{
	static const guint32 index = 0x12345678;
	static const guint64 value = 5;

	memcpy(payload, &index, 4);
	memcpy(payload + 8, &value, 8);
}

static void impossible_msrs(guint8 *payload, gsize len)
{
	/* Wherever KVM keeps a segment's base: a value that is no address. */
	for (gsize i = 0; i + 16 <= len; i += 16) {
		static const guint64 value = 0x8000000000000001;
		guint32 index;

		memcpy(&index, payload + i, 4);
		if (index == 0xc0000102 || index == 0xc0000082 || index == 0x277)
			memcpy(payload + i + 8, &value, 8);
	}
}

static void impossible_xsave(guint8 *payload, gsize len)
{
	/* Reserved bytes of the header, and features that do not exist. */
	memset(payload + 512, 0xff, 64);
}

static void impossible_events(guint8 *payload, gsize len)
{
	memset(payload, 0xff, len);
}

static void first_byte(guint8 *payload, gsize len)
{
	payload[0] ^= 0xff;
}

static void all_bytes(guint8 *payload, gsize len)
{
	memset(payload, 0xff, len);
}

static void a_refused_state_leaves_the_machine_as_it_was(void **state)
{
	static const struct {
		const char *name;
		guint instance;
		spoil_fn change;
	} bad[] = {
		/* Judged before anything is touched ... */
		{ "machine", 0, first_byte },
		{ "machine", 0, NULL },
		{ "cpuid", 0, all_bytes },
		{ "clock", 0, all_bytes },
		{ "vcpu-regs", 1, NULL },
		{ "vcpu-msrs", 0, unknown_msr },
		{ "power", 0, all_bytes },
		{ "irqchip", 1, first_byte },
		{ "pit", 0, NULL },
		/* ... and only by KVM, when it is given them: the first vCPU or the
		   last. */
		{ "vcpu-sregs", 0, impossible_cr4 },
		{ "vcpu-sregs", 1, impossible_efer },
		{ "vcpu-msrs", 1, impossible_msrs },
		{ "vcpu-xsave", 1, impossible_xsave },
		{ "vcpu-events", 1, impossible_events },
		{ "vcpu-mp", 1, all_bytes },
	};
	struct micro_options options = { .cpus = 2 };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(GError) error = NULL;
	struct point point = { 0 };
	guint64 dirtied;

	pause_it(guest);
	save_point(guest, &point);
	resume_it(guest);
	work(guest);
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(vmm_state) spoilt =
			spoil(point.state, bad[i].name, bad[i].instance, bad[i].change);
		g_autoptr(vmm_state) before = vmm_state_new(), after = vmm_state_new();
		g_autoptr(GError) refusal = NULL;
		vmm_memory *memory = vmm_machine_memory(micro_machine(guest));
		g_autofree char *difference = NULL;
		g_autofree guint8 *copy = NULL;

		pause_it(guest);
		copy = g_memdup2(vmm_memory_page(memory, 0), vmm_memory_bytes(memory));
		must(vmm_machine_save(micro_machine(guest), before, &error), &error);
		if (vmm_machine_load(micro_machine(guest), spoilt, &refusal)) {
			print_message("# this KVM takes a spoilt %s.%u\n", bad[i].name,
				      bad[i].instance);
			load_point(guest, &point);
			resume_it(guest);
			work(guest);
			continue;
		}
		if (!g_error_matches(refusal, VMM_ERROR, VMM_ERROR_STATE))
			fail_msg("%s.%u: %s", bad[i].name, bad[i].instance,
				 refusal->message);
		assert_int_equal(vmm_machine_run_state(micro_machine(guest)),
				 VMM_PAUSED);
		assert_same_memory(guest, copy, before);
		must(vmm_machine_save(micro_machine(guest), after, &error), &error);
		difference = vmm_state_difference(before, after);
		if (difference)
			fail_msg("after %s.%u: %s", bad[i].name, bad[i].instance,
				 difference);
		resume_it(guest);
		dirtied = ask_number(guest, "memory", "dirtied");
		/* It works on. */
		for (guint k = 0; ask_number(guest, "memory", "dirtied") == dirtied;
		     k++) {
			assert_int_not_equal(k, 1000);
			micro_sleep_ms(guest, 5);
		}
		{
			g_autofree char *timers = micro_do(guest, "timer");

			assert_int_equal(micro_number(timers, "cpu0.no_irq"), 0);
			assert_int_equal(micro_number(timers, "cpu1.no_irq"), 0);
		}
	}
	g_free(micro_do(guest, "stop"));
	assert_healthy(guest);
	clear_point(&point);
}

static void a_state_of_another_machine_is_refused(void **state)
{
	static const struct micro_options others[] = {
		{ .cpus = 1 },
		{ .cpus = 3 },
		{ .cpus = 2, .memory = 65 * MIB },
	};
	struct micro_options options = { .cpus = 2 }, with_disk = { .cpus = 2 };
	g_autofree char *disk = micro_file(MIB);
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(GError) error = NULL;

	with_disk.disk = disk;
	for (guint i = 0; i <= G_N_ELEMENTS(others); i++) {
		g_autoptr(micro) other =
			micro_new(i < G_N_ELEMENTS(others) ? &others[i] : &with_disk);
		g_autoptr(vmm_state) saved = vmm_state_new();
		g_autoptr(GError) refusal = NULL;

		pause_it(other);
		must(vmm_machine_save(micro_machine(other), saved, &error), &error);
		pause_it(guest);
		assert_false(vmm_machine_check(micro_machine(guest), saved, NULL));
		assert_false(vmm_machine_load(micro_machine(guest), saved, &refusal));
		assert_true(g_error_matches(refusal, VMM_ERROR, VMM_ERROR_STATE));
		resume_it(guest);
		assert_healthy(guest);
	}
	micro_remove(g_steal_pointer(&disk));
}

static void lose_the_interrupt_table(guint8 *payload, gsize len)
{
	struct kvm_sregs2 *sregs = (void *)payload;

	sregs->idt.limit = 0;
}

static void a_triple_fault_resets(void **state)
{
	struct micro_options options = { .cpus = 2 };
	g_autoptr(micro) guest = micro_new(&options);
	g_autoptr(GError) error = NULL;
	g_autoptr(vmm_state) spoilt = NULL;
	struct point point = { 0 };

	g_free(micro_do(guest, "timer 100"));
	pause_it(guest);
	save_point(guest, &point);
	spoilt = spoil(point.state, "vcpu-sregs", 0, lose_the_interrupt_table);
	must(vmm_machine_load(micro_machine(guest), spoilt, &error), &error);
	resume_it(guest);
	assert_true(micro_wait_event(guest, VMM_EVENT_RESET, 1));
	assert_string_equal(micro_event_detail(guest, VMM_EVENT_RESET), "triple fault");
	assert_healthy(guest);
	assert_int_equal(ask_number(guest, "memory", "dirtied"), 0);
	assert_int_equal(micro_events(guest, VMM_EVENT_RESET), 1);
	clear_point(&point);
}

/* Asked for by the guest, but the owner does something else before it hears of it. */

static void a_reset_asked_for_just_before_a_pause_waits_for_the_resume(void **state)
{
	struct micro_options options = { .cpus = 2 };
	g_autoptr(micro) guest = micro_new(&options);
	guint64 hash;

	g_free(micro_do(guest, "dirty 10"));
	g_free(micro_do(guest, "reboot"));
	g_usleep(BEFORE_IT_HAPPENS_US);
	pause_it(guest);
	hash = hash_memory(guest);
	micro_sleep_ms(guest, 30);
	assert_true(hash_memory(guest) == hash);
	assert_int_equal(micro_events(guest, VMM_EVENT_RESET), 0);
	assert_int_equal(vmm_machine_run_state(micro_machine(guest)), VMM_PAUSED);
	resume_it(guest);
	assert_true(micro_wait_event(guest, VMM_EVENT_RESET, 1));
	assert_healthy(guest);
	assert_int_equal(ask_number(guest, "memory", "dirtied"), 0);
	assert_int_equal(micro_events(guest, VMM_EVENT_RESET), 1);
}

static void a_reset_is_done_once_however_the_pause_falls(void **state)
{
	struct micro_options options = { .cpus = 2 };
	g_autoptr(micro) guest = micro_new(&options);

	for (guint i = 1; i <= 10; i++) {
		g_free(micro_do(guest, "reboot"));
		/* It comes 20 ms after the answer: before, in or after the pause. */
		g_usleep(15000 + i * 1000);
		pause_it(guest);
		resume_it(guest);
		assert_true(micro_wait_event(guest, VMM_EVENT_RESET, i));
		assert_healthy(guest);
		assert_int_equal(micro_events(guest, VMM_EVENT_RESET), i);
	}
}

static void a_power_off_asked_for_just_before_a_pause_waits_too(void **state)
{
	struct micro_options options = { .cpus = 2 };
	g_autoptr(micro) guest = micro_new(&options);

	g_free(micro_do(guest, "poweroff"));
	g_usleep(BEFORE_IT_HAPPENS_US);
	pause_it(guest);
	micro_sleep_ms(guest, 10);
	assert_int_equal(micro_events(guest, VMM_EVENT_POWEROFF), 0);
	assert_int_equal(vmm_machine_run_state(micro_machine(guest)), VMM_PAUSED);
	resume_it(guest);
	assert_true(micro_wait_event(guest, VMM_EVENT_POWEROFF, 1));
	assert_int_equal(vmm_machine_run_state(micro_machine(guest)), VMM_ENDED);
	micro_sleep_ms(guest, 10);
	assert_int_equal(micro_events(guest, VMM_EVENT_POWEROFF), 1);
}

static void a_reset_asked_for_travels_with_the_state(void **state)
{
	struct micro_options options = { .cpus = 2 };
	g_autoptr(micro) guest = micro_new(&options);

	g_free(micro_do(guest, "dirty 10"));
	g_free(micro_do(guest, "reboot"));
	g_usleep(BEFORE_IT_HAPPENS_US);
	pause_it(guest);
	micro_reload(guest);
	assert_int_equal(micro_events(guest, VMM_EVENT_RESET), 0);
	resume_it(guest);
	assert_true(micro_wait_event(guest, VMM_EVENT_RESET, 1));
	assert_healthy(guest);
	assert_int_equal(ask_number(guest, "memory", "dirtied"), 0);
}

static void what_was_asked_for_is_void_after_going_back(void **state)
{
	static const char *const asked[] = { "reboot", "poweroff" };
	struct micro_options options = { .cpus = 2 };
	g_autoptr(micro) guest = micro_new(&options);
	struct point point = { 0 };

	g_free(micro_do(guest, "dirty 10"));
	pause_it(guest);
	save_point(guest, &point);
	for (guint i = 0; i < 6; i++) {
		resume_it(guest);
		assert_int_equal(ask_number(guest, "memory", "dirtied"), 10);
		g_free(micro_do(guest, "%s", asked[i % 2]));
		g_usleep(BEFORE_IT_HAPPENS_US);
		pause_it(guest);
		load_point(guest, &point);
	}
	resume_it(guest);
	micro_sleep_ms(guest, 50);
	assert_int_equal(micro_events(guest, VMM_EVENT_RESET), 0);
	assert_int_equal(micro_events(guest, VMM_EVENT_POWEROFF), 0);
	assert_int_equal(ask_number(guest, "memory", "dirtied"), 10);
	assert_healthy(guest);
	clear_point(&point);
}

/* Dirty tracking, on and off while the guest works. */

struct shadow {
	micro *guest;
	guint8 *bytes;
	GArray *pages;
	guint missed;
	GError *error;
};

static void follow(void *data)
{
	struct shadow *shadow = data;
	vmm_memory *memory = vmm_machine_memory(micro_machine(shadow->guest));

	if (!vmm_machine_collect(micro_machine(shadow->guest), shadow->pages,
				 &shadow->error))
		return;
	for (guint i = 0; i < shadow->pages->len; i++) {
		guint32 page = g_array_index(shadow->pages, guint32, i);

		memcpy(shadow->bytes + (gsize)page * VMM_PAGE,
		       vmm_memory_page(memory, page), VMM_PAGE);
	}
	shadow->missed += memcmp(shadow->bytes, vmm_memory_page(memory, 0),
				 vmm_memory_bytes(memory)) != 0;
}

static void copy_all(void *data)
{
	struct shadow *shadow = data;
	vmm_memory *memory = vmm_machine_memory(micro_machine(shadow->guest));

	memcpy(shadow->bytes, vmm_memory_page(memory, 0), vmm_memory_bytes(memory));
	/* What was written before is in the copy. */
	if (!vmm_machine_collect(micro_machine(shadow->guest), shadow->pages,
				 &shadow->error))
		return;
}

static void switch_tracking(enum vmm_dirty_method method)
{
	struct micro_options options = { .cpus = 2, .dirty = method };
	g_autoptr(micro) guest = micro_new(&options);
	g_autofree guint8 *bytes = g_malloc(64 * MIB);
	g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(guint32));
	struct shadow shadow = { guest, bytes, pages, 0, NULL };
	vmm_machine *machine = micro_machine(guest);
	g_autoptr(GError) error = NULL;

	work(guest);
	for (guint i = 0; i < 20; i++) {
		must(vmm_machine_track(machine, TRUE, &error), &error);
		if (i % 3 == 0)
			must(vmm_machine_track(machine, TRUE, &error), &error);
		must(vmm_machine_quiesce(machine, copy_all, &shadow, &error), &error);
		for (guint k = 0; k < 3; k++) {
			g_free(micro_do(guest, "rng 500"));
			must(vmm_machine_quiesce(machine, follow, &shadow, &error),
			     &error);
			assert_null(shadow.error);
			assert_int_equal(shadow.missed, 0);
		}
		if (i % 2)
			pause_it(guest);
		must(vmm_machine_track(machine, FALSE, &error), &error);
		if (i % 2)
			resume_it(guest);
	}
	g_free(micro_do(guest, "stop"));
	assert_healthy(guest);
}

static void the_ring_is_switched_on_and_off_while_the_guest_works(void **state)
{
	switch_tracking(VMM_DIRTY_RING);
}

static void the_bitmap_is_switched_on_and_off_while_the_guest_works(void **state)
{
	switch_tracking(VMM_DIRTY_BITMAP);
}

/* What is left when a machine is gone. */

static guint entries(const char *path)
{
	DIR *folder = opendir(path);
	guint n = 0;

	assert_non_null(folder);
	while (readdir(folder))
		n++;
	closedir(folder);
	return n;
}

/* Mappings of guest memory, of KVM, and of anything that only a machine has. */
static guint machine_mappings(void)
{
	g_autofree char *maps = NULL;
	g_auto(GStrv) lines = NULL;
	guint n = 0;

	assert_true(g_file_get_contents("/proc/self/maps", &maps, NULL, NULL));
	lines = g_strsplit(maps, "\n", -1);
	for (guint i = 0; lines[i]; i++)
		n += strstr(lines[i], "memfd:") || strstr(lines[i], "anon_inode:");
	return n;
}

static void live_and_die(guint how, const char *disk, const struct point *point)
{
	struct micro_options options = { .cpus = 2, .disk = disk };
	g_autoptr(GError) error = NULL;
	g_autoptr(micro) guest = NULL;

	if (how == 0) { /* prepared */
		guest = micro_try_new(&options, &error);
		assert_non_null(guest);
		return;
	}
	options.for_load = how == 1 || how == 2;
	guest = micro_new(&options);
	switch (how) {
	case 2: /* loaded, not resumed */
		load_point(guest, point);
		break;
	case 3: /* running, busy */
		work(guest);
		g_free(micro_do(guest, "blkbg 1000"));
		must(vmm_machine_track(micro_machine(guest), TRUE, &error), &error);
		break;
	case 4: /* paused, busy */
		work(guest);
		g_free(micro_do(guest, "blkbg 1000"));
		pause_it(guest);
		break;
	case 5: /* ended */
		g_free(micro_do(guest, "poweroff"));
		assert_true(micro_wait_event(guest, VMM_EVENT_POWEROFF, 1));
		break;
	case 6: /* gone back, with requests under way */
		g_free(micro_do(guest, "blkbg 1000"));
		pause_it(guest);
		load_point(guest, point);
		break;
	case 7: /* something was asked for that nobody heard */
		g_free(micro_do(guest, "reboot"));
		g_usleep(BEFORE_IT_HAPPENS_US);
		break;
	}
}

static void a_machine_leaves_nothing_behind_in_whatever_state_it_goes(void **state)
{
	enum { MACHINES = 50, WAYS = 8 };
	g_autofree char *disk = micro_file(16 * MIB);
	struct point point = { 0 };
	guint fds, tasks, mappings;

	{
		struct micro_options options = { .cpus = 2, .disk = disk };
		g_autoptr(micro) guest = micro_new(&options);

		pause_it(guest);
		save_point(guest, &point);
	}
	/* io_uring's workers end by themselves, soon after. */
	g_usleep(100000);
	fds = entries("/proc/self/fd");
	tasks = entries("/proc/self/task");
	mappings = machine_mappings();
	for (guint i = 0; i < MACHINES; i++) {
		live_and_die(i % WAYS, disk, &point);
		assert_int_equal(entries("/proc/self/fd"), fds);
		assert_int_equal(machine_mappings(), mappings);
	}
	for (guint i = 0; i < 100 && entries("/proc/self/task") > tasks; i++)
		g_usleep(50000);
	assert_int_equal(entries("/proc/self/task"), tasks);
	clear_point(&point);
	micro_remove(g_steal_pointer(&disk));
}

static void a_machine_that_cannot_be_made_leaves_nothing_behind(void **state)
{
	g_autofree char *disk = micro_file(MIB), *odd = micro_file(1000);
	struct micro_options options[] = {
		{ .disk = "/nowhere/disk" },
		{ .disk = disk, .disk2 = "/nowhere/disk" },
		{ .disk = disk, .disk2 = disk }, /* locked by the first */
		{ .tap = "no-such-tap-device-here" },
		{ .disk = odd, .disk2 = "/nowhere/disk" },
	};
	guint fds, tasks;

	fds = entries("/proc/self/fd");
	tasks = entries("/proc/self/task");
	for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
		g_autoptr(GError) error = NULL;

		assert_null(micro_try_new(&options[i], &error));
		assert_int_equal(error->domain, VMM_ERROR);
		assert_int_equal(entries("/proc/self/fd"), fds);
	}
	for (guint i = 0; i < 100 && entries("/proc/self/task") > tasks; i++)
		g_usleep(50000);
	assert_int_equal(entries("/proc/self/task"), tasks);
	micro_remove(g_steal_pointer(&disk));
	micro_remove(g_steal_pointer(&odd));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_vcpu_boots),
		cmocka_unit_test(two_vcpus_boot),
		cmocka_unit_test(eight_vcpus_boot),
		cmocka_unit_test(memory_up_to_the_hole_boots),
		cmocka_unit_test(memory_above_the_hole_boots),
		cmocka_unit_test(a_paused_machine_stands_still),
		cmocka_unit_test(what_does_not_fit_the_run_state_is_refused),
		cmocka_unit_test(
			a_working_guest_does_not_notice_a_thousand_short_pauses),
		cmocka_unit_test(a_guest_that_asks_for_a_reset_starts_again),
		cmocka_unit_test(a_machine_is_reset_from_outside_running_or_paused),
		cmocka_unit_test(a_reset_counts_as_a_change_of_all_memory),
		cmocka_unit_test(power_off_ends_the_machine),
		cmocka_unit_test(a_panic_is_told_and_the_guest_decides_what_follows),
		cmocka_unit_test(without_reboot_a_reset_ends_the_machine),
		cmocka_unit_test(a_machine_goes_back_to_a_saved_state_again_and_again),
		cmocka_unit_test(
			a_state_loaded_and_saved_again_is_the_same_but_for_time),
		cmocka_unit_test(a_refused_state_leaves_the_machine_as_it_was),
		cmocka_unit_test(a_state_of_another_machine_is_refused),
		cmocka_unit_test(a_triple_fault_resets),
		cmocka_unit_test(
			a_reset_asked_for_just_before_a_pause_waits_for_the_resume),
		cmocka_unit_test(a_reset_is_done_once_however_the_pause_falls),
		cmocka_unit_test(a_power_off_asked_for_just_before_a_pause_waits_too),
		cmocka_unit_test(a_reset_asked_for_travels_with_the_state),
		cmocka_unit_test(what_was_asked_for_is_void_after_going_back),
		cmocka_unit_test(the_ring_is_switched_on_and_off_while_the_guest_works),
		cmocka_unit_test(
			the_bitmap_is_switched_on_and_off_while_the_guest_works),
		cmocka_unit_test(
			a_machine_leaves_nothing_behind_in_whatever_state_it_goes),
		cmocka_unit_test(a_machine_that_cannot_be_made_leaves_nothing_behind),
	};

	micro_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
