/*
 * merkle.h - the hash tree of RFC 6962: one root over all entries, short proofs about it
 *
 * The tree over n leaves is split at the largest power of two below n, again and again; so a tree that grows keeps
 * its full subtrees.  The frontier below holds the roots of those: enough to append and to compute the root in
 * O(log n), without the leaves.  Proofs about older leaves are computed from the leaf hashes, which the caller can
 * hash by ranges.
 *
 *     leaf = SHA-256(0x00 || entry)    node = SHA-256(0x01 || left || right)    root of nothing = SHA-256("")
 *
 * Source: RFC 6962 section 2.1 (the tree and its proofs), RFC 9162 sections 2.1.3.2 and 2.1.4.2 (verifying).
 */
#pragma once
#include <stdint.h>
#include "base/digest.h"
#include "base/error.h"

#define HF_MERKLE_MOST_LEAVES ((UINT64_C(1) << 53) - 1) // what JSON numbers can tell apart
#define HF_MERKLE_MOST_PATH   64                        // hashes in one proof; 53 levels, one more for consistency

struct hf_hash {
    uint8_t bytes[HF_SHA256_BYTES];
};

/* A proof: hashes in the order of the RFC. */
struct hf_merkle_path {
    size_t length;
    struct hf_hash hashes[HF_MERKLE_MOST_PATH];
};

/* The frontier of a tree; all zeros is the tree without leaves. */
struct hf_merkle {
    uint64_t size;           // leaves so far
    struct hf_hash peak[64]; // peak[i] is the root of a full subtree of 2^i leaves, where bit i of size is set
};

HF_MUST_CHECK bool hf_merkle_leaf(const void *entry, size_t length, struct hf_hash *ret, struct hf_error *err);
void hf_merkle_push(struct hf_merkle *tree, const struct hf_hash *leaf);
void hf_merkle_root(const struct hf_merkle *tree, struct hf_hash *ret);
bool hf_hash_equal(const struct hf_hash *a, const struct hf_hash *b);

/* The inclusion proof that the next leaf to be pushed will have in the tree it makes. */
void hf_merkle_next_path(const struct hf_merkle *tree, struct hf_merkle_path *ret);

/* Computes the root of the leaves [first, first + count) as of a tree of their own. */
typedef bool hf_merkle_range(void *context, uint64_t first, uint64_t count, struct hf_hash *ret, struct hf_error *err);

/* PATH(index, D[size]).  Ranges asked for do not overlap: all in all each leaf is read at most once. */
HF_MUST_CHECK bool hf_merkle_inclusion(uint64_t index, uint64_t size, hf_merkle_range *range, void *context,
                                       struct hf_merkle_path *ret, struct hf_error *err);
/* PROOF(old_size, D[size]); empty for old_size 0 or size.  USAGE when old_size is above size. */
HF_MUST_CHECK bool hf_merkle_consistency(uint64_t old_size, uint64_t size, hf_merkle_range *range, void *context,
                                         struct hf_merkle_path *ret, struct hf_error *err);

/* Whether the path proves that `leaf` is entry `index` of the tree of `size` leaves under `root`. */
HF_MUST_CHECK bool hf_merkle_check_inclusion(const struct hf_hash *leaf, uint64_t index, uint64_t size,
                                             const struct hf_merkle_path *path, const struct hf_hash *root);
/* Whether the path proves that the tree of `size` leaves begins with all the `old_size` leaves of the older one. */
HF_MUST_CHECK bool hf_merkle_check_consistency(uint64_t old_size, const struct hf_hash *old_root, uint64_t size,
                                               const struct hf_hash *root, const struct hf_merkle_path *path);
