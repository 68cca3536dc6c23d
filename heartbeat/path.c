/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A path of heartbeats: one UDP socket between an address of ours and one of the
 * peer's. */
#include "heartbeat/path.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/ip.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/tcp.h"

/* Small datagrams take 768 bytes of it each, so this is some 300 of them. */
#define RECEIVE_BYTES (256 << 10)

struct end {
	char *host; /* numeric, with the interface for a link-local one */
	guint16 port;
};

struct hb_path {
	char *words;
	struct end local, remote;
	int family;
	char *device; /* NULL: any */
	gboolean only_send;
	int fd;
	gboolean broken;
	struct sockaddr_storage to;
	socklen_t to_length;
};

static int family_of(const char *host)
{
	g_autofree char *bare = g_strndup(host, strcspn(host, "%"));
	struct in6_addr address;

	if (inet_pton(AF_INET, bare, &address) == 1 && !strchr(host, '%'))
		return AF_INET;
	return inet_pton(AF_INET6, bare, &address) == 1 ? AF_INET6 : AF_UNSPEC;
}

static gboolean parse_end(const char *word, struct end *end, GError **error)
{
	g_autoptr(GError) why = NULL;

	if (!base_tcp_parse(word, &end->host, &end->port, &why))
		return hb_error_set(error, HB_ERROR_CONFIG, "--path: %s", why->message);
	if (family_of(end->host) == AF_UNSPEC)
		return hb_error_set(error, HB_ERROR_CONFIG,
				    "--path: \"%s\" is no numeric address", word);
	if (!end->port)
		return hb_error_set(error, HB_ERROR_CONFIG, "--path: \"%s\": port 0",
				    word);
	return TRUE;
}

static gboolean parse(hb_path *path, GError **error)
{
	g_auto(GStrv) words = g_strsplit(path->words, ",", -1);
	guint count = g_strv_length(words);

	if (count < 2 || count > 3)
		return hb_error_set(error, HB_ERROR_CONFIG,
				    "--path: LOCAL,REMOTE or LOCAL,REMOTE,DEVICE, not "
				    "\"%s\"",
				    path->words);
	if (!parse_end(words[0], &path->local, error) ||
	    !parse_end(words[1], &path->remote, error))
		return FALSE;
	path->family = family_of(path->local.host);
	if (path->family != family_of(path->remote.host))
		return hb_error_set(error, HB_ERROR_CONFIG,
				    "--path: %s and %s are of two families", words[0],
				    words[1]);
	if (count == 3 && (!*words[2] || strlen(words[2]) >= IFNAMSIZ))
		return hb_error_set(error, HB_ERROR_CONFIG,
				    "--path: \"%s\" is no name of a device", words[2]);
	path->device = g_strdup(words[2]);
	return TRUE;
}

hb_path *hb_path_new(const char *words, GError **error)
{
	g_autoptr(hb_path) path = g_new0(hb_path, 1);

	path->fd = -1;
	path->broken = TRUE;
	path->words = g_strdup(words);
	return parse(path, error) ? g_steal_pointer(&path) : NULL;
}

void hb_path_free(hb_path *path)
{
	if (!path)
		return;
	base_fd_clear(&path->fd);
	g_free(path->words);
	g_free(path->local.host);
	g_free(path->remote.host);
	g_free(path->device);
	g_free(path);
}

const char *hb_path_words(const hb_path *path)
{
	return path->words;
}

/* Each time anew: the number of a link-local address's interface may have changed. */
static int look_up(const struct end *end, struct sockaddr_storage *address,
		   socklen_t *length)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_DGRAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
	};
	struct addrinfo *found;
	char port[8];

	g_snprintf(port, sizeof(port), "%u", end->port);
	if (getaddrinfo(end->host, port, &hints, &found))
		return -ENODEV; /* no such interface: the rest was judged before */
	memcpy(address, found->ai_addr, found->ai_addrlen);
	*length = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

static void set_port(struct sockaddr_storage *address, guint16 port)
{
	if (address->ss_family == AF_INET6)
		((struct sockaddr_in6 *)address)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)address)->sin_port = htons(port);
}

static void set_option(int fd, int level, int name, int value)
{
	/* Comfort only; each of these exists on the kernels that we run on. */
	(void)!setsockopt(fd, level, name, &value, sizeof(value));
}

static void set_options(const hb_path *path, int fd)
{
	set_option(fd, SOL_SOCKET, SO_RCVBUF, path->only_send ? 0 : RECEIVE_BYTES);
	set_option(fd, SOL_SOCKET, SO_PRIORITY, 6);
	if (path->family == AF_INET6) {
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
		set_option(fd, IPPROTO_IPV6, IPV6_TCLASS, IPTOS_CLASS_CS6);
	} else {
		set_option(fd, IPPROTO_IP, IP_TOS, IPTOS_CLASS_CS6);
	}
}

static int bind_socket(hb_path *path, int fd, const char **what)
{
	struct sockaddr_storage from;
	socklen_t length;
	int rc;

	*what = "find the interface";
	rc = look_up(&path->local, &from, &length);
	if (!rc)
		rc = look_up(&path->remote, &path->to, &path->to_length);
	if (rc)
		return rc;
	if (path->only_send)
		set_port(&from, 0);
	*what = "bind to the device";
	if (path->device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, path->device,
				       (socklen_t)strlen(path->device)))
		return -errno;
	*what = "bind to the address";
	return bind(fd, (struct sockaddr *)&from, length) ? -errno : 0;
}

int hb_path_mend(hb_path *path, const char **what)
{
	base_autofd int fd = -1;
	int rc;

	if (!path->broken)
		return 0;
	base_fd_clear(&path->fd); /* it has the port */
	*what = "make a socket";
	fd = socket(path->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	set_options(path, fd);
	rc = bind_socket(path, fd, what);
	if (rc)
		return rc;
	path->fd = base_fd_steal(&fd);
	path->broken = FALSE;
	return 0;
}

gboolean hb_path_is_broken(const hb_path *path)
{
	return path->broken;
}

void hb_path_only_send(hb_path *path)
{
	path->only_send = path->broken = TRUE;
}

gboolean hb_path_filter(hb_path *path, const guint8 head[HB_FILTER_HEAD],
			guint64 session)
{
	return path->fd >= 0 &&
	       hb_filter_put(path->fd, (struct sockaddr *)&path->to, head, session);
}

void hb_path_unfilter(hb_path *path)
{
	if (path->fd >= 0)
		hb_filter_remove(path->fd);
}

int hb_path_fd(const hb_path *path)
{
	return path->fd;
}

/* Whether a new socket may do better. A full buffer or a firewall are no fault of it.
 */
static gboolean is_broken_by(int err)
{
	return err != EAGAIN && err != ENOBUFS && err != ENOMEM && err != EPERM &&
	       err != EINTR;
}

int hb_path_send(hb_path *path, const void *bytes, gsize length)
{
	ssize_t n;
	int err;

	if (path->fd < 0)
		return -ENOTCONN;
	n = sendto(path->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL,
		   (const struct sockaddr *)&path->to, path->to_length);
	err = errno;
	if (n >= 0)
		return 0;
	path->broken |= is_broken_by(err);
	return -err;
}

gssize hb_path_receive(hb_path *path, void *bytes, gsize room)
{
	ssize_t n;
	int err;

	if (path->fd < 0)
		return -EAGAIN;
	do {
		n = recv(path->fd, bytes, room, MSG_DONTWAIT);
		err = errno;
	} while (n < 0 && err == EINTR);
	if (n >= 0)
		return n;
	path->broken |= err != EAGAIN;
	return -EAGAIN;
}
