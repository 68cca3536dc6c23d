/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two nodes deciding, in a world that is a model (tests/unit/world.h). SEEDS says how many
 * random lives are lived, SEED with which one to begin.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/world.h"

#define SEEDS 10000u
#define MISFORTUNES 12u
#define ENOUGH_MS 20000u

static void check(const test_world *world)
{
	if (!world_violation(world))
		return;
	world_print(world);
	fail_msg("%s", world_violation(world));
}

static void must(const test_world *world, gboolean fact, const char *what)
{
	if (fact)
		return;
	world_print(world);
	fail_msg("%s; alpha is %s (%s), beta is %s (%s)", what,
		 colo_state_name(world_state(world, 0)), world_reason(world, 0),
		 colo_state_name(world_state(world, 1)), world_reason(world, 1));
}

static void until_protected(test_world *world, const char *when)
{
	for (guint ms = 0; ms < ENOUGH_MS && !world_protected(world); ms += 100)
		world_run(world, 100);
	check(world);
	must(world, world_protected(world), when);
}

static test_world *protected_pair_of(guint32 seed, enum colo_arbiter_kind kind)
{
	test_world *pair = world_new(seed, kind);

	world_power_on(pair, 0);
	world_power_on(pair, 1);
	until_protected(pair, "a new pair is not protected");
	return pair;
}

static test_world *protected_pair(enum colo_arbiter_kind kind)
{
	return protected_pair_of(1, kind);
}

static guint primary_of(const test_world *world)
{
	return colo_state_is_primary(world_state(world, 0)) ? 0 : 1;
}

static void must_speak(test_world *world, const char *when)
{
	const guint64 before = world_outputs(world);

	world_run(world, 3000);
	check(world);
	must(world, world_outputs(world) > before, when);
}

static void a_new_pair_becomes_protected_in_any_order_of_its_nodes(void **state)
{
	for (guint first = 0; first < 2; first++)
		for (int kind = COLO_ARBITER_NONE; kind <= COLO_ARBITER_MANUAL; kind++) {
			test_world *pair = world_new(1, (enum colo_arbiter_kind)kind);

			world_power_on(pair, first);
			world_run(pair, 5000);
			world_power_on(pair, !first);
			until_protected(pair, "the pair is not protected");
			assert_int_equal(primary_of(pair), 0);
			world_free(pair);
		}
}

static void a_host_that_loses_power_is_followed_by_the_other_and_comes_back(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	for (guint i = 0; i < 10; i++) {
		const guint victim = primary_of(pair);

		world_power_off(pair, victim);
		must_speak(pair, "nobody goes on");
		assert_int_equal(world_state(pair, !victim), COLO_SOLO);
		world_run(pair, 5000);
		assert_int_equal(world_count(pair, "durable"), i + 1);
		world_power_on(pair, victim);
		until_protected(pair, "the host that came back is not protected again");
	}
	world_free(pair);
}

static void a_killed_colo_vm_is_followed_within_100_ms(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);
	guint64 before;

	world_kill_vm(pair, 0);
	world_run(pair, 90);
	before = world_outputs(pair);
	world_run(pair, 20);
	must(pair, world_outputs(pair) > before, "the other node does not speak yet");
	until_protected(pair, "it is not protected again");
	assert_int_equal(primary_of(pair), 1);
	world_free(pair);
}

static void a_killed_colo_vm_is_followed_before_the_kernel_is_done_with_it(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_kill_vm(pair, 0);
	world_run(pair, 40);
	must(pair, world_state(pair, 1) != COLO_STANDBY, "the other node waits");
	assert_int_equal(world_count(pair, "vm-gone"), 0);
	until_protected(pair, "it is not protected again");
	assert_int_equal(primary_of(pair), 1);
	world_free(pair);
}

static void a_lost_standby_leaves_its_primary_speaking(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_power_off(pair, 1);
	must_speak(pair, "the primary does not go on alone");
	assert_int_equal(world_state(pair, 0), COLO_SOLO);
	world_free(pair);
}

static void one_lost_way_of_heartbeats_is_no_reason_to_do_anything(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_cut(pair, WORLD_HEARTBEAT, TRUE);
	world_cut(pair, WORLD_CONTROL, TRUE);
	world_run(pair, 5000);
	must(pair, world_protected(pair), "somebody did something");
	world_free(pair);
}

static void a_cut_replication_link_leaves_the_primary_in_its_place(void **state)
{
	for (int kind = COLO_ARBITER_NONE; kind <= COLO_ARBITER_ETCD; kind++) {
		test_world *pair = protected_pair((enum colo_arbiter_kind)kind);

		world_cut(pair, WORLD_REPLICATION, TRUE);
		must_speak(pair, "nobody goes on");
		assert_int_equal(world_state(pair, 0), COLO_SOLO);
		world_cut(pair, WORLD_REPLICATION, FALSE);
		until_protected(pair, "it is not protected again");
		world_free(pair);
	}
}

static void cut_all(test_world *pair, gboolean cut)
{
	for (guint i = 0; i < WORLD__LINKS; i++)
		world_cut(pair, (enum world_link)i, cut);
}

