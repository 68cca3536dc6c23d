/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colod at work: a node (colo/node.h) joined to colo-vm, colo-netcompare, colo-heartbeat, the
 * other colod, the arbiter, the disk and the operator. Main context; nothing in it waits for
 * any of them, so that the control socket always answers.
 */
#ifndef COLO_SUPERVISOR_H
#define COLO_SUPERVISOR_H

#include "colo/pair.h"
#include "colo/program.h"

typedef struct colo_supervisor colo_supervisor;

/* Takes over what an earlier colod left running, or begins. Both outlive it. COLO_ERROR_* with
 * what to do; nothing was started then. */
colo_supervisor *colo_supervisor_new(const colo_pair *pair, guint self,
				     const struct colo_places *places,
				     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Programs go on running for a later colod, but where this node stands down or is stopped. */
void colo_supervisor_free(colo_supervisor *supervisor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_supervisor, colo_supervisor_free)

#endif
