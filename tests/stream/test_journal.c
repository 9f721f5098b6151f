/*
 * The journal: what is read back is what was written; what was durable and cannot be read is told; the rest was
 * never.
 */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/file.h"
#include "server/stream/journal.h"
#include "server/stream/timeline.h"
#include "server/stream/writer.h"
#include "tests/support/vault.h"

#define ROOM        (64 * HF_KIB)
#define FRAME_BYTES (HF_JOURNAL_FRAME_HEADER + HF_JOURNAL_PREFIX + 100 + 16) // of one of 100 bytes

static struct test_vault vault;
static const char *folder; // of the journals
static bool sync_fails;

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int
__wrap_fdatasync(int fd)
{
    if (!sync_fails)
        return __real_fdatasync(fd);
    errno = EIO;
    return -1;
}

struct read_back {
    size_t count, bytes;
    uint64_t positions[64];
    uint8_t first[64];
};

static bool
keep(void *context, const struct hf_frame *frame, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct read_back *read = context;
    (void)err;
    read->positions[read->count] = frame->position;
    read->first[read->count++] = length > 0 ? data[0] : 0;
    read->bytes += length;
    return true;
}

/* A journal of frames of 100 bytes, the n-th full of n; synced after each whose bit is set. */
static char *
write_journal(unsigned frames, uint64_t synced_after)
{
    struct hf_error err;
    struct hf_journal *journal;
    uint8_t data[100];
    if (vault.vault == NULL) {
        test_vault_make(&vault, hf_test_folder());
        folder = hf_test_folder();
    }
    hf_assert_ok(hf_journal_create(folder, 1, hf_vault_keys(vault.vault), ROOM, &journal, &err), &err);
    char *path = strdup(hf_journal_path(journal));
    for (unsigned i = 0; i < frames; i++) {
        const struct hf_frame frame = {
            .kind = HF_FRAME_LOG, .timeline = 1, .position = 1000 + 100 * i, .whole = 1000, .commits = 1};
        memset(data, (int)i, sizeof data);
        hf_assert_ok(hf_journal_append(journal, &frame, data, sizeof data, &err), &err);
        if ((synced_after >> i & 1) != 0)
            hf_assert_ok(hf_journal_sync(journal, &err), &err);
    }
    hf_journal_freep(&journal);
    return path;
}

static struct hf_journal_ending
read_journal(const char *path, struct read_back *read)
{
    struct hf_error err;
    struct hf_journal_ending ending;
    *read = (struct read_back){0};
    hf_assert_ok(hf_journal_read(path, hf_vault_keys(vault.vault), keep, read, &ending, &err), &err);
    return ending;
}

static size_t
frame_at(unsigned number)
{
    const size_t stored = (FRAME_BYTES + 7) & ~(size_t)7;
    return HF_JOURNAL_HEADER + number * stored;
}

static void
flip(const char *path, size_t at)
{
    uint8_t byte;
    _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
}

static void
cut(const char *path, size_t at)
{
    assert_int_equal(truncate(path, (off_t)at), 0);
}

HF_TEST(what_was_written_is_read_back_in_order)
{
    struct read_back read;
    _cleanup_(hf_freep) char *path = write_journal(5, 1u << 4);
    const struct hf_journal_ending ending = read_journal(path, &read);
    assert_int_equal(ending.frames, 5);
    assert_int_equal(ending.damaged, 0);
    assert_false(ending.torn);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(read.positions[i], 1000 + 100 * i);
        assert_int_equal(read.first[i], i);
    }
}

/* Hands on to keep(), and has enough after some. */
struct some {
    struct read_back read;
    size_t most;
    bool enough;
    uint64_t at;
};

static bool
keep_some(void *context, const struct hf_frame *frame, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct some *some = context;
    some->at = frame->at;
    some->enough = some->read.count + 1 == some->most;
    assert_true(some->read.count < some->most);
    return keep(&some->read, frame, data, length, err);
}

