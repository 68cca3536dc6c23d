/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's end of a console in all its kinds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/unixsock.h"
#include "kvm/chardev.h"
#include "kvm/error.h"
#include "tests/unit/fake_platform.h"

#define RING 65536u

struct rig {
	struct fake_platform *fake;
	vmm_chardev *chardev;
	char *dir;
	/* The device. */
	gsize room;
	GString *got;
	/* Whoever replicates. */
	GString *given;
	GQueue first; /* GString: what comes before the host's end's */
	gboolean live;
};

static gsize device_room(void *device)
{
	return ((struct rig *)device)->room;
}

static void device_input(void *device, const guint8 *bytes, gsize len)
{
	struct rig *rig = device;

	assert_true(len <= rig->room);
	rig->room -= len;
	g_string_append_len(rig->got, (const char *)bytes, (gssize)len);
}

static const struct vmm_chardev_ops device_ops = { device_room, device_input };

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->fake = fake_platform_new(1u << 20);
	rig->dir = g_dir_make_tmp("chardev-XXXXXX", NULL);
	rig->room = 1000;
	rig->got = g_string_new(NULL);
	rig->given = g_string_new(NULL);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vmm_chardev_free(rig->chardev);
	fake_platform_free(rig->fake);
	assert_int_equal(g_rmdir(rig->dir), 0);
	g_free(rig->dir);
	g_string_free(rig->got, TRUE);
	g_string_free(rig->given, TRUE);
	g_free(rig);
	return 0;
}

static void make(struct rig *rig, const char *spec)
{
	rig->chardev = vmm_chardev_new(spec, rig->fake->platform.loop, NULL);
	assert_non_null(rig->chardev);
	vmm_chardev_connect(rig->chardev, &device_ops, rig);
}

/* Of one end of a socket pair; returns the other. */
static int make_pair(struct rig *rig)
{
	g_autofree char *spec = NULL;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	spec = g_strdup_printf("fd:%d", pair[0]);
	make(rig, spec);
	return pair[1];
}

static void send_text(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void assert_reads(int fd, const char *text)
{
	char bytes[256] = "";

	assert_int_equal(read(fd, bytes, sizeof(bytes) - 1), strlen(text));
	assert_string_equal(bytes, text);
}

/* A terminal hands bytes on in its own time. */
static void run_until_got(struct rig *rig, gsize len)
{
	for (guint i = 0; i < 500 && rig->got->len < len; i++)
		vmm_loop_iterate(rig->fake->platform.loop, 10);
}

static gssize read_in_time(int fd, char *bytes, gsize len)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };

	poll(&poller, 1, 5000);
	return read(fd, bytes, len);
}

static void a_specification_that_means_nothing_is_refused(void **state)
{
	static const char *const bad[] = { "",	    "tty",   "pty:1", "unix",
					   "file",  "fd:",   "fd:-1", "fd:1",
					   "fd:3x", "STDIO", "none:" };
	struct rig *rig = *state;

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		assert_null(vmm_chardev_new(bad[i], rig->fake->platform.loop, &error));
		assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_CONFIG));
	}
}

static void what_cannot_be_opened_says_so(void **state)
{
	struct rig *rig = *state;
	g_autofree char *file = g_strdup_printf("file:%s/no/such", rig->dir);
	g_autofree char *sock = g_strdup_printf("unix:%s/no/such", rig->dir);
	const char *const bad[] = { file, sock, "fd:999" };

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		assert_null(vmm_chardev_new(bad[i], rig->fake->platform.loop, &error));
		assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_HOST));
	}
}

static void a_descriptor_carries_both_ways(void **state)
{
	struct rig *rig = *state;
	int far = make_pair(rig);

	send_text(far, "in");
	vmm_chardev_output(rig->chardev, "out", 3);
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "in");
	assert_reads(far, "out");
	assert_true(g_str_has_prefix(vmm_chardev_name(rig->chardev), "fd:"));
	close(far);
	fake_run(rig->fake);
}

