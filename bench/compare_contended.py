"""Transactions that all increment one hot document: Holdfast beside the server's own transactions.

Rounds as in bench/compare. Each transaction reads the hot document, sets it to one more, increments
a document of its own and commits; what is told to try again does, as drivers do it. The sums are
checked after each run: a lost or doubled increment ends the comparison.
"""

import comparison

LOADS = {
    "read first": [],
    "blind": ["--blind"],
    "read first, beside plain updates": ["--plain"],
}


def options():
    parser = comparison.parser(
        "compare_contended", __doc__.splitlines()[0], rounds=6, seconds=1.5, warmup=0.4
    )
    parser.add_argument("--connections", type=int, default=64, help="writers (64)")
    parser.add_argument("--hot", type=int, default=1, help="hot documents (1)")
    parser.add_argument("--plain", type=int, default=16, help="writers without transactions (16)")
    chosen = comparison.parse(parser, LOADS)
    if not 1 <= chosen.plain < chosen.connections:
        parser.error("--plain is at least 1 and below --connections")
    return chosen


OPTIONS = options()

# Behind the options, so that --help needs nothing installed.
import interleaved  # noqa: E402
from holdfast_testing import Proxy, Server  # noqa: E402
from report_of_pairs import Report, say, table, with_interval  # noqa: E402
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
            say(f"contended: {durability}, {load}")
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
    return with_interval(line[name])


def markdown(report):
    about = report["about"]
    titles = ["load", "measured / reference", "transactions", "plain updates", "retries each"]
    titles += ["longest / median wait", "worst round"]
    rows = []
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
    return [
        f"Server {about['server']}, {about['cores']} cores, {about['connections']} writers, of "
        f"which in the last load {about['plain']} are plain, {about['hot']} hot documents, "
        f"{about['rounds']} rounds of {about['seconds']:g} s.",
        "",
        *table(titles, rows),
    ]


def main():
    report = Report(
        "compare_contended",
        OPTIONS,
        markdown,
        connections=OPTIONS.connections,
        plain=OPTIONS.plain,
        hot=OPTIONS.hot,
    )
    lines = []
    for durability, sync in (("power", True), ("process", False)):
        lines += compare(durability, sync)
        report.keep("contended", lines)
    report.print()


if __name__ == "__main__":
    main()
