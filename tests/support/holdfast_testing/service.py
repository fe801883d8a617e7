"""Services behind the HTTP boundary: their processes, and a proxy that fronts them."""

import pathlib
import tempfile

from .http_client import connect, request
from .process import Process, ProcessError, port_for_restarts, wait_until
from .proxy import Proxy


class Service:
    """A service's process on `port`, started by the constructor; the same port after each restart.

    Ready when GET `ready_path` is answered, with whatever status.
    """

    def __init__(self, name, arguments, port, ready_path="/", environment=None):
        self.name, self.arguments, self.port = name, list(arguments), port
        self.ready_path = ready_path
        self.environment = environment
        self.earlier_lines = []  # of those that were ended
        self.process = None
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self, wait=True):
        if self.process is not None:
            self.earlier_lines += self.process.lines
        self.process = Process(self.arguments, self.environment, name=self.name)
        if wait:
            self.wait_until_ready()
        return self

    def wait_until_ready(self):
        wait_until(self._answers, 30, f"{self.name} answers", 0.01)

    def _answers(self):
        try:
            request(self.port, "GET", self.ready_path, timeout=5)
            return True
        except OSError:
            if not self.process.running():
                raise ProcessError(f"{self.name} ended\n{self.process.tail()}") from None
            return False

    def kill(self):
        """kill -9. Harmless twice."""
        self.process.kill()

    def running(self):
        return self.process.running()

    def restart(self):
        self.kill()
        return self.start()

    def lines(self):
        """All that it said, in all its lives."""
        return self.earlier_lines + list(self.process.lines)


class FrontedService:
    """One entry of the configuration's `services`: its name, domain and four ports of its own."""

    def __init__(self, name, domain=None):
        self.name, self.domain = name, domain
        self.callers_port = port_for_restarts()
        self.inside_port = port_for_restarts()
        self.service_port = port_for_restarts()
        self.mongo_port = port_for_restarts()

    @property
    def mongo_uri(self):
        return f"mongodb://127.0.0.1:{self.mongo_port}/"

    def yaml(self):
        fields = {
            "listen": self.callers_port,
            "inside": self.inside_port,
            "service": self.service_port,
            "mongo": self.mongo_port,
        }
        lines = [f"  - name: {self.name}"]
        lines += [f"    {field}: 127.0.0.1:{port}" for field, port in fields.items()]
        return lines + ([f"    domain: {self.domain}"] if self.domain else [])


class FrontingProxy(Proxy):
    """holdfastd in front of `services` (FrontedService) and of their server."""

    def __init__(self, upstream, services, http=None, **options):
        self.services = list(services)
        self.http = dict(http or {})
        self._directory = tempfile.TemporaryDirectory(prefix="holdfast-config-")
        self.config = pathlib.Path(self._directory.name, "holdfast.yaml")
        self.config.write_text(self._configuration())
        super().__init__(upstream, options=("--config", str(self.config)), **options)

    def _configuration(self):
        lines = ["http:", *(f"  {key}: {value}" for key, value in self.http.items())]
        lines = lines if self.http else []
        lines += ["services:"]
        for service in self.services:
            lines += service.yaml()
        return "\n".join(lines) + "\n"

    def start(self, crash_at=None, timeout=60):
        super().start(crash_at, timeout)
        ports = [service.callers_port for service in self.services]
        wait_until(lambda: all(map(_accepts, ports)), timeout, "holdfastd accepts calls")
        return self

    def close(self):
        super().close()
        self._directory.cleanup()


def _accepts(port):
    try:
        connect(port, 1).close()
        return True
    except OSError:
        return False
