/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The micro-guest's virtqueues, against a device that does something at every point at
 * which it can make a difference.
 *
 * The driver's source is included, so that its barrier is ours: that is the moment
 * between "interrupt me at the next" and the second look, in which a device may show a
 * chain for which it sends no interrupt, since it read the old wish just before. x86
 * allows the one order that a program without such a hook meets in a million tries.
 */
#include "tests/guest/cpu.h"
#include "tests/guest/pci.h"
#include "tests/guest/serial.h"
#include "tests/guest/text.h"
#include "tests/guest/types.h"

static void at_barrier(void);
#undef full_barrier
#define full_barrier() at_barrier()
#define this_cpu() cpu_at(0)
#include "tests/guest/virtio.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib.h>

#define SIZE 16

static struct cpu block;
static volatile u32 bar[4096 / 4];
static struct common registers;

/* The device's side of the one queue. */
static struct {
	struct virtio device;
	struct virtq queue;
	u16 event; /* the driver's wish as it was before its last barrier */
	u16 taken; /* of the available ring */
	void (*at_barrier)(void);
	GRand *random;
	u32 silent; /* chains for which no interrupt was sent */
} rig;

/* What the driver is linked with in the guest. */

struct cpu *cpu_at(u32 id)
{
	return &block;
}

bool option_flag(const char *name)
{
	return false;
}

void say(const char *how, ...)
{
	fail_msg("%s", how);
}

u32 pci_read32(u8 slot, u8 offset)
{
	return 0;
}

u16 pci_read16(u8 slot, u8 offset)
{
	return 0;
}

u8 pci_read8(u8 slot, u8 offset)
{
	return 0;
}

void pci_write16(u8 slot, u8 offset, u16 value)
{
}

u64 pci_bar(u8 slot, u8 number)
{
	return (u64)bar;
}

u8 pci_capability(u8 slot, u8 id, u8 after)
{
	return 0;
}

/* The device. */

static u16 wish(void)
{
	return rig.queue.avail.ring[rig.queue.size];
}

/* Gives a chain back to a driver that wishes for an interrupt at `event`. */
static void push(u16 event)
{
	struct virtq *q = &rig.queue;

	if (rig.taken == q->avail.index)
		return;
	q->used.ring[q->used.index % q->size].id = q->avail.ring[rig.taken++ % q->size];
	q->used.index++;
	if ((u16)(q->used.index - event - 1) < 1)
		block.irqs[q->vector]++;
	else
		rig.silent++;
}

static void at_barrier(void)
{
	if (rig.at_barrier)
		rig.at_barrier();
	rig.event = wish();
}

static void show_one(void)
{
	rig.at_barrier = NULL;
	push(rig.event);
}

static void show_some(void)
{
	for (u32 n = g_rand_int_range(rig.random, 0, 3); n; n--)
		push(g_rand_boolean(rig.random) ? rig.event : wish());
}

/* The driver. */

static void give(u32 chains)
{
	struct segment s = { &rig, 1 };

	while (chains--)
		assert_true(virtq_add(&rig.queue, &s, 0, 1, &rig));
}

static void start(u64 features)
{
	rig.device = (struct virtio){ .common = (u64)&registers, .features = features };
	rig.queue.vector = VECTOR_MSIX;
	rig.event = rig.taken = 0;
	rig.silent = 0;
	rig.at_barrier = NULL;
	registers.queue_size = SIZE;
	assert_true(virtq_setup(&rig.device, 0, &rig.queue, SIZE, false));
	give(SIZE / 2);
}

/* As who waits for a queue does: nothing without an interrupt, then all there is. */
static u32 take_all(void)
{
	u32 n = 0;

	while (virtq_interrupted(&rig.queue) && virtq_pop(&rig.queue, NULL)) {
		give(1);
		n++;
	}
	return n;
}

static bool sleeps_beside_work(void)
{
	return !virtq_interrupted(&rig.queue) &&
	       rig.queue.used_seen != rig.queue.used.index;
}

static void a_chain_that_the_second_look_finds_is_not_the_last_one(void **state)
{
	start(VIRTIO_F_EVENT_IDX);
	push(wish());
	rig.at_barrier = show_one;
	assert_int_equal(take_all(), 2);
	assert_int_equal(rig.silent, 1);
	push(wish());
	assert_false(sleeps_beside_work());
	assert_int_equal(take_all(), 1);
}

static void a_queue_without_an_interrupt_is_left_alone(void **state)
{
	start(VIRTIO_F_EVENT_IDX);
	push(wish() - 1);
	assert_int_equal(rig.silent, 1);
	assert_int_equal(take_all(), 0);
	assert_true(sleeps_beside_work());
}

static void nobody_sleeps_beside_work_whenever_the_device_acts(void **state)
{
	start(VIRTIO_F_EVENT_IDX);
	rig.random = g_rand_new_with_seed(1);
	rig.at_barrier = show_some;
	for (u32 i = 0; i < 200000; i++) {
		/* Sometimes only one, as who has other things to do. */
		if (!g_rand_boolean(rig.random))
			take_all();
		else if (virtq_interrupted(&rig.queue) && virtq_pop(&rig.queue, NULL))
			give(1);
		if (g_rand_boolean(rig.random))
			push(wish());
		if (sleeps_beside_work())
			fail_msg("after %u turns and %lu chains", i, rig.queue.popped);
	}
	assert_true(rig.queue.popped > 100000 && rig.silent > 1000);
	g_rand_free(rig.random);
}

static void without_event_indices_each_chain_interrupts(void **state)
{
	start(0);
	for (u32 i = 0; i < 100; i++) {
		push(rig.taken);
		assert_int_equal(take_all(), 1);
	}
	assert_int_equal(rig.silent, 0);
	assert_int_equal(wish(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_chain_that_the_second_look_finds_is_not_the_last_one),
		cmocka_unit_test(a_queue_without_an_interrupt_is_left_alone),
		cmocka_unit_test(nobody_sleeps_beside_work_whenever_the_device_acts),
		cmocka_unit_test(without_event_indices_each_chain_interrupts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
