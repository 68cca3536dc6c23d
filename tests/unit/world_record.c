/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The generation file in a world: the real code (colo/record.h) on a modelled file
 * system.
 *
 * A file system keeps what is flushed, and of the rest what it likes. After a loss of
 * power a file that was not flushed is empty, cut, all zero or whole; of what happened
 * to the folder since that was flushed, the first few things happened, and the rest
 * not. A flush that fails leaves either.
 *
 * The real code runs at once, on a plan: what it asks for, and with which result. The
 * plan is then carried out call by call, while time passes, and stops where colod is
 * killed or power is lost.
 *
 * Two promises are checked. A record that was said to be on disk is there, or a later
 * one. Nobody reads what nobody wrote.
 */
#include "tests/unit/world_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATH "/world/generation"
#define FOLDER "/world"
#define FD_FOLDER 0x30000000
#define FD_FILE 0x30000001
#define CALLS_MAX 16u
#define LOG_MAX 8u /* things that happened to a folder and are not flushed */
#define TEXT_MAX 1024u

enum name { FILE_NOW, FILE_NEW, FILE__NAMES };

struct inode {
	guint refs;
	GString *text;
	GString *flushed; /* what is surely on the disk; NULL: nothing */
};

struct change { /* of the folder */
	enum { LINK, UNLINK, RENAME } kind; /* RENAME: of FILE_NEW to FILE_NOW */
	enum name name;
	struct inode *inode;
};

struct call {
	enum {
		CALL_UNLINK,
		CALL_CREATE,
		CALL_WRITE,
		CALL_FLUSH,
		CALL_RENAME,
		CALL_FLUSH_FOLDER
	} kind;
	int error;
	gsize length;
	char text[TEXT_MAX];
};

struct files {
	struct inode *now[FILE__NAMES], *flushed[FILE__NAMES];
	struct change log[LOG_MAX];
	guint changes;
	/* A plan that is being made. */
	struct call calls[CALLS_MAX];
	guint planned;
	int fails; /* which kind of call is to fail; -1: none */
	gboolean new_is_there;
	gsize read_at;
	/* What can be on disk: what was written since, and including, what was last
	 * said to be there. */
	struct colo_record may_be[64];
	guint may_bes;
	gboolean flipped;
};

/* Files. */

static struct inode *inode_ref(struct inode *inode)
{
	if (inode)
		inode->refs++;
	return inode;
}

static void inode_unref(struct inode *inode)
{
	if (!inode || --inode->refs)
		return;
	g_string_free(inode->text, TRUE);
	if (inode->flushed)
		g_string_free(inode->flushed, TRUE);
	g_free(inode);
}

static void set_entry(struct inode **entry, struct inode *inode)
{
	inode_ref(inode);
	inode_unref(*entry);
	*entry = inode;
}

static void flush_text(struct inode *inode)
{
	if (inode->flushed)
		g_string_free(inode->flushed, TRUE);
	inode->flushed = g_string_new_len(inode->text->str, (gssize)inode->text->len);
}

static void apply(struct inode *entries[FILE__NAMES], const struct change *change)
{
	if (change->kind == RENAME) {
		set_entry(&entries[FILE_NOW], change->inode);
		set_entry(&entries[FILE_NEW], NULL);
	} else {
		set_entry(&entries[change->name],
			  change->kind == LINK ? change->inode : NULL);
	}
}

/* The first of what happened to the folder is on the disk. */
static void flush_folder(struct files *files, guint count)
{
	for (guint i = 0; i < count; i++)
		apply(files->flushed, &files->log[i]);
	for (guint i = 0; i < count; i++)
		inode_unref(files->log[i].inode);
	memmove(files->log, files->log + count,
		(files->changes - count) * sizeof(files->log[0]));
	files->changes -= count;
}

static void change_folder(struct files *files, int kind, enum name name,
			  struct inode *inode)
{
	if (files->changes == LOG_MAX)
		flush_folder(files, 1);
	files->log[files->changes] = (struct change){ kind, name, inode_ref(inode) };
	apply(files->now, &files->log[files->changes++]);
}

