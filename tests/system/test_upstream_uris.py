"""URIs as people have them, of the server behind the proxy and of the proxy itself: seed lists from DNS
(a small name server of our own, dns_fake.c), IPv6, local sockets, directConnection, loadBalanced.

Several hosts and replicaSet= are in test_failover.py.
"""

import os
import socket
import struct
import tempfile
import threading

import pymongo
import pytest
from holdfast_testing import (
    Connection,
    FakeReplicaSet,
    Proxy,
    ProxyFailed,
    Server,
    ask_control,
    build_bin,
)

SRV, TXT = 33, 16


def encode_name(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


class NameServer:
    """Answers SRV and TXT. records: {(name, type): [data]}; everything else does not exist."""

    def __init__(self, records):
        self.records = records
        self.asked = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    @property
    def environment(self):
        preloaded = str(build_bin() / "dns_fake.so")
        return {"LD_PRELOAD": preloaded, "HOLDFAST_DNS_PORT": str(self.port)}

    def _serve(self):
        while True:
            try:
                query, peer = self._socket.recvfrom(4096)
                self._socket.sendto(self._answer(query), peer)
            except OSError:
                return

    def _answer(self, query):
        at, parts = 12, []
        while query[at]:
            parts.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, (kind,) = ".".join(parts).lower(), struct.unpack_from(">H", query, at + 1)
        self.asked.append((name, kind))
        found = self.records.get((name, kind), [])
        answers = b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data for data in found
        )
        exists = any(known == name for known, _ in self.records)
        flags = 0x8580 | (0 if exists else 3)
        header = query[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0)
        return header + query[12 : at + 5] + answers


def srv(host, port):
    return struct.pack(">HHH", 0, 0, port) + encode_name(host)


def txt(text):
    return bytes([len(text)]) + text.encode()


SERVICE = "_mongodb._tcp.cluster.fake.test"


def test_a_seed_list_from_dns():
    with FakeReplicaSet(3, users={"own": "secret"}) as members:
        hosts = [srv(f"node{n.index}.fake.test", n.port) for n in members.nodes]
        records = {(SERVICE, SRV): hosts}
        records[("cluster.fake.test", TXT)] = [txt("replicaSet=fake&authSource=admin")]
        uri = "mongodb+srv://own:secret@cluster.fake.test/?tls=false&retryWrites=true"
        with NameServer(records) as names:
            with Proxy(uri, environment=names.environment) as proxy:
                upstream = ask_control(proxy, "/status")[1]["upstream"]
                assert (upstream["set"], upstream["followed"]) == ("fake", True)
                with proxy.client(user=("own", "secret")) as client:
                    client.test.c.insert_one({"_id": 1})
                    members.step_down()
                    client.test.c.insert_one({"_id": 2})
                assert proxy.stop() == 0
            assert {(SERVICE, SRV), ("cluster.fake.test", TXT)} <= set(names.asked)


def test_routers_from_dns():
    with FakeReplicaSet(2, sharded=True) as members:
        hosts = [srv(f"node{n.index}.fake.test", n.port) for n in members.nodes]
        uri = "mongodb+srv://cluster.fake.test/?tls=false"
        with NameServer({(SERVICE, SRV): hosts, ("cluster.fake.test", TXT): []}) as names:
            with Proxy(uri, environment=names.environment) as proxy:
                upstream = ask_control(proxy, "/status")[1]["upstream"]
                assert upstream["topology"] == "sharded"
                assert upstream["current"].startswith("node")
                with Connection(proxy.port) as raw:
                    command = {"insert": "c", "documents": [{}], "$db": "test"}
                    assert raw.run(command)["ok"] == 1
                    members.kill(members.nodes[members.commands[-1][0]])
                    assert raw.run(command)["ok"] == 1


@pytest.mark.parametrize(
    "records",
    [
        {},
        {(SERVICE, SRV): [srv("node.elsewhere.test", 1)], ("cluster.fake.test", TXT): []},
        {
            (SERVICE, SRV): [srv("node.fake.test", 1)],
            ("cluster.fake.test", TXT): [txt("readPreference=secondary")],
        },
    ],
    ids=["nothing", "another_domain", "an_option_that_is_not_for_dns"],
)
def test_a_seed_list_that_is_none(records):
    uri = "mongodb+srv://own:secret@cluster.fake.test/"
    with NameServer(records) as names:
        with pytest.raises(ProxyFailed) as failed:
            Proxy(uri, {"upstream.connectTimeout": "1s"}, environment=names.environment)
    assert "mongodb+srv://cluster.fake.test cannot be resolved" in failed.value.output
    assert "secret" not in failed.value.output


# ---------------------------------------------------------------- addresses


class Relay:
    """Carries what comes to a listening socket to 127.0.0.1:`port`."""

    def __init__(self, listener, port):
        self.listener = listener
        self._port = port
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                peer = self.listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                return
            for source, target in ((peer, server), (server, peer)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    @staticmethod
    def _carry(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def transfer(client):
    """A transaction that is committed."""
    with client.start_session() as session:
        session.with_transaction(lambda s: client.test.c.insert_one({"_id": 1}, session=s))
    assert client.test.c.count_documents({}) == 1


def test_a_local_socket():
    with Server() as server, tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "mongodb-27017.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(64)
        with Relay(listener, server.port):
            with Proxy(f"mongodb://{path.replace('/', '%2F')}/") as proxy:
                with proxy.client() as client:
                    transfer(client)
                proxy.restart()
                with proxy.client() as client:
                    assert client.test.c.count_documents({}) == 1
                assert proxy.stop() == 0


def test_ipv6():
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Server() as server, Relay(listener, server.port):
        with Proxy(f"mongodb://[::1]:{listener.getsockname()[1]}/") as proxy:
            with proxy.client() as client:
                transfer(client)
            assert proxy.stop() == 0


# ---------------------------------------------------------------- of the proxy's own clients


def test_uris_of_clients():
    with FakeReplicaSet(3) as members, Proxy(members.uri) as proxy:
        with pymongo.MongoClient(proxy.uri, directConnection=True) as client:
            transfer(client)
        with pymongo.MongoClient(proxy.uri, loadBalanced=True, serverSelectionTimeoutMS=500) as own:
            with pytest.raises(pymongo.errors.ConfigurationError, match="load balancing mode"):
                own.admin.command("ping")
        other = pymongo.MongoClient(proxy.uri, replicaSet="fake", serverSelectionTimeoutMS=500)
        with other, pytest.raises(pymongo.errors.ServerSelectionTimeoutError):
            other.admin.command("ping")


def test_a_load_balancer_is_refused_as_upstream():
    with pytest.raises(ProxyFailed) as failed:
        Proxy("mongodb://127.0.0.1:1/?loadBalanced=true")
    assert "take it out and name the servers themselves" in failed.value.output
