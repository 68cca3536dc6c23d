/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk over io_uring, on a file. What a healthy kernel does not do (short transfers,
 * interrupted calls, a flush that fails) is injected where kvm/disk.c prepares its
 * submissions, which are inline functions: so it is included here as text.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
	guint short_transfers;		  /* each moves only this many bytes; 0: all */
	gboolean flush_fails;		  /* the next one */
	gboolean no_punch, no_zero_range; /* by mode, EOPNOTSUPP */
	guint flushes, punches, zero_ranges, writes;
	int ring_error;
	gboolean sync_fails; /* the next one */
	guint syncs;
	int read_from, write_to; /* instead of the disk; 0: no */
	gboolean no_cancel;
} inject;

static void inject_fsync(struct io_uring_sqe *sqe, int fd, unsigned int flags)
{
	inject.flushes++;
	io_uring_prep_fsync(sqe, inject.flush_fails ? -1 : fd, flags);
	inject.flush_fails = FALSE;
}

static void inject_fallocate(struct io_uring_sqe *sqe, int fd, int mode, guint64 offset,
			     guint64 len)
{
	gboolean punch = mode & FALLOC_FL_PUNCH_HOLE;

	if (punch)
		inject.punches++;
	else
		inject.zero_ranges++;
	/* A mode that nobody knows. */
	if (punch ? inject.no_punch : inject.no_zero_range)
		mode = 0x4000;
	io_uring_prep_fallocate(sqe, fd, mode, offset, len);
}

static guint shorten(guint len)
{
	return inject.short_transfers ? MIN(len, inject.short_transfers) : len;
}

static void inject_read(struct io_uring_sqe *sqe, int fd, void *buffer, guint len,
			guint64 offset)
{
	if (inject.read_from)
		fd = inject.read_from;
	io_uring_prep_read(sqe, fd, buffer, shorten(len), offset);
}

static void inject_write(struct io_uring_sqe *sqe, int fd, const void *buffer,
			 guint len, guint64 offset)
{
	inject.writes++;
	if (inject.write_to)
		fd = inject.write_to;
	io_uring_prep_write(sqe, fd, buffer, shorten(len), offset);
}

static void inject_cancel(struct io_uring_sqe *sqe, void *data, int flags)
{
	if (inject.no_cancel)
		io_uring_prep_nop(sqe);
	else
		io_uring_prep_cancel(sqe, data, flags);
}

static int inject_queue_init(unsigned int entries, struct io_uring *ring,
			     unsigned int flags)
{
	return inject.ring_error ? inject.ring_error
				 : io_uring_queue_init(entries, ring, flags);
}

static int inject_fdatasync(int fd)
{
	gboolean fails = inject.sync_fails;

	inject.syncs++;
	inject.sync_fails = FALSE;
	if (!fails)
		return fdatasync(fd);
	errno = EIO;
	return -1;
}

#define fdatasync inject_fdatasync
#define io_uring_prep_fsync inject_fsync
#define io_uring_prep_fallocate inject_fallocate
#define io_uring_prep_read inject_read
#define io_uring_prep_write inject_write
#define io_uring_prep_cancel inject_cancel
#define io_uring_queue_init inject_queue_init
#include "kvm/disk.c"

#define BYTES (1u << 20)

struct rig {
	char *path;
	vmm_loop *loop;
	struct vmm_disk *disk;
	guint batches;
};

/* A request and what came of it. */
struct wish {
	struct vmm_disk_request *request;
	gboolean done;
	int result;
};

static void on_batch_done(void *user)
{
	((struct rig *)user)->batches++;
}

static int setup(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);
	int fd;

	memset(&inject, 0, sizeof(inject));
	rig->path = g_strdup("/var/tmp/colo-test-disk-XXXXXX");
	fd = mkstemp(rig->path);
	assert_true(fd >= 0 && ftruncate(fd, BYTES) == 0);
	close(fd);
	rig->loop = vmm_loop_new(NULL);
	rig->disk = vmm_disk_open(rig->path, FALSE, FALSE, rig->loop, NULL);
	assert_non_null(rig->disk);
	rig->disk->batch_done = on_batch_done;
	rig->disk->user = rig;
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	if (rig->disk)
		rig->disk->free(rig->disk->data);
	vmm_loop_free(rig->loop);
	unlink(rig->path);
	g_free(rig->path);
	g_free(rig);
	return 0;
}

