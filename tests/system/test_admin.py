"""The admin server: what it says of the proxy, and that nobody can use it against the proxy."""

import http.client
import json
import os
import signal
import socket
import threading
import time

import pytest
from conflicts import make_conflict
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import (
    Connection,
    Later,
    Process,
    Proxy,
    Server,
    admin_port,
    build_bin,
    holdfast,
    receive_all,
    wait_until,
)
from http_stack import HttpStack

SETTINGS = {"admin.listen": "127.0.0.1:0", "unit.lockWait": "20s", "upstream.connectTimeout": "1s"}


def ask(proxy, path, method="GET", headers=None, body=None):
    """(status, headers, text)."""
    connection = http.client.HTTPConnection("127.0.0.1", admin_port(proxy), timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def status(proxy):
    code, headers, text = ask(proxy, "/status")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    return json.loads(text)


def ready(proxy):
    """(whether, what it says)."""
    code, _, text = ask(proxy, "/readyz")
    assert code in (200, 503)
    return code == 200, text


def state(proxy):
    return json.loads(ready(proxy)[1])["state"]


@pytest.fixture(scope="module")
def stack():
    with Stack(SETTINGS) as made:
        yield made


@pytest.fixture
def proxy(stack):
    return stack.proxy


def test_default_is_off():
    """Without --admin nothing but the proxy's own port is listened on."""
    with Stack() as stack:
        assert [e for e in stack.proxy.log() if e["c"] == "admin"] == []


def test_health_and_readiness(proxy):
    code, headers, text = ask(proxy, "/healthz")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(text) == {"alive": True}
    code, headers, text = ask(proxy, "/readyz")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(text) == {
        "ready": True,
        "state": "serving",
        "unitsOpen": 0,
        "callsOpen": 0,
        "safeToRemove": False,
    }
    assert ask(proxy, "/readyz?verbose=1")[0] == 200


def test_pages_that_are_not(proxy):
    """Unknown paths are 404; other methods 405 with what is allowed; HEAD is GET without text."""
    for path in ("/nothing", "/status/", "/healthz/../status", "/%00", "*"):
        assert ask(proxy, path)[0] == 404, path
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        code, headers, _ = ask(proxy, "/status", method)
        assert (code, headers["Allow"]) == (405, "GET, HEAD")
    code, headers, text = ask(proxy, "/healthz", "HEAD")
    assert (code, text) == (200, "")


def test_status_is_what_the_command_shows(stack, proxy, client, name):
    """Every field of `holdfast status --json` is there with the same value."""
    client[DATABASE][name].insert_many([{"_id": 1}, {"_id": 2}])
    before, live = None, status(proxy)
    while before != live["commits"]:  # the tables are brought up to date soon after the last write
        before = live["commits"]
        shown = json.loads(holdfast("status", "--json", "--wal", proxy.wal, check=0).stdout)
        live = status(proxy)
    process = shown.pop("process")
    assert process.items() <= live["proxy"].items()
    assert {key: live[key] for key in shown} == shown
    assert live["quotaBytes"] == 64 << 30 and 0 < live["usedBytes"] < live["quotaBytes"]
    assert live["proxy"]["pid"] == proxy.process.pid
    assert live["proxy"]["phase"] == "serving" and live["proxy"]["ready"] is True
    assert live["upstream"]["answers"] is True and live["upstream"]["answeredMillisAgo"] < 5000


def test_observe(proxy):
    """The page and the command show the same report."""
    code, headers, text = ask(proxy, "/observe")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    report = json.loads(text)
    assert report["callsMissed"] == 0
    assert {"calls", "findings", "findingsLeftOut", "outsideCalls"} <= set(report)
    shown = holdfast("observe", "--json", "--wal", proxy.wal, check=0).stdout
    assert json.loads(shown).keys() == report.keys()
    assert "calls have ended" in holdfast("observe", "--wal", proxy.wal, check=0).stdout


def test_counts(proxy, name):
    """Connections now; units that committed and were rolled back since the start."""
    before = status(proxy)
    with Connection(proxy.port) as one, Connection(proxy.port) as two:
        unit = RawTransaction(one)
        assert unit.insert(name, {"_id": 1})["ok"] and unit.commit()["ok"]
        assert unit.next().insert(name, {"_id": 2})["ok"] and unit.abort()["ok"]
        two.run({"ping": 1, "$db": "admin"})
        during = status(proxy)
        assert during["connections"] == before["connections"] + 2
    after = wait_until(
        lambda: (s := status(proxy))["connections"] == before["connections"] and s, 10, "both left"
    )
    for key, more in (("committed", 1), ("rolledBack", 1), ("conflicts", 0)):
        assert after["units"][key] == before["units"][key] + more, key


def test_a_conflict_is_counted(name):
    with Stack(SETTINGS) as stack:
        make_conflict(stack, name)
        live = wait_until(
            lambda: (s := status(stack.proxy))["unitsConflict"] == 1 and s, 10, "set aside"
        )
        assert live["units"]["conflicts"] == 1 and live["units"]["locksHeld"] == 0


def units_if_one_waits(proxy):
    units = status(proxy)["units"]
    return units if any("waitsFor" in unit for unit in units["list"]) else None


def test_who_blocks_whom(proxy, name):
    """Open units with age and locks; the one that waits names the one that holds."""
    with Connection(proxy.port) as one, Connection(proxy.port) as two:
        holder, waiter = RawTransaction(one), RawTransaction(two)
        assert holder.insert(name, {"_id": 1}, {"_id": 2})["ok"]
        assert waiter.insert(name, {"_id": 3})["ok"]
        later = Later(lambda: waiter.insert(name, {"_id": 2}))
        live = wait_until(lambda: units_if_one_waits(proxy), 10, "one unit waits")
        assert (live["open"], live["listed"], live["locksHeld"]) == (2, 2, 3)
        first, second = live["list"]
        assert (first["locksHeld"], second["locksHeld"]) == (2, 1)
        assert second["waitsFor"] == first["unit"] and "waitsFor" not in first
        assert first["state"] == second["state"] == "OPEN"
        assert (first["busy"], second["busy"]) == (False, True)
        assert first["boundary"] == "driver" and first["client"].startswith("127.0.0.1:")
        time.sleep(0.2)
        assert status(proxy)["units"]["list"][0]["ageMillis"] >= first["ageMillis"] + 200
        assert holder.abort()["ok"]
        later.result()
        waiter.abort()  # or it was refused: the document has changed since it began
    assert wait_until(lambda: status(proxy)["units"]["list"] == [], 10, "both have ended")


def test_names_that_are_not_text(proxy, name):
    """A client's name of itself, in whatever bytes, never breaks the JSON."""
    hello = {
        "hello": 1,
        "$db": "admin",
        "client": {
            "application": {"name": "\u20ac" * 60},  # cut in the middle of a character
            "driver": {"name": "x", "version": "1"},
            "os": {"type": "x"},
        },
    }
    with Connection(proxy.port) as raw:
        assert raw.run(hello)["ok"]
        unit = RawTransaction(raw)
        assert unit.insert(name, {"_id": 1})["ok"]
        assert len(status(proxy)["units"]["list"]) == 1
        assert unit.abort()["ok"]


def test_upstream_away_and_back():
    """Not ready while the server is away, with the reason; healthy all the time; ready again."""
    with Stack(SETTINGS) as stack:
        assert ready(stack.proxy)[0]
        stack.server.kill()
        reason = wait_until(
            lambda: (r := ready(stack.proxy))[0] is False and r[1], 20, "it is not ready"
        )
        assert "server" in reason
        assert ask(stack.proxy, "/healthz")[0] == 200
        live = status(stack.proxy)
        assert live["proxy"]["ready"] is False and live["proxy"]["reason"] in reason
        stack.server.start()
        wait_until(lambda: ready(stack.proxy)[0], 20, "it is ready again")


def test_journal_full():
    """Not ready once the journal has refused a unit for its quota."""
    with Stack({**SETTINGS, "wal.quota": "16MiB"}) as stack, Connection(stack.proxy.port) as raw:
        refused = False
        for number in range(100):
            unit = RawTransaction(raw)
            if unit.insert("full", {"_id": number, "t": "x" * 500_000})["ok"] != 1:
                refused = True
                break
            assert ready(stack.proxy)[0]
            assert unit.commit()["ok"]
        assert refused
        whether, reason = ready(stack.proxy)
        assert not whether and "quota" in reason


def test_draining():
    """From SIGTERM on not ready, while open units may still end; then the port is closed."""
    with Stack(SETTINGS) as stack, Connection(stack.proxy.port) as raw:
        proxy = stack.proxy
        unit = RawTransaction(raw)
        assert unit.insert("drained", {"_id": 1})["ok"]
        proxy.process.send(signal.SIGTERM)
        wait_until(lambda: state(proxy) == "draining", 5, "it drains")
        assert json.loads(ready(proxy)[1])["unitsOpen"] == 1
        assert ask(proxy, "/healthz")[0] == 200
        assert status(proxy)["proxy"]["phase"] == "draining"
        assert unit.commit()["ok"]
        assert proxy.process.wait() == 0
        with pytest.raises(OSError):
            ask(proxy, "/healthz")


def refused(raw, name):
    """A new unit is: the driver may try it elsewhere."""
    reply = RawTransaction(raw).insert(name, {"_id": 2})
    return reply["ok"] == 0 and reply["codeName"] == "ShutdownInProgress" and is_transient(reply)


@pytest.mark.parametrize("how", ["token", "command"])
def test_draining_without_an_end(name, how):
    """POST /drain with the token, or holdfast drain: nothing new begins, what is open may end, and /readyz
    tells when the proxy may be removed. It lives on until it is told to end."""
    environment = {"HOLDFAST_ADMIN_TOKEN": "a-token-of-a-test"}
    with Server() as server, Proxy(server, SETTINGS, environment=environment) as proxy:
        with Connection(proxy.port) as raw, Connection(proxy.port) as other:
            unit = RawTransaction(raw)
            assert unit.insert(name, {"_id": 1})["ok"]
            other.run({"ping": 1, "$db": "admin"})
            if how == "command":
                command = Process([build_bin() / "holdfast", "drain", "--wal", proxy.wal])
            else:
                assert ask(proxy, "/drain", "POST")[0] == 401
                headers = {"Authorization": "Bearer a-token-of-a-test"}
                code, _, text = ask(proxy, "/drain", "POST", headers)
                assert (code, json.loads(text)) == (202, {"draining": True})
            wait_until(lambda: state(proxy) == "draining", 5, "it drains")
            said = json.loads(ready(proxy)[1])
            assert (said["unitsOpen"], said["safeToRemove"]) == (1, False)
            assert refused(other, name)
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", proxy.port), 5)
            assert unit.commit()["ok"] == 1
            done = wait_until(
                lambda: (r := json.loads(ready(proxy)[1]))["safeToRemove"] and r, 5, "it is drained"
            )
            assert done["unitsOpen"] == done["callsOpen"] == 0 and not done["ready"]
            assert ask(proxy, "/healthz")[0] == 200 and proxy.process.running()
            if how == "command":
                assert command.wait(20) == 0
                assert "1 units and 0 calls are open" in command.output()
                assert "holdfastd may be ended" in command.output()
        assert proxy.stop() == 0
        with server.client() as direct:
            assert [d["_id"] for d in direct[DATABASE][name].find()] == [1]


def test_fenced():
    """Not ready while the only domain takes no call."""
    with HttpStack({**SETTINGS, "http.quietPeriod": "2s"}) as stack:
        stack.service.handlers["/drops"] = lambda request: stack.service.drop(request)
        assert stack.call("/drops").status == 503
        said = json.loads(ready(stack.proxy)[1])
        assert said["state"] == "fenced" and "default" in said["reason"] and not said["ready"]
        wait_until(lambda: state(stack.proxy) == "serving", 20, "the fence is over")


def test_during_recovery(tmp_path, name):
    """The port answers before recovery has ended: alive, not ready."""
    with Server() as server:
        proxy = Proxy(server, SETTINGS, wal=tmp_path / "wal")
        with Connection(proxy.port) as raw:
            assert RawTransaction(raw).insert(name, {"_id": 1})["ok"]
            proxy.kill()
        proxy.settings["upstream.fenceWait"] = "3s"  # the server does not show its connections
        seen = []

        def watch():
            while not seen or seen[-1] != "serving":
                try:
                    seen.append(state(proxy))
                except (OSError, AssertionError):
                    pass
                time.sleep(0.02)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        proxy.start()
        watcher.join(20)
        assert "recovering" in seen and seen[-1] == "serving"
        assert proxy.stop() == 0


def test_port_taken(tmp_path):
    """A clear error that names the setting, before anything else is touched."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = {"admin.listen": f"127.0.0.1:{port}"}
        proxy = Proxy("mongodb://127.0.0.1:1/", settings, wal=tmp_path / "wal", start=False)
        code, output = proxy.run_to_end()
        assert code == 2
        assert "admin.listen" in output and str(port) in output and "in use" in output
        assert not (tmp_path / "wal").exists()


# ---------------------------------------------------------------- against whoever reaches it


def send_raw(proxy, data, timeout=20):
    """What comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", admin_port(proxy)), timeout) as peer:
        peer.sendall(data)
        return receive_all(peer)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /status\r\n\r\n",
        b"GET /status HTTP/9.9\r\n\r\n",
        b"NONSENSE /status HTTP/1.1\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\n\r\n",
        b"GET /status HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /status HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /status HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /status HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /status HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % i for i in range(5000)) + b"\r\n",
        bytes(range(256)) * 40,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_bad_requests(proxy, data):
    """Refused or closed, never a page's text; the next request is answered."""
    received = send_raw(proxy, data)
    assert b'"journal"' not in received or data == b"GET /status\r\n\r\n"
    assert ask(proxy, "/healthz")[0] == 200


def descriptors(proxy):
    return len(os.listdir(f"/proc/{proxy.process.pid}/fd"))


def test_many_and_slow_visitors(proxy, client, name):
    """Connections beyond the bound wait, those before are closed at their deadline however slowly
    they go on sending, nothing is left of them, and clients of the proxy notice nothing."""
    client[DATABASE][name].insert_one({"_id": 0})
    before = descriptors(proxy)
    address = ("127.0.0.1", admin_port(proxy))
    peers = [socket.create_connection(address) for _ in range(100)]
    for peer in peers:
        peer.sendall(b"GET /status HTTP/1.1\r\n")
    time.sleep(0.5)
    assert descriptors(proxy) <= before + 70, "the bound on connections does not hold"
    began = time.monotonic()
    dripping = True
    while dripping and time.monotonic() - began < 15:
        try:
            peers[0].sendall(b"x: y\r\n")
            time.sleep(0.2)
        except ConnectionError:
            dripping = False
    assert not dripping, "a slow sender was never cut off"
    client[DATABASE][name].insert_one({"_id": 1})
    assert ask(proxy, "/healthz")[0] == 200
    for peer in peers:
        peer.close()
    wait_until(lambda: descriptors(proxy) <= before, 20, "all are closed")


def test_many_requests_one_after_the_other(proxy):
    """Each connection's place is free again soon after its answer."""
    before = descriptors(proxy)
    began = time.monotonic()
    for _ in range(300):
        assert ask(proxy, "/healthz")[0] == 200
    assert time.monotonic() - began < 20
    wait_until(lambda: descriptors(proxy) <= before, 5, "all are closed")


TOKEN = "0123456789abcdef0123456789abcdef"


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_without_a_token_nothing_can_be_changed(proxy):
    """403 for everybody, whatever is sent; the control socket asks for none."""
    for headers in ({}, bearer(""), bearer(TOKEN)):
        code, _, text = ask(proxy, "/rollback?unit=1", "POST", headers)
        assert code == 403 and "admin.tokenFile" in text
        assert ask(proxy, "/prune?before=0", "POST", headers)[0] == 403


def test_the_token_lets_change(tmp_path, name):
    """A unit is rolled back over the admin port by who has the token, and by nobody else; SIGHUP
    takes a new one; it stands in no log."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    other = TOKEN[::-1]
    with Stack({**SETTINGS, "admin.tokenFile": file}) as stack, Connection(stack.proxy.port) as one:
        unit = RawTransaction(one)
        assert unit.insert(name, {"_id": 1})["ok"]
        number = stack.proxy.units()[-1]["unit"]
        path = f"/rollback?unit={number}"
        for headers in ({}, bearer(other), {"Authorization": TOKEN}, bearer(TOKEN[:-1])):
            code, answered, text = ask(stack.proxy, path, "POST", headers)
            assert (code, answered["WWW-Authenticate"]) == (401, "Bearer"), text
        assert ask(stack.proxy, path, "GET", bearer(TOKEN))[0] == 405
        assert unit.insert(name, {"_id": 2})["ok"]
        assert ask(stack.proxy, path, "POST", bearer(TOKEN))[0] == 200
        assert unit.commit()["code"] == 251
        assert stack.stored(name) == {}
        file.write_text(other)
        stack.proxy.process.send(signal.SIGHUP)
        wait_until(
            lambda: ask(stack.proxy, "/prune?before=0", "POST", bearer(other))[0] == 200,
            10,
            "the new token is taken",
        )
        assert ask(stack.proxy, "/prune?before=0", "POST", bearer(TOKEN))[0] == 401
        assert TOKEN not in stack.proxy.process.output() and other not in stack.proxy.process.output()


def test_an_address_for_others_needs_a_token(tmp_path):
    """Refused before anything starts; with a token it is served. A token that others can read, or
    that can be guessed, is none."""
    with Server() as server:
        open_to_all = {"admin.listen": "0.0.0.0:0"}
        code, output = Proxy(server, open_to_all, start=False).run_to_end()
        assert code == 2 and "needs a token" in output
        file = tmp_path / "token"
        for text, mode, said in ((TOKEN, 0o644, "chmod 600"), ("short", 0o600, "at least 16")):
            file.write_text(text)
            file.chmod(mode)
            settings = {**open_to_all, "admin.tokenFile": file}
            code, output = Proxy(server, settings, start=False).run_to_end()
            assert code == 2 and said in output, output
        with Proxy(server, open_to_all, environment={"HOLDFAST_ADMIN_TOKEN": TOKEN}) as proxy:
            assert ask(proxy, "/prune?before=0", "POST", bearer(TOKEN))[0] == 200
