"""What the event log of a run says, as numbers to draw: its state, curves no longer than a screen needs, speeds."""

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

POINTS = 800  # of one curve, at most
SPANS = 200  # stretches of time over which speeds are taken, at most
LEAST_SPAN = 0.1  # seconds
LARGEST = 1e300  # of a value that a curve shows
PANELS = {"grad": "gradients", "real": "logits", "fake": "logits", "right": "right"}  # by the last part of a name


@dataclass(frozen=True)
class Curve:
    """One number over the steps; None where it was not finite. `missing` counts those before thinning."""

    name: str
    steps: list[int]
    values: list[float | None]
    missing: int = 0


class Points:
    """(step, value) pairs, as small as numbers are: a log has as many as a training has steps."""

    def __init__(self) -> None:
        self.steps, self.values = array("d"), array("d")

    def add(self, step: int, value: Any) -> None:
        self.steps.append(step)
        self.values.append(number(value))

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(map(int, self.steps), self.values, strict=True)


@dataclass
class History:
    """A run so far. `state` is in a person's words; `seconds` is the time of all its processes that still counts."""

    state: str = "not started"
    step: int = 0
    images: int = 0
    seconds: float = 0.0
    rate: float = 0.0  # images a second, over all
    undone: int = 0  # logged steps with a move that was not finite
    written: float = 0.0  # unix time of the newest line
    terms: list[Curve] = field(default_factory=list)
    logits: list[Curve] = field(default_factory=list)
    right: list[Curve] = field(default_factory=list)
    gradients: list[Curve] = field(default_factory=list)
    speeds: list[Curve] = field(default_factory=list)
    rates: list[Curve] = field(default_factory=list)
    scores: list[Curve] = field(default_factory=list)
    changes: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    alarms: list[tuple[int, str, str]] = field(default_factory=list)  # step, name, and what was said


def history(lines: Iterable[Mapping[str, Any]], total: int) -> History:
    """The history told by the lines of an event log (see `run/events.py`) of a run that is to make `total` steps."""
    told = History()
    terms, rates, scores = (defaultdict[str, Points](Points) for _ in range(3))
    now: Mapping[str, Any] = {}  # rates stand in the log when they change
    processes: list[Clock] = []  # the clock of the log starts anew in each
    for line in lines:
        kind, step = line.get("kind"), line.get("step", 0)
        told.step, told.written = max(told.step, step), line.get("time", told.written)
        if kind in ("started", "resumed") or not processes:
            processes.append(Clock())
            told.state = "training"
        processes[-1].last = line.get("seconds", 0.0)
        if kind == "step":
            told.images = line.get("images", told.images)
            told.undone += bool(line.get("terms", {}).get("bad"))
            now = line.get("rates", now)
            for numbers, curves in ((line.get("terms", {}), terms), (now, rates)):
                for name, value in numbers.items():
                    curves[name].add(step, value)
            if {"step", "images", "seconds"} <= line.keys():
                processes[-1].read.extend((step, line["images"], line["seconds"]))
        elif kind == "score":
            for name, value in line.get("scores", {}).items():
                scores[name].add(step, value)
        elif kind == "change":
            told.changes.append((step, dict(line.get("change", {}))))
        elif kind == "alarm":
            said = f"{line['why']}; {line.get('remedy', '')}" if line.get("why") else "over"
            told.alarms.append((step, str(line.get("name")), said))
        elif kind == "rollback":
            told.changes.append((step, {"gone back, with other noise": line.get("why")}))
        elif kind == "stopped":
            told.state = ending(str(line.get("by", "end")), step, total)
    told.seconds = sum(clock.last for clock in processes)
    told.speeds, told.rate = speeds(processes)
    for name, points in terms.items():
        if name != "bad":
            getattr(told, PANELS.get(name.rpartition(".")[2], "terms")).append(curve(name, points))
    told.rates = [curve(name, points) for name, points in rates.items()]
    told.scores = [curve(name, points) for name, points in scores.items()]
    return told


def ending(by: str, step: int, total: int) -> str:
    """How a run ended, by the word in its log: the end, a signal, or the name of an error."""
    if by == "end":
        return "finished" if step >= total else "stopped before its end"
    return f"stopped by {by}"


def curve(name: str, points: Iterable[tuple[int, Any]]) -> Curve:
    """One curve of (step, value); values that are not finite stand in a log by their names."""
    pairs = list(points)
    steps = [step for step, _ in pairs]
    values = np.array([number(value) for _, value in pairs], np.float64)
    kept = range(len(steps)) if len(steps) <= POINTS else extremes(values)
    shown = [float(values[k]) if math.isfinite(values[k]) else None for k in kept]
    return Curve(name, [steps[k] for k in kept], shown, int((~np.isfinite(values)).sum()))


def number(value: Any) -> float:
    """A value of the log; what is no number is nan."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < LARGEST else math.nan


def extremes(values: np.ndarray) -> list[int]:
    """The places, at most POINTS, of the first, the last, and the least and greatest of equal stretches between."""
    kept = {0, len(values) - 1}
    for start, end in pairwise(np.linspace(1, len(values) - 1, POINTS // 2).astype(int).tolist()):
        finite = start + np.flatnonzero(np.isfinite(values[start:end]))
        kept |= {int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()])} if len(finite) else {start}
    return sorted(kept)


@dataclass
class Clock:
    """What one process logged: its last time, and step, images and seconds of each step, one behind the other."""

    last: float = 0.0
    read: "array[float]" = field(default_factory=lambda: array("d"))

    def rows(self) -> list[tuple[float, float, float]]:
        return list(zip(self.read[::3], self.read[1::3], self.read[2::3], strict=True))


def speeds(processes: list[Clock]) -> tuple[list[Curve], float]:
    """Images a second over stretches of each process's time, and over all of it; pauses between processes count not."""
    logs = [rows for clock in processes if (rows := clock.rows())]
    shown = sum(rows[-1][1] - rows[0][1] for rows in logs)
    spent = sum(rows[-1][2] - rows[0][2] for rows in logs)
    if not shown or spent <= 0:
        return [], 0.0
    points = []
    span = max(spent / SPANS, LEAST_SPAN)
    for rows in logs:
        _, images, seconds = rows[0]
        for step, read, now in rows:
            if now - seconds >= span:
                points.append((int(step), float(f"{(read - images) / (now - seconds):.4g}")))
                images, seconds = read, now
    return [curve("images a second", points)] if points else [], shown / spent
