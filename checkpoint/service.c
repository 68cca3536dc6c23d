/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replication as a program offers it: the outside of the service.
 *
 * What takes time is done by threads, which post notes; each note carries the round in
 * which its sender was started, and one of an earlier round says nothing any more.
 */
#include "checkpoint/service_private.h"

#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/tcp.h"
#include "checkpoint/fault.h"
#include "kvm/error.h"

static const char *const state_names[] = {
	[SERVICE_UNPROTECTED] = "unprotected", [SERVICE_CONNECTING] = "connecting",
	[SERVICE_SYNCING] = "syncing",	       [SERVICE_PROTECTED] = "protected",
	[SERVICE_HANDING] = "handing-over",    [SERVICE_HANDED] = "handed-over",
	[SERVICE_WAITING] = "waiting",	       [SERVICE_JOINING] = "joining",
	[SERVICE_STANDBY] = "standby",	       [SERVICE_HOLDING] = "holding",
};

static gboolean is_standby(const ckpt_service *service)
{
	return service->state >= SERVICE_WAITING;
}

/* What a disk refuses is worth keeping while another host could load it. */
static void keep_refused(ckpt_service *service, enum service_state state)
{
	if (state == SERVICE_HANDING || state == SERVICE_HANDED)
		return;
	if (service->disk_wait)
		g_source_remove(service->disk_wait);
	service->disk_wait = 0;
	if (service->machine)
		ckpt_node_keep_refused(service->node, state == SERVICE_PROTECTED);
}

void service_enter(ckpt_service *service, enum service_state state, const char *event,
		   const char *detail)
{
	service->state = state;
	keep_refused(service, state);
	if (event)
		vmm_session_event(service->session, event, detail);
}

/* Notes. */

void service_post(ckpt_service *service, guint round, enum service_note kind,
		  guint64 number, const char *text)
{
	const struct ckpt_note note = {
		.kind = kind, .round = round, .number = number, .text = (char *)text
	};

	ckpt_inbox_post(service->inbox, &note);
}

static void free_greeting(struct greeting *greeting)
{
	base_channel_free(greeting->channel);
	ckpt_primary_free(greeting->primary);
	ckpt_secondary_free(greeting->secondary);
	g_clear_error(&greeting->error);
	g_free(greeting);
}

/* What came of it, for the caller to free. */
static struct greeting *end_of_greeting(ckpt_service *service)
{
	struct greeting *greeting = g_thread_join(service->greeter);

	service->greeter = NULL;
	base_fd_clear(&service->greeter_fd);
	return greeting;
}

static void read_greeting(ckpt_service *service)
{
	struct greeting *greeting = end_of_greeting(service);

	if (is_standby(service))
		service_greeted_standby(service, greeting);
	else
		service_greeted_primary(service, greeting);
	free_greeting(greeting);
}

static void read_note_of_round(ckpt_service *service, const struct ckpt_note *note)
{
	/* What a greeting made may speak before the greeter does. It is done then but for its
	 * last words. */
	if (service->greeter)
		read_greeting(service);
	if (note->kind == NOTE_GREETED || note->round != service->round)
		return;
	if (is_standby(service))
		service_standby_note(service, note);
	else
		service_primary_note(service, note);
}

static void read_note(void *data, struct ckpt_note *note)
{
	ckpt_service *service = data;

	if (note->kind == NOTE_COMPARATOR) {
		vmm_session_event(service->session,
				  note->text ? "comparator-lost" : "comparator-ready",
				  note->text);
		if (note->text)
			service_drained(service);
	} else if (note->kind == NOTE_DRAINED) {
		service_drained(service);
	} else if (note->kind == NOTE_MODE) {
		service_choose_mode(service, note->number != 0, note->text);
	} else if (note->kind == NOTE_DURABLE) {
		vmm_session_event(service->session, note->number ? "not-durable" : "durable",
				  note->number ? g_strerror((int)note->number) : NULL);
	} else if (note->round == service->round) {
		read_note_of_round(service, note);
	}
}

/* Greetings. */

struct greeter {
	struct greeting *greeting;
	void (*fn)(ckpt_service *service, struct greeting *greeting);
	guint round;
};

static void *greet(void *data)
{
	struct greeter *greeter = data;
	struct greeting *greeting = greeter->greeting;

	greeter->fn(greeting->service, greeting);
	service_post(greeting->service, greeter->round, NOTE_GREETED, 0, NULL);
	g_free(greeter);
	return greeting;
}

