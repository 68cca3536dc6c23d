/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's end of a guest's serial line or console.
 *
 * Output goes into a ring and from there to the descriptor on the I/O thread, so that a
 * guest that writes byte by byte does not cost a system call for each. Input and output
 * have a descriptor each, even where they are copies of one: the loop watches them for
 * different things at different times. A file is behind a pipe and a thread of its own
 * (kvm/filewriter.h), since writing to it waits for its disk.
 *
 * A host end that goes away (end of file, hang-up, an error) is closed. A socket that
 * is listened on then waits for the next client; the others stay closed, and output
 * ends in the ring.
 */
#include "kvm/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <termios.h>

#include "base/fd.h"
#include "base/unixsock.h"
#include "kvm/error.h"
#include "kvm/filewriter.h"

#define RING_SIZE 65536u /* a power of two */
#define INPUT_MAX 4096u
/* Written at once to a terminal that could not be made non-blocking: no more than
 * poll() promises room for. */
#define CAREFUL_MAX 256u
#define TYPED_MAX 256u
/* Reads that are thrown away at once: what comes beyond is new. */
#define DISCARD_MAX 64u
/* How long the listener rests where there is no descriptor for a client. */
#define ACCEPT_REST_S 1
/* How long the end of the output may wait for each piece that a file takes. */
#define LAST_WAIT_MS 2000
#define ESCAPE 0x01 /* Ctrl-A */
#define ESCAPE_EXIT 'x'

struct vmm_chardev {
	vmm_loop *loop;
	char *name;
	gboolean discard; /* "none": output is not even kept */
	int in_fd, out_fd; /* -1: not there, or not now */
	vmm_source *in, *out;
	gboolean out_is_socket;
	gboolean out_may_block;
	gboolean out_is_full; /* until the loop says otherwise */
	gboolean complained; /* of the errors that are met now */
	int slave_fd; /* of a pseudo-terminal: held, so that it never hangs up */
	base_listener *listener;
	vmm_source *listening;
	int rest_fd; /* a timer, made in time: it is for when descriptors run out */
	vmm_source *resting;
	gboolean accept_failed;
	vmm_filewriter *writer; /* NULL: the output is no file */
	gboolean raw; /* our standard input is a terminal in raw mode */
	gboolean escaped; /* Ctrl-A was typed */
	guint8 typed[TYPED_MAX]; /* at a terminal, and not yet taken by the device */
	gsize n_typed;
	void (*escape)(void *data);
	void *escape_data;
	const struct vmm_chardev_ops *ops;
	void *device;
	struct vmm_chardev_hooks hooks;
	guint console; /* for the hooks */
	vmm_source *feeder; /* without a descriptor; NULL: no hooks */
	guint8 ring[RING_SIZE];
	gsize head, kept; /* the oldest byte, and how many there are */
	guint64 dropped;
};

/* At file scope for the sake of vmm_chardev_restore_terminal(), which signal handlers
 * and exits call that have no object at hand: there is one controlling terminal. */
static struct termios saved_terminal;
static volatile sig_atomic_t terminal_is_raw;

void vmm_chardev_restore_terminal(void)
{
	if (terminal_is_raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved_terminal);
	terminal_is_raw = 0;
}

static gsize room(const vmm_chardev *chardev)
{
	return chardev->ops ? chardev->ops->room(chardev->device) : 0;
}

static void close_in(vmm_chardev *chardev)
{
	g_clear_pointer(&chardev->in, vmm_source_remove);
	base_fd_clear(&chardev->in_fd);
}

static void close_out(vmm_chardev *chardev)
{
	chardev->out_is_full = FALSE;
	g_clear_pointer(&chardev->out, vmm_source_remove);
	base_fd_clear(&chardev->out_fd);
}

/* The host end is gone. */
static void hang_up(vmm_chardev *chardev)
{
	close_in(chardev);
	close_out(chardev);
	if (chardev->listening)
		vmm_source_set_events(chardev->listening, EPOLLIN);
}

/* Output. */

