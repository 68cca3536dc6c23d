/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What both guests of a pair send, told to a comparator: the secondary's over the link
 * and the comparator's socket, the primary's heard at its tap, with markers in their
 * midst. In each epoch both begin alike, and one is as long as it came. A filter's
 * state goes along with the checkpoints.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "colo/rewriting.h"
#include "tests/micro/pair.h"

#define EPOCHS_MAX 4096u
#define ETHERNET 14u
#define IP 20u

/* What was sent in one epoch: numbers of UDP answers, and bytes of TCP answers. */
struct sent {
	GArray *numbers; /* guint64 */
	GByteArray *stream;
};

struct side {
	struct sent epochs[EPOCHS_MAX];
	guint64 epoch; /* of the last marker */
	guint frames;
};

struct comparator {
	char *path;
	ckpt_outputs *outputs;
	gint readies; /* atomic */
	GThread *thread;
	int fd;
	/* Of the thread; the main thread's once that has ended. */
	struct wire_output_hello hello;
	guint64 cut, committed;
	gint commits,
		answers; /* atomic; the last number of the secondary's, in this epoch */
	guint faults; /* things out of order */
	guint lost;
	struct side secondary;
};

static struct sent *sent_in(struct side *side, guint64 epoch)
{
	struct sent *sent;

	g_assert(epoch < EPOCHS_MAX);
	sent = &side->epochs[epoch];
	if (!sent->numbers) {
		sent->numbers = g_array_new(FALSE, FALSE, sizeof(guint64));
		sent->stream = g_byte_array_new();
	}
	return sent;
}

static void side_clear(struct side *side)
{
	for (guint i = 0; i < EPOCHS_MAX; i++) {
		if (!side->epochs[i].numbers)
			continue;
		g_array_unref(side->epochs[i].numbers);
		g_byte_array_unref(side->epochs[i].stream);
	}
}

/* Notes what answers say; `frame` without virtio_net_hdr. */
static void note(struct side *side, guint64 epoch, const guint8 *frame, gsize len)
{
	struct sent *sent = sent_in(side, epoch);
	const guint8 *ip = frame + ETHERNET, *above = ip + IP;
	gsize total, header;

	side->frames++;
	if (len < ETHERNET + IP + 8 || frame[12] != 8 || frame[13] || ip[0] != 0x45)
		return;
	total = (gsize)ip[2] << 8 | ip[3];
	if (total > len - ETHERNET)
		return;
	if (ip[9] == IPPROTO_UDP && total == IP + 8 + sizeof(guint64)) {
		guint64 number;

		memcpy(&number, above + 8, sizeof(number));
		g_array_append_val(sent->numbers, number);
	} else if (ip[9] == IPPROTO_TCP) {
		header = (gsize)(above[12] >> 4) * 4;
		g_byte_array_append(sent->stream, above + header,
				    (guint)(total - IP - header));
	}
}

/* The last number that was answered both ways; 0: none. */
static guint64 last_answer(const struct sent *sent)
{
	guint64 udp, tcp;

	if (!sent->numbers->len || sent->stream->len < sizeof(tcp))
		return 0;
	udp = g_array_index(sent->numbers, guint64, sent->numbers->len - 1);
	memcpy(&tcp, sent->stream->data + sent->stream->len - sizeof(tcp), sizeof(tcp));
	return MIN(udp, tcp);
}

/* The comparator. */

