/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every format that leaves a process: saved state, save files.
 *
 * Little-endian throughout. The wire types refuse arithmetic, so that no field is used
 * without being converted. Layout is natural alignment with explicit padding that is
 * zero when written and must be zero when read. Numbers are never reused.
 */
#ifndef BASE_WIRE_H
#define BASE_WIRE_H

#include <glib.h>

typedef struct {
	guint16 le;
} wire_u16;
typedef struct {
	guint32 le;
} wire_u32;
typedef struct {
	guint64 le;
} wire_u64;

static inline wire_u16 wire_put16(guint16 v)
{
	return (wire_u16){ GUINT16_TO_LE(v) };
}
static inline wire_u32 wire_put32(guint32 v)
{
	return (wire_u32){ GUINT32_TO_LE(v) };
}
static inline wire_u64 wire_put64(guint64 v)
{
	return (wire_u64){ GUINT64_TO_LE(v) };
}
static inline guint16 wire_get16(wire_u16 v)
{
	return GUINT16_FROM_LE(v.le);
}
static inline guint32 wire_get32(wire_u32 v)
{
	return GUINT32_FROM_LE(v.le);
}
static inline guint64 wire_get64(wire_u64 v)
{
	return GUINT64_FROM_LE(v.le);
}

/*
 * Saved state: a header, then sections that each say what they are. Section payloads
 * are the structs named beside the device that saves them.
 */
#define WIRE_STATE_MAGIC 0x54534f43u /* "COST" */
#define WIRE_STATE_VERSION 1
#define WIRE_STATE_MAX (16u << 20) /* bytes of a whole state after its header */
#define WIRE_SECTION_MAX (1u << 20) /* bytes of one section's payload */
#define WIRE_SECTIONS_MAX 1024u
#define WIRE_SECTION_NAME 16 /* bytes, padded with NUL; may fill the field */

struct wire_state_header {
	wire_u32 magic;
	wire_u16 version;
	wire_u16 sections; /* how many follow, at most WIRE_SECTIONS_MAX */
	wire_u64 length; /* bytes after this header, at most WIRE_STATE_MAX */
	wire_u64 checksum; /* XXH3-64 of those bytes */
};
G_STATIC_ASSERT(sizeof(struct wire_state_header) == 24);

struct wire_section_header {
	char name[WIRE_SECTION_NAME];
	wire_u16 version; /* of this section's payload */
	wire_u16 instance; /* vCPU or device number */
	wire_u32 length; /* payload bytes; the next section starts 8-aligned */
};
G_STATIC_ASSERT(sizeof(struct wire_section_header) == 24);

/*
 * A saved machine, in a file or on a socket: a header, the saved state above (everything
 * but memory, so that all of it is judged before memory comes), then guest memory as
 * chunks that cover every page once and in order, then one end chunk.
 */
#define WIRE_SAVE_MAGIC 0x4d564f43u /* "COVM" */
#define WIRE_SAVE_VERSION 1
#define WIRE_SAVE_CHUNK_PAGES 256u /* a raw chunk lies within one aligned MiB */

struct wire_save_header {
	wire_u32 magic;
	wire_u16 version;
	wire_u16 cpus;
	wire_u64 memory; /* bytes */
	wire_u64 state; /* bytes of saved state that follow */
	wire_u64 checksum; /* XXH3-64 of the fields above */
};
G_STATIC_ASSERT(sizeof(struct wire_save_header) == 32);

enum wire_save_kind {
	WIRE_SAVE_ZERO = 1, /* `pages` pages of zeros; nothing follows */
	WIRE_SAVE_RAW = 2, /* the pages themselves follow */
	WIRE_SAVE_END = 3, /* `first`: pages of memory, `pages`: 0 */
};

struct wire_save_chunk {
	wire_u32 kind;
	wire_u32 pages; /* of 4096 bytes */
	wire_u64 first; /* page number: offset in guest memory's file divided by 4096 */
	/* RAW: XXH3-64 of the pages. ZERO: 0. END: XXH3-64 of the header, the state and
	 * every chunk header before this one, which covers the pages by their checksums. */
	wire_u64 checksum;
};
G_STATIC_ASSERT(sizeof(struct wire_save_chunk) == 24);

/*
 * Messages between two hosts: a frame each, inside TLS (base/channel.h). The checksum is
 * XXH3-64 of the frame with the checksum itself zero, then the payload: TLS keeps others out,
 * the checksum finds our own memory's and programs' errors.
 */
#define WIRE_FRAME_MAGIC 0x4d4f4c43u /* "CLOM" */
#define WIRE_FRAME_VERSION 1
#define WIRE_PAYLOAD_MAX (4u << 20) /* bytes after the frame */

struct wire_frame {
	wire_u32 magic;
	wire_u16 version;
	wire_u16 type; /* enum wire_message */
	wire_u32 length; /* bytes after this frame, at most what the type allows */
	wire_u32 pad;
	wire_u64 epoch; /* which the message belongs to */
	wire_u64 checksum;
};
G_STATIC_ASSERT(sizeof(struct wire_frame) == 32);

/*
 * What two colods say to each other (colo/peer.h), in such frames; the epoch is 0. Types of
 * their own: whoever calls the wrong port is refused with its first message.
 */
#define WIRE_PEER_VERSION 1
#define WIRE_PEER_FILE_MAX (64u << 10) /* bytes of a pair file */
#define WIRE_PEER_TEXT_MAX 256u
enum wire_peer_type {
	WIRE_PEER_HELLO = 64,
	WIRE_PEER_STATE = 65,
	WIRE_PEER_ASK = 66,
	WIRE_PEER_ANSWER = 67,
};

/* First message each way; the pair file of the sender follows. */
struct wire_peer_hello {
	wire_u16 version;
	wire_u16 node; /* index in the pair file */
	wire_u32 zero;
	char pair[32]; /* its name, padded with NUL; may fill the field */
};
G_STATIC_ASSERT(sizeof(struct wire_peer_hello) == 40);

struct wire_peer_state {
	wire_u64 generation, epoch;
	wire_u16 state, part; /* enum colo_state, enum colo_part */
	wire_u32 flags; /* enum colo_peer_flag */
};
G_STATIC_ASSERT(sizeof(struct wire_peer_state) == 24);

struct wire_peer_ask {
	wire_u64 id; /* of the sender's choice, not 0 */
	wire_u64 generation;
	wire_u16 ask; /* enum colo_ask */
	wire_u16 zero[3];
};
G_STATIC_ASSERT(sizeof(struct wire_peer_ask) == 24);

/* Why not follows, up to WIRE_PEER_TEXT_MAX bytes. */
struct wire_peer_answer {
	wire_u64 id;
	wire_u16 yes; /* 1 or 0 */
	wire_u16 zero[3];
};
G_STATIC_ASSERT(sizeof(struct wire_peer_answer) == 16);

#endif
