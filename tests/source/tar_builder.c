#include "tests/source/tar_builder.h"

#include <stdio.h>

#include "tests/support/test.h"

#define BLOCK 512

void
hf_test_tar_add(struct hf_buf *tar, const struct hf_test_tar_member *member)
{
    char header[BLOCK] = {0};
    struct hf_error err;

    strncpy(header, member->name, 100);
    snprintf(header + 100, 8, "%07o", member->type == '5' ? 0700 : 0600);
    snprintf(header + 108, 8, "%07o", 0);
    snprintf(header + 116, 8, "%07o", 0);
    snprintf(header + 124, 12, "%011zo", member->claimed != 0 ? member->claimed : member->length);
    snprintf(header + 136, 12, "%011o", 1700000000);
    header[156] = member->type;
    if (member->link != NULL)
        strncpy(header + 157, member->link, 100);
    memcpy(header + 257, member->magic == NULL ? "ustar\00000" : member->magic, 8);

    unsigned sum = 8 * ' ';
    for (size_t i = 0; i < BLOCK; i++)
        sum += (uint8_t)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    header[155] = ' ';

    hf_assert_ok(hf_buf_add(tar, header, sizeof header, &err), &err);
    if (member->length > 0)
        hf_assert_ok(hf_buf_add(tar, member->data, member->length, &err), &err);
    hf_assert_ok(hf_buf_add_zeros(tar, (BLOCK - member->length % BLOCK) % BLOCK, &err), &err);
}

void
hf_test_tar_add_file(struct hf_buf *tar, const char *name, const void *data, size_t length)
{
    hf_test_tar_add(tar, &(struct hf_test_tar_member){.name = name, .type = '0', .data = data, .length = length});
}

void
hf_test_tar_add_folder(struct hf_buf *tar, const char *name)
{
    hf_test_tar_add(tar, &(struct hf_test_tar_member){.name = name, .type = '5'});
}

void
hf_test_tar_end(struct hf_buf *tar)
{
    struct hf_error err;
    hf_assert_ok(hf_buf_add_zeros(tar, 2 * BLOCK, &err), &err);
}
