/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arbiter on etcd, by its v3 JSON gateway.
 *
 * One key holds the pair's record; every change is a transaction on what it held, so
 * that of two nodes one wins, and asking again after a lost answer finds what was asked
 * for. Readings are linearizable, etcd's default.
 *
 * An operation is attempted at one endpoint after the other, the one that answered last
 * first. An attempt has a part of the operation's time; the next round gives each twice
 * as long, so that both an endpoint that is dead and one that is slow cost little. It
 * ends when the time is over, or after a round in which nobody kept us waiting.
 *
 * A transaction that was given up may still take effect, late: it then finds what it
 * expected, or does nothing. That is why even force compares with what was just read.
 */
#include <json-glib/json-glib.h>
#include <string.h>

#include "base/clock.h"
#include "colo/arbiter_kinds.h"
#include "colo/etcd_answer.h"
#include "colo/http.h"
#include "colo/secret.h"

#define ATTEMPT_MAX_MS 500u /* in the first round */
#define ROUNDS_MAX 8u
#define PASSWORD_MAX 1024u
#define WHY_MAX 1024u
#define NS_PER_MS 1000000u

enum operation {
	NOTHING,
	READ,
	CLAIM,
	PROTECT,
	CREATE,
	FORCE,
};

struct etcd {
	colo_arbiter arbiter;
	const colo_pair *pair;
	guint self;
	const char *names[COLO_NODES];
	char *key;
	guint endpoints;
	char **problems; /* of each endpoint, in this operation */
	guint best; /* answered last */
	colo_http *http;
	colo_secret *login; /* body of the request for a token; NULL: none is needed */
	char *token;

	enum operation operation;
	guint64 generation;
	colo_arbiter_told told;
	void *data;
	guint64 deadline_ns, attempt_deadline_ns;
	guint attempt; /* how many before this one */
	gboolean waited; /* for somebody who did not answer, in this round */
	gboolean fresh_token; /* got in this attempt */
	char *body;
	void (*answered)(struct etcd *etcd, const char *body, gsize length);
	struct colo_arbiter_record wanted; /* what the transaction under way puts */
};

static void begin_attempt(struct etcd *etcd);

static guint endpoint_now(const struct etcd *etcd)
{
	return (etcd->best + etcd->attempt) % etcd->endpoints;
}

static void forget(struct etcd *etcd)
{
	etcd->operation = NOTHING;
	for (guint i = 0; i < etcd->endpoints; i++)
		g_clear_pointer(&etcd->problems[i], g_free);
	g_clear_pointer(&etcd->body, g_free);
}

/* The last thing that whoever calls it does: `etcd` may be gone, or asked anew. */
static void finish(struct etcd *etcd, enum colo_verdict verdict,
		   const struct colo_arbiter_record *record, const char *why)
{
	struct colo_arbiter_record copy;

	if (record)
		copy = *record;
	forget(etcd);
	etcd->told(etcd->data, verdict, record ? &copy : NULL, why);
}

static void finish_unreachable(struct etcd *etcd)
{
	g_autoptr(GString) why = g_string_new("no etcd endpoint could be used");

	for (guint i = 0; i < etcd->endpoints; i++) {
		const char *problem = etcd->problems[i];

		g_string_append_printf(why, "%s %s: %s", i ? ";" : ":",
				       etcd->pair->arbiter.endpoints[i],
				       problem ? problem
					       : "not tried, no time was left");
	}
	if (why->len > WHY_MAX)
		g_string_truncate(why, WHY_MAX);
	finish(etcd, COLO_VERDICT_UNREACHABLE, NULL, why->str);
}

