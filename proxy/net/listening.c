/*
 * Two short lists (listening.h): what listens, and what was handed down and not taken yet.
 *
 * A socket too many for a list is simply not in it: it is bound anew then.
 *
 * Any thread: `lock` guards both.
 */
#include "net/listening.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct list {
    struct listening entries[LISTENING_MAX];
    size_t count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list noted;
static struct list handed_down;

static bool add(struct list *list, const char *text, int descriptor)
{
    if (list->count == LISTENING_MAX || strlen(text) >= LISTENING_TEXT_BYTES) {
        return false;
    }
    struct listening *entry = &list->entries[list->count++];
    (void)snprintf(entry->text, sizeof entry->text, "%s", text);
    entry->descriptor = descriptor;
    return true;
}

static void remove_at(struct list *list, size_t at)
{
    list->count--;
    memmove(&list->entries[at], &list->entries[at + 1],
            (list->count - at) * sizeof list->entries[0]);
}

void listening_note(const char *text, int descriptor)
{
    (void)pthread_mutex_lock(&lock);
    (void)add(&noted, text, descriptor);
    (void)pthread_mutex_unlock(&lock);
}

void listening_forget(int descriptor)
{
    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < noted.count; i++) {
        if (noted.entries[i].descriptor == descriptor) {
            remove_at(&noted, i);
            break;
        }
    }
    (void)pthread_mutex_unlock(&lock);
}

size_t listening_copy(struct listening *list, size_t max)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < noted.count && count < max; i++) {
        list[count] = noted.entries[i];
        list[count].descriptor = fcntl(noted.entries[i].descriptor, F_DUPFD_CLOEXEC, 3);
        count += list[count].descriptor >= 0;
    }
    (void)pthread_mutex_unlock(&lock);
    return count;
}

void listening_hand_down(const char *text, int descriptor)
{
    (void)pthread_mutex_lock(&lock);
    bool added = add(&handed_down, text, descriptor);
    (void)pthread_mutex_unlock(&lock);
    if (!added) {
        (void)close(descriptor);
    }
}

bool listening_has(const char *text)
{
    bool has = false;
    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < handed_down.count && !has; i++) {
        has = strcmp(handed_down.entries[i].text, text) == 0;
    }
    (void)pthread_mutex_unlock(&lock);
    return has;
}

int listening_take(const char *text)
{
    int descriptor = -1;
    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < handed_down.count; i++) {
        if (strcmp(handed_down.entries[i].text, text) == 0) {
            descriptor = handed_down.entries[i].descriptor;
            remove_at(&handed_down, i);
            break;
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return descriptor;
}

size_t listening_close_rest(void)
{
    (void)pthread_mutex_lock(&lock);
    size_t count = handed_down.count;
    for (size_t i = 0; i < count; i++) {
        (void)close(handed_down.entries[i].descriptor);
    }
    handed_down.count = 0;
    (void)pthread_mutex_unlock(&lock);
    return count;
}
