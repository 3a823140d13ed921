"""Alarms on real trainings: a generator that outruns its judge is found, one that goes well is left alone."""

import pytest
import torch

from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.source import Source
from elegan.data.sources import open_data
from elegan.metrics.modes import coverage
from elegan.tasks.generate import draw
from elegan.training.alarms import Alarm, Alarms
from elegan.training.loop import train
from elegan.training.seeds import seed_at


@pytest.fixture(scope="module")
def ring() -> Source:
    return open_data("ring")


OPTIONS = dict(z_dim=2, widths=(64, 64), judge_widths=(64, 64), lr=1.5e-3, gamma=0.1)


def watched(
    source: Source, steps: int, *, seed: int = 0, at: int = 0, change=None, **options
) -> tuple[list[Alarm], float]:
    """The alarms of a training, and the share of the ring's modes that its samples have at the end."""
    seed_at(torch.device("cpu"), seed, "init")
    game = zoo.build("gan", source.spec, **{**OPTIONS, **options})
    batches, told = Batches(source, rows=64), []
    alarms = Alarms(game, batches, seed=seed, tell=told.append)
    running, wish = train(game, batches, steps, seed=seed), None
    while True:
        try:
            event = running.send(wish)
        except StopIteration:
            break
        alarms(event)
        wish = change if event.step == at else None
    points = draw(game.eval(), 1_000, seed=9).numpy() * source.arrays["real"].std()
    return told, coverage(points, source.spec["real"].about["modes"], 0.1).modes / 8


def test_a_generator_that_outruns_its_judge_collapses_and_is_found(ring):
    """The judge stops and the generator is fast: it runs to where that judge is best pleased."""
    told, modes = watched(ring, 1_300, at=700, change={"gamma": 0.0, "D.lr": 0.0, "G.lr": 5e-3})
    assert modes < 0.5
    (first, *_) = told
    assert first.name == "collapse"
    assert first.step > 700
    assert "the samples have become alike" in first.why
    assert "--gamma 0.1" in first.remedy


def test_a_training_that_goes_well_is_left_alone(ring):
    told, modes = watched(ring, 1_800)
    assert told == []
    assert modes == 1
