#include "tests/support/test.h"

#include "server/job/order.h"

static struct hf_settings settings_of(int64_t memory, int64_t processors);

HF_TEST(a_person_goes_before_the_schedule_whatever_it_is_about)
{
    const struct hf_job_order person = {.asked = true, .newest_at = -1};
    const struct hf_job_order schedule = {.never_proven = true, .newest_open = true, .newest_at = 9};
    assert_true(hf_job_goes_before(&person, &schedule));
    assert_false(hf_job_goes_before(&schedule, &person));
    assert_false(hf_job_goes_before(&person, &person)); // in the order they came
}

HF_TEST(a_source_that_changed_is_first_then_one_without_any_proof_then_the_newest_that_is_open)
{
    static const struct hf_job_order in_order[] = {
        {.changed = true, .newest_open = true, .newest_at = 3},
        {.changed = true, .newest_at = 9},
        {.never_proven = true, .newest_open = true, .newest_at = 5},
        {.never_proven = true, .newest_open = true, .newest_at = 4},
        {.never_proven = true, .newest_at = 9}, // its newest failed
        {.newest_open = true, .newest_at = 8},
        {.newest_open = true, .newest_at = 7},
        {.newest_at = 9},
        {.newest_at = -1},
    };
    for (size_t i = 0; i < HF_LENGTH(in_order); i++)
        for (size_t j = 0; j < HF_LENGTH(in_order); j++)
            if (hf_job_goes_before(&in_order[i], &in_order[j]) != (i < j))
                fail_msg("%zu and %zu are in the wrong order", i, j);
}

HF_TEST(as_many_copies_run_as_memory_and_processors_allow_and_always_one)
{
    static const struct {
        int64_t memory, processors;
        unsigned places;
    } rows[] = {{12, 8, 4}, {12, 2, 2}, {11, 8, 3}, {1, 8, 1}, {3000, 1024, 64}};
    for (size_t i = 0; i < HF_LENGTH(rows); i++) {
        const struct hf_settings settings = settings_of(rows[i].memory * (int64_t)HF_GIB, rows[i].processors);
        assert_int_equal(hf_sandbox_budget_of(&settings).places, rows[i].places);
    }
}

HF_TEST(without_settings_there_is_room_for_one_at_least)
{
    const struct hf_settings settings = settings_of(0, 0);
    const struct hf_sandbox_budget budget = hf_sandbox_budget_of(&settings);
    assert_true(budget.places >= 1);
    assert_true(budget.processors >= 1);
}

HF_TEST(processors_are_shared_by_those_that_run_at_once)
{
    const struct hf_sandbox_budget budget = {.places = 4, .processors = 8};
    assert_int_equal(hf_sandbox_budget_share(&budget, 0), 1);
    assert_int_equal(hf_sandbox_budget_share(&budget, 1), 8);
    assert_int_equal(hf_sandbox_budget_share(&budget, 3), 2);
    assert_int_equal(hf_sandbox_budget_share(&budget, 100), 2); // no more than four run
    const struct hf_sandbox_budget scarce = {.places = 4, .processors = 2};
    assert_int_equal(hf_sandbox_budget_share(&scarce, 4), 1);
}

static struct hf_settings
settings_of(int64_t memory, int64_t processors)
{
    struct hf_settings settings = {0};
    settings.sandbox.memory = 2 * (int64_t)HF_GIB;
    settings.scratch.memory = (int64_t)HF_GIB;
    settings.sandbox.budget_memory = memory;
    settings.sandbox.budget_processors = processors;
    return settings;
}