/* The calls of the real code. */

static struct files *planning(test_world **world)
{
	guint host;

	*world = world_acting(&host);
	return (*world)->host[host].files;
}

/* The error that this call is to have; 0: none. */
static struct call *plan(int kind, int error)
{
	test_world *world;
	struct files *files = planning(&world);
	struct call *call = &files->calls[files->planned];

	g_assert(files->planned < CALLS_MAX);
	*call = (struct call){ .kind = kind };
	files->planned++;
	if (kind == files->fails)
		call->error = error;
	return call;
}

static int result(const struct call *call)
{
	errno = call->error;
	return call->error ? -1 : 0;
}

int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	if (!strcmp(path, FOLDER))
		return FD_FOLDER;
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int __wrap_openat(int folder, const char *name, int flags, ...);
int __wrap_openat(int folder, const char *name, int flags, ...)
{
	test_world *world;
	struct files *files = planning(&world);
	struct call *call;

	g_assert(folder == FD_FOLDER);
	files->read_at = 0;
	if (flags & O_CREAT) {
		call = plan(CALL_CREATE, ENOSPC);
		files->new_is_there |= !call->error;
		return result(call) ? -1 : FD_FILE;
	}
	if (files->now[FILE_NOW])
		return FD_FILE;
	errno = ENOENT;
	return -1;
}

int __wrap_unlinkat(int folder, const char *name, int flags);
int __wrap_unlinkat(int folder, const char *name, int flags)
{
	test_world *world;
	struct files *files = planning(&world);

	g_assert(folder == FD_FOLDER && !strcmp(name, "generation.new"));
	if (!files->new_is_there) {
		errno = ENOENT;
		return -1;
	}
	files->new_is_there = FALSE;
	return result(plan(CALL_UNLINK, 0));
}

int __wrap_renameat(int folder, const char *from, int to_folder, const char *to);
int __wrap_renameat(int folder, const char *from, int to_folder, const char *to)
{
	struct call *call = plan(CALL_RENAME, EIO);
	test_world *world;

	g_assert(!strcmp(from, "generation.new") && !strcmp(to, "generation"));
	if (!call->error)
		planning(&world)->new_is_there = FALSE;
	return result(call);
}

int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	if (fd != FD_FILE && fd != FD_FOLDER)
		return (int)syscall(SYS_fsync, fd);
	return result(plan(fd == FD_FILE ? CALL_FLUSH : CALL_FLUSH_FOLDER, EIO));
}

ssize_t __wrap_write(int fd, const void *bytes, size_t length);
ssize_t __wrap_write(int fd, const void *bytes, size_t length)
{
	test_world *world;
	struct call *call;

	if (fd != FD_FILE)
		return syscall(SYS_write, fd, bytes, length);
	call = plan(CALL_WRITE, ENOSPC);
	planning(&world);
	if (call->error)
		return result(call);
	call->length = world_random(world, 20)
			       ? length
			       : 1 + world_random(world, (guint32)length);
	g_assert(call->length <= TEXT_MAX);
	memcpy(call->text, bytes, call->length);
	return (ssize_t)call->length;
}

ssize_t __wrap_read(int fd, void *bytes, size_t length);
ssize_t __wrap_read(int fd, void *bytes, size_t length)
{
	test_world *world;
	struct files *files;
	const GString *text;

	if (fd != FD_FILE)
		return syscall(SYS_read, fd, bytes, length);
	files = planning(&world);
	text = files->now[FILE_NOW]->text;
	length = MIN(length, text->len - files->read_at);
	memcpy(bytes, text->str + files->read_at, length);
	files->read_at += length;
	return (ssize_t)length;
}

