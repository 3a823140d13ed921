"""What a lab trains on and how near points are to it: formulas, tables of text, drawings, and measures on a grid."""

import math
import time

import numpy as np
import pytest
from scipy import stats

from elegan.data.readers import toys
from elegan.data.sources import open_data
from elegan.errors import DataError
from elegan.metrics.modes import divergence
from elegan.studio.lab.data import plane, read
from elegan.studio.lab.formula import evaluate
from elegan.studio.lab.measures import LASTING, LONG, Grid, Measuring, relative
from elegan.studio.setup import Csv, Drawn, Equation, Preset

DRAWN = Drawn(kind="drawn", points=[[-0.5, 0.0], [0.5, 0.25], [0.0, -0.75]], spread=0.05, samples=20_000)


def rows(data) -> np.ndarray:
    return read(data).source.arrays["real"]


def text(content: str) -> np.ndarray:
    return rows(Csv(kind="csv", text=content))


# ---- formulas


VALUES = {name: np.random.default_rng(k).uniform(0.1, 0.9, 200) for k, name in enumerate("tsg")}
T, S, G = VALUES.values()


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("1", np.ones(200)),
        ("-t + +s", S - T),
        ("2*t**2/s - 1", 2 * T * T / S - 1),
        ("t % 0.25", T - 0.25 * np.floor(T / 0.25)),
        ("sin(pi*t) + cos(e*s) - tan(g)", np.sin(math.pi * T) + np.cos(math.e * S) - np.tan(G)),
        ("exp(t)*log(s) + sqrt(g)", np.exp(T) * np.log(S) + np.sqrt(G)),
        ("abs(t-s) + floor(10*g) + round(10*t) + sign(s-t)",
         np.abs(T - S) + np.floor(10 * G) + np.round(10 * T) + np.sign(S - T)),
        ("min(t, s, g) + max(t, s)", np.minimum(np.minimum(T, S), G) + np.maximum(T, S)),
        ("where(t < s, 1, where(g >= .5, 2, 3))", np.where(T < S, 1, np.where(G >= 0.5, 2, 3))),
        ("(t <= s) + (t > s)*2 + (t == s)*4 + (t != s)*8", (T <= S) + (T > S) * 2 + (T == S) * 4 + (T != S) * 8),
        ("2**0.5**2", np.full(200, 2**0.25)),
        ("-2**2", np.full(200, -4.0)),
        (" \tt ", T),
    ],
)  # fmt: skip
def test_a_formula_gives_what_it_says(formula, expected):
    assert np.allclose(evaluate("x", formula, VALUES), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os').system('id')", "t.__class__", "().__class__", "[t]", "{t}", "(t, s)", "{'t': 1}", "'t'",
        "b't'",
        "1j", "True", "None", "...", "lambda: t", "(lambda: t)()", "t if s else g", "t and s", "not t", "~t", "t @ s",
        "t // s", "t & s", "t << 2", "t[0]", "t = 1", "t := 1", "(t := 1)", "yield t", "await t", "f'{t}'", "sin",
        "sin()", "sin(t, s)", "sin(*t)", "sin(x=t)", "min(t)", "eval(t)", "open(t)", "x", "T", "os", "t < s < g",
        "t in s", "t is s", "[t for t in s]", "t; s", "t\ns", "import os", "#", "", " ", "t +", "(t", "t)", "t^2",
        "(" * 250 + "t" + ")" * 250, "-" * 150 + "t", "t" + "**t" * 60, "sin(" * 45 + "t" + ")" * 45, "\0", "t\0",
    ],
)  # fmt: skip
def test_what_is_no_formula_is_refused_by_name_and_place(formula):
    start = time.monotonic()
    with pytest.raises(DataError, match=r"the formula x = ") as caught:
        evaluate("x", formula, VALUES)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 0.5


def test_an_error_names_the_spot():
    with pytest.raises(DataError, match=r"'foo' at letter 9 is no name here; there are t, s, g, pi, e"):
        evaluate("y", "sin(t) +foo", VALUES)


@pytest.mark.parametrize("formula", ["9**9**9**9**9", "exp(exp(exp(9*t)))", "1/0", "log(-t)", "0/0", "sqrt(0-1)"])
def test_a_formula_without_finite_values_is_refused(formula):
    with pytest.raises(DataError, match="has a finite value for only"):
        read(Equation(kind="equation", x="t", y=formula))


def test_points_of_an_equation_lie_where_it_says_and_are_always_the_same():
    data = Equation(kind="equation", x="cos(2*pi*t)", y="sin(2*pi*t)", spread=0.0, samples=4_000)
    points = rows(data)
    assert np.allclose(np.hypot(*points.T), 1, atol=1e-6)
    angles = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) % 1
    assert stats.kstest(angles, "uniform").pvalue > 0.01
    assert np.array_equal(points, rows(data))
    blurred = rows(Equation(kind="equation", x="cos(2*pi*t)", y="sin(2*pi*t)", spread=0.1, samples=4_000))
    assert np.std(blurred - points) == pytest.approx(0.1, rel=0.05)
    normal = rows(Equation(kind="equation", x="g", y="s", spread=0.0, samples=4_000))
    assert stats.kstest(normal[:, 0], "norm").pvalue > 0.01
    few = rows(Equation(kind="equation", x="log(t - 0.005)", y="s", spread=0.0, samples=4_000))
    assert 0.99 * 4_000 <= len(few) < 4_000, "rows without a value are left out, if they are few"
    with pytest.raises(DataError, match="always the same point"):
        read(Equation(kind="equation", x="pi", y="e/2"))


