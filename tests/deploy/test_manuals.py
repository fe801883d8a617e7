"""Manual pages say what the programs say, and shells complete it."""

import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import time

import pytest
from holdfast_testing.proxy import build_bin

ROOT = pathlib.Path(__file__).resolve().parents[2]
MANUALS = build_bin().parent / "manuals"


def test_every_option_is_in_its_page():
    done = subprocess.run(
        [ROOT / "tests/deploy/options_in_manuals.py", build_bin(), MANUALS / "man"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "page", ["holdfastd.8", "holdfastd.conf.5", "holdfast.1", "holdfast-bench.1"]
)
def test_mandoc_finds_nothing(page):
    if shutil.which("mandoc") is None:
        pytest.skip("no mandoc here")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", MANUALS / "man" / page],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
    text = (MANUALS / "man" / page).read_text()
    assert not re.search(r"@[A-Z_]+@", text)


class Shell:
    """An interactive bash, as a person has it."""

    def __init__(self, *files):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(PS1="$ ", TERM="dumb", PATH=f"{build_bin()}:{os.environ['PATH']}")
            os.environ.pop("PROMPT_COMMAND", None)
            os.execlp("bash", "bash", "--norc", "--noprofile", "-i")
        self.said = ""
        self.enter("bind 'set show-all-if-ambiguous on'; bind 'set bell-style none'")
        self.enter("bind 'set page-completions off'; bind 'set completion-query-items 0'")
        for file in files:
            self.enter(f"source {file}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.terminal)
        os.waitpid(self.pid, 0)

    def read_until(self, wanted, timeout=20):
        deadline = time.monotonic() + timeout
        while not re.search(wanted, self.said):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.terminal], [], [], max(left, 0))
            assert ready, f"not within {timeout} s: {wanted!r} in {self.said!r}"
            self.said += os.read(self.terminal, 65536).decode(errors="replace")
        return self.said

    def enter(self, line):
        self.said = ""
        mark = f"done{time.monotonic_ns()}"
        os.write(self.terminal, f"{line}; echo {mark[:4]}''{mark[4:]}\n".encode())
        self.read_until(mark)

    def complete(self, typed, wanted):
        """What is on the screen after `typed` and the tab key, as soon as it has `wanted`."""
        self.said = ""
        os.write(self.terminal, typed.encode() + b"\t")
        said = self.read_until(wanted)
        os.write(self.terminal, b"\x15")  # the line is thrown away
        self.enter("true")
        return said


def test_bash_completes():
    completion = MANUALS / "completion"
    with Shell(
        *(completion / f"{name}.bash" for name in ("holdfast", "holdfastd", "holdfast-bench"))
    ) as sh:
        assert "conflict" not in sh.complete("holdfast un", "holdfast units ")
        sh.complete("holdfast che", "check-restore ")
        sh.complete("holdfast units --st", "--state ")
        sh.complete("holdfast units --state con", "conflict ")
        assert "--compact" not in sh.complete("holdfast units --", "--locks")
        assert "--locks" not in sh.complete("holdfast prune --", "--compact")
        sh.complete("holdfast units --wal /us", "/usr/")
        sh.complete("holdfastd --wal.dur", "--wal.durability ")
        sh.complete("holdfastd --wal.durability pr", "process ")
        assert "wal.retention= " not in sh.complete("holdfastd --set wal.ret", "wal.retention=")
        sh.complete("holdfast-bench point-r", "point-read ")
        sh.complete("holdfast-bench service --mo", "--mongo ")
