/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-vm as its colod knows it. */
#include "colo/guest.h"

#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/protocol.h"
#include "colo/client.h"

#define POLL_MS 1000u
#define STATUS_MS 3000u
#define ANSWER_MS 30000u
#define QUIT_MS 3000u
#define NAME "colo-vm"

/* A command under way: there is one of each kind at most. */
struct request {
	colo_guest *guest;
	enum colo_word word;
};

struct colo_guest {
	struct request requests[COLO__WORDS];
	const colo_pair *pair;
	guint self;
	const struct colo_places *places;
	const struct colo_guest_hooks *hooks;
	void *data;
	colo_child *child;
	colo_client *client;
	gboolean standby, adopting, ready;
	gboolean seen; /* this one's status was, once */
	guint poll;
	JsonObject *status;
	guint64 status_ns; /* when it came; or since when it is waited for */
	gboolean asked;
};

/* The command line. */

static char *path_in(const char *directory, const char *name)
{
	return g_build_filename(directory, name, NULL);
}

char *colo_guest_console(const colo_guest *guest)
{
	return path_in(guest->places->run, "console.sock");
}

char *colo_guest_log(const colo_guest *guest)
{
	return path_in(guest->places->log, NAME ".log");
}

char *colo_guest_outputs(const colo_guest *guest)
{
	return path_in(guest->places->run, "outputs.sock");
}

static void add(GPtrArray *argv, const char *name, char *value_take)
{
	g_ptr_array_add(argv, g_strdup(name));
	if (value_take)
		g_ptr_array_add(argv, value_take);
}

/* A comma in a value is written twice. */
static char *doubled(const char *text)
{
	g_auto(GStrv) parts = g_strsplit(text, ",", -1);

	return g_strjoinv(",,", parts);
}

static char *disk_words(const struct colo_disk_config *disk, guint self)
{
	g_autofree char *path = doubled(disk->path[self]);
	g_autofree char *serial = disk->serial ? doubled(disk->serial) : NULL;

	return g_strdup_printf("path=%s,readonly=%s,direct=%s%s%s", path,
			       disk->readonly ? "on" : "off", disk->direct ? "on" : "off",
			       serial ? ",serial=" : "", serial ? serial : "");
}

static void add_machine(GPtrArray *argv, const colo_pair *pair, guint self)
{
	const struct colo_vm_config *vm = &pair->vm;

	add(argv, "--memory", g_strdup_printf("%" G_GUINT64_FORMAT "M", vm->memory >> 20));
	add(argv, "--cpus", g_strdup_printf("%u", vm->cpus));
	add(argv, "--cpu-model", g_strdup(vm->cpu_model));
	add(argv, "--kernel", g_strdup(vm->kernel));
	if (vm->initrd)
		add(argv, "--initrd", g_strdup(vm->initrd));
	if (vm->append)
		add(argv, "--append", g_strdup(vm->append));
	if (!vm->rng)
		add(argv, "--no-rng", NULL);
	if (vm->on_reboot == COLO_GUEST_STOP)
		add(argv, "--no-reboot", NULL);
	for (guint i = 0; i < pair->disks; i++)
		add(argv, "--disk", disk_words(&pair->disk[i], self));
	for (guint i = 0; i < pair->nets; i++)
		add(argv, "--net",
		    g_strdup_printf("tap=%s,mac=%s", pair->net[i].tap, pair->net[i].mac));
}

static GStrv command_line(const colo_guest *guest)
{
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	g_autofree char *console = colo_guest_console(guest);

	g_ptr_array_add(argv, colo_places_program(guest->places, NAME));
	add(argv, "--verbose", NULL);
	add(argv, "--control", path_in(guest->places->run, "vm.sock"));
	add(argv, "--console", g_strconcat("unix:", console, NULL));
	add(argv, "--key", g_strdup(guest->pair->key));
	add_machine(argv, guest->pair, guest->self);
	if (guest->pair->comparison.enabled && guest->pair->nets)
		add(argv, "--outputs", colo_guest_outputs(guest));
	if (guest->standby)
		add(argv, "--standby", g_strdup(guest->pair->node[guest->self].replication));
	g_ptr_array_add(argv, NULL);
	return (GStrv)g_ptr_array_steal(argv, NULL);
}

/* What it tells. */

