"""idx, the format of MNIST and Fashion-MNIST: a header of big-endian sizes, then bytes; plain, .gz or .xz.

A path is an images file (`train-images-idx3-ubyte.gz`), whose labels are found beside it by name, or a folder of such
files. Images are uint8 (N, H, W), labels uint8 (N,).
"""

import gzip
import lzma
import math
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from elegan.data.form import Form
from elegan.data.source import Source, image_field, label_field, number_labels
from elegan.errors import DataError, NoSplitError
from elegan.spec import Spec

OPENERS: dict[str, Callable[..., BinaryIO]] = {".gz": gzip.open, ".xz": lzma.open}  # type: ignore[dict-item]
IDX = re.compile(r"[-.]idx[1-4]-ubyte(\.gz|\.xz)?$")
STARTS = {"train": ("train",), "test": ("t10k", "test")}
ROOMY = 1 << 30  # bytes that may unpack from anything; beyond them, no more than
SWELL = 200  # times the size of the file, or it is taken for a bomb


def reads(path: Path) -> bool:
    """Whether this is an idx file of images, or a folder that holds one."""
    if path.is_dir():
        return any(_is_images(file) for file in path.iterdir())
    return IDX.search(path.name) is not None


def read(path: Path, *, name: str, split: str, form: Form) -> Source:
    """Images, and labels if they lie beside them. A `train` file named while `test` is asked gives its `t10k` sibling.

    Errors: `DataError` if the split is missing or a file is damaged.
    """
    images = _images_of(path, name=name, split=split)
    pixels = read_idx(images)
    if pixels.ndim != 3:
        raise DataError(f"{str(images)!r} holds an array of {pixels.ndim} axes, not images of (N, H, W)")
    pixels = pixels[:, None]  # (N, 1, H, W)
    beside = _labels_of(images)
    about = f"{len(pixels):,} grey images of {pixels.shape[3]}x{pixels.shape[2]} from {str(images)!r}"
    own = split == "test" or _has_test(path, name)
    if beside is None:
        return Source(name, Spec(real=image_field(pixels)), {"real": pixels}, about, own_split=own)
    labels, names = number_labels(str(beside), read_idx(beside))
    spec = Spec(real=image_field(pixels, classes=len(names)), label=label_field(labels, names))
    return Source(name, spec, {"real": pixels, "label": labels}, f"{about}, {len(names)} classes", own_split=own)


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an idx file, plain or compressed.

    Errors: `DataError` if it is no idx file, is cut short or too long, is damaged, or swells beyond reason.
    """
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[3] == 0:
                raise DataError(f"{str(path)!r} is not an idx file: fetch it again")
            if head[2] != 0x08:
                raise DataError(f"{str(path)!r} holds idx type {head[2]:#04x}, only bytes (0x08) are images or labels")
            shape = tuple(int.from_bytes(file.read(4), "big") for _ in range(head[3]))
            size = math.prod(shape)
            if size > ROOMY and size > SWELL * path.stat().st_size:
                raise DataError(f"{str(path)!r} claims {size:,} bytes, over {SWELL} times its size: not unpacked")
            body = bytearray(file.read(size))
            rest = file.read(1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{str(path)!r} cannot be read ({error}): fetch it again") from error
    if len(body) != size or rest:
        raise DataError(f"{str(path)!r} should hold {size:,} bytes but is cut short or too long: fetch it again")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _is_images(path: Path) -> bool:
    return "-images" in path.name and "idx3" in path.name and path.name.startswith(("train", "t10k", "test"))


def _images_of(path: Path, *, name: str, split: str) -> Path:
    """The images file of a split: in a folder, the file itself, or its sibling of the other split."""
    if path.is_dir():
        among = sorted(file for file in path.iterdir() if _is_images(file))
    elif split == "train" or path.name.startswith(STARTS[split]):
        return path
    else:
        among = [path.with_name(start + path.name.removeprefix("train")) for start in STARTS[split]]
    for file in among:
        if file.name.startswith(STARTS[split]) and file.is_file():
            return file
    raise NoSplitError(f"{name!r} has no {split} split: no file {STARTS[split][0]}-images-idx3-ubyte is there")


def _has_test(path: Path, name: str) -> bool:
    try:
        return bool(_images_of(path, name=name, split="test"))
    except NoSplitError:
        return False


def _labels_of(images: Path) -> Path | None:
    """`train-images-idx3-ubyte.gz` -> `train-labels-idx1-ubyte` beside it, compressed or not."""
    plain = images.name.removesuffix(".gz").removesuffix(".xz")
    beside = plain.replace("images", "labels").replace("idx3", "idx1")
    ends = ("", ".gz", ".xz") if beside != plain else ()
    return next((file for end in ends if (file := images.with_name(beside + end)).is_file()), None)
