"""Nearest neighbours, precision, recall, density and coverage against whole matrices, prdc, and by hand."""

import tracemalloc

import numpy as np
import prdc
import pytest
from scipy.spatial.distance import cdist

from elegan.metrics import neighbours
from elegan.metrics.neighbours import Pairs, nearest, squared_distances
from elegan.metrics.precision_recall import precision_recall

RNG = np.random.default_rng(5)


def by_hand(real: np.ndarray, drawn: np.ndarray, k: int, density_k: int) -> tuple[float, ...]:
    """The definitions over whole matrices; a row's own distance of 0 is the first of its sorted ones."""
    real_balls, drawn_balls = (np.sort(cdist(x, x), axis=1) for x in (real, drawn))
    apart = cdist(real, drawn)  # (N, M)
    precise = (apart <= real_balls[:, k, None]).any(0).mean()
    recalled = (apart <= drawn_balls[None, :, k]).any(1).mean()
    density = (apart <= real_balls[:, density_k, None]).sum(0).mean() / density_k
    covered = (apart.min(1) <= real_balls[:, density_k]).mean()
    return precise, recalled, density, covered


def values(real: np.ndarray, drawn: np.ndarray, **options) -> list[float]:
    return [estimate.value for estimate in precision_recall(real, drawn, **options)]


NASTY = {
    "float32": RNG.normal(size=(90, 40)).astype(np.float32),
    "far from the origin": (RNG.normal(size=(90, 40)) * 0.01 + 1_000).astype(np.float32),
    "tight clusters": np.repeat(RNG.normal(size=(9, 40)), 10, 0) + 1e-5 * RNG.normal(size=(90, 40)),
    "one far off": np.concatenate([RNG.normal(size=(89, 40)), np.full((1, 40), 1e6)]),
    "two farther off": np.concatenate([RNG.normal(size=(88, 40)), [[1e30] * 40], [[-1e30] * 40]]),
    "bytes": RNG.integers(0, 256, (90, 40), dtype=np.uint8),
    "nothing but ties": RNG.integers(0, 2, (90, 4)).astype(float),
    "tiny": RNG.normal(size=(90, 40)) * 1e-12,
    "many dimensions": RNG.normal(size=(40, 5_000)) + 3,
}


@pytest.fixture(params=[neighbours.BLOCK, 700])
def block(request, monkeypatch):
    """All pairs at once, and a few rows at a time."""
    monkeypatch.setattr(neighbours, "BLOCK", request.param)


@pytest.mark.parametrize("name", NASTY)
def test_bounds_hold_the_distance_and_ties_are_settled(name):
    """At the very distance, a hair below it, and everywhere in a matrix: what is within is what the differences say."""
    x = NASTY[name].astype(np.float64)
    y = x[::-1] + (RNG.integers(0, 2, x.shape) if name == "nothing but ties" else 0)
    pairs = Pairs(NASTY[name], y)
    true = np.stack([((row - y) ** 2).sum(1) for row in x])
    for part in pairs.blocks():
        scaled = true[part.rows] * pairs.scale**2
        assert (part.low <= scaled).all()
        assert (scaled <= part.high).all()
        exact = pairs.exact(*(z.ravel() for z in np.indices(true.shape))).reshape(true.shape)
        np.testing.assert_allclose(exact, true, rtol=1e-13)
        for column in range(0, len(y), 7):
            radius = exact[:, column, None]
            assert (part.within(radius) == (exact <= radius)).all()
            below = np.nextafter(radius, -1)
            assert (part.within(below) == (exact <= below)).all()
            assert (part.within(exact[None, column]) == (exact <= exact[None, column])).all()


def test_bounds_are_narrow_wherever_the_data_lies():
    """So that few pairs are left to be settled: an offset of a hundred thousand deviations costs nothing."""
    for part in Pairs(NASTY["far from the origin"], NASTY["far from the origin"][::-1]).blocks():
        assert (part.high - part.low).max() < 1e-4 * np.median(part.high)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("name", NASTY)
def test_nearest_are_those_of_the_whole_matrix(name):
    x = NASTY[name]
    wide = x.astype(np.float64)
    apart = np.stack([((row - wide) ** 2).sum(1) for row in wide])
    others = apart + np.diag(np.full(len(x), np.inf))
    for found, among in ((nearest(x, k=4), others), (nearest(x, x, k=4), apart)):
        order = np.argsort(among, axis=1, kind="stable")[:, :4]
        np.testing.assert_allclose(found.squared, np.take_along_axis(among, order, 1), rtol=1e-13, atol=0)
        np.testing.assert_array_equal(found.which, order)
        np.testing.assert_allclose(found.distance**2, found.squared)


def test_as_many_neighbours_as_there_are_others(monkeypatch):
    """Row by row too, where a block has fewer columns than are asked for."""
    x = np.array([[0.0], [1.0], [3.0], [7.0]])
    for block in (neighbours.BLOCK, 1):
        monkeypatch.setattr(neighbours, "BLOCK", block)
        assert nearest(x, k=3).which.tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]]
        assert nearest(x, k=3).squared.tolist() == [[1, 9, 49], [1, 4, 36], [4, 9, 16], [16, 36, 49]]


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize(("k", "density_k"), [(3, 5), (5, 3), (1, 2)])
@pytest.mark.parametrize("name", ["float32", "far from the origin", "nothing but ties", "bytes"])
def test_they_are_their_definitions(name, k, density_k):
    x = NASTY[name]
    real, drawn = x[:50], x[50:]
    expected = by_hand(real.astype(float), drawn.astype(float), k, density_k)
    assert values(real, drawn, k=k, density_k=density_k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("d", "shift"), [(2, 0.5), (16, 0.3), (64, 0.1)])
