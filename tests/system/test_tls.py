"""TLS with clients, with HTTP callers and with the server: real drivers, certificates by openssl."""

import os
import signal
import socket
import ssl
import struct
import subprocess
import time

import pymongo
import pytest
from conftest import DATABASE, Stack
from holdfast_testing import (
    Authority,
    Proxy,
    Server,
    build_bin,
    encode_message,
    encode_request,
    holdfast,
    receive_all,
    wait_until,
)
from holdfast_testing.wire import decode_message, encode_query, receive_message
from http_stack import HttpStack
from node_driver import node_driver
from pymongo.errors import OperationFailure, PyMongoError

USER = ("bob", "pass word", [("readWrite", DATABASE)])
PING = {"ping": 1, "$db": "admin"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"), "Another authority")


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue("holdfast")


def require(certificate, **more):
    settings = {"net.tls.mode": "requireTLS", "net.tls.certificateKeyFile": certificate}
    return {**settings, **more}


@pytest.fixture(scope="module")
def stack(certificate):
    """The server without TLS, clients only with it, and slow ones closed soon."""
    with Stack(require(certificate, **{"net.handshakeTimeout": "2s"})) as made:
        yield made


def client_of(stack, authority, **options):
    options.setdefault("tlsCAFile", str(authority.file))
    return stack.proxy.client(tls=True, **options)


def raw_tls(port, authority, certificate=None, **options):
    """A socket that speaks TLS with the proxy."""
    context = ssl.create_default_context(cafile=str(authority.file))
    if certificate is not None:
        context.load_cert_chain(str(certificate))
    for name, value in options.items():
        setattr(context, name, value)
    plain = socket.create_connection(("127.0.0.1", port), 20)
    return context.wrap_socket(plain, server_hostname="localhost")


def logged(stack, message, reason=""):
    return [
        entry
        for entry in stack.proxy.log()
        if message in entry["msg"] and reason in entry["attr"].get("reason", "")
    ]


def told(stack, message, reason=""):
    wait_until(lambda: logged(stack, message, reason), 10, f"the log says: {message} {reason}")


# ---------------------------------------------------------------- clients


def test_driver_with_transactions(stack, authority, name):
    """Everything that goes in plain goes with TLS: transactions, cursors, big documents."""
    with client_of(stack, authority) as client:
        collection = client[DATABASE][name]
        with client.start_session() as session:
            with session.start_transaction():
                collection.insert_many(
                    [{"_id": i, "x": "x" * 700_000} for i in range(20)], session=session
                )
        assert sum(len(d["x"]) for d in collection.find(batch_size=3)) == 20 * 700_000
        with pytest.raises(ZeroDivisionError):
            with client.start_session() as session, session.start_transaction():
                collection.delete_many({}, session=session)
                raise ZeroDivisionError
    assert len(stack.stored(name)) == 20


def test_only_the_newest_version(certificate, authority):
    """net.tls.minVersion: TLS1_3 refuses 1.2."""
    settings = require(certificate, **{"net.tls.minVersion": "TLS1_3"})
    with Stack(settings) as stack:
        with raw_tls(stack.proxy.port, authority) as peer:
            assert peer.version() == "TLSv1.3"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            raw_tls(stack.proxy.port, authority, maximum_version=ssl.TLSVersion.TLSv1_2).close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_both_versions_and_nothing_older(stack, authority):
    """TLS 1.2 with forward secrecy and AEAD, TLS 1.3; not 1.1, not CBC; ALPN is not looked at."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with raw_tls(
            stack.proxy.port, authority, minimum_version=version, maximum_version=version
        ) as peer:
            peer.sendall(encode_message(PING))
            assert decode_message(receive_message(peer))[0]["ok"] == 1
            cipher, spoken, _ = peer.cipher()
            assert "GCM" in cipher or "CHACHA20" in cipher
    context = ssl.create_default_context(cafile=str(authority.file))
    context.set_alpn_protocols(["http/1.1"])
    with context.wrap_socket(
        socket.create_connection(("127.0.0.1", stack.proxy.port)), server_hostname="localhost"
    ) as peer:
        assert peer.selected_alpn_protocol() is None
    old = ssl.create_default_context(cafile=str(authority.file))
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    cbc = ssl.create_default_context(cafile=str(authority.file))
    cbc.maximum_version = ssl.TLSVersion.TLSv1_2
    cbc.set_ciphers("ECDHE-ECDSA-AES128-SHA:AES128-SHA")
    for refused in (old, cbc):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            refused.wrap_socket(
                socket.create_connection(("127.0.0.1", stack.proxy.port)),
                server_hostname="localhost",
            ).close()


def test_a_plain_client_is_told_in_the_log(stack):
    """A driver without tls=true: its connection ends, and the log says what to do."""
    with pytest.raises(PyMongoError):
        with stack.proxy.client(serverSelectionTimeoutMS=1500) as client:
            client.admin.command("ping")
    told(stack, "no TLS with the client", "tls=true")
    with socket.create_connection(("127.0.0.1", stack.proxy.port), 10) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert receive_all(peer) == b""
    told(stack, "no TLS with the client", "plain HTTP")


def hello_bytes(authority):
    """A ClientHello as Python sends it."""
    context = ssl.create_default_context(cafile=str(authority.file))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def test_garbage_in_the_handshake(stack, authority):
    """Whatever comes in place of a handshake ends that connection and nothing else."""
    hello = hello_bytes(authority)
    record = b"\x16\x03\x01"
    cases = [
        b"\x16",
        record + struct.pack(">H", 5) + b"\xff" * 5,
        record + struct.pack(">H", 0xFFFF) + b"x" * 3000,
        record + struct.pack(">H", 0),
        b"\x16\xff\xff\xff\xff" + os.urandom(500),
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x17\x03\x03\x00\x20" + os.urandom(32),
        b"\x80\x2e\x01\x00\x02" + os.urandom(44),
        os.urandom(3000),
        hello[: len(hello) // 2],
        hello[:4],
        hello + hello,
        hello + os.urandom(2000),
        hello[:20] + bytes(len(hello) - 20),
        hello + b"\x14\x03\x03\x00\x01\x01" + b"\x17\x03\x03\x00\x40" + os.urandom(64),
    ]
    for i in range(0, len(hello), 7):
        cases.append(hello[:i] + bytes([hello[i] ^ 0x55]) + hello[i + 1 :])
    for data in cases:
        with socket.create_connection(("127.0.0.1", stack.proxy.port), 20) as peer:
            peer.sendall(data)
            try:
                peer.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused by its first bytes
            receive_all(peer)
    with client_of(stack, authority) as client:
        assert client.admin.command("ping")["ok"] == 1


def test_a_client_that_stops_in_the_handshake(stack, authority):
    """It holds no worker, has no connection to the server, and is closed in time; so is one that
    is through and says nothing."""
    hello = hello_bytes(authority)
    idle = [socket.create_connection(("127.0.0.1", stack.proxy.port), 20) for _ in range(20)]
    try:
        for i, peer in enumerate(idle):
            peer.sendall(hello[: i * 20])
        silent = raw_tls(stack.proxy.port, authority)
        with client_of(stack, authority) as client:
            assert client.admin.command("ping")["ok"] == 1
        for peer in [*idle, silent]:
            receive_all(peer)
        told(stack, "no TLS with the client", "took too long")
        told(stack, "no first message in time")
    finally:
        for peer in [*idle, silent]:
            peer.close()


def test_broken_records(stack, authority):
    """A record that is damaged or cut off after the handshake ends its connection only."""
    for damage in ("flipped", "cut", "plain"):
        with raw_tls(stack.proxy.port, authority) as peer:
            peer.sendall(encode_message(PING))
            assert decode_message(receive_message(peer))[0]["ok"] == 1
            under = socket.socket(fileno=os.dup(peer.fileno()))
            under.settimeout(20)
            data = b"\x17\x03\x03\x00\x40" + os.urandom(64)
            under.sendall({"flipped": data, "cut": data[:20], "plain": encode_message(PING)}[damage])
            under.shutdown(socket.SHUT_WR)
            receive_all(under)
            under.close()
    with client_of(stack, authority) as client:
        assert client.admin.command("ping")["ok"] == 1


def test_back_pressure(stack, authority, name):
    """A client that does not read gets no more than it takes; reading on, it gets all of it."""
    stack.direct[DATABASE][name].insert_many({"_id": i, "x": "x" * (1 << 20)} for i in range(12))
    with raw_tls(stack.proxy.port, authority) as peer:
        for _ in range(8):
            peer.sendall(encode_message({"find": name, "batchSize": 100, "$db": DATABASE}))
        time.sleep(0.5)
        with client_of(stack, authority) as client:
            assert client.admin.command("ping")["ok"] == 1
        for _ in range(8):
            reply = decode_message(receive_message(peer))[0]
            assert len(reply["cursor"]["firstBatch"]) == 12


def test_pieces_of_every_size(stack, authority):
    """Messages that come in records of one byte, and many messages in one record."""
    message = encode_message(PING)
    with raw_tls(stack.proxy.port, authority) as peer:
        for byte in message:
            peer.sendall(bytes([byte]))
        peer.sendall(message * 300)
        for _ in range(301):
            assert decode_message(receive_message(peer))[0]["ok"] == 1


def test_plain_and_tls_on_one_port(certificate, authority):
    """allowTLS: both are served, told apart by the first byte, and a TLS client in plain mode is
    told in the log."""
    with Stack(require(certificate, **{"net.tls.mode": "allowTLS"})) as stack:
        for client in (stack.proxy.client(), client_of(stack, authority)):
            with client:
                assert client.admin.command("ping")["ok"] == 1
    with Stack() as stack:
        with pytest.raises(PyMongoError):
            with client_of(stack, authority, serverSelectionTimeoutMS=1000) as client:
                client.admin.command("ping")
        told(stack, "not the MongoDB wire protocol", "net.tls.mode")


def test_client_certificates(certificate, authority, stranger):
    """With a CAFile a client shows a certificate of that authority, or is refused; without one it is
    let in only if that is allowed, and one of a stranger never."""
    mine, other = authority.issue("client"), stranger.issue("client")
    expired = authority.issue("late", days=-1)
    settings = require(certificate, **{"net.tls.CAFile": authority.file})
    with Stack(settings) as stack:
        with client_of(stack, authority, tlsCertificateKeyFile=str(mine)) as client:
            assert client.admin.command("ping")["ok"] == 1
        for wrong in (None, str(other), str(expired)):
            with pytest.raises(PyMongoError):
                with client_of(
                    stack, authority, tlsCertificateKeyFile=wrong, serverSelectionTimeoutMS=1000
                ) as client:
                    client.admin.command("ping")
        told(stack, "no TLS with the client", "peer did not return a certificate")
        told(stack, "no TLS with the client", "certificate has expired")
    optional = {**settings, "net.tls.allowConnectionsWithoutCertificates": "true"}
    with Stack(optional) as stack:
        with client_of(stack, authority) as client:
            assert client.admin.command("ping")["ok"] == 1
        with pytest.raises(PyMongoError):
            with client_of(
                stack, authority, tlsCertificateKeyFile=str(other), serverSelectionTimeoutMS=1000
            ) as client:
                client.admin.command("ping")


def test_the_client_checks_the_proxy(stack, authority, stranger):
    """A client that trusts another authority does not connect; one that is told to, does."""
    with pytest.raises(PyMongoError):
        with client_of(stack, stranger, serverSelectionTimeoutMS=1000) as client:
            client.admin.command("ping")
    with client_of(stack, stranger, tlsInsecure=True) as client:
        assert client.admin.command("ping")["ok"] == 1
    with pytest.raises(PyMongoError):
        with pymongo.MongoClient(
            f"mongodb://127.0.0.2:{stack.proxy.port}/",
            tls=True,
            tlsCAFile=str(authority.file),
            serverSelectionTimeoutMS=1000,
        ) as client:
            client.admin.command("ping")


def serial_of(stack, authority):
    with raw_tls(stack.proxy.port, authority) as peer:
        return peer.getpeercert()["serialNumber"]


def test_reload(authority, tmp_path):
    """SIGHUP: new connections get the new certificate, open ones go on; a broken one is told and
    changes nothing."""
    current = tmp_path / "current.pem"
    current.touch(0o600)
    current.write_text(authority.issue("first").read_text())
    with Stack(require(current)) as stack:
        first = serial_of(stack, authority)
        with raw_tls(stack.proxy.port, authority) as open_one:
            current.write_text(authority.issue("second").read_text())
            stack.proxy.process.send(signal.SIGHUP)
            wait_until(lambda: serial_of(stack, authority) != first, 10, "the new certificate")
            second = serial_of(stack, authority)
            for number, broken in enumerate(
                ("nothing", authority.issue("late", days=-1).read_text()), 1
            ):
                current.write_text(broken)
                stack.proxy.process.send(signal.SIGHUP)
                wait_until(
                    lambda: len(logged(stack, "is refused; the running one stays")) == number,
                    10,
                    "it is told",
                )
                assert serial_of(stack, authority) == second
            open_one.sendall(encode_message(PING))
            assert decode_message(receive_message(open_one))[0]["ok"] == 1


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"net.tls.mode": "requireTLS"}, "net.tls.certificateKeyFile"),
        ({"net.tls.CAFile": "/x"}, "net.tls.mode"),
        (require("/nonexistent"), "cannot read /nonexistent"),
        ({"http.tls.mode": "requireTLS"}, "http.tls.certificateKeyFile"),
    ],
)
def test_settings_that_do_not_fit(settings, said, tmp_path):
    """--check-config reads the files, and every mistake is named."""
    proxy = Proxy("mongodb://127.0.0.1:1", settings, tmp_path / "wal", start=False)
    proxy.options.append("--check-config")
    code, output = proxy.run_to_end()
    assert code == 2 and said in output, output


def test_files_that_do_not_fit(authority, certificate, tmp_path):
    """A certificate without its key, one that others can read, one that has expired, no authority."""
    only, key = authority.parts(certificate)
    open_file = tmp_path / "open.pem"
    open_file.write_text(certificate.read_text())
    open_file.chmod(0o644)
    mixed = tmp_path / "mixed.pem"
    mixed.touch(0o600)
    other_key = authority.parts(authority.issue("other"))[1]
    mixed.write_text(only.read_text() + other_key.read_text())
    only.chmod(0o600)
    for settings, said in (
        (require(only), "no private key"),
        (require(open_file), "chmod 600"),
        (require(mixed), "no private key of the certificate"),
        (require(authority.issue("late", days=-1)), "has expired"),
        (require(certificate, **{"net.tls.CAFile": key}), "no certificates can be read"),
    ):
        proxy = Proxy("mongodb://127.0.0.1:1", settings, tmp_path / "wal", start=False)
        proxy.options.append("--check-config")
        code, output = proxy.run_to_end()
        assert code == 2 and said in output, output
    uri = f"mongodb://127.0.0.1:1/?tls=true&tlsCAFile={key}"
    proxy = Proxy(uri, wal=tmp_path / "wal", start=False)
    proxy.options.append("--check-config")
    code, output = proxy.run_to_end()
    assert code == 2 and "upstream.uri" in output and str(key) in output, output


# ---------------------------------------------------------------- the server


@pytest.fixture(scope="module")
def secured(authority):
    """Server with logins and TLS that asks for certificates, proxy with TLS on both sides."""
    server_side = (authority.issue("server"), authority.file, True)
    proxy_side = authority.issue("proxy")
    settings = require(proxy_side)
    with Stack(settings, auth=True, users=[USER], tls=server_side) as made:
        yield made


def test_both_sides(secured, authority, name):
    """SCRAM-SHA-256 passes through; a transaction is rolled back by the proxy's own connection."""
    with client_of(secured, authority, user=USER[:2]) as client:
        collection = client[DATABASE][name]
        collection.insert_one({"_id": 0})
        with client.start_session() as session:
            with session.start_transaction():
                collection.insert_one({"_id": 1, "x": "x" * 3_000_000}, session=session)
        with client.start_session() as session:
            session.start_transaction()
            collection.update_many({}, {"$set": {"a": 1}}, session=session)
            session.abort_transaction()
        assert [len(d) for d in collection.find().sort("_id")] == [1, 2]
    with pytest.raises(OperationFailure):
        with client_of(secured, authority, user=("bob", "wrong")) as client:
            client[DATABASE][name].find_one()


def test_recovery_by_the_command_line(secured, authority, name):
    """`holdfast` takes the same URI, from a file, and recovers over TLS what a kill left."""
    with client_of(
        secured, authority, user=USER[:2], serverSelectionTimeoutMS=1000
    ) as client:
        with client.start_session() as session:
            session.start_transaction()
            client[DATABASE][name].insert_one({"_id": 1}, session=session)
            secured.proxy.kill()
    file = os.path.join(secured.server.directory, "uri")
    with open(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600), "w") as out:
        out.write(secured.server.uri)
    holdfast("recover", "--wal", secured.proxy.wal, "--upstream-file", file, check=0)
    assert secured.stored(name) == {}
    secured.proxy.start()


