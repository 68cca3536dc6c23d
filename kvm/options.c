/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of colo-vm.
 *
 * `rows` is the table of options. GLib splits the command line; every value goes
 * through its row's function; what only shows when all of them are known is judged at
 * the end, by the functions in `contradictions`. Nothing is opened: whether a file or a
 * tap can be used is found by who uses it.
 */
#include "kvm/options.h"

#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/units.h"

#define TAP_NAME_MAX 15 /* IFNAMSIZ - 1 */
#define SERIAL_MAX 20 /* VIRTIO 1.2, 5.2.6.2 */

struct row {
	const char *name;
	gboolean (*take)(const struct row *row, struct vmm_options *options,
			 const char *value, GError **error);
	gsize offset; /* of what it sets in struct vmm_options */
	const char *value; /* what the value looks like; NULL: a switch */
	const char *help;
	gboolean repeats;
};

/* A key of --disk or --net. */
struct key {
	const char *name;
	gboolean (*take)(void *item, const char *value, GError **error);
};

static void clear_disk(gpointer item)
{
	struct vmm_disk_config *disk = item;

	g_free(disk->path);
	g_free(disk->serial);
}

static void clear_net(gpointer item)
{
	struct vmm_net_config *net = item;

	g_free(net->tap);
}

void vmm_config_init(struct vmm_config *config)
{
	*config = (struct vmm_config){
		.cpu_model = g_strdup("host"),
		.memory = 512ull << 20,
		.cpus = 1,
		.disks = g_array_new(FALSE, TRUE, sizeof(struct vmm_disk_config)),
		.nets = g_array_new(FALSE, TRUE, sizeof(struct vmm_net_config)),
		.console = g_strdup("stdio"),
		.rng = TRUE,
		.dirty = VMM_DIRTY_AUTO,
		.clock = VMM_CLOCK_ADVANCE,
	};
	g_array_set_clear_func(config->disks, clear_disk);
	g_array_set_clear_func(config->nets, clear_net);
}

void vmm_config_clear(struct vmm_config *config)
{
	g_free(config->kernel);
	g_free(config->initrd);
	g_free(config->append);
	g_free(config->cpu_model);
	g_free(config->console);
	g_free(config->hvc);
	g_clear_pointer(&config->disks, g_array_unref);
	g_clear_pointer(&config->nets, g_array_unref);
	memset(config, 0, sizeof(*config));
}

#define bad(error, ...) vmm_error_set(error, VMM_ERROR_CONFIG, __VA_ARGS__)

static gboolean take_any_text(const struct row *row, struct vmm_options *options,
			      const char *value, GError **error)
{
	char **at = G_STRUCT_MEMBER_P(options, row->offset);

	g_free(*at);
	*at = g_strdup(value);
	return TRUE;
}

static gboolean take_text(const struct row *row, struct vmm_options *options,
			  const char *value, GError **error)
{
	return *value ? take_any_text(row, options, value, error)
		      : bad(error, "is empty");
}

/* Position of `value` in words parted by '|', or -1. */
static int word_index(const char *words, const char *value)
{
	g_auto(GStrv) list = g_strsplit(words, "|", -1);

	for (int i = 0; list[i]; i++)
		if (!strcmp(list[i], value))
			return i;
	return -1;
}

static gboolean take_word(const struct row *row, struct vmm_options *options,
			  const char *value, GError **error)
{
	if (word_index(row->value, value) < 0)
		return bad(error, "%s: must be one of %s", value, row->value);
	return take_any_text(row, options, value, error);
}

/* Into an enum whose values count up in the order of the row's words. */
static gboolean take_enum(const struct row *row, struct vmm_options *options,
			  const char *value, GError **error)
{
	int index = word_index(row->value, value);

	if (index < 0)
		return bad(error, "%s: must be one of %s", value, row->value);
	G_STRUCT_MEMBER(guint, options, row->offset) = (guint)index;
	return TRUE;
}

static gboolean take_true(const struct row *row, struct vmm_options *options,
			  const char *value, GError **error)
{
	G_STRUCT_MEMBER(gboolean, options, row->offset) = TRUE;
	return TRUE;
}

static gboolean take_false(const struct row *row, struct vmm_options *options,
			   const char *value, GError **error)
{
	G_STRUCT_MEMBER(gboolean, options, row->offset) = FALSE;
	return TRUE;
}

static gboolean take_more(const struct row *row, struct vmm_options *options,
			  const char *value, GError **error)
{
	G_STRUCT_MEMBER(int, options, row->offset) += 1;
	return TRUE;
}

