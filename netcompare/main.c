/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-netcompare: holds what a guest sends until its secondary has sent the same. */
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>

#include "base/log.h"
#include "netcompare/comparator.h"
#include "netcompare/control.h"
#include "netcompare/options.h"
#include "netcompare/privileges.h"
#include "netcompare/rule.h"

/* Exit statuses; colo-netcompare(1) has them. */
enum {
	EXIT_DONE = 0,
	EXIT_FAILED = 1, /* it can no longer do its work */
	EXIT_USAGE = 2,
	EXIT_NOT_STARTED = 3, /* the host lacks, refuses or has in use what is needed */
};

struct run {
	GMainLoop *loop;
	ncmp_comparator *comparator;
	int status;
};

/* Says why it cannot be, in one line. */
static int complain(const GError *error)
{
	fprintf(stderr, NCMP_PROGRAM ": %s\n", error->message);
	if (error->domain == G_OPTION_ERROR ||
	    g_error_matches(error, NCMP_ERROR, NCMP_ERROR_CONFIG))
		return EXIT_USAGE;
	return EXIT_NOT_STARTED;
}

static JsonObject *tell_status(void *data)
{
	return ncmp_comparator_status(((struct run *)data)->comparator);
}

static void quit(void *data)
{
	g_main_loop_quit(((struct run *)data)->loop);
}

static gboolean quit_on_signal(gpointer data)
{
	g_message("ends on a signal; the rule stays, and nothing goes out without a "
		  "comparator");
	quit(data);
	return G_SOURCE_CONTINUE;
}

static void fail(void *data)
{
	((struct run *)data)->status = EXIT_FAILED;
	quit(data);
}

static void watch_signals(struct run *run)
{
	g_unix_signal_add(SIGINT, quit_on_signal, run);
	g_unix_signal_add(SIGTERM, quit_on_signal, run);
	g_unix_signal_add(SIGHUP, quit_on_signal, run);
}

/* Queue, rule, control socket, in this order: a queue that is somebody else's is left
 * alone, and so are his packets. */
static int compare(const struct ncmp_options *options)
{
	g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
	struct run run = { .loop = loop, .status = EXIT_DONE };
	const struct ncmp_comparator_hooks hooks = { &run, fail };
	const struct ncmp_control_hooks control_hooks = { &run, tell_status, quit };
	g_autoptr(ncmp_comparator) comparator = NULL;
	g_autoptr(ncmp_control) control = NULL;
	g_autoptr(GError) error = NULL;
	enum ncmp_rule_way way;

	comparator = ncmp_comparator_new(&options->comparator, &hooks, &error);
	if (!comparator || !ncmp_rule_put(&options->rule, &way, &error))
		return complain(error);
	run.comparator = comparator;
	if (options->control) {
		control = ncmp_control_new(options->control, &control_hooks, &error);
		if (!control)
			return complain(error);
	}
	if (!ncmp_privileges_drop(&error))
		return complain(error);
	g_message("queue %u bound, rule=%s", options->rule.queue,
		  ncmp_rule_way_name(way));
	watch_signals(&run);
	ncmp_comparator_start(comparator);
	g_main_loop_run(loop);
	return run.status;
}

static int remove_rule(const struct ncmp_options *options)
{
	g_autoptr(GError) error = NULL;

	return ncmp_rule_remove(&options->rule, &error) ? EXIT_DONE : complain(error);
}

int main(int argc, char **argv)
{
	struct ncmp_options options;
	g_autoptr(GError) error = NULL;
	int status;

	signal(SIGPIPE, SIG_IGN); /* a reader that leaves is an error to handle */
	if (!ncmp_options_parse(&options, argv, &error))
		return complain(error);
	base_log_init(NCMP_PROGRAM, options.verbosity);
	status = options.work == NCMP_WORK_REMOVE_RULE ? remove_rule(&options)
						       : compare(&options);
	ncmp_options_clear(&options);
	return status;
}
