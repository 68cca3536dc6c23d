/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arguments of a control command, judged one by one. Each function returns FALSE when it
 * has answered "bad-request"; an argument that is not there leaves `*value` as it is.
 */
#ifndef CKPT_ARGUMENTS_H
#define CKPT_ARGUMENTS_H

#include "kvm/protocol.h"

/* Text that is not empty; borrowed from `arguments`. */
gboolean ckpt_argument_text(JsonObject *arguments, const char *name, const char **value,
			    vmm_answer *answer);
/* A whole number from `min` to `max`. */
gboolean ckpt_argument_number(JsonObject *arguments, const char *name, guint64 min,
			      guint64 max, guint64 *value, vmm_answer *answer);
gboolean ckpt_argument_signed(JsonObject *arguments, const char *name, gint64 min, gint64 max,
			      gint64 *value, vmm_answer *answer);
gboolean ckpt_argument_switch(JsonObject *arguments, const char *name, gboolean *value,
			      vmm_answer *answer);
/* One of `words`, ended by NULL: its index. */
gboolean ckpt_argument_word(JsonObject *arguments, const char *name,
			    const char *const *words, guint *value, vmm_answer *answer);

#endif
