/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages as frames (base/wire.h): making them, and judging those that arrive. Nothing
 * here knows where the bytes come from or go to. One thread.
 */
#ifndef BASE_FRAME_H
#define BASE_FRAME_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/wire.h"

/* What may be received: a row for each type of message, judged before anything of a
 * payload is read. */
struct base_message_rule {
	guint16 type;
	const char *name; /* for the log */
	guint32 min, max; /* payload bytes, at most WIRE_PAYLOAD_MAX */
};

struct base_message {
	guint16 type;
	guint64 epoch;
	guint32 length;
	const guint8 *payload; /* borrowed, see there for how long; 16-aligned; NULL if
				  empty */
};

/* The frame of a message whose payload is in `iov`, at most WIRE_PAYLOAD_MAX of it. */
void base_frame_encode(struct wire_frame *frame, guint16 type, guint64 epoch,
		       const struct iovec *iov, guint count);

/* Makes messages of bytes that arrive in pieces of any size. */
typedef struct base_frame_decoder base_frame_decoder;
/* `rules` (ended by a NULL name) must outlive it. */
base_frame_decoder *base_frame_decoder_new(const struct base_message_rule *rules);
void base_frame_decoder_free(base_frame_decoder *decoder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(base_frame_decoder, base_frame_decoder_free)

/* Where the next bytes must be put, and how many at most: never 0, never beyond the
 * message. Ends what was borrowed with the message before. */
gsize base_frame_decoder_room(base_frame_decoder *decoder, guint8 **where);

enum base_frame_verdict {
	BASE_FRAME_MORE, /* so far there is nothing against it */
	BASE_FRAME_WHOLE, /* a message that may be used */
	BASE_FRAME_REFUSED, /* BASE_CHANNEL_PROTOCOL; the decoder is of no use any more
			     */
};
/* Judges what was put there. */
enum base_frame_verdict base_frame_decoder_arrived(base_frame_decoder *decoder,
						   gsize bytes,
						   struct base_message *message,
						   GError **error);
/* Whether a message is there in part. */
gboolean base_frame_decoder_begun(const base_frame_decoder *decoder);

#endif
