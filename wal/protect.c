/*
 * Who may enter the journal's directory: it holds copies of documents, and the control socket. Any
 * thread.
 *
 * Its files are for their owner only. What is left is that others might put files of theirs in
 * their place. So one of our own is closed to all others, as ssh closes what it makes; one of
 * somebody else's that everybody may write to is refused, as ssh refuses it.
 */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "holdfast/wal.h"

enum status wal_directory_protect(const char *path, bool *ret_narrowed, struct error *ret_error)
{
    struct stat found;
    *ret_narrowed = false;
    if (stat(path, &found) != 0 || !S_ISDIR(found.st_mode)) {
        return STATUS_OK; /* wal_open() makes it, or says what is wrong */
    }
    if ((found.st_mode & (S_IRWXG | S_IRWXO)) == 0) {
        return STATUS_OK;
    }
    if (found.st_uid == geteuid()) {
        if (chmod(path, S_IRWXU) != 0) {
            return error_set(ret_error, STATUS_IO,
                             "%s can be entered by others: chmod 700 fails: %s", path,
                             strerror(errno));
        }
        *ret_narrowed = true;
        return STATUS_OK;
    }
    if ((found.st_mode & S_IWOTH) != 0) {
        return error_set(ret_error, STATUS_INVALID,
                         "%s belongs to somebody else and everybody may write to it: give the "
                         "journal a directory of its own, for example %s/journal",
                         path, path);
    }
    return STATUS_OK;
}