static gssize write_some(const vmm_chardev *chardev, const guint8 *bytes, gsize len)
{
	struct pollfd poller = { .fd = chardev->out_fd, .events = POLLOUT };

	if (chardev->out_is_socket)
		return send(chardev->out_fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (chardev->out_may_block) {
		if (poll(&poller, 1, 0) == 0) {
			errno = EAGAIN;
			return -1;
		}
		len = MIN(len, CAREFUL_MAX);
	}
	return write(chardev->out_fd, bytes, len);
}

/* What could not be written: TRUE where `len` bytes are to be skipped, FALSE where the
 * host end is gone. */
static gboolean survives(vmm_chardev *chardev, int err, gsize len)
{
	gboolean gone = err == EPIPE || err == ECONNRESET || err == EIO;

	if (!gone && !chardev->complained)
		g_warning("console %s: write: %s", chardev->name, g_strerror(err));
	chardev->complained = TRUE;
	/* A full disk may have room again. */
	if (err != ENOSPC && err != EDQUOT && err != EFBIG)
		return FALSE;
	chardev->dropped += len;
	return TRUE;
}

/* TRUE where it is worth going on at once. */
static gboolean flush_piece(vmm_chardev *chardev)
{
	gsize len = MIN(chardev->kept, RING_SIZE - chardev->head);
	gssize n;

	if (!len)
		return FALSE;
	n = write_some(chardev, chardev->ring + chardev->head, len);
	if (n < 0 && errno == EINTR)
		return TRUE;
	if (n < 0 && errno == EAGAIN) {
		chardev->out_is_full = TRUE;
		vmm_source_set_events(chardev->out, EPOLLOUT);
		return FALSE;
	}
	if (n >= 0) {
		chardev->complained = FALSE;
	} else if (survives(chardev, errno, len)) {
		n = (gssize)len;
	} else {
		hang_up(chardev);
		return FALSE;
	}
	chardev->head = (chardev->head + (gsize)n) % RING_SIZE;
	chardev->kept -= (gsize)n;
	return TRUE;
}

static void flush(vmm_chardev *chardev)
{
	while (chardev->out_fd >= 0 && flush_piece(chardev))
		if (vmm_loop_wanted(chardev->loop) && chardev->kept) {
			vmm_loop_again(chardev->out);
			return;
		}
	if (chardev->out && !chardev->kept)
		vmm_source_set_events(chardev->out, 0);
}

static void writable(void *data, guint32 events)
{
	vmm_chardev *chardev = data;

	chardev->out_is_full = FALSE;
	flush(chardev);
}

static void drop_oldest(vmm_chardev *chardev, gsize len)
{
	chardev->head = (chardev->head + len) % RING_SIZE;
	chardev->kept -= len;
	chardev->dropped += len;
}

void vmm_chardev_output(vmm_chardev *chardev, const void *bytes, gsize len)
{
	const guint8 *from = bytes;
	gsize tail, first;

	if (chardev->discard)
		return;
	if (len > RING_SIZE) {
		chardev->dropped += len - RING_SIZE;
		from += len - RING_SIZE;
		len = RING_SIZE;
	}
	if (len > RING_SIZE - chardev->kept)
		drop_oldest(chardev, len - (RING_SIZE - chardev->kept));
	tail = (chardev->head + chardev->kept) % RING_SIZE;
	first = MIN(len, RING_SIZE - tail);
	memcpy(chardev->ring + tail, from, first);
	memcpy(chardev->ring, from + first, len - first);
	chardev->kept += len;
	if (chardev->out && !chardev->out_is_full)
		vmm_loop_again(chardev->out);
}

/* Input. */

/* Takes the escape sequences of a terminal out of `bytes`; returns how many are left.
 */
static gsize filter_escapes(vmm_chardev *chardev, guint8 *bytes, gsize len)
{
	gsize kept = 0;

	for (gsize i = 0; i < len; i++) {
		if (!chardev->escaped && bytes[i] == ESCAPE) {
			chardev->escaped = TRUE;
			continue;
		}
		if (chardev->escaped && bytes[i] != ESCAPE) {
			if (bytes[i] == ESCAPE_EXIT && chardev->escape)
				chardev->escape(chardev->escape_data);
		} else {
			bytes[kept++] = bytes[i];
		}
		chardev->escaped = FALSE;
	}
	return kept;
}

static void end_of_input(vmm_chardev *chardev)
{
	/* Only of a client is it known that nobody reads either. */
	if (chardev->listener)
		hang_up(chardev);
	else
		close_in(chardev);
}

static void give(vmm_chardev *chardev, const guint8 *bytes, gsize len)
{
	if (chardev->hooks.given)
		chardev->hooks.given(chardev->hooks.data, chardev->console, bytes, len);
	chardev->ops->input(chardev->device, bytes, len);
}

static gboolean is_deaf(const vmm_chardev *chardev)
{
	return chardev->hooks.is_live && !chardev->hooks.is_live(chardev->hooks.data);
}

/* What comes before the host's end's; FALSE: there is more of it, or no room. */
static gboolean feed(vmm_chardev *chardev)
{
	guint8 bytes[INPUT_MAX];
	gsize len;

	while (chardev->hooks.next) {
		len = MIN(room(chardev), sizeof(bytes));
		if (!len)
			return FALSE;
		if (vmm_loop_wanted(chardev->loop)) {
			vmm_loop_again(chardev->feeder);
			return FALSE;
		}
		len = chardev->hooks.next(chardev->hooks.data, chardev->console, bytes,
					  len);
		if (!len)
			break;
		give(chardev, bytes, len);
	}
	return TRUE;
}

static void on_feed(void *data, guint32 events)
{
	vmm_chardev *chardev = data;

	/* What the host's end says may have waited for this. */
	if (feed(chardev) && chardev->in) {
		vmm_source_set_events(chardev->in, EPOLLIN);
		if (chardev->n_typed)
			vmm_loop_again(chardev->in);
	}
}

/* For what the host's end says. */
static gsize room_left(vmm_chardev *chardev)
{
	return feed(chardev) ? room(chardev) : 0;
}

/* At a terminal, input is read even when the device has no room: else Ctrl-A x could
 * not end a guest that hangs. What exceeds `typed` is lost, as with a real keyboard. */
static void read_terminal(vmm_chardev *chardev, guint32 events)
{
	guint8 bytes[INPUT_MAX];
	gssize n = 0;
	gsize len;

	if (events)
		n = read(chardev->in_fd, bytes, sizeof(bytes));
	if (events && (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))) {
		end_of_input(chardev);
		return;
	}
	if (n > 0) {
		len = filter_escapes(chardev, bytes, (gsize)n);
		if (is_deaf(chardev))
			return;
		len = MIN(len, TYPED_MAX - chardev->n_typed);
		memcpy(chardev->typed + chardev->n_typed, bytes, len);
		chardev->n_typed += len;
	}
	len = MIN(room_left(chardev), chardev->n_typed);
	if (!len)
		return;
	/* A copy: input() may ask for more. */
	memcpy(bytes, chardev->typed, len);
	chardev->n_typed -= len;
	memmove(chardev->typed, chardev->typed + len, chardev->n_typed);
	give(chardev, bytes, len);
}

