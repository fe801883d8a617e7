"""The sample of two services that talk gRPC (deploy/sample/cluster_services.py) in one domain, each a
process that can be killed."""

import pathlib
import sys

import grpc
from conftest import DATABASE, Stack
from grpc_stack import Caller
from holdfast_testing import Process, Proxy, Server, port_for_restarts, wait_until

SAMPLE = pathlib.Path(__file__).parents[2] / "deploy/sample/cluster_services.py"
ADD, DELETE = "/clusters.Clusters/Add", "/clusters.Clusters/Delete"


class GrpcProcess:
    """One of the two, on `port`; the same port after each restart."""

    def __init__(self, role, port, *arguments):
        self.role, self.port, self.arguments = role, port, arguments
        self.process = None
        self.start()

    def start(self):
        self.process = Process(
            [sys.executable, str(SAMPLE), self.role, str(self.port), *self.arguments],
            name=self.role,
        )

    def kill(self):
        self.process.kill()

    def answers(self):
        with Caller(self.port, options=[("grpc.initial_reconnect_backoff_ms", 50)]) as caller:
            wait_until(
                lambda: caller.status("/health.Health/Check", timeout=2) == "OK",
                30,
                f"{self.role} answers",
                0.02,
            )


class ClusterStack:
    """Server, proxy, and the two services; both calls and mongo go through the proxy."""

    def __init__(self, directory, **settings):
        ports = {
            name: [port_for_restarts() for _ in range(4)] for name in ("clusters", "placement")
        }
        lines = ["services:"]
        for name, (listen, inside, service, mongo) in ports.items():
            lines += [
                f"  - name: {name}",
                f"    listen: 127.0.0.1:{listen}",
                f"    inside: 127.0.0.1:{inside}",
                f"    service: 127.0.0.1:{service}",
                f"    mongo: 127.0.0.1:{mongo}",
                "    domain: emco",
            ]
        config = directory / "holdfast.yaml"
        config.write_text("\n".join(lines) + "\n")
        self.port = ports["clusters"][0]
        self.placement_port = ports["placement"][0]
        self.server = Server()
        self.direct = self.server.client()
        self.proxy = Proxy(
            self.server,
            {"upstream.fenceWait": "100ms", "http.quietPeriod": "300ms", **settings},
            options=["--config", str(config)],
        )
        self.placement = GrpcProcess(
            "placement", ports["placement"][2], f"mongodb://127.0.0.1:{ports['placement'][3]}/"
        )
        self.clusters = GrpcProcess(
            "clusters",
            ports["clusters"][2],
            f"mongodb://127.0.0.1:{ports['clusters'][3]}/",
            f"127.0.0.1:{ports['placement'][1]}",
        )
        self.ready()

    stored = Stack.stored

    def ready(self):
        self.placement.answers()
        self.clusters.answers()

    def whole(self, name, cluster):
        """True: all of it is there; False: nothing of it. Anything else is torn."""
        found = {
            each["kind"]: each
            for each in self.direct[DATABASE][name].find({"cluster": cluster})
        }
        if not found:
            return False
        assert set(found) == {"cluster", "cloudConfig", "placement"}, f"torn: {found}"
        parts = {
            "cluster": ("data", "stateInfo"),
            "cloudConfig": ("config",),
            "placement": ("clusterNodes", "clusterLabels"),
        }
        tokens = set()
        for kind, names in parts.items():
            for part in names:
                assert part in found[kind], f"torn: {kind} without {part}"
                tokens.add(found[kind][part]["token"])
        assert len(tokens) == 1, f"torn: parts of {tokens}"
        return True

    def call_goes_through(self, name):
        """Also the fence of what was cut off is over."""
        request = {"collection": name, "cluster": "after", "token": "after"}

        def added():
            with Caller(self.port) as caller:
                return caller.status(ADD, request, timeout=20) == "OK"

        wait_until(added, 30, "calls are admitted again", 0.1)
        assert self.whole(name, "after")

    def close(self):
        self.clusters.kill()
        self.placement.kill()
        self.direct.close()
        self.proxy.close()
        self.server.close()


class Asked:
    """A call on a channel and thread of gRPC's own."""

    def __init__(self, port, method, request):
        self.caller = Caller(port)
        self.future = self.caller.begin(method, request, timeout=40)

    def end(self):
        """Its status' name."""
        error = self.future.exception(45)
        self.caller.close()
        return "OK" if error is None else error.code().name


__all__ = ["ADD", "DELETE", "Asked", "ClusterStack", "grpc"]
