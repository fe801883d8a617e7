"""holdfast scrub: what contradicts each other is found, nothing else, and put right in units."""

import json
import threading

import pymongo
import pytest
from conftest import DATABASE, Stack
from holdfast_testing import Proxy, Server, holdfast, wait_until

RULES = """
database: test
rules:
  - name: customer
    reference: {from: NAME_orders.customer, to: NAME_customers._id}
    fix: {delete: from}
  - name: products
    reference:
      from: {in: NAME_orders, unwind: lines, key: lines.product}
      to: NAME_products
    fix: {update: {$pull: {lines: {product: $$key}}}, of: from}
  - name: profile
    partners:
      - {name: users, in: NAME_users}
      - {name: profiles, in: NAME_profiles, key: user}
    fix:
      - {insert: {user: $_id, name: $name, made: {by: $$rule}}, into: profiles, from: users}
      - {delete: profiles, without: users}
  - name: status
    twin:
      - {name: orders, in: NAME_orders, value: status}
      - {name: shipments, in: NAME_shipments, key: order, value: status}
    fix: {set: {status: $$found.orders.min}, of: shipments}
  - name: count
    counter:
      of: {in: NAME_customers, value: orders}
      counts: {in: NAME_orders, key: customer}
    fix: {set: {orders: $$found.counts.n}, of: of}
  - name: sum
    counter:
      of: {in: NAME_customers, value: {$ifNull: [$spent, 0]}}
      sums: {in: NAME_orders, key: customer, where: {status: done}, sum: total}
    fix: {set: {spent: $$found.sums.sum}, of: of}
  - name: email
    unique: {in: NAME_users, key: email}
    fix: {delete: documents, keep: oldest}
  - name: pending
    stuck: {in: NAME_orders, where: {status: pending}, since: at, longer: 15m}
    fix: {mark: documents}
  - name: positive
    expect: {in: NAME_orders, that: {$gte: [$total, 0]}}
    fix: {set: {total: {$multiply: [$total, -1]}}}
  - name: pairs
    group:
      sources:
        left: {in: NAME_pairs, where: {side: left}, key: [a, b]}
        right: {in: NAME_pairs, where: {side: right}, key: [a, b]}
      that: {$eq: [$left.n, $right.n]}
"""
NOW, LONG_AGO = "2100-01-01T00:00:00Z", "2020-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def held():
    with Stack({"unit.lockWait": "5s"}) as made:
        yield made


@pytest.fixture
def rules(tmp_path, name):
    def write(text=RULES):
        path = tmp_path / "rules.yaml"
        path.write_text(text.replace("NAME", name))
        return path

    return write


class Collections:
    """Those of one test: `c.orders` is test.NAME_orders, asked past the proxy."""

    def __init__(self, stack, name):
        self._database, self._name = stack.direct[DATABASE], name

    def __getattr__(self, part):
        return self._database[f"{self._name}_{part}"]


@pytest.fixture
def c(held, name):
    return Collections(held, name)


def fill(c):
    """Documents that break each rule at least once, and others that break none."""
    c.customers.insert_many([
        {"_id": 1, "orders": 2, "spent": 30}, {"_id": 2, "orders": 5, "spent": 0},
        {"_id": 3, "orders": 0},
    ])  # fmt: skip
    c.products.insert_many([{"_id": "p1"}, {"_id": "p2"}])
    order = {"status": "done", "at": LONG_AGO, "lines": [{"product": "p1"}]}
    c.orders.insert_many([
        {**order, "_id": 10, "customer": 1, "total": 10},
        {**order, "_id": 11, "customer": 1, "total": 20,
         "lines": [{"product": "p1"}, {"product": "gone"}]},
        {**order, "_id": 12, "customer": 9, "total": 5},
        {**order, "_id": 13, "customer": 2, "total": 7},
        {**order, "_id": 14, "customer": None, "total": -3},
        {**order, "_id": 15, "total": 0, "status": "pending"},
        {**order, "_id": 16, "total": 0, "status": "pending", "at": NOW},
        {"_id": 17, "total": 0, "status": "pending"},
    ])  # fmt: skip
    c.shipments.insert_many([
        {"_id": 20, "order": 10, "status": "done"}, {"_id": 21, "order": 11, "status": "lost"},
        {"_id": 22, "order": 99, "status": "done"},
    ])  # fmt: skip
    c.users.insert_many([
        {"_id": 30, "name": "Ada", "email": "a@b"}, {"_id": 31, "name": "Bob", "email": "a@b"},
        {"_id": 32, "name": "Cyd"},
    ])  # fmt: skip
    c.profiles.insert_many([{"_id": 40, "user": 30}, {"_id": 41, "user": 31}, {"user": 39}])
    c.pairs.insert_many([
        {"side": side, "a": a, "b": b}
        for side, a, b in (("left", 1, 1), ("right", 1, 1), ("left", 1, 2), ("right", 2, None))
    ])  # fmt: skip