# ---- text


TEN = [(k / 4, -(k**2)) for k in range(12)]


@pytest.mark.parametrize("mark", [",", ";", "\t", " ", ", ", "   "])
@pytest.mark.parametrize("first", ["", "x%sy\n", "\ufeff", "\n\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_text_is_read_however_it_is_cut(mark, first, end):
    head = first.replace("%s", mark)
    assert np.allclose(text(head + end.join(f"{x}{mark}{y}" for x, y in TEN) + end), TEN)


def test_the_first_two_columns_of_numbers_are_taken():
    lines = [f'"row {k}",{x},b,{y},7' for k, (x, y) in enumerate(TEN)]
    assert np.allclose(text("name,x,kind,y,more\n" + "\n".join(lines)), TEN)
    assert np.allclose(text("\n".join(f'"{x}","{y}"' for x, y in TEN)), TEN)
    missing = read(Csv(kind="csv", text="\n".join([f"{x},{y}" for x, y in TEN] + ["nan,1", ",2", "1e99,3"])))
    assert len(missing.source) == 12
    assert missing.source.about.endswith("3 without finite numbers left out")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\n".join(["1,2"] * 5 + ["3,x"] + ["1,3"] * 9), r"line 6 of the text: 'x' in column 2"),
        ("a,b\n\n" + "\n".join(["1,2"] * 11 + ["4"]), r"line 14 of the text has no column 2: '4'"),
        ("a,b\nc,d\n1,2", r"line 2 of the text has no two columns"),
        ("x,y\n1,2\n3,4", r"holds 2 rows of two finite numbers: give 10 or more"),
        ("1,2\n" * 30, r"all rows of the text are the same point"),
        ("hello", r"holds 0 rows"),
        ("1_0,2\n" * 30, r"line 2 of the text has no two columns"),
        ("1 2\n" * 100_001, r"more than 100,000 rows"),
        ("1,2\n" * 12 + "0x1,3\n", r"line 13 .* '0x1' in column 1"),
        ("\0" * 50, r"holds 0 rows"),
        ("1,2\n" * 12 + "a" * 900 + ",3\n", r"line 13 .*…"),
    ],
)
def test_text_that_does_not_parse_is_refused_with_its_line(content, said):
    with pytest.raises(DataError, match=said) as caught:
        text(content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


# ---- presets and drawings


def test_a_preset_is_what_the_command_line_opens_or_its_first_rows():
    whole, first = read(Preset(name="moons")), read(Preset(name="moons", samples=100))
    opened = open_data("moons")
    assert (whole.bundled, first.bundled) == (True, False)
    assert whole.source.fingerprint == opened.fingerprint
    assert whole.source.spec == opened.spec
    assert np.array_equal(first.source.arrays["real"], opened.arrays["real"][:100])
    assert first.source.about.startswith("100 points")


def test_points_of_the_labs_own_open_from_a_file_the_same(tmp_path):
    points = rows(DRAWN)
    np.save(tmp_path / "points.npy", points)
    opened = open_data(tmp_path / "points.npy")
    made = plane(points, "x", "")
    assert opened.spec == made.spec == read(DRAWN).source.spec
    assert opened.fingerprint == made.fingerprint


def test_a_drawing_is_a_mixture_of_equal_gaussians():
    points, centres = rows(DRAWN), np.array(DRAWN.points)
    away = np.linalg.norm(points[:, None] - centres, axis=2)
    assert np.bincount(away.argmin(1)) / len(points) == pytest.approx(np.full(3, 1 / 3), abs=0.02)
    assert stats.kstest(away.min(1) / 0.05, stats.rayleigh.cdf).pvalue > 0.01


# ---- measures


@pytest.mark.parametrize("name", ["ring", "grid"])
@pytest.mark.parametrize("spoilt", ["test", "half", "far"])
def test_measures_are_those_of_the_house_where_modes_are_known(name, spoilt):
    modes, sigma = toys.MODES[name]
    points = open_data(name, split="test").arrays["real"].astype(np.float64)
    points = {"test": points, "half": points[points[:, 0] > 0], "far": points * 3}[spoilt]
    expected, found = (
        divergence(points, modes, sigma),
        Measuring(read(Preset(name=name)), Grid.of_modes(np.array(modes), sigma))(points, 0),
    )
    assert found["kl"] == pytest.approx(expected.kl.value, rel=1e-6, abs=1e-9)
    assert found["js"] == pytest.approx(expected.js.value, rel=1e-6, abs=1e-9)
    assert found["total"] == len(modes)


@pytest.mark.parametrize("name", list(toys.ABOUT))
def test_the_data_itself_is_no_way_from_the_truth(name):
    """To within what 10,000 points spread over so many cells must differ by."""
    points = read(Preset(name=name))
    measuring = Measuring(points, Grid.of(points))
    assert measuring.grid.truth.sum() == pytest.approx(1)
    found = measuring(open_data(name, split="test").arrays["real"], 0)
    cells = int((measuring.grid.truth > 1e-5).sum())
    assert 0 <= found["js"] < 1.3 * cells / (8 * 10_000) + 3e-4
    half = measuring(open_data(name, split="test").arrays["real"][:5_000], 50)
    assert half["js"] < 2.5 * found["js"] + 1e-3, "a matter of how many, not of which"


def test_measures_of_a_drawing_are_of_its_density():
    points = read(DRAWN)
    grid = Grid.of(points)
    edges = [np.linspace(low, high, 31) for low, high in zip(grid.low, grid.high, strict=True)]
    masses = [
        np.outer(*(np.diff(stats.norm.cdf(edge, centre, 0.05)) for edge, centre in zip(edges, place, strict=True)))
        for place in DRAWN.points
    ]
    assert np.allclose(grid.truth[:-1], np.mean(masses, 0).ravel(), atol=1e-12)
    drawn = points.source.arrays["real"]
    assert Measuring(points, grid)(drawn, 0)["js"] < 0.005
    assert Measuring(points, grid)(drawn, 0)["modes"] is None, "places of a brush are no modes"


def test_every_point_counts_also_one_outside():
    grid = Grid(np.zeros(2), np.ones(2), np.append(np.full(900, 1 / 900), 0.0))
    assert grid.shares(np.array([[0.5, 0.5], [1.0, 1.0], [0.0, 0.0], [2.0, 0.5]])).sum() == 1
    assert grid.shares(np.array([[2.0, 0.5]]))[-1] == 1
    assert grid.shares(np.array([[0.02, 0.99]]))[29] == 1, "cells are counted along y first"
    kl, js = grid.divergences(np.full((10, 2), 7.0))
    assert js == pytest.approx(math.log(2))
    assert kl == pytest.approx(math.log(901 / 1e-6), rel=1e-3)
    assert relative(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])) == pytest.approx(math.log(2))


