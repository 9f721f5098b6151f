#include "server/repository/pack.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <string.h>
#include <zstd.h>

#include "server/repository/pack_internal.h"

#define COMPRESSION_NONE 0
#define COMPRESSION_ZSTD 1
#define NONCE_MOST       24

struct hf_slab_worker {
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
    EVP_CIPHER_CTX *aes;
    struct hf_buf input;   // stored bytes on their way in
    struct hf_buf scratch; // what a seal held before decompression
    struct hf_buf proof;   // what hf_slab_prove opened
};

static void put_header(uint8_t *header, const struct hf_slab_info *info, uint8_t compression);
static bool get_header(const uint8_t *header, struct hf_slab_info *ret, uint8_t *ret_compression);
static bool check_lengths(const struct hf_slab_info *info);
static size_t plain_most(enum hf_slab_kind kind);
static bool seal(struct hf_slab_worker *worker, const struct hf_pack_cipher *cipher, const struct hf_slab_info *info,
                 uint8_t *slab, struct hf_error *err);
static bool open_seal(struct hf_slab_worker *worker, const struct hf_pack_cipher *cipher,
                      const struct hf_slab_info *info, const uint8_t *slab, uint8_t *ret);
static const uint8_t *slab_key(const struct hf_pack_cipher *cipher, const struct hf_slab_info *info);
static void nonce_of(uint32_t number, uint8_t nonce[static NONCE_MOST]);

