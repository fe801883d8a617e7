"""What a scenario is played on: a server, the four sample services, and Holdfast before them or not.

A *part* is what can be killed: the name of a service, "proxy" or "server". Whatever ends by itself
before it is up is started again, as a supervisor does it.
"""

import contextlib
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time

from holdfast_testing import (
    FrontedService,
    FrontingProxy,
    HttpCall,
    ProcessError,
    ProxyFailed,
    Server,
    port_for_restarts,
    request_until_answered,
    wait_until,
)

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "deploy/sample"))

from calls import request_of  # noqa: E402
from checker import Snapshot  # noqa: E402
from stack import QUIET_PERIOD, sample_service, seed_server  # noqa: E402

SERVICES = ("orchestrator", "placement", "network", "monitor")
CONTROLLERS = SERVICES[1:]
FENCE_WAIT = "600ms"  # longer than a write of a dead proxy is on its way
HEAD_START = 0.7  # seconds that what is started first may take before the next is started


class Straight:
    """The services straight at their server, as it is without Holdfast.

    The server syncs each commit. Otherwise, if it is killed, chance would decide what is left of the
    last 100 ms.
    """

    held = False
    beats = True  # the monitor has its background task

    def __init__(self):
        self.server = Server(sync=not self.held)
        self.proxy = None
        self.services = {}
        self._halts = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-halts-"))
        try:
            seed_server(self.server)
            self._start(self.way_to_the_server())
        except BaseException:
            self.close()
            raise

    def way_to_the_server(self):
        """The URI for services and Holdfast."""
        synced = not self.held and self.server.kind == "mongod"
        return self.server.uri + ("?journal=true" if synced else "")

    def _start(self, uri):
        ports = {name: port_for_restarts() for name in SERVICES}
        self.callers_ports = ports
        self._start_services(ports, dict.fromkeys(SERVICES, uri), ports, uri)

    def _start_services(self, ports, mongo, inside, background):
        for name in SERVICES:
            options = ["--listen", ports[name], "--mongo", mongo[name]]
            if name == "orchestrator":
                for controller in CONTROLLERS:
                    options += [f"--{controller}", inside[controller]]
            if name == "monitor" and self.beats:
                options += ["--background-mongo", background]
            environment = {"SAMPLE_HALT": str(self._halts / name)}
            self.services[name] = sample_service(
                name, ports[name], *options, environment=environment
            )

    def close(self):
        for service in self.services.values():
            service.kill()
        if self.proxy is not None:
            self.proxy.close()
        self.server.close()
        shutil.rmtree(self._halts, ignore_errors=True)

    # ---- calls

    def begin(self, call):
        return Caller(self.callers_ports[call.service], call)

    def accept(self, call):
        """Makes it, again while it is answered 503. Its status."""
        port = self.callers_ports[call.service]
        call.outcome = str(request_until_answered(port, *request_of(call, _Small), 40).status)
        return call.outcome

    def snapshot(self):
        with self.server.client() as direct:
            return Snapshot(direct)

    def beats_lost(self):
        """How many beats of the monitor's background task were acknowledged and are not there."""
        lines = [line for line in self.services["monitor"].lines() if line.startswith("beat ")]
        acknowledged = max((int(line.split(" ")[1]) for line in lines), default=0)
        return max(0, acknowledged - self.snapshot().beat)

    def settle(self):
        """Until nobody writes any more: no handler is left that outlived its call."""
        last = [None]

        def stands_still():
            before, last[0] = last[0], self.snapshot().raw
            return before == last[0]

        wait_until(stands_still, 20, "nobody writes any more", 0.25)

    # ---- halts and kills

    def halt_after(self, name, writes):
        """The service is to stand still right after that many writes from now on."""
        (self._halts / name).write_text(str(writes))

    def wait_halted(self, name, caller):
        def halted():
            assert caller.running(), f"{name} did not get there: {caller.told()}"
            return _stands_still(self.services[name].process.pid)

        wait_until(halted, 20, f"{name} stands still", 0.005)

    def resume(self, name):
        self.services[name].process.send(signal.SIGCONT)

    def kill(self, parts):
        """kill -9, all of them at once."""
        for part in parts:
            self._process(part).send(signal.SIGKILL)
        for part in parts:
            self._process(part).kill()

    def start(self, order):
        """Starts parts that are dead: group by group, the next when the last one is up, or has had
        its head start. Returns when all are up."""
        starters = []
        for group in order:
            starters += [Starter(self._part(part)) for part in group]
            until = time.monotonic() + HEAD_START
            while any(map(Starter.busy, starters)) and time.monotonic() < until:
                time.sleep(0.01)
        for starter in starters:
            starter.wait()

    def mend(self):
        """After a scenario that failed half-way: all parts run, and nobody is to halt."""
        for name in SERVICES:
            (self._halts / name).unlink(missing_ok=True)
            self.resume(name)
        parts = [part for part in (*SERVICES, "proxy", "server") if self.has(part)]
        self.start([[part for part in parts if not self.runs(part)]])

    def has(self, part):
        return part != "proxy" or self.proxy is not None

    def runs(self, part):
        return self._process(part).running()

    def _part(self, part):
        return {"proxy": self.proxy, "server": self.server}.get(part) or self.services[part]

    def _process(self, part):
        return self.server._process if part == "server" else self._part(part).process


