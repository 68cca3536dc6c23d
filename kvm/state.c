/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A saved machine state without its memory.
 *
 * Sections are kept as the finished bytes plus an index, so that putting one is a copy and
 * nothing is built again when the bytes are asked for. A parsed state is judged whole
 * before anybody sees a section of it.
 */
#include "kvm/state.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "kvm/error.h"

struct section {
	char name[WIRE_SECTION_NAME + 1];
	guint16 instance, version;
	guint32 length;
	gsize offset; /* of the payload in `bytes` */
	const struct vmm_state_field *fields; /* NULL for a parsed state */
	gboolean used;
};

struct vmm_state {
	guint8 *bytes; /* 8-aligned; the header first, filled in when asked for */
	gsize length, allocated;
	GArray *sections; /* struct section */
};

vmm_state *vmm_state_new(void)
{
	vmm_state *state = g_new0(vmm_state, 1);

	state->sections = g_array_new(FALSE, FALSE, sizeof(struct section));
	state->allocated = 64 << 10;
	state->bytes = g_malloc0(state->allocated);
	vmm_state_reset(state);
	return state;
}

void vmm_state_free(vmm_state *state)
{
	if (!state)
		return;
	g_array_unref(state->sections);
	g_free(state->bytes);
	g_free(state);
}

void vmm_state_reset(vmm_state *state)
{
	state->length = sizeof(struct wire_state_header);
	g_array_set_size(state->sections, 0);
}

static struct section *find(const vmm_state *state, const char *name, guint instance)
{
	for (guint i = 0; i < state->sections->len; i++) {
		struct section *s = &g_array_index(state->sections, struct section, i);

		if (s->instance == instance && !strcmp(s->name, name))
			return s;
	}
	return NULL;
}

static gsize padded(gsize len)
{
	return (len + 7) & ~(gsize)7;
}

void vmm_state_put(vmm_state *state, const char *name, guint instance, guint version,
		   const void *data, gsize len, const struct vmm_state_field *fields)
{
	struct wire_section_header header = { 0 };
	struct section section = { 0 };
	gsize need = state->length + sizeof(header) + padded(len);

	g_assert(strlen(name) <= WIRE_SECTION_NAME && len <= WIRE_SECTION_MAX);
	g_assert(need - sizeof(struct wire_state_header) <= WIRE_STATE_MAX &&
		 state->sections->len < WIRE_SECTIONS_MAX);
	g_assert(!find(state, name, instance));
	if (need > state->allocated) {
		state->allocated = MAX(need, state->allocated * 2);
		state->bytes = g_realloc(state->bytes, state->allocated);
	}
	memcpy(header.name, name, strlen(name));
	header.version = wire_put16((guint16)version);
	header.instance = wire_put16((guint16)instance);
	header.length = wire_put32((guint32)len);
	memcpy(state->bytes + state->length, &header, sizeof(header));

	g_strlcpy(section.name, name, sizeof(section.name));
	section.instance = (guint16)instance;
	section.version = (guint16)version;
	section.length = (guint32)len;
	section.offset = state->length + sizeof(header);
	section.fields = fields;
	if (len)
		memcpy(state->bytes + section.offset, data, len);
	memset(state->bytes + section.offset + len, 0, padded(len) - len);
	g_array_append_val(state->sections, section);
	state->length = need;
}

const void *vmm_state_get(const vmm_state *state, const char *name, guint instance,
			  guint version, gsize min, gsize max, gsize *len, GError **error)
{
	struct section *s = find(state, name, instance);

	if (!s) {
		vmm_error_set(error, VMM_ERROR_STATE, "saved state has no %s.%u", name,
			      instance);
		return NULL;
	}
	if (s->version != version) {
		vmm_error_set(error, VMM_ERROR_STATE,
			      "saved %s.%u has version %u, this program reads %u", name,
			      instance, s->version, version);
		return NULL;
	}
	if (s->length < min || s->length > max) {
		vmm_error_set(error, VMM_ERROR_STATE, "saved %s.%u has %u bytes, not %zu",
			      name, instance, s->length, s->length < min ? min : max);
		return NULL;
	}
	s->used = TRUE;
	if (len)
		*len = s->length;
	return state->bytes + s->offset;
}

gboolean vmm_state_has(const vmm_state *state, const char *name, guint instance)
{
	return find(state, name, instance) != NULL;
}

