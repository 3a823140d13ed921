"""A run in the hands of fate: trained, stopped, killed, damaged, deleted, locked, without room, resumed, in any order.

FAULTS 1, 4, 5, 6, 7, 9. What is whole is judged here anew, from the format alone. ELEGAN_EXAMPLES=500 tries more.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import elegan
from elegan.errors import CheckpointError, ElegantError, ResourceError, RunInUseError
from elegan.run import events, saving
from elegan.run.directory import RunDirectory
from tests.conftest import everything
from tests.faults.forked import forked

EXAMPLES = int(os.environ.get("ELEGAN_EXAMPLES", "25"))
RULES = 12
MOST = 40  # steps of a run
SETTINGS: dict[str, Any] = dict(preset="tiny", batch=8, threads=1, precision="fp32")

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flip": lambda body: bytes(byte ^ 8 if k == len(body) // 2 else byte for k, byte in enumerate(body)),
    "cut": lambda body: body[:-9],
    "empty": lambda body: b"",
    "zeros": lambda body: bytes(len(body)),
    "more": lambda body: body + b"\0{",
}


def whole_steps(run: Path) -> set[int]:
    """The steps of the checkpoints that their manifests prove whole."""
    return {int(path.name[5:]) for path in (run / "checkpoints").glob("step-????????") if _whole(path)}


def _whole(path: Path) -> bool:
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        seal = manifest.pop("sha256")
        if seal != hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest():
            return False
        files = {name: (path / name).read_bytes() for name in manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return (
        all(hashlib.sha256(body).hexdigest() == manifest["files"][name]["sha256"] for name, body in files.items())
        and int(path.name[5:]) == manifest["step"]
    )


def contents(path: Path) -> dict[str, Any]:
    """What of a checkpoint must be the same however a run came to it."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    return {**{f.name: f.read_bytes() for f in path.glob("*.safetensors")}, "state": manifest["facts"]["state"]}


