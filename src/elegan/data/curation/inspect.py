"""What data holds and what is wrong with it: counts, sizes, light, faults, twins, outliers.

found = inspect("photos/", Form())
found.severity, found.findings    # 0: nothing to say; 1: worth a look; 3: `train` would refuse it
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from elegan.data.curation import outliers, twins
from elegan.data.curation.parts import Part, Taken, take_apart
from elegan.data.form import Form
from elegan.data.listing import Progress, silent
from elegan.errors import DataError, plain

UNLIKE = 3.5  # robust z from which a sample is called an outlier (Iglewicz, Hoaglin 1993)
BLURRED = 4.0  # robust z of sharpness below the others
EVEN, POOR = 0.02, 0.1  # contrast, and bits of entropy, below which a picture is nearly constant
IMBALANCED = 10  # times as many samples in the largest class as in the smallest
NOTE, LOOK, REFUSED = 0, 1, 3
MARKS = {NOTE: "note", LOOK: "look at", REFUSED: "refused"}
FIRST = 3  # names that the terminal is told
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
KINDS = {  # words in the reasons of readers and decoders -> kind of fault; the first that is found
    "empty": "empty", "of a known format": "of no known format",
    "pixels are no": "empty", "more than": "too large", "decompression bomb": "too large", "truncated": "truncated",
    "cut short": "truncated", "No such file": "gone", "changed since": "changed", "finite": "not finite",
    "Permission": "not permitted", "pip install": "needs a library",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed. severity: 0 a note, 1 worth a look, 3 refused. names: of the samples it is about, or
    groups of them, with what there is to say of each."""

    kind: str
    severity: int
    text: str
    count: int = 0
    names: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Inspection:
    """What was found. facts: by part, what it holds. parts: for who wants to see; not in the report."""

    name: str
    about: dict[str, str]
    facts: dict[str, dict[str, Any]]
    findings: Sequence[Finding]
    form: Form
    parts: Sequence[Part] = field(repr=False, default=())

    def __str__(self) -> str:
        """For a terminal: what there is, and each finding with the first of its names."""
        lines = [f"{split:6} {line}" for split, line in self.about.items()]
        for part, facts in self.facts.items():
            lines += ["", f"{part}: {facts['count']:,} {facts['kind']} samples"]
            lines += [f"  {name:15} {_in_words(facts[name])}" for name in facts if name not in ("kind", "count")]
        lines.append("")
        for found in self.findings:
            lines.append(f"{MARKS[found.severity]:8} {found.text}")
            for line in found.names[:FIRST] if found.severity == LOOK else ():
                names = ", ".join(map(repr, line.get("group", [line.get("name")])[:FIRST]))
                lines.append(f"{'':10}{names}{': ' + line['reason'] if 'reason' in line else ''}")
        return "\n".join(map(plain, lines if self.findings else [*lines, "nothing to say against it"]))

    @property
    def severity(self) -> int:
        return max((found.severity for found in self.findings), default=NOTE)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "severity": self.severity, "about": self.about, "form": self.form.to_json(),
            "facts": self.facts, "findings": [asdict(found) for found in self.findings],
        }  # fmt: skip


def inspect(name: str, form: Form, progress: Progress = silent) -> Inspection:
    """Look at every sample of every split once, and compare them.

    Errors: `DataError` if there is nothing to look at.
    """
    taken = take_apart(name, form, progress)
    findings = [*_refused(taken), *_faults(taken)]
    for part in taken.parts:
        findings += _classes(part)
        if part.kind == "image":
            findings += _conversions(part)
    for title in dict.fromkeys(part.field for part in taken.parts):
        those = [part for part in taken.parts if part.field == title]
        progress("comparing", 0, 1)
        findings += _twins(those)
        for part in those:
            findings += _odd(part)
    facts = {f"{part.split}/{part.field}": facts_of(part) for part in taken.parts}
    return Inspection(name, taken.about, facts, sorted(findings, key=lambda f: -f.severity), form, taken.parts)


def facts_of(part: Part) -> dict[str, Any]:
    """What a part holds, in numbers."""
    found: dict[str, Any] = {"kind": part.kind, "count": len(part)}
    if part.classes:
        found["classes"] = counts_of(part)
    if part.kind != "image" or not len(part):
        return found
    those = part.glances
    sizes = Counter(zip(those["width"].tolist(), those["height"].tolist(), strict=True))
    found["sizes"] = {f"{width}x{height}": n for (width, height), n in sizes.most_common(20)}
    found["different sizes"] = len(sizes)
    for name in ("format", "mode"):
        if any(those[name]):
            found[f"{name}s"] = {key.decode(): n for key, n in Counter(those[name].tolist()).most_common()}
    found["depths"] = dict(Counter(getattr(look, "dtype", "") for look in _looks(part)).most_common())
    found["mean"], found["deviation"] = _light_of(part)
    for name in ("brightness", "contrast", "sharpness", "entropy"):
        values = those[name][np.isfinite(those[name])]
        if len(values):
            found[name] = [round(float(x), 4) for x in np.quantile(values, QUANTILES)]
    return found


