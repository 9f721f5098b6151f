/*
 * The repository in tests/reader/reference was written by another program, from the texts of the formats
 * alone (tests/reader/README.md).  What our code reads there must be what that program says it wrote.
 */
#include "tests/support/test.h"

#include "base/file.h"
#include "server/repository/reader.h"

#define LINES_MOST  4096
#define PREFIX      "expected-"
#define SUFFIX      ".txt"
#define PAGES_BYTES (4 * HF_MIB) // of a slab, more than enough

static const char *reference; // its folder

/* The lines of expected-<backup id>.txt as our reader would write them. */
struct listing {
    char *lines[LINES_MOST];
    size_t count;
};

/* Where a file's bytes go as they are read. */
struct content {
    struct hf_sha256 *sha256;
    struct hf_file_digest *digest;
    uint32_t crc32c;
    uint64_t left; // bytes of the file that are still to come
};

struct walk {
    struct hf_backup *backup;
    struct hf_slab_worker *worker;
    struct listing *listing;
};

static void find_reference(void);
static void read_secret(const char *name, const char *label, struct hf_secret *secret);
static struct hf_repository *open_reference(void);
static struct hf_vault *open_vault(struct hf_repository *repository, const struct hf_vault_state **ret_sum);
static void list_backup(struct hf_vault *vault, const struct hf_id *id, struct listing *listing);
static bool list_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err);
static void read_leaf(struct walk *walk, const struct hf_manifest_file *file, const struct hf_leaf *leaf,
                      struct content *content);
static void read_stored(struct walk *walk, const struct hf_manifest_file *file, const struct hf_leaf *leaf,
                        const struct hf_extent *extent, struct content *content);
static void take_page(struct walk *walk, const uint8_t *page, size_t length, struct content *content);
static void add_line(struct listing *listing, const char *format, ...) HF_PRINTF(2, 3);
static int compare_lines(const void *a, const void *b);
static void join_lines(struct listing *listing, struct hf_buf *text);

HF_TEST(every_kind_of_slot_in_the_reference_gives_the_same_root_key)
{
    struct hf_error err;
    find_reference();
    _cleanup_(hf_credential_done) struct hf_credential passphrase = {.kind = HF_SLOT_PASSPHRASE};
    _cleanup_(hf_credential_done) struct hf_credential recipient = {.kind = HF_SLOT_RECIPIENT};
    _cleanup_(hf_repository_freep) struct hf_repository *first = open_reference();
    const struct hf_secret *key = hf_repository_root_key(first);

    read_secret("passphrase", NULL, &passphrase.passphrase);
    read_secret("recipient-secret", "holdfast-secret-1 ", &recipient.key);
    const struct hf_credential *credentials[] = {&passphrase, &recipient};
    const char *const names[] = {"safe", "escrow"};

    for (size_t i = 0; i < HF_LENGTH(credentials); i++) {
        _cleanup_(hf_repository_freep) struct hf_repository *repository = NULL;
        struct hf_slot_info slot;
        hf_assert_ok(
            hf_repository_open(hf_backend_place(hf_repository_backend(first)), HF_ACCESS_READ, &repository, &err),
            &err);
        hf_assert_ok(hf_repository_unlock(repository, credentials[i], &slot, &err), &err);
        assert_string_equal(slot.name, names[i]);
        assert_memory_equal(hf_repository_root_key(repository)->bytes, key->bytes, HF_KEY_BYTES);
    }
}

HF_TEST(both_signers_of_the_reference_are_known)
{
    find_reference();
    _cleanup_(hf_repository_freep) struct hf_repository *repository = open_reference();
    const struct hf_root_bundle *signers = hf_repository_signers(repository);

    assert_int_equal(signers->generation, 2);
    assert_int_equal(signers->signer_count, 2);
    assert_string_equal(signers->signers[0].name, "first appliance");
    assert_string_equal(signers->signers[1].name, "second appliance");
}

