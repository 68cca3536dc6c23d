/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a service tells systemd. */
#include "colo/notify.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"

struct colo_notify {
	int fd; /* -1: nobody listens */
	struct sockaddr_un address;
	socklen_t length; /* of the address */
	guint64 watchdog_us; /* 0: none is wanted */
	GMainContext *context;
	GSource *watchdog;
	char *status;
};

static void send_text(const colo_notify *notify, const char *text)
{
	if (notify->fd >= 0 &&
	    sendto(notify->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
		   (const struct sockaddr *)&notify->address, notify->length) < 0)
		g_debug("systemd: told nothing: %s", g_strerror(errno));
}

/* A path, or "@name" of the abstract ones, which have no NUL at their end. */
static gboolean set_address(colo_notify *notify, const char *name)
{
	gsize length = strlen(name);

	if ((*name != '/' && *name != '@') || length < 2 ||
	    length >= sizeof(notify->address.sun_path))
		return FALSE;
	notify->address.sun_family = AF_UNIX;
	memcpy(notify->address.sun_path, name, length);
	if (*name == '@')
		notify->address.sun_path[0] = '\0';
	notify->length = (socklen_t)(G_STRUCT_OFFSET(struct sockaddr_un, sun_path) +
				     length + (*name == '/'));
	return TRUE;
}

static guint64 read_watchdog(void)
{
	const char *text = g_getenv("WATCHDOG_USEC"), *pid = g_getenv("WATCHDOG_PID");
	guint64 us, ours;

	if (!text)
		return 0;
	if (pid && (!g_ascii_string_to_unsigned(pid, 10, 1, G_MAXINT32, &ours, NULL) ||
		    ours != (guint64)getpid()))
		return 0;
	if (g_ascii_string_to_unsigned(text, 10, 1, G_MAXUINT32 * 1000ull, &us, NULL))
		return us;
	g_warning("systemd: WATCHDOG_USEC=%s is no time: without a watchdog", text);
	return 0;
}

colo_notify *colo_notify_new(void)
{
	colo_notify *notify = g_new0(colo_notify, 1);
	const char *name = g_getenv("NOTIFY_SOCKET");

	notify->fd = -1;
	notify->context = g_main_context_ref_thread_default();
	notify->watchdog_us = read_watchdog();
	if (name && !set_address(notify, name))
		g_warning("systemd: NOTIFY_SOCKET=%s is no socket: it is told nothing",
			  name);
	else if (name)
		notify->fd =
			socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	g_unsetenv("NOTIFY_SOCKET");
	g_unsetenv("WATCHDOG_USEC");
	g_unsetenv("WATCHDOG_PID");
	return notify;
}

void colo_notify_free(colo_notify *notify)
{
	if (!notify)
		return;
	if (notify->watchdog)
		g_source_destroy(notify->watchdog);
	g_clear_pointer(&notify->watchdog, g_source_unref);
	base_fd_clear(&notify->fd);
	g_main_context_unref(notify->context);
	g_free(notify->status);
	g_free(notify);
}

static gboolean still_here(gpointer data)
{
	send_text(data, "WATCHDOG=1");
	return G_SOURCE_CONTINUE;
}

void colo_notify_ready(colo_notify *notify)
{
	send_text(notify, "READY=1");
	if (notify->fd < 0 || !notify->watchdog_us || notify->watchdog)
		return;
	notify->watchdog =
		g_timeout_source_new((guint)MAX(notify->watchdog_us / 2000, 1));
	g_source_set_callback(notify->watchdog, still_here, notify, NULL);
	g_source_attach(notify->watchdog, notify->context);
	still_here(notify);
}

void colo_notify_status(colo_notify *notify, const char *text)
{
	g_autofree char *line =
		g_strdup_printf("STATUS=%.*s", (int)strcspn(text, "\n"), text);

	if (!g_strcmp0(line, notify->status))
		return;
	send_text(notify, line);
	g_free(notify->status);
	notify->status = g_steal_pointer(&line);
}

void colo_notify_stopping(colo_notify *notify)
{
	send_text(notify, "STOPPING=1");
}