HF_TEST(a_part_of_a_journal_is_what_lies_between_a_frame_that_was_seen_and_enough)
{
    struct hf_error err;
    struct hf_journal_ending ending;
    _cleanup_(hf_freep) char *path = write_journal(20, 1 << 10);
    _cleanup_(hf_closep) int fd = -1;
    hf_assert_ok(hf_file_open(path, &fd, NULL, &err), &err);
    struct some some = {.most = 3};
    struct hf_journal_part part = {.at = frame_at(7), .number = 7, .enough = &some.enough};
    hf_assert_ok(hf_journal_read_fd(fd, path, hf_vault_keys(vault.vault), &part, keep_some, &some, &ending, &err),
                 &err);
    assert_int_equal(some.read.count, 3);
    assert_int_equal(some.read.positions[0], 1700);
    assert_int_equal(some.read.first[2], 9);
    assert_int_equal(some.at, frame_at(9));
    assert_int_equal(ending.damaged, 0);

    // A place that is no frame's, or another frame's, hands over nothing of what was not asked for.
    flip(path, frame_at(7) + HF_JOURNAL_FRAME_HEADER + 5);
    some = (struct some){.most = 64};
    part = (struct hf_journal_part){.at = frame_at(7), .number = 7};
    hf_assert_ok(hf_journal_read_fd(fd, path, hf_vault_keys(vault.vault), &part, keep_some, &some, &ending, &err),
                 &err);
    assert_int_equal(ending.damaged, 1);
    assert_int_equal(ending.first_damaged, 7);
    assert_int_equal(some.read.positions[0], 1800);
}

HF_TEST(a_torn_tail_ends_the_journal_wherever_it_was_cut)
{
    for (size_t at = 0; at < frame_at(3) - frame_at(2); at++) {
        struct read_back read;
        _cleanup_(hf_freep) char *path = write_journal(3, 1u << 1);
        cut(path, frame_at(2) + at);
        const struct hf_journal_ending ending = read_journal(path, &read);
        assert_int_equal(ending.frames, at >= FRAME_BYTES ? 3 : 2); // behind it there is only padding
        assert_int_equal(ending.damaged, 0);
        assert_int_equal(ending.torn, at > 0 && at < FRAME_BYTES);
        unlink(path);
    }
}

HF_TEST(a_header_that_was_never_finished_is_a_journal_that_was_never_begun)
{
    struct read_back read;
    _cleanup_(hf_freep) char *path = write_journal(0, 0);
    cut(path, 50);
    assert_int_equal(read_journal(path, &read).frames, 0);
    cut(path, 0);
    cut(path, 4096);
    assert_int_equal(read_journal(path, &read).frames, 0);
}

HF_TEST(a_flipped_bit_in_a_frame_that_was_durable_is_told_and_what_follows_is_kept)
{
    static const size_t places[] = {
        0, 5, 9, 13, 20, 30, HF_JOURNAL_FRAME_HEADER, HF_JOURNAL_FRAME_HEADER + 60, HF_JOURNAL_FRAME_HEADER + 148 + 3};
    for (size_t i = 0; i < HF_LENGTH(places); i++) {
        struct read_back read;
        _cleanup_(hf_freep) char *path = write_journal(6, 0x3f);
        flip(path, frame_at(2) + places[i]);
        const struct hf_journal_ending ending = read_journal(path, &read);
        assert_int_equal(ending.damaged, 1);
        assert_int_equal(ending.first_damaged, 2);
        assert_int_equal(ending.frames, 5);
        assert_int_equal(read.positions[2], 1300);
        unlink(path);
    }
}

/* After a power cut parts of the last batch may be on the disk, in any order: none of it was acknowledged. */
HF_TEST(a_hole_in_a_batch_that_was_never_durable_is_a_torn_end_and_no_damage)
{
    struct read_back read;
    _cleanup_(hf_freep) char *path = write_journal(6, 1u << 1);
    flip(path, frame_at(3) + 50);
    const struct hf_journal_ending ending = read_journal(path, &read);
    assert_int_equal(ending.frames, 3);
    assert_int_equal(ending.damaged, 0);
    assert_true(ending.torn);
}

