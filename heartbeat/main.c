/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-heartbeat: sends, receives and judges the heartbeats of a pair, for colod. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "heartbeat/daemon.h"
#include "heartbeat/options.h"
#include "heartbeat/privileges.h"

/* Exit statuses; colo-heartbeat(8) has them. */
enum {
	EXIT_DONE = 0, /* a signal, or colod was gone long enough */
	EXIT_FAILED = 1, /* it can no longer do its work */
	EXIT_USAGE = 2,
	EXIT_NOT_STARTED = 3, /* the key, or what the host does not permit */
};

/* Says why it cannot be, in one line. */
static int complain(const GError *error, int status)
{
	fprintf(stderr, HB_PROGRAM ": %s\n", error->message);
	if (error->domain == G_OPTION_ERROR ||
	    g_error_matches(error, HB_ERROR, HB_ERROR_CONFIG))
		return EXIT_USAGE;
	return status;
}

static int work(const struct hb_options *options)
{
	g_autoptr(hb_daemon) daemon = NULL;
	g_autoptr(GError) error = NULL;

	if (!hb_privileges_hide(&error))
		return complain(error, EXIT_NOT_STARTED);
	daemon = hb_daemon_new(options, &error);
	if (!daemon)
		return complain(error, EXIT_NOT_STARTED);
	base_fault("opened");
	hb_privileges_stay_ahead();
	if (!hb_privileges_drop(options->user, &error))
		return complain(error, EXIT_NOT_STARTED);
	g_message("peer %s: not heard yet; interval %u ms, timeout %u ms, %u path%s",
		  options->peer, options->interval_ms, options->timeout_ms,
		  options->paths, options->paths == 1 ? "" : "s");
	if (!hb_daemon_run(daemon, &error))
		return complain(error, EXIT_FAILED);
	return EXIT_DONE;
}

int main(int argc, char **argv)
{
	struct hb_options options;
	g_autoptr(GError) error = NULL;
	int status;

	if (argc == 2 && !strcmp(argv[1], "--list-fault-points"))
		return base_fault_list(HB_PROGRAM) ? EXIT_DONE : EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* a terminal that goes is no reason to end */
	if (!hb_options_parse(&options, argv, &error))
		return complain(error, EXIT_USAGE);
	base_log_init(HB_PROGRAM, options.verbosity);
	status = work(&options);
	hb_options_clear(&options);
	return status;
}
