"""Numbers that are not finite, put into trainings on purpose: what reaches the weights, and which runs get over it.

A few hundred short runs of tiny games in one process. In each, at a seeded random step, one number becomes NaN, ±Inf or
1e38: for some moves, in a loss, in one element of a gradient, or of a batch (transient); once, in a parameter, a
moment, a buffer of BatchNorm or the average in memory (persistent); or in a loss for ever (hopeless). After each step
every parameter, moment and buffer is looked at.

    python benchmarks/poison.py [--runs 100] [--seed 0] [--kinds transient persistent hopeless]

Prints, of each kind, in how many runs a poison reached the weights, how many ended unattended, rollbacks, and exits 5.
"""

import argparse
import functools
import math
import random
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import elegan
from elegan import fit
from elegan.errors import DivergenceError
from elegan.run import events, saving
from elegan.run.saving import named_state
from elegan.training.loop import Event
from elegan.training.soundness import NOT_SQUARED

GAMES = ("gan on ring", "dcgan", "wgan", "sngan", "vaegan", "r3gan")
KINDS = {
    "transient": ("loss", "gradient", "batch"),
    "persistent": ("parameter", "moment", "buffer", "average"),
    "hopeless": ("loss", "gradient"),
}
VALUES = (float("nan"), float("inf"), -float("inf"), 1e38)
STEPS = 120
FOR_EVER = 10**9


@dataclass
class Poison:
    """A listener that spoils a training from within, and notes whatever is not finite that it did not put there.

    place: where the value goes, see `KINDS`. start: the step from which on. moves: so many moves are spoiled, where it
    goes into what a move computes; those of the turn of this index, counted round.
    """

    place: str
    value: float
    start: int
    moves: int = 1
    turn: int = 0
    seed: int = 0
    reached: list[str] = field(default_factory=list)
    put: str = ""  # which tensor of the memory was poisoned
    stream: int = 0
    then: dict[str, bytes] = field(default_factory=dict)  # all of it, right after that
    hook: Any = None

    def __call__(self, event: Event) -> None:
        state = event.state
        if "turns" not in vars(event.game):
            event.game.turns = functools.partial(self.turns, event.game.turns, event.game)
        named, there = everything(event), self.put if state.stream == self.stream else ""  # until a rollback
        self.reached += [f"step {event.step}: {n}" for n, t in named.items() if n != there and not t.isfinite().all()]
        squared = not there.endswith(NOT_SQUARED) or not math.isfinite(self.value)
        if there and self.place in ("parameter", "moment") and squared:  # nothing moves any more
            changed = [n for n, t in named.items() if bits(t) != self.then[n]]
            self.reached += [f"step {event.step}: {name} has changed" for name in changed]
        if not self.put and event.step >= self.start and self.place in KINDS["persistent"]:
            self.put, self.stream = self.spoil(named), state.stream
            self.then = {name: bits(tensor) for name, tensor in named.items()}

    def spoil(self, named: dict[str, Tensor]) -> str:
        """Poison one element of one tensor of a kind; its name."""
        begins = {"parameter": "weights/", "moment": "optim/", "buffer": "weights/", "average": "average/"}[self.place]
        buffer = self.place == "buffer"
        kinds = [n for n, t in named.items() if n.startswith(begins) and t.is_floating_point()]
        names = [n for n in kinds if ("running_" in n) == buffer] or kinds  # not every game has BatchNorm
        draw = random.Random(self.seed)
        name = draw.choice(names)
        with torch.no_grad():
            flat = named[name].reshape(-1)
            flat[draw.randrange(len(flat))] = self.value
            named[name].copy_(flat.view(named[name].shape))
        return name

    def turns(self, honest, game):
        """The turns of a step, one of which computes what it is told to."""
        turns = honest()
        index = self.turn % len(turns)
        if self.place in KINDS["persistent"] or game.step < self.start or self.moves <= 0:
            return turns
        return [replace(t, loss=self.loss(t.loss, game, t.players)) if k == index else t for k, t in enumerate(turns)]

    def loss(self, honest, game, players):
        @functools.wraps(honest)
        def spoilt(**batch):
            self.moves -= 1
            if self.place == "batch" and batch:
                name = sorted(batch, key=lambda n: not batch[n].is_floating_point())[0]
                batch[name] = batch[name].clone()
                batch[name].view(-1)[0] = self.value
            terms = honest(**batch)
            trained = next(n for n, t in terms.items() if t.requires_grad)
            if self.place == "gradient":
                parameters = [p for n in players.split() for p in game.get_submodule(n).parameters()]
                self.hook = random.Random(self.seed).choice(parameters).register_hook(self.element)
            elif self.place == "loss" or not batch:
                terms = {**terms, trained: terms[trained] * self.value}
            return terms

        return spoilt

    def element(self, gradient: Tensor) -> Tensor:
        """A gradient one element of which is poisoned, this once."""
        self.hook.remove()
        gradient = gradient.contiguous().clone()
        gradient.view(-1)[-1] = self.value
        return gradient


