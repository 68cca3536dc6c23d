/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The arbiter on etcd, against a real one. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <gio/gio.h>
#include <glib/gstdio.h>

#include "base/clock.h"
#include "tests/unit/fake_etcd.h"

#define PASSWORD "c0ffee\"\\secret"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED TRUE
#else
#define SANITIZED FALSE
#endif

static struct test_etcd etcd;
static char *folder; /* for certificates and passwords */

static colo_pair pair_on(char **endpoints, guint timeout_ms)
{
	return (colo_pair){
		.name = (char *)"shop",
		.node = { { .name = (char *)"alpha" }, { .name = (char *)"beta" } },
		.arbiter = { .kind = COLO_ARBITER_ETCD,
			     .timeout_ms = timeout_ms,
			     .endpoints = endpoints,
			     .prefix = (char *)"/colo/" },
	};
}

static colo_arbiter *new_on(const colo_pair *pair, guint self)
{
	g_autoptr(GError) error = NULL;
	colo_arbiter *arbiter = colo_arbiter_new(pair, self, &error);

	if (!arbiter)
		fail_msg("%s", error->message);
	assert_true(arbiter->ops->keeps_records);
	assert_string_equal(arbiter->ops->name, "etcd");
	return arbiter;
}

enum ask { READ, CLAIM, PROTECT, CREATE, FORCE };

static void begin(colo_arbiter *arbiter, enum ask what, guint64 generation,
		  struct test_answer *answer)
{
	test_answer_clear(answer);
	switch (what) {
	case READ:
		arbiter->ops->read(arbiter, test_told, answer);
		break;
	case CLAIM:
		arbiter->ops->claim(arbiter, generation, test_told, answer);
		break;
	case PROTECT:
		arbiter->ops->protect(arbiter, generation, test_told, answer);
		break;
	case CREATE:
	case FORCE:
		arbiter->ops->create(arbiter, generation, what == FORCE, test_told,
				     answer);
		break;
	}
}

/* "granted solo alpha 3", "denied protected 3", "no record", "unreachable". */
static const char *ask(colo_arbiter *arbiter, enum ask what, guint64 generation)
{
	static const char *const verdicts[] = { "granted",   "denied", "unreachable",
						"no record", "record", "unknown" };
	static char text[100];
	static struct test_answer answer;

	begin(arbiter, what, generation, &answer);
	test_wait(&answer);
	if (!answer.has_record)
		g_snprintf(text, sizeof(text), "%s", verdicts[answer.verdict]);
	else if (answer.record.solo)
		g_snprintf(text, sizeof(text), "%s solo %s %u",
			   verdicts[answer.verdict],
			   answer.record.owner ? "beta" : "alpha",
			   (guint)answer.record.generation);
	else
		g_snprintf(text, sizeof(text), "%s protected %u",
			   verdicts[answer.verdict], (guint)answer.record.generation);
	return text;
}

static char *ask_why(colo_arbiter *arbiter, enum ask what, guint64 generation,
		     enum colo_verdict verdict)
{
	struct test_answer answer = { 0 };

	begin(arbiter, what, generation, &answer);
	test_wait(&answer);
	if (answer.verdict != verdict)
		fail_msg("verdict %d: %s", answer.verdict, answer.why);
	assert_non_null(answer.why);
	assert_false(verdict == COLO_VERDICT_UNREACHABLE && answer.has_record);
	return answer.why;
}

static void expect_why(colo_arbiter *arbiter, enum ask what, enum colo_verdict verdict,
		       const char *part)
{
	g_autofree char *why = ask_why(arbiter, what, 1, verdict);

	if (!strstr(why, part))
		fail_msg("\"%s\" does not say \"%s\"", why, part);
}

static int start(void **state)
{
	if (!etcd.folder)
		test_etcd_start(&etcd, NULL);
	if (!etcd.pid)
		test_etcd_start_again(&etcd);
	test_etcd_ctl(&etcd, "del", "", "--prefix", NULL);
	return 0;
}

