/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The I/O thread and the device lock.
 *
 * The lock is a plain mutex. What makes a pause quick is `wanted`: while it is set, the
 * thread does not compete for the mutex but waits on a condition, and handlers return
 * after the piece of work they are at.
 */
#include "kvm/loop.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 32

struct vmm_source {
	vmm_loop *loop;
	int fd;
	guint32 events;
	vmm_source_fn fn;
	void *data;
	gboolean always; /* epoll cannot watch it: ready whenever it wants events */
	gboolean again; /* to be called without waiting */
	gboolean removed;
	gboolean at_rest; /* served also while the loop is held */
	guint64 rested; /* in which turn of the loop it was served so last */
};

struct vmm_loop {
	int epoll_fd; /* all sources, the last by way of `rest_fd` */
	int rest_fd; /* epoll: those that are served also while the loop is held */
	int wake_fd; /* in both */
	GThread *thread;
	GMutex lock;
	GCond released;
	gint wanted; /* atomic: how many wait to hold, or hold, the loop */
	gint stop; /* atomic */
	GPtrArray *sources; /* all, so that `again` and `always` are found */
	GPtrArray *graveyard; /* removed; freed when no event can name them */
	guint64 turn; /* of vmm_loop_iterate() */
	guint at_rest; /* sources in `rest_fd`, or that would be if they wanted events */
	guint restless; /* sources with `again`, or `always` and events */
};

vmm_loop *vmm_loop_new(GError **error)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct epoll_event rest = { .events = EPOLLIN };
	vmm_loop *loop = g_new0(vmm_loop, 1);

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->rest_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rest.data.ptr = loop;
	if (loop->epoll_fd < 0 || loop->rest_fd < 0 || loop->wake_fd < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0 ||
	    epoll_ctl(loop->rest_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->rest_fd, &rest) < 0) {
		int err = errno;

		g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err),
			    "create the I/O loop: %s", g_strerror(err));
		if (loop->epoll_fd >= 0)
			close(loop->epoll_fd);
		if (loop->rest_fd >= 0)
			close(loop->rest_fd);
		if (loop->wake_fd >= 0)
			close(loop->wake_fd);
		g_free(loop);
		return NULL;
	}
	g_mutex_init(&loop->lock);
	g_cond_init(&loop->released);
	loop->sources = g_ptr_array_new();
	loop->graveyard = g_ptr_array_new_with_free_func(g_free);
	return loop;
}

static void wake(vmm_loop *loop)
{
	guint64 one = 1;

	/* Full means that it is awake already. */
	if (write(loop->wake_fd, &one, sizeof(one)) < 0)
		g_assert(errno == EAGAIN);
}

void vmm_loop_free(vmm_loop *loop)
{
	if (!loop)
		return;
	if (loop->thread) {
		g_atomic_int_set(&loop->stop, 1);
		wake(loop);
		g_thread_join(loop->thread);
	}
	g_assert(loop->sources->len == 0);
	g_ptr_array_unref(loop->sources);
	g_ptr_array_unref(loop->graveyard);
	close(loop->epoll_fd);
	close(loop->rest_fd);
	close(loop->wake_fd);
	g_mutex_clear(&loop->lock);
	g_cond_clear(&loop->released);
	g_free(loop);
}

static gboolean is_restless(const vmm_source *source)
{
	return source->again || (source->always && source->events);
}

/* `events` as epoll reported them, or 0 for a restless source. Another handler may have
 * changed since what this source wants. With the lock held. */
static void call(vmm_loop *loop, vmm_source *source, guint32 events)
{
	events &= source->events ? source->events | EPOLLERR | EPOLLHUP : 0;
	if (source->removed || (!events && !is_restless(source)))
		return;
	if (source->again) {
		source->again = FALSE;
		if (!is_restless(source))
			loop->restless--;
	}
	if (source->always)
		events = source->events;
	source->fn(source->data, events);
}

static void swallow_wake(vmm_loop *loop)
{
	guint64 count;

	if (read(loop->wake_fd, &count, sizeof(count)) < 0)
		g_assert(errno == EAGAIN);
}

