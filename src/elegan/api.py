"""One function per verb. The command line and every other front end only translate to these.

model = elegan.train("dcgan", "digits", steps=2000)
model.sample(64)
"""

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import elegan
from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.codec import codec_of
from elegan.data.source import Source
from elegan.data.sources import known_data, open_data
from elegan.errors import CheckpointError, DataError, ElegantError, OptionError, ResourceError, nearest
from elegan.exporting import track as track_room
from elegan.exporting.pictures import classes_of, draw_pictures, interpolation_of
from elegan.exporting.samples import GridListener, Samples, shown_rows
from elegan.game import Game
from elegan.options import check_names
from elegan.run import checkpoint
from elegan.run.directory import RunDirectory, free_name
from elegan.run.events import EventLog
from elegan.run.saving import Checkpointer, copy_named, load_into, named_state
from elegan.run.signals import StopSignals
from elegan.spec import Spec
from elegan.tasks.generate import draw
from elegan.tasks.moves import one_sided
from elegan.tasks.translate import translate
from elegan.training import precision as precision_room
from elegan.training.distributed import World, joined, world
from elegan.training.loop import Change, Event, State
from elegan.training.loop import train as events
from elegan.training.precision import Choice
from elegan.training.seeds import seed_at
from elegan.training.still import Still
from elegan.training.turns import steps_for
from elegan.view import page as page_room

Listener = Callable[[Event], Change | None]
Plan = dict[str, Any]

DEFAULT_GAME, DEFAULT_DATA = "cgan", "digits"
TRAINING = {"batch": 64, "steps": 10_000, "half_life_images": 20_000}  # where neither a game nor a preset says more
LASTING = ("batch", "shards", "seed", "half_life_images")  # of the training, what no resume may change


