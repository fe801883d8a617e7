#ifndef HOLDFAST_NET_LISTENING_H
#define HOLDFAST_NET_LISTENING_H

/*
 * The listening sockets of this process by the addresses as they were configured: which it has, so
 * that a successor can be given them, and which it was given by a predecessor (daemon/upgrade.c).
 *
 * A socket that was handed down is taken in place of a new one by who binds the same text. Of
 * several with one text, as "127.0.0.1:0" may be, the first comes first: sockets are bound in the
 * order of the configuration, and that is most likely the same.
 *
 * Any thread.
 */

#include <stdbool.h>
#include <stddef.h>

#define LISTENING_MAX 1024u
#define LISTENING_TEXT_BYTES 300u

struct listening {
    char text[LISTENING_TEXT_BYTES];
    int descriptor;
};

/* The socket listens for `text` from now on, until listening_forget(). */
void listening_note(const char *text, int descriptor);
/* Before it is closed. Harmless if it was not noted. */
void listening_forget(int descriptor);

/* Copies up to `max` of those that are noted, in the order of their noting; their descriptors are
   new ones, the caller's, and close on exec. Returns how many. */
size_t listening_copy(struct listening *list, size_t max);

/* `descriptor` was handed down; it is this module's from now on. */
void listening_hand_down(const char *text, int descriptor);
/* Whether one was handed down for `text` that nobody has taken. */
bool listening_has(const char *text);
/* One that was handed down for `text`, the caller's from now on; -1: none. */
int listening_take(const char *text);
/* Those that nobody took are closed. Returns how many there were. */
size_t listening_close_rest(void);

#endif
