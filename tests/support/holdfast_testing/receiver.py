"""What takes the POSTs of holdfastd: a collector of spans, a webhook."""

import http.server
import json
import threading

from .process import wait_until


class Receiver:
    """An HTTP server on a port of its own. `answer`: the status of what comes next, or a function
    of no arguments that gives it, and may take its time."""

    def __init__(self, answer=200, port=0):
        self.answer = answer
        self.bodies = []  # of what was answered 2xx, as they came
        self.headers = []
        self.tries = 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.tries += 1
                status = receiver.answer() if callable(receiver.answer) else receiver.answer
                if 200 <= status < 300:
                    receiver.headers.append((self.path, dict(self.headers)))
                    receiver.bodies.append(body.decode())
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        class Threads(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self._server = Threads(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def documents(self):
        return [json.loads(body) for body in list(self.bodies)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Span:
    """One span of OTLP's JSON, its attributes as a dictionary."""

    def __init__(self, raw):
        self.raw = raw
        self.trace, self.id = raw["traceId"], raw["spanId"]
        self.parent = raw.get("parentSpanId")
        self.name, self.kind = raw["name"], raw["kind"]
        self.attributes = {}
        for attribute in raw["attributes"]:
            (kind, value), *rest = attribute["value"].items()
            assert not rest and kind in ("stringValue", "intValue"), attribute
            self.attributes[attribute["key"]] = int(value) if kind == "intValue" else value
        self.start, self.end = int(raw["startTimeUnixNano"]), int(raw["endTimeUnixNano"])
        self.failed = raw["status"].get("code") == 2
        self.links = [(link["traceId"], link["spanId"]) for link in raw.get("links", [])]


class Collector(Receiver):
    """An OTLP receiver."""

    def spans(self, trace=None):
        found = []
        for document in self.documents():
            for resource in document["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    found += [Span(raw) for raw in scope["spans"]]
        return [span for span in found if trace in (None, span.trace)]

    def wait_spans(self, count, trace=None, timeout=20):
        """So many spans have come, and no more: in the order of their beginning, units first."""

        def there():
            spans = self.spans(trace)
            return spans if len(spans) >= count else None

        spans = wait_until(there, timeout, f"{count} spans have come")
        assert len(spans) == count, [span.raw for span in spans]
        return sorted(spans, key=lambda span: (span.start, span.kind == 3, -span.end))
