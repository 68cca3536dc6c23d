/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notes from threads to the main context, in the order in which they were posted. What is
 * posted after the inbox was closed is dropped, so nobody is called who is no more.
 */
#ifndef CKPT_INBOX_H
#define CKPT_INBOX_H

#include <glib.h>

struct ckpt_note {
	guint kind; /* the user's */
	guint round; /* the user's: which of several senders in a row it is from */
	guint64 number;
	void *thing; /* handed over with the note */
	char *text; /* or NULL */
};

typedef struct ckpt_inbox ckpt_inbox;

/* Made in the main context, where `read` is called. It may take a note's thing by setting
 * it to NULL; `drop` frees one that nobody took. */
ckpt_inbox *ckpt_inbox_new(void (*read)(void *data, struct ckpt_note *note),
			   void (*drop)(const struct ckpt_note *note), void *data);
/* Another owner of it, on any thread. */
ckpt_inbox *ckpt_inbox_ref(ckpt_inbox *inbox);
void ckpt_inbox_unref(ckpt_inbox *inbox);
/* No call comes any more. In the main context. */
void ckpt_inbox_close(ckpt_inbox *inbox);
/* Copies the note and its text. Any thread; never waits. */
void ckpt_inbox_post(ckpt_inbox *inbox, const struct ckpt_note *note);

#endif
