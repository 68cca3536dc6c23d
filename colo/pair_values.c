/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pair file's values, one by one. */
#include "colo/pair_values.h"

#include <arpa/inet.h>
#include <limits.h>
#include <string.h>

#include "base/tcp.h"
#include "base/units.h"
#include "colo/error.h"
#include "netcompare/rule.h"

#define SERIAL_MAX 20u /* virtio-blk's */
#define ITEMS_MAX 64u /* of a list */

#define bad(error, ...) colo_error_set(error, COLO_ERROR_CONFIG, __VA_ARGS__)

static const char *example(const struct colo_row *row)
{
	return row->example ? row->example : row->fallback;
}

gboolean colo_value_is_name(const char *text)
{
	return g_ascii_islower(*text) && strlen(text) <= COLO_NAME_MAX &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(text);
}

static gboolean judge_name(const char *value, GError **error)
{
	return colo_value_is_name(value) ||
	       bad(error,
		   "\"%s\" is no name: write a letter a-z, then letters, digits and "
		   "\"-\", at most %u",
		   value, COLO_NAME_MAX);
}

static gboolean judge_file(const struct colo_row *row, const char *value,
			   GError **error)
{
	if (*value != '/')
		return bad(
			error,
			"\"%s\" does not begin at the root: write a whole path, such "
			"as %s",
			value, example(row));
	if (g_str_has_suffix(value, "/"))
		return bad(error, "\"%s\" is a folder: write a file's path, such as %s",
			   value, example(row));
	return strlen(value) < PATH_MAX ||
	       bad(error, "longer than a path can be (%d bytes)", PATH_MAX - 1);
}

static gboolean judge_serial(const char *value, GError **error)
{
	if (strlen(value) > SERIAL_MAX)
		return bad(error, "\"%s\" is too long: write at most %u characters",
			   value, SERIAL_MAX);
	for (const char *c = value; *c; c++)
		if (!g_ascii_isprint(*c))
			return bad(
				error,
				"\"%s\" is not all printable ASCII: write letters and "
				"digits",
				value);
	return TRUE;
}

static gboolean judge_device(const char *value, GError **error)
{
	return ncmp_rule_is_tap_name(value) ||
	       bad(error,
		   "\"%s\" is no network device's name: write at most 15 letters, "
		   "digits, "
		   "and . _ - @ behind the first",
		   value);
}

static gboolean judge_prefix(const char *value, GError **error)
{
	if (*value != '/' || !g_str_has_suffix(value, "/"))
		return bad(error,
			   "\"%s\" does not begin and end with a slash: write such "
			   "as /colo/",
			   value);
	for (const char *c = value; *c; c++)
		if (!g_ascii_isgraph(*c))
			return bad(error,
				   "\"%s\" is not all printable ASCII without spaces",
				   value);
	return strlen(value) <= 256 || bad(error, "longer than 256 bytes");
}

static gboolean take_mac(const char *value, char **at, GError **error)
{
	gboolean shaped = strlen(value) == 17, zero = TRUE;

	for (guint i = 0; shaped && i < 17; i++) {
		shaped = i % 3 == 2 ? value[i] == ':' : g_ascii_isxdigit(value[i]);
		zero &= i % 3 == 2 || value[i] == '0';
	}
	if (!shaped)
		return bad(error,
			   "\"%s\" is no MAC address: write six pairs of hexadecimal "
			   "digits, such as 52:54:00:12:34:56",
			   value);
	if (g_ascii_xdigit_value(value[1]) & 1)
		return bad(error,
			   "\"%s\" is a multicast address: write one whose second "
			   "digit is "
			   "even",
			   value);
	if (zero)
		return bad(error,
			   "\"%s\" is nobody's address: write such as "
			   "52:54:00:12:34:56",
			   value);
	*at = g_ascii_strdown(value, -1);
	return TRUE;
}

/* Why a node cannot have that address, or NULL. */
static const char *not_a_hosts(gboolean unspecified, gboolean group)
{
	if (unspecified)
		return "is no address that the other node could reach: write the one "
		       "that "
		       "this node has on the link";
	return group ? "is not one host's address: write the node's own" : NULL;
}

