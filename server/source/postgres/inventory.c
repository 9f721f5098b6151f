#include "server/source/postgres/inventory.h"

#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

enum kind { FOLDER, UNFINISHED_FILE, FILE_ARRIVED, FILE_PROMISED };

struct entry {
    size_t name; // offset in the text
    uint64_t size;
    uint32_t crc32c;
    enum kind kind;
    bool changed;     // stored as something else:
    uint32_t arrived; // CRC-32C of what came
};

/*
 * Entries in the order they came, and an open-addressed table over them (number + 1, 0 is free), never more than half
 * full.  The hash has a key of its own, so that a server cannot choose names that collide.
 */
struct hf_inventory {
    struct hf_buf text;
    struct entry *entries;
    size_t count, capacity;
    uint32_t *slots;
    size_t slot_count; // a power of two
    uint64_t files;
    unsigned char key[crypto_shorthash_KEYBYTES];
};

static bool check_folder(const struct hf_inventory *inventory, const char *path, struct hf_error *err);
static bool add(struct hf_inventory *inventory, const char *path, enum kind kind, struct hf_error *err);
static bool grow(struct hf_inventory *inventory, struct hf_error *err);
static uint32_t *find_slot(const struct hf_inventory *inventory, const char *path, size_t length);
static const char *name_of(const struct hf_inventory *inventory, const struct entry *entry);

bool
hf_inventory_new(struct hf_inventory **ret, struct hf_error *err)
{
    _cleanup_(hf_inventory_freep) struct hf_inventory *inventory = calloc(1, sizeof *inventory);
    if (inventory == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of files");
    inventory->text = HF_BUF_INIT(HF_INVENTORY_TEXT_MOST);
    crypto_shorthash_keygen(inventory->key);
    if (!grow(inventory, err))
        return false;
    *ret = HF_TAKE(inventory);
    return true;
}

void
hf_inventory_freep(struct hf_inventory **inventory)
{
    if (*inventory == NULL)
        return;
    hf_buf_done(&(*inventory)->text);
    free((*inventory)->entries);
    free((*inventory)->slots);
    free(*inventory);
    *inventory = NULL;
}

bool
hf_inventory_add_folder(struct hf_inventory *inventory, const char *path, struct hf_error *err)
{
    return check_folder(inventory, path, err) && add(inventory, path, FOLDER, err);
}

bool
hf_inventory_add_tablespace(struct hf_inventory *inventory, const char *path, struct hf_error *err)
{
    return add(inventory, path, FOLDER, err);
}

bool
hf_inventory_add_file(struct hf_inventory *inventory, const char *path, struct hf_error *err)
{
    return check_folder(inventory, path, err) && add(inventory, path, UNFINISHED_FILE, err);
}

void
hf_inventory_finish_file(struct hf_inventory *inventory, uint64_t size)
{
    struct entry *last = &inventory->entries[inventory->count - 1];
    assert(last->kind == UNFINISHED_FILE);
    last->kind = FILE_ARRIVED;
    last->size = size;
    inventory->files++;
}

void
hf_inventory_finish_changed_file(struct hf_inventory *inventory, uint64_t size, uint32_t crc32c)
{
    struct entry *last = &inventory->entries[inventory->count - 1];
    hf_inventory_finish_file(inventory, size);
    last->changed = true;
    last->arrived = crc32c;
}

bool
hf_inventory_promise(struct hf_inventory *inventory, const char *path, uint64_t size, uint32_t crc32c,
                     struct hf_error *err)
{
    uint32_t number = *find_slot(inventory, path, strlen(path));
    struct entry *entry = number == 0 ? NULL : &inventory->entries[number - 1];

    if (entry == NULL || entry->kind == FOLDER || entry->kind == UNFINISHED_FILE)
        return hf_fail(err, HF_ERR_CORRUPT, "the server's manifest names \"%s\", which it did not send", path);
    if (entry->kind == FILE_PROMISED)
        return hf_fail(err, HF_ERR_CORRUPT, "the server's manifest names \"%s\" twice", path);
    if (entry->size != size)
        return hf_fail(err, HF_ERR_CORRUPT,
                       "\"%s\" arrived with %" PRIu64 " bytes, the server's manifest says %" PRIu64, path, entry->size,
                       size);
    entry->kind = FILE_PROMISED;
    entry->crc32c = crc32c;
    return true;
}

bool
hf_inventory_compare(const struct hf_inventory *inventory, const struct hf_backup_sink *sink, struct hf_error *err)
{
    for (size_t i = 0; i < inventory->count; i++) {
        const struct entry *entry = &inventory->entries[i];
        const char *name = name_of(inventory, entry);
        struct hf_backup_digest digest;

        if (entry->kind == FOLDER)
            continue;
        if (entry->kind != FILE_PROMISED)
            return hf_fail(err, HF_ERR_CORRUPT, "the server sent \"%s\", which its manifest does not name", name);
        if (entry->changed)
            digest = (struct hf_backup_digest){entry->size, entry->arrived};
        else if (!sink->digest_of(sink->context, name, &digest, err))
            return hf_fail_within(err, "\"%s\"", name);
        if (digest.size != entry->size)
            return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" was stored with %" PRIu64 " bytes instead of %" PRIu64, name,
                           digest.size, entry->size);
        if (digest.crc32c != entry->crc32c)
            return hf_fail(err, HF_ERR_CORRUPT,
                           "\"%s\" arrived with the checksum %08x, the server's manifest says %08x", name,
                           digest.crc32c, entry->crc32c);
    }
    return true;
}

