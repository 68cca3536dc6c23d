/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The disks of a pair in one process. */
#include "tests/unit/world_disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "checkpoint/disk_out.h"
#include "checkpoint/disk_sync.h"
#include "checkpoint/disk_twin.h"
#include "tests/unit/fake_disk.h"

#define SLOTS 10u
#define SLOT_SECTORS 6u
#define SLOT_BYTES (SLOT_SECTORS * VMM_SECTOR)
#define DISK_SECTORS 128u /* two blocks of a sync would be 256 */
#define DISK_BYTES (DISK_SECTORS * VMM_SECTOR)
#define JOBS 4u
#define RECORDS 4096u
#define LINES 400u
#define NONCES 8u
#define MEMORY (1u << 20)

/* A record is for the slot of its number. What it is written as says which it is, and
 * by which of two guests that differ. */
static guint32 tag_of(guint number, guint nonce)
{
	return number * NONCES + nonce;
}

static guint slot_of(guint number)
{
	return (number * 7u) % SLOTS;
}

static gboolean erases(guint number)
{
	return number % 9u == 0;
}

/* What a guest is, apart from its disk. */
struct job {
	guint number, nonce; /* number 0: none */
	gboolean flushing;
};

struct guest {
	guint received; /* requests */
	struct job jobs[JOBS];
	guint32 view[SLOTS]; /* tags, as it wrote them last */
};

struct request { /* of a guest; made for its disk */
	struct fake_request *fake;
	gboolean is_done, is_read;
	guint slot; /* of a reading */
	int result;
};

/* A colo-vm. */
struct machine {
	disk_world *world;
	guint host;
	gboolean standby, synced, promoted, durable, failed;
	vmm_loop *loop;
	ckpt_disk_twins *twins; /* NULL: not started as a standby */
	ckpt_disk_out *out;
	struct vmm_disk *disk; /* the guest's */
	ckpt_disk_sync_out *sync_out;
	ckpt_disk_sync_in *sync_in;
	gboolean runs;
	struct guest guest;
	struct request requests[JOBS + 1]; /* of the jobs, and a reading */
	guint epoch;
	gboolean wants_checkpoint;
};

enum kind { WRITE, SYNC, INPUT, CUT, DIFFER, OUTPUT, COMMITTED };

struct message {
	enum kind kind;
	struct ckpt_disk_head write;
	struct ckpt_sync_head sync;
	guint8 *payload;
	gsize length;
	struct guest guest; /* CUT */
	guint64 number; /* of writes, for CUT; of a request, for INPUT and OUTPUT */
	guint nonce, epoch;
};

struct host {
	struct fake_disk device;
	gboolean attached; /* the device is in use */
	struct machine *machine; /* NULL: none */
	guint8 bytes[DISK_BYTES], told[DISK_BYTES],
		durable[DISK_BYTES]; /* while not in use */
};

struct disk_world {
	GRand *rand;
	guint64 step, trace;
	struct host host[2];
	guint primary; /* host of the guest that clients know */
	GQueue to_standby, to_primary; /* struct message */
	gboolean linked;
	/* Between a cut and its commit. */
	gboolean cutting, cut_came; /* the standby has it, and has not applied it */
	struct message came;
	guint asked; /* requests of clients so far */
	guint8 written[RECORDS]; /* bit n: with nonce n */
	gboolean said[RECORDS]; /* clients were told that it is there */
	guint8 said_nonce[RECORDS];
	/* Outputs of the primary that nobody was told of yet. */
	struct held {
		guint number, nonce, epoch;
		gboolean seen; /* the standby said the same */
	} held[64];
	guint helds;
	struct disk_world_counts counts;
	gboolean over; /* nothing more can be asked of it */
	GQueue *lines;
	char *violation;
};

/* What happens. */

guint32 disk_world_random(disk_world *world, guint32 below)
{
	return (guint32)g_rand_int_range(world->rand, 0, (gint32)below);
}

static void G_GNUC_PRINTF(2, 3) note(disk_world *world, const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list arguments;

	va_start(arguments, format);
	text = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	world->trace =
		XXH3_64bits_withSeed(text, strlen(text), world->trace ^ world->step);
	g_queue_push_tail(world->lines, g_strdup_printf("%6" G_GUINT64_FORMAT " %s",
							world->step, text));
	if (g_queue_get_length(world->lines) > LINES)
		g_free(g_queue_pop_head(world->lines));
}

