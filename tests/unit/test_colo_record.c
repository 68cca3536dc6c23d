/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The generation file: what is written is read, and nothing else is. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>
#include <glib/gstdio.h>

#include "colo/pair.h"
#include "colo/record.h"

static char *folder, *path, *beside;
static const struct colo_record solo = { 7, COLO_PART_SOLO, FALSE };

/* What is asked of the file system, in its order; NULL: nobody wants to know. */
static GString *steps;
static const char *refused_step;

/* TRUE: it is to fail. */
static gboolean note_step(const char *step)
{
	if (!steps)
		return FALSE;
	g_string_append_printf(steps, "%s ", step);
	errno = EIO;
	return refused_step && !strcmp(step, refused_step);
}

/* In place of the C library's. */
int fsync(int fd)
{
	struct stat status;

	if (fstat(fd, &status))
		return -1;
	if (note_step(S_ISDIR(status.st_mode) ? "folder" : status.st_size ? "file" : "nothing"))
		return -1;
	return (int)syscall(SYS_fsync, fd);
}

int renameat(int old_folder, const char *old, int new_folder, const char *new)
{
	if (note_step("rename"))
		return -1;
	return (int)syscall(SYS_renameat2, old_folder, old, new_folder, new, 0);
}

static int make_folder(void **state)
{
	folder = g_dir_make_tmp("colo-record-XXXXXX", NULL);
	path = g_build_filename(folder, "record", NULL);
	beside = g_build_filename(folder, "record.new", NULL);
	return 0;
}

static int remove_folder(void **state)
{
	g_unlink(path);
	g_unlink(beside);
	g_rmdir(folder);
	g_free(path);
	g_free(beside);
	g_free(folder);
	return 0;
}

static void put(const char *text, gsize length)
{
	g_unlink(path);
	assert_true(g_file_set_contents(path, text, (gssize)length, NULL));
}

/* With a checksum that is right. */
static void put_summed(const char *text)
{
	XXH128_hash_t sum = XXH3_128bits(text, strlen(text));
	g_autofree char *whole = g_strdup_printf(
		"%schecksum %016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x\n",
		text, (guint64)sum.high64, (guint64)sum.low64);

	put(whole, strlen(whole));
}

static void expect_refused(const char *why)
{
	struct colo_record record = { 99, COLO_PART_SOLO, TRUE };
	g_autoptr(GError) error = NULL;

	assert_false(colo_record_read(path, "shop", "alpha", &record, &error));
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG));
	if (!strstr(error->message, why))
		fail_msg("\"%s\" does not say \"%s\"", error->message, why);
	assert_non_null(strstr(error->message, path));
	assert_non_null(strstr(error->message, "colo promote --force"));
	assert_null(strchr(error->message, '\n'));
	assert_int_equal(record.generation, 0);
	assert_int_equal(record.part, COLO_PART_NONE);
}

static void what_was_written_is_read(void **state)
{
	for (enum colo_part part = COLO_PART_NONE; part <= COLO_PART_PROMOTED; part++) {
		for (guint i = 0; i < 4; i++) {
			const struct colo_record record = { i & 2 ? G_MAXINT64 : part,
							    part, i & 1 };
			struct colo_record read = { 0 };
			g_autoptr(GError) error = NULL;
			struct stat status;

			assert_true(colo_record_write(path, "shop", "alpha", &record,
						      &error));
			assert_true(
				colo_record_read(path, "shop", "alpha", &read, &error));
			assert_int_equal(read.generation, record.generation);
			assert_int_equal(read.part, record.part);
			assert_int_equal(read.stopped, record.stopped);
			assert_int_equal(stat(path, &status), 0);
			assert_int_equal(status.st_mode & 07777, 0600);
			assert_int_equal(access(beside, F_OK), -1);
		}
	}
}

static void parts_have_names(void **state)
{
	for (enum colo_part part = COLO_PART_NONE; part <= COLO_PART_PROMOTED; part++) {
		enum colo_part again = COLO_PART_NONE;

		assert_true(colo_part_parse(colo_part_name(part), &again));
		assert_int_equal(part, again);
	}
	enum colo_part none;

	assert_false(colo_part_parse("", &none));
	assert_false(colo_part_parse("Solo", &none));
}

