#include "tests/report/clinic.h"

#include "base/file.h"
#include "tests/evidence/contents.h"

/* Under the leak sanitizer: fontconfig keeps its fonts until the process ends, and not all of them reachable. */
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\nleak:libpango\n";
}

/* With HOLDFAST_REPORTS=<folder> the reports are kept there, to be looked at, or to become those of golden/. */
static void
keep(const char *name, const struct hf_buf *bytes)
{
    const char *folder = getenv("HOLDFAST_REPORTS");
    struct hf_error err;
    if (folder != NULL)
        hf_assert_ok(
            hf_file_publish(test_path(folder, name), bytes->data, bytes->length, 0644, HF_PUBLISH_REPLACE, &err), &err);
}

static void
keep_all(const char *name, const json_t *model)
{
    char file[128];
    struct hf_buf html = clinic_render(model, HF_REPORT_HTML, HF_PAPER_A4),
                  a4 = clinic_render(model, HF_REPORT_PDF, HF_PAPER_A4),
                  letter = clinic_render(model, HF_REPORT_PDF, HF_PAPER_LETTER);
    snprintf(file, sizeof file, "%s.html", name);
    keep(file, &html);
    snprintf(file, sizeof file, "%s-a4.pdf", name);
    keep(file, &a4);
    snprintf(file, sizeof file, "%s-letter.pdf", name);
    keep(file, &letter);
    hf_buf_done(&html);
    hf_buf_done(&a4);
    hf_buf_done(&letter);
}

/* What reports said when their words were last agreed on: a change of them is seen, and meant. */
static void
assert_golden(const char *name, const json_t *model)
{
    const char *source = getenv("HOLDFAST_SOURCE");
    if (source == NULL)
        HF_TEST_SKIP("HOLDFAST_SOURCE does not say where the kept reports are");
    struct hf_buf page = clinic_render(model, HF_REPORT_HTML, HF_PAPER_A4),
                  kept = test_read(test_path(test_path(source, "tests/report/golden"), name));
    assert_string_equal(hf_buf_text(&page), hf_buf_text(&kept));
    hf_buf_done(&page);
    hf_buf_done(&kept);
}

HF_TEST(reports_are_made_of_every_kind)
{
    struct clinic clinic = clinic_new();
    clinic_fill(&clinic);
    const struct hf_id passed = clinic_add(&clinic, &(struct clinic_day){.day = 24, .hour = 9, .result = "passed"});
    const struct hf_id failed =
        clinic_add(&clinic, &(struct clinic_day){.day = 24,
                                                 .hour = 10,
                                                 .result = "failed",
                                                 .reason = "an index lacks 1 of 41,220 rows",
                                                 .finding = "clinic.public.appointments_by_day"});
    const struct hf_id stopped = clinic_add(
        &clinic, &(struct clinic_day){.day = 24,
                                      .hour = 11,
                                      .result = "inconclusive",
                                      .reason = "the copy needs 2.9 GiB, and the scratch folder has 1.1 GiB left"});
    json_t *models[] = {clinic_backup(&clinic, &passed), clinic_backup(&clinic, &failed),
                        clinic_backup(&clinic, &stopped), clinic_month(&clinic, NULL), clinic_month(&clinic, "clinic")};
    static const char *const names[] = {"passed", "failed", "inconclusive", "month", "month-clinic"};
    for (size_t i = 0; i < HF_LENGTH(models); i++) {
        keep_all(names[i], models[i]);
        if (strcmp(names[i], "failed") == 0)
            assert_golden("failed.html", models[i]);
        if (strcmp(names[i], "month") == 0)
            assert_golden("month.html", models[i]);
        json_decref(models[i]);
    }
    clinic_done(&clinic);
}

static const char *
verdict_of(const json_t *model)
{
    return json_string_value(json_object_get(model, "verdict"));
}

static const json_t *
source_of(const json_t *model, size_t index)
{
    return json_array_get(json_object_get(model, "sources"), index);
}

static json_int_t
number_of(const json_t *object, const char *member)
{
    assert_true(json_is_integer(json_object_get(object, member)));
    return json_integer_value(json_object_get(object, member));
}

static void
assert_says(const struct hf_buf *page, const char *words)
{
    if (strstr(hf_buf_text(page), words) == NULL)
        fail_msg("the report does not say \"%s\"", words);
}

static void
assert_never_says(const struct hf_buf *page, const char *words)
{
    if (strstr(hf_buf_text(page), words) != NULL)
        fail_msg("the report says \"%s\"", words);
}