static void G_GNUC_PRINTF(2, 3) violate(disk_world *world, const char *format, ...)
{
	va_list arguments;

	if (world->violation)
		return;
	va_start(arguments, format);
	world->violation = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	note(world, "VIOLATION: %s", world->violation);
}

static struct machine *primary_of(disk_world *world)
{
	return world->host[world->primary].machine;
}

static struct machine *standby_of(disk_world *world)
{
	struct machine *machine = world->host[!world->primary].machine;

	return machine && machine->standby ? machine : NULL;
}

/* What clients are told. */

static void say(disk_world *world, guint number, guint nonce)
{
	if (world->said[number])
		return;
	note(world, "clients are told of %u as %u", number, nonce);
	world->said[number] = TRUE;
	world->said_nonce[number] = (guint8)nonce;
	world->counts.told++;
}

static void drop_held(disk_world *world, guint index)
{
	world->held[index] = world->held[--world->helds];
}

/* The standby that runs along says so too, in the same epoch. */
static void compare(disk_world *world, guint number, guint nonce, guint epoch)
{
	for (guint i = 0; i < world->helds; i++) {
		const struct held *held = &world->held[i];

		if (held->number == number && held->nonce == nonce &&
		    held->epoch == epoch) {
			say(world, number, nonce);
			drop_held(world, i);
			return;
		}
	}
}

/* All of epochs before this one. */
static void release(disk_world *world, guint epoch)
{
	for (guint i = 0; i < world->helds;) {
		if (world->held[i].epoch >= epoch) {
			i++;
			continue;
		}
		say(world, world->held[i].number, world->held[i].nonce);
		drop_held(world, i);
	}
}

/* Messages. */

static void send_message(GQueue *queue, const struct message *message,
			 const void *payload, gsize length)
{
	struct message *copy = g_memdup2(message, sizeof(*message));

	copy->payload = g_memdup2(payload, length);
	copy->length = length;
	g_queue_push_tail(queue, copy);
}

static void free_message(gpointer data)
{
	struct message *message = data;

	g_free(message->payload);
	g_free(message);
}

static void say_output(struct machine *machine, guint number, guint nonce)
{
	disk_world *world = machine->world;
	const struct message message = { .kind = OUTPUT,
					 .number = number,
					 .nonce = nonce,
					 .epoch = machine->epoch };

	if (machine->standby) {
		if (world->linked)
			send_message(&world->to_primary, &message, NULL, 0);
		return;
	}
	/* From the first cut on. */
	if (!world->linked || (!standby_of(world)->synced && !world->cutting)) {
		say(world, number, nonce);
		return;
	}
	if (world->helds < G_N_ELEMENTS(world->held))
		world->held[world->helds++] =
			(struct held){ number, nonce, machine->epoch, FALSE };
	if (nonce || disk_world_random(world, 4) == 0)
		machine->wants_checkpoint = TRUE;
}

/* Guests. */

static void fill(guint8 *bytes, guint32 tag)
{
	for (gsize i = 0; i < SLOT_BYTES; i += sizeof(tag))
		memcpy(bytes + i, &tag, sizeof(tag));
}

static void submit(struct machine *machine, struct request *request,
		   enum vmm_disk_op op, guint slot, guint32 tag)
{
	struct vmm_disk *disk = machine->disk;
	const gboolean flush = op == VMM_DISK_FLUSH;

	*request = (struct request){
		.fake = fake_request_new(op, flush ? 0 : slot * SLOT_BYTES,
					 flush ? 0 : SLOT_BYTES),
		.is_read = op == VMM_DISK_READ,
		.slot = slot,
	};
	request->fake->is_done = &request->is_done;
	request->fake->result = &request->result;
	if (op == VMM_DISK_WRITE)
		fill(request->fake->request.buffer, tag);
	disk->submit(disk->data, &request->fake->request);
	disk->flush_submissions(disk->data);
}

static void submit_job(struct machine *machine, guint index)
{
	const struct job *job = &machine->guest.jobs[index];

	submit(machine, &machine->requests[index],
	       job->flushing ? VMM_DISK_FLUSH
	       : erases(job->number)
		       ? (job->number & 1 ? VMM_DISK_ZEROES : VMM_DISK_DISCARD)
		       : VMM_DISK_WRITE,
	       slot_of(job->number), tag_of(job->number, job->nonce));
}

