"""Signals, and processes that go: a training ends saved, or another says so in one line and goes on. FAULTS 7, 8."""

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import elegan
from elegan.errors import DataError, OptionError
from elegan.run import checkpoint, events
from elegan.run.directory import RunDirectory
from elegan.run.signals import STOPPING, Stopped, StopSignals, stoppable
from elegan.training import meeting
from elegan.training.meeting import Gone, launched, verdict
from tests.conftest import everything, state, tensors
from tests.faults.ranks import Ended, Ranks, warmed

SHARDED = ("--preset", "tiny", "--batch", "8", "--shards", "4", "--threads", "1", "--precision", "fp32")
LONG = ("--steps", 1_000_000)
PATIENCE = 30
MEETING = "elegan.training.meeting"


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with warmed() as ranks:
        yield ranks


def wait(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def steps_logged(run: Path) -> int:
    log = run / "events.jsonl"
    return log.read_bytes().count(b'"kind": "step"') if log.exists() else 0


def straight(small: Path, out: Path, steps: int, shards: int = 4) -> Path:
    """The run that was never disturbed, by one process."""
    options = dict(preset="tiny", batch=8, shards=shards, threads=1, precision="fp32")
    elegan.train("dcgan", small, out=out, steps=steps, **options)
    return out


def same(run: Path, other: Path) -> None:
    assert state(run) == state(other)
    assert tensors(run) == tensors(other)


# ---- what takes signals


def test_handlers_are_taken_and_put_back():
    mine = signal.getsignal(signal.SIGUSR1)
    before = {name: signal.getsignal(getattr(signal, name)) for name in STOPPING}
    with stoppable():
        with StopSignals() as signals:
            for name in ("SIGTERM", "SIGINT", "SIGUSR1"):
                signals.own = ""
                os.kill(os.getpid(), getattr(signal, name))
                assert signals.received == name
        for name in ("SIGTERM", "SIGUSR1"):  # no training listens any more
            with pytest.raises(Stopped) as caught:
                os.kill(os.getpid(), getattr(signal, name))
            assert caught.value.name == name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert {name: signal.getsignal(getattr(signal, name)) for name in STOPPING} == before
    assert signal.getsignal(signal.SIGUSR1) is mine


def test_a_second_signal_is_heard_once_and_only_ctrl_c_interrupts():
    with StopSignals() as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.received == "SIGUSR1"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_handler_that_was_not_set_in_python_stays(monkeypatch):
    """It could not be put back."""
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.received == ""
        assert signal.signal(signal.SIGUSR1, signal.SIG_IGN) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_training_in_another_thread_leaves_signals_alone(tmp_path, small):
    heard, before = [], signal.getsignal(signal.SIGTERM)

    def hear(event):
        heard.append(signal.getsignal(signal.SIGTERM))

    def work():
        options = dict(preset="tiny", batch=8, threads=1, precision="fp32", steps=3)
        elegan.train("dcgan", small, out=tmp_path / "run", listeners=[hear], **options)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    assert heard == [before] * 3


def test_a_program_goes_on_after_its_training_was_stopped(tmp_path, small):
    """The model says by what; the program's own handler is back, and hears the next signal."""
    mine = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: mine.append(number))
    try:
        model = elegan.train(
            "dcgan", small, out=tmp_path / "run", preset="tiny", batch=8, threads=1, precision="fp32", steps=99,
            listeners=[lambda event: os.kill(os.getpid(), signal.SIGTERM) if event.step == 5 else None],
        )  # fmt: skip
        assert (model.stopped_by, mine) == ("SIGTERM", [])
        assert 5 <= model.step <= 6
        os.kill(os.getpid(), signal.SIGTERM)
        assert mine == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    same(tmp_path / "run", straight(small, tmp_path / "straight", model.step, shards=1))


# ---- whatever it is doing


PLACES = {
    "scoring": "elegan.scoring.best:features_of",
    "drawing": "elegan.exporting.samples:GridListener.draw",
    "saving": "elegan.run.checkpoint:write",
    "writing the page": "elegan.view.page:Page.write",
    "making the last pictures": "elegan.fit:draw_pictures",
}


