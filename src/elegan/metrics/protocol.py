"""A score: a value with everything one must know to compare it with another, and the tables that hold only such.

score.label, score.value, score.low, score.high     FD[digits-cnn] 10.25, from 9.91 to 10.62
tables(scores)                                      those that may stand together; `differences` says why others may not
"""

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, Literal, get_args

import numpy as np

Better = Literal["lower", "higher", "near"]  # "near" its floor: neither more nor less is better
PLAIN = "inception"  # the one embedder whose scores carry their plain names

COMPARED = ("reference", "fingerprint", "reference_count", "count", "embedder", "weights", "input", "form")
FOLLOWING = {"reference": ("fingerprint", "reference_count"), "embedder": ("weights", "input")}  # goes without saying


@dataclass(frozen=True)
class Protocol:
    """What was compared with what, and through which features.

    embedder, weights, input: name, SHA-256, and what it was fed, by which resize, up to which layer; empty where a
        metric reads samples as they are.
    reference, fingerprint, reference_count: the data and its split, the SHA-256 of its rows, how many of them.
    count: samples that were scored.
    form: the metric's own settings. interval: how it was made. seed: of subsets, splits and resamples.
    versions: of what computed it.
    """

    embedder: str
    weights: str
    input: str
    reference: str
    fingerprint: str
    reference_count: int
    count: int
    form: str = ""
    interval: str = ""
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)

    def comparable(self) -> list[Any]:
        """What must be the same of two scores in one table. A reference is known by its fingerprint, if it has one."""
        return ["" if name == "reference" and self.fingerprint else getattr(self, name) for name in COMPARED]

    def differences(self, other: "Protocol") -> list[str]:
        """What keeps this out of the other's table, as `"count: 10,000 there, 5,000 here"`; empty if nothing does."""
        if self.comparable() == other.comparable():
            return []
        apart = [name for name in COMPARED if getattr(self, name) != getattr(other, name)]
        if self.fingerprint == other.fingerprint != "":
            apart = [name for name in apart if name != "reference"]  # the same data by another path
        said = {follower for name in apart for follower in FOLLOWING.get(name, ())}
        return [
            f"{name.replace('_', ' ')}: {_short(name, getattr(other, name))} there, "
            f"{_short(name, getattr(self, name))} here"
            for name in apart if name not in said
        ]  # fmt: skip


@dataclass(frozen=True)
class Score:
    """One value under its protocol. None, with a note that says why, where it cannot be had.

    subject: what was scored. metric: its name without the embedder. low, high: the ends of its interval, if it has one.
    better: which way it improves. floor, baseline: what real samples, and those of a mixture of Gaussians, score in its
        place; beside: which.
    """

    subject: str
    metric: str
    value: float | None
    protocol: Protocol
    low: float | None = None
    high: float | None = None
    better: Better = "lower"
    floor: float | None = None
    baseline: float | None = None
    beside: str = ""
    note: str = ""
    step: int | None = None
    time: str = ""

    @property
    def label(self) -> str:
        """`FD[digits-cnn]`; `FID`, `KID`, `IS` … only in the features of the original Inception network."""
        if self.protocol.embedder == PLAIN:
            return "FID" if self.metric == "FD" else self.metric
        return f"{self.metric}[{self.protocol.embedder}]" if self.protocol.embedder else self.metric

    def to_json(self) -> dict[str, Any]:
        """As strict JSON knows it: what is not finite becomes null."""
        record = asdict(self)
        for name in ("value", "low", "high", "floor", "baseline"):
            number = record[name]
            record[name] = number if number is not None and math.isfinite(number) else None
        return {**record, "label": self.label}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Score":
        """Raises `ValueError` if the record is not that of a score."""
        try:
            protocol = Protocol(**_typed(record["protocol"], Protocol))
            score = cls(protocol=protocol, **_typed({k: v for k, v in record.items() if k != "protocol"}, cls))
            if score.better not in get_args(Better):
                raise ValueError(f"no score: better {score.better!r}")
            return score
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no score: {error}") from error


KINDS = {str: str, Better: str, int: int, int | None: int, float | None: (int, float)}


def _typed(record: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """What a record has of a class's fields. Raises `ValueError` for a value of another type, or not finite."""
    found = {}
    for one in fields(cls):
        if one.name not in record:
            continue
        value, kind = record[one.name], KINDS.get(one.type, dict)
        absent = value is None and str(one.type).endswith("None")
        if not absent and (not isinstance(value, kind) or isinstance(value, bool)):
            raise ValueError(f"no score: {one.name} {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"no score: {one.name} {value!r}")
        found[one.name] = value
    return found


def tables(scores: Iterable[Score]) -> list[dict[str, list[Score]]]:
    """Scores by label, in as few tables as their protocols allow: within a label all protocols of a table agree."""
    found: list[dict[str, list[Score]]] = []
    for score in scores:
        for table in found:
            if all(fits(score, rows) for rows in table.values()):
                table.setdefault(score.label, []).append(score)
                break
        else:
            found.append({score.label: [score]})
    return found


def fits(score: Score, rows: Sequence[Score]) -> bool:
    """Whether a score may join a table that holds such rows: the same samples, reference and features, and, of the
    same metric, the same form."""
    return not apart(score, rows[0])


def apart(one: Score, other: Score) -> list[str]:
    """What keeps two scores out of one table; of two metrics, form and embedder may differ."""
    same = one.metric == other.metric
    return [
        why for why in one.protocol.differences(other.protocol)
        if same or why.split(":")[0] not in ("form", "embedder", "weights", "input")
    ]  # fmt: skip


def _short(name: str, value: Any) -> str:
    if name in ("weights", "fingerprint"):
        return f"{value[:12]}…" if value else "none"
    return f"{value:,}" if isinstance(value, int) else str(value) or "none"


@cache
def versions() -> Mapping[str, str]:
    """Of what computed a score."""
    import torch

    from elegan import __version__

    return {
        "elegan": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def lines(scores: Iterable[Score]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(score.to_json(), ensure_ascii=False, allow_nan=False) + "\n" for score in scores)
