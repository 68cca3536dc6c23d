/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pair's secret, which both nodes have in a file: 32 to 64 bytes in hexadecimal. It
 * is never part of an error or a log line.
 */
#ifndef BASE_KEY_H
#define BASE_KEY_H

#include "base/error.h"

#define BASE_KEY_MIN 32 /* bytes */
#define BASE_KEY_MAX 64

/* Its memory is locked, kept out of core files, and wiped when freed. */
typedef struct base_key base_key;
/* Refused (BASE_CHANNEL_KEY) unless the file is regular (a symbolic link is not), of
 * mode 0600 or 0400 and owned by the caller or root. One newline may end it. */
base_key *base_key_read(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Makes a new one of 32 random bytes in a file that must not exist yet. */
gboolean base_key_generate(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The key's; whoever copies them wipes the copy. */
const guint8 *base_key_bytes(const base_key *key, gsize *length);
void base_key_free(base_key *key);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(base_key, base_key_free)

#endif
