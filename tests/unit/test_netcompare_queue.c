/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verdicts that the kernel has no memory for. A healthy kernel takes them all: so the call is
 * replaced, and netcompare/queue.c is included here as text, with no queue bound.
 */
#include <errno.h>
#include <glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <cmocka.h>

static struct {
	gboolean refuses;
	GByteArray *taken;
} wire;

static ssize_t inject_sendto(int fd, const void *bytes, size_t len, int flags,
			     const struct sockaddr *to, socklen_t to_len)
{
	if (wire.refuses) {
		errno = ENOBUFS;
		return -1;
	}
	g_byte_array_append(wire.taken, bytes, (guint)len);
	return (ssize_t)len;
}

#define sendto inject_sendto
#include "netcompare/queue.c"

static gboolean may_pass(void *data)
{
	return TRUE;
}

static void on_overrun(void *data)
{
	(*(guint *)data)++;
}

/* The last verdict that the kernel took. */
static guint32 verdict_taken(void)
{
	const guint where = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)) + NLA_HDRLEN;
	guint32 message, verdict = G_MAXUINT32;

	for (guint at = 0; at < wire.taken->len; at += NLMSG_ALIGN(message)) {
		memcpy(&message, wire.taken->data + at, sizeof(message));
		memcpy(&verdict, wire.taken->data + at + where, sizeof(verdict));
	}
	return ntohl(verdict);
}

/* Its one packet is accepted, and the kernel did not take that. */
static ncmp_queue *queue_with_a_refused_verdict(guint *overruns)
{
	const struct ncmp_queue_hooks hooks = { .data = overruns, .overrun = on_overrun,
						.may_pass = may_pass };
	ncmp_queue *queue = g_new0(ncmp_queue, 1);

	queue->hooks = hooks;
	queue->fd = queue->list = -1;
	queue->verdicts = ncmp_verdicts_new();
	queue->out = g_byte_array_new();
	ncmp_verdicts_arrived(queue->verdicts, 1, 60);
	wire.refuses = TRUE;
	ncmp_queue_accept(queue, 1, NULL, 0);
	ncmp_queue_flush(queue);
	wire.refuses = FALSE;
	return queue;
}

static int setup(void **state)
{
	wire.refuses = FALSE;
	wire.taken = g_byte_array_new();
	return 0;
}

static int teardown(void **state)
{
	g_byte_array_unref(wire.taken);
	return 0;
}

static void what_the_kernel_did_not_take_is_said_again(void **state)
{
	guint overruns = 0;
	g_autoptr(ncmp_queue) queue = queue_with_a_refused_verdict(&overruns);

	assert_false(ncmp_queue_is_said(queue));
	assert_int_equal(overruns, 1);
	ncmp_queue_flush(queue);
	assert_true(ncmp_queue_is_said(queue));
	assert_int_equal(verdict_taken(), NF_ACCEPT);
}

static void what_is_recalled_does_not_pass_though_it_was_said_before(void **state)
{
	guint overruns = 0;
	g_autoptr(ncmp_queue) queue = queue_with_a_refused_verdict(&overruns);

	ncmp_queue_recall(queue);
	ncmp_queue_flush(queue);
	assert_true(ncmp_queue_is_said(queue));
	assert_int_equal(verdict_taken(), NF_DROP);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(what_the_kernel_did_not_take_is_said_again),
		TEST(what_is_recalled_does_not_pass_though_it_was_said_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
