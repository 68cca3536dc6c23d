/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI bus with configuration mechanism 1, a host bridge and single-function devices.
 *
 * Each function has its 256 bytes of configuration space and, for each byte, the bits
 * that the guest may write. What follows from a register is done after the write, from
 * the registers alone: so a load is "set the registers, then do what follows".
 *
 * Which BARs are visible is such a consequence. A BAR is visible where memory decoding
 * is on, all of it lies in the window, and no visible BAR of a lower slot meets it.
 * Nothing depends on the order in which the guest moved them.
 */
#include "kvm/pci.h"

#include <linux/pci_regs.h>
#include <string.h>

#include "kvm/error.h"

#define CONFIG_SIZE 256u
#define CONFIG_PORT 0xcf8u
#define CONFIG_PORTS 8u
#define ADDRESS_ENABLE 0x80000000u
/* The bits that can be set: enable, bus, device, function, register. */
#define ADDRESS_BITS 0x80fffffcu
/* PIIX3 and later have the reset register among the bytes of the address latch. */
#define RESET_OFFSET 1u

#define BRIDGE_VENDOR 0x1b36u
#define BRIDGE_DEVICE 0x0008u
#define CLASS_HOST_BRIDGE 0x060000u

#define COMMAND_BITS \
	(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)
#define MSIX_CAP 0x40u
#define MSIX_CONTROL (MSIX_CAP + PCI_MSIX_FLAGS)
#define CLASS_CONFIG \
	(MSIX_CAP + PCI_CAP_MSIX_SIZEOF) /* from here on a class may answer */
#define MSIX_CONTROL_BITS (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)

struct function {
	guint8 config[CONFIG_SIZE];
	guint8 writable[CONFIG_SIZE];
};

struct msix_entry {
	guint64 address;
	guint32 data;
	guint32 control;
};

struct vmm_pci_device {
	vmm_pci *pci;
	const struct vmm_pci_class *class_;
	guint instance, slot;
	void *data;
	struct function function;
	guint last_cap,
		free_cap; /* offsets: the newest capability, room for the next */
	guint32 visible; /* where the BAR is on the bus; 0: nowhere */
	struct msix_entry table[VMM_PCI_VECTORS_MAX];
	guint32 pending; /* a bit for each vector */
};

struct vmm_pci {
	const struct vmm_platform *platform;
	guint32 address; /* what the guest wrote to 0xcf8 */
	struct function bridge; /* slot 0 */
	vmm_pci_device *slots[VMM_PCI_SLOTS];
	void (*reset)(void *data, guint8 value);
	void *reset_data;
};

static guint32 get(const guint8 *bytes, guint len)
{
	guint32 value = 0;

	for (guint i = 0; i < len; i++)
		value |= (guint32)bytes[i] << 8 * i;
	return value;
}

static void put(guint8 *bytes, guint len, guint32 value)
{
	for (guint i = 0; i < len; i++)
		bytes[i] = (guint8)(value >> 8 * i);
}

static void write_allowed(struct function *function, guint offset, guint len,
			  guint32 value)
{
	for (guint i = 0; i < len; i++) {
		guint8 mask = function->writable[offset + i];
		guint8 byte = (guint8)(value >> 8 * i);

		function->config[offset + i] =
			(function->config[offset + i] & ~mask) | (byte & mask);
	}
}

/* MSI-X. */

static guint32 command(const vmm_pci_device *device)
{
	return get(device->function.config + PCI_COMMAND, 2);
}

/* Messages are writes that the function masters the bus for. */
static gboolean may_send(const vmm_pci_device *device)
{
	guint32 control = get(device->function.config + MSIX_CONTROL, 2);

	return (control & MSIX_CONTROL_BITS) == PCI_MSIX_FLAGS_ENABLE &&
	       (command(device) & PCI_COMMAND_MASTER);
}

