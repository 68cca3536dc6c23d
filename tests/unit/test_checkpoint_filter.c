/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A frame filter at its places: in front of a primary's mirror, of a secondary's log,
 * and of whoever was promoted. What it does is scripted: it adds to the first byte.
 */
#include <linux/virtio_net.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/filter_port.h"
#include "checkpoint/mirror.h"
#include "checkpoint/twin.h"
#include "kvm/iov.h"
#include "tests/unit/fake_port.h"

#define LEN 60u

/* The one filter of a test. */
static struct script {
	gboolean idle;
	enum ckpt_filter_verdict in; /* what is said of a frame that comes in */
	guint add; /* to its first byte */
	guint ins, outs; /* frames shown */
	guint8 last; /* the first byte of the last, as it was shown */
	char order[64]; /* 'i' for a frame in, 'n' for a note */
	gboolean partial;
	guint device;
} script;

static void *script_new(void)
{
	return &script;
}

static void script_free(void *filter)
{
}

static gboolean script_is_idle(void *filter)
{
	return script.idle;
}

static enum ckpt_filter_verdict script_in(void *filter, guint device, guint8 *frame,
					  gsize len, gboolean partial)
{
	assert_int_equal(len, LEN);
	script.ins++;
	strcat(script.order, "i");
	script.last = frame[0];
	script.partial = partial;
	script.device = device;
	if (script.in == CKPT_FILTER_CHANGED)
		frame[0] += (guint8)script.add;
	return script.in;
}

static enum ckpt_filter_verdict script_out(void *filter, guint device, guint8 *frame,
					   gsize len, gboolean partial)
{
	assert_int_equal(len, LEN);
	script.outs++;
	script.last = frame[0];
	script.partial = partial;
	script.device = device;
	frame[0] += (guint8)script.add;
	return script.add ? CKPT_FILTER_CHANGED : CKPT_FILTER_AS_IT_WAS;
}

/* Of frames that begin with 'S'. */
static gsize script_note(guint device, const guint8 *frame, gsize len, guint8 *note)
{
	note[0] = frame[1];
	return frame[0] == 'S' ? 1 : 0;
}

static const char *script_learn(void *filter, const guint8 *note, gsize len)
{
	strcat(script.order, "n");
	return note[0] == 'x' ? "it is an x" : NULL;
}

static guint script_hold_ms(void *filter)
{
	return 5;
}

static const struct ckpt_filter_ops ops = {
	.new = script_new,
	.free = script_free,
	.is_idle = script_is_idle,
	.in = script_in,
	.out = script_out,
	.note = script_note,
	.learn = script_learn,
};

/* With a bound on how long a frame is held. */
static const struct ckpt_filter_ops patient_ops = {
	.new = script_new,
	.free = script_free,
	.is_idle = script_is_idle,
	.in = script_in,
	.out = script_out,
	.hold_ms = script_hold_ms,
};

struct rig {
	vmm_loop *loop;
	ckpt_input *input;
	ckpt_twin *twin; /* of a secondary; else NULL */
	ckpt_mirror *mirror;
	struct ckpt_filter filter;
	struct fake_port real;
	struct vmm_net_port *port; /* what the device has */
	guint readies, outputs, mirrored;
	guint8 output, mirror_mark; /* first byte of the last */
};

static void on_output(void *data, guint64 epoch, guint device, const struct iovec *iov,
		      guint count)
{
	struct rig *rig = data;

	rig->outputs++;
	assert_int_equal(vmm_iov_read(iov, count, FAKE_HEADER, &rig->output, 1), 1);
}

static void on_mirrored(void *data, const struct iovec *iov, guint count)
{
	struct rig *rig = data;

	rig->mirrored++;
	vmm_iov_read(iov, count, sizeof(struct ckpt_input_head) + FAKE_HEADER,
		     &rig->mirror_mark, 1);
}

static void on_ready(void *net)
{
	((struct rig *)net)->readies++;
}

static struct rig *rig_new(gboolean twin)
{
	struct rig *rig = g_new0(struct rig, 1);
	struct vmm_net_port *port = &rig->real.port;

