/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells ThreadSanitizer what GLib's locks and queues mean. GLib is not built with it and
 * makes its locks of futexes, so each use would look like a race. Linked only into programs
 * built with SANITIZE=thread.
 */
#include <dlfcn.h>
#include <glib.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

/* The function of that name in GLib itself. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#undef g_mutex_lock
#undef g_mutex_unlock

void g_mutex_lock(GMutex *mutex)
{
	static __typeof__(&g_mutex_lock) known;
	__typeof__(&g_mutex_lock) real = __atomic_load_n(&known, __ATOMIC_RELAXED);

	if (!real)
		__atomic_store_n(&known, real = REAL(g_mutex_lock), __ATOMIC_RELAXED);
	real(mutex);
	__tsan_acquire(mutex);
}

void g_mutex_unlock(GMutex *mutex)
{
	static __typeof__(&g_mutex_unlock) known;
	__typeof__(&g_mutex_unlock) real = __atomic_load_n(&known, __ATOMIC_RELAXED);

	if (!real)
		__atomic_store_n(&known, real = REAL(g_mutex_unlock), __ATOMIC_RELAXED);
	__tsan_release(mutex);
	real(mutex);
}

void g_cond_wait(GCond *cond, GMutex *mutex)
{
	static __typeof__(&g_cond_wait) real;
	__typeof__(real) found = __atomic_load_n(&real, __ATOMIC_RELAXED);

	if (!found)
		__atomic_store_n(&real, found = REAL(g_cond_wait), __ATOMIC_RELAXED);
	__tsan_release(mutex);
	found(cond, mutex);
	__tsan_acquire(mutex);
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
	static __typeof__(&g_cond_wait_until) real;
	__typeof__(real) found = __atomic_load_n(&real, __ATOMIC_RELAXED);
	gboolean signalled;

	if (!found)
		__atomic_store_n(&real, found = REAL(g_cond_wait_until), __ATOMIC_RELAXED);
	__tsan_release(mutex);
	signalled = found(cond, mutex, end_time);
	__tsan_acquire(mutex);
	return signalled;
}

void g_async_queue_push(GAsyncQueue *queue, gpointer data)
{
	static __typeof__(&g_async_queue_push) known;
	__typeof__(&g_async_queue_push) real = __atomic_load_n(&known, __ATOMIC_RELAXED);

	if (!real)
		__atomic_store_n(&known, real = REAL(g_async_queue_push), __ATOMIC_RELAXED);
	__tsan_release(queue);
	real(queue, data);
}

gpointer g_async_queue_try_pop(GAsyncQueue *queue)
{
	static __typeof__(&g_async_queue_try_pop) known;
	__typeof__(&g_async_queue_try_pop) real = __atomic_load_n(&known, __ATOMIC_RELAXED);
	gpointer data;

	if (!real)
		__atomic_store_n(&known, real = REAL(g_async_queue_try_pop), __ATOMIC_RELAXED);
	data = real(queue);
	__tsan_acquire(queue);
	return data;
}

/* An error domain's number is found once by each thread that comes first: the same one. GLib's
 * own insides are not seen. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:_error_quark\nrace:g_slice_alloc\nrace:g_slice_free\n"
	       "race:g_rw_lock_reader_lock\n";
}
