"""The one front door to data: `open_data("digits")`, `open_data("photos/", size=64)`, `open_data("faces.npz")`."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from elegan.data.readers import arrays, digits, fashion, folder, idx, picture, stacked, toys
from elegan.data.source import Source as Source
from elegan.errors import DataError, OptionError, nearest
from elegan.spec import Spec

BUNDLED: dict[str, tuple[str, Callable[[str], Source]]] = {
    "digits": (digits.ABOUT, digits.read),
    "stacked-digits": (stacked.ABOUT, stacked.read),
    "fashion": (fashion.ABOUT, fashion.read),  # the one that comes from a package of the system
    **{name: (about, partial(toys.read, name)) for name, about in toys.ABOUT.items()},
}
READERS = (idx, arrays, folder)  # the first that `reads` a path reads it


def known_data() -> dict[str, str]:
    """Names of data, each with one line on what it is. Opens nothing."""
    return {name: about for name, (about, _) in BUNDLED.items()}


def open_data(
    name_or_path: str | os.PathLike[str], *, split: Literal["train", "test"] = "train", size: int | None = None
) -> Source:
    """Open bundled data by name, or a file or folder by path; a name wins (write `./digits` for a folder called so).

    split: data without a split of its own is all `train`.
    size: side in pixels; images are resized until the shorter side fits, then cropped around the centre to a square.
    Errors: `DataError`, one line, if there is no such data or it is not readable; `OptionError` on a bad split or size.
    """
    name = os.fspath(name_or_path)
    if split not in ("train", "test"):
        raise OptionError(f"no split {split!r}: use 'train' or 'test'")
    if size is not None and (type(size) is not int or size < 1):
        raise OptionError(f"--size {size!r} is not a number of pixels: use a whole number such as 64")
    if name in BUNDLED:
        return _sized(BUNDLED[name][1](split), size)
    path = Path(name).expanduser()
    if not name or not os.path.exists(path):
        raise DataError(f"no data named {name!r} and no such path.{nearest(name, BUNDLED)}")
    try:
        reader = next((reader for reader in READERS if reader.reads(path)), None)
        if reader is folder:
            return folder.read(path, name=name, split=split, size=size)
        if reader is not None:
            return _sized(reader.read(path, name=name, split=split), size)
    except OSError as error:
        raise DataError(f"{name!r} cannot be read: {error.strerror or error}") from error
    raise DataError(f"{name!r} is of no known format: use a folder of images, .npz, .npy or idx")


def _sized(source: Source, size: int | None) -> Source:
    """The source with every image field at size x size."""
    if size is None:
        return source
    if not any(field.kind == "image" for field in source.spec.values()):
        raise DataError(f"{source.name!r} has no images to resize: leave --size out")
    fields, rows = dict(source.spec), dict(source.arrays)
    for name, field in fields.items():
        if field.kind == "image" and field.shape[1:] != (size, size):
            rows[name] = picture.resize(rows[name], size)
            fields[name] = replace(field, shape=rows[name].shape[1:])
    return replace(source, spec=Spec(**fields), arrays=rows, about=f"{source.about}, resized to {size}x{size}")
