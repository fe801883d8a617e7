"""Two services that talk gRPC and share a database, written as people write them: plain grpcio and
pymongo, nothing of Holdfast. One call to `clusters` writes three documents, one of them by way of
`placement`:

    /clusters.Clusters/Add      {cluster, its state} and its cloud config, then placement's AddCluster
    /clusters.Clusters/Delete   the cluster, placement's DeleteCluster, then the cloud config
    /placement.Placement/AddCluster, /placement.Placement/DeleteCluster    {nodes, labels}

Messages are JSON, so that no compiler of protocol files is needed.

    cluster_services.py clusters PORT MONGO_URI PLACEMENT_HOST:PORT
    cluster_services.py placement PORT MONGO_URI
"""

import json
import os
import sys
from concurrent import futures

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import pymongo

DATABASE = "test"


def encode(message):
    return json.dumps(message).encode()


def stub(channel, method):
    return channel.unary_unary(
        method, request_serializer=encode, response_deserializer=json.loads
    )


def put(collection, key, part, value):
    collection.find_one_and_update(key, {"$set": {part: value}}, upsert=True)


class Service:
    """Handlers are its methods /package.Name/Method: `methods` names them."""

    def __init__(self, mongo_uri, methods):
        self.client = pymongo.MongoClient(mongo_uri, serverSelectionTimeoutMS=5000)
        self.methods = methods
        self.methods["/health.Health/Check"] = self.check

    def resources(self, request):
        return self.client[DATABASE][request["collection"]]

    def check(self, _request, _context):
        """Answered once no connection of the pool is one that broke."""
        for _ in range(8):
            try:
                self.client.admin.command("ping")
            except pymongo.errors.PyMongoError:
                continue
        return {}

    def serve(self, port):
        service = self

        class Handlers(grpc.GenericRpcHandler):
            def service(self, details):
                function = service.methods.get(details.method)
                if function is None:
                    return None
                return grpc.unary_unary_rpc_method_handler(
                    service.guarded(function),
                    request_deserializer=json.loads,
                    response_serializer=encode,
                )

        server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers([Handlers()])
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        server.wait_for_termination()

    def guarded(self, function):
        """What goes wrong below is an error of the call."""

        def run(request, context):
            try:
                return function(request, context)
            except pymongo.errors.PyMongoError as error:
                print(error, flush=True)
                context.abort(grpc.StatusCode.INTERNAL, str(error))
            except grpc.RpcError as error:
                print(error, flush=True)
                context.abort(error.code(), error.details())

        return run


class Clusters(Service):
    def __init__(self, mongo_uri, placement):
        super().__init__(
            mongo_uri,
            {"/clusters.Clusters/Add": self.add, "/clusters.Clusters/Delete": self.delete},
        )
        channel = grpc.insecure_channel(
            placement, [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.enable_retries", 0)]
        )
        self.place = stub(channel, "/placement.Placement/AddCluster")
        self.displace = stub(channel, "/placement.Placement/DeleteCluster")

    def add(self, request, _context):
        resources = self.resources(request)
        cluster, token = request["cluster"], request["token"]
        put(resources, {"kind": "cluster", "cluster": cluster}, "data", {"token": token})
        put(resources, {"kind": "cluster", "cluster": cluster}, "stateInfo", {"token": token})
        config = {"token": token, "kubeconfig": "k" * 7000}
        put(resources, {"kind": "cloudConfig", "cluster": cluster}, "config", config)
        self.place(request, timeout=20)
        return {"cluster": cluster}

    def delete(self, request, _context):
        resources = self.resources(request)
        resources.delete_one({"kind": "cluster", "cluster": request["cluster"]})
        self.displace(request, timeout=20)
        resources.delete_one({"kind": "cloudConfig", "cluster": request["cluster"]})
        return {}


class Placement(Service):
    def __init__(self, mongo_uri):
        super().__init__(
            mongo_uri,
            {
                "/placement.Placement/AddCluster": self.add,
                "/placement.Placement/DeleteCluster": self.delete,
            },
        )

    def add(self, request, context):
        key = {"kind": "placement", "cluster": request["cluster"]}
        put(self.resources(request), key, "clusterNodes", {"token": request["token"]})
        put(self.resources(request), key, "clusterLabels", {"token": request["token"]})
        if request.get("refuse"):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        return {}

    def delete(self, request, _context):
        self.resources(request).delete_one(
            {"kind": "placement", "cluster": request["cluster"]}
        )
        return {}


def main():
    role, port, mongo_uri, *others = sys.argv[1:]
    service = Clusters(mongo_uri, *others) if role == "clusters" else Placement(mongo_uri)
    service.serve(int(port))


if __name__ == "__main__":
    main()
