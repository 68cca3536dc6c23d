/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole machine as one stream of bytes.
 *
 * Saving writes pages straight from guest memory: runs of pages become chunks, whose
 * headers and pages go out together in large vectors. Pages that were never touched are
 * holes in guest memory's file and are not even looked at (looking would allocate
 * them).
 *
 * Loading reads pages straight into guest memory. The reader takes ahead into a small
 * buffer whatever follows the pages it was asked for, which is the next headers, so
 * that there is one system call for each raw chunk. A regular file is read twice: once
 * into a scratch buffer, to find a fault before anything is touched, then into memory,
 * with the same checks since the file can change meanwhile. A stream can only be read
 * once: a fault in its memory part leaves memory empty.
 *
 * KVM judges some values only when it is given them. So the machine loads its state
 * before memory is touched, which can still be refused, and again after memory, so that
 * whatever KVM writes there when it is given a state is there in the end.
 */
#include "kvm/savefile.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <xxhash.h>

#include "base/fd.h"
#include "base/unixsock.h"
#include "kvm/error.h"

#define MIB (1u << 20)
#define BATCH_CHUNKS 64u /* chunks in one vector */
#define BATCH_BYTES (8u * MIB)
#define AHEAD (64u << 10) /* bytes read beyond what was asked for */

G_STATIC_ASSERT(MIB == VMM_PAGE * WIRE_SAVE_CHUNK_PAGES);

/* One end of a transfer. */
struct stream {
	int fd;
	gboolean regular, socket;
	const struct vmm_transfer *transfer;
};

static gboolean open_stream(struct stream *stream, int fd,
			    const struct vmm_transfer *transfer, GError **error)
{
	struct stat st;
	int flags;

	*stream = (struct stream){ .fd = fd, .transfer = transfer };
	flags = fcntl(fd, F_GETFL);
	if (fstat(fd, &st) < 0 || flags < 0)
		return vmm_error_errno(error, errno, "look at descriptor");
	stream->regular = S_ISREG(st.st_mode);
	stream->socket = S_ISSOCK(st.st_mode);
	/* Else a large write would wait inside the kernel, past every deadline. */
	if (!stream->regular && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return vmm_error_errno(error, errno, "make descriptor non-blocking");
	return TRUE;
}

/* Waits until the stream is ready. `deadline_ms` -1: for ever. */
static gboolean wait_ready(int fd, short events, GCancellable *cancel, int deadline_ms,
			   GError **error)
{
	struct pollfd polls[2] = { { .fd = fd, .events = events } };
	GPollFD cancelled = { 0 };
	gboolean watched = cancel && g_cancellable_make_pollfd(cancel, &cancelled);
	int ready, err;

	if (watched)
		polls[1] = (struct pollfd){ .fd = cancelled.fd, .events = POLLIN };
	do {
		ready = poll(polls, watched ? 2 : 1, deadline_ms);
		err = errno;
	} while (ready < 0 && err == EINTR);
	if (watched)
		g_cancellable_release_fd(cancel);
	if (g_cancellable_set_error_if_cancelled(cancel, error))
		return FALSE;
	if (ready < 0)
		return vmm_error_errno(error, err, "wait for the other end");
	if (ready == 0)
		return vmm_error_set(error, VMM_ERROR_HOST,
				     "the other end did nothing for %d ms",
				     deadline_ms);
	return TRUE;
}

static gboolean stream_wait(const struct stream *stream, short events, GError **error)
{
	const struct vmm_transfer *transfer = stream->transfer;

	if (stream->regular)
		return !g_cancellable_set_error_if_cancelled(transfer->cancel, error);
	return wait_ready(stream->fd, events, transfer->cancel,
			  (int)transfer->deadline_ms, error);
}

static void report_progress(const struct stream *stream, guint64 done, guint64 total)
{
	if (stream->transfer->progress)
		stream->transfer->progress(stream->transfer->data, done, total);
}

/* Saving */

struct saver {
	struct stream stream;
	const vmm_memory *memory;
	guint64 pages; /* of all memory */
	/* Over all but the pages, which their checksums stand for. */
	XXH3_state_t *whole;
	/* What was collected and not yet written. */
	struct wire_save_chunk chunks[BATCH_CHUNKS];
	struct iovec iov[2 * BATCH_CHUNKS];
	guint n_chunks, n_iov;
	gsize bytes;
	guint64 zero_first, zero_pages; /* a run that may still grow */
};

/* TRUE for pages that hold nothing but zeros. */
static gboolean page_is_zero(const guint8 *page)
{
	const guint64 *word = (const guint64 *)page;

	for (guint i = 0; i < VMM_PAGE / sizeof(*word); i += 8)
		if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] |
		    word[i + 5] | word[i + 6] | word[i + 7])
			return FALSE;
	return TRUE;
}

