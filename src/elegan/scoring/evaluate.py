"""From a run, a name or a path to scores: what is scored, against which reference, through which features."""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from elegan.data.batches import Batches
from elegan.data.codec import codec_of, eight_bits, mode_of
from elegan.data.form import Form
from elegan.data.source import Source, image_field, vector_field
from elegan.data.sources import open_data
from elegan.embedders import OWN, Embedded, Embedder, natural, open_embedder
from elegan.errors import DataError, ElegantError, NoSplitError, OptionError, ResourceError
from elegan.exporting.provenance import save_png
from elegan.game import Game
from elegan.metrics.catalogue import chosen
from elegan.metrics.duality_gap import DualityGap, duality_gap
from elegan.metrics.evaluation import embedded, measure
from elegan.metrics.features import (
    Features,
    Progress,
    Set,
    features_of,
    is_statistics,
    levelled,
    levels_of,
    of_images,
    of_source,
    read_statistics,
    save_statistics,
    silent,
    some,
)  # fmt: skip
from elegan.metrics.neighbours import nearest
from elegan.metrics.protocol import Score, lines
from elegan.model import Model, load
from elegan.run.directory import SCORES, RunDirectory
from elegan.run.events import torn
from elegan.run.place import writable
from elegan.spec import Field
from elegan.tasks.generate import draw
from elegan.training.distributed import joined
from elegan.training.meeting import together
from elegan.view import page as page_room
from elegan.view.scores import table
from elegan.view.sheet import sheet

DRAWN = 10_000
KEPT = 100_000_000  # values of samples that stay in memory once drawn; of more, each reading draws anew
SHOWN, NEIGHBOURS = 16, 5  # of the sheet of nearest training images


@dataclass
class Evaluation:
    """What was scored, and its scores. `str()` of it is a table for people; in a notebook it shows itself."""

    subject: str
    scores: list[Score]
    nearest: Image.Image | None = None
    files: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        return table([self.scores])

    __repr__ = __str__

    def __getitem__(self, metric: str) -> Score:
        """The score of a metric, by its name or its label. Raises `KeyError`."""
        for score in self.scores:
            if metric in (score.metric, score.label):
                return score
        raise KeyError(metric)


@dataclass(frozen=True)
class Reference:
    """What is scored against: a set or statistics; the training data beside it, if any; what is known of it; and the
    field whose codec brings deeper images of both sides to 8 bits: that of training."""

    compared: Set | Features
    train: Set | None
    name: str
    about: dict[str, Any]
    source: Source | None = None
    levels: Field | None = None


@together()
def evaluate(
    what: Any,
    *,
    against: Any = None,
    split: str | None = None,
    metrics: str | Sequence[str] | None = None,
    embedder: str | None = None,
    n: int | None = None,
    seed: int = 0,
    checkpoint: str = "newest",
    save: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
    **reading: Any,
) -> Evaluation:
    """Score a run, a folder, an array or saved statistics against a reference, and say under which protocol.

    what: a run, as its directory or a `Model`; or data by name, path or as an array; or a file of statistics.
    against: the reference, likewise; of a run by default its own data. split: of the reference, by default `test` where
        there is one, else `train`.
    metrics: names separated by commas, "all", or None for the usual ones; see `elegan.metrics.catalogue.METRICS`.
    embedder: a name or a file; by default the one that suits the reference.
    n: how many samples, by default 10,000 of a run and all of data.
    seed: of drawing, subsets and resamples. checkpoint: of a run, "newest" or "best".
    save: write the statistics of `what` to this file; then `against` may be left out.
    out: a directory for scores.jsonl and pictures; by default the run's own.
    reading: how data is read: size, fit …, see `elegan.data.form.Form`; by default as the run's own was.
    Raises `DataError` if the two cannot be compared, `OptionError` for names that are none.
    """
    with joined() as peers:
        if against is None and save is None and not _is_model(what):
            raise OptionError(f"{_spelled(what)} is no run: say what to compare it with by --against.")
        if save is not None and Path(save).suffix != ".safetensors":
            raise OptionError(f"--save {str(save)!r} is no .safetensors file.")
        chosen(metrics, ())  # before anything is drawn
        for flag, place in (("--out", out), ("--save", None if save is None else Path(save).parent)):
            if place is not None and peers.rank == 0:
                writable(Path(place), flag)
        found = resolve(what, against, split, Form.of(reading) if reading else None, n, seed, checkpoint)
        drawn, reference, model = found.drawn, found.reference, found.model
        if n is not None and isinstance(drawn, Features):
            raise OptionError(f"-n {n}: statistics are of as many samples as they were made of; leave it out.")
        home = Path(out) if out is not None else found.home
        if home is not None and peers.rank == 0:
            writable(home)
        network = embedder_for(embedder, drawn, reference)
        if save is not None:
            statistics = embedded(drawn, network, progress)
            if peers.rank == 0:
                save_statistics(Path(save), statistics)
        saved = [Path(save)] if save is not None else []
        if reference is None:
            return Evaluation(drawn.name, [], files=saved)
        names = chosen(metrics, _kinds(drawn, reference))
        scores = measure(
            names, drawn.name, drawn, reference.compared, network, train=reference.train, about=reference.about,
            seed=seed, progress=progress, gap=gap_of(model, reference, seed) if model else None,
        )  # fmt: skip
        evaluation = Evaluation(drawn.name, scores, files=saved)
        if "memorisation" in names and isinstance(drawn, Set) and reference.train is not None:
            evaluation.nearest = nearest_sheet(drawn, reference.train, network, progress)
        if home is not None and peers.rank == 0:
            evaluation.files = saved + written(home, evaluation, model.step if model else None)
            if model is not None and home == model.run.path:
                with suppress(OSError, ElegantError):  # the page shows the scores too
                    page_room.write(model.run)
        return evaluation


