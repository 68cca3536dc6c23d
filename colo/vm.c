/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-vm: runs one virtual machine, and replicates it, connections of two guests
 * included. */
#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/fault.h"
#include "base/log.h"
#include "checkpoint/service.h"
#include "colo/rewriting.h"
#include "kvm/chardev.h"

/* Says why it cannot be, in one line. */
static int complain(const GError *error)
{
	fprintf(stderr, VMM_PROGRAM ": %s\n", error->message);
	if (error->domain == G_OPTION_ERROR ||
	    g_error_matches(error, VMM_ERROR, VMM_ERROR_CONFIG))
		return VMM_EXIT_USAGE;
	return VMM_EXIT_NOT_STARTED;
}

static gboolean quit_on_signal(gpointer session)
{
	vmm_session_quit(session, "signal");
	return G_SOURCE_CONTINUE;
}

/* The signals that say "end now": as pulling the plug, for an orderly end is the
 * command "powerdown". */
static void watch_signals(vmm_session *session)
{
	g_unix_signal_add(SIGINT, quit_on_signal, session);
	g_unix_signal_add(SIGTERM, quit_on_signal, session);
	g_unix_signal_add(SIGHUP, quit_on_signal, session);
}

static void die_on_signal(int number)
{
	vmm_chardev_restore_terminal();
	raise(number); /* SA_RESETHAND: the default action, as soon as we return */
}

/* A core file would hold the guest's memory, and the secrets of every connection. Nor may
 * others of this user look into the process. COLO_CORE=1 is for whoever looks for a fault. */
static void keep_secrets(void)
{
	const struct rlimit none = { 0, 0 };

	if (g_strcmp0(g_getenv("COLO_CORE"), "1") == 0)
		return;
	if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		g_warning("cannot do without core files: %s", g_strerror(errno));
}

/* However the program ends, the user's terminal is theirs again. */
static void guard_terminal(void)
{
	static const int fatal[] = { SIGQUIT, SIGILL, SIGTRAP, SIGABRT,
				     SIGBUS,  SIGFPE, SIGSEGV, SIGSYS };
	struct sigaction action = { .sa_handler = die_on_signal,
				    .sa_flags = SA_RESETHAND };

	sigemptyset(&action.sa_mask);
	for (gsize i = 0; i < G_N_ELEMENTS(fatal); i++)
		sigaction(fatal[i], &action, NULL);
	atexit(vmm_chardev_restore_terminal);
}

static int run(const struct vmm_options *options, ckpt_service *service)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(vmm_session) session = NULL;
	enum vmm_exit_status status;

	guard_terminal();
	session = vmm_session_new(options, ckpt_service_extension(service), &error);
	if (!session)
		return complain(error);
	watch_signals(session);
	status = vmm_session_run(session, &error);
	g_clear_pointer(&session, vmm_session_free); /* the terminal is sane again */
	return error ? complain(error) : (int)status;
}

int main(int argc, char **argv)
{
	struct vmm_options options;
	g_autoptr(ckpt_service) service = ckpt_service_new(&colo_rewriting);
	g_autoptr(GError) error = NULL;
	int status = VMM_EXIT_DONE;

	if (argc == 2 && !strcmp(argv[1], "--list-fault-points"))
		return base_fault_list(VMM_PROGRAM) ? VMM_EXIT_DONE : VMM_EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN); /* a reader that leaves is an error to handle */
	if (!vmm_options_parse(&options, ckpt_service_options(service), argv, &error))
		return complain(error);
	base_log_init(VMM_PROGRAM, options.verbosity);
	keep_secrets();
	if (options.version)
		puts(VMM_PROGRAM " " VMM_PROGRAM_VERSION);
	else if (!options.check)
		status = run(&options, service);
	vmm_options_clear(&options);
	return status;
}
