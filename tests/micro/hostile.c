/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two machines that become a pair again and again, each time through a wiretap. */
#include "tests/micro/hostile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>

#include "checkpoint/verify.h"

#define MEMORY (40u << 20) /* the less, the more sessions */
#define PATIENCE_US (30 * (gint64)G_USEC_PER_SEC)
#define KEPT G_N_ELEMENTS(((struct session *)0)->digests)

/* Of a guest that does not answer: whether it stands still, and a pause wakes it. */
static void describe_silent(micro *guest)
{
	vmm_machine *machine = micro_machine(guest);
	enum vmm_run_state state = vmm_machine_run_state(machine);
	g_autoptr(GError) error = NULL;
	g_autofree char *answer = NULL;

	if (vmm_machine_pause(machine, &error) && vmm_machine_resume(machine, &error)) {
		micro_forget(guest, 100);
		answer = micro_ask(guest, "ping 1");
	}
	printf("# run state %d; after a pause: %s%s\n", state, answer ?: "no answer",
	       error ? error->message : "");
}

/* The answer that has `wanted` in it. A guest may first answer what its original was asked. */
static char *ask_for(micro *guest, const char *question, const char *wanted)
{
	for (guint i = 0; i < 10; i++) {
		char *answer = micro_ask(guest, "%s", question);

		if (!answer)
			break;
		if (strstr(answer, wanted))
			return answer;
		g_free(answer);
		micro_forget(guest, 20);
	}
	describe_silent(guest);
	fail_msg("the guest, asked \"%s\", does not say %s", question, wanted);
	return NULL;
}

static base_key *make_key(void)
{
	g_autofree char *path =
		g_strdup_printf("%s/colo-hostile-key-%d", g_get_tmp_dir(), getpid());
	g_autoptr(GError) error = NULL;
	base_key *key;

	unlink(path);
	if (!base_key_generate(path, &error))
		g_error("%s", error->message);
	key = base_key_read(path, &error);
	if (!key)
		g_error("%s", error->message);
	unlink(path);
	return key;
}

struct rig *rig_new(void)
{
	const struct micro_options like = { .memory = MEMORY };

	return rig_new_of(&like, &like);
}

struct rig *rig_new_of(const struct micro_options *first, const struct micro_options *second)
{
	struct micro_options twin = *second;
	struct rig *rig = g_new0(struct rig, 1);

	micro_need_kvm();
	twin.for_load = TRUE;
	twin.backends.private_memory = TRUE;
	rig->key = make_key();
	rig->guests[PRIMARY] = micro_new(first);
	rig->guests[SECONDARY] = micro_new(&twin);
	g_free(micro_do(rig->guests[PRIMARY], "dirty 200 4000 3"));
	return rig;
}

struct rig *rig_new_with_nodes(void)
{
	const struct ckpt_node_hooks hooks = { 0 };
	struct rig *rig = g_new0(struct rig, 1);

	micro_need_kvm();
	rig->key = make_key();
	for (guint which = 0; which < 2; which++) {
		struct micro_options options = { .memory = MEMORY };

		rig->nodes[which] = ckpt_node_new(which == SECONDARY, 0, &hooks, NULL);
		rig->disks[which] = micro_file(16 << 20);
		options.disk = rig->disks[which];
		options.for_load = which == SECONDARY;
		options.backends = ckpt_node_backends(rig->nodes[which]);
		rig->guests[which] = micro_new(&options);
		ckpt_node_attach(rig->nodes[which], micro_machine(rig->guests[which]));
	}
	g_free(micro_do(rig->guests[PRIMARY], "dirty 200 4000 3"));
	return rig;
}

void rig_check_disk(struct rig *rig, guint which)
{
	g_autofree char *report = ask_for(rig->guests[which], "blkbg", " writes=");

	if (micro_number(report, "bad") || micro_number(report, "errors"))
		fail_msg("guest %u: %s", which, report);
	assert_int_equal(micro_number(report, "bad"), 0);
	assert_int_equal(micro_number(report, "errors"), 0);
}

void rig_free(struct rig *rig)
{
	micro_free(rig->guests[PRIMARY]);
	micro_free(rig->guests[SECONDARY]);
	for (guint which = 0; which < 2; which++) {
		ckpt_node_free(rig->nodes[which]);
		if (rig->disks[which])
			micro_remove(rig->disks[which]);
	}
	base_key_free(rig->key);
	g_free(rig);
}

static void expect_pong(struct rig *rig, micro *guest)
{
	g_autofree char *question = g_strdup_printf("ping %u", ++rig->pongs);
	g_autofree char *wanted = g_strdup_printf("pong=%u", rig->pongs);

	g_free(ask_for(guest, question, wanted));
}

void rig_talk(struct rig *rig)
{
	expect_pong(rig, rig->guests[PRIMARY]);
}