int __wrap_fstat(int fd, struct stat *status);
int __wrap_fstat(int fd, struct stat *status)
{
	if (fd != FD_FILE)
		return (int)syscall(SYS_fstat, fd, status);
	*status = (struct stat){ .st_mode = S_IFREG | 0600 };
	return 0;
}

int __wrap_close(int fd);
int __wrap_close(int fd)
{
	return fd == FD_FILE || fd == FD_FOLDER ? 0 : (int)syscall(SYS_close, fd);
}

/* Writing. */

static void carry_out(test_world *world, struct files *files, const struct call *call)
{
	struct inode *inode;

	switch (call->kind) {
	case CALL_UNLINK:
		change_folder(files, UNLINK, FILE_NEW, NULL);
		break;
	case CALL_CREATE:
		if (call->error)
			break;
		inode = g_new0(struct inode, 1);
		inode->text = g_string_new(NULL);
		change_folder(files, LINK, FILE_NEW, inode);
		break;
	case CALL_WRITE:
		if (!call->error)
			g_string_append_len(files->now[FILE_NEW]->text, call->text,
					    (gssize)call->length);
		break;
	case CALL_FLUSH:
		if (!call->error || world_random(world, 2))
			flush_text(files->now[FILE_NEW] ? files->now[FILE_NEW]
							: files->now[FILE_NOW]);
		break;
	case CALL_RENAME:
		if (!call->error)
			change_folder(files, RENAME, FILE_NOW, files->now[FILE_NEW]);
		break;
	case CALL_FLUSH_FOLDER:
		flush_folder(files, call->error
					    ? world_random(world, files->changes + 1)
					    : files->changes);
		break;
	}
}

static void do_call(test_world *world, guint host, const struct happening *happening)
{
	carry_out(world, world->host[host].files, happening->thing);
}

static void recorded(test_world *world, guint host, const struct happening *happening)
{
	struct files *files = world->host[host].files;

	if (happening->number) {
		/* No earlier one can be there any more. */
		files->may_be[0] = files->may_be[files->may_bes - 1];
		files->may_bes = 1;
	}
	world_record_look(world, host, FALSE);
	colo_node_recorded(world->host[host].node, happening->number != 0,
			   (const char *)happening->thing);
}

static void make_plan(test_world *world, guint host)
{
	struct files *files = world->host[host].files;

	world_act(world, host);
	files->planned = 0;
	files->fails = -1;
	files->new_is_there = files->now[FILE_NEW] != NULL;
}

static void record(void *data, const struct colo_record *record)
{
	const struct side *side = data;
	test_world *world = side->world;
	struct files *files = world->host[side->host].files;
	const guint64 ms =
		1 + world_random(world, 8) + world->host[side->host].disk_slow_ms;
	struct happening *end;
	GError *error = NULL;
	gboolean ok;

	world_note(world, "%u: writes down %s %" G_GUINT64_FORMAT, side->host,
		   colo_part_name(record->part), record->generation);
	g_assert(files->may_bes < G_N_ELEMENTS(files->may_be));
	files->may_be[files->may_bes++] = *record;
	make_plan(world, side->host);
	if (world->host[side->host].disk_fails)
		files->fails = (int)(CALL_CREATE + world_random(world, 5));
	ok = colo_record_write(PATH, world->pair.name,
			       world->pair.node[side->host].name, record, &error);
	for (guint i = 0; i < files->planned; i++)
		world_happen(world, side->host, FALSE, ms * (i + 1) / files->planned,
			     do_call)
			->thing = g_memdup2(&files->calls[i], sizeof(files->calls[i]));
	end = world_happen(world, side->host, FALSE, ms + world_random(world, 4),
			   recorded);
	end->number = ok;
	end->thing = g_strdup(ok ? NULL : error->message);
	g_clear_error(&error);
}

void world_record_set_ops(struct colo_node_ops *ops)
{
	ops->record = record;
}

/* Reading. */

static gboolean may_be(const struct files *files, const struct colo_record *record)
{
	for (guint i = 0; i < files->may_bes; i++)
		if (files->may_be[i].generation == record->generation &&
		    files->may_be[i].part == record->part &&
		    files->may_be[i].stopped == record->stopped)
			return TRUE;
	return FALSE;
}

