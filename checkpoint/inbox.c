/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Notes from threads to the main context. */
#include "checkpoint/inbox.h"

struct ckpt_inbox {
	gatomicrefcount refs;
	/* Of the main context alone. */
	void (*read)(void *data, struct ckpt_note *note); /* NULL: closed */
	void (*drop)(const struct ckpt_note *note);
	void *data;
};

struct letter {
	ckpt_inbox *inbox;
	struct ckpt_note note;
};

ckpt_inbox *ckpt_inbox_new(void (*read)(void *data, struct ckpt_note *note),
			   void (*drop)(const struct ckpt_note *note), void *data)
{
	ckpt_inbox *inbox = g_new0(ckpt_inbox, 1);

	g_atomic_ref_count_init(&inbox->refs);
	inbox->read = read;
	inbox->drop = drop;
	inbox->data = data;
	return inbox;
}

ckpt_inbox *ckpt_inbox_ref(ckpt_inbox *inbox)
{
	g_atomic_ref_count_inc(&inbox->refs);
	return inbox;
}

void ckpt_inbox_unref(ckpt_inbox *inbox)
{
	if (inbox && g_atomic_ref_count_dec(&inbox->refs))
		g_free(inbox);
}

void ckpt_inbox_close(ckpt_inbox *inbox)
{
	inbox->read = NULL;
}

static gboolean deliver(gpointer data)
{
	struct letter *letter = data;

	if (letter->inbox->read)
		letter->inbox->read(letter->inbox->data, &letter->note);
	return G_SOURCE_REMOVE;
}

static void free_letter(gpointer data)
{
	struct letter *letter = data;

	if (letter->note.thing)
		letter->inbox->drop(&letter->note);
	ckpt_inbox_unref(letter->inbox);
	g_free(letter->note.text);
	g_free(letter);
}

void ckpt_inbox_post(ckpt_inbox *inbox, const struct ckpt_note *note)
{
	struct letter *letter = g_new0(struct letter, 1);

	letter->inbox = ckpt_inbox_ref(inbox);
	letter->note = *note;
	letter->note.text = g_strdup(note->text);
	/* Before redrawing and the like there is nothing: an idle source at this priority is
	 * as quick as any other. */
	g_idle_add_full(G_PRIORITY_DEFAULT, deliver, letter, free_letter);
}
