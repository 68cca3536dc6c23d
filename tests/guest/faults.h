/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * faults.h - what the fault harness asks of a guest: nonces, a journal, registers,
 * clocks.
 *
 * The protocol is at the head of tests/faults/client.py. UDP port 9010 is here; the
 * streams of TCP ports 9010 and 9011 are in tcp.c. First vCPU only, unless told.
 */
#ifndef GUEST_FAULTS_H
#define GUEST_FAULTS_H

#include "net.h"

#define FAULTS_PORT 9010 /* UDP; by TCP the chain, and on the next one what is held */

void faults_init(void);
/* A datagram for FAULTS_PORT, from the packet's sender's `port`. */
void faults_receive(const struct packet *p, u16 port, const u8 *data, u32 length);
/* Sends the answers of other vCPUs. */
void faults_poll(void);
/* Any vCPU: reads its clocks if somebody asked. */
void faults_sample(void);

#endif