void service_greet_take(ckpt_service *service, base_channel *channel,
			void (*fn)(ckpt_service *service, struct greeting *greeting))
{
	struct greeter *greeter = g_new0(struct greeter, 1);

	g_assert(!service->greeter);
	service->round++;
	g_atomic_int_set(&service->greeter_over, 0);
	service->greeter_fd = base_channel_dup_fd(channel);
	greeter->greeting = g_new0(struct greeting, 1);
	*greeter->greeting = (struct greeting){ .service = service, .channel = channel };
	greeter->fn = fn;
	greeter->round = service->round;
	service->greeter = g_thread_new("greet", greet, greeter);
}

void service_end_greeting(ckpt_service *service)
{
	if (!service->greeter)
		return;
	g_atomic_int_set(&service->greeter_over, 1);
	if (service->greeter_fd >= 0)
		shutdown(service->greeter_fd, SHUT_RDWR);
	free_greeting(end_of_greeting(service));
	service->round++;
}

/* Options. */

static gboolean G_GNUC_PRINTF(2, 3) bad_option(GError **error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (error)
		*error = g_error_new_valist(VMM_ERROR, VMM_ERROR_CONFIG, format, args);
	va_end(args);
	return FALSE;
}

static gboolean take_key(void *data, const char *value, GError **error)
{
	ckpt_service *service = data;

	service->key = g_strdup(value);
	return *value || bad_option(error, "is empty");
}

static gboolean take_standby(void *data, const char *value, GError **error)
{
	ckpt_service *service = data;

	g_autoptr(GError) why = NULL;

	service->standby = g_strdup(value);
	return base_tcp_parse(value, NULL, NULL, &why) || bad_option(error, "%s", why->message);
}

static gboolean take_outputs(void *data, const char *value, GError **error)
{
	ckpt_service *service = data;

	service->outputs_path = g_strdup(value);
	return *value || bad_option(error, "is empty");
}

static gboolean brings_guest(void *data)
{
	return ((ckpt_service *)data)->standby != NULL;
}

static gboolean judge_options(void *data, const struct vmm_options *options, GError **error)
{
	const ckpt_service *service = data;

	if (service->outputs_path && !options->machine.nets->len)
		return bad_option(error, "--outputs needs --net: there are none");
	if (!service->standby)
		return TRUE;
	if (!service->key)
		return bad_option(error, "--standby needs --key");
	if (options->load)
		return bad_option(error, "--standby and --load: the guest comes from the "
				  "primary");
	if (!options->control)
		return bad_option(error, "--standby needs --control: nobody could promote it");
	return TRUE;
}

static const struct vmm_extra_option option_rows[] = {
	{ "key", take_key, "FILE", "the pair's key, for replication" },
	{ "standby", take_standby, "ADDRESS:PORT",
	  "wait there for a primary, and hold a copy of its guest" },
	{ "outputs", take_outputs, "PATH",
	  "a comparator connects there and holds what the guest sends" },
	{ NULL },
};

/* The machine. */

static void tell_durable(void *data, int error)
{
	ckpt_service *service = data;

	service_post(service, 0, NOTE_DURABLE, (guint64)-error, NULL);
}

static void tell_disk_failed(void *data, guint disk, enum vmm_disk_op op, int error)
{
	ckpt_service *service = data;
	g_autofree char *text =
		g_strdup_printf("disk %u cannot be %s: %s", disk,
				op == VMM_DISK_READ ? "read" : "written", g_strerror(-error));

	service_post(service, service->round, NOTE_DISK_FAILED, 0, text);
}

static void tell_disk_kept(void *data, guint disk, const struct vmm_disk_request *request,
			   int error)
{
	static const char *const names[] = { "read", "write", "flush", "discard", "zeroing" };
	ckpt_service *service = data;
	g_autofree char *text = g_strdup_printf(
		"disk %u: %s of %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT ": %s", disk,
		names[request->op], request->len, request->offset, g_strerror(-error));

	service_post(service, service->round, NOTE_DISK_KEPT, 0, text);
}

