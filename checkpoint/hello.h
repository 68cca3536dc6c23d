/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first message each way: whether two machines can be a pair. */
#ifndef CKPT_HELLO_H
#define CKPT_HELLO_H

#include "checkpoint/protocol.h"
#include "kvm/machine.h"

#define CKPT_ERROR ckpt_error_quark()
GQuark ckpt_error_quark(void);
enum ckpt_error {
	CKPT_ERROR_UNLIKE, /* the peer's machine is another one; what differs is named */
	CKPT_ERROR_PROTOCOL, /* the peer said what makes no sense here */
	CKPT_ERROR_VERIFY, /* both sides' digests differ */
	CKPT_ERROR_MODE, /* not now */
};

/* Describes `machine`. `secret` is the session's, from the primary; NULL from the secondary,
 * whose other wishes are 0. One connection, and no token. */
void ckpt_hello_fill(struct ckpt_hello *hello, vmm_machine *machine, gboolean primary,
		     gboolean verify, guint silence_ms, const guint8 *secret);
/* Sends ours, receives theirs, and judges it; a peer that is refused is told why, which may
 * take a second more. `deadline_ms` for each way. Before the link is started. */
gboolean ckpt_hello_exchange(base_channel *channel, const struct ckpt_hello *ours,
			     struct ckpt_hello *theirs, guint deadline_ms, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
/* Tells a peer why it is not wanted. Waits up to half a second for it to have read that,
 * which is a courtesy: it is refused anyway. */
void ckpt_hello_refuse(base_channel *channel, const char *why);

#endif