static gboolean take_memory(const struct row *row, struct vmm_options *options,
			    const char *value, GError **error)
{
	guint64 bytes;

	if (!base_parse_size(value, &bytes))
		return bad(error, "%s: not a size such as 512M or 4G", value);
	if (bytes < VMM_MEMORY_MIN || bytes > VMM_MEMORY_MAX)
		return bad(error, "%s: must be between 64M and 1T", value);
	if (bytes % (1 << 20))
		return bad(error, "%s: must be a multiple of 1M", value);
	options->machine.memory = bytes;
	return TRUE;
}

static gboolean take_cpus(const struct row *row, struct vmm_options *options,
			  const char *value, GError **error)
{
	guint64 cpus;

	if (!g_ascii_string_to_unsigned(value, 10, 1, VMM_CPUS_MAX, &cpus, NULL))
		return bad(error, "%s: must be a number from 1 to %d", value,
			   VMM_CPUS_MAX);
	options->machine.cpus = (guint)cpus;
	return TRUE;
}

static gboolean take_switch(gboolean *at, const char *value, GError **error)
{
	int index = word_index("off|on", value);

	if (index < 0)
		return bad(error, "%s: must be on or off", value);
	*at = index;
	return TRUE;
}

/* The part of `*at` up to a single comma, with doubled ones made one; `*at` moves on to
 * the next part, or becomes NULL after the last. */
static char *next_part(const char **at)
{
	GString *part = g_string_new(NULL);
	const char *c = *at;

	for (; *c && (*c != ',' || c[1] == ','); c++) {
		if (*c == ',')
			c++;
		g_string_append_c(part, *c);
	}
	*at = *c ? c + 1 : NULL;
	return g_string_free(part, FALSE);
}

static char *known_keys(const struct key *keys)
{
	GString *names = g_string_new(NULL);

	for (; keys->name; keys++)
		g_string_append_printf(names, "%s%s", names->len ? ", " : "",
				       keys->name);
	return g_string_free(names, FALSE);
}

static gboolean take_key(const struct key *keys, guint *seen, const char *part,
			 void *item, GError **error)
{
	g_autofree char *known = known_keys(keys);
	const char *value = strchr(part, '=');
	g_autofree char *name = NULL;

	if (!value)
		return bad(error, "\"%s\" is not key=value (known keys: %s)", part,
			   known);
	name = g_strndup(part, (gsize)(value - part));
	for (guint i = 0; keys[i].name; i++) {
		if (strcmp(keys[i].name, name))
			continue;
		if (*seen & 1u << i)
			return bad(error, "%s is given twice", name);
		*seen |= 1u << i;
		if (keys[i].take(item, value + 1, error))
			return TRUE;
		g_prefix_error(error, "%s: ", name);
		return FALSE;
	}
	return bad(error, "unknown key %s (known keys: %s)", name, known);
}

/* The first key is the one that must be there. */
static gboolean take_keys(const struct key *keys, const char *value, void *item,
			  GError **error)
{
	guint seen = 0;

	while (value) {
		g_autofree char *part = next_part(&value);

		if (!take_key(keys, &seen, part, item, error))
			return FALSE;
	}
	return seen & 1 || bad(error, "%s is missing", keys[0].name);
}

static gboolean take_disk_path(void *item, const char *value, GError **error)
{
	struct vmm_disk_config *disk = item;

	if (!*value)
		return bad(error, "is empty");
	disk->path = g_strdup(value);
	return TRUE;
}

static gboolean take_disk_serial(void *item, const char *value, GError **error)
{
	struct vmm_disk_config *disk = item;

	if (!*value || strlen(value) > SERIAL_MAX)
		return bad(error, "must have 1 to %d characters", SERIAL_MAX);
	for (const char *c = value; *c; c++)
		if (!g_ascii_isprint(*c))
			return bad(error, "must be printable ASCII");
	disk->serial = g_strdup(value);
	return TRUE;
}

static gboolean take_disk_readonly(void *item, const char *value, GError **error)
{
	return take_switch(&((struct vmm_disk_config *)item)->readonly, value, error);
}

static gboolean take_disk_direct(void *item, const char *value, GError **error)
{
	return take_switch(&((struct vmm_disk_config *)item)->direct, value, error);
}

static gboolean take_disk(const struct row *row, struct vmm_options *options,
			  const char *value, GError **error)
{
	static const struct key keys[] = {
		{ "path", take_disk_path },
		{ "readonly", take_disk_readonly },
		{ "direct", take_disk_direct },
		{ "serial", take_disk_serial },
		{ NULL },
	};
	struct vmm_disk_config disk = { 0 };

	if (options->machine.disks->len == VMM_DISKS_MAX)
		return bad(error, "at most %d are possible", VMM_DISKS_MAX);
	if (!take_keys(keys, value, &disk, error)) {
		clear_disk(&disk);
		return FALSE;
	}
	g_array_append_val(options->machine.disks, disk);
	return TRUE;
}