HF_TEST(a_frame_in_another_place_or_of_another_journal_does_not_open)
{
    struct read_back read;
    uint8_t frame[512];
    const size_t length = frame_at(1) - frame_at(0);
    _cleanup_(hf_freep) char *path = write_journal(4, 0xf), *other = write_journal(4, 0xf);
    _cleanup_(hf_closep) int from = open(other, O_RDONLY | O_CLOEXEC), to = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(from, frame, length, (off_t)frame_at(1)), length);
    assert_int_equal(pwrite(to, frame, length, (off_t)frame_at(1)), length);
    assert_int_equal(read_journal(path, &read).damaged, 1);
    assert_int_equal(pread(to, frame, length, (off_t)frame_at(3)), length);
    assert_int_equal(pwrite(to, frame, length, (off_t)frame_at(2)), length);
    assert_int_equal(read_journal(path, &read).damaged, 2);
}

HF_TEST(a_damaged_header_is_corrupt_and_another_vaults_journal_is_refused)
{
    struct read_back read;
    struct hf_error err;
    struct hf_journal_ending ending;
    struct test_vault elsewhere;
    _cleanup_(hf_freep) char *path = write_journal(2, 3);
    test_vault_make(&elsewhere, hf_test_folder());
    assert_false(hf_journal_read(path, hf_vault_keys(elsewhere.vault), keep, &read, &ending, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "belongs to another vault or repository"));
    flip(path, 100);
    assert_false(hf_journal_read(path, hf_vault_keys(vault.vault), keep, &read, &ending, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "the header of journal"));
    test_vault_done(&elsewhere);
}

static struct hf_stream_writer *
open_writer(struct test_vault *of)
{
    struct hf_error err;
    struct hf_stream_writer *writer;
    const struct hf_stream_options options = {
        .vault = of->vault, .source = "clinic", .signing = &of->signing, .seal_bytes = HF_MIB, .seal_ms = 100000};
    hf_assert_ok(hf_stream_writer_open(&options, &writer, &err), &err);
    return writer;
}

static bool
append(struct hf_stream_writer *writer, uint32_t timeline, uint64_t position, size_t length, struct hf_error *err)
{
    static uint8_t data[HF_MIB];
    const struct hf_frame frame = {
        .kind = HF_FRAME_LOG, .timeline = timeline, .position = position, .whole = position + length};
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)((position + i) * 31 >> 3);
    return hf_stream_writer_append(writer, &frame, data, length, err);
}

HF_TEST(what_a_sync_did_not_cover_is_never_durable_and_nothing_is_after_it)
{
    struct hf_error err;
    struct test_vault of;
    struct hf_stream_positions positions;
    test_vault_make(&of, hf_test_folder());
    struct hf_stream_writer *writer = open_writer(&of);
    hf_assert_ok(append(writer, 1, 4096, 1000, &err), &err);
    hf_assert_ok(hf_stream_writer_sync(writer, &err), &err);
    sync_fails = true;
    (void)!append(writer, 1, 5096, 1000, &err);
    assert_false(hf_stream_writer_sync(writer, &err));
    assert_non_null(strstr(err.message, "could not sync journal"));
    sync_fails = false;
    assert_false(append(writer, 1, 6096, 1000, &err));
    assert_false(hf_stream_writer_sync(writer, &err));
    hf_stream_writer_positions(writer, &positions);
    assert_int_equal(positions.durable, 5096);
    hf_stream_writer_freep(&writer);
    test_vault_done(&of);
}

struct reading {
    uint64_t at;
    size_t wrong;
};

static bool
check_bytes(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
            struct hf_error *err)
{
    struct reading *reading = context;
    (void)timeline, (void)err;
    reading->wrong += position != reading->at;
    for (size_t i = 0; i < length; i++)
        reading->wrong += data[i] != (uint8_t)((position + i) * 31 >> 3);
    reading->at = position + length;
    return true;
}