static gboolean prepare(void *data, struct vmm_config *config)
{
	ckpt_service *service = data;
	const struct ckpt_node_hooks hooks = {
		.data = service,
		.durable = tell_durable,
		.disk_failed = tell_disk_failed,
		.disk_kept = tell_disk_kept,
	};
	gboolean standby = service->standby != NULL;

	ckpt_node_free(service->node); /* of the machine before */
	service->node = ckpt_node_new(standby, config->nets->len, &hooks, service->filter);
	config->backends = ckpt_node_backends(service->node);
	return standby;
}

/* What the standby's supervisor should know of why the run ends: whether there is anything to
 * take over. */
static enum ckpt_ending ending_of_run(const ckpt_service *service)
{
	static const struct {
		const char *why;
		enum ckpt_ending end;
	} endings[] = {
		{ "command", CKPT_END_QUIT },	   { "signal", CKPT_END_QUIT },
		{ "console", CKPT_END_QUIT },	   { "poweroff", CKPT_END_POWEROFF },
		{ "reset", CKPT_END_RESET },
	};
	const char *why = vmm_session_why_over(service->session);

	for (guint i = 0; why && i < G_N_ELEMENTS(endings); i++)
		if (!strcmp(endings[i].why, why))
			return endings[i].end;
	return CKPT_END_FAULT;
}

/* Everything that works on the machine ends before it. */
static void detach(ckpt_service *service)
{
	service->ending = TRUE;
	if (!is_standby(service) && service->state != SERVICE_UNPROTECTED)
		service_end_primary(service, ending_of_run(service), "the run ends");
	service_end_greeting(service);
	service_drop_early(service);
	g_clear_pointer(&service->next, base_channel_free);
	g_clear_pointer(&service->dial, ckpt_dial_free);
	g_clear_pointer(&service->primary, ckpt_primary_free);
	g_clear_pointer(&service->secondary, ckpt_secondary_free);
	service->round++;
	service->machine = NULL;
}

static void attach(void *data, vmm_session *session, vmm_machine *machine)
{
	ckpt_service *service = data;

	service->session = session;
	if (!machine) {
		detach(service);
		return;
	}
	service->ending = FALSE;
	service->machine = machine;
	if (is_standby(service) || service->standby)
		vmm_machine_set_peer_clock(machine, service->peer_clock_ns);
	ckpt_node_attach(service->node, machine);
}

static gboolean start(void *data, GError **error)
{
	ckpt_service *service = data;

	if (!service_open_outputs(service, error) ||
	    (service->standby && !service_listen(service, error)))
		return FALSE;
	service_set_gate(service);
	return TRUE;
}

/* Whoever says so knows that it may run alone. What was handed over is taken back first. */
static void resuming(void *data)
{
	ckpt_service *service = data;

	if (service->state == SERVICE_HANDED)
		service_take_back(service);
}

static void resumed(void *data)
{
	ckpt_service *service = data;

	if (service->held == HELD_NOT)
		return;
	ckpt_fault(CKPT_FAULT_GOING_ON);
	service->held = HELD_NOT;
	service_set_gate(service);
}

static gboolean lingers(void *data)
{
	return service_linger(data);
}

static gboolean is_shadow(void *data)
{
	return is_standby(data);
}

static const char *objects(void *data, enum vmm_command command)
{
	const ckpt_service *service = data;

	if (is_standby(service))
		return "this machine is a standby: its guest is the primary's";
	if (service->state == SERVICE_HANDING &&
	    (command == VMM_COMMAND_RESUME || command == VMM_COMMAND_RESET))
		return "the guest is being handed over";
	if (service->state == SERVICE_HANDED && command == VMM_COMMAND_RESET)
		return "the guest was handed over: \"resume\" takes it back";
	if (service->state != SERVICE_UNPROTECTED &&
	    (command == VMM_COMMAND_SAVE || command == VMM_COMMAND_LOAD))
		return "the machine is being replicated: \"unprotect\" it first";
	return NULL;
}

/* Commands. */

static const char *const no_arguments[] = { NULL };
static const char *const protect_arguments[] = { "to",	      "mode",	  "period_ms",
						 "age_ms",    "bandwidth", "silence_ms",
						 "on_loss",   "verify",	  "connections",
						 "unguarded",
						 NULL };
static const char *const mode_arguments[] = { "mode", "period_ms", NULL };

static const char *const clock_arguments[] = { "offset_ns", "error_ns", NULL };

