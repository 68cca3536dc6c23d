/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What colod says of its node, as JSON; colod(8) describes it. Nothing here waits. */
#ifndef COLO_STATUS_H
#define COLO_STATUS_H

#include <json-glib/json-glib.h>

#include "colo/beat.h"
#include "colo/guard.h"
#include "colo/guest.h"
#include "colo/node.h"
#include "colo/peer.h"

struct colo_status_sources {
	const colo_pair *pair;
	guint self;
	const colo_node *node;
	guint64 now_ms; /* on the node's clock */
	const colo_guest *guest;
	const colo_beat *beat;
	const colo_guard *guard; /* NULL: nothing is compared */
	const colo_peer *peer;
	const char *arbiter; /* its kind */
};

/* The caller's. */
JsonObject *colo_status(const struct colo_status_sources *sources);
/* "protected, primary alpha, generation 7": for systemd. The caller's. */
char *colo_status_line(const struct colo_status_sources *sources);

#endif
