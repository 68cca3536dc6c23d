/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands between a guest's cards and everything else of its network, and may
 * change frames both ways. Replication neither knows nor cares what it is for; it
 * promises where it stands and when it is asked:
 *
 * - Nearest to the guest. What is mirrored to a secondary, kept there and given again
 *   is as it came from outside; each node's own filter changes what its own guest gets.
 *   Not so for frames that a promoted guest had not read yet: those are changed once,
 *   before anybody could be mirrored to.
 * - A checkpoint carries its state from the primary to the secondary, where it is
 *   loaded with the machine's, or not at all.
 *
 * All functions are called with the device lock held.
 */
#ifndef CKPT_FILTER_H
#define CKPT_FILTER_H

#include <glib.h>

enum ckpt_filter_verdict {
	CKPT_FILTER_AS_IT_WAS,
	CKPT_FILTER_CHANGED,
	/* Only of what a primary mirrored: not before the guest has sent more, a
	 * checkpoint was applied, or `hold_ms` have passed, and is then shown again;
	 * nothing behind it before it. Elsewhere: as it was. */
	CKPT_FILTER_HOLD,
};

#define CKPT_FILTER_NOTED 2048u
#define CKPT_FILTER_NOTE_MAX 256u

struct ckpt_filter_ops {
	void *(*new)(void);
	void (*free)(void *filter);
	/* TRUE: nothing that comes to or from the guest would be changed, nor need it
	 * be shown. A secondary's guest's frames are shown nevertheless. */
	gboolean (*is_idle)(void *filter);
	/* A frame for the guest, without virtio_net_hdr, changed in place. `partial`:
	 * of its checksum whoever segments does the rest. */
	enum ckpt_filter_verdict (*in)(void *filter, guint device, guint8 *frame,
				       gsize len, gboolean partial);
	/* How long what was held just now may be; NULL: no limit. */
	guint (*hold_ms)(void *filter);
	/* One that the guest sends. It may be shown more than once, where there is no
	 * room to send it on. */
	enum ckpt_filter_verdict (*out)(void *filter, guint device, guint8 *frame,
					gsize len, gboolean partial);
	/* On a primary, whether its filter is idle or not: what a secondary's should
	 * know of a frame that the guest sent (as it left), between the frames that the
	 * guest has had and those that it gets later. Bytes of a note, at most
	 * CKPT_FILTER_NOTE_MAX; 0: nothing. Frames of more than CKPT_FILTER_NOTED bytes
	 * are not shown. May be NULL. */
	gsize (*note)(guint device, const guint8 *frame, gsize len, guint8 *note);
	/* On the secondary, in its place among the frames. NULL, or why it is refused
	 * (static text), and then nothing changed. May be NULL. */
	const char *(*learn)(void *filter, const guint8 *note, gsize len);
	/* Appends its state; nothing where a new one would do. */
	void (*save)(void *filter, GByteArray *bytes);
	/* The guest is now at a checkpoint of another node's, whose filter saved this
	 * (`len` may be 0). NULL, or why not (static text), and then nothing changed.
	 * What one takes, another takes too. */
	const char *(*load)(void *filter, const guint8 *bytes, gsize len);
	/* This guest is the one that counts from here on. */
	void (*promote)(void *filter);
};

#endif
