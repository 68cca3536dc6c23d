/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The error domain of colo/. */
#include "colo/pair.h"

G_DEFINE_QUARK(colo - error - quark, colo_error)
