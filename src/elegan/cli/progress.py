"""Progress of a training: a live bar on a terminal, plain lines elsewhere."""

import os
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from elegan.api import Model, Plan
from elegan.cli.parser import NARROWEST
from elegan.run.directory import RunDirectory
from elegan.training.loop import Event
from elegan.view.page import NAME as PAGE

SHOWN_EVERY = 0.2  # seconds between updates of the bar
FAR = 1e8  # seconds; what is further off is not said
MOST_STEPS = 10**12  # which are further off than that
LINE_EVERY = 5.0  # seconds between plain lines


class Progress:
    """A listener that shows rate, time left, terms and the newest grid."""

    def __init__(self, run: RunDirectory, plan: Plan):
        self.run, self.total = run, plan["training"]["steps"]
        self.console = console(sys.stdout)
        compute, data = plan["compute"], plan["data"]
        preset = "" if plan["preset"] == "none" else f", preset {plan['preset']}"
        self.console.print(f"{plan['game']} on {data['name']}: {data['about']}{preset}", markup=False, soft_wrap=True)
        threads = f"{compute['threads']} thread{'s' * (compute['threads'] > 1)}"
        chosen = f"{compute['device']}, {compute['precision']}, {threads} ({compute['why']})"
        self.console.print(chosen, markup=False, soft_wrap=True)
        self.console.print(f"run: {run.path}", markup=False, soft_wrap=True)
        self.console.print(f"page: {run.path / PAGE}", markup=False, soft_wrap=True)
        self.shown = self.mark_time = time.monotonic()
        self.mark_images: int | None = None
        self.rate = 0.0
        self.live: Live | None = None
        if self.console.is_terminal:
            counts = TextColumn("step {task.completed:,}/{task.total:,}")
            rate = TextColumn("{task.fields[rate]}", markup=False)
            self.bar = Bar(counts, BarColumn(bar_width=24), TimeRemainingColumn(), rate, auto_refresh=False)
            self.task = self.bar.add_task("", total=self.total, rate="")
            self.live = Live(self.bar, console=self.console, auto_refresh=False)
            self.live.start()

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        wait = SHOWN_EVERY if self.live else LINE_EVERY
        if self.mark_images is None or event.images < self.mark_images:  # at first, and after a rollback
            self.mark_time, self.mark_images = now, event.images
        if now - self.shown < wait and event.step not in (1, self.total):
            return
        self.shown = now
        if now - self.mark_time > 0.5:
            rate = (event.images - self.mark_images) / (now - self.mark_time)
            self.rate = rate if not self.rate else 0.7 * self.rate + 0.3 * rate
            self.mark_time, self.mark_images = now, event.images
        rate = f"{self.rate:,.0f} img/s" if self.rate else ""
        if self.live:
            self.bar.update(self.task, completed=event.step, rate=rate)
            lines = [Text(terms(event.terms)), *([Text(self.newest())] if self.newest() else [])]
            self.live.update(Group(self.bar, *lines), refresh=True)
            return
        left = min(self.total - event.step, MOST_STEPS)
        seconds = left * event.images / event.step / self.rate if self.rate else None
        parts = [
            f"step {event.step:,}/{self.total:,}",
            f"{timedelta(seconds=int(seconds))} left" if seconds is not None and seconds < FAR else "",
            rate,
            terms(event.terms),
            self.newest(),
        ]
        self.console.print("  ".join(part for part in parts if part), markup=False, soft_wrap=True)

    def newest(self) -> str:
        """The path of the newest grid; empty if there is none yet."""
        grids = sorted(self.run.samples.glob("[0-9]*.png"))
        return str(grids[-1]) if grids else ""

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.live:
            self.live.stop()


class Steps:
    """Progress of work in named steps: one line that changes, on a terminal; nothing elsewhere."""

    def __init__(self):
        shown = console(sys.stderr)
        columns = TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.completed:,}")
        self.bar = Bar(*columns, console=shown, transient=True, disable=not shown.is_terminal)
        self.task = self.bar.add_task("starting", total=1)

    def __enter__(self) -> "Steps":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def then(self, make: Callable[[RunDirectory, Plan], Any]) -> Callable[[RunDirectory, Plan], Any]:
        """What makes the progress of the training that follows: this one is over by then."""

        def made(run: RunDirectory, plan: Plan) -> Any:
            self.bar.stop()
            return make(run, plan)

        return made

    def __call__(self, what: str, done: int, total: int) -> None:
        self.bar.update(self.task, description=what, completed=done, total=max(total, 1))


class Lenient:
    """A stream that drops what nobody takes, on a full disk or a closed pipe: a display is worth no training."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self.stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def console(stream: TextIO | None) -> Console:
    """A console on a stream; on one that is closed it shows nothing."""
    lenient: Any = None if stream is None else Lenient(stream)
    made = Console(file=lenient, quiet=stream is None, highlight=False)
    if made.width < NARROWEST:
        made.width = NARROWEST
    return made


def terms(values: dict[str, Any]) -> str:
    """The terms of a step, shortly; the page and the log have the norms of gradients and the means of logits too."""
    return "  ".join(f"{n} {v:.3g}" for n, v in values.items() if not n.endswith((".grad", ".real", ".fake")))


def finish(model: Model) -> int:
    """Say how a training ended and what to do next; its exit status."""
    run = model.run.path
    if int(os.environ.get("RANK", "0")) > 0:  # the first of several processes speaks for all
        return 143 if model.stopped_by else 0
    if model.stopped_by:
        how = f"elegan resume {shlex.quote(str(run))}"
        print(f"stopped by {model.stopped_by} after step {model.step:,}, saved. Go on with: {how}")
        return 143
    print(f"done after step {model.step:,}. Look at {run / PAGE}")
    if "generation" in model.game.tasks:
        print(f"Draw more with: elegan sample {shlex.quote(str(run))} -n 100 --seed 1")
    return 0
