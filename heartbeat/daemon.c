/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The heartbeat daemon at work: sockets, timer, signals, colod, in one thread. What is
 * done in a turn is heartbeat/heart.h's to say.
 *
 * Nothing in a turn waits, takes a lock or allocates, but for log lines, which are few,
 * and left out where stderr would block.
 *
 * When colod goes away without having ended us, heartbeats go on with what it said
 * last, as stale: its guest may run on, and a colod that is restarted must not look
 * like a dead node. The ports are given up at once for the daemon that a new colod
 * starts; the peer takes that one's session and from then on refuses ours. Until then
 * nobody is told what we believe, so nothing needs to be received.
 */
#include "heartbeat/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/ratelimit.h"
#include "heartbeat/heart.h"

#define MS G_GUINT64_CONSTANT(1000000)
#define SECOND G_GUINT64_CONSTANT(1000000000)
#define MEND_NS (100 * MS) /* between two attempts at a socket */
#define TELLS 64u /* messages of colod in a turn */

/* What epoll says; below HB_PATHS_MAX: a path. */
enum { ON_TIMER = HB_PATHS_MAX, ON_SIGNAL, ON_COLOD, ON__COUNT };

struct hb_daemon {
	const struct hb_options *options;
	hb_heart *heart;
	int epoll, timer, signals, colod; /* colod: -1 once it is gone */
	gboolean paused[HB_PATHS_MAX]; /* not waited for */

	guint64 now_ns; /* of this turn */
	guint64 mend_ns; /* due */
	guint64 end_ns; /* G_MAXUINT64: not yet to be seen */
	guint64 offset_ns; /* when tai_offset_s is to be asked for again */
	guint32 tai_offset_s;

	guint seen_up; /* by the log */
	gboolean seen_alive;
	int seen_error[HB_PATHS_MAX];
	struct base_ratelimit path_limit[HB_PATHS_MAX], refuse_limit[HB_PATHS_MAX],
		error_limit[HB_PATHS_MAX], flood_limit[HB_PATHS_MAX], stall_limit,
		tell_limit, peer_limit;
};

/* The log */

/* A log that nobody reads must not stop us: lines are left out then. */
static gboolean can_log(void)
{
	struct pollfd log = { .fd = STDERR_FILENO, .events = POLLOUT };

	return poll(&log, 1, 0) == 1 && log.revents & POLLOUT;
}

static gboolean may_log(struct base_ratelimit *limit)
{
	guint left_out;

	return base_ratelimit_pass(limit, &left_out) && can_log();
}

static const char *words(const hb_daemon *daemon, guint path)
{
	return hb_path_words(daemon->options->path[path]);
}

/* Tells at most once a second of each path, and each time what is true then. */
static void log_beliefs(hb_daemon *daemon)
{
	guint up = hb_heart_up(daemon->heart);
	gboolean alive = up != 0;

	for (guint i = 0; i < daemon->options->paths; i++) {
		guint bit = 1u << i;

		if (!((up ^ daemon->seen_up) & bit) || !may_log(&daemon->path_limit[i]))
			continue;
		daemon->seen_up ^= bit;
		if (up & bit)
			g_message("path %u: up %s", i, words(daemon, i));
		else
			g_warning("path %u: down, nothing heard for %u ms %s", i,
				  daemon->options->timeout_ms, words(daemon, i));
	}
	if (alive == daemon->seen_alive || !may_log(&daemon->peer_limit))
		return;
	daemon->seen_alive = alive;
	if (alive)
		g_message("peer %s: heard", daemon->options->peer);
	else
		g_warning("peer %s: lost, silent on all paths", daemon->options->peer);
}

