/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The I/O loop: what is called when, and what a held loop keeps out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "kvm/loop.h"

#define PATIENCE_NS (10 * G_GUINT64_CONSTANT(1000000000))

/* One handler and what befell it. Other threads look at it with the lock. */
struct probe {
	vmm_loop *loop;
	vmm_source *source;
	int fd, far; /* a socket pair; or the file, and -1 */
	guint calls, left; /* `left`: how often it asks to be called again */
	guint32 events;
	gboolean drain, goes;
	struct probe *removes, *silences;
	guint64 sleep_us;
	gint inside; /* atomic */
	guint seen_wanted;
};

static void handle(void *data, guint32 events)
{
	struct probe *probe = data;
	char bytes[64];

	g_atomic_int_set(&probe->inside, 1);
	probe->calls++;
	probe->events = events;
	if (probe->drain && read(probe->fd, bytes, sizeof(bytes)) < 0)
		abort();
	if (probe->sleep_us)
		g_usleep((gulong)probe->sleep_us);
	probe->seen_wanted += vmm_loop_wanted(probe->loop);
	if (probe->left) {
		probe->left--;
		vmm_loop_again(probe->source);
	}
	if (probe->removes && probe->removes->source) {
		vmm_source_remove(probe->removes->source);
		probe->removes->source = NULL;
	}
	if (probe->silences)
		vmm_source_set_events(probe->silences->source, 0);
	if (probe->goes) {
		vmm_source_remove(probe->source);
		probe->source = NULL;
	}
	g_atomic_int_set(&probe->inside, 0);
}

static void watch(struct probe *probe, vmm_loop *loop, guint32 events)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	probe->loop = loop;
	probe->fd = ends[0];
	probe->far = ends[1];
	vmm_loop_lock(loop);
	probe->source = vmm_loop_add(loop, probe->fd, events, handle, probe);
	vmm_loop_unlock(loop);
}

static void watch_file(struct probe *probe, vmm_loop *loop, guint32 events)
{
	FILE *file = tmpfile();

	assert_non_null(file);
	probe->loop = loop;
	probe->fd = dup(fileno(file));
	probe->far = -1;
	fclose(file);
	vmm_loop_lock(loop);
	probe->source = vmm_loop_add(loop, probe->fd, events, handle, probe);
	vmm_loop_unlock(loop);
}

static void unwatch(struct probe *probe)
{
	vmm_loop_lock(probe->loop);
	if (probe->source)
		vmm_source_remove(probe->source);
	vmm_loop_unlock(probe->loop);
	close(probe->fd);
	if (probe->far >= 0)
		close(probe->far);
}

static void poke(struct probe *probe)
{
	assert_int_equal(write(probe->far, "x", 1), 1);
}

/* Runs until nothing is ready, at most `turns` times. */
static guint settle(vmm_loop *loop, guint turns)
{
	guint ran = 0, now;

	while (turns-- && (now = vmm_loop_iterate(loop, 0)))
		ran += now;
	return ran;
}

static guint calls(struct probe *probe)
{
	guint n;

	vmm_loop_lock(probe->loop);
	n = probe->calls;
	vmm_loop_unlock(probe->loop);
	return n;
}

static gboolean wait_for_calls(struct probe *probe, guint n)
{
	guint64 start = base_clock_monotonic_ns();

	while (calls(probe) < n) {
		if (base_clock_monotonic_ns() - start > PATIENCE_NS)
			return FALSE;
		g_usleep(200);
	}
	return TRUE;
}

/* Until everything that was sent has been read. */
static gboolean wait_for_silence(struct probe *probe)
{
	guint64 start = base_clock_monotonic_ns();
	int unread = 1;

	while (ioctl(probe->fd, FIONREAD, &unread) == 0 && unread) {
		if (base_clock_monotonic_ns() - start > PATIENCE_NS)
			return FALSE;
		g_usleep(200);
	}
	return TRUE;
}

