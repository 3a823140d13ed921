"""The programs behind the figures: benchmarks and recipes say what they do, and do it, here in a small way."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("recipes/*.py")])


def program(name: str) -> ModuleType:
    path = ROOT / name
    spec = importlib.util.spec_from_file_location(f"program_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    """Programs import what lies beside them."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_says_how_it_is_called(path, monkeypatch, capsys):
    name = str(path.relative_to(ROOT))
    module = program(name)
    assert f"python {name}" in module.__doc__
    if "parser" not in path.read_text():
        return
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stop:
        module.main()
    assert stop.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_both_sides_of_the_first_minute_are_measured(monkeypatch):
    module = program("benchmarks/first_minute.py")
    monkeypatch.setattr(module, "DRAWN", 32)
    test = module.open_data("digits", split="test").arrays["real"][:500]
    real = module.Moments.of(module.digits_cnn.load().embed(test)[0])
    for side in (module.taught, module.default):
        images, drawn = side(0.01, 0)
        assert images >= 64
        assert (drawn.shape, drawn.dtype) == ((32, 1, 28, 28), np.uint8)
        assert module.distance(drawn, real) > 100  # nothing is learnt in no time


def test_modes_are_counted_after_a_limited_time():
    modes, total, share, seconds = program("benchmarks/modes.py").one("gan/stable", "ring", 0, 0.001)
    assert total == 8
    assert 0 <= share < 0.5
    assert modes <= total
    assert seconds < 20


def test_a_trial_is_known_by_what_the_recipe_makes_of_it():
    """So a recipe that changed is tried again, and what a trial only repeats is not."""
    module = program("recipes/default.py")
    stands = module.key_of({})
    assert stands["game"] == "cgan"
    assert module.key_of({"lr": stands["options"]["lr"]}) == stands
    for name, trial in module.TRIALS.items():
        key = module.key_of(trial)
        assert (key == stands) == (name == "as it stands"), name


def test_the_recipe_of_the_classifier_moves_digits_without_changing_them():
    module = program("recipes/digits_cnn.py")
    torch.manual_seed(0)
    images = torch.zeros(50, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 10:18, 12:16] = 255
    moved = module.shifted(images)
    assert moved.shape == images.shape
    assert moved.min() == -1
    assert moved.max() == 1
    assert ((moved > 0).flatten(1).sum(1) == 32).all()
    tops = {int(row) for row in (moved[:, 0] > 0).any(2).float().argmax(1)}
    lefts = {int(column) for column in (moved[:, 0] > 0).any(1).float().argmax(1)}
    assert tops == {8, 9, 10, 11, 12}
    assert lefts == {10, 11, 12, 13, 14}
