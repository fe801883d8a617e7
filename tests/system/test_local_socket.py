"""holdfastd behind a local socket, as drivers on the same machine reach it."""

import os
import stat
import tempfile
import urllib.parse

import pymongo
import pytest
from conftest import DATABASE
from holdfast_testing import Process, Server, build_bin


@pytest.fixture
def server():
    with Server() as made:
        yield made


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="holdfast-sock-") as made:  # a path is short
        yield made


def start(server, folder, path, wal="wal"):
    arguments = ["--listen", f"unix:{path}", "--upstream", server.uri, "--wal", f"{folder}/{wal}"]
    return Process([build_bin() / "holdfastd", *arguments], name="holdfastd")


def client(path):
    return pymongo.MongoClient(
        f"mongodb://{urllib.parse.quote(path, safe='')}/", serverSelectionTimeoutMS=20000
    )


def test_transactions(server, folder):
    """A transaction is a unit there as anywhere; the file has the rights that the umask leaves, and
    what a killed process has left is no obstacle for the next one."""
    path = os.path.join(folder, "mongo.sock")
    before = os.umask(0o027)
    try:
        process = start(server, folder, path)
    finally:
        os.umask(before)
    try:
        with client(path) as mongo, mongo.start_session() as session:
            accounts = mongo[DATABASE]["local"]
            with session.start_transaction():
                accounts.insert_one({"_id": 1, "n": 1}, session=session)
                accounts.insert_one({"_id": 2, "n": 2}, session=session)
            with session.start_transaction():
                accounts.delete_one({"_id": 1}, session=session)
                session.abort_transaction()
            assert [document["_id"] for document in accounts.find().sort("_id")] == [1, 2]
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o750
        assert f"unix:{path}" in process.output(), "the log says where"
        process.kill()
        assert os.path.exists(path)
        process = start(server, folder, path)
        with client(path) as mongo:
            assert mongo[DATABASE]["local"].count_documents({}) == 2
    finally:
        process.kill()


def test_somebody_listens_there(server, folder):
    """A socket at which somebody listens is not taken away, nor is a file that is none."""
    path = os.path.join(folder, "mongo.sock")
    process = start(server, folder, path)
    try:
        with client(path) as mongo:
            mongo.admin.command("ping")
        with Server() as other:
            second = start(other, folder, path, wal="other")
            assert second.wait(60) != 0
            assert "cannot listen on" in second.output()
        with client(path) as mongo:
            mongo.admin.command("ping")
    finally:
        process.kill()
    os.unlink(path)
    with open(path, "w") as file:
        file.write("precious")
    process = start(server, folder, path)
    assert process.wait(60) != 0
    with open(path) as file:
        assert file.read() == "precious"
