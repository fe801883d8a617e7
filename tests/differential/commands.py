"""Random commands: every write form, reads, and what is refused."""

import values

COLLECTIONS = ["c0", "c0", "c0", "c1"]
SORTS = [{"a": 1, "_id": 1}, {"u": -1, "_id": 1}, {"_id": -1}, {"d.x": 1, "s": -1, "_id": 1}]
LET = {"v": 2, "w": "x"}


def _collection(random):
    return random.choice(COLLECTIONS)


def _update_parts(random, filter_of):
    """filter, update, further fields."""
    more = {}
    query = filter_of(random)
    kind = random.random()
    if kind < 0.5:
        update = values.operators(random)
    elif kind < 0.62:
        update = values.replacement(random, query.get("_id"))
    elif kind < 0.74:
        update = values.pipeline(random)
    elif kind < 0.80:
        addition, update = values.positional(random)
        query = {**query, **addition}
    elif kind < 0.84:
        update = values.every_element(random)
    elif kind < 0.90:
        update, more["arrayFilters"] = values.filtered_elements(random)
    else:
        update = values.bad_update(random) if random.errors else values.operators(random)
    if random.errors and random.random() < 0.05:
        query = values.bad_filter(random)
    if random.random() < 0.04:
        more["collation"] = values.COLLATION
    if random.random() < 0.04:
        more["hint"] = random.choice([{"_id": 1}, "_id_", {"a": 1} if random.errors else "_id_"])
    return query, update, more


def _is_replacement(update):
    return isinstance(update, dict) and not next(iter(update), "").startswith("$")


def _update_statement(random, filter_of):
    query, update, more = _update_parts(random, filter_of)
    statement = {"q": query, "u": update, **more}
    if random.random() < 0.35 and (not _is_replacement(update) or random.random() < 0.1):
        statement["multi"] = True
    if random.random() < 0.3:
        statement["upsert"] = True
    return statement


def _delete_statement(random, filter_of):
    bad = random.errors and random.random() < 0.06
    query = values.bad_filter(random) if bad else filter_of(random)
    statement = {"q": query, "limit": random.choice([0, 1])}
    if random.random() < 0.05:
        statement["collation"] = values.COLLATION
    if random.random() < 0.05:
        statement["hint"] = random.choice([{"_id": 1}, "nobody_1" if random.errors else "_id_"])
    return statement


def _count(random):
    return random.choice([1, 1, 1, 2, 3, 4])


def _options(random, command, filters):
    if random.random() < 0.4:
        command["ordered"] = random.random() < 0.5
    if random.random() < 0.06 and filters is not None:
        command["let"] = LET
        random.choice(filters)["q"] = {"$expr": {"$eq": ["$a", "$$v"]}}
    return command


def insert(random, filter_of):
    documents = [values.document(random, random.random() < 0.9) for _ in range(_count(random))]
    return _options(random, {"insert": _collection(random), "documents": documents}, None)


def update(random, filter_of):
    updates = [_update_statement(random, filter_of) for _ in range(_count(random))]
    return _options(random, {"update": _collection(random), "updates": updates}, updates)


def delete(random, filter_of):
    deletes = [_delete_statement(random, filter_of) for _ in range(_count(random))]
    return _options(random, {"delete": _collection(random), "deletes": deletes}, deletes)


def find_and_modify(random, filter_of):
    query, update_, more = _update_parts(random, filter_of)
    command = {"findAndModify": _collection(random), "query": query}
    if random.random() < 0.2 and random.removes:
        command["remove"] = True
        more.pop("arrayFilters", None)
    else:
        command["update"] = update_
        if random.random() < 0.5:
            command["new"] = random.random() < 0.8
        if random.random() < 0.3:
            command["upsert"] = True
    if random.random() < 0.5:
        command["sort"] = random.choice(SORTS)
    if random.random() < 0.25:
        command["fields"] = random.choice([{"a": 1}, {"_id": 0, "c": 1}, {"b": 0}, {"d.x": 1}])
    return {**command, **more}


def bulk_write(random, filter_of):
    ops = []
    for _ in range(random.choice([1, 2, 3, 5])):
        place = random.randrange(2)
        kind = random.randrange(3 if random.removes else 2)
        if kind == 0:
            ops.append({"insert": place, "document": values.document(random)})
        elif kind == 1:
            statement = _update_statement(random, filter_of)
            ops.append(
                {
                    "update": place,
                    "filter": statement.pop("q"),
                    "updateMods": statement.pop("u"),
                    **statement,
                }
            )
        else:
            query = filter_of(random)
            ops.append({"delete": place, "filter": query, "multi": random.random() < 0.3})
    command = {"bulkWrite": 1, "ops": ops, "nsInfo": [{"ns": ".c0"}, {"ns": ".c1"}]}
    if random.random() < 0.4:
        command["ordered"] = random.random() < 0.5
    if random.random() < 0.3:
        command["errorsOnly"] = True
    return command


