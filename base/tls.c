/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The TLS 1.3 session of a channel, by GnuTLS; the only file that knows it.
 *
 * The key exchange is the pre-shared key together with ephemeral Diffie-Hellman, so
 * that a key that gets known later does not open what was recorded before. Nothing else
 * is on offer: no older version, no certificate, no resumption.
 *
 * GnuTLS reads from and writes to two buffers here. Writing never fails for want of
 * room, so a call into GnuTLS is never cut in two by a socket, and locks are held for
 * one record at most. Several records share a system call.
 *
 * New keys. AES-GCM may seal 2^24.5 records with one key (RFC 8446, 5.5). GnuTLS would
 * change it by itself in the midst of sending, which it does not allow while another
 * thread receives (its manual, "Thread safety"): both directions hang on one table of
 * keys. So that is switched off, and a change, ours or the peer's, happens here under
 * both locks, `opening` before `sealing`. That table has room for four keys only; the
 * oldest in use by either direction keeps its place. So whoever sees the peer change
 * its key changes its own at once, and nobody is more than two changes ahead.
 */
#include "base/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <string.h>
#include <sys/socket.h>

#define IDENTITY "colo"
/* By preference. Suites with SHA-384 do not go with an external key, whose hash is
 * SHA-256 (RFC 8446, 4.2.11): so no AES-256. */
#define PRIORITY                                                                     \
	"NONE:+VERS-TLS1.3:+AEAD:+AES-128-GCM:+CHACHA20-POLY1305:"                   \
	"+GROUP-X25519:+GROUP-SECP256R1:+ECDHE-PSK:+SIGN-ALL:%DISABLE_TLS13_COMPAT_" \
	"MODE"

#define IN_SIZE (128u << 10)
#define OUT_SIZE (256u << 10)
#define OVERHEAD 256u /* more than a record has beyond its contents */
#define SLACK 4096u /* for alerts and changes of key */
#define RECORDS_SOFT (G_GUINT64_CONSTANT(1) << 22) /* 64 GiB; then a new key */
#define RECORDS_HARD (G_GUINT64_CONSTANT(1) << 24)
#define AHEAD_MAX 2

struct base_tls {
	gnutls_session_t session;
	gnutls_psk_client_credentials_t client;
	gnutls_psk_server_credentials_t server;
	const base_key *key; /* while shaking hands */
	gboolean server_side, asked; /* the peer offered our identity */

	/* Opening: one thread, and whoever changes a key. */
	GMutex opening;
	guint8 *in;
	gsize in_start, in_end;
	gboolean hungry; /* GnuTLS wanted more than there was */
	gboolean partial; /* it has bytes of a record that is not whole */
	gboolean changing; /* `sealing` is held too, for a change of the peer's key */

	/* Sealing: one thread, and whoever changes a key. */
	GMutex sealing;
	guint8 *out;
	gsize out_start, out_end;
	guint64 records; /* by the present key */
	gint ours, peers; /* changes of key; written under both locks */
};

static gboolean refuse(GError **error, enum base_channel_error code, const char *format,
		       ...) G_GNUC_PRINTF(3, 4);
static gboolean refuse(GError **error, enum base_channel_error code, const char *format,
		       ...)
{
	va_list args;

	va_start(args, format);
	if (error)
		*error =
			g_error_new_valist(BASE_CHANNEL_ERROR, (int)code, format, args);
	va_end(args);
	return FALSE;
}

/* GnuTLS takes memory of its own allocator and wipes it. */
static gboolean copy_key(const base_tls *tls, gnutls_datum_t *key)
{
	gsize length;
	const guint8 *bytes = base_key_bytes(tls->key, &length);

	key->data = gnutls_malloc(length);
	if (!key->data)
		return FALSE;
	memcpy(key->data, bytes, length);
	key->size = (unsigned)length;
	return TRUE;
}

