/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One node of a pair, deciding: takes what colo-vm, the other colod, the heartbeats, the
 * arbiter and the operator say, goes through the table of roles (colo/roles.h), and orders
 * what follows. No I/O, no clock and no thread of its own: everything goes through `ops`, so
 * that two nodes, an arbiter and their disks can be simulated in one process.
 *
 * Steps are taken one at a time. One that has to be on disk first counts only when it is;
 * what happens meanwhile waits its turn. One thread; operations never call back from within.
 */
#ifndef COLO_NODE_H
#define COLO_NODE_H

#include "colo/arbiter.h"
#include "colo/pair.h"
#include "colo/record.h"
#include "colo/roles.h"
#include "heartbeat/local.h"

/* What a colod tells the other whenever it changes. */
struct colo_peer_state {
	guint64 generation, epoch;
	enum colo_state state;
	enum colo_part part;
	guint flags; /* enum colo_peer_flag */
};
enum colo_peer_flag {
	COLO_PEER_VM = 1, /* its colo-vm lives */
	COLO_PEER_READY = 2, /* and waits to be filled */
	COLO_PEER_LIVE = 4, /* and holds a machine that could go on */
	COLO_PEER_ENDED = 8, /* its guest was ended on purpose */
	COLO_PEER_FLAGS = 15,
};

/* What one colod asks the other; the numbers travel. Each gets yes or no, with a reason. */
enum colo_ask {
	COLO_ASK_CONSENT = 1, /* may I go on alone, as the generation after `generation`? */
	COLO_ASK_SEAL = 2, /* you are the standby of `generation`: on disk? */
	COLO_ASK_LEAVE = 3, /* would you take over? */
	COLO_ASK_TAKE = 4, /* take over: I never go on from here by myself */
	COLO_ASK_START = 5, /* somebody wants the guest to run */
	COLO_ASK_END = 6, /* it was ended on purpose */
	COLO_ASK_SWITCH = 7, /* hand over to me: an operator's wish */
	COLO_ASK_STOP = 8, /* end the guest: likewise */
};

/* In a word. */
const char *colo_ask_name(enum colo_ask ask);

/* What colo-vm is told. */
enum colo_word {
	COLO_WORD_PROTECT,
	COLO_WORD_UNPROTECT,
	COLO_WORD_RESUME,
	COLO_WORD_PROMOTE,
	COLO_WORD_GIVE_UP, /* "standby": what is held is dropped */
	COLO_WORD_HAND_OVER,
	COLO_WORD_POWERDOWN,
	COLO_WORD_CHECKPOINT,
	COLO_WORD_RESET,
	COLO__WORDS,
};

/* What colo-vm tells. */
enum colo_vm_news {
	COLO_VM_UP, /* its control socket answers: a guest that was started is running */
	COLO_VM_DEAF, /* it was closed: it dies, most likely, and is gone when all is freed */
	COLO_VM_WAITING, /* a standby can be filled */
	COLO_VM_JOINED, /* it is being filled */
	COLO_VM_STANDBY, /* it holds a first commit */
	COLO_VM_PRIMARY_LOST,
	COLO_VM_PRIMARY_ENDED, /* its guest was ended, in good order */
	COLO_VM_PROTECTED, /* the first commit, on the primary */
	COLO_VM_UNPROTECTED, /* replication has ended */
	COLO_VM_HANDED, /* its guest rests after a last commit */
	COLO_VM_PROMOTED,
	COLO_VM_DURABLE,
	COLO_VM_POWEROFF,
	COLO_VM_PANIC,
	COLO_VM_DISK_FAILED, /* a primary's guest does not know yet; a standby has told its primary */
	COLO_VM_GUARD, /* a comparator is ready */
	COLO_VM_NO_GUARD,
};

/* What an operator orders. */
enum colo_order {
	COLO_ORDER_START,
	COLO_ORDER_STOP,
	COLO_ORDER_CHECKPOINT,
	COLO_ORDER_SWITCHOVER,
	COLO_ORDER_PROMOTE, /* with force */
	COLO_ORDER_STAND_DOWN,
	COLO_ORDER_DISCARD,
	COLO__ORDERS,
};

