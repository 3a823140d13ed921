"""Arrays: .npy with one field, .npz with several. Pickled objects are refused, nothing in a file is run.

Images
    uint8, uint16 or floats (N, H, W), (N, C, H, W) or (N, H, W, C), kept as they are, floats as float32. The channel
    axis is the one, of axis 1 and the last, that is 1 to 4 long, or at most half as long as the other two; if both or
    neither is, the file is refused. No channel is taken for alpha.
Vectors
    floats (N, D), kept as float32.
Keys of a .npz
    `real`, `x`, `images` or `data`, with `label`, `y` or `labels` if there are labels; or `a` and `b` for two domains,
    paired row by row if they are equally long, else unpaired; or any key if it is the only one. Splits are keys that
    begin with `train_` and `test_` or end with `_train` and `_test`; a file without them is all `train`.
"""

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from elegan.data.form import Form
from elegan.data.source import Source, image_field, label_field, number_labels, vector_field
from elegan.errors import DataError, NoSplitError
from elegan.spec import Field, Spec

REAL = ("real", "x", "images", "data")
LABEL = ("label", "y", "labels")
ROOMY = 1 << 30  # bytes that may unpack from anything; beyond them, no more than
SWELL = 200  # times the size of the entry, or it is taken for a bomb


def reads(path: Path) -> bool:
    return path.suffix.lower() in (".npy", ".npz")


def read(path: Path, *, name: str, split: str, form: Form) -> Source:
    """The fields of a file, as the module says.

    Errors: `DataError` if the file is damaged, holds objects, or its arrays are not as the module says.
    """
    return of_keys(_keys(path, name=name), lambda key: _load(path, key, name=name), path, name=name, split=split)


def of_keys(keys: list[str], load: Callable[[str], np.ndarray], path: Path, *, name: str, split: str) -> Source:
    """The fields of arrays that have keys, of which only those that are wanted are loaded. Errors: as `read`."""
    (real, label), own = chosen_keys(keys, name=name, split=split), has_test(keys)
    if len(real) == 2:
        return replace(_two(real, load, path, name=name), own_split=own)
    labels = None if label is None else number_labels(name, load(label))
    return replace(of_rows(load(real[0]), labels, path, real[0], name=name), own_split=own)


def of_rows(
    raw: np.ndarray, labels: tuple[np.ndarray, tuple[str, ...]] | None, path: Path, key: str, *, name: str
) -> Source:
    """An array as found, with class numbers and the names of the classes if there are any. Errors: as `read`."""
    rows = rows_of(raw, f"{name!r}, {key!r}")
    if labels is None:
        field = _field(rows)
        return Source(name, Spec(real=field), {"real": rows}, _about(field, rows, path))
    numbers, names = labels
    field = _field(rows, classes=len(names))
    spec = Spec(real=field, label=label_field(numbers, names))
    return Source(name, spec, {"real": rows, "label": numbers}, f"{_about(field, rows, path)}, {len(names)} classes")


def chosen_keys(keys: list[str], *, name: str, split: str) -> tuple[list[str], str | None]:
    """Which keys are the samples of a split, or its `a` and `b`, and which is the labels.

    Errors: `DataError` if they do not say; `NoSplitError` if there is no such split.
    """
    wanted = {key: key for key in keys}  # plain key -> key in the file
    if parts := {plain: key for key in keys if (plain := _without(split, key)) != key}:
        wanted = parts
    elif split == "test" or has_test(keys):
        raise NoSplitError(f"{name!r} has no {split} split: it holds {_list(keys)}")
    real = [key for key in REAL if key in wanted]
    if not real and "a" in wanted and "b" in wanted:
        return [wanted["a"], wanted["b"]], None
    if not real and len(wanted) == 1:
        real = list(wanted)
    label = [key for key in LABEL if key in wanted and key not in real]
    if len(real) != 1 or len(label) > 1:
        what, key = ("samples", "real") if len(real) != 1 else ("labels", "label")
        raise DataError(f"{name!r}: which of {_list(keys)} are the {what}? Save them under the key {key!r}")
    return [wanted[real[0]]], wanted[label[0]] if label else None


def has_test(keys: list[str]) -> bool:
    """Whether keys name a test split."""
    return any(_without("test", key) != key for key in keys)


