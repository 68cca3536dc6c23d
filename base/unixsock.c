/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unix sockets with a path.
 *
 * A socket file stays when its owner is killed. Whether somebody listens on it is found
 * by connecting; the directory is locked from that test until we listen, so that two
 * who find the same stale file do not each remove what the other made.
 */
#include "base/unixsock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/error.h"
#include "base/fd.h"

#define LOCK_TRIES 100
#define LOCK_WAIT_US 20000

struct base_listener {
	int fd;
	char *path;
	dev_t dev; /* of the socket file that we made */
	ino_t ino;
};

/* Both return FALSE. */
static gboolean G_GNUC_PRINTF(3, 4)
	refuse(GError **error, enum base_channel_error code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (error)
		*error =
			g_error_new_valist(BASE_CHANNEL_ERROR, (int)code, format, args);
	va_end(args);
	return FALSE;
}

static gboolean G_GNUC_PRINTF(3, 4)
	host_error(GError **error, int err, const char *format, ...)
{
	g_autofree char *what = NULL;
	va_list args;

	va_start(args, format);
	what = g_strdup_vprintf(format, args);
	va_end(args);
	return refuse(error, BASE_CHANNEL_LOST, "%s: %s", what, g_strerror(err));
}

static gboolean make_address(const char *path, struct sockaddr_un *address,
			     GError **error)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!*path || strlen(path) >= sizeof(address->sun_path))
		return refuse(error, BASE_CHANNEL_ADDRESS,
			      "socket path \"%s\" must have 1 to %zu bytes", path,
			      sizeof(address->sun_path) - 1);
	memcpy(address->sun_path, path, strlen(path));
	return TRUE;
}

/* The directory of `path`, locked while it is open; -1 with `error`. */
static int lock_directory(const char *path, GError **error)
{
	g_autofree char *dir = g_path_get_dirname(path);
	base_autofd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		host_error(error, errno, "open directory %s", dir);
		return -1;
	}
	for (guint i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		int err = errno;

		if ((err != EWOULDBLOCK && err != EINTR) || i == LOCK_TRIES) {
			host_error(error, err, "lock directory %s", dir);
			return -1;
		}
		g_usleep(LOCK_WAIT_US);
	}
	return base_fd_steal(&fd);
}

/* Makes `path` free to be bound, or says who has it. */
static gboolean clear_path(const struct sockaddr_un *address, GError **error)
{
	const char *path = address->sun_path;
	base_autofd int fd = -1;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT || host_error(error, errno, "stat %s", path);
	if (!S_ISSOCK(st.st_mode))
		return refuse(error, BASE_CHANNEL_LOST, "%s exists and is not a socket",
			      path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return host_error(error, errno, "make a socket");
	/* Anything but a refusal (a full queue, no permission, another type of socket):
	 * it is in use. */
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno != ECONNREFUSED)
		return refuse(error, BASE_CHANNEL_LOST,
			      "%s is in use by another process", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return host_error(error, errno, "remove stale socket %s", path);
	return TRUE;
}

static base_listener *listen_on(const char *path, int type, GError **error)
{
	base_autofd int lock = -1, fd = -1;
	struct sockaddr_un address;
	base_listener *listener;
	struct stat st;

	if (!make_address(path, &address, error))
		return NULL;
	lock = lock_directory(path, error);
	if (lock < 0 || !clear_path(&address, error))
		return NULL;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The file gets the mode that the socket has when it is bound: no moment in
	 * which others could connect, and no umask to change under other threads. */
	if (fd < 0 || fchmod(fd, 0600) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		host_error(error, errno, "make socket %s", path);
		return NULL;
	}
	if (listen(fd, 64) < 0 || lstat(path, &st) < 0) {
		host_error(error, errno, "listen on %s", path);
		unlink(path);
		return NULL;
	}
	listener = g_new0(base_listener, 1);
	listener->fd = base_fd_steal(&fd);
	listener->path = g_canonicalize_filename(path, NULL);
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	return listener;
}

base_listener *base_listener_new(const char *path, GError **error)
{
	return listen_on(path, SOCK_STREAM, error);
}

base_listener *base_listener_new_packets(const char *path, GError **error)
{
	return listen_on(path, SOCK_SEQPACKET, error);
}

void base_listener_free(base_listener *listener)
{
	struct stat st;

	if (!listener)
		return;
	if (lstat(listener->path, &st) == 0 && st.st_dev == listener->dev &&
	    st.st_ino == listener->ino)
		unlink(listener->path);
	close(listener->fd);
	g_free(listener->path);
	g_free(listener);
}

int base_listener_fd(const base_listener *listener)
{
	return listener->fd;
}

int base_listener_accept(base_listener *listener)
{
	return accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

int base_unix_connect(const char *path, GError **error)
{
	base_autofd int fd = -1;
	struct sockaddr_un address;

	if (!make_address(path, &address, error))
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* A Unix socket connects at once or not at all. */
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		host_error(error, errno, "connect to %s", path);
		return -1;
	}
	return base_fd_steal(&fd);
}