static void input_is_left_where_it_is_until_there_is_room(void **state)
{
	struct rig *rig = *state;
	int far = make_pair(rig);

	rig->room = 3;
	send_text(far, "abcdef");
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "abc");
	rig->room = 2;
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "abc");
	vmm_chardev_poll(rig->chardev);
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "abcde");
	close(far);
}

static void on_given(void *data, guint console, const guint8 *bytes, gsize len)
{
	struct rig *rig = data;

	assert_int_equal(console, 1);
	g_string_append_len(rig->given, (const char *)bytes, (gssize)len);
}

static gsize give_next(void *data, guint console, guint8 *bytes, gsize len)
{
	struct rig *rig = data;
	GString *first = g_queue_peek_head(&rig->first);
	gsize n = first ? MIN(first->len, len) : 0;

	assert_int_equal(console, 1);
	if (!first)
		return 0;
	memcpy(bytes, first->str, n);
	g_string_erase(first, 0, (gssize)n);
	if (!first->len)
		g_string_free(g_queue_pop_head(&rig->first), TRUE);
	return n;
}

static gboolean is_live(void *data)
{
	return ((struct rig *)data)->live;
}

static int make_replicated_pair(struct rig *rig)
{
	const struct vmm_chardev_hooks hooks = { rig, on_given, give_next, is_live };
	int far = make_pair(rig);

	vmm_chardev_set_hooks(rig->chardev, &hooks, 1);
	return far;
}

static void whoever_replicates_is_told_what_the_device_is_given(void **state)
{
	struct rig *rig = *state;
	int far = make_replicated_pair(rig);

	rig->live = TRUE;
	rig->room = 4;
	send_text(far, "abcdef");
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "abcd");
	assert_string_equal(rig->given->str, "abcd");
	rig->room = 10;
	vmm_chardev_poll(rig->chardev);
	fake_run(rig->fake);
	assert_string_equal(rig->given->str, "abcdef");
	close(far);
}

static void input_of_another_comes_and_the_host_end_is_deaf_until_it_is_live(void **state)
{
	struct rig *rig = *state;
	int far = make_replicated_pair(rig);

	send_text(far, "typed here");
	rig->room = 3;
	g_queue_push_tail(&rig->first, g_string_new("there"));
	vmm_chardev_poll(rig->chardev);
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "the");
	vmm_chardev_output(rig->chardev, "out", 3);
	fake_run(rig->fake);
	assert_reads(far, "out");
	/* Live: what is left of the other's comes first. */
	rig->live = TRUE;
	send_text(far, "now");
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "the");
	rig->room = 3;
	vmm_chardev_poll(rig->chardev);
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "theren");
	rig->room = 100;
	vmm_chardev_poll(rig->chardev);
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "therenow");
	assert_string_equal(rig->given->str, "therenow");
	close(far);
}

static void what_waits_at_the_host_end_can_be_thrown_away(void **state)
{
	struct rig *rig = *state;
	int far = make_replicated_pair(rig);

	send_text(far, "before");
	vmm_chardev_discard_input(rig->chardev);
	rig->live = TRUE;
	send_text(far, "after");
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "after");
	close(far);
	vmm_chardev_discard_input(rig->chardev);
	fake_run(rig->fake);
	vmm_chardev_discard_input(rig->chardev);
}

static void without_a_host_end_input_of_another_comes_all_the_same(void **state)
{
	const struct vmm_chardev_hooks hooks = { *state, on_given, give_next, is_live };
	struct rig *rig = *state;

	make(rig, "none");
	vmm_chardev_set_hooks(rig->chardev, &hooks, 1);
	g_queue_push_tail(&rig->first, g_string_new("from"));
	g_queue_push_tail(&rig->first, g_string_new(" afar"));
	vmm_chardev_poll(rig->chardev);
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "from afar");
}

