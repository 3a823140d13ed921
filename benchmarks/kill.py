"""Kills a training at random instants, resumes it, and kills it again; in the end nothing may be different.

    python benchmarks/kill.py [--kills 500] [--seed 0] [--steps 300]

A tiny game saves at every step, or every few. A child forked from this process trains it, until SIGKILL: somewhere in
its first half second, or some instant after it has made a few steps. The next one must go on from the newest
checkpoint that was whole at that moment. When one at last comes to the end, its weights, average, moments and state
must be those of a run that was never disturbed, to the bit, its log must hold each step once, and nothing may be left.
"""

import argparse
import hashlib
import json
import mmap
import os
import random
import shutil
import signal
import statistics
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import torch

from elegan import api
from elegan.run import events, saving
from elegan.training.loop import Event

EVERY = (0.0, 0.0, 0.03, 0.1)  # seconds between two saves of a child
EARLY, LATE = 0.5, 0.03  # seconds, the latest instant to die: after a child's birth, after its steps
STEPS = 25  # at most, that a child makes before it dies
SHARE_EARLY = (0.25, 0.5)  # of the kills, of those of a run that has no checkpoint yet
PATIENCE = 120.0
KEEP = 2  # checkpoints that stay, the default of --keep
MADE = mmap.mmap(-1, 16)  # the step that the child made last, −1 for none, and how many; shared with the children


@dataclass
class Told:
    """What has been seen. lost: steps, of each kill; equal: runs that ended as the undisturbed one, of `ended`."""

    lost: list[int] = field(default_factory=list)
    saves: int = 0
    prunes: int = 0
    unborn: int = 0
    equal: int = 0
    ended: int = 0

    def line(self, seconds: float) -> str:
        return (
            f"{len(self.lost)} kills, {self.saves} within a save, {self.prunes} within pruning, "
            f"{self.unborn} before the first checkpoint; "
            f"steps lost: median {statistics.median(self.lost):g}, most {max(self.lost)}; "
            f"runs bitwise equal: {self.equal}/{self.ended}; {seconds:.0f} s"
        )


class Killer:
    """One run after the other in a folder, killed and resumed until it ends."""

    def __init__(self, place: Path, steps: int, seed: int):
        self.data, self.run, self.steps = place / "data.npz", place / "run", steps
        self.draw, self.told = random.Random(seed), Told()
        images(self.data)
        torch.set_num_threads(1)
        self.straight = place / "straight"
        forked(lambda: self._train(self.straight))
        ended(self.straight, self.straight, steps)
        self.start, self.resumes = -1, 0  # the newest whole checkpoint, −1 for none; how often the log says `resumed`

    def _train(self, out: Path) -> None:
        made = dict(preset="tiny", batch=8, steps=self.steps, threads=1, precision="fp32")
        api.train("dcgan", self.data, out=out, listeners=[note], **made)  # pyright: ignore[reportArgumentType]

    def _go(self, every: float) -> None:
        saving.LEAST_SECONDS, saving.SAVES_COST = every, 0
        if self.start < 0:
            self._train(self.run)
        else:
            api.resume(self.run, listeners=[note])

    def kill(self) -> None:
        """Let a child go on, kill it, and look at what is left; or, if it came to the end, at that."""
        if self.start < 0:
            shutil.rmtree(self.run, ignore_errors=True)
        every, early = self.draw.choice(EVERY), self.draw.random() < SHARE_EARLY[self.start < 0]
        delay = self.draw.uniform(0, EARLY if early else LATE)
        steps = 0 if early else self.draw.randint(1, STEPS)
        alive = forked(lambda: self._go(every), lambda child: dies(child, steps, delay))
        self._resumed()
        if not alive:
            return self._end()
        made = struct.unpack("qq", MADE)[0]
        there = [path for path in self.run.glob("checkpoints/step-*") if path.name[5:].isdigit()]
        whole = sorted(step_of(path) for path in there if complete(path))
        assert len(whole) == len(there), "something half-made has a checkpoint's name"
        newest = whole[-1] if whole else -1
        left = [step_of(path) for path in self.run.glob("checkpoints/step-*.tmp-*")]
        assert newest >= max([self.start, *announced(self.run)]), "a checkpoint is lost"
        assert made < 0 or newest >= 0, "steps were made before there was a checkpoint"
        self.told.lost.append(max(0, made - newest) if made >= 0 else 0)
        self.told.saves += any(step > newest for step in left)
        self.told.prunes += len(whole) > KEEP or any(step <= newest for step in left)
        self.told.unborn += newest < 0
        self.start = newest
        self.resumes = 0 if newest < 0 else self.resumes
        return None

    def finish(self) -> None:
        """Let the run that is under way come to its end."""
        if self.start >= 0:
            forked(lambda: self._go(EVERY[-1]))
            self._resumed()
            self._end()

    def _resumed(self) -> None:
        """A child that has come so far went on from the newest whole checkpoint."""
        said = [line["step"] for line in logged(self.run) if line["kind"] == "resumed"]
        assert said[self.resumes :] in ([], [self.start]), f"went on from {said[self.resumes :]}, not {self.start}"
        self.resumes = len(said)

    def _end(self) -> None:
        self.told.ended += 1
        ended(self.run, self.straight, self.steps)
        self.told.equal += 1
        self.start, self.resumes = -1, 0


