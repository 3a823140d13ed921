"""A warmed process that forks processes of a training, as `srun` starts them: without torchrun, in a second or less.

A question is a line of JSON, and so are its answers: the processes by rank, and when all have ended, their exit codes.
"""

import contextlib
import gc
import hashlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WARM = (
    "torch.distributed", "elegan.api", "elegan.cli.progress", "elegan.cli.resume", "elegan.cli.train",
)  # fmt: skip
PATIENCE = 60  # seconds; what takes longer hangs, and is killed
HUNG = 98  # the exit code of what was killed for it
Tokens = Sequence[object]


@dataclass(frozen=True)
class Ended:
    """What became of a process. code: its exit status, negative for the signal that ended it; seconds: how long ago."""

    code: int
    out: str
    err: str
    at: float

    @property
    def said(self) -> list[str]:
        """What elegan said on stderr, without warnings."""
        return [x for x in self.err.splitlines() if x.startswith("elegan: ") and "elegan: warning: " not in x]


class Ranks:
    """The warmed process, from the side that asks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(
        self,
        commands: Sequence[Tokens],
        *,
        here: Path,
        settings: Mapping[str, Any] = {},
        environment: Mapping[str, str] = {},
        record: Path | None = None,
        thorough: bool = False,
        at: tuple[int, str, str] | None = None,
    ) -> list[int]:
        """Run a command line in each of so many ranks; their process numbers. settings: module.NAME -> its value there.
        record: the name of files, one for each rank, of what is read and drawn. thorough: end as a process of its own
        would, which takes two seconds to take down all that is warm. at: a rank, the module:NAME of a function, and the
        signal that it sends itself at the first call, or "wait": once there is a file `armed`, it makes a file `there`
        at each call, and goes on when that is gone, or after three seconds."""
        self._here = here
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        question = {
            "commands": [[str(token) for token in tokens] for tokens in commands], "here": str(here), "port": port,
            "settings": dict(settings), "environment": dict(environment), "record": str(record) if record else "",
            "thorough": thorough, "at": at,
        }  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def ended(self) -> list[Ended]:
        """Wait for all of them."""
        return [
            Ended(code, *((self._here / f"{name}.{rank}").read_text() for name in ("out", "err")), at)
            for rank, (code, at) in enumerate(self._answer())
        ]

    def run(self, commands: Sequence[Tokens], **settings: Any) -> list[Ended]:
        self.start(commands, **settings)
        return self.ended()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


@contextlib.contextmanager
def warmed() -> Iterator[Ranks]:
    ranks = Ranks()
    try:
        yield ranks
    finally:
        ranks.close()


# ---- the side that answers


def serve() -> None:
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    for name in WARM:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.freeze()  # or each child would copy what its collector marks
    for line in sys.stdin:
        question = json.loads(line)
        children = []
        for rank in range(len(question["commands"])):
            if not (child := os.fork()):
                _child(rank, question)
            children.append(child)
        print(json.dumps(children), flush=True)
        print(json.dumps(_wait(children)), flush=True)


def _wait(children: Sequence[int]) -> list[tuple[int, float]]:
    """The exit codes of processes, and when they ended; of those that are stopped, and of those that hang, HUNG."""
    ended: dict[int, tuple[int, float]] = {}
    until = time.monotonic() + PATIENCE
    while len(ended) < len(children):
        for child in set(children) - ended.keys():
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                ended[child] = os.waitstatus_to_exitcode(status), time.monotonic()
            elif time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                ended[child] = HUNG, time.monotonic()
        select.select([], [], [], 0.005)
    return [ended[child] for child in children]


def _child(rank: int, question: Mapping[str, Any]) -> None:
    """Run a command line as a rank, to the very end of the process."""
    os.chdir(question["here"])
    size = len(question["commands"])
    if size > 1:
        os.environ.update(
            RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(question["port"])
        )
    os.environ.update(question["environment"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}.{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    for name, value in question["settings"].items():
        module, _, setting = name.rpartition(".")
        assert hasattr(importlib.import_module(module), setting)
        setattr(sys.modules[module], setting, value)
    if question["at"] and question["at"][0] == rank:
        _hook(*question["at"][1:])
    if question["record"]:
        _record(Path(f"{question['record']}.{rank}"))
    from elegan.cli import main

    code = main(question["commands"][rank])
    sys.stdout.flush()
    sys.stderr.flush()
    if question["thorough"]:
        sys.exit(code)
    os._exit(code)


def _hook(function: str, what: str) -> None:
    """Have a call of a function do something first."""
    module, _, name = function.partition(":")
    owner: Any = importlib.import_module(module)
    *path, name = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    real, calls = getattr(owner, name), []

    def hooked(*args: Any, **named: Any) -> Any:
        if what == "wait" and os.path.exists("armed"):
            Path("there").touch()
            until = time.monotonic() + 3
            while os.path.exists("there") and time.monotonic() < until:
                time.sleep(0.005)
        elif what != "wait" and not calls:
            calls.append(args)
            Path("sent").write_text(str(time.monotonic()))
            os.kill(os.getpid(), getattr(signal, what))
        return real(*args, **named)

    setattr(owner, name, hooked)


def _record(path: Path) -> None:
    """Write a checksum of each shard that is read, and of all noise that is drawn for it, with its place."""
    import torch

    from elegan.data.batches import Batches
    from elegan.training import loop

    read, seed_at = Batches.__call__, loop.seed_at

    def reading(self: Any, seed: int, number: int, shard: int, rows: int, fields: Any = None) -> Any:
        batch = read(self, seed, number, shard, rows, fields)
        content = b"".join(batch[name].numpy().tobytes() for name in sorted(batch))
        note("read", number, shard, hashlib.sha256(content).hexdigest())
        return batch

    def seeding(device: Any, *place: Any) -> None:
        seed_at(device, *place)
        kept = torch.get_rng_state()
        note("noise", *place, hashlib.sha256(torch.randn(8).numpy().tobytes()).hexdigest())
        torch.set_rng_state(kept)

    def note(*facts: Any) -> None:
        with path.open("a") as file:
            file.write(json.dumps(facts) + "\n")

    Batches.__call__, loop.seed_at = reading, seeding  # type: ignore[method-assign]


if __name__ == "__main__":
    serve()
