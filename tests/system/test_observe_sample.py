"""`holdfast observe` finds the calls of the demo's services that write several times, without being
told where they are: alone, as a newcomer starts, and beside the units."""

import json
import pathlib
import random
import sys

import pytest
from holdfast_testing import holdfast, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "deploy/sample"))

from calls import Call, request_of  # noqa: E402
from holdfast_testing import FrontedService, FrontingProxy, request  # noqa: E402
from stack import Stack  # noqa: E402

# (kind, what it is about, what else): one call of each kind.
CALLS = [
    ("W1", "app-1", None),
    ("W2", "app-1", "app-1"),
    ("W4", "group-1", None),
    ("W4", "group-2", None),
    ("one", "group-1", None),
    ("W3", ("group-1", "intent-1"), "app-1"),
    ("W5", "group-1", None),
    ("W6", "group-1", "group-2"),
    ("W7", "cluster-1", None),
    ("W8", "cluster-1", None),
    ("W9", "cloud-1", None),
    ("W10", "cloud-1", ["base-0", "base-1"]),
    ("W11", "cloud-1", None),
    ("W12", "certificate-1", None),
    ("W12d", "certificate-1", None),
]
# Writes of each of its findings; the placement service's part of W7 and W8 belongs to their call.
WRITES = {
    "PUT /apps/{}": 2,
    "PUT /profiles/{}": 4,
    "PUT /groups/{}": 2,
    "PUT /groups/{}/intents/{}": 2,
    "POST /groups/{}/update": 2,
    "POST /groups/{}/migrate": 2,
    "PUT /clusters/{}": 5,
    "DELETE /clusters/{}": 3,
    "PUT /clouds/{}": 3,
    "POST /clouds/{}/ready": 4,
    "POST /clouds/{}/terminate": 3,
    "PUT /certificates/{}": 3,
    "DELETE /certificates/{}": 3,
}


class ObservedStack(Stack):
    """The demo's services behind holdfastd, with `boundary`."""

    def __init__(self, boundary):
        self.boundary = boundary
        super().__init__()

    def _start(self):
        orchestrator = FrontedService("orchestrator", domain="emco")
        placement = FrontedService("placement", domain="emco")
        settings = {"unit.boundary": self.boundary}
        self.proxy = FrontingProxy(self.server, (orchestrator, placement), settings=settings)
        self.callers_port = orchestrator.callers_port
        self.start_services(
            (orchestrator.service_port, orchestrator.mongo_uri, placement.inside_port),
            (placement.service_port, placement.mongo_uri),
        )


def normal(route):
    """A short name is no identifier to the report: the test's own are made one."""
    method, path = route.split(" ")
    segments = [
        "{}" if "-" in segment and segment[-1].isdigit() else segment
        for segment in path.split("/")
    ]
    return f"{method} {'/'.join(segments)}"


@pytest.mark.parametrize("boundary", ["observe", "all"])
def test_the_samples_multi_writes_are_found(boundary):
    stack = ObservedStack(boundary)
    try:
        for number, (kind, name, other) in enumerate(CALLS):
            call = Call(kind, f"token-{number}", name, other)
            answer = request(stack.callers_port, *request_of(call, random.Random(1)))
            assert 200 <= answer.status < 300, (call.title(), answer.status, answer.body)

        def report():
            done = holdfast("observe", "--wal", stack.proxy.wal, "--json", check=0)
            findings = json.loads(done.stdout)["findings"]
            return findings if len(findings) >= len(WRITES) else None

        found = {}
        for finding in wait_until(report, 10, "all findings are in the report"):
            if finding["service"] == "orchestrator":
                found[normal(finding["route"])] = finding["writesPerCall"]["max"]
                assert finding["torn"] == 0
        assert {route: found.get(route) for route in WRITES} == WRITES
        assert (stack.proxy.units() == []) == (boundary == "observe")
    finally:
        stack.close()
