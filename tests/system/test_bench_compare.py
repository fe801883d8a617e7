"""The comparisons run to their end and write what they found; what they found is not judged here."""

import json
import pathlib
import subprocess
import sys

import pytest
from holdfast_testing import server_kind

BENCH = pathlib.Path(__file__).resolve().parent.parent.parent / "bench"
sys.path.insert(0, str(BENCH))

from statistics_of_pairs import (  # noqa: E402
    geometric_mean,
    median_with_interval,
    ratio_with_interval,
)


def compare(*arguments, program):
    return subprocess.run(
        [sys.executable, str(BENCH / program), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_ratio_of_pairs():
    """Each pair drifts by another factor, which cancels out; the interval holds the truth."""
    drift = [1, 2, 3, 5, 8, 13]
    noise = [0.9, 1.1, 1.0, 0.95, 1.05, 1.0]
    ratio, low, high = ratio_with_interval(
        [300 * d * n for d, n in zip(drift, noise)], [200 * d for d in drift]
    )
    assert ratio == pytest.approx(1.5, rel=0.02)
    assert low < 1.5 < high
    assert 1.3 < low and high < 1.7
    assert ratio_with_interval([2, 4, 8], [1, 2, 4]) == pytest.approx((2, 2, 2))
    assert geometric_mean([1, 100]) == pytest.approx(10)


def test_median():
    """Of 20 samples the sixth and the fifteenth, of 6 all: 95 % by the sign test."""
    assert median_with_interval([*range(20, 0, -1)]) == (10.5, 6, 15)
    assert median_with_interval([*range(1, 7)]) == (3.5, 1, 6)
    assert median_with_interval([5]) == (5, 5, 5)
    with pytest.raises(ValueError):
        median_with_interval([])


@pytest.mark.parametrize("measured, reference", [([], []), ([1], [1, 2])])
def test_no_pairs(measured, reference):
    with pytest.raises(ValueError):
        ratio_with_interval(measured, reference)


def test_figures(tmp_path):
    """bench/figures puts what holdfast-bench has found beside each other; one part, that of the disk."""
    done = compare("--quick", "--only", "floor", "--output", tmp_path, program="figures.py")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())
    assert list(found["parts"]) == ["floor"] and found["failed"] == []
    assert len(found["parts"]["floor"]["cells"]) == 2
    assert (tmp_path / "floor/report.html").exists()
    assert "fdatasync for all / fdatasync for each" in (tmp_path / "figures.md").read_text()


def test_goals(tmp_path):
    """bench/goals says of each goal what was measured, and whether it is met; one part."""
    options = ["--quick", "--only", "idle", "--rounds", 1, "--output", tmp_path]
    done = compare(*options, program="goals.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "goals.md").read_text() == done.stdout
    found = json.loads((tmp_path / "goals.json").read_text())
    assert found["failed"] == [] and len(found["lines"]) == 2
    for what, goal, measured, verdict in found["lines"]:
        assert "idle connections" in what and goal == "at most 8 KiB"
        assert measured and verdict in ("met", "missed", "within noise")


@pytest.mark.skipif(server_kind() == "secantusd-py", reason="it has no --sync-on-commit")
def test_contended(tmp_path):
    """Every run of it checks its sums, and ends the comparison if they are wrong."""
    options = ["--rounds", 1, "--seconds", 0.3, "--warmup", 0.1, "--threads", 2]
    options += ["--connections", 4, "--plain", 1, "--output", tmp_path]
    done = compare(*options, program="compare_contended.py")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = json.loads((tmp_path / "compare_contended.json").read_text())["contended"]
    assert [line["load"] for line in lines[:3]] == [line["load"] for line in lines[3:]]
    for line in lines:
        assert line["holdfastd"]["perSecond"] > 0
        assert ("plain" in line["load"]) == (line["holdfastd"]["plainPerSecond"] > 0)
    assert done.stdout.strip() == (tmp_path / "compare_contended.md").read_text().strip()


def test_reads(tmp_path):
    options = ["--rounds", 1, "--seconds", 0.2, "--warmup", 0.1, "--connections", 4]
    options += ["--threads", 1, "--documents", 60, "--written", "1,20", "--output", tmp_path]
    done = compare(*options, program="compare_reads.py")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "compare_reads.json").read_text())
    assert [line["read"] for line in report["fast"]] == ["no unit open", "another document written"]
    assert len(report["overlay"]) == 5
    for line in report["overlay"]:
        assert line["none"] > 0 and line["1"]["ratio"] > 0 and line["20"]["ratio"] > 0
    assert done.stdout.strip() == (tmp_path / "compare_reads.md").read_text().strip()


def test_bad_options():
    assert compare("--rounds", 0, program="compare_reads.py").returncode == 2
    assert compare("--only", "nothing", program="figures.py").returncode == 2
    assert "figures.json" in compare("--help", program="figures.py").stdout
    assert compare("--plain", 64, program="compare_contended.py").returncode == 2