static void on_done(struct vmm_disk_request *request, int result)
{
	struct wish *wish = request->data;

	assert_false(wish->done);
	wish->done = TRUE;
	wish->result = result;
}

static void ask(struct rig *rig, struct wish *wish, enum vmm_disk_op op, guint64 offset,
		guint64 len)
{
	struct vmm_disk_request *request = g_new0(struct vmm_disk_request, 1);
	void *buffer = NULL;

	if (op == VMM_DISK_READ || op == VMM_DISK_WRITE)
		assert_int_equal(posix_memalign(&buffer, 4096, len), 0);
	*wish = (struct wish){ .request = request };
	*request = (struct vmm_disk_request){
		.op = op,
		.offset = offset,
		.len = len,
		.buffer = buffer,
		.done = on_done,
		.data = wish,
	};
	rig->disk->submit(rig->disk->data, request);
}

static void go(struct rig *rig)
{
	rig->disk->flush_submissions(rig->disk->data);
}

static void run_until(struct rig *rig, const gboolean *flag)
{
	guint64 start = base_clock_monotonic_ns();

	while (!*flag) {
		vmm_loop_iterate(rig->loop, 10);
		assert_true(base_clock_monotonic_ns() - start < 10000000000ull);
	}
}

static void drop(struct wish *wish)
{
	free(wish->request->buffer);
	g_clear_pointer(&wish->request, g_free);
}

static int write_bytes(struct rig *rig, guint64 offset, guint64 len, guint8 byte)
{
	struct wish wish;

	ask(rig, &wish, VMM_DISK_WRITE, offset, len);
	memset(wish.request->buffer, byte, len);
	go(rig);
	run_until(rig, &wish.done);
	drop(&wish);
	return wish.result;
}

static int simple(struct rig *rig, enum vmm_disk_op op, guint64 offset, guint64 len,
		  gboolean unmap)
{
	struct wish wish;

	ask(rig, &wish, op, offset, len);
	wish.request->unmap = unmap;
	go(rig);
	run_until(rig, &wish.done);
	drop(&wish);
	return wish.result;
}

/* Whether all of the range reads as `byte`, through the disk. */
static gboolean reads_as(struct rig *rig, guint64 offset, guint64 len, guint8 byte)
{
	struct wish wish;
	gboolean same = TRUE;

	ask(rig, &wish, VMM_DISK_READ, offset, len);
	memset(wish.request->buffer, ~byte, len);
	go(rig);
	run_until(rig, &wish.done);
	assert_int_equal(wish.result, 0);
	for (guint64 i = 0; i < len; i++)
		same = same && wish.request->buffer[i] == byte;
	drop(&wish);
	return same;
}

static void what_is_written_is_read_again(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig->disk->size, BYTES);
	assert_int_equal(rig->disk->block_size, 512);
	assert_int_equal(write_bytes(rig, 4096, 8192, 0x5a), 0);
	assert_true(reads_as(rig, 4096, 8192, 0x5a));
	assert_true(reads_as(rig, 0, 4096, 0));
	assert_true(reads_as(rig, 12288, 4096, 0));
	assert_true(rig->batches > 0);
}

static void what_it_holds_can_be_read_at_once(void **state)
{
	struct rig *rig = *state;
	guint8 bytes[1024];
	g_autoptr(GError) error = NULL;

	assert_int_equal(write_bytes(rig, 4096, 512, 0x5a), 0);
	assert_true(rig->disk->read_now(rig->disk->data, 4096, bytes, sizeof(bytes), &error));
	assert_int_equal(bytes[0], 0x5a);
	assert_int_equal(bytes[511], 0x5a);
	assert_int_equal(bytes[512], 0);
	assert_false(rig->disk->read_now(rig->disk->data, BYTES, bytes, 512, &error));
	assert_non_null(error);
}

