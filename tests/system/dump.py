"""A dump as mongodump makes it, document by document: dump.py URI FILE [MILLISECONDS]

FILE gets the backup of holdfast_testing.backup, pickled. Between two batches of documents it waits so
long, so that it is of no one moment. mongodump itself is not to be had from Debian.
"""

import pickle
import sys
import time

import pymongo
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

RAW = CodecOptions(document_class=RawBSONDocument)


def main():
    uri, file, *pause = sys.argv[1:]
    held = {}
    with pymongo.MongoClient(uri) as client:
        for database in sorted(client.list_database_names()):
            if database in ("admin", "config", "local"):
                continue
            for name in sorted(client[database].list_collection_names()):
                collection = client[database].get_collection(name, codec_options=RAW)
                ids = [document["_id"] for document in collection.find({}, {"_id": 1})]
                rows = held.setdefault(f"{database}.{name}", {})
                for _id in ids:
                    document = collection.find_one({"_id": _id})
                    if document is not None:
                        rows[repr(_id)] = bytes(document.raw)
                    time.sleep(int(pause[0]) / 1000 if pause else 0)
    with open(file, "wb") as stream:
        pickle.dump(held, stream)


if __name__ == "__main__":
    main()
