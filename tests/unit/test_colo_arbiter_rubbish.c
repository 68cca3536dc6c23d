/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The arbiter on etcd, where what answers is broken, hostile or no etcd at all. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <gio/gio.h>
#include <glib-unix.h>

#include "base/fd.h"
#include "colo/http.h"
#include "tests/unit/fake_etcd.h"

#define TIMEOUT_MS 400u

/* A server that says the same to everybody who says something. */
struct server {
	GSocketService *service;
	char *url;
	const char *says;
	gsize length, said; /* how much at all; how much of it */
	gboolean closes, trickles;
	GPtrArray *connections;
	guint requests;
};

struct connection {
	struct server *server;
	GSocketConnection *connection;
	guint source, timer;
	gsize said;
};

static gboolean say(gpointer data)
{
	struct connection *one = data;
	struct server *server = one->server;
	GSocket *socket = g_socket_connection_get_socket(one->connection);
	gsize left = server->length - one->said;
	gssize n = left ? g_socket_send(socket, server->says + one->said,
					server->trickles ? 1 : left, NULL, NULL)
			: 0;

	if (n > 0)
		one->said += (gsize)n;
	if (n >= 0 && one->said < server->length)
		return G_SOURCE_CONTINUE;
	if (server->closes)
		g_socket_shutdown(socket, FALSE, TRUE, NULL);
	one->timer = 0;
	return G_SOURCE_REMOVE;
}

static gboolean hear(gint fd, GIOCondition condition, gpointer data)
{
	struct connection *one = data;
	char bytes[8192];
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n <= 0) {
		one->source = 0;
		return G_SOURCE_REMOVE;
	}
	one->server->requests++;
	one->said = 0;
	if (!one->timer)
		one->timer = g_timeout_add(one->server->trickles ? 20 : 1, say, one);
	return G_SOURCE_CONTINUE;
}

static gboolean take(GSocketService *service, GSocketConnection *connection,
		     GObject *source, gpointer data)
{
	struct connection *one = g_new0(struct connection, 1);

	one->server = data;
	one->connection = g_object_ref(connection);
	g_socket_set_blocking(g_socket_connection_get_socket(connection), FALSE);
	one->source = g_unix_fd_add(
		g_socket_get_fd(g_socket_connection_get_socket(connection)),
		G_IO_IN | G_IO_HUP, hear, one);
	g_ptr_array_add(one->server->connections, one);
	return TRUE;
}

static void connection_free(gpointer data)
{
	struct connection *one = data;

	g_clear_handle_id(&one->source, g_source_remove);
	g_clear_handle_id(&one->timer, g_source_remove);
	g_io_stream_close(G_IO_STREAM(one->connection), NULL, NULL);
	g_object_unref(one->connection);
	g_free(one);
}

static void server_start(struct server *server)
{
	g_autoptr(GInetAddress) loopback =
		g_inet_address_new_loopback(G_SOCKET_FAMILY_IPV4);
	g_autoptr(GSocketAddress) any = g_inet_socket_address_new(loopback, 0);
	g_autoptr(GSocketAddress) bound = NULL;

	server->service = g_socket_service_new();
	server->connections = g_ptr_array_new_with_free_func(connection_free);
	assert_true(g_socket_listener_add_address(
		G_SOCKET_LISTENER(server->service), any, G_SOCKET_TYPE_STREAM,
		G_SOCKET_PROTOCOL_TCP, NULL, &bound, NULL));
	server->url = g_strdup_printf(
		"http://127.0.0.1:%u",
		g_inet_socket_address_get_port(G_INET_SOCKET_ADDRESS(bound)));
	g_signal_connect(server->service, "incoming", G_CALLBACK(take), server);
	g_socket_service_start(server->service);
}

static void server_clear(struct server *server)
{
	g_ptr_array_unref(server->connections);
	g_socket_service_stop(server->service);
	g_socket_listener_close(G_SOCKET_LISTENER(server->service));
	g_object_unref(server->service);
	g_free(server->url);
}

#define HTTP(status, body)                                          \
	"HTTP/1.1 " status "\r\nContent-Type: application/json\r\n" \
	"Connection: close\r\n\r\n" body
#define OK(body) HTTP("200 OK", body)
#define HEADER "\"header\":{\"cluster_id\":\"1\",\"revision\":\"5\"}"

struct rubbish {
	const char *says, *why;
	gboolean closes, trickles;
};

