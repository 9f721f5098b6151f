#include "tests/support/test.h"

#include "base/json.h"

static json_t *
parse(const char *text)
{
    struct hf_error err;
    json_t *value = NULL;
    hf_assert_ok(hf_json_parse(text, strlen(text), "settings", &value, &err), &err);
    return value;
}

static void
assert_refused(const char *text, size_t length, const char *message)
{
    struct hf_error err;
    json_t *value = NULL;
    assert_false(hf_json_parse(text, length, "settings", &value, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_null(value);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" was refused with: %s", text, err.message);
}

static void
assert_canonical(const char *text, const char *expected)
{
    _cleanup_(hf_json_freep) json_t *value = parse(text);
    _cleanup_(hf_buf_done) struct hf_buf out = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    hf_assert_ok(hf_json_canonical(value, &out, &err), &err);
    assert_string_equal(hf_buf_text(&out), expected);
}

/* `depth` arrays in each other. */
static void
nested(char *text, size_t depth)
{
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    text[2 * depth] = '\0';
}

HF_TEST(a_document_with_integers_is_taken)
{
    _cleanup_(hf_json_freep) json_t *value =
        parse("{\"a\": -12, \"b\": [true, false, null], \"e\": \"1.5e3\", \"max\": 9223372036854775807}");
    assert_int_equal(json_integer_value(json_object_get(value, "a")), -12);
    assert_true(json_integer_value(json_object_get(value, "max")) == INT64_MAX);
}

HF_TEST(what_is_not_json_is_refused_with_line_and_column)
{
    assert_refused("{\"a\": 1,\n \"b\" 2}", 16, "settings is not valid JSON at line 2, column 6");
    assert_refused("", 0, "settings is not valid JSON");
    assert_refused("{\"a\": 1", 7, "settings is not valid JSON");
    assert_refused("{} {}", 5, "settings is not valid JSON");
    assert_refused("7", 1, "settings is not valid JSON");
    assert_refused("[\"\xFF\"]", 5, "settings is not valid JSON");
    assert_refused("[9223372036854775808]", 21, "too big integer");
    assert_refused("[\"abc", 5, "settings is not valid JSON");
    assert_refused("[\"abc\\", 6, "settings is not valid JSON");
    assert_refused("]]]]{", 5, "settings is not valid JSON");
}

HF_TEST(duplicate_members_and_nul_are_refused)
{
    assert_refused("{\"a\": 1, \"a\": 2}", 16, "duplicate");
    assert_refused("[\"a\\u0000b\"]", 12, "settings is not valid JSON");
    assert_refused("[\"a\0b\"]", 7, "settings is not valid JSON");
    assert_refused("{\"a\\u0000\": 1}", 14, "settings is not valid JSON");
}

HF_TEST(real_numbers_are_refused_where_they_stand)
{
    assert_refused("{\"a\": 1,\n\"b\": 1.5}", 18,
                   "settings has a real number at line 2, column 6: only integers may be");
    assert_refused("[1e3]", 5, "real number at line 1, column 2");
    assert_refused("[\"x\\\"\", -1E3]", 13, "real number at line 1, column 9");
}

HF_TEST(depth_32_is_taken_and_33_refused)
{
    char text[2 * 5000 + 1];
    struct hf_error err;
    nested(text, 32);
    _cleanup_(hf_json_freep) json_t *value = parse(text);
    _cleanup_(hf_buf_done) struct hf_buf out = HF_BUF_INIT(HF_KIB);
    hf_assert_ok(hf_json_canonical(value, &out, &err), &err);
    assert_string_equal(hf_buf_text(&out), text);

    nested(text, 33);
    assert_refused(text, 66, "settings is nested deeper than 32 at line 1, column 33");
    nested(text, 5000);
    assert_refused(text, 10000, "settings is nested deeper than 32");

    _cleanup_(hf_json_freep) json_t *deep = json_array();
    for (int i = 0; i < 32; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, deep);
        deep = outer;
    }
    assert_false(hf_json_canonical(deep, &out, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message, "canonical JSON cannot be nested deeper than 32");
}

HF_TEST(brackets_inside_strings_are_not_depth)
{
    char text[200];
    snprintf(text, sizeof text, "[\"%0100d\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"]", 0);
    _cleanup_(hf_json_freep) json_t *value = parse(text);
    assert_int_equal(json_array_size(value), 1);
}

HF_TEST(canonical_text_has_no_blanks_and_sorted_members)
{
    assert_canonical("{ \"b\" : [ 1 , -2,0, -0 ], \"a\" : { \"d\": null, \"c\": true, \"cc\": false } , \"\": \"\" }",
                     "{\"\":\"\",\"a\":{\"c\":true,\"cc\":false,\"d\":null},\"b\":[1,-2,0,0]}");
    assert_canonical("{}", "{}");
    assert_canonical("[]", "[]");
}

HF_TEST(members_are_sorted_by_utf_16_code_units)
{
    // The example of RFC 8785 3.2.3; the emoji's surrogate D83D sorts before U+FB33.
    assert_canonical(
        "{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew Letter Dalet With Dagesh\","
        "\"1\":\"One\",\"\\ud83d\\ude00\":\"Emoji: Grinning Face\",\"\\u0080\":\"Control\","
        "\"\\u00f6\":\"Latin Small Letter O With Diaeresis\"}",
        "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xC2\x80\":\"Control\","
        "\"\xC3\xB6\":\"Latin Small Letter O With Diaeresis\",\"\xE2\x82\xAC\":\"Euro Sign\","
        "\"\xF0\x9F\x98\x80\":\"Emoji: Grinning Face\","
        "\"\xEF\xAC\xB3\":\"Hebrew Letter Dalet With Dagesh\"}");
    assert_canonical("{\"\\ue000\":1,\"\\ud7ff\":2,\"\\udbff\\udfff\":3,\"\\ud800\\udc00\":4}",
                     "{\"\xED\x9F\xBF\":2,\"\xF0\x90\x80\x80\":4,\"\xF4\x8F\xBF\xBF\":3,\"\xEE\x80\x80\":1}");
}

HF_TEST(strings_are_escaped_as_the_rfc_says)
{
    // The example of RFC 8785 3.2.2.2
    assert_canonical("[\"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\"]",
                     "[\"\xE2\x82\xAC$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"]");
    assert_canonical("[\"\\b\\t\\n\\f\\r\\u001f\\u007f\"]", "[\"\\b\\t\\n\\f\\r\\u001f\x7f\"]");
}

HF_TEST(integers_stop_where_doubles_do)
{
    assert_canonical("[9007199254740991,-9007199254740991]", "[9007199254740991,-9007199254740991]");
    const char *const refused[] = {"[9007199254740992]", "[-9007199254740992]"};
    for (size_t i = 0; i < 2; i++) {
        _cleanup_(hf_json_freep) json_t *value = parse(refused[i]);
        _cleanup_(hf_buf_done) struct hf_buf out = HF_BUF_INIT(HF_KIB);
        struct hf_error err;
        assert_false(hf_json_canonical(value, &out, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_non_null(strstr(err.message, "is beyond 2^53"));
        assert_int_equal(out.length, 0);
    }
}

HF_TEST(a_real_number_has_no_canonical_text)
{
    _cleanup_(hf_json_freep) json_t *value = json_pack("[f]", 1.5);
    _cleanup_(hf_buf_done) struct hf_buf out = HF_BUF_INIT(HF_KIB);
    struct hf_error err;
    hf_assert_ok(hf_buf_add_text(&out, "before", &err), &err);
    assert_false(hf_json_canonical(value, &out, &err));
    assert_string_equal(hf_buf_text(&out), "before");
}

HF_TEST(canonical_text_parses_to_itself)
{
    const char *const texts[] = {"{\"a\":[1,{\"b\":\"\\u0001\"}],\"z\":\"\xF0\x9F\x98\x80\"}",
                                 "[[],{},\"\",0,null,true]"};
    for (size_t i = 0; i < HF_LENGTH(texts); i++)
        assert_canonical(texts[i], texts[i]);
}

HF_TEST(getters_name_the_member_and_the_document)
{
    _cleanup_(hf_json_freep) json_t *value =
        parse("{\"s\": \"text\", \"i\": 5, \"b\": false, \"a\": [], \"o\": {}, \"h\": \"0aff\","
              " \"id\": \"007f3aff000000000000000000000000\"}");
    struct hf_error err;
    const char *text;
    int64_t number;
    bool flag = true;
    json_t *inner;
    struct hf_id id;
    uint8_t hex[2];

    hf_assert_ok(hf_json_string(value, "s", "evidence", &text, &err), &err);
    assert_string_equal(text, "text");
    hf_assert_ok(hf_json_integer(value, "i", "evidence", 5, 5, &number, &err), &err);
    assert_int_equal(number, 5);
    hf_assert_ok(hf_json_boolean(value, "b", "evidence", &flag, &err), &err);
    assert_false(flag);
    hf_assert_ok(hf_json_array(value, "a", "evidence", &inner, &err), &err);
    assert_true(json_is_array(inner));
    hf_assert_ok(hf_json_object(value, "o", "evidence", &inner, &err), &err);
    assert_true(json_is_object(inner));
    hf_assert_ok(hf_json_bytes(value, "h", "evidence", hex, 2, &err), &err);
    assert_memory_equal(hex, "\x0a\xff", 2);
    hf_assert_ok(hf_json_id(value, "id", "evidence", &id, &err), &err);
    assert_int_equal(id.bytes[2], 0x3a);

    assert_false(hf_json_string(value, "backup_id", "evidence", &text, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message, "evidence: member \"backup_id\" is missing");
    assert_false(hf_json_string(value, "i", "evidence", &text, &err));
    assert_string_equal(err.message, "evidence: member \"i\" is not a string");
    assert_false(hf_json_boolean(value, "s", "evidence", &flag, &err));
    assert_string_equal(err.message, "evidence: member \"s\" is not true or false");
    assert_false(hf_json_integer(value, "i", "evidence", 0, 4, &number, &err));
    assert_string_equal(err.message, "evidence: member \"i\" is 5, which is not within 0 to 4");
    assert_false(hf_json_integer(value, "i", "evidence", 6, 9, &number, &err));
    assert_false(hf_json_array(value, "o", "evidence", &inner, &err));
    assert_string_equal(err.message, "evidence: member \"o\" is not an array");
    assert_false(hf_json_object(value, "a", "evidence", &inner, &err));
    assert_false(hf_json_id(value, "s", "evidence", &id, &err));
    assert_string_equal(err.message, "evidence: member \"s\" is \"text\", which is not an id of 32 hex digits");
    assert_false(hf_json_bytes(value, "h", "evidence", hex, 1, &err));
    assert_string_equal(err.message, "evidence: member \"h\" is not 1 bytes in hex");
    assert_false(hf_json_string(json_object_get(value, "a"), "x", "evidence", &text, &err));
    assert_string_equal(err.message, "evidence is not a JSON object");
    assert_false(hf_json_string(NULL, "x", "evidence", &text, &err));
}

HF_TEST(members_are_set_and_a_value_that_could_not_be_made_is_told)
{
    _cleanup_(hf_json_freep) json_t *object = json_object();
    struct hf_error err;
    struct hf_id id = HF_ID_NONE;
    hf_assert_ok(hf_json_set(object, "id", hf_json_id_text(&id), &err), &err);
    hf_assert_ok(hf_json_set(object, "hash", hf_json_hex((const uint8_t *)"\x01\xfe", 2), &err), &err);
    assert_string_equal(json_string_value(json_object_get(object, "hash")), "01fe");
    assert_int_equal(json_string_length(json_object_get(object, "id")), 32);
    assert_false(hf_json_set(object, "none", NULL, &err));
    assert_int_equal(err.kind, HF_ERR_NO_MEMORY);
}

static void
assert_foreign(const char *bytes, size_t length, size_t most, const char *expected)
{
    _cleanup_(hf_json_freep) json_t *text = hf_json_foreign_text(bytes, length, most);
    assert_non_null(text);
    assert_string_equal(json_string_value(text), expected);
    assert_int_equal(json_string_length(text), strlen(expected));
}

HF_TEST(foreign_text_becomes_valid_whatever_it_was)
{
    assert_foreign("plain \xC3\xA9", 8, 100, "plain \xC3\xA9");
    assert_foreign("a\0b", 3, 100,
                   "a\xEF\xBF\xBD"
                   "b");
    assert_foreign("\xFF\xC3", 2, 100, "\xEF\xBF\xBD\xEF\xBF\xBD");
    assert_foreign("\xC0\x80", 2, 100, "\xEF\xBF\xBD\xEF\xBF\xBD"); // overlong
    assert_foreign("\xED\xA0\x80", 3, 3, "\xEF\xBF\xBD");           // surrogate
    assert_foreign("\xF4\x90\x80\x80", 4, 3, "\xEF\xBF\xBD");       // above U+10FFFF
    assert_foreign("\xE0\x9F\xBF", 3, 3, "\xEF\xBF\xBD");           // overlong
    assert_foreign("\xF0\x8F\xBF\xBF", 4, 3, "\xEF\xBF\xBD");       // overlong
    assert_foreign("ab\xC3\xA9", 4, 3, "ab");                       // no half character
    assert_foreign("ab\xC3\xA9", 4, 4, "ab\xC3\xA9");
    assert_foreign("\xC3\xA9", 1, 9, "\xEF\xBF\xBD"); // cut off by its end
    assert_foreign("", 0, 0, "");
}
