/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pipe in front of a regular file, with a thread that copies.
 *
 * The thread ends with the pipe. Both it and the owner hold the object, so that one
 * whose disk hangs can be left behind.
 */
#include "kvm/filewriter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>

#include "base/fd.h"
#include "kvm/error.h"

#define PIECE 65536u
#define FREE_WAIT_US (2 * G_TIME_SPAN_SECOND)

struct vmm_filewriter {
	gatomicrefcount holders;
	GThread *thread;
	int pipe_fd, file_fd;
	char *name;
	GMutex mutex;
	GCond ended;
	gboolean has_ended;
	_Atomic guint64 lost;
	guint8 bytes[PIECE];
};

static void drop(vmm_filewriter *writer)
{
	if (!g_atomic_ref_count_dec(&writer->holders))
		return;
	base_fd_clear(&writer->pipe_fd);
	base_fd_clear(&writer->file_fd);
	g_mutex_clear(&writer->mutex);
	g_cond_clear(&writer->ended);
	g_free(writer->name);
	g_free(writer);
}

/* Returns 0 or an errno. */
static int write_all(vmm_filewriter *writer, gsize len)
{
	gsize done = 0;

	while (done < len) {
		gssize n = write(writer->file_fd, writer->bytes + done, len - done);
		int err = errno;

		if (n >= 0) {
			done += (gsize)n;
		} else if (err != EINTR) {
			atomic_fetch_add(&writer->lost, len - done);
			return err;
		}
	}
	return 0;
}

static void *copy(void *data)
{
	vmm_filewriter *writer = data;
	gboolean complained = FALSE;
	gssize n;

	while ((n = read(writer->pipe_fd, writer->bytes, PIECE)) != 0) {
		int err;

		if (n < 0) {
			g_assert(errno == EINTR);
			continue;
		}
		/* A full disk may have room again. */
		err = write_all(writer, (gsize)n);
		if (err && !complained)
			g_warning("console %s: write: %s", writer->name,
				  g_strerror(err));
		complained = err != 0;
	}
	g_mutex_lock(&writer->mutex);
	writer->has_ended = TRUE;
	g_cond_signal(&writer->ended);
	g_mutex_unlock(&writer->mutex);
	drop(writer);
	return NULL;
}

vmm_filewriter *vmm_filewriter_new_take(int fd, const char *name, int *pipe_fd,
					GError **error)
{
	base_autofd int file_fd = fd;
	base_autofd int write_end = -1;
	vmm_filewriter *writer;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0) {
		vmm_error_errno(error, errno, "make a pipe");
		return NULL;
	}
	write_end = ends[1];
	if (fcntl(write_end, F_SETFL, O_NONBLOCK) < 0) {
		vmm_error_errno(error, errno, "make a pipe non-blocking");
		close(ends[0]);
		return NULL;
	}
	writer = g_new0(vmm_filewriter, 1);
	g_atomic_ref_count_init(&writer->holders);
	g_atomic_ref_count_inc(&writer->holders);
	writer->pipe_fd = ends[0];
	writer->file_fd = base_fd_steal(&file_fd);
	writer->name = g_strdup(name);
	g_mutex_init(&writer->mutex);
	g_cond_init(&writer->ended);
	writer->thread = g_thread_new("console-file", copy, writer);
	*pipe_fd = base_fd_steal(&write_end);
	return writer;
}

void vmm_filewriter_free(vmm_filewriter *writer)
{
	gint64 deadline = g_get_monotonic_time() + FREE_WAIT_US;
	gboolean in_time = TRUE, ended;

	if (!writer)
		return;
	g_mutex_lock(&writer->mutex);
	while (!writer->has_ended && in_time)
		in_time = g_cond_wait_until(&writer->ended, &writer->mutex, deadline);
	ended = writer->has_ended;
	g_mutex_unlock(&writer->mutex);
	if (ended) {
		g_thread_join(writer->thread);
	} else {
		g_warning("console %s: the disk does not answer: the end of the output "
			  "may be missing",
			  writer->name);
		g_thread_unref(writer->thread);
	}
	drop(writer);
}

guint64 vmm_filewriter_lost(const vmm_filewriter *writer)
{
	return atomic_load(&writer->lost);
}
