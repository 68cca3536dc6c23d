/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a secondary may say, at any moment: wherever the primary's checkpoint thread waits or
 * sends, the input says something, or lets a deadline pass. A commit is believed for what was
 * sent to its end only, and once; what is refused ends it, with a reason; the guest is asked
 * for nothing more than cuts.
 *
 * The machine, the link, threads and waiting are this file's (see fuzz_primary.wrap): the
 * checkpoint thread is this one, and time does not pass.
 */
#include "checkpoint/primary.h"

#include <string.h>

#include "tests/fuzz/harness.h"

#define PAGES 256u
#define USED 40u
#define NETS 2u

struct model {
	struct fuzz_input *input;
	vmm_memory *memory;
	const struct ckpt_link_ops *ops;
	void *ops_data;
	void *(*thread)(void *data);
	void *thread_data;
	gboolean lost, tracking, at_rest, speaking;
	guint states; /* how often the state changed */

	guint64 cut, ended, committed, told; /* epochs */
	guint64 said_committed; /* by the input, and taken */
	guint64 saying; /* a commit */
	guint64 output; /* epoch of the last outputs taken */
	gboolean listened;
	enum ckpt_mode mode;
	guint heard; /* frames, of this message */
	guint questions, answers; /* of this checkpoint */
	GByteArray *asked; /* the last DIGESTS, for a right answer */
};

static struct model *model;

vmm_memory *__wrap_vmm_machine_memory(vmm_machine *machine);
gboolean __wrap_vmm_machine_quiesce(vmm_machine *machine, void (*fn)(void *data), void *data,
				    GError **error);
gboolean __wrap_vmm_machine_save(vmm_machine *machine, vmm_state *state, GError **error);
gboolean __wrap_vmm_machine_track(vmm_machine *machine, gboolean on, GError **error);
void __wrap_vmm_machine_untrack(vmm_machine *machine);
gboolean __wrap_vmm_machine_collect(vmm_machine *machine, GArray *pages, GError **error);
void __wrap_ckpt_hello_fill(struct ckpt_hello *hello, vmm_machine *machine, gboolean primary,
			    gboolean verify, const guint8 *secret);
gboolean __wrap_ckpt_hello_exchange(base_channel *channel, const struct ckpt_hello *ours,
				    struct ckpt_hello *theirs, guint deadline_ms,
				    GError **error);
ckpt_link *__wrap_ckpt_link_new_take(base_channel *channel, const struct ckpt_link_ops *ops,
				     void *data, guint silence_ms);
void __wrap_ckpt_link_start(ckpt_link *link);
void __wrap_ckpt_link_stop(ckpt_link *link, enum ckpt_ending end, const char *why);
void __wrap_ckpt_link_free(ckpt_link *link);
gboolean __wrap_ckpt_link_is_lost(ckpt_link *link);
void __wrap_ckpt_link_refuse(ckpt_link *link, const char *why);
gboolean __wrap_ckpt_link_send(ckpt_link *link, guint16 type, guint64 epoch,
			       const struct iovec *iov, guint count);
GThread *__wrap_g_thread_new(const char *name, GThreadFunc fn, void *data);
void *__wrap_g_thread_join(GThread *thread);
gboolean __wrap_g_cond_wait_until(GCond *cond, GMutex *lock, gint64 until);

/* The machine: a page or a few change between two cuts. */

guint __wrap_vmm_machine_nets(vmm_machine *machine);
vmm_loop *__wrap_vmm_machine_loop(vmm_machine *machine);
void __wrap_vmm_loop_lock(vmm_loop *loop);
void __wrap_vmm_loop_unlock(vmm_loop *loop);
void __wrap_vmm_machine_peek(vmm_machine *machine, GArray *pages);
void __wrap_ckpt_link_post(ckpt_link *link, guint16 type, guint64 epoch,
			   const struct iovec *iov, guint count);
GByteArray *__wrap_ckpt_link_new_batch(ckpt_link *link);
gboolean __wrap_ckpt_link_send_batch(ckpt_link *link, guint16 type, guint64 epoch,
				     GByteArray **batch);

