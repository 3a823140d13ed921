"""Shards: a folder of numbered tars, as WebDataset writes them, packed like any other source or streamed as they lie.

    name-000000.tar, name-000001.tar …      in the folder, or in its folders train/ and test/ (or val/)
    name-train-000000.tar, name-val-000000.tar    splits by the end of the name before the number

A sample is the files of one tar that share a folder and a name up to its first dot: an image (`7.jpg`) and its class, a
whole number: the text of `7.cls`, or of `7.txt`, or `label` or `cls` in the object of `7.json`. One has a class or none
has. A text that is no number is a caption, and passed over, as is a sample without an image. Folders within a tar mean
nothing; for classes by folders, unpack.

Streamed, the tars are walked through once to know where each image lies (kept in the cache), and the layout is settled
by `LOOKED` images from all over. A sample that cannot be read when its turn comes gives way to the next of its class in
its tar that can: so the order depends on nothing but the seed. It is told once; more than a tenth is an error.
"""

import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from elegan.data import pack, store
from elegan.data.form import Form
from elegan.data.listing import Decoder, Layout, Listing, Progress, Sample
from elegan.data.readers import picture
from elegan.data.readers.picture import Pictures
from elegan.data.source import Source, blocks_of, label_field, seal
from elegan.data.tree import Entry, Tar
from elegan.errors import DataError, NoSplitError, OptionError
from elegan.spec import Spec

NUMBERED = re.compile(r"(.*?)[-_.]?\d{5,}\.tar", re.DOTALL)
TESTS = ("test", "val", "valid", "validation")  # the first there is is the test split
LABEL_BYTES = 1 << 20  # a longer file holds no class number
LOOKED = 256
INDEX = Layout((5,), "<i8")  # tar, place of the image in it, bytes, class or -1, a hash of its name, time and header
VERSION = 1  # raised whenever the same tars give another index
RECENT = 4  # batches that may be read ahead and not asked for


def reads(path: Path) -> bool:
    return path.is_dir() and any(_splits(path).values())


def read(path: Path, *, name: str, split: str, form: Form) -> Listing:
    """The samples of the tars of a split, to be packed. Opens no image.

    Errors: `DataError` if a tar is damaged or has no images, or if classes are missing; `NoSplitError`.
    """
    own, tars = _tars(path, name, split, form)
    shelf = Shelf(path, tars)
    samples = [sample for tar in tars for sample in shelf.samples(tar)]
    classes = _classes(name, np.array([sample.label for sample in samples]))
    what = f"from {len(tars)} tar{'s' * (len(tars) > 1)} in {str(path)!r}"
    return Listing(
        name, shelf, form, {"main": samples}, {"main": ("real",)}, {"real": Pictures(form)}, classes, what,
        shelf.passed, own_split=own,
    )  # fmt: skip


def stream(path: Path, *, name: str, split: str, form: Form, progress: Progress) -> Source:
    """The samples of the tars of a split as a source that reads them when they are asked for.

    Errors: as `read`, and `OptionError` on what cannot be had of a stream.
    """
    if form.holdout or form.without:
        flag = "holdout" if form.holdout else "without"
        raise OptionError(f"--{flag} needs the names of all samples, which a stream does not hold: leave out --stream.")
    own, tars = _tars(path, name, split, form)
    index, sealed = _index(tars, progress)
    decoder = Pictures(form)
    layout, low, high = _settled(name, tars, index, decoder)
    rows, labels = Streamed(name, tars, index, decoder, layout), np.ascontiguousarray(index[:, 3])
    classes = _classes(name, labels)
    fields = {"real": replace(decoder.field(layout, low, high), classes=len(classes))}
    arrays = {"real": cast(np.ndarray, rows)}
    if classes:
        fields["label"], arrays["label"] = label_field(labels, classes), labels
    about = (
        f"{len(index):,} images of {layout.shape[2]}x{layout.shape[1]} streamed from {len(tars)} tars in {str(path)!r}"
    )
    about += f", {len(classes)} classes" if classes else ""
    names = " ".join(tar.name for tar in tars)
    sealed = hashlib.sha256(f"{sealed} {names} {decoder!r} {layout!r}".encode("utf-8", "surrogateescape")).hexdigest()
    cuts = np.searchsorted(index[:, 0], np.arange(len(tars))).tolist()
    return Source(name, Spec(**fields), arrays, about, sealed, own_split=own, cuts=cuts)


