/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Saving and loading a whole machine, with real memory and a fake for the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/savefile.h"

#define MEMORY (8ull << 20)

struct fake {
	struct vmm_saveable machine;
	guint32 value; /* its whole state */
	gboolean refuses; /* check() */
	gboolean breaks; /* save() and load() */
	gboolean breaks_late; /* load(), after the first time */
	guint loads;
};

static gboolean fake_save(void *data, vmm_state *state, GError **error)
{
	struct fake *fake = data;

	if (fake->breaks)
		return vmm_error_set(error, VMM_ERROR_HOST, "broken");
	vmm_state_reset(state);
	vmm_state_put(state, "fake", 0, 1, &fake->value, sizeof(fake->value), NULL);
	return TRUE;
}

static gboolean fake_check(void *data, const vmm_state *state, GError **error)
{
	struct fake *fake = data;

	if (fake->refuses)
		return vmm_error_set(error, VMM_ERROR_STATE, "lacks a feature");
	return vmm_state_get(state, "fake", 0, 1, 4, 4, NULL, error) != NULL;
}

static gboolean fake_load(void *data, const vmm_state *state, GError **error)
{
	struct fake *fake = data;
	const void *value = vmm_state_get(state, "fake", 0, 1, 4, 4, NULL, error);

	if (fake->breaks || (fake->breaks_late && fake->loads))
		return vmm_error_set(error, VMM_ERROR_HOST, "broken");
	assert_non_null(value);
	memcpy(&fake->value, value, sizeof(fake->value));
	fake->loads++;
	return TRUE;
}

static void make_fake(struct fake *fake, guint64 memory)
{
	*fake = (struct fake){
		.machine = { .cpus = 2,
			     .data = fake,
			     .save = fake_save,
			     .check = fake_check,
			     .load = fake_load },
	};
	fake->machine.memory = vmm_memory_new(memory, NULL);
	assert_non_null(fake->machine.memory);
}

static guint8 *page(struct fake *fake, guint64 number)
{
	return vmm_memory_page(fake->machine.memory, number);
}

/* Some of everything: holes, zeros that were written, single pages, a long run. */
static void fill(struct fake *fake)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);

	fake->value = 0x1234;
	memset(page(fake, 0), 0xaa, VMM_PAGE);
	memset(page(fake, 3), 0, VMM_PAGE);
	page(fake, 4)[VMM_PAGE - 1] = 1;
	page(fake, 6)[0] = 1;
	for (guint i = 200; i < 900; i++)
		for (guint at = 0; at < VMM_PAGE; at += 64)
			page(fake, i)[at] = (guint8)g_rand_int(rand);
	page(fake, vmm_memory_pages(fake->machine.memory) - 1)[17] = 9;
}

/* What a load must not touch, or must replace. */
static void soil(struct fake *fake)
{
	memset(page(fake, 1), 0x55, VMM_PAGE);
	memset(page(fake, 250), 0x66, VMM_PAGE);
}

static gboolean is_soiled_only(struct fake *fake)
{
	struct fake other;
	gboolean same;

	make_fake(&other, MEMORY);
	soil(&other);
	same = !memcmp(page(fake, 0), page(&other, 0), MEMORY);
	vmm_memory_free(other.machine.memory);
	return same;
}

static gboolean is_empty(struct fake *fake)
{
	const guint8 *bytes = page(fake, 0);

	for (gsize i = 0; i < MEMORY; i++)
		if (bytes[i])
			return FALSE;
	return TRUE;
}

struct bench {
	struct fake from, to;
	struct vmm_transfer transfer;
	char *dir, *path;
	guint64 done, total;
	GError *error;
};

static void note(void *data, guint64 done, guint64 total)
{
	struct bench *bench = data;

	assert_true(done >= bench->done && done <= total);
	bench->done = done;
	bench->total = total;
}

