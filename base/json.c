#include "base/json.h"

#include <inttypes.h>
#include <string.h>

#include "base/text.h"

#define MOST_DEPTH 32

/* Where a scan of a document's text stands, for messages. */
struct place {
    size_t line, column; // from 1
};

static bool scan_text(const char *text, size_t length, const char *what, struct hf_error *err);
static size_t scan_string(const char *text, size_t length, size_t from);
static size_t scan_number(const char *text, size_t length, size_t from, bool *ret_real);
static struct place place_of(const char *text, size_t position);
static bool add_value(const json_t *value, unsigned depth, struct hf_buf *out, struct hf_error *err);
static bool add_object(const json_t *object, unsigned depth, struct hf_buf *out, struct hf_error *err);
static bool add_array(const json_t *array, unsigned depth, struct hf_buf *out, struct hf_error *err);
static bool add_string(const char *text, size_t length, struct hf_buf *out, struct hf_error *err);
static bool add_integer(json_int_t value, struct hf_buf *out, struct hf_error *err);
static int compare_utf16(const void *a, const void *b);
static unsigned utf16_rank(uint8_t byte);
static bool member_of(const json_t *object, const char *member, const char *what, json_type type, json_t **ret,
                      struct hf_error *err);
static const char *type_name(json_type type);

void
hf_json_freep(json_t **value)
{
    json_decref(*value);
    *value = NULL;
}

bool
hf_json_parse(const void *text, size_t length, const char *what, json_t **ret, struct hf_error *err)
{
    // First what jansson has no flag for; it also keeps jansson's recursion at our depth.
    if (!scan_text(text, length, what, err))
        return false;

    json_error_t problem;
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem);
    // Without memory for its first buffer, jansson gives no reason at all.
    if (value == NULL && (json_error_code(&problem) == json_error_out_of_memory || problem.text[0] == '\0'))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for %s", what);
    if (value == NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is not valid JSON at line %d, column %d: %s", what, problem.line,
                       problem.column, problem.text);
    *ret = value;
    return true;
}

bool
hf_json_canonical(const json_t *value, struct hf_buf *out, struct hf_error *err)
{
    size_t before = out->length;
    if (add_value(value, 1, out, err))
        return true;
    hf_buf_truncate(out, before);
    return false;
}

bool
hf_json_string(const json_t *object, const char *member, const char *what, const char **ret, struct hf_error *err)
{
    json_t *value;
    if (!member_of(object, member, what, JSON_STRING, &value, err))
        return false;
    *ret = json_string_value(value);
    return true;
}

bool
hf_json_integer(const json_t *object, const char *member, const char *what, int64_t least, int64_t most, int64_t *ret,
                struct hf_error *err)
{
    json_t *value;
    if (!member_of(object, member, what, JSON_INTEGER, &value, err))
        return false;

    int64_t number = json_integer_value(value);
    if (number < least || number > most)
        return hf_fail(err, HF_ERR_CORRUPT,
                       "%s: member \"%s\" is %" PRId64 ", which is not within %" PRId64 " to %" PRId64, what, member,
                       number, least, most);
    *ret = number;
    return true;
}

bool
hf_json_boolean(const json_t *object, const char *member, const char *what, bool *ret, struct hf_error *err)
{
    json_t *value;
    if (!member_of(object, member, what, JSON_TRUE, &value, err))
        return false;
    *ret = json_is_true(value);
    return true;
}

bool
hf_json_array(const json_t *object, const char *member, const char *what, json_t **ret, struct hf_error *err)
{
    return member_of(object, member, what, JSON_ARRAY, ret, err);
}

bool
hf_json_object(const json_t *object, const char *member, const char *what, json_t **ret, struct hf_error *err)
{
    return member_of(object, member, what, JSON_OBJECT, ret, err);
}

bool
hf_json_id(const json_t *object, const char *member, const char *what, struct hf_id *ret, struct hf_error *err)
{
    const char *text;
    if (!hf_json_string(object, member, what, &text, err))
        return false;
    if (!hf_id_parse(text, ret, NULL))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"%s\" is \"%.64s\", which is not an id of 32 hex digits", what,
                       member, text);
    return true;
}

bool
hf_json_bytes(const json_t *object, const char *member, const char *what, uint8_t *ret, size_t length,
              struct hf_error *err)
{
    const char *text;
    if (!hf_json_string(object, member, what, &text, err))
        return false;
    if (!hf_hex_parse(text, ret, length, NULL))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"%s\" is not %zu bytes in hex", what, member, length);
    return true;
}

