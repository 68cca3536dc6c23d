/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the service share: service.c is its outside, service_primary.c and
 * service_standby.c are the two sides of a pair, service_outputs.c speaks with the comparator.
 */
#ifndef CKPT_SERVICE_PRIVATE_H
#define CKPT_SERVICE_PRIVATE_H

#include "checkpoint/inbox.h"
#include "checkpoint/meet.h"
#include "checkpoint/node.h"
#include "checkpoint/outputs.h"
#include "checkpoint/service.h"
#include "checkpoint/statistics.h"

#define SILENCE_MS 2000

/* unprotected -> connecting -> syncing -> protected -> unprotected
 * protected -> handing-over -> handed-over -> unprotected
 * waiting -> joining -> standby -> holding; standby and holding -> unprotected (promoted);
 * joining -> waiting (lost), holding -> waiting (given up) */
enum service_state {
	SERVICE_UNPROTECTED,
	SERVICE_CONNECTING, /* to a standby */
	SERVICE_SYNCING, /* the standby is being filled */
	SERVICE_PROTECTED,
	SERVICE_HANDING, /* the last checkpoint is under way: nothing comes after it */
	SERVICE_HANDED, /* it is committed, the guest rests, and may go on at the standby */
	SERVICE_WAITING, /* for a primary */
	SERVICE_JOINING, /* being filled: nothing to promote */
	SERVICE_STANDBY, /* can be promoted */
	SERVICE_HOLDING, /* the primary is lost; can be promoted */
};

/* Why the guest is at rest here, with what it sent held back, until somebody resumes it. */
enum service_held {
	HELD_NOT,
	HELD_LOSS, /* its standby was lost */
	HELD_HANDOVER, /* it is, or was to be, the standby's */
};

/* What threads tell: kinds of notes. Their round is that in which the thread was started:
 * it is changed only while there is none. */
enum service_note {
	NOTE_GREETED, /* the greeter is done */
	NOTE_PRIMARY_STATE, /* number: enum ckpt_primary_state; text: why */
	NOTE_COMMITTED, /* number: epoch */
	NOTE_PARTED, /* the last checkpoint is committed; number: epoch */
	NOTE_LOST, /* the primary; number: enum ckpt_ending; text: why */
	NOTE_DURABLE, /* number: errno, 0: all is */
	NOTE_DISK_FAILED, /* text; a standby's */
	NOTE_DISK_KEPT, /* text; a primary's: what it refused is kept */
	/* Of no round. */
	NOTE_COMPARATOR, /* text: why it has gone; NULL: it is ready */
	NOTE_DRAINED, /* what the last commit lets go has gone */
	NOTE_MODE, /* number: whether to compare; text: why */
};

/* A machine's first words with another, on a thread of its own. */
struct greeting {
	ckpt_service *service;
	base_channel *channel; /* until the thread takes it */
	ckpt_primary *primary; /* what came of it: one of these, */
	ckpt_secondary *secondary;
	GError *error; /* or this */
};

struct ckpt_service {
	struct vmm_extra_options options;
	struct vmm_extension extension;
	char *key; /* path; or NULL */
	char *standby; /* the address to wait on; NULL: not started as a standby */
	char *outputs_path; /* or NULL */
	const struct ckpt_filter_ops *filter; /* or NULL */

	vmm_session *session;
	vmm_machine *machine; /* NULL between two */
	ckpt_node *node;
	ckpt_inbox *inbox;
	enum service_state state;
	guint round; /* of attempts: notes of earlier ones say nothing any more */
	char *peer; /* address; or NULL */
	char *why; /* the last loss; or NULL */
	GThread *greeter; /* with a greeting under way; else NULL */
	int greeter_fd; /* to cut it short, and */
	gint greeter_over; /* atomic: it is to open no more connections */

	/* As a primary. */
	ckpt_dial *dial;
	struct ckpt_primary_options primary_options;
	gboolean mode_auto; /* the comparator chooses */
	gboolean hold_on_loss;
	enum service_held held; /* nobody has resumed the guest yet */
	vmm_answer *protect; /* not answered yet; or NULL */
	ckpt_primary *primary;
	ckpt_statistics *statistics; /* of the present or last one */
	GList *checkpoints; /* struct checkpoint_request */
	guint disk_wait; /* source: what a disk refused is not kept for ever; or 0 */
	vmm_answer *hand_over; /* not answered yet; or NULL */
	guint64 parted; /* the last epoch, committed; its outputs are to go first; or 0 */
	guint parting; /* source: the comparator must not take for ever; or 0 */
	gboolean lingers; /* the guest has ended, and its last checkpoint is under way */
	guint linger; /* source: it must not take for ever; or 0 */
	guint64 cut_epoch; /* atomic: the last epoch that was cut; service_cut_epoch() */
	gboolean ending; /* the machine goes */