void world_record_look(test_world *world, guint host, gboolean starts)
{
	struct host *here = &world->host[host];
	struct files *files = here->files;
	g_autoptr(GError) error = NULL;

	make_plan(world, host);
	here->damaged =
		!colo_record_read(PATH, world->pair.name, world->pair.node[host].name,
				  &here->record, &error);
	for (guint i = 0; starts && i < files->planned; i++)
		carry_out(world, files, &files->calls[i]);
	if (starts && files->flushed[FILE_NOW] != files->now[FILE_NOW])
		world_violate(world,
			      "host %u begins with a record that is not on disk yet",
			      host);
	if (here->damaged && !files->flipped)
		world_violate(world, "host %u cannot read its record: %s", host,
			      error->message);
	if (!here->damaged && !may_be(files, &here->record))
		world_violate(world,
			      "host %u reads %s %" G_GUINT64_FORMAT
			      ", which was never written or is not the last one",
			      host, colo_part_name(here->record.part),
			      here->record.generation);
}

/* What goes wrong. */

static void lose_text(test_world *world, struct inode *inode)
{
	GString *text = inode->text;

	if (inode->flushed && inode->flushed->len == text->len &&
	    !memcmp(inode->flushed->str, text->str, text->len))
		return;
	switch (world_random(world, 4)) {
	case 0:
		g_string_truncate(text, inode->flushed ? inode->flushed->len : 0);
		break;
	case 1:
		g_string_truncate(text, world_random(world, (guint32)text->len + 1));
		break;
	case 2:
		memset(text->str, 0, text->len);
		break;
	case 3:
		break; /* it was written all the same */
	}
	flush_text(inode);
}

void world_files_lose_power(test_world *world, guint host)
{
	struct files *files = world->host[host].files;

	flush_folder(files, world_random(world, files->changes + 1));
	while (files->changes)
		inode_unref(files->log[--files->changes].inode);
	for (guint i = 0; i < FILE__NAMES; i++) {
		set_entry(&files->now[i], files->flushed[i]);
		if (files->now[i])
			lose_text(world, files->now[i]);
	}
}

void world_files_flip(test_world *world, guint host)
{
	struct files *files = world->host[host].files;
	GString *text = files->now[FILE_NOW] ? files->now[FILE_NOW]->text : NULL;

	if (world->host[host].on || !text || !text->len)
		return;
	world_note(world, "%u: a bit of its record flips", host);
	text->str[world_random(world, (guint32)text->len)] ^=
		(char)(1u << world_random(world, 8));
	flush_text(files->now[FILE_NOW]);
	files->flipped = TRUE;
	world_record_look(world, host, FALSE);
}

void world_files_remove(test_world *world, guint host)
{
	struct files *files = world->host[host].files;

	world_note(world, "%u: a person removes its record", host);
	set_entry(&files->now[FILE_NOW], NULL);
	set_entry(&files->flushed[FILE_NOW], NULL);
	while (files->changes)
		inode_unref(files->log[--files->changes].inode);
	files->may_be[0] = (struct colo_record){ 0 };
	files->may_bes = 1;
	files->flipped = FALSE;
	world_record_look(world, host, FALSE);
}

void world_files_new(test_world *world)
{
	for (guint i = 0; i < 2; i++) {
		world->host[i].files = g_new0(struct files, 1);
		world->host[i].files->may_bes = 1;
	}
}

void world_files_free(test_world *world)
{
	for (guint i = 0; i < 2; i++) {
		struct files *files = world->host[i].files;

		while (files->changes)
			inode_unref(files->log[--files->changes].inode);
		for (guint n = 0; n < FILE__NAMES; n++) {
			set_entry(&files->now[n], NULL);
			set_entry(&files->flushed[n], NULL);
		}
		g_free(files);
	}
}