static gboolean take_net_tap(void *item, const char *value, GError **error)
{
	struct vmm_net_config *net = item;

	if (!*value || strlen(value) > TAP_NAME_MAX || !strcmp(value, ".") ||
	    !strcmp(value, ".."))
		return bad(error, "%s: not an interface name", value);
	for (const char *c = value; *c; c++)
		if (!g_ascii_isgraph(*c) || *c == '/' || *c == ':' || *c == '%')
			return bad(error, "%s: not an interface name", value);
	net->tap = g_strdup(value);
	return TRUE;
}

static gboolean take_net_mac(void *item, const char *value, GError **error)
{
	static const guint8 none[6];
	struct vmm_net_config *net = item;

	for (guint i = 0; i < 6; i++) {
		const char *at = value + 3 * i;

		/* In order, so that nothing past the end is looked at. */
		if (!g_ascii_isxdigit(at[0]) || !g_ascii_isxdigit(at[1]) ||
		    at[2] != (i < 5 ? ':' : 0))
			return bad(error, "%s: not six pairs of hex digits with colons",
				   value);
		net->mac[i] = (guint8)(g_ascii_xdigit_value(at[0]) << 4 |
				       g_ascii_xdigit_value(at[1]));
	}
	if (net->mac[0] & 1)
		return bad(error, "%s: is a multicast address", value);
	if (!memcmp(net->mac, none, sizeof(none)))
		return bad(error, "%s: is no address", value);
	return TRUE;
}

/* The same tap gets the same address at every start: a guest keeps its lease. */
static void derive_mac(struct vmm_net_config *net)
{
	guint64 hash = XXH3_64bits(net->tap, strlen(net->tap));

	for (guint i = 0; i < 6; i++)
		net->mac[i] = (guint8)(hash >> 8 * i);
	net->mac[0] = (net->mac[0] & 0xfc) | 2; /* locally administered, one station */
}

static gboolean take_net(const struct row *row, struct vmm_options *options,
			 const char *value, GError **error)
{
	static const struct key keys[] = {
		{ "tap", take_net_tap },
		{ "mac", take_net_mac },
		{ NULL },
	};
	static const guint8 none[6];
	struct vmm_net_config net = { 0 };

	if (options->machine.nets->len == VMM_NETS_MAX)
		return bad(error, "at most %d are possible", VMM_NETS_MAX);
	if (!take_keys(keys, value, &net, error)) {
		clear_net(&net);
		return FALSE;
	}
	if (!memcmp(net.mac, none, sizeof(none)))
		derive_mac(&net);
	g_array_append_val(options->machine.nets, net);
	return TRUE;
}

#define AT(member) G_STRUCT_OFFSET(struct vmm_options, member)
#define REPEATS .repeats = TRUE

static const struct row rows[] = {
	{ "kernel", take_text, AT(machine.kernel), "FILE",
	  "Linux kernel (bzImage) to boot" },
	{ "initrd", take_text, AT(machine.initrd), "FILE", "its initial RAM disk" },
	{ "append", take_any_text, AT(machine.append), "TEXT", "its command line" },
	{ "memory", take_memory, 0, "SIZE", "guest memory (512M)" },
	{ "cpus", take_cpus, 0, "N", "virtual CPUs, 1 to 8 (1)" },
	{ "cpu-model", take_word, AT(machine.cpu_model), "host|x86-64-v2|x86-64-v3",
	  "what the guest sees of the CPU (host)" },
	{ "disk", take_disk, 0, "path=FILE[,readonly=on][,direct=on][,serial=TEXT]",
	  "a disk from a raw file or block device; repeatable", REPEATS },
	{ "net", take_net, 0, "tap=NAME[,mac=ADDRESS]",
	  "a network card on a tap interface; repeatable", REPEATS },
	{ "console", take_text, AT(machine.console), "WHERE",
	  "serial port: stdio, pty, unix:PATH, file:PATH, fd:N or none (stdio)" },
	{ "hvc", take_text, AT(machine.hvc), "WHERE",
	  "virtio console: as --console (absent)" },
	{ "no-rng", take_false, AT(machine.rng), NULL, "no entropy device" },
	{ "no-reboot", take_true, AT(machine.reboot_exits), NULL,
	  "end when the guest asks for a reset" },
	{ "dirty-log", take_enum, AT(machine.dirty), "auto|ring|bitmap",
	  "how changed pages are found (auto)" },
	{ "clock", take_enum, AT(machine.clock), "advance|still",
	  "guest clocks after a load (advance)" },
	{ "control", take_text, AT(control), "PATH",
	  "Unix socket for commands and events" },
	{ "load", take_text, AT(load), "FROM",
	  "start with a saved machine: a file or unix:PATH" },
	{ "paused", take_true, AT(paused), NULL, "wait for the command \"resume\"" },
	{ "check", take_true, AT(check), NULL, "judge the options and exit" },
	{ "verbose", take_more, AT(verbosity), NULL, "log more; twice: everything",
	  REPEATS },
	{ "version", take_true, AT(version), NULL, "print the version and exit" },
};

