// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * agent.c: runs commands inside a testbed host for `testbed exec`.
 *
 * Linked statically and started by the host's init. It listens on TCP in a network
 * namespace of its own, so nothing a test does to the host's network reaches it; the
 * commands themselves run in the host's ordinary namespaces. One connection is one
 * command, served by one forked process.
 *
 * A connection carries frames both ways: one byte of type, four of length
 * (little-endian), then the payload.
 *   to the agent:   A arguments, each ended by a zero byte (first frame, once)
 *                   I bytes for standard input     E end of standard input
 *                   S one byte, a signal for the command's process group
 *   from the agent: O standard output   R standard error   X exit status (one byte)
 *
 * When the connection ends before the command does, the command's process group gets
 * SIGTERM and, GRACE_MS later, SIGKILL. When the command ends, what it left in its
 * pipes is sent and the connection closed, whatever background processes still hold the
 * pipes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRAME_MAX 65536u
#define ARGS_MAX 1048576u
#define GRACE_MS 2000

struct session {
	int sock;
	pid_t pid;
	int pidfd;
	int in; /* the command's standard input, -1 once closed */
	int out;
	int err;
	size_t input_at;
	size_t input_len;
	char input[FRAME_MAX];
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int read_all(int fd, void *to, size_t len)
{
	char *at = to;

	while (len > 0) {
		ssize_t n = read(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_all(int fd, const void *from, size_t len)
{
	const char *at = from;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static int send_frame(int sock, char type, const void *payload, uint32_t len)
{
	char frame[5 + FRAME_MAX];

	frame[0] = type;
	for (int i = 0; i < 4; i++)
		frame[1 + i] = (char)(len >> (8 * i));
	memcpy(frame + 5, payload, len);
	return write_all(sock, frame, 5 + len);
}

static int read_header(int sock, char *type, uint32_t *len)
{
	unsigned char head[5];

	if (read_all(sock, head, sizeof(head)) < 0)
		return -1;
	*type = (char)head[0];
	*len = head[1] | head[2] << 8 | head[3] << 16 | (uint32_t)head[4] << 24;
	return 0;
}

/* The first frame as an argument vector; NULL when it is not one. */
static char **read_args(int sock)
{
	char type;
	uint32_t len;
	char *text;
	char **args;
	size_t count = 0, at = 0;

	if (read_header(sock, &type, &len) < 0 || type != 'A' || len == 0 ||
	    len > ARGS_MAX)
		return NULL;
	text = malloc(len);
	args = calloc(len + 1, sizeof(*args));
	if (!text || !args || read_all(sock, text, len) < 0 || text[len - 1] != 0)
		return NULL;
	while (at < len) {
		args[count++] = text + at;
		at += strlen(text + at) + 1;
	}
	return args;
}

static void run_command(char **args)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	if (chdir("/root") < 0)
		(void)!chdir("/");
	execvp(args[0], args);
	int code = errno == ENOENT ? 127 : 126;
	fprintf(stderr, "%s: %s\n", args[0], strerror(errno));
	_exit(code);
}

static int start_command(struct session *s, char **args)
{
	int in[2], out[2], err[2];

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 ||
	    pipe2(err, O_CLOEXEC) < 0)
		return -1;
	s->pid = fork();
	if (s->pid < 0)
		return -1;
	if (s->pid == 0) {
		setsid();
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		run_command(args);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	s->in = in[1];
	s->out = out[0];
	s->err = err[0];
	fcntl(s->in, F_SETFL, O_NONBLOCK);
	fcntl(s->out, F_SETFL, O_NONBLOCK);
	fcntl(s->err, F_SETFL, O_NONBLOCK);
	s->pidfd = pidfd_open(s->pid, 0);
	return s->pidfd < 0 ? -1 : 0;
}

static void close_input(struct session *s)
{
	if (s->in >= 0)
		close(s->in);
	s->in = -1;
	s->input_at = s->input_len = 0;
}

/* One frame from the client; -1 when the client is gone or talks nonsense. */
static int take_frame(struct session *s)
{
	char type;
	uint32_t len;

	if (read_header(s->sock, &type, &len) < 0 || len > FRAME_MAX)
		return -1;
	if (read_all(s->sock, s->input, len) < 0)
		return -1;
	if (type == 'I') {
		s->input_at = 0;
		s->input_len = s->in >= 0 ? len : 0;
	} else if (type == 'E') {
		close_input(s);
	} else if (type == 'S' && len == 1) {
		kill(-s->pid, s->input[0]);
	} else {
		return -1;
	}
	return 0;
}

static void feed_input(struct session *s)
{
	ssize_t n = write(s->in, s->input + s->input_at, s->input_len - s->input_at);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		close_input(s);
		return;
	}
	s->input_at += (size_t)n;
	if (s->input_at == s->input_len)
		s->input_at = s->input_len = 0;
}

/* Passes on what `*fd` holds now; closes it at its end; -1 when the client is gone. */
static int pass_output(struct session *s, int *fd, char type)
{
	char data[FRAME_MAX];
	ssize_t n;

	if (*fd < 0)
		return 0;
	n = read(*fd, data, sizeof(data));
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0) {
		close(*fd);
		*fd = -1;
		return 0;
	}
	return send_frame(s->sock, type, data, (uint32_t)n) < 0 ? -1 : 1;
}

static int drain_output(struct session *s, int *fd, char type)
{
	int more;

	/* a pipe holds 1 MiB at most, but a surviving child could refill it for ever */
	for (int i = 0; i < 64; i++) {
		more = pass_output(s, fd, type);
		if (more <= 0)
			return more;
	}
	return 0;
}

/* Until the command has ended (1) or the client has gone (0). */
static int serve(struct session *s)
{
	for (;;) {
		struct pollfd p[] = {
			{ s->sock, POLLRDHUP | (s->input_len ? 0 : POLLIN), 0 },
			{ s->input_len ? s->in : -1, POLLOUT, 0 },
			{ s->out, POLLIN, 0 },
			{ s->err, POLLIN, 0 },
			{ s->pidfd, POLLIN, 0 },
		};

		if (poll(p, 5, -1) < 0 && errno != EINTR)
			return 0;
		if (p[0].revents & (POLLRDHUP | POLLHUP | POLLERR))
			return 0;
		if ((p[0].revents & POLLIN) && take_frame(s) < 0)
			return 0;
		if (p[1].revents && s->in >= 0 && s->input_len)
			feed_input(s);
		if (p[2].revents && pass_output(s, &s->out, 'O') < 0)
			return 0;
		if (p[3].revents && pass_output(s, &s->err, 'R') < 0)
			return 0;
		if (p[4].revents)
			return 1;
	}
}

static void end_command(struct session *s)
{
	struct pollfd p = { s->pidfd, POLLIN, 0 };

	kill(-s->pid, SIGTERM);
	poll(&p, 1, GRACE_MS);
	kill(-s->pid, SIGKILL);
}

static void session(int sock)
{
	static struct session s;
	char **args = read_args(sock);
	int status;
	char code;

	if (!args)
		return;
	s.sock = sock;
	if (start_command(&s, args) < 0) {
		static const char sorry[] = "agent: cannot start a process\n";
		send_frame(sock, 'R', sorry, sizeof(sorry) - 1);
		code = 126;
		send_frame(sock, 'X', &code, 1);
		return;
	}
	if (!serve(&s)) {
		end_command(&s);
		return;
	}
	if (waitpid(s.pid, &status, 0) < 0)
		return;
	code = (char)(WIFSIGNALED(status) ? 128 + WTERMSIG(status)
					  : WEXITSTATUS(status));
	if (drain_output(&s, &s.out, 'O') == 0 && drain_output(&s, &s.err, 'R') == 0)
		send_frame(sock, 'X', &code, 1);
}

/* A socket keeps the namespace it was made in; the process returns to its own. */
static int listen_in_namespace(const char *path, int port)
{
	struct sockaddr_in any = { .sin_family = AF_INET,
				   .sin_port = htons((uint16_t)port) };
	int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int other = open(path, O_RDONLY | O_CLOEXEC);
	int sock, yes = 1;

	if (own < 0 || other < 0 || setns(other, CLONE_NEWNET) < 0)
		die(path);
	sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(sock, (struct sockaddr *)&any, sizeof(any)) < 0 ||
	    listen(sock, 64) < 0)
		die("listen");
	if (setns(own, CLONE_NEWNET) < 0)
		die("setns");
	close(own);
	close(other);
	return sock;
}

/*
 * Keeps a guest that never runs. With the first guest of a host KVM switches on code in
 * the scheduler, and with the last one off (the same for each local APIC that is enabled),
 * by patching the running kernel. QEMU 7.2 may keep its translation of the half-patched
 * code: the processor then meets a breakpoint that is no longer there, for ever.
 */
static void keep_guest(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0 ||
	    ioctl(vm, KVM_CREATE_VCPU, 0) < 0)
		perror("testbed: keep a guest");
}

int main(int argc, char **argv)
{
	int sock;

	if (argc != 3) {
		fprintf(stderr, "usage: agent NETNS-PATH PORT\n");
		return 2;
	}
	keep_guest();
	sock = listen_in_namespace(argv[1], atoi(argv[2]));
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	       1);
	setenv("HOME", "/root", 1);
	setenv("LANG", "C.UTF-8", 1);
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int yes = 1, conn = accept4(sock, NULL, NULL, SOCK_CLOEXEC);

		if (conn < 0)
			continue;
		if (fork() == 0) {
			signal(SIGCHLD, SIG_DFL);
			setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
			session(conn);
			_exit(0);
		}
		close(conn);
	}
}