static guint left_ms(guint64 deadline_ns)
{
	guint64 now = base_clock_monotonic_ns();

	return now >= deadline_ns
		       ? 0
		       : (guint)((deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS);
}

/* This endpoint is of no use now. */
static void next_attempt(struct etcd *etcd, const char *problem)
{
	guint endpoint = endpoint_now(etcd);

	g_free(etcd->problems[endpoint]);
	etcd->problems[endpoint] = g_strdup(problem);
	etcd->attempt++;
	if (etcd->attempt % etcd->endpoints == 0) {
		if (!etcd->waited || etcd->attempt >= ROUNDS_MAX * etcd->endpoints) {
			finish_unreachable(etcd);
			return;
		}
		etcd->waited = FALSE;
	}
	if (!left_ms(etcd->deadline_ns)) {
		finish_unreachable(etcd);
		return;
	}
	begin_attempt(etcd);
}

static void got_answer(void *data, const char *problem, gboolean unknown, guint status,
		       const char *body, gsize length)
{
	struct etcd *etcd = data;
	g_autofree char *error = NULL;
	gboolean no_token = FALSE;

	etcd->waited |= unknown;
	if (problem) {
		next_attempt(etcd, problem);
		return;
	}
	if (status == 200) {
		etcd->answered(etcd, body, length);
		return;
	}
	error = colo_etcd_parse_error(status, body, length, &no_token);
	if (no_token)
		g_clear_pointer(&etcd->token, g_free);
	if (no_token && etcd->login && !etcd->fresh_token) {
		/* It was forgotten, as those are that nobody uses. Once more with
		 * another. */
		begin_attempt(etcd);
		return;
	}
	next_attempt(etcd, error);
}

static void post(struct etcd *etcd, const char *path, const char *body, gsize length,
		 void (*answered)(struct etcd *etcd, const char *body, gsize length))
{
	const char *endpoint = etcd->pair->arbiter.endpoints[endpoint_now(etcd)];
	g_autofree char *url = g_strconcat(
		endpoint, g_str_has_suffix(endpoint, "/") ? "" : "/", path, NULL);

	etcd->answered = answered;
	colo_http_post(etcd->http, url, etcd->token, body, length,
		       left_ms(MIN(etcd->attempt_deadline_ns, etcd->deadline_ns)),
		       got_answer, etcd);
}

/* What follows in this operation is asked there too. */
static void good_answer(struct etcd *etcd)
{
	etcd->best = endpoint_now(etcd);
	etcd->attempt = 0;
}

static char *encode(const char *text)
{
	return g_base64_encode((const guchar *)text, strlen(text));
}

static gboolean same(const struct colo_arbiter_record *one,
		     const struct colo_arbiter_record *other)
{
	return one->generation == other->generation && one->solo == other->solo &&
	       (!one->solo || one->owner == other->owner);
}

/* What the operation starts from and leads to. */
static struct colo_arbiter_record record_before(const struct etcd *etcd)
{
	return (struct colo_arbiter_record){ etcd->generation,
					     etcd->operation == PROTECT,
					     etcd->operation == PROTECT ? etcd->self
									: 0 };
}

static struct colo_arbiter_record record_after(const struct etcd *etcd)
{
	struct colo_arbiter_record record = { etcd->generation, TRUE, etcd->self };

	if (etcd->operation == CLAIM)
		record.generation++;
	if (etcd->operation == PROTECT)
		record = (struct colo_arbiter_record){ .generation = etcd->generation };
	return record;
}

static char *describe(const struct etcd *etcd, const struct colo_arbiter_record *record)
{
	if (record->solo)
		return g_strdup_printf("etcd says that %s runs alone at generation "
				       "%" G_GUINT64_FORMAT,
				       etcd->names[record->owner], record->generation);
	return g_strdup_printf("etcd says that both are protected at generation "
			       "%" G_GUINT64_FORMAT,
			       record->generation);
}

static void txn_answered(struct etcd *etcd, const char *body, gsize length);

/* Puts what is wanted if `compare` holds, else reads. */
static void begin_txn(struct etcd *etcd, const char *compare)
{
	g_autofree char *key = encode(etcd->key);
	g_autofree char *value = NULL, *value64 = NULL;

	etcd->wanted = record_after(etcd);
	value = colo_etcd_value(etcd->names, &etcd->wanted);
	value64 = encode(value);
	g_free(etcd->body);
	etcd->body = g_strdup_printf(
		"{\"compare\":[{\"key\":\"%s\",\"result\":\"EQUAL\",%s}],"
		"\"success\":[{\"request_put\":{\"key\":\"%s\",\"value\":\"%s\"}}],"
		"\"failure\":[{\"request_range\":{\"key\":\"%s\"}}]}",
		key, compare, key, value64, key);
	post(etcd, "v3/kv/txn", etcd->body, strlen(etcd->body), txn_answered);
}

static void begin_txn_at_revision(struct etcd *etcd, gint64 revision)
{
	g_autofree char *compare = g_strdup_printf(
		"\"target\":\"MOD\",\"mod_revision\":\"%" G_GINT64_FORMAT "\"",
		revision);

	begin_txn(etcd, compare);
}

/* The transaction found something else than it expected. */
static void judge_found(struct etcd *etcd, const struct colo_etcd_kv *kv)
{
	const struct colo_arbiter_record before = record_before(etcd);
	const struct colo_arbiter_record after = record_after(etcd);
	const struct colo_arbiter_record own_before = { etcd->generation, TRUE,
							etcd->self };
	g_autofree char *why = NULL;

	if (kv->good && same(&kv->record, &after)) {
		/* By us: the answer was lost. */
		finish(etcd, COLO_VERDICT_GRANTED, &kv->record, NULL);
		return;
	}
	if (etcd->operation == FORCE) {
		begin_txn_at_revision(etcd, kv->mod_revision);
		return;
	}
	if (etcd->operation == CREATE && !kv->there) {
		/* Removed between comparing and reading: not possible in one
		 * transaction. */
		next_attempt(etcd, "an answer that contradicts itself");
		return;
	}
	if (!kv->there) {
		finish(etcd, COLO_VERDICT_NO_RECORD, NULL,
		       "etcd has no record of the pair");
		return;
	}
	if (kv->foreign) {
		finish(etcd, COLO_VERDICT_DENIED, NULL, kv->problem);
		return;
	}
	if (!kv->good) {
		next_attempt(etcd, kv->problem);
		return;
	}
	if (etcd->operation != CREATE &&
	    (same(&kv->record, &before) ||
	     (etcd->operation == CLAIM && same(&kv->record, &own_before)))) {
		/* As expected, written in other words; or alone, which becomes alone
		 * anew. */
		begin_txn_at_revision(etcd, kv->mod_revision);
		return;
	}
	why = describe(etcd, &kv->record);
	finish(etcd, COLO_VERDICT_DENIED, &kv->record, why);
}

static void txn_answered(struct etcd *etcd, const char *body, gsize length)
{
	struct colo_etcd_kv kv;
	g_autofree char *why = NULL;
	gboolean succeeded;

	if (!colo_etcd_parse_txn(body, length, etcd->key, etcd->names, &succeeded, &kv,
				 &why)) {
		next_attempt(etcd, why);
		return;
	}
	if (succeeded || kv.good || !kv.there)
		good_answer(etcd);
	if (succeeded) {
		finish(etcd, COLO_VERDICT_GRANTED, &etcd->wanted, NULL);
		return;
	}
	judge_found(etcd, &kv);
	colo_etcd_kv_clear(&kv);
}

static void range_answered(struct etcd *etcd, const char *body, gsize length)
{
	struct colo_etcd_kv kv;
	g_autofree char *why = NULL;

	if (!colo_etcd_parse_range(body, length, etcd->key, etcd->names, &kv, &why)) {
		next_attempt(etcd, why);
		return;
	}
	if (kv.good || !kv.there)
		good_answer(etcd);
	if (etcd->operation == FORCE) {
		judge_found(etcd, &kv);
	} else if (!kv.there) {
		finish(etcd, COLO_VERDICT_NO_RECORD, NULL,
		       "etcd has no record of the pair");
	} else if (kv.foreign) {
		finish(etcd, COLO_VERDICT_DENIED, NULL, kv.problem);
	} else if (!kv.good) {
		next_attempt(etcd, kv.problem);
	} else {
		finish(etcd, COLO_VERDICT_RECORD, &kv.record, NULL);
	}
	colo_etcd_kv_clear(&kv);
}

static void begin_request(struct etcd *etcd)
{
	g_autofree char *key = encode(etcd->key);
	g_autofree char *value = NULL, *value64 = NULL, *compare = NULL;
	struct colo_arbiter_record before = record_before(etcd);

	switch (etcd->operation) {
	case READ:
	case FORCE:
		g_free(etcd->body);
		etcd->body = g_strdup_printf("{\"key\":\"%s\"}", key);
		post(etcd, "v3/kv/range", etcd->body, strlen(etcd->body),
		     range_answered);
		break;
	case CLAIM:
	case PROTECT:
		value = colo_etcd_value(etcd->names, &before);
		value64 = encode(value);
		compare = g_strdup_printf("\"target\":\"VALUE\",\"value\":\"%s\"",
					  value64);
		begin_txn(etcd, compare);
		break;
	case CREATE:
		begin_txn(etcd, "\"target\":\"CREATE\",\"create_revision\":\"0\"");
		break;
	case NOTHING:
		g_assert_not_reached();
	}
}

static void token_answered(struct etcd *etcd, const char *body, gsize length)
{
	g_autofree char *why = NULL;

	etcd->token = colo_etcd_parse_token(body, length, &why);
	if (!etcd->token) {
		next_attempt(etcd, why);
		return;
	}
	etcd->fresh_token = TRUE;
	begin_request(etcd);
}

static void begin_attempt(struct etcd *etcd)
{
	guint total_ms = etcd->pair->arbiter.timeout_ms;
	guint64 part_ms = MIN(MAX(total_ms / (etcd->endpoints + 1), 1), ATTEMPT_MAX_MS);
	gsize length;
	const char *login;

	part_ms <<= MIN(etcd->attempt / etcd->endpoints, 20);
	etcd->attempt_deadline_ns = base_clock_monotonic_ns() + part_ms * NS_PER_MS;
	etcd->fresh_token = FALSE;
	if (!etcd->login || etcd->token) {
		begin_request(etcd);
		return;
	}
	login = colo_secret_text(etcd->login, &length);
	post(etcd, "v3/auth/authenticate", login, length, token_answered);
}

static void begin(colo_arbiter *arbiter, enum operation operation, guint64 generation,
		  colo_arbiter_told told, void *data)
{
	struct etcd *etcd = (struct etcd *)arbiter;

	g_assert(etcd->operation == NOTHING && generation < COLO_ETCD_GENERATION_MAX);
	etcd->operation = operation;
	etcd->generation = generation;
	etcd->told = told;
	etcd->data = data;
	etcd->attempt = 0;
	etcd->waited = FALSE;
	etcd->deadline_ns = base_clock_monotonic_ns() +
			    (guint64)etcd->pair->arbiter.timeout_ms * NS_PER_MS;
	begin_attempt(etcd);
}

static void etcd_read(colo_arbiter *arbiter, colo_arbiter_told told, void *data)
{
	begin(arbiter, READ, 0, told, data);
}

static void etcd_claim(colo_arbiter *arbiter, guint64 generation,
		       colo_arbiter_told told, void *data)
{
	begin(arbiter, CLAIM, generation, told, data);
}

static void etcd_protect(colo_arbiter *arbiter, guint64 generation,
			 colo_arbiter_told told, void *data)
{
	begin(arbiter, PROTECT, generation, told, data);
}

static void etcd_create(colo_arbiter *arbiter, guint64 generation, gboolean force,
			colo_arbiter_told told, void *data)
{
	begin(arbiter, force ? FORCE : CREATE, force ? generation : 1, told, data);
}

static void etcd_cancel(colo_arbiter *arbiter)
{
	struct etcd *etcd = (struct etcd *)arbiter;

	colo_http_cancel(etcd->http);
	forget(etcd);
}

static void etcd_free(colo_arbiter *arbiter)
{
	struct etcd *etcd = (struct etcd *)arbiter;

	colo_http_free(etcd->http);
	forget(etcd);
	colo_secret_free(etcd->login);
	if (etcd->token)
		explicit_bzero(etcd->token, strlen(etcd->token));
	g_free(etcd->token);
	g_free(etcd->problems);
	g_free(etcd->key);
	g_free(etcd);
}

static const struct colo_arbiter_ops etcd_ops = {
	.free = etcd_free,
	.read = etcd_read,
	.claim = etcd_claim,
	.protect = etcd_protect,
	.create = etcd_create,
	.cancel = etcd_cancel,
	.keeps_records = TRUE,
	.name = "etcd",
};

static gboolean append_json(colo_secret *to, const char *text, gsize length)
{
	gboolean good = colo_secret_append(to, "\"", 1);

	for (gsize i = 0; i < length; i++) {
		if (text[i] == '"' || text[i] == '\\')
			good = good && colo_secret_append(to, "\\", 1);
		good = good && colo_secret_append(to, text + i, 1);
	}
	return good && colo_secret_append(to, "\"", 1);
}

/* {"name":..., "password":...}, which never is anywhere but in a secret's memory. */
static colo_secret *make_login(const struct colo_arbiter_config *config, GError **error)
{
	g_autoptr(colo_secret) password =
		colo_secret_read("password file", config->password_file, error);
	g_autoptr(colo_secret) login = password ? colo_secret_new(error) : NULL;
	const char *text;
	gsize length;

	if (!login)
		return NULL;
	text = colo_secret_text(password, &length);
	if (length && text[length - 1] == '\n')
		length--;
	for (gsize i = 0; i < length; i++) {
		if (g_ascii_iscntrl(text[i]))
			length = 0;
	}
	if (!length || length > PASSWORD_MAX ||
	    !g_utf8_validate(text, (gssize)length, NULL)) {
		g_set_error(
			error, COLO_ERROR, COLO_ERROR_CONFIG,
			"password file %s must be one line of 1 to %u bytes of UTF-8",
			config->password_file, PASSWORD_MAX);
		return NULL;
	}
	if (!colo_secret_append(login, "{\"name\":", 8) ||
	    !append_json(login, config->user, strlen(config->user)) ||
	    !colo_secret_append(login, ",\"password\":", 12) ||
	    !append_json(login, text, length) || !colo_secret_append(login, "}", 1)) {
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
			    "etcd's user name is too long");
		return NULL;
	}
	return g_steal_pointer(&login);
}