def everything(event: Event) -> dict[str, Tensor]:
    """All tensors of a training, by name; the very ones, not copies."""
    state = event.state
    parts = {"weights": named_state(event.game), "optim": state.optim.tensors()}
    parts["average"] = named_state(state.average.game)
    return {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


@contextmanager
def quick(folder: Path) -> Iterator[Path]:
    """Inside, every tenth step is saved, and no pictures are drawn; yields a file of small images."""
    rng = np.random.default_rng(0)
    np.savez(folder / "small.npz", real=rng.integers(0, 255, (64, 8, 8), dtype=np.uint8))
    before = saving.Checkpointer.__call__, fit.draw_pictures
    saving.Checkpointer.__call__, fit.draw_pictures = tenth, lambda *_: iter(())
    try:
        yield folder / "small.npz"
    finally:
        saving.Checkpointer.__call__, fit.draw_pictures = before


def tenth(saver: saving.Checkpointer, event: Event) -> None:
    if event.step % 10 == 0:
        saver.save(event.game, event.state)


def one(game: str, poison: Poison, small: Path, out: Path, steps: int = STEPS, **options: Any) -> dict[str, Any]:
    """Train a tiny game on poison: whether and how it ended, rollbacks, and what reached the weights."""
    name, _, data = game.partition(" on ")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            model = elegan.train(name, data or small, out=out, preset="tiny", steps=steps, batch=8, threads=1,
                                 precision="fp32", listeners=[poison], **options)  # fmt: skip
            code, sound = 0, all(t.isfinite().all() for t in named_state(model.game).values())
        except DivergenceError as error:
            code, sound = error.code, True
    back = sum("Going on from step" in str(w.message) for w in said)
    kept = [line["step"] for line in events.read(out / "events.jsonl") if line["kind"] == "step"]
    return {"code": code, "rollbacks": back, "reached": poison.reached, "sound": sound, "steps": kept}


def drawn(kind: str, seed: int) -> tuple[str, Poison]:
    """A game and a poison of some kind, by a seed."""
    draw = random.Random(f"{kind} {seed}")
    place, value = draw.choice(KINDS[kind]), draw.choice(VALUES)
    if kind == "hopeless" and value == 1e38:
        value = float("nan")
    moves = {"transient": draw.randint(1, 30), "hopeless": FOR_EVER, "persistent": 1}[kind]
    start = draw.randrange(10, STEPS - 60)
    return draw.choice(GAMES), Poison(place, value, start, moves, draw.randrange(4), draw.randrange(10**6))


def sweep(kind: str, runs: int, seed: int) -> Counter[str]:
    """So many runs of a kind, and a count of what came of them."""
    found: Counter[str] = Counter(runs=runs)
    with tempfile.TemporaryDirectory() as folder, quick(Path(folder)) as small:
        for k in range(runs):
            game, poison = drawn(kind, seed + k)
            result = one(game, poison, small, Path(folder) / str(k))
            found["reached"] += bool(result["reached"])
            found["ended"] += result["code"] == 0 and result["sound"]
            found["exit 5"] += result["code"] == 5
            found["rollbacks"] += result["rollbacks"]
            if result["reached"]:
                print(f"  {game}, {poison.place} {poison.value}: {result['reached'][0]}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="transient runs; of the others a quarter each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for kind in args.kinds:
        start = time.perf_counter()
        found = sweep(kind, args.runs if kind == "transient" else max(1, args.runs // 4), args.seed)
        print(
            f"{kind}: reached the weights {found['reached']}/{found['runs']}, ended unattended "
            f"{found['ended']}/{found['runs']}, rollbacks {found['rollbacks']}, exit 5 {found['exit 5']}/"
            f"{found['runs']}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
