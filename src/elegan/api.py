"""One function per verb. The command line and every other front end only translate to these.

model = elegan.train("dcgan", "digits", steps=2000)
model.sample(64)
"""

import os
import platform
import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import elegan
from elegan import zoo
from elegan.data import sources
from elegan.data.batches import Batches
from elegan.data.codec import eight_bits, mode_of
from elegan.data.curation import aside
from elegan.data.curation import clean as cleaning
from elegan.data.curation import inspect as inspection
from elegan.data.curation.clean import Quarantine
from elegan.data.curation.inspect import Inspection
from elegan.data.form import Form, split_options
from elegan.data.listing import Progress as Reading
from elegan.data.listing import silent
from elegan.data.readers import picture
from elegan.data.select import read_names
from elegan.data.sources import open_data
from elegan.disk import write_whole
from elegan.errors import CheckpointError, DataError, OptionError, ResourceError
from elegan.exporting import track as track_room
from elegan.exporting.foreign.convert import convert
from elegan.exporting.provenance import save_png
from elegan.exporting.samples import Samples
from elegan.fit import Listener, build, first_makes, fit
from elegan.model import Model, load
from elegan.options import check_names
from elegan.run import checkpoint
from elegan.run.directory import Plan, RunDirectory, free_name
from elegan.run.place import refusing, writable
from elegan.run.recorded import recorded_data, unchanged, unchanged_data
from elegan.scoring.ask import ask
from elegan.scoring.compare import Comparison, compare
from elegan.scoring.evaluate import Evaluation, evaluate
from elegan.training import precision as precision_room
from elegan.training.distributed import World, joined
from elegan.training.meeting import launched, resumable, together
from elegan.training.precision import Choice
from elegan.training.turns import steps_for
from elegan.view import inspection as inspection_page
from elegan.view import page as page_room
from elegan.view.augmented import augmented

DEFAULT_GAME, DEFAULT_DATA = "cgan", "digits"
TRAINING = {"batch": 64, "steps": 10_000, "half_life_images": 20_000}  # where neither a game nor a preset says more


