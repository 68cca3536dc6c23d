/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An etcd in a world: a model of its v3 JSON gateway below the real client
 * (colo/arbiter_etcd.c), in the place of colo/http.h. Of one to three members, which
 * are one store; each can be away. Requests come late, or not at all, also when who
 * asked has given up; answers get lost, or say that nothing is known, when all was
 * done.
 *
 * What comes is read as JSON and carried out as etcd would. Whatever is put there must
 * follow from what was there: that is checked here, where no client is believed.
 */
#include "tests/unit/world_private.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "colo/etcd_answer.h"
#include "colo/http.h"

#define MEMBERS 3u
#define KEY "web"

struct etcd_model {
	guint members;
	char *endpoint[MEMBERS + 1];
	gboolean away[MEMBERS];
	gboolean there;
	char *value; /* base64, as it was put */
	gint64 revision, created, modified;
};

struct colo_http {
	test_world *world;
	guint host;
	guint64 number; /* of what is under way; 0: nothing */
	colo_http_done done;
	void *data;
};

/* What is on its way, there or back. */
struct exchange {
	colo_http *http;
	guint member;
	gboolean is_txn;
	char *problem; /* NULL: an answer */
	gboolean unknown;
	guint status;
	gsize length;
	char text[]; /* of the request, then of the answer */
};

/* The store. */

static JsonObject *object_in(JsonObject *object, const char *array, const char *name)
{
	JsonObject *one = json_array_get_object_element(
		json_object_get_array_member(object, array), 0);

	return name ? json_object_get_object_member(one, name) : one;
}

static char *text_of_range(const struct etcd_model *etcd, const char *key)
{
	if (!etcd->there)
		return g_strdup("");
	return g_strdup_printf(
		"\"kvs\":[{\"key\":\"%s\",\"create_revision\":"
		"\"%" G_GINT64_FORMAT "\",\"mod_revision\":\"%" G_GINT64_FORMAT
		"\",\"version\":\"1\",\"value\":\"%s\"}],\"count\":\"1\"",
		key, etcd->created, etcd->modified, etcd->value);
}

static char *text_of_header(const struct etcd_model *etcd)
{
	return g_strdup_printf("\"header\":{\"cluster_id\":\"1\",\"member_id\":\"2\","
			       "\"revision\":\"%" G_GINT64_FORMAT
			       "\",\"raft_term\":\"3\"}",
			       etcd->revision);
}

static gboolean compares(const struct etcd_model *etcd, JsonObject *compare)
{
	const char *target = json_object_get_string_member(compare, "target");
	const char *wanted;

	g_assert(!strcmp(json_object_get_string_member(compare, "result"), "EQUAL"));
	if (!strcmp(target, "VALUE"))
		return etcd->there &&
		       !strcmp(json_object_get_string_member(compare, "value"),
			       etcd->value);
	if (!strcmp(target, "MOD")) {
		wanted = json_object_get_string_member(compare, "mod_revision");
		return g_ascii_strtoll(wanted, NULL, 10) ==
		       (etcd->there ? etcd->modified : 0);
	}
	g_assert(!strcmp(target, "CREATE"));
	wanted = json_object_get_string_member(compare, "create_revision");
	return g_ascii_strtoll(wanted, NULL, 10) == (etcd->there ? etcd->created : 0);
}

static gboolean understand(const test_world *world, const char *value64,
			   struct colo_arbiter_record *record)
{
	g_autofree guchar *bytes = NULL;
	g_autofree char *value = NULL, *again = NULL;
	const char *const names[] = { world->pair.node[0].name,
				      world->pair.node[1].name };
	gsize length;

	bytes = g_base64_decode(value64, &length);
	value = g_strndup((const char *)bytes, length);
	for (guint solo = 0; solo < 2; solo++)
		for (guint owner = 0; owner < 2; owner++) {
			const char *digits = strchr(value, ':');

			if (!digits)
				return FALSE;
			*record = (struct colo_arbiter_record){
				g_ascii_strtoull(digits + 1, NULL, 10), solo, owner
			};
			g_free(again);
			again = colo_etcd_value(names, record);
			if (!strcmp(again, value))
				return TRUE;
		}
	return FALSE;
}

/* From "protected" either may go on; from "solo" only who is. What is put in the place
 * of one revision only (`mod`) may be by an operator's word, or by what both nodes
 * agreed on. */
