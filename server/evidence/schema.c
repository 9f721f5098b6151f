#include "server/evidence/schema_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"

#define PPM 1000000

static bool check_object(struct place *place, const json_t *object, const struct shape *shape);
static bool refuse_stray(struct place *place, const json_t *object, const struct shape *shape, size_t nulls);
static bool check_unknown(struct place *place, const json_t *object, size_t nulls);
static bool check_field(struct place *place, const json_t *value, const struct field *field);
static bool check_string(struct place *place, const json_t *value, const struct field *field);
static bool check_list(struct place *place, const json_t *list, const struct field *field);
static bool check_number(struct place *place, const json_t *value, int64_t least, int64_t most);
static bool is_text(const char *text);
static bool is_word(const char *text);
static bool is_time(const char *text);

bool
hf_schema_check(const json_t *content, const char *what, enum hf_error_kind kind, struct hf_error *err)
{
    struct place place = {.kind = kind, .what = what, .err = err};
    const json_t *head_group = json_object_get(content, "head");
    const char *document_kind = json_string_value(json_object_get(head_group, "kind"));
    bool is_act = document_kind != NULL && strcmp(document_kind, "act") == 0;
    bool is_shred = document_kind != NULL && strcmp(document_kind, "shred") == 0;

    // Any other kind is refused by the table of a verify document, with the list of kinds there are.
    if (!check_object(&place, content, is_act ? &hf_schema_act : is_shred ? &hf_schema_shred : &hf_schema_verify))
        return false;
    return is_act     ? hf_sense_of_act(&place, content)
           : is_shred ? hf_sense_of_shred(&place, content)
                      : hf_sense_of_attempt(&place, content);
}

uint32_t
hf_schema_next_character(const char **at)
{
    const uint8_t *bytes = (const uint8_t *)*at;
    size_t more = bytes[0] < 0x80 ? 0 : bytes[0] < 0xe0 ? 1 : bytes[0] < 0xf0 ? 2 : 3;
    uint32_t character = more == 0 ? bytes[0] : bytes[0] & (0x3fu >> more);

    for (size_t i = 1; i <= more; i++)
        character = character << 6 | (bytes[i] & 0x3f);
    *at += 1 + more;
    return character;
}

bool
hf_schema_is_printable(uint32_t character)
{
    static const struct {
        uint32_t first, last;
    } hidden[] = {{0x00, 0x1f},     {0x7f, 0x9f},     {0xad, 0xad},     {0x61c, 0x61c},   {0x200b, 0x200f},
                  {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f}};

    for (size_t i = 0; i < HF_LENGTH(hidden); i++)
        if (character >= hidden[i].first && character <= hidden[i].last)
            return false;
    return true;
}

/* Recursion follows the tables above, four levels deep, not the input. */
static bool
check_object(struct place *place, const json_t *object, const struct shape *shape)
{
    size_t nulls = 0, known = 0;

    if (!json_is_object(object))
        return hf_schema_refuse(place, "is not an object");
    for (size_t i = 0; i < shape->count; i++) {
        const struct field *field = &shape->fields[i];
        const json_t *value = json_object_get(object, field->name);
        size_t before = hf_schema_enter(place, ".%s", field->name);

        if (value == NULL && !field->later)
            return hf_schema_refuse(place, "is missing");
        if (value == NULL) {
            place->path[before] = 0;
            continue;
        }
        known++;
        if (json_is_null(value) && !field->may_be_unknown)
            return hf_schema_refuse(place, "is null and may not be unknown");
        if (json_is_null(value))
            nulls++;
        else if (!check_field(place, value, field))
            return false;
        place->path[before] = 0;
    }
    if (nulls > 0 && !check_unknown(place, object, nulls))
        return false;
    known += nulls > 0;
    if (json_object_size(object) == known)
        return true;

    return refuse_stray(place, object, shape, nulls);
}

/* Names the first member that is in no row of the table. */
static bool
refuse_stray(struct place *place, const json_t *object, const struct shape *shape, size_t nulls)
{
    // jansson's iterators take a pointer that is not const, but change nothing.
    json_t *source = (json_t *)(uintptr_t)object;
    const char *name = NULL;

    for (void *at = json_object_iter(source); at != NULL; at = json_object_iter_next(source, at)) {
        size_t row = 0;
        name = json_object_iter_key(at);
        while (row < shape->count && strcmp(shape->fields[row].name, name) != 0)
            row++;
        if (row == shape->count && (strcmp(name, "unknown") != 0 || nulls == 0))
            break;
    }
    hf_schema_enter(place, ".%.64s", name != NULL && is_text(name) ? name : "?");
    return hf_schema_refuse(place, "is not a member of " HF_EVIDENCE_SCHEMA " there");
}

/* "unknown" gives a reason for each null member and for nothing else. */
static bool
check_unknown(struct place *place, const json_t *object, size_t nulls)
{
    static const struct field reason_field = {"unknown", TEXT};
    json_t *unknown = json_object_get(object, "unknown");
    size_t before = hf_schema_enter(place, ".unknown");
    const char *name;
    json_t *reason;

    if (!json_is_object(unknown))
        return hf_schema_refuse(place, "is missing: it says why members are null");
    json_object_foreach(unknown, name, reason)
    {
        size_t inside = hf_schema_enter(place, ".%.64s", is_text(name) ? name : "?");
        if (!json_is_null(json_object_get(object, name)))
            return hf_schema_refuse(place, "explains a member that is not null");
        if (!check_field(place, reason, &reason_field))
            return false;
        place->path[inside] = 0;
    }
    if (json_object_size(unknown) != nulls)
        return hf_schema_refuse(place, "leaves a null member without reason");
    place->path[before] = 0;
    return true;
}