static void no_file_is_a_record_of_zeros_but_no_folder_is_not(void **state)
{
	g_autofree char *nowhere = g_build_filename(folder, "no", "record", NULL);
	struct colo_record record = { 9, COLO_PART_SOLO, TRUE };
	g_autoptr(GError) error = NULL;

	g_unlink(path);
	assert_true(colo_record_read(path, "shop", "alpha", &record, &error));
	assert_int_equal(record.generation, 0);
	assert_int_equal(record.part, COLO_PART_NONE);
	assert_false(record.stopped);
	/* A state folder that is not mounted is no blank node. */
	assert_false(colo_record_read(nowhere, "shop", "alpha", &record, &error));
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_HOST));
}

static void every_byte_changed_is_refused(void **state)
{
	const char others[] = { 0, '\n', ' ', '0', '9', 'a', 'n', 'y', (char)0xff };
	g_autofree char *text = colo_record_format("shop", "alpha", &solo);
	gsize length = strlen(text);

	for (gsize i = 0; i < length; i++) {
		for (guint n = 0; n < G_N_ELEMENTS(others) + 8; n++) {
			g_autofree char *bad = g_memdup2(text, length);
			struct colo_record record;
			g_autoptr(GError) error = NULL;

			bad[i] = n < 8 ? bad[i] ^ (char)(1 << n) : others[n - 8];
			if (bad[i] == text[i])
				continue;
			assert_false(colo_record_parse(bad, length, "file", "shop",
						       "alpha", &record, &error));
			assert_true(
				g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG));
		}
	}
}

static void a_file_cut_short_anywhere_or_longer_is_refused(void **state)
{
	g_autofree char *text = colo_record_format("shop", "alpha", &solo);
	gsize length = strlen(text);
	g_autofree char *more = g_strconcat(text, "\n", NULL);
	g_autofree char *twice = g_strconcat(text, text, NULL);
	g_autofree char *huge = g_strnfill(5000, 'x');

	for (gsize i = 0; i < length; i++) {
		put(text, i);
		expect_refused("is cut short");
	}
	put(more, length + 1);
	expect_refused("");
	put(twice, 2 * length);
	expect_refused("damaged");
	put(huge, 5000);
	expect_refused("over 1024 bytes");
	put("hello, world\n", 13);
	expect_refused("not one of colo's");
}

static void each_wrong_thing_has_its_own_message(void **state)
{
	g_autofree char *text = colo_record_format("shop", "alpha", &solo);

	text[strlen("colo-record 1\npair shop\nnode alpha\ngeneration ")] = '8';
	put(text, strlen(text));
	expect_refused("its checksum does not match");
#define TEXT(version, pair, node, generation, part, stopped) \
	"colo-record " version "\npair " pair "\nnode " node \
	"\ngeneration " generation "\npart " part "\nstopped " stopped "\n"
	put_summed(TEXT("2", "shop", "alpha", "7", "solo", "no"));
	expect_refused("has format 2, this colo knows 1");
	put_summed(TEXT("1", "other", "alpha", "7", "solo", "no"));
	expect_refused("belongs to pair \"other\", this is pair \"shop\"");
	put_summed(TEXT("1", "shop", "beta", "7", "solo", "no"));
	expect_refused("belongs to node \"beta\", this is node \"alpha\"");
	put_summed(TEXT("1", "shop", "alpha", "x", "solo", "no"));
	expect_refused("no number as generation");
	put_summed(TEXT("1", "shop", "alpha", "-1", "solo", "no"));
	expect_refused("no number as generation");
	put_summed(TEXT("1", "shop", "alpha", "9223372036854775808", "solo", "no"));
	expect_refused("no number as generation");
	put_summed(TEXT("1", "shop", "alpha", "7", "king", "no"));
	expect_refused("part \"king\"");
	put_summed(TEXT("1", "shop", "alpha", "0", "solo", "no"));
	expect_refused("part \"solo\" at no generation");
	put_summed(TEXT("1", "shop", "alpha", "07", "solo", "no"));
	expect_refused("not as colo writes it");
	put_summed(TEXT("1", "shop", "alpha", "7", "solo", "maybe"));
	expect_refused("not as colo writes it");
	put_summed(TEXT("1", "shop", "alpha", "7", "solo", "no") "more 1\n");
	expect_refused("not as colo writes it");
	put_summed("colo-record 1\npair shop\nnode alpha\npart solo\n");
	expect_refused("lacks a line");
	put_summed(TEXT("1", "shop", "alpha", "7", "solo", "no"));
	assert_true(colo_record_read(path, "shop", "alpha", &(struct colo_record){ 0 },
				     NULL));
}

