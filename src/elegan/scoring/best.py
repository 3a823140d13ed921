"""Scores while a game trains, and the checkpoint of the best one kept. Costs a few hundredths of the time."""

import json
import math
import time
import warnings

from elegan.data.form import Form
from elegan.disk import write_synced
from elegan.embedders import Embedder
from elegan.errors import DataError, ElegantError
from elegan.game import Game
from elegan.metrics.evaluation import measure
from elegan.metrics.features import Features, Set, features_of
from elegan.metrics.protocol import Score
from elegan.run.directory import BEST, Plan, RunDirectory
from elegan.run.events import EventLog
from elegan.run.saving import Checkpointer
from elegan.scoring.evaluate import Evaluation, embedder_for, game_set, referred, written
from elegan.training.distributed import World
from elegan.training.loop import Event, State

FIRST_SECONDS = 15.0
SHARE = 0.03  # of the time that scores may cost


class Best:
    """A listener that scores `count` samples of the average now and then by the Fréchet distance, and keeps the best.

    RUN/scores.jsonl has every score, RUN/best.json the step of the best, whose checkpoint stays. The reference is the
    data's test split, or the data itself. A score that cannot be had is said once and never ends a training.
    """

    def __init__(self, run: RunDirectory, plan: Plan, count: int, saver: Checkpointer, log: EventLog):
        self.run, self.count, self.saver, self.log = run, count, saver, log
        self.begun = time.monotonic()
        self.spent = self.cost = 0.0
        self.step = -1
        self._failed = False
        self.reference: tuple[Embedder, Features] | None = None
        self.value: float | None = None
        data = plan["data"]
        try:
            reference = referred(data["path"] or data["name"], None, Form.of(data["form"]))
            embedder = embedder_for(None, None, reference)
            assert isinstance(reference.compared, Set)
            self.reference = embedder, features_of(reference.compared, embedder, keep=True, peers=World())
            self.value = self._kept()
        except (ElegantError, ValueError, OSError) as error:
            warnings.warn(f"{data['name']} can be no reference ({error}); training goes on unscored.", stacklevel=2)

    def __call__(self, event: Event) -> None:
        elapsed = time.monotonic() - self.begun
        if elapsed > FIRST_SECONDS and self.spent + self.cost <= SHARE * elapsed:
            self.score(event.game, event.state)

    def score(self, game: Game, state: State) -> Score | None:
        """Score now, unless this step is scored; None if that cannot be done."""
        if self.step == state.step or self.reference is None:
            return None
        self.step, start = state.step, time.monotonic()
        try:
            return self._score(game, state)
        except (ElegantError, ValueError, OSError) as error:
            if not self._failed:
                warnings.warn(f"step {state.step:,} has no score ({error}); training goes on.", stacklevel=2)
            self._failed = True
            return None
        finally:
            self.cost = time.monotonic() - start
            self.spent += self.cost

    def _score(self, game: Game, state: State) -> Score:
        assert self.reference is not None
        embedder, real = self.reference
        subject = f"{self.run.path}, step {state.step:,}"
        samples = game_set(subject, state.average.game, self.count, 0)
        drawn = features_of(samples, embedder, peers=World())  # by this process alone: the others train on
        (score,) = measure(["fd"], subject, drawn, real, embedder, beside=False)
        if score.value is None:
            raise DataError(score.note)
        written(self.run.path, Evaluation(subject, [score]), state.step)
        self.log.write("score", step=state.step, scores={score.label: float(f"{score.value:.6g}")})
        if (self.value is None or score.value < self.value) and not state.ails():
            self.value = score.value
            self.saver.save(game, state)
            self._keep(state.step, score)
        return score

    def _keep(self, step: int, score: Score) -> None:
        """Name the best checkpoint, once it is whole on the disk."""
        record = {"step": step, "label": score.label, "value": score.value, "count": self.count}
        record["weights"] = score.protocol.weights
        write_synced(self.run.path / BEST, json.dumps(record).encode())

    def _kept(self) -> float | None:
        """The best value so far, of as many samples in the same features; None if there is none."""
        assert self.reference is not None
        embedder, _ = self.reference
        try:
            record = json.loads((self.run.path / BEST).read_text(encoding="utf-8"))
            alike = (record["count"], record["weights"]) == (self.count, embedder.sha256)
            value = float(record["value"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return value if alike and math.isfinite(value) and f"[{embedder.name}]" in record["label"] else None
