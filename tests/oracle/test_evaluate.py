"""Evaluation from one end to the other: its scores against those computed by hand from the same samples."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from prdc import compute_prdc
from scipy.linalg import sqrtm

import elegan
from elegan.data.codec import codec_of
from elegan.data.sources import open_data
from elegan.embedders import open_embedder
from elegan.metrics.catalogue import METRICS
from elegan.metrics.evaluation import measure
from elegan.metrics.features import PORTION, of_arrays
from elegan.scoring import evaluate as room
from elegan.tasks.generate import draw
from elegan.training.loop import Event
from elegan.zoo.cgan import CGAN

SETTINGS = dict(preset="tiny", batch=8, threads=1, precision="fp32")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "elegan")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory, probed):
    """A cache of this file's own, beside the probe's; and no embedder but those that always are there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elegan.embedders.weights.packaged", lambda *_: None)
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        (folder / "elegan").mkdir()
        (folder / "elegan" / "probe.json").write_bytes(probed.read_bytes())
        yield folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """200 labelled images of 8x8 to train on and 120 held out, in unequal classes."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 200), ("test", 120)):
        label = np.sort(np.arange(count) % 10 // 4 % 3)  # 0, 0, 0, 0, 1, 1, 1, 1, 2, 2: unequal
        low = rng.integers(0, 64, (count, 8, 8), dtype=np.uint8)
        arrays[f"real_{split}"], arrays[f"label_{split}"] = low + (label * 60).astype(np.uint8)[:, None, None], label
    path = tmp_path_factory.mktemp("data") / "parts.npz"
    np.savez(path, **arrays)
    return path


def trained(folder: Path, game: str, data: object, **options) -> elegan.Model:
    return elegan.train(game, data, out=folder / game, steps=3, **SETTINGS, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory, data) -> Path:
    return trained(tmp_path_factory.mktemp("run"), "cgan", data).run.path


def textbook(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = np.cov(x.T), np.cov(y.T)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b) - 2 * np.trace(sqrtm(a @ b)).real)


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64) / 255


def drawn_by(run: Path, n: int, seed: int = 0, first: int = 0) -> np.ndarray:
    """Samples of a labelled run as the command draws them: labels as often as the data has them."""
    model = elegan.load(run)
    counts = np.array(model.game.spec["label"].counts)
    labels = np.random.default_rng(seed).choice(len(counts), n, p=counts / counts.sum())
    return codec_of(model.game.spec["real"]).decode(draw(model.game, n, seed=seed, label=labels.tolist()))


# ---- values


def test_a_run_is_scored_as_by_hand(run, data):
    found = elegan.evaluate(run, n=96, metrics="fd,kid,precision-recall", out=run.parent / "out", seed=2)
    x, y = flat(drawn_by(run, 96, 2)), flat(open_data(data, split="test").arrays["real"])
    assert found["FD"].value == pytest.approx(textbook(x, y), rel=1e-3)
    kernel = [(a @ b.T / 64 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    n, m = len(x), len(y)
    kid = (kernel[0].sum() - np.trace(kernel[0])) / (n * n - n) + (kernel[1].sum() - np.trace(kernel[1])) / (m * m - m)
    assert found["KID"].value == pytest.approx(kid - 2 * kernel[2].mean(), rel=1e-4)
    p = found["FD"].protocol
    assert (p.reference, p.reference_count, p.count, p.seed) == (f"{data} (test)", 120, 96, 2)
    assert p.fingerprint == open_data(data, split="test").fingerprint
    assert p.embedder == "pixels"


def test_the_sides_are_not_swapped(tmp_path):
    """Drawn samples that all lie in one of two real clusters: precise, and half is missed; and the other way round."""
    rng = np.random.default_rng(1)
    one, two = (rng.normal(k * 20, 1, (60, 4)).astype(np.float32) for k in range(2))
    both = np.concatenate([one + rng.normal(0, 0.3, one.shape).astype(np.float32), two])
    for name, drawn, real in (("precision", one, both), ("recall", both, one)):
        theirs = [compute_prdc(real, drawn, nearest_k=k) for k in (3, 5)]
        found = elegan.evaluate(drawn, against=real, metrics="precision-recall,two-sample")
        for metric, by in (("precision", 0), ("recall", 0), ("density", 1), ("coverage", 1)):
            assert found[metric].value == pytest.approx(theirs[by][metric], abs=0.02), (name, metric)
        other = "recall" if name == "precision" else "precision"
        assert found[other].value < 0.6 < 0.7 < found[name].value


@pytest.mark.parametrize("metric", ["fd", "sliced-wasserstein", "mmd", "mind", "diversity", "two-sample"])
def test_a_metric_scores_alone_as_among_others(metric):
    rng = np.random.default_rng(3)
    x, y = rng.normal(0, 1, (40, 3)).astype(np.float32), rng.normal(1, 1, (50, 3)).astype(np.float32)
    alone = elegan.evaluate(x, against=y, metrics=metric)
    among = elegan.evaluate(x, against=y, metrics=f"kid,{metric},precision-recall")
    for score in alone.scores:
        assert (score.value, score.low, score.floor) == (
            among[score.label].value, among[score.label].low, among[score.label].floor,
        )  # fmt: skip
        assert score.label.endswith("[values]")


def test_the_modes_of_a_ring_are_counted():
    centres = np.array([[np.cos(a), np.sin(a)] for a in np.arange(8) * np.pi / 4], np.float32)
    some = np.repeat(centres[:5], 12, 0)
    some[::2] += 0.3
    found = elegan.evaluate(some, against="ring", metrics="modes")
    assert found["modes"].value == 5
    assert found["high quality"].value == 0.5
    assert found["modes"].floor == 8
    assert found["high quality"].floor == pytest.approx(0.99, abs=0.04)


# ---- the same again


def test_one_seed_one_set_of_scores(run):
    one, again, other = (
        elegan.evaluate(run, n=64, metrics="fd,two-sample,cas", seed=s, out=run.parent / "x") for s in (1, 1, 2)
    )
    assert [s.value for s in one.scores] == [s.value for s in again.scores]
    assert [s.low for s in one.scores] == [s.low for s in again.scores]
    assert one["FD"].value != other["FD"].value


@pytest.mark.parametrize("game", ["cgan", "dcgan", "gan"])
def test_samples_do_not_depend_on_portions(tmp_path, data, game):
    model = trained(tmp_path, game, data)
    labels = [k % 3 for k in range(100)] if model.game.labelled else None
    whole = draw(model.game, 100, seed=3, label=labels)
    parts = [
        draw(model.game, stop - start, seed=3, first=start, label=labels and labels[start:stop])
        for start, stop in ((0, 32), (32, 96), (96, 100))
    ]
    assert torch.cat(parts).equal(whole)
    assert len(torch.unique(whole.flatten(1), dim=0)) == 100
    for first in (1, 31, 33):
        with pytest.raises(ValueError, match="multiple of 32"):
            draw(model.game, 1, first=first)


def test_a_set_is_drawn_in_portions_once(run, monkeypatch):
    calls = []
    monkeypatch.setattr(
        room, "draw", lambda game, n, **given: calls.append((given["first"], n)) or draw(game, n, **given)
    )
    made = room.model_set(elegan.load(run), PORTION + 40, 0)
    rows = made.all()
    np.testing.assert_array_equal(made.all(), rows)
    assert calls == [(0, PORTION), (PORTION, 40)]
    assert rows.shape == (PORTION + 40, 1, 8, 8)
    np.testing.assert_array_equal(rows[:40], drawn_by(run, PORTION + 40)[:40])


def test_labels_come_as_often_as_the_data_has_them(run):
    made = room.model_set(elegan.load(run), 2_000, 0)
    shares = np.bincount(made.labels) / 2_000
    np.testing.assert_allclose(shares, [0.4, 0.4, 0.2], atol=0.04)
    assert (np.diff(made.labels) < 0).any(), "in no order"


@pytest.mark.process
def test_two_processes_score_to_the_bit_as_one(run, tmp_path, monkeypatch):
    """With nothing remembered, so that every portion is embedded by one of the two."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = {"n": PORTION + 40, "metrics": "fd,kid,precision-recall", "embedder": "pixels"}
    tokens = [
        "evaluate",
        run,
        *(part for name, value in asked.items() for part in ("-" * (1 + (name != "n")) + name, value)),
    ]
    said = subprocess.run(
        [*map(str, (*TORCHRUN, *tokens, "--out", tmp_path / "two"))], capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.count(f"{run}, step 3: {PORTION + 40:,} samples") == 1, "one speaks for all"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    elegan.evaluate(run, out=tmp_path / "one", **asked)
    files = [(tmp_path / name / "scores.jsonl").read_text().splitlines() for name in ("one", "two")]
    one, two = ([{**json.loads(line), "time": ""} for line in lines] for lines in files)
    assert one == two
    assert len(one) == 6, "and one writes for all"


# ---- references of every kind


def test_a_reference_may_be_anything(data, tmp_path):
    test = open_data(data, split="test").arrays["real"]
    train = open_data(data).arrays["real"]
    (tmp_path / "folder").mkdir()
    for k, image in enumerate(train[:, 0]):
        Image.fromarray(image).save(tmp_path / "folder" / f"{k:03d}.png")
    np.save(tmp_path / "one.npy", train)
    elegan.evaluate(train[:, 0], save=tmp_path / "s.safetensors", embedder="pixels")
    values = {}
    for name, against in {"array": train[:, 0], "npy": tmp_path / "one.npy", "folder": tmp_path / "folder",
                          "statistics": tmp_path / "s.safetensors"}.items():  # fmt: skip
        found = elegan.evaluate(test[:, 0], against=against, metrics="fd", embedder="pixels")["FD"]
        assert found.protocol.reference_count == 200
        values[name] = found.value
    assert values == pytest.approx(dict.fromkeys(values, textbook(flat(test), flat(train))), rel=1e-3)
    assert values["array"] == values["npy"] == values["folder"]


def test_a_run_may_be_the_reference_of_another(run, monkeypatch):
    monkeypatch.setattr(room, "DRAWN", 128)
    model = elegan.load(run)
    found = elegan.evaluate(run, against=model, n=64, metrics="fd", out=run.parent / "y")["FD"]
    by_path = elegan.evaluate(run, against=run, n=64, metrics="fd", out=run.parent / "y")["FD"]
    assert (
        found.value
        == by_path.value
        == pytest.approx(textbook(flat(drawn_by(run, 64, 0)), flat(drawn_by(run, 128, 1))), rel=1e-3)
    )
    assert found.protocol.reference == f"{run}, step 3"
    assert found.protocol.reference_count == 128
    assert "one half of" in found.beside


def test_a_split_is_chosen_and_said(run, data, small):
    assert elegan.evaluate(run, n=40, metrics="fd")["FD"].protocol.reference == f"{data} (test)"
    of_train = elegan.evaluate(run, n=40, metrics="fd", split="train")["FD"]
    assert of_train.protocol.reference == f"{data} (train)"
    assert of_train.protocol.reference_count == 200
    assert of_train.beside.startswith("floor: one half of")
    whole = elegan.evaluate(run, n=40, metrics="fd", against=small)["FD"]
    assert whole.protocol.reference == f"{small} (train)", "where there is no test split"
    assert whole.beside.startswith("floor: one half of")


def test_n_of_data_and_of_arrays(data):
    train = open_data(data).arrays["real"][:, 0]
    for what in (data, train):
        few = elegan.evaluate(what, against=data, n=30, metrics="fd", seed=1)["FD"]
        assert few.protocol.count == 30
        again = elegan.evaluate(what, against=data, n=30, metrics="fd", seed=2)["FD"]
        assert again.value != few.value


def test_images_are_brought_to_one_size(data):
    rng = np.random.default_rng(0)
    large = rng.integers(0, 255, (40, 16, 16), dtype=np.uint8)
    np.savez(data.parent / "large.npz", real=large)
    found = elegan.evaluate(data.parent / "large.npz", against=data, size=8, metrics="fd")["FD"]
    assert "8x8" in found.protocol.input


# ---- what only some can have


def test_cas_of_a_game_with_labels_and_a_reason_for_one_without(run, data, tmp_path):
    found = elegan.evaluate(run, n=64, metrics="cas", out=tmp_path / "o")["CAS"]
    assert 0 <= found.value <= 1
    assert found.floor > 0.9, "classes of brightness are easy"
    assert found.protocol.embedder == ""
    bare = trained(tmp_path, "dcgan", data)
    (none,) = elegan.evaluate(bare, n=64, metrics="cas").scores
    assert none.value is None
    assert "labels" in none.note


def test_the_classifier_learns_from_drawn_samples_and_is_asked_about_real_ones(data):
    """Samples of two classes of three: the third, a fifth of the held-out data, is never recognised."""
    train, test = (open_data(data, split=split).arrays for split in ("train", "test"))
    two = train["label"] < 2
    sides = of_arrays("drawn", train["real"][two], train["label"][two]), of_arrays("real", test["real"], test["label"])
    (found,) = measure(["cas"], "x", *sides, open_embedder("pixels", shape=(1, 8, 8)), beside=False)
    assert found.value == pytest.approx(0.8, abs=0.03)


def test_the_gap_of_a_game_of_two_and_a_reason_for_one_of_one(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr("elegan.metrics.duality_gap.duality_gap.__kwdefaults__", {"moves": 3, "seed": 0})
    found = elegan.evaluate(run, n=32, metrics="gap", out=tmp_path / "o")
    assert found["duality gap"].label == "duality gap"
    assert found["duality gap"].protocol.interval.endswith("held-out batches resampled")
    assert found["duality gap"].floor is None
    vae = trained(tmp_path, "vae", data)
    fd, gap = elegan.evaluate(vae, n=32, metrics="fd,gap").scores
    assert fd.value > 0
    assert gap.value is None
    assert "between D and G" in gap.note
    assert "\n" not in gap.note
    (of_data,) = elegan.evaluate(data, against=data, metrics="gap").scores
    assert "players of a run" in of_data.note


def test_memorisation_shows_what_was_copied(run, data, tmp_path, monkeypatch):
    """A game that hands out its training images: scores say so, and the sheet shows each beside its twin."""
    source = open_data(data)
    codes = codec_of(source.spec["real"]).encode(torch.from_numpy(source.arrays["real"]))
    monkeypatch.setattr(CGAN, "sample", lambda self, n, *, label=None, **_: codes[torch.randint(len(codes), (n,))])
    found = elegan.evaluate(run, n=64, metrics="memorisation", out=tmp_path / "o")
    assert found["AuthPct"].value == 0
    assert found["memorisation distance"].value == pytest.approx(0, abs=1e-6)
    assert found["memorisation distance"].floor > 0.01
    assert tmp_path / "o" / "pictures" / "nearest.png" in found.files
    sheet = np.asarray(found.nearest.convert("L"))
    with Image.open(tmp_path / "o" / "pictures" / "nearest.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened.convert("L")), sheet)
        assert opened.text["elegan:subject"] == f"{run}, step 3"
    drawn = room.model_set(elegan.load(run), 64, 0).rows(0, 16)
    assert twins(sheet, drawn)


def twins(sheet: np.ndarray, drawn: np.ndarray) -> bool:
    """Whether each row of a sheet begins with a drawn image and the same image again."""
    rows, columns = 16, 6
    height, width = sheet.shape[0] // rows, sheet.shape[1] // columns
    cells = [
        [sheet[r * height : (r + 1) * height, c * width : (c + 1) * width] for c in range(columns)] for r in range(rows)
    ]
    assert len({cell.tobytes() for row in cells for cell in row[:1]}) > 5
    return all((abs(row[0].astype(int) - row[1]) <= 3).mean() > 0.85 for row in cells)


def test_nothing_is_embedded_twice(run, cache, monkeypatch):
    elegan.evaluate(run, n=48, metrics="fd", out=run.parent / "z")
    embedder = type(open_embedder("pixels", shape=(1, 8, 8)))
    seen, embed = [], embedder.embed
    monkeypatch.setattr(embedder, "embed", lambda self, x: seen.append(len(x)) or embed(self, x))
    elegan.evaluate(run, n=48, metrics="fd", out=run.parent / "z")
    assert seen == [48]


def test_every_metric_by_its_name(run, tmp_path, monkeypatch):
    monkeypatch.setattr("elegan.metrics.duality_gap.duality_gap.__kwdefaults__", {"moves": 2, "seed": 0})
    every = [name for name, metric in METRICS.items() if not getattr(metric, "paired", False)]
    scores = elegan.evaluate(run, n=40, metrics="all", out=tmp_path).scores
    null = {s.metric for s in scores if s.value is None}
    assert null == {"fd-infinity", "kid-subsets", "is", "is-splits", "modes", "stacked-modes"}
    assert all(s.note for s in scores if s.value is None)
    assert len(scores) >= len(every)
    for line in (tmp_path / "scores.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))
    again = json.loads((tmp_path / "scores.jsonl").read_text().splitlines()[0])
    assert again["step"] == 3
    assert again["subject"] == f"{run}, step 3"


# ---- while it trains


@pytest.mark.parametrize("game", ["cgan", "dcgan"])
def test_scoring_does_not_touch_the_training(tmp_path, data, game, monkeypatch):
    """Every step scored; weights, averages, moments and terms as without, to the bit."""
    monkeypatch.setattr("elegan.scoring.best.FIRST_SECONDS", -1.0)
    monkeypatch.setattr("elegan.scoring.best.SHARE", 1e9)
    terms: dict[int, list] = {0: [], 32: []}
    weights = {}
    for score, told in terms.items():

        def listen(event: Event, told: list = told) -> None:
            told.append((event.step, dict(event.terms)))

        model = elegan.train(
            game, data, out=tmp_path / str(score), steps=5, score=score, listeners=[listen], **SETTINGS
        )
        newest = max((model.run.path / "checkpoints").glob("step-*"))
        weights[score] = [path.read_bytes() for path in sorted(newest.glob("*.safetensors"))]
    assert terms[0] == terms[32]
    assert weights[0] == weights[32]
    steps = [json.loads(line)["step"] for line in (tmp_path / "32" / "scores.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5]
