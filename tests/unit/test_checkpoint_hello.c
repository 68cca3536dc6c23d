/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which machines can be a pair, and that both sides say why they cannot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/hello.h"

#define DEADLINE_MS 10000u

struct side {
	gboolean is_server, agreed;
	int fd;
	const base_key *key;
	struct ckpt_hello ours, theirs;
	GError *error;
};

static void *exchange(void *data)
{
	struct side *side = data;
	g_autoptr(GError) error = NULL;
	g_autoptr(base_channel) channel = base_channel_new_take(
		side->fd, side->is_server, side->key, ckpt_rules, DEADLINE_MS, &error);

	if (!channel)
		g_error("%s", error->message);
	side->agreed = ckpt_hello_exchange(channel, &side->ours, &side->theirs,
					   DEADLINE_MS, &side->error);
	return NULL;
}

static base_key *make_key(void)
{
	g_autofree char *folder = g_dir_make_tmp("colo-hello-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "key", NULL);
	g_autoptr(GError) error = NULL;
	base_key *key = NULL;

	if (base_key_generate(path, &error))
		key = base_key_read(path, &error);
	if (!key)
		g_error("%s", error->message);
	unlink(path);
	rmdir(folder);
	return key;
}

static void describe(struct side *side, gboolean primary)
{
	struct ckpt_hello *hello = &side->ours;

	memset(side, 0, sizeof(*side));
	side->is_server = !primary;
	hello->version = wire_put32(CKPT_PROTOCOL_VERSION);
	hello->primary = primary;
	hello->memory = wire_put64(64 << 20);
	hello->cpus = wire_put32(2);
	hello->nets = wire_put32(2);
	hello->disks = wire_put32(2);
	for (guint i = 0; i < 2; i++) {
		hello->disk[i].bytes = wire_put64(1 << 20);
		hello->disk[i].block_size = wire_put32(512);
		hello->mac[i][5] = (guint8)i;
	}
	if (primary)
		memset(hello->secret, 7, sizeof(hello->secret));
}

static void meet(struct side sides[2])
{
	g_autoptr(base_key) key = make_key();
	GThread *thread;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	for (guint i = 0; i < 2; i++) {
		sides[i].fd = ends[i];
		sides[i].key = key;
	}
	thread = g_thread_new("other", exchange, &sides[1]);
	exchange(&sides[0]);
	g_thread_join(thread);
}

/* Both refuse, and each names its peer's value first. */
static void refuse(struct side sides[2], const char *first_says,
		   const char *second_says)
{
	const char *expected[] = { first_says, second_says };

	meet(sides);
	for (guint i = 0; i < 2; i++) {
		assert_false(sides[i].agreed);
		assert_true(
			g_error_matches(sides[i].error, CKPT_ERROR, CKPT_ERROR_UNLIKE));
		assert_string_equal(sides[i].error->message, expected[i]);
		g_clear_error(&sides[i].error);
	}
}

static void machines_that_are_alike_are_a_pair(void **unused)
{
	struct side sides[2];

	describe(&sides[0], TRUE);
	describe(&sides[1], FALSE);
	meet(sides);
	for (guint i = 0; i < 2; i++) {
		assert_true(sides[i].agreed);
		assert_null(sides[i].error);
	}
	assert_memory_equal(sides[1].theirs.secret, sides[0].ours.secret, CKPT_SECRET);
}

static void each_difference_is_named_on_both_sides(void **unused)
{
	struct side sides[2];

#define UNLIKE(field, value, first_says, second_says)               \
	do {                                                        \
		describe(&sides[0], TRUE);                          \
		describe(&sides[1], FALSE);                         \
		sides[1].ours.field = value;                        \
		refuse(sides, "the peer's machine has " first_says, \
		       "the peer's machine has " second_says);      \
	} while (0)
	UNLIKE(memory, wire_put64(1 << 20),
	       "bytes of memory: 1048576, this one 67108864",
	       "bytes of memory: 67108864, this one 1048576");
	UNLIKE(cpus, wire_put32(3), "vCPUs: 3, this one 2", "vCPUs: 2, this one 3");
	UNLIKE(nets, wire_put32(1), "network cards: 1, this one 2",
	       "network cards: 2, this one 1");
	UNLIKE(mac[1][0], 0x52,
	       "network card 1 with MAC: 52:00:00:00:00:01, this one 00:00:00:00:00:01",
	       "network card 1 with MAC: 00:00:00:00:00:01, this one "
	       "52:00:00:00:00:01");
	UNLIKE(disks, wire_put32(1), "disks: 1, this one 2", "disks: 2, this one 1");
	UNLIKE(disk[1].bytes, wire_put64(512),
	       "disk 1 with bytes: 512, this one 1048576",
	       "disk 1 with bytes: 1048576, this one 512");
	UNLIKE(disk[0].block_size, wire_put32(4096),
	       "disk 0 with block size: 4096, this one 512",
	       "disk 0 with block size: 512, this one 4096");
	UNLIKE(disk[1].readonly, 1, "disk 1 with read-only: 1, this one 0",
	       "disk 1 with read-only: 0, this one 1");
	UNLIKE(disk[1].can_discard, 1, "disk 1 with discard: 1, this one 0",
	       "disk 1 with discard: 0, this one 1");
	UNLIKE(disk[1].can_zero, 1, "disk 1 with zeroing: 1, this one 0",
	       "disk 1 with zeroing: 0, this one 1");
#undef UNLIKE
}

static void what_no_machine_has_is_not_compared(void **unused)
{
	struct side sides[2];

	describe(&sides[0], TRUE);
	describe(&sides[1], FALSE);
	sides[1].ours.disk[2].bytes = wire_put64(512);
	sides[1].ours.mac[2][0] = 2;
	meet(sides);
	assert_true(sides[0].agreed && sides[1].agreed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(machines_that_are_alike_are_a_pair),
		cmocka_unit_test(each_difference_is_named_on_both_sides),
		cmocka_unit_test(what_no_machine_has_is_not_compared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
