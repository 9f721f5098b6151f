#include "tests/support/test.h"

#include "server/cli/progress.h"
#include "server/cli/show.h"
#include "server/cli/table.h"

#define SECOND_NS UINT64_C(1000000000)

static const char *
shown(hf_show_function *show, bool colour, json_t *result)
{
    static struct hf_buf text;
    struct hf_cli cli = {.colour = colour};
    struct hf_error err;
    hf_buf_done(&text);
    text = HF_BUF_INIT(HF_MIB);
    hf_assert_ok(show(&cli, result, &text, &err), &err);
    json_decref(result);
    return hf_buf_text(&text);
}

HF_TEST(columns_are_aligned_by_characters_and_numbers_to_the_right)
{
    static const char *const headings[] = {"NAME", ">SIZE", "LAST", NULL};
    static const char *const cells[] = {"klinik-ä", "5", "x", "b", "1000", NULL};
    _cleanup_(hf_table_done) struct hf_table table;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_KIB);
    struct hf_error err;
    hf_assert_ok(hf_table_begin(&table, headings, &err), &err);
    for (size_t i = 0; i < HF_LENGTH(cells); i++)
        hf_assert_ok(hf_table_add(&table, cells[i], "31", &err), &err);
    hf_assert_ok(hf_table_print(&table, false, &text, &err), &err);
    assert_string_equal(hf_buf_text(&text), "NAME      SIZE  LAST\n"
                                            "klinik-ä     5  x\n"
                                            "b         1000  -\n");
}

HF_TEST(text_of_strangers_does_not_drive_the_terminal)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_KIB);
    struct hf_error err;
    hf_assert_ok(hf_add_plain(&text,
                              "a\033[31mb\nc\x7f\xc2\x9b"
                              "d\xc3\xa4",
                              &err),
                 &err);
    assert_string_equal(hf_buf_text(&text), "a?[31mb?c??d\xc3\xa4");
}

static json_t *
status_of(const char *health)
{
    return json_pack("{s:{s:s, s:i, s:i}, s:[{s:s, s:s, s:{s:s}, s:n, s:{s:s}, s:i, s:i, s:n}], s:[], s:[], s:[]}",
                     "repository", "place", "/srv/repo", "stored_bytes", 2048, "free_bytes", 1048576, "sources", "name",
                     "clinic", "health", health, "newest_backup", "committed_at", "2026-11-22T14:03:07.123Z",
                     "newest_proven", "last_attempt", "result", "inconclusive", "backups", 3, "stored_bytes", 1024,
                     "next_backup_at", "damages", "gaps", "jobs");
}

HF_TEST(the_status_is_one_line_a_source_with_times_in_utc)
{
    assert_string_equal(
        shown(hf_show_status, false, status_of("inconclusive")),
        "repository  /srv/repo  2.0 KiB stored, 1.0 MiB free\n\n"
        "SOURCE  NEWEST        TAKEN                 NEWEST PROVEN  LAST ATTEMPT  BACKUPS   STORED  "
        "NEXT BACKUP\n"
        "clinic  inconclusive  2026-11-22 14:03:07Z  -              inconclusive        3  1.0 KiB  -\n");
}

HF_TEST(colours_are_only_used_where_they_are_wanted)
{
    assert_null(strchr(shown(hf_show_status, false, status_of("proven")), '\033'));
    assert_non_null(strstr(shown(hf_show_status, true, status_of("proven")), "\033[32mproven\033[0m"));
    assert_non_null(strstr(shown(hf_show_status, true, status_of("damaged")), "\033[31mdamaged\033[0m"));
}

