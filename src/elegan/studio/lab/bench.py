"""One game of a lab under training: built and moved exactly as `elegan train` does, a round or a single move at a time.

A bench to which nothing was changed trains bit for bit what `elegan train` trains with the same options, seed and
batch, on one thread in float32. A round is one step of the loop.
"""

import ast
import copy
import math
import platform
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import elegan
from elegan import zoo
from elegan.api import TRAINING
from elegan.data.batches import Batches
from elegan.data.form import Form
from elegan.errors import DivergenceError, OptionError, nearest, out_of_memory
from elegan.fit import build
from elegan.game import Game, Turn
from elegan.model import from_json
from elegan.run import checkpoint
from elegan.run.directory import Plan
from elegan.run.saving import load_into
from elegan.studio.lab.catalogue import layers, plain
from elegan.studio.lab.data import Points
from elegan.studio.setup import Bench as Asked
from elegan.studio.setup import Setup
from elegan.tasks.judge import side_of
from elegan.training.alarms import Alarm, Alarms
from elegan.training.loop import Event, Loop, State
from elegan.training.precision import Choice, describe
from elegan.training.probe import held_out
from elegan.training.turns import batches_per_step, phase_at, turn_name

LARGEST = 2_000_000  # parameters of all players
MOST_MOVES = 1_000  # of a round
SLOW = 2.0  # seconds of a round, from which on it is said
KEPT = 2_000  # rounds whose terms are remembered, at most
CHOICE = Choice("cpu", "fp32", 1, "as the lab does")


