"""The runs below one folder, by ids that mean nothing elsewhere: a client names no path, ever."""

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from elegan.errors import CheckpointError, ElegantError, plain
from elegan.run import checkpoint
from elegan.run.directory import RunDirectory
from elegan.view.history import Curve, history

MOST_RUNS = 500
LARGEST_PICTURE = 16 << 20  # bytes


class Runs:
    """The runs that lie in `root`, or in folders that do. What a symbolic link leads to elsewhere is not there."""

    def __init__(self, root: Path):
        self.root = root
        self._ids: dict[Path, str] = {}
        self._paths: dict[str, Path] = {}

    def list(self) -> list[dict[str, Any]]:
        """All of them, the newest first; what cannot be read says why."""
        try:
            folders = [path for path in self.root.iterdir() if self._inside(path) and path.is_dir()]
            found = [path for path in folders if RunDirectory(path).exists()]
            found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        except OSError:
            return []
        return [self._info(path) for path in found[:MOST_RUNS]]

    def path(self, name: str) -> Path:
        """Where a run lies, by its id. Raises `HTTPException` 404."""
        path = self._paths.get(name)
        if path is None or not self._inside(path) or not path.is_dir():
            raise HTTPException(404, "there is no such run (any more).")
        return path

    def history(self, name: str) -> dict[str, Any]:
        """What its log tells: curves as lists of (step, value), alarms, and the steps that have pictures."""
        from elegan.run import events  # whose log a training writes too

        path = self.path(name)
        info = self._info(path)
        log = RunDirectory(path).events_file
        try:
            told = history(events.read(log) if self._inside(log) else (), info["steps"])
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            info["error"] = info["error"] or f"events.jsonl is damaged ({type(error).__name__}: {error})."
            told = history((), info["steps"])
        return {
            **info,
            "terms": curves([*told.terms, *told.logits, *told.right, *told.gradients]),
            "scores": curves(told.scores),
            "alarms": [dict(zip(("step", "name", "said"), alarm, strict=True)) for alarm in told.alarms],
            "pictures": sorted(
                int(file.stem) for file in (path / "samples").glob("[0-9]*.png") if file.stem.isdecimal()
            ),
        }

    def picture(self, name: str, step: int) -> bytes:
        """The frame that a run drew at a step, a PNG. Raises `HTTPException` 404."""
        file = self.path(name) / "samples" / f"{step:08d}.png"
        if not self._inside(file) or not file.is_file() or file.stat().st_size > LARGEST_PICTURE:
            raise HTTPException(404, "the run has no picture of that step.")
        return file.read_bytes()

    def _inside(self, path: Path) -> bool:
        """Whether a path is below the root in truth, whatever links lie on the way."""
        try:
            return path.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError):  # a link that leads to itself
            return False

    def _id(self, path: Path) -> str:
        if path not in self._ids:
            self._ids[path] = secrets.token_urlsafe(9)
            self._paths[self._ids[path]] = path
        return self._ids[path]

    def _info(self, path: Path) -> dict[str, Any]:
        run = RunDirectory(path)
        told = {"id": self._id(path), "name": plain(path.name), "game": "", "data": "", "step": 0, "steps": 0}
        told |= {"plane": False, "error": ""}
        try:
            if not self._inside(run.options_file):
                raise CheckpointError(f"{run.options_file.name} lies in another folder.")
            if fault := run.options_fault():
                raise CheckpointError(f"{fault}.")
            plan = run.read_options()
            steps = checkpoint.steps(run.checkpoints)
            real = plan["spec"].get("real", {})
            plane = real.get("kind") == "vector" and real.get("shape") == [2] and "groups" not in real.get("about", {})
            return {
                **told, "game": plan["game"], "data": Path(plan["data"]["name"]).name, "plane": plane,
                "steps": int(plan["training"]["steps"]), "step": int(steps[0].name[5:]) if steps else 0,
            }  # fmt: skip
        except (ElegantError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            said = str(error) if isinstance(error, ElegantError) else f"{run.options_file.name} is damaged: {error!r}."
            return {**told, "error": said}


def curves(found: Iterable[Curve]) -> dict[str, list[tuple[int, float]]]:
    """Curves as the page draws them; what was not finite is left out."""
    return {
        curve.name: [(s, v) for s, v in zip(curve.steps, curve.values, strict=True) if v is not None] for curve in found
    }
