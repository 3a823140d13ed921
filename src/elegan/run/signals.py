"""Signals that ask a training to stop: it finishes the step, saves, and says by which signal it was stopped."""

import signal
import threading
from types import FrameType
from typing import Any

from elegan.training.loop import Event

STOPPING = ("SIGINT", "SIGTERM", "SIGUSR1")


class StopSignals:
    """Inside, SIGINT, SIGTERM and SIGUSR1 stop the training this listens to; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._take) for n in (getattr(signal, name) for name in STOPPING)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name

    def __call__(self, event: Event) -> dict[str, bool] | None:
        return {"stop": True} if self.received else None
