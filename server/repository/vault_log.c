#include "server/repository/vault_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/keys/envelope.h"
#include "server/repository/log_entry.h"

#define MAGIC      "HFLOG001"
#define VERSION    1
#define NAME_BYTES 96 // of an entry's object
#define WHAT_BYTES 128

#define AT_VERSION       8
#define AT_KIND          10
#define AT_FLAGS         12
#define AT_SEQUENCE      16
#define AT_TIME          24
#define AT_REPOSITORY    32
#define AT_VAULT         48
#define AT_APPLIANCE     64
#define AT_EPOCH         80
#define AT_BEFORE        88
#define AT_SIGNER        120
#define AT_PUBLIC_LENGTH 152
#define AT_SEALED_LENGTH 156

#define CONTEXT_BYTES 152 // of the header, that the sealed part is bound to

_Static_assert(AT_SEALED_LENGTH + 4 == HF_LOG_HEADER, "the header's fields fill it");
_Static_assert(AT_SIGNER - AT_BEFORE == HF_SHA256_BYTES, "a hash fits its field");

struct hf_vault_log {
    struct hf_vault_log_options options;
    struct hf_log_position read; // handed to a visitor up to here
    struct hf_log_position tail; // known up to here: what we appended since is known, and still to be handed out
};

/* The highest sequence among the names of a log. */
struct highest {
    size_t prefix_length;
    uint64_t sequence;
};

static bool read_known(struct hf_vault_log *log, hf_log_visitor *visit, void *context, struct hf_error *err);
static bool read_one(struct hf_vault_log *log, hf_log_visitor *visit, void *context, bool *ret_found,
                     struct hf_error *err);
static bool get_entry(const struct hf_vault_log *log, uint64_t sequence, struct hf_buf *bytes, bool *ret_found,
                      struct hf_error *err);
static bool find_highest(const struct hf_vault_log *log, uint64_t *ret, struct hf_error *err);
static bool note_sequence(void *context, const struct hf_object_info *object, struct hf_error *err);
static const char *entry_name(const struct hf_vault_log_options *options, uint64_t sequence,
                              char name[static NAME_BYTES]);
static const char *entry_what(const struct hf_vault_log_options *options, uint64_t sequence,
                              char what[static WHAT_BYTES]);

static bool check_place(const struct hf_vault_log_options *options, const struct hf_log_position *before,
                        const uint8_t *bytes, size_t length, const char *what, struct hf_error *err);
static bool check_signature(const struct hf_vault_log_options *options, const uint8_t *bytes, size_t length,
                            const char *what, struct hf_error *err);
static bool parse_parts(const struct hf_vault_log_options *options, const uint8_t *bytes, const char *what,
                        struct hf_log_entry *entry, struct hf_error *err);
static bool parse_object(const uint8_t *bytes, size_t length, const char *what, json_t **ret, struct hf_error *err);
static struct hf_envelope sealed_envelope(const struct hf_vault_log_options *options, const uint8_t *header);

static bool build_entry(const struct hf_vault_log *log, const struct hf_log_append *append,
                        const struct hf_signing *signing, struct hf_buf *entry, struct hf_error *err);
static bool add_sealed_part(const struct hf_vault_log *log, const struct hf_log_append *append, struct hf_buf *entry,
                            struct hf_error *err);

static const char *const kind_names[] = {
    [HF_LOG_LINEAGE] = "LINEAGE", [HF_LOG_INTENT] = "INTENT",   [HF_LOG_COMMIT] = "COMMIT",
    [HF_LOG_END] = "END",         [HF_LOG_ABORT] = "ABORT",     [HF_LOG_EPOCH] = "EPOCH",
    [HF_LOG_PIN] = "PIN",         [HF_LOG_UNPIN] = "UNPIN",     [HF_LOG_PRUNE] = "PRUNE",
    [HF_LOG_CONDEMN] = "CONDEMN", [HF_LOG_DELETE] = "DELETE",   [HF_LOG_RELOCATE] = "RELOCATE",
    [HF_LOG_HOLD] = "HOLD",       [HF_LOG_RELEASE] = "RELEASE", [HF_LOG_LOCK] = "LOCK",
    [HF_LOG_KEY] = "KEY",         [HF_LOG_SHRED] = "SHRED",     [HF_LOG_POLICY] = "POLICY",
    [HF_LOG_VERDICT] = "VERDICT", [HF_LOG_GAP] = "GAP",         [HF_LOG_CHECKPOINT] = "CHECKPOINT",
};

