"""Why a test of the driver specifications does not pass. A test that passes directly and fails through
Holdfast must be found here.

`files` is a glob, `tests` and what the failure `says` are regular expressions that are searched for.
"""

import dataclasses
import fnmatch
import re


@dataclasses.dataclass(frozen=True)
class Reason:
    arrangements: tuple
    files: str
    tests: str
    says: str
    text: str
    always: bool = True  # else who is first decides

    def is_about(self, arrangement, row):
        return (
            arrangement in self.arrangements
            and fnmatch.fnmatch(row["file"], self.files)
            and re.search(self.tests, row["test"]) is not None
        )

    def holds_for(self, arrangement, row):
        if not self.always and row["outcome"] == "passed":
            return self.is_about(arrangement, row)
        return self.is_about(arrangement, row) and re.search(self.says, row["why"]) is not None


NATIVE, JOURNALED = ("native",), ("journaled",)
EVERYWHERE = ("directly", "native", "journaled")

REASONS = [
    # ---------------------------------------------------------------- the server and the fail points
    Reason(
        ("directly",),
        "transactions/*",
        "(?i)read ?preference",
        "no replica set members match selector",
        "wants a replica set with a secondary",
    ),
    Reason(
        ("directly", "native"),
        "sessions/snapshot-sessions.json",
        "",
        r"AssertionError: 1\d != 1\d",
        "SecantusDB reads the newest data where a snapshot is asked for outside a transaction",
    ),
    Reason(
        ("directly", "native"),
        "retryable_writes/client-bulkWrite-serverErrors.json",
        "succeeds after retryable writeConcernError",
        "E11000",
        "SecantusDB carries out a bulkWrite with a transaction number again",
    ),
    Reason(
        ("directly", "native"),
        "causal_consistency/causal-consistency-clientBulkWrite.json",
        "",
        "bulkWrite.readConcern",
        "SecantusDB does not know readConcern in a bulkWrite",
    ),
    Reason(
        EVERYWHERE,
        "retryable_writes/bulkWrite.json",
        "All commands are retried|Both commands are retried after their first statement fails",
        "AutoReconnect",
        "the relay that makes fail points counts commands, not the writes in them",
    ),
    Reason(
        EVERYWHERE,
        "transactions/error-labels-blockConnection.json",
        "",
        "",
        "gives each answer 100 ms, which passes on an idle machine",
        always=False,
    ),
    # ---------------------------------------------------------------- the native engine
    Reason(
        NATIVE,
        "transactions*",
        "labels to connection errors|fails after two errors|applies majority write concern on retries",
        '"commitTransaction" succeeded',
        "the server hangs up twice. Holdfast asks again itself, too, so the driver gets the outcome where "
        "it would have given up",
    ),
    Reason(
        NATIVE,
        "transactions*",
        "after connection error$|multiple connection errors|only overwrites write concern w option",
        r"\d != \d",
        "where the server's answer to a commit is lost Holdfast asks again: the driver does not have to, "
        "and the test counts how often it does",
    ),
    Reason(
        NATIVE,
        "transactions*",
        r"UnknownTransactionCommitResult \(NotWritablePrimary\)|WriteConcernTimeout non-timeout error"
        "|labels to retryable commit errors|labels to writeConcernError",
        r"\d != \d|\"commitTransaction\" succeeded",
        "a commit whose answer leaves it open Holdfast asks again as well: who is first decides how often "
        "the driver has to",
        always=False,
    ),
    Reason(
        NATIVE,
        "transactions*",
        "fails after Interrupted|commitTransaction does not retry error without RetryableWriteError label",
        "\"commitTransaction\" succeeded",
        "an answer that the driver would take for a failure, though the commit may yet happen, is not passed "
        "on: Holdfast asks again, and tells the outcome",
    ),
    Reason(
        NATIVE,
        "transactions*",
        "not retried after MaxTimeMSExpired|abortTransaction does not retry without RetryableWriteError label",
        r"Lists differ: \[\] != ",
        "a commit whose answer leaves it open Holdfast asks again until it is known: it is carried out "
        "although the driver has given up, before the test looks or after",
        always=False,
    ),
    # ---------------------------------------------------------------- the journaled engine
    Reason(
        JOURNALED,
        "*",
        "",
        "'(readConcern|afterClusterTime)' not found in",
        "the driver sends afterClusterTime only where the server tells a cluster time; a standalone "
        "has none. What the test is about besides is carried out",
    ),
    Reason(
        JOURNALED,
        "sessions/*",
        "",
        "Snapshot read concern is not supported on standalone",
        "a standalone has no snapshots outside transactions",
    ),
    Reason(
        JOURNALED,
        "retryable_reads/changeStreams-*",
        "",
        "only supported on replica sets",
        "a standalone has no change streams",
    ),
    Reason(
        JOURNALED,
        "transactions/create-*",
        "",
        r"this command is not supported in a transaction",
        "create and createIndexes are refused in a transaction, as by MongoDB 4.2",
    ),
    Reason(
        JOURNALED,
        "transactions/create-collection.json",
        "implicitly create collection using insert",
        "unexpectedly found",
        "a collection that a transaction's insert makes is there at once, and empty to others",
    ),
    Reason(
        JOURNALED,
        "transactions/commit.json",
        "write concern error on commit",
        "succeeded",
        "how many members are to have a commit is not asked for: it is in the journal, and the "
        "standalone is the only member",
    ),
    # ---------------------------------------------------------------- tests for mongos only
    Reason(
        ("native", "journaled"),
        "transactions/*",
        "",
        "'recoveryToken' not found in",
        "for mongos only: Holdfast gives no recoveryToken of its own, for any proxy finds a commit's "
        "outcome by its session",
    ),
    Reason(
        ("native", "journaled"),
        "transactions/*",
        "commitTransaction retry fails on new mongos|unpin after transient error within a transaction"
        " and commit",
        "",
        "for mongos only, where another one does not know the transaction; here it does, and commits",
    ),
]


def varies(arrangement, row):
    return any(not reason.always and reason.is_about(arrangement, row) for reason in REASONS)


def reason_for(arrangement, row):
    """Of one that failed, or may."""
    for reason in REASONS:
        if reason.holds_for(arrangement, row):
            return reason
    return None