FOUND = {
    "customer": 1, "products": 1, "profile": 2, "status": 1, "count": 1, "sum": 1, "email": 1,
    "pending": 1, "positive": 1, "pairs": 1,
}  # fmt: skip


def scrub(rules, *options, check=None):
    done = holdfast("scrub", "--rules", rules, "--json", "--settle", "50ms", *options)
    assert done.returncode in ((0, 1) if check is None else (check,)), done.stdout + done.stderr
    return json.loads(done.stdout)


def found(report):
    return {rule["rule"]: rule["found"] for rule in report["rules"] if rule["found"]}


def named(report, name):
    return next(rule for rule in report["rules"] if rule["rule"] == name)


@pytest.mark.parametrize("way", ["--upstream", "--proxy"])
def test_each_kind_of_rule_finds_what_breaks_it(held, c, rules, way):
    """By the server alone or through the proxy: all of it, and nothing that is sound."""
    fill(c)
    uri = held.server.uri if way == "--upstream" else held.proxy.uri
    report = scrub(rules(), way, uri, check=1)
    assert found(report) == FOUND
    assert report["found"] == sum(FOUND.values()) and report["moving"] == 0
    example = named(report, "customer")["examples"][0]
    assert example["group"] == {"_id": 9, "from": {"n": 1}, "to": {"n": 0}}
    assert example["documents"] == {"from": [12], "to": []}
    (fix,) = example["fix"]
    assert fix["database"] == DATABASE
    assert fix["command"]["deletes"] == [{"q": {"_id": 12}, "limit": 1}]
    only = scrub(rules(), way, uri, "--rule", "email", check=1)
    assert found(only) == {"email": 1} and len(only["rules"]) == 1


def test_a_database_without_contradictions(held, c, rules):
    """No finding, exit code 0; collections that do not exist are empty."""
    c.customers.insert_one({"_id": 1, "orders": 0})
    assert found(scrub(rules(), "--upstream", held.server.uri, check=0)) == {}


def test_fixes_are_units_of_one_run(held, c, rules):
    """Each fix does what its rule says, in a unit of its own that names the run."""
    fill(c)
    before = json.loads(holdfast("units", "--wal", held.proxy.wal, "--json").stdout)["units"]
    report = scrub(rules(), "--proxy", held.proxy.uri, "--fix", "--yes")
    assert report["found"] == 1  # the pairs, which have no fix
    assert {fix["rule"] for fix in report["fixes"]} == set(FOUND) - {"pairs"}
    assert not any(fix["changedMeanwhile"] for fix in report["fixes"])

    assert {order["_id"] for order in c.orders.find()} == {10, 11, 13, 14, 15, 16, 17}
    assert c.orders.find_one(11)["lines"] == [{"product": "p1"}]
    assert c.orders.find_one(14)["total"] == 3
    assert c.orders.find_one(15)["holdfastScrub"]["run"] == report["run"]
    assert "holdfastScrub" not in c.orders.find_one(16)
    assert c.shipments.find_one(21)["status"] == "done"
    assert c.customers.find_one(2) == {"_id": 2, "orders": 1, "spent": 7}
    assert {user["_id"] for user in c.users.find()} == {30, 32}
    made = c.profiles.find_one({"user": 32}, {"_id": 0})
    assert made == {"user": 32, "name": "Cyd", "made": {"by": "profile"}}
    assert {profile["user"] for profile in c.profiles.find()} == {30, 32}

    units = json.loads(holdfast("units", "--wal", held.proxy.wal, "--json").stdout)["units"]
    ours = [unit for unit in units[len(before) :] if unit["state"] == "committed"]
    assert len(ours) == sum(fix["fixed"] for fix in report["fixes"])
    assert {unit["appName"] for unit in ours} == {f"holdfast scrub {report['run']}"}
    again = scrub(rules(), "--proxy", held.proxy.uri, check=1)
    assert found(again) == {"pairs": 1}


def everything(c):
    names = ("customers", "products", "orders", "shipments", "users", "profiles", "pairs")
    return {name: list(getattr(c, name).find().sort("_id")) for name in names}


def undo(stack, run, check):
    done = holdfast("scrub", "--undo", run, "--wal", stack.proxy.wal, "--proxy", stack.proxy.uri,
                    "--json", check=check)  # fmt: skip
    return json.loads(done.stdout)