static int remove_all(void **state)
{
	const char *const argv[] = { "rm", "-rf", folder, NULL };

	test_etcd_clear(&etcd);
	g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
		     NULL, NULL, NULL);
	g_free(folder);
	return 0;
}

static int make_folder(void **state)
{
	folder = g_dir_make_tmp("colo-arbiter-XXXXXX", NULL);
	return 0;
}

static void a_pair_goes_through_its_life(void **state)
{
	char *endpoints[] = { etcd.url, NULL };
	const colo_pair pair = pair_on(endpoints, 20000);
	g_autoptr(colo_arbiter) alpha = new_on(&pair, 0), beta = new_on(&pair, 1);

	assert_string_equal(ask(alpha, READ, 0), "no record");
	assert_string_equal(ask(alpha, CLAIM, 1), "no record");
	assert_string_equal(ask(alpha, PROTECT, 1), "no record");
	assert_string_equal(ask(alpha, CREATE, 1), "granted solo alpha 1");
	assert_string_equal(ask(alpha, CREATE, 1), "granted solo alpha 1");
	assert_string_equal(ask(beta, CREATE, 1), "denied solo alpha 1");
	assert_string_equal(ask(beta, READ, 0), "record solo alpha 1");
	assert_string_equal(ask(beta, CLAIM, 1), "denied solo alpha 1");
	assert_string_equal(ask(beta, PROTECT, 1), "denied solo alpha 1");
	assert_string_equal(ask(alpha, PROTECT, 2), "denied solo alpha 1");
	assert_string_equal(ask(alpha, PROTECT, 1), "granted protected 1");
	assert_string_equal(ask(alpha, PROTECT, 1), "granted protected 1");
	assert_string_equal(ask(beta, READ, 0), "record protected 1");
	assert_string_equal(ask(beta, CLAIM, 2), "denied protected 1");
	assert_string_equal(ask(beta, CLAIM, 1), "granted solo beta 2");
	assert_string_equal(ask(alpha, CLAIM, 1), "denied solo beta 2");
	assert_string_equal(ask(alpha, PROTECT, 2), "denied solo beta 2");
	/* The answer was lost. */
	assert_string_equal(ask(beta, CLAIM, 1), "granted solo beta 2");
	assert_string_equal(ask(alpha, CREATE, 1), "denied solo beta 2");
	/* Alone anew: a request to protect at 2 that comes late finds 3. */
	assert_string_equal(ask(beta, CLAIM, 2), "granted solo beta 3");
	assert_string_equal(ask(beta, CLAIM, 2), "granted solo beta 3");
	assert_string_equal(ask(beta, PROTECT, 2), "denied solo beta 3");
	assert_string_equal(ask(alpha, CLAIM, 3), "denied solo beta 3");
	/* The operator's word. */
	assert_string_equal(ask(alpha, FORCE, 9), "granted solo alpha 9");
	assert_string_equal(ask(alpha, FORCE, 9), "granted solo alpha 9");
	assert_string_equal(ask(beta, READ, 0), "record solo alpha 9");
}

static void force_makes_a_record_from_nothing_or_from_rubbish(void **state)
{
	char *endpoints[] = { etcd.url, NULL };
	const colo_pair pair = pair_on(endpoints, 20000);
	g_autoptr(colo_arbiter) alpha = new_on(&pair, 0);

	assert_string_equal(ask(alpha, FORCE, 4), "granted solo alpha 4");
	test_etcd_ctl(&etcd, "put", "/colo/shop", "rubbish", NULL);
	assert_string_equal(ask(alpha, FORCE, 5), "granted solo alpha 5");
	test_etcd_ctl(&etcd, "put", "/colo/shop", "{\"generation\":9,\"solo\":\"x\"}",
		      NULL);
	assert_string_equal(ask(alpha, FORCE, 6), "granted solo alpha 6");
	assert_string_equal(ask(alpha, READ, 0), "record solo alpha 6");
}