def _light_of(part: Part) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each band of colour, at most three, over all pixels; grey among colour is RGB."""
    most = min(3, int(part.glances["bands"].max()))
    both = np.stack([part.glances["mean"], part.glances["square"]])[:, :, :most].astype(np.float64)
    grey = part.glances["bands"] == 1
    both[:, grey] = both[:, grey, :1]
    mean, square = both.mean(1)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return [round(float(x), 4) for x in mean], [round(float(x), 4) for x in deviation]


def counts_of(part: Part) -> dict[str, int]:
    """How many samples of each class there are."""
    counts = np.bincount(part.labels[part.labels >= 0], minlength=len(part.classes)).tolist()
    return dict(zip(part.classes, counts, strict=True))


def kind_of_fault(reason: str) -> str:
    """A fault's kind, by its reason."""
    return next((kind for word, kind in KINDS.items() if word in reason), "damaged")


def even(part: Part, contrast: float = EVEN) -> np.ndarray:
    """bool (N,): which pictures are nearly constant: by their contrast, or all but a few of their pixels."""
    return (part.glances["contrast"] < contrast) | (part.glances["entropy"] < POOR)


def blur_of(part: Part, among: np.ndarray) -> np.ndarray:
    """How far each picture (N,) is less sharp than the others, as a robust z; 0 of those not among."""
    found = np.zeros(len(part))
    chosen = among & np.isfinite(part.glances["sharpness"])
    if chosen.sum() >= 3 * outliers.NEIGHBOURS:
        found[chosen] = -outliers.robust_z(part.glances["sharpness"][chosen].astype(np.float64))
    return found


def oddness_of(part: Part, among: np.ndarray, progress: Progress = silent) -> np.ndarray:
    """How unlike the others each sample (N,) is, as a robust z; 0 of those not among.

    Errors: `DataError` of vectors, without scikit-learn.
    """
    found, chosen = np.zeros(len(part)), np.flatnonzero(among)
    if part.kind == "image":
        found[chosen] = outliers.unexplained(part.glances["thumb"], chosen)
    elif part.kind == "vector":
        found[chosen] = outliers.isolated(part.rows(progress)[chosen])
    return found


# ---- findings


def _refused(taken: Taken) -> Iterator[Finding]:
    for split, why in taken.refused.items():
        yield Finding("refused", REFUSED, f"{split}: train would refuse this: {why}")


def _faults(taken: Taken) -> Iterator[Finding]:
    by_kind: dict[str, dict[str, str]] = {}
    for part in taken.parts:
        for name, reason in part.faults:
            by_kind.setdefault(kind_of_fault(reason), {})[name] = reason
    for kind, those in by_kind.items():
        names = [{"name": name, "reason": reason} for name, reason in those.items()]
        yield Finding(f"fault: {kind}", LOOK, f"{_many(len(names), 'file')} cannot be read: {kind}", len(names), names)
    if taken.passed:
        names = [{"name": path, "reason": reason} for path, reason in taken.passed]
        text = f"{_many(len(names), 'entry', 'entries')} passed over, such as links that lead out and unsafe names"
        yield Finding("passed over", LOOK, text, len(names), names)


def _classes(part: Part) -> Iterator[Finding]:
    if not part.classes:
        return
    counts = counts_of(part)
    least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[most] >= IMBALANCED * max(counts[least], 1):
        text = f"{part.split}: class {most!r} has {counts[most]:,} samples, class {least!r} {counts[least]:,}"
        yield Finding("imbalance", LOOK, text, counts[least])


def _conversions(part: Part) -> Iterator[Finding]:
    """What is done to some of the pictures so that all have one form."""
    those, form = part.glances, part.form
    where = f"{part.split}/{part.field}"
    if form is None or not len(part):
        return
    looks = _looks(part)
    alpha = np.array([getattr(look, "alpha", False) for look in looks])
    colours = np.array([getattr(look, "colours", 0) for look in looks])
    deep = np.array([getattr(look, "dtype", "uint8") != "uint8" for look in looks])
    laid = {"composite": "laid on white", "keep": "kept as a channel", "drop": "dropped"}[form.alpha]
    rules: dict[str, tuple[np.ndarray, str]] = {
        "alpha": (alpha, f"with alpha, which is {laid}"),
        "cmyk": (those["mode"] == b"CMYK", "in CMYK, converted to RGB"),
        "palette": (those["mode"] == b"P", "with a palette, converted"),
        "turned": (those["turn"] > 1, "turned upright, as their EXIF says"),
        "deep": (deep, f"of more than 8 bits, {'kept so' if form.bits == 'keep' else 'brought to 8'}"),
        "grey": ((colours == 1) & (colours.max() == 3) & (form.colour == "keep"), "grey among colour, made RGB"),
    }
    for kind, (which, text) in rules.items():
        if which.any():
            names = [{"name": part.names[k]} for k in np.flatnonzero(which).tolist()]
            yield Finding(kind, NOTE, f"{where}: {_many(len(names), 'image')} {text}", len(names), names)
    if form.pixels is not None:
        height, width = form.pixels
        aspect = those["width"] / those["height"] / (width / height)
        lost = 1 - np.minimum(aspect, 1 / aspect)
        small = (those["width"] < width) | (those["height"] < height)
        if form.fit != "stretch" and (lost > 0.01).any():
            word = "cut off" if form.fit == "crop" else "filled with black"
            text = f"{where}: {_many(int((lost > 0.01).sum()), 'image')} of another aspect than {width}x{height}: "
            share = lost[lost > 0.01].mean()
            yield Finding("fit", NOTE, f"{text}{share:.0%} is {word} on average, {lost.max():.0%} at most")
        if small.any():
            text = f"{where}: {_many(int(small.sum()), 'image')} smaller than {width}x{height}, enlarged"
            yield Finding("enlarged", NOTE, text, int(small.sum()))


