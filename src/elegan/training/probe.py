"""A look at a training from outside, every hundred steps: what the generator draws, and what its judge says.

Nothing of the training is touched: parameters, buffers, modes and gradients are as before, and the noise of a step is a
function of its place, so drawing in between changes none of it. Whatever a game has no use for is not a number.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from elegan.data.batches import Batches
from elegan.data.form import Form
from elegan.data.listing import Listing
from elegan.data.pack import in_memory
from elegan.data.sources import find_data
from elegan.errors import ElegantError
from elegan.game import Game, Turn
from elegan.training.loop import Event
from elegan.training.seeds import seed_at
from elegan.training.turns import fields_of, turn_name

EVERY = 100  # steps
LISTENED = 10  # terms are read every so many steps, as the event log reads them
OVERFIT_EVERY = 2  # probes; asking the judge for its loss costs as much as a move of it
REAL, MOST, LEAST = 256, 256, 64  # real rows; drawn ones are four batches, within these bounds
CELLS, ROUNDS, SERVED = 16, 10, 0.25  # kinds of real rows; a kind is covered by a quarter of the samples it should get
SIDE = 8  # pixels of a thumbnail
NOTHING = (math.nan,) * 4
HELD, LEAST_HELD = 1_000, 8  # held-out samples, at most and at least


class Reading(NamedTuple):
    """What a probe found. NaN where a game has no such thing.

    right: share of pairs that the judge told apart, over the steps since the last probe, ½ for one that guesses.
    judge_grad, grad: norms of the judge's gradient and of its opponents', medians over those steps.
    distance: `inhomogeneity` of drawn and real samples. coverage: share of the real ones that lie in cells in which the
    generator draws at least a quarter of what it should, see `centres`. spread: mean distance of two drawn samples, in
    mean distances of the data.
    moved: mean distance by which samples of the same noise have moved since the last probe, in the same measure.
    overfit: r_v, see `Probe.overfit`.
    """

    step: int
    right: float
    judge_grad: float
    grad: float
    distance: float
    coverage: float
    spread: float
    moved: float
    overfit: float


class Probe:
    """Takes readings of a training. `held_out` are batches of data that it does not see, if there are any.

    drawn, (n, features): what it drew last, which it compares with; all the history it has, besides `heard`.
    """

    def __init__(self, game: Game, batches: Batches, held_out: Batches | None = None, *, seed: int = 0):
        self.batches, self.held_out, self.seed = batches, held_out, seed
        self.heard: list[tuple[float, float, float]] = []  # right, judge_grad, grad, since the last reading
        self.drawn: Tensor | None = None
        self.known = "generation" in game.tasks and "real" in batches.spec
        if not self.known:
            return
        self.count = min(max(4 * batches.rows, LEAST), MOST)
        rows = min(REAL, len(batches.source))
        self.labels = batches(seed, 0, 0, rows, ["label"])["label"] if game.labelled else None
        self.real = features(batches(seed, 0, 0, rows, ["real"])["real"])
        apart = torch.cdist(self.real, self.real)
        self.apart = apart.sum() / max(rows * (rows - 1), 1)
        self.known = bool(self.apart > 0)  # rows that are all alike have no width to measure by
        self.centres = centres(self.real)
        self.shares = shares(self.real, self.centres)

    def listen(self, event: Event) -> None:
        """Take note of what the judge told apart in a step, and of the gradients."""
        terms = event.terms
        judge = judge_of(terms)
        grads = {name.removesuffix(".grad"): value for name, value in terms.items() if name.endswith(".grad")}
        others = [value for name, value in grads.items() if name != judge]
        nan = math.nan
        of_judge = (terms[f"{judge}.right"], grads.get(judge, nan)) if judge else (nan, nan)
        self.heard.append((*of_judge, max(others) if judge and others else nan))

    @torch.no_grad()
    def read(self, event: Event) -> Reading:
        """Look at a training. What was heard since the last reading goes into this one."""
        heard = torch.tensor(self.heard or [(math.nan,) * 3], dtype=torch.float64)
        self.heard = []
        right, (judge_grad, grad) = heard[:, 0].mean().item(), heard[:, 1:].nanquantile(0.5, dim=0).tolist()
        distance, coverage, spread, moved = NOTHING
        overfit = math.nan
        with untouched(event.game):
            event.game.eval()
            if self.known:
                distance, coverage, spread, moved = self._measure(event.game)
            if (event.step // EVERY) % OVERFIT_EVERY == 0 and (judge := judge_of(event.terms)):
                turn = next(t for t in event.turns if turn_name(t) == judge)
                overfit = self.overfit(event.game, turn)
        return Reading(event.step, right, judge_grad, grad, distance, coverage, spread, moved, overfit)

    def tensors(self) -> dict[str, Tensor]:
        """What it compares with next time, and what it has heard since it read."""
        heard = torch.tensor(self.heard, dtype=torch.float64).view(-1, 3)
        return {"heard": heard} if self.drawn is None else {"heard": heard, "drawn": self.drawn}

    def recall(self, tensors: Mapping[str, Tensor]) -> None:
        self.heard = [(a, b, c) for a, b, c in tensors["heard"].tolist()] if "heard" in tensors else []
        self.drawn = tensors.get("drawn")

    def _measure(self, game: Game) -> tuple[float, float, float, float]:
        """Distance, coverage, spread and movement of fixed samples of the game."""
        drawn = self._draw(game)
        before = torch.full_like(drawn, math.nan) if self.drawn is None else self.drawn.to(drawn)
        across = torch.cdist(drawn, self.real)  # (n, rows)
        within = torch.cdist(drawn, drawn).sum() / (len(drawn) * (len(drawn) - 1))
        self.drawn = drawn
        measures = [
            inhomogeneity(across.mean(), within, self.apart),
            self.shares[shares(drawn, self.centres) >= SERVED * self.shares].sum(),
            within / self.apart,
            (drawn - before).norm(dim=1).mean() / self.apart,
        ]
        distance, coverage, spread, moved = torch.stack(measures).tolist()
        return distance, coverage, spread, moved

    def _draw(self, game: Game) -> Tensor:  # -> (count, features)
        parts = []
        rows = min(self.batches.rows, self.count)
        for part, start in enumerate(range(0, self.count, rows)):
            seed_at(game.device, self.seed, "alarms", part)
            if self.labels is None:
                parts.append(features(game.sample(rows)))
            else:
                which = torch.arange(start, start + rows, device=self.labels.device) % len(self.labels)
                of_class: dict[str, Any] = {"label": self.labels[which]}
                parts.append(features(game.sample(rows, **of_class)))
        return torch.cat(parts)[: self.count]

    # Karras et al. 2020 (arXiv 2006.06676), Equation 1, the left-hand heuristic
    def overfit(self, game: Game, turn: Turn) -> float:
        """r_v = (E D(train) − E D(held out)) / (E D(train) − E D(drawn)) by a judge's own loss: 0 for a judge that has
        learnt nothing by heart, 1 for one to which what it has not seen looks drawn. NaN without held-out data, or for
        a loss that reads what other turns have made."""
        fields = fields_of(turn.loss)
        if self.held_out is None or any(n not in self.batches.spec and not optional for n, optional in fields.items()):
            return math.nan
        known = [name for name in fields if name in self.batches.spec]
        number = game.step // EVERY
        said = []
        for batches in (self.batches, self.held_out):
            game.rows = min(self.batches.rows, self.held_out.rows)
            seed_at(game.device, self.seed, "overfit", number)
            with torch.enable_grad():  # for penalties, which take gradients of their own
                said.append(turn.loss(**batches(self.seed, number, 0, game.rows, known)))
        train, held, drawn = (float(t) for t in (said[0]["real"], said[1]["real"], said[0]["fake"]))
        return (train - held) / (train - drawn) if train > drawn else 0.0


def held_out(name_or_path: str, form: Form, batches: Batches) -> Batches | None:
    """Batches of data's test split, at most a thousand samples, as the training's codecs see them. None if it has none,
    or if it cannot be compared."""
    try:
        found = find_data(name_or_path, split="test", form=form)
    except ElegantError:
        return None
    if isinstance(found, Listing):  # of files: decode no more of them than are looked at
        few = {stream: those[:: max(1, len(those) // HELD)][:HELD] for stream, those in found.streams.items()}
        found = in_memory(replace(found, streams=few))
    same = all(
        n in found.spec and found.spec[n].shape == f.shape and found.spec[n].names == f.names
        for n, f in batches.spec.items()
    )
    rows = min(batches.rows, len(found))
    if not same or found.cuts or rows < LEAST_HELD:
        return None
    return Batches(replace(found, spec=batches.spec), rows=rows, device=batches.device)


def judge_of(terms: Collection[str]) -> str | None:
    """The name of the turn whose loss says how a judge told both sides apart; None if there is no judge."""
    return next((name.removesuffix(".right") for name in terms if name.endswith(".right")), None)


def features(x: Tensor) -> Tensor:
    """Samples as vectors, (n, features): images as thumbnails of 8×8 pixels at most."""
    if x.ndim == 4:
        x = adaptive_avg_pool2d(x, (min(SIDE, x.shape[2]), min(SIDE, x.shape[3])))
    return x.detach().flatten(1).float()


def centres(real: Tensor) -> Tensor:  # (rows, features) -> (cells, features)
    """Centres of cells that part the data, by k-means (Lloyd, 1982), begun with rows that lie far from each other.

    What a cell holds is of a kind; as in Richardson and Weiss 2018 ("On GANs and GMMs", 1805.12462), section 3, a
    generator that has lost a kind is known by a cell it no longer draws in.
    """
    chosen = real[:1]
    while len(chosen) < min(CELLS, len(real)):
        chosen = torch.cat([chosen, real[torch.cdist(real, chosen).amin(1).argmax()][None]])
    for _ in range(ROUNDS):
        nearest = torch.cdist(real, chosen).argmin(1)
        held = torch.nn.functional.one_hot(nearest, len(chosen)).to(real)  # (rows, cells)
        chosen = torch.where(held.sum(0)[:, None] > 0, held.T @ real / held.sum(0).clamp(min=1)[:, None], chosen)
    return chosen


def shares(x: Tensor, centres: Tensor) -> Tensor:  # (n, features), (cells, features) -> (cells,)
    """The share of samples that lie nearest to each centre."""
    return torch.cdist(x, centres).argmin(1).bincount(minlength=len(centres)) / len(x)


# Székely and Rizzo 2013, "Energy statistics", section 5: the energy distance over what it can be at most
def inhomogeneity(across: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """(2 E|x − y| − E|x − x'| − E|y − y'|) / 2 E|x − y|, of these mean distances: 0 for equal distributions, at most 1.

    Means over distinct pairs make it unbiased, and so it falls below 0 now and then.
    """
    return (2 * across - one - other) / (2 * across).clamp(min=1e-30)


@contextmanager
def untouched(game: Game) -> Iterator[None]:
    """Inside, a game may be tried: on leaving, its buffers, modes, and place are as before."""
    buffers = [(buffer, buffer.clone()) for buffer in game.buffers()]
    modes = [(module, module.training) for module in game.modules()]
    place = game.rows, game.step, game.images
    try:
        yield
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)
        for module, training in modes:
            module.training = training
        game.rows, game.step, game.images = place