static const struct {
	const char *name;
	enum colo_vm_news news;
} news_rows[] = {
	{ "waiting", COLO_VM_WAITING },
	{ "joining", COLO_VM_JOINED },
	{ "standby", COLO_VM_STANDBY },
	{ "primary-lost", COLO_VM_PRIMARY_LOST },
	{ "primary-ended", COLO_VM_PRIMARY_ENDED },
	{ "protected", COLO_VM_PROTECTED },
	{ "unprotected", COLO_VM_UNPROTECTED },
	{ "handed-over", COLO_VM_HANDED },
	{ "promoted", COLO_VM_PROMOTED },
	{ "durable", COLO_VM_DURABLE },
	{ "poweroff", COLO_VM_POWEROFF },
	{ "panic", COLO_VM_PANIC },
	{ "disk-failed", COLO_VM_DISK_FAILED },
	{ "comparator-ready", COLO_VM_GUARD },
	{ "comparator-lost", COLO_VM_NO_GUARD },
};

/* Those that the node has words of its own for. */
static const char *const quiet[] = { "started", "paused", "resumed", "syncing",
				     "quit",	"mode",	  NULL };

static void event(void *data, const char *name, JsonObject *object)
{
	colo_guest *guest = data;
	const char *detail = base_json_text(object, "detail");
	const char *device = base_json_text(object, "device");
	g_autofree char *both = device ? g_strdup_printf("%s%s%s", device, detail ? ": " : "",
							 detail ? detail : "") :
					 NULL;

	if (!guest->ready)
		return; /* the status that was asked for behind it says the same */
	for (gsize i = 0; i < G_N_ELEMENTS(news_rows); i++)
		if (!strcmp(name, news_rows[i].name)) {
			guest->hooks->news(guest->data, news_rows[i].news, detail);
			return;
		}
	/* With --no-reboot it ends for that. */
	if (!strcmp(name, "reset") && guest->pair->vm.on_reboot == COLO_GUEST_STOP)
		guest->hooks->news(guest->data, COLO_VM_POWEROFF, detail);
	else if (!g_strv_contains(quiet, name))
		guest->hooks->event(guest->data, name, both ? both : detail);
}

