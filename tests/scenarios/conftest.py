"""Options and fixtures of the scenarios, and the table at their end."""

import concurrent.futures
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "deploy/sample"))

from page import Page  # noqa: E402
from restarts import CHAPTERS, matrix, short  # noqa: E402
from stage import Held, Straight  # noqa: E402

_page = Page(CHAPTERS)


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the whole matrix instead of the suite")
    parser.addoption("--table", action="store_true", help="print the table at the end")
    parser.addoption("--update", action="store_true", help="write docs/SCENARIOS.md")


def pytest_configure(config):
    option = config.getoption
    if option("update") and (option("long") or option("keyword")):
        raise pytest.UsageError("--update wants the whole suite, without --long and -k")


def pytest_generate_tests(metafunc):
    if "scenario" in metafunc.fixturenames:
        scenarios = matrix() if metafunc.config.getoption("long") else short()
        metafunc.parametrize("scenario", list(scenarios), ids=lambda scenario: scenario.id)


class Stages:
    """Both sides. both(play) plays on them at the same time: (straight, held)."""

    def __init__(self, *sides):
        self._pool = concurrent.futures.ThreadPoolExecutor(2)
        straight, held = map(self._pool.submit, sides)
        self.held = held.result()
        self.straight = straight.result()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.held.end_cleanly()
        finally:
            self.straight.close()
            self.held.close()

    def both(self, play, without=True):
        sides = [self.straight, self.held] if without else [self.held]
        for side in sides:
            side.mend()
        played = [self._pool.submit(play, side) for side in sides]
        concurrent.futures.wait(played)
        *straight, held = [one.result() for one in played]
        return (straight[0] if without else None), held


@pytest.fixture(scope="session")
def stages():
    with Stages(Straight, Held) as made:
        yield made


@pytest.fixture(scope="session")
def page():
    return _page


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("table"):
        terminalreporter.write_line("")
        terminalreporter.write_line(_page.table())


def pytest_sessionfinish(session, exitstatus):
    if session.config.getoption("update") and exitstatus == 0:
        _page.write()
