"""Scores of what went wrong: too few samples, broken games and networks, damaged files, full disks, misspelt names."""

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import elegan
from elegan.disk import write_whole
from elegan.embedders.contract import Embedded
from elegan.errors import CheckpointError, DataError, ElegantError, OptionError, ResourceError
from elegan.metrics.evaluation import measure
from elegan.metrics.features import features_of, of_arrays, read_statistics, save_statistics
from elegan.metrics.protocol import Score
from elegan.run import checkpoint
from elegan.run.directory import BEST, RunDirectory
from elegan.scoring import best as best_room
from elegan.scoring.compare import compare
from elegan.scoring.evaluate import read
from elegan.zoo.dcgan import DCGAN
from tests.conftest import TINY

SETTINGS = dict(preset="tiny", batch=8, threads=1, precision="fp32")
RNG = np.random.default_rng(5)
EVERY = (
    "fd", "fd-infinity", "kid", "kid-subsets", "is", "is-splits", "precision-recall", "sliced-wasserstein", "mind",
    "mmd", "memorisation", "diversity", "two-sample",
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def only_what_is_always_there():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elegan.embedders.weights.packaged", lambda *_: None)
        yield


@pytest.fixture
def always(monkeypatch):
    """Every step is scored."""
    monkeypatch.setattr(best_room, "FIRST_SECONDS", -1.0)
    monkeypatch.setattr(best_room, "SHARE", 1e9)


class Net:
    name, sha256, features, about = "net", "", 2, "as they are"

    def __init__(self, make=lambda x: x):
        self.make = make

    def embed(self, images: np.ndarray) -> Embedded:
        x = self.make(images.reshape(len(images), -1).astype(np.float32))
        sure = np.clip(x[:, :1], 0, 1)
        return Embedded(x, np.concatenate([sure, 1 - sure], 1))


def values(scores: list[Score]) -> dict[str, float | None]:
    for score in scores:
        assert score.value is None or np.isfinite(score.value)
        assert score.value is not None or score.note
        assert "\n" not in score.note
    return {score.metric: score.value for score in scores}


# ---- too little, too much alike, not finite


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_of_a_few_samples_there_is_a_value_or_a_reason(count):
    train, real = (of_arrays(str(k), RNG.normal(size=(40, 2)).astype(np.float32)) for k in range(2))
    few = of_arrays("few", RNG.normal(size=(count, 2)).astype(np.float32))
    found = values(measure(EVERY, "x", few, real, Net(), train=train))
    assert found["sliced W2"] is not None
    assert (found.get("FD") is None) == (count < 2)
    if count == 2:
        (fd, *_) = measure(["fd"], "x", few, real, Net())
        assert "biased upwards: 2 samples for 2 features" in fd.note
    turned = values(measure(EVERY, "x", real, few, Net()))
    assert (turned.get("FD") is None) == (count < 2)


def test_of_samples_all_alike_there_is_a_value_or_a_reason():
    flat, real = of_arrays("flat", np.full((30, 2), 0.5, np.float32)), of_arrays("r", RNG.random((40, 2), np.float32))
    for pair in ((flat, real), (real, flat), (flat, flat)):
        found = values(measure(EVERY, "x", *pair, Net(), train=pair[1]))
        assert found["FD"] is not None
        assert (found["FD"] == 0) == (pair[0] is pair[1])
    assert -0.0 not in [v for v in found.values() if v == 0 and np.signbit(v)]


def test_features_that_are_not_finite_are_no_scores():
    one, two = (of_arrays(str(k), RNG.normal(size=(30, 2)).astype(np.float32)) for k in range(2))
    broken = Net(lambda x: np.where(x > 1, np.nan, x))
    found = measure(["fd", "kid", "precision-recall"], "x", one, two, broken)
    assert all(score.value is None for score in found)
    assert all("finite" in score.note for score in found)
    for score in found:
        json.dumps(score.to_json(), allow_nan=False)


def test_one_metric_that_breaks_costs_no_other(monkeypatch):
    from elegan.metrics import catalogue

    for error in (OptionError("one"), DataError("two"), ZeroDivisionError("three"), np.linalg.LinAlgError("four")):

        def breaks(compared, error=error):
            raise error

        monkeypatch.setitem(catalogue.METRICS, "kid", catalogue.Metric(breaks, "broken"))
        one, two = (of_arrays(str(k), RNG.normal(size=(30, 2)).astype(np.float32)) for k in range(2))
        fd, kid = measure(["fd", "kid"], "x", one, two, Net())
        assert fd.value is not None
        assert (kid.value, kid.note) == (None, str(error))


def test_a_game_that_draws_nonsense_is_said_in_one_line(tiny_run, cli, monkeypatch):
    monkeypatch.setattr(DCGAN, "sample", lambda self, n, **_: torch.full((n, 1, 8, 8), torch.nan))
    said = cli("evaluate", tiny_run, "-n", 40)
    assert said.code == 3
    assert said.line == f"{tiny_run}, step 4 draws values that are not finite: there is nothing to score."
    assert not (tiny_run / "scores.jsonl").exists()


# ---- what cannot be compared


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name, shape in {"grey": (20, 8, 8), "large": (20, 9, 9), "colour": (20, 3, 8, 8)}.items():
        np.savez(folder / f"{name}.npz", real=RNG.integers(0, 255, shape, dtype=np.uint8))
    np.savez(folder / "pair.npz", **{side: RNG.integers(0, 255, (20, 8, 8), dtype=np.uint8) for side in "ab"})
    np.savez(folder / "two.npz", real=RNG.normal(size=(20, 2)).astype(np.float32))
    np.savez(folder / "three.npz", real=RNG.normal(size=(20, 3)).astype(np.float32))
    np.savez(folder / "statistics.npz", mu=np.zeros(64), sigma=np.eye(64))
    for name in ("mu", "sigma"):
        odd = {"mu": np.zeros(64), "sigma": np.eye(64), name: np.full(64, np.nan)}
        np.savez(folder / f"odd-{name}.npz", **odd)
    (folder / "broken.safetensors").write_bytes(b"\x10" * 200)
    content = bytearray((folder / "statistics.npz").read_bytes())
    at = content.find(b"sigma.npy") + 4_000
    content[at : at + 100] = bytes(255 - b for b in content[at : at + 100])
    (folder / "bits.npz").write_bytes(content)
    return folder


CASES = [
    (["large.npz", "--against", "grey.npz"], 3, ["large.npz (train)", "(1, 9, 9)", "grey.npz", "(1, 8, 8)", "--size"]),
    (["colour.npz", "--against", "grey.npz"], 3, ["(3, 8, 8)", "(1, 8, 8)", "one shape"]),
    (["two.npz", "--against", "three.npz"], 3, ["(2,)", "(3,)", "give both one shape"]),
    (["two.npz", "--against", "grey.npz"], 3, ["(2,)", "(1, 8, 8)"]),
    (["pair.npz", "--against", "grey.npz"], 3, ["pair.npz", "fields a, b", "one side"]),
    (["grey.npz", "--against", "pair.npz"], 3, ["pair.npz", "fields a, b"]),
    (["grey.npz", "--against", "statistics.npz"], 2, ["statistics.npz", "does not say which network", "--embedder"]),
    (["grey.npz", "--against", "odd-mu.npz", "--embedder", "pixels"], 4, ["odd-mu.npz", "not all finite"]),
    (["grey.npz", "--against", "odd-sigma.npz", "--embedder", "pixels"], 4, ["odd-sigma.npz"]),
    (["grey.npz", "--against", "bits.npz", "--embedder", "pixels"], 4, ["bits.npz holds no statistics"]),
    (["broken.safetensors", "--against", "grey.npz"], 4, ["broken.safetensors holds no statistics", "--save"]),
    (["two.npz", "--against", "statistics.npz", "--embedder", "values"], 3, ["2 features", "64"]),
    (["grey.npz", "--against", "gray.npz"], 3, ["no data named"]),
    (["grey.npz", "--against", "rnig"], 3, ["no data named 'rnig'", "Did you mean 'ring'?"]),
    (["grey.npz"], 2, ["is no run", "--against"]),
    (["no-such"], 2, ["'no-such' is no run", "--against"]),
    (["x" * 300], 2, ["is no run"]),
    (["grey.npz", "--against", "grey.npz", "--metrics", "kidd"], 2, ["no metric 'kidd'", "Did you mean 'kid'?"]),
    (["grey.npz", "--against", "grey.npz", "--metrics", ","], 2, ["--metrics names none"]),
    (
        ["grey.npz", "--against", "grey.npz", "--embedder", "pixel"],
        2,
        ["no embedder 'pixel'", "Did you mean 'pixels'?"],
    ),
    (["large.npz", "--against", "grey.npz", "--embedder", "pixel"], 2, ["no embedder 'pixel'"]),
    (["grey.npz", "--against", "grey.npz", "--embedder", "digits-cnn"], 2, ["digits-cnn measures 28x28"]),
    (["grey.npz", "--against", "grey.npz", "--embedder", "inception"], 2, ["inception:/path"]),
    (["grey.npz", "--against", "grey.npz", "--embedder", "inception:none.pth"], 4, ["none.pth"]),
    (["grey.npz", "--against", "grey.npz", "--embedder", "vgg16"], 4, ["vgg16"]),
    (["grey.npz", "--against", "grey.npz", "--split", "tset"], 2, ["--split 'tset'", "train"]),
    (["grey.npz", "--against", "grey.npz", "--split", "test"], 3, ["no test split"]),
    (["grey.npz", "--against", "grey.npz", "-n", "0"], 2, ["-n 0"]),
    (["grey.npz", "--save", "s.npz"], 2, ["--save 's.npz'", ".safetensors"]),
    (["grey.npz", "--against", "grey.npz", "--style", "two"], 2, ["--style is for --people"]),
    (["grey.npz", "--against", "grey.npz", "--port", "80"], 2, ["--port is for --people"]),
    (["grey.npz", "--against", "grey.npz", "--people"], 2, ["--out"]),
    (["grey.npz", "--against", "grey.npz", "--people", "--metrics", "fd"], 2, ["--metrics is not for --people"]),
    (["grey.npz", "--against", "grey.npz", "--people", "-n", "9"], 2, ["-n is not for --people"]),
    (["grey.npz", "--against", "grey.npz", "--people", "--style", "three"], 2, ["--style 'three'"]),
    (["grey.npz", "--against", "grey.npz", "--people", "--questions", "0"], 2, ["--questions 0"]),
    (["two.npz", "--against", "two.npz", "--people", "--out", "o"], 3, ["people judge pictures"]),
    (["statistics.npz", "--against", "grey.npz", "--people", "--out", "o"], 3, ["people judge pictures"]),
    (["grey.npz", "--against", "grey.npz", "more"], 2, ["one argument too many"]),
    ([], 2, ["WHAT"]),
]


@pytest.mark.parametrize(
    ("tokens", "code", "words"),
    CASES,
    ids=lambda value: " ".join(map(str, value))[:60] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(cli, files, monkeypatch, tokens, code, words):
    for path in files.iterdir():
        Path(path.name).symlink_to(path)
    before = {path.name for path in Path().iterdir()}
    said = cli("evaluate", *tokens)
    assert said.code == code, said
    for word in words:
        assert word in said.line
    assert said.out == ""
    assert {path.name for path in Path().iterdir()} == before, "nothing is left on the disk"


def test_runs_that_cannot_be_scored(cli, tiny_run, files):
    assert "neither newest nor best" in cli("evaluate", tiny_run, "--checkpoint", "bset").line
    said = cli("evaluate", tiny_run, "--checkpoint", "best")
    assert (said.code, "--score 2000" in said.line) == (4, True)
    assert cli("sample", tiny_run, "--checkpoint", "best").code == 4
    assert cli("train", "cyclegan", files / "pair.npz", *TINY, "--steps", "1", "--out", "pair").code == 0
    said = cli("evaluate", "pair")
    assert (said.code, said.line) == (
        2, "cyclegan draws no samples from noise: score a folder of its results --against DATA.",
    )  # fmt: skip
    said = cli("train", "cyclegan", files / "pair.npz", "--score", 100, "--out", "other")
    assert said.code == 2
    assert "--score is for games that draw samples" in said.line
    for wrong in ("1", "-5"):
        assert "--score" in cli("train", "dcgan", files / "grey.npz", "--score", wrong).line
    assert not Path("other").exists()


@pytest.mark.parametrize("what", [[1, 2], {"a": 1}, None, 7, torch.zeros(3)])
def test_objects_that_are_no_data(what):
    with pytest.raises(OptionError, match=f"an object of type {type(what).__name__}"):
        elegan.evaluate(what, against="ring")
    if what is not None:
        with pytest.raises(OptionError, match="cannot be scored"):
            elegan.evaluate(np.zeros((4, 2)), against=what)


# ---- the disk


def test_a_place_that_cannot_be_written(cli, tiny_run, files):
    Path("file").write_text("")
    for flag in (["--out", "file"], ["--out", "file/below"], ["--save", "file/x.safetensors"]):
        said = cli("evaluate", tiny_run, "-n", 40, "--metrics", "fd", *flag)
        assert (said.code, said.out) == (6, "")
        assert f"choose another {flag[0]}" in said.line
    other = shutil.copytree(tiny_run, "other")
    said = cli("compare", tiny_run, other, "--out", "file/page.html")
    assert said.code == 6
    assert "choose another --out" in said.line
    for out in (".", "", "page", "page.txt"):
        assert cli("compare", tiny_run, other, "--out", out).code == 2


def test_a_write_that_fails_leaves_what_was(tmp_path, monkeypatch):
    path = tmp_path / "s.safetensors"
    write_whole(path, b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_statistics_that_lie_about_themselves(tmp_path):
    from safetensors.numpy import save_file

    good = {"name": "x", "count": 9, "embedder": "e", "weights": "", "input": "", "fingerprint": ""}
    arrays = {"mean": np.zeros(3), "covariance": np.eye(3)}
    path = tmp_path / "s.safetensors"
    save_file(arrays, path, {"about": json.dumps(good)})
    assert read_statistics(path).embedder == "e"
    lies = [{**good, "embedder": 5}, {**good, "count": "9"}, {**good, "count": 1}, {"count": 9}, 7, [], {}]
    for about in ("", *map(json.dumps, lies)):
        save_file(arrays, path, {"about": about})
        with pytest.raises(CheckpointError, match="holds no statistics"):
            read_statistics(path)
    for odd in ({"mean": np.zeros(3)}, {"mean": np.zeros(2), "covariance": np.eye(3)},
                {"mean": np.zeros(3), "covariance": np.triu(np.ones((3, 3)))}):  # fmt: skip
        save_file(odd, path, {"about": json.dumps(good)})
        with pytest.raises(CheckpointError, match="holds no statistics"):
            read_statistics(path)


# ---- a log of scores that something happened to


def test_torn_and_foreign_lines_are_passed_over(tiny_run, cli):
    assert cli("evaluate", tiny_run, "-n", 40, "--metrics", "fd").code == 0
    log = tiny_run / "scores.jsonl"
    line = log.read_text()
    good = json.loads(line)
    odd = [
        "{", "7", "null", "[]", '"x"', '{"protocol": 7}', '{"protocol": []}', '{"protocol": {}}', "\x00\ufffd",
        "[" * 9_000,
        *(json.dumps({**good, **change}) for change in (
            {"value": "7"}, {"value": float("nan")}, {"floor": float("inf")}, {"better": "sideways"}, {"metric": 5},
            {"value": True}, {"low": []}, {"protocol": {**good["protocol"], "count": "40"}}, {"note": None},
            {"protocol": {**good["protocol"], "versions": 3}}, {"subject": None},
        )),
    ]  # fmt: skip
    newer = {**good, "value": 99.0, "something": "new", "protocol": {**good["protocol"], "more": 1}}
    log.write_text("\n".join([line.rstrip(), json.dumps(newer), *odd[::-1], '{"subject": "x", "metr']))
    (score,) = read(tiny_run)
    assert score.value == 99.0, "the latest counts, also if a newer version wrote it"
    assert cli("evaluate", tiny_run, "-n", 41, "--metrics", "fd").code == 0
    assert [s.protocol.count for s in read(tiny_run)] == [40, 41], "what follows a torn line is not lost with it"
    assert not re.search(">-?(nan|inf)<", (tiny_run / "index.html").read_text())
    log.write_bytes(b"\xff\xfe" + log.read_bytes())
    assert len(read(tiny_run)) == 2
    other = shutil.copytree(tiny_run, tiny_run.parent / "other")
    said = cli("compare", tiny_run, other)
    assert said.code == 0
    assert "99" in said.out
    assert "nan" not in Path("compare.html").read_text().lower().split("<script>")[0]


def test_lines_of_unusual_names_are_one_line(tiny_run, cli):
    """U+2028 and the like end a line for some, and not in JSON."""
    odd = tiny_run.rename(tiny_run.parent / "odd\u2028\x85name")
    assert cli("evaluate", odd, "-n", 40, "--metrics", "fd").code == 0
    assert [score.subject for score in read(odd)] == [f"{odd}, step 4"]


# ---- the best checkpoint


@pytest.fixture
def scored(always, tmp_path, small) -> Path:
    run = tmp_path / "scored"
    elegan.train("dcgan", small, out=run, steps=3, score=32, **SETTINGS)
    return run


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"step": "x"}', b'{"step": Infinity}', b'{"step": null}', b"\xff"]
)
def test_a_damaged_best_is_one_line_and_ends_no_training(scored, cli, content):
    (scored / BEST).write_bytes(content)
    for verb in (["sample", scored, "-n", 1], ["evaluate", scored, "-n", 40]):
        said = cli(*verb, "--checkpoint", "best")
        assert said.code == 4
        assert f"{scored / BEST} is damaged" in said.line
    elegan.resume(scored, steps=5)
    assert json.loads((scored / BEST).read_text())["step"] in (4, 5), "and there is one again"


@pytest.mark.parametrize("step", [-5, 77, 10**9])
def test_a_best_that_is_gone_is_one_line(scored, cli, step):
    (scored / BEST).write_text(json.dumps({"step": step}))
    said = cli("sample", scored, "-n", 1, "--checkpoint", "best")
    assert said.code == 4
    assert "cannot be read" in said.line


def test_a_reference_that_cannot_be_scored_is_said_once(always, tmp_path, small, monkeypatch):
    def refused(*_, **__):
        raise CheckpointError("its weights are gone.")

    monkeypatch.setattr(best_room, "embedder_for", refused)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = elegan.train("dcgan", small, out=tmp_path / "r", steps=4, score=32, **SETTINGS)
    assert model.step == 4
    (said,) = [str(w.message) for w in caught if w.category is UserWarning]
    assert "its weights are gone" in said
    assert "training goes on" in said
    assert not (tmp_path / "r" / "scores.jsonl").exists()


def test_samples_that_cannot_be_scored_are_said_once(always, tmp_path, small, monkeypatch):
    real = best_room.game_set

    def broken(*given):
        made = real(*given)
        return of_arrays(made.name, np.full((32, 1, 8, 9), 3, np.uint8))

    monkeypatch.setattr(best_room, "game_set", broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = elegan.train("dcgan", small, out=tmp_path / "r", steps=4, score=32, **SETTINGS)
    (said,) = [str(w.message) for w in caught if w.category is UserWarning]
    assert said.startswith("step 1 has no score (")
    assert model.step == 4
    with pytest.raises(CheckpointError, match="has kept no best"):
        elegan.load(model.run.path, checkpoint="best")


def test_a_best_of_other_features_or_counts_is_no_measure(scored):
    kept = json.loads((scored / BEST).read_text())
    for change in ({"weights": "other"}, {"label": "FD[other]"}, {"count": 31}, {"value": float("nan")}):
        record = {**kept, "value": -1.0, **change}
        (scored / BEST).write_text(json.dumps(record))
        steps = json.loads((scored / "options.json").read_text())["training"]["steps"] + 1
        elegan.resume(scored, steps=steps)
        assert json.loads((scored / BEST).read_text())["step"] == steps, change
    (scored / BEST).write_text(json.dumps({**kept, "value": -1.0}))
    elegan.resume(scored, steps=steps + 1)
    assert json.loads((scored / BEST).read_text())["step"] == kept["step"], "a better one stays"


def test_a_best_is_named_only_once_its_checkpoint_is_whole(always, tmp_path, small, monkeypatch):
    def full(*_, **__):
        raise ResourceError("no space.")

    write = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda f, step, *rest: full() if step == 2 else write(f, step, *rest))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        elegan.train("dcgan", small, out=tmp_path / "r", steps=3, score=32, **SETTINGS)
    run = RunDirectory.open(tmp_path / "r")
    assert run.best_step() != 2
    assert elegan.load(run.path, checkpoint="best").step == run.best_step()
    assert not list(run.path.glob(f".{BEST}*"))


def test_runs_that_are_none_are_not_compared(cli, tiny_run):
    assert cli("compare", tiny_run).code == 2
    assert "named twice" in cli("compare", tiny_run, f"{tiny_run}/").line
    assert "named twice" in cli("compare", tiny_run, tiny_run / ".." / "tiny").line
    assert cli("compare", tiny_run, "no-such").code == 4
    assert cli("compare").code == 2
    assert not Path("compare.html").exists()
    with pytest.raises(ElegantError):
        compare(tiny_run, tiny_run)


def test_there_are_no_statistics_of_nonsense(tmp_path):
    nonsense = features_of(of_arrays("x", np.full((9, 2), np.nan, np.float32)), Net())
    with pytest.raises(ValueError, match="finite"):
        save_statistics(tmp_path / "s.safetensors", nonsense)
    assert list(tmp_path.iterdir()) == []