static void readable(void *data, guint32 events)
{
	vmm_chardev *chardev = data;
	guint8 bytes[INPUT_MAX];
	gboolean deaf;
	gsize len;
	gssize n;

	if (chardev->raw) {
		read_terminal(chardev, events);
		return;
	}
	deaf = is_deaf(chardev);
	len = deaf ? sizeof(bytes) : MIN(room_left(chardev), sizeof(bytes));
	if (!len) {
		/* vmm_chardev_poll() comes when there is room. */
		vmm_source_set_events(chardev->in, 0);
		return;
	}
	n = read(chardev->in_fd, bytes, len);
	if (n > 0 && !deaf)
		give(chardev, bytes, (gsize)n);
	else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		end_of_input(chardev);
}

void vmm_chardev_discard_input(vmm_chardev *chardev)
{
	struct pollfd poller = { .fd = chardev->in_fd, .events = POLLIN };
	guint8 bytes[INPUT_MAX];

	chardev->n_typed = 0;
	for (guint i = 0; i < DISCARD_MAX && chardev->in; i++) {
		gssize n = poll(&poller, 1, 0) == 1 && (poller.revents & POLLIN) ?
				   read(chardev->in_fd, bytes, sizeof(bytes)) :
				   0;

		/* An end or an error is found again by whoever reads next. */
		if (n <= 0)
			return;
		if (chardev->raw)
			filter_escapes(chardev, bytes, (gsize)n);
	}
}

