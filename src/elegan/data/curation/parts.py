"""Data taken apart to be looked at: each field of each split, its names, classes, glances, and what cannot be read."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from elegan.data import pack
from elegan.data.codec import ImageCodec, codec_of, eight_bits
from elegan.data.curation.glance import GLANCE, Glance, digest, glances, in_shares, reduced
from elegan.data.form import Form
from elegan.data.listing import Layout, Listing, Progress, Sample, silent
from elegan.data.source import Source
from elegan.data.sources import Split, find_data, open_data
from elegan.errors import DataError, NoSplitError
from elegan.spec import Field

BLOCK = 256  # rows that are looked at together
PLAIN = 64  # pixels that images of mixed sizes are brought to, to be embedded, if no size is asked for


@dataclass(frozen=True)
class Part:
    """One field of one split.

    names: of its samples, those that can be read. labels: int64 (N,), -1 without classes. faults: (name, reason) of the
    others. glances: `GLANCE` (N,) of images; of anything else only its digests say something. looks: the headers that
    were found, by the number that glances have. form: in which files are read; None of rows that are there.
    picture(k): uint8 (C, H, W), small, for eyes. rows(progress): all samples in one size, images in 8 bits.
    whole(k): the digest of the row that a training reads.
    """

    split: str
    field: str
    kind: str
    names: Sequence[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    glances: np.ndarray
    faults: Sequence[tuple[str, str]]
    picture: Callable[[int], np.ndarray]
    rows: Callable[[Progress], np.ndarray]
    whole: Callable[[int], np.ndarray]
    looks: Sequence[Any] = ()
    form: Form | None = None

    def __len__(self) -> int:
        return len(self.names)

    def class_of(self, k: int) -> str:
        return self.classes[self.labels[k]] if self.classes and self.labels[k] >= 0 else ""


@dataclass(frozen=True)
class Taken:
    """Data taken apart. about: a line on each split. passed: (path, reason) of what is not read. refused: why `train`
    would not take it, by split; nothing if it would."""

    name: str
    parts: Sequence[Part]
    about: dict[str, str]
    passed: Sequence[tuple[str, str]]
    refused: dict[str, str]


def take_apart(
    name: str, form: Form, progress: Progress = silent, *, splits: Sequence[Split] = ("train", "test")
) -> Taken:
    """Look at every sample of some splits, once.

    Errors: `DataError` if there is nothing to look at: no such data, no file of a known kind, an empty class.
    """
    parts: list[Part] = []
    about: dict[str, str] = {}
    refused: dict[str, str] = {}
    passed: Sequence[tuple[str, str]] = ()
    for split in splits:
        try:
            found = find_data(name, split=split, form=form)
        except NoSplitError:
            if split == "train":
                raise
            continue
        if isinstance(found, Listing):
            passed = found.passed
        if isinstance(found, Listing) and any(decoder.kind != "image" for decoder in found.decoders.values()):
            try:
                found = _opened(found, name, split, form, progress)
            except DataError as error:  # too many are bad, or do not go together
                refused[split] = about[split] = str(error)
                continue
        if isinstance(found, Source):
            made, about[split] = _of_source(found, split, progress), found.about
        else:
            made, faults = _of_listing(found, progress, split)
            about[split] = f"{len(found):,} {pack.noun(found)}{'s' * (len(found) != 1)} {found.what}"
            if why := _refusal(found, made, faults):
                refused[split] = why
        parts += made
    return Taken(name, parts, about, passed, refused)


def _opened(listing: Listing, name: str, split: Split, form: Form, progress: Progress) -> Source:
    """The rows of a listing of anything but images, with their names."""
    source = open_data(name, split=split, form=form, progress=progress)
    left = {sample for sample, _ in source.left_out}
    names = [sample.name for sample in listing.streams.get("main", ()) if sample.name not in left]
    return replace(source, names=names)


def _of_source(source: Source, split: str, progress: Progress) -> list[Part]:
    parts = []
    for field, about in source.spec.items():
        if about.kind == "label":
            continue
        rows = source.arrays[field]
        names = source.names if about.stream == "main" and len(source.names) == len(rows) else range(len(rows))
        label = source.spec.get("label") if about.stream == "main" else None
        labels = source.arrays["label"] if label else np.full(len(rows), -1)
        parts.append(
            Part(
                split, field, about.kind, [str(name) for name in names], labels, label.names if label else (),
                _glances_of(rows, about, progress), source.left_out if about.stream == "main" else (),
                picture=lambda k, rows=rows, about=about: eight_bits(about, reduced(np.asarray(rows[k : k + 1])))[0],
                rows=lambda progress, rows=rows, about=about: eight_bits(about, np.asarray(rows[:])),
                whole=lambda k, rows=rows: digest(np.asarray(rows[k : k + 1])[0]),
            )
        )  # fmt: skip
    return parts


def _glances_of(rows: Any, about: Field, progress: Progress) -> np.ndarray:
    """Glances of rows that are there."""
    kept = _room(len(rows))
    codec = codec_of(about) if about.kind == "image" else None
    for start in range(0, len(rows), BLOCK):
        block = np.asarray(rows[start : start + BLOCK])
        these = kept[start : start + len(block)]
        progress("looking", start, len(rows))
        if isinstance(codec, ImageCodec):
            colours = block.shape[1] - codec.mode.endswith("A")
            these[:] = glances(block, colours=colours, span=(codec.low, codec.high))
            these["height"], these["width"] = block.shape[2:]
        else:
            these["digest"] = [digest(row) for row in block]
        these["whole"] = True
    return kept


def _room(count: int) -> np.ndarray:
    """Glances in a file without a name, which is gone when they are."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, GLANCE, "w+", shape=count) if count else np.zeros(0, GLANCE)