static void two_halves_never_both_speak_and_one_does_if_the_arbiter_is_there(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	cut_all(pair, TRUE);
	must_speak(pair, "nobody goes on");
	assert_int_equal(world_speaking(pair), 1);
	cut_all(pair, FALSE);
	until_protected(pair, "it is not protected again");
	world_free(pair);
}

static void a_secondary_that_alone_sees_the_arbiter_goes_on(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_cut_arbiter(pair, 0, TRUE);
	cut_all(pair, TRUE);
	must_speak(pair, "nobody goes on");
	assert_int_equal(world_state(pair, 1), COLO_SOLO);
	assert_int_equal(world_state(pair, 0), COLO_HOLDING);
	world_mend(pair);
	until_protected(pair, "it is not protected again");
	assert_int_equal(primary_of(pair), 1);
	world_free(pair);
}

static void without_the_arbiter_two_halves_are_silent_until_they_meet_again(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);
	guint64 before;

	world_cut_arbiter(pair, 0, TRUE);
	world_cut_arbiter(pair, 1, TRUE);
	cut_all(pair, TRUE);
	for (guint i = 0; i < 100 && world_state(pair, 0) != COLO_HOLDING; i++)
		world_run(pair, 10);
	/* Also before the arbiter is given up. */
	assert_int_equal(world_state(pair, 0), COLO_HOLDING);
	assert_non_null(world_reason(pair, 0));
	world_run(pair, 1000);
	before = world_outputs(pair);
	world_run(pair, 5000);
	assert_int_equal(world_outputs(pair), before);
	/* They need no arbiter to agree. */
	cut_all(pair, FALSE);
	must_speak(pair, "they do not agree");
	assert_int_equal(primary_of(pair), 0);
	world_mend(pair);
	until_protected(pair, "it is not protected again");
	world_free(pair);
}

/* Whatever the two are waiting for of the arbiter meanwhile. */
static void without_the_arbiter_a_lost_replication_link_is_agreed_on(void **state)
{
	for (guint ms = 0; ms < 2600; ms += 130) {
		test_world *pair = protected_pair(COLO_ARBITER_ETCD);

		world_cut_arbiter(pair, 0, TRUE);
		world_cut_arbiter(pair, 1, TRUE);
		world_cut(pair, WORLD_REPLICATION, TRUE);
		world_cut(pair, WORLD_CONTROL, TRUE);
		world_run(pair, ms);
		world_cut(pair, WORLD_CONTROL, FALSE);
		world_run(pair, 10000);
		must_speak(pair, "they do not agree");
		assert_int_equal(world_speaking(pair), 1);
		world_free(pair);
	}
}

/* Who has agreed does not go on, whatever becomes of the colod that said so. */
static void a_consent_outlives_the_colod_that_gave_it(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_cut_arbiter(pair, 0, TRUE);
	world_cut_arbiter(pair, 1, TRUE);
	world_break_disk(pair, 1, FALSE, 1500);
	world_cut(pair, WORLD_REPLICATION, TRUE);
	for (guint ms = 0; ms < ENOUGH_MS && world_state(pair, 0) != COLO_SOLO; ms += 10)
		world_run(pair, 10);
	assert_int_equal(world_state(pair, 0), COLO_SOLO);
	world_kill_colod(pair, 1);
	world_start_colod(pair, 1);
	cut_all(pair, TRUE);
	world_cut_arbiter(pair, 1, FALSE);
	must_speak(pair, "nobody goes on");
	must_speak(pair, "nobody goes on for long");
	assert_int_equal(world_speaking(pair), 1);
	world_free(pair);
}

/* The disk of whoever was the primary has all that clients saw. */
static void a_person_must_judge(test_world *pair)
{
	world_run(pair, 10000);
	check(pair);
	for (guint host = 0; host < 2; host++) {
		assert_int_equal(world_state(pair, host), COLO_WAITING);
		must(pair, strstr(world_reason(pair, host), "neither") != NULL,
		     "it does not say what a person has to judge");
	}
	world_order(pair, 0, COLO_ORDER_PROMOTE, TRUE);
	until_protected(pair, "both are there, and one waits for the other");
	assert_int_equal(primary_of(pair), 0);
	must_speak(pair, "nobody goes on");
	world_free(pair);
}

/* It looks like a generation file that was restored from a backup. */
static void a_grant_that_nobody_lived_to_act_on_is_for_a_person_to_judge(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_break_disk(pair, 1, FALSE, 3000);
	world_power_off(pair, 0);
	world_run(pair, 2000);
	assert_int_equal(world_state(pair, 1), COLO_PROMOTING);
	assert_int_equal(world_part(pair, 1), COLO_PART_STANDBY);
	world_power_off(pair, 1);
	world_break_disk(pair, 1, FALSE, 0);
	world_power_on(pair, 0);
	world_power_on(pair, 1);
	a_person_must_judge(pair);
}

