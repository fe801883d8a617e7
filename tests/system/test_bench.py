"""The load driver counts right: what it reports is what the server holds. Nothing here is timed."""

import json
import socket
import subprocess
import threading

import pytest
from conftest import Stack
from holdfast_testing import build_bin, free_port, wait_until

BENCH_DATABASE = "holdfast_bench"
CONNECTIONS = 8


def bench(*arguments, check=0):
    """Runs holdfast-bench: its JSON, or without one its standard error."""
    done = subprocess.run(
        [str(build_bin() / "holdfast-bench"), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == check, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout) if done.stdout.startswith("{") else done.stderr


def run(stack, load, *arguments, check=0):
    options = ["--connections", CONNECTIONS, "--seconds", 1, "--warmup", 0.2, "--json"]
    return bench(load, "--target", stack.proxy.address, *options, *arguments, check=check)


def increments(stack):
    """The sum of all values: each update that was carried out counts one."""
    database = stack.direct[BENCH_DATABASE]
    total = {"$group": {"_id": None, "sum": {"$sum": "$value"}}}
    found = [
        row["sum"]
        for name in database.list_collection_names()
        for row in database[name].aggregate([total])
    ]
    return sum(found)


def check_figures(result):
    assert result["errors"] == 0 and "firstError" not in result
    assert 0 < result["operations"] <= result["operationsTotal"]
    assert result["operationsPerSecond"] == pytest.approx(result["operations"] / result["seconds"])
    latency = result["latencyMicros"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]


def test_point_read(stack):
    result = run(stack, "point-read", "--pid", stack.proxy.process.pid)
    check_figures(result)
    assert result["retries"] == 0
    (process,) = result["processes"]
    assert process["cpuSeconds"] > 0
    assert process["rssBytesAfter"] > 1024 * 1024


def test_point_write_counts_what_the_server_did(stack):
    """Every acknowledged update, warm-up and drain included, is there exactly once; as plain
    writes without a session they make no units."""
    before, units = increments(stack), len(stack.proxy.units())
    result = run(stack, "point-write")
    check_figures(result)
    assert increments(stack) - before == result["operationsTotal"]
    made = len(stack.proxy.units()) - units
    assert made <= 100, "only making the documents makes units"


def test_unit_counts_what_the_server_did(stack):
    before = increments(stack)
    result = run(stack, "unit")
    check_figures(result)
    assert result["retries"] == 0, "connections have documents of their own"
    assert increments(stack) - before == 3 * result["operationsTotal"]
    committed = [unit for unit in stack.proxy.units() if unit["state"] == "committed"]
    assert len(committed) >= result["operationsTotal"]


def test_units_that_meet(stack):
    """Two drivers on the same few documents: they wait for each other, and none is lost or
    doubled."""
    few = ["--documents", 3 * CONNECTIONS]
    run(stack, "unit", *few)
    before = increments(stack)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(run(stack, "unit", *few))) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    for result in results:
        check_figures(result)
    total = sum(result["operationsTotal"] for result in results)
    assert increments(stack) - before == 3 * total


CONTENDED = ["--hot", 2, "--documents", 2 + 2 * CONNECTIONS]


SERIALIZABLE = ["--serializable", "--by-filter"]


@pytest.mark.parametrize("options", [[], ["--blind"], ["--plain", CONNECTIONS // 2], SERIALIZABLE])
def test_contended_counts_what_the_server_did(stack, options):
    """Transactions that meet are tried again, and each counts once, on the hot document and on the
    writer's own."""
    before = increments(stack)
    result = run(stack, "contended", *CONTENDED, *options)
    check_figures(result)
    transactions, plain = result["transactions"], result["plain"]
    total = transactions["operationsTotal"] + plain["operationsTotal"]
    assert total == result["operationsTotal"]
    assert increments(stack) - before == transactions["operationsTotal"] + total
    assert (plain["operationsTotal"] > 0) == ("--plain" in options)
    if options is not SERIALIZABLE:  # which take turns, once they have met
        assert (result["retries"] > 0) == ("--blind" not in options)
    for figures in transactions, plain:
        assert 0 <= figures["fewest"] <= figures["median"] <= figures["most"]
    assert 1 <= transactions["maxByMedian"]


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_large_read(stack, size):
    """Replies below and above one receive buffer."""
    check_figures(run(stack, "large-read", "--bytes", size))


def test_idle(stack):
    result = run(stack, "idle", "--pid", stack.proxy.process.pid, "--connections", 50)
    assert result["errors"] == 0
    assert result["operations"] == 50


def test_text_output(stack):
    done = subprocess.run(
        [str(build_bin() / "holdfast-bench"), "point-read", "--target", stack.proxy.address]
        + ["--seconds", "0.2", "--warmup", "0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    for word in ("operations", "a second", "latency", "p99", "own CPU", "errors       0"):
        assert word in done.stdout


def test_error_replies_are_errors():
    """A unit may make two writes here, and each tries three: every one is refused, each refusal is
    counted, the first one is told, and nothing counts as done."""
    with Stack({"unit.maxWrites": "2", "unit.multiWrites": "off"}) as stack:
        result = run(stack, "unit", check=1)
        assert result["errors"] > 0
        assert "TransactionTooLarge" in result["firstError"]
        assert result["operationsTotal"] == 0
        assert increments(stack) == 0


def test_a_target_that_goes_away():
    """Lost connections and processes are errors, and with no connection left the run ends at once,
    with figures that still make sense: also if that was during the warm-up."""
    with Stack() as own:
        for warmup in (0, 40):
            before = increments(own)
            killer = threading.Thread(
                target=lambda before=before: (
                    wait_until(lambda: increments(own) > before, 30, "the load runs"),
                    own.proxy.kill(),
                )
            )
            killer.start()
            options = ["--seconds", 40, "--warmup", warmup, "--connections", 4, "--json"]
            options += ["--pid", own.proxy.process.pid]
            result = bench("point-write", "--target", own.proxy.address, *options, check=1)
            killer.join()
            # One a connection, and one each time that the dead process is looked at.
            assert 4 <= result["errors"] <= 6
            assert result["seconds"] < 30 and result["operationsPerSecond"] < 1e6
            assert 0 <= result["processes"][0]["cpuSeconds"] < 30
            # A write may be done and its answer lost: one on each connection.
            assert 0 <= increments(own) - before - result["operationsTotal"] <= 4
            own.proxy.start()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "which load"),
        (["point-read"], "--target HOST:PORT is missing"),
        (["nothing", "--target", "localhost:1"], "there is no load nothing"),
        (["idle", "more", "--target", "localhost:1"], "there is no load more"),
        (["idle", "--target", "localhost"], "HOST:PORT"),
        (["idle", "--target", "localhost:1", "--connections", "0"], "--connections 0"),
        (["idle", "--target", "localhost:1", "--connections", "1x"], "--connections 1x"),
        (["idle", "--target", "localhost:1", "--seconds", "nan"], "--seconds nan"),
        (["idle", "--target", "localhost:1", "--seconds", "0"], "--seconds 0"),
        (["idle", "--target", "localhost:1", "--warmup"], "--warmup needs a value"),
        (["idle", "--nonsense"], "unknown option --nonsense"),
        (["unit", "--target", "localhost:1", "--documents", "2"], "needs 3 for each"),
        (["large-read", "--target", "localhost:1", "--bytes", "99000000"], "--bytes 99000000"),
    ],
)
def test_bad_options(arguments, message):
    assert message in bench(*arguments, check=2)


def test_nobody_listens():
    said = bench("idle", "--target", f"127.0.0.1:{free_port()}", check=2)
    assert "cannot connect to the target" in said


def test_a_process_that_is_not_there(stack):
    said = bench("idle", "--target", stack.proxy.address, "--pid", 2**31 - 1, check=2)
    assert "there is no process" in said


def test_a_target_that_is_no_database():
    """Bytes that are no message are refused with words."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk():
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                accepted.recv(4096)

        thread = threading.Thread(target=talk)
        thread.start()
        said = bench("idle", "--target", f"127.0.0.1:{listener.getsockname()[1]}", check=2)
        thread.join()
    assert "does not speak the MongoDB wire protocol" in said
