#!/usr/bin/env python3
"""The driver of deploy/demo: calls, kills, and the judgement afterwards.

A call is judged by the token that it writes into both of its parts:
    torn   one of its two writes is there, the other is not
    lost   it was acknowledged (2xx) and is not wholly there
An unacknowledged call may be whole or absent.
"""

import argparse
import http.client
import json
import pathlib
import random
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests/support"))

from holdfast_testing import (  # noqa: E402
    Process,
    ProcessError,
    Proxy,
    Server,
    free_port,
    holdfast,
    wait_until,
)
from service import COLLECTION, DATABASE, VERSION_KEY, key_id  # noqa: E402

THREADS = 8
CONTENT_BYTES = ((0.94, 1500, 5000), (0.99, 50000, 50000), (1.0, 480000, 480000))


class Call:
    def __init__(self, kind, name, token):
        self.kind, self.name, self.token = kind, name, token
        self.acknowledged = False


class Service:
    """The sample service, killed and started again on one port."""

    def __init__(self, uri, transactions):
        self.port = free_port()
        self.kills = 0
        self._arguments = [sys.executable, str(HERE / "service.py"), "--listen", str(self.port)]
        self._arguments += ["--mongo", uri]
        self._environment = {"HOLDFAST": "on" if transactions else "off"}
        self.start()

    def start(self):
        self.process = Process(self._arguments, self._environment, name="service")
        wait_until(self._answers, 20, "the sample service answers", 0.01)

    def _answers(self):
        try:
            return request(self.port, "GET", "/", None, 2) == 200
        except OSError:
            if not self.process.running():
                raise ProcessError(f"the service ended\n{self.process.tail()}") from None
            return False

    def kill(self):
        self.process.kill()
        self.kills += 1