@together()
def train(
    game: str = DEFAULT_GAME,
    data: str | os.PathLike[str] = DEFAULT_DATA,
    *,
    out: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    images: int | None = None,
    batch: int | None = None,
    shards: int = 1,
    seed: int = 0,
    preset: str | None = None,
    half_life_images: int | None = None,
    until_still: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    track: str | None = None,
    score: int = 0,
    rescue: bool = False,
    keep: int = 2,
    listeners: Iterable[Listener] = (),
    progress: Callable[[RunDirectory, Plan], Listener] | None = None,
    reading: Reading = silent,
    **options: Any,
) -> Model:
    """Train a game on some data and return the model; everything is kept in a run directory.

    game: a name from the zoo. data: a bundled name or a path. out: the run directory, by default `runs/GAME-DATA-001`.
    steps: training steps; images: real images to show instead. batch: samples a step; shards: equal parts of it.
    seed: of all randomness. preset: named settings of the game; by default those called like the data, if any.
    half_life_images: of the moving average. until_still: stop below this relative change of the parameters per thousand
    steps. device, threads, precision: by default chosen by a short probe.
    track: trackers that follow the run into RUN/track/, by name, separated by commas: "tensorboard".
    score: samples to score now and then by the Fréchet distance, keeping the best checkpoint; 0 scores none.
    rescue: let an alarm apply its remedy; see `elegan.training.alarms`.
    keep: newest checkpoints that stay on the disk, beside the best and the last healthy one.
    listeners: called with every event; what they return steers the training. reading: told how far packing is.
    options: the game's own, and how the data is read: size, fit, alpha …, see `elegan.data.form.Form`.

    Raises `ElegantError`s in one line; see `elegan.errors`.
    """
    file = zoo.describe(game)
    form, options = split_options(options)
    check_names((option.name for option in file.options), options, game)  # before anything is opened or built
    trackers = track_room.chosen(track)
    scorable(score)
    if score and "generation" not in file.tasks:
        raise OptionError(f"--score is for games that draw samples; {game} is for {', '.join(file.tasks)}.")
    source = open_data(data, form=form, progress=reading)
    chosen = zoo.settings(game, preset, options, str(data), source.spec.kind)
    asked = {"batch": batch, "half_life_images": half_life_images, "steps": steps}
    training = {**TRAINING, **chosen.training, **{n: v for n, v in asked.items() if v is not None}}
    for name, value in {
        **training,
        "shards": shards,
        "keep": keep,
        "images": images,
        "until_still": until_still,
    }.items():
        flag = f"--{name.replace('_', '-')}"
        if value is not None and type(value) is not int and (type(value) is not float or name != "until_still"):
            raise OptionError(f"{flag} {value!r} is not a whole number.")
        if value is not None and not value > 0 and (value != 0 or name != "half_life_images"):
            raise OptionError(f"{flag} {value} must be more than 0.")
    if type(seed) is not int:
        raise OptionError(f"--seed {seed!r} is not a whole number.")
    if steps is not None and images is not None:
        raise OptionError("--steps and --images are two ways to say how long; give one.")
    if training["batch"] % shards:
        raise OptionError(f"--batch {training['batch']} cannot be cut into --shards {shards} equal parts.")
    choice = precision_room.choose(device, precision, threads)
    plan: Plan = {
        "elegan": elegan.__version__,
        "game": game,
        "preset": chosen.preset,
        "options": chosen.options,
        "data": recorded_data(data, source, form),
        "spec": source.spec.to_json(),
        "training": {
            **training,
            "images": images,
            "shards": shards,
            "seed": seed,
            "until_still": until_still,
            "score": score,
            "rescue": rescue,
            "keep": keep,
        },
        "compute": precision_room.describe(choice),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    World(*launched()).shards(shards)
    with joined(choice.device) as peers:
        trainee = build(plan, source.spec, choice)
        batches = Batches(source, rows=training["batch"] // shards, shards=shards, device=choice.device)
        if images is not None:
            plan["training"]["steps"] = steps_for(trainee, images, training["batch"])
        run = first_makes(peers, lambda: new_run(out, game, plan))
        with resumable(f"elegan resume {shlex.quote(str(run.path))}"):
            return fit(run, plan, trainee, batches, None, listeners, progress, trackers, score)


@together()
def resume(
    run: str | os.PathLike[str],
    *,
    steps: int | None = None,
    extend: int | None = None,
    track: str | None = None,
    score: int | None = None,
    listeners: Iterable[Listener] = (),
    progress: Callable[[RunDirectory, Plan], Listener] | None = None,
) -> Model:
    """Go on with a run where its newest whole checkpoint stands, to the bit as if it had never stopped.

    steps: a new total, at least what the run was made for; extend: so many more than that. Nothing else of a run can
    change. track: as in `train`. score: as in `train`, by default what the run was begun with.
    Raises `CheckpointError` if there is no whole checkpoint or the options were edited, `DataError` if the data is not
    what it was, `OptionError` if `steps` or `extend` make no sense.
    """
    trackers = track_room.chosen(track)
    directory = RunDirectory.open(run)
    plan = directory.read_options()
    if "converted" in plan:
        lack = "it has no moments and no data to go on with; draw from it, or train a new run"
        raise CheckpointError(f"{directory.path} was converted from a model file: {lack}.")
    found = checkpoint.newest(directory.checkpoints)
    unchanged(directory, plan, found)
    training = plan["training"]
    scored = training.get("score", 0) if score is None else score
    scorable(scored)
    training["steps"] = raised(training["steps"], steps, extend)
    source = open_data(plan["data"]["path"] or plan["data"]["name"], form=Form.of(plan["data"]["form"]))
    unchanged_data(directory, plan, source)
    choice = Choice(*(plan["compute"][name] for name in ("device", "precision", "threads", "why")))
    device = "cuda" if choice.device.startswith("cuda") and "LOCAL_RANK" in os.environ else choice.device
    choice = replace(choice, device=precision_room.choose(device, choice.precision, choice.threads).device)
    World(*launched()).shards(training["shards"])
    with joined(choice.device), resumable(f"elegan resume {shlex.quote(str(directory.path))}"):
        trainee = build(plan, source.spec, choice)
        rows = training["batch"] // training["shards"]
        batches = Batches(source, rows=rows, shards=training["shards"], device=choice.device)
        return fit(directory, plan, trainee, batches, found, listeners, progress, trackers, scored)


def raised(total: int, steps: int | None, extend: int | None) -> int:
    """The new total of a run made for `total` steps. Raises `OptionError` if that is no more than it was."""
    for name, value in (("steps", steps), ("extend", extend)):
        if value is not None and type(value) is not int:
            raise OptionError(f"--{name} {value!r} is not a whole number.")
    if steps is not None and extend is not None:
        raise OptionError("--steps and --extend are two ways to say how long; give one.")
    if extend is not None and extend <= 0:
        raise OptionError(f"--extend {extend} must be more than 0.")
    if steps is not None and steps < total:
        raise OptionError(f"--steps {steps} is less than the {total} this run was made for; it can only be raised.")
    return steps or total + (extend or 0)


def sample(
    run: str | os.PathLike[str], n: int = 64, *, seed: int = 0, label: int | None = None, **options: Any
) -> Samples:
    """Draw `n` samples from a run: `elegan.load(run).sample(n, …)`."""
    return load(run).sample(n, seed=seed, label=label, **options)


def apply(run: str | os.PathLike[str], data: str | os.PathLike[str], *, direction: str = "ab") -> Samples:
    """Translate the images at a path by a run: `elegan.load(run).translate(images)`.

    They are read in the form of the run's data, so at the size it was asked for, and with its channels; where it has
    alpha, images without are opaque. Raises `OptionError` for a game that does not translate, `DataError` for images of
    another shape.
    """
    model = load(run)
    side = "a" if direction == "ab" else "b"
    if "translation" not in model.game.tasks:
        raise OptionError(f"{model.game.name} does not translate; its tasks are {', '.join(model.game.tasks)}.")
    field = model.game.spec[side]
    wanted, mode = tuple(field.shape), mode_of(field)
    colours: dict[str, Any] = {"L": {"colour": "grey"}, "RGB": {"colour": "rgb"}}
    form = replace(Form.of(model.plan["data"]["form"]).of_inputs(), **colours.get(mode.removesuffix("A"), {}))
    source = open_data(data, form=form)
    if "real" not in source.spec:
        raise DataError(f"{str(data)!r} has fields {', '.join(source.spec)}; give a folder of images of one side.")
    rows = source.arrays["real"]
    if mode.endswith("A") and len(mode) == rows.shape[1] + 1:
        opaque = np.full((len(rows), 1, *rows.shape[2:]), picture.TOPS[str(rows.dtype)], rows.dtype)
        rows = np.concatenate([rows, opaque], axis=1)
    if rows.shape[1:] != wanted:
        raise DataError(f"{str(data)!r} holds images of shape {rows.shape[1:]}, the run was trained on {wanted}.")
    return model.translate(rows, direction=direction)


def page(run: str | os.PathLike[str]) -> Path:
    """Write the page of a run anew, RUN/index.html, and return its path.

    Raises `CheckpointError` if there is no run, `ResourceError` if the disk refuses.
    """
    try:
        return page_room.write(RunDirectory.open(run))
    except OSError as error:
        raise ResourceError(f"{error.filename or run} cannot be written ({error.strerror}): make room.") from error


def prepare(
    data: str | os.PathLike[str], out: str | os.PathLike[str], *, progress: Reading = silent, **options: Any
) -> str:
    """Pack some data into a store at `out`, to be opened by that path ever after; what it holds, in words.

    options: how the data is read, see `elegan.data.form.Form`.
    """
    return sources.prepare(data, out, form=Form.of(options), progress=progress)


def inspect(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    progress: Reading = silent,
    **options: Any,
) -> Inspection:
    """Say what data holds and what is wrong with it; with `out`, a directory, also as report.json and a page.

    options: how the data is read, see `elegan.data.form.Form`.
    Raises `DataError` if there is nothing to look at, `ResourceError` before the work if `out` cannot be written.
    """
    form, place = Form.of(options), None if out is None else writable(Path(out).expanduser())
    found = inspection.inspect(os.fspath(data), form, progress)
    if place is not None:
        with refusing(place):
            inspection_page.write(found, place)
    return found


def clean(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] = "quarantine.csv",
    rules: str | None = None,
    embedder: str | None = None,
    progress: Reading = silent,
    **options: Any,
) -> Quarantine:
    """List the training samples that are better left out: `out`, a CSV file to edit, and a page of the same name.

    rules: of `elegan.data.curation.clean.RULES`, separated by commas; by default all that can be applied. embedder: as
    in `evaluate`, to tell classes apart. options: thresholds, and how the data is read. Nothing is changed or moved.
    Raises `OptionError` on a rule that is none, `ResourceError` before the work if `out` cannot be written.
    """
    form, limits = split_options(options)
    thresholds, path = cleaning.Thresholds.of(limits), Path(out).expanduser()
    if path.suffix != ".csv":
        raise OptionError(f"--out {str(out)!r} is no .csv file.")
    writable(path.parent)
    chosen = cleaning.RULES if rules is None else tuple(rule.strip() for rule in rules.split(",") if rule.strip())
    found = cleaning.clean(os.fspath(data), form, thresholds, rules=chosen, embedder=embedder, progress=progress)
    with refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        cleaning.write(found, path)
        write_whole(path.with_suffix(".html"), inspection_page.quarantine_page(found).encode())
    return found


def set_aside(
    data: str | os.PathLike[str], names: str | os.PathLike[str], to: str | os.PathLike[str], **options: Any
) -> tuple[int, list[str]]:
    """Move the files of the samples on a list, as `clean` writes it, out of a folder; see `data.curation.aside`."""
    listed = read_names(Path(names).expanduser())
    return aside.set_aside(listed, os.fspath(data), Path(to).expanduser(), form=Form.of(options))


def put_back(data: str | os.PathLike[str], place: str | os.PathLike[str]) -> int:
    """Put back into a folder what `set_aside` moved out of it; how many files that were."""
    return aside.put_back(os.fspath(data), Path(place).expanduser())


def augment(
    data: str | os.PathLike[str],
    *,
    augment: str = "",
    strength: float | None = None,
    draws: int = 9,
    images: int = 6,
    seed: int = 0,
    out: str | os.PathLike[str] = "augmented.png",
    **options: Any,
) -> Path:
    """Write a sheet of what an augmentation does to some images of the data; see `elegan.view.augmented.augmented`.

    augment: a preset or names; none shows each augmentation in a row. images: rows, where it does not.
    options: how the data is read, see `elegan.data.form.Form`.
    """
    if Path(out).suffix != ".png":
        raise OptionError(f"--out {str(out)!r} is no .png file.")
    writable(Path(out).parent)
    source = sources.few(data, max(1, images), form=Form.of(options))
    field = next((name for name, about in source.spec.items() if about.kind == "image"), None)
    if field is None:
        raise DataError(f"{source.name!r} has no images to augment.")
    rows = eight_bits(source.spec[field], source.arrays[field][:images])
    sheet = augmented(rows, augment, strength, draws=max(1, draws), seed=seed)
    with refusing(Path(out)):
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        return save_png(sheet, Path(out), {"augment": augment})


def scorable(score: int) -> None:
    """Raise `OptionError` unless `score` is a number of samples one can score."""
    if type(score) is not int or score < 0 or score == 1:
        raise OptionError(f"--score {score!r} is no number of samples; 2000 is a good one, 0 scores none.")


def new_run(out: str | os.PathLike[str] | None, game: str, plan: Plan) -> RunDirectory:
    """Make the run directory and record the plan in it."""
    stem = f"{game}-{Path(plan['data']['name']).stem or 'data'}"
    run = RunDirectory.create(out if out is not None else free_name(Path("runs"), stem))
    run.write_options(plan)
    return run


__all__ = [
    "Comparison", "Evaluation", "Inspection", "Model", "Quarantine", "Samples", "apply", "ask", "clean", "compare",
    "convert", "evaluate", "inspect", "load", "page", "prepare", "put_back", "resume", "sample", "set_aside", "train",
]  # fmt: skip