@dataclass(frozen=True)
class Resolved:
    """What was asked for, opened: what is scored, what against, and the model and its home if it is a run."""

    drawn: Set | Features
    reference: Reference | None
    model: Model | None = None

    @property
    def home(self) -> Path | None:
        return self.model.run.path if self.model else None


def resolve(
    what: Any, against: Any, split: str | None, form: Form | None, n: int | None, seed: int, checkpoint: str
) -> Resolved:
    """Open both sides of a comparison; see `evaluate`."""
    if n is not None and (type(n) is not int or n < 1):
        raise OptionError(f"-n {n} must be 1 or more.")
    if not _is_model(what):
        if checkpoint != "newest":
            raise OptionError(f"--checkpoint {checkpoint} is for runs, and {_spelled(what)} is none: leave it out.")
        reference = referred(against, split, form or Form()) if against is not None else None
        return Resolved(_given(what, n, form or Form(), seed, reference.levels if reference else None), reference)
    model = what if isinstance(what, Model) else load(what, checkpoint=checkpoint)
    if "generation" not in model.game.tasks or "real" not in model.game.spec:
        raise OptionError(
            f"{model.game.name} draws no samples from noise: score a folder of its results --against DATA."
        )
    data = model.plan["data"]
    drawn = model_set(model, n or DRAWN, seed)
    own = data["path"] or data["name"]
    where, form = own if against is None else against, form or Form.of(data["form"])
    return Resolved(drawn, referred(where, split, form, model.game.spec["real"]), model)


def _is_model(what: Any) -> bool:
    path = isinstance(what, (str, os.PathLike))
    return isinstance(what, Model) or (path and RunDirectory(what).exists())


def _spelled(what: Any) -> str:
    return repr(str(what)) if isinstance(what, (str, os.PathLike)) else f"an object of type {type(what).__name__}"


def _given(what: Any, n: int | None, form: Form, seed: int, levels: Field | None) -> Set | Features:
    """Data or statistics that are scored."""
    if isinstance(what, np.ndarray):
        made = _array(what, levels)
        return made if n is None else some(made, n, seed)
    if is_statistics(_path(what)):
        return read_statistics(Path(what))
    return of_source(open_data(what, form=form), "train", n, seed=seed, levels=levels)


def _path(what: Any) -> Path:
    if not isinstance(what, (str, os.PathLike)):
        raise OptionError(f"{_spelled(what)} cannot be scored: give a Model, a path, a name, or a numpy array.")
    return Path(what)


def _array(rows: np.ndarray, levels: Field | None = None) -> Set:
    from elegan.data.readers.arrays import rows_of

    made = rows_of(rows, "array")
    field = image_field(made) if made.ndim == 4 else vector_field(made)
    return of_images("array", made, levelled(field, levels), fingerprint=digest(made))


