"""Queries, updates and pipelines of the fake replica set (fake_replica_set.py): what its tests need
of MongoDB's languages, and an error for the rest, so that nobody takes a guess for an answer."""

import copy
import datetime
import re
import time

import bson
from bson.timestamp import Timestamp

FAILED_TO_PARSE = 9
NOT_SUPPORTED = 115


class CommandError(Exception):
    """Becomes {ok: 0}. `labels` are added to those that the code itself brings."""

    def __init__(self, code, message, labels=(), **fields):
        super().__init__(message)
        self.code = code
        self.labels = list(labels)
        self.fields = fields


def key_of(value):
    """A value of any type, to be compared as the server does where numbers are equal."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = float(value)
    return bson.encode({"": value})


def look_up(document, path):
    """(whether it is there, value) of a dotted path; arrays by position only."""
    value = document
    for name in path.split("."):
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            return False, None
    return True, value


def _is_operators(value):
    return isinstance(value, dict) and bool(value) and next(iter(value)).startswith("$")


def _equals(found, value, wanted):
    if wanted is None and not found:
        return True
    if not found:
        return False
    if key_of(value) == key_of(wanted):
        return True
    return isinstance(value, list) and any(key_of(v) == key_of(wanted) for v in value)


def _compares(value, wanted, operator):
    try:
        return {
            "$gt": value > wanted,
            "$gte": value >= wanted,
            "$lt": value < wanted,
            "$lte": value <= wanted,
        }[operator]
    except TypeError:
        return False


def _matches_operators(found, value, operators):
    for operator, wanted in operators.items():
        if operator == "$eq":
            good = _equals(found, value, wanted)
        elif operator == "$ne":
            good = not _equals(found, value, wanted)
        elif operator in ("$gt", "$gte", "$lt", "$lte"):
            good = found and _compares(value, wanted, operator)
        elif operator == "$in":
            good = any(_equals(found, value, one) for one in wanted)
        elif operator == "$nin":
            good = not any(_equals(found, value, one) for one in wanted)
        elif operator == "$exists":
            good = found == bool(wanted)
        elif operator == "$regex":
            good = isinstance(value, str) and re.search(wanted, value) is not None
        else:
            raise CommandError(NOT_SUPPORTED, f"the fake does not know {operator}")
        if not good:
            return False
    return True


def matches(document, query):
    for name, wanted in query.items():
        if name == "$and":
            good = all(matches(document, one) for one in wanted)
        elif name == "$or":
            good = any(matches(document, one) for one in wanted)
        elif name == "$nor":
            good = not any(matches(document, one) for one in wanted)
        elif name == "$comment":
            good = True
        elif name.startswith("$"):
            raise CommandError(NOT_SUPPORTED, f"the fake does not know {name}")
        else:
            found, value = look_up(document, name)
            good = (
                _matches_operators(found, value, wanted)
                if _is_operators(wanted)
                else _equals(found, value, wanted)
            )
        if not good:
            return False
    return True


def _parent(document, path):
    names = path.split(".")
    for name in names[:-1]:
        if isinstance(document, list):
            document = document[int(name)]
        else:
            document = document.setdefault(name, {})
    return document, names[-1]


def _put(document, path, value):
    parent, name = _parent(document, path)
    if isinstance(parent, list):
        parent[int(name)] = value
    else:
        parent[name] = value


def _update_one(document, operator, fields, inserting):
    for path, value in fields.items():
        found, old = look_up(document, path)
        if operator == "$set" or (operator == "$setOnInsert" and inserting):
            _put(document, path, value)
        elif operator == "$unset" and found:
            parent, name = _parent(document, path)
            parent.pop(name, None)
        elif operator == "$inc":
            _put(document, path, (old if found else 0) + value)
        elif operator == "$mul":
            _put(document, path, (old if found else 0) * value)
        elif operator in ("$push", "$addToSet"):
            values = list(old) if found else []
            for one in value["$each"] if _is_operators(value) else [value]:
                if operator == "$push" or not any(key_of(v) == key_of(one) for v in values):
                    values.append(one)
            _put(document, path, values)
        elif operator == "$currentDate":
            stamp = isinstance(value, dict) and value.get("$type") == "timestamp"
            now = datetime.datetime.now(datetime.timezone.utc)
            _put(document, path, Timestamp(int(time.time()), 1) if stamp else now)
        elif operator == "$pull" and found:
            _put(document, path, [v for v in old if key_of(v) != key_of(value)])
        elif operator not in ("$setOnInsert", "$unset", "$pull"):
            raise CommandError(NOT_SUPPORTED, f"the fake does not know {operator}")


def updated(document, update, inserting=False):
    """A new document; the old one stays as it is."""
    if isinstance(update, list):
        raise CommandError(NOT_SUPPORTED, "the fake does not know updates by pipeline")
    result = copy.deepcopy(document)
    if not _is_operators(update):
        result = {"_id": document["_id"]} if "_id" in document else {}
        result.update({k: copy.deepcopy(v) for k, v in update.items() if k != "_id"})
        if "_id" not in result and "_id" in update:
            result = {"_id": update["_id"], **result}
        return result
    for operator, fields in update.items():
        _update_one(result, operator, copy.deepcopy(fields), inserting)
    return result


def upserted(query, update):
    """What an upsert that finds nothing inserts."""
    begin = {}
    for name, value in query.items():
        if name.startswith("$"):
            continue
        if _is_operators(value):
            if "$eq" in value:
                _put(begin, name, value["$eq"])
        else:
            _put(begin, name, value)
    result = updated(begin, update, inserting=True)
    if "_id" not in result:
        result = {"_id": bson.ObjectId(), **result}
    return result


class _Order:
    def __init__(self, value):
        self.value = value

    def __lt__(self, other):
        try:
            return self.value < other.value
        except TypeError:
            return str(type(self.value)) < str(type(other.value))

    def __eq__(self, other):
        return self.value == other.value


def ordered(documents, sort):
    result = list(documents)
    for name, direction in reversed(list((sort or {}).items())):
        result.sort(
            key=lambda d, name=name: (look_up(d, name)[0], _Order(look_up(d, name)[1])),
            reverse=direction < 0,
        )
    return result


def projected(document, projection):
    if not projection:
        return document
    named = {k: v for k, v in projection.items() if k != "_id"}
    if any(isinstance(v, (dict, str)) for v in named.values()):
        raise CommandError(NOT_SUPPORTED, "the fake does not know projected expressions")
    keep_id = projection.get("_id", 1)
    if named and all(named.values()) or (not named and keep_id):
        result = {"_id": document["_id"]} if keep_id else {}
        result.update({k: v for k, v in document.items() if k in named and k != "_id"})
        return result
    gone = {k for k, v in named.items() if not v} | (set() if keep_id else {"_id"})
    return {k: v for k, v in document.items() if k not in gone}


def _value(document, expression):
    if isinstance(expression, str) and expression.startswith("$"):
        return look_up(document, expression[1:])[1]
    if isinstance(expression, dict):
        if "$literal" in expression:
            return expression["$literal"]
        return {k: _value(document, v) for k, v in expression.items()}
    return expression


def _grouped(documents, stage):
    groups = {}
    for document in documents:
        identity = _value(document, stage["_id"])
        groups.setdefault(key_of(identity), (identity, []))[1].append(document)
    results = []
    for identity, members in groups.values():
        result = {"_id": identity}
        for name, accumulator in stage.items():
            if name == "_id":
                continue
            ((operator, expression),) = accumulator.items()
            values = [_value(d, expression) for d in members]
            numbers = [v for v in values if isinstance(v, (int, float))]
            if operator == "$sum":
                result[name] = sum(numbers)
            elif operator == "$push":
                result[name] = values
            elif operator in ("$min", "$max") and numbers:
                result[name] = min(numbers) if operator == "$min" else max(numbers)
            elif operator == "$first":
                result[name] = values[0]
            else:
                raise CommandError(NOT_SUPPORTED, f"the fake does not know {operator}")
        results.append(result)
    return results


def aggregated(documents, pipeline):
    for stage in pipeline:
        ((name, argument),) = stage.items()
        if name == "$match":
            documents = [d for d in documents if matches(d, argument)]
        elif name == "$sort":
            documents = ordered(documents, argument)
        elif name == "$limit":
            documents = documents[:argument]
        elif name == "$skip":
            documents = documents[argument:]
        elif name == "$project":
            documents = [projected(d, argument) for d in documents]
        elif name == "$count":
            documents = [{argument: len(documents)}] if documents else []
        elif name == "$group":
            documents = _grouped(documents, argument)
        else:
            raise CommandError(NOT_SUPPORTED, f"the fake does not know {name}")
    return documents
