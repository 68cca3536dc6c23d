/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first sync of all disks of a machine over a link. */
#include "checkpoint/node_sync.h"

#include <string.h>

#include "checkpoint/hello.h"

static void post(ckpt_link *link, const struct ckpt_sync_head *head,
		 const void *payload, gsize len)
{
	const struct iovec iov[] = { { (void *)head, sizeof(*head) },
				     { (void *)payload, len } };

	ckpt_link_post(link, CKPT_SYNC_DISK, 0, iov, len ? 2 : 1);
}

static void refuse_disk(ckpt_link *link, const char *whose, guint index, int error)
{
	g_autofree char *why = g_strdup_printf("disk %u of the %s cannot be read: %s",
					       index, whose, g_strerror(-error));

	ckpt_link_refuse(link, why);
}

/* Primary. */

struct disk_out {
	ckpt_link *link;
	guint index;
	ckpt_disk_sync_out *sync; /* NULL: no such disk */
};

struct ckpt_node_sync_out {
	struct disk_out disks[VMM_DISKS_MAX];
};

static void send_out(void *data, const struct ckpt_sync_head *head, const void *payload,
		     gsize len)
{
	post(((struct disk_out *)data)->link, head, payload, len);
}

static void failed_out(void *data, int error)
{
	const struct disk_out *disk = data;

	refuse_disk(disk->link, "primary", disk->index, error);
}

ckpt_node_sync_out *ckpt_node_sync_out_new(ckpt_disk_out *out, ckpt_link *link,
					   const guint8 secret[CKPT_SECRET])
{
	ckpt_node_sync_out *sync = g_new0(ckpt_node_sync_out, 1);

	for (guint i = 0; i < VMM_DISKS_MAX; i++) {
		struct disk_out *disk = &sync->disks[i];
		const struct ckpt_sync_hooks hooks = { disk, send_out, failed_out,
						       NULL };

		disk->link = link;
		disk->index = i;
		if (ckpt_disk_out_below(out, i))
			disk->sync = ckpt_disk_sync_out_new(out, i, secret, &hooks);
	}
	return sync;
}

void ckpt_node_sync_out_free(ckpt_node_sync_out *sync)
{
	if (!sync)
		return;
	for (guint i = 0; i < VMM_DISKS_MAX; i++)
		ckpt_disk_sync_out_free(sync->disks[i].sync);
	g_free(sync);
}

gboolean ckpt_node_sync_out_get(const ckpt_node_sync_out *sync, guint index,
				struct ckpt_disk_sync_counters *counters)
{
	if (!sync->disks[index].sync)
		return FALSE;
	ckpt_disk_sync_out_get_counters(sync->disks[index].sync, counters);
	return TRUE;
}

static guint64 under_way(const ckpt_node_sync_out *sync)
{
	struct ckpt_disk_sync_counters counters;
	guint64 bytes = 0;

	for (guint i = 0; i < VMM_DISKS_MAX; i++)
		if (ckpt_node_sync_out_get(sync, i, &counters))
			bytes += counters.begun - counters.done;
	return bytes;
}

gboolean ckpt_node_sync_out_step(ckpt_node_sync_out *sync)
{
	if (under_way(sync) >= CKPT_SYNC_WINDOW * CKPT_SYNC_PIECE)
		return FALSE;
	for (guint i = 0; i < VMM_DISKS_MAX; i++)
		if (sync->disks[i].sync && ckpt_disk_sync_out_step(sync->disks[i].sync))
			return TRUE;
	return FALSE;
}

gboolean ckpt_node_sync_out_take(ckpt_node_sync_out *sync, const void *payload,
				 gsize len, GError **error)
{
	struct ckpt_sync_head head;
	const char *why = "an answer is for no disk that there is";
	ckpt_disk_sync_out *disk;
	guint64 at;

	memcpy(&head, payload, sizeof(head));
	disk = head.disk < VMM_DISKS_MAX ? sync->disks[head.disk].sync : NULL;
	if (!disk || !ckpt_disk_sync_out_take(disk, &head, len - sizeof(head), &why)) {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL, "first sync: %s",
			    why);
		return FALSE;
	}
	if (!ckpt_disk_sync_out_differs(disk, &at))
		return TRUE;
	g_set_error(
		error, CKPT_ERROR, CKPT_ERROR_UNLIKE,
		"disk %u is read-only and is not the same on both nodes: they differ "
		"within %u bytes from byte %" G_GUINT64_FORMAT,
		head.disk, CKPT_SYNC_BLOCK, at);
	return FALSE;
}

/* Secondary. */

struct disk_in {
	ckpt_link *link;
	guint index;
	ckpt_disk_sync_in *sync; /* NULL: no such disk */
};

struct ckpt_node_sync_in {
	struct disk_in disks[VMM_DISKS_MAX];
};

static void send_in(void *data, const struct ckpt_sync_head *head, const void *payload,
		    gsize len)
{
	post(((struct disk_in *)data)->link, head, payload, len);
}

static void failed_in(void *data, int error)
{
	const struct disk_in *disk = data;

	refuse_disk(disk->link, "secondary", disk->index, error);
}

ckpt_node_sync_in *ckpt_node_sync_in_new(ckpt_disk_twins *twins, ckpt_link *link,
					 const guint8 secret[CKPT_SECRET])
{
	ckpt_node_sync_in *sync = g_new0(ckpt_node_sync_in, 1);

	for (guint i = 0; i < VMM_DISKS_MAX; i++) {
		struct disk_in *disk = &sync->disks[i];
		const struct ckpt_sync_hooks hooks = { disk, send_in, failed_in, NULL };
		struct vmm_disk *base = ckpt_disk_twin_base(twins, i);

		disk->link = link;
		disk->index = i;
		if (base)
			disk->sync = ckpt_disk_sync_in_new(base, i, secret, &hooks);
	}
	return sync;
}

void ckpt_node_sync_in_free(ckpt_node_sync_in *sync)
{
	if (!sync)
		return;
	for (guint i = 0; i < VMM_DISKS_MAX; i++)
		ckpt_disk_sync_in_free(sync->disks[i].sync);
	g_free(sync);
}

const char *ckpt_node_sync_in_take(ckpt_node_sync_in *sync, const void *payload,
				   gsize len)
{
	struct ckpt_sync_head head;
	const char *why = "a piece is for no disk that there is";
	ckpt_disk_sync_in *disk;

	memcpy(&head, payload, sizeof(head));
	disk = head.disk < VMM_DISKS_MAX ? sync->disks[head.disk].sync : NULL;
	if (!disk ||
	    !ckpt_disk_sync_in_take(disk, &head, (const guint8 *)payload + sizeof(head),
				    len - sizeof(head), &why))
		return why;
	return NULL;
}
