/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One checkpoint's content on its way: each page in the cheapest form that says it, then the
 * state. */
#include "checkpoint/primary_private.h"

#include <xxhash.h>

/* Digests are asked about while this share of them matches, or on a sample. */
#define TWIN_PAYS 0.15
#define TWIN_SAMPLE 16

static gboolean send_batch(ckpt_primary *primary, ckpt_link *link, guint16 type,
			   GByteArray **batch)
{
	if (!(*batch)->len)
		return TRUE;
	primary->now.bytes += sizeof(struct wire_frame) + (*batch)->len;
	return ckpt_link_send_batch(link, type, primary->epoch, batch);
}

gboolean ckpt_primary_send_batch(ckpt_primary *primary, guint16 type, GByteArray **batch)
{
	return send_batch(primary, primary->link, type, batch);
}

gboolean ckpt_primary_send_sync(ckpt_primary *primary, guint lane, GByteArray **batch)
{
	ckpt_link *link = lane ? ckpt_lanes_link(primary->lanes, lane) : primary->link;

	return send_batch(primary, link, CKPT_SYNC_PAGES, batch);
}

gboolean ckpt_primary_is_full(const GByteArray *batch)
{
	return batch->len > CKPT_BATCH_MAX - sizeof(struct wire_page) - CKPT_PAGE;
}

static int compare_pages(const void *a, const void *b)
{
	guint32 x = *(const guint32 *)a, y = *(const guint32 *)b;

	return x < y ? -1 : x > y;
}

void ckpt_primary_sort_pages(GArray *pages)
{
	g_array_sort(pages, compare_pages);
}

/* Places in the stage, in the order of page numbers. */
static GArray *in_order(const vmm_stage *stage)
{
	GArray *order = g_array_sized_new(FALSE, FALSE, sizeof(guint64), vmm_stage_count(stage));

	for (guint i = 0; i < vmm_stage_count(stage); i++) {
		guint64 key = (guint64)vmm_stage_number(stage, i) << 32 | i;

		g_array_append_val(order, key);
	}
	return order;
}

static int compare_keys(const void *a, const void *b)
{
	guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;

	return x < y ? -1 : x > y;
}

static gboolean ask_about_twins(ckpt_primary *primary, gboolean run)
{
	/* A secondary at rest has the last checkpoint in its memory: nothing to ask. */
	return run && (primary->twin_share > TWIN_PAYS || primary->epoch % TWIN_SAMPLE == 0);
}

struct sending {
	GArray *candidates; /* guint32: places in the stage, whose digests were sent */
	GByteArray *pages, *digests;
	struct ckpt_digest *content; /* per place in the stage */
};

static gboolean encode_page(ckpt_primary *primary, struct sending *sending, guint place)
{
	guint32 page = vmm_stage_number(primary->stage, place);
	guint32 slot = primary->slots[page];
	const void *before = slot == CKPT_NO_SLOT ? NULL : vmm_stage_content(primary->last, slot);

	if (ckpt_encode(primary->encoder, page, vmm_stage_content(primary->stage, place),
			before, sending->pages) == CKPT_SAME)
		primary->now.same++;
	else
		primary->now.sent++;
	return !ckpt_primary_is_full(sending->pages) ||
	       ckpt_primary_send_batch(primary, CKPT_PAGES, &sending->pages);
}

static gboolean send_questions(ckpt_primary *primary, struct sending *sending)
{
	if (!sending->digests->len)
		return TRUE;
	g_mutex_lock(&primary->lock);
	primary->questions++;
	g_mutex_unlock(&primary->lock);
	return ckpt_primary_send_batch(primary, CKPT_DIGESTS, &sending->digests);
}

static gboolean ask_about(ckpt_primary *primary, struct sending *sending, guint place)
{
	struct ckpt_page_digest entry = {
		.page = wire_put32(vmm_stage_number(primary->stage, place)),
		.low = wire_put64(sending->content[place].low),
		.high = wire_put64(sending->content[place].high),
	};

	g_array_append_val(sending->candidates, place);
	g_byte_array_append(sending->digests, (guint8 *)&entry, sizeof(entry));
	/* Small questions: the answers to the first come while the last are worked out. */
	if (sending->digests->len < 256 * sizeof(entry))
		return TRUE;
	return send_questions(primary, sending);
}

/* Sorts each page into its class; sends zero pages and questions, or all that differs. */
static gboolean classify(ckpt_primary *primary, struct sending *sending, gboolean ask)
{
	g_autoptr(GArray) order = in_order(primary->stage);

	g_array_sort(order, compare_keys);
	for (guint i = 0; i < order->len; i++) {
		guint place = (guint)(g_array_index(order, guint64, i) & 0xffffffff);
		const void *content = vmm_stage_content(primary->stage, place);
		struct ckpt_digest digest = ckpt_digest_page(primary->digester, content);
		guint32 page = vmm_stage_number(primary->stage, place);
		gboolean ok = TRUE;

		sending->content[place] = digest;
		if (ckpt_primary_same(digest, primary->known[page]))
			primary->now.same++;
		else if (ask && !ckpt_page_is_zero(content))
			ok = ask_about(primary, sending, place);
		else
			ok = encode_page(primary, sending, place);
		if (!ok)
			return FALSE;
	}
	return send_questions(primary, sending) &&
	       ckpt_primary_send_batch(primary, CKPT_PAGES, &sending->pages);
}

static gboolean wait_for_answers(ckpt_primary *primary)
{
	gint64 start = g_get_monotonic_time();
	gboolean ok = TRUE;

	g_mutex_lock(&primary->lock);
	while (ok && primary->replies < primary->questions)
		ok = ckpt_primary_wait_for_word(primary, start, "say which pages it wants");
	ok = ok && !ckpt_primary_is_over(primary);
	g_mutex_unlock(&primary->lock);
	return ok;
}

