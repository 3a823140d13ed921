"""Rounds a second of a training in the plane, and what the loop adds to a loop in plain torch.

    python benchmarks/lab_engine.py

Each preset is trained on one thread as the lab trains it, with averages and all checks, in turns with the same losses
on the same batches under torch's own optimisers: no transaction, no average, no names, nothing looked at. Times are the
processor's own; the middle of the repetitions counts. With `--fare`, a preset trains alone for 10, 30 and 60 seconds,
and what its average draws is compared with the truth: 10,000 points on a grid of 30 × 30.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.codec import codec_of
from elegan.data.sources import open_data
from elegan.game import Adam, Game, player
from elegan.metrics.modes import coverage, divergence
from elegan.tasks.generate import draw
from elegan.training.loop import Loop, State
from elegan.training.seeds import seed_at

MARKS = (10.0, 30.0, 60.0)  # seconds of the processor
DRAWN = 10_000


def begun(preset: str, data: str = "ring", seed: int = 0) -> Loop:
    """The loop of a preset of `gan` at its first step, as a run begins it."""
    source, chosen = open_data(data), zoo.settings("gan", preset, {}, data, "vector")
    seed_at(torch.device("cpu"), seed, "init")
    game = zoo.build("gan", source.spec, **chosen.options)
    state = State.fresh(game, half_life_images=chosen.training.get("half_life_images", 20_000))
    return Loop(game, Batches(source, rows=chosen.training["batch"]), seed=seed, state=state)


def plain(game: Game, batches: Batches) -> Callable[[], object]:
    """A round of the same losses under torch's own optimisers, and nothing else."""
    optims: dict[str, torch.optim.Optimizer] = {}
    for turn in game.turns():
        parameters, record = player(game, turn.players).parameters(), turn.optim
        adam = isinstance(record, Adam)
        optims[turn.players] = torch.optim.Adam(parameters, betas=record.betas) if adam else torch.optim.SGD(parameters)
    game.rows = batches.rows

    def round_() -> None:
        batch = batches(0, game.step, 0, batches.rows)
        for turn in game.turns():
            for name in optims:
                player(game, name).requires_grad_(name == turn.players)
            optim = optims[turn.players]
            optim.param_groups[0]["lr"] = turn.optim.lr
            optim.zero_grad()
            terms = turn.loss(**batch) if turn.players == "D" else turn.loss()
            sum(term for term in terms.values() if term.requires_grad).backward()
            optim.step()
        game.step += 1
        game.images += batches.rows

    return round_


def cost(preset: str, rounds: int, repetitions: int) -> tuple[float, float]:
    """Seconds of a round, by the loop and plainly."""
    loop, twin = begun(preset), begun(preset)
    sides = (loop.step, plain(twin.game, twin.batches))
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repetitions + 1):
        for side, found in zip(sides, taken, strict=True):
            start = time.process_time()
            for _ in range(rounds):
                side()
            found.append((time.process_time() - start) / rounds)
    ours, theirs = (statistics.median(found[1:]) for found in taken)  # the first does not count
    return ours, theirs


def fare(preset: str, data: str, seed: int, marks: tuple[float, ...] = MARKS) -> list[str]:
    """How a training stands at each mark: rounds, Jensen and Shannon's divergence, modes, the share near one."""
    loop = begun(preset, data, seed)
    field, average = loop.batches.spec["real"], loop.state.average.game
    about, found, taken = field.about, [], 0.0
    for mark in marks:
        while taken < mark:
            start = time.process_time()
            for _ in range(20):
                event = loop.step()
            taken += time.process_time() - start
        points = codec_of(field).decode(draw(average, DRAWN, seed=0))
        js = divergence(points, about["modes"], about["sigma"]).js.value
        modes, total, share = coverage(points, about["modes"], about["sigma"])
        found.append(f"{mark:g} s: {event.step:,} rounds, JS {js:.3f}, {modes}/{total} modes, {share:.1%} near one")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--presets", nargs="+", default=["gan-lab", "lab"])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--fare", action="store_true", help="train the last preset for a minute for each data and seed")
    parser.add_argument("--data", nargs="+", default=["ring"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for preset in asked.presets:
        ours, theirs = cost(preset, asked.rounds, asked.repetitions)
        print(f"{preset} on ring: {1 / ours:,.0f} rounds a second, {1e3 * ours:.3f} ms; ", end="")
        print(f"{ours / theirs:.2f} times as long as plainly", flush=True)
    for data in asked.data if asked.fare else ():
        for seed in asked.seeds:
            print(f"{asked.presets[-1]} on {data}, seed {seed}: " + "; ".join(fare(asked.presets[-1], data, seed)))


if __name__ == "__main__":
    main()