@pytest.mark.process
@pytest.mark.parametrize(
    ("place", "name"),
    [*((place, "SIGTERM") for place in PLACES), ("saving", "SIGINT"), ("saving", "SIGUSR1")],
)
def test_a_signal_wherever_it_falls_ends_saved(ranks, tmp_path, small, place, name):
    run, last = tmp_path / "run", place == "making the last pictures"
    command = ["train", "dcgan", small, *SHARDED, "--steps", 9 if last else 1_000_000, "--out", run]
    if place == "scoring":
        command += ["--score", 32]
    (ended,) = ranks.run([command], here=tmp_path, at=(0, PLACES[place], name),
                         settings={"elegan.scoring.best.FIRST_SECONDS": 0.0})  # fmt: skip
    assert ended.code == 143, ended
    assert ended.at - float((tmp_path / "sent").read_text()) < 20
    assert ended.err == ""
    step = state(run)["step"]
    assert f"stopped by {name} after step {step:,}, saved. Go on with: elegan resume {run}" in ended.out
    assert list(events.read(run / "events.jsonl"))[-1]["by"] == ("end" if last else name)
    if place in ("scoring", "saving"):
        same(run, straight(small, tmp_path / "straight", step))


BEGINNINGS = {
    "opening the data": "elegan.api:open_data",
    "choosing what to compute with": "elegan.training.precision:choose",
    "building": "elegan.zoo:build",
}


@pytest.mark.process
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGUSR1", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("place", BEGINNINGS)
def test_a_signal_before_anything_is_trained_ends_with_a_line(ranks, tmp_path, small, place, name, code):
    command = ("train", "dcgan", small, *SHARDED, *LONG, "--out", tmp_path / "run")
    (ended,) = ranks.run([command], here=tmp_path, at=(0, BEGINNINGS[place], name))
    assert ended.code == code
    assert ended.err == f"elegan: {'interrupted' if code == 130 else f'stopped by {name}, with nothing to save'}.\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.process
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_before_anything_is_trained_ends_all(ranks, tmp_path, small, rank):
    run = straight(small, tmp_path / "run", 3)
    at = (rank, "elegan.api:unchanged_data", "SIGTERM")
    ended = ranks.run([("resume", run, *LONG)] * 2, here=tmp_path, at=at)
    assert ended[rank].code == 143
    assert ended[1 - rank].code == 6
    assert f"process {rank + 1} of 2 (rank {rank}) has gone" in ended[1 - rank].said[0]
    assert max(one.at for one in ended) - float((tmp_path / "sent").read_text()) < 8


@pytest.mark.process
@pytest.mark.parametrize(("second", "code"), [("SIGTERM", 143), ("SIGUSR1", 143), ("SIGINT", 130)])
def test_a_second_signal_inside_a_save_leaves_the_previous_intact(ranks, tmp_path, small, second, code):
    run = straight(small, tmp_path / "run", 3)
    before = everything(run / "checkpoints" / "step-00000003")
    (pid,) = ranks.start([("resume", run, *LONG)], here=tmp_path, at=(0, "os:fsync", "wait"))
    there, armed = tmp_path / "there", tmp_path / "armed"
    wait(lambda: steps_logged(run) > 5)
    armed.touch()
    os.kill(pid, signal.SIGTERM)
    wait(there.exists)  # inside the save
    os.kill(pid, getattr(signal, second))
    armed.unlink()
    there.unlink()
    (ended,) = ranks.ended()
    assert ended.code == code
    assert ended.said == ([] if code == 143 else ["elegan: interrupted."])
    assert everything(run / "checkpoints" / "step-00000003") == before
    newest = checkpoint.newest(run / "checkpoints").step  # and no warning: nothing is damaged
    assert (newest == 3) == (code == 130)
    elegan.resume(run, listeners=[lambda event: {"stop": True} if event.step == newest + 2 else None])
    same(run, straight(small, tmp_path / "straight", newest + 2))


# ---- several processes end as one