static int server_key(gnutls_session_t session, const char *identity,
		      gnutls_datum_t *key)
{
	base_tls *tls = gnutls_session_get_ptr(session);

	if (g_strcmp0(identity, IDENTITY) || !copy_key(tls, key))
		return -1;
	tls->asked = TRUE;
	return 0;
}

static int client_key(gnutls_session_t session, char **identity, gnutls_datum_t *key)
{
	base_tls *tls = gnutls_session_get_ptr(session);

	*identity = gnutls_malloc(sizeof(IDENTITY));
	if (!*identity)
		return -1;
	memcpy(*identity, IDENTITY, sizeof(IDENTITY));
	return copy_key(tls, key) ? 0 : -1;
}

static ssize_t pull(gnutls_transport_ptr_t data, void *where, size_t room)
{
	base_tls *tls = data;
	gsize n = MIN(room, tls->in_end - tls->in_start);

	if (!n) {
		tls->hungry = TRUE;
		errno = EAGAIN;
		return -1;
	}
	memcpy(where, tls->in + tls->in_start, n);
	tls->in_start += n;
	tls->partial = TRUE;
	return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t data, unsigned ms)
{
	base_tls *tls = data;

	return tls->in_end > tls->in_start;
}

static gsize tail_room(const base_tls *tls)
{
	return OUT_SIZE - tls->out_end;
}

/* All or nothing; callers see to it that there is room. */
static ssize_t push(gnutls_transport_ptr_t data, const giovec_t *iov, int count)
{
	base_tls *tls = data;
	gsize total = 0;

	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	if (total > tail_room(tls)) {
		memmove(tls->out, tls->out + tls->out_start,
			tls->out_end - tls->out_start);
		tls->out_end -= tls->out_start;
		tls->out_start = 0;
	}
	if (total > tail_room(tls)) {
		errno = ENOBUFS;
		return -1;
	}
	for (int i = 0; i < count; i++) {
		memcpy(tls->out + tls->out_end, iov[i].iov_base, iov[i].iov_len);
		tls->out_end += iov[i].iov_len;
	}
	return (ssize_t)total;
}

static void unlock_change(base_tls *tls)
{
	if (tls->changing)
		g_mutex_unlock(&tls->sealing);
	tls->changing = FALSE;
}

/* After the handshake, nothing of a handshake may come but a new key. The opening
 * thread, with `opening`. */
static int on_handshake_message(gnutls_session_t session, unsigned type, unsigned when,
				unsigned incoming, const gnutls_datum_t *message)
{
	base_tls *tls = gnutls_session_get_ptr(session);

	if (!incoming)
		return 0;
	/* Nor is it ours to be told when to change our own: `1` asks for that. */
	if (type != GNUTLS_HANDSHAKE_KEY_UPDATE || message->size != 1 ||
	    message->data[0] != 0)
		return GNUTLS_E_UNEXPECTED_PACKET;
	if (when == GNUTLS_HOOK_PRE) {
		g_mutex_lock(&tls->sealing);
		tls->changing = TRUE;
	} else {
		g_atomic_int_inc(&tls->peers);
		tls->partial = FALSE;
	}
	return 0;
}

static int set_up(base_tls *tls)
{
	int rc = gnutls_priority_set_direct(tls->session, PRIORITY, NULL);

	if (rc == 0 && tls->server_side) {
		rc = gnutls_psk_allocate_server_credentials(&tls->server);
		if (rc == 0) {
			gnutls_psk_set_server_credentials_function(tls->server,
								   server_key);
			rc = gnutls_credentials_set(tls->session, GNUTLS_CRD_PSK,
						    tls->server);
		}
	} else if (rc == 0) {
		rc = gnutls_psk_allocate_client_credentials(&tls->client);
		if (rc == 0) {
			gnutls_psk_set_client_credentials_function(tls->client,
								   client_key);
			rc = gnutls_credentials_set(tls->session, GNUTLS_CRD_PSK,
						    tls->client);
		}
	}
	return rc;
}