static void a_handler_is_called_while_its_descriptor_is_ready(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe probe = { 0 };

	watch(&probe, loop, EPOLLIN);
	assert_int_equal(settle(loop, 10), 0);
	poke(&probe);
	assert_int_equal(settle(loop, 3), 3);
	assert_int_equal(probe.events, EPOLLIN);
	probe.drain = TRUE;
	assert_int_equal(settle(loop, 10), 1);
	unwatch(&probe);
}

static void only_wanted_events_call(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe probe = { 0 };

	watch(&probe, loop, 0);
	poke(&probe);
	assert_int_equal(settle(loop, 10), 0);
	vmm_source_set_events(probe.source, EPOLLOUT);
	assert_int_equal(settle(loop, 1), 1);
	assert_int_equal(probe.events, EPOLLOUT);
	vmm_source_set_events(probe.source, EPOLLIN | EPOLLOUT);
	assert_int_equal(settle(loop, 1), 1);
	assert_int_equal(probe.events, EPOLLIN | EPOLLOUT);
	vmm_source_set_events(probe.source, 0);
	assert_int_equal(settle(loop, 10), 0);
	vmm_source_set_events(probe.source, EPOLLIN);
	assert_int_equal(settle(loop, 1), 1);
	unwatch(&probe);
}

static void a_hang_up_that_nobody_waits_for_does_not_spin(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe probe = { 0 };
	guint64 start;

	watch(&probe, loop, EPOLLIN);
	close(probe.far);
	probe.far = -1;
	assert_int_equal(settle(loop, 1), 1);
	assert_true(probe.events & EPOLLHUP);
	vmm_source_set_events(probe.source, 0);
	start = base_clock_monotonic_ns();
	assert_int_equal(vmm_loop_iterate(loop, 50), 0);
	assert_true(base_clock_monotonic_ns() - start >= 40000000);
	assert_int_equal(probe.calls, 1);
	unwatch(&probe);
}

static void again_calls_once_more_whatever_is_ready(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe probe = { .left = 3, .events = 99 };

	watch(&probe, loop, 0);
	vmm_loop_again(probe.source);
	vmm_loop_again(probe.source);
	assert_int_equal(settle(loop, 20), 4);
	assert_int_equal(probe.calls, 4);
	assert_int_equal(probe.events, 0);
	unwatch(&probe);
}

static void again_survives_a_change_of_events(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe probe = { 0 };

	watch(&probe, loop, EPOLLIN);
	vmm_loop_again(probe.source);
	vmm_source_set_events(probe.source, 0);
	assert_int_equal(settle(loop, 20), 1);
	unwatch(&probe);
}

static void a_regular_file_is_always_ready(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe probe = { 0 };

	watch_file(&probe, loop, EPOLLIN);
	assert_int_equal(settle(loop, 5), 5);
	assert_int_equal(probe.events, EPOLLIN);
	vmm_source_set_events(probe.source, EPOLLOUT);
	assert_int_equal(settle(loop, 5), 5);
	assert_int_equal(probe.events, EPOLLOUT);
	vmm_source_set_events(probe.source, 0);
	assert_int_equal(settle(loop, 5), 0);
	vmm_loop_again(probe.source);
	assert_int_equal(settle(loop, 5), 1);
	vmm_source_set_events(probe.source, EPOLLIN);
	vmm_loop_again(probe.source);
	assert_int_equal(settle(loop, 5), 5);
	unwatch(&probe);
	assert_int_equal(settle(loop, 5), 0);
}

static void a_file_that_waits_for_nothing_lets_the_loop_sleep(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe file = { 0 }, other = { .drain = TRUE };
	guint64 start;

	watch_file(&file, loop, 0);
	watch(&other, loop, EPOLLIN);
	start = base_clock_monotonic_ns();
	vmm_loop_iterate(loop, 30);
	assert_true(base_clock_monotonic_ns() - start >= 20000000);
	assert_int_equal(file.calls, 0);
	unwatch(&file);
	unwatch(&other);
}

