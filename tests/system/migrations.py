"""What the tests of `holdfast migrate` share: a directory of migration files, and runs of it."""

import json
import pathlib

import bson
from holdfast_testing import Process, build_bin, holdfast


class Migrations:
    """Files in `directory`, for `database` behind `stack`'s proxy."""

    def __init__(self, stack, directory, database, wal=True):
        self.stack = stack
        self.directory = pathlib.Path(directory)
        self.database = database
        self.wal = wal
        self.direct = stack.direct[database]

    def write(self, name, text):
        """A file: text as it is, or a value as JSON, which is YAML as well."""
        content = text if isinstance(text, str) else json.dumps(text, indent=1)
        (self.directory / name).write_text(content)

    def up_of(self, name, *steps, down=None):
        """A file of these steps."""
        migration = {"up": list(steps)}
        if down is not None:
            migration["down"] = down
        self.write(name, migration)

    def arguments(self, action, *options):
        proxy = ["--proxy", f"{self.stack.proxy.uri}{self.database}"]
        wal = ["--wal", self.stack.proxy.wal] if self.wal else []
        return ["migrate", action, str(self.directory), *proxy, *wal, *options]

    def run(self, action, *options, check=0, timeout=120):
        """Runs it to its end: a CompletedProcess with text output."""
        return holdfast(*self.arguments(action, *options), check=check, timeout=timeout)

    def start(self, action, *options):
        """Begins it: a Process."""
        program = str(build_bin() / "holdfast")
        return Process([program, *self.arguments(action, *options)], name="holdfast migrate")

    def status(self, check=None):
        """{version: what status says}."""
        said = json.loads(self.run("status", "--json", check=check).stdout)
        return {entry["version"]: entry for entry in said["migrations"]}

    def row(self, version):
        return self.direct.holdfast_migrations.find_one({"_id": version})

    def stored(self, collection):
        """{_id: the document's bytes}, asked past the proxy."""
        raw = self.direct.with_options(
            codec_options=bson.CodecOptions(document_class=bson.raw_bson.RawBSONDocument)
        )
        return {repr(d["_id"]): bytes(d.raw) for d in raw[collection].find()}
