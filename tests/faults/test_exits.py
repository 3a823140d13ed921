"""Every verb with every kind of wrong word, and errors nobody foresaw: one line, and a known exit code. FAULTS 21."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import elegan
from elegan import api
from elegan.model import Model
from elegan.run import checkpoint, events, saving
from elegan.zoo.dcgan import DCGAN
from tests.conftest import TINY
from tests.faults.forked import SECONDS, at_most, one_line

CODES = {2, 3, 4, 5, 6, 7}


@pytest.fixture(scope="module")
def there(tmp_path_factory, small, _tiny_run) -> dict[str, Path]:
    """What words may name: runs of three kinds, and things that are none."""
    folder = tmp_path_factory.mktemp("there")
    settings = dict(preset="tiny", steps=1, batch=8, threads=1, precision="fp32")
    rng = np.random.default_rng(0)
    np.savez(folder / "pair.npz", **{side: rng.integers(0, 255, (16, 8, 8), dtype=np.uint8) for side in "ab"})
    elegan.train("gan", "ring", out=folder / "points", **settings)
    elegan.train("cyclegan", folder / "pair.npz", out=folder / "sides", **settings)
    shutil.copytree(_tiny_run, folder / "run")
    (folder / "photos").mkdir()
    for k in range(12):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / "photos" / f"{k}.png")
    (folder / "file").write_text("")
    (folder / "binary").write_bytes(bytes(range(256)))
    return {path.stem.upper(): path for path in folder.iterdir()} | {"SMALL": small}


WORDS = [
    "", "none-such", "FILE", "BINARY", "EMPTY", "PHOTOS", "/dev/zero", "-1", "nan", "9" * 400, "caf\udce9",
    "\x1b[2Ja\nb", "~nobody-at-all/x", "--",
]  # fmt: skip
COMMANDS = [line.strip() for line in """
    @
    train @
    train dcgan @ TINY
    train cyclegan @ TINY
    train dcgan SMALL --preset @ --batch 8 --steps 1
    train dcgan SMALL TINY --out @
    train dcgan SMALL TINY --track @
    train dcgan SMALL TINY --size @
    train dcgan SMALL TINY --without @
    train dcgan SMALL TINY --holdout @
    train dcgan SMALL TINY --device @
    train dcgan SMALL TINY --loss @
    train dcgan SMALL TINY --images @
    train dcgan SMALL TINY --keep @
    resume @
    resume RUN --track @
    sample @
    sample RUN -n @
    sample RUN --checkpoint @
    sample RUN --truncation @
    sample RUN -n 1 --out @
    sample RUN -n 1 --label @
    evaluate @
    evaluate @ --against SMALL --metrics kid --embedder pixels
    evaluate RUN -n 8 --metrics @
    evaluate RUN -n 8 --metrics kid --embedder @
    evaluate RUN -n 8 --metrics kid --embedder pixels --against @
    evaluate RUN -n 8 --metrics kid --embedder pixels --out @
    evaluate RUN -n 8 --metrics kid --embedder pixels --save @
    evaluate RUN -n 8 --metrics kid --embedder pixels --split @
    evaluate RUN -n 8 --metrics kid --embedder pixels --checkpoint @
    evaluate RUN --people --style @
    evaluate RUN --people --questions @
    compare @
    compare RUN @
    compare RUN POINTS --out @
    apply @ PHOTOS
    apply SIDES @
    apply SIDES PHOTOS --direction @
    apply SIDES PHOTOS --out @
    edit @
    edit interpolate @
    edit interpolate RUN --rows @
    edit interpolate RUN --steps @
    edit interpolate RUN --label @
    edit interpolate RUN --rows 1 --steps 2 --out @
    edit interpolate SIDES --seed @
    convert @
    convert BINARY --layout @
    data @
    data list @
    data fetch @
    data inspect @
    data inspect PHOTOS --out @
    data inspect PHOTOS --size @
    data clean @
    data clean PHOTOS --out @
    data clean PHOTOS --rules @
    data clean PHOTOS --restore @
    data clean PHOTOS --out @ --move moved
    data prepare @ store
    data prepare PHOTOS @
    data augment @
    data augment PHOTOS --augment @
    data augment PHOTOS --strength @
    data augment PHOTOS --out @
    zoo @
    zoo show @
    zoo list @
    doctor @