static void take(struct comparator *comparator, const struct wire_output_head *head,
		 const guint8 *payload, gsize len)
{
	struct wire_output_head ready = { .type = wire_put16(WIRE_OUTPUT_READY) };
	guint64 epoch = wire_get64(head->epoch);

	switch (wire_get16(head->type)) {
	case WIRE_OUTPUT_HELLO:
		memcpy(&comparator->hello, payload, sizeof(comparator->hello));
		if (send(comparator->fd, &ready, sizeof(ready), MSG_NOSIGNAL) < 0)
			comparator->faults++;
		break;
	case WIRE_OUTPUT_CUT:
		comparator->faults += epoch != comparator->cut + 1;
		comparator->cut = epoch;
		break;
	case WIRE_OUTPUT_COMMITTED:
		comparator->faults +=
			epoch != comparator->committed + 1 || epoch != comparator->cut;
		comparator->committed = epoch;
		g_atomic_int_set(&comparator->answers, 0);
		g_atomic_int_inc(&comparator->commits);
		break;
	case WIRE_OUTPUT_FRAME:
		comparator->faults += epoch != comparator->committed;
		note(&comparator->secondary, epoch, payload + CKPT_NET_HEADER,
		     len - CKPT_NET_HEADER);
		g_atomic_int_set(
			&comparator->answers,
			(gint)last_answer(sent_in(&comparator->secondary, epoch)));
		break;
	case WIRE_OUTPUT_LOST:
		comparator->lost++;
		break;
	}
}

static void *listen_to_it(void *data)
{
	struct comparator *comparator = data;
	g_autofree guint8 *bytes =
		g_malloc(sizeof(struct wire_output_head) + WIRE_OUTPUT_FRAME_MAX);
	struct wire_output_head head;
	gssize got;

	while ((got = recv(comparator->fd, bytes, sizeof(head) + WIRE_OUTPUT_FRAME_MAX,
			   0)) > 0) {
		memcpy(&head, bytes, sizeof(head));
		take(comparator, &head, bytes + sizeof(head),
		     (gsize)got - sizeof(head));
	}
	return NULL;
}

static void on_ready(void *data, const char *why)
{
	struct comparator *comparator = data;

	if (!why)
		g_atomic_int_inc(&comparator->readies);
}

static void on_request(void *data, guint32 cause)
{
}

static void on_mode(void *data, gboolean compare, const char *why)
{
}

static void on_drained(void *data)
{
}

static struct comparator *comparator_new(void)
{
	struct comparator *comparator = g_new0(struct comparator, 1);
	const struct ckpt_outputs_hooks hooks = { comparator, on_ready, on_request,
						  on_mode, on_drained };
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	comparator->path =
		g_strdup_printf("%s/colo-outputs-%d", g_get_tmp_dir(), getpid());
	comparator->outputs = ckpt_outputs_new(comparator->path, 1, &hooks, NULL);
	assert_non_null(comparator->outputs);
	ckpt_outputs_set_gate(comparator->outputs, WIRE_GATE_OPEN);
	comparator->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	g_strlcpy(address.sun_path, comparator->path, sizeof(address.sun_path));
	assert_return_code(
		connect(comparator->fd, (struct sockaddr *)&address, sizeof(address)),
		errno);
	comparator->thread = g_thread_new("comparator", listen_to_it, comparator);
	while (!g_atomic_int_get(&comparator->readies))
		g_usleep(1000);
	return comparator;
}

/* It hears all that was told, and the end. */
static void comparator_end(struct comparator *comparator)
{
	g_clear_pointer(&comparator->outputs, ckpt_outputs_free);
	g_thread_join(comparator->thread);
}

static void comparator_free(struct comparator *comparator)
{
	close(comparator->fd);
	side_clear(&comparator->secondary);
	g_free(comparator->path);
	g_free(comparator);
}

/* What the primary's guest sends, as the host's kernel gets it. */

static int open_ear(void)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET,
				       .sll_protocol = htons(ETH_P_ALL),
				       .sll_ifindex = (int)if_nametoindex("tap0") };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
			htons(ETH_P_ALL));
	int room = 32 << 20;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		g_error("listen at tap0: %s", g_strerror(errno));
	return fd;
}

/* TRUE: it is one, with this secret. */
static gboolean is_marker(const guint8 *frame, gsize len, const guint8 *secret,
			  guint64 *epoch)
{
	struct wire_marker marker;

	if (len < CKPT_MARKER_BYTES || frame[ETHERNET + 9] != WIRE_MARKER_PROTOCOL)
		return FALSE;
	memcpy(&marker, frame + ETHERNET + IP, sizeof(marker));
	*epoch = wire_get64(marker.epoch);
	return wire_get32(marker.magic) == WIRE_MARKER_MAGIC &&
	       !memcmp(marker.secret, secret, sizeof(marker.secret)) &&
	       !memcmp(frame, frame + 6, 6);
}