@pytest.mark.parametrize(
    ("words", "size", "expected"),
    [
        ({0: (2, "bad"), 1: (2, "bad")}, 2, ((2, "bad"), 0)),
        ({0: (6, ""), 1: (3, "no data")}, 2, ((3, "process 2 of 2 (rank 1): no data"), 1)),
        ({0: (7, "in use"), 1: (6, "")}, 2, ((7, "in use"), 0)),
        ({0: (2, "bad"), 1: (2, "bad")}, 3, ((2, "bad"), 0)),
        ({1: (2, "bad"), 2: (2, "bad")}, 3, ((2, "process 2 of 3 (rank 1): bad"), 1)),
        ({1: (3, "a"), 2: (4, "b"), 0: (6, "")}, 3, ((3, "process 2 of 3 (rank 1): a"), 1)),
        ({0: (6, ""), 2: (6, "")}, 3, ((6, "process 2 of 3 (rank 1) has gone; do."), 0)),
        ({2: (6, ""), 3: (6, "")}, 4, ((6, "process 1 of 4 (rank 0) and process 2 of 4 (rank 1) have gone; do."), 2)),
        ({0: (143, ""), 1: (6, "")}, 2, ((6, "process 1 of 2 (rank 0) has gone; do."), 1)),
        ({0: (6, ""), 1: (6, "")}, 2, ((6, "the connection has gone; do."), 0)),
    ],
)
def test_the_word_of_one_is_the_end_of_all(words, size, expected):
    assert verdict(words, size, "gone", "do") == expected


def test_every_exit_code_has_its_error():
    assert {code: kind.code for code, kind in meeting.CODES.items()} == {code: code for code in range(2, 8)}
    assert meeting.CODES[3] is DataError


GROUP = dict(RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="29500")


@pytest.mark.parametrize(
    "wrong",
    [dict(RANK=""), dict(RANK="2"), dict(RANK="-1"), dict(RANK="first"), dict(WORLD_SIZE="two"), dict(MASTER_ADDR=""),
     dict(MASTER_PORT=""), dict(MASTER_PORT="http")],
)  # fmt: skip
def test_an_environment_that_makes_no_sense_is_exit_2(monkeypatch, wrong):
    for name, value in {**GROUP, **wrong}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=r"describes no group of processes .*WORLD_SIZE="):
        launched()
    for name, value in GROUP.items():
        monkeypatch.setenv(name, value)
    assert launched() == (0, 2)


@pytest.mark.parametrize("size", ["1", "", None])
def test_a_single_process_needs_no_other_variable(monkeypatch, size):
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    assert launched() == (0, 1)


def begun(ranks: Ranks, small: Path, here: Path, size: int, **settings) -> tuple[Path, list[int]]:
    """A training by some processes that is under way, with a checkpoint of a few steps."""
    run = straight(small, here / "run", 3)
    pids = ranks.start([("resume", run, *LONG)] * size, here=here, **settings)
    wait(lambda: steps_logged(run) > 8)
    return run, pids


def lost(line: str, ended: Sequence[Ended], run: Path, since: float, lines: int = 1) -> None:
    """Whoever is left ended within seconds by exit 6, and the first of them said so in a line."""
    left = [one for one in ended if one.code != -signal.SIGKILL]
    assert {one.code for one in left} == {6}
    assert max(one.at for one in left) - since < 8
    said = [line for one in left for line in one.err.splitlines()]
    assert left[0].said
    assert 1 <= len(said) <= lines, said
    for told in said:
        assert line in told
        assert told.endswith(f"go on with: elegan resume {run}.")


@pytest.mark.process
@pytest.mark.parametrize(("whom", "size"), [(1, 2), (0, 2), (1, 4), (0, 4)])
def test_a_process_that_is_killed_is_named_by_the_others(ranks, tmp_path, small, whom, size):
    run, pids = begun(ranks, small, tmp_path, size, thorough=(whom, size) == (1, 2))
    os.kill(pids[whom], signal.SIGKILL)
    killed = time.monotonic()
    ended = ranks.ended()
    assert [one.code for one in ended] == [-signal.SIGKILL if rank == whom else 6 for rank in range(size)]
    line = f"process {whom + 1} of {size} (rank {whom}) has gone; at most the steps since the last checkpoint are lost"
    lost(line, ended, run, killed, lines=1 if whom else size - 1)  # the first takes with it what they agree by
    newest = checkpoint.newest(run / "checkpoints").step  # whole: no warning
    model = elegan.resume(run, listeners=[lambda event: {"stop": True} if event.step == newest + 2 else None])
    assert model.step == newest + 2
    if size == 2 and newest == 3:
        same(run, straight(small, tmp_path / "straight", 5))


@pytest.mark.process
def test_a_process_that_hangs_is_given_up(ranks, tmp_path, small):
    run, pids = begun(ranks, small, tmp_path, 2, settings={f"{MEETING}.TIMEOUT": 1.0, f"{MEETING}.GRACE": 1.0})
    os.kill(pids[1], signal.SIGSTOP)
    stopped = time.monotonic()
    wait(lambda: bool((tmp_path / "err.0").read_text()))
    assert time.monotonic() - stopped < 10
    os.kill(pids[1], signal.SIGKILL)
    first, _ = ranks.ended()
    lost("process 2 of 2 (rank 1) has not answered for 0.017 minutes; at most", [first], run, stopped)


