"""The event log: one JSON object a line, the truth about a run. Every step to 100, then every tenth.

kinds: started, step, change, checkpoint, score, alarm, rollback, resumed, stopped. A `resumed` and a `rollback` line
name the step that training goes on from, and supersede what was logged of later ones.
"""

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elegan.training.loop import Event

SCHEMA = 1
COUNTS, TIMES, TABLES = ("step", "images"), ("time", "seconds"), ("terms", "rates", "change", "changes", "scores")
MOST = 1e12  # of a count or a time; more is damage

Follower = Callable[[dict[str, Any]], None]


class EventLog:
    """Appends to `events.jsonl`; as a listener, logs steps. A log that cannot be written is said once, not fatal.

    followers: called with every line as it is written, or would be.
    """

    def __init__(self, path: Path, followers: Iterable[Follower] = ()):
        self.path, self.followers = path, list(followers)
        self.start = time.monotonic()
        self._rates: dict[str, float | str] = {}  # as logged last
        self._failed = False
        self._torn = torn(path)  # a crash may have cut the last line off; the next one must not join it

    def __call__(self, event: "Event") -> None:
        """Log a step: its terms, and the learning rates of its turns if they are not those logged last."""
        if event.step > 100 and event.step % 10:
            return
        facts: dict[str, Any] = {"terms": _json_numbers(event.terms)}
        if (rates := _json_numbers(event.rates)) != self._rates:
            facts["rates"] = self._rates = rates
        self.write("step", step=event.step, images=event.images, phase=event.phase, **facts)

    def write(self, kind: str, **facts: Any) -> None:
        """Append one line: schema, kind, unix time, seconds since this process began the log, and facts."""
        seconds = round(time.monotonic() - self.start, 3)
        line = {"v": SCHEMA, "kind": kind, "time": round(time.time(), 3), "seconds": seconds, **facts}
        if kind == "rollback":
            self._rates = {}  # what was logged last may be superseded
        for follower in self.followers:
            follower(line)
        try:
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("\n" * self._torn + json.dumps(line, ensure_ascii=False) + "\n")
            self._torn = False
        except OSError as error:
            if not self._failed:
                warnings.warn(f"{self.path} cannot be written ({error.strerror}); training goes on.", stacklevel=2)
            self._failed = True


def torn(path: Path) -> bool:
    """Whether the last line of a file has no end."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False  # no log yet, or an empty one


def _json_numbers(numbers: dict[str, float]) -> dict[str, float | str]:
    """Numbers as strict JSON knows them, to six digits: what is not finite becomes its name."""
    return {n: float(f"{v:.6g}") if math.isfinite(v) else str(v) for n, v in numbers.items()}


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a run as they count now: what a later `resumed` or `rollback` line supersedes, and torn lines, are
    left out. Of a long log no more than a line is held."""
    marks = [  # which line, and the step it goes on from
        (number, line["step"])
        for number, line in _lines(path, of=('"resumed"', '"rollback"'))
        if line.get("kind") in ("resumed", "rollback") and "step" in line
    ]
    last = math.inf  # of the steps that count, before each mark
    bounds = [(number, last := min(last, step)) for number, step in reversed(marks)][::-1]
    for number, line in _lines(path):
        while bounds and number >= bounds[0][0]:
            bounds.pop(0)
        if not bounds or line.get("step", 0) <= bounds[0][1]:
            yield line


def _lines(path: Path, of: Sequence[str] = ("",)) -> Iterator[tuple[int, dict[str, Any]]]:
    """The sound lines of a log that hold one of some words, with their numbers."""
    if not path.is_file():  # a device would never end
        return
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, text in enumerate(file):
            if any(word in text for word in of):
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError):
                    continue  # a line torn by a crash
                if _sound(line):
                    yield number, line


def _sound(line: Any) -> bool:
    """Whether a line is an object in which each fact that readers count on, if it is there, is of its type."""
    if not isinstance(line, dict):
        return False
    counts, times = ([line.get(name, 0) for name in names] for names in (COUNTS, TIMES))
    typed = all(isinstance(n, int) for n in counts) and all(isinstance(n, (int, float)) for n in times)
    tables = all(isinstance(line.get(name, {}), dict) for name in TABLES)
    return typed and tables and all(0 <= number < MOST for number in counts + times)


def decided(path: Path, step: int) -> list[dict[str, Any]]:
    """What was decided at a step after its checkpoint was written, and so is in no checkpoint: changes by listeners
    and rollbacks to it, in order."""
    return [line for line in read(path) if line.get("kind") in ("change", "rollback") and line.get("step") == step]