/* As well as one that did, and whose generation file was restored from a backup. */
static void a_consent_whose_asker_did_not_live_to_go_on_is_for_a_person_to_judge(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_cut_arbiter(pair, 0, TRUE);
	world_cut_arbiter(pair, 1, TRUE);
	world_power_off(pair, 0);
	world_break_disk(pair, 1, FALSE, 3000);
	world_run(pair, 1000);
	world_power_on(pair, 0);
	for (guint ms = 0; ms < ENOUGH_MS && world_part(pair, 0) != COLO_PART_STANDBY; ms += 10)
		world_run(pair, 10);
	assert_int_equal(world_part(pair, 0), COLO_PART_STANDBY);
	world_run(pair, 100);
	assert_int_equal(world_part(pair, 1), COLO_PART_STANDBY);
	world_power_off(pair, 1);
	world_break_disk(pair, 1, FALSE, 0);
	world_cut_arbiter(pair, 0, FALSE);
	world_cut_arbiter(pair, 1, FALSE);
	world_power_on(pair, 1);
	a_person_must_judge(pair);
}

/* The arbiter's answer to a question of before comes while that is being written down. */
static void a_copy_that_is_given_up_is_not_started(void **state)
{
	for (guint ms = 0; ms < 60; ms++) {
		test_world *pair = protected_pair(COLO_ARBITER_ETCD);

		world_power_off(pair, 1);
		world_run(pair, 8000);
		world_power_off(pair, 0);
		world_break_disk(pair, 0, FALSE, 500);
		world_power_on(pair, 0);
		world_run(pair, ms);
		if (world_state(pair, 0) != COLO_WAITING) {
			world_free(pair);
			break;
		}
		world_order(pair, 0, COLO_ORDER_DISCARD, TRUE);
		world_run(pair, 5000);
		check(pair);
		must(pair, world_part(pair, 0) == COLO_PART_NONE &&
			   world_state(pair, 0) == COLO_WAITING, "what was given up is started");
		world_free(pair);
	}
}

static void only_the_survivor_goes_on_where_there_is_no_arbiter(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_NONE);
	guint64 before;

	world_power_off(pair, 0);
	world_run(pair, 1000);
	before = world_outputs(pair);
	world_run(pair, 5000);
	assert_int_equal(world_outputs(pair), before);
	assert_int_equal(world_state(pair, 1), COLO_PROMOTING);
	world_order(pair, 1, COLO_ORDER_PROMOTE, TRUE);
	must_speak(pair, "the operator's word is not enough");
	world_power_on(pair, 0);
	until_protected(pair, "it is not protected again");
	world_power_off(pair, 1);
	must_speak(pair, "the survivor does not go on");
	world_free(pair);
}

static void a_planned_switch_over_changes_places_without_a_grant(void **state)
{
	for (int kind = COLO_ARBITER_NONE; kind <= COLO_ARBITER_MANUAL; kind++) {
		test_world *pair = protected_pair((enum colo_arbiter_kind)kind);

		for (guint i = 0; i < 4; i++) {
			const guint from = primary_of(pair);

			world_order(pair, i % 2 ? from : !from, COLO_ORDER_SWITCHOVER, FALSE);
			world_run(pair, 200);
			check(pair);
			must(pair, primary_of(pair) == !from, "they did not change places");
			until_protected(pair, "it is not protected again");
		}
		world_free(pair);
	}
}

static void a_guest_leaves_a_disk_that_fails_as_soon_as_it_can(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_fail_disk(pair, 0);
	world_run(pair, 300);
	check(pair);
	must(pair, primary_of(pair) == 1, "the guest is still where its disk has failed");
	must(pair, world_count(pair, "disk-failed") == 1, "no event says so");
	until_protected(pair, "it is not protected again");
	/* Once: not each time that it is protected. */
	world_order(pair, 1, COLO_ORDER_SWITCHOVER, FALSE);
	world_run(pair, 300);
	until_protected(pair, "it is not protected after a switch-over");
	world_run(pair, 5000);
	assert_int_equal(primary_of(pair), 0);
	/* It is protected for colo-vm before it is for the pair. */
	world_power_off(pair, 1);
	must_speak(pair, "the primary does not go on alone");
	world_power_on(pair, 1);
	for (guint ms = 0; ms < ENOUGH_MS && world_state(pair, 0) != COLO_SYNCING; ms++)
		world_run(pair, 1);
	must(pair, world_state(pair, 0) == COLO_SYNCING, "it does not begin to be protected");
	world_fail_disk(pair, 0);
	for (guint ms = 0; ms < ENOUGH_MS && primary_of(pair) == 0; ms += 10)
		world_run(pair, 10);
	check(pair);
	must(pair, primary_of(pair) == 1, "a disk that failed early keeps the guest");
	until_protected(pair, "it is not protected in the end");
	world_free(pair);
}

static void a_disk_that_fails_leaves_a_guest_that_is_alone_in_its_place(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_power_off(pair, 1);
	must_speak(pair, "the primary does not go on alone");
	world_fail_disk(pair, 0);
	must_speak(pair, "it stops for a disk that fails");
	assert_int_equal(world_state(pair, 0), COLO_SOLO);
	world_power_on(pair, 1);
	until_protected(pair, "it is not protected again");
	world_run(pair, 3000);
	check(pair);
	/* What failed while it was alone the guest was told; it is its business. */
	assert_int_equal(primary_of(pair), 0);
	world_free(pair);
}

