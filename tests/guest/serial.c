/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * serial.c - COM1, a 16550.
 *
 * Received bytes come by interrupt (IRQ 4): the port is looked at only after its count
 * has moved. A port access costs an exit, 25 us on kvm-pvm, so the transmitter is asked
 * once per line whether it is ready, not once per byte.
 */
#include "serial.h"

#include "cpu.h"
#include "text.h"

#define COM1 0x3f8
#define IER (COM1 + 1)
#define FCR (COM1 + 2)
#define LCR (COM1 + 3)
#define MCR (COM1 + 4)
#define LSR (COM1 + 5)
#define LSR_DATA 0x01
#define LSR_EMPTY 0x20

static lock_t print_lock;
static char line[LINE_MAX];
static u32 length;
static u32 irqs_seen;

void say(const char *how, ...)
{
	char text[LINE_MAX];
	__builtin_va_list list;
	u32 n;

	__builtin_va_start(list, how);
	n = format_list(text, sizeof(text) - 1, how, list);
	__builtin_va_end(list);
	text[n++] = '\n';
	lock(&print_lock);
	for (u32 i = 0; i < n; i++) {
		for (u32 tries = 0; i % 64 == 0 && tries < 1000; tries++)
			if (in8(LSR) & LSR_EMPTY)
				break;
		out8(COM1, text[i]);
	}
	unlock(&print_lock);
}

void serial_init(void)
{
	ioapic_route(4, VECTOR_COM1);
	out8(LCR, 0x03); /* 8n1, divisor latch off */
	out8(FCR, 0x07);
	out8(MCR, 0x0b); /* OUT2 lets the interrupt through */
	out8(IER, 0x01);
}

char *serial_line(void)
{
	u32 irqs = READ_ONCE(cpu_at(0)->irqs[VECTOR_COM1]);

	if (irqs == irqs_seen)
		return NULL;
	while (in8(LSR) & LSR_DATA) {
		char c = in8(COM1);

		if (c == '\r' || c == '\n') {
			line[length] = 0;
			length = 0;
			if (line[0])
				return line; /* maybe more: irqs_seen stays behind */
		} else if (length < sizeof(line) - 1) {
			line[length++] = c;
		}
	}
	irqs_seen = irqs;
	return NULL;
}
