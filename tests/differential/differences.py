"""The differences that stand, each with its reason.

Each is a function of a Context whose name is what the campaign counts and whose text is the reason.
SAME: this is it, and both sides are in the same state still. OVER: it is, but they have parted, and
what follows in the program is not compared.
"""

import collections

import touched
import values
from bson.decimal128 import Decimal128

PARTING = []

Context = collections.namedtuple(
    "Context", "program place step native holdfast forms answers loose beside"
)
SAME, OVER = "same", "over"
NAMED = []


def difference(function):
    NAMED.append(function)
    return function


def parting(function):
    """A difference that shows in the documents first: asked where the replies are equal."""
    PARTING.append(function)
    return function


def parts(context):
    """The name of the reason for which the documents may differ from here on, or None."""
    if not isinstance(context.native, dict):
        return None
    return next((one.__name__ for one in PARTING if one(context)), None)


def name(context):
    """(name, SAME or OVER), or (None, None)."""
    if not isinstance(context.native, dict) or not isinstance(context.holdfast, dict):
        return None, None
    for function in NAMED:
        verdict = function(context)
        if verdict:
            return function.__name__, verdict
    return None, None


def _same_but(context, *names):
    if not all(isinstance(form, dict) for form in context.forms):
        return False
    left, right = ({k: v for k, v in form.items() if k not in names} for form in context.forms)
    return left == right


def _codes(context):
    """Of both, the error that the command or its first statement got; 0 for none."""
    return tuple(_code(reply) for reply in (context.native, context.holdfast))


def _code(reply):
    if reply.get("ok") != 1:
        return reply.get("code", 0)
    errors = reply.get("writeErrors") or []
    if isinstance(reply.get("cursor"), dict):
        errors = [one for one in reply["cursor"].get("firstBatch", []) if one.get("ok") == 0]
    return errors[0]["code"] if errors else 0


# ---------------------------------------------------------------- ours, on purpose


@difference
def read_waits(context):
    """Some forms of reads wait until nothing is uncommitted, and are in a snapshot only as long as
    nothing has changed (docs/COMPATIBILITY.md); here, where nobody waits, they get LockTimeout, a
    WriteConflict or SnapshotUnavailable."""
    if context.loose != "waits":
        return None
    return SAME if context.native.get("ok") == context.holdfast.get("ok") == 1 else OVER


@difference
def passed_unseen(context):
    """A plain write without a retry number, in a collection before a transaction's first command
    there, is in no list: SnapshotUnavailable, and the transaction is to be run again."""
    return context.loose == "unseen" and context.holdfast.get("code") == 246 and OVER


@difference
def cursor_ends_later(context):
    """A find beside a unit is an aggregation, and inside of one its batches are the proxy's: with one
    that is just full its cursor ends with the next, which is empty. (mongod's own find does the same,
    but where it has sorted.)"""
    cursors = [reply.get("cursor") for reply in (context.native, context.holdfast)]
    batch = "nextBatch" if "getMore" in context.step["command"] else "firstBatch"
    if not all(isinstance(cursor, dict) and batch in cursor for cursor in cursors):
        return None
    native, ours = cursors
    full = len(ours[batch]) == context.step["command"].get("batchSize")
    same = native[batch] == ours[batch]
    return full and same and native["id"] == 0 and ours["id"] != 0 and OVER


@difference
def equal_numbers_are_one(context):
    """distinct gives one of 2 and 2.0, as in MongoDB; the test server's own distinct gives both,
    its $group, which answers beside a unit, one."""
    native, ours = context.native.get("values"), context.holdfast.get("values")
    if native is None or ours is None or len(ours) >= len(native):
        return None
    return all(v in ours for v in native) and all(v in native for v in ours) and SAME


@difference
def locks_what_it_names(context):
    """A unit holds a lock on every document that its writes name, also where they change nothing
    (no such document, an update that leaves it as it is, a filter that does not match); a native
    transaction holds only what it has changed. The other unit gets a WriteConflict more and runs
    again; never one less."""
    return (
        _code(context.native) != 112
        and context.holdfast.get("code") == 112
        and "TransientTransactionError" in context.holdfast.get("errorLabels", [])
        and touched.meets_another(context.program, context.place)
        and OVER
    )


@difference
def answer_kept_whole(context):
    """A retried command gets the answer that was kept, with its errors; MongoDB tries those of its
    statements again that failed. The test server carries out all of them again."""
    return _is_retry(context) and "writeErrors" in context.holdfast and OVER


def _is_retry(context):
    step = context.step
    return (
        not step.get("transaction")
        and "number" in step
        and step in context.program["steps"][: context.place]
    )