bool
hf_slab_worker_new(int zstd_level, struct hf_slab_worker **ret, struct hf_error *err)
{
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a slab worker");
    worker->input = HF_BUF_INIT(HF_DIRECTORY_MOST + HF_MIB);
    worker->scratch = HF_BUF_INIT_SECRET(HF_DIRECTORY_MOST + HF_MIB);
    worker->proof = HF_BUF_INIT_SECRET(HF_SLAB_RAW_MOST + HF_MIB);
    worker->compressor = ZSTD_createCCtx();
    worker->decompressor = ZSTD_createDCtx();
    worker->aes = EVP_CIPHER_CTX_new();
    if (worker->compressor == NULL || worker->decompressor == NULL || worker->aes == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a slab worker");
    if (ZSTD_isError(ZSTD_CCtx_setParameter(worker->compressor, ZSTD_c_compressionLevel, zstd_level)))
        return hf_fail(err, HF_ERR_USAGE, "compression level %d is not one of zstd's", zstd_level);
    *ret = HF_TAKE(worker);
    return true;
}

void
hf_slab_worker_freep(struct hf_slab_worker **worker)
{
    if (*worker == NULL)
        return;
    ZSTD_freeCCtx((*worker)->compressor);
    ZSTD_freeDCtx((*worker)->decompressor);
    EVP_CIPHER_CTX_free((*worker)->aes);
    hf_buf_done(&(*worker)->input);
    hf_buf_done(&(*worker)->scratch);
    hf_buf_done(&(*worker)->proof);
    free(*worker);
    *worker = NULL;
}

bool
hf_slab_seal(struct hf_slab_worker *worker, const struct hf_pack_cipher *cipher, struct hf_slab_info *info,
             const uint8_t *plain, size_t length, struct hf_buf *out, struct hf_error *err)
{
    if (length > plain_most(info->kind))
        return hf_fail(err, HF_ERR_NO_SPACE, "a slab of %zu bytes is over the limit of %zu", length,
                       plain_most(info->kind));

    hf_buf_clear(out);
    const size_t bound = ZSTD_compressBound(length);
    if (!hf_buf_reserve(out, hf_slab_stored_length(bound), err))
        return false;

    uint8_t compression = COMPRESSION_ZSTD;
    size_t sealed = ZSTD_compress2(worker->compressor, out->data + HF_SLAB_HEADER, bound, plain, length);
    if (ZSTD_isError(sealed))
        return hf_fail(err, HF_ERR_NO_MEMORY, "could not compress a slab: %s", ZSTD_getErrorName(sealed));
    if (sealed >= length) {
        memcpy(out->data + HF_SLAB_HEADER, plain, length);
        sealed = length;
        compression = COMPRESSION_NONE;
    }

    info->plain_length = (uint32_t)length;
    info->sealed_length = (uint32_t)sealed;
    put_header(out->data, info, compression);
    if (!seal(worker, cipher, info, out->data, err))
        return false;

    const size_t used = HF_SLAB_HEADER + sealed + HF_AEAD_TAG_BYTES;
    out->length = hf_slab_stored_length(sealed);
    memset(out->data + used, 0, out->length - used);
    return true;
}

bool
hf_slab_prove(struct hf_slab_worker *worker, const struct hf_pack_cipher *cipher, const struct hf_slab_info *info,
              const uint8_t *sealed, size_t sealed_length, const uint8_t *plain, size_t length, struct hf_error *err)
{
    struct hf_slab_info seen;
    struct hf_error reason;
    if (!hf_slab_open(worker, cipher, info->number, sealed, sealed_length, &seen, &worker->proof, &reason)) {
        if (err != NULL)
            *err = reason;
        return reason.kind == HF_ERR_CORRUPT &&
               hf_fail_within(err, "a slab that was just sealed does not open: memory or compressor is faulty");
    }
    if (worker->proof.length != length || memcmp(worker->proof.data, plain, length) != 0)
        return hf_fail(err, HF_ERR_CORRUPT,
                       "a slab that was just sealed opens to other bytes: memory or compressor is "
                       "faulty");
    return true;
}

bool
hf_slab_open(struct hf_slab_worker *worker, const struct hf_pack_cipher *cipher, uint32_t number, const uint8_t *stored,
             size_t stored_length, struct hf_slab_info *ret_info, struct hf_buf *plain, struct hf_error *err)
{
    char pack[HF_ID_TEXT_BYTES];
    struct hf_slab_info info = {0};
    uint8_t compression;

    if (stored_length < HF_SLAB_HEADER + HF_AEAD_TAG_BYTES || !get_header(stored, &info, &compression) ||
        info.number != number || !check_lengths(&info) ||
        HF_SLAB_HEADER + (size_t)info.sealed_length + HF_AEAD_TAG_BYTES > stored_length)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u: the slab's header is damaged",
                       hf_id_format(&cipher->identity.pack, pack), number);

    struct hf_buf *target = compression == COMPRESSION_NONE ? plain : &worker->scratch;
    hf_buf_clear(plain);
    hf_buf_clear(&worker->scratch);
    if (!hf_buf_reserve(target, (size_t)info.sealed_length + 1, err) ||
        !hf_buf_reserve(plain, (size_t)info.plain_length + 1, err))
        return false;
    if (!open_seal(worker, cipher, &info, stored, target->data))
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u: the seal does not hold, the bytes were altered",
                       hf_id_format(&cipher->identity.pack, pack), number);

    if (compression == COMPRESSION_ZSTD) {
        const size_t got = ZSTD_decompressDCtx(worker->decompressor, plain->data, info.plain_length,
                                               worker->scratch.data, info.sealed_length);
        if (ZSTD_isError(got) || got != info.plain_length)
            return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u: sealed as written, but it does not decompress",
                           hf_id_format(&cipher->identity.pack, pack), number);
    }
    plain->length = info.plain_length;
    plain->data[plain->length] = 0;
    if (ret_info != NULL)
        *ret_info = info;
    return true;
}

struct hf_buf *
hf_slab_worker_input(struct hf_slab_worker *worker)
{
    hf_buf_clear(&worker->input);
    return &worker->input;
}