G_STATIC_ASSERT(sizeof(enum vmm_dirty_method) == sizeof(guint));
G_STATIC_ASSERT(sizeof(enum vmm_clock_policy) == sizeof(guint));
G_STATIC_ASSERT(G_N_ELEMENTS(rows) <= 32);

const char *vmm_options_name(guint index)
{
	return index < G_N_ELEMENTS(rows) ? rows[index].name : NULL;
}

static gboolean check_source(const struct vmm_options *options,
			     const struct vmm_extra_options *extra, GError **error)
{
	const struct vmm_config *machine = &options->machine;
	gboolean brought = extra && extra->brings_guest(extra->data);

	if (!machine->kernel && (machine->initrd || machine->append))
		return bad(error, "--%s needs --kernel",
			   machine->initrd ? "initrd" : "append");
	/* Without both, a machine that cannot start by itself can still be sent a
	 * state. */
	if (!machine->kernel && !options->load && !options->paused && !brought)
		return bad(error, "nothing to run: give --kernel or --load");
	if (options->paused && !options->control)
		return bad(error,
			   "--paused needs --control: nobody could resume the guest");
	return TRUE;
}

/* Whether two ends of consoles or sockets are the same; every "pty" is a new one. */
static gboolean same_end(const char *a, const char *b)
{
	return a && b && !strcmp(a, b) && strcmp(a, "none") && strcmp(a, "pty");
}

static gboolean check_ends(const struct vmm_options *options, GError **error)
{
	g_autofree char *control =
		options->control ? g_strconcat("unix:", options->control, NULL) : NULL;
	const struct {
		const char *option, *end;
	} ends[] = {
		{ "console", options->machine.console },
		{ "hvc", options->machine.hvc },
		{ "control", control },
		{ "load", options->load },
	};

	for (guint i = 0; i < G_N_ELEMENTS(ends); i++)
		for (guint j = 0; j < i; j++)
			if (same_end(ends[i].end, ends[j].end))
				return bad(error, "--%s and --%s both use %s",
					   ends[j].option, ends[i].option, ends[i].end);
	return TRUE;
}

static gboolean same_file(const char *a, const char *b)
{
	g_autofree char *full_a = g_canonicalize_filename(a, NULL);
	g_autofree char *full_b = g_canonicalize_filename(b, NULL);
	struct stat stat_a, stat_b;

	if (!strcmp(full_a, full_b))
		return TRUE;
	if (stat(a, &stat_a) < 0 || stat(b, &stat_b) < 0)
		return FALSE;
	return stat_a.st_dev == stat_b.st_dev && stat_a.st_ino == stat_b.st_ino;
}

static gboolean check_disks(const struct vmm_options *options, GError **error)
{
	const GArray *disks = options->machine.disks;

	for (guint i = 0; i < disks->len; i++) {
		struct vmm_disk_config *a =
			&g_array_index(disks, struct vmm_disk_config, i);

		for (guint j = 0; j < i; j++) {
			struct vmm_disk_config *b =
				&g_array_index(disks, struct vmm_disk_config, j);

			if (!(a->readonly && b->readonly) &&
			    same_file(a->path, b->path))
				return bad(error,
					   "--disk %s is given twice and not "
					   "read-only both times",
					   a->path);
		}
	}
	return TRUE;
}

static gboolean check_nets(const struct vmm_options *options, GError **error)
{
	const GArray *nets = options->machine.nets;

	for (guint i = 0; i < nets->len; i++) {
		struct vmm_net_config *a =
			&g_array_index(nets, struct vmm_net_config, i);

		for (guint j = 0; j < i; j++) {
			struct vmm_net_config *b =
				&g_array_index(nets, struct vmm_net_config, j);

			if (!strcmp(a->tap, b->tap))
				return bad(error, "--net tap=%s is given twice",
					   a->tap);
			if (!memcmp(a->mac, b->mac, sizeof(a->mac)))
				return bad(error,
					   "--net tap=%s and tap=%s have the same "
					   "MAC address",
					   b->tap, a->tap);
		}
	}
	return TRUE;
}

