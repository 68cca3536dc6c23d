/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first message each way: whether two machines can be a pair. */
#include "checkpoint/hello.h"

#include <string.h>

G_DEFINE_QUARK(ckpt - error - quark, ckpt_error)
G_STATIC_ASSERT(CKPT_HELLO_DISKS == VMM_DISKS_MAX);
G_STATIC_ASSERT(CKPT_HELLO_NETS == VMM_NETS_MAX);

static struct ckpt_hello_disk describe_disk(const struct vmm_disk *disk)
{
	return (struct ckpt_hello_disk){
		.bytes = wire_put64(disk->size),
		.block_size = wire_put32(disk->block_size),
		.readonly = disk->readonly != FALSE,
		.can_discard = disk->can_discard != FALSE,
		.can_zero = disk->can_zero != FALSE,
	};
}

void ckpt_hello_fill(struct ckpt_hello *hello, vmm_machine *machine, gboolean primary,
		     gboolean verify, const guint8 *secret)
{
	const struct vmm_config *config = vmm_machine_config(machine);

	memset(hello, 0, sizeof(*hello));
	hello->version = wire_put32(CKPT_PROTOCOL_VERSION);
	hello->primary = primary;
	hello->verify = verify != FALSE;
	hello->memory = wire_put64(vmm_memory_bytes(vmm_machine_memory(machine)));
	hello->cpus = wire_put32(config->cpus);
	hello->nets = wire_put32(vmm_machine_nets(machine));
	hello->disks = wire_put32(vmm_machine_disks(machine));
	for (guint i = 0; i < vmm_machine_disks(machine); i++)
		hello->disk[i] = describe_disk(vmm_machine_disk(machine, i));
	for (guint i = 0; i < vmm_machine_nets(machine); i++)
		memcpy(hello->mac[i],
		       g_array_index(config->nets, struct vmm_net_config, i).mac, 6);
	if (secret)
		memcpy(hello->secret, secret, sizeof(hello->secret));
}

static gboolean unlike(GError **error, const char *what, guint64 theirs, guint64 ours)
{
	g_set_error(error, CKPT_ERROR, CKPT_ERROR_UNLIKE,
		    "the peer's machine has %s %" G_GUINT64_FORMAT
		    ", this one %" G_GUINT64_FORMAT,
		    what, theirs, ours);
	return FALSE;
}

static gboolean unlike_disk(GError **error, guint index, const char *what,
			    guint64 theirs, guint64 ours)
{
	g_autofree char *which = g_strdup_printf("disk %u with %s", index, what);

	return unlike(error, which, theirs, ours);
}

static gboolean judge_disk(guint index, const struct ckpt_hello_disk *ours,
			   const struct ckpt_hello_disk *theirs, GError **error)
{
	guint64 bytes = wire_get64(ours->bytes);
	guint32 block_size = wire_get32(ours->block_size);

	if (wire_get64(theirs->bytes) != bytes)
		return unlike_disk(error, index, "bytes:", wire_get64(theirs->bytes),
				   bytes);
	if (wire_get32(theirs->block_size) != block_size)
		return unlike_disk(error, index,
				   "block size:", wire_get32(theirs->block_size),
				   block_size);
	if (theirs->readonly != ours->readonly)
		return unlike_disk(error, index, "read-only:", theirs->readonly,
				   ours->readonly);
	if (theirs->can_discard != ours->can_discard)
		return unlike_disk(error, index, "discard:", theirs->can_discard,
				   ours->can_discard);
	if (theirs->can_zero != ours->can_zero)
		return unlike_disk(error, index, "zeroing:", theirs->can_zero,
				   ours->can_zero);
	return TRUE;
}

#define MAC_FORMAT "%02x:%02x:%02x:%02x:%02x:%02x"
#define MAC_BYTES(mac) (mac)[0], (mac)[1], (mac)[2], (mac)[3], (mac)[4], (mac)[5]

/* The guest has one identity, on whichever host it runs. */
static gboolean judge_mac(guint index, const guint8 ours[6], const guint8 theirs[6],
			  GError **error)
{
	if (!memcmp(ours, theirs, 6))
		return TRUE;
	g_set_error(error, CKPT_ERROR, CKPT_ERROR_UNLIKE,
		    "the peer's machine has network card %u with MAC: " MAC_FORMAT
		    ", this one " MAC_FORMAT,
		    index, MAC_BYTES(theirs), MAC_BYTES(ours));
	return FALSE;
}

