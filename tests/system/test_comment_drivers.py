"""docs/UNITS-IN-COMMENTS.md: its examples, one for each driver, and what else it tells of drivers.

Each example places an order by a unit that its comments name. What a machine does not have is
skipped: a compiler or runtime, or the driver where its package manager cannot get it. Drivers are
kept in build/examples.
"""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

import pymongo
import pytest
from conftest import DATABASE, Stack
from holdfast_testing import Connection, Process, WireTap
from pymongo.errors import OperationFailure

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "docs/examples"
BUILT = ROOT / "build/examples"
INSTALL_SECONDS = 150
# On a machine that has other tests to run, too.
BUILD_SECONDS = 400
EXAMPLE_SECONDS = 120


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "500ms", "upstream.fenceWait": "100ms"}) as made:
        yield made


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def run(arguments, environment=None, cwd=None, timeout=INSTALL_SECONDS):
    return subprocess.run(
        [str(argument) for argument in arguments],
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def install(arguments, **options):
    """Gets a driver; where there is no registry to get it from, the test is skipped."""
    try:
        done = run(arguments, **options)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{arguments[0]} could not get the driver in {INSTALL_SECONDS} s")
    if done.returncode != 0:
        said = done.stdout + done.stderr
        pytest.skip(f"{arguments[0]} could not get the driver: {said[-300:]}")


def build(arguments, **options):
    done = run(arguments, timeout=BUILD_SECONDS, **options)
    assert done.returncode == 0, done.stdout + done.stderr


def libmongoc(folder):
    need("cc", "pkg-config")
    library = ["pkg-config", "--cflags", "--libs", "libmongoc-1.0 >= 1.22"]
    found = run(library)
    if found.returncode != 0:
        pytest.skip("libmongoc 1.22 is not installed")
    program = folder / "unit"
    warnings = ["-Wall", "-Wextra", "-Werror"]
    build(["cc", *warnings, EXAMPLES / "unit.c", "-o", program, *found.stdout.split()])
    return [program], {}


def pymongo_(folder):
    return [sys.executable, EXAMPLES / "unit.py"], {}


def go(folder):
    need("go")
    version = re.match(r"go1\.(\d+)", run(["go", "env", "GOVERSION"]).stdout)
    if version is None or int(version.group(1)) < 20:
        pytest.skip("go is older than 1.20")
    environment = {
        "GOPATH": str(folder / "path"),
        "GOCACHE": str(folder / "cache"),
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",  # less to compile, as is without inlining
        "GOMAXPROCS": "1",  # it takes most of a minute, beside tests that measure time
        "GOFLAGS": "-modcacherw -buildvcs=false",
    }
    install(["go", "mod", "download"], environment=environment, cwd=EXAMPLES)
    program = folder / "unit"
    command = ["go", "build", "-gcflags=all=-l", "-o", program, "unit.go"]
    build(command, environment=environment, cwd=EXAMPLES)
    return [program], {}


def node(folder):
    need("node", "npm")
    wanted, stamp = EXAMPLES / "package.json", folder / "package.json"
    installed = folder / "node_modules/mongodb/package.json"
    if not installed.exists() or stamp.read_text() != wanted.read_text():
        shutil.copy(wanted, stamp)
        flags = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        install(["npm", "install", *flags, "--prefix", folder])
    return ["node", EXAMPLES / "unit.js"], {"NODE_PATH": str(folder / "node_modules")}


def java(folder):
    need("java", "javac")
    source = EXAMPLES / "Unit.java"
    artifact = re.search(r"with (org\.mongodb:\S+)", source.read_text()).group(1)
    repository, stamp = folder / "repository", folder / "installed"
    if not stamp.exists() or stamp.read_text() != artifact:
        need("mvn")
        shutil.rmtree(repository, ignore_errors=True)
        place = f"-Dmaven.repo.local={repository}"
        install(["mvn", "-B", "-q", "dependency:get", f"-Dartifact={artifact}", place])
        stamp.write_text(artifact)
    jars = [str(jar) for jar in (repository / "org/mongodb").rglob("*.jar")]
    classes = folder / "classes"
    build(["javac", "-cp", ":".join(jars), "-d", classes, source])
    return ["java", "-cp", ":".join([str(classes), *jars]), "Unit"], {}


@pytest.fixture(scope="module", params=[libmongoc, pymongo_, go, node, java])
def driver(request):
    """(its name, a function that runs its example and returns exit code and output)"""
    name = request.param.__name__.strip("_")
    folder = BUILT / name
    folder.mkdir(parents=True, exist_ok=True)
    arguments, environment = request.param(folder)

    def example(uri, order, item):
        program = Process([*arguments, uri, order, item], environment, name=f"example {name}")
        code = program.wait(EXAMPLE_SECONDS)
        said = [line for line in program.lines if line.startswith(order)]
        return code, "\n".join(said) or program.output()

    return name, example


def shop(stack, order, item):
    """(is the order there, is it in the ledger, how many are left)"""
    found = stack.direct.shop
    return (
        found.orders.count_documents({"_id": order}),
        found.ledger.count_documents({"order": order}),
        found.stock.find_one({"_id": item})["left"],
    )


def last_unit(stack):
    unit = stack.proxy.units()[-1]
    return unit["boundary"], unit["state"], unit["writes"]


def test_example(stack, driver):
    name, example = driver
    with stack.proxy.client() as client:
        client.shop.stock.insert_one({"_id": name, "left": 2})
        client.shop.ledger.create_index("order", unique=True)
        client.shop.ledger.insert_one({"order": f"{name}-2"})

    code, said = example(stack.proxy.uri, f"{name}-1", name)
    assert (code, said) == (0, f"{name}-1: placed")
    assert last_unit(stack) == ("comment", "committed", 3)
    assert shop(stack, f"{name}-1", name) == (1, 1, 1)

    # An error of its first write, and one of its last: the proxy rolls the unit back.
    for order, stored in ((f"{name}-1", (1, 1, 1)), (f"{name}-2", (0, 1, 1))):
        code, said = example(stack.proxy.uri, order, name)
        assert code == 1 and f"{order}: not placed" in said and "E11000" in said, said
        assert last_unit(stack)[:2] == ("comment", "aborted")
        assert shop(stack, order, name) == stored

    # The example's own reason: it gives the unit up.
    assert example(stack.proxy.uri, f"{name}-3", name)[0] == 0
    code, said = example(stack.proxy.uri, f"{name}-4", name)
    assert (code, said) == (1, f"{name}-4: not placed: sold out")
    assert last_unit(stack)[:2] == ("comment", "aborted")
    assert shop(stack, f"{name}-4", name) == (0, 0, 0)


@contextlib.contextmanager
def one_answer_lost(stack, wanted):
    """A way to the proxy that breaks once: before the answer of the first write that is `wanted`.

    What a driver's monitor is answered meanwhile, on a connection of its own, passes.
    """
    lost = []

    def before_request(command):
        if not lost and wanted(command):
            lost.append("asked")

    def before_reply(reply):
        of_monitor = "isWritablePrimary" in reply or "ismaster" in reply
        if lost == ["asked"] and not of_monitor:
            lost.append("cut")
            return False
        return None

    with WireTap(stack.proxy.port) as tap:
        tap.before_request, tap.before_reply = before_request, before_reply
        yield tap
    assert lost == ["asked", "cut"]


def test_example_when_an_answer_is_lost(stack, driver):
    """Its driver sends the write again, and it is done once."""
    name, example = driver
    item = f"{name} lost"
    # Of Node's driver a retry leaves this timer behind, which keeps the ended program that long.
    patience = "?serverSelectionTimeoutMS=10000"
    with stack.proxy.client() as client:
        client.shop.stock.insert_one({"_id": item, "left": 2})
    with one_answer_lost(stack, lambda command: command.get("update") == "stock") as tap:
        assert example(tap.uri + patience, f"{name}-5", item) == (0, f"{name}-5: placed")
    assert last_unit(stack) == ("comment", "committed", 3)
    assert shop(stack, f"{name}-5", item) == (1, 1, 1)
    with one_answer_lost(stack, lambda command: command.get("insert") == "ledger") as tap:
        assert example(tap.uri + patience, f"{name}-6", item) == (0, f"{name}-6: placed")
    assert last_unit(stack) == ("comment", "committed", 3)
    assert shop(stack, f"{name}-6", item) == (1, 1, 0)


# ------------------------------------------------------------------ what else the page says


@contextlib.contextmanager
def refused(code):
    with pytest.raises(OperationFailure) as raised:
        yield
    assert raised.value.code == code, raised.value


TWO = [pymongo.InsertOne({"_id": 1}), pymongo.UpdateOne({"_id": 1}, {"$set": {"v": 1}})]


def test_a_bulk_write_is_several_commands(stack, client, collection, name):
    with refused(117):
        collection.bulk_write(TWO, comment={"unit": name, "begin": True})
    client.admin.command("abortUnit", name)
    assert stack.stored(name) == {}
    client.admin.command("beginUnit", name + "b")
    collection.bulk_write(TWO, comment={"unit": name + "b"})
    client.admin.command("commitUnit", name + "b")
    assert stack.stored(name) == {1: {"_id": 1, "v": 1}}


def test_refusals_that_leave_the_unit_as_it_is(stack, client, collection, name):
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True})
    with refused(117):
        collection.insert_one({"_id": 2}, comment={"unit": name, "begin": True})
    with refused(9):
        collection.insert_one({"_id": 2}, comment={"unit": name, "last": 1})
    with refused(263):
        collection.create_index("v", comment={"unit": name})
    with refused(263):
        collection.aggregate([{"$out": f"{name}out"}], comment={"unit": name})
    client.admin.command("commitUnit", name)
    assert set(stack.stored(name)) == {1}


