/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a primary may send, in any order: against a simple model of the secondary's memory. The
 * base changes in the first sync and at a commit, and at no other time; a commit is said for
 * the next epoch only, when everything of it came; after what was refused a promotion finds
 * the last commit.
 *
 * The machine, the links and the hello are this file's (see fuzz_secondary.wrap): no KVM, no
 * threads. Where the last byte of the input says so, there are further connections.
 */
#include "checkpoint/secondary.h"

#include <string.h>
#include <xxhash.h>

#include "tests/fuzz/harness.h"
#include "kvm/timer.h"

#define PAGES 256u
#define USED 12u /* pages that anything happens to, and as many of each further connection */
#define LANES 3u
#define SLOTS (LANES * USED) /* those are what the model knows */

struct fuzz_lane {
	const struct ckpt_link_ops *ops; /* NULL: not joined */
	void *ops_data;
	gboolean ended;
};

struct model {
	vmm_memory *memory;
	const struct ckpt_link_ops *ops;
	void *ops_data;
	enum vmm_run_state run_state;
	gboolean lost;
	guint connections;
	struct fuzz_lane lane[LANES], *joining;

	guint8 (*base)[VMM_PAGE]; /* what the last commit made it, or the first sync so far */
	guint8 (*arriving)[VMM_PAGE]; /* of the checkpoint under way */
	gboolean came[SLOTS]; /* in it */
	guint64 dirty; /* a bit per page that the guest wrote since the last apply */
	gboolean filling, in_checkpoint, in_step, loadable;
	guint64 epoch, arriving_epoch;
	guint64 saying; /* the message's epoch */
	guint64 pages; /* that came, for END */
	guint64 said_committed, said_applied, loads;
	guint8 *state;
	gsize state_len;
	gboolean sent_state;
};

static struct model *model; /* of the one run */

/* The machine. */

vmm_memory *__wrap_vmm_machine_memory(vmm_machine *machine);
vmm_loop *__wrap_vmm_machine_loop(vmm_machine *machine);
void __wrap_vmm_loop_lock(vmm_loop *loop);
void __wrap_vmm_loop_unlock(vmm_loop *loop);
gboolean __wrap_vmm_machine_check(vmm_machine *machine, const vmm_state *state, GError **error);
gboolean __wrap_vmm_machine_load(vmm_machine *machine, const vmm_state *state, GError **error);
gboolean __wrap_vmm_machine_pause(vmm_machine *machine, GError **error);
gboolean __wrap_vmm_machine_resume(vmm_machine *machine, GError **error);
gboolean __wrap_vmm_machine_track(vmm_machine *machine, gboolean on, GError **error);
void __wrap_vmm_machine_untrack(vmm_machine *machine);
gboolean __wrap_vmm_machine_collect(vmm_machine *machine, GArray *pages, GError **error);
void __wrap_vmm_machine_keep_loadable(vmm_machine *machine, gboolean on);
enum vmm_run_state __wrap_vmm_machine_run_state(vmm_machine *machine);

vmm_timer *__wrap_vmm_timer_new(vmm_loop *loop, void (*fn)(void *data), void *data);
void __wrap_vmm_timer_free(vmm_timer *timer);
void __wrap_vmm_timer_set(vmm_timer *timer, guint first_ms, guint period_ms);
void __wrap_vmm_machine_peek(vmm_machine *machine, GArray *pages);
char *__wrap_vmm_machine_difference(vmm_machine *machine, const vmm_state *loaded);

/* The secondary's looks at its guest do not come. */
vmm_timer *__wrap_vmm_timer_new(vmm_loop *loop, void (*fn)(void *data), void *data)
{
	static guint8 timer;

	return (vmm_timer *)&timer;
}

void __wrap_vmm_timer_free(vmm_timer *timer)
{
}

void __wrap_vmm_timer_set(vmm_timer *timer, guint first_ms, guint period_ms)
{
}

void __wrap_vmm_machine_peek(vmm_machine *machine, GArray *pages)
{
	g_array_set_size(pages, 0);
}

char *__wrap_vmm_machine_difference(vmm_machine *machine, const vmm_state *loaded)
{
	return NULL;
}

vmm_memory *__wrap_vmm_machine_memory(vmm_machine *machine)
{
	return model->memory;
}

vmm_loop *__wrap_vmm_machine_loop(vmm_machine *machine)
{
	return NULL;
}

void __wrap_vmm_loop_lock(vmm_loop *loop)
{
}

