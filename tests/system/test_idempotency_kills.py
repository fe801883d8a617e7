"""Callers that repeat a call with an Idempotency-Key until it is answered, while its service, the
proxy and the server are killed at random: each payment is made once.

HOLDFAST_KILL_SECONDS says for how long; HOLDFAST_SEED repeats an order of kills.
"""

import collections
import http.client
import os
import pathlib
import random
import sys
import threading
import time
import uuid

from conftest import DATABASE
from holdfast_testing import Proxy, Server, port_for_restarts
from holdfast_testing.service import Service
from http_stack import call

SERVICE = pathlib.Path(__file__).parent / "payment_service.py"
SECONDS = float(os.environ.get("HOLDFAST_KILL_SECONDS", "12"))
CALLERS = 4
PATIENCE_SECONDS = 60


class Caller(threading.Thread):
    """Pays until it is told to stop, each payment until it is answered, then asks for the last again."""

    def __init__(self, port, name, stopping, seed):
        super().__init__(daemon=True)
        self.rng = random.Random(f"{seed} {name}")
        self.port, self.account, self.stopping = port, name, stopping
        self.paid, self.tries, self.replayed, self.failure = [], 0, 0, None

    def run(self):
        number, key = 0, None
        while not self.stopping.is_set() and self.failure is None:
            number, key = number + 1, str(uuid.uuid4())
            self.pay(str(number), key)
        if self.failure is None and number > 0:
            # Whether a kill met an answer on its way is luck; this one is there, whoever died since.
            before = self.replayed
            self.pay(str(number), key)
            if self.failure is None and self.replayed == before:
                self.failure = f"{number} was done again, not answered from the journal"
            del self.paid[number:]

    def pay(self, payment, key):
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            self.tries += 1
            # One try in three is by a caller that has no patience: the call goes on without it.
            patience = 20 if self.tries % 3 else self.rng.uniform(0.001, 0.03)
            path, headers = f"/{self.account}/{payment}", {"Idempotency-Key": key}
            try:
                answer = call(self.port, path, headers=headers, timeout=patience)
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
                continue
            if answer.status == 201:
                self.replayed += "Idempotency-Replayed" in answer.headers
                if answer.body.decode() != payment:
                    self.failure = f"{payment} was answered {answer.body}"
                self.paid.append(payment)
                return
            if answer.status not in (409, 500, 503):
                self.failure = f"{payment}: {answer.status} {answer.body}"
                return
            time.sleep(0.02)
        self.failure = f"{payment} was not answered for {PATIENCE_SECONDS} s"


def kill_at_random(rng, server, proxy, service):
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        time.sleep(rng.uniform(0.2, 1.0))
        victims = rng.choice(["service", "proxy", "server", "service proxy", "proxy server", "all"])
        victims = victims.replace("all", "service proxy server").split()
        dead = {"service": service, "proxy": proxy, "server": server}
        for name in victims:
            dead[name].kill()
        for name in sorted(victims, key=lambda name: name != "server"):
            dead[name].start()


def test_each_payment_is_made_once():
    seed = int(os.environ.get("HOLDFAST_SEED", random.randrange(1 << 32)))
    print("HOLDFAST_SEED", seed)
    http_port, port = port_for_restarts(), port_for_restarts()
    stopping = threading.Event()
    with Server() as server:
        options = ["--http-listen", f"127.0.0.1:{http_port}"]
        options += ["--http-service", f"127.0.0.1:{port}"]
        settings = {"upstream.fenceWait": "100ms", "http.quietPeriod": "700ms"}
        with Proxy(server, settings, options=options) as proxy:
            arguments = [sys.executable, str(SERVICE), str(port), proxy.uri]
            service = Service("service", arguments, port)
            callers = [Caller(http_port, f"a{i}", stopping, seed) for i in range(CALLERS)]
            for caller in callers:
                caller.start()
            try:
                kill_at_random(random.Random(seed), server, proxy, service)
                stopping.set()
                for caller in callers:
                    caller.join(PATIENCE_SECONDS + 30)
            finally:
                stopping.set()
                service.kill()
            assert [caller.failure for caller in callers] == [None] * CALLERS
            check(server, callers)
            assert proxy.stop() == 0
            proxy.verify()


def check(server, callers):
    wanted = {(caller.account, payment): 1 for caller in callers for payment in caller.paid}
    with server.client() as direct:
        ledger = direct[DATABASE]["ledger"].find()
        made = collections.Counter((entry["account"], entry["payment"]) for entry in ledger)
        sums = {entry["_id"]: entry["n"] for entry in direct[DATABASE]["accounts"].find()}
    assert dict(made) == wanted
    assert sums == {caller.account: len(caller.paid) for caller in callers}
    tries = sum(caller.tries for caller in callers)
    replayed = sum(caller.replayed for caller in callers)
    print(f"{len(wanted)} payments, {tries} tries, {replayed} answered from the journal")
    assert tries > len(wanted) > 2 * CALLERS and replayed >= CALLERS
