/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `colo` shows of a pair, and that nothing in it can reach a terminal raw. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/protocol.h"
#include "colo/command.h"
#include "colo/field.h"
#include "colo/view.h"

static JsonObject *parsed(const char *text)
{
	g_autofree char *why = NULL;
	JsonObject *object = base_json_parse(text, strlen(text), &why);

	if (!object)
		fail_msg("%s: %s", text, why);
	return object;
}

/* No byte of `text` does anything on a terminal but end a line. */
static void is_safe(const char *text)
{
	assert_true(g_utf8_validate(text, -1, NULL));
	for (const char *at = text; *at; at = g_utf8_next_char(at)) {
		gunichar c = g_utf8_get_char(at);

		if (c != '\n' && !colo_field_is_shown(c))
			fail_msg("U+%04X in \"%s\"", c, text);
	}
}

static void has(const char *text, const char *piece)
{
	if (!strstr(text, piece))
		fail_msg("no \"%s\" in:\n%s", piece, text);
}

static void cleans(const char *text, gsize length, const char *expected)
{
	g_autofree char *clean = colo_field_clean(text, length, 0);

	assert_string_equal(clean, expected);
}

static void what_a_terminal_would_obey_is_written_out(void **state)
{
	cleans("plain", 5, "plain");
	cleans("a\x1b[2J", 5, "a\\x1b[2J");
	cleans("a\nb\tc\r", 6, "a\\nb\\tc\\x0d");
	cleans("a\0b", 3, "a\\x00b");
	cleans("\x7f", 1, "\\x7f");
	cleans("\xc2\x9b", 2, "\\x9b"); /* CSI of 8 bits */
	cleans("\xe2\x80\xae", 3, "\\u{202e}"); /* right to left from here */
	cleans("\xe2\x80\xa8", 3, "\\u{2028}"); /* ends a line */
	cleans("\xff\xc3", 2, "\\xff\\xc3"); /* no UTF-8 */
	cleans("\xc0\x80", 2, "\\xc0\\x80"); /* nor a NUL in disguise */
	cleans("gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc\xc3\x9f");
}

static void a_long_text_is_cut_between_characters(void **state)
{
	g_autofree char *two = colo_field_clean("\xc3\xbc\xc3\xbc\xc3\xbc", 6, 2);
	g_autofree char *all = colo_field_clean("abc", 3, 3);

	assert_string_equal(two, "\xc3\xbc\xc3\xbc...");
	assert_string_equal(all, "abc");
}

static void a_clean_copy_is_bounded_and_leaves_the_document_alone(void **state)
{
	g_autoptr(JsonObject) object =
		parsed("{\"a\\u001b\":[\"\\u0007\",1],\"n\":null}");
	g_autoptr(JsonObject) clean = NULL;
	g_autoptr(JsonArray) many = json_array_new();

	for (guint i = 0; i < 1000; i++)
		json_array_add_int_element(many, i);
	json_object_set_array_member(object, "many", json_array_ref(many));
	clean = colo_field_clean_object(object);
	assert_string_equal(
		json_array_get_string_element(colo_field_array(clean, "a\\x1b"), 0),
		"\\x07");
	assert_int_equal(json_array_get_length(colo_field_array(clean, "many")),
			 COLO_FIELD_MANY_MAX);
	assert_true(json_object_has_member(object, "a\x1b"));
}

static void a_member_of_another_type_is_none(void **state)
{
	g_autoptr(JsonObject) object = parsed("{\"n\":5,\"d\":5.9,\"big\":1e300,\"s\":"
					      "\"x\",\"t\":true,\"o\":{},\"a\":[1]}");
	gint64 value = 77;

	assert_true(colo_field_integer(object, "n", &value) && value == 5);
	assert_true(colo_field_integer(object, "d", &value) && value == 5);
	assert_false(colo_field_integer(object, "big", &value));
	assert_false(colo_field_integer(object, "s", &value));
	assert_false(colo_field_integer(object, "t", &value));
	assert_false(colo_field_integer(object, "none", &value));
	assert_false(colo_field_integer(NULL, "n", &value));
	assert_null(colo_field_text(object, "n"));
	assert_null(colo_field_object(object, "a"));
	assert_null(colo_field_array(object, "o"));
	assert_null(colo_field_element(colo_field_array(object, "a"), 0));
	assert_null(colo_field_element(NULL, 0));
	assert_false(colo_field_true(object, "n"));
	assert_true(colo_field_true(object, "t"));
}

