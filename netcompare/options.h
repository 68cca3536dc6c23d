/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of colo-netcompare; colo-netcompare(1) describes it. */
#ifndef NCMP_OPTIONS_H
#define NCMP_OPTIONS_H

#include "netcompare/comparator.h"
#include "netcompare/rule.h"

#define NCMP_PROGRAM "colo-netcompare"

enum ncmp_work {
	NCMP_WORK_COMPARE, /* until it is told to end */
	NCMP_WORK_REMOVE_RULE,
	NCMP_WORK_REPLAY,
};

struct ncmp_options {
	enum ncmp_work work;
	int verbosity;
	char *vm, *control, *dump; /* paths; of the last two, NULL: none */
	char **captures; /* of a replay: two paths */
	char *guest; /* of a replay: who it is; NULL: to be found out */
	gboolean json;
	char **taps;
	struct ncmp_rule rule; /* its taps are those above */
	struct ncmp_comparator_options comparator; /* its texts are those above */
};

/* `argv` is taken apart. NCMP_ERROR_CONFIG or G_OPTION_ERROR: what is wrong with it. */
gboolean ncmp_options_parse(struct ncmp_options *options, char **argv,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;
void ncmp_options_clear(struct ncmp_options *options);

#endif
