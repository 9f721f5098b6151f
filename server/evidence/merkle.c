#include "server/evidence/merkle.h"

#include <assert.h>
#include <string.h>

static struct hf_hash join(const struct hf_hash *left, const struct hf_hash *right);
static uint64_t split(uint64_t count);
static bool ask(hf_merkle_range *range, void *context, uint64_t first, uint64_t count, struct hf_merkle_path *path,
                struct hf_error *err);
static void reverse(struct hf_hash *hashes, size_t count);

bool
hf_merkle_leaf(const void *entry, size_t length, struct hf_hash *ret, struct hf_error *err)
{
    static const uint8_t is_leaf = 0x00;
    _cleanup_(hf_sha256_freep) struct hf_sha256 *running = NULL;

    if (!hf_sha256_new(&running, err))
        return false;
    hf_sha256_add(running, &is_leaf, 1);
    hf_sha256_add(running, entry, length);
    hf_sha256_end(running, ret->bytes);
    return true;
}

/* Adding one to a binary number: every carry joins two full subtrees into one of the next level. */
void
hf_merkle_push(struct hf_merkle *tree, const struct hf_hash *leaf)
{
    struct hf_hash carry = *leaf;
    size_t level = 0;

    assert(tree->size < HF_MERKLE_MOST_LEAVES);
    for (; tree->size >> level & 1; level++)
        carry = join(&tree->peak[level], &carry);
    tree->peak[level] = carry;
    tree->size++;
}

void
hf_merkle_root(const struct hf_merkle *tree, struct hf_hash *ret)
{
    struct hf_merkle_path peaks;

    hf_merkle_next_path(tree, &peaks);
    if (peaks.length == 0) {
        hf_sha256("", 0, ret->bytes);
        return;
    }
    struct hf_hash root = peaks.hashes[0];
    for (size_t i = 1; i < peaks.length; i++)
        root = join(&peaks.hashes[i], &root);
    *ret = root;
}

