/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses, and connections within this host. */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/tcp.h"

static void addresses_are_taken_apart(void **state)
{
	static const struct {
		const char *address, *host;
		guint16 port;
	} cases[] = {
		{ "10.0.0.2:7000", "10.0.0.2", 7000 },
		{ "0.0.0.0:0", "0.0.0.0", 0 },
		{ "host-b:65535", "host-b", 65535 },
		{ "node_1.example.org:80", "node_1.example.org", 80 },
		{ "[::1]:7000", "::1", 7000 },
		{ "[2001:db8::2]:7000", "2001:db8::2", 7000 },
		{ "[::ffff:10.0.0.2]:7000", "::ffff:10.0.0.2", 7000 },
		{ "[fe80::1%eth0]:7000", "fe80::1%eth0", 7000 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *host = NULL;
		guint16 port;

		assert_true(base_tcp_parse(cases[i].address, &host, &port, NULL));
		assert_string_equal(host, cases[i].host);
		assert_int_equal(port, cases[i].port);
		assert_true(base_tcp_parse(cases[i].address, NULL, NULL, NULL));
	}
}

static void what_is_no_address_is_refused(void **state)
{
	const char *cases[] = {
		"",
		":",
		"host",
		"host:",
		":7000",
		"host:65536",
		"host:-1",
		"host:+1",
		"host:1x",
		"host: 1",
		"host:0x10",
		"host:99999999999999999999",
		"::1:7000",
		"2001:db8::2",
		"[::1]",
		"[::1]:",
		"[::1]7000",
		"[::1:7000",
		"::1]:7000",
		"[]:7000",
		"[host]:7000",
		"[10.0.0.2]:7000",
		"[fe80::1%]:7000",
		"ho st:7000",
		"host/:7000",
		"user@host:7000",
		"[:7000",
		"]:7000",
		"[]",
		"[",
		"a:b:7000",
	};

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GError) error = NULL;

		if (base_tcp_parse(cases[i], NULL, NULL, &error))
			fail_msg("%s was accepted", cases[i]);
		assert_true(g_error_matches(error, BASE_CHANNEL_ERROR,
					    BASE_CHANNEL_ADDRESS));
		assert_int_equal(base_tcp_connect(cases[i], 100, NULL), -1);
		assert_int_equal(base_tcp_listen(cases[i], NULL), -1);
	}
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof(value);

	assert_int_equal(getsockopt(fd, level, name, &value, &length), 0);
	return value;
}

static void expect_options(int fd)
{
	assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 10);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static void connect_through(const char *listen_on, const char *format,
			    const char *peer_prefix)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *address = NULL, *peer = NULL, *other = NULL, *expected = NULL;
	int listener = base_tcp_listen(listen_on, &error), here, there;
	struct pollfd poller = { .fd = listener, .events = POLLIN };
	char text[4];

	assert_true(listener >= 0);
	/* Nobody yet: no connection, and no error. */
	assert_int_equal(base_tcp_accept(listener, &error), -1);
	assert_null(error);
	address = g_strdup_printf(format, base_tcp_port(listener));
	here = base_tcp_connect(address, 10000, &error);
	if (here < 0)
		fail_msg("%s", error->message);
	assert_int_equal(poll(&poller, 1, 10000), 1);
	there = base_tcp_accept(listener, &error);
	assert_true(there >= 0);
	expect_options(here);
	expect_options(there);
	peer = base_tcp_peer(there);
	expected = g_strdup_printf("%s:%u", peer_prefix, base_tcp_port(here));
	assert_string_equal(peer, expected);
	other = base_tcp_peer(here);
	assert_true(g_str_has_suffix(other, address + strlen(address) - 4));
	assert_int_equal(send(here, "abc", 4, 0), 4);
	poller.fd = there;
	assert_int_equal(poll(&poller, 1, 10000), 1);
	assert_int_equal(recv(there, text, 4, 0), 4);
	assert_string_equal(text, "abc");
	close(here);
	close(there);
	close(listener);
}

static gboolean have_ipv6(void)
{
	int fd = base_tcp_listen("[::1]:0", NULL);

	if (fd < 0)
		return FALSE;
	close(fd);
	return TRUE;
}

