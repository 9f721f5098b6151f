#include "tests/support/test.h"

#include "server/evidence/merkle.h"

#define MOST 70

static struct hf_hash leaves[MOST];

/* The tree as RFC 6962 section 2.1 defines it, word for word and as slow. */
static struct hf_hash
slow_root(const struct hf_hash *leaf, size_t count)
{
    struct hf_hash hash;
    uint8_t node[65] = {1};
    size_t left = 1;

    if (count == 0) {
        hf_sha256("", 0, hash.bytes);
        return hash;
    }
    if (count == 1)
        return leaf[0];
    while (left * 2 < count)
        left *= 2;
    struct hf_hash a = slow_root(leaf, left), b = slow_root(leaf + left, count - left);
    memcpy(node + 1, a.bytes, 32);
    memcpy(node + 33, b.bytes, 32);
    hf_sha256(node, sizeof node, hash.bytes);
    return hash;
}

/* PATH(m, D[n]) of section 2.1.1. */
static void
slow_path(size_t m, const struct hf_hash *leaf, size_t n, struct hf_merkle_path *path)
{
    size_t k = 1;

    if (n == 1)
        return;
    while (k * 2 < n)
        k *= 2;
    if (m < k) {
        slow_path(m, leaf, k, path);
        path->hashes[path->length++] = slow_root(leaf + k, n - k);
    } else {
        slow_path(m - k, leaf + k, n - k, path);
        path->hashes[path->length++] = slow_root(leaf, k);
    }
}

/* SUBPROOF(m, D[n], b) of section 2.1.2. */
static void
slow_subproof(size_t m, const struct hf_hash *leaf, size_t n, bool whole, struct hf_merkle_path *path)
{
    size_t k = 1;

    if (m == n) {
        if (!whole)
            path->hashes[path->length++] = slow_root(leaf, n);
        return;
    }
    while (k * 2 < n)
        k *= 2;
    if (m <= k) {
        slow_subproof(m, leaf, k, whole, path);
        path->hashes[path->length++] = slow_root(leaf + k, n - k);
    } else {
        slow_subproof(m - k, leaf + k, n - k, false, path);
        path->hashes[path->length++] = slow_root(leaf, k);
    }
}

static bool
leaf_range(void *context, uint64_t first, uint64_t count, struct hf_hash *ret, struct hf_error *err)
{
    (void)context;
    (void)err;
    *ret = slow_root(leaves + first, count);
    return true;
}

static void
assert_same_path(const struct hf_merkle_path *a, const struct hf_merkle_path *b)
{
    assert_int_equal(a->length, b->length);
    assert_memory_equal(a->hashes, b->hashes, a->length * sizeof a->hashes[0]);
}

__attribute__((constructor)) static void
make_leaves(void)
{
    for (uint32_t i = 0; i < MOST; i++)
        hf_sha256(&i, sizeof i, leaves[i].bytes);
}

HF_TEST(roots_of_all_sizes_are_those_of_the_definition)
{
    struct hf_merkle tree = {0};
    struct hf_hash root, slow;

    for (size_t size = 0; size <= MOST; size++) {
        hf_merkle_root(&tree, &root);
        slow = slow_root(leaves, size);
        assert_memory_equal(&root, &slow, sizeof root);
        if (size < MOST)
            hf_merkle_push(&tree, &leaves[size]);
    }
}