HF_TEST(the_archive_reads_across_packs_and_the_journal_of_a_writer_that_was_killed)
{
    struct hf_error err;
    struct test_vault of;
    struct hf_archive *archive;
    struct hf_timeline_path *path = malloc(sizeof *path);
    test_vault_make(&of, hf_test_folder());
    struct hf_stream_writer *writer = open_writer(&of);
    uint64_t at = 8192;
    for (int i = 0; i < 40; i++, at += 100000)
        hf_assert_ok(append(writer, 1, at, 100000, &err), &err);
    hf_assert_ok(hf_stream_writer_sync(writer, &err), &err);
    hf_stream_writer_freep(&writer); // as a kill would: what is in the journal stays there

    for (int again = 0; again < 2; again++) {
        test_vault_reopen(&of);
        hf_assert_ok(hf_archive_open(of.vault, NULL, &archive, &err), &err);
        hf_timeline_path_of_first(path);
        struct reading reading = {.at = 10000};
        hf_assert_ok(hf_stream_read(archive, path, 10000, at, check_bytes, &reading, &err), &err);
        assert_int_equal(reading.at, at);
        assert_int_equal(reading.wrong, 0);
        assert_false(hf_stream_read(archive, path, 10000, at + 1, check_bytes, &reading, &err));
        assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
        hf_archive_freep(&archive);
        writer = open_writer(&of); // seals what the first one left
        hf_assert_ok(hf_stream_writer_close(&writer, &err), &err);
    }
    free(path);
    test_vault_done(&of);
}

HF_TEST(a_journal_that_comes_back_after_it_was_sealed_is_not_sealed_twice)
{
    struct hf_error err;
    struct test_vault of;
    const struct hf_vault_state *vault_state;
    char *place, **names, command[900];
    size_t count;
    test_vault_make(&of, hf_test_folder());
    struct hf_stream_writer *writer = open_writer(&of);
    const char history[] = "1\t0/3000\tno reason\n";
    hf_assert_ok(append(writer, 1, 8192, 1000, &err), &err);
    hf_assert_ok(hf_stream_writer_history(writer, 2, 0x3000, history, strlen(history), &err), &err);
    hf_stream_writer_freep(&writer);
    hf_assert_ok(hf_journal_folder(of.vault, &place, &err), &err);
    snprintf(command, sizeof command, "cp -a '%s' '%s/aside'", place, of.cache);
    assert_int_equal(system(command), 0);

    for (int again = 0; again < 2; again++) {
        writer = open_writer(&of);
        hf_assert_ok(hf_stream_writer_close(&writer, &err), &err);
        hf_assert_ok(hf_journal_list(place, &names, &count, &err), &err);
        assert_int_equal(count, 0);
        hf_strv_freep(&names);
        hf_assert_ok(hf_vault_read(of.vault, NULL, NULL, &vault_state, &err), &err);
        assert_int_equal(vault_state->stretch_count, 1);
        assert_int_equal(vault_state->stretches[0].history_count, 1);
        snprintf(command, sizeof command, "cp -a '%s/aside/.' '%s'", of.cache, place);
        assert_int_equal(system(command), 0);
    }
    free(place);
    test_vault_done(&of);
}

