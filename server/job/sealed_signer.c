#include "server/job/sealed_signer.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "server/evidence/sign.h"
#include "server/keys/envelope.h"

#define SPACE         " \t\r\n"
#define BEGIN_LINE    "-----BEGIN HOLDFAST SIGNING KEY-----"
#define END_LINE      "-----END HOLDFAST SIGNING KEY-----"
#define LINE_BYTES    32 // of the envelope; twice as many digits
#define FILE_MOST     1024
#define SEALED_MOST   (FILE_MOST + HF_ENVELOPE_EXTRA)
#define REPOSITORY_AT 16 // envelope.h
#define GENERATION_AT 12
#define MAGIC         "HFSEAL01"
#define MAGIC_BYTES   8

static struct hf_envelope envelope_of(const struct hf_repository *repository);
static bool read_lines(const char *kit, struct hf_buf *sealed, struct hf_error *err);
static bool read_line(const char *line, size_t length, struct hf_buf *sealed, struct hf_error *err);
static bool check_owner(const struct hf_repository *repository, const struct hf_buf *sealed, struct hf_error *err);

bool
hf_sealed_signer_add(struct hf_repository *repository, const char *path, struct hf_buf *out, struct hf_error *err)
{
    const struct hf_envelope envelope = envelope_of(repository);
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(FILE_MOST), sealed = HF_BUF_INIT(SEALED_MOST);
    if (!hf_file_read(path, &plain, err) ||
        !hf_envelope_seal(&envelope, hf_repository_root_key(repository), plain.data, plain.length, &sealed, err) ||
        !hf_buf_add_text(out, BEGIN_LINE "\n", err))
        return false;
    for (size_t at = 0; at < sealed.length; at += LINE_BYTES) {
        char line[2 * LINE_BYTES + 1];
        const size_t left = sealed.length - at;
        hf_hex_format(sealed.data + at, left < LINE_BYTES ? left : LINE_BYTES, line);
        if (!hf_buf_add_text(out, line, err) || !hf_buf_add_text(out, "\n", err))
            return false;
    }
    return hf_buf_add_text(out, END_LINE "\n", err);
}

bool
hf_sealed_signer_restore(struct hf_repository *repository, const char *kit, const char *path, struct hf_error *err)
{
    const struct hf_envelope envelope = envelope_of(repository);
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(FILE_MOST), sealed = HF_BUF_INIT(SEALED_MOST);
    struct hf_signer *signer = NULL;
    if (!read_lines(kit, &sealed, err) || !check_owner(repository, &sealed, err) ||
        !hf_envelope_open(&envelope, hf_repository_root_key(repository), sealed.data, sealed.length,
                          "the signing key of the kit", &plain, err) ||
        !hf_file_publish(path, plain.data, plain.length, 0600, HF_PUBLISH_EXCLUSIVE, err))
        return false;
    if (!hf_signer_open(path, &signer, err)) { // it was whole when it was sealed: this is our disk
        (void)!unlink(path);
        return false;
    }
    hf_signer_close(signer);
    return true;
}

bool
hf_sealed_signer_find(const char *kit, const char **ret_at, size_t *ret_length, struct hf_error *err)
{
    const char *at = strstr(kit, BEGIN_LINE);
    if (at == NULL) {
        hf_fail(err, HF_ERR_USAGE, "the kit has no signing key: there is no line \"" BEGIN_LINE "\"");
        return hf_fail_hint(err, "Kits of \"holdfast key recovery-kit\" have one.");
    }
    const char *end = strstr(at, END_LINE);
    if (end == NULL)
        return hf_fail(err, HF_ERR_USAGE, "the signing key of the kit is cut off: there is no line \"" END_LINE "\"");
    *ret_at = at;
    *ret_length = (size_t)(end - at) + strlen(END_LINE);
    return true;
}

static struct hf_envelope
envelope_of(const struct hf_repository *repository)
{
    const struct hf_id id = hf_repository_id(repository);
    return (struct hf_envelope){.kind = HF_ENVELOPE_SIGNING_KEY,
                                .generation = hf_repository_root_generation(repository),
                                .repository = id,
                                .object = id};
}

static bool
read_lines(const char *kit, struct hf_buf *sealed, struct hf_error *err)
{
    const char *at;
    size_t length;
    if (!hf_sealed_signer_find(kit, &at, &length, err))
        return false;
    const char *end = at + length - strlen(END_LINE);
    for (at += strlen(BEGIN_LINE); at < end; at += strcspn(at, SPACE)) {
        at += strspn(at, SPACE);
        if (at < end && !read_line(at, strcspn(at, SPACE), sealed, err))
            return false;
    }
    return true;
}

static bool
read_line(const char *line, size_t length, struct hf_buf *sealed, struct hf_error *err)
{
    char text[2 * LINE_BYTES + 1] = "";
    uint8_t bytes[LINE_BYTES];
    if (length > 2 * LINE_BYTES || length % 2 != 0)
        return hf_fail(err, HF_ERR_USAGE, "the signing key of the kit has a line of %zu characters", length);
    memcpy(text, line, length);
    if (!hf_hex_parse(text, bytes, length / 2, NULL))
        return hf_fail(err, HF_ERR_USAGE, "the signing key of the kit has a line that is no hex: \"%s\"", text);
    return hf_buf_add(sealed, bytes, length / 2, err) || hf_fail_within(err, "the signing key of the kit");
}

/* What its header says, before any key: a kit of another time or place is no damaged one. */
static bool
check_owner(const struct hf_repository *repository, const struct hf_buf *sealed, struct hf_error *err)
{
    const struct hf_id id = hf_repository_id(repository);
    if (sealed->length < HF_ENVELOPE_EXTRA || memcmp(sealed->data, MAGIC, MAGIC_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the signing key of the kit is damaged");
    if (memcmp(sealed->data + REPOSITORY_AT, id.bytes, HF_ID_BYTES) != 0)
        return hf_fail(err, HF_ERR_CONFLICT, "the kit is of another repository");
    const uint32_t generation = hf_get_u32(sealed->data + GENERATION_AT);
    if (generation == hf_repository_root_generation(repository))
        return true;
    hf_fail(err, HF_ERR_CONFLICT, "the kit is of root key %u, and the repository's is %u now", generation,
            hf_repository_root_generation(repository));
    return hf_fail_hint(err, "Use the newest kit: each replaced root key asks for a new one.");
}
