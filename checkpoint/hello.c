/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first message each way: whether two machines can be a pair. */
#include "checkpoint/hello.h"

#include <string.h>

#include "checkpoint/fault.h"

#define BYE_MS 500u

G_DEFINE_QUARK(ckpt-error-quark, ckpt_error)

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
		hello->disk_bytes[i] = wire_put64(vmm_machine_disk_bytes(machine, i));
	if (secret)
		memcpy(hello->secret, secret, sizeof(hello->secret));
}

static gboolean unlike(GError **error, const char *what, guint64 theirs, guint64 ours)
{
	g_set_error(error, CKPT_ERROR, CKPT_ERROR_UNLIKE,
		    "the peer's machine has %s %" G_GUINT64_FORMAT ", this one %" G_GUINT64_FORMAT,
		    what, theirs, ours);
	return FALSE;
}

static gboolean judge(const struct ckpt_hello *ours, const struct ckpt_hello *theirs,
		      GError **error)
{
	const struct ckpt_hello *secondary = ours->primary ? theirs : ours;
	guint disks = wire_get32(ours->disks);

	if (wire_get32(theirs->version) != CKPT_PROTOCOL_VERSION)
		return unlike(error, "checkpoint protocol", wire_get32(theirs->version),
			      CKPT_PROTOCOL_VERSION);
	if (theirs->pad[0] || theirs->pad[1] || wire_get32(theirs->pad2)) {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
			    "the peer's hello has padding that is not zero");
		return FALSE;
	}
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
	if (wire_get32(theirs->nets) != wire_get32(ours->nets))
		return unlike(error, "network cards:", wire_get32(theirs->nets),
			      wire_get32(ours->nets));
	if (wire_get32(theirs->disks) != disks)
		return unlike(error, "disks:", wire_get32(theirs->disks), disks);
	for (guint i = 0; i < G_N_ELEMENTS(ours->disk_bytes); i++)
		if (wire_get64(theirs->disk_bytes[i]) != wire_get64(ours->disk_bytes[i]))
			return unlike(error, "disk bytes:", wire_get64(theirs->disk_bytes[i]),
				      wire_get64(ours->disk_bytes[i]));
	for (gsize i = 0; i < sizeof(secondary->secret); i++)
		if (secondary->secret[i]) {
			g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
				    "a secret came from the secondary");
			return FALSE;
		}
	return TRUE;
}

void ckpt_hello_refuse(base_channel *channel, const char *why)
{
	struct iovec iov = { (void *)why, MIN(strlen(why), (gsize)CKPT_TEXT_MAX) };
	gint64 until = g_get_monotonic_time() + BYE_MS * 1000;
	struct base_message message = { 0 };

	if (!base_channel_send(channel, CKPT_BYE, 0, &iov, 1, BYE_MS, NULL) ||
	    !base_channel_flush(channel, BYE_MS, NULL))
		return;
	/* A peer that refuses us too says so and waits as we do. */
	while (message.type != CKPT_BYE && g_get_monotonic_time() < until)
		if (!base_channel_receive(channel, &message, BYE_MS, NULL))
			return;
}

/* Whether the first message makes the peer one for us. */
static gboolean judge_first(const struct base_message *message, const struct ckpt_hello *ours,
			    struct ckpt_hello *theirs, GError **error)
{
	g_autofree char *why = NULL;

	if (message->type == CKPT_HELLO) {
		memcpy(theirs, message->payload, sizeof(*theirs));
		return judge(ours, theirs, error);
	}
	if (message->type == CKPT_BYE) {
		why = ckpt_text(message);
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_UNLIKE, "the peer refused: %s", why);
	} else {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
			    "the peer began with message %u", message->type);
	}
	return FALSE;
}

gboolean ckpt_hello_exchange(base_channel *channel, const struct ckpt_hello *ours,
			     struct ckpt_hello *theirs, guint deadline_ms, GError **error)
{
	struct iovec iov = { (void *)ours, sizeof(*ours) };
	struct base_message message;
	g_autoptr(GError) refused = NULL;

	if (!base_channel_send(channel, CKPT_HELLO, 0, &iov, 1, deadline_ms, error) ||
	    !base_channel_flush(channel, deadline_ms, error))
		return FALSE;
	ckpt_fault_sent(CKPT_HELLO);
	if (!base_channel_receive(channel, &message, deadline_ms, &refused)) {
		if (g_error_matches(refused, BASE_CHANNEL_ERROR, BASE_CHANNEL_PROTOCOL))
			ckpt_hello_refuse(channel, refused->message);
	} else if (judge_first(&message, ours, theirs, &refused)) {
		ckpt_fault_received(CKPT_HELLO);
		return TRUE;
	} else if (message.type != CKPT_BYE) {
		ckpt_hello_refuse(channel, refused->message);
	}
	g_propagate_error(error, g_steal_pointer(&refused));
	return FALSE;
}