static void drain_ear(int ear, struct side *primary, const guint8 *secret)
{
	struct sockaddr_ll from;
	socklen_t from_len = sizeof(from);
	guint8 frame[2048];
	guint64 epoch;
	gssize n;

	while ((n = recvfrom(ear, frame, sizeof(frame), 0, (struct sockaddr *)&from,
			     &from_len)) > 0) {
		if (from.sll_pkttype == PACKET_OUTGOING)
			continue;
		if (is_marker(frame, (gsize)n, secret, &epoch)) {
			assert_int_equal(epoch, primary->epoch + 1);
			primary->epoch = epoch;
		} else {
			note(primary, primary->epoch, frame, (gsize)n);
		}
	}
}

/* A client. */

static int open_client(int type)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(7) };
	struct timeval patience = { .tv_sec = 20 };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, PAIR_GUEST_ADDRESS, &address.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		g_error("connect to the guest: %s", g_strerror(errno));
	return fd;
}

static void exchange(int fd, guint64 number)
{
	guint64 echo = 0;
	gssize got;

	assert_int_equal(send(fd, &number, sizeof(number), MSG_NOSIGNAL),
			 sizeof(number));
	do
		got = recv(fd, &echo, sizeof(echo), MSG_WAITALL);
	while (got < 0 && errno == EINTR);
	assert_int_equal(got, sizeof(echo));
	assert_int_equal(echo, number);
}

/* As a client whose answers are held: until the secondary's guest has said the same, or
 * a commit covers it. Else it would be told what comes of answers that it has yet to
 * give. */
static void wait_for_secondary(struct comparator *comparator, guint64 number)
{
	gint commits = g_atomic_int_get(&comparator->commits);
	gint64 until = g_get_monotonic_time() + 5000000;

	while ((guint64)g_atomic_int_get(&comparator->answers) < number &&
	       g_atomic_int_get(&comparator->commits) < commits + 2 &&
	       g_get_monotonic_time() < until)
		g_usleep(50);
}

/* One may be longer: the secondary's guest is behind, or was still running in its epoch
 * when the primary's had begun the next. */
static gsize alike(const void *a, gsize a_len, const void *b, gsize b_len,
		   guint64 epoch, const char *what)
{
	gsize common = MIN(a_len, b_len);

	if (common && memcmp(a, b, common))
		fail_msg("epoch %" G_GUINT64_FORMAT ": both guests' %s differ", epoch,
			 what);
	return common;
}