def digest(rows: np.ndarray) -> str:
    """SHA-256 of rows in memory, as hex."""
    return hashlib.sha256(
        f"{rows.dtype.str} {rows.shape}\n".encode() + np.ascontiguousarray(rows).tobytes()
    ).hexdigest()


def referred(against: Any, split: str | None, form: Form, levels: Field | None = None) -> Reference:
    """The reference of a name, a path, an array or statistics. levels: the field a model was trained on."""
    if isinstance(against, np.ndarray):
        return Reference(_array(against, levels), None, "array", {}, levels=levels)
    if _is_model(against):
        model = against if isinstance(against, Model) else load(against)
        levels = levels or model.game.spec["real"]
        other = model_set(model, DRAWN, 1, levels)
        rows = other.all()
        other = replace(other, rows=lambda start, stop: rows[start:stop], fingerprint=digest(rows))
        return Reference(other, None, other.name, {}, levels=levels)
    if is_statistics(_path(against)):
        found = read_statistics(Path(against))
        return Reference(found, None, found.name, {})
    if split is None:
        try:
            source, split = open_data(against, split="test", form=form), "test"
        except NoSplitError:
            source, split = open_data(against, form=form), "train"
    elif split in ("train", "test"):
        source = open_data(against, split="test" if split == "test" else "train", form=form)
    else:
        raise OptionError(f"--split {split!r} is neither train nor test.")
    own = open_data(against, form=form) if split == "test" else source
    levels = levels or own.spec.get("real")
    train = of_source(own, "train", levels=levels) if split == "test" else None
    compared = of_source(source, split, levels=levels)
    return Reference(compared, train, source.name, source.spec["real"].about, source, levels)


def _kinds(drawn: Set | Features, reference: Reference) -> list[str]:
    """What decides which metrics are usual: the kind of the data, and what is known of it."""
    if isinstance(reference.compared, Features) or isinstance(drawn, Features):
        return ["statistics"]
    kind = "image" if len(reference.compared.shape) == 3 else "vector"
    return [kind, *(["modes"] if "modes" in reference.about else []),
            *(["stacked"] if reference.name == "stacked-digits" else [])]  # fmt: skip


def embedder_for(name: str | None, drawn: Set | Features | None, reference: Reference | None) -> Embedder:
    """The embedder that is asked for, or that statistics were made with, or that suits the reference.

    Raises `DataError` for samples of two shapes, unless it takes both; `OptionError` if nobody says which it is.
    """
    sides = [one for one in (drawn, reference.compared if reference else None) if one is not None]
    sets = [one for one in sides if isinstance(one, Set)]
    stated = next((one for one in sides if isinstance(one, Features) and one.embedder), None)
    if name is None and stated is not None and not sets:
        return Stated(stated)
    if name is None and stated is None:
        if silent_one := next((one for one in sides if isinstance(one, Features)), None):
            raise OptionError(f"{silent_one.name} does not say which network it is of: name it by --embedder.")
        source = reference.source if reference else None
        name = natural(source.name, source.spec) if source else "pixels"
    name = name or (stated.embedder if stated else "pixels")
    shape = sets[-1].shape if sets else dict(OWN.values()).get(name, (3, 64, 64))
    network = open_embedder(name, shape=shape)
    if sets and (one := sets[0]).shape != shape:
        try:
            network.embed(one.rows(0, 1))
        except DataError as error:
            sizes = len(one.shape) == len(shape) == 3 and one.shape[1:] != shape[1:]
            remedy = (
                "bring both to one size by --size, or choose another --embedder" if sizes else "give both one shape"
            )
            raise DataError(
                f"{one.name} has samples of shape {one.shape}, {sets[-1].name} of {shape}, and {network.name} takes "
                f"one shape: {remedy}."
            ) from error
    return network


class Stated:
    """The embedder of statistics, by what they say of it; it embeds nothing, and nothing is left to embed."""

    def __init__(self, statistics: Features):
        self.name, self.sha256, self.about = statistics.embedder, statistics.weights, statistics.input
        self.features = statistics.width

    def embed(self, images: np.ndarray) -> Embedded:
        raise DataError(f"{self.name} is known by statistics alone: choose an --embedder.")


