/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets in a pcapng file (draft-ietf-opsawg-pcapng): a section header, two interface
 * descriptions, enhanced packet blocks. Little-endian, which the section header says.
 */
#include "netcompare/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/wire.h"

#define BLOCK_SECTION 0x0a0d0d0au
#define BLOCK_INTERFACE 1u
#define BLOCK_PACKET 6u
#define SECTION_MAGIC 0x1a2b3c4du
#define LINK_ETHERNET 1u
#define SNAP_LEN 262144u
#define OPTION_END 0u
#define OPTION_COMMENT 1u
#define OPTION_INTERFACE_NAME 2u
#define OPTION_APPLICATION 4u
#define OPTION_TIME_RESOLUTION 9u
#define TIME_NANOSECONDS 9u /* 10^-9 s */

struct ncmp_dump {
	int fd;
	guint64 bytes_max;
	GThread *thread;
	GMutex lock; /* of what follows */
	GCond changed;
	GByteArray *waiting; /* whole blocks */
	gboolean closing;
	struct ncmp_dump_counters counters;
};

static void put16(GByteArray *to, guint16 value)
{
	wire_u16 wire = wire_put16(value);

	g_byte_array_append(to, (guint8 *)&wire, sizeof(wire));
}

static void put32(GByteArray *to, guint32 value)
{
	wire_u32 wire = wire_put32(value);

	g_byte_array_append(to, (guint8 *)&wire, sizeof(wire));
}

static void pad(GByteArray *to)
{
	static const guint8 zeros[4];

	g_byte_array_append(to, zeros, (4 - to->len % 4) % 4);
}

static void put_option(GByteArray *to, guint16 code, const void *bytes, gsize len)
{
	put16(to, code);
	put16(to, (guint16)len);
	g_byte_array_append(to, bytes, (guint)len);
	pad(to);
}

/* A block's length stands at both of its ends. Returns where it begins. */
static guint begin_block(GByteArray *to, guint32 type)
{
	guint at = to->len;

	put32(to, type);
	put32(to, 0);
	return at;
}

static void end_block(GByteArray *to, guint at)
{
	guint32 len = to->len + 4 - at;
	wire_u32 wire = wire_put32(len);

	put32(to, len);
	memcpy(to->data + at + 4, &wire, sizeof(wire));
}

static void put_section(GByteArray *to)
{
	static const char application[] = "colo-netcompare";
	guint at = begin_block(to, BLOCK_SECTION);

	put32(to, SECTION_MAGIC);
	put16(to, 1);
	put16(to, 0);
	put32(to, G_MAXUINT32); /* its length is not known */
	put32(to, G_MAXUINT32);
	put_option(to, OPTION_APPLICATION, application, strlen(application));
	put_option(to, OPTION_END, NULL, 0);
	end_block(to, at);
}

static void put_interface(GByteArray *to, const char *name)
{
	guint8 resolution = TIME_NANOSECONDS;
	guint at = begin_block(to, BLOCK_INTERFACE);

	put16(to, LINK_ETHERNET);
	put16(to, 0);
	put32(to, SNAP_LEN);
	put_option(to, OPTION_INTERFACE_NAME, name, strlen(name));
	put_option(to, OPTION_TIME_RESOLUTION, &resolution, 1);
	put_option(to, OPTION_END, NULL, 0);
	end_block(to, at);
}

/* Not within a character. */
static gsize comment_len(const char *comment)
{
	gsize len = strlen(comment);

	if (len <= NCMP_DUMP_COMMENT_MAX)
		return len;
	len = NCMP_DUMP_COMMENT_MAX;
	while (len && (comment[len] & 0xc0) == 0x80)
		len--;
	return len;
}

static void put_packet(GByteArray *to, enum ncmp_dump_side side, gint64 time_ns,
		       const guint8 *header, gsize header_len, const guint8 *bytes,
		       gsize len, const char *comment)
{
	guint at = begin_block(to, BLOCK_PACKET);

	put32(to, side);
	put32(to, (guint32)((guint64)time_ns >> 32));
	put32(to, (guint32)time_ns);
	put32(to, (guint32)(header_len + len));
	put32(to, (guint32)(header_len + len));
	g_byte_array_append(to, header, (guint)header_len);
	g_byte_array_append(to, bytes, (guint)len);
	pad(to);
	if (comment && *comment) {
		put_option(to, OPTION_COMMENT, comment, comment_len(comment));
		put_option(to, OPTION_END, NULL, 0);
	}
	end_block(to, at);
}

/* Returns 0 or what went wrong. */
static int write_all(int fd, const guint8 *bytes, gsize len)
{
	while (len) {
		gssize n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		bytes += n;
		len -= (gsize)n;
	}
	return 0;
}

