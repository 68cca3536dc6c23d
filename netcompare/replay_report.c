/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a replay found, for people and for programs. */
#include "netcompare/replay_private.h"

#include <arpa/inet.h>
#include <json-glib/json-glib.h>
#include <netinet/in.h>

static const char *const side_names[NCMP_REPLAY_SIDES] = { "primary", "secondary" };

static char *address_text(const struct ncmp_flow_key *key, const guint8 *address)
{
	char text[INET6_ADDRSTRLEN];

	return g_strdup(inet_ntop(key->family == 4 ? AF_INET : AF_INET6, address, text,
				  sizeof(text)));
}

static gboolean has_ports(const struct ncmp_flow_key *key)
{
	return key->protocol == IPPROTO_TCP || key->protocol == IPPROTO_UDP;
}

static char *end_text(const struct ncmp_flow_key *key, const guint8 *address,
		      guint16 port)
{
	g_autofree char *text = address_text(key, address);

	if (!has_ports(key))
		return g_steal_pointer(&text);
	return g_strdup_printf(key->family == 4 ? "%s:%u" : "[%s]:%u", text, port);
}

static char *protocol_text(guint8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return g_strdup("tcp");
	case IPPROTO_UDP:
		return g_strdup("udp");
	case IPPROTO_ICMP:
		return g_strdup("icmp");
	case IPPROTO_ICMPV6:
		return g_strdup("icmpv6");
	default:
		return g_strdup_printf("protocol %u", protocol);
	}
}

static char *flow_text(const struct ncmp_flow_key *key)
{
	g_autofree char *protocol = protocol_text(key->protocol);
	g_autofree char *vlan = NULL;
	g_autofree char *source = NULL;
	g_autofree char *target = NULL;

	if (!key->family)
		return g_strdup("not comparable");
	source = end_text(key, key->source, key->source_port);
	target = end_text(key, key->target, key->target_port);
	vlan = key->vlan ? g_strdup_printf(" vlan %u", key->vlan) : g_strdup("");
	return g_strdup_printf("%s %s > %s%s", protocol, source, target, vlan);
}

static char *hex_text(const guint8 *bytes, gsize len)
{
	GString *text = g_string_new(NULL);

	for (gsize i = 0; i < len; i++)
		g_string_append_printf(text, "%02x", bytes[i]);
	return g_string_free(text, FALSE);
}

static void print_difference(const struct ncmp_finding *finding, FILE *out)
{
	g_autofree char *flow = flow_text(&finding->key);

	fprintf(out, "%s: cause=%s byte=%" G_GUINT64_FORMAT "\n", flow,
		ncmp_cause_name(finding->cause), finding->position);
	for (guint side = 0; side < NCMP_REPLAY_SIDES; side++) {
		g_autofree char *hex =
			hex_text(finding->shown[side], finding->shown_len[side]);

		if (finding->number[side])
			fprintf(out, "  %-9s packet %" G_GUINT64_FORMAT " %s\n",
				side_names[side], finding->number[side], hex);
		else
			fprintf(out, "  %-9s no packet\n", side_names[side]);
	}
}

static void print_text(const struct ncmp_findings *findings, FILE *out)
{
	const GArray *differences = findings->differences;

	for (guint i = 0; i < differences->len; i++)
		print_difference(&g_array_index(differences, struct ncmp_finding, i),
				 out);
	fprintf(out,
		"%u of %" G_GUINT64_FORMAT
		" flows differ; guest=%s packets=%" G_GUINT64_FORMAT
		",%" G_GUINT64_FORMAT "\n",
		differences->len, findings->flows,
		findings->guest ? findings->guest : "any", findings->packets[0],
		findings->packets[1]);
}

static void add_string(JsonBuilder *json, const char *name, const char *value)
{
	json_builder_set_member_name(json, name);
	if (value)
		json_builder_add_string_value(json, value);
	else
		json_builder_add_null_value(json);
}

static void add_int(JsonBuilder *json, const char *name, guint64 value)
{
	json_builder_set_member_name(json, name);
	json_builder_add_int_value(json, (gint64)value);
}

static void add_key(JsonBuilder *json, const struct ncmp_flow_key *key)
{
	g_autofree char *protocol = protocol_text(key->protocol);
	g_autofree char *source = NULL;
	g_autofree char *target = NULL;

	if (!key->family)
		return;
	source = address_text(key, key->source);
	target = address_text(key, key->target);
	add_string(json, "protocol", protocol);
	add_string(json, "source", source);
	add_string(json, "target", target);
	if (has_ports(key)) {
		add_int(json, "source_port", key->source_port);
		add_int(json, "target_port", key->target_port);
	}
	if (key->vlan)
		add_int(json, "vlan", key->vlan);
}

static void add_side(JsonBuilder *json, const struct ncmp_finding *finding, guint side)
{
	g_autofree char *hex = hex_text(finding->shown[side], finding->shown_len[side]);

	json_builder_set_member_name(json, side_names[side]);
	if (!finding->number[side]) {
		json_builder_add_null_value(json);
		return;
	}
	json_builder_begin_object(json);
	add_int(json, "packet", finding->number[side]);
	add_string(json, "bytes", hex);
	json_builder_end_object(json);
}

static void add_difference(JsonBuilder *json, const struct ncmp_finding *finding)
{
	json_builder_begin_object(json);
	add_string(json, "cause", ncmp_cause_name(finding->cause));
	add_key(json, &finding->key);
	add_int(json, "byte", finding->position);
	for (guint side = 0; side < NCMP_REPLAY_SIDES; side++)
		add_side(json, finding, side);
	json_builder_end_object(json);
}

static void print_json(const struct ncmp_replay_options *options,
		       const struct ncmp_findings *findings, FILE *out)
{
	const char *paths[NCMP_REPLAY_SIDES] = { options->primary, options->secondary };
	g_autoptr(JsonBuilder) json = json_builder_new();
	g_autoptr(JsonNode) root = NULL;
	g_autofree char *text = NULL;

	json_builder_begin_object(json);
	for (guint side = 0; side < NCMP_REPLAY_SIDES; side++) {
		g_autofree char *path = g_filename_display_name(paths[side]);

		json_builder_set_member_name(json, side_names[side]);
		json_builder_begin_object(json);
		add_string(json, "file", path);
		add_int(json, "packets", findings->packets[side]);
		json_builder_end_object(json);
	}
	add_string(json, "guest", findings->guest);
	add_int(json, "flows", findings->flows);
	json_builder_set_member_name(json, "differences");
	json_builder_begin_array(json);
	for (guint i = 0; i < findings->differences->len; i++)
		add_difference(json, &g_array_index(findings->differences,
						    struct ncmp_finding, i));
	json_builder_end_array(json);
	json_builder_end_object(json);
	root = json_builder_get_root(json);
	text = json_to_string(root, TRUE);
	fprintf(out, "%s\n", text);
}

void ncmp_replay_report(const struct ncmp_replay_options *options,
			const struct ncmp_findings *findings, FILE *out)
{
	if (options->json)
		print_json(options, findings, out);
	else
		print_text(findings, out);
}