def malformed(random, filter_of):
    """Commands that are refused before anything is done."""
    return random.choice(
        [
            {"insert": "c0", "documents": []},
            {"insert": "c0", "documents": 5},
            {"insert": "c0"},
            {"insert": "c0", "documents": [5]},
            {"insert": "", "documents": [{"_id": 1}]},
            {"insert": 5, "documents": [{"_id": 1}]},
            {"insert": "c0", "documents": [{"_id": [1]}]},
            {"insert": "c0", "documents": [{"_id": 1}], "ordered": "x"},
            {"insert": "c0", "documents": [{"$a": 1, "_id": 8}]},
            {"insert": "c0", "documents": [{"_id": {"$a": 1}}]},
            {"insert": "c0", "documents": [{"_id": 8}], "what": 1},
            {"update": "c0", "updates": []},
            {"update": "c0", "updates": [{"q": {}}]},
            {"update": "c0", "updates": [{"u": {"a": 1}}]},
            {"update": "c0", "updates": [{"q": 5, "u": {"a": 1}}]},
            {"update": "c0", "updates": [{"q": {}, "u": 5}]},
            {"update": "c0", "updates": [{"q": {}, "u": {"$set": {"a": 1}}, "multi": "x"}]},
            {"update": "c0", "updates": [{"q": {}, "u": {"$set": {"a": 1}}, "what": 1}]},
            {"update": "c0", "updates": [{"q": {}, "u": {"a": 1}, "multi": True}]},
            {"update": "c0", "updates": [{"q": {}, "u": {"$set": {"a": 1}}, "arrayFilters": 5}]},
            {"update": "c0", "updates": [{"q": {}, "u": {"a": 1}, "arrayFilters": [{"i": 1}]}]},
            {"update": "c0", "updates": [{"q": {}, "u": {"$set": {"a": 1}}, "hint": 5}]},
            {
                "update": "c0",
                "updates": [
                    {"q": {"s": "x"}, "u": {"$set": {"a": 1}}, "collation": {"locale": "nowhere"}}
                ],
            },
            {"delete": "c0", "deletes": []},
            {"delete": "c0", "deletes": [{"q": {}}]},
            {"delete": "c0", "deletes": [{"q": {}, "limit": 2}]},
            {"delete": "c0", "deletes": [{"limit": 1}]},
            {"delete": "c0", "deletes": [{"q": {}, "limit": 1, "what": 1}]},
            {"findAndModify": "c0", "query": {}},
            {"findAndModify": "c0", "query": {}, "update": {"a": 1}, "remove": True},
            {"findAndModify": "c0", "query": {}, "remove": True, "new": True},
            {"findAndModify": "c0", "query": {}, "remove": True, "upsert": True},
            {"findAndModify": "c0", "query": 5, "remove": True},
            {"findAndModify": "c0", "query": {}, "update": 5},
            {"findAndModify": "c0", "query": {}, "update": {"$set": {"a": 1}}, "sort": 5},
            {"findAndModify": "c0", "query": {}, "update": {"$set": {"a": 1}}, "what": 5},
            {
                "findAndModify": "c0",
                "query": {},
                "update": {"$set": {"a": 1}},
                "fields": {"a": 1, "b": 0},
            },
            {"findAndModify": "c0", "query": {}, "update": {"a": 1}, "arrayFilters": [{"i": 1}]},
        ]
    )


WRITES = [insert, insert, update, update, update, delete, find_and_modify, find_and_modify]
KEEPING = [one for one in WRITES if one is not delete]


def write(random, filter_of, bulk=True):
    kind = random.random()
    if kind < 0.08 and random.errors:
        return malformed(random, filter_of)
    if kind < 0.13 and bulk:
        return bulk_write(random, filter_of)
    return random.choice(WRITES if random.removes else KEEPING)(random, filter_of)


# ---------------------------------------------------------------- reads


def _find(random, filter_of):
    command = {"find": _collection(random), "filter": filter_of(random)}
    if random.random() < 0.6:
        command["sort"] = random.choice(SORTS)
        if random.random() < 0.5:
            command["limit"] = random.choice([1, 2, 5])
        if random.random() < 0.2:
            command["skip"] = 1
        if random.random() < 0.3:
            command["batchSize"] = random.choice([0, 1, 2])
    if random.random() < 0.3:
        command["projection"] = random.choice(
            [{"a": 1}, {"_id": 0, "c": 1}, {"b": 0}, {"c": {"$slice": 1}}]
        )
    if random.random() < 0.05:
        command["collation"] = values.COLLATION
    if random.errors and random.random() < 0.06:
        command["filter"] = values.bad_filter(random)
    return command


def _aggregate(random, filter_of):
    pipeline = random.choice(
        [
            [{"$match": filter_of(random)}, {"$sort": {"_id": 1}}],
            [{"$match": filter_of(random)}, {"$count": "n"}],
            [{"$group": {"_id": "$a", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}],
            [{"$sort": {"_id": 1}}, {"$unwind": "$c"}, {"$project": {"c": 1}}],
            [
                {"$sort": {"_id": 1}},
                {"$lookup": {"from": "c1", "localField": "a", "foreignField": "a", "as": "n"}},
                {"$project": {"n._id": 1}},
            ],
            [{"$foo": 1}] if random.errors else [{"$sort": {"_id": -1}}],
        ]
    )
    return {"aggregate": _collection(random), "pipeline": pipeline, "cursor": {}}


def read(random, filter_of, in_transaction):
    kind = random.random()
    if kind < 0.6:
        return _find(random, filter_of)
    if kind < 0.8:
        return _aggregate(random, filter_of)
    if kind < 0.95 or in_transaction:
        key = random.choice(["a", "c", "d.x", "s"])
        return {"distinct": _collection(random), "key": key, "query": filter_of(random)}
    return {"count": _collection(random), "query": filter_of(random)}


def unsupported(random):
    """Not for a transaction."""
    return random.choice(
        [
            {"count": "c0"},
            {"drop": "c1"},
            {"listIndexes": "c0"},
            {"aggregate": "c0", "pipeline": [{"$out": "c2"}], "cursor": {}},
            {"aggregate": "c0", "pipeline": [{"$merge": "c1"}], "cursor": {}},
            {"collMod": "c0"},
            {"dropIndexes": "c0", "index": "*"},
            {"ping": 1},
        ]
    )