static void log_refusal(void *data, guint path, enum hb_verdict verdict)
{
	hb_daemon *daemon = data;
	static const char *const why[HB__VERDICTS] = {
		[HB_MALFORMED] = "not one of this pair and path",
		[HB_FORGED] = "its MAC is wrong; have both nodes the same key?",
		[HB_REFLECTED] = "it is our own; does --self differ on the two nodes?",
	};

	/* Replayed ones come with each start of the peer; they are counted only. */
	if (why[verdict] && may_log(&daemon->refuse_limit[path]))
		g_warning("path %u: refused a datagram: %s %s", path, why[verdict],
			  words(daemon, path));
}

static void log_error(hb_daemon *daemon, guint path, int err, const char *what)
{
	if (daemon->seen_error[path] == err || !may_log(&daemon->error_limit[path]))
		return;
	daemon->seen_error[path] = err;
	g_warning("path %u: %s: %s; is tried again %s", path, what, g_strerror(err),
		  words(daemon, path));
}

/* Clocks */

/* All clocks as near to one instant as can be had without being interrupted in between.
 */
static struct hb_instant read_clocks(void *data)
{
	hb_daemon *daemon = data;
	struct hb_instant best = { 0 };
	guint64 best_gap = G_MAXUINT64;

	for (guint i = 0; i < 4 && best_gap > 5000; i++) {
		guint64 before = base_clock_monotonic_ns();
		guint64 tai = base_clock_tai_ns();
		guint64 gap = base_clock_monotonic_ns() - before;

		if (gap >= best_gap)
			continue;
		best_gap = gap;
		best.mono_ns = before + gap / 2;
		best.tai_ns = tai;
	}
	if (best.mono_ns >= daemon->offset_ns) {
		daemon->offset_ns = best.mono_ns + SECOND;
		daemon->tai_offset_s = (guint32)base_clock_tai_offset_s();
	}
	best.tai_offset_s = daemon->tai_offset_s;
	return best;
}

/* Sockets */

static void watch(hb_daemon *daemon, guint path)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = path };
	int fd = hb_path_fd(daemon->options->path[path]);

	if (daemon->paused[path] || daemon->colod < 0 || fd < 0)
		return;
	epoll_ctl(daemon->epoll, EPOLL_CTL_ADD, fd, &event);
}

/* Out of epoll altogether: an error would wake us all the same. */
static void pause_path(hb_daemon *daemon, guint path, gboolean paused)
{
	int fd = hb_path_fd(daemon->options->path[path]);

	if (daemon->paused[path] == paused)
		return;
	daemon->paused[path] = paused;
	if (!paused)
		watch(daemon, path);
	else if (fd >= 0)
		epoll_ctl(daemon->epoll, EPOLL_CTL_DEL, fd, NULL);
}

/* A closed descriptor has left epoll by itself. */
static void mend_paths(hb_daemon *daemon)
{
	for (guint i = 0; i < daemon->options->paths; i++) {
		hb_path *path = daemon->options->path[i];
		const char *what = NULL;
		int rc;

		if (!hb_path_is_broken(path))
			continue;
		rc = hb_path_mend(path, &what);
		if (rc)
			log_error(daemon, i, -rc, what);
		hb_heart_path_is_new(daemon->heart, i);
		watch(daemon, i);
	}
}

/* What the heart asks for */

static void rest(void *data, guint path)
{
	pause_path(data, path, TRUE);
}

static void wake(void *data, guint path)
{
	pause_path(data, path, FALSE);
}

static void filter(void *data, guint path, const guint8 head[HB_FILTER_HEAD],
		   guint64 session, gboolean begins)
{
	hb_daemon *daemon = data;

	hb_path_filter(daemon->options->path[path], head, session);
	if (begins && may_log(&daemon->flood_limit[path]))
		g_warning(
			"path %u: a flood of datagrams, all but the peer's are dropped "
			"%s",
			path, words(daemon, path));
}

static void unfilter(void *data, guint path)
{
	hb_path_unfilter(((hb_daemon *)data)->options->path[path]);
}