static void a_handler_may_remove_itself(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe probe = { .goes = TRUE }, file = { .goes = TRUE },
		     restless = { .goes = TRUE };

	watch(&probe, loop, EPOLLIN);
	watch_file(&file, loop, EPOLLIN);
	watch(&restless, loop, 0);
	vmm_loop_again(restless.source);
	poke(&probe);
	assert_int_equal(settle(loop, 10), 3);
	assert_int_equal(probe.calls + file.calls + restless.calls, 3);
	unwatch(&probe);
	unwatch(&file);
	unwatch(&restless);
}

static void a_removed_handler_is_not_called_even_if_its_event_is_there(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe a = { 0 }, b = { 0 };

	watch(&a, loop, EPOLLIN);
	watch(&b, loop, EPOLLIN);
	a.removes = &b;
	b.removes = &a;
	poke(&a);
	poke(&b);
	/* epoll hands over both at once; the first that runs removes the other. */
	vmm_loop_iterate(loop, 0);
	assert_int_equal(a.calls + b.calls, 1);
	unwatch(&a);
	unwatch(&b);
}

static void a_removed_handler_is_not_called_again(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe a = { 0 }, b = { 0 };

	watch_file(&a, loop, EPOLLIN);
	watch_file(&b, loop, EPOLLIN);
	a.removes = &b;
	b.removes = &a;
	vmm_loop_iterate(loop, 0);
	assert_int_equal(a.calls + b.calls, 1);
	unwatch(&a);
	unwatch(&b);
}

static void an_event_that_is_no_longer_wanted_does_not_call(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe a = { 0 }, b = { 0 };

	watch(&a, loop, EPOLLIN);
	watch(&b, loop, EPOLLIN);
	a.silences = &b;
	b.silences = &a;
	poke(&a);
	poke(&b);
	vmm_loop_iterate(loop, 0);
	assert_int_equal(a.calls + b.calls, 1);
	unwatch(&a);
	unwatch(&b);
}

static void more_restless_sources_than_a_batch_are_all_served(void **state)
{
	enum { SOURCES = 100 };
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	g_autofree struct probe *probes = g_new0(struct probe, SOURCES);

	for (guint i = 0; i < SOURCES; i++) {
		watch(&probes[i], loop, 0);
		vmm_loop_again(probes[i].source);
	}
	assert_int_equal(settle(loop, 10), SOURCES);
	for (guint i = 0; i < SOURCES; i++) {
		assert_int_equal(probes[i].calls, 1);
		unwatch(&probes[i]);
	}
}

static void the_thread_is_woken_by_again_and_by_new_sources(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe quiet = { 0 }, late = { .drain = TRUE };

	watch(&quiet, loop, 0);
	vmm_loop_start(loop);
	g_usleep(5000);
	vmm_loop_lock(loop);
	vmm_loop_again(quiet.source);
	vmm_loop_unlock(loop);
	assert_true(wait_for_calls(&quiet, 1));
	watch(&late, loop, EPOLLIN);
	poke(&late);
	assert_true(wait_for_calls(&late, 1));
	unwatch(&quiet);
	unwatch(&late);
}

static void handlers_have_the_lock(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe probe = { .sleep_us = 200 };

	watch_file(&probe, loop, EPOLLIN);
	vmm_loop_start(loop);
	for (guint i = 0; i < 200; i++) {
		vmm_loop_lock(loop);
		assert_int_equal(g_atomic_int_get(&probe.inside), 0);
		vmm_loop_unlock(loop);
		g_usleep(50);
	}
	assert_true(wait_for_calls(&probe, 10));
	unwatch(&probe);
}

static void a_held_loop_runs_no_handler(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe probe = { .sleep_us = 100 };

	watch_file(&probe, loop, EPOLLIN);
	vmm_loop_start(loop);
	for (guint i = 0; i < 50; i++) {
		guint before;

		assert_true(wait_for_calls(&probe, i));
		vmm_loop_want(loop);
		assert_true(vmm_loop_wanted(loop));
		vmm_loop_hold(loop);
		assert_int_equal(g_atomic_int_get(&probe.inside), 0);
		before = calls(&probe);
		g_usleep(1000);
		assert_int_equal(calls(&probe), before);
		vmm_loop_release(loop);
		assert_false(vmm_loop_wanted(loop));
		assert_true(wait_for_calls(&probe, before + 1));
	}
	unwatch(&probe);
}

