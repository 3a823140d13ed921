"""Too little data, or wrong: FAULTS 17, and damaged arrays and idx. One line names the file and the remedy."""

import os
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elegan.data.batches import Batches
from elegan.data.readers import arrays
from elegan.data.source import Source, image_field, vector_field
from elegan.data.sources import open_data
from elegan.errors import DataError
from elegan.spec import Field, Spec


def paint(path: Path, level: int = 128, size: tuple[int, int] = (6, 5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).save(path)
    return path


def many(folder: Path, count: int) -> None:
    for i in range(count):
        paint(folder / f"good-{i:02}.png", i)


def refused(path, *words: str, **options) -> str:
    """The one line that opening raises; it holds all the words."""
    with pytest.raises(DataError) as caught:
        open_data(path, **options)
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line
    return line


# ---- 14: damaged arrays and idx


def test_an_npz_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "ROOMY", 1 << 20)
    np.savez_compressed(tmp_path / "x.npz", real=np.zeros((4096, 32, 32), np.uint8))
    refused(tmp_path / "x.npz", "'real.npy' unpacks to", "not unpacked")


def test_an_idx_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(struct.pack(">HBBIII", 0, 8, 3, 1 << 20, 1 << 10, 1 << 10) + bytes(100))
    refused(path, "train-images", "not unpacked")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not an idx file"),
        (b"\x89PNG\r\n\x1a\n", "is not an idx file"),
        (struct.pack(">HBBIII", 0, 13, 3, 2, 2, 2) + bytes(32), "type 0x0d"),
        (struct.pack(">HBBIII", 0, 8, 3, 2, 2, 2) + bytes(7), "cut short"),
        (struct.pack(">HBBIII", 0, 8, 3, 2, 2, 2) + bytes(9), "too long"),
        (struct.pack(">HBBI", 0, 8, 1, 2) + bytes(2), "1 axes"),
        (struct.pack(">HBBIII", 0, 8, 3, 0, 2, 2), "no samples"),
    ],
)
def test_damaged_idx(tmp_path, body, words):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(body)
    refused(path, words, "train-images")


@pytest.mark.parametrize("end", [".gz", ".xz"])
def test_damaged_compressed_idx(tmp_path, end):
    path = tmp_path / f"train-images-idx3-ubyte{end}"
    path.write_bytes(b"neither gz nor xz")
    refused(path, "cannot be read", "fetch it again")


@pytest.mark.parametrize("end", [".npy", ".npz"])
def test_damaged_arrays(tmp_path, end):
    path = tmp_path / f"x{end}"
    rows = np.random.default_rng(0).integers(256, size=(6, 8, 8), dtype=np.uint8)
    (np.save if end == ".npy" else np.savez_compressed)(path, rows)
    whole = path.read_bytes()
    flipped = whole[:200] + bytes(100) + whole[300:]  # the checksum of a .npz tells
    for body in (b"", b"text", whole[:40], whole[:-100], *([flipped] if end == ".npz" else [])):
        path.write_bytes(body)
        refused(path, "x.np", "numpy")


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("end", ["npy", "npz", "raw"])
def test_pickles_are_refused_and_nothing_runs(tmp_path, end):
    mark, path = tmp_path / "ran", tmp_path / ("x.npz" if end == "npz" else "x.npy")
    trap = np.array([Trap(mark)], dtype=object)
    if end == "raw":
        path.write_bytes(pickle.dumps(Trap(mark)))
    elif end == "npy":
        np.save(path, trap, allow_pickle=True)
    else:
        np.savez(path, real=trap)
    refused(path, "pickles are never loaded")
    assert not mark.exists()


# ---- 17: too little, or wrong labels


def test_an_empty_folder(tmp_path):
    refused(tmp_path, str(tmp_path), "holds no images")
    (tmp_path / "notes.md").write_text("none here")
    refused(tmp_path, str(tmp_path), "holds no images")


def test_fewer_samples_than_a_batch(tmp_path):
    many(tmp_path, 12)
    source = open_data(tmp_path)
    with pytest.raises(DataError, match=r"has 12 samples, fewer than one batch of 64: use --batch 8$"):
        Batches(source, rows=64)
    with pytest.raises(DataError, match=r"batch of 15: use --batch 12$"):
        Batches(source, rows=5, shards=3)  # what is advised can be dealt to the shards
    with pytest.raises(DataError, match=r"batch of 16: use --batch 8 --shards 1$"):
        Batches(source, rows=1, shards=16)
    Batches(source, rows=12)


