"""docs/DRIVER-TESTS.md: what passed directly, what through Holdfast, and why not the rest."""

import pathlib

from reasons import reason_for

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

Written by `tests/specifications/run --update`; the suite (label `specifications`) fails if a test that
passes directly fails through Holdfast without a reason on this page, or if it is not what comes out.
`tests/specifications/run --long` plays all files, of which the suite leaves out those for each read
command's errors.
"""
COLUMNS = ("directly", "native", "journaled")


def suite_of(row):
    return row["file"].split("/")[0]


def counted(rows):
    """"passed of played"."""
    played = [row for row in rows if row["outcome"] != "left out"]
    if not played:
        return "-"
    return f"{sum(row['outcome'] == 'passed' for row in played)} of {len(played)}"


def file_lines(results, files=None):
    """One line of the table for each file, those of `files` only."""
    names = sorted({row["file"] for rows in results.values() for row in rows})
    lines = []
    for name in names:
        cells = [counted([r for r in results[c] if r["file"] == name]) for c in COLUMNS]
        if any(cell != "-" for cell in cells):
            lines.append(f"| {name.removesuffix('.json')} | {' | '.join(cells)} |")
    return lines


def reason_lines(results):
    """One line for each test that failed anywhere."""
    lines = []
    for column in COLUMNS:
        for row in results[column]:
            if row["outcome"] == "failed":
                reason = reason_for(column, row)
                text = reason.text if reason else "?"
                name = row["file"].removesuffix(".json")
                lines.append((column, text, f"{name}: {row['test']}"))
    return lines


def text(results, version, server):
    lines = [HEAD.format(version=version, server=server)]
    total = [counted(results[column]) for column in COLUMNS]
    lines += ["| | directly | native | journaled |", "|---|---|---|---|"]
    lines += [f"| **all** | {' | '.join(total)} |"]
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
