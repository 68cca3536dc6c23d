/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel drops of a flood before it fills a path's socket. */
#include "heartbeat/filter.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "heartbeat/message.h"

#define UDP \
	((guint32)sizeof(struct udphdr)) /* the filter sees it before the datagram */
#define LENGTH_MAX 48u /* instructions */
#define DROP 0xffu /* stands for a jump to the end, whose place is not known yet */

struct program {
	struct sock_filter code[LENGTH_MAX];
	guint length;
};

static void add(struct program *program, guint16 code, guint32 k, guint8 yes, guint8 no)
{
	g_assert(program->length < LENGTH_MAX);
	program->code[program->length++] = (struct sock_filter){ code, yes, no, k };
}

/* Goes on only where the word at `offset` is that at `bytes`. */
static void want_word(struct program *program, guint32 offset, const void *bytes,
		      guint8 yes, guint8 no)
{
	guint32 word;

	memcpy(&word, bytes, sizeof(word));
	add(program, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
	add(program, BPF_JMP | BPF_JEQ | BPF_K, ntohl(word), yes, no);
}

static void want_words(struct program *program, guint32 offset, const void *bytes,
		       guint32 length)
{
	for (guint32 i = 0; i < length; i += 4)
		want_word(program, offset + i, (const guint8 *)bytes + i, 0, DROP);
}

static void want_source(struct program *program, const struct sockaddr *from)
{
	const guint32 network = (guint32)SKF_NET_OFF;

	if (from->sa_family == AF_INET)
		want_words(program, network + 12,
			   &((const struct sockaddr_in *)from)->sin_addr, 4);
	else
		want_words(program, network + 8,
			   &((const struct sockaddr_in6 *)from)->sin6_addr, 16);
}

/* Either in the one place or in the other. */
static void want_session(struct program *program, guint64 session)
{
	const guint32 echo = UDP + offsetof(struct hb_datagram, echo);
	const guint32 greets = UDP + offsetof(struct hb_datagram, greets);
	wire_u64 wire = wire_put64(session);
	const guint8 *bytes = (const guint8 *)&wire;

	want_word(program, echo, bytes, 0, 2);
	want_word(program, echo + 4, bytes + 4, 4, 0);
	want_words(program, greets, bytes, 8);
}

static void finish(struct program *program)
{
	guint drop;

	add(program, BPF_RET | BPF_K, G_MAXUINT32, 0, 0);
	drop = program->length;
	add(program, BPF_RET | BPF_K, 0, 0, 0);
	for (guint i = 0; i < drop; i++)
		if (program->code[i].jf == DROP)
			program->code[i].jf = (guint8)(drop - i - 1);
}

gboolean hb_filter_put(int fd, const struct sockaddr *from,
		       const guint8 head[HB_FILTER_HEAD], guint64 session)
{
	struct program program = { .length = 0 };
	struct sock_fprog given = { .filter = program.code };

	add(&program, BPF_LD | BPF_W | BPF_LEN, 0, 0, 0);
	add(&program, BPF_JMP | BPF_JEQ | BPF_K, UDP + sizeof(struct hb_datagram), 0,
	    DROP);
	want_source(&program, from);
	want_words(&program, UDP, head, HB_FILTER_HEAD);
	if (session)
		want_session(&program, session);
	finish(&program);
	given.len = (unsigned short)program.length;
	return !setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &given, sizeof(given));
}

void hb_filter_remove(int fd)
{
	/* Fails where there is none. */
	(void)!setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, NULL, 0);
}