uint64_t
hf_inventory_files(const struct hf_inventory *inventory)
{
    return inventory->files;
}

static bool
check_folder(const struct hf_inventory *inventory, const char *path, struct hf_error *err)
{
    const char *end = strrchr(path, '/');
    if (end == NULL)
        return true;

    uint32_t number = *find_slot(inventory, path, (size_t)(end - path));
    if (number == 0 || inventory->entries[number - 1].kind != FOLDER)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent \"%s\" without its folder", path);
    return true;
}

static bool
add(struct hf_inventory *inventory, const char *path, enum kind kind, struct hf_error *err)
{
    if (inventory->count == HF_INVENTORY_NAMES_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the server sent more than %d names", HF_INVENTORY_NAMES_MOST);
    if (inventory->count * 2 >= inventory->slot_count && !grow(inventory, err))
        return false;

    uint32_t *slot = find_slot(inventory, path, strlen(path));
    if (*slot != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent \"%s\" twice", path);

    size_t name = inventory->text.length;
    if (!hf_buf_add(&inventory->text, path, strlen(path) + 1, err))
        return false;
    inventory->entries[inventory->count++] = (struct entry){.name = name, .kind = kind};
    *slot = (uint32_t)inventory->count;
    return true;
}

/* Room for as many names as half the new table. */
static bool
grow(struct hf_inventory *inventory, struct hf_error *err)
{
    size_t slot_count = inventory->slot_count == 0 ? 4096 : 2 * inventory->slot_count, capacity = slot_count / 2;
    struct entry *entries = reallocarray(inventory->entries, capacity, sizeof *entries);
    if (entries == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the names of %zu files", capacity);
    inventory->entries = entries;
    inventory->capacity = capacity;

    uint32_t *slots = calloc(slot_count, sizeof *slots);
    if (slots == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the names of %zu files", capacity);
    free(inventory->slots);
    inventory->slots = slots;
    inventory->slot_count = slot_count;
    for (size_t i = 0; i < inventory->count; i++) {
        const char *name = name_of(inventory, &inventory->entries[i]);
        *find_slot(inventory, name, strlen(name)) = (uint32_t)i + 1;
    }
    return true;
}

/* Where the name stands, or the free slot where it would. */
static uint32_t *
find_slot(const struct hf_inventory *inventory, const char *path, size_t length)
{
    uint64_t hash;
    crypto_shorthash((unsigned char *)&hash, (const unsigned char *)path, length, inventory->key);

    for (size_t at = hash & (inventory->slot_count - 1);; at = (at + 1) & (inventory->slot_count - 1)) {
        uint32_t number = inventory->slots[at];
        if (number == 0)
            return &inventory->slots[at];
        const char *name = name_of(inventory, &inventory->entries[number - 1]);
        if (strncmp(name, path, length) == 0 && name[length] == '\0')
            return &inventory->slots[at];
    }
}

static const char *
name_of(const struct hf_inventory *inventory, const struct entry *entry)
{
    return (const char *)inventory->text.data + entry->name;
}
