"""Judges one call by the database alone, read past Holdfast after all is up and quiet again."""

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from judge import Documents, writes_there
from monitor import BEAT
from resources import COLLECTION, DATABASE
from rules import broken_rules

WHOLE, ABSENT, TORN = "whole", "absent", "torn"
REMOVING = ("W8", "W11", "W12d", "T", "Pd")  # calls


class Snapshot:
    """All documents, to the byte, but for the app that only asks whether it is quiet, and `beat`."""

    def __init__(self, client):
        options = CodecOptions(document_class=RawBSONDocument)
        collection = client[DATABASE].get_collection(COLLECTION, codec_options=options)
        of_calls = {"app": {"$ne": "quiet"}, "monitorBeat": {"$exists": False}}
        found = [bytes(one.raw) for one in collection.find(of_calls)]
        documents = [bson.decode(raw) for raw in found]
        self.beat = (collection.find_one(BEAT) or {"beat": 0})["beat"]
        self.raw = {document["_id"]: raw for document, raw in zip(documents, found, strict=True)}
        self.documents = Documents(Found(documents))

    def broken_rules(self):
        return set(broken_rules(self.documents))

    def of_contexts(self):
        """How many documents belong to an instantiation."""
        return sum("context" in document for document in self.documents.all)


class Found:
    """As a collection, of which all is read."""

    def __init__(self, documents):
        self._documents = documents

    def find(self, _):
        return self._documents


class Finding:
    """What became of one call between two snapshots.

    state   absent: every document is, to the byte, what it was before
            whole: all parts are there, nothing else has changed, no rule is broken that was kept
            torn: anything else
    """

    def __init__(self, call, before, after):
        there = writes_there(call, after.documents)
        self.there, self.parts = sum(there), len(there)
        self.broken = after.broken_rules() - before.broken_rules()
        both = before.raw | after.raw
        self.strange = [one for one in both if _is_strange(call, before, after, one)]
        if after.raw == before.raw:
            self.state = ABSENT
        elif all(there) and not self.strange and not self.broken:
            self.state = WHOLE
        else:
            self.state = TORN
        self.lost = call.acknowledged and self.state != WHOLE

    def __str__(self):
        lost = ", acknowledged and lost" if self.lost else ""
        if self.state == TORN:
            return f"torn: {self.there} of {self.parts} parts{lost}"
        return self.state + lost


def _is_strange(call, before, after, identity):
    """A document that has changed though this call did not write or remove it."""
    raw = after.raw.get(identity)
    if raw == before.raw.get(identity):
        return False
    removed = raw is None and call.kind in REMOVING
    return not removed and (raw is None or call.token.encode() + b"\0" not in raw)
