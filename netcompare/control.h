/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The comparator's control socket (base/control.h): it answers `status` and `quit`. In
 * the main context that is the thread's default.
 */
#ifndef NCMP_CONTROL_H
#define NCMP_CONTROL_H

#include "base/protocol.h"
#include "netcompare/error.h"

struct ncmp_control_hooks {
	void *data;
	JsonObject *(*status)(void *data);
	/* After its answer was sent. */
	void (*quit)(void *data);
};

typedef struct ncmp_control ncmp_control;

/* Listens on `path`, for its owner only; a socket that nobody listens on is replaced.
 */
ncmp_control *ncmp_control_new(const char *path, const struct ncmp_control_hooks *hooks,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;
void ncmp_control_free(ncmp_control *control);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_control, ncmp_control_free)

/* The commands without a socket; `hooks` must outlive whoever uses them. */
struct base_commands ncmp_control_commands(const struct ncmp_control_hooks *hooks);

#endif
