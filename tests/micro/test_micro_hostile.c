/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a node with the pair's key and a mind of its own can do to a real primary and a real
 * secondary: one message of a running pair is changed, and everything else is left alone.
 *
 * Refused means: both sides lose the link, each with a reason, and the one that refused has
 * told the other; the primary's guest goes on; the secondary is what it committed, or nothing.
 * What is not refused, and why it need not be:
 * - Another content of a page, or a first sync with a part missing: whoever has the key decides
 *   what the memory is. --verify is for finding our own faults in this.
 * - A digest that does not match: the page is sent.
 * - What is only told: reason and page count of a CUT, times in APPLIED, a NEED too many.
 * - Another LZ4 block for the same state: END has the checksum of what comes out of it.
 * - How a row of CPUID in the HELLO is marked; its leaf and registers count, unless all of its
 *   registers are zero: then it says what a missing row does.
 * - The epoch of what belongs to none (HELLO, SYNC_PAGES), and parts of a checkpoint, or of the
 *   first sync, in another order: they are kept apart by what they say.
 *
 * MICRO_ATTACKS is how many of all attacks are tried (160), 0 all; MICRO_SEED which.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <lz4.h>
#include <xxhash.h>

#include "checkpoint/protocol.h"
#include "checkpoint/state_wire.h"
#include "tests/micro/hostile.h"

#define HEADER sizeof(struct wire_frame)
#define UNKNOWN_TYPE 99

enum how {
	FLIP_HEADER, /* byte `at` of the frame */
	FLIP_PAYLOAD, /* byte `at` (of 256ths) of the payload, with the checksum mended */
	SHORTEN, /* by `at` bytes, mended */
	LENGTHEN, /* by `at` bytes, mended */
	OVERSIZE, /* one byte more than the type may have */
	REPEAT,
	DROP,
	SWAP, /* with the next one of that side */
	RETYPE, /* as type `at`, mended */
	WRONG_EPOCH, /* by `at`, mended */
	STRAY, /* a message of type `at` before it */
	SPOIL, /* a state that the machine refuses, with all checksums over it mended */
};
static const char *const how_names[] = { "header",  "payload", "shorter", "longer",
					 "oversize", "repeated", "dropped", "swapped",
					 "retyped", "epoch",   "stray", "spoiled" };

enum outcome {
	REFUSED,
	EITHER, /* it may go on; then the secondary is right */
	ANY, /* it may go on, and the secondary has what it was given */
};

struct attack {
	enum how how;
	guint way;
	guint16 type;
	guint64 epoch;
	guint at;
	gboolean colo;
	/* While it runs: */
	enum outcome outcome;
	gboolean done;
	GByteArray *held;
	guint64 checksum; /* of the spoiled state; 0: not yet */
};

static struct rig *rig;

static const struct base_message_rule *rule_of(guint type)
{
	const struct base_message_rule *rule = ckpt_rules;

	while (rule->name && rule->type != type)
		rule++;
	return rule;
}

/* Whether byte `offset` of these CPUID rows is nothing that a guest sees. */
static gboolean is_spare(const guint8 *rows, gsize offset)
{
	const gsize first = G_STRUCT_OFFSET(struct vmm_cpuid_row, eax);
	const gsize end = G_STRUCT_OFFSET(struct vmm_cpuid_row, pad);
	static const guint8 zeros[sizeof(struct vmm_cpuid_row)];
	gsize at = offset % sizeof(struct vmm_cpuid_row);

	if (at < G_STRUCT_OFFSET(struct vmm_cpuid_row, flags))
		return !memcmp(rows + offset - at + first, zeros, end - first);
	return at < first || at >= end;
}

/* Byte `offset` of `payload` is about to be changed. */
static enum outcome outcome_of_change(const struct attack *attack, const guint8 *payload,
				      gsize offset)
{
	gsize rows = G_STRUCT_OFFSET(struct ckpt_hello, cpuid);

	switch (attack->type) {
	case CKPT_HELLO:
		return attack->way == TO_SECONDARY &&
				       offset >= G_STRUCT_OFFSET(struct ckpt_hello, secret) ?
			       EITHER :
		       offset >= rows &&
				       offset < G_STRUCT_OFFSET(struct ckpt_hello, secret) &&
				       is_spare(payload + rows, offset - rows) ?
			       EITHER : REFUSED;
	case CKPT_SYNC_PAGES:
	case CKPT_PAGES:
		return ANY;
	case CKPT_CUT:
		return offset <= G_STRUCT_OFFSET(struct ckpt_cut, run) ||
				       offset >= G_STRUCT_OFFSET(struct ckpt_cut, dirty) ?
			       EITHER : REFUSED;
	case CKPT_DIGESTS:
		offset %= sizeof(struct ckpt_page_digest);
		return offset < 4 ? ANY : offset < 8 ? REFUSED : EITHER;
	case CKPT_APPLIED:
		return EITHER;
	}
	return REFUSED;
}