static void a_standby_whose_disk_failed_is_not_filled_again_at_once(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_fail_disk(pair, 1);
	world_run(pair, 50);
	world_kill_vm(pair, 1); /* it has told its primary; its memory is gone */
	must_speak(pair, "the primary does not go on alone");
	world_run(pair, 4000);
	must(pair, !world_protected(pair), "it is filled again at once");
	assert_non_null(strstr(world_reason(pair, 1), "disk"));
	until_protected(pair, "it is not filled again after a while");
	assert_int_equal(primary_of(pair), 0);
	world_free(pair);
}

static void both_without_power_start_with_what_was_primary(void **state)
{
	for (guint first = 0; first < 2; first++) {
		test_world *pair = protected_pair(COLO_ARBITER_ETCD);

		world_power_off(pair, 1);
		world_run(pair, 2000);
		world_power_on(pair, 1);
		until_protected(pair, "it is not protected again");
		world_power_off(pair, 0);
		world_power_off(pair, 1);
		world_power_on(pair, first);
		world_run(pair, 10000);
		check(pair);
		assert_int_equal(world_state(pair, 1), first ? COLO_WAITING : COLO_STOPPED);
		world_power_on(pair, !first);
		until_protected(pair, "they do not start again");
		assert_int_equal(primary_of(pair), 0);
		world_free(pair);
	}
}

static void colod_can_be_started_anew_in_every_state(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	for (guint host = 0; host < 2; host++) {
		world_kill_colod(pair, host);
		must_speak(pair, "the guest is disturbed");
		world_start_colod(pair, host);
		until_protected(pair, "it does not find its place again");
		assert_int_equal(primary_of(pair), 0);
	}
	world_kill_colod(pair, 0);
	world_power_off(pair, 1);
	world_run(pair, 1000);
	world_start_colod(pair, 0);
	must_speak(pair, "a guest at rest is not found");
	world_free(pair);
}

/* Whoever started it anew in the midst of a sync once told the arbiter that it runs alone, after
 * it had said that the pair is protected: and the standby got no grant. */
static void a_pair_that_was_protected_by_a_colod_started_anew_is(void **state)
{
	for (guint ms = 0; ms < 1500; ms += 10) {
		test_world *pair = protected_pair(COLO_ARBITER_ETCD);

		world_kill_vm(pair, 1);
		world_run(pair, ms);
		world_kill_colod(pair, 0);
		world_run(pair, 30);
		world_start_colod(pair, 0);
		until_protected(pair, "it does not find its place again");
		world_run(pair, 5000);
		until_protected(pair, "it is not protected any more");
		if (primary_of(pair) == 0) {
			world_power_off(pair, 0);
			must_speak(pair, "the standby of a protected pair does not go on");
		}
		world_free(pair);
	}
}

/* Whoever died between writing down that it leaves and having its guest rest once told the other
 * node to take over from a guest that spoke; and one that was told, and died before it promoted
 * its own, never told the arbiter. */
static void a_switch_over_is_carried_on_by_colod_started_anew(void **state)
{
	for (guint i = 0; i < 40 * 20; i++)
		for (guint host = 0; host < 2; host++) {
			test_world *pair = protected_pair_of(i, COLO_ARBITER_ETCD);
			const guint ms = i % 40;

			world_order(pair, 0, COLO_ORDER_SWITCHOVER, FALSE);
			world_run(pair, ms);
			world_kill_colod(pair, host);
			world_run(pair, 100);
			world_start_colod(pair, host);
			until_protected(pair, "it is not protected again");
			world_power_off(pair, primary_of(pair));
			world_run(pair, 10000); /* its arbiter may be slow */
			must_speak(pair, "nobody goes on then");
			world_free(pair);
		}
}

/* The machine rests before the new colod has found the other node's. */
static void a_switch_over_of_a_colod_started_anew_has_no_sound_standby_fenced(void **state)
{
	for (guint i = 0; i < 40 * 20; i++) {
		test_world *pair = protected_pair_of(i, COLO_ARBITER_FENCE);

		world_order(pair, 0, COLO_ORDER_SWITCHOVER, FALSE);
		world_run(pair, i % 40);
		world_kill_colod(pair, 0);
		world_run(pair, i % 7);
		world_start_colod(pair, 0);
		world_run(pair, 10000);
		check(pair);
		must(pair, world_is_on(pair, 0) && world_is_on(pair, 1), "one was fenced");
		until_protected(pair, "it is not protected again");
		world_free(pair);
	}
}

/* Its colod is told that the hand-over has failed before it is told that the machine is dead:
 * it once went on alone then, without a machine, and the standby gave up the only one. */
