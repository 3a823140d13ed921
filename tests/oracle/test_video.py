"""Film without loss against the frames that were put in, closed forms of times, and NumPy's turning."""

import json
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from elegan.data.batches import Batches
from elegan.data.codec import codec_of
from elegan.data.codecs.video import VideoCodec
from elegan.data.form import Form
from elegan.data.sources import open_data, prepare
from elegan.exporting.samples import Samples
from elegan.spec import Spec


def frames(count: int, height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth frames (T, H, W, 3), each of which tells its number by its brightness."""
    y, x = np.mgrid[:height, :width]
    wave = 40 * np.sin((x + seed) / 5) + 30 * np.cos(y / 4)
    levels = 70 + wave[None] + 3 * np.arange(count)[:, None, None]
    return np.stack([levels, levels * 0.9, levels * 0.8 + 10], -1).clip(0, 255).astype(np.uint8)


def film(path: Path, pictures: np.ndarray, fps: Fraction | int = 10, turn: int = 0, codec: str = "ffv1") -> Path:
    """Frames, (T, H, W, 3) or grey (T, H, W), without loss, as Matroska; ordinary codecs lose some."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=fps)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = ("gray" if pictures.ndim == 3 else "bgr0") if codec == "ffv1" else "yuv420p"
        if turn:
            stream.set_display_rotation(turn)
        for picture in pictures:
            form = "gray" if picture.ndim == 2 else "rgb24"
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format=form)))
        file.mux(stream.encode(None))
    return path


def rows_of(pictures: np.ndarray) -> np.ndarray:
    """(T, H, W, C) -> (C, T, H, W)."""
    return pictures.transpose(3, 0, 1, 2)


def test_frames_are_those_of_the_film(tmp_path):
    source = open_data(film(tmp_path / "a.mkv", frames(12)))
    assert np.array_equal(source.arrays["real"][0], rows_of(frames(12)))
    assert repr(source.spec) == "Spec(real=video[3, 12, 24, 32])"
    assert codec_of(source.spec["real"]) == VideoCodec(10.0, "RGB")
    grey = open_data(film(tmp_path / "b.mkv", frames(5)[..., 0], Fraction(30_000, 1001)))
    assert np.array_equal(grey.arrays["real"][0, 0], frames(5)[..., 0])
    assert codec_of(grey.spec["real"]).fps == pytest.approx(29.97, abs=1e-3)
    assert codec_of(grey.spec["real"]).mode == "L"


def test_long_films_are_cut_and_it_is_told(tmp_path):
    for name, count in (("a", 50), ("b", 16)):
        film(tmp_path / f"{name}.mkv", frames(count))
    source = open_data(tmp_path, frames=12)
    assert source.names == ["a.mkv#0", "a.mkv#1", "a.mkv#2", "a.mkv#3", "b.mkv"]
    assert np.array_equal(np.concatenate(source.arrays["real"][:4], 1), rows_of(frames(48)))
    assert np.array_equal(source.arrays["real"][4], rows_of(frames(12)))
    assert "5 videos of 12 frames (1 films cut to clips, 6 frames at ends left out)" in source.about


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_clips_of_films_that_depend_on_earlier_frames(tmp_path, codec):
    """Frames between key frames are reached by decoding from the one before."""
    film(tmp_path / "a.mp4", frames(60, 32, 48), 25, codec=codec)
    whole = open_data(tmp_path).arrays["real"][0]
    clips = open_data(tmp_path, frames=7).arrays["real"]
    assert len(clips) == 8
    assert np.array_equal(np.concatenate(clips, 1), whole[:, :56])
    assert np.abs(whole.astype(int) - rows_of(frames(60, 32, 48))).mean() < 8


