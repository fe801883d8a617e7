"""What serializable transactions cost: the same load at both levels, through one holdfastd.

Rounds as in bench/compare. The second and third load are bench/compare_contended's: read a document,
set it to one more, increment a document of one's own, commit; what is told to try again does so. The
sums are checked after each run.
"""

import argparse
import datetime
import json
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))

LOADS = {
    "three updates by _id, nothing shared": ["unit"],
    "reads one of 1,000 documents by _id, writes it": ["contended", "--hot", "1000"],
    "reads one document that all want by _id, writes it": ["contended", "--hot", "1"],
    "reads one of 1,000 by a filter, writes it": ["contended", "--hot", "1000", "--by-filter"],
}


def options():
    parser = argparse.ArgumentParser(
        prog="bench/compare_serializable", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=6, help="pairs for each line (6)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run (1.5)")
    parser.add_argument("--warmup", type=float, default=0.3, help="before each run (0.3)")
    parser.add_argument("--connections", type=int, default=32, help="(32)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="workers of holdfastd")
    parser.add_argument("--durability", default="power", choices=["power", "process"])
    parser.add_argument("--output", default=HERE.parent / "build/bench", type=pathlib.Path)
    chosen = parser.parse_args()
    if chosen.rounds < 1 or chosen.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    return chosen


OPTIONS = options()

# Behind the options, so that --help needs nothing installed.
import interleaved  # noqa: E402
from holdfast_testing import Proxy, Server, server_kind  # noqa: E402
from statistics_of_pairs import ratio_with_interval  # noqa: E402


def compare():
    settings = {"net.threads": str(OPTIONS.threads), "wal.durability": OPTIONS.durability}
    settings["unit.lockWait"] = "60s"
    lines = []
    with Server() as server, Proxy(server, settings) as proxy:
        for load, arguments in LOADS.items():
            print(f"serializable: {load}", file=sys.stderr, flush=True)
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
    rows = [["load", "throughput", "p50", "CPU", "retries each"]]
    rows.append(["---"] * len(rows[0]))
    for entry in report["lines"]:
        ratios = [
            f"{mean:.2f} ({low:.2f} to {high:.2f})"
            for mean, low, high in (entry[name] for name in ("throughput", "p50", "cpu"))
        ]
        rows.append([entry["load"], *ratios, "{:.2f} / {:.2f}".format(*entry["retries"])])
    text = [
        f"Serializable / snapshot. Server {about['server']}, {about['cores']} cores, "
        f"{about['connections']} connections, {about['durability']}, {about['rounds']} rounds of "
        f"{about['seconds']:g} s.",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(text)


def main():
    before = os.getloadavg()
    report = {
        "about": {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "server": server_kind(),
            "cores": os.cpu_count(),
            "connections": OPTIONS.connections,
            "durability": OPTIONS.durability,
            "rounds": OPTIONS.rounds,
            "seconds": OPTIONS.seconds,
            "loadAverageBefore": before,
        },
        "lines": compare(),
    }
    report["about"]["loadAverageAfter"] = os.getloadavg()
    OPTIONS.output.mkdir(parents=True, exist_ok=True)
    text = markdown(report)
    (OPTIONS.output / "compare_serializable.json").write_text(json.dumps(report, indent=2) + "\n")
    (OPTIONS.output / "compare_serializable.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
