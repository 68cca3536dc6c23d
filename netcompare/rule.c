/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rule that puts what the guest sends into the queue.
 *
 * Two things are easily missed. A bridge hands frames to 01:80:c2:00:00:0x to the host
 * without its pre-routing hook, whatever is in them, and some of them without any hook
 * of its own: to the host they come from the tap itself, as nothing else of a port
 * does, and are dropped there. And a routed host ignores frames that are not for its
 * own address before any rule sees them, markers among them: the chain at the device's
 * ingress takes these in.
 */
#include "netcompare/rule.h"

#include <gio/gio.h>
#include <json-glib/json-glib.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

#include "base/output.h"

#define LOCK_WAIT_S "5" /* iptables' lock */
#define DOUBLES_MAX 16u /* of one rule of iptables, made by whomever */

static const char *const way_names[] = {
	[NCMP_RULE_AUTO] = "auto",
	[NCMP_RULE_NFT] = "nft",
	[NCMP_RULE_IPTABLES] = "iptables",
	[NCMP_RULE_NONE] = "none",
};

const char *ncmp_rule_way_name(enum ncmp_rule_way way)
{
	return way_names[way];
}

gboolean ncmp_rule_way_parse(const char *name, enum ncmp_rule_way *way)
{
	for (guint i = 0; i < G_N_ELEMENTS(way_names); i++)
		if (!strcmp(way_names[i], name)) {
			*way = (enum ncmp_rule_way)i;
			return TRUE;
		}
	return FALSE;
}

gboolean ncmp_rule_is_tap_name(const char *name)
{
	gsize len = strlen(name);

	if (len == 0 || len >= IFNAMSIZ || *name == '-' || *name == '.')
		return FALSE;
	for (; *name; name++)
		if (!g_ascii_isalnum(*name) && !strchr("_.-@", *name))
			return FALSE;
	return TRUE;
}

/* Running programs. */

/* Where a program is; NULL: not installed. Not by $PATH, for it is run with rights. */
static char *find_program(const char *name)
{
	static const char *const folders[] = { "/usr/sbin", "/sbin", "/usr/bin",
					       "/bin" };

	for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
		g_autofree char *path = g_build_filename(folders[i], name, NULL);

		if (access(path, X_OK) == 0)
			return g_steal_pointer(&path);
	}
	return NULL;
}

/* Runs `words` (ended by NULL), `input` on its standard input. FALSE where it cannot be
 * run or does not end with 0: `error` has what it said. */
static gboolean run(const char *const *words, const char *input, char **output,
		    GError **error)
{
	g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(
		G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE |
		G_SUBPROCESS_FLAGS_STDERR_PIPE);
	char *environment[] = { "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
				NULL };
	g_autofree char *program = find_program(words[0]);
	g_autofree char *line = g_strjoinv(" ", (char **)words);
	g_autofree char *said = NULL, *complaint = NULL;
	g_autofree const char **argv = NULL;
	g_autoptr(GSubprocess) process = NULL;

	if (!program)
		return ncmp_error_set(error, NCMP_ERROR_HOST,
				      "program %s is not installed", words[0]);
	argv = g_memdup2(words, (g_strv_length((char **)words) + 1) * sizeof(*words));
	argv[0] = program;
	g_debug("rule: runs \"%s\"", line);
	g_subprocess_launcher_set_environ(launcher, environment);
	process = g_subprocess_launcher_spawnv(launcher, argv, error);
	if (!process ||
	    !g_subprocess_communicate_utf8(process, input ? input : "", NULL, &said,
					   &complaint, error)) {
		g_prefix_error(error, "run %s: ", program);
		return FALSE;
	}
	if (!g_subprocess_get_if_exited(process) ||
	    g_subprocess_get_exit_status(process)) {
		/* The first line says it; nft then draws where. */
		g_auto(GStrv) lines = g_strsplit(complaint ? complaint : "", "\n", 2);

		return ncmp_error_set(error, NCMP_ERROR_HOST, "\"%s\" failed: %s", line,
				      lines[0] && *lines[0] ? lines[0]
							    : "it says nothing");
	}
	if (output)
		*output = g_steal_pointer(&said);
	return TRUE;
}

static gboolean run_quietly(const char *const *words)
{
	g_autoptr(GError) error = NULL;

	if (run(words, NULL, NULL, &error))
		return TRUE;
	g_debug("rule: %s", error->message);
	return FALSE;
}

/* Text for nft. */

