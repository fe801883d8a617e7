"""A service of several instances behind one address, in the test's own process: one Service of
http_stack each, that connects to its own mongo listener of the proxy."""

from conftest import Stack, end_cleanly
from holdfast_testing import Proxy, Server, ask_admin, port_for_restarts
from http_stack import QUIET, Service, call


class Instance:
    """Its two addresses, and the Service behind them once it runs."""

    def __init__(self):
        self.host = "127.0.0.1"
        self.port, self.mongo = port_for_restarts(), port_for_restarts()
        self.app_name = None  # told apart by it on the proxy's plain listener
        self.service = None

    @property
    def uri(self):
        return f"mongodb://127.0.0.1:{self.mongo}/"

    def yaml(self):
        known = f"mongo: '127.0.0.1:{self.mongo}'"
        if self.app_name is not None:
            known = f"appName: {self.app_name}"
        return f"      - {{service: '{self.host}:{self.port}', {known}}}"


def configuration(listen, instances, more=""):
    lines = ["services:", "  - name: shop", f"    listen: 127.0.0.1:{listen}", "    instances:"]
    return "\n".join(lines + [instance.yaml() for instance in instances]) + f"\n{more}"


class Instances:
    """`count` of them, whose handlers are the same. `change` is given them before they are
    configured; services=False: whoever makes this starts what is behind them; `more`: lines of the service's
    configuration."""

    def __init__(
        self, directory, count, settings=None, services=True, change=None, mode="standalone", more=""
    ):
        self.listen = port_for_restarts()
        self.instances = [Instance() for _ in range(count)]
        if change is not None:
            change(*self.instances)
        self.config = directory / "holdfast.yaml"
        self.config.write_text(configuration(self.listen, self.instances, more))
        self.server = Server(mode=mode)
        self.direct = self.server.client()
        self.proxy = None
        try:
            self.proxy = Proxy(
                self.server,
                {"http.quietPeriod": QUIET, "upstream.fenceWait": "100ms", **(settings or {})},
                options=["--config", str(self.config), "--admin", "127.0.0.1:0"],
            )
            for instance in self.instances if services else []:
                if instance.app_name is None:
                    instance.service = Service(instance.uri, instance.port)
                else:
                    instance.service = Service(
                        self.proxy.uri, instance.port, appname=instance.app_name
                    )
        except BaseException:
            self.close()
            raise

    stored = Stack.stored

    def handle(self, path, handler):
        """handler(instance's number, its pymongo database, request)."""
        for number, instance in enumerate(self.instances):
            database = instance.service.client["test"]
            instance.service.handlers[path] = lambda request, n=number, d=database: handler(
                n, d, request
            )

    def call(self, path, body=None, **options):
        return call(self.listen, path, body, **options)

    def domain(self):
        return ask_admin(self.proxy, "/status")[1]["domains"][0]

    def instance(self, number):
        return self.domain()["instances"][number]

    def free(self):
        """How many instances a call could begin on now."""
        return sum(not (i["callOpen"] or i["fenced"]) for i in self.domain()["instances"])

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for instance in self.instances:
            if instance.service is not None:
                instance.service.client.close()  # without a proxy it would wait for one
        try:
            end_cleanly(self.proxy, kind)
            if kind is None:
                self.proxy.verify()
        finally:
            self.close()

    def close(self):
        for instance in self.instances:
            if instance.service is not None:
                instance.service.close()
        self.direct.close()
        if self.proxy is not None:
            self.proxy.close()
        self.server.close()