void __wrap_vmm_loop_unlock(vmm_loop *loop)
{
}

gboolean __wrap_vmm_machine_check(vmm_machine *machine, const vmm_state *state, GError **error)
{
	gboolean ok = vmm_state_has(state, "fuzz", 0);

	if (!ok)
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL, "a state for another");
	return ok;
}

gboolean __wrap_vmm_machine_load(vmm_machine *machine, const vmm_state *state, GError **error)
{
	g_assert(model->run_state == VMM_PAUSED && vmm_state_has(state, "fuzz", 0));
	model->loads++;
	return TRUE;
}

gboolean __wrap_vmm_machine_pause(vmm_machine *machine, GError **error)
{
	model->run_state = VMM_PAUSED;
	return TRUE;
}

gboolean __wrap_vmm_machine_resume(vmm_machine *machine, GError **error)
{
	g_assert(model->run_state == VMM_PAUSED);
	model->run_state = VMM_RUNNING;
	return TRUE;
}

void __wrap_vmm_machine_untrack(vmm_machine *machine)
{
}

gboolean __wrap_vmm_machine_track(vmm_machine *machine, gboolean on, GError **error)
{
	return TRUE;
}

gboolean __wrap_vmm_machine_collect(vmm_machine *machine, GArray *pages, GError **error)
{
	g_assert(model->run_state == VMM_PAUSED);
	g_array_set_size(pages, 0);
	for (guint32 page = 0; page < USED; page++)
		if (model->dirty & 1ull << page)
			g_array_append_val(pages, page);
	model->dirty = 0;
	return TRUE;
}

void __wrap_vmm_machine_keep_loadable(vmm_machine *machine, gboolean on)
{
	model->loadable = on;
}

enum vmm_run_state __wrap_vmm_machine_run_state(vmm_machine *machine)
{
	return model->run_state;
}

/* Hello and link. */

void __wrap_ckpt_hello_fill(struct ckpt_hello *hello, vmm_machine *machine, gboolean primary,
			    gboolean verify, guint silence_ms, const guint8 *secret);
gboolean __wrap_ckpt_hello_exchange(base_channel *channel, const struct ckpt_hello *ours,
				    struct ckpt_hello *theirs, guint deadline_ms,
				    GError **error);
ckpt_link *__wrap_ckpt_link_new_take(base_channel *channel, const struct ckpt_link_ops *ops,
				     void *data, guint silence_ms);
void __wrap_ckpt_link_start(ckpt_link *link);
void __wrap_ckpt_link_stop(ckpt_link *link, enum ckpt_ending end, const char *why);
void __wrap_ckpt_link_free(ckpt_link *link);
gboolean __wrap_ckpt_link_is_lost(ckpt_link *link);
void __wrap_ckpt_link_post(ckpt_link *link, guint16 type, guint64 epoch,
			   const struct iovec *iov, guint count);
void __wrap_ckpt_link_refuse(ckpt_link *link, const char *why);
gboolean __wrap_g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 until);

/* Nobody else is at it: what is waited for does not come. */
gboolean __wrap_g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 until)
{
	return FALSE;
}

/* A further connection goes without a word. */
void __wrap_ckpt_link_refuse(ckpt_link *link, const char *why)
{
	if (link == (ckpt_link *)model)
		model->lost = TRUE;
}

void __wrap_ckpt_link_drop_joined(ckpt_link *link);
void __wrap_ckpt_link_wait_for_first(ckpt_link *link, guint ms);

void __wrap_ckpt_link_wait_for_first(ckpt_link *link, guint ms)
{
}

/* Before a commit is said, and then only. */
void __wrap_ckpt_link_drop_joined(ckpt_link *link)
{
	g_assert(model->in_step && model->in_checkpoint);
}

void __wrap_ckpt_hello_fill(struct ckpt_hello *hello, vmm_machine *machine, gboolean primary,
			    gboolean verify, guint silence_ms, const guint8 *secret)
{
	memset(hello, 0, sizeof(*hello));
}

gboolean __wrap_ckpt_hello_exchange(base_channel *channel, const struct ckpt_hello *ours,
				    struct ckpt_hello *theirs, guint deadline_ms,
				    GError **error)
{
	memset(theirs, 0x5a, sizeof(*theirs));
	theirs->verify = 0; /* else no END is good without digests of all memory */
	theirs->connections = wire_put32(model->connections);
	return TRUE;
}