def _splits(path: Path) -> dict[str, list[Path]]:
    """The numbered tars of a folder, by split; those without are `train`."""
    found: dict[str, list[Path]] = {"train": [], "test": []}
    by_split: dict[str, list[Path]] = {}
    for folder in (path, *(path / split for split in ("train", *TESTS))):
        for file in sorted(folder.glob("*.tar")) if folder.is_dir() else ():
            if (numbered := NUMBERED.fullmatch(file.name)) and not file.name.startswith("."):
                end = re.split(r"[-_.]", numbered[1])[-1]
                by_split.setdefault(folder.name if folder != path else end if end in TESTS else "train", []).append(
                    file
                )
    test = next((split for split in TESTS if split in by_split), None)
    found["train"] = by_split.get("train", [])
    found["test"] = by_split[test] if test else []
    return found


def _tars(path: Path, name: str, split: str, form: Form) -> tuple[bool, list[Path]]:
    """Whether there is a test split, and the tars of the split asked for."""
    for option in ("kind", "sides"):
        if getattr(form, option) not in ("auto", "image", False):
            raise OptionError(f"--{option} is not for tars of samples such as {name!r}, which hold one image each.")
    found = _splits(path)
    if not found[split]:
        raise NoSplitError(f"{name!r} has no {split} split: there is no tar such as {split}-000000.tar")
    return bool(found["train"] and found["test"]), found[split]


class Shelf:
    """The samples of several tars; a tree without a list of all its files."""

    def __init__(self, path: Path, tars: Sequence[Path]):
        self.root = str(path)
        self.entries: tuple[Entry, ...] = ()
        self.passed: tuple[tuple[str, str], ...] = ()
        self._home = {str(tar.relative_to(path)): tar for tar in tars}
        self._name = {tar: name for name, tar in self._home.items()}

    def samples(self, tar: Path) -> list[Sample]:
        """The samples of one tar, in the order of their names. Errors: `DataError` if it has none, or is damaged."""
        held = Tar(tar)
        try:
            self.passed += tuple((f"{self._name[tar]}/{path}", reason) for path, reason in held.passed)
            grouped: dict[tuple[str, ...], dict[str, Entry]] = {}
            for entry in held.entries:
                stem, _, end = entry.parts[-1].partition(".")
                grouped.setdefault((*entry.parts[:-1], stem), {})[end.lower()] = entry
            samples = []
            for files in grouped.values():
                image = next((entry for entry in files.values() if entry.suffix in picture.SUFFIXES), None)
                if image is not None:
                    shelved = replace(image, parts=(self._name[tar], *image.parts))
                    samples.append(Sample(shelved.path, ((shelved,),), _label(held, files)))
        finally:
            held.close()
        if not samples:
            raise DataError(f"{str(tar)!r} holds no images: fill it or take it away")
        return samples

    def open(self, entry: Entry) -> BinaryIO:
        return _read_at(self._home[entry.parts[0]], entry.place, entry.size)


def _read_at(tar: Path, place: int, size: int) -> BinaryIO:
    """Errors: `ValueError` if the tar ends before."""
    with tar.open("rb", buffering=0) as file:
        content = os.pread(file.fileno(), size, place)
    if len(content) != size:
        raise ValueError("its tar is cut short")
    return io.BytesIO(content)


def _label(tar: Tar, files: Mapping[str, Entry]) -> int:
    """The class of a sample, -1 if it has none. Errors: `DataError` if what must be a class is none."""
    for end in ("cls", "txt", "json"):
        if end not in files:
            continue
        entry, number = files[end], None
        if entry.size <= LABEL_BYTES:
            with tar.open(entry) as file:
                number = _number(file.read(), end)
        if number is not None:
            return number
        if end == "cls":
            raise DataError(f"{entry.path!r} in {tar.root!r} is no class, a whole number from 0: mend it")
    return -1


