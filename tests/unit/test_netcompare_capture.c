/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capture files: read where they are whole, and written so that others read them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <pcap/pcap.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "netcompare/capture.h"
#include "netcompare/dump.h"

static char *dir, *path;
static guint8 data[70000];

static int set_up(void **state)
{
	dir = g_dir_make_tmp("capture-XXXXXX", NULL);
	path = g_build_filename(dir, "file", NULL);
	for (guint i = 0; i < sizeof(data); i++)
		data[i] = (guint8)(i * 13);
	return !dir;
}

static int tear_down(void **state)
{
	g_unlink(path);
	g_rmdir(dir);
	g_free(path);
	g_free(dir);
	return 0;
}

/* A pcap file as libpcap writes it: packets of these lengths. */
static void write_pcap(int link, guint snap, const guint *lens, guint count)
{
	pcap_t *dead = pcap_open_dead_with_tstamp_precision(link, 262144,
							    PCAP_TSTAMP_PRECISION_NANO);
	pcap_dumper_t *dumper = pcap_dump_open(dead, path);

	assert_non_null(dumper);
	for (guint i = 0; i < count; i++) {
		struct pcap_pkthdr header = { .ts = { 1000 + i, 123456789 },
					      .caplen = MIN(lens[i], snap),
					      .len = lens[i] };

		pcap_dump((u_char *)dumper, &header, data + i);
	}
	pcap_dump_close(dumper);
	pcap_close(dead);
}

static void is_refused(const char *why)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(ncmp_capture) capture = ncmp_capture_open(path, &error);
	struct ncmp_captured packet;
	enum ncmp_capture_read result;

	if (capture) {
		do
			result = ncmp_capture_next(capture, &packet, &error);
		while (result == NCMP_CAPTURE_PACKET);
		assert_int_equal(result, NCMP_CAPTURE_ERROR);
	}
	assert_non_null(error);
	if (!strstr(error->message, why) || !strstr(error->message, path))
		fail_msg("'%s' does not say '%s'", error->message, why);
	assert_null(strchr(error->message, '\n'));
}

static void ethernet_is_read_as_it_is(void **state)
{
	const guint lens[] = { 60, 1514, 65000 };
	g_autoptr(ncmp_capture) capture = NULL;
	struct ncmp_captured packet;

	write_pcap(DLT_EN10MB, 262144, lens, 3);
	capture = ncmp_capture_open(path, NULL);
	assert_non_null(capture);
	assert_true(ncmp_capture_is_ethernet(capture));
	for (guint i = 0; i < 3; i++) {
		assert_int_equal(ncmp_capture_next(capture, &packet, NULL),
				 NCMP_CAPTURE_PACKET);
		assert_int_equal(packet.number, i + 1);
		assert_int_equal(packet.time_ns, (1000 + i) * 1000000000ll + 123456789);
		assert_int_equal(packet.len, lens[i]);
		assert_memory_equal(packet.frame, data + i, packet.len);
	}
	assert_int_equal(ncmp_capture_next(capture, &packet, NULL), NCMP_CAPTURE_END);
}

static void bare_ip_gets_a_header(void **state)
{
	const int links[] = { DLT_RAW, DLT_IPV4, DLT_IPV6 };
	const guint lens[] = { 40, 40 };

	for (guint i = 0; i < 3; i++) {
		g_autoptr(ncmp_capture) capture = NULL;
		struct ncmp_captured packet;

		data[0] = 0x45;
		data[1] = 0x60;
		write_pcap(links[i], 262144, lens, 2);
		capture = ncmp_capture_open(path, NULL);
		assert_non_null(capture);
		assert_false(ncmp_capture_is_ethernet(capture));
		for (guint j = 0; j < 2; j++) {
			assert_int_equal(ncmp_capture_next(capture, &packet, NULL),
					 NCMP_CAPTURE_PACKET);
			assert_int_equal(packet.len, 54);
			assert_memory_equal(packet.frame + 12,
					    j ? "\x86\xdd" : "\x08\x00", 2);
			assert_memory_equal(packet.frame + 14, data + j, 40);
		}
	}
}

static void what_cannot_be_used_is_refused(void **state)
{
	const guint lens[] = { 60, 1514 };
	g_autofree char *bytes = NULL;
	gsize len;

	is_refused("No such file");
	assert_true(g_file_set_contents(path, "hello, this is no capture", -1, NULL));
	is_refused("no capture: ");
	assert_true(g_file_set_contents(path, "", -1, NULL));
	is_refused("no capture: ");
	write_pcap(DLT_IEEE802_11, 262144, lens, 2);
	is_refused("IEEE802_11 (105); Ethernet and raw IP");
	write_pcap(DLT_EN10MB, 96, lens, 2);
	is_refused("packet 2: only 96 of its 1514 bytes are there");
	write_pcap(DLT_EN10MB, 262144, lens, 2);
	assert_true(g_file_get_contents(path, &bytes, &len, NULL));
	assert_true(g_file_set_contents(path, bytes, (gssize)len - 5, NULL));
	is_refused("packet 2: truncated dump file");
}

