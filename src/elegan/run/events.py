"""The event log: one JSON object a line, the truth about a run. Every step to 100, then every tenth."""

import json
import math
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elegan.training.loop import Event

SCHEMA = 1


class EventLog:
    """Appends to `events.jsonl`; as a listener, logs steps. A log that cannot be written is said once, not fatal."""

    def __init__(self, path: Path):
        self.path = path
        self.start = time.monotonic()
        self._last: Event | None = None
        self._failed = False
        self._torn = _torn(path)  # a crash may have cut the last line off; the next one must not join it

    def __call__(self, event: Event) -> None:
        if event.step <= 100 or event.step % 10 == 0:
            self.write("step", step=event.step, images=event.images, phase=event.phase, terms=_json_terms(event.terms))

    def write(self, kind: str, **facts: Any) -> None:
        """Append one line: schema, kind, unix time, seconds since this process began the log, and facts."""
        seconds = round(time.monotonic() - self.start, 3)
        line = {"v": SCHEMA, "kind": kind, "time": round(time.time(), 3), "seconds": seconds, **facts}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._torn + json.dumps(line, ensure_ascii=False) + "\n")
            self._torn = False
        except OSError as error:
            if not self._failed:
                warnings.warn(f"{self.path} cannot be written ({error.strerror}); training goes on.", stacklevel=2)
            self._failed = True


def _torn(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False  # no log yet, or an empty one


def _json_terms(terms: dict[str, float]) -> dict[str, float | str]:
    """Terms as strict JSON knows them: what is not finite becomes its name."""
    return {n: float(f"{v:.6g}") if math.isfinite(v) else str(v) for n, v in terms.items()}


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a run as they count now: what a later `resumed` line supersedes, and torn lines, are left out."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                line = json.loads(text)
            except ValueError:
                continue  # a line torn by a crash
            if not isinstance(line, dict) or not isinstance(line.get("step", 0), int):
                continue
            if line.get("kind") == "resumed" and "step" in line:
                lines = [old for old in lines if old.get("step", 0) <= line["step"]]
            lines.append(line)
    yield from lines