static void check_guest(struct rig *rig, micro *guest)
{
	g_autofree char *verified = NULL;

	expect_pong(rig, guest);
	verified = ask_for(guest, "verify", " bad=");
	assert_int_equal(micro_number(verified, "bad"), 0);
}

void rig_check_first(struct rig *rig)
{
	check_guest(rig, rig->guests[PRIMARY]);
}

/* What the two sides report. */

static void note_why(struct session *session, guint side, const char *why)
{
	g_mutex_lock(&session->lock);
	if (!session->why[side])
		session->why[side] = g_strdup(why);
	g_cond_broadcast(&session->changed);
	g_mutex_unlock(&session->lock);
}

static void on_primary_state(void *data, enum ckpt_primary_state state, const char *why)
{
	if (state == CKPT_PRIMARY_LOST)
		note_why(data, PRIMARY, why);
}

static void on_cut(void *data, guint64 epoch, gboolean run)
{
	struct session *session = data;
	vmm_memory *memory = vmm_machine_memory(micro_machine(session->rig->guests[PRIMARY]));
	guint64 **digests = &session->digests[epoch % KEPT];

	if (!*digests)
		*digests = g_new(guint64, vmm_memory_pages(memory));
	ckpt_verify_pages(memory, *digests);
}

static void on_committed(void *data, guint64 epoch)
{
	struct session *session = data;

	g_mutex_lock(&session->lock);
	session->committed = epoch;
	session->early |= session->secondary && ckpt_secondary_epoch(session->secondary) < epoch;
	g_cond_broadcast(&session->changed);
	g_mutex_unlock(&session->lock);
}

static void on_secondary_lost(void *data, enum ckpt_ending end, const char *why)
{
	note_why(data, SECONDARY, why);
}

/* Whether a guest's page is as the checkpoint under it, but for what KVM itself writes when a
 * state is loaded: one clock of 32 bytes. */
static gboolean is_alike(const guint8 *seen, const guint8 *base)
{
	guint first = 0, last = VMM_PAGE;

	while (first < VMM_PAGE && seen[first] == base[first])
		first++;
	while (last > first && seen[last - 1] == base[last - 1])
		last--;
	return last - first <= 32;
}

/* NULL where the secondary's memory is that of this checkpoint. Caller frees. */
static char *difference(const vmm_memory *memory, const guint64 *digests)
{
	for (guint64 page = 0; page < vmm_memory_pages(memory); page++) {
		const guint8 *base = vmm_memory_base_page(memory, page);

		if (XXH3_64bits(base, VMM_PAGE) != digests[page])
			return g_strdup_printf("page %" G_GUINT64_FORMAT " is another", page);
		if (!is_alike(vmm_memory_page(memory, page), base))
			return g_strdup_printf("page %" G_GUINT64_FORMAT
					       " is not shown as it is", page);
	}
	return NULL;
}

/* The moment between the end of the link and the promoted guest's first instruction. */
static void on_promote(void *data)
{
	struct session *session = data;
	vmm_machine *machine = micro_machine(session->rig->guests[SECONDARY]);
	guint64 epoch = ckpt_secondary_epoch(session->secondary);

	if (vmm_machine_run_state(machine) == VMM_RUNNING)
		return;
	session->difference = difference(vmm_machine_memory(machine),
					 session->digests[epoch % KEPT]);
}

/* Making one. */

struct side {
	struct session *session;
	const struct session_options *options;
	int fd;
};

static void made(struct session *session)
{
	g_mutex_lock(&session->lock);
	session->making--;
	g_mutex_unlock(&session->lock);
}

static gboolean is_making(struct session *session)
{
	gboolean making;

	g_mutex_lock(&session->lock);
	making = session->making > 0;
	g_mutex_unlock(&session->lock);
	return making;
}

static guint patience(const struct session_options *options)
{
	return options->impatient ? 800 : 8000;
}

static void *make_second(void *data)
{
	static const struct ckpt_secondary_hooks hooks = { .lost = on_secondary_lost };
	struct side *side = data;
	struct session *session = side->session;
	const struct ckpt_twin_streams streams =
		session->rig->nodes[SECONDARY] ?
			ckpt_node_twin_streams(session->rig->nodes[SECONDARY]) :
			(struct ckpt_twin_streams){ .data = session, .promote = on_promote };
	const struct ckpt_secondary_options options = {
		.silence_ms = patience(side->options),
		.hello_ms = patience(side->options),
	};
	g_autoptr(GError) error = NULL;
	base_channel *channel = base_channel_new_take(side->fd, TRUE, session->rig->key,
						      ckpt_rules, 5000, &error);

	if (channel)
		session->secondary = ckpt_secondary_new_take(
			micro_machine(session->rig->guests[SECONDARY]), channel, &options,
			&streams, &hooks, session, &error);
	if (error)
		note_why(session, SECONDARY, error->message);
	made(session);
	return NULL;
}

