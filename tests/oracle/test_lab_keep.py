"""A lab that is saved is a run, and a run in the plane is a lab: both go on to the bit. Trained starts."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import elegan
from elegan.data.readers import toys
from elegan.errors import CheckpointError, DataError, OptionError
from elegan.run.directory import RunDirectory
from elegan.run.events import EventLog
from elegan.run.saving import named_state
from elegan.studio import setup as asked
from elegan.studio.lab import catalogue as room
from elegan.studio.lab import keep
from elegan.studio.lab.catalogue import catalogue
from elegan.studio.lab.lab import Lab
from elegan.studio.setup import Preset, Setup
from tests.contract.labs import ALL, CUSTOM, GAN, R3GAN, SMALL, lab, played, weights


@pytest.mark.parametrize("data", [{"kind": "preset", "name": "ring"}, CUSTOM])
def test_a_saved_lab_is_a_run_that_goes_on_to_the_bit(tmp_path, data):
    made = lab(GAN, R3GAN, data=data)
    played(made, 120)
    made.benches[0].change({"lr": 3e-4})
    made.turn("D")  # saving finishes the round
    names = keep.save(made, tmp_path)
    assert names == ["lab-001", "lab-002"]
    goes_on = [weights(bench)["place"] for bench in made.benches]
    assert goes_on[0].startswith(b"(121,")
    loaded = keep.load(tmp_path / "lab-001", ALL)
    assert weights(loaded.benches[0]) == weights(made.benches[0])
    assert loaded.setup.data == made.setup.data
    played(loaded, 40)
    played(made, 40)
    assert weights(loaded.benches[0]) == weights(made.benches[0])
    assert (
        loaded.benches[0]
        .alarms.tensors()["readings"]
        .allclose(made.benches[0].alarms.tensors()["readings"], atol=0, rtol=0, equal_nan=True)
    )
    run = tmp_path / "lab-001"
    plan = (run / "options.json").read_text()
    (run / "options.json").write_text(plan.replace('"steps": 10000', '"steps": 161'))
    model = elegan.resume(run, steps=161)
    for name, tensor in named_state(made.benches[0].average).items():
        assert np.array_equal(tensor.numpy(), named_state(model.game)[name].numpy()), name
    assert elegan.load(tmp_path / "lab-002").sample(5).values.shape == (5, 2)


def test_a_run_of_the_command_line_opens_in_the_lab(tmp_path):
    elegan.train("gan", "ring", out=tmp_path / "run", steps=20, batch=16, threads=1, precision="fp32", preset="tiny")
    opened = keep.load(tmp_path / "run", ALL)
    assert opened.step == 20
    assert opened.setup.data == asked.Preset(name="ring")
    played(opened, 5)
    model = elegan.resume(tmp_path / "run", steps=25)
    for name, tensor in named_state(opened.benches[0].average).items():
        assert np.array_equal(tensor.numpy(), named_state(model.game)[name].numpy()), name
    again = Lab.of(opened.setup, ALL)
    assert again.step == 0
    assert [weights(again.benches[0])] == [
        weights(lab({"game": "gan", "preset": "tiny"}, half_life_images=20_000).benches[0])
    ]


def test_a_run_is_made_for_the_steps_it_has_and_takes_up_what_was_decided_last(tmp_path):
    made = lab(GAN)
    made.benches[0].plan["training"]["steps"] = 2
    played(made, 3)
    keep.save(made, tmp_path)
    run = RunDirectory(tmp_path / "lab-001")
    assert run.read_options()["training"]["steps"] == 3
    EventLog(run.events_file).write("change", step=3, change={"D.lr": 0.25})  # after the checkpoint was written
    assert keep.load(run.path, ALL).benches[0].rates()["D.lr"] == 0.25


def test_runs_that_are_not_for_the_lab_are_refused(tmp_path, tiny_run):
    with pytest.raises(OptionError, match="the lab opens games on points in the plane"):
        keep.load(tiny_run, ALL)
    with pytest.raises(CheckpointError, match="no run"):
        keep.load(tmp_path / "nowhere", ALL)
    keep.save(lab(GAN), tmp_path)
    for file in (tmp_path / "lab-001").rglob("weights.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="no checkpoint"):
        keep.load(tmp_path / "lab-001", ALL)
    keep.save(lab(GAN, data=CUSTOM), tmp_path)
    points = tmp_path / "lab-002" / "points.npy"
    np.save(points, np.load(points) + 1)
    with pytest.raises(DataError, match="has changed"):
        keep.load(tmp_path / "lab-002", ALL)


@pytest.mark.parametrize("name", toys.ABOUT)
def test_the_trained_starts_that_come_with_the_lab_are_good(name):
    """Of every known distribution, made with the default as it is now; refused otherwise."""
    made = Lab.of(Setup(data=Preset(name=name), trained=True), ALL)
    made.measure()
    (found,) = made.measured
    assert found is not None
    assert found["js"] < 0.3, "broad heaps are what small nets do worst"
    assert found["modes"] == found["total"]


def test_a_trained_start_is_taken_whole_or_refused(tmp_path, monkeypatch):
    made = lab(GAN, batch=16)
    played(made, 30)
    bench = made.benches[0]
    tensors = {f"game/{n}": t.contiguous() for n, t in named_state(bench.game).items()}
    tensors |= {f"average/{n}": t.contiguous() for n, t in named_state(bench.average).items()}
    about = {
        "options": room.plain(bench.plan["options"]),
        "seed": 0,
        "steps": 30,
        "data": made.points.source.fingerprint,
    }
    monkeypatch.setattr(room, "TRAINED", tmp_path)
    save_file(tensors, tmp_path / "ring.safetensors", {"about": json.dumps(about)})
    assert catalogue()["trained"] == ["ring"]
    started = lab(GAN, batch=16, trained=True).benches[0]
    assert named_state(started.game).keys() == named_state(bench.game).keys()
    for one, other in ((started.game, bench.game), (started.average, bench.average)):
        assert all(torch.equal(t, named_state(other)[n]) for n, t in named_state(one).items())
    assert (started.state.step, started.state.images) == (30, 30 * 16), "schedules stand where they stood"
    with pytest.raises(OptionError, match=r"k: 1 → 2"):
        lab({**GAN, "options": {**SMALL, "k": 2}}, trained=True)
    with pytest.raises(OptionError, match="no trained start"):
        lab(GAN, data={"kind": "preset", "name": "moons"}, trained=True)
    save_file(tensors, tmp_path / "ring.safetensors", {"about": json.dumps({**about, "data": "0"})})
    with pytest.raises(CheckpointError, match="other data"):
        lab(GAN, trained=True)
    (tmp_path / "ring.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="damaged"):
        lab(GAN, trained=True)