base_tls *base_tls_new(gboolean server, const base_key *key, GError **error)
{
	g_autoptr(base_tls) tls = g_new0(base_tls, 1);
	int rc;

	g_mutex_init(&tls->opening);
	g_mutex_init(&tls->sealing);
	tls->in = g_malloc(IN_SIZE);
	tls->out = g_malloc(OUT_SIZE);
	tls->key = key;
	tls->server_side = server;
	rc = gnutls_init(&tls->session, (server ? GNUTLS_SERVER : GNUTLS_CLIENT) |
						GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS |
						GNUTLS_NO_AUTO_REKEY |
						GNUTLS_NO_SIGNAL);
	if (rc == 0)
		rc = set_up(tls);
	if (rc != 0) {
		refuse(error, BASE_CHANNEL_LOST, "prepare TLS: %s",
		       gnutls_strerror(rc));
		return NULL;
	}
	gnutls_session_set_ptr(tls->session, tls);
	gnutls_transport_set_ptr(tls->session, tls);
	gnutls_transport_set_pull_function(tls->session, pull);
	gnutls_transport_set_pull_timeout_function(tls->session, pull_timeout);
	gnutls_transport_set_vec_push_function(tls->session, push);
	return g_steal_pointer(&tls);
}

void base_tls_free(base_tls *tls)
{
	if (!tls)
		return;
	if (tls->session)
		gnutls_deinit(tls->session);
	if (tls->client)
		gnutls_psk_free_client_credentials(tls->client);
	if (tls->server)
		gnutls_psk_free_server_credentials(tls->server);
	g_mutex_clear(&tls->opening);
	g_mutex_clear(&tls->sealing);
	g_free(tls->in);
	g_free(tls->out);
	g_free(tls);
}

/* A server that does not accept our key says so by one of these. */
static gboolean refuses_key(gnutls_alert_description_t alert)
{
	switch (alert) {
	case GNUTLS_A_ILLEGAL_PARAMETER: /* GnuTLS */
	case GNUTLS_A_DECRYPT_ERROR: /* RFC 8446, 4.2.11.2 */
	case GNUTLS_A_UNKNOWN_PSK_IDENTITY:
	case GNUTLS_A_HANDSHAKE_FAILURE:
		return TRUE;
	default:
		return FALSE;
	}
}

static void explain_handshake(base_tls *tls, int rc, GError **error)
{
	gnutls_alert_description_t alert;

	switch (rc) {
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		alert = gnutls_alert_get(tls->session);
		if (refuses_key(alert))
			refuse(error, BASE_CHANNEL_KEY,
			       "the peer has another key: it refuses ours (%s)",
			       gnutls_alert_get_name(alert));
		else
			refuse(error, BASE_CHANNEL_PROTOCOL,
			       "the peer ends the handshake: %s",
			       gnutls_alert_get_name(alert));
		return;
	case GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER:
	case GNUTLS_E_SRP_PWD_ERROR:
		if (tls->asked)
			refuse(error, BASE_CHANNEL_KEY, "the peer has another key");
		else
			refuse(error, BASE_CHANNEL_KEY,
			       "the peer has no key of a pair");
		return;
	case GNUTLS_E_UNEXPECTED_PACKET_LENGTH:
	case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
	case GNUTLS_E_UNEXPECTED_PACKET:
	case GNUTLS_E_RECORD_OVERFLOW:
		refuse(error, BASE_CHANNEL_PROTOCOL,
		       "the peer does not speak TLS 1.3: %s", gnutls_strerror(rc));
		return;
	default:
		refuse(error, BASE_CHANNEL_PROTOCOL, "handshake: %s",
		       gnutls_strerror(rc));
	}
}