static void what_is_no_regular_file_is_refused_without_waiting(void **state)
{
	struct colo_record record;
	g_autoptr(GError) error = NULL;

	g_unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_refused("not a regular file");
	g_unlink(path);
	assert_int_equal(symlink("elsewhere", path), 0);
	assert_false(colo_record_read(path, "shop", "alpha", &record, &error));
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_HOST));
	g_unlink(path);
}

static void expect_unwritten(const char *file, int err)
{
	const struct colo_record next = { 8, COLO_PART_NONE, FALSE };
	struct colo_record record;
	g_autofree char *new = g_strconcat(file, ".new", NULL);
	g_autoptr(GError) error = NULL;

	assert_false(colo_record_write(file, "shop", "alpha", &next, &error));
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_HOST));
	assert_non_null(strstr(error->message, g_strerror(err)));
	assert_non_null(strstr(error->message, file));
	assert_int_equal(access(new, F_OK), -1);
	/* The one before is there and whole. */
	g_clear_error(&error);
	assert_true(colo_record_read(file, "shop", "alpha", &record, &error));
	assert_int_equal(record.generation, solo.generation);
	assert_int_equal(record.part, COLO_PART_SOLO);
}

static void a_file_that_may_not_grow_leaves_the_one_before(void **state)
{
	struct rlimit before, limit;

	g_unlink(path);
	assert_true(colo_record_write(path, "shop", "alpha", &solo, NULL));
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = (struct rlimit){ 20, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	expect_unwritten(path, EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

/* A power cut may take whatever was not flushed, and a name before what it is the name of. */
static void a_new_record_is_on_the_disk_before_it_counts(void **state)
{
	const struct colo_record next = { 8, COLO_PART_NONE, FALSE };
	g_autoptr(GError) error = NULL;

	g_unlink(path);
	steps = g_string_new(NULL);
	assert_true(colo_record_write(path, "shop", "alpha", &solo, NULL));
	assert_string_equal(steps->str, "file rename folder ");
	refused_step = "file";
	g_string_truncate(steps, 0);
	expect_unwritten(path, EIO);
	/* Reading the one before flushes the folder. */
	assert_string_equal(steps->str, "file folder ");
	refused_step = "rename";
	expect_unwritten(path, EIO);
	/* It may be there after a power cut, or the one before: so it does not count. */
	refused_step = "folder";
	assert_false(colo_record_write(path, "shop", "alpha", &next, &error));
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_HOST));
	refused_step = NULL;
	g_string_free(g_steal_pointer(&steps), TRUE);
}

static gboolean may_mount(void)
{
	if (unshare(CLONE_NEWNS) == 0 &&
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		return TRUE;
	print_message("# skip: mounting takes rights: %s\n", g_strerror(errno));
	return FALSE;
}

static void a_full_disk_leaves_the_one_before(void **state)
{
	g_autofree char *disk = g_build_filename(folder, "disk", NULL);
	g_autofree char *file = g_build_filename(disk, "record", NULL);
	g_autofree char *filler = g_build_filename(disk, "filler", NULL);
	g_autofree char *zeros = g_malloc0(4096);

	if (!may_mount())
		return;
	assert_int_equal(g_mkdir(disk, 0700), 0);
	assert_int_equal(mount("none", disk, "tmpfs", 0, "size=8192"), 0);
	assert_true(colo_record_write(file, "shop", "alpha", &solo, NULL));
	assert_true(g_file_set_contents(filler, zeros, 4096, NULL));
	expect_unwritten(file, ENOSPC);
	assert_int_equal(umount(disk), 0);
	/* Nor where not even a name fits. */
	assert_int_equal(mount("none", disk, "tmpfs", 0, "nr_inodes=2"), 0);
	assert_true(colo_record_write(file, "shop", "alpha", &solo, NULL));
	expect_unwritten(file, ENOSPC);
	assert_int_equal(umount(disk), 0);
	g_rmdir(disk);
}

static void a_folder_that_is_read_only_leaves_the_one_before(void **state)
{
	g_autofree char *disk = g_build_filename(folder, "disk", NULL);
	g_autofree char *file = g_build_filename(disk, "record", NULL);

	if (!may_mount())
		return;
	assert_int_equal(g_mkdir(disk, 0700), 0);
	assert_int_equal(mount("none", disk, "tmpfs", 0, NULL), 0);
	assert_true(colo_record_write(file, "shop", "alpha", &solo, NULL));
	assert_int_equal(mount("none", disk, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), 0);
	expect_unwritten(file, EROFS);
	assert_int_equal(umount(disk), 0);
	g_rmdir(disk);
}

static void what_a_death_while_writing_left_does_not_matter(void **state)
{
	struct colo_record record;

	g_unlink(path);
	assert_true(colo_record_write(path, "shop", "alpha", &solo, NULL));
	assert_true(g_file_set_contents(beside, "colo-rec", 8, NULL));
	assert_true(colo_record_read(path, "shop", "alpha", &record, NULL));
	assert_int_equal(record.generation, 7);
	assert_true(colo_record_write(path, "shop", "alpha",
				      &(struct colo_record){ 8, COLO_PART_NONE, TRUE },
				      NULL));
	assert_true(colo_record_read(path, "shop", "alpha", &record, NULL));
	assert_int_equal(record.generation, 8);
	assert_true(record.stopped);
}

/* A reader sees one of the two or the other, at whatever moment the writer is killed.
 */
static void a_writer_killed_at_any_time_leaves_a_whole_file(void **state)
{
	g_unlink(path);
	assert_true(colo_record_write(path, "shop", "alpha", &solo, NULL));
	for (guint i = 0; i < 50; i++) {
		struct colo_record record;
		g_autoptr(GError) error = NULL;
		pid_t child = fork();

		assert_true(child >= 0);
		while (!child) {
			struct colo_record next = { g_random_int(), COLO_PART_PRIMARY,
						    FALSE };

			if (!colo_record_write(path, "shop", "alpha", &next, NULL))
				_exit(1);
		}
		for (guint reads = 0; reads < i % 10; reads++)
			assert_true(colo_record_read(path, "shop", "alpha", &record,
						     &error));
		g_usleep(g_random_int_range(0, 3000));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		assert_true(colo_record_read(path, "shop", "alpha", &record, &error));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_is_read),
		cmocka_unit_test(parts_have_names),
		cmocka_unit_test(no_file_is_a_record_of_zeros_but_no_folder_is_not),
		cmocka_unit_test(every_byte_changed_is_refused),
		cmocka_unit_test(a_file_cut_short_anywhere_or_longer_is_refused),
		cmocka_unit_test(each_wrong_thing_has_its_own_message),
		cmocka_unit_test(what_is_no_regular_file_is_refused_without_waiting),
		cmocka_unit_test(a_file_that_may_not_grow_leaves_the_one_before),
		cmocka_unit_test(a_new_record_is_on_the_disk_before_it_counts),
		cmocka_unit_test(a_full_disk_leaves_the_one_before),
		cmocka_unit_test(a_folder_that_is_read_only_leaves_the_one_before),
		cmocka_unit_test(what_a_death_while_writing_left_does_not_matter),
		cmocka_unit_test(a_writer_killed_at_any_time_leaves_a_whole_file),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
