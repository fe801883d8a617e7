#!/usr/bin/env python3
"""What Holdfast costs: interleaved runs of holdfast-bench, compared as ratios.

passthrough  point-read, point-write and large-read, straight at the server, through holdfastd and
             through HAProxy in TCP mode, both with the same number of worker threads
units        a driver transaction of three updates: through holdfastd with wal.durability=power
             against the server's own transactions with a sync for each commit, and with process
             against the server's own without
idle         memory of holdfastd for each connection that is held open

Prints a table and writes compare.json and compare.md to --output. Everything it starts is its own
and ends with it.
"""

import contextlib
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import tempfile

import comparison

PARTS = ("passthrough", "units", "idle")
PASSTHROUGH = {
    "point-read": ["point-read"],
    "point-write": ["point-write"],
    "large-read 1 MB": ["large-read", "--bytes", 1_000_000],
    "large-read 10 MB": ["large-read", "--bytes", 10_000_000],
}
PASSTHROUGH_PAIRS = (("holdfastd", "direct"), ("HAProxy", "direct"), ("holdfastd", "HAProxy"))
UNIT_CONNECTIONS = (1, 32)
# A file descriptor towards each side, and some of its own.
DESCRIPTORS_A_CONNECTION = 2
DESCRIPTORS_SPARE = 200


def options():
    parser = comparison.parser("compare", __doc__, rounds=20, seconds=2.0, warmup=0.4)
    parser.add_argument("--connections", type=int, default=32, help="of passthrough (32)")
    parser.add_argument("--idle", type=int, default=4000, help="idle connections (4000)")
    return comparison.parse(parser, PARTS, at_least_1=("idle", "connections"))


OPTIONS = options()

# Behind the options, so that --help needs nothing installed.
import interleaved  # noqa: E402
from holdfast_testing import (  # noqa: E402
    Process,
    Proxy,
    Server,
    free_port,
    holdfast,
    wait_until,
)
from report_of_pairs import Report, say, table, with_interval  # noqa: E402
from statistics_of_pairs import geometric_mean, ratio_with_interval  # noqa: E402


def bench(target, load, connections, processes=()):
    """One run, as the options want it."""
    return interleaved.bench(
        load,
        target,
        seconds=OPTIONS.seconds,
        warmup=OPTIONS.warmup,
        connections=connections,
        processes=processes,
    )


class HAProxy:
    """HAProxy in TCP mode in front of a server."""

    def __init__(self, server):
        self.directory = tempfile.mkdtemp(prefix="holdfast-haproxy-")
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        path = os.path.join(self.directory, "haproxy.cfg")
        with open(path, "w") as file:
            file.write(
                f"global\n    nbthread {OPTIONS.threads}\n    maxconn 9000\n"
                "defaults\n    mode tcp\n    timeout connect 10s\n"
                "    timeout client 1h\n    timeout server 1h\n"
                f"frontend in\n    bind {self.address}\n    default_backend out\n"
                f"backend out\n    server s {server.address}\n"
            )
        self.process = Process(["haproxy", "-db", "-f", path])
        wait_until(self._accepts, 10, "HAProxy accepts connections")

    def _accepts(self):
        if not self.process.running():
            raise SystemExit(f"compare: HAProxy ended: {self.process.output()}")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def proxy(server, **settings):
    return Proxy(server, {"net.threads": str(OPTIONS.threads), **settings})


def rounds(variants, measure):
    return interleaved.rounds(OPTIONS.rounds, variants, measure)


def rates(results):
    return [result["operationsPerSecond"] for result in results]


def compared(results, measured, reference):
    """One line of the result: throughput, CPU and latency of `measured` against `reference`."""
    ratio, low, high = ratio_with_interval(rates(results[measured]), rates(results[reference]))
    median = ratio_with_interval(
        [result["latencyMicros"]["p50"] for result in results[measured]],
        [result["latencyMicros"]["p50"] for result in results[reference]],
    )
    tail = ratio_with_interval(
        [result["latencyMicros"]["p99"] for result in results[measured]],
        [result["latencyMicros"]["p99"] for result in results[reference]],
    )
    return {
        "measured": measured,
        "reference": reference,
        "rounds": len(results[measured]),
        "throughputRatio": ratio,
        "throughputInterval": [low, high],
        "p50Ratio": median[0],
        "p50Interval": list(median[1:]),
        "p99Ratio": tail[0],
        "p99Interval": list(tail[1:]),
    }


def cpu_micros(results, place):
    """The mean over rounds."""
    each = [interleaved.cpu_micros(result, place) for result in results if result["operations"]]
    return sum(each) / len(each)


# ------------------------------------------------------------------ the three parts


def compare_passthrough():
    lines = []
    with contextlib.ExitStack() as started:
        server = started.enter_context(Server())
        through = started.enter_context(proxy(server))
        variants = {"direct": (server, []), "holdfastd": (through, [through.process])}
        if shutil.which("haproxy"):
            haproxy = started.enter_context(HAProxy(server))
            variants["HAProxy"] = (haproxy, [haproxy.process])
        for name, load in PASSTHROUGH.items():
            say(f"passthrough: {name}")
            results = rounds(
                variants,
                lambda variant, load=load: bench(
                    variant[0].address, load, OPTIONS.connections, variant[1]
                ),
            )
            for measured, reference in PASSTHROUGH_PAIRS:
                if measured in results and reference in results:
                    line = compared(results, measured, reference)
                    line["load"] = name
                    line["connections"] = OPTIONS.connections
                    line["cpuMicros"] = cpu_micros(results[measured], 0)
                    lines.append(line)
    return lines


