/*
 * format.h - what every stored object has in common
 *
 * A repository is a tree of objects.  Names are relative to its root:
 *
 *   holdfast-repository                         the superblock (superblock.h)
 *   holdfast-copy                               this is a copy, and only read (superblock.h)
 *   keys/slot-<slot id>                         the root key, wrapped once for each way to open it (keys.h)
 *   keys/in-force-<generation>                  which root key opens the repository, once it was replaced (in_force.h)
 *   keys/root-<generation>                      the root bundle: who may sign (keys.h)
 *   vaults/<vault id>/keys-<generation>         the vault's keys, sealed with the root key (keys.h)
 *   vaults/<vault id>/log/<sequence>            the vault log: what counts, in order (vault_log.h)
 *   vaults/<vault id>/packs/<xx>/<pack id>      packs; xx is the id's first two hex digits (pack.h)
 *   vaults/<vault id>/staging/<pack id>         packs being written; never referred to
 *   staging/<id>                                whatever else is being written
 *   locks/<object's name>                       until when it may not be deleted; local disk only (backend_local.c)
 *   journal/<vault id>/<number>-<journal id>    a stream's newest bytes, not yet in a pack; local disk only
 *                                               (server/stream/journal.h)
 *   evidence/...                                signed evidence and its ledger (server/evidence)
 *
 * Ids are 16 random bytes, written as 32 lower-case hex digits; a generation is 8 and a sequence 16
 * lower-case hex digits, both counted from 1.  The vault whose id equals the repository's id is the
 * "house vault": it holds no backups, only the records of the appliance itself (sources, policies,
 * accounts).  Keys live outside vaults/<id>/packs so that packs can lie on write-once storage while
 * a vault can still be shredded by destroying its keys.
 *
 * Conventions.  Numbers are little endian.  varint is LEB128, shortest form, at most 10 bytes; zigzag
 * maps a signed number to unsigned as (n << 1) ^ (n >> 63).  A string is a varint length and its
 * bytes.  Times are milliseconds since 1970, UTC.  "reserved" is written as zeros and refused when
 * not zero.  CRC-32C guards against accident where no key is at hand; authentication is always a
 * keyed tag or a signature.  H(key; a || b) is BLAKE2b-256 keyed with `key` (32 bytes) over the
 * concatenation; labels such as "holdfast pack" are their ASCII bytes without a NUL.
 *
 * Readers check every length against the limits below before they allocate or follow it.
 */
#pragma once
#include "base/buf.h"
#include "base/digest.h"
#include "base/id.h"

#define HF_KEY_BYTES         32
#define HF_TAG_BYTES         16 // of a page: SipHash-2-4-128 under the vault's tag key
#define HF_AEAD_TAG_BYTES    16
#define HF_FILE_DIGEST_BYTES 32

#define HF_SLAB_RAW_MOST        (1 * HF_MIB)   // plaintext of one slab, page list included
#define HF_SLAB_PAGES_BYTES     (256 * HF_KIB) // page bytes the writer gathers into one slab
#define HF_SLAB_PAGES_MOST      4096           // pages in one slab
#define HF_PACK_TARGET          (128 * HF_MIB) // the writer closes a pack at this size
#define HF_PACK_MOST            (1 * HF_GIB)
#define HF_PACK_SLABS_MOST      (1u << 20)
#define HF_DIRECTORY_MOST       (256 * HF_MIB)
#define HF_LEAF_PAGES           4096 // pages that one map leaf covers
#define HF_LEAF_MOST            (256 * HF_KIB)
#define HF_MANIFEST_PAGE_FILES  512
#define HF_MANIFEST_OBJECT_MOST (64 * HF_MIB)
#define HF_PATH_MOST            4096 // bytes of a file's path in a backup
#define HF_FACTS_MOST           (16 * HF_MIB)
#define HF_LOG_ENTRY_MOST       (64 * HF_MIB)

/* Page sizes are powers of two from 4 KiB to 64 KiB; on disk they stand as their logarithm. */
#define HF_PAGE_LOG2_LEAST 12
#define HF_PAGE_LOG2_MOST  16
#define HF_PAGE_MOST       (64 * HF_KIB)
