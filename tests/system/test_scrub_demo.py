"""holdfast scrub on what the demo's services leave behind when nothing holds their writes."""

import argparse
import collections
import json
import os
import pathlib
import random
import sys

from holdfast_testing import Proxy, holdfast

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "deploy/sample"))
RULES = ROOT / "conf/scrub/emco.yaml"

# What the demo's own checker (deploy/sample/rules.py) says, and the rules that find the same.
SAME = {
    "there twice": ["key-twice"],
    "without a parent": [
        "parent-is-there",
        "config-has-its-cluster",
        "placement-has-its-cluster",
        "config-has-its-cloud",
        "composite-app-has-its-project",
    ],
    "refers to what is not there": ["reference-leads-somewhere"],
    "parts of more than one call": ["app-whole", "profile-whole", "cloud-whole"],
    "not under the app": ["profile-under-its-app", "intent-under-its-app"],
    "a group without data or state": ["group-has-data", "group-has-a-state"],
    "data and state of two calls": ["group-of-one-call"],
    "stuck at Updated": ["group-stuck"],
    "half a migration": ["migration-whole"],
    "ready on some": ["cloud-ready-everywhere"],
    "configurations, terminated": ["cloud-configurations"],
    "profiles of": ["one-profile-for-an-app"],
    "half a cluster": ["cluster-whole"],
    "half a certificate": ["certificate-whole"],
}
COUNTED_BY_DOCUMENT = ("there twice", "without a parent", "refers to what is not there")


def said_by_the_checker(stack):
    from judge import Documents
    from rules import broken_rules

    with stack.server.client() as direct:
        lines = list(broken_rules(Documents(stack.collection(direct))))
    counts = collections.Counter()
    for line in lines:
        (what,) = [text for text in SAME if text in line]
        counts[what] += 1
    return counts


def said_by_the_scrub(*options, check):
    done = holdfast("scrub", "--rules", RULES, "--json", "--settle", "50ms", *options, check=check)
    report = json.loads(done.stdout)
    rules = {rule["rule"]: rule for rule in report["rules"]}
    counts = collections.Counter()
    for what, names in SAME.items():
        field = "rows" if what in COUNTED_BY_DOCUMENT else "found"
        counts[what] = sum(rules.pop(name)[field] for name in names)
    assert not any(rule["found"] for rule in rules.values()), rules
    return +counts, report


def test_what_the_demo_tears_without_holdfast_is_found_and_fixed():
    """Exactly what the demo's checker counts; after --fix that finds nothing, nor does the scrub."""
    from demo import Round
    from stack import Stack

    seed = os.environ.get("HOLDFAST_TEST_SEED", str(random.randrange(1 << 31)))
    print(f"HOLDFAST_TEST_SEED={seed}")
    stack = Stack()
    try:
        Round("straight", stack, argparse.Namespace(calls=150, kills=15, seed=int(seed))).play()
        torn = said_by_the_checker(stack)
        assert torn, "nothing was torn"
        assert said_by_the_scrub("--upstream", stack.server.uri, check=1)[0] == torn
        with Proxy(stack.server) as proxy:
            counts, report = said_by_the_scrub("--proxy", proxy.uri, "--fix", "--yes", check=0)
            assert counts == torn and report["found"] == 0
            assert proxy.stop() == 0
        assert not said_by_the_checker(stack)
        said_by_the_scrub("--upstream", stack.server.uri, check=0)
    finally:
        stack.close()
