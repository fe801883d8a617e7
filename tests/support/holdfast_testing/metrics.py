"""The metrics page, read by Prometheus' own parsers, in both forms."""

import http.client

from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from .control import admin_port

CLASSIC = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# What a Prometheus server sends.
PROMETHEUS_ACCEPTS = (
    "application/openmetrics-text;version=1.0.0;q=0.75,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=0.0.4;q=0.25,*/*;q=0.1"
)
assert openmetrics


def fetch(port, accept=None):
    """(content type, text)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def families(port, accept=None):
    """[metric family] as the parser for what came makes them."""
    kind, text = fetch(port, accept)
    if kind == OPENMETRICS:
        return list(openmetrics_parser.text_string_to_metric_families(text))
    assert kind == CLASSIC, kind
    return list(parser.text_string_to_metric_families(text))


class Metrics:
    """One scrape: values by name and labels."""

    def __init__(self, proxy_or_port, accept=None):
        port = proxy_or_port if isinstance(proxy_or_port, int) else admin_port(proxy_or_port)
        self.families = families(port, accept)
        self.values = {}
        for family in self.families:
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in self.values, f"twice: {key}"
                self.values[key] = sample.value

    def get(self, name, **labels):
        """The value of exactly this series; 0 of one that is not there yet."""
        return self.values.get((name, tuple(sorted(labels.items()))), 0)

    def sum(self, name, **labels):
        """Over all series of that name that have these labels."""
        wanted = set(labels.items())
        return sum(v for (n, have), v in self.values.items() if n == name and wanted <= set(have))

    def names(self):
        return {name for name, _ in self.values}