	/* What the guest sends. */
	ckpt_outputs *outputs; /* NULL: nobody's business */
	gboolean guarded; /* this replication's are held back */
	GMutex asking; /* of what follows */
	ckpt_primary *asked; /* whom a comparator asks for checkpoints; or NULL */
	gboolean asks; /* it did while there was nobody to ask */

	/* The other host's CLOCK_TAI minus ours, for as long as this is a standby. */
	gint64 peer_clock_ns; /* or VMM_PEER_CLOCK_UNKNOWN */
	guint64 peer_clock_error_ns;

	/* As a standby. */
	ckpt_listener *listener;
	base_channel *next; /* a primary that came before the last one was seen off; or NULL */
	GQueue early; /* struct early_join: connections of the primary that is greeted */
	ckpt_secondary *secondary;
	guint64 epoch; /* the last commit that was told */
	gboolean taken_back; /* what was handed over to it: the primary's guest goes on */
};

/* service.c */
void service_enter(ckpt_service *service, enum service_state state, const char *event,
		   const char *detail);
/* A note from any thread. */
void service_post(ckpt_service *service, guint round, enum service_note kind,
		  guint64 number, const char *text);
/* Runs `fn` on a thread of its own, which takes the channel out of the greeting and fills
 * in what comes of it; then service_greeted_...() has it. A new round begins. */
void service_greet_take(ckpt_service *service, base_channel *channel,
			void (*fn)(ckpt_service *service, struct greeting *greeting));
/* Waits for a greeting under way, cut short, and drops what comes of it. */
void service_end_greeting(ckpt_service *service);

/* service_primary.c */
void service_protect(ckpt_service *service, JsonObject *arguments, vmm_answer *answer);
void service_unprotect(ckpt_service *service, JsonObject *arguments, vmm_answer *answer);
void service_checkpoint(ckpt_service *service, JsonObject *arguments, vmm_answer *answer);
void service_mode(ckpt_service *service, JsonObject *arguments, vmm_answer *answer);
void service_greeted_primary(ckpt_service *service, struct greeting *greeting);
void service_primary_note(ckpt_service *service, const struct ckpt_note *note);
void service_hand_over(ckpt_service *service, JsonObject *arguments, vmm_answer *answer);
/* Replication ends, and the standby is told how; the guest is unharmed. */
void service_end_primary(ckpt_service *service, enum ckpt_ending end, const char *why);
/* The guest was handed over, but is to go on here: the standby's copy is nobody's any more. */
void service_take_back(ckpt_service *service);
/* The guest has ended by itself. TRUE: vmm_session_end_now() is called when what it said last
 * may go out. */
gboolean service_linger(ckpt_service *service);
/* The comparator has let go what is committed, or is not there to do so any more. */
void service_drained(ckpt_service *service);
void service_primary_status(ckpt_service *service, JsonObject *object);

/* `why`: the comparator's. */
void service_choose_mode(ckpt_service *service, gboolean compare, const char *why);

/* service_outputs.c: all of it does nothing without --outputs. */
gboolean service_open_outputs(ckpt_service *service, GError **error);
/* The gate of a machine that is not replicated, or not its guest's first. */
void service_set_gate(ckpt_service *service);
/* The last epoch that the primary cut; 0: none. Any thread. */
guint64 service_cut_epoch(ckpt_service *service);
/* Whom a comparator asks from now on; NULL: nobody. */
void service_set_asked(ckpt_service *service, ckpt_primary *primary);
/* What the primary's hooks tell; on their threads. */
void service_tell_cut(ckpt_service *service, guint64 epoch, gboolean run);
void service_tell_committed(ckpt_service *service, guint64 epoch);
void service_tell_output(void *service, guint64 epoch, guint device, gboolean lost,
			 const void *bytes, gsize len);
void service_outputs_status(ckpt_service *service, JsonObject *object);

/* service_standby.c */
void service_drop_early(ckpt_service *service);
gboolean service_listen(ckpt_service *service, GError **error);
void service_promote(ckpt_service *service, JsonObject *arguments, vmm_answer *answer);
void service_stand_by(ckpt_service *service, JsonObject *arguments, vmm_answer *answer);
void service_peer_clock(ckpt_service *service, JsonObject *arguments, vmm_answer *answer);
void service_greeted_standby(ckpt_service *service, struct greeting *greeting);
void service_standby_note(ckpt_service *service, const struct ckpt_note *note);
void service_standby_status(ckpt_service *service, JsonObject *object);

#endif
