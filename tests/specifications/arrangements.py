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

from holdfast_testing import FailPoints, Process, Proxy, Server, wait_until

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
                "ports": self.start(held),
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

    def start(self, held):
        """The ports that the driver is to know, of what `held` ends."""
        raise NotImplementedError


class Direct(Arrangement):
    name = "directly"

    def start(self, held):
        server = held.enter_context(Server("replicaset"))
        return [held.enter_context(FailPoints(server.port, of_member=True)).port]


class Native(Arrangement):
    """Two proxies side by side on one replica set: they pass for the two mongos that some tests want.

    Where a commit's answer leaves it open, and the driver has given it up, Holdfast asks again within
    about a second. By then it may be the next test's turn: what that one's fail point has for the
    driver's commit must not meet Holdfast's. So a test ends when nothing is asked for any more.
    """

    name = "native"
    topologies = ["replicaset", "sharded"]

    def start(self, held):
        server = held.enter_context(Server("replicaset"))
        self._relay = held.enter_context(FailPoints(server.port, of_member=True))
        self.proxies = [held.enter_context(Proxy(self._relay)) for _ in range(2)]
        self._commits_failed = 0
        self._relay.before_request = self._end_test
        return [proxy.port for proxy in self.proxies]

    def commits_in_doubt(self):
        return [unit for proxy in self.proxies for unit in proxy.units("committing")]

    def _end_test(self, command):
        """The runner kills all sessions after each test with transactions, its fail point off by then."""
        failed = self._relay.fired["failCommand"].count("commitTransaction")
        if next(iter(command)) == "killAllSessions" and failed > self._commits_failed:
            wait_until(lambda: not self.commits_in_doubt(), 60, "each commit has an outcome")
            self._commits_failed = failed


class Journaled(Arrangement):
    """One proxy, for a standalone has one only; under two addresses."""

    name = "journaled"
    topologies = ["replicaset", "sharded"]

    def start(self, held):
        server = held.enter_context(Server("standalone"))
        proxy = held.enter_context(Proxy(server, {"unit.lockWait": "1s"}))
        return [held.enter_context(FailPoints(proxy.port)).port for _ in range(2)]
