/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taps and bridges, in a network namespace of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "colo/pair.h"
#include "colo/taps.h"

static const struct colo_tap bridged = { "ct0", "cbr0", "web" };

static int control(unsigned long request, void *argument)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int result = ioctl(fd, request, argument) < 0 ? -errno : 0;

	close(fd);
	return result;
}

static void make_bridge(const char *name)
{
	char copy[IFNAMSIZ];

	g_strlcpy(copy, name, sizeof(copy));
	assert_int_equal(control(SIOCBRADDBR, copy), 0);
}

static void remove_bridge(const char *name)
{
	char copy[IFNAMSIZ];

	g_strlcpy(copy, name, sizeof(copy));
	control(SIOCBRDELBR, copy);
}

/* A persistent one that is not ours; `kind`: IFF_TAP or IFF_TUN. */
static void make_device(const char *name, short kind)
{
	struct ifreq request = { .ifr_flags = (short)(kind | IFF_NO_PI) };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
	assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
	assert_int_equal(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
}

static void remove_device(const char *name, short kind)
{
	struct ifreq request = { .ifr_flags = (short)(kind | IFF_NO_PI) };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
	if (ioctl(fd, TUNSETIFF, &request) == 0)
		ioctl(fd, TUNSETPERSIST, 0);
	close(fd);
}

static gboolean is_up(const char *name)
{
	struct ifreq request = { 0 };

	g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
	assert_int_equal(control(SIOCGIFFLAGS, &request), 0);
	return (request.ifr_flags & IFF_UP) != 0;
}

/* Whether sysfs, mounted for this namespace, has it. */
static gboolean has_port(const char *bridge, const char *name)
{
	g_autofree char *path =
		g_strdup_printf("/sys/class/net/%s/brif/%s", bridge, name);

	return g_file_test(path, G_FILE_TEST_EXISTS);
}

static int set_up(void **state)
{
	make_bridge("cbr0");
	return 0;
}

static int tear_down(void **state)
{
	static const char *const names[] = { "ct0", "other" };

	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		remove_device(names[i], IFF_TAP);
		remove_device(names[i], IFF_TUN);
	}
	remove_device("ct0", IFF_TAP | IFF_VNET_HDR);
	remove_bridge("cbr0");
	remove_bridge("cbr1");
	return 0;
}

static void succeeds(gboolean (*call)(const struct colo_tap *tap, GError **error),
		     const struct colo_tap *tap)
{
	g_autoptr(GError) error = NULL;

	if (!call(tap, &error))
		fail_msg("%s", error->message);
	assert_null(error);
}

static void fails(gboolean (*call)(const struct colo_tap *tap, GError **error),
		  const struct colo_tap *tap, enum colo_error code, const char *words)
{
	g_autoptr(GError) error = NULL;

	assert_false(call(tap, &error));
	assert_true(g_error_matches(error, COLO_ERROR, (int)code));
	if (!strstr(error->message, words))
		fail_msg("%s", error->message);
}

static void a_tap_is_made_brought_up_and_bridged(void **state)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd;

	succeeds(colo_tap_check, &bridged);
	assert_int_equal(if_nametoindex("ct0"), 0);
	succeeds(colo_tap_prepare, &bridged);
	assert_true(is_up("ct0"));
	assert_true(has_port("cbr0", "ct0"));
	/* As kvm/tap.c opens it. */
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	g_strlcpy(request.ifr_name, "ct0", sizeof(request.ifr_name));
	assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
	close(fd);
	assert_int_not_equal(if_nametoindex("ct0"), 0);
	/* Again: nothing to do. */
	succeeds(colo_tap_prepare, &bridged);
	succeeds(colo_tap_check, &bridged);
	succeeds(colo_tap_remove, &bridged);
	assert_int_equal(if_nametoindex("ct0"), 0);
	succeeds(colo_tap_remove, &bridged);
}

static void one_without_bridge_is_only_brought_up(void **state)
{
	const struct colo_tap tap = { "ct0", NULL, "web" };

	succeeds(colo_tap_prepare, &tap);
	assert_true(is_up("ct0"));
	assert_false(has_port("cbr0", "ct0"));
	succeeds(colo_tap_remove, &tap);
}

static void ours_moves_with_the_pair_file(void **state)
{
	const struct colo_tap moved = { "ct0", "cbr1", "web" },
			      routed = { "ct0", NULL, "web" };

	make_bridge("cbr1");
	succeeds(colo_tap_prepare, &bridged);
	succeeds(colo_tap_check, &moved);
	succeeds(colo_tap_prepare, &moved);
	assert_false(has_port("cbr0", "ct0"));
	assert_true(has_port("cbr1", "ct0"));
	succeeds(colo_tap_prepare, &routed);
	assert_false(has_port("cbr1", "ct0"));
}

static void one_of_somebody_else_is_used_and_stays(void **state)
{
	make_device("ct0", IFF_TAP);
	succeeds(colo_tap_prepare, &bridged);
	assert_true(has_port("cbr0", "ct0"));
	assert_true(is_up("ct0"));
	succeeds(colo_tap_remove, &bridged);
	assert_int_not_equal(if_nametoindex("ct0"), 0);
}

