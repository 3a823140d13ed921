"""The pictures of a run, from the command line and from Python."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import elegan
from elegan import fit
from elegan.data.batches import Batches
from elegan.data.sources import open_data
from elegan.exporting import pictures
from elegan.tasks.moves import one_sided
from elegan.training.precision import Choice
from elegan.view.sheet import sheet
from tests.conftest import TINY, everything, tensors


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_of_points_ends_with_its_first_moves_and_a_film(cli):
    assert cli("train", "gan", "ring", *TINY, "--steps", 7, "--seed", 3, "--out", "run").err == ""
    assert names(Path("run/samples")) == [f"{step:08d}.png" for step in (0, 1, 2, 5, 7)]
    assert names(Path("run/pictures")) == ["moves.png", "training.gif"]
    with Image.open("run/pictures/training.gif") as film:
        assert film.n_frames == 5
        assert b"trainedAlgorithmicMedia" in film.info["comment"]
        assert b"step: 7" in film.info["comment"]
    with Image.open("run/pictures/moves.png") as opened:
        assert opened.text["elegan:step"] == "7"
        assert opened.text["DigitalSourceType"] == "trainedAlgorithmicMedia"
        four = opened.copy()
    with Image.open("run/samples/00000000.png") as opened:
        start = np.asarray(opened)
    assert (np.asarray(four)[44:524, 20:500] == start[44:524, 20:500]).all(), "the replay begins where the run began"
    with Image.open("run/samples/00000007.png") as opened:
        end = np.asarray(opened)
    assert (np.asarray(four)[568:1048, 520:1000] == end[44:524, 20:500]).all(), "and ends where it is"
    model, batches = elegan.load("run"), Batches(open_data("ring"), rows=8)
    again = fit.build(model.plan, batches.spec, Choice(**model.plan["compute"]))
    shown, facts = batches(3, 0, 0, 1_000), {"step": 7, "seed": 3}
    drawn = pictures.moves(model.game, one_sided(again, batches, seed=3), shown, facts)
    assert (np.asarray(drawn) == np.asarray(four)).all(), "by the moves that a run of this seed makes"


def test_a_run_of_labelled_images_ends_with_ways_and_classes(tmp_path, small):
    model = elegan.train(
        "cgan", small, out=tmp_path / "run", preset="tiny", steps=2, batch=8, threads=1, precision="fp32"
    )
    folder = tmp_path / "run" / "pictures"
    assert names(folder) == ["classes.png", "interpolation.png", "training.gif"]
    ways, rows = model.interpolate(), model.classes()
    assert (len(ways), len(rows)) == (80, 40)
    for name, samples in (("interpolation", ways), ("classes", rows)):
        with Image.open(folder / f"{name}.png") as opened:
            assert (np.asarray(opened) == np.asarray(samples.picture())).all()
            assert (opened.text["elegan:game"], opened.text["elegan:step"]) == ("cgan", "2")
    assert (np.asarray(ways.picture()) == np.asarray(sheet(ways.values, 10))).all()
    assert rows.names == ["0", "1", "2", "3"]
    assert (rows.values[10:20] == model.sample(10, label=1).values).all()
    assert (ways.values[::10] == model.sample(8, label=[0, 1, 2, 3] * 2).values).all()
    assert (ways.values[9::10] == model.sample(8, seed=1, label=[0, 1, 2, 3] * 2).values).all()


def test_pictures_cost_a_run_nothing_of_what_it_is(tmp_path, small, monkeypatch):
    def run(name: str, steps: int = 4) -> Path:
        model = elegan.train(
            "gan", "ring", out=tmp_path / name, preset="tiny", steps=steps, batch=8, threads=1, precision="fp32"
        )
        return model.run.path

    with_pictures = run("with")
    lines = [json.loads(line) for line in (with_pictures / "events.jsonl").read_text().splitlines()]
    assert lines[-1]["kind"] == "stopped", "the clock of the training stands before the pictures are drawn"
    split = run("split", 2)
    elegan.resume(split, steps=4)
    assert tensors(split) == tensors(with_pictures)
    assert everything(split / "pictures").keys() == everything(with_pictures / "pictures").keys()
    assert everything(split / "samples")["00000004.png"] == everything(with_pictures / "samples")["00000004.png"]
    split_moves, moves_drawn = (everything(r / "pictures")["moves.png"] for r in (split, with_pictures))
    assert split_moves == moves_drawn, "a resumed run replays the same first moves"
    monkeypatch.setattr("elegan.exporting.samples.wanted_at", lambda step: False)
    monkeypatch.setattr("elegan.fit.draw_pictures", lambda *given: iter(()))
    assert tensors(run("without")) == tensors(with_pictures)


def test_a_signal_is_not_kept_waiting_by_pictures(tmp_path, monkeypatch):
    def stop(event):
        if event.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    tiny = dict(preset="tiny", batch=8, threads=1, precision="fp32")
    model = elegan.train("gan", "ring", out=tmp_path / "a", steps=9, listeners=[stop], **tiny)
    assert model.stopped_by == "SIGTERM"
    assert not (tmp_path / "a" / "pictures").exists()
    film = pictures.save_film

    def slow(*given, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        return film(*given, **named)

    monkeypatch.setattr(pictures, "save_film", slow)
    elegan.train("gan", "ring", out=tmp_path / "b", steps=2, **tiny)
    assert names(tmp_path / "b" / "pictures") == ["training.gif"], "the one at hand is finished, no other begun"


def test_a_disk_that_refuses_pictures_costs_no_run(cli, monkeypatch):
    def full(*given, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "save_film", full)
    said = cli("train", "gan", "ring", *TINY, "--steps", 2, "--out", "run")
    assert said.code == 0
    assert said.warned == ["run/pictures/training.gif cannot be written (No space left on device)."]


def test_interpolation_from_the_command_line(cli, tiny_run):
    said = cli("edit", "interpolate", tiny_run, "--rows", 2, "--steps", 3, "--seed", 5)
    assert (said.code, said.err) == (0, "")
    out = tiny_run / "interpolated-001"
    assert said.out == f"6 samples in {out}; look at {out}/grid.png\n"
    assert names(out) == [*(f"{k:05d}.png" for k in range(6)), "grid.png"]
    model = elegan.load(tiny_run)
    with Image.open(out / "00003.png") as opened:
        assert (np.asarray(opened) == model.sample(2, seed=5)[1][0]).all()
        assert (opened.text["elegan:seed"], opened.text["elegan:steps"]) == ("5", "3")
    with Image.open(out / "grid.png") as opened:
        assert opened.size == (3 * 18 + 2, 2 * 18 + 2)
    assert cli("edit", "interpolate", tiny_run, "--out", "ways").code == 0
    assert len(names(Path("ways"))) == 81


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["mix", "RUN"], 2, ["mix", "interpolate"]),
        (["interpolate"], 2, ["RUN"]),
        (["interpolate", "nowhere"], 4, ["nowhere", "no such directory"]),
        (["interpolate", "RUN", "--rows", "0"], 2, ["--rows 0", "1 or more"]),
        (["interpolate", "RUN", "--steps", "1"], 2, ["--steps 1", "2 or more"]),
        (["interpolate", "RUN", "--label", "3"], 2, ["dcgan", "label"]),
        (["interpolate", "RUN", "--row", "3"], 2, ["--row", "--rows"]),
    ],
)
def test_what_cannot_be_interpolated_is_said_in_a_line(cli, tiny_run, flags, code, words):
    said = cli("edit", *(str(tiny_run) if flag == "RUN" else flag for flag in flags))
    assert said.code == code
    assert all(word in said.line for word in words), said.line
    assert not list(tiny_run.glob("interpolated*"))


def test_help_of_edit_shows_its_flags(cli):
    said = cli("edit", "--help")
    assert said.code == 0
    for flag in ("--rows", "--steps", "--seed", "--label", "--out"):
        assert flag in said.out
    assert "  edit " in cli("--help").out