HF_TEST(a_verdict_says_what_the_newest_sound_document_says_and_no_more)
{
    static const struct {
        const char *result, *reason, *verdict, *word;
        bool without_document;
    } cases[] = {
        {"passed", NULL, "recoverable", ">RECOVERABLE<", false},
        {"failed", "an index lacks 1 row", "not_recoverable", ">NOT RECOVERABLE<", false},
        {"inconclusive", "no room", "not_determined", ">NOT DETERMINED<", false},
        {NULL, NULL, "not_tested", ">NOT TESTED<", false},
        {"passed", NULL, "not_tested", ">NOT TESTED<", true},
    };
    struct clinic clinic = clinic_new();
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        const struct hf_id id =
            clinic_add(&clinic, &(struct clinic_day){.day = 1 + (unsigned)i,
                                                     .result = cases[i].result,
                                                     .reason = cases[i].reason,
                                                     .without_document = cases[i].without_document});
        json_t *model = clinic_backup(&clinic, &id);
        struct hf_buf page = clinic_render(model, HF_REPORT_HTML, HF_PAPER_A4);
        assert_string_equal(verdict_of(model), cases[i].verdict);
        assert_says(&page, cases[i].word);
        assert_int_equal(hf_report_is_bad_news(model), i != 0);
        hf_buf_done(&page);
        json_decref(model);
    }
    clinic_done(&clinic);
}

HF_TEST(an_older_document_does_not_speak_for_a_newer_attempt)
{
    struct clinic clinic = clinic_new();
    const struct hf_id id = clinic_add(&clinic, &(struct clinic_day){.day = 2, .result = "passed"});
    clinic_add_unsupported(&clinic, 0, &id);
    json_t *model = clinic_backup(&clinic, &id);
    struct hf_buf page = clinic_render(model, HF_REPORT_HTML, HF_PAPER_A4);
    assert_string_equal(verdict_of(model), "not_supported");
    assert_says(&page, ">NOT SUPPORTED<");
    assert_never_says(&page, ">RECOVERABLE<");
    assert_true(hf_report_is_bad_news(model));
    hf_buf_done(&page);
    json_decref(model);
    clinic_done(&clinic);
}

HF_TEST(a_month_counts_what_verified_documents_support)
{
    struct clinic clinic = clinic_new();
    clinic_fill(&clinic);
    clinic_add(&clinic, &(struct clinic_day){.source = 1, .day = 22, .result = "passed", .without_document = true});
    json_t *model = clinic_month(&clinic, NULL);
    const json_t *first = source_of(model, 0), *second = source_of(model, 1);
    const json_t *days = json_object_get(first, "days");
    assert_string_equal(json_string_value(json_array_get(days, 0)), "proven");
    assert_string_equal(json_string_value(json_array_get(days, 8)), "failed");
    assert_string_equal(json_string_value(json_array_get(days, 12)), "none");
    assert_string_equal(json_string_value(json_array_get(days, 15)), "inconclusive");
    assert_string_equal(json_string_value(json_array_get(days, 24)), "future");
    assert_int_equal(number_of(first, "past_days"), 24);
    assert_int_equal(number_of(first, "covered_days"), 21);
    assert_int_equal(number_of(first, "attempts"), 23);
    assert_int_equal(number_of(first, "passed"), 21);
    assert_int_equal(json_array_size(json_object_get(first, "gaps")), 1);
    const json_t *failed = json_array_get(json_object_get(first, "failed"), 0);
    assert_true(json_is_object(json_object_get(failed, "closed_by")));
    assert_true(json_is_null(json_object_get(json_array_get(json_object_get(second, "failed"), 0), "closed_by")));
    // The catalog calls that backup proven; without a document it is a backup and no more.
    assert_string_equal(json_string_value(json_array_get(json_object_get(second, "days"), 21)), "backup");
    assert_int_equal(number_of(second, "unsupported"), 1);
    assert_true(hf_report_is_bad_news(model));
    json_decref(model);
    clinic_done(&clinic);
}

