/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A raw file or block device over io_uring.
 *
 * One ring per disk, watched by the loop through its own descriptor, which is readable
 * as long as there are completions. Requests are handed to the kernel only on the I/O
 * thread: io_uring cancels what a thread submitted when that thread ends, and a vCPU's
 * or a loader's may. Elsewhere they wait in `waiting`, and the loop is called.
 *
 * Order: there is none among requests, with two exceptions. A flush is handed over
 * alone, and flushes that come meanwhile share the next one: with two at once, the
 * kernel would tell only one of them about a write that failed. And what was forgotten
 * while it was in the kernel's hands cannot be called back: until the kernel is through
 * with it, nothing new is handed over, or an old write could land on top of a newer
 * one.
 *
 * A flush that failed is final (see kvm/block.h).
 *
 * Freeing never waits long for a disk that hangs. Where the kernel may still write into
 * a buffer, all of it is left behind instead: memory, ring, and the descriptor with its
 * lock, since such a write may also still reach the disk.
 */
#include "kvm/block.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fd.h"
#include "kvm/error.h"

/* Requests in the kernel's hands. The ring has room for as many cancellations on top.
 */
#define IN_KERNEL_MAX 256
#define RING_ENTRIES (2 * IN_KERNEL_MAX)
/* Completions in one run of the handler. */
#define BATCH 64
/* Bytes handed over at once, about: see pump(). */
#define PIECE_MAX (256u << 10)
#define FREE_WAIT_NS (2 * 1000000000ull)
#define ZEROES_LEN (1u << 20)
#define ALIGNMENT 4096

enum place {
	WAITING,    /* in `waiting` */
	IN_KERNEL,  /* in `in_kernel` */
	FLUSHING,   /* in `flushing`: covered by the flush that runs */
	FLUSH_NEXT, /* in `flush_next`: after the one that runs */
	FINISHED,   /* in `finished`: done() is due */
};

/* How bytes come to read as zeroes, cheapest first. */
enum zeroing { BY_PUNCHING, BY_ZERO_RANGE, BY_WRITING };

struct op {
	GList link; /* in the queue that `place` names */
	enum place place;
	struct vmm_disk_request *request;
	guint64 done;	      /* bytes of it */
	enum zeroing zeroing; /* of DISCARD and ZEROES, when handed over */
	gboolean orphan;      /* forgotten while in the kernel's hands */
	int result;	      /* when FINISHED */
};

struct disk {
	struct vmm_disk disk;
	char *path;
	int fd;
	/* For sync() only: the kernel tells each opening of a file once that a write
	 * failed, and what one of the two is told must not be kept from the other. */
	int sync_fd;
	gboolean sync_failed; /* it was told */
	vmm_loop *loop;
	vmm_source *source;
	gboolean at_rest; /* served also while the loop is held */
	struct io_uring ring;
	GThread *io_thread; /* on which the handler ran last */
	GQueue waiting, in_kernel, flushing, flush_next, finished; /* struct op */
	guint unfinished; /* of the kernel: requests, flushes, cancellations */
	guint orphans;	  /* in the kernel's hands that may change the disk */
	gboolean flush_running;
	gint flush_failed; /* sync() looks at it without the device lock */
	gboolean flush_in_ring; /* of one that runs: the kernel has not taken it yet */
	gboolean no_punch, no_zero_range; /* the file system cannot */
	gboolean told;	/* done() was called in this run of the handler */
	guint8 *zeroes; /* ZEROES_LEN, made when needed */
};

/* What completes without an op: its address tells which it was. */
static char flush_tag, cancel_tag;

static GQueue *queue_of(struct disk *disk, enum place place)
{
	switch (place) {
	case WAITING:
		return &disk->waiting;
	case IN_KERNEL:
		return &disk->in_kernel;
	case FLUSHING:
		return &disk->flushing;
	case FLUSH_NEXT:
		return &disk->flush_next;
	case FINISHED:
		break;
	}
	return &disk->finished;
}

static void take_out(struct disk *disk, struct op *op)
{
	g_queue_unlink(queue_of(disk, op->place), &op->link);
}

static void put_last(struct disk *disk, struct op *op, enum place place)
{
	op->place = place;
	g_queue_push_tail_link(queue_of(disk, place), &op->link);
}

static void put_first(struct disk *disk, struct op *op, enum place place)
{
	op->place = place;
	g_queue_push_head_link(queue_of(disk, place), &op->link);
}

