"""The catalogue of isolation anomalies, each shown to be prevented or, where it is not, to happen.

Names: A. Adya, "Weak Consistency" (1999): G0 dirty write, G1a aborted read, G1b intermediate read,
G1c circular information flow, OTV observed transaction vanishes, G-single read skew, G2-item write
skew, PMP predicate-many-preceders (phantom); P4 lost update: Berenson et al. (1995). The table in
the README says which level prevents which, and this file that it is so: a row that changes changes a
test here.
"""

import threading

import pytest
from conftest import DATABASE, Stack, is_transient
from scene import Scene

WRITE_CONFLICT = 112


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "300ms"}) as made:
        yield made


@pytest.fixture
def scene(stack, name):
    with Scene(stack, name) as made:
        yield made


def test_g0_dirty_write(scene):
    """Two transactions that write the same documents do not interleave: prevented."""
    assert scene.write(0, 1, 11)["ok"] == 1
    reply = scene.write(1, 1, 12)
    assert reply["code"] == WRITE_CONFLICT and is_transient(reply)
    assert scene.write(0, 2, 21)["ok"] == 1
    scene.commit(0)
    assert scene.stored() == {1: 11, 2: 21}


def test_g0_dirty_write_from_outside(scene):
    """A plain write waits for the transaction that holds its document: prevented."""
    assert scene.write(0, 1, 11)["ok"] == 1
    done = []
    update = {"update": scene.name, "updates": [{"q": {"_id": 1}, "u": {"$inc": {"v": 100}}}]}
    thread = threading.Thread(
        target=lambda: done.append(scene.outside.run({**update, "$db": DATABASE}))
    )
    thread.start()
    thread.join(0.15)
    assert not done
    assert scene.units[0].abort()["ok"] == 1
    thread.join()
    assert done[0]["ok"] == 1 and scene.stored()[1] == 110


@pytest.mark.parametrize("reader", [1, None], ids=["inside", "outside"])
@pytest.mark.parametrize("query", [None, {"_id": 1}, {"v": {"$gte": 10}}], ids=["all", "id", "v"])
def test_g1a_aborted_read(scene, reader, query):
    """What is rolled back was never to be seen: prevented."""
    assert scene.write(0, 1, 101)["ok"] == 1
    assert scene.read(reader, query)[1] == 10
    assert scene.units[0].abort()["ok"] == 1
    assert scene.read(reader, query)[1] == 10


@pytest.mark.parametrize("reader", [1, None], ids=["inside", "outside"])
def test_g1b_intermediate_read(scene, reader):
    """A value that its writer replaced before it committed was never to be seen: prevented."""
    assert scene.write(0, 1, 101)["ok"] == 1
    assert scene.read(reader)[1] == 10
    assert scene.write(0, 1, 11)["ok"] == 1
    assert scene.read(reader)[1] == 10
    scene.commit(0)
    assert scene.read(reader)[1] == (11 if reader is None else 10)  # inside: a snapshot


def test_g1c_circular_information_flow(scene):
    """Neither of two transactions sees what the other writes: prevented."""
    assert scene.write(0, 1, 11)["ok"] == 1
    assert scene.write(1, 2, 22)["ok"] == 1
    assert scene.read(0) == {1: 11, 2: 20}
    assert scene.read(1) == {1: 10, 2: 22}
    scene.commit(0)
    scene.commit(1)
    assert scene.stored() == {1: 11, 2: 22}


def test_otv_observed_transaction_vanishes(scene):
    """Of a transaction that was seen, nothing is hidden later by an uncommitted one: prevented."""
    assert scene.write(0, 1, 11)["ok"] == 1
    assert scene.write(0, 2, 19)["ok"] == 1
    scene.commit(0)
    assert scene.write(1, 1, 12)["ok"] == 1
    assert scene.read(2) == {1: 11, 2: 19}
    assert scene.write(1, 2, 18)["ok"] == 1
    assert scene.read(2) == {1: 11, 2: 19}
    scene.commit(1)
    assert scene.read() == {1: 12, 2: 18}


