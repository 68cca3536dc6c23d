/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of the arbiters: a real etcd on loopback with a data folder of its own, a
 * server that answers what it is told to, and a way to ask an arbiter and wait for the
 * answer.
 */
#ifndef FAKE_ETCD_H
#define FAKE_ETCD_H

#include "colo/arbiter.h"

/* One that runs, or ran. */
struct test_etcd {
	char *folder, *url;
	guint client_port, peer_port;
	pid_t pid; /* 0: does not run */
	const char *certificates; /* folder with ca.pem, server.pem, server.key; NULL:
				     no TLS */
};

/* FALSE: no etcd on this host. */
gboolean test_etcd_available(void);
/* Returns once it answers. */
void test_etcd_start(struct test_etcd *etcd, const char *certificates);
void test_etcd_start_again(struct test_etcd *etcd);
void test_etcd_kill(struct test_etcd *etcd);
void test_etcd_stop(struct test_etcd *etcd); /* SIGSTOP */
void test_etcd_continue(struct test_etcd *etcd);
void test_etcd_lose_data(struct test_etcd *etcd); /* not running */
/* Kills it, and removes its folder. */
void test_etcd_clear(struct test_etcd *etcd);
/* Runs etcdctl with these arguments and succeeds. */
void test_etcd_ctl(struct test_etcd *etcd, ...) G_GNUC_NULL_TERMINATED;

guint test_free_port(void);

/* What an arbiter said. */
struct test_answer {
	gboolean told;
	enum colo_verdict verdict;
	gboolean has_record;
	struct colo_arbiter_record record;
	char *why;
};
void test_told(void *data, enum colo_verdict verdict,
	       const struct colo_arbiter_record *record, const char *why);
/* Runs the main loop until it is told, 60 s at most. */
void test_wait(struct test_answer *answer);
void test_answer_clear(struct test_answer *answer);

#endif