def test_x509_login_is_refused(secured, authority, name):
    """MONGODB-X509 would make of a client whoever the proxy's own certificate is: every way to ask
    for it gets an AuthenticationFailed that says so, and none of it reaches the server."""
    client_certificate = authority.issue("client")
    with pytest.raises(OperationFailure) as refused:
        with client_of(
            secured,
            authority,
            tlsCertificateKeyFile=str(client_certificate),
            authMechanism="MONGODB-X509",
        ) as client:
            client[DATABASE][name].find_one()
    assert refused.value.code == 18 and "MONGODB-X509 cannot pass" in str(refused.value)
    login = {"authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external"}
    sasl = {"saslStart": 1, "mechanism": "MONGODB-X509", "payload": b"", "$db": "$external"}
    external = {**sasl, "mechanism": "EXTERNAL"}
    inside = {**login, "startTransaction": True, "autocommit": False}
    for command in (login, {"authenticate": 1, "$db": "$external"}, sasl, external, inside):
        with raw_tls(secured.proxy.port, authority) as peer:
            peer.sendall(encode_message(command))
            reply = decode_message(receive_message(peer))[0]
            assert reply["ok"] == 0 and reply["code"] == 18, (command, reply)
            peer.sendall(encode_message({"find": name, "$db": DATABASE}))
            assert decode_message(receive_message(peer))[0]["code"] == 13
    speculative = {"authenticate": 1, "mechanism": "MONGODB-X509", "db": "$external"}
    hello = {"hello": 1, "speculativeAuthenticate": speculative}
    for message in (encode_message({**hello, "$db": "admin"}), encode_query(hello)):
        with raw_tls(secured.proxy.port, authority) as peer:
            peer.sendall(message)
            reply = decode_message(receive_message(peer))[0]
            assert reply["ok"] == 1 and "speculativeAuthenticate" not in reply
            peer.sendall(encode_message({"find": name, "$db": DATABASE}))
            assert decode_message(receive_message(peer))[0]["code"] == 13