class Model:
    """A trained game: what a run directory gives back. Draws from the averaged players."""

    def __init__(self, run: RunDirectory, plan: Plan, game: Game, step: int, stopped_by: str = ""):
        self.run, self.plan, self.game, self.step, self.stopped_by = run, plan, game, step, stopped_by

    def __repr__(self) -> str:
        return f"Model({self.game.name} on {self.plan['data']['name']}, {self.step} steps, {self.run.path})"

    def sample(self, n: int = 64, *, seed: int = 0, label: Any = None, **options: Any) -> Samples:
        """Draw `n` samples. Sample k of a seed is the same whatever `n` is.

        label: a class, a sequence of n classes, or None. options: what the game's `sample` takes besides.
        Raises `OptionError` for what the game does not know.
        """
        file = zoo.describe(self.plan["game"])
        known = {o.name: o for o in file.sample_options}
        given = dict(options) if label is None else {"label": label, **options}
        for name in given:
            if name not in known:
                raise OptionError(f"{file.name} samples know no {name!r}.{nearest(name, known)}")
        drawn = draw(self.game, n, seed=seed, **given)
        values = codec_of(self.game.spec["real"]).decode(drawn)
        facts = {**self.facts(), "seed": seed, **given}
        return Samples(values, self.game.spec["real"], facts)

    def interpolate(self, rows: int = 8, steps: int = 10, *, seed: int = 0, label: Any = None) -> Samples:
        """Walk through the noise: row k goes from sample k of `seed` to sample k of the next seed in so many steps.

        label: a class for all rows, a sequence of one for each, or None for one after the other.
        Raises `OptionError` for a game that draws no samples from noise.
        """
        return interpolation_of(self.game, self.facts(), rows, steps, seed=seed, label=label)

    def classes(self, columns: int = 10, *, seed: int = 0) -> Samples:
        """Draw every class in a row of its own, with the same noise down a column.

        Raises `OptionError` for a game that knows no labels.
        """
        return classes_of(self.game, self.facts(), columns, seed=seed)

    def translate(self, images: np.ndarray, *, direction: str = "ab") -> Samples:
        """Translate raw images, uint8 (N, C, H, W), from one side to the other."""
        source, target = direction if direction in ("ab", "ba") else ("a", "b")
        encoded = codec_of(self.game.spec[source]).encode(torch.from_numpy(np.ascontiguousarray(images)))
        values = codec_of(self.game.spec[target]).decode(translate(self.game, encoded, direction=direction))
        return Samples(values, self.game.spec[target], {**self.facts(), "direction": direction})

    def facts(self) -> dict[str, object]:
        """What is written into every picture of this model."""
        return {"game": self.plan["game"], "data": self.plan["data"]["name"], "step": self.step}


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
    size: int | None = None,
    half_life_images: int | None = None,
    until_still: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    track: str | None = None,
    listeners: Iterable[Listener] = (),
    progress: Callable[[RunDirectory, Plan], Listener] | None = None,
    **options: Any,
) -> Model:
    """Train a game on some data and return the model; everything is kept in a run directory.

    game: a name from the zoo. data: a bundled name or a path. out: the run directory, by default `runs/GAME-DATA-001`.
    steps: training steps; images: real images to show instead. batch: samples a step; shards: equal parts of it.
    seed: of all randomness. preset: named settings of the game; by default those called like the data, if any.
    size: resize images to this side. half_life_images: of the moving average. until_still: stop below this relative
    change of the parameters per thousand steps. device, threads, precision: by default chosen by a short probe.
    track: trackers that follow the run into RUN/track/, by name, separated by commas: "tensorboard".
    listeners: called with every event; what they return steers the training. options: the game's own.

    Raises `ElegantError`s in one line; see `elegan.errors`.
    """
    file = zoo.describe(game)
    check_names((option.name for option in file.options), options, game)  # before anything is opened or built
    trackers = track_room.chosen(track)
    source = open_data(data, size=size)
    chosen = zoo.settings(game, preset, options, str(data), source.spec.kind)
    asked = {"batch": batch, "half_life_images": half_life_images, "steps": steps}
    training = {**TRAINING, **chosen.training, **{n: v for n, v in asked.items() if v is not None}}
    for name, value in {**training, "shards": shards, "images": images, "until_still": until_still}.items():
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
        "data": recorded_data(data, source, size),
        "spec": source.spec.to_json(),
        "training": {**training, "images": images, "shards": shards, "seed": seed, "until_still": until_still},
        "compute": precision_room.describe(choice),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    with joined(choice.device) as peers:
        peers.shards(shards)
        trainee = build(plan, source.spec, choice)
        batches = Batches(source, rows=training["batch"] // shards, shards=shards, device=choice.device)
        if images is not None:
            plan["training"]["steps"] = steps_for(trainee, images, training["batch"])
        run = first_makes(peers, lambda: new_run(out, game, plan))
        return fit(run, plan, trainee, batches, None, listeners, progress, trackers)


def resume(
    run: str | os.PathLike[str],
    *,
    steps: int | None = None,
    track: str | None = None,
    listeners: Iterable[Listener] = (),
    progress: Callable[[RunDirectory, Plan], Listener] | None = None,
) -> Model:
    """Go on with a run where its newest whole checkpoint stands, to the bit as if it had never stopped.

    steps: a new total, at least what the run was made for; nothing else of a run can change. track: as in `train`.
    Raises `CheckpointError` if there is no whole checkpoint, `DataError` if the data is not what it was.
    """
    trackers = track_room.chosen(track)
    directory = RunDirectory.open(run)
    plan = directory.read_options()
    training = plan["training"]
    if steps is not None and steps < training["steps"]:
        raise OptionError(
            f"--steps {steps} is less than the {training['steps']} this run was made for; it can only be raised."
        )
    found = checkpoint.newest(directory.checkpoints)
    unchanged(directory, plan, found)
    source = open_data(plan["data"]["path"] or plan["data"]["name"], size=plan["data"]["size"])
    if source.fingerprint != plan["data"]["fingerprint"]:
        raise DataError(
            f"the data {plan['data']['name']!r} has changed since {directory.path} was made: "
            f"fingerprint {source.fingerprint[:12]}… now, {plan['data']['fingerprint'][:12]}… then. Train a new run."
        )
    choice = Choice(**plan["compute"])
    device = "cuda" if choice.device.startswith("cuda") and "LOCAL_RANK" in os.environ else choice.device
    choice = replace(choice, device=precision_room.choose(device, choice.precision, choice.threads).device)
    with joined(choice.device) as peers:
        peers.shards(training["shards"])
        trainee = build(plan, source.spec, choice)
        rows = training["batch"] // training["shards"]
        batches = Batches(source, rows=rows, shards=training["shards"], device=choice.device)
        training["steps"] = steps or training["steps"]
        return fit(directory, plan, trainee, batches, found, listeners, progress, trackers)


def load(run: str | os.PathLike[str]) -> Model:
    """The model of a run, from its newest whole checkpoint and nothing else, on the CPU in float32."""
    directory = RunDirectory.open(run)
    plan = directory.read_options()
    found = checkpoint.newest(directory.checkpoints, trained=True)
    game = zoo.build(plan["game"], Spec.from_json(plan["spec"]), **from_json(plan["options"]))
    copy_named(named_state(game), found.tensors["average"], found)
    for name, value in from_json(found.facts["state"]["changes"]).items():
        if name in game.options:
            setattr(game, name, value)
    game.eval().requires_grad_(False)
    game.step, game.images = found.step, found.facts["state"]["images"]
    game.before()
    return Model(directory, plan, game, found.step)


def sample(
    run: str | os.PathLike[str], n: int = 64, *, seed: int = 0, label: int | None = None, **options: Any
) -> Samples:
    """Draw `n` samples from a run: `elegan.load(run).sample(n, …)`."""
    return load(run).sample(n, seed=seed, label=label, **options)


def apply(run: str | os.PathLike[str], data: str | os.PathLike[str], *, direction: str = "ab") -> Samples:
    """Translate the images at a path by a run: `elegan.load(run).translate(images)`, resized to what the run knows."""
    model = load(run)
    side = "a" if direction == "ab" else "b"
    if "translation" not in model.game.tasks:
        raise OptionError(f"{model.game.name} does not translate; its tasks are {', '.join(model.game.tasks)}.")
    size = model.plan["data"]["size"]
    source = open_data(data, size=size)
    if "real" not in source.spec:
        raise DataError(f"{str(data)!r} has fields {', '.join(source.spec)}; give a folder of images of one side.")
    wanted, given = model.game.spec[side].shape, source.arrays["real"].shape[1:]
    if tuple(wanted) != tuple(given):
        raise DataError(f"{str(data)!r} holds images of shape {given}, the run was trained on {wanted}.")
    return model.translate(source.arrays["real"], direction=direction)


def page(run: str | os.PathLike[str]) -> Path:
    """Write the page of a run anew, RUN/index.html, and return its path.

    Raises `CheckpointError` if there is no run, `ResourceError` if the disk refuses.
    """
    try:
        return page_room.write(RunDirectory.open(run))
    except OSError as error:
        raise ResourceError(f"{error.filename or run} cannot be written ({error.strerror}): make room.") from error


def build(plan: Plan, spec: Spec, choice: Choice) -> Game:
    """The game of a plan with its first weights, placed on the device of a choice and in its precision."""
    choice.apply()
    seed_at(torch.device("cpu"), plan["training"]["seed"], "init")
    game = zoo.build(plan["game"], spec, **from_json(plan["options"]))
    precision_room.place(game, choice)
    return game


def fit(
    run: RunDirectory,
    plan: Plan,
    game: Game,
    batches: Batches,
    found: checkpoint.Checkpoint | None,
    listeners: Iterable[Listener],
    progress: Callable[[RunDirectory, Plan], Listener] | None,
    trackers: Iterable[track_room.MakesTracker] = (),
) -> Model:
    """Train or go on training, under the run's lock, with its log, checkpoints and grids; always save at the end."""
    training, peers = plan["training"], world()
    state = State.fresh(game, half_life_images=training["half_life_images"])
    still = Still(training["until_still"]) if training["until_still"] is not None else None
    first = peers.rank == 0
    if found is not None:
        load_into(game, state, found)
        if still is not None:
            still.before = {n: torch.from_numpy(t).to(game.device) for n, t in found.tensors.get("still", {}).items()}
    with StopSignals() as signals:
        if not first:
            heard: list[Listener] = [signals, *([still] if still else [])]
            follow(game, batches, training, state, heard)
            return Model(run, plan, state.average.game, state.step, signals.received)
        with run.held(), page_room.Page(run) as page, track_room.following(trackers, run, plan) as followers:
            if found is not None and run.read_options()["training"] != training:
                run.write_options(plan)
            log = EventLog(run.events_file, followers)
            manifest = {"game": plan["game"], "options": plan["options"], "fingerprint": plan["data"]["fingerprint"]}
            manifest |= {"training": {n: training[n] for n in LASTING}, "versions": plan["versions"]}
            saver = Checkpointer(run, log, manifest, still)
            facts = {"game": plan["game"], "data": plan["data"]["name"]}
            shown = batches(training["seed"], 0, 0, shown_rows(game.spec, batches.rows))
            grids = GridListener(run.samples, facts, shown, training["seed"])
            log.write("resumed" if found else "started", step=state.step, game=plan["game"], compute=plan["compute"])
            page.write()
            if found is None:
                saver.save(game, state)  # so that a run can be resumed from its first moment on
                grids.draw(state.average.game, 0)
            # the saver keeps what `still` knows, and so comes after it
            heard = [log, grids, page, *([still] if still else []), saver, signals, *listeners]
            if progress is not None:
                heard.append(progress(run, plan))
            try:
                follow(game, batches, training, state, heard, log)
            except KeyboardInterrupt:
                raise  # a second Ctrl-C: the last checkpoint has to do
            except BaseException as error:
                log.write("stopped", step=state.step, by=type(error).__name__)
                if state.whole:
                    saver.save(game, state)
                raise
            finally:
                for listener in heard:
                    getattr(listener, "close", lambda: None)()
            saver.save(game, state)
            grids.draw(state.average.game, state.step)
            log.write("stopped", step=state.step, by=signals.received or "end")
            choice = replace(Choice(**plan["compute"]), device=str(game.device))
            pictures = draw_pictures(
                run.path / "pictures", run.samples, state.average.game, shown, {**facts, "step": state.step},
                training["seed"], lambda: one_sided(build(plan, game.spec, choice), batches, seed=training["seed"]),
            )  # fmt: skip
            while not signals.received and next(pictures, None) is not None:  # whoever stops a run waits for no picture
                pass
    return Model(run, plan, state.average.game, state.step, signals.received)


def follow(
    game: Game,
    batches: Batches,
    training: Mapping[str, Any],
    state: State,
    listeners: Iterable[Listener],
    log: EventLog | None = None,
) -> None:
    """Run the loop to its end: every listener hears every event, and what they return goes back together."""
    running = events(game, batches, training["steps"], seed=training["seed"], state=state)
    change: dict[str, Any] | None = None
    while True:
        try:
            event = running.send(change)
        except StopIteration:
            return
        change = {}
        for listener in listeners:
            change.update(listener(event) or {})
        noted = {name: value for name, value in change.items() if name != "stop" or value}
        if noted and log is not None:
            log.write("change", step=event.step, change=noted)


def first_makes(peers: World, make: Callable[[], Any]) -> Any:
    """Let the first rank do something once, and tell the others how it went."""
    made: Any = None
    if peers.rank == 0:
        try:
            made = make()
        except ElegantError as error:
            made = error
    made = peers.gather(made)[0]
    if isinstance(made, ElegantError):
        raise made
    return made


def new_run(out: str | os.PathLike[str] | None, game: str, plan: Plan) -> RunDirectory:
    """Make the run directory and record the plan in it."""
    stem = f"{game}-{Path(plan['data']['name']).stem or 'data'}"
    run = RunDirectory.create(out if out is not None else free_name(Path("runs"), stem))
    run.write_options(plan)
    return run


def recorded_data(data: str | os.PathLike[str], source: Source, size: int | None) -> dict[str, Any]:
    """What a run remembers of its data: enough to open it again and to notice a change."""
    path = "" if str(data) in known_data() else str(Path(data).expanduser().resolve())
    return {
        "name": str(data), "path": path, "split": "train", "size": size, "count": len(source), "about": source.about,
        "fingerprint": source.fingerprint,
    }  # fmt: skip


def unchanged(run: RunDirectory, plan: Plan, found: checkpoint.Checkpoint) -> None:
    """Raise `CheckpointError` with the difference if the options were edited since a checkpoint was written."""
    pairs = [("game", plan["game"], found.facts["game"])]
    for part in ("options", "training"):
        pairs += [(f"{part}.{n}", plan[part].get(n), was) for n, was in found.facts[part].items()]
    for name, now, was in pairs:
        if now != was:
            raise CheckpointError(
                f"{run.options_file} says {name} is {now!r}, but it was {was!r} when {found.path.name} was written: "
                "put it back, or train a new run."
            )


def from_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON gives them back: its lists are the tuples they were."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


__all__ = ["Model", "Samples", "apply", "load", "page", "resume", "sample", "train"]
