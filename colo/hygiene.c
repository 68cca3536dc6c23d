/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a process with secrets does first. */
#include "colo/hygiene.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "colo/error.h"

/* A file that is opened later must not become what everything writes its errors to. */
static gboolean fill_standard(GError **error)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return colo_error_errno(error, errno, "open /dev/null");
	} while (fd <= STDERR_FILENO);
	close(fd);
	return TRUE;
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static gboolean close_strays(const int *keep, GError **error)
{
	g_autofree int *kept = NULL;
	guint count = 0, from = STDERR_FILENO + 1;

	while (keep && keep[count] >= 0)
		count++;
	kept = g_memdup2(keep, count * sizeof(*keep));
	if (count)
		qsort(kept, count, sizeof(*kept), by_number);
	for (guint i = 0; i < count; i++) {
		guint fd = (guint)kept[i];

		if (fcntl(kept[i], F_SETFD, FD_CLOEXEC) < 0)
			return colo_error_errno(error, errno, "descriptor %d", kept[i]);
		if (fd > from && close_range(from, fd - 1, 0) < 0)
			return colo_error_errno(error, errno, "close descriptors");
		from = MAX(from, fd + 1);
	}
	return close_range(from, ~0u, 0) == 0 ||
	       colo_error_errno(error, errno, "close descriptors");
}

gboolean colo_hygiene(const int *keep, GError **error)
{
	const struct rlimit none = { 0, 0 };

	umask(077);
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return colo_error_errno(error, errno, "forbid core files");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return colo_error_errno(error, errno,
					"forbid core files by PR_SET_DUMPABLE");
	return fill_standard(error) && close_strays(keep, error);
}