static void judge_put(test_world *world, guint host, const char *value64, gboolean mod)
{
	const struct etcd_model *etcd = world->etcd;
	struct colo_arbiter_record was = { 0 }, is;
	gboolean follows;

	if (!understand(world, value64, &is)) {
		world_violate(world, "host %u puts what is no record", host);
		return;
	}
	world_note(world, "etcd: %s %u, generation %" G_GUINT64_FORMAT,
		   is.solo ? "solo" : "protected", is.owner, is.generation);
	if (!etcd->there || !understand(world, etcd->value, &was) ||
	    (mod && is.solo && is.owner == host))
		return;
	if (!is.solo)
		follows = was.solo && was.owner == host &&
			  is.generation == was.generation;
	else
		follows = is.owner == host && is.generation == was.generation + 1 &&
			  (!was.solo || was.owner == host);
	if (!follows)
		world_violate(world,
			      "host %u makes %s %u, generation %" G_GUINT64_FORMAT
			      " of %s %u, generation %" G_GUINT64_FORMAT,
			      host, is.solo ? "solo" : "protected", is.owner,
			      is.generation, was.solo ? "solo" : "protected", was.owner,
			      was.generation);
}

static void put(struct etcd_model *etcd, const char *value64)
{
	g_free(etcd->value);
	etcd->value = g_strdup(value64);
	etcd->modified = ++etcd->revision;
	if (!etcd->there)
		etcd->created = etcd->modified;
	etcd->there = TRUE;
}

/* What it answers. */
static char *carry_out(test_world *world, guint host, const struct exchange *exchange)
{
	struct etcd_model *etcd = world->etcd;
	g_autofree char *key = g_base64_encode((const guchar *)KEY, strlen(KEY));
	g_autoptr(JsonParser) parser = json_parser_new();
	g_autofree char *range = NULL, *header = NULL;
	JsonObject *request, *success;

	g_assert(json_parser_load_from_data(parser, exchange->text,
					    (gssize)exchange->length, NULL));
	request = json_node_get_object(json_parser_get_root(parser));
	if (!exchange->is_txn) {
		g_assert(!strcmp(json_object_get_string_member(request, "key"), key));
		range = text_of_range(etcd, key);
		header = text_of_header(etcd);
		return g_strdup_printf("{%s%s%s}", header, *range ? "," : "", range);
	}
	g_assert(!strcmp(json_object_get_string_member(
				 object_in(request, "compare", NULL), "key"),
			 key));
	success = object_in(request, "success", "request_put");
	g_assert(!strcmp(json_object_get_string_member(success, "key"), key));
	if (compares(etcd, object_in(request, "compare", NULL))) {
		judge_put(
			world, host, json_object_get_string_member(success, "value"),
			!strcmp(json_object_get_string_member(
					object_in(request, "compare", NULL), "target"),
				"MOD"));
		put(etcd, json_object_get_string_member(success, "value"));
		header = text_of_header(etcd);
		return g_strdup_printf(
			"{%s,\"succeeded\":true,\"responses\":[{\"response_put\":"
			"{%s}}]}",
			header, header);
	}
	range = text_of_range(etcd, key);
	header = text_of_header(etcd);
	return g_strdup_printf("{%s,\"responses\":[{\"response_range\":{%s%s%s}}]}",
			       header, header, *range ? "," : "", range);
}

/* The way there and back. */

static void end_exchange(test_world *world, guint host,
			 const struct happening *happening)
{
	const struct exchange *exchange = happening->thing;
	colo_http *http = exchange->http;

	if (http->number != happening->number)
		return; /* given up */
	http->number = 0;
	world_act(world, host);
	http->done(http->data, exchange->problem, exchange->unknown, exchange->status,
		   exchange->text, exchange->length);
}

static struct exchange *exchange_new(const struct exchange *like, const char *text)
{
	const gsize length = strlen(text);
	struct exchange *exchange = g_malloc0(sizeof(*exchange) + length + 1);

	*exchange = *like;
	exchange->length = length;
	memcpy(exchange->text, text, length);
	return exchange;
}

/* As long as the colod is there that asked: its life is that of what it asked. */
static struct happening *answer_in(test_world *world, const struct happening *asked,
				   guint64 in_ms, const char *text)
{
	struct happening *happening =
		world_happen(world, asked->host, FALSE, in_ms, end_exchange);

	happening->life = asked->life;
	happening->number = asked->number;
	happening->thing = exchange_new(asked->thing, text);
	return happening;
}

