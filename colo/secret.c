/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Passwords in memory and in their files. */
#include "colo/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "colo/pair.h"

#define FILE_MAX 4096u

struct colo_secret {
	gsize length;
	char text[COLO_SECRET_MAX + 1];
};

colo_secret *colo_secret_new(GError **error)
{
	colo_secret *secret = mmap(NULL, sizeof(*secret), PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err = errno;

	if (secret == MAP_FAILED) {
		g_set_error(error, COLO_ERROR, COLO_ERROR_HOST,
			    "get memory for a secret: %s", g_strerror(err));
		return NULL;
	}
	if (mlock(secret, sizeof(*secret)) ||
	    madvise(secret, sizeof(*secret), MADV_DONTDUMP)) {
		err = errno;
		g_set_error(error, COLO_ERROR, COLO_ERROR_HOST,
			    "lock the memory of a secret: %s (see LimitMEMLOCK=)",
			    g_strerror(err));
		colo_secret_free(secret);
		return NULL;
	}
	return secret;
}

void colo_secret_free(colo_secret *secret)
{
	if (!secret)
		return;
	explicit_bzero(secret, sizeof(*secret));
	munmap(secret, sizeof(*secret));
}

const char *colo_secret_text(const colo_secret *secret, gsize *length)
{
	*length = secret->length;
	return secret->text;
}

gboolean colo_secret_append(colo_secret *secret, const char *bytes, gsize length)
{
	if (length > COLO_SECRET_MAX - secret->length)
		return FALSE;
	memcpy(secret->text + secret->length, bytes, length);
	secret->length += length;
	return TRUE;
}

static int open_checked(const char *what, const char *path, GError **error)
{
	base_autofd int fd =
		open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat status;
	int err = errno;

	if (fd < 0) {
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG, "open %s %s: %s",
			    what, path,
			    err == ELOOP ? "it is a symbolic link" : g_strerror(err));
		return -1;
	}
	if (fstat(fd, &status)) {
		err = errno;
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG, "look at %s %s: %s",
			    what, path, g_strerror(err));
		return -1;
	}
	if (!S_ISREG(status.st_mode)) {
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
			    "%s %s is not a regular file", what, path);
		return -1;
	}
	if (status.st_uid != geteuid() && status.st_uid != 0) {
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
			    "%s %s belongs to user %u, must be %u or root", what, path,
			    status.st_uid, geteuid());
		return -1;
	}
	if ((status.st_mode & 07777) != 0600 && (status.st_mode & 07777) != 0400) {
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
			    "%s %s has mode %04o, must be 0600 or 0400", what, path,
			    status.st_mode & 07777);
		return -1;
	}
	return base_fd_steal(&fd);
}

gboolean colo_secret_check_file(const char *what, const char *path, GError **error)
{
	base_autofd int fd = open_checked(what, path, error);

	return fd >= 0;
}

colo_secret *colo_secret_read(const char *what, const char *path, GError **error)
{
	base_autofd int fd = open_checked(what, path, error);
	g_autoptr(colo_secret) secret = NULL;

	if (fd < 0)
		return NULL;
	secret = colo_secret_new(error);
	if (!secret)
		return NULL;
	while (secret->length <= FILE_MAX) {
		ssize_t n = read(fd, secret->text + secret->length,
				 FILE_MAX + 1 - secret->length);
		int err = errno;

		if (n < 0 && err == EINTR)
			continue;
		if (n < 0) {
			g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
				    "read %s %s: %s", what, path, g_strerror(err));
			return NULL;
		}
		if (!n)
			return g_steal_pointer(&secret);
		secret->length += (gsize)n;
	}
	g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
		    "%s %s is longer than %u bytes", what, path, FILE_MAX);
	return NULL;
}
