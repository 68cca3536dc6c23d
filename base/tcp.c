/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TCP between two hosts.
 *
 * Names are resolved by a thread of their own, since getaddrinfo() knows no deadline;
 * one that comes too late ends alone.
 */
#include "base/tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"

#define MS G_GUINT64_CONSTANT(1000000) /* nanoseconds */
#define BACKLOG 16

static int refuse(GError **error, enum base_channel_error code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);
static int refuse(GError **error, enum base_channel_error code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (error)
		*error =
			g_error_new_valist(BASE_CHANNEL_ERROR, (int)code, format, args);
	va_end(args);
	return -1;
}

static gboolean parse_port(const char *text, guint16 *port)
{
	guint64 value;

	if (!g_ascii_isdigit(*text) ||
	    !g_ascii_string_to_unsigned(text, 10, 0, 65535, &value, NULL))
		return FALSE;
	*port = (guint16)value;
	return TRUE;
}

static gboolean good_host(const char *host, gboolean brackets)
{
	struct in6_addr ipv6;

	if (brackets) {
		g_autofree char *bare = g_strndup(host, strcspn(host, "%"));

		/* Link-local addresses name their interface: fe80::1%eth0. */
		return inet_pton(AF_INET6, bare, &ipv6) == 1 &&
		       (!strchr(host, '%') || strchr(host, '%')[1]);
	}
	return *host && strlen(host) <= 253 &&
	       strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			    "0123456789.-_") == strlen(host);
}

gboolean base_tcp_parse(const char *address, char **host, guint16 *port, GError **error)
{
	gboolean brackets = address[0] == '[';
	const char *end = strrchr(address, ':');
	g_autofree char *found = NULL;
	guint16 number;

	if (end && brackets && end - address >= 2 && end[-1] == ']')
		found = g_strndup(address + 1, (gsize)(end - address - 2));
	else if (end && !brackets)
		found = g_strndup(address, (gsize)(end - address));
	if (!found || !good_host(found, brackets) || !parse_port(end + 1, &number)) {
		refuse(error, BASE_CHANNEL_ADDRESS,
		       "address \"%s\" is neither HOST:PORT nor [IPV6]:PORT", address);
		return FALSE;
	}
	if (host)
		*host = g_steal_pointer(&found);
	if (port)
		*port = number;
	return TRUE;
}

/* Asks for one name; belongs to the asker and to the thread that gets the answer. */
struct lookup {
	gint users;
	GMutex lock;
	GCond answered;
	char *host, *port;
	gboolean done;
	int rc;
	struct addrinfo *found;
};

static int resolve(const char *host, const char *port, int flags,
		   struct addrinfo **found)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV | flags,
	};

	return getaddrinfo(host, port, &hints, found);
}

static void lookup_unref(struct lookup *lookup)
{
	if (!g_atomic_int_dec_and_test(&lookup->users))
		return;
	if (lookup->found)
		freeaddrinfo(lookup->found);
	g_mutex_clear(&lookup->lock);
	g_cond_clear(&lookup->answered);
	g_free(lookup->host);
	g_free(lookup->port);
	g_free(lookup);
}

static void *lookup_thread(void *data)
{
	struct lookup *lookup = data;
	struct addrinfo *found = NULL;
	int rc = resolve(lookup->host, lookup->port, 0, &found);

	g_mutex_lock(&lookup->lock);
	lookup->rc = rc;
	lookup->found = found;
	lookup->done = TRUE;
	g_cond_signal(&lookup->answered);
	g_mutex_unlock(&lookup->lock);
	lookup_unref(lookup);
	return NULL;
}

/* As resolve(), but for a name, and EAI_AGAIN at the deadline. */
static int resolve_name(const char *host, const char *port, guint64 deadline_ns,
			struct addrinfo **found)
{
	struct lookup *lookup = g_new0(struct lookup, 1);
	GThread *thread;
	int rc = EAI_AGAIN;

	lookup->users = 2;
	g_mutex_init(&lookup->lock);
	g_cond_init(&lookup->answered);
	lookup->host = g_strdup(host);
	lookup->port = g_strdup(port);
	thread = g_thread_try_new("resolve", lookup_thread, lookup, NULL);
	if (!thread) {
		lookup_unref(lookup);
		lookup_unref(lookup);
		return EAI_AGAIN;
	}
	g_thread_unref(thread);
	g_mutex_lock(&lookup->lock);
	while (!lookup->done) {
		guint64 now = base_clock_monotonic_ns();

		if (now >= deadline_ns ||
		    !g_cond_wait_until(&lookup->answered, &lookup->lock,
				       g_get_monotonic_time() +
					       (gint64)((deadline_ns - now) / 1000)))
			break;
	}
	if (lookup->done) {
		rc = lookup->rc;
		*found = g_steal_pointer(&lookup->found);
	}
	g_mutex_unlock(&lookup->lock);
	lookup_unref(lookup);
	return rc;
}

static void set_option(int fd, int level, int name, int value)
{
	/* Comfort only; each of these exists on the kernels that we run on. */
	(void)!setsockopt(fd, level, name, &value, sizeof(value));
}

