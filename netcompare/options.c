/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of colo-netcompare. */
#include "netcompare/options.h"

#include <string.h>
#include <sys/un.h>

#include "base/units.h"

#define LATE_MAX_MS 60000
#define STALL_MIN_MS 10
#define STALL_MAX_MS 600000

struct words {
	char *tap, *rule, *memory, *receive, *mode;
	int queue, queue_length, late_max_ms, stall_ms, verbosity;
	gboolean remove_rule, replay;
};

static gboolean count_verbose(const char *name, const char *value, gpointer data,
			      GError **error)
{
	((struct words *)data)->verbosity++;
	return TRUE;
}

/* Fills `options` with the words themselves, `words` with what is to be judged. */
static gboolean read_words(struct ncmp_options *options, struct words *words,
			   char **argv, GError **error)
{
	const GOptionEntry entries[] = {
		{ "vm", 0, 0, G_OPTION_ARG_FILENAME, &options->vm,
		  "Socket on which colo-vm tells of outputs", "SOCKET" },
		{ "queue", 0, 0, G_OPTION_ARG_INT, &words->queue,
		  "Number of the queue that the guest's packets wait in", "N" },
		{ "tap", 0, 0, G_OPTION_ARG_STRING, &words->tap,
		  "Taps of the guest's cards, in their order", "TAP[,TAP...]" },
		{ "rule", 0, 0, G_OPTION_ARG_STRING, &words->rule,
		  "How packets get into the queue (auto)", "auto|nft|iptables|none" },
		{ "remove-rule", 0, 0, G_OPTION_ARG_NONE, &words->remove_rule,
		  "Take the rule away, and end", NULL },
		{ "control", 0, 0, G_OPTION_ARG_FILENAME, &options->control,
		  "Socket to be asked on", "SOCKET" },
		{ "dump", 0, 0, G_OPTION_ARG_FILENAME, &options->dump,
		  "Capture file for packets that differ", "FILE" },
		{ "replay", 0, 0, G_OPTION_ARG_NONE, &words->replay,
		  "Compare two capture files instead", NULL },
		{ "guest", 0, 0, G_OPTION_ARG_STRING, &options->guest,
		  "Whose packets are compared in a replay", "ADDRESS" },
		{ "json", 0, 0, G_OPTION_ARG_NONE, &options->json,
		  "What a replay finds is told as JSON", NULL },
		{ G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY,
		  &options->captures, NULL, "[PRIMARY.pcap SECONDARY.pcap]" },
		{ "late-max", 0, 0, G_OPTION_ARG_INT, &words->late_max_ms,
		  "What the secondary may be late by at most (200)", "MS" },
		{ "stall", 0, 0, G_OPTION_ARG_INT, &words->stall_ms,
		  "How long not to have run before all is held anew (150)", "MS" },
		{ "memory", 0, 0, G_OPTION_ARG_STRING, &words->memory,
		  "What may be kept of packets (256M)", "SIZE" },
		{ "queue-length", 0, 0, G_OPTION_ARG_INT, &words->queue_length,
		  "How many packets may wait (65536)", "PACKETS" },
		{ "receive-buffer", 0, 0, G_OPTION_ARG_STRING, &words->receive,
		  "Room for packets on their way here (64M)", "SIZE" },
		{ "mode", 0, 0, G_OPTION_ARG_STRING, &words->mode,
		  "Whether to compare (auto)", "auto|colo|buffered" },
		{ "verbose", 'v', G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK,
		  (gpointer)count_verbose, "Say more; twice: much more", NULL },
		{ NULL }
	};
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);
	GOptionGroup *group = g_option_group_new(NULL, NULL, NULL, words, NULL);
	g_auto(GStrv) args = g_strdupv(argv);

	g_option_group_add_entries(group, entries);
	g_option_context_set_main_group(context, group);
	g_option_context_set_summary(
		context,
		"Holds what a guest sends until its secondary has sent the same, or a "
		"checkpoint covers it.");
	return g_option_context_parse_strv(context, &args, error);
}

static gboolean judge_taps(struct ncmp_options *options, const char *list,
			   GError **error)
{
	if (!list)
		return ncmp_error_set(error, NCMP_ERROR_CONFIG, "--tap is needed");
	options->taps = g_strsplit(list, ",", -1);
	if (g_strv_length(options->taps) > NCMP_TAPS_MAX)
		return ncmp_error_set(error, NCMP_ERROR_CONFIG, "more than %u taps",
				      NCMP_TAPS_MAX);
	for (guint i = 0; options->taps[i]; i++) {
		if (!ncmp_rule_is_tap_name(options->taps[i]))
			return ncmp_error_set(error, NCMP_ERROR_CONFIG,
					      "--tap: \"%s\" is no name of a tap",
					      options->taps[i]);
		for (guint j = 0; j < i; j++)
			if (!strcmp(options->taps[i], options->taps[j]))
				return ncmp_error_set(error, NCMP_ERROR_CONFIG,
						      "--tap: %s is named twice",
						      options->taps[i]);
	}
	return TRUE;
}

