/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A saved machine state without its memory: a sequence of named, versioned sections.
 * The format is base/wire.h's `wire_state_header`.
 *
 * Loading is in two passes over all sections, VMM_LOAD_CHECK and then VMM_LOAD_APPLY:
 * the first refuses whatever cannot be loaded here and changes nothing; the second
 * cannot fail for a reason that the first could have seen.
 */
#ifndef VMM_STATE_H
#define VMM_STATE_H

#include <glib.h>

#include "base/wire.h"

typedef struct vmm_state vmm_state;

enum vmm_load { VMM_LOAD_CHECK, VMM_LOAD_APPLY };

/* One field of a section's payload, so that a difference can be named. */
struct vmm_state_field {
	const char *name;
	guint32 offset;
	guint32 size;
};
#define VMM_STATE_FIELD(type, member)                                                    \
	{ #member, G_STRUCT_OFFSET(type, member), sizeof(((type *)0)->member) }

vmm_state *vmm_state_new(void);
void vmm_state_free(vmm_state *state);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_state, vmm_state_free)
/* Empties a state, keeping its storage for the next one. */
void vmm_state_reset(vmm_state *state);

/* Appends a copy of `data`. A name and instance may be used once. `len` is at most
 * WIRE_SECTION_MAX. `fields` (static, ended by a NULL name; or NULL) name its parts. */
void vmm_state_put(vmm_state *state, const char *name, guint instance, guint version,
		   const void *data, gsize len, const struct vmm_state_field *fields);

/* The payload of a section; NULL with VMM_ERROR_STATE where there is none, or its
 * version is not `version`, or its length is not between `min` and `max`. The pointer
 * is 8-aligned and lives as long as the state. Marks the section as used. */
const void *vmm_state_get(const vmm_state *state, const char *name, guint instance,
			  guint version, gsize min, gsize max, gsize *len, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;
gboolean vmm_state_has(const vmm_state *state, const char *name, guint instance);
/* FALSE where a section was never asked for since parsing: it is of something that this
 * machine does not have. */
gboolean vmm_state_all_used(const vmm_state *state, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/* The finished bytes, header included; owned by the state, until it changes. */
const guint8 *vmm_state_bytes(vmm_state *state, gsize *len);
/* Judges and copies `len` bytes from outside. */
vmm_state *vmm_state_parse(const void *bytes, gsize len, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/* NULL where both are equal, else the first difference in words: section, instance,
 * and field where `a`'s fields are known. Caller frees. */
char *vmm_state_difference(const vmm_state *a, const vmm_state *b);

/* FALSE where a difference at that byte of a section's payload means nothing. May set
 * `name`, for what has no field's name; freed by the caller. */
typedef gboolean (*vmm_state_judge)(const char *section, const guint8 *payload, gsize at,
				    char **name);
/* The same for all differences that mean something, the first `max` by name. */
char *vmm_state_differences(const vmm_state *a, const vmm_state *b, vmm_state_judge judge,
			    guint max);

#endif