static void both_guests_outputs_are_told_alike_and_in_their_epochs(void **state)
{
	struct micro_options options = { .cpus = 1,
					 .tap = "yes",
					 .append = "isn=fixed ip=" PAIR_GUEST_ADDRESS
						   "/24" };
	struct comparator *comparator = comparator_new();
	const struct pair_options pair_options = { .mode = CKPT_MODE_COLO,
						   .period_ms = 40,
						   .outputs = comparator->outputs };
	struct side primary = { 0 };
	gsize numbers = 0, stream = 0, all = 0, epochs = 0;
	struct ckpt_outputs_counters counters;
	struct pair *pair;
	int ear = open_ear(), udp, tcp;

	pair = pair_new_with(&options, &pair_options);
	assert_true(pair_wait_for_epoch(pair, 1));
	udp = open_client(SOCK_DGRAM);
	tcp = open_client(SOCK_STREAM);
	for (guint64 i = 1; i <= 1000; i++) {
		exchange(udp, i);
		exchange(tcp, i);
		wait_for_secondary(comparator, i);
		drain_ear(ear, &primary, comparator->hello.secret);
	}
	g_usleep(100000);
	ckpt_outputs_get_counters(comparator->outputs, &counters);
	close(udp);
	close(tcp);
	pair_part(pair);
	printf("# a marker and what goes with it: %.1f us of the pause\n",
	       (double)pair->mark_ns / 1e3);
	pair_free(pair);
	drain_ear(ear, &primary, comparator->hello.secret);
	close(ear);
	comparator_end(comparator);

	assert_int_equal(comparator->faults, 0);
	assert_int_equal(comparator->lost, 0);
	assert_int_equal(counters.markers_missed, 0);
	assert_int_equal(counters.hung_up, 0);
	for (guint64 epoch = 1; epoch < EPOCHS_MAX; epoch++) {
		struct sent *a = &primary.epochs[epoch];
		struct sent *b = &comparator->secondary.epochs[epoch];

		all += a->numbers ? a->numbers->len : 0;
		if (!a->numbers || !b->numbers)
			continue;
		epochs++;
		numbers += alike(a->numbers->data, a->numbers->len * sizeof(guint64),
				 b->numbers->data, b->numbers->len * sizeof(guint64),
				 epoch, "datagrams") /
			   sizeof(guint64);
		stream += alike(a->stream->data, a->stream->len, b->stream->data,
				b->stream->len, epoch, "streams");
	}
	printf("# %u epochs, %zu with outputs of both; %zu of %zu datagrams and %zu "
	       "bytes alike; "
	       "%u frames of the secondary\n",
	       (guint)primary.epoch, epochs, numbers, all, stream,
	       comparator->secondary.frames);
	assert_in_range(epochs, 3, EPOCHS_MAX);
	assert_in_range(numbers, all / 2, all);
	assert_in_range(stream, all * 4, all * 8);
	side_clear(&primary);
	comparator_free(comparator);
}

/* A filter whose state is a number, which the primary's guest's frames count. */
struct counting {
	guint64 count;
	gint shown_in, shown_out; /* atomic; also of a secondary's guest */
	gboolean promoted;
};

static struct counting *made[2]; /* in the order in which they were made: by machine */
static guint loads; /* of the second's */

static void *counting_new(void)
{
	struct counting *counting = g_new0(struct counting, 1);

	if (!made[0])
		made[0] = counting;
	else if (!made[1])
		made[1] = counting;
	return counting;
}

static gboolean counting_is_idle(void *filter)
{
	return FALSE;
}

static enum ckpt_filter_verdict counting_in(void *filter, guint device, guint8 *frame,
					    gsize len, gboolean partial)
{
	g_atomic_int_inc(&((struct counting *)filter)->shown_in);
	return CKPT_FILTER_AS_IT_WAS;
}

static enum ckpt_filter_verdict counting_out(void *filter, guint device, guint8 *frame,
					     gsize len, gboolean partial)
{
	struct counting *counting = filter;

	g_atomic_int_inc(&counting->shown_out);
	counting->count++;
	return CKPT_FILTER_AS_IT_WAS;
}

/* Longer than one message takes. */
#define STATE_LEN (CKPT_BATCH_MAX + 1000u)

static void counting_save(void *filter, GByteArray *bytes)
{
	struct counting *counting = filter;
	guint at = bytes->len;

	if (!counting->count)
		return;
	g_byte_array_set_size(bytes, at + STATE_LEN);
	memset(bytes->data + at, 0x77, STATE_LEN);
	memcpy(bytes->data + at + STATE_LEN - 8, &counting->count, 8);
}

static const char *counting_load(void *filter, const guint8 *bytes, gsize len)
{
	struct counting *counting = filter;

	if (len && len != STATE_LEN)
		return "it has not its length";
	counting->count = 0;
	if (len)
		memcpy(&counting->count, bytes + STATE_LEN - 8, 8);
	if (counting == made[1])
		loads++;
	return NULL;
}

static void counting_promote(void *filter)
{
	((struct counting *)filter)->promoted = TRUE;
}