static void one_of_another_pair_is_not_removed(void **state)
{
	const struct colo_tap other = { "ct0", "cbr0", "mail" };

	succeeds(colo_tap_prepare, &bridged);
	succeeds(colo_tap_remove, &other);
	assert_int_not_equal(if_nametoindex("ct0"), 0);
}

static void one_on_another_bridge_is_left_there(void **state)
{
	struct ifreq request = { 0 };
	const struct colo_tap routed = { "ct0", NULL, "web" };

	make_bridge("cbr1");
	make_device("ct0", IFF_TAP);
	g_strlcpy(request.ifr_name, "cbr1", sizeof(request.ifr_name));
	request.ifr_ifindex = (int)if_nametoindex("ct0");
	assert_int_equal(control(SIOCBRADDIF, &request), 0);
	fails(colo_tap_check, &bridged, COLO_ERROR_CONFIG,
	      "belongs to cbr1, not to cbr0");
	fails(colo_tap_prepare, &bridged, COLO_ERROR_CONFIG, "nomaster");
	fails(colo_tap_prepare, &routed, COLO_ERROR_CONFIG, "gives it no bridge");
	assert_true(has_port("cbr1", "ct0"));
}

static void a_bridge_that_is_not_there_is_said_with_what_to_do(void **state)
{
	const struct colo_tap tap = { "ct0", "nobr", "web" };

	fails(colo_tap_prepare, &tap, COLO_ERROR_HOST, "ip link add nobr type bridge");
	fails(colo_tap_check, &tap, COLO_ERROR_HOST, "ip link add nobr type bridge");
	assert_int_equal(if_nametoindex("ct0"), 0);
}

static void other_kinds_of_interfaces_are_refused(void **state)
{
	const struct colo_tap no_bridge = { "ct0", "lo", "web" };
	const struct colo_tap no_tap = { "lo", "cbr0", "web" };
	const struct colo_tap tun = { "other", "cbr0", "web" };

	make_device("other", IFF_TUN);
	fails(colo_tap_prepare, &no_bridge, COLO_ERROR_CONFIG, "is no bridge");
	fails(colo_tap_prepare, &no_tap, COLO_ERROR_CONFIG, "is not a tap");
	fails(colo_tap_prepare, &tun, COLO_ERROR_CONFIG, "is not a tap");
	succeeds(colo_tap_remove, &no_tap);
}

static void names_that_cannot_be_are_refused(void **state)
{
	static const char *const names[] = {
		"", ".", "..", "a b", "a/b", "tap%d", "a:b", "sixteen-letters-"
	};

	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		const struct colo_tap tap = { names[i], "cbr0", "web" };
		const struct colo_tap bridge = { "ct0", names[i], "web" };

		fails(colo_tap_prepare, &tap, COLO_ERROR_CONFIG,
		      "not an interface name");
		fails(colo_tap_check, &bridge, COLO_ERROR_CONFIG,
		      "not an interface name");
	}
}

static void steering_is_turned_off(void **state)
{
	static const char path[] = "/sys/class/net/ct0/queues/rx-0/rps_cpus";
	g_autofree char *text = NULL;
	FILE *file;

	succeeds(colo_tap_prepare, &bridged);
	file = fopen(path, "w");
	if (!file || fputs("1", file) < 0 || fclose(file))
		skip();
	succeeds(colo_tap_prepare, &bridged);
	assert_true(g_file_get_contents(path, &text, NULL, NULL));
	assert_int_equal(strspn(text, "0,\n"), strlen(text));
}

static GLogWriterOutput quiet(GLogLevelFlags level, const GLogField *fields, gsize n,
			      gpointer data)
{
	return G_LOG_WRITER_HANDLED;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_tap_is_made_brought_up_and_bridged),
		TEST(one_without_bridge_is_only_brought_up),
		TEST(ours_moves_with_the_pair_file),
		TEST(one_of_somebody_else_is_used_and_stays),
		TEST(one_of_another_pair_is_not_removed),
		TEST(one_on_another_bridge_is_left_there),
		TEST(a_bridge_that_is_not_there_is_said_with_what_to_do),
		TEST(other_kinds_of_interfaces_are_refused),
		TEST(names_that_cannot_be_are_refused),
		TEST(steering_is_turned_off),
	};

	/* sysfs shows the network namespace of whoever mounts it. */
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
	    access("/dev/net/tun", R_OK | W_OK) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("sysfs", "/sys", "sysfs", 0, NULL) < 0) {
		printf("SKIPPED: no network namespace of its own: %s\n",
		       strerror(errno));
		return 77;
	}
	{
		char name[] = "cbr9";

		if (control(SIOCBRADDBR, name) < 0) {
			printf("SKIPPED: the kernel makes no bridges\n");
			return 77;
		}
	}
	g_log_set_writer_func(quiet, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
