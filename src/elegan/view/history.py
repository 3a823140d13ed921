"""What the event log of a run says, as numbers to draw: its state, curves no longer than a screen needs, speeds."""

import math
from collections.abc import Iterable, Mapping
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


def history(lines: Iterable[Mapping[str, Any]], total: int) -> History:
    """The history told by the lines of an event log (see `run/events.py`) of a run that is to make `total` steps."""
    told = History()
    terms: dict[str, list[tuple[int, Any]]] = {}
    rates: dict[str, list[tuple[int, Any]]] = {}
    scores: dict[str, list[tuple[int, Any]]] = {}
    now: Mapping[str, Any] = {}  # rates stand in the log when they change
    processes: list[list[Mapping[str, Any]]] = []  # the clock of the log starts anew in each
    for line in lines:
        kind, step = line.get("kind"), line.get("step", 0)
        told.step, told.written = max(told.step, step), line.get("time", told.written)
        if kind in ("started", "resumed") or not processes:
            processes.append([])
            told.state = "training"
        processes[-1].append(line)
        if kind == "step":
            told.images = line.get("images", told.images)
            told.undone += bool(line.get("terms", {}).get("bad"))
            now = line.get("rates", now)
            for numbers, curves in ((line.get("terms", {}), terms), (now, rates)):
                for name, value in numbers.items():
                    curves.setdefault(name, []).append((step, value))
        elif kind == "score":
            for name, value in line.get("scores", {}).items():
                scores.setdefault(name, []).append((step, value))
        elif kind == "change":
            told.changes.append((step, dict(line.get("change", {}))))
        elif kind == "rollback":
            told.changes.append((step, {"gone back, with other noise": line.get("why")}))
        elif kind == "stopped":
            told.state = ending(str(line.get("by", "end")), step, total)
    told.seconds = sum(lines[-1].get("seconds", 0.0) for lines in processes if lines)
    measured = {"step", "images", "seconds"}
    steps = [[x for x in lines if x.get("kind") == "step" and measured <= x.keys()] for lines in processes]
    told.speeds, told.rate = speeds(steps)
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


def curve(name: str, points: list[tuple[int, Any]]) -> Curve:
    """One curve of (step, value); values that are not finite stand in a log by their names."""
    steps = [step for step, _ in points]
    values = np.array([number(value) for _, value in points], np.float64)
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


def speeds(processes: list[list[Mapping[str, Any]]]) -> tuple[list[Curve], float]:
    """Images a second over stretches of each process's time, and over all of it; pauses between processes count not."""
    ends = [(lines[0], lines[-1]) for lines in processes if lines]
    shown = sum(last["images"] - first["images"] for first, last in ends)
    spent = sum(last["seconds"] - first["seconds"] for first, last in ends)
    if not shown or spent <= 0:
        return [], 0.0
    points = []
    span = max(spent / SPANS, LEAST_SPAN)
    for lines in processes:
        mark = lines[0] if lines else {}
        for line in lines:
            passed = line["seconds"] - mark["seconds"]
            if passed >= span:
                points.append((line["step"], float(f"{(line['images'] - mark['images']) / passed:.4g}")))
                mark = line
    return [curve("images a second", points)] if points else [], shown / spent