def test_one_failed_document_of_an_unordered_command(stack, client, collection, name):
    documents = [{"_id": 1}, {"_id": 1}, {"_id": 2}]
    with pytest.raises(pymongo.errors.BulkWriteError):
        comment = {"unit": name, "begin": True, "last": True}
        collection.insert_many(documents, ordered=False, comment=comment)
    assert stack.stored(name) == {}
    with refused(251):
        client.admin.command("abortUnit", name)


def test_a_last_write_that_matches_nothing_commits(stack, collection, name):
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True})
    last = {"unit": name, "last": True}
    assert collection.delete_one({"_id": 2}, comment=last).deleted_count == 0
    assert last_unit(stack)[:2] == ("comment", "committed")
    assert set(stack.stored(name)) == {1}


def test_the_answer_of_abort(client, name):
    client.admin.command("beginUnit", name)
    client.admin.command("commitUnit", name)
    with refused(256):
        client.admin.command("abortUnit", name)
    client.admin.command("beginUnit", name + "b")
    client.admin.command("abortUnit", name + "b")
    with refused(251):
        client.admin.command("abortUnit", name + "b")


def test_a_driver_transaction_is_its_own_unit(stack, client, collection, name):
    with client.start_session() as session, session.start_transaction():
        collection.insert_one({"_id": 1}, comment={"unit": name}, session=session)
    assert last_unit(stack)[:2] == ("driver", "committed")
    assert set(stack.stored(name)) == {1}