static const struct vmm_extra_command command_rows[] = {
	{ "protect", protect_arguments }, { "unprotect", no_arguments },
	{ "checkpoint", no_arguments },	  { "mode", mode_arguments },
	{ "promote", no_arguments },	  { "standby", no_arguments },
	{ "hand-over", no_arguments },	  { "peer-clock", clock_arguments },
	{ NULL },
};

#define IN(state) (1u << SERVICE_##state)
#define ALWAYS G_MAXUINT

/* What each command does, and in which states. */
static const struct {
	guint states;
	void (*run)(ckpt_service *service, JsonObject *arguments, vmm_answer *answer);
} commands[] = {
	{ IN(UNPROTECTED), service_protect },
	{ IN(CONNECTING) | IN(SYNCING) | IN(PROTECTED) | IN(HANDING) | IN(HANDED),
	  service_unprotect },
	{ IN(PROTECTED), service_checkpoint },
	{ IN(SYNCING) | IN(PROTECTED), service_mode },
	{ IN(STANDBY) | IN(HOLDING), service_promote },
	{ IN(HOLDING), service_stand_by },
	{ IN(PROTECTED), service_hand_over },
	{ ALWAYS, service_peer_clock },
};
G_STATIC_ASSERT(G_N_ELEMENTS(commands) == G_N_ELEMENTS(command_rows) - 1);

static void run(void *data, const char *command, JsonObject *arguments, vmm_answer *answer)
{
	ckpt_service *service = data;
	g_autofree char *message = NULL;
	guint i = 0;

	while (strcmp(command_rows[i].name, command))
		i++;
	if (commands[i].states & 1u << service->state) {
		commands[i].run(service, arguments, answer);
		return;
	}
	message = g_strdup_printf("%s: not while replication is \"%s\"", command,
				  state_names[service->state]);
	vmm_answer_error(answer, "wrong-state", message);
}

static JsonObject *status(void *data)
{
	ckpt_service *service = data;
	JsonObject *object = json_object_new();

	json_object_set_string_member(object, "state", state_names[service->state]);
	json_object_set_string_member(object, "role",
				      is_standby(service) ? "secondary" : "primary");
	if (service->peer)
		json_object_set_string_member(object, "peer", service->peer);
	else
		json_object_set_null_member(object, "peer");
	if (service->why)
		json_object_set_string_member(object, "lost", service->why);
	else
		json_object_set_null_member(object, "lost");
	if (is_standby(service))
		service_standby_status(service, object);
	else
		service_primary_status(service, object);
	service_outputs_status(service, object);
	return object;
}

ckpt_service *ckpt_service_new(const struct ckpt_filter_ops *filter)
{
	ckpt_service *service = g_new0(ckpt_service, 1);

	service->filter = filter;
	g_mutex_init(&service->asking);
	service->greeter_fd = -1;
	service->peer_clock_ns = VMM_PEER_CLOCK_UNKNOWN;
	g_queue_init(&service->early);
	service->inbox = ckpt_inbox_new(read_note, NULL, service);
	service->options = (struct vmm_extra_options){
		.data = service,
		.rows = option_rows,
		.judge = judge_options,
		.brings_guest = brings_guest,
	};
	service->extension = (struct vmm_extension){
		.data = service,
		.prepare = prepare,
		.attach = attach,
		.start = start,
		.resuming = resuming,
		.resumed = resumed,
		.lingers = lingers,
		.objects = objects,
		.is_shadow = is_shadow,
		.commands = command_rows,
		.run = run,
		.status_name = "replication",
		.status = status,
	};
	return service;
}

void ckpt_service_free(ckpt_service *service)
{
	if (!service)
		return;
	g_assert(!service->machine);
	service_end_greeting(service);
	ckpt_listener_free(service->listener);
	ckpt_dial_free(service->dial);
	ckpt_outputs_free(service->outputs);
	g_mutex_clear(&service->asking);
	base_channel_free(service->next);
	ckpt_inbox_close(service->inbox);
	ckpt_inbox_unref(service->inbox);
	ckpt_node_free(service->node);
	ckpt_statistics_free(service->statistics);
	g_free(service->peer);
	g_free(service->why);
	g_free(service->key);
	g_free(service->standby);
	g_free(service->outputs_path);
	g_free(service);
}

const struct vmm_extra_options *ckpt_service_options(ckpt_service *service)
{
	return &service->options;
}

const struct vmm_extension *ckpt_service_extension(ckpt_service *service)
{
	return &service->extension;
}
