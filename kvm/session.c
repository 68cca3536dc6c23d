/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One run of colo-vm.
 *
 * A save or a load is a job: a worker thread owns the machine from begin_job() to
 * job_done(), which the main context runs. Meanwhile commands that would call the
 * machine are answered "busy", `status` shows what was true when the job began, and
 * quitting cancels the job first and waits for it.
 */
#include "kvm/session.h"

#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/control.h"
#include "kvm/error.h"
#include "kvm/saveable.h"

struct job {
	vmm_session *session;
	enum vmm_command command; /* SAVE or LOAD */
	char *path;
	GCancellable *cancel;
	vmm_answer *answer; /* NULL: the command line asked for it */
	gboolean resume_after; /* the guest ran when the save was asked for */
	JsonObject *status; /* of the machine when the job began */
	enum vmm_load_result load_result; /* the worker's, until it is done */
	_Atomic guint64 bytes_done, bytes_total;
};

struct vmm_session {
	const struct vmm_options *options;
	const struct vmm_extension *extension; /* or NULL */
	GMainLoop *loop;
	struct vmm_config config; /* the options', with the extension's backends */
	vmm_machine *machine;
	vmm_table *commands;
	base_control *control; /* NULL without --control */
	struct job *job; /* NULL: none under way */
	gboolean empty; /* guest memory holds nothing that could run */
	guint64 started_ns; /* 0: the guest never ran */
	gboolean over; /* on the way out */
	const char *why_over; /* static text */
	const char *lingers; /* the same, while the extension has something left to do; or NULL */
	enum vmm_exit_status exit;
	GError *error; /* why it could not start */
};

static const char *run_state_name(enum vmm_run_state state)
{
	static const char *const names[] = {
		[VMM_PREPARED] = "prepared",
		[VMM_RUNNING] = "running",
		[VMM_PAUSED] = "paused",
		[VMM_ENDED] = "ended",
	};

	return names[state];
}

static void tell(vmm_session *session, const char *event, const char *device,
		 const char *detail)
{
	if (session->control)
		base_control_event(session->control, event,
				   vmm_event_fields(device, detail));
}

static void end(vmm_session *session, enum vmm_exit_status status, const char *why)
{
	if (session->over)
		return;
	session->over = TRUE;
	session->exit = status;
	session->why_over = why;
	/* With a job, job_done() ends the loop. */
	if (session->job)
		g_cancellable_cancel(session->job->cancel);
	else
		g_main_loop_quit(session->loop);
}

/* Takes `error`. */
static void end_not_started(vmm_session *session, GError *error)
{
	if (session->over)
		g_error_free(error);
	else
		session->error = error;
	end(session, VMM_EXIT_NOT_STARTED, "not started");
}

/* Status */

static void set_text(JsonObject *object, const char *name, const char *text)
{
	g_autofree char *valid = text ? g_utf8_make_valid(text, -1) : NULL;

	if (valid)
		json_object_set_string_member(object, name, valid);
	else
		json_object_set_null_member(object, name);
}

static void set_count(JsonObject *object, const char *name, guint64 count)
{
	json_object_set_int_member(object, name, (gint64)MIN(count, G_MAXINT64));
}

static JsonObject *disk_status(vmm_machine *machine, guint index)
{
	const struct vmm_disk_config *disk = &g_array_index(
		vmm_machine_config(machine)->disks, struct vmm_disk_config, index);
	struct vmm_block_counters counters;
	JsonObject *object = json_object_new();

	vmm_machine_block_counters(machine, index, &counters);
	set_text(object, "path", disk->path);
	set_text(object, "serial", disk->serial);
	json_object_set_boolean_member(object, "readonly", disk->readonly);
	json_object_set_boolean_member(object, "direct", disk->direct);
	set_count(object, "reads", counters.reads);
	set_count(object, "read_bytes", counters.read_bytes);
	set_count(object, "writes", counters.writes);
	set_count(object, "written_bytes", counters.written_bytes);
	set_count(object, "flushes", counters.flushes);
	set_count(object, "discards", counters.discards);
	set_count(object, "errors", counters.errors);
	set_count(object, "in_flight", counters.in_flight);
	return object;
}

