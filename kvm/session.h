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
#include "kvm/protocol.h"

/* What the program exits with. */
enum vmm_exit_status {
	VMM_EXIT_DONE = 0, /* the guest switched off or reset, or somebody said quit */
	VMM_EXIT_NOT_STARTED = 1,
	VMM_EXIT_USAGE = 2,
	VMM_EXIT_GUEST_FAILED = 3, /* KVM cannot go on with this guest */
};

typedef struct vmm_session vmm_session;

/* Another layer that works on the session's machine. All in the main context. */
struct vmm_extension {
	void *data;
	/* Before each machine is made: sets `config->backends`. TRUE: it is to hold a guest
	 * that this layer brings and starts. */
	gboolean (*prepare)(void *data, struct vmm_config *config);
	/* It was made, or (NULL) is about to be freed. */
	void (*attach)(void *data, vmm_session *session, vmm_machine *machine);
	/* All else is ready. */
	gboolean (*start)(void *data, GError **error);
	/* It is to run, or run on, by somebody's command or from the start; and it does. May be
	 * NULL. */
	void (*resuming)(void *data);
	void (*resumed)(void *data);
	/* The guest has switched itself off, or reset for good, and the run is to end. TRUE: not
	 * yet, there is something left to do, and vmm_session_end_now() is called. May be NULL. */
	gboolean (*lingers)(void *data);
	/* Why this command cannot be carried out now; NULL: it can. */
	const char *(*objects)(void *data, enum vmm_command command);
	/* The machine holds a guest that is not the one that counts: what befalls it is
	 * nobody's business. */
	gboolean (*is_shadow)(void *data);
	const struct vmm_extra_command *commands;
	void (*run)(void *data, const char *command, JsonObject *arguments,
		    vmm_answer *answer_take);
	/* A member of the status, which is handed over. */
	const char *status_name;
	JsonObject *(*status)(void *data);
};

/* Prepares the machine and listens for commands; `options` and `extension` (or NULL) must
 * outlive it. Nothing is left behind on failure. */
vmm_session *vmm_session_new(const struct vmm_options *options,
			     const struct vmm_extension *extension,
			     GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_session_free(vmm_session *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_session, vmm_session_free)

/* Starts, loads or waits, as the options say, and returns when all is over. `error` is
 * set with VMM_EXIT_NOT_STARTED. */
enum vmm_exit_status vmm_session_run(vmm_session *session, GError **error);
/* Makes vmm_session_run() return soon; the guest's state is lost. `why` is static. */
void vmm_session_quit(vmm_session *session, const char *why);

/* For the extension. */

/* Frees the machine, and makes a new one in its place. On failure the run is over. */
void vmm_session_renew(vmm_session *session);
/* The machine holds a guest now, and runs. */
void vmm_session_started(vmm_session *session);
/* What lingered may end. */
void vmm_session_end_now(vmm_session *session);
/* Why the run is over ("command", "signal", "console", "poweroff", "reset", "failed", ...: as
 * in the event "quit"); NULL: it is not. */
const char *vmm_session_why_over(const vmm_session *session);
/* Logged, and told to whoever asked for events. `detail` may be NULL. */
void vmm_session_event(vmm_session *session, const char *name, const char *detail);

#endif
