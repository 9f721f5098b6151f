/*
 * What is taken over from a backup-my.cnf is plain: it names no folder, brings no word of its own into a command line,
 * and says the same once more when it was written out and read again.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "sandbox/engine_mariadb.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_mariadb_layout layout = {0}, again = {0};
    struct hf_error err;
    char text[2048];
    if (!hf_mariadb_parse_layout((const char *)data, size, &layout, &err)) {
        assert(err.kind == HF_ERR_CORRUPT && layout.page_bytes == 0);
        return 0;
    }
    assert(layout.page_bytes >= 4096 && layout.page_bytes <= 65536 && layout.undo_tablespaces <= 127);
    assert(strpbrk(layout.data_file_path, "/ \t=,'\"\\\n") == NULL &&
           strpbrk(layout.checksum_algorithm, "/ =") == NULL);
    assert(strlen(layout.key_plugin) < sizeof layout.key_plugin && strpbrk(layout.key_plugin, "/= .\"'\n") == NULL);
    assert(strstr(layout.data_file_path, "raw") == NULL || strchr(layout.data_file_path, ':') != NULL);
    const int length = snprintf(
        text, sizeof text,
        "innodb_page_size=%u\ninnodb_log_file_size=%llu\ninnodb_undo_tablespaces=%u\ninnodb_data_file_path=%s\n"
        "innodb_checksum_algorithm=%s",
        layout.page_bytes, (unsigned long long)layout.log_file_bytes, layout.undo_tablespaces, layout.data_file_path,
        layout.checksum_algorithm);
    assert(hf_mariadb_parse_layout(text, (size_t)length, &again, &err));
    assert(again.page_bytes == layout.page_bytes && again.log_file_bytes == layout.log_file_bytes &&
           again.undo_tablespaces == layout.undo_tablespaces &&
           strcmp(again.data_file_path, layout.data_file_path) == 0 &&
           strcmp(again.checksum_algorithm, layout.checksum_algorithm) == 0);
    return 0;
}
