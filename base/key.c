/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pair's secret in memory and in its file.
 *
 * A page of its own holds the key and, while the file is read, its text, so that no
 * copy is left on a heap or a stack.
 */
#include "base/key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/fd.h"

#define NEW_BYTES 32

struct base_key {
	guint8 bytes[BASE_KEY_MAX];
	gsize length;
	char text[2 * BASE_KEY_MAX +
		  2]; /* of the file: its newline, and one byte too many */
};

static gboolean refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean refuse(GError **error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (error)
		*error = g_error_new_valist(BASE_CHANNEL_ERROR, BASE_CHANNEL_KEY,
					    format, args);
	va_end(args);
	return FALSE;
}

static base_key *key_new(GError **error)
{
	base_key *key = mmap(NULL, sizeof(*key), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err = errno;

	if (key == MAP_FAILED) {
		refuse(error, "get memory for a key: %s", g_strerror(err));
		return NULL;
	}
	if (mlock(key, sizeof(*key)) || madvise(key, sizeof(*key), MADV_DONTDUMP)) {
		err = errno;
		refuse(error, "lock the memory of a key: %s", g_strerror(err));
		base_key_free(key);
		return NULL;
	}
	return key;
}

void base_key_free(base_key *key)
{
	if (!key)
		return;
	explicit_bzero(key, sizeof(*key));
	munmap(key, sizeof(*key));
}

const guint8 *base_key_bytes(const base_key *key, gsize *length)
{
	*length = key->length;
	return key->bytes;
}

static gboolean check_file(int fd, const char *path, GError **error)
{
	struct stat status;

	if (fstat(fd, &status)) {
		int err = errno;

		return refuse(error, "look at key %s: %s", path, g_strerror(err));
	}
	if (!S_ISREG(status.st_mode))
		return refuse(error, "key %s is not a regular file", path);
	if (status.st_uid != geteuid() && status.st_uid != 0)
		return refuse(error, "key %s belongs to user %u, must be %u or root",
			      path, status.st_uid, geteuid());
	if ((status.st_mode & 07777) != 0600 && (status.st_mode & 07777) != 0400)
		return refuse(error, "key %s has mode %04o, must be 0600 or 0400", path,
			      status.st_mode & 07777);
	return TRUE;
}

/* Into key->text; how much, or -1. */
static gssize read_text(base_key *key, int fd, const char *path, GError **error)
{
	gsize have = 0;

	while (have < sizeof(key->text)) {
		ssize_t n = read(fd, key->text + have, sizeof(key->text) - have);
		int err = errno;

		if (n < 0 && err == EINTR)
			continue;
		if (n < 0) {
			refuse(error, "read key %s: %s", path, g_strerror(err));
			return -1;
		}
		if (n == 0)
			break;
		have += (gsize)n;
	}
	return (gssize)have;
}

static gboolean parse_text(base_key *key, gsize length, const char *path,
			   GError **error)
{
	if (length && key->text[length - 1] == '\n')
		length--;
	if (length < 2 * BASE_KEY_MIN || length > 2 * BASE_KEY_MAX || length % 2)
		return refuse(error, "key %s must be %u to %u bytes in hexadecimal",
			      path, BASE_KEY_MIN, BASE_KEY_MAX);
	for (gsize i = 0; i < length; i += 2) {
		int high = g_ascii_xdigit_value(key->text[i]);
		int low = g_ascii_xdigit_value(key->text[i + 1]);

		if (high < 0 || low < 0)
			return refuse(error, "key %s is not hexadecimal", path);
		key->bytes[i / 2] = (guint8)(high << 4 | low);
	}
	key->length = length / 2;
	return TRUE;
}

base_key *base_key_read(const char *path, GError **error)
{
	g_autoptr(base_key) key = NULL;
	/* What is no regular file must not make us wait, nor become our terminal. */
	base_autofd int fd =
		open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	int err = errno;
	gboolean good;
	gssize length;

	if (fd < 0) {
		refuse(error, "open key %s: %s", path,
		       err == ELOOP ? "it is a symbolic link" : g_strerror(err));
		return NULL;
	}
	if (!check_file(fd, path, error))
		return NULL;
	key = key_new(error);
	if (!key)
		return NULL;
	length = read_text(key, fd, path, error);
	good = length >= 0 && parse_text(key, (gsize)length, path, error);
	explicit_bzero(key->text, sizeof(key->text));
	return good ? g_steal_pointer(&key) : NULL;
}

static gboolean fill_random(base_key *key, GError **error)
{
	ssize_t n;

	do
		n = getrandom(key->bytes, NEW_BYTES, 0);
	while (n < 0 && errno == EINTR);
	if (n != NEW_BYTES)
		return refuse(error, "get random bytes for a key");
	for (gsize i = 0; i < NEW_BYTES; i++) {
		key->text[2 * i] = "0123456789abcdef"[key->bytes[i] >> 4];
		key->text[2 * i + 1] = "0123456789abcdef"[key->bytes[i] & 15];
	}
	key->text[2 * NEW_BYTES] = '\n';
	return TRUE;
}

gboolean base_key_generate(const char *path, GError **error)
{
	g_autoptr(base_key) key = key_new(error);
	base_autofd int fd = -1;
	const ssize_t length = 2 * NEW_BYTES + 1;
	int err;

	if (!key || !fill_random(key, error))
		return FALSE;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	err = errno;
	if (fd < 0)
		return refuse(error, "make key %s: %s", path, g_strerror(err));
	errno = EIO; /* what a short write is */
	if (fchmod(fd, 0600) || write(fd, key->text, (gsize)length) != length ||
	    fsync(fd)) {
		err = errno;
		unlink(path);
		return refuse(error, "write key %s: %s", path, g_strerror(err));
	}
	return TRUE;
}
