/* See option_table.h. */
#include "bench/option_table.h"

#define AT(field) offsetof(struct bench_options, field)
#define SECONDS_MAX 3600.0
#define WORK_MS_MAX 60000.0

/* clang-format off */
const struct option_row option_table[] = {
    {"target", BENCH_RUN, OPTION_TEXTS, AT(targets), 0, 0, "TARGET",
     "whom to ask (required); no TLS, no login"},
    {"vs", BENCH_RUN, OPTION_TEXTS, AT(targets), 0, 0, "TARGET",
     "whom else to ask, in turns with it; repeatable"},
    {"peers", BENCH_RUN, OPTION_FLAG, AT(peers), 0, 0, NULL,
     "also: direct, relay, and which of haproxy, nginx, mongobetween are here"},
    {"upstream", BENCH_RUN, OPTION_TEXT, AT(upstream), 0, 0, "HOST:PORT",
     "the server behind the targets that are started"},
    {"server", BENCH_RUN, OPTION_TEXT, AT(server), 0, 0, "PROGRAM",
     "or one that is started: mongod or secantusd-rs; PROGRAM,replicaset and\n"
     "PROGRAM,sync as native has them; PROGRAM,instant: the fake server `instant`\n"
     "before it"},
    {"holdfastd", BENCH_RUN, OPTION_TEXT, AT(holdfastd), 0, 0, "FILE",
     "the program; by default beside this one, or on PATH"},
    {"threads", BENCH_RUN, OPTION_NUMBER, AT(threads), 1, 256, "N",
     "of each target that is started; by default as many as processors"},
    {"connections", BENCH_RUN, OPTION_NUMBERS, AT(connections), 1, LOAD_CONNECTIONS_MAX, "N,...",
     "1 (default) to 50000"},
    {"rate", BENCH_RUN, OPTION_RATES, AT(rates), 0.1, 1e7, "N,...",
     "operations a second that are begun, whatever becomes of them; latency\n"
     "counts from when each was meant to begin. Without it each connection\n"
     "begins the next when the last has ended"},
    {"rounds", BENCH_RUN, OPTION_NUMBER, AT(rounds), 1, BENCH_ROUNDS_MAX, "N",
     "runs of everything, in turns; 1 by default, ratios need 6 or more"},
    {"seconds", BENCH_RUN, OPTION_SECONDS, AT(load.seconds_ns), 0.1, SECONDS_MAX, "S",
     "measured time of each run, 10 by default"},
    {"warmup", BENCH_RUN, OPTION_SECONDS, AT(load.warmup_ns), 0, SECONDS_MAX, "S",
     "load before that, which is not measured, 1 by default"},
    {"documents", BENCH_RUN, OPTION_NUMBER, AT(load.documents), 1, LOAD_DOCUMENTS_MAX, "N",
     "documents of 200 bytes to work on, 10000 by default"},
    {"zipf", BENCH_RUN, OPTION_FRACTION, AT(load.zipf), 0.01, 0.999, "X",
     "ycsb: the constant of the distribution, 0.99 by default"},
    {"bytes", BENCH_RUN, OPTION_NUMBER, AT(load.bytes), 1, LOAD_BYTES_MAX, "N",
     "large-read: bytes of documents a reply, 1000000 by default; floor: of a\n"
     "record, 1000 by default"},
    {"writes", BENCH_RUN, OPTION_NUMBERS, AT(writes), 1, LOAD_UNIT_WRITES_MAX, "N,...",
     "unit: of each, 3 by default"},
    {"boundary", BENCH_RUN, OPTION_BOUNDARIES, 0, 0, 0, "WORD,...",
     "unit: driver (default), comment, single, http (of targets that are\n"
     "started), plain (no unit, the same writes)"},
    {"hot", BENCH_RUN, OPTION_NUMBER, AT(load.hot), 1, LOAD_DOCUMENTS_MAX, "N",
     "contended: documents that all increment, 1 by default; accounts: 100"},
    {"plain", BENCH_RUN, OPTION_NUMBER, AT(load.plain), 1, LOAD_CONNECTIONS_MAX, "N",
     "contended: so many of the connections use plain updates"},
    {"blind", BENCH_RUN, OPTION_FLAG, AT(load.blind), 0, 0, NULL,
     "contended: transactions increment without a read before"},
    {"by-filter", BENCH_RUN, OPTION_FLAG, AT(load.by_filter), 0, 0, NULL,
     "contended: they read by a filter that does not fix _id"},
    {"serializable", BENCH_RUN, OPTION_FLAG, AT(load.serializable), 0, 0, NULL,
     "unit, contended: transactions ask for it (of holdfastd only)"},
    {"units", BENCH_RUN, OPTION_NUMBERS, AT(units), 1, 10000000, "N,...",
     "recovery: in the journal, 1000,10000 by default"},
    {"kills", BENCH_RUN, OPTION_NUMBER, AT(kills), 1, 1000, "N",
     "crash-loss: of each round, 3 by default"},
    {"method", BENCH_RUN, OPTION_WORD, AT(load.method), 0, 0, "M",
     "calls: POST by default; all but GET have a body; not HEAD"},
    {"path", BENCH_RUN, OPTION_PATH, AT(load.path), 0, 0, "P",
     "calls: /calls by default"},
    {"pid", BENCH_RUN, OPTION_PID, 0, 0, 0, "PID",
     "report CPU time and memory of this process; up to 16 times"},
    {"directory", BENCH_RUN, OPTION_TEXT, AT(directory), 0, 0, "DIR",
     "where what is started, and floor, write; TMPDIR or /tmp by default"},
    {"json", BENCH_RUN, OPTION_FLAG, AT(json), 0, 0, NULL,
     "one line of JSON instead of text"},
    {"output", BENCH_RUN, OPTION_TEXT, AT(output), 0, 0, "DIR",
     "write report.html, report.json, report.csv and the pictures there"},
    {"compare", BENCH_RUN, OPTION_TEXT, AT(compare), 0, 0, "FILE",
     "an earlier report.json: what has changed since"},
    {"tolerance", BENCH_RUN, OPTION_FRACTION, AT(tolerance), 0.1, 1000, "PERCENT",
     "compare: exit code 3 if a ratio of targets is worse by more, surely"},
    {"quiet", BENCH_RUN, OPTION_FLAG, AT(quiet), 0, 0, NULL,
     "no progress on a terminal"},
    {"help", BENCH_RUN, OPTION_HELP, 0, 0, 0, NULL, "this text"},
    {"version", BENCH_RUN, OPTION_VERSION, 0, 0, 0, NULL, "the version"},

    {"listen", BENCH_SERVICE, OPTION_TEXT, AT(serve.listen), 0, 0, "HOST:PORT",
     "where it serves (required); port 0: a free one, which it tells"},
    {"mongo", BENCH_SERVICE, OPTION_TEXT, AT(serve.mongo), 0, 0, "HOST:PORT",
     "where its writes go; without it there are none"},
    {"work", BENCH_SERVICE, OPTION_MS, AT(serve.work_ns), 0, WORK_MS_MAX, "MS",
     "how long a call takes before its writes, 0 by default"},
    {"writes", BENCH_SERVICE, OPTION_NUMBER, AT(serve.writes), 1, LOAD_WRITES_MAX, "N",
     "of each call, 2 by default"},
    {"connections", BENCH_SERVICE, OPTION_NUMBER, AT(serve.connections), 1, LOAD_CONNECTIONS_MAX,
     "N", "to --mongo, 32 by default"},
    {"documents", BENCH_SERVICE, OPTION_NUMBER, AT(serve.documents), 1, LOAD_DOCUMENTS_MAX, "N",
     "which it writes one after the other, 10000 by default"},

    {"listen", BENCH_RELAY, OPTION_TEXT, AT(serve.listen), 0, 0, "HOST:PORT",
     "where it serves (required); port 0: a free one, which it tells"},
    {"target", BENCH_RELAY, OPTION_TEXTS, AT(targets), 0, 0, "HOST:PORT",
     "whereto (required)"},
    {"threads", BENCH_RELAY, OPTION_NUMBER, AT(serve.threads), 1, 256, "N",
     "by default as many as processors"},

    {"listen", BENCH_INSTANT, OPTION_TEXT, AT(serve.listen), 0, 0, "HOST:PORT",
     "where it serves (required); port 0: a free one, which it tells"},
    {"local", BENCH_INSTANT, OPTION_TEXT, AT(serve.local), 0, 0, "unix:/PATH", "and there"},
    {"target", BENCH_INSTANT, OPTION_TEXTS, AT(targets), 0, 0, "HOST:PORT",
     "the server that gets what it does not answer (required)"},
};
/* clang-format on */

const size_t option_count = sizeof option_table / sizeof option_table[0];