/* A host as the kernel writes it; `host` may name an interface behind a %. */
static char *normal_host(const char *host, const char *whole, GError **error)
{
	const char *zone = strchr(host, '%'), *why;
	g_autofree char *bare = g_strndup(host, strcspn(host, "%"));
	char written[INET6_ADDRSTRLEN];
	struct in6_addr ipv6;
	struct in_addr ipv4;

	if (inet_pton(AF_INET, bare, &ipv4) == 1) {
		why = not_a_hosts(!ipv4.s_addr, ntohl(ipv4.s_addr) >= 0xe0000000);
		inet_ntop(AF_INET, &ipv4, written, sizeof(written));
		if (!why)
			return g_strdup(written);
		bad(error, "\"%s\" %s", whole, why);
		return NULL;
	}
	if (inet_pton(AF_INET6, bare, &ipv6) != 1) {
		bad(error,
		    "\"%s\": the host must be an IP address, since no name service can "
		    "be "
		    "waited for: write such as 10.9.0.1:7000 or [fd00::1]:7000",
		    whole);
		return NULL;
	}
	why = not_a_hosts(IN6_IS_ADDR_UNSPECIFIED(&ipv6), IN6_IS_ADDR_MULTICAST(&ipv6));
	if (!why && IN6_IS_ADDR_LINKLOCAL(&ipv6) && !zone)
		why = "is an address of one link: write which, such as "
		      "[fe80::1%eth1]:7000";
	if (why) {
		bad(error, "\"%s\" %s", whole, why);
		return NULL;
	}
	inet_ntop(AF_INET6, &ipv6, written, sizeof(written));
	return g_strdup_printf("[%s%s]", written, zone ? zone : "");
}

static gboolean take_address(const char *value, char **at, GError **error)
{
	g_autofree char *host = NULL, *normal = NULL;
	guint16 port;

	if (!base_tcp_parse(value, &host, &port, NULL))
		return bad(error,
			   "\"%s\" is no address: write HOST:PORT, such as "
			   "10.9.0.1:7000 or "
			   "[fd00::1]:7000",
			   value);
	if (!port)
		return bad(error, "\"%s\": port 0 is none: write 1 to 65535", value);
	normal = normal_host(host, value, error);
	if (!normal)
		return FALSE;
	*at = g_strdup_printf("%s:%u", normal, port);
	return TRUE;
}

static gboolean take_url(const char *value, char **at, GError **error)
{
	static const char *const schemes[] = { "http://", "https://" };
	const char *rest = NULL, *scheme = NULL;
	g_autofree char *address = NULL;
	guint16 port;

	for (guint i = 0; i < G_N_ELEMENTS(schemes); i++)
		if (g_str_has_prefix(value, schemes[i])) {
			scheme = schemes[i];
			rest = value + strlen(scheme);
		}
	/* What is in front of an @ is a secret: it is not repeated. */
	if (strchr(value, '@'))
		return bad(error, "a user or password in a URL: write user = NAME and "
				  "password-file = FILE");
	if (!rest)
		return bad(error,
			   "\"%s\" is neither http:// nor https://: write such as "
			   "https://10.9.0.3:2379",
			   value);
	address =
		g_strndup(rest, strlen(rest) - (*rest && g_str_has_suffix(rest, "/")));
	if (!base_tcp_parse(address, NULL, &port, NULL) || !port)
		return bad(error,
			   "\"%s\" is not %sHOST:PORT: write such as %s10.9.0.3:2379, "
			   "and no "
			   "path",
			   value, scheme, scheme);
	*at = g_strconcat(scheme, address, NULL);
	return TRUE;
}

