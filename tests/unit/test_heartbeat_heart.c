/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a heartbeat daemon decides in its first turns, with sockets that are a count. Whole lives
 * of two of them are in tests/unit/world_heart.c. */
#include "heartbeat/heart.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/key.h"

#define MS G_GUINT64_CONSTANT(1000000)

struct scene {
	guint64 now_ns;
	guint waiting; /* datagrams, of no meaning */
	gboolean filtered;
	guint filters;
	hb_heart *heart;
};

static struct hb_instant clocks(void *data)
{
	const struct scene *scene = data;

	return (struct hb_instant){ .mono_ns = scene->now_ns, .tai_ns = scene->now_ns };
}

static guint64 session(void *data)
{
	return 7;
}

static gssize receive(void *data, guint path, void *bytes, gsize room)
{
	struct scene *scene = data;

	if (!scene->waiting)
		return -1;
	scene->waiting--;
	memset(bytes, 0, room);
	return 5;
}

static gboolean send_nothing(void *data, guint path, const struct hb_datagram *datagram)
{
	return TRUE;
}

static void on_path(void *data, guint path)
{
}

static void filter(void *data, guint path, const guint8 head[HB_FILTER_HEAD], guint64 ours,
		   gboolean begins)
{
	struct scene *scene = data;

	scene->filtered = TRUE;
	scene->filters++;
}

static void unfilter(void *data, guint path)
{
	((struct scene *)data)->filtered = FALSE;
}

static gboolean report(void *data, const struct hb_report *said)
{
	return TRUE;
}

static void refused(void *data, guint path, enum hb_verdict verdict)
{
}

static void stalled(void *data, guint64 stalled_ns)
{
}

static const struct hb_heart_ops ops = {
	.clocks = clocks, .session = session, .receive = receive,   .send = send_nothing,
	.rest = on_path,  .wake = on_path,    .filter = filter,	    .unfilter = unfilter,
	.report = report, .refused = refused, .stalled = stalled,
};

static hb_codec *new_codec(void)
{
	g_autofree char *dir = g_dir_make_tmp("colo-heart-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(dir, "key", NULL);
	g_autoptr(base_key) key = NULL;
	hb_codec *codec;

	assert_true(g_file_set_contents(
		path, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n", -1,
		NULL));
	assert_int_equal(g_chmod(path, 0600), 0);
	key = base_key_read(path, NULL);
	assert_non_null(key);
	codec = hb_codec_new(key, "web", 0, NULL);
	assert_non_null(codec);
	g_unlink(path);
	g_rmdir(dir);
	return codec;
}

static int set_up(void **state)
{
	const struct hb_heart_config config = { 1, 100, 400 };
	struct scene *scene = g_new0(struct scene, 1);

	scene->now_ns = 1000 * MS;
	scene->heart = hb_heart_new(&config, new_codec(), &ops, scene, scene->now_ns);
	*state = scene;
	return 0;
}

static int tear_down(void **state)
{
	struct scene *scene = *state;

	hb_heart_free(scene->heart);
	g_free(scene);
	return 0;
}

static void what_waits_at_the_beginning_is_read_and_no_flood(void **state)
{
	struct scene *scene = *state;

	scene->waiting = 3;
	hb_heart_hear(scene->heart, scene->now_ns, 1);
	assert_int_equal(scene->waiting, 0);
	assert_int_equal(scene->filters, 0);
}

static void a_path_that_is_called_new_has_no_filter_left(void **state)
{
	struct scene *scene = *state;

	scene->waiting = 100000;
	hb_heart_hear(scene->heart, scene->now_ns, 1);
	assert_true(scene->filtered);
	hb_heart_path_is_new(scene->heart, 0);
	assert_false(scene->filtered);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_waits_at_the_beginning_is_read_and_no_flood,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_path_that_is_called_new_has_no_filter_left,
						set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