/* What the priorities say, asked of the session itself. */
static gboolean check_agreed(base_tls *tls, GError **error)
{
	if (gnutls_protocol_get_version(tls->session) != GNUTLS_TLS1_3 ||
	    gnutls_kx_get(tls->session) != GNUTLS_KX_ECDHE_PSK)
		return refuse(
			error, BASE_CHANNEL_PROTOCOL,
			"the handshake ended without TLS 1.3, key and Diffie-Hellman");
	return TRUE;
}

enum base_tls_progress base_tls_handshake(base_tls *tls, GError **error)
{
	int rc;

	do {
		tls->hungry = FALSE;
		rc = gnutls_handshake(tls->session);
	} while (rc < 0 && !gnutls_error_is_fatal(rc) && !tls->hungry);
	if (rc < 0 && !gnutls_error_is_fatal(rc))
		return BASE_TLS_HUNGRY;
	tls->key = NULL;
	if (rc < 0) {
		explain_handshake(tls, rc, error);
		if (rc != GNUTLS_E_FATAL_ALERT_RECEIVED)
			(void)!gnutls_alert_send_appropriate(tls->session, rc);
		return BASE_TLS_FAILED;
	}
	if (!check_agreed(tls, error))
		return BASE_TLS_FAILED;
	tls->partial = FALSE;
	gnutls_handshake_set_hook_function(tls->session, GNUTLS_HANDSHAKE_ANY,
					   GNUTLS_HOOK_BOTH, on_handshake_message);
	return BASE_TLS_DONE;
}

