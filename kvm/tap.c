/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tap interface as a network card's port: whole frames, each behind the 12-byte
 * header that the guest uses too (VNET_HDR), so the kernel segments and checksums only
 * where one of the ends cannot.
 *
 * A frame that the kernel refuses is lost, as on a wire: it is also what happens while
 * the interface is down. An interface that is deleted while in use leaves a dead port,
 * which says so once.
 */
#include "kvm/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "kvm/error.h"

#define BIT(name) (1ull << VIRTIO_NET_F_##name)
#define HEADER_LEN 12
/* The pieces of a frame: header, a whole chain, what the device adds, and ours. */
#define PIECES_MAX (VMM_CHAIN_MAX + 3)

struct tap {
	struct vmm_net_port port;
	char name[IFNAMSIZ];
	int fd;
	vmm_source *source; /* NULL once the interface is gone */
	gboolean want_receive, full;
	void (*ready)(void *net);
	void *net;
};

static void watch(struct tap *tap)
{
	if (tap->source)
		vmm_source_set_events(tap->source, (tap->want_receive ? EPOLLIN : 0) |
							   (tap->full ? EPOLLOUT : 0));
}

/* The interface was deleted, or worse: nothing will come of it any more, but its
 * descriptor would stay ready for ever. */
static void die(struct tap *tap, int err)
{
	if (!tap->source)
		return;
	g_warning("tap %s: gone: %s: the guest's card is cut off", tap->name,
		  g_strerror(err));
	vmm_source_remove(tap->source);
	tap->source = NULL;
}

static gboolean is_gone(int err)
{
	return err == EBADFD || err == ENODEV || err == EBADF;
}

static gboolean tap_send(void *data, const struct iovec *iov, guint count)
{
	struct tap *tap = data;
	int err = 0;

	do
		if (writev(tap->fd, iov, (int)count) < 0)
			err = errno;
		else
			return TRUE;
	while (err == EINTR);
	if (err == EAGAIN && tap->source) {
		tap->full = TRUE;
		watch(tap);
		return FALSE;
	}
	if (is_gone(err))
		die(tap, err);
	return TRUE;
}

static gssize tap_receive(void *data, const struct iovec *iov, guint count)
{
	struct tap *tap = data;
	struct iovec pieces[PIECES_MAX];
	guint8 beyond[64];
	gsize room = 0;
	gssize got;

	/* The kernel cuts a frame that is too long without a word: it shows in that
	 * there was something for this extra piece. */
	g_assert(count < PIECES_MAX);
	for (guint i = 0; i < count; i++) {
		pieces[i] = iov[i];
		room += iov[i].iov_len;
	}
	pieces[count] = (struct iovec){ beyond, sizeof(beyond) };
	do
		got = readv(tap->fd, pieces, (int)count + 1);
	while (got < 0 && errno == EINTR);
	if (got >= 0)
		return (gsize)got > room ? -1 : got;
	if (errno != EAGAIN)
		die(tap, errno);
	return 0;
}

static void tap_set_offloads(void *data, guint64 features)
{
	struct tap *tap = data;
	unsigned long offloads = 0;

	if (features & BIT(GUEST_CSUM)) {
		offloads |= TUN_F_CSUM;
		if (features & BIT(GUEST_TSO4))
			offloads |= TUN_F_TSO4;
		if (features & BIT(GUEST_TSO6))
			offloads |= TUN_F_TSO6;
		if (offloads & (TUN_F_TSO4 | TUN_F_TSO6) && features & BIT(GUEST_ECN))
			offloads |= TUN_F_TSO_ECN;
	}
	/* All of them were tried at the start: this fails only with the interface, and
	 * the device drops what the guest does not take. */
	if (tap->source && ioctl(tap->fd, TUNSETOFFLOAD, offloads) < 0)
		g_warning("tap %s: set offloads: %s", tap->name, g_strerror(errno));
}

static void on_ready(void *data, guint32 events)
{
	struct tap *tap = data;

	if (events & EPOLLERR) {
		die(tap, ENODEV);
		return;
	}
	if (events & EPOLLOUT) {
		tap->full = FALSE;
		watch(tap);
	}
	tap->ready(tap->net);
}

static void tap_attach(void *data, void (*ready)(void *net), void *net)
{
	struct tap *tap = data;

	tap->ready = ready;
	tap->net = net;
}

static void tap_want_receive(void *data, gboolean want)
{
	struct tap *tap = data;

	tap->want_receive = want;
	watch(tap);
}

static void tap_serve_at_rest(void *data, gboolean on)
{
	struct tap *tap = data;

	if (tap->source)
		vmm_source_serve_at_rest(tap->source, on);
}

static void tap_free(void *data)
{
	struct tap *tap = data;

	if (tap->source)
		vmm_source_remove(tap->source);
	base_fd_clear(&tap->fd);
	g_free(tap);
}