static void *make_first(void *data)
{
	struct side *side = data;
	struct session *session = side->session;
	const struct session_options *wanted = side->options;
	const struct ckpt_primary_hooks hooks = {
		.state = on_primary_state,
		.cut = wanted->mode == CKPT_MODE_BUFFERED ? on_cut : NULL,
		.committed = on_committed,
	};
	const struct ckpt_streams streams = session->rig->nodes[PRIMARY] ?
						    ckpt_node_streams(session->rig->nodes[PRIMARY]) :
						    (struct ckpt_streams){ 0 };
	struct ckpt_primary_options options;
	g_autoptr(GError) error = NULL;
	base_channel *channel;

	ckpt_primary_options_init(&options);
	options.mode = wanted->mode;
	options.period_ms = options.age_ms = 5;
	options.verify = wanted->verify;
	options.silence_ms = options.answer_ms = options.hello_ms = patience(wanted);
	channel = base_channel_new_take(side->fd, FALSE, session->rig->key, ckpt_rules, 5000,
					&error);
	if (channel)
		session->primary = ckpt_primary_new_take(
			micro_machine(session->rig->guests[PRIMARY]), channel, &options,
			&streams, &hooks, session, &error);
	if (error)
		note_why(session, PRIMARY, error->message);
	made(session);
	return NULL;
}

static void pass(void *data, struct wiretap_message *message)
{
}

struct session *session_new(struct rig *rig, const struct session_options *options)
{
	struct session *session = g_new0(struct session, 1);
	struct side sides[2] = { { session, options }, { session, options } };
	GThread *threads[2];
	int ends[2];

	session->rig = rig;
	g_mutex_init(&session->lock);
	g_cond_init(&session->changed);
	session->tap = wiretap_new(rig->key, options->fn ?: pass, options->data, ends);
	session->making = 2;
	for (guint side = 0; side < 2; side++) {
		sides[side].fd = ends[side];
		threads[side] = g_thread_new("side", side == PRIMARY ? make_first : make_second,
					     &sides[side]);
	}
	while (options->talk && is_making(session))
		rig_talk(rig);
	for (guint side = 0; side < 2; side++)
		g_thread_join(threads[side]);
	return session;
}

gboolean session_is_lost_before(struct session *session, guint64 epoch)
{
	gint64 until = g_get_monotonic_time() + PATIENCE_US;
	gboolean lost, waiting = TRUE;

	g_mutex_lock(&session->lock);
	while (waiting && session->committed < epoch &&
	       !(session->why[PRIMARY] && session->why[SECONDARY]))
		waiting = g_cond_wait_until(&session->changed, &session->lock, until);
	lost = session->why[PRIMARY] && session->why[SECONDARY];
	if (!waiting)
		g_error("neither lost nor committed: primary %s, secondary %s, epoch %"
			G_GUINT64_FORMAT, session->why[PRIMARY] ?: "goes on",
			session->why[SECONDARY] ?: "goes on", session->committed);
	g_mutex_unlock(&session->lock);
	return lost;
}

static void judge_promotion(struct session *session, gboolean exact)
{
	micro *guest = session->rig->guests[SECONDARY];
	guint64 epoch = ckpt_secondary_epoch(session->secondary);
	g_autoptr(GError) error = NULL;
	gboolean promoted = ckpt_secondary_promote(session->secondary, &error);

	/* What the primary was told is at least what is there. */
	assert_true(epoch >= session->committed);
	assert_false(session->early);
	if (!epoch) {
		assert_false(promoted);
		assert_true(g_error_matches(error, CKPT_ERROR, CKPT_ERROR_MODE));
		return;
	}
	if (!exact)
		return;
	if (!promoted)
		fail_msg("cannot be promoted: %s", error->message);
	if (session->difference)
		fail_msg("not what was committed: %s", session->difference);
	check_guest(session->rig, guest);
	if (session->rig->nodes[SECONDARY])
		rig_check_disk(session->rig, SECONDARY);
}

void session_free_judged(struct session *session, gboolean exact)
{
	struct rig *rig = session->rig;
	g_autoptr(GError) error = NULL;

	g_clear_pointer(&session->primary, ckpt_primary_free);
	expect_pong(rig, rig->guests[PRIMARY]);
	if (session->secondary)
		judge_promotion(session, exact);
	g_clear_pointer(&session->secondary, ckpt_secondary_free);
	if (!vmm_machine_pause(micro_machine(rig->guests[SECONDARY]), &error))
		g_error("pause: %s", error->message);
	wiretap_free(session->tap);
	for (guint side = 0; side < 2; side++)
		g_free(session->why[side]);
	for (guint i = 0; i < KEPT; i++)
		g_free(session->digests[i]);
	g_free(session->difference);
	g_mutex_clear(&session->lock);
	g_cond_clear(&session->changed);
	g_free(session);
}
