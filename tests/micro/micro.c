/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine with the micro-guest in this process, and its command line. */
#include "tests/micro/micro.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define PATIENCE_NS (10 * G_GUINT64_CONSTANT(1000000000))
#define SLICE_NS (20 * G_GUINT64_CONSTANT(1000000))
#define EVENT_TYPES 16

struct micro {
	struct micro_options options;
	int guest_end; /* of the line; each machine gets a copy */
	char *disk, *disk2, *tap, *append;
	vmm_machine *machine;
	int line; /* our end of the guest's virtio console */
	GString *heard;
	guint events[EVENT_TYPES];
	char *details[EVENT_TYPES];
};

static const char *guest_path(void)
{
	return g_getenv("MICROGUEST") ?: "build/guest/microguest.bin";
}

void micro_need_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		fprintf(stderr, "SKIPPED: /dev/kvm: %s; these tests run a guest\n",
			g_strerror(errno));
		exit(MICRO_SKIP);
	}
	close(fd);
}

static void on_event(void *data, const struct vmm_event *event)
{
	micro *guest = data;

	guest->events[event->type]++;
	g_free(guest->details[event->type]);
	guest->details[event->type] = g_strdup(event->detail);
}

static void add_disk(struct vmm_config *config, const char *path, gboolean readonly)
{
	struct vmm_disk_config disk = { .path = g_strdup(path), .readonly = readonly };

	if (path)
		g_array_append_val(config->disks, disk);
}

static void add_net(struct vmm_config *config, const char *tap, guint8 mac)
{
	struct vmm_net_config net = { .tap = g_strdup(tap),
				      .mac = { 2, 0, 0, 0, 0, mac ?: 1 } };

	if (tap)
		g_array_append_val(config->nets, net);
}

static vmm_machine *make_machine(micro *guest, gboolean for_load, GError **error)
{
	const struct micro_options *options = &guest->options;
	struct vmm_config config;
	vmm_machine *machine;

	vmm_config_init(&config);
	config.kernel = g_strdup(guest_path());
	config.append = g_strdup(options->append);
	config.memory = options->memory ?: 64 << 20;
	config.cpus = options->cpus ?: 1;
	config.dirty = options->dirty;
	config.backends = options->backends;
	g_free(config.console);
	config.console = g_strdup(g_getenv("MICRO_CONSOLE") ?: "none");
	config.hvc = g_strdup_printf("fd:%d", dup(guest->guest_end));
	add_disk(&config, options->disk, FALSE);
	add_disk(&config, options->disk2, options->disk2_readonly);
	add_net(&config, options->tap, options->mac);
	machine = vmm_machine_new(&config, for_load, on_event, guest, error);
	vmm_config_clear(&config);
	return machine;
}

micro *micro_try_new(const struct micro_options *options, GError **error)
{
	micro *guest = g_new0(struct micro, 1);
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		g_error("socketpair: %s", g_strerror(errno));
	guest->options = *options;
	guest->options.disk = guest->disk = g_strdup(options->disk);
	guest->options.disk2 = guest->disk2 = g_strdup(options->disk2);
	guest->options.tap = guest->tap = g_strdup(options->tap);
	guest->options.append = guest->append = g_strdup(options->append);
	guest->line = ends[0];
	guest->guest_end = ends[1];
	guest->heard = g_string_new(NULL);
	guest->machine = make_machine(guest, options->for_load, error);
	if (!guest->machine) {
		micro_free(guest);
		return NULL;
	}
	return guest;
}

micro *micro_new(const struct micro_options *options)
{
	g_autoptr(GError) error = NULL;
	micro *guest = micro_try_new(options, &error);

	if (!guest)
		g_error("%s", error->message);
	if (options->for_load)
		return guest;
	if (!vmm_machine_resume(guest->machine, &error))
		g_error("%s", error->message);
	g_free(micro_do(guest, "ping"));
	return guest;
}

void micro_free(micro *guest)
{
	if (!guest)
		return;
	vmm_machine_free(guest->machine);
	close(guest->line);
	close(guest->guest_end);
	g_string_free(guest->heard, TRUE);
	for (guint i = 0; i < EVENT_TYPES; i++)
		g_free(guest->details[i]);
	g_free(guest->disk);
	g_free(guest->disk2);
	g_free(guest->tap);
	g_free(guest->append);
	g_free(guest);
}

vmm_machine *micro_machine(micro *guest)
{
	return guest->machine;
}

/* Handles events and hears what the guest says, for at most a millisecond. Returns how long
 * that was, in ns, but no more than a slice: where this whole computer stood still for a
 * while (a virtual one that was stopped), the guest had no time to answer either. */
static guint64 listen_a_little(micro *guest)
{
	struct pollfd ready = { .fd = guest->line, .events = POLLIN };
	guint64 start = base_clock_monotonic_ns();
	char bytes[4096];

	while (g_main_context_iteration(NULL, FALSE))
		;
	if (poll(&ready, 1, 1) == 1 && ready.revents & POLLIN) {
		gssize got = read(guest->line, bytes, sizeof(bytes));

		if (got > 0)
			g_string_append_len(guest->heard, bytes, got);
	}
	return MIN(base_clock_monotonic_ns() - start, SLICE_NS);
}