	script = (struct script){ .in = CKPT_FILTER_CHANGED, .add = 100 };
	rig->loop = vmm_loop_new(NULL);
	fake_port_init(&rig->real, 0x1000);
	rig->mirror = ckpt_mirror_new(NULL, NULL);
	ckpt_filter_init(&rig->filter, &ops, twin);
	if (twin) {
		rig->input = ckpt_input_new(1, 8u << 20);
		rig->twin = ckpt_twin_new(rig->input, on_output, rig);
		ckpt_twin_set_filter(rig->twin, &rig->filter);
		port = ckpt_twin_port_new_take(rig->twin, 0, port, rig->loop, NULL);
	}
	port = ckpt_mirror_port_new_take(port, 0, rig->mirror, NULL);
	rig->port = ckpt_filter_port_new_take(port, 0, &rig->filter);
	assert_int_equal(rig->port->features, 0x1000);
	rig->port->attach(rig->port->data, on_ready, rig);
	rig->port->want_receive(rig->port->data, TRUE);
	return rig;
}

static void rig_free(struct rig *rig)
{
	rig->port->free(rig->port->data);
	assert_true(rig->real.freed);
	fake_port_clear(&rig->real);
	ckpt_twin_free(rig->twin);
	ckpt_input_free(rig->input);
	ckpt_mirror_free(rig->mirror);
	ckpt_filter_clear(&rig->filter);
	vmm_loop_free(rig->loop);
	g_free(rig);
}

static void run_loop(struct rig *rig)
{
	while (vmm_loop_iterate(rig->loop, 0))
		;
}

static void come(struct rig *rig, guint8 mark)
{
	guint8 bytes[LEN] = { mark };

	fake_port_coming(&rig->real, 0, bytes, sizeof(bytes));
}

/* As mirrored from a primary, to be segmented. */
static void add(struct rig *rig, guint8 mark)
{
	struct {
		struct ckpt_input_head head;
		guint8 frame[FAKE_HEADER + LEN];
	} item = { .head = { .number = wire_put64(ckpt_input_last(rig->input) + 1),
			     .kind = CKPT_INPUT_NET },
		   .frame = { VIRTIO_NET_HDR_F_NEEDS_CSUM, [FAKE_HEADER] = mark } };

	assert_null(ckpt_input_add(rig->input, &item, sizeof(item)));
	ckpt_twin_wake(rig->twin);
}

/* The guest receives the frame with this mark; 0: none. */
static void expect(struct rig *rig, guint8 mark)
{
	gssize got;
	g_autoptr(GBytes) frame = fake_port_receive(rig->port, 2000, &got);

	if (!mark) {
		assert_int_equal(got, 0);
		return;
	}
	assert_int_equal(got, FAKE_HEADER + LEN);
	assert_int_equal(((const guint8 *)g_bytes_get_data(frame, NULL))[FAKE_HEADER],
			 mark);
}

static gboolean say(struct rig *rig, guint8 mark)
{
	guint8 bytes[LEN] = { mark };

	return fake_port_send(rig->port, bytes, sizeof(bytes));
}

static void expect_sent(struct rig *rig, guint index, guint8 mark)
{
	gsize len;
	const guint8 *frame = fake_port_sent(&rig->real, index, &len);

	assert_int_equal(len, LEN);
	assert_int_equal(frame[0], mark);
}

static void a_primarys_frames_are_changed_and_mirrored_as_they_came(void **state)
{
	struct rig *rig = rig_new(FALSE);

	ckpt_mirror_start(rig->mirror, on_mirrored, rig);
	come(rig, 1);
	expect(rig, 101);
	assert_int_equal(rig->mirrored, 1);
	assert_int_equal(rig->mirror_mark, 1);
	assert_false(script.partial);
	script.in = CKPT_FILTER_AS_IT_WAS;
	come(rig, 2);
	expect(rig, 2);
	/* There is nothing that it could wait for. */
	script.in = CKPT_FILTER_HOLD;
	come(rig, 3);
	expect(rig, 3);
	assert_int_equal(script.ins, 3);
	expect(rig, 0);
	assert_true(say(rig, 4));
	expect_sent(rig, 0, 104);
	rig_free(rig);
}

static void an_idle_filter_of_a_primary_sees_nothing(void **state)
{
	struct rig *rig = rig_new(FALSE);

	script.idle = TRUE;
	come(rig, 1);
	expect(rig, 1);
	assert_true(say(rig, 2));
	expect_sent(rig, 0, 2);
	assert_int_equal(script.ins + script.outs, 0);
	rig_free(rig);
}

static void a_frame_that_there_is_no_room_for_is_shown_again(void **state)
{
	struct rig *rig = rig_new(FALSE);

	rig->real.room = 0;
	assert_false(say(rig, 1));
	rig->real.room = 1;
	assert_true(say(rig, 1));
	assert_int_equal(script.outs, 2);
	assert_int_equal(script.last, 1);
	expect_sent(rig, 0, 101);
	rig_free(rig);
}

