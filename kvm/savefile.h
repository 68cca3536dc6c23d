/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole machine, its memory included, as one stream of bytes: into a file, a socket
 * or a pipe, and back. The format is base/wire.h's `wire_save_header`.
 *
 * Every function here blocks, on the thread that calls it, until it is done, refused,
 * cancelled, or the other end made no progress for `deadline_ms`. (A regular file has
 * no such deadline: the kernel gives none.) Meanwhile no other thread may call the
 * machine.
 */
#ifndef VMM_SAVEFILE_H
#define VMM_SAVEFILE_H

#include <gio/gio.h>

#include "kvm/memory.h"
#include "kvm/state.h"

#define VMM_SAVEFILE_DEADLINE_MS 30000u

/* What is saved or loaded: a machine, or a fake in tests. `memory` must be mapped from
 * its own file: a hole there is taken for zeros. */
struct vmm_saveable {
	vmm_memory *memory;
	guint cpus;
	void *data;
	/* As vmm_machine_save(), vmm_machine_check() and vmm_machine_load(). A machine that
	 * fails to load a state is as it was. */
	gboolean (*save)(void *data, vmm_state *state, GError **error);
	gboolean (*check)(void *data, const vmm_state *state, GError **error);
	gboolean (*load)(void *data, const vmm_state *state, GError **error);
};

struct vmm_transfer {
	guint deadline_ms;
	GCancellable *cancel; /* or NULL */
	/* Called now and then, on the transfer's thread; or NULL. Bytes of memory. */
	void (*progress)(void *data, guint64 done, guint64 total);
	void *data;
};

enum vmm_load_result {
	VMM_LOAD_DONE,
	VMM_LOAD_REFUSED, /* the machine is as it was */
	/* Memory is empty, and does not belong to the state that was loaded. */
	VMM_LOAD_SPOILED,
};

/* Writes the machine, which must not run, to `to`: "unix:PATH" is connected to;
 * anything else names a regular file, which appears, or replaces the one there, only
 * when all of it is on disk. A failure leaves nothing behind. */
gboolean vmm_savefile_save(const struct vmm_saveable *machine, const char *to,
			   const struct vmm_transfer *transfer,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Reads a machine, which must be PREPARED, from `from`: "unix:PATH" is listened on for
 * one connection, for as long as it takes to come; anything else names a file or a
 * pipe. Everything but memory is judged before memory is touched, and loaded, so that
 * KVM has judged it too; memory likewise where `from` is a regular file. What is there is
 * replaced. */
enum vmm_load_result vmm_savefile_load(const struct vmm_saveable *machine,
				       const char *from,
				       const struct vmm_transfer *transfer,
				       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same over a descriptor (borrowed). One that is not a regular file is made
 * non-blocking. */
gboolean vmm_savefile_write(const struct vmm_saveable *machine, int fd,
			    const struct vmm_transfer *transfer,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;
enum vmm_load_result vmm_savefile_read(const struct vmm_saveable *machine, int fd,
				       const struct vmm_transfer *transfer,
				       GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