/* Leaves out the first `done` bytes of what `*iov` and `*count` describe. */
static void skip_bytes(struct iovec **iov, guint *count, gsize done)
{
	while (*count && done >= (*iov)->iov_len) {
		done -= (*iov)->iov_len;
		(*iov)++;
		(*count)--;
	}
	if (*count) {
		(*iov)->iov_base = (guint8 *)(*iov)->iov_base + done;
		(*iov)->iov_len -= done;
	}
}

/* Uses up `iov`. */
static gboolean stream_write(const struct stream *stream, struct iovec *iov,
			     guint count, GError **error)
{
	while (count) {
		struct msghdr message = { .msg_iov = iov, .msg_iovlen = count };
		gssize done;

		if (!stream_wait(stream, POLLOUT, error))
			return FALSE;
		if (stream->socket)
			done = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
		else
			done = writev(stream->fd, iov, (int)count);
		if (done >= 0)
			skip_bytes(&iov, &count, (gsize)done);
		else if (errno != EINTR && errno != EAGAIN)
			return vmm_error_errno(error, errno, "write");
	}
	return TRUE;
}

static gboolean flush_batch(struct saver *saver, GError **error)
{
	guint count = saver->n_iov;

	saver->n_iov = 0;
	saver->n_chunks = 0;
	saver->bytes = 0;
	return stream_write(&saver->stream, saver->iov, count, error);
}

static void batch_bytes(struct saver *saver, const void *bytes, gsize len)
{
	saver->iov[saver->n_iov++] = (struct iovec){ (void *)bytes, len };
	saver->bytes += len;
}

static gboolean add_chunk(struct saver *saver, enum wire_save_kind kind, guint64 first,
			  guint64 pages, GError **error)
{
	struct wire_save_chunk *chunk = &saver->chunks[saver->n_chunks++];
	const guint8 *data =
		kind == WIRE_SAVE_RAW ? vmm_memory_page(saver->memory, first) : NULL;
	guint64 checksum = 0;

	if (data)
		checksum = XXH3_64bits(data, pages * VMM_PAGE);
	else if (kind == WIRE_SAVE_END)
		checksum = XXH3_64bits_digest(saver->whole);
	*chunk = (struct wire_save_chunk){
		.kind = wire_put32(kind),
		.pages = wire_put32((guint32)pages),
		.first = wire_put64(first),
		.checksum = wire_put64(checksum),
	};
	XXH3_64bits_update(saver->whole, chunk, sizeof(*chunk));
	batch_bytes(saver, chunk, sizeof(*chunk));
	if (data)
		batch_bytes(saver, data, pages * VMM_PAGE);
	if (saver->n_chunks < BATCH_CHUNKS && saver->bytes < BATCH_BYTES)
		return TRUE;
	report_progress(&saver->stream, first * VMM_PAGE, saver->pages * VMM_PAGE);
	return flush_batch(saver, error);
}

static void grow_zeros(struct saver *saver, guint64 first, guint64 pages)
{
	if (!saver->zero_pages)
		saver->zero_first = first;
	saver->zero_pages += pages;
}

static gboolean end_zeros(struct saver *saver, GError **error)
{
	guint64 pages = saver->zero_pages;

	saver->zero_pages = 0;
	return !pages ||
	       add_chunk(saver, WIRE_SAVE_ZERO, saver->zero_first, pages, error);
}

/* Pages [first, end) of one MiB. */
static gboolean save_pages(struct saver *saver, guint64 first, guint64 end,
			   GError **error)
{
	while (first < end) {
		guint64 at = first;

		while (at < end && page_is_zero(vmm_memory_page(saver->memory, at)))
			at++;
		if (at > first)
			grow_zeros(saver, first, at - first);
		for (first = at; at < end; at++)
			if (page_is_zero(vmm_memory_page(saver->memory, at)))
				break;
		if (at > first &&
		    (!end_zeros(saver, error) ||
		     !add_chunk(saver, WIRE_SAVE_RAW, first, at - first, error)))
			return FALSE;
		first = at;
	}
	return TRUE;
}