/* An option that others say, or that must not stand in a file that all can read. */
static gboolean judge_option_name(const char *name, GError **error)
{
	static const struct {
		const char *name, *instead;
	} others[] = {
		{ "action", "action = off or reboot, a key of its own" },
		{ "plug", "plug = NAME in each [node]" },
		{ "port", "plug = NAME in each [node]" },
		{ "nodename", "plug = NAME in each [node]" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(others); i++)
		if (!strcmp(name, others[i].name))
			return bad(error, "\"%s\" is no option here: write %s", name,
				   others[i].instead);
	if (strstr(name, "passw") && !g_str_has_suffix(name, "_script"))
		return bad(error,
			   "\"%s\" is a secret: write it into a file of mode 0600, and "
			   "secrets = FILE",
			   name);
	return TRUE;
}

static gboolean take_option(const char *value, char **at, GError **error)
{
	const char *equals = strchr(value, '=');
	g_autofree char *name = NULL, *rest = NULL;

	/* The whole may hold a secret: only the name is repeated. */
	if (!equals)
		return bad(error,
			   "an option without \"=\": write name=value; name=value");
	name = g_strchomp(g_strndup(value, (gsize)(equals - value)));
	rest = g_strchug(g_strdup(equals + 1));
	if (!*name ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			 "0123456789_-") != strlen(name))
		return bad(error, "\"%.40s\" is no option's name: write name=value",
			   name);
	if (!judge_option_name(name, error))
		return FALSE;
	*at = g_strdup_printf("%s=%s", name, rest);
	return TRUE;
}

/* Parts of a list without the spaces around; one ";" may end it. NULL with an error. */
static char **split(const char *value, const struct colo_row *row, guint max,
		    GError **error)
{
	g_auto(GStrv) parts = g_strsplit(value, ";", -1);
	guint count = g_strv_length(parts);

	for (guint i = 0; i < count; i++)
		g_strstrip(parts[i]);
	if (count > 1 && !*parts[count - 1])
		g_clear_pointer(&parts[--count], g_free);
	if (count > max) {
		bad(error, "%u are too many: write at most %u", count, max);
		return NULL;
	}
	for (guint i = 0; i < count; i++)
		if (!*parts[i]) {
			bad(error, "nothing between two semicolons: write such as %s",
			    example(row));
			return NULL;
		}
	return g_steal_pointer(&parts);
}

/* What "name=value" is known by, or all of it. */
static gsize known_by(const char *item)
{
	return strcspn(item, "=");
}

static gboolean take_list(const struct colo_row *row, const char *value, guint max,
			  gboolean (*take)(const char *, char **, GError **),
			  char **items, GError **error)
{
	g_auto(GStrv) parts = split(value, row, max, error);

	if (!parts)
		return FALSE;
	for (guint i = 0; parts[i]; i++) {
		if (!take(parts[i], &items[i], error))
			return FALSE;
		for (guint j = 0; j < i; j++)
			if (known_by(items[i]) == known_by(items[j]) &&
			    !strncmp(items[i], items[j], known_by(items[i])))
				return bad(error, "%.*s is there twice: take one out",
					   (int)known_by(items[i]), items[i]);
	}
	return TRUE;
}

static gboolean take_strv(const struct colo_row *row, const char *value,
			  gboolean (*take)(const char *, char **, GError **),
			  char ***at, GError **error)
{
	*at = g_new0(char *, ITEMS_MAX + 1);
	return take_list(row, value, ITEMS_MAX, take, *at, error);
}

/* Two heartbeats may leave by one device. */
static gboolean take_devices(const struct colo_row *row, const char *value,
			     char **items, GError **error)
{
	g_auto(GStrv) parts = split(value, row, COLO_PATHS_MAX, error);

	if (!parts)
		return FALSE;
	for (guint i = 0; parts[i]; i++) {
		if (!judge_device(parts[i], error))
			return FALSE;
		items[i] = g_strdup(parts[i]);
	}
	return TRUE;
}

static gboolean take_nodes(const struct colo_row *row, const char *value,
			   colo_pair *pair, GError **error)
{
	g_auto(GStrv) parts = split(value, row, ITEMS_MAX, error);

	if (!parts)
		return FALSE;
	if (g_strv_length(parts) != COLO_NODES)
		return bad(error,
			   "\"%s\" is not two nodes: write two names and a semicolon "
			   "between them, such as %s",
			   value, row->example);
	for (guint i = 0; i < COLO_NODES; i++)
		if (!judge_name(parts[i], error))
			return FALSE;
	if (!strcmp(parts[0], parts[1]))
		return bad(error, "both nodes are \"%s\": write two names", parts[0]);
	for (guint i = 0; i < COLO_NODES; i++)
		pair->node[i].name = g_strdup(parts[i]);
	return TRUE;
}