static JsonObject *member_object(JsonObject *object, const char *name)
{
	JsonNode *node = object ? json_object_get_member(object, name) : NULL;

	return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static gboolean flag(JsonObject *object, const char *name)
{
	JsonNode *node = object ? json_object_get_member(object, name) : NULL;

	return node && JSON_NODE_HOLDS_VALUE(node) &&
	       json_node_get_value_type(node) == G_TYPE_BOOLEAN && json_node_get_boolean(node);
}

static void read_epoch(colo_guest *guest, JsonObject *replication)
{
	JsonObject *last = member_object(member_object(replication, "checkpoints"), "last");
	guint64 epoch;

	if (base_json_count(last ? last : replication, "epoch", &epoch))
		guest->hooks->epoch(guest->data, epoch);
}

/* What an adopted one is. */
static void tell_found(colo_guest *guest, JsonObject *status, JsonObject *replication)
{
	const char *state = base_json_text(replication, "state");
	const struct colo_vm_found found = {
		.standby = !g_strcmp0(base_json_text(replication, "role"), "secondary"),
		.syncing = !g_strcmp0(state, "syncing") || !g_strcmp0(state, "connecting"),
		.protected_now = !g_strcmp0(state, "protected"),
		.handing = !g_strcmp0(state, "handing-over"),
		.held = !g_strcmp0(base_json_text(status, "state"), "paused"),
		.promotable = flag(replication, "promotable"),
		.lost = !g_strcmp0(state, "holding") || !g_strcmp0(state, "waiting"),
		.durable = !member_object(replication, "merge"),
	};

	guest->standby = found.standby;
	guest->hooks->found(guest->data, &found);
}

/* The connection was lost, and what was told meanwhile with it: as if it had happened now. What
 * the node knows already means nothing to it. */
static void catch_up_on_role(colo_guest *guest, JsonObject *replication, const char *state)
{
	if (!g_strcmp0(base_json_text(replication, "role"), "primary")) {
		guest->hooks->news(guest->data, COLO_VM_PROMOTED, NULL);
		if (!member_object(replication, "merge"))
			guest->hooks->news(guest->data, COLO_VM_DURABLE, NULL);
		if (!g_strcmp0(state, "protected"))
			guest->hooks->news(guest->data, COLO_VM_PROTECTED, NULL);
		else if (!g_strcmp0(state, "handed-over"))
			guest->hooks->news(guest->data, COLO_VM_HANDED, NULL);
		else if (!g_strcmp0(state, "unprotected"))
			guest->hooks->news(guest->data, COLO_VM_UNPROTECTED,
					   base_json_text(replication, "lost"));
	} else if (!g_strcmp0(state, "holding")) {
		guest->hooks->news(guest->data, COLO_VM_STANDBY, NULL);
		guest->hooks->news(guest->data, COLO_VM_PRIMARY_LOST,
				   base_json_text(replication, "lost"));
	}
}

/* What happened before its events were heard. */
static void catch_up(colo_guest *guest, JsonObject *status)
{
	JsonObject *replication = member_object(status, "replication");
	const char *state = replication ? base_json_text(replication, "state") : NULL;

	guest->ready = TRUE;
	if (guest->adopting) {
		guest->adopting = FALSE;
		tell_found(guest, status, replication);
	} else if (guest->seen && replication) {
		catch_up_on_role(guest, replication, state);
	}
	guest->seen = TRUE;
	guest->hooks->news(guest->data, COLO_VM_UP, NULL);
	if (!g_strcmp0(state, "waiting"))
		guest->hooks->news(guest->data, COLO_VM_WAITING, NULL);
	else if (!g_strcmp0(state, "joining"))
		guest->hooks->news(guest->data, COLO_VM_JOINED, NULL);
	else if (!g_strcmp0(state, "standby"))
		guest->hooks->news(guest->data, COLO_VM_STANDBY, NULL);
	if (flag(member_object(replication, "outputs"), "ready"))
		guest->hooks->news(guest->data, COLO_VM_GUARD, NULL);
}

static void have_status(void *data, JsonObject *result, const char *code, const char *message)
{
	colo_guest *guest = data;

	guest->asked = FALSE;
	if (!result)
		return;
	g_clear_pointer(&guest->status, json_object_unref);
	guest->status = json_object_ref(result);
	guest->status_ns = base_clock_monotonic_ns();
	if (!guest->ready)
		catch_up(guest, result);
	read_epoch(guest, member_object(result, "replication"));
}

static void ask_status(colo_guest *guest)
{
	if (guest->asked || !guest->client)
		return;
	guest->asked = TRUE;
	colo_client_send(guest->client, "status", NULL, STATUS_MS, have_status, guest);
}

static gboolean poll_status(gpointer data)
{
	ask_status(data);
	return G_SOURCE_CONTINUE;
}

static void connected(void *data)
{
	colo_guest *guest = data;

	guest->ready = FALSE;
	guest->asked = FALSE;
	colo_client_send(guest->client, "events", NULL, STATUS_MS, NULL, NULL);
	ask_status(guest);
}

static void closed(void *data, const char *why)
{
	colo_guest *guest = data;
	const gboolean was_ready = guest->ready;

	guest->ready = FALSE;
	guest->asked = FALSE;
	if (was_ready)
		guest->hooks->news(guest->data, COLO_VM_DEAF, NULL);
}

/* Its life. */

static void forget(colo_guest *guest)
{
	if (guest->poll)
		g_source_remove(guest->poll);
	guest->poll = 0;
	g_clear_pointer(&guest->client, colo_client_free);
	g_clear_pointer(&guest->child, colo_child_free);
	g_clear_pointer(&guest->status, json_object_unref);
	guest->ready = guest->asked = guest->seen = FALSE;
}

static void ended(void *data, const struct colo_child_end *end)
{
	colo_guest *guest = data;
	g_autofree char *how = g_strdup(end->words);
	const gboolean adopting = guest->adopting;

	guest->adopting = FALSE;
	forget(guest);
	base_fault("vm-gone");
	g_message(NAME " has ended: %s", how);
	if (adopting)
		guest->hooks->found(guest->data, NULL);
	else
		guest->hooks->gone(guest->data, how);
}

static const struct colo_child_config *config(const colo_guest *guest, GStrv argv, char *log)
{
	static struct colo_child_config config;

	config = (struct colo_child_config){
		.name = NAME,
		.argv = (const char *const *)argv,
		.run_dir = guest->places->run,
		.log = log,
		.log_bytes = guest->places->log_bytes,
		.fd = -1,
		.set_oom_score = TRUE,
		.oom_score_adj = -800,
	};
	return &config;
}

static void attend(colo_guest *guest)
{
	g_autofree char *socket = path_in(guest->places->run, "vm.sock");
	const struct colo_client_hooks hooks = {
		.data = guest,
		.connected = connected,
		.closed = closed,
		.event = event,
	};

	guest->status_ns = base_clock_monotonic_ns();
	guest->client = colo_client_new(socket, &hooks);
	guest->poll = g_timeout_add(POLL_MS, poll_status, guest);
}

static gboolean tell_gone(gpointer data)
{
	colo_guest *guest = data;

	guest->poll = 0;
	guest->hooks->gone(guest->data, "it could not be started");
	return G_SOURCE_REMOVE;
}

void colo_guest_start(colo_guest *guest, gboolean standby)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *log = colo_guest_log(guest);
	g_auto(GStrv) argv = NULL;

	guest->standby = standby;
	argv = command_line(guest);
	base_fault("vm-start");
	guest->child = colo_child_start(config(guest, argv, log), ended, guest, &error);
	if (guest->child) {
		base_fault("vm-started");
		attend(guest);
		return;
	}
	g_warning("%s", error->message);
	guest->poll = g_idle_add(tell_gone, guest);
}

