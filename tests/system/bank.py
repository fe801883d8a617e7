"""Money moves between accounts: the clients of the bank tests, and what must hold in the end."""

import pathlib
import re
import sys

from holdfast_testing import Process

WORKER = pathlib.Path(__file__).parent / "bank_worker.py"
ACCOUNTS = 20
START_BALANCE = 100


def open_accounts(bank):
    bank.accounts.insert_many([{"_id": i, "balance": START_BALANCE} for i in range(ACCOUNTS)])


def start_worker(uri, seed):
    """A client that transfers money until it is killed."""
    return Process([sys.executable, str(WORKER), uri, str(ACCOUNTS), seed], name="bank worker")


def acknowledged_by(worker):
    """The transfers that it was told are done."""
    found = (re.fullmatch(r"ack (\S+) \.", line) for line in worker.lines)
    return {match.group(1) for match in found if match}


def check(bank, acknowledged):
    """No money is made or lost, every balance follows from the transfers that are there, and every
    acknowledged transfer is there."""
    balances = {d["_id"]: d["balance"] for d in bank.accounts.find()}
    transfers = {d["_id"]: d for d in bank.transfers.find()}
    print(f"{len(acknowledged)} acknowledged, {len(transfers)} transfers")
    assert sum(balances.values()) == ACCOUNTS * START_BALANCE
    expected = {account: START_BALANCE for account in range(ACCOUNTS)}
    for transfer in transfers.values():
        expected[transfer["from"]] -= transfer["amount"]
        expected[transfer["to"]] += transfer["amount"]
    assert balances == expected
    assert acknowledged <= set(transfers), f"lost: {acknowledged - set(transfers)}"