static void send(vmm_pci_device *device, guint vector)
{
	const struct msix_entry *entry = &device->table[vector];
	const struct vmm_platform *platform = device->pci->platform;

	platform->send_msi(platform->host, entry->address, entry->data);
}

static gboolean masked(const vmm_pci_device *device, guint vector)
{
	return device->table[vector].control & PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

static void send_pending(vmm_pci_device *device)
{
	if (!device->pending || !may_send(device))
		return;
	for (guint v = 0; v < device->class_->vectors; v++) {
		if (!(device->pending & 1u << v) || masked(device, v))
			continue;
		device->pending &= ~(1u << v);
		send(device, v);
	}
}

/* A double word of the table; 0 outside it. */
static guint64 table_read(const vmm_pci_device *device, guint64 offset)
{
	const struct msix_entry *entry;

	if (offset / PCI_MSIX_ENTRY_SIZE >= device->class_->vectors)
		return 0;
	entry = &device->table[offset / PCI_MSIX_ENTRY_SIZE];
	switch (offset % PCI_MSIX_ENTRY_SIZE) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		return (guint32)entry->address;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		return entry->address >> 32;
	case PCI_MSIX_ENTRY_DATA:
		return entry->data;
	default:
		return entry->control;
	}
}

static void table_write(vmm_pci_device *device, guint64 offset, guint32 value)
{
	struct msix_entry *entry;

	if (offset / PCI_MSIX_ENTRY_SIZE >= device->class_->vectors)
		return;
	entry = &device->table[offset / PCI_MSIX_ENTRY_SIZE];
	switch (offset % PCI_MSIX_ENTRY_SIZE) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		entry->address =
			(entry->address & ~(guint64)G_MAXUINT32) | (value & ~3u);
		break;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		entry->address = (guint32)entry->address | (guint64)value << 32;
		break;
	case PCI_MSIX_ENTRY_DATA:
		entry->data = value;
		break;
	default:
		entry->control = value & PCI_MSIX_ENTRY_CTRL_MASKBIT;
		break;
	}
}

/* The MSI-X structures take whole, aligned double and quad words only. */
static guint64 msix_read(const vmm_pci_device *device, guint64 offset, guint len)
{
	if ((len != 4 && len != 8) || offset % len)
		return G_MAXUINT64;
	if (offset >= VMM_PCI_MSIX_PBA)
		return offset == VMM_PCI_MSIX_PBA ? device->pending : 0;
	offset -= VMM_PCI_MSIX_TABLE;
	if (len == 4)
		return table_read(device, offset);
	return table_read(device, offset) | table_read(device, offset + 4) << 32;
}

static void msix_write(vmm_pci_device *device, guint64 offset, guint64 value, guint len)
{
	if ((len != 4 && len != 8) || offset % len || offset >= VMM_PCI_MSIX_PBA)
		return;
	offset -= VMM_PCI_MSIX_TABLE;
	table_write(device, offset, (guint32)value);
	if (len == 8)
		table_write(device, offset + 4, (guint32)(value >> 32));
	send_pending(device);
}

/* BAR 0. */

static guint64 bar_read(void *data, guint64 offset, guint len)
{
	vmm_pci_device *device = data;

	if (offset >= VMM_PCI_MSIX_TABLE)
		return msix_read(device, offset, len);
	if (offset + len > VMM_PCI_MSIX_TABLE)
		return G_MAXUINT64;
	return device->class_->bar_read(device->data, offset, len);
}

static void bar_write(void *data, guint64 offset, guint64 value, guint len)
{
	vmm_pci_device *device = data;

	if (offset >= VMM_PCI_MSIX_TABLE)
		msix_write(device, offset, value, len);
	else if (offset + len <= VMM_PCI_MSIX_TABLE)
		device->class_->bar_write(device->data, offset, value, len);
}

static const struct vmm_region_ops bar_ops = { bar_read, bar_write };