static void json_stays_json_and_is_safe(void **state)
{
	g_autoptr(JsonObject) object =
		parsed("{\"a\":\"\\u001b\\u007f\\u009b\\u202e\\ud834\\udd73x\"}");
	g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), object);
	g_autofree char *json = colo_field_json(node, FALSE);
	g_autoptr(JsonObject) again = NULL;

	is_safe(json);
	again = parsed(json);
	assert_string_equal(colo_field_text(again, "a"), colo_field_text(object, "a"));
}

static void health(const char *json, enum colo_health expected)
{
	g_autoptr(JsonObject) status = parsed(json);

	if (colo_view_health(status) != expected)
		fail_msg("%s: %d", json, (int)colo_view_health(status));
}

static void health_is_what_monitoring_may_wake_people_for(void **state)
{
	health("{\"state\":\"protected\",\"protected\":true}", COLO_HEALTH_PROTECTED);
	health("{\"state\":\"standby\",\"protected\":true}", COLO_HEALTH_PROTECTED);
	health("{\"state\":\"protected\",\"protected\":false}",
	       COLO_HEALTH_UNPROTECTED);
	health("{\"state\":\"protected\"}", COLO_HEALTH_UNPROTECTED);
	health("{\"state\":\"protected\",\"protected\":\"true\"}",
	       COLO_HEALTH_UNPROTECTED);
	health("{\"state\":\"standby\",\"protected\":false,\"peer\":{\"alive\":true}}",
	       COLO_HEALTH_UNPROTECTED);
	health("{\"state\":\"standby\",\"protected\":false}", COLO_HEALTH_DOWN);
	health("{\"state\":\"solo\",\"protected\":true}", COLO_HEALTH_UNPROTECTED);
	health("{\"state\":\"solo\",\"guest\":{\"state\":\"ended\"}}",
	       COLO_HEALTH_DOWN);
	health("{\"state\":\"holding\",\"protected\":true}", COLO_HEALTH_DOWN);
	health("{\"state\":\"fenced\"}", COLO_HEALTH_DOWN);
	health("{\"state\":\"PROTECTED\",\"protected\":true}", COLO_HEALTH_UNKNOWN);
	health("{\"state\":null,\"protected\":true}", COLO_HEALTH_UNKNOWN);
	health("{\"state\":[\"protected\"],\"protected\":true}", COLO_HEALTH_UNKNOWN);
	health("{}", COLO_HEALTH_UNKNOWN);
}

static void the_worst_of_several_is_told(void **state)
{
	assert_int_equal(colo_view_worse(0, 1), 1);
	assert_int_equal(colo_view_worse(3, 1), 3);
	assert_int_equal(colo_view_worse(3, 2), 2);
	assert_int_equal(colo_view_worse(2, 3), 2);
	assert_int_equal(colo_view_worse(0, 0), 0);
}

static void brief(const char *json, const char *expected)
{
	g_autoptr(JsonObject) status = parsed(json);
	g_autofree char *line = colo_view_brief("web", status);

	assert_string_equal(line, expected);
}

static void brief_names_who_is_what(void **state)
{
	brief("{\"state\":\"protected\",\"protected\":true,\"role\":\"primary\","
	      "\"node\":\"alpha\",\"peer\":{\"name\":\"beta\"},\"generation\":7,"
	      "\"epoch\":1234}",
	      "web: protected, primary alpha, secondary beta, generation 7, epoch "
	      "1234");
	brief("{\"state\":\"protected\",\"protected\":false,\"role\":\"primary\","
	      "\"node\":\"alpha\",\"peer\":{\"name\":\"beta\"}}",
	      "web: protected (NOT PROTECTED), primary alpha, secondary beta");
	brief("{\"state\":\"joining\",\"role\":\"secondary\",\"node\":\"alpha\","
	      "\"peer\":{\"name\":\"beta\"}}",
	      "web: joining, primary beta, secondary alpha");
	brief("{\"state\":\"solo\",\"role\":\"primary\",\"node\":\"a\\nb\"}",
	      "web: solo, primary a\\nb, no secondary");
	brief("{}", "web: unknown, no primary, no secondary");
}

static void view_of(const char *json, gboolean colour, const char *piece)
{
	g_autoptr(JsonObject) status = parsed(json);
	g_autofree char *text = colo_view_status("web", status, colour);

	if (!colour)
		is_safe(text);
	has(text, piece);
}