HF_TEST(of_the_four_commits_in_the_reference_two_count)
{
    find_reference();
    _cleanup_(hf_repository_freep) struct hf_repository *repository = open_reference();
    const struct hf_vault_state *sum;
    _cleanup_(hf_vault_freep) struct hf_vault *vault = open_vault(repository, &sum);

    uint8_t hash[HF_SHA256_BYTES];

    assert_int_equal(hf_vault_log_head(hf_vault_get_log(vault), hash), 14);
    assert_memory_equal(sum->head_hash, hash, sizeof hash);
    assert_int_equal(sum->epoch, 1);
    assert_int_equal(sum->backup_count, 2);
    assert_int_equal(sum->pack_count, 4);
    assert_string_equal(sum->engine, "postgres");
    assert_string_equal(sum->identity, "7301234567890123456");
    assert_string_equal(sum->name, "clinic");
    assert_int_equal(sum->backups[0].sequence, 3);
    assert_int_equal(sum->backups[1].sequence, 9);
    assert_true(hf_id_equal(&sum->backups[1].parent, &sum->backups[0].backup));
    assert_string_equal(sum->backups[0].source, "clinic");
}

HF_TEST(every_backup_of_the_reference_reads_as_it_was_written)
{
    struct hf_error err;
    find_reference();
    _cleanup_(hf_repository_freep) struct hf_repository *repository = open_reference();
    const struct hf_vault_state *sum;
    _cleanup_(hf_vault_freep) struct hf_vault *vault = open_vault(repository, &sum);

    for (size_t i = 0; i < sum->backup_count; i++) {
        char id[HF_ID_TEXT_BYTES], name[256];
        snprintf(name, sizeof name, "%s/" PREFIX "%s" SUFFIX, reference, hf_id_format(&sum->backups[i].backup, id));
        _cleanup_(hf_buf_done) struct hf_buf expected = HF_BUF_INIT(1 * HF_MIB), found = HF_BUF_INIT(1 * HF_MIB);
        hf_assert_ok(hf_file_read(name, &expected, &err), &err);

        struct listing listing = {0};
        list_backup(vault, &sum->backups[i].backup, &listing);
        join_lines(&listing, &found);
        assert_string_equal(hf_buf_text(&found), hf_buf_text(&expected));
    }
}

HF_TEST(the_directories_of_the_reference_list_every_page_with_its_tag)
{
    struct hf_error err;
    find_reference();
    _cleanup_(hf_repository_freep) struct hf_repository *repository = open_reference();
    const struct hf_vault_state *sum;
    _cleanup_(hf_vault_freep) struct hf_vault *vault = open_vault(repository, &sum);
    _cleanup_(hf_pack_reader_freep) struct hf_pack_reader *packs = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    size_t pages = 0;

    hf_assert_ok(hf_slab_worker_new(1, &worker, &err), &err);
    hf_assert_ok(hf_vault_pack_reader(vault, &packs, &err), &err);
    for (size_t i = 0; i < sum->pack_count; i++) {
        _cleanup_(hf_pack_directory_freep) struct hf_pack_directory *directory = NULL;
        _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(PAGES_BYTES);
        struct hf_slab_info info;
        hf_assert_ok(hf_pack_reader_directory(packs, worker, &sum->packs[i].pack, &directory, &err), &err);
        pages += directory->page_count;
        if (sum->packs[i].kind != HF_PACK_DATA)
            continue;

        for (uint32_t slab = 0; slab < directory->slab_count; slab++) {
            hf_assert_ok(hf_pack_reader_slab(packs, worker, &sum->packs[i].pack, slab, &info, &plain, &err), &err);
            const uint8_t *page = plain.data + 4 + hf_get_u32(plain.data);
            size_t index = directory->page_start[slab];
            for (size_t r = directory->run_start[slab]; r < directory->run_start[slab + 1]; r++) {
                const struct hf_page_run *run = &directory->runs[r];
                for (uint32_t n = 0; n < run->count; n++, index++) {
                    size_t length = ((size_t)1 << run->page_log2) - (n + 1 == run->count ? run->short_by : 0);
                    uint8_t tag[HF_TAG_BYTES];
                    hf_page_tag(hf_vault_keys(vault), page, length, tag);
                    assert_memory_equal(tag, directory->checks[index].tag, HF_TAG_BYTES);
                    assert_int_equal(hf_crc32c(0, page, length), directory->checks[index].crc32c);
                    page += length;
                }
            }
            assert_ptr_equal(page, plain.data + plain.length);
        }
    }
    assert_int_equal(pages, 44);
}

static void
find_reference(void)
{
    static char folder[4096];
    const char *source = getenv("HOLDFAST_SOURCE");
    assert_non_null(source);
    snprintf(folder, sizeof folder, "%s/tests/reader/reference", source);
    reference = folder;
}

