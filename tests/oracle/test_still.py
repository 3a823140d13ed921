"""Stopping when nothing moves: the relative change in closed form, kept by checkpoints."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import elegan
from elegan.run import saving
from elegan.training import still as still_room
from elegan.training.still import Still


class Two(nn.Module):
    """Two players whose parameters are set by hand; a buffer moves too and must not count."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([3.0, 0.0]))
        self.b = nn.Parameter(torch.tensor([[4.0]]))
        self.register_buffer("noise", torch.zeros(3))


def hear(still, game, step):
    return still(SimpleNamespace(step=step, game=game))


@pytest.mark.parametrize(("tolerance", "stops"), [(0.21, True), (0.2, False), (0.19, False)])
def test_the_change_is_the_distance_over_the_norm(tolerance, stops):
    game, still = Two(), Still(tolerance)
    assert hear(still, game, 1_000) is None  # nothing to compare with yet
    assert still.change == math.inf
    with torch.no_grad():
        game.a.add_(torch.tensor([0.0, 1.0]))
        game.noise.fill_(1e6)
    assert hear(still, game, 1_500) is None, "only whole windows are looked at"
    assert still.change == math.inf
    said = hear(still, game, 2_000)
    assert still.change == pytest.approx(1 / 5, rel=1e-7)  # |(0, 1, 0)| / |(3, 0, 4)|
    assert said == ({"stop": True} if stops else None)
    assert hear(Still(0.5), game, 3_000) is None
    hear(still, game, 3_000)
    assert still.change == 0.0  # against the window before, not against the first


def test_what_is_kept_does_not_follow_the_game():
    game, still = Two(), Still(0.1)
    hear(still, game, 1_000)
    with torch.no_grad():
        game.a.fill_(7.0)
    assert still.before["a"].tolist() == [3.0, 0.0]
    assert list(still.before) == ["a", "b"]


def test_parameters_that_start_at_zero_do_not_divide_by_zero():
    game, still = Two(), Still(0.1)
    with torch.no_grad():
        game.a.zero_()
        game.b.zero_()
    hear(still, game, 1_000)
    assert hear(still, game, 2_000) == {"stop": True}
    assert still.change == 0.0


TINY = dict(preset="tiny", batch=8, threads=1, precision="fp32", lr=1e-4)


@pytest.fixture
def short_windows(monkeypatch):
    monkeypatch.setattr(still_room, "WINDOW", 5)


def stopped_at(run) -> int:
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return next(line["step"] for line in reversed(lines) if line["kind"] == "stopped")


def test_a_training_stops_and_one_that_moves_does_not(tmp_path, small, short_windows):
    model = elegan.train("dcgan", small, out=tmp_path / "still", steps=40, until_still=10.0, **TINY)
    assert model.step == stopped_at(tmp_path / "still") == 10  # the second window is the first that can be compared
    model = elegan.train("dcgan", small, out=tmp_path / "moving", steps=20, until_still=1e-9, **TINY)
    assert model.step == 20


@pytest.mark.parametrize("cut", [3, 5, 7])
def test_a_resumed_run_stops_at_the_step_where_the_straight_one_does(tmp_path, small, short_windows, monkeypatch, cut):
    """Cut before, on and after the end of a window: what the window is measured from is in the checkpoint."""
    monkeypatch.setattr(saving, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(saving, "SAVES_COST", 0)
    straight = elegan.train("dcgan", small, out=tmp_path / "straight", steps=40, until_still=10.0, **TINY)
    assert straight.step == 10

    def fall(event):
        if event.step == cut:
            raise KeyboardInterrupt  # as a second Ctrl-C: nothing is saved after it

    with pytest.raises(KeyboardInterrupt):
        elegan.train("dcgan", small, out=tmp_path / "cut", steps=40, until_still=10.0, listeners=[fall], **TINY)
    resumed = elegan.resume(tmp_path / "cut")
    assert resumed.step == 10