static JsonObject *net_status(vmm_machine *machine, guint index)
{
	const struct vmm_net_config *net = &g_array_index(
		vmm_machine_config(machine)->nets, struct vmm_net_config, index);
	g_autofree char *mac = g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x",
					       net->mac[0], net->mac[1], net->mac[2],
					       net->mac[3], net->mac[4], net->mac[5]);
	struct vmm_net_counters counters;
	JsonObject *object = json_object_new();

	vmm_machine_net_counters(machine, index, &counters);
	set_text(object, "tap", net->tap);
	set_text(object, "mac", mac);
	set_count(object, "rx_frames", counters.rx_frames);
	set_count(object, "rx_bytes", counters.rx_bytes);
	set_count(object, "rx_dropped", counters.rx_dropped);
	set_count(object, "tx_frames", counters.tx_frames);
	set_count(object, "tx_bytes", counters.tx_bytes);
	set_count(object, "tx_dropped", counters.tx_dropped);
	return object;
}

static JsonObject *machine_status(vmm_machine *machine)
{
	const struct vmm_config *config = vmm_machine_config(machine);
	JsonObject *object = json_object_new();
	JsonArray *disks = json_array_new(), *nets = json_array_new();

	for (guint i = 0; i < vmm_machine_disks(machine); i++)
		json_array_add_object_element(disks, disk_status(machine, i));
	for (guint i = 0; i < vmm_machine_nets(machine); i++)
		json_array_add_object_element(nets, net_status(machine, i));
	set_text(object, "name", VMM_PROGRAM);
	set_text(object, "version", VMM_PROGRAM_VERSION);
	set_count(object, "pid", (guint64)getpid());
	set_text(object, "state", run_state_name(vmm_machine_run_state(machine)));
	set_count(object, "memory", config->memory);
	set_count(object, "cpus", config->cpus);
	set_text(object, "cpu_model", config->cpu_model);
	set_text(object, "dirty_method", vmm_machine_dirty_method(machine));
	json_object_set_boolean_member(object, "tsc_settable",
				       vmm_machine_tsc_settable(machine));
	set_text(object, "console", vmm_machine_console_name(machine));
	set_text(object, "hvc", vmm_machine_hvc_name(machine));
	json_object_set_array_member(object, "disks", disks);
	json_object_set_array_member(object, "nets", nets);
	return object;
}

static JsonObject *job_status(struct job *job)
{
	JsonObject *object = json_object_new();

	set_text(object, "command", job->command == VMM_COMMAND_SAVE ? "save" : "load");
	set_text(object, "path", job->path);
	set_count(object, "done_bytes", atomic_load(&job->bytes_done));
	set_count(object, "total_bytes", atomic_load(&job->bytes_total));
	return object;
}

static JsonObject *status(vmm_session *session)
{
	struct job *job = session->job;
	JsonObject *object =
		job ? json_object_ref(job->status) : machine_status(session->machine);
	guint64 up_ns = 0;

	if (session->started_ns)
		up_ns = base_clock_monotonic_ns() - session->started_ns;
	json_object_set_boolean_member(object, "empty", session->empty);
	set_count(object, "uptime_ms", up_ns / 1000000);
	if (job)
		json_object_set_object_member(object, "job", job_status(job));
	else
		json_object_set_null_member(object, "job");
	if (session->extension)
		json_object_set_object_member(object, session->extension->status_name,
					      session->extension->status(
						      session->extension->data));
	return object;
}

/* Running */

void vmm_session_started(vmm_session *session)
{
	session->empty = FALSE;
	if (session->started_ns)
		return;
	session->started_ns = base_clock_monotonic_ns();
	g_message("guest: started");
	tell(session, "started", NULL, NULL);
}

static gboolean resume(vmm_session *session, GError **error)
{
	if (session->empty)
		return vmm_error_set(
			error, VMM_ERROR_MODE,
			"there is nothing to run: load a saved machine first");
	if (session->extension && session->extension->resuming)
		session->extension->resuming(session->extension->data);
	if (!vmm_machine_resume(session->machine, error))
		return FALSE;
	if (session->extension && session->extension->resumed)
		session->extension->resumed(session->extension->data);
	vmm_session_started(session);
	return TRUE;
}

static gboolean is_shadow(const vmm_session *session)
{
	return session->extension && session->extension->is_shadow(session->extension->data);
}

/* Ends the run where the machine has ended by itself. */
static void check_ended(vmm_session *session, enum vmm_exit_status status, const char *why)
{
	const struct vmm_extension *extension = session->extension;

	if (vmm_machine_run_state(session->machine) != VMM_ENDED || session->lingers)
		return;
	if (status == VMM_EXIT_DONE && extension && extension->lingers &&
	    extension->lingers(extension->data))
		session->lingers = why;
	else
		end(session, status, why);
}

void vmm_session_end_now(vmm_session *session)
{
	if (session->lingers)
		end(session, VMM_EXIT_DONE, session->lingers);
}