/* The first page from `page` on that is in a hole of memory's file (or is not). */
static guint64 seek_page(const struct saver *saver, guint64 page, int whence)
{
	off_t at;

	/* What the guest has of its own is not in the file. */
	if (vmm_memory_is_private(saver->memory))
		return whence == SEEK_HOLE ? saver->pages : page;
	at = lseek(vmm_memory_fd(saver->memory), (off_t)(page * VMM_PAGE), whence);
	/* ENXIO: no data up to the end. Else: nothing is known, so look at all. */
	if (at < 0)
		return errno == ENXIO || whence == SEEK_HOLE ? saver->pages : page;
	at += whence == SEEK_HOLE ? VMM_PAGE - 1 : 0;
	return CLAMP((guint64)at / VMM_PAGE, page, saver->pages);
}

static gboolean save_memory(struct saver *saver, GError **error)
{
	guint64 page = 0;

	while (page < saver->pages) {
		guint64 data = seek_page(saver, page, SEEK_DATA);
		guint64 hole;

		if (data > page)
			grow_zeros(saver, page, data - page);
		page = data;
		hole = page < saver->pages ? seek_page(saver, page, SEEK_HOLE) : page;
		while (page < hole) {
			guint64 mib = (page / WIRE_SAVE_CHUNK_PAGES + 1) *
				      WIRE_SAVE_CHUNK_PAGES;

			if (!save_pages(saver, page, MIN(mib, hole), error))
				return FALSE;
			page = MIN(mib, hole);
		}
	}
	return end_zeros(saver, error) &&
	       add_chunk(saver, WIRE_SAVE_END, saver->pages, 0, error) &&
	       flush_batch(saver, error);
}

static gboolean save_head(struct saver *saver, guint cpus, vmm_state *state,
			  GError **error)
{
	struct wire_save_header header = { 0 };
	gsize len;
	const guint8 *bytes = vmm_state_bytes(state, &len);

	header.magic = wire_put32(WIRE_SAVE_MAGIC);
	header.version = wire_put16(WIRE_SAVE_VERSION);
	header.cpus = wire_put16((guint16)cpus);
	header.memory = wire_put64(saver->pages * VMM_PAGE);
	header.state = wire_put64(len);
	header.checksum = wire_put64(XXH3_64bits(
		&header, G_STRUCT_OFFSET(struct wire_save_header, checksum)));
	XXH3_64bits_update(saver->whole, &header, sizeof(header));
	XXH3_64bits_update(saver->whole, bytes, len);
	batch_bytes(saver, &header, sizeof(header));
	batch_bytes(saver, bytes, len);
	return flush_batch(saver, error);
}

gboolean vmm_savefile_write(const struct vmm_saveable *machine, int fd,
			    const struct vmm_transfer *transfer, GError **error)
{
	g_autoptr(vmm_state) state = vmm_state_new();
	g_autofree struct saver *saver = g_new0(struct saver, 1);
	gboolean ok;

	if (!open_stream(&saver->stream, fd, transfer, error) ||
	    !machine->save(machine->data, state, error))
		return FALSE;
	saver->memory = machine->memory;
	saver->pages = vmm_memory_pages(machine->memory);
	saver->whole = XXH3_createState();
	XXH3_64bits_reset(saver->whole);
	ok = save_head(saver, machine->cpus, state, error) && save_memory(saver, error);
	if (ok)
		report_progress(&saver->stream, saver->pages * VMM_PAGE,
				saver->pages * VMM_PAGE);
	XXH3_freeState(saver->whole);
	return ok;
}

static gboolean sync_directory(const char *dir, GError **error)
{
	base_autofd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
		return vmm_error_errno(error, errno, "make %s durable", dir);
	return TRUE;
}

static gboolean save_to_file(const struct vmm_saveable *machine, const char *path,
			     const struct vmm_transfer *transfer, GError **error)
{
	/* A symbolic link stays one: what it points at is replaced. */
	g_autofree char *real = realpath(path, NULL);
	const char *target = real ? real : path;
	g_autofree char *dir = g_path_get_dirname(target);
	g_autofree char *temp = g_build_filename(dir, ".colo-vm-save.XXXXXX", NULL);
	base_autofd int fd = -1;
	struct stat st;

	if (lstat(target, &st) == 0 && !S_ISREG(st.st_mode))
		return vmm_error_set(error, VMM_ERROR_HOST, "is not a regular file");
	/* Mode 0600: guest memory is nobody's business. */
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return vmm_error_errno(error, errno, "create a file in %s", dir);
	if (!vmm_savefile_write(machine, fd, transfer, error))
		goto out;
	if (fsync(fd) < 0) {
		vmm_error_errno(error, errno, "make it durable");
		goto out;
	}
	if (rename(temp, target) < 0) {
		vmm_error_errno(error, errno, "rename %s", temp);
		goto out;
	}
	return sync_directory(dir, error);
out:
	unlink(temp);
	return FALSE;
}

