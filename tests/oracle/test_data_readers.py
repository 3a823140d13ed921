"""Readers against what was written: idx, arrays and folders of images."""

import gzip
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import elegan
from elegan.data.sources import open_data
from elegan.errors import DataError


def write_idx(path: Path, rows: np.ndarray) -> None:
    body = struct.pack(f">HBB{rows.ndim}I", 0, 8, rows.ndim, *rows.shape) + rows.tobytes()
    pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(body))


# ---- idx


@pytest.mark.parametrize("end", ["", ".gz", ".xz"])
def test_idx_files_and_folders(tmp_path, end):
    draw = np.random.default_rng(0)
    rows = {split: draw.integers(256, size=(n, 5, 4), dtype=np.uint8) for split, n in (("train", 30), ("t10k", 20))}
    labels = {split: np.arange(len(those), dtype=np.uint8) % 3 for split, those in rows.items()}
    for split in rows:
        write_idx(tmp_path / f"{split}-images-idx3-ubyte{end}", rows[split])
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte{end}", labels[split])
    for where in (tmp_path, tmp_path / f"train-images-idx3-ubyte{end}"):
        for split, start in (("train", "train"), ("test", "t10k")):
            source = open_data(where, split=split)
            assert np.array_equal(source.arrays["real"][:, 0], rows[start])
            assert source.arrays["label"].tolist() == labels[start].tolist()
            assert source.spec.shape == (1, 5, 4)
            assert source.spec["label"].names == ("0", "1", "2")
    (tmp_path / f"train-labels-idx1-ubyte{end}").unlink()
    assert "label" not in open_data(tmp_path).spec


# ---- arrays


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ((6, 8, 9), (1, 8, 9)),
        ((6, 3, 8, 9), (3, 8, 9)),
        ((6, 8, 9, 3), (3, 8, 9)),
        ((6, 8, 9, 1), (1, 8, 9)),
        ((6, 4, 8, 9), (4, 8, 9)),
    ],
)
def test_the_channel_axis_of_an_array_is_the_short_one(tmp_path, shape, want):
    rows = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", rows)
    source = open_data(tmp_path / "x.npy")
    assert source.spec.shape == want
    expected = rows[:, None] if rows.ndim == 3 else rows if shape[1:] == want else np.moveaxis(rows, 3, 1)
    assert np.array_equal(source.arrays["real"], expected)
    assert source.arrays["real"].flags.c_contiguous


@pytest.mark.parametrize("shape", [(6, 3, 8, 3), (6, 1, 1, 1), (6, 8, 9, 5), (6, 20), (6,), (2, 3, 8, 8, 3)])
def test_an_ambiguous_array_is_refused(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"channels|no set of images"):
        open_data(tmp_path / "x.npy")


def test_float_arrays(tmp_path):
    path = tmp_path / "x.npy"
    levels = np.arange(256).reshape(4, 8, 8)
    for values in (levels / 255, levels / 127.5 - 1, levels * 3.7 - 90):
        for kind in (np.float16, np.float32, np.float64):
            np.save(path, values.astype(kind))
            rows = open_data(path).arrays["real"]
            assert rows.dtype == np.float32
            assert np.array_equal(rows[:, 0], values.astype(kind).astype(np.float32))
    np.save(path, levels / 255)
    assert np.array_equal(open_data(path, bits="8").arrays["real"][:, 0], levels)
    np.save(path, levels / 255 * 1.01)
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        open_data(path, bits="8")
    vectors = np.random.default_rng(0).normal(3, 2, (50, 4))
    np.save(path, vectors)
    source = open_data(path)
    assert source.spec.kind == "vector"
    assert np.array_equal(source.arrays["real"], vectors.astype(np.float32))


def test_the_keys_of_npz(tmp_path):
    path = tmp_path / "x.npz"
    images, labels = np.random.default_rng(0).integers(256, size=(6, 8, 8), dtype=np.uint8), np.arange(6) % 2
    for real, label in (("real", "label"), ("x", "y"), ("images", "labels"), ("data", "label")):
        np.savez(path, **{real: images, label: labels[:, None], "other": np.zeros(3)})
        source = open_data(path)
        assert source.arrays["label"].tolist() == labels.tolist()
        assert source.spec.classes == 2
    np.savez_compressed(path, anything=images)
    assert set(open_data(path).spec) == {"real"}
    with pytest.raises(DataError, match="no test split"):
        open_data(path, split="test")
    np.savez(path, x_train=images, y_train=labels, x_test=images[:3], y_test=labels[:3])
    assert [len(open_data(path, split=split)) for split in ("train", "test")] == [6, 3]
    np.savez(path, train_images=images, test_images=images[:3])
    assert [len(open_data(path, split=split)) for split in ("train", "test")] == [6, 3]
    np.savez(path, x=images, y=labels + 1)  # classes may count from one
    assert open_data(path).arrays["label"].tolist() == labels.tolist()
    assert open_data(path).spec["label"].names == ("1", "2")
    np.savez(path, a=images, b=images[:4])
    assert {name: field.stream for name, field in open_data(path).spec.items()} == {"a": "a", "b": "b"}
    np.savez(path, a=images, b=images)
    assert {field.stream for field in open_data(path).spec.values()} == {"main"}


# ---- folders


def paint(path: Path, level: int, size: tuple[int, int] = (6, 5), mode: str = "L") -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size, level)
    image.putpixel((0, 0), 255 - level)
    image.convert(mode).save(path)
    return np.asarray(image)


