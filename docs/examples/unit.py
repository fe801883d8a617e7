"""Places an order: three writes of three collections, all or nothing.

    python unit.py URI ORDER ITEM       with pymongo, 4.1 or newer
"""

import sys

from bson import ObjectId
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

NO_SUCH_UNIT, COMMITTED = 251, 256


class SoldOut(Exception):
    pass


def write_order(shop, unit, order, item):
    begin = {"unit": unit, "begin": True, "timeoutMS": 10000}
    shop.orders.insert_one({"_id": order, "item": item}, comment=begin)
    in_stock, take_one = {"_id": item, "left": {"$gt": 0}}, {"$inc": {"left": -1}}
    if shop.stock.update_one(in_stock, take_one, comment={"unit": unit}).matched_count == 0:
        raise SoldOut("sold out")  # to the proxy this write was no error
    shop.ledger.insert_one({"order": order}, comment={"unit": unit, "last": True})


def roll_back(client, unit):
    """False: the unit is committed after all; only the answer of its last write was lost."""
    try:
        client.admin.command("abortUnit", unit)
    except OperationFailure as error:
        if error.code not in (NO_SUCH_UNIT, COMMITTED):
            raise
        return error.code == NO_SUCH_UNIT  # an error has rolled it back already
    return True


def place_order(client, order, item):
    unit = f"order-{ObjectId()}"  # a name is used once: each try has a new one
    try:
        write_order(client.shop, unit, order, item)
    except (SoldOut, PyMongoError):
        if roll_back(client, unit):
            raise


if __name__ == "__main__":
    uri, order, item = sys.argv[1:]
    with MongoClient(uri) as client:
        try:
            place_order(client, order, item)
        except (SoldOut, PyMongoError) as error:
            sys.exit(f"{order}: not placed: {error}")
    print(f"{order}: placed")