/* Whoever refuses what we sent closes with bytes unread: a reset, seen from here. */
static gboolean await_close(const struct stream *stream, GError **error)
{
	char byte;
	gssize got;

	if (shutdown(stream->fd, SHUT_WR) < 0)
		return vmm_error_errno(error, errno, "end the connection");
	do {
		if (!stream_wait(stream, POLLIN, error))
			return FALSE;
		got = read(stream->fd, &byte, 1);
	} while (got < 0 && (errno == EINTR || errno == EAGAIN));
	if (got < 0)
		return vmm_error_errno(error, errno, "the other end did not take all");
	return got == 0 || vmm_error_set(error, VMM_ERROR_HOST,
					 "the other end sends instead of receiving");
}

static gboolean save_to_socket(const struct vmm_saveable *machine, const char *path,
			       const struct vmm_transfer *transfer, GError **error)
{
	base_autofd int fd = base_unix_connect(path, error);
	struct stream stream;

	vmm_error_of_socket(error);
	return fd >= 0 && vmm_savefile_write(machine, fd, transfer, error) &&
	       open_stream(&stream, fd, transfer, error) && await_close(&stream, error);
}

gboolean vmm_savefile_save(const struct vmm_saveable *machine, const char *to,
			   const struct vmm_transfer *transfer, GError **error)
{
	gboolean ok;

	if (g_str_has_prefix(to, "unix:"))
		ok = save_to_socket(machine, to + strlen("unix:"), transfer, error);
	else
		ok = save_to_file(machine, to, transfer, error);
	if (!ok)
		g_prefix_error(error, "save to %s: ", to);
	return ok;
}

/* Loading */

struct loader {
	struct stream stream;
	const struct vmm_saveable *machine;
	guint64 pages; /* of all memory */
	guint64 offset; /* bytes taken so far */
	XXH3_state_t *whole;
	guint8 *scratch; /* 1 MiB, in place of guest memory while verifying */
	guint64 progress, progress_total; /* bytes, over all passes */
	gsize at, len; /* of `ahead`: where unused bytes start and end */
	guint8 ahead[AHEAD];
};

static gsize take_ahead(struct loader *loader, void *to, gsize len)
{
	gsize taken = MIN(len, loader->len - loader->at);

	memcpy(to, loader->ahead + loader->at, taken);
	loader->at += taken;
	return taken;
}

/* Reads into `to` and then ahead; `*done` bytes of `to` are there afterwards. */
static gboolean read_some(struct loader *loader, guint8 *to, gsize len, gsize *done,
			  GError **error)
{
	struct iovec iov[2] = { { to, len }, { loader->ahead, AHEAD } };
	gssize got;

	if (!stream_wait(&loader->stream, POLLIN, error))
		return FALSE;
	got = readv(loader->stream.fd, iov, 2);
	*done = got > 0 ? MIN((gsize)got, len) : 0;
	if (got > 0) {
		loader->at = 0;
		loader->len = (gsize)got - *done;
		return TRUE;
	}
	if (got == 0)
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "it is cut off after byte %" G_GUINT64_FORMAT,
				     loader->offset);
	return errno == EINTR || errno == EAGAIN ||
	       vmm_error_errno(error, errno, "read");
}

static gboolean take(struct loader *loader, void *to, gsize len, GError **error)
{
	guint8 *at = to;
	gsize done = take_ahead(loader, at, len);

	for (;;) {
		loader->offset += done;
		at += done;
		len -= done;
		if (!len)
			return TRUE;
		if (!read_some(loader, at, len, &done, error))
			return FALSE;
	}
}