def test_the_server_is_checked(authority, stranger, tmp_path):
    """The server's certificate has to be of the authority and of its name, unless tlsAllowInvalid...
    or tlsInsecure say otherwise: at the start, of the clients' connections, and of `holdfast`."""
    elsewhere = authority.issue("server", names="DNS:elsewhere.example")
    with Server(tls=(authority.issue("server"), authority.file, False)) as server:
        plain = f"mongodb://{server.address}/"
        bad = {
            f"{plain}?tls=true&tlsCAFile={stranger.file}": "certificate",
            f"{plain}?tls=true": "certificate",
            plain: "",
        }
        for uri, said in bad.items():
            settings = {"upstream.connectTimeout": "500ms"}
            code, output = Proxy(uri, settings, tmp_path / "a", start=False).run_to_end()
            assert code == 2 and said in output, output
            done = holdfast("status", "--wal", tmp_path / "b", "--upstream", uri)
            assert done.returncode == 2
        for option in ("tlsInsecure", "tlsAllowInvalidCertificates"):
            uri = f"{plain}?tls=true&{option}=true"
            with Proxy(uri, wal=tmp_path / "good") as proxy:
                with proxy.client() as client:
                    assert client.admin.command("ping")["ok"] == 1
                assert proxy.stop() == 0
    with Server(tls=(elsewhere, authority.file, False)) as server:
        uri = f"mongodb://{server.address}/?tls=true&tlsCAFile={authority.file}"
        settings = {"upstream.connectTimeout": "500ms"}
        code, output = Proxy(uri, settings, tmp_path / "c", start=False).run_to_end()
        assert code == 2, output
        with Proxy(f"{uri}&tlsAllowInvalidHostnames=true") as proxy, proxy.client() as client:
            assert client.admin.command("ping")["ok"] == 1


