"""The MongoDB-compatible server behind the proxy: mongod or SecantusDB, found by find_server."""

import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import pymongo

from .certificates import Authority
from .process import Process, free_port, wait_until

_SUPPORT = pathlib.Path(__file__).resolve().parent.parent
ADMIN_USER = "root"
ADMIN_PASSWORD = "correct horse"


@functools.lru_cache(maxsize=1)
def _find_server():
    found = subprocess.run(
        [str(_SUPPORT / "find_server")], stdout=subprocess.PIPE, text=True, check=True
    )
    kind, path = found.stdout.strip().split(" ", 1)
    return kind, path


def server_kind():
    """mongod, secantusd-rs or secantusd-py."""
    return _find_server()[0]


def server_program():
    """Its path."""
    return _find_server()[1]


class Server:
    """One server with a data directory of its own, started by the constructor.

    mode: "standalone", or "replicaset" (one node, native transactions and change streams).
    auth: SCRAM-SHA-256 with the user ADMIN_USER; `users` adds (name, password, [(role, database)]).
    tls: (certificate and key in one file, authority's file, whether clients need a certificate).
    Its port is the same after each restart, its data are kept until close().
    """

    def __init__(self, mode="standalone", auth=False, users=(), sync=False, tls=None):
        self.mode = mode
        self.auth = auth
        self.sync = sync
        self.tls = tls
        self._serving_tls = False
        self.kind, self._program = _find_server()
        self.directory = tempfile.mkdtemp(prefix="holdfast-server-")
        self.port = None
        self._process = None
        try:
            if auth:
                self._make_users(users)
            self.start()
            if mode == "replicaset" and self.kind == "mongod":
                self._initiate()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self):
        """For the proxy's own use: with the administrator's credential where there is one."""
        tls = f"&tls=true&tlsCAFile={self.tls[1]}" if self.tls else ""
        if self.tls and self.tls[2]:
            tls += f"&tlsCertificateKeyFile={self.tls[0]}"
        if self.auth:
            password = ADMIN_PASSWORD.replace(" ", "%20")
            return (
                f"mongodb://{ADMIN_USER}:{password}@{self.address}/"
                f"?authSource=admin&authMechanism=SCRAM-SHA-256{tls}"
            )
        return f"mongodb://{self.address}/" + ("?" + tls[1:] if tls else "")

    def client(self, **options):
        """Straight to the server, past the proxy."""
        options.setdefault("directConnection", True)
        options.setdefault("serverSelectionTimeoutMS", 10000)
        return pymongo.MongoClient(self.uri, **options)

    def start(self, auth=None):
        self._serving_tls = self.tls is not None and auth is None
        auth = self.auth if auth is None else auth
        port = self.port or (free_port() if self.kind == "mongod" else 0)
        self._process = Process(self._arguments(port, auth), name=self.kind)
        if self.kind == "mongod":
            self.port = port
        else:
            self.port = self._process.wait_for_line(
                self._announced_port, 60, "the port it listens on"
            )
        wait_until(self._answers, 60, f"{self.kind} answers on port {self.port}")

    def running(self):
        return self._process.running()

    def kill(self):
        self._process.kill()

    def pause(self):
        self._process.send(signal.SIGSTOP)
        wait_until(self._process.stands_still, 5, "the server stands still")

    def resume(self):
        self._process.send(signal.SIGCONT)

    def stop(self):
        self._process.terminate(60)

    def restart(self):
        """kill -9, then again on the same port with the same data."""
        self.kill()
        self.start()

    def close(self):
        if self._process is not None and self._process.running():
            self._process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _arguments(self, port, auth):
        if self.kind == "mongod":
            arguments = [self._program, "--port", port, "--dbpath", self.directory]
            arguments += ["--bind_ip", "127.0.0.1", "--wiredTigerCacheSizeGB", "0.5"]
            if self.mode == "replicaset":
                arguments += ["--replSet", "test"]
                if auth:
                    arguments += ["--keyFile", self._key_file()]
            return arguments + self._tls_arguments() + (["--auth"] if auth else [])
        arguments = [self._program, "--port", port, "--storage-path", self.directory]
        if self.kind == "secantusd-rs":
            arguments += ["--log-file-max", "16MB", "--cache-size", "512M"]
            if self.sync:
                arguments.append("--sync-on-commit")
        if self.mode == "standalone":
            arguments.append("--standalone")
        return arguments + self._tls_arguments() + (["--auth"] if auth else [])

    def _tls_arguments(self):
        if not self._serving_tls:
            return []
        both, authority, need_certificates = self.tls
        if self.kind == "mongod":
            arguments = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", both]
            arguments += ["--tlsCAFile", authority]
            return arguments + (
                [] if need_certificates else ["--tlsAllowConnectionsWithoutCertificates"]
            )
        certificate, key = Authority.parts(both)
        arguments = ["--tls-cert-file", certificate, "--tls-key-file", key]
        if need_certificates:
            arguments += ["--tls-ca-file", authority, "--tls-require-client-cert"]
        return arguments

    def _key_file(self):
        path = os.path.join(self.directory, "key")
        if not os.path.exists(path):
            with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
                file.write("one+node+needs+a+key+file+too")
        return path

    @staticmethod
    def _announced_port(line):
        found = re.search(r"listening on \S*:(\d+)", line)
        return int(found.group(1)) if found else None

    def _answers(self):
        if not self._process.running():
            raise AssertionError(f"{self.kind} ended:\n{self._process.tail()}")
        try:
            options = {}
            if self._serving_tls:
                options = {"tls": True, "tlsCAFile": str(self.tls[1])}
                options["tlsCertificateKeyFile"] = str(self.tls[0])
                options["tlsAllowInvalidHostnames"] = True
            with pymongo.MongoClient(
                f"mongodb://{self.address}/",
                directConnection=True,
                serverSelectionTimeoutMS=500,
                connectTimeoutMS=2000,
                **options,
            ) as client:
                client.admin.command("hello")
            return True
        except pymongo.errors.PyMongoError:
            return False

    def _make_users(self, users):
        self.start(auth=False)
        with pymongo.MongoClient(f"mongodb://{self.address}/", directConnection=True) as client:
            root = [{"role": "root", "db": "admin"}]
            scram = ["SCRAM-SHA-256"]
            client.admin.command(
                "createUser", ADMIN_USER, pwd=ADMIN_PASSWORD, roles=root, mechanisms=scram
            )
            for name, password, roles in users:
                granted = [{"role": role, "db": database} for role, database in roles]
                client.admin.command(
                    "createUser", name, pwd=password, roles=granted, mechanisms=scram
                )
        self.stop()

    def _initiate(self):
        with pymongo.MongoClient(f"mongodb://{self.address}/", directConnection=True) as client:
            member = {"_id": 0, "host": self.address}
            client.admin.command("replSetInitiate", {"_id": "test", "members": [member]})
            wait_until(
                lambda: client.admin.command("hello").get("isWritablePrimary"),
                60,
                "the replica set has a primary",
            )
