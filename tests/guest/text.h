/* SPDX-License-Identifier: GPL-2.0-or-later */
/* text.h - making and taking apart text. */
#ifndef GUEST_TEXT_H
#define GUEST_TEXT_H

#include "types.h"

#define LINE_MAX 1024

u32 text_length(const char *s);
bool text_equal(const char *a, const char *b);

/* %s %c %d %u %x and %lu %lx %ld, with a width and 0 as in printf. Always terminates
 * `out`; what does not fit is lost. Returns the length. */
u32 format(char *out, u32 size, const char *how, ...)
	__attribute__((format(printf, 3, 4)));
u32 format_more(char *out, u32 size, const char *how, ...)
	__attribute__((format(printf, 3, 4)));
u32 format_list(char *out, u32 size, const char *how, __builtin_va_list list);

/* Cuts the next word off *line, NULL at the end. */
char *next_word(char **line);
/* Decimal or 0x hexadecimal, nothing else. */
bool to_number(const char *word, u64 *value);
/* The value of `name=` on the kernel command line, copied; false if it is not there. */
bool option(const char *name, char *value, u32 size);
bool option_flag(const char *name);
u64 option_number(const char *name, u64 otherwise);
void option_init(const char *command_line);

/* FNV-1a, 64 bits: start with FNV_START. */
#define FNV_START 0xcbf29ce484222325ul
u64 fnv1a(u64 hash, const void *data, u64 n);
/* A bijective mix of 64 bits (splitmix64's finisher). */
u64 mix64(u64 x);

#endif
