/* The manual that --help prints; docs/man/generate makes the manual page of it. */
#include <stdio.h>
#include <string.h>

#include "bench/option_table.h"

#define COLUMN 22

static void print_option(const struct option_row *row)
{
    const char *line = row->help;
    int used = printf("  --%s%s%s", row->name, row->value == NULL ? "" : " ",
                      row->value == NULL ? "" : row->value);
    if (used > COLUMN - 2) {
        used = printf("\n") - 1;
    }
    for (;;) {
        size_t size = strcspn(line, "\n");
        printf("%*s%.*s\n", COLUMN - used, "", (int)size, line);
        if (line[size] == '\0') {
            return;
        }
        line += size + 1;
        used = 0;
    }
}

static void print_options(enum bench_command command)
{
    for (size_t i = 0; i < option_count; i++) {
        if (option_table[i].command == command) {
            print_option(&option_table[i]);
        }
    }
}

void bench_options_help(void)
{
    fputs("Usage: holdfast-bench LOAD... --target TARGET [--vs TARGET]... [OPTION]...\n"
          "       holdfast-bench service --listen HOST:PORT [OPTION]...\n"
          "       holdfast-bench relay --listen HOST:PORT --target HOST:PORT [OPTION]...\n"
          "       holdfast-bench instant --listen HOST:PORT --target HOST:PORT [OPTION]...\n"
          "\n"
          "Puts load on a MongoDB server, on holdfastd or on another proxy, and measures it.\n"
          "With several targets everything is measured in turns, and ratios are told.\n"
          "\n"
          "Loads:\n",
          stdout);
    for (int kind = 0; kind < LOAD_COUNT; kind++) {
        printf("  %-13s  %s\n", load_name((enum load_kind)kind), load_help((enum load_kind)kind));
    }
    fputs("\nOptions:\n", stdout);
    print_options(BENCH_RUN);
    fputs("\n"
          "TARGET is [NAME=]WHERE[,KEY=VALUE]..., and WHERE one of\n"
          "  HOST:PORT      what is there, or unix:/PATH; with pid=PID its CPU time and memory\n"
          "                 are told\n"
          "  direct         --upstream or --server itself\n"
          "  holdfastd      started before that, with KEY=VALUE as its configuration;\n"
          "                 program=FILE: another build of it\n"
          "  relay          holdfast-bench relay before it: the floor of any proxy in user space\n"
          "  haproxy        in TCP mode before it\n"
          "  nginx          its stream module before it\n"
          "  mongobetween   before it\n"
          "  native         the server's own transactions: a --server of its own, as a replica\n"
          "                 set; native,sync syncs each commit\n"
          "  With ,local behind holdfastd, relay or haproxy it is reached by a local socket, with\n"
          "  ,local-server it reaches its server by one (--server PROGRAM,instant).\n"
          "\n"
          "The documents are made first, in the database holdfast_bench, unless they are there\n"
          "from an earlier run; they stay. Point it at no server whose data you would miss.\n"
          "\n"
          "An error reply, a reply that says something else than expected, an HTTP answer other\n"
          "than 2xx and a connection that ends are errors; the first one is told. Units that are\n"
          "told to try again (TransientTransactionError) do so and are counted as retries;\n"
          "their latency counts from the first try.\n"
          "\n"
          "service is a stub to put calls on: it works on any number of them at once, and each\n"
          "makes its writes one after the other (updates with upsert, of distinct documents, with\n"
          "the call's traceparent in their comment), but a GET none. It ends by SIGTERM.\n"
          "\n"
          "Options of service:\n",
          stdout);
    print_options(BENCH_SERVICE);
    fputs("\n"
          "relay moves bytes and looks at none. It ends by SIGTERM.\n"
          "\n"
          "Options of relay:\n",
          stdout);
    print_options(BENCH_RELAY);
    fputs("\n"
          "instant is a fake server: it answers a find or an update of one document by _id, and\n"
          "hello and ping, at once, without looking at any data, and lets a real server do the\n"
          "rest. What a proxy costs shows best before it. It ends by SIGTERM.\n"
          "\n"
          "Options of instant:\n",
          stdout);
    print_options(BENCH_INSTANT);
    fputs("\n"
          "Example: holdfast-bench unit --target localhost:27018 --connections 32 --pid 4711\n"
          "\n"
          "Exit codes: 0 no error, 1 errors were counted, 2 could not run, 3 worse than\n"
          "--compare by more than --tolerance.\n",
          stdout);
}
