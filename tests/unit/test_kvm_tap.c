/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tap interface as a port, in a network namespace of the test's own. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm/error.h"
#include "kvm/net.h"

#define BIT(name) (1ull << VIRTIO_NET_F_##name)
#define HEADER sizeof(struct virtio_net_hdr_v1)
/* A type that no protocol of the host answers. */
#define ETHERTYPE 0x88b5

struct rig {
	vmm_loop *loop;
	struct vmm_net_port *port;
	guint ready;
};

static void on_ready(void *net)
{
	((struct rig *)net)->ready++;
}

static int setup(void **state)
{
	struct rig *rig = g_new0(struct rig, 1);

	rig->loop = vmm_loop_new(NULL);
	*state = rig;
	return 0;
}

static void close_port(struct rig *rig)
{
	if (rig->port)
		rig->port->free(rig->port->data);
	rig->port = NULL;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	close_port(rig);
	vmm_loop_free(rig->loop);
	g_free(rig);
	return 0;
}

static void open_port(struct rig *rig, const char *name)
{
	g_autoptr(GError) error = NULL;

	rig->port = vmm_tap_open(name, rig->loop, &error);
	if (!rig->port)
		fail_msg("%s", error->message);
	rig->port->attach(rig->port->data, on_ready, rig);
}

/* What `ip tuntap add` and `del` do. */
static void persist(const char *name, gboolean on, int more_flags)
{
	struct ifreq request = { .ifr_flags =
					 (short)(IFF_TAP | IFF_NO_PI | more_flags) };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
	assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
	assert_int_equal(ioctl(fd, TUNSETPERSIST, (long)on), 0);
	close(fd);
}

static short if_flags(const char *name)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
	assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
	close(fd);
	return request.ifr_flags;
}

/* The host's end: a socket that hears and sends frames of our type. */
static int host_end(const char *name)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETHERTYPE),
		.sll_ifindex = (int)if_nametoindex(name),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETHERTYPE));

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void make_frame(guint8 *frame, gsize len)
{
	memset(frame, 0x42, len);
	memset(frame, 0xff, 6); /* to all */
	memcpy(frame + 6, "\x02\x00\x00\x00\x00\x01", 6);
	frame[12] = ETHERTYPE >> 8;
	frame[13] = ETHERTYPE & 0xff;
}

static void run_until_ready(struct rig *rig)
{
	rig->ready = 0;
	for (guint i = 0; i < 500 && !rig->ready; i++)
		vmm_loop_iterate(rig->loop, 10);
	assert_true(rig->ready > 0);
}

static void assert_refused(struct rig *rig, const char *name, enum vmm_error code,
			   const char *words)
{
	g_autoptr(GError) error = NULL;

	assert_null(vmm_tap_open(name, rig->loop, &error));
	assert_true(g_error_matches(error, VMM_ERROR, code));
	assert_non_null(strstr(error->message, name));
	assert_null(strchr(error->message, '\n'));
	if (!strstr(error->message, words))
		fail_msg("%s", error->message);
}

static void a_tap_that_exists_is_used_and_stays(void **state)
{
	struct rig *rig = *state;

	persist("keep0", TRUE, 0);
	open_port(rig, "keep0");
	/* Up or not is the business of whoever made it. */
	assert_false(if_flags("keep0") & IFF_UP);
	close_port(rig);
	assert_true(if_nametoindex("keep0"));
	persist("keep0", FALSE, 0);
}

static void a_tap_that_does_not_exist_is_made_for_as_long_as_it_is_used(void **state)
{
	struct rig *rig = *state;

	open_port(rig, "new0");
	assert_true(if_flags("new0") & IFF_UP);
	close_port(rig);
	assert_false(if_nametoindex("new0"));
}

static void a_tap_with_several_queues_serves_with_one(void **state)
{
	struct rig *rig = *state;

	persist("many0", TRUE, IFF_MULTI_QUEUE);
	open_port(rig, "many0");
	close_port(rig);
	persist("many0", FALSE, IFF_MULTI_QUEUE);
}

static void what_is_no_name_is_refused(void **state)
{
	struct rig *rig = *state;

	assert_refused(rig, "", VMM_ERROR_CONFIG, "not an interface name");
	assert_refused(rig, "sixteen-letters-", VMM_ERROR_CONFIG,
		       "not an interface name");
	assert_refused(rig, "a/b", VMM_ERROR_CONFIG, "not an interface name");
	assert_refused(rig, "tap%d", VMM_ERROR_CONFIG, "not an interface name");
	assert_refused(rig, "a b", VMM_ERROR_CONFIG, "not an interface name");
	assert_refused(rig, "..", VMM_ERROR_CONFIG, "not an interface name");
}

static void what_is_no_tap_is_refused(void **state)
{
	assert_refused(*state, "lo", VMM_ERROR_HOST, "not a tap");
}

static void a_tap_in_use_is_refused(void **state)
{
	struct rig *rig = *state;

	open_port(rig, "busy0");
	assert_refused(rig, "busy0", VMM_ERROR_HOST, "in use");
}

