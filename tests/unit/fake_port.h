/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A network card's port that keeps what is sent and gives what the test put there. */
#ifndef FAKE_PORT_H
#define FAKE_PORT_H

#include "kvm/net.h"

#define FAKE_HEADER 12u

struct fake_port {
	struct vmm_net_port port;
	GPtrArray *sent; /* GBytes, with header */
	GQueue coming; /* GBytes, with header */
	guint room; /* frames that can be sent before it says no */
	gboolean hearing;
	guint64 offloads;
	guint attached;
	gboolean freed; /* by the port's free(); the test frees the rest */
	void (*ready)(void *net);
	void *net;
};

void fake_port_init(struct fake_port *fake, guint64 features);
void fake_port_clear(struct fake_port *fake);
/* A header of its own, whose first byte is `mark`, and then `len` bytes. */
void fake_port_coming(struct fake_port *fake, guint8 mark, const void *bytes,
		      gsize len);
/* The bytes of a frame that was sent, behind its header, which must be all zero. */
const guint8 *fake_port_sent(const struct fake_port *fake, guint index, gsize *len);

/* As a device would, with buffers of `room` bytes in two pieces behind the header: the
 * frame and its length or, with NULL, what receive() said. */
GBytes *fake_port_receive(struct vmm_net_port *port, gsize room, gssize *got);
/* As a device would, behind a header of zeros. */
gboolean fake_port_send(struct vmm_net_port *port, const void *bytes, gsize len);

#endif
