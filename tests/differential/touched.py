"""What transactions have touched: whether two of them meet."""

import program as programs


def _named_ids(command):
    """(collection, _id) of the documents that a write names; (collection, None): any."""
    found = []
    collection = next(iter(command.values()))
    if "nsInfo" in command:
        for one in command["ops"]:
            place = next(iter(one.values()))
            where = command["nsInfo"][place]["ns"][1:]
            if "document" in one:
                found.append((where, one["document"].get("_id")))
            else:
                found.append((where, one["filter"].get("_id")))
        return found
    for document in command.get("documents") or []:
        found.append((collection, document.get("_id") if isinstance(document, dict) else None))
    statements = [*(command.get("updates") or []), *(command.get("deletes") or [])]
    for query in [one.get("q") for one in statements] + [command.get("query")]:
        if query is not None:
            found.append((collection, query.get("_id") if isinstance(query, dict) else None))
    return found


def meets_another(program, place):
    """Whether the step writes what a transaction that is or was open beside its own has written,
    or may by a unique index."""
    steps = program["steps"]
    step = steps[place]
    mine_is = owner(step)
    began = min(
        (n for n, one in enumerate(steps[: place + 1]) if mine_is and owner(one) == mine_is),
        default=place,
    )
    mine = _named_ids(step["command"])
    ended = {owner(one): n for n, one in enumerate(steps) if programs.name_of(one) in programs.ENDS}
    for other in steps[:place]:
        if mine_is is not None and owner(other) == mine_is:
            continue
        if programs.name_of(other) in programs.READS | programs.ENDS:
            continue
        if owner(other) is not None and ended.get(owner(other), place) < began:
            continue
        for theirs in _named_ids(other["command"]):
            if any(_may_meet(program, theirs, one) for one in mine):
                return True
    return False


def owner(step):
    return (step.get("session"), step.get("number")) if step.get("transaction") else None


def _may_meet(program, left, right):
    if left[0] != right[0]:
        return False
    unique = any(index.get("unique") for index in program["indexes"])
    general = any(one is None or isinstance(one, dict) for one in (left[1], right[1]))
    return unique or general or left[1] == right[1]


def _collections(command):
    if "nsInfo" in command:
        return {one["ns"][1:] for one in command["nsInfo"]}
    return {next(iter(command.values()))} if "getMore" not in command else {command["collection"]}


def was_written_plainly(steps, place):
    """Whether a plain write, while the step's transaction was open, was the first thing that either
    did in a collection of the step's."""
    mine = owner(steps[place])
    began = next((n for n, one in enumerate(steps) if mine and owner(one) == mine), place)
    seen = set()
    for step in steps[began:place]:
        if owner(step) == mine:
            seen |= _collections(step["command"])
        elif (
            owner(step) is None
            and "number" not in step
            and programs.name_of(step) not in programs.READS
            and (_collections(step["command"]) - seen) & _collections(steps[place]["command"])
        ):
            return True
    return False


# ---------------------------------------------------------------- natural order


def _is_pinned(query):
    return isinstance(query, dict) and not isinstance(query.get("_id", {}), dict)


def takes_first_of_several(command):
    """Whether the natural order may decide what the command does or answers."""
    if "sort" in command:
        return False
    singles = [one.get("q") for one in command.get("updates") or [] if not one.get("multi")]
    singles += [one.get("q") for one in command.get("deletes") or [] if one.get("limit")]
    singles += [one["filter"] for one in command.get("ops", []) if "filter" in one]
    if "findAndModify" in command:
        singles.append(command.get("query"))
    return any(not _is_pinned(query) for query in singles)


def restored(steps, answers):
    """Whether a unit that has removed a document may have been rolled back."""
    committed = {
        owner(step)
        for step, (_, holdfast) in zip(steps, answers)
        if "commitTransaction" in step["command"] and _is_well(holdfast)
    }
    return any(
        step.get("transaction") and owner(step) not in committed and _removes(step["command"])
        for step in steps
    )


def _is_well(reply):
    reply = reply[0] if isinstance(reply, tuple) else reply
    return isinstance(reply, dict) and reply.get("ok") == 1


def _removes(command):
    return "delete" in command or "remove" in command or "'delete'" in repr(command.get("ops"))


# ---------------------------------------------------------------- what a transaction makes


def is_made(steps, place, command):
    """Whether the transaction that step `place` ends may have made a document that the command
    names."""
    made = []
    for step in steps[:place]:
        if owner(step) == owner(steps[place]) and (
            "insert" in step["command"]
            or "'upsert': True" in repr(step["command"])
            or "'insert'" in repr(step["command"].get("ops"))
        ):
            made += _named_ids(step["command"])
    return any(one in made for one in _named_ids(command))
