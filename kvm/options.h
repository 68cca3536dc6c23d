/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of colo-vm. */
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

/* Reads a whole command line, program name first, ended by NULL. FALSE with one line
 * that names the option; `options` is then empty. Prints the help and exits on --help.
 * Opens nothing. The result is cleared with vmm_options_clear(). */
gboolean vmm_options_parse(struct vmm_options *options, char *const *argv,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vmm_options_clear(struct vmm_options *options);

/* Name of row `index` of the table of options, without dashes; NULL past the end. */
const char *vmm_options_name(guint index);

#endif
