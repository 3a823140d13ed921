"""HDF5: a file of arrays, with the keys, shapes and types of `arrays`; `train/images` is the key `train_images`.

Images of more than `LARGE` bytes are not loaded: they go row by row into a packed store. Links, data that lies in other
files, and arrays of objects, texts or records are passed over: nothing but this file is read.
"""

import contextlib
import os
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np

from elegan.data.form import Form
from elegan.data.listing import Listing, Sample
from elegan.data.readers.arrays import chosen_keys, has_test, of_keys
from elegan.data.readers.rows import Numbers, Rows
from elegan.data.source import Source, number_labels
from elegan.errors import DataError

SUFFIXES = frozenset({".h5", ".hdf5", ".hdf"})
LARGE = 1 << 28  # bytes of an array that is not loaded whole
DEEP = 8  # groups within groups
CACHE = 1 << 26  # bytes of unpacked chunks that are kept
ROOMY = 1 << 30  # bytes that may unpack from anything; beyond them, no more than
SWELL = 200  # times what is stored, or it is taken for a bomb


def reads(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def read(path: Path, *, name: str, split: str, form: Form) -> Source | Listing:
    """The fields of a file, as the module says.

    Errors: `DataError` if the file is damaged, or its arrays are not as the module says.
    """
    try:
        import h5py
    except ImportError:
        raise DataError(f'{name!r} needs a library to be read: pip install "elegan[science]"') from None
    try:
        file = h5py.File(path, "r", rdcc_nbytes=CACHE)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{name!r} is no whole HDF5 file ({_line(error)}): fetch or save it again") from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(file)
        try:
            passed: list[tuple[str, str]] = []
            held = {key.strip("/").replace("/", "_"): data for key, data in _arrays(file["/"], "", set(), passed)}
        except Exception as error:  # the library fed damaged bytes raises what it likes
            raise DataError(f"{name!r} is damaged ({_line(error)}): fetch or save it again") from error
        if not held:
            note = f"; passed over: {passed[0][0]!r} ({passed[0][1]})" if passed else ""
            raise DataError(f"{name!r} holds no arrays{note}: save numbers under the key 'real'")
        keys = sorted(held)
        real, label = chosen_keys(keys, name=name, split=split)
        if len(real) == 1 and held[real[0]].ndim > 2 and held[real[0]].nbytes > LARGE:
            listing = _large(path, held, real[0], label, name=name, form=form, own=has_test(keys))
            stack.pop_all()  # its rows are read later
            return listing
        return of_keys(keys, lambda key: _load(held[key], key, name=name), path, name=name, split=split)


def _arrays(group: Any, base: str, seen: Set[Any], passed: list[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    """The arrays of a group and of those in it, each with its path; what is there and not read goes to `passed`."""
    import h5py

    above = seen | {group.id}
    for key in group:
        where = f"{base}/{key}"
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            passed.append((where, "a link"))
            continue
        item = group[key]
        if isinstance(item, h5py.Group):
            if item.id not in above and where.count("/") < DEEP:  # a group may lie in itself
                yield from _arrays(item, where, above, passed)
        elif isinstance(item, h5py.Dataset):
            if reason := _unwanted(item):
                passed.append((where, reason))
            else:
                yield where, item


def _unwanted(data: Any) -> str:
    if data.external or data.is_virtual:
        return "it lies in other files"
    if data.shape is None or data.dtype.kind not in "biuf":
        return f"{data.dtype} is no array of numbers"
    if data.nbytes > ROOMY and data.nbytes > SWELL * data.id.get_storage_size():
        return f"it claims {data.nbytes:,} bytes, over {SWELL} times what is stored"
    return ""


def _load(data: Any, key: str, *, name: str) -> np.ndarray:
    try:
        return np.asarray(data[()])
    except Exception as error:  # as above
        raise DataError(f"{name!r}: {key!r} cannot be read ({_line(error)}): fetch or save it again") from error


def _large(
    path: Path, held: dict[str, Any], real: str, label: str | None, *, name: str, form: Form, own: bool
) -> Listing:
    """Images too many to be loaded, as a listing of rows. Labels are loaded."""
    data = held[real]
    row_bytes = data.dtype.itemsize * int(np.prod(data.shape[1:], dtype=np.int64))
    about = os.stat(path)
    tree = Rows(
        str(path), len(data), f"{real} {about.st_mtime_ns} {about.st_size}", row_bytes, lambda k: data[k].tobytes()
    )
    labels, classes = (None, ())
    if label is not None:
        labels, classes = number_labels(name, _load(held[label], label, name=name))
        if len(labels) != len(data):
            raise DataError(f"{name!r} has {len(data)} rows of {real!r} but {len(labels)} of {label!r}: label each")
    decoder = Numbers(data.shape[1:], data.dtype.str, form)
    decoder.settle([], name=name)  # what is no set of images is refused before anything is read
    samples = [Sample(e.path, ((e,),), -1 if labels is None else int(labels[e.place])) for e in tree.entries]
    return Listing(
        name, tree, form, {"main": samples}, {"main": ("real",)}, {"real": decoder}, classes,
        f"from {str(path)!r}", (), own_split=own,
    )  # fmt: skip


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