static gboolean changes_disk(const struct op *op)
{
	return op->request->op != VMM_DISK_READ && op->request->op != VMM_DISK_FLUSH;
}

/* An op that is in no queue: tells the requester. */
static void finish(struct disk *disk, struct op *op, int result)
{
	struct vmm_disk_request *request = op->request;

	g_free(op);
	disk->told = TRUE;
	request->handle = NULL;
	request->done(request, result);
}

/* The same where done() must not be called yet: from within submit(), or while queues
 * are walked. */
static void finish_later(struct disk *disk, struct op *op, int result)
{
	op->result = result;
	put_last(disk, op, FINISHED);
	vmm_loop_again(disk->source);
}

static void free_forgotten(struct op *op)
{
	free(op->request->buffer);
	g_free(op->request);
	g_free(op);
}

static const guint8 *zeroes(struct disk *disk)
{
	if (!disk->zeroes) {
		void *memory = NULL;

		if (posix_memalign(&memory, ALIGNMENT, ZEROES_LEN))
			g_error("out of memory");
		disk->zeroes = memset(memory, 0, ZEROES_LEN);
	}
	return disk->zeroes;
}

static enum zeroing choose_zeroing(const struct disk *disk,
				   const struct vmm_disk_request *request)
{
	if (request->op == VMM_DISK_DISCARD || (request->unmap && !disk->no_punch))
		return BY_PUNCHING;
	return disk->no_zero_range ? BY_WRITING : BY_ZERO_RANGE;
}

static void prepare_zeroing(struct disk *disk, struct io_uring_sqe *sqe, struct op *op)
{
	const struct vmm_disk_request *request = op->request;
	int mode = FALLOC_FL_KEEP_SIZE;

	op->zeroing = choose_zeroing(disk, request);
	if (op->zeroing == BY_WRITING) {
		io_uring_prep_write(sqe, disk->fd, zeroes(disk),
				    (guint)MIN(request->len - op->done, ZEROES_LEN),
				    request->offset + op->done);
		return;
	}
	mode |= op->zeroing == BY_PUNCHING ? FALLOC_FL_PUNCH_HOLE
					   : FALLOC_FL_ZERO_RANGE;
	io_uring_prep_fallocate(sqe, disk->fd, mode, request->offset, request->len);
}

static void prepare(struct disk *disk, struct io_uring_sqe *sqe, struct op *op)
{
	const struct vmm_disk_request *request = op->request;
	guint64 offset = request->offset + op->done;
	guint left = (guint)(request->len - op->done);

	if (request->op == VMM_DISK_READ)
		io_uring_prep_read(sqe, disk->fd, request->buffer + op->done, left,
				   offset);
	else if (request->op == VMM_DISK_WRITE)
		io_uring_prep_write(sqe, disk->fd, request->buffer + op->done, left,
				    offset);
	else
		prepare_zeroing(disk, sqe, op);
	io_uring_sqe_set_data(sqe, op);
}

/* NULL: the ring is full, which ends when the kernel has taken what is in it. */
static struct io_uring_sqe *get_sqe(struct disk *disk)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&disk->ring);

	if (sqe)
		disk->unfinished++;
	return sqe;
}

