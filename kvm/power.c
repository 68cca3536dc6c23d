/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Power-off, reset, panic and the power button. */
#include "kvm/power.h"

#include "kvm/error.h"
#include "kvm/layout.h"

#define SLEEP_ENABLE 0x20 /* ACPI 6.4, 4.8.3.7: SLP_EN, with SLP_TYP in bits 2 to 4 */
#define EVENT_BUTTON 1
#define PANIC_PANICKED 1
#define PANIC_CRASH_LOADED 2
#define KEYBOARD_RESET 0xfe

enum request { REQUEST_NONE, REQUEST_RESET, REQUEST_POWEROFF };

struct vmm_power {
	struct vmm_platform platform;
	guint8 events; /* pending for the generic event device */
	guint8 request; /* what the guest asked for, until vmm_power_reset() */
	/* Bits that were told of since the last reset. Not saved: a guest that panics on
	 * and on is told of once by each process. */
	guint8 panics_told;
};

static void request(vmm_power *power, enum request what, const char *how)
{
	power->request = (guint8)what;
	power->platform.event(power->platform.host,
			      what == REQUEST_RESET ? VMM_EVENT_RESET :
						      VMM_EVENT_POWEROFF,
			      NULL, how);
}

static guint64 sleep_read(void *device, guint64 offset, guint len)
{
	return 0;
}

static void sleep_write(void *device, guint64 offset, guint64 value, guint len)
{
	vmm_power *power = device;

	if (offset == 0 && (value & SLEEP_ENABLE) && (value >> 2 & 7) == VMM_SLEEP_TYPE_S5)
		request(power, REQUEST_POWEROFF, NULL);
}

static guint64 event_read(void *device, guint64 offset, guint len)
{
	vmm_power *power = device;
	guint8 events = power->events;

	power->events = 0;
	return events;
}

static void event_write(void *device, guint64 offset, guint64 value, guint len)
{
}

static guint64 panic_read(void *device, guint64 offset, guint len)
{
	return PANIC_PANICKED | PANIC_CRASH_LOADED;
}

static void panic_write(void *device, guint64 offset, guint64 value, guint len)
{
	vmm_power *power = device;
	guint8 news = value & (PANIC_PANICKED | PANIC_CRASH_LOADED) &
		      ~(guint)power->panics_told;

	power->panics_told |= news;
	if (news)
		power->platform.event(power->platform.host, VMM_EVENT_PANIC, NULL,
				      news & PANIC_PANICKED ? "panicked" : "crash kernel");
}

static guint64 keyboard_read(void *device, guint64 offset, guint len)
{
	return 0; /* nothing to read, ready for a command */
}

static void keyboard_write(void *device, guint64 offset, guint64 value, guint len)
{
	vmm_power *power = device;

	if ((guint8)value == KEYBOARD_RESET)
		request(power, REQUEST_RESET, "keyboard controller");
}

static const struct vmm_region_ops sleep_ops = { sleep_read, sleep_write };
static const struct vmm_region_ops event_ops = { event_read, event_write };
static const struct vmm_region_ops panic_ops = { panic_read, panic_write };
static const struct vmm_region_ops keyboard_ops = { keyboard_read, keyboard_write };

static const struct {
	guint16 port, len;
	const char *name;
	const struct vmm_region_ops *ops;
} ports[] = {
	{ VMM_PORT_SLEEP_CONTROL, 2, "sleep", &sleep_ops },
	{ VMM_PORT_EVENT, 1, "events", &event_ops },
	{ VMM_PORT_PANIC, 1, "panic", &panic_ops },
	{ VMM_PORT_KEYBOARD, 1, "keyboard", &keyboard_ops },
};

vmm_power *vmm_power_new(const struct vmm_platform *platform)
{
	vmm_power *power = g_new0(vmm_power, 1);

	power->platform = *platform;
	for (guint i = 0; i < G_N_ELEMENTS(ports); i++)
		if (!vmm_bus_add(platform->pio, ports[i].port, ports[i].len, ports[i].name,
				 ports[i].ops, power))
			g_assert_not_reached();
	return power;
}

void vmm_power_free(vmm_power *power)
{
	if (!power)
		return;
	for (guint i = 0; i < G_N_ELEMENTS(ports); i++)
		vmm_bus_remove(power->platform.pio, ports[i].port, power);
	g_free(power);
}

void vmm_power_reset(vmm_power *power)
{
	power->events = 0;
	power->request = REQUEST_NONE;
	power->panics_told = 0;
}

void vmm_power_fault(vmm_power *power)
{
	request(power, REQUEST_RESET, "triple fault");
}

void vmm_power_again(vmm_power *power)
{
	if (power->request != REQUEST_NONE)
		request(power, power->request, "asked for before the machine was stopped");
}

void vmm_power_press(vmm_power *power)
{
	power->events |= EVENT_BUTTON;
	/* Edge-triggered: a pulse. */
	power->platform.set_irq(power->platform.host, VMM_EVENT_IRQ, TRUE);
	power->platform.set_irq(power->platform.host, VMM_EVENT_IRQ, FALSE);
}

void vmm_power_reset_register(void *device, guint8 value)
{
	vmm_power *power = device;

	/* Bit 2 pulls the line; which kind of reset bit 1 asks for makes no difference. */
	if (value & 4)
		request(power, REQUEST_RESET, "reset register");
}

struct saved_power {
	guint8 events, request, pad[6];
};
static const struct vmm_state_field saved_fields[] = {
	VMM_STATE_FIELD(struct saved_power, events),
	VMM_STATE_FIELD(struct saved_power, request),
	{ 0 },
};

void vmm_power_save(const vmm_power *power, vmm_state *state)
{
	struct saved_power saved = { .events = power->events,
				     .request = power->request };

	vmm_state_put(state, "power", 0, 1, &saved, sizeof(saved), saved_fields);
}

gboolean vmm_power_load(vmm_power *power, const vmm_state *state, enum vmm_load pass,
			GError **error)
{
	const struct saved_power *saved =
		vmm_state_get(state, "power", 0, 1, sizeof(*saved), sizeof(*saved), NULL, error);
	gboolean unknown;

	if (!saved)
		return FALSE;
	unknown = saved->events & ~EVENT_BUTTON || saved->request > REQUEST_POWEROFF;
	for (guint i = 0; i < sizeof(saved->pad); i++)
		unknown |= saved->pad[i] != 0;
	if (unknown)
		return vmm_error_set(error, VMM_ERROR_STATE, "saved power.0 has unknown events");
	if (pass == VMM_LOAD_APPLY) {
		power->events = saved->events;
		power->request = saved->request;
	}
	return TRUE;
}
