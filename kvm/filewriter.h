/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pipe in front of a regular file, with a thread that copies: a file cannot be
 * written without waiting for its disk, a pipe can.
 */
#ifndef VMM_FILEWRITER_H
#define VMM_FILEWRITER_H

#include <glib.h>

typedef struct vmm_filewriter vmm_filewriter;

/* Takes `fd` whatever the outcome. `*pipe_fd`, non-blocking, is the caller's, to write
 * to and to close. `name`: for warnings. */
vmm_filewriter *vmm_filewriter_new_take(int fd, const char *name, int *pipe_fd,
					GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* After the pipe was closed: returns when all of it is in the file, or after a bounded
 * wait, with a warning, where the disk hangs. NULL is allowed. */
void vmm_filewriter_free(vmm_filewriter *writer);
/* Bytes that the file did not take. Any thread. */
guint64 vmm_filewriter_lost(const vmm_filewriter *writer);

#endif
