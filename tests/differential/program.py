"""Random programs: what several sessions do with two small collections, step by step.

A program is plain data: {"seed", "create", "indexes", "documents", "steps"}. A step is
    {"command": {...},          without $db; that of another database says so in "db"
     "session": "s0",           whose; absent: a plain connection without a session
     "number": 3,               its txnNumber
     "transaction": True,       a statement of the transaction of that number (the first one begins
                                it, unless "start" says otherwise); else a retryable write
     "beside": {...},           a plain write that is sent just before and answered just after: it
                                meets the open transaction that this step ends
     "label": 7, "cursor": 7}   getMore and killCursors take the cursor that a labelled step opened

Steps are taken one after the other, so a program has one outcome. What would have two is not
generated: while transactions of several sessions are open, plain writes name other documents than
those do, but for "beside". loose() says which reads may be
answered otherwise.
"""

import random

import commands
import values

INDEXES = [
    [],
    [],
    [{"key": {"u": 1}, "name": "u_1", "unique": True, "sparse": True}],
    [{"key": {"a": 1}, "name": "a_1"}],
    [
        {
            "key": {"u": 1, "s": 1},
            "name": "u_1_s_1",
            "unique": True,
            "partialFilterExpression": {"u": {"$exists": True}, "s": {"$exists": True}},
        }
    ],
    [{"key": {"c": 1}, "name": "c_1"}, {"key": {"d.x": -1}, "name": "d.x_-1"}],
]
READS = {"find", "aggregate", "distinct", "count", "getMore"}
ENDS = {"commitTransaction", "abortTransaction"}


class Source(random.Random):
    """errors: whether mistakes are made on purpose. removes: whether documents are removed (where a
    rollback restores them, what comes first of several is left open). frozen: fields that no update
    touches."""

    errors = False
    removes = True
    frozen = frozenset()


def name_of(step):
    return next(iter(step["command"]))


def generate(seed):
    source = Source(seed)
    source.errors = source.random() < 0.5
    source.removes = source.random() < 0.5
    kind = source.random()
    program = {
        "seed": seed,
        "create": ["c0", "c1"] if source.random() < 0.9 else [],
        "indexes": source.choice(INDEXES),
        "documents": {
            "c0": [values.document(source) for _ in range(source.choice([0, 3, 6, 9]))],
            "c1": [values.document(source) for _ in range(source.choice([0, 0, 3]))],
        },
    }
    if any(index.get("unique") for index in program["indexes"]) and source.random() < 0.6:
        source.frozen = frozenset("us")
    maker = _Sequential if kind < 0.5 else _Interleaved if kind < 0.9 else _Protocol
    program["kind"] = maker.__name__.strip("_").lower()
    program["steps"] = maker(source).make()
    return program


class _Maker:
    def __init__(self, source):
        self.random = source
        self.steps = []
        self.numbers = {}
        self.labels = 0

    def add(self, command, **fields):
        self.steps.append({"command": command, **fields})

    def next_number(self, session):
        self.numbers[session] = self.numbers.get(session, 0) + 1
        return self.numbers[session]

    def end(self, session, commit, **fields):
        name = "commitTransaction" if commit else "abortTransaction"
        number = self.numbers[session]
        self.add({name: 1}, session=session, number=number, transaction=True, db="admin", **fields)

    def read(self, filter_of, **fields):
        """A read, and sometimes the rest of its cursor."""
        in_transaction = "transaction" in fields
        command = commands.read(self.random, filter_of, in_transaction)
        if command.get("batchSize") is None:
            self.add(command, **fields)
            return
        self.labels += 1
        self.add(command, label=self.labels, **fields)
        if self.random.random() < 0.8:
            more = {"getMore": None, "collection": command["find"]}
            if self.random.random() < 0.4:
                more["batchSize"] = 2
            if self.random.random() < 0.15:
                more = {"killCursors": command["find"], "cursors": []}
            self.add(more, cursor=self.labels, **fields)


def _db_of(command):
    return {"db": "admin"} if "bulkWrite" in command else {}


