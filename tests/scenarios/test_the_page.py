"""docs/SCENARIOS.md tells what happens. Runs last, over what the others have put down."""

import pytest
from page import PAGE


def test_the_page_tells_what_happens(request, page):
    option = request.config.getoption
    if option("long") or option("keyword") or option("update") or request.session.testsfailed:
        pytest.skip("not all of the suite was played, or it is being written")
    assert PAGE.read_text() == page.text(), "tests/scenarios/run --update"