ckpt_link *__wrap_ckpt_link_new_take(base_channel *channel, const struct ckpt_link_ops *ops,
				     void *data, guint silence_ms)
{
	if (model->ops) {
		g_assert(model->joining && !model->joining->ops);
		model->joining->ops = ops;
		model->joining->ops_data = data;
		return (ckpt_link *)model->joining;
	}
	model->ops = ops;
	model->ops_data = data;
	return (ckpt_link *)model;
}

void __wrap_ckpt_link_start(ckpt_link *link)
{
}

void __wrap_ckpt_link_stop(ckpt_link *link, enum ckpt_ending end, const char *why)
{
	model->lost = TRUE;
}

void __wrap_ckpt_link_free(ckpt_link *link)
{
}

gboolean __wrap_ckpt_link_is_lost(ckpt_link *link)
{
	return model->lost;
}

/* What the secondary may say, and when. */
void __wrap_ckpt_link_post(ckpt_link *link, guint16 type, guint64 epoch,
			   const struct iovec *iov, guint count)
{
	gsize len = count ? iov[0].iov_len : 0;

	g_assert(model->in_step && count <= 1);
	switch (type) {
	case CKPT_WANTED:
		g_assert(model->in_checkpoint && len % sizeof(wire_u32) == 0);
		break;
	case CKPT_COMMITTED:
		g_assert(epoch == model->said_committed + 1 && len == 0);
		model->said_committed++;
		break;
	case CKPT_APPLIED:
		g_assert(epoch == model->said_committed && epoch == model->said_applied + 1);
		g_assert(len == sizeof(struct ckpt_applied));
		model->said_applied++;
		break;
	default:
		g_assert_not_reached();
	}
}

/* The model. */

static guint32 page_of(guint slot)
{
	return slot / USED * CKPT_LANE_PAGES + slot % USED;
}

/* SLOTS: the model does not follow that page. */
static guint slot_of(guint32 page)
{
	guint slot = page / CKPT_LANE_PAGES * USED + page % CKPT_LANE_PAGES;

	return page % CKPT_LANE_PAGES < USED && slot < SLOTS ? slot : SLOTS;
}

static void check_memory(void)
{
	for (guint slot = 0; slot < SLOTS; slot++) {
		guint32 page = page_of(slot);

		g_assert(!memcmp(vmm_memory_base_page(model->memory, page), model->base[slot],
				 VMM_PAGE));
		/* What the guest did not write shows through, or is a copy of the same. */
		g_assert(model->dirty & 1ull << slot ||
			 !memcmp(vmm_memory_page(model->memory, page), model->base[slot],
				 VMM_PAGE));
	}
}

/* Hands one message over; what the secondary is told of it is told by `ok`. */
static gboolean say(guint16 type, guint64 epoch, const void *bytes, gsize len)
{
	g_autofree guint8 *copy = g_aligned_alloc(1, MAX(len, (gsize)1), 64);
	struct base_message message = { type, epoch, (guint32)len, len ? copy : NULL };
	const struct base_message_rule *rule = ckpt_rules;
	g_autoptr(GError) error = NULL;
	gboolean ok;

	while (rule->name && rule->type != type)
		rule++;
	/* The channel keeps these from us, and the link keeps those. */
	if (!rule->name || len < rule->min || len > rule->max || type == CKPT_PING ||
	    type == CKPT_BYE) {
		g_aligned_free(g_steal_pointer(&copy));
		return TRUE;
	}
	if (len)
		memcpy(copy, bytes, len);
	model->in_step = TRUE;
	model->saying = epoch;
	ok = model->ops->message(model->ops_data, &message, &error);
	model->in_step = FALSE;
	g_aligned_free(g_steal_pointer(&copy));
	g_assert(!ok == (error != NULL));
	model->lost = !ok;
	return ok;
}

/* `data`: of which connection. */
static gboolean take_sync(void *data, guint32 page, const void *content)
{
	guint slot = slot_of(page);

	if (ckpt_lane_of(page, model->connections) != GPOINTER_TO_UINT(data))
		return FALSE;
	if (slot < SLOTS)
		memcpy(model->base[slot], content, VMM_PAGE);
	return TRUE;
}

static gboolean take_part(void *data, guint32 page, const void *content)
{
	guint slot = slot_of(page);

	model->pages++;
	if (slot < SLOTS) {
		memcpy(model->arriving[slot], content, VMM_PAGE);
		model->came[slot] = TRUE;
	}
	return TRUE;
}