def request(port, method, path, document, timeout):
    """The status code; OSError if there was no whole answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        body = None if document is None else json.dumps(document)
        connection.request(method, path, body)
        response = connection.getresponse()
        response.read()
        return response.status
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


class Round:
    """One round of calls from THREADS clients at one service that is killed again and again."""

    def __init__(self, title, service, proxy, count, seed):
        self.title, self.service, self.proxy, self.count = title, service, proxy, count
        self.proxy_kills = 0
        self.calls = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._random = random.Random(seed)
        self._seed = seed
        self._failure = None

    def run(self):
        clients = [threading.Thread(target=self._client, args=(n,)) for n in range(THREADS)]
        killer = threading.Thread(target=self._killer)
        for thread in (*clients, killer):
            thread.daemon = True
            thread.start()
        while any(client.is_alive() for client in clients) and self._failure is None:
            clients[0].join(1)
            self._progress()
            time.sleep(1)
        self._over.set()
        killer.join(60)
        if self._failure is not None:
            raise self._failure
        self._progress()

    def _progress(self):
        acknowledged = sum(call.acknowledged for call in self.calls)
        kills = f"service killed {self.service.kills} times"
        if self.proxy is not None:
            kills += f", proxy {self.proxy_kills}"
        print(
            f"  {self.title}: {len(self.calls)} of {self.count} calls, "
            f"{acknowledged} acknowledged, {kills}",
            flush=True,
        )

    def _client(self, number):
        chance = random.Random(f"{self._seed}.{number}")
        digs = []
        while (call := self._next_call(chance, number, digs)) is not None:
            time.sleep(chance.uniform(0, 0.03))  # clients think between calls
            try:
                path, document = self._body(call, chance)
                status = request(self.service.port, "POST", path, document, 60)
                call.acknowledged = 200 <= status < 300
            except OSError:
                status = None
                time.sleep(0.05)
            if call.kind == "W4" and call.acknowledged:
                digs.append(call.name)
            if call.kind == "W5" and not call.acknowledged and status is not None:
                digs.remove(call.name)  # stuck: an operator would have to look at it

    def _next_call(self, chance, number, digs):
        with self._lock:
            if len(self.calls) >= self.count or self._failure is not None:
                return None
            at = len(self.calls)
            kind = chance.choice(["W1", "W4", "W5"])
            if kind == "W5" and not digs:
                kind = "W4"
            # Only this client updates its groups: what is measured are kills, not lost updates.
            name = chance.choice(digs) if kind == "W5" else f"{kind.lower()}-{number}-{at}"
            call = Call(kind, name, f"token-{at}")
            self.calls.append(call)
            return call

    def _body(self, call, chance):
        document = {"name": call.name, "token": call.token}
        if call.kind == "W1":
            draw = chance.random()
            _, low, high = next(entry for entry in CONTENT_BYTES if draw <= entry[0])
            document["content"] = chance.randbytes(chance.randint(low, high) // 2).hex()
            return "/apps", document
        return ("/digs" if call.kind == "W4" else f"/digs/{call.name}"), document

    def _killer(self):
        try:
            while not self._over.wait(self._random.uniform(0.03, 0.35)):
                kill_proxy = self.proxy is not None and self._random.random() < 0.4
                if kill_proxy:
                    self.proxy.kill()
                    self.proxy_kills += 1
                if not kill_proxy or self._random.random() < 0.3:
                    self.service.kill()
                if kill_proxy:
                    self.proxy.start()
                if not self.service.process.running():
                    self.service.start()
        except Exception as error:  # noqa: BLE001 (shown by run())
            self._failure = error


def judge(calls, collection):
    """(torn, lost) of the calls, by what the server holds."""
    documents = list(collection.find({}))
    apps = {document["app"]: document for document in documents if "app" in document}
    groups = {
        document["deploymentIntentGroup"]: document
        for document in documents
        if "deploymentIntentGroup" in document
    }
    torn = lost = 0
    for call in calls:
        first, second = halves(call, apps, groups)
        torn += first != second
        lost += call.acknowledged and not (first and second)
    return torn, lost


def halves(call, apps, groups):
    document = (apps if call.kind == "W1" else groups).get(call.name, {})
    states = [
        action["state"]
        for action in document.get("stateInfo", {}).get("actions", [])
        if action["token"] == call.token
    ]
    if call.kind == "W5":
        return "Updated" in states, "Instantiated" in states
    data = document.get("data", {}).get("metadata", {}).get("userdata1") == call.token
    if call.kind == "W4":
        return data, "Created" in states
    return data, document.get("appcontent", {}).get("token") == call.token


def play(title, count, seed, through_holdfast):
    """One round on a server of its own. Returns (figures, proxy or None, server)."""
    server = Server()
    with server.client() as direct:
        for key in ({"project": "p1"}, VERSION_KEY):
            direct[DATABASE][COLLECTION].insert_one({**key, "keyId": key_id(key), "data": {}})
    proxy = Proxy(server) if through_holdfast else None
    service = Service((proxy or server).uri, through_holdfast)
    game = Round(title, service, proxy, count, seed)
    try:
        game.run()
    finally:
        service.process.kill()
    time.sleep(2)  # the proxy rolls back what the last kill left open
    with server.client() as direct:
        torn, lost = judge(game.calls, direct[DATABASE][COLLECTION])
    figures = {
        "calls fired": len(game.calls),
        "calls acknowledged": sum(call.acknowledged for call in game.calls),
        "service killed with -9": service.kills,
        "proxy killed with -9": game.proxy_kills if proxy else "-",
        "torn (half of the call is there)": torn,
        "lost (acknowledged, not whole)": lost,
    }
    return figures, proxy, server


def show_journal(proxy):
    """A few lines of what the journal tells: some units that were committed, some rolled back."""
    print("\n$ holdfast units --wal DIR")
    header, *units = holdfast("units", "--wal", proxy.wal).stdout.splitlines() or [""]
    undone = [line for line in units if " aborted " in line]
    kept = [line for line in units if " aborted " not in line]
    shown = [*kept[-4:], *undone[-6:]]
    print("\n".join([header, *shown, f"... and {len(units) - len(shown)} more"]))
    print("\n$ holdfast status --wal DIR")
    print(holdfast("status", "--wal", proxy.wal).stdout.rstrip())


def main():
    parser = argparse.ArgumentParser(prog="deploy/demo", description="Holdfast's demonstration.")
    parser.add_argument("--calls", type=int, default=600, help="calls in each round (600)")
    parser.add_argument("--seed", type=int, default=None, help="of the random choices")
    options = parser.parse_args()
    seed = random.randrange(1 << 31) if options.seed is None else options.seed
    print(f"\nEach round: {options.calls} calls from {THREADS} clients, kill -9 at random (seed {seed}).")
    print("A call looks for its parents, writes, works 1 to 4 ms (simulated), and writes again.\n")

    print("Round 1: the service writes straight to the server, as such services do today")
    direct, _, server = play("round 1", options.calls, seed, False)
    server.close()
    print("\nRound 2: the same service in driver transactions, through Holdfast")
    held, proxy, server = play("round 2", options.calls, seed, True)

    print(f"\n{'':34}{'straight':>12}{'Holdfast':>12}")
    for name in direct:
        print(f"{name:34}{direct[name]:>12}{held[name]:>12}")
    show_journal(proxy)
    proxy.stop()
    proxy.close()
    server.close()

    names = list(held)[-2:]
    if any(held[name] for name in names):
        print("\nFAILED: through Holdfast nothing may be torn or lost.")
        return 1
    print("\nThrough Holdfast no call was torn and none was lost.")
    if not any(direct[name] for name in names):
        print("This time none was torn without it either; kills are random, try again.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (ProcessError, AssertionError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(2)
