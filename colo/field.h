/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking into a JSON document that somebody else made, and making it fit to be shown.
 * A member that is not there and one of another type are the same: nothing. `object`
 * may be NULL everywhere, so that one can look into what is not there. Any thread.
 */
#ifndef COLO_FIELD_H
#define COLO_FIELD_H

#include <json-glib/json-glib.h>

/* Characters of one text that is shown; the rest is "...". */
#define COLO_FIELD_TEXT_MAX 240u
/* Elements of one array or object that are shown. */
#define COLO_FIELD_MANY_MAX 64u

/* Borrowed from `object`. */
JsonObject *colo_field_object(JsonObject *object, const char *name);
JsonArray *colo_field_array(JsonObject *object, const char *name);
const char *colo_field_text(JsonObject *object, const char *name);
gboolean colo_field_is(JsonObject *object, const char *name, const char *text);
gboolean colo_field_true(JsonObject *object, const char *name);
gboolean colo_field_integer(JsonObject *object, const char *name,
			    gint64 *value) G_GNUC_WARN_UNUSED_RESULT;
/* Element `index` as an object. */
JsonObject *colo_field_element(JsonArray *array, guint index);

/* Whether it is safe on a terminal: no control character, none that changes the
 * direction or the order of what is around it, no end of a line. */
gboolean colo_field_is_shown(gunichar character);
/* `text` with all others as \n, \t, \x1b or \u{202e}, bytes that are no UTF-8 as \xff,
 * and cut after `max` characters; 0: not cut. The caller's to free. */
char *colo_field_clean(const char *text, gsize length, guint max);
/* A copy of a document whose texts and names are clean, and whose arrays and objects
 * have COLO_FIELD_MANY_MAX members at most. The caller's to unref. */
JsonObject *colo_field_clean_object(JsonObject *object);
/* A document as JSON, of one line or several; what is not safe on a terminal is \uXXXX.
 * The caller's to free. */
char *colo_field_json(JsonNode *node, gboolean pretty);

#endif