bool
hf_page_list_put(const struct hf_page_run *runs, size_t count, struct hf_buf *out, struct hf_error *err)
{
    if (!hf_buf_put_varint(out, count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!hf_buf_put_varint(out, runs[i].file, err) || !hf_buf_put_varint(out, runs[i].page_log2, err) ||
            !hf_buf_put_varint(out, runs[i].first_page, err) || !hf_buf_put_varint(out, runs[i].count, err) ||
            !hf_buf_put_varint(out, runs[i].short_by, err))
            return false;
    return true;
}

bool
hf_page_list_get(const uint8_t *bytes, size_t length, struct hf_page_run *runs, size_t most, size_t *ret_count,
                 uint32_t *ret_pages, uint64_t *ret_bytes, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(bytes, length);
    const size_t count = hf_reader_varint_max(&reader, most);
    uint32_t pages = 0;
    uint64_t total = 0;
    for (size_t i = 0; i < count && hf_reader_ok(&reader); i++) {
        struct hf_page_run *run = &runs[i];
        run->file = (uint32_t)hf_reader_varint_max(&reader, UINT32_MAX);
        run->page_log2 = (uint8_t)hf_reader_varint_max(&reader, HF_PAGE_LOG2_MOST);
        run->first_page = hf_reader_varint_max(&reader, UINT64_C(1) << 48);
        run->count = (uint32_t)hf_reader_varint_max(&reader, HF_SLAB_PAGES_MOST);
        run->short_by = (uint32_t)hf_reader_varint_max(&reader, HF_PAGE_MOST - 1);
        if (run->page_log2 < HF_PAGE_LOG2_LEAST || run->count == 0 || run->short_by >= 1u << run->page_log2)
            hf_reader_refuse(&reader);
        pages += run->count;
        total += ((uint64_t)run->count << run->page_log2) - run->short_by;
        if (pages > HF_SLAB_PAGES_MOST || total > HF_SLAB_RAW_MOST)
            hf_reader_refuse(&reader);
    }
    if (!hf_reader_finished(&reader))
        return hf_fail(err, HF_ERR_CORRUPT, "the page list of a slab is damaged");
    *ret_count = count;
    *ret_pages = pages;
    *ret_bytes = total;
    return true;
}

bool
hf_slab_pages_read(const uint8_t *plain, size_t length, struct hf_slab_pages **pages, struct hf_error *err)
{
    if (*pages == NULL && (*pages = malloc(sizeof **pages)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a slab's page list");
    struct hf_slab_pages *read = *pages;
    uint64_t bytes;
    if (length < 4 || hf_get_u32(plain) > length - 4)
        return hf_fail(err, HF_ERR_CORRUPT, "the page list of a slab is damaged");
    const size_t list = hf_get_u32(plain);
    if (!hf_page_list_get(plain + 4, list, read->runs, HF_SLAB_PAGES_MOST, &read->run_count, &read->count, &bytes, err))
        return false;
    if (4 + list + bytes != length)
        return hf_fail(err, HF_ERR_CORRUPT, "the page list of a slab does not fit its pages");

    uint32_t page = 0;
    size_t at = 4 + list;
    for (size_t i = 0; i < read->run_count; i++) {
        const struct hf_page_run *run = &read->runs[i];
        for (uint32_t n = 0; n < run->count; n++) {
            read->offset[page++] = (uint32_t)at;
            at += ((size_t)1 << run->page_log2) - (n + 1 == run->count ? run->short_by : 0);
        }
    }
    read->offset[page] = (uint32_t)at;
    return true;
}

void
hf_slab_pages_freep(struct hf_slab_pages **pages)
{
    free(*pages);
    *pages = NULL;
}

static void
put_header(uint8_t *header, const struct hf_slab_info *info, uint8_t compression)
{
    memcpy(header, "HFSL", 4);
    hf_put_u32(header + 4, info->number);
    hf_put_u32(header + 8, info->plain_length);
    hf_put_u32(header + 12, info->sealed_length);
    header[16] = (uint8_t)info->kind;
    header[17] = compression;
    hf_put_u16(header + 18, 0);
    hf_put_u32(header + 20, info->items);
    hf_put_u32(header + 24, 0);
    hf_put_u32(header + 28, hf_crc32c(0, header, 28));
}

static bool
get_header(const uint8_t *header, struct hf_slab_info *ret, uint8_t *ret_compression)
{
    if (memcmp(header, "HFSL", 4) != 0 || hf_get_u32(header + 28) != hf_crc32c(0, header, 28))
        return false;
    if (header[16] < HF_SLAB_PAGES || header[16] > HF_SLAB_STREAM || header[17] > COMPRESSION_ZSTD ||
        hf_get_u16(header + 18) != 0 || hf_get_u32(header + 24) != 0)
        return false;
    ret->number = hf_get_u32(header + 4);
    ret->plain_length = hf_get_u32(header + 8);
    ret->sealed_length = hf_get_u32(header + 12);
    ret->kind = (enum hf_slab_kind)header[16];
    ret->items = hf_get_u32(header + 20);
    *ret_compression = header[17];
    return true;
}

static bool
check_lengths(const struct hf_slab_info *info)
{
    return info->plain_length <= plain_most(info->kind) && info->sealed_length <= info->plain_length &&
           (info->kind == HF_SLAB_DIRECTORY) == (info->number == HF_SLAB_DIRECTORY_NO);
}

static size_t
plain_most(enum hf_slab_kind kind)
{
    switch (kind) {
    case HF_SLAB_DIRECTORY:
        return HF_DIRECTORY_MOST;
    case HF_SLAB_OBJECTS:
        return HF_MANIFEST_OBJECT_MOST;
    case HF_SLAB_PAGES:
    case HF_SLAB_STREAM:
        break;
    }
    return HF_SLAB_RAW_MOST;
}

/* Seals slab + HF_SLAB_HEADER in place and puts the tag behind it. */
static bool
seal(struct hf_slab_worker *worker, const struct hf_pack_cipher *cipher, const struct hf_slab_info *info, uint8_t *slab,
     struct hf_error *err)
{
    uint8_t nonce[NONCE_MOST];
    uint8_t associated[HF_PACK_HEADER + HF_SLAB_HEADER];
    uint8_t *text = slab + HF_SLAB_HEADER;
    nonce_of(info->number, nonce);
    memcpy(associated, cipher->header, HF_PACK_HEADER);
    memcpy(associated + HF_PACK_HEADER, slab, HF_SLAB_HEADER);

    if (cipher->identity.suite == HF_SUITE_XCHACHA20) {
        crypto_aead_xchacha20poly1305_ietf_encrypt_detached(text, text + info->sealed_length, NULL, text,
                                                            info->sealed_length, associated, sizeof associated, NULL,
                                                            nonce, slab_key(cipher, info));
        return true;
    }
    int length;
    if (EVP_EncryptInit_ex(worker->aes, EVP_aes_256_gcm(), NULL, slab_key(cipher, info), nonce) != 1 ||
        EVP_EncryptUpdate(worker->aes, NULL, &length, associated, sizeof associated) != 1 ||
        EVP_EncryptUpdate(worker->aes, text, &length, text, (int)info->sealed_length) != 1 ||
        EVP_EncryptFinal_ex(worker->aes, text + info->sealed_length, &length) != 1 ||
        EVP_CIPHER_CTX_ctrl(worker->aes, EVP_CTRL_AEAD_GET_TAG, HF_AEAD_TAG_BYTES, text + info->sealed_length) != 1)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not seal slab %u: the cipher failed", info->number);
    return true;
}

static bool
open_seal(struct hf_slab_worker *worker, const struct hf_pack_cipher *cipher, const struct hf_slab_info *info,
          const uint8_t *slab, uint8_t *ret)
{
    uint8_t nonce[NONCE_MOST];
    uint8_t associated[HF_PACK_HEADER + HF_SLAB_HEADER];
    uint8_t tag[HF_AEAD_TAG_BYTES];
    const uint8_t *text = slab + HF_SLAB_HEADER;
    nonce_of(info->number, nonce);
    memcpy(associated, cipher->header, HF_PACK_HEADER);
    memcpy(associated + HF_PACK_HEADER, slab, HF_SLAB_HEADER);
    memcpy(tag, text + info->sealed_length, sizeof tag);

    if (cipher->identity.suite == HF_SUITE_XCHACHA20)
        return crypto_aead_xchacha20poly1305_ietf_decrypt_detached(ret, NULL, text, info->sealed_length, tag,
                                                                   associated, sizeof associated, nonce,
                                                                   slab_key(cipher, info)) == 0;
    int length;
    return EVP_DecryptInit_ex(worker->aes, EVP_aes_256_gcm(), NULL, slab_key(cipher, info), nonce) == 1 &&
           EVP_DecryptUpdate(worker->aes, NULL, &length, associated, sizeof associated) == 1 &&
           EVP_DecryptUpdate(worker->aes, ret, &length, text, (int)info->sealed_length) == 1 &&
           EVP_CIPHER_CTX_ctrl(worker->aes, EVP_CTRL_AEAD_SET_TAG, HF_AEAD_TAG_BYTES, tag) == 1 &&
           EVP_DecryptFinal_ex(worker->aes, ret + info->sealed_length, &length) == 1;
}

static const uint8_t *
slab_key(const struct hf_pack_cipher *cipher, const struct hf_slab_info *info)
{
    return cipher->secrets.bytes + (info->kind == HF_SLAB_DIRECTORY ? HF_KEY_BYTES : 0);
}

/* The number is unique within the pack, the key is the pack's own: no pair ever comes twice. */
static void
nonce_of(uint32_t number, uint8_t nonce[static NONCE_MOST])
{
    memset(nonce, 0, NONCE_MOST);
    hf_put_u32(nonce, number);
}
