#ifndef HOLDFAST_BENCH_METRIC_H
#define HOLDFAST_BENCH_METRIC_H

/* What is told of a run. One list makes the enum, the names in JSON and CSV, and the titles. */

/* name, in JSON, title, unit, which is better (1: more, -1: less, 0: neither), digits */
#define METRIC_LIST(X)                                                                             \
    X(THROUGHPUT, "operationsPerSecond", "throughput", "operations/s", 1, 0)                       \
    X(VOLUME, "megabytesPerSecond", "volume", "MB/s", 1, 0)                                        \
    X(P50, "p50Micros", "latency p50", "µs", -1, 0)                                                \
    X(P90, "p90Micros", "latency p90", "µs", -1, 0)                                                \
    X(P99, "p99Micros", "latency p99", "µs", -1, 0)                                                \
    X(P999, "p999Micros", "latency p99.9", "µs", -1, 0)                                            \
    X(MAX, "maxMicros", "latency, longest", "µs", -1, 0)                                           \
    X(SERVICE_P99, "serviceP99Micros", "p99 once begun", "µs", -1, 0)                              \
    X(CPU, "targetCpuMicros", "CPU", "µs/operation", -1, 1)                                        \
    X(SERVER_CPU, "serverCpuMicros", "server's CPU", "µs/operation", -1, 1)                        \
    X(OWN_CPU, "ownCpuMicros", "bench's CPU", "µs/operation", 0, 1)                                \
    X(MEMORY, "targetMemoryBytes", "memory", "bytes", -1, 0)                                       \
    X(IDLE_MEMORY, "bytesPerConnection", "memory each", "bytes/connection", -1, 0)                 \
    X(JOURNAL_BYTES, "journalBytesPerOperation", "journal", "bytes/operation", -1, 0)              \
    X(JOURNAL_COMMITS, "journalCommitsPerOperation", "table commits", "/operation", -1, 3)         \
    X(RETRIES, "retriesPerOperation", "retries", "/operation", -1, 2)                              \
    X(RECOVERY, "recoverySeconds", "until it accepts", "s", -1, 3)                                 \
    X(RECOVERY_BYTES, "journalBytes", "journal", "bytes", 0, 0)                                    \
    X(LOST, "lostOperations", "lost", "operations/kill", -1, 1)                                    \
    X(TORN, "tornOperations", "torn", "operations/kill", -1, 1)

enum metric {
#define X(name, key, title, unit, better, digits) METRIC_##name,
    METRIC_LIST(X)
#undef X
        METRIC_COUNT,
};

struct metric_about {
    const char *key;
    const char *title;
    const char *unit;
    int better;
    int digits;
};

extern const struct metric_about metric_about[METRIC_COUNT];

#endif
