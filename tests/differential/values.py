"""Random documents, filters, updates and errors, over few values, so that programs meet themselves.

Fields: `a` numbers, `b` anything, `c` an array of numbers, `d` a document, `e` an array of
documents, `u` unique where there is such an index, `s` a string.
"""

import datetime

import bson
from bson.decimal128 import Decimal128
from bson.int64 import Int64

DATE = datetime.datetime(2020, 2, 3, 4, 5, 6)
OBJECT_ID = bson.ObjectId("5f00000000000000000000aa")
NUMBERS = [0, 1, 2, 3, -1, Int64(2), 2.0, 2.5, Int64(1 << 40), Decimal128("1.5")]
STRINGS = ["x", "X", "y", "\u00e4", "", "x.y", "$x"]
SCALARS = [*NUMBERS, *STRINGS, None, True, False, DATE, OBJECT_ID, b"\x00\x01"]
IDS = [0, 1, 2, 3, 4, 5, "k", Int64(6), 1.5, OBJECT_ID, {"x": 1}]
PATHS = ["a", "b", "c", "d", "d.x", "d.y", "d.y.z", "c.0", "c.1", "e.x", "e.0.x", "n", "n.m", "s"]
COLLATION = {"locale": "en", "strength": 2}


def value(random, depth=0):
    kind = random.random()
    if kind < 0.75 or depth > 1:
        return random.choice(SCALARS)
    if kind < 0.88:
        return [value(random, depth + 1) for _ in range(random.randrange(4))]
    return {name: value(random, depth + 1) for name in random.sample("xyz", random.randrange(3))}


def number(random):
    return random.choice(NUMBERS)


def identifier(random):
    return random.choice(IDS[:6]) if random.random() < 0.85 else random.choice(IDS)


FIELDS = {
    "a": lambda random: number(random) if random.random() < 0.9 else value(random),
    "b": value,
    "c": lambda random: [random.randrange(4) for _ in range(random.randrange(4))],
    "d": lambda random: {"x": random.randrange(3), "y": {"z": value(random, 2)}},
    "e": lambda random: [
        {"x": random.randrange(3), "y": random.randrange(3)} for _ in range(random.randrange(4))
    ],
    "s": lambda random: random.choice(STRINGS),
    "u": lambda random: random.randrange(6),
}


def document(random, with_id=True):
    made = {}
    names = [name for name in FIELDS if random.random() < 0.6]
    random.shuffle(names)
    if with_id:
        made["_id"] = identifier(random)
    for name in names:
        made[name] = FIELDS[name](random)
    if with_id and random.random() < 0.1:  # the server moves _id to the front
        made["_id"] = made.pop("_id")
    return made


# ---------------------------------------------------------------- filters


def _comparison(random):
    operator = random.choice(["$gt", "$gte", "$lt", "$lte", "$ne", "$eq"])
    return {random.choice("aabcs"): {operator: random.choice(SCALARS)}}


def _elements(random):
    return random.choice(
        [
            {"c": random.randrange(4)},
            {"c": {"$all": [random.randrange(4)]}},
            {"c": {"$elemMatch": {"$gt": 1}}},
            {"e.x": random.randrange(3)},
            {"e": {"$elemMatch": {"x": random.randrange(3), "y": random.randrange(3)}}},
            {"c": {"$size": random.randrange(3)}},
        ]
    )


def _expression(random):
    return {
        "$expr": random.choice(
            [
                {"$eq": ["$a", random.randrange(3)]},
                {"$gt": [{"$size": {"$ifNull": ["$c", []]}}, 1]},
                {"$lt": ["$u", "$a"]},
            ]
        )
    }


