/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: kvm/protocol.h served on a Unix stream socket, in the main
 * context that is the thread default when it is made. A client that does not read what
 * it is sent is dropped; it never delays the machine or another client.
 */
#ifndef VMM_CONTROL_H
#define VMM_CONTROL_H

#include "kvm/protocol.h"

#define VMM_CONTROL_CLIENTS_MAX 16u
#define VMM_CONTROL_UNREAD_MAX (256u << 10) /* bytes kept for a client */

typedef struct vmm_control vmm_control;

/* Listens at once; the socket file is for its owner only. VMM_ERROR_HOST with the
 * reason: in use, no permission, another kind of file. */
vmm_control *vmm_control_new(const char *path, const struct vmm_commands *commands,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Removes the socket file. What clients were sent stays readable to them. */
void vmm_control_free(vmm_control *control);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_control, vmm_control_free)

/* As vmm_protocol_event(). */
void vmm_control_event(vmm_control *control, const char *name, const char *device,
		       const char *detail);

#endif