def _of_listing(listing: Listing, progress: Progress, split: str) -> tuple[list[Part], dict[str, dict[int, str]]]:
    """Decode each image once; what cannot be is a fault, told by stream and place."""
    parts: list[Part] = []
    faults: dict[str, dict[int, str]] = {stream: {} for stream in listing.streams}
    for stream, fields in listing.fields.items():
        decoders = {field: Glance(listing.decoders[field]) for field in fields}
        quick = replace(listing, decoders={**listing.decoders, **decoders})
        found = pack.Survey(dict.fromkeys(fields, Layout((GLANCE.itemsize,), "uint8")), {stream: {}})
        samples, kept = listing.streams[stream], []
        room = {field: _room(len(samples)) for field in fields}
        with closing(pack.decoded(quick, stream, found)) as every:
            for place, sample, rows in every:
                progress("looking", place, len(samples))
                if isinstance(rows, str):
                    faults[stream][place] = rows
                    continue
                for field, row in zip(fields, rows, strict=True):
                    room[field][len(kept)] = row
                kept.append(sample)
        labels = np.array([sample.label for sample in kept], np.int64)
        bad = [(samples[place].name, reason) for place, reason in faults[stream].items()]
        for field in fields:
            looks = tuple(decoders[field].looks)
            reader = _Reader(listing, stream, field, kept, decoders[field], looks, room[field][: len(kept)])
            names = [sample.name for sample in kept]
            parts.append(
                Part(
                    split, field, "image", names, labels, listing.classes, room[field][: len(kept)], bad,
                    picture=reader.picture, rows=reader.rows, whole=reader.whole, looks=looks, form=listing.form,
                )
            )  # fmt: skip
    return parts, faults


@dataclass(frozen=True)
class _Reader:
    """Reads some of the images of a listing again."""

    listing: Listing
    stream: str
    field: str
    samples: Sequence[Sample]
    glance: Glance
    looks: Sequence[Any]
    glances: np.ndarray

    def _ask(self, k: int, ask: Callable[[Any], Any]) -> Any:
        part = self.samples[k].parts[self.listing.fields[self.stream].index(self.field)]
        files = self.listing.open(part)
        try:
            with pack.quiet():
                return ask(files)
        finally:
            for file in files:
                file.close()

    def picture(self, k: int) -> np.ndarray:
        row, _, colours, _ = self._ask(k, self.glance.picture)
        shares = in_shares(reduced(row[None]))[0]
        return np.rint(shares[: colours if colours in (1, 3) else 1] * 255).astype(np.uint8)

    def whole(self, k: int) -> np.ndarray:
        decoder = self.glance.decoder
        look = self.looks[self.glances["look"][k]]
        return digest(self._ask(k, lambda files: decoder.read(files, decoder.settle([("", look)], name=""))))

    def rows(self, progress: Progress) -> np.ndarray:
        """uint8 (N, C, H, W). Errors: `DataError` if they cannot be brought to one form, or one cannot be read now."""
        decoder, form = self.glance.decoder, getattr(self.glance.decoder, "form", None)
        if form is not None:
            mixed = any(np.ptp(self.glances[side]) for side in ("width", "height"))
            form = replace(form, bits="8", size=str(PLAIN) if form.size is None and mixed else form.size)
            decoder = replace(decoder, form=form)  # pyright: ignore[reportArgumentType]  # a record
        names = [sample.name for sample in self.samples]
        layout = decoder.settle(_different(names, self.looks, self.glances), name=self.listing.name)
        listing = replace(
            self.listing, streams={"main": self.samples}, fields={"main": (self.field,)}, decoders={self.field: decoder}
        )
        if len(self.listing.fields[self.stream]) > 1:
            number = self.listing.fields[self.stream].index(self.field)
            listing = replace(listing, streams={"main": [replace(s, parts=(s.parts[number],)) for s in self.samples]})
        made = np.empty((len(self.samples), *layout.shape), layout.dtype)
        with closing(pack.decoded(listing, "main", pack.Survey({self.field: layout}, {"main": {}}))) as every:
            for place, sample, rows in every:
                progress("reading", place, len(self.samples))
                if isinstance(rows, str):
                    raise DataError(f"{self.listing.name!r}: {sample.name!r} could be read before ({rows})")
                made[place] = rows[0]
        return made


def _different(names: Sequence[str], looks: Sequence[Any], those: np.ndarray) -> list[tuple[str, Any]]:
    """Every header there is, each with the name of the first sample that has it."""
    numbers = [int(number) for number in those["look"]]
    places = sorted(int(place) for place in np.unique(numbers, return_index=True)[1])
    return [(names[place], looks[numbers[place]]) for place in places]


def _refusal(listing: Listing, parts: Sequence[Part], faults: Mapping[str, Mapping[int, str]]) -> str:
    """Why `train` would not take such a listing: too many bad files, images that do not go together, an empty class."""
    try:
        pack.tolerate(listing, faults)
        for part in parts:
            looks = _different(part.names, part.looks, part.glances)
            listing.decoders[part.field].settle(looks, name=listing.name)
        if listing.classes and (empty := set(range(len(listing.classes))) - set(parts[0].labels.tolist())):
            return f"{listing.name!r}: class {listing.classes[min(empty)]!r} holds no readable {pack.noun(listing)}"
    except DataError as error:
        return str(error)
    return ""