static gboolean (*const contradictions[])(const struct vmm_options *, GError **) = {
	check_ends,
	check_disks,
	check_nets,
};

struct parsing {
	struct vmm_options *options;
	const struct vmm_extra_options *extra; /* or NULL */
	guint32 seen, extra_seen; /* a bit for each row */
};

static gboolean take_option(const char *name, const char *value, gpointer data,
			    GError **error)
{
	struct parsing *parsing = data;
	guint i = 0;

	while (strcmp(rows[i].name, name + strlen("--")))
		i++;
	if (!rows[i].repeats && parsing->seen & 1u << i)
		return bad(error, "%s is given twice", name);
	parsing->seen |= 1u << i;
	if (rows[i].take(&rows[i], parsing->options, value, error))
		return TRUE;
	g_prefix_error(error, "%s: ", name);
	return FALSE;
}

static gboolean take_extra(const char *name, const char *value, gpointer data, GError **error)
{
	struct parsing *parsing = data;
	const struct vmm_extra_option *options = parsing->extra->rows;
	guint i = 0;

	while (strcmp(options[i].name, name + strlen("--")))
		i++;
	if (parsing->extra_seen & 1u << i)
		return bad(error, "%s is given twice", name);
	parsing->extra_seen |= 1u << i;
	if (options[i].take(parsing->extra->data, value, error))
		return TRUE;
	g_prefix_error(error, "%s: ", name);
	return FALSE;
}

static void add_extra_rows(GOptionGroup *group, const struct vmm_extra_options *extra)
{
	for (guint i = 0; extra && extra->rows[i].name; i++) {
		const struct vmm_extra_option *row = &extra->rows[i];
		GOptionEntry entry[] = {
			{ row->name, 0, G_OPTION_FLAG_FILENAME, G_OPTION_ARG_CALLBACK,
			  take_extra, row->help, row->value },
			{ NULL },
		};

		g_option_group_add_entries(group, entry);
	}
}

static void add_rows(GOptionGroup *group)
{
	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		GOptionEntry entry[] = {
			{ rows[i].name, 0,
			  rows[i].value ? G_OPTION_FLAG_FILENAME : G_OPTION_FLAG_NO_ARG,
			  G_OPTION_ARG_CALLBACK, take_option, rows[i].help,
			  rows[i].value },
			{ NULL },
		};

		g_option_group_add_entries(group, entry);
	}
}

static gboolean judge(const struct vmm_options *options,
		      const struct vmm_extra_options *extra, GError **error)
{
	if (!check_source(options, extra, error))
		return FALSE;
	for (guint i = 0; i < G_N_ELEMENTS(contradictions); i++)
		if (!contradictions[i](options, error))
			return FALSE;
	return !extra || extra->judge(extra->data, options, error);
}

static gboolean parse(struct vmm_options *options, const struct vmm_extra_options *extra,
		      char *const *argv, GError **error)
{
	struct parsing parsing = { .options = options, .extra = extra };
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);
	g_auto(GStrv) left = g_strdupv((char **)argv);
	GOptionGroup *group = g_option_group_new(NULL, NULL, NULL, &parsing, NULL);

	g_option_context_set_summary(context, "Runs one virtual machine under KVM.");
	g_option_context_set_description(context, "See " VMM_PROGRAM "(1).");
	add_rows(group);
	add_extra_rows(group, extra);
	g_option_context_set_main_group(context, group);
	if (!g_option_context_parse_strv(context, &left, error))
		return FALSE;
	if (options->version)
		return TRUE;
	/* GLib leaves a "--" that ended the options. */
	for (guint i = 1; left[0] && left[i]; i++)
		if (i > 1 || strcmp(left[i], "--"))
			return bad(error, "unexpected argument: %s", left[i]);
	return judge(options, extra, error);
}

gboolean vmm_options_parse(struct vmm_options *options,
			   const struct vmm_extra_options *extra, char *const *argv,
			   GError **error)
{
	memset(options, 0, sizeof(*options));
	vmm_config_init(&options->machine);
	if (parse(options, extra, argv, error))
		return TRUE;
	vmm_options_clear(options);
	return FALSE;
}

void vmm_options_clear(struct vmm_options *options)
{
	vmm_config_clear(&options->machine);
	g_free(options->control);
	g_free(options->load);
	memset(options, 0, sizeof(*options));
}
