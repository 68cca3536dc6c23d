/* SPDX-License-Identifier: GPL-2.0-or-later */
/* guestd.h: what the files of guestd share. */
#ifndef GUESTD_H
#define GUESTD_H

#include <stddef.h>

/* Prints why a service does not work: `what` and errno. */
void say(const char *service, const char *what);
/* 0, or -1 with errno. */
int write_all(int fd, const char *from, size_t len);
void start_thread(void *(*body)(void *), void *arg);
/* A socket of this type, bound to any address; -1 with errno. */
int bound_socket(int type, int port);
/* Serves each connection to a port by a thread of its own; closes it after `talk`. */
void listen_on(const char *service, int port, void (*talk)(int conn));

/* The fault harness' services (guestd_faults.c). */
void start_faults(void);

#endif