static void figures_are_as_people_write_them(void **state)
{
	view_of("{\"since_ms\":999}", FALSE, "  for           999 ms\n");
	view_of("{\"since_ms\":59999}", FALSE, " 59 s\n");
	view_of("{\"since_ms\":3599999}", FALSE, " 59 min 59 s\n");
	view_of("{\"since_ms\":86399999}", FALSE, " 23 h 59 min\n");
	view_of("{\"since_ms\":90000000}", FALSE, " 1 d 1 h\n");
	view_of("{\"since_ms\":9223372036854775807}", FALSE, " d ");
	view_of("{\"since_ms\":-1}", FALSE, "  for           ?\n");
	view_of("{\"heartbeat\":{\"clock_offset_us\":-9223372036854775808}}", FALSE,
		"differ by -9223372036854775808 us");
	view_of("{\"heartbeat\":{\"clock_offset_us\":-2500}}", FALSE,
		"differ by -2.5 ms\n");
	view_of("{\"comparator\":{\"divergences\":{\"a\":9223372036854775807,\"b\":5}}"
		"}",
		FALSE, "9223372036854775807 divergences");
	view_of("{\"sync\":{}}", FALSE, "under way");
}

static void colours_are_the_views_own_only(void **state)
{
	view_of("{\"state\":\"fenced\"}", TRUE, "web: \033[1;31mNOT RUNNING\033[0m");
	view_of("{\"state\":\"\\u001b[31m\"}", TRUE, "\\x1b[31m");
}

/* Each member in turn with each of the values that it may not have. */
static void whatever_a_member_is_it_is_shown_safely(void **state)
{
	static const char *const names[] = {
		"state", "role",	"protected", "since_ms",    "generation",
		"epoch", "reason",	"advice",    "guest",	    "sync",
		"peer",	 "checkpoints", "heartbeat", "arbiter",	    "comparator",
		"node",	 "programs",	"pair",	     "clock_offset"
	};
	static const char *const values[] = {
		"null",
		"true",
		"-1",
		"1e308",
		"\"\\u001b]0;x\\u0007\"",
		"[]",
		"{}",
		"[[],{},5,\"\\u009b\"]",
		"{\"name\":\"\\u001b\",\"state\":\"\\u001b\",\"paths\":[{\"path\":"
		"\"\\n\"},"
		"5],\"kind\":\"\\u202e\",\"gate\":7,\"divergences\":{\"x\":[]}}"
	};
	static const char *const states[] = { "protected", "standby", "syncing",
					      "solo",	   "fenced",  "nonsense" };

	for (guint s = 0; s < G_N_ELEMENTS(states); s++) {
		for (guint i = 0; i < G_N_ELEMENTS(names) * G_N_ELEMENTS(values); i++) {
			const char *name = names[i / G_N_ELEMENTS(values)];
			g_autofree char *json = g_strdup_printf(
				"{\"state\":\"%s\",\"role\":\"primary\",\"%s\":%s}",
				states[s], name, values[i % G_N_ELEMENTS(values)]);
			g_autoptr(JsonObject) status = parsed(json);
			g_autofree char *view = colo_view_status("web", status, FALSE);
			g_autofree char *line = colo_view_brief("web", status);
			g_autofree char *event = colo_view_event(status);

			is_safe(view);
			is_safe(line);
			is_safe(event);
			assert_null(strchr(line, '\n'));
			assert_null(strchr(event, '\n'));
			assert_true(g_str_has_prefix(view, "web: "));
		}
	}
}

static void a_huge_document_makes_a_bounded_view(void **state)
{
	g_autoptr(JsonObject) status = json_object_new();
	g_autofree char *huge = g_strnfill(1000000, 'x');
	g_autofree char *view = NULL;
	JsonArray *programs = json_array_new();

	for (guint i = 0; i < 10000; i++) {
		JsonObject *program = json_object_new();

		json_object_set_string_member(program, "name", "colo-vm");
		json_array_add_object_element(programs, program);
	}
	json_object_set_array_member(status, "programs", programs);
	json_object_set_string_member(status, "state", huge);
	json_object_set_string_member(status, "reason", huge);
	view = colo_view_status("web", status, FALSE);
	assert_true(strlen(view) < 20000);
}