def test_a_folder_in_order_of_names(tmp_path):
    want = [paint(tmp_path / name, level) for name, level in (("a.png", 10), ("b.PNG", 20), ("sub/c.bmp", 30))]
    (tmp_path / "notes.txt").write_text("not an image, by its suffix")
    paint(tmp_path / ".hidden.png", 99)
    source = open_data(tmp_path)
    assert np.array_equal(source.arrays["real"], np.stack(want)[:, None])
    assert set(source.spec) == {"real"}
    paint(tmp_path / "z.png", 40, mode="RGB")
    assert open_data(tmp_path).spec.shape == (3, 5, 6)
    assert len(open_data(str(tmp_path / "a.png"))) == 1


@pytest.mark.parametrize("end", ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"])
def test_formats(tmp_path, end):
    Image.new("RGB", (8, 8), (200, 200, 200)).save(tmp_path / f"x.{end}")
    rows = open_data(tmp_path).arrays["real"]
    assert rows.shape[2:] == (8, 8)
    assert abs(rows.astype(int) - 200).max() <= 2


def test_the_first_frame_of_a_gif(tmp_path):
    frames = [Image.new("L", (8, 8), level) for level in (50, 150)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert set(open_data(tmp_path).arrays["real"].flat) == {50}


def test_class_folders_become_labels(tmp_path):
    for i in range(5):
        paint(tmp_path / ("dog" if i % 2 else "cat") / f"{i}.png", i)
    source = open_data(tmp_path)
    assert source.spec["label"].names == ("cat", "dog")
    assert source.spec["label"].counts == (3, 2)
    assert source.spec.classes == 2
    assert source.arrays["label"].tolist() == [0, 0, 0, 1, 1]
    assert source.arrays["real"][:, 0, 2, 2].tolist() == [0, 2, 4, 1, 3]
    paint(tmp_path / "top.png", 9)  # no longer exactly one level below
    assert set(open_data(tmp_path).spec) == {"real"}


def test_split_folders(tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for i in range(count):
            paint(tmp_path / split / "ab"[i % 2] / "deep" / f"{i}.png", i)
            paint(tmp_path / split / "cd"[i % 2] / f"{i}.png", i)
    assert [len(open_data(tmp_path, split=split)) for split in ("train", "test")] == [8, 4]
    flat = tmp_path / "train" / "c"
    with pytest.raises(DataError, match="no test split"):
        open_data(flat, split="test")


def test_two_domains(tmp_path):
    for i in range(5):
        paint(tmp_path / "trainA" / f"{i}.png", i)
        paint(tmp_path / "testA" / f"{i}.png", 100 + i)
        paint(tmp_path / "testB" / f"{i}.png", 150 + i)
    for i in range(3):
        paint(tmp_path / "trainB" / f"{i}.jpg", 200 + i, (9, 9), "RGB")
    source = open_data(tmp_path)
    assert {name: (field.shape, field.stream) for name, field in source.spec.items()} == {
        "a": ((1, 5, 6), "a"),
        "b": ((3, 9, 9), "b"),
    }
    assert [len(rows) for rows in source.arrays.values()] == [5, 3]
    assert len(source) == 3
    test = open_data(tmp_path, split="test", size=4)
    assert test.arrays["b"].shape == (5, 1, 4, 4)
    assert test.arrays["a"][0, 0, 3, 3] == 100


def test_pairs_share_their_names(tmp_path):
    for i, name in enumerate(("x", "x-1", "y")):
        paint(tmp_path / "A" / f"{name}.png", i)
        paint(tmp_path / "B" / f"{name}.bmp", 100 + i)
    source = open_data(tmp_path)
    assert {field.stream for field in source.spec.values()} == {"main"}
    assert np.array_equal(source.arrays["a"][:, 0, 2, 2] + 100, source.arrays["b"][:, 0, 2, 2])
    (tmp_path / "B" / "y.bmp").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"left out: 1 of 3 pairs .*'B/y.bmp': the file is empty"):
        source = open_data(tmp_path)
    assert [len(rows) for rows in source.arrays.values()] == [2, 2]
    (tmp_path / "B" / "y.bmp").unlink()
    with pytest.raises(DataError, match="'y' is not in both 'A' and 'B'"):
        open_data(tmp_path)


def test_samples_that_were_drawn_are_data(tmp_path, tiny_run):
    """The sheet that lies beside them is none of them."""
    written = elegan.sample(tiny_run, 5).save(tmp_path / "drawn")
    assert written[0].name == "grid.png"
    assert open_data(tmp_path / "drawn").arrays["real"].shape == (5, 1, 8, 8)


def test_mixed_sizes_are_fitted_from_the_centre(tmp_path):
    wide = np.zeros((16, 48), np.uint8)
    wide[:, 16:32] = 200  # the middle third is all that is left
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide.T.copy()).save(tmp_path / "tall.png")
    rows = open_data(tmp_path, size=8).arrays["real"]
    assert rows.shape == (2, 1, 8, 8)
    assert abs(rows[:, :, 2:6, 2:6].astype(int) - 200).max() <= 1
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    fine = open_data(tmp_path, size=16).arrays["real"][0, 0, 4:-4, 4:-4]
    assert abs(fine.astype(int) - 127).max() < 12  # antialiased: not one of the two colours
