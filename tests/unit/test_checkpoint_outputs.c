/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-vm's end of the comparator's socket, and a comparator that is scripted. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/outputs.h"

#define PATIENCE_US 10000000

static const guint8 mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

struct rig {
	char *dir, *path;
	ckpt_outputs *outputs;
	int fd; /* the comparator's */
	guint8 secret[WIRE_OUTPUT_SECRET];
	/* The last message. */
	struct wire_output_head head;
	guint8 payload[WIRE_OUTPUT_FRAME_MAX];
	gsize len;

	GMutex lock; /* of what the hooks told */
	GCond changed;
	guint readies, goings, requests, modes, drained;
	guint32 cause;
	gboolean compare;
	char *why;
};

static void on_ready(void *data, const char *why)
{
	struct rig *rig = data;

	g_mutex_lock(&rig->lock);
	if (why) {
		rig->goings++;
		g_free(rig->why);
		rig->why = g_strdup(why);
	} else {
		rig->readies++;
	}
	g_cond_broadcast(&rig->changed);
	g_mutex_unlock(&rig->lock);
}

static void on_request(void *data, guint32 cause)
{
	struct rig *rig = data;

	g_mutex_lock(&rig->lock);
	rig->requests++;
	rig->cause = cause;
	g_cond_broadcast(&rig->changed);
	g_mutex_unlock(&rig->lock);
}

static void on_mode(void *data, gboolean compare, const char *why)
{
	struct rig *rig = data;

	g_mutex_lock(&rig->lock);
	rig->modes++;
	rig->compare = compare;
	g_free(rig->why);
	rig->why = g_strdup(why);
	g_cond_broadcast(&rig->changed);
	g_mutex_unlock(&rig->lock);
}

static void on_drained(void *data)
{
	struct rig *rig = data;

	g_mutex_lock(&rig->lock);
	rig->drained++;
	g_cond_broadcast(&rig->changed);
	g_mutex_unlock(&rig->lock);
}

static guint count_of(struct rig *rig, const guint *counter)
{
	guint count;

	g_mutex_lock(&rig->lock);
	count = *counter;
	g_mutex_unlock(&rig->lock);
	return count;
}

static void wait_for(struct rig *rig, const guint *counter, guint value)
{
	gint64 until = g_get_monotonic_time() + PATIENCE_US;

	g_mutex_lock(&rig->lock);
	while (*counter < value && g_cond_wait_until(&rig->changed, &rig->lock, until))
		;
	g_mutex_unlock(&rig->lock);
	assert_int_equal(count_of(rig, counter), value);
}

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);
	const struct ckpt_outputs_hooks hooks = { rig, on_ready, on_request, on_mode,
						  on_drained };
	g_autoptr(GError) error = NULL;

	g_mutex_init(&rig->lock);
	g_cond_init(&rig->changed);
	rig->fd = -1;
	rig->dir = g_dir_make_tmp("colo-outputs-XXXXXX", NULL);
	rig->path = g_build_filename(rig->dir, "outputs.sock", NULL);
	rig->outputs = ckpt_outputs_new(rig->path, 2, &hooks, &error);
	assert_non_null(rig->outputs);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	if (rig->fd >= 0)
		close(rig->fd);
	ckpt_outputs_free(rig->outputs);
	assert_int_equal(access(rig->path, F_OK), -1);
	rmdir(rig->dir);
	g_free(rig->dir);
	g_free(rig->path);
	g_free(rig->why);
	g_mutex_clear(&rig->lock);
	g_cond_clear(&rig->changed);
	g_free(rig);
	return 0;
}

static int dial(struct rig *rig)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = 10 };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	g_strlcpy(address.sun_path, rig->path, sizeof(address.sun_path));
	assert_return_code(connect(fd, (struct sockaddr *)&address, sizeof(address)),
			   errno);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* FALSE: the connection has ended. */
