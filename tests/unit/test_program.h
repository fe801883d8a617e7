#ifndef HOLDFAST_TESTS_TEST_PROGRAM_H
#define HOLDFAST_TESTS_TEST_PROGRAM_H

/*
 * Directories and programs that a test needs beside itself. Everything that cannot be had ends the
 * test program at once.
 */

#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TEST_DIRECTORY_BYTES 256

/* A new directory, under $TMPDIR if there is one; to be given to directory_remove(). */
static inline void directory_new(char ret_directory[TEST_DIRECTORY_BYTES])
{
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] == '\0' || strlen(parent) > TEST_DIRECTORY_BYTES - 32) {
        parent = P_tmpdir;
    }
    snprintf(ret_directory, TEST_DIRECTORY_BYTES, "%s/holdfast-unit-XXXXXX", parent);
    if (mkdtemp(ret_directory) == NULL) {
        perror("mkdtemp");
        abort();
    }
}

static inline int directory_remove_one(const char *path, const struct stat *status, int type,
                                       struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

static inline void directory_remove(const char *directory)
{
    if (nftw(directory, directory_remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0) {
        perror(directory);
    }
}

/*
 * Runs a shell command and takes what it prints to standard output, cut off at `capacity`. Returns
 * its exit code, or -1 if a signal ended it.
 */
static inline int shell_run(const char *command, char *ret_output, size_t capacity)
{
    int ends[2];
    int outcome = 0;
    size_t used = 0;
    char rest[4096];
    if (pipe(ends) != 0) {
        perror("pipe");
        abort();
    }
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    for (;;) {
        bool full = used + 1 >= capacity;
        ssize_t got = full ? read(ends[0], rest, sizeof(rest))
                           : read(ends[0], ret_output + used, capacity - 1 - used);
        if (got <= 0) {
            break;
        }
        used += full ? 0 : (size_t)got;
    }
    ret_output[used] = '\0';
    close(ends[0]);
    if (waitpid(child, &outcome, 0) != child || !WIFEXITED(outcome)) {
        return -1;
    }
    return WEXITSTATUS(outcome);
}

static inline void pause_ms(long milliseconds)
{
    struct timespec pause_time = {.tv_sec = milliseconds / 1000,
                                  .tv_nsec = milliseconds % 1000 * 1000000};
    nanosleep(&pause_time, NULL);
}

#endif