bool
hf_json_set(json_t *object, const char *member, json_t *value, struct hf_error *err)
{
    if (json_object_set_new(object, member, value) != 0) // which accepts and refuses NULL
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for JSON member \"%s\"", member);
    return true;
}

json_t *
hf_json_hex(const uint8_t *bytes, size_t length)
{
    _cleanup_(hf_freep) char *text = malloc(2 * length + 1);
    if (text == NULL)
        return NULL;
    hf_hex_format(bytes, length, text);
    return json_string(text);
}

json_t *
hf_json_id_text(const struct hf_id *id)
{
    char text[HF_ID_TEXT_BYTES];
    return json_string(hf_id_format(id, text));
}

json_t *
hf_json_foreign_text(const char *text, size_t length, size_t most)
{
    static const char replacement[] = "\xEF\xBF\xBD"; // U+FFFD
    _cleanup_(hf_buf_done) struct hf_buf clean = HF_BUF_INIT(most);

    for (size_t i = 0; i < length;) {
        const char *character = text + i;
        size_t bytes = *character == '\0' ? 0 : hf_utf8_length((const uint8_t *)character, length - i);
        i += bytes == 0 ? 1 : bytes;
        if (bytes == 0) {
            character = replacement;
            bytes = sizeof replacement - 1;
        }
        if (bytes > most - clean.length)
            break;
        if (!hf_buf_add(&clean, character, bytes, NULL))
            return NULL;
    }
    return json_stringn(hf_buf_text(&clean), clean.length);
}

/* Refuses real numbers and too much depth; whether the rest is JSON is for jansson to say. */
static bool
scan_text(const char *text, size_t length, const char *what, struct hf_error *err)
{
    unsigned depth = 0;
    for (size_t i = 0; i < length;) {
        struct place place;
        size_t from;
        bool real;
        switch (text[i]) {
        case '"':
            i = scan_string(text, length, i);
            break;
        case '-':
        case '0' ... '9':
            from = i;
            i = scan_number(text, length, i, &real);
            if (!real)
                break;
            place = place_of(text, from); // only now: it counts from the start, and a document can hold many numbers
            return hf_fail(err, HF_ERR_CORRUPT, "%s has a real number at line %zu, column %zu: only integers may be",
                           what, place.line, place.column);
        case '[':
        case '{':
            if (++depth > MOST_DEPTH) {
                place = place_of(text, i);
                return hf_fail(err, HF_ERR_CORRUPT, "%s is nested deeper than %d at line %zu, column %zu", what,
                               MOST_DEPTH, place.line, place.column);
            }
            i++;
            break;
        case ']':
        case '}':
            depth -= depth > 0;
            i++;
            break;
        default:
            i++;
        }
    }
    return true;
}

/* The position after the string that starts at `from`. */
static size_t
scan_string(const char *text, size_t length, size_t from)
{
    for (size_t i = from + 1; i < length; i++) {
        if (text[i] == '\\')
            i++;
        else if (text[i] == '"')
            return i + 1;
    }
    return length;
}

static size_t
scan_number(const char *text, size_t length, size_t from, bool *ret_real)
{
    size_t i = from + 1;
    *ret_real = false;
    for (; i < length && memchr("0123456789+-.eE", text[i], 15) != NULL; i++)
        if (memchr(".eE", text[i], 3) != NULL)
            *ret_real = true;
    return i;
}

static struct place
place_of(const char *text, size_t position)
{
    struct place place = {.line = 1, .column = 1};
    for (size_t i = 0; i < position; i++) {
        place.column++;
        if (text[i] == '\n') {
            place.line++;
            place.column = 1;
        }
    }
    return place;
}

/* Recursion ends at MOST_DEPTH. */
static bool
add_value(const json_t *value, unsigned depth, struct hf_buf *out, struct hf_error *err)
{
    if (depth > MOST_DEPTH && (json_is_object(value) || json_is_array(value)))
        return hf_fail(err, HF_ERR_USAGE, "canonical JSON cannot be nested deeper than %d", MOST_DEPTH);
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return add_object(value, depth, out, err);
    case JSON_ARRAY:
        return add_array(value, depth, out, err);
    case JSON_STRING:
        return add_string(json_string_value(value), json_string_length(value), out, err);
    case JSON_INTEGER:
        return add_integer(json_integer_value(value), out, err);
    case JSON_TRUE:
        return hf_buf_add_text(out, "true", err);
    case JSON_FALSE:
        return hf_buf_add_text(out, "false", err);
    case JSON_NULL:
        return hf_buf_add_text(out, "null", err);
    case JSON_REAL:
        break;
    }
    return hf_fail(err, HF_ERR_USAGE, "canonical JSON cannot hold a real number: only integers may be");
}

