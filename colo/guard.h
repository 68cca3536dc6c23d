/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo-netcompare as its colod knows it: kept running as long as the pair is served, since
 * nothing goes out without it. Main context.
 */
#ifndef COLO_GUARD_H
#define COLO_GUARD_H

#include <json-glib/json-glib.h>

#include "colo/pair.h"
#include "colo/program.h"

typedef struct colo_guard colo_guard;

/* Starts it, or adopts the one that runs. `event` hears of its ends. All outlives it. */
colo_guard *colo_guard_new(const colo_pair *pair, const struct colo_places *places,
			   void (*event)(void *data, const char *name, const char *detail),
			   void *data);
/* It goes on. */
void colo_guard_free(colo_guard *guard);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_guard, colo_guard_free)

/* Ends it. Its rule stays: nothing of the guest's goes out. */
void colo_guard_end(colo_guard *guard);

/* The last answer to "status"; borrowed; NULL: none. */
JsonObject *colo_guard_status(const colo_guard *guard);
const colo_program *colo_guard_program(const colo_guard *guard);

#endif