def test_a_run_can_be_undone(held, c, rules):
    """Each document is again what it was before the run, byte for byte; a second time nothing is."""
    fill(c)
    before = everything(c)
    report = scrub(rules(), "--proxy", held.proxy.uri, "--fix", "--yes")
    units = sum(fix["fixed"] for fix in report["fixes"])
    runs = json.loads(holdfast("scrub", "--runs", "--wal", held.proxy.wal, "--json").stdout)["runs"]
    assert (runs[-1]["run"], runs[-1]["units"]) == (report["run"], units)
    assert everything(c) != before
    wanted = {"run": report["run"], "undone": units, "already": 0, "changedSince": 0}
    assert undo(held, report["run"], 0) == wanted
    assert everything(c) == before
    again = undo(held, report["run"], 0)
    assert (again["undone"], again["already"]) == (0, units)


def test_undoing_leaves_what_was_written_since(held, c, rules):
    """The unit whose document somebody has written since stays whole; the others are undone."""
    c.orders.insert_many([{"_id": n, "total": -n} for n in (1, 2, 3)])
    report = scrub(rules(), "--proxy", held.proxy.uri, "--fix", "--yes", "--rule", "positive")
    with held.proxy.client() as client:
        client[DATABASE][c.orders.name].update_one({"_id": 2}, {"$set": {"note": "mine"}})
    undone = undo(held, report["run"], 1)
    assert (undone["undone"], undone["changedSince"]) == (2, 1)
    assert {d["_id"]: d["total"] for d in c.orders.find()} == {1: -1, 2: 2, 3: -3}
    assert c.orders.find_one(2)["note"] == "mine"


def test_a_fix_that_the_server_refuses_leaves_the_others(held, c, rules):
    """One finding's fix meets a unique index: it is told, and stays; the next one is fixed."""
    c.orders.create_index("total", unique=True, sparse=True)
    c.orders.insert_many([{"_id": 1, "total": -5}, {"_id": 2, "total": 5}, {"_id": 3, "total": -7}])
    done = holdfast("scrub", "--rules", rules(), "--settle", "0", "--proxy", held.proxy.uri,
                    "--fix", "--yes", "--rule", "positive", "--json", check=1)  # fmt: skip
    first = json.loads(done.stdout)["fixes"][0]
    assert (first["fixed"], first["notCured"]) == (1, 1) and "positive: " in done.stderr
    assert {d["_id"]: d["total"] for d in c.orders.find()} == {1: -5, 2: 5, 3: 7}


def test_what_is_being_written_makes_no_alarm(held, c, rules):
    """A service writes two documents, one after the other, again and again: never a finding."""
    over = threading.Event()

    def write():
        with pymongo.MongoClient(held.server.uri) as client:
            database = client[DATABASE]
            users, profiles = database[c.users.name], database[c.profiles.name]
            number = 0
            while not over.wait(0.001):
                number += 1
                users.insert_one({"_id": number})
                over.wait(0.01)
                profiles.insert_one({"user": number})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: c.users.count_documents({}) > 5, 20, "the service writes")
        for _ in range(8):
            report = scrub(rules(), "--upstream", held.server.uri, "--rule", "profile", "--settle",
                           "400ms", check=0)  # fmt: skip
            assert found(report) == {}
    finally:
        over.set()
        writer.join()


def test_a_fix_does_not_undo_what_a_service_wrote_meanwhile(held, c, rules):
    """The missing customer comes between the looks and the fix: the order stays.

    A service's transaction has a lock that the fix waits for, writes the customer, and commits.
    """
    c.orders.insert_many([{"_id": 1, "customer": 7, "total": 1}, {"_id": 2, "total": 2}])
    with held.proxy.client() as client:
        orders, customers = (client[DATABASE][name] for name in (c.orders.name, c.customers.name))
        with client.start_session() as session:
            session.start_transaction()
            orders.update_one({"_id": 2}, {"$set": {"total": 3}}, session=session)
            reports = []
            options = ("--upstream", held.server.uri, "--proxy", held.proxy.uri, "--rule",
                       "customer", "--fix", "--yes")  # fmt: skip
            fixer = threading.Thread(target=lambda: reports.append(scrub(rules(), *options)))
            fixer.start()
            wait_until(lambda: waiting(held) > 0, 20, "the fix waits")
            customers.insert_one({"_id": 7, "orders": 1}, session=session)
            session.commit_transaction()
            fixer.join(30)
    (report,) = reports
    fixed = {"rule": "customer", "fixed": 0, "changedMeanwhile": 1, "notCured": 0}
    assert report["fixes"] == [fixed] and report["found"] == 0
    assert c.orders.find_one(1) is not None