@difference
def upsert_computes_id(context):
    """An upsert whose pipeline computes _id is refused unless its filter names that _id: the
    document must be locked and journaled before it is there."""
    return (
        context.holdfast.get("code") == 2
        and "pipeline computes _id" in context.holdfast.get("errmsg", "")
        and OVER
    )


@parting
@difference
def number_again(context):
    """A command with the number of another one is answered as that one, in MongoDB as well; the
    test server carries it out."""
    step = context.step
    earlier = context.program["steps"][: context.place]
    return (
        not step.get("transaction")
        and step not in earlier
        and any(
            "number" in one
            and (one["session"], one["number"]) == (step.get("session"), step.get("number"))
            for one in earlier
        )
        and OVER
    )


@difference
def making_a_collection(context):
    """A collection that a unit's first insert makes is there at once, and stays after a rollback;
    so units that both make it do not conflict, as native transactions do."""
    return (
        (context.native.get("code") == 112 or context.native.get("blocked"))
        and not all(
            name in context.program["create"] or context.program["documents"][name]
            for name in ("c0", "c1")
        )
        and OVER
    )


@parting
@difference
def retried(context):
    """The test server carries out a retried command again if it had errors, or inserts documents
    without _id."""
    command = context.step["command"]
    return (
        _is_retry(context)
        and (
            "writeErrors" in context.native
            or any("_id" not in one for one in command.get("documents") or [])
        )
        and OVER
    )


@difference
def upsert_unsets_id(context):
    """An upsert leaves with its _id, so $unset of _id is an error where a new document is made."""
    return _codes(context)[1] == 66 and "'$unset': {'_id'" in repr(context.step["command"]) and OVER


@difference
def numbers_of_two_kinds(context):
    """A number that a transaction or a retryable write has used cannot begin another one. mongod
    says so with 50911, Holdfast as mongos with ConflictingOperationInProgress; and a commit with
    a write's number is answered as done. No driver uses a number twice."""
    return (
        context.step.get("transaction")
        and (
            (context.native.get("code") in (50911, 256) and context.holdfast.get("code") == 117)
            or _wrote_plainly(context)
        )
        and OVER
    )


def _wrote_plainly(context):
    step = context.step
    return any(
        "number" in one
        and not one.get("transaction")
        and (one["session"], one["number"]) == (step["session"], step["number"])
        for one in context.program["steps"][: context.place]
    )


@parting
@difference
def restored_comes_last(context):
    """A document that a unit has removed and a rollback restored comes last in the natural order,
    so what takes the first of several may take another one."""
    return (
        touched.takes_first_of_several(context.step["command"])
        and touched.restored(context.program["steps"][: context.place], context.answers)
        and OVER
    )


@difference
def generated_ids(context):
    """Some _ids are made by the proxy, some by the server: within a second they have no order."""
    return (
        "sort" in context.step["command"]
        and all("a generated ObjectId" in repr(form) for form in context.forms)
        and OVER
    )


@difference
def beside_comes_first(context):
    """A plain write that looks for a document which an open transaction is about to make finds none
    on the native side, and need not wait: it comes before the commit. With Holdfast it waits."""
    return (
        context.beside
        and touched.is_made(context.program["steps"], context.place, context.step["command"])
        and OVER
    )


@difference
def one_time_a_command(context):
    """All statements of a command have one time, so a second $currentDate may change nothing."""
    return (
        "$currentDate" in repr(context.step["command"]) and _same_but(context, "nModified") and SAME
    )


@difference
def order_of_new_fields(context):
    """$currentDate becomes $set before the write leaves, so fields that it adds may come before
    others of the same update; the order of new fields is not specified (since 5.0: by name)."""
    return (
        "$currentDate" in repr(context.program["steps"][: context.place + 1])
        and _sorted(context.forms[0]) == _sorted(context.forms[1])
        and SAME
    )


def same_documents(left, right):
    """In the end: the same, but for the order of new fields."""
    return all(
        sorted(map(_sorted, left[name])) == sorted(map(_sorted, right[name])) for name in left
    )


def _sorted(value):
    """A form in which no order counts."""
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, (list, tuple)):
        return repr(sorted(map(_sorted, value)))
    return repr(value)


@difference
def number_types_of_groups(context):
    """What stands for equal numbers of several types is the first one's: where others have
    uncommitted writes, what was before them comes last in the natural order."""
    replies = (context.native, context.holdfast)
    return (
        all(reply.get("ok") == 1 for reply in replies)
        and ("$group" in repr(context.step["command"]) or "distinct" in context.step["command"])
        and len({_by_value(reply) for reply in replies}) == 1
        and SAME
    )


def _by_value(reply):
    """Equal numbers are equal, in no order."""
    found = reply["values"] if "values" in reply else reply["cursor"]["firstBatch"]
    return repr(sorted(map(_plain, found)))


