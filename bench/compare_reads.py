#!/usr/bin/env python3
"""What reads of the committed state cost: interleaved runs, compared pair by pair.

fast path   a read where no unit has anything open, and one of another document than those that a
            unit has open, beside the same read with unit.reads: local: throughput, p50 and CPU of
            holdfastd for an operation (holdfast-bench point-read)
overlay     reads of a collection of which one open unit has written 1, 100 and 10,000 documents,
            beside the same read of one of which none is written, one read after the other

Prints tables and writes compare_reads.json and compare_reads.md to --output. Everything it starts
is its own and ends with it. About 4 minutes.
"""

import contextlib
import os
import statistics
import time

import comparison

PARTS = ("fast", "overlay")
DATABASE = "bench"
PADDING = "x" * 150  # about 200 bytes a document
BATCH = 1000


def options():
    parser = comparison.parser("compare_reads", __doc__, rounds=12, seconds=1.5, warmup=0.2)
    parser.add_argument("--connections", type=int, default=32, help="of a fast-path run (32)")
    parser.add_argument("--documents", type=int, default=20000, help="of a collection (20000)")
    parser.add_argument(
        "--written", default="1,100,10000", help="documents that a unit has written (1,100,10000)"
    )
    chosen = comparison.parse(parser, PARTS)
    chosen.written = [int(number) for number in chosen.written.split(",")]
    if max(chosen.written) > chosen.documents // 2:
        parser.error("--written is at most half of --documents")
    return chosen


OPTIONS = options()

# Behind the options, so that --help needs nothing installed.
import interleaved  # noqa: E402
from bson import Binary  # noqa: E402
from bson.int64 import Int64  # noqa: E402
from holdfast_testing import Connection, Proxy, Server  # noqa: E402
from report_of_pairs import Report, say, table, with_interval  # noqa: E402
from statistics_of_pairs import ratio_with_interval  # noqa: E402


class Stack:
    def __init__(self, started, **settings):
        settings = {key.replace("_", "."): value for key, value in settings.items()}
        settings = {"net.threads": str(OPTIONS.threads), "unit.lifetime": "1h", **settings}
        self.server = started.enter_context(Server())
        self.proxy = started.enter_context(Proxy(self.server, settings))

    def connect(self, started):
        return started.enter_context(Connection(self.proxy.port, timeout=300))


class OpenUnit:
    """A transaction that writes, and then does nothing until the end."""

    def __init__(self, connection):
        self.connection = connection
        self.session = {"id": Binary(os.urandom(16), 4)}
        self.begun = False

    def run(self, command, database=DATABASE):
        message = {**command, "lsid": self.session, "txnNumber": Int64(1), "autocommit": False}
        if not self.begun:
            message["startTransaction"] = True
        self.begun = True
        reply = self.connection.run({**message, "$db": database})
        if reply["ok"] != 1 or "writeErrors" in reply:
            raise SystemExit(f"compare_reads: {next(iter(command))}: {reply}")

    def write(self, collection, ids):
        for first in range(0, len(ids), BATCH):
            updates = [{"q": {"_id": i}, "u": {"$set": {"b": 1}}} for i in ids[first : first + BATCH]]
            self.run({"update": collection, "updates": updates})

    def abort(self):
        self.run({"abortTransaction": 1}, "admin")


# ------------------------------------------------------------------ the fast path


def compare_fast():
    with contextlib.ExitStack() as started:
        local = Stack(started, unit_reads="local")
        idle = Stack(started)
        busy = Stack(started)
        other = OpenUnit(busy.connect(started))

        def measure(stack):
            return interleaved.bench(
                ["point-read"],
                stack.proxy.address,
                seconds=OPTIONS.seconds,
                warmup=OPTIONS.warmup,
                connections=OPTIONS.connections,
                processes=(stack.proxy.process,),
            )

        say("fast path")
        namespace = found_namespace(busy, measure)
        other.run(
            {"insert": namespace[1], "documents": [{"_id": "of nobody's reads"}]}, namespace[0]
        )
        variants = {"local": local, "no unit open": idle, "another document written": busy}
        results = interleaved.rounds(OPTIONS.rounds, variants, measure)
        other.abort()
    lines = []
    for name in list(variants)[1:]:
        line = {"read": name, "rounds": OPTIONS.rounds}
        for figure, place in (
            ("throughput", lambda result: result["operations"] / result["seconds"]),
            ("p50", lambda result: result["latencyMicros"]["p50"]),
            ("cpu", interleaved.cpu_micros),
        ):
            measured = [place(result) for result in results[name]]
            reference = [place(result) for result in results["local"]]
            ratio, low, high = ratio_with_interval(measured, reference)
            line[figure] = {"ratio": ratio, "interval": [low, high]}
        lines.append(line)
    return lines


