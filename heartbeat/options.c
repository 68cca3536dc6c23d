/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of colo-heartbeat. */
#include "heartbeat/options.h"

#include <string.h>

#define INTERVAL_MIN_MS 5
#define INTERVAL_MAX_MS 10000
#define TIMEOUT_MAX_MS 600000
#define LINGER_MAX_MS 600000

struct words {
	char *nodes, *self;
	char **paths;
	int interval_ms, timeout_ms, linger_ms;
};

static gboolean count_verbose(const char *name, const char *value, gpointer data,
			      GError **error)
{
	((struct hb_options *)data)->verbosity++;
	return TRUE;
}

static gboolean read_words(struct hb_options *options, struct words *words, char **argv,
			   GError **error)
{
	g_auto(GStrv) rest = NULL;
	const GOptionEntry entries[] = {
		{ "fd", 0, 0, G_OPTION_ARG_INT, &options->fd,
		  "Descriptor of the socket to colod", "N" },
		{ "key", 0, 0, G_OPTION_ARG_FILENAME, &options->key,
		  "File with the pair's key", "FILE" },
		{ "pair", 0, 0, G_OPTION_ARG_STRING, &options->pair, "The pair's name",
		  "NAME" },
		{ "nodes", 0, 0, G_OPTION_ARG_STRING, &words->nodes,
		  "The nodes' names, in the order of the pair file", "A,B" },
		{ "self", 0, 0, G_OPTION_ARG_STRING, &words->self,
		  "Which of them we are", "NAME" },
		{ "interval", 0, 0, G_OPTION_ARG_INT, &words->interval_ms,
		  "Between two heartbeats (50)", "MS" },
		{ "timeout", 0, 0, G_OPTION_ARG_INT, &words->timeout_ms,
		  "Of silence, after which a path is down (300)", "MS" },
		{ "path", 0, 0, G_OPTION_ARG_STRING_ARRAY, &words->paths,
		  "A way to the peer; up to 4 of them", "LOCAL,REMOTE[,DEVICE]" },
		{ "linger", 0, 0, G_OPTION_ARG_INT, &words->linger_ms,
		  "To go on sending after colod is gone (5000)", "MS" },
		{ "user", 0, 0, G_OPTION_ARG_STRING, &options->user,
		  "Whose rights to keep (nobody)", "USER" },
		{ "verbose", 'v', G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK,
		  (gpointer)count_verbose, "Say more; twice: much more", NULL },
		{ G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &rest, NULL,
		  NULL },
		{ NULL }
	};
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);
	GOptionGroup *group = g_option_group_new(NULL, NULL, NULL, options, NULL);
	g_auto(GStrv) args = g_strdupv(argv);

	g_option_group_add_entries(group, entries);
	g_option_context_set_main_group(context, group);
	g_option_context_set_summary(context,
				     "Sends, receives and judges the heartbeats "
				     "of a pair for colod, which starts it.");
	if (!g_option_context_parse_strv(context, &args, error))
		return FALSE;
	if (rest && *rest)
		return hb_error_set(error, HB_ERROR_CONFIG, "unexpected \"%s\"", *rest);
	return TRUE;
}

static gboolean judge_nodes(struct hb_options *options, const struct words *words,
			    GError **error)
{
	g_auto(GStrv) names = g_strsplit(words->nodes ? words->nodes : "", ",", -1);

	if (g_strv_length(names) != 2 || !*names[0] || !*names[1] ||
	    !strcmp(names[0], names[1]))
		return hb_error_set(error, HB_ERROR_CONFIG,
				    "--nodes: two different names are needed");
	if (!words->self ||
	    (strcmp(words->self, names[0]) && strcmp(words->self, names[1])))
		return hb_error_set(error, HB_ERROR_CONFIG,
				    "--self: %s or %s, not \"%s\"", names[0], names[1],
				    words->self ? words->self : "");
	options->self = !strcmp(words->self, names[1]);
	options->peer = g_strdup(names[!options->self]);
	return TRUE;
}

static gboolean judge_times(struct hb_options *options, const struct words *words,
			    GError **error)
{
	if (words->interval_ms < INTERVAL_MIN_MS ||
	    words->interval_ms > INTERVAL_MAX_MS)
		return hb_error_set(error, HB_ERROR_CONFIG, "--interval: %d to %d ms",
				    INTERVAL_MIN_MS, INTERVAL_MAX_MS);
	/* One that is lost, or late, must not be enough. */
	if (words->timeout_ms < 2 * words->interval_ms ||
	    words->timeout_ms > TIMEOUT_MAX_MS)
		return hb_error_set(error, HB_ERROR_CONFIG,
				    "--timeout: two intervals (%d ms) to %d ms",
				    2 * words->interval_ms, TIMEOUT_MAX_MS);
	if (words->linger_ms < 0 || words->linger_ms > LINGER_MAX_MS)
		return hb_error_set(error, HB_ERROR_CONFIG, "--linger: 0 to %d ms",
				    LINGER_MAX_MS);
	options->interval_ms = (guint)words->interval_ms;
	options->timeout_ms = (guint)words->timeout_ms;
	options->linger_ms = (guint)words->linger_ms;
	return TRUE;
}

static gboolean judge_paths(struct hb_options *options, char **paths, GError **error)
{
	guint count = paths ? g_strv_length(paths) : 0;

	if (count < 1 || count > HB_PATHS_MAX)
		return hb_error_set(error, HB_ERROR_CONFIG,
				    "--path: 1 to %u are needed", HB_PATHS_MAX);
	for (guint i = 0; i < count; i++) {
		for (guint j = 0; j < i; j++)
			if (!strcmp(paths[i], paths[j]))
				return hb_error_set(error, HB_ERROR_CONFIG,
						    "--path: \"%s\" is there twice",
						    paths[i]);
		options->path[i] = hb_path_new(paths[i], error);
		if (!options->path[i])
			return FALSE;
		options->paths++;
	}
	return TRUE;
}

static gboolean judge_words(struct hb_options *options, const struct words *words,
			    GError **error)
{
	if (options->fd < 0)
		return hb_error_set(error, HB_ERROR_CONFIG,
				    "--fd is needed: colod starts this program");
	if (!options->key || !*options->key)
		return hb_error_set(error, HB_ERROR_CONFIG, "--key is needed");
	if (!options->pair || !*options->pair)
		return hb_error_set(error, HB_ERROR_CONFIG, "--pair is needed");
	return judge_nodes(options, words, error) &&
	       judge_times(options, words, error) &&
	       judge_paths(options, words->paths, error);
}

gboolean hb_options_parse(struct hb_options *options, char **argv, GError **error)
{
	struct words words = { .interval_ms = 50,
			       .timeout_ms = 300,
			       .linger_ms = 5000 };
	gboolean ok;

	*options = (struct hb_options){ .fd = -1 };
	ok = read_words(options, &words, argv, error) &&
	     judge_words(options, &words, error);
	g_free(words.nodes);
	g_free(words.self);
	g_strfreev(words.paths);
	if (!ok)
		hb_options_clear(options);
	return ok;
}

void hb_options_clear(struct hb_options *options)
{
	g_clear_pointer(&options->key, g_free);
	g_clear_pointer(&options->pair, g_free);
	g_clear_pointer(&options->peer, g_free);
	g_clear_pointer(&options->user, g_free);
	for (guint i = 0; i < HB_PATHS_MAX; i++)
		g_clear_pointer(&options->path[i], hb_path_free);
	options->paths = 0;
}
