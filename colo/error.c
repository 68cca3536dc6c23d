/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The errors of this folder (colo/pair.h). */
#include "colo/pair.h"

G_DEFINE_QUARK(colo-error-quark, colo_error)
