/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * No arbiter: the pair file's survivor may go on alone after a loss, the other node may
 * not (kind none); or only an operator may say (kind manual). Neither keeps records.
 */
#include "colo/arbiter_kinds.h"

struct none {
	colo_arbiter arbiter;
	const colo_pair *pair;
	guint self;
	struct colo_arbiter_later later;
};

static void none_free(colo_arbiter *arbiter)
{
	struct none *none = (struct none *)arbiter;

	colo_arbiter_tell_never(&none->later);
	g_free(none);
}

static void none_cancel(colo_arbiter *arbiter)
{
	colo_arbiter_tell_never(&((struct none *)arbiter)->later);
}

static void none_read(colo_arbiter *arbiter, colo_arbiter_told told, void *data)
{
	struct none *none = (struct none *)arbiter;

	colo_arbiter_tell_later(&none->later, told, data, COLO_VERDICT_NO_RECORD, NULL,
				NULL);
}

static void none_claim(colo_arbiter *arbiter, guint64 generation,
		       colo_arbiter_told told, void *data)
{
	struct none *none = (struct none *)arbiter;
	const struct colo_arbiter_config *config = &none->pair->arbiter;
	const struct colo_arbiter_record record = { generation + 1, TRUE, none->self };
	const char *name = none->pair->node[none->self].name;
	char *why;

	if (config->kind == COLO_ARBITER_NONE && config->survivor == none->self) {
		colo_arbiter_tell_later(&none->later, told, data, COLO_VERDICT_GRANTED,
					&record, NULL);
		return;
	}
	if (config->kind == COLO_ARBITER_NONE)
		why = g_strdup_printf(
			"without an arbiter only %s may go on alone; if it is "
			"surely off, `colo promote --force` on %s",
			none->pair->node[config->survivor].name, name);
	else
		why = g_strdup_printf(
			"the operator decides: if %s is surely off, `colo "
			"promote --force` on %s",
			none->pair->node[!none->self].name, name);
	colo_arbiter_tell_later(&none->later, told, data, COLO_VERDICT_UNKNOWN, NULL,
				why);
}

static void none_protect(colo_arbiter *arbiter, guint64 generation,
			 colo_arbiter_told told, void *data)
{
	struct none *none = (struct none *)arbiter;
	const struct colo_arbiter_record record = { .generation = generation };

	colo_arbiter_tell_later(&none->later, told, data, COLO_VERDICT_GRANTED, &record,
				NULL);
}

static void none_create(colo_arbiter *arbiter, guint64 generation, gboolean force,
			colo_arbiter_told told, void *data)
{
	struct none *none = (struct none *)arbiter;
	const struct colo_arbiter_record record = { force ? generation : 1, TRUE,
						    none->self };

	colo_arbiter_tell_later(&none->later, told, data, COLO_VERDICT_GRANTED, &record,
				NULL);
}

static const struct colo_arbiter_ops none_ops = {
	.free = none_free,
	.read = none_read,
	.claim = none_claim,
	.protect = none_protect,
	.create = none_create,
	.cancel = none_cancel,
	.name = "none",
};

static const struct colo_arbiter_ops manual_ops = {
	.free = none_free,
	.read = none_read,
	.claim = none_claim,
	.protect = none_protect,
	.create = none_create,
	.cancel = none_cancel,
	.name = "manual",
};

colo_arbiter *colo_arbiter_none_new(const colo_pair *pair, guint self, GError **error)
{
	struct none *none = g_new0(struct none, 1);

	none->arbiter.ops =
		pair->arbiter.kind == COLO_ARBITER_NONE ? &none_ops : &manual_ops;
	none->pair = pair;
	none->self = self;
	return &none->arbiter;
}