""".strip().splitlines()]  # fmt: skip
SHORT = (*TINY, "--steps", "1")
LONG = {"doctor --", "train --"}  # what is right, and takes its time


@pytest.mark.parametrize("line", COMMANDS)
def test_every_wrong_word_is_one_line_and_a_known_code(cli, there, tmp_path, line):
    failures = 0
    for k, word in enumerate(WORDS):
        places = {**there, "EMPTY": tmp_path / f"empty-{k}"}
        places["EMPTY"].mkdir()
        tokens = [word if token == "@" else token for token in line.replace("TINY", " ".join(SHORT)).split()]
        tokens = [str(places.get(token, token)) for token in tokens]
        if " ".join(tokens) in LONG:
            continue
        before = sorted(Path().rglob("*"))
        with at_most(SECONDS):
            said = cli(*tokens)
        if said.code == 0:
            assert "elegan: " not in said.err.replace("elegan: warning: ", ""), (tokens, said)
        elif tokens[:2] == ["data", "inspect"] and said.out:
            assert said.code in (1, 3), (tokens, said)  # how bad what it found is
        else:
            failures += 1
            assert said.code in CODES, (tokens, said)
            one_line(said, tokens)
            if said.code != 6:
                assert sorted(Path().rglob("*")) == before, (tokens, "nothing is left behind")
    assert failures, "none of these was wrong"


# ---- errors that nobody foresaw


@pytest.mark.parametrize(
    ("error", "words"),
    [(ValueError("mine\nand more"), "ValueError: mine"), (KeyError("x"), "KeyError: 'x'"),
     (AssertionError(), "AssertionError"), (RecursionError("too deep"), "RecursionError: too deep"),
     (ImportError("x" * 9_999), f"ImportError: {'x' * 500}")],
)  # fmt: skip
def test_an_unforeseen_error_is_one_line_too_and_loses_nothing(cli, small, monkeypatch, error, words):
    honest = DCGAN.g_loss

    def g_loss(self, real):
        if self.step == 3:
            raise error
        return honest(self, real)

    with monkeypatch.context() as patch:
        patch.setattr(DCGAN, "g_loss", g_loss)
        patch.setattr(saving, "LEAST_SECONDS", 0.0)
        patch.setattr(saving, "SAVES_COST", 0)
        said = cli("train", "dcgan", small, *TINY, "--steps", 6, "--out", "run")
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert said.err.startswith(f"elegan: {words} (unforeseen; ELEGAN_DEBUG=1 shows where).")
    assert list(events.read(Path("run/events.jsonl")))[-1]["by"] == type(error).__name__
    assert checkpoint.newest(Path("run/checkpoints")).step == 3
    assert cli("resume", "run").code == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [({"augment": "light"}, "augment"), ({"lr": "fast"}, "--lr 'fast'"), ({"lr": float("nan")}, "--lr nan")],
)
def test_a_change_that_no_training_can_make_is_one_line(cli, small, monkeypatch, change, words):
    honest = api.fit
    monkeypatch.setattr("elegan.api.fit", lambda *a: honest(*a[:5], [lambda event: change], *a[6:]))
    said = cli("train", "dcgan", small, *TINY, "--steps", 3, "--out", "run")
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert words in said.err


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)])
def test_tracebacks_are_for_those_who_ask(cli, monkeypatch, value, shown):
    monkeypatch.delenv("ELEGAN_DEBUG", raising=False)
    if value is not None:
        monkeypatch.setenv("ELEGAN_DEBUG", value)
    said = cli("sample", "none-such")
    assert said.code == 4
    assert said.err.startswith("Traceback (most recent call last):\n" if shown else "elegan: no run at none-such")
    assert said.err.endswith("elegan: no run at none-such: no such directory.\n")


def test_of_several_processes_the_one_that_has_it_speaks(cli, monkeypatch):
    from elegan.errors import CheckpointError

    error = CheckpointError("process 2 of 2 (rank 1): mine.")
    error.speaker = 1

    def load(*_, **__):
        raise error

    monkeypatch.setattr("elegan.api.load", load)
    for rank, err in ((None, ""), ("0", ""), ("1", "elegan: process 2 of 2 (rank 1): mine.\n")):
        if rank is not None:
            monkeypatch.setenv("RANK", rank)
        said = cli("sample", "run")
        assert (said.code, said.err) == (4, err)


# ---- before the work


@pytest.mark.parametrize("out", ["/proc/none/such", "/dev/null/such", "FILE/such"])
@pytest.mark.parametrize(
    "line",
    ["sample RUN", "edit interpolate RUN", "apply SIDES PHOTOS", "evaluate RUN", "data inspect PHOTOS",
     "train dcgan SMALL", "data clean PHOTOS", "data augment PHOTOS"],
)  # fmt: skip
def test_an_out_that_cannot_be_written_is_found_before_the_work(cli, there, monkeypatch, out, line):
    def work(*_, **__):
        pytest.fail("the work was begun")

    for name in ("model.draw", "model.interpolation_of", "model.translate", "scoring.evaluate.resolve", "api.fit",
                 "data.curation.inspect.inspect", "data.curation.clean.clean", "data.sources.few"):  # fmt: skip
        monkeypatch.setattr(f"elegan.{name}", work)
    tokens = [str(there.get(token, token)) for token in line.split()]
    where = out.replace("FILE", str(there["FILE"])) + {"clean": "/x.csv", "augment": "/x.png"}.get(tokens[1], "")
    said = cli(*tokens, *(TINY if tokens[0] == "train" else ()), "--out", where)
    assert said.code == 6
    assert "choose another --out" in said.line
    assert not list(Path().iterdir())


@pytest.mark.parametrize("verb", ["sample", "edit interpolate", "apply"])
def test_a_full_out_is_found_before_the_work(cli, there, verb, monkeypatch):
    monkeypatch.setattr(Model, "sample", None)
    monkeypatch.setattr(Model, "interpolate", None)
    monkeypatch.setattr(Model, "translate", None)
    inputs = [there["PHOTOS"]] if verb == "apply" else []
    said = cli(*verb.split(), there["SIDES" if verb == "apply" else "RUN"], *inputs, "--out", there["PHOTOS"])
    assert said.code == 7
    assert "photos is not empty; choose another --out" in said.line


def test_what_was_typed_beside_what_it_is_not_for_is_refused(cli, there):
    for tokens, words in [
        (
            ["evaluate", there["SMALL"], "--against", there["SMALL"], "--checkpoint", "best"],
            ["--checkpoint best", "is none"],
        ),
        (["zoo", "list", "dcgan"], ["zoo list takes no game", "zoo show dcgan"]),
        (["edit", "interpolate", there["SIDES"]], ["cyclegan draws no samples"]),
        (["edit", "interpolate", there["RUN"], "--label", "1"], ["--label 1", "knows no classes"]),
        (["sample", there["RUN"], "-n", "9" * 30], ["do not fit into memory"]),
        (["edit", "interpolate", there["RUN"], "--steps", "9" * 30], ["do not fit into memory"]),
    ]:
        with at_most(SECONDS):
            said = cli(*tokens)
        assert said.code == (6 if "memory" in words[0] else 2)
        for word in words:
            assert word in said.line
    assert (
        cli(
            "evaluate", there["RUN"], "-n", 8, "--save", "s.safetensors", "--embedder", "pixels", "--metrics", "fd"
        ).code
        == 0
    )
    said = cli("evaluate", "s.safetensors", "--against", "s.safetensors", "-n", 8)
    assert (said.code, "-n 8: statistics" in said.line) == (2, True)