static gboolean start_flush(struct disk *disk)
{
	struct io_uring_sqe *sqe = get_sqe(disk);

	if (!sqe)
		return FALSE;
	io_uring_prep_fsync(sqe, disk->fd, IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_data(sqe, &flush_tag);
	disk->flush_running = disk->flush_in_ring = TRUE;
	return TRUE;
}

/* Takes the first op out of `waiting` to where it belongs; FALSE: the ring is full. */
static gboolean start_first(struct disk *disk)
{
	struct op *op = disk->waiting.head->data;
	struct io_uring_sqe *sqe;

	if (disk->flush_failed && op->request->op != VMM_DISK_READ) {
		take_out(disk, op);
		finish_later(disk, op, -EIO);
		return TRUE;
	}
	if (op->request->op == VMM_DISK_FLUSH) {
		if (!disk->flush_running && !start_flush(disk))
			return FALSE;
		take_out(disk, op);
		/* One that the kernel has begun may miss what completed since. */
		put_last(disk, op, disk->flush_in_ring ? FLUSHING : FLUSH_NEXT);
		return TRUE;
	}
	sqe = get_sqe(disk);
	if (!sqe)
		return FALSE;
	take_out(disk, op);
	put_last(disk, op, IN_KERNEL);
	prepare(disk, sqe, op);
	return TRUE;
}

static gboolean may_start(const struct disk *disk)
{
	return disk->waiting.length && disk->in_kernel.length < IN_KERNEL_MAX &&
	       !disk->orphans;
}

static guint64 transfer_len(const struct vmm_disk_request *request)
{
	return request->op == VMM_DISK_READ || request->op == VMM_DISK_WRITE
		       ? request->len
		       : 0;
}

/* Hands over the next piece of what may be; FALSE: there is no more now. */
static gboolean pump_piece(struct disk *disk)
{
	guint64 bytes = 0;
	int ret;

	while (may_start(disk) && bytes < PIECE_MAX) {
		const struct op *op = disk->waiting.head->data;

		bytes += transfer_len(op->request);
		if (!start_first(disk))
			break;
	}
	if (!io_uring_sq_ready(&disk->ring))
		return may_start(disk);
	ret = io_uring_submit(&disk->ring);
	if (!io_uring_sq_ready(&disk->ring))
		disk->flush_in_ring = FALSE;
	if (ret >= 0 && !io_uring_sq_ready(&disk->ring))
		return may_start(disk);
	/* Short of memory, or interrupted: what was not taken stays in the ring. */
	if (ret < 0 && ret != -EAGAIN && ret != -EBUSY && ret != -EINTR)
		g_error("disk %s: submit: %s", disk->path, g_strerror(-ret));
	vmm_loop_again(disk->source);
	return FALSE;
}

/* A handler that runs while the loop is held holds nobody up. */
static gboolean shall_stop(const struct disk *disk)
{
	return !disk->at_rest && vmm_loop_wanted(disk->loop);
}

/* Hands over what may be. On the I/O thread. What the kernel has in its cache it copies
 * before it returns, which a pause must not wait for: so in pieces. */
static void pump(struct disk *disk)
{
	while (!shall_stop(disk))
		if (!pump_piece(disk))
			return;
	if (may_start(disk) || io_uring_sq_ready(&disk->ring))
		vmm_loop_again(disk->source);
}

static void fail_flushes(struct disk *disk, int err)
{
	if (disk->flush_failed)
		return;
	g_atomic_int_set(&disk->flush_failed, TRUE);
	g_warning("disk %s: flush failed: %s: every later write and flush is refused; "
		  "check the storage, then start the machine anew",
		  disk->path, g_strerror(err));
}

/* No answer: neither that it was done nor that it failed. */
static gboolean is_retry(int result)
{
	return result == -EINTR || result == -EAGAIN || result == -ECANCELED;
}

static void flush_completed(struct disk *disk, int result)
{
	disk->flush_running = FALSE;
	if (result < 0 && !is_retry(result))
		fail_flushes(disk, -result);
	while (disk->flushing.length) {
		struct op *op = disk->flushing.head->data;

		take_out(disk, op);
		if (is_retry(result))
			put_last(disk, op, FLUSH_NEXT);
		else
			finish_later(disk, op, disk->flush_failed ? -EIO : 0);
	}
	while (disk->flush_next.length) {
		struct op *op = disk->flush_next.tail->data;

		take_out(disk, op);
		put_first(disk, op, WAITING);
	}
}

static gboolean is_unsupported(int result)
{
	return result == -EOPNOTSUPP || result == -ENOSYS;
}

/* Zeroing that the file system cannot do is tried in the next way. */
static void zeroing_unsupported(struct disk *disk, struct op *op)
{
	if (op->request->op == VMM_DISK_DISCARD) {
		/* A hint, which may be ignored. */
		finish(disk, op, 0);
		return;
	}
	if (op->zeroing == BY_PUNCHING)
		disk->no_punch = TRUE;
	else
		disk->no_zero_range = TRUE;
	put_first(disk, op, WAITING);
}

static gboolean is_zeroing(const struct op *op)
{
	return op->request->op == VMM_DISK_DISCARD ||
	       op->request->op == VMM_DISK_ZEROES;
}

static void op_completed(struct disk *disk, struct op *op, int result)
{
	gboolean whole = is_zeroing(op) && op->zeroing != BY_WRITING;

	take_out(disk, op);
	if (op->orphan) {
		if (changes_disk(op))
			disk->orphans--;
		free_forgotten(op);
	} else if (is_retry(result)) {
		put_first(disk, op, WAITING);
	} else if (whole && is_unsupported(result)) {
		zeroing_unsupported(disk, op);
	} else if (result < 0) {
		finish(disk, op, result);
	} else if (whole) {
		finish(disk, op, 0);
	} else if (result == 0) {
		/* The file has become shorter than it was, or cannot grow. */
		finish(disk, op, -EIO);
	} else {
		op->done += (guint)result;
		if (op->done < op->request->len)
			put_first(disk, op, WAITING);
		else
			finish(disk, op, 0);
	}
}

static void take_completion(struct disk *disk, struct io_uring_cqe *cqe)
{
	void *data = io_uring_cqe_get_data(cqe);
	int result = cqe->res;

	io_uring_cqe_seen(&disk->ring, cqe);
	disk->unfinished--;
	if (data == &flush_tag)
		flush_completed(disk, result);
	else if (data != &cancel_tag)
		op_completed(disk, data, result);
}

static void on_ring(void *data, guint32 events)
{
	struct disk *disk = data;
	struct io_uring_cqe *cqe;

	disk->io_thread = g_thread_self();
	disk->told = FALSE;
	for (guint n = 0; n < BATCH && !shall_stop(disk); n++) {
		if (io_uring_peek_cqe(&disk->ring, &cqe) || !cqe)
			break;
		take_completion(disk, cqe);
	}
	/* Those only that are there now: done() may add some. */
	for (guint n = disk->finished.length; n && disk->finished.length; n--) {
		struct op *op = disk->finished.head->data;

		take_out(disk, op);
		finish(disk, op, op->result);
	}
	if (disk->told && disk->disk.batch_done)
		disk->disk.batch_done(disk->disk.user);
	pump(disk);
}

static void submit(void *data, struct vmm_disk_request *request)
{
	struct disk *disk = data;
	struct op *op = g_new0(struct op, 1);

	op->link.data = op;
	op->request = request;
	request->handle = op;
	put_last(disk, op, WAITING);
}

static void flush_submissions(void *data)
{
	struct disk *disk = data;

	if (disk->io_thread == g_thread_self())
		pump(disk);
	else
		vmm_loop_again(disk->source);
}

/* Asks the kernel to give up on an op; it may be too late for that. */
static void cancel(struct disk *disk, struct op *op)
{
	struct io_uring_sqe *sqe = get_sqe(disk);

	if (!sqe)
		return;
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, &cancel_tag);
}

