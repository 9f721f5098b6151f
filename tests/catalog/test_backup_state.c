#include "tests/support/test.h"

#include "catalog/backup_state.h"

#define STATES 4
#define EVENTS 5

HF_TEST(only_an_attempt_that_passed_makes_a_backup_proven)
{
    for (unsigned s = 0; s < STATES; s++) {
        for (unsigned event = 0; event < EVENTS; event++) {
            enum hf_backup_state after = hf_backup_state_after(s, event);
            if (after == HF_BACKUP_PROVEN)
                assert_true(event == HF_BACKUP_PASSED || s == HF_BACKUP_PROVEN);
            if (event == HF_BACKUP_PASSED)
                assert_int_equal(after, HF_BACKUP_PROVEN);
        }
    }
}

HF_TEST(an_inconclusive_attempt_leaves_every_state)
{
    for (unsigned s = 0; s < STATES; s++)
        assert_int_equal(hf_backup_state_after(s, HF_BACKUP_INCONCLUSIVE), s);
}

HF_TEST(damage_wins_over_every_state_and_healing_proves_nothing)
{
    for (unsigned s = 0; s < STATES; s++)
        assert_int_equal(hf_backup_state_after(s, HF_BACKUP_DAMAGE_FOUND), HF_BACKUP_DAMAGED);
    assert_int_equal(hf_backup_state_after(HF_BACKUP_DAMAGED, HF_BACKUP_HEALED), HF_BACKUP_UNPROVEN);
    assert_int_equal(hf_backup_state_after(HF_BACKUP_PROVEN, HF_BACKUP_HEALED), HF_BACKUP_PROVEN);
    assert_int_equal(hf_backup_state_after(HF_BACKUP_FAILED, HF_BACKUP_HEALED), HF_BACKUP_FAILED);
}

HF_TEST(a_failed_attempt_takes_the_proof_back_and_does_not_hide_damage)
{
    assert_int_equal(hf_backup_state_after(HF_BACKUP_UNPROVEN, HF_BACKUP_DID_NOT_RECOVER), HF_BACKUP_FAILED);
    assert_int_equal(hf_backup_state_after(HF_BACKUP_PROVEN, HF_BACKUP_DID_NOT_RECOVER), HF_BACKUP_FAILED);
    assert_int_equal(hf_backup_state_after(HF_BACKUP_FAILED, HF_BACKUP_DID_NOT_RECOVER), HF_BACKUP_FAILED);
    assert_int_equal(hf_backup_state_after(HF_BACKUP_DAMAGED, HF_BACKUP_DID_NOT_RECOVER), HF_BACKUP_DAMAGED);
}

HF_TEST(names_go_both_ways_and_other_words_are_corrupt)
{
    struct hf_error err;
    for (unsigned i = 0; i < STATES; i++) {
        enum hf_backup_state parsed;
        hf_assert_ok(hf_backup_state_parse(hf_backup_state_name(i), &parsed, &err), &err);
        assert_int_equal(parsed, i);
    }
    for (unsigned i = 0; i < EVENTS; i++) {
        enum hf_backup_event event;
        hf_assert_ok(hf_backup_event_parse(hf_backup_event_name(i), &event, &err), &err);
        assert_int_equal(event, i);
    }
    enum hf_backup_state parsed;
    enum hf_backup_event event;
    assert_false(hf_backup_state_parse("fine", &parsed, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message, "\"fine\" is no state of a backup");
    assert_false(hf_backup_event_parse("", &event, &err));
    assert_string_equal(err.message, "\"\" is no result of a verdict");
}