static gboolean send_datagram(void *data, guint path,
			      const struct hb_datagram *datagram)
{
	hb_daemon *daemon = data;
	int rc = hb_path_send(daemon->options->path[path], datagram, sizeof(*datagram));

	if (!rc)
		daemon->seen_error[path] = 0;
	else if (rc != -ENOTCONN) /* of that, mend_paths() tells */
		log_error(daemon, path, -rc, "send");
	return !rc;
}

static gssize receive(void *data, guint path, void *bytes, gsize room)
{
	return hb_path_receive(((hb_daemon *)data)->options->path[path], bytes, room);
}

static guint64 new_session(void *data)
{
	guint64 session = 0;

	/* Never fails for so few bytes once the kernel has any. */
	while (!session)
		if (getrandom(&session, sizeof(session), 0) != sizeof(session))
			session = 0;
	return session;
}

static void log_stall(void *data, guint64 stalled_ns)
{
	hb_daemon *daemon = data;

	if (may_log(&daemon->stall_limit))
		g_warning("stall: this daemon did not run for %" G_GUINT64_FORMAT
			  " ms; the peer is not judged by that time",
			  stalled_ns / MS);
}

static gboolean report(void *data, const struct hb_report *report)
{
	/* Where it is full, the next turn tries again. */
	return send(((hb_daemon *)data)->colod, report, sizeof(*report),
		    MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static const struct hb_heart_ops heart_ops = {
	.clocks = read_clocks,
	.session = new_session,
	.receive = receive,
	.send = send_datagram,
	.rest = rest,
	.wake = wake,
	.filter = filter,
	.unfilter = unfilter,
	.report = report,
	.refused = log_refusal,
	.stalled = log_stall,
};

/* colod */

static void orphaned(hb_daemon *daemon)
{
	base_fault("orphaned");
	g_warning("colod: gone; heartbeats go on for %u ms, until a new one starts "
		  "another "
		  "daemon",
		  daemon->options->linger_ms);
	base_fd_clear(&daemon->colod);
	hb_heart_orphan(daemon->heart);
	daemon->end_ns = daemon->now_ns + daemon->options->linger_ms * MS;
	for (guint i = 0; i < daemon->options->paths; i++)
		hb_path_only_send(daemon->options->path[i]);
	mend_paths(daemon);
}

static void read_colod(hb_daemon *daemon)
{
	guint8 bytes[sizeof(struct hb_tell) + 1];

	for (guint i = 0; i < TELLS; i++) {
		ssize_t n = recv(daemon->colod, bytes, sizeof(bytes), MSG_DONTWAIT);
		int err = errno;
		struct hb_self self;

		if (n < 0 && (err == EAGAIN || err == EINTR))
			return;
		if (n <= 0) {
			orphaned(daemon);
			return;
		}
		if (hb_tell_read(bytes, (gsize)n, &self))
			hb_heart_told(daemon->heart, &self);
		else if (may_log(&daemon->tell_limit))
			g_warning("colod: said what is no message, left alone");
	}
}

/* One turn */

static void arm(hb_daemon *daemon)
{
	guint64 due = MIN(hb_heart_due(daemon->heart), daemon->end_ns);
	struct itimerspec when = { 0 };

	when.it_value.tv_sec = (time_t)(due / SECOND);
	when.it_value.tv_nsec = (long)(due % SECOND);
	/* Also takes back that it went off. */
	timerfd_settime(daemon->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void leave(hb_daemon *daemon)
{
	hb_heart_leave(daemon->heart);
	daemon->end_ns = daemon->now_ns;
	if (can_log())
		g_message("ends on a signal; the peer is told");
}

static void take_turn(hb_daemon *daemon, const gboolean ready[ON__COUNT])
{
	guint paths = 0;

	for (guint i = 0; i < HB_PATHS_MAX; i++)
		paths |= ready[i] ? 1u << i : 0;
	hb_heart_hear(daemon->heart, daemon->now_ns, paths);
	if (ready[ON_COLOD] && daemon->colod >= 0)
		read_colod(daemon);
	if (daemon->now_ns >= daemon->mend_ns) {
		daemon->mend_ns = daemon->now_ns + MEND_NS;
		mend_paths(daemon);
	}
	hb_heart_beat(daemon->heart);
	if (daemon->colod >= 0)
		log_beliefs(daemon);
	if (ready[ON_SIGNAL])
		leave(daemon);
}

gboolean hb_daemon_run(hb_daemon *daemon, GError **error)
{
	while (daemon->now_ns < daemon->end_ns) {
		struct epoll_event events[ON__COUNT];
		gboolean ready[ON__COUNT] = { FALSE };
		int n, err;

		arm(daemon);
		n = epoll_wait(daemon->epoll, events, ON__COUNT, -1);
		err = errno;
		if (n < 0 && err != EINTR)
			return hb_error_errno(error, err, "wait for heartbeats");
		for (int i = 0; i < n; i++)
			ready[events[i].data.u32] = TRUE;
		daemon->now_ns = base_clock_monotonic_ns();
		take_turn(daemon, ready);
	}
	return TRUE;
}

/* Beginning and end */

static gboolean check_colod(int fd, GError **error)
{
	int domain = 0, type = 0;
	socklen_t length = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) || domain != AF_UNIX ||
	    type != SOCK_SEQPACKET || fcntl(fd, F_SETFD, FD_CLOEXEC))
		return hb_error_set(error, HB_ERROR_CONFIG,
				    "--fd: %d is no socket to colod (unix, seqpacket)",
				    fd);
	return TRUE;
}

static gboolean add(const hb_daemon *daemon, int fd, guint what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = what };

	return fd >= 0 && !epoll_ctl(daemon->epoll, EPOLL_CTL_ADD, fd, &event);
}

static gboolean open_all(hb_daemon *daemon, GError **error)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	daemon->epoll = epoll_create1(EPOLL_CLOEXEC);
	daemon->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	daemon->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (daemon->epoll < 0 || !add(daemon, daemon->timer, ON_TIMER) ||
	    !add(daemon, daemon->signals, ON_SIGNAL) ||
	    !add(daemon, daemon->colod, ON_COLOD))
		return hb_error_errno(error, errno, "watch timer, signals and colod");
	mend_paths(daemon);
	return TRUE;
}

