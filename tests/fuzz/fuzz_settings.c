/*
 * Settings that are taken hold what the rest of the server relies on, and their sources survive the way through JSON.
 */
#include <assert.h>
#include <string.h>

#include "server/settings/settings.h"
#include "tests/fuzz/fuzz.h"

static void check_source(const struct hf_source_settings *source);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = NULL;
    struct hf_error err;
    if (!hf_settings_parse("file", data, size, &settings, &err)) {
        assert(err.kind == HF_ERR_USAGE && strncmp(err.message, "file:", 5) == 0);
        assert(settings == NULL);
        return 0;
    }
    assert(settings->repository[0] == '/' && settings->state[0] == '/' && settings->socket[0] == '/');
    assert((settings->unlock.key_file == NULL) != (settings->unlock.passphrase_file == NULL));
    assert(settings->jobs_at_once >= 1 && settings->workers >= 0 && settings->compression_level >= 1);
    assert(settings->source_count <= HF_SETTINGS_SOURCES_MOST);
    for (size_t i = 0; i < settings->source_count; i++)
        check_source(settings->sources[i]);
    return 0;
}

static void
check_source(const struct hf_source_settings *source)
{
    _cleanup_(hf_json_freep) json_t *once = NULL, *twice = NULL;
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *again = NULL;
    struct hf_error err;
    bool ok = hf_source_name_check(source->name, &err) && hf_source_settings_to_json(source, &once, &err) &&
              hf_source_settings_from_json(source->name, once, &again, &err) &&
              hf_source_settings_to_json(again, &twice, &err);
    assert(ok && json_equal(once, twice));
}
