"""The process of a lab: hears commands, trains in between, and shows frames as often as they are cheap."""

import signal
import time
import traceback
from collections import deque
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from elegan.errors import ElegantError, OptionError
from elegan.studio import setup as asked
from elegan.studio import wire
from elegan.studio.lab.catalogue import catalogue
from elegan.studio.lab.data import read
from elegan.studio.lab.keep import load, save
from elegan.studio.lab.lab import Lab
from elegan.studio.lab.pipes import END, Inbox, Outbox, claimed_stdin, claimed_stdout
from elegan.studio.lab.views import Shown
from elegan.studio.setup import Checked, Data, Setup

PREVIEWED = 1_000  # points
RECENT = 7  # times of which the median says what a thing costs


class Pace:
    """How often something is done that costs time: for a `share` of it, with `least` to `most` seconds in between."""

    def __init__(self, share: float, least: float, most: float):
        self.share, self.least, self.most = share, least, most
        self.next = 0.0
        self.costs: deque[float] = deque(maxlen=RECENT)

    def due(self, now: float) -> bool:
        return now >= self.next

    def took(self, start: float, seconds: float) -> None:
        """It was done at `start` and took so long. The median of the last times counts: the first is a slow one."""
        self.costs.append(seconds)
        cost = sorted(self.costs)[(len(self.costs) - 1) // 2]
        self.next = start + min(max(cost / self.share, self.least), self.most)


class Catalogue(Checked):
    """What can be opened?"""

    do: Literal["catalogue"]


class Preview(Checked):
    """What would data look like?"""

    do: Literal["preview"]
    data: Data


class Load(Checked):
    """Go on with a run. path: of its directory."""

    do: Literal["load"]
    path: str


_SERVERS = TypeAdapter(Annotated[Catalogue | Preview | Load, Field(discriminator="do")])  # which no page may send


def command(line: bytes) -> Any:
    """What a line asks for. Raises `OptionError` in one sentence if it is no command."""
    try:
        return _SERVERS.validate_json(line)
    except ValidationError:
        return asked.command(line)


class Child:
    """Between the pipes and the lab."""

    def __init__(self, root: Path, inbox: Inbox, outbox: Outbox):
        self.root, self.inbox, self.outbox = root, inbox, outbox
        self.lab: Lab | None = None
        self.shown = Shown()
        self.seq = 0
        self.playing = False
        self.until: int | None = None
        self.rate: float | None = None
        self.next_round = 0.0
        self.frames = Pace(0.065, least=1 / 30, most=0.5)  # together 8% of the time
        self.measures = Pace(0.015, least=0.5, most=5.0)
        self.marks: list[tuple[float, int]] = []  # times and steps, of which the rate is read

    def run(self) -> None:
        """Until standard input is closed."""
        self.outbox.say(wire.pack(catalogue()))
        while True:
            while self.inbox:
                line = self.inbox.take()
                if line == END:
                    return
                self.obey(line)
            if self.playing and self.lab is not None:
                self.train(self.lab)
            else:
                self.inbox.wait()

    def obey(self, line: bytes) -> None:
        """Do what a line asks for, or say why not."""
        try:
            self.do(command(line))
        except ElegantError as error:
            self.outbox.say(wire.pack({"kind": "refused", "error": str(error)}))

    def do(self, what: Any) -> None:
        match what:
            case Catalogue():
                self.outbox.say(wire.pack(catalogue()))
            case Preview(data=data):
                self.preview(data)
            case asked.Open(setup=setup):
                self.open(Lab.of(setup or (Setup() if self.lab is None else self.lab.setup), self.shown))
            case Load(path=path):
                self.open(load(path, self.shown))
            case asked.Seen():
                pass
            case _ if self.lab is None:
                raise OptionError("no lab is open yet: open one first.")
            case _:
                self.steer(self.lab, what)

    def steer(self, lab: Lab, what: Any) -> None:
        """A command to the lab that is open."""
        match what:
            case asked.Play(until=until, rate=rate):
                self.playing, self.until, self.rate = True, until, rate
                self.marks, self.next_round = [], time.perf_counter()
                self.playing = self.goes_on(lab)
            case asked.Pause():
                self.playing = False
                self.measures.next = 0.0
            case asked.Step(who=who):
                self.playing = False
                lab.turn(who)
            case asked.Slow():
                self.playing = False
                lab.stage()
            case asked.Change(bench=k, change=change):
                if k >= len(lab.benches):
                    raise OptionError(f"there is no game {k + 1} in this lab.")
                lab.benches[k].change(change)
                lab.views[k].learn()
                self.outbox.say(wire.pack({"kind": "changed", "bench": k, "step": lab.step, "change": change}))
            case asked.View():
                self.shown = lab.shown = self.shown.but(what.model_dump(exclude={"do"}))
                self.measures.next = 0.0 if what.average is not None else self.measures.next
            case asked.Save():
                self.outbox.say(wire.pack({"kind": "saved", "runs": save(lab, self.root)}))
            case asked.Measure():
                self.gaps(lab)
        self.show(lab)

    def open(self, lab: Lab) -> None:
        self.playing, self.lab = False, lab
        self.measures.next = 0.0
        self.frames.costs.clear()
        self.outbox.say(lab.opened(), anew=True)
        self.show(lab)

    def preview(self, data: Data) -> None:
        points = read(data)
        rows = points.source.arrays["real"]
        some = np.random.default_rng(0).permutation(len(rows))[:PREVIEWED]
        header = {"kind": "preview", "samples": len(rows), "about": points.source.about}
        self.outbox.say(wire.pack(header, {"points": rows[some]}))

    def gaps(self, lab: Lab) -> None:
        """Measure the duality gap of every game; one that has none does not keep the others from theirs."""
        for k in range(len(lab.benches)):
            try:
                self.outbox.say(wire.pack({"kind": "measured", "bench": k, "gap": lab.gap(k)}))
            except ElegantError as error:
                self.outbox.say(wire.pack({"kind": "refused", "error": str(error)}))

    # -- training -------------------------------------------------------------------------------------------------

    def train(self, lab: Lab) -> None:
        """A round, and a frame if one is due."""
        now = time.perf_counter()
        if self.rate is not None:
            if now < self.next_round:
                return self.inbox.wait(self.next_round - now)
            self.next_round = max(self.next_round + 1 / self.rate, now)
        lab.round()
        self.playing = self.goes_on(lab)
        if not self.playing:
            self.measures.next = 0.0
        if not self.playing or self.frames.due(time.perf_counter()):
            self.show(lab)
        return None

    def goes_on(self, lab: Lab) -> bool:
        return bool(lab.training) and (self.until is None or lab.step < self.until)

    def show(self, lab: Lab) -> None:
        """Show a frame now, with new measures if they are due. Costs are counted in the time of this thread, which the
        rest of a busy machine does not lengthen."""
        now, start = time.perf_counter(), time.thread_time()
        if self.measures.due(now):
            lab.measure()
            self.measures.took(now, time.thread_time() - start)
            start = time.thread_time()
        self.marks = [*(mark for mark in self.marks if mark[0] > now - 1), (now, lab.step)]
        first, step = self.marks[0]
        rate = (lab.step - step) / (now - first) if self.playing and now > first else 0.0
        self.seq += 1
        self.outbox.show(lab.frame(self.seq, self.playing, rate))
        self.frames.took(now, time.thread_time() - start)


def main(root: str) -> int:
    """Be the process of a lab that keeps its runs under `root`. The exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the server's: it closes our input
    outbox = Outbox(claimed_stdout())
    try:
        Child(Path(root), Inbox(claimed_stdin()), outbox).run()
    except Exception as error:
        traceback.print_exc()
        said = str(error).strip().split("\n", 1)[0] or type(error).__name__
        outbox.say(wire.pack({"kind": "failed", "error": f"the lab has failed: {said}"}))
        outbox.close()
        return 1
    outbox.close()
    return 0