bool
hf_hash_equal(const struct hf_hash *a, const struct hf_hash *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* Everything left of the next leaf is the frontier's full subtrees: the smallest is its nearest neighbour. */
void
hf_merkle_next_path(const struct hf_merkle *tree, struct hf_merkle_path *ret)
{
    ret->length = 0;
    for (size_t level = 0; tree->size >> level != 0; level++)
        if (tree->size >> level & 1)
            ret->hashes[ret->length++] = tree->peak[level];
}

bool
hf_merkle_inclusion(uint64_t index, uint64_t size, hf_merkle_range *range, void *context, struct hf_merkle_path *ret,
                    struct hf_error *err)
{
    struct hf_merkle_path path = {0};
    uint64_t first = 0, count = size;

    assert(index < size && size <= HF_MERKLE_MOST_LEAVES);
    // From the root down to the leaf, noting the half that is not entered; the RFC lists them from the leaf up.
    while (count > 1) {
        uint64_t left = split(count);
        if (index - first < left) {
            if (!ask(range, context, first + left, count - left, &path, err))
                return false;
            count = left;
        } else {
            if (!ask(range, context, first, left, &path, err))
                return false;
            first += left;
            count -= left;
        }
    }
    reverse(path.hashes, path.length);
    *ret = path;
    return true;
}

bool
hf_merkle_consistency(uint64_t old_size, uint64_t size, hf_merkle_range *range, void *context,
                      struct hf_merkle_path *ret, struct hf_error *err)
{
    struct hf_merkle_path path = {0};
    uint64_t first = 0, count = size, old = old_size; // of the subtree looked at: its start, leaves, and old leaves
    bool known = true;                                // its root is the old root, which the verifier has

    assert(size <= HF_MERKLE_MOST_LEAVES);
    if (old_size > size)
        return hf_fail(err, HF_ERR_USAGE, "a ledger of %llu entries cannot be consistent with a later one of %llu",
                       (unsigned long long)size, (unsigned long long)old_size);
    if (old_size == 0 || old_size == size) {
        ret->length = 0;
        return true;
    }
    while (old != count) {
        uint64_t left = split(count);
        if (old <= left) {
            if (!ask(range, context, first + left, count - left, &path, err))
                return false;
            count = left;
        } else {
            if (!ask(range, context, first, left, &path, err))
                return false;
            first += left;
            count -= left;
            old -= left;
            known = false;
        }
    }
    if (!known && !ask(range, context, first, count, &path, err))
        return false;
    reverse(path.hashes, path.length);
    *ret = path;
    return true;
}

bool
hf_merkle_check_inclusion(const struct hf_hash *leaf, uint64_t index, uint64_t size, const struct hf_merkle_path *path,
                          const struct hf_hash *root)
{
    if (index >= size || path->length > HF_MERKLE_MOST_PATH)
        return false;

    struct hf_hash hash = *leaf;
    uint64_t node = index, last = size - 1; // on the level reached: the node on our way, and the last one
    for (size_t i = 0; i < path->length; i++) {
        if (last == 0)
            return false;
        if (node & 1 || node == last) {
            hash = join(&path->hashes[i], &hash);
            // The last node of a level without a right neighbour rises until it has a left one.
            for (; !(node & 1) && node != 0; node >>= 1)
                last >>= 1;
        } else {
            hash = join(&hash, &path->hashes[i]);
        }
        node >>= 1;
        last >>= 1;
    }
    return last == 0 && hf_hash_equal(&hash, root);
}

bool
hf_merkle_check_consistency(uint64_t old_size, const struct hf_hash *old_root, uint64_t size,
                            const struct hf_hash *root, const struct hf_merkle_path *path)
{
    if (old_size > size || path->length > HF_MERKLE_MOST_PATH)
        return false;
    if (old_size == size)
        return path->length == 0 && hf_hash_equal(old_root, root);
    if (old_size == 0) {
        struct hf_hash nothing;
        hf_merkle_root(&(struct hf_merkle){0}, &nothing);
        return path->length == 0 && hf_hash_equal(old_root, &nothing);
    }
    if (path->length == 0)
        return false;

    uint64_t node = old_size - 1, last = size - 1;
    while (node & 1) {
        node >>= 1;
        last >>= 1;
    }
    // Where the old tree was full, its root is the starting point; otherwise the path begins with one.
    size_t used = node == 0 ? 0 : 1;
    struct hf_hash old_hash = used == 0 ? *old_root : path->hashes[0];
    struct hf_hash new_hash = old_hash;
    for (; used < path->length; used++) {
        if (last == 0)
            return false;
        if (node & 1 || node == last) {
            old_hash = join(&path->hashes[used], &old_hash);
            new_hash = join(&path->hashes[used], &new_hash);
            for (; !(node & 1) && node != 0; node >>= 1)
                last >>= 1;
        } else {
            new_hash = join(&new_hash, &path->hashes[used]);
        }
        node >>= 1;
        last >>= 1;
    }
    return last == 0 && hf_hash_equal(&old_hash, old_root) && hf_hash_equal(&new_hash, root);
}

static struct hf_hash
join(const struct hf_hash *left, const struct hf_hash *right)
{
    uint8_t node[1 + 2 * HF_SHA256_BYTES] = {0x01};
    struct hf_hash hash;

    memcpy(node + 1, left->bytes, HF_SHA256_BYTES);
    memcpy(node + 1 + HF_SHA256_BYTES, right->bytes, HF_SHA256_BYTES);
    hf_sha256(node, sizeof node, hash.bytes);
    return hash;
}

/* The largest power of two below count, which is at least 2. */
static uint64_t
split(uint64_t count)
{
    return UINT64_C(1) << (63 - __builtin_clzll(count - 1));
}

static bool
ask(hf_merkle_range *range, void *context, uint64_t first, uint64_t count, struct hf_merkle_path *path,
    struct hf_error *err)
{
    assert(path->length < HF_MERKLE_MOST_PATH);
    if (!range(context, first, count, &path->hashes[path->length], err))
        return false;
    path->length++;
    return true;
}

static void
reverse(struct hf_hash *hashes, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        struct hf_hash other = hashes[i];
        hashes[i] = hashes[count - 1 - i];
        hashes[count - 1 - i] = other;
    }
}
