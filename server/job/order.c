#include "server/job/order.h"

#include <sys/sysinfo.h>
#include <unistd.h>

#define PLACES_MOST 64

bool
hf_job_goes_before(const struct hf_job_order *a, const struct hf_job_order *b)
{
    if (a->asked || b->asked)
        return a->asked && !b->asked;
    if (a->changed != b->changed)
        return a->changed;
    if (a->never_proven != b->never_proven)
        return a->never_proven;
    if (a->newest_open != b->newest_open)
        return a->newest_open;
    return a->newest_at > b->newest_at;
}

struct hf_sandbox_budget
hf_sandbox_budget_of(const struct hf_settings *settings)
{
    struct sysinfo machine;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t memory = (uint64_t)settings->sandbox.budget_memory;
    uint64_t processors = (uint64_t)settings->sandbox.budget_processors;
    const uint64_t each = (uint64_t)settings->sandbox.memory + (uint64_t)settings->scratch.memory;
    if (memory == 0 && sysinfo(&machine) == 0)
        memory = (uint64_t)machine.totalram * machine.mem_unit / 2;
    if (processors == 0)
        processors = online > 0 ? (uint64_t)online : 1;

    uint64_t places = memory / each < processors ? memory / each : processors;
    if (places == 0) // one that is alone has whatever the machine has
        places = 1;
    return (struct hf_sandbox_budget){.places = places < PLACES_MOST ? (unsigned)places : PLACES_MOST,
                                      .processors = (unsigned)processors};
}

unsigned
hf_sandbox_budget_share(const struct hf_sandbox_budget *budget, unsigned copies)
{
    const unsigned at_once = copies < budget->places ? copies : budget->places;
    return at_once == 0 || budget->processors < at_once ? 1 : budget->processors / at_once;
}