static void a_primary_that_dies_in_a_switch_over_is_followed_by_its_standby(void **state)
{
	for (guint i = 0; i < 40 * 20; i++) {
		test_world *pair = protected_pair_of(i, COLO_ARBITER_ETCD);

		world_order(pair, 0, COLO_ORDER_SWITCHOVER, FALSE);
		world_run(pair, i % 40);
		world_kill_vm(pair, 0);
		world_run(pair, 1000); /* until both know of it */
		until_protected(pair, "it is not protected again");
		must(pair, primary_of(pair) == 1, "the standby's machine was not the one to go on");
		world_free(pair);
	}
}

static void a_guest_that_was_stopped_stays_so_until_it_is_started(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_order(pair, 1, COLO_ORDER_STOP, FALSE);
	world_run(pair, 2000);
	check(pair);
	assert_int_equal(world_state(pair, 0), COLO_STOPPED);
	assert_int_equal(world_state(pair, 1), COLO_STOPPED);
	world_power_off(pair, 0);
	world_power_off(pair, 1);
	world_mend(pair);
	world_run(pair, 5000);
	assert_int_equal(world_speaking(pair), 0);
	world_order(pair, 1, COLO_ORDER_START, FALSE);
	until_protected(pair, "it does not start again");
	world_free(pair);
}

static void a_node_that_stands_down_hands_over_or_ends_its_guest_until_it_comes_back(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_order(pair, 0, COLO_ORDER_STAND_DOWN, FALSE);
	world_run(pair, 500);
	check(pair);
	assert_int_equal(world_state(pair, 0), COLO_STOPPED);
	assert_int_equal(world_state(pair, 1), COLO_SOLO);
	world_run(pair, 2000);
	assert_non_null(strstr(world_reason(pair, 1), "the other node is stopped"));
	/* The only one that is left does so only if it must. */
	world_order(pair, 1, COLO_ORDER_STAND_DOWN, FALSE);
	world_run(pair, 500);
	assert_int_equal(world_state(pair, 1), COLO_SOLO);
	world_order(pair, 1, COLO_ORDER_STAND_DOWN, TRUE);
	world_run(pair, 500);
	assert_int_equal(world_state(pair, 1), COLO_STOPPED);
	world_power_off(pair, 0);
	world_power_off(pair, 1);
	world_mend(pair);
	until_protected(pair, "a host that is switched on does not start its guest");
	assert_int_equal(primary_of(pair), 1);
	world_free(pair);
}

static void a_node_that_ran_alone_and_was_stopped_gives_no_consent(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_NONE);

	cut_all(pair, TRUE);
	must_speak(pair, "the survivor does not go on");
	world_order(pair, 0, COLO_ORDER_STOP, TRUE);
	world_run(pair, 500);
	assert_int_equal(world_state(pair, 0), COLO_STOPPED);
	assert_int_equal(world_state(pair, 1), COLO_PROMOTING);
	cut_all(pair, FALSE);
	world_run(pair, 5000);
	check(pair);
	assert_int_equal(world_speaking(pair), 0);
	world_free(pair);
}

static void what_cannot_be_written_down_is_not_acted_on_but_tried_again(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);
	guint64 before;

	world_break_disk(pair, 0, TRUE, 0);
	world_power_off(pair, 1);
	world_run(pair, 1000);
	before = world_outputs(pair);
	world_run(pair, 5000);
	assert_int_equal(world_outputs(pair), before);
	assert_int_equal(world_state(pair, 0), COLO_HOLDING);
	world_break_disk(pair, 0, FALSE, 0);
	must_speak(pair, "it is not tried again");
	world_mend(pair);
	until_protected(pair, "it is not protected again");
	/* The one that is asked says so, whatever it is asked for. */
	world_break_disk(pair, 1, TRUE, 0);
	world_order(pair, 0, COLO_ORDER_SWITCHOVER, FALSE);
	world_run(pair, 5000);
	check(pair);
	world_break_disk(pair, 1, FALSE, 0);
	until_protected(pair, "somebody waits for an answer for ever");
	world_free(pair);
}

static void an_arbiter_that_forgot_is_told_anew_by_an_operator(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	world_power_off(pair, 1);
	must_speak(pair, "the primary does not go on alone");
	world_arbiter_forgets(pair);
	world_power_on(pair, 1);
	world_run(pair, 5000);
	must(pair, !world_protected(pair), "an arbiter that knows nothing is believed");
	must_speak(pair, "the guest does not run meanwhile");
	world_order(pair, 0, COLO_ORDER_PROMOTE, TRUE);
	until_protected(pair, "the operator's word is not enough");
	world_free(pair);
}

static void a_switch_over_whose_standby_dies_is_undone_when_it_comes_back(void **state)
{
	for (int kind = COLO_ARBITER_NONE; kind <= COLO_ARBITER_MANUAL; kind++) {
		test_world *pair = protected_pair((enum colo_arbiter_kind)kind);

		world_order(pair, 0, COLO_ORDER_SWITCHOVER, FALSE);
		for (guint i = 0; i < 100 && world_state(pair, 0) != COLO_HANDING; i++)
			world_run(pair, 1);
		world_power_off(pair, 1);
		world_run(pair, 3000);
		world_power_on(pair, 1);
		until_protected(pair, "the two do not agree");
		world_free(pair);
	}
}

