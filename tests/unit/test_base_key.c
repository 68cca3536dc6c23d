/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Key files: which are taken, which are refused, and that none of them leaks. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <glib/gstdio.h>

#include "base/key.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED TRUE
#else
#define SANITIZED FALSE
#endif

#define CANARY "c0ffeec0ffeec0ffee"
#define HEX32 CANARY "0123456789abcdef0123456789ABCDEF01234567890000"

static char *folder, *path;

static int make_folder(void **state)
{
	folder = g_dir_make_tmp("colo-key-XXXXXX", NULL);
	path = g_build_filename(folder, "pair.key", NULL);
	return 0;
}

static int remove_folder(void **state)
{
	g_unlink(path);
	g_rmdir(folder);
	g_free(path);
	g_free(folder);
	return 0;
}

static void write_key(const char *text, gsize length, mode_t mode)
{
	g_unlink(path);
	assert_true(g_file_set_contents(path, text, (gssize)length, NULL));
	assert_int_equal(chmod(path, mode), 0);
}

static void expect_refused(const char *why)
{
	g_autoptr(GError) error = NULL;

	assert_null(base_key_read(path, &error));
	assert_true(g_error_matches(error, BASE_CHANNEL_ERROR, BASE_CHANNEL_KEY));
	assert_non_null(strstr(error->message, why));
	assert_non_null(strstr(error->message, path));
	assert_null(strstr(error->message, "c0ffee"));
	assert_null(strchr(error->message, '\n'));
}

static void expect_accepted(gsize length)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(base_key) key = base_key_read(path, &error);
	gsize got;

	assert_null(error);
	assert_non_null(key);
	assert_memory_equal(base_key_bytes(key, &got), "\xc0\xff\xee\xc0\xff\xee", 6);
	assert_int_equal(got, length);
}

static void keys_of_32_to_64_bytes_are_read(void **state)
{
	write_key(HEX32, 64, 0600);
	expect_accepted(32);
	write_key(HEX32 "\n", 65, 0400);
	expect_accepted(32);
	write_key(HEX32 "ab", 66, 0600);
	expect_accepted(33);
	write_key(HEX32 HEX32, 128, 0600);
	expect_accepted(64);
	write_key(HEX32 HEX32 "\n", 129, 0600);
	expect_accepted(64);
}

static void what_is_not_a_key_is_refused(void **state)
{
	write_key("", 0, 0600);
	expect_refused("32 to 64 bytes");
	write_key("\n", 1, 0600);
	expect_refused("32 to 64 bytes");
	write_key(HEX32, 63, 0600);
	expect_refused("32 to 64 bytes");
	write_key(HEX32, 62, 0600);
	expect_refused("32 to 64 bytes");
	write_key(HEX32 "a", 65, 0600);
	expect_refused("32 to 64 bytes");
	write_key(HEX32 HEX32 "ab", 130, 0600);
	expect_refused("32 to 64 bytes");
	write_key(HEX32 HEX32 "ab" HEX32 HEX32, 258, 0600);
	expect_refused("32 to 64 bytes");
	write_key(HEX32 "\n\n", 66, 0600);
	expect_refused("32 to 64 bytes");
	write_key(HEX32 "\n\n\n", 67, 0600);
	expect_refused("not hexadecimal");
	write_key(HEX32 "\r\n", 66, 0600);
	expect_refused("32 to 64 bytes");
	write_key(HEX32 " x", 66, 0600);
	expect_refused("not hexadecimal");
	write_key(HEX32 "\0\0", 66, 0600);
	expect_refused("not hexadecimal");
	write_key("0x" HEX32, 66, 0600);
	expect_refused("not hexadecimal");
}

static void a_key_that_others_may_read_or_write_is_refused(void **state)
{
	const mode_t modes[] = { 0644, 0640, 0604, 0660, 0606,
				 0700, 0500, 0610, 0601, 04600 };

	for (guint i = 0; i < G_N_ELEMENTS(modes); i++) {
		g_autofree char *mode = g_strdup_printf("has mode %04o", modes[i]);

		write_key(HEX32, 64, modes[i]);
		expect_refused(mode);
	}
}

static void a_key_of_another_user_is_refused(void **state)
{
	if (geteuid() != 0) {
		print_message("# skip: giving a file away takes root\n");
		return;
	}
	write_key(HEX32, 64, 0600);
	assert_int_equal(chown(path, 12345, 0), 0);
	expect_refused("belongs to user 12345");
	g_unlink(path);
}

