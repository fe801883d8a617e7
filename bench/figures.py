#!/usr/bin/env python3
"""All figures of docs/PERFORMANCE.md, in one run of 25 minutes.

Each part is a run of holdfast-bench, or a comparison beside this file. In --output there is a folder
for each, with the report of holdfast-bench as HTML, JSON and CSV, and

  figures.json   what every part has found, for a program
  figures.md     the ratios of every part as tables, for people

A part that fails is told at the end, and the others are made all the same. Ends with 1 then.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import comparison  # noqa: F401 (for where the support package is)

HERE = pathlib.Path(__file__).resolve().parent
PROCESS = "process=holdfastd,wal.durability=process"

# Options of holdfast-bench, and how long it takes, in seconds, as they are.
RUNS = {
    "passthrough": (
        ["point-read", "--connections", "1,32", "--peers", "--target", "holdfastd"],
        [],
        {"rounds": 20, "seconds": 0.4, "warmup": 0.1},
    ),
    "more": (
        ["point-write", "large-read", "--connections", "32", "--peers", "--target", "holdfastd"],
        [],
        {"rounds": 20, "seconds": 0.4, "warmup": 0.1},
    ),
    "instant": (
        ["point-read", "point-write", "--connections", "1,32", "--target", "holdfastd"],
        ["--vs", "relay", "--vs", "haproxy", "--vs", "direct"],
        {"rounds": 20, "seconds": 0.4, "warmup": 0.1},
    ),
    "local-socket": (
        ["point-read", "--connections", "32", "--target", "both=holdfastd,local,local-server"],
        ["--vs", "near=holdfastd,local", "--vs", "haproxy", "--vs", "relay"],
        {"rounds": 20, "seconds": 0.4, "warmup": 0.1},
    ),
    "large-replies": (
        ["large-read", "--bytes", "10000000", "--connections", "8", "--peers"],
        ["--target", "holdfastd"],
        {"rounds": 8, "seconds": 1, "warmup": 0.2},
    ),
    "units": (
        ["unit", "--connections", "1,32", "--target", "holdfastd", "--vs", PROCESS],
        ["--vs", "native", "--vs", "native,sync"],
        {"rounds": 20, "seconds": 0.5, "warmup": 0.1},
    ),
    "boundaries": (
        ["unit", "--boundary", "plain,driver,comment,single,http", "--writes", "2,3,5,10"],
        ["--connections", "32", "--target", "holdfastd", "--vs", PROCESS],
        {"rounds": 6, "seconds": 0.3, "warmup": 0.1},
    ),
    "mixes": (
        ["insert", "ycsb-a", "ycsb-b", "ycsb-c", "ycsb-d", "ycsb-f", "accounts"],
        ["--connections", "32", "--target", "holdfastd", "--vs", "relay", "--vs", "direct"],
        {"rounds": 6, "seconds": 0.3, "warmup": 0.1},
    ),
    "change-stream": (
        ["change-stream", "--connections", "8", "--target", "relay", "--vs", "direct"],
        [],
        {"rounds": 6, "seconds": 0.5, "warmup": 0.1},
    ),
    "connections": (
        ["point-read", "--connections", "64,512,4000", "--target", "holdfastd", "--vs", "relay"],
        ["--vs", "haproxy"],
        {"rounds": 6, "seconds": 1, "warmup": 0.3},
    ),
    "open-loop": (
        ["point-read", "--rate", "1000,2000,4000,8000", "--connections", "64"],
        ["--target", "holdfastd", "--vs", "relay", "--vs", "direct"],
        {"rounds": 6, "seconds": 0.5, "warmup": 0.1},
    ),
    "idle": (
        ["idle", "--connections", "1000,4000,9500", "--target", "holdfastd", "--vs", "relay"],
        ["--vs", "haproxy", "--after-find"],
        {"rounds": 1, "seconds": 1, "warmup": 0},
    ),
    "floor": (
        ["floor", "--connections", "1,32", "--bytes", "3000"],
        [],
        {"rounds": 6, "seconds": 0.5, "warmup": 0.1},
    ),
    "recovery": (
        ["recovery", "--units", "1000,20000", "--connections", "32", "--target", "holdfastd"],
        [],
        {"rounds": 3, "seconds": 1, "warmup": 0},
    ),
    "crash-loss": (
        ["crash-loss", "--kills", "3", "--connections", "32", "--documents", "960"],
        ["--target", "holdfastd", "--vs", "native", "--vs", "native,sync"],
        {"rounds": 1, "seconds": 1, "warmup": 0},
    ),
}
# A real server has a thread for each connection, and costs more than any proxy.
INSTANT = {"instant", "local-socket", "connections", "idle"}
# Beside this file, with fewer rounds than they have by themselves.
COMPARISONS = {
    "contended": ["compare_contended", "--rounds", 4, "--seconds", 1, "--warmup", 0.3],
    "serializable": ["compare_serializable", "--rounds", 6, "--seconds", 1, "--warmup", 0.2],
    "reads": ["compare_reads", "--rounds", 6, "--seconds", 0.5, "--warmup", 0.1],
    "calls": ["compare_calls", "--rounds", 10, "--seconds", 0.4, "--warmup", 0.1],
    "replay": ["compare_replay", "--rounds", 1, "--units", 100000],
}
PARTS = [*RUNS, *COMPARISONS, "large-journal"]
LIMIT_SECONDS = 1500


def options():
    parser = argparse.ArgumentParser(
        prog="bench/figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; repeatable")
    parser.add_argument(
        "--quick", action="store_true", help="as little of everything as runs: a rehearsal"
    )
    parser.add_argument("--output", default=HERE.parent / "build/bench/figures", type=pathlib.Path)
    chosen = parser.parse_args()
    chosen.only = chosen.only or PARTS
    return chosen


OPTIONS = options()

# Behind the options, so that --help needs nothing installed.
import large_journal  # noqa: E402
from holdfast_testing import build_bin, server_kind, server_program  # noqa: E402
from report_of_pairs import say, table, with_interval  # noqa: E402

SHOWN = {
    "operationsPerSecond": "throughput",
    "p50Micros": "p50",
    "p99Micros": "p99",
    "targetCpuMicros": "CPU",
}


def command(words):
    """Runs it: what it printed. Its progress goes to this terminal."""
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{pathlib.Path(words[0]).name}: exit code {done.returncode}")
    return done.stdout


def without_haproxy(words):
    if "haproxy" in words:
        place = words.index("haproxy")
        return words[: place - 1] + words[place + 1 :]
    return words


def run_bench(name):
    first, more, times = RUNS[name]
    if OPTIONS.quick:
        times = {"rounds": 1, "seconds": 0.1, "warmup": 0}
        first = ["100" if word in ("64,512,4000", "1000,4000,9500") else word for word in first]
        first = ["50" if word == "1000,20000" else word for word in first]
    words = [build_bin() / "holdfast-bench", *first, *more, "--output", OPTIONS.output / name]
    for option, value in times.items():
        words += [f"--{option}", value]
    if name != "floor":
        server = server_program()
        if shutil.which("haproxy") is None:
            words = without_haproxy(words)
        server += ",replicaset" if name == "change-stream" else ""
        words += ["--server", server + (",instant" if name in INSTANT else "")]
    command(words)
    return json.loads((OPTIONS.output / name / "report.json").read_text())


def run_comparison(name):
    program, *words = COMPARISONS[name]
    if OPTIONS.quick:
        words = ["--rounds", 1]
        # A read by a filter among units takes its time.
        seconds = 1.5 if name == "serializable" else 0.2
        words += ["--units", 2000] if name == "replay" else ["--seconds", seconds]
        words += [] if name == "replay" else ["--warmup", 0.1]
        words += ["--documents", 60, "--written", "1,20"] if name == "reads" else []
    if name == "replay":
        return {"markdown": command([sys.executable, HERE / f"{program}.py", *words])}
    words += ["--output", OPTIONS.output / name]
    text = command([sys.executable, HERE / f"{program}.py", *words])
    found = json.loads((OPTIONS.output / name / f"{program}.json").read_text())
    return {"markdown": text, "found": found}


def run_large_journal(_):
    return large_journal.measure(*((1000, 100) if OPTIONS.quick else ()))


def ratio_text(figures, key):
    found = figures.get(key)
    return with_interval([found["middle"], found["low"], found["high"]]) if found else ""


def ratios(report):
    """Markdown of a report of holdfast-bench: its ratios, and what is no ratio."""
    rows, others = [], []
    for cell in report["cells"]:
        for ratio in cell["ratios"]:
            row = [cell["title"], f"{ratio['measured']} / {ratio['reference']}"]
            row += [ratio_text(ratio["figures"], key) for key in SHOWN]
            rows += [row] if any(row[2:]) else []
        for target in cell["targets"]:
            for key, figure in target["figures"].items():
                if not key.endswith("Micros") and key != "operationsPerSecond":
                    value = f"{figure['middle']:.4g}"
                    others.append([cell["title"], target["name"], key, value])
    text = table(["load", "measured / reference", *SHOWN.values()], rows) if rows else []
    return [*text, "", *table(["load", "target", "figure", "median"], others)]


def keep(found):
    (OPTIONS.output / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = []
    for name, part in found["parts"].items():
        lines += [f"## {name}", ""]
        lines += ratios(part) if "cells" in part else [part["markdown"].rstrip()]
        lines += [""]
    (OPTIONS.output / "figures.md").write_text("\n".join(lines))


def main():
    OPTIONS.output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    found = {"server": server_kind(), "loadBefore": os.getloadavg(), "parts": {}, "seconds": {}}
    failed = []
    for name in OPTIONS.only:
        if time.monotonic() - began > LIMIT_SECONDS:
            failed.append(f"{name}: no time was left for it")
            continue
        say(f"{name}, after {time.monotonic() - began:.0f} s")
        start = time.monotonic()
        try:
            if name in RUNS:
                found["parts"][name] = run_bench(name)
            elif name in COMPARISONS:
                found["parts"][name] = run_comparison(name)
            else:
                found["parts"][name] = run_large_journal(name)
        except Exception as error:  # the others are made all the same
            failed.append(f"{name}: {error}")
        found["seconds"][name] = round(time.monotonic() - start, 1)
        found["loadAfter"] = os.getloadavg()
        found["failed"] = failed
        keep(found)
    say(f"{time.monotonic() - began:.0f} s; figures.json and figures.md are in {OPTIONS.output}")
    for line in failed:
        say(f"figures: {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
