/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first message each way: whether two machines can be a pair. */
#include "checkpoint/hello.h"

#include <string.h>

#include "checkpoint/fault.h"

#define BYE_MS 500u

G_DEFINE_QUARK(ckpt-error-quark, ckpt_error)

G_STATIC_ASSERT(CKPT_HELLO_NETS == VMM_NETS_MAX && CKPT_HELLO_DISKS == VMM_DISKS_MAX);

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

/* What of the configuration a guest sees, and both sides must therefore have. */
static void describe(struct ckpt_hello *hello, vmm_machine *machine)
{
	const struct vmm_config *config = vmm_machine_config(machine);
	guint nets = vmm_machine_nets(machine), disks = vmm_machine_disks(machine);

	hello->hvc = config->hvc != NULL;
	hello->rng = config->rng != FALSE;
	hello->memory = wire_put64(vmm_memory_bytes(vmm_machine_memory(machine)));
	hello->cpus = wire_put32(config->cpus);
	hello->nets = wire_put32(nets);
	hello->disks = wire_put32(disks);
	hello->cpuid_rows = wire_put32(vmm_machine_cpuid(machine, hello->cpuid));
	for (guint i = 0; i < disks; i++)
		hello->disk[i] = describe_disk(vmm_machine_disk(machine, i));
	for (guint i = 0; i < nets; i++)
		memcpy(hello->macs[i],
		       g_array_index(config->nets, struct vmm_net_config, i).mac, 6);
}

void ckpt_hello_fill(struct ckpt_hello *hello, vmm_machine *machine, gboolean primary,
		     gboolean verify, guint silence_ms, const guint8 *secret)
{
	memset(hello, 0, sizeof(*hello));
	hello->version = wire_put32(CKPT_PROTOCOL_VERSION);
	hello->primary = primary;
	hello->verify = verify != FALSE;
	hello->silence_ms = wire_put32(silence_ms);
	hello->connections = wire_put32(primary ? 1 : 0);
	describe(hello, machine);
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

static gboolean judge_counts(const struct ckpt_hello *ours, const struct ckpt_hello *theirs,
			     GError **error)
{
	const struct {
		const char *what;
		guint64 theirs, ours;
	} counts[] = {
		{ "bytes of memory:", wire_get64(theirs->memory), wire_get64(ours->memory) },
		{ "vCPUs:", wire_get32(theirs->cpus), wire_get32(ours->cpus) },
		{ "network cards:", wire_get32(theirs->nets), wire_get32(ours->nets) },
		{ "disks:", wire_get32(theirs->disks), wire_get32(ours->disks) },
		{ "virtio consoles:", theirs->hvc, ours->hvc },
		{ "entropy devices:", theirs->rng, ours->rng },
	};

	for (guint i = 0; i < G_N_ELEMENTS(counts); i++)
		if (counts[i].theirs != counts[i].ours)
			return unlike(error, counts[i].what, counts[i].theirs, counts[i].ours);
	return TRUE;
}

static gboolean judge_disk(guint index, const struct ckpt_hello_disk *ours,
			   const struct ckpt_hello_disk *theirs, GError **error)
{
	const struct {
		const char *what;
		guint64 theirs, ours;
	} values[] = {
		{ "bytes", wire_get64(theirs->bytes), wire_get64(ours->bytes) },
		{ "block size", wire_get32(theirs->block_size), wire_get32(ours->block_size) },
		{ "read-only", theirs->readonly, ours->readonly },
		{ "discard", theirs->can_discard, ours->can_discard },
		{ "zeroing", theirs->can_zero, ours->can_zero },
	};

	for (guint i = 0; i < G_N_ELEMENTS(values); i++) {
		g_autofree char *which =
			g_strdup_printf("disk %u, %s:", index, values[i].what);

		if (values[i].theirs != values[i].ours)
			return unlike(error, which, values[i].theirs, values[i].ours);
	}
	return TRUE;
}

#define MAC_FORMAT "%02x:%02x:%02x:%02x:%02x:%02x"
#define MAC_BYTES(mac) (mac)[0], (mac)[1], (mac)[2], (mac)[3], (mac)[4], (mac)[5]

static gboolean judge_devices(const struct ckpt_hello *ours, const struct ckpt_hello *theirs,
			      GError **error)
{
	for (guint i = 0; i < CKPT_HELLO_DISKS; i++)
		if (!judge_disk(i, &ours->disk[i], &theirs->disk[i], error))
			return FALSE;
	for (guint i = 0; i < CKPT_HELLO_NETS; i++)
		if (memcmp(theirs->macs[i], ours->macs[i], sizeof(ours->macs[i]))) {
			g_set_error(error, CKPT_ERROR, CKPT_ERROR_UNLIKE,
				    "the peer's machine has network card %u with MAC: " MAC_FORMAT
				    ", this one " MAC_FORMAT, i, MAC_BYTES(theirs->macs[i]),
				    MAC_BYTES(ours->macs[i]));
			return FALSE;
		}
	return TRUE;
}

static gboolean judge_cpuid(const struct ckpt_hello *ours, const struct ckpt_hello *theirs,
			    GError **error)
{
	static const struct vmm_cpuid_row zero;
	guint n = wire_get32(theirs->cpuid_rows);
	g_autofree char *difference = NULL;

	if (n > VMM_CPUID_ROWS_MAX) {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
			    "the peer's CPUID has %u rows", n);
		return FALSE;
	}
	for (guint i = n; i < VMM_CPUID_ROWS_MAX; i++)
		if (memcmp(&theirs->cpuid[i], &zero, sizeof(zero))) {
			g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
				    "the peer's CPUID has more rows than the %u it says", n);
			return FALSE;
		}
	difference = vmm_cpuid_rows_difference(ours->cpuid, wire_get32(ours->cpuid_rows),
					       theirs->cpuid, n);
	if (!difference)
		return TRUE;
	g_set_error(error, CKPT_ERROR, CKPT_ERROR_UNLIKE,
		    "the two machines show their guests different processors: %s; use the same "
		    "--cpu-model on like hosts, or a baseline", difference);
	return FALSE;
}

