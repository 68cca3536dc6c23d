/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes as people write them. */
#include "base/units.h"

#include <string.h>

gboolean base_parse_size(const char *text, guint64 *bytes)
{
	static const char units[] = "KMGT";
	const char *at;
	char *end;
	guint64 value;
	guint shift = 0;

	if (!g_ascii_isdigit(text[0]))
		return FALSE;
	/* Saturates at G_MAXUINT64, which the overflow check below refuses. */
	value = g_ascii_strtoull(text, &end, 10);
	if (*end && (at = strchr(units, g_ascii_toupper(*end)))) {
		shift = 10 * (guint)(at - units + 1);
		end++;
		if (!strcmp(end, "iB") || !strcmp(end, "B"))
			end += strlen(end);
	}
	if (*end || value > (G_MAXUINT64 - 1) >> shift)
		return FALSE;
	*bytes = value << shift;
	return TRUE;
}