static void begin_job(struct machine *machine, guint index, guint number)
{
	disk_world *world = machine->world;
	struct job *job = &machine->guest.jobs[index];

	*job = (struct job){ .number = number };
	/* Some of what a guest does is its own doing. */
	if (!erases(number) && disk_world_random(world, 8) == 0)
		job->nonce = 1 + disk_world_random(world, NONCES - 1);
	machine->guest.view[slot_of(number)] =
		erases(number) ? 0 : tag_of(number, job->nonce);
	world->written[number] |= (guint8)(1u << job->nonce);
	submit_job(machine, index);
}

static gboolean is_busy(const struct guest *guest, guint slot)
{
	for (guint i = 0; i < JOBS; i++)
		if (guest->jobs[i].number && slot_of(guest->jobs[i].number) == slot)
			return TRUE;
	return FALSE;
}

/* `until`: the last request that has come to it. */
static void take_request(struct machine *machine, guint until)
{
	struct guest *guest = &machine->guest;
	const struct request *reading = &machine->requests[JOBS];
	const guint number = guest->received + 1;

	if (!machine->runs || number > until || is_busy(guest, slot_of(number)) ||
	    (reading->fake && reading->slot == slot_of(number)))
		return;
	for (guint i = 0; i < JOBS; i++) {
		if (guest->jobs[i].number)
			continue;
		guest->received = number;
		begin_job(machine, i, number);
		return;
	}
}

static void read_something(struct machine *machine)
{
	const guint slot = disk_world_random(machine->world, SLOTS);

	if (!machine->runs || machine->requests[JOBS].fake ||
	    is_busy(&machine->guest, slot))
		return;
	submit(machine, &machine->requests[JOBS], VMM_DISK_READ, slot, 0);
}

static void check_slot(struct machine *machine, const guint8 *bytes, guint slot,
		       const char *where)
{
	const guint32 wanted = machine->guest.view[slot];
	guint32 tag;

	for (gsize i = 0; i < SLOT_BYTES; i += sizeof(tag)) {
		memcpy(&tag, bytes + i, sizeof(tag));
		if (tag == wanted)
			continue;
		violate(machine->world,
			"host %u: slot %u %s has %u where its guest wrote %u",
			machine->host, slot, where, tag, wanted);
		return;
	}
}

static void go_on(struct machine *machine, guint index)
{
	struct job *job = &machine->guest.jobs[index];

	if (job->flushing) {
		const struct job done = *job;

		*job = (struct job){ 0 };
		say_output(machine, done.number, done.nonce);
		return;
	}
	job->flushing = TRUE;
	submit_job(machine, index);
}

/* What its disk completed. A guest whose disk fails stands still. */
static void reap(struct machine *machine)
{
	for (guint i = 0; i <= JOBS; i++) {
		struct request *request = &machine->requests[i];

		if (!request->fake || !request->is_done || !machine->runs)
			continue;
		if (request->result) {
			note(machine->world, "host %u: a request fails: %d",
			     machine->host, request->result);
			machine->runs = FALSE;
			machine->failed = TRUE;
			return;
		}
		if (request->is_read)
			check_slot(machine, request->fake->request.buffer,
				   request->slot, "as read");
		g_clear_pointer(&request->fake, fake_request_free);
		if (i < JOBS)
			go_on(machine, i);
	}
}

/* Those that are done are the requester's again. */
static void forget_requests(struct machine *machine)
{
	struct vmm_disk *disk = machine->disk;

	for (guint i = 0; i <= JOBS; i++) {
		struct request *request = &machine->requests[i];

		if (request->fake && request->is_done)
			fake_request_free(request->fake);
		else if (request->fake)
			disk->forget(disk->data, &request->fake->request);
		*request = (struct request){ 0 };
	}
}

/* Machines. */

static void on_write(void *data, const struct ckpt_disk_head *head, const void *bytes)
{
	struct machine *machine = data;
	const struct message message = { .kind = WRITE, .write = *head };

	send_message(&machine->world->to_standby, &message, bytes,
		     bytes ? wire_get64(head->length) : 0);
}

static void on_sync_out(void *data, const struct ckpt_sync_head *head,
			const void *payload, gsize length)
{
	const struct message message = { .kind = SYNC, .sync = *head };

	send_message(&((struct machine *)data)->world->to_standby, &message, payload,
		     length);
}