static int set_up(void **state)
{
	struct bench *bench = g_new0(struct bench, 1);

	signal(SIGPIPE, SIG_IGN);
	make_fake(&bench->from, MEMORY);
	make_fake(&bench->to, MEMORY);
	fill(&bench->from);
	soil(&bench->to);
	bench->transfer.deadline_ms = 5000;
	bench->dir = g_dir_make_tmp("colo-savefile-XXXXXX", NULL);
	bench->path = g_build_filename(bench->dir, "vm", NULL);
	*state = bench;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *bench = *state;

	vmm_memory_free(bench->from.machine.memory);
	vmm_memory_free(bench->to.machine.memory);
	g_unlink(bench->path);
	/* Nothing was left behind. */
	assert_int_equal(g_rmdir(bench->dir), 0);
	g_clear_error(&bench->error);
	g_free(bench->dir);
	g_free(bench->path);
	g_free(bench);
	return 0;
}

static void save(struct bench *bench)
{
	if (!vmm_savefile_save(&bench->from.machine, bench->path, &bench->transfer,
			       &bench->error))
		fail_msg("%s", bench->error->message);
}

/* The file has these bytes and no others. Without the fsync() of GLib's function. */
static void put(const char *path, const char *bytes, gssize len)
{
	gsize length = len < 0 ? strlen(bytes) : (gsize)len;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, length), length);
	close(fd);
}

static enum vmm_load_result load(struct bench *bench)
{
	g_clear_error(&bench->error);
	return vmm_savefile_load(&bench->to.machine, bench->path, &bench->transfer,
				 &bench->error);
}

static void assert_same(struct bench *bench)
{
	assert_memory_equal(page(&bench->from, 0), page(&bench->to, 0), MEMORY);
	assert_int_equal(bench->from.value, bench->to.value);
	/* Before memory was touched, and after. */
	assert_int_equal(bench->to.loads, 2);
}

/* The last load was refused for this reason. */
static void assert_reason(struct bench *bench, const char *words)
{
	assert_non_null(bench->error);
	if (!strstr(bench->error->message, words) ||
	    strchr(bench->error->message, '\n'))
		fail_msg("\"%s\" has no \"%s\"", bench->error->message, words);
}

