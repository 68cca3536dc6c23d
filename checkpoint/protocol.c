/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may come over the channel, by type: judged before a payload is read. */
#include "checkpoint/protocol.h"

#include "checkpoint/addresses.h"
#include "checkpoint/disk_sync.h"

const struct base_message_rule ckpt_rules[] = {
	{ CKPT_HELLO, "hello", sizeof(wire_u32), CKPT_HELLO_MAX },
	{ CKPT_SYNC_PAGES, "sync pages", sizeof(struct wire_page), CKPT_BATCH_MAX },
	{ CKPT_CUT, "cut", sizeof(struct ckpt_cut), sizeof(struct ckpt_cut) },
	{ CKPT_PAGES, "pages", sizeof(struct wire_page), CKPT_BATCH_MAX },
	{ CKPT_DIGESTS, "digests", sizeof(struct ckpt_page_digest), CKPT_BATCH_MAX },
	{ CKPT_WANTED, "wanted", 0, CKPT_BATCH_MAX },
	{ CKPT_STATE, "state", sizeof(struct ckpt_state_head) + 1, WIRE_PAYLOAD_MAX },
	{ CKPT_END, "end", sizeof(struct ckpt_end), sizeof(struct ckpt_end) },
	{ CKPT_COMMITTED, "committed", 0, 0 },
	{ CKPT_APPLIED, "applied", sizeof(struct ckpt_applied), sizeof(struct ckpt_applied) },
	{ CKPT_INPUT, "input", sizeof(struct ckpt_input_head) + 1,
	  sizeof(struct ckpt_input_head) + CKPT_FRAME_MAX },
	{ CKPT_DISK_WRITE, "disk write", sizeof(struct ckpt_disk_head), WIRE_PAYLOAD_MAX },
	{ CKPT_SYNC_DISK, "sync disk", sizeof(struct ckpt_sync_head),
	  sizeof(struct ckpt_sync_head) + CKPT_SYNC_BLOCK },
	{ CKPT_SYNCED, "synced", 0, 0 },
	{ CKPT_NEED, "need", sizeof(wire_u32), sizeof(wire_u32) },
	{ CKPT_PING, "ping", 0, 0 },
	{ CKPT_VERIFY, "verify", sizeof(wire_u64), CKPT_BATCH_MAX },
	{ CKPT_VERIFY_DISK, "verify disk", sizeof(struct ckpt_verify_range), CKPT_BATCH_MAX },
	{ CKPT_ADDRESSES, "addresses", sizeof(struct ckpt_addresses_head),
	  sizeof(struct ckpt_addresses_head) +
		  CKPT_ADDRESSES_ALL * sizeof(struct ckpt_address) },
	{ CKPT_JOIN, "join", sizeof(struct ckpt_join), sizeof(struct ckpt_join) },
	{ CKPT_SYNC_END, "sync end", 0, 0 },
	{ CKPT_OUTPUT, "output", sizeof(struct ckpt_output_head) + CKPT_FRAME_MIN, CKPT_OUTPUT_MAX },
	{ CKPT_LISTEN, "listen", sizeof(struct ckpt_listen), sizeof(struct ckpt_listen) },
	{ CKPT_FILTER, "filter", sizeof(struct ckpt_filter_head),
	  sizeof(struct ckpt_filter_head) + CKPT_BATCH_MAX },
	{ CKPT_BYE, "bye", sizeof(struct ckpt_bye), sizeof(struct ckpt_bye) + CKPT_TEXT_MAX },
	{ 0 },
};

char *ckpt_text(const struct base_message *bye)
{
	const char *said = (const char *)bye->payload + sizeof(struct ckpt_bye);
	gsize len = bye->length - sizeof(struct ckpt_bye);
	char *text = len ? g_strndup(said, len) : g_strdup("no reason given");

	/* A NUL ends it early; line feeds and escapes would write log lines of their own. */
	for (char *at = text; *at; at++)
		if (!g_ascii_isprint(*at))
			*at = '?';
	return text;
}

enum ckpt_ending ckpt_end_of(const struct base_message *bye)
{
	const struct ckpt_bye *head = (const void *)bye->payload;

	return head->end < CKPT_ENDS ? (enum ckpt_ending)head->end : CKPT_END_FAULT;
}

const char *ckpt_end_name(enum ckpt_ending end)
{
	static const char *const names[CKPT_ENDS] = {
		[CKPT_END_FAULT] = "fault",	  [CKPT_END_UNPROTECT] = "unprotect",
		[CKPT_END_QUIT] = "quit",	  [CKPT_END_POWEROFF] = "poweroff",
		[CKPT_END_RESET] = "reset",	  [CKPT_END_RESUMED] = "resume",
		[CKPT_END_PROMOTED] = "promoted",
	};

	return end < CKPT_ENDS ? names[end] : "unknown";
}

const char *ckpt_reason_name(enum ckpt_reason reason)
{
	static const char *const names[CKPT_REASONS] = {
		[CKPT_REASON_SYNC] = "sync",	     [CKPT_REASON_REQUEST] = "request",
		[CKPT_REASON_AGE] = "age",	     [CKPT_REASON_DIRTY] = "dirty",
		[CKPT_REASON_PRIVATE] = "private",   [CKPT_REASON_DISK] = "disk",
		[CKPT_REASON_INPUT] = "input",	     [CKPT_REASON_DIVERGED] = "diverged",
		[CKPT_REASON_PERIOD] = "period",     [CKPT_REASON_HANDOVER] = "hand-over",
		[CKPT_REASON_ENDED] = "ended",
	};

	return reason < CKPT_REASONS ? names[reason] : "unknown";
}
