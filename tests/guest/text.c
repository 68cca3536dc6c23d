/* SPDX-License-Identifier: GPL-2.0-or-later */
/* text.c - making and taking apart text, and the few functions that gcc calls itself.
 */
#include "text.h"

static char command_line[2048];

void *memcpy(void *to, const void *from, u64 n)
{
	void *result = to;
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return result;
}

void *memset(void *to, int value, u64 n)
{
	void *result = to;
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
	return result;
}

int memcmp(const void *a, const void *b, u64 n)
{
	const u8 *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

u32 text_length(const char *s)
{
	u32 n = 0;

	while (s[n])
		n++;
	return n;
}

bool text_equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

struct sink {
	char *out;
	u32 size, length;
};

static void put(struct sink *sink, char c)
{
	if (sink->length + 1 < sink->size)
		sink->out[sink->length++] = c;
}

static void put_number(struct sink *sink, u64 value, u32 base, u32 width, char pad)
{
	char digits[24];
	u32 n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (width > n) {
		put(sink, pad);
		width--;
	}
	while (n)
		put(sink, digits[--n]);
}

u32 format_list(char *out, u32 size, const char *how, __builtin_va_list list)
{
	struct sink sink = { out, size, 0 };

	for (; *how; how++) {
		char pad = ' ';
		u32 width = 0;
		bool is_long = false;

		if (*how != '%') {
			put(&sink, *how);
			continue;
		}
		how++;
		if (*how == '0')
			pad = *how++;
		while (*how >= '0' && *how <= '9')
			width = width * 10 + (*how++ - '0');
		if (*how == 'l') {
			is_long = true;
			how++;
		}
		switch (*how) {
		case 's': {
			const char *s = __builtin_va_arg(list, const char *);
			while (*s)
				put(&sink, *s++);
			break;
		}
		case 'c':
			put(&sink, __builtin_va_arg(list, int));
			break;
		case 'd': {
			s64 v = is_long ? __builtin_va_arg(list, s64)
					: __builtin_va_arg(list, s32);
			if (v < 0)
				put(&sink, '-');
			put_number(&sink, v < 0 ? -(u64)v : (u64)v, 10, width, pad);
			break;
		}
		case 'u':
		case 'x': {
			u64 v = is_long ? __builtin_va_arg(list, u64)
					: __builtin_va_arg(list, u32);
			put_number(&sink, v, *how == 'x' ? 16 : 10, width, pad);
			break;
		}
		default:
			put(&sink, *how);
		}
	}
	if (size)
		out[sink.length] = 0;
	return sink.length;
}

u32 format(char *out, u32 size, const char *how, ...)
{
	__builtin_va_list list;
	u32 n;

	__builtin_va_start(list, how);
	n = format_list(out, size, how, list);
	__builtin_va_end(list);
	return n;
}

u32 format_more(char *out, u32 size, const char *how, ...)
{
	__builtin_va_list list;
	u32 n = text_length(out);

	__builtin_va_start(list, how);
	n += format_list(out + n, size - n, how, list);
	__builtin_va_end(list);
	return n;
}

char *next_word(char **line)
{
	char *p = *line, *word;

	while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')
		p++;
	if (!*p) {
		*line = p;
		return NULL;
	}
	word = p;
	while (*p && *p != ' ' && *p != '\t' && *p != '\r' && *p != '\n')
		p++;
	if (*p)
		*p++ = 0;
	*line = p;
	return word;
}

bool to_number(const char *word, u64 *value)
{
	u64 v = 0;
	u32 base = 10;

	if (word[0] == '0' && word[1] == 'x') {
		base = 16;
		word += 2;
	}
	if (!*word)
		return false;
	for (; *word; word++) {
		u32 digit;

		if (*word >= '0' && *word <= '9')
			digit = *word - '0';
		else if (base == 16 && (*word | 32) >= 'a' && (*word | 32) <= 'f')
			digit = (*word | 32) - 'a' + 10;
		else
			return false;
		v = v * base + digit;
	}
	*value = v;
	return true;
}

void option_init(const char *line)
{
	u32 n = text_length(line);

	if (n >= sizeof(command_line))
		n = sizeof(command_line) - 1;
	memcpy(command_line, line, n);
	command_line[n] = 0;
}

/* Where the value of `name` starts: after '=', or at the end of a bare flag. */
static const char *find_option(const char *name)
{
	const char *p = command_line;
	u32 n = text_length(name);

	while (*p) {
		while (*p == ' ')
			p++;
		if (!memcmp(p, name, n) && (p[n] == '=' || p[n] == ' ' || !p[n]))
			return p + n;
		/* A quoted value may hold spaces: cmd="ping;mark up". */
		for (bool quoted = false; *p && (quoted || *p != ' '); p++)
			if (*p == '"')
				quoted = !quoted;
	}
	return NULL;
}

bool option(const char *name, char *value, u32 size)
{
	const char *p = find_option(name);
	bool quoted = false;
	u32 n = 0;

	if (!p || *p != '=')
		return false;
	for (p++; *p && (quoted || *p != ' '); p++) {
		if (*p == '"')
			quoted = !quoted;
		else if (n + 1 < size)
			value[n++] = *p;
	}
	value[n] = 0;
	return true;
}

bool option_flag(const char *name)
{
	return find_option(name) != NULL;
}

u64 option_number(const char *name, u64 otherwise)
{
	char value[32];
	u64 number;

	if (option(name, value, sizeof(value)) && to_number(value, &number))
		return number;
	return otherwise;
}

u64 fnv1a(u64 hash, const void *data, u64 n)
{
	const u8 *p = data;

	while (n--)
		hash = (hash ^ *p++) * 0x100000001b3ul;
	return hash;
}

u64 mix64(u64 x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ul;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebul;
	return x ^ x >> 31;
}
