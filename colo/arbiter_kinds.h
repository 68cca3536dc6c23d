/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kinds of arbiters, for colo/arbiter.c alone. What comes next: Pacemaker. */
#ifndef COLO_ARBITER_KINDS_H
#define COLO_ARBITER_KINDS_H

#include "colo/arbiter.h"

/* As colo_arbiter_new(). */
colo_arbiter *colo_arbiter_etcd_new(const colo_pair *pair, guint self,
				    GError **error) G_GNUC_WARN_UNUSED_RESULT;
colo_arbiter *colo_arbiter_fence_new(const colo_pair *pair, guint self,
				     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Of kinds none and manual. */
colo_arbiter *colo_arbiter_none_new(const colo_pair *pair, guint self,
				    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* An answer that is known at once, given from the main loop. */
struct colo_arbiter_later {
	guint source; /* 0: none */
	colo_arbiter_told told;
	void *data;
	enum colo_verdict verdict;
	gboolean has_record;
	struct colo_arbiter_record record;
	char *why;
};

/* Takes `why`, which may be NULL; copies `record`, which may be NULL. */
void colo_arbiter_tell_later(struct colo_arbiter_later *later, colo_arbiter_told told,
			     void *data, enum colo_verdict verdict,
			     const struct colo_arbiter_record *record, char *why_take);
void colo_arbiter_tell_never(struct colo_arbiter_later *later);

#endif
