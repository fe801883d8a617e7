/* The file beside a dump (backup_file.h). Main thread. */
#include "cli/backup_file.h"

#include <bson/bson.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define VERSION 1

static void append_command(bson_t *document, char *const *command)
{
    bson_t list;
    BSON_APPEND_ARRAY_BEGIN(document, "command", &list);
    for (uint32_t i = 0; command != NULL && command[i] != NULL; i++) {
        char buffer[16];
        const char *index = NULL;
        /* A URI may have a password. */
        bool uri = strncmp(command[i], "mongodb", 7) == 0 || strstr(command[i], "=mongodb") != NULL;
        bool secret = i > 0 && (strcmp(command[i - 1], "-p") == 0 ||
                                strcmp(command[i - 1], "--password") == 0);
        secret = secret || strncmp(command[i], "--password=", 11) == 0;
        (void)bson_uint32_to_string(i, &index, buffer, sizeof(buffer));
        BSON_APPEND_UTF8(&list, index, uri || secret ? "..." : command[i]);
    }
    bson_append_array_end(document, &list);
}

static enum status write_whole(const char *path, const char *text, struct error *ret_error)
{
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t size = strlen(text);
    bool done = descriptor >= 0 && write(descriptor, text, size) == (ssize_t)size &&
                write(descriptor, "\n", 1) == 1 && fsync(descriptor) == 0;
    int failure = errno;
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    return done ? STATUS_OK
                : error_set(ret_error, STATUS_IO, "cannot write %s: %s", path, strerror(failure));
}

enum status backup_file_write(const char *directory, const struct backup_file *file,
                              struct error *ret_error)
{
    char path[PATH_MAX];
    char new_path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/" BACKUP_FILE_NAME, directory) >= (int)sizeof(path) ||
        snprintf(new_path, sizeof(new_path), "%s/" BACKUP_FILE_NAME ".new", directory) >=
            (int)sizeof(new_path)) {
        return error_set(ret_error, STATUS_INVALID, "the path of the backup is too long");
    }
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_INT32(&document, "version", VERSION);
    BSON_APPEND_UTF8(&document, "journal", file->journal);
    BSON_APPEND_INT64(&document, "fromLsn", (int64_t)file->from_lsn);
    BSON_APPEND_INT64(&document, "untilLsn", (int64_t)file->until_lsn);
    BSON_APPEND_BOOL(&document, "finished", file->finished);
    BSON_APPEND_BOOL(&document, "paused", file->paused);
    BSON_APPEND_BOOL(&document, "journalCopied", file->journal_copied);
    BSON_APPEND_DATE_TIME(&document, "began", (int64_t)file->began_ms);
    BSON_APPEND_DATE_TIME(&document, "ended", (int64_t)file->ended_ms);
    append_command(&document, file->command);
    BSON_APPEND_INT32(&document, "exitCode", file->exit_code);
    char *json = bson_as_relaxed_extended_json(&document, NULL);
    enum status status = json == NULL
                             ? error_set(ret_error, STATUS_INVALID, "a command that is no UTF-8")
                             : write_whole(new_path, json, ret_error);
    if (status == STATUS_OK && rename(new_path, path) != 0) {
        status = error_set(ret_error, STATUS_IO, "cannot write %s: %s", path, strerror(errno));
    }
    bson_free(json);
    bson_destroy(&document);
    return status;
}

static int64_t number(const bson_t *document, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, name) ? bson_iter_as_int64(&at) : -1;
}

static bool flag(const bson_t *document, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, name) && bson_iter_as_bool(&at);
}

static enum status take_apart(const char *path, const bson_t *document,
                              struct backup_file *ret_file, struct error *ret_error)
{
    struct backup_file file = {0};
    bson_iter_t at;
    const char *journal = bson_iter_init_find(&at, document, "journal") && BSON_ITER_HOLDS_UTF8(&at)
                              ? bson_iter_utf8(&at, NULL)
                              : "";
    if (number(document, "version") > VERSION) {
        return error_set(ret_error, STATUS_VERSION, "%s was written by a newer holdfast", path);
    }
    if (number(document, "version") < 1 || strlen(journal) != sizeof(file.journal) - 1 ||
        number(document, "fromLsn") < 0 || number(document, "untilLsn") < 0) {
        return error_set(ret_error, STATUS_INVALID, "%s is not of holdfast backup", path);
    }
    memcpy(file.journal, journal, sizeof(file.journal));
    file.from_lsn = (uint64_t)number(document, "fromLsn");
    file.until_lsn = (uint64_t)number(document, "untilLsn");
    file.finished = flag(document, "finished");
    file.paused = flag(document, "paused");
    file.journal_copied = flag(document, "journalCopied");
    *ret_file = file;
    return STATUS_OK;
}

enum status backup_file_read(const char *directory, struct backup_file *ret_file,
                             struct error *ret_error)
{
    char path[PATH_MAX];
    bson_error_t why;
    if (snprintf(path, sizeof(path), "%s/" BACKUP_FILE_NAME, directory) >= (int)sizeof(path)) {
        return error_set(ret_error, STATUS_INVALID, "the path of the backup is too long");
    }
    if (access(path, R_OK) != 0) {
        return error_set(ret_error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO,
                         "cannot read %s: %s", path, strerror(errno));
    }
    bson_json_reader_t *reader = bson_json_reader_new_from_file(path, &why);
    bson_t document = BSON_INITIALIZER;
    enum status status = STATUS_OK;
    if (reader == NULL || bson_json_reader_read(reader, &document, &why) != 1) {
        status = error_set(ret_error, STATUS_INVALID, "%s is not JSON", path);
    }
    if (reader != NULL) {
        bson_json_reader_destroy(reader);
    }
    status = status == STATUS_OK ? take_apart(path, &document, ret_file, ret_error) : status;
    bson_destroy(&document);
    return status;
}