const char *vmm_session_why_over(const vmm_session *session)
{
	return session->why_over;
}

static void on_machine_event(void *data, const struct vmm_event *event)
{
	static const struct {
		const char *name;
		GLogLevelFlags level;
	} kinds[] = {
		[VMM_EVENT_PANIC] = { "panic", G_LOG_LEVEL_WARNING },
		[VMM_EVENT_POWEROFF] = { "poweroff", G_LOG_LEVEL_MESSAGE },
		[VMM_EVENT_RESET] = { "reset", G_LOG_LEVEL_MESSAGE },
		[VMM_EVENT_DEVICE_BROKEN] = { "device-broken", G_LOG_LEVEL_WARNING },
		[VMM_EVENT_DISK_ERROR] = { "disk-error", G_LOG_LEVEL_WARNING },
		[VMM_EVENT_PAUSED] = { "paused", G_LOG_LEVEL_INFO },
		[VMM_EVENT_RESUMED] = { "resumed", G_LOG_LEVEL_INFO },
		[VMM_EVENT_FAILED] = { "failed", G_LOG_LEVEL_WARNING },
	};
	vmm_session *session = data;
	const char *name;

	if (event->type == VMM_EVENT_ESCAPE) {
		end(session, VMM_EXIT_DONE, "console");
		return;
	}
	g_return_if_fail(event->type < G_N_ELEMENTS(kinds));
	name = kinds[event->type].name;
	if (is_shadow(session)) {
		g_info("the secondary's guest: %s%s%s", name, event->detail ? " detail=" : "",
		       event->detail ? event->detail : "");
		return;
	}
	g_log(G_LOG_DOMAIN, kinds[event->type].level, "guest: %s%s%s%s%s", name,
	      event->device ? " device=" : "", event->device ? event->device : "",
	      event->detail ? " detail=" : "", event->detail ? event->detail : "");
	tell(session, name, event->device, event->detail);
	if (event->type == VMM_EVENT_POWEROFF || event->type == VMM_EVENT_RESET)
		check_ended(session, VMM_EXIT_DONE, name);
	else if (event->type == VMM_EVENT_FAILED)
		check_ended(session, VMM_EXIT_GUEST_FAILED, name);
}

/* Jobs */

/* On the worker's thread. */
static void note_progress(void *data, guint64 done, guint64 total)
{
	struct job *job = data;

	atomic_store(&job->bytes_done, done);
	atomic_store(&job->bytes_total, total);
}

/* On a thread of its own, which owns the machine until it returns. */
static void work(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
	struct job *job = data;
	vmm_machine *machine = job->session->machine;
	const struct vmm_saveable saveable = vmm_machine_saveable(machine);
	const struct vmm_transfer transfer = {
		.deadline_ms = VMM_SAVEFILE_DEADLINE_MS,
		.cancel = cancel,
		.progress = note_progress,
		.data = job,
	};
	GError *error = NULL;
	gboolean ok;

	if (job->command == VMM_COMMAND_SAVE) {
		/* First: the guest may run elsewhere as soon as it is there. */
		ok = vmm_machine_sync_disks(machine, &error) &&
		     vmm_savefile_save(&saveable, job->path, &transfer, &error);
	} else {
		job->load_result =
			vmm_savefile_load(&saveable, job->path, &transfer, &error);
		ok = job->load_result == VMM_LOAD_DONE;
	}
	if (ok)
		g_task_return_boolean(task, TRUE);
	else
		g_task_return_error(task, error);
}

static void free_job(struct job *job)
{
	g_free(job->path);
	g_object_unref(job->cancel);
	json_object_unref(job->status);
	g_free(job);
}

/* Takes `error`. */
static void answer_failed(struct job *job, GError *error)
{
	if (job->load_result != VMM_LOAD_SPOILED) {
		vmm_answer_gerror(job->answer, error);
		return;
	}
	/* "refused" would say that nothing was changed. */
	vmm_answer_error(job->answer, "failed", error->message);
	g_error_free(error);
}

/* What a job's end means for whoever asked. Takes `error`, NULL where all went well. */
static void answer_job(struct job *job, GError *error)
{
	const char *done = job->command == VMM_COMMAND_SAVE ? "saved" : "loaded";

	if (!error) {
		g_message("machine: %s path=%s", done, job->path);
		tell(job->session, done, NULL, job->path);
	}
	if (!job->answer) {
		if (error)
			end_not_started(job->session, error);
	} else if (error) {
		g_info("machine: %s", error->message);
		answer_failed(job, error);
	} else {
		vmm_answer_ok(job->answer, NULL);
	}
}

