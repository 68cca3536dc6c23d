/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capture files (pcap and pcapng), read packet by packet. They may come from anywhere:
 * what is in them is judged by libpcap and here. */
#ifndef NCMP_CAPTURE_H
#define NCMP_CAPTURE_H

#include <glib.h>

typedef struct ncmp_capture ncmp_capture;

/* G_IO_ERROR: it cannot be read, is no capture, or is one of links other than Ethernet
 * and bare IP. */
ncmp_capture *ncmp_capture_open(const char *path,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;
void ncmp_capture_free(ncmp_capture *capture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ncmp_capture, ncmp_capture_free)

/* Whether packets have the Ethernet header that they were captured with. */
gboolean ncmp_capture_is_ethernet(const ncmp_capture *capture);

struct ncmp_captured {
	guint64 number; /* from 1, as Wireshark counts */
	gint64 time_ns; /* since 1970 */
	const guint8
		*frame; /* good until the next; before bare IP: addresses of zeros */
	gsize len;
};

enum ncmp_capture_read {
	NCMP_CAPTURE_PACKET,
	NCMP_CAPTURE_END,
	NCMP_CAPTURE_ERROR, /* G_IO_ERROR: the file is broken, or a packet is not whole
			     */
};
enum ncmp_capture_read ncmp_capture_next(ncmp_capture *capture,
					 struct ncmp_captured *packet,
					 GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
