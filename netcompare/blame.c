/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which services diverge. */
#include "netcompare/blame.h"

#include <stdlib.h>
#include <string.h>

static guint64 total(const struct ncmp_blame *blame)
{
	guint64 sum = 0;

	for (guint i = 0; i < NCMP_CAUSES; i++)
		sum += blame->count[i];
	return sum;
}

static struct ncmp_blame *find(struct ncmp_blames *blames, guint8 protocol,
			       guint16 port)
{
	struct ncmp_blame *blame = blames->blames, *least = blame;

	for (guint i = 0; i < blames->count; i++, blame++) {
		if (blame->protocol == protocol && blame->port == port)
			return blame;
		if (total(blame) < total(least))
			least = blame;
	}
	if (blames->count < NCMP_BLAMES_MAX)
		least = &blames->blames[blames->count++];
	memset(least, 0, sizeof(*least));
	least->protocol = protocol;
	least->port = port;
	return least;
}

void ncmp_blames_add(struct ncmp_blames *blames, guint8 protocol, guint16 port,
		     enum ncmp_cause cause)
{
	find(blames, protocol, port)->count[cause]++;
}

static int more_first(const void *a, const void *b)
{
	guint64 x = total(a), y = total(b);

	return x < y ? 1 : -(x > y);
}

guint ncmp_blames_get(const struct ncmp_blames *blames, struct ncmp_blame *to,
		      guint max)
{
	struct ncmp_blame sorted[NCMP_BLAMES_MAX];
	guint n = MIN(max, blames->count);

	if (!n)
		return 0;
	memcpy(sorted, blames->blames, blames->count * sizeof(*sorted));
	qsort(sorted, blames->count, sizeof(*sorted), more_first);
	memcpy(to, sorted, n * sizeof(*sorted));
	return n;
}