gboolean colo_guest_adopt(colo_guest *guest)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *log = colo_guest_log(guest);
	g_auto(GStrv) argv = command_line(guest);

	guest->child = colo_child_adopt(config(guest, argv, log), ended, guest, &error);
	if (error)
		g_warning("%s", error->message);
	if (!guest->child)
		return FALSE;
	base_fault("vm-adopted");
	guest->adopting = TRUE;
	attend(guest);
	return TRUE;
}

void colo_guest_end(colo_guest *guest, gboolean kill)
{
	if (!guest->child)
		return;
	base_fault("vm-end");
	if (kill)
		colo_child_kill(guest->child);
	else
		colo_child_terminate(guest->child, QUIT_MS);
}

/* What it is told. */

static const char *const words[COLO__WORDS] = {
	[COLO_WORD_PROTECT] = "protect",     [COLO_WORD_UNPROTECT] = "unprotect",
	[COLO_WORD_RESUME] = "resume",	     [COLO_WORD_PROMOTE] = "promote",
	[COLO_WORD_GIVE_UP] = "standby",     [COLO_WORD_HAND_OVER] = "hand-over",
	[COLO_WORD_POWERDOWN] = "powerdown", [COLO_WORD_CHECKPOINT] = "checkpoint",
	[COLO_WORD_RESET] = "reset",
};

static void answered(void *data, JsonObject *result, const char *code, const char *message)
{
	const struct request *request = data;

	base_fault_of("answered", words[request->word]);
	request->guest->hooks->answered(request->guest->data, request->word, result != NULL,
					result ? NULL : message);
}

static JsonObject *protect_arguments(const colo_guest *guest)
{
	const struct colo_checkpoint_config *checkpoint = &guest->pair->checkpoint;
	JsonObject *object = json_object_new();

	json_object_set_string_member(object, "to",
				      guest->pair->node[!guest->self].replication);
	json_object_set_string_member(object, "mode", checkpoint->mode);
	json_object_set_int_member(object, "period_ms", checkpoint->period_ms);
	json_object_set_int_member(object, "age_ms", checkpoint->age_ms);
	json_object_set_int_member(object, "bandwidth", (gint64)checkpoint->bandwidth);
	if (checkpoint->connections)
		json_object_set_int_member(object, "connections", checkpoint->connections);
	json_object_set_int_member(object, "silence_ms", checkpoint->silence_ms);
	json_object_set_string_member(object, "on_loss", "hold");
	if (!guest->pair->comparison.enabled || !guest->pair->nets)
		json_object_set_boolean_member(object, "unguarded", TRUE);
	if (checkpoint->verify)
		json_object_set_boolean_member(object, "verify", TRUE);
	return object;
}

void colo_guest_say(colo_guest *guest, enum colo_word word)
{
	struct request *request = &guest->requests[word];

	if (!guest->client)
		return;
	*request = (struct request){ guest, word };
	base_fault_of("say", words[word]);
	colo_client_send(guest->client, words[word],
			 word == COLO_WORD_PROTECT ? protect_arguments(guest) : NULL,
			 ANSWER_MS, answered, request);
}

void colo_guest_tell_clock(colo_guest *guest, gint64 offset_ns, guint64 error_ns)
{
	JsonObject *object;

	if (!guest->ready)
		return;
	object = json_object_new();
	json_object_set_int_member(object, "offset_ns", offset_ns);
	json_object_set_int_member(object, "error_ns", (gint64)error_ns);
	colo_client_send(guest->client, "peer-clock", object, ANSWER_MS, NULL, NULL);
}

/* For the status. */

pid_t colo_guest_pid(const colo_guest *guest)
{
	return guest->child ? colo_child_pid(guest->child) : 0;
}

JsonObject *colo_guest_status(const colo_guest *guest)
{
	return guest->status;
}

guint64 colo_guest_silent_ms(const colo_guest *guest)
{
	const guint64 ms = (base_clock_monotonic_ns() - guest->status_ns) / 1000000;

	return guest->child && ms > 2 * POLL_MS ? ms : 0;
}

colo_guest *colo_guest_new(const colo_pair *pair, guint self,
			   const struct colo_places *places,
			   const struct colo_guest_hooks *hooks, void *data)
{
	colo_guest *guest = g_new0(colo_guest, 1);

	guest->pair = pair;
	guest->self = self;
	guest->places = places;
	guest->hooks = hooks;
	guest->data = data;
	return guest;
}

void colo_guest_free(colo_guest *guest)
{
	if (!guest)
		return;
	forget(guest);
	g_free(guest);
}