def _number(content: bytes, end: str) -> int | None:
    try:
        if end != "json":
            return int(content) if re.fullmatch(rb"\s*\d{1,9}\s*", content) else None
        said = json.loads(content)
        number = said.get("label", said.get("cls")) if isinstance(said, dict) else None
    except (ValueError, RecursionError):
        return None
    return number if type(number) is int and 0 <= number < 10**9 else None


def _classes(name: str, labels: np.ndarray) -> tuple[str, ...]:
    """Names of the classes, which are their numbers; none if no sample has one."""
    if (labels < 0).all():
        return ()
    if (labels < 0).any():
        raise DataError(
            f"{name!r}: {int((labels < 0).sum()):,} of {len(labels):,} samples have no class: add x.cls files"
        )
    top = int(labels.max())
    missing = np.flatnonzero(np.bincount(labels) == 0) if top < 2 * len(labels) else [0]
    if len(missing):
        raise DataError(
            f"{name!r}: no sample has class {missing[0]} while classes go up to {top}: renumber them from 0"
        )
    return tuple(str(number) for number in range(top + 1))


def _index(tars: Sequence[Path], progress: Progress) -> tuple[np.ndarray, str]:
    """Where each sample lies (N, 5), see `INDEX`, mapped from the cache, where it is made once; and its fingerprint."""
    stats = [(str(tar.resolve()), tar.stat().st_size, tar.stat().st_mtime_ns) for tar in tars]
    key = hashlib.sha256(repr((VERSION, stats)).encode("utf-8", "surrogateescape")).hexdigest()
    place = store.cache_folder() / f"index-{key[:32]}"
    if not store.reads(place) and store.unwritable(place.parent):
        index = np.concatenate(list(_walked(tars, progress)))
        return index, seal({"index": (index.dtype.str, index.shape, blocks_of(index))})

    def make() -> None:
        with store.being_written(place, progress) as part:
            if part is None:
                return
            with part.column("train", "index", INDEX) as column:
                for rows in _walked(tars, progress):
                    column.append(rows)
                made = column.finish()
            about = f"where {column.rows:,} samples lie in {len(tars)} tars of {str(tars[0].parent)!r}"
            held = {"about": about, "spec": {}, "fields": {"index": made}, "left_out": []}
            store.publish(part, place, {"name": "", "form": {}, "splits": {"train": held}})

    source = store.kept(place, make, lambda: store.read(place, name="index", split="train"))
    return source.arrays["index"], source.fingerprint


def _walked(tars: Sequence[Path], progress: Progress) -> Iterator[np.ndarray]:
    """The part of the index on each tar."""
    for number, tar in enumerate(tars):
        rows = []
        for sample in Shelf(tar.parent, [tar]).samples(tar):
            ((entry,),) = sample.parts
            about = f"{sample.name} {entry.stamp}".encode("utf-8", "surrogateescape")
            seal = int.from_bytes(hashlib.blake2b(about, digest_size=8).digest(), "big", signed=True)
            rows.append((number, entry.place, entry.size, sample.label, seal))
        yield np.array(rows, np.int64)
        progress("looking through tars", number + 1, len(tars))


def _settled(name: str, tars: Sequence[Path], index: np.ndarray, decoder: Decoder) -> tuple[Layout, float, float]:
    """The layout of all images by some from all over, and the least and the greatest of their values.

    Errors: `DataError` if none can be read, or sizes are mixed and none is asked for.
    """
    those = np.unique(np.linspace(0, len(index) - 1, min(len(index), LOOKED)).astype(np.int64))
    looks, reason = [], ""
    for k in those:
        tar, place, size = index[k, :3].tolist()
        try:
            looks.append((_name_at(tars[tar], place), decoder.look([_read_at(tars[tar], place, size)])))
        except Exception as error:  # decoders fed damaged bytes raise what they like
            reason = reason or pack.reason_of(error)
    if not looks:
        raise DataError(f"{name!r}: none of {len(those)} images from all over can be read ({reason}): mend them")
    layout = decoder.settle(looks, name=name)
    if layout.dtype != "float32":
        return layout, 0.0, 0.0
    spreads = [pack.spread(row) for row in Streamed(name, tars, index, decoder, layout)[those]]
    return layout, min(low for low, _ in spreads), max(high for _, high in spreads)


