/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a fuzz target once over each file of the folders named: its corpus. */
#include <glib.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int main(int argc, char **argv)
{
	guint inputs = 0;

	for (int i = 1; i < argc; i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(GDir) dir = g_dir_open(argv[i], 0, &error);
		const char *name;

		if (!dir) {
			fprintf(stderr, "%s: %s\n", argv[0], error->message);
			return 1;
		}
		while ((name = g_dir_read_name(dir))) {
			g_autofree char *path = g_build_filename(argv[i], name, NULL);
			g_autofree char *bytes = NULL;
			gsize len;

			if (!g_file_get_contents(path, &bytes, &len, &error)) {
				fprintf(stderr, "%s: %s\n", argv[0], error->message);
				return 1;
			}
			/* A copy of exactly that size, so that ASan sees its end. */
			g_autofree guint8 *exact = g_memdup2(bytes, len);

			LLVMFuzzerTestOneInput(exact, len);
			inputs++;
		}
	}
	printf("%u inputs replayed\n", inputs);
	return inputs ? 0 : 1;
}
