#include "base/text.h"

#include <stdbool.h>

size_t
hf_utf8_length(const uint8_t *at, size_t left)
{
    if (left == 0)
        return 0;

    uint8_t lead = at[0];
    size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;

    bool overlong = (lead == 0xE0 && at[1] < 0xA0) || (lead == 0xF0 && at[1] < 0x90);
    bool surrogate = lead == 0xED && at[1] >= 0xA0;
    bool too_high = lead == 0xF4 && at[1] >= 0x90;
    return overlong || surrogate || too_high ? 0 : length;
}
