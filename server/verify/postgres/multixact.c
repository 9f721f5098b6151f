#include "server/verify/postgres/multixact.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"

#define PAGE_BYTES        8192
#define PAGES_A_FILE      32
#define OFFSETS_A_PAGE    (PAGE_BYTES / 4)
#define GROUP_BYTES       20
#define MEMBERS_A_GROUP   4
#define GROUPS_A_PAGE     (PAGE_BYTES / GROUP_BYTES)
#define FIRST_TRANSACTION 3

/* The page read last of one of the two. */
struct pages {
    const char *name;
    int folder; // -1: it is not there
    bool known;
    uint32_t number;
    uint8_t page[PAGE_BYTES];
};

struct hf_multixacts {
    uint32_t oldest, next;
    struct hf_verify_check *check; // borrowed from the caller
    struct pages offsets, members;
    int64_t rows;
    char told_path[256]; // what was told last
    uint32_t told_page;
    bool told_any;
};

static const uint8_t *read_page(struct pages *pages, uint32_t number);
static void tell(struct hf_multixacts *multixacts, const char *what, const struct pages *pages, uint32_t page,
                 const char *path, uint32_t block);

bool
hf_multixacts_open(int folder, uint32_t oldest, uint32_t next, struct hf_verify_check *check,
                   struct hf_multixacts **ret, struct hf_error *err)
{
    struct hf_multixacts *multixacts = calloc(1, sizeof *multixacts);
    if (multixacts == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a check of pg_multixact");
    const int how = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    _cleanup_(hf_closep) int parent = openat(folder, "pg_multixact", how);
    multixacts->oldest = oldest;
    multixacts->next = next;
    multixacts->check = check;
    multixacts->offsets = (struct pages){.name = "offsets", .folder = parent < 0 ? -1 : openat(parent, "offsets", how)};
    multixacts->members = (struct pages){.name = "members", .folder = parent < 0 ? -1 : openat(parent, "members", how)};
    hf_check_begin(check);
    *ret = multixacts;
    return true;
}

void
hf_multixacts_freep(struct hf_multixacts **multixacts)
{
    if (*multixacts == NULL)
        return;
    hf_closep(&(*multixacts)->offsets.folder);
    hf_closep(&(*multixacts)->members.folder);
    free(*multixacts);
    *multixacts = NULL;
}

void
hf_multixacts_check(struct hf_multixacts *it, uint32_t multixact, const char *path, uint32_t block)
{
    if (it->oldest == 0 || multixact - it->oldest >= it->next - it->oldest)
        return; // of a row that is older or newer than what is known: verify_heapam looks at those bounds
    it->rows++;
    const uint32_t offset_page = multixact / OFFSETS_A_PAGE;
    const uint8_t *page = read_page(&it->offsets, offset_page);
    if (page == NULL) {
        tell(it, "multixact_page_missing", &it->offsets, offset_page, path, block);
        return;
    }
    const uint32_t member = hf_get_u32(page + (size_t)(multixact % OFFSETS_A_PAGE) * 4);
    if (member == 0) {
        tell(it, "multixact_unknown", &it->offsets, offset_page, path, block);
        return;
    }
    const uint32_t group = member / MEMBERS_A_GROUP, member_page = group / GROUPS_A_PAGE;
    page = read_page(&it->members, member_page);
    if (page == NULL) {
        tell(it, "multixact_page_missing", &it->members, member_page, path, block);
        return;
    }
    const size_t at = (size_t)(group % GROUPS_A_PAGE) * GROUP_BYTES + 4 + (size_t)(member % MEMBERS_A_GROUP) * 4;
    if (hf_get_u32(page + at) < FIRST_TRANSACTION)
        tell(it, "multixact_unknown", &it->members, member_page, path, block);
}

void
hf_multixacts_settle(struct hf_multixacts *multixacts)
{
    if (multixacts->oldest == 0)
        hf_check_cannot_tell(multixacts->check, "which multixacts there were is not known");
    hf_check_pass(multixacts->check, multixacts->rows);
}

/* NULL when it is not there, whole. */
static const uint8_t *
read_page(struct pages *pages, uint32_t number)
{
    char name[16];
    if (pages->known && pages->number == number)
        return pages->page;
    snprintf(name, sizeof name, "%04X", number / PAGES_A_FILE);
    _cleanup_(hf_closep) int fd =
        pages->folder >= 0 ? openat(pages->folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    pages->known =
        fd >= 0 && pread(fd, pages->page, PAGE_BYTES, (off_t)(number % PAGES_A_FILE) * PAGE_BYTES) == PAGE_BYTES;
    pages->number = number;
    return pages->known ? pages->page : NULL;
}

static void
tell(struct hf_multixacts *it, const char *what, const struct pages *pages, uint32_t page, const char *path,
     uint32_t block)
{
    if (it->told_any && it->told_page == page && strncmp(it->told_path, path, sizeof it->told_path - 1) == 0) {
        it->check->bad++; // counted, but named once
        return;
    }
    it->told_any = true;
    it->told_page = page;
    snprintf(it->told_path, sizeof it->told_path, "%s", path);
    hf_check_found(it->check, what, block, "%s and pg_multixact/%s/%04X, page %u", path, pages->name,
                   page / PAGES_A_FILE, page % PAGES_A_FILE);
}