static enum outcome outcome_of(const struct attack *attack)
{
	gboolean sync = attack->type == CKPT_SYNC_PAGES;

	switch (attack->how) {
	case REPEAT:
		return sync ? EITHER : REFUSED;
	case DROP:
		return sync ? ANY : REFUSED;
	case SWAP:
		return sync ? ANY :
		       attack->type == CKPT_CUT || attack->type == CKPT_HELLO ? REFUSED :
									EITHER;
	case WRONG_EPOCH:
		return sync || attack->type == CKPT_HELLO ? EITHER : REFUSED;
	case STRAY:
		return attack->at == CKPT_NEED && attack->way == TO_PRIMARY &&
				       attack->type != CKPT_HELLO ? EITHER : REFUSED;
	default:
		return REFUSED;
	}
}

/* What the LZ4 block of a CKPT_STATE unpacks to; NULL where it is none. */
static GBytes *unpacked(const GByteArray *bytes)
{
	const guint8 *block = bytes->data + HEADER + sizeof(struct ckpt_state_head);
	gsize packed = bytes->len - HEADER - sizeof(struct ckpt_state_head);
	struct ckpt_state_head head;
	g_autofree guint8 *state = NULL;
	guint32 length;

	memcpy(&head, bytes->data + HEADER, sizeof(head));
	length = wire_get32(head.length);
	if (length > CKPT_STATE_MAX)
		return NULL;
	state = g_malloc(length);
	if (LZ4_decompress_safe((const char *)block, (char *)state, (int)packed,
				(int)length) != (int)length)
		return NULL;
	return g_bytes_new_take(g_steal_pointer(&state), length);
}

static void flip_payload(struct attack *attack, GByteArray *bytes)
{
	g_autoptr(GBytes) before = attack->type == CKPT_STATE ? unpacked(bytes) : NULL;
	g_autoptr(GBytes) after = NULL;
	gsize len = bytes->len - HEADER, offset;

	if (!len)
		return;
	offset = attack->at * len / 256;
	attack->outcome = outcome_of_change(attack, bytes->data + HEADER, offset);
	bytes->data[HEADER + offset] ^= (guint8)(1 + attack->at);
	wiretap_mend(bytes);
	after = before ? unpacked(bytes) : NULL;
	if (after && offset >= sizeof(struct ckpt_state_head) && g_bytes_equal(before, after))
		attack->outcome = EITHER;
	attack->done = TRUE;
}

static void resize(struct attack *attack, GByteArray *bytes)
{
	static const guint8 zeros[16];

	if (attack->how == LENGTHEN)
		g_byte_array_append(bytes, zeros, attack->at);
	else if (bytes->len < HEADER + attack->at)
		return;
	else
		g_byte_array_set_size(bytes, bytes->len - attack->at);
	wiretap_mend(bytes);
	attack->done = TRUE;
}

static void set_header(GByteArray *bytes, gsize offset, const void *value, gsize len)
{
	memcpy(bytes->data + offset, value, len);
}

static void oversize(struct attack *attack, GByteArray *bytes)
{
	wire_u32 length = wire_put32(rule_of(attack->type)->max + 1);

	set_header(bytes, G_STRUCT_OFFSET(struct wire_frame, length), &length, sizeof(length));
	attack->done = TRUE;
}

static void retype(struct attack *attack, GByteArray *bytes)
{
	wire_u16 type = wire_put16((guint16)attack->at);

	set_header(bytes, G_STRUCT_OFFSET(struct wire_frame, type), &type, sizeof(type));
	wiretap_mend(bytes);
	attack->done = TRUE;
}

static void change_epoch(struct attack *attack, GByteArray *bytes, guint64 epoch)
{
	wire_u64 changed = wire_put64(epoch + (guint64)(gint64)(gint8)attack->at);

	set_header(bytes, G_STRUCT_OFFSET(struct wire_frame, epoch), &changed,
		   sizeof(changed));
	wiretap_mend(bytes);
	attack->done = TRUE;
}

