/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo-heartbeat as its colod knows it: kept running, told what to say, and heard. Main
 * context.
 */
#ifndef COLO_BEAT_H
#define COLO_BEAT_H

#include "colo/pair.h"
#include "colo/program.h"
#include "heartbeat/local.h"

typedef struct colo_beat colo_beat;

/* A report of its; valid during the call. */
typedef void (*colo_beat_fn)(void *data, const struct hb_report *report);

/* Starts it. All but the names outlives it. */
colo_beat *colo_beat_new(const colo_pair *pair, guint self, const struct colo_places *places,
			 colo_beat_fn fn, void *data);
/* The daemon goes on for a while, so that a new colod is not taken for a dead node. */
void colo_beat_free(colo_beat *beat);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_beat, colo_beat_free)

/* What it is to say from now on: at once, and every 250 ms by itself. */
void colo_beat_tell(colo_beat *beat, const struct hb_self *self);
/* Ends the daemon, which says goodbye. */
void colo_beat_end(colo_beat *beat);

const struct hb_report *colo_beat_report(const colo_beat *beat); /* NULL: none yet */
const colo_program *colo_beat_program(const colo_beat *beat);

#endif
