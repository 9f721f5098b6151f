/*
 * A manifest page or root that is accepted encodes to the very bytes it came from, and holds only
 * names that can stand in a backup.
 */
#include <assert.h>
#include <string.h>

#include "server/repository/manifest.h"
#include "tests/fuzz/fuzz.h"

static void try_page(const uint8_t *data, size_t size);
static void try_root(const uint8_t *data, size_t size);

/* Both begin with version 1, so that one corpus serves both. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_page(data, size);
    try_root(data, size);
    return 0;
}

static void
try_page(const uint8_t *data, size_t size)
{
    _cleanup_(hf_manifest_page_freep) struct hf_manifest_page *page = NULL;
    _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    struct hf_error err;

    if (!hf_manifest_page_decode(data, size, &page, &err)) {
        assert(err.kind == HF_ERR_CORRUPT && page == NULL);
        return;
    }
    bool encoded = hf_manifest_page_encode(page->files, page->file_count, &again, &err);
    assert(encoded && again.length == size && memcmp(again.data, data, size) == 0);
    for (size_t i = 0; i < page->file_count; i++) {
        bool is_name = hf_path_check(page->files[i].name, &err) && strchr(page->files[i].name, '/') == NULL;
        assert(is_name);
    }
}

static void
try_root(const uint8_t *data, size_t size)
{
    _cleanup_(hf_manifest_root_freep) struct hf_manifest_root *root = NULL;
    _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    struct hf_error err;

    if (!hf_manifest_root_decode(data, size, &root, &err)) {
        assert(err.kind == HF_ERR_CORRUPT && root == NULL);
        return;
    }
    bool encoded = hf_manifest_root_encode(root, &again, &err);
    assert(encoded && again.length == size && memcmp(again.data, data, size) == 0);
    for (size_t i = 1; i < root->folder_count; i++) {
        bool is_path = hf_path_check(root->folders[i].path, &err);
        assert(is_path);
    }
}
