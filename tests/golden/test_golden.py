"""Tiny games come to what they came to before; `regenerate.py` says what is measured, and how to store it anew.

Tolerances leave room for other processors, whose sums round otherwise, and none for another formula.
"""

import json
from math import prod

import pytest

from elegan import zoo
from tests.golden.regenerate import STORED, measure

WANTED = json.loads(STORED.read_text())
RELATIVE = 1e-3


def near(wanted: float, scale: float):
    return pytest.approx(wanted, rel=RELATIVE, abs=RELATIVE * scale)


@pytest.mark.parametrize("name", zoo.names())
def test_a_tiny_game_comes_to_what_it_came_to_before(name):
    if "tiny" not in zoo.describe(name).presets:
        pytest.skip("the game has no preset `tiny`")
    if name not in WANTED:
        pytest.skip("nothing is stored for it yet: python -m tests.golden.regenerate")
    wanted, found = WANTED[name], measure(name)
    assert found["data"] == wanted["data"]
    assert len(found["terms"]) == len(wanted["terms"])
    for was, now in zip(wanted["terms"], found["terms"], strict=True):
        assert now == {term: near(value, 1e-2) for term, value in was.items()}
    for was, now in zip(wanted["made"], found["made"], strict=True):
        assert now["shape"] == was["shape"]
        size = (was["numbers"]["squares"] / prod(was["shape"])) ** 0.5
        assert now["numbers"] == {name: near(value, size) for name, value in was["numbers"].items()}


def test_what_is_stored_is_small_and_still_there():
    assert STORED.stat().st_size < 100_000
    assert set(WANTED) <= set(zoo.names()), "a game has gone: regenerate"
