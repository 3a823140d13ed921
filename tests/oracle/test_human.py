"""What people answered, against scipy's intervals and a bootstrap of people done the long way."""

import numpy as np
import pytest
from scipy.stats import binomtest

from elegan.metrics.human import error_rate, judged_by, summary

RNG = np.random.default_rng(13)


def answer(person: str, truth: str, said: str) -> dict:
    return {"person": person, "truth": truth, "answer": said, "seconds": 1.0}


def study(people: int, each: int, seed: int = 0) -> list[dict]:
    """People of different skill, who take more drawn pictures for real than the other way round."""
    draw, answers = np.random.default_rng(seed), []
    for p in range(people):
        skill = draw.uniform(-0.25, 0.25)
        for k in range(each):
            wrong = draw.random() < (0.45 if k % 2 else 0.25) + skill
            truth = ("real", "drawn")[k % 2]
            answers.append(answer(f"p{p}", truth, ("real", "drawn")[(k % 2) ^ wrong]))
    return answers


def test_errors_are_counted_by_hand():
    answers = [
        answer("a", "real", "real"), answer("a", "real", "drawn"), answer("a", "drawn", "drawn"),
        answer("b", "drawn", "real"), answer("b", "drawn", "real"), answer("b", "real", "real"),
        answer("b", "drawn", "drawn"),
    ]  # fmt: skip
    judged = judged_by(answers)
    assert judged.error.value == 3 / 7
    assert judged.on_drawn.value == 2 / 4
    assert judged.on_real.value == 1 / 3
    assert {name: (rate.wrong, rate.answers) for name, rate in judged.people.items()} == {"a": (1, 3), "b": (2, 4)}
    assert judged.people["a"].value == 1 / 3
    assert judged.p_value == pytest.approx(binomtest(4, 7, alternative="greater").pvalue, rel=1e-12)
    for rate in judged.people.values():
        known = binomtest(rate.wrong, rate.answers).proportion_ci(0.95, method="wilson")
        assert (rate.low, rate.high) == pytest.approx(tuple(known), abs=1e-12)


def test_of_pairs_there_is_one_error():
    judged = judged_by([answer("a", "left", "left"), answer("a", "right", "left"), answer("b", "left", "left")])
    assert judged.error.value == 1 / 3
    assert judged.on_drawn is None
    assert judged.on_real is None
    sure = judged_by([answer("a", "left", "left")] * 30 + [answer("a", "right", "left")] * 10)
    assert sure.p_value == pytest.approx(binomtest(30, 40, alternative="greater").pvalue, rel=1e-9)
    blind = judged_by([answer("a", "left", "right")] * 40)
    assert blind.p_value == 1, "to be wrong always is not to tell them apart"


@pytest.mark.parametrize("equal", [True, False])
def test_the_interval_is_that_of_a_bootstrap_of_people(equal):
    answers = study(40, 30)
    if not equal:  # some gave up early
        kept = {f"p{p}": int(RNG.integers(6, 31)) for p in range(40)}
        count: dict[str, int] = {}
        some = []
        for a in answers:
            count[a["person"]] = count.get(a["person"], 0) + 1
            some += [a] * (count[a["person"]] <= kept[a["person"]])
        answers = some
    judged = judged_by(answers)
    names = sorted({a["person"] for a in answers})
    wrong = np.array([sum(a["person"] == n and a["truth"] != a["answer"] for a in answers) for n in names])
    given = np.array([sum(a["person"] == n for a in answers) for n in names])
    rows = RNG.integers(40, size=(4_000, 40))
    values = wrong[rows].sum(1) / given[rows].sum(1)
    low, high = judged.error.interval()
    known_low, known_high = np.quantile(values, [0.025, 0.975])
    assert len(judged.error.influences[0]) == 40
    assert low == pytest.approx(known_low, abs=0.012)
    assert high == pytest.approx(known_high, abs=0.012)
    simple = np.sqrt(judged.error.value * (1 - judged.error.value) / len(answers))
    assert high - low > 1.2 * 2 * 1.96 * simple, "answers of one person hang together"


def test_influences_sum_to_nothing_and_are_of_people_not_answers():
    people, wrong = np.array(["b", "a", "b", "b"]), np.array([True, False, False, True])
    found = error_rate(people, wrong)
    assert found.value == 0.5
    (influence,) = found.influences  # of a, then of b
    np.testing.assert_allclose(influence, [(0 - 0.5) / 2, (2 - 1.5) / 2])


def test_one_person_has_wilsons_interval_and_no_other():
    answers = [answer("a", "real", "real")] * 8 + [answer("a", "drawn", "real")] * 2
    assert judged_by(answers).error.interval() is None
    told = summary(answers, "a")
    low, high = binomtest(2, 10).proportion_ci(0.95, method="wilson")
    assert told["yours"] == pytest.approx({"wrong": 2, "answers": 10, "low": low, "high": high})
    assert told["all"] == pytest.approx({"wrong": 2, "answers": 10, "low": low, "high": high, "people": 1})


def test_a_person_is_told_their_own_and_everyones():
    answers = study(12, 20)
    told = summary(answers, "p3")
    mine = [a for a in answers if a["person"] == "p3"]
    assert (told["yours"]["wrong"], told["yours"]["answers"]) == (sum(a["truth"] != a["answer"] for a in mine), 20)
    assert (told["all"]["answers"], told["all"]["people"]) == (240, 12)
    assert told["all"]["wrong"] / 240 == pytest.approx(judged_by(answers).error.value)
    assert (told["all"]["low"], told["all"]["high"]) == judged_by(answers).error.interval()


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="no answers"):
        judged_by([])
    with pytest.raises(ValueError, match="not 'fake'"):
        judged_by([answer("a", "real", "fake")])
    with pytest.raises(ValueError, match="not 'other'"):
        judged_by([answer("a", "other", "real")])
