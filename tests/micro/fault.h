/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A secondary that goes wrong on purpose, so that --verify has something to find: its
 * incoming streams with something of them spoilt.
 */
#ifndef TESTS_FAULT_H
#define TESTS_FAULT_H

#include "checkpoint/secondary.h"

enum fault_kind {
	FAULT_NONE,
	FAULT_STATE, /* a register of the UART, after the state is loaded */
	FAULT_DISK, /* a byte of a write that arrives */
};

struct fault {
	struct ckpt_twin_streams real;
	vmm_machine *machine;
	gint kind; /* atomic; NONE again when it has struck */
};

/* `fault` outlives them. */
struct ckpt_twin_streams fault_streams(struct fault *fault,
				       const struct ckpt_twin_streams *real,
				       vmm_machine *machine);

#endif