class _Sequential(_Maker):
    """One thing after the other: at most one transaction is open, and nobody else writes then."""

    def make(self):
        while len(self.steps) < self.length():
            kind = self.random.random()
            if kind < 0.25:
                self.plain_write()
            elif kind < 0.4:
                self.retryable_write()
            elif kind < 0.5:
                self.read(values.any_filter)
            else:
                self.transaction(self.random.choice(["s0", "s0", "s1"]))
        return self.steps

    def length(self):
        return 6

    def plain_write(self):
        command = commands.write(self.random, values.any_filter)
        self.add(command, **_db_of(command))

    def retryable_write(self):
        command = commands.write(self.random, values.any_filter)
        number = self.next_number("s0")
        for _ in range(self.random.choice([1, 1, 2])):
            self.add(command, session="s0", number=number, **_db_of(command))

    def transaction(self, session):
        fields = {"session": session, "number": self.next_number(session), "transaction": True}
        for _ in range(self.random.choice([1, 2, 3, 4, 6])):
            kind = self.random.random()
            if kind < 0.7:
                command = commands.write(self.random, values.any_filter)
                self.add(command, **fields, **_db_of(command))
            elif kind < 0.95:
                self.read(values.any_filter, **fields)
            else:
                self.read(values.any_filter)
        commit = self.random.random() < 0.65
        self.end(session, commit)
        if self.random.random() < 0.1:
            self.end(session, commit if self.random.random() < 0.7 else not commit)


class _Interleaved(_Maker):
    """Transactions of two or three sessions, statement by statement in between each other."""

    def __init__(self, source):
        super().__init__(source)
        self.open = set()
        self.sessions = ["s0", "s1", "s2"][: source.choice([2, 2, 3])]
        self.general = source.choice([0.2, 0.2, 0.6])

    def make(self):
        for _ in range(self.random.choice([6, 10, 14])):
            session = self.random.choice(self.sessions)
            kind = self.random.random()
            if kind < 0.08:
                self.plain(session)
            elif session not in self.open:
                self.next_number(session)
                self.open.add(session)
                self.statement(session)
            elif kind < 0.78:
                self.statement(session)
            else:
                self.finish(session)
        for session in sorted(self.open):
            self.finish(session)
        return self.steps

    def own_filter(self, source):
        """By _id two of them meet often; others may look for what one of them hides."""
        if source.random() < self.general:
            return values.any_filter(source)
        return {"_id": source.randrange(6)}

    def statement(self, session):
        fields = {"session": session, "number": self.numbers[session], "transaction": True}
        if self.random.random() < 0.25:
            self.read(values.any_filter, **fields)
            return
        command = commands.write(self.random, self.own_filter)
        self.add(command, **fields, **_db_of(command))

    def plain(self, session):
        """A plain read; or a plain write of documents that transactions leave alone."""
        if self.random.random() < 0.5:
            self.read(values.any_filter)
            return
        key = 100 + self.random.randrange(3)
        command = self.random.choice(
            [
                {"insert": "c0", "documents": [{"_id": key, "a": 1}]},
                {
                    "update": "c0",
                    "updates": [{"q": {"_id": key}, "u": {"$inc": {"a": 1}}, "upsert": True}],
                },
                {"delete": "c0", "deletes": [{"q": {"_id": key}, "limit": 1}]},
            ]
        )
        self.add(command)

    def meeting(self):
        """A plain write that surely changes its document, if there is one."""
        key = self.random.randrange(6)
        return self.random.choice(
            [
                {"insert": "c0", "documents": [{"_id": key, "w": 1}]},
                {"update": "c0", "updates": [{"q": {"_id": key}, "u": {"$inc": {"w": 1}}}]},
                {
                    "update": "c0",
                    "updates": [{"q": {"_id": key}, "u": {"$push": {"w": 1}}, "multi": True}],
                },
                {
                    "delete": "c0",
                    "deletes": [{"q": {"_id": key}, "limit": self.random.choice([0, 1])}],
                },
                {
                    "findAndModify": "c0",
                    "query": {"_id": key},
                    "update": {"$inc": {"w": 1}},
                    "new": True,
                },
            ]
        )

    def finish(self, session):
        self.open.discard(session)
        fields = {}
        if not self.open and self.random.random() < 0.3:
            fields["beside"] = self.meeting()
        self.end(session, self.random.random() < 0.65, **fields)


