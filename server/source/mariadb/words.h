/*
 * words.h - how MariaDB and MySQL are reached: the settings `connection` and `tool_connection`
 *
 *   host      name or address                        port     3306
 *   socket    path of the server's socket, on this host; instead of host and port
 *   user      account; without one, the name of the user who asks
 *   tls       no, required (encrypted, whoever answers) or verify (default with a host): the server's certificate must
 *             be of its name and signed by tls_ca, or by one that the system trusts
 *   tls_ca, tls_cert, tls_key     files in PEM form
 */
#pragma once
#include "base/words.h"

#define HF_MARIADB_PATH_BYTES 256
#define HF_MARIADB_NAME_BYTES 256
#define HF_MARIADB_PORT       3306

enum hf_mariadb_tls { HF_MARIADB_TLS_VERIFY, HF_MARIADB_TLS_REQUIRED, HF_MARIADB_TLS_NO };

struct hf_mariadb_words {
    char host[HF_MARIADB_NAME_BYTES];   // "" with a socket
    char socket[HF_MARIADB_PATH_BYTES]; // ""
    char user[HF_MARIADB_NAME_BYTES];   // ""
    unsigned port;
    enum hf_mariadb_tls tls; // of no meaning with a socket
    char tls_ca[HF_MARIADB_PATH_BYTES], tls_cert[HF_MARIADB_PATH_BYTES], tls_key[HF_MARIADB_PATH_BYTES];
};

/*
 * `setting` names the text in errors.  USAGE: a word that is not above, a value that cannot be, neither host nor
 * socket.
 */
HF_MUST_CHECK bool hf_mariadb_words_read(const char *setting, const char *text, struct hf_mariadb_words *ret,
                                         struct hf_error *err);
