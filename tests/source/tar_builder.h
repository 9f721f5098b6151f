/*
 * tar_builder.h - ustar, member by member, also those no server would send
 */
#pragma once
#include "base/buf.h"

struct hf_test_tar_member {
    const char *name;
    char type;        // '0' file, '5' folder, '1' hard link, '2' link, '3' device, 'x' pax...
    const char *link; // or NULL
    const void *data;
    size_t length;
    size_t claimed;    // the size in the header; 0: length
    const char *magic; // 8 bytes; NULL: "ustar\0" "00"
};

void hf_test_tar_add(struct hf_buf *tar, const struct hf_test_tar_member *member);
void hf_test_tar_add_file(struct hf_buf *tar, const char *name, const void *data, size_t length);
void hf_test_tar_add_folder(struct hf_buf *tar, const char *name);
void hf_test_tar_end(struct hf_buf *tar); // two empty blocks
