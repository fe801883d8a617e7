"""A server of MongoDB 4.4: a relay in front of a newer one that lets through what 4.4 knows.

What 4.4 does not know it answers as 4.4 does, and puts it down in `refused`: a command, an
aggregation stage, an operator of an expression, a query or an update, a field of a command whose
parser is strict. Replies pass as they are, but for the version that the server claims. What it
cannot show is how 4.4 carries out what it does know.

The tables are what 4.4 has, not what came later: a name that nobody thought of is refused.
"""

import struct
import threading

import bson

from .wire import FLAG_MORE_TO_COME, OP_MSG, OP_QUERY, OP_REPLY, WireTap, encode_message

WIRE_VERSION = 9
VERSION = "4.4.29"

FAILED_TO_PARSE = 9
BAD_VALUE = 2
ILLEGAL_OPERATION = 20
COMMAND_NOT_FOUND = 59
INVALID_OPTIONS = 72
INVALID_PIPELINE_OPERATOR = 168
UNKNOWN_GROUP_OPERATOR = 15952
WRONG_COUNT = 16020
UNKNOWN_EXPRESSION_IN_PROJECTION = 31325
UNRECOGNIZED_STAGE = 40324
UNKNOWN_FIELD = 40415
NAMES = {
    BAD_VALUE: "BadValue",
    FAILED_TO_PARSE: "FailedToParse",
    ILLEGAL_OPERATION: "IllegalOperation",
    COMMAND_NOT_FOUND: "CommandNotFound",
    INVALID_OPTIONS: "InvalidOptions",
    INVALID_PIPELINE_OPERATOR: "InvalidPipelineOperator",
}

COMMANDS = set(
    """
    abortTransaction aggregate appendOplogNote applyOps authenticate availableQueryOptions
    buildInfo buildinfo cloneCollectionAsCapped collMod collStats collstats commitTransaction
    compact configureFailPoint connPoolStats connPoolSync connectionStatus convertToCapped count
    create createIndexes createRole createUser currentOp dataSize datasize dbHash dbhash dbStats
    dbstats delete deleteIndexes distinct driverOIDTest drop dropAllRolesFromDatabase
    dropAllUsersFromDatabase dropConnections dropDatabase dropIndexes dropRole dropUser endSessions
    explain features filemd5 find findAndModify findandmodify flushRouterConfig fsync fsyncUnlock
    geoSearch getCmdLineOpts getDefaultRWConcern getDiagnosticData getFreeMonitoringStatus
    getLastError getLog getMore getParameter getPrevError getShardMap getShardVersion getlasterror
    getnonce getpreverror grantPrivilegesToRole grantRolesToRole grantRolesToUser hello hostInfo
    insert invalidateUserCache isMaster isdbgrid ismaster killAllSessions killAllSessionsByPattern
    killCursors killOp killSessions listCollections listCommands listDatabases listIndexes lockInfo
    logRotate logout mapReduce mapreduce ping planCacheClear planCacheClearFilters
    planCacheListFilters planCacheSetFilter profile reIndex refreshSessions renameCollection
    replSetGetConfig replSetGetStatus replSetInitiate replSetReconfig replSetStepDown resetError
    reseterror revokePrivilegesFromRole revokeRolesFromRole revokeRolesFromUser rolesInfo
    saslContinue saslStart serverStatus setDefaultRWConcern setFeatureCompatibilityVersion
    setFreeMonitoring setIndexCommitQuorum setParameter shardingState shutdown
    startRecordingTraffic startSession stopRecordingTraffic top update updateRole updateUser
    usersInfo validate waitForFailPoint whatsmyuri
    """.split()
)

STAGES = set(
    """
    $addFields $bucket $bucketAuto $changeStream $collStats $count $currentOp $facet $geoNear
    $graphLookup $group $indexStats $limit $listLocalSessions $listSessions $lookup $match $merge
    $out $planCacheStats $project $redact $replaceRoot $replaceWith $sample $set $skip $sort
    $sortByCount $unionWith $unset $unwind
    """.split()
)
UPDATE_STAGES = {"$addFields", "$project", "$replaceRoot", "$replaceWith", "$set", "$unset"}