static void resume_after_save(vmm_session *session)
{
	g_autoptr(GError) error = NULL;

	if (vmm_machine_resume(session->machine, &error))
		return;
	g_warning("machine: cannot resume after the save: %s", error->message);
	end(session, VMM_EXIT_GUEST_FAILED, "failed resume");
}

static void job_done(GObject *source, GAsyncResult *result, gpointer data)
{
	struct job *job = data;
	vmm_session *session = job->session;
	GError *error = NULL;
	gboolean done = g_task_propagate_boolean(G_TASK(result), &error);
	gboolean start = done && !job->answer && !session->options->paused;

	session->job = NULL;
	if (job->command == VMM_COMMAND_LOAD && job->load_result != VMM_LOAD_REFUSED)
		session->empty = !done;
	if (session->over)
		g_main_loop_quit(session->loop);
	else if (job->resume_after)
		resume_after_save(session);
	answer_job(job, error);
	free_job(job);
	error = NULL;
	if (start && !session->over && !resume(session, &error))
		end_not_started(session, error);
}

static void begin_job(vmm_session *session, enum vmm_command command, const char *path,
		      vmm_answer *answer)
{
	struct job *job = g_new0(struct job, 1);
	g_autoptr(GTask) task = NULL;

	job->session = session;
	job->command = command;
	job->path = g_strdup(path);
	job->cancel = g_cancellable_new();
	job->answer = answer;
	job->status = machine_status(session->machine);
	task = g_task_new(NULL, job->cancel, job_done, job);
	/* A save that was complete when it was cancelled is complete. */
	g_task_set_check_cancellable(task, FALSE);
	g_task_set_task_data(task, job, NULL);
	session->job = job;
	g_task_run_in_thread(task, work);
}

static void command_save(vmm_session *session, const char *path, vmm_answer *answer)
{
	gboolean running = vmm_machine_run_state(session->machine) == VMM_RUNNING;
	GError *error = NULL;

	if (session->empty) {
		vmm_answer_error(answer, "wrong-state", "there is nothing to save");
	} else if (!vmm_machine_pause(session->machine, &error)) {
		vmm_answer_gerror(answer, error);
	} else {
		begin_job(session, VMM_COMMAND_SAVE, path, answer);
		session->job->resume_after = running;
	}
}

static void command_load(vmm_session *session, const char *path, vmm_answer *answer)
{
	if (vmm_machine_run_state(session->machine) != VMM_PREPARED)
		vmm_answer_error(answer, "wrong-state",
				 "only a machine that never ran can be loaded");
	else
		begin_job(session, VMM_COMMAND_LOAD, path, answer);
}

static void command_cancel(vmm_session *session, vmm_answer *answer)
{
	if (session->job) {
		g_cancellable_cancel(session->job->cancel);
		vmm_answer_ok(answer, NULL);
	} else {
		vmm_answer_error(answer, "wrong-state", "no save or load is under way");
	}
}

/* Takes `error`. */
static void answer_simple(vmm_answer *answer, gboolean ok, GError *error)
{
	if (ok)
		vmm_answer_ok(answer, NULL);
	else
		vmm_answer_gerror(answer, error);
}

static void run_command(void *data, enum vmm_command command, const char *path,
			vmm_answer *answer)
{
	vmm_session *session = data;
	vmm_machine *machine = session->machine;
	GError *error = NULL;
	const char *objection = NULL;
	gboolean ok;

	if (!machine) {
		vmm_answer_error(answer, "failed", "the run is over");
		return;
	}
	/* What does not call the machine. */
	switch (command) {
	case VMM_COMMAND_STATUS:
		vmm_answer_ok(answer, status(session));
		return;
	case VMM_COMMAND_CANCEL:
		command_cancel(session, answer);
		return;
	case VMM_COMMAND_QUIT:
		vmm_answer_ok(answer, NULL);
		end(session, VMM_EXIT_DONE, "command");
		return;
	default:
		break;
	}
	if (session->job) {
		vmm_answer_error(answer, "busy", "a save or load is under way");
		return;
	}
	if (session->extension)
		objection = session->extension->objects(session->extension->data, command);
	if (objection) {
		vmm_answer_error(answer, "wrong-state", objection);
		return;
	}
	switch (command) {
	case VMM_COMMAND_SAVE:
		command_save(session, path, answer);
		break;
	case VMM_COMMAND_LOAD:
		command_load(session, path, answer);
		break;
	case VMM_COMMAND_PAUSE:
		ok = vmm_machine_pause(machine, &error);
		answer_simple(answer, ok, error);
		break;
	case VMM_COMMAND_RESUME:
		ok = resume(session, &error);
		answer_simple(answer, ok, error);
		break;
	case VMM_COMMAND_POWERDOWN:
		ok = vmm_machine_powerdown(machine, &error);
		answer_simple(answer, ok, error);
		break;
	case VMM_COMMAND_RESET:
		ok = vmm_machine_reset(machine, &error);
		answer_simple(answer, ok, error);
		break;
	default:
		g_assert_not_reached();
	}
}

