"""Money moves between accounts while clients and proxy are killed at random moments."""

import os
import pathlib
import random
import re
import sys
import time

from conftest import DATABASE, Stack
from holdfast_testing import Process

WORKER = pathlib.Path(__file__).parent / "bank_worker.py"
ACCOUNTS = 20
WORKERS = 4
START_BALANCE = 100
SECONDS = float(os.environ.get("HOLDFAST_BANK_SECONDS", "20"))


def test_bank():
    """No money is made or lost, every balance follows from the transfers that are there, and every
    acknowledged transfer is there."""
    seed = int(os.environ.get("HOLDFAST_TEST_SEED", random.randrange(1 << 31)))
    print(f"HOLDFAST_TEST_SEED={seed}")
    chance = random.Random(seed)
    acknowledged, failures = set(), []

    with Stack({"upstream.fenceWait": "100ms"}) as stack:
        bank = stack.direct[DATABASE]
        bank.accounts.insert_many(
            [{"_id": i, "balance": START_BALANCE} for i in range(ACCOUNTS)]
        )
        numbers = iter(range(1_000_000))

        def start_worker():
            arguments = [sys.executable, str(WORKER), stack.proxy.uri, str(ACCOUNTS)]
            return Process([*arguments, f"{seed}.{next(numbers)}"], name="bank worker")

        def collect(worker):
            for line in worker.lines:
                if found := re.fullmatch(r"ack (\S+) \.", line):
                    acknowledged.add(found.group(1))

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
            collect(workers[at])
            workers[at] = start_worker()
        for worker in workers:
            worker.kill()
            collect(worker)
        time.sleep(1.5)  # what the last kills left open is rolled back

        balances = {d["_id"]: d["balance"] for d in bank.accounts.find()}
        transfers = {d["_id"]: d for d in bank.transfers.find()}
        print(f"{kills}, {len(acknowledged)} acknowledged, {len(transfers)} transfers")
        assert not failures, f"a client saw an error: {failures[0]}"
        assert sum(balances.values()) == ACCOUNTS * START_BALANCE
        expected = {account: START_BALANCE for account in range(ACCOUNTS)}
        for transfer in transfers.values():
            expected[transfer["from"]] -= transfer["amount"]
            expected[transfer["to"]] += transfer["amount"]
        assert balances == expected
        assert acknowledged <= set(transfers), f"lost: {acknowledged - set(transfers)}"
        assert len(acknowledged) > 50, "too few transfers to prove anything"
        stack.proxy.verify()
