"""Scoring one set against another, and the protocol its scores carry.

A floor and a baseline stand beside every value: what real training samples score, and what those of a mixture of
Gaussians do, as many, against the same reference, through the same features.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from elegan.disk import write_whole
from elegan.embedders import Embedder
from elegan.errors import DataError, ElegantError
from elegan.metrics import baseline as baseline_room
from elegan.metrics.catalogue import METRICS, RAW, Compared, Measured
from elegan.metrics.duality_gap import DualityGap
from elegan.metrics.estimate import RESAMPLES, Estimate
from elegan.metrics.features import Features, Progress, Set, cache_folder, features_of, of_arrays, silent
from elegan.metrics.protocol import Protocol, Score, versions
from elegan.training.distributed import world


def score(names: Sequence[str], compared: Compared, subject: str, *, intervals: bool = True) -> list[Score]:
    """The scores of such metrics. One that cannot be had is null, with a note that says why."""
    c, found = compared, []
    fed = f"{c.real.input}; {c.real.levels}" if c.real.levels else c.real.input
    base = Protocol(
        c.real.embedder, c.real.weights, fed, c.real.name, c.real.fingerprint, c.real.count, c.drawn.count,
        seed=c.seed, versions=versions(),
    )  # fmt: skip
    for k, name in enumerate(names):
        c.progress(METRICS[name].about, k, len(names))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # a division by nothing is no score
                measured = METRICS[name].compute(c)
        except (ElegantError, ValueError, ArithmeticError, RuntimeWarning, np.linalg.LinAlgError) as error:
            missing = Measured(float("nan"), "near", "", " ".join(str(error).split()))
            found.append(scored(subject, name, missing, replace(base, embedder="", weights="", input="")))
            continue
        found += [scored(subject, metric, one, base, intervals) for metric, one in measured.items()]
    c.progress("scores", len(names), len(names))
    return found


def scored(subject: str, metric: str, one: Measured, base: Protocol, intervals: bool = True) -> Score:
    """One number of a metric as a score under a protocol, with its interval if it has one."""
    value, interval, how = one.value, None, "none"
    if isinstance(value, Estimate):
        interval = value.interval(seed=base.seed) if intervals else None
        if interval and interval[0] == interval[1]:  # all samples weigh alike: no sign that others would
            interval = None
        sides = "samples resampled, reference held" if len(value.influences) == 1 else "both sides resampled"
        how = f"95 %, bootstrap of {RESAMPLES:,}, {f'{one.of} resampled' if one.of else sides}" if interval else "none"
        value = value.value
    low, high = interval or (None, None)
    if metric in RAW:
        base = replace(base, embedder="", weights="", input="")
    whole = float(value) if np.isfinite(value) else None
    protocol = replace(base, form=one.form, interval=how)
    return Score(subject, metric, whole, protocol, low, high, one.better, note=one.note)


def measure(
    names: Sequence[str],
    subject: str,
    drawn: Set | Features,
    real: Set | Features,
    embedder: Embedder,
    *,
    train: Set | None = None,
    about: dict[str, Any] | None = None,
    seed: int = 0,
    progress: Progress = silent,
    beside: bool = True,
    gap: Callable[[], DualityGap] | None = None,
) -> list[Score]:
    """Score a set, or statistics, against another, with floor and baseline unless `beside` is false.

    train: training samples for the floor, the baseline and memorisation; without them, the reference against itself
        in halves.
    about: what is known of the data, `spec["real"].about`. gap: measures the duality gap of the game, if there is one.
    Raises `DataError` if the two cannot be compared.
    """
    ours, theirs = embedded(drawn, embedder, progress), embedded(real, embedder, progress, keep=True)
    comparable(ours, theirs)
    sets = (drawn if isinstance(drawn, Set) else None, real if isinstance(real, Set) else None)
    compared = Compared(ours, theirs, *sets, train, embedder, about or {}, seed, progress, gap)
    scores = score(names, compared, subject)
    source = train or sets[1]
    if not beside or source is None:
        return scores
    other = replace(compared, gap=None)
    names = [name for name in names if not METRICS[name].paired]
    key: list[Any] = []
    if source.fingerprint and theirs.fingerprint:  # what is not known is not remembered
        key = [list(names), source.fingerprint, source.count, ours.count, seed, theirs.fingerprint, theirs.count]
        key += [embedder.name, embedder.sha256, embedder.about]
    floor = _kept("floor", key, lambda: floors(names, other))
    baseline = _kept("baseline", key, lambda: beside_it(names, _baseline(other, source)))
    floor_of = f"as many samples of {source.name}" if train else f"one half of {source.name} against the other"
    if not floor:
        floor_of = f"none, {source.name} has too few samples"
    if train and any(METRICS[name].new for name in names):
        floor_of += f", of memorisation one half of {theirs.name} against the other"
    of = f"floor: {floor_of}; baseline: PCA and a mixture of Gaussians fitted to {source.name}"
    return [replace(s, floor=floor.get(s.metric), baseline=baseline.get(s.metric), beside=of) for s in scores]


def embedded(one: Set | Features, embedder: Embedder, progress: Progress, *, keep: bool = False) -> Features:
    """What an embedder makes of a set. Statistics that do not say what made them are taken for the embedder's."""
    if isinstance(one, Set):
        return features_of(one, embedder, progress, keep=keep)
    if one.embedder:
        return one
    return replace(one, embedder=embedder.name, weights=embedder.sha256, input=embedder.about)


