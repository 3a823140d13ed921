"""What is compared: sets of samples, read or drawn in portions, and what an embedder makes of them.

real = features_of(of_source(open_data("digits", split="test"), "test"), embedder)
real.values, real.moments  # (N, d) float32; their moments in fp64
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from elegan.data.codec import eight_bits, mode_of
from elegan.data.source import Source
from elegan.disk import write_whole
from elegan.embedders import Embedder
from elegan.errors import CheckpointError, DataError, ResourceError
from elegan.metrics.frechet import Moments
from elegan.metrics.neighbours import nearest
from elegan.spec import Field
from elegan.training.distributed import World, world

PORTION = 2_048  # samples that are read or drawn, and embedded, at a time; a multiple of what one draws at a time
SCHEMA = "elegan statistics 1"
ABOUT = ("name", "embedder", "weights", "input", "fingerprint")  # what statistics say of themselves
LARGEST = 512 << 20  # bytes of features that are worth keeping

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


def silent(what: str, done: int, total: int) -> None:
    """A progress that shows nothing."""


@dataclass(frozen=True)
class Set:
    """Samples, of which any stretch can be had.

    name: what it is, for people and protocols. shape: of one sample. rows(start, stop): raw rows, uint8 (N, C, H, W) or
    float32 (N, D). labels: int64 (N,) or None. fingerprint: SHA-256 of the rows where that is known beforehand.
    levels: which values the 8 bits of deeper images stand for. mode: what the channels of images are, if that is known.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    rows: Callable[[int, int], np.ndarray]
    labels: np.ndarray | None = None
    fingerprint: str = ""
    levels: str = ""
    mode: str = ""

    def all(self) -> np.ndarray:
        """Every row, in memory."""
        return np.concatenate([self.rows(k, min(k + PORTION, self.count)) for k in range(0, self.count, PORTION)])


def of_arrays(name: str, rows: np.ndarray, labels: np.ndarray | None = None, fingerprint: str = "") -> Set:
    """The set of rows in memory."""
    return Set(name, rows.shape[1:], len(rows), lambda start, stop: rows[start:stop], labels, fingerprint)


def of_source(
    source: Source, split: str, count: int | None = None, *, seed: int = 0, levels: Field | None = None
) -> Set:
    """The field `real` of a source, images in 8 bits; with a count, so many rows, chosen by the seed, in their order;
    of a stream the first.

    levels: a field whose codec says which values the levels of deeper images of its type stand for, lest two sides of a
        comparison differ in it; by default the source's own.
    Raises `DataError` if there is no such field.
    """
    if "real" not in source.spec:
        raise DataError(f"{source.name!r} has fields {', '.join(source.spec)}; give a folder of images of one side.")
    raw, field = source.arrays["real"], levelled(source.spec["real"], levels)
    whole = of_images(
        f"{source.name} ({split})", raw, field, source.arrays.get("label"), fingerprint=source.fingerprint
    )
    if source.cuts and count is not None:  # to choose among all of a stream would be to read it all
        first, labels = min(count, whole.count), whole.labels
        labels = None if labels is None else labels[:first]
        return replace(whole, count=first, labels=labels, fingerprint=f"{whole.fingerprint} first {first}")
    return whole if count is None else some(whole, count, seed)


def of_images(
    name: str, raw: np.ndarray, field: Field, labels: np.ndarray | None = None, *, fingerprint: str = ""
) -> Set:
    """The set of raw rows of a field, images in 8 bits by its codec; deeper ones have a fingerprint of their own."""
    said = levels_of(field)
    if said and fingerprint:
        fingerprint = hashlib.sha256(f"{fingerprint} {said}".encode()).hexdigest()
    whole = of_arrays(name, raw, labels, fingerprint)
    rows = (lambda start, stop: eight_bits(field, raw[start:stop])) if said else whole.rows
    return replace(whole, rows=rows, levels=said, mode=mode_of(field))


def levelled(field: Field, levels: Field | None) -> Field:
    """A field with the codec of another, if both are images of one type."""
    mine, other = (known.about.get("codec", {}) if known else {} for known in (field, levels))
    if field.kind != "image" or mine.get("dtype") != other.get("dtype"):
        return field
    return replace(field, about={**field.about, "codec": {**other, "mode": mine.get("mode", "")}})


def levels_of(field: Field) -> str:
    """Which values the 8 bits of deeper images stand for, in words; nothing of others."""
    codec = field.about.get("codec", {})
    if field.kind != "image" or codec.get("dtype", "uint8") == "uint8":
        return ""
    return f"{codec['dtype']} from {codec['low']:.6g} to {codec['high']:.6g} as 8 bits"


def some(samples: Set, count: int, seed: int) -> Set:
    """So many samples of a set in memory, chosen by the seed, in their order; all if there are no more."""
    if count >= samples.count:
        return samples
    rows, labels = samples.all(), samples.labels
    chosen = np.sort(np.random.default_rng(seed).permutation(samples.count)[:count])
    fingerprint = hashlib.sha256(f"{samples.fingerprint} {count} {seed}".encode()).hexdigest()
    those = of_arrays(samples.name, rows[chosen], None if labels is None else labels[chosen], fingerprint)
    return replace(those, levels=samples.levels, mode=samples.mode)


