/*
 * Sockets in directories (local_socket.h).
 *
 * A socket's address holds 107 characters. The directory is opened and named by its descriptor, as
 * the kernel shows it in /proc, so its own path may be of any length.
 */
#include "base/local_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16

struct place {
    int directory;
    int descriptor;
    struct sockaddr_un address;
};

static enum status fail(struct place *place, const char *directory, const char *name,
                        const char *what, struct error *ret_error)
{
    int failure = errno;
    bool nobody = failure == ENOENT || failure == ECONNREFUSED;
    if (place->descriptor >= 0) {
        (void)close(place->descriptor);
    }
    if (place->directory >= 0) {
        (void)close(place->directory);
    }
    return error_set(ret_error, nobody ? STATUS_NOT_FOUND : STATUS_IO, "cannot %s %s/%s: %s", what,
                     directory, name, strerror(failure));
}

static bool open_place(const char *directory, const char *name, int flags, struct place *place)
{
    *place = (struct place){.descriptor = -1, .address.sun_family = AF_UNIX};
    place->directory = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (place->directory < 0) {
        return false;
    }
    (void)snprintf(place->address.sun_path, sizeof place->address.sun_path, "/proc/self/fd/%d/%s",
                   place->directory, name);
    place->descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    return place->descriptor >= 0;
}

enum status local_socket_listen(const char *directory, const char *name, int *ret_descriptor,
                                struct error *ret_error)
{
    struct place place;
    if (!open_place(directory, name, SOCK_NONBLOCK, &place) ||
        (unlinkat(place.directory, name, 0) != 0 && errno != ENOENT) ||
        bind(place.descriptor, (struct sockaddr *)&place.address, sizeof place.address) != 0 ||
        fchmodat(place.directory, name, S_IRUSR | S_IWUSR, 0) != 0 ||
        listen(place.descriptor, BACKLOG) != 0) {
        enum status status = fail(&place, directory, name, "listen on", ret_error);
        return status == STATUS_NOT_FOUND ? STATUS_IO : status;
    }
    (void)close(place.directory);
    *ret_descriptor = place.descriptor;
    return STATUS_OK;
}

enum status local_socket_connect(const char *directory, const char *name, int *ret_descriptor,
                                 struct error *ret_error)
{
    struct place place;
    if (!open_place(directory, name, 0, &place) ||
        connect(place.descriptor, (struct sockaddr *)&place.address, sizeof place.address) != 0) {
        return fail(&place, directory, name, "connect to", ret_error);
    }
    (void)close(place.directory);
    *ret_descriptor = place.descriptor;
    return STATUS_OK;
}

void local_socket_remove(const char *directory, const char *name)
{
    int descriptor = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (descriptor >= 0) {
        (void)unlinkat(descriptor, name, 0);
        (void)close(descriptor);
    }
}