HF_TEST(a_document_that_was_changed_breaks_the_report_and_is_not_counted)
{
    struct clinic clinic = clinic_new();
    struct hf_error err;
    clinic_add(&clinic, &(struct clinic_day){.day = 1, .result = "passed"});
    const struct hf_id id = clinic_add(&clinic, &(struct clinic_day){.day = 2, .result = "passed"});
    const char *path = test_path(clinic.ledger_folder, "000000000000000000000000000003e9.json");
    struct hf_buf bytes = test_read(path);
    bytes.data[bytes.length / 2] ^= 1;
    hf_assert_ok(hf_file_publish(path, bytes.data, bytes.length, 0644, HF_PUBLISH_REPLACE, &err), &err);
    json_t *model = clinic_backup(&clinic, &id), *month = clinic_month(&clinic, NULL);
    struct hf_buf page = clinic_render(model, HF_REPORT_HTML, HF_PAPER_A4);
    assert_string_equal(verdict_of(model), "not_tested");
    assert_string_equal(json_string_value(json_object_get(json_object_get(model, "ledger"), "state")), "broken");
    assert_true(strstr(hf_buf_text(&page), "LEDGER BROKEN") < strstr(hf_buf_text(&page), "NOT TESTED"));
    assert_int_equal(number_of(source_of(month, 0), "covered_days"), 1);
    hf_buf_done(&bytes);
    hf_buf_done(&page);
    json_decref(model);
    json_decref(month);
    clinic_done(&clinic);
}

HF_TEST(the_same_facts_give_the_same_bytes_in_every_format)
{
    struct clinic clinic = clinic_new();
    clinic_fill(&clinic);
    json_t *one = clinic_month(&clinic, NULL), *two = clinic_month(&clinic, NULL);
    static const enum hf_report_format formats[] = {HF_REPORT_JSON, HF_REPORT_HTML, HF_REPORT_PDF};
    for (size_t i = 0; i < HF_LENGTH(formats); i++)
        for (enum hf_paper paper = HF_PAPER_A4; paper <= HF_PAPER_LETTER; paper++) {
            struct hf_buf a = clinic_render(one, formats[i], paper), b = clinic_render(two, formats[i], paper);
            assert_int_equal(a.length, b.length);
            assert_memory_equal(a.data, b.data, a.length);
            hf_buf_done(&a);
            hf_buf_done(&b);
        }
    json_decref(one);
    json_decref(two);
    clinic_done(&clinic);
}

HF_TEST(no_name_and_no_reason_of_a_stranger_becomes_html)
{
    static const char evil[] = "<script>alert(1)</script>\"'&<img src=x onerror=y>";
    struct clinic clinic = clinic_new();
    const struct hf_id id = clinic_add(
        &clinic,
        &(struct clinic_day){
            .day = 3, .result = "failed", .reason = evil, .finding = evil, .name = evil, .hostile_check = evil});
    clinic_add_gap(&clinic, 0, 4, evil);
    json_object_set_new(clinic.known, "site", json_string(evil));
    json_array_append_new(json_object_get(clinic.known, "keys"),
                          json_pack("{s:s, s:s, s:b, s:n, s:n, s:b}", "name", evil, "kind", evil, "unattended", 0,
                                    "opened_at", "due_at", "overdue", 1));
    json_t *models[] = {clinic_backup(&clinic, &id), clinic_month(&clinic, NULL)};
    for (size_t i = 0; i < HF_LENGTH(models); i++) {
        struct hf_buf page = clinic_render(models[i], HF_REPORT_HTML, HF_PAPER_A4),
                      pdf = clinic_render(models[i], HF_REPORT_PDF, HF_PAPER_A4);
        assert_never_says(&page, "<script");
        assert_never_says(&page, "<img");
        assert_never_says(&page, "\"'&<");
        assert_says(&page, "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;&lt;img src=x onerror=y&gt;");
        assert_true(pdf.length > 1000);
        hf_buf_done(&page);
        hf_buf_done(&pdf);
        json_decref(models[i]);
    }
    clinic_done(&clinic);
}

HF_TEST(a_backup_has_one_page_and_a_month_two_on_either_paper)
{
    struct clinic clinic = clinic_new();
    clinic_fill(&clinic);
    const struct hf_id id = clinic_add(
        &clinic, &(struct clinic_day){.day = 24, .hour = 11, .result = "inconclusive", .reason = "there is no room"});
    json_t *models[] = {clinic_backup(&clinic, &id), clinic_month(&clinic, NULL)};
    for (size_t i = 0; i < HF_LENGTH(models); i++)
        for (enum hf_paper paper = HF_PAPER_A4; paper <= HF_PAPER_LETTER; paper++) {
            struct hf_buf pdf = clinic_render(models[i], HF_REPORT_PDF, paper);
            const char *words = i == 0 ? "/Count 1" : "/Count 2";
            assert_non_null(memmem(pdf.data, pdf.length, words, strlen(words)));
            assert_non_null(memmem(pdf.data, pdf.length, "/MarkInfo", 9));
            assert_non_null(memmem(pdf.data, pdf.length, "/StructTreeRoot", 15));
            hf_buf_done(&pdf);
        }
    json_decref(models[0]);
    json_decref(models[1]);
    clinic_done(&clinic);
}