def _name_at(tar: Path, place: int) -> str:
    """The name of what lies at a place in a tar, as its header has it."""
    with tar.open("rb") as file:
        file.seek(max(0, place - 512))
        return f"{tar.name}/{file.read(100).split(bytes(1))[0].decode('utf-8', 'replace')}"


class Streamed:
    """Images in tars that look like an array (N, C, H, W) where rows are asked for, and are read and decoded then, by
    several threads. What is expected next is read ahead."""

    def __init__(self, name: str, tars: Sequence[Path], index: np.ndarray, decoder: Decoder, layout: Layout):
        warnings.filterwarnings("ignore", module=r"PIL\.")  # on odd metadata; `quiet` is for one thread only
        self._name, self._tars, self._index, self._decoder, self._layout = name, tars, index, decoder, layout
        self.shape, self.dtype = (len(index), *layout.shape), np.dtype(layout.dtype)
        self.ndim, self.nbytes = len(self.shape), len(index) * layout.row_bytes
        self._pool = ThreadPoolExecutor(pack.cores())
        self._ahead: dict[int, Future[tuple[np.ndarray, dict[int, str]]]] = {}
        self._bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, which: slice | np.ndarray | int) -> np.ndarray:
        """The rows of numbers or a slice, read now or already. Errors: `DataError` if too many cannot be read."""
        if isinstance(which, (int, np.integer)):
            return self[np.array([which])][0]
        rows = np.empty((len(places := np.arange(len(self))[which]), *self.shape[1:]), self.dtype)
        asked = [self._ahead.pop(k, None) or self._pool.submit(self._row, k) for k in places.tolist()]
        for row, future in zip(rows, asked, strict=True):
            row[:], faults = future.result()
            self._tell(faults)
        return rows

    def expect(self, places: np.ndarray) -> None:
        """Begin to read rows that will be asked for. What was expected long ago and never asked for is dropped."""
        for k in places.tolist():
            if k not in self._ahead:
                self._ahead[k] = self._pool.submit(self._row, k)
        while len(self._ahead) > RECENT * len(places):
            self._ahead.pop(next(iter(self._ahead))).cancel()

    def _row(self, k: int) -> tuple[np.ndarray, dict[int, str]]:
        """A row, or that of the next of its class in its tar that can be read; and why others could not."""
        faults: dict[int, str] = {}
        for other in self._instead(k):
            tar, place, size = self._index[other, :3].tolist()
            try:
                row = self._decoder.read([_read_at(self._tars[tar], place, size)], self._layout)
                if row.shape != self._layout.shape:
                    raise ValueError(f"it is {row.shape[2]}x{row.shape[1]}, others are not: use --size 64")
                if row.dtype.kind == "f" and not np.isfinite(row).all():
                    raise ValueError("there are values that are not finite")
                return row, faults
            except Exception as error:  # decoders fed damaged bytes raise what they like
                faults[other] = pack.reason_of(error)
        tar = self._tars[int(self._index[k, 0])]
        raise DataError(
            f"{str(tar)!r}: no image like {_name_at(tar, int(self._index[k, 1]))!r} can be read: fetch it again"
        )

    def _instead(self, k: int) -> Iterator[int]:
        yield k
        first, end = np.searchsorted(self._index[:, 0], [self._index[k, 0], self._index[k, 0] + 1]).tolist()
        alike = first + np.flatnonzero(self._index[first:end, 3] == self._index[k, 3])
        yield from np.roll(alike, -1 - int(np.searchsorted(alike, k))).tolist()[:-1]

    def _tell(self, faults: Mapping[int, str]) -> None:
        for k, reason in faults.items():
            if k in self._bad:
                continue
            self._bad[k] = reason
            tar, place = self._index[k, :2].tolist()
            which = f"{_name_at(self._tars[tar], place)!r} ({reason})"
            if len(self._bad) > max(1, pack.BAD * len(self)):
                raise DataError(
                    f"{self._name!r}: over {pack.BAD:.0%} of the samples cannot be read, {which} too: mend them"
                )
            if len(self._bad) == 1:
                others = "the next of its tar stands in for it, as for any other that cannot"
                warnings.warn(f"{self._name!r}: {which} cannot be read: {others}", stacklevel=4)
