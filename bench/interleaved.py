"""Runs of holdfast-bench, of all variants shortly after one another."""

import json
import subprocess

from holdfast_testing import build_bin


def bench(load, target, *, seconds, warmup, connections, processes=()):
    """One run of holdfast-bench: its JSON. Errors end the comparison: it would compare nothing."""
    arguments = [build_bin() / "holdfast-bench", *load, "--target", target]
    arguments += ["--connections", connections, "--seconds", seconds, "--warmup", warmup, "--json"]
    for process in processes:
        arguments += ["--pid", process.pid]
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise SystemExit(f"compare: {' '.join(load[:1])} at {target}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def rounds(count, variants, measure):
    """{variant: [one result per round]}; each round starts with another variant."""
    results = {name: [] for name in variants}
    names = list(variants)
    for name in names:
        measure(variants[name])  # makes the documents, fills caches; not counted
    for number in range(count):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            results[name].append(measure(variants[name]))
    return results


def cpu_micros(result, place=0):
    """Microseconds of CPU per operation of the process that was given as number `place`."""
    return result["processes"][place]["cpuSeconds"] * 1e6 / result["operations"]
