/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control protocol without its sockets: one JSON object on a line is a request, an
 * answer or an event. colo-vm(1) describes it.
 *
 *     {"id": 1, "command": "save", "arguments": {"to": "/var/tmp/vm"}}
 *     {"id": 1, "ok": true, "result": {}}
 *     {"id": 2, "ok": false, "error": {"code": "busy", "message": "..."}}
 *     {"event": "panic", "time": 1767225600000, "device": null, "detail": null}
 *
 * Whatever a client sends costs it an error answer and nothing else; only a line that
 * is too long ends it. All functions: one thread, and none of them waits.
 */
#ifndef VMM_PROTOCOL_H
#define VMM_PROTOCOL_H

#include <json-glib/json-glib.h>

#define VMM_CONTROL_LINE_MAX (64u << 10) /* bytes of a request, newline included */
#define VMM_CONTROL_DEPTH_MAX 16u /* of objects and arrays in one request */

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

/* A command of another layer. */
struct vmm_extra_command {
	const char *name;
	const char *const *arguments; /* the names that it takes, ended by NULL */
};

typedef struct vmm_answer vmm_answer;
/* Answers a request, which ends it; the client may have gone. `result` may be NULL. */
void vmm_answer_ok(vmm_answer *answer_take, JsonObject *result_take);
/* `code`: "busy", "wrong-state", "refused" or "failed"; "bad-request" for arguments. */
void vmm_answer_error(vmm_answer *answer_take, const char *code, const char *message);
/* The same with "bad-request": what is wrong with its arguments. */
void vmm_answer_bad_request(vmm_answer *answer_take, const char *format, ...)
	G_GNUC_PRINTF(2, 3);
/* The same with the code that belongs to an error of the machine. Frees `error`. */
void vmm_answer_gerror(vmm_answer *answer_take, GError *error_take);

/* Who carries out commands. */
struct vmm_commands {
	void *data;
	/* Answers now or later. `path`: of save and load, not empty, else NULL; valid
	 * during the call. */
	void (*run)(void *data, enum vmm_command command, const char *path,
		    vmm_answer *answer_take);
	/* Those of another layer, ended by a NULL name; or NULL. */
	const struct vmm_extra_command *extra;
	/* `arguments` has no others than the row says; it may be empty and is valid during
	 * the call. What they are is for the command to judge. */
	void (*run_extra)(void *data, const char *command, JsonObject *arguments,
			  vmm_answer *answer_take);
};

typedef struct vmm_protocol vmm_protocol;
typedef struct vmm_client vmm_client;

vmm_protocol *vmm_protocol_new(const struct vmm_commands *commands);
/* Frees its clients as well. Answers may still be given afterwards, to nobody. */
void vmm_protocol_free(vmm_protocol *protocol);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vmm_protocol, vmm_protocol_free)

/* `send` gets whole lines for this client. It must not free the client. */
vmm_client *vmm_client_new(vmm_protocol *protocol,
			   void (*send)(void *data, const char *line, gsize len),
			   void *data);
void vmm_client_free(vmm_client *client);
/* Bytes from the client, cut anywhere. FALSE: it sent a line that is too long; it was
 * told, and has to go. */
gboolean vmm_client_input(vmm_client *client, const void *bytes,
			  gsize len) G_GNUC_WARN_UNUSED_RESULT;

/* TRUE while the client is still to be sent something: answers, or events. */
gboolean vmm_client_expects(const vmm_client *client);

/* To every client that asked for events. `device` and `detail` may be NULL. */
void vmm_protocol_event(vmm_protocol *protocol, const char *name, const char *device,
			const char *detail);

/* Name of row `index` of the table of commands; NULL past the end. */
const char *vmm_protocol_command(guint index);

#endif
