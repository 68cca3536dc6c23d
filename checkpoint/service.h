/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replication as a program offers it: options of a command line, commands and a status on a
 * control socket, and events; on top of one session's machine (kvm/session.h). colo-vm(1)
 * describes them. Everything here happens in the main context.
 */
#ifndef CKPT_SERVICE_H
#define CKPT_SERVICE_H

#include "checkpoint/filter.h"
#include "kvm/session.h"

typedef struct ckpt_service ckpt_service;

/* `filter` (static): what stands between a guest and its network; NULL: nothing. */
ckpt_service *ckpt_service_new(const struct ckpt_filter_ops *filter);
/* After its session. */
void ckpt_service_free(ckpt_service *service);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ckpt_service, ckpt_service_free)

/* For vmm_options_parse() and vmm_session_new(); good as long as the service. */
const struct vmm_extra_options *ckpt_service_options(ckpt_service *service);
const struct vmm_extension *ckpt_service_extension(ckpt_service *service);

#endif