static void on_sync_in(void *data, const struct ckpt_sync_head *head,
		       const void *payload, gsize length)
{
	const struct message message = { .kind = DIFFER, .sync = *head };

	send_message(&((struct machine *)data)->world->to_primary, &message, payload,
		     length);
}

static void on_need(void *data)
{
	disk_world *world = ((struct machine *)data)->world;

	if (primary_of(world))
		primary_of(world)->wants_checkpoint = TRUE;
}

static void on_failed(void *data, guint index, enum vmm_disk_op op, int error)
{
	((struct machine *)data)->failed = TRUE;
}

static void on_sync_failed(void *data, int error)
{
	((struct machine *)data)->failed = TRUE;
}

static void on_progress(void *data)
{
}

static void iterate(struct machine *machine)
{
	while (vmm_loop_iterate(machine->loop, 0))
		;
	reap(machine);
}

static struct machine *start(disk_world *world, guint index, gboolean standby)
{
	static const struct ckpt_disk_twin_limits limits = { 20 * SLOT_BYTES, MEMORY,
							     20 * SLOT_BYTES, MEMORY };
	struct host *host = &world->host[index];
	struct machine *machine = g_new0(struct machine, 1);
	const struct ckpt_disk_twin_hooks hooks = { machine, on_need, on_failed };
	struct vmm_disk *below = &host->device.disk;

	note(world, "host %u: colo-vm starts%s", index, standby ? " as standby" : "");
	fake_disk_init(&host->device, DISK_BYTES, FALSE);
	fake_disk_let_read_now(&host->device);
	host->device.rand = world->rand;
	memcpy(host->device.bytes, host->bytes, DISK_BYTES);
	memcpy(host->device.told, host->told, DISK_BYTES);
	memcpy(host->device.durable, host->durable, DISK_BYTES);
	host->attached = TRUE;
	host->machine = machine;
	machine->world = world;
	machine->host = index;
	machine->standby = standby;
	machine->loop = vmm_loop_new(NULL);
	machine->out = ckpt_disk_out_new(on_write, machine);
	if (standby) {
		machine->twins = ckpt_disk_twins_new(machine->loop, &hooks, &limits);
		below = ckpt_disk_twin_new_take(below, 0, machine->twins);
	}
	machine->disk = ckpt_disk_out_new_take(below, 0, machine->out);
	return machine;
}

/* The process is dead: what was at the device may reach it, or not. */
static void end(disk_world *world, guint index)
{
	struct host *host = &world->host[index];
	struct machine *machine = g_steal_pointer(&host->machine);

	forget_requests(machine);
	g_clear_pointer(&machine->sync_out, ckpt_disk_sync_out_free);
	g_clear_pointer(&machine->sync_in, ckpt_disk_sync_in_free);
	machine->disk->free(machine->disk->data);
	ckpt_disk_out_free(machine->out);
	ckpt_disk_twins_free(machine->twins);
	vmm_loop_free(machine->loop);
	g_free(machine);
	memcpy(host->bytes, host->device.bytes, DISK_BYTES);
	memcpy(host->told, host->device.told, DISK_BYTES);
	memcpy(host->durable, host->device.durable, DISK_BYTES);
	fake_disk_clear(&host->device);
	host->attached = FALSE;
}

/* Of each sector, what was flushed, what completed, or what was under way. */
static void lose_cache(disk_world *world, struct host *host)
{
	for (gsize at = 0; at < DISK_BYTES; at += VMM_SECTOR) {
		const guint8 *kept[] = { host->bytes, host->told, host->durable };
		guint8 sector[VMM_SECTOR];

		memcpy(sector, kept[disk_world_random(world, 3)] + at, VMM_SECTOR);
		memcpy(host->bytes + at, sector, VMM_SECTOR);
	}
	memcpy(host->told, host->bytes, DISK_BYTES);
	memcpy(host->durable, host->bytes, DISK_BYTES);
}

/* A guest that starts cold: what is on the disk is what it knows. What is torn it makes
 * whole before it begins. */
static void boot(disk_world *world, guint index)
{
	struct host *host = &world->host[index];
	struct machine *machine;
	struct guest guest = { .received = world->asked };

	for (guint slot = 0; slot < SLOTS; slot++) {
		memcpy(&guest.view[slot], host->bytes + slot * SLOT_BYTES,
		       sizeof(guint32));
		fill(host->bytes + slot * SLOT_BYTES, guest.view[slot]);
		fill(host->told + slot * SLOT_BYTES, guest.view[slot]);
		fill(host->durable + slot * SLOT_BYTES, guest.view[slot]);
	}
	machine = start(world, index, FALSE);
	machine->guest = guest;
	machine->runs = machine->durable = TRUE;
}