EXPRESSIONS = set(
    """
    $abs $acos $acosh $add $allElementsTrue $and $anyElementTrue $arrayElemAt $arrayToObject $asin
    $asinh $atan $atan2 $atanh $avg $binarySize $bsonSize $ceil $cmp $concat $concatArrays $cond
    $const $convert $cos $cosh $dateFromParts $dateFromString $dateToParts $dateToString
    $dayOfMonth $dayOfWeek $dayOfYear $degreesToRadians $divide $eq $exp $filter $first $floor
    $function $gt $gte $hour $ifNull $in $indexOfArray $indexOfBytes $indexOfCP $isArray $isNumber
    $isoDayOfWeek $isoWeek $isoWeekYear $last $let $literal $ln $log $log10 $lt $lte $ltrim $map
    $max $mergeObjects $meta $millisecond $min $minute $mod $month $multiply $ne $not
    $objectToArray $or $pow $radiansToDegrees $rand $range $reduce $regexFind $regexFindAll
    $regexMatch $replaceAll $replaceOne $reverseArray $round $rtrim $second $setDifference
    $setEquals $setIntersection $setIsSubset $setUnion $sin $sinh $size $slice $split $sqrt
    $stdDevPop $stdDevSamp $strLenBytes $strLenCP $strcasecmp $substr $substrBytes $substrCP
    $subtract $sum $switch $tan $tanh $toBool $toDate $toDecimal $toDouble $toInt $toLong $toLower
    $toObjectId $toString $toUpper $trim $trunc $type $week $year $zip
    """.split()
)
PROJECTIONS = EXPRESSIONS | {"$elemMatch"}
ACCUMULATORS = set(
    """
    $accumulator $addToSet $avg $first $last $max $mergeObjects $min $push $stdDevPop $stdDevSamp
    $sum
    """.split()
)
QUERY_TOP = set("$alwaysFalse $alwaysTrue $and $comment $expr $jsonSchema $nor $or".split())
QUERY_TOP |= {"$sampleRate", "$text", "$where"}
QUERY_FIELD = set(
    """
    $all $bitsAllClear $bitsAllSet $bitsAnyClear $bitsAnySet $elemMatch $eq $exists $geoIntersects
    $geoWithin $gt $gte $in $lt $lte $maxDistance $minDistance $mod $ne $near $nearSphere $nin $not
    $options $regex $size $type $within $db $id $ref
    """.split()
)
UPDATES = set(
    """
    $addToSet $bit $currentDate $inc $max $min $mul $pop $pull $pullAll $push $rename $set
    $setOnInsert $unset
    """.split()
)

# Fields of every command; those of a command whose parser refuses others.
GENERIC = set(
    """
    $audit $client $clusterTime $configServerState $db $oplogQueryData $queryOptions
    $readPreference $replData allowImplicitCollectionCreation autocommit clientOperationKey comment
    coordinator databaseVersion help lsid maxTimeMS maxTimeMSOpOnly readConcern shardVersion
    startTransaction stmtId stmtIds tracking_info txnNumber writeConcern
    """.split()
)
FIELDS = {
    "aggregate": """allowDiskUse bypassDocumentValidation collation collectionUUID cursor exchange
        explain fromMongos hint isMapReduceCommand needsMerge pipeline runtimeConstants""",
    "collMod": "index pipeline recordPreImages validationAction validationLevel validator viewOn",
    "create": """autoIndexId capped collation flags idIndex indexOptionDefaults max pipeline
        recordPreImages size storageEngine temp validationAction validationLevel validator
        viewOn""",
    "createIndexes": "commitQuorum ignoreUnknownIndexOptions indexes",
    "delete": "bypassDocumentValidation deletes ordered",
    "find": """allowDiskUse allowPartialResults awaitData batchSize collation filter hint limit max
        min noCursorTimeout ntoreturn oplogReplay options projection returnKey runtimeConstants
        showRecordId singleBatch skip sort tailable""",
    "findAndModify": """arrayFilters bypassDocumentValidation collation fields hint new query remove
        runtimeConstants sort update upsert""",
    "insert": "bypassDocumentValidation documents ordered",
    "update": "bypassDocumentValidation ordered runtimeConstants updates",
}
FIELDS = {name: set(fields.split()) | GENERIC for name, fields in FIELDS.items()}
FIELDS["findandmodify"] = FIELDS["findAndModify"]
STATEMENTS = {
    "update": ("updates", {"arrayFilters", "c", "collation", "hint", "multi", "q", "u", "upsert"}),
    "delete": ("deletes", {"collation", "hint", "limit", "q"}),
}
# A strict parser made by hand, which says it otherwise.
HAND_MADE = {"aggregate", "find"}


