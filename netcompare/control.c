/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The comparator's control socket. */
#include "netcompare/control.h"

#include "base/control.h"
#include "base/error.h"

enum { STATUS, QUIT };

struct ncmp_control {
	struct ncmp_control_hooks hooks;
	base_control *socket;
};

static void run(void *data, const char *command, guint index, JsonObject *arguments,
		base_answer *answer)
{
	const struct ncmp_control_hooks *hooks = data;

	if (index == STATUS) {
		base_answer_ok(answer, hooks->status(hooks->data));
		return;
	}
	base_answer_ok(answer, NULL);
	hooks->quit(hooks->data);
}

struct base_commands ncmp_control_commands(const struct ncmp_control_hooks *hooks)
{
	static const char *const none[] = { NULL };
	static const struct base_command rows[] = {
		[STATUS] = { "status", none },
		[QUIT] = { "quit", none },
		{ NULL },
	};

	return (struct base_commands){ (void *)hooks, rows, run };
}

ncmp_control *ncmp_control_new(const char *path, const struct ncmp_control_hooks *hooks,
			       GError **error)
{
	g_autoptr(ncmp_control) control = g_new0(ncmp_control, 1);
	g_autoptr(GError) why = NULL;
	struct base_commands commands;

	control->hooks = *hooks;
	commands = ncmp_control_commands(&control->hooks);
	control->socket = base_control_new(path, &commands, &why);
	if (control->socket)
		return g_steal_pointer(&control);
	ncmp_error_set(error,
		       g_error_matches(why, BASE_CHANNEL_ERROR, BASE_CHANNEL_ADDRESS)
			       ? NCMP_ERROR_CONFIG
			       : NCMP_ERROR_HOST,
		       "%s", why->message);
	return NULL;
}

void ncmp_control_free(ncmp_control *control)
{
	if (!control)
		return;
	base_control_free(control->socket);
	g_free(control);
}
