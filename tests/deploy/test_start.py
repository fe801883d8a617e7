"""docs/START.md, by the letter: its commands in one shell, and what it says comes out."""

import os
import pathlib
import re
import signal
import subprocess

from holdfast_testing import free_port
from holdfast_testing.proxy import build_bin

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/START.md"
BLOCK = re.compile(r"^```(sh)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps():
    """[(commands, [lines that come out])]"""
    made = []
    for kind, text in BLOCK.findall(PAGE.read_text()):
        if kind == "sh":
            made.append((text, []))
        else:
            made[-1][1].extend(text.splitlines())
    return made


def test_the_start_is_as_it_says(tmp_path):
    """Ports, the folder and the build are the test's own; everything else is the page's."""
    work = str(tmp_path / "start")
    ports = {"27017": str(free_port()), "27018": str(free_port())}
    script = "set -eu\n"
    for number, (commands, _) in enumerate(steps()):
        commands = commands.replace("/tmp/start", work).replace("$PWD/build/bin", str(build_bin()))
        commands = re.sub(r"2701[78]", lambda found: ports[found.group()], commands)
        script += f"echo '== {number}'\n{commands}"
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    try:
        output, _ = shell.communicate(timeout=240)
    finally:
        try:
            os.killpg(shell.pid, signal.SIGKILL)  # what it left behind, if it failed
        except ProcessLookupError:
            pass
    logs = "".join(path.read_text()[-3000:] for path in pathlib.Path(work).glob("*.log"))
    assert shell.returncode == 0, output + logs
    assert not os.path.exists(work)
    parts = dict(re.findall(r"^== (\d+)\n(.*?)(?=^== |\Z)", output, re.MULTILINE | re.DOTALL))
    for number, (_, wanted) in enumerate(steps()):
        lines = parts[str(number)].splitlines()
        for line in wanted:
            assert line in lines, f"step {number}: {line!r} is not in\n{parts[str(number)]}"
            lines.remove(line)
    states = re.findall(r"^ +\d+  (\w+) +(\w+) ", output, re.MULTILINE)
    assert states.count(("open", "driver")) == 1, output
    assert states.count(("aborted", "driver")) == 1, output
