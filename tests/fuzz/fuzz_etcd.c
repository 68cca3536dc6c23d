/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What etcd, or whoever stands in its place, answers: refused with one printable line,
 * or a record that is within bounds. The first byte says to what it answers, and
 * whether the rest is the record alone, put where it belongs.
 */
#include "colo/etcd_answer.h"

#include <string.h>

static const char *const names[COLO_NODES] = { "alpha", "beta" };

static void check_line(const char *why)
{
	g_assert(why && why[0]);
	for (; *why; why++)
		g_assert(g_ascii_isprint(*why));
}

static void check_kv(struct colo_etcd_kv *kv)
{
	g_assert(kv->there == (kv->mod_revision > 0));
	g_assert(!kv->good || (kv->there && !kv->foreign && !kv->problem));
	if (kv->good) {
		g_autofree char *text = colo_etcd_value(names, &kv->record);

		g_assert(kv->record.generation >= 1 &&
			 kv->record.generation <= COLO_ETCD_GENERATION_MAX);
		g_assert(kv->record.owner < COLO_NODES);
		g_assert(strlen(text) < 100);
	} else if (kv->there) {
		check_line(kv->problem);
	}
	colo_etcd_kv_clear(kv);
}

/* An answer around a record of any bytes. */
static char *wrap(guint kind, const char *value, gsize length)
{
	g_autofree char *value64 = g_base64_encode((const guchar *)value, length);
	g_autofree char *kvs =
		g_strdup_printf("\"kvs\":[{\"key\":\"c2hvcA==\","
				"\"mod_revision\":\"7\",\"value\":\"%s\"}]",
				value64);

	if (kind == 0)
		return g_strdup_printf("{\"header\":{\"revision\":\"9\"},%s}", kvs);
	return g_strdup_printf("{\"header\":{\"revision\":\"9\"},\"responses\":"
			       "[{\"response_range\":{%s}}]}",
			       kvs);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);
int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	g_autofree char *text = NULL, *why = NULL, *token = NULL;
	struct colo_etcd_kv kv = { 0 };
	gboolean succeeded, no_token, good;
	gsize length;

	if (!size)
		return 0;
	length = size - 1;
	if (data[0] & 0x80) {
		text = wrap(data[0] & 3, (const char *)data + 1, length);
		length = strlen(text);
	} else {
		text = g_memdup2(data + 1, length);
	}
	switch (data[0] & 3) {
	case 0:
		good = colo_etcd_parse_range(text, length, "shop", names, &kv, &why);
		g_assert(good == !why);
		check_kv(&kv);
		break;
	case 1:
		good = colo_etcd_parse_txn(text, length, "shop", names, &succeeded, &kv,
					   &why);
		g_assert(good == !why && (good || !succeeded));
		check_kv(&kv);
		break;
	case 2:
		token = colo_etcd_parse_token(text, length, &why);
		g_assert(!token == !!why);
		if (token)
			check_line(token);
		break;
	default:
		why = colo_etcd_parse_error(data[0], text, length, &no_token);
		break;
	}
	if (why)
		check_line(why);
	return 0;
}
