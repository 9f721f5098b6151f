#include "server/job/source_names.h"

#include <stdlib.h>
#include <string.h>

bool
hf_source_names_keep(void *context, const struct hf_source_row *row, struct hf_error *err)
{
    struct hf_source_names *names = context;
    if (names->origin != NULL && strcmp(row->origin, names->origin) != 0)
        return true;
    char **longer = reallocarray(names->list, names->count + 1, sizeof *longer);
    if (longer != NULL)
        names->list = longer;
    if (longer == NULL || (longer[names->count] = strdup(row->name)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the sources");
    names->count++;
    return true;
}

void
hf_source_names_done(struct hf_source_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->list[i]);
    free(names->list);
}
