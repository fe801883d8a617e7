"""A holdfastd that was killed with a large journal: until it accepts, from a cold disk."""

import datetime
import os
import shutil
import subprocess
import tempfile
import time

from holdfast_testing import Proxy, Server, build_bin

UNITS, OPEN = 1_000_000, 1_000


def _tool(*words):
    words = [str(word) for word in (build_bin() / "large_journal", *words)]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def _undo_seconds(log):
    """From the first unit that was rolled back (of many, not each has a line) until all were."""

    def moment(line):
        return datetime.datetime.fromisoformat(line["t"].replace("Z", "+00:00"))

    first = next((line for line in log if line["msg"] == "Unit rolled back"), None)
    last = next((line for line in log if line["msg"] == "Recovery finished"), None)
    return (moment(last) - moment(first)).total_seconds() if first and last else 0.0


def measure(units=UNITS, is_open=OPEN, directory=None):
    """{"open": what opening the journal alone took, "acceptSeconds", "undoSeconds" of these}."""
    folder = tempfile.mkdtemp(prefix="holdfast-large-", dir=directory)
    try:
        journal = os.path.join(folder, "wal")
        _tool("make", journal, units, is_open)
        _tool("drop", journal)
        text = _tool("open", journal)
        _tool("drop", journal)
        with Server() as server:
            proxy = Proxy(server, wal=journal, start=False)
            began = time.monotonic()
            with proxy.start():
                seconds = time.monotonic() - began
                undo = _undo_seconds(proxy.log())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "units": units,
        "open": is_open,
        "acceptSeconds": seconds,
        "undoSeconds": undo,
        "markdown": f"{text}holdfastd accepts after {seconds:.2f} s, {is_open} units rolled back, "
        f"which took {undo:.2f} s of it\n",
    }
