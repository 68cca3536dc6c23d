/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Steps of the protocol at which nothing happens. */
#include "checkpoint/fault.h"

void ckpt_fault(enum ckpt_fault step)
{
}

void ckpt_fault_sent(guint16 type)
{
}

void ckpt_fault_received(guint16 type)
{
}
