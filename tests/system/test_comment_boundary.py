"""Units that services name in the standard comment of their writes."""

import contextlib
import time

import pymongo
import pytest
from conftest import DATABASE, Stack
from holdfast_testing import wait_until
from pymongo.errors import OperationFailure

NO_SUCH, COMMITTED, EXISTS, BAD = 251, 256, 117, 9


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "500ms", "upstream.fenceWait": "100ms"}) as made:
        yield made


@pytest.fixture
def admin(client):
    return client.admin


@contextlib.contextmanager
def refused(code):
    with pytest.raises(OperationFailure) as raised:
        yield
    assert raised.value.code == code, raised.value


def last_unit(stack):
    return stack.proxy.units()[-1]


def test_begin_writes_last(stack, collection, name):
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True})
    collection.insert_many([{"_id": 2}, {"_id": 3}], comment={"unit": name})
    collection.update_one({"_id": 1}, {"$set": {"v": 1}}, comment={"unit": name})
    assert last_unit(stack)["state"] == "open"
    collection.find_one_and_delete({"_id": 3}, comment={"unit": name, "last": True})
    unit = last_unit(stack)
    assert (unit["state"], unit["boundary"], unit["name"]) == ("committed", "comment", name)
    assert stack.stored(name) == {1: {"_id": 1, "v": 1}, 2: {"_id": 2}}


def test_the_text_form(stack, collection, name):
    collection.insert_one({"_id": 1}, comment=f"holdfast: unit={name} begin; timeoutMS=5000")
    collection.insert_one({"_id": 2}, comment=f"holdfast: unit={name} last")
    assert last_unit(stack)["state"] == "committed"
    assert set(stack.stored(name)) == {1, 2}


def test_commands(stack, collection, admin, name):
    assert admin.command("beginUnit", name)["ok"] == 1
    collection.insert_one({"_id": 1}, comment={"unit": name})
    assert admin.command("commitUnit", name)["ok"] == 1
    assert admin.command("commitUnit", name)["ok"] == 1  # its answer may have been lost
    assert set(stack.stored(name)) == {1}
    assert admin.command("beginUnit", name + "b")["ok"] == 1
    collection.insert_one({"_id": 2}, comment={"unit": name + "b"})
    assert admin.command("abortUnit", name + "b")["ok"] == 1
    assert set(stack.stored(name)) == {1}


def test_several_services_under_one_name(stack, name):
    with stack.proxy.client() as one, stack.proxy.client() as two:
        one[DATABASE][name].insert_one({"_id": 1}, comment={"unit": name, "begin": True})
        two[DATABASE][name].insert_one({"_id": 2}, comment={"unit": name})
        assert two[DATABASE][name].find_one({"_id": 1}, comment={"unit": name})
        one.close()  # whoever began it may leave
        time.sleep(0.6)
        two.admin.command("abortUnit", name)
    assert stack.stored(name) == {}


def test_an_ended_name_is_never_a_new_unit(stack, collection, admin, name):
    for number, end in enumerate(("commitUnit", "abortUnit", "timeout")):
        unit = f"{name}-{end}"
        comment = {"unit": unit, "begin": True, "timeoutMS": 200}
        collection.insert_one({"_id": number}, comment=comment)
        if end == "timeout":
            wait_until(lambda: last_unit(stack)["state"] == "aborted", 5, "it is rolled back")
        else:
            admin.command(end, unit)
        code = COMMITTED if end == "commitUnit" else NO_SUCH
        for _ in range(2):
            with refused(code):
                collection.insert_one({"_id": "late"}, comment={"unit": unit})
            with refused(code):
                collection.insert_one({"_id": "late"}, comment={"unit": unit, "begin": True})
            if _ == 0:
                stack.proxy.restart()
    assert set(stack.stored(name)) == {0}


def test_an_empty_unit_is_remembered_too(stack, admin, name):
    admin.command("beginUnit", name, timeoutMS=100)
    wait_until(lambda: last_unit(stack)["state"] == "aborted", 5, "it is rolled back")
    stack.proxy.restart()
    with stack.proxy.client() as again, refused(NO_SUCH):
        again.admin.command("beginUnit", name)


def test_a_name_that_nobody_began(collection, admin, name):
    with refused(NO_SUCH):
        collection.insert_one({"_id": 1}, comment={"unit": name})
    with refused(NO_SUCH):
        admin.command("commitUnit", name)


def test_an_error_rolls_the_unit_back(stack, collection, name):
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True})
    with pytest.raises(pymongo.errors.DuplicateKeyError):
        collection.insert_one({"_id": 1}, comment={"unit": name, "last": True})
    with refused(NO_SUCH):
        collection.insert_one({"_id": 2}, comment={"unit": name})
    assert stack.stored(name) == {}


def test_kill_of_the_proxy(stack, collection, name):
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True})
    stack.proxy.restart()
    assert stack.stored(name) == {}
    with refused(NO_SUCH):
        collection.insert_one({"_id": 2}, comment={"unit": name})


@pytest.mark.parametrize(
    "comment",
    [
        {"unit": ""},
        {"unit": 7},
        {"unit": "x" * 129},
        {"unit": "x", "begin": 1},
        {"unit": "x", "begin": True, "timeoutMS": 0},
        {"unit": "x", "begin": True, "timeoutMS": "1s"},
        "holdfast:",
        "holdfast: begin",
        "holdfast: unit=x beginn",
        "holdfast: unit=x timeoutMS=9x",
    ],
)
def test_a_comment_that_is_not_of_the_grammar(stack, collection, name, comment):
    with refused(BAD):
        collection.insert_one({"_id": 1}, comment=comment)
    assert stack.stored(name) == {}


@pytest.mark.parametrize("comment", ["about units", {"trace": "x"}, 7, {"last": True}, ["unit"]])
def test_other_comments_are_nobodys_business(stack, collection, name, comment):
    collection.insert_one({"_id": 1}, comment=comment)
    assert set(stack.stored(name)) == {1}


def test_only_writes_of_documents(collection, client, name):
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True})
    with refused(263):
        collection.drop(comment={"unit": name})
    client.admin.command("abortUnit", name)


def test_a_name_belongs_to_its_user(name):
    users = [(user, user, [("readWrite", DATABASE)]) for user in ("bob", "eve")]
    with Stack(auth=True, users=users) as own:
        with own.proxy.client(user=("bob", "bob")) as bob, own.proxy.client(
            user=("eve", "eve")
        ) as eve:
            bob[DATABASE][name].insert_one({"_id": 1}, comment={"unit": name, "begin": True})
            with refused(NO_SUCH):
                eve[DATABASE][name].insert_one({"_id": 2}, comment={"unit": name})
            with refused(NO_SUCH):
                eve.admin.command("abortUnit", name)
            bob.admin.command("commitUnit", name)
