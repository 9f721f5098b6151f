#include "server/job/moments.h"

#include <string.h>

static const struct hf_moments *const rows[] = {&hf_moments_postgres, &hf_moments_mariadb};

bool
hf_moments_find(const char *engine, const struct hf_restore_target *target, const struct hf_moments **ret,
                struct hf_error *err)
{
    const struct hf_restore_engine *product = hf_restore_engine_find(engine);
    for (size_t i = 0; i < HF_LENGTH(rows); i++) {
        if (strcmp(rows[i]->engine, engine) != 0)
            continue;
        *ret = rows[i];
        if (!target->wanted || rows[i]->takes(target))
            return true;
        hf_fail(err, HF_ERR_USAGE, "\"%s\"%s is no moment of a source of %s", target->option,
                target->action != NULL ? " with \"--action\"" : "", product != NULL ? product->product : engine);
        return hf_fail_hint(err, "Such a source is restored to %s.", rows[i]->options);
    }
    return hf_fail(err, HF_ERR_USAGE, "backups of \"%.16s\" cannot be restored", engine);
}