static gboolean judge_devices(const struct ckpt_hello *ours,
			      const struct ckpt_hello *theirs, GError **error)
{
	guint disks = wire_get32(ours->disks), nets = wire_get32(ours->nets);

	if (wire_get32(theirs->nets) != nets)
		return unlike(error, "network cards:", wire_get32(theirs->nets), nets);
	for (guint i = 0; i < nets; i++)
		if (!judge_mac(i, ours->mac[i], theirs->mac[i], error))
			return FALSE;
	if (wire_get32(theirs->disks) != disks)
		return unlike(error, "disks:", wire_get32(theirs->disks), disks);
	for (guint i = 0; i < disks; i++)
		if (!judge_disk(i, &ours->disk[i], &theirs->disk[i], error))
			return FALSE;
	return TRUE;
}

static gboolean judge(const struct ckpt_hello *ours, const struct ckpt_hello *theirs,
		      GError **error)
{
	const struct ckpt_hello *secondary = ours->primary ? theirs : ours;

	if (wire_get32(theirs->version) != CKPT_PROTOCOL_VERSION)
		return unlike(error, "checkpoint protocol", wire_get32(theirs->version),
			      CKPT_PROTOCOL_VERSION);
	if (theirs->primary > 1 || theirs->primary == ours->primary) {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
			    "both sides say that they are the %s",
			    ours->primary ? "primary" : "secondary");
		return FALSE;
	}
	if (wire_get64(theirs->memory) != wire_get64(ours->memory))
		return unlike(error, "bytes of memory:", wire_get64(theirs->memory),
			      wire_get64(ours->memory));
	if (wire_get32(theirs->cpus) != wire_get32(ours->cpus))
		return unlike(error, "vCPUs:", wire_get32(theirs->cpus),
			      wire_get32(ours->cpus));
	if (!judge_devices(ours, theirs, error))
		return FALSE;
	if (theirs->verify != ours->verify)
		return unlike(error, "--verify", theirs->verify, ours->verify);
	for (gsize i = 0; i < sizeof(secondary->secret); i++)
		if (secondary->secret[i]) {
			g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
				    "a secret came from the secondary");
			return FALSE;
		}
	return TRUE;
}

static void say_goodbye(base_channel *channel, const char *why, guint deadline_ms)
{
	struct iovec iov = { (void *)why, MIN(strlen(why), (gsize)CKPT_TEXT_MAX) };

	/* It is refused anyway: whether it hears why is a courtesy. */
	if (base_channel_send(channel, CKPT_BYE, 0, &iov, 1, deadline_ms, NULL) &&
	    base_channel_flush(channel, deadline_ms, NULL))
		g_debug("told the peer: %s", why);
}

gboolean ckpt_hello_exchange(base_channel *channel, const struct ckpt_hello *ours,
			     struct ckpt_hello *theirs, guint deadline_ms,
			     GError **error)
{
	struct iovec iov = { (void *)ours, sizeof(*ours) };
	struct base_message message;
	g_autoptr(GError) refused = NULL;

	if (!base_channel_send(channel, CKPT_HELLO, 0, &iov, 1, deadline_ms, error) ||
	    !base_channel_flush(channel, deadline_ms, error) ||
	    !base_channel_receive(channel, &message, deadline_ms, error))
		return FALSE;
	if (message.type == CKPT_HELLO) {
		memcpy(theirs, message.payload, sizeof(*theirs));
		if (judge(ours, theirs, &refused))
			return TRUE;
		say_goodbye(channel, refused->message, deadline_ms);
	} else if (message.type == CKPT_BYE) {
		g_set_error(&refused, CKPT_ERROR, CKPT_ERROR_UNLIKE,
			    "the peer refused: %.*s", (int)message.length,
			    (const char *)message.payload);
	} else {
		g_set_error(&refused, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
			    "the peer began with message %u", message.type);
	}
	g_propagate_error(error, g_steal_pointer(&refused));
	return FALSE;
}
