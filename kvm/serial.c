/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A 16550A UART.
 *
 * Sending takes no time: a byte that is written is gone, so the transmitter is always
 * empty. Receiving is paced by the guest: the chardev gives no more than the FIFO has
 * room for, so nothing is overrun but by the guest's own loopback. The character
 * timeout, which tells of bytes below the trigger level, is due at once. So nothing
 * here depends on time.
 *
 * The interrupt line is not gated by OUT2, as on the adapters of the PC: no driver
 * counts on being left alone that way, and some early ones forget to set it.
 */
#include "kvm/serial.h"

#include <linux/serial_reg.h>
#include <string.h>

#include "kvm/error.h"

#define PORTS 8u
#define FIFO_SIZE 16u
#define IER_BITS 0x0fu
#define MCR_BITS 0x1fu
#define FCR_KEPT (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK)
#define IIR_FIFOS 0xc0u
/* What an attached, idle terminal shows. */
#define MSR_CONNECTED (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)
#define MSR_LINES 0xf0u

struct vmm_serial {
	const struct vmm_platform *platform;
	vmm_chardev *chardev;
	guint8 ier, fcr, lcr, mcr, scr;
	guint8 divisor_low, divisor_high;
	guint8 errors; /* of the line status register, until it is read */
	guint8 deltas; /* of the modem status register, until it is read */
	gboolean empty_pending; /* "transmitter empty" is to be told */
	guint8 fifo[FIFO_SIZE]; /* received, oldest first */
	guint received;
	gboolean level; /* of the interrupt line, as it was set last */
};

static gboolean fifos_on(const vmm_serial *serial)
{
	return serial->fcr & UART_FCR_ENABLE_FIFO;
}

static guint capacity(const vmm_serial *serial)
{
	return fifos_on(serial) ? FIFO_SIZE : 1;
}

static guint trigger_level(const vmm_serial *serial)
{
	static const guint8 levels[] = { 1, 4, 8, 14 };

	return fifos_on(serial) ? levels[serial->fcr >> 6] : 1;
}