static void forget(void *data, struct vmm_disk_request *request)
{
	struct disk *disk = data;
	struct op *op = request->handle;

	request->handle = NULL;
	if (op->place != IN_KERNEL) {
		take_out(disk, op);
		free_forgotten(op);
		return;
	}
	op->orphan = TRUE;
	if (changes_disk(op))
		disk->orphans++;
	cancel(disk, op);
	vmm_loop_again(disk->source);
}

static void serve_at_rest(void *data, gboolean on)
{
	struct disk *disk = data;

	disk->at_rest = on;
	vmm_source_serve_at_rest(disk->source, on);
}

/* Also of what the guest has not asked to be flushed. */
static gboolean sync_disk(void *data, GError **error)
{
	struct disk *disk = data;
	int err;

	if (disk->disk.readonly)
		return TRUE;
	if (disk->sync_failed || g_atomic_int_get(&disk->flush_failed))
		return vmm_error_set(error, VMM_ERROR_HOST,
				     "flush disk %s: a flush failed before, and what was "
				     "lost then is not known",
				     disk->path);
	if (fdatasync(disk->sync_fd) == 0)
		return TRUE;
	err = errno;
	disk->sync_failed = TRUE;
	return vmm_error_errno(error, err, "flush disk %s", disk->path);
}

static gboolean read_now(void *data, guint64 offset, void *bytes, gsize len, GError **error)
{
	struct disk *disk = data;
	gsize done = 0;

	while (done < len) {
		gssize n = pread(disk->fd, (guint8 *)bytes + done, len - done,
				 (off_t)(offset + done));
		int err = n < 0 ? errno : EIO;

		if (n < 0 && err == EINTR)
			continue;
		if (n <= 0)
			return vmm_error_errno(error, err, "read disk %s", disk->path);
		done += (gsize)n;
	}
	return TRUE;
}

