"""Alarms on trainings that were made to fail in six ways, and on trainings that are well: how many are found.

Each case is trained once a seed, with a probe every hundred steps. What the probe read is kept in a file, one line a
run: what is there is not made again, and alarms are judged from it. A failure is found if one of the alarms that fit
its kind (`FITS`, stated beforehand) is raised before its end; a healthy run is disturbed if any is. Whether a run did
fail is judged by what it draws, or its judge says, at the end, by figures that no alarm looks at; a run that is not
what it was made for is listed and counts for neither. Thresholds were set on seed 0; the report is on others.

    python benchmarks/alarms.py [--calibrate] [--seeds 10 11] [--only NAME …] [--out FILE] [--cost] [--rescue]

--cost: what alarms cost as a share of the time, of three trainings. --rescue: failures with and without `--rescue`.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import elegan
from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.codec import codec_of
from elegan.data.source import Source
from elegan.data.sources import open_data
from elegan.errors import DivergenceError
from elegan.metrics.modes import coverage
from elegan.metrics.sliced_wasserstein import sliced_wasserstein
from elegan.run import saving
from elegan.tasks.generate import draw
from elegan.training.alarms import Alarms
from elegan.training.loop import State, train
from elegan.training.probe import Reading
from elegan.training.rules import RULES, Series, Standing
from elegan.training.seeds import seed_at

FITS = {  # a generator that visits mode after mode circles; one whose judge is sure has no gradient, and stands still
    "collapse": {"collapse", "oscillation"},
    "overpowering": {"overpowering", "vanishing"},
    "vanishing": {"vanishing", "overpowering"},
    "overfitting": {"overfitting"},
    "oscillation": {"oscillation", "collapse"},
    "stall": {"stall", "overpowering", "vanishing"},
    "healthy": set(),
}
RESCUED = ("slow", "fast", "linear", "outrun", "sure-dcgan", "momentum", "slow-vae", "digits-outrun")
COSTS = (("gan", "ring", 2_000), ("dcgan", "digits", 200), ("cgan", "digits", 200))


@dataclass(frozen=True)
class Case:
    """A training that is to fail in some way, or is well. few: training samples. change: what is changed at a step."""

    kind: str
    game: str
    data: str
    steps: int
    preset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    batch: int | None = None
    size: int | None = None
    few: int | None = None
    at: int = 0
    change: dict[str, Any] = field(default_factory=dict)


TOY = dict(z_dim=8, widths=(128, 128), judge_widths=(128, 128), lr=1e-3)
WELL = dict(z_dim=2, widths=(128, 128), judge_widths=(128, 128), gamma=0.1, lr=1.5e-3)
WIDE = dict(widths=(64, 64), judge_widths=(512, 512), lr=2e-5, judge_lr=1e-3, k=3)
CONV = dict(width=32, judge_norm=False)
OUTRUN = {"gamma": 0.0, "G.lr": 0.02}


def toy(kind: str, data: str, steps: int, options: dict[str, Any], **more: Any) -> Case:
    return Case(kind, "gan", data, steps, "none", options, **{"batch": 64, **more})


def small(kind: str, game: str, steps: int, options: dict[str, Any], **more: Any) -> Case:
    """On digits of 8×8 pixels."""
    return Case(kind, game, "digits", steps, **{"preset": "none", "batch": 64, "size": 8, "options": options, **more})


CASES = {
    # a training that goes well, until the generator outruns its judge; and one that is too fast from the first
    "outrun": toy("collapse", "ring", 3_000, WELL, batch=128, at=1_500, change={**OUTRUN, "D.lr": 5e-4}),
    "outrun-grid": toy("collapse", "grid", 3_500, WELL, batch=128, at=2_000, change={**OUTRUN, "D.lr": 1e-3}),
    "digits-outrun": small("collapse", "dcgan", 2_000, {}, preset="digits", at=1_000,
                           change={"gamma": 0.0, "G.lr": 0.1, "D.lr": 0.01}),
    "fast": toy("collapse", "grid", 3_000, {**TOY, "z_dim": 2, "lr": 5e-3, "beta1": 0.9}),
    # a judge that is wider and faster than its opponent
    "strong": toy("overpowering", "ring", 2_500, {**TOY, **WIDE, "widths": (128, 128), "judge_lr": 2e-3}),
    "strong-digits": small("overpowering", "gan", 2_000, WIDE),
    "strong-dcgan": small("overpowering", "dcgan", 1_800, {**CONV, "lr": 5e-6, "judge_lr": 2e-3}),
    # minimax against a judge that is sure
    "sure": toy("vanishing", "ring", 2_000, {**TOY, "loss": "minimax", "k": 10, "judge_lr": 1e-2}),
    "sure-digits": small("vanishing", "gan", 2_000, {"widths": (128, 128), "judge_widths": (256, 256),
                                                     "loss": "minimax", "k": 5, "judge_lr": 2e-3, "lr": 2e-4}),
    "sure-dcgan": small("vanishing", "dcgan", 1_500, {**CONV, "loss": "minimax", "judge_lr": 5e-3, "lr": 1e-4}),
    # few samples to learn by heart
    "few": small("overfitting", "dcgan", 2_000, {**CONV, "lr": 1e-3}, batch=32, few=50),
    "few-mlp": small("overfitting", "gan", 2_000, {"widths": (256, 256), "judge_widths": (512, 512), "lr": 5e-4},
                     few=100),
    "few-relativistic": small("overfitting", "dcgan", 2_000, {**CONV, "loss": "relativistic-pairing", "gamma": 0.01,
                                                              "lr": 1e-3}, few=100),
    # a judge that can only push, or players with momentum
    "linear": toy("oscillation", "ring", 3_000, {**TOY, "judge_widths": (), "beta1": 0.9, "lr": 5e-3}),
    "linear-digits": small("oscillation", "gan", 2_000, {"widths": (128, 128), "judge_widths": (), "beta1": 0.9,
                                                         "lr": 5e-3}),
    "momentum": toy("oscillation", "moons", 3_000, {**TOY, "loss": "hinge", "beta1": 0.9, "lr": 1e-2}),
    # rates of next to nothing, and a generator of one unit
    "slow": toy("stall", "ring", 2_500, {**TOY, "lr": 1e-7}),
    "slow-dcgan": small("stall", "dcgan", 1_800, {"lr": 1e-7}, preset="digits"),
    "slow-vae": Case("stall", "vae", "ring", 2_500, None, {"lr": 1e-7}),
    "dead": small("stall", "gan", 2_000, {"widths": (1,), "judge_widths": (64, 64), "lr": 1e-3}),
    # well: recipes as they stand, and the stable ones
    "stable-ring": Case("healthy", "gan", "ring", 3_500, "stable"),
    "stable-grid": Case("healthy", "gan", "grid", 3_500, "stable"),
    "stable-spiral": Case("healthy", "gan", "spiral", 3_000, "stable"),
    "stable-moons": Case("healthy", "gan", "moons", 3_000, "stable"),
    "gan-checkerboard": Case("healthy", "gan", "checkerboard", 4_000),
    "r3gan-ring": Case("healthy", "r3gan", "ring", 2_500),
    "r3gan-grid": Case("healthy", "r3gan", "grid", 2_500),
    "wgan-gp-moons": Case("healthy", "wgan-gp", "moons", 1_500, options={"lr": 3e-4}),
    "sngan-ring": Case("healthy", "sngan", "ring", 1_500),
    "lsgan-moons": Case("healthy", "lsgan", "moons", 3_000),
    "dragan-ring": Case("healthy", "dragan", "ring", 2_000),
    "ragan-moons": Case("healthy", "ragan", "moons", 2_000),
    "vae-ring": Case("healthy", "vae", "ring", 5_000),
    "vaegan-moons": Case("healthy", "vaegan", "moons", 3_000),
    "infogan-ring": Case("healthy", "infogan", "ring", 4_000),
    "dcgan-digits": Case("healthy", "dcgan", "digits", 2_500, "digits", size=8),
    "cgan-digits": Case("healthy", "cgan", "digits", 2_000, "digits", size=8),
    "acgan-digits": Case("healthy", "acgan", "digits", 2_000, "digits", size=8),
    "lsgan-digits": Case("healthy", "lsgan", "digits", 2_500, "digits", size=8),
    "vae-digits": Case("healthy", "vae", "digits", 3_000, "digits", size=8),
    "gan-digits": small("healthy", "gan", 2_500, {"widths": (128, 128), "judge_widths": (128, 128), "gamma": 0.1,
                                                  "lr": 1e-3}),
    "sngan-digits": Case("healthy", "sngan", "digits", 600, "digits", size=8),
    "r3gan-digits": Case("healthy", "r3gan", "digits", 1_000, "digits", {"widths": (32, 16)}, size=8),
    "dcgan-14": Case("healthy", "dcgan", "digits", 1_200, "digits", size=14),
    "cgan-14": Case("healthy", "cgan", "digits", 1_200, "digits", size=14),
}  # fmt: skip


def opened(case: Case, split: str = "train") -> Source:
    form = {"size": case.size} if case.size else {}
    source = open_data(case.data, split=split, **form)
    if case.few and split == "train":
        source = replace(source, arrays={n: rows[: case.few] for n, rows in source.arrays.items()}, sealed="")
    return source


def one(name: str, seed: int, steps: int | None = None) -> dict[str, Any]:
    """Train a case and say what was read, how it stood in five places of its last part, and what alarms cost."""
    case, start = CASES[name], time.perf_counter()
    source, test = opened(case), opened(case, "test")
    chosen = zoo.settings(case.game, case.preset, case.options, case.data, source.spec.kind)
    seed_at(torch.device("cpu"), seed, "init")
    game = zoo.build(case.game, source.spec, **chosen.options)
    rows = case.batch or chosen.training.get("batch", 64)
    batches = Batches(source, rows=rows)
    state = State.fresh(game, half_life_images=chosen.training.get("half_life_images", 20_000))
    held = Batches(replace(test, spec=source.spec), rows=rows)
    alarms, readings, ends, spent = Alarms(game, batches, held_out=held, seed=seed), [], [], 0.0
    total = steps or case.steps
    running, change = train(game, batches, total, seed=seed, state=state), None
    with suppress(StopIteration):
        while True:
            event = running.send(change)
            begun = time.perf_counter()
            alarms(event)
            spent += time.perf_counter() - begun
            readings += [list(r) for r in alarms.series.readings[-1:] if r.step == event.step]
            change = case.change if event.step == case.at else None
            if event.step in {total * k // 10 for k in (6, 7, 8, 9, 10)}:
                modes = [(module, module.training) for module in game.modules()]
                ends.append(found(game.eval(), test) | known(game, source, test, case.kind))
                for module, training in modes:
                    module.training = training
    taken = time.perf_counter() - start
    return {"case": name, "kind": case.kind, "seed": seed, "seconds": round(taken, 1), "cost": round(spent / taken, 4),
            "ends": ends, "readings": readings}  # fmt: skip


def found(game: Any, test: Source) -> dict[str, float]:
    """How good 1,000 samples are: their sliced Wasserstein distance in deviations of the data, and the modes found."""
    field_, real = test.spec["real"], test.arrays["real"][:1_000]
    with torch.no_grad():
        drawn = codec_of(game.spec["real"]).decode(draw(game, 1_000, seed=9))
    flat, truth = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (drawn, real))
    answer = {"sliced": float(sliced_wasserstein(flat, truth).value / truth.std())}
    if "modes" in field_.about:
        seen = coverage(flat, field_.about["modes"], field_.about["sigma"], within=10)
        answer |= {"modes": seen.modes / seen.total, "near": float(seen.share)}
    return answer


def known(game: Any, source: Source, test: Source, kind: str) -> dict[str, float]:
    """Where a judge is to overfit: in which share of pairs it takes a training sample for more real than a new one."""
    if kind != "overfitting":
        return {}
    codec = codec_of(source.spec["real"])
    with torch.no_grad():
        old, new = (game.D(codec.encode(torch.from_numpy(s.arrays["real"][:500].copy()))) for s in (source, test))
    return {"known": float((old[:, None] > new).float().mean())}


def failed(run: dict[str, Any]) -> bool:
    """Whether a run ended badly, by the median of its last five places."""
    sliced, modes, heart = (np.median([end.get(n, well) for end in run["ends"]]) for n, well in
                            (("sliced", 0.0), ("modes", 1.0), ("known", 0.5)))  # fmt: skip
    return bool(sliced > 0.5 or modes <= 0.75 or heart >= 0.65)


def raised(readings: Iterable[list[float]]) -> list[tuple[str, int]]:
    """The alarms of a run, each with its step."""
    series, standings, said = Series(), {rule.name: Standing() for rule in RULES}, []
    for values in readings:
        series.add(Reading(*values))
        for rule in RULES:
            if standings[rule.name].take(rule, bool(rule.why(series))) and standings[rule.name].on:
                said.append((rule.name, int(values[0])))
    return said


def report(runs: Iterable[dict[str, Any]]) -> str:
    """A line for each kind, and one for each run that was missed, disturbed, or not what it was made for."""
    runs, lines, odd = list(runs), [], []
    for kind, fit in FITS.items():
        real = [run for run in runs if run["kind"] == kind and failed(run) == (kind != "healthy")]
        told = [{name for name, _ in raised(run["readings"])} for run in real]
        hits = [bool(names & fit) if fit else bool(names) for names in told]
        own = sum(kind in names for names in told)
        lines.append(f"{kind:13} {sum(hits):3} of {len(real):3} {f'({own} by its own name)' if fit else 'disturbed'}")
        wrong = [run for run, hit in zip(real, hits, strict=True) if hit != (kind != "healthy")]
        odd += [f"  {'missed' if fit else 'disturbed'}: {told_of(run)}" for run in wrong]
        odd += [
            f"  not what it was made for: {told_of(run)}" for run in runs if run["kind"] == kind and run not in real
        ]
    return "\n".join([*lines, *odd])


def told_of(run: dict[str, Any]) -> str:
    end = {name: round(value, 2) for name, value in run["ends"][-1].items()}
    return f"{run['case']}, seed {run['seed']}, ends at {end}, alarms {raised(run['readings']) or 'none'}"


def rescued(name: str, seed: int, rescue: bool, steps: int | None = None) -> dict[str, Any]:
    """A case as `elegan train` runs it, three times as long, with or without `--rescue`: how it ends, what was done."""
    case = CASES[name]

    def push(event: Any) -> Any:
        return case.change if event.step == case.at else None

    form = {"size": case.size} if case.size else {}
    saving.LEAST_SECONDS = 2.0  # so that there is something to go back to
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        run = Path(folder) / "run"
        end: dict[str, float] = {"sliced": float("inf")}
        with suppress(DivergenceError):
            model = elegan.train(
                case.game, case.data, out=run, steps=steps or 3 * case.steps, batch=case.batch, seed=seed, threads=1,
                precision="fp32", preset=case.preset, rescue=rescue, listeners=[push], **form, **case.options,
            )  # fmt: skip
            end = found(model.game, opened(case, "test"))
        lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        done = [(line["step"], line["change"]) for line in lines if line["kind"] == "alarm" and line["change"]]
    return {"case": name, "kind": case.kind, "seed": seed, "rescue": rescue, "ends": [end], "done": done}


def cost(game: str, data: str, steps: int) -> float:
    """The share of a training's time that alarms take."""
    source, test = open_data(data), open_data(data, split="test")
    chosen = zoo.settings(game, None, {}, data, source.spec.kind)
    trainee = zoo.build(game, source.spec, **chosen.options)
    rows = chosen.training.get("batch", 64)
    alarms = Alarms(trainee, Batches(source, rows=rows), held_out=Batches(replace(test, spec=source.spec), rows=rows))
    spent, start = 0.0, time.perf_counter()
    for event in train(trainee, Batches(source, rows=rows), steps):
        begun = time.perf_counter()
        alarms(event)
        spent += time.perf_counter() - begun
    return spent / (time.perf_counter() - start)


