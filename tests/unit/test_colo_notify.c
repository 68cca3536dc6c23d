/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What systemd is told, by a socket in its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "colo/notify.h"

struct rig {
	char *dir, *path;
	int fd;
};

static void listen_at(struct rig *rig, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length = sizeof(address);

	memcpy(address.sun_path, name, strlen(name));
	if (*name == '@') {
		address.sun_path[0] = '\0';
		length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				     strlen(name));
	}
	rig->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(rig->fd, (struct sockaddr *)&address, length), 0);
	g_setenv("NOTIFY_SOCKET", name, TRUE);
}

static int set_up(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->fd = -1;
	rig->dir = g_dir_make_tmp("colo-notify-XXXXXX", NULL);
	rig->path = g_build_filename(rig->dir, "s", NULL);
	g_unsetenv("NOTIFY_SOCKET");
	g_unsetenv("WATCHDOG_USEC");
	g_unsetenv("WATCHDOG_PID");
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	if (rig->fd >= 0)
		close(rig->fd);
	g_unlink(rig->path);
	g_rmdir(rig->dir);
	g_free(rig->dir);
	g_free(rig->path);
	g_free(rig);
	return 0;
}

static void hears(struct rig *rig, const char *text)
{
	char got[256] = "";

	assert_true(recv(rig->fd, got, sizeof(got) - 1, 0) > 0);
	assert_string_equal(got, text);
}

static void hears_nothing(struct rig *rig)
{
	char byte;

	assert_int_equal(recv(rig->fd, &byte, 1, 0), -1);
}

static void readiness_and_status_are_told(void **state)
{
	struct rig *rig = *state;
	g_autoptr(colo_notify) notify = NULL;

	listen_at(rig, rig->path);
	notify = colo_notify_new();
	/* Programs that are started must not speak for us. */
	assert_null(g_getenv("NOTIFY_SOCKET"));
	hears_nothing(rig);
	colo_notify_ready(notify);
	hears(rig, "READY=1");
	colo_notify_status(notify, "protected\nREADY=0");
	hears(rig, "STATUS=protected");
	colo_notify_status(notify, "protected");
	hears_nothing(rig);
	colo_notify_status(notify, "solo");
	hears(rig, "STATUS=solo");
	colo_notify_stopping(notify);
	hears(rig, "STOPPING=1");
}

static void an_abstract_socket_serves_as_well(void **state)
{
	struct rig *rig = *state;
	g_autofree char *name = g_strdup_printf("@colo-test-%d", getpid());
	g_autoptr(colo_notify) notify = NULL;

	listen_at(rig, name);
	notify = colo_notify_new();
	colo_notify_ready(notify);
	hears(rig, "READY=1");
	hears_nothing(rig);
}

static void the_watchdog_is_fed_by_the_main_loop(void **state)
{
	struct rig *rig = *state;
	g_autofree char *pid = g_strdup_printf("%d", getpid());
	g_autoptr(colo_notify) notify = NULL;

	listen_at(rig, rig->path);
	g_setenv("WATCHDOG_USEC", "20000", TRUE);
	g_setenv("WATCHDOG_PID", pid, TRUE);
	notify = colo_notify_new();
	colo_notify_ready(notify);
	hears(rig, "READY=1");
	hears(rig, "WATCHDOG=1");
	hears_nothing(rig);
	for (guint i = 0; i < 3; i++) {
		g_main_context_iteration(NULL, TRUE);
		hears(rig, "WATCHDOG=1");
	}
}

static void a_watchdog_of_another_process_is_not_ours(void **state)
{
	struct rig *rig = *state;
	g_autoptr(colo_notify) notify = NULL;

	listen_at(rig, rig->path);
	g_setenv("WATCHDOG_USEC", "2000", TRUE);
	g_setenv("WATCHDOG_PID", "1", TRUE);
	notify = colo_notify_new();
	colo_notify_ready(notify);
	hears(rig, "READY=1");
	hears_nothing(rig);
	assert_false(g_main_context_pending(NULL));
}

static GLogWriterOutput quiet(GLogLevelFlags level, const GLogField *fields, gsize n,
			      gpointer data)
{
	return G_LOG_WRITER_HANDLED;
}

static void nobody_is_told_where_there_is_nobody(void **state)
{
	static const char *const names[] = { "relative", "@", "/",
					     "/nonexistent/socket" };
	g_autofree char *longest = g_strnfill(300, '/');
	g_autoptr(colo_notify) without = colo_notify_new();

	colo_notify_ready(without);
	colo_notify_status(without, "x");
	for (guint i = 0; i <= G_N_ELEMENTS(names); i++) {
		g_autoptr(colo_notify) notify = NULL;

		g_setenv("NOTIFY_SOCKET", i < G_N_ELEMENTS(names) ? names[i] : longest,
			 TRUE);
		g_setenv("WATCHDOG_USEC", "-5", TRUE);
		notify = colo_notify_new();
		colo_notify_ready(notify);
		colo_notify_status(notify, "x");
		assert_false(g_main_context_pending(NULL));
	}
}

static void a_socket_that_is_full_holds_up_nobody(void **state)
{
	struct rig *rig = *state;
	g_autoptr(colo_notify) notify = NULL;

	listen_at(rig, rig->path);
	notify = colo_notify_new();
	for (guint i = 0; i < 5000; i++)
		colo_notify_status(notify, i % 2 ? "a" : "b");
	hears(rig, "STATUS=b");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(readiness_and_status_are_told),
		TEST(an_abstract_socket_serves_as_well),
		TEST(the_watchdog_is_fed_by_the_main_loop),
		TEST(a_watchdog_of_another_process_is_not_ours),
		TEST(nobody_is_told_where_there_is_nobody),
		TEST(a_socket_that_is_full_holds_up_nobody),
	};

	g_log_set_writer_func(quiet, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