def _plain(value):
    if isinstance(value, dict):
        return repr(sorted((name, _plain(one)) for name, one in value.items()))
    is_number = isinstance(value, (int, float, Decimal128)) and not isinstance(value, bool)
    return repr(float(str(value))) if is_number else repr(value)


@difference
def takes_a_free_one(context):
    """A write of one document without a sort takes any that its filter selects: here one that no
    other unit holds. A native transaction takes the first of its snapshot, and conflicts with who
    holds it."""
    return (
        context.native.get("code") == 112
        and _has_found(context.holdfast)
        and touched.takes_first_of_several(context.step["command"])
        and touched.meets_another(context.program, context.place)
        and OVER
    )


@difference
def written_plainly_since(context):
    """A plain write without a retry number, in a collection that the transaction had not touched
    before, is seen by what it does there later (README, limits)."""
    return touched.was_written_plainly(context.program["steps"], context.place) and OVER


def _has_found(reply):
    """Whether a write has changed a document that was there, or found one that it did not have to
    change."""
    if reply.get("ok") != 1:
        return False
    found = reply.get("lastErrorObject", {}).get("n", 0) + reply.get("n", 0)
    found += reply.get("nMatched", 0) + reply.get("nDeleted", 0)
    return found > len(reply.get("upserted", [])) + reply.get("nUpserted", 0)


# ---------------------------------------------------------------- the test server's departures


@parting
def multi_error_undone(context):
    """A multi update that fails at one document leaves those before it changed in MongoDB; the test
    server undoes them."""
    return (
        not context.step.get("transaction")
        and _codes(context)[0]
        and "'multi': True" in repr(context.step["command"])
    )


@difference
def no_label_on_abort(context):
    """MongoDB labels NoSuchTransaction TransientTransactionError on abortTransaction, too."""
    return (
        "abortTransaction" in context.step["command"]
        and context.holdfast.get("code") == 251
        and _same_but(context, "errorLabels")
        and SAME
    )


@difference
def code_without_name(context):
    """The test server calls a code whose name it does not know "Location"; MongoDB has its name."""
    return _same_but(context, "codeName") and context.native.get("codeName") == "Location" and SAME


@difference
def bulk_error_without_modified(context):
    """In bulkWrite's result of an update that failed MongoDB has nModified: 0."""
    if "bulkWrite" not in context.step["command"] or not _same_but(context, "cursor"):
        return None
    native, holdfast = (
        [
            {k: v for k, v in one.items() if one["ok"] or k != "nModified"}
            for one in form["cursor"]["firstBatch"]
        ]
        for form in context.forms
    )
    return native == holdfast and SAME


@difference
def bulk_conflict(context):
    """MongoDB answers a WriteConflict inside a transaction with an error of the whole command, with
    its label; the test server puts it among bulkWrite's results."""
    return "bulkWrite" in context.step["command"] and _codes(context) == (112, 112) and OVER


@parting
@difference
def bulk_retried(context):
    """The test server carries out a bulkWrite again that a driver retries; MongoDB answers as
    before."""
    return "bulkWrite" in context.step["command"] and _is_retry(context) and OVER


@difference
def file_not_found(context):
    """The test server's storage fails at times where a collection is missing."""
    return "WiredTiger error" in context.native.get("errmsg", "") and OVER


@difference
def old_number_unknown(context):
    """A number below the session's newest is TransactionTooOld in MongoDB."""
    return context.holdfast.get("code") == 225 and OVER


@difference
def freed_value_taken(context):
    """The test server refuses the insert of a unique value that an update has given up. On its own
    it says so with an error of the whole command; a rollback that meets it becomes a conflict."""
    return (
        any(index.get("unique") for index in context.program["indexes"])
        and any(_is_freed_value(reply) for reply in (context.native, context.holdfast))
        and OVER
    )


def _is_freed_value(reply):
    message = reply.get("errmsg", "")
    return "E11000 duplicate key error index:" in repr(reply) or "set aside" in message


@difference
def bulk_error_keeps_transaction(context):
    """A write error in a bulkWrite ends the command and the transaction in MongoDB, as in any other
    command; on the test server both go on."""
    return (
        any(
            "bulkWrite" in before["command"]
            and before.get("transaction")
            and isinstance(native, dict)
            and native.get("nErrors")
            for before, (native, _) in zip(
                context.program["steps"][: context.place + 1], context.answers
            )
        )
        and OVER
    )


@difference
def unordered_goes_on(context):
    """In a transaction the first error ends an unordered command, too; the test server carries out
    the rest, and undoes it."""
    native, holdfast = _codes(context)
    return (
        context.step.get("transaction")
        and context.step["command"].get("ordered", True) is False
        and holdfast != 0
        and native in (holdfast, 112)
        and SAME
    )


