/* Addresses and files for what is started. Main thread. */
#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/load/link.h"
#include "bench/peer/peer_private.h"

#define POLL_MS 10u
#define OPEN_FOLDERS 16

enum status peer_free_address(char *address, size_t size, struct error *ret_error)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof any;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool found = descriptor >= 0 &&
                 bind(descriptor, (const struct sockaddr *)&any, sizeof any) == 0 &&
                 getsockname(descriptor, (struct sockaddr *)&any, &length) == 0;
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    if (!found) {
        return error_set(ret_error, STATUS_IO, "cannot find a free port: %s", strerror(errno));
    }
    snprintf(address, size, "127.0.0.1:%u", ntohs(any.sin_port));
    return STATUS_OK;
}

const char *peer_port(const char *address)
{
    const char *colon = strrchr(address, ':');
    return colon == NULL ? address : colon + 1;
}

enum status peer_wait_accepting(const struct child *child, const char *address, uint32_t wait_ms,
                                struct error *ret_error)
{
    char words[300];
    struct network_address where;
    int descriptor;
    enum status status = network_address_resolve(address, &where, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    for (uint32_t past = 0; past < wait_ms && child_running(child); past += POLL_MS) {
        if (link_connect(&where, &descriptor, NULL) == STATUS_OK) {
            (void)close(descriptor);
            return STATUS_OK;
        }
        child_pause(POLL_MS);
    }
    child_last_words(child, words, sizeof words);
    return error_set(ret_error, STATUS_UNREACHABLE, "%s %s: %s", child->name,
                     child_running(child) ? "does not accept connections" : "has ended", words);
}

enum status peer_write_file(const char *path, struct error *ret_error, const char *format, ...)
{
    FILE *file = fopen(path, "we");
    va_list arguments;
    if (file == NULL) {
        return error_set(ret_error, STATUS_IO, "cannot write %s: %s", path, strerror(errno));
    }
    va_start(arguments, format);
    bool written = vfprintf(file, format, arguments) >= 0;
    va_end(arguments);
    return fclose(file) == 0 && written
               ? STATUS_OK
               : error_set(ret_error, STATUS_IO, "cannot write %s: %s", path, strerror(errno));
}

bool peer_path(char path[TARGET_PATH_BYTES], const char *folder, const char *name)
{
    int size = snprintf(path, TARGET_PATH_BYTES, "%s/%s", folder, name);
    return size > 0 && size < TARGET_PATH_BYTES;
}

static int remove_one(const char *path, const struct stat *about, int type, struct FTW *where)
{
    (void)about;
    (void)type;
    (void)where;
    (void)remove(path);
    return 0;
}

void peer_remove(const char *folder)
{
    (void)nftw(folder, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS);
}

bool peer_own_path(char path[512])
{
    ssize_t size = readlink("/proc/self/exe", path, 511);
    path[size < 0 ? 0 : size] = '\0';
    return size > 0;
}

bool peer_holdfast_path(const struct bench_options *options, const char *program, char path[512])
{
    char own[512];
    const char *given = strcmp(program, "holdfastd") == 0 ? options->holdfastd : NULL;
    if (given != NULL) {
        return child_find(given, path);
    }
    if (peer_own_path(own)) {
        char *name = strrchr(own, '/');
        int size =
            snprintf(path, 512, "%.*s/%s", name == NULL ? 0 : (int)(name - own), own, program);
        if (size > 0 && size < 512 && access(path, X_OK) == 0) {
            return true;
        }
    }
    return child_find(program, path);
}
