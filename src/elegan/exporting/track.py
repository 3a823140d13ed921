"""Trackers tell a run to other tools as it goes: they follow its event log, line by line, into RUN/track/.

One module of this room each, imported only when asked for, because its package is an extra.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from elegan.errors import OptionError, nearest
from elegan.run.directory import RunDirectory
from elegan.run.events import Follower

TRACKERS = {"tensorboard": "TensorBoard"}  # the module here that has it, and its class


class Tracker(Protocol):
    """A follower of the event log that is closed at the end of a run."""

    def __call__(self, line: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


MakesTracker = Callable[[RunDirectory, Mapping[str, Any]], Tracker]


def chosen(names: str | None) -> list[MakesTracker]:
    """The trackers of a comma-separated list.

    Raises `OptionError` for a name that is none, or whose package is missing.
    """
    found = []
    for name in filter(None, map(str.strip, (names or "").split(","))):
        if name not in TRACKERS:
            raise OptionError(f"--track {name!r} is no tracker.{nearest(name, TRACKERS)}")
        try:
            module = importlib.import_module(f"elegan.exporting.{name}")
        except ImportError as error:
            remedy = 'pip install "elegan[track]"'
            raise OptionError(f"--track {name} needs a package that is not here ({error}): {remedy}.") from error
        found.append(getattr(module, TRACKERS[name]))
    return found


@contextmanager
def following(trackers: Iterable[MakesTracker], run: RunDirectory, plan: Mapping[str, Any]) -> Iterator[list[Follower]]:
    """The trackers of a run, open inside."""
    opened = [tracker(run, plan) for tracker in trackers]
    try:
        yield list(opened)
    finally:
        for tracker in opened:
            tracker.close()
