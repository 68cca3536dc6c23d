/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Judges what a pair file names on this host, without touching any of it: nothing is
 * made, changed, locked or sent. What cannot be seen from here (the other node, whether
 * etcd answers, whether the fence agent knows its switch) is not judged. Any thread;
 * blocks for the disk, and where a named file is on a network file system, for that.
 */
#ifndef COLO_PAIR_CHECK_H
#define COLO_PAIR_CHECK_H

#include "colo/pair.h"

enum colo_finding {
	COLO_FINDING_NOTE, /* how it is: the size of a disk */
	COLO_FINDING_WARNING, /* it will run, but look at it */
	COLO_FINDING_ERROR, /* it will not run */
};

/* `where` is "section/key", as colo_pair_diff() writes it; `what` says what is so and
 * what to do next, in one line. Both valid during the call. */
typedef void (*colo_pair_report)(void *data, enum colo_finding kind, const char *where,
				 const char *what);

/* Judges for `node`, which is to be this host, with the rights that the caller has.
 * TRUE where no error was found. */
gboolean colo_pair_check(const colo_pair *pair, guint node, colo_pair_report report,
			 void *data);

/* Where a host tells about itself; the parameter that tests give. */
struct colo_host {
	const char *kvm, *tun; /* devices */
	const char *nets; /* folder with one for each network device */
	const char *blocks; /* folder with one for each block device, MAJOR:MINOR */
	const char *meminfo;
	const char *const *programs; /* folders with programs, ended by NULL */
};
gboolean colo_pair_check_host(const colo_pair *pair, guint node,
			      const struct colo_host *host, colo_pair_report report,
			      void *data);

#endif