static bool
check_field(struct place *place, const json_t *value, const struct field *field)
{
    switch (field->type) {
    case TEXT:
    case WORD:
    case CHOICE:
    case ID:
    case HASH:
    case TIME:
        return check_string(place, value, field);
    case NUMBER:
        return check_number(place, value, 0, HF_JSON_INTEGER_MOST);
    case SIGNED_NUMBER:
        return check_number(place, value, -HF_JSON_INTEGER_MOST, HF_JSON_INTEGER_MOST);
    case PPM_NUMBER:
        return check_number(place, value, 0, PPM);
    case BOOLEAN:
        return json_is_boolean(value) || hf_schema_refuse(place, "is not true or false");
    case OBJECT:
        return check_object(place, value, field->shape);
    case LIST:
    case WORDS:
        return check_list(place, value, field);
    }
    assert(false);
    return false;
}

static bool
check_string(struct place *place, const json_t *value, const struct field *field)
{
    uint8_t bytes[HF_SHA256_BYTES];
    const char *text = json_string_value(value);

    if (text == NULL || strlen(text) != json_string_length(value))
        return hf_schema_refuse(place, "is not a string");
    switch (field->type) {
    case TEXT:
        return is_text(text) ||
               hf_schema_refuse(place, "is not a printable text of 1 to %d bytes", HF_EVIDENCE_MOST_TEXT);
    case WORD:
        return is_word(text) ||
               hf_schema_refuse(place, "is not a word of 1 to %d characters a-z 0-9 _ . -", HF_EVIDENCE_MOST_WORD);
    case ID:
        return hf_hex_parse(text, bytes, HF_ID_BYTES, NULL) || hf_schema_refuse(place, "is not an id of 32 hex digits");
    case HASH:
        return hf_hex_parse(text, bytes, HF_SHA256_BYTES, NULL) ||
               hf_schema_refuse(place, "is not a hash of 64 hex digits");
    case TIME:
        return is_time(text) || hf_schema_refuse(place, "is not a time like \"2026-11-22T14:03:07.123Z\"");
    default:
        break;
    }

    assert(field->type == CHOICE);
    char list[160];
    size_t used = 0;
    for (const char *const *choice = field->choices; *choice != NULL; choice++) {
        if (strcmp(*choice, text) == 0)
            return true;
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used > 0 ? ", " : "", *choice);
        assert(used < sizeof list);
    }
    return hf_schema_refuse(place, "is \"%.64s\" and not one of: %s", is_text(text) ? text : "?", list);
}

static bool
check_list(struct place *place, const json_t *list, const struct field *field)
{
    static const struct field word_field = {"word", WORD};

    if (!json_is_array(list))
        return hf_schema_refuse(place, "is not a list");
    if (json_array_size(list) > HF_EVIDENCE_MOST_LIST)
        return hf_schema_refuse(place, "has %zu entries, at most %d are allowed", json_array_size(list),
                                HF_EVIDENCE_MOST_LIST);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        size_t before = hf_schema_enter(place, "[%zu]", i);
        if (!(field->type == WORDS ? check_field(place, entry, &word_field) : check_object(place, entry, field->shape)))
            return false;
        place->path[before] = 0;
    }
    return true;
}

static bool
check_number(struct place *place, const json_t *value, int64_t least, int64_t most)
{
    if (!json_is_integer(value))
        return hf_schema_refuse(place, "is not an integer");
    if (json_integer_value(value) < least || json_integer_value(value) > most)
        return hf_schema_refuse(place, "is %lld and not within %lld to %lld", (long long)json_integer_value(value),
                                (long long)least, (long long)most);
    return true;
}

static bool
is_text(const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || length > HF_EVIDENCE_MOST_TEXT)
        return false;
    while (*text != 0)
        if (!hf_schema_is_printable(hf_schema_next_character(&text)))
            return false;
    return true;
}

static bool
is_word(const char *text)
{
    size_t length = strlen(text);
    return length > 0 && length <= HF_EVIDENCE_MOST_WORD &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == length;
}

static bool
is_time(const char *text)
{
    char again[HF_TIME_TEXT_BYTES];
    int64_t ms;
    return hf_time_parse(text, &ms, NULL) && strcmp(hf_time_format(ms, again), text) == 0;
}

size_t
hf_schema_enter(struct place *place, const char *format, ...)
{
    size_t before = strlen(place->path);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(place->path + before, sizeof place->path - before, format, arguments);
    va_end(arguments);
    return before;
}

bool
hf_schema_refuse(struct place *place, const char *format, ...)
{
    char reason[HF_ERROR_MESSAGE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    if (place->path[0] == 0)
        return hf_fail(place->err, place->kind, "%s %s", place->what, reason);
    return hf_fail(place->err, place->kind, "%s: \"%s\" %s", place->what, place->path + 1, reason);
}