class Held(Straight):
    """The same services with Holdfast before their HTTP ports and before their server."""

    held = True

    def _start(self, uri):
        fronted = {name: FrontedService(name, domain="emco") for name in SERVICES}
        http = {"quietPeriod": QUIET_PERIOD, "routes": "GET /groups/*/refresh"}
        settings = {"upstream.fenceWait": FENCE_WAIT, "upstream.connectTimeout": "1s"}
        self.proxy = FrontingProxy(uri, fronted.values(), http, settings=settings, start=False)
        self.proxy.port = port_for_restarts()
        self.proxy.start()
        self.callers_ports = {name: one.callers_port for name, one in fronted.items()}
        self._start_services(
            {name: one.service_port for name, one in fronted.items()},
            {name: one.mongo_uri for name, one in fronted.items()},
            {name: one.inside_port for name, one in fronted.items()},
            self.proxy.uri,
        )

    def settle(self):
        """Until calls are admitted again: Holdfast has let go of all that was left."""
        body = {"token": "quiet", "content": ""}
        port = self.callers_ports["orchestrator"]
        answer = request_until_answered(port, "PUT", "/apps/quiet", body, 40)
        assert answer.accepted, f"not quiet: {answer.status} {answer.body}"

    def open_units(self):
        """Those of calls that nobody has ended, and all that wait for an operator."""
        return [
            unit
            for unit in self.proxy.units()
            if unit["state"] == "conflict" or (unit["state"], unit["boundary"]) == ("open", "http")
        ]


    def end_cleanly(self):
        assert self.proxy.stop() == 0, f"SIGTERM: no clean end\n{self.proxy.process.tail()}"
        self.proxy.verify()


class Caller:
    """A call under way. told(): what its caller was told in the end."""

    def __init__(self, port, call):
        self.call = call
        self._request = HttpCall(port, *request_of(call, _Small), timeout=60)
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self):
        try:
            self.call.outcome = str(self._request.answer().status)
        except OSError:
            self.call.outcome = "no answer"

    def running(self):
        return self._thread.is_alive()

    def told(self):
        self._thread.join(60)
        assert not self._thread.is_alive(), f"{self.call.title()} is not answered"
        return self.call.outcome


class Starter:
    """Starts a part until it stays up."""

    def __init__(self, part):
        self.part = part
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            with contextlib.suppress(ProxyFailed, ProcessError):
                self.part.start()
                return
            time.sleep(0.05)

    def busy(self):
        return self._thread.is_alive()

    def wait(self):
        self._thread.join(60)
        assert not self.busy(), f"{self.part} does not start"


class _Small:
    """Chance, for the sizes of apps: all small."""

    @staticmethod
    def random():
        return 0.5

    @staticmethod
    def randint(low, _high):
        return low

    @staticmethod
    def randbytes(size):
        return bytes(size)



def _stands_still(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"
