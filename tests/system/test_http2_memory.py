"""HTTP/2 moves large bodies in bounded memory. Not for a daemon with sanitizers, which keep what is freed."""

import threading
import time

from holdfast_testing import Memory, anonymous_bytes, http2
from http_stack import HttpStack


def test_large_bodies_both_ways_in_bounded_memory():
    """40 MB up, 60 MB down to a caller that pauses: neither is ever held."""
    with HttpStack() as stack, http2.Caller(stack.http_port) as caller:
        size = 60 << 20
        chunk = b"z" * (1 << 20)
        peer_done = threading.Event()

        def count(request):
            return 200, {"size": len(request.payload)}

        def large(request):
            request.send_response(200)
            request.send_header("Content-Length", str(size))
            request.end_headers()
            for _ in range(size // len(chunk)):
                request.wfile.write(chunk)
            peer_done.set()

        stack.service.handlers.update({"/count": count, "/large": large})
        before = anonymous_bytes(stack.proxy.process)
        with Memory(stack.proxy.process) as memory:
            stream = caller.begin("GET", "/large")
            time.sleep(0.5)
            assert not peer_done.is_set(), "its answer was taken without anybody to give it to"
            caller.wait(stream, 60)
            assert len(caller.answers[stream].body) == size
            answer = caller.ask("GET", "/count", b"u" * (40 << 20))
        assert memory.peak - before < 8 << 20, (before, memory.peak)
        assert answer.body == b'{"size": %d}' % (40 << 20)