void vmm_chardev_poll(vmm_chardev *chardev)
{
	if (chardev->feeder)
		vmm_loop_again(chardev->feeder);
	if (!chardev->in)
		return;
	/* Whether there is room is asked when there is input. */
	vmm_source_set_events(chardev->in, EPOLLIN);
	if (chardev->n_typed)
		vmm_loop_again(chardev->in);
}

/* Opening. */

static void watch(vmm_chardev *chardev)
{
	if (chardev->in_fd >= 0)
		chardev->in = vmm_loop_add(chardev->loop, chardev->in_fd, EPOLLIN,
					   readable, chardev);
	if (chardev->out_fd >= 0) {
		chardev->out = vmm_loop_add(chardev->loop, chardev->out_fd, 0, writable,
					    chardev);
		if (chardev->kept)
			vmm_loop_again(chardev->out);
	}
}

static gboolean is_kind(int fd, mode_t kind)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == kind;
}

static gboolean set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

/* A descriptor of our own for one of the standard ones. Whether it blocks is a property
 * that it shares with every other process that has it (the shell, say), so it must not
 * be changed: it is opened anew where that can be. */
static int reopen(int fd, int mode, gboolean *may_block)
{
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
	int copy = -1;

	*may_block = FALSE;
	/* A file has its position in what is shared; a socket cannot be opened. */
	if (!is_kind(fd, S_IFREG) && !is_kind(fd, S_IFSOCK))
		copy = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (copy >= 0)
		return copy;
	*may_block = !is_kind(fd, S_IFREG) && !is_kind(fd, S_IFSOCK);
	return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static gboolean make_raw(vmm_chardev *chardev, GError **error)
{
	struct termios raw;

	if (terminal_is_raw)
		return vmm_error_set(error, VMM_ERROR_CONFIG,
				     "two consoles cannot both have the terminal");
	if (tcgetattr(STDIN_FILENO, &saved_terminal) < 0)
		return vmm_error_errno(error, errno, "read the terminal's settings");
	raw = saved_terminal;
	cfmakeraw(&raw);
	/* Our own messages go to the same terminal. */
	raw.c_oflag |= OPOST;
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
		return vmm_error_errno(error, errno, "change the terminal's settings");
	terminal_is_raw = 1;
	chardev->raw = TRUE;
	return TRUE;
}

static gboolean open_stdio(vmm_chardev *chardev, GError **error)
{
	gboolean in_may_block;

	chardev->name = g_strdup("stdio");
	chardev->in_fd = reopen(STDIN_FILENO, O_RDONLY, &in_may_block);
	chardev->out_fd = reopen(STDOUT_FILENO, O_WRONLY, &chardev->out_may_block);
	if (chardev->in_fd < 0 || chardev->out_fd < 0)
		return vmm_error_errno(error, errno, "use standard input and output");
	chardev->out_is_socket = is_kind(chardev->out_fd, S_IFSOCK);
	return !isatty(STDIN_FILENO) || make_raw(chardev, error);
}

static gboolean open_pty(vmm_chardev *chardev, GError **error)
{
	base_autofd int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	char path[64];
	struct termios raw;

	if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 ||
	    ptsname_r(fd, path, sizeof(path)) != 0)
		return vmm_error_errno(error, errno, "make a pseudo-terminal");
	chardev->slave_fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (chardev->slave_fd < 0)
		return vmm_error_errno(error, errno, "open %s", path);
	if (tcgetattr(chardev->slave_fd, &raw) < 0)
		return vmm_error_errno(error, errno, "read the settings of %s", path);
	/* Echo would hand the guest its own output as input. */
	cfmakeraw(&raw);
	if (tcsetattr(chardev->slave_fd, TCSANOW, &raw) < 0 || !set_nonblocking(fd))
		return vmm_error_errno(error, errno, "change the settings of %s", path);
	chardev->name = g_strdup_printf("pty:%s", path);
	chardev->out_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (chardev->out_fd < 0)
		return vmm_error_errno(error, errno, "copy the descriptor of %s", path);
	chardev->in_fd = base_fd_steal(&fd);
	return TRUE;
}