static const void *before(void *data, guint32 page)
{
	guint slot = slot_of(page);

	if (model->filling)
		return NULL;
	return slot < SLOTS ? model->base[slot] : vmm_memory_base_page(model->memory, page);
}

/* A batch with what the input says, of a connection's pages; may be nonsense. */
static GByteArray *make_batch(struct fuzz_input *input, ckpt_encoder *encoder, guint lane)
{
	GByteArray *batch = g_byte_array_new();
	guint8 shape = fuzz_u8(input), content[VMM_PAGE];
	guint page = shape & 7;

	for (guint i = 0; i < 1u + (shape >> 6); i++, page += 1 + (fuzz_u8(input) & 3)) {
		memset(content, fuzz_u8(input), sizeof(content));
		content[fuzz_u8(input)] ^= fuzz_u8(input);
		if (page < USED)
			ckpt_encode(encoder, lane * CKPT_LANE_PAGES + page, content,
				    shape & 8 ? before(NULL, page) : NULL, batch);
	}
	if ((shape & 0x30) == 0x30 && batch->len)
		batch->data[fuzz_u8(input) % batch->len] ^= fuzz_u8(input);
	return batch;
}

static void say_pages(struct fuzz_input *input, ckpt_encoder *encoder, guint16 type,
		      guint64 epoch)
{
	g_autoptr(GByteArray) batch = make_batch(input, encoder, 0);
	gboolean sync = type == CKPT_SYNC_PAGES;
	const struct ckpt_page_sink sink = { NULL, before, sync ? take_sync : take_part };
	gboolean in_turn = sync ? model->filling :
				  model->in_checkpoint && epoch == model->arriving_epoch;
	const char *why;
	gboolean good = in_turn && ckpt_decode(batch->data, batch->len, PAGES, &sink, &why);

	if (batch->len)
		g_assert(say(type, epoch, batch->data, batch->len) == good);
}

/* Further connections. */

static void join(struct fuzz_input *input, ckpt_secondary *secondary)
{
	struct ckpt_join hello = { 0 };
	guint8 which = fuzz_u8(input);
	base_channel *channel = (base_channel *)model;
	guint number = which & 3;
	gboolean may = which < 0xf0 && number >= 1 && number < model->connections &&
		       !model->lane[number].ops;
	const char *why;

	memset(hello.token, 0x5a, sizeof(hello.token));
	hello.lane = wire_put32(number);
	if (which >= 0xf0)
		((guint8 *)&hello)[which & 15] ^= 1;
	model->joining = may ? &model->lane[number] : NULL;
	why = ckpt_secondary_join(secondary, &hello, &channel);
	g_assert(may == !why && may == !channel);
}

static gboolean say_on_lane(struct fuzz_lane *lane, guint16 type, const void *bytes,
			    gsize len)
{
	g_autofree guint8 *copy = g_memdup2(bytes, len);
	struct base_message message = { type, 0, (guint32)len, copy };
	g_autoptr(GError) error = NULL;
	gboolean ok = lane->ops->message(lane->ops_data, &message, &error);

	g_assert(!ok == (error != NULL));
	if (!ok) {
		lane->ops->lost(lane->ops_data, error);
		/* One that was at its end is not missed. */
		g_assert(model->lost == !lane->ended);
		model->lost = TRUE;
	}
	return ok;
}

static void say_pages_on_lane(struct fuzz_input *input, ckpt_encoder *encoder, guint number)
{
	g_autoptr(GByteArray) batch = make_batch(input, encoder, number);
	const struct ckpt_page_sink sink = { GUINT_TO_POINTER(number), NULL, take_sync };
	struct fuzz_lane *lane = &model->lane[number];
	const char *why;
	gboolean good = !lane->ended &&
			ckpt_decode(batch->data, batch->len, PAGES, &sink, &why);

	if (batch->len)
		g_assert(say_on_lane(lane, CKPT_SYNC_PAGES, batch->data, batch->len) == good);
}

static void step_of_lanes(struct fuzz_input *input, ckpt_encoder *encoder,
			  ckpt_secondary *secondary, guint8 op)
{
	guint number = 1 + (op >> 3 & 1);
	struct fuzz_lane *lane = &model->lane[number];

	if (op & 0x20) {
		join(input, secondary);
	} else if (lane->ops && op & 0x10) {
		g_assert(say_on_lane(lane, CKPT_SYNC_END, NULL, 0) == !lane->ended);
		lane->ended = TRUE;
	} else if (lane->ops && op & 0x40) {
		g_assert(!say_on_lane(lane, fuzz_u8(input) | 0x80, NULL, 0));
	} else if (lane->ops) {
		say_pages_on_lane(input, encoder, number);
	}
}