/* "{ "tap0", "tap1" }" */
static char *nft_set(const char *const *taps)
{
	g_autofree char *names = g_strjoinv("\", \"", (char **)taps);

	return g_strdup_printf("{ \"%s\" }", names);
}

static void begin_table(GString *text, const char *family, guint16 number)
{
	/* Deleting what may not be there is an error: it is made first. All is one
	 * transaction, so the old rule is there until the new one is. */
	g_string_append_printf(text,
			       "add table %s colo_q%u\n"
			       "delete table %s colo_q%u\n"
			       "table %s colo_q%u {\n",
			       family, number, family, number, family, number);
}

static void append_bridged(GString *text, guint16 number, const char *taps, gboolean queue)
{
	if (queue)
		g_string_append_printf(text, "\t\tiifname %s queue num %u\n", taps,
				       number);
	else
		g_string_append_printf(
			text, "\t\tiifname %s ether type != { ip, ip6, arp } drop\n",
			taps);
	g_string_append_printf(
		text,
		"\t}\n"
		"\tchain past_the_bridge {\n"
		"\t\ttype filter hook input priority -300; policy accept;\n"
		"\t\tiifname %s ether daddr & ff:ff:ff:ff:ff:f0 == "
		"01:80:c2:00:00:00 drop\n",
		taps);
}

/* A routed tap that somebody makes a bridge's port is heard by nobody there. */
static void append_bridge(GString *text, guint16 number, const char *bridged,
			  const char *routed, gboolean queue)
{
	begin_table(text, "bridge", number);
	g_string_append(
		text,
		"\tchain from_guest {\n"
		"\t\ttype filter hook prerouting priority -300; policy accept;\n");
	if (routed)
		g_string_append_printf(text, "\t\tiifname %s drop\n", routed);
	if (bridged)
		append_bridged(text, number, bridged, queue);
	g_string_append(text, "\t}\n"
			      "}\n");
}

static void append_routed(GString *text, guint16 number, const char *const *taps)
{
	begin_table(text, "netdev", number);
	for (guint i = 0; taps[i]; i++)
		g_string_append_printf(text,
				       "\tchain from_guest%u {\n"
				       "\t\ttype filter hook ingress device \"%s\" "
				       "priority -500; policy accept;\n"
				       "\t\tether type != { ip, ip6, arp } drop\n"
				       "\t\tip protocol %u meta pkttype set host\n"
				       "\t}\n",
				       i, taps[i], WIRE_MARKER_PROTOCOL);
	g_string_append(text, "}\n");
}

static void append_host(GString *text, guint16 number, const char *bridged,
			const char *routed, gboolean queue)
{
	begin_table(text, "inet", number);
	g_string_append(
		text,
		"\tchain from_guest {\n"
		"\t\ttype filter hook prerouting priority -300; policy accept;\n");
	if (bridged)
		g_string_append_printf(text, "\t\tiifname %s drop\n", bridged);
	if (routed && queue)
		g_string_append_printf(text, "\t\tiifname %s queue num %u\n", routed,
				       number);
	g_string_append(text, "\t}\n"
			      "}\n");
}

char *ncmp_rule_nft_text(guint16 number, const char *const *bridged,
			 const char *const *routed, gboolean queue)
{
	g_autofree char *bridged_set = *bridged ? nft_set(bridged) : NULL;
	g_autofree char *routed_set = *routed ? nft_set(routed) : NULL;
	GString *text = g_string_new(NULL);

	append_bridge(text, number, bridged_set, routed_set, queue);
	if (*routed)
		append_routed(text, number, routed);
	append_host(text, number, bridged_set, routed_set, queue);
	return g_string_free(text, FALSE);
}

/* Where the taps are. */

struct places {
	GPtrArray *bridged, *routed; /* const char *, borrowed, ended by NULL */
	GPtrArray *bridges; /* of each bridged tap; owned */
};

static void free_places(struct places *places)
{
	g_clear_pointer(&places->bridged, g_ptr_array_unref);
	g_clear_pointer(&places->routed, g_ptr_array_unref);
	g_clear_pointer(&places->bridges, g_ptr_array_unref);
}

/* A member that is text; NULL: there is none. */
static const char *get_text(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	return node && JSON_NODE_HOLDS_VALUE(node) ? json_node_get_string(node) : NULL;
}