/* Checks. */

/* Which record it is; FALSE: none that was ever written for this slot. */
static gboolean is_record(const disk_world *world, guint32 tag, guint slot,
			  guint *number)
{
	*number = tag / NONCES;
	return !tag || (*number < RECORDS && slot_of(*number) == slot &&
			world->written[*number] >> tag % NONCES & 1);
}

/* The last that clients were told of; 0: none. */
static guint last_said(const disk_world *world, guint slot)
{
	for (guint number = world->asked; number; number--)
		if (slot_of(number) == slot && world->said[number])
			return number;
	return 0;
}

/* Whether a later one for that slot that erases may have been begun. */
static gboolean may_be_erased(const disk_world *world, guint slot, guint after)
{
	for (guint number = after; number && number <= world->asked; number++)
		if (slot_of(number) == slot && erases(number) && world->written[number])
			return TRUE;
	return !after;
}

static void check_record(disk_world *world, guint32 tag, guint slot, const char *where)
{
	const guint said = last_said(world, slot);
	guint number;

	if (!is_record(world, tag, slot, &number)) {
		violate(world, "%s, slot %u: %u was never written", where, slot, tag);
	} else if (!tag) {
		if (!may_be_erased(world, slot, said))
			violate(world, "%s, slot %u: record %u is gone", where, slot,
				said);
	} else if (number < said) {
		violate(world,
			"%s, slot %u: record %u is there, clients were told of %u",
			where, slot, number, said);
	} else if (number == said && tag % NONCES != world->said_nonce[number]) {
		violate(world,
			"%s, slot %u: record %u is there as %u, clients were told %u",
			where, slot, number, tag % NONCES, world->said_nonce[number]);
	}
}

/* Of a disk that is used cold: each sector for itself, since what was not flushed is
 * torn. */
static void check_disk(disk_world *world, guint index)
{
	const struct host *host = &world->host[index];

	for (guint sector = 0; sector < SLOTS * SLOT_SECTORS; sector++) {
		guint32 tag;

		memcpy(&tag, host->bytes + sector * VMM_SECTOR, sizeof(tag));
		check_record(world, tag, sector / SLOT_SECTORS,
			     index ? "disk 1" : "disk 0");
	}
}

static void check_view(struct machine *machine)
{
	for (guint slot = 0; slot < SLOTS; slot++)
		check_record(machine->world, machine->guest.view[slot], slot,
			     "the guest that goes on");
}

/* The link. */

static void unlink_pair(disk_world *world)
{
	struct machine *primary = primary_of(world), *standby = standby_of(world);

	g_queue_clear_full(&world->to_standby, free_message);
	g_queue_clear_full(&world->to_primary, free_message);
	world->linked = world->cutting = world->cut_came = FALSE;
	if (primary) {
		g_clear_pointer(&primary->sync_out, ckpt_disk_sync_out_free);
		ckpt_disk_out_forward(primary->out, FALSE);
	}
	if (standby) {
		g_clear_pointer(&standby->sync_in, ckpt_disk_sync_in_free);
		ckpt_disk_twins_drop_held(standby->twins);
	}
}

static void begin_sync(disk_world *world)
{
	static const guint8 secret[CKPT_SECRET] = { 4, 5, 6 };
	struct machine *primary = primary_of(world), *standby = standby_of(world);
	const struct ckpt_sync_hooks out_hooks = { primary, on_sync_out, on_sync_failed,
						   on_progress };
	const struct ckpt_sync_hooks in_hooks = { standby, on_sync_in, on_sync_failed,
						  on_progress };

	note(world, "the first sync begins");
	world->linked = TRUE;
	world->helds = 0;
	primary->epoch = standby->epoch = 0;
	primary->wants_checkpoint = FALSE;
	ckpt_disk_out_forward(primary->out, TRUE);
	primary->sync_out = ckpt_disk_sync_out_new(primary->out, 0, secret, &out_hooks);
	standby->sync_in = ckpt_disk_sync_in_new(ckpt_disk_twin_base(standby->twins, 0),
						 0, secret, &in_hooks);
}

