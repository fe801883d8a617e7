"""The tests of the driver specifications pass as often through Holdfast as directly, or there is a
reason on docs/DRIVER-TESTS.md."""

import page
import pytest
from holdfast_testing import server_kind
from reasons import REASONS, reason_for

pytestmark = pytest.mark.skipif(server_kind() != "secantusd-rs", reason="reasons are for secantusd-rs")


def told(rows):
    return "\n".join(f"{r['file']}: {r['test']}\n    {r['why'].splitlines()[-1]}" for r in rows)


@pytest.mark.parametrize("through", ["native", "journaled"])
def test_passes_as_directly(results, through):
    """What passes directly passes, or fails for a listed reason; what is played directly is played."""
    directly = {(r["file"], r["test"]): r["outcome"] for r in results["directly"]}
    bad = [
        row
        for row in results[through]
        if row["outcome"] != "passed"
        and directly[row["file"], row["test"]] == "passed"
        and reason_for(through, row) is None
    ]
    assert not bad, told(bad)
    assert sum(row["outcome"] == "passed" for row in results[through]) > 0


def test_every_failure_has_a_reason(results):
    """Also where the test is for mongos only, or fails directly, too."""
    for name, rows in results.items():
        bad = [r for r in rows if r["outcome"] == "failed" and reason_for(name, r) is None]
        assert not bad, f"{name}:\n{told(bad)}"


def test_no_reason_is_left_over(results, pytestconfig):
    """One that nothing needs any more goes."""
    if pytestconfig.getoption("only"):
        pytest.skip("not all files were played")
    needed = {reason_for(n, r) for n, rows in results.items() for r in rows if r["outcome"] == "failed"}
    unused = [reason.text for reason in REASONS if reason.always and reason not in needed]
    assert not unused


def test_the_page_tells_what_happens(results):
    """Of the files that were played."""
    lines = set(page.PAGE.read_text().splitlines())
    wrong = [line for line in page.file_lines(results) if line not in lines]
    wrong += [test for _, _, test in page.reason_lines(results) if f"  - {test}" not in lines]
    assert not wrong, "tests/specifications/run --long --update\n" + "\n".join(wrong)