/* Waits a bounded time until the kernel is through with everything. */
static gboolean wait_for_kernel(struct disk *disk)
{
	guint64 deadline = base_clock_monotonic_ns() + FREE_WAIT_NS;
	guint64 now;

	for (GList *l = disk->in_kernel.head; l; l = l->next)
		cancel(disk, l->data);
	while (disk->unfinished && (now = base_clock_monotonic_ns()) < deadline) {
		struct __kernel_timespec left = {
			.tv_sec = (gint64)((deadline - now) / 1000000000),
			.tv_nsec = (gint64)((deadline - now) % 1000000000),
		};
		struct io_uring_cqe *cqe;

		io_uring_submit(&disk->ring);
		if (io_uring_wait_cqe_timeout(&disk->ring, &cqe, &left) == 0)
			take_completion(disk, cqe);
	}
	return disk->unfinished == 0;
}

static void free_disk(void *data)
{
	struct disk *disk = data;

	g_assert(!disk->waiting.length && !disk->flushing.length &&
		 !disk->flush_next.length && !disk->finished.length);
	vmm_source_remove(disk->source);
	if (!wait_for_kernel(disk)) {
		g_warning(
			"disk %s: does not answer: %u requests are left behind, and it "
			"stays locked until this process ends",
			disk->path, disk->unfinished);
		return;
	}
	io_uring_queue_exit(&disk->ring);
	base_fd_clear(&disk->sync_fd);
	close(disk->fd);
	free(disk->zeroes);
	g_free(disk->path);
	g_free(disk);
}

static gboolean check_type(const char *path, const struct stat *st, GError **error)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return TRUE;
	return vmm_error_set(error, VMM_ERROR_HOST,
			     "disk %s: neither a file nor a block device", path);
}

static gboolean open_path(struct disk *disk, gboolean direct, struct stat *st,
			  GError **error)
{
	int flags = O_CLOEXEC | (disk->disk.readonly ? O_RDONLY : O_RDWR);

	/* Before it is opened: to open a pipe would wait for its other end. */
	if (stat(disk->path, st) < 0)
		return vmm_error_errno(error, errno, "open disk %s", disk->path);
	if (!check_type(disk->path, st, error))
		return FALSE;
	disk->fd = open(disk->path, flags | (direct ? O_DIRECT : 0));
	if (disk->fd < 0 && direct && errno == EINVAL)
		return vmm_error_set(error, VMM_ERROR_HOST,
				     "disk %s: its file system cannot do direct I/O",
				     disk->path);
	if (disk->fd < 0 || fstat(disk->fd, st) < 0)
		return vmm_error_errno(error, errno, "open disk %s", disk->path);
	return check_type(disk->path, st, error);
}

static gboolean find_size(struct disk *disk, const struct stat *st, GError **error)
{
	int block_size = VMM_SECTOR;
	int readonly = 0;

	disk->disk.size = (guint64)st->st_size;
	if (S_ISBLK(st->st_mode) &&
	    (ioctl(disk->fd, BLKGETSIZE64, &disk->disk.size) < 0 ||
	     ioctl(disk->fd, BLKSSZGET, &block_size) < 0 ||
	     ioctl(disk->fd, BLKROGET, &readonly) < 0))
		return vmm_error_errno(error, errno, "size of disk %s", disk->path);
	if (readonly && !disk->disk.readonly)
		return vmm_error_set(error, VMM_ERROR_HOST,
				     "disk %s: the device is read-only", disk->path);
	if (block_size < (int)VMM_SECTOR || block_size > ALIGNMENT)
		return vmm_error_set(
			error, VMM_ERROR_HOST,
			"disk %s: blocks of %d bytes, from 512 to 4096 can be",
			disk->path, block_size);
	disk->disk.block_size = (guint)block_size;
	if (!disk->disk.size || disk->disk.size % disk->disk.block_size)
		return vmm_error_set(
			error, VMM_ERROR_HOST,
			"disk %s: %" G_GUINT64_FORMAT " bytes, not a multiple of %u",
			disk->path, disk->disk.size, disk->disk.block_size);
	return TRUE;
}