struct colo_node_ops {
	/* Milliseconds that only grow. */
	guint64 (*now_ms)(void *data);
	/* Makes it durable; then colo_node_recorded(). One at a time. */
	void (*record)(void *data, const struct colo_record *record);
	/* Answers with colo_node_verdict(). One at a time. */
	void (*arbiter_read)(void *data);
	void (*arbiter_claim)(void *data, guint64 generation);
	void (*arbiter_protect)(void *data, guint64 generation);
	void (*arbiter_create)(void *data, guint64 generation, gboolean force);
	/* Gives up a reading, unheard. */
	void (*arbiter_cancel)(void *data);
	gboolean arbiter_keeps_records;
	/* Starts colo-vm, then news; colo_node_vm_gone() when it ends or cannot be started. */
	void (*vm_start)(void *data, gboolean standby);
	/* colo_node_vm_answered() when it answered, or cannot any more. */
	void (*vm_say)(void *data, enum colo_word word);
	/* Ends it, guest and all; `kill`: by SIGKILL. */
	void (*vm_end)(void *data, gboolean kill);
	/* colo_node_peer_answered(); not where the peer goes down before. */
	void (*peer_ask)(void *data, enum colo_ask ask, guint64 generation);
	void (*peer_answer)(void *data, guint64 id, gboolean yes, const char *why);
	/* What colo_node_self() gives has changed. */
	void (*tell)(void *data);
	/* Something to be told (design invariant 8). */
	void (*event)(void *data, const char *name, const char *detail);
	/* An order is done (`code` NULL), or refused. */
	void (*answer)(void *data, enum colo_order order, const char *code,
		       const char *message);
};

typedef struct colo_node colo_node;

/* In "stopped", with what the record says. `pair` and `ops` outlive it. */
colo_node *colo_node_new(const colo_pair *pair, guint self, const struct colo_record *record,
			 const struct colo_node_ops *ops, void *data);
void colo_node_free(colo_node *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(colo_node, colo_node_free)

/* After colod was started anew: a colo-vm was found. As whose it is taken follows from the
 * record and from what colo-vm says of itself. */
struct colo_vm_found {
	gboolean standby; /* else its guest runs, or is held, here */
	gboolean syncing; /* the other node's is being filled, or found */
	gboolean protected_now; /* its link is up, after a first commit, and its guest runs */
	gboolean handing; /* it is on its way to its last commit */
	gboolean held; /* at rest after a loss */
	gboolean promotable, lost; /* of a standby */
	gboolean durable; /* what a promotion committed is on the disks */
};
void colo_node_adopt(colo_node *node, const struct colo_vm_found *found);

/* Time passes: each 50 ms or so. */
void colo_node_tick(colo_node *node);

void colo_node_order(colo_node *node, enum colo_order order, gboolean force);

void colo_node_vm_news(colo_node *node, enum colo_vm_news news, const char *detail);
void colo_node_vm_answered(colo_node *node, enum colo_word word, gboolean ok,
			   const char *message);
void colo_node_vm_epoch(colo_node *node, guint64 epoch);
void colo_node_vm_gone(colo_node *node, const char *how);

/* Connected. It counts as up when it has said its state. */
void colo_node_peer_up(colo_node *node);
void colo_node_peer_down(colo_node *node);
void colo_node_peer_said(colo_node *node, const struct colo_peer_state *state);
void colo_node_peer_asked(colo_node *node, guint64 id, enum colo_ask ask,
			  guint64 generation);
void colo_node_peer_answered(colo_node *node, enum colo_ask ask, gboolean yes,
			     const char *why);
/* The pair files of the two nodes are not the same: nothing is protected until they are. NULL:
 * they are. */
void colo_node_peer_unlike(colo_node *node, const char *diff);

/* `peer` is what its heartbeats say of it; NULL: never heard. */
void colo_node_heartbeat(colo_node *node, gboolean alive, const struct hb_self *peer);

void colo_node_verdict(colo_node *node, enum colo_verdict verdict,
		       const struct colo_arbiter_record *record, const char *why);
void colo_node_recorded(colo_node *node, gboolean ok, const char *why);

/* For the status. */
struct colo_node_view {
	enum colo_state state;
	guint64 since_ms; /* on now_ms's clock */
	struct colo_record record;
	guint64 epoch;
	const char *reason; /* why it is not better than it is; or NULL */
	const char *advice; /* what to do about it; or NULL */
	gboolean peer_up, peer_alive;
	struct colo_peer_state peer; /* as told last */
	enum colo_verdict verdict; /* of the arbiter, last */
	gboolean asked; /* it ever was */
	struct colo_arbiter_record arbiter;
	gboolean arbiter_known;
	const char *arbiter_why;
	gboolean arbiter_lost; /* it did not answer last */
	const char *unlike;
};
/* Borrowed until the next call. */
void colo_node_view(const colo_node *node, struct colo_node_view *view);
/* What to tell the other colod, and in heartbeats. */
void colo_node_self(const colo_node *node, struct colo_peer_state *state);

#endif