def general_filter(random):
    """A filter that says nothing of _id."""
    kind = random.randrange(10)
    if kind < 2:
        return _comparison(random)
    if kind == 2:
        return {}
    if kind == 3:
        return _elements(random)
    if kind == 4:
        return {random.choice(PATHS): {"$exists": random.random() < 0.5}}
    if kind == 5:
        return {random.choice(["$or", "$and", "$nor"]): [_comparison(random), _elements(random)]}
    if kind == 6:
        return _expression(random)
    if kind == 7:
        return {"a": {"$in": [number(random), number(random)]}}
    if kind == 8:
        return {"d.x": random.randrange(3), "s": random.choice(STRINGS)}
    return random.choice(
        [
            {"s": {"$regex": "^x", "$options": "i"}},
            {"a": {"$type": "int"}},
            {"a": {"$not": {"$gt": 1}}},
            {"a": {"$mod": [2, 0]}},
            {"b": None},
            {"u": random.randrange(6)},
        ]
    )


def id_filter(random):
    return {"_id": identifier(random)}


def any_filter(random):
    kind = random.random()
    if kind < 0.45:
        return id_filter(random)
    if kind < 0.55:
        return {"_id": {"$in": [identifier(random) for _ in range(3)]}}
    if kind < 0.65:
        return {**id_filter(random), **general_filter(random)}
    return general_filter(random)


BAD_FILTERS = [
    {"a": {"$foo": 1}},
    {"$foo": 1},
    {"$or": []},
    {"$or": {"a": 1}},
    {"a": {"$in": 5}},
    {"a": {"$regex": "("}},
    {"a": {"$mod": [0, 0]}},
    {"$expr": {"$foo": 1}},
    {"$expr": {"$eq": ["$a", "$$nobody"]}},
    {"c": {"$size": -1}},
]


def bad_filter(random):
    return random.choice(BAD_FILTERS)


# ---------------------------------------------------------------- updates


def _array_operator(random):
    one = random.randrange(4)
    return random.choice(
        [
            {"$push": {"c": one}},
            {"$push": {"c": {"$each": [one, 2], "$position": 0}}},
            {"$push": {"c": {"$each": [one], "$slice": -3, "$sort": 1}}},
            {"$push": {"e": {"$each": [{"x": one}], "$sort": {"x": -1}}}},
            {"$addToSet": {"c": one}},
            {"$addToSet": {"c": {"$each": [one, one, 7]}}},
            {"$pop": {"c": random.choice([1, -1])}},
            {"$pull": {"c": one}},
            {"$pull": {"c": {"$gte": one}}},
            {"$pull": {"e": {"x": one}}},
            {"$pullAll": {"c": [one, 2]}},
        ]
    )


def _field_operator(random):
    path = random.choice(PATHS)
    operator = random.choice(
        [
            "$set",
            "$set",
            "$set",
            "$unset",
            "$inc",
            "$inc",
            "$mul",
            "$min",
            "$max",
            "$setOnInsert",
            "$bit",
            "$rename",
            "$currentDate",
        ]
    )
    if operator == "$set" or operator == "$setOnInsert":
        return {operator: {path: value(random)}}
    if operator == "$unset":
        return {"$unset": {path: ""}}
    if operator in ("$inc", "$mul"):
        return {operator: {random.choice(["a", "a", "u", path]): number(random)}}
    if operator in ("$min", "$max"):
        return {operator: {path: value(random)}}
    if operator == "$bit":
        return {
            "$bit": {
                random.choice("au"): {random.choice(["and", "or", "xor"]): random.randrange(4)}
            }
        }
    if operator == "$rename":
        return {"$rename": {random.choice("abs"): random.choice(["n", "b", "d.r"])}}
    return {"$currentDate": {"now": True}}


def operators(random):
    """An update of one to three operators, mostly without conflicting paths."""
    made = {}
    while not made:
        for _ in range(random.choice([1, 1, 2, 3])):
            new = _array_operator(random) if random.random() < 0.35 else _field_operator(random)
            for operator, fields in new.items():
                if not _touches(random, fields):
                    made.setdefault(operator, {}).update(fields)
    return made


def _touches(random, fields):
    """Whether an operator's paths, or where $rename puts one, are of a frozen field."""
    paths = [*fields, *(one for one in fields.values() if isinstance(one, str))]
    return any(path.split(".")[0] in random.frozen for path in paths)


