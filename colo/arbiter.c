/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arbiters: choosing one, and answers that need nobody to be asked. */
#include "colo/arbiter.h"

#include "colo/arbiter_kinds.h"

static gboolean tell_now(gpointer data)
{
	struct colo_arbiter_later *later = data;
	struct colo_arbiter_later now = *later;

	/* Whoever is told may ask again, or free it all. */
	*later = (struct colo_arbiter_later){ 0 };
	now.told(now.data, now.verdict, now.has_record ? &now.record : NULL, now.why);
	g_free(now.why);
	return G_SOURCE_REMOVE;
}

void colo_arbiter_tell_later(struct colo_arbiter_later *later, colo_arbiter_told told,
			     void *data, enum colo_verdict verdict,
			     const struct colo_arbiter_record *record, char *why_take)
{
	g_assert(!later->source);
	*later = (struct colo_arbiter_later){ .told = told,
					      .data = data,
					      .verdict = verdict,
					      .has_record = record != NULL,
					      .why = why_take };
	if (record)
		later->record = *record;
	later->source = g_idle_add_full(G_PRIORITY_DEFAULT, tell_now, later, NULL);
}

void colo_arbiter_tell_never(struct colo_arbiter_later *later)
{
	if (later->source)
		g_source_remove(later->source);
	g_free(later->why);
	*later = (struct colo_arbiter_later){ 0 };
}

colo_arbiter *colo_arbiter_new(const colo_pair *pair, guint self, GError **error)
{
	g_assert(self < COLO_NODES);
	switch (pair->arbiter.kind) {
	case COLO_ARBITER_ETCD:
		return colo_arbiter_etcd_new(pair, self, error);
	case COLO_ARBITER_FENCE:
		return colo_arbiter_fence_new(pair, self, error);
	case COLO_ARBITER_NONE:
	case COLO_ARBITER_MANUAL:
		return colo_arbiter_none_new(pair, self, error);
	}
	g_assert_not_reached();
}

void colo_arbiter_free(colo_arbiter *arbiter)
{
	if (arbiter)
		arbiter->ops->free(arbiter);
}
