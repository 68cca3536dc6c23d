/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taps and bridges.
 *
 * A tap is made by /dev/net/tun, all else is asked of rtnetlink: what an interface is,
 * where it belongs, whose it is.
 */
#include "colo/taps.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "colo/error.h"

#define ALIAS_MAX 80u
#define ANSWER_BYTES 32768u

/* What the kernel says of an interface. */
struct link {
	int index;
	guint flags; /* IFF_UP and so on */
	int master; /* index; 0: none */
	char kind[16]; /* "tun", "bridge"; empty: hardware, or the like */
	int tun_type; /* IFF_TUN, IFF_TAP */
	gboolean vnet_header;
	char alias[ALIAS_MAX];
};

struct request {
	struct nlmsghdr head;
	struct ifinfomsg info;
	guint8 attributes[256];
};

/* rtnetlink. */

static void put_attribute(struct request *request, guint16 type, const void *data,
			  gsize length)
{
	struct rtattr *at = (struct rtattr *)((guint8 *)request +
					      NLMSG_ALIGN(request->head.nlmsg_len));

	g_assert(NLMSG_ALIGN(request->head.nlmsg_len) + RTA_SPACE(length) <=
		 sizeof(*request));
	at->rta_type = type;
	at->rta_len = (unsigned short)RTA_LENGTH(length);
	memcpy(RTA_DATA(at), data, length);
	request->head.nlmsg_len =
		NLMSG_ALIGN(request->head.nlmsg_len) + (guint32)RTA_SPACE(length);
}

static void begin_request(struct request *request, guint16 type, int index)
{
	*request = (struct request){
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
			  .nlmsg_type = type,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
			  .nlmsg_seq = 1 },
		.info = { .ifi_family = AF_UNSPEC, .ifi_index = index },
	};
}

static void take_tun(struct link *link, struct rtattr *data)
{
	struct rtattr *at = RTA_DATA(data);
	int left = (int)RTA_PAYLOAD(data);

	for (; RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		if (RTA_PAYLOAD(at) < 1)
			continue;
		if ((at->rta_type & NLA_TYPE_MASK) == IFLA_TUN_TYPE)
			link->tun_type = *(guint8 *)RTA_DATA(at);
		if ((at->rta_type & NLA_TYPE_MASK) == IFLA_TUN_VNET_HDR)
			link->vnet_header = *(guint8 *)RTA_DATA(at);
	}
}

static void copy_text(char *to, gsize size, const struct rtattr *from)
{
	gsize length = MIN(RTA_PAYLOAD(from), size - 1);

	memcpy(to, RTA_DATA(from), length);
	to[length] = '\0';
}

static void take_link_info(struct link *link, struct rtattr *info)
{
	struct rtattr *at = RTA_DATA(info), *data = NULL;
	int left = (int)RTA_PAYLOAD(info);

	for (; RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		if ((at->rta_type & NLA_TYPE_MASK) == IFLA_INFO_KIND)
			copy_text(link->kind, sizeof(link->kind), at);
		if ((at->rta_type & NLA_TYPE_MASK) == IFLA_INFO_DATA)
			data = at;
	}
	if (data && !strcmp(link->kind, "tun"))
		take_tun(link, data);
}

static void take_link(struct link *link, struct nlmsghdr *head)
{
	struct ifinfomsg *info = NLMSG_DATA(head);
	int left = (int)head->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));
	struct rtattr *at = IFLA_RTA(info);

	*link = (struct link){ .index = info->ifi_index, .flags = info->ifi_flags };
	for (; RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		switch (at->rta_type & NLA_TYPE_MASK) {
		case IFLA_MASTER:
			if (RTA_PAYLOAD(at) >= sizeof(link->master))
				memcpy(&link->master, RTA_DATA(at),
				       sizeof(link->master));
			break;
		case IFLA_IFALIAS:
			copy_text(link->alias, sizeof(link->alias), at);
			break;
		case IFLA_LINKINFO:
			take_link_info(link, at);
			break;
		default:
			break;
		}
	}
}

/* Sends a request and takes its acknowledgement, and what is said of a link on the way
 * (into `link`, or NULL). 0 or -errno. */