class Unknown(Exception):
    """What 4.4 does not know. `statement`: of which statement of a write command, or None."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.statement = None

    def reply(self):
        error = {"code": self.code, "errmsg": str(self)}
        if self.statement == 0:
            return {"n": 0, "nModified": 0, "writeErrors": [{"index": 0, **error}], "ok": 1.0}
        name = NAMES.get(self.code, f"Location{self.code}")
        return {"ok": 0.0, **error, "codeName": name}


def check_command(command):
    """Unknown, if there is anything in the command that 4.4 does not know."""
    name = next(iter(command), "")
    if name not in COMMANDS:
        raise Unknown(COMMAND_NOT_FOUND, f"no such command: '{name}'")
    if name == "explain" and isinstance(command[name], dict):
        return check_command(command[name])
    _check_fields(name, command)
    _check_session(command)
    if name == "aggregate":
        _check_pipeline(command.get("pipeline"), STAGES)
    elif name == "find":
        _check_query(command.get("filter"))
        _check_projection(command.get("projection"))
    elif name in ("count", "distinct"):
        _check_query(command.get("query"))
    elif name in ("findAndModify", "findandmodify"):
        _check_query(command.get("query"))
        _check_update(command.get("update"))
        _check_projection(command.get("fields"))
    elif name in STATEMENTS:
        _check_statements(name, command)
    return None


def _check_fields(name, command):
    for field in list(command)[1:]:
        if name in FIELDS and field not in FIELDS[name]:
            if name in HAND_MADE:
                raise Unknown(FAILED_TO_PARSE, f"Unrecognized field '{field}'.")
            raise Unknown(UNKNOWN_FIELD, f"BSON field '{name}.{field}' is an unknown field.")
    if any(field.startswith("api") for field in command):
        raise Unknown(UNKNOWN_FIELD, f"BSON field '{name}.apiVersion' is an unknown field.")


def _check_session(command):
    """A standalone server of any version has no transactions and no retryable writes."""
    if "txnNumber" in command or "autocommit" in command:
        where = "a replica set member or mongos"
        raise Unknown(ILLEGAL_OPERATION, f"Transaction numbers are only allowed on {where}")
    concern = command.get("readConcern")
    if isinstance(concern, dict) and concern.get("level") == "snapshot":
        raise Unknown(INVALID_OPTIONS, "readConcern snapshot is only valid in a transaction")


def _check_statements(name, command):
    field, known = STATEMENTS[name]
    for number, statement in enumerate(command.get(field, ())):
        for part in statement:
            if part not in known:
                message = f"BSON field '{name}.{field}.{part}' is an unknown field."
                raise Unknown(UNKNOWN_FIELD, message)
        try:
            _check_query(statement.get("q"))
            _check_update(statement.get("u"))
        except Unknown as unknown:
            unknown.statement = number
            raise


def _check_update(update):
    if isinstance(update, list):
        return _check_pipeline(update, UPDATE_STAGES)
    for operator, fields in (update or {}).items():
        if not operator.startswith("$"):
            continue  # a replacement
        if operator not in UPDATES:
            raise Unknown(FAILED_TO_PARSE, f"Unknown modifier: {operator}")
        if fields == {}:
            raise Unknown(FAILED_TO_PARSE, f"'{operator}' is empty. You must specify a field")
    return None


def _check_pipeline(pipeline, stages):
    for stage in pipeline if isinstance(pipeline, list) else ():
        if not isinstance(stage, dict) or len(stage) != 1:
            continue  # for the server to refuse
        ((name, body),) = stage.items()
        if name not in stages:
            raise Unknown(UNRECOGNIZED_STAGE, f"Unrecognized pipeline stage name: '{name}'")
        _check_stage(name, body)


def _check_stage(name, body):
    if name == "$match":
        _check_query(body)
    elif name == "$project":
        _check_projection(body)
    elif name == "$facet":
        for pipeline in body.values():
            _check_pipeline(pipeline, STAGES)
    elif name == "$unionWith" and isinstance(body, dict):
        _check_pipeline(body.get("pipeline"), STAGES)
    elif name == "$lookup":
        if "pipeline" in body and ("localField" in body or "foreignField" in body):
            message = "$lookup with 'pipeline' may not specify 'localField' or 'foreignField'"
            raise Unknown(FAILED_TO_PARSE, message)
        if "from" not in body:
            raise Unknown(FAILED_TO_PARSE, "must specify 'from' field for a $lookup")
        _check_expression(body.get("let"))
        _check_pipeline(body.get("pipeline"), STAGES)
    elif name == "$group":
        _check_expression(body.get("_id"))
        for field, accumulator in body.items():
            _check_accumulator(accumulator if field != "_id" else {})
    elif name in ("$bucket", "$bucketAuto"):
        _check_expression(body.get("groupBy"))
        for accumulator in body.get("output", {}).values():
            _check_accumulator(accumulator)
    elif name in ("$addFields", "$redact", "$replaceRoot", "$replaceWith", "$set", "$sortByCount"):
        _check_expression(body)


def _check_accumulator(accumulator):
    for name, operand in accumulator.items() if isinstance(accumulator, dict) else ():
        if name not in ACCUMULATORS:
            raise Unknown(UNKNOWN_GROUP_OPERATOR, f"unknown group operator '{name}'")
        if name != "$accumulator":
            _check_expression(operand)


def _check_projection(projection):
    if projection is None:
        return
    try:
        _check_expression(projection, PROJECTIONS)
    except Unknown as unknown:
        if unknown.code != INVALID_PIPELINE_OPERATOR:
            raise
        message = str(unknown).replace("Unrecognized expression ", "Unknown expression ")
        raise Unknown(UNKNOWN_EXPRESSION_IN_PROJECTION, message) from None


def _check_expression(expression, known=frozenset(EXPRESSIONS)):
    if isinstance(expression, list):
        for element in expression:
            _check_expression(element, known)
    if not isinstance(expression, dict):
        return
    for name, operand in expression.items():
        if not name.startswith("$"):
            _check_expression(operand, known)
            continue
        if name not in known:
            raise Unknown(INVALID_PIPELINE_OPERATOR, f"Unrecognized expression '{name}'")
        if name == "$ifNull" and isinstance(operand, list) and len(operand) != 2:
            raise Unknown(WRONG_COUNT, "Expression $ifNull takes exactly 2 arguments.")
        if name == "$elemMatch":
            _check_query(operand)
        elif name not in ("$const", "$literal"):
            _check_expression(operand)


def _check_query(query):
    for name, condition in query.items() if isinstance(query, dict) else ():
        if not name.startswith("$"):
            _check_condition(condition)
        elif name not in QUERY_TOP:
            raise Unknown(BAD_VALUE, f"unknown top level operator: {name}")
        elif name == "$expr":
            _check_expression(condition)
        elif name in ("$and", "$nor", "$or"):
            for part in condition:
                _check_query(part)


def _check_condition(condition):
    """What a query says of one field."""
    if not isinstance(condition, dict) or not next(iter(condition), "").startswith("$"):
        return  # a value to be equal to
    for name, operand in condition.items():
        if name not in QUERY_FIELD:
            raise Unknown(BAD_VALUE, f"unknown operator: {name}")
        if name == "$not":
            _check_condition(operand)
        elif name == "$elemMatch":
            is_field = next(iter(operand), "") in QUERY_FIELD
            (_check_condition if is_field else _check_query)(operand)


class _Pending:
    """Requests of one connection that the server has yet to answer: a refusal waits its turn."""

    def __init__(self):
        self._condition = threading.Condition()
        self._count = 0
        self._closed = False

    def add(self, number):
        with self._condition:
            self._count += number
            self._condition.notify_all()

    def close(self):
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def wait_for_none(self):
        with self._condition:
            self._condition.wait_for(lambda: self._count <= 0 or self._closed)


class OldServer(WireTap):
    """MongoDB 4.4 in front of `server`, a Server. `commands`: all that came, as of a WireTap.

    refused: (command, error code, message) of what 4.4 does not know, in order.
    """

    def __init__(self, server):
        self.refused = []
        self._pending = {}
        super().__init__(server.port)

    def take_refused(self):
        """The names of what was refused since the last time, with their codes."""
        taken, self.refused = self.refused, []
        return [(next(iter(command)), code) for command, code, _ in taken]

    def _relay(self, source, target, request):
        pending = self._pending.setdefault(source if request else target, _Pending())
        try:
            super()._relay(source, target, request)
        finally:
            pending.close()

    def _pass_on(self, message, document, flags, source, target, request):
        pending = self._pending[source if request else target]
        if not request:
            super()._pass_on(_as_old(message, document), document, flags, source, target, request)
            if not flags & FLAG_MORE_TO_COME:
                pending.add(-1)
            return
        try:
            if struct.unpack_from("<i", message, 12)[0] in (OP_MSG, OP_QUERY):
                check_command(document)
        except Unknown as unknown:
            self.refused.append((document, unknown.code, str(unknown)))
            if not flags & FLAG_MORE_TO_COME:
                pending.wait_for_none()
                source.sendall(_answer(message, unknown.reply()))
            return
        if not flags & FLAG_MORE_TO_COME:
            pending.add(1)
        super()._pass_on(message, document, flags, source, target, request)


def _answer(request, document):
    answer = bytearray(encode_message(document))
    answer[8:12] = request[4:8]
    return bytes(answer)


def _as_old(message, document):
    """The reply with the version of 4.4 in place of the server's own, where it tells one."""
    opcode = struct.unpack_from("<i", message, 12)[0]
    changed = dict(document)
    if "maxWireVersion" in document:
        changed["maxWireVersion"] = min(document["maxWireVersion"], WIRE_VERSION)
        changed.pop("compression", None)
    if "versionArray" in document:
        changed["version"], changed["versionArray"] = VERSION, [4, 4, 29, 0]
    if changed == document or opcode not in (OP_MSG, OP_REPLY):
        return message
    body = message[16:20] + b"\x00" if opcode == OP_MSG else message[16:36]
    body += bson.encode(changed)
    return struct.pack("<i", 16 + len(body)) + message[4:16] + body
