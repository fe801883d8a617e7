"""docs/DRIVER-TESTS.md: what passed directly, what through Holdfast, and why not the rest."""

import pathlib

from reasons import reason_for, varies

PAGE = pathlib.Path(__file__).parents[2] / "docs/DRIVER-TESTS.md"
HEAD = """# The drivers' own tests, through Holdfast

The driver specifications come with tests that every official driver has to pass: operations, failures
that the server is told to make, and the commands and errors that must be seen. They are played here by
pymongo {version}, with its own runner and files:

- **directly**: the driver at a replica set of one node;
- **native**: the same with Holdfast between (two proxies, where a test wants two mongos). The server
  fails behind it;
- **journaled**: Holdfast before a standalone, so that transactions and retries are its own. Failures
  are made before it, as the driver would meet them: a standalone never hears of a commit.

The server is {server}; the failures are made by a relay, for SecantusDB's are not whole
(`tests/support/holdfast_testing/fail_points.py`). To the driver Holdfast is a mongos. It has to pass the
tests for mongos as well as those for a replica set; the latter only are played directly, hence "-".
Left out everywhere: what pymongo has no method for, tests for other versions, and those that want logins.
A test that passes or fails by chance counts as one that fails.

Written by `tests/specifications/run --long --update`; the suite (label `specifications`) fails if a test that
passes directly fails through Holdfast without a reason on this page, or if it is not what comes out.
`tests/specifications/run --long` plays all files, of which the suite leaves out those for each read
command's errors.
"""
COLUMNS = ("directly", "native", "journaled")


def counted(column, rows):
    """How many passed always, of how many."""
    played = [row for row in rows if row["outcome"] != "left out"]
    if not played:
        return "-"
    passed = sum(row["outcome"] == "passed" and not varies(column, row) for row in played)
    return f"{passed} of {len(played)}"


def directly_too(results):
    """Of what passes directly, how much passes through each."""
    key = lambda row: (row["file"], row["test"])  # noqa: E731
    passed = {key(r) for r in results["directly"] if r["outcome"] == "passed"}
    return [counted(c, [r for r in results[c] if key(r) in passed]) for c in COLUMNS]


def file_lines(results):
    """One line of the table for each file."""
    names = sorted({row["file"] for rows in results.values() for row in rows})
    lines = []
    for name in names:
        cells = [counted(c, [r for r in results[c] if r["file"] == name]) for c in COLUMNS]
        if any(cell != "-" for cell in cells):
            lines.append(f"| {name.removesuffix('.json')} | {' | '.join(cells)} |")
    return lines


def reason_lines(results):
    """(arrangement, reason, test) of each that failed, or may."""
    lines = []
    for column in COLUMNS:
        for row in results[column]:
            if row["outcome"] == "failed" or varies(column, row):
                reason = reason_for(column, row)
                text = reason.text if reason else "?"
                name = row["file"].removesuffix(".json")
                lines.append((column, text, f"{name}: {row['test']}"))
    return lines


def text(results, version, server):
    lines = [HEAD.format(version=version, server=server)]
    total = [counted(column, results[column]) for column in COLUMNS]
    lines += ["| | directly | native | journaled |", "|---|---|---|---|"]
    lines += [f"| **all** | {' | '.join(total)} |"]
    lines += [f"| **those that pass directly** | {' | '.join(directly_too(results))} |"]
    lines += file_lines(results)
    titles = {
        "directly": "## What does not pass directly",
        "native": "## What does not pass through the native engine",
        "journaled": "## What does not pass through the journaled engine",
    }
    failed = reason_lines(results)
    for column in COLUMNS:
        lines += ["", titles[column], ""]
        for reason in dict.fromkeys(text for at, text, _ in failed if at == column):
            lines.append(f"- {reason}:")
            lines += [f"  - {test}" for at, text, test in failed if (at, text) == (column, reason)]
    return "\n".join(lines) + "\n"
