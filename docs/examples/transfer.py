"""Moves 30 from alice to bob: two writes that belong together, in a transaction of the driver.

python transfer.py URI [--plain] [--die] [--kill PID]       python transfer.py URI --show
"""

import argparse
import os
import signal

from pymongo import MongoClient

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("uri")
parser.add_argument("--plain", action="store_true", help="two plain writes, no transaction")
parser.add_argument("--die", action="store_true", help="kill -9 myself between the two writes")
parser.add_argument("--kill", type=int, metavar="PID", help="kill -9 this process there, too")
parser.add_argument("--show", action="store_true", help="only say what is there")
options = parser.parse_args()


def transfer(accounts, session=None):
    accounts.update_one({"_id": "alice"}, {"$inc": {"balance": -30}}, session=session)
    if options.kill:
        os.kill(options.kill, signal.SIGKILL)
    if options.die:
        os.kill(os.getpid(), signal.SIGKILL)
    accounts.update_one({"_id": "bob"}, {"$inc": {"balance": 30}}, session=session)


client = MongoClient(options.uri)
accounts = client.shop.accounts
for name in ("alice", "bob"):
    accounts.update_one({"_id": name}, {"$setOnInsert": {"balance": 100}}, upsert=True)
if options.plain:
    transfer(accounts)
elif not options.show:
    with client.start_session() as session:
        session.with_transaction(lambda session: transfer(accounts, session))
print(", ".join(f"{each['_id']} {each['balance']}" for each in accounts.find().sort("_id")))