static void a_filters_state_goes_along_with_checkpoints(void **state)
{
	static const struct ckpt_filter_ops ops = {
		.new = counting_new,
		.free = g_free,
		.is_idle = counting_is_idle,
		.in = counting_in,
		.out = counting_out,
		.save = counting_save,
		.load = counting_load,
		.promote = counting_promote,
	};
	struct micro_options options = { .cpus = 1,
					 .tap = "yes",
					 .append = "ip=" PAIR_GUEST_ADDRESS "/24" };
	const struct pair_options pair_options = {
		.mode = CKPT_MODE_COLO, .period_ms = 20, .verify = TRUE, .filter = &ops
	};
	struct pair *pair = pair_new_with(&options, &pair_options);
	g_autoptr(GError) error = NULL;
	guint epoch;
	int udp;

	assert_true(pair_wait_for_epoch(pair, 2));
	udp = open_client(SOCK_DGRAM);
	for (guint64 i = 1; i <= 200; i++) {
		exchange(udp, i);
		g_usleep(1000);
	}
	epoch = pair_committed(pair);
	assert_true(pair_wait_for_epoch(pair, epoch + 3));
	assert_true(vmm_machine_pause(micro_machine(pair->first), &error));
	assert_true(ckpt_secondary_promote(pair->secondary, &error));
	pair_part(pair);
	assert_true(g_atomic_int_get(&made[0]->shown_in) >= 200 &&
		    g_atomic_int_get(&made[0]->shown_out) >= 200);
	assert_true(g_atomic_int_get(&made[1]->shown_in) >= 100);
	assert_true(vmm_machine_pause(micro_machine(pair->second), &error));
	/* With nothing under way, and the guest silent, both are the same. */
	assert_true(loads >= epoch && made[1]->promoted);
	assert_true(made[1]->count >= 200 && made[1]->count <= made[0]->count);
	assert_true(vmm_machine_resume(micro_machine(pair->second), &error));
	micro_forget(pair->second, 100);
	exchange(udp, 1000);
	close(udp);
	pair_free(pair);
}

/* The guests chose its numbers each by itself; no checkpoint has made them the same. */
static void a_connection_younger_than_the_checkpoint_survives_a_promotion(void **state)
{
	struct micro_options options = { .cpus = 1,
					 .tap = "yes",
					 .append = "ip=" PAIR_GUEST_ADDRESS "/24" };
	struct comparator *comparator = comparator_new();
	const struct pair_options pair_options = { .mode = CKPT_MODE_COLO,
						   .period_ms = 3600000,
						   .outputs = comparator->outputs,
						   .filter = &colo_rewriting };
	struct pair *pair = pair_new_with(&options, &pair_options);
	g_autoptr(GError) error = NULL;
	int udp, tcp;

	assert_true(pair_wait_for_epoch(pair, 1));
	udp = open_client(SOCK_DGRAM);
	tcp = open_client(SOCK_STREAM);
	for (guint64 i = 1; i <= 100; i++) {
		exchange(udp, i);
		exchange(tcp, i);
		wait_for_secondary(comparator, i);
	}
	assert_int_equal(g_atomic_int_get(&comparator->answers), 100);
	assert_int_equal(pair_committed(pair), 1);
	assert_true(vmm_machine_pause(micro_machine(pair->first), &error));
	assert_true(ckpt_secondary_promote(pair->secondary, &error));
	micro_forget(pair->second, 100);
	for (guint64 i = 101; i <= 200; i++)
		exchange(tcp, i);
	close(udp);
	close(tcp);
	pair_free(pair);
	comparator_end(comparator);
	comparator_free(comparator);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			both_guests_outputs_are_told_alike_and_in_their_epochs),
		cmocka_unit_test(a_filters_state_goes_along_with_checkpoints),
		cmocka_unit_test(
			a_connection_younger_than_the_checkpoint_survives_a_promotion),
	};

	micro_need_kvm();
	if (!pair_make_network()) {
		fprintf(stderr,
			"SKIPPED: cannot make a network namespace with a bridge\n");
		return MICRO_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
