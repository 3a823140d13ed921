"""The table of scores in the README: four games, two data sets, three seeds, each read three times in one run.

    python recipes/table.py [--data digits fashion] [--games dcgan wgan-gp r3gan vae] [--seeds 0 1 2] [--list]

Each game trains as `elegan train GAME DATA` does, on one thread, in a process of its own. After 60 and 300 seconds of
that thread's time, and after 50,000 real images, 10,000 samples are drawn from the average and scored against the test
split; drawing and scoring do not count. Time is the processor's own, so that other work on the machine changes little.
Results are kept in `recipes/table.jsonl`, whole protocol and all; a run that stands there is not made again. `--list`
prints the table, `--jobs 2` makes two runs at a time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

KEPT = Path(__file__).with_suffix(".jsonl")
GAMES, DATA, SEEDS = ("dcgan", "wgan-gp", "r3gan", "vae"), ("digits", "fashion"), (0, 1, 2)
SECONDS, IMAGES, DRAWN = (60.0, 300.0), 50_000, 10_000
METRICS = ("fd", "fd-infinity", "kid", "precision-recall")
SHOWN = "FD"


def run(
    game: str, data: str, seed: int, seconds: tuple[float, ...] = SECONDS, images: int = IMAGES
) -> list[dict[str, Any]]:
    """Train once and read at each mark: the mark, the images read, the seconds taken, and the scores."""
    import elegan
    from elegan.embedders import natural, open_embedder
    from elegan.metrics.evaluation import measure
    from elegan.metrics.features import features_of
    from elegan.scoring.evaluate import game_set, referred

    reference = referred(data, None, None)
    assert reference.source is not None
    network = open_embedder(natural(data, reference.source.spec), shape=reference.source.spec.shape)
    real = features_of(reference.compared, network, keep=True)
    marks = {f"{limit:g} s": lambda taken, read, limit=limit: taken >= limit for limit in seconds}
    marks[f"{images:,} images"] = lambda taken, read: read >= images
    found, begun, aside = [], 0.0, 0.0

    def read_at_marks(event):
        nonlocal begun, aside
        begun = begun or time.process_time()
        taken = time.process_time() - begun - aside
        for mark in [mark for mark, due in marks.items() if due(taken, event.images)]:
            del marks[mark]
            paused = time.process_time()
            subject = f"{game} on {data}, seed {seed}, {mark}"
            drawn = game_set(subject, event.state.average.game, DRAWN, 0)
            scores = measure(METRICS, subject, drawn, real, network, beside=False)
            found.append({"mark": mark, "images": event.images, "seconds": round(taken, 1), "step": event.step,
                          "scores": [score.to_json() for score in scores]})  # fmt: skip
            aside += time.process_time() - paused
        return None if marks else {"stop": True}

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        elegan.train(game, data, out=out, seed=seed, steps=10**7, threads=1, listeners=[read_at_marks])
    return found


def beside(data: str) -> list[dict[str, Any]]:
    """What real training samples, and a mixture of Gaussians, score: the rows under the table."""
    from elegan.embedders import natural, open_embedder
    from elegan.metrics.evaluation import measure
    from elegan.metrics.features import of_arrays
    from elegan.scoring.evaluate import referred

    reference = referred(data, None, None)
    assert reference.source is not None
    network = open_embedder(natural(data, reference.source.spec), shape=reference.source.spec.shape)
    some = of_arrays(f"{data}, test", reference.source.arrays["real"])
    scores = measure(METRICS, "beside", some, reference.compared, network, train=reference.train)
    return [score.to_json() for score in scores]


def results() -> list[dict[str, Any]]:
    return [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()] if KEPT.exists() else []


def made(game: str, data: str, seed: int) -> bool:
    return any((r["game"], r["data"], r["seed"]) == (game, data, seed) for r in results())


def make(game: str, data: str, seed: int) -> None:
    """One run, or what stands beside (`game` is "beside"), in a process of its own; keeps what it says."""
    command = [sys.executable, __file__, "--one", "--games", game, "--data", data, "--seeds", str(seed)]
    single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **single}).stdout
    with KEPT.open("a", encoding="utf-8") as file:
        file.write(said.splitlines()[-1] + "\n")
    print(f"{game} on {data}, seed {seed}: done", flush=True)


def table() -> str:
    """What is known, as Markdown: the median of the seeds, the least and the greatest, and what stands beside."""
    marks = [*(f"{limit:g} s" for limit in SECONDS), f"{IMAGES:,} images"]
    names = [f"{data}, {mark}" if mark == marks[0] else mark for data in DATA for mark in marks]
    lines = [f"| | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for game in GAMES:
        cells = [spread(values(game, data, mark)) for data in DATA for mark in marks]
        lines.append(f"| `{game}` | {' | '.join(cells)} |")
    for title, which in (("PCA and a mixture of Gaussians", "baseline"), ("real training samples", "floor")):
        known = {r["data"]: score_of(r) for r in results() if r["game"] == "beside"}
        cells = [f"{known[data][which]:.4g}" if data in known else "–" for data in DATA for _ in marks]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def values(game: str, data: str, mark: str) -> list[float]:
    """What a game scored at a mark, one value a seed."""
    mine = [r for r in results() if (r["game"], r["data"]) == (game, data)]
    return [score_of(read)["value"] for r in mine for read in r["read"] if read["mark"] == mark]


def score_of(read: dict[str, Any]) -> dict[str, Any]:
    """The score that is shown, of a reading or of what stands beside."""
    return next(s for s in read.get("scores", read.get("read")) if s["metric"] == SHOWN)


def spread(values: list[float]) -> str:
    if not values:
        return "–"
    middle = statistics.median(values)
    return f"{middle:.1f} ({min(values):.1f}–{max(values):.1f})" if len(values) > 1 else f"{middle:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--games", nargs="+", default=list(GAMES))
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--list", action="store_true", help="print the table of what is known and stop")
    parser.add_argument("--one", action="store_true", help="the first of each, in this process")
    asked = parser.parse_args()
    if asked.one:
        game, data, seed = asked.games[0], asked.data[0], asked.seeds[0]
        read = beside(data) if game == "beside" else run(game, data, seed)
        print(json.dumps({"game": game, "data": data, "seed": seed, "read": read}, ensure_ascii=False))
        return
    if not asked.list:
        wanted = [(game, data, seed) for seed in asked.seeds for data in asked.data for game in asked.games]
        wanted = [("beside", data, 0) for data in asked.data] + wanted
        with ThreadPoolExecutor(asked.jobs) as pool:
            for _ in pool.map(lambda one: make(*one), [one for one in wanted if not made(*one)]):
                pass
    print(table())


if __name__ == "__main__":
    main()