/* The file's text behind `label` without the line end; hex digits when there is a label. */
static void
read_secret(const char *name, const char *label, struct hf_secret *secret)
{
    struct hf_error err;
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", reference, name);
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT_SECRET(4096);
    hf_assert_ok(hf_file_read(path, &text, &err), &err);
    text.data[text.length - 1] = '\0';
    if (label == NULL) {
        hf_assert_ok(hf_secret_copy(secret, text.data, text.length - 1, &err), &err);
        return;
    }
    assert_memory_equal(text.data, label, strlen(label));
    hf_assert_ok(hf_secret_init(secret, HF_KEY_BYTES, &err), &err);
    hf_assert_ok(hf_hex_parse((const char *)text.data + strlen(label), secret->bytes, HF_KEY_BYTES, &err), &err);
}

/* Opened in place: a reader writes nothing.  Its key file is copied, since nobody but us may be able to read one. */
static struct hf_repository *
open_reference(void)
{
    struct hf_error err;
    char place[4200], key_file[4200], private_file[256];
    snprintf(place, sizeof place, "%s/repository", reference);
    snprintf(key_file, sizeof key_file, "%s/key-file", reference);
    snprintf(private_file, sizeof private_file, "%s/key-file", hf_test_folder());
    _cleanup_(hf_buf_done) struct hf_buf key = HF_BUF_INIT_SECRET(4096);
    hf_assert_ok(hf_file_read(key_file, &key, &err), &err);
    hf_assert_ok(hf_file_publish(private_file, key.data, key.length, 0600, HF_PUBLISH_EXCLUSIVE, &err), &err);

    _cleanup_(hf_credential_done) struct hf_credential credential = {0};
    _cleanup_(hf_repository_freep) struct hf_repository *repository = NULL;
    struct hf_slot_info slot;
    hf_assert_ok(hf_key_file_read(private_file, &credential, &err), &err);
    hf_assert_ok(hf_repository_open(place, HF_ACCESS_READ, &repository, &err), &err);
    hf_assert_ok(hf_repository_unlock(repository, &credential, &slot, &err), &err);
    assert_string_equal(slot.name, "server");
    return HF_TAKE(repository);
}

/* The one that is not the house. */
static struct hf_vault *
open_vault(struct hf_repository *repository, const struct hf_vault_state **ret_sum)
{
    struct hf_error err;
    struct hf_id *ids = NULL, house = hf_repository_id(repository);
    struct hf_vault *vault = NULL;
    size_t count;

    hf_assert_ok(hf_repository_vaults(repository, &ids, &count, &err), &err);
    assert_int_equal(count, 2);
    assert_true(hf_id_equal(&ids[0], &house) || hf_id_equal(&ids[1], &house));
    hf_assert_ok(hf_vault_open(repository, &ids[hf_id_equal(&ids[0], &house) ? 1 : 0], &vault, &err), &err);
    free(ids);
    hf_assert_ok(hf_vault_read(vault, NULL, NULL, ret_sum, &err), &err);
    return vault;
}

static void
list_backup(struct hf_vault *vault, const struct hf_id *id, struct listing *listing)
{
    struct hf_error err;
    _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    hf_assert_ok(hf_slab_worker_new(1, &worker, &err), &err);
    hf_assert_ok(hf_backup_open(vault, id, &backup, &err), &err);

    const struct hf_manifest_root *root = hf_backup_root(backup);
    for (size_t i = 0; i < root->folder_count; i++)
        add_line(listing, "folder\t%s\t%o\n", root->folders[i].path, root->folders[i].mode);
    for (size_t i = 0; i < root->link_count; i++)
        add_line(listing, "link\t%s\t%s\n", root->links[i].path, root->links[i].target);
    struct walk walk = {.backup = backup, .worker = worker, .listing = listing};
    hf_assert_ok(hf_backup_files(backup, worker, list_file, &walk, &err), &err);
}

