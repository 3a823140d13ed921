"""The one front door to data: `open_data("digits")`, `open_data("photos/", size=64)`, `open_data("faces.npz")`."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from elegan.data import pack, store
from elegan.data.form import Form
from elegan.data.listing import Listing, Progress, silent
from elegan.data.readers import arrays, digits, fashion, files, idx, picture, stacked, toys
from elegan.data.select import Selection
from elegan.data.source import Source as Source
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


READERS: tuple[Any, ...] = (idx, arrays, files)  # the first that `reads` a path reads it
KNOWN_FORMATS = "a folder or archive of images, .npz, .npy or idx"


def known_data() -> dict[str, str]:
    """Names of data, each with one line on what it is. Opens nothing."""
    return {name: about for name, (about, _) in BUNDLED.items()}


def open_data(
    name_or_path: str | os.PathLike[str],
    *,
    split: Split = "train",
    form: Form | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Source:
    """Open bundled data by name, or a file or folder by path; a name wins (write `./digits` for a folder called so).

    split: `test` is the data's own, or what `holdout` keeps; data without either is all `train`.
    form: how to read it, or the same as options: size, fit, alpha, colour, holdout …; see `elegan.data.form.Form`.
    Many files are packed once into a store in the user's cache and found there again. progress: told how far that is.
    Errors: `DataError`, one line, if there is no such data or it is not readable; `OptionError` on a bad option;
        `NoSplitError` if there is no such split; `ResourceError` if the disk has no room.
    """
    form = Form.of(options) if form is None else form
    found = find_data(name_or_path, split=split, form=form)
    if isinstance(found, Source):
        return found
    source = _packed(found, split, progress) if len(found) > pack.FEW else pack.in_memory(found, progress)
    pack.warn_of(found, source)
    return source


def find_data(name_or_path: str | os.PathLike[str], *, split: Split = "train", form: Form) -> Source | Listing:
    """As `open_data`, but files that must be decoded are only listed, not opened."""
    name = os.fspath(name_or_path)
    if split not in ("train", "test"):
        raise OptionError(f"no split {split!r}: use 'train' or 'test'")
    selection = Selection.of(form, split)
    if name in BUNDLED:
        return selection.of_source(_formed(BUNDLED[name][1](split), form), own_split=True)
    path = Path(name).expanduser()
    if not name or not os.path.exists(path):
        raise DataError(f"no data named {name!r} and no such path.{nearest(name, BUNDLED)}")
    try:
        if store.reads(path):
            return _stored(path, name, split, form)
        reader: Reader | None = next((reader for reader in READERS if reader.reads(path)), None)
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


def cache_folder() -> Path:
    """Where packed data is kept: $ELEGAN_CACHE, or elegan/data in the user's cache. It may be deleted at any time."""
    if given := os.environ.get("ELEGAN_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "elegan" / "data"


@dataclass(frozen=True)
class Packed:
    """A store in the cache: where it lies, how large it is, what it holds."""

    path: Path
    megabytes: float
    about: str


def packed_data() -> list[Packed]:
    """The stores in the cache, the newest first."""
    found = [path for path in cache_folder().glob("*") if store.reads(path)] if cache_folder().is_dir() else []
    packed = []
    for path in sorted(found, key=lambda path: -path.stat().st_mtime):
        with suppress(DataError):
            splits = store.read_manifest(path)["splits"]
            size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
            packed.append(Packed(path, size, "; ".join(split["about"] for split in splits.values())))
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
    found: dict[str, Source | Listing] = {"train": find_data(name_or_path, form=form)}
    with suppress(NoSplitError):
        found["test"] = find_data(name_or_path, split="test", form=form)
    pack.to_store(found, path, progress, form=form)
    return "\n".join(f"{split}: {about['about']}" for split, about in store.read_manifest(path)["splits"].items())


def _packed(listing: Listing, split: Split, progress: Progress) -> Source:
    """The rows of a listing from the store in the cache, which is made if it is not there or is damaged."""
    place = cache_folder() / hashlib.sha256(f"{listing.fingerprint} {store.FORMAT}".encode()).hexdigest()[:32]
    for again in (True, False):
        try:
            if not store.reads(place):
                pack.to_store({split: listing}, place, progress, form=listing.form)
            return replace(store.read(place, name=listing.name, split=split), own_split=listing.own_split)
        except DataError as error:
            if isinstance(error, NoSplitError) or not (store.reads(place) and again):
                raise
            store.discard(place)
    raise AssertionError("unreachable")


def _stored(path: Path, name: str, split: str, form: Form) -> Source:
    """A store as it is. Errors: `OptionError` if it is asked for in another form than it was packed in."""
    asked = form.to_json()
    packed = store.read_manifest(path)["form"]
    if other := {n: v for n, v in asked.items() if packed.get(n) != v}:
        flag, value = next(iter(other.items()))
        raise OptionError(
            f"{name!r} is packed without --{flag.replace('_', '-')} {value}: leave it out, or prepare anew."
        )
    return store.read(path, name=name, split=split)


def _formed(source: Source, form: Form) -> Source:
    """Rows that need no decoding, with every image field at the form's size."""
    size = form.pixels
    if size is None:
        return source
    if not any(field.kind == "image" for field in source.spec.values()):
        raise DataError(f"{source.name!r} has no images to resize: leave --size out")
    fields, rows = dict(source.spec), dict(source.arrays)
    for name, field in fields.items():
        if field.kind == "image" and field.shape[1:] != size:
            rows[name] = picture.resize(rows[name], size, form.fit)
            fields[name] = replace(field, shape=rows[name].shape[1:])
    about = f"{source.about}, resized to {size[1]}x{size[0]}"
    return replace(source, spec=Spec(**fields), arrays=rows, about=about, sealed="")
