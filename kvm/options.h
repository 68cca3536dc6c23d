/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of colo-vm, to which another layer may add options of its own. */
#ifndef VMM_OPTIONS_H
#define VMM_OPTIONS_H

#include "kvm/machine.h"

#define VMM_PROGRAM "colo-vm"
#define VMM_PROGRAM_VERSION "0.1"
#define VMM_MEMORY_MAX (1ull << 40)

struct vmm_options {
	struct vmm_config machine;
	char *control; /* path of the control socket, or NULL */
	char *load; /* saved machine to start with: a file or "unix:PATH"; or NULL */
	gboolean paused; /* do not start the guest */
	gboolean check; /* only judge the command line */
	gboolean version; /* only say the version; nothing else was judged */
	int verbosity;
};

/* An option of another layer: takes a value, at most once. */
struct vmm_extra_option {
	const char *name; /* without dashes */
	gboolean (*take)(void *data, const char *value, GError **error);
	const char *value; /* what the value looks like */
	const char *help;
};
/* What another layer adds to the command line. */
struct vmm_extra_options {
	void *data;
	const struct vmm_extra_option *rows; /* ended by a NULL name; at most 32 */
	/* Once all options are known: FALSE where they contradict each other. */
	gboolean (*judge)(void *data, const struct vmm_options *options, GError **error);
	/* TRUE: the guest comes from elsewhere, so neither --kernel nor --load need be
	 * given. */
	gboolean (*brings_guest)(void *data);
};

/* Reads a whole command line, program name first, ended by NULL. FALSE with one line
 * that names the option; `options` is then empty. Prints the help and exits on --help.
 * Opens nothing. `extra` may be NULL. The result is cleared with vmm_options_clear(). */
gboolean vmm_options_parse(struct vmm_options *options,
			   const struct vmm_extra_options *extra, char *const *argv,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_options_clear(struct vmm_options *options);

/* Name of row `index` of the table of options, without dashes; NULL past the end. */
const char *vmm_options_name(guint index);

#endif
