#include "server/job/kinds.h"

int
main(int argc, char **argv)
{
    const struct hf_daemon_program program = {.kinds = hf_job_kinds, .kind_count = hf_job_kind_count};
    return hf_daemon_main(argc, argv, &program);
}