def test_p4_lost_update(scene):
    """Read, compute, write back, in two transactions: the second one has to run again. Prevented."""
    assert scene.read(0, {"_id": 1}) == scene.read(1, {"_id": 1}) == {1: 10}
    assert scene.write(0, 1, 11)["ok"] == 1
    scene.commit(0)
    reply = scene.write(1, 1, 12)
    assert reply["code"] == WRITE_CONFLICT and is_transient(reply)
    assert scene.stored()[1] == 11


def test_g_single_within_one_command(scene):
    """One command sees another transaction wholly or not at all: prevented."""
    assert scene.write(0, 1, 12)["ok"] == 1
    assert scene.write(0, 2, 18)["ok"] == 1
    assert scene.read(1) == scene.read() == {1: 10, 2: 20}
    scene.commit(0)
    assert scene.read(1) == {1: 10, 2: 20}
    assert scene.read(2) == scene.read() == {1: 12, 2: 18}


def test_g_single_read_skew(scene):
    """Between two commands of a transaction others commit, and the second one does not show it:
    prevented."""
    assert scene.read(0, {"_id": 1}) == {1: 10}
    assert scene.write(1, 1, 12)["ok"] == 1
    assert scene.write(1, 2, 18)["ok"] == 1
    scene.commit(1)
    assert scene.read(0, {"_id": 2}) == {2: 20}
    assert scene.read(0) == {1: 10, 2: 20}
    assert scene.read() == {1: 12, 2: 18}


def test_g_single_read_skew_outside(scene):
    """Between two commands in no transaction: NOT prevented, as in MongoDB."""
    assert scene.read(None, {"_id": 1}) == {1: 10}
    assert scene.write(1, 1, 12)["ok"] == 1
    assert scene.write(1, 2, 18)["ok"] == 1
    scene.commit(1)
    assert scene.read(None, {"_id": 2}) == {2: 18}


def test_g_single_plain_write(scene):
    """The same with a plain write between, in a collection that the transaction has read."""
    assert scene.read(0, {"_id": 1}) == {1: 10}
    update = {"update": scene.name, "updates": [{"q": {"_id": 2}, "u": {"$set": {"v": 99}}}]}
    assert scene.outside.run({**update, "$db": DATABASE})["ok"] == 1
    assert scene.read(0) == {1: 10, 2: 20}
    assert scene.read() == {1: 10, 2: 99}


def test_g_single_read_skew_before_a_write(scene):
    """The same is harmless where the transaction then writes what it has read: prevented."""
    assert scene.read(0, {"_id": 1}) == {1: 10}
    assert scene.write(1, 1, 12)["ok"] == 1
    assert scene.write(1, 2, 18)["ok"] == 1
    scene.commit(1)
    assert scene.write(0, 2, 25)["code"] == WRITE_CONFLICT
    assert scene.stored() == {1: 12, 2: 18}


def test_g2_item_write_skew(scene):
    """Two transactions read both documents and write one each: NOT prevented, as in MongoDB."""
    assert scene.read(0) == scene.read(1) == {1: 10, 2: 20}
    assert scene.write(0, 1, 11)["ok"] == 1
    assert scene.write(1, 2, 21)["ok"] == 1
    scene.commit(0)
    scene.commit(1)
    assert scene.stored() == {1: 11, 2: 21}


def test_pmp_phantom(scene):
    """The same query twice in a transaction, and another document between: prevented."""
    assert scene.read(0, {"v": 30}) == {}
    assert scene.units[1].insert(scene.name, {"_id": 3, "v": 30})["ok"] == 1
    assert scene.read(0, {"v": 30}) == {}  # not while it is uncommitted
    scene.commit(1)
    assert scene.read(0, {"v": 30}) == scene.read(0, {"_id": 3}) == {}
    assert scene.read(None, {"v": 30}) == {3: 30}
