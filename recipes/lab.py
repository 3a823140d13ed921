"""The trained starts of the lab: its default game, trained once on each distribution in the plane.

    python recipes/lab.py [--data ring two] [--jobs 2]

Each takes about a minute on one thread and is written to `src/elegan/studio/lab/trained/NAME.safetensors`: the tensors
of the game as `game/NAME`, those of the average as `average/NAME`, and as JSON in the metadata, under `about`, what
they were trained with: options, seed, steps, and the fingerprint of the data. One that is there already, of the options
and the data as they are now, is not made again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import elegan
from elegan import zoo
from elegan.data.readers.toys import ABOUT
from elegan.data.sources import open_data
from elegan.model import from_json
from elegan.run import checkpoint
from elegan.studio.setup import DEFAULT

TRAINED = Path(__file__).parents[1] / "src/elegan/studio/lab/trained"
SEED = 0


def about(data: str, steps: int | None = None) -> dict[str, Any]:
    """What a start on some data is trained with."""
    chosen = zoo.settings(DEFAULT.game, DEFAULT.preset, from_json(DEFAULT.options), data, "vector")
    return {
        "game": DEFAULT.game,
        "options": {name: list(v) if isinstance(v, tuple) else v for name, v in chosen.options.items()},
        "seed": SEED,
        "steps": steps or chosen.training["steps"],
        "data": open_data(data).fingerprint,
    }


def stands(path: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether a start is there, of these options and this data."""
    try:
        with safe_open(path, "numpy") as file:
            return json.loads((file.metadata() or {})["about"]) == wanted
    except (OSError, SafetensorError, KeyError, ValueError):
        return False


def make(data: str, folder: Path = TRAINED, steps: int | None = None) -> Path:
    """Train on some data and write the start."""
    told = about(data, steps)
    path = folder / f"{data}.safetensors"
    if stands(path, told):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        elegan.train(DEFAULT.game, data, out=run, preset=DEFAULT.preset, steps=told["steps"], seed=SEED, threads=1,
                     precision="fp32", **from_json(DEFAULT.options))  # fmt: skip
        found = checkpoint.newest(run / "checkpoints").tensors
    parts = {"game": found["weights"], "average": found["average"]}
    tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    save_file(tensors, path, metadata={"about": json.dumps(told)})
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=[*ABOUT], default=[*ABOUT])
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time")
    asked = parser.parse_args()
    if len(asked.data) == 1:
        path = make(asked.data[0])
        print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)
        return
    with ThreadPoolExecutor(asked.jobs) as pool:  # each in a process of its own
        list(pool.map(lambda data: subprocess.run([sys.executable, __file__, "--data", data], check=True), asked.data))


if __name__ == "__main__":
    main()