const char *
hf_log_kind_name(enum hf_log_kind kind)
{
    const char *name = (size_t)kind < HF_LENGTH(kind_names) ? kind_names[kind] : NULL;
    return name == NULL ? "an unknown kind" : name;
}

void
hf_log_entry_done(struct hf_log_entry *entry)
{
    json_decref(entry->public_part);
    json_decref(entry->sealed_part);
    entry->public_part = entry->sealed_part = NULL;
}

bool
hf_vault_log_open(const struct hf_vault_log_options *options, struct hf_vault_log **ret, struct hf_error *err)
{
    struct hf_vault_log *log = calloc(1, sizeof *log);
    if (log == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the log of a vault");
    log->options = *options;
    *ret = log;
    return true;
}

void
hf_vault_log_freep(struct hf_vault_log **log)
{
    free(*log);
    *log = NULL;
}

bool
hf_vault_log_read(struct hf_vault_log *log, hf_log_visitor *visit, void *context, struct hf_error *err)
{
    for (;;) {
        uint64_t highest;
        if (!read_known(log, visit, context, err) || !find_highest(log, &highest, err))
            return false;
        if (highest <= log->read.sequence)
            return true;

        // A name beyond our last: another writer was quick, or the one between is missing.
        bool found;
        char what[WHAT_BYTES];
        if (!read_one(log, visit, context, &found, err))
            return false;
        if (!found)
            return hf_fail(err, HF_ERR_CORRUPT, "%s is missing",
                           entry_what(&log->options, log->read.sequence + 1, what));
    }
}

uint64_t
hf_vault_log_head(const struct hf_vault_log *log, uint8_t hash[static HF_SHA256_BYTES])
{
    memcpy(hash, log->tail.hash, HF_SHA256_BYTES);
    return log->tail.sequence;
}

bool
hf_vault_log_check_head(struct hf_vault_log *log, uint64_t sequence, const uint8_t hash[static HF_SHA256_BYTES],
                        struct hf_error *err)
{
    if (sequence == 0)
        return true;

    char text[HF_ID_TEXT_BYTES];
    hf_id_format(&log->options.vault, text);
    if (log->tail.sequence < sequence) {
        hf_fail(err, HF_ERR_CORRUPT,
                "log of vault \"%s\" ends at entry %" PRIu64 ", and entry %" PRIu64 " has been seen", text,
                log->tail.sequence, sequence);
        return hf_fail_hint(err,
                            "The repository is older than it was: an old copy was put back, or entries were lost.");
    }

    uint8_t found_hash[HF_SHA256_BYTES];
    memcpy(found_hash, log->tail.hash, sizeof found_hash);
    if (sequence < log->tail.sequence) {
        bool found;
        char what[WHAT_BYTES];
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LOG_ENTRY_MOST);
        if (!get_entry(log, sequence, &bytes, &found, err))
            return false;
        if (!found)
            return hf_fail(err, HF_ERR_CORRUPT, "%s is missing", entry_what(&log->options, sequence, what));
        hf_sha256(bytes.data, bytes.length, found_hash);
    }
    if (memcmp(found_hash, hash, HF_SHA256_BYTES) != 0) {
        hf_fail(err, HF_ERR_CORRUPT, "entry %" PRIu64 " in the log of vault \"%s\" is not the one that was seen there",
                sequence, text);
        return hf_fail_hint(err, "An old copy of the repository was put back and then written to.");
    }
    return true;
}

bool
hf_vault_log_append(struct hf_vault_log *log, const struct hf_log_append *append, const struct hf_signing *signing,
                    struct hf_error *err)
{
    if (log->options.signers != NULL && !hf_root_bundle_knows(log->options.signers, signing->public_key))
        return hf_fail(err, HF_ERR_DENIED,
                       "could not write %s into the log: the repository does not know our signing key",
                       hf_log_kind_name(append->kind));

