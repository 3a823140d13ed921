"""Runs told to TensorBoard, read back by its own reader and compared with the log and the files of the run."""

import json
import math
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import RecordWriter

import elegan
from elegan.errors import OptionError
from elegan.exporting import tensorboard, track
from elegan.exporting.tensorboard import TensorBoard
from elegan.run import events
from elegan.run.directory import RunDirectory
from tests.conftest import TINY, everything, tensors

EVERYTHING = dict.fromkeys(("scalars", "images", "tensors"), 0)


def read(run: Path) -> EventAccumulator:
    found = EventAccumulator(str(run / "track"), size_guidance=EVERYTHING)
    found.Reload()
    return found


def told(run: Path) -> dict[tuple[str, int], float]:
    """Terms, gradients and rates by tag and step, as TensorBoard reads them; each once."""
    found = read(run)
    points = [(tag, e.step, e.value) for tag in found.Tags()["scalars"] for e in found.Scalars(tag)]
    assert len({(tag, n) for tag, n, _ in points}) == len(points), "nothing stands twice"
    return {(tag, n): value for tag, n, value in points if not tag.startswith("speed")}


def logged(run: Path) -> dict[tuple[str, int], float]:
    """The same from events.jsonl."""
    found = {}
    for line in events.read(run / "events.jsonl"):
        n = line["step"]
        for name, value in line.get("terms", {}).items():
            found[("gradients/" if name.endswith(".grad") else "terms/") + name, n] = float(value)
        found |= {(f"rates/{name}", n): rate for name, rate in line.get("rates", {}).items()}
    return found


def same(run: Path) -> None:
    assert told(run) == pytest.approx(logged(run), rel=1e-6, nan_ok=True)


def drawn(run: Path) -> dict[int, bytes]:
    return {int(path.stem): path.read_bytes() for path in sorted((run / "samples").glob("[0-9]*.png"))}


def train(small: Path, out: Path, steps: int, **more) -> elegan.Model:
    return elegan.train("dcgan", small, out=out, preset="tiny", steps=steps, batch=8, threads=1, precision="fp32",
                        track="tensorboard", **more)  # fmt: skip


def test_scalars_are_those_of_the_log(tmp_path, small):
    train(small, tmp_path / "run", 123, listeners=[lambda e: {"D.lr": 1e-5} if e.step == 104 else None])
    same(tmp_path / "run")
    steps = {n for tag, n in told(tmp_path / "run") if tag == "terms/D.adv"}
    assert steps == {*range(1, 101), 110, 120}
    assert {n for tag, n in told(tmp_path / "run") if tag == "rates/D.lr"} == {1, 110}
    lines = {line["step"]: line for line in events.read(tmp_path / "run" / "events.jsonl") if line["kind"] == "step"}
    times = {e.step: e.wall_time for e in read(tmp_path / "run").Scalars("terms/D.adv")}
    assert times == pytest.approx({n: line["time"] for n, line in lines.items()}, abs=1e-3)
    speeds = {e.step: e.value for e in read(tmp_path / "run").Scalars("speed/images a second")}
    assert speeds[120] == pytest.approx(80 / (lines[120]["seconds"] - lines[110]["seconds"]), rel=1e-6)
    assert 1 not in speeds


def test_every_grid_arrives_whole(tmp_path, small):
    train(small, tmp_path / "run", 13)
    images = read(tmp_path / "run").Images("samples")
    assert {e.step: e.encoded_image_string for e in images} == drawn(tmp_path / "run") != {}
    assert images[-1].step == 13, "also that of the end, drawn after the last step"
    with Image.open(tmp_path / "run" / "samples" / "00000013.png") as opened:
        assert (images[-1].width, images[-1].height) == opened.size


def test_the_options_arrive(tmp_path, small):
    train(small, tmp_path / "run", 1)
    (only,) = read(tmp_path / "run").Tensors("options/text_summary")
    text = only.tensor_proto.string_val[0].decode()
    plan = json.loads((tmp_path / "run" / "options.json").read_text())
    for part in ("options", "training", "data", "compute", "versions"):
        for name, value in plan[part].items():
            assert f"| {part} | {name} | `{json.dumps(value)}` |" in text


