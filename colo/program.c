/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A helper of colod's that is to run all the time. */
#include "colo/program.h"

#include "base/clock.h"
#include "base/fd.h"

#define PASSED_FD 3
#define END_MS 2000u
/* Somebody may have mended what made it end. */
#define GIVEN_UP_MS 10000u

struct colo_program {
	char *name;
	const struct colo_places *places;
	int oom_score_adj;
	const struct colo_program_hooks *hooks;
	void *data;
	colo_child *child;
	gboolean wanted;
	guint timer;
	guint count;
	struct colo_restarts restarts;
};

char *colo_places_program(const struct colo_places *places, const char *name)
{
	return g_build_filename(places->programs, name, NULL);
}

colo_program *colo_program_new(const char *name, const struct colo_places *places,
			       int oom_score_adj, const struct colo_program_hooks *hooks,
			       void *data)
{
	colo_program *program = g_new0(colo_program, 1);

	program->name = g_strdup(name);
	program->places = places;
	program->oom_score_adj = oom_score_adj;
	program->hooks = hooks;
	program->data = data;
	program->restarts.limit = MIN(places->restarts, COLO_RESTARTS_MAX);
	return program;
}

void colo_program_free(colo_program *program)
{
	if (!program)
		return;
	if (program->timer)
		g_source_remove(program->timer);
	colo_child_free(program->child);
	g_free(program->name);
	g_free(program);
}

static void start(colo_program *program, gboolean adopt);

static gboolean start_again(gpointer data)
{
	colo_program *program = data;

	program->timer = 0;
	start(program, FALSE);
	return G_SOURCE_REMOVE;
}

static void come_back(colo_program *program, const char *how)
{
	guint after_ms = GIVEN_UP_MS;
	gboolean again;

	if (!program->wanted) {
		program->hooks->ended(program->data, how, FALSE);
		return;
	}
	again = colo_restarts_next(&program->restarts, base_clock_monotonic_ns(), &after_ms);
	if (!again)
		g_warning("%s ends again and again (%s): it is tried in %u s, see its log",
			  program->name, how, GIVEN_UP_MS / 1000);
	program->count++;
	program->timer = g_timeout_add(again ? after_ms : GIVEN_UP_MS, start_again, program);
	program->hooks->ended(program->data, how, again);
}

static void ended(void *data, const struct colo_child_end *end)
{
	colo_program *program = data;
	g_autofree char *how = g_strdup(end->words);

	g_clear_pointer(&program->child, colo_child_free);
	come_back(program, how);
}

static void start(colo_program *program, gboolean adopt)
{
	g_autoptr(GError) error = NULL;
	g_auto(GStrv) argv = NULL;
	g_autofree char *log = colo_program_log(program);
	base_autofd int fd = -1;
	struct colo_child_config config = {
		.name = program->name,
		.run_dir = program->places->run,
		.log = log,
		.log_bytes = program->places->log_bytes,
		.fd_number = PASSED_FD,
		.set_oom_score = TRUE,
		.oom_score_adj = program->oom_score_adj,
	};

	argv = program->hooks->argv(program->data, &fd);
	config.argv = (const char *const *)argv;
	config.fd = fd;
	if (adopt)
		program->child = colo_child_adopt(&config, ended, program, &error);
	if (!program->child && !error)
		program->child = colo_child_start(&config, ended, program, &error);
	if (program->child)
		program->hooks->started(program->data);
	else
		come_back(program, error->message);
}

void colo_program_begin(colo_program *program, gboolean adopt)
{
	program->wanted = TRUE;
	if (!program->child && !program->timer)
		start(program, adopt);
}

void colo_program_end(colo_program *program)
{
	program->wanted = FALSE;
	if (program->timer)
		g_source_remove(program->timer);
	program->timer = 0;
	if (program->child)
		colo_child_terminate(program->child, END_MS);
}

void colo_program_renew(colo_program *program)
{
	if (program->child)
		colo_child_kill(program->child);
}

pid_t colo_program_pid(const colo_program *program)
{
	return program->child ? colo_child_pid(program->child) : 0;
}

guint colo_program_restarts(const colo_program *program)
{
	return program->count;
}

const char *colo_program_name(const colo_program *program)
{
	return program->name;
}

char *colo_program_log(const colo_program *program)
{
	g_autofree char *file = g_strconcat(program->name, ".log", NULL);

	return g_build_filename(program->places->log, file, NULL);
}