static void one_of_two_that_claim_at_once_wins(void **state)
{
	char *endpoints[] = { etcd.url, NULL };
	const colo_pair pair = pair_on(endpoints, 30000);
	g_autoptr(colo_arbiter) first = new_on(&pair, 0), second = new_on(&pair, 1);
	colo_arbiter *both[] = { first, second };
	const guint rounds = SANITIZED ? 200 : 1000;
	guint won[2] = { 0 };

	assert_string_equal(ask(first, CREATE, 1), "granted solo alpha 1");
	assert_string_equal(ask(first, PROTECT, 1), "granted protected 1");
	for (guint64 generation = 1; generation <= rounds; generation++) {
		struct test_answer answer[2] = { 0 };
		guint winner, begins = generation & 1;

		begin(both[begins], CLAIM, generation, &answer[begins]);
		begin(both[!begins], CLAIM, generation, &answer[!begins]);
		for (guint i = 0; i < 2; i++) {
			if (!answer[i].told)
				test_wait(&answer[i]);
		}
		winner = answer[1].verdict == COLO_VERDICT_GRANTED;
		assert_int_equal(answer[winner].verdict, COLO_VERDICT_GRANTED);
		assert_int_equal(answer[!winner].verdict, COLO_VERDICT_DENIED);
		for (guint i = 0; i < 2; i++) {
			assert_true(answer[i].record.solo);
			assert_int_equal(answer[i].record.owner, winner);
			assert_int_equal(answer[i].record.generation, generation + 1);
			test_answer_clear(&answer[i]);
		}
		won[winner]++;
		begin(both[winner], PROTECT, generation + 1, &answer[0]);
		test_wait(&answer[0]);
		assert_int_equal(answer[0].verdict, COLO_VERDICT_GRANTED);
		test_answer_clear(&answer[0]);
	}
	printf("# %u races: alpha won %u, beta %u\n", rounds, won[0], won[1]);
	assert_int_equal(won[0] + won[1], rounds);
}

static void records_written_in_other_words_are_understood(void **state)
{
	char *endpoints[] = { etcd.url, NULL };
	const colo_pair pair = pair_on(endpoints, 20000);
	g_autoptr(colo_arbiter) alpha = new_on(&pair, 0), beta = new_on(&pair, 1);

	test_etcd_ctl(
		&etcd, "put", "/colo/shop",
		" { \"protected\" : [ \"beta\", \"alpha\" ], \"generation\": 5 } ",
		NULL);
	assert_string_equal(ask(beta, CLAIM, 4), "denied protected 5");
	assert_string_equal(ask(beta, PROTECT, 5), "granted protected 5");
	assert_string_equal(ask(beta, CLAIM, 5), "granted solo beta 6");
	test_etcd_ctl(&etcd, "put", "/colo/shop",
		      "{\"solo\": \"beta\", \"generation\": 6}\n", NULL);
	assert_string_equal(ask(alpha, PROTECT, 6), "denied solo beta 6");
	assert_string_equal(ask(beta, PROTECT, 6), "granted protected 6");
}