/* The bridge that `tap` is a port of, NULL: of none. */
static gboolean find_bridge(const char *tap, char **bridge, GError **error)
{
	const char *words[] = { "ip",	"-json", "-details", "link",
				"show", "dev",	 tap,	     NULL };
	g_autoptr(JsonParser) parser = json_parser_new();
	g_autofree char *said = NULL;
	JsonNode *root;
	JsonArray *links;
	JsonObject *link, *info;
	const char *kind, *master;

	*bridge = NULL;
	if (!run(words, NULL, &said, error))
		return FALSE;
	if (!json_parser_load_from_data(parser, said, -1, error))
		return FALSE;
	root = json_parser_get_root(parser);
	links = root && JSON_NODE_HOLDS_ARRAY(root) ? json_node_get_array(root) : NULL;
	if (!links || json_array_get_length(links) != 1 ||
	    !JSON_NODE_HOLDS_OBJECT(json_array_get_element(links, 0)))
		return ncmp_error_set(error, NCMP_ERROR_HOST,
				      "tap %s: ip(8) says of it what is not understood",
				      tap);
	link = json_array_get_object_element(links, 0);
	master = get_text(link, "master");
	if (!master)
		return TRUE;
	info = json_object_has_member(link, "linkinfo")
		       ? json_object_get_object_member(link, "linkinfo")
		       : NULL;
	kind = info ? get_text(info, "info_slave_kind") : NULL;
	if (!kind || strcmp(kind, "bridge"))
		return ncmp_error_set(
			error, NCMP_ERROR_CONFIG,
			"tap %s: is a port of %s (%s), and a rule is known only "
			"for Linux bridges and routed taps",
			tap, master, kind ? kind : "unknown");
	*bridge = g_strdup(master);
	return TRUE;
}

static gboolean find_places(const struct ncmp_rule *rule, struct places *places,
			    GError **error)
{
	places->bridged = g_ptr_array_new();
	places->routed = g_ptr_array_new();
	places->bridges = g_ptr_array_new_with_free_func(g_free);
	for (guint i = 0; rule->taps[i]; i++) {
		const char *tap = rule->taps[i];
		char *bridge;

		if (!ncmp_rule_is_tap_name(tap))
			return ncmp_error_set(error, NCMP_ERROR_CONFIG,
					      "\"%s\" is no name of a tap", tap);
		if (!find_bridge(tap, &bridge, error))
			return FALSE;
		g_ptr_array_add(bridge ? places->bridged : places->routed,
				(gpointer)tap);
		if (bridge)
			g_ptr_array_add(places->bridges, bridge);
	}
	g_ptr_array_add(places->bridged, NULL);
	g_ptr_array_add(places->routed, NULL);
	return TRUE;
}

/* Putting it in place. */

static gboolean put_nft(guint16 number, const struct places *places, gboolean queue,
			GError **error)
{
	static const char *const words[] = { "nft", "-f", "-", NULL };
	g_autofree char *text =
		ncmp_rule_nft_text(number, (const char *const *)places->bridged->pdata,
				   (const char *const *)places->routed->pdata, queue);

	return run(words, text, NULL, error);
}

static void remove_nft(guint16 number, const char *family)
{
	static const char *const words[] = { "nft", "-f", "-", NULL };
	g_autofree char *text = g_strdup_printf("add table %s colo_q%u\n"
						"delete table %s colo_q%u\n",
						family, number, family, number);
	g_autoptr(GError) error = NULL;

	if (!run(words, text, NULL, &error))
		g_debug("rule: %s", error->message);
}

/* `verb`: "-C" (is it there?), "-I" or "-D". Free the vector, not the words. */
static const char **iptables_words(const char *program, const char *verb,
				   const char *tap, gboolean bridged,
				   const char *number)
{
	static const char *const ends[] = { "-j", "NFQUEUE", "--queue-num" };
	const char *words[16] = { program, "-w", LOCK_WAIT_S, "-t",
				  "raw",   verb, "PREROUTING" };
	guint n = 7;

	if (bridged) {
		words[n++] = "-m";
		words[n++] = "physdev";
		words[n++] = "--physdev-in";
	} else {
		words[n++] = "-i";
	}
	words[n++] = tap;
	for (guint i = 0; i < G_N_ELEMENTS(ends); i++)
		words[n++] = ends[i];
	words[n++] = number;
	words[n++] = NULL;
	return g_memdup2(words, n * sizeof(*words));
}

static const char *const programs[] = { "iptables", "ip6tables" };

static gboolean put_iptables_rules(guint16 number, const char *tap, gboolean bridged,
				   GError **error)
{
	g_autofree char *queue = g_strdup_printf("%u", number);

	for (guint i = 0; i < G_N_ELEMENTS(programs); i++) {
		g_autofree const char **check =
			iptables_words(programs[i], "-C", tap, bridged, queue);
		g_autofree const char **insert =
			iptables_words(programs[i], "-I", tap, bridged, queue);

		if (!run_quietly(check) && !run(insert, NULL, NULL, error))
			return FALSE;
	}
	return TRUE;
}