def comparable(ours: Features, theirs: Features) -> None:
    """Raise `DataError` unless two sets were embedded alike."""
    for what in ("embedder", "weights", "input"):
        mine, others = getattr(ours, what), getattr(theirs, what)
        if mine != others:
            raise DataError(
                f"{ours.name} and {theirs.name} were embedded differently ({what}: {mine[:60] or 'none'}, "
                f"{others[:60] or 'none'}): scores of one say nothing of the other."
            )
    if (a := ours.width) != (b := theirs.width):
        raise DataError(f"{ours.name} has {a:,} features a sample, {theirs.name} {b:,}: they cannot be compared.")


def beside_it(names: Sequence[str], other: Compared | None) -> list[Score]:
    """The scores of what stands in the place of the samples; none if nothing does."""
    return score(names, other, "", intervals=False) if other else []


def floors(names: Sequence[str], c: Compared) -> list[Score]:
    """What real samples score: training data, or of metrics that ask whether samples are new, half of the reference."""
    held_out = [name for name in names if METRICS[name].new]
    found = beside_it([name for name in names if name not in held_out], (_floor if c.train_set else _halves)(c))
    return found + (beside_it(held_out, _halves(c)) if held_out else [])


def _floor(c: Compared) -> Compared | None:
    """As many real samples as are scored, of the training data, in their place; none if there are not so many."""
    source = c.train_set
    assert source is not None
    count = c.drawn.count or c.real.count
    if count > source.count:
        return None
    rows = np.sort(np.random.default_rng(c.seed).permutation(source.count)[:count])
    labels = None if source.labels is None else source.labels[rows]
    return _instead(c, of_arrays("floor", source.all()[rows], labels))


def _halves(c: Compared) -> Compared | None:
    """Where there is no training data: one half of the reference, scored against the other."""
    half, real, own = c.real.count // 2, c.real, c.real_set
    if half < 2 or real.values is None or own is None:
        return None
    order = np.random.default_rng(c.seed).permutation(real.count)
    parts = [np.sort(order[:half]), np.sort(order[half : 2 * half])]
    rows, features = own.all(), []
    for part in parts:
        known = None if real.probabilities is None else real.probabilities[part]
        features.append(replace(real, count=half, values=real.values[part], probabilities=known))
    sets = [of_arrays("half", rows[part], None if own.labels is None else own.labels[part]) for part in parts]
    return replace(c, drawn=features[0], real=features[1], drawn_set=sets[0], real_set=sets[1])


def _baseline(c: Compared, source: Set) -> Compared | None:
    """As many samples of a mixture of Gaussians, in their place; none of data that no mixture fits."""
    c.progress("a mixture of Gaussians", 0, 1)
    try:
        drawn = baseline_room.fit(source.all(), seed=c.seed).sample(c.drawn.count or c.real.count, seed=c.seed)
    except (ValueError, np.linalg.LinAlgError):
        return None
    return _instead(c, of_arrays("PCA + GMM", drawn))


def _instead(c: Compared, samples: Set) -> Compared:
    return replace(c, drawn=features_of(samples, c.embedder, c.progress), drawn_set=samples)


def _kept(what: str, key: list[Any], compute: Callable[[], list[Score]]) -> dict[str, float | None]:
    """What a floor or a baseline scored, by metric, remembered in the user's cache unless the key is empty."""
    digest = hashlib.sha256(json.dumps([what, *key, dict(versions())]).encode()).hexdigest()
    place = cache_folder() / f"{digest[:32]}.json"
    found: dict[str, float | None] | None = None
    if key:
        with suppress(OSError, ValueError, TypeError):
            kept = json.loads(place.read_text(encoding="utf-8"))
            if isinstance(kept, dict) and all(v is None or np.isfinite(v) for v in kept.values()):
                found = kept
    found = world().gather(found)[0]  # the first rank decides, lest some wait for the others
    if found is None:
        found = {one.metric: one.value for one in compute()}
        if key and world().rank == 0:
            with suppress(OSError):
                write_whole(place, json.dumps(found).encode())
    return found