static gboolean hear(struct rig *rig)
{
	struct iovec iov[] = { { &rig->head, sizeof(rig->head) },
			       { rig->payload, sizeof(rig->payload) } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };
	gssize got;

	do
		got = recvmsg(rig->fd, &message, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0 && errno != ECONNRESET)
		fail_msg("recv: %s", g_strerror(errno));
	if (got <= 0)
		return FALSE;
	assert_true(got >= (gssize)sizeof(rig->head) &&
		    !(message.msg_flags & MSG_TRUNC));
	rig->len = (gsize)got - sizeof(rig->head);
	assert_int_equal(wire_get32(rig->head.length), rig->len);
	return TRUE;
}

static void expect(struct rig *rig, guint type, guint64 epoch)
{
	assert_true(hear(rig));
	assert_int_equal(wire_get16(rig->head.type), type);
	assert_int_equal(wire_get64(rig->head.epoch), epoch);
}

static void expect_gate(struct rig *rig, guint kind)
{
	expect(rig, WIRE_OUTPUT_GATE, 0);
	assert_int_equal(rig->len, sizeof(struct wire_output_gate));
	assert_int_equal(rig->payload[0], kind);
}

static void expect_cut(struct rig *rig, guint64 epoch, guint run)
{
	expect(rig, WIRE_OUTPUT_CUT, epoch);
	assert_int_equal(rig->len, sizeof(struct wire_output_cut));
	assert_int_equal(rig->payload[0], run);
}

static void expect_frame(struct rig *rig, guint64 epoch, guint8 mark)
{
	expect(rig, WIRE_OUTPUT_FRAME, epoch);
	assert_int_equal(rig->payload[0], mark);
}

/* Nothing more is said. */
static void expect_silence(struct rig *rig)
{
	guint8 byte;

	g_usleep(20000);
	assert_int_equal(recv(rig->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK), -1);
	assert_int_equal(errno, EAGAIN);
}

static void speak(struct rig *rig, guint type, guint64 epoch, const void *payload,
		  gsize len)
{
	struct wire_output_head head = { .type = wire_put16((guint16)type),
					 .length = wire_put32((guint32)len),
					 .epoch = wire_put64(epoch) };
	struct iovec iov[] = { { &head, sizeof(head) }, { (void *)payload, len } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };

	assert_int_equal(sendmsg(rig->fd, &message, MSG_NOSIGNAL), sizeof(head) + len);
}

static void come(struct rig *rig)
{
	struct wire_output_hello hello;

	rig->fd = dial(rig);
	expect(rig, WIRE_OUTPUT_HELLO, 0);
	assert_int_equal(rig->len, sizeof(hello));
	memcpy(&hello, rig->payload, sizeof(hello));
	assert_int_equal(wire_get32(hello.version), WIRE_OUTPUT_VERSION);
	assert_int_equal(wire_get32(hello.cards), 2);
	memcpy(rig->secret, hello.secret, sizeof(rig->secret));
}

static void leave(struct rig *rig)
{
	guint goings = count_of(rig, &rig->goings);

	close(rig->fd);
	rig->fd = -1;
	wait_for(rig, &rig->goings, goings + 1);
}

/* Comes, and is ready at this gate. */
static void get_ready(struct rig *rig, guint gate)
{
	guint readies = count_of(rig, &rig->readies);

	come(rig);
	speak(rig, WIRE_OUTPUT_READY, 0, NULL, 0);
	expect_gate(rig, gate);
	wait_for(rig, &rig->readies, readies + 1);
	assert_true(ckpt_outputs_is_ready(rig->outputs));
}

static gboolean cut(struct rig *rig, guint64 epoch)
{
	guint8 marker[CKPT_MARKER_BYTES];

	return ckpt_outputs_cut(rig->outputs, epoch, TRUE, mac, marker);
}

static void frame(struct rig *rig, guint64 epoch, guint8 mark)
{
	guint8 bytes[60] = { mark };

	ckpt_outputs_frame(rig->outputs, epoch, 1, FALSE, bytes, sizeof(bytes));
}

static struct ckpt_outputs_counters counters_of(struct rig *rig)
{
	struct ckpt_outputs_counters counters;