gssize base_tls_fill(base_tls *tls, int fd)
{
	gssize n;

	g_mutex_lock(&tls->opening);
	if (tls->in_start == tls->in_end)
		tls->in_start = tls->in_end = 0;
	g_assert(tls->in_end < IN_SIZE);
	do
		n = recv(fd, tls->in + tls->in_end, IN_SIZE - tls->in_end,
			 MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		tls->in_end += (gsize)n;
	else if (n < 0)
		n = -errno;
	g_mutex_unlock(&tls->opening);
	return n;
}

int base_tls_drain(base_tls *tls, int fd)
{
	int result = 0;

	g_mutex_lock(&tls->sealing);
	while (tls->out_start < tls->out_end && result == 0) {
		ssize_t n = send(fd, tls->out + tls->out_start,
				 tls->out_end - tls->out_start,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0)
			tls->out_start += (gsize)n;
		else if (errno != EINTR)
			result = -errno;
	}
	if (tls->out_start == tls->out_end)
		tls->out_start = tls->out_end = 0;
	g_mutex_unlock(&tls->sealing);
	return result;
}

gsize base_tls_pending(base_tls *tls)
{
	gsize pending;

	g_mutex_lock(&tls->sealing);
	pending = tls->out_end - tls->out_start;
	g_mutex_unlock(&tls->sealing);
	return pending;
}

gboolean base_tls_has_room(base_tls *tls)
{
	return base_tls_pending(tls) + BASE_TLS_RECORD_MAX + OVERHEAD + SLACK <=
	       OUT_SIZE;
}

/* With both locks. */
static gboolean change_key(base_tls *tls, GError **error)
{
	int rc = gnutls_session_key_update(tls->session, 0);

	if (rc < 0)
		return refuse(error, BASE_CHANNEL_LOST, "change the key: %s",
			      gnutls_strerror(rc));
	tls->records = 0;
	g_atomic_int_inc(&tls->ours);
	return TRUE;
}

/* Takes `sealing`, and returns with it; the sealing thread. */
static gboolean lock_fresh(base_tls *tls, GError **error)
{
	gboolean good = TRUE;

	g_mutex_lock(&tls->sealing);
	if (tls->records < RECORDS_SOFT)
		return TRUE;
	/* Both locks, in their order. */
	g_mutex_unlock(&tls->sealing);
	g_mutex_lock(&tls->opening);
	g_mutex_lock(&tls->sealing);
	if (tls->records >= RECORDS_SOFT && tls->ours - tls->peers < AHEAD_MAX)
		good = change_key(tls, error);
	else if (tls->records >= RECORDS_HARD)
		good = refuse(error, BASE_CHANNEL_LOST,
			      "the peer does not change its key, so ours is worn out");
	g_mutex_unlock(&tls->opening);
	return good;
}

gboolean base_tls_seal(base_tls *tls, const void *bytes, gsize length, GError **error)
{
	gboolean good = lock_fresh(tls, error);
	ssize_t n;

	g_assert(length > 0 && length <= BASE_TLS_RECORD_MAX);
	if (good) {
		n = gnutls_record_send(tls->session, bytes, length);
		tls->records++;
		if (n < 0)
			good = refuse(error, BASE_CHANNEL_LOST, "seal a record: %s",
				      gnutls_strerror((int)n));
		else
			g_assert((gsize)n == length);
	}
	g_mutex_unlock(&tls->sealing);
	return good;
}

static enum base_tls_progress explain_open(base_tls *tls, int rc, GError **error)
{
	switch (rc) {
	case 0:
		refuse(error, BASE_CHANNEL_CLOSED, "the peer ended the connection");
		break;
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
	case GNUTLS_E_WARNING_ALERT_RECEIVED:
		refuse(error, BASE_CHANNEL_PROTOCOL, "the peer sends an alert: %s",
		       gnutls_alert_get_name(gnutls_alert_get(tls->session)));
		break;
	case GNUTLS_E_DECRYPTION_FAILED:
		refuse(error, BASE_CHANNEL_PROTOCOL,
		       "a record that the peer did not send so (decryption failed)");
		break;
	default:
		refuse(error, BASE_CHANNEL_PROTOCOL, "open a record: %s",
		       gnutls_strerror(rc));
	}
	return BASE_TLS_FAILED;
}

/* The peer changed its key, so we do. With `opening`, and `sealing` if it has. */
static gboolean follow_peer(base_tls *tls, GError **error)
{
	if (!tls->changing || tls->ours >= tls->peers)
		return TRUE;
	if (OUT_SIZE - (tls->out_end - tls->out_start) < OVERHEAD)
		return refuse(error, BASE_CHANNEL_PROTOCOL,
			      "the peer changes keys and reads nothing");
	return change_key(tls, error);
}

enum base_tls_progress base_tls_open(base_tls *tls, void *where, gsize room, gsize *got,
				     GError **error)
{
	enum base_tls_progress progress = BASE_TLS_DONE;
	gboolean followed;
	ssize_t n;

	g_mutex_lock(&tls->opening);
	do {
		tls->hungry = FALSE;
		n = gnutls_record_recv(tls->session, where, room);
		followed = n == 0 || gnutls_error_is_fatal((int)n) ||
			   follow_peer(tls, error);
		unlock_change(tls);
	} while (followed && (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) &&
		 !tls->hungry);
	if (!followed) {
		progress = BASE_TLS_FAILED;
	} else if (n > 0) {
		*got = (gsize)n;
		tls->partial = FALSE;
	} else if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
		progress = BASE_TLS_HUNGRY;
	} else {
		progress = explain_open(tls, (int)n, error);
	}
	g_mutex_unlock(&tls->opening);
	return progress;
}

gboolean base_tls_mid_record(const base_tls *tls)
{
	return tls->partial;
}

void base_tls_say_goodbye(base_tls *tls)
{
	g_mutex_lock(&tls->sealing);
	(void)!gnutls_bye(tls->session, GNUTLS_SHUT_WR);
	g_mutex_unlock(&tls->sealing);
}

void base_tls_rekey(base_tls *tls)
{
	g_mutex_lock(&tls->sealing);
	tls->records = MAX(tls->records, RECORDS_SOFT);
	g_mutex_unlock(&tls->sealing);
}

void base_tls_get_rekeys(base_tls *tls, guint64 *ours, guint64 *peers)
{
	*ours = (guint64)g_atomic_int_get(&tls->ours);
	*peers = (guint64)g_atomic_int_get(&tls->peers);
}