/* The next whole line that was heard; NULL if there is none. */
static char *take_line(micro *guest)
{
	char *end = strchr(guest->heard->str, '\n');
	char *line;

	if (!end)
		return NULL;
	line = g_strndup(guest->heard->str, (gsize)(end - guest->heard->str));
	g_string_erase(guest->heard, 0, end - guest->heard->str + 1);
	return g_strchomp(line);
}

void micro_tell(micro *guest, const char *line)
{
	struct iovec iov[] = { { (char *)line, strlen(line) }, { (char *)"\n", 1 } };

	if (writev(guest->line, iov, 2) < 0)
		g_error("tell the guest: %s", g_strerror(errno));
}

gboolean micro_hear(micro *guest, const char *start)
{
	guint64 waited = 0;

	while (waited < PATIENCE_NS) {
		char *line;

		while ((line = take_line(guest))) {
			gboolean heard = g_str_has_prefix(line, start);

			g_free(line);
			if (heard)
				return TRUE;
		}
		waited += listen_a_little(guest);
	}
	return FALSE;
}

static char *ask(micro *guest, const char *format, va_list args)
{
	g_autofree char *question = g_strdup_vprintf(format, args);
	guint64 waited = 0;

	micro_tell(guest, question);
	while (waited < PATIENCE_NS) {
		char *line;

		while ((line = take_line(guest))) {
			if (g_str_has_prefix(line, "ok") || g_str_has_prefix(line, "error"))
				return line;
			g_free(line);
		}
		waited += listen_a_little(guest);
	}
	return NULL;
}

char *micro_ask(micro *guest, const char *format, ...)
{
	va_list args;
	char *answer;

	va_start(args, format);
	answer = ask(guest, format, args);
	va_end(args);
	return answer;
}

char *micro_do(micro *guest, const char *format, ...)
{
	va_list args;
	char *answer;

	va_start(args, format);
	answer = ask(guest, format, args);
	va_end(args);
	if (!answer || !g_str_has_prefix(answer, "ok"))
		g_error("the guest, asked \"%s\": %s", format,
			answer ?: "no answer in ten seconds");
	return answer;
}

static guint64 value_of(const char *answer, const char *key, guint base)
{
	g_autofree char *wanted = g_strdup_printf(" %s=", key);
	const char *at = strstr(answer, wanted);

	if (!at)
		g_error("no %s in the guest's \"%s\"", key, answer);
	return g_ascii_strtoull(at + strlen(wanted), NULL, base);
}

guint64 micro_number(const char *answer, const char *key)
{
	return value_of(answer, key, 0);
}

guint64 micro_hex(const char *answer, const char *key)
{
	return value_of(answer, key, 16);
}

void micro_sleep_ms(micro *guest, guint ms)
{
	guint64 until = base_clock_monotonic_ns() + ms * G_GUINT64_CONSTANT(1000000);

	while (base_clock_monotonic_ns() < until)
		listen_a_little(guest);
}

void micro_forget(micro *guest, guint ms)
{
	micro_sleep_ms(guest, ms);
	g_string_truncate(guest->heard, 0);
}

guint micro_events(micro *guest, enum vmm_event_type type)
{
	while (g_main_context_iteration(NULL, FALSE))
		;
	return guest->events[type];
}

const char *micro_event_detail(micro *guest, enum vmm_event_type type)
{
	return guest->details[type];
}

gboolean micro_wait_event(micro *guest, enum vmm_event_type type, guint n)
{
	guint64 waited = 0;

	while (guest->events[type] < n && waited < PATIENCE_NS)
		waited += listen_a_little(guest);
	return guest->events[type] >= n;
}

struct vmm_saveable micro_saveable(micro *guest)
{
	return vmm_machine_saveable(guest->machine);
}

void micro_reload(micro *guest)
{
	struct vmm_transfer transfer = { .deadline_ms = VMM_SAVEFILE_DEADLINE_MS };
	struct vmm_saveable saveable = micro_saveable(guest);
	g_autoptr(GError) error = NULL;
	base_autofd int fd = memfd_create("saved", MFD_CLOEXEC);

	if (!vmm_savefile_write(&saveable, fd, &transfer, &error))
		g_error("save: %s", error->message);
	/* Disks and taps have one user at a time. */
	vmm_machine_free(guest->machine);
	guest->machine = make_machine(guest, TRUE, &error);
	if (!guest->machine)
		g_error("%s", error->message);
	saveable = micro_saveable(guest);
	lseek(fd, 0, SEEK_SET);
	if (vmm_savefile_read(&saveable, fd, &transfer, &error) != VMM_LOAD_DONE)
		g_error("load: %s", error->message);
}

char *micro_file(guint64 bytes)
{
	g_autoptr(GError) error = NULL;
	char *path = NULL;
	int fd = g_file_open_tmp("colo-micro-XXXXXX", &path, &error);

	if (fd < 0)
		g_error("%s", error->message);
	if (ftruncate(fd, (off_t)bytes) < 0)
		g_error("%s: %s", path, g_strerror(errno));
	close(fd);
	return path;
}

void micro_remove(char *path)
{
	unlink(path);
	g_free(path);
}
