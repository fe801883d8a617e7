#!/usr/bin/env python3
"""The driver of deploy/demo: calls, kills, and the judgement afterwards.

A call is judged by the token that it writes into each of its parts:
    torn   some of its writes are there, others are not
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
from service import (  # noqa: E402
    COLLECTION,
    DATABASE,
    VERSION_KEY,
    certificate_parts,
    cloud_cluster_parts,
    cloud_parts,
    cluster_parts,
    key_id,
)

THREADS = 8
CONTENT_BYTES = ((0.94, 1500, 5000), (0.99, 50000, 50000), (1.0, 480000, 480000))


# How often each kind of call is made; what it needs to have been made before.
KINDS = {
    "put app": (3, None),
    "put group": (3, None),
    "update group": (3, "put group"),
    "add cluster": (1, None),
    "put cloud": (1, None),
    "put cloud's clusters": (1, "put cloud"),
    "put certificate": (1, None),
    "delete certificate": (1, "put certificate"),
}


class Call:
    def __init__(self, kind, name, token, of=None, count=0):
        self.kind, self.name, self.token, self.of, self.count = kind, name, token, of, count
        self.acknowledged = False
        self.removed = False  # a later call may have removed what this one made

    def request(self, chance):
        """(method, path, document)"""
        document = {"name": self.name, "token": self.token}
        if self.kind == "put app":
            draw = chance.random()
            _, low, high = next(entry for entry in CONTENT_BYTES if draw <= entry[0])
            document["content"] = chance.randbytes(chance.randint(low, high) // 2).hex()
            return "POST", "/apps", document
        if self.kind == "put cloud's clusters":
            return "POST", f"/clouds/{self.of.name}/clusters", {**document, "count": self.count}
        if self.kind == "update group":
            return "POST", f"/digs/{self.name}", document
        if self.kind == "delete certificate":
            return "DELETE", f"/certificates/{self.name}", None
        paths = {"put group": "/digs", "add cluster": "/clusters"}
        paths |= {"put cloud": "/clouds", "put certificate": "/certificates"}
        return "POST", paths[self.kind], document

    def parts(self):
        """The (key, part) that the call writes."""
        group = {**VERSION_KEY, "deploymentIntentGroup": self.name}
        app = {**VERSION_KEY, "app": self.name}
        parts = {
            "put app": [(app, "data"), (app, "appcontent")],
            "put group": [(group, "data"), (group, "stateInfo")],
            "add cluster": cluster_parts(self.name),
            "put cloud": cloud_parts(self.name),
            "put cloud's clusters": cloud_cluster_parts(self.name, self.count),
        }.get(self.kind, certificate_parts(self.name))
        return [part[:2] for part in parts]


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
        made = {kind: [] for kind in KINDS}
        while (call := self._next_call(chance, number, made)) is not None:
            time.sleep(chance.uniform(0, 0.03))  # clients think between calls
            status = None
            try:
                status = request(self.service.port, *call.request(chance), 60)
                call.acknowledged = 200 <= status < 300
            except OSError:
                time.sleep(0.05)
            if call.acknowledged:
                made[call.kind].append(call)
            if call.kind == "update group" and not call.acknowledged and status is not None:
                made["put group"].remove(call.of)  # stuck: an operator would have to look at it

    def _next_call(self, chance, number, made):
        with self._lock:
            if len(self.calls) >= self.count or self._failure is not None:
                return None
            at = len(self.calls)
            kind = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
            before = KINDS[kind][1]
            if before is not None and not made[before]:
                kind, before = before, None
            # Only this client works on what it made: what is measured are kills, not lost updates.
            of = chance.choice(made[before]) if before is not None else None
            same = kind in ("update group", "delete certificate")
            name = of.name if same else f"{kind.replace(' ', '-')}-{number}-{at}".replace("'", "")
            call = Call(kind, name, f"token-{at}", of, chance.randint(1, 5))
            if kind == "delete certificate":
                made[before].remove(of)
                of.removed = True
            self.calls.append(call)
            return call

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
    documents = {}
    for document in collection.find({}):
        key = {name: document[name] for name in document["keyId"].strip("{}").split(",")}
        documents[frozenset(key.items())] = document
    torn = lost = 0
    for call in calls:
        there = writes_there(call, documents)
        torn += len(set(there)) > 1
        lost += call.acknowledged and not all(there)
    return torn, lost


def writes_there(call, documents):
    """For each write of the call, whether the server holds what it made."""
    if call.removed:
        return [True]  # judged by the call that removes
    found = [documents.get(frozenset(key.items()), {}) for key, _ in call.parts()]
    if call.kind == "delete certificate":
        return [not document for document in found]
    if call.kind == "update group":
        group = documents.get(frozenset({**VERSION_KEY, "deploymentIntentGroup": call.name}.items()), {})
        states = states_of(group, call.token)
        return ["Updated" in states, "Instantiated" in states]
    return [
        call.token in tokens_of(document, part)
        for document, (_, part) in zip(found, call.parts(), strict=True)
    ]


def states_of(group, token):
    actions = group.get("stateInfo", {}).get("actions", [])
    return [action["state"] for action in actions if action["token"] == token]


def tokens_of(document, part):
    """Every token in a part: of a group's state those of all its updates."""
    value = document.get(part, {})
    actions = [action["token"] for action in value.get("actions", [])]
    return [value.get("token"), value.get("metadata", {}).get("userdata1"), *actions]


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
        "torn (a part of the call is there)": torn,
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
    print("A call looks for its parents, then writes 2 to 10 parts with 1 to 4 ms of other work between.\n")

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
