/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owned file descriptors: closed when they go out of scope. */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <glib.h>
#include <unistd.h>

static inline void base_fd_clear(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Hands the descriptor on; the variable it was in no longer owns one. */
static inline int base_fd_steal(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* `base_autofd int fd = -1;` closes at the end of its scope. errno is not kept. */
#define base_autofd __attribute__((cleanup(base_fd_clear)))

#endif
