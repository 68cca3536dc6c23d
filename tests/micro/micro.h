/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine with the micro-guest in this process, and its command line: what the native
 * tests and benchmarks stand on.
 *
 * The machine's events are handled while a function here waits for the guest.
 */
#ifndef TESTS_MICRO_H
#define TESTS_MICRO_H

#include "kvm/machine.h"
#include "kvm/saveable.h"

#define MICRO_SKIP 77

struct micro_options {
	guint64 memory; /* bytes; 0: 64 MiB */
	guint cpus; /* 0: 1 */
	enum vmm_dirty_method dirty;
	const char *append; /* or NULL */
	const char *disk, *disk2; /* paths, or NULL */
	gboolean disk2_readonly;
	guint8 mac; /* the last byte; 0: 1 */
	const char *tap; /* or NULL */
	gboolean for_load; /* prepared for a state, not started */
	struct vmm_backends backends;
};

typedef struct micro micro;

/* Exits with MICRO_SKIP and the reason where this machine has no usable /dev/kvm. */
void micro_need_kvm(void);

/* A started guest that said it is ready (unless `for_load`); aborts otherwise. */
micro *micro_new(const struct micro_options *options);
/* Likewise, but an error is handed on. */
micro *micro_try_new(const struct micro_options *options, GError **error);
void micro_free(micro *guest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(micro, micro_free)

vmm_machine *micro_machine(micro *guest);
/* The guest is told `line`; its answer, without the newline. NULL after ten seconds of
 * silence. Lines that are not an answer are passed over. */
char *micro_ask(micro *guest, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Waits for a line that begins with `start`; others are passed over. FALSE after ten
 * seconds. */
gboolean micro_hear(micro *guest, const char *start);
/* Says it and does not wait. */
void micro_tell(micro *guest, const char *line);
/* Asks and wants "ok ..."; aborts with what the guest said otherwise. */
char *micro_do(micro *guest, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Forgets what the guest says within the next `ms`: answers to questions that a copy of it
 * was asked. */
void micro_forget(micro *guest, guint ms);
/* The unsigned number behind "key=" in an answer; aborts where there is none. */
guint64 micro_number(const char *answer, const char *key);
/* The same for a value in hexadecimal without 0x. */
guint64 micro_hex(const char *answer, const char *key);
/* Handles events for that long. */
void micro_sleep_ms(micro *guest, guint ms);
/* How many events of that type came so far, and the detail of the last. */
guint micro_events(micro *guest, enum vmm_event_type type);
const char *micro_event_detail(micro *guest, enum vmm_event_type type);
/* Waits for the n-th of them; FALSE after ten seconds. */
gboolean micro_wait_event(micro *guest, enum vmm_event_type type, guint n);

/* The machine as what saving and loading work on. */
struct vmm_saveable micro_saveable(micro *guest);
/* Saves the machine, which is paused, ends it, and loads what was saved into a new one,
 * which is not yet resumed. */
void micro_reload(micro *guest);

/* A throw-away file of `bytes` zeros; removed by micro_remove(). Caller frees the name. */
char *micro_file(guint64 bytes);
void micro_remove(char *path);

#endif