/* The guest is at rest for it. */
static void cut(disk_world *world)
{
	struct machine *primary = primary_of(world);
	struct message message = { .kind = CUT,
				   .guest = primary->guest,
				   .number = ckpt_disk_out_number(primary->out),
				   .epoch = ++primary->epoch };

	note(world, "cut %u, at request %u and write %" G_GUINT64_FORMAT,
	     primary->epoch, primary->guest.received, message.number);
	primary->wants_checkpoint = FALSE;
	world->cutting = TRUE;
	send_message(&world->to_standby, &message, NULL, 0);
}

static void apply_cut(disk_world *world, const struct message *message)
{
	struct machine *standby = standby_of(world);
	const struct message committed = { .kind = COMMITTED, .epoch = message->epoch };

	if (!ckpt_disk_twins_may_commit(standby->twins, message->number)) {
		violate(world, "the standby cannot commit write %" G_GUINT64_FORMAT,
			message->number);
		return;
	}
	note(world, "the standby commits %u", message->epoch);
	world->counts.checkpoints++;
	if (disk_world_random(world, 2))
		forget_requests(standby);
	ckpt_disk_twins_commit(standby->twins, message->number);
	forget_requests(standby);
	standby->guest = message->guest;
	standby->epoch = message->epoch;
	standby->runs = TRUE;
	if (!standby->synced) {
		g_clear_pointer(&standby->sync_in, ckpt_disk_sync_in_free);
		standby->synced = TRUE;
		world->counts.syncs++;
	}
	for (guint i = 0; i < JOBS; i++)
		if (standby->guest.jobs[i].number)
			submit_job(standby, i);
	send_message(&world->to_primary, &committed, NULL, 0);
}

static void take_write(disk_world *world, const struct message *message)
{
	struct machine *standby = standby_of(world);
	const char *why;

	if (!ckpt_disk_twins_hold(standby->twins, &message->write, message->payload,
				  message->length, &why))
		violate(world, "the standby refuses a write: %s", why);
	else if (!standby->synced && !world->cut_came)
		ckpt_disk_twins_commit(standby->twins,
				       wire_get64(message->write.number));
}

static void hear_standby(disk_world *world, const struct message *message)
{
	struct machine *primary = primary_of(world);
	const char *why;

	switch (message->kind) {
	case DIFFER:
		if (primary->sync_out &&
		    !ckpt_disk_sync_out_take(primary->sync_out, &message->sync,
					     message->length, &why))
			violate(world, "the primary refuses an answer: %s", why);
		break;
	case OUTPUT:
		compare(world, (guint)message->number, message->nonce, message->epoch);
		break;
	case COMMITTED:
		world->cutting = FALSE;
		g_clear_pointer(&primary->sync_out, ckpt_disk_sync_out_free);
		release(world, message->epoch);
		break;
	default:
		g_assert_not_reached();
	}
}

static void hear_primary(disk_world *world, const struct message *message)
{
	struct machine *standby = standby_of(world);
	const char *why;

	switch (message->kind) {
	case WRITE:
		take_write(world, message);
		break;
	case SYNC:
		if (!ckpt_disk_sync_in_take(standby->sync_in, &message->sync,
					    message->payload, message->length, &why))
			violate(world, "the standby refuses what is synced: %s", why);
		break;
	case CUT:
		world->cut_came = TRUE;
		world->came = *message;
		break;
	default:
		g_assert_not_reached();
	}
}

static void deliver(disk_world *world)
{
	GQueue *queue =
		disk_world_random(world, 2) ? &world->to_standby : &world->to_primary;
	struct message *message = g_queue_pop_head(queue);

	if (!message)
		return;
	if (queue == &world->to_standby)
		hear_primary(world, message);
	else
		hear_standby(world, message);
	free_message(message);
}

/* Who goes on. */

static void on_durable(void *data, int error)
{
	struct machine *machine = data;

	note(machine->world, "host %u: the promotion is durable (%d)", machine->host,
	     error);
	if (error)
		machine->failed = TRUE;
	else
		machine->durable = TRUE;
}

static void promote(disk_world *world)
{
	struct machine *machine = standby_of(world);

	note(world, "host %u is promoted, at request %u", machine->host,
	     machine->guest.received);
	world->counts.promotions++;
	world->primary = machine->host;
	world->helds = 0;
	machine->standby = FALSE;
	machine->promoted = TRUE;
	check_view(machine);
	ckpt_disk_twins_promote(machine->twins, on_durable, machine);
}

