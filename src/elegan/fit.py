"""One training in its run directory: under the run's lock, with its log, checkpoints, pictures and page; and its way
back from trouble."""

import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch

from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.form import Form
from elegan.errors import CheckpointError, DivergenceError, ElegantError
from elegan.exporting import track as track_room
from elegan.exporting.pictures import draw_pictures
from elegan.exporting.samples import GridListener, shown_rows
from elegan.game import Game
from elegan.model import Model, from_json
from elegan.run import checkpoint
from elegan.run.directory import Plan, RunDirectory
from elegan.run.events import EventLog, decided
from elegan.run.saving import Checkpointer, Memory, abandon, go_back, load_into, tries
from elegan.run.signals import StopSignals
from elegan.scoring.best import Best
from elegan.spec import Spec
from elegan.tasks.moves import one_sided
from elegan.training import precision as precision_room
from elegan.training.alarms import Alarm, Alarms
from elegan.training.distributed import World, world
from elegan.training.loop import Change, Event, State
from elegan.training.loop import train as events
from elegan.training.precision import Choice
from elegan.training.probe import held_out
from elegan.training.seeds import seed_at
from elegan.training.still import Still
from elegan.view import page as page_room

Listener = Callable[[Event], Change | None]
LASTING = ("batch", "shards", "seed", "half_life_images")  # of the training, what no resume may change
TRIES = 3  # rollbacks that do not get a training past its trouble, before it is given up


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
    memories: list[Any] = [Still(training["until_still"])] if training["until_still"] is not None else []
    alarms = alarms_of(plan, game, batches)
    memories.append(alarms)
    course = Course(run, plan, game, batches, state, memories)
    if found is not None:
        load_into(game, state, found, memories)
        course.take_up(decided(run.events_file, state.step))
    with StopSignals() as signals:
        if peers.rank > 0:
            course.follow([signals, *memories])
            return Model(run, plan, state.average.game, state.step, signals.received)
        with run.held(), page_room.Page(run) as page, track_room.following(trackers, run, plan) as followers:
            if found is not None and (run.options_fault() or run.read_options()["training"] != training):
                run.write_options(plan)
            log = EventLog(run.events_file, followers)
            alarms.tell = partial(told, log)
            saver = Checkpointer(run, log, {"plan": plan}, memories, training.get("keep", 2))
            best = Best(run, plan, score, saver, log) if score else None
            facts = {"game": plan["game"], "data": plan["data"]["name"]}
            shown = batches(training["seed"], 0, 0, shown_rows(game.spec, batches.rows))
            grids = GridListener(run.samples, facts, shown, training["seed"])
            log.write("resumed" if found else "started", step=state.step, game=plan["game"], compute=plan["compute"])
            page.write()
            if found is None:
                saver.save(game, state)  # so that a run can be resumed from its first moment on
                grids.draw(state.average.game, 0)
            # the savers keep what the memories know, and so come after them
            heard = [log, grids, page, *memories, *([best] if best else []), saver, signals, *listeners]
            if progress is not None:
                heard.append(progress(run, plan))
            try:
                course.follow(heard, log, saver)
            except KeyboardInterrupt:
                raise  # a second Ctrl-C: the last checkpoint has to do
            except BaseException as error:
                trace = {} if isinstance(error, ElegantError) else {"trace": traceback.format_exc()}
                log.write("stopped", step=state.step, by=type(error).__name__, **trace)
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


def alarms_of(plan: Plan, game: Game, batches: Batches) -> Alarms:
    """What looks after a training; held-out data is the test split of its data, if there is one."""
    training, data = plan["training"], plan["data"]
    held = held_out(data["path"] or data["name"], Form.of(data["form"]), batches)
    return Alarms(game, batches, held_out=held, seed=training["seed"], rescue=training.get("rescue", False))


def told(log: EventLog, alarm: Alarm) -> None:
    """Log an alarm, and warn of one that is raised."""
    log.write("alarm", **asdict(alarm))
    if alarm.why:
        warnings.warn(str(alarm), stacklevel=2)


@dataclass
class Course:
    """A training that follows its loop and, where that diverges, goes back to the last healthy checkpoint."""

    run: RunDirectory
    plan: Plan
    game: Game
    batches: Batches
    state: State
    memories: Sequence[Memory]
    change: dict[str, Any] = field(default_factory=dict)  # to begin with

    def take_up(self, lines: Iterable[dict[str, Any]]) -> None:
        """Take up what was decided at this step and is in no checkpoint; see `events.decided`."""
        for line in lines:
            try:
                if line["kind"] == "rollback":
                    self.state.stream, self.state.rollbacks = int(line["stream"]), int(line["rollbacks"])
                    self.state.trouble, self.state.changes = int(line["trouble"]), dict(line["changes"])
                    self.change = {}  # what was asked for before is among the changes, or has been overtaken
                else:
                    self.change |= {name: value for name, value in line["change"].items() if name != "stop"}
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                where = f"{self.run.events_file}, step {self.state.step}"
                raise CheckpointError(f"{where}: a line of kind {line['kind']} is damaged ({error!r}).") from error

    def follow(
        self, listeners: Sequence[Listener], log: EventLog | None = None, saver: Checkpointer | None = None
    ) -> None:
        """Run the loop to its end. Raises `DivergenceError` once `TRIES` rollbacks have not got past a trouble."""
        while True:
            try:
                return self._to_the_end(listeners, log)
            except DivergenceError as error:
                self._go_back(error, log, saver)

    def _to_the_end(self, listeners: Sequence[Listener], log: EventLog | None) -> None:
        """Every listener hears every event, and what they return goes back together."""
        steps, seed = self.plan["training"]["steps"], self.plan["training"]["seed"]
        running = events(self.game, self.batches, steps, seed=seed, state=self.state, change=self.change)
        self.change = {}
        change: dict[str, Any] | None = None
        while True:
            try:
                event = running.send(change)
            except StopIteration:
                return
            change = {}
            for listener in listeners:
                asked = dict(listener(event) or {})
                noted = {name: value for name, value in asked.items() if name != "stop" or value}
                if noted and log is not None:  # at once: a memory's change before the checkpoint that takes it for made
                    log.write("change", step=event.step, change=noted)
                change |= asked

    def _go_back(self, error: DivergenceError, log: EventLog | None, saver: Checkpointer | None) -> None:
        state, folder = self.state, self.run.checkpoints
        if tries(state) >= TRIES:
            raise DivergenceError(f"{error} {TRIES} rollbacks did not help, each with other noise.") from error
        step = first_makes(world(), lambda: checkpoint.newest(folder, healthy=True).step)
        go_back(self.game, state, checkpoint.at(folder, step), self.memories)
        if saver is not None and log is not None:
            abandon(folder, step)
            saver.saved_step = step
            told = {"stream": state.stream, "rollbacks": state.rollbacks, "trouble": state.trouble}
            log.write("rollback", step=step, why=str(error), changes=state.changes, **told)
            slower = f", with rates × {state.changes['rates']:g}" if "rates" in state.changes else ""
            warnings.warn(f"{error} Going on from step {step:,} with other noise{slower}.", stacklevel=2)


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