/* Those that do not wait for a descriptor: a snapshot, since handlers change the list. */
static guint find_restless(vmm_loop *loop, gboolean at_rest, vmm_source **ready, guint max)
{
	guint n = 0;

	for (guint i = 0; loop->restless && i < loop->sources->len && n < max; i++) {
		vmm_source *source = g_ptr_array_index(loop->sources, i);

		if (is_restless(source) && source->at_rest == at_rest)
			ready[n++] = source;
	}
	return n;
}

/* Serves the sources for which it makes no difference whether the loop is held. With the
 * lock held, which is given up for the wait. */
static guint serve_at_rest(vmm_loop *loop, int timeout_ms)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	vmm_source *ready[EVENTS_AT_ONCE];
	guint restless = find_restless(loop, TRUE, ready, EVENTS_AT_ONCE), ran = 0;
	int n;

	g_mutex_unlock(&loop->lock);
	n = epoll_wait(loop->rest_fd, events, EVENTS_AT_ONCE, restless ? 0 : timeout_ms);
	g_mutex_lock(&loop->lock);
	for (int i = 0; i < n; i++) {
		vmm_source *source = events[i].data.ptr;

		if (!source) {
			swallow_wake(loop);
		} else if (source->at_rest) {
			source->rested = loop->turn;
			call(loop, source, events[i].events);
			ran++;
		}
	}
	for (guint i = 0; i < restless; i++) {
		if (!ready[i]->at_rest)
			continue;
		ready[i]->rested = loop->turn;
		call(loop, ready[i], 0);
		ran++;
	}
	return ran;
}

/* With the lock held, out of the way of whoever wants to hold the loop. */
static void lock_politely(vmm_loop *loop)
{
	g_mutex_lock(&loop->lock);
	while (g_atomic_int_get(&loop->wanted)) {
		if (loop->at_rest)
			serve_at_rest(loop, -1);
		else
			g_cond_wait(&loop->released, &loop->lock);
	}
}

static void run_source(vmm_loop *loop, vmm_source *source, guint32 events)
{
	lock_politely(loop);
	/* What epoll said is no longer true if it was served during that. */
	if (source->rested != loop->turn)
		call(loop, source, events);
	g_mutex_unlock(&loop->lock);
}

static guint run_restless(vmm_loop *loop)
{
	vmm_source *ready[64];
	guint n;

	g_mutex_lock(&loop->lock);
	n = find_restless(loop, FALSE, ready, G_N_ELEMENTS(ready));
	g_mutex_unlock(&loop->lock);
	for (guint i = 0; i < n; i++)
		run_source(loop, ready[i], 0);
	return n;
}

static guint run_at_rest(vmm_loop *loop)
{
	guint ran = 0;

	g_mutex_lock(&loop->lock);
	if (loop->at_rest)
		ran = serve_at_rest(loop, 0);
	g_mutex_unlock(&loop->lock);
	return ran;
}

guint vmm_loop_iterate(vmm_loop *loop, int timeout_ms)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	gboolean restless;
	guint ran = 0;
	int n;

	g_mutex_lock(&loop->lock);
	/* Nothing refers to them here: no event is held over from an earlier wait. */
	g_ptr_array_set_size(loop->graveyard, 0);
	restless = loop->restless > 0;
	loop->turn++;
	g_mutex_unlock(&loop->lock);

	n = epoll_wait(loop->epoll_fd, events, EVENTS_AT_ONCE, restless ? 0 : timeout_ms);
	if (n < 0) {
		g_assert(errno == EINTR);
		n = 0;
	}
	for (int i = 0; i < n; i++) {
		void *source = events[i].data.ptr;

		if (!source) {
			swallow_wake(loop);
		} else if (source == loop) {
			ran += run_at_rest(loop);
		} else {
			run_source(loop, source, events[i].events);
			ran++;
		}
	}
	if (restless)
		ran += run_at_rest(loop) + run_restless(loop);
	return ran;
}

static void *loop_thread(void *data)
{
	vmm_loop *loop = data;

	while (!g_atomic_int_get(&loop->stop))
		vmm_loop_iterate(loop, -1);
	return NULL;
}

void vmm_loop_start(vmm_loop *loop)
{
	loop->thread = g_thread_new("io", loop_thread, loop);
}