static void a_secondarys_frames_are_changed_and_kept_as_they_came(void **state)
{
	struct rig *rig = rig_new(TRUE);

	script.idle = TRUE; /* and shown them all nevertheless */
	add(rig, 1);
	add(rig, 2);
	expect(rig, 101);
	assert_true(script.partial);
	expect(rig, 102);
	assert_int_equal(script.ins, 2);
	assert_true(say(rig, 3));
	assert_int_equal(script.outs, 1);
	assert_int_equal(rig->output, 103);
	assert_int_equal(rig->real.sent->len, 0);
	/* After a checkpoint it gets them again, once changed. */
	ckpt_input_applied(rig->input, 0);
	ckpt_twin_set_epoch(rig->twin, 1);
	expect(rig, 101);
	expect(rig, 102);
	expect(rig, 0);
	rig_free(rig);
}

static void a_frame_that_is_held_waits_until_the_guest_sends(void **state)
{
	struct rig *rig = rig_new(TRUE);
	guint readies;

	script.in = CKPT_FILTER_HOLD;
	add(rig, 1);
	add(rig, 2);
	run_loop(rig);
	assert_int_equal(rig->readies, 1);
	expect(rig, 0);
	assert_int_equal(script.ins, 1);
	/* It is not asked about again, and the device not told, for what comes behind
	 * it. */
	add(rig, 3);
	ckpt_twin_wake(rig->twin);
	run_loop(rig);
	expect(rig, 0);
	assert_int_equal(rig->readies, 1);
	assert_int_equal(script.ins, 1);
	/* What the guest sends is seen before what waited for it. */
	assert_true(say(rig, 9));
	assert_int_equal(script.last, 9);
	run_loop(rig);
	assert_int_equal(rig->readies, 2);
	expect(rig, 0);
	assert_int_equal(script.ins, 2);
	script.in = CKPT_FILTER_CHANGED;
	readies = rig->readies;
	assert_true(say(rig, 9));
	run_loop(rig);
	assert_int_equal(rig->readies, readies + 1);
	expect(rig, 101);
	expect(rig, 102);
	expect(rig, 103);
	expect(rig, 0);
	rig_free(rig);
}

static void a_frame_that_is_held_is_asked_about_again_at_an_apply(void **state)
{
	struct rig *rig = rig_new(TRUE);

	script.in = CKPT_FILTER_HOLD;
	add(rig, 1);
	expect(rig, 0);
	script.in = CKPT_FILTER_CHANGED;
	ckpt_input_applied(rig->input, 0);
	ckpt_twin_set_epoch(rig->twin, 1);
	run_loop(rig);
	assert_true(rig->readies > 0);
	expect(rig, 101);
	/* One that the checkpoint covers is gone. */
	script.in = CKPT_FILTER_HOLD;
	add(rig, 2);
	expect(rig, 0);
	ckpt_input_applied(rig->input, 2);
	ckpt_twin_set_epoch(rig->twin, 2);
	script.in = CKPT_FILTER_CHANGED;
	add(rig, 3);
	expect(rig, 103);
	rig_free(rig);
}

static void a_frame_is_not_held_for_longer_than_the_filter_says(void **state)
{
	struct rig *rig = rig_new(TRUE);
	gint64 start;

	rig->filter.ops = &patient_ops;
	script.in = CKPT_FILTER_HOLD;
	add(rig, 1);
	run_loop(rig);
	expect(rig, 0);
	/* Also by who was promoted meanwhile. */
	rig->filter.is_twin = FALSE;
	ckpt_twin_promote(rig->twin);
	run_loop(rig);
	start = g_get_monotonic_time();
	expect(rig, 0);
	rig->readies = 0;
	while (!rig->readies && g_get_monotonic_time() - start < 5000000)
		vmm_loop_iterate(rig->loop, 100);
	assert_int_equal(rig->readies, 1);
	assert_true(g_get_monotonic_time() - start >= 4000);
	script.in = CKPT_FILTER_CHANGED;
	expect(rig, 101);
	rig_free(rig);
}

/* What the primary's guest says of a connection, its secondary's filter hears before
 * what comes of it, and again after a checkpoint that does not cover it. */