def _two(keys: list[str], load: Callable[[str], np.ndarray], path: Path, *, name: str) -> Source:
    arrays = {field: rows_of(load(key), f"{name!r}, {key!r}") for field, key in zip("ab", keys, strict=True)}
    paired = len(arrays["a"]) == len(arrays["b"])
    fields = {field: _field(rows, stream="main" if paired else field) for field, rows in arrays.items()}
    about = f"{_about(fields['a'], arrays['a'], path)} with {len(arrays['b']):,} {'' if paired else 'un'}paired others"
    return Source(name, Spec(**fields), arrays, about)


def _without(split: str, key: str) -> str:
    """`train_images` or `images_train` -> `images`."""
    return key.removeprefix(f"{split}_").removesuffix(f"_{split}")


def _keys(path: Path, *, name: str) -> list[str]:
    """The keys of a .npz; a .npy has the one key `real`. Unpacks nothing."""
    if path.suffix.lower() == ".npy":
        return ["real"]
    try:
        with zipfile.ZipFile(path) as packed:
            entries = packed.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(f"{name!r} is no whole .npz file ({_line(error)}): save it again with numpy") from error
    for entry in entries:
        if entry.file_size > ROOMY and entry.file_size > SWELL * entry.compress_size:
            raise DataError(f"{name!r}: {entry.filename!r} unpacks to {entry.file_size:,} bytes: not unpacked")
    return [entry.filename.removesuffix(".npy") for entry in entries]


def _load(path: Path, key: str, *, name: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = np.load(path, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                return np.asarray(loaded[key])
    except Exception as error:  # numpy and zlib fed damaged bytes raise what they like
        if "pickle" in str(error):
            raise DataError(f"{name!r} is no plain array; pickles are never loaded: save numbers with numpy") from error
        raise DataError(f"{name!r}: {key!r} cannot be read ({_line(error)}): save it again with numpy") from error


def rows_of(raw: np.ndarray, where: str) -> np.ndarray:
    """An array as found -> uint8, uint16 or float32 (N, C, H, W), or float32 (N, D), by the rules of the module."""
    if not raw.size:
        raise DataError(f"{where}: an array of shape {raw.shape} holds no samples")
    raw = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    if raw.dtype.kind == "f":
        raw = _finite(raw, where)
        if raw.ndim == 2:
            return np.ascontiguousarray(raw)
    elif raw.dtype.kind != "u" or raw.dtype.itemsize > 2:
        raise DataError(f"{where}: {raw.dtype} is neither uint8, uint16 or float images nor float vectors: convert it")
    if raw.ndim not in (3, 4):
        raise DataError(f"{where}: {raw.dtype} of shape {raw.shape} is no set of images: reshape it to (N, C, H, W)")
    if raw.ndim == 3:
        return np.ascontiguousarray(raw[:, None])  # (N, 1, H, W)
    first, last = (_channels(raw.shape[axis], raw.shape[2], raw.shape[4 - axis]) for axis in (1, 3))
    if first == last:
        both = "axis 1 and axis 3 could both be" if first else "neither axis 1 nor axis 3 is"
        raise DataError(
            f"{where}: in shape {raw.shape} {both} channels, 1 to 4 or at most half of the sides: "
            "save it as (N, C, H, W) with larger sides, or as one array for each channel"
        )
    return np.ascontiguousarray(raw if first else raw.transpose(0, 3, 1, 2))


def _channels(length: int, *sides: int) -> bool:
    """Whether an axis is short enough to be that of channels."""
    return length <= 4 or 2 * length <= min(sides)


def _finite(raw: np.ndarray, where: str) -> np.ndarray:
    if not np.isfinite(raw).all():
        raise DataError(f"{where}: there are values that are not finite: drop or fill those samples")
    with np.errstate(over="ignore"):
        rows = raw.astype(np.float32, copy=False)
    if rows is not raw and not np.isfinite(rows).all():
        raise DataError(f"{where}: there are values beyond the range of float32: rescale them")
    return rows


def _field(rows: np.ndarray, *, classes: int = 0, stream: str = "main") -> Field:
    make = image_field if rows.ndim == 4 else vector_field
    return make(rows, classes=classes, stream=stream)


def _about(field: Field, rows: np.ndarray, path: Path) -> str:
    kind = f"images of {rows.shape[3]}x{rows.shape[2]}" if field.kind == "image" else f"vectors of {rows.shape[1]}"
    return f"{len(rows):,} {kind} from {str(path)!r}"


def _list(keys: list[str]) -> str:
    return ", ".join(repr(key) for key in keys) or "nothing"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