def test_another_rate_takes_the_nearest_frames(tmp_path):
    film(tmp_path / "a.mkv", frames(30), 10)  # 3 s
    for fps in (4, 5, 20):
        row = open_data(tmp_path, fps=fps).arrays["real"][0]
        times = np.arange(3 * fps) / fps
        away = np.abs(times[:, None] - np.arange(30)[None] / 10)
        for k, picture in enumerate(row.transpose(1, 2, 3, 0)):
            number = next(n for n, other in enumerate(frames(30)) if np.array_equal(other, picture))
            assert away[k, number] == pytest.approx(away[k].min())


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_turned_films_are_upright(tmp_path, turn):
    film(tmp_path / "a.mp4", frames(4, 32, 48), 10, turn, "libx264")
    film(tmp_path / "plain" / "a.mp4", frames(4, 32, 48), 10, 0, "libx264")
    plain = open_data(tmp_path / "plain").arrays["real"][0]
    found = open_data(tmp_path / "a.mp4")
    assert np.array_equal(found.arrays["real"][0], np.rot90(plain, turn // 90, axes=(2, 3)))  # both turn left
    assert found.spec.shape == ((3, 4, 48, 32) if turn % 180 else (3, 4, 32, 48))


def test_pixels_become_square(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for picture in frames(3, 32, 48):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    row = open_data(tmp_path / "a.mp4").arrays["real"][0]
    assert row.shape == (3, 3, 32, 64)
    wide = np.array(Image.fromarray(frames(1, 32, 48)[0]).resize((64, 32), Image.Resampling.LANCZOS))
    assert np.abs(row[:, 0].transpose(1, 2, 0).astype(int) - wide).mean() < 4


def test_sizes_are_those_of_images(tmp_path):
    film(tmp_path / "a.mkv", frames(3))
    row = open_data(tmp_path, size="16x12", fit="stretch").arrays["real"][0]
    for k, picture in enumerate(frames(3)):
        wanted = np.array(Image.fromarray(picture).resize((16, 12), Image.Resampling.LANCZOS))
        assert np.abs(row[:, k].transpose(1, 2, 0).astype(int) - wanted).max() <= 1
    assert open_data(tmp_path, size=16).spec.shape == (3, 3, 16, 16)
    assert open_data(tmp_path, colour="grey").spec.shape == (1, 3, 24, 32)


def test_folders_of_frames(tmp_path):
    for kind in ("run", "walk"):
        for clip in range(2):
            home = tmp_path / kind / f"clip {clip}"
            home.mkdir(parents=True)
            for k, picture in enumerate(frames(11, seed=clip)):
                Image.fromarray(picture).save(home / f"frame{k}.png")  # 10 stands before 2 in the alphabet
    source = open_data(tmp_path, kind="video")
    assert source.names == ["run/clip 0", "run/clip 1", "walk/clip 0", "walk/clip 1"]
    assert source.spec["label"].names == ("run", "walk")
    assert source.arrays["label"].tolist() == [0, 0, 1, 1]
    for number, row in enumerate(source.arrays["real"]):
        assert np.array_equal(row, rows_of(frames(11, seed=number % 2)))
    clips = open_data(tmp_path, kind="video", frames=5, fps=12)
    assert clips.names[:3] == ["run/clip 0#0", "run/clip 0#1", "run/clip 1#0"]
    assert np.array_equal(clips.arrays["real"][1], rows_of(frames(10)[5:]))
    assert codec_of(clips.spec["real"]).fps == 12
    assert "8 videos (4 films cut to clips, 4 frames at ends left out)" in clips.about
    assert open_data(tmp_path).spec.kind == "image"


def test_the_codec_and_its_json(tmp_path):
    source = open_data(film(tmp_path / "a.mkv", frames(8)))
    codec = codec_of(source.spec["real"])
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 1, 16, 16)
    assert torch.allclose(codec.encode(levels).flatten(), torch.linspace(-1, 1, 256), atol=1e-6)
    assert np.array_equal(codec.decode(codec.encode(levels)), levels.numpy())
    assert codec_of(Spec.from_json(json.loads(json.dumps(source.spec.to_json())))["real"]) == codec
    prepare(tmp_path / "a.mkv", tmp_path / "store", form=Form(frames=4))
    stored = open_data(tmp_path / "store")
    assert Batches(stored, rows=2)(0, 0, 0, 2)["real"].shape == (2, 3, 4, 24, 32)


@pytest.mark.parametrize(("height", "width", "fps"), [(32, 48, 12.5), (23, 31, 25.0)])
def test_what_is_written_is_nearly_what_was_made(tmp_path, height, width, fps):
    rows = np.stack([rows_of(frames(9, height, width, seed)) for seed in range(2)])
    field_ = open_data(film(tmp_path / "a.mkv", frames(9, height, width), Fraction(fps))).spec["real"]
    paths = Samples(rows, field_, {"seed": 1}).save(tmp_path / "out")
    assert [path.name for path in paths] == ["00000.mp4", "00000.gif", "00001.mp4", "00001.gif"]
    again = open_data(tmp_path / "out")
    assert again.spec == Spec(real=field_)
    assert np.abs(again.arrays["real"].astype(int) - rows).mean() < 3
    with av.open(str(paths[0])) as file:
        assert "elegan:seed: 1" in file.metadata["comment"]
    with Image.open(paths[1]) as gif:
        assert gif.n_frames == 9
        assert gif.info["duration"] == round(100 / fps) * 10


def test_grey_film_is_written_as_film(tmp_path):
    source = open_data(film(tmp_path / "a.mkv", frames(6)[..., 0]))
    paths = Samples(source.arrays["real"], source.spec["real"], {}).save(tmp_path / "out")
    again = open_data(paths[0], colour="grey").arrays["real"]
    assert np.abs(again.astype(int) - source.arrays["real"]).mean() < 3


def test_names_with_numbers_sort_by_them():
    from elegan.data.readers.video import _order
    from elegan.data.tree import Entry

    names = ["f10.png", "f9.png", "f1a2.png", "f1a10.png"]
    ordered = sorted((Entry((name,), 0, "") for name in names), key=_order)
    assert [re.sub(r"\.png$", "", entry.path) for entry in ordered] == ["f1a2", "f1a10", "f9", "f10"]
