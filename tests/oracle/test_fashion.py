"""Fashion-MNIST, from small idx files in a folder, and from the real ones where they are installed."""

import gzip
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from elegan.data.readers import fashion
from elegan.data.sources import known_data, open_data
from elegan.errors import DataError

INSTALLED = fashion.PACKAGED.is_dir()
OPEN = {"": open, ".gz": gzip.open, ".xz": lzma.open}


def write(home: Path, name: str, rows: np.ndarray, end: str) -> None:
    head = struct.pack(f">HBB{rows.ndim}I", 0, 8, rows.ndim, *rows.shape)
    with OPEN[end](home / (name + end), "wb") as file:
        file.write(head + rows.astype(np.uint8).tobytes())


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ELEGAN_DATA", str(tmp_path))
    monkeypatch.setattr(fashion, "PACKAGED", tmp_path / "nowhere")
    home = tmp_path / "fashion-mnist"
    home.mkdir()
    return home


def fill(home: Path, end: str, *, labels: tuple[int, ...] = (0, 9, 9, 3), side: int = 28) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (4, side, 28), dtype=np.uint8)
    for start, rows in (("train", pixels), ("t10k", pixels[:2])):
        write(home, f"{start}-images-idx3-ubyte", rows, end)
        write(home, f"{start}-labels-idx1-ubyte", np.array(labels)[: len(rows)], end)
    return pixels


@pytest.mark.parametrize("end", OPEN)
def test_both_splits_are_read_with_their_labels_and_classes_by_name(home, end):
    pixels = fill(home, end)
    train, test = open_data("fashion"), open_data("fashion", split="test")
    np.testing.assert_array_equal(train.arrays["real"][:, 0], pixels)
    np.testing.assert_array_equal(test.arrays["real"][:, 0], pixels[:2])
    assert train.arrays["label"].tolist() == [0, 9, 9, 3]
    names = train.spec["label"].names
    assert (len(names), names[0], names[3], names[9]) == (10, "T-shirt/top", "dress", "ankle boot")
    assert train.spec["label"].counts == (1, 0, 0, 1, 0, 0, 0, 0, 0, 2)
    assert train.spec.classes == 10
    assert "4 pictures" in train.about
    assert "fashion" in known_data()


def test_the_named_folder_comes_before_the_package(home, tmp_path, monkeypatch):
    packaged = tmp_path / "packaged"
    packaged.mkdir()
    fill(packaged, ".gz", labels=(7, 7, 7, 7))
    monkeypatch.setattr(fashion, "PACKAGED", packaged)
    fill(home, "")
    assert open_data("fashion").arrays["label"].tolist() == [0, 9, 9, 3]
    monkeypatch.delenv("ELEGAN_DATA")
    assert open_data("fashion").arrays["label"].tolist() == [7, 7, 7, 7]


def broken_none(home: Path) -> None:
    home.rmdir()


def broken_labels(home: Path) -> None:
    fill(home, ".gz")
    (home / "train-labels-idx1-ubyte.gz").unlink()


def broken_class(home: Path) -> None:
    fill(home, "", labels=(0, 1, 2, 10))


def broken_size(home: Path) -> None:
    fill(home, "", side=27)


def broken_count(home: Path) -> None:
    fill(home, "", labels=(0, 1, 2))


def broken_cut(home: Path) -> None:
    fill(home, ".gz")
    path = home / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (broken_none, "install the Debian package dataset-fashion-mnist.* give a folder of them by path"),
        (broken_labels, "'fashion' lacks train-labels-idx1-ubyte"),
        (broken_class, "does not hold class numbers from 0 to 9"),
        (broken_size, r"holds an array of \(4, 27, 28\)"),
        (broken_count, "4 rows of 'real' but 3 of 'label'"),
        (broken_cut, "cannot be read"),
    ],
)
def test_what_is_absent_or_broken_is_said_in_one_line(home, breaks: Callable[[Path], None], said):
    breaks(home)
    with pytest.raises(DataError, match=said) as error:
        open_data("fashion")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not INSTALLED, reason="the Debian package dataset-fashion-mnist is not installed")
def test_the_real_ones_are_whole(monkeypatch):
    monkeypatch.delenv("ELEGAN_DATA", raising=False)
    test = open_data("fashion", split="test")
    assert test.arrays["real"].shape == (10_000, 1, 28, 28)
    assert test.spec["label"].counts == (1_000,) * 10
