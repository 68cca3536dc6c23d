/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells ThreadSanitizer what GLib's locks and queues mean. GLib is not built with it and
 * makes its locks of futexes, so each use would look like a race. Linked only into programs
 * built with SANITIZE=thread.
 */
#include <dlfcn.h>
#include <gio/gio.h>
#include <stdlib.h>

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

gpointer g_async_queue_timeout_pop(GAsyncQueue *queue, guint64 timeout)
{
	static __typeof__(&g_async_queue_timeout_pop) known;
	__typeof__(&g_async_queue_timeout_pop) real =
		__atomic_load_n(&known, __ATOMIC_RELAXED);
	gpointer data;

	if (!real)
		__atomic_store_n(&known, real = REAL(g_async_queue_timeout_pop),
				 __ATOMIC_RELAXED);
	data = real(queue, timeout);
	__tsan_acquire(queue);
	return data;
}

/* What is called later, by the thread of a main context. */

struct call {
	GSourceFunc function;
	gpointer data;
	GDestroyNotify notify;
};

static gboolean make_call(gpointer data)
{
	struct call *call = data;
	gboolean again;

	__tsan_acquire(call);
	again = call->function(call->data);
	__tsan_release(call);
	return again;
}

static void end_call(gpointer data)
{
	struct call *call = data;

	__tsan_acquire(call);
	if (call->notify)
		call->notify(call->data);
	free(call);
}

guint g_idle_add_full(gint priority, GSourceFunc function, gpointer data, GDestroyNotify notify)
{
	static __typeof__(&g_idle_add_full) known;
	__typeof__(&g_idle_add_full) real = __atomic_load_n(&known, __ATOMIC_RELAXED);
	struct call *call = malloc(sizeof(*call));

	if (!real)
		__atomic_store_n(&known, real = REAL(g_idle_add_full), __ATOMIC_RELAXED);
	*call = (struct call){ function, data, notify };
	__tsan_release(call);
	return real(priority, make_call, call, end_call);
}

/* What is done by a thread of a pool, and then told. */

#define TASK_FUNCTION "tsan-function"

static void work(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
	GTaskThreadFunc function;

	__tsan_acquire(task);
	function = (GTaskThreadFunc)g_object_get_data(G_OBJECT(task), TASK_FUNCTION);
	function(task, source, data, cancellable);
}

void g_task_run_in_thread(GTask *task, GTaskThreadFunc function)
{
	static __typeof__(&g_task_run_in_thread) known;
	__typeof__(&g_task_run_in_thread) real = __atomic_load_n(&known, __ATOMIC_RELAXED);

	if (!real)
		__atomic_store_n(&known, real = REAL(g_task_run_in_thread), __ATOMIC_RELAXED);
	g_object_set_data(G_OBJECT(task), TASK_FUNCTION, (gpointer)function);
	__tsan_release(task);
	real(task, work);
}

void g_task_return_boolean(GTask *task, gboolean result)
{
	static __typeof__(&g_task_return_boolean) known;
	__typeof__(&g_task_return_boolean) real = __atomic_load_n(&known, __ATOMIC_RELAXED);

	if (!real)
		__atomic_store_n(&known, real = REAL(g_task_return_boolean), __ATOMIC_RELAXED);
	__tsan_release(task);
	real(task, result);
}

void g_task_return_error(GTask *task, GError *error)
{
	static __typeof__(&g_task_return_error) known;
	__typeof__(&g_task_return_error) real = __atomic_load_n(&known, __ATOMIC_RELAXED);

	if (!real)
		__atomic_store_n(&known, real = REAL(g_task_return_error), __ATOMIC_RELAXED);
	__tsan_release(task);
	real(task, error);
}

gboolean g_task_propagate_boolean(GTask *task, GError **error)
{
	static __typeof__(&g_task_propagate_boolean) known;
	__typeof__(&g_task_propagate_boolean) real =
		__atomic_load_n(&known, __ATOMIC_RELAXED);

	if (!real)
		__atomic_store_n(&known, real = REAL(g_task_propagate_boolean),
				 __ATOMIC_RELAXED);
	__tsan_acquire(task);
	return real(task, error);
}

/* An error domain's number is found once by each thread that comes first: the same one. GLib's
 * own insides are not seen. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:_error_quark\nrace:g_slice_alloc\nrace:g_slice_free\n"
	       "race:g_rw_lock_reader_lock\n";
}
