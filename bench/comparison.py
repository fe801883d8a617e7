"""What the comparisons have in common before they measure: where the tests' support package is, and
the options.

Imported before what needs packages, so that --help needs nothing installed.
"""

import argparse
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))


def parser(program, description, *, rounds, seconds, warmup):
    """Of the options that all have; the numbers are their defaults."""
    made = argparse.ArgumentParser(
        prog=f"bench/{program}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(name, kind, default, what):
        made.add_argument(name, type=kind, default=default, help=f"{what} ({default:g})")

    add("--rounds", int, rounds, "of each comparison")
    add("--seconds", float, seconds, "of each run")
    add("--warmup", float, warmup, "before each run")
    made.add_argument("--threads", type=int, default=os.cpu_count(), help="workers of a proxy")
    made.add_argument("--output", default=ROOT / "build/bench", type=pathlib.Path)
    return made


def parse(made, parts=(), at_least_1=()):
    """What the user has chosen. parts: --only chooses among them; without it, `only` is all."""
    if parts:
        made.add_argument(
            "--only", action="append", choices=list(parts), help="this part; repeatable"
        )
    chosen = made.parse_args()
    for name in ("rounds", "threads", *at_least_1):
        if getattr(chosen, name) < 1:
            made.error(f"--{name} is at least 1")
    if parts:
        chosen.only = chosen.only or list(parts)
    return chosen
