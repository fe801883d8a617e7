"""bench/compare_reads runs to its end and writes what it found; what it found is not judged here."""

import json
import pathlib
import subprocess
import sys

BENCH = pathlib.Path(__file__).resolve().parent.parent.parent / "bench"


def test_all_parts(tmp_path):
    options = ["--rounds", 1, "--seconds", 0.2, "--warmup", 0.1, "--connections", 4]
    options += ["--threads", 1, "--documents", 60, "--written", "1,20", "--output", tmp_path]
    done = subprocess.run(
        [sys.executable, str(BENCH / "compare_reads.py"), *map(str, options)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "compare_reads.json").read_text())
    assert [line["read"] for line in report["fast"]] == ["no unit open", "another document written"]
    assert len(report["overlay"]) == 5
    for line in report["overlay"]:
        assert line["none"] > 0 and line["1"]["ratio"] > 0 and line["20"]["ratio"] > 0
    assert done.stdout.strip() == (tmp_path / "compare_reads.md").read_text().strip()
