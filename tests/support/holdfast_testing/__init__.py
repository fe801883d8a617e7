"""What system tests, demo and scenarios share: real servers, the proxy, a tap on the wire.

Everything started here is ended again by its process id, also after a failed test or Ctrl-C.
"""

from .browser import Browser, find_browser
from .control import admin_port, ask_admin, ask_control
from .certificates import Authority
from .fail_points import FailPoints
from .fake_replica_set import FakeReplicaSet
from .http_client import (
    Answer,
    HttpCall,
    NotConnected,
    connect,
    encode_request,
    request,
    request_until_answered,
)
from .later import Later
from .memory import Memory, anonymous_bytes
from .old_server import OldServer
from .process import (
    Process,
    ProcessError,
    Successor,
    end_all_started,
    free_port,
    port_for_restarts,
    wait_until,
)
from .proxy import Proxy, ProxyFailed, build_bin, holdfast
from .receiver import Collector, Receiver
from .server import Server, server_kind, server_program
from .service import FrontedService, FrontingProxy, Service
from .wire import Connection, WireTap, decode_message, encode_message, encode_query, receive_all

__all__ = [
    "Answer",
    "Browser",
    "Authority",
    "Collector",
    "Connection",
    "FailPoints",
    "FakeReplicaSet",
    "FrontedService",
    "FrontingProxy",
    "HttpCall",
    "Later",
    "Memory",
    "NotConnected",
    "OldServer",
    "Process",
    "ProcessError",
    "Proxy",
    "ProxyFailed",
    "Receiver",
    "Server",
    "Service",
    "Successor",
    "WireTap",
    "admin_port",
    "anonymous_bytes",
    "ask_admin",
    "ask_control",
    "build_bin",
    "connect",
    "decode_message",
    "encode_message",
    "encode_query",
    "encode_request",
    "end_all_started",
    "find_browser",
    "free_port",
    "holdfast",
    "port_for_restarts",
    "receive_all",
    "request",
    "request_until_answered",
    "server_kind",
    "server_program",
    "wait_until",
]