HF_TEST(damages_gaps_and_a_damaged_catalog_stand_below_the_status)
{
    json_t *status = status_of("damaged");
    json_object_set_new(status, "alarms",
                        json_pack("[{s:s, s:n, s:s, s:s}, {s:s, s:s, s:s, s:s}]", "what", "catalog damaged", "source",
                                  "message", "it is \033[1m\"/s/damaged\"", "remedy", "Look after the disk.", "what",
                                  "retention apply", "source", "clinic", "message", "too much", "remedy", "Say so."));
    json_object_set_new(status, "damages",
                        json_pack("[{s:s, s:s, s:s, s:s}]", "backup", "7f3a", "source", "clinic", "found_at",
                                  "2026-11-22T14:03:07.123Z", "reason", "a pack is missing"));
    json_object_set_new(status, "gaps",
                        json_pack("[{s:s, s:s, s:s, s:s}]", "from", "0/1", "to", "0/2", "noticed_at",
                                  "2026-11-22T14:03:07.123Z", "cause", "slot lost"));
    const char *text = shown(hf_show_status, false, status);
    assert_non_null(
        strstr(text, "Damaged: backup 7f3a of source clinic, found 2026-11-22 14:03:07Z: a pack is missing\n"));
    assert_non_null(strstr(text, "Gap: 0/1 to 0/2, noticed 2026-11-22 14:03:07Z: slot lost\n"));
    assert_non_null(strstr(text, "Alarm, catalog damaged: it is ?[1m\"/s/damaged\"\n  Look after the disk.\n"));
    assert_non_null(strstr(text, "Alarm, retention apply of source clinic: too much\n  Say so.\n"));
}

HF_TEST(what_mends_a_source_or_a_damage_stands_below_the_status)
{
    json_t *status = status_of("unproven");
    assert_null(strstr(shown(hf_show_status, false, json_deep_copy(status)), "To mend it"));
    json_object_set_new(json_array_get(json_object_get(status, "sources"), 0), "remedy",
                        json_string("holdfast verify clinic"));
    json_object_set_new(status, "damages",
                        json_pack("[{s:s, s:s, s:s, s:s}]", "backup", "7f3a", "source", "clinic", "reason", "lost",
                                  "remedy", "holdfast retention apply clinic --replaced"));
    const char *text = shown(hf_show_status, false, status);
    assert_non_null(strstr(text, "To mend it:\n  clinic is unproven: holdfast verify clinic\n"
                                 "  backup 7f3a is damaged: holdfast retention apply clinic --replaced\n"));
}

HF_TEST(a_plan_shows_each_backup_and_the_command_that_carries_it_out)
{
    json_t *plan = json_pack("{s:s, s:s, s:i, s:i, s:b, s:s, s:{s:b}, s:[{s:s, s:s, s:s, s:b, s:s}]}", "source",
                             "clinic", "plan", "12ab", "stay", 4, "go", 1, "unusual", 1, "refused",
                             "the clock is\nwrong", "rules", "replaced", 1, "backups", "backup", "7f3a", "taken_at",
                             "2026-11-22T14:03:07.123Z", "state", "proven", "keep", 0, "sentence", "Goes: it may.");
    assert_non_null(plan);
    const char *text = shown(hf_show_retention_plan, false, json_pack("{s:[o]}", "plans", plan));
    assert_string_equal(text, "clinic: 4 stay, 1 go\n"
                              "BACKUP  TAKEN                 STATE   PLAN\n"
                              "7f3a    2026-11-22 14:03:07Z  proven  Goes: it may.\n"
                              "\nTo remove what goes, which is more than is usual:\n"
                              "  holdfast retention apply clinic --plan 12ab --removing 1 --replaced\n"
                              "It would be refused now: the clock is?wrong\n");
    assert_string_equal(shown(hf_show_retention_plan, false, json_pack("{s:[]}", "plans")), "There are no sources.\n");
}

HF_TEST(a_lock_says_what_it_is_worth_and_when_it_changed_nothing)
{
    assert_string_equal(
        shown(hf_show_lock, false,
              json_pack("{s:s, s:s, s:s, s:s, s:i, s:s}", "change", "extended", "backup", "7f3a", "source", "clinic",
                        "until", "2027-01-31T00:00:00.000Z", "packs", 3, "storage", "advisory")),
        "Backup 7f3a of source clinic is locked until 2027-01-31 00:00:00Z, with the 3 packs it needs.\n"
        "The lock is advisory: Holdfast keeps it; who owns the disk can still delete.\n");
    assert_non_null(strstr(shown(hf_show_lock, false,
                                 json_pack("{s:s, s:s, s:s}", "change", "too_little", "backup", "7f3a", "until",
                                           "2027-01-31T00:00:00.000Z")),
                           "Nothing was changed: backup 7f3a is locked until 2027-01-31 00:00:00Z already"));
}