static void frames_pass_both_ways(void **state)
{
	struct rig *rig = *state;
	struct virtio_net_hdr_v1 header = { 0 };
	guint8 frame[200], got[2048];
	struct iovec iov[] = { { &header, HEADER },
			       { frame, 90 },
			       { frame + 90, 110 } };
	int host;

	open_port(rig, "pass0");
	host = host_end("pass0");
	make_frame(frame, sizeof(frame));
	assert_true(rig->port->send(rig->port->data, iov, 3));
	assert_int_equal(recv(host, got, sizeof(got), 0), sizeof(frame));
	assert_memory_equal(got, frame, sizeof(frame));

	/* Deaf until it wants to hear. */
	assert_int_equal(send(host, frame, 150, 0), 150);
	rig->ready = 0;
	for (guint i = 0; i < 3; i++)
		vmm_loop_iterate(rig->loop, 10);
	assert_int_equal(rig->ready, 0);
	rig->port->want_receive(rig->port->data, TRUE);
	run_until_ready(rig);
	iov[1] = (struct iovec){ got, 100 };
	iov[2] = (struct iovec){ got + 100, 100 };
	assert_int_equal(rig->port->receive(rig->port->data, iov, 3), HEADER + 150);
	assert_memory_equal(got, frame, 150);
	assert_int_equal(rig->port->receive(rig->port->data, iov, 3), 0);
	close(host);
}

static void a_frame_longer_than_the_buffers_is_gone(void **state)
{
	struct rig *rig = *state;
	struct virtio_net_hdr_v1 header;
	guint8 frame[200], got[199];
	struct iovec iov[] = { { &header, HEADER }, { got, sizeof(got) } };
	int host;

	open_port(rig, "long0");
	host = host_end("long0");
	rig->port->want_receive(rig->port->data, TRUE);
	make_frame(frame, sizeof(frame));
	assert_int_equal(send(host, frame, 200, 0), 200);
	assert_int_equal(send(host, frame, 199, 0), 199);
	run_until_ready(rig);
	assert_int_equal(rig->port->receive(rig->port->data, iov, 2), -1);
	assert_int_equal(rig->port->receive(rig->port->data, iov, 2), HEADER + 199);
	close(host);
}

static void offloads_are_offered_and_set(void **state)
{
	struct rig *rig = *state;
	guint64 guest =
		BIT(GUEST_CSUM) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6) | BIT(GUEST_ECN);

	open_port(rig, "load0");
	assert_int_equal(rig->port->features, guest | BIT(CSUM) | BIT(HOST_TSO4) |
						      BIT(HOST_TSO6) | BIT(HOST_ECN));
	rig->port->set_offloads(rig->port->data, guest);
	rig->port->set_offloads(rig->port->data, BIT(GUEST_TSO4));
	rig->port->set_offloads(rig->port->data, 0);
}

static void a_frame_that_the_kernel_refuses_is_lost_quietly(void **state)
{
	struct rig *rig = *state;
	/* A header longer than the frame. */
	struct virtio_net_hdr_v1 header = { .flags = 1,
					    .gso_type = 1,
					    .gso_size = 100,
					    .hdr_len = 0xffff,
					    .csum_start = 34 };
	guint8 frame[100];
	struct iovec iov[] = { { &header, HEADER }, { frame, sizeof(frame) } };

	open_port(rig, "lost0");
	make_frame(frame, sizeof(frame));
	assert_true(rig->port->send(rig->port->data, iov, 2));
}

static void a_tap_that_is_deleted_leaves_a_port_that_is_still(void **state)
{
	struct rig *rig = *state;
	struct virtio_net_hdr_v1 header = { 0 };
	guint8 frame[100];
	struct iovec iov[] = { { &header, HEADER }, { frame, sizeof(frame) } };
	g_autofree char *output = NULL;
	int status = 1;

	open_port(rig, "gone0");
	rig->port->want_receive(rig->port->data, TRUE);
	if (!g_spawn_command_line_sync("ip link delete gone0", &output, NULL, &status,
				       NULL) ||
	    status) {
		print_message("NOT TESTED: there is no ip(8)\n");
		skip();
	}
	for (guint i = 0; i < 5; i++)
		vmm_loop_iterate(rig->loop, 10);
	rig->ready = 0;
	assert_int_equal(vmm_loop_iterate(rig->loop, 10), 0);
	make_frame(frame, sizeof(frame));
	assert_true(rig->port->send(rig->port->data, iov, 2));
	assert_int_equal(rig->port->receive(rig->port->data, iov, 2), 0);
	rig->port->want_receive(rig->port->data, FALSE);
}

/* The namespace is gone with the test, and with it whatever was made there. */
static const char *own_namespace(void)
{
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return "no network namespace of its own is permitted";
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return "/dev/net/tun cannot be opened";
	close(fd);
	/* The host's own chatter would come in between. */
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, "1", 1) != 1)
			fprintf(stderr, "disable_ipv6: %s\n", g_strerror(errno));
		close(fd);
	}
	return NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_tap_that_exists_is_used_and_stays),
		TEST(a_tap_that_does_not_exist_is_made_for_as_long_as_it_is_used),
		TEST(a_tap_with_several_queues_serves_with_one),
		TEST(what_is_no_name_is_refused),
		TEST(what_is_no_tap_is_refused),
		TEST(a_tap_in_use_is_refused),
		TEST(frames_pass_both_ways),
		TEST(a_frame_longer_than_the_buffers_is_gone),
		TEST(offloads_are_offered_and_set),
		TEST(a_frame_that_the_kernel_refuses_is_lost_quietly),
		TEST(a_tap_that_is_deleted_leaves_a_port_that_is_still),
	};
	const char *why = own_namespace();

	if (why) {
		fprintf(stderr, "SKIPPED, nothing of kvm/tap.c was tested: %s\n", why);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
