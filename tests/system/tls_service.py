"""A service that speaks TLS, as a process of its own, to be killed.

    python tls_service.py http|grpc MONGO_URI PORT CERTIFICATE

Its one call writes {_id: 1} into the collection that the request names, says so, and, asked to stop,
does nothing more; else it writes {_id: 2} and answers.
"""

import json
import ssl
import sys
import time

import grpc
from grpc_stack import GrpcService
from http_stack import Service


def context(certificate, *protocols):
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(str(certificate))
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


def credentials(certificate):
    pem = open(certificate, "rb").read()
    return grpc.ssl_server_credentials([(pem, pem)])


def work(service, request):
    collection = service.client.test[request["collection"]]
    collection.insert_one({"_id": 1})
    print("written", flush=True)
    if request.get("stop"):
        time.sleep(600)
    collection.insert_one({"_id": 2})
    return {}


def main():
    kind, uri, port, certificate = sys.argv[1:]
    if kind == "http":
        service = Service(uri, int(port), tls=context(certificate, "http/1.1"))
        service.handlers["/add"] = lambda request: (200, work(service, json.loads(request.payload)))
    else:
        service = GrpcService(uri, int(port), credentials=credentials(certificate))
        service.on("/shop.Orders/Add", lambda request, _: work(service, request))
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