static gboolean judge_role(const struct ckpt_hello *ours, const struct ckpt_hello *theirs,
			   GError **error)
{
	guint connections = wire_get32(theirs->connections);
	guint least = theirs->primary ? 1 : 0, most = theirs->primary ? CKPT_LANES_MAX : 0;

	if (theirs->primary > 1 || theirs->primary == ours->primary) {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
			    "both sides say that they are the %s",
			    ours->primary ? "primary" : "secondary");
		return FALSE;
	}
	if (theirs->primary && (wire_get32(theirs->silence_ms) < CKPT_SILENCE_MIN_MS ||
				wire_get32(theirs->silence_ms) > CKPT_SILENCE_MAX_MS)) {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
			    "the peer allows a silence of %u ms",
			    wire_get32(theirs->silence_ms));
		return FALSE;
	}
	for (gsize i = 0; ours->primary && i < sizeof(theirs->secret); i++)
		if (theirs->secret[i] || theirs->token[i % CKPT_TOKEN]) {
			g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
				    "a secret came from the secondary");
			return FALSE;
		}
	if (connections < least || connections > most) {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
			    "the peer wants %u connections, allowed are %u to %u", connections,
			    least, most);
		return FALSE;
	}
	return TRUE;
}

/* Whoever has another version may have another hello: that comes first. */
static gboolean judge(const struct ckpt_hello *ours, const struct base_message *message,
		      struct ckpt_hello *theirs, GError **error)
{
	guint version = wire_get32(*(const wire_u32 *)(const void *)message->payload);

	if (version != CKPT_PROTOCOL_VERSION)
		return unlike(error, "checkpoint protocol", version, CKPT_PROTOCOL_VERSION);
	if (message->length != sizeof(*theirs)) {
		g_set_error(error, CKPT_ERROR, CKPT_ERROR_PROTOCOL,
			    "the peer's hello has %u bytes, not %zu", message->length,
			    sizeof(*theirs));
		return FALSE;
	}
	memcpy(theirs, message->payload, sizeof(*theirs));
	return judge_role(ours, theirs, error) && judge_counts(ours, theirs, error) &&
	       judge_devices(ours, theirs, error) && judge_cpuid(ours, theirs, error);
}

void ckpt_hello_refuse(base_channel *channel, const char *why)
{
	const struct ckpt_bye bye = { .end = CKPT_END_FAULT };
	const struct iovec iov[] = { { (void *)&bye, sizeof(bye) },
				     { (void *)why, MIN(strlen(why), (gsize)CKPT_TEXT_MAX) } };
	gint64 until = g_get_monotonic_time() + BYE_MS * 1000;
	struct base_message message = { 0 };

	if (!base_channel_send(channel, CKPT_BYE, 0, iov, G_N_ELEMENTS(iov), BYE_MS, NULL) ||
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

	if (message->type == CKPT_HELLO)
		return judge(ours, message, theirs, error);
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
