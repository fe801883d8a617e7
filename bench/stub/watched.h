#ifndef HOLDFAST_BENCH_WATCHED_H
#define HOLDFAST_BENCH_WATCHED_H

/* What the stub service's epoll set points to: the first member of whatever it is. */

enum watched_kind {
    WATCHED_LISTENER,
    WATCHED_SIGNALS,
    WATCHED_TIMER,
    WATCHED_CALLER,
    WATCHED_STORE,
};

struct watched {
    enum watched_kind kind;
    int descriptor;
};

#endif