def test_a_set_that_is_followed(authority):
    """Each server's certificate is held against its own name."""
    certificates = (authority.issue("server"), authority.file, False)
    with Server("replicaset", tls=certificates, sync=True) as server:
        with server.client(tls=True, tlsCAFile=str(authority.file)) as direct:
            name = direct.admin.command("hello")["setName"]
        uri = f"mongodb://{server.address}/?replicaSet={name}&tls=true&tlsCAFile={authority.file}"
        with Proxy(uri) as proxy, proxy.client() as client:
            client[DATABASE].followed.insert_one({"_id": 1})
            server.restart()
            client[DATABASE].followed.insert_one({"_id": 2})
            assert client[DATABASE].followed.count_documents({}) == 2


def test_a_server_that_loses_its_certificate(authority, stranger):
    """The clients' own connections check the server, too: one that shows another certificate after a
    restart gets no command."""
    with Server(tls=(authority.issue("server"), authority.file, False)) as server:
        with Proxy(server, {"upstream.connectTimeout": "2s"}) as proxy:
            with proxy.client() as client:
                assert client.admin.command("ping")["ok"] == 1
            server.kill()
            server.tls = (stranger.issue("server"), stranger.file, False)
            server.start()
            with pytest.raises(PyMongoError):
                with proxy.client(serverSelectionTimeoutMS=1000) as client:
                    client.admin.command("ping")
            assert any(
                "Cannot connect to the server" in entry["msg"]
                and "certificate is refused" in entry["attr"].get("reason", "")
                for entry in proxy.log()
            )