def planned(asked: Asked, points: Points, setup: Setup, training: Mapping[str, int]) -> Plan:
    """What a run of this bench would record of itself, but for its data. Raises `OptionError` for what is no game."""
    source = points.source
    name = source.name if points.bundled else ""
    chosen = zoo.settings(asked.game, asked.preset, from_json(asked.options), name, source.spec.kind)
    with torch.device("meta"):
        size = sum(p.numel() for p in zoo.build(asked.game, source.spec, **chosen.options).parameters())
    if size > LARGEST:
        remedy = "make its layers narrower or fewer"
        raise OptionError(f"{asked.game} would have {size:,} parameters, the lab takes {LARGEST:,}: {remedy}.")
    return {
        "elegan": elegan.__version__,
        "game": asked.game,
        "preset": chosen.preset,
        "options": chosen.options,
        "spec": source.spec.to_json(),
        "training": {
            **TRAINING,
            **chosen.training,
            **training,
            "images": None,
            "shards": 1,
            "seed": setup.seed,
            "until_still": None,
            "score": 0,
            "rescue": False,
            "keep": 2,
        },
        "compute": describe(CHOICE),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


@dataclass
class Bench:
    """A game, its loop, and what is known of how it fares. ended: why it trains no more, or nothing.

    raised: alarms that are on, by name. event: of the last whole round. kept: (step, images, phase, terms) of the
    first hundred rounds and of each so many. changed: (step, change). gap: its duality gap when it was last asked for.
    """

    plan: Plan
    game: Game
    loop: Loop
    alarms: Alarms
    raised: dict[str, Alarm] = field(default_factory=dict)
    event: Event | None = None
    ended: str = ""
    gap: float | None = None
    changed: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    kept: list[tuple[int, int, str, dict[str, float]]] = field(default_factory=list)
    every: int = 10

    @classmethod
    def of(
        cls, plan: Plan, points: Points, choice: Choice = CHOICE, found: checkpoint.Checkpoint | None = None
    ) -> "Bench":
        """A bench at step 0, or where a checkpoint stands. Raises an `ElegantError` if it could not train."""
        training = plan["training"]
        game = build(plan, points.source.spec, choice)
        batches = Batches(points.source, rows=training["batch"] // training["shards"], shards=training["shards"])
        state = State.fresh(game, half_life_images=training["half_life_images"])
        unseen = held_out(points.source.name, Form(), batches) if points.bundled else None
        alarms = Alarms(game, batches, held_out=unseen, seed=training["seed"])
        if found is not None:
            load_into(game, state, found, [alarms])
        made = cls(plan, game, Loop(game, batches, seed=training["seed"], state=state), alarms)
        alarms.tell = made._hear
        made.tried()
        return made

    # -- moving ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.loop.state

    @property
    def average(self) -> Game:
        return self.state.average.game

    def round(self) -> None:
        """Make a round, or what is left of one that was begun."""
        if self.ended:
            return
        start = time.perf_counter()
        for turn in self.left():
            self.move(turn)
        self.end()
        if "slow" in self.raised:
            self._hear(slow(self.state.step, time.perf_counter() - start))

    def step(self, who: str) -> bool:
        """All moves of the round that a player has left, or, where it has none, as many again; `both`: all that are
        left of everyone. Does not end the round. Whether there was anything to move.

        who: D is the judge, G is everyone else.
        """
        mine = self.left()
        if who != "both":
            mine, turns = [turn for turn in mine if _is(turn, who)], self._due
            mine = mine or [turn for turn in turns if _is(turn, who) for _ in range(turn.repeat)]
        for turn in mine:
            self.move(turn)
        return bool(mine)

    def left(self) -> list[Turn]:
        """The turns of the moves that the present round still lacks; it is begun if it was not."""
        if self.state.whole:
            self._due = [turn for turn in self.loop.begin() if self.state.step % turn.every == 0]
            self._left = [turn for turn in self._due for _ in range(turn.repeat)]
            self._runs: Counter[Any] = Counter()
        return list(self._left)

    def move(self, turn: Turn) -> dict[str, Tensor]:
        """One move of a turn, and its terms."""
        self._runs[turn.loss] += 1
        if turn in self._left:
            self._left.remove(turn)
        return self.loop.advance(turn)

    def number(self, turn: Turn) -> int:
        """The number of the batch that the next move of a turn reads; see `elegan.training.loop`."""
        return self.state.step * batches_per_step(self.loop.turns) + self._runs[turn.loss]

    def end(self) -> None:
        """Finish a round all of whose turns were made. A training that has diverged ends with that."""
        try:
            self.event = self.loop.end()
            self.alarms(self.event)
        except DivergenceError as error:
            self.ended = str(error)
            return
        step = self.event.step
        if step <= 100 or step % self.every == 0:
            self.kept.append((step, self.event.images, self.event.phase, self.event.terms))
            if len(self.kept) > KEPT:
                self.every *= 2
                self.kept = [kept for kept in self.kept if kept[0] <= 100 or kept[0] % self.every == 0]

    def _hear(self, alarm: Alarm) -> None:
        if alarm.why:
            self.raised[alarm.name] = alarm
        else:
            self.raised.pop(alarm.name, None)

    # -- changing -------------------------------------------------------------------------------------------------

    def change(self, change: Mapping[str, Any]) -> None:
        """Steer the loop, all of it or nothing. Raises `OptionError` for what cannot change while it trains."""
        known = [*live(self.game.name), *self.rates(), *self._standing(), "rates"]
        for name in change:
            if name in self.game.options and name not in known:
                raise OptionError(f"{name} is fixed when {self.game.name} is built: open a lab with another value.")
            if name not in known:
                raise OptionError(f"{self.game.name} knows no change named {name!r}.{nearest(name, known)}")
        asked = from_json(change)
        self.tried(asked)
        self.loop.steer(asked)
        self.changed.append((self.state.step, dict(change)))

    def tried(self, change: Mapping[str, Any] = {}) -> None:
        """Make a round with a copy, so that what cannot train is refused before it does harm, in one sentence."""
        trial = Loop(copy.deepcopy(self.game), self.loop.batches, seed=self.loop.seed)
        start = time.perf_counter()
        try:
            trial.state.step, trial.state.images = self.state.step, self.state.images
            trial.steer({**self.state.changes, **change})
            moves = sum(turn.repeat for turn in phase_at(trial.game, self.state.step)[0].turns())
            if moves > MOST_MOVES:
                raise OptionError(f"a round of {moves:,} moves is too long to watch; {MOST_MOVES:,} are the most.")
            trial.step()
        except (ValueError, RuntimeError, TypeError, IndexError, ArithmeticError) as error:
            if out_of_memory(error):
                raise
            raise OptionError(f"{self.game.name} cannot train so: {str(error).split(chr(10), 1)[0]}") from error
        self._hear(slow(self.state.step, time.perf_counter() - start))

    def rates(self) -> dict[str, float]:
        """The learning rate of each turn by the name of the change that sets it, such as `D.lr`."""
        changes = self.state.changes
        turns = phase_at(self.game, self.state.step)[0].turns()
        names = {f"{turn_name(turn)}.lr": turn.optim.lr for turn in turns}
        return {name: changes.get(name, rate) * changes.get("rates", 1.0) for name, rate in names.items()}

    def _standing(self) -> list[str]:
        """The rates of players by themselves, also of those that stand still now."""
        return [f"{name}.lr" for name, player in self.game.named_children() if _weighs(player)]

    # -- telling --------------------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """`BenchInfo` of the page's contract, but for `judged`."""
        rates = self.rates()
        return {
            "game": self.plan["game"],
            "options": {name: plain(value) for name, value in self.options().items()},
            "players": [
                {"name": name, "layers": layers(player), "rate": next((r for r in rates if _moves(r, name)), "")}
                for name, player in self.game.named_children()
                if _weighs(player)
            ],
            "rates": rates,
            "live": live(self.game.name),
            "z_dim": self.game.options.get("z_dim", 0),
            "prior": self.game.options.get("prior", "normal"),
        }

    def options(self) -> dict[str, Any]:
        """The options as they stand now; one that the game has made a part of itself, as it was built with it."""
        now = {name: getattr(self.game, name) for name in self.game.options}
        return {n: self.game.options[n] if isinstance(value, nn.Module) else value for n, value in now.items()}

    def terms(self) -> dict[str, float]:
        """The terms of the last whole round that are finite."""
        found = {} if self.event is None else self.event.terms
        return {name: value for name, value in found.items() if math.isfinite(value)}


def slow(step: int, seconds: float) -> Alarm:
    """What to say of a round that took so long: it is over if that was not long."""
    remedy = "use narrower or fewer layers, a smaller batch, or fewer moves"
    return Alarm("slow", step, f"a round takes {seconds:.1f} seconds" if seconds > SLOW else "", remedy)


def _is(turn: Turn, who: str) -> bool:
    return (side_of(turn) == "judge") == (who == "D")


def _weighs(player: nn.Module) -> bool:
    return next(player.parameters(), None) is not None


def _moves(rate: str, player: str) -> bool:
    """Whether a rate such as `D+Q.lr` is that of a player."""
    return player in rate.removesuffix(".lr").split("+")


@cache
def live(name: str) -> list[str]:
    """The options of a game that may change while it trains: its methods read them, its constructor does not."""
    file = zoo.describe(name)
    tree = ast.parse(file.path.read_text(encoding="utf-8"))
    game = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == file.class_name)
    built, read = set[str](), set[str]()
    for method in game.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            built |= {node.id for node in ast.walk(method) if isinstance(node, ast.Name)}
        elif isinstance(method, ast.FunctionDef):
            read |= {node.attr for node in ast.walk(method) if isinstance(node, ast.Attribute)}
    return [option.name for option in file.options if option.name in read - built]