static gboolean take_node(const char *value, const colo_pair *pair, guint *at,
			  GError **error)
{
	for (*at = 0; *at < COLO_NODES; ++*at)
		if (!strcmp(value, pair->node[*at].name))
			return TRUE;
	return bad(error, "\"%s\" is none of the nodes: write %s or %s", value,
		   pair->node[0].name, pair->node[1].name);
}

/* "a, b or c" of "a|b|c". */
static char *spoken(const char *words)
{
	g_auto(GStrv) list = g_strsplit(words, "|", -1);
	GString *text = g_string_new(list[0]);

	for (guint i = 1; list[i]; i++)
		g_string_append_printf(text, "%s%s", list[i + 1] ? ", " : " or ",
				       list[i]);
	return g_string_free(text, FALSE);
}

static gboolean take_index(const char *words, const char *value, guint *at,
			   GError **error)
{
	g_auto(GStrv) list = g_strsplit(words, "|", -1);
	g_autofree char *known = spoken(words);

	for (*at = 0; list[*at]; ++*at)
		if (!strcmp(list[*at], value))
			return TRUE;
	if (!strcmp(value, "pacemaker"))
		return bad(error, "not yet: \"pacemaker\" comes later: write %s",
			   known);
	return bad(error, "\"%s\" is not known: write %s", value, known);
}

static gboolean take_word(const char *words, const char *value, char **at,
			  GError **error)
{
	guint index;

	if (!take_index(words, value, &index, error))
		return FALSE;
	*at = g_strdup(value);
	return TRUE;
}

/* A number that comes to be out of its row's range; `low` and `high` as they are
 * written. */
static gboolean judge_range(const struct colo_row *row, guint64 number,
			    const char *value, const char *low, const char *high,
			    GError **error)
{
	return (number >= row->low && number <= row->high) ||
	       bad(error, "%s is out of range: write %s to %s", value, low, high);
}

static gboolean no_unit(const char *value)
{
	return strspn(value, "0123456789.") == strlen(value);
}

static gboolean take_count(const struct colo_row *row, const char *value, guint *at,
			   GError **error)
{
	g_autofree char *low = g_strdup_printf("%" G_GUINT64_FORMAT, row->low);
	g_autofree char *high = g_strdup_printf("%" G_GUINT64_FORMAT, row->high);
	guint64 number;

	if (strspn(value, "0123456789") != strlen(value))
		return bad(error, "\"%s\" is no whole number: write %s to %s", value,
			   low, high);
	/* Saturates, and is out of range then. */
	number = g_ascii_strtoull(value, NULL, 10);
	*at = (guint)number;
	return judge_range(row, number, value, low, high, error);
}

static gboolean take_time(const struct colo_row *row, const char *value, guint *at,
			  GError **error)
{
	g_autofree char *low = base_format_time(row->low);
	g_autofree char *high = base_format_time(row->high);
	guint64 ms;

	if (no_unit(value))
		return bad(error,
			   "%s has no unit: write %sms, or a whole number of ms, s, "
			   "min or h",
			   value, strchr(value, '.') ? "500" : value);
	if (!base_parse_time(value, &ms))
		return bad(error,
			   "\"%s\" is no time: write a whole number of ms, s, min or "
			   "h, such "
			   "as %s",
			   value, example(row));
	*at = (guint)ms;
	return judge_range(row, ms, value, low, high, error);
}

static gboolean take_size(const struct colo_row *row, const char *value, guint64 *at,
			  GError **error)
{
	g_autofree char *low = base_format_size(row->low);
	g_autofree char *high = base_format_size(row->high);

	if (no_unit(value))
		return bad(error,
			   "%s has no unit: write %sMiB, or a whole number of KiB, "
			   "MiB, GiB "
			   "or TiB",
			   value, strchr(value, '.') ? "512" : value);
	if (!base_parse_size(value, at))
		return bad(error,
			   "\"%s\" is no size: write a whole number of KiB, MiB, GiB "
			   "or TiB, "
			   "such as %s",
			   value, example(row));
	return judge_range(row, *at, value, low, high, error);
}

