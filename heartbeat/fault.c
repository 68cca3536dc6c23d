/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-heartbeat's labelled steps. */
#include "base/fault.h"

static const char *const points[] = {
	"opened", /* the sockets are there; nothing was sent */
	"send-due", /* a heartbeat is due on a path */
	"sent", /* it was sent */
	"came", /* a datagram came; it was not judged */
	"peer-heard", /* the peer is believed alive; colod was not told */
	"peer-lost", /* the peer is believed dead; colod was not told */
	"reported", /* colod was told something */
	"told", /* colod said something new of itself */
	"orphaned", /* colod is gone */
	NULL,
};

char **base_fault_points(void)
{
	return g_strdupv((char **)points);
}
