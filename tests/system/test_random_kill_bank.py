"""Money moves between accounts while clients and proxy are killed at random moments."""

import os
import random
import time

import bank
from conftest import DATABASE, Stack

WORKERS = 4
SECONDS = float(os.environ.get("HOLDFAST_BANK_SECONDS", "20"))


def test_bank(seed):
    """What bank.check() says holds, and no client sees an error."""
    chance = random.Random(seed)
    acknowledged, failures = set(), []

    with Stack({"upstream.fenceWait": "100ms"}) as stack:
        bank.open_accounts(stack.direct[DATABASE])
        numbers = iter(range(1_000_000))

        def start_worker():
            return bank.start_worker(stack.proxy.uri, f"{seed}.{next(numbers)}")

        workers = [start_worker() for _ in range(WORKERS)]
        kills = {"client": 0, "proxy": 0}
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.2, 1.2))
            if chance.random() < 0.5:
                stack.proxy.restart()
                kills["proxy"] += 1
            at = chance.randrange(WORKERS)
            if not workers[at].running():
                failures.append(workers[at].tail())
            elif chance.random() < 0.5:
                workers[at].kill()
                kills["client"] += 1
            else:
                continue
            acknowledged |= bank.acknowledged_by(workers[at])
            workers[at] = start_worker()
        for worker in workers:
            worker.kill()
            acknowledged |= bank.acknowledged_by(worker)
        time.sleep(1.5)  # what the last kills left open is rolled back

        print(kills)
        assert not failures, f"a client saw an error: {failures[0]}"
        bank.check(stack.direct[DATABASE], acknowledged)
        assert len(acknowledged) > 50, "too few transfers to prove anything"
        stack.proxy.verify()