static void what_is_saved_is_loaded(void **state)
{
	struct bench *bench = *state;
	struct stat st;

	bench->transfer.progress = note;
	bench->transfer.data = bench;
	save(bench);
	assert_int_equal(bench->done, MEMORY);
	assert_int_equal(bench->total, MEMORY);
	assert_int_equal(stat(bench->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(st.st_size < 4 << 20); /* zero pages take no room */
	bench->done = 0;
	assert_int_equal(load(bench), VMM_LOAD_DONE);
	assert_true(bench->done == bench->total && bench->done == 2 * MEMORY);
	assert_same(bench);
}

static void saving_does_not_give_storage_to_untouched_pages(void **state)
{
	struct bench *bench = *state;
	struct stat before, after;

	fstat(vmm_memory_fd(bench->from.machine.memory), &before);
	save(bench);
	fstat(vmm_memory_fd(bench->from.machine.memory), &after);
	assert_int_equal(before.st_blocks, after.st_blocks);
}

static void memory_above_the_hole_is_saved_too(void **state)
{
	const guint64 bytes = VMM_HOLE_START + (64 << 20);
	const guint64 edge = VMM_HOLE_START / VMM_PAGE;
	struct bench *bench = *state;
	struct fake from, to;

	make_fake(&from, bytes);
	make_fake(&to, bytes);
	for (guint64 i = edge - 3; i < edge + 3; i++)
		memset(page(&from, i), (int)(i & 0xff) | 1, VMM_PAGE);
	page(&from, bytes / VMM_PAGE - 1)[0] = 7;
	assert_true(
		vmm_savefile_save(&from.machine, bench->path, &bench->transfer, NULL));
	assert_int_equal(
		vmm_savefile_load(&to.machine, bench->path, &bench->transfer, NULL),
		VMM_LOAD_DONE);
	assert_memory_equal(page(&from, edge - 3), page(&to, edge - 3), 6 * VMM_PAGE);
	assert_int_equal(page(&to, bytes / VMM_PAGE - 1)[0], 7);
	vmm_memory_free(from.machine.memory);
	vmm_memory_free(to.machine.memory);
}

struct writer {
	struct bench *bench;
	int fd;
	gboolean ok;
};

static gpointer write_to_fd(gpointer data)
{
	struct writer *writer = data;

	writer->ok = vmm_savefile_write(&writer->bench->from.machine, writer->fd,
					&writer->bench->transfer, NULL);
	close(writer->fd);
	return NULL;
}

static void a_pipe_carries_a_machine(void **state)
{
	struct bench *bench = *state;
	struct writer writer = { bench, -1, FALSE };
	GThread *thread;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	writer.fd = fds[1];
	thread = g_thread_new("writer", write_to_fd, &writer);
	assert_int_equal(vmm_savefile_read(&bench->to.machine, fds[0], &bench->transfer,
					   &bench->error),
			 VMM_LOAD_DONE);
	g_thread_join(thread);
	assert_true(writer.ok);
	assert_same(bench);
	close(fds[0]);
}

struct receiver {
	struct bench *bench;
	char *from;
	enum vmm_load_result result;
	GError *error;
};

static gpointer receive(gpointer data)
{
	struct receiver *receiver = data;

	receiver->result =
		vmm_savefile_load(&receiver->bench->to.machine, receiver->from,
				  &receiver->bench->transfer, &receiver->error);
	return NULL;
}

static void await_socket(const char *path)
{
	for (guint i = 0; i < 500; i++) {
		if (g_access(path, F_OK) == 0) {
			g_usleep(20000); /* it is there before it is listened on */
			return;
		}
		g_usleep(10000);
	}
	fail_msg("nobody listens on %s", path);
}

static void a_unix_socket_carries_a_machine(void **state)
{
	struct bench *bench = *state;
	g_autofree char *name = g_strconcat("unix:", bench->path, NULL);
	struct receiver receiver = { .bench = bench, .from = name };
	GThread *thread = g_thread_new("receiver", receive, &receiver);

	await_socket(bench->path);
	if (!vmm_savefile_save(&bench->from.machine, name, &bench->transfer,
			       &bench->error))
		fail_msg("%s", bench->error->message);
	g_thread_join(thread);
	assert_int_equal(receiver.result, VMM_LOAD_DONE);
	assert_same(bench);
	assert_int_equal(g_access(bench->path, F_OK), -1);
}

static void a_receiver_that_refuses_is_an_error_to_the_sender(void **state)
{
	struct bench *bench = *state;
	g_autofree char *name = g_strconcat("unix:", bench->path, NULL);
	struct receiver receiver = { .bench = bench, .from = name };
	GThread *thread;

	bench->to.refuses = TRUE;
	thread = g_thread_new("receiver", receive, &receiver);
	await_socket(bench->path);
	assert_false(vmm_savefile_save(&bench->from.machine, name, &bench->transfer,
				       &bench->error));
	g_thread_join(thread);
	assert_int_equal(receiver.result, VMM_LOAD_REFUSED);
	assert_true(is_soiled_only(&bench->to));
	g_error_free(receiver.error);
}

static void a_machine_that_lacks_something_refuses_untouched(void **state)
{
	struct bench *bench = *state;

	save(bench);
	bench->to.refuses = TRUE;
	assert_int_equal(load(bench), VMM_LOAD_REFUSED);
	assert_int_equal(bench->to.loads, 0);
	assert_reason(bench, "lacks a feature");
	assert_true(is_soiled_only(&bench->to));
}

static void another_shape_of_machine_is_refused(void **state)
{
	struct bench *bench = *state;

	save(bench);
	bench->to.machine.cpus = 3;
	assert_int_equal(load(bench), VMM_LOAD_REFUSED);
	assert_reason(bench, "it has 2 CPUs, this machine 3");
	bench->to.machine.cpus = 2;
	vmm_memory_free(bench->to.machine.memory);
	bench->to.machine.memory = vmm_memory_new(16 << 20, NULL);
	assert_int_equal(load(bench), VMM_LOAD_REFUSED);
	assert_reason(bench, "it has 8 MiB of memory, this machine 16");
}

static void what_is_not_a_saved_machine_is_refused(void **state)
{
	struct bench *bench = *state;

	assert_int_equal(load(bench), VMM_LOAD_REFUSED);
	assert_reason(bench, "No such file");
	put(bench->path, "", 0);
	assert_int_equal(load(bench), VMM_LOAD_REFUSED);
	assert_reason(bench, "cut off after byte 0");
	put(bench->path, "#!/bin/sh\n# a script, say, of some length\n", -1);
	assert_int_equal(load(bench), VMM_LOAD_REFUSED);
	assert_reason(bench, "it is not a saved machine");
	assert_true(is_soiled_only(&bench->to));
}

static void a_directory_cannot_be_loaded(void **state)
{
	struct bench *bench = *state;

	assert_int_equal(vmm_savefile_load(&bench->to.machine, bench->dir,
					   &bench->transfer, &bench->error),
			 VMM_LOAD_REFUSED);
	assert_reason(bench, "Is a directory");
}

/* Lengths and positions worth trying: all of the head, then some. */
static gsize step(gsize at, gsize len)
{
	return at < 200 || at + 200 > len ? at + 1 : at + 6151;
}

static void a_file_cut_off_anywhere_is_refused_untouched(void **state)
{
	struct bench *bench = *state;
	g_autofree char *bytes = NULL;
	gsize len;

	save(bench);
	assert_true(g_file_get_contents(bench->path, &bytes, &len, NULL));
	for (gsize cut = 0; cut < len; cut = step(cut, len)) {
		put(bench->path, bytes, (gssize)cut);
		assert_int_equal(load(bench), VMM_LOAD_REFUSED);
		assert_reason(bench, "cut off after byte");
	}
	assert_true(is_soiled_only(&bench->to));
}

static void a_file_with_a_wrong_bit_anywhere_is_refused_untouched(void **state)
{
	struct bench *bench = *state;
	g_autofree char *bytes = NULL;
	gsize len;

	save(bench);
	assert_true(g_file_get_contents(bench->path, &bytes, &len, NULL));
	for (gsize at = 0; at < len; at = step(at, len)) {
		bytes[at] ^= 0x10;
		put(bench->path, bytes, (gssize)len);
		assert_int_equal(load(bench), VMM_LOAD_REFUSED);
		assert_reason(bench, "");
		bytes[at] ^= 0x10;
	}
	assert_true(is_soiled_only(&bench->to));
}

static void bytes_after_the_end_of_a_file_are_refused(void **state)
{
	struct bench *bench = *state;
	g_autofree char *bytes = NULL;
	gsize len;

	save(bench);
	assert_true(g_file_get_contents(bench->path, &bytes, &len, NULL));
	bytes = g_realloc(bytes, len + 1);
	bytes[len] = 0;
	put(bench->path, bytes, (gssize)len + 1);
	assert_int_equal(load(bench), VMM_LOAD_REFUSED);
	assert_reason(bench, "bytes after its end");
	assert_true(is_soiled_only(&bench->to));
}

struct feeder {
	int fd;
	const char *bytes;
	gsize len;
};

static gpointer feed(gpointer data)
{
	struct feeder *feeder = data;
	gsize at = 0;
	gssize done;

	while (at < feeder->len &&
	       (done = write(feeder->fd, feeder->bytes + at, feeder->len - at)) > 0)
		at += (gsize)done;
	close(feeder->fd);
	return NULL;
}

/* Loads `len` bytes that come through a pipe. */
static enum vmm_load_result load_stream(struct bench *bench, const char *bytes,
					gsize len)
{
	struct feeder feeder = { -1, bytes, len };
	enum vmm_load_result result;
	GThread *thread;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	feeder.fd = fds[1];
	thread = g_thread_new("feeder", feed, &feeder);
	g_clear_error(&bench->error);
	result = vmm_savefile_read(&bench->to.machine, fds[0], &bench->transfer,
				   &bench->error);
	close(fds[0]);
	g_thread_join(thread);
	return result;
}

static void a_stream_that_breaks_in_memory_leaves_memory_empty(void **state)
{
	struct bench *bench = *state;
	g_autofree char *bytes = NULL;
	gsize len;

	save(bench);
	assert_true(g_file_get_contents(bench->path, &bytes, &len, NULL));
	assert_int_equal(load_stream(bench, bytes, 50), VMM_LOAD_REFUSED);
	assert_true(is_soiled_only(&bench->to));
	assert_int_equal(load_stream(bench, bytes, len / 2), VMM_LOAD_SPOILED);
	assert_reason(bench, "cut off after byte");
	assert_true(is_empty(&bench->to));
	soil(&bench->to);
	assert_int_equal(load_stream(bench, bytes, len - 1), VMM_LOAD_SPOILED);
	assert_true(is_empty(&bench->to));
	bytes[len / 2] ^= 1;
	assert_int_equal(load_stream(bench, bytes, len), VMM_LOAD_SPOILED);
	assert_reason(bench, "checksum of pages");
	assert_true(is_empty(&bench->to));
	bytes[len / 2] ^= 1;
	bench->to.loads = 0;
	assert_int_equal(load_stream(bench, bytes, len), VMM_LOAD_DONE);
	assert_same(bench);
}

static void a_state_that_fails_to_load_leaves_memory_as_it_was(void **state)
{
	struct bench *bench = *state;
	g_autofree char *bytes = NULL;
	gsize len;

	save(bench);
	assert_true(g_file_get_contents(bench->path, &bytes, &len, NULL));
	bench->to.breaks = TRUE;
	assert_int_equal(load(bench), VMM_LOAD_REFUSED);
	assert_reason(bench, "broken");
	assert_true(is_soiled_only(&bench->to));
	assert_int_equal(load_stream(bench, bytes, len), VMM_LOAD_REFUSED);
	assert_true(is_soiled_only(&bench->to));
}

static void a_state_that_fails_to_load_after_memory_leaves_it_empty(void **state)
{
	struct bench *bench = *state;

	save(bench);
	bench->to.breaks_late = TRUE;
	assert_int_equal(load(bench), VMM_LOAD_SPOILED);
	assert_reason(bench, "broken");
	assert_true(is_empty(&bench->to));
}

static void a_silent_sender_and_a_deaf_receiver_meet_the_deadline(void **state)
{
	struct bench *bench = *state;
	int fds[2];

	bench->transfer.deadline_ms = 30;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(vmm_savefile_read(&bench->to.machine, fds[0], &bench->transfer,
					   &bench->error),
			 VMM_LOAD_REFUSED);
	assert_reason(bench, "did nothing for 30 ms");
	g_clear_error(&bench->error);
	assert_false(vmm_savefile_write(&bench->from.machine, fds[0], &bench->transfer,
					&bench->error));
	assert_reason(bench, "did nothing for 30 ms");
	close(fds[0]);
	close(fds[1]);
}

static gpointer cancel_soon(gpointer cancel)
{
	g_usleep(30000);
	g_cancellable_cancel(cancel);
	return NULL;
}

static void waiting_for_a_connection_can_be_cancelled(void **state)
{
	struct bench *bench = *state;
	g_autofree char *name = g_strconcat("unix:", bench->path, NULL);
	g_autoptr(GCancellable) cancel = g_cancellable_new();
	GThread *thread = g_thread_new("cancel", cancel_soon, cancel);

	bench->transfer.cancel = cancel;
	assert_int_equal(vmm_savefile_load(&bench->to.machine, name, &bench->transfer,
					   &bench->error),
			 VMM_LOAD_REFUSED);
	g_thread_join(thread);
	assert_true(g_error_matches(bench->error, G_IO_ERROR, G_IO_ERROR_CANCELLED));
	assert_int_equal(g_access(bench->path, F_OK), -1);
}

static void a_cancelled_save_leaves_nothing(void **state)
{
	struct bench *bench = *state;
	g_autoptr(GCancellable) cancel = g_cancellable_new();

	g_cancellable_cancel(cancel);
	bench->transfer.cancel = cancel;
	assert_false(vmm_savefile_save(&bench->from.machine, bench->path,
				       &bench->transfer, &bench->error));
	assert_int_equal(g_access(bench->path, F_OK), -1);
}

static void a_failed_save_keeps_the_target_and_leaves_nothing_else(void **state)
{
	struct bench *bench = *state;
	struct rlimit old, small;
	g_autofree char *bytes = NULL;

	put(bench->path, "precious", -1);
	bench->from.breaks = TRUE;
	assert_false(vmm_savefile_save(&bench->from.machine, bench->path,
				       &bench->transfer, NULL));
	bench->from.breaks = FALSE;

	/* The disk is full in the middle of it, as far as this process can tell. */
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small = old;
	small.rlim_cur = 1 << 20;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_false(vmm_savefile_save(&bench->from.machine, bench->path,
				       &bench->transfer, &bench->error));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_reason(bench, "File too large");
	assert_true(g_file_get_contents(bench->path, &bytes, NULL, NULL));
	assert_string_equal(bytes, "precious");
	/* tear_down() finds whatever else is there. */
}

static void only_regular_files_are_replaced(void **state)
{
	struct bench *bench = *state;
	g_autofree char *link = g_build_filename(bench->dir, "link", NULL);

	assert_false(vmm_savefile_save(&bench->from.machine, "/dev/null",
				       &bench->transfer, &bench->error));
	assert_reason(bench, "save to /dev/null: is not a regular file");
	g_clear_error(&bench->error);
	assert_false(vmm_savefile_save(&bench->from.machine, bench->dir,
				       &bench->transfer, NULL));
	assert_false(vmm_savefile_save(&bench->from.machine, "/nonexistent/x",
				       &bench->transfer, NULL));
	/* A link is followed. */
	put(bench->path, "old", -1);
	assert_int_equal(symlink(bench->path, link), 0);
	assert_true(
		vmm_savefile_save(&bench->from.machine, link, &bench->transfer, NULL));
	assert_true(g_file_test(link, G_FILE_TEST_IS_SYMLINK));
	assert_int_equal(load(bench), VMM_LOAD_DONE);
	assert_same(bench);
	g_unlink(link);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_saved_is_loaded),
		TEST(saving_does_not_give_storage_to_untouched_pages),
		TEST(memory_above_the_hole_is_saved_too),
		TEST(a_pipe_carries_a_machine),
		TEST(a_unix_socket_carries_a_machine),
		TEST(a_receiver_that_refuses_is_an_error_to_the_sender),
		TEST(a_machine_that_lacks_something_refuses_untouched),
		TEST(another_shape_of_machine_is_refused),
		TEST(what_is_not_a_saved_machine_is_refused),
		TEST(a_directory_cannot_be_loaded),
		TEST(a_file_cut_off_anywhere_is_refused_untouched),
		TEST(a_file_with_a_wrong_bit_anywhere_is_refused_untouched),
		TEST(bytes_after_the_end_of_a_file_are_refused),
		TEST(a_stream_that_breaks_in_memory_leaves_memory_empty),
		TEST(a_state_that_fails_to_load_leaves_memory_as_it_was),
		TEST(a_state_that_fails_to_load_after_memory_leaves_it_empty),
		TEST(a_silent_sender_and_a_deaf_receiver_meet_the_deadline),
		TEST(waiting_for_a_connection_can_be_cancelled),
		TEST(a_cancelled_save_leaves_nothing),
		TEST(a_failed_save_keeps_the_target_and_leaves_nothing_else),
		TEST(only_regular_files_are_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
