"""What people make of drawn pictures: how often they take them for real ones, and real ones for drawn.

Zhou, Gordon, Krishna, Narcomey, Fei-Fei and Bernstein, 2019, HYPE, arXiv:1904.01121, section 3.2: HYPE∞ is the share of
wrong answers without a limit of time, over drawn and real pictures in equal numbers; 50 % is what guessing gives. Where
a real and a drawn picture stand side by side and the real one is asked for (two-alternative forced choice), it is the
share of pairs in which the drawn one was chosen.

    judged = judged_by(answers)
    judged.error.value, judged.error.interval()
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from elegan.metrics import binomial
from elegan.metrics.estimate import Estimate

KINDS = {"real", "drawn", "left", "right"}


class Rate(NamedTuple):
    """So many wrong of so many answers, and the interval of their share: Wilson's, 95 %."""

    wrong: int
    answers: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.wrong / self.answers


@dataclass(frozen=True)
class Judged:
    """error: the share of wrong answers; on_drawn, on_real: of those to such pictures, None where none was shown alone.

    people: each one's own rate. p_value: of so few errors if every answer were a guess, one-sided and exact.
    The estimates' influences are those of people, who are drawn again as a whole: answers of one person hang together.
    So with one person there is no interval but that person's own.
    """

    error: Estimate
    on_drawn: Estimate | None
    on_real: Estimate | None
    people: dict[str, Rate]
    p_value: float


def judged_by(answers: Sequence[Mapping[str, Any]]) -> Judged:
    """Score answers, each with its `person`, the `truth` and the `answer`: "real" or "drawn", or "left" or "right".

    Raises ValueError if there are none, or one is nothing of these.
    """
    if not answers:
        raise ValueError("there are no answers to score")
    odd = next((a[k] for a in answers for k in ("truth", "answer") if a[k] not in KINDS), None)
    if odd is not None:
        raise ValueError(f"an answer is one of {', '.join(sorted(KINDS))}, not {odd!r}")
    people = np.array([a["person"] for a in answers])
    truth = np.array([a["truth"] for a in answers])
    wrong = truth != np.array([a["answer"] for a in answers])
    alone = {kind: error_rate(people[truth == kind], wrong[truth == kind]) if (truth == kind).any() else None
             for kind in ("drawn", "real")}  # fmt: skip
    return Judged(
        error_rate(people, wrong),
        alone["drawn"],
        alone["real"],
        {str(name): rate(wrong[people == name]) for name in np.unique(people)},
        binomial.tail(int((~wrong).sum()), len(wrong)),
    )


def summary(answers: Sequence[Mapping[str, Any]], person: str) -> dict[str, dict[str, float]]:
    """What a person is told in the end: `yours` and `all`, as wrong, answers, low and high; of all, how many people.

    The interval of all is that of the people, or of the only one. Raises ValueError as `judged_by` does, KeyError for a
    person who gave no answer.
    """
    judged = judged_by(answers)
    everyone = list(judged.people.values())
    low, high = judged.error.interval() or (everyone[0].low, everyone[0].high)
    total = {"wrong": sum(own.wrong for own in everyone), "answers": len(answers), "low": low, "high": high}
    return {"yours": judged.people[person]._asdict(), "all": {**total, "people": len(everyone)}}


def rate(wrong: np.ndarray) -> Rate:
    """The rate of one person's answers, bool (N,)."""
    count = int(wrong.sum())
    return Rate(count, len(wrong), *binomial.wilson(count, len(wrong)))


# the influence function of a ratio of means over people: Σ wrong / Σ answers
def error_rate(people: np.ndarray, wrong: np.ndarray) -> Estimate:
    """The share of wrong answers, bool (N,), with the influence of each of the people, named (N,), who gave them."""
    names, who = np.unique(people, return_inverse=True)
    given = np.bincount(who, minlength=len(names))  # answers by person
    missed = np.bincount(who, weights=wrong, minlength=len(names))
    value = float(missed.sum() / given.sum())
    return Estimate(value, ((missed - value * given) / given.mean(),))
