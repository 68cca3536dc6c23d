/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the rooms of tests/unit/world.h know of each other.
 *
 *	world.c		time, and what happens in it; hosts
 *	world_acts.c	misfortunes, and what people do
 *	world_vm.c	two colo-vms, their disks, guests and link: a model
 *	world_peer.c	what the two colods say to each other: a model of the connection
 *	world_heart.c	heartbeats: the real heart (heartbeat/heart.h) on a modelled
 *network
 *	world_arbiter.c	arbiters: the real ones (colo/arbiter.h), agents that are a
 *model world_etcd.c	an etcd that is a model, below the real client world_record.c
 *the generation file: the real code on a modelled file system
 *
 * Real code that would call the kernel, curl or the main loop is linked to functions of
 *this world (tests/unit/test_colo_node.wrap).
 */
#ifndef TESTS_UNIT_WORLD_PRIVATE_H
#define TESTS_UNIT_WORLD_PRIVATE_H

#include "tests/unit/world.h"

#define NOTHING G_MAXUINT64 /* a disk that is no copy of anything */
#define NS_PER_MS G_GUINT64_CONSTANT(1000000)

/* A colo-vm. */
struct vm {
	gboolean there, up, standby;
	guint64 knows; /* outputs in its history */
	gboolean held, guarded, resting;
	gboolean filling, promotable, linked; /* of a standby; of a primary: linked */
	gboolean lost;
	guint link; /* which one it is or was */
	gboolean deaf; /* no comparator */
	guint64 last_word_ms; /* words arrive in order */
	guint life; /* of which process; what was under way for an older one is dropped
		     */
};

struct hearts; /* world_heart.c */
struct files; /* world_record.c */
struct etcd_model; /* world_etcd.c */

struct side {
	test_world *world;
	guint host;
};

struct host {
	gboolean on;
	guint boots;
	colo_node *node;
	guint node_life;
	struct vm vm;
	struct colo_record record; /* as a colod that starts now would read it */
	gboolean damaged; /* that would refuse it */
	struct files *files;
	guint64 disk, durable_disk; /* outputs that the disks know of */
	colo_arbiter *arbiter;
	gboolean arbiter_cut;
	struct hearts *hearts;
	gboolean peer_up;
	guint64 frozen_since_ms, frozen_until_ms;
	/* Its clock: monotonic, with a rate of its own; and what TAI is ahead of it. */
	guint64 clock_at_ms, clock_ns, tai_ahead_ns;
	gint32 clock_ppm;
	gboolean clock_stands; /* while it is frozen */
	guint32 tai_offset_s;
	gboolean disk_fails; /* of the record */
	guint64 disk_slow_ms;
	/* The operator called it dead: it comes back when all is mended, and the other
	 * one is there to tell it. What is being done about it: */
	gboolean distrusted, forcing;
};

struct happening {
	guint64 at_ms, order;
	guint host, life;
	gboolean of_vm; /* its life is the vm's, else the colod's */
	gboolean on_wire; /* whoever sent it may be dead by then */
	void (*fn)(test_world *world, guint host, const struct happening *happening);
	guint64 number, number2;
	void *thing;
	char text[64];
};
typedef void (*happening_fn)(test_world *world, guint host,
			     const struct happening *happening);

struct world {
	GRand *rand;
	guint64 now_ms, order;
	GSequence *queue;
	struct host host[2];
	gboolean cut[WORLD__LINKS][2]; /* what comes to a host */
	guint64 cut_since_ms[WORLD__LINKS][2];
	guint links; /* of colo-vms so far */
	guint connection; /* which one of the colods' */
	enum colo_arbiter_kind kind;
	struct etcd_model *etcd;
	guint agents; /* that were started so far */
	gboolean rough; /* arbiters are, by themselves */
	gboolean mended; /* and nothing has happened since */
	gboolean spared; /* agents are not killed now */
	guint64 outputs;
	char *violation;
	GQueue *lines;
	GHashTable *counts;
	guint64 trace; /* a hash of all lines */
	colo_pair pair;
	struct colo_node_ops ops;
	struct side side[2];
};

/* world.c */
void world_note(test_world *world, const char *format, ...) G_GNUC_PRINTF(2, 3);
void world_violate(test_world *world, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Owned by the queue. */
struct happening *world_happen(test_world *world, guint host, gboolean of_vm,
			       guint64 in_ms, happening_fn fn);
/* The same once more, later. */
void world_put_off(test_world *world, const struct happening *happening,
		   gsize thing_bytes);
/* Gives up those of this kind about this thing. */
void world_never(test_world *world, happening_fn fn, guint64 number);
gboolean world_is_frozen(const test_world *world, guint host);
gboolean world_arrives(const test_world *world, enum world_link link, guint host);
gboolean world_link_works(const test_world *world, enum world_link link);
/* How long nothing has come on a link. */
gboolean world_is_silent(const test_world *world, enum world_link link, guint host,
			 guint64 ms);
/* The host's monotonic clock. */
guint64 world_clock_ns(const test_world *world, guint host);
/* Linked functions that are not told whose they are: these act now. */
void world_act(test_world *world, guint host);
test_world *world_acting(guint *host);

/* world_vm.c */
void world_vm_set_ops(struct colo_node_ops *ops);
void world_vm_watch(test_world *world);
void world_speak(test_world *world, guint host);
void world_vm_end(test_world *world, guint host);
void world_vm_lose_power(test_world *world, guint host);

/* world_peer.c */
void world_peer_set_ops(struct colo_node_ops *ops);
void world_peer_watch(test_world *world);
void world_peer_tell(test_world *world, guint host); /* what its node says of itself */

/* world_heart.c */
void world_hearts_new(test_world *world);
void world_hearts_free(test_world *world);
void world_heart_power_on(test_world *world, guint host);
void world_heart_power_off(test_world *world, guint host);
void world_heart_colod_starts(test_world *world, guint host);
void world_heart_colod_ends(test_world *world, guint host);
void world_heart_tell(test_world *world, guint host,
		      const struct colo_peer_state *self);
void world_hearts_run(test_world *world); /* each ms */
/* Something happened to a host or a link: what is believed may change. */
void world_hearts_disturbed(test_world *world);
void world_hearts_misfortune(test_world *world);
void world_hearts_mend(test_world *world);

/* world_arbiter.c */
void world_arbiter_set_ops(test_world *world);
void world_arbiter_colod_starts(test_world *world, guint host);
void world_arbiter_colod_ends(test_world *world, guint host, gboolean killed);

/* Of what is not going to happen any more. */
void world_arbiter_forget(struct happening *happening);

/* world_etcd.c */
void world_etcd_new(test_world *world);
void world_etcd_free(test_world *world);
void world_etcd_misfortune(test_world *world);
void world_etcd_mend(test_world *world);

/* world_record.c */
void world_files_new(test_world *world);
void world_files_free(test_world *world);
void world_record_set_ops(struct colo_node_ops *ops);
/* Sets host.record and host.damaged. `starts`: it is a colod that reads. */
void world_record_look(test_world *world, guint host, gboolean starts);
void world_files_lose_power(test_world *world, guint host);
void world_files_flip(test_world *world, guint host);
void world_files_remove(test_world *world, guint host);

#endif
