"""The lab: benches that train in lockstep on the same data, and what they show and measure."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from elegan.errors import DataError, OptionError
from elegan.metrics.duality_gap import duality_gap
from elegan.studio import wire
from elegan.studio.lab.bench import Bench, planned
from elegan.studio.lab.data import FARTHEST, Points, read
from elegan.studio.lab.measures import POINTS, Grid, Measuring
from elegan.studio.lab.stages import STAGES, Scene, scenes
from elegan.studio.lab.start import trained
from elegan.studio.lab.views import Shown, View
from elegan.studio.setup import Setup
from elegan.training.alarms import Alarm
from elegan.training.remedies import Place, in_words, remedies
from elegan.view.plane import Window


class Lab:
    """What is open. A view, a measuring, measures and a scene belong to the bench of the same number."""

    def __init__(self, setup: Setup, points: Points, benches: Sequence[Bench], shown: Shown):
        self.setup, self.points, self.benches, self.shown = setup, points, benches, shown
        self.window = Window.around(points.source.arrays["real"])
        if not self.window.side < FARTHEST * 4:
            raise DataError("the points lie too far apart to be shown: divide them by a large number.")
        self.views = [View(bench, self.window) for bench in benches]
        grid = Grid.of(points)
        self.measuring = [Measuring(points, grid) for _ in benches]
        self.measured: list[dict[str, Any] | None] = [None for _ in benches]
        self.slow: list[Iterator[Scene]] = []
        self.scenes: list[Scene | None] = [None for _ in benches]

    @classmethod
    def of(cls, setup: Setup, shown: Shown) -> "Lab":
        """The lab of a setup. Raises an `ElegantError` in one sentence for what makes none."""
        points = read(setup.data)
        given = {"batch": setup.batch, "half_life_images": setup.half_life_images}
        training = {name: value for name, value in given.items() if value is not None}
        plans = []
        for bench in setup.benches:
            plans.append(planned(bench, points, setup, training))
            training = {name: plans[0]["training"][name] for name in given}  # the first bench's are everyone's
        starts = [trained(plan, points) if setup.trained else None for plan in plans]
        benches = [Bench.of(plan, points, found=start) for plan, start in zip(plans, starts, strict=True)]
        return cls(setup.model_copy(update=training), points, benches, shown)

    # -- training -------------------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        return max(bench.state.step for bench in self.benches)

    @property
    def training(self) -> list[Bench]:
        """The benches that have not ended."""
        return [bench for bench in self.benches if not bench.ended]

    def round(self) -> None:
        """A round of every bench that still trains, or what is left of it."""
        self.slow, self.scenes = [], [None for _ in self.benches]
        for bench in self.training:
            bench.round()

    def turn(self, who: str) -> None:
        """The moves of one player, or what is left of the round, of every bench; see `Bench.step`."""
        self.slow, self.scenes = [], [None for _ in self.benches]
        self._end()
        moved = [bench.step(who) for bench in self.training]
        self._end()
        if not any(moved):
            raise OptionError("there is no judge to move." if who == "D" else "nothing is left to move.")

    def stage(self) -> None:
        """The next stage of every bench's round; one that has come to its end waits for the others."""
        for _ in range(2):
            found = [next(left, None) for left in self.slow]
            if any(found):
                self.scenes = [new or old for new, old in zip(found, self.scenes, strict=True)]
                if all(scene is None or scene.stage["name"] == STAGES[-1] for scene in self.scenes):
                    self._end()
                return
            self.slow = [scenes(bench, view) for bench, view in zip(self.benches, self.views, strict=True)]
        raise OptionError("nothing is left to move: every game has ended.")

    def _end(self) -> None:
        """End the round that was begun if nobody has a move left; the benches stay in lockstep."""
        begun = [bench for bench in self.training if not bench.state.whole]
        if not any(bench.left() for bench in begun):
            for bench in begun:
                bench.end()

    # -- telling --------------------------------------------------------------------------------------------------

    def opened(self) -> bytes:
        """The message that says what is open."""
        window, view = self.window, self.views[0]
        header = {
            "kind": "opened",
            "setup": self.setup.model_dump(),
            "about": self.points.source.about,
            "modes": len(self.points.modes) if self.points.counted and self.points.modes is not None else 0,
            "window": {"left": window.left, "low": window.low, "side": window.side},
            "benches": [
                {**bench.info(), "judged": view.judged} for bench, view in zip(self.benches, self.views, strict=True)
            ],
        }
        return wire.pack(header, {"real": view.raw(view.real)})

    def frame(self, seq: int, playing: bool, rate: float) -> bytes:
        """A frame of all benches. In the middle of a round it shows the live players, as only they have moved."""
        average = self.shown.average and not any(self.scenes) and all(b.state.whole for b in self.benches)
        arrays: dict[str, np.ndarray] = {}
        for k, (bench, view, scene) in enumerate(zip(self.benches, self.views, self.scenes, strict=True)):
            game = scene.game if scene else bench.average if average else bench.game
            seen = view.arrays(game, self.shown) | (scene.arrays if scene else {})
            arrays |= {f"{k}/{name}": array for name, array in seen.items()}
        stage = next((scene.stage for scene in self.scenes if scene), None)
        header = {
            "kind": "frame",
            "seq": seq,
            "at": time.time(),
            "step": self.step,
            "images": max(bench.state.images for bench in self.benches),
            "playing": playing,
            "rate": rate,
            "average": average,
            "stage": stage,
            "benches": [self._told(k) for k in range(len(self.benches))],
        }
        return wire.pack(header, arrays)

    def _told(self, k: int) -> dict[str, Any]:
        """`FrameBench` of the page's contract."""
        bench, scene = self.benches[k], self.scenes[k]
        figures = scene.figures if scene else {}
        return {
            "terms": bench.terms(),
            "rates": bench.rates(),
            "measures": self.measured[k],
            "alarms": [{"name": a.name, "step": a.step, "why": a.why, "remedy": a.remedy} for a in self.alarms(k)],
            "ended": bench.ended,
            "figures": {name: value for name, value in figures.items() if np.isfinite(value)},
        }

    def alarms(self, k: int) -> list[Alarm]:
        """The alarms of a bench that are on. Lost modes are one, until the house's own rule sees the collapse."""
        bench, why = self.benches[k], self.measuring[k].lost()
        if not why or "collapse" in bench.raised or bench.event is None:
            return [*bench.raised.values()]
        remedy = in_words(remedies("collapse", Place.of(bench.event)), bench.game)
        return [*bench.raised.values(), Alarm("collapse", bench.state.step, why, remedy)]

    # -- measuring ------------------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Measure what is shown of every bench."""
        for k, (bench, view) in enumerate(zip(self.benches, self.views, strict=True)):
            drawn = view.points(bench.average if self.shown.average else bench.game, POINTS, "measures")
            self.measured[k] = {
                "step": bench.state.step,
                **self.measuring[k](drawn, bench.state.step),
                "gap": bench.gap,
            }

    def gap(self, k: int) -> float:
        """Measure the duality gap of a bench. Raises `OptionError` for a game that has none."""
        bench = self.benches[k]
        batches = bench.loop.batches
        held_out = bench.alarms.probe.held_out if bench.alarms.probe else None
        found = duality_gap(bench.game, batches, held_out or batches, seed=bench.loop.seed).gap.value
        if not np.isfinite(found):
            raise OptionError(f"the duality gap of {bench.game.name} is not finite now.")
        bench.gap = found
        if (measured := self.measured[k]) is not None:
            self.measured[k] = {**measured, "gap": found}
        return found