static hb_codec *read_key(const struct hb_options *options, GError **error)
{
	g_autoptr(base_key) key = base_key_read(options->key, error);

	return key ? hb_codec_new(key, options->pair, options->self, error) : NULL;
}

hb_daemon *hb_daemon_new(const struct hb_options *options, GError **error)
{
	const struct hb_heart_config config = { options->paths, options->interval_ms,
						options->timeout_ms };
	g_autoptr(hb_daemon) daemon = g_new0(hb_daemon, 1);
	hb_codec *codec;

	daemon->options = options;
	daemon->epoll = daemon->timer = daemon->signals = daemon->colod = -1;
	if (!check_colod(options->fd, error))
		return NULL;
	daemon->colod = options->fd;
	codec = read_key(options, error);
	if (!codec)
		return NULL;
	daemon->now_ns = base_clock_monotonic_ns();
	daemon->end_ns = G_MAXUINT64;
	daemon->heart =
		hb_heart_new(&config, codec, &heart_ops, daemon, daemon->now_ns);
	return open_all(daemon, error) ? g_steal_pointer(&daemon) : NULL;
}

void hb_daemon_free(hb_daemon *daemon)
{
	if (!daemon)
		return;
	base_fd_clear(&daemon->epoll);
	base_fd_clear(&daemon->timer);
	base_fd_clear(&daemon->signals);
	base_fd_clear(&daemon->colod);
	g_clear_pointer(&daemon->heart, hb_heart_free);
	g_free(daemon);
}
