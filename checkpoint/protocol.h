/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What primary and secondary say to each other over a channel (base/channel.h).
 *
 *	primary					secondary
 *	HELLO					HELLO		both judge the other's
 *	SYNC_PAGES, SYNC_DISK ...		SYNC_DISK	first sync, guest runs; pages
 *			over more connections too (checkpoint/lanes.h)
 *	SYNCED		at the first cut: disk writes before it are the disk's
 *			content, those after it are held; overtakes pages
 *	CUT epoch n
 *	PAGES, DIGESTS ...			WANTED		which digests did not match
 *	PAGES (those wanted)
 *	STATE, VERIFY ..., VERIFY_DISK ..., END
 *						COMMITTED n	the commit point
 *						APPLIED n	with how long it took
 *	ADDRESSES, FILTER	with a cut, where they changed
 *	LISTEN			whether anybody listens to OUTPUT
 *						OUTPUT		what its guest sends
 *	INPUT, DISK_WRITE	whenever they happen, numbered
 *						NEED		asks for a checkpoint, with why
 *	PING					PING		so that silence means loss
 *	BYE					BYE		the end, with why
 *
 * The commit covers everything up to the numbers in its CUT: input, disk writes, pages.
 * From CUT to END, in WANTED, COMMITTED and APPLIED a frame's epoch says which checkpoint it
 * is of; in FILTER with which it begins to count, in OUTPUT in which epoch the guest sent it,
 * which is after that one's COMMITTED; elsewhere it is not looked at.
 */
#ifndef CKPT_PROTOCOL_H
#define CKPT_PROTOCOL_H

#include "base/channel.h"
#include "checkpoint/pages.h"
#include "checkpoint/state_wire.h"
#include "kvm/cpuid_rows.h"

#define CKPT_PROTOCOL_VERSION 1
#define CKPT_BATCH_MAX (1u << 20) /* bytes of a batch of pages or digests */
#define CKPT_NET_HEADER 12u /* virtio_net_hdr, before each frame */
#define CKPT_FRAME_MIN (CKPT_NET_HEADER + 14u) /* an Ethernet header */
#define CKPT_FRAME_MAX (CKPT_NET_HEADER + 65550u) /* as VMM_NET_FRAME_MAX */
#define CKPT_TEXT_MAX 512u
#define CKPT_SILENCE_MIN_MS 50u
#define CKPT_SILENCE_MAX_MS 600000u
#define CKPT_HELLO_MAX (64u << 10)
#define CKPT_LANES_MAX 8u /* connections of a first sync, the link included */
#define CKPT_TOKEN 16u /* random bytes that say which session a connection is of */

enum ckpt_message {
	CKPT_HELLO = 1,
	CKPT_SYNC_PAGES = 2,
	CKPT_CUT = 3,
	CKPT_PAGES = 4,
	CKPT_DIGESTS = 5,
	CKPT_WANTED = 6,
	CKPT_STATE = 7,
	CKPT_END = 8,
	CKPT_COMMITTED = 9,
	CKPT_APPLIED = 10,
	CKPT_INPUT = 11,
	CKPT_DISK_WRITE = 12,
	CKPT_SYNC_DISK = 13,
	CKPT_NEED = 14,
	CKPT_PING = 15,
	CKPT_BYE = 16,
	CKPT_VERIFY = 17,
	CKPT_SYNCED = 18,
	CKPT_VERIFY_DISK = 19,
	CKPT_ADDRESSES = 20,
	CKPT_JOIN = 21,
	CKPT_SYNC_END = 22,
	CKPT_OUTPUT = 23,
	CKPT_LISTEN = 24,
	CKPT_FILTER = 25,
};

/* One row for each, for the channel. */
extern const struct base_message_rule ckpt_rules[];

/* Why a side ends replication: what its peer's supervisor goes by. */
enum ckpt_ending {
	CKPT_END_FAULT = 0, /* something is wrong, which the text says */
	CKPT_END_UNPROTECT = 1, /* by command; the guest goes on */
	CKPT_END_QUIT = 2, /* the program was told to end */
	CKPT_END_POWEROFF = 3, /* the guest switched itself off */
	CKPT_END_RESET = 4, /* the guest reset itself, which ends the program there */
	CKPT_END_RESUMED = 5, /* a guest that was handed over goes on at the primary after all */
	CKPT_END_PROMOTED = 6, /* the guest goes on at the secondary */
	CKPT_ENDS,
};