void vmm_loop_lock(vmm_loop *loop)
{
	g_mutex_lock(&loop->lock);
}

gboolean vmm_loop_lock_within(vmm_loop *loop, guint ms)
{
	gint64 until = g_get_monotonic_time() + ms * 1000;

	while (!g_mutex_trylock(&loop->lock)) {
		if (g_get_monotonic_time() >= until)
			return FALSE;
		g_usleep(200);
	}
	return TRUE;
}

void vmm_loop_unlock(vmm_loop *loop)
{
	g_mutex_unlock(&loop->lock);
}

/* A source that wants nothing is taken out of epoll, which would go on reporting hang-ups
 * for it. */
static void tell_epoll(vmm_source *source, guint32 events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };
	int op = !events	  ? EPOLL_CTL_DEL :
		 !source->events ? EPOLL_CTL_ADD :
				   EPOLL_CTL_MOD;

	if (epoll_ctl(source->at_rest ? source->loop->rest_fd : source->loop->epoll_fd, op,
		      source->fd, &event) == 0)
		return;
	/* epoll does not take regular files: reads from them never wait. */
	if (op == EPOLL_CTL_ADD && errno == EPERM)
		source->always = TRUE;
	else
		g_error("watch descriptor %d: %s", source->fd, g_strerror(errno));
}

vmm_source *vmm_loop_add(vmm_loop *loop, int fd, guint32 events, vmm_source_fn fn,
			 void *data)
{
	vmm_source *source = g_new0(vmm_source, 1);

	source->loop = loop;
	source->fd = fd;
	source->fn = fn;
	source->data = data;
	g_ptr_array_add(loop->sources, source);
	vmm_source_set_events(source, events);
	return source;
}

void vmm_source_set_events(vmm_source *source, guint32 events)
{
	gboolean before = is_restless(source);

	if (source->events == events)
		return;
	if (!source->always)
		tell_epoll(source, events);
	source->events = events;
	if (before && !is_restless(source))
		source->loop->restless--;
	if (!before && is_restless(source)) {
		source->loop->restless++;
		wake(source->loop);
	}
}

void vmm_source_serve_at_rest(vmm_source *source, gboolean on)
{
	vmm_loop *loop = source->loop;
	guint32 events = source->events;

	if (source->at_rest == on)
		return;
	vmm_source_set_events(source, 0);
	source->at_rest = on;
	loop->at_rest = on ? loop->at_rest + 1 : loop->at_rest - 1;
	vmm_source_set_events(source, events);
	/* Whoever waits in the old place is to look anew. */
	g_cond_broadcast(&loop->released);
	wake(loop);
}

void vmm_source_remove(vmm_source *source)
{
	vmm_loop *loop = source->loop;

	if (is_restless(source))
		loop->restless--;
	source->removed = TRUE;
	loop->at_rest -= source->at_rest ? 1 : 0;
	if (!source->always && source->events)
		tell_epoll(source, 0);
	g_ptr_array_remove_fast(loop->sources, source);
	g_ptr_array_add(loop->graveyard, source);
}

void vmm_loop_again(vmm_source *source)
{
	if (source->again)
		return;
	if (!is_restless(source))
		source->loop->restless++;
	source->again = TRUE;
	wake(source->loop);
}

gboolean vmm_loop_wanted(vmm_loop *loop)
{
	return g_atomic_int_get(&loop->wanted) > 0;
}

void vmm_loop_want(vmm_loop *loop)
{
	g_atomic_int_inc(&loop->wanted);
}

void vmm_loop_hold(vmm_loop *loop)
{
	g_assert(vmm_loop_wanted(loop));
	/* A handler that runs has the lock; the next one waits in lock_politely(). */
	g_mutex_lock(&loop->lock);
	g_mutex_unlock(&loop->lock);
}

void vmm_loop_release(vmm_loop *loop)
{
	g_mutex_lock(&loop->lock);
	if (g_atomic_int_dec_and_test(&loop->wanted)) {
		g_cond_broadcast(&loop->released);
		if (loop->at_rest)
			wake(loop);
	}
	g_mutex_unlock(&loop->lock);
}
