#!/usr/bin/env python3
"""What the HTTP boundary costs: interleaved runs of holdfast-bench calls, compared pair by pair.

boundary     what holdfastd adds to a call of a service that does nothing, at one connection: to a
             GET, which is no unit, and to a POST, which is one without a write and so needs no
             journal; and to a POST with two writes, beside the same call with plain writes
observe      what the report costs: CPU of holdfastd per operation with unit.boundary=observe; with
             --without-report PATH beside a holdfastd that keeps none, without it beside what
             test_observe_report --measure says of one write
correlation  32 callers of a service that takes 5 ms and writes two documents of its own in each
             call: trace beside exclusive
instances    the same, with 1, 2, 4 and 8 instances of the service beside exclusive

Prints tables and writes compare_calls.json and compare_calls.md to --output. Everything it starts
is its own and ends with it.
"""

import contextlib
import pathlib
import re
import statistics
import subprocess
import tempfile

import comparison

PARTS = ("boundary", "observe", "correlation", "instances")
INSTANCES = (1, 2, 4, 8)
CALLERS = 32
WORK = "5ms"
WRITES = 2
# A document is written again when its last call is long over; few, because the server that the
# tests install finds a document of a guarded write by a scan.
DOCUMENTS = 512
GOALS = {
    "boundary": "below 150 us added to p50, without a write",
    "observe": "below 3 % CPU per operation",
    "correlation": "at least 8 times",
    "instances": "as many times as there are, up to what the machine has",
}


def options():
    parser = comparison.parser("compare_calls", __doc__, rounds=20, seconds=1.0, warmup=0.2)
    parser.add_argument(
        "--without-report", type=pathlib.Path, help="a holdfastd that observes nothing"
    )
    return comparison.parse(parser, PARTS)


OPTIONS = options()

# Behind the options, so that --help needs nothing installed.
import interleaved  # noqa: E402
from holdfast_testing import Process, Proxy, Server, build_bin, free_port  # noqa: E402
from report_of_pairs import Report, say, table, with_interval  # noqa: E402
from statistics_of_pairs import difference_with_interval, ratio_with_interval  # noqa: E402


def bench(load, target, connections, processes=()):
    return interleaved.bench(
        load,
        target,
        seconds=OPTIONS.seconds,
        warmup=OPTIONS.warmup,
        connections=connections,
        processes=processes,
    )


class Stub:
    """holdfast-bench service."""

    def __init__(self, port, mongo=None, *arguments):
        command = [build_bin() / "holdfast-bench", "service", "--listen", f"127.0.0.1:{port}"]
        command += ["--mongo", mongo, "--documents", DOCUMENTS] if mongo else []
        self.process = Process([*command, *arguments], name="service")
        self.address = self.process.wait_for_line(
            lambda line: line.split()[-1] if line.startswith("listening on") else None,
            10,
            "the port of the service",
        )


class Daemon(Proxy):
    """holdfastd, perhaps another build of it."""

    program = None

    def arguments(self):
        arguments = super().arguments()
        return [self.program or arguments[0], *arguments[1:]]


class Without(Daemon):
    program = str(OPTIONS.without_report)


class Fronted:
    """A server, holdfastd with its HTTP boundary, and a stub service behind it."""

    def __init__(self, started, settings=None, stub=(), writes=True, daemon=Daemon):
        port, http = free_port(), free_port()
        self.server = started.enter_context(Server())
        self.proxy = started.enter_context(
            daemon(
                self.server,
                {
                    "net.threads": str(OPTIONS.threads),
                    "http.quietPeriod": "200ms",
                    **(settings or {}),
                },
                options=[
                    *("--http-listen", f"127.0.0.1:{http}"),
                    *("--http-service", f"127.0.0.1:{port}"),
                ],
            )
        )
        self.address = f"127.0.0.1:{http}"
        self.stub = Stub(port, self.proxy.address if writes else None, *stub)
        started.callback(self.stub.process.kill)