static void a_transfer_that_is_cut_short_is_continued(void **state)
{
	struct rig *rig = *state;

	inject.short_transfers = 1536;
	assert_int_equal(write_bytes(rig, 512, 65536, 0x33), 0);
	assert_true(inject.writes >= 43);
	assert_true(reads_as(rig, 512, 65536, 0x33));
	inject.short_transfers = 0;
	assert_true(reads_as(rig, 512, 65536, 0x33));
	assert_true(reads_as(rig, 512 + 65536, 512, 0));
}

static void a_file_that_became_shorter_is_an_error(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(truncate(rig->path, 8192), 0);
	assert_int_equal(simple(rig, VMM_DISK_READ, 4096, 8192, FALSE), -EIO);
}

static void more_requests_than_the_ring_holds_all_complete(void **state)
{
	struct rig *rig = *state;
	struct wish wishes[1000];

	for (guint i = 0; i < 1000; i++)
		ask(rig, &wishes[i], i % 10 ? VMM_DISK_READ : VMM_DISK_FLUSH, i * 512,
		    512);
	go(rig);
	for (guint i = 0; i < 1000; i++) {
		run_until(rig, &wishes[i].done);
		assert_int_equal(wishes[i].result, 0);
		drop(&wishes[i]);
	}
	/* Flushes that wait share one. */
	assert_true(inject.flushes < 20);
}

/* The kernel copies what it has in its cache before it returns. */
static void nothing_is_handed_over_while_somebody_waits_for_the_loop(void **state)
{
	struct rig *rig = *state;
	struct disk *disk = rig->disk->data;
	struct wish wishes[8];

	/* From now on this thread is the I/O thread. */
	assert_true(reads_as(rig, 0, 512, 0));
	for (guint i = 0; i < 8; i++)
		ask(rig, &wishes[i], VMM_DISK_READ, 0, BYTES);
	vmm_loop_want(rig->loop);
	go(rig);
	assert_int_equal(disk->unfinished, 0);
	assert_int_equal(disk->waiting.length, 8);
	vmm_loop_release(rig->loop);
	for (guint i = 0; i < 8; i++) {
		run_until(rig, &wishes[i].done);
		assert_int_equal(wishes[i].result, 0);
		drop(&wishes[i]);
	}
}

static void a_flush_completes_after_the_writes_before_it_are_durable(void **state)
{
	struct rig *rig = *state;
	struct wish flushes[3];

	assert_int_equal(write_bytes(rig, 0, 4096, 1), 0);
	ask(rig, &flushes[0], VMM_DISK_FLUSH, 0, 0);
	ask(rig, &flushes[1], VMM_DISK_FLUSH, 0, 0);
	go(rig);
	/* This one may come after the kernel began: so it gets a flush of its own. */
	assert_int_equal(inject.flushes, 1);
	ask(rig, &flushes[2], VMM_DISK_FLUSH, 0, 0);
	go(rig);
	for (guint i = 0; i < 3; i++) {
		run_until(rig, &flushes[i].done);
		assert_int_equal(flushes[i].result, 0);
		drop(&flushes[i]);
	}
	assert_int_equal(inject.flushes, 2);
}

static void after_a_failed_flush_nothing_is_written_any_more(void **state)
{
	struct rig *rig = *state;
	struct wish flushes[2];

	assert_int_equal(write_bytes(rig, 0, 4096, 1), 0);
	inject.flush_fails = TRUE;
	ask(rig, &flushes[0], VMM_DISK_FLUSH, 0, 0);
	go(rig);
	ask(rig, &flushes[1], VMM_DISK_FLUSH, 0, 0);
	go(rig);
	run_until(rig, &flushes[0].done);
	run_until(rig, &flushes[1].done);
	assert_int_equal(flushes[0].result, -EIO);
	assert_int_equal(flushes[1].result, -EIO);
	drop(&flushes[0]);
	drop(&flushes[1]);
	assert_int_equal(write_bytes(rig, 0, 4096, 2), -EIO);
	assert_int_equal(simple(rig, VMM_DISK_FLUSH, 0, 0, FALSE), -EIO);
	assert_int_equal(simple(rig, VMM_DISK_DISCARD, 0, 4096, FALSE), -EIO);
	assert_int_equal(simple(rig, VMM_DISK_ZEROES, 0, 4096, FALSE), -EIO);
	assert_int_equal(inject.flushes, 1);
	/* What is there can still be read. */
	assert_true(reads_as(rig, 0, 4096, 1));
}

