"""The one front door to data: `open_data("digits")`, `open_data("photos/", size=64)`, `open_data("faces.npz")`."""

import hashlib
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from elegan.data import keep, pack, shards, store
from elegan.data.codec import ImageCodec
from elegan.data.form import Form
from elegan.data.listing import Listing, Progress, silent
from elegan.data.readers import arrays, digits, fashion, hdf5, idx, kinds, known, picture, stacked, toys
from elegan.data.select import Selection
from elegan.data.source import Source as Source
from elegan.data.tree import ARCHIVES
from elegan.errors import DataError, NoSplitError, OptionError, RunInUseError, nearest
from elegan.spec import Spec

Split = Literal["train", "test"]
BUNDLED: dict[str, tuple[str, Callable[[str], Source]]] = {
    "digits": (digits.ABOUT, digits.read),
    "stacked-digits": (stacked.ABOUT, stacked.read),
    "fashion": (fashion.ABOUT, fashion.read),  # the one that comes from a package of the system
    **{name: (about, partial(toys.read, name)) for name, about in toys.ABOUT.items()},
}


class Reader(Protocol):
    """A module of `readers/`: whether it reads a path, and what it finds there, as rows or not yet decoded."""

    def reads(self, path: Path) -> bool: ...

    def read(self, path: Path, *, name: str, split: str, form: Form) -> Source | Listing: ...


READERS: tuple[Any, ...] = (idx, arrays, hdf5, shards, kinds)  # the first that `reads` a path reads it
KNOWN_FORMATS = "a folder, archive or file of images, audio, video, text or tables, .npz, .npy, .h5, .parquet or idx"
SOLE = (*ARCHIVES, ".npz", ".npy", *hdf5.SUFFIXES)  # files that may stand for the folder they lie in
NOTES = ("readme", "license", "licence", "sha256sums", "md5sums", ".md")  # what may lie beside


def known_data() -> dict[str, str]:
    """Names of data, each with one line on what it is. Opens nothing."""
    return {name: about for name, (about, _) in BUNDLED.items()} | {n: data.about for n, data in known.NAMED.items()}