def kept(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path: Path, run: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(run) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calibrate", action="store_true", help="on seed 0, by which thresholds were set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11])
    parser.add_argument("--out", type=Path, default=Path("alarms.jsonl"), help="of finished runs")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=None)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--rescue", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.cost:
        for game, data, steps in COSTS:
            print(f"{game} on {data}: {cost(game, data, steps):.1%} of the time", flush=True)
        return
    seeds = [0] if asked.calibrate else asked.seeds
    names = asked.only or (RESCUED if asked.rescue else list(CASES))
    wanted = [
        (name, seed, rescue)
        for seed in seeds
        for name in names
        for rescue in ((False, True) if asked.rescue else (None,))
    ]
    for name, seed, rescue in wanted:
        if any((run["case"], run["seed"], run.get("rescue")) == (name, seed, rescue) for run in kept(asked.out)):
            continue
        run = one(name, seed) if rescue is None else rescued(name, seed, rescue)
        keep(asked.out, run)
        end = ", ".join(f"{n} {v:.2f}" for n, v in run["ends"][-1].items())
        print(name, seed, *([] if rescue is None else [f"rescue {rescue}", run["done"]]), end, flush=True)
    runs = [run for run in kept(asked.out) if (run["case"], run["seed"], run.get("rescue")) in wanted]
    if not asked.rescue:
        print(report(runs))
        return
    for rescue in (False, True):
        those = [run for run in runs if run["rescue"] == rescue]
        print(
            f"{'with' if rescue else 'without'} rescue {sum(not failed(run) for run in those)} of {len(those)} end well"
        )


if __name__ == "__main__":
    main()