static void a_sync_makes_durable_what_was_written(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(write_bytes(rig, 0, 4096, 1), 0);
	assert_true(rig->disk->sync(rig->disk->data, NULL));
	assert_int_equal(inject.syncs, 1);
	assert_int_equal(inject.flushes, 0);
}

static void assert_sync_fails(struct rig *rig)
{
	g_autoptr(GError) error = NULL;

	assert_false(rig->disk->sync(rig->disk->data, &error));
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_HOST));
	assert_non_null(strstr(error->message, rig->path));
}

static void a_sync_that_failed_once_fails_for_good(void **state)
{
	struct rig *rig = *state;

	inject.sync_fails = TRUE;
	assert_sync_fails(rig);
	assert_sync_fails(rig);
	assert_int_equal(inject.syncs, 1);
	/* The guest's own flushes are told of it by themselves. */
	assert_int_equal(simple(rig, VMM_DISK_FLUSH, 0, 0, FALSE), 0);
}

static void nothing_is_synced_after_a_failed_flush(void **state)
{
	struct rig *rig = *state;

	inject.flush_fails = TRUE;
	assert_int_equal(simple(rig, VMM_DISK_FLUSH, 0, 0, FALSE), -EIO);
	assert_sync_fails(rig);
	assert_int_equal(inject.syncs, 0);
}

/* Pages that the host has of it in memory. */
static guint pages_cached(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	guint pages = 0;
	unsigned char there[BYTES / 4096];
	void *map = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);

	assert_true(fd >= 0 && map != MAP_FAILED);
	assert_return_code(mincore(map, BYTES, there), errno);
	for (guint i = 0; i < sizeof(there); i++)
		pages += there[i] & 1u;
	munmap(map, BYTES);
	close(fd);
	return pages;
}

static void what_others_left_in_the_hosts_memory_is_not_believed(void **state)
{
	struct rig *rig = *state;
	g_autofree guint8 *bytes = g_malloc0(BYTES);
	struct statfs fs;
	int fd;

	rig->disk->free(rig->disk->data);
	rig->disk = NULL;
	fd = open(rig->path, O_RDWR | O_CLOEXEC);
	assert_int_equal(write(fd, bytes, BYTES), BYTES);
	assert_return_code(fsync(fd), errno);
	assert_return_code(fstatfs(fd, &fs), errno);
	close(fd);
	if (fs.f_type == TMPFS_MAGIC)
		skip(); /* it is nowhere else */
	assert_int_equal(pages_cached(rig->path), BYTES / 4096);
	rig->disk = vmm_disk_open(rig->path, FALSE, FALSE, rig->loop, NULL);
	assert_non_null(rig->disk);
	/* Its first block is looked at, and what the kernel reads along. */
	assert_true(pages_cached(rig->path) < BYTES / 4096);
}

static void a_read_only_disk_has_nothing_to_sync(void **state)
{
	struct rig *rig = *state;

	rig->disk->free(rig->disk->data);
	rig->disk = vmm_disk_open(rig->path, TRUE, FALSE, rig->loop, NULL);
	assert_non_null(rig->disk);
	assert_true(rig->disk->sync(rig->disk->data, NULL));
	assert_int_equal(inject.syncs, 0);
}

static guint warnings;

static GLogWriterOutput count_warnings(GLogLevelFlags level, const GLogField *fields,
				       gsize n_fields, gpointer data)
{
	warnings += (level & G_LOG_LEVEL_WARNING) != 0;
	return G_LOG_WRITER_HANDLED;
}

/* Opens the rig's disk with these bytes at its beginning; how often that warns. */
static guint warnings_with(struct rig *rig, const char *bytes, gsize len, gboolean direct)
{
	int fd = open(rig->path, O_WRONLY);
	guint before = warnings;

	assert_int_equal(pwrite(fd, bytes, len, 0), len);
	close(fd);
	rig->disk->free(rig->disk->data);
	rig->disk = vmm_disk_open(rig->path, FALSE, direct, rig->loop, NULL);
	assert_non_null(rig->disk);
	return warnings - before;
}

