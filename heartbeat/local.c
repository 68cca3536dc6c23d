/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What colod says to colo-heartbeat, judged. */
#include "heartbeat/local.h"

#include <string.h>

#define COLODS_FLAGS (HB_FLAG_VM | HB_FLAG_LINK | HB_FLAG_LEAVING)

gboolean hb_tell_read(const void *bytes, gsize length, struct hb_self *self)
{
	static const guint8 zero[sizeof(self->zero)];
	struct hb_tell tell;

	if (length != sizeof(tell))
		return FALSE;
	memcpy(&tell, bytes, sizeof(tell));
	if (wire_get32(tell.type) != HB_TELL || wire_get32(tell.zero) ||
	    memcmp(tell.self.zero, zero, sizeof(zero)))
		return FALSE;
	*self = tell.self;
	self->flags &= COLODS_FLAGS;
	return TRUE;
}
