"""The demonstration's own service and calls, with kill -9 at random: what ./deploy/demo shows."""

import os
import pathlib
import random
import subprocess
import sys

DEMO = pathlib.Path(__file__).parents[2] / "deploy/sample/demo.py"
CALLS = 250


def test_no_call_is_torn_or_lost():
    """Through Holdfast every call of every kind is whole or absent, and every acknowledged one kept."""
    seed = os.environ.get("HOLDFAST_TEST_SEED", str(random.randrange(1 << 31)))
    print(f"HOLDFAST_TEST_SEED={seed}")
    command = [sys.executable, str(DEMO), "--calls", str(CALLS), "--seed", seed]
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    print(result.stdout[-5000:], result.stderr[-5000:])
    assert result.returncode == 0
    assert "no call was torn and none was lost" in result.stdout