DEATHS = {
    "before it has joined": "elegan.api:open_data",
    "while they connect": "torch.distributed:init_process_group",
    "in the last barrier": "torch.distributed:barrier",
}


@pytest.mark.process
@pytest.mark.parametrize("when", DEATHS)
def test_a_process_that_dies_is_missed_at_once(ranks, tmp_path, small, when):
    run = straight(small, tmp_path / "run", 3)
    start = time.monotonic()
    settings = {f"{MEETING}.SOON": 2.0} if "connect" in when else {}
    first, second = ranks.run([("resume", run, "--steps", 5)] * 2, here=tmp_path, settings=settings,
                              at=(1, DEATHS[when], "SIGKILL"))  # fmt: skip
    assert second.code == -signal.SIGKILL
    assert first.code == 6
    assert first.at - start < 15
    assert "process 2 of 2 (rank 1) has gone" in first.said[-1]
    assert state(run)["step"] == (5 if "barrier" in when else 3)


@pytest.mark.process
def test_what_one_process_has_is_said_with_its_number(ranks, tmp_path, small):
    run = straight(small, tmp_path / "run", 3)
    start = time.monotonic()
    ended = ranks.run([("resume", run), ("resume", tmp_path / "none")], here=tmp_path)
    assert [one.code for one in ended] == [4, 4]
    assert [one.said for one in ended] == [
        [], [f"elegan: process 2 of 2 (rank 1): no run at {tmp_path / 'none'}: no such directory."]
    ]  # fmt: skip
    assert max(one.at for one in ended) - start < 10
    assert state(run)["step"] == 3


@pytest.mark.process
def test_what_all_have_alike_is_said_without_a_number(ranks, tmp_path, small):
    run = straight(small, tmp_path / "run", 3)
    before = everything(run)
    for size, line in ((3, "4 shards cannot be dealt to 3 processes; start 1 or 2 or 4 of them"),
                       (2, "--steps 2 is less than the 3")):  # fmt: skip
        tokens = ("--steps", 2) if size == 2 else ()
        ended = ranks.run([("resume", run, *tokens)] * size, here=tmp_path)
        assert [one.code for one in ended] == [2] * size
        assert ended[0].said[0].startswith(f"elegan: {line}")
        assert not any(one.err for one in ended[1:])
    assert everything(run) == before


@pytest.mark.process
def test_a_run_in_use_ends_all_processes_with_exit_7(ranks, tmp_path, small):
    run = straight(small, tmp_path / "run", 3)
    with RunDirectory(run).held():
        ended = ranks.run([("resume", run, "--steps", 5)] * 2, here=tmp_path)
    assert [one.code for one in ended] == [7, 7]
    assert [one.err for one in ended] == [
        f"elegan: {run} is in use by another process; wait for it or choose another run.\n", ""
    ]  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_to_one_process_saves_all(ranks, tmp_path, small, name):
    run, pids = begun(ranks, small, tmp_path, 2)
    os.kill(pids[1], getattr(signal, name))
    asked = time.monotonic()
    first, second = ranks.ended()
    assert (first.code, second.code) == (143, 143)
    assert max(first.at, second.at) - asked < 20
    assert not first.said + second.said
    assert f"stopped by {name} after step {state(run)['step']:,}, saved" in first.out
    assert second.out == ""


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_line_that_is_cut_is_noticed(how):
    here = object.__new__(meeting.Meeting)  # without a store
    here.rank = 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    line.setblocking(False)
    here.lines = {0: line, 1: line}
    assert not here.is_cut(1)
    assert not here.is_cut(2), "one that has not come yet may still come"
    if how == "reset":
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    there.close()
    wait(lambda: here.is_cut(1))
    assert not here.is_cut(0), "oneself is there"
    line.close()


def test_alone_nobody_is_gone():
    with meeting.together():
        assert not meeting._open


def test_whoever_loses_another_knows_how_to_go_on():
    with pytest.raises(Gone) as caught, meeting.resumable("elegan resume x"):
        raise Gone
    assert caught.value.remedy.endswith("go on with: elegan resume x")
    assert caught.value.code == 6
