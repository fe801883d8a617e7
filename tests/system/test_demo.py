"""The demonstration's own services and calls, with kill -9 at random: what ./deploy/demo shows."""

import os
import pathlib
import random
import subprocess
import sys

SAMPLE = pathlib.Path(__file__).parents[2] / "deploy/sample"
CALLS, KILLS = 200, 15
sys.path.insert(0, str(SAMPLE))


def test_no_call_is_torn_or_lost():
    """Of services that know nothing of Holdfast each call is whole or absent, as acknowledged.

    Two services, all kinds of calls, callers that hang up, the services and the proxy killed in the
    middle of calls. Without Holdfast the same judgement finds torn calls.
    """
    seed = os.environ.get("HOLDFAST_TEST_SEED", str(random.randrange(1 << 31)))
    print(f"HOLDFAST_TEST_SEED={seed}")
    command = [
        sys.executable,
        SAMPLE / "demo.py",
        "--calls",
        CALLS,
        "--kills",
        KILLS,
        "--seed",
        seed,
    ]
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=240, check=False
    )
    print(result.stdout[-9000:], result.stderr[-5000:])
    assert result.returncode == 0
    assert "no call was torn and none was lost" in result.stdout
    assert "none was torn without it" not in result.stdout


class Held:
    """A collection that holds just these documents."""

    def __init__(self, *documents):
        self.documents = documents

    def find(self, _):
        return self.documents


def document(key, references=(), **parts):
    from resources import key_id, reference

    return {**key, "keyId": key_id(key), "references": list(map(reference, references)), **parts}


def test_the_judge_finds_torn_and_lost_calls():
    """Half an acknowledged call is torn and lost; an absent one lost only if acknowledged."""
    from calls import Call
    from judge import Documents, judge
    from routes_apps import app_key

    calls = [Call("W1", f"T{n}", f"app-{n}", outcome=outcome) for n, outcome in enumerate(OUTCOMES)]
    held = Documents(
        Held(
            document(app_key("app-0"), data={"token": "T0"}, appcontent={"token": "T0"}),
            document(app_key("app-1"), data={"token": "T1"}),
            document(app_key("app-2"), data={"token": "T2"}, appcontent={"token": "T1"}),
        )
    )
    verdicts, findings = judge(calls, held)
    verdict = verdicts["W1"]
    assert (verdict.calls, verdict.acknowledged, verdict.torn, verdict.lost) == (5, 3, 2, 2)
    assert len(findings) == 3


OUTCOMES = ("201", "201", "500", "201", "no answer")  # whole, half, of two calls, absent, absent


def test_the_rules_find_what_is_half_done():
    """From the documents alone: a half, a child without a parent, a reference to nothing."""
    from judge import Documents
    from resources import PROJECT, PROVIDER, cluster_key, placement_key
    from routes_clouds import cloud_key
    from rules import broken_rules

    whole = [document(PROJECT), document(PROVIDER)]
    assert list(broken_rules(Documents(Held(*whole)))) == []
    halves = [
        document(cloud_key("a"), data={"token": "T"}, privatekey={"token": "T"}),
        document(placement_key("gone"), references=[cluster_key("other")]),
    ]
    broken = "\n".join(broken_rules(Documents(Held(*whole, *halves))))
    for what in ("of more than one call, or missing", "without a parent", "refers to what is not"):
        assert what in broken
