"""Transactions that all increment one hot document: Holdfast beside the server's own transactions.

Rounds as in bench/compare. Each transaction reads the hot document, sets it to one more, increments
a document of its own and commits; what is told to try again does, as drivers do it. The sums are
checked after each run: a lost or doubled increment ends the comparison.
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
    "read first": [],
    "blind": ["--blind"],
    "read first, beside plain updates": ["--plain"],
}


def options():
    parser = argparse.ArgumentParser(
        prog="bench/compare_contended", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=6, help="pairs for each line (6)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run (1.5)")
    parser.add_argument("--warmup", type=float, default=0.4, help="before each run (0.4)")
    parser.add_argument("--connections", type=int, default=64, help="writers (64)")
    parser.add_argument("--hot", type=int, default=1, help="hot documents (1)")
    parser.add_argument("--plain", type=int, default=16, help="writers without transactions (16)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="workers of holdfastd")
    parser.add_argument("--only", action="append", choices=list(LOADS), help="repeatable")
    parser.add_argument("--output", default=HERE.parent / "build/bench", type=pathlib.Path)
    chosen = parser.parse_args()
    if chosen.rounds < 1 or chosen.threads < 1 or not 1 <= chosen.plain < chosen.connections:
        parser.error("--rounds and --threads are at least 1, --plain is below --connections")
    chosen.only = chosen.only or list(LOADS)
    return chosen


OPTIONS = options()

# Behind the options, so that --help needs nothing installed.
import interleaved  # noqa: E402
from holdfast_testing import Proxy, Server, server_kind  # noqa: E402
from statistics_of_pairs import ratio_with_interval  # noqa: E402


def run(target, load, processes=()):
    options = LOADS[load] + ([OPTIONS.plain] if "--plain" in LOADS[load] else [])
    return interleaved.bench(
        ["contended", "--hot", OPTIONS.hot, *options],
        target,
        seconds=OPTIONS.seconds,
        warmup=OPTIONS.warmup,
        connections=OPTIONS.connections,
        processes=processes,
    )


def each(results, *path):
    found = results
    for name in path:
        found = [result[name] for result in found]
    return found


def mean(values):
    return sum(values) / len(values)


def ratio(results, measured, reference, kind):
    """[ratio, low, high] of operations a second; None where a round of either had none."""
    rates = [each(results[name], kind, "perSecond") for name in (measured, reference)]
    return list(ratio_with_interval(*rates)) if all(rates[0]) and all(rates[1]) else None


def figures(results):
    """Of one side: what a user sees of the crowd."""
    return {
        "perSecond": mean(each(results, "transactions", "perSecond")),
        "plainPerSecond": mean(each(results, "plain", "perSecond")),
        "retries": mean(each(results, "retriesPerTransaction")),
        "maxByMedianWorst": max(each(results, "transactions", "maxByMedian")),
        "maxByMedian": mean(each(results, "transactions", "maxByMedian")),
        "plainMaxByMedianWorst": max(each(results, "plain", "maxByMedian")),
        "fewestWorst": min(each(results, "transactions", "fewest")),
        "median": mean(each(results, "transactions", "median")),
    }


def compare(durability, sync):
    lines = []
    with (
        Server() as standalone,
        Server(mode="replicaset", sync=sync) as native,
        Proxy(
            standalone, {"net.threads": str(OPTIONS.threads), "wal.durability": durability}
        ) as through,
    ):
        measured, reference = (
            f"holdfastd, {durability}",
            f"native, {'synced' if sync else 'not synced'}",
        )
        variants = {measured: (through.address, [through.process]), reference: (native.address, [])}
        for load in OPTIONS.only:
            print(f"contended: {durability}, {load}", file=sys.stderr, flush=True)
            results = interleaved.rounds(
                OPTIONS.rounds,
                variants,
                lambda variant, load=load: run(variant[0], load, variant[1]),
            )
            lines.append(
                {
                    "load": load,
                    "measured": measured,
                    "reference": reference,
                    "rounds": OPTIONS.rounds,
                    "transactionsRatio": ratio(results, measured, reference, "transactions"),
                    "plainRatio": ratio(results, measured, reference, "plain"),
                    "holdfastd": figures(results[measured]),
                    "native": figures(results[reference]),
                    "cpuMicros": mean(list(map(interleaved.cpu_micros, results[measured]))),
                }
            )
    return lines


def rate(line, name, absolute):
    """The ratio, or what it would be of where a round had none."""
    if line[name] is None:
        return f"{line['holdfastd'][absolute]:.1f} to {line['native'][absolute]:.1f} a second"
    return "{:.2f} ({:.2f} to {:.2f})".format(*line[name])


def markdown(report):
    about = report["about"]
    rows = [
        ["load", "measured / reference", "transactions", "plain updates", "retries each"]
        + ["longest / median wait", "worst round"]
    ]
    rows.append(["---"] * len(rows[0]))
    for line in report["contended"]:
        ours, native = line["holdfastd"], line["native"]
        rows.append(
            [
                line["load"],
                f"{line['measured']} / {line['reference']}",
                rate(line, "transactionsRatio", "perSecond"),
                rate(line, "plainRatio", "plainPerSecond") if ours["plainPerSecond"] else "",
                f"{ours['retries']:.2f} / {native['retries']:.2f}",
                f"{ours['maxByMedian']:.1f} / {native['maxByMedian']:.1f}",
                f"{ours['maxByMedianWorst']:.1f} / {native['maxByMedianWorst']:.1f}",
            ]
        )
    text = [
        f"Server {about['server']}, {about['cores']} cores, {about['connections']} writers, of "
        f"which in the last load {about['plain']} are plain, {about['hot']} hot documents, "
        f"{about['rounds']} rounds of {about['seconds']:g} s.",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(text)


def write(report):
    text = markdown(report)
    OPTIONS.output.mkdir(parents=True, exist_ok=True)
    (OPTIONS.output / "compare_contended.json").write_text(json.dumps(report, indent=2) + "\n")
    (OPTIONS.output / "compare_contended.md").write_text(text + "\n")
    return text


def main():
    report = {
        "about": {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "server": server_kind(),
            "cores": os.cpu_count(),
            "threads": OPTIONS.threads,
            "connections": OPTIONS.connections,
            "plain": OPTIONS.plain,
            "hot": OPTIONS.hot,
            "rounds": OPTIONS.rounds,
            "seconds": OPTIONS.seconds,
            "loadAverageBefore": os.getloadavg(),
        },
        "contended": [],
    }
    for durability, sync in (("power", True), ("process", False)):
        report["contended"] += compare(durability, sync)
        report["about"]["loadAverageAfter"] = os.getloadavg()
        write(report)  # what stands is kept if a later part fails
    print(write(report))


if __name__ == "__main__":
    main()