static void only_a_regular_file_is_a_key(void **state)
{
	g_autofree char *real = g_build_filename(folder, "real.key", NULL);

	g_unlink(path);
	expect_refused("No such file");
	write_key(HEX32, 64, 0600);
	assert_int_equal(rename(path, real), 0);
	assert_int_equal(symlink(real, path), 0);
	expect_refused("symbolic link");
	g_unlink(path);
	g_unlink(real);
	/* Nobody writes to it, and reading it does not wait. */
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_refused("not a regular file");
	g_unlink(path);
	assert_int_equal(mkdir(path, 0600), 0);
	expect_refused("not a regular file");
	g_rmdir(path);
}

static void a_generated_key_is_private_new_and_readable(void **state)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(base_key) first = NULL, second = NULL;
	const guint8 *bytes;
	struct stat status;
	gsize length;
	mode_t mask;

	g_unlink(path);
	/* Whatever the mask says. */
	mask = umask(0);
	assert_true(base_key_generate(path, &error));
	umask(mask);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(status.st_size, 65);
	first = base_key_read(path, &error);
	assert_non_null(first);
	/* What is there stays there. */
	assert_false(base_key_generate(path, &error));
	assert_true(g_error_matches(error, BASE_CHANNEL_ERROR, BASE_CHANNEL_KEY));
	assert_non_null(strstr(error->message, "File exists"));
	g_clear_error(&error);
	g_unlink(path);
	mask = umask(0777);
	assert_true(base_key_generate(path, &error));
	umask(mask);
	second = base_key_read(path, &error);
	assert_non_null(second);
	bytes = base_key_bytes(first, &length);
	assert_int_equal(length, 32);
	assert_memory_not_equal(bytes, base_key_bytes(second, &length), 32);
	assert_int_equal(length, 32);
}

static void a_key_that_cannot_be_made_leaves_nothing(void **state)
{
	g_autofree char *nowhere = g_build_filename(folder, "no", "where.key", NULL);
	g_autoptr(GError) error = NULL;
	struct rlimit before, limit;

	assert_false(base_key_generate(nowhere, &error));
	assert_non_null(strstr(error->message, "No such file"));
	g_clear_error(&error);
	g_unlink(path);
	assert_int_equal(symlink("/dev/full", path), 0);
	assert_false(base_key_generate(path, &error));
	g_clear_error(&error);
	g_unlink(path);
	/* A disk that is full after a few bytes. */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = (struct rlimit){ 10, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_false(base_key_generate(path, &error));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_non_null(strstr(error->message, "write key"));
	assert_int_equal(access(path, F_OK), -1);
}

/* The memory of the key is locked and kept out of core files, as the kernel tells it.
 */
static void the_memory_of_a_key_is_locked_and_not_dumped(void **state)
{
	g_autoptr(base_key) key = NULL;
	g_autofree char *maps = NULL;
	char **lines;
	gboolean inside = FALSE, found = FALSE;
	gsize at, length;

	write_key(HEX32, 64, 0600);
	key = base_key_read(path, NULL);
	assert_non_null(key);
	at = (gsize)base_key_bytes(key, &length);
	assert_true(g_file_get_contents("/proc/self/smaps", &maps, NULL, NULL));
	lines = g_strsplit(maps, "\n", -1);
	for (guint i = 0; lines[i]; i++) {
		gsize from, to;

		if (sscanf(lines[i], "%zx-%zx ", &from, &to) == 2)
			inside = at >= from && at < to;
		if (inside && g_str_has_prefix(lines[i], "VmFlags:")) {
			/* Sanitizers make nothing of mlock(). */
			if (!SANITIZED)
				assert_non_null(strstr(lines[i], " lo"));
			assert_non_null(strstr(lines[i], " dd"));
			found = TRUE;
		}
	}
	g_strfreev(lines);
	assert_true(found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_of_32_to_64_bytes_are_read),
		cmocka_unit_test(what_is_not_a_key_is_refused),
		cmocka_unit_test(a_key_that_others_may_read_or_write_is_refused),
		cmocka_unit_test(a_key_of_another_user_is_refused),
		cmocka_unit_test(only_a_regular_file_is_a_key),
		cmocka_unit_test(a_generated_key_is_private_new_and_readable),
		cmocka_unit_test(a_key_that_cannot_be_made_leaves_nothing),
		cmocka_unit_test(the_memory_of_a_key_is_locked_and_not_dumped),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