static void output_nobody_takes_pushes_out_the_oldest(void **state)
{
	struct rig *rig = *state;
	g_autofree char *spec = g_strdup_printf("unix:%s/sock", rig->dir);
	g_autofree guint8 *bytes = g_malloc(2 * RING);
	g_autofree guint8 *far_bytes = g_malloc(2 * RING);
	gsize got = 0;
	int far;

	for (gsize i = 0; i < 2 * RING; i++)
		bytes[i] = (guint8)(i * 7 + i / 256);
	make(rig, spec);
	vmm_chardev_output(rig->chardev, bytes, RING - 10);
	assert_int_equal(vmm_chardev_dropped(rig->chardev), 0);
	vmm_chardev_output(rig->chardev, bytes + RING - 10, 30);
	assert_int_equal(vmm_chardev_dropped(rig->chardev), 20);
	vmm_chardev_output(rig->chardev, bytes, 2 * RING);
	vmm_chardev_output(rig->chardev, bytes, 5);
	assert_int_equal(vmm_chardev_dropped(rig->chardev), 20 + 2 * RING + 5);

	far = base_unix_connect(spec + strlen("unix:"), NULL);
	assert_true(far >= 0);
	while (got < RING) {
		gssize n;

		fake_run(rig->fake);
		n = read(far, far_bytes + got, RING + 1 - got);
		assert_true(n > 0);
		got += (gsize)n;
	}
	assert_int_equal(got, RING);
	assert_memory_equal(far_bytes, bytes + RING + 5, RING - 5);
	assert_memory_equal(far_bytes + RING - 5, bytes, 5);
	close(far);
	fake_run(rig->fake);
}

static void a_slow_reader_gets_everything_in_order(void **state)
{
	struct rig *rig = *state;
	int far = make_pair(rig);
	int small = 4096;
	gsize sent = 0, got = 0;

	setsockopt(far, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	while (got < 300000) {
		guint8 bytes[1000];
		gssize n;

		for (guint i = 0; i < sizeof(bytes); i++)
			bytes[i] = (guint8)((sent + i) % 251);
		if (sent < 300000 && sent - got < RING - sizeof(bytes)) {
			vmm_chardev_output(rig->chardev, bytes, sizeof(bytes));
			sent += sizeof(bytes);
		}
		fake_run(rig->fake);
		n = read(far, bytes, 700);
		for (gssize i = 0; i < n; i++)
			assert_int_equal(bytes[i], (got + (gsize)i) % 251);
		got += n > 0 ? (gsize)n : 0;
	}
	assert_int_equal(vmm_chardev_dropped(rig->chardev), 0);
	close(far);
}

static void a_socket_serves_one_client_after_the_other(void **state)
{
	struct rig *rig = *state;
	g_autofree char *path = g_strdup_printf("%s/sock", rig->dir);
	g_autofree char *spec = g_strdup_printf("unix:%s", path);
	int first, second;

	make(rig, spec);
	assert_string_equal(vmm_chardev_name(rig->chardev), spec);
	vmm_chardev_output(rig->chardev, "early", 5);
	first = base_unix_connect(path, NULL);
	fake_run(rig->fake);
	assert_reads(first, "early");
	second = base_unix_connect(path, NULL);
	send_text(second, "second");
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "");
	close(first);
	fake_run(rig->fake);
	vmm_chardev_output(rig->chardev, "late", 4);
	fake_run(rig->fake);
	assert_string_equal(rig->got->str, "second");
	assert_reads(second, "late");
	close(second);
	fake_run(rig->fake);
	vmm_chardev_output(rig->chardev, "nobody", 6);
	fake_run(rig->fake);
}

