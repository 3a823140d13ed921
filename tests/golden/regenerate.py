"""Golden values: what the tiny games of the zoo come to after three steps from seed 0, in fp32 on one thread.

They notice a formula that has changed, in a loss, a net, its first weights, the loop, the data's order or the average.
Where that was meant, write them anew, and say in the commit why they moved:

    python -m tests.golden.regenerate
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elegan import zoo
from elegan.data.batches import Batches
from elegan.game import Game
from elegan.tasks.generate import draw
from elegan.training.loop import State, train
from elegan.training.seeds import seed_at
from tests.contract.checks import SOURCES

HERE = Path(__file__).parent
STORED = HERE / "values.json"
STEPS, ROWS, KEPT = 3, 8, 6


def measure(name: str) -> dict[str, Any]:
    """Train a game's preset `tiny` for three steps on the first data it accepts; its terms, and what it makes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        source = next(s for s in SOURCES.values() if not zoo.game_class(name).accepts(s.spec))
        seed_at(torch.device("cpu"), 0, "init")
        game = zoo.build(name, source.spec, **zoo.settings(name, "tiny", {}).options)
        state = State.fresh(game, half_life_images=20, ramp=0.5)
        batches = Batches(source, rows=ROWS)
        terms = [rounded(event.terms) for event in train(game, batches, STEPS, state=state)]
        made = product(state.average.game, batches)
        return {"data": source.name, "terms": terms, "made": [summary(t) for t in made]}
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def product(game: Game, batches: Batches) -> list[Tensor]:
    """What a game is for: samples, or what becomes of a batch."""
    batch = batches(0, 0, 0, ROWS)
    if "generation" in game.tasks:
        return [draw(game, ROWS)]
    if "translation" in game.tasks:
        return [game.translate(batch["a"], direction="ab"), game.translate(batch["b"], direction="ba")]
    return []


def summary(made: Tensor) -> dict[str, Any]:
    """A few numbers that change if the tensor does."""
    flat = made.double().flatten()
    signs = torch.linspace(-1, 1, len(flat), dtype=torch.float64)  # a sum that sees the order
    sums = {"sum": flat.sum(), "squares": flat.square().sum(), "ordered": (flat * signs).sum()}
    first = {f"[{k}]": flat[k] for k in range(KEPT)}
    return {"shape": list(made.shape), "numbers": rounded({n: float(v) for n, v in (sums | first).items()})}


def rounded(numbers: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{number:.7g}") for name, number in numbers.items()}


def main() -> None:
    values = {name: measure(name) for name in zoo.names() if "tiny" in zoo.describe(name).presets}
    lines = [f' "{name}": {json.dumps(found)}' for name, found in sorted(values.items())]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{STORED}: {len(values)} games, {STORED.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
