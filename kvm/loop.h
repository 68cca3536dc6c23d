/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The I/O thread: an epoll loop that runs all device work, and the device lock.
 *
 * Whoever touches a device holds the lock: the loop takes it around each handler, a vCPU
 * takes it around each port or MMIO exit. So having had it with the vCPUs stopped is the
 * rendezvous with the I/O thread: between vmm_loop_hold() and vmm_loop_release() no
 * handler runs and no device changes (but see vmm_source_serve_at_rest()). Handlers must be short: they stop after a bounded
 * batch, and as soon as vmm_loop_wanted() says that somebody waits to hold the loop,
 * arranging to be called again (level-triggered readiness or vmm_loop_again()).
 */
#ifndef VMM_LOOP_H
#define VMM_LOOP_H

#include <glib.h>
#include <sys/epoll.h>

typedef struct vmm_loop vmm_loop;
typedef struct vmm_source vmm_source;

/* On the I/O thread with the lock held; `events` as epoll gives them, 0 after
 * vmm_loop_again(). */
typedef void (*vmm_source_fn)(void *data, guint32 events);

vmm_loop *vmm_loop_new(GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Stops the thread if it runs. Sources must have been removed. */
void vmm_loop_free(vmm_loop *loop);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_loop, vmm_loop_free)

/* Starts the thread. A loop that was never started can be driven by
 * vmm_loop_iterate(), as unit tests do. */
void vmm_loop_start(vmm_loop *loop);
/* Runs the handlers that are ready, on the caller's thread; returns how many ran.
 * `timeout_ms` -1 waits without end. Only without a thread. */
guint vmm_loop_iterate(vmm_loop *loop, int timeout_ms);

void vmm_loop_lock(vmm_loop *loop);
void vmm_loop_unlock(vmm_loop *loop);
/* FALSE, and not locked, where others have the lock for that long. For whoever can do without. */
gboolean vmm_loop_lock_within(vmm_loop *loop, guint ms) G_GNUC_WARN_UNUSED_RESULT;

/* Watches `fd` (borrowed) for `events` (EPOLLIN, EPOLLOUT; 0 is allowed). Holding the
 * lock. An epoll failure is our bug or exhaustion, and is fatal. A descriptor that epoll
 * cannot watch (a regular file) counts as always ready. */
vmm_source *vmm_loop_add(vmm_loop *loop, int fd, guint32 events, vmm_source_fn fn,
			 void *data);
void vmm_source_set_events(vmm_source *source, guint32 events);
/* On: the handler is called also while the loop is held, for what is no device of the guest's
 * and must go on however long the machine rests. Holding the lock. */
void vmm_source_serve_at_rest(vmm_source *source, gboolean on);
/* After this the handler is not called again. Holding the lock; also from a handler. */
void vmm_source_remove(vmm_source *source);
/* The handler is called once more soon, whatever its descriptor says. Holding the lock. */
void vmm_loop_again(vmm_source *source);

/* TRUE while somebody waits to hold the loop: a handler should return now. */
gboolean vmm_loop_wanted(vmm_loop *loop);

/* Says that a pause is coming: handlers return soon and the loop starts no more. Followed
 * by vmm_loop_hold(), perhaps on another thread. */
void vmm_loop_want(vmm_loop *loop);
/* Returns when no handler runs; none will until vmm_loop_release(). Without the lock, which
 * whoever looks at devices meanwhile takes as ever. */
void vmm_loop_hold(vmm_loop *loop);
/* Ends the pause: the loop goes on. Any thread, without the lock. */
void vmm_loop_release(vmm_loop *loop);

#endif
