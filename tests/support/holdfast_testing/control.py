"""Requests to a living holdfastd: by its control socket, and by its admin port."""

import http.client
import json
import os
import socket


class _LocalConnection(http.client.HTTPConnection):
    """HTTP over the control socket in a journal's directory, whose path may be of any length."""

    def __init__(self, wal, timeout):
        super().__init__("holdfastd", timeout=timeout)
        self._wal = wal

    def connect(self):
        directory = os.open(self._wal, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{directory}/control")
        finally:
            os.close(directory)


def _ask(connection, method, path, headers):
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.headers["Content-Type"] == "application/json":
        return answer.status, json.loads(text)
    return answer.status, text


def ask_control(proxy, path, method="GET", timeout=70):
    """(HTTP status, JSON or text), by the control socket."""
    return _ask(_LocalConnection(proxy.wal, timeout), method, path, None)


def admin_port(proxy):
    """The port of --admin, as the log of this start tells it."""
    for entry in proxy.log():
        if entry["msg"] == "Listening" and entry["attr"]["listener"] == "admin":
            return int(entry["attr"]["address"].rsplit(":", 1)[1])
    raise AssertionError(f"no admin listener in the log\n{proxy.process.tail()}")


def ask_admin(proxy, path, method="GET", token=None, headers=None, timeout=70):
    """(HTTP status, JSON or text), by the admin port."""
    headers = dict(headers or {})
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection = http.client.HTTPConnection("127.0.0.1", admin_port(proxy), timeout=timeout)
    return _ask(connection, method, path, headers)