static gboolean judge_header(const struct loader *loader,
			     const struct wire_save_header *header, GError **error)
{
	guint64 checksum =
		XXH3_64bits(header, G_STRUCT_OFFSET(struct wire_save_header, checksum));
	guint64 memory = wire_get64(header->memory), state = wire_get64(header->state);
	guint cpus = wire_get16(header->cpus);

	if (wire_get32(header->magic) != WIRE_SAVE_MAGIC)
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "it is not a saved machine");
	if (wire_get16(header->version) != WIRE_SAVE_VERSION)
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "it has format version %u, this program reads %u",
				     wire_get16(header->version), WIRE_SAVE_VERSION);
	if (wire_get64(header->checksum) != checksum)
		return vmm_error_set(error, VMM_ERROR_STATE, "its header is corrupted");
	if (memory != loader->pages * VMM_PAGE)
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "it has %" G_GUINT64_FORMAT
				     " MiB of memory, this machine %" G_GUINT64_FORMAT,
				     memory / MIB, loader->pages * VMM_PAGE / MIB);
	if (cpus != loader->machine->cpus)
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "it has %u CPUs, this machine %u", cpus,
				     loader->machine->cpus);
	if (state < sizeof(struct wire_state_header) ||
	    state > sizeof(struct wire_state_header) + WIRE_STATE_MAX)
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "%" G_GUINT64_FORMAT " bytes of state cannot be",
				     state);
	return TRUE;
}

/* Everything before memory, judged; NULL with `error`. */
static vmm_state *take_head(struct loader *loader, GError **error)
{
	g_autoptr(vmm_state) state = NULL;
	g_autofree guint8 *bytes = NULL;
	struct wire_save_header header;
	gsize len;

	if (!take(loader, &header, sizeof(header), error) ||
	    !judge_header(loader, &header, error))
		return NULL;
	len = wire_get64(header.state);
	bytes = g_malloc(len);
	if (!take(loader, bytes, len, error))
		return NULL;
	XXH3_64bits_update(loader->whole, &header, sizeof(header));
	XXH3_64bits_update(loader->whole, bytes, len);
	state = vmm_state_parse(bytes, len, error);
	if (!state || !loader->machine->check(loader->machine->data, state, error))
		return NULL;
	return g_steal_pointer(&state);
}

static gboolean corrupted(const struct loader *loader, const char *what, GError **error)
{
	return vmm_error_set(error, VMM_ERROR_STATE,
			     "it is corrupted before byte %" G_GUINT64_FORMAT ": %s",
			     loader->offset, what);
}

static gboolean take_raw(struct loader *loader, guint64 first, guint32 pages,
			 guint64 checksum, GError **error)
{
	guint8 *to = loader->scratch;

	if (!pages || first % WIRE_SAVE_CHUNK_PAGES + pages > WIRE_SAVE_CHUNK_PAGES)
		return corrupted(loader, "a chunk of pages is too large", error);
	if (!to)
		to = vmm_memory_page(loader->machine->memory, first);
	if (!take(loader, to, (gsize)pages * VMM_PAGE, error))
		return FALSE;
	/* In guest memory nobody else writes: the machine never ran. */
	if (XXH3_64bits(to, (gsize)pages * VMM_PAGE) != checksum)
		return corrupted(loader, "checksum of pages", error);
	return TRUE;
}

/* Takes one chunk that has to start at page `*next`. */
static gboolean take_chunk(struct loader *loader, guint64 *next, gboolean *end,
			   GError **error)
{
	guint64 whole = XXH3_64bits_digest(loader->whole);
	struct wire_save_chunk chunk;
	guint64 first, checksum;
	guint32 pages;

	if (!take(loader, &chunk, sizeof(chunk), error))
		return FALSE;
	first = wire_get64(chunk.first);
	pages = wire_get32(chunk.pages);
	checksum = wire_get64(chunk.checksum);
	if (first != *next || pages > loader->pages - first)
		return corrupted(loader, "a chunk out of order", error);
	XXH3_64bits_update(loader->whole, &chunk, sizeof(chunk));
	*next += pages;
	switch (wire_get32(chunk.kind)) {
	case WIRE_SAVE_ZERO:
		return (pages && !checksum) ||
		       corrupted(loader, "a run of zeros that is none", error);
	case WIRE_SAVE_RAW:
		return take_raw(loader, first, pages, checksum, error);
	case WIRE_SAVE_END:
		if (first != loader->pages || pages)
			return corrupted(loader, "it ends too early", error);
		*end = TRUE;
		return checksum == whole || corrupted(loader, "checksum of all", error);
	default:
		return corrupted(loader, "unknown kind of chunk", error);
	}
}

static gboolean take_memory(struct loader *loader, GError **error)
{
	gboolean end = FALSE;
	guint64 next = 0;

	while (!end) {
		guint64 before = next;

		if (!take_chunk(loader, &next, &end, error))
			return FALSE;
		loader->progress += (next - before) * VMM_PAGE;
		report_progress(&loader->stream, loader->progress,
				loader->progress_total);
	}
	return TRUE;
}

