/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What etcd's v3 JSON gateway answers, and the record of a pair as it is kept there.
 * Every byte of an answer is hostile: what is not exactly as expected is refused with
 * one line in
 * `*why`, printable, the caller's to free. Any thread.
 */
#ifndef COLO_ETCD_ANSWER_H
#define COLO_ETCD_ANSWER_H

#include "colo/arbiter.h"

#define COLO_ETCD_GENERATION_MAX \
	(G_GUINT64_CONSTANT(1) << 53) /* what JSON carries safely */

/* What a key holds. */
struct colo_etcd_kv {
	gboolean there;
	gint64 mod_revision; /* 0 if not there */
	gboolean good; /* the value is a record of these nodes, */
	struct colo_arbiter_record record; /* this one; else */
	gboolean foreign; /* one of other nodes, or nothing that colo wrote: */
	char *problem; /* what is wrong with it */
};

void colo_etcd_kv_clear(struct colo_etcd_kv *kv);

/* The text of a record; the caller's to free. */
char *colo_etcd_value(const char *const names[COLO_NODES],
		      const struct colo_arbiter_record *record);

/* /v3/kv/range of `key`. */
gboolean colo_etcd_parse_range(const char *text, gsize length, const char *key,
			       const char *const names[COLO_NODES],
			       struct colo_etcd_kv *kv,
			       char **why) G_GNUC_WARN_UNUSED_RESULT;
/* /v3/kv/txn with one put as success and one range of `key` as failure; `kv` is what
 * the range found, if it did not succeed. */
gboolean colo_etcd_parse_txn(const char *text, gsize length, const char *key,
			     const char *const names[COLO_NODES], gboolean *succeeded,
			     struct colo_etcd_kv *kv,
			     char **why) G_GNUC_WARN_UNUSED_RESULT;
/* /v3/auth/authenticate: a token fit for a header, the caller's to free; or NULL. */
char *colo_etcd_parse_token(const char *text, gsize length,
			    char **why) G_GNUC_WARN_UNUSED_RESULT;
/* What came with a status that is not 200: one line, the caller's to free. `no_token`:
 * the token is not, or no more, known. */
char *colo_etcd_parse_error(guint status, const char *text, gsize length,
			    gboolean *no_token) G_GNUC_WARN_UNUSED_RESULT;

#endif
