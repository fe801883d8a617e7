"""docs/MIGRATIONS.md shows what comes out of its example."""

import re

import migrations_page


def masked(text):
    """A slow server gets smaller units."""
    return migrations_page.masked(re.sub(r"in \d+ units", "in N units", text))


def test_the_page_is_what_comes_out():
    """Every block is recorded, and every record is on the page, but for times."""
    recorded = migrations_page.record()
    page = migrations_page.PAGE.read_text()
    shown = {found[2]: found[3] for found in migrations_page.BLOCK.finditer(page)}
    assert set(shown) == set(recorded)
    for name, text in recorded.items():
        assert masked(shown[name]) == masked(text), f"{name}: tests/deploy/migrations_page.py --update\n{text}"