static void a_record_of_others_or_of_nobody_grants_nothing(void **state)
{
	static const char *const rubbish[] = {
		"",
		"rubbish",
		"[]",
		"{}",
		"7",
		"{\"generation\":1}",
		"{\"generation\":-1,\"solo\":\"alpha\"}",
		"{\"generation\":0,\"solo\":\"alpha\"}",
		"{\"generation\":1.5,\"solo\":\"alpha\"}",
		"{\"generation\":\"1\",\"solo\":\"alpha\"}",
		"{\"generation\":99999999999999999999,\"solo\":\"alpha\"}",
		"{\"generation\":9007199254740993,\"solo\":\"alpha\"}",
		"{\"generation\":1,\"solo\":7}",
		"{\"generation\":1,\"solo\":null}",
		"{\"generation\":1,\"protected\":\"alpha\"}",
		"{\"generation\":1,\"protected\":[]}",
		"{\"generation\":1,\"protected\":[\"alpha\"]}",
		"{\"generation\":1,\"protected\":[\"alpha\",\"alpha\"]}",
		"{\"generation\":1,\"protected\":[\"alpha\",7]}",
		"{\"generation\":1,\"protected\":[\"alpha\",\"beta\",\"beta\"]}",
		"{\"generation\":1,\"solo\":\"alpha\",\"protected\":[\"alpha\","
		"\"beta\"]}",
		"{\"generation\":1,\"solo\":\"alpha\",\"lease\":1}",
	};
	char *endpoints[] = { etcd.url, NULL };
	const colo_pair pair = pair_on(endpoints, 20000);
	g_autoptr(colo_arbiter) alpha = new_on(&pair, 0);

	for (guint i = 0; i < G_N_ELEMENTS(rubbish); i++) {
		test_etcd_ctl(&etcd, "put", "--", "/colo/shop", rubbish[i], NULL);
		expect_why(alpha, READ, COLO_VERDICT_UNREACHABLE, "the record");
		expect_why(alpha, CLAIM, COLO_VERDICT_UNREACHABLE, "the record");
		expect_why(alpha, PROTECT, COLO_VERDICT_UNREACHABLE, "the record");
		expect_why(alpha, CREATE, COLO_VERDICT_UNREACHABLE, "the record");
	}
	test_etcd_ctl(&etcd, "put", "/colo/shop",
		      "{\"generation\":1,\"solo\":\"gamma\"}", NULL);
	expect_why(alpha, READ, COLO_VERDICT_DENIED, "\"gamma\"");
	expect_why(alpha, CLAIM, COLO_VERDICT_DENIED, "\"gamma\"");
	expect_why(alpha, PROTECT, COLO_VERDICT_DENIED, "\"gamma\"");
	expect_why(alpha, CREATE, COLO_VERDICT_DENIED, "\"gamma\"");
	test_etcd_ctl(&etcd, "put", "/colo/shop",
		      "{\"generation\":1,\"protected\":[\"alpha\",\"gam\\u001bma\"]}",
		      NULL);
	expect_why(alpha, CLAIM, COLO_VERDICT_DENIED, "\"gam?ma\"");
	/* One that starts with the same name is another pair's. */
	test_etcd_ctl(&etcd, "del", "", "--prefix", NULL);
	test_etcd_ctl(&etcd, "put", "/colo/shop2", "rubbish", NULL);
	assert_string_equal(ask(alpha, READ, 0), "no record");
}

static void a_dead_endpoint_costs_little_and_all_dead_is_unreachable(void **state)
{
	g_autofree char *dead =
		g_strdup_printf("http://127.0.0.1:%u", test_free_port());
	g_autofree char *none =
		g_strdup_printf("http://127.0.0.1:%u", test_free_port());
	char *endpoints[] = { dead, etcd.url, none, NULL };
	char *no_endpoints[] = { dead, none, NULL };
	const colo_pair pair = pair_on(endpoints, 20000);
	const colo_pair dead_pair = pair_on(no_endpoints, 20000);
	g_autoptr(colo_arbiter) alpha = new_on(&pair, 0), lost = new_on(&dead_pair, 0);
	g_autofree char *why = NULL;

	assert_string_equal(ask(alpha, CREATE, 1), "granted solo alpha 1");
	assert_string_equal(ask(alpha, PROTECT, 1), "granted protected 1");
	for (enum ask what = READ; what <= FORCE; what++) {
		g_free(why);
		why = ask_why(lost, what, 1, COLO_VERDICT_UNREACHABLE);
		assert_non_null(strstr(why, dead));
		assert_non_null(strstr(why, none));
	}
	print_message("# all dead: %s\n", why);
	test_etcd_kill(&etcd);
	expect_why(alpha, CLAIM, COLO_VERDICT_UNREACHABLE, etcd.url);
	test_etcd_start_again(&etcd);
	assert_string_equal(ask(alpha, CLAIM, 1), "granted solo alpha 2");
}