static void an_image_of_another_format_is_warned_about(void **state)
{
	static const struct {
		const char *bytes;
		gsize len;
	} images[] = {
		{ "QFI\xfb", 4 }, { "KDMV", 4 }, { "COWD", 4 },
		{ "conectix", 8 }, { "vhdxfile", 8 }, { "QED", 4 },
		{ "<<< QEMU VM Virtual Disk Image >>>\n", 35 },
		{ "<<< Oracle VM VirtualBox Disk Image >>>\n", 40 },
	};
	struct rig *rig = *state;

	g_log_set_writer_func(count_warnings, NULL, NULL);
	for (guint i = 0; i < G_N_ELEMENTS(images); i++)
		assert_int_equal(warnings_with(rig, images[i].bytes, images[i].len, i & 1),
				 1);
	assert_int_equal(warnings_with(rig, "QFI, and a file system", 22, FALSE), 0);
	assert_int_equal(warnings_with(rig, "<<< a text", 10, FALSE), 0);
}

static void what_is_refused_is_told_from_a_later_turn_of_the_loop(void **state)
{
	struct rig *rig = *state;
	struct wish wish;

	inject.flush_fails = TRUE;
	assert_int_equal(simple(rig, VMM_DISK_FLUSH, 0, 0, FALSE), -EIO);
	ask(rig, &wish, VMM_DISK_FLUSH, 0, 0);
	go(rig);
	assert_false(wish.done);
	run_until(rig, &wish.done);
	drop(&wish);
}

static guint64 allocated(struct rig *rig)
{
	struct stat st;

	assert_int_equal(stat(rig->path, &st), 0);
	return (guint64)st.st_blocks * 512;
}

static void a_discard_gives_storage_back(void **state)
{
	struct rig *rig = *state;
	guint64 before;

	assert_int_equal(write_bytes(rig, 0, 262144, 9), 0);
	assert_int_equal(simple(rig, VMM_DISK_FLUSH, 0, 0, FALSE), 0);
	before = allocated(rig);
	assert_int_equal(simple(rig, VMM_DISK_DISCARD, 65536, 131072, FALSE), 0);
	assert_int_equal(inject.punches, 1);
	assert_true(allocated(rig) < before);
	assert_true(reads_as(rig, 0, 65536, 9));
	assert_true(reads_as(rig, 65536, 131072, 0));
}

static void a_discard_that_cannot_be_is_ignored(void **state)
{
	struct rig *rig = *state;

	inject.no_punch = TRUE;
	assert_int_equal(write_bytes(rig, 0, 8192, 9), 0);
	assert_int_equal(simple(rig, VMM_DISK_DISCARD, 0, 8192, FALSE), 0);
	assert_true(reads_as(rig, 0, 8192, 9));
}

static void zeroes_are_written_where_nothing_else_helps(void **state)
{
	struct rig *rig = *state;
	guint writes;

	assert_int_equal(write_bytes(rig, 0, BYTES, 9), 0);
	assert_int_equal(simple(rig, VMM_DISK_ZEROES, 4096, 4096, TRUE), 0);
	assert_int_equal(inject.punches, 1);
	assert_true(reads_as(rig, 4096, 4096, 0));
	inject.no_punch = inject.no_zero_range = TRUE;
	writes = inject.writes;
	assert_int_equal(simple(rig, VMM_DISK_ZEROES, 8192, 4096, TRUE), 0);
	assert_true(inject.writes > writes);
	assert_true(reads_as(rig, 8192, 4096, 0));
	assert_true(reads_as(rig, 12288, 4096, 9));
	/* From now on without trying. */
	assert_int_equal(inject.punches, 2);
	inject.short_transfers = 100000;
	assert_int_equal(simple(rig, VMM_DISK_ZEROES, 0, BYTES, FALSE), 0);
	inject.short_transfers = 0;
	assert_true(reads_as(rig, 0, BYTES, 0));
}