static void what_is_written_is_read(void **state)
{
	g_autoptr(ncmp_capture) capture = NULL;
	g_autofree char *bytes = NULL;
	struct ncmp_dump_counters counters;
	struct ncmp_captured packet;
	ncmp_dump *dump = ncmp_dump_open(path, 1 << 20, NULL);
	struct stat status;
	gsize len;

	assert_non_null(dump);
	for (guint i = 0; i < 9; i++)
		assert_true(ncmp_dump_frame(dump, i & 1, 5000000000 + i, data + i,
					    60 + i,
					    i & 2 ? "differs at byte 7" : NULL));
	assert_true(ncmp_dump_packet(dump, NCMP_DUMP_SECONDARY, 1, 0x86dd, 100, data,
				     65000, "a large one"));
	ncmp_dump_get_counters(dump, &counters);
	assert_int_equal(counters.packets, 10);
	assert_int_equal(counters.left_out, 0);
	ncmp_dump_close(dump);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_size, counters.bytes);
	assert_int_equal(status.st_mode & 0777, 0600);

	capture = ncmp_capture_open(path, NULL);
	assert_non_null(capture);
	for (guint i = 0; i < 9; i++) {
		assert_int_equal(ncmp_capture_next(capture, &packet, NULL),
				 NCMP_CAPTURE_PACKET);
		assert_int_equal(packet.time_ns, 5000000000 + i);
		assert_int_equal(packet.len, 60 + i);
		assert_memory_equal(packet.frame, data + i, packet.len);
	}
	assert_int_equal(ncmp_capture_next(capture, &packet, NULL),
			 NCMP_CAPTURE_PACKET);
	assert_int_equal(packet.len, 65018);
	assert_memory_equal(packet.frame + 12, "\x81\x00\x00\x64\x86\xdd", 6);
	assert_memory_equal(packet.frame + 18, data, 65000);
	assert_int_equal(ncmp_capture_next(capture, &packet, NULL), NCMP_CAPTURE_END);

	assert_true(g_file_get_contents(path, &bytes, &len, NULL));
	assert_non_null(memmem(bytes, len, "\2\0\7\0primary", 11));
	assert_non_null(memmem(bytes, len, "\2\0\11\0secondary", 13));
	assert_non_null(memmem(bytes, len, "\1\0\21\0differs at byte 7\0\0\0", 24));
}

static void a_file_grows_no_further_than_it_may(void **state)
{
	ncmp_dump *dump = ncmp_dump_open(path, 10000, NULL);
	g_autoptr(ncmp_capture) capture = NULL;
	struct ncmp_dump_counters counters;
	struct ncmp_captured packet;
	struct stat status;
	guint count = 0;
	char comment[3 * NCMP_DUMP_COMMENT_MAX];

	/* Cut, and not within a character. */
	for (guint i = 0; i < sizeof(comment) - 1; i++)
		comment[i] = i % 3 == 0 ? '\xe2' : i % 3 == 1 ? '\x82' : '\xac';
	comment[sizeof(comment) - 1] = '\0';
	for (guint i = 0; i < 100; i++)
		ncmp_dump_frame(dump, NCMP_DUMP_PRIMARY, i, data, 700, comment);
	ncmp_dump_get_counters(dump, &counters);
	assert_in_range(counters.packets, 5, 6);
	assert_int_equal(counters.packets + counters.left_out, 100);
	/* Small ones still fit. */
	while (ncmp_dump_frame(dump, NCMP_DUMP_PRIMARY, 1, data, 60, NULL))
		count++;
	assert_true(count > 0);
	ncmp_dump_close(dump);
	assert_int_equal(stat(path, &status), 0);
	assert_in_range(status.st_size, 9900, 10000);
	capture = ncmp_capture_open(path, NULL);
	while (ncmp_capture_next(capture, &packet, NULL) == NCMP_CAPTURE_PACKET)
		;
	assert_int_equal(packet.number, counters.packets + count);
}

static void a_place_that_is_no_file_is_refused(void **state)
{
	g_autofree char *target = g_build_filename(dir, "target", NULL);
	g_autoptr(GError) error = NULL;

	assert_int_equal(mkfifo(path, 0600), 0);
	assert_null(ncmp_dump_open(path, 10000, &error));
	assert_non_null(strstr(error->message, path));
	g_clear_error(&error);
	g_unlink(path);
	assert_int_equal(symlink(target, path), 0);
	assert_null(ncmp_dump_open(path, 10000, &error));
	assert_false(g_file_test(target, G_FILE_TEST_EXISTS));
}

static void a_disk_that_takes_no_more_is_told_of(void **state)
{
	struct ncmp_dump_counters counters = { 0 };
	ncmp_dump *dump = ncmp_dump_open(path, 1 << 20, NULL);
	struct rlimit before, limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = 4096;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (guint i = 0; i < 10; i++)
		ncmp_dump_frame(dump, NCMP_DUMP_PRIMARY, i, data, 700, NULL);
	for (guint i = 0; i < 1000 && !counters.failed; i++, g_usleep(10000))
		ncmp_dump_get_counters(dump, &counters);
	assert_int_equal(counters.failed, EFBIG);
	assert_false(ncmp_dump_frame(dump, NCMP_DUMP_PRIMARY, 1, data, 700, NULL));
	ncmp_dump_close(dump);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(ethernet_is_read_as_it_is),
		TEST(bare_ip_gets_a_header),
		TEST(what_cannot_be_used_is_refused),
		TEST(what_is_written_is_read),
		TEST(a_file_grows_no_further_than_it_may),
		TEST(a_place_that_is_no_file_is_refused),
		TEST(a_disk_that_takes_no_more_is_told_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