/* The first sync ends with the first cut. */
static void say_cut(struct fuzz_input *input, guint64 epoch)
{
	struct ckpt_cut cut = { .reason = wire_put32(fuzz_u8(input) % CKPT_REASONS),
				.run = fuzz_u8(input) & 1 };
	guint8 odd = fuzz_u8(input);

	if (odd > 0xf0)
		fuzz_bytes(input, &cut, odd - 0xf0);
	if (!say(CKPT_CUT, epoch, &cut, sizeof(cut)))
		return;
	for (guint i = 1; i < model->connections; i++)
		g_assert(model->lane[i].ended);
	g_assert(!model->in_checkpoint && epoch == model->epoch + 1);
	model->filling = FALSE;
	model->in_checkpoint = TRUE;
	model->arriving_epoch = epoch;
	model->pages = 0;
	model->sent_state = FALSE;
	memset(model->came, 0, sizeof(model->came));
}

static void say_digests(struct fuzz_input *input, guint64 epoch)
{
	static const guint8 secret[CKPT_SECRET];
	guint8 key[CKPT_SECRET];
	struct ckpt_page_digest entry = { 0 };
	guint page = fuzz_u8(input) % (USED + 1);
	guint8 odd = fuzz_u8(input);
	g_autoptr(ckpt_digester) digester = NULL;
	struct ckpt_digest digest;

	memset(key, 0x5a, sizeof(secret));
	digester = ckpt_digester_new(key);
	digest = ckpt_digest_page(digester, vmm_memory_page(model->memory, page));
	entry.page = wire_put32(odd < 0xf8 ? page : PAGES + odd);
	entry.low = wire_put64(digest.low ^ (odd & 1));
	entry.high = wire_put64(digest.high);
	if (!say(CKPT_DIGESTS, epoch, &entry, sizeof(entry)) || odd & 1)
		return;
	model->pages++;
	if (page < USED) {
		memcpy(model->arriving[page], vmm_memory_page(model->memory, page), VMM_PAGE);
		model->came[page] = TRUE;
	}
}

static void say_state(struct fuzz_input *input, guint64 epoch)
{
	g_autoptr(GByteArray) before = g_byte_array_new(), packed = g_byte_array_new();
	guint8 odd = fuzz_u8(input);

	/* It is always the same one. */
	if (model->epoch)
		g_byte_array_append(before, model->state, (guint)model->state_len);
	ckpt_state_pack(model->state, model->state_len, before, packed);
	if (odd > 0xf0)
		packed->data[fuzz_u8(input) % packed->len] ^= fuzz_u8(input);
	if (say(CKPT_STATE, epoch, packed->data, packed->len))
		model->sent_state = TRUE;
}

static void say_end(struct fuzz_input *input, guint64 epoch)
{
	struct ckpt_end end = { .pages = wire_put64(model->pages),
				.state_checksum = wire_put64(XXH3_64bits(model->state,
									 model->state_len)) };
	guint8 odd = fuzz_u8(input);

	if (odd > 0xf0)
		((guint8 *)&end)[odd % sizeof(end)] ^= fuzz_u8(input);
	if (!say(CKPT_END, epoch, &end, sizeof(end))) {
		g_assert(model->said_applied == model->epoch);
		return;
	}
	g_assert(model->in_checkpoint && model->sent_state && epoch == model->epoch + 1);
	g_assert(model->said_committed == epoch && model->said_applied == epoch &&
		 model->loads == epoch);
	model->in_checkpoint = FALSE;
	model->epoch = epoch;
	for (guint slot = 0; slot < SLOTS; slot++)
		if (model->came[slot])
			memcpy(model->base[slot], model->arriving[slot], VMM_PAGE);
}

/* Streams. */

static void on_listen(void *data, gboolean on)
{
	g_assert(model->in_step && (on == TRUE || on == FALSE));
}

static const char *on_filter(void *data, const void *payload, gsize len)
{
	g_assert(model->in_step && !model->in_checkpoint);
	g_assert(model->saying == model->epoch + 1);
	g_assert(len >= sizeof(struct ckpt_filter_head) &&
		 len <= sizeof(struct ckpt_filter_head) + CKPT_BATCH_MAX);
	return len % 3 ? NULL : "the fuzzer does not like it";
}