static void what_is_forgotten_is_never_told(void **state)
{
	struct rig *rig = *state;
	struct wish kept, gone[4];

	ask(rig, &gone[0], VMM_DISK_WRITE, 0, 4096); /* in the kernel's hands */
	memset(gone[0].request->buffer, 1, 4096);
	ask(rig, &gone[1], VMM_DISK_FLUSH, 0, 0);
	ask(rig, &gone[2], VMM_DISK_READ, 0, 4096);
	go(rig);
	vmm_loop_iterate(rig->loop, 0);
	ask(rig, &gone[3], VMM_DISK_WRITE, 0, 4096); /* not yet */
	for (guint i = 0; i < 4; i++)
		if (!gone[i].done)
			rig->disk->forget(rig->disk->data, gone[i].request);
		else
			drop(&gone[i]);
	ask(rig, &kept, VMM_DISK_FLUSH, 0, 0);
	go(rig);
	run_until(rig, &kept.done);
	drop(&kept);
	assert_false(gone[3].done);
}

static void what_is_new_comes_after_what_was_forgotten(void **state)
{
	struct rig *rig = *state;

	for (guint round = 0; round < 50; round++) {
		struct wish old;

		ask(rig, &old, VMM_DISK_WRITE, 0, 262144);
		memset(old.request->buffer, 0xaa, 262144);
		go(rig);
		if (round % 2)
			vmm_loop_iterate(rig->loop, 0);
		if (old.done)
			drop(&old);
		else
			rig->disk->forget(rig->disk->data, old.request);
		assert_int_equal(write_bytes(rig, 0, 4096, (guint8)round), 0);
		assert_true(reads_as(rig, 0, 4096, (guint8)round));
	}
}

/* Until somebody reads from it, a write to it does not end. */
static void make_full_pipe(int ends[2])
{
	static const guint8 bytes[4096];

	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	while (write(ends[1], bytes, sizeof(bytes)) > 0)
		;
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(fcntl(ends[1], F_SETFL, 0), 0);
}

static void what_is_new_waits_for_what_was_forgotten_and_hangs(void **state)
{
	struct rig *rig = *state;
	struct wish old, new;
	guint8 bytes[4096];
	int ends[2];

	make_full_pipe(ends);
	inject.write_to = ends[1];
	inject.no_cancel = TRUE;
	ask(rig, &old, VMM_DISK_WRITE, 0, 4096);
	memset(old.request->buffer, 0xaa, 4096);
	go(rig);
	vmm_loop_iterate(rig->loop, 10);
	assert_int_equal(inject.writes, 1);
	inject.write_to = 0;
	rig->disk->forget(rig->disk->data, old.request);
	ask(rig, &new, VMM_DISK_WRITE, 0, 4096);
	memset(new.request->buffer, 0xbb, 4096);
	go(rig);
	for (guint i = 0; i < 20; i++)
		vmm_loop_iterate(rig->loop, 1);
	/* Not even handed over: the two could change places. */
	assert_int_equal(inject.writes, 1);
	assert_false(new.done);
	while (read(ends[0], bytes, sizeof(bytes)) > 0)
		;
	run_until(rig, &new.done);
	assert_int_equal(new.result, 0);
	drop(&new);
	close(ends[0]);
	close(ends[1]);
	assert_true(reads_as(rig, 0, 4096, 0xbb));
}

static void freeing_leaves_nothing_of_what_was_forgotten(void **state)
{
	struct rig *rig = *state;
	struct wish wishes[64];

	for (guint i = 0; i < 64; i++) {
		ask(rig, &wishes[i], VMM_DISK_WRITE, 0, 65536);
		memset(wishes[i].request->buffer, 1, 65536);
	}
	go(rig);
	vmm_loop_iterate(rig->loop, 0);
	for (guint i = 0; i < 64; i++)
		if (wishes[i].done)
			drop(&wishes[i]);
		else
			rig->disk->forget(rig->disk->data, wishes[i].request);
	rig->disk->free(rig->disk->data);
	/* The lock went with it. */
	rig->disk = vmm_disk_open(rig->path, FALSE, FALSE, rig->loop, NULL);
	assert_non_null(rig->disk);
}

