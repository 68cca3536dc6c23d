/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Labelled steps at which nothing happens. */
#include "base/fault.h"

#include <stdio.h>

void base_fault(const char *step)
{
}

void base_fault_of(const char *step, const char *kind)
{
}

gboolean base_fault_list(const char *program)
{
	fprintf(stderr,
		"%s: this build has no fault points; %s-faults, which `make tests` "
		"builds, has them\n",
		program, program);
	return FALSE;
}