def test_one_small_domain_is_named():
    rows = np.zeros((40, 2), np.float32)
    fields = {name: Field("vector", (2,), stream=name, about=vector_field(rows).about) for name in "ab"}
    source = Source("two", Spec(**fields), {"a": rows, "b": rows[:3]}, "")
    with pytest.raises(DataError, match="'two' has 3 samples in 'b', fewer than one batch of 4: use --batch 2"):
        Batches(source, rows=4)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("digist", "'digits'"), ("Ring", "'ring'"), ("stacked_digits", "'stacked-digits'"), ("./no/such", "There is: ")],
)
def test_a_misspelt_name(typed, hint):
    line = refused(typed, f"no data named {typed!r} and no such path.", hint)
    assert line.count("Did you mean") <= 1


def test_an_empty_a_null_and_a_very_long_path():
    refused("", "no data named ''")
    refused("a\0b", "no data named")
    refused("x" * 5000, "no data named")


def test_a_file_of_no_known_format(tmp_path):
    path = tmp_path / "table.xyz"
    path.write_text("a,b\n1,2\n")
    refused(path, "table.xyz", "no known format")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([0, 1, 3, 0]), "no sample has label 2"),
        (np.array([0, 1, 2, -1]), "below zero"),
        (np.array([0, 1]), "4 rows of 'real' but 2 of 'label'"),
        (np.array([0.0, 1.0, 0.0, 1.0]), "whole numbers"),
        (np.eye(4, dtype=np.int64), "whole numbers"),
        (np.array(["a", "b", "a", "b"]), "whole numbers"),
        (np.array([], np.int64), "empty"),
        (np.array([0, 10**12, 1, 1]), "no sample has label 2"),
    ],
)
def test_bad_labels(tmp_path, labels, words):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((4, 8, 8), np.uint8), y=labels)
    refused(path, words, "x.npz")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((0, 8, 8), np.uint8), "no samples"),
        (np.zeros((4, 8, 8), np.int32), "int32 is neither"),
        (np.array([[1.0, np.nan]]), "not finite"),
        (np.array([[1.0, np.inf]]), "not finite"),
        (np.array([[1.0, 1e300]]), "range of float32"),
        (np.array([["text"]]), "neither"),
        (np.zeros((4, 2), [("a", "u1")]), "neither"),
    ],
)
def test_bad_rows(tmp_path, rows, words):
    np.save(tmp_path / "x.npy", rows)
    refused(tmp_path / "x.npy", words, "x.npy")


def test_keys_that_do_not_say_what_they_are(tmp_path):
    path, rows = tmp_path / "x.npz", np.zeros((4, 8, 8), np.uint8)
    for keys in (("one", "two"), ("x", "images")):
        np.savez(path, **dict.fromkeys(keys, rows))
        refused(path, "which of", "key 'real'")
    np.savez(path, x=rows, y=np.zeros(4, int), label=np.zeros(4, int))
    refused(path, "which of", "key 'label'")


def test_an_empty_or_unreadable_class_is_named(tmp_path):
    for name in ("cat", "dog"):
        many(tmp_path / name, 6)
    (tmp_path / "emu").mkdir()
    refused(tmp_path, "emu", "holds no images")
    (tmp_path / "emu" / "x.png").write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(tmp_path, "'emu' holds no readable image")


def test_a_class_missing_from_a_split_is_named(tmp_path):
    for split, classes in (("train", "abc"), ("test", "ac")):
        for name in classes:
            paint(tmp_path / split / f"class-{name}" / "x.png")
    for split in ("train", "test"):
        refused(tmp_path, "'class-b' is not in every split", split=split)
    (tmp_path / "test" / "class-b").mkdir()
    refused(tmp_path, "class-b", "holds no images", split="test")


def test_a_missing_split_is_named(tmp_path):
    paint(tmp_path / "train" / "x.png")
    refused(tmp_path, "no test split", split="test")
    (tmp_path / "train" / "x.png").rename(tmp_path / "x.png")
    refused(tmp_path, "no test split", split="test")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed(tmp_path):
    paint(tmp_path / "shut" / "x.png")
    paint(tmp_path / "y.png")
    (tmp_path / "shut").chmod(0)
    refused(tmp_path, "cannot be read: Permission denied")


def test_fields_of_a_stream_are_equally_long():
    rows = np.zeros((4, 1, 2, 2), np.uint8)
    with pytest.raises(DataError, match="'x' has 4 rows of 'a' but 3 of 'b'"):
        Source("x", Spec(a=image_field(rows), b=image_field(rows)), {"a": rows, "b": rows[:3]}, "")