/* Both are etcds that listen, the first does not run; the time is over before it does.
 */
static void a_frozen_endpoint_is_given_up_for_the_next(void **state)
{
	struct test_etcd frozen;
	char *endpoints[] = { NULL, etcd.url, NULL };
	colo_pair pair = pair_on(endpoints, 30000);
	g_autoptr(colo_arbiter) alpha = NULL;
	guint64 began, took_ms;

	test_etcd_start(&frozen, NULL);
	endpoints[0] = frozen.url;
	alpha = new_on(&pair, 0);
	/* An open connection to, and a preference for, the one that then freezes. */
	test_etcd_stop(&etcd);
	assert_string_equal(ask(alpha, READ, 0), "no record");
	test_etcd_continue(&etcd);
	test_etcd_stop(&frozen);
	began = base_clock_monotonic_ns();
	assert_string_equal(ask(alpha, CREATE, 1), "granted solo alpha 1");
	took_ms = (base_clock_monotonic_ns() - began) / 1000000;
	assert_true(took_ms >= 400);
	printf("# a frozen endpoint first: %u ms\n", (guint)took_ms);
	/* The one that answered is asked first now. */
	assert_string_equal(ask(alpha, PROTECT, 1), "granted protected 1");
	/* Both frozen: the time that the pair file gives, and not much more. */
	pair.arbiter.timeout_ms = 1500;
	test_etcd_stop(&etcd);
	began = base_clock_monotonic_ns();
	expect_why(alpha, CLAIM, COLO_VERDICT_UNREACHABLE, "no answer in time");
	took_ms = (base_clock_monotonic_ns() - began) / 1000000;
	assert_true(took_ms >= 1400);
	printf("# both frozen, with 1500 ms: %u ms\n", (guint)took_ms);
	test_etcd_continue(&etcd);
	pair.arbiter.timeout_ms = 30000;
	/* It may have done what it was asked for after we gave up: granted all the
	 * same. */
	assert_string_equal(ask(alpha, CLAIM, 1), "granted solo alpha 2");
	test_etcd_clear(&frozen);
}

static void a_server_started_again_keeps_or_loses_the_record(void **state)
{
	char *endpoints[] = { etcd.url, NULL };
	const colo_pair pair = pair_on(endpoints, 20000);
	g_autoptr(colo_arbiter) alpha = new_on(&pair, 0);

	assert_string_equal(ask(alpha, CREATE, 1), "granted solo alpha 1");
	test_etcd_kill(&etcd);
	test_etcd_start_again(&etcd);
	/* Over a connection that is no more. */
	assert_string_equal(ask(alpha, READ, 0), "record solo alpha 1");
	test_etcd_kill(&etcd);
	test_etcd_lose_data(&etcd);
	test_etcd_start_again(&etcd);
	assert_string_equal(ask(alpha, READ, 0), "no record");
	assert_string_equal(ask(alpha, CLAIM, 1), "no record");
	assert_string_equal(ask(alpha, PROTECT, 1), "no record");
}