static void reach_etcd(test_world *world, guint host, const struct happening *happening)
{
	const struct exchange *exchange = happening->thing;
	const struct etcd_model *etcd = world->etcd;
	g_autofree char *answer = NULL;
	struct exchange *back;

	if (world->host[host].arbiter_cut || etcd->away[exchange->member] ||
	    (world->rough && world_random(world, 30) == 0))
		return; /* lost; the answer in time is what is missed */
	answer = carry_out(world, host, exchange);
	if (world->rough && world_random(world, 20) == 0)
		return;
	back = answer_in(world, happening,
			 1 + (!world->rough || world_random(world, 15)
				      ? world_random(world, 5)
				      : world_random(world, 2000)),
			 !world->rough || world_random(world, 20)
				 ? answer
				 : "{\"error\":\"etcdserver: request "
				   "timed out\",\"code\":14}")
		       ->thing;
	back->status = *answer && strncmp(back->text, "{\"error\"", 8) ? 200 : 503;
}

colo_http *__wrap_colo_http_new(const struct colo_http_tls *tls, GError **error);
colo_http *__wrap_colo_http_new(const struct colo_http_tls *tls, GError **error)
{
	colo_http *http = g_new0(colo_http, 1);

	http->world = world_acting(&http->host);
	return http;
}

void __wrap_colo_http_post(colo_http *http, const char *url, const char *token,
			   const char *body, gsize length, guint timeout_ms,
			   colo_http_done done, void *data);
void __wrap_colo_http_post(colo_http *http, const char *url, const char *token,
			   const char *body, gsize length, guint timeout_ms,
			   colo_http_done done, void *data)
{
	test_world *world = http->world;
	struct exchange like = { .http = http };
	struct happening *happening;
	struct exchange *late;

	g_assert(!http->number && !token && strlen(body) == length);
	http->done = done;
	http->data = data;
	while (!g_str_has_prefix(url, world->etcd->endpoint[like.member]))
		like.member++;
	like.is_txn = g_str_has_suffix(url, "/v3/kv/txn");
	g_assert(like.is_txn || g_str_has_suffix(url, "/v3/kv/range"));
	happening = world_happen(world, http->host, FALSE,
				 1 + (!world->rough || world_random(world, 20)
					      ? world_random(world, 5)
					      : world_random(world, 3000)),
				 reach_etcd);
	http->number = happening->number = happening->order;
	happening->on_wire = TRUE;
	happening->thing = exchange_new(&like, body);
	if (world->etcd->away[like.member] && world_random(world, 2)) {
		late = answer_in(world, happening, 1, "")->thing;
		late->problem = (char *)"Connection refused";
		return;
	}
	late = answer_in(world, happening, timeout_ms, "")->thing;
	late->problem = (char *)"no answer in time";
	late->unknown = TRUE;
}

void __wrap_colo_http_cancel(colo_http *http);
void __wrap_colo_http_cancel(colo_http *http)
{
	http->number = 0;
}

void __wrap_colo_http_free(colo_http *http);
void __wrap_colo_http_free(colo_http *http)
{
	g_free(http);
}

/* Misfortunes. */

void world_arbiter_forgets(test_world *world)
{
	world_note(world, "the arbiter loses its record");
	world->etcd->there = FALSE;
}

void world_etcd_misfortune(test_world *world)
{
	const guint member = world_random(world, world->etcd->members);

	world->etcd->away[member] = world_random(world, 3) != 0;
	world_note(world, "etcd: member %u is %s", member,
		   world->etcd->away[member] ? "away" : "back");
}

void world_etcd_mend(test_world *world)
{
	memset(world->etcd->away, 0, sizeof(world->etcd->away));
}

void world_etcd_new(test_world *world)
{
	struct etcd_model *etcd = g_new0(struct etcd_model, 1);

	etcd->members = world_random(world, 2) ? MEMBERS : 1;
	for (guint i = 0; i < etcd->members; i++)
		etcd->endpoint[i] = g_strdup_printf("http://member%u:2379", i);
	etcd->revision = 1;
	world->etcd = etcd;
	world->pair.arbiter.endpoints = etcd->endpoint;
}

void world_etcd_free(test_world *world)
{
	for (guint i = 0; i < world->etcd->members; i++)
		g_free(world->etcd->endpoint[i]);
	g_free(world->etcd->value);
	g_free(world->etcd);
}
