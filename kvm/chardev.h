/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's end of a guest's serial line or console: standard input and output, a new
 * pseudo-terminal, a Unix socket that is listened on (one client at a time), a file
 * that is appended to, a descriptor that was passed, or nothing.
 *
 * Output never blocks the guest, nor the thread that serves its devices: what the host end does not take is kept up to a bound,
 * after which the oldest is dropped and counted. Input is read only while the device
 * has room for it. Where nobody is at the host's end (a socket without client, a
 * terminal that nobody opened), whoever comes finds the output kept so far.
 *
 * Output is always the host end's own. Where a machine is replicated, each node's has a
 * host end, and what a secondary's guest says goes to the secondary's, whatever becomes of
 * that run of it: a log there may show what a checkpoint has taken back since.
 *
 * The program must ignore SIGPIPE. Constructor and destructor: holding the device lock,
 * or while the machine is put together.
 */
#ifndef VMM_CHARDEV_H
#define VMM_CHARDEV_H

#include "kvm/loop.h"

typedef struct vmm_chardev vmm_chardev;

struct vmm_chardev_ops {
	/* How many bytes the device can take now. */
	gsize (*room)(void *device);
	void (*input)(void *device, const guint8 *bytes, gsize len);
};

/* Between the host's end and the device: hooks of whoever replicates the machine. Any may
 * be NULL. Holding the device lock; they must not call back. */
struct vmm_chardev_hooks {
	void *data; /* handed to each */
	/* The device is given these bytes, now: they are in its saved state from here on
	 * (in the UART's FIFO, or in memory and the used ring). */
	void (*given)(void *data, guint console, const guint8 *bytes, gsize len);
	/* Up to `len` bytes that come before anything from the host's end; how many. 0: none
	 * now; vmm_chardev_poll() when there are. */
	gsize (*next)(void *data, guint console, guint8 *bytes, gsize len);
	/* FALSE: what comes from the host's end is read and thrown away (Ctrl-A x counts). */
	gboolean (*is_live)(void *data);
};

/* `spec`: "stdio" | "pty" | "unix:PATH" | "file:PATH" | "fd:N" (a connected socket or
 * terminal, taken over; not one with FD_CLOEXEC: it was not passed) | "none". VMM_ERROR_CONFIG for anything else, VMM_ERROR_HOST
 * where it cannot be opened. With "stdio" a terminal is put into raw mode, put back by
 * vmm_chardev_free() (and by vmm_chardev_restore_terminal()); Ctrl-A x there calls
 * `escape` (see below) and Ctrl-A Ctrl-A sends Ctrl-A. */
vmm_chardev *vmm_chardev_new(const char *spec, vmm_loop *loop,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_chardev_free(vmm_chardev *chardev);

/* The device that is connected. A device disconnects (NULL, NULL) before it goes away.
 * Holding the device lock, or while the machine is put together. */
void vmm_chardev_connect(vmm_chardev *chardev, const struct vmm_chardev_ops *ops,
			 void *device);
/* Before the device is connected. `console`: handed to the hooks. */
void vmm_chardev_set_hooks(vmm_chardev *chardev, const struct vmm_chardev_hooks *hooks,
			   guint console);
/* Called on the I/O thread when the user types Ctrl-A x; NULL: ignored. */
void vmm_chardev_set_escape(vmm_chardev *chardev, void (*escape)(void *data),
			    void *data);
/* For the status: "pty:/dev/pts/3" and the like. */
const char *vmm_chardev_name(const vmm_chardev *chardev);

/* Holding the device lock. */
void vmm_chardev_output(vmm_chardev *chardev, const void *bytes, gsize len);
/* What waits at the host's end now is thrown away: it was said before this host end counted,
 * and while the loop was held. */
void vmm_chardev_discard_input(vmm_chardev *chardev);
/* The device has room again, or hooks->next has bytes. */
void vmm_chardev_poll(vmm_chardev *chardev);
guint64 vmm_chardev_dropped(const vmm_chardev *chardev);

/* Async-signal-safe; for exits that skip vmm_chardev_free(). */
void vmm_chardev_restore_terminal(void);

#endif