static gpointer write_blocks(gpointer data)
{
	ncmp_dump *dump = data;
	g_autoptr(GByteArray) blocks = g_byte_array_new();

	g_mutex_lock(&dump->lock);
	for (;;) {
		GByteArray *taken = dump->waiting;
		int failed;

		if (!taken->len) {
			if (dump->closing)
				break;
			g_cond_wait(&dump->changed, &dump->lock);
			continue;
		}
		dump->waiting = blocks;
		blocks = taken;
		g_mutex_unlock(&dump->lock);
		failed = write_all(dump->fd, blocks->data, blocks->len);
		g_byte_array_set_size(blocks, 0);
		g_mutex_lock(&dump->lock);
		if (failed) {
			dump->counters.failed = failed;
			g_byte_array_set_size(dump->waiting, 0);
			break;
		}
	}
	g_mutex_unlock(&dump->lock);
	return NULL;
}

ncmp_dump *ncmp_dump_open(const char *path, guint64 bytes_max, GError **error)
{
	/* Truncated only once it is known to be a file: a FIFO would make us wait. */
	base_autofd int fd = open(
		path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	int err = errno;
	ncmp_dump *dump;

	if (fd < 0 || ftruncate(fd, 0) < 0 || fchmod(fd, 0600) < 0) {
		if (fd >= 0)
			err = errno;
		g_set_error(error, G_IO_ERROR, g_io_error_from_errno(err),
			    "open %s for a capture: %s", path, g_strerror(err));
		return NULL;
	}
	dump = g_new0(ncmp_dump, 1);
	dump->fd = base_fd_steal(&fd);
	dump->bytes_max = bytes_max;
	dump->waiting = g_byte_array_new();
	g_mutex_init(&dump->lock);
	g_cond_init(&dump->changed);
	put_section(dump->waiting);
	put_interface(dump->waiting, "primary");
	put_interface(dump->waiting, "secondary");
	dump->counters.bytes = dump->waiting->len;
	dump->thread = g_thread_new("dump", write_blocks, dump);
	return dump;
}

void ncmp_dump_close(ncmp_dump *dump)
{
	if (!dump)
		return;
	g_mutex_lock(&dump->lock);
	dump->closing = TRUE;
	g_cond_signal(&dump->changed);
	g_mutex_unlock(&dump->lock);
	g_thread_join(dump->thread);
	close(dump->fd);
	g_byte_array_free(dump->waiting, TRUE);
	g_mutex_clear(&dump->lock);
	g_cond_clear(&dump->changed);
	g_free(dump);
}

static gboolean add(ncmp_dump *dump, enum ncmp_dump_side side, gint64 time_ns,
		    const guint8 *header, gsize header_len, const guint8 *bytes,
		    gsize len, const char *comment)
{
	gboolean added = FALSE;
	guint at;

	g_mutex_lock(&dump->lock);
	at = dump->waiting->len;
	if (header_len + len <= SNAP_LEN && at < NCMP_DUMP_QUEUE_MAX &&
	    !dump->counters.failed) {
		put_packet(dump->waiting, side, time_ns, header, header_len, bytes, len,
			   comment);
		added = dump->counters.bytes + dump->waiting->len - at <=
			dump->bytes_max;
	}
	if (added) {
		dump->counters.packets++;
		dump->counters.bytes += dump->waiting->len - at;
		g_cond_signal(&dump->changed);
	} else {
		g_byte_array_set_size(dump->waiting, at);
		dump->counters.left_out++;
	}
	g_mutex_unlock(&dump->lock);
	return added;
}

gboolean ncmp_dump_frame(ncmp_dump *dump, enum ncmp_dump_side side, gint64 time_ns,
			 const guint8 *frame, gsize len, const char *comment)
{
	return add(dump, side, time_ns, NULL, 0, frame, len, comment);
}

gboolean ncmp_dump_packet(ncmp_dump *dump, enum ncmp_dump_side side, gint64 time_ns,
			  guint16 ethertype, guint16 vlan, const guint8 *bytes,
			  gsize len, const char *comment)
{
	guint8 header[18] = { 0 };
	gsize at = 12;

	if (vlan) {
		header[at++] = 0x81;
		header[at++] = 0x00;
		header[at++] = (guint8)(vlan >> 8);
		header[at++] = (guint8)vlan;
	}
	header[at++] = (guint8)(ethertype >> 8);
	header[at++] = (guint8)ethertype;
	return add(dump, side, time_ns, header, at, bytes, len, comment);
}

void ncmp_dump_get_counters(ncmp_dump *dump, struct ncmp_dump_counters *counters)
{
	g_mutex_lock(&dump->lock);
	*counters = dump->counters;
	g_mutex_unlock(&dump->lock);
}
