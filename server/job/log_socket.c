#include "server/job/log_socket.h"

#include <stdint.h>
#include <stdio.h>

#define FNV_OFFSET 2166136261U
#define FNV_PRIME  16777619U

/*
 * http://www.isthe.com/chongo/tech/comp/fnv/ - two names that share a number only share a socket, and one asks the
 * daemon.
 */
bool
hf_log_socket(const char *daemon_socket, const char *source, char path[static HF_SOCKET_BYTES])
{
    uint32_t number = FNV_OFFSET;
    int length;
    if (source == NULL || source[0] == '\0') {
        length = snprintf(path, HF_SOCKET_BYTES, "%s-log", daemon_socket);
    } else {
        for (const char *at = source; *at != '\0'; at++)
            number = (number ^ (uint8_t)*at) * FNV_PRIME;
        length = snprintf(path, HF_SOCKET_BYTES, "%s-log-%08x", daemon_socket, number);
    }
    return length > 0 && length < HF_SOCKET_BYTES;
}
