"""Plays the tests of the driver specifications with pymongo, by the runner that pymongo tests itself
with (the package `test`, see tests/support/driver_specifications). A process of its own for each
arrangement.

play.py '{"ports": [...], "topologies": [...], "suites": [...], "leaveOut": [...], "only": "..."}'

ports: of one server, or of several mongos. topologies: what the server is to pass for. leaveOut: globs
of files, as "transactions/*.json". only: part of a file's name. Prints a line of JSON for each test:
file, test, outcome ("passed", "failed", "left out"), why, seconds.
"""

import fnmatch
import json
import os
import pathlib
import sys
import time
import types
import unittest
import warnings

asked = json.loads(sys.argv[1])
os.environ["DB_IP"], os.environ["DB_PORT"] = "127.0.0.1", str(asked["ports"][0])

import test  # noqa: E402
import test.unified_format  # noqa: E402
from test.utils_shared import snake_to_camel  # noqa: E402

# What pymongo has no method for, by its own word (test_retryable_reads_unified.py).
NO_METHOD = ("ListDatabaseObjects", "ListCollectionObjects", "MapReduce")
# A client that is to read from a secondary waits for one, and there is none: why wait long.
SECONDARIES = ("readpreference", "read preference")


class Result(unittest.TestResult):
    """Prints what becomes of each test."""

    def __init__(self):
        super().__init__()
        self.file = None
        self.descriptions = {}

    def startTest(self, case):
        super().startTest(case)
        self._began = time.monotonic()
        self._outcome, self._why = "passed", ""
        words = self.descriptions[case._testMethodName].lower()
        wait = 300 if any(word in words for word in SECONDARIES) else 10000
        test.client_context.default_client_options["serverSelectionTimeoutMS"] = wait

    def addError(self, case, error):
        if self._outcome != "failed":  # what fails in the cleaning up after that tells nothing
            self._outcome, self._why = "failed", self._exc_info_to_string(error, case)

    addFailure = addError

    def addSkip(self, case, reason):
        self._outcome, self._why = "left out", reason

    def stopTest(self, case):
        line = {
            "file": self.file,
            "test": self.descriptions[case._testMethodName],
            "outcome": self._outcome,
            "why": self._why.strip(),
            "seconds": round(time.monotonic() - self._began, 3),
        }
        print(json.dumps(line), flush=True)


def set_up():
    test.setup()
    context = test.client_context
    if not context.connected:
        raise SystemExit(f"no connection: {context.connection_attempt_info()}")
    wanted = set(asked["topologies"])
    context.is_topology_type = lambda topologies: bool(wanted & set(topologies))
    if context.is_mongos:
        context.mongoses = [("127.0.0.1", port) for port in asked["ports"]]
    # Polling at once instead of a stream of hello: the tests are the same, and do not wait for the
    # next one after each failure that they make.
    context.default_client_options["serverMonitoringMode"] = "poll"
    knobs = test.unified_format.client_knobs
    test.unified_format.client_knobs = lambda **_: knobs(
        heartbeat_frequency=1,
        min_heartbeat_interval=0.002,
        kill_cursor_frequency=0.1,
        events_queue_frequency=0.1,
    )
    # A collection after each class takes a third of the time.
    test.unified_format.gc = types.SimpleNamespace(collect=lambda: None)
    warnings.simplefilter("ignore")


def classes():
    """(file, class) of each file of tests."""
    for suite in asked["suites"]:
        root = test.unified_format.get_test_path(suite)
        for folder in sorted({path.parent for path in pathlib.Path(root).rglob("*.json")}):
            made = test.unified_format.generate_test_classes(str(folder), module=__name__)
            for path in sorted(folder.glob("*.json")):
                kind = path.name.removesuffix(".json").replace("-", "_").replace(".", "_")
                name = snake_to_camel(f"Test_{folder.name.replace('-', '_')}_{kind}")
                yield f"{suite}/{path.name}", made[name]


def main():
    set_up()
    result = Result()
    for file, kind in classes():
        if asked["only"] not in file or any(fnmatch.fnmatch(file, o) for o in asked["leaveOut"]):
            continue
        result.file = file
        for spec in kind.TEST_SPEC["tests"]:
            name = spec["description"]
            method = "test_" + name.strip(". ").replace(" ", "_").replace(".", "_")
            result.descriptions[method] = name
            if name.startswith(NO_METHOD):
                setattr(kind, method, unittest.skip("pymongo has no such method")(lambda _: None))
        unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(result)


if __name__ == "__main__":
    main()
