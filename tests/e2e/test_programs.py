"""The programs behind the figures: benchmarks and recipes say what they do, and do it, here in a small way."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors import safe_open

import elegan

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


@pytest.mark.parametrize("case", ["gaussian", "shifted", "collapsed"])
def test_neighbours_are_measured_beside_prdc(case, capsys):
    module = program("benchmarks/neighbours.py")
    ours, theirs = (module.one(side, case, 60, 8, 3, 0) for side in ("elegan", "prdc"))
    assert capsys.readouterr().out == ""
    assert min(ours["seconds"], theirs["seconds"]) > 0
    assert min(ours["memory"], theirs["memory"]) >= 0
    assert ours["values"] == pytest.approx(theirs["values"])


def test_the_frechet_distance_is_measured_beside_scipy_and_the_truth(capsys):
    module = program("benchmarks/frechet.py")
    found = module.against_scipy(64, 1)
    assert len(found) == 3
    assert all(ratio > 0 and difference < 1e-6 for ratio, difference in found.values())
    assert "500 rows twice: 0.0e+00" in capsys.readouterr().out
    limit, plain, held = module.extrapolated(3, 1_000)
    assert abs(limit - 1) < 0.1 < plain - 1
    assert held >= 2


def test_a_trial_is_known_by_what_the_recipe_makes_of_it():
    """So a recipe that changed is tried again, and what a trial only repeats is not."""
    module = program("recipes/default.py")
    stands = module.key_of({})
    assert stands["game"] == "cgan"
    assert module.key_of({"lr": stands["options"]["lr"]}) == stands
    for name, trial in module.TRIALS.items():
        key = module.key_of(trial)
        assert (key == stands) == (name == "as it stands"), name


def test_the_recipe_of_the_classifiers_moves_images_without_changing_them():
    module = program("recipes/classifiers.py")
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


def test_the_recipe_of_the_classifiers_mirrors_half_of_the_clothes():
    module = program("recipes/classifiers.py")
    torch.manual_seed(0)
    images = torch.arange(28.0).expand(400, 1, 28, 28)
    mirrored = module.mirrored(images)
    turned = (mirrored == images.flip(3)).all((1, 2, 3))
    assert 150 < turned.sum() < 250
    assert (mirrored[~turned] == images[~turned]).all()


def test_what_scores_cost_is_measured(tmp_path):
    module = program("benchmarks/scores.py")
    total, spent, scores = module.trained(tmp_path / "run", 0.01, 64)
    assert scores == 1, "the last step is always scored"
    assert 0 < spent < total
    assert (tmp_path / "run" / "best.json").exists()
    assert module.evaluated(tmp_path / "run", 200, tmp_path / "cache") > 0
    assert len((tmp_path / "run" / "scores.jsonl").read_text().splitlines()) > 5


def test_the_table_reads_one_run_at_each_mark(tmp_path, monkeypatch):
    module = program("recipes/table.py")
    monkeypatch.setattr(module, "DRAWN", 200)
    monkeypatch.setattr(module, "METRICS", ("fd",))
    found = module.run("vae", "digits", 0, seconds=(0.05, 0.2), images=640)
    assert {read["mark"] for read in found} == {"0.05 s", "0.2 s", "640 images"}
    assert [read["images"] for read in found] == sorted(read["images"] for read in found)
    by_mark = {read["mark"]: read for read in found}
    assert by_mark["0.2 s"]["seconds"] >= 0.2
    assert 640 <= by_mark["640 images"]["images"] < 640 + 64
    assert all(module.score_of(read)["value"] > 0 for read in found)
    assert found[0]["scores"][0]["protocol"]["count"] == 200


def test_the_table_shows_medians_and_skips_what_is_made(tmp_path, monkeypatch):
    module = program("recipes/table.py")
    monkeypatch.setattr(module, "KEPT", tmp_path / "table.jsonl")
    marks = ("60 s", "300 s", "50,000 images")
    lines = []
    for seed, value in enumerate((3.0, 1.0, 2.0)):
        read = [{"mark": m, "images": 10, "scores": [{"metric": "FD", "value": value}]} for m in marks]
        lines.append({"game": "vae", "data": "digits", "seed": seed, "read": read})
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "| `vae` | 2.0 (1.0–3.0) | 2.0 (1.0–3.0) | 2.0 (1.0–3.0) | – | – | – |" in module.table()
    assert module.made("vae", "digits", 2)
    assert not module.made("vae", "fashion", 2)


def test_what_augmentation_costs_is_measured():
    module = program("benchmarks/augment.py")
    found = module.kinds((1, 8, 12), 1)
    assert {"flip", "rotate", "together", "apart", "grid_sample"} <= set(found)
    assert min(found.values()) > 0
    assert {"", "ada"} <= {policy for policy, taken in module.steps(1).items() if taken > 0}


def test_what_packing_costs_is_measured_beside_a_plain_loop_and_two_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("ELEGAN_CACHE", str(tmp_path / "cache"))
    module = program("benchmarks/data.py")
    spent = module.packing(tmp_path, 36)
    assert list(spent) == ["plain", "packed", "two plain", "two"]
    assert min(spent.values()) > 0
    packed = module.open_data(tmp_path / "store-0").arrays["real"]
    files = sorted(module.photos(tmp_path / "again", 12).iterdir())
    plain = module.plainly(files).transpose(0, 3, 1, 2)
    assert packed.shape == plain.shape == (12, 3, 64, 64)
    assert np.abs(packed.astype(int) - plain).mean() < 2, "both sides make the same images"


def test_what_feeding_costs_is_measured_out_of_the_cache(tmp_path, small, monkeypatch):
    monkeypatch.setenv("ELEGAN_CACHE", str(tmp_path / "cache"))
    module = program("benchmarks/data.py")
    module.sources.prepare(small, tmp_path / "store", form=module.Form())
    pages = max(tmp_path.glob("store/*.npy"))
    pages.read_bytes()
    assert module.resident(pages) == 1
    assert module.dropped(tmp_path / "store") <= 1  # it is the system that decides
    batches, total = module.fed(tmp_path / "store", 2, tmp_path / "run")
    assert 0 < batches < total
    assert module.api.Batches is module.Batches


@pytest.mark.process
def test_a_batch_is_measured_beside_a_loader(tmp_path, monkeypatch):
    monkeypatch.setenv("ELEGAN_CACHE", str(tmp_path / "cache"))
    spent = program("benchmarks/data.py").batching(tmp_path, 256)
    assert 0 < spent["elegan"] < spent["loader"]


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no smaps")
def test_a_store_ten_times_the_memory_trains_with_memory_flat(tmp_path, monkeypatch):
    """RLIMIT_DATA of 1 GiB, a store of 10 GiB, one hole, that is marked as found whole."""
    monkeypatch.setenv("ELEGAN_CACHE", str(tmp_path / "cache"))
    module, limit = program("benchmarks/mapped.py"), 1 << 30
    path = module.sparse(tmp_path / "store", 10 * limit // (3 * 64 * 64), (3, 64, 64))
    about = module.store.read_manifest(path)["splits"]["train"]["fields"]["real"]
    assert np.prod(about["shape"]) > 9.9 * limit
    mark = module.store.mark(path / about["file"], about["blocks"])
    mark.parent.mkdir(parents=True)
    mark.touch()
    early, late, seconds = module.trained(path, limit, 60, tmp_path / "run")
    assert late - early < 8 << 20, "the rows read are 9 MiB, as floats 37"
    assert seconds > 0


def test_the_store_of_that_measure_is_a_store_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setenv("ELEGAN_CACHE", str(tmp_path / "cache"))
    module = program("benchmarks/mapped.py")
    path = module.sparse(tmp_path / "store", 6_000, (3, 32, 32))
    source = module.open_data(path)  # compares the checksums
    assert source.arrays["real"].shape == (6_000, 3, 32, 32)
    assert not source.arrays["real"].any()
    assert sum(file.stat().st_blocks for file in path.iterdir()) * 512 < 1 << 20


def test_an_inspection_is_measured_beside_a_plain_loop(tmp_path):
    module = program("benchmarks/inspect_data.py")
    module.make(tmp_path / "photos", 200)
    files = sorted((tmp_path / "photos").rglob("*.jpg"))
    assert len(files) == 200
    assert len({file.read_bytes() for file in files}) == 198, "each hundredth is there twice"
    assert module.decoded(tmp_path / "photos") > 0
    seconds, megabytes = module.inspected(tmp_path / "photos", tmp_path / "out")
    assert 0 < seconds < 60
    assert 50 < megabytes < 2_000
    assert json.loads((tmp_path / "out/report.json").read_text())["severity"] == 1


@pytest.fixture
def killed(tmp_path):
    """The program, a run of its kind, and another just like it."""
    module = program("benchmarks/kill.py")
    module.images(tmp_path / "data.npz")
    for name in ("run", "straight"):
        elegan.train("dcgan", tmp_path / "data.npz", out=tmp_path / name, preset="tiny", batch=8, steps=120, threads=1,
                     precision="fp32")  # fmt: skip
    for run in (tmp_path / "run", tmp_path / "straight"):
        shutil.copytree(run / "checkpoints/step-00000000", run / "checkpoints/step-00000110", dirs_exist_ok=True)
        shutil.rmtree(run / "checkpoints/step-00000000")
    return module, tmp_path / "run", tmp_path / "straight"


def test_a_run_that_was_killed_is_compared_with_one_that_was_not(killed):
    module, run, straight = killed
    module.ended(run, straight, 120)
    assert module.complete(run / "checkpoints/step-00000120")
    weights = run / "checkpoints/step-00000120/weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(AssertionError, match=r"weights.safetensors differs"):
        module.ended(run, straight, 120)
    assert not module.complete(weights.parent)
    weights.write_bytes(content)
    (run / "checkpoints/step-00000121.tmp-0").mkdir()
    with pytest.raises(AssertionError, match="tmp"):
        module.ended(run, straight, 120)
    (run / "checkpoints/step-00000121.tmp-0").rmdir()
    log = (run / "events.jsonl").read_text().splitlines(keepends=True)
    for changed in (log[:20] + log[21:], log[:20] + log[19:]):
        (run / "events.jsonl").write_text("".join(changed))
        with pytest.raises(AssertionError):
            module.ended(run, straight, 120)
    assert module.announced(run) == [0, 120]


def test_alarms_are_told_from_runs_that_are_kept(tmp_path, monkeypatch, capsys):
    module = program("benchmarks/alarms.py")
    run = module.one("slow", 0, steps=200)
    assert [reading[0] for reading in run["readings"]] == [1, 100, 200]
    assert 0 < run["cost"] < 0.5
    assert module.failed(run)
    assert module.raised(run["readings"]) == []
    stalled = {**run, "readings": [run["readings"][0], *([100 * k, *run["readings"][1][1:]] for k in range(1, 20))]}
    assert module.raised(stalled["readings"]) == [("stall", 1_600)]
    well = {**run, "case": "vae-ring", "kind": "healthy", "ends": [{"sliced": 0.1, "modes": 1.0}]}
    lost = {**stalled, "case": "stable-ring", "kind": "healthy"}
    told = module.report(
        [run, stalled, well, lost, {**stalled, "case": "vae-ring", "kind": "healthy", "ends": well["ends"]}]
    )
    assert "stall           1 of   2 (1 by its own name)" in told
    assert "healthy         1 of   2 disturbed" in told
    assert [line.split(":")[0] for line in told.splitlines()[7:]] == [
        "  missed",
        "  disturbed",
        "  not what it was made for",
    ]
    monkeypatch.setattr(sys, "argv", ["alarms.py", "--only", "slow", "--calibrate", "--out", str(tmp_path / "runs")])
    (tmp_path / "runs").write_text(json.dumps(stalled) + "\n")
    module.main()  # what is kept is not made again
    assert "stall           1 of   1" in capsys.readouterr().out


def test_rescues_and_costs_are_measured(monkeypatch, capsys):
    module = program("benchmarks/alarms.py")
    monkeypatch.setattr(module.saving, "LEAST_SECONDS", 30.0)  # which it lowers
    run = module.rescued("slow", 0, True, steps=120)
    assert run["done"] == []
    assert run["ends"][0]["sliced"] > 0.5
    monkeypatch.setattr(module, "COSTS", (("gan", "ring", 120),))
    monkeypatch.setattr(sys, "argv", ["alarms.py", "--cost"])
    module.main()
    said = capsys.readouterr().out
    assert said.startswith("gan on ring: ")
    assert 0 < float(said.split()[3].rstrip("%")) < 50


def test_rounds_of_the_lab_are_measured_beside_plain_torch(monkeypatch):
    module = program("benchmarks/lab_engine.py")
    for preset in ("gan-lab", "lab"):
        ours, theirs = module.cost(preset, 5, 1)
        assert 0 < ours < 0.1
        assert 0 < theirs < 0.1
    loop, twin = module.begun("lab"), module.begun("lab")
    a_round = module.plain(twin.game, twin.batches)
    places = ((0, 0, step, turn, 0, 0) for step in range(3) for turn in range(2))
    drawn = twin.game.noise

    def noise(*args):  # the loop's own
        module.seed_at(torch.device("cpu"), *next(places))
        return drawn(*args)

    monkeypatch.setattr(twin.game, "noise", noise)
    for _ in range(3):
        loop.step()
        a_round()
    for p, q in zip(loop.game.parameters(), twin.game.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    (line,) = module.fare("lab", "ring", 0, (0.1,))
    assert line.startswith("0.1 s: ")
    assert line.count("/8 modes") == 1


def test_a_trained_start_of_the_lab_is_what_training_gives(tmp_path, monkeypatch):
    module = program("recipes/lab.py")
    path = module.make("two", tmp_path, steps=3)
    with safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["about"])
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    source = elegan.open_data("two")
    assert (about["data"], about["seed"], about["steps"]) == (source.fingerprint, 0, 3)
    assert about["options"]["widths"] == list(elegan.zoo.settings("gan", "lab", {}).options["widths"])
    monkeypatch.setattr(module, "open_data", lambda name: source)
    loop = program("benchmarks/lab_engine.py").begun("lab", "two")
    for _ in range(3):
        loop.step()
    parts = {"game": loop.game, "average": loop.state.average.game}
    wanted = {f"{part}/{name}": t.numpy() for part, game in parts.items() for name, t in game.state_dict().items()}
    assert wanted.keys() == tensors.keys()
    assert all((wanted[name] == tensors[name]).all() for name in wanted)
    monkeypatch.setattr(module.elegan, "train", None)
    assert module.make("two", tmp_path, steps=3) == path, "what is there is not made again"
    with pytest.raises(TypeError):
        module.make("two", tmp_path, steps=4)


@pytest.mark.process
def test_the_lab_is_measured_in_a_browser(tmp_path):
    program("benchmarks/lab.py").main(["--seconds", "2", "--only", "drawing", "cost", "--out", str(tmp_path / "told")])
    told = json.loads((tmp_path / "told").read_text())
    assert told["page_bytes_gzip"] < 300_000
    assert 0 < told["ready_s"] < 60
    assert 0 < told["usable_s"] <= told["first_frame_s"] < 60
    assert told["drawing"]["shapes"]["0/surface"] == [64, 64]
    assert told["drawing"]["shapes"]["0/arrows"] == [1_024, 2]
    assert told["drawing"]["frames_drawn_per_s"] > 1
    assert told["drawing"]["rounds_per_s"] > 10
    assert told["cost_of_drawing"]["with"] > 10


@pytest.mark.parametrize("kind", ["transient", "persistent", "hopeless"])
def test_poisoned_trainings_are_counted(kind, monkeypatch, capsys):
    module = program("benchmarks/poison.py")
    found = module.sweep(kind, 2, 7)
    hopeless = kind == "hopeless"
    assert (found["runs"], found["reached"]) == (2, 0)
    assert (found["ended"], found["exit 5"]) == ((0, 2) if hopeless else (2, 0))
    assert found["rollbacks"] == 6 if hopeless else found["rollbacks"] <= 4
    assert capsys.readouterr().out == "", "nothing reached the weights"
    assert module.saving.Checkpointer.__call__ is not module.tenth


def test_poison_that_reaches_the_weights_is_noticed(tmp_path, monkeypatch):
    module = program("benchmarks/poison.py")
    monkeypatch.setattr(
        "elegan.training.loop.not_finite", lambda tensors: torch.zeros(())
    )  # a loop that looks at nothing
    monkeypatch.setattr("elegan.training.soundness.Sound.broken", lambda self: torch.zeros(()))
    with module.quick(tmp_path) as small:
        result = module.one("gan on ring", module.Poison("loss", float("nan"), 4), small, tmp_path / "run", 9)
    assert any("weights/" in line for line in result["reached"])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_memory_and_descriptors_are_read_along_a_training(tmp_path):
    module = program("benchmarks/soak.py")
    read = module.trained(tmp_path / "run", 20, every=5)
    assert [step for step, *_ in read] == [5, 10, 15, 20]
    assert all(10 < memory < 10_000 and 2 < count < 1_000 for _, memory, count in read)
    assert abs(module.slope(read)) < 1e6