/* CKPT_BYE: this, and then at most CKPT_TEXT_MAX bytes of text. One that a newer program may
 * know and we do not is a fault. */
struct ckpt_bye {
	guint8 end; /* enum ckpt_ending */
	guint8 pad[7];
};
G_STATIC_ASSERT(sizeof(struct ckpt_bye) == 8);

#define CKPT_HELLO_NETS 8
#define CKPT_HELLO_DISKS 8

struct ckpt_hello_disk {
	wire_u64 bytes;
	wire_u32 block_size;
	guint8 readonly, can_discard, can_zero, pad;
};
G_STATIC_ASSERT(sizeof(struct ckpt_hello_disk) == 16);

/* First message each way: all that must be alike, so that unlike machines find out before
 * anything is sent. Another version may have another length, but begins with its number. */
struct ckpt_hello {
	wire_u32 version;
	guint8 primary; /* who says it */
	guint8 verify; /* the primary's wish: digests come with each checkpoint */
	guint8 hvc, rng; /* whether there is one */
	wire_u64 memory; /* bytes */
	wire_u32 cpus, nets, disks;
	wire_u32 cpuid_rows; /* how many of `cpuid` are used; the rest is zero */
	wire_u32 silence_ms; /* the primary's: so long without a word means loss */
	wire_u32 connections; /* of first sync, 1 to CKPT_LANES_MAX; 0 from the secondary */
	struct ckpt_hello_disk disk[CKPT_HELLO_DISKS];
	guint8 macs[CKPT_HELLO_NETS][8]; /* 6 used */
	struct vmm_cpuid_row cpuid[VMM_CPUID_ROWS_MAX];
	guint8 secret[CKPT_SECRET]; /* the digests' key; zero from the secondary */
	guint8 token[CKPT_TOKEN]; /* the same */
};
G_STATIC_ASSERT(sizeof(struct ckpt_hello) ==
		40 + 128 + 64 + 32 * 256 + CKPT_SECRET + CKPT_TOKEN);

/* First message of each further connection; nothing answers it but a BYE. */
struct ckpt_join {
	guint8 token[CKPT_TOKEN]; /* as the session's hello said */
	wire_u32 lane; /* which of them it is, from 1 */
	wire_u32 pad;
};
G_STATIC_ASSERT(sizeof(struct ckpt_join) == 24);

/* A checkpoint begins. */
struct ckpt_cut {
	wire_u32 reason; /* enum ckpt_reason */
	guint8 run; /* the secondary's guest is to run in this epoch: COLO mode */
	guint8 pad[3];
	wire_u64 input; /* the last input that the state has seen */
	wire_u64 disk; /* the last disk write that it has submitted */
	wire_u64 dirty; /* pages that are to come, in whatever form */
};
G_STATIC_ASSERT(sizeof(struct ckpt_cut) == 32);

/* CKPT_DIGESTS: as many of these as fit. CKPT_WANTED: page numbers (wire_u32), a subset. */
struct ckpt_page_digest {
	wire_u32 page, pad;
	wire_u64 low, high;
};
G_STATIC_ASSERT(sizeof(struct ckpt_page_digest) == 24);

/* All was sent: what the secondary must have got. */
struct ckpt_end {
	wire_u64 pages; /* those sent, and those whose digests matched */
	wire_u64 state_checksum; /* XXH3-64 of the state's bytes */
	wire_u64 verify; /* pages whose digests came (checkpoint/verify.h): all or 0 */
	wire_u64 verify_disk; /* ranges of disks */
};
G_STATIC_ASSERT(sizeof(struct ckpt_end) == 32);

/* CKPT_VERIFY: digests of consecutive pages (wire_u64), from the first on. */

#define CKPT_VERIFY_RANGE_MAX (1u << 20) /* bytes */
#define CKPT_VERIFY_RANGES_MAX 16384u /* of one checkpoint: what is over is not looked at */