gboolean vmm_state_all_used(const vmm_state *state, GError **error)
{
	for (guint i = 0; i < state->sections->len; i++) {
		struct section *s = &g_array_index(state->sections, struct section, i);

		if (!s->used)
			return vmm_error_set(error, VMM_ERROR_STATE,
					     "saved state has %s.%u, this machine does not",
					     s->name, s->instance);
	}
	return TRUE;
}

const guint8 *vmm_state_bytes(vmm_state *state, gsize *len)
{
	struct wire_state_header header = { 0 };
	gsize body = state->length - sizeof(header);

	header.magic = wire_put32(WIRE_STATE_MAGIC);
	header.version = wire_put16(WIRE_STATE_VERSION);
	header.sections = wire_put16((guint16)state->sections->len);
	header.length = wire_put64(body);
	header.checksum = wire_put64(XXH3_64bits(state->bytes + sizeof(header), body));
	memcpy(state->bytes, &header, sizeof(header));
	*len = state->length;
	return state->bytes;
}

/* Only names that vmm_state_put() could have written: no byte after the first NUL. */
static gboolean take_name(const char wire[WIRE_SECTION_NAME], char *name)
{
	gsize len = strnlen(wire, WIRE_SECTION_NAME);

	for (gsize i = 0; i < WIRE_SECTION_NAME; i++)
		if (i < len ? !g_ascii_isgraph(wire[i]) : wire[i] != 0)
			return FALSE;
	memcpy(name, wire, len);
	name[len] = 0;
	return len > 0;
}

static gboolean parse_section(vmm_state *state, gsize *at, GError **error)
{
	struct wire_section_header header;
	struct section section = { 0 };

	if (state->length - *at < sizeof(header))
		return vmm_error_set(error, VMM_ERROR_STATE, "saved state is cut off");
	memcpy(&header, state->bytes + *at, sizeof(header));
	*at += sizeof(header);
	if (!take_name(header.name, section.name))
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "saved state has a section without a proper name");
	section.instance = wire_get16(header.instance);
	section.version = wire_get16(header.version);
	section.length = wire_get32(header.length);
	section.offset = *at;
	if (section.length > WIRE_SECTION_MAX ||
	    padded(section.length) > state->length - *at)
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "saved %s.%u is longer than what there is",
				     section.name, section.instance);
	for (gsize i = section.length; i < padded(section.length); i++)
		if (state->bytes[*at + i])
			return vmm_error_set(error, VMM_ERROR_STATE,
					     "saved %s.%u has padding that is not zero",
					     section.name, section.instance);
	if (find(state, section.name, section.instance))
		return vmm_error_set(error, VMM_ERROR_STATE, "saved %s.%u comes twice",
				     section.name, section.instance);
	*at += padded(section.length);
	g_array_append_val(state->sections, section);
	return TRUE;
}

static gboolean check_header(const struct wire_state_header *header, const guint8 *body,
			     gsize len, GError **error)
{
	if (wire_get32(header->magic) != WIRE_STATE_MAGIC)
		return vmm_error_set(error, VMM_ERROR_STATE, "not a saved state");
	if (wire_get16(header->version) != WIRE_STATE_VERSION)
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "saved state has format %u, this program reads %u",
				     wire_get16(header->version), WIRE_STATE_VERSION);
	if (wire_get64(header->length) != len)
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "saved state has %zu bytes where it says %" G_GUINT64_FORMAT,
				     len, wire_get64(header->length));
	if (wire_get16(header->sections) > WIRE_SECTIONS_MAX)
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "saved state has %u sections, more than %u",
				     wire_get16(header->sections), WIRE_SECTIONS_MAX);
	if (wire_get64(header->checksum) != XXH3_64bits(body, len))
		return vmm_error_set(error, VMM_ERROR_STATE,
				     "saved state is corrupted: its checksum does not match");
	return TRUE;
}

vmm_state *vmm_state_parse(const void *bytes, gsize len, GError **error)
{
	g_autoptr(vmm_state) state = NULL;
	struct wire_state_header header;
	gsize at = sizeof(header);

	if (len < sizeof(header) || len - sizeof(header) > WIRE_STATE_MAX) {
		vmm_error_set(error, VMM_ERROR_STATE, "saved state has %zu bytes", len);
		return NULL;
	}
	state = vmm_state_new();
	if (len > state->allocated) {
		state->bytes = g_realloc(state->bytes, len);
		state->allocated = len;
	}
	memcpy(state->bytes, bytes, len);
	state->length = len;
	memcpy(&header, state->bytes, sizeof(header));
	if (!check_header(&header, state->bytes + at, len - at, error))
		return NULL;
	for (guint i = 0; i < wire_get16(header.sections); i++)
		if (!parse_section(state, &at, error))
			return NULL;
	if (at != len) {
		vmm_error_set(error, VMM_ERROR_STATE,
			      "saved state has %zu bytes after its last section", len - at);
		return NULL;
	}
	return g_steal_pointer(&state);
}