static void a_host_that_stood_still_finds_itself_overtaken(void **state)
{
	for (guint ms = 100; ms < 6000; ms += 230) {
		test_world *pair = protected_pair(COLO_ARBITER_ETCD);

		world_freeze(pair, 0, ms);
		world_run(pair, ms);
		until_protected(pair, "it is not protected again");
		world_freeze(pair, 1, ms);
		world_run(pair, ms);
		until_protected(pair, "it is not protected again");
		world_free(pair);
	}
}

static void a_cut_of_one_way_only_leaves_one_speaker(void **state)
{
	for (guint cut = 1; cut < 1u << (2 * WORLD__LINKS); cut++) {
		test_world *pair = protected_pair(COLO_ARBITER_ETCD);

		for (guint i = 0; i < 2 * WORLD__LINKS; i++)
			world_cut_to(pair, (enum world_link)(i / 2), i % 2, cut & (1u << i));
		must_speak(pair, "nobody goes on");
		must_speak(pair, "nobody goes on for long");
		assert_int_equal(world_speaking(pair), 1);
		cut_all(pair, FALSE);
		until_protected(pair, "it is not protected again");
		world_free(pair);
	}
}

static void a_colod_that_dies_while_it_writes_leaves_what_the_next_one_can_act_on(void **state)
{
	for (guint ms = 300; ms < 1100; ms += 20) {
		test_world *pair = protected_pair(COLO_ARBITER_ETCD);

		world_break_disk(pair, 0, FALSE, 500);
		world_power_off(pair, 1);
		world_run(pair, ms);
		world_kill_colod(pair, 0);
		world_start_colod(pair, 0);
		world_run(pair, ms % 3 * 100);
		check(pair);
		world_power_off(pair, 0);
		world_mend(pair);
		until_protected(pair, "it is not protected again");
		world_free(pair);
	}
}

/* The other host's heart gives back what an earlier boot said, by a clock that was ahead. */
static void a_host_that_is_booted_anew_is_heard_again(void **state)
{
	for (guint32 seed = 1; seed < 40; seed++) {
		test_world *pair = world_new(seed, COLO_ARBITER_ETCD);

		world_power_on(pair, 0);
		world_power_on(pair, 1);
		until_protected(pair, "a new pair is not protected");
		for (guint i = 0; i < 3; i++) {
			world_power_off(pair, i % 2);
			world_run(pair, 700);
			world_power_on(pair, i % 2);
			world_run(pair, 1500);
			check(pair);
			must(pair, world_hears(pair, 0) && world_hears(pair, 1),
			     "the two do not hear each other");
			until_protected(pair, "it is not protected again");
		}
		world_free(pair);
	}
}

/* While those of before linger. */
/* Both of its sessions are strangers then, which the other one greets in turn. That a good path
 * is not heard is found by the world. */
static void a_host_that_boots_twice_is_heard_on_the_only_path_that_is_left(void **state)
{
	for (guint i = 0; i < 400; i++) {
		test_world *pair = protected_pair_of(i, COLO_ARBITER_ETCD);

		world_cut(pair, i % 2 ? WORLD_HEARTBEAT : WORLD_REPLICATION, TRUE);
		for (guint boots = 0; boots < 3; boots++) {
			world_power_off(pair, 0);
			world_run(pair, 100);
			world_power_on(pair, 0);
			world_run(pair, boots < 2 ? 1 + i / 8 : 3000);
		}
		check(pair);
		world_free(pair);
	}
}

static void hearts_that_begin_anew_hear_each_other(void **state)
{
	for (guint32 seed = 1; seed < 60; seed++) {
		test_world *pair = world_new(seed, COLO_ARBITER_ETCD);

		world_power_on(pair, 0);
		world_power_on(pair, 1);
		world_run(pair, 600);
		for (guint i = 0; i < 2; i++) {
			world_kill_colod(pair, i);
			world_run(pair, seed % 50);
		}
		for (guint i = 0; i < 2; i++)
			world_start_colod(pair, i);
		world_run(pair, 1600);
		check(pair);
		must(pair, world_hears(pair, 0) && world_hears(pair, 1),
		     "the two do not hear each other");
		world_free(pair);
	}
}

static void a_dead_host_is_not_kept_alive_by_what_it_once_sent(void **state)
{
	for (guint32 seed = 1; seed < 40; seed++) {
		test_world *pair = world_new(seed, COLO_ARBITER_ETCD);

		world_power_on(pair, 0);
		world_power_on(pair, 1);
		until_protected(pair, "a new pair is not protected");
		/* Some of it never came. */
		if (seed % 2)
			world_cut_to(pair, WORLD_HEARTBEAT, 1, TRUE);
		world_run(pair, 3000);
		world_attack(pair, 8000);
		world_run(pair, 500);
		world_power_off(pair, 0);
		world_cut_to(pair, WORLD_HEARTBEAT, 1, FALSE);
		world_run(pair, 6000);
		check(pair);
		must(pair, !world_hears(pair, 1), "the dead host is heard");
		must(pair, world_speaking(pair) == 1, "nobody goes on");
		world_free(pair);
	}
}