def test_they_are_those_of_prdc_where_nothing_ties(d, shift):
    real, drawn = RNG.normal(size=(300, d)), RNG.normal(size=(200, d)) * 0.9 + shift
    three, five = (prdc.compute_prdc(real, drawn, k) for k in (3, 5))
    expected = [three["precision"], three["recall"], five["density"], five["coverage"]]
    assert values(real, drawn) == pytest.approx(expected, abs=1e-12)
    assert len({round(value, 3) for value in expected}) == 4  # so that none can stand for another


def test_the_sides_by_hand():
    """Balls of the first neighbour reach 1 around 0 and 1, 7 around 8; of drawn ones .5 around .5 and 1, 4 around 5."""
    real, drawn = np.array([[0.0], [1.0], [8.0]]), np.array([[0.5], [1.0], [5.0]])
    found = precision_recall(real, drawn, k=1, density_k=1)
    assert found.precision.influences[0].tolist() == [1, 1, 1]
    assert found.recall.influences[0].tolist() == [1, 1, 1]
    assert found.density.influences[0].tolist() == [2, 3, 1]
    assert values(real, drawn[:2], k=1, density_k=1) == [1, 2 / 3, 5 / 2, 1]
    assert values(drawn[:2], real, k=1, density_k=1)[:2] == [2 / 3, 1]
    assert values(real, drawn + 20, k=1, density_k=1) == [0, 0, 0, 0]


def test_identical_points_are_all_precise_recalled_and_covered():
    """A strict comparison would say that none is: their balls have no radius."""
    same = np.full((50, 8), 0.1, np.float32)
    assert values(same, same) == [1, 1, 10, 1]  # each of the 50 balls holds each point: 50 / 5
    assert prdc.compute_prdc(same, same, 5)["precision"] == 0
    assert values(same, same + 1) == [0, 0, 0, 0]


def test_a_collapsed_generator_is_precise_and_recalls_nothing():
    real = RNG.normal(size=(400, 4))
    precision, recall, _, coverage = values(real, np.repeat(real[:1], 100, 0) + 1e-9)
    assert (precision, recall) == (1, 0)
    assert coverage < 0.05


def test_sets_drawn_alike_score_as_they_must():
    """A density of 1 on average; a real ball is empty if its five nearest of both sets are real: 2⁻⁵, about."""
    rng = np.random.default_rng(0)
    found = np.mean([values(rng.normal(size=(400, 8)), rng.normal(size=(400, 8))) for _ in range(20)], axis=0)
    assert found[0] == pytest.approx(found[1], abs=0.01)
    assert found[2] == pytest.approx(1, abs=0.02)
    assert found[3] == pytest.approx(1 - 2**-5, abs=0.004)


def test_intervals_are_those_of_a_share():
    found = precision_recall(RNG.normal(size=(300, 16)), RNG.normal(size=(200, 16)))
    for estimate, count in zip(found, (200, 300, 200, 300), strict=True):
        (influence,) = estimate.influences
        assert len(influence) == count
        assert influence.mean() == pytest.approx(estimate.value)
        low, high = estimate.interval()
        assert high - low == pytest.approx(2 * 1.96 * influence.std() / count**0.5, rel=0.12)


def test_memory_is_that_of_a_block(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 100_000)
    x = RNG.normal(size=(4_000, 8)).astype(np.float32)  # 16 million pairs: 64 MB in float32
    tracemalloc.start()
    precision_recall(x, x[::-1] + np.float32(0.01))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.usefixtures("block")
def test_sums_over_distances_have_all_of_them():
    x, y = RNG.normal(size=(60, 7)) + 100, RNG.normal(size=(50, 7)) + 100
    for one, other in ((x, y), (x, None)):
        found = np.concatenate([squared for _, squared in squared_distances(one, other)])
        expected = cdist(one, one if other is None else other, "sqeuclidean")
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    wide = RNG.normal(size=(30, 300))
    for row in wide:
        assert not any(squared.any() for _, squared in squared_distances(np.repeat(row[None], 60, 0)))
    assert all((squared >= 0).all() for _, squared in squared_distances(np.repeat(wide, 2, 0)))


def test_what_cannot_be_compared_is_refused():
    x = RNG.normal(size=(6, 3))
    with pytest.raises(ValueError, match="3 and of 2 dimensions"):
        precision_recall(x, x[:, :2])
    with pytest.raises(ValueError, match="no 5 nearest neighbours among 4"):
        precision_recall(x[:5], x)
    with pytest.raises(ValueError, match="no 3 nearest neighbours among 2"):
        precision_recall(x, x[:3])
    with pytest.raises(ValueError, match="no 0 nearest"):
        nearest(x, k=0)
    with pytest.raises(ValueError, match="no 7 nearest neighbours among 6"):
        nearest(x, x, k=7)
    with pytest.raises(ValueError, match="not all finite"):
        nearest(np.where(x > 0, x, np.inf))
    with pytest.raises(ValueError, match=r"\(N, d\)"):
        nearest(x[0])