@difference
def malformed_is_taken(context):
    """The test server takes unknown fields and an empty name, or gives another code, where
    MongoDB's parser refuses the command."""
    return context.holdfast.get("code") in (14, 40414, 40415, 73) and OVER


@difference
def multi_replacement_is_taken(context):
    """A replacement with multi is an error in MongoDB, whatever matches (9)."""
    return "multi update is not supported" in repr(context.holdfast) and OVER


@difference
def construct_unsupported(context):
    """The test server's findAndModify does not take every filter that its other commands take, and
    Holdfast sends some updates in that form."""
    return "does not support" in repr(context.holdfast) and OVER


@difference
def pipeline_error_form(context):
    """What is wrong with a pipeline is a write error of its statement in MongoDB; and the test
    server's findAndModify takes some stages that its update refuses."""
    return "u': [{" in repr(context.step["command"]) and _codes(context)[0] in (2, 168) and OVER


@difference
def distinct_without_transaction(context):
    """The test server answers distinct in a transaction that has ended."""
    return (
        "distinct" in context.step["command"]
        and context.native.get("ok") == 1
        and context.holdfast.get("code") == 251
        and SAME
    )


@difference
def another_index_first(context):
    """Where a document violates several unique indexes MongoDB names that on _id, its first."""
    codes = _codes(context)
    return codes == (11000, 11000) and "{'_id': 1}" in repr(context.holdfast) and SAME


@difference
def upsert_changes_id(context):
    """A pipeline must not change the _id that an upsert's filter fixes: ImmutableField (66)."""
    return (
        "'_id': 77" in repr(context.step["command"])
        and context.native.get("ok") == 1
        and "set aside" in context.holdfast.get("errmsg", "")
        and OVER
    )


@difference
def filter_unchecked(context):
    """The test server's writes do not look at a filter that is wrong where there is no document, or
    find another mistake first; its find, with which Holdfast resolves the write, and MongoDB do."""
    text = repr(context.step["command"])
    return (
        any(repr(one)[1:-1] in text for one in values.BAD_FILTERS)
        and _code(context.holdfast) != 0
        and OVER
    )


@difference
def limit_is_anything(context):
    """The limit of a delete must be 0 or 1 in MongoDB."""
    return (
        _codes(context) == (0, 9)
        and any(one.get("limit") == 2 for one in context.step["command"].get("deletes", []))
        and OVER
    )


@difference
def multikey_conflicts(context):
    """On the test server two transactions that bring the first arrays into an index conflict;
    MongoDB notes that an index has arrays outside of the transaction."""
    return (
        context.native.get("code") == 112
        and any("c" in index["key"] for index in context.program["indexes"])
        and OVER
    )


@difference
def id_comes_last(context):
    """MongoDB's upserts put _id first in the document."""
    return (
        "upserted" in repr(context.native)
        and _sorted(context.forms[0]) == _sorted(context.forms[1])
        and OVER
    )


@difference
def projection_error(context):
    """The test server finds out that a projection is wrong when it has written; MongoDB before."""
    return "fields" in context.step["command"] and _codes(context) == (2, 31254) and OVER


@difference
def expression_on_all(context):
    """The test server's find evaluates an expression for all documents where one is asked for, and
    with it errors of the others."""
    return _codes(context)[1] == 17124 and "$size" in repr(context.step["command"]) and OVER


@parting
@difference
def hinted_order(context):
    """With a hint on _id the test server's find goes in natural order, whatever it is to sort by;
    its writes do not."""
    text = repr(context.step["command"])
    return (
        ("'hint': {'_id'" in text or "'hint': '_id_'" in text)
        and ("'sort'" in text or touched.takes_first_of_several(context.step["command"]))
        and OVER
    )


@difference
def value_before_the_wait(context):
    """The test server's findAndModify, having waited for a transaction, answers of the document as
    it was before, and its insert tells of a duplicate that is just being removed."""
    command = context.step["command"]
    return (
        context.beside
        and ("findAndModify" in command or ("insert" in command and _codes(context) == (11000, 0)))
        and OVER
    )


@difference
def write_in_transaction_number(context):
    """A retryable write with the number of a transaction is InvalidOptions (72) in MongoDB."""
    return (
        not context.step.get("transaction")
        and "number" in context.step
        and context.holdfast.get("code") in (72, 117)
        and OVER
    )


@difference
def hint_unchecked(context):
    """The test server's find takes a hint that names no index where its writes refuse it; MongoDB
    refuses both, and neither where the collection is not there."""
    return "hint" in repr(context.native) and "hint" in repr(context.step["command"]) and OVER
