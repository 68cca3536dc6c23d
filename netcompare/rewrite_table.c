/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connections that a rewriter knows, found by key. Each is in the list of its
 * class, in the order of their last use, so that what is over is found at the front,
 * and at the limit that is given up which matters least and rested longest. A flood of
 * SYNs thus costs those connections first that nobody has answered.
 */
#include "netcompare/rewrite_private.h"

#include <string.h>
#include <xxhash.h>

/* A guest may repeat its last FIN or ACK for two segment lifetimes (RFC 9293, 3.4.2),
 * and a SYN for about two minutes. */
#define ENDED_NS (120 * G_GINT64_CONSTANT(1000000000))
#define OPENING_NS (300 * G_GINT64_CONSTANT(1000000000))

static guint hash_of(gconstpointer connection)
{
	return ((const struct ncmp_connection *)connection)->hash;
}

static gboolean is_same(gconstpointer a, gconstpointer b)
{
	const struct ncmp_connection *one = a, *other = b;

	return !memcmp(&one->key, &other->key, sizeof(one->key));
}

static enum ncmp_connection_class class_of(const struct ncmp_connection *connection)
{
	guint32 fins = NCMP_CONNECTION_FIN_IN | NCMP_CONNECTION_FIN_OUT;

	if (connection->flags & NCMP_CONNECTION_RESET ||
	    (connection->flags & fins) == fins)
		return NCMP_CLASS_ENDED;
	if (connection->flags & NCMP_CONNECTION_NATIVE)
		return NCMP_CLASS_NATIVE;
	if (!(connection->flags & WIRE_REWRITE_OPEN))
		return NCMP_CLASS_OPENING;
	return connection->delta ? NCMP_CLASS_TRANSLATED : NCMP_CLASS_PLAIN;
}

static void drop(ncmp_rewriter *rewriter, struct ncmp_connection *connection)
{
	g_queue_unlink(&rewriter->classes[connection->class], &connection->link);
	g_hash_table_remove(rewriter->table, connection);
}

static void give_one_up(ncmp_rewriter *rewriter)
{
	for (guint i = 0; i < NCMP_CLASSES; i++) {
		GList *first = rewriter->classes[i].head;

		if (!first)
			continue;
		if (i != NCMP_CLASS_NATIVE)
			rewriter->counters.forgotten++;
		drop(rewriter, first->data);
		return;
	}
}

void ncmp_table_init(ncmp_rewriter *rewriter)
{
	rewriter->table = g_hash_table_new_full(hash_of, is_same, g_free, NULL);
	for (guint i = 0; i < NCMP_CLASSES; i++)
		g_queue_init(&rewriter->classes[i]);
}

void ncmp_table_clear(ncmp_rewriter *rewriter)
{
	/* The links are in what the table frees. */
	for (guint i = 0; i < NCMP_CLASSES; i++)
		g_queue_init(&rewriter->classes[i]);
	g_hash_table_remove_all(rewriter->table);
}

void ncmp_table_swap(ncmp_rewriter *rewriter, ncmp_rewriter *other)
{
	GHashTable *table = rewriter->table;
	GQueue classes[NCMP_CLASSES];

	rewriter->ts_offset = other->ts_offset;
	rewriter->table = other->table;
	other->table = table;
	memcpy(classes, rewriter->classes, sizeof(classes));
	memcpy(rewriter->classes, other->classes, sizeof(classes));
	memcpy(other->classes, classes, sizeof(classes));
}

struct ncmp_connection *ncmp_table_find(const ncmp_rewriter *rewriter,
					const struct ncmp_flow_key *key)
{
	struct ncmp_connection like;

	if (!g_hash_table_size(rewriter->table))
		return NULL;
	like.key = *key;
	like.hash = (guint)XXH3_64bits_withSeed(key, sizeof(*key), rewriter->seed);
	return g_hash_table_lookup(rewriter->table, &like);
}

struct ncmp_connection *ncmp_table_add(ncmp_rewriter *rewriter,
				       const struct ncmp_flow_key *key, gint64 now_ns)
{
	struct ncmp_connection *connection;

	if (g_hash_table_size(rewriter->table) >= rewriter->connections_max)
		give_one_up(rewriter);
	connection = g_new0(struct ncmp_connection, 1);
	connection->key = *key;
	connection->hash =
		(guint)XXH3_64bits_withSeed(key, sizeof(*key), rewriter->seed);
	connection->used_ns = now_ns;
	connection->ts_offset = rewriter->ts_offset;
	connection->link.data = connection;
	connection->class = class_of(connection);
	g_queue_push_tail_link(&rewriter->classes[connection->class],
			       &connection->link);
	g_hash_table_add(rewriter->table, connection);
	return connection;
}

void ncmp_table_touch(ncmp_rewriter *rewriter, struct ncmp_connection *connection,
		      gint64 now_ns)
{
	enum ncmp_connection_class class = class_of(connection);

	connection->used_ns = now_ns;
	if (class == connection->class && !connection->link.next)
		return;
	g_queue_unlink(&rewriter->classes[connection->class], &connection->link);
	connection->class = class;
	g_queue_push_tail_link(&rewriter->classes[class], &connection->link);
}

static void reap(ncmp_rewriter *rewriter, enum ncmp_connection_class class,
		 gint64 before_ns)
{
	GQueue *queue = &rewriter->classes[class];

	while (queue->head) {
		struct ncmp_connection *connection = queue->head->data;

		if (connection->used_ns > before_ns)
			return;
		drop(rewriter, connection);
	}
}

void ncmp_table_reap(ncmp_rewriter *rewriter, gint64 now_ns)
{
	reap(rewriter, NCMP_CLASS_ENDED, now_ns - ENDED_NS);
	reap(rewriter, NCMP_CLASS_OPENING, now_ns - OPENING_NS);
	/* They were kept so as not to be taken for older ones. */
	if (rewriter->settled)
		reap(rewriter, NCMP_CLASS_NATIVE, G_MAXINT64);
}
