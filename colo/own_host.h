/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a state directory is this host's own. A generation file says which copy of the guest
 * may be started; on another host it says so of a copy that is not there, and two hosts would
 * take themselves for the same node. So the directory has a file `host` with what tells this
 * host from others: the hardware's number, and the machine id of its system.
 */
#ifndef COLO_OWN_HOST_H
#define COLO_OWN_HOST_H

#include <glib.h>

/* Where a host's numbers are. Either may not be there. */
struct colo_host_numbers {
	/* Files. What many boards of a maker have in common is no number. */
	const char *hardware, *system;
};

/* TRUE where the directory is this host's, or was nobody's before: then it is marked. Where the
 * hardware's number is known, now and then, that alone counts: a system may be installed anew.
 * COLO_ERROR_CONFIG, with what to do, where it is another host's. `numbers`: NULL for this
 * host's. Main thread; a few short reads. */
gboolean colo_own_host(const char *state_dir, const struct colo_host_numbers *numbers,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
