"""The directory of a run: created once, held by one process at a time, never overwritten.

runs/NAME/  options.json  events.jsonl  scores.jsonl  best.json  index.html  samples/00001000.png  pictures/
            checkpoints/step-00001000/
"""

import contextlib
import fcntl
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elegan.disk import make_folder, sync_folder, write_synced
from elegan.errors import CheckpointError, ResourceError, RunInUseError

Plan = dict[str, Any]  # what options.json holds
SCORES, BEST = "scores.jsonl", "best.json"

SCHEMA = 1
PARTS = {"game": str, "options": dict, "data": dict, "spec": dict, "training": dict, "compute": dict}
DAMAGED = (OSError, ValueError, KeyError, TypeError, RecursionError)  # what reading a damaged options.json raises


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
            if run.path.exists() and (not run.path.is_dir() or not run._is_bare()):
                raise RunInUseError(f"{run.path} exists and is not an empty directory: choose another --out.")
            make_folder(run.samples)
            make_folder(run.checkpoints)
        except OSError as error:
            raise ResourceError(f"{run.path} cannot be made ({error.strerror}): choose another --out.") from error
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunDirectory":
        """The directory of a run that exists, if only by its checkpoints. Raises `CheckpointError` if there is none."""
        run = cls(path)
        if not os.path.exists(run.path):  # false too for a name that no file could have
            raise CheckpointError(f"no run at {run.path}: no such directory.")
        if not run.exists():
            raise CheckpointError(f"{run.path} is no run: it has no options.json.")
        return run

    def _is_bare(self) -> bool:
        """Whether nothing is there but what a process left that was killed as it began a run."""
        made, part = (self.samples, self.checkpoints), Path(f"{self.options_file}.tmp")
        return all(
            path == part or (path in made and path.is_dir() and not any(path.iterdir())) for path in self.path.iterdir()
        )

    def best_step(self) -> int:
        """The step of the checkpoint with the best score. Raises `CheckpointError` if the run has kept none."""
        try:
            return int(json.loads((self.path / BEST).read_text(encoding="utf-8"))["step"])
        except FileNotFoundError:
            remedy = "train with --score 2000 to keep one"
            raise CheckpointError(f"{self.path} has kept no best checkpoint: {remedy}.") from None
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise CheckpointError(f"{self.path / BEST} is damaged ({type(error).__name__}: {error}).") from error

    def exists(self) -> bool:
        """Whether there is a run: its options or, if they are lost, a checkpoint."""
        try:
            names = os.listdir(self.checkpoints)
        except (OSError, ValueError):  # none, closed, or a name that no folder could have
            names = []
        return os.path.isfile(self.options_file) or any(n.removeprefix("step-").isdecimal() for n in names)

    def write_options(self, options: Plan) -> None:
        """Record what the run was made with; a killed process or a power cut leaves the old file or the new one.

        Raises `ResourceError` if the disk refuses.
        """
        text = json.dumps({**options, "schema": SCHEMA}, indent=1, ensure_ascii=False)
        write_synced(self.options_file, text.encode(errors="backslashreplace"))  # JSON reads what names no text has

    def options_fault(self) -> str:
        """What is wrong with options.json, in a few words; empty if it is whole.

        Raises `CheckpointError` if it is from another layout.
        """
        try:
            self._options()
        except DAMAGED as error:
            return self._said(error)
        return ""

    def read_options(self) -> Plan:
        """What the run was made with; if options.json is lost or damaged, as the newest checkpoint recorded it, with a
        warning. A manifest proves itself, so the checkpoint's tensors are not read for it.

        Raises `CheckpointError` if neither is whole, or from another layout.
        """
        try:
            return self._options()
        except DAMAGED as error:
            fault = self._said(error)
        from elegan.run import checkpoint

        for path, facts in checkpoint.recorded(self.checkpoints):
            with contextlib.suppress(*DAMAGED):
                plan = self._checked({"schema": SCHEMA, **facts["plan"]}, path)
                # of one place, so that it is said once however many ask
                warnings.warn(f"{fault}; using what {path.name} recorded.", stacklevel=1)
                return plan
        raise CheckpointError(f"{fault}, and no checkpoint has recorded what it held.")

    def _said(self, error: Exception) -> str:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        return f"{self.options_file} is damaged ({reason})"

    def _options(self) -> Plan:
        return self._checked(json.loads(self.options_file.read_text(encoding="utf-8")), self.options_file)

    @staticmethod
    def _checked(options: Plan, where: Path) -> Plan:
        """Options of the right form. Raises one of `DAMAGED`, or `CheckpointError` for another layout."""
        if (schema := options["schema"]) != SCHEMA:
            raise CheckpointError(f"{where} has layout {schema!r}, this elegan reads {SCHEMA}.")
        for name, kind in PARTS.items():
            if not isinstance(options[name], kind):
                raise ValueError(f"{name} is of type {type(options[name]).__name__}")
        if not isinstance(options["data"]["name"], str):
            raise ValueError("data.name is no text")
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
        make_folder(parent)
        while True:
            path = parent / f"{stem}-{number:03d}"
            try:
                path.mkdir()
            except FileExistsError:
                number += 1  # also when another process took it just now
            else:
                sync_folder(parent)
                return path
    except OSError as error:
        raise ResourceError(f"{parent} cannot be written ({error.strerror}): choose a place with --out.") from error
