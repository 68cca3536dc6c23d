/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tcp.h - a small TCP that only answers: port 7 echoes, 8 sends numbers, 9 swallows,
 * 9010 and 9011 are the fault harness' chain and what it has us hold
 * (tests/faults/client.py).
 *
 * Port 8 sends 0, 1, 2... as little-endian 64-bit values without end. Initial sequence
 * numbers come from the TSC, so two copies of one guest choose different ones; with
 * `isn=fixed` on the kernel command line they depend on the addresses and ports alone.
 */
#ifndef GUEST_TCP_H
#define GUEST_TCP_H

#include "net.h"

void tcp_init(void);
void tcp_receive(struct packet *p);
/* Sends what can be sent; returns when it wants to be called next. */
u64 tcp_poll(u64 now);
/* What came on the connection whose first word is `token`: bytes, whole records, and
 * the records' chain; all 0 where there is none. */
void tcp_held(u64 token, u64 *bytes, u64 *records, u64 *chain);
void tcp_report(char *out, u32 size);

#endif