/* Where the BAR would be if no other were in the way; 0: nowhere. */
static guint32 wanted_place(const vmm_pci_device *device)
{
	guint32 bar = get(device->function.config + PCI_BASE_ADDRESS_0, 4);

	if (!(command(device) & PCI_COMMAND_MEMORY) || bar < VMM_PCI_WINDOW ||
	    bar > VMM_PCI_WINDOW_END - VMM_PCI_BAR_SIZE)
		return 0;
	return bar;
}

static gboolean is_taken(const guint32 *places, guint count, guint32 place)
{
	/* All have one size and are aligned to it: they meet only if they are equal. */
	for (guint i = 0; i < count; i++)
		if (places[i] == place)
			return TRUE;
	return FALSE;
}

static void show(vmm_pci_device *device, guint32 place)
{
	vmm_bus *bus = device->pci->platform->mmio;

	/* Something that is not on this bus may be there. */
	if (place && !vmm_bus_add(bus, place, VMM_PCI_BAR_SIZE, device->class_->name,
				  &bar_ops, device))
		return;
	if (!place)
		vmm_bus_remove(bus, device->visible, device);
	device->visible = place;
	device->class_->bar_moved(device->data, place);
}

/* Brings what is on the memory bus in line with the registers. */
static void map_bars(vmm_pci *pci)
{
	guint32 places[VMM_PCI_SLOTS] = { 0 };

	for (guint i = 1; i < VMM_PCI_SLOTS; i++) {
		guint32 place = pci->slots[i] ? wanted_place(pci->slots[i]) : 0;

		if (!is_taken(places, i, place))
			places[i] = place;
	}
	/* First all that go, to make room for all that come. */
	for (guint i = 1; i < VMM_PCI_SLOTS; i++)
		if (pci->slots[i] && pci->slots[i]->visible &&
		    pci->slots[i]->visible != places[i])
			show(pci->slots[i], 0);
	for (guint i = 1; i < VMM_PCI_SLOTS; i++)
		if (pci->slots[i] && pci->slots[i]->visible != places[i])
			show(pci->slots[i], places[i]);
}

/* Configuration space. `offset` and `len` are within one double word. */

static guint32 device_config_read(vmm_pci_device *device, guint offset, guint len)
{
	const struct vmm_pci_class *class_ = device->class_;
	guint32 value;

	if (class_->config_read && offset >= CLASS_CONFIG &&
	    class_->config_read(device->data, offset, len, &value))
		return value;
	return get(device->function.config + offset, len);
}

static void device_config_write(vmm_pci_device *device, guint offset, guint len,
				guint32 value)
{
	const struct vmm_pci_class *class_ = device->class_;

	if (class_->config_write && offset >= CLASS_CONFIG &&
	    class_->config_write(device->data, offset, len, value))
		return;
	write_allowed(&device->function, offset, len, value);
	map_bars(device->pci);
	send_pending(device);
}

static guint32 config_read(vmm_pci *pci, guint offset, guint len)
{
	guint slot = pci->address >> 11 & 31;

	/* Bus 0, and only function 0. */
	if (!(pci->address & ADDRESS_ENABLE) || (pci->address & 0x00ff0700))
		return G_MAXUINT32;
	offset += pci->address & 0xfc;
	if (slot == 0)
		return get(pci->bridge.config + offset, len);
	if (!pci->slots[slot])
		return G_MAXUINT32;
	return device_config_read(pci->slots[slot], offset, len);
}

static void config_write(vmm_pci *pci, guint offset, guint len, guint32 value)
{
	guint slot = pci->address >> 11 & 31;

	if (!(pci->address & ADDRESS_ENABLE) || (pci->address & 0x00ff0700))
		return;
	offset += pci->address & 0xfc;
	if (slot == 0)
		write_allowed(&pci->bridge, offset, len, value);
	else if (pci->slots[slot])
		device_config_write(pci->slots[slot], offset, len, value);
}