HF_TEST(holds_are_listed_with_person_and_reason)
{
    assert_string_equal(shown(hf_show_holds, false,
                              json_pack("{s:[{s:i, s:s, s:s, s:s, s:s, s:n, s:s, s:s}]}", "holds", "number", 17,
                                        "backup", "7f3a", "source", "clinic", "kind", "hold", "since",
                                        "2026-11-22T14:03:07.123Z", "until", "person", "ada", "reason", "a case")),
                        "NO  BACKUP  SOURCE  KIND  SINCE                 UNTIL     PERSON  REASON\n"
                        "17  7f3a    clinic  hold  2026-11-22 14:03:07Z  released  ada     a case\n");
}

HF_TEST(no_answer_however_empty_crashes_what_shows_it)
{
    static hf_show_function *const shows[] = {hf_show_any,
                                              hf_show_sources,
                                              hf_show_doctor,
                                              hf_show_backup,
                                              hf_show_backups,
                                              hf_show_verify,
                                              hf_show_restore,
                                              hf_show_status,
                                              hf_show_evidence,
                                              hf_show_check,
                                              hf_show_scrub,
                                              hf_show_gc,
                                              hf_show_rebuild,
                                              hf_show_jobs,
                                              hf_show_retention_plan,
                                              hf_show_retention_apply,
                                              hf_show_hold_added,
                                              hf_show_hold_released,
                                              hf_show_holds,
                                              hf_show_lock,
                                              hf_show_catalog_check,
                                              hf_show_catalog_acknowledged};
    for (size_t i = 0; i < HF_LENGTH(shows); i++) {
        (void)shown(shows[i], true, json_object());
        (void)shown(shows[i], true,
                    json_pack("{s:[{}], s:[{}], s:[{}], s:[{}], s:[{}], s:[{}], s:[{}], s:i, s:i}", "sources",
                              "backups", "attempts", "jobs", "damages", "gaps", "checks", "damage_count", 1,
                              "differences", 1));
    }
}

/* What a progress line writes, with the clock in our hand. */
struct screen {
    char *text;
    size_t length;
    FILE *file;
    struct hf_progress_line line;
};

static void
begin(struct screen *screen, bool terminal, bool silent)
{
    *screen = (struct screen){0};
    screen->file = open_memstream(&screen->text, &screen->length);
    hf_progress_begin(&screen->line, screen->file, terminal, silent);
}

static void
hear(struct screen *screen, json_t *event, uint64_t now_ns)
{
    hf_progress_event(&screen->line, event, now_ns);
    json_decref(event);
}

static const char *
written(struct screen *screen)
{
    hf_progress_end(&screen->line);
    fclose(screen->file);
    return screen->text;
}

HF_TEST(a_terminal_shows_one_line_that_is_written_over)
{
    struct screen screen;
    begin(&screen, true, false);
    hear(&screen, hf_event_progress("copy", 0, 4 * HF_MIB), 0);
    hear(&screen, hf_event_progress("copy", HF_MIB, 4 * HF_MIB), SECOND_NS);
    assert_string_equal(written(&screen), "\r\033[Kcopy: 0 B of 4.0 MiB (0 %)"
                                          "\r\033[Kcopy: 1.0 MiB of 4.0 MiB (25 %), 1.0 MiB/s"
                                          "\r\033[K");
    free(screen.text);
}

HF_TEST(elsewhere_a_line_tells_of_each_phase_and_every_ten_seconds)
{
    struct screen screen;
    begin(&screen, false, false);
    for (uint64_t second = 0; second <= 25; second++)
        hear(&screen, hf_event_progress("copy", second * HF_MIB, 0), second * SECOND_NS);
    hear(&screen, hf_event_progress("commit", 0, 0), 26 * SECOND_NS);
    hear(&screen, hf_event_note("warning", "watch out"), 27 * SECOND_NS);
    assert_string_equal(written(&screen), "copy\n"
                                          "copy: 10.0 MiB, 1.0 MiB/s\n"
                                          "copy: 20.0 MiB, 1.0 MiB/s\n"
                                          "commit\n"
                                          "warning: watch out\n");
    free(screen.text);
}

HF_TEST(for_programs_nothing_is_shown)
{
    struct screen screen;
    begin(&screen, true, true);
    hear(&screen, hf_event_progress("copy", 0, 1), 0);
    hear(&screen, hf_event_note("warning", "watch out"), 0);
    assert_string_equal(written(&screen), "");
    free(screen.text);
}
