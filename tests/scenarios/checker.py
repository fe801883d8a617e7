"""Judges one call by the database alone, read past Holdfast after all is up and quiet again."""

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from judge import Documents, writes_there
from resources import COLLECTION, DATABASE
from rules import broken_rules

WHOLE, ABSENT, TORN = "whole", "absent", "torn"


class Snapshot:
    """All documents, to the byte, but for the app that only asks whether it is quiet."""

    def __init__(self, client):
        options = CodecOptions(document_class=RawBSONDocument)
        collection = client[DATABASE].get_collection(COLLECTION, codec_options=options)
        found = [one.raw for one in collection.find({"app": {"$ne": "quiet"}})]
        documents = [bson.decode(raw) for raw in found]
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
            whole: all parts are there, and no rule is broken that was kept before
            torn: anything else
    """

    def __init__(self, call, before, after):
        there = writes_there(call, after.documents)
        self.there, self.parts = sum(there), len(there)
        self.broken = after.broken_rules() - before.broken_rules()
        if after.raw == before.raw:
            self.state = ABSENT
        elif all(there) and not self.broken:
            self.state = WHOLE
        else:
            self.state = TORN
        self.lost = call.acknowledged and self.state != WHOLE

    def __str__(self):
        lost = ", acknowledged and lost" if self.lost else ""
        if self.state == TORN:
            return f"torn: {self.there} of {self.parts} parts{lost}"
        return self.state + lost
