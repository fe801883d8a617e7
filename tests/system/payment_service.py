"""A service whose one call makes two writes: POST /ACCOUNT/PAYMENT adds 1 to the account and an entry
to the ledger, whose _id is made here: a payment that is made twice stands there twice. A process of
its own, so that it can be killed.

payment_service.py PORT MONGO_URI
"""

import http.server
import sys

import pymongo


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        account, payment = self.path.strip("/").split("/")
        database = self.server.client["test"]
        status = 201
        try:
            database["accounts"].update_one({"_id": account}, {"$inc": {"n": 1}}, upsert=True)
            database["ledger"].insert_one({"account": account, "payment": payment})
        except pymongo.errors.PyMongoError as error:
            print(f"{account}/{payment}: {error}", flush=True)
            status = 500
        body = payment.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    client = None

    def handle_error(self, *_):
        pass


if __name__ == "__main__":
    port, uri = int(sys.argv[1]), sys.argv[2]
    server = Server(("127.0.0.1", port), Handler)
    server.client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000)
    server.serve_forever()