class FrontedInstances(Fronted):
    """The same, with so many instances of the service."""

    def __init__(self, started, count, stub=()):
        directory = pathlib.Path(started.enter_context(tempfile.TemporaryDirectory()))
        http, *ports = (free_port() for _ in range(1 + 2 * count))
        mongo, service = ports[:count], ports[count:]
        lines = ["services:", "  - name: service", f"    listen: 127.0.0.1:{http}", "    instances:"]
        for one, other in zip(service, mongo):
            lines.append(f"      - {{service: '127.0.0.1:{one}', mongo: '127.0.0.1:{other}'}}")
        (directory / "holdfast.yaml").write_text("\n".join(lines) + "\n")
        self.server = started.enter_context(Server())
        self.proxy = started.enter_context(
            Daemon(
                self.server,
                {"net.threads": str(OPTIONS.threads), "http.quietPeriod": "200ms"},
                options=["--config", str(directory / "holdfast.yaml")],
            )
        )
        self.address = f"127.0.0.1:{http}"
        for number in range(count):
            own = ["--first-document", number * DOCUMENTS, *stub]
            started.callback(Stub(service[number], f"127.0.0.1:{mongo[number]}", *own).process.kill)


def line(name, results, measured, reference, place):
    """`place` says where in a result the compared number is found."""
    measured_at = [place(result) for result in results[measured]]
    reference_at = [place(result) for result in results[reference]]
    added, added_low, added_high = difference_with_interval(measured_at, reference_at)
    ratio, ratio_low, ratio_high = ratio_with_interval(measured_at, reference_at)
    return {
        "load": name,
        "measured": measured,
        "reference": reference,
        "rounds": len(measured_at),
        "measuredMedian": statistics.median(measured_at),
        "referenceMedian": statistics.median(reference_at),
        "added": added,
        "addedInterval": [added_low, added_high],
        "ratio": ratio,
        "ratioInterval": [ratio_low, ratio_high],
    }


def p50(result):
    return result["latencyMicros"]["p50"]


# ------------------------------------------------------------------ the three parts


def compare_boundary():
    with contextlib.ExitStack() as started:
        idle = Fronted(started, writes=False)
        writing = Fronted(started)
        plain = Stub(0, writing.server.address)
        started.callback(plain.process.kill)
        variants = {}
        for method in ("GET", "POST"):
            variants[f"{method}, direct"] = (method, idle.stub.address)
            variants[f"{method}, holdfastd"] = (method, idle.address)
        variants["2 writes, direct and plain"] = ("POST", plain.address)
        variants["2 writes, holdfastd"] = ("POST", writing.address)
        say("boundary")
        results = interleaved.rounds(
            OPTIONS.rounds,
            variants,
            lambda variant: bench(["calls", "--method", variant[0]], variant[1], 1),
        )
    return [
        line("GET", results, "GET, holdfastd", "GET, direct", p50),
        line("POST without writes", results, "POST, holdfastd", "POST, direct", p50),
        line("POST, 2 writes", results, "2 writes, holdfastd", "2 writes, direct and plain", p50),
    ]


def report_ns():
    """CPU of one write that is observed, by the unit test's own measurement; None without it."""
    program = build_bin() / "test_observe_report"
    if not program.exists():
        return None
    text = subprocess.run([program, "--measure"], capture_output=True, text=True).stdout
    return float(re.search(r"write outside\s+(\d+) ns", text).group(1))


