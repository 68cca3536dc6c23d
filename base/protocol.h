/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control protocol that all programs speak, without its sockets: one JSON object on
 * a line is a request, an answer or an event. What commands there are is the program's.
 *
 *     {"id": 1, "command": "save", "arguments": {"to": "/var/tmp/vm"}}
 *     {"id": 1, "ok": true, "result": {}}
 *     {"id": 2, "ok": false, "error": {"code": "busy", "message": "..."}}
 *     {"event": "panic", "time": 1767225600000, "device": null, "detail": null}
 *
 * Whatever a client sends costs it an error answer and nothing else; only a line that
 * is too long ends it. All functions: one thread, and none of them waits.
 */
#ifndef BASE_PROTOCOL_H
#define BASE_PROTOCOL_H

#include <json-glib/json-glib.h>

#define BASE_CONTROL_LINE_MAX (64u << 10) /* bytes of a request, newline included */
#define BASE_CONTROL_DEPTH_MAX 16u /* of objects and arrays in one request */

typedef struct base_answer base_answer;
/* Answers a request, which ends it; the client may have gone. `result` may be NULL. */
void base_answer_ok(base_answer *answer_take, JsonObject *result_take);
/* `code`: "busy", "wrong-state", "refused" or "failed"; "bad-request" for arguments. */
void base_answer_error(base_answer *answer_take, const char *code, const char *message);
/* The same with "bad-request": what is wrong with its arguments. */
void base_answer_bad_request(base_answer *answer_take, const char *format, ...)
	G_GNUC_PRINTF(2, 3);
/* As base_answer_ok(); behind the answer its client gets every event from now on. */
void base_answer_subscribe(base_answer *answer_take, JsonObject *result_take);

struct base_command {
	const char *name;
	const char *const *arguments; /* the names that it takes, ended by NULL */
};

/* Who carries out commands. */
struct base_commands {
	void *data;
	const struct base_command
		*rows; /* ended by a NULL name; outlives the protocol */
	/* Row `index`, of this name; answers now or later. `arguments` has no others
	 * than the row says; it may be empty and is valid during the call. What they
	 * are is for the command to judge. */
	void (*run)(void *data, const char *command, guint index, JsonObject *arguments,
		    base_answer *answer_take);
};

typedef struct base_protocol base_protocol;
typedef struct base_client base_client;

base_protocol *base_protocol_new(const struct base_commands *commands);
/* Frees its clients as well. Answers may still be given afterwards, to nobody. */
void base_protocol_free(base_protocol *protocol);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(base_protocol, base_protocol_free)

/* `send` gets whole lines for this client. It must not free the client. */
base_client *base_client_new(base_protocol *protocol,
			     void (*send)(void *data, const char *line, gsize len),
			     void *data);
void base_client_free(base_client *client);
/* Bytes from the client, cut anywhere. FALSE: it sent a line that is too long; it was
 * told, and has to go. */
gboolean base_client_input(base_client *client, const void *bytes,
			   gsize len) G_GNUC_WARN_UNUSED_RESULT;

/* TRUE while the client is still to be sent something: answers, or events. */
gboolean base_client_expects(const base_client *client);

/* To every client that asked for events: {"event": `name`, "time": milliseconds of UTC}
 * and the members of `fields` (or NULL), which may have a "time" of their own. */
void base_protocol_event(base_protocol *protocol, const char *name,
			 JsonObject *fields_take);

/* For whoever reads such lines. */

/* The object of a line (its end may be there or not), with one reference for the
 * caller; NULL with `why`, which is freed by the caller, where it is none or is nested
 * too deeply. */
JsonObject *base_json_parse(const char *line, gsize len, char **why);
/* A string member; NULL where there is none or it is something else. */
const char *base_json_text(JsonObject *object, const char *name);
/* A member that is a whole number, of 0 at least; FALSE where there is none or it is
 * something else. */
gboolean base_json_count(JsonObject *object, const char *name,
			 guint64 *value) G_GNUC_WARN_UNUSED_RESULT;
/* Text as a member, null for NULL. It can hold a file name, which need not be UTF-8. */
void base_json_set_text(JsonObject *object, const char *name, const char *text);
/* `object` as one line with its newline; the caller's to free. Floats as JSON has them.
 */
char *base_json_line(JsonObject *object_take);

#endif