/* Connections that are accepted have these from their listener. */
static void set_options(int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 10);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

static int finish_connect(int fd, guint64 deadline_ns)
{
	struct pollfd poller = { .fd = fd, .events = POLLOUT };
	socklen_t length = sizeof(int);
	int n, result;

	do {
		guint64 now = base_clock_monotonic_ns();

		if (now >= deadline_ns)
			return ETIMEDOUT;
		n = poll(&poller, 1,
			 (int)MIN((deadline_ns - now + MS - 1) / MS, 1000000));
	} while (n == 0 || (n < 0 && errno == EINTR));
	if (n < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &result, &length))
		return errno;
	return result;
}

/* 0 with a descriptor, or an errno. */
static int connect_one(const struct addrinfo *to, guint64 deadline_ns, int *connected)
{
	base_autofd int fd =
		socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err;

	if (fd < 0)
		return errno;
	set_options(fd);
	if (connect(fd, to->ai_addr, to->ai_addrlen)) {
		err = errno;
		if (err == EINPROGRESS)
			err = finish_connect(fd, deadline_ns);
		if (err)
			return err;
	}
	*connected = base_fd_steal(&fd);
	return 0;
}

static int connect_any(const struct addrinfo *found, const char *address,
		       guint64 deadline_ns, GError **error)
{
	guint left = 0;
	int err = ETIMEDOUT, fd;

	for (const struct addrinfo *to = found; to; to = to->ai_next)
		left++;
	for (const struct addrinfo *to = found; to; to = to->ai_next) {
		guint64 now = base_clock_monotonic_ns();

		if (now >= deadline_ns)
			break;
		/* One that is silent must not take the time of the others. */
		err = connect_one(to, now + (deadline_ns - now) / left--, &fd);
		if (!err)
			return fd;
	}
	return refuse(error, BASE_CHANNEL_LOST, "connect to %s: %s", address,
		      g_strerror(err));
}

int base_tcp_connect(const char *address, guint deadline_ms, GError **error)
{
	guint64 deadline_ns = base_clock_monotonic_ns() + deadline_ms * MS;
	g_autofree char *host = NULL, *port = NULL;
	struct addrinfo *found = NULL;
	guint16 number;
	int rc, fd;

	if (!base_tcp_parse(address, &host, &number, error))
		return -1;
	port = g_strdup_printf("%u", number);
	rc = resolve(host, port, AI_NUMERICHOST, &found);
	if (rc == EAI_NONAME)
		rc = resolve_name(host, port, deadline_ns, &found);
	if (rc)
		return refuse(error, BASE_CHANNEL_LOST, "resolve %s: %s", host,
			      gai_strerror(rc));
	fd = connect_any(found, address, deadline_ns, error);
	freeaddrinfo(found);
	return fd;
}

static int listen_at(const struct addrinfo *at, int *listening)
{
	base_autofd int fd =
		socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return errno;
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (at->ai_family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	set_options(fd);
	if (bind(fd, at->ai_addr, at->ai_addrlen) || listen(fd, BACKLOG))
		return errno;
	*listening = base_fd_steal(&fd);
	return 0;
}

int base_tcp_listen(const char *address, GError **error)
{
	g_autofree char *host = NULL, *port = NULL;
	struct addrinfo *found = NULL;
	int rc, err, fd = -1;
	guint16 number;

	if (!base_tcp_parse(address, &host, &number, error))
		return -1;
	port = g_strdup_printf("%u", number);
	rc = resolve(host, port, AI_NUMERICHOST | AI_PASSIVE, &found);
	if (rc)
		return refuse(error, BASE_CHANNEL_ADDRESS, "listen on %s: %s", address,
			      gai_strerror(rc));
	err = listen_at(found, &fd);
	freeaddrinfo(found);
	if (err)
		return refuse(error, BASE_CHANNEL_ADDRESS, "listen on %s: %s", address,
			      g_strerror(err));
	return fd;
}

int base_tcp_accept(int listener, GError **error)
{
	int fd, err;

	do {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		err = errno;
	} while (fd < 0 && err == EINTR);
	/* Whoever waited may have gone again. */
	if (fd >= 0 || err == EAGAIN || err == ECONNABORTED)
		return fd;
	return refuse(error, BASE_CHANNEL_LOST, "accept a connection: %s",
		      g_strerror(err));
}

char *base_tcp_peer(int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char host[INET6_ADDRSTRLEN + 24], port[8]; /* with an interface */

	if (getpeername(fd, (struct sockaddr *)&address, &length) ||
	    address.ss_family == AF_UNIX ||
	    getnameinfo((struct sockaddr *)&address, length, host, sizeof(host), port,
			sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
		return g_strdup("a local socket");
	return g_strdup_printf(strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

guint16 base_tcp_port(int fd)
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof(address);

	(void)!getsockname(fd, (struct sockaddr *)&address, &length);
	if (address.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
	if (address.ss_family == AF_INET)
		return ntohs(((struct sockaddr_in *)&address)->sin_port);
	return 0;
}