def pipeline(random):
    stages = [
        {"$set": {"a": {"$add": [{"$ifNull": ["$u", 0]}, 1]}}},
        {"$set": {"n": "$b", "d.x": 5}},
        {"$unset": ["b", "d.y"]},
        {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"n": random.randrange(3)}]}},
        {"$addFields": {"s": {"$concat": [{"$ifNull": ["$k", "q"]}, "z"]}}},
        {"$project": {"a": 1, "c": 1, "u": 1}},
        {"$set": {"c": {"$concatArrays": [{"$ifNull": ["$c", []]}, [9]]}}},
        {"$set": {"_id": "$_id", "l": {"$literal": "$x"}}},
    ]
    if random.frozen:
        stages = stages[:2]
    return [random.choice(stages) for _ in range(random.choice([1, 1, 2]))]


def positional(random):
    """(more of a filter, an update): the update speaks of the element that the filter found."""
    return random.choice(
        [
            ({"c": random.randrange(4)}, {"$set": {"c.$": 8}}),
            ({"c": {"$gt": 0}}, {"$inc": {"c.$": 1}}),
            ({"e.x": random.randrange(3)}, {"$set": {"e.$.y": 8}}),
            ({"e": {"$elemMatch": {"x": random.randrange(3)}}}, {"$unset": {"e.$.y": 1}}),
        ]
    )


def every_element(random):
    return random.choice([{"$inc": {"c.$[]": 1}}, {"$set": {"e.$[].y": random.randrange(3)}}])


def filtered_elements(random):
    """(update, arrayFilters)"""
    return random.choice(
        [
            ({"$set": {"c.$[i]": 8}}, [{"i": {"$gte": random.randrange(3)}}]),
            ({"$inc": {"e.$[i].y": 1}}, [{"i.x": random.randrange(3)}]),
            ({"$set": {"e.$[i].y": 1, "c.$[j]": 2}}, [{"i.x": 1}, {"j": 1}]),
            ({"$set": {"e.$[i].y": 1}}, [{"i.x": 1}, {"k": 1}]),  # one is not used: an error
            ({"$set": {"c.$[z]": 1}}, [{"i": 1}]),  # none of that name
        ]
    )


def bad_update(random):
    if random.frozen:
        return {"$foo": {"a": 1}}
    return random.choice(
        [
            {"$foo": {"a": 1}},
            {"$set": {"_id": 99}},
            {"$set": {"a": 1, "a.b": 2}},
            {"$set": {"a": 1}, "$inc": {"a": 1}},
            {"$set": 5},
            {"$inc": {"a": "x"}},
            {"$inc": {"s": 1}},
            {"$push": {"a": 1}},
            {"$push": {"c": {"$each": 1}}},
            {"$pop": {"c": 3}},
            {"$rename": {"a": "a"}},
            {"$unset": {"_id": 1}},
            {"$set": {"": 1}},
            {"$set": {"a.$.b": 1}},
            {"$set": {"s.t": 1}},
            {"a": 1, "$set": {"b": 1}},
            {"$set": {"a": 1}, "b": 1},
            {"$bit": {"a": {"foo": 1}}},
            {"$currentDate": {"now": 5}},
            {"$mul": {"s": 2}},
            {"$addToSet": {"d": 1}},
            {"$pullAll": {"c": 1}},
            [{"$foo": 1}],
            [{"$set": {"a": {"$divide": [1, 0]}}}],
            [{"$match": {"a": 1}}],
            [{"$set": {"_id": 77}}],
            {"_id": 77, "a": 1},
        ]
    )


def replacement(random, key=None):
    if random.frozen:
        return operators(random)
    made = document(random, with_id=False)
    operators_of_filter = isinstance(key, dict) and next(iter(key), "").startswith("$")
    if key is not None and not operators_of_filter and random.random() < 0.3:
        made["_id"] = key
    return made
