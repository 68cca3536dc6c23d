/* SPDX-License-Identifier: GPL-2.0-or-later */
/* misuse.h - being a hostile guest, on purpose. */
#ifndef GUEST_MISUSE_H
#define GUEST_MISUSE_H

#include "types.h"

/* `what` on queue `queue` of device number `device`; NULL, or what went wrong. */
const char *misuse(const char *what, u32 device, u32 queue);
void misuse_list(char *out, u32 size);

#endif