@pytest.mark.parametrize("retried", [True, False])
def test_reads_and_plain_writes_of_others(stack, name, retried):
    with stack.proxy.client(retryWrites=retried) as other, stack.proxy.client() as client:
        collection = client[DATABASE][name]
        collection.insert_one({"_id": 1, "v": 1}, comment={"unit": name, "begin": True})
        assert other[DATABASE][name].find_one({"_id": 1}, comment={"unit": "x"}) is None
        assert other[DATABASE][name].find_one({"_id": 1}, comment={"unit": name})["v"] == 1
        client.admin.command("beginUnit", name + "b")
        with refused(112):
            other[DATABASE][name].update_one(
                {"_id": 1}, {"$set": {"v": 2}}, comment={"unit": name + "b"}
            )
        with refused(251):
            client.admin.command("commitUnit", name + "b")
        later = threading.Timer(1, client.admin.command, ("commitUnit", name))
        began = time.monotonic()
        later.start()
        assert other[DATABASE][name].update_one({"_id": 1}, {"$set": {"v": 3}}).matched_count == 1
        assert time.monotonic() - began > 0.8  # longer than unit.lockWait
        later.join()
    assert stack.stored(name) == {1: {"_id": 1, "v": 3}}


@pytest.mark.parametrize("which", ["begin", "in between", "last"])
def test_a_write_that_its_driver_repeats_is_done_once(stack, client, collection, name, which):
    collection.insert_one({"_id": 1, "v": 0})
    if which != "begin":
        client.admin.command("beginUnit", name)
    comment = {"unit": name, which: True}
    with one_answer_lost(stack, lambda command: "update" in command) as tap:
        with pymongo.MongoClient(tap.uri) as retrying:
            done = retrying[DATABASE][name].update_one({"_id": 1}, {"$inc": {"v": 1}}, comment=comment)
            assert done.modified_count == 1
    client.admin.command("commitUnit", name)
    assert stack.stored(name)[1]["v"] == 1


def test_a_large_answer_that_was_lost_rolls_the_unit_back(stack, client, collection, name):
    """It is known that the write was done, not what it was answered."""
    collection.insert_one({"_id": 1, "v": 0, "large": "x" * 50000})
    client.admin.command("beginUnit", name)
    with one_answer_lost(stack, lambda command: "findAndModify" in command) as tap:
        with pymongo.MongoClient(tap.uri) as retrying, refused(251):
            retrying[DATABASE][name].find_one_and_update(
                {"_id": 1}, {"$inc": {"v": 1}}, comment={"unit": name}
            )
    assert stack.stored(name)[1]["v"] == 0


def test_beginning_needs_a_login():
    with Stack({"unit.lifetime": "1s"}, auth=True) as own, Connection(own.proxy.port) as stranger:
        reply = stranger.run({"beginUnit": "unit", "$db": "admin"})
        assert reply["ok"] == 0


def test_boundary_observe(name):
    with Stack({"unit.boundary": "observe"}) as own, own.proxy.client() as client:
        client[DATABASE][name].insert_one({"_id": 1}, comment={"unit": name})
        assert set(own.stored(name)) == {1}
        with refused(59):
            client.admin.command("beginUnit", name)