def test_numbers_that_are_none_are_left_out_of_measures():
    points = read(Preset())
    measuring = Measuring(points, Grid.of(points))
    drawn = open_data("ring").arrays["real"][:1_000].copy()
    expected = measuring(drawn[:900], 0)
    drawn[900:] = np.nan
    assert measuring(drawn, 50) == expected
    assert measuring(np.full((5, 2), np.inf), 100)["js"] is None


def of_modes(measuring: Measuring, count: int) -> str:
    centres = np.array(toys.MODES["ring"][0])[:count]
    measuring(np.repeat(centres, 10, 0) if count else np.full((9, 2), 9.0), measuring.next)
    return measuring.lost()


def test_lost_modes_are_said_in_words_once_they_stay_lost():
    points = read(Preset())
    measuring = Measuring(points, Grid.of(points))
    assert [of_modes(measuring, n) for n in (2, 5, 8, 8, 7)] == [""] * 5
    assert [of_modes(measuring, n) for n in (4,) * (LASTING - 2) + (3,)] == [""] * (LASTING - 1)
    said = of_modes(measuring, 3)
    assert said == "the generator has lost modes: it draws 3 of 8, and falling, and it drew 8 before"
    assert "falling" not in [of_modes(measuring, 3) for _ in range(LASTING)][-1]
    assert of_modes(measuring, 5) == "", "they are coming back"


def test_looking_often_at_a_round_is_no_history():
    """Slow motion, single rounds and pauses measure the same few rounds again and again."""
    points = read(Preset())
    measuring = Measuring(points, Grid.of(points))
    nowhere = np.full((9, 2), 9.0)
    for step in range(2 * LONG):
        measuring(nowhere, step)
    assert measuring.lost() == ""
    assert len(measuring.covered) == 1


@pytest.mark.parametrize("text", ["3e38,3e38\n-3e38,-3e38\n" * 10, "1e30,0\n0,1e30\n" * 10])
def test_points_too_far_apart_are_refused(text):
    with pytest.raises(DataError):
        read(Csv(kind="csv", text=text))


def test_modes_that_were_not_found_yet_are_not_lost():
    points = read(Preset())
    measuring = Measuring(points, Grid.of(points))
    assert [of_modes(measuring, n) for n in (1, *(0,) * (LASTING + 1))] == [""] * (LASTING + 2)


def test_modes_that_were_never_found_are_said_after_a_while():
    points = read(Preset())
    measuring = Measuring(points, Grid.of(points))
    said = [of_modes(measuring, 1 + k % 2) for k in range(LONG)]
    assert said[:-1] == [""] * (LONG - 1)
    assert said[-1] == "the generator draws 2 of 8 modes, and never more than 2"
