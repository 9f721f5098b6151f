#include "server/retention/lock.h"

#include "base/time.h"

bool
hf_lock_judge(int64_t current, int64_t wanted, int64_t now, enum hf_lock_change *ret, struct hf_error *err)
{
    char text[HF_TIME_TEXT_BYTES], there[HF_TIME_TEXT_BYTES];
    if (wanted <= now)
        return hf_fail(err, HF_ERR_USAGE, "%s is past: a lock ends in the future", hf_time_format(wanted, text));
    if (current <= now) {
        *ret = HF_LOCK_NEW;
        return true;
    }
    if (wanted < current) {
        hf_fail(err, HF_ERR_CONFLICT, "the backup is locked until %s, which is later than %s",
                hf_time_format(current, there), hf_time_format(wanted, text));
        return hf_fail_hint(err, "A lock is only ever extended.");
    }
    const int64_t added = wanted - current, left = current - now;
    *ret = added < HF_LOCK_LEAST_MS || added < left / HF_LOCK_LEAST_PART ? HF_LOCK_TOO_LITTLE : HF_LOCK_EXTENDED;
    return true;
}