static gboolean is_whole(disk_world *world)
{
	const struct machine *standby = standby_of(world);

	return standby && standby->synced && !standby->failed && world->linked;
}

gboolean disk_world_is_protected(const disk_world *world)
{
	return is_whole((disk_world *)world) && primary_of((disk_world *)world);
}

/* Whoever started the guest cold finds what clients were told of. */
static void start_cold(disk_world *world)
{
	check_disk(world, world->primary);
	boot(world, world->primary);
}

static void lose_primary(disk_world *world, gboolean power)
{
	const guint index = world->primary;
	const gboolean whole = is_whole(world);
	const gboolean was_durable = primary_of(world)->durable;

	note(world, "host %u: %s", index,
	     power ? "power is lost" : "colo-vm is killed");
	unlink_pair(world);
	end(world, index);
	if (power) {
		world->counts.power_losses++;
		lose_cache(world, &world->host[index]);
	}
	if (whole) {
		promote(world);
		return;
	}
	if (standby_of(world))
		end(world, !index);
	if (!was_durable) {
		/* What it wrote for itself was not on its disk yet. */
		world->counts.lost++;
		world->over = TRUE;
		return;
	}
	start_cold(world);
}

static void lose_standby(disk_world *world, gboolean power)
{
	const guint index = !world->primary;
	struct machine *primary = primary_of(world);

	note(world, "host %u: %s", index,
	     power ? "power is lost" : "colo-vm is killed");
	unlink_pair(world);
	end(world, index);
	if (power)
		lose_cache(world, &world->host[index]);
	/* Alone: all may be said. */
	if (primary)
		release(world, G_MAXUINT);
}

gboolean disk_world_kill(disk_world *world, gboolean primary, gboolean power)
{
	if (world->over ||
	    !world->host[primary ? world->primary : !world->primary].machine)
		return FALSE;
	if (primary)
		lose_primary(world, power);
	else
		lose_standby(world, power);
	return TRUE;
}

gboolean disk_world_break(disk_world *world, gboolean primary)
{
	struct host *host = &world->host[primary ? world->primary : !world->primary];

	if (world->over || !host->attached)
		return FALSE;
	note(world, "host %u: its device fails",
	     primary ? world->primary : !world->primary);
	if (disk_world_random(world, 2))
		host->device.write_result = -EIO;
	else
		host->device.result = -EIO;
	return TRUE;
}

/* A host whose disk has failed gives way. */
static void look_after(disk_world *world)
{
	struct machine *primary = primary_of(world), *standby = standby_of(world);

	if (standby && standby->failed)
		lose_standby(world, FALSE);
	if (primary && primary->failed) {
		if (!is_whole(world))
			world->over = TRUE; /* nobody is left who could */
		else
			lose_primary(world, TRUE);
	}
}

void disk_world_misfortune(disk_world *world)
{
	switch (disk_world_random(world, 12)) {
	case 0:
	case 1:
	case 2:
		disk_world_kill(world, TRUE, FALSE);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		disk_world_kill(world, TRUE, TRUE);
		break;
	case 7:
	case 8:
		disk_world_kill(world, FALSE, disk_world_random(world, 2));
		break;
	case 9:
		if (world->linked && standby_of(world) && !standby_of(world)->synced)
			disk_world_kill(world, FALSE, FALSE);
		break;
	case 10:
		disk_world_break(world, FALSE);
		break;
	case 11:
		if (is_whole(world))
			disk_world_break(world, TRUE);
		break;
	}
}

/* The course of things. */

static void complete_something(disk_world *world)
{
	struct host *host = &world->host[disk_world_random(world, 2)];

	if (!host->machine || !host->device.waiting->len)
		return;
	fake_disk_complete(&host->device,
			   disk_world_random(world, host->device.waiting->len));
	reap(host->machine);
}

static void work(disk_world *world)
{
	struct machine *primary = primary_of(world), *standby = standby_of(world);

	if (disk_world_random(world, 3) == 0 && world->asked + 1 < RECORDS &&
	    primary->guest.received == world->asked)
		world->asked++;
	take_request(primary, world->asked);
	/* The same comes to the other guest, when it comes; never before. */
	if (standby && standby->runs && world->linked)
		take_request(standby, primary->guest.received);
	if (disk_world_random(world, 4) == 0)
		read_something(disk_world_random(world, 2) || !standby ? primary
								       : standby);
}

