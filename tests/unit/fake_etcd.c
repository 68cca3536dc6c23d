/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A real etcd for tests. */
#include "tests/unit/fake_etcd.h"

#include <arpa/inet.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

gboolean test_etcd_available(void)
{
	g_autofree char *server = g_find_program_in_path("etcd");
	g_autofree char *client = g_find_program_in_path("etcdctl");

	return server && client;
}

guint test_free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	g_assert(!bind(fd, (struct sockaddr *)&address, sizeof(address)));
	g_assert(!getsockname(fd, (struct sockaddr *)&address, &length));
	close(fd);
	return ntohs(address.sin_port);
}

static void remove_tree(const char *path)
{
	const char *const argv[] = { "rm", "-rf", path, NULL };

	g_assert(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL,
			      NULL, NULL, NULL, NULL, NULL));
}

static gboolean listens(guint port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	gboolean good;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	good = !connect(fd, (struct sockaddr *)&address, sizeof(address));
	close(fd);
	return good;
}

static void die_with_test(gpointer data)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

void test_etcd_start_again(struct test_etcd *etcd)
{
	const char *scheme = etcd->certificates ? "https" : "http";
	g_autofree char *peer = g_strdup_printf("http://127.0.0.1:%u", etcd->peer_port);
	g_autofree char *cluster = g_strdup_printf("default=%s", peer);
	g_autofree char *data = g_build_filename(etcd->folder, "data", NULL);
	g_autofree char *log = g_build_filename(etcd->folder, "log", NULL);
	g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GError) error = NULL;

	/* Arbiters keep the one that they were given. */
	if (!etcd->url)
		etcd->url =
			g_strdup_printf("%s://127.0.0.1:%u", scheme, etcd->client_port);
	for (const char *const *word =
		     (const char *const[]){
			     "etcd", "--data-dir", data, "--listen-client-urls",
			     etcd->url, "--advertise-client-urls", etcd->url,
			     "--listen-peer-urls", peer,
			     "--initial-advertise-peer-urls", peer, "--initial-cluster",
			     cluster, "--log-outputs", log, "--logger", "zap", NULL };
	     *word; word++)
		g_ptr_array_add(argv, g_strdup(*word));
	if (etcd->certificates) {
		const char *const options[][2] = {
			{ "--cert-file", "server.pem" },
			{ "--key-file", "server.key" },
			{ "--trusted-ca-file", "ca.pem" },
		};

		g_ptr_array_add(argv, g_strdup("--client-cert-auth"));
		for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
			g_ptr_array_add(argv, g_strdup(options[i][0]));
			g_ptr_array_add(argv, g_build_filename(etcd->certificates,
							       options[i][1], NULL));
		}
	}
	g_ptr_array_add(argv, NULL);
	if (!g_spawn_async(NULL, (char **)argv->pdata, NULL,
			   G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
				   G_SPAWN_STDOUT_TO_DEV_NULL |
				   G_SPAWN_STDERR_TO_DEV_NULL,
			   die_with_test, NULL, &etcd->pid, &error))
		g_error("start etcd: %s", error->message);
	for (guint i = 0; !listens(etcd->client_port); i++) {
		if (i > 6000 || waitpid(etcd->pid, NULL, WNOHANG) != 0)
			g_error("etcd does not start; see %s", log);
		g_usleep(10000);
	}
}

void test_etcd_start(struct test_etcd *etcd, const char *certificates)
{
	*etcd = (struct test_etcd){ .certificates = certificates };
	etcd->folder = g_dir_make_tmp("colo-etcd-XXXXXX", NULL);
	g_assert(etcd->folder);
	etcd->client_port = test_free_port();
	do
		etcd->peer_port = test_free_port();
	while (etcd->peer_port == etcd->client_port);
	test_etcd_start_again(etcd);
}

void test_etcd_kill(struct test_etcd *etcd)
{
	if (!etcd->pid)
		return;
	kill(etcd->pid, SIGKILL);
	g_assert(waitpid(etcd->pid, NULL, 0) == etcd->pid);
	etcd->pid = 0;
}

void test_etcd_stop(struct test_etcd *etcd)
{
	g_assert(!kill(etcd->pid, SIGSTOP));
}

void test_etcd_continue(struct test_etcd *etcd)
{
	g_assert(!kill(etcd->pid, SIGCONT));
}

void test_etcd_lose_data(struct test_etcd *etcd)
{
	g_autofree char *data = g_build_filename(etcd->folder, "data", NULL);

	g_assert(!etcd->pid);
	remove_tree(data);
}

void test_etcd_clear(struct test_etcd *etcd)
{
	test_etcd_kill(etcd);
	if (etcd->folder)
		remove_tree(etcd->folder);
	g_free(etcd->folder);
	g_free(etcd->url);
	*etcd = (struct test_etcd){ 0 };
}

void test_etcd_ctl(struct test_etcd *etcd, ...)
{
	g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
	g_autofree char *errors = NULL;
	g_autoptr(GError) error = NULL;
	const char *word;
	int status;
	va_list words;

	g_ptr_array_add(argv, g_strdup("env"));
	g_ptr_array_add(argv, g_strdup("ETCDCTL_API=3"));
	g_ptr_array_add(argv, g_strdup("etcdctl"));
	g_ptr_array_add(argv, g_strdup_printf("--endpoints=%s", etcd->url));
	if (etcd->certificates) {
		g_ptr_array_add(argv, g_strdup_printf("--cacert=%s/ca.pem",
						      etcd->certificates));
		g_ptr_array_add(argv, g_strdup_printf("--cert=%s/client.pem",
						      etcd->certificates));
		g_ptr_array_add(argv, g_strdup_printf("--key=%s/client.key",
						      etcd->certificates));
	}
	va_start(words, etcd);
	while ((word = va_arg(words, const char *)))
		g_ptr_array_add(argv, g_strdup(word));
	va_end(words);
	g_ptr_array_add(argv, NULL);
	if (!g_spawn_sync(NULL, (char **)argv->pdata, NULL,
			  G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL,
			  NULL, &errors, &status, &error) ||
	    !g_spawn_check_wait_status(status, &error))
		g_error("etcdctl: %s: %s", error->message, errors);
}

void test_told(void *data, enum colo_verdict verdict,
	       const struct colo_arbiter_record *record, const char *why)
{
	struct test_answer *answer = data;

	g_assert(!answer->told);
	answer->told = TRUE;
	answer->verdict = verdict;
	answer->has_record = record != NULL;
	if (record)
		answer->record = *record;
	answer->why = g_strdup(why);
	g_assert(!why || (strlen(why) < 4096 && !strpbrk(why, "\n\r\x1b")));
}

static gboolean too_late(gpointer data)
{
	g_error("no answer");
	return G_SOURCE_REMOVE;
}

void test_wait(struct test_answer *answer)
{
	guint timer = g_timeout_add_seconds(60, too_late, NULL);

	/* Never from within the call. */
	g_assert(!answer->told);
	while (!answer->told)
		g_main_context_iteration(NULL, TRUE);
	g_source_remove(timer);
}

void test_answer_clear(struct test_answer *answer)
{
	g_free(answer->why);
	*answer = (struct test_answer){ 0 };
}