static void put_stray(struct attack *attack, GByteArray *bytes, guint64 epoch)
{
	static const guint8 zeros[sizeof(struct ckpt_hello)];
	guint32 min = rule_of(attack->at)->min;
	g_autoptr(GByteArray) all = g_byte_array_new();

	if (attack->at == CKPT_BYE)
		wiretap_put(all, CKPT_BYE, 0, "\0\0\0\0\0\0\0\0two\nlines \x1b[2J", 22);
	else
		wiretap_put(all, (guint16)attack->at, epoch, zeros,
			    MIN(min, sizeof(zeros)));
	g_byte_array_append(all, bytes->data, bytes->len);
	g_byte_array_set_size(bytes, 0);
	g_byte_array_append(bytes, all->data, all->len);
	attack->done = TRUE;
}

static void hold_or_swap(struct attack *attack, struct wiretap_message *message)
{
	attack->held = g_byte_array_new();
	g_byte_array_append(attack->held, message->bytes->data, message->bytes->len);
	g_byte_array_set_size(message->bytes, 0);
	attack->done = TRUE;
}

/* Of the first state, which is packed without another before it. */
static void spoil_state(struct attack *attack, GByteArray *bytes)
{
	g_autoptr(GBytes) state = unpacked(bytes);
	g_autoptr(GByteArray) none = g_byte_array_new(), packed = g_byte_array_new();
	struct wire_state_header header;
	struct wire_section_header section;
	g_autofree guint8 *copy = NULL;
	gsize len;

	assert_non_null(state);
	copy = g_memdup2(g_bytes_get_data(state, NULL), g_bytes_get_size(state));
	len = g_bytes_get_size(state);
	memcpy(&header, copy, sizeof(header));
	memcpy(&section, copy + sizeof(header), sizeof(section));
	section.version = wire_put16((guint16)(wire_get16(section.version) + 1));
	memcpy(copy + sizeof(header), &section, sizeof(section));
	header.checksum =
		wire_put64(XXH3_64bits(copy + sizeof(header), len - sizeof(header)));
	memcpy(copy, &header, sizeof(header));
	attack->checksum = XXH3_64bits(copy, len);
	ckpt_state_pack(copy, len, none, packed);
	g_byte_array_set_size(bytes, HEADER);
	g_byte_array_append(bytes, packed->data, packed->len);
	wiretap_mend(bytes);
}

static void mend_end(struct attack *attack, GByteArray *bytes)
{
	struct ckpt_end end;

	memcpy(&end, bytes->data + HEADER, sizeof(end));
	end.state_checksum = wire_put64(attack->checksum);
	memcpy(bytes->data + HEADER, &end, sizeof(end));
	wiretap_mend(bytes);
	attack->done = TRUE;
}

static void do_it(struct attack *attack, struct wiretap_message *message)
{
	GByteArray *bytes = message->bytes;

	switch (attack->how) {
	case FLIP_HEADER:
		bytes->data[attack->at] ^= 1 << attack->at % 8;
		attack->done = TRUE;
		break;
	case FLIP_PAYLOAD:
		flip_payload(attack, bytes);
		break;
	case SHORTEN:
	case LENGTHEN:
		resize(attack, bytes);
		break;
	case OVERSIZE:
		oversize(attack, bytes);
		break;
	case REPEAT:
		g_byte_array_set_size(bytes, 2 * bytes->len);
		memcpy(bytes->data + bytes->len / 2, bytes->data, bytes->len / 2);
		attack->done = TRUE;
		break;
	case DROP:
		g_byte_array_set_size(bytes, 0);
		attack->done = TRUE;
		break;
	case SWAP:
		hold_or_swap(attack, message);
		break;
	case RETYPE:
		retype(attack, bytes);
		break;
	case WRONG_EPOCH:
		change_epoch(attack, bytes, message->epoch);
		break;
	case STRAY:
		put_stray(attack, bytes, message->epoch);
		break;
	case SPOIL:
		spoil_state(attack, bytes);
		break;
	}
}

static void meddle(void *data, struct wiretap_message *message)
{
	struct attack *attack = data;

	if (message->way != attack->way)
		return;
	if (attack->held) {
		g_byte_array_append(message->bytes, attack->held->data, attack->held->len);
		g_clear_pointer(&attack->held, g_byte_array_unref);
	}
	if (attack->checksum && !attack->done && message->type == CKPT_END)
		mend_end(attack, message->bytes);
	else if (!attack->done && message->type == attack->type &&
		 message->epoch == attack->epoch)
		do_it(attack, message);
}

/* All of them. */

