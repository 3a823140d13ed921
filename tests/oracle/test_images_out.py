"""Images on their way out: codecs, files in the source's form, scores and translations of deeper ones."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import elegan
from elegan.data.codec import ImageCodec, codec_of, eight_bits, mode_of
from elegan.data.form import Form
from elegan.data.sources import open_data
from elegan.errors import DataError
from elegan.exporting import samples as samples_room
from elegan.exporting.provenance import SOURCE_TYPE
from elegan.exporting.samples import Samples
from elegan.metrics.features import of_source
from elegan.model import Model
from elegan.scoring.evaluate import referred, resolve
from elegan.spec import Field
from elegan.view.sheet import sheet
from tests.oracle.test_images import drawn, save

FORMS = {  # type, channels, what they are, how it is read again, the suffix
    "grey": ("uint8", 1, "L", {}, ".png"),
    "grey-alpha": ("uint8", 2, "LA", {"alpha": "keep"}, ".png"),
    "rgb": ("uint8", 3, "RGB", {}, ".png"),
    "rgba": ("uint8", 4, "RGBA", {"alpha": "keep"}, ".png"),
    "grey16": ("uint16", 1, "L", {}, ".png"),
    "grey16-alpha": ("uint16", 2, "LA", {"alpha": "keep"}, ".png"),
    "rgb16": ("uint16", 3, "RGB", {}, ".png"),
    "rgba16": ("uint16", 4, "RGBA", {"alpha": "keep"}, ".png"),
    "float": ("float32", 1, "L", {}, ".tif"),
    "float-alpha": ("float32", 2, "LA", {"alpha": "keep"}, ".tif"),
    "rgb-float": ("float32", 3, "RGB", {}, ".tif"),
    "rgba-float": ("float32", 4, "RGBA", {"alpha": "keep"}, ".tif"),
    "two": ("uint8", 2, "", {}, ".tif"),
    "four16": ("uint16", 4, "", {}, ".tif"),
    "thirteen-float": ("float32", 13, "", {}, ".tif"),
}
FACTS = {"game": "dcgan", "data": 'a "b" <c> & ü.npz', "step": 7}
TRAINING = dict(preset="tiny", threads=1, precision="fp32")


def described(rows: np.ndarray, mode: str) -> Field:
    return Field("image", rows.shape[1:], about=ImageCodec.fit(rows, mode=mode).to_json())


@pytest.mark.parametrize("name", FORMS)
def test_samples_come_back_in_the_form_of_the_data(tmp_path, name):
    dtype, channels, mode, how, suffix = FORMS[name]
    rows = drawn(dtype, 5, channels, 9, 12)
    field = described(rows, mode)
    codec = codec_of(Field("image", field.shape, about=field.about))
    encoded = codec.encode(torch.from_numpy(rows))
    assert encoded.dtype == torch.float32
    assert encoded.min() >= -1
    assert encoded.max() <= 1
    values = codec.decode(encoded)
    assert values.dtype == dtype
    if dtype == "float32":
        assert abs(values - rows).max() <= 2**-24
    else:
        assert np.array_equal(values, rows)
    written = Samples(values, field, FACTS).save(tmp_path / "out")
    assert [path.suffix for path in written[1:]] == [suffix] * 5
    with Image.open(written[0]) as grid:
        assert np.array_equal(np.asarray(grid), np.asarray(sheet(eight_bits(field, values), mode=mode)))
    written[0].unlink()
    again = open_data(tmp_path / "out", **how)
    assert again.arrays["real"].dtype == dtype
    assert np.array_equal(again.arrays["real"], values)
    assert again.spec["real"].about["codec"]["mode"] == mode_of(again.spec["real"]) == mode
    if suffix == ".tif":
        with tifffile.TiffFile(written[1]) as file:
            tags = {tag.code: tag.value for tag in file.pages.first.tags}
        text, packet, tool = tags[270], bytes(tags[700]).decode(), tags[305]
        assert '"step": 7' in text
    else:
        with Image.open(written[1]) as image:
            text, packet, tool = str(image.text), image.text["XML:com.adobe.xmp"], image.text["Software"]
            assert image.text["elegan:sample"] == "0"
            assert image.text["elegan:data"] == FACTS["data"]
    assert "trainedAlgorithmicMedia" in text
    assert SOURCE_TYPE in packet
    assert tool == f"elegan {elegan.__version__}"


def test_without_the_libraries_samples_are_one_array(tmp_path, monkeypatch):
    monkeypatch.setattr(samples_room, "INSTALLED", False)
    rows = drawn("float32", 5, 6, 24, 16)
    written = Samples(rows, described(rows, ""), FACTS).save(tmp_path / "out")
    assert [path.name for path in written] == ["grid.png", "samples.npy"]
    assert np.array_equal(open_data(written[1]).arrays["real"], rows)
    assert len(Samples(rows[:, :3], described(rows[:, :3], "RGB"), FACTS).save(tmp_path / "two")) == 2
    sixteen = drawn("uint16", 5, 3, 9, 12)
    assert len(Samples(sixteen, described(sixteen, "RGB"), FACTS).save(tmp_path / "three")) == 6


def test_a_codec_loses_nothing_of_floats_far_from_zero():
    rows = (1e6 + drawn("float32", 4, 1, 8, 8) * 10).astype(np.float32)
    codec = ImageCodec.fit(rows)
    assert np.array_equal(codec.decode(codec.encode(torch.from_numpy(rows))), rows)
    signed = drawn("float32", 4, 1, 8, 8) * 2 - 1
    assert np.array_equal(ImageCodec.fit(signed).encode(torch.from_numpy(signed)).numpy(), signed)
    assert ImageCodec(0, 1, "float32").encode(torch.tensor([0.0, 0.25, 1.0])).tolist() == [-1, -0.5, 1]


# ---- scores and translations of deeper images


@pytest.fixture
def deeper(tmp_path) -> Path:
    """Floats whose test split has another range than the training split."""
    rows = drawn("float32", 12, 3, 16, 24) * 6 - 2
    np.savez(tmp_path / "x.npz", x_train=rows, x_test=rows[:8] / 2 + 1)
    return tmp_path / "x.npz"


def test_both_sides_of_a_score_are_brought_to_8_bits_alike(deeper):
    train, test = (open_data(deeper, split=split) for split in ("train", "test"))
    low, high = float(train.arrays["real"].min()), float(train.arrays["real"].max())
    found = resolve(test.arrays["real"], deeper, None, None, None, 0, "newest")
    want = np.rint((test.arrays["real"].astype(float) - low) / (high - low) * 255)
    assert np.array_equal(found.drawn.all(), want), "an array, by the codec of training"
    assert np.array_equal(found.reference.compared.all(), want)
    assert np.array_equal(found.reference.train.all(), eight_bits(train.spec["real"], train.arrays["real"]))
    said = {found.drawn.levels, found.reference.compared.levels, found.reference.train.levels}
    assert said == {f"float32 from {low:.6g} to {high:.6g} as 8 bits"}
    own = of_source(test, "test")
    assert not np.array_equal(own.all(), want), "by its own codec it would differ"
    assert own.fingerprint != found.reference.compared.fingerprint
    other = resolve((want[:4] * 257).astype(np.uint16), deeper, None, None, None, 0, "newest").drawn
    assert np.array_equal(other.all(), want[:4]), "another type has a range of its own"
    wider = Field("image", (3, 16, 24), about=ImageCodec(-10, 10, "float32").to_json())  # of a model's own data
    against = referred(deeper, None, Form(), wider)
    for one, source in ((against.train, train), (against.compared, test)):
        assert np.array_equal(one.all(), np.rint((source.arrays["real"].astype(float) + 10) / 20 * 255))
    plain = open_data("digits", split="test")
    assert of_source(plain, "test").fingerprint == plain.fingerprint
    assert of_source(plain, "test", 5).levels == ""
    assert of_source(test, "test", 5).levels == own.levels


def test_the_protocol_says_what_the_levels_are(deeper, small):
    rows = open_data(deeper, split="test").arrays["real"]
    assert (
        "as 8 bits" in elegan.evaluate(rows, against=deeper, metrics="fd", embedder="pixels").scores[0].protocol.input
    )
    assert (
        "as 8 bits"
        not in elegan.evaluate(small, against=small, metrics="fd", embedder="pixels").scores[0].protocol.input
    )


def test_saved_statistics_say_what_the_levels_were(deeper, tmp_path):
    path = tmp_path / "real.safetensors"
    elegan.evaluate(deeper, save=path, embedder="pixels")
    rows = open_data(deeper, split="test").arrays["real"]
    assert "as 8 bits" in elegan.evaluate(rows, against=path, embedder="pixels").scores[0].protocol.input


KINDS = {"rgba16": ("uint16", 4, {"alpha": "keep"}), "five-float": ("float32", 5, {}), "grey": ("uint8", 1, {})}


def store(path: Path, pixels: np.ndarray) -> None:
    """One image (H, W, C), as bands without a meaning if there are five."""
    if pixels.shape[2] == 5:
        how = dict(photometric="minisblack", planarconfig="contig", metadata=None)
        tifffile.imwrite(path.with_suffix(".tif"), pixels, **how)
    else:
        save(path, pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_brought_to_the_form_of_a_run(tmp_path, kind, monkeypatch):
    dtype, channels, how = KINDS[kind]
    for side in ("trainA", "trainB"):
        (tmp_path / "data" / side).mkdir(parents=True)
        for k, pixels in enumerate(drawn(dtype, 4, 16, 32, channels)):
            store(tmp_path / "data" / side / str(k), pixels)
    how = dict(how, size="32x16", steps=1, batch=2)
    model = elegan.train("cyclegan", tmp_path / "data", out=tmp_path / "run", **TRAINING, **how)
    inputs = tmp_path / "in"
    inputs.mkdir()
    given = drawn("uint8", 40, 80, 5) if channels == 5 else drawn("uint8", 40, 80, 3)
    store(inputs / "x", given)  # of another size, depth and number of channels
    asked, translate = [], Model.translate
    monkeypatch.setattr(
        Model, "translate", lambda self, rows, **how: asked.append(rows) or translate(self, rows, **how)
    )
    made = elegan.apply(tmp_path / "run", inputs)
    assert made.values.dtype == dtype
    assert made.values.shape == (1, channels, 16, 32)
    seen = open_data(inputs, size="32x16", colour="grey" if channels == 1 else "keep").arrays["real"]
    x = seen.astype(np.float32) / 127.5 - 1
    if kind == "rgba16":
        x = np.concatenate([x, np.ones_like(x[:, :1])], 1)
        assert (asked[0][:, 3] == 255).all(), "opaque"
    want = codec_of(model.game.spec["b"]).decode(model.game.translate(torch.from_numpy(x), direction="ab"))
    assert abs(made.values.astype(float) - want).max() <= (1e-3 if dtype == "float32" else 1)
    next(inputs.iterdir()).unlink()
    store(inputs / "x", drawn("uint8", 40, 80, 3 if channels == 5 else 5))
    with pytest.raises(DataError):
        elegan.apply(tmp_path / "run", inputs)


RUNS = {
    "two": ("uint8", 2, ""), "grey-alpha": ("uint8", 2, "LA"), "rgba": ("uint8", 4, "RGBA"), "five": ("uint8", 5, ""),
    "rgb16": ("uint16", 3, "RGB"), "float": ("float32", 1, "L"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_on_images_of_any_kind_draws_saves_and_is_scored(tmp_path, kind):
    dtype, channels, mode = RUNS[kind]
    if mode:
        (tmp_path / "data").mkdir()
        for k, pixels in enumerate(drawn(dtype, 16, 16, 32, channels)):
            save(tmp_path / "data" / f"{k:02}", pixels)
        data, how = tmp_path / "data", {"alpha": "keep"}
    else:
        data, how = tmp_path / "data.npy", {}
        np.save(data, drawn(dtype, 16, channels, 16, 32))
    model = elegan.train("dcgan", data, out=tmp_path / "run", steps=2, batch=8, **TRAINING, **how)
    assert model.game.spec.shape == (channels, 16, 32)
    four = model.sample(4)
    assert four.values.dtype == dtype
    assert len(four.save(tmp_path / "out")) == 5
    pictures = [path for part in ("samples", "pictures") for path in (tmp_path / "run" / part).glob("*.png")]
    assert len(pictures) >= 3
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.mode == ("L" if channels < 3 else "RGB")
    scored = elegan.evaluate(model, n=16, embedder="pixels", metrics="fd,memorisation")
    assert np.isfinite(scored.scores[0].value)
    assert scored.nearest is None or scored.nearest.mode == ("L" if channels < 3 else "RGB")