static void a_client_that_vanishes_does_not_hurt(void **state)
{
	struct rig *rig = *state;
	g_autofree char *path = g_strdup_printf("%s/sock", rig->dir);
	g_autofree char *spec = g_strdup_printf("unix:%s", path);
	int far;

	make(rig, spec);
	far = base_unix_connect(path, NULL);
	fake_run(rig->fake);
	/* Not noticed at the input, which there is no room for. */
	rig->room = 0;
	send_text(far, "x");
	fake_run(rig->fake);
	close(far);
	vmm_chardev_output(rig->chardev, "gone", 4);
	fake_run(rig->fake);
	far = base_unix_connect(path, NULL);
	fake_run(rig->fake);
	assert_reads(far, "gone");
	close(far);
}

static void a_pseudo_terminal_keeps_output_for_who_opens_it(void **state)
{
	struct rig *rig = *state;
	char bytes[16] = "";
	int slave;

	make(rig, "pty");
	assert_true(g_str_has_prefix(vmm_chardev_name(rig->chardev), "pty:/dev/"));
	vmm_chardev_output(rig->chardev, "login:\n", 7);
	fake_run(rig->fake);
	slave = open(vmm_chardev_name(rig->chardev) + 4,
		     O_RDWR | O_NOCTTY | O_NONBLOCK);
	assert_true(slave >= 0);
	assert_int_equal(read_in_time(slave, bytes, sizeof(bytes) - 1), 7);
	assert_string_equal(bytes, "login:\n");
	send_text(slave, "root\n");
	run_until_got(rig, 5);
	assert_string_equal(rig->got->str, "root\n");
	close(slave);
	fake_run(rig->fake);
	/* And may come back. */
	slave = open(vmm_chardev_name(rig->chardev) + 4,
		     O_RDWR | O_NOCTTY | O_NONBLOCK);
	send_text(slave, "again");
	run_until_got(rig, 10);
	assert_string_equal(rig->got->str, "root\nagain");
	close(slave);
}

static void a_file_is_appended_to(void **state)
{
	struct rig *rig = *state;
	g_autofree char *path = g_strdup_printf("%s/log", rig->dir);
	g_autofree char *spec = g_strdup_printf("file:%s", path);
	g_autofree char *text = NULL;

	assert_true(g_file_set_contents(path, "old\n", -1, NULL));
	make(rig, spec);
	vmm_chardev_output(rig->chardev, "new\n", 4);
	fake_run(rig->fake);
	vmm_chardev_output(rig->chardev, "last words\n", 11);
	g_clear_pointer(&rig->chardev, vmm_chardev_free);
	assert_true(g_file_get_contents(path, &text, NULL, NULL));
	assert_string_equal(text, "old\nnew\nlast words\n");
	g_unlink(path);
}

static void a_file_gets_more_than_a_pipe_holds(void **state)
{
	struct rig *rig = *state;
	g_autofree char *path = g_strdup_printf("%s/log", rig->dir);
	g_autofree char *spec = g_strdup_printf("file:%s", path);
	g_autofree char *bytes = g_malloc(RING), *got = NULL;
	gsize len;

	for (gsize i = 0; i < RING; i++)
		bytes[i] = (char)(i * 7 + i / 256);
	make(rig, spec);
	for (guint i = 0; i < 3; i++) {
		vmm_chardev_output(rig->chardev, bytes, RING);
		/* However slow the thread is that writes, this comes back. */
		fake_run(rig->fake);
	}
	len = 3 * RING - vmm_chardev_dropped(rig->chardev);
	g_clear_pointer(&rig->chardev, vmm_chardev_free);
	assert_true(g_file_get_contents(path, &got, &len, NULL));
	assert_true(len >= RING);
	assert_memory_equal(got + len - RING, bytes, RING);
	g_unlink(path);
}

