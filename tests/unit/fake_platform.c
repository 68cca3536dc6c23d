/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine without KVM for devices under test. */
#include "tests/unit/fake_platform.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define RUN_LIMIT 100000u
#define PATIENCE_NS 10000000000ull

struct watch {
	guint64 gpa;
	int eventfd;
};

static void set_irq(void *host, guint gsi, gboolean level)
{
	struct fake_platform *fake = host;

	g_assert(gsi < FAKE_IRQS);
	if (level && !fake->irq[gsi])
		fake->irq_rises[gsi]++;
	fake->irq[gsi] = level;
}

static void send_msi(void *host, guint64 address, guint32 data)
{
	struct fake_platform *fake = host;
	struct fake_msi msi = { address, data };

	g_array_append_val(fake->msis, msi);
}

static gboolean watch_write(void *host, guint64 gpa, int eventfd, gboolean on)
{
	struct fake_platform *fake = host;
	struct watch watch = { gpa, eventfd };

	if (fake->no_watches)
		return FALSE;
	if (on) {
		g_array_append_val(fake->watches, watch);
		return TRUE;
	}
	for (guint i = 0; i < fake->watches->len; i++) {
		struct watch *known = &g_array_index(fake->watches, struct watch, i);

		if (known->gpa == gpa && known->eventfd == eventfd) {
			g_array_remove_index(fake->watches, i);
			return TRUE;
		}
	}
	g_assert_not_reached();
}

static void take_event(void *host, enum vmm_event_type type, const char *device,
		       const char *detail)
{
	struct fake_platform *fake = host;
	struct fake_event event = { type, g_strdup(device), g_strdup(detail) };

	g_array_append_val(fake->events, event);
}

static void clear_event(gpointer data)
{
	struct fake_event *event = data;

	g_free(event->device);
	g_free(event->detail);
}

struct fake_platform *fake_platform_new(guint64 bytes)
{
	struct fake_platform *fake = g_new0(struct fake_platform, 1);

	fake->platform = (struct vmm_platform){
		.memory = vmm_memory_new(bytes, NULL),
		.loop = vmm_loop_new(NULL),
		.pio = vmm_bus_new(),
		.mmio = vmm_bus_new(),
		.host = fake,
		.set_irq = set_irq,
		.send_msi = send_msi,
		.watch_write = watch_write,
		.event = take_event,
	};
	g_assert(fake->platform.memory && fake->platform.loop);
	fake->msis = g_array_new(FALSE, FALSE, sizeof(struct fake_msi));
	fake->events = g_array_new(FALSE, FALSE, sizeof(struct fake_event));
	g_array_set_clear_func(fake->events, clear_event);
	fake->watches = g_array_new(FALSE, FALSE, sizeof(struct watch));
	fake->free_gpa = VMM_PAGE; /* address 0 stays free, as a trap for mistakes */
	return fake;
}

void fake_platform_free(struct fake_platform *fake)
{
	if (!fake)
		return;
	g_assert(fake->watches->len == 0);
	g_array_unref(fake->msis);
	g_array_unref(fake->events);
	g_array_unref(fake->watches);
	vmm_bus_free(fake->platform.pio);
	vmm_bus_free(fake->platform.mmio);
	vmm_loop_free(fake->platform.loop);
	vmm_memory_free(fake->platform.memory);
	g_free(fake);
}

guint32 fake_in(struct fake_platform *fake, guint16 port, guint len)
{
	guint64 value;

	vmm_bus_read(fake->platform.pio, port, &value, len);
	return (guint32)value;
}

void fake_out(struct fake_platform *fake, guint16 port, guint32 value, guint len)
{
	vmm_bus_write(fake->platform.pio, port, value, len);
}

guint64 fake_mmio_read(struct fake_platform *fake, guint64 gpa, guint len)
{
	guint64 value;

	vmm_bus_read(fake->platform.mmio, gpa, &value, len);
	return value;
}

void fake_mmio_write(struct fake_platform *fake, guint64 gpa, guint64 value, guint len)
{
	guint64 one = 1;

	for (guint i = 0; i < fake->watches->len; i++) {
		const struct watch *watch =
			&g_array_index(fake->watches, struct watch, i);

		if (watch->gpa == gpa) {
			g_assert(write(watch->eventfd, &one, sizeof(one)) ==
				 sizeof(one));
			return;
		}
	}
	vmm_bus_write(fake->platform.mmio, gpa, value, len);
}

void fake_run(struct fake_platform *fake)
{
	guint turns = 0;

	while (vmm_loop_iterate(fake->platform.loop, 0))
		g_assert(turns++ < RUN_LIMIT);
}

gboolean fake_run_until(struct fake_platform *fake, const gboolean *flag)
{
	guint64 start = base_clock_monotonic_ns();

	while (!*flag) {
		vmm_loop_iterate(fake->platform.loop, 10);
		if (base_clock_monotonic_ns() - start > PATIENCE_NS)
			return FALSE;
	}
	return TRUE;
}

guint64 fake_alloc(struct fake_platform *fake, guint64 len, guint64 align)
{
	guint64 gpa = (fake->free_gpa + align - 1) & ~(align - 1);

	memset(fake_at(fake, gpa, len), 0, len);
	fake->free_gpa = gpa + len;
	return gpa;
}

void *fake_at(struct fake_platform *fake, guint64 gpa, guint64 len)
{
	void *host = vmm_memory_at(fake->platform.memory, gpa, len);

	g_assert(host);
	return host;
}

guint fake_msi_count(const struct fake_platform *fake, guint32 data)
{
	guint count = 0;

	for (guint i = 0; i < fake->msis->len; i++)
		if (g_array_index(fake->msis, struct fake_msi, i).data == data)
			count++;
	return count;
}

void fake_forget(struct fake_platform *fake)
{
	g_array_set_size(fake->msis, 0);
	g_array_set_size(fake->events, 0);
	memset(fake->irq_rises, 0, sizeof(fake->irq_rises));
}

guint fake_event_count(const struct fake_platform *fake, enum vmm_event_type type)
{
	guint count = 0;

	for (guint i = 0; i < fake->events->len; i++)
		if (g_array_index(fake->events, struct fake_event, i).type == type)
			count++;
	return count;
}