def images(path: Path) -> None:
    """64 images of 1×8×8, with labels."""
    label = np.arange(64) % 4
    noise = np.random.default_rng(0).integers(0, 64, (64, 8, 8), dtype=np.uint8)
    np.savez(path, real=noise + (label * 40).astype(np.uint8)[:, None, None], label=label)


def note(event: Event) -> None:
    made = struct.unpack("qq", MADE)[1]
    MADE[:] = struct.pack("qq", event.step, made + 1)


def forked(work: Callable[[], None], until: Callable[[int], bool] = lambda child: dies(child, 10**9, 0)) -> bool:
    """Work in a forked child; whether it was killed. Raises if it failed by itself."""
    assert len(os.listdir("/proc/self/task")) == 1, "a process of several threads cannot be forked"
    MADE[:] = struct.pack("qq", -1, 0)
    child = os.fork()
    if not child:
        code = 1
        try:
            warnings.filterwarnings("error", category=UserWarning)  # nothing here is ever damaged
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return until(child)


def dies(child: int, steps: int, delay: float) -> bool:
    """Kill a child so many seconds after so many steps of its own; False if it had come to its end before."""
    begun = deadline = time.monotonic() + PATIENCE
    while time.monotonic() < begun + delay:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"a child ended with {os.waitstatus_to_exitcode(status)}"
            return False
        if begun == deadline and struct.unpack("qq", MADE)[1] >= steps:
            begun = time.monotonic()
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert begun < deadline, "a child did not come so far"
    return os.WIFSIGNALED(status)


def complete(path: Path) -> bool:
    """Whether each file that a checkpoint's manifest names is there, with its checksum."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in path.glob("*.safetensors")}
    return found == {name: entry["sha256"] for name, entry in manifest["files"].items()}


def step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-").partition(".")[0])


def logged(run: Path) -> list[dict]:
    """The lines of a log as they are, but for one that was torn."""
    lines = []
    for text in (run / "events.jsonl").read_text().splitlines() if (run / "events.jsonl").exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def announced(run: Path) -> list[int]:
    return [line["step"] for line in logged(run) if line["kind"] == "checkpoint"]


def ended(run: Path, straight: Path, steps: int) -> None:
    """A run that came to its end is the undisturbed one: all tensors, the state, the log; and nothing is left over."""
    found, expected = ((r / "checkpoints" / f"step-{steps:08d}") for r in (run, straight))
    for path in sorted(expected.glob("*.safetensors")):
        assert path.read_bytes() == (found / path.name).read_bytes(), f"{path.name} differs"
    states = [json.loads((p / "manifest.json").read_bytes())["facts"]["state"] for p in (found, expected)]
    assert states[0] == states[1], states
    names = [line["step"] for line in events.read(run / "events.jsonl") if line["kind"] == "step"]
    assert names == [step for step in range(1, steps + 1) if step <= 100 or step % 10 == 0], names
    left = sorted(path.name for path in run.glob("checkpoints/*"))
    assert len(left) == KEEP, left
    assert all(name[5:].isdigit() for name in left), left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=300, help="of each run")
    asked = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        killer = Killer(Path(folder), asked.steps, asked.seed)
        while len(killer.told.lost) < asked.kills:
            killer.kill()
        killer.finish()
    print(killer.told.line(time.monotonic() - start))
    sys.exit(killer.told.equal != killer.told.ended)


if __name__ == "__main__":
    main()
