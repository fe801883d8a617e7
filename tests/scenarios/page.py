"""The table of what became of each scenario: for the terminal, and as docs/SCENARIOS.md."""

import pathlib

PAGE = pathlib.Path(__file__).parents[2] / "docs/SCENARIOS.md"
HEAD = """# Restart scenarios

Four sample services (`deploy/sample`: an orchestrator, a placement and a network controller, a status
monitor), each a process of its own, make calls of two to nine writes each, some of them together.
They write plainly and know nothing of Holdfast. In the middle of a call one of them, or more, is
killed with `kill -9` at a write that the scenario names, and started again. Then the database is read
past Holdfast:

- **absent**: every document is, to the byte, what it was before the call;
- **whole**: all that the call writes is there;
- **torn**: anything else, with how many of its parts are there.

*again* is the answer when the caller then makes the same call again. No call below was acknowledged
when it was interrupted, but for the last one of the node. A killed server forgets the last moments of
what it had acknowledged; Holdfast brings them back. Without Holdfast it is told to sync each commit,
for else chance would decide what is left.

Beside all calls, by Holdfast's plain listener, a background task of the monitor writes. No write of
its that was acknowledged was lost or undone in any scenario.

Written by `tests/scenarios/run --update`; the suite (label `scenarios`) fails if it is not what comes
out. `tests/scenarios/run --long` kills after every write of every call.
"""


class Page:
    """`chapters`: in which order those come that are named; rows are in the order of add()."""

    def __init__(self, chapters):
        self.chapters = chapters
        self._rows = []  # (chapter, title, straight, held)

    @property
    def rows(self):
        order = {chapter: number for number, chapter in enumerate(self.chapters)}
        return sorted(self._rows, key=lambda row: order.get(row[0], len(order)))

    def add(self, chapter, title, straight, held):
        self._rows.append((chapter, title, "-" if straight is None else str(straight), str(held)))

    def table(self):
        wide = max((len(row[1]) for row in self.rows), default=0)
        middle = max((len(row[2]) for row in self.rows), default=0)
        lines, last = [], None
        for chapter, title, straight, held in self.rows:
            if chapter != last:
                lines += ["", f"{chapter:{wide}}  {'without Holdfast':{middle}}  with Holdfast"]
                last = chapter
            lines.append(f"{title:{wide}}  {straight:{middle}}  {held}")
        return "\n".join(lines)

    def text(self):
        lines, last = [HEAD], None
        for chapter, title, straight, held in self.rows:
            if chapter != last:
                lines += ["" if last else None, f"## {chapter}", ""]
                lines += ["| | without Holdfast | with Holdfast |", "|---|---|---|"]
                last = chapter
            lines.append(f"| {title} | {straight} | {held} |")
        return "\n".join(line for line in lines if line is not None) + "\n"

    def write(self):
        PAGE.write_text(self.text())