static void a_heart_that_was_stopped_does_not_take_it_for_the_others_silence(void **state)
{
	test_world *pair = protected_pair(COLO_ARBITER_ETCD);

	for (guint ms = 100; ms < 4000; ms += 130) {
		guint silences;

		world_run(pair, 2000);
		silences = world_count(pair, "peer-silent");
		world_stop_heartbeat(pair, 0, ms);
		world_run(pair, ms + 1000);
		check(pair);
		must(pair, world_hears(pair, 0) && world_protected(pair), "it does");
		/* Only the other one may have missed it. */
		must(pair, world_count(pair, "peer-silent") <= silences + 1, "it did");
	}
	world_free(pair);
}

/* Lives full of misfortune. */

/* How lives end, by what was said at the end. */
static GHashTable *endings;
static guint lost;

struct ending {
	guint count;
	guint32 seed; /* the first */
};

static void count_ending(const test_world *world, guint32 seed)
{
	struct ending *ending;

	GString *kind = g_string_new(NULL);

	for (guint i = 0; i < 2; i++) {
		g_string_append_printf(kind, "%s%s (%s): %s", i ? " | " : "",
				       colo_state_name(world_state(world, i)),
				       colo_part_name(world_part(world, i)),
				       world_reason(world, i));
	}
	for (char *at = kind->str; *at; at++)
		if (g_ascii_isdigit(*at))
			*at = '#';
	ending = g_hash_table_lookup(endings, kind->str);
	if (!ending) {
		ending = g_new(struct ending, 1);
		*ending = (struct ending){ 0, seed };
		g_hash_table_insert(endings, g_strdup(kind->str), ending);
	}
	ending->count++;
	g_string_free(kind, TRUE);
}

/* Again and again: a fence agent may still switch a host off. What was stopped on purpose is
 * started again. */
static void mend(test_world *pair)
{
	for (guint ms = 0; ms < ENOUGH_MS && !world_protected(pair); ms += 100) {
		world_mend(pair);
		for (guint i = 0; i < 2 && ms % 1000 == 0; i++)
			if (world_state(pair, i) == COLO_STOPPED)
				world_order(pair, i, COLO_ORDER_START, FALSE);
		world_run(pair, 100);
	}
}

static void must_end_well(const test_world *pair, guint32 seed, enum colo_arbiter_kind kind,
			  gboolean decided)
{
	if (world_violation(pair)) {
		world_print(pair);
		fail_msg("SEED=%u, arbiter %d: %s", seed, kind, world_violation(pair));
	}
	if (!decided) {
		world_print(pair);
		fail_msg("SEED=%u, arbiter %d: nobody can help: alpha ends %s (%s), beta %s (%s)",
			 seed, kind, colo_state_name(world_state(pair, 0)),
			 world_reason(pair, 0), colo_state_name(world_state(pair, 1)),
			 world_reason(pair, 1));
	}
}

static gboolean live(guint32 seed, guint64 *trace)
{
	const enum colo_arbiter_kind kind = (enum colo_arbiter_kind)(seed % 4);
	test_world *pair = world_new(seed, kind);
	const guint misfortunes = 1 + world_random(pair, MISFORTUNES);
	gboolean decided;

	world_be_rough(pair);
	world_power_on(pair, 0);
	world_power_on(pair, 1);
	world_run(pair, world_random(pair, 2000));
	for (guint i = 0; i < misfortunes && !world_violation(pair); i++) {
		world_misfortune(pair);
		/* Two at once, one soon after the other, or after a while. */
		if (world_random(pair, 4))
			world_run(pair, world_random(pair, 3) ? world_random(pair, 100) :
								world_random(pair, 4000));
	}
	mend(pair);
	decided = world_protected(pair);
	if (!decided && !world_violation(pair)) {
		count_ending(pair, seed);
		for (guint i = 0; i < 3 && !world_protected(pair) && world_person(pair); i++)
			mend(pair);
		lost += world_is_lost(pair);
		must_end_well(pair, seed, kind, world_is_lost(pair) || world_protected(pair));
	}
	must_end_well(pair, seed, kind, TRUE);
	*trace = world_trace(pair);
	world_free(pair);
	return decided;
}

static guint number(const char *name, guint usual)
{
	const char *text = g_getenv(name);

	return text ? (guint)strtoul(text, NULL, 10) : usual;
}

static void a_seed_is_the_same_life_each_time(void **state)
{
	guint64 first, again, before = 0;

	endings = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	for (guint32 seed = 1; seed <= 60; seed++) {
		live(seed, &first);
		live(seed, &again);
		assert_true(first == again && first != before);
		before = first;
	}
	lost = 0;
	g_hash_table_unref(endings);
}

