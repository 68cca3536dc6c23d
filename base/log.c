/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log lines of a program, to stderr or the journal. */
#include "base/log.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct log_setup {
	const char *program;
	GLogLevelFlags shown;
	gboolean journal;
};

static int priority(GLogLevelFlags level)
{
	if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
		return 2;
	if (level & G_LOG_LEVEL_WARNING)
		return 4;
	if (level & G_LOG_LEVEL_MESSAGE)
		return 5;
	return level & G_LOG_LEVEL_INFO ? 6 : 7;
}

static const char *word(GLogLevelFlags level)
{
	static const char *const words[] = { "", "", "critical", "", "warning",
					     "notice", "info", "debug" };

	return words[priority(level)];
}

static GLogWriterOutput write_line(GLogLevelFlags level, const GLogField *fields,
				   gsize n_fields, gpointer data)
{
	const struct log_setup *setup = data;
	const char *message = NULL;
	g_autofree char *line = NULL;

	if (!(level & setup->shown))
		return G_LOG_WRITER_HANDLED;
	for (gsize i = 0; i < n_fields; i++)
		if (!strcmp(fields[i].key, "MESSAGE"))
			message = fields[i].value;
	if (setup->journal) {
		line = g_strdup_printf("<%d>%s: %s\n", priority(level), setup->program,
				       message);
	} else {
		struct timespec now;
		struct tm tm;

		clock_gettime(CLOCK_REALTIME, &now);
		localtime_r(&now.tv_sec, &tm);
		line = g_strdup_printf("%02d:%02d:%02d.%03ld %s %s: %s\n", tm.tm_hour,
				       tm.tm_min, tm.tm_sec, now.tv_nsec / 1000000,
				       setup->program, word(level), message);
	}
	/* One write, so that lines of several threads do not mix. */
	if (write(STDERR_FILENO, line, strlen(line)) < 0)
		return G_LOG_WRITER_UNHANDLED;
	return G_LOG_WRITER_HANDLED;
}

/* JOURNAL_STREAM is inherited by children whose stderr is something else: it counts only
 * where the device and inode it names are those of stderr. */
static gboolean stderr_is_journal(void)
{
	const char *text = g_getenv("JOURNAL_STREAM");
	g_autofree char *ours = NULL;
	struct stat st;

	if (!text || fstat(STDERR_FILENO, &st) < 0)
		return FALSE;
	ours = g_strdup_printf("%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return !strcmp(text, ours);
}

void base_log_init(const char *program, int verbosity)
{
	struct log_setup *setup = g_new0(struct log_setup, 1);

	setup->program = program;
	setup->journal = stderr_is_journal();
	setup->shown = G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING |
		       G_LOG_LEVEL_MESSAGE | G_LOG_FLAG_FATAL;
	if (verbosity > 0)
		setup->shown |= G_LOG_LEVEL_INFO;
	if (verbosity > 1)
		setup->shown |= G_LOG_LEVEL_DEBUG;
	g_log_set_writer_func(write_line, setup, g_free);
}
