/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTP on libcurl's multi interface.
 *
 * libcurl says which sockets it waits for and how long at most; each becomes a source
 * of the main loop. Names are resolved by threads of libcurl's, which are left alone if
 * they are not done when a transfer ends. What it frees is wiped, for it copies
 * passwords.
 */
#include "colo/http.h"

#include <curl/curl.h>
#include <glib-unix.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "colo/pair.h"

#define IDLE_MAX_S 86400L /* after which a connection is not used again */

struct colo_http {
	CURLM *multi;
	CURL *easy;
	struct curl_slist *headers;
	GHashTable *sockets; /* descriptor -> GSource */
	guint timer;
	gboolean busy;
	GString *body;
	gsize header_bytes;
	gboolean too_long;
	char problem[CURL_ERROR_SIZE];
	colo_http_done done;
	void *data;
};

static void wiping_free(void *memory)
{
	if (memory)
		explicit_bzero(memory, malloc_usable_size(memory));
	free(memory);
}

static void *wiping_realloc(void *memory, size_t size)
{
	size_t old = memory ? malloc_usable_size(memory) : 0;
	void *grown = malloc(size);

	if (!grown)
		return NULL;
	if (memory)
		memcpy(grown, memory, MIN(old, size));
	wiping_free(memory);
	return grown;
}

static gpointer init_once(gpointer none)
{
	CURLcode code = curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, wiping_free,
					     wiping_realloc, strdup, calloc);

	return GINT_TO_POINTER(code == CURLE_OK);
}

/* Ends what is under way, heard by nobody. */
void colo_http_cancel(colo_http *http)
{
	if (!http->busy)
		return;
	http->busy = FALSE;
	curl_multi_remove_handle(http->multi, http->easy);
	curl_slist_free_all(http->headers);
	http->headers = NULL;
}

/* Whether the server may have had the request all the same. */
static gboolean is_unknown(CURLcode result)
{
	return result == CURLE_OPERATION_TIMEDOUT || result == CURLE_GOT_NOTHING ||
	       result == CURLE_RECV_ERROR || result == CURLE_SEND_ERROR ||
	       result == CURLE_PARTIAL_FILE;
}

static void tell(colo_http *http, CURLcode result)
{
	g_autoptr(GString) body = g_steal_pointer(&http->body);
	g_autofree char *problem = NULL;
	long status = 0;

	http->body = g_string_new(NULL);
	if (http->too_long)
		problem = g_strdup_printf("an answer of more than %u bytes",
					  COLO_HTTP_ANSWER_MAX);
	else if (result == CURLE_OPERATION_TIMEDOUT)
		problem = g_strdup("no answer in time");
	else if (result != CURLE_OK)
		problem = g_strdup(http->problem[0] ? http->problem
						    : curl_easy_strerror(result));
	curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
	colo_http_cancel(http);
	/* It may free the client. */
	http->done(http->data, problem, is_unknown(result), (guint)status, body->str,
		   body->len);
}

/* The last thing that a source's function does: `http` may be gone afterwards. */
static void look_for_end(colo_http *http)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(http->multi, &left))) {
		if (message->msg == CURLMSG_DONE && http->busy) {
			tell(http, message->data.result);
			return;
		}
	}
}

static gboolean on_socket(gint fd, GIOCondition condition, gpointer data)
{
	colo_http *http = data;
	int running, events = 0;

	if (condition & G_IO_IN)
		events |= CURL_CSELECT_IN;
	if (condition & G_IO_OUT)
		events |= CURL_CSELECT_OUT;
	if (condition & (G_IO_ERR | G_IO_HUP | G_IO_NVAL))
		events |= CURL_CSELECT_ERR;
	curl_multi_socket_action(http->multi, fd, events, &running);
	look_for_end(http);
	return G_SOURCE_CONTINUE;
}

static gboolean on_timer(gpointer data)
{
	colo_http *http = data;
	int running;

	http->timer = 0;
	curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	look_for_end(http);
	return G_SOURCE_REMOVE;
}

static int want_timer(CURLM *multi, long timeout_ms, void *data)
{
	colo_http *http = data;

	g_clear_handle_id(&http->timer, g_source_remove);
	if (timeout_ms >= 0)
		http->timer =
			g_timeout_add((guint)MIN(timeout_ms, 3600000), on_timer, http);
	return 0;
}