def test_a_resume_purges_what_it_supersedes(tmp_path, small):
    """A run that was killed after its seventh step, with checkpoints at 4: what came after 4 is told once, anew."""
    run = tmp_path / "run"
    train(small, run, 4)
    elegan.resume(run, steps=4)  # a second file
    plan = json.loads((run / "options.json").read_text())
    lost = TensorBoard(RunDirectory(run), plan)
    log = events.EventLog(run / "events.jsonl", [lost])
    log.write("resumed", step=4)
    lost({"kind": "step", "time": 1e9, "seconds": 1.0, "step": 5, "images": 40, "terms": {"lost": 0.5}})
    for n in (5, 6, 7):
        log.write("step", step=n, images=8 * n, phase="train", terms={"D.adv": 99.0, "G.adv": "nan"})
    (run / "samples" / "00000007.png").write_bytes((run / "samples" / "00000004.png").read_bytes())
    lost.close()
    assert told(run)["terms/D.adv", 7] == 99.0
    assert [e.wall_time for e in read(run).Scalars("terms/lost")] == [1e9], "the time of the line"
    assert math.isnan(told(run)["terms/G.adv", 7])
    elegan.resume(run, steps=6, track="tensorboard")
    same(run)
    assert {n for _, n in told(run)} == {1, 2, 3, 4, 5, 6}
    assert [e.step for e in read(run).Images("samples")] == sorted(n for n in drawn(run) if n <= 6)


def test_grids_of_the_time_before_tracking_are_sent_too(tiny_run):
    elegan.resume(tiny_run, steps=6, track="tensorboard")
    assert {e.step for e in read(tiny_run).Images("samples")} == drawn(tiny_run).keys()


def test_a_tracked_run_is_the_same_run(tmp_path, small, tiny_run):
    train(small, tmp_path / "run", 4)
    assert tensors(tmp_path / "run") == tensors(tiny_run)
    assert not (tiny_run / "track").exists()


def test_the_command_line(cli, small):
    assert cli("train", "dcgan", small, *TINY, "--steps", 2, "--out", "run", "--track", "tensorboard").code == 0
    assert cli("resume", "run", "--steps", 3, "--track", "tensorboard").code == 0
    same(Path("run"))


@pytest.mark.parametrize("verb", ["train", "resume"])
@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("tensorbord", ["--track 'tensorbord' is no tracker", "Did you mean 'tensorboard'?"]),
        ("tensorboard,wandb", ["--track 'wandb' is no tracker", "There is: tensorboard."]),
    ],
)
def test_an_unknown_tracker_is_said_before_anything_is_made(cli, small, tiny_run, verb, names, words):
    before = everything(tiny_run)
    what = ["dcgan", small, *TINY] if verb == "train" else [tiny_run]
    said = cli(verb, *what, "--track", names)
    assert said.code == 2
    assert all(word in said.line for word in words)
    assert list(Path().iterdir()) == []
    assert everything(tiny_run) == before


def test_a_missing_package_is_said_before_anything_is_made(cli, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "elegan.exporting.tensorboard")
    for name in [n for n in sys.modules if n.startswith(("tensorboard.", "torch.utils.tensorboard"))]:
        monkeypatch.delitem(sys.modules, name)
    said = cli("train", "dcgan", small, *TINY, "--track", "tensorboard")
    assert said.code == 2
    assert "--track tensorboard needs a package that is not here" in said.line
    assert said.line.endswith('pip install "elegan[track]".')
    assert list(Path().iterdir()) == []


def test_no_tracker_is_none():
    assert track.chosen(None) == track.chosen("") == track.chosen(" , ") == []
    assert track.chosen("tensorboard") == [TensorBoard]
    with pytest.raises(OptionError):
        track.chosen("TensorBoard")


def test_a_place_that_cannot_be_written_is_said_once(tiny_run, cli):
    (tiny_run / "track").write_text("")
    said = cli("resume", tiny_run, "--steps", 6, "--track", "tensorboard")
    assert said.code == 0
    assert len(said.warned) == 1
    assert f"{tiny_run / 'track'} cannot be written (File exists); training goes on, untracked." in said.warned[0]


def test_a_full_disk_is_said_once(tiny_run, monkeypatch):
    class Full(RecordWriter):
        written = 0

        def write(self, data):
            Full.written += 1
            if Full.written > 4:
                raise OSError(28, "No space left on device")
            super().write(data)

    monkeypatch.setattr(tensorboard, "RecordWriter", Full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = elegan.resume(tiny_run, steps=8, track="tensorboard")
    assert model.step == 8
    assert [str(w.message) for w in caught] == [
        f"{tiny_run / 'track'} cannot be written (No space left on device); training goes on, untracked."
    ]
    assert Full.written == 5
