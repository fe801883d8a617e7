"""Backups of a server, document by document and byte for byte."""

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

_RAW = CodecOptions(document_class=RawBSONDocument)
_OWN = {"admin", "config", "local"}


def contents(client, without=()):
    """Everything that a server holds: {namespace: {_id as bytes: document as bytes}}."""
    held = {}
    for database in client.list_database_names():
        if database in _OWN or database in without:
            continue
        for name in client[database].list_collection_names():
            documents = client[database].get_collection(name, codec_options=_RAW).find({})
            rows = {repr(d["_id"]): bytes(d.raw) for d in documents}
            if rows:
                held[f"{database}.{name}"] = rows
    return held


def restore(client, held):
    """Puts a backup onto an empty server."""
    for namespace, rows in held.items():
        database, name = namespace.split(".", 1)
        collection = client[database].get_collection(name, codec_options=_RAW)
        documents = [RawBSONDocument(raw) for raw in rows.values()]
        for at in range(0, len(documents), 1000):
            collection.insert_many(documents[at : at + 1000])
