"""A service whose one call makes four writes: POST /NAME/STATUS writes to the collection NAME and
answers STATUS. A process of its own, so that it can be killed.

four_writes_service.py PORT MONGO_URI
"""

import http.server
import sys

import pymongo


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        name, status = self.path.strip("/").split("/")
        collection = self.server.client["test"][name]
        try:
            collection.insert_one({"_id": "i", "new": True})
            collection.update_one({"_id": "u"}, {"$inc": {"v": 1}})
            collection.find_one_and_update({"$and": [{"k": 1}]}, {"$set": {"p": 1}}, upsert=True)
            collection.delete_one({"_id": "d"})
        except pymongo.errors.PyMongoError as error:
            print(f"{name}: {error}", flush=True)
            status = 500
        self.send_response(int(status))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        """200 once no connection of the pool is one that broke with the proxy."""
        for _ in range(8):
            try:
                self.server.client.admin.command("ping")
            except pymongo.errors.PyMongoError:
                continue
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    client = None

    def handle_error(self, *_):
        pass


def main():
    port, uri = int(sys.argv[1]), sys.argv[2]
    server = Server(("127.0.0.1", port), Handler)
    server.client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000)
    server.serve_forever()


if __name__ == "__main__":
    main()