static void end_source(gpointer data)
{
	g_source_destroy(data);
	g_source_unref(data);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *own)
{
	colo_http *http = data;
	GIOCondition condition = 0;
	GSource *source;

	g_hash_table_remove(http->sockets, GINT_TO_POINTER(fd));
	if (what == CURL_POLL_REMOVE)
		return 0;
	if (what & CURL_POLL_IN)
		condition |= G_IO_IN;
	if (what & CURL_POLL_OUT)
		condition |= G_IO_OUT;
	source = g_unix_fd_source_new(fd, condition);
	g_source_set_callback(source, G_SOURCE_FUNC(on_socket), http, NULL);
	g_source_attach(source, NULL);
	g_hash_table_insert(http->sockets, GINT_TO_POINTER(fd), source);
	return 0;
}

static size_t take_body(char *bytes, size_t one, size_t length, void *data)
{
	colo_http *http = data;

	if (length > COLO_HTTP_ANSWER_MAX - http->body->len) {
		http->too_long = TRUE;
		return 0;
	}
	g_string_append_len(http->body, bytes, (gssize)length);
	return length;
}

static size_t take_header(char *bytes, size_t one, size_t length, void *data)
{
	colo_http *http = data;

	if (length > COLO_HTTP_ANSWER_MAX - http->header_bytes) {
		http->too_long = TRUE;
		return 0;
	}
	http->header_bytes += length;
	return length;
}

static gboolean set_options(colo_http *http, const struct colo_http_tls *tls)
{
	CURL *easy = http->easy;
	gboolean good = TRUE;

#define SET(option, value) good = good && !curl_easy_setopt(easy, option, value)
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L); /* else a resolver that hangs would hang us */
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_MAXAGE_CONN, IDLE_MAX_S);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (tls->ca)
		SET(CURLOPT_CAINFO, tls->ca);
	if (tls->cert)
		SET(CURLOPT_SSLCERT, tls->cert);
	if (tls->key)
		SET(CURLOPT_SSLKEY, tls->key);
	SET(CURLOPT_ERRORBUFFER, http->problem);
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_WRITEDATA, http);
	SET(CURLOPT_HEADERFUNCTION, take_header);
	SET(CURLOPT_HEADERDATA, http);
	SET(CURLOPT_POST, 1L);
#undef SET
	return good &&
	       !curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, want_socket) &&
	       !curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http) &&
	       !curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, want_timer) &&
	       !curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
}

colo_http *colo_http_new(const struct colo_http_tls *tls, GError **error)
{
	static GOnce once = G_ONCE_INIT;
	g_autoptr(colo_http) http = g_new0(colo_http, 1);

	http->sockets = g_hash_table_new_full(NULL, NULL, NULL, end_source);
	http->body = g_string_new(NULL);
	if (g_once(&once, init_once, NULL)) {
		http->multi = curl_multi_init();
		http->easy = curl_easy_init();
	}
	if (http->multi && http->easy && set_options(http, tls))
		return g_steal_pointer(&http);
	g_set_error(error, COLO_ERROR, COLO_ERROR_HOST,
		    "libcurl (%s) cannot do what is needed: HTTP and TLS by GnuTLS or "
		    "OpenSSL",
		    curl_version());
	return NULL;
}

void colo_http_post(colo_http *http, const char *url, const char *token,
		    const char *body, gsize length, guint timeout_ms,
		    colo_http_done done, void *data)
{
	CURL *easy = http->easy;

	g_assert(!http->busy);
	http->busy = TRUE;
	http->done = done;
	http->data = data;
	http->too_long = FALSE;
	http->header_bytes = 0;
	http->problem[0] = '\0';
	g_string_truncate(http->body, 0);
	/* A small body needs no leave by "100 Continue". */
	http->headers = curl_slist_append(NULL, "Expect:");
	http->headers =
		curl_slist_append(http->headers, "Content-Type: application/json");
	if (token) {
		g_autofree char *header = g_strconcat("Authorization: ", token, NULL);

		http->headers = curl_slist_append(http->headers, header);
	}
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, http->headers);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)length);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)MAX(timeout_ms, 1));
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)MAX(timeout_ms, 1));
	/* It asks for a timer, and begins when that comes. */
	curl_multi_add_handle(http->multi, easy);
}

void colo_http_free(colo_http *http)
{
	if (!http)
		return;
	colo_http_cancel(http);
	if (http->easy)
		curl_easy_cleanup(http->easy);
	if (http->multi)
		curl_multi_cleanup(http->multi);
	g_clear_handle_id(&http->timer, g_source_remove);
	g_hash_table_destroy(http->sockets);
	g_string_free(http->body, TRUE);
	g_free(http);
}
