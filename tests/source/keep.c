#include "tests/source/keep.h"

#include "tests/support/test.h"

/* In front of each block, so that all stay reachable. */
struct kept {
    struct kept *before;
    max_align_t block[];
};

static struct kept *newest;

void *
hf_test_keep(size_t size)
{
    struct kept *kept = calloc(1, sizeof *kept + size);
    if (kept == NULL)
        fail_msg("out of memory");
    kept->before = newest;
    newest = kept;
    return kept->block;
}