@dataclass(frozen=True)
class Features:
    """What an embedder made of a set: values (N, d) float32, class probabilities (N, K) float32 or None.

    Saved statistics have moments and no values. levels: as of `Set`.
    """

    name: str
    count: int
    embedder: str
    weights: str
    input: str
    fingerprint: str
    values: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    saved: Moments | None = None
    levels: str = ""

    @property
    def width(self) -> int:
        """d."""
        return self.values.shape[1] if self.values is not None else len(self.moments.mean)

    @cached_property
    def around(self) -> np.ndarray:
        """Squared distances of each sample to its five nearest others, (N, 5), found once for all comparisons."""
        assert self.values is not None
        return nearest(self.values, k=5).squared

    @cached_property
    def moments(self) -> Moments:
        """Raises `ValueError` if there are no samples, or features that are not finite."""
        if self.saved is not None:
            return self.saved
        assert self.values is not None
        return Moments.of(self.values)


def features_of(
    samples: Set, embedder: Embedder, progress: Progress = silent, *, keep: bool = False, peers: World | None = None
) -> Features:
    """Embed a set in portions; under `torchrun` each rank its own, and every rank gets all.

    keep: remember the result in the user's cache, under the set's fingerprint.
    peers: `World()` where one process works alone while others do not; by default all there are.
    """
    peers = world() if peers is None else peers
    about = (samples.name, samples.count, embedder.name, embedder.sha256, embedder.about, samples.fingerprint)
    place = _place(samples, embedder) if keep and samples.fingerprint else None
    found = _remembered(place) if place is not None else None
    if all(peers.gather(found is not None)) and found is not None:  # all ranks or none, lest some wait for the others
        return Features(*about, *found, levels=samples.levels)
    starts = range(0, samples.count, PORTION)
    mine: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
    for start in starts[peers.rank :: peers.size]:
        progress(f"features of {samples.name}", start, samples.count)
        mine[start] = embedder.embed(samples.rows(start, min(start + PORTION, samples.count)))
    progress(f"features of {samples.name}", samples.count, samples.count)
    parts = {start: part for one in peers.gather(mine) for start, part in one.items()}
    values = np.concatenate([parts[start][0] for start in starts])
    known = [parts[start][1] for start in starts]
    probabilities = None if known[0] is None else np.concatenate([p for p in known if p is not None])
    if place is not None and peers.rank == 0 and values.nbytes <= LARGEST:
        _remember(place, values, probabilities)
    return Features(*about, values, probabilities, levels=samples.levels)


def cache_folder() -> Path:
    """Where features of references, and what floors and baselines scored, are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "elegan" / "scores"


def _place(samples: Set, embedder: Embedder) -> Path:
    key = f"{samples.fingerprint} {samples.count} {embedder.name} {embedder.sha256} {embedder.about}"
    return cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"


def _remembered(place: Path) -> tuple[np.ndarray, np.ndarray | None] | None:
    try:
        content = place.read_bytes()
        digest, body = content[:32], content[32:]
        if hashlib.sha256(body).digest() != digest:
            return None
        arrays = load_arrays(body)
        return arrays["features"], arrays.get("probabilities")
    except (OSError, KeyError, safetensors.SafetensorError):
        return None  # it costs the time to make it again, no more


def _remember(place: Path, values: np.ndarray, probabilities: np.ndarray | None) -> None:
    arrays = {"features": values} | ({} if probabilities is None else {"probabilities": probabilities})
    body = save_arrays(arrays)
    with suppress(OSError):
        write_whole(place, hashlib.sha256(body).digest() + body)


def save_statistics(path: Path, features: Features) -> None:
    """Write moments and what they are of, as .safetensors. Raises `ResourceError` if the disk refuses."""
    about = {name: getattr(features, name) for name in (*ABOUT, "count", "levels")}
    moments = features.moments
    arrays = {"mean": moments.mean, "covariance": np.ascontiguousarray(moments.covariance)}
    body = save_arrays(arrays, {"format": SCHEMA, "about": json.dumps(about)})
    try:
        write_whole(path, body)
    except OSError as error:
        raise ResourceError(f"{path} cannot be written ({error.strerror}); choose another --save.") from error


def read_statistics(path: Path) -> Features:
    """Statistics that were saved: ours, or an .npz with `mu` and `sigma` as many tools keep them.

    Those of other tools do not say what they are of: their embedder is what the user says it is, their count unknown.
    Raises `CheckpointError` if the file is damaged or holds something else.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                mean, covariance = arrays["mu"], arrays["sigma"]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            moments = Moments.given(FOREIGN, mean, covariance)
            return Features(path.name, 0, "", "", "", digest, saved=moments)
        with safetensors.safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {})["about"])
            moments = Moments.given(about["count"], file.get_tensor("mean"), file.get_tensor("covariance"))
        count, words = about.pop("count"), {"levels": about.get("levels", ""), **{name: about[name] for name in ABOUT}}
        if type(count) is not int or not all(isinstance(word, str) for word in words.values()):
            raise ValueError("what it says of itself is not what it should be")
        return Features(count=count, **words, saved=moments)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error,
            safetensors.SafetensorError) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{path} holds no statistics ({reason}): make them with 'elegan evaluate DATA --save'."
        ) from error


FOREIGN = 2  # samples of statistics that do not say: a covariance is of two or more


def is_statistics(path: Path) -> bool:
    """Whether a file is one of statistics, by its name and what it says it holds."""
    if path.suffix not in (".safetensors", ".npz") or not os.path.isfile(path):
        return False
    if path.suffix == ".safetensors":
        return True
    with suppress(Exception), np.load(path, allow_pickle=False) as arrays:
        return {"mu", "sigma"} <= set(arrays.files)
    return False
