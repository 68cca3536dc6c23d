/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Linked to a cmocka program: runs only the test that $ONLY names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

static void __attribute__((constructor)) choose(void)
{
	const char *only = getenv("ONLY");

	if (only)
		cmocka_set_test_filter(only);
}
