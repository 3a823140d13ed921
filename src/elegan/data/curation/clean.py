"""Samples better left out, each with its rule, score, threshold and reason: a list for a person to look through.

    found = clean("photos/", Form(), Thresholds())
    write(found, Path("quarantine.csv"))      # then: elegan train … --without quarantine.csv

Nothing is changed by it. A line that is deleted, or has `yes` in the column `keep`, is a sample that stays.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from elegan.data.curation import outliers, twins
from elegan.data.curation.inspect import blur_of, even, kind_of_fault, oddness_of
from elegan.data.curation.parts import Part, take_apart
from elegan.data.form import Form
from elegan.data.listing import Progress, silent
from elegan.disk import write_whole
from elegan.errors import DataError, OptionError, nearest, plain
from elegan.options import Option, check, read_record
from elegan.spec import Field, Spec

EMBEDDED = 512  # images at a time
RULES = ("corrupt", "duplicate", "near-duplicate", "constant", "blurred", "mislabelled", "outlying")


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From where on a rule speaks. Each field is an option of `data clean`."""

    alike: float = 0.998  # near-duplicate: least correlation of two pictures, one laid over the other
    contrast: float = 0.02  # constant: standard deviation of grey in [0, 1] below this
    blur: float = 4.0  # blurred: how far below the others the sharpness is, as a robust z
    margin: float = 0.7  # mislabelled: by how much more another class is likely, by the nearest neighbours
    unlike: float = 3.5  # outlying: how unlike the others, as a robust z

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Thresholds":
        """Errors: `OptionError` on a bad name or value."""
        return cls(**check(threshold_options(), options, "data clean"))


def threshold_options() -> tuple[Option, ...]:
    return read_record(Path(__file__), "Thresholds")


@dataclass(frozen=True)
class Suspect:
    """A sample better left out, as a line of the list. like: the sample that it doubles. class_name: what it is said to
    be. suggested: what its neighbours are."""

    name: str
    rule: str
    score: float
    threshold: float
    reason: str
    like: str = ""
    class_name: str = ""
    suggested: str = ""


@dataclass(frozen=True)
class Quarantine:
    """The suspects, by rule and score. count: of the samples that were looked at. skipped: rules that could not be
    applied, and why. picture(name): uint8 (C, H, W), small, of a sample; None of what cannot be shown."""

    name: str
    count: int
    suspects: Sequence[Suspect]
    skipped: Mapping[str, str]
    picture: Callable[[str], np.ndarray | None] = field(repr=False)

    def __str__(self) -> str:
        counts = Counter(suspect.rule for suspect in self.suspects)
        names = len({suspect.name for suspect in self.suspects})
        lines = [f"{names:,} of {self.count:,} samples of {self.name!r} are better looked at"]
        for rule in counts:
            first = next(suspect for suspect in self.suspects if suspect.rule == rule)
            lines.append(f"  {rule:15} {counts[rule]:6,}  such as {first.name!r}: {first.reason}")
        return "\n".join(map(plain, lines + [f"  {rule:15} skipped: {why}" for rule, why in self.skipped.items()]))


def clean(
    name: str,
    form: Form,
    thresholds: Thresholds,
    *,
    rules: Sequence[str] = RULES,
    embedder: str | None = None,
    progress: Progress = silent,
) -> Quarantine:
    """Look at the training samples once and apply rules, of `RULES`, in their order.

    embedder: whose features say which class a sample is of; by default the one that suits the data.
    Errors: `OptionError` on a rule that is none; `DataError` if there is nothing to look at, or if a rule that was
        asked for needs a library that is missing.
    """
    for rule in rules:
        if rule not in RULES:
            raise OptionError(f"--rules: there is no rule {rule!r}.{nearest(rule, RULES)}")
    taken = take_apart(name, form, progress, splits=("train",))
    parts = list(taken.parts)
    if not parts:
        raise DataError(taken.refused["train"])
    found: list[Suspect] = []
    skipped: dict[str, str] = {}
    for part in parts:
        work = _Work(name, part, thresholds, embedder, progress)
        for rule in (rule for rule in RULES if rule in rules):
            try:
                made = list(getattr(work, rule.replace("-", "_"))())
            except DataError as error:
                if rules != RULES:
                    raise
                skipped[rule] = str(error)
                continue
            found += sorted(made, key=lambda suspect: suspect.score, reverse=rule != "constant")
    found = list(dict.fromkeys(found))  # of a pair a bad file is found twice
    return Quarantine(name, max(len(p) + len(p.faults) for p in parts), found, skipped, _pictures(parts))


def _pictures(parts: Sequence[Part]) -> Callable[[str], np.ndarray | None]:
    known = {name: (part, k) for part in reversed(parts) if part.kind == "image" for k, name in enumerate(part.names)}

    def picture(name: str) -> np.ndarray | None:
        try:
            part, k = known[name]
            return part.picture(k)
        except Exception:  # a bad file, or one that has gone since
            return None

    return picture


