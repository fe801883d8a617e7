/*
 * Secrets (secret.h).
 *
 * Who may read a file: its owner and, of a file of root's, its group, as PostgreSQL has it; whoever
 * else could is refused, as ssh does with a private key, for then it is no secret.
 *
 * Any thread; nothing is kept but the copies of the arguments.
 */
#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum status secret_file_open(const char *what, const char *path, int *ret_descriptor,
                             struct error *ret_error)
{
    struct stat found;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0 || fstat(descriptor, &found) != 0) {
        int failure = errno;
        if (descriptor >= 0) {
            (void)close(descriptor);
        }
        return error_set(ret_error, STATUS_INVALID, "%s: cannot read %.200s: %s", what, path,
                         strerror(failure));
    }
    mode_t refused = found.st_uid == 0 ? S_IRWXO | S_IWGRP | S_IXGRP : S_IRWXO | S_IRWXG;
    const char *wrong = NULL;
    if (!S_ISREG(found.st_mode)) {
        wrong = "is not a file";
    } else if ((found.st_mode & refused) != 0) {
        wrong = "can be read or changed by others: chmod 600 it (or 640, if it belongs to root)";
    }
    if (wrong != NULL) {
        (void)close(descriptor);
        return error_set(ret_error, STATUS_INVALID, "%s: %.200s %s", what, path, wrong);
    }
    *ret_descriptor = descriptor;
    return STATUS_OK;
}

enum status secret_file_check(const char *what, const char *path, struct error *ret_error)
{
    int descriptor = -1;
    enum status status = secret_file_open(what, path, &descriptor, ret_error);
    if (status == STATUS_OK) {
        (void)close(descriptor);
    }
    return status;
}

static enum status read_all(int descriptor, char *text, size_t *ret_size)
{
    size_t size = 0;
    while (size <= SECRET_FILE_BYTES_MAX) {
        ssize_t got = read(descriptor, text + size, SECRET_FILE_BYTES_MAX + 1 - size);
        if (got < 0 && errno != EINTR) {
            return STATUS_IO;
        }
        if (got == 0) {
            break;
        }
        size += got > 0 ? (size_t)got : 0;
    }
    *ret_size = size;
    return STATUS_OK;
}

enum status secret_file_read(const char *what, const char *path, char **ret_text,
                             struct error *ret_error)
{
    int descriptor = -1;
    size_t size = 0;
    enum status status = secret_file_open(what, path, &descriptor, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    char *text = calloc(1, SECRET_FILE_BYTES_MAX + 2);
    if (text == NULL) {
        (void)close(descriptor);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    status = read_all(descriptor, text, &size);
    (void)close(descriptor);
    while (size > 0 && strchr(" \t\r\n", text[size - 1]) != NULL) {
        text[--size] = '\0';
    }
    if (status != STATUS_OK || size == 0 || size > SECRET_FILE_BYTES_MAX || strlen(text) != size ||
        strpbrk(text, "\r\n") != NULL) {
        secret_free(text);
        return error_set(ret_error, STATUS_INVALID, "%s: %.200s does not hold one line of text",
                         what, path);
    }
    *ret_text = text;
    return STATUS_OK;
}

void secret_free(char *text)
{
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}

/* mongodb://user:PASSWORD@host, also behind --upstream= or upstream.uri=. */
static void hide_password(char *word)
{
    char *scheme = strstr(word, "://");
    if (scheme == NULL) {
        return;
    }
    char *begin = scheme + 3;
    size_t size = strcspn(begin, "/?");
    char *at = memrchr(begin, '@', size);
    if (at == NULL) { /* with a bare / in its password it is no URI, and will be refused */
        at = strrchr(begin, '@');
    }
    char *colon = at == NULL ? NULL : memchr(begin, ':', (size_t)(at - begin));
    if (colon != NULL) {
        memset(colon + 1, '*', (size_t)(at - colon - 1));
    }
    /* tlsCertificateKeyFilePassword, and as it was called before; case does not matter there. */
    static const char option[] = "password=";
    char *value = at == NULL ? begin : at;
    while ((value = strcasestr(value, option)) != NULL) {
        value += sizeof option - 1;
        memset(value, '*', strcspn(value, "&"));
    }
}

/* The last ones made: for the life of the process, so that a leak checker does not take them for
 * lost. */
static char **volatile hidden; /* volatile: or the compiler sees that nobody reads it */

char **secret_hide_arguments(int argument_count, char **arguments)
{
    char **copies = calloc((size_t)argument_count + 1, sizeof *copies);
    for (int i = 0; copies != NULL && i < argument_count; i++) {
        copies[i] = strdup(arguments[i]);
        if (copies[i] == NULL) {
            while (i > 0) {
                free(copies[--i]);
            }
            free(copies);
            return NULL;
        }
    }
    for (int i = 0; copies != NULL && i < argument_count; i++) {
        hide_password(arguments[i]);
    }
    hidden = copies;
    return copies;
}
