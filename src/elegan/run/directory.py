"""The directory of a run: created once, held by one process at a time, never overwritten.

runs/NAME/  options.json  events.jsonl  scores.jsonl  best.json  index.html  samples/00001000.png  pictures/
            checkpoints/step-00001000/
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elegan.errors import CheckpointError, ResourceError, RunInUseError

Plan = dict[str, Any]  # what options.json holds
SCORES, BEST = "scores.jsonl", "best.json"

SCHEMA = 1
PARTS = {"game": str, "options": dict, "data": dict, "spec": dict, "training": dict, "compute": dict}


class RunDirectory:
    """Paths of a run, and its options."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.options_file = self.path / "options.json"
        self.events_file = self.path / "events.jsonl"
        self.samples = self.path / "samples"
        self.checkpoints = self.path / "checkpoints"

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> "RunDirectory":
        """Make the directory of a new run.

        Raises `RunInUseError` if something is there already, `ResourceError` if it cannot be written.
        """
        run = cls(path)
        try:
            if run.options_file.exists():
                remedy = f"continue it with 'elegan resume {run.path}', or choose another --out"
                raise RunInUseError(f"{run.path} already holds a run: {remedy}.")
            if run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
                raise RunInUseError(f"{run.path} exists and is not an empty directory: choose another --out.")
            run.samples.mkdir(parents=True, exist_ok=True)
            run.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise ResourceError(f"{run.path} cannot be made ({error.strerror}): choose another --out.") from error
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunDirectory":
        """The directory of a run that exists. Raises `CheckpointError` if there is none."""
        run = cls(path)
        if not os.path.exists(run.path):  # false too for a name that no file could have
            raise CheckpointError(f"no run at {run.path}: no such directory.")
        if not run.options_file.is_file():
            raise CheckpointError(f"{run.path} is no run: it has no options.json.")
        return run

    def best_step(self) -> int:
        """The step of the checkpoint with the best score. Raises `CheckpointError` if the run has kept none."""
        try:
            return int(json.loads((self.path / BEST).read_text(encoding="utf-8"))["step"])
        except FileNotFoundError:
            remedy = "train with --score 2000 to keep one"
            raise CheckpointError(f"{self.path} has kept no best checkpoint: {remedy}.") from None
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise CheckpointError(f"{self.path / BEST} is damaged ({type(error).__name__}: {error}).") from error

    def write_options(self, options: dict[str, Any]) -> None:
        """Record what the run was made with; atomic, so that a killed process leaves the old file or the new one.

        Raises `ResourceError` if the disk refuses.
        """
        part = self.options_file.with_suffix(".json.tmp")
        try:
            with part.open("w", encoding="utf-8") as file:
                json.dump({**options, "schema": SCHEMA}, file, indent=1, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.options_file)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise ResourceError(f"{self.options_file} cannot be written ({error.strerror}): make room.") from error

    def read_options(self) -> dict[str, Any]:
        """What the run was made with. Raises `CheckpointError` if the file is damaged or from another layout."""
        try:
            options = json.loads(self.options_file.read_text(encoding="utf-8"))
            if (schema := options["schema"]) != SCHEMA:
                raise CheckpointError(f"{self.options_file} has layout {schema!r}, this elegan reads {SCHEMA}.")
            for name, kind in PARTS.items():
                if not isinstance(options[name], kind):
                    raise ValueError(f"{name} is of type {type(options[name]).__name__}")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{self.options_file} is damaged ({type(error).__name__}: {error}).") from error
        return options

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run while inside; a lock of a process that has died counts for nothing.

        Raises `RunInUseError` if another process holds it.
        """
        try:
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ResourceError(f"{self.path} cannot be written ({error.strerror}).") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunInUseError(
                    f"{self.path} is in use by another process; wait for it or choose another run."
                ) from None
            yield
        finally:
            os.close(handle)


def free_name(parent: Path, stem: str) -> Path:
    """Make the first of the directories `stem-001`, `stem-002` … that does not exist below `parent`, and return it.

    Raises `ResourceError` if it cannot be made.
    """
    number = 1
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            path = parent / f"{stem}-{number:03d}"
            try:
                path.mkdir()
            except FileExistsError:
                number += 1  # also when another process took it just now
            else:
                return path
    except OSError as error:
        raise ResourceError(f"{parent} cannot be written ({error.strerror}): choose a place with --out.") from error