HF_TEST(html_has_landmarks_captions_and_headings_of_rows_and_needs_nothing_else)
{
    struct clinic clinic = clinic_new();
    clinic_fill(&clinic);
    json_t *model = clinic_month(&clinic, NULL);
    struct hf_buf page = clinic_render(model, HF_REPORT_HTML, HF_PAPER_A4);
    static const char *const said[] = {"<html lang=\"en\">",
                                       "<main>",
                                       "</main>",
                                       "<footer>",
                                       "<h1>",
                                       "<h2>",
                                       "<caption>",
                                       "<th scope=\"row\"",
                                       "<th scope=\"col\"",
                                       "default-src 'none'"};
    for (size_t i = 0; i < HF_LENGTH(said); i++)
        assert_says(&page, said[i]);
    assert_never_says(&page, "http://");
    assert_never_says(&page, "https://");
    assert_never_says(&page, "src=");
    assert_never_says(&page, "url(");
    hf_buf_done(&page);
    json_decref(model);
    clinic_done(&clinic);
}

HF_TEST(controls_are_shown_only_when_all_that_speaks_to_them_is_there)
{
    struct clinic clinic = clinic_new();
    for (unsigned day = 1; day <= 24; day++)
        clinic_add(&clinic, &(struct clinic_day){.day = day, .result = "passed"});
    json_array_remove(json_object_get(clinic.known, "sources"), 1);
    json_array_remove(json_object_get(clinic.known, "keys"), 1);
    json_t *model = clinic_month(&clinic, NULL), *control;
    size_t index;
    json_array_foreach(json_object_get(model, "controls"), index, control)
    {
        const char *ref = json_string_value(json_object_get(control, "ref"));
        assert_string_equal(json_string_value(json_object_get(control, "verdict")),
                            strcmp(ref, "164.308(a)(7)(ii)(C)") == 0 ? "not_shown" : "shown");
    }
    assert_true(index > 10);
    assert_false(hf_report_is_bad_news(model));
    json_decref(model);

    clinic_add(&clinic,
               &(struct clinic_day){.day = 24, .hour = 9, .result = "failed", .reason = "an index lacks a row"});
    model = clinic_month(&clinic, NULL);
    json_array_foreach(json_object_get(model, "controls"), index, control)
    {
        if (strcmp(json_string_value(json_object_get(control, "ref")), "164.308(a)(7)(ii)(D)") == 0)
            assert_string_equal(json_string_value(json_object_get(control, "verdict")), "partly");
    }
    assert_true(hf_report_is_bad_news(model));
    json_decref(model);
    clinic_done(&clinic);
}

HF_TEST(what_an_earlier_key_sealed_counts_for_as_long_as_that_key_is_trusted)
{
    struct clinic clinic = clinic_new();
    const struct hf_id old = clinic_add(&clinic, &(struct clinic_day){.day = 2, .result = "passed"});
    clinic_rotate(&clinic);
    const struct hf_id new = clinic_add(&clinic, &(struct clinic_day){.day = 3, .result = "passed"});
    const struct hf_id both[] = {old, new};
    for (size_t i = 0; i < HF_LENGTH(both); i++) {
        json_t *model = clinic_backup(&clinic, &both[i]);
        assert_string_equal(verdict_of(model), "recoverable");
        assert_false(hf_report_is_bad_news(model));
        json_decref(model);
    }

    /* Nobody vouches for the earlier key any more: what it sealed is nobody's word. */
    struct hf_signer *before = clinic.before;
    clinic.before = NULL;
    json_t *model = clinic_backup(&clinic, &old);
    assert_string_equal(verdict_of(model), "not_tested");
    assert_string_equal(json_string_value(json_object_get(json_object_get(model, "ledger"), "state")), "broken");
    assert_true(hf_report_is_bad_news(model));
    json_decref(model);
    model = clinic_backup(&clinic, &new);
    assert_true(hf_report_is_bad_news(model));
    json_decref(model);
    clinic.before = before;
    clinic_done(&clinic);
}