guint __wrap_vmm_machine_nets(vmm_machine *machine)
{
	return NETS;
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

void __wrap_vmm_machine_peek(vmm_machine *machine, GArray *pages)
{
	g_array_set_size(pages, 0);
}

/* SYNCED, whose answer is the CUT. */
void __wrap_ckpt_link_post(ckpt_link *link, guint16 type, guint64 epoch,
			   const struct iovec *iov, guint count)
{
}

GByteArray *__wrap_ckpt_link_new_batch(ckpt_link *link)
{
	return g_byte_array_new();
}

gboolean __wrap_ckpt_link_send_batch(ckpt_link *link, guint16 type, guint64 epoch,
				     GByteArray **batch)
{
	struct iovec iov = { (*batch)->data, (*batch)->len };
	gboolean ok = __wrap_ckpt_link_send(link, type, epoch, &iov, 1);

	g_byte_array_set_size(*batch, 0);
	return ok;
}

vmm_memory *__wrap_vmm_machine_memory(vmm_machine *machine)
{
	return model->memory;
}

gboolean __wrap_vmm_machine_quiesce(vmm_machine *machine, void (*fn)(void *data), void *data,
				    GError **error)
{
	g_assert(model->tracking);
	model->at_rest = TRUE;
	fn(data);
	model->at_rest = FALSE;
	return TRUE;
}

gboolean __wrap_vmm_machine_save(vmm_machine *machine, vmm_state *state, GError **error)
{
	g_assert(model->at_rest);
	vmm_state_reset(state);
	vmm_state_put(state, "fuzz", 0, 1, "a state", 8, NULL);
	return TRUE;
}

void __wrap_vmm_machine_untrack(vmm_machine *machine)
{
	model->tracking = FALSE;
}

gboolean __wrap_vmm_machine_track(vmm_machine *machine, gboolean on, GError **error)
{
	model->tracking = on;
	return TRUE;
}

gboolean __wrap_vmm_machine_collect(vmm_machine *machine, GArray *pages, GError **error)
{
	guint n = fuzz_u8(model->input) % 8;

	g_assert(model->at_rest);
	g_array_set_size(pages, 0);
	for (guint i = 0; i < n; i++) {
		guint32 page = (i * 5 + fuzz_u8(model->input) % 5) % USED;

		vmm_memory_page(model->memory, page)[i]++;
		g_array_append_val(pages, page);
	}
	return TRUE;
}

/* Hello and link. */

void __wrap_ckpt_hello_fill(struct ckpt_hello *hello, vmm_machine *machine, gboolean primary,
			    gboolean verify, const guint8 *secret)
{
	memset(hello, 0, sizeof(*hello));
}

gboolean __wrap_ckpt_hello_exchange(base_channel *channel, const struct ckpt_hello *ours,
				    struct ckpt_hello *theirs, guint deadline_ms,
				    GError **error)
{
	return TRUE;
}

ckpt_link *__wrap_ckpt_link_new_take(base_channel *channel, const struct ckpt_link_ops *ops,
				     void *data, guint silence_ms)
{
	model->ops = ops;
	model->ops_data = data;
	return (ckpt_link *)model;
}

void __wrap_ckpt_link_start(ckpt_link *link)
{
}

static void lose(const char *why)
{
	g_autoptr(GError) error =
		g_error_new_literal(BASE_CHANNEL_ERROR, BASE_CHANNEL_LOST, why);

	if (model->lost)
		return;
	model->lost = TRUE;
	model->ops->lost(model->ops_data, error);
}

void __wrap_ckpt_link_stop(ckpt_link *link, enum ckpt_ending end, const char *why)
{
	lose(why);
}

void __wrap_ckpt_link_free(ckpt_link *link)
{
}

gboolean __wrap_ckpt_link_is_lost(ckpt_link *link)
{
	return model->lost;
}

void __wrap_ckpt_link_refuse(ckpt_link *link, const char *why)
{
	lose(why);
}

/* What the secondary says. */

static void say(guint16 type, guint64 epoch, const void *bytes, gsize len)
{
	struct base_message message = { type, epoch, (guint32)len, NULL };
	const struct base_message_rule *rule = ckpt_rules;
	guint8 *copy = g_aligned_alloc(1, MAX(len, (gsize)1), 64);
	g_autoptr(GError) error = NULL;

	while (rule->name && rule->type != type)
		rule++;
	if (rule->name && len >= rule->min && len <= rule->max && type != CKPT_PING &&
	    type != CKPT_BYE) {
		memcpy(copy, bytes ?: "", len);
		message.payload = len ? copy : NULL;
		model->saying = type == CKPT_COMMITTED ? epoch : 0;
		model->heard = 0;
		if (!model->ops->message(model->ops_data, &message, &error)) {
			g_assert(error && !model->heard);
			lose(error->message);
		} else if (type == CKPT_COMMITTED) {
			g_assert(epoch == model->said_committed + 1 &&
				 epoch == model->ended);
			model->said_committed = epoch;
		} else if (type == CKPT_APPLIED) {
			g_assert(epoch == model->said_committed);
		} else if (type == CKPT_WANTED) {
			g_assert(epoch == model->cut &&
				 ++model->answers <= model->questions);
		} else if (type == CKPT_OUTPUT) {
			g_assert(model->listened && epoch && epoch >= model->output &&
				 epoch <= model->said_committed &&
				 epoch + 1 >= model->said_committed);
			model->output = epoch;
		} else {
			g_assert(type == CKPT_NEED);
		}
	}
	g_aligned_free(copy);
}

/* Of the last question, the pages whose turn in `which` it is. */
static void answer(guint8 which)
{
	const struct ckpt_page_digest *entries = (const void *)model->asked->data;
	wire_u32 wanted[PAGES + 1];
	guint n = 0, count = model->asked->len / sizeof(*entries);

	for (guint i = 0; i < count && n < PAGES; i++)
		if (which & 1u << i % 8)
			wanted[n++] = entries[i].page;
	say(CKPT_WANTED, model->cut, wanted, n * sizeof(*wanted));
}

/* Frames, mostly right. */
static void send_output(guint64 epoch)
{
	struct fuzz_input *input = model->input;
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	guint frames = 1 + fuzz_u8(input) % 4;
	guint8 odd = fuzz_u8(input);

	for (guint i = 0; i < frames; i++) {
		guint8 frame[CKPT_NET_HEADER + 64] = { 0 };
		guint len = CKPT_NET_HEADER + 1 + fuzz_u8(input) % 64;
		struct ckpt_output_head head = { .length = wire_put32(len),
						 .device = (guint8)(i % NETS),
						 .lost = odd & 1 };

		g_byte_array_append(bytes, (const guint8 *)&head, sizeof(head));
		g_byte_array_append(bytes, frame, len);
	}
	if (odd > 0xc0)
		bytes->data[fuzz_u8(input) % bytes->len] ^= fuzz_u8(input);
	if (odd > 0xf0)
		g_byte_array_set_size(bytes, fuzz_u8(input) % bytes->len);
	say(CKPT_OUTPUT, epoch, bytes->data, bytes->len);
}

static void say_something(void)
{
	struct fuzz_input *input = model->input;
	guint8 op = fuzz_u8(input), bytes[256] = { 0 };
	guint64 epoch = model->cut;

	if (op & 0x10) {
		send_output(op & 0x20 ? model->said_committed : fuzz_u8(input));
		return;
	}
	if (op >= 0xe0)
		epoch += (guint64)(gint64)(gint8)fuzz_u8(input);
	switch (op & 7) {
	case 0:
	case 1:
		answer(fuzz_u8(input));
		break;
	case 2:
	case 3:
		say(CKPT_COMMITTED, epoch, NULL, 0);
		break;
	case 4:
	case 5:
		say(CKPT_APPLIED, epoch, bytes, sizeof(struct ckpt_applied));
		break;
	case 6:
		bytes[0] = fuzz_u8(input);
		say(CKPT_NEED, 0, bytes, sizeof(wire_u32));
		break;
	default:
		say(fuzz_u8(input) % 27, epoch, bytes,
		    fuzz_bytes(input, bytes, fuzz_u8(input)));
		break;
	}
}

/* The primary speaks; meanwhile the secondary may. */
gboolean __wrap_ckpt_link_send(ckpt_link *link, guint16 type, guint64 epoch,
			       const struct iovec *iov, guint count)
{
	if (model->lost)
		return FALSE;
	switch (type) {
	case CKPT_CUT:
		g_assert(epoch == model->said_committed + 1);
		model->cut = epoch;
		model->questions = model->answers = 0;
		break;
	case CKPT_DIGESTS:
		model->questions++;
		g_byte_array_set_size(model->asked, 0);
		g_byte_array_append(model->asked, iov->iov_base, (guint)iov->iov_len);
		break;
	case CKPT_END:
		model->ended = epoch;
		break;
	}
	if (model->input->left && fuzz_u8(model->input) & 1)
		say_something();
	return !model->lost;
}

/* Waiting: as long as somebody has something to say. */
gboolean __wrap_g_cond_wait_until(GCond *cond, GMutex *lock, gint64 until)
{
	if (!model->input->left || fuzz_u8(model->input) == 0xff) {
		if (model->input->left)
			return FALSE;
		g_mutex_unlock(lock);
		lose("the end of the input");
		g_mutex_lock(lock);
		return TRUE;
	}
	g_mutex_unlock(lock);
	say_something();
	g_mutex_lock(lock);
	return TRUE;
}

GThread *__wrap_g_thread_new(const char *name, GThreadFunc fn, void *data)
{
	model->thread = fn;
	model->thread_data = data;
	return (GThread *)model;
}

void *__wrap_g_thread_join(GThread *thread)
{
	return NULL;
}

/* Hooks. */

static void on_state(void *data, enum ckpt_primary_state state, const char *why)
{
	model->states++;
	if (state == CKPT_PRIMARY_PROTECTED)
		g_assert(model->committed >= 1 && !model->lost);
	else
		g_assert(state == CKPT_PRIMARY_LOST && why && model->lost);
}

static void on_output(void *data, guint64 epoch, guint device, gboolean lost,
		      const void *bytes, gsize len)
{
	static guint8 frame[CKPT_FRAME_MAX];

	g_assert(epoch && epoch == model->said_committed && device < NETS);
	g_assert(len > CKPT_NET_HEADER && len <= CKPT_FRAME_MAX);
	memcpy(frame, bytes, len);
	model->heard++;
}

static void on_cut(void *data, guint64 epoch, gboolean run)
{
	g_assert(model->at_rest && epoch == model->committed + 1 &&
		 run == (model->mode == CKPT_MODE_COLO));
}

static void on_committed(void *data, guint64 epoch)
{
	g_assert(epoch == model->committed + 1 && epoch == model->ended &&
		 epoch == model->saying);
	model->committed = epoch;
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
	static const struct ckpt_primary_hooks hooks = { .state = on_state,
							 .cut = on_cut,
							 .committed = on_committed,
							 .output = on_output };
	static const struct ckpt_streams streams = { 0 };
	static vmm_memory *memory;
	struct fuzz_input input = { data, size };
	struct model m = { .input = &input, .asked = g_byte_array_new() };
	struct ckpt_primary_options options;
	ckpt_primary *primary;

	model = &m;
	/* One for all runs: most of the time would go into making it. */
	if (!memory)
		memory = vmm_memory_new(PAGES * VMM_PAGE, NULL);
	g_assert(memory);
	m.memory = memory;
	for (guint page = 0; page < USED; page++)
		memset(vmm_memory_page(memory, page), 0, VMM_PAGE);
	ckpt_primary_options_init(&options);
	options.mode = fuzz_u8(&input) & 1 ? CKPT_MODE_COLO : CKPT_MODE_BUFFERED;
	m.mode = options.mode;
	options.period_ms = options.age_ms = 0;
	options.listen = m.listened = options.mode == CKPT_MODE_COLO;
	primary = ckpt_primary_new_take(NULL, NULL, &options, &streams, &hooks, NULL, NULL);
	g_assert(primary && m.thread);
	m.thread(m.thread_data);
	g_assert(!m.tracking && m.lost);
	g_assert(ckpt_primary_get_state(primary) == CKPT_PRIMARY_LOST);
	ckpt_primary_free(primary);
	g_byte_array_unref(m.asked);
	return 0;
}
