/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of colo-vm's control socket: base/protocol.h has the protocol,
 * colo-vm(1) describes both. All functions: one thread, and none of them waits.
 */
#ifndef VMM_PROTOCOL_H
#define VMM_PROTOCOL_H

#include "base/protocol.h"

enum vmm_command {
	VMM_COMMAND_STATUS,
	VMM_COMMAND_PAUSE,
	VMM_COMMAND_RESUME,
	VMM_COMMAND_SAVE,
	VMM_COMMAND_LOAD,
	VMM_COMMAND_CANCEL,
	VMM_COMMAND_POWERDOWN,
	VMM_COMMAND_RESET,
	VMM_COMMAND_QUIT,
};

typedef base_answer vmm_answer;
#define vmm_answer_ok base_answer_ok
#define vmm_answer_error base_answer_error
#define vmm_answer_bad_request base_answer_bad_request
/* As base_answer_error() with the code that belongs to an error of the machine. Frees
 * `error`. */
void vmm_answer_gerror(vmm_answer *answer_take, GError *error_take);

/* A command of another layer. */
#define vmm_extra_command base_command

/* Who carries out commands. */
struct vmm_commands {
	void *data;
	/* Answers now or later. `path`: of save and load, not empty, else NULL; valid
	 * during the call. */
	void (*run)(void *data, enum vmm_command command, const char *path,
		    vmm_answer *answer_take);
	/* Those of another layer, ended by a NULL name; or NULL. */
	const struct vmm_extra_command *extra;
	/* As `run` of struct base_commands, of a row of `extra`. */
	void (*run_extra)(void *data, const char *command, JsonObject *arguments,
			  vmm_answer *answer_take);
};

/* These and those of the other layer in one table for a control socket. */
typedef struct vmm_table vmm_table;
vmm_table *vmm_table_new(const struct vmm_commands *commands);
void vmm_table_free(vmm_table *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_table, vmm_table_free)
/* The table's own: it must outlive the socket. */
const struct base_commands *vmm_table_commands(const vmm_table *table);

/* The members of an event of this program; both may be NULL. */
JsonObject *vmm_event_fields(const char *device, const char *detail);

/* Name of row `index` of the table of commands; NULL past the end. */
const char *vmm_protocol_command(guint index);

#endif
