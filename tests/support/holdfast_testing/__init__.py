"""What system tests, demo and scenarios share: real servers, the proxy, a tap on the wire.

Everything started here is ended again by its process id, also after a failed test or Ctrl-C.
"""

from .memory import Memory, anonymous_bytes
from .old_server import OldServer
from .process import Process, ProcessError, end_all_started, free_port, wait_until
from .proxy import Proxy, ProxyFailed, build_bin, holdfast
from .server import Server, server_kind
from .wire import Connection, WireTap, decode_message, encode_message, encode_query

__all__ = [
    "Connection",
    "Memory",
    "OldServer",
    "Process",
    "ProcessError",
    "Proxy",
    "ProxyFailed",
    "Server",
    "WireTap",
    "anonymous_bytes",
    "build_bin",
    "decode_message",
    "encode_message",
    "encode_query",
    "end_all_started",
    "free_port",
    "holdfast",
    "server_kind",
    "wait_until",
]
