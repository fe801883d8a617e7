"""What hello claims to be: a mongos, so that every driver offers transactions and retries."""

import bson
import pytest
from holdfast_testing import Connection, encode_query
from pymongo.errors import ConfigurationError

HELLOS = [{"hello": 1}, {"isMaster": 1}, {"ismaster": 1, "helloOk": True}]


def check_mongos(hello):
    assert hello["ok"] == 1
    assert hello["msg"] == "isdbgrid"
    for absent in ("setName", "hosts", "me", "primary", "secondary", "recoveryToken"):
        assert absent not in hello
    assert hello.get("isWritablePrimary", hello.get("ismaster")) is True
    assert hello["maxWireVersion"] >= 8
    assert hello["minWireVersion"] <= 8
    assert hello["logicalSessionTimeoutMinutes"] > 0
    assert hello["maxMessageSizeBytes"] == 48000000
    assert hello["maxBsonObjectSize"] == 16 * 1024 * 1024


@pytest.mark.parametrize("command", HELLOS, ids=lambda command: next(iter(command)))
def test_hello_is_a_mongos(raw, command):
    """Each spelling of hello, as OP_MSG, is answered as a mongos answers."""
    check_mongos(raw.run({**command, "$db": "admin"}))


@pytest.mark.parametrize("command", HELLOS, ids=lambda command: next(iter(command)))
def test_legacy_hello_is_a_mongos(raw, command):
    """The first hello of most drivers is an OP_QUERY; it is answered by an OP_REPLY."""
    raw.send(encode_query(command))
    check_mongos(raw.receive())


def test_legacy_hello_then_commands(raw):
    """After the legacy hello the connection goes on with OP_MSG."""
    raw.send(encode_query({"isMaster": 1, "client": {"driver": {"name": "x", "version": "1"}}}))
    check_mongos(raw.receive())
    assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1


def test_hello_offers_sasl_mechanisms(raw):
    """saslSupportedMechs is answered or left out, never an error."""
    reply = raw.run({"hello": 1, "saslSupportedMechs": "admin.nobody", "$db": "admin"})
    check_mongos(reply)


def test_pymongo_sees_a_sharded_topology(client):
    client.admin.command("ping")
    assert client.topology_description.topology_type_name == "Sharded"
    assert client.is_mongos


def test_whatever_name_was_dialled(stack):
    """A mongos hello names no hosts, so that the driver stays with the address it has dialled."""
    import pymongo

    with pymongo.MongoClient(f"mongodb://localhost:{stack.proxy.port}/") as client:
        client.admin.command("ping")
        assert client.address == ("localhost", stack.proxy.port)


def test_sessions_are_offered(client):
    with client.start_session() as session:
        assert client.test.c.find_one({}, session=session) is None
        try:
            with session.start_transaction():
                client.test.c.find_one({}, session=session)
        except ConfigurationError as error:
            pytest.fail(f"the driver refuses a transaction: {error}")


def test_streaming_hello_is_not_promised_in_vain(stack):
    """A monitor that asks for streamed hellos gets an answer within its time, streamed or not."""
    with Connection(stack.proxy.port) as raw:
        hello = raw.run({"hello": 1, "$db": "admin"})
        if "topologyVersion" not in hello:
            return
        again = {"hello": 1, "topologyVersion": hello["topologyVersion"]}
        reply = raw.run(
            {**again, "maxAwaitTimeMS": bson.Int64(300), "$db": "admin"}, flags=1 << 16
        )
        check_mongos(reply)