static bool
add_object(const json_t *object, unsigned depth, struct hf_buf *out, struct hf_error *err)
{
    size_t count = json_object_size(object);
    _cleanup_(hf_freep) const char **names = calloc(count + 1, sizeof *names);
    if (names == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a JSON object of %zu members", count);

    // jansson's iterators take a pointer that is not const, but change nothing.
    json_t *source = (json_t *)(uintptr_t)object;
    size_t i = 0;
    for (void *at = json_object_iter(source); at != NULL; at = json_object_iter_next(source, at))
        names[i++] = json_object_iter_key(at);
    qsort(names, count, sizeof *names, compare_utf16);

    if (!hf_buf_put_u8(out, '{', err))
        return false;
    for (i = 0; i < count; i++) {
        if (i > 0 && !hf_buf_put_u8(out, ',', err))
            return false;
        if (!add_string(names[i], strlen(names[i]), out, err) || !hf_buf_put_u8(out, ':', err) ||
            !add_value(json_object_get(object, names[i]), depth + 1, out, err))
            return false;
    }
    return hf_buf_put_u8(out, '}', err);
}

static bool
add_array(const json_t *array, unsigned depth, struct hf_buf *out, struct hf_error *err)
{
    if (!hf_buf_put_u8(out, '[', err))
        return false;
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (i > 0 && !hf_buf_put_u8(out, ',', err))
            return false;
        if (!add_value(json_array_get(array, i), depth + 1, out, err))
            return false;
    }
    return hf_buf_put_u8(out, ']', err);
}

/* RFC 8785 3.2.2.2: the short escapes where JSON has one, \u00xx for other controls, all else as it is. */
static bool
add_string(const char *text, size_t length, struct hf_buf *out, struct hf_error *err)
{
    static const char *const short_escapes[256] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r", ['"'] = "\\\"", ['\\'] = "\\\\",
    };
    if (!hf_buf_put_u8(out, '"', err))
        return false;

    size_t plain = 0; // start of what needs no escape and was not added yet
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (byte >= 0x20 && short_escapes[byte] == NULL)
            continue;
        if (!hf_buf_add(out, text + plain, i - plain, err))
            return false;
        if (short_escapes[byte] != NULL ? !hf_buf_add_text(out, short_escapes[byte], err)
                                        : !hf_buf_printf(out, err, "\\u%04x", byte))
            return false;
        plain = i + 1;
    }
    return hf_buf_add(out, text + plain, length - plain, err) && hf_buf_put_u8(out, '"', err);
}

/* RFC 8785 prints numbers as ECMAScript does, where all are doubles: beyond 2^53 readers would differ. */
static bool
add_integer(json_int_t value, struct hf_buf *out, struct hf_error *err)
{
    if (value > HF_JSON_INTEGER_MOST || value < -HF_JSON_INTEGER_MOST)
        return hf_fail(err, HF_ERR_USAGE, "canonical JSON cannot hold %" JSON_INTEGER_FORMAT ": it is beyond 2^53",
                       value);
    return hf_buf_printf(out, err, "%" JSON_INTEGER_FORMAT, value);
}

/*
 * Orders UTF-8 texts by their UTF-16 code units.  That is the order of the bytes, but for one thing: characters above
 * U+FFFF (lead bytes F0 to F4) become surrogates (D800 to DFFF), which sort before U+E000 to U+FFFF (lead EE, EF).
 */
static int
compare_utf16(const void *a, const void *b)
{
    const uint8_t *first = *(const uint8_t *const *)a, *second = *(const uint8_t *const *)b;
    while (*first != 0 && *first == *second) {
        first++;
        second++;
    }
    return (int)utf16_rank(*first) - (int)utf16_rank(*second);
}

static unsigned
utf16_rank(uint8_t byte)
{
    return byte == 0xEE || byte == 0xEF ? byte + 0x100u : byte;
}

static bool
member_of(const json_t *object, const char *member, const char *what, json_type type, json_t **ret,
          struct hf_error *err)
{
    if (!json_is_object(object))
        return hf_fail(err, HF_ERR_CORRUPT, "%s is not a JSON object", what);

    json_t *value = json_object_get(object, member);
    if (value == NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"%s\" is missing", what, member);
    if (json_typeof(value) != type && !(type == JSON_TRUE && json_is_false(value)))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"%s\" is not %s", what, member, type_name(type));
    *ret = value;
    return true;
}

static const char *
type_name(json_type type)
{
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    default:
        return "true or false";
    }
}
