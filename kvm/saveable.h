/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine as what kvm/savefile.h saves and loads. */
#ifndef VMM_SAVEABLE_H
#define VMM_SAVEABLE_H

#include "kvm/machine.h"
#include "kvm/savefile.h"

/* Borrows the machine. */
struct vmm_saveable vmm_machine_saveable(vmm_machine *machine);

#endif