def test_a_look_through_the_proxy_waits_for_units(held, c, rules):
    """What a unit has not committed is no finding, and hides none."""
    c.customers.insert_one({"_id": 7, "orders": 1})
    c.orders.insert_one({"_id": 1, "customer": 7, "total": 1})
    with held.proxy.client() as client, client.start_session() as session:
        session.start_transaction()
        client[DATABASE][c.customers.name].delete_one({"_id": 7}, session=session)
        reports = []
        options = ("--proxy", held.proxy.uri, "--rule", "customer")
        looker = threading.Thread(target=lambda: reports.append(scrub(rules(), *options)))
        looker.start()
        looker.join(0.5)
        assert looker.is_alive()
        session.abort_transaction()
        looker.join(30)
    assert found(reports[0]) == {}


def waiting(stack):
    """How many units wait for a lock."""
    answer = holdfast("units", "--wal", stack.proxy.wal, "--locks", "--json").stdout
    return sum("waitsFor" in unit for unit in json.loads(answer)["list"])


REFUSED = {
    "database: d\nrules: [{name: a, unique: x.y, reference: {from: a.b, to: c}}]": "exactly one of",
    "database: d\nrules:\n  - name: a\n    unique: {in: x}": "4: key: is missing",
    "database: d\nrules:\n  - name: a\n    colour: {in: x}": "4: unknown key colour",
    "database: d\nrules:\n  - name: a\n    twin: [a.b, c.d]": "value: of a is missing",
    "database: d\nrules:\n  - name: a\n    partners: [a.b, a.d]": "a second time",
    "rules:\n  - name: a\n    unique: a.b": "2: database: is missing",
    "database: d\nrules:\n  - {name: a, unique: a.b}\n  - {name: a, unique: a.c}": "4: a second",
    "database: d\nrules: [{name: a, unique: a.b, fix: {delete: b}}]": "no source b",
    "database: d\nrules: [{name: a, unique: a.b, fix: {drop: a}}]": "expected one of delete",
    "database: d\nrules: [{name: a, stuck: {in: a, since: t, longer: 1y}}]": "15m",
    "database: d\nrules: [{name: a, reference: {from: a.b}}]": "to: is missing",
    "database: d\nrule: []": "2: unknown key rule",
    "rules: [": "rules.yaml:",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_rules_that_are_wrong_are_refused(rules, text):
    """By file, line and reason; no server is asked."""
    done = holdfast("scrub", "--rules", rules(text), "--upstream", "mongodb://127.0.0.1:1", check=2)
    assert REFUSED[text] in done.stderr and "rules.yaml:" in done.stderr, done.stderr


def test_what_is_missing_among_the_options(rules, tmp_path):
    for options, why in (
        ((), "--rules FILE"),
        (("--rules", tmp_path / "none"), "--proxy URI"),
        (("--rules", tmp_path / "none", "--upstream", "mongodb://h:1", "--fix"), "--proxy URI"),
        (("--rules", tmp_path / "none", "--upstream", "mongodb://h:1"), "none"),
        (("--rules", rules(), "--upstream", "mongodb://h:1", "--rule", "x"), "no such rule"),
        (("--undo", "1"), "--wal DIR"),
        (("--undo", "1", "--wal", tmp_path), "--proxy URI"),
    ):
        assert why in holdfast("scrub", *options, check=2).stderr


def test_without_a_terminal_nobody_is_asked(held, c, rules):
    c.orders.insert_one({"_id": 1, "customer": 7, "total": 1})
    done = holdfast("scrub", "--rules", rules(), "--proxy", held.proxy.uri, "--fix",
                    "--rule", "customer", "--settle", "0", check=2)  # fmt: skip
    assert "--yes" in done.stderr and c.orders.find_one(1) is not None


def test_a_fix_before_a_replica_set_is_the_servers_transaction(tmp_path):
    """It is done; the journal has no images of it, and says that it cannot undo it."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "database: test\nrules:\n"
        "  - {name: customer, reference: {from: orders.customer, to: customers}, fix: {delete: from}}\n"
    )
    with Server(mode="replicaset") as server, Proxy(server) as proxy, server.client() as direct:
        direct.test.orders.insert_many([{"_id": 1, "customer": 7}, {"_id": 2, "customer": 8}])
        direct.test.customers.insert_one({"_id": 8})
        done = holdfast("scrub", "--rules", rules, "--proxy", proxy.uri, "--fix", "--yes", "--json",
                        "--settle", "0", check=0)  # fmt: skip
        report = json.loads(done.stdout)
        assert [fix["fixed"] for fix in report["fixes"]] == [1]
        assert [order["_id"] for order in direct.test.orders.find()] == [2]
        undone = holdfast("scrub", "--undo", report["run"], "--wal", proxy.wal, "--proxy", proxy.uri)
        assert proxy.stop() == 0
        assert undone.returncode == 2
        assert "has no images" in undone.stderr or "knows no units" in undone.stderr
