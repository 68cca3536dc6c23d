/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-netcompare's labelled steps. */
#include "base/fault.h"

static const char *const points[] = {
	"queue-bound", /* the queue is ours; the rule is not there yet */
	"rule-put", /* packets wait for us; nobody reads them yet */
	"greeted", /* colo-vm is there */
	"gate-closed", /* it said so; nothing was done for it */
	"gate-open", /* likewise */
	"gate-guarded", /* likewise */
	"recalled", /* what was accepted in the same breath is dropped */
	"cut-heard", /* an epoch begins */
	"commit-heard", /* one is committed; nothing was released for it */
	"twin-heard", /* the secondary said something; it was not compared */
	"marker-seen", /* the guest's packets of an epoch are all here */
	"diverged", /* the two said different things; no checkpoint was asked for */
	"asked", /* a checkpoint is asked for, not surely sent */
	"verdicts-due", /* packets are judged; the kernel was not told */
	"verdicts-said", /* it was */
	NULL,
};

char **base_fault_points(void)
{
	return g_strdupv((char **)points);
}
