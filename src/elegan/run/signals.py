"""Signals that ask to stop: a training finishes its step and saves, whatever else goes on is broken off.

Handlers are the process's, and only its main thread may set them. So a training in another thread hears no signal, and
what a program had set before is put back when the training ends.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elegan.training.loop import Event  # the command line asks for signals before torch is there

STOPPING = ("SIGINT", "SIGTERM", "SIGUSR1")


class Stopped(KeyboardInterrupt):
    """A signal asked to stop where no training listened. name: of the signal."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, SIGTERM and SIGUSR1 raise `Stopped`, as SIGINT raises `KeyboardInterrupt`, unless a training listens."""
    before = _set({name: _stop for name in STOPPING if name != "SIGINT"})
    try:
        yield
    finally:
        _put_back(before)


class StopSignals:
    """Inside, SIGINT, SIGTERM and SIGUSR1 stop the training this listens to; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.own = ""  # the signal that this process got
        self._before: dict[str, Any] = {}

    def __enter__(self) -> "StopSignals":
        self._before = _set(dict.fromkeys(STOPPING, self._take))
        return self

    def __exit__(self, *_: object) -> None:
        _put_back(self._before)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.own and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.own = signal.Signals(number).name

    @property
    def received(self) -> str:
        """The signal that this process got, or another of the same training; empty if none did."""
        from elegan.training import meeting  # torch is there by now

        return self.own or meeting.told_signal()

    def __call__(self, event: "Event") -> dict[str, bool] | None:
        if not self.own:
            return None
        from elegan.training import meeting

        meeting.tell_signal(self.own)
        return {"stop": True}


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(signal.Signals(number).name)


def _set(handlers: dict[str, Any]) -> dict[str, Any]:
    """Set handlers by the names of their signals, and return what was there; nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {name: signal.getsignal(getattr(signal, name)) for name in handlers}
    before = {name: handler for name, handler in before.items() if handler is not None}  # set in C: none to put back
    for name in before:
        signal.signal(getattr(signal, name), handlers[name])
    return before


def _put_back(handlers: dict[str, Any]) -> None:
    for name, handler in handlers.items():
        signal.signal(getattr(signal, name), handler)
