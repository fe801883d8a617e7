"""What a comparison says while it runs and in the end: as JSON, and as Markdown for a reader."""

import datetime
import json
import os
import sys

from holdfast_testing import server_kind


def say(text):
    print(text, file=sys.stderr, flush=True)


def with_interval(found, digits=2):
    """`found`: (figure, low, high), as statistics_of_pairs has it."""
    return "{0:.{3}f} ({1:.{3}f} to {2:.{3}f})".format(*found, digits)


def table(titles, rows):
    """Lines of Markdown."""
    return [f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *rows)]


class Report:
    """{"about": on what was measured, part: what was found}.

    Written to --output as program.json and program.md with each part: what stands is kept if a
    later one fails. markdown(found): the lines of the latter. about: more of it.
    """

    def __init__(self, program, options, markdown, **about):
        self.stem = options.output / program
        self.markdown = markdown
        self.text = ""
        self.found = {
            "about": {
                "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "server": server_kind(),
                "cores": os.cpu_count(),
                "threads": options.threads,
                "rounds": options.rounds,
                "seconds": options.seconds,
                **about,
                "loadAverageBefore": os.getloadavg(),
            }
        }

    def keep(self, part, found):
        self.found[part] = found
        self.found["about"]["loadAverageAfter"] = os.getloadavg()
        self.text = "\n".join(self.markdown(self.found)).rstrip() + "\n"
        self.stem.parent.mkdir(parents=True, exist_ok=True)
        self.stem.with_suffix(".json").write_text(json.dumps(self.found, indent=2) + "\n")
        self.stem.with_suffix(".md").write_text(self.text)

    def print(self):
        print(self.text, end="")
