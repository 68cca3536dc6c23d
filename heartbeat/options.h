/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of colo-heartbeat; colo-heartbeat(8) describes it. */
#ifndef HB_OPTIONS_H
#define HB_OPTIONS_H

#include "heartbeat/local.h"
#include "heartbeat/path.h"

#define HB_PROGRAM "colo-heartbeat"

struct hb_options {
	int fd; /* to colod; not ours to close before it was looked at */
	char *key; /* file */
	char *pair, *peer; /* names */
	guint self; /* index of our node */
	guint interval_ms, timeout_ms, linger_ms;
	hb_path *path[HB_PATHS_MAX];
	guint paths;
	char *user; /* NULL: nobody, where we are root */
	int verbosity;
};

/* `argv` is left alone. HB_ERROR_CONFIG or G_OPTION_ERROR: what is wrong with it. */
gboolean hb_options_parse(struct hb_options *options, char **argv,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;
void hb_options_clear(struct hb_options *options);

#endif
