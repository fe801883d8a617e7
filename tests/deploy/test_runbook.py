"""docs/RUNBOOK.md shows what an operator gets to see."""

import runbook


def test_the_page_is_what_comes_out():
    """Every block is recorded, and every record is on the page, but for times, ids and sizes."""
    recorded = runbook.record()
    shown = {found[2]: found[3] for found in runbook.BLOCK.finditer(runbook.PAGE.read_text())}
    assert set(shown) == set(recorded)
    for name, text in recorded.items():
        assert runbook.masked(shown[name]) == runbook.masked(
            text
        ), f"{name}: tests/deploy/runbook.py --update\n{text}"