HF_TEST(a_hole_is_asked_for_again_until_it_is_recorded_and_reading_names_it)
{
    struct hf_error err;
    struct test_vault of;
    struct hf_archive *archive;
    struct hf_timeline_path *path = malloc(sizeof *path);
    struct reading reading = {.at = 8192};
    bool found;
    uint64_t position;
    test_vault_make(&of, hf_test_folder());
    struct hf_stream_writer *writer = open_writer(&of);
    hf_assert_ok(append(writer, 1, 8192, 1000, &err), &err);
    hf_assert_ok(append(writer, 1, 20000, 1000, &err), &err);
    hf_assert_ok(hf_stream_writer_archive(writer, &archive, &err), &err);
    hf_timeline_path_of_first(path);
    hf_assert_ok(hf_archive_resume(archive, path, &found, &position, &err), &err);
    assert_int_equal(position, 9192);
    assert_false(hf_stream_read(archive, path, 8192, 21000, check_bytes, &reading, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message, "the archive of timeline 1 has a gap from 0/23E8 to 0/4E20");
    assert_int_equal(reading.at, 9192);

    const struct hf_vault_gap gap = {.from_timeline = 1, .from = 9192, .timeline = 1, .to = 20000};
    hf_assert_ok(hf_stream_writer_gap(writer, &gap, "lost in a test", &err), &err);
    hf_assert_ok(hf_archive_resume(archive, path, &found, &position, &err), &err);
    assert_int_equal(position, 21000);
    hf_assert_ok(hf_stream_writer_close(&writer, &err), &err);
    free(path);
    test_vault_done(&of);
}

/* Timeline 1 was left at 10,000 for timeline 2; what was lost of it later is nothing that timeline 2 misses. */
HF_TEST(a_gap_of_one_branch_hides_nothing_that_another_waits_for)
{
    struct hf_error err;
    struct test_vault of;
    struct hf_archive *archive;
    struct hf_timeline_path *path = malloc(sizeof *path), *first = malloc(sizeof *first);
    static const char history[] = "1\t0/2710\tno recovery target specified\n";
    static const struct hf_vault_gap gaps[] = {
        {.from_timeline = 1, .from = 50000, .timeline = 1, .to = 60000}, // two that meet, the later one first
        {.from_timeline = 1, .from = 9192, .timeline = 1, .to = 50000},
    };
    bool found;
    uint64_t position;
    test_vault_make(&of, hf_test_folder());
    struct hf_stream_writer *writer = open_writer(&of);
    hf_assert_ok(append(writer, 1, 8192, 1000, &err), &err);
    for (size_t i = 0; i < HF_LENGTH(gaps); i++)
        hf_assert_ok(hf_stream_writer_gap(writer, &gaps[i], "lost in a test", &err), &err);
    hf_assert_ok(hf_stream_writer_history(writer, 2, 10000, history, strlen(history), &err), &err);
    hf_assert_ok(hf_stream_writer_archive(writer, &archive, &err), &err);
    hf_timeline_path_of_first(first);
    hf_assert_ok(hf_archive_resume(archive, first, &found, &position, &err), &err);
    assert_int_equal(position, 60000);
    hf_assert_ok(hf_archive_path(archive, 2, path, &err), &err);
    hf_assert_ok(hf_archive_resume(archive, path, &found, &position, &err), &err);
    assert_int_equal(position, 10000);

    hf_assert_ok(append(writer, 2, 10000, 45000, &err), &err);
    hf_assert_ok(hf_stream_writer_archive(writer, &archive, &err), &err);
    hf_assert_ok(hf_archive_resume(archive, path, &found, &position, &err), &err);
    assert_int_equal(position, 55000);
    assert_int_equal(hf_archive_given_up(archive, path, 9191), 9191);
    assert_int_equal(hf_archive_given_up(archive, path, 9192), 10000);
    hf_assert_ok(hf_stream_writer_close(&writer, &err), &err);
    free(path);
    free(first);
    test_vault_done(&of);
}

/* The worst moment: between the reading of the log, which has not got it yet, and that of the journal. */
static struct hf_stream_writer *_Atomic seals_now;

bool __real_hf_vault_read(struct hf_vault *read, hf_log_visitor *visit, void *context,
                          const struct hf_vault_state **ret, struct hf_error *err);
bool __wrap_hf_vault_read(struct hf_vault *read, hf_log_visitor *visit, void *context,
                          const struct hf_vault_state **ret, struct hf_error *err);
bool
__wrap_hf_vault_read(struct hf_vault *read, hf_log_visitor *visit, void *context, const struct hf_vault_state **ret,
                     struct hf_error *err)
{
    const bool ok = __real_hf_vault_read(read, visit, context, ret, err);
    struct hf_stream_writer *writer = atomic_exchange(&seals_now, NULL);
    if (writer != NULL)
        hf_assert_ok(hf_stream_writer_seal(writer, err), err);
    return ok;
}

HF_TEST(a_journal_that_becomes_a_pack_while_the_archive_is_read_is_there_all_the_same)
{
    struct hf_error err;
    struct test_vault of, reader;
    struct hf_archive *archive;
    struct hf_timeline_path *path = malloc(sizeof *path);
    struct reading reading = {.at = 8192};
    bool found;
    uint64_t position;
    test_vault_make(&of, hf_test_folder());
    reader = of; // another process
    reader.repository = NULL;
    reader.vault = NULL;
    test_vault_reopen(&reader);
    struct hf_stream_writer *writer = open_writer(&of);
    hf_assert_ok(append(writer, 1, 8192, 1000, &err), &err);
    hf_assert_ok(hf_stream_writer_sync(writer, &err), &err);
    atomic_store(&seals_now, writer);
    hf_assert_ok(hf_archive_open(reader.vault, NULL, &archive, &err), &err);
    assert_null(atomic_load(&seals_now));
    hf_timeline_path_of_first(path);
    hf_assert_ok(hf_archive_resume(archive, path, &found, &position, &err), &err);
    assert_true(found);
    assert_int_equal(position, 9192);
    hf_assert_ok(hf_stream_read(archive, path, 8192, 9192, check_bytes, &reading, &err), &err);
    hf_archive_freep(&archive);
    hf_assert_ok(hf_stream_writer_close(&writer, &err), &err);
    free(path);
    test_vault_close(&reader);
    test_vault_done(&of);
}

HF_TEST(a_stream_has_one_writer_and_one_that_gets_nothing_writes_nothing)
{
    struct hf_error err;
    struct test_vault of;
    struct hf_stream_writer *second;
    const struct hf_vault_state *vault_state;
    test_vault_make(&of, hf_test_folder());
    hf_assert_ok(hf_vault_read(of.vault, NULL, NULL, &vault_state, &err), &err);
    const uint64_t head = vault_state->head;
    struct hf_stream_writer *writer = open_writer(&of);
    const struct hf_stream_options options = {.vault = of.vault, .source = "clinic", .signing = &of.signing};
    assert_false(hf_stream_writer_open(&options, &second, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    hf_assert_ok(hf_stream_writer_close(&writer, &err), &err);
    hf_assert_ok(hf_vault_read(of.vault, NULL, NULL, &vault_state, &err), &err);
    assert_int_equal(vault_state->head, head);
    test_vault_done(&of);
}

HF_TEST(a_history_file_is_parsed_into_the_path_of_its_timeline_or_refused_by_line)
{
    struct hf_error err;
    struct hf_timeline_path *path = malloc(sizeof *path);
    const char good[] = "1\t0/3000000\tno recovery target specified\n\n# said nobody\n2\t0/5000028\tbefore 10\n";
    hf_assert_ok(hf_timeline_path_parse(3, good, strlen(good), path, &err), &err);
    assert_int_equal(path->count, 3);
    assert_int_equal(hf_timeline_path_at(path, 0x2ffffff)->timeline, 1);
    assert_int_equal(hf_timeline_path_at(path, 0x3000000)->timeline, 2);
    assert_int_equal(hf_timeline_path_at(path, 0x5000028)->timeline, 3);

    static const char *const bad[] = {"x\t0/1\n",         "1 nowhere\n",      "0\t0/1\n",
                                      "2\t0/9\n1\t0/A\n", "1\t0/9\n2\t0/8\n", "1\n"};
    for (size_t i = 0; i < HF_LENGTH(bad); i++) {
        assert_false(hf_timeline_path_parse(3, bad[i], strlen(bad[i]), path, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
    }
    assert_false(hf_timeline_path_parse(2, good, strlen(good), path, &err));
    free(path);
}
