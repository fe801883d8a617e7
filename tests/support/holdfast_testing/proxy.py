"""holdfastd under test, and the holdfast command."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pymongo

from .process import Process, Successor, wait_until

_ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent


class ProxyFailed(Exception):
    """holdfastd ended instead of accepting. `code` is its exit code, `output` all it said."""

    def __init__(self, code, output):
        super().__init__(f"holdfastd ended with {code}:\n{output}")
        self.code = code
        self.output = output


def build_bin():
    """Where the programs under test are: $HOLDFAST_BUILD, by default the dev build."""
    return pathlib.Path(os.environ.get("HOLDFAST_BUILD", _ROOT / "build/dev/bin")).resolve()


def holdfast(*arguments, check=None, timeout=60, environment=None):
    """Runs the command-line program: a CompletedProcess with text output."""
    done = subprocess.run(
        [str(build_bin() / "holdfast"), *[str(argument) for argument in arguments]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(environment or {})},
    )
    if check is not None:
        assert done.returncode == check, (
            f"holdfast {' '.join(map(str, arguments))}: exit code {done.returncode}, "
            f"wanted {check}\n{done.stdout}{done.stderr}"
        )
    return done


class Proxy:
    """holdfastd in front of `upstream` (a Server, or a URI), started by the constructor.

    settings: {"unit.lockWait": "200ms"} become --set options; `environment` is added to ours. Its
    port and journal stay the same over restarts; the journal is removed by close() unless `wal`
    named it.
    """

    def __init__(
        self,
        upstream,
        settings=None,
        wal=None,
        crash_at=None,
        options=(),
        start=True,
        environment=None,
        program=None,
    ):
        self.program = program  # another path of it
        self.upstream_uri = upstream if isinstance(upstream, str) else upstream.uri
        self.settings = dict(settings or {})
        self.options = list(options)
        self.environment = dict(environment or {})
        self.crash_at = crash_at
        self._own_wal = wal is None
        self.wal = str(wal or os.path.join(tempfile.mkdtemp(prefix="holdfast-wal-"), "wal"))
        self.port = 0
        self.process = None
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self):
        return f"mongodb://{self.address}/"

    def client(self, **options):
        options.setdefault("serverSelectionTimeoutMS", 10000)
        user = options.pop("user", None)
        if user is not None:
            options["username"], options["password"] = user
            options.setdefault("authSource", "admin")
            options.setdefault("authMechanism", "SCRAM-SHA-256")
        return pymongo.MongoClient(self.uri, **options)

    def arguments(self):
        arguments = [str(self.program or build_bin() / "holdfastd"), "--listen", f"127.0.0.1:{self.port}"]
        arguments += ["--upstream", self.upstream_uri, "--wal", self.wal]
        for key, value in self.settings.items():
            arguments += ["--set", f"{key}={value}"]
        return arguments + self.options

    def start(self, crash_at=None, timeout=60, stop_at=None):
        """Starts it and waits until it accepts. ProxyFailed if it ends before that."""
        self.launch(crash_at, stop_at)
        self.wait_accepting(timeout)
        return self

    def launch(self, crash_at=None, stop_at=None):
        """Starts it, and waits for nothing."""
        crash_at = crash_at or self.crash_at
        self.crash_at = None  # one start only: the next one is to recover
        environment = dict(self.environment)
        if crash_at:
            environment["HOLDFAST_CRASH_AT"] = crash_at
        if stop_at:  # NAME or NAME:N
            number = "" if ":" in stop_at else ":1"
            environment["HOLDFAST_CRASH_AT"] = f"{stop_at}{number}:stop"
        self.process = Process(self.arguments(), environment, name="holdfastd")

    def wait_accepting(self, timeout=60):
        self.port = wait_until(self._accepting, timeout, "holdfastd accepts connections")

    def _accepting(self):
        for line in self.log_lines():
            port = _listening_port(line)
            if port is not None and _connects(port):
                return port
        if not self.process.running():
            raise ProxyFailed(self.process.wait(), self.process.output())
        return None

    def run_to_end(self, timeout=60):
        """For a start that is to fail: its exit code and output."""
        self.process = Process(self.arguments(), name="holdfastd")
        return self.process.wait(timeout), self.process.output()

    def log(self):
        """Its log of this start, parsed; lines that are no JSON are left out."""
        return [entry for entry in map(_parsed, self.log_lines()) if entry is not None]

    def log_lines(self):
        """What it said; with log.path, what is in that file, of earlier starts too."""
        path = pathlib.Path(self.settings.get("log.path", ""))
        return path.read_text().splitlines() if path.is_file() else list(self.process.lines)

    def wait_for_tables(self, mark):
        """Until data.mdb has these bytes; before that tail.wal alone does. LMDB writes the page that
        commits them last, so nothing may have been written for a while."""
        path = pathlib.Path(self.wal) / "data.mdb"

        def have_it():
            written = path.stat().st_mtime
            return mark in path.read_bytes() and time.time() - written > 0.5

        wait_until(have_it, 20, f"the journal's tables have {mark}")

    def kill(self):
        return self.process.kill()

    def stop(self, timeout=30):
        return self.process.terminate(timeout)

    def pause(self):
        self.process.send(signal.SIGSTOP)

    def resume(self):
        self.process.send(signal.SIGCONT)

    def restart(self, crash_at=None):
        """kill -9, then again with the same journal on the same port."""
        self.kill()
        return self.start(crash_at=crash_at)

    def upgrade(self, timeout=60):
        """SIGUSR2, until the former process has ended; self.process is the new one then."""
        self.begin_upgrade()
        return self.finish_upgrade(timeout)

    def begin_upgrade(self):
        Successor.expect()
        self._upgrades = self._count_lines("Upgrade finished")
        self._failures = self._upgrades_failed()
        self.process.send(signal.SIGUSR2)

    def finish_upgrade(self, timeout=60):
        former = self.process
        entry = wait_until(self._handed_over, timeout, "the upgrade is finished")
        self.process = Successor(former, entry["attr"]["pid"])
        code = former.wait(timeout)
        assert code == 0, f"the former process ended with {code}\n{former.tail()}"
        return former

    def _count_lines(self, message):
        return sum(entry["msg"] == message for entry in self.log())

    def _upgrades_failed(self):
        return sum("failed" in entry["msg"] for entry in self.log() if entry["c"] == "upgrade")

    def _handed_over(self):
        if self._count_lines("Upgrade finished") <= self._upgrades:
            assert self._upgrades_failed() == self._failures, self.process.tail(15)
            return None
        entries = [e for e in self.log() if e["msg"].startswith("Handed over")]
        return entries[self._upgrades] if len(entries) > self._upgrades else None

    def units(self, state="all"):
        """`holdfast units --json`: a list of units."""
        done = holdfast("units", "--wal", self.wal, "--json", "--state", state, check=0)
        units = parse_json_output(done.stdout)
        return units.get("units", []) if isinstance(units, dict) else units

    def verify(self):
        """The journal is sound, as `holdfast verify` judges it."""
        holdfast("verify", "--wal", self.wal, check=0)

    def close(self):
        if self.process is not None and self.process.running():
            self.process.kill()
        if self._own_wal:
            shutil.rmtree(os.path.dirname(self.wal), ignore_errors=True)


def parse_json_output(text):
    """One JSON document, or one a line."""
    try:
        return json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def _parsed(line):
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _listening_port(line):
    entry = _parsed(line)
    if entry is None or entry.get("msg") != "Listening":
        return None
    attributes = entry.get("attr", {})
    if attributes.get("listener", "mongo") != "mongo":
        return None
    return int(attributes["address"].rsplit(":", 1)[1])


def _connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False