static void a_loop_held_twice_is_released_twice(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe probe = { 0 };
	guint before;

	watch_file(&probe, loop, EPOLLIN);
	vmm_loop_start(loop);
	assert_true(wait_for_calls(&probe, 1));
	vmm_loop_want(loop);
	vmm_loop_want(loop);
	vmm_loop_hold(loop);
	vmm_loop_hold(loop);
	before = calls(&probe);
	vmm_loop_release(loop);
	g_usleep(2000);
	assert_int_equal(calls(&probe), before);
	vmm_loop_release(loop);
	assert_true(wait_for_calls(&probe, before + 1));
	unwatch(&probe);
}

static void sources_come_and_go_while_the_loop_is_held(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe old = { 0 }, new = { .drain = TRUE };

	watch_file(&old, loop, EPOLLIN);
	vmm_loop_start(loop);
	assert_true(wait_for_calls(&old, 1));
	vmm_loop_want(loop);
	vmm_loop_hold(loop);
	unwatch(&old);
	watch(&new, loop, EPOLLIN);
	poke(&new);
	g_usleep(2000);
	assert_int_equal(calls(&new), 0);
	vmm_loop_release(loop);
	assert_true(wait_for_calls(&new, 1));
	unwatch(&new);
}

static void serve_at_rest(struct probe *probe, gboolean on)
{
	vmm_loop_lock(probe->loop);
	vmm_source_serve_at_rest(probe->source, on);
	vmm_loop_unlock(probe->loop);
}

static void what_is_served_at_rest_is_called_while_the_loop_is_held(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe device = { .drain = TRUE }, disk = { .drain = TRUE }, other = { 0 };
	guint before;

	watch(&device, loop, EPOLLIN);
	watch(&disk, loop, EPOLLIN);
	watch(&other, loop, 0);
	serve_at_rest(&disk, TRUE);
	serve_at_rest(&other, TRUE);
	vmm_loop_start(loop);
	poke(&disk);
	assert_true(wait_for_calls(&disk, 1));
	vmm_loop_want(loop);
	vmm_loop_hold(loop);
	/* The thread waits for the device's turn, and goes on serving the disk. */
	poke(&device);
	g_usleep(2000);
	for (guint i = 2; i < 20; i++) {
		poke(&disk);
		assert_true(wait_for_calls(&disk, i));
		before = calls(&other);
		vmm_loop_lock(loop);
		vmm_loop_again(other.source);
		vmm_loop_unlock(loop);
		assert_true(wait_for_calls(&other, before + 1));
	}
	assert_int_equal(calls(&device), 0);
	vmm_loop_release(loop);
	assert_true(wait_for_calls(&device, 1));
	unwatch(&device);
	unwatch(&disk);
	unwatch(&other);
}

static void serving_at_rest_begins_and_ends_while_the_loop_is_held(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe device = { .drain = TRUE }, disk = { .drain = TRUE };

	watch(&device, loop, EPOLLIN);
	watch(&disk, loop, EPOLLIN);
	vmm_loop_start(loop);
	for (guint i = 0; i < 50; i++) {
		vmm_loop_want(loop);
		vmm_loop_hold(loop);
		poke(&device);
		poke(&disk);
		if (i % 2)
			g_usleep(500);
		serve_at_rest(&disk, TRUE);
		assert_true(wait_for_calls(&disk, 2 * i + 1));
		serve_at_rest(&disk, FALSE);
		poke(&disk);
		g_usleep(500);
		assert_int_equal(calls(&disk), 2 * i + 1);
		assert_int_equal(calls(&device), i);
		vmm_loop_release(loop);
		assert_true(wait_for_calls(&disk, 2 * i + 2));
		assert_true(wait_for_calls(&device, i + 1));
	}
	unwatch(&device);
	unwatch(&disk);
}