static gboolean check_name(const char *name, GError **error)
{
	gsize len = strlen(name);
	gboolean ok =
		len > 0 && len < IFNAMSIZ && strcmp(name, ".") && strcmp(name, "..");

	/* A percent sign would make the kernel invent a number. */
	for (gsize i = 0; ok && i < len; i++)
		ok = g_ascii_isgraph(name[i]) && !strchr("/:%", name[i]);
	if (ok)
		return TRUE;
	return vmm_error_set(error, VMM_ERROR_CONFIG,
			     "tap %s: not an interface name (1 to %d characters)", name,
			     IFNAMSIZ - 1);
}

/* Ties `fd` to the interface; 0 or -errno. Needs CAP_NET_ADMIN where the interface does
 * not exist or belongs to somebody else. */
static int set_interface(int fd, const char *name)
{
	static const short kinds[] = { 0, IFF_MULTI_QUEUE };
	int err = 0;

	/* One made for several queues serves as well, but has to be asked for as such.
	 */
	for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
		struct ifreq request = {
			.ifr_flags =
				(short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | kinds[i]),
		};

		g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
		if (ioctl(fd, TUNSETIFF, &request) == 0)
			return 0;
		err = errno;
		if (err != EINVAL)
			break;
	}
	return -err;
}

static gboolean explain(const char *name, gboolean existed, int err, GError **error)
{
	switch (err) {
	case EINVAL:
		return vmm_error_set(error, VMM_ERROR_HOST,
				     "tap %s: the interface is not a tap", name);
	case EBUSY:
	case E2BIG: /* all queues of one with several are taken */
		return vmm_error_set(error, VMM_ERROR_HOST,
				     "tap %s: in use by another process", name);
	case EPERM:
		return vmm_error_set(
			error, VMM_ERROR_HOST,
			existed ? "tap %s: belongs to another user (see `ip tuntap`)"
				: "tap %s: does not exist, and to create it needs "
				  "CAP_NET_ADMIN",
			name);
	default:
		return vmm_error_errno(error, err, "open tap %s", name);
	}
}

/* An interface that was just created passes no frame before it is up. */
static gboolean bring_up(const char *name, GError **error)
{
	base_autofd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { 0 };

	g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return vmm_error_errno(error, errno, "bring up tap %s", name);
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		return vmm_error_errno(error, errno, "bring up tap %s", name);
	g_message("tap %s: did not exist and was created; it is in no bridge", name);
	return TRUE;
}

static gboolean open_tap(struct tap *tap, GError **error)
{
	gboolean existed = if_nametoindex(tap->name) != 0;
	int header_len = HEADER_LEN;
	int err;

	tap->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap->fd < 0) {
		err = errno;
		if (err == ENOENT || err == ENODEV)
			return vmm_error_set(
				error, VMM_ERROR_HOST,
				"tap %s: /dev/net/tun is missing (load the "
				"kernel module tun)",
				tap->name);
		return vmm_error_errno(error, err, "tap %s: open /dev/net/tun",
				       tap->name);
	}
	err = set_interface(tap->fd, tap->name);
	if (err < 0)
		return explain(tap->name, existed, -err, error);
	/* Also undoes what whoever used it before left behind. */
	if (ioctl(tap->fd, TUNSETVNETHDRSZ, &header_len) < 0 ||
	    ioctl(tap->fd, TUNSETOFFLOAD, 0ul) < 0)
		return vmm_error_errno(error, errno, "set up tap %s", tap->name);
	return existed || bring_up(tap->name, error);
}

/* What the kernel takes from the guest it always does itself; what it may hand to the
 * guest is tried. */
static guint64 find_features(const struct tap *tap)
{
	guint64 features = BIT(CSUM) | BIT(HOST_TSO4) | BIT(HOST_TSO6) | BIT(HOST_ECN);
	unsigned long all = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

	if (ioctl(tap->fd, TUNSETOFFLOAD, all) == 0)
		features |= BIT(GUEST_CSUM) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6) |
			    BIT(GUEST_ECN);
	ioctl(tap->fd, TUNSETOFFLOAD, 0ul);
	return features;
}

struct vmm_net_port *vmm_tap_open(const char *name, vmm_loop *loop, GError **error)
{
	struct tap *tap;

	if (!check_name(name, error))
		return NULL;
	tap = g_new0(struct tap, 1);
	g_strlcpy(tap->name, name, sizeof(tap->name));
	if (!open_tap(tap, error)) {
		tap_free(tap);
		return NULL;
	}
	tap->port = (struct vmm_net_port){
		.data = tap,
		.send = tap_send,
		.receive = tap_receive,
		.set_offloads = tap_set_offloads,
		.features = find_features(tap),
		.attach = tap_attach,
		.want_receive = tap_want_receive,
		.serve_at_rest = tap_serve_at_rest,
		.free = tap_free,
	};
	tap->source = vmm_loop_add(loop, tap->fd, 0, on_ready, tap);
	return &tap->port;
}
