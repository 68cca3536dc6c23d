/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which pages are equal: keyed digests, and pages of zeros. */
#include "checkpoint/pages.h"

#include <string.h>
/* The plain functions are built for the oldest processors and take seven times as long.
 */
#include <xxh_x86dispatch.h>

#define KEY (CKPT_SECRET / 2)
G_STATIC_ASSERT(KEY >= XXH3_SECRET_SIZE_MIN);

struct ckpt_digester {
	guint8 low[KEY], high[KEY];
};

ckpt_digester *ckpt_digester_new(const guint8 secret[CKPT_SECRET])
{
	ckpt_digester *digester = g_new(ckpt_digester, 1);

	memcpy(digester->low, secret, KEY);
	memcpy(digester->high, secret + KEY, KEY);
	/* At its first long input the library asks which instructions there are: now,
	 * so that no two threads do it. */
	XXH3_64bits_withSecret(secret, CKPT_SECRET, digester->low, KEY);
	return digester;
}

void ckpt_digester_free(ckpt_digester *digester)
{
	if (!digester)
		return;
	explicit_bzero(digester, sizeof(*digester));
	g_free(digester);
}

struct ckpt_digest ckpt_digest_page(const ckpt_digester *digester, const void *page)
{
	return (struct ckpt_digest){
		.low = XXH3_64bits_withSecret(page, CKPT_PAGE, digester->low, KEY),
		.high = XXH3_64bits_withSecret(page, CKPT_PAGE, digester->high, KEY),
	};
}

gboolean ckpt_page_is_zero(const void *page)
{
	const guint8 *bytes = page;
	guint64 first;

	memcpy(&first, bytes, sizeof(first));
	/* All are as those eight bytes before them. */
	return !first &&
	       !memcmp(bytes, bytes + sizeof(first), CKPT_PAGE - sizeof(first));
}
