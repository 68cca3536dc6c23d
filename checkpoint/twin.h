/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's guest and the outside: its cards, consoles and entropy get the
 * primary's input from the log (checkpoint/input.h), and what it sends goes to an
 * output hook and never to a network, until the promotion.
 *
 * From the promotion on each port is its real port, entropy is the host's, and consoles
 * are their host ends, in each case after what is kept and the guest has not had.
 *
 * All functions: holding the device lock.
 */
#ifndef CKPT_TWIN_H
#define CKPT_TWIN_H

#include "checkpoint/addresses.h"
#include "checkpoint/filter_port.h"
#include "checkpoint/input.h"
#include "kvm/loop.h"
#include "kvm/net.h"

typedef struct ckpt_twin ckpt_twin;

/* A frame that the guest sent in `epoch`, as a port's send() gets it. Good during the
 * call. Must not block. */
typedef void (*ckpt_twin_output)(void *data, guint64 epoch, guint device,
				 const struct iovec *iov, guint count);

/* `input` is borrowed and outlives the twin. */
ckpt_twin *ckpt_twin_new(ckpt_input *input, ckpt_twin_output output, void *data);
/* After its ports. */
void ckpt_twin_free(ckpt_twin *twin);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_twin, ckpt_twin_free)

/* What the guest is given from the log is shown to `filter` (borrowed, longer-lived),
 * as a copy; a frame that it holds is the next one until the guest has sent more on
 * that card, a checkpoint was applied, or the filter's time for it is over. Notes in
 * the log are the filter's. */
void ckpt_twin_set_filter(ckpt_twin *twin, struct ckpt_filter *filter);

/* A checkpoint was applied: of what the guest sends from now on. */
void ckpt_twin_set_epoch(ckpt_twin *twin, guint64 epoch);

/* A port for card `device` with the features of `real`, which stays silent and deaf
 * until the promotion. What the guest sends is looked at for `addresses` (borrowed,
 * longer-lived; may be NULL). */
struct vmm_net_port *ckpt_twin_port_new_take(ckpt_twin *twin, guint device,
					     struct vmm_net_port *real_take,
					     vmm_loop *loop, ckpt_addresses *addresses);
/* The same without a network: `features` are given, and after the promotion what the
 * guest sends is lost. */
struct vmm_net_port *ckpt_twin_port_new(ckpt_twin *twin, guint device, guint64 features,
					vmm_loop *loop, ckpt_addresses *addresses);

/* Input was added, or a checkpoint applied: the cards look, soon, on the I/O thread.
 * For entropy and consoles the caller asks the devices: vmm_machine_poll_rng(). */
void ckpt_twin_wake(ckpt_twin *twin);

/* A vmm_rng_source, with the twin as its data: the primary's bytes; 0 where the guest
 * has had all that came, until the promotion. */
gsize ckpt_twin_rng(void *twin, void *bytes, gsize len);
/* What console `console` of the guest gets; 0: nothing now, and after the promotion
 * nothing ever again: its host end comes next. */
gsize ckpt_twin_console(ckpt_twin *twin, guint console, void *bytes, gsize len);

/* With the arbiter's grant and, where there was a commit, after its checkpoint was
 * applied; the machine at rest or running. What lies in the real ports' queues from
 * before is thrown away: it belonged to the primary, or came here as its input. Wakes
 * the cards. The log is finished (ckpt_input_finish()). */
void ckpt_twin_promote(ckpt_twin *twin);
gboolean ckpt_twin_is_promoted(const ckpt_twin *twin);
/* The port below `port`, for announcements; NULL: none, or not promoted. */
struct vmm_net_port *ckpt_twin_port_real(struct vmm_net_port *port);

#endif
