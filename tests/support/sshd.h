/*
 * sshd.h - a real sshd for one test, on a free port of 127.0.0.1, gone when the test program ends
 *
 * It has its own host key, its own configuration, and offers nothing but internal-sftp; a key of ours opens it.
 * Whatever goes wrong here fails the test that called.
 */
#pragma once
#include "base/process.h"
#include "server/storage/ssh_place.h"

struct hf_test_sshd {
    char folder[128];
    char identity[160];    // the key that opens it
    char known_hosts[160]; // names its host key
    char config[160];
    unsigned port;
    struct hf_process server; // NONE while stopped
};

/*
 * `more`: lines of sshd_config that win over those of ours, or NULL.  Its identity and known hosts are put into use:
 * hf_ssh_use().
 */
void hf_test_sshd_start(struct hf_test_sshd *sshd, const char *folder, const char *more);
void hf_test_sshd_use(const struct hf_test_sshd *sshd);
/* ssh://127.0.0.1:port/path in static memory, good until the next call. */
const char *hf_test_sshd_place(const struct hf_test_sshd *sshd, const char *path);
/* Kills it with all connections; may be started again with resume(). */
void hf_test_sshd_stop(struct hf_test_sshd *sshd);
void hf_test_sshd_resume(struct hf_test_sshd *sshd);