# ---------------------------------------------------------------- HTTP callers


def call_tls(stack, path, authority, certificate=None, body=b"", method="POST"):
    """(status, body) of a request over TLS; the end of the connection has to be an orderly one."""
    context = ssl.create_default_context(cafile=str(authority.file))
    if certificate is not None:
        context.load_cert_chain(str(certificate))
    plain = socket.create_connection(("127.0.0.1", stack.http_port), 20)
    with context.wrap_socket(
        plain, server_hostname="localhost", suppress_ragged_eofs=False
    ) as peer:
        peer.sendall(encode_request(method, path, body))
        received = b""
        while chunk := peer.recv(65536):
            received += chunk
    head, _, content = received.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), content


def test_calls_over_tls(certificate, authority, name):
    """A call over TLS is a unit as any other: its writes are there together, or not at all."""
    settings = {"http.tls.mode": "requireTLS", "http.tls.certificateKeyFile": certificate}
    with HttpStack(settings) as stack:

        def two(request, end):
            stack.collection(name).insert_one({"_id": 1, "size": len(request.payload)})
            stack.collection(name).insert_one({"_id": 2})
            return end

        stack.service.handlers["/bad"] = lambda request: two(request, 500)
        stack.service.handlers["/good"] = lambda request: two(request, (200, {"x": "x" * 3_000_000}))
        assert call_tls(stack, "/bad", authority, body=b"y" * 500_000)[0] == 500
        assert stack.stored(name) == {}
        status, body = call_tls(stack, "/good", authority, body=b"y" * 500_000)
        assert (status, len(body)) == (200, 3_000_009)
        assert stack.stored(name)[1]["size"] == 500_000 and len(stack.stored(name)) == 2
        with socket.create_connection(("127.0.0.1", stack.http_port), 20) as peer:
            peer.sendall(encode_request("GET", "/"))
            receive_all(peer)
        told(stack, "no TLS with the caller", "plain HTTP")


