"""The metrics one may ask for by name: what each needs, and the numbers it gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from elegan.embedders import Embedder
from elegan.errors import OptionError, nearest
from elegan.metrics.cas import cas
from elegan.metrics.diversity import diversity, vendi
from elegan.metrics.duality_gap import DualityGap
from elegan.metrics.estimate import Estimate
from elegan.metrics.features import Features, Progress, Set, features_of
from elegan.metrics.frechet import frechet, frechet_distance
from elegan.metrics.frechet_infinity import frechet_infinity
from elegan.metrics.inception_score import inception_score, whole_inception_score
from elegan.metrics.kid import kid, kid_subsets
from elegan.metrics.memorisation import authenticity, copying, memorisation_distance, penalised
from elegan.metrics.mmd import mmd
from elegan.metrics.modes import coverage, divergence, stacked_modes
from elegan.metrics.precision_recall import precision_recall
from elegan.metrics.protocol import Better
from elegan.metrics.psnr import psnr
from elegan.metrics.sliced_wasserstein import mind, sliced_wasserstein
from elegan.metrics.ssim import ssim
from elegan.metrics.two_sample import two_sample_test


@dataclass(frozen=True)
class Measured:
    """One number of a metric: a value, or an estimate with its interval; which way is better; its settings in words."""

    value: float | Estimate
    better: Better
    form: str = ""
    note: str = ""
    of: str = ""  # what is resampled for the interval, where it is not samples


@dataclass(frozen=True)
class Compared:
    """What a metric may ask for. Whatever is not there raises `ValueError` with the reason in one line."""

    drawn: Features
    real: Features
    drawn_set: Set | None
    real_set: Set | None
    train_set: Set | None
    embedder: Embedder
    about: dict[str, Any]
    seed: int
    progress: Progress
    gap: Callable[[], DualityGap] | None = None

    @property
    def x(self) -> np.ndarray:
        """Features of what is scored, (N, d)."""
        return _values(self.drawn)

    @property
    def y(self) -> np.ndarray:
        """Features of the reference, (M, d)."""
        return _values(self.real)

    @cached_property
    def train(self) -> np.ndarray:
        """Features of the training data, (K, d)."""
        if self.train_set is None:
            raise ValueError("it needs training data beside a reference that was held out, so data with a test split")
        return _values(features_of(self.train_set, self.embedder, self.progress, keep=True))

    @property
    def probabilities(self) -> np.ndarray:
        """Class probabilities of what is scored, (N, K)."""
        if self.drawn.probabilities is None:
            raise ValueError(f"{self.drawn.embedder} does not classify; use another --embedder")
        return self.drawn.probabilities

    def rows(self) -> np.ndarray:
        """What is scored, raw."""
        if self.drawn_set is None:
            raise ValueError("it needs the samples, and saved statistics have none")
        return self.drawn_set.all()


def _values(features: Features) -> np.ndarray:
    if features.values is None:
        raise ValueError("it needs the samples, and saved statistics have none")
    if not np.isfinite(features.values).all():
        raise ValueError(f"features of {features.name} are not all finite")
    return features.values


def _fd(c: Compared) -> dict[str, Measured]:
    form = "covariances with N − 1"
    few = min(c.drawn.count, c.real.count)
    width = len(c.real.moments.mean)
    note = f"biased upwards: {few:,} samples for {width:,} features" if 0 < few <= 2 * width else ""
    value = (
        frechet_distance(c.drawn.moments, c.real.moments) if c.drawn.values is None else frechet(c.x, c.real.moments)
    )
    return {"FD": Measured(value, "lower", form, note)}


def _fd_infinity(c: Compared) -> dict[str, Measured]:
    value = frechet_infinity(c.x, c.y, seed=c.seed)
    return {"FD∞": Measured(value, "lower", "both sides subsampled, linear in 1/N")}


def _kid(c: Compared) -> dict[str, Measured]:
    return {"KID": Measured(kid(c.x, c.y), "lower", "U-statistic of all samples, kernel (x·y/d + 1)³")}


def _kid_subsets(c: Compared) -> dict[str, Measured]:
    mean, deviation = kid_subsets(c.x, c.y, seed=c.seed)
    form = "mean of 100 subsets of 1,000, kernel (x·y/d + 1)³"
    return {"KID of subsets": Measured(mean, "lower", form, f"deviation of the subsets {deviation:.3g}")}


def _inception(c: Compared) -> dict[str, Measured]:
    return {"IS": Measured(whole_inception_score(c.probabilities), "higher", "of all samples")}


def _inception_splits(c: Compared) -> dict[str, Measured]:
    mean, deviation = inception_score(c.probabilities, seed=c.seed)
    return {"IS of splits": Measured(mean, "higher", "mean of 10 shuffled splits", f"deviation {deviation:.3g}")}


def _manifolds(c: Compared) -> dict[str, Measured]:
    p, r, d, v = precision_recall(c.y, c.x, around_real=c.real.around)
    return {
        "precision": Measured(p, "higher", "k = 3, ≤"),
        "recall": Measured(r, "higher", "k = 3, ≤"),
        "density": Measured(d, "higher", "k = 5, ≤"),
        "coverage": Measured(v, "higher", "k = 5, ≤"),
    }


def _sliced(c: Compared) -> dict[str, Measured]:
    value = sliced_wasserstein(c.x, c.y, seed=c.seed)
    return {"sliced W2": Measured(value, "lower", "1,000 directions, order 2")}


def _mind(c: Compared) -> dict[str, Measured]:
    return {"MIND": Measured(mind(c.x, c.y, seed=c.seed), "lower", "3 d × mean sliced W2² of 1,000 directions")}


def _mmd(c: Compared) -> dict[str, Measured]:
    form = "squared, U-statistic, Gaussian kernels of ½, 1 and 2 median distances"
    return {"MMD": Measured(mmd(c.x, c.y, seed=c.seed), "lower", form)}


def _modes(c: Compared) -> dict[str, Measured]:
    if not {"modes", "sigma"} <= c.about.keys():
        raise ValueError("it is for points of a known mixture, such as ring and grid")
    points, known = c.rows(), (c.about["modes"], c.about["sigma"])
    found, apart = coverage(points, *known), divergence(points, *known)
    histogram = "histogram of 30×30 cells against the known density, in nats"
    return {
        "modes": Measured(found.modes, "higher", f"of {found.total}, one sample within 3 deviations"),
        "high quality": Measured(found.share, "higher", "share within 3 deviations of a mode"),
        "KL": Measured(apart.kl, "lower", histogram),
        "JS": Measured(apart.js, "lower", histogram),
        "KL of modes": Measured(apart.mode_kl, "lower", "shares of the nearest modes against equal ones, in nats"),
    }


def _stacked(c: Compared) -> dict[str, Measured]:
    from elegan.embedders import digits_cnn

    rows, net = c.rows(), digits_cnn.load()
    if rows.shape[1:] != (3, 28, 28):
        raise ValueError("it is for stacked digits, 3×28×28")
    found = stacked_modes(rows, lambda digits: np.asarray(net.embed(digits).probabilities))
    return {
        "stacked modes": Measured(found.modes, "higher", f"of {found.total:,}, by digits-cnn"),
        "KL of stacked modes": Measured(found.kl, "lower", "against equal shares, in nats, by digits-cnn"),
    }


def _memorisation(c: Compared) -> dict[str, Measured]:
    away, held_out = memorisation_distance(c.x, c.train), memorisation_distance(c.y, c.train)
    distance = frechet_distance(c.drawn.moments, c.real.moments)
    threshold = 0.5 * held_out.value
    form = f"FD over the memorisation distance if that is below half the reference's, {threshold:.3g}"
    return {
        "AuthPct": Measured(authenticity(c.x, c.train), "near", "per cent, nearest training sample"),
        "memorisation distance": Measured(away, "near", "mean least cosine distance to training"),
        "FD, copies punished": Measured(penalised(distance, away.value, threshold=threshold), "lower", form),
        "C_T": Measured(copying(c.x, c.train, c.y), "near", "z-score, one cell; far below 0 are copies"),
    }


def _diversity(c: Compared) -> dict[str, Measured]:
    return {
        "diversity": Measured(diversity(c.x, c.y), "near", "mean distance within, over the reference's"),
        "Vendi": Measured(vendi(c.x), "near", "cosine kernel"),
    }


def _two_sample(c: Compared) -> dict[str, Measured]:
    found = two_sample_test(c.x, c.y, seed=c.seed)
    form = "held-out accuracy of a logistic classifier; ½ is indistinguishable"
    return {"two-sample": Measured(found.accuracy, "lower", form, f"p = {found.p_value:.2g} that both are alike")}


def _cas(c: Compared) -> dict[str, Measured]:
    sets = (c.drawn_set, c.real_set)
    if any(s is None or s.labels is None for s in sets):
        raise ValueError("it needs samples drawn with labels, and a reference that has some")
    drawn, real = sets
    assert drawn is not None
    assert drawn.labels is not None
    assert real is not None
    assert real.labels is not None
    classes = int(max(drawn.labels.max(), real.labels.max())) + 1
    c.progress("a classifier of drawn samples", 0, 1)
    value = cas(drawn.all(), drawn.labels, real.all(), real.labels, classes=classes, seed=c.seed)
    return {"CAS": Measured(value, "higher", "accuracy on the reference of a classifier of drawn samples only")}


def _gap(c: Compared) -> dict[str, Measured]:
    if c.gap is None:
        raise ValueError("it is between the players of a run")
    c.progress("the best answers of both players", 0, 1)
    found = c.gap()
    form = f"{found.moves} moves of each player alone"
    ends = f"max over judges {found.worst_judge:.4g}, min over generators {found.worst_generator:.4g}"
    return {"duality gap": Measured(found.gap, "lower", form, ends, of="held-out batches")}


def _restoration(c: Compared) -> dict[str, Measured]:
    one, other = c.rows(), None if c.real_set is None else c.real_set.all()
    if other is None or one.shape != other.shape or one.ndim != 4:
        raise ValueError("it is for images paired in order: as many of one size on both sides")
    form = "images paired in order, all channels, no border cut, peak 255"
    found = psnr(one, other)
    equal = "" if np.isfinite(found.value) else "some pairs are equal: without end"
    return {
        "PSNR": Measured(found, "higher", form, equal, of="pairs"),
        "SSIM": Measured(ssim(one, other), "higher", f"{form}, Gaussian window of 11, σ 1.5", of="pairs"),
    }


RAW = (
    "modes",
    "high quality",
    "KL",
    "JS",
    "KL of modes",
    "stacked modes",
    "KL of stacked modes",
    "CAS",
    "duality gap",
    "PSNR",
    "SSIM",
)  # read off samples, not features


@dataclass(frozen=True)
class Metric:
    """A name for `--metrics`, what it gives in a line, and whether it belongs to the usual scores of a kind of data."""

    compute: Callable[[Compared], dict[str, Measured]]
    about: str
    usual: Sequence[str] = ()
    new: bool = False  # it asks whether samples are new, so training samples are no floor for it
    paired: bool = False  # it compares sample by sample, so it is not part of "all", and nothing stands beside it


METRICS: dict[str, Metric] = {
    "fd": Metric(_fd, "Fréchet distance", ("image", "vector", "statistics")),
    "fd-infinity": Metric(_fd_infinity, "Fréchet distance without its bias", ("image",)),
    "kid": Metric(_kid, "kernel distance, unbiased", ("image",)),
    "kid-subsets": Metric(_kid_subsets, "kernel distance as other tools print it"),
    "is": Metric(_inception, "inception score", ("image",)),
    "is-splits": Metric(_inception_splits, "inception score as other tools print it"),
    "precision-recall": Metric(_manifolds, "precision, recall, density, coverage", ("image", "vector")),
    "sliced-wasserstein": Metric(_sliced, "sliced Wasserstein distance", ("vector",)),
    "mind": Metric(_mind, "Monge inception distance"),
    "mmd": Metric(_mmd, "maximum mean discrepancy", ("vector",)),
    "modes": Metric(_modes, "modes of a known mixture: how many, how well, KL, JS", ("modes",)),
    "stacked-modes": Metric(_stacked, "modes of stacked digits: how many of 1,000, KL", ("stacked",)),
    "memorisation": Metric(_memorisation, "are samples copies: AuthPct, distance, C_T", new=True),
    "diversity": Metric(_diversity, "how different samples are from each other, Vendi score"),
    "two-sample": Metric(_two_sample, "can a classifier tell them from real ones"),
    "cas": Metric(_cas, "does a classifier learn from them: samples with labels"),
    "restoration": Metric(_restoration, "PSNR and SSIM of images paired in order", paired=True),
    "gap": Metric(_gap, "duality gap: how far a run's players are from equilibrium"),
}


def chosen(names: str | Sequence[str] | None, kinds: Sequence[str]) -> list[str]:
    """The metrics that are asked for: names, separated by commas; "all"; None for the usual ones of such data.

    Raises `OptionError` for a name that is none.
    """
    if names is None:
        return [name for name, metric in METRICS.items() if set(kinds) & set(metric.usual)]
    listed = [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else list(names)
    if listed == ["all"]:
        return [name for name, metric in METRICS.items() if not metric.paired]
    if not listed:
        raise OptionError(f"--metrics names none.{nearest('', METRICS)}")
    for name in listed:
        if name not in METRICS:
            raise OptionError(f"no metric {name!r}.{nearest(name, METRICS)}")
    return list(dict.fromkeys(listed))