/* Reads a file from front to back; digest and CRC-32C must be the manifest's. */
static bool
list_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err)
{
    struct walk *walk = context;
    struct content content = {.left = file->size};
    hf_assert_ok(hf_sha256_new(&content.sha256, err), err);
    hf_assert_ok(hf_file_digest_new(hf_backup_keys(walk->backup), &content.digest, err), err);

    for (size_t i = 0; i < file->leaf_count; i++) {
        struct hf_leaf leaf;
        hf_leaf_init(&leaf, file->page_log2);
        hf_assert_ok(hf_backup_leaf(walk->backup, walk->worker, &file->leaves[i], &leaf, err), err);
        read_leaf(walk, file, &leaf, &content);
        hf_leaf_done(&leaf);
    }

    uint8_t digest[HF_FILE_DIGEST_BYTES], sha256[HF_SHA256_BYTES];
    char hex[2 * HF_SHA256_BYTES + 1];
    assert_int_equal(content.left, 0);
    hf_file_digest_end(content.digest, file->size, digest);
    assert_memory_equal(digest, file->digest, sizeof digest);
    assert_int_equal(content.crc32c, file->crc32c);
    hf_sha256_end(content.sha256, sha256);
    hf_hex_format(sha256, sizeof sha256, hex);
    add_line(walk->listing, "file\t%s\t%o\t%lld\t%llu\t%s\n", path, file->mode, (long long)file->modified_at,
             (unsigned long long)file->size, hex);
    hf_sha256_freep(&content.sha256);
    hf_file_digest_freep(&content.digest);
    return true;
}

static void
read_leaf(struct walk *walk, const struct hf_manifest_file *file, const struct hf_leaf *leaf, struct content *content)
{
    static const uint8_t zeros[HF_PAGE_MOST];
    uint64_t page_size = UINT64_C(1) << file->page_log2;

    for (size_t i = 0; i < leaf->extent_count; i++) {
        const struct hf_extent *extent = &leaf->extents[i];
        if (extent->type == HF_EXTENT_STORED) {
            read_stored(walk, file, leaf, extent, content);
            continue;
        }
        assert_int_equal(extent->type, HF_EXTENT_ZEROS);
        for (uint32_t n = 0; n < extent->count; n++)
            take_page(walk, zeros, content->left < page_size ? content->left : page_size, content);
    }
}

static void
read_stored(struct walk *walk, const struct hf_manifest_file *file, const struct hf_leaf *leaf,
            const struct hf_extent *extent, struct content *content)
{
    static struct hf_page_run runs[HF_SLAB_PAGES_MOST];
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(PAGES_BYTES);
    struct hf_error err;
    struct hf_slab_info info;
    size_t run_count;
    uint32_t pages;
    uint64_t bytes;
    hf_assert_ok(hf_pack_reader_slab(hf_backup_packs(walk->backup), walk->worker, &leaf->packs[extent->pack],
                                     extent->slab, &info, &plain, &err),
                 &err);
    uint32_t list = hf_get_u32(plain.data);
    hf_assert_ok(hf_page_list_get(plain.data + 4, list, runs, HF_LENGTH(runs), &run_count, &pages, &bytes, &err), &err);

    const uint8_t *page = plain.data + 4 + list;
    uint32_t index = 0;
    for (size_t r = 0; r < run_count; r++)
        for (uint32_t n = 0; n < runs[r].count; n++, index++) {
            size_t length = ((size_t)1 << runs[r].page_log2) - (n + 1 == runs[r].count ? runs[r].short_by : 0);
            if (index >= extent->first && index < extent->first + extent->count) {
                assert_int_equal(runs[r].page_log2, file->page_log2);
                take_page(walk, page, length, content);
            }
            page += length;
        }
    assert_true(extent->first + extent->count <= index);
}

static void
take_page(struct walk *walk, const uint8_t *page, size_t length, struct content *content)
{
    uint8_t tag[HF_TAG_BYTES];
    assert_true(length <= content->left);
    hf_page_tag(hf_backup_keys(walk->backup), page, length, tag);
    hf_file_digest_add(content->digest, tag);
    hf_sha256_add(content->sha256, page, length);
    content->crc32c = hf_crc32c(content->crc32c, page, length);
    content->left -= length;
}

static void
add_line(struct listing *listing, const char *format, ...)
{
    va_list arguments;
    assert_true(listing->count < LINES_MOST);
    va_start(arguments, format);
    int written = vasprintf(&listing->lines[listing->count++], format, arguments);
    va_end(arguments);
    assert_true(written > 0);
}

static int
compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, and given back. */
static void
join_lines(struct listing *listing, struct hf_buf *text)
{
    struct hf_error err;
    qsort(listing->lines, listing->count, sizeof listing->lines[0], compare_lines);
    for (size_t i = 0; i < listing->count; i++) {
        hf_assert_ok(hf_buf_add_text(text, listing->lines[i], &err), &err);
        free(listing->lines[i]);
    }
}