static char *describe_bytes(const struct section *s, gsize at)
{
	const struct vmm_state_field *f = s->fields;

	for (; f && f->name; f++)
		if (at >= f->offset && at - f->offset < f->size)
			return g_strdup_printf("%s.%u: %s differs (byte %zu of it)", s->name,
					       s->instance, f->name, at - f->offset);
	return g_strdup_printf("%s.%u: byte %zu differs", s->name, s->instance, at);
}

char *vmm_state_difference(const vmm_state *a, const vmm_state *b)
{
	for (guint i = 0; i < a->sections->len; i++) {
		struct section *sa = &g_array_index(a->sections, struct section, i);
		struct section *sb = find(b, sa->name, sa->instance);

		if (!sb)
			return g_strdup_printf("%s.%u: only in the first", sa->name,
					       sa->instance);
		if (sa->version != sb->version || sa->length != sb->length)
			return g_strdup_printf("%s.%u: version or length differs", sa->name,
					       sa->instance);
		for (gsize at = 0; at < sa->length; at++)
			if (a->bytes[sa->offset + at] != b->bytes[sb->offset + at])
				return describe_bytes(sa, at);
	}
	for (guint i = 0; i < b->sections->len; i++) {
		struct section *sb = &g_array_index(b->sections, struct section, i);

		if (!find(a, sb->name, sb->instance))
			return g_strdup_printf("%s.%u: only in the second", sb->name,
					       sb->instance);
	}
	return NULL;
}

struct differences {
	GString *text;
	guint found, max;
};

static void note(struct differences *d, const struct section *s, const char *what)
{
	if (d->found++ < d->max)
		g_string_append_printf(d->text, "%s%s.%u: %s", d->text->len ? "; " : "",
				       s->name, s->instance, what);
}

/* The field that a byte is of; NULL: nobody has named it. */
static const struct vmm_state_field *field_at(const struct section *s, gsize at)
{
	for (const struct vmm_state_field *f = s->fields; f && f->name; f++)
		if (at >= f->offset && at - f->offset < f->size)
			return f;
	return NULL;
}

/* Each field once; of what has no fields, each 16 bytes. */
static void compare_section(struct differences *d, const struct section *s, const guint8 *a,
			    const guint8 *b, vmm_state_judge judge)
{
	for (gsize at = 0; at < s->length; at++) {
		const struct vmm_state_field *field;
		g_autofree char *name = NULL;

		if (a[at] == b[at] || !judge(s->name, a, at, &name))
			continue;
		field = field_at(s, at);
		if (!name)
			name = field ? g_strdup(field->name) :
				       g_strdup_printf("byte %zu", at);
		note(d, s, name);
		at = field ? (gsize)field->offset + field->size - 1 : at | 15;
	}
}

char *vmm_state_differences(const vmm_state *a, const vmm_state *b, vmm_state_judge judge,
			    guint max)
{
	g_autoptr(GString) text = g_string_new(NULL);
	struct differences d = { text, 0, max };

	for (guint i = 0; i < a->sections->len; i++) {
		const struct section *sa = &g_array_index(a->sections, struct section, i);
		const struct section *sb = find(b, sa->name, sa->instance);

		if (!sb)
			note(&d, sa, "only in the first");
		else if (sa->version != sb->version || sa->length != sb->length)
			note(&d, sa, "version or length");
		else
			compare_section(&d, sa, a->bytes + sa->offset,
					b->bytes + sb->offset, judge);
	}
	for (guint i = 0; i < b->sections->len; i++) {
		const struct section *sb = &g_array_index(b->sections, struct section, i);

		if (!find(a, sb->name, sb->instance))
			note(&d, sb, "only in the second");
	}
	if (d.found > max)
		g_string_append_printf(text, "; and %u more", d.found - max);
	return d.found ? g_strdup(text->str) : NULL;
}