static void advance_sync(disk_world *world)
{
	struct machine *primary = primary_of(world), *standby = standby_of(world);

	if (!world->linked) {
		/* A promotion is durable before anybody is filled. */
		if (standby && primary->durable)
			begin_sync(world);
		return;
	}
	if (!standby)
		return;
	if (world->cut_came) {
		world->cut_came = FALSE;
		apply_cut(world, &world->came);
	} else if (primary->sync_out && !standby->synced && !world->cutting) {
		while (ckpt_disk_sync_out_step(primary->sync_out))
			;
		if (ckpt_disk_sync_out_is_complete(primary->sync_out))
			cut(world);
	} else if (standby->synced && !world->cutting &&
		   (primary->wants_checkpoint || disk_world_random(world, 60) == 0)) {
		cut(world);
	}
}

static void step(disk_world *world)
{
	const struct host *hosts = world->host;

	world->step++;
	switch (disk_world_random(world, 8)) {
	case 0:
	case 1:
		work(world);
		break;
	case 2:
	case 3:
		complete_something(world);
		break;
	case 4:
	case 5:
		deliver(world);
		break;
	case 6:
		for (guint i = 0; i < 2; i++)
			if (hosts[i].machine)
				iterate(hosts[i].machine);
		break;
	case 7:
		advance_sync(world);
		break;
	}
	look_after(world);
}

void disk_world_run(disk_world *world, guint steps)
{
	while (steps-- && !world->violation && !world->over)
		step(world);
}

gboolean disk_world_protect(disk_world *world)
{
	for (guint i = 0; i < 4000 && !world->violation && !world->over; i++) {
		struct host *other = &world->host[!world->primary];

		if (disk_world_is_protected(world))
			return TRUE;
		if (!other->machine)
			start(world, !world->primary, TRUE);
		step(world);
	}
	return FALSE;
}

static void look(struct machine *machine)
{
	guint8 bytes[SLOT_BYTES] __attribute__((aligned(4096)));

	for (guint slot = 0; slot < SLOTS; slot++) {
		const struct fake_disk *device =
			&machine->world->host[machine->host].device;

		memcpy(bytes, device->bytes + slot * SLOT_BYTES, SLOT_BYTES);
		if (!is_busy(&machine->guest, slot))
			check_slot(machine, bytes, slot, "on the device");
	}
}

void disk_world_settle(disk_world *world)
{
	if (world->over || world->violation)
		return;
	if (standby_of(world))
		lose_standby(world, FALSE);
	for (guint i = 0; i < 20000 && !world->violation && !world->over; i++) {
		struct machine *primary = primary_of(world);
		gboolean busy = !primary->durable || primary->requests[JOBS].fake;

		for (guint n = 0; n < JOBS; n++)
			busy |= primary->guest.jobs[n].number != 0;
		if (!busy && !world->host[world->primary].device.waiting->len) {
			look(primary);
			check_view(primary);
			return;
		}
		complete_something(world);
		iterate(primary);
		look_after(world);
	}
	if (!world->violation && !world->over)
		violate(world, "the disks do not come to rest");
}

disk_world *disk_world_new(guint32 seed)
{
	disk_world *world = g_new0(disk_world, 1);

	world->rand = g_rand_new_with_seed(seed);
	world->lines = g_queue_new();
	/* Disks that are old, of something else. */
	for (gsize i = SLOTS * SLOT_BYTES; i < DISK_BYTES; i++)
		world->host[1].bytes[i] = (guint8)g_rand_int(world->rand);
	memcpy(world->host[1].told, world->host[1].bytes, DISK_BYTES);
	memcpy(world->host[1].durable, world->host[1].bytes, DISK_BYTES);
	boot(world, 0);
	return world;
}

void disk_world_free(disk_world *world)
{
	unlink_pair(world);
	for (guint i = 0; i < 2; i++)
		if (world->host[i].machine)
			end(world, i);
	g_queue_free_full(world->lines, g_free);
	g_rand_free(world->rand);
	g_free(world->violation);
	g_free(world);
}

const char *disk_world_violation(const disk_world *world)
{
	return world->violation;
}

void disk_world_print(const disk_world *world)
{
	for (const GList *at = world->lines->head; at; at = at->next)
		fprintf(stderr, "%s\n", (const char *)at->data);
}

guint64 disk_world_trace(const disk_world *world)
{
	return world->trace;
}

void disk_world_count(const disk_world *world, struct disk_world_counts *counts)
{
	*counts = world->counts;
}
