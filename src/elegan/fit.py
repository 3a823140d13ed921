"""One training in its run directory: under the run's lock, with its log, checkpoints, pictures and page."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from elegan import zoo
from elegan.data.batches import Batches
from elegan.errors import ElegantError
from elegan.exporting import track as track_room
from elegan.exporting.pictures import draw_pictures
from elegan.exporting.samples import GridListener, shown_rows
from elegan.game import Game
from elegan.model import Model, from_json
from elegan.run import checkpoint
from elegan.run.directory import Plan, RunDirectory
from elegan.run.events import EventLog
from elegan.run.saving import Checkpointer, load_into
from elegan.run.signals import StopSignals
from elegan.scoring.best import Best
from elegan.spec import Spec
from elegan.tasks.moves import one_sided
from elegan.training import precision as precision_room
from elegan.training.distributed import World, world
from elegan.training.loop import Change, Event, State
from elegan.training.loop import train as events
from elegan.training.precision import Choice
from elegan.training.seeds import seed_at
from elegan.training.still import Still
from elegan.view import page as page_room

Listener = Callable[[Event], Change | None]
LASTING = ("batch", "shards", "seed", "half_life_images")  # of the training, what no resume may change


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
    score: int = 0,
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
            best = Best(run, plan, score, saver, log) if score else None
            facts = {"game": plan["game"], "data": plan["data"]["name"]}
            shown = batches(training["seed"], 0, 0, shown_rows(game.spec, batches.rows))
            grids = GridListener(run.samples, facts, shown, training["seed"])
            log.write("resumed" if found else "started", step=state.step, game=plan["game"], compute=plan["compute"])
            page.write()
            if found is None:
                saver.save(game, state)  # so that a run can be resumed from its first moment on
                grids.draw(state.average.game, 0)
            # the savers keep what `still` knows, and so come after it
            heard = [
                log,
                grids,
                page,
                *([still] if still else []),
                *([best] if best else []),
                saver,
                signals,
                *listeners,
            ]
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
            if best and not signals.received:
                best.score(game, state)
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
