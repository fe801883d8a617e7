"""Child processes that never outlive the test."""

import atexit
import ctypes
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

_started = set()
_started_lock = threading.Lock()
_ports = set()
_ports_lock = threading.Lock()
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)


class ProcessError(Exception):
    """A process did not do what it was started for; the message holds the end of its output."""


def _die_with_parent():
    # Also covers a test runner that is itself killed with -9. The signal is bound to the thread
    # that forked, hence Process starts children from one thread that lives as long as we do.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Starter:
    """Forks from one long-lived thread, so that PR_SET_PDEATHSIG means the death of the process."""

    def __init__(self):
        self._lock = threading.Lock()
        self._request = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._call = None
        self._result = None
        self._owner = None

    def start(self, call):
        with self._lock:
            if self._owner != os.getpid():  # first use, or we are a fork of the first user
                self._owner = os.getpid()
                self._request = threading.Semaphore(0)
                self._done = threading.Semaphore(0)
                threading.Thread(target=self._run, daemon=True, name="starter").start()
            self._call = call
            self._request.release()
            self._done.acquire()
            result, error = self._result
            if error is not None:
                raise error
            return result

    def _run(self):
        while True:
            self._request.acquire()
            try:
                self._result = (self._call(), None)
            except OSError as error:
                self._result = (None, error)
            self._done.release()


_starter = _Starter()


class Process:
    """One child: its output is collected line by line in `lines` (both streams)."""

    def __init__(
        self, arguments, environment=None, name=None, on_line=None, cwd=None, keep_descriptors=()
    ):
        self.name = name or os.path.basename(arguments[0])
        self.arguments = [str(argument) for argument in arguments]
        self.lines = []
        self._on_line = on_line
        self._changed = threading.Condition()
        self._ended = False
        self.succeeded = False  # another one goes on with its output
        env = dict(os.environ)
        env.update(environment or {})
        self._popen = _starter.start(
            lambda: subprocess.Popen(
                self.arguments,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                preexec_fn=_die_with_parent,
                pass_fds=keep_descriptors,
            )
        )
        with _started_lock:
            _started.add(self)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self._popen.pid

    def _read(self):
        for line in self._popen.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
            if self._on_line is not None:
                self._on_line(line.rstrip("\n"))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for_line(self, wanted, timeout, what):
        """The first non-None wanted(line), over lines printed already and those to come."""
        deadline = time.monotonic() + timeout
        seen = 0
        with self._changed:
            while True:
                while seen < len(self.lines):
                    found = wanted(self.lines[seen])
                    seen += 1
                    if found is not None:
                        return found
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "ended" if self._ended else f"said nothing of it in {timeout:g} s"
                    raise ProcessError(f"{self.name}: waiting for {what}: it {why}\n{self.tail()}")
                self._changed.wait(left)

    def tail(self, count=25):
        return "\n".join("    " + line[:400] for line in self.lines[-count:])

    def output(self):
        return "\n".join(self.lines)

    def running(self):
        return self._popen.poll() is None

    def stands_still(self):
        """Stopped by SIGSTOP, with all its threads."""
        try:
            tasks = list(pathlib.Path(f"/proc/{self.pid}/task").iterdir())
            return bool(tasks) and all(map(_is_stopped, tasks))
        except OSError:
            return False  # it has ended

    def send(self, number):
        if self.running():
            self._popen.send_signal(number)

    def wait(self, timeout=30):
        """Its exit code (negative: the signal), after all its output was read."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessError(
                f"{self.name}: still running after {timeout:g} s\n{self.tail()}"
            ) from None
        if not self.succeeded:
            self._reader.join(5)
        with _started_lock:
            _started.discard(self)
        return code

    def kill(self):
        """kill -9. Harmless twice."""
        self.send(signal.SIGKILL)
        self.send(signal.SIGCONT)
        return self.wait()

    def terminate(self, timeout=30):
        """SIGTERM, and what it exited with."""
        self.send(signal.SIGTERM)
        return self.wait(timeout)


class Successor(Process):
    """A process that a child of ours has started in its own place: its output is the child's.

    It becomes our child when that has ended, for we take in the orphans.
    """

    def __init__(self, former, pid):
        former.succeeded = True
        self.succeeded = False
        self.name = former.name
        self.arguments = former.arguments
        self.lines = former.lines
        self._changed = former._changed
        self._reader = former._reader
        self._former = former
        self._pid = pid
        self._code = None
        with _started_lock:
            _started.add(self)

    @staticmethod
    def expect():
        """Before it is started."""
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    @property
    def pid(self):
        return self._pid

    @property
    def _ended(self):
        return self._former._ended

    def running(self):
        if self._code is None:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:  # its parent lives
                try:
                    state = pathlib.Path(f"/proc/{self._pid}/stat").read_text()
                except FileNotFoundError:
                    self._code = -1
                    return False
                return state.rpartition(")")[2].split()[0] != "Z"
            if pid != 0:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is None

    def send(self, number):
        if self.running():
            os.kill(self._pid, number)

    def wait(self, timeout=30):
        deadline = time.monotonic() + timeout
        while self.running():
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.name}: still running after {timeout:g} s\n{self.tail()}")
            time.sleep(0.005)
        if not self.succeeded:
            self._reader.join(5)
        with _started_lock:
            _started.discard(self)
        return self._code


def _is_stopped(task):
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"


@atexit.register
def end_all_started():
    """Kills what is left of what this process started."""
    with _started_lock:
        left = list(_started)
    for process in left:
        try:
            process.kill()
        except (ProcessError, OSError) as error:
            print(f"holdfast_testing: {error}", file=sys.stderr)


def free_port():
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_for_restarts():
    """A free port that no client's own end of a connection takes while its server is restarting.

    Below the range from which the system takes those; no two of one process are the same.
    """
    first, last = 15000, max(_first_ephemeral_port(), 20000)
    for port in random.sample(range(first, last), last - first):
        with socket.socket() as probe, _ports_lock:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in _ports:
                _ports.add(port)
                return port
    raise ProcessError("no free port")


def _first_ephemeral_port():
    with open("/proc/sys/net/ipv4/ip_local_port_range") as range_file:
        return int(range_file.read().split()[0])


def wait_until(condition, timeout, what, interval=0.02):
    """The first true value of condition(); AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(interval)
