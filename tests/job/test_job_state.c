#include "tests/support/test.h"

#include "server/job/job_state.h"

HF_TEST(a_job_moves_only_along_the_arrows)
{
    static const char arrows[6][6] = {
        //                  q r F x c l
        [HF_JOB_QUEUED] = {'-', '+', '-', '-', '+', '+'},    [HF_JOB_RUNNING] = {'-', '-', '+', '+', '+', '+'},
        [HF_JOB_FINISHED] = {'-', '-', '-', '-', '-', '-'},  [HF_JOB_FAILED] = {'-', '-', '-', '-', '-', '-'},
        [HF_JOB_CANCELLED] = {'-', '-', '-', '-', '-', '-'}, [HF_JOB_LOST] = {'-', '-', '-', '-', '-', '-'},
    };
    for (unsigned from = 0; from < 6; from++)
        for (unsigned to = 0; to < 6; to++)
            assert_int_equal(hf_job_state_may(from, to), arrows[from][to] == '+');
}

HF_TEST(what_has_ended_stays)
{
    for (unsigned from = 0; from < 6; from++) {
        bool leaves = false;
        for (unsigned to = 0; to < 6; to++)
            leaves = leaves || hf_job_state_may(from, to);
        assert_int_equal(hf_job_state_has_ended(from), !leaves);
    }
}
