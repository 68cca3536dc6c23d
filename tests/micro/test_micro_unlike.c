/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two machines that cannot be a pair, or a peer whose hello is another's: refused at once and
 * for the same reason on both sides, with nothing changed on either.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/protocol.h"
#include "tests/micro/hostile.h"

#define MARK "what was here before"

/* The secondary's memory is not cleared for a peer that is refused. */
static char *mark_of(struct rig *rig)
{
	return (char *)vmm_memory_page(
		vmm_machine_memory(micro_machine(rig->guests[SECONDARY])), 7);
}

static void expect_refusal(struct rig *rig, const struct session_options *options,
			   const char *primary, const char *secondary)
{
	struct session *session;

	strcpy(mark_of(rig), MARK);
	session = session_new(rig, options);
	assert_true(session_is_lost_before(session, 1));
	assert_null(session->secondary);
	if (!strstr(session->why[PRIMARY], primary) ||
	    !strstr(session->why[SECONDARY], secondary))
		fail_msg("primary: %s; secondary: %s", session->why[PRIMARY],
			 session->why[SECONDARY]);
	session_free_judged(session, TRUE);
	assert_string_equal(mark_of(rig), MARK);
	rig_check_first(rig);
}

static void expect_unlike(const struct micro_options *first,
			  const struct micro_options *second, const char *words)
{
	const struct session_options options = { .mode = CKPT_MODE_COLO };
	struct rig *rig = rig_new_of(first, second);

	expect_refusal(rig, &options, words, words);
	rig_free(rig);
}

static void machines_that_differ_are_refused_by_what_differs(void **state)
{
	const struct micro_options plain = { .memory = 40 << 20 };
	struct micro_options other = plain;
	char *disk = micro_file(1 << 20), *disk2 = micro_file(2 << 20);
	struct micro_options with_disk = plain;

	other.memory = 48 << 20;
	expect_unlike(&plain, &other, "has bytes of memory: ");
	other = plain;
	other.cpus = 2;
	expect_unlike(&plain, &other, "has vCPUs: ");
	other = plain;
	other.disk = disk;
	expect_unlike(&plain, &other, "has disks: ");
	with_disk.disk = disk2;
	expect_unlike(&with_disk, &other, "has disk 0, bytes: ");
	micro_remove(disk);
	micro_remove(disk2);
}

/* The secondary's hello on its way, as one of another host would say it. */
static void weaken(void *data, struct wiretap_message *message)
{
	struct ckpt_hello hello;
	guint frame = sizeof(struct wire_frame);

	if (message->way != TO_PRIMARY || message->type != CKPT_HELLO)
		return;
	memcpy(&hello, message->bytes->data + frame, sizeof(hello));
	for (guint i = 0; i < VMM_CPUID_ROWS_MAX; i++)
		if (wire_get32(hello.cpuid[i].leaf) == 1)
			hello.cpuid[i].edx =
				wire_put32(wire_get32(hello.cpuid[i].edx) & ~(1u << 26));
	memcpy(message->bytes->data + frame, &hello, sizeof(hello));
	wiretap_mend(message->bytes);
}

static void another_version(void *data, struct wiretap_message *message)
{
	wire_u32 version = wire_put32(CKPT_PROTOCOL_VERSION + 1);

	if (message->way != TO_PRIMARY || message->type != CKPT_HELLO)
		return;
	g_byte_array_set_size(message->bytes, 0);
	wiretap_put(message->bytes, CKPT_HELLO, 0, &version, sizeof(version));
}

/* Here the secondary finds nothing wrong, and has begun. */
static void expect_told(wiretap_fn fn, const char *words)
{
	const struct session_options options = { .mode = CKPT_MODE_COLO, .fn = fn };
	struct rig *rig = rig_new();
	struct session *session = session_new(rig, &options);

	assert_true(session_is_lost_before(session, 1));
	if (!strstr(session->why[PRIMARY], words) || !strstr(session->why[SECONDARY], words))
		fail_msg("primary: %s; secondary: %s", session->why[PRIMARY],
			 session->why[SECONDARY]);
	session_free_judged(session, TRUE);
	rig_check_first(rig);
	rig_free(rig);
}

static void a_peer_whose_processor_lacks_a_feature_is_told_which(void **state)
{
	expect_told(weaken, "the peer lacks sse2; use the same --cpu-model");
}

static void a_peer_of_another_version_is_told_so(void **state)
{
	expect_told(another_version, "checkpoint protocol 2, this one 1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(machines_that_differ_are_refused_by_what_differs),
		cmocka_unit_test(a_peer_whose_processor_lacks_a_feature_is_told_which),
		cmocka_unit_test(a_peer_of_another_version_is_told_so),
	};

	micro_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