static void standard_output_that_is_a_file_is_written_in_full(void **state)
{
	struct rig *rig = *state;
	g_autofree char *path = g_strdup_printf("%s/out", rig->dir);
	g_autofree char *text = NULL;
	int out, null = open("/dev/null", O_RDONLY), in = dup(STDIN_FILENO);
	int file = open(path, O_WRONLY | O_CREAT, 0600);

	fflush(stdout);
	out = dup(STDOUT_FILENO);
	dup2(null, STDIN_FILENO);
	dup2(file, STDOUT_FILENO);
	rig->chardev = vmm_chardev_new("stdio", rig->fake->platform.loop, NULL);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	assert_non_null(rig->chardev);
	vmm_chardev_output(rig->chardev, "one ", 4);
	fake_run(rig->fake);
	vmm_chardev_output(rig->chardev, "two", 3);
	g_clear_pointer(&rig->chardev, vmm_chardev_free);
	assert_true(g_file_get_contents(path, &text, NULL, NULL));
	assert_string_equal(text, "one two");
	g_unlink(path);
	close(null);
	close(file);
	close(in);
	close(out);
}

static void a_file_that_takes_nothing_is_counted(void **state)
{
	struct rig *rig = *state;
	g_autofree char *path = g_strdup_printf("%s/log", rig->dir);
	g_autofree char *spec = g_strdup_printf("file:%s", path);
	void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
	struct rlimit before, limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = 4;
	make(rig, spec);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	vmm_chardev_output(rig->chardev, "123456", 6);
	fake_run(rig->fake);
	for (guint i = 0; i < 500 && !vmm_chardev_dropped(rig->chardev); i++)
		g_usleep(10000);
	setrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, old);
	assert_int_equal(vmm_chardev_dropped(rig->chardev), 2);
	g_clear_pointer(&rig->chardev, vmm_chardev_free);
	g_unlink(path);
}

static void a_client_waits_while_there_is_no_descriptor_for_it(void **state)
{
	struct rig *rig = *state;
	g_autofree char *path = g_strdup_printf("%s/sock", rig->dir);
	g_autofree char *spec = g_strdup_printf("unix:%s", path);
	struct rlimit before, limit;
	guint runs = 0;
	int far;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	make(rig, spec);
	far = base_unix_connect(path, NULL);
	limit.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (guint i = 0; i < 10; i++)
		runs += vmm_loop_iterate(rig->fake->platform.loop, 10);
	setrlimit(RLIMIT_NOFILE, &before);
	assert_int_equal(runs, 1);
	send_text(far, "at last");
	run_until_got(rig, 7);
	assert_string_equal(rig->got->str, "at last");
	close(far);
	fake_run(rig->fake);
}

static void a_descriptor_that_was_not_passed_is_refused(void **state)
{
	struct rig *rig = *state;
	g_autofree char *spec = NULL;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	spec = g_strdup_printf("fd:%d", pair[0]);
	for (guint i = 0; i < 2; i++) {
		g_autoptr(GError) error = NULL;

		assert_null(vmm_chardev_new(spec, rig->fake->platform.loop, &error));
		assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_CONFIG));
	}
	/* It is left as it was. */
	assert_int_equal(fcntl(pair[0], F_GETFD), FD_CLOEXEC);
	assert_false(fcntl(pair[0], F_GETFL) & O_NONBLOCK);
	close(pair[0]);
	close(pair[1]);
}

static void nothing_takes_everything(void **state)
{
	struct rig *rig = *state;

	make(rig, "none");
	for (guint i = 0; i < 100; i++)
		vmm_chardev_output(rig->chardev, "0123456789", 10);
	vmm_chardev_poll(rig->chardev);
	fake_run(rig->fake);
	assert_int_equal(vmm_chardev_dropped(rig->chardev), 0);
	assert_string_equal(vmm_chardev_name(rig->chardev), "none");
}

/* Standard input and output of the process, exchanged for a terminal's. */
struct swapped {
	int in, out, master, slave;
};

static void swap_stdio(struct swapped *s)
{
	char path[64];

	s->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
	assert_int_equal(grantpt(s->master), 0);
	assert_int_equal(unlockpt(s->master), 0);
	assert_int_equal(ptsname_r(s->master, path, sizeof(path)), 0);
	s->slave = open(path, O_RDWR | O_NOCTTY);
	assert_true(s->slave >= 0);
	fflush(stdout);
	s->in = dup(STDIN_FILENO);
	s->out = dup(STDOUT_FILENO);
	dup2(s->slave, STDIN_FILENO);
	dup2(s->slave, STDOUT_FILENO);
}