static int ask(struct request *request, struct link *link)
{
	base_autofd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	g_autofree guint8 *answer = g_malloc(ANSWER_BYTES);

	if (fd < 0)
		return -errno;
	if (sendto(fd, request, request->head.nlmsg_len, 0,
		   (const struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	for (;;) {
		struct nlmsghdr *at = (struct nlmsghdr *)answer;
		gssize got = recv(fd, answer, ANSWER_BYTES, 0);
		gsize left = (gsize)MAX(got, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		for (; NLMSG_OK(at, left); at = NLMSG_NEXT(at, left)) {
			if (at->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(at))->error;
			if (at->nlmsg_type == RTM_NEWLINK && link)
				take_link(link, at);
		}
	}
}

/* 0 or -errno; -ENODEV: there is none. */
static int find_link(const char *name, struct link *link)
{
	struct request request;

	begin_request(&request, RTM_GETLINK, 0);
	put_attribute(&request, IFLA_IFNAME, name, strlen(name) + 1);
	return ask(&request, link);
}

static int set_master(int index, int master)
{
	struct request request;

	begin_request(&request, RTM_SETLINK, index);
	put_attribute(&request, IFLA_MASTER, &master, sizeof(master));
	return ask(&request, NULL);
}

static int bring_up(int index)
{
	struct request request;

	begin_request(&request, RTM_SETLINK, index);
	request.info.ifi_flags = IFF_UP;
	request.info.ifi_change = IFF_UP;
	return ask(&request, NULL);
}

static int set_alias(int index, const char *alias)
{
	struct request request;

	begin_request(&request, RTM_SETLINK, index);
	put_attribute(&request, IFLA_IFALIAS, alias, strlen(alias));
	return ask(&request, NULL);
}

static int delete_link(int index)
{
	struct request request;

	begin_request(&request, RTM_DELLINK, index);
	return ask(&request, NULL);
}

/* Judging. */

static gboolean check_name(const char *what, const char *name, GError **error)
{
	gsize length = strlen(name);
	gboolean ok = length > 0 && length < IFNAMSIZ && strcmp(name, ".") &&
		      strcmp(name, "..");

	/* A percent sign would make the kernel invent a number. */
	for (gsize i = 0; ok && i < length; i++)
		ok = g_ascii_isgraph(name[i]) && !strchr("/:%", name[i]);
	return ok || colo_error_set(error, COLO_ERROR_CONFIG,
				    "%s %s: not an interface name (1 to %d characters, "
				    "without space, /, : and %%)",
				    what, name, IFNAMSIZ - 1);
}

static void make_alias(const struct colo_tap *tap, char *alias)
{
	g_snprintf(alias, ALIAS_MAX, "colo %s", tap->pair);
}

static gboolean is_ours(const struct colo_tap *tap, const struct link *link)
{
	char alias[ALIAS_MAX];

	make_alias(tap, alias);
	return !strcmp(link->alias, alias);
}

static gboolean refuse(const struct colo_tap *tap, int err, const char *what,
		       GError **error)
{
	if (err == EPERM || err == EACCES)
		return colo_error_set(error, COLO_ERROR_HOST,
				      "tap %s: %s: needs CAP_NET_ADMIN", tap->name,
				      what);
	return colo_error_errno(error, err, "tap %s: %s", tap->name, what);
}

static gboolean find_bridge(const struct colo_tap *tap, struct link *bridge,
			    GError **error)
{
	int err;

	if (!check_name("bridge", tap->bridge, error))
		return FALSE;
	err = find_link(tap->bridge, bridge);
	if (err == -ENODEV)
		return colo_error_set(
			error, COLO_ERROR_HOST,
			"bridge %s: does not exist: make it (`ip link add %s "
			"type bridge`, and have the host's network "
			"configuration do so at boot), or correct the pair file",
			tap->bridge, tap->bridge);
	if (err)
		return refuse(tap, -err, "find its bridge", error);
	if (strcmp(bridge->kind, "bridge"))
		return colo_error_set(
			error, COLO_ERROR_CONFIG,
			"bridge %s: the interface is no bridge: correct the pair "
			"file",
			tap->bridge);
	return TRUE;
}

/* Whether a tap that is there will do. */
static gboolean judge_tap(const struct colo_tap *tap, const struct link *link,
			  const struct link *bridge, GError **error)
{
	char other[IFNAMSIZ] = "another port";

	if (strcmp(link->kind, "tun") || link->tun_type != IFF_TAP)
		return colo_error_set(
			error, COLO_ERROR_CONFIG,
			"tap %s: the interface is not a tap: give another name "
			"in the pair file, or remove it (`ip link del %s`)",
			tap->name, tap->name);
	if (!link->master || (bridge && link->master == bridge->index) ||
	    is_ours(tap, link))
		return TRUE;
	if_indextoname((guint)link->master, other);
	if (!bridge)
		return colo_error_set(
			error, COLO_ERROR_CONFIG,
			"tap %s: belongs to %s, and the pair file gives it no "
			"bridge: `ip link set %s nomaster`, or name it there",
			tap->name, other, tap->name);
	return colo_error_set(
		error, COLO_ERROR_CONFIG,
		"tap %s: belongs to %s, not to %s: `ip link set %s nomaster`, or "
		"correct the pair file",
		tap->name, other, tap->bridge, tap->name);
}

/* Changing. */

static int open_tun(void)
{
	return open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

static gboolean make_tap(const struct colo_tap *tap, struct link *link, GError **error)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	base_autofd int fd = open_tun();
	char alias[ALIAS_MAX];
	int err = errno;

	if (fd < 0 && (err == ENOENT || err == ENODEV))
		return colo_error_set(error, COLO_ERROR_HOST,
				      "tap %s: /dev/net/tun is missing: `modprobe tun`",
				      tap->name);
	if (fd < 0)
		return refuse(tap, err, "open /dev/net/tun", error);
	g_strlcpy(request.ifr_name, tap->name, sizeof(request.ifr_name));
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return refuse(tap, errno, "make it", error);
	/* It stays only from the moment on in which it is known to be ours. */
	make_alias(tap, alias);
	err = find_link(tap->name, link);
	if (!err)
		err = set_alias(link->index, alias);
	if (err)
		return refuse(tap, -err, "mark it as ours", error);
	g_strlcpy(link->alias, alias, sizeof(link->alias));
	if (ioctl(fd, TUNSETPERSIST, 1) < 0)
		return refuse(tap, errno, "make it stay", error);
	return TRUE;
}

/* Off is the kernel's default; where sysfs is not this network namespace's there is
 * nothing to find. */
static void stop_steering(const struct colo_tap *tap)
{
	g_autofree char *dir = g_strdup_printf("/sys/class/net/%s/queues", tap->name);
	g_autoptr(GDir) queues = g_dir_open(dir, 0, NULL);
	const char *queue;

	while (queues && (queue = g_dir_read_name(queues))) {
		g_autofree char *path = g_build_filename(dir, queue, "rps_cpus", NULL);
		g_autofree char *old = NULL;
		base_autofd int fd = -1;

		if (!g_str_has_prefix(queue, "rx-") ||
		    !g_file_get_contents(path, &old, NULL, NULL) ||
		    !old[strspn(old, "0,\n")])
			continue;
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			g_warning("tap %s: receive packet steering is on and stays on, "
				  "which "
				  "changes the order of packets: `echo 0 >%s`: %s",
				  tap->name, path, g_strerror(errno));
		else
			g_message(
				"tap %s: receive packet steering was on, now it is off",
				tap->name);
	}
}

static gboolean set_up(const struct colo_tap *tap, const struct link *link,
		       const struct link *bridge, GError **error)
{
	int master = bridge ? bridge->index : 0;
	int err = 0;

	if (link->master != master)
		err = set_master(link->index, master);
	if (err)
		return refuse(tap, -err, "put it on its bridge", error);
	if (!(link->flags & IFF_UP))
		err = bring_up(link->index);
	if (err)
		return refuse(tap, -err, "bring it up", error);
	stop_steering(tap);
	return TRUE;
}

/* What both begin with; `link->index` is 0 where there is no tap yet. */
static gboolean judge(const struct colo_tap *tap, struct link *link,
		      struct link *bridge, GError **error)
{
	int err;

	*link = (struct link){ 0 };
	if (!check_name("tap", tap->name, error))
		return FALSE;
	if (tap->bridge && !find_bridge(tap, bridge, error))
		return FALSE;
	err = find_link(tap->name, link);
	if (err == -ENODEV)
		return TRUE;
	if (err)
		return refuse(tap, -err, "find it", error);
	return judge_tap(tap, link, tap->bridge ? bridge : NULL, error);
}

/* Public. */

gboolean colo_tap_prepare(const struct colo_tap *tap, GError **error)
{
	struct link link, bridge;
	gboolean made;

	if (!judge(tap, &link, &bridge, error))
		return FALSE;
	made = !link.index;
	if (made && !make_tap(tap, &link, error))
		return FALSE;
	if (!set_up(tap, &link, tap->bridge ? &bridge : NULL, error)) {
		if (made)
			delete_link(link.index);
		return FALSE;
	}
	if (made)
		g_message("tap %s: made%s%s", tap->name,
			  tap->bridge ? " on bridge " : "",
			  tap->bridge ? tap->bridge : "");
	return TRUE;
}

gboolean colo_tap_check(const struct colo_tap *tap, GError **error)
{
	struct link link, bridge;

	return judge(tap, &link, &bridge, error);
}

gboolean colo_tap_remove(const struct colo_tap *tap, GError **error)
{
	struct link link = { 0 };
	int err = find_link(tap->name, &link);

	if (err == -ENODEV || (!err && !is_ours(tap, &link)))
		return TRUE;
	if (!err)
		err = delete_link(link.index);
	return !err || refuse(tap, -err, "remove it", error);
}
