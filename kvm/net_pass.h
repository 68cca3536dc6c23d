/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A port that hands everything on to another one, for those who stand between a card and its
 * port and change a part of it. It is the first member of theirs:
 *
 *	struct mine {
 *		struct vmm_net_pass pass;
 *		...
 *	};
 *
 * and what they do themselves replaces members of `pass.port` after vmm_net_pass_init(), whose
 * functions all get the struct as `data`.
 */
#ifndef VMM_NET_PASS_H
#define VMM_NET_PASS_H

#include "kvm/net.h"

struct vmm_net_pass {
	struct vmm_net_port port;
	struct vmm_net_port *real;
};

void vmm_net_pass_init(struct vmm_net_pass *pass, struct vmm_net_port *real_take);

/* What a port does by itself, and may be called by what replaces it. `data` is the pass;
 * freeing frees it with the port below. */
void vmm_net_pass_free(void *data);

#endif
