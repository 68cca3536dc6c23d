/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capture files, read with libpcap. */
#include "netcompare/capture.h"

#include <errno.h>
#include <gio/gio.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <string.h>

#define ETHERNET_LEN 14u
#define PACKET_MAX (256u << 10) /* more than any link's */

struct ncmp_capture {
	char *path;
	pcap_t *pcap;
	int link;
	guint64 number;
	guint8 *frame; /* of bare IP: where a header is put before it */
};

static gboolean is_known(int link)
{
	return link == DLT_EN10MB || link == DLT_RAW || link == DLT_IPV4 ||
	       link == DLT_IPV6;
}

ncmp_capture *ncmp_capture_open(const char *path, GError **error)
{
	g_autoptr(ncmp_capture) capture = g_new0(ncmp_capture, 1);
	char why[PCAP_ERRBUF_SIZE] = "";
	const char *name;
	FILE *file = fopen(path, "rbe");
	int err = errno;

	if (!file) {
		g_set_error(error, G_IO_ERROR, g_io_error_from_errno(err),
			    "open %s: %s", path, g_strerror(err));
		return NULL;
	}
	capture->path = g_strdup(path);
	capture->pcap = pcap_fopen_offline_with_tstamp_precision(
		file, PCAP_TSTAMP_PRECISION_NANO, why);
	if (!capture->pcap) {
		fclose(file);
		g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
			    "%s: no capture: %s", path, why);
		return NULL;
	}
	capture->link = pcap_datalink(capture->pcap);
	if (!is_known(capture->link)) {
		name = pcap_datalink_val_to_name(capture->link);
		g_set_error(
			error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
			"%s: captured on a link of type %s (%d); Ethernet and raw IP "
			"can be read",
			path, name ? name : "unknown", capture->link);
		return NULL;
	}
	if (capture->link != DLT_EN10MB)
		capture->frame = g_malloc0(ETHERNET_LEN + PACKET_MAX);
	return g_steal_pointer(&capture);
}

void ncmp_capture_free(ncmp_capture *capture)
{
	if (!capture)
		return;
	if (capture->pcap)
		pcap_close(capture->pcap);
	g_free(capture->frame);
	g_free(capture->path);
	g_free(capture);
}

gboolean ncmp_capture_is_ethernet(const ncmp_capture *capture)
{
	return capture->link == DLT_EN10MB;
}

static enum ncmp_capture_read refuse(const ncmp_capture *capture, GError **error,
				     const char *format, ...) G_GNUC_PRINTF(3, 4);

static enum ncmp_capture_read refuse(const ncmp_capture *capture, GError **error,
				     const char *format, ...)
{
	g_autofree char *why = NULL;
	va_list args;

	va_start(args, format);
	why = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
		    "%s: packet %" G_GUINT64_FORMAT ": %s", capture->path,
		    capture->number, why);
	return NCMP_CAPTURE_ERROR;
}

static void put_ethernet(ncmp_capture *capture, struct ncmp_captured *packet)
{
	gboolean v6 = packet->len && packet->frame[0] >> 4 == 6;

	memcpy(capture->frame + ETHERNET_LEN, packet->frame, packet->len);
	memcpy(capture->frame + ETHERNET_LEN - 2, v6 ? "\x86\xdd" : "\x08\x00", 2);
	packet->frame = capture->frame;
	packet->len += ETHERNET_LEN;
}

enum ncmp_capture_read ncmp_capture_next(ncmp_capture *capture,
					 struct ncmp_captured *packet, GError **error)
{
	struct pcap_pkthdr *header;
	const u_char *bytes;
	int result = pcap_next_ex(capture->pcap, &header, &bytes);

	if (result == PCAP_ERROR_BREAK)
		return NCMP_CAPTURE_END;
	capture->number++;
	if (result != 1)
		return refuse(capture, error, "%s", pcap_geterr(capture->pcap));
	if (header->caplen != header->len)
		return refuse(
			capture, error,
			"only %u of its %u bytes are there; capture whole packets "
			"(tcpdump -s 0)",
			header->caplen, header->len);
	if (header->caplen > PACKET_MAX)
		return refuse(capture, error, "longer than any packet: %u bytes",
			      header->caplen);
	*packet = (struct ncmp_captured){
		.number = capture->number,
		.time_ns = header->ts.tv_sec * G_GINT64_CONSTANT(1000000000) +
			   header->ts.tv_usec, /* nanoseconds, as asked for */
		.frame = bytes,
		.len = header->caplen,
	};
	if (capture->frame)
		put_ethernet(capture, packet);
	return NCMP_CAPTURE_PACKET;
}