static gboolean check_config(const struct colo_arbiter_config *config, GError **error)
{
	const char *const files[] = { config->ca, config->cert };

	if (!config->endpoints || !config->endpoints[0] || !config->timeout_ms) {
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
			    "etcd needs endpoints and a timeout");
		return FALSE;
	}
	for (guint i = 0; config->endpoints[i]; i++) {
		if (strchr(config->endpoints[i], '@')) {
			g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
				    "etcd's endpoint %u must not have a user or "
				    "password in "
				    "it: use user and a password file",
				    i + 1);
			return FALSE;
		}
	}
	for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
		g_autofree char *text = NULL;
		GError *reason = NULL;

		if (!files[i] || g_file_get_contents(files[i], &text, NULL, &reason))
			continue;
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
			    "read certificate %s: %s", files[i], reason->message);
		g_error_free(reason);
		return FALSE;
	}
	if (!config->user != !config->password_file) {
		g_set_error(error, COLO_ERROR, COLO_ERROR_CONFIG,
			    "etcd's user and password file go together");
		return FALSE;
	}
	return !config->cert_key || colo_secret_check_file("key of the certificate",
							   config->cert_key, error);
}

colo_arbiter *colo_arbiter_etcd_new(const colo_pair *pair, guint self, GError **error)
{
	const struct colo_arbiter_config *config = &pair->arbiter;
	const struct colo_http_tls tls = { config->ca, config->cert, config->cert_key };
	g_autoptr(colo_secret) login = NULL;
	g_autoptr(colo_http) http = NULL;
	struct etcd *etcd;

	if (!check_config(config, error))
		return NULL;
	if (config->user) {
		login = make_login(config, error);
		if (!login)
			return NULL;
	}
	http = colo_http_new(&tls, error);
	if (!http)
		return NULL;
	etcd = g_new0(struct etcd, 1);
	etcd->arbiter.ops = &etcd_ops;
	etcd->pair = pair;
	etcd->self = self;
	for (guint i = 0; i < COLO_NODES; i++)
		etcd->names[i] = pair->node[i].name;
	etcd->key = g_strconcat(config->prefix ? config->prefix : "", pair->name, NULL);
	etcd->endpoints = g_strv_length(config->endpoints);
	etcd->problems = g_new0(char *, etcd->endpoints);
	etcd->http = g_steal_pointer(&http);
	etcd->login = g_steal_pointer(&login);
	return &etcd->arbiter;
}
