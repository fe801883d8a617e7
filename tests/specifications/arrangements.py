"""What the tests of the driver specifications are played on: the server itself, and Holdfast before it.

Fail points are made by a relay (holdfast_testing/fail_points.py). It stands where the driver cannot
tell it from the server: before the server, so that Holdfast, where it is there, meets what the server
does. But before Holdfast where transactions are its own: no server there ever hears of a commit.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys

from holdfast_testing import FailPoints, Process, Proxy, Server

HERE = pathlib.Path(__file__).parent
SUITES = [
    "transactions",
    "transactions-convenient-api",
    "sessions",
    "causal_consistency",
    "retryable_writes",
    "retryable_reads",
]


class Arrangement:
    """name: as the page calls it. play() may be called once."""

    topologies = ["replicaset"]

    def play(self, leave_out, only=""):
        """What became of each test: the rows that play.py prints. leave_out: globs of files."""
        where = subprocess.run(
            [HERE.parent / "support/driver_specifications"], stdout=subprocess.PIPE, check=True
        ).stdout.decode()
        with contextlib.ExitStack() as held:
            asked = {
                "ports": self._start(held),
                "topologies": self.topologies,
                "suites": SUITES,
                "leaveOut": leave_out,
                "only": only,
            }
            player = Process(
                [sys.executable, HERE / "play.py", json.dumps(asked)],
                {"PYTHONPATH": where.strip(), "PYTHONDONTWRITEBYTECODE": "1"},
                name=f"tests, {self.name}",
            )
            code = player.wait(int(os.environ.get("HOLDFAST_SPECIFICATIONS_SECONDS", 500)))
            assert code == 0, f"{self.name}: the player ended with {code}\n{player.tail()}"
            return [json.loads(line) for line in player.lines if line.startswith('{"file"')]

    def _start(self, held):
        """The ports that the driver is to know, of what `held` ends."""
        raise NotImplementedError


class Direct(Arrangement):
    name = "directly"

    def _start(self, held):
        server = held.enter_context(Server("replicaset"))
        return [held.enter_context(FailPoints(server.port, of_member=True)).port]


class Native(Arrangement):
    """Two proxies side by side on one replica set: they pass for the two mongos that some tests want."""

    name = "native"
    topologies = ["replicaset", "sharded"]

    def _start(self, held):
        server = held.enter_context(Server("replicaset"))
        relay = held.enter_context(FailPoints(server.port, of_member=True))
        return [held.enter_context(Proxy(relay)).port for _ in range(2)]


class Journaled(Arrangement):
    """One proxy, for a standalone has one only; under two addresses."""

    name = "journaled"
    topologies = ["replicaset", "sharded"]

    def _start(self, held):
        server = held.enter_context(Server("standalone"))
        proxy = held.enter_context(Proxy(server, {"unit.lockWait": "1s"}))
        return [held.enter_context(FailPoints(proxy.port)).port for _ in range(2)]