def _twins(parts: Sequence[Part]) -> Iterator[Finding]:
    """The same samples twice, nearly the same ones, and either in both splits or in two classes."""
    those = twins.Joined(parts)
    if len(those) < 2:
        return
    same = twins.exact(those)
    if same:
        count = sum(len(group) - 1 for group in same)
        text = f"{_many(count, 'exact duplicate')} in {_many(len(same), 'group')}"
        yield Finding("duplicates", LOOK, text, count, [_group(those, group) for group in same])
    pairs = twins.near(those, leave=same) if parts[0].kind == "image" else []
    if pairs:
        bits = twins.bits_for(len(those))
        text = (
            f"{_many(len(pairs), 'pair')} of near duplicates (hashes differ in at most {bits} of 64 bits, "
            f"correlation ≥ {twins.ALIKE})"
        )
        names = [{**_group(those, (p.one, p.other)), "bits": p.bits, "alike": round(p.alike, 4)} for p in pairs]
        yield Finding("near duplicates", LOOK, text, len(pairs), names)
    groups = [*same, *([p.one, p.other] for p in pairs)]
    leaks = [group for group in groups if len({those.at(place)[0].split for place in group}) > 1]
    if leaks:
        text = (
            f"{_many(len(leaks), 'group')} of exact or near duplicates in both train and test: scores may be too good"
        )
        yield Finding("leakage", LOOK, text, len(leaks), [_group(those, group) for group in leaks])
    torn = [group for group in same if len({_class_at(those, place) for place in group}) > 1]
    if torn:
        text = f"{_many(len(torn), 'group')} of exact duplicates in more than one class"
        yield Finding("two classes", LOOK, text, len(torn), [_group(those, group) for group in torn])


def _odd(part: Part) -> Iterator[Finding]:
    """Nearly constant, blurred, and unlike the others."""
    where, every = f"{part.split}/{part.field}", np.ones(len(part), bool)
    if part.kind == "image" and len(part):
        flat = even(part)
        contrast = part.glances["contrast"]
        yield from _listed(part, "nearly constant", flat, contrast, f"{where}: {{}} nearly constant", order=1)
        blur = blur_of(part, ~flat)
        text = f"{where}: {{}} much less sharp than the others (robust z ≥ {BLURRED:g})"
        yield from _listed(part, "blurred", blur >= BLURRED, blur, text)
        every = ~flat
    try:
        odd = oddness_of(part, every)
    except DataError as error:  # without scikit-learn
        yield Finding("outliers", NOTE, f"{where}: no outliers were looked for: {error}")
        return
    text = f"{where}: {{}} unlike the others (robust z ≥ {UNLIKE:g})"
    yield from _listed(part, "outliers", odd >= UNLIKE, odd, text)


def _listed(
    part: Part, kind: str, which: np.ndarray, score: np.ndarray, text: str, order: int = -1
) -> Iterator[Finding]:
    places = np.flatnonzero(which)
    if len(places):
        places = places[np.argsort(order * score[places], kind="stable")]
        names = [
            {"name": part.names[k], "split": part.split, "score": round(float(score[k]), 4)} for k in places.tolist()
        ]
        noun = "image" if part.kind == "image" else "sample"
        yield Finding(kind, LOOK, text.format(_many(len(names), noun)), len(names), names)


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        more = f" and {len(value) - 10:,} more" if len(value) > 10 else ""
        return ", ".join(f"{key} ({count:,})" for key, count in list(value.items())[:10]) + more
    return " ".join(f"{x:g}" for x in value) if isinstance(value, list) else str(value)


def _group(those: twins.Joined, group: Sequence[int]) -> dict[str, Any]:
    found = [those.at(place) for place in group]
    return {"group": [part.names[k] for part, k in found], "splits": [part.split for part, _ in found]}


def _class_at(those: twins.Joined, place: int) -> str:
    part, k = those.at(place)
    return part.class_of(k)


def _looks(part: Part) -> list[Any]:
    """The header of each sample."""
    return [part.looks[number] for number in part.glances["look"].tolist()] if part.looks else []


def _many(count: int, noun: str, nouns: str = "") -> str:
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