HF_TEST(leaves_and_nodes_hash_as_in_the_known_example)
{
    // The certificate transparency test tree: entries "" and 0x00; roots published with RFC 6962's implementations.
    struct hf_merkle tree = {0};
    struct hf_hash hash;
    char hex[65];
    struct hf_error err;

    hf_merkle_root(&tree, &hash);
    for (size_t i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash.bytes[i]);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hf_assert_ok(hf_merkle_leaf("", 0, &hash, &err), &err);
    for (size_t i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash.bytes[i]);
    assert_string_equal(hex, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    hf_merkle_push(&tree, &hash);
    hf_assert_ok(hf_merkle_leaf("\0", 1, &hash, &err), &err);
    hf_merkle_push(&tree, &hash);
    hf_merkle_root(&tree, &hash);
    for (size_t i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash.bytes[i]);
    assert_string_equal(hex, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
}

HF_TEST(inclusion_proofs_of_all_sizes_are_those_of_the_definition_and_hold)
{
    struct hf_error err;

    for (size_t size = 1; size <= MOST; size++) {
        struct hf_hash root = slow_root(leaves, size);
        for (size_t index = 0; index < size; index++) {
            struct hf_merkle_path path, slow = {0};
            hf_assert_ok(hf_merkle_inclusion(index, size, leaf_range, NULL, &path, &err), &err);
            slow_path(index, leaves, size, &slow);
            assert_same_path(&path, &slow);
            assert_true(hf_merkle_check_inclusion(&leaves[index], index, size, &path, &root));
        }
    }
}

HF_TEST(the_frontier_knows_the_proof_of_the_next_leaf)
{
    struct hf_merkle tree = {0};

    for (size_t size = 0; size < MOST; size++) {
        struct hf_merkle_path path, slow = {0};
        hf_merkle_next_path(&tree, &path);
        slow_path(size, leaves, size + 1, &slow);
        assert_same_path(&path, &slow);
        hf_merkle_push(&tree, &leaves[size]);
    }
}

HF_TEST(an_inclusion_proof_holds_for_no_other_leaf_place_size_path_or_root)
{
    struct hf_error err;

    for (size_t size = 1; size <= MOST; size++) {
        struct hf_hash root = slow_root(leaves, size), other_root = slow_root(leaves, size - 1);
        for (size_t index = 0; index < size; index++) {
            struct hf_merkle_path path;
            hf_assert_ok(hf_merkle_inclusion(index, size, leaf_range, NULL, &path, &err), &err);
            for (size_t other = 0; other < MOST; other++) {
                if (other != index)
                    assert_false(hf_merkle_check_inclusion(&leaves[other], index, size, &path, &root));
                if (other != index && path.length > 0)
                    assert_false(hf_merkle_check_inclusion(&leaves[index], other, size, &path, &root));
            }
            assert_false(hf_merkle_check_inclusion(&leaves[index], size, size, &path, &root));
            assert_false(hf_merkle_check_inclusion(&leaves[index], index, 0, &path, &root));
            assert_false(hf_merkle_check_inclusion(&leaves[index], index, size, &path, &other_root));
            for (size_t i = 0; i < path.length; i++) {
                path.hashes[i].bytes[i % 32] ^= 1;
                assert_false(hf_merkle_check_inclusion(&leaves[index], index, size, &path, &root));
                path.hashes[i].bytes[i % 32] ^= 1;
            }
            path.hashes[path.length++] = root;
            assert_false(hf_merkle_check_inclusion(&leaves[index], index, size, &path, &root));
            if (path.length > 1) {
                path.length -= 2;
                assert_false(hf_merkle_check_inclusion(&leaves[index], index, size, &path, &root));
            }
        }
    }
}

HF_TEST(consistency_proofs_of_all_sizes_are_those_of_the_definition_and_hold)
{
    struct hf_error err;

    for (size_t size = 0; size <= MOST; size++) {
        struct hf_hash root = slow_root(leaves, size);
        for (size_t old = 0; old <= size; old++) {
            struct hf_hash old_root = slow_root(leaves, old);
            struct hf_merkle_path path, slow = {0};
            hf_assert_ok(hf_merkle_consistency(old, size, leaf_range, NULL, &path, &err), &err);
            if (old > 0)
                slow_subproof(old, leaves, size, true, &slow);
            assert_same_path(&path, &slow);
            assert_true(hf_merkle_check_consistency(old, &old_root, size, &root, &path));
        }
    }
}

HF_TEST(a_consistency_proof_holds_for_no_other_tree)
{
    struct hf_error err;

    for (size_t size = 1; size <= MOST; size++) {
        struct hf_hash root = slow_root(leaves, size);
        for (size_t old = 0; old <= size; old++) {
            struct hf_hash old_root = slow_root(leaves, old), other = old_root;
            struct hf_merkle_path path;
            hf_assert_ok(hf_merkle_consistency(old, size, leaf_range, NULL, &path, &err), &err);
            other.bytes[7] ^= 1;
            assert_false(hf_merkle_check_consistency(old, &other, size, &root, &path));
            other = root;
            other.bytes[7] ^= 1;
            if (old > 0)
                assert_false(hf_merkle_check_consistency(old, &old_root, size, &other, &path));
            for (size_t i = 0; i < path.length; i++) {
                path.hashes[i].bytes[i % 32] ^= 1;
                assert_false(hf_merkle_check_consistency(old, &old_root, size, &root, &path));
                path.hashes[i].bytes[i % 32] ^= 1;
            }
            path.hashes[path.length++] = root;
            assert_false(hf_merkle_check_consistency(old, &old_root, size, &root, &path));
            if (path.length > 1) {
                path.length -= 2;
                assert_false(hf_merkle_check_consistency(old, &old_root, size, &root, &path));
            }
            assert_false(hf_merkle_check_consistency(size + 1, &old_root, size, &root, &path));
            hf_assert_ok(hf_merkle_consistency(old, size, leaf_range, NULL, &path, &err), &err);
            if (old > 0)
                assert_false(hf_merkle_check_consistency(old, &old_root, 2 * size, &root, &path));
        }
    }
}

HF_TEST(a_tree_cannot_be_consistent_with_a_larger_one)
{
    struct hf_merkle_path path;
    struct hf_error err;

    assert_false(hf_merkle_consistency(8, 7, leaf_range, NULL, &path, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message, "a ledger of 7 entries cannot be consistent with a later one of 8");
}