static gboolean fits(enum how how, guint way, guint at)
{
	/* A secondary's NEED may come at any time; so may a PING of either. */
	return how != RETYPE || (at != CKPT_PING && at != CKPT_BYE) || way == TO_SECONDARY;
}

static void add(GArray *attacks, const struct attack *one, enum how how, guint at)
{
	struct attack attack = *one;

	attack.how = how;
	attack.at = at;
	if (how == RETYPE && at == one->type)
		return;
	if (fits(how, one->way, at))
		g_array_append_val(attacks, attack);
}

static void add_kinds(GArray *attacks, const struct attack *one)
{
	static const guint sizes[] = { 1, 3, 5 };
	/* Of every type, for either side: most of them are strangers there. */
	static const guint8 types[] = { CKPT_HELLO, CKPT_SYNC_PAGES, CKPT_CUT, CKPT_PAGES,
					CKPT_DIGESTS, CKPT_WANTED, CKPT_STATE, CKPT_END,
					CKPT_COMMITTED, CKPT_APPLIED, CKPT_INPUT,
					CKPT_DISK_WRITE, CKPT_SYNC_DISK, CKPT_NEED,
					CKPT_VERIFY, CKPT_BYE, UNKNOWN_TYPE };

	for (guint at = 0; at < HEADER; at++)
		add(attacks, one, FLIP_HEADER, at);
	for (guint at = 0; at < 256 && rule_of(one->type)->max; at += 8)
		add(attacks, one, FLIP_PAYLOAD, at);
	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
		add(attacks, one, SHORTEN, sizes[i]);
		add(attacks, one, LENGTHEN, sizes[i]);
	}
	for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
		add(attacks, one, RETYPE, types[i]);
		add(attacks, one, STRAY, types[i]);
	}
	for (guint i = 0; i < 4; i++) {
		add(attacks, one, OVERSIZE, 0);
		add(attacks, one, REPEAT, 0);
		add(attacks, one, DROP, 0);
		add(attacks, one, SWAP, 0);
		add(attacks, one, WRONG_EPOCH, i < 2 ? 1 : 255);
	}
}

static GArray *all_attacks(void)
{
	static const struct attack on[] = {
		{ .way = TO_SECONDARY, .type = CKPT_HELLO },
		{ .way = TO_SECONDARY, .type = CKPT_SYNC_PAGES },
		{ .way = TO_SECONDARY, .type = CKPT_CUT, .epoch = 1 },
		{ .way = TO_SECONDARY, .type = CKPT_CUT, .epoch = 2 },
		{ .way = TO_SECONDARY, .type = CKPT_DIGESTS, .epoch = 1, .colo = TRUE },
		{ .way = TO_SECONDARY, .type = CKPT_PAGES, .epoch = 1 },
		{ .way = TO_SECONDARY, .type = CKPT_PAGES, .epoch = 2 },
		{ .way = TO_SECONDARY, .type = CKPT_STATE, .epoch = 1 },
		{ .way = TO_SECONDARY, .type = CKPT_STATE, .epoch = 2 },
		{ .way = TO_SECONDARY, .type = CKPT_END, .epoch = 1 },
		{ .way = TO_SECONDARY, .type = CKPT_END, .epoch = 2 },
		{ .way = TO_PRIMARY, .type = CKPT_HELLO },
		{ .way = TO_PRIMARY, .type = CKPT_WANTED, .epoch = 1, .colo = TRUE },
		{ .way = TO_PRIMARY, .type = CKPT_COMMITTED, .epoch = 1 },
		{ .way = TO_PRIMARY, .type = CKPT_COMMITTED, .epoch = 2 },
		{ .way = TO_PRIMARY, .type = CKPT_APPLIED, .epoch = 1 },
		{ .way = TO_PRIMARY, .type = CKPT_APPLIED, .epoch = 2 },
	};
	GArray *attacks = g_array_new(FALSE, TRUE, sizeof(struct attack));

	for (guint i = 0; i < G_N_ELEMENTS(on); i++)
		add_kinds(attacks, &on[i]);
	return attacks;
}

/* One of them. */

/* Where something is waited for that never comes, deadlines decide, on a busy machine those of
 * both sides. Over a silent one the connection is closed, and nobody told. */
static gboolean is_deadline(const char *why)
{
	return strstr(why, " within ") != NULL;
}

/* What may end by a deadline only. */
static gboolean is_waited_for(const struct attack *attack)
{
	gsize length = G_STRUCT_OFFSET(struct wire_frame, length);

	return attack->how == DROP || attack->how == SWAP ||
	       (attack->how == FLIP_HEADER && attack->at >= length &&
		attack->at < length + sizeof(wire_u32));
}