static void an_event_is_one_line(void **state)
{
	g_autoptr(JsonObject) event =
		parsed("{\"event\":\"solo\",\"number\":3,\"state\":\"syncing\","
		       "\"time\":1,\"node\":\"alpha\","
		       "\"generation\":8,\"detail\":\"a\\nb\",\"device\":\"\\u001b\"}");
	g_autoptr(JsonObject) bare = parsed("{\"event\":\"x\",\"time\":1e18}");
	g_autofree char *line = colo_view_event(event);
	g_autofree char *short_line = colo_view_event(bare);

	has(line,
	    ".001  3  alpha  solo, state syncing, generation 8: a\\nb  device=\\x1b");
	assert_string_equal(short_line, "time unknown  ?  x");
}

static void a_line_of_colods_is_an_answer_or_an_event(void **state)
{
	static const char *const refused[] = {
		"", "[]", "{}", "nonsense", "{\"event\":5}", "{\"id\":1}"
	};
	g_autoptr(JsonObject) answer = NULL;
	char *why = NULL;

	answer = colo_ask_parse("{\"id\":1,\"ok\":true}\n", 19, &why);
	assert_non_null(answer);
	for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
		assert_null(colo_ask_parse(refused[i], strlen(refused[i]), &why));
		assert_non_null(why);
		g_clear_pointer(&why, g_free);
	}
}

static void judge_answer(const char *json, gboolean is, enum colo_asked expected)
{
	g_autoptr(JsonObject) line = parsed(json);
	g_autofree char *why = NULL;
	enum colo_asked how = COLO_ASKED_BROKEN;
	JsonObject *result;
	const char *code;

	assert_int_equal(colo_ask_is_answer(line, 2, &how, &result, &code, &why), is);
	if (is)
		assert_int_equal(how, expected);
	assert_int_equal(why != NULL, is && expected == COLO_ASKED_NO);
}

static void an_answer_is_to_its_request(void **state)
{
	judge_answer("{\"id\":2,\"ok\":true,\"result\":{}}", TRUE, COLO_ASKED_OK);
	judge_answer("{\"id\":2,\"ok\":true}", TRUE, COLO_ASKED_OK);
	judge_answer("{\"id\":2,\"ok\":false,\"error\":{}}", TRUE, COLO_ASKED_NO);
	judge_answer("{\"id\":null,\"ok\":false,\"error\":{\"message\":\"m\"}}", TRUE,
		     COLO_ASKED_NO);
	judge_answer("{\"id\":2,\"ok\":\"true\"}", TRUE, COLO_ASKED_NO);
	judge_answer("{\"id\":1,\"ok\":true}", FALSE, COLO_ASKED_OK);
	judge_answer("{\"id\":null,\"ok\":true}", FALSE, COLO_ASKED_OK);
	judge_answer("{\"id\":2,\"event\":\"x\"}", FALSE, COLO_ASKED_OK);
}

static void misspelled_commands_are_recognised(void **state)
{
	assert_string_equal(colo_cmd_nearest("stauts"), "status");
	assert_string_equal(colo_cmd_nearest("checkpiont"), "checkpoint");
	assert_string_equal(colo_cmd_nearest("switch"), "switchover");
	assert_string_equal(colo_cmd_nearest("standdown"), "stand-down");
	assert_null(colo_cmd_nearest("destroy"));
	assert_null(colo_cmd_nearest(""));
	assert_null(colo_cmd_nearest("a-word-of-more-letters-than-any-command-has"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_terminal_would_obey_is_written_out),
		cmocka_unit_test(a_long_text_is_cut_between_characters),
		cmocka_unit_test(a_clean_copy_is_bounded_and_leaves_the_document_alone),
		cmocka_unit_test(a_member_of_another_type_is_none),
		cmocka_unit_test(json_stays_json_and_is_safe),
		cmocka_unit_test(health_is_what_monitoring_may_wake_people_for),
		cmocka_unit_test(the_worst_of_several_is_told),
		cmocka_unit_test(brief_names_who_is_what),
		cmocka_unit_test(figures_are_as_people_write_them),
		cmocka_unit_test(colours_are_the_views_own_only),
		cmocka_unit_test(whatever_a_member_is_it_is_shown_safely),
		cmocka_unit_test(a_huge_document_makes_a_bounded_view),
		cmocka_unit_test(an_event_is_one_line),
		cmocka_unit_test(a_line_of_colods_is_an_answer_or_an_event),
		cmocka_unit_test(an_answer_is_to_its_request),
		cmocka_unit_test(misspelled_commands_are_recognised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
