/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-netcompare: holds what a guest sends until its secondary has sent the same. */
#include <errno.h>
#include <glib-unix.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "netcompare/comparator.h"
#include "netcompare/control.h"
#include "netcompare/options.h"
#include "netcompare/privileges.h"
#include "netcompare/replay.h"
#include "netcompare/rule.h"

#define DUMP_BYTES_MAX (G_GUINT64_CONSTANT(256) << 20)

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

/* In a process of its own: running programs starts threads, and a thread that is there
 * before rights are given up keeps them. */
static int put_rule(const struct ncmp_rule *rule)
{
	g_autoptr(GError) error = NULL;
	enum ncmp_rule_way way;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (!ncmp_rule_put(rule, &way, &error))
			_exit(complain(error));
		g_message("rule: in place way=%s", ncmp_rule_way_name(way));
		_exit(EXIT_DONE);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			pid = -1;
	if (pid < 0) {
		ncmp_error_errno(&error, errno,
				 "run a process that puts the rule in place");
		return complain(error);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_NOT_STARTED;
}

/* Packets come and go by the ten thousand: memory for them that went back to the kernel each
 * time would have to be cleared each time. */
static void keep_memory(void)
{
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	mallopt(M_TOP_PAD, 16 << 20);
}

static int run_comparator(const struct ncmp_options *options,
			  ncmp_comparator *comparator, struct run *run)
{
	const struct ncmp_control_hooks hooks = { run, tell_status, quit };
	g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
	g_autoptr(ncmp_control) control = NULL;
	g_autoptr(ncmp_dump) dump = NULL;
	g_autoptr(GError) error = NULL;

	run->loop = loop;
	run->comparator = comparator;
	if (options->control) {
		control = ncmp_control_new(options->control, &hooks, &error);
		if (!control)
			return complain(error);
	}
	if (!ncmp_privileges_drop(&error))
		return complain(error);
	/* After that, for it has a thread. */
	if (options->dump) {
		dump = ncmp_dump_open(options->dump, DUMP_BYTES_MAX, &error);
		if (!dump)
			return complain(error);
	}
	ncmp_comparator_set_dump(comparator, dump);
	g_message("queue: bound queue=%u", options->rule.queue);
	watch_signals(run);
	ncmp_comparator_start(comparator);
	g_main_loop_run(loop);
	ncmp_comparator_set_dump(comparator, NULL);
	return run->status;
}

/* Queue, rule, control socket, in this order: a queue that is somebody else's is left
 * alone, and so are his packets. */
static int compare(const struct ncmp_options *options)
{
	struct run run = { .status = EXIT_DONE };
	const struct ncmp_comparator_hooks hooks = { &run, fail };
	g_autoptr(GError) error = NULL;
	g_autoptr(ncmp_comparator) comparator =
		ncmp_comparator_new(&options->comparator, &hooks, &error);
	int status;

	if (!comparator)
		return complain(error);
	keep_memory();
	base_fault("queue-bound");
	status = put_rule(&options->rule);
	base_fault("rule-put");
	return status ? status : run_comparator(options, comparator, &run);
}

static int remove_rule(const struct ncmp_options *options)
{
	g_autoptr(GError) error = NULL;

	return ncmp_rule_remove(&options->rule, &error) ? EXIT_DONE : complain(error);
}

/* Its result is the exit status. */
static int replay(const struct ncmp_options *options)
{
	const struct ncmp_replay_options replay_options = { options->captures[0],
							    options->captures[1],
							    options->guest,
							    options->json };
	g_autoptr(GError) error = NULL;
	enum ncmp_replay_result result = ncmp_replay(&replay_options, stdout, &error);

	if (error)
		complain(error);
	return (int)result;
}

static int work(const struct ncmp_options *options)
{
	switch (options->work) {
	case NCMP_WORK_REPLAY:
		return replay(options);
	case NCMP_WORK_REMOVE_RULE:
		return remove_rule(options);
	default:
		return compare(options);
	}
}

int main(int argc, char **argv)
{
	struct ncmp_options options;
	g_autoptr(GError) error = NULL;
	int status;

	if (argc == 2 && !strcmp(argv[1], "--list-fault-points"))
		return base_fault_list(NCMP_PROGRAM) ? EXIT_DONE : EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN); /* a reader that leaves is an error to handle */
	if (!ncmp_options_parse(&options, argv, &error))
		return complain(error);
	base_log_init(NCMP_PROGRAM, options.verbosity);
	status = work(&options);
	ncmp_options_clear(&options);
	return status;
}
