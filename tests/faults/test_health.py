"""Nothing that is not finite reaches the weights; a training in trouble goes back, and on another way. FAULTS 12."""

import contextlib
import errno
import importlib.util
import itertools
import json
import math
import os
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from elegan.data.batches import Batches
from elegan.errors import CheckpointError, DivergenceError, ResourceError
from elegan.fit import TRIES, Course
from elegan.game import SGD, Adam, Game, RMSprop, Turn
from elegan.run import checkpoint, events, saving
from elegan.run.directory import RunDirectory
from elegan.run.events import EventLog
from elegan.scoring import best
from elegan.training.loop import NOT_FINITE, State
from elegan.training.still import Still
from elegan.view.history import history
from elegan.zoo.dcgan import DCGAN
from tests.conftest import TINY, state, tensors
from tests.contract.checks import SOURCES, bits, snapshot
from tests.oracle.test_distributed import SHARDED, two

ROOT = Path(__file__).parents[2]
BAD = 20  # bad steps that are a divergence, of the last 50


def program(name: str):
    spec = importlib.util.spec_from_file_location(f"program_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


poison = program("poison")


class Toy(Game):
    """Points; a lazy turn, several moves of the judge, BatchNorm, and what every shard reads and draws in `seen`."""

    spoilt = staticmethod(lambda step, stream: False)  # at which steps, in which stream, its judge's loss is NaN
    seen: list = []

    def __init__(self, spec, *, z_dim: int = 2, optim: str = "adam", lr: float = 1e-2):
        super().__init__(spec)
        self.G = nn.Sequential(nn.Linear(z_dim, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
        self.D = nn.Sequential(nn.Linear(2, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))

    def turns(self):
        record = {"adam": Adam, "rmsprop": RMSprop, "sgd": partial(SGD, momentum=0.9)}[self.optim](lr=self.lr)
        lazy = Turn("D", self.lazy_loss, every=2, optim=record)
        return [Turn("D", self.d_loss, repeat=2, optim=record), lazy, Turn("G", self.g_loss, optim=record, clip=10.0)]

    def d_loss(self, real):
        Toy.seen.append((self.step, bits(real), bits(torch.rand(2))))
        spoilt = math.nan if self.spoilt(self.step, vars(self)["state"].stream) else 1.0
        return {"adv": (self.D(self.sample(self.rows)).mean() - self.D(real).tanh().mean()) * spoilt}

    def lazy_loss(self, real):
        return {"size": self.D(real).square().mean()}

    def g_loss(self):
        return {"adv": -self.D(self.sample(self.rows)).tanh().mean()}

    def sample(self, n):
        return self.G(self.noise(n))


class Killed(BaseException):
    """As abruptly as a test can: nothing is saved on the way out."""


class Disk:
    """A run directory with what `fit` keeps in it; `go` trains on from there as a new process would."""

    def __init__(self, path: Path, steps: int = 120, every: int = 10, shards: int = 1, **options):
        self.run = RunDirectory(path)
        self.run.checkpoints.mkdir(parents=True)
        self.plan = {"training": {"steps": steps, "seed": 3}}
        self.every, self.shards, self.options = every, shards, options

    def go(self, *listeners, memories=(), first=lambda course, log, saver: None) -> dict[str, bytes]:
        torch.manual_seed(0)
        game = Toy(SOURCES["vectors"].spec, **self.options)
        game.__dict__["state"] = state = State.fresh(game, half_life_images=40)
        self.state, self.game = state, game
        batches = Batches(SOURCES["vectors"], rows=4, shards=self.shards)
        course = Course(self.run, self.plan, game, batches, state, memories)
        saver = saving.Checkpointer(self.run, log := EventLog(self.run.events_file), {}, memories)
        if checkpoint.steps(self.run.checkpoints):
            saving.load_into(game, state, checkpoint.newest(self.run.checkpoints), memories)
            course.take_up(events.decided(self.run.events_file, state.step))
            log.write("resumed", step=state.step)
        else:
            saver.save(game, state)
        first(course, log, saver)

        def save(event):
            if event.step % self.every == 0:
                saver.save(event.game, event.state)

        course.follow([log, *memories, save, *listeners], log, saver)
        return {name: bits(tensor) for name, tensor in snapshot(game, state).items()}

    def lines(self, kind: str) -> list[dict]:
        return [line for line in events.read(self.run.events_file) if line["kind"] == kind]

    def kept(self) -> dict[int, checkpoint.Checkpoint]:
        folder = self.run.checkpoints
        return {int(p.name[5:]): checkpoint.at(folder, int(p.name[5:])) for p in checkpoint.steps(folder)}


@pytest.fixture
def spoilt(monkeypatch):
    """Say at which steps, by their numbers before they are made, and in which streams the judge's loss is NaN."""
    Toy.seen = []

    def spoil(steps, streams=(0,)):
        monkeypatch.setattr(Toy, "spoilt", staticmethod(lambda step, stream: step in steps and stream in streams))

    return spoil


def going_back():
    return pytest.warns(UserWarning, match="Going on from step")


# ---- what does not reach the weights


@pytest.mark.parametrize("value", poison.VALUES, ids=str)
@pytest.mark.parametrize("place", poison.KINDS["transient"])
@pytest.mark.parametrize(("optim", "shards"), [("adam", 1), ("rmsprop", 2), ("sgd", 2)])
def test_no_poison_in_a_move_reaches_anything_kept(tmp_path, place, value, optim, shards):
    disk = Disk(tmp_path / "run", steps=14, shards=shards, optim=optim)
    turn = (poison.VALUES.index(value) + poison.KINDS["transient"].index(place)) % 3
    spoiler = poison.Poison(place, value, start=4, moves=3, turn=turn)
    before, changed = {}, []

    def watch(event):
        now = {name: bits(t) for name, t in poison.everything(event).items()}
        changed.append(now != before)
        before.update(now)

    disk.go(spoiler, watch)
    assert spoiler.reached == []
    assert all(changed), "the other players move on"
    assert disk.state.bad or (place, value) == ("batch", 1e38), "it was noticed; a tanh saturates"
    assert disk.lines("rollback") == []


KEPT = {
    "parameter": ["weights/G.0.weight", "weights/D.2.bias"],
    "moment": ["adam exp_avg", "adam exp_avg_sq", "adam step", "rmsprop square_avg", "rmsprop step",
               "sgd momentum_buffer"],
    "buffer": ["weights/G.1.running_mean", "weights/G.1.running_var"],
    "average": ["average/G.0.weight", "average/D.2.bias"],
}  # fmt: skip


CASES = [(place, what) for place in KEPT for what in KEPT[place]]
OTHERS = itertools.cycle(poison.VALUES[1:])


@pytest.mark.parametrize(("place", "what", "value"), [(*c, v) for c in CASES for v in (math.nan, next(OTHERS))])
def test_poison_in_memory_spreads_nowhere_and_is_taken_back(tmp_path, place, what, value, monkeypatch):
    optim = what.split()[0] if place == "moment" else "adam"
    disk = Disk(tmp_path, steps=80, optim=optim)
    spoiler = poison.Poison(place, value, start=24)

    def spoil(named):
        name = next(n for n in named if n == what or (place == "moment" and n.endswith(what.split()[1])))
        named[name].view(-1)[0] = value
        return name

    monkeypatch.setattr(spoiler, "spoil", spoil)
    finite = math.isfinite(value) and (place == "buffer" or what.split()[-1] in ("exp_avg_sq", "square_avg", "step"))
    ill = []

    def watch(event):
        if event.step % 10 == 0 and spoiler.put and event.state.stream == 0:
            ill.append(checkpoint.at(disk.run.checkpoints, event.step).healthy)

    if finite:  # a number like any other there
        disk.go(spoiler)
        assert spoiler.reached == []
        return
    with going_back() as said:
        disk.go(spoiler, watch)
    (line,) = disk.lines("rollback")
    assert line["step"] == 20
    assert spoiler.put.partition("/")[2] in line["why"].replace("average of ", "")
    assert 24 + BAD <= line["trouble"] <= 24 + BAD + 12, "the average is looked at each tenth step"
    assert len(said) == 1
    assert spoiler.reached == []
    assert disk.state.step == 80
    assert ill, "checkpoints were written while it was poisoned"
    assert not any(ill), "and none was called healthy"
    assert all(found.healthy for found in disk.kept().values())


@pytest.mark.parametrize("place", ["parameter", "moment", "buffer", "average"])
def test_a_checkpoint_saved_at_once_knows_that_it_ails(tmp_path, place):
    """Before any flag has been read, and where the best score is kept."""
    disk = Disk(tmp_path, steps=9)
    disk.go()
    state = disk.state
    spot = {"parameter": disk.game.D[0].weight, "buffer": disk.game.G[1].running_var,
            "moment": state.optim.moments[Adam][disk.game.D[0].weight]["exp_avg_sq"],
            "average": state.average.game.D[0].weight}[place]  # fmt: skip
    assert state.ails() == set()
    with torch.no_grad():
        spot.view(-1)[1] = math.nan
    assert state.ails() == {NOT_FINITE}
    assert state.ailments == set()
    saver = saving.Checkpointer(disk.run, EventLog(disk.run.events_file), {})
    saver.save(disk.game, state)
    assert checkpoint.newest(disk.run.checkpoints).facts["ailments"] == [NOT_FINITE]
    assert checkpoint.newest(disk.run.checkpoints, healthy=True).step == 0


def test_the_best_is_never_one_that_ails(tmp_path, monkeypatch):
    disk = Disk(tmp_path, steps=9)
    disk.go()
    monkeypatch.setattr(best, "game_set", lambda *_: None)
    monkeypatch.setattr(best, "features_of", lambda *_, **__: None)
    monkeypatch.setattr(best, "written", lambda *_: None)
    protocol = type("Protocol", (), {"weights": ""})()
    score = type("Score", (), {"value": 2.0, "label": "FD", "protocol": protocol, "note": ""})()
    monkeypatch.setattr(best, "measure", lambda *_, **__: (score,))
    log = EventLog(disk.run.events_file)
    keeper = object.__new__(best.Best)
    vars(keeper).update(run=disk.run, count=4, saver=saving.Checkpointer(disk.run, log, {}), log=log, value=3.0,
                        reference=(None, None))  # fmt: skip
    with torch.no_grad():
        disk.game.D[0].weight[0, 0] = math.inf
    keeper._score(disk.game, disk.state)
    assert (keeper.value, (tmp_path / "best.json").exists()) == (3.0, False)
    with torch.no_grad():
        disk.game.D[0].weight[0, 0] = 1.0
    keeper._score(disk.game, disk.state)
    assert (keeper.value, disk.run.best_step()) == (2.0, 9)


def test_a_step_that_is_bad_by_chance_is_skipped(tmp_path, spoilt):
    spoilt({*range(20, 20 + BAD - 1), 90})
    disk = Disk(tmp_path)
    disk.go()
    assert disk.lines("rollback") == []
    assert disk.state.stream == 0
    healthy = [line["step"] for line in disk.lines("checkpoint")]
    assert healthy == list(range(0, 121, 10))
    assert disk.state.ailments == {NOT_FINITE}, "step 91 is among the last 50"
    assert checkpoint.newest(disk.run.checkpoints, healthy=True).step == 90


# ---- going back


def test_a_rollback_goes_on_with_other_noise_and_the_same_data(tmp_path, spoilt):
    spoilt(range(45, 200))
    disk = Disk(tmp_path, steps=80)
    with going_back() as said:
        disk.go()
    (warning,) = said
    assert str(warning.message) == (
        "20 of the last 50 steps, up to step 66, gave nothing finite (D.adv); none of them moved the weights. "
        "Try a lower --lr. Going on from step 40 with other noise."
    )
    first, second = Toy.seen[: 2 * 66], Toy.seen[2 * 66 :]
    assert [step for step, *_ in second[::2]] == list(range(40, 80))
    for (step, real, noise), (again, same, other) in zip(first[2 * 40 :], second, strict=False):
        assert (step, real) == (again, same), "the same data in the same order"
        assert noise != other, "other noise"
    (line,) = disk.lines("rollback")
    assert {n: line[n] for n in ("step", "stream", "rollbacks", "trouble", "changes")} == {
        "step": 40, "stream": 1, "rollbacks": 1, "trouble": 66, "changes": {},
    }  # fmt: skip
    assert [line["step"] for line in disk.lines("step")] == list(range(1, 81)), "what it supersedes is left out"
    assert sorted(disk.kept()) == [70, 80]
    assert not [*disk.run.checkpoints.glob("*abandoned*")], "the next save cleared them away"
    told = history(events.read(disk.run.events_file), 80)
    assert told.changes == [(40, {"gone back, with other noise": line["why"]})]
    assert told.terms[0].steps[-1] == 80


def test_rates_are_halved_from_the_second_on_and_the_fourth_is_the_end(tmp_path, spoilt, monkeypatch):
    spoilt(range(45, 1_000), streams=range(9))
    disk = Disk(tmp_path, steps=300)
    rates = []
    with going_back() as said, pytest.raises(DivergenceError) as end:
        disk.go(lambda event: rates.append((event.state.stream, event.rates["D.lr"])))
    assert sorted(set(rates)) == [(0, 1e-2), (1, 1e-2), (2, 5e-3), (3, 2.5e-3)]
    assert [str(w.message).rpartition("noise")[2] for w in said] == [".", ", with rates × 0.5.", ", with rates × 0.25."]
    assert "gave nothing finite (D.adv)" in str(end.value)
    assert "\n" not in str(end.value)
    assert str(end.value).endswith(f"{TRIES} rollbacks did not help, each with other noise.")
    assert end.value.code == 5
    assert [(line["rollbacks"], line["changes"]) for line in disk.lines("rollback")] == [
        (1, {}), (2, {"rates": 0.5}), (3, {"rates": 0.25}),
    ]  # fmt: skip
    # and it is the end however often it is resumed
    spoilt((), streams=())
    monkeypatch.setattr(saving, "RECOVERED", 10)
    assert disk.go(), "once the trouble is over, the last healthy checkpoint is there to go on from"


def test_past_a_trouble_the_count_starts_anew(tmp_path, spoilt, monkeypatch):
    monkeypatch.setattr(saving, "RECOVERED", 45)
    troubles = [range(10 + 60 * k, 40 + 60 * k) for k in range(5)]
    monkeypatch.setattr(
        Toy, "spoilt", staticmethod(lambda step, stream: stream < 5 and step in troubles[stream])
    )  # each stream has its own
    disk = Disk(tmp_path, steps=300)
    with going_back():
        disk.go()
    assert [line["rollbacks"] for line in disk.lines("rollback")] == [1] * 5
    assert disk.state.changes == {}
    assert (disk.state.stream, disk.state.step) == (5, 300)


def test_step_0_is_a_target_like_any_other(tmp_path, spoilt):
    spoilt(range(2, 60))
    disk = Disk(tmp_path, steps=70, every=1_000)
    with going_back():
        disk.go()
    assert [line["step"] for line in disk.lines("rollback")] == [0]
    assert disk.state.step == 70


def test_a_step_saved_on_the_way_that_was_left_is_saved_again(tmp_path, spoilt):
    spoilt(range(45, 200))
    disk = Disk(tmp_path, steps=70, every=30)
    with going_back():
        disk.go()
    assert [line["step"] for line in disk.lines("checkpoint")] == [0, 30, 60]
    assert disk.kept()[60].facts["state"]["stream"] == 1


def test_without_a_healthy_checkpoint_there_is_a_line(tmp_path, spoilt):
    spoilt(range(60))
    disk = Disk(tmp_path, steps=70)

    def lose(event):
        if event.step == 12:
            (disk.run.checkpoints / "step-00000000" / "manifest.json").unlink()

    with pytest.raises(CheckpointError) as end:
        disk.go(lose)
    assert end.value.code == 4
    assert str(end.value) == f"no checkpoint in {disk.run.checkpoints} is healthy; train a new run with a lower --lr."


def test_a_listener_asks_for_a_rollback(tmp_path):
    disk = Disk(tmp_path, steps=60)
    asked = iter([{"rollback": "the samples have become alike", "D.lr": 1e-3}])
    with going_back() as said:
        disk.go(lambda event: next(asked, None) if event.step == 25 else None)
    assert [str(w.message) for w in said] == [
        "step 25: the samples have become alike. Going on from step 20 with other noise."
    ]
    (line,) = disk.lines("rollback")
    assert (line["step"], line["stream"], line["trouble"]) == (20, 1, 25)
    assert disk.state.changes == {"D.lr": 1e-3}, "what else it asked for holds from there on"


def test_what_a_listener_changed_stays_changed(tmp_path, spoilt):
    spoilt(range(45, 200))
    disk, rates = Disk(tmp_path, steps=80), {}

    def steer(event):
        rates[event.state.stream, event.step] = event.rates["D.lr"]
        if not event.state.stream:
            return {"D.lr": 3e-3} if event.step == 20 else {"D.lr": 1e-3, "lr": 2e-3} if event.step == 50 else None
        return None

    with going_back():
        disk.go(steer)
    assert disk.state.changes == {"D.lr": 1e-3, "lr": 2e-3}
    assert (rates[0, 21], rates[0, 51], rates[1, 41], rates[1, 80]) == (3e-3, 1e-3, 1e-3, 1e-3)
    (line,) = disk.lines("rollback")
    assert line["changes"] == {"D.lr": 1e-3, "lr": 2e-3}
    logged = [(line["step"], line["rates"]["D.lr"]) for line in disk.lines("step") if "rates" in line]
    assert logged == [(1, 1e-2), (21, 3e-3), (41, 1e-3)], "said again, as the line that said it is superseded"


def test_what_still_remembers_goes_back_too(tmp_path, spoilt, monkeypatch):
    monkeypatch.setattr("elegan.training.still.WINDOW", 8)
    spoilt(range(45, 200))
    disk, still = Disk(tmp_path, steps=80), Still(1e-9)
    heard = {}

    def watch(event):
        heard[event.state.stream, event.step] = {name: bits(t) for name, t in still.before.items()}

    with going_back():
        disk.go(watch, memories=[still])
    assert heard[0, 48] != heard[0, 40]
    assert heard[1, 41] == heard[0, 40], "as the checkpoint at step 40 knew it"


def test_the_best_checkpoint_outlives_a_rollback(tmp_path, spoilt):
    spoilt(range(65, 200))
    disk = Disk(tmp_path, steps=100)
    (tmp_path / "best.json").write_text(json.dumps({"step": 20}))
    with going_back():
        disk.go()
    assert sorted(disk.kept()) == [20, 90, 100]


@pytest.mark.parametrize("what", ["checkpoints", "log"])
def test_a_disk_that_refuses_within_a_rollback(tmp_path, spoilt, monkeypatch, what):
    """What cannot be set aside ends the run, whole; what cannot be logged is said, and the run goes on."""
    spoilt(range(45, 200))
    wanted = straight(tmp_path / "straight", steps=80)
    disk = Disk(tmp_path / "full", steps=80)
    refuse, real = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), (Path.rename, Path.open)

    def rename(path, target):
        if "abandoned" in str(target):
            raise refuse
        return real[0](path, target)

    def full(path, mode="r", **how):
        if "a" in mode and disk.state.stream:
            raise refuse
        return real[1](path, mode, **how)

    if what == "checkpoints":
        monkeypatch.setattr(Path, "rename", rename)
        with pytest.raises(ResourceError, match="step-00000060 cannot be renamed"):
            disk.go()
        monkeypatch.undo()
        spoilt(range(45, 200))
        assert sorted(step for step, found in disk.kept().items() if found.healthy) == [40]
        with going_back():
            assert disk.go() == wanted
        return
    monkeypatch.setattr(Path, "open", full)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ended = disk.go()
    assert ended == wanted
    lines = [str(w.message) for w in said]
    assert ["cannot be written (No space left" in line for line in lines] == [True, False], lines


# ---- killed on the way


def straight(path: Path, *listeners, **options) -> dict[str, bytes]:
    disk = Disk(path, **options)
    with going_back():
        return disk.go(*listeners)


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def die(*_, **__):
    raise Killed


def killed_when(what):
    """Die within a rollback: before checkpoints are renamed, before it is logged, or at the first step after it."""

    def first(course, log, saver):
        if what == "before the renaming":
            course._go_back = partial(killing, course._go_back, "elegan.fit.abandon")
        elif what == "before the line":
            write = log.write
            log.write = lambda kind, **facts: die() if kind == "rollback" else write(kind, **facts)

    return first


def killing(go_back, name, *args):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(name, die)
        go_back(*args)


@pytest.mark.parametrize("when", ["before the renaming", "before the line", "at the first step", "steps later"])
@pytest.mark.parametrize("trouble", [1, 2])
def test_a_rollback_that_is_killed_ends_where_the_other_ends(tmp_path, spoilt, when, trouble):
    spoilt(range(45, 200), streams=range(trouble))
    wanted = straight(tmp_path / "straight", steps=90)
    disk = Disk(tmp_path / "killed", steps=90)
    stop = {"at the first step": 41, "steps later": 47}.get(when)

    def kill(event):
        if (event.state.stream, event.step) == (1, stop):
            raise Killed

    with quiet(), pytest.raises(Killed):
        disk.go(kill, first=killed_when(when))
    with quiet():
        assert disk.go() == wanted
    assert [line["step"] for line in disk.lines("step")] == list(range(1, 91))
    assert [line["stream"] for line in disk.lines("rollback")] == list(range(1, trouble + 1))


def test_a_change_at_the_very_step_of_a_checkpoint_survives_a_kill(tmp_path):
    """It is granted once the checkpoint is written, which knows nothing of it."""

    def steer(event):
        return {"D.lr": 2e-3} if event.step == 20 else {"rates": 0.5} if event.step == 30 else None

    wanted = Disk(tmp_path / "straight", steps=40).go(steer)
    for last in (20, 30):

        def kill(event, last=last):
            if event.step == last + 4:
                raise Killed

        disk = Disk(tmp_path / f"killed-{last}", steps=40)
        with pytest.raises(Killed):
            disk.go(steer, kill)
        assert checkpoint.newest(disk.run.checkpoints).step == last
        assert disk.go(lambda event, last=last: steer(event) if event.step > last else None) == wanted


def test_what_was_asked_for_before_a_rollback_does_not_come_back_after_a_kill(tmp_path):
    """At the step of the checkpoint, at which the rollback ends: what overtook it later is among the changes."""

    def steer(event):
        if event.state.stream:
            return None
        return {20: {"D.lr": 2e-3}, 24: {"D.lr": 1e-3}, 27: {"rollback": "so"}}.get(event.step)

    wanted = straight(tmp_path / "straight", steer, steps=40)
    disk = Disk(tmp_path / "killed", steps=40)

    def kill(event):
        if (event.state.stream, event.step) == (1, 25):
            raise Killed

    with quiet(), pytest.raises(Killed):
        disk.go(steer, kill)
    assert disk.go(steer) == wanted
    assert disk.state.changes == {"D.lr": 1e-3}


# ---- whole runs


def test_a_run_in_trouble_says_so_line_by_line(tmp_path, small, cli, monkeypatch):
    """Through `elegan train`: warnings, log, samples and page."""
    honest, back, backs = DCGAN.d_loss, saving.go_back, []

    def d_loss(self, real):
        spoilt = 24 <= self.step < 60 and not backs
        return {n: t * (math.nan if spoilt else 1.0) for n, t in honest(self, real).items()}

    def go_back(*rest):
        backs.append(rest)
        back(*rest)

    monkeypatch.setattr(DCGAN, "d_loss", d_loss)
    monkeypatch.setattr("elegan.fit.go_back", go_back)
    with poison.quick(tmp_path):
        said = cli("train", "dcgan", small, *TINY, "--steps", 70, "--out", tmp_path / "run")
    assert said.code == 0
    (line,) = said.warned
    assert "steps, up to step 45, gave nothing finite" in line
    assert line.endswith("Going on from step 20 with other noise.")
    assert "done after step 70" in said.out
    text = (tmp_path / "run" / "index.html").read_text()
    assert "gone back, with other noise" in text
    assert sorted(p.name for p in (tmp_path / "run" / "samples").glob("*.png"))[-1] == "00000070.png"
    steps = [x["step"] for x in events.read(tmp_path / "run" / "events.jsonl") if x["kind"] == "step"]
    assert steps == list(range(1, 71))


DRIVER = '''
"""Train on two processes; in one of them a moment goes bad."""
import math, os, sys, warnings
import torch
from elegan.cli import main
from elegan.game import Adam
from elegan.run import saving
from elegan.training.loop import Loop

def tenth(saver, event):
    if event.step % 10 == 0:
        saver.save(event.game, event.state)

def begin(self):
    state = self.state
    if state.step == 14 and not state.stream and os.environ["RANK"] == os.environ["WHOM"]:
        next(iter(state.optim.moments[Adam].values()))["exp_avg"].view(-1)[0] = math.nan
    turns = honest(self)
    with open(f"{sys.argv[1]}.{os.environ['RANK']}", "a") as file:
        numbers = [float(p.double().sum()) for p in self.game.parameters()]
        file.write(f"{state.step} {state.stream} {len(state.bad)} {float(sum(numbers)).hex()}\\n")
    return turns

honest, Loop.begin, saving.Checkpointer.__call__ = Loop.begin, begin, tenth
torch.set_num_threads(1)
sys.exit(main(sys.argv[2:]))
'''


@pytest.mark.process
@pytest.mark.parametrize("whom", [0, 1])
def test_of_two_processes_one_is_poisoned_and_both_go_back(tmp_path, small, monkeypatch, whom):
    monkeypatch.setenv("WHOM", str(whom))
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = ("train", "dcgan", small, *SHARDED, "--steps", 50, "--out", tmp_path / "run")
    done = two(script, tmp_path / "seen", *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seen = [(tmp_path / f"seen.{rank}").read_text().splitlines() for rank in (0, 1)]
    assert seen[0] == seen[1], "weights, streams and bad steps alike, at every step"
    assert [int(line.split()[0]) for line in seen[0]] == [*range(35), *range(10, 50)]
    assert len({line.split()[3] for line in seen[0][14:35]}) == 1, "nothing moves any more"
    (line,) = [x for x in events.read(tmp_path / "run" / "events.jsonl") if x["kind"] == "rollback"]
    assert (line["step"], line["stream"], line["trouble"]) == (10, 1, 35)
    assert state(tmp_path / "run")["stream"] == 1
    assert len(tensors(tmp_path / "run")) >= 3
    assert done.stderr.count("Going on from step 10 with other noise") == 1
