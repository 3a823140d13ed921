"""Bad input on the command line: one line that names what, where and the nearest; the exit code of the house; nothing
left on the disk. FAULTS 17, 20, 21.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import elegan
from elegan.errors import OptionError
from tests.conftest import TINY, everything

# ---- training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty").mkdir()
    (folder / "text.txt").write_text("hello")
    (folder / "text.png").write_text("hello")
    (folder / "broken.npz").write_bytes(b"PK\3\4 no zip")
    images = np.zeros((5, 8, 8), np.uint8)
    np.savez(folder / "five.npz", real=images)
    np.savez(folder / "gap.npz", real=images, label=np.array([0, 1, 3, 3, 3]))
    np.savez(folder / "below.npz", real=images, label=np.array([-1, 0, 1, 1, 1]))
    np.savez(folder / "short.npz", real=images, label=np.array([0, 1]))
    np.savez(folder / "nan.npz", real=np.full((5, 2), np.nan, np.float32))
    np.savez(folder / "none.npz", real=np.zeros((0, 8, 8), np.uint8))
    np.savez(folder / "odd.npz", a=np.zeros((70, 8, 8), np.uint8), b=np.zeros((70, 6, 6), np.uint8))
    return folder


NAMES = [
    (["trian", "dcgan"], 2, ["no verb 'trian'", "Did you mean 'train'?"]),
    (["frobnicate"], 2, ["no verb 'frobnicate'", "There is: apply"]),
    (["--frob"], 2, ["no verb '--frob'"]),
    (["train", "dcgn"], 2, ["no game named 'dcgn'", "Did you mean 'dcgan'?"]),
    (["train", "wgan_gp"], 2, ["no game named 'wgan_gp'", "Did you mean 'wgan-gp'?"]),
    (["train", "DCGAN"], 2, ["no game named 'DCGAN'"]),
    (["train", "dcgan", "--widht", "8"], 2, ["no option --widht", "Did you mean '--width'?"]),
    (["train", "dcgan", "--n-critic", "8"], 2, ["no option --n-critic"]),
    (["train", "--sped", "8"], 2, ["no option --sped", "Did you mean '--seed'?"]),
    (["train", "dcgan", "digits", "--preset", "digit"], 2, ["no preset 'digit'", "Did you mean 'digits'?"]),
    (["train", "dcgan", "digits", "--preset", "zzz"], 2, ["no preset 'zzz'", "There is: digits, fashion, none, tiny"]),
    (["train", "dcgan", "digts"], 3, ["no data named 'digts'", "Did you mean 'digits'?"]),
    (["train", "gan", "rnig"], 3, ["no data named 'rnig'", "Did you mean 'ring'?"]),
    (["train", "dcgan", "digits", "more"], 2, ["'more'", "one argument too many"]),
    (["train", "digits"], 2, ["'digits' is data, not a game", "elegan train"]),
    (["train", "ring", "gan"], 2, ["ring"]),
    (["train", "dcgan", "--loss", "hing"], 2, ["--loss", "Did you mean 'hinge'?"]),
    (["zoo", "lits"], 2, ["'lits'", "Did you mean 'list'?"]),
    (["zoo", "show", "dcgn"], 2, ["no game named 'dcgn'", "Did you mean 'dcgan'?"]),
    (["zoo", "show"], 2, ["zoo show needs a game"]),
    (["zoo"], 2, ["WHAT"]),
    (["resume"], 2, ["RUN"]),
    (["sample"], 2, ["RUN"]),
    (["apply", "x"], 2, ["INPUT"]),
    (["resume", "none-such"], 4, ["no run at none-such"]),
    (["sample", "none-such"], 4, ["no run at none-such"]),
    (["sample", "none-such", "-n", "4"], 4, ["no run at none-such"]),
    (["apply", "none-such", "digits"], 4, ["no run at none-such"]),
    (["sample", "x" * 300], 4, ["no run at xxx"]),
    (["train", "x" * 300], 2, ["no game named"]),
    (["train", "dcgan", "x" * 300], 3, ["no data named"]),
    (["train", "dcgan", "no\0thing"], 3, ["no data named"]),
    (["sample", "."], 4, ["is no run: it has no options.json"]),
]


def one_line(cli, tokens, code, words):
    said = cli(*tokens)
    assert said.code == code, said
    for word in words:
        assert word in said.line
    assert said.out == ""
    assert list(Path().iterdir()) == [], "nothing is left on the disk"


@pytest.mark.parametrize(("tokens", "code", "words"), NAMES, ids=lambda value: str(value)[:40])
def test_names(cli, tokens, code, words):
    one_line(cli, tokens, code, words)


VALUES = [
    (["--width", "0"], ["width=0"]),
    (["--width", "-5"], ["--width", "-5"]),
    (["--width", "1.5"], ["--width", "'1.5'", "int"]),
    (["--width", "abc"], ["--width", "'abc'", "int"]),
    (["--width", ""], ["--width"]),
    (["--width"], ["--width"]),
    (["--lr", "nan"], ["--lr", "nan"]),
    (["--lr", "inf"], ["--lr", "inf"]),
    (["--lr", "-1"], ["--lr", "-1"]),
    (["--lr", "fast"], ["--lr", "'fast'", "float"]),
    (["--kernel", "3"], ["--kernel", "4|5"]),
    (["--dropout", "7"], ["dropout"]),
    (["--beta1", "2"], ["beta1"]),
    (["--batch", "0"], ["--batch 0"]),
    (["--batch", "-8"], ["--batch -8"]),
    (["--batch", "10", "--shards", "3"], ["--batch 10", "--shards 3"]),
    (["--shards", "0"], ["--shards 0"]),
    (["--steps", "0"], ["--steps 0"]),
    (["--steps", "-1"], ["--steps -1"]),
    (["--steps", "many"], ["--steps", "'many'"]),
    (["--steps", "1e3"], ["--steps", "'1e3'"]),
    (["--images", "0"], ["--images 0"]),
    (["--steps", "5", "--images", "80"], ["--steps and --images"]),
    (["--half-life-images", "-1"], ["--half-life-images -1"]),
    (["--until-still", "0"], ["--until-still 0"]),
    (["--until-still", "nan"], ["--until-still nan"]),
    (["--until-still", "-1"], ["--until-still -1"]),
    (["--threads", "0"], ["--threads 0"]),
    (["--precision", "fp8"], ["--precision 'fp8'", "auto, fp32, bf16"]),
    (["--device", "tpu"], ["--device 'tpu'"]),
    (["--size", "0"], ["--size 0"]),
    (["--size", "-3"], ["--size -3"]),
    (["--seed", "1.5"], ["--seed", "'1.5'"]),
]


@pytest.mark.parametrize(("flags", "words"), VALUES, ids=lambda value: " ".join(value))
def test_values(cli, small, flags, words):
    one_line(cli, ["train", "dcgan", small, *flags], 2, words)


GAMES = [
    (["wgan-gp", "SMALL", "--n-critic", "0"], 2, ["n_critic=0"]),
    (["gan", "SMALL", "-k", "0", "--generator-k", "0"], 2, ["k=0", "nobody would move"]),
    (["gan", "SMALL", "--widths", "8,x"], 2, ["--widths", "'8,x'"]),
    (["gan", "SMALL", "--widths", "8,-2"], 2, ["--widths", "-2"]),
    (["gan", "SMALL", "--z-dim", "0"], 2, ["z_dim=0", "must be 1 or more"]),
    (["gan", "SMALL", "--widths", "0"], 2, ["widths=(0,)", "must be 1 or more"]),
    (["gan", "SMALL", "--z-dim", "-1"], 2, ["--z-dim"]),
    (["gan", "ring", "--net", "conv"], 2, ["net conv needs images"]),
    (["r3gan", "ring", "--conditional"], 2, ["conditional needs data with labels"]),
    (["r3gan", "SMALL", "--augment", "flip,flap"], 2, ["flap"]),
    (["dcgan", "ring"], 3, ["it needs images, not vectors"]),
    (["cgan", "ring"], 3, ["it needs images with labels"]),
    (["cgan", "five.npz"], 3, ["it needs images with labels"]),
    (["cyclegan", "digits"], 3, ["it needs two fields, a and b"]),
    (["cyclegan", "odd.npz"], 3, ["both sides need one shape"]),
    (["dcgan", "odd.npz"], 3, ["it needs a field 'real'"]),
    (["dcgan", "none-such/"], 3, ["'none-such/'", "no such path"]),
    (["dcgan", "empty"], 3, ["empty"]),
    (["dcgan", "text.txt"], 3, ["dcgan cannot take this data: it needs images, not tokens"]),
    (["dcgan", "text.png"], 3, ["text.png"]),
    (["dcgan", "broken.npz"], 3, ["broken.npz"]),
    (["dcgan", "none.npz"], 3, ["none.npz"]),
    (["dcgan", "five.npz", "--batch", "8"], 3, ["five.npz", "5 samples", "fewer than one batch of 8", "--batch 4"]),
    (["dcgan", "gap.npz"], 3, ["gap.npz", "label 2"]),
    (["dcgan", "below.npz"], 3, ["below.npz", "-1"]),
    (["dcgan", "short.npz"], 3, ["short.npz", "5 rows", "2"]),
    (["gan", "nan.npz"], 3, ["nan.npz"]),
    (["gan", "ring", "--size", "8"], 3, ["no images to resize"]),
]


@pytest.mark.parametrize(
    ("tokens", "code", "words"), GAMES, ids=lambda value: " ".join(value) if type(value) is list else ""
)
def test_games_and_data_that_do_not_fit(cli, small, data, tokens, code, words):
    name = tokens[1]
    path = small if name == "SMALL" else data / name if (data / name).exists() else name
    one_line(cli, ["train", tokens[0], path, *tokens[2:]], code, words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
def test_a_device_that_is_not_there_is_a_lack(cli, small):
    one_line(cli, ["train", "dcgan", small, "--device", "cuda"], 6, ["0 CUDA devices", "use cpu"])


def test_data_where_the_game_should_stand(cli, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("L", (8, 8)).save(folder / "a.png")
    one_line(cli, ["train", folder], 2, [f"'{folder}' is data, not a game", "elegan train"])


def test_a_large_image_needs_no_traceback_when_it_does_not_fit_in_memory(cli, small, monkeypatch):
    def build(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(elegan.zoo, "build", build)
    one_line(cli, ["train", "dcgan", small], 6, ["out of memory", "--batch"])


# ---- sampling and applying


SAMPLES = [
    (["-n", "0"], 2, ["-n 0"]),
    (["-n", "-3"], 2, ["-n", "-3"]),
    (["-n", "x"], 2, ["-n", "'x'"]),
    (["--truncation", "0"], 2, ["--truncation 0"]),
    (["--truncation", "-1"], 2, ["--truncation -1"]),
    (["--truncation", "nan"], 2, ["--truncation nan"]),
    (["--truncation", "x"], 2, ["--truncation", "'x'"]),
    (["--label", "3"], 2, ["no option --label"]),
    (["--tunation", "3"], 2, ["no option --tunation", "Did you mean '--truncation'?"]),
    (["--seed", "x"], 2, ["--seed"]),
    (["--out", "FULL"], 7, ["is not empty", "--out"]),
    (["--out", "FULL/file/below"], 6, ["--out"]),
]


@pytest.mark.parametrize(("flags", "code", "words"), SAMPLES, ids=lambda value: str(value))
def test_samples(cli, tiny_run, tmp_path, flags, code, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    flags = [flag.replace("FULL", str(tmp_path / "full")) for flag in flags]
    before = everything(tiny_run)
    one_line(cli, ["sample", tiny_run, *flags], code, words)
    assert everything(tiny_run) == before
    assert everything(tmp_path / "full") == {"file": b""}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, small):
    return elegan.train("cgan", small, out=tmp_path_factory.mktemp("cgan") / "run", preset="tiny", steps=2, batch=8,
                        threads=1, precision="fp32")  # fmt: skip


@pytest.mark.parametrize("label", ["4", "99", "-1"])
def test_a_label_that_is_no_class(cli, labelled, label):
    one_line(cli, ["sample", labelled.run.path, "--label", label], 2, [f"--label {label}", "there are 4"])
    one_line(cli, ["sample", labelled.run.path, "--label", "two"], 2, ["--label", "'two'"])


@pytest.mark.parametrize(
    ("labels", "words"),
    [([0, 1, 99], "99"), ([0, -1, 1], "-1"), ([0, 1], "2 labels"), ([], "0 labels"), (["1", "1", "1"], "'1'"),
     (True, "True"), (1.5, "1.5")],
)  # fmt: skip
def test_labels_in_python_are_checked_too(labelled, labels, words):
    with pytest.raises(OptionError, match="label") as caught:
        labelled.sample(3, label=labels)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_asks_that_are_not_the_games_task(cli, tiny_run, small, tmp_path):
    one_line(cli, ["apply", tiny_run, small], 2, ["dcgan does not translate", "generation"])
    rng = np.random.default_rng(0)
    pair = {side: rng.integers(0, 255, (16, 8, 8), dtype=np.uint8) for side in "ab"}
    np.savez(tmp_path / "pair.npz", **pair)
    np.savez(tmp_path / "wide.npz", real=np.zeros((4, 8, 12), np.uint8))
    run = tmp_path / "cyclegan"
    assert cli("train", "cyclegan", tmp_path / "pair.npz", *TINY, "--steps", 1, "--out", run).code == 0
    one_line(cli, ["sample", run], 2, ["cyclegan draws no samples", "translation"])
    one_line(cli, ["apply", run, small, "--direction", "ac"], 2, ["--direction 'ac'", "ab, ba"])
    one_line(cli, ["apply", run, tmp_path / "wide.npz"], 3, ["wide.npz", "(1, 8, 12)", "(1, 8, 8)"])
    one_line(cli, ["apply", run, tmp_path / "pair.npz"], 3, ["pair.npz", "one side"])
    one_line(cli, ["apply", run, "none-such.png"], 3, ["none-such.png"])
    one_line(cli, ["apply", run, "ring"], 3, ["ring"])


def test_a_traceback_is_shown_to_who_asks_for_it(cli, monkeypatch):
    monkeypatch.setenv("ELEGAN_DEBUG", "1")
    said = cli("train", "dcgn")
    assert said.code == 2
    assert said.err.startswith("Traceback (most recent call last):")
    assert said.err.splitlines()[-1].startswith("elegan: no game named 'dcgn'.")


def test_python_says_the_same(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for error, words, call in [
        (OptionError, "dcgan has no option 'widht'. Did you mean 'width'", dict(widht=3)),
        (OptionError, "--width '5' is not a value of type int", dict(width="5")),
        (OptionError, "--width True is not", dict(width=True)),
        (OptionError, "--lr nan is not", dict(lr=float("nan"))),
        (OptionError, "--steps '5'", dict(steps="5")),
        (OptionError, "--steps 2.5", dict(steps=2.5)),
        (OptionError, "--batch True", dict(batch=True)),
        (OptionError, "--seed 'x'", dict(seed="x")),
    ]:
        with pytest.raises(error) as caught:
            elegan.train("dcgan", small, **call)
        assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []
