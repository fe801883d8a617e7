"""holdfast prune: by a living holdfastd and on a stopped one's journal; the compacting copy, killed
at each of its steps."""

import json
import pathlib
import random
import signal
import subprocess
import time

import pytest
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, build_bin, holdfast, wait_until

EVERYTHING = ("--before", "0s", "--yes")


@pytest.fixture(scope="module")
def stopped():
    """A journal that was closed cleanly, with room in it that nothing uses."""
    with Stack() as stack:
        with Connection(stack.proxy.port) as connection:
            unit = RawTransaction(connection)
            for round_ in range(3):
                documents = [{"_id": f"{round_}-{i}", "v": "x" * 4000} for i in range(300)]
                assert unit.insert("c", *documents)["ok"] == 1
                assert unit.commit()["ok"] == 1
                unit.next()
        assert stack.proxy.stop() == 0
        yield stack
        stack.proxy.start()


def units(wal):
    return json.loads(holdfast("units", "--wal", wal, "--json").stdout)["units"]


def data_file(wal):
    return pathlib.Path(wal) / "data.mdb"


def test_a_living_holdfastd_prunes_when_asked(stack, raw, name):
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    assert unit.commit()["ok"] == 1
    other = RawTransaction(raw)
    other.insert(name, {"_id": 2})
    wal = stack.proxy.wal
    before = units(wal)
    said = holdfast("prune", "--wal", wal, "--before", "0s", check=2).stderr
    assert "30 minutes" in said and "--yes" in said
    would = json.loads(
        holdfast("prune", "--wal", wal, "--before", "0s", "--dry-run", "--json", check=0).stdout
    )
    assert would == {"units": len(before) - 1, "dryRun": True} and units(wal) == before
    pruned = []

    def all_that_ended_are_gone():
        """The server says that they are on its disk within a second or two."""
        done = holdfast("prune", "--wal", wal, *EVERYTHING, "--json", check=0)
        pruned.append(json.loads(done.stdout)["units"])
        return [unit["state"] for unit in units(wal)] == ["open"]

    wait_until(all_that_ended_are_gone, 20, "all that ended are gone")
    assert sum(pruned) <= len(before) - 1  # a round of the pruner's own may have taken them
    assert other.commit()["ok"] == 1
    stack.proxy.verify()
    assert "needs a stopped" in holdfast(
        "prune", "--wal", wal, "--compact", *EVERYTHING, check=2
    ).stderr
    # By its own retention: nothing is old enough.
    assert json.loads(holdfast("prune", "--wal", wal, "--json", check=0).stdout)["units"] == 0
    assert "expected a time" in holdfast("prune", "--wal", wal, "--before", 7, check=2).stderr


def test_a_commit_is_answered_while_a_backlog_is_pruned(stack, client, name):
    """Short transactions: no unit waits for more than one of them, and the lease is renewed."""
    client[DATABASE][name].insert_many([{"_id": i} for i in range(20_000)])
    program = [str(build_bin() / "holdfast"), "prune", "--wal", stack.proxy.wal, *EVERYTHING]
    longest = 0
    with subprocess.Popen(program) as pruning, Connection(stack.proxy.port) as connection:
        unit = RawTransaction(connection)
        while pruning.poll() is None:
            began = time.monotonic()
            assert unit.insert(name, {"_id": f"more {unit.number}"})["ok"] == 1
            assert unit.commit()["ok"] == 1
            longest = max(longest, time.monotonic() - began)
            unit.next()
        assert pruning.returncode == 0
    assert longest < 5
    stack.proxy.verify()


def test_what_the_server_may_have_lost_stays(name):
    """After a crash the probe that is on the server tells what no recovery will need."""
    with Stack() as stack:
        with Connection(stack.proxy.port) as connection:
            unit = RawTransaction(connection)
            unit.insert(name, {"_id": 1})
            assert unit.commit()["ok"] == 1
            state = stack.direct["holdfast"]["state"]
            wait_until(lambda: state.find_one({"_id": "probe"})["lsn"] >= 3, 10, "a probe")
            stack.proxy.kill()
        wal = stack.proxy.wal
        done = holdfast("prune", "--wal", wal, *EVERYTHING)
        assert done.returncode == 2 and "--upstream" in done.stderr
        known = state.find_one({"_id": "probe"})
        upstream = ("--upstream", stack.server.uri)
        state.update_one({"_id": "probe"}, {"$set": {"lsn": Int64(2)}})
        holdfast("prune", "--wal", wal, *EVERYTHING, *upstream, check=0)
        assert len(units(wal)) == 1
        state.update_one({"_id": "probe"}, {"$set": {"journal": "another"}})
        done = holdfast("prune", "--wal", wal, *EVERYTHING, *upstream)
        assert done.returncode == 2 and "not of this journal" in done.stderr
        state.replace_one({"_id": "probe"}, known)
        holdfast("prune", "--wal", wal, *EVERYTHING, *upstream, check=0)
        assert units(wal) == []
        done = holdfast("prune", "--wal", wal, "--compact")
        assert done.returncode == 2 and "not closed cleanly" in done.stderr
        stack.proxy.start()


def test_no_journal_is_made_or_touched_by_mistake(tmp_path):
    done = holdfast("prune", "--wal", tmp_path, "--compact", *EVERYTHING)
    assert done.returncode == 2 and list(tmp_path.iterdir()) == []


def test_space_goes_back_to_the_disk(stopped):
    wal = stopped.proxy.wal
    records = json.loads(holdfast("export", "--wal", wal).stdout.splitlines()[0])
    status = json.loads(holdfast("status", "--wal", wal, "--json").stdout)
    size = data_file(wal).stat().st_size
    done = json.loads(holdfast("prune", "--wal", wal, "--compact", "--json", check=0).stdout)
    assert done["units"] == 0 and done["bytesAfter"] <= done["bytesBefore"] == size
    after = json.loads(holdfast("status", "--wal", wal, "--json").stdout)
    same = ("journal", "identity", "epoch", "closedCleanly", "records", "firstLsn", "lastLsn")
    assert {key: after[key] for key in same} == {key: status[key] for key in same}
    assert json.loads(holdfast("export", "--wal", wal).stdout.splitlines()[0]) == records
    assert data_file(wal).stat().st_mode & 0o777 == 0o600
    holdfast("verify", "--wal", wal, check=0)
    assert not (pathlib.Path(wal) / "journal.new").exists()


def test_somebody_who_reads_is_not_disturbed(stopped):
    """A reader has the old file and its lock file: it finishes first."""
    wal = stopped.proxy.wal
    program = [str(build_bin() / "holdfast"), "export", "--wal", wal]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as reader:
        assert reader.stdout.readline()  # more than a pipe holds is still to come
        done = holdfast("prune", "--wal", wal, "--compact")
        assert done.returncode == 2 and "reads the journal" in done.stderr
        reader.stdout.read()
    holdfast("prune", "--wal", wal, "--compact", check=0)


STEPS = ("compact_copied", "compact_checked", "compact_renamed")


@pytest.mark.parametrize("step", STEPS)
def test_a_compaction_that_is_killed_leaves_the_journal_whole(stopped, step):
    wal = stopped.proxy.wal
    before = holdfast("export", "--wal", wal, check=0).stdout
    died = holdfast(
        "prune", "--wal", wal, "--compact", environment={"HOLDFAST_CRASH_AT": step}
    )
    assert died.returncode == -signal.SIGKILL
    holdfast("verify", "--wal", wal, check=0)
    assert holdfast("export", "--wal", wal, check=0).stdout == before
    holdfast("prune", "--wal", wal, "--compact", check=0)
    assert holdfast("export", "--wal", wal, check=0).stdout == before
    assert not (pathlib.Path(wal) / "journal.new").exists()


def test_killed_at_random_moments(stopped, seed):
    wal = stopped.proxy.wal
    moments = random.Random(seed)
    before = holdfast("export", "--wal", wal, check=0).stdout
    program = [str(build_bin() / "holdfast"), "prune", "--wal", wal, "--compact"]
    for _ in range(10):
        with subprocess.Popen(program, stdout=subprocess.PIPE) as compaction:
            time.sleep(moments.random() * 0.2)
            compaction.kill()
        assert holdfast("export", "--wal", wal, check=0).stdout == before
    holdfast("verify", "--wal", wal, check=0)
    # Killed while it opened the journal, it has left it as one that was not closed cleanly.
    holdfast("recover", "--wal", wal, "--upstream", stopped.server.uri, check=0)


def test_pruned_and_compacted_it_is_small_and_goes_on(stopped):
    wal = stopped.proxy.wal
    size = data_file(wal).stat().st_size
    status = json.loads(holdfast("status", "--wal", wal, "--json").stdout)
    done = json.loads(
        holdfast(
            "prune", "--wal", wal, "--compact", *EVERYTHING, "--json",
            "--upstream", stopped.server.uri, check=0,
        ).stdout
    )  # fmt: skip
    assert done["units"] == 3 and done["bytesBefore"] >= size
    assert data_file(wal).stat().st_size == done["bytesAfter"] < 100_000 < size
    stopped.proxy.start()
    with Connection(stopped.proxy.port) as connection:
        unit = RawTransaction(connection, number=10)
        unit.insert("c", {"_id": "after"})
        assert unit.commit()["ok"] == 1
    assert stopped.proxy.stop() == 0
    lines = holdfast("export", "--wal", wal, "--records", check=0).stdout.splitlines()
    # Numbers are not given out twice.
    assert json.loads(lines[0])["lsn"] == status["lastLsn"] + 1
