/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes, times and rates as people write them. */
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

gboolean base_parse_rate(const char *text, guint64 *bytes_per_s)
{
	g_autofree char *size = NULL;

	if (!g_str_has_suffix(text, "/s"))
		return FALSE;
	size = g_strndup(text, strlen(text) - 2);
	/* "100/s" could be anything a second. */
	return strspn(size, "0123456789") < strlen(size) &&
	       base_parse_size(size, bytes_per_s);
}

/* From the longest on, as they are looked for when writing. */
static const struct {
	const char *name;
	guint64 ms;
} times[] = {
	{ "h", 3600000 },
	{ "min", 60000 },
	{ "s", 1000 },
	{ "ms", 1 },
};

gboolean base_parse_time(const char *text, guint64 *ms)
{
	char *end;
	guint64 value;

	if (!g_ascii_isdigit(text[0]))
		return FALSE;
	value = g_ascii_strtoull(text, &end, 10);
	for (guint i = 0; i < G_N_ELEMENTS(times); i++) {
		if (strcmp(end, times[i].name))
			continue;
		if (value > (G_MAXUINT64 - 1) / times[i].ms)
			return FALSE;
		*ms = value * times[i].ms;
		return TRUE;
	}
	return FALSE;
}

char *base_format_size(guint64 bytes)
{
	static const char *const units[] = { "", "KiB", "MiB", "GiB", "TiB" };
	guint unit = 0;

	for (; bytes && bytes % 1024 == 0 && unit + 1 < G_N_ELEMENTS(units); unit++)
		bytes /= 1024;
	return g_strdup_printf("%" G_GUINT64_FORMAT "%s", bytes, units[unit]);
}

char *base_format_time(guint64 ms)
{
	guint unit = 0;

	while (ms % times[unit].ms)
		unit++;
	if (!ms)
		unit = G_N_ELEMENTS(times) - 1;
	return g_strdup_printf("%" G_GUINT64_FORMAT "%s", ms / times[unit].ms,
			       times[unit].name);
}