	ckpt_outputs_get_counters(rig->outputs, &counters);
	return counters;
}

static void the_socket_is_its_owners_alone(void **state)
{
	struct rig *rig = *state;
	struct stat st;

	assert_return_code(stat(rig->path, &st), errno);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void a_socket_that_is_served_is_not_replaced_and_a_stale_one_is(void **state)
{
	struct rig *rig = *state;
	const struct ckpt_outputs_hooks hooks = { rig, on_ready, on_request, on_mode,
						  on_drained };
	g_autofree char *stale = g_build_filename(rig->dir, "stale.sock", NULL);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	g_autoptr(GError) error = NULL;
	ckpt_outputs *other = ckpt_outputs_new(rig->path, 1, &hooks, &error);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_null(other);
	assert_non_null(strstr(error->message, "in use"));
	g_strlcpy(address.sun_path, stale, sizeof(address.sun_path));
	assert_return_code(bind(fd, (struct sockaddr *)&address, sizeof(address)),
			   errno);
	close(fd);
	other = ckpt_outputs_new(stale, 1, &hooks, NULL);
	assert_non_null(other);
	ckpt_outputs_free(other);
}

static void before_it_is_ready_it_is_told_nothing(void **state)
{
	struct rig *rig = *state;

	come(rig);
	ckpt_outputs_set_gate(rig->outputs, WIRE_GATE_OPEN);
	assert_false(cut(rig, 1));
	ckpt_outputs_committed(rig->outputs, 1);
	frame(rig, 1, 7);
	expect_silence(rig);
	assert_int_equal(counters_of(rig).stale, 1);
}

static guint sum16(const guint8 *bytes, gsize len)
{
	guint32 sum = 0;

	for (gsize i = 0; i < len; i += 2)
		sum += (guint32)bytes[i] << 8 | bytes[i + 1];
	return (sum & 0xffff) + (sum >> 16);
}

static void gates_cuts_commits_and_frames_come_in_order(void **state)
{
	struct rig *rig = *state;
	guint8 marker[CKPT_MARKER_BYTES];
	struct wire_marker inner;

	get_ready(rig, WIRE_GATE_CLOSED);
	ckpt_outputs_set_gate(rig->outputs, WIRE_GATE_OPEN);
	ckpt_outputs_set_gate(rig->outputs, WIRE_GATE_OPEN);
	expect_gate(rig, WIRE_GATE_OPEN);
	assert_true(ckpt_outputs_cut(rig->outputs, 1, TRUE, mac, marker));
	expect_gate(rig, WIRE_GATE_GUARDED);
	expect_cut(rig, 1, 1);
	assert_memory_equal(marker, mac, 6);
	assert_memory_equal(marker + 6, mac, 6);
	assert_int_equal(marker[12] << 8 | marker[13], 0x0800);
	assert_int_equal(sum16(marker + 14, 20), 0xffff);
	assert_int_equal(marker[14 + 3], 20 + sizeof(inner));
	assert_int_equal(marker[14 + 9], WIRE_MARKER_PROTOCOL);
	memcpy(&inner, marker + 34, sizeof(inner));
	assert_int_equal(wire_get32(inner.magic), WIRE_MARKER_MAGIC);
	assert_int_equal(wire_get64(inner.epoch), 1);
	assert_memory_equal(inner.secret, rig->secret, sizeof(rig->secret));
	/* Too early, in time, too late. */
	frame(rig, 1, 1);
	ckpt_outputs_committed(rig->outputs, 1);
	frame(rig, 1, 2);
	ckpt_outputs_marked(rig->outputs, TRUE);
	assert_true(ckpt_outputs_cut(rig->outputs, 2, FALSE, mac, marker));
	ckpt_outputs_marked(rig->outputs, FALSE);
	frame(rig, 1, 3);
	ckpt_outputs_committed(rig->outputs, 2);
	frame(rig, 1, 4);
	ckpt_outputs_frame(rig->outputs, 2, 0, TRUE, "x", 1);
	expect(rig, WIRE_OUTPUT_COMMITTED, 1);
	assert_int_equal(rig->len, 0);
	expect_frame(rig, 1, 2);
	assert_int_equal(wire_get16(rig->head.device), 1);
	expect_cut(rig, 2, 0);
	expect_frame(rig, 1, 3);
	expect(rig, WIRE_OUTPUT_COMMITTED, 2);
	expect(rig, WIRE_OUTPUT_LOST, 2);
	expect_frame(rig, 2, 'x');
	ckpt_outputs_set_gate(rig->outputs, WIRE_GATE_CLOSED);
	expect_gate(rig, WIRE_GATE_CLOSED);
	frame(rig, 2, 5);
	ckpt_outputs_committed(rig->outputs, 3);
	expect_silence(rig);
	assert_int_equal(counters_of(rig).frames, 3);
	assert_int_equal(counters_of(rig).stale, 3);
	assert_int_equal(counters_of(rig).lost, 1);
	assert_int_equal(counters_of(rig).markers_sent, 1);
	assert_int_equal(counters_of(rig).markers_missed, 1);
}

static void another_replication_goes_on_counting(void **state)
{
	struct rig *rig = *state;

	get_ready(rig, WIRE_GATE_CLOSED);
	for (guint64 epoch = 1; epoch <= 3; epoch++)
		assert_true(cut(rig, epoch));
	ckpt_outputs_set_gate(rig->outputs, WIRE_GATE_OPEN);
	assert_true(cut(rig, 1));
	ckpt_outputs_committed(rig->outputs, 1);
	frame(rig, 1, 9);
	expect_gate(rig, WIRE_GATE_GUARDED);
	for (guint64 epoch = 1; epoch <= 3; epoch++)
		expect_cut(rig, epoch, 1);
	expect_gate(rig, WIRE_GATE_OPEN);
	expect_gate(rig, WIRE_GATE_GUARDED);
	expect_cut(rig, 4, 1);
	expect(rig, WIRE_OUTPUT_COMMITTED, 4);
	expect_frame(rig, 4, 9);
}

static void who_comes_in_the_midst_of_things_begins_with_the_next_cut(void **state)
{
	struct rig *rig = *state;

	get_ready(rig, WIRE_GATE_CLOSED);
	assert_true(cut(rig, 1));
	ckpt_outputs_committed(rig->outputs, 1);
	leave(rig);
	assert_string_equal(rig->why, "it has left");
	assert_false(cut(rig, 2));
	get_ready(rig, WIRE_GATE_GUARDED);
	expect_cut(rig, 2, 1);
	/* It has no marker of that epoch. */
	ckpt_outputs_committed(rig->outputs, 2);
	frame(rig, 2, 1);
	expect_silence(rig);
	assert_true(cut(rig, 3));
	ckpt_outputs_committed(rig->outputs, 3);
	frame(rig, 3, 2);
	expect_cut(rig, 3, 1);
	expect(rig, WIRE_OUTPUT_COMMITTED, 3);
	expect_frame(rig, 3, 2);
	assert_int_equal(counters_of(rig).connections, 2);
	assert_int_equal(counters_of(rig).hung_up, 0);
}

static void a_second_one_is_turned_away(void **state)
{
	struct rig *rig = *state;
	guint8 byte;
	int fd;

	get_ready(rig, WIRE_GATE_CLOSED);
	fd = dial(rig);
	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	close(fd);
	ckpt_outputs_set_gate(rig->outputs, WIRE_GATE_OPEN);
	expect_gate(rig, WIRE_GATE_OPEN);
}

static void what_is_asked_for_is_handed_on_unless_it_is_over(void **state)
{
	struct rig *rig = *state;
	struct wire_output_request request = { .cause = wire_put32(4) };

	get_ready(rig, WIRE_GATE_CLOSED);
	cut(rig, 1);
	cut(rig, 2);
	speak(rig, WIRE_OUTPUT_REQUEST, 1, &request, sizeof(request));
	speak(rig, WIRE_OUTPUT_REQUEST, 2, &request, sizeof(request));
	wait_for(rig, &rig->requests, 1);
	assert_int_equal(rig->cause, 4);
	request.cause = wire_put32(4000);
	speak(rig, WIRE_OUTPUT_REQUEST, 0, &request, sizeof(request));
	wait_for(rig, &rig->requests, 2);
	assert_int_equal(counters_of(rig).late_requests, 1);
	assert_int_equal(counters_of(rig).requests[4], 1);
	assert_int_equal(counters_of(rig).requests[0], 1);
}

static void what_a_commit_lets_go_is_asked_after_and_answered_once(void **state)
{
	struct rig *rig = *state;

	assert_false(ckpt_outputs_drain(rig->outputs)); /* nobody is there */
	get_ready(rig, WIRE_GATE_CLOSED);
	assert_false(ckpt_outputs_drain(rig->outputs)); /* nothing is guarded */
	cut(rig, 1);
	expect_gate(rig, WIRE_GATE_GUARDED);
	expect_cut(rig, 1, 1);
	assert_false(ckpt_outputs_drain(rig->outputs)); /* nor committed */
	ckpt_outputs_committed(rig->outputs, 1);
	expect(rig, WIRE_OUTPUT_COMMITTED, 1);
	assert_true(ckpt_outputs_drain(rig->outputs));
	expect(rig, WIRE_OUTPUT_DRAIN, 1);
	assert_int_equal(count_of(rig, &rig->drained), 0);
	speak(rig, WIRE_OUTPUT_DRAINED, 1, NULL, 0);
	wait_for(rig, &rig->drained, 1);
	/* A second answer is one that nobody asked for. */
	speak(rig, WIRE_OUTPUT_DRAINED, 1, NULL, 0);
	assert_false(hear(rig));
	wait_for(rig, &rig->goings, 1);
	assert_string_equal(rig->why, "it answers what nobody asked");
	assert_int_equal(count_of(rig, &rig->drained), 1);
}

static void who_comes_after_a_commit_is_not_asked_what_it_let_go(void **state)
{
	struct rig *rig = *state;

	get_ready(rig, WIRE_GATE_CLOSED);
	cut(rig, 1);
	ckpt_outputs_committed(rig->outputs, 1);
	close(rig->fd);
	wait_for(rig, &rig->goings, 1);
	get_ready(rig, WIRE_GATE_GUARDED);
	assert_false(ckpt_outputs_drain(rig->outputs));
}

static void a_mode_is_told_with_its_reason_and_not_too_often(void **state)
{
	struct rig *rig = *state;
	guint8 mode[] = { 0, 0, 0, 0, 0, 0, 0, 0, 'a', '\n', 0xc3, 0xa4, 'b' };

	get_ready(rig, WIRE_GATE_CLOSED);
	speak(rig, WIRE_OUTPUT_MODE, 0, mode, sizeof(mode));
	wait_for(rig, &rig->modes, 1);
	assert_false(rig->compare);
	assert_string_equal(rig->why, "a?\xc3\xa4"
				      "b");
	g_usleep(150000);
	mode[0] = 1;
	speak(rig, WIRE_OUTPUT_MODE, 0, mode, sizeof(mode));
	wait_for(rig, &rig->modes, 2);
	assert_true(rig->compare);
	speak(rig, WIRE_OUTPUT_MODE, 0, mode, sizeof(mode));
	assert_false(hear(rig));
	wait_for(rig, &rig->goings, 1);
	assert_string_equal(rig->why, "it changes the mode too often");
}

struct nonsense {
	guint type, device;
	gsize says, has;
	guint8 first, ninth;
	gboolean early; /* before it is ready */
};

/* Each ends the connection, and the next comparator is served. */
static void nonsense_ends_the_connection(void **state)
{
	static const struct nonsense all[] = {
		{ 0, 0, 0, 0 },
		{ WIRE_OUTPUT_GATE, 0, 8, 8 },
		{ WIRE_OUTPUT_READY, 0, 0, 0 },
		{ WIRE_OUTPUT_READY, 0, 1, 1, .early = TRUE },
		{ WIRE_OUTPUT_READY, 1, 0, 0, .early = TRUE },
		{ WIRE_OUTPUT_READY, 0, 1, 0, .early = TRUE },
		{ WIRE_OUTPUT_REQUEST, 0, 8, 8, .early = TRUE },
		{ WIRE_OUTPUT_REQUEST, 0, 7, 7 },
		{ WIRE_OUTPUT_REQUEST, 0, 9, 9 },
		{ WIRE_OUTPUT_REQUEST, 0, 8, 4 },
		{ WIRE_OUTPUT_MODE, 0, 8, 8, .early = TRUE },
		{ WIRE_OUTPUT_MODE, 0, 7, 7 },
		{ WIRE_OUTPUT_MODE, 0, 8, 8, .first = 2 },
		{ WIRE_OUTPUT_MODE, 0, 9, 9, .ninth = 0xff },
		{ WIRE_OUTPUT_MODE, 0, 10, 10 }, /* a NUL */
		{ WIRE_OUTPUT_MODE, 0, 8 + 257, 8 + 257 },
		{ WIRE_OUTPUT_MODE, 0, 4000, 4000 },
		{ WIRE_OUTPUT_DRAINED, 0, 0, 0 },
		{ WIRE_OUTPUT_DRAINED, 0, 1, 1 },
		{ 65535, 0, 0, 0 },
	};
	struct rig *rig = *state;

	for (guint i = 0; i < G_N_ELEMENTS(all); i++) {
		guint8 bytes[16 + 4096] = { [16] = all[i].first, [24] = all[i].ninth };
		struct wire_output_head head = {
			.type = wire_put16((guint16)all[i].type),
			.device = wire_put16((guint16)all[i].device),
			.length = wire_put32((guint32)all[i].says)
		};

		memcpy(bytes, &head, sizeof(head));
		if (all[i].early)
			come(rig);
		else
			get_ready(rig, WIRE_GATE_CLOSED);
		assert_int_equal(send(rig->fd, bytes, 16 + all[i].has, MSG_NOSIGNAL),
				 16 + all[i].has);
		if (hear(rig))
			fail_msg("nonsense %u was borne", i);
		close(rig->fd);
		rig->fd = -1;
		while (counters_of(rig).connected)
			g_usleep(1000);
	}
	assert_int_equal(counters_of(rig).hung_up, G_N_ELEMENTS(all));
	assert_int_equal(count_of(rig, &rig->requests) + count_of(rig, &rig->modes), 0);
	/* Half a head. */
	get_ready(rig, WIRE_GATE_CLOSED);
	assert_int_equal(send(rig->fd, "abc", 3, MSG_NOSIGNAL), 3);
	assert_false(hear(rig));
}

/* It goes on listening to nobody, and nobody waits for it. */
static void one_that_does_not_read_is_hung_up_on(void **state)
{
	struct rig *rig = *state;
	g_autofree guint8 *bytes = g_malloc0(60000);
	gint64 start, longest = 0;
	guint told = 0;

	get_ready(rig, WIRE_GATE_CLOSED);
	assert_true(cut(rig, 1));
	ckpt_outputs_committed(rig->outputs, 1);
	while (ckpt_outputs_is_ready(rig->outputs) && told < 100000) {
		start = g_get_monotonic_time();
		ckpt_outputs_frame(rig->outputs, 1, 0, FALSE, bytes, 60000);
		longest = MAX(longest, g_get_monotonic_time() - start);
		told++;
	}
	assert_in_range(told, (16 << 20) / 60000, 100000 - 1);
	assert_in_range(longest, 0, 1000000);
	wait_for(rig, &rig->goings, 1);
	assert_string_equal(rig->why, "it does not read what it is told");
	assert_int_equal(counters_of(rig).hung_up, 1);
	while (hear(rig))
		;
	close(rig->fd);
	get_ready(rig, WIRE_GATE_GUARDED);
	expect_cut(rig, 1, 1);
	expect_silence(rig);
}

static void what_the_socket_has_no_room_for_comes_later_and_in_order(void **state)
{
	struct rig *rig = *state;
	guint8 bytes[30000] = { 0 };

	get_ready(rig, WIRE_GATE_CLOSED);
	assert_true(cut(rig, 1));
	ckpt_outputs_committed(rig->outputs, 1);
	for (guint i = 0; i < 200; i++) {
		bytes[0] = (guint8)i;
		ckpt_outputs_frame(rig->outputs, 1, 0, FALSE, bytes, sizeof(bytes));
	}
	expect_gate(rig, WIRE_GATE_GUARDED);
	expect_cut(rig, 1, 1);
	expect(rig, WIRE_OUTPUT_COMMITTED, 1);
	for (guint i = 0; i < 200; i++)
		expect_frame(rig, 1, (guint8)i);
	expect_silence(rig);
	assert_true(ckpt_outputs_is_ready(rig->outputs));
}

static void a_commit_overtakes_what_it_makes_needless(void **state)
{
	struct rig *rig = *state;
	guint8 bytes[30000] = { 0 };
	guint frames = 0;

	get_ready(rig, WIRE_GATE_CLOSED);
	assert_true(cut(rig, 1));
	ckpt_outputs_committed(rig->outputs, 1);
	for (guint i = 0; i < 200; i++)
		ckpt_outputs_frame(rig->outputs, 1, 0, i == 199, bytes, sizeof(bytes));
	assert_true(cut(rig, 2));
	ckpt_outputs_committed(rig->outputs, 2);
	frame(rig, 2, 5);
	expect_gate(rig, WIRE_GATE_GUARDED);
	expect_cut(rig, 1, 1);
	expect(rig, WIRE_OUTPUT_COMMITTED, 1);
	for (;; frames++) {
		assert_true(hear(rig));
		if (wire_get16(rig->head.type) != WIRE_OUTPUT_FRAME)
			break;
	}
	assert_in_range(frames, 1, 150);
	assert_int_equal(wire_get16(rig->head.type), WIRE_OUTPUT_CUT);
	expect(rig, WIRE_OUTPUT_COMMITTED, 2);
	expect_frame(rig, 2, 5);
}

/* Until it reads that outputs are guarded it would let them pass: better it sees the
 * end. */
static void a_gate_that_cannot_be_told_at_once_ends_the_connection(void **state)
{
	struct rig *rig = *state;

	get_ready(rig, WIRE_GATE_CLOSED);
	for (guint i = 0; i < 100000; i++)
		ckpt_outputs_set_gate(rig->outputs,
				      i % 2 ? WIRE_GATE_CLOSED : WIRE_GATE_OPEN);
	assert_true(ckpt_outputs_is_ready(rig->outputs));
	assert_false(cut(rig, 1));
	wait_for(rig, &rig->goings, 1);
	assert_non_null(strstr(rig->why, "no room for the gate"));
	while (hear(rig))
		assert_int_equal(wire_get16(rig->head.type), WIRE_OUTPUT_GATE);
}

/* The primary's threads, as they are: cuts on one; commits and frames on the other. */
struct primary {
	struct rig *rig;
	GMutex lock;
	GCond changed;
	guint64 cut, committed;
};

#define EPOCHS 300u

static void *commit_and_send(void *data)
{
	struct primary *primary = data;

	for (guint64 epoch = 1; epoch <= EPOCHS; epoch++) {
		g_mutex_lock(&primary->lock);
		while (primary->cut < epoch)
			g_cond_wait(&primary->changed, &primary->lock);
		g_mutex_unlock(&primary->lock);
		ckpt_outputs_committed(primary->rig->outputs, epoch);
		for (guint i = 0; i < 5; i++)
			frame(primary->rig, epoch, (guint8)i);
		g_mutex_lock(&primary->lock);
		primary->committed = epoch;
		g_cond_broadcast(&primary->changed);
		g_mutex_unlock(&primary->lock);
	}
	return NULL;
}

static void *take_cuts(void *data)
{
	struct primary *primary = data;

	for (guint64 epoch = 1; epoch <= EPOCHS; epoch++) {
		g_mutex_lock(&primary->lock);
		while (primary->committed + 1 < epoch)
			g_cond_wait(&primary->changed, &primary->lock);
		g_mutex_unlock(&primary->lock);
		if (cut(primary->rig, epoch))
			ckpt_outputs_marked(primary->rig->outputs, TRUE);
		g_mutex_lock(&primary->lock);
		primary->cut = epoch;
		g_cond_broadcast(&primary->changed);
		g_mutex_unlock(&primary->lock);
	}
	return NULL;
}

/* FALSE: the last epoch was committed, and nothing of it is there to be heard: who came
 * after its cut is told nothing more. */
static gboolean more_comes(struct rig *rig)
{
	struct pollfd pollfd = { .fd = rig->fd, .events = POLLIN };
	gboolean over;

	do
		over = counters_of(rig).committed == EPOCHS;
	while (poll(&pollfd, 1, 10) == 0 && !over);
	return pollfd.revents != 0;
}

/* What one comparator may hear; comes and goes. */
static void comparators_that_come_and_go_hear_things_in_order(void **state)
{
	struct rig *rig = *state;
	struct primary primary = { .rig = rig };
	GThread *threads[2];
	guint64 cut_epoch = 0, committed = 0;
	guint frames = 0, visits = 0;

	g_mutex_init(&primary.lock);
	g_cond_init(&primary.changed);
	come(rig);
	speak(rig, WIRE_OUTPUT_READY, 0, NULL, 0);
	threads[0] = g_thread_new("link", commit_and_send, &primary);
	threads[1] = g_thread_new("checkpoint", take_cuts, &primary);
	while (committed < EPOCHS && visits < 200 && more_comes(rig)) {
		guint64 epoch;

		assert_true(hear(rig));
		epoch = wire_get64(rig->head.epoch);
		switch (wire_get16(rig->head.type)) {
		case WIRE_OUTPUT_CUT:
			assert_true(epoch > cut_epoch);
			cut_epoch = epoch;
			break;
		case WIRE_OUTPUT_COMMITTED:
			assert_true(epoch == cut_epoch && epoch > committed);
			committed = epoch;
			break;
		case WIRE_OUTPUT_FRAME:
			assert_int_equal(epoch, committed);
			frames++;
			break;
		default:
			assert_int_equal(wire_get16(rig->head.type), WIRE_OUTPUT_GATE);
		}
		if (frames % 50 == 49) {
			frames++;
			visits++;
			close(rig->fd);
			/* Until the last one was seen off, others are turned away. */
			while (counters_of(rig).connected)
				g_usleep(100);
			come(rig);
			speak(rig, WIRE_OUTPUT_READY, 0, NULL, 0);
			cut_epoch = committed = 0;
		}
	}
	for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
		g_thread_join(threads[i]);
	g_mutex_clear(&primary.lock);
	g_cond_clear(&primary.changed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(the_socket_is_its_owners_alone),
		TEST(a_socket_that_is_served_is_not_replaced_and_a_stale_one_is),
		TEST(before_it_is_ready_it_is_told_nothing),
		TEST(gates_cuts_commits_and_frames_come_in_order),
		TEST(another_replication_goes_on_counting),
		TEST(who_comes_in_the_midst_of_things_begins_with_the_next_cut),
		TEST(a_second_one_is_turned_away),
		TEST(what_is_asked_for_is_handed_on_unless_it_is_over),
		TEST(what_a_commit_lets_go_is_asked_after_and_answered_once),
		TEST(who_comes_after_a_commit_is_not_asked_what_it_let_go),
		TEST(a_mode_is_told_with_its_reason_and_not_too_often),
		TEST(nonsense_ends_the_connection),
		TEST(one_that_does_not_read_is_hung_up_on),
		TEST(what_the_socket_has_no_room_for_comes_later_and_in_order),
		TEST(a_commit_overtakes_what_it_makes_needless),
		TEST(a_gate_that_cannot_be_told_at_once_ends_the_connection),
		TEST(comparators_that_come_and_go_hear_things_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