static void say_anything(struct fuzz_input *input, guint16 type, guint64 epoch)
{
	guint8 bytes[512];

	/* Pages and cuts are said above, where the model follows. */
	if (type == CKPT_SYNC_PAGES || type == CKPT_CUT || type == CKPT_PAGES ||
	    type == CKPT_DIGESTS || type == CKPT_STATE || type == CKPT_END)
		return;
	g_assert(!say(type, epoch, bytes, fuzz_bytes(input, bytes, fuzz_u16(input) % 512)) ||
		 model->lost == FALSE);
}

/* The secondary's guest runs and writes. */
static void write_page(struct fuzz_input *input)
{
	guint page = fuzz_u8(input) % USED;

	if (model->run_state != VMM_RUNNING)
		return;
	memset(vmm_memory_page(model->memory, page), fuzz_u8(input), 512);
	model->dirty |= 1ull << page;
}

static void step(struct fuzz_input *input, ckpt_encoder *encoder, ckpt_secondary *secondary)
{
	guint8 op = fuzz_u8(input);
	guint64 epoch = model->in_checkpoint ? model->arriving_epoch : 0;

	if (op >= 0xf0)
		epoch += (guint64)(gint64)(gint8)fuzz_u8(input);
	switch (op & 7) {
	case 0:
		say_pages(input, encoder, CKPT_SYNC_PAGES, epoch);
		break;
	case 1:
		/* The first one comes behind that, or is refused. */
		if (model->filling && !(op & 8) && !say(CKPT_SYNCED, 0, NULL, 0))
			break;
		say_cut(input, op >= 0xf0 ? epoch : model->epoch + 1);
		break;
	case 2:
		say_pages(input, encoder, CKPT_PAGES, epoch);
		break;
	case 3:
		say_digests(input, epoch);
		break;
	case 4:
		say_state(input, epoch);
		break;
	case 5:
		say_end(input, epoch);
		break;
	case 6:
		write_page(input);
		break;
	default:
		if (op > 0xe0)
			say_anything(input, CKPT_FILTER, model->epoch + 1);
		else if (op > 0xc0)
			say_anything(input, fuzz_u8(input) % 27, epoch);
		else if (model->connections > 1)
			step_of_lanes(input, encoder, secondary, op);
		break;
	}
	/* A first sync that was refused half-way is never used. */
	if (!model->filling)
		check_memory();
}

static void promote(ckpt_secondary *secondary)
{
	g_autoptr(GError) error = NULL;
	gboolean ok = ckpt_secondary_promote(secondary, &error);

	g_assert(ckpt_secondary_epoch(secondary) == model->said_committed);
	g_assert(ok == (model->epoch > 0));
	if (!ok)
		return;
	g_assert(model->run_state == VMM_RUNNING && !model->loadable);
	check_memory();
}

static void prepare(struct model *m)
{
	static const guint8 section[8] = "a state";
	g_autoptr(vmm_state) state = vmm_state_new();
	const guint8 *bytes;

	m->memory = vmm_memory_new_private(PAGES * VMM_PAGE, NULL);
	g_assert(m->memory);
	m->base = g_malloc0(SLOTS * VMM_PAGE);
	m->arriving = g_malloc0(SLOTS * VMM_PAGE);
	m->filling = TRUE;
	m->run_state = VMM_PREPARED;
	vmm_state_put(state, "fuzz", 0, 1, section, sizeof(section), NULL);
	bytes = vmm_state_bytes(state, &m->state_len);
	m->state = g_memdup2(bytes, m->state_len);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	static const struct ckpt_secondary_options options = { .silence_ms = 1000 };
	static const struct ckpt_secondary_hooks hooks = { 0 };
	static const struct ckpt_twin_streams streams = { .listen = on_listen,
							  .filter = on_filter };
	g_autoptr(ckpt_encoder) encoder = ckpt_encoder_new();
	struct fuzz_input input = { data, size };
	struct model m = { .connections = size && data[size - 1] >= 0xc0 ? LANES : 1 };
	ckpt_secondary *secondary;

	model = &m;
	prepare(&m);
	secondary = ckpt_secondary_new_take(NULL, NULL, &options, &streams, &hooks, NULL, NULL);
	g_assert(secondary && m.ops && m.loadable);
	ckpt_encoder_set_wire(encoder, 0);
	while (input.left && !m.lost)
		step(&input, encoder, secondary);
	promote(secondary);
	ckpt_secondary_free(secondary);
	vmm_memory_free(m.memory);
	g_free(m.base);
	g_free(m.arriving);
	g_free(m.state);
	return 0;
}