def test_callers_with_certificates(certificate, authority, stranger, name):
    """http.tls.CAFile: callers show a certificate; the certificate of net.tls serves both."""
    settings = {
        "net.tls.mode": "allowTLS",
        "net.tls.certificateKeyFile": certificate,
        "http.tls.mode": "requireTLS",
        "http.tls.CAFile": authority.file,
    }
    with HttpStack(settings) as stack:
        stack.service.handlers["/"] = lambda _: 200
        assert call_tls(stack, "/", authority, authority.issue("caller"))[0] == 200
        for wrong in (None, stranger.issue("caller")):
            with pytest.raises(OSError):
                call_tls(stack, "/", authority, wrong)
        told(stack, "no TLS with the caller", "did not return a certificate")


def test_tls_to_a_plain_http_listener(authority):
    """It is told in the log at once, not after the time for a head."""
    with HttpStack() as stack:
        with pytest.raises(OSError):
            call_tls(stack, "/", authority)
        told(stack, "Request refused", "http.tls.mode")


# ---------------------------------------------------------------- other drivers, passwords


def test_libmongoc(secured, authority, name):
    """libmongoc over TLS, with a login: transactions."""
    uri = (
        f"mongodb://bob:pass%20word@127.0.0.1:{secured.proxy.port}/{DATABASE}?authSource=admin"
        f"&tls=true&tlsCAFile={authority.file}"
    )
    done = subprocess.run(
        [str(build_bin() / "driver_libmongoc"), uri, name, "5", "transactions"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(secured.stored(name)) == 11


def test_node(secured, authority, name):
    """The Node.js driver over TLS, with a login: transactions."""
    arguments, environment = node_driver()
    uri = (
        f"mongodb://bob:pass%20word@127.0.0.1:{secured.proxy.port}/?authSource=admin"
        f"&tls=true&tlsCAFile={authority.file}"
    )
    done = subprocess.run(
        [*arguments, uri, name, "5", "transactions"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(secured.stored(name)) == 11


def test_no_password_is_told(secured):
    """Neither the log nor the list of processes has the proxy's own password."""
    with open(f"/proc/{secured.proxy.process.pid}/cmdline", "rb") as file:
        words = file.read()
    assert b"mongodb://root:" in words
    assert b"correct" not in words and b"correct" not in secured.proxy.process.output().encode()
