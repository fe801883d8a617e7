"""A service whose one call makes two writes: POST /ACCOUNT/PAYMENT adds 1 to the account and an entry
to the ledger, whose _id is made here: a payment that is made twice stands there twice. A process of
its own, so that it can be killed.

payment_service.py PORT MONGO_URI
"""

import pymongo
from killable_service import Handler, serve


class Payments(Handler):
    def do_POST(self):
        account, payment = self.path.strip("/").split("/")
        status = 201
        try:
            self.database["accounts"].update_one({"_id": account}, {"$inc": {"n": 1}}, upsert=True)
            self.database["ledger"].insert_one({"account": account, "payment": payment})
        except pymongo.errors.PyMongoError as error:
            print(f"{account}/{payment}: {error}", flush=True)
            status = 500
        self.answer(status, payment.encode())


if __name__ == "__main__":
    serve(Payments)