static gboolean take_rate(const struct colo_row *row, const char *value, guint64 *at,
			  GError **error)
{
	g_autofree char *low_size = base_format_size(row->low);
	g_autofree char *high_size = base_format_size(row->high);
	g_autofree char *low = g_strconcat(low_size, "/s", NULL);
	g_autofree char *high = g_strconcat(high_size, "/s", NULL);

	*at = 0;
	if (!strcmp(value, "none"))
		return TRUE;
	if (no_unit(value))
		return bad(error, "%s has no unit: write %sMiB/s, or none", value,
			   strchr(value, '.') ? "100" : value);
	if (!base_parse_rate(value, at))
		return bad(error,
			   "\"%s\" is no rate: write a size and /s, such as 100MiB/s, "
			   "or none",
			   value);
	return judge_range(row, *at, value, low, high, error);
}

static gboolean take_switch(const char *value, gboolean *at, GError **error)
{
	*at = !strcmp(value, "yes");
	return *at || !strcmp(value, "no") ||
	       bad(error, "\"%s\" is neither yes nor no: write one of them", value);
}

static gboolean take_text(const struct colo_row *row, const char *value, char **at,
			  GError **error)
{
	gboolean good = TRUE;

	switch (row->kind) {
	case COLO_VALUE_NAME:
		good = judge_name(value, error);
		break;
	case COLO_VALUE_FILE:
		good = judge_file(row, value, error);
		break;
	case COLO_VALUE_SERIAL:
		good = judge_serial(value, error);
		break;
	case COLO_VALUE_DEVICE:
		good = judge_device(value, error);
		break;
	case COLO_VALUE_PREFIX:
		good = judge_prefix(value, error);
		break;
	default:
		break;
	}
	if (good)
		*at = g_strdup(value);
	return good;
}

/* GKeyFile knows comments of whole lines only, and would make this a part of the value.
 */
static gboolean has_comment(const struct colo_row *row, const char *value)
{
	return row->kind != COLO_VALUE_ANY_TEXT &&
	       (strstr(value, " #") || strstr(value, "\t#") || *value == '#');
}

gboolean colo_value_take(const struct colo_row *row, const char *value, colo_pair *pair,
			 void *at, GError **error)
{
	if (!*value && row->kind != COLO_VALUE_ANY_TEXT)
		return bad(error,
			   "there is nothing: write such as %s, or take the line out",
			   example(row));
	if (has_comment(row, value))
		return bad(error,
			   "a comment behind a value: give it a line of its own");
	switch (row->kind) {
	case COLO_VALUE_DEVICES:
		return take_devices(row, value, at, error);
	case COLO_VALUE_MAC:
		return take_mac(value, at, error);
	case COLO_VALUE_ADDRESS:
		return take_address(value, at, error);
	case COLO_VALUE_ADDRESSES:
		return take_list(row, value, COLO_PATHS_MAX, take_address, at, error);
	case COLO_VALUE_URLS:
		return take_strv(row, value, take_url, at, error);
	case COLO_VALUE_OPTIONS:
		return take_strv(row, value, take_option, at, error);
	case COLO_VALUE_WORD:
		return take_word(row->help, value, at, error);
	case COLO_VALUE_CHOICE:
		return take_index(row->help, value, at, error);
	case COLO_VALUE_SWITCH:
		return take_switch(value, at, error);
	case COLO_VALUE_COUNT:
		return take_count(row, value, at, error);
	case COLO_VALUE_TIME:
		return take_time(row, value, at, error);
	case COLO_VALUE_SIZE:
		return take_size(row, value, at, error);
	case COLO_VALUE_RATE:
		return take_rate(row, value, at, error);
	case COLO_VALUE_NODES:
		return take_nodes(row, value, pair, error);
	case COLO_VALUE_NODE:
		return take_node(value, pair, at, error);
	default:
		return take_text(row, value, at, error);
	}
}