static void what_is_cancelled_or_freed_is_not_heard_of(void **state)
{
	char *endpoints[] = { etcd.url, NULL };
	const colo_pair pair = pair_on(endpoints, 20000);
	colo_arbiter *alpha = new_on(&pair, 0);
	struct test_answer answer = { 0 };

	for (guint i = 0; i < 50; i++) {
		begin(alpha, CREATE, 1, &answer);
		for (guint n = 0; n < i / 5; n++)
			g_main_context_iteration(NULL, FALSE);
		if (!answer.told)
			alpha->ops->cancel(alpha);
		if (i % 10 == 9) {
			test_answer_clear(&answer);
			begin(alpha, READ, 1, &answer);
			colo_arbiter_free(alpha);
			alpha = new_on(&pair, 0);
			assert_false(answer.told);
		}
	}
	test_answer_clear(&answer);
	assert_string_equal(ask(alpha, CREATE, 1), "granted solo alpha 1");
	colo_arbiter_free(alpha);
}

static void run_shell(const char *script)
{
	const char *const argv[] = { "sh", "-euc", script, NULL };
	g_autoptr(GError) error = NULL;
	g_autofree char *errors = NULL;
	int status;

	if (!g_spawn_sync(folder, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
			  NULL, &errors, &status, &error) ||
	    !g_spawn_check_wait_status(status, &error))
		g_error("%s: %s", error->message, errors);
}

/* The first bytes of the password, then its last, with or without what JSON puts
 * between. */
static gboolean holds_password(const char *bytes, gsize length)
{
	const char *end = bytes + length, *at = bytes;

	while ((at = memmem(at, (gsize)(end - at), PASSWORD, 6))) {
		at += 6;
		if (memmem(at, MIN((gsize)(end - at), 12), "secret", 6))
			return TRUE;
	}
	return FALSE;
}

/* That no memory but that of secrets, which is in no core file, has the password in it.
 */
static void expect_password_nowhere(void)
{
	g_autofree char *maps = NULL;
	g_auto(GStrv) lines = NULL;
	int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	unsigned long from = 0, to = 0, first, last;
	gboolean writable = FALSE;
	guint looked = 0, kept = 0;

	assert_true(memory >= 0);
	assert_true(g_file_get_contents("/proc/self/smaps", &maps, NULL, NULL));
	lines = g_strsplit(maps, "\n", -1);
	for (guint i = 0; lines[i]; i++) {
		g_autofree char *bytes = NULL;
		char rights[5];
		gboolean secret = strstr(lines[i], " dd") != NULL, holds;
		gssize n;

		if (sscanf(lines[i], "%lx-%lx %4s", &first, &last, rights) == 3) {
			from = first;
			to = last;
			writable = rights[1] == 'w';
		}
		if (!writable || !g_str_has_prefix(lines[i], "VmFlags:"))
			continue;
		bytes = g_malloc(to - from);
		n = pread(memory, bytes, to - from, (off_t)from);
		if (n <= 0)
			continue;
		holds = holds_password(bytes, (gsize)n);
		explicit_bzero(bytes, to - from);
		if (holds && !secret)
			fail_msg("the password is in memory at %lx-%lx", from, to);
		kept += holds;
		looked++;
	}
	close(memory);
	/* That it would have been found. */
	assert_true(looked > 3 && kept > 0);
}

/* Without a copy of it in this process, but for the constant. */
static void write_password(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, PASSWORD "\n", strlen(PASSWORD "\n")),
			 strlen(PASSWORD "\n"));
	close(fd);
}