static void swap_back(struct swapped *s)
{
	fflush(stdout);
	dup2(s->in, STDIN_FILENO);
	dup2(s->out, STDOUT_FILENO);
	close(s->in);
	close(s->out);
	close(s->slave);
	close(s->master);
}

static void note_escape(void *data)
{
	++*(guint *)data;
}

static void a_terminal_is_raw_while_it_is_the_console(void **state)
{
	struct rig *rig = *state;
	struct termios before, during, after;
	struct swapped s;
	guint escapes = 0;
	vmm_chardev *second;
	char bytes[16] = "";
	gssize n;
	int blocking;

	swap_stdio(&s);
	tcgetattr(s.slave, &before);
	rig->chardev = vmm_chardev_new("stdio", rig->fake->platform.loop, NULL);
	second = vmm_chardev_new("stdio", rig->fake->platform.loop, NULL);
	tcgetattr(s.slave, &during);
	if (rig->chardev) {
		vmm_chardev_connect(rig->chardev, &device_ops, rig);
		vmm_chardev_set_escape(rig->chardev, note_escape, &escapes);
		rig->room = 4;
		n = write(s.master, "a\001\001b\003\001xcd", 9);
		run_until_got(rig, 4);
		/* No room, yet the way out works. */
		n += write(s.master, "\001x", 2);
		for (guint i = 0; i < 500 && escapes < 2; i++)
			vmm_loop_iterate(rig->fake->platform.loop, 10);
		rig->room = 100;
		vmm_chardev_poll(rig->chardev);
		run_until_got(rig, 6);
		vmm_chardev_output(rig->chardev, "out", 3);
		fake_run(rig->fake);
	}
	blocking = !(fcntl(s.slave, F_GETFL) & O_NONBLOCK);
	n = read_in_time(s.master, bytes, sizeof(bytes) - 1);
	g_clear_pointer(&rig->chardev, vmm_chardev_free);
	tcgetattr(s.slave, &after);
	swap_back(&s);

	assert_null(second);
	assert_int_equal(n, 3);
	assert_string_equal(bytes, "out");
	assert_string_equal(rig->got->str, "a\001b\003cd");
	assert_int_equal(escapes, 2);
	assert_true(blocking);
	assert_true(before.c_lflag & ICANON);
	assert_false(during.c_lflag & (ICANON | ECHO | ISIG));
	assert_int_equal(after.c_lflag, before.c_lflag);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_specification_that_means_nothing_is_refused),
		TEST(what_cannot_be_opened_says_so),
		TEST(a_descriptor_carries_both_ways),
		TEST(input_is_left_where_it_is_until_there_is_room),
		TEST(whoever_replicates_is_told_what_the_device_is_given),
		TEST(input_of_another_comes_and_the_host_end_is_deaf_until_it_is_live),
		TEST(what_waits_at_the_host_end_can_be_thrown_away),
		TEST(without_a_host_end_input_of_another_comes_all_the_same),
		TEST(output_nobody_takes_pushes_out_the_oldest),
		TEST(a_slow_reader_gets_everything_in_order),
		TEST(a_socket_serves_one_client_after_the_other),
		TEST(a_client_that_vanishes_does_not_hurt),
		TEST(a_pseudo_terminal_keeps_output_for_who_opens_it),
		TEST(a_file_is_appended_to),
		TEST(a_file_gets_more_than_a_pipe_holds),
		TEST(standard_output_that_is_a_file_is_written_in_full),
		TEST(a_file_that_takes_nothing_is_counted),
		TEST(a_client_waits_while_there_is_no_descriptor_for_it),
		TEST(a_descriptor_that_was_not_passed_is_refused),
		TEST(nothing_takes_everything),
		TEST(a_terminal_is_raw_while_it_is_the_console),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
