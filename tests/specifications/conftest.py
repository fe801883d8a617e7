"""Options, and the three arrangements played at once."""

import concurrent.futures

import page
import pymongo
import pytest
from arrangements import Direct, Journaled, Native
from holdfast_testing import server_kind

# What the suite leaves out: the same errors for one read command after the other.
SHORT_LEAVES_OUT = ["retryable_reads/*-serverErrors.json"]
SERVERS = {
    "mongod": "mongod",
    "secantusd-rs": "SecantusDB's secantusd-rs",
    "secantusd-py": "SecantusDB's secantusd-py",
}


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="all files instead of the suite")
    parser.addoption("--table", action="store_true", help="print the page at the end")
    parser.addoption("--update", action="store_true", help="write docs/DRIVER-TESTS.md")
    parser.addoption("--only", default="", help="only files whose name has this in it")


def pytest_configure(config):
    option = config.getoption
    if option("update") and (option("only") or not option("long")):
        raise pytest.UsageError("--update wants --long, without --only")


@pytest.fixture(scope="session")
def results(pytestconfig):
    """{name of an arrangement: rows}."""
    leave_out = [] if pytestconfig.getoption("long") else SHORT_LEAVES_OUT
    only = pytestconfig.getoption("only")
    arrangements = [Journaled(), Native(), Direct()]
    with concurrent.futures.ThreadPoolExecutor(len(arrangements)) as pool:
        played = [pool.submit(one.play, leave_out, only) for one in arrangements]
        made = {one.name: done.result() for one, done in zip(arrangements, played)}
    written = page.text(made, pymongo.version, SERVERS[server_kind()])
    if pytestconfig.getoption("update"):
        page.PAGE.write_text(written)
    if pytestconfig.getoption("table"):
        print(written)
    return made