/* Reachable for whoever looks for leaks: it is one, on purpose. */
static struct vmm_disk *volatile left_behind;

static void a_disk_that_hangs_does_not_hold_up_who_frees_it(void **state)
{
	struct rig *rig = *state;
	struct wish wish;
	int never[2];

	assert_int_equal(pipe(never), 0);
	inject.read_from = never[0];
	inject.no_cancel = TRUE;
	ask(rig, &wish, VMM_DISK_READ, 0, 4096);
	go(rig);
	vmm_loop_iterate(rig->loop, 0);
	rig->disk->forget(rig->disk->data, wish.request);
	left_behind = g_steal_pointer(&rig->disk);
	left_behind->free(left_behind->data);
	/* What may still be written to stays locked. */
	assert_null(vmm_disk_open(rig->path, FALSE, FALSE, rig->loop, NULL));
	close(never[0]);
	close(never[1]);
}

static void *submit_elsewhere(void *data)
{
	struct rig *rig = data;

	go(rig);
	return NULL;
}

static void a_thread_that_ends_takes_no_request_with_it(void **state)
{
	struct rig *rig = *state;
	struct wish wish;

	vmm_loop_iterate(rig->loop, 0);
	ask(rig, &wish, VMM_DISK_FLUSH, 0, 0);
	g_thread_join(g_thread_new("vcpu", submit_elsewhere, rig));
	assert_int_equal(inject.flushes, 0);
	run_until(rig, &wish.done);
	assert_int_equal(wish.result, 0);
	drop(&wish);
}

static void assert_refused(struct rig *rig, const char *path, gboolean readonly,
			   const char *words)
{
	g_autoptr(GError) error = NULL;

	assert_null(vmm_disk_open(path, readonly, FALSE, rig->loop, &error));
	assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_HOST));
	assert_non_null(strstr(error->message, path));
	if (!strstr(error->message, words))
		fail_msg("%s", error->message);
}

static void a_disk_in_use_cannot_be_opened_again(void **state)
{
	struct rig *rig = *state;
	struct vmm_disk *a, *b;

	assert_refused(rig, rig->path, FALSE, "in use by another process");
	assert_refused(rig, rig->path, TRUE, "in use by another process");
	rig->disk->free(rig->disk->data);
	rig->disk = NULL;
	/* Readers get on with each other, but not with a writer. */
	a = vmm_disk_open(rig->path, TRUE, FALSE, rig->loop, NULL);
	b = vmm_disk_open(rig->path, TRUE, FALSE, rig->loop, NULL);
	assert_true(a && b);
	assert_refused(rig, rig->path, FALSE, "in use by another process");
	assert_true(a->readonly && !a->can_discard && !a->can_zero);
	a->free(a->data);
	b->free(b->data);
}

static void what_is_no_disk_is_refused_with_the_reason(void **state)
{
	struct rig *rig = *state;
	g_autofree char *pipe_path = g_strconcat(rig->path, ".pipe", NULL);

	rig->disk->free(rig->disk->data);
	rig->disk = NULL;
	assert_refused(rig, "/nonexistent/disk", FALSE, "No such file");
	assert_refused(rig, "/tmp", FALSE, "neither a file nor a block device");
	assert_refused(rig, "/dev/null", FALSE, "neither a file nor a block device");
	assert_int_equal(mkfifo(pipe_path, 0600), 0);
	assert_refused(rig, pipe_path, FALSE, "neither a file nor a block device");
	unlink(pipe_path);
	assert_int_equal(truncate(rig->path, 1000), 0);
	assert_refused(rig, rig->path, FALSE, "not a multiple of 512");
	assert_int_equal(truncate(rig->path, 0), 0);
	assert_refused(rig, rig->path, FALSE, "not a multiple of 512");
}

static void a_host_without_io_uring_is_told_what_to_look_at(void **state)
{
	struct rig *rig = *state;

	rig->disk->free(rig->disk->data);
	rig->disk = NULL;
	inject.ring_error = -EPERM;
	assert_refused(rig, rig->path, FALSE, "kernel.io_uring_disabled");
	inject.ring_error = -ENOMEM;
	assert_refused(rig, rig->path, FALSE, "io_uring");
}