static void both_kinds_of_address_connect(void **state)
{
	connect_through("127.0.0.1:0", "127.0.0.1:%u", "127.0.0.1");
	connect_through("0.0.0.0:0", "127.0.0.1:%u", "127.0.0.1");
	if (!have_ipv6()) {
		print_message("# skip: this host has no IPv6\n");
		return;
	}
	connect_through("[::1]:0", "[::1]:%u", "[::1]");
	connect_through("[::]:0", "[::1]:%u", "[::1]");
	connect_through("[::]:0", "127.0.0.1:%u", "[::ffff:127.0.0.1]");
}

static void a_name_is_resolved(void **state)
{
	/* Of the two addresses that this name often has, one is refused. */
	connect_through("127.0.0.1:0", "localhost:%u", "127.0.0.1");
}

static void expect_lost(const char *address, const char *why)
{
	g_autoptr(GError) error = NULL;

	assert_int_equal(base_tcp_connect(address, 2000, &error), -1);
	assert_true(g_error_matches(error, BASE_CHANNEL_ERROR, BASE_CHANNEL_LOST));
	assert_non_null(strstr(error->message, why));
}

static void a_peer_that_is_not_there_is_an_error_at_once(void **state)
{
	g_autofree char *address = NULL;
	int listener = base_tcp_listen("127.0.0.1:0", NULL);

	address = g_strdup_printf("127.0.0.1:%u", base_tcp_port(listener));
	close(listener);
	expect_lost(address, "Connection refused");
	expect_lost("no-such-host.invalid:7000", "resolve no-such-host.invalid");
}

static void a_peer_that_never_answers_costs_no_more_than_the_deadline(void **state)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *address = NULL;
	int listener = base_tcp_listen("127.0.0.1:0", NULL), waiting[64];
	guint64 start = 0;
	guint count = 0;

	/* Whose queue is full, and who accepts nobody. */
	assert_int_equal(listen(listener, 0), 0);
	address = g_strdup_printf("127.0.0.1:%u", base_tcp_port(listener));
	while (count < G_N_ELEMENTS(waiting)) {
		start = base_clock_monotonic_ns();
		waiting[count] = base_tcp_connect(address, 200, &error);
		if (waiting[count] < 0)
			break;
		count++;
	}
	assert_true(count < G_N_ELEMENTS(waiting));
	assert_in_range((base_clock_monotonic_ns() - start) / 1000000, 199, 10000);
	assert_true(g_error_matches(error, BASE_CHANNEL_ERROR, BASE_CHANNEL_LOST));
	assert_non_null(strstr(error->message, "timed out"));
	while (count)
		close(waiting[--count]);
	close(listener);
}

static void an_address_in_use_or_not_ours_is_refused(void **state)
{
	g_autoptr(GError) error = NULL, foreign = NULL, name = NULL;
	g_autofree char *address = NULL;
	int listener = base_tcp_listen("127.0.0.1:0", NULL);

	address = g_strdup_printf("127.0.0.1:%u", base_tcp_port(listener));
	assert_int_equal(base_tcp_listen(address, &error), -1);
	assert_non_null(strstr(error->message, "in use"));
	assert_non_null(strstr(error->message, address));
	close(listener);
	assert_int_equal(base_tcp_listen("192.0.2.1:7000", &foreign), -1);
	assert_int_equal(foreign->code, BASE_CHANNEL_ADDRESS);
	assert_int_equal(base_tcp_listen("localhost:0", &name), -1);
	assert_int_equal(name->code, BASE_CHANNEL_ADDRESS);
}

static void a_local_socket_has_a_name_too(void **state)
{
	g_autofree char *name = NULL;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	name = base_tcp_peer(fds[0]);
	assert_string_equal(name, "a local socket");
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_taken_apart),
		cmocka_unit_test(what_is_no_address_is_refused),
		cmocka_unit_test(both_kinds_of_address_connect),
		cmocka_unit_test(a_name_is_resolved),
		cmocka_unit_test(a_peer_that_is_not_there_is_an_error_at_once),
		cmocka_unit_test(
			a_peer_that_never_answers_costs_no_more_than_the_deadline),
		cmocka_unit_test(an_address_in_use_or_not_ours_is_refused),
		cmocka_unit_test(a_local_socket_has_a_name_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
