#include "tests/support/test.h"

#include "server/retention/lock.h"

#define DAY INT64_C(86400000)
#define NOW INT64_C(1795442400000) // 2026-11-23T14:00:00Z

static enum hf_lock_change
judge(int64_t current, int64_t wanted)
{
    struct hf_error err;
    enum hf_lock_change change;
    hf_assert_ok(hf_lock_judge(current, wanted, NOW, &change, &err), &err);
    return change;
}

HF_TEST(a_backup_without_a_lock_gets_one)
{
    assert_int_equal(judge(INT64_MIN, NOW + 1), HF_LOCK_NEW);
    assert_int_equal(judge(NOW, NOW + 1), HF_LOCK_NEW); // the one there has ended
}

HF_TEST(a_lock_that_would_end_in_the_past_is_refused)
{
    struct hf_error err;
    enum hf_lock_change change;
    assert_false(hf_lock_judge(INT64_MIN, NOW, NOW, &change, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message, "2026-11-23T14:00:00.000Z is past: a lock ends in the future");
}

HF_TEST(a_lock_is_never_shortened)
{
    struct hf_error err;
    enum hf_lock_change change;
    assert_false(hf_lock_judge(NOW + 2 * DAY, NOW + 2 * DAY - 1, NOW, &change, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_string_equal(err.message, "the backup is locked until 2026-11-25T14:00:00.000Z, which is later than "
                                     "2026-11-25T13:59:59.999Z");
    assert_string_equal(err.hint, "A lock is only ever extended.");
}

HF_TEST(crumbs_do_not_extend_a_lock)
{
    assert_int_equal(judge(NOW + 5 * DAY, NOW + 5 * DAY), HF_LOCK_TOO_LITTLE);
    assert_int_equal(judge(NOW + 5 * DAY, NOW + 6 * DAY - 1), HF_LOCK_TOO_LITTLE); // less than a day
    assert_int_equal(judge(NOW + 5 * DAY, NOW + 6 * DAY), HF_LOCK_EXTENDED);
    assert_int_equal(judge(NOW + 100 * DAY, NOW + 110 * DAY - 1), HF_LOCK_TOO_LITTLE); // less than a tenth
    assert_int_equal(judge(NOW + 100 * DAY, NOW + 110 * DAY), HF_LOCK_EXTENDED);
}