/* The latch takes whole double words only; narrower accesses to it are not for PCI. */
static guint64 port_read(void *data, guint64 offset, guint len)
{
	vmm_pci *pci = data;

	if (offset >= 4)
		return config_read(pci, (guint)offset - 4, len);
	if (offset == 0 && len == 4)
		return pci->address;
	if (offset == RESET_OFFSET && len == 1 && pci->reset)
		return 0;
	return G_MAXUINT64;
}

static void port_write(void *data, guint64 offset, guint64 value, guint len)
{
	vmm_pci *pci = data;

	if (offset >= 4)
		config_write(pci, (guint)offset - 4, len, (guint32)value);
	else if (offset == 0 && len == 4)
		pci->address = (guint32)value & ADDRESS_BITS;
	else if (offset == RESET_OFFSET && len == 1 && pci->reset)
		pci->reset(pci->reset_data, (guint8)value);
}

static const struct vmm_region_ops port_ops = { port_read, port_write };

static void init_bridge(vmm_pci *pci)
{
	guint8 *config = pci->bridge.config;
	guint8 *writable = pci->bridge.writable;

	put(config + PCI_VENDOR_ID, 2, BRIDGE_VENDOR);
	put(config + PCI_DEVICE_ID, 2, BRIDGE_DEVICE);
	put(config + PCI_CLASS_REVISION, 4, CLASS_HOST_BRIDGE << 8);
	put(writable + PCI_COMMAND, 2, COMMAND_BITS);
	put(writable + PCI_INTERRUPT_LINE, 1, 0xff);
	put(writable + PCI_CACHE_LINE_SIZE, 1, 0xff);
}

vmm_pci *vmm_pci_new(const struct vmm_platform *platform)
{
	vmm_pci *pci = g_new0(vmm_pci, 1);

	pci->platform = platform;
	init_bridge(pci);
	vmm_pci_reset(pci);
	/* The machine is being put together: nobody else can have these ports. */
	if (!vmm_bus_add(platform->pio, CONFIG_PORT, CONFIG_PORTS, "pci", &port_ops,
			 pci))
		g_error("ports 0xcf8 to 0xcff are taken");
	return pci;
}

void vmm_pci_free(vmm_pci *pci)
{
	if (!pci)
		return;
	for (guint i = 0; i < VMM_PCI_SLOTS; i++)
		g_assert(!pci->slots[i]);
	vmm_bus_remove(pci->platform->pio, CONFIG_PORT, pci);
	g_free(pci);
}

void vmm_pci_set_reset_handler(vmm_pci *pci, void (*fn)(void *data, guint8 value),
			       void *data)
{
	pci->reset = fn;
	pci->reset_data = data;
}

