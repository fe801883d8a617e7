"""`holdfast top`: on a terminal, and for scripts."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import termios
import time

import pytest
from conftest import RawTransaction, Stack
from holdfast_testing import Connection, build_bin, holdfast, wait_until


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "30s", "upstream.fenceWait": "0"}) as made:
        yield made


class Terminal:
    """holdfast top, as a person has it: a terminal of a given size, what stands on it, and keys."""

    def __init__(self, stack, columns=120, lines=30):
        program = str(build_bin() / "holdfast")
        arguments = ["top", "--wal", stack.proxy.wal, "--interval", "200ms"]
        try:
            self.pid, self.master = pty.fork()
        except OSError as error:
            pytest.skip(f"no pseudo-terminals here: {error}")
        if self.pid == 0:
            time.sleep(0.2)  # the window has its size by then
            os.execv(program, [program, *arguments])
        self.output = ""
        self.resize(columns, lines)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)

    def resize(self, columns, lines):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self):
        while select.select([self.master], [], [], 0.05)[0]:
            try:
                received = os.read(self.master, 65536)
            except OSError:  # the other side has closed it
                return
            if not received:
                return
            self.output += received.decode()

    def frames(self):
        """Whole screens that were drawn, each a list of lines without sequences."""
        self.read()
        drawn = self.output.split("\033[H")[1:]
        whole = [frame for frame in drawn if "sorted by" in frame and frame.rstrip().endswith("\033[K")]
        plain = []
        for frame in whole:
            for sequence in ("\033[K", "\033[J", "\033[1m", "\033[0m"):
                frame = frame.replace(sequence, "")
            head, _, foot = frame.partition("\033[")
            lines = head.replace("\r", "").removesuffix("\n").split("\n")
            plain.append([*lines, foot.partition("H")[2]])
        return plain

    def wait(self, condition, what):
        """The newest screen, once it is as wanted."""

        def newest():
            frames = self.frames()
            return frames[-1] if frames and condition(frames[-1]) else None

        return wait_until(newest, 15, what)

    def key(self, key):
        os.write(self.master, key.encode())

    def end(self):
        """The exit code."""
        done = wait_until(lambda: self.read() or os.waitpid(self.pid, os.WNOHANG)[1:], 15, "it ends")
        self.pid = 0
        return done

    def attributes(self):
        return termios.tcgetattr(self.master)


def numbers(screen):
    rows = [line.split() for line in screen[8:-1] if line.strip()]
    return [int(row[0]) for row in rows if row[0].isdigit()]


@pytest.fixture
def units(stack, name):
    """Three open units: the first has written once, the second three times, the third waits."""
    with Connection(stack.proxy.port) as a, Connection(stack.proxy.port) as b:
        first, second = RawTransaction(a), RawTransaction(b)
        assert first.insert(name, {"_id": 1})["ok"]
        assert second.insert(name, {"_id": 2}, {"_id": 3}, {"_id": 4})["ok"]
        yield first, second
        first.abort()
        second.abort()


def test_on_a_terminal(stack, units, name):
    """What goes on is drawn again and again; keys sort; a window that gets smaller is not overrun; q
    leaves the terminal as it was."""
    with Terminal(stack) as terminal:
        screen = terminal.wait(lambda screen: len(numbers(screen)) == 2, "both units are shown")
        assert "serving" in screen[0] and "2 open" in screen[1]
        assert any(line.startswith("Journal") and "of 64.0 GiB" in line for line in screen)
        assert any(line.startswith("Settled") for line in screen)
        older, younger = numbers(screen)
        assert older < younger and f"test.{name}" in screen[8]
        terminal.key("w")
        terminal.wait(lambda screen: numbers(screen) == [younger, older], "sorted by writes")
        assert "sorted by writes" in terminal.frames()[-1][-1]
        terminal.key("u")
        terminal.wait(lambda screen: numbers(screen) == [older, younger], "sorted by number")
        drawn = len(terminal.frames())
        wait_until(lambda: len(terminal.frames()) > drawn + 2, 15, "it goes on by itself")
        terminal.resize(40, 11)
        small = terminal.wait(lambda screen: len(screen) <= 11 and max(map(len, screen)) <= 40, "smaller")
        assert len(numbers(small)) >= 1
        assert not terminal.attributes()[3] & termios.ECHO
        terminal.key("q")
        assert terminal.end() == (0,)
        assert "\033[?1049l" in terminal.output and terminal.output.rstrip().endswith("\033[?1049l")
        assert terminal.attributes()[3] & termios.ECHO and terminal.attributes()[3] & termios.ICANON


def test_interrupted_and_stopped(stack):
    """Ctrl-Z and Ctrl-C give the terminal back as q does."""
    with Terminal(stack) as terminal:
        terminal.wait(lambda screen: "serving" in screen[0], "it draws")
        os.kill(terminal.pid, signal.SIGTSTP)
        wait_until(lambda: terminal.read() or "\033[?1049l" in terminal.output, 15, "the screen is left")
        os.kill(terminal.pid, signal.SIGCONT)
        wait_until(lambda: terminal.frames() and terminal.output.count("\033[?1049h") == 2, 15, "back")
        terminal.key("\x03")
        assert terminal.end() == (0,)
        assert terminal.attributes()[3] & termios.ECHO


def test_daemon_away(stack):
    """It says so, goes on trying, and goes on when the daemon is there again."""
    with Terminal(stack) as terminal:
        terminal.wait(lambda screen: "serving" in screen[0], "it draws")
        stack.proxy.kill()
        terminal.wait(lambda screen: "trying again" in screen[0], "it is away")
        stack.proxy.start()
        terminal.wait(lambda screen: "serving" in screen[0], "it is back")
        terminal.key("q")
        assert terminal.end() == (0,)


def test_for_scripts(stack, units, name, client):
    """Not on a terminal it prints once, text or JSON; --json alone goes on, line by line."""
    wal = ["--wal", stack.proxy.wal, "--interval", "100ms"]
    text = holdfast("top", *wal, check=0).stdout
    assert "\033" not in text and "2 open" in text and f"test.{name}" in text
    client.test[name + "x"].insert_many([{}, {}])
    one = json.loads(holdfast("top", "--json", "--once", *wal, check=0).stdout)
    assert one["open"] == 2 and one["ready"] is True and one["committedPerSecond"] == 0
    assert [unit["writes"] for unit in one["list"]] == [1, 3]
    process = os.popen(f"{build_bin()}/holdfast top --json --wal {stack.proxy.wal} --interval 100ms")
    lines = [json.loads(process.readline()) for _ in range(3)]
    assert all(line["phase"] == "serving" for line in lines)
    process.close()  # the closed pipe ends it


def test_refusals(stack):
    assert "--interval" in holdfast("top", "--wal", "/", "--interval", "1ms", check=2).stderr
    assert holdfast("top", "--wal", "/nonexistent", check=2).stderr
