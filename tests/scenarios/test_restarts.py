"""Kills and restarts, each played without Holdfast and with it: restarts.py says which.

Without it the same kill at the same write tears the call, so that each scenario is known to bite.
"""

import functools

from checker import TORN
from play import play


def test_restart(scenario, stages, page):
    without = scenario.kill != ("proxy",)
    straight, held = stages.both(functools.partial(play, scenario), without)
    page.add(scenario.chapter, scenario.title, straight, held)
    assert held.sound(), f"with Holdfast: {held}, its caller was told {held.told}"
    if scenario.tears and without:
        assert straight.finding.state == TORN, f"without Holdfast: {straight}"