/* The modem status lines; in loopback they are fed by the modem control lines. */
static guint8 lines(const vmm_serial *serial)
{
	guint8 mcr = serial->mcr;

	if (!(mcr & UART_MCR_LOOP))
		return MSR_CONNECTED;
	return (guint8)((mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
			(mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
			(mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
			(mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0));
}

/* The interrupt that has precedence, as the identification register shows it. */
static guint8 identify(const vmm_serial *serial)
{
	if ((serial->ier & UART_IER_RLSI) && serial->errors)
		return UART_IIR_RLSI;
	if ((serial->ier & UART_IER_RDI) && serial->received)
		return serial->received >= trigger_level(serial) ? UART_IIR_RDI
								 : UART_IIR_RX_TIMEOUT;
	if ((serial->ier & UART_IER_THRI) && serial->empty_pending)
		return UART_IIR_THRI;
	if ((serial->ier & UART_IER_MSI) && serial->deltas)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

static void set_irq(vmm_serial *serial)
{
	serial->level = identify(serial) != UART_IIR_NO_INT;
	serial->platform->set_irq(serial->platform->host, VMM_SERIAL_IRQ,
				  serial->level);
}

/* Most accesses change nothing: setting a line is a system call. */
static void update_irq(vmm_serial *serial)
{
	if (serial->level != (identify(serial) != UART_IIR_NO_INT))
		set_irq(serial);
}

static void receive(vmm_serial *serial, guint8 byte)
{
	if (serial->received == capacity(serial)) {
		serial->errors |= UART_LSR_OE;
		/* Without FIFOs, the new byte replaces the old. */
		if (!fifos_on(serial))
			serial->fifo[0] = byte;
		return;
	}
	serial->fifo[serial->received++] = byte;
}

static guint8 take_byte(vmm_serial *serial)
{
	guint8 byte = serial->fifo[0];

	if (!serial->received)
		return 0;
	serial->received--;
	memmove(serial->fifo, serial->fifo + 1, serial->received);
	/* What is not there does not show in the saved state. */
	serial->fifo[serial->received] = 0;
	vmm_chardev_poll(serial->chardev);
	return byte;
}

static void clear_received(vmm_serial *serial)
{
	memset(serial->fifo, 0, sizeof(serial->fifo));
	serial->received = 0;
}

static void send(vmm_serial *serial, guint8 byte)
{
	if (serial->mcr & UART_MCR_LOOP)
		receive(serial, byte);
	else
		vmm_chardev_output(serial->chardev, &byte, 1);
	serial->empty_pending = TRUE;
}

static void write_ier(vmm_serial *serial, guint8 value)
{
	/* The transmitter is empty: whoever begins to care is told. */
	if ((value & UART_IER_THRI) && !(serial->ier & UART_IER_THRI))
		serial->empty_pending = TRUE;
	serial->ier = value & IER_BITS;
}

static void write_fcr(vmm_serial *serial, guint8 value)
{
	gboolean toggled = (value ^ serial->fcr) & UART_FCR_ENABLE_FIFO;

	/* The other bits count only together with the enable bit. */
	serial->fcr = value & UART_FCR_ENABLE_FIFO ? value & FCR_KEPT : 0;
	if (toggled || (value & UART_FCR_CLEAR_RCVR)) {
		clear_received(serial);
		vmm_chardev_poll(serial->chardev);
	}
}

static void write_mcr(vmm_serial *serial, guint8 value)
{
	guint8 before = lines(serial);
	guint8 changed;

	serial->mcr = value & MCR_BITS;
	changed = before ^ lines(serial);
	/* The ring indicator tells only of its end. */
	if ((changed & UART_MSR_RI) && !(before & UART_MSR_RI))
		changed &= ~UART_MSR_RI;
	serial->deltas |= changed >> 4;
	if (!(value & UART_MCR_LOOP))
		vmm_chardev_poll(serial->chardev);
}

static guint8 read_iir(vmm_serial *serial)
{
	guint8 iir = identify(serial);

	if (iir == UART_IIR_THRI)
		serial->empty_pending = FALSE;
	return iir | (fifos_on(serial) ? IIR_FIFOS : 0);
}

static guint8 read_lsr(vmm_serial *serial)
{
	guint8 lsr = serial->errors | UART_LSR_THRE | UART_LSR_TEMT;

	if (serial->received)
		lsr |= UART_LSR_DR;
	serial->errors = 0;
	return lsr;
}

static guint8 read_msr(vmm_serial *serial)
{
	guint8 msr = lines(serial) | serial->deltas;

	serial->deltas = 0;
	return msr;
}

static guint8 read_register(vmm_serial *serial, guint64 offset)
{
	gboolean divisor = serial->lcr & UART_LCR_DLAB;

	switch (offset) {
	case UART_RX:
		return divisor ? serial->divisor_low : take_byte(serial);
	case UART_IER:
		return divisor ? serial->divisor_high : serial->ier;
	case UART_IIR:
		return read_iir(serial);
	case UART_LCR:
		return serial->lcr;
	case UART_MCR:
		return serial->mcr;
	case UART_LSR:
		return read_lsr(serial);
	case UART_MSR:
		return read_msr(serial);
	default:
		return serial->scr;
	}
}

static void write_register(vmm_serial *serial, guint64 offset, guint8 value)
{
	gboolean divisor = serial->lcr & UART_LCR_DLAB;

	switch (offset) {
	case UART_TX:
		if (divisor)
			serial->divisor_low = value;
		else
			send(serial, value);
		break;
	case UART_IER:
		if (divisor)
			serial->divisor_high = value;
		else
			write_ier(serial, value);
		break;
	case UART_FCR:
		write_fcr(serial, value);
		break;
	case UART_LCR:
		serial->lcr = value;
		break;
	case UART_MCR:
		write_mcr(serial, value);
		break;
	case UART_SCR:
		serial->scr = value;
		break;
	/* The status registers: the chip's manual forbids writing them. */
	case UART_LSR:
	case UART_MSR:
		break;
	}
}

/* The chip has eight data lines: wider accesses are not for it. */
static guint64 port_read(void *device, guint64 offset, guint len)
{
	vmm_serial *serial = device;
	guint8 value;

	if (len != 1)
		return G_MAXUINT64;
	value = read_register(serial, offset);
	update_irq(serial);
	return value;
}

static void port_write(void *device, guint64 offset, guint64 value, guint len)
{
	vmm_serial *serial = device;

	if (len != 1)
		return;
	write_register(serial, offset, (guint8)value);
	update_irq(serial);
}

static const struct vmm_region_ops port_ops = { port_read, port_write };

static gsize room(void *device)
{
	vmm_serial *serial = device;

	/* In loopback the line from outside is cut. */
	if (serial->mcr & UART_MCR_LOOP)
		return 0;
	return capacity(serial) - serial->received;
}

static void input(void *device, const guint8 *bytes, gsize len)
{
	vmm_serial *serial = device;

	for (gsize i = 0; i < len; i++)
		receive(serial, bytes[i]);
	update_irq(serial);
}

static const struct vmm_chardev_ops chardev_ops = { room, input };

vmm_serial *vmm_serial_new(const struct vmm_platform *platform, vmm_chardev *chardev)
{
	vmm_serial *serial = g_new0(vmm_serial, 1);

	serial->platform = platform;
	serial->chardev = chardev;
	/* The machine is being put together: nobody else can have these ports. */
	if (!vmm_bus_add(platform->pio, VMM_SERIAL_PORT, PORTS, "serial", &port_ops,
			 serial))
		g_error("ports 0x3f8 to 0x3ff are taken");
	vmm_chardev_connect(chardev, &chardev_ops, serial);
	vmm_serial_reset(serial);
	return serial;
}

void vmm_serial_free(vmm_serial *serial)
{
	if (!serial)
		return;
	vmm_chardev_connect(serial->chardev, NULL, NULL);
	vmm_bus_remove(serial->platform->pio, VMM_SERIAL_PORT, serial);
	g_free(serial);
}

void vmm_serial_reset(vmm_serial *serial)
{
	serial->ier = serial->fcr = serial->lcr = serial->mcr = serial->scr = 0;
	/* 9600 baud, as a firmware leaves it. */
	serial->divisor_low = 12;
	serial->divisor_high = 0;
	serial->errors = serial->deltas = 0;
	serial->empty_pending = FALSE;
	clear_received(serial);
	vmm_chardev_poll(serial->chardev);
	set_irq(serial);
}

/* Saved state. */

#define SAVED_VERSION 1

struct serial_saved {
	guint8 ier, fcr, lcr, mcr, scr, divisor_low, divisor_high;
	guint8 errors, deltas, empty_pending, received;
	guint8 pad[5];
	guint8 fifo[FIFO_SIZE];
};
G_STATIC_ASSERT(sizeof(struct serial_saved) == 16 + FIFO_SIZE);

static const struct vmm_state_field serial_fields[] = {
	VMM_STATE_FIELD(struct serial_saved, ier),
	VMM_STATE_FIELD(struct serial_saved, fcr),
	VMM_STATE_FIELD(struct serial_saved, lcr),
	VMM_STATE_FIELD(struct serial_saved, mcr),
	VMM_STATE_FIELD(struct serial_saved, scr),
	VMM_STATE_FIELD(struct serial_saved, divisor_low),
	VMM_STATE_FIELD(struct serial_saved, divisor_high),
	VMM_STATE_FIELD(struct serial_saved, errors),
	VMM_STATE_FIELD(struct serial_saved, deltas),
	VMM_STATE_FIELD(struct serial_saved, empty_pending),
	VMM_STATE_FIELD(struct serial_saved, received),
	VMM_STATE_FIELD(struct serial_saved, fifo),
	{ 0 },
};

void vmm_serial_save(const vmm_serial *serial, vmm_state *state)
{
	struct serial_saved saved = {
		.ier = serial->ier,
		.fcr = serial->fcr,
		.lcr = serial->lcr,
		.mcr = serial->mcr,
		.scr = serial->scr,
		.divisor_low = serial->divisor_low,
		.divisor_high = serial->divisor_high,
		.errors = serial->errors,
		.deltas = serial->deltas,
		.empty_pending = serial->empty_pending ? 1 : 0,
		.received = (guint8)serial->received,
	};

	memcpy(saved.fifo, serial->fifo, sizeof(saved.fifo));
	vmm_state_put(state, "serial", 0, SAVED_VERSION, &saved, sizeof(saved),
		      serial_fields);
}

/* NULL, or what cannot be loaded. */
static const char *check_saved(const struct serial_saved *saved)
{
	guint fits = saved->fcr & UART_FCR_ENABLE_FIFO ? FIFO_SIZE : 1;

	if ((saved->ier & ~IER_BITS) || (saved->mcr & ~MCR_BITS) ||
	    (saved->fcr & ~FCR_KEPT) || (saved->fcr && fits == 1) ||
	    (saved->errors & ~UART_LSR_OE) || (saved->deltas & MSR_LINES))
		return "a register has impossible bits";
	if (saved->empty_pending > 1)
		return "a flag is neither 0 nor 1";
	if (saved->received > fits)
		return "more was received than fits";
	for (guint i = saved->received; i < FIFO_SIZE; i++)
		if (saved->fifo[i])
			return "there is something behind what was received";
	for (guint i = 0; i < G_N_ELEMENTS(saved->pad); i++)
		if (saved->pad[i])
			return "padding is not zero";
	return NULL;
}

gboolean vmm_serial_load(vmm_serial *serial, const vmm_state *state, enum vmm_load pass,
			 GError **error)
{
	const struct serial_saved *saved =
		vmm_state_get(state, "serial", 0, SAVED_VERSION, sizeof(*saved),
			      sizeof(*saved), NULL, error);
	const char *why;

	if (!saved)
		return FALSE;
	why = check_saved(saved);
	if (why)
		return vmm_error_set(error, VMM_ERROR_STATE, "saved serial.0: %s", why);
	if (pass == VMM_LOAD_CHECK)
		return TRUE;
	serial->ier = saved->ier;
	serial->fcr = saved->fcr;
	serial->lcr = saved->lcr;
	serial->mcr = saved->mcr;
	serial->scr = saved->scr;
	serial->divisor_low = saved->divisor_low;
	serial->divisor_high = saved->divisor_high;
	serial->errors = saved->errors;
	serial->deltas = saved->deltas;
	serial->empty_pending = saved->empty_pending;
	serial->received = saved->received;
	memcpy(serial->fifo, saved->fifo, sizeof(serial->fifo));
	vmm_chardev_poll(serial->chardev);
	/* The level of a line is not part of the interrupt controllers' state. */
	set_irq(serial);
	return TRUE;
}