def compare_observe():
    """Plain writes through holdfastd, and calls of two writes through both of its sides."""
    settings = {"unit.boundary": "observe"}
    with contextlib.ExitStack() as started:
        variants = {"report": Fronted(started, settings)}
        if OPTIONS.without_report:
            variants["no report"] = Fronted(started, settings, daemon=Without)
        lines = []
        for name, connections in (("point-write", CALLERS), ("calls", CALLERS)):
            say(f"observe: {name}")

            def run(variant, name=name, connections=connections):
                proxy = variant.proxy
                target = proxy.address if name == "point-write" else variant.address
                result = bench([name], target, connections, [proxy.process])
                result["reportNs"] = None if OPTIONS.without_report else report_ns()
                return result

            results = interleaved.rounds(OPTIONS.rounds, variants, run)
            if OPTIONS.without_report:
                lines.append(
                    line(name, results, "report", "no report", interleaved.cpu_micros)
                )
            elif name == "point-write" and results["report"][0]["reportNs"] is not None:
                results["no report"] = [
                    {"cpu": interleaved.cpu_micros(each) - each["reportNs"] / 1000}
                    for each in results["report"]
                ]
                lines.append(
                    line(
                        name,
                        results,
                        "report",
                        "no report",
                        lambda each: each.get("cpu") or interleaved.cpu_micros(each),
                    )
                )
    return lines


def compare_correlation():
    with contextlib.ExitStack() as started:
        stub = ["--work", WORK, "--writes", str(WRITES)]
        variants = {
            name: Fronted(started, {"http.correlation": name}, stub)
            for name in ("exclusive", "trace")
        }
        say("correlation")
        results = interleaved.rounds(
            OPTIONS.rounds,
            variants,
            lambda variant: bench(["calls"], variant.address, CALLERS, [variant.proxy.process]),
        )
    return [
        line(
            f"{WRITES} writes, {WORK}, {CALLERS} callers",
            results,
            "trace",
            "exclusive",
            lambda result: result["operationsPerSecond"],
        )
    ]


def compare_instances():
    with contextlib.ExitStack() as started:
        stub = ["--work", WORK, "--writes", str(WRITES)]
        variants = {"exclusive": Fronted(started, {}, stub)}
        for count in INSTANCES:
            variants[f"instances: {count}"] = FrontedInstances(started, count, stub)
        say("instances")
        results = interleaved.rounds(
            OPTIONS.rounds,
            variants,
            lambda variant: bench(["calls"], variant.address, CALLERS, [variant.proxy.process]),
        )
    return [
        line(
            f"{WRITES} writes, {WORK}, {CALLERS} callers",
            results,
            f"instances: {count}",
            "exclusive",
            lambda result: result["operationsPerSecond"],
        )
        for count in INSTANCES
    ]


# ------------------------------------------------------------------ what is said of it

COLUMNS = {
    "boundary": "p50, us",
    "observe": "CPU of holdfastd per operation, us",
    "correlation": "calls/s",
    "instances": "calls/s",
}


def interval(found, name, digits):
    return with_interval([found[name], *found[f"{name}Interval"]], digits)


def table_of(name, lines):
    titles = ["load", "measured / reference", COLUMNS[name], "of the reference", "added", "ratio"]
    rows = []
    digits = 2 if name == "observe" else 0
    for found in lines:
        row = [found["load"], f"{found['measured']} / {found['reference']}"]
        row += [f"{found[f'{which}Median']:.{digits}f}" for which in ("measured", "reference")]
        row += [interval(found, "added", digits)]
        row += [interval(found, "ratio", 3 if name == "observe" else 2)]
        rows.append(row)
    return table(titles, rows)


def markdown(report):
    about = report["about"]
    text = [
        f"Server {about['server']}, {about['cores']} cores, {about['threads']} worker threads, "
        f"{about['rounds']} rounds of {about['seconds']:g} s.",
        "",
    ]
    for name in PARTS:
        if name in report:
            text += [f"**{name}** (the goal: {GOALS[name]})", "", *table_of(name, report[name]), ""]
    return text


def main():
    report = Report("compare_calls", OPTIONS, markdown)
    parts = {
        "boundary": compare_boundary,
        "observe": compare_observe,
        "correlation": compare_correlation,
        "instances": compare_instances,
    }
    for name in OPTIONS.only:
        report.keep(name, parts[name]())
    report.print()


if __name__ == "__main__":
    main()
