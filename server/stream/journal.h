/*
 * journal.h - a stream's newest bytes, sealed, on the disk before anybody is told that we have them
 *
 * A database waits for us at every commit, a pack takes minutes to fill.  So what arrives goes at once into
 * a journal: a file of small sealed frames, appended and synced many at a time.  Later its bytes are sealed
 * into a pack (stretch.h) and the file is removed.  A journal belongs to one process: after a crash it is read
 * back, never written again, and a new one goes on at the byte after.
 *
 * It lies in the repository, beside the packs: bytes that were acknowledged are then as safe as backups are, and an
 * empty machine with the repository and a key has them too (promise 10).  Another folder can be named.
 *
 * Journal: <folder>/<number>-<journal id>; number: 16 hex digits, counts up while there are journals in the folder
 * offset  bytes  meaning
 *      0      8  magic "HFJRNL01"
 *      8      2  version: 1
 *     10      1  suite: 2 XChaCha20-Poly1305
 *     11      1  reserved
 *     12      4  key epoch
 *     16     16  repository id
 *     32     16  vault id: a vault is one lineage, and has one stream
 *     48     16  journal id
 *     64      8  created at
 *     72     20  reserved
 *     92     32  key commitment: H(journal key; "holdfast commit")
 *    124      4  CRC-32C of bytes 0..123
 *    128      -  frames, each at a multiple of 8; zeros up to the room that was reserved
 * The header is on the disk before the first frame is written: 128 zeros, or fewer bytes than 128, are a journal
 * that was never begun.
 *
 * Journal key = H(K; "holdfast journal" || header bytes 8..91), where K is the data secret of the key epoch.
 *
 * Frame
 *      0      4  magic "HFJF"
 *      4      4  frame number, from 0
 *      8      4  durable: frames of this journal that were known to be on the disk when this one was written
 *     12      4  plaintext length, 48 to 1 MiB
 *     16     12  reserved
 *     28      4  CRC-32C of bytes 0..27
 *     32      n  ciphertext
 *   32+n     16  tag
 * Nonce: the frame number as 4 little-endian bytes, then 20 zeros.  Associated data: the journal's header || the
 * frame's header.  A number comes once in a journal, and a journal id once in the world.
 *
 * Plaintext
 *      0      1  kind: 1 log, 2 history file of a timeline, 3 mark
 *      1      3  reserved
 *      4      4  timeline
 *      8      8  position of the first byte (a history file: where the timeline begins; a mark: where it stands)
 *     16      8  whole: just behind the last whole record that had come by then
 *     24      8  time of the first commit in it; 0: none
 *     32      8  time of the last
 *     40      4  commits in it
 *     44      4  reserved
 *     48      -  the bytes
 *
 * A mark is what the engine knows of a position, in its own words: at most HF_JOURNAL_MARK_MOST bytes of text.  An
 * engine whose log is found by something else than positions (GTIDs) leaves one now and then.
 *
 * Reading back.  A frame that is cut off, or does not open, ends the journal, if no intact frame behind it says
 * that it was durable: then it was never acknowledged, and whoever sent it will send it again (after a power cut
 * parts of the last batch may be on the disk in any order).  If one says so, the journal is damaged: what is
 * missing is told, and reading goes on at the next intact frame.
 */
#pragma once
#include "server/keys/keys.h"

#define HF_JOURNAL_HEADER       128
#define HF_JOURNAL_FRAME_HEADER 32
#define HF_JOURNAL_PREFIX       48
#define HF_JOURNAL_PLAIN_MOST   HF_MIB
#define HF_JOURNAL_DATA_MOST    (HF_JOURNAL_PLAIN_MOST - HF_JOURNAL_PREFIX)
#define HF_JOURNALS_MOST        4096 // in one folder
#define HF_JOURNAL_MARK_MOST    (128 * HF_KIB)
#define HF_JOURNAL_NAME_BYTES   50 // "0000000000000001-<32 hex digits>" and its NUL

enum hf_frame_kind { HF_FRAME_LOG = 1, HF_FRAME_HISTORY = 2, HF_FRAME_MARK = 3 };

struct hf_frame {
    enum hf_frame_kind kind;
    uint32_t timeline;
    uint64_t position;
    uint64_t whole;
    int64_t first_time, last_time; // 0: no commit in it
    uint32_t commits;
    uint64_t at;     // where it begins in the file; when read
    uint32_t number; // likewise
};

/* ------------------------------------------------------------------------------------------ writing */

struct hf_journal;

/*
 * Makes a journal with room for about `room` bytes of frames, and leaves it and its name on the disk.  One thread
 * appends, another may sync.  NO_SPACE comes here and not in the middle.
 */
HF_MUST_CHECK bool hf_journal_create(const char *folder, uint64_t number, const struct hf_vault_keys *keys,
                                     uint64_t room, struct hf_journal **ret, struct hf_error *err);
/* At most HF_JOURNAL_DATA_MOST bytes.  After a failure nothing more goes in: what is there may be torn. */
HF_MUST_CHECK bool hf_journal_append(struct hf_journal *journal, const struct hf_frame *frame, const void *data,
                                     size_t length, struct hf_error *err);
/* Everything appended before the call is on the disk.  A failure is for good: no later sync would mean anything. */
HF_MUST_CHECK bool hf_journal_sync(struct hf_journal *journal, struct hf_error *err);
uint64_t hf_journal_bytes(const struct hf_journal *journal); // of its frames so far
const char *hf_journal_path(const struct hf_journal *journal);
void hf_journal_freep(struct hf_journal **journal); // closes the file; it stays where it is

/* ------------------------------------------------------------------------------------------ reading */

/* Borrowed for the call. */
typedef bool hf_journal_visitor(void *context, const struct hf_frame *frame, const uint8_t *data, size_t length,
                                struct hf_error *err);

struct hf_journal_ending {
    uint32_t frames;        // that were visited
    uint32_t damaged;       // frames that were durable and cannot be read any more
    uint32_t first_damaged; // number of the first of them
    bool torn;              // the last frame was cut off, or never reached the disk
};

/*
 * Hands every intact frame to `visit`, in order, and says how the journal ends.  May run while it is written.
 * Errors: CORRUPT for a header that is damaged or of another vault; DENIED for another key; those of `visit`.
 */
HF_MUST_CHECK bool hf_journal_read(const char *path, const struct hf_vault_keys *keys, hf_journal_visitor *visit,
                                   void *context, struct hf_journal_ending *ret, struct hf_error *err);
/* A frame that was visited before, and when to stop. */
struct hf_journal_part {
    uint64_t at; // and number: of the first frame to visit; 0: the first of all
    uint32_t number;
    const bool *enough; // looked at before every frame
};
/*
 * The same from a descriptor, whole (NULL) or a part; `name` stands in messages.  What is said of the ending is of
 * the part.
 */
HF_MUST_CHECK bool hf_journal_read_fd(int fd, const char *name, const struct hf_vault_keys *keys,
                                      const struct hf_journal_part *part, hf_journal_visitor *visit, void *context,
                                      struct hf_journal_ending *ret, struct hf_error *err);

/*
 * Names of the journals in a folder, in the order they were written; a missing folder has none.  The array ends with
 * NULL; free with hf_strv_freep.
 */
HF_MUST_CHECK bool hf_journal_list(const char *folder, char ***ret_names, size_t *ret_count, struct hf_error *err);
/* The number in a journal's name; 0 when it is none. */
uint64_t hf_journal_number(const char *name);