def journal_commits(through):
    found = json.loads(holdfast("status", "--wal", through.wal, "--json", check=0).stdout)
    return found["commits"]


def unit_run(variant, connections):
    address, through = variant
    if through is None:
        return bench(address, ["unit"], connections)
    before = journal_commits(through)
    result = bench(address, ["unit"], connections, [through.process])
    result["commitsPerUnit"] = (journal_commits(through) - before) / result["operationsTotal"]
    return result


def compare_units():
    lines = []
    for durability, sync in (("power", True), ("process", False)):
        with (
            Server() as standalone,
            Server(mode="replicaset", sync=sync) as native,
            proxy(standalone, **{"wal.durability": durability}) as through,
        ):
            variants = {
                f"holdfastd, {durability}": (through.address, through),
                f"native, {'synced' if sync else 'not synced'}": (native.address, None),
            }
            measured, reference = variants
            for connections in UNIT_CONNECTIONS:
                say(f"units: {durability}, {connections} connections")
                results = rounds(
                    variants,
                    lambda variant, connections=connections: unit_run(variant, connections),
                )
                line = compared(results, measured, reference)
                line["load"] = "unit of 3 updates"
                line["connections"] = connections
                line["cpuMicros"] = cpu_micros(results[measured], 0)
                line["commitsPerUnit"] = geometric_mean(
                    [result["commitsPerUnit"] for result in results[measured]]
                )
                line["retries"] = sum(result["retries"] for result in results[measured])
                lines.append(line)
    return lines


def measure_idle():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the daemon inherits it
    possible = (hard - DESCRIPTORS_SPARE) // DESCRIPTORS_A_CONNECTION
    count = min(OPTIONS.idle, possible)
    if count < OPTIONS.idle:
        say(f"idle: {count} connections, for `ulimit -n` allows no more")
    say(f"idle: {count} connections")
    with Server() as server, proxy(server) as through:
        result = bench(through.address, ["idle"], count, [through.process])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (process,) = result["processes"]
    grown = process["rssBytesAfter"] - process["rssBytesAtStart"]
    return {
        "connections": count,
        "rssBytesAtStart": process["rssBytesAtStart"],
        "rssBytesAfter": process["rssBytesAfter"],
        "rssBytesPerConnection": grown / count,
    }


# ------------------------------------------------------------------ what is said of it


def interval(line, name):
    return with_interval([line[f"{name}Ratio"], *line[f"{name}Interval"]])


def table_of(lines, with_commits):
    """A commit of the journal is a sync to the disk, with durability power."""
    titles = ["load", "connections", "measured / reference", "throughput", "p50", "p99", "CPU us"]
    titles += ["commits a unit"] if with_commits else []
    rows = []
    for line in lines:
        row = [line["load"], str(line["connections"])]
        row += [f"{line['measured']} / {line['reference']}"]
        row += [interval(line, name) for name in ("throughput", "p50", "p99")]
        row += [f"{line['cpuMicros']:.0f}"]
        row += [f"{line['commitsPerUnit']:.2f}"] if with_commits else []
        rows.append(row)
    return table(titles, rows)


def markdown(report):
    about = report["about"]
    text = [
        f"Server {about['server']}, {about['cores']} cores, {about['threads']} worker threads in "
        f"each proxy, journals on {about['filesystem']}, {about['rounds']} rounds of "
        f"{about['seconds']:g} s.",
        "",
    ]
    if "passthrough" in report:
        text += ["**Passthrough**", "", *table_of(report["passthrough"], False), ""]
    if "units" in report:
        text += ["**Units**", "", *table_of(report["units"], True), ""]
    if "idle" in report:
        idle = report["idle"]
        text += [
            f"**Idle**: {idle['connections']} connections, "
            f"{idle['rssBytesPerConnection'] / 1024:.1f} KiB of memory each.",
            "",
        ]
    return text


def journal_filesystem():
    """Where journals and data are: a sync to memory (tmpfs) would prove nothing."""
    found = subprocess.run(
        ["df", "--output=fstype", tempfile.gettempdir()], capture_output=True, text=True
    )
    return found.stdout.split()[-1] if found.returncode == 0 else "unknown"


def main():
    filesystem = journal_filesystem()
    if filesystem == "tmpfs":
        say("compare: TMPDIR is in memory: what a sync costs does not show; set it to a disk")
    report = Report(
        "compare", OPTIONS, markdown, machine=platform.machine(), filesystem=filesystem
    )
    parts = {"passthrough": compare_passthrough, "units": compare_units, "idle": measure_idle}
    for name in OPTIONS.only:
        report.keep(name, parts[name]())
    report.print()


if __name__ == "__main__":
    main()
