"""Alarms: a listener that says in plain words what goes wrong in a training, and what to do; or does it.

A probe looks at the training every hundred steps, rules judge what it has read, remedies name the options that help.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from elegan.data.batches import Batches
from elegan.game import Game
from elegan.training.distributed import world
from elegan.training.loop import Change, Event
from elegan.training.probe import EVERY, LISTENED, Probe, Reading
from elegan.training.remedies import Place, in_words, remedies
from elegan.training.rules import RULES, Rule, Series, Standing

PAUSE, TIMES = 10, 3  # readings between two remedies of one alarm, and how often a rescue applies any


@dataclass(frozen=True)
class Alarm:
    """An alarm that is raised, or over: `why` is empty then. change: what a rescue does about it."""

    name: str
    step: int
    why: str = ""
    remedy: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    change: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.why:
            return f"step {self.step:,}: {self.name} is over."
        done = ["back" if name == "rollback" else f"{name} = {value}" for name, value in self.change.items()]
        rescue = f"; rescue: {', '.join(done)}" if done else ""
        return f"step {self.step:,}, {self.name}: {self.why}; {self.remedy}{rescue}."


class Alarms:
    """Listens to a training, and raises alarms. A memory: what a checkpoint keeps of it are `tensors`.

    held_out: batches of data that is not trained on, for the judge's overfitting; without them that alarm is silent.
    rescue: return the remedy of an alarm as a change. tell: called with every alarm raised, and over.
    An alarm that is on is an ailment of the state, so that no checkpoint of it is taken for healthy. Of several
    processes the first looks.
    """

    name = "alarms"

    def __init__(
        self,
        game: Game,
        batches: Batches,
        *,
        held_out: Batches | None = None,
        seed: int = 0,
        rescue: bool = False,
        tell: Callable[[Alarm], None] = lambda alarm: None,
    ):
        self.rescue, self.tell = rescue, tell
        self.probe = Probe(game, batches, held_out, seed=seed) if world().rank == 0 else None
        self.recall({})

    def __call__(self, event: Event) -> Change | None:
        if self.probe is None:
            return None
        if event.step % LISTENED == 0:
            self.probe.listen(event)
        if event.step % EVERY and event.step != 1:
            return None
        self.series.add(self.probe.read(event))
        change: dict[str, Any] = {}
        for rule in RULES:
            standing, why = self.standings[rule.name], rule.why(self.series)
            turned = standing.take(rule, bool(why))
            (event.state.ailments.add if standing.on else event.state.ailments.discard)(rule.name)
            if turned and not standing.on:
                self.tell(Alarm(rule.name, event.step))
            elif turned or (why and self._again(rule, event)):
                change |= self._raise(rule, why, event)
        return change or None

    def _again(self, rule: Rule, event: Event) -> bool:
        """Whether an alarm that is on is due for another remedy."""
        standing = self.standings[rule.name]
        return self.rescue and standing.on and standing.times < TIMES and event.step - standing.last >= PAUSE * EVERY

    def _raise(self, rule: Rule, why: str, event: Event) -> dict[str, Any]:
        """Tell of an alarm with its remedies. What a rescue changes: by one of them, each time by the next."""
        found, standing = remedies(rule.name, Place.of(event)), self.standings[rule.name]
        change: dict[str, Any] = {}
        if self.rescue and standing.times < TIMES:
            able = [remedy.change for remedy in found if remedy.change]
            change |= able[standing.times % len(able)] if able else {}
            if rule.name == "collapse" and not event.state.rollbacks:
                change["rollback"] = why  # comes last: the loop goes no further
            standing.times, standing.last = standing.times + 1, event.step
        figures = {name: round(v, 4) for name, v in self.series.readings[-1]._asdict().items() if not math.isnan(v)}
        self.tell(Alarm(rule.name, event.step, why, in_words(found, event.game), figures, change))
        return change

    def tensors(self) -> dict[str, Tensor]:
        """The readings, where each rule stands, and what the probe needs of the past."""
        if self.probe is None:
            return {}
        standings = [[int(value) for value in vars(self.standings[rule.name]).values()] for rule in RULES]
        return {
            "readings": torch.tensor(self.series.readings, dtype=torch.float64).view(-1, len(Reading._fields)),
            "standings": torch.tensor(standings),
            **self.probe.tensors(),
        }

    def recall(self, tensors: dict[str, Tensor]) -> None:
        """Stand where `tensors` were taken; at the beginning if there are none."""
        readings = tensors["readings"].tolist() if tensors else []
        self.series = Series(Reading(*row) for row in readings)
        self.standings = {rule.name: Standing() for rule in RULES}
        if tensors:
            rows = tensors["standings"].tolist()
            self.standings = {
                rule.name: Standing(held, quiet, bool(on), times, last)
                for rule, (held, quiet, on, times, last) in zip(RULES, rows, strict=True)
            }
        if self.probe is not None:
            self.probe.recall(tensors)