static void run_extra(void *data, const char *command, JsonObject *arguments,
		      vmm_answer *answer)
{
	vmm_session *session = data;
	const struct vmm_extension *extension = session->extension;

	if (!session->machine)
		vmm_answer_error(answer, "failed", "the run is over");
	else if (session->job)
		vmm_answer_error(answer, "busy", "a save or load is under way");
	else
		extension->run(extension->data, command, arguments, answer);
}

static gboolean make_machine(vmm_session *session, GError **error)
{
	const struct vmm_options *options = session->options;
	const struct vmm_extension *extension = session->extension;

	session->config = options->machine;
	session->empty = options->load || !options->machine.kernel;
	session->started_ns = 0;
	if (extension && extension->prepare(extension->data, &session->config))
		session->empty = TRUE;
	session->machine = vmm_machine_new(&session->config, session->empty,
					   on_machine_event, session, error);
	if (session->machine && extension)
		extension->attach(extension->data, session, session->machine);
	return session->machine != NULL;
}

static void free_machine(vmm_session *session)
{
	if (session->machine && session->extension)
		session->extension->attach(session->extension->data, session, NULL);
	g_clear_pointer(&session->machine, vmm_machine_free);
}

void vmm_session_renew(vmm_session *session)
{
	GError *error = NULL;

	g_assert(!session->job);
	free_machine(session);
	if (!make_machine(session, &error))
		end_not_started(session, error);
}

void vmm_session_event(vmm_session *session, const char *name, const char *detail)
{
	g_message("%s%s%s", name, detail ? ": " : "", detail ? detail : "");
	tell(session, name, NULL, detail);
}

vmm_session *vmm_session_new(const struct vmm_options *options,
			     const struct vmm_extension *extension, GError **error)
{
	g_autoptr(vmm_session) session = g_new0(vmm_session, 1);
	const struct vmm_commands commands = {
		.data = session,
		.run = run_command,
		.extra = extension ? extension->commands : NULL,
		.run_extra = run_extra,
	};

	session->options = options;
	session->extension = extension;
	session->loop = g_main_loop_new(NULL, FALSE);
	if (!make_machine(session, error))
		return NULL;
	if (options->control) {
		session->commands = vmm_table_new(&commands);
		session->control = base_control_new(
			options->control, vmm_table_commands(session->commands), error);
		vmm_error_of_socket(error);
		if (!session->control)
			return NULL;
	}
	return g_steal_pointer(&session);
}

void vmm_session_free(vmm_session *session)
{
	if (!session)
		return;
	g_assert(!session->job);
	/* First: who waits for an answer gets one. */
	free_machine(session);
	base_control_free(session->control);
	vmm_table_free(session->commands);
	g_main_loop_unref(session->loop);
	g_clear_error(&session->error);
	g_free(session);
}

static void start(vmm_session *session)
{
	const struct vmm_options *options = session->options;
	const struct vmm_extension *extension = session->extension;
	GError *error = NULL;

	if (extension && !extension->start(extension->data, &error))
		end_not_started(session, error);
	else if (is_shadow(session))
		return;
	else if (options->load)
		begin_job(session, VMM_COMMAND_LOAD, options->load, NULL);
	else if (!options->paused && !resume(session, &error))
		end_not_started(session, error);
}

enum vmm_exit_status vmm_session_run(vmm_session *session, GError **error)
{
	start(session);
	/* A job's worker still uses the machine: then job_done() ends the loop. */
	if (!session->over || session->job)
		g_main_loop_run(session->loop);
	if (!session->error)
		g_message("machine: ends on %s", session->why_over);
	tell(session, "quit", NULL, session->why_over);
	if (session->error)
		g_propagate_error(error, g_steal_pointer(&session->error));
	return session->exit;
}

void vmm_session_quit(vmm_session *session, const char *why)
{
	end(session, VMM_EXIT_DONE, why);
}
