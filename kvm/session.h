/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One run of colo-vm: the machine, whoever gives it commands, and why it ends.
 * Everything here happens in the default main context, save for the transfer of a save
 * or load, which has a thread of its own; while it lasts no other command reaches the
 * machine.
 */
#ifndef VMM_SESSION_H
#define VMM_SESSION_H

#include "kvm/options.h"

/* What the program exits with. */
enum vmm_exit_status {
	VMM_EXIT_DONE = 0, /* the guest switched off or reset, or somebody said quit */
	VMM_EXIT_NOT_STARTED = 1,
	VMM_EXIT_USAGE = 2,
	VMM_EXIT_GUEST_FAILED = 3, /* KVM cannot go on with this guest */
};

typedef struct vmm_session vmm_session;

/* Prepares the machine and listens for commands; `options` must outlive it. Nothing is
 * left behind on failure. */
vmm_session *vmm_session_new(const struct vmm_options *options,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_session_free(vmm_session *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_session, vmm_session_free)

/* Starts, loads or waits, as the options say, and returns when all is over. `error` is
 * set with VMM_EXIT_NOT_STARTED. */
enum vmm_exit_status vmm_session_run(vmm_session *session, GError **error);
/* Makes vmm_session_run() return soon; the guest's state is lost. `why` is static. */
void vmm_session_quit(vmm_session *session, const char *why);

#endif
