"""What one round runs on: a server, the two services, and Holdfast in front of them or not."""

import pathlib
import sys
import time

from holdfast_testing import (
    FrontedService,
    FrontingProxy,
    Server,
    Service,
    port_for_restarts,
    request_until_answered,
)
from resources import COLLECTION, DATABASE
from seed import seed

HERE = pathlib.Path(__file__).resolve().parent
# Longer than the longest pause between two writes of a handler. One whose connection the proxy's
# end has cut writes again when its driver has found the new one, for which it looks every 0.5 s.
QUIET_PERIOD = "1500ms"


class Stack:
    """Services straight at their server. `proxy` is None."""

    def __init__(self):
        self.server = Server()
        self.proxy = None
        try:
            seed_server(self.server)
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self):
        orchestrator, placement = port_for_restarts(), port_for_restarts()
        self.callers_port = orchestrator
        self.start_services(
            (orchestrator, self.server.uri, placement), (placement, self.server.uri)
        )

    def start_services(self, orchestrator, placement):
        """(own port, mongo's URI, port of the placement service); (own port, mongo's URI)"""
        port, mongo, placement_port = orchestrator
        options = ("--listen", port, "--mongo", mongo, "--placement", placement_port)
        self.placement = sample_service(
            "placement", placement[0], "--listen", *placement[:1], "--mongo", placement[1]
        )
        self.orchestrator = sample_service("orchestrator", port, *options)

    @property
    def services(self):
        return self.orchestrator, self.placement

    def start_what_is_dead(self):
        """Side by side; returns when all of it is ready."""
        if not self.server.running():
            self.server.start()
        dead = [service for service in self.services if not service.running()]
        for service in dead:
            service.start(wait=False)
        if self.proxy is not None and not self.proxy.process.running():
            self.proxy.start()
        for service in dead:
            service.wait_until_ready()

    def restart_everything(self):
        """Ends everything, starts it again and waits until all is quiet."""
        for service in self.services:
            service.kill()
        if self.proxy is not None:
            self.proxy.kill()
        time.sleep(0.5)  # what was sent to the server has arrived
        self.server.stop()
        self.server.start()
        self.start_what_is_dead()
        # Answered once the proxy has let go of all that was left.
        body = {"token": "quiet", "content": ""}
        answer = request_until_answered(self.callers_port, "PUT", "/apps/quiet", body, 30)
        assert answer.accepted, f"not quiet: {answer.status} {answer.body}"

    def collection(self, client):
        return client[DATABASE][COLLECTION]

    def refused_writes(self):
        """How often a service was refused a write, by what it printed."""
        lines = [line for service in self.services for line in service.lines()]
        return sum(line.startswith("write refused") for line in lines)

    def close(self):
        for service in getattr(self, "orchestrator", None), getattr(self, "placement", None):
            if service is not None:
                service.kill()
        if self.proxy is not None:
            self.proxy.close()
        self.server.close()


class HeldStack(Stack):
    """The same services, with Holdfast before their HTTP ports and before their server."""

    def _start(self):
        orchestrator = FrontedService("orchestrator", domain="emco")
        placement = FrontedService("placement", domain="emco")
        http = {"quietPeriod": QUIET_PERIOD}
        self.proxy = FrontingProxy(self.server, (orchestrator, placement), http)
        self.callers_port = orchestrator.callers_port
        self.start_services(
            (orchestrator.service_port, orchestrator.mongo_uri, placement.inside_port),
            (placement.service_port, placement.mongo_uri),
        )


def sample_service(name, port, *options, environment=None):
    arguments = [sys.executable, str(HERE / f"{name}.py"), *map(str, options)]
    return Service(name, arguments, port, environment=environment)


def seed_server(server):
    with server.client() as direct:
        seed(direct[DATABASE][COLLECTION])