static void notes_have_their_place_among_the_frames(void **state)
{
	struct rig *rig = rig_new(TRUE);
	struct {
		struct ckpt_input_head head;
		guint8 note[1];
	} item = { .head = { .kind = CKPT_INPUT_NOTE }, .note = { 'y' } };

	add(rig, 1);
	item.head.number = wire_put64(2);
	assert_null(ckpt_input_add(rig->input, &item, sizeof(item)));
	add(rig, 2);
	item.head.number = wire_put64(4);
	item.note[0] = 'x';
	assert_null(ckpt_input_add(rig->input, &item, sizeof(item)));
	ckpt_twin_wake(rig->twin);
	expect(rig, 101);
	expect(rig, 102);
	expect(rig, 0);
	assert_string_equal(script.order, "inin");
	ckpt_input_applied(rig->input, 1);
	ckpt_twin_set_epoch(rig->twin, 1);
	expect(rig, 102);
	expect(rig, 0);
	assert_string_equal(script.order, "ininnin");
	rig_free(rig);
}

static void on_item(void *data, const struct iovec *iov, guint count)
{
	struct rig *rig = data;
	struct {
		struct ckpt_input_head head;
		guint8 first;
	} item;

	assert_int_equal(vmm_iov_read(iov, count, 0, &item, 17), 17);
	rig->mirrored++;
	rig->mirror_mark = item.head.kind == CKPT_INPUT_NOTE ? item.first : 0;
}

static void a_primary_notes_what_its_guest_sent_as_it_left(void **state)
{
	struct rig *rig = rig_new(FALSE);
	guint8 bytes[LEN] = { 'S' - 100, 'k' };

	assert_true(fake_port_send(rig->port, bytes, sizeof(bytes)));
	ckpt_mirror_set_filter(rig->mirror, &ops);
	assert_true(fake_port_send(rig->port, bytes, sizeof(bytes)));
	assert_int_equal(ckpt_mirror_number(rig->mirror), 0);
	ckpt_mirror_start(rig->mirror, on_item, rig);
	assert_true(fake_port_send(rig->port, bytes, sizeof(bytes)));
	assert_int_equal(rig->mirrored, 1);
	assert_int_equal(rig->mirror_mark, 'k');
	assert_int_equal(ckpt_mirror_number(rig->mirror), 1);
	/* It did not leave; it is none. */
	rig->real.room = 0;
	assert_false(fake_port_send(rig->port, bytes, sizeof(bytes)));
	rig->real.room = 10;
	assert_true(say(rig, 'S'));
	assert_int_equal(rig->mirrored, 1);
	rig_free(rig);
}

/* Promoted, it waits for nothing; and what it gets is mirrored as it came, to its own
 * secondary. */
static void a_promoted_guests_frames_are_changed_once(void **state)
{
	struct rig *rig = rig_new(TRUE);

	script.in = CKPT_FILTER_HOLD;
	add(rig, 1);
	add(rig, 2);
	expect(rig, 0);
	rig->filter.is_twin = FALSE;
	ckpt_twin_promote(rig->twin);
	run_loop(rig);
	expect(rig, 1);
	script.in = CKPT_FILTER_CHANGED;
	expect(rig, 102);
	ckpt_mirror_start(rig->mirror, on_mirrored, rig);
	come(rig, 3);
	expect(rig, 103);
	assert_int_equal(rig->mirror_mark, 3);
	assert_int_equal(script.ins, 4);
	assert_true(say(rig, 4));
	expect_sent(rig, 0, 104);
	assert_int_equal(rig->outputs, 0);
	script.idle = TRUE;
	come(rig, 5);
	expect(rig, 5);
	assert_true(say(rig, 6));
	expect_sent(rig, 1, 6);
	rig_free(rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_primarys_frames_are_changed_and_mirrored_as_they_came),
		cmocka_unit_test(an_idle_filter_of_a_primary_sees_nothing),
		cmocka_unit_test(a_frame_that_there_is_no_room_for_is_shown_again),
		cmocka_unit_test(a_secondarys_frames_are_changed_and_kept_as_they_came),
		cmocka_unit_test(a_frame_that_is_held_waits_until_the_guest_sends),
		cmocka_unit_test(a_frame_that_is_held_is_asked_about_again_at_an_apply),
		cmocka_unit_test(a_frame_is_not_held_for_longer_than_the_filter_says),
		cmocka_unit_test(notes_have_their_place_among_the_frames),
		cmocka_unit_test(a_primary_notes_what_its_guest_sent_as_it_left),
		cmocka_unit_test(a_promoted_guests_frames_are_changed_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
