"""Bring your own data: what the pages in docs/data tell one to type, in their order, on such data."""

import csv
import functools
import io
import re
import shlex
import tarfile
import wave
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elegan.data.sources import BUNDLED
from elegan.training import precision
from tests.e2e.test_documents import FENCE, cut_short, found, read

PAGES = found("docs/data/*.md")
ODD = (0, 1)  # what `inspect` may say of the small, noisy pictures here


@pytest.fixture(scope="module", autouse=True)
def digits_are_read_once() -> Iterator[None]:
    about, reader = BUNDLED["digits"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUNDLED, "digits", (about, functools.cache(reader)))
        yield


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_tells_one_to_type_runs(cli, monkeypatch, name):
    monkeypatch.setattr(precision, "probe", lambda: {("fp32", 1): 0.01, ("bf16", 1): 0.02})
    bring_data()
    names: dict = {}
    ran = 0
    for kind, body in FENCE.findall(read(name)):
        if kind == "python":
            exec(compile(body, name, "exec"), names)
        for line in body.replace("\\\n", " ").splitlines() if kind == "sh" else ():
            if tokens := shlex.split(line, comments=True)[1:]:
                said = cli(*small(tokens))
                assert said.code in (ODD if tokens[:2] == ["data", "inspect"] else (0,)), (line, said.err)
                assert said.code == 1 or not said.err, (line, said.err)
                ran += 1
    assert ran or name == "docs/data/arrays.md"


def small(tokens: list[str]) -> list[str]:
    """The same command with few steps, a small net and small pictures."""
    tokens = cut_short(tokens)
    if tokens[0] == "train" and "--preset" not in tokens:
        tokens = [*tokens, "--preset", "tiny"]
    return [{"64": "16", "96x64": "24x16", "32": "16"}.get(token, token) for token in tokens]


def bring_data() -> None:
    """Data of every kind that the pages speak of, small, in the current folder."""
    draw = np.random.default_rng(0)
    for k in range(24):
        noise = Image.fromarray(draw.integers(0, 255, (6, 5, 3), dtype=np.uint8)).resize(
            (30, 36), Image.Resampling.BICUBIC
        )
        for folder in ("photos", f"classes/{'cat' if k % 2 else 'dog'}", "horse2zebra/trainA", "horse2zebra/trainB"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            noise.save(Path(folder) / f"{k:02}.png")
        sprite = noise.convert("RGBA")
        sprite.putalpha(Image.fromarray(np.tri(36, 30, dtype=np.uint8) * 255))
        Path("sprites").mkdir(exist_ok=True)
        sprite.save(Path("sprites") / f"{k:02}.png")
    with zipfile.ZipFile("photos.zip", "w") as packed:
        for path in sorted(Path("photos").iterdir()):
            packed.write(path)
    for shard in range(2):
        Path("shards").mkdir(exist_ok=True)
        with tarfile.open(f"shards/photos-{shard:06}.tar", "w") as tar:
            for path in sorted(Path("photos").iterdir())[shard::2]:
                tar.add(path, path.name)
                label = io.BytesIO(b"%d" % (int(path.stem) % 4))
                about = tarfile.TarInfo(f"{path.stem}.cls")
                about.size = 1
                tar.addfile(about, label)
    with open("people.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["age", "height", "city", "married"])
        for k in range(80):
            rows.writerow([20 + k % 40, f"{draw.normal(1.7, 0.1):.2f}", ["Bern", "Basel", "Chur"][k % 3], bool(k % 2)])
    Path("sounds").mkdir()
    for k in range(6):
        with wave.open(f"sounds/{k}.wav", "wb") as sound:
            sound.setparams((1, 2, 8_000, 0, "NONE", ""))
            tone = np.sin(np.arange(8_000) * (0.1 + 0.02 * k)) * 20_000
            sound.writeframes(tone.astype("<i2").tobytes())
    for k in range(4):
        folder = Path("clips") / f"{k}"
        folder.mkdir(parents=True)
        for frame in range(12):
            square = np.zeros((32, 32, 3), np.uint8)
            square[frame : frame + 8, 4 * k : 4 * k + 8] = 255
            Image.fromarray(square).save(folder / f"{frame:03}.png")
    words = re.findall(r"[a-z]+", "the judge tells the real from the drawn and the generator learns to deceive it " * 8)
    Path("words.txt").write_text("\n".join(words) + "\n")
