#!/usr/bin/env python3
"""The goals for what Holdfast costs, each with what was measured and a verdict: some ten minutes.

Prints a Markdown table, which goals.md in --output holds as well; goals.json has every run. All
targets of a line are measured in turns, in --rounds rounds; what is judged is the median of the
rounds, each a ratio (or a difference) of two targets in that round, with its interval by order
statistics (95 %):

  met            the whole interval is on the good side of the goal
  missed         the whole interval is on the other side
  within noise   the goal lies in the interval

Nothing else should run meanwhile.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import comparison

PARTS = ("passthrough", "instant", "one-connection", "large", "local", "units", "connections")
PARTS += ("idle", "recovery")

_made = comparison.parser("goals", __doc__, rounds=20, seconds=0.5, warmup=0.1)
_made.add_argument("--quick", action="store_true", help="a rehearsal: few and small")
OPTIONS = comparison.parse(_made, PARTS)

# Behind the options, so that --help needs nothing installed.
import large_journal  # noqa: E402
from holdfast_testing import build_bin, server_kind, server_program  # noqa: E402
from report_of_pairs import say, table  # noqa: E402
from statistics_of_pairs import median_with_interval  # noqa: E402

HAPROXY = shutil.which("haproxy") is not None
MONGOBETWEEN = shutil.which("mongobetween") is not None
PROCESS = "process=holdfastd,wal.durability=process"
DEFERRED = "deferred=holdfastd,unit.writes=deferred"
LINES, RAW = [], {}


def run(name, loads, targets, connections, *more, instant=False, rounds=None, seconds=None):
    """{(load, connections, target): {metric: [of each round]}}"""
    installed = {"haproxy": HAPROXY, "mongobetween": MONGOBETWEEN}
    targets = [target for target in targets if installed.get(target, True)]
    words = [build_bin() / "holdfast-bench", *loads, "--target", targets[0], *more]
    for target in targets[1:]:
        words += ["--vs", target]
    words += ["--connections", connections, "--threads", OPTIONS.threads]
    words += ["--rounds", rounds or OPTIONS.rounds, "--seconds", seconds or OPTIONS.seconds]
    words += ["--warmup", OPTIONS.warmup, "--json"]
    words += ["--server", server_program() + (",instant" if instant else "")]
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1) or not done.stdout:
        raise RuntimeError(f"holdfast-bench {' '.join(loads)}: exit code {done.returncode}")
    report = json.loads(done.stdout)
    found = {}
    for cell in report["cells"]:
        for target in cell["targets"]:
            if target["errors"]:
                raise RuntimeError(f"{cell['title']}, {target['name']}: {target['firstError']}")
            keys = {key for one in target["runs"] for key in one}
            found[cell["load"], cell["connections"], target["name"]] = {
                key: [one.get(key) for one in target["runs"]] for key in keys
            }
    RAW[name] = report["cells"]
    return found


# ------------------------------------------------------------------ judging


def text(figures, unit, digits):
    middle, low, high = (f"{figure:.{digits}f}" for figure in figures)
    return f"{middle}{unit} ({low} to {high})"


def judge(what, samples, *, least=None, most=None, unit="", digits=2):
    """A line of the table; without a goal it is only told."""
    figures = median_with_interval([sample for sample in samples if sample is not None])
    _, low, high = figures
    if least is not None:
        goal = f"at least {least}{unit}"
        verdict = "met" if low >= least else "missed" if high < least else "within noise"
    elif most is not None:
        goal = f"at most {most}{unit}"
        verdict = "met" if high <= most else "missed" if low > most else "within noise"
    else:
        goal = verdict = ""
    LINES.append([what, goal, text(figures, unit, digits), verdict])
    say(f"  {what}: {LINES[-1][2]} {verdict}")


def pairs(found, load, connections, measured, reference, metric, combine):
    one = found.get((load, connections, measured), {}).get(metric, [])
    other = found.get((load, connections, reference), {}).get(metric, [])
    both = [(a, b) for a, b in zip(one, other) if a and b]
    return [combine(a, b) for a, b in both]


def ratio(found, what, load, connections, measured, reference, metric, **goal):
    samples = pairs(found, load, connections, measured, reference, metric, lambda a, b: a / b)
    if samples:
        judge(what, samples, **goal)
    else:
        LINES.append([what, "", "not measured", ""])


# ------------------------------------------------------------------ parts

THROUGHPUT, CPU, P50 = "operationsPerSecond", "targetCpuMicros", "p50Micros"


def passthrough():
    targets = ["holdfastd", "relay", "haproxy", "direct", "mongobetween"]
    found = run("passthrough", ["point-read"], targets, 32)
    row = (found, "point-read", 32, "holdfastd")
    compare = [
        ("CPU an operation / HAProxy's", "haproxy", CPU, {"most": 0.9}),
        ("throughput / HAProxy's", "haproxy", THROUGHPUT, {"least": 1}),
        ("throughput / the bare relay's", "relay", THROUGHPUT, {"least": 0.97}),
        ("throughput / mongobetween's", "mongobetween", THROUGHPUT, {"least": 2}),
        ("throughput / direct", "direct", THROUGHPUT, {}),
    ]
    for what, other, metric, goal in compare:
        ratio(row[0], f"point reads, 32 connections: {what}", *row[1:], other, metric, **goal)
    what = "the limit: the bare relay's {}"
    ratio(found, what.format("CPU / HAProxy's"), *row[1:3], "relay", "haproxy", CPU)
    ratio(found, what.format("throughput / direct"), *row[1:3], "relay", "direct", THROUGHPUT)


def instant():
    loads = ["point-read", "point-write"]
    found = run("instant", loads, ["holdfastd", "relay", "haproxy"], 32, instant=True)
    for load in loads:
        for target, name in (("holdfastd", "Holdfast"), ("relay", "the bare relay"), ("haproxy", "HAProxy")):
            samples = found.get((load, 32, target), {}).get(CPU)
            if samples:
                judge(f"{load} before an instant server: CPU of {name}", samples, unit=" µs", digits=1)
        what = f"{load} before an instant server: CPU / HAProxy's"
        ratio(found, what, load, 32, "holdfastd", "haproxy", CPU, most=0.9)
        ratio(found, f"the limit: {what}, of the bare relay", load, 32, "relay", "haproxy", CPU)


def one_connection():
    found = run("one-connection", ["point-read"], ["holdfastd", "relay", "direct"], 1)
    added = pairs(found, "point-read", 1, "holdfastd", "relay", P50, lambda a, b: a - b)
    judge("point reads, one connection: p50 above the bare relay's", added, most=3, unit=" µs", digits=1)
    relay = pairs(found, "point-read", 1, "relay", "direct", P50, lambda a, b: a - b)
    judge("the limit: what the bare relay adds to p50", relay, unit=" µs", digits=1)


def large():
    for size, connections in ((1_000_000, 32), (10_000_000, 8)):
        targets = ["holdfastd", "haproxy"]
        seconds = OPTIONS.seconds * (2 if size > 1_000_000 else 1)
        more = ("--bytes", size)
        found = run(f"large-{size}", ["large-read"], targets, connections, *more, seconds=seconds)
        what = f"finds of {size // 1_000_000} MB, {connections} connections: MB/s / HAProxy's"
        ratio(found, what, "large-read", connections, "holdfastd", "haproxy", "megabytesPerSecond", least=1.05)


def local():
    targets = ["both=holdfastd,local,local-server", "near=holdfastd,local", "haproxy", "relay"]
    targets += ["hlocal=haproxy,local,local-server"] if HAPROXY else []
    found = run("local", ["point-read"], targets, 32, instant=True)
    what = "point reads by local sockets on {}, before an instant server: throughput / HAProxy's by TCP"
    for target, sides in (("both", "both sides"), ("near", "the clients' side")):
        ratio(found, what.format(sides), "point-read", 32, target, "haproxy", THROUGHPUT, least=1.3)
    ratio(found, "the same of HAProxy, by local sockets on both sides", "point-read", 32, "hlocal", "haproxy",
          THROUGHPUT)


def units():
    targets = ["holdfastd", PROCESS, DEFERRED, "native", "native,sync"]
    found = run("units", ["unit"], targets, "1,32")
    for target, words in (("holdfastd", ""), ("deferred", ", `unit.writes: deferred`")):
        for connections, goal in ((32, 1.6), (1, 0.4)):
            where = "1 connection" if connections == 1 else f"{connections} connections"
            what = f"units of three updates, {where}: throughput, `power`{words} / native, synced"
            ratio(found, what, "unit", connections, target, "native,sync", THROUGHPUT, least=goal)
    ratio(found, "units of three updates, 32 connections: throughput, `process` / native, not synced", "unit",
          32, "process", "native", THROUGHPUT, least=0.75)
    commits = found["unit", 32, "holdfastd"].get("journalCommitsPerOperation", [])
    judge("units of three updates, 32 connections: LMDB commits a unit", commits, most=0.5)


def connections():
    counts = (8, 32, 64) if OPTIONS.quick else (64, 512, 4000)
    found = run("connections", ["point-read"], ["holdfastd", "relay", "haproxy"],
                ",".join(map(str, counts)), instant=True, rounds=min(OPTIONS.rounds, 12))
    for target, name in (("holdfastd", ""), ("relay", " (the bare relay)"), ("haproxy", " (HAProxy)")):
        if ("point-read", counts[0], target) not in found:
            continue
        middle = [found["point-read", count, target][THROUGHPUT] for count in counts]
        goal = {"least": 1} if target == "holdfastd" else {}
        grown = [a / b for a, b in zip(middle[1], middle[0]) if a and b]
        judge(f"throughput with {counts[1]} / with {counts[0]} connections{name}", grown, **goal)
        kept = [a / b for a, b in zip(middle[2], middle[1]) if a and b]
        judge(f"throughput with {counts[2]} / with {counts[1]} connections{name}", kept, **goal)
    for count in counts:
        ratio(found, f"throughput with {count} connections / the bare relay's", "point-read", count,
              "holdfastd", "relay", THROUGHPUT)


def idle():
    for count in (100,) if OPTIONS.quick else (4000, 9500):
        for after, words in (("hello", ()), ("a find", ("--after-find",))):
            found = run(f"idle-{count}-{after}", ["idle"], ["holdfastd"], count, *words, instant=True,
                        rounds=1, seconds=0.2)
            samples = found["idle", count, "holdfastd"]["bytesPerConnection"]
            judge(f"{count} idle connections after {after}: resident memory of each",
                  [sample / 1024 for sample in samples], most=8, unit=" KiB", digits=1)


def recovery():
    size = (1000, 100) if OPTIONS.quick else ()
    made = [large_journal.measure(*size) for _ in range(1 if OPTIONS.quick else 3)]
    RAW["recovery"] = made
    what = f"a start with {made[0]['units']:,} units in the journal, page cache dropped"
    before = [one["acceptSeconds"] - one["undoSeconds"] for one in made]
    judge(f"{what}: until it accepts, without the undo itself", before, most=1, unit=" s")
    judge(f"{what}: the undo of {made[0]['open']:,} open ones", [one["undoSeconds"] for one in made], unit=" s")


def keep(failed, about):
    head = ["goal", "", "measured", "verdict"]
    lines = table(head, LINES)
    OPTIONS.output.mkdir(parents=True, exist_ok=True)
    markdown = "\n".join(lines) + "\n"
    (OPTIONS.output / "goals.md").write_text(markdown)
    found = {"about": about, "lines": LINES, "failed": failed, "cells": RAW}
    (OPTIONS.output / "goals.json").write_text(json.dumps(found, indent=1) + "\n")
    return markdown


def main():
    began = time.monotonic()
    about = {"server": server_kind(), "rounds": OPTIONS.rounds, "loadBefore": os.getloadavg()}
    failed = []
    markdown = ""
    for name in OPTIONS.only:
        say(f"{name}, after {time.monotonic() - began:.0f} s")
        try:
            globals()[name.replace("-", "_")]()
        except Exception as error:  # the others are made all the same
            failed.append(f"{name}: {error}")
        about["loadAfter"] = os.getloadavg()
        about["seconds"] = round(time.monotonic() - began)
        markdown = keep(failed, about)
    print(markdown, end="")
    say(f"{about['seconds']} s; {pathlib.Path(OPTIONS.output) / 'goals.md'}, goals.json")
    for line in failed:
        say(f"goals: {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