def checkpoint_of(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


class Fate(RuleBasedStateMachine):
    """`home` and `straight` are set by the test."""

    home: Path
    small: Path
    straight: Callable[[int], dict[str, Any]]
    drawn: Callable[[int], np.ndarray]

    def __init__(self) -> None:
        super().__init__()
        self.run = Path(tempfile.mkdtemp(dir=self.home)) / "run"
        self.total = 0  # steps that the run was ever made for
        self.plan = b""  # options.json as it should be
        self.logged = True  # whether the log can still be counted on
        self.doubtful = False  # whether options.json has changed in a way that may go unnoticed

    def teardown(self) -> None:
        shutil.rmtree(self.run.parent)

    # -- what is done to it

    @initialize(steps=st.integers(1, 4), often=st.booleans())
    def train(self, steps: int, often: bool) -> None:
        with calm(often):
            assert elegan.train("dcgan", self.small, out=self.run, steps=steps, **SETTINGS).step == steps
        self.total = steps
        self.ended(steps)

    @rule(more=st.integers(0, 3), often=st.booleans())
    def resume(self, more: int, often: bool) -> None:
        self.go_on(self.total + more, often)

    @rule(after=st.integers(1, 3), often=st.booleans())
    def stop(self, after: int, often: bool) -> None:
        """By a listener, before its end."""
        start = max(whole_steps(self.run), default=0)
        self.go_on(max(self.total, start + after), often, stop=start + after)

    @rule(after=st.integers(1, 4), often=st.booleans())
    def kill_at_a_step(self, after: int, often: bool) -> None:
        before = whole_steps(self.run)
        step = max(before, default=0) + after

        def die(event: Any) -> None:
            if event.step == step:
                os.kill(os.getpid(), signal.SIGKILL)

        self.in_a_child(step + 1, often, listeners=[die])
        if before and not self.doubtful:
            newest = max(whole_steps(self.run))
            assert newest == (step if often else max(before)), "no more is lost than was made since the last checkpoint"

    @rule(call=st.integers(1, 25), name=st.sampled_from(("fsync", "rename", "replace", "mkdir")))
    def kill_in_a_save(self, call: int, name: str) -> None:
        before = whole_steps(self.run)
        honest, calls = getattr(os, name), [0]

        def counted(*arguments: Any, **named: Any) -> Any:
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return honest(*arguments, **named)

        self.in_a_child(max(before, default=0) + 4, True, patch=(name, counted))
        assert max(whole_steps(self.run), default=-1) >= max(before, default=-1)

    @rule(
        what=st.sampled_from(["options.json", "events.jsonl", "newest", "newest", "any"]),
        k=st.integers(0, 10**6),
        how=st.sampled_from([*DAMAGE, "delete"]),
    )
    def corrupt(self, what: str, k: int, how: str) -> None:
        """One file, of those that count for much or of all."""
        whole = whole_steps(self.run)
        home = checkpoint_of(self.run, max(whole)) if what == "newest" and whole else self.run
        files = sorted(path for path in home.rglob("*") if path.is_file())
        path = self.run / what if (self.run / what).is_file() else files[k % len(files)]
        path.unlink() if how == "delete" else path.write_bytes(DAMAGE[how](path.read_bytes()))
        self.logged = self.logged and path.name != "events.jsonl"
        self.doubtful = self.doubtful or (path.name == "options.json" and how == "flip")

    @rule(how=st.sampled_from(["one", "one", "all", "best"]))
    def delete(self, how: str) -> None:
        there = sorted((self.run / "checkpoints").glob("step-*"))
        for path in there if how == "all" else there[-1:] if how == "one" else []:
            shutil.rmtree(path)
        (self.run / "best.json").write_text('{"step": 3' if how == "best" else '{"step": 10000}')

    @rule(call=st.integers(1, 12))
    def no_room(self, call: int) -> None:
        """From some sync on the disk is full."""
        before = whole_steps(self.run)
        kept = {step: contents(checkpoint_of(self.run, step)) for step in before}
        calls = [0]

        def full(handle: int) -> None:
            calls[0] += 1
            if calls[0] >= call:
                raise OSError(28, os.strerror(28))

        with calm(often=True), pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with contextlib.suppress(ResourceError, *([] if before and not self.doubtful else [ElegantError])):
                elegan.resume(self.run, steps=max(self.total, max(before, default=0) + 3))
                assert calls[0] < call, "what the disk refused was passed over"
        if before and max(whole_steps(self.run)) == max(before):
            assert contents(checkpoint_of(self.run, max(before))) == kept[max(before)]
        self.took(max(self.total, max(before, default=0) + 3))

    @rule()
    def held(self) -> None:
        """By another process: nobody else writes."""
        with (self.run / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = everything(self.run)
            with calm(), pytest.raises(ElegantError) as caught:
                elegan.resume(self.run, steps=self.total + 1)
            if whole_steps(self.run) and not self.doubtful:
                assert isinstance(caught.value, RunInUseError)
            assert everything(self.run) == before

    @rule()
    def look(self) -> None:
        """At its page, and at samples."""
        trained = whole_steps(self.run) - {0}
        with calm(), contextlib.suppress(CheckpointError):
            assert elegan.page(self.run).read_text(encoding="utf-8").endswith("</html>\n")
        with calm():
            try:
                model = elegan.load(self.run)
            except ElegantError as error:
                self.refused(error, trained)
                return
        assert model.step in trained | {0}
        if trained and not self.doubtful:
            assert model.step == max(trained)
            assert (model.sample(3, seed=1).values == self.drawn(model.step)).all()

    @precondition(lambda self: self.doubtful or not self.readable())
    @rule()
    def mend(self) -> None:
        """As somebody with a copy of options.json would."""
        (self.run / "options.json").write_bytes(self.plan)
        self.doubtful = False

    # -- what must come of it

    def go_on(self, steps: int, often: bool, stop: int = MOST) -> None:
        """Resume, and compare with what the format says that must come of it."""
        if steps > MOST:
            return
        whole, before, heard = whole_steps(self.run), everything(self.run), []

        def hear(event: Any) -> dict[str, bool]:
            heard.append(event.step)
            return {"stop": event.step == stop}

        with calm(often):
            try:
                model = elegan.resume(self.run, steps=steps, listeners=[hear])
            except ElegantError as error:
                self.refused(error, whole)
                assert everything(self.run) == before, "nothing is deleted or written"
                return
        assert whole
        end = min(steps, max(stop, max(whole)))
        assert model.step == end
        assert heard == list(range(max(whole) + 1, end + 1)), "it went on from the newest whole checkpoint"
        self.took(steps)
        self.ended(end)

    def refused(self, error: ElegantError, whole: set[int]) -> None:
        """Rightly: there is no whole checkpoint, or nobody knows what the run was made with."""
        if not self.doubtful:
            assert not whole or not self.readable(), error
            assert isinstance(error, CheckpointError), error

    def ended(self, step: int) -> None:
        """The run stands at a step, and is what it would be had nothing ever happened."""
        self.plan, self.doubtful = (self.run / "options.json").read_bytes(), False
        assert step in whole_steps(self.run)
        assert contents(checkpoint_of(self.run, step)) == self.straight(step)
        assert not [path for path in self.run.rglob("*") if ".tmp" in path.name]
        if self.logged:
            lines = list(events.read(self.run / "events.jsonl"))
            logged = [line["step"] for line in lines if line["kind"] == "step"]
            assert logged == list(range(1, step + 1)), "each step once"
            assert lines[-1]["kind"] == "stopped"

    def took(self, steps: int) -> None:
        self.total = max(self.total, steps)

    def readable(self) -> bool:
        """Whether what the run was made with can be known: from options.json, or from a manifest."""
        with calm(), contextlib.suppress(ElegantError):
            RunDirectory(self.run).read_options()
            return True
        return False

    def in_a_child(self, steps: int, often: bool, patch: tuple[str, Any] | None = None, **how: Any) -> None:
        steps = max(steps, self.total)

        def work() -> None:
            if patch:
                setattr(os, *patch)
            with calm(often), contextlib.suppress(ElegantError):
                elegan.resume(self.run, steps=steps, **how)

        ended = forked(work, seconds=60)
        assert ended.code in (0, -signal.SIGKILL), ended
        self.took(steps)

    @invariant()
    def the_lock_is_free(self) -> None:
        if (self.run / ".lock").exists():
            with (self.run / ".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def calm(often: bool = False) -> Iterator[None]:
    """Without warnings; with a checkpoint at every step, or only where one must be."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(saving, "LEAST_SECONDS", 0.0 if often else 1e9)
        patch.setattr(saving, "SAVES_COST", 0)
        patch.setattr("elegan.fit.draw_pictures", lambda *_: iter(()))  # a third of the time of so short a training
        yield


def test_whatever_happens_to_a_run_it_is_the_run_that_nothing_happened_to(tmp_path, small):
    @functools.cache
    def trained(step: int) -> Path:
        with calm():
            elegan.train("dcgan", small, out=tmp_path / f"straight-{step}", steps=step, **SETTINGS)
        return tmp_path / f"straight-{step}"

    class OfThis(Fate):
        home = tmp_path
        straight = staticmethod(functools.cache(lambda step: contents(checkpoint_of(trained(step), step))))
        drawn = staticmethod(functools.cache(lambda step: elegan.load(trained(step)).sample(3, seed=1).values))

    OfThis.small = small
    phases = (Phase.generate, *([Phase.shrink] if "ELEGAN_EXAMPLES" in os.environ else []))  # which takes minutes
    run_state_machine_as_test(
        OfThis,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=RULES, derandomize=True, database=None, deadline=None,
            phases=phases, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
