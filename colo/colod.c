/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colod: looks after one node of one pair. */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "colo/error.h"
#include "colo/hygiene.h"
#include "colo/supervisor.h"

#define PROGRAM "colod"
#define VERSION "0.1"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct options {
	char *file, *node, *run, *state, *log, *programs;
	int verbosity;
	gboolean version;
};

static int complain(const GError *error)
{
	fprintf(stderr, PROGRAM ": %s\n", error->message);
	return error->domain == G_OPTION_ERROR ||
			       g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG) ?
		       EXIT_USAGE :
		       EXIT_FAILED;
}

static gboolean count_verbose(const char *name, const char *value, gpointer data,
			      GError **error)
{
	((struct options *)data)->verbosity++;
	return TRUE;
}

static gboolean parse(struct options *options, int argc, char **argv, GError **error)
{
	g_auto(GStrv) words = NULL;
	const GOptionEntry entries[] = {
		{ "node", 0, 0, G_OPTION_ARG_STRING, &options->node,
		  "which node this host is; by default the one of its name", "NAME" },
		{ "run-dir", 0, 0, G_OPTION_ARG_FILENAME, &options->run,
		  "where sockets are; default: /run/colo", "DIR" },
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &options->state,
		  "where the generation file is; default: /var/lib/colo", "DIR" },
		{ "log-dir", 0, 0, G_OPTION_ARG_FILENAME, &options->log,
		  "where programs log; default: /var/log/colo", "DIR" },
		{ "program-dir", 0, 0, G_OPTION_ARG_FILENAME, &options->programs,
		  "where colo-vm and its like are; default: beside " PROGRAM, "DIR" },
		{ "verbose", 'v', G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK, count_verbose,
		  "say more; twice: everything", NULL },
		{ "version", 0, 0, G_OPTION_ARG_NONE, &options->version,
		  "print the version and exit", NULL },
		{ G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &words, NULL,
		  "PAIR-FILE" },
		{ NULL },
	};
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);
	GOptionGroup *group = g_option_group_new(NULL, NULL, NULL, options, NULL);

	g_option_group_add_entries(group, entries);
	g_option_context_set_main_group(context, group);
	if (!g_option_context_parse(context, &argc, &argv, error))
		return FALSE;
	if (!options->version && (!words || g_strv_length(words) != 1)) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED,
			    "give one pair file; see colod(8)");
		return FALSE;
	}
	if (words)
		options->file = g_strdup(words[0]);
	return TRUE;
}

static char *directory(const char *given, const char *usual, const colo_pair *pair)
{
	return g_build_filename(given ? given : usual, pair->name, NULL);
}

static char *beside_us(void)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);

	return self ? g_path_get_dirname(self) : g_strdup("/usr/bin");
}

static void find_places(struct colo_places *places, const struct options *options,
			const colo_pair *pair)
{
	*places = (struct colo_places){
		.programs = options->programs ? g_strdup(options->programs) : beside_us(),
		.run = directory(options->run, "/run/colo", pair),
		.state = directory(options->state, "/var/lib/colo", pair),
		.log = directory(options->log, "/var/log/colo", pair),
		.log_bytes = pair->limits.log_bytes,
		.restarts = pair->limits.restarts,
	};
}

static void clear_places(struct colo_places *places)
{
	g_free(places->programs);
	g_free(places->run);
	g_free(places->state);
	g_free(places->log);
}

/* One colod for each pair and host: -1 where there is another. */
static int lock(const struct colo_places *places, GError **error)
{
	g_autofree char *path = g_build_filename(places->run, "colod.lock", NULL);
	base_autofd int fd = -1;

	if (g_mkdir_with_parents(places->run, 0700)) {
		colo_error_errno(error, errno, "make %s", places->run);
		return -1;
	}
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		colo_error_errno(error, errno, "open %s", path);
		return -1;
	}
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		colo_error_set(error, COLO_ERROR_STATE,
			       "another colod looks after this pair on this host");
		return -1;
	}
	return base_fd_steal(&fd);
}

static gboolean end(gpointer loop)
{
	g_main_loop_quit(loop);
	return G_SOURCE_CONTINUE;
}

static int serve(const colo_pair *pair, guint self, const struct colo_places *places)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
	base_autofd int locked = lock(places, &error);
	colo_supervisor *supervisor;

	if (locked < 0)
		return complain(error);
	supervisor = colo_supervisor_new(pair, self, places, &error);
	if (!supervisor)
		return complain(error);
	g_unix_signal_add(SIGTERM, end, loop);
	g_unix_signal_add(SIGINT, end, loop);
	g_main_loop_run(loop);
	colo_supervisor_free(supervisor);
	return EXIT_DONE;
}

static int run(const struct options *options)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(colo_pair) pair = NULL;
	struct colo_places places;
	guint self;
	int status;

	if (!colo_hygiene(NULL, &error))
		return complain(error);
	pair = colo_pair_read(options->file, &error);
	if (!pair || !colo_pair_whoami(pair, options->node, &self, &error))
		return complain(error);
	find_places(&places, options, pair);
	status = serve(pair, self, &places);
	clear_places(&places);
	return status;
}

static void clear_options(struct options *options)
{
	g_free(options->file);
	g_free(options->node);
	g_free(options->run);
	g_free(options->state);
	g_free(options->log);
	g_free(options->programs);
}

int main(int argc, char **argv)
{
	struct options options = { 0 };
	g_autoptr(GError) error = NULL;
	int status = EXIT_DONE;

	if (argc == 2 && !strcmp(argv[1], "--list-fault-points"))
		return base_fault_list(PROGRAM) ? EXIT_DONE : EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN); /* a reader that leaves is an error to handle */
	if (!parse(&options, argc, argv, &error))
		return complain(error);
	base_log_init(PROGRAM, options.verbosity);
	if (options.version)
		puts(PROGRAM " " VERSION);
	else
		status = run(&options);
	clear_options(&options);
	return status;
}