static void users_have_to_say_their_password(void **state)
{
	g_autofree char *good = g_build_filename(folder, "good", NULL);
	g_autofree char *bad = g_build_filename(folder, "bad", NULL);
	g_autofree char *add_user = NULL;
	char *endpoints[] = { NULL, NULL };
	colo_pair pair = pair_on(endpoints, 30000);
	g_autoptr(colo_arbiter) alpha = NULL, nobody = NULL, wrong = NULL;
	g_autoptr(GError) error = NULL;
	struct test_etcd own;

	test_etcd_start(&own, NULL);
	endpoints[0] = own.url;
	write_password(good);
	run_shell("umask 077; echo wrong >bad");
	add_user = g_strdup_printf("ETCDCTL_API=3 etcdctl --endpoints=%s user add "
				   "\"colo:$(cat good)\"",
				   own.url);
	test_etcd_ctl(&own, "user", "add", "root:toor", NULL);
	run_shell(add_user);
	test_etcd_ctl(&own, "role", "add", "pair", NULL);
	test_etcd_ctl(&own, "role", "grant-permission", "pair", "readwrite",
		      "/colo/shop", NULL);
	test_etcd_ctl(&own, "user", "grant-role", "colo", "pair", NULL);
	test_etcd_ctl(&own, "user", "grant-role", "root", "root", NULL);
	test_etcd_ctl(&own, "auth", "enable", NULL);
	nobody = new_on(&pair, 0);
	expect_why(nobody, CREATE, COLO_VERDICT_UNREACHABLE, "user name is empty");
	pair.arbiter.user = (char *)"colo";
	assert_null(colo_arbiter_new(&pair, 0, &error));
	g_clear_error(&error);
	pair.arbiter.password_file = bad;
	wrong = new_on(&pair, 0);
	expect_why(wrong, CREATE, COLO_VERDICT_UNREACHABLE, "authentication failed");
	pair.arbiter.password_file = good;
	alpha = new_on(&pair, 0);
	assert_string_equal(ask(alpha, CREATE, 1), "granted solo alpha 1");
	assert_string_equal(ask(alpha, PROTECT, 1), "granted protected 1");
	if (!SANITIZED)
		expect_password_nowhere();
	/* Its tokens are forgotten when it starts again. */
	test_etcd_kill(&own);
	test_etcd_start_again(&own);
	assert_string_equal(ask(alpha, CLAIM, 1), "granted solo alpha 2");
	pair.name = (char *)"other";
	colo_arbiter_free(g_steal_pointer(&alpha));
	alpha = new_on(&pair, 0);
	expect_why(alpha, CREATE, COLO_VERDICT_UNREACHABLE, "permission denied");
	/* A password file that others may read. */
	assert_int_equal(g_chmod(good, 0644), 0);
	assert_null(colo_arbiter_new(&pair, 0, &error));
	assert_true(g_error_matches(error, COLO_ERROR, COLO_ERROR_CONFIG));
	assert_non_null(strstr(error->message, "0600"));
	assert_null(strstr(error->message, "c0ffee"));
	test_etcd_clear(&own);
}

static void tls_takes_the_certificates_of_both_sides(void **state)
{
	g_autofree char *ca = g_build_filename(folder, "ca.pem", NULL);
	g_autofree char *other_ca = g_build_filename(folder, "other-ca.pem", NULL);
	g_autofree char *cert = g_build_filename(folder, "client.pem", NULL);
	g_autofree char *key = g_build_filename(folder, "client.key", NULL);
	char *endpoints[] = { NULL, NULL };
	colo_pair pair = pair_on(endpoints, 30000), strange, unnamed;
	g_autoptr(colo_arbiter) alpha = NULL, stranger = NULL, no_cert = NULL;
	g_autoptr(GError) error = NULL;
	struct test_etcd own;

	run_shell(
		"umask 077\n"
		"for name in ca other-ca; do openssl req -x509 -newkey ec -pkeyopt "
		"ec_paramgen_curve:prime256v1 -nodes -keyout $name.key -out $name.pem "
		"-subj /CN=$name -days 2; done\n"
		"printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,"
		"clientAuth\\n' >extensions\n"
		"for name in server client; do openssl req -newkey ec -pkeyopt "
		"ec_paramgen_curve:prime256v1 -nodes -keyout $name.key -out $name.csr "
		"-subj /CN=$name; openssl x509 -req -in $name.csr -CA ca.pem -CAkey "
		"ca.key "
		"-CAcreateserial -out $name.pem -days 2 -extfile extensions; done\n");
	test_etcd_start(&own, folder);
	endpoints[0] = own.url;
	pair.arbiter.ca = ca;
	unnamed = pair;
	pair.arbiter.cert = cert;
	pair.arbiter.cert_key = key;
	strange = pair;
	strange.arbiter.ca = other_ca;
	alpha = new_on(&pair, 0);
	stranger = new_on(&strange, 0);
	no_cert = new_on(&unnamed, 0);
	expect_why(stranger, CREATE, COLO_VERDICT_UNREACHABLE, "certificate");
	expect_why(no_cert, CREATE, COLO_VERDICT_UNREACHABLE, own.url);
	assert_string_equal(ask(alpha, CREATE, 1), "granted solo alpha 1");
	assert_string_equal(ask(alpha, PROTECT, 1), "granted protected 1");
	assert_string_equal(ask(alpha, CLAIM, 1), "granted solo alpha 2");
	assert_int_equal(g_chmod(key, 0640), 0);
	assert_null(colo_arbiter_new(&pair, 0, &error));
	assert_non_null(strstr(error->message, "has mode 0640"));
	g_clear_error(&error);
	assert_int_equal(g_chmod(key, 0600), 0);
	g_unlink(cert);
	assert_null(colo_arbiter_new(&pair, 0, &error));
	assert_non_null(strstr(error->message, cert));
	test_etcd_clear(&own);
}