/* Who waits to be accepted keeps the listener readable, can it be done or not. */
static void rest(vmm_chardev *chardev, int err)
{
	const struct itimerspec once = { .it_value.tv_sec = ACCEPT_REST_S };

	if (!chardev->accept_failed)
		g_warning("console %s: accept a client: %s: tried again every second",
			  chardev->name, g_strerror(err));
	chardev->accept_failed = TRUE;
	vmm_source_set_events(chardev->listening, 0);
	if (timerfd_settime(chardev->rest_fd, 0, &once, NULL) < 0)
		g_assert_not_reached();
}

static void rested(void *data, guint32 events)
{
	vmm_chardev *chardev = data;
	guint64 times;

	if (read(chardev->rest_fd, &times, sizeof(times)) == sizeof(times) &&
	    chardev->out_fd < 0)
		vmm_source_set_events(chardev->listening, EPOLLIN);
}

static void accept_client(void *data, guint32 events)
{
	vmm_chardev *chardev = data;
	base_autofd int fd = base_listener_accept(chardev->listener);
	int err = errno;

	if (fd < 0) {
		if (err != EAGAIN && err != EINTR && err != ECONNABORTED)
			rest(chardev, err);
		return;
	}
	chardev->accept_failed = FALSE;
	chardev->out_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (chardev->out_fd < 0)
		return;
	chardev->in_fd = base_fd_steal(&fd);
	/* The next one waits in the queue of the socket. */
	vmm_source_set_events(chardev->listening, 0);
	watch(chardev);
}

static gboolean open_unix(vmm_chardev *chardev, const char *path, GError **error)
{
	chardev->listener = base_listener_new(path, error);
	vmm_error_of_socket(error);
	if (!chardev->listener)
		return FALSE;
	chardev->rest_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (chardev->rest_fd < 0)
		return vmm_error_errno(error, errno, "make a timer");
	chardev->resting =
		vmm_loop_add(chardev->loop, chardev->rest_fd, EPOLLIN, rested, chardev);
	chardev->name = g_strdup_printf("unix:%s", path);
	chardev->out_is_socket = TRUE;
	chardev->listening =
		vmm_loop_add(chardev->loop, base_listener_fd(chardev->listener), EPOLLIN,
			     accept_client, chardev);
	return TRUE;
}

static gboolean open_file(vmm_chardev *chardev, const char *path, GError **error)
{
	/* Non-blocking counts where it is a pipe: one without reader is refused. */
	chardev->out_fd = open(
		path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
		0640);
	if (chardev->out_fd < 0)
		return vmm_error_errno(error, errno, "open %s", path);
	chardev->name = g_strdup_printf("file:%s", path);
	return TRUE;
}

static gboolean open_fd(vmm_chardev *chardev, const char *number, GError **error)
{
	guint64 fd;
	int flags;

	if (!g_ascii_string_to_unsigned(number, 10, 3, G_MAXINT, &fd, NULL))
		return vmm_error_set(
			error, VMM_ERROR_CONFIG,
			"\"fd:%s\": not a descriptor that can be taken over", number);
	flags = fcntl((int)fd, F_GETFD);
	/* What was passed to this program cannot have it: it is one of our own. */
	if (flags >= 0 && (flags & FD_CLOEXEC))
		return vmm_error_set(
			error, VMM_ERROR_CONFIG,
			"\"fd:%s\": not a descriptor that was passed, or used already",
			number);
	if (flags < 0 || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0 ||
	    !set_nonblocking((int)fd))
		return vmm_error_errno(error, errno, "use descriptor %s", number);
	chardev->in_fd = (int)fd;
	chardev->out_fd = fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
	if (chardev->out_fd < 0)
		return vmm_error_errno(error, errno, "copy descriptor %s", number);
	chardev->out_is_socket = is_kind((int)fd, S_IFSOCK);
	chardev->name = g_strdup_printf("fd:%s", number);
	return TRUE;
}