/* CKPT_VERIFY_DISK: as many of these as fit. */
struct ckpt_verify_range {
	wire_u64 offset, digest; /* XXH3-64 of what the guest wrote there last */
	wire_u32 length; /* at most CKPT_VERIFY_RANGE_MAX */
	guint8 disk;
	guint8 pad[3];
};
G_STATIC_ASSERT(sizeof(struct ckpt_verify_range) == 24);

struct ckpt_applied {
	wire_u64 apply_ns; /* the guest stood still */
	wire_u64 private_pages;
	wire_u64 own_dirty; /* pages that its guest had written */
};
G_STATIC_ASSERT(sizeof(struct ckpt_applied) == 24);

/* Input of the guest; its bytes follow. */
struct ckpt_input_head {
	wire_u64 number; /* from 1, without a gap */
	guint8 kind; /* enum ckpt_input_kind */
	guint8 device; /* which network card */
	guint8 pad[6];
};
G_STATIC_ASSERT(sizeof(struct ckpt_input_head) == 16);

/* What a card of the guest calls itself; its addresses (struct ckpt_address, at most
 * CKPT_ADDRESSES_ALL) follow, in the order of ckpt_addresses_copy(). */
struct ckpt_addresses_head {
	guint8 net; /* which network card */
	guint8 pad[7];
};
G_STATIC_ASSERT(sizeof(struct ckpt_addresses_head) == 8);

#define CKPT_OUTPUT_MAX (256u << 10) /* bytes of one CKPT_OUTPUT */

/* CKPT_OUTPUT: frames of the secondary's guest, each behind one of these; at least one. */
struct ckpt_output_head {
	wire_u32 length; /* of the frame with its virtio_net_hdr */
	guint8 device; /* which network card */
	guint8 lost; /* frames of this epoch, before this one, were not sent */
	guint8 pad[2];
};
G_STATIC_ASSERT(sizeof(struct ckpt_output_head) == 8);

struct ckpt_listen {
	guint8 on;
	guint8 pad[7];
};
G_STATIC_ASSERT(sizeof(struct ckpt_listen) == 8);

#define CKPT_FILTER_MAX (16u << 20) /* bytes of a filter's state */

/* CKPT_FILTER: a part of the state of the primary's frame filter (checkpoint/filter.h), which
 * counts once the checkpoint is applied. Parts come in order, until there is all of it. */
struct ckpt_filter_head {
	wire_u64 total, offset;
};
G_STATIC_ASSERT(sizeof(struct ckpt_filter_head) == 16);

/* A write of the guest; for WRITE its data follows. */
struct ckpt_disk_head {
	wire_u64 number; /* from 1, without a gap, over all disks */
	guint8 disk;
	guint8 op; /* enum vmm_disk_op: WRITE, DISCARD or ZEROES */
	guint8 unmap;
	guint8 pad[5];
	wire_u64 offset, length;
};
G_STATIC_ASSERT(sizeof(struct ckpt_disk_head) == 32);

enum ckpt_reason {
	CKPT_REASON_SYNC, /* first sync is near its end */
	CKPT_REASON_REQUEST,
	CKPT_REASON_AGE,
	CKPT_REASON_DIRTY, /* dirty bytes over budget */
	CKPT_REASON_PRIVATE, /* the secondary's private pages */
	CKPT_REASON_DISK, /* held disk writes over budget */
	CKPT_REASON_INPUT, /* kept input over budget */
	CKPT_REASON_DIVERGED, /* the comparator asks */
	CKPT_REASON_PERIOD, /* buffered mode */
	CKPT_REASON_HANDOVER, /* the primary's guest does not go on from here */
	CKPT_REASON_ENDED, /* it has switched itself off, or reset */
	CKPT_REASONS,
};
/* What a BYE says, fit for a log line: anything but printable ASCII is a question mark. Freed
 * by the caller. */
char *ckpt_text(const struct base_message *bye);
enum ckpt_ending ckpt_end_of(const struct base_message *bye);
/* A word for the log and events: "quit", "poweroff", ... */
const char *ckpt_end_name(enum ckpt_ending end);
const char *ckpt_reason_name(enum ckpt_reason reason);

#endif