static gboolean lock(struct disk *disk, GError **error)
{
	struct flock lock = {
		.l_type = disk->disk.readonly ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	if (fcntl(disk->fd, F_OFD_SETLK, &lock) == 0)
		return TRUE;
	if (errno == EAGAIN || errno == EACCES)
		return vmm_error_set(error, VMM_ERROR_HOST,
				     "disk %s: in use by another process", disk->path);
	return vmm_error_errno(error, errno, "lock disk %s", disk->path);
}

/* After a write-back that failed, Linux keeps what it could not write as if it were on the
 * disk: nothing that others left there is believed. */
static void forget_cache(const struct disk *disk)
{
	posix_fadvise(disk->fd, 0, 0, POSIX_FADV_DONTNEED);
}

static gboolean open_for_sync(struct disk *disk, GError **error)
{
	g_autofree char *again = g_strdup_printf("/proc/self/fd/%d", disk->fd);

	if (disk->disk.readonly)
		return TRUE;
	disk->sync_fd = open(again, O_RDONLY | O_CLOEXEC);
	return disk->sync_fd >= 0 ||
	       vmm_error_errno(error, errno, "open disk %s again", disk->path);
}

/* Direct I/O has an alignment that only the file system knows. */
static gboolean probe_direct(struct disk *disk, GError **error)
{
	void *buffer = NULL;
	gssize got;
	int err;

	if (posix_memalign(&buffer, ALIGNMENT, ALIGNMENT))
		g_error("out of memory");
	got = pread(disk->fd, buffer, disk->disk.block_size, 0);
	err = errno;
	free(buffer);
	if (got >= 0)
		return TRUE;
	if (err == EINVAL)
		return vmm_error_set(
			error, VMM_ERROR_HOST,
			"disk %s: direct I/O there needs blocks larger than "
			"%u bytes; use it without",
			disk->path, disk->disk.block_size);
	return vmm_error_errno(error, err, "read disk %s", disk->path);
}

/* An image of another format is legal as a raw disk, and hardly ever meant. */
static void warn_of_format(const struct disk *disk)
{
	static const struct {
		const char *name, *magic;
		gsize len;
	} formats[] = {
		{ "qcow2", "QFI\xfb", 4 },
		{ "VMDK", "KDMV", 4 },
		{ "VMDK", "COWD", 4 },
		{ "VHD", "conectix", 8 },
		{ "VHDX", "vhdxfile", 8 },
		{ "QED", "QED", 4 },
		{ "VDI", "<<< QEMU VM Virtual Disk Image", 30 },
		{ "VDI", "<<< Oracle VM VirtualBox Disk Image", 35 },
	};
	void *bytes = NULL;
	gssize got;

	if (posix_memalign(&bytes, ALIGNMENT, ALIGNMENT))
		g_error("out of memory");
	got = pread(disk->fd, bytes, disk->disk.block_size, 0);
	for (guint i = 0; i < G_N_ELEMENTS(formats); i++)
		if (got >= (gssize)formats[i].len &&
		    !memcmp(bytes, formats[i].magic, formats[i].len))
			g_warning("disk %s: begins like a %s image, and is used as raw "
				  "bytes all the same",
				  disk->path, formats[i].name);
	free(bytes);
}

static gboolean make_ring(struct disk *disk, GError **error)
{
	int ret = io_uring_queue_init(RING_ENTRIES, &disk->ring, 0);

	if (ret == 0)
		return TRUE;
	if (ret == -EPERM || ret == -ENOSYS)
		return vmm_error_set(
			error, VMM_ERROR_HOST,
			"disk %s: io_uring is not permitted here: %s (look at "
			"sysctl kernel.io_uring_disabled and seccomp filters)",
			disk->path, g_strerror(-ret));
	return vmm_error_errno(error, -ret, "disk %s: make an io_uring", disk->path);
}

struct vmm_disk *vmm_disk_open(const char *path, gboolean readonly, gboolean direct,
			       vmm_loop *loop, GError **error)
{
	struct disk *disk = g_new0(struct disk, 1);
	struct stat st;

	disk->fd = disk->sync_fd = -1;
	disk->path = g_strdup(path);
	disk->loop = loop;
	disk->disk = (struct vmm_disk){
		.data = disk,
		.readonly = readonly,
		.can_discard = !readonly,
		.can_zero = !readonly,
		.submit = submit,
		.flush_submissions = flush_submissions,
		.forget = forget,
		.serve_at_rest = serve_at_rest,
		.sync = sync_disk,
		.read_now = read_now,
		.free = free_disk,
	};
	if (!open_path(disk, direct, &st, error) || !find_size(disk, &st, error) ||
	    !lock(disk, error) || !open_for_sync(disk, error) ||
	    (direct && !probe_direct(disk, error)) || !make_ring(disk, error)) {
		base_fd_clear(&disk->sync_fd);
		base_fd_clear(&disk->fd);
		g_free(disk->path);
		g_free(disk);
		return NULL;
	}
	if (!readonly)
		forget_cache(disk);
	warn_of_format(disk);
	disk->source = vmm_loop_add(loop, disk->ring.ring_fd, EPOLLIN, on_ring, disk);
	return &disk->disk;
}