static gboolean judge_comparator(struct ncmp_options *options,
				 const struct words *words, GError **error)
{
	struct ncmp_comparator_options *c = &options->comparator;
	struct sockaddr_un address;
	guint64 receive = 64u << 20;

	if (!options->vm)
		return ncmp_error_set(error, NCMP_ERROR_CONFIG, "--vm is needed");
	if (!*options->vm || strlen(options->vm) >= sizeof(address.sun_path))
		return ncmp_error_set(error, NCMP_ERROR_CONFIG,
				      "--vm: a socket's path has 1 to %zu bytes",
				      sizeof(address.sun_path) - 1);
	if (words->late_max_ms < 1 || words->late_max_ms > LATE_MAX_MS)
		return ncmp_error_set(error, NCMP_ERROR_CONFIG,
				      "--late-max: 1 to %u ms", LATE_MAX_MS);
	if (words->stall_ms && (words->stall_ms < STALL_MIN_MS || words->stall_ms > STALL_MAX_MS))
		return ncmp_error_set(error, NCMP_ERROR_CONFIG, "--stall: %u to %u ms",
				      STALL_MIN_MS, STALL_MAX_MS);
	if (words->queue_length < 64 || words->queue_length > 1 << 24)
		return ncmp_error_set(error, NCMP_ERROR_CONFIG,
				      "--queue-length: 64 to %u packets", 1u << 24);
	if (words->mode && !ncmp_mode_parse(words->mode, &c->mode))
		return ncmp_error_set(error, NCMP_ERROR_CONFIG,
				      "--mode: auto, colo or buffered, not \"%s\"",
				      words->mode);
	if (words->memory && (!base_parse_size(words->memory, &c->compare.memory_max) ||
			      c->compare.memory_max < 1u << 20))
		return ncmp_error_set(error, NCMP_ERROR_CONFIG,
				      "--memory: a size from 1M on, not \"%s\"",
				      words->memory);
	if (words->receive && (!base_parse_size(words->receive, &receive) ||
			       receive < 1u << 16 || receive > 1u << 30))
		return ncmp_error_set(
			error, NCMP_ERROR_CONFIG,
			"--receive-buffer: a size from 64K to 1G, not \"%s\"",
			words->receive);
	c->vm = options->vm;
	c->compare.late_max_ms = (guint)words->late_max_ms;
	c->stall_ms = (guint)words->stall_ms;
	c->compare.late_min_ms = MIN(5u, c->compare.late_max_ms);
	c->queue.number = (guint16)words->queue;
	c->waiting_max = (guint64)words->queue_length;
	/* Before packets are too many: it then asks for a checkpoint. */
	c->compare.held_max = (guint)(words->queue_length - words->queue_length / 4);
	c->waiting_bytes_max = 2 * c->compare.memory_max;
	/* Full is what the socket's buffer is before, which is noticed: no message
	 * takes less of it than this. */
	c->queue.receive_bytes = (guint32)receive;
	c->queue.length_max = (guint32)(4 * c->waiting_max + receive / 256);
	return TRUE;
}

static gboolean judge_replay(struct ncmp_options *options, GError **error)
{
	options->work = NCMP_WORK_REPLAY;
	return (options->captures && g_strv_length(options->captures) == 2) ||
	       ncmp_error_set(error, NCMP_ERROR_CONFIG,
			      "--replay: two capture files are needed");
}

static gboolean judge_words(struct ncmp_options *options, const struct words *words,
			    GError **error)
{
	options->verbosity = words->verbosity;
	if (words->replay)
		return judge_replay(options, error);
	if (options->captures)
		return ncmp_error_set(error, NCMP_ERROR_CONFIG, "unexpected \"%s\"",
				      options->captures[0]);
	if (options->json || options->guest)
		return ncmp_error_set(error, NCMP_ERROR_CONFIG,
				      "--json and --guest are for --replay");
	if (words->queue < 0)
		return ncmp_error_set(error, NCMP_ERROR_CONFIG, "--queue is needed");
	if (words->queue > G_MAXUINT16)
		return ncmp_error_set(error, NCMP_ERROR_CONFIG, "--queue: 0 to 65535");
	if (words->rule && !ncmp_rule_way_parse(words->rule, &options->rule.way))
		return ncmp_error_set(error, NCMP_ERROR_CONFIG,
				      "--rule: auto, nft, iptables or none, not \"%s\"",
				      words->rule);
	if (!judge_taps(options, words->tap, error))
		return FALSE;
	options->rule.queue = (guint16)words->queue;
	options->rule.taps = (const char *const *)options->taps;
	options->comparator.taps = (const char *const *)options->taps;
	options->work = words->remove_rule ? NCMP_WORK_REMOVE_RULE : NCMP_WORK_COMPARE;
	return words->remove_rule || judge_comparator(options, words, error);
}

gboolean ncmp_options_parse(struct ncmp_options *options, char **argv, GError **error)
{
	struct words words = { .queue = -1, .queue_length = 65536, .late_max_ms = 200 };
	gboolean ok;

	*options = (struct ncmp_options){ 0 };
	ok = read_words(options, &words, argv, error) &&
	     judge_words(options, &words, error);
	g_free(words.tap);
	g_free(words.rule);
	g_free(words.memory);
	g_free(words.receive);
	g_free(words.mode);
	if (!ok)
		ncmp_options_clear(options);
	return ok;
}

void ncmp_options_clear(struct ncmp_options *options)
{
	g_clear_pointer(&options->vm, g_free);
	g_clear_pointer(&options->control, g_free);
	g_clear_pointer(&options->dump, g_free);
	g_clear_pointer(&options->guest, g_free);
	g_clear_pointer(&options->captures, g_strfreev);
	g_clear_pointer(&options->taps, g_strfreev);
}