static void a_running_handler_sees_that_it_is_wanted(void **state)
{
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe probe = { .sleep_us = 50000 };

	watch_file(&probe, loop, EPOLLIN);
	vmm_loop_start(loop);
	while (!g_atomic_int_get(&probe.inside))
		g_usleep(100);
	vmm_loop_want(loop);
	vmm_loop_hold(loop);
	vmm_loop_lock(loop);
	assert_int_equal(probe.seen_wanted, 1);
	vmm_loop_unlock(loop);
	vmm_loop_release(loop);
	unwatch(&probe);
}

/* What a paused machine does to its disks and taps, many times and from another thread.
 */
static void holding_and_changing_from_several_threads_loses_nothing(void **state)
{
	enum { ROUNDS = 2000 };
	g_autoptr(vmm_loop) loop = vmm_loop_new(NULL);
	struct probe sockets[8] = { 0 };

	for (guint i = 0; i < G_N_ELEMENTS(sockets); i++) {
		sockets[i].drain = TRUE;
		watch(&sockets[i], loop, EPOLLIN);
	}
	vmm_loop_start(loop);
	for (guint i = 0; i < ROUNDS; i++) {
		struct probe *probe = &sockets[i % G_N_ELEMENTS(sockets)];

		poke(probe);
		if (i % 3 == 0) {
			vmm_loop_want(loop);
			vmm_loop_hold(loop);
			vmm_loop_release(loop);
		}
		if (i % 11 == 0)
			serve_at_rest(probe, i % 2);
		if (i % 5 == 0) {
			vmm_loop_lock(loop);
			vmm_source_set_events(probe->source, 0);
			vmm_source_set_events(probe->source, EPOLLIN);
			vmm_loop_unlock(loop);
		}
		if (i % 7 == 0) {
			vmm_loop_lock(loop);
			vmm_source_remove(probe->source);
			probe->source =
				vmm_loop_add(loop, probe->fd, EPOLLIN, handle, probe);
			vmm_loop_unlock(loop);
		}
	}
	for (guint i = 0; i < G_N_ELEMENTS(sockets); i++) {
		assert_true(wait_for_silence(&sockets[i]));
		unwatch(&sockets[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_handler_is_called_while_its_descriptor_is_ready),
		cmocka_unit_test(only_wanted_events_call),
		cmocka_unit_test(a_hang_up_that_nobody_waits_for_does_not_spin),
		cmocka_unit_test(again_calls_once_more_whatever_is_ready),
		cmocka_unit_test(again_survives_a_change_of_events),
		cmocka_unit_test(a_regular_file_is_always_ready),
		cmocka_unit_test(a_file_that_waits_for_nothing_lets_the_loop_sleep),
		cmocka_unit_test(a_handler_may_remove_itself),
		cmocka_unit_test(
			a_removed_handler_is_not_called_even_if_its_event_is_there),
		cmocka_unit_test(a_removed_handler_is_not_called_again),
		cmocka_unit_test(an_event_that_is_no_longer_wanted_does_not_call),
		cmocka_unit_test(more_restless_sources_than_a_batch_are_all_served),
		cmocka_unit_test(the_thread_is_woken_by_again_and_by_new_sources),
		cmocka_unit_test(handlers_have_the_lock),
		cmocka_unit_test(a_held_loop_runs_no_handler),
		cmocka_unit_test(a_loop_held_twice_is_released_twice),
		cmocka_unit_test(sources_come_and_go_while_the_loop_is_held),
		cmocka_unit_test(what_is_served_at_rest_is_called_while_the_loop_is_held),
		cmocka_unit_test(serving_at_rest_begins_and_ends_while_the_loop_is_held),
		cmocka_unit_test(a_running_handler_sees_that_it_is_wanted),
		cmocka_unit_test(
			holding_and_changing_from_several_threads_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