static gboolean open_host_end(vmm_chardev *chardev, const char *spec, GError **error)
{
	if (!strcmp(spec, "stdio"))
		return open_stdio(chardev, error);
	if (!strcmp(spec, "pty"))
		return open_pty(chardev, error);
	if (g_str_has_prefix(spec, "unix:"))
		return open_unix(chardev, spec + strlen("unix:"), error);
	if (g_str_has_prefix(spec, "file:"))
		return open_file(chardev, spec + strlen("file:"), error);
	if (g_str_has_prefix(spec, "fd:"))
		return open_fd(chardev, spec + strlen("fd:"), error);
	if (!strcmp(spec, "none")) {
		chardev->name = g_strdup("none");
		chardev->discard = TRUE;
		return TRUE;
	}
	return vmm_error_set(
		error, VMM_ERROR_CONFIG,
		"console \"%s\": must be stdio, pty, unix:PATH, file:PATH, "
		"fd:N or none",
		spec);
}

static gboolean put_file_behind_pipe(vmm_chardev *chardev, GError **error)
{
	int file_fd = base_fd_steal(&chardev->out_fd);

	chardev->writer = vmm_filewriter_new_take(file_fd, chardev->name,
						  &chardev->out_fd, error);
	return chardev->writer != NULL;
}

vmm_chardev *vmm_chardev_new(const char *spec, vmm_loop *loop, GError **error)
{
	vmm_chardev *chardev = g_new0(vmm_chardev, 1);

	chardev->loop = loop;
	chardev->in_fd = chardev->out_fd = chardev->slave_fd = -1;
	chardev->rest_fd = -1;
	if (!open_host_end(chardev, spec, error) ||
	    (is_kind(chardev->out_fd, S_IFREG) &&
	     !put_file_behind_pipe(chardev, error))) {
		vmm_chardev_free(chardev);
		return NULL;
	}
	watch(chardev);
	return chardev;
}

/* The last words of a guest count most; what cannot be had now is given up. A file
 * takes more as soon as its thread has written what is in the pipe. */
static void flush_last(vmm_chardev *chardev)
{
	struct pollfd poller = { .fd = chardev->out_fd, .events = POLLOUT };

	do
		while (chardev->out && flush_piece(chardev))
			;
	while (chardev->writer && chardev->out && chardev->kept &&
	       poll(&poller, 1, LAST_WAIT_MS) > 0);
}

void vmm_chardev_free(vmm_chardev *chardev)
{
	if (!chardev)
		return;
	flush_last(chardev);
	close_in(chardev);
	close_out(chardev);
	vmm_filewriter_free(chardev->writer);
	g_clear_pointer(&chardev->resting, vmm_source_remove);
	base_fd_clear(&chardev->rest_fd);
	g_clear_pointer(&chardev->listening, vmm_source_remove);
	base_listener_free(chardev->listener);
	g_clear_pointer(&chardev->feeder, vmm_source_remove);
	base_fd_clear(&chardev->slave_fd);
	if (chardev->raw)
		vmm_chardev_restore_terminal();
	g_free(chardev->name);
	g_free(chardev);
}

void vmm_chardev_connect(vmm_chardev *chardev, const struct vmm_chardev_ops *ops,
			 void *device)
{
	chardev->ops = ops;
	chardev->device = device;
	vmm_chardev_poll(chardev);
}

void vmm_chardev_set_hooks(vmm_chardev *chardev, const struct vmm_chardev_hooks *hooks,
			   guint console)
{
	chardev->hooks = *hooks;
	chardev->console = console;
	if (hooks->next && !chardev->feeder)
		chardev->feeder = vmm_loop_add(chardev->loop, -1, 0, on_feed, chardev);
}

void vmm_chardev_set_escape(vmm_chardev *chardev, void (*escape)(void *data),
			    void *data)
{
	chardev->escape = escape;
	chardev->escape_data = data;
}

const char *vmm_chardev_name(const vmm_chardev *chardev)
{
	return chardev->name;
}

guint64 vmm_chardev_dropped(const vmm_chardev *chardev)
{
	return chardev->dropped +
	       (chardev->writer ? vmm_filewriter_lost(chardev->writer) : 0);
}
