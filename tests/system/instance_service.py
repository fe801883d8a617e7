"""One instance of a service, as a process of its own: POST /NAME/CALL/WRITES/STATUS writes so many
documents of CALL to the collection NAME and answers STATUS; with STATUS 0 it never answers.

instance_service.py PORT MONGO_URI
"""

import threading

import pymongo
from killable_service import Handler, serve


class Instance(Handler):
    def do_POST(self):
        name, call, writes, status = self.path.strip("/").split("/")
        try:
            for write in range(int(writes)):
                self.database[name].insert_one({"_id": f"{call}:{write}", "call": call})
        except pymongo.errors.PyMongoError as error:
            print(f"{name}: {error}", flush=True)
            status = 500
        if int(status) == 0:
            threading.Event().wait()
        self.answer(int(status))

    def do_GET(self):
        self.answer(200)


if __name__ == "__main__":
    serve(Instance)