static void direct_io_works_or_says_why_not(void **state)
{
	struct rig *rig = *state;
	g_autoptr(GError) error = NULL;

	rig->disk->free(rig->disk->data);
	rig->disk = vmm_disk_open(rig->path, FALSE, TRUE, rig->loop, &error);
	if (!rig->disk) {
		assert_non_null(strstr(error->message, "direct I/O"));
		return;
	}
	assert_int_equal(write_bytes(rig, 8192, 8192, 0x77), 0);
	assert_true(reads_as(rig, 8192, 8192, 0x77));
	assert_true(reads_as(rig, 4096, 4096, 0));
	assert_int_equal(simple(rig, VMM_DISK_FLUSH, 0, 0, FALSE), 0);
}

/* On a loop device over the file, where one can be had. */
static void a_block_device_is_a_disk(void **state)
{
	struct rig *rig = *state;
	g_autofree char *command = NULL;
	g_autofree char *device = NULL;
	int status;

	rig->disk->free(rig->disk->data);
	rig->disk = NULL;
	command = g_strdup_printf("losetup --find --show %s", rig->path);
	if (!g_spawn_command_line_sync(command, &device, NULL, &status, NULL) ||
	    status) {
		print_message("NOT TESTED: no loop device to be had\n");
		skip();
	}
	g_strstrip(device);
	rig->disk = vmm_disk_open(device, FALSE, FALSE, rig->loop, NULL);
	if (rig->disk) {
		assert_int_equal(rig->disk->size, BYTES);
		assert_int_equal(write_bytes(rig, 4096, 8192, 0x5a), 0);
		assert_int_equal(simple(rig, VMM_DISK_FLUSH, 0, 0, FALSE), 0);
		assert_int_equal(simple(rig, VMM_DISK_DISCARD, 4096, 4096, FALSE), 0);
		assert_int_equal(simple(rig, VMM_DISK_ZEROES, 8192, 4096, TRUE), 0);
		assert_true(reads_as(rig, 8192, 4096, 0));
		assert_refused(rig, device, FALSE, "in use by another process");
		rig->disk->free(rig->disk->data);
	}
	g_free(command);
	command = g_strdup_printf("losetup --detach %s", device);
	g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL);
	assert_non_null(rig->disk);
	rig->disk = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_is_read_again),
		TEST(what_it_holds_can_be_read_at_once),
		TEST(a_transfer_that_is_cut_short_is_continued),
		TEST(a_file_that_became_shorter_is_an_error),
		TEST(more_requests_than_the_ring_holds_all_complete),
		TEST(nothing_is_handed_over_while_somebody_waits_for_the_loop),
		TEST(a_flush_completes_after_the_writes_before_it_are_durable),
		TEST(after_a_failed_flush_nothing_is_written_any_more),
		TEST(a_sync_makes_durable_what_was_written),
		TEST(a_sync_that_failed_once_fails_for_good),
		TEST(nothing_is_synced_after_a_failed_flush),
		TEST(a_read_only_disk_has_nothing_to_sync),
		TEST(what_others_left_in_the_hosts_memory_is_not_believed),
		TEST(what_is_refused_is_told_from_a_later_turn_of_the_loop),
		TEST(a_discard_gives_storage_back),
		TEST(a_discard_that_cannot_be_is_ignored),
		TEST(zeroes_are_written_where_nothing_else_helps),
		TEST(what_is_forgotten_is_never_told),
		TEST(what_is_new_comes_after_what_was_forgotten),
		TEST(what_is_new_waits_for_what_was_forgotten_and_hangs),
		TEST(freeing_leaves_nothing_of_what_was_forgotten),
		TEST(a_disk_that_hangs_does_not_hold_up_who_frees_it),
		TEST(a_thread_that_ends_takes_no_request_with_it),
		TEST(a_disk_in_use_cannot_be_opened_again),
		TEST(what_is_no_disk_is_refused_with_the_reason),
		TEST(a_host_without_io_uring_is_told_what_to_look_at),
		TEST(direct_io_works_or_says_why_not),
		TEST(a_block_device_is_a_disk),
		TEST(an_image_of_another_format_is_warned_about),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