def found_namespace(stack, measure):
    """Where holdfast-bench has its documents: the one collection with any after a run."""
    measure(stack)
    with stack.server.client() as client:
        for database in client.list_database_names():
            if database in ("admin", "config", "local", "holdfast"):
                continue
            for collection in client[database].list_collection_names():
                return database, collection
    raise SystemExit("compare_reads: holdfast-bench has left no collection")


# ------------------------------------------------------------------ the overlay


def reads(collection):
    last = OPTIONS.documents - 1  # which no unit has written
    find = {"find": collection, "$db": DATABASE}
    return {
        "find of one _id, which is written": {**find, "filter": {"_id": 0}},
        "find of one _id, which is not": {**find, "filter": {"_id": last}},
        "find with a filter, sort and limit": {
            **find,
            "filter": {"a": {"$lt": 50}},
            "sort": {"_id": 1},
            "limit": 20,
            "singleBatch": True,
        },
        "count with a filter": {"count": collection, "query": {"a": 7}, "$db": DATABASE},
        "aggregate, $group of everything": {
            "aggregate": collection,
            "pipeline": [{"$group": {"_id": "$a", "n": {"$sum": 1}}}],
            "cursor": {},
            "$db": DATABASE,
        },
    }


def timed(connection, command):
    started = time.perf_counter()
    reply = connection.run(command)
    took = time.perf_counter() - started
    if reply["ok"] != 1:
        raise SystemExit(f"compare_reads: {command}: {reply}")
    return took * 1000


def compare_overlay():
    results = {}
    with contextlib.ExitStack() as started:
        stack = Stack(started)
        connection = stack.connect(started)
        counts = [0, *OPTIONS.written]
        units = []
        for count in counts:
            say(f"overlay: {count} documents written")
            collection = f"c{count}"
            with stack.server.client() as client:
                for first in range(0, OPTIONS.documents, BATCH):
                    client[DATABASE][collection].insert_many(
                        [
                            {"_id": i, "a": i % 100, "text": PADDING}
                            for i in range(first, min(first + BATCH, OPTIONS.documents))
                        ]
                    )
            if count:
                unit = OpenUnit(stack.connect(started))
                unit.write(collection, list(range(count)))
                units.append(unit)
        for name in reads("c0"):
            say(f"overlay: {name}")
            variants = {count: reads(f"c{count}")[name] for count in counts}
            results[name] = interleaved.rounds(
                OPTIONS.rounds, variants, lambda command: timed(connection, command)
            )
        for unit in units:
            unit.abort()
    lines = []
    for name, of_counts in results.items():
        line = {"read": name, "rounds": OPTIONS.rounds, "none": statistics.median(of_counts[0])}
        for count in OPTIONS.written:
            ratio, low, high = ratio_with_interval(of_counts[count], of_counts[0])
            added = [a - b for a, b in zip(of_counts[count], of_counts[0])]
            line[str(count)] = {
                "ratio": ratio,
                "interval": [low, high],
                "addedPerDocument": statistics.median(added) / count,
            }
        lines.append(line)
    return lines


# ------------------------------------------------------------------ the report


def interval(figure):
    return with_interval([figure["ratio"], *figure["interval"]])


def table_fast(lines):
    return table(
        ["read / the same with `unit.reads: local`", "throughput", "p50", "CPU an operation"],
        [
            [line["read"], *(interval(line[name]) for name in ("throughput", "p50", "cpu"))]
            for line in lines
        ],
    )


def table_overlay(lines):
    counts = [str(count) for count in OPTIONS.written]
    most = counts[-1]
    rows = []
    for line in lines:
        added = line[most]["addedPerDocument"] * 1000
        figures = [interval(line[count]) for count in counts]
        rows.append([line["read"], f"{line['none']:.1f}", *figures, f"{added:.0f}"])
    return table(["read", "none written, ms", *counts, f"us more a document at {most}"], rows)


def markdown(report):
    about = report["about"]
    text = [
        f"Server {about['server']}, {about['cores']} cores, {about['threads']} worker threads, "
        f"{about['rounds']} rounds, load average {about['loadAverageBefore'][0]:.1f}.",
        "",
    ]
    if "fast" in report:
        text += [*table_fast(report["fast"]), ""]
    if "overlay" in report:
        text += [*table_overlay(report["overlay"]), ""]
    return text


def main():
    report = Report("compare_reads", OPTIONS, markdown)
    parts = {"fast": compare_fast, "overlay": compare_overlay}
    for name in OPTIONS.only:
        report.keep(name, parts[name]())
    report.print()


if __name__ == "__main__":
    main()