static const struct rubbish rubbish[] = {
	{ "", "Empty reply", TRUE },
	{ "", "no answer in time", FALSE },
	{ "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/0.9", TRUE },
	{ "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "", TRUE },
	{ "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "no answer in time",
	  FALSE },
	{ "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "", TRUE },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "", TRUE },
	{ OK(""), "no JSON", TRUE },
	{ OK("\xff\xfe"), "no JSON", TRUE },
	{ OK("hello\x1b[31m\n"), "no JSON", TRUE },
	{ OK("[]"), "no JSON object", TRUE },
	{ OK("null"), "no JSON object", TRUE },
	{ OK("{}"), "not etcd's", TRUE },
	{ OK("{\"header\":{}}"), "not etcd's", TRUE },
	{ OK("{\"header\":7,\"kvs\":[]}"), "not etcd's", TRUE },
	{ OK("{" HEADER ",\"kvs\":7}"), "not etcd's", TRUE },
	{ OK("{" HEADER ",\"kvs\":[7]}"), "not etcd's", TRUE },
	{ OK("{" HEADER ",\"kvs\":[{}]}"), "not etcd's", TRUE },
	{ OK("{" HEADER ",\"kvs\":[],\"count\":\"1\"}"), "not etcd's", TRUE },
	/* Another key. */
	{ OK("{" HEADER ",\"kvs\":[{\"key\":\"eA==\",\"mod_revision\":\"5\","
	     "\"value\":\"e30=\"}]}"),
	  "not etcd's", TRUE },
	{ OK("{" HEADER ",\"responses\":[],\"succeeded\":true}"), "not etcd's", TRUE },
	{ OK("{" HEADER ",\"responses\":[{\"response_range\":{}}],\"succeeded\":true}"),
	  "not etcd's", TRUE },
	{ OK("{" HEADER ",\"responses\":[{\"response_put\":{}}],\"succeeded\":false}"),
	  "not etcd's", TRUE },
	{ OK("{" HEADER
	     ",\"responses\":[{\"response_put\":{}}],\"succeeded\":\"yes\"}"),
	  "not etcd's", TRUE },
	{ HTTP("500 Oh", "{\"error\":\"etcdserver: no leader\",\"code\":14}"),
	  "no leader", TRUE },
	{ HTTP("503 Oh", "no\x1b[31m"), "status 503", TRUE },
	{ HTTP("401 No", "{\"message\":\"etcdserver: invalid auth token\"}"),
	  "status 401", TRUE },
	/* Nobody is led elsewhere. */
	{ "HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nConnection: "
	  "close\r\n\r\n",
	  "status 307", TRUE },
	{ OK("{" HEADER ",\"kvs\":[]}"), "no answer in time", TRUE, TRUE },
};

static void begin(colo_arbiter *arbiter, guint what, struct test_answer *answer)
{
	if (what == 0)
		arbiter->ops->read(arbiter, test_told, answer);
	else if (what == 1)
		arbiter->ops->claim(arbiter, 4, test_told, answer);
	else if (what == 2)
		arbiter->ops->protect(arbiter, 4, test_told, answer);
	else
		arbiter->ops->create(arbiter, 4, what == 4, test_told, answer);
}

static colo_pair pair_on(char **endpoints)
{
	return (colo_pair){
		.name = (char *)"shop",
		.node = { { .name = (char *)"alpha" }, { .name = (char *)"beta" } },
		.arbiter = { .kind = COLO_ARBITER_ETCD,
			     .timeout_ms = TIMEOUT_MS,
			     .endpoints = endpoints },
	};
}

static void expect_unreachable(struct server *server, guint first, guint last,
			       const char *why)
{
	char *endpoints[] = { server->url, NULL };
	const colo_pair pair = pair_on(endpoints);
	g_autoptr(colo_arbiter) arbiter = colo_arbiter_new(&pair, 0, NULL);

	assert_non_null(arbiter);
	for (guint what = first; what <= last; what++) {
		struct test_answer answer = { 0 };

		begin(arbiter, what, &answer);
		test_wait(&answer);
		if (answer.verdict != COLO_VERDICT_UNREACHABLE)
			fail_msg("verdict %d on %.60s", answer.verdict, server->says);
		assert_false(answer.has_record);
		assert_non_null(strstr(answer.why, server->url));
		/* The last of the attempts may have had too little time for a reason.
		 */
		if (!strstr(answer.why, why) &&
		    !strstr(answer.why, "no answer in time"))
			fail_msg("\"%s\" does not say \"%s\"", answer.why, why);
		test_answer_clear(&answer);
	}
}

static void every_kind_of_rubbish_is_unreachable_with_a_reason(void **state)
{
	for (guint i = 0; i < G_N_ELEMENTS(rubbish); i++) {
		struct server server = { .says = rubbish[i].says,
					 .length = strlen(rubbish[i].says),
					 .closes = rubbish[i].closes,
					 .trickles = rubbish[i].trickles };

		gboolean transaction = strstr(rubbish[i].says, "responses") != NULL;

		server_start(&server);
		/* Those to a transaction would do for a reading that finds nothing. */
		expect_unreachable(&server, transaction, transaction ? 3 : 4,
				   rubbish[i].why);
		assert_true(server.requests > 0);
		server_clear(&server);
	}
}

static void answers_without_end_are_cut_off(void **state)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n";
	static const char lines[] = "HTTP/1.1 200 OK\r\n";
	g_autofree char *body = g_strnfill(300000, '[');
	g_autofree char *headers = g_strnfill(300000, 'x');
	struct server server = { .says = body, .length = 300000 };

	memcpy(body, head, strlen(head));
	server_start(&server);
	expect_unreachable(&server, 0, 4, "more than 65536 bytes");
	server_clear(&server);
	memcpy(headers, lines, strlen(lines));
	for (guint i = strlen(lines); i + 1000 < 300000; i += 1000)
		memcpy(headers + i, "a: ", 3), memcpy(headers + i + 998, "\r\n", 2);
	server = (struct server){ .says = headers, .length = 300000 };
	server_start(&server);
	expect_unreachable(&server, 0, 4, "more than 65536 bytes");
	server_clear(&server);
	/* As deep as it can be within the limit. */
	memcpy(body, "HTTP/1.1 200 OK\r\nContent-Length: 065000\r\n\r\n", strlen(head));
	server = (struct server){ .says = body, .length = 65000 + strlen(head) };
	server_start(&server);
	expect_unreachable(&server, 0, 4, "no JSON");
	server_clear(&server);
}

/* What is asked of it is not what it says was done. */
static void a_server_that_says_yes_to_all_cannot_make_a_reading_of_it(void **state)
{
	static const char yes[] = OK(
		"{" HEADER ",\"succeeded\":true,\"responses\":[{\"response_put\":{}}],"
		"\"kvs\":[{\"key\":\"c2hvcA==\",\"mod_revision\":\"5\","
		"\"value\":\"e30=\"}]}");
	struct server server = { .says = yes,
				 .length = sizeof(yes) - 1,
				 .closes = TRUE };

	server_start(&server);
	expect_unreachable(&server, 0, 0, "the record");
	server_clear(&server);
}

/* Of two endpoints the one that speaks nonsense is passed over. */
static void the_next_endpoint_is_asked(void **state)
{
	static const char good[] = OK("{" HEADER "}");
	struct server bad = { .says = "nonsense\r\n", .length = 10, .closes = TRUE };
	struct server fine = { .says = good,
			       .length = sizeof(good) - 1,
			       .closes = TRUE };
	char *endpoints[] = { NULL, NULL, NULL };
	colo_pair pair = pair_on(endpoints);
	g_autoptr(colo_arbiter) arbiter = NULL;
	struct test_answer answer = { 0 };

	server_start(&bad);
	server_start(&fine);
	endpoints[0] = bad.url;
	endpoints[1] = fine.url;
	pair.arbiter.timeout_ms = 20000;
	arbiter = colo_arbiter_new(&pair, 0, NULL);
	for (guint i = 0; i < 3; i++) {
		begin(arbiter, 0, &answer);
		test_wait(&answer);
		assert_int_equal(answer.verdict, COLO_VERDICT_NO_RECORD);
		test_answer_clear(&answer);
	}
	/* The one that answered is asked first from then on. */
	assert_int_equal(bad.requests, 1);
	server_clear(&bad);
	server_clear(&fine);
}

static void the_environment_sends_nobody_to_a_proxy(void **state)
{
	static const char good[] = OK("{" HEADER "}");
	struct server fine = { .says = good,
			       .length = sizeof(good) - 1,
			       .closes = TRUE };
	char *endpoints[] = { NULL, NULL };
	colo_pair pair = pair_on(endpoints);
	g_autoptr(colo_arbiter) arbiter = NULL;
	struct test_answer answer = { 0 };

	g_setenv("http_proxy", "http://127.0.0.1:1/", TRUE);
	g_setenv("ALL_PROXY", "http://127.0.0.1:1/", TRUE);
	server_start(&fine);
	endpoints[0] = fine.url;
	pair.arbiter.timeout_ms = 20000;
	arbiter = colo_arbiter_new(&pair, 0, NULL);
	begin(arbiter, 0, &answer);
	test_wait(&answer);
	assert_int_equal(answer.verdict, COLO_VERDICT_NO_RECORD);
	test_answer_clear(&answer);
	server_clear(&fine);
	g_unsetenv("http_proxy");
	g_unsetenv("ALL_PROXY");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_rubbish_is_unreachable_with_a_reason),
		cmocka_unit_test(answers_without_end_are_cut_off),
		cmocka_unit_test(
			a_server_that_says_yes_to_all_cannot_make_a_reading_of_it),
		cmocka_unit_test(the_next_endpoint_is_asked),
		cmocka_unit_test(the_environment_sends_nobody_to_a_proxy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
