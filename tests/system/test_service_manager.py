"""What a service manager is told: ready only when clients are served, what it is doing, and its watchdog
only as long as the workers work."""

import os
import socket
import tempfile
import time

import pytest
from conftest import Stack
from holdfast_testing import Proxy, Server, wait_until

READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="holdfast-notify-")
        self.path = os.path.join(self.directory.name, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.heard = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.directory.cleanup()

    def environment(self, watchdog_ms=None):
        watchdog = {"WATCHDOG_USEC": str(watchdog_ms * 1000)} if watchdog_ms else {}
        return {"NOTIFY_SOCKET": self.path, **watchdog}

    def listen(self, seconds):
        self.socket.settimeout(seconds)
        try:
            self.heard.append(self.socket.recv(4096).decode())
        except TimeoutError:
            return None
        return self.heard[-1]

    def wait_for(self, what, seconds=30):
        deadline = time.monotonic() + seconds
        while (message := self.listen(max(deadline - time.monotonic(), 0.01))) is not None:
            if what in message:
                return message
        raise AssertionError(f"not heard: {what}; heard: {self.heard[-20:]}")


@pytest.fixture
def manager():
    with Manager() as made:
        yield made


def test_ready_means_served(manager):
    """READY comes after the recovery and after the listening, once; the end is told before it comes."""
    with Server() as server:
        proxy = Proxy(server, environment=manager.environment(), start=False)
        try:
            proxy.launch()
            ready = manager.wait_for(READY)
            assert manager.heard == ["STATUS=Recovering", ready]
            proxy.wait_accepting(1)  # at once
            assert ready == f"{READY}\nSTATUS=Serving clients on {proxy.address}"
            assert proxy.stop() == 0
            assert manager.wait_for(STOPPING) == f"{STOPPING}\nSTATUS=Draining"
            assert not any(ALIVE in message for message in manager.heard)  # nobody asked for it
        finally:
            proxy.close()


def test_a_refused_start_is_never_ready(manager):
    with Stack() as stack:
        other = Proxy(
            stack.server, wal=stack.proxy.wal, environment=manager.environment(), start=False
        )
        try:
            other.launch()
            assert other.process.wait() == 2
            while manager.listen(0.1):
                pass
            assert not any(READY in message for message in manager.heard), manager.heard
        finally:
            other.close()


def test_a_standby_is_ready_as_one(manager):
    """It may wait for days: the service manager neither waits for it nor kills it."""
    with Stack() as stack:
        other = Proxy(
            stack.server,
            wal=stack.proxy.wal,
            environment=manager.environment(watchdog_ms=900),
            options=["--standby", "on"],
            start=False,
        )
        try:
            other.launch()
            assert "Standing by" in manager.wait_for(READY)
            for _ in range(3):
                manager.wait_for(ALIVE)
            stack.proxy.kill()
            manager.wait_for("Serving clients")
            manager.wait_for(ALIVE)
            assert other.stop() == 0
        finally:
            other.close()


def test_recovery_after_the_server_is_told(manager):
    with Stack(environment=manager.environment(watchdog_ms=3000)) as stack:
        stack.server.restart()
        assert manager.wait_for("Recovering: the server has restarted")
        manager.wait_for("Serving clients")


def test_a_stopped_process_feeds_nobody(manager):
    """Fed three times in a period while it works, and not at all while it stands still."""
    with Stack(environment=manager.environment(watchdog_ms=900)) as stack:
        for _ in range(3):
            manager.wait_for(ALIVE)
        stack.proxy.pause()
        wait_until(stack.proxy.process.stands_still, 5, "it stands still")
        while manager.listen(0.01):
            pass
        assert manager.listen(1.5) is None
        stack.proxy.resume()
        manager.wait_for(ALIVE)


def test_a_manager_that_is_gone_is_no_reason_not_to_start():
    with Stack(environment={"NOTIFY_SOCKET": "/nonexistent/notify"}) as stack:
        assert any("service manager" in entry["msg"] for entry in stack.proxy.log())