/* A regular file holds one machine and no more. */
static gboolean check_end(struct loader *loader, GError **error)
{
	guint8 byte;
	gsize more = take_ahead(loader, &byte, 1);

	if (!more && read(loader->stream.fd, &byte, 1) > 0)
		more = 1;
	return !more || corrupted(loader, "there are bytes after its end", error);
}

/* Reads the rest of the file for its faults only, then goes back to where it was. */
static gboolean verify_file(struct loader *loader, GError **error)
{
	off_t ahead = (off_t)(loader->len - loader->at);
	off_t start = lseek(loader->stream.fd, 0, SEEK_CUR) - ahead;
	guint64 offset = loader->offset;
	XXH3_state_t *whole = XXH3_createState();
	gboolean ok;

	loader->progress_total += loader->pages * VMM_PAGE;
	loader->scratch = g_malloc(MIB);
	XXH3_copyState(whole, loader->whole);
	ok = take_memory(loader, error) && check_end(loader, error);
	if (ok && lseek(loader->stream.fd, start, SEEK_SET) != start)
		ok = vmm_error_errno(error, errno, "go back in the file");
	XXH3_copyState(loader->whole, whole);
	XXH3_freeState(whole);
	g_clear_pointer(&loader->scratch, g_free);
	loader->at = loader->len = 0;
	loader->offset = offset;
	return ok;
}

static enum vmm_load_result load_stream(struct loader *loader, GError **error)
{
	const struct vmm_saveable *machine = loader->machine;
	g_autoptr(vmm_state) state = take_head(loader, error);

	if (!state || (loader->stream.regular && !verify_file(loader, error)) ||
	    !machine->load(machine->data, state, error))
		return VMM_LOAD_REFUSED;
	/* Also what a kernel was loaded into: zero pages are not in the stream. */
	vmm_memory_clear(machine->memory);
	if (take_memory(loader, error) && machine->load(machine->data, state, error))
		return VMM_LOAD_DONE;
	vmm_memory_clear(machine->memory);
	return VMM_LOAD_SPOILED;
}

enum vmm_load_result vmm_savefile_read(const struct vmm_saveable *machine, int fd,
				       const struct vmm_transfer *transfer,
				       GError **error)
{
	g_autofree struct loader *loader = g_new0(struct loader, 1);
	enum vmm_load_result result;

	if (!open_stream(&loader->stream, fd, transfer, error))
		return VMM_LOAD_REFUSED;
	loader->machine = machine;
	loader->pages = vmm_memory_pages(machine->memory);
	loader->progress_total = loader->pages * VMM_PAGE;
	loader->whole = XXH3_createState();
	XXH3_64bits_reset(loader->whole);
	result = load_stream(loader, error);
	XXH3_freeState(loader->whole);
	return result;
}

/* A connection to whoever comes first; -1 with `error`. */
static int accept_one(const char *path, const struct vmm_transfer *transfer,
		      GError **error)
{
	g_autoptr(base_listener) listener = base_listener_new(path, error);
	int fd = -1;

	vmm_error_of_socket(error);
	if (!listener)
		return -1;
	while (fd < 0) {
		if (!wait_ready(base_listener_fd(listener), POLLIN, transfer->cancel, -1,
				error))
			return -1;
		fd = base_listener_accept(listener);
		if (fd < 0 && errno != EAGAIN && errno != EINTR &&
		    errno != ECONNABORTED) {
			vmm_error_errno(error, errno, "accept a connection");
			return -1;
		}
	}
	return fd;
}

enum vmm_load_result vmm_savefile_load(const struct vmm_saveable *machine,
				       const char *from,
				       const struct vmm_transfer *transfer,
				       GError **error)
{
	enum vmm_load_result result = VMM_LOAD_REFUSED;
	base_autofd int fd = -1;

	if (g_str_has_prefix(from, "unix:")) {
		fd = accept_one(from + strlen("unix:"), transfer, error);
	} else {
		/* Non-blocking: a pipe that nobody writes to must not hold us here. */
		fd = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			vmm_error_errno(error, errno, "open");
	}
	if (fd >= 0)
		result = vmm_savefile_read(machine, fd, transfer, error);
	if (result != VMM_LOAD_DONE)
		g_prefix_error(error, "load from %s: ", from);
	return result;
}
