/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes wrong between two processes: the errors of keys, sockets and channels. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <glib.h>

#define BASE_CHANNEL_ERROR base_channel_error_quark()
GQuark base_channel_error_quark(void);
enum base_channel_error {
	BASE_CHANNEL_KEY, /* the key file cannot be used, or the peer has another key */
	BASE_CHANNEL_CLOSED, /* the peer ended the connection in good order */
	BASE_CHANNEL_LOST, /* no connection, or it broke, was aborted, or a deadline
			      passed */
	BASE_CHANNEL_PROTOCOL, /* the peer sent what is not allowed */
	BASE_CHANNEL_ADDRESS, /* an address is no such thing, or is not ours to listen
				 on */
};

#endif
