"""The demonstration's own services and calls, with kill -9 at random: what ./deploy/demo shows."""

import os
import pathlib
import random
import subprocess
import sys

DEMO = pathlib.Path(__file__).parents[2] / "deploy/sample/demo.py"
CALLS, KILLS = 200, 15


def test_no_call_is_torn_or_lost():
    """Of services that know nothing of Holdfast each call is whole or absent, as acknowledged.

    Two services, all kinds of calls, callers that hang up, the services and the proxy killed in the
    middle of calls.
    """
    seed = os.environ.get("HOLDFAST_TEST_SEED", str(random.randrange(1 << 31)))
    print(f"HOLDFAST_TEST_SEED={seed}")
    command = [
        sys.executable,
        str(DEMO),
        "--calls",
        str(CALLS),
        "--kills",
        str(KILLS),
        "--seed",
        seed,
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    print(result.stdout[-9000:], result.stderr[-5000:])
    assert result.returncode == 0
    assert "no call was torn and none was lost" in result.stdout