def has_name(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether this is taken for a name. One of data that is not here is, unless there is such a path."""
    name = os.fspath(name_or_path)
    data = known.named(name)
    return name in BUNDLED or (data is not None and (known.find(data) is not None or not os.path.exists(name)))


def open_data(
    name_or_path: str | os.PathLike[str],
    *,
    split: Split = "train",
    form: Form | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Source:
    """Open data by name, or a file or folder by path; a name wins (write `./digits` for a folder called so).

    split: `test` is the data's own, or what `holdout` keeps; data without either is all `train`.
    form: how to read it, or the same as options: size, fit, alpha, colour, holdout …; see `elegan.data.form.Form`.
    Many files are packed once into a store in the user's cache and found there again. progress: told how far that is.
    Errors: `DataError`, one line, if there is no such data or it is not readable; `OptionError` on a bad option;
        `NoSplitError` if there is no such split; `ResourceError` if the disk has no room.
    """
    form = Form.of(options) if form is None else form
    found = find_data(name_or_path, split=split, form=form, progress=progress)
    if isinstance(found, Source):
        return found
    source = _packed(found, split, progress) if len(found) > pack.FEW else pack.in_memory(found, progress)
    pack.warn_of(found, source)
    return source


def find_data(
    name_or_path: str | os.PathLike[str], *, split: Split = "train", form: Form, progress: Progress = silent
) -> Source | Listing:
    """As `open_data`, but files that must be decoded are only listed, not opened."""
    name = os.fspath(name_or_path)
    if split not in ("train", "test"):
        raise OptionError(f"no split {split!r}: use 'train' or 'test'")
    if form.stream and (has_name(name) or (os.path.exists(name) and not shards.reads(Path(name)))):
        raise OptionError(f"--stream is for folders of tars such as x-000000.tar, which {name!r} is not: leave it out.")
    selection = Selection.of(form, split)
    if name in BUNDLED:
        return selection.of_source(_formed(BUNDLED[name][1](split), form), own_split=True)
    path = Path(name).expanduser()
    readers: tuple[Any, ...] = READERS
    if has_name(name):
        path, readers = known.home(name), (known,)
    if not name or not os.path.exists(path):
        raise DataError(f"no data named {name!r} and no such path.{nearest(name, known_data())}")
    try:
        path = path if shards.reads(path) else _sole(path)
        if store.reads(path):
            return _stored(path, name, split, form, progress)
        if form.stream:
            return shards.stream(path, name=name, split=split, form=form, progress=progress)
        reader: Reader | None = next((reader for reader in readers if reader.reads(path)), None)
        if reader is None:
            raise DataError(f"{name!r} is of no known format: use {KNOWN_FORMATS}")
        try:
            found = reader.read(path, name=name, split=split, form=form)
        except NoSplitError:
            if split == "train" or not form.holdout:
                raise
            found = reader.read(path, name=name, split="train", form=form)
    except OSError as error:
        raise DataError(f"{name!r} cannot be read: {error.strerror or error}") from error
    if isinstance(found, Listing):
        return selection.of_listing(found)
    return selection.of_source(_formed(found, form), own_split=found.own_split)


def few(name_or_path: str | os.PathLike[str], count: int, *, form: Form) -> Source:
    """At most so many samples, from all over the data; of files, no others are decoded."""
    found = find_data(name_or_path, form=form)
    if isinstance(found, Listing):
        spread = {stream: those[:: max(1, len(those) // count)][:count] for stream, those in found.streams.items()}
        return pack.in_memory(replace(found, streams=spread))
    kept = {name: rows[:: max(1, len(rows) // count)][:count] for name, rows in found.arrays.items()}
    return replace(found, arrays=kept, sealed="", names=())


@dataclass(frozen=True)
class Packed:
    """A store in the cache: where it lies, how large it is, what it holds."""

    path: Path
    megabytes: float
    about: str


def packed_data() -> list[Packed]:
    """The stores in the cache, the newest first, and what is left of those that were never finished."""
    home = store.cache_folder()
    found = [path for path in home.glob("[!.]*") if store.reads(path)] if home.is_dir() else []
    packed = []
    for path in sorted(found, key=lambda path: -path.stat().st_mtime):
        with suppress(DataError):
            splits = store.read_manifest(path)["splits"]
            size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
            packed.append(Packed(path, size, "; ".join(split["about"] for split in splits.values())))
    for path in home.glob(".*.part"):
        size = sum(file.stat().st_size for file in path.rglob("*")) / 1e6
        packed.append(Packed(path, size, "unfinished; opening its data again goes on with it"))
    return packed


def prepare(
    name_or_path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    form: Form,
    progress: Progress = silent,
) -> str:
    """Pack every split of some data into a new store at `out`; one that was begun is gone on with. What it holds.

    Errors: as `open_data`; `RunInUseError` if there is something at `out`.
    """
    path = Path(out).expanduser()
    if os.path.lexists(path):
        raise RunInUseError(f"{str(path)!r} is there already; choose another directory for the store.")
    if form.stream:
        raise OptionError("--stream reads tars as they lie, without packing: leave it out to pack them.")
    found: dict[str, Source | Listing] = {"train": find_data(name_or_path, form=form)}
    with suppress(NoSplitError):
        found["test"] = find_data(name_or_path, split="test", form=form)
    source = Path(name_or_path).expanduser()
    again = not has_name(name_or_path) and store.reads(source)
    packed = store.read_manifest(source)["form"] if again else form.to_json()
    keep.to_store(found, path, progress, form=packed)
    return "\n".join(f"{split}: {about['about']}" for split, about in store.read_manifest(path)["splits"].items())


def _packed(listing: Listing, split: Split, progress: Progress) -> Source:
    """The rows of a listing from the store in the cache, which is made if it is not there or is damaged; from memory
    if the cache cannot be written."""
    key = f"{split} {listing.fingerprint} {store.FORMAT}"
    place = store.cache_folder() / hashlib.sha256(key.encode()).hexdigest()[:32]
    if not store.reads(place) and (reason := store.unwritable(place.parent)):
        where = f"{str(place.parent)!r} cannot be written ({reason})"
        warnings.warn(f"{where}, so {listing.name!r} is decoded into memory each time", stacklevel=3)
        return pack.in_memory(listing, progress)

    def make() -> None:
        keep.to_store({split: listing}, place, progress, form=listing.form.to_json())

    def read() -> Source:
        return store.read(place, name=listing.name, split=split, progress=progress)

    return replace(store.kept(place, make, read), own_split=listing.own_split)


def _sole(path: Path) -> Path:
    """The one file of a folder that holds nothing else but notes, if that is an archive or of arrays."""
    if not path.is_dir():
        return path
    files = [file for file in path.iterdir() if not file.name.startswith(".") and not _is_note(file)]
    return files[0] if len(files) == 1 and files[0].is_file() and files[0].name.lower().endswith(SOLE) else path


def _is_note(file: Path) -> bool:
    return file.name.lower().startswith(NOTES[:-1]) or file.name.lower().endswith(NOTES[-1])


def _stored(path: Path, name: str, split: str, form: Form, progress: Progress) -> Source:
    """A store as it is. Errors: `OptionError` if it is asked for in another form than it was packed in."""
    asked = form.to_json()
    packed = store.read_manifest(path)["form"]
    if other := {n: v for n, v in asked.items() if packed.get(n) != v}:
        flag, value = next(iter(other.items()))
        raise OptionError(
            f"{name!r} is packed without --{flag.replace('_', '-')} {value}: leave it out, or prepare anew."
        )
    source = store.read(path, name=name, split=split, progress=progress)
    if not source.spec:
        raise DataError(f"{name!r} says only where samples lie in tars: open the folder of the tars")
    return source


def _formed(source: Source, form: Form) -> Source:
    """Rows that need no decoding, with every image field in the form's size, bits and colours."""
    size, fields, rows = form.pixels, dict(source.spec), dict(source.arrays)
    if size is not None and not any(field.kind == "image" for field in fields.values()):
        raise DataError(f"{source.name!r} has no images to resize: leave --size out")
    for name, field in source.spec.items():
        if field.kind == "image":
            rows[name] = picture.formed(rows[name], form, repr(source.name))
        if rows[name] is not source.arrays[name]:
            codec = ImageCodec.fit(rows[name]).to_json()
            fields[name] = replace(field, shape=rows[name].shape[1:], about={**field.about, **codec})
    if all(rows[name] is source.arrays[name] for name in rows):
        return source
    about = source.about if size is None else f"{source.about}, resized to {size[1]}x{size[0]}"
    return replace(source, spec=Spec(**fields), arrays=rows, about=about, sealed="")