@dataclass
class _Work:
    """The rules, applied to a part; each is a method that yields suspects."""

    data: str
    part: Part
    limits: Thresholds
    embedder: str | None
    progress: Progress

    def __post_init__(self) -> None:
        self.sound = np.ones(len(self.part), bool)  # what says what is usual: neither even nor there before
        if self.part.kind == "image" and len(self.part):
            self.sound &= ~self._flat()
        self.those = twins.Joined([self.part])
        self.same = twins.exact(self.those) if len(self.part) > 1 else []
        self.sound[[k for group in self.same for k in group[1:]]] = False

    def corrupt(self) -> Iterator[Suspect]:
        for name, reason in self.part.faults:
            yield Suspect(name, "corrupt", 1.0, 1.0, f"{kind_of_fault(reason)}: {reason}")

    def duplicate(self) -> Iterator[Suspect]:
        for group in self.same:
            first, *others = group
            for k in others:
                other = (
                    "" if self.part.labels[k] == self.part.labels[first] else f" of class {self.part.class_of(first)!r}"
                )
                yield self._suspect(k, "duplicate", 1.0, 1.0, f"holds the same values as another{other}", first)

    def near_duplicate(self) -> Iterator[Suspect]:
        if self.part.kind != "image" or len(self.part) < 2:
            return
        sizes = self.part.glances["width"].astype(np.int64) * self.part.glances["height"]
        found = []
        for pair in twins.near(self.those, leave=self.same, alike=self.limits.alike):
            keep, other = sorted((pair.one, pair.other), key=lambda k: (-sizes[k], k))
            found.append((-sizes[keep], keep, other, pair))
        gone: set[int] = set()
        for _, keep, other, pair in sorted(found, key=lambda one: one[:3]):  # the largest first: who is kept stays
            if keep in gone or other in gone:
                continue
            gone.add(other)
            reason = f"nearly the same picture as another, of {sizes[keep]:,} pixels: {pair.bits} bits of 64 differ"
            yield self._suspect(other, "near-duplicate", pair.alike, self.limits.alike, reason, keep)

    def constant(self) -> Iterator[Suspect]:
        for k in np.flatnonzero(self._flat()).tolist() if self.part.kind == "image" else ():
            score = float(self.part.glances["contrast"][k])
            bits = float(self.part.glances["entropy"][k])
            reason = f"nearly one colour: deviation {score:.3f}, {bits:.2f} bits of entropy"
            yield self._suspect(k, "constant", score, self.limits.contrast, reason)

    def blurred(self) -> Iterator[Suspect]:
        if self.part.kind == "image":
            blur = blur_of(self.part, self.sound)
            for k in np.flatnonzero(blur >= self.limits.blur).tolist():
                reason = "much less sharp than the others (variance of the Laplacian)"
                yield self._suspect(k, "blurred", float(blur[k]), self.limits.blur, reason)

    def mislabelled(self) -> Iterator[Suspect]:
        if not self.part.classes or self.part.kind not in ("image", "vector"):
            return
        features = self._features()
        margin, other = outliers.margins(features, self.part.labels, len(self.part.classes))
        for k in np.flatnonzero((margin >= self.limits.margin) & self.sound).tolist():
            suggested = self.part.classes[other[k]]
            reason = f"its nearest neighbours are of class {suggested!r}"
            yield self._suspect(k, "mislabelled", float(margin[k]), self.limits.margin, reason, suggested=suggested)

    def outlying(self) -> Iterator[Suspect]:
        odd = oddness_of(self.part, self.sound, self.progress)
        for k in np.flatnonzero(odd >= self.limits.unlike).tolist():
            yield self._suspect(k, "outlying", float(odd[k]), self.limits.unlike, "unlike the others")

    def _flat(self) -> np.ndarray:
        return even(self.part, self.limits.contrast)

    def _suspect(
        self,
        k: int,
        rule: str,
        score: float,
        threshold: float,
        reason: str,
        like: int | None = None,
        suggested: str = "",
    ) -> Suspect:
        names = self.part.names
        double = "" if like is None else names[like]
        return Suspect(names[k], rule, round(score, 4), threshold, reason, double, self.part.class_of(k), suggested)

    def _features(self) -> np.ndarray:
        """What the classes are told apart by, (N, D): an embedder's features of pictures; columns of one deviation."""
        rows = self.part.rows(self.progress)
        if self.part.kind == "vector":
            return (rows - rows.mean(0)) / np.maximum(rows.std(0), 1e-9)
        from elegan.embedders import natural, open_embedder

        shape = rows.shape[1:]
        kind = self.embedder or natural(self.data, Spec(real=Field("image", shape)))
        embedder = open_embedder(kind, shape=shape)
        made = []
        for start in range(0, len(rows), EMBEDDED):
            self.progress(f"features by {embedder.name}", start, len(rows))
            made.append(embedder.embed(rows[start : start + EMBEDDED]).features)
        return np.concatenate(made)


def write(found: Quarantine, path: Path) -> None:
    """The list as CSV, whole or not at all. Errors: `OSError`."""
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    names = [{"class_name": "class"}.get(f.name, f.name) for f in fields(Suspect)]
    lines.writerow([*names, "keep"])
    lines.writerows([*astuple(suspect), ""] for suspect in found.suspects)
    write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"))
