"""What serializable transactions cost: the same load at both levels, through one holdfastd.

Rounds as in bench/compare. The second and third load are bench/compare_contended's: read a document,
set it to one more, increment a document of one's own, commit; what is told to try again does so. The
sums are checked after each run.
"""

import comparison

LOADS = {
    "three updates by _id, nothing shared": ["unit"],
    "reads one of 1,000 documents by _id, writes it": ["contended", "--hot", "1000"],
    "reads one document that all want by _id, writes it": ["contended", "--hot", "1"],
    "reads one of 1,000 by a filter, writes it": ["contended", "--hot", "1000", "--by-filter"],
}


def options():
    parser = comparison.parser(
        "compare_serializable", __doc__.splitlines()[0], rounds=6, seconds=1.5, warmup=0.3
    )
    parser.add_argument("--connections", type=int, default=32, help="(32)")
    parser.add_argument("--durability", default="power", choices=["power", "process"])
    return comparison.parse(parser)


OPTIONS = options()

# Behind the options, so that --help needs nothing installed.
import interleaved  # noqa: E402
from holdfast_testing import Proxy, Server  # noqa: E402
from report_of_pairs import Report, say, table, with_interval  # noqa: E402
from statistics_of_pairs import ratio_with_interval  # noqa: E402


def compare():
    settings = {"net.threads": str(OPTIONS.threads), "wal.durability": OPTIONS.durability}
    settings["unit.lockWait"] = "60s"
    lines = []
    with Server() as server, Proxy(server, settings) as proxy:
        for load, arguments in LOADS.items():
            say(f"serializable: {load}")
            results = interleaved.rounds(
                OPTIONS.rounds,
                {"snapshot": [], "serializable": ["--serializable"]},
                lambda more, arguments=arguments: interleaved.bench(
                    [*arguments, *more],
                    proxy.address,
                    seconds=OPTIONS.seconds,
                    warmup=OPTIONS.warmup,
                    connections=OPTIONS.connections,
                    processes=[proxy.process],
                ),
            )
            lines.append(line(load, results["serializable"], results["snapshot"]))
    return lines


def line(load, measured, reference):
    def ratio(read):
        return ratio_with_interval([read(r) for r in measured], [read(r) for r in reference])

    def retries(results):
        return sum(r["retries"] for r in results) / sum(r["operationsTotal"] for r in results)

    return {
        "load": load,
        "throughput": ratio(lambda r: r["operationsPerSecond"]),
        "p50": ratio(lambda r: r["latencyMicros"]["p50"]),
        "cpu": ratio(interleaved.cpu_micros),
        "retries": [retries(measured), retries(reference)],
    }


def markdown(report):
    about = report["about"]
    rows = []
    for entry in report["lines"]:
        ratios = [with_interval(entry[name]) for name in ("throughput", "p50", "cpu")]
        rows.append([entry["load"], *ratios, "{:.2f} / {:.2f}".format(*entry["retries"])])
    return [
        f"Serializable / snapshot. Server {about['server']}, {about['cores']} cores, "
        f"{about['connections']} connections, {about['durability']}, {about['rounds']} rounds of "
        f"{about['seconds']:g} s.",
        "",
        *table(["load", "throughput", "p50", "CPU", "retries each"], rows),
    ]


def main():
    report = Report(
        "compare_serializable",
        OPTIONS,
        markdown,
        connections=OPTIONS.connections,
        durability=OPTIONS.durability,
    )
    report.keep("lines", compare())
    report.print()


if __name__ == "__main__":
    main()