def model_set(model: Model, n: int, seed: int, levels: Field | None = None) -> Set:
    """Samples of a model, drawn as they are asked for. levels: as of `of_source`."""
    return game_set(f"{model.run.path}, step {model.step:,}", model.game, n, seed, levels)


def game_set(name: str, game: Game, n: int, seed: int, levels: Field | None = None) -> Set:
    """Samples of a game; of one that takes labels, with labels as often as the data has them."""
    field, codec = levelled(game.spec["real"], levels), codec_of(game.spec["real"])
    labels = None
    if game.labelled:
        counts = np.array(game.spec["label"].counts, np.float64)
        labels = np.random.default_rng(seed).choice(len(counts), n, p=counts / counts.sum())

    shape = tuple(side for side in field.shape if side is not None)
    small = n * math.prod(shape) <= KEPT
    kept: dict[tuple[int, int], np.ndarray] = {}

    def rows(start: int, stop: int) -> np.ndarray:
        if (start, stop) in kept:
            return kept[start, stop]
        some = None if labels is None else labels[start:stop].tolist()
        drawn = draw(game, stop - start, seed=seed, first=start, label=some)
        if not bool(torch.isfinite(drawn).all()):
            raise DataError(f"{name} draws values that are not finite: there is nothing to score.")
        values = eight_bits(field, codec.decode(drawn))
        if small:
            kept[start, stop] = values
        return values

    return Set(name, shape, n, rows, labels, levels=levels_of(field), mode=mode_of(field))


def gap_of(model: Model, reference: Reference, seed: int) -> Callable[[], DualityGap]:
    """Measures how far the players of a model are from equilibrium, on training data and the reference."""

    def measured() -> DualityGap:
        if reference.source is None or reference.source.spec.keys() != model.game.spec.keys():
            raise ValueError("it needs a reference with the fields the run was trained on")
        plan = model.plan["data"]
        rows = max(2, model.plan["training"]["batch"] // model.plan["training"]["shards"])
        train = open_data(plan["path"] or plan["name"], form=Form.of(plan["form"]))
        sides = [Batches(source, rows=rows, shards=1, device="cpu") for source in (train, reference.source)]
        return duality_gap(model.game, *sides, seed=seed)

    return measured


def nearest_sheet(drawn: Set, train: Set, network: Embedder, progress: Progress) -> Image.Image | None:
    """The first samples, each in a row before the training images nearest to it; None of what is no image."""
    if len(drawn.shape) != 3:
        return None
    shown = drawn.rows(0, min(SHOWN, drawn.count))
    known = features_of(train, network, progress, keep=True).values
    assert known is not None
    found = nearest(network.embed(shown).features, known, k=NEIGHBOURS).which  # (SHOWN, NEIGHBOURS)
    rows = [(one[None], *(train.rows(k, k + 1) for k in near)) for one, near in zip(shown, found.tolist(), strict=True)]
    return sheet(np.concatenate([image for row in rows for image in row]), columns=1 + NEIGHBOURS, mode=train.mode)


def written(home: Path, found: Evaluation, step: int | None) -> list[Path]:
    """Append scores to scores.jsonl and save pictures; the files. Raises `ResourceError` if the disk refuses."""
    log, files = home / SCORES, []
    try:
        home.mkdir(parents=True, exist_ok=True)
        at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        ending = "\n" * torn(log)  # of a line that a crash cut off
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(ending + lines(replace(score, step=step, time=at) for score in found.scores))
        files.append(log)
        if found.nearest is not None:
            (home / "pictures").mkdir(exist_ok=True)
            facts = {"what": "samples, each before its nearest training images", "subject": found.subject}
            files.append(save_png(found.nearest, home / "pictures" / "nearest.png", facts))
    except OSError as error:
        raise ResourceError(
            f"{log} cannot be written ({error.strerror}): make room, or choose another --out."
        ) from error
    return files


def read(run: str | os.PathLike[str]) -> list[Score]:
    """The scores of a run, the latest of each label and protocol, in the order they were first made."""
    found: dict[tuple[str, str], Score] = {}
    log = Path(run) / SCORES
    for line in log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else ():
        with suppress(ValueError, RecursionError):  # a line torn by a crash, or of something else
            score = Score.from_json(json.loads(line))
            found[score.label, json.dumps(score.protocol.comparable())] = score
    return list(found.values())
