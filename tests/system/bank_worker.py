"""A client of the bank test: transfers money in driver transactions until it is killed.

bank_worker.py URI ACCOUNTS SEED. Prints "ack ID ." after each acknowledged transfer.
"""

import random
import sys
import uuid

import pymongo


def main():
    uri, accounts, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    chance = random.Random(seed)
    client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=20000)
    bank = client["test"]
    while True:
        source, target = chance.sample(range(accounts), 2)
        amount = chance.randint(1, 20)
        transfer = str(uuid.uuid4())

        def body(session):
            found = bank.accounts.find_one({"_id": source}, session=session)
            change = min(amount, found["balance"])
            bank.accounts.update_one({"_id": source}, {"$inc": {"balance": -change}}, session=session)
            bank.accounts.find_one_and_update(
                {"_id": target}, {"$inc": {"balance": change}}, session=session
            )
            entry = {"_id": transfer, "from": source, "to": target, "amount": change}
            bank.transfers.insert_one(entry, session=session)

        with client.start_session() as session:
            session.with_transaction(body)
        print(f"ack {transfer} .", flush=True)


if __name__ == "__main__":
    main()
