"""A checker of histories: were these transactions as if they had run one after the other?

Each document holds a list to which transactions append values that are all different, so that a
document tells its whole past: which write followed which, and which one a reader has seen the last
(list-append; K. Kingsbury, P. Alvaro, "Elle", VLDB 2020). From that the dependencies of Adya:

    ww  it appended right behind the other's value
    wr  it read the other's value as the last
    rw  it did not see the value that the other appended next: the other came later
    rt  the other began after this one had been acknowledged

Serializable: no cycle of ww, wr, rw. Strictly so: with rt none either.
"""

import collections
import dataclasses
import itertools


@dataclasses.dataclass
class Transaction:
    number: int
    began: float
    ended: float = float("inf")
    committed: bool | None = None  # None: nobody knows
    appends: list = dataclasses.field(default_factory=list)  # (key, value), in order
    reads: list = dataclasses.field(default_factory=list)  # (key, values), before its own appends

    def append(self, key, value):
        self.appends.append((key, value))

    def read(self, key, values):
        """What it read, without what it has appended itself."""
        own = {value for k, value in self.appends if k == key}
        foreign = [value for value in values if value not in own]
        assert list(values) == foreign + [v for k, v in self.appends if k == key], (
            f"transaction {self.number} does not see its own appends at the end: {values}"
        )
        self.reads.append((key, foreign))


class Anomaly(AssertionError):
    """What must never be, at any level: lost, aborted or intermediate writes."""


def _settle(transactions, final):
    """Those that are there; who never learned how it ended is there if what it wrote is."""
    writer = {}
    for transaction in transactions:
        for key, value in transaction.appends:
            writer[value] = transaction
    stored = {value for values in final.values() for value in values}
    there = []
    for transaction in transactions:
        found = {value in stored for _, value in transaction.appends}
        if len(found) > 1:
            raise Anomaly(f"transaction {transaction.number} is there by half")
        if transaction.committed is None:
            transaction.committed = found == {True}
            transaction.ended = float("inf")
        elif found and transaction.committed != found.pop():
            said = "committed" if transaction.committed else "rolled back"
            raise Anomaly(f"transaction {transaction.number} was {said}, and is not")
        if transaction.committed:
            there.append(transaction)
    return there, writer


def dependencies(transactions, final, real_time=True):
    """{(from, to): kind} of committed transactions' numbers. `final`: {key: values} in the end."""
    there, writer = _settle(transactions, final)
    edges = {}

    def add(before, after, kind):
        if before is not after:
            edges.setdefault((before.number, after.number), kind)

    last_of = {}  # (transaction, key): its last value there
    for transaction in there:
        for key, value in transaction.appends:
            last_of[transaction.number, key] = value
    for values in final.values():
        for first, second in itertools.pairwise(values):
            add(writer[first], writer[second], "ww")
    for transaction in there:
        for key, seen in transaction.reads:
            whole = final.get(key, [])
            if seen != whole[: len(seen)]:
                raise Anomaly(
                    f"transaction {transaction.number} read {seen} of {key}, which holds {whole}"
                )
            if seen:
                source = writer[seen[-1]]
                if last_of.get((source.number, key)) != seen[-1]:
                    raise Anomaly(f"transaction {transaction.number} read an intermediate value")
                add(source, transaction, "wr")
            if len(seen) < len(whole):
                add(transaction, writer[whole[len(seen)]], "rw")
    if real_time:
        _add_real_time(there, add)
    return edges


def _add_real_time(there, add):
    """Only from those that ended last before each began: what ended earlier follows."""
    moments = sorted(
        [(t.began, 1, t) for t in there] + [(t.ended, 0, t) for t in there],
        key=lambda moment: moment[:2],
    )
    frontier, seen_at_begin = set(), {}
    by_number = {t.number: t for t in there}
    for _, begins, transaction in moments:
        if begins:
            seen_at_begin[transaction.number] = set(frontier)
            for before in frontier:
                add(by_number[before], transaction, "rt")
        else:
            frontier -= seen_at_begin[transaction.number]
            frontier.add(transaction.number)


def cycle(edges):
    """A shortest cycle as [(from, kind, to), ...]; None: there is none."""
    after = collections.defaultdict(list)
    for before, later in edges:
        after[before].append(later)
    best = None
    for start in _in_cycles(after):
        came_from = {start: None}
        queue = collections.deque([start])
        found = None
        while queue and found is None:
            at = queue.popleft()
            for later in after[at]:
                if later == start:
                    found = at
                    break
                if later not in came_from:
                    came_from[later] = at
                    queue.append(later)
        if found is None:
            continue
        path = [start]
        while found is not None:
            path.append(found)
            found = came_from[found]
        path.reverse()
        if best is None or len(path) < len(best):
            best = path
    if best is None:
        return None
    return [(a, edges[a, b], b) for a, b in itertools.pairwise(best)]


def _in_cycles(after):
    """One of each strongly connected component of several (Tarjan, without recursion)."""
    index, low, on_stack, stack = {}, {}, set(), []
    for root in list(after):
        if root in index:
            continue
        work = [(root, iter(after[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            at, rest = work[-1]
            for later in rest:
                if later not in index:
                    index[later] = low[later] = len(index)
                    stack.append(later)
                    on_stack.add(later)
                    work.append((later, iter(after.get(later, ()))))
                    break
                if later in on_stack:
                    low[at] = min(low[at], index[later])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == index[at]:
                    component = []
                    while not component or component[-1] != at:
                        component.append(stack.pop())
                        on_stack.discard(component[-1])
                    if len(component) > 1:
                        yield from component[:3]


def check(transactions, final, real_time=True):
    """Raises Anomaly; returns a cycle, or None if the history is serializable."""
    return cycle(dependencies(transactions, final, real_time))


def check_snapshot(transactions, final):
    """Raises Anomaly; returns a cycle that snapshot isolation forbids, or None.

    Where two rw edges follow each other snapshots allow it (A. Fekete et al., "Making Snapshot Isolation
    Serializable", 2005): so one of which at most one edge in each round is rw, and no two in a row.
    """
    edges = dependencies(transactions, final, real_time=False)
    after = collections.defaultdict(list)
    for (before, later), kind in edges.items():
        after[before].append((later, kind == "rw"))
    # Each transaction twice: reached by an rw edge, behind which no other may follow, and otherwise.
    doubled = {}
    for before, found in after.items():
        for later, is_rw in found:
            doubled[(before, False), (later, is_rw)] = edges[before, later]
            if not is_rw:
                doubled[(before, True), (later, False)] = edges[before, later]
    found = cycle(doubled)
    return None if found is None else [(a[0], kind, b[0]) for a, kind, b in found]