    // What no reader would take is never written.
    _cleanup_(hf_log_entry_done) struct hf_log_entry entry = {0};
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LOG_ENTRY_MOST);
    if (!build_entry(log, append, signing, &bytes, err) ||
        !hf_log_entry_open(&log->options, &log->tail, bytes.data, bytes.length, &entry, err))
        return hf_fail_within(err, "could not write %s into the log", hf_log_kind_name(append->kind));

    char name[NAME_BYTES], what[WHAT_BYTES];
    uint64_t sequence = log->tail.sequence + 1;
    entry_what(&log->options, sequence, what);
    struct hf_error problem;
    if (!hf_backend_put_exclusive(log->options.backend, entry_name(&log->options, sequence, name), bytes.data,
                                  bytes.length, &problem)) {
        if (problem.kind == HF_ERR_CONFLICT)
            return hf_fail(err, HF_ERR_CONFLICT, "%s was written by another process first", what);
        if (err != NULL)
            *err = problem;
        return hf_fail_within(err, "could not write %s", what);
    }
    log->tail.sequence = sequence;
    memcpy(log->tail.hash, entry.hash, sizeof log->tail.hash);
    return true;
}

bool
hf_log_entry_open(const struct hf_vault_log_options *options, const struct hf_log_position *before,
                  const uint8_t *bytes, size_t length, struct hf_log_entry *ret, struct hf_error *err)
{
    char what[WHAT_BYTES];
    entry_what(options, before->sequence + 1, what);
    if (!check_place(options, before, bytes, length, what, err) || !check_signature(options, bytes, length, what, err))
        return false;

    _cleanup_(hf_log_entry_done) struct hf_log_entry entry = {
        .kind = (enum hf_log_kind)hf_get_u16(bytes + AT_KIND),
        .sequence = before->sequence + 1,
        .time = (int64_t)hf_get_u64(bytes + AT_TIME),
        .epoch = hf_get_u64(bytes + AT_EPOCH),
    };
    memcpy(entry.appliance.bytes, bytes + AT_APPLIANCE, HF_ID_BYTES);
    memcpy(entry.signer, bytes + AT_SIGNER, HF_PUBLIC_BYTES);
    hf_sha256(bytes, length, entry.hash);
    if (!parse_parts(options, bytes, what, &entry, err))
        return false;

    *ret = entry;
    entry = (struct hf_log_entry){0};
    return true;
}

/* Up to the first sequence that has no entry. */
static bool
read_known(struct hf_vault_log *log, hf_log_visitor *visit, void *context, struct hf_error *err)
{
    for (bool found = true; found;)
        if (!read_one(log, visit, context, &found, err))
            return false;
    return true;
}

static bool
read_one(struct hf_vault_log *log, hf_log_visitor *visit, void *context, bool *ret_found, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LOG_ENTRY_MOST);
    _cleanup_(hf_log_entry_done) struct hf_log_entry entry = {0};
    if (!get_entry(log, log->read.sequence + 1, &bytes, ret_found, err))
        return false;
    if (!*ret_found)
        return true;
    if (!hf_log_entry_open(&log->options, &log->read, bytes.data, bytes.length, &entry, err))
        return false;
    if (visit != NULL && !visit(context, &entry, err))
        return false;

    log->read.sequence = entry.sequence;
    memcpy(log->read.hash, entry.hash, sizeof log->read.hash);
    if (log->tail.sequence <= log->read.sequence)
        log->tail = log->read;
    return true;
}

static bool
get_entry(const struct hf_vault_log *log, uint64_t sequence, struct hf_buf *bytes, bool *ret_found,
          struct hf_error *err)
{
    char name[NAME_BYTES], what[WHAT_BYTES];
    struct hf_error problem;
    *ret_found = hf_backend_get(log->options.backend, entry_name(&log->options, sequence, name), bytes, &problem);
    if (*ret_found || problem.kind == HF_ERR_NOT_FOUND)
        return true;
    if (problem.kind == HF_ERR_NO_SPACE)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is damaged: it is longer than %zu bytes",
                       entry_what(&log->options, sequence, what), HF_LOG_ENTRY_MOST);
    if (err != NULL)
        *err = problem;
    return hf_fail_within(err, "could not read %s", entry_what(&log->options, sequence, what));
}

static bool
find_highest(const struct hf_vault_log *log, uint64_t *ret, struct hf_error *err)
{
    char prefix[NAME_BYTES];
    entry_name(&log->options, 0, prefix);
    *(strrchr(prefix, '/') + 1) = '\0';
    struct highest highest = {.prefix_length = strlen(prefix)};
    if (!hf_backend_list(log->options.backend, prefix, note_sequence, &highest, err))
        return hf_fail_within(err, "could not list the entries of a vault log");
    *ret = highest.sequence;
    return true;
}

