/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A timer of the I/O loop. */
#include "kvm/timer.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/fd.h"

struct vmm_timer {
	int fd;
	vmm_source *source;
	void (*fn)(void *data);
	void *data;
};

static void on_due(void *data, guint32 events)
{
	vmm_timer *timer = data;
	guint64 times;

	/* Set anew since it was due, it is not due. */
	if (read(timer->fd, &times, sizeof(times)) == sizeof(times))
		timer->fn(timer->data);
}

vmm_timer *vmm_timer_new(vmm_loop *loop, void (*fn)(void *data), void *data)
{
	vmm_timer *timer = g_new0(vmm_timer, 1);

	timer->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (timer->fd < 0)
		g_error("make a timer: %s", g_strerror(errno));
	timer->fn = fn;
	timer->data = data;
	timer->source = vmm_loop_add(loop, timer->fd, EPOLLIN, on_due, timer);
	return timer;
}

void vmm_timer_free(vmm_timer *timer)
{
	if (!timer)
		return;
	vmm_source_remove(timer->source);
	base_fd_clear(&timer->fd);
	g_free(timer);
}

static struct timespec from_ms(guint ms)
{
	return (struct timespec){ ms / 1000, (long)(ms % 1000) * 1000000 };
}

void vmm_timer_set(vmm_timer *timer, guint first_ms, guint period_ms)
{
	const struct itimerspec spec = { .it_value = from_ms(MAX(first_ms, 1)),
					 .it_interval = from_ms(period_ms) };

	if (timerfd_settime(timer->fd, 0, &spec, NULL) < 0)
		g_assert_not_reached();
}
