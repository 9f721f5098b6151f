/*
 * attributes.h - the few compiler attributes the whole project leans on
 *
 * Resources are bound to scope: _cleanup_(destructor) on the declaration, HF_TAKE(pointer) where
 * ownership moves on.  A destructor for _cleanup_ takes the address of the variable and accepts an
 * empty one.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define _cleanup_(destructor)  __attribute__((cleanup(destructor)))
#define HF_MUST_CHECK          __attribute__((warn_unused_result))
#define HF_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define HF_LENGTH(array)       (sizeof(array) / sizeof((array)[0]))

#define HF_KIB ((size_t)1024)
#define HF_MIB (1024 * HF_KIB)
#define HF_GIB (1024 * HF_MIB)

/* Moves ownership out of a _cleanup_ variable: yields the pointer and leaves NULL behind. */
#define HF_TAKE(pointer)                                                                                               \
    __extension__({                                                                                                    \
        __typeof__(pointer) *hf_take_from_ = &(pointer);                                                               \
        __typeof__(pointer) hf_taken_ = *hf_take_from_;                                                                \
        *hf_take_from_ = NULL;                                                                                         \
        hf_taken_;                                                                                                     \
    })

/* What _cleanup_() calls for memory from malloc(). */
static inline void
hf_freep(void *pointer)
{
    free(*(void **)pointer);
}
