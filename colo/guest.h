/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo-vm as its colod knows it: its command line, its life, what it is told and what it
 * tells. It is not started again by itself: what becomes of a guest is for the node to decide.
 * Main context; nothing waits for colo-vm.
 */
#ifndef COLO_GUEST_H
#define COLO_GUEST_H

#include <json-glib/json-glib.h>

#include "colo/node.h"
#include "colo/program.h"

typedef struct colo_guest colo_guest;

/* Called from the main loop. */
struct colo_guest_hooks {
	void (*news)(void *data, enum colo_vm_news news, const char *detail);
	/* Any other event of colo-vm's that people should hear of. */
	void (*event)(void *data, const char *name, const char *detail);
	void (*answered)(void *data, enum colo_word word, gboolean ok, const char *message);
	void (*epoch)(void *data, guint64 epoch);
	void (*gone)(void *data, const char *how);
	/* To colo_guest_adopt(): what was found, or NULL: it died, or does not answer. */
	void (*found)(void *data, const struct colo_vm_found *found);
};

colo_guest *colo_guest_new(const colo_pair *pair, guint self,
			   const struct colo_places *places,
			   const struct colo_guest_hooks *hooks, void *data);
/* colo-vm, if there is one, goes on. */
void colo_guest_free(colo_guest *guest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_guest, colo_guest_free)

/* Whether an earlier colod's colo-vm runs here; `found` is called then. */
gboolean colo_guest_adopt(colo_guest *guest);
/* Where none runs. */
void colo_guest_start(colo_guest *guest, gboolean standby);
void colo_guest_say(colo_guest *guest, enum colo_word word);
/* Tells it about the other host's clock, where it is there. */
void colo_guest_tell_clock(colo_guest *guest, gint64 offset_ns, guint64 error_ns);
/* "quit", and SIGKILL where it does not follow within 3 s; or SIGKILL at once. */
void colo_guest_end(colo_guest *guest, gboolean kill);

pid_t colo_guest_pid(const colo_guest *guest); /* 0: none */
/* The last answer to "status", at most a second or so old while it answers; borrowed, NULL:
 * none yet. */
JsonObject *colo_guest_status(const colo_guest *guest);
/* How long its status was not answered, in ms; 0 where it was lately. */
guint64 colo_guest_silent_ms(const colo_guest *guest);
/* Freed by the caller. */
char *colo_guest_console(const colo_guest *guest);
char *colo_guest_log(const colo_guest *guest);
char *colo_guest_outputs(const colo_guest *guest);

#endif
