#!/usr/bin/env python3
"""Every option that --help lists has an entry in its manual page, and every key one in holdfastd.conf(5).

tests/deploy/options_in_manuals.py PROGRAMS MANUALS
"""

import pathlib
import re
import subprocess
import sys

PAGES = {"holdfastd": "holdfastd.8", "holdfast": "holdfast.1", "holdfast-bench": "holdfast-bench.1"}


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def check(programs, manuals):
    for program, page in PAGES.items():
        path = programs / program
        texts = [said(path, "--help")]
        text = (manuals / page).read_text().replace(r"\-", "-")
        if program == "holdfast":
            listed = texts[0].split("\nCommands")[1].split("\n\n")[0]
            commands = re.findall(r"^  ([a-z][a-z-]+)(?: [A-Z]+)?  +\S", listed, re.MULTILINE)
            assert len(commands) > 10, commands
            texts += [said(path, "help", command) for command in commands]
            for command in commands:
                if f".SS holdfast {command}" not in text:
                    yield f"{page}: no command {command}"
        options = set()
        for each in texts:
            options |= set(re.findall(r"^  (--[\w.-]+)", each, re.MULTILINE))
            options |= set(re.findall(r"short: (--[\w-]+)", each))
        assert len(options) > 3, options
        for option in sorted(options):
            if not re.search(re.escape(rf"\fB{option}\fR"), text):
                yield f"{page}: no option {option}"
    text = (manuals / "holdfastd.conf.5").read_text().replace(r"\-", "-")
    for key in re.findall(
        r"^  --(\w+(?:\.\w+)+) ", said(programs / "holdfastd", "--help"), re.MULTILINE
    ):
        if rf"\fB{key}\fR" not in text:
            yield f"holdfastd.conf.5: no key {key}"


if __name__ == "__main__":
    findings = list(check(*map(pathlib.Path, sys.argv[1:])))
    print("\n".join(findings))
    sys.exit(1 if findings else 0)