static void init_function(vmm_pci_device *device)
{
	const struct vmm_pci_class *class_ = device->class_;
	guint8 *config = device->function.config;
	guint8 *writable = device->function.writable;

	put(config + PCI_VENDOR_ID, 2, class_->vendor);
	put(config + PCI_DEVICE_ID, 2, class_->device);
	put(config + PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
	put(config + PCI_CLASS_REVISION, 4, class_->class_code << 8 | class_->revision);
	put(config + PCI_SUBSYSTEM_VENDOR_ID, 2, class_->subsystem_vendor);
	put(config + PCI_SUBSYSTEM_ID, 2, class_->subsystem);
	put(config + PCI_CAPABILITY_LIST, 1, MSIX_CAP);
	put(config + MSIX_CAP, 1, PCI_CAP_ID_MSIX);
	put(config + MSIX_CONTROL, 2, class_->vectors - 1);
	/* The low bits name the BAR: 0. */
	put(config + MSIX_CAP + PCI_MSIX_TABLE, 4, VMM_PCI_MSIX_TABLE);
	put(config + MSIX_CAP + PCI_MSIX_PBA, 4, VMM_PCI_MSIX_PBA);

	put(writable + PCI_COMMAND, 2, COMMAND_BITS);
	put(writable + PCI_CACHE_LINE_SIZE, 1, 0xff);
	put(writable + PCI_BASE_ADDRESS_0, 4, ~(VMM_PCI_BAR_SIZE - 1));
	put(writable + PCI_INTERRUPT_LINE, 1, 0xff);
	put(writable + MSIX_CONTROL, 2, MSIX_CONTROL_BITS);
	device->last_cap = MSIX_CAP;
	device->free_cap = MSIX_CAP + PCI_CAP_MSIX_SIZEOF;
}

vmm_pci_device *vmm_pci_device_new(vmm_pci *pci, const struct vmm_pci_class *class_,
				   guint instance, void *data, GError **error)
{
	vmm_pci_device *device;
	guint slot = 1;

	g_assert(class_->vectors >= 1 && class_->vectors <= VMM_PCI_VECTORS_MAX);
	while (slot < VMM_PCI_SLOTS && pci->slots[slot])
		slot++;
	if (slot == VMM_PCI_SLOTS) {
		vmm_error_set(error, VMM_ERROR_CONFIG,
			      "%s %u: all %u slots of the PCI bus are in use",
			      class_->name, instance, VMM_PCI_SLOTS);
		return NULL;
	}
	device = g_new0(vmm_pci_device, 1);
	device->pci = pci;
	device->class_ = class_;
	device->instance = instance;
	device->slot = slot;
	device->data = data;
	init_function(device);
	pci->slots[slot] = device;
	vmm_pci_device_reset(device);
	return device;
}

void vmm_pci_device_free(vmm_pci_device *device)
{
	vmm_pci *pci;

	if (!device)
		return;
	pci = device->pci;
	if (device->visible)
		show(device, 0);
	pci->slots[device->slot] = NULL;
	g_free(device);
	map_bars(pci);
}

guint vmm_pci_add_capability(vmm_pci_device *device, const void *cap, guint len)
{
	guint8 *config = device->function.config;
	guint at = device->free_cap;

	g_assert(len >= 2 && at + len <= CONFIG_SIZE);
	memcpy(config + at, cap, len);
	config[at + PCI_CAP_LIST_ID] = PCI_CAP_ID_VNDR;
	config[at + PCI_CAP_LIST_NEXT] = 0;
	config[device->last_cap + PCI_CAP_LIST_NEXT] = (guint8)at;
	device->last_cap = at;
	device->free_cap = (at + len + 3) & ~3u;
	return at;
}

void vmm_pci_interrupt(vmm_pci_device *device, guint vector)
{
	if (vector >= device->class_->vectors)
		return;
	if (may_send(device) && !masked(device, vector))
		send(device, vector);
	else
		device->pending |= 1u << vector;
}

void vmm_pci_interrupt_all(vmm_pci_device *device)
{
	if (!may_send(device))
		return;
	for (guint v = 0; v < device->class_->vectors; v++) {
		if (masked(device, v))
			continue;
		device->pending &= ~(1u << v);
		send(device, v);
	}
}

void vmm_pci_device_reset(vmm_pci_device *device)
{
	guint8 *config = device->function.config;

	put(config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	put(config + PCI_CACHE_LINE_SIZE, 1, 0);
	put(config + PCI_INTERRUPT_LINE, 1, 0xff);
	put(config + PCI_BASE_ADDRESS_0, 4,
	    VMM_PCI_WINDOW + device->slot * VMM_PCI_BAR_SIZE);
	put(config + MSIX_CONTROL, 2, device->class_->vectors - 1);
	memset(device->table, 0, sizeof(device->table));
	for (guint v = 0; v < device->class_->vectors; v++)
		device->table[v].control = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	device->pending = 0;
	map_bars(device->pci);
}

/* Saved state. */

#define DEVICE_VERSION 1
#define BUS_VERSION 1

struct msix_saved {
	wire_u64 address;
	wire_u32 data, control;
};

struct device_saved {
	wire_u32 slot; /* must be the same where it is loaded: the guest knows it */
	wire_u32 vectors; /* likewise */
	wire_u32 bar;
	wire_u32 pending;
	wire_u16 command, msix_control;
	guint8 interrupt_line, cache_line, pad[2];
	struct msix_saved table[VMM_PCI_VECTORS_MAX];
};
G_STATIC_ASSERT(sizeof(struct device_saved) == 24 + 16 * VMM_PCI_VECTORS_MAX);

static const struct vmm_state_field device_fields[] = {
	VMM_STATE_FIELD(struct device_saved, slot),
	VMM_STATE_FIELD(struct device_saved, vectors),
	VMM_STATE_FIELD(struct device_saved, bar),
	VMM_STATE_FIELD(struct device_saved, pending),
	VMM_STATE_FIELD(struct device_saved, command),
	VMM_STATE_FIELD(struct device_saved, msix_control),
	VMM_STATE_FIELD(struct device_saved, interrupt_line),
	VMM_STATE_FIELD(struct device_saved, cache_line),
	VMM_STATE_FIELD(struct device_saved, table),
	{ 0 },
};

struct bus_saved {
	wire_u32 address;
	wire_u16 command;
	guint8 interrupt_line, cache_line;
};
G_STATIC_ASSERT(sizeof(struct bus_saved) == 8);

static const struct vmm_state_field bus_fields[] = {
	VMM_STATE_FIELD(struct bus_saved, address),
	VMM_STATE_FIELD(struct bus_saved, command),
	VMM_STATE_FIELD(struct bus_saved, interrupt_line),
	VMM_STATE_FIELD(struct bus_saved, cache_line),
	{ 0 },
};

static char *section_name(const vmm_pci_device *device)
{
	return g_strconcat("pci-", device->class_->name, NULL);
}

void vmm_pci_device_save(const vmm_pci_device *device, vmm_state *state)
{
	const guint8 *config = device->function.config;
	g_autofree char *name = section_name(device);
	struct device_saved saved = {
		.slot = wire_put32(device->slot),
		.vectors = wire_put32(device->class_->vectors),
		.bar = wire_put32(get(config + PCI_BASE_ADDRESS_0, 4)),
		.pending = wire_put32(device->pending),
		.command = wire_put16((guint16)command(device)),
		.msix_control = wire_put16((guint16)get(config + MSIX_CONTROL, 2)),
		.interrupt_line = config[PCI_INTERRUPT_LINE],
		.cache_line = config[PCI_CACHE_LINE_SIZE],
	};

	for (guint v = 0; v < device->class_->vectors; v++) {
		saved.table[v].address = wire_put64(device->table[v].address);
		saved.table[v].data = wire_put32(device->table[v].data);
		saved.table[v].control = wire_put32(device->table[v].control);
	}
	vmm_state_put(state, name, device->instance, DEVICE_VERSION, &saved,
		      sizeof(saved), device_fields);
}

/* NULL, or what cannot be loaded. */
static const char *check_saved(const vmm_pci_device *device,
			       const struct device_saved *saved)
{
	static const struct msix_saved unused;
	guint vectors = device->class_->vectors;

	if (wire_get32(saved->slot) != device->slot)
		return "it is in another slot";
	if (wire_get32(saved->vectors) != vectors)
		return "it has another number of vectors";
	if (wire_get32(saved->bar) % VMM_PCI_BAR_SIZE)
		return "its BAR is not aligned";
	if (wire_get32(saved->pending) >> vectors)
		return "a vector is pending that does not exist";
	if (wire_get16(saved->command) & ~COMMAND_BITS)
		return "its command register has impossible bits";
	if ((wire_get16(saved->msix_control) & ~MSIX_CONTROL_BITS) != vectors - 1)
		return "its MSI-X control register has impossible bits";
	if (saved->pad[0] || saved->pad[1])
		return "padding is not zero";
	for (guint v = 0; v < VMM_PCI_VECTORS_MAX; v++) {
		const struct msix_saved *entry = &saved->table[v];

		if (v >= vectors && memcmp(entry, &unused, sizeof(unused)))
			return "a vector is set that does not exist";
		if (wire_get64(entry->address) % 4 ||
		    (wire_get32(entry->control) & ~PCI_MSIX_ENTRY_CTRL_MASKBIT))
			return "an MSI-X entry has impossible bits";
	}
	return NULL;
}

static void apply_saved(vmm_pci_device *device, const struct device_saved *saved)
{
	guint8 *config = device->function.config;

	put(config + PCI_BASE_ADDRESS_0, 4, wire_get32(saved->bar));
	put(config + PCI_COMMAND, 2, wire_get16(saved->command));
	put(config + MSIX_CONTROL, 2, wire_get16(saved->msix_control));
	config[PCI_INTERRUPT_LINE] = saved->interrupt_line;
	config[PCI_CACHE_LINE_SIZE] = saved->cache_line;
	device->pending = wire_get32(saved->pending);
	for (guint v = 0; v < device->class_->vectors; v++) {
		device->table[v].address = wire_get64(saved->table[v].address);
		device->table[v].data = wire_get32(saved->table[v].data);
		device->table[v].control = wire_get32(saved->table[v].control);
	}
	map_bars(device->pci);
}

gboolean vmm_pci_device_load(vmm_pci_device *device, const vmm_state *state,
			     enum vmm_load pass, GError **error)
{
	g_autofree char *name = section_name(device);
	const struct device_saved *saved =
		vmm_state_get(state, name, device->instance, DEVICE_VERSION,
			      sizeof(*saved), sizeof(*saved), NULL, error);
	const char *why;

	if (!saved)
		return FALSE;
	why = check_saved(device, saved);
	if (why)
		return vmm_error_set(error, VMM_ERROR_STATE, "saved %s.%u: %s", name,
				     device->instance, why);
	if (pass == VMM_LOAD_APPLY)
		apply_saved(device, saved);
	return TRUE;
}

void vmm_pci_save(const vmm_pci *pci, vmm_state *state)
{
	const guint8 *config = pci->bridge.config;
	struct bus_saved saved = {
		.address = wire_put32(pci->address),
		.command = wire_put16((guint16)get(config + PCI_COMMAND, 2)),
		.interrupt_line = config[PCI_INTERRUPT_LINE],
		.cache_line = config[PCI_CACHE_LINE_SIZE],
	};

	vmm_state_put(state, "pci", 0, BUS_VERSION, &saved, sizeof(saved), bus_fields);
}

gboolean vmm_pci_load(vmm_pci *pci, const vmm_state *state, enum vmm_load pass,
		      GError **error)
{
	const struct bus_saved *saved =
		vmm_state_get(state, "pci", 0, BUS_VERSION, sizeof(*saved),
			      sizeof(*saved), NULL, error);

	if (!saved)
		return FALSE;
	if ((wire_get32(saved->address) & ~ADDRESS_BITS) ||
	    (wire_get16(saved->command) & ~COMMAND_BITS))
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "saved pci.0: a register has impossible bits");
	if (pass == VMM_LOAD_CHECK)
		return TRUE;
	pci->address = wire_get32(saved->address);
	put(pci->bridge.config + PCI_COMMAND, 2, wire_get16(saved->command));
	pci->bridge.config[PCI_INTERRUPT_LINE] = saved->interrupt_line;
	pci->bridge.config[PCI_CACHE_LINE_SIZE] = saved->cache_line;
	return TRUE;
}

void vmm_pci_reset(vmm_pci *pci)
{
	pci->address = 0;
	put(pci->bridge.config + PCI_COMMAND, 2,
	    PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	pci->bridge.config[PCI_INTERRUPT_LINE] = 0;
	pci->bridge.config[PCI_CACHE_LINE_SIZE] = 0;
}