static void whatever_happens_nobody_lets_out_what_contradicts_what_was_seen(void **state)
{
	const guint seeds = number("SEEDS", SEEDS), first = number("SEED", 1);
	GHashTableIter at;
	gpointer kind, ending;
	guint decided = 0;
	guint64 trace;

	endings = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

	for (guint i = 0; i < seeds; i++)
		decided += live(first + i, &trace);
	printf("%u lives from seed %u on: %u ended protected, %u needed a person (in %u of them "
	       "no whole copy was left)\n",
	       seeds, first, decided, seeds - decided, lost);
	for (g_hash_table_iter_init(&at, endings); g_hash_table_iter_next(&at, &kind, &ending);)
		printf("%6u  (first seed %u) %s\n", ((struct ending *)ending)->count,
		       ((struct ending *)ending)->seed, (const char *)kind);
	g_hash_table_unref(endings);
	assert_true(decided > seeds / 2);
}

static void say_nothing(const gchar *domain, GLogLevelFlags level, const gchar *message,
			gpointer data)
{
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_pair_becomes_protected_in_any_order_of_its_nodes),
		cmocka_unit_test(a_host_that_loses_power_is_followed_by_the_other_and_comes_back),
		cmocka_unit_test(a_killed_colo_vm_is_followed_within_100_ms),
		cmocka_unit_test(a_killed_colo_vm_is_followed_before_the_kernel_is_done_with_it),
		cmocka_unit_test(a_lost_standby_leaves_its_primary_speaking),
		cmocka_unit_test(one_lost_way_of_heartbeats_is_no_reason_to_do_anything),
		cmocka_unit_test(a_cut_replication_link_leaves_the_primary_in_its_place),
		cmocka_unit_test(
			two_halves_never_both_speak_and_one_does_if_the_arbiter_is_there),
		cmocka_unit_test(a_secondary_that_alone_sees_the_arbiter_goes_on),
		cmocka_unit_test(
			without_the_arbiter_two_halves_are_silent_until_they_meet_again),
		cmocka_unit_test(without_the_arbiter_a_lost_replication_link_is_agreed_on),
		cmocka_unit_test(a_consent_outlives_the_colod_that_gave_it),
		cmocka_unit_test(
			a_grant_that_nobody_lived_to_act_on_is_for_a_person_to_judge),
		cmocka_unit_test(
			a_consent_whose_asker_did_not_live_to_go_on_is_for_a_person_to_judge),
		cmocka_unit_test(a_copy_that_is_given_up_is_not_started),
		cmocka_unit_test(only_the_survivor_goes_on_where_there_is_no_arbiter),
		cmocka_unit_test(a_planned_switch_over_changes_places_without_a_grant),
		cmocka_unit_test(a_guest_leaves_a_disk_that_fails_as_soon_as_it_can),
		cmocka_unit_test(a_disk_that_fails_leaves_a_guest_that_is_alone_in_its_place),
		cmocka_unit_test(a_standby_whose_disk_failed_is_not_filled_again_at_once),
		cmocka_unit_test(both_without_power_start_with_what_was_primary),
		cmocka_unit_test(colod_can_be_started_anew_in_every_state),
		cmocka_unit_test(a_pair_that_was_protected_by_a_colod_started_anew_is),
		cmocka_unit_test(a_switch_over_is_carried_on_by_colod_started_anew),
		cmocka_unit_test(
			a_switch_over_of_a_colod_started_anew_has_no_sound_standby_fenced),
		cmocka_unit_test(a_primary_that_dies_in_a_switch_over_is_followed_by_its_standby),
		cmocka_unit_test(a_guest_that_was_stopped_stays_so_until_it_is_started),
		cmocka_unit_test(
			a_node_that_stands_down_hands_over_or_ends_its_guest_until_it_comes_back),
		cmocka_unit_test(
			a_node_that_ran_alone_and_was_stopped_gives_no_consent),
		cmocka_unit_test(
			what_cannot_be_written_down_is_not_acted_on_but_tried_again),
		cmocka_unit_test(an_arbiter_that_forgot_is_told_anew_by_an_operator),
		cmocka_unit_test(
			a_switch_over_whose_standby_dies_is_undone_when_it_comes_back),
		cmocka_unit_test(a_host_that_stood_still_finds_itself_overtaken),
		cmocka_unit_test(a_cut_of_one_way_only_leaves_one_speaker),
		cmocka_unit_test(
			a_colod_that_dies_while_it_writes_leaves_what_the_next_one_can_act_on),
		cmocka_unit_test(a_host_that_is_booted_anew_is_heard_again),
		cmocka_unit_test(
			a_host_that_boots_twice_is_heard_on_the_only_path_that_is_left),
		cmocka_unit_test(hearts_that_begin_anew_hear_each_other),
		cmocka_unit_test(a_dead_host_is_not_kept_alive_by_what_it_once_sent),
		cmocka_unit_test(
			a_heart_that_was_stopped_does_not_take_it_for_the_others_silence),
		cmocka_unit_test(a_seed_is_the_same_life_each_time),
		cmocka_unit_test(
			whatever_happens_nobody_lets_out_what_contradicts_what_was_seen),
	};

	/* What happened is the world's to tell. */
	g_log_set_default_handler(say_nothing, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