/* Sends the pages whose digests did not match. Both lists are in growing order. */
static gboolean send_wanted(ckpt_primary *primary, struct sending *sending)
{
	guint asked = sending->candidates->len, wanted = 0;

	if (!asked)
		return TRUE;
	if (!wait_for_answers(primary))
		return FALSE;
	ckpt_primary_sort_pages(primary->wanted);
	for (guint i = 0; i < asked && wanted < primary->wanted->len; i++) {
		guint place = g_array_index(sending->candidates, guint, i);

		if (vmm_stage_number(primary->stage, place) !=
		    g_array_index(primary->wanted, guint32, wanted))
			continue;
		wanted++;
		if (!encode_page(primary, sending, place))
			return FALSE;
	}
	if (wanted < primary->wanted->len) {
		ckpt_link_refuse(primary->link,
				 "the secondary wants pages that it was not offered");
		return FALSE;
	}
	primary->now.twin = asked - wanted;
	primary->twin_share = 0.8 * primary->twin_share +
			      0.2 * (double)primary->now.twin / (double)asked;
	return ckpt_primary_send_batch(primary, CKPT_PAGES, &sending->pages);
}

static gboolean send_pages(ckpt_primary *primary, gboolean run)
{
	struct sending sending = {
		.candidates = g_array_new(FALSE, FALSE, sizeof(guint)),
		.pages = ckpt_link_new_batch(primary->link),
		.digests = ckpt_link_new_batch(primary->link),
		.content = g_new(struct ckpt_digest, primary->collected->len + 1),
	};
	gboolean ok;

	g_mutex_lock(&primary->lock);
	primary->asking = primary->epoch;
	primary->questions = primary->replies = 0;
	g_array_set_size(primary->wanted, 0);
	g_mutex_unlock(&primary->lock);
	ok = classify(primary, &sending, ask_about_twins(primary, run)) &&
	     send_wanted(primary, &sending);
	/* From the commit on this is what the secondary has; without one nothing of it
	 * matters any more, for then the link is lost. */
	for (guint i = 0; ok && i < vmm_stage_count(primary->stage); i++)
		primary->known[vmm_stage_number(primary->stage, i)] = sending.content[i];
	g_array_unref(sending.candidates);
	g_byte_array_unref(sending.pages);
	g_byte_array_unref(sending.digests);
	g_free(sending.content);
	return ok;
}

static gboolean send_verify(ckpt_primary *primary)
{
	g_autofree wire_u64 *digests = g_new(wire_u64, CKPT_BATCH_MAX / sizeof(wire_u64));

	for (guint64 page = 0; primary->verify && page < primary->pages;) {
		guint n = 0;
		struct iovec iov = { digests, 0 };

		for (; n < CKPT_BATCH_MAX / sizeof(*digests) && page < primary->pages; n++)
			digests[n] = wire_put64(primary->verify[page++]);
		iov.iov_len = n * sizeof(*digests);
		if (!ckpt_link_send(primary->link, CKPT_VERIFY, primary->epoch, &iov, 1))
			return FALSE;
	}
	return TRUE;
}

static gboolean send_verify_disk(ckpt_primary *primary)
{
	guint at_once = CKPT_BATCH_MAX / sizeof(struct ckpt_verify_range);

	for (guint at = 0; at < primary->verify_disk->len; at += at_once) {
		guint n = MIN(at_once, primary->verify_disk->len - at);
		struct iovec iov = { &g_array_index(primary->verify_disk,
						    struct ckpt_verify_range, at),
				     n * sizeof(struct ckpt_verify_range) };

		if (!ckpt_link_send(primary->link, CKPT_VERIFY_DISK, primary->epoch, &iov, 1))
			return FALSE;
	}
	return TRUE;
}

static gboolean send_state_and_end(ckpt_primary *primary)
{
	g_autoptr(GByteArray) packed = g_byte_array_new();
	struct ckpt_end end = { 0 };
	gsize length;
	const guint8 *bytes = vmm_state_bytes(primary->state_bytes, &length);
	struct iovec iov = { &end, sizeof(end) };

	end.pages = wire_put64(primary->now.sent + primary->now.twin);
	end.state_checksum = wire_put64(XXH3_64bits(bytes, length));
	end.verify = wire_put64(primary->verify ? primary->pages : 0);
	end.verify_disk = wire_put64(primary->verify_disk->len);
	ckpt_state_pack(bytes, length, primary->state_before, packed);
	primary->now.bytes += sizeof(end) + sizeof(struct wire_frame);
	if (!ckpt_primary_send_batch(primary, CKPT_STATE, &packed) ||
	    !send_verify(primary) || !send_verify_disk(primary))
		return FALSE;
	/* Without a commit nobody will ask for it any more. */
	g_byte_array_set_size(primary->state_before, 0);
	g_byte_array_append(primary->state_before, bytes, (guint)length);
	/* From here on a commit can be true. */
	g_mutex_lock(&primary->lock);
	primary->ended = primary->epoch;
	g_mutex_unlock(&primary->lock);
	return ckpt_link_send(primary->link, CKPT_END, primary->epoch, &iov, 1);
}

gboolean ckpt_primary_ship(ckpt_primary *primary, gboolean run)
{
	struct iovec iov = { &primary->cut, sizeof(primary->cut) };

	return ckpt_link_send(primary->link, CKPT_CUT, primary->epoch, &iov, 1) &&
	       send_pages(primary, run) && send_state_and_end(primary);
}
