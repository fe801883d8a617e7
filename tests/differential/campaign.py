"""Differential testing: random programs on native transactions and on Holdfast, side by side.

    tests/differential/run [--count N | --hours H] [--seed S] [--one SEED] [--keep-going]

The seed is printed; --seed (or HOLDFAST_TEST_SEED) gives it back, --one runs a single program of
it. A program whose answers or documents differ is made small and printed as a script.
"""

import argparse
import os
import sys
import time

import compare
import program as programs
import shrink
from sides import Pair


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=3000, help="programs (default: 3000)")
    parser.add_argument("--hours", type=float, help="as many programs as fit instead")
    parser.add_argument("--seed", type=int, default=os.environ.get("HOLDFAST_TEST_SEED"))
    parser.add_argument(
        "--default-seed", type=int, help="where no seed is given; else a random one"
    )
    parser.add_argument("--one", type=int, help="this program only, and what was answered")
    parser.add_argument(
        "--keep-going", type=int, default=1, metavar="N", help="end after N findings"
    )
    parser.add_argument("--scripts", help="directory in which scripts are written")
    return parser.parse_args()


def report(pair, program, outcome, directory):
    small = shrink.shrink(pair, program, outcome.finding)
    finding = compare.check(pair, small).finding or outcome.finding
    where = "the documents differ" if finding.place is None else f"step {finding.place} differs"
    text = shrink.script(small, where)
    print(f"\n==== seed {program['seed']} ({program['kind']}): {where}")
    if finding.place is not None and finding.place < len(small["steps"]):
        print("step:    ", small["steps"][finding.place])
    print("native:  ", _plain(finding.native))
    print("holdfast:", _plain(finding.holdfast))
    if directory:
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, f"{program['seed']}.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        print("script:  ", path)
    else:
        print(text)


def _plain(reply):
    if isinstance(reply, dict):
        return {k: v for k, v in reply.items() if k not in ("$clusterTime", "operationTime")}
    return reply


def show(program, outcome):
    print(shrink.script(program, "one program"))
    for step, answers in zip(program["steps"], outcome.answers):
        print(step)
        for answer in answers:
            print("   ", _plain(answer))
    print("named:", outcome.named)
    if outcome.finding is not None:
        print("DIFFERS at", outcome.finding.place)


def main():
    options = arguments()
    seed = options.seed or options.default_seed or int.from_bytes(os.urandom(4), "big")
    seed = int(seed)
    print(f"HOLDFAST_TEST_SEED={seed}", flush=True)
    started = time.monotonic()
    deadline = started + options.hours * 3600 if options.hours else None
    named, done, compared, findings = {}, 0, 0, 0
    with Pair() as pair:
        if options.one is not None:
            program = programs.generate(options.one)
            outcome = compare.check(pair, program)
            show(program, outcome)
            return 1 if outcome.finding else 0
        while done < options.count or (deadline and time.monotonic() < deadline):
            if deadline and time.monotonic() >= deadline:
                break
            program = programs.generate(seed * 1000003 + done)
            outcome = compare.check(pair, program)
            done += 1
            compared += outcome.compared
            for name, count in outcome.named.items():
                named[name] = named.get(name, 0) + count
            if outcome.finding is not None:
                findings += 1
                report(pair, program, outcome, options.scripts)
                if findings >= options.keep_going:
                    break
        pair.proxy.verify()
    took = time.monotonic() - started
    print(f"\n{done} programs, {compared} answers compared, in {took:.0f} s; {findings} findings")
    for name, count in sorted(named.items()):
        print(f"    {count:7d}  {name}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
