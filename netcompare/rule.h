/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rule that puts what the guest sends into the queue. There is no way around it: it
 * is at the first hook behind the guest's tap, so that what goes to the host itself or
 * to a neighbour on the bridge is held too, and what the queue cannot be given is
 * dropped. While nobody has the queue, the kernel drops what the rule finds.
 *
 *     nft       the bridge's (or for a routed tap the host's) pre-routing hook
 *     iptables  for kernels without nft_queue: the bridge shows IP packets to iptables
 *               (br_netfilter). Only ARP passes unseen; tagged frames and what is not
 * IP are dropped, by a table of nftables that needs no queue.
 *
 * Put in place again, it is replaced or found, never doubled. It is not taken away when
 * a comparator ends: that would let out what is held. These functions run nft, iptables
 * and ip, with argument vectors of their own, and wait for them.
 */
#ifndef NCMP_RULE_H
#define NCMP_RULE_H

#include "netcompare/error.h"

#define NCMP_TAPS_MAX 16u

enum ncmp_rule_way {
	NCMP_RULE_AUTO, /* nft where this kernel can, else iptables */
	NCMP_RULE_NFT,
	NCMP_RULE_IPTABLES,
	NCMP_RULE_NONE, /* somebody else did */
};
const char *ncmp_rule_way_name(enum ncmp_rule_way way); /* static: "nft" */
/* FALSE: there is no such way. */
gboolean ncmp_rule_way_parse(const char *name, enum ncmp_rule_way *way);

struct ncmp_rule {
	enum ncmp_rule_way way;
	guint16 queue;
	const char *const *taps; /* ended by NULL */
};

/* Whether it can be a tap's name, and means to every tool what it says (no patterns).
 */
gboolean ncmp_rule_is_tap_name(const char *name);

/* Which way it went comes back in `used`. What was put in place before an error stays:
 * the guest's packets are dropped then. */
gboolean ncmp_rule_put(const struct ncmp_rule *rule, enum ncmp_rule_way *used,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Whichever way it was put. None there is no error. A bridge's switch for iptables
 * stays on: others may have come to need it. */
gboolean ncmp_rule_remove(const struct ncmp_rule *rule,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What nft is given, for taps on bridges and routed ones (both ended by NULL). `queue`:
 * its rules put packets into the queue; else they only drop what iptables does not see.
 */
char *ncmp_rule_nft_text(guint16 number, const char *const *bridged,
			 const char *const *routed, gboolean queue);

#endif