static void check_reasons(const struct attack *attack, char *const why[2])
{
	assert_true(*why[PRIMARY] && *why[SECONDARY]);
	if (strstr(why[PRIMARY], why[SECONDARY]) || strstr(why[SECONDARY], why[PRIMARY]) ||
	    is_deadline(why[PRIMARY]) || is_deadline(why[SECONDARY]) || attack->at == CKPT_BYE)
		return;
	fail_msg("neither told the other: primary: %s; secondary: %s", why[PRIMARY],
		 why[SECONDARY]);
}

/* TRUE where it was refused. */
static gboolean try_one(struct attack *attack)
{
	const struct session_options options = {
		.mode = attack->colo ? CKPT_MODE_COLO : CKPT_MODE_BUFFERED,
		.impatient = is_waited_for(attack),
		.fn = meddle,
		.data = attack,
	};
	struct session *session;
	gboolean lost;

	attack->outcome = outcome_of(attack);
	if (g_getenv("MICRO_TALK"))
		printf("# %s %s at %u epoch %u colo %u\n", how_names[attack->how],
		       rule_of(attack->type)->name, attack->at, (guint)attack->epoch,
		       attack->colo);
	session = session_new(rig, &options);
	lost = session_is_lost_before(session, attack->epoch + 3);
	if (g_getenv("MICRO_TALK"))
		printf("#   primary: %s; secondary: %s\n", session->why[PRIMARY] ?: "goes on",
		       session->why[SECONDARY] ?: "goes on");
	if (lost)
		check_reasons(attack, session->why);
	if (attack->done && attack->outcome == REFUSED && !lost)
		fail_msg("%s %s at %u: not refused", how_names[attack->how],
			 rule_of(attack->type)->name, attack->at);
	session_free_judged(session, attack->outcome != ANY);
	g_clear_pointer(&attack->held, g_byte_array_unref);
	return lost;
}

/* By any of these something would be committed that is not there. A number of a CUT is at its
 * highest byte but three: more than there ever was. */
static void what_would_matter_most_is_refused(void **state)
{
	const guint input = G_STRUCT_OFFSET(struct ckpt_cut, input) + 4;
	const guint disk = G_STRUCT_OFFSET(struct ckpt_cut, disk) + 4;
	const guint step = 256 / sizeof(struct ckpt_cut);
	struct attack attacks[] = {
		{ STRAY, TO_PRIMARY, CKPT_WANTED, 1, CKPT_COMMITTED, TRUE },
		{ FLIP_PAYLOAD, TO_SECONDARY, CKPT_CUT, 1, input * step },
		{ FLIP_PAYLOAD, TO_SECONDARY, CKPT_CUT, 1, disk * step },
		{ DROP, TO_SECONDARY, CKPT_SYNCED, 0 },
		{ DROP, TO_SECONDARY, CKPT_STATE, 2 },
		{ SPOIL, TO_SECONDARY, CKPT_STATE, 1 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(attacks); i++) {
		assert_true(try_one(&attacks[i]));
		assert_true(attacks[i].done);
	}
	rig_check_first(rig);
}

static void one_wrong_message_changes_nothing(void **state)
{
	guint wanted = g_getenv("MICRO_ATTACKS") ? (guint)atoi(g_getenv("MICRO_ATTACKS")) :
						   160;
	guint seed = g_getenv("MICRO_SEED") ? (guint)atoi(g_getenv("MICRO_SEED")) : 1;
	g_autoptr(GRand) random = g_rand_new_with_seed(seed);
	g_autoptr(GArray) attacks = all_attacks();
	guint refused = 0, made = 0, total = attacks->len;

	if (!wanted || wanted > total)
		wanted = total;
	for (guint i = 0; i < wanted; i++) {
		guint pick = (guint)g_rand_int_range(random, (gint)i, (gint)total);
		struct attack attack = g_array_index(attacks, struct attack, pick);

		g_array_index(attacks, struct attack, pick) =
			g_array_index(attacks, struct attack, i);
		attack.colo = attack.colo || i % 2;
		refused += try_one(&attack);
		made += attack.done;
	}
	rig_check_first(rig);
	printf("# %u of %u attacks: %u made, %u refused\n", wanted, total, made, refused);
	assert_true(made > wanted * 9 / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_would_matter_most_is_refused),
		cmocka_unit_test(one_wrong_message_changes_nothing),
	};
	int failed;

	rig = rig_new();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rig_free(rig);
	return failed;
}
