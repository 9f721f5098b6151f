/*
 * sftp_folders.h - the folders of a place reached by SFTP: which are known and unsynced, and what lies in them
 * (private to backend_sftp.c)
 */
#pragma once
#include "server/storage/backend_internal.h"
#include "server/storage/sftp_client.h"

#define HF_SFTP_OBJECTS_MOST (4u << 20) // of one list

struct hf_sftp_folder {
    char name[HF_OBJECT_NAME_BYTES]; // "" is the root
    bool dirty;                      // got a name that no sync has covered yet
};
/* Folders that are there, and those that are to be synced.  All zeros: none. */
struct hf_sftp_folders {
    size_t count, room;
    struct hf_sftp_folder *folders; // in no order: some hundreds
    bool lost;                      // a sync failed: what was named before may be gone after a power cut, for good
};
bool hf_sftp_folders_known(const struct hf_sftp_folders *folders, const char *folder);
HF_MUST_CHECK bool hf_sftp_folders_add(struct hf_sftp_folders *folders, const char *folder, struct hf_error *err);
/* The folder that `name` lies in got it. */
HF_MUST_CHECK bool hf_sftp_folders_mark(struct hf_sftp_folders *folders, const char *name, struct hf_error *err);
/* One that is to be synced, which is then counted as synced; false when there is none left. */
bool hf_sftp_folders_take(struct hf_sftp_folders *folders, const char **ret);
void hf_sftp_folders_done(struct hf_sftp_folders *folders);

struct hf_sftp_listing {
    size_t count, room;
    struct hf_object_info *objects; // sorted by name
};
/*
 * The objects below `root` whose name begins with `prefix`.  `staged` turns it round: only what lies in staging
 * folders.  Folders that go away meanwhile are empty.
 */
HF_MUST_CHECK bool hf_sftp_list(struct hf_sftp *client, const char *root, const char *prefix, bool staged,
                                struct hf_sftp_listing *ret, struct hf_error *err);
void hf_sftp_listing_done(struct hf_sftp_listing *listing);