static bool
note_sequence(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    (void)err;
    struct highest *highest = context;
    uint8_t bytes[8];
    if (!hf_hex_parse(object->name + highest->prefix_length, bytes, sizeof bytes, NULL))
        return true; // some other name
    uint64_t sequence = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        sequence = sequence << 8 | bytes[i];
    if (sequence > highest->sequence)
        highest->sequence = sequence;
    return true;
}

static const char *
entry_name(const struct hf_vault_log_options *options, uint64_t sequence, char name[static NAME_BYTES])
{
    char text[HF_ID_TEXT_BYTES];
    snprintf(name, NAME_BYTES, "vaults/%s/log/%016" PRIx64, hf_id_format(&options->vault, text), sequence);
    return name;
}

static const char *
entry_what(const struct hf_vault_log_options *options, uint64_t sequence, char what[static WHAT_BYTES])
{
    char text[HF_ID_TEXT_BYTES];
    snprintf(what, WHAT_BYTES, "log entry %" PRIu64 " of vault \"%s\"", sequence, hf_id_format(&options->vault, text));
    return what;
}

static bool
check_place(const struct hf_vault_log_options *options, const struct hf_log_position *before, const uint8_t *bytes,
            size_t length, const char *what, struct hf_error *err)
{
    if (length < HF_LOG_HEADER + HF_SIGNATURE_BYTES || length > HF_LOG_ENTRY_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is damaged: it has %zu bytes", what, length);
    if (memcmp(bytes, MAGIC, AT_VERSION) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is damaged: it does not begin as one", what);
    if (hf_get_u16(bytes + AT_VERSION) != VERSION || hf_get_u32(bytes + AT_FLAGS) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s has version %u and flags %u, which this program does not know", what,
                       hf_get_u16(bytes + AT_VERSION), hf_get_u32(bytes + AT_FLAGS));
    if (hf_get_u16(bytes + AT_KIND) < HF_LOG_LINEAGE || hf_get_u16(bytes + AT_KIND) > HF_LOG_CHECKPOINT)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is of kind %u, which this program does not know", what,
                       hf_get_u16(bytes + AT_KIND));
    if (memcmp(bytes + AT_REPOSITORY, options->repository.bytes, HF_ID_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s belongs to another repository", what);
    if (memcmp(bytes + AT_VAULT, options->vault.bytes, HF_ID_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s belongs to another vault", what);
    if (hf_get_u64(bytes + AT_SEQUENCE) != before->sequence + 1)
        return hf_fail(err, HF_ERR_CORRUPT, "%s says that it is entry %" PRIu64, what, hf_get_u64(bytes + AT_SEQUENCE));
    if (memcmp(bytes + AT_BEFORE, before->hash, HF_SHA256_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s does not follow the entry before it", what);

    uint64_t parts = (uint64_t)hf_get_u32(bytes + AT_PUBLIC_LENGTH) + hf_get_u32(bytes + AT_SEALED_LENGTH);
    if (parts != length - HF_LOG_HEADER - HF_SIGNATURE_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "%s has %zu bytes, which is not what it says", what, length);
    return true;
}

static bool
check_signature(const struct hf_vault_log_options *options, const uint8_t *bytes, size_t length, const char *what,
                struct hf_error *err)
{
    size_t covered = length - HF_SIGNATURE_BYTES;
    if (!hf_signature_valid(bytes + AT_SIGNER, bytes, covered, bytes + covered))
        return hf_fail(err, HF_ERR_CORRUPT, "%s is damaged: its signature does not fit", what);
    if (options->signers != NULL && !hf_root_bundle_knows(options->signers, bytes + AT_SIGNER)) {
        hf_fail(err, HF_ERR_CORRUPT, "%s is signed by a key that the repository does not know", what);
        return hf_fail_hint(err, "If another appliance was added just now, open the repository again.");
    }
    return true;
}

static bool
parse_parts(const struct hf_vault_log_options *options, const uint8_t *bytes, const char *what,
            struct hf_log_entry *entry, struct hf_error *err)
{
    const uint8_t *public_part = bytes + HF_LOG_HEADER;
    size_t public_length = hf_get_u32(bytes + AT_PUBLIC_LENGTH), sealed_length = hf_get_u32(bytes + AT_SEALED_LENGTH);
    if (!parse_object(public_part, public_length, what, &entry->public_part, err))
        return false;
    if (sealed_length == 0 || options->record_key == NULL)
        return true;

    // Under a valid signature a seal that another key made is no key of ours to look for: the entry is wrong.
    const struct hf_envelope envelope = sealed_envelope(options, bytes);
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(sealed_length);
    struct hf_error problem;
    if (!hf_envelope_open(&envelope, options->record_key, public_part + public_length, sealed_length, what, &plain,
                          &problem))
        return hf_fail(err, problem.kind == HF_ERR_DENIED ? HF_ERR_CORRUPT : problem.kind, "%s", problem.message);
    return parse_object(plain.data, plain.length, what, &entry->sealed_part, err);
}

/* One text for one value: two readers cannot see different entries behind one hash. */
static bool
parse_object(const uint8_t *bytes, size_t length, const char *what, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *value = NULL;
    _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT_SECRET(length);
    if (!hf_json_parse(bytes, length, what, &value, err))
        return false;
    if (!json_is_object(value))
        return hf_fail(err, HF_ERR_CORRUPT, "%s is not a JSON object", what);

    struct hf_error problem;
    bool canonical = hf_json_canonical(value, &again, &problem);
    if (!canonical && problem.kind == HF_ERR_NO_MEMORY)
        return hf_fail(err, HF_ERR_NO_MEMORY, "%s", problem.message);
    if (!canonical || again.length != length || memcmp(again.data, bytes, length) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is not in canonical form", what);
    *ret = HF_TAKE(value);
    return true;
}

static struct hf_envelope
sealed_envelope(const struct hf_vault_log_options *options, const uint8_t *header)
{
    return (struct hf_envelope){.kind = HF_ENVELOPE_LOG_RECORD,
                                .repository = options->repository,
                                .object = options->vault,
                                .context = header,
                                .context_length = CONTEXT_BYTES};
}

static bool
build_entry(const struct hf_vault_log *log, const struct hf_log_append *append, const struct hf_signing *signing,
            struct hf_buf *entry, struct hf_error *err)
{
    uint8_t header[HF_LOG_HEADER] = MAGIC;
    hf_put_u16(header + AT_VERSION, VERSION);
    hf_put_u16(header + AT_KIND, (uint16_t)append->kind);
    hf_put_u64(header + AT_SEQUENCE, log->tail.sequence + 1);
    hf_put_u64(header + AT_TIME, (uint64_t)append->time);
    memcpy(header + AT_REPOSITORY, log->options.repository.bytes, HF_ID_BYTES);
    memcpy(header + AT_VAULT, log->options.vault.bytes, HF_ID_BYTES);
    memcpy(header + AT_APPLIANCE, signing->appliance.bytes, HF_ID_BYTES);
    hf_put_u64(header + AT_EPOCH, append->epoch);
    memcpy(header + AT_BEFORE, log->tail.hash, HF_SHA256_BYTES);
    memcpy(header + AT_SIGNER, signing->public_key, HF_PUBLIC_BYTES);

    if (!hf_buf_add(entry, header, sizeof header, err) || !hf_json_canonical(append->public_part, entry, err))
        return false;
    hf_put_u32(entry->data + AT_PUBLIC_LENGTH, (uint32_t)(entry->length - sizeof header));
    if (append->sealed_part != NULL && !add_sealed_part(log, append, entry, err))
        return false;

    uint8_t signature[HF_SIGNATURE_BYTES];
    return signing->sign(signing->context, entry->data, entry->length, signature, err) &&
           hf_buf_add(entry, signature, sizeof signature, err);
}

static bool
add_sealed_part(const struct hf_vault_log *log, const struct hf_log_append *append, struct hf_buf *entry,
                struct hf_error *err)
{
    if (log->options.record_key == NULL)
        return hf_fail(err, HF_ERR_USAGE, "the vault is locked: nothing can be sealed for it");

    size_t before = entry->length;
    uint8_t context[CONTEXT_BYTES]; // a copy, as the entry moves when it grows
    memcpy(context, entry->data, sizeof context);
    const struct hf_envelope envelope = sealed_envelope(&log->options, context);

    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(HF_LOG_ENTRY_MOST);
    if (!hf_json_canonical(append->sealed_part, &plain, err) ||
        !hf_envelope_seal(&envelope, log->options.record_key, plain.data, plain.length, entry, err))
        return false;
    hf_put_u32(entry->data + AT_SEALED_LENGTH, (uint32_t)(entry->length - before));
    return true;
}
