/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands of colo-vm's control socket. */
#include "kvm/protocol.h"

#include <string.h>

#include "kvm/error.h"

struct row {
	const char *name;
	enum vmm_command command;
	const char *path; /* name of its argument; NULL: takes none */
	gboolean subscribes;
};

/* clang-format off */
static const struct row rows[] = {
	{ "status", VMM_COMMAND_STATUS },
	{ "pause", VMM_COMMAND_PAUSE },
	{ "resume", VMM_COMMAND_RESUME },
	{ "save", VMM_COMMAND_SAVE, "to" },
	{ "load", VMM_COMMAND_LOAD, "from" },
	{ "cancel", VMM_COMMAND_CANCEL },
	{ "powerdown", VMM_COMMAND_POWERDOWN },
	{ "reset", VMM_COMMAND_RESET },
	{ "quit", VMM_COMMAND_QUIT },
	{ "events", .subscribes = TRUE },
};
/* clang-format on */

struct vmm_table {
	struct vmm_commands to;
	struct base_commands commands;
	const char
		*arguments[G_N_ELEMENTS(rows)][2]; /* of our rows, each ended by NULL */
	struct base_command *rows; /* ours, then the other layer's */
};

const char *vmm_protocol_command(guint index)
{
	return index < G_N_ELEMENTS(rows) ? rows[index].name : NULL;
}

void vmm_answer_gerror(vmm_answer *answer, GError *error)
{
	const char *code = "failed";

	if (g_error_matches(error, VMM_ERROR, VMM_ERROR_MODE))
		code = "wrong-state";
	else if (g_error_matches(error, VMM_ERROR, VMM_ERROR_STATE) ||
		 g_error_matches(error, VMM_ERROR, VMM_ERROR_CONFIG))
		code = "refused";
	base_answer_error(answer, code, error->message);
	g_error_free(error);
}

static void run(void *data, const char *command, guint index, JsonObject *arguments,
		base_answer *answer)
{
	const vmm_table *table = data;
	const struct row *row;
	const char *path = NULL;

	if (index >= G_N_ELEMENTS(rows)) {
		table->to.run_extra(table->to.data, command, arguments, answer);
		return;
	}
	row = &rows[index];
	if (row->path) {
		path = base_json_text(arguments, row->path);
		if (!path || !*path) {
			base_answer_bad_request(answer,
						"%s needs the argument \"%s\", text",
						row->name, row->path);
			return;
		}
	}
	if (row->subscribes)
		base_answer_subscribe(answer, NULL);
	else
		table->to.run(table->to.data, row->command, path, answer);
}

vmm_table *vmm_table_new(const struct vmm_commands *commands)
{
	vmm_table *table = g_new0(vmm_table, 1);
	guint count = 0;

	while (commands->extra && commands->extra[count].name)
		count++;
	table->to = *commands;
	table->rows = g_new0(struct base_command, G_N_ELEMENTS(rows) + count + 1);
	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		table->arguments[i][0] = rows[i].path;
		table->rows[i].name = rows[i].name;
		table->rows[i].arguments = table->arguments[i];
	}
	for (guint i = 0; i < count; i++)
		table->rows[G_N_ELEMENTS(rows) + i] = commands->extra[i];
	table->commands = (struct base_commands){ .data = table,
						  .rows = table->rows,
						  .run = run };
	return table;
}

void vmm_table_free(vmm_table *table)
{
	if (!table)
		return;
	g_free(table->rows);
	g_free(table);
}

const struct base_commands *vmm_table_commands(const vmm_table *table)
{
	return &table->commands;
}

JsonObject *vmm_event_fields(const char *device, const char *detail)
{
	JsonObject *fields = json_object_new();

	base_json_set_text(fields, "device", device);
	base_json_set_text(fields, "detail", detail);
	return fields;
}