static gboolean put_iptables(guint16 number, const struct places *places,
			     GError **error)
{
	if (places->bridges->len && access("/proc/sys/net/bridge", F_OK) < 0) {
		static const char *const load[] = { "modprobe", "br_netfilter", NULL };

		if (!run(load, NULL, NULL, error)) {
			g_prefix_error(error,
				       "br_netfilter, by which iptables sees what a "
				       "bridge forwards: ");
			return FALSE;
		}
	}
	for (guint i = 0; g_ptr_array_index(places->bridged, i); i++)
		if (!put_iptables_rules(number, g_ptr_array_index(places->bridged, i),
					TRUE, error))
			return FALSE;
	for (guint i = 0; g_ptr_array_index(places->routed, i); i++)
		if (!put_iptables_rules(number, g_ptr_array_index(places->routed, i),
					FALSE, error))
			return FALSE;
	for (guint i = 0; i < places->bridges->len; i++) {
		const char *words[] = { "ip",
					"link",
					"set",
					"dev",
					g_ptr_array_index(places->bridges, i),
					"type",
					"bridge",
					"nf_call_iptables",
					"1",
					"nf_call_ip6tables",
					"1",
					NULL };

		if (!run(words, NULL, NULL, error))
			return FALSE;
	}
	/* Last: where nft queued until now, it does so until iptables does. */
	if (!put_nft(number, places, FALSE, error)) {
		g_prefix_error(error, "dropping what iptables does not see: ");
		return FALSE;
	}
	return TRUE;
}

/* iptables' rules of a comparator that went the other way would give it all packets
 * twice. */
static void remove_iptables(const struct ncmp_rule *rule)
{
	g_autofree char *queue = g_strdup_printf("%u", rule->queue);

	for (guint i = 0; rule->taps[i]; i++)
		for (guint j = 0; j < 2 * G_N_ELEMENTS(programs); j++) {
			g_autofree const char **words = iptables_words(
				programs[j / 2], "-D", rule->taps[i], j % 2, queue);

			for (guint n = 0; n < DOUBLES_MAX && run_quietly(words); n++)
				;
		}
}

static gboolean try_nft(const struct ncmp_rule *rule, const struct places *places,
			GError **error)
{
	if (!put_nft(rule->queue, places, TRUE, error))
		return FALSE;
	remove_iptables(rule);
	return TRUE;
}

gboolean ncmp_rule_put(const struct ncmp_rule *rule, enum ncmp_rule_way *used,
		       GError **error)
{
	__attribute__((cleanup(free_places))) struct places places = { 0 };
	g_autoptr(GError) why = NULL;

	*used = rule->way;
	if (rule->way == NCMP_RULE_NONE)
		return TRUE;
	if (!find_places(rule, &places, error))
		return FALSE;
	if (rule->way != NCMP_RULE_IPTABLES) {
		*used = NCMP_RULE_NFT;
		if (try_nft(rule, &places, &why))
			return TRUE;
		if (rule->way == NCMP_RULE_NFT) {
			g_propagate_error(error, g_steal_pointer(&why));
			return FALSE;
		}
		g_info("rule: nft cannot, iptables is tried why=\"%s\"", why->message);
	}
	*used = NCMP_RULE_IPTABLES;
	return put_iptables(rule->queue, &places, error);
}

/* Taking it away. */

gboolean ncmp_rule_remove(const struct ncmp_rule *rule, GError **error)
{
	static const char *const families[] = { "bridge", "inet", "netdev" };
	static const char *const list[] = { "nft", "list", "tables", NULL };
	g_autofree char *name = g_strdup_printf(" colo_q%u\n", rule->queue);
	g_autofree char *tables = NULL;

	for (guint i = 0; rule->taps[i]; i++)
		if (!ncmp_rule_is_tap_name(rule->taps[i]))
			return ncmp_error_set(error, NCMP_ERROR_CONFIG,
					      "\"%s\" is no name of a tap",
					      rule->taps[i]);
	remove_iptables(rule);
	for (guint i = 0; i < G_N_ELEMENTS(families); i++)
		remove_nft(rule->queue, families[i]);
	if (!run(list, NULL, &tables, error))
		return FALSE;
	return !strstr(tables, name) ||
	       ncmp_error_set(error, NCMP_ERROR_HOST,
			      "a table%.*s of nftables is still there",
			      (int)strlen(name) - 1, name);
}
