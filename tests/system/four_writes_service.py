"""A service whose one call makes four writes: POST /NAME/STATUS writes to the collection NAME and
answers STATUS. A process of its own, so that it can be killed.

four_writes_service.py PORT MONGO_URI
"""

import pymongo
from killable_service import Handler, serve


class FourWrites(Handler):
    def do_POST(self):
        name, status = self.path.strip("/").split("/")
        collection = self.database[name]
        try:
            collection.insert_one({"_id": "i", "new": True})
            collection.update_one({"_id": "u"}, {"$inc": {"v": 1}})
            collection.find_one_and_update({"$and": [{"k": 1}]}, {"$set": {"p": 1}}, upsert=True)
            collection.delete_one({"_id": "d"})
        except pymongo.errors.PyMongoError as error:
            print(f"{name}: {error}", flush=True)
            status = 500
        self.answer(int(status))

    def do_GET(self):
        """200 once no connection of the pool is one that broke with the proxy."""
        for _ in range(8):
            try:
                self.server.client.admin.command("ping")
            except pymongo.errors.PyMongoError:
                continue
        self.answer(200)


if __name__ == "__main__":
    serve(FourWrites)