class _Protocol(_Maker):
    """What a confused driver would send: ends twice, numbers again or too old, no beginning."""

    def make(self):
        for _ in range(8):
            session = self.random.choice(["s0", "s0", "s1"])
            number = max(1, self.numbers.get(session, 0) + self.random.choice([0, 0, 0, 1, 1, -1]))
            self.numbers[session] = max(number, self.numbers.get(session, 0))
            fields = {"session": session, "number": number}
            kind = self.random.random()
            if kind < 0.45:
                fields["transaction"] = True
                if self.random.random() < 0.15:
                    fields["start"] = self.random.random() < 0.5
                command = self.harmless()
                if self.random.random() < 0.2:
                    command = commands.unsupported(self.random)
                self.add(command, **fields)
            elif kind < 0.9:
                name = self.random.choice(
                    ["commitTransaction", "commitTransaction", "abortTransaction"]
                )
                self.add({name: 1}, transaction=True, db="admin", **fields)
            else:
                self.add(
                    {"insert": "c0", "documents": [{"_id": self.random.randrange(50, 99)}]},
                    **fields
                )
        return self.steps

    def harmless(self):
        key = self.random.randrange(20, 40)
        return self.random.choice(
            [
                {"insert": "c0", "documents": [{"_id": key}]},
                {"find": "c0", "filter": {"_id": key}},
                {
                    "update": "c1",
                    "updates": [{"q": {"_id": key}, "u": {"$set": {"a": 1}}, "upsert": True}],
                },
            ]
        )


# ---------------------------------------------------------------- what a read may see


def loose(steps):
    """{place of a read: why it may be answered otherwise}.

    "waits": others have uncommitted writes, or have committed since its transaction began, and the
    read is of a form that waits for the former.
    "unseen": a plain write without a number has passed in its collection since its transaction
    began, before that came there.
    """
    found = {}
    came = {}  # (session, number) of open transactions -> collections that it has named
    passed = {}  # likewise -> others, in which plain writes have passed since it began
    wrote = {}  # (session, number) of open transactions -> whether it has written
    newer = {}  # likewise -> whether others have committed writes since it began
    for place, step in enumerate(steps):
        owner = (step["session"], step["number"]) if step.get("transaction") else None
        name = name_of(step)
        if owner and name not in ENDS and owner not in wrote:
            wrote[owner] = newer[owner] = False
            came[owner], passed[owner] = set(), set()
        collection = _collection(step)
        if owner in came and collection in passed[owner] and name in READS:
            found[place] = "unseen"
        if owner in came:
            came[owner].add(collection)
        if (not owner and name not in READS and "number" not in step) or "beside" in step:
            for other in came:
                passed[other] |= {collection, *_collections(step)} - came[other]
        if name in READS or name == "killCursors":
            others = any(wrote[other] for other in wrote if other != owner)
            if (newer.get(owner) or others) and _waits(step):
                found[place] = "waits"
        elif name in ENDS:
            newer.pop(owner, None)
            if wrote.pop(owner, False) and name == "commitTransaction":
                newer = dict.fromkeys(newer, True)
        elif owner:
            wrote[owner] = True
        else:
            newer = dict.fromkeys(newer, True)
        if "beside" in step:
            newer = dict.fromkeys(newer, True)
    return found


def _collection(step):
    command = step["command"]
    return command.get("collection", command[name_of(step)])


def _collections(step):
    beside = step.get("beside", {})
    return {value for value in (next(iter(beside.values()), None),) if isinstance(value, str)}


def _waits(step):
    command = step["command"]
    cursor = name_of(step) in ("getMore", "killCursors") or "label" in step  # its later batches
    return (
        (cursor and not step.get("transaction"))
        or "collation" in command
        or "$slice" in repr(command.get("projection"))
        or "$lookup" in repr(command.get("pipeline"))
    )
