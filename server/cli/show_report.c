#include "base/time.h"
#include "server/cli/show.h"
#include "server/cli/table.h"

static const char *text_of(const json_t *object, const char *member);

bool
hf_show_report(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char bytes[HF_TIME_TEXT_BYTES];
    const json_int_t count = json_integer_value(json_object_get(result, "bytes"));
    (void)cli;
    return hf_buf_add_text(out, "The report is in \"", err) && hf_add_plain(out, text_of(result, "output"), err) &&
           hf_buf_printf(out, err, "\" (%s).\n", hf_bytes_format((uint64_t)(count > 0 ? count : 0), bytes)) &&
           (!json_is_true(json_object_get(result, "bad_news")) ||
            hf_buf_add_text(out, "It says that something needs attention.\n", err));
}

bool
hf_show_export(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    return hf_buf_printf(out, err, "%lld documents of a ledger of %lld are in \"",
                         (long long)json_integer_value(json_object_get(result, "documents")),
                         (long long)json_integer_value(json_object_get(result, "entries"))) &&
           hf_add_plain(out, text_of(result, "output"), err) &&
           hf_buf_add_text(out, "\".\nCheck them anywhere: python3 verify.py --key FILE\n", err);
}

static const char *
text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text == NULL ? "-" : text;
}
