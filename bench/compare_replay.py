"""How fast `holdfast replay` is, against the server taking the same writes in bulk.

Pairs: in each round the server takes the writes in bulk, and a replay does the same to a copy of
the data; each round begins with the other of the two. For each kind of journal the ratio of speeds,
as geometric mean and range over the rounds.
"""

import argparse
import json
import math
import shutil
import subprocess
import tempfile
import time

import comparison  # noqa: F401 (for where the support package is)


def options():
    parser = argparse.ArgumentParser(
        prog="bench/compare_replay", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--units", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


OPTIONS = options()

# Behind the options, so that --help needs nothing installed.
import bson  # noqa: E402
import pymongo  # noqa: E402
from bson.int64 import Int64  # noqa: E402
from bson.raw_bson import RawBSONDocument  # noqa: E402
from holdfast_testing import Server, build_bin  # noqa: E402

DATABASE, COLLECTION = "replay", "documents"
BATCH = 1000


def document(number, n):
    return {"_id": Int64(number), "n": n, "v": "x" * 159}


def batches(count):
    for at in range(0, count, BATCH):
        yield range(at, min(at + BATCH, count))


def insert_all(client, count, n):
    collection = client[DATABASE][COLLECTION]
    for batch in batches(count):
        raw = [RawBSONDocument(bson.encode(document(i, n))) for i in batch]
        collection.insert_many(raw, ordered=False)


def update_all(client, count, documents):
    """Each write as a replacement by _id: the cheapest form that does the same."""
    for batch in batches(count):
        updates = [
            {"q": {"_id": Int64(i % documents)}, "u": document(i % documents, i // documents + 1)}
            for i in batch
        ]
        client[DATABASE].command({"update": COLLECTION, "updates": updates, "ordered": False})


def clear(client):
    client.drop_database(DATABASE)
    client.drop_database("holdfast")


def bulk_seconds(client, kind, units, documents):
    clear(client)
    if kind == "updates":
        insert_all(client, documents, 0)
    began = time.monotonic()
    if kind == "inserts":
        insert_all(client, units, 0)
    else:
        update_all(client, units, documents)
    return time.monotonic() - began


def replay_seconds(client, server, kind, units, documents, journal):
    clear(client)
    if kind == "updates":
        insert_all(client, documents, 0)
    program = str(build_bin() / "holdfast")
    status = subprocess.run(
        [program, "status", "--wal", journal, "--json"], capture_output=True, check=True
    )
    identity = json.loads(status.stdout)["journal"]
    began = time.monotonic()
    done = subprocess.run(
        [program, "replay", "--wal", journal, "--onto", server.uri, "--json", "--set",
         f"upstream.takeover={identity}"],
        capture_output=True, check=True,
    )  # fmt: skip
    seconds = time.monotonic() - began
    report = json.loads(done.stdout)
    assert report["units"] == units and report["moved"] == report["documents"], report
    return seconds


def compare(kind, units, documents, rounds):
    ratios = []
    journal = tempfile.mkdtemp(prefix="holdfast-replay-")
    try:
        maker = str(build_bin() / "replay_journal")
        subprocess.run([maker, journal, str(units), kind, str(documents)], check=True)
        with Server() as server, pymongo.MongoClient(server.uri) as client:
            for number in range(rounds):
                seconds = {}
                for what in ("bulk", "replay") if number % 2 == 0 else ("replay", "bulk"):
                    if what == "bulk":
                        seconds[what] = bulk_seconds(client, kind, units, documents)
                    else:
                        seconds[what] = replay_seconds(
                            client, server, kind, units, documents, journal
                        )
                ratios.append(seconds["bulk"] / seconds["replay"])
                print(
                    f"{kind} {units} units, {documents} documents: bulk {seconds['bulk']:.1f} s, "
                    f"replay {seconds['replay']:.1f} s, ratio {ratios[-1]:.2f}",
                    flush=True,
                )
    finally:
        shutil.rmtree(journal, ignore_errors=True)
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return f"| {kind} | {units} | {documents} | {mean:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"


def main():
    rows = [
        compare(kind, OPTIONS.units, documents, OPTIONS.rounds)
        for kind, documents in (
            ("inserts", OPTIONS.units),
            ("updates", OPTIONS.units),
            ("updates", max(1, OPTIONS.units // 10)),
        )
    ]
    print("\n| writes | units | documents | replay / bulk |\n| --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