static int compare_times(const void *one, const void *other)
{
	guint64 a = *(const guint64 *)one, b = *(const guint64 *)other;

	return a < b ? -1 : a > b;
}

static void claims_are_timed(void **state)
{
	char *endpoints[] = { etcd.url, NULL };
	const colo_pair pair = pair_on(endpoints, 30000);
	g_autoptr(colo_arbiter) alpha = new_on(&pair, 0);
	guint64 took[200];

	assert_string_equal(ask(alpha, CREATE, 1), "granted solo alpha 1");
	for (guint i = 0; i < G_N_ELEMENTS(took); i++) {
		struct test_answer answer = { 0 };
		guint64 began;

		begin(alpha, PROTECT, i + 1, &answer);
		test_wait(&answer);
		began = base_clock_monotonic_ns();
		begin(alpha, CLAIM, i + 1, &answer);
		test_wait(&answer);
		took[i] = base_clock_monotonic_ns() - began;
		assert_int_equal(answer.verdict, COLO_VERDICT_GRANTED);
		test_answer_clear(&answer);
	}
	qsort(took, G_N_ELEMENTS(took), sizeof(took[0]), compare_times);
	printf("# a claim takes p50 %.2f ms, p99 %.2f ms, at most %.2f ms\n",
	       (double)took[100] / 1e6, (double)took[198] / 1e6,
	       (double)took[199] / 1e6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_pair_goes_through_its_life, start),
		cmocka_unit_test_setup(
			force_makes_a_record_from_nothing_or_from_rubbish, start),
		cmocka_unit_test_setup(records_written_in_other_words_are_understood,
				       start),
		cmocka_unit_test_setup(a_record_of_others_or_of_nobody_grants_nothing,
				       start),
		cmocka_unit_test_setup(
			a_dead_endpoint_costs_little_and_all_dead_is_unreachable,
			start),
		cmocka_unit_test_setup(a_frozen_endpoint_is_given_up_for_the_next,
				       start),
		cmocka_unit_test_setup(a_server_started_again_keeps_or_loses_the_record,
				       start),
		cmocka_unit_test_setup(what_is_cancelled_or_freed_is_not_heard_of,
				       start),
		cmocka_unit_test_setup(users_have_to_say_their_password, start),
		cmocka_unit_test_setup(tls_takes_the_certificates_of_both_sides, start),
		cmocka_unit_test_setup(one_of_two_that_claim_at_once_wins, start),
		cmocka_unit_test_setup(claims_are_timed, start),
	};

	if (!test_etcd_available()) {
		printf("SKIPPED: no etcd and etcdctl here: make deps\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, make_folder, remove_all);
}
