"""From a listing to rows: what the headers say, what the files hold, and what is done about those that are bad.

Few rows are kept in memory; more go into a store, see `keep.py`.
"""

import contextlib
import errno
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from elegan.data import store
from elegan.data.listing import Layout, Listing, Progress, Sample, silent
from elegan.data.source import Source, label_field
from elegan.data.tree import Entry, passed_over
from elegan.errors import DataError, ResourceError
from elegan.spec import Field, Spec

BAD = 0.1  # share of the samples that may be unreadable, but always one
FEW = 512  # samples that are decoded each time instead of being packed
CHUNK = 8  # samples a thread takes at a time, or fewer if they are large
AHEAD = 1 << 22  # bytes of them
OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # no fault of the file that is being opened


@dataclass
class Survey:
    """What the headers of a listing say: each field's layout, and by stream the reason why a sample is left out."""

    layouts: dict[str, Layout]
    faults: dict[str, dict[int, str]]

    @property
    def row_bytes(self) -> int:
        """Of one sample of every field."""
        return sum(layout.row_bytes for layout in self.layouts.values())


def survey(listing: Listing, progress: Progress = silent) -> Survey:
    """Look at the headers of all files and settle on one layout a field.

    Errors: `DataError` if too many cannot be read, or their sizes are mixed and none is asked for.
    """
    looks: dict[str, dict[int, Any]] = {field: {} for fields in listing.fields.values() for field in fields}
    same: dict[Any, Any] = {}  # most files look alike: each look is kept once
    found = Survey({}, {stream: {} for stream in listing.streams})
    total, seen = sum(len(samples) for samples in listing.streams.values()), 0
    with quiet():
        for stream, samples in listing.streams.items():
            fields = listing.fields[stream]
            for place, sample in enumerate(samples):
                seen += 1
                if seen % 256 == 0:
                    progress("looking at headers", seen, total)
                those = _look(listing, fields, sample.parts)
                if isinstance(those, str):
                    found.faults[stream][place] = those
                    continue
                for field, look in zip(fields, those, strict=True):
                    looks[field][place] = same.setdefault(look, look)
        tolerate(listing, found.faults)
        for stream, fields in listing.fields.items():
            for field in fields:
                found.layouts[field] = _settled(listing, stream, field, looks, found)
    progress("looking at headers", total, total)
    return found


def _look(listing: Listing, fields: Sequence[str], parts: Sequence[Sequence[Entry]]) -> list[Any] | str:
    return _each(listing, fields, parts, lambda field, files: listing.decoders[field].look(files))


def _settled(listing: Listing, stream: str, field: str, looks: dict[str, dict[int, Any]], found: Survey) -> Layout:
    """The layout of a field. Where headers disagree, a file that cannot be decoded has no say."""
    decoder, samples, those = listing.decoders[field], listing.streams[stream], looks[field]

    def settle(places: Iterable[int]) -> Layout:
        return decoder.settle([(samples[k].name, those[k]) for k in places], name=listing.name)

    try:
        return settle(those)
    except DataError:
        usual = Counter(those.values()).most_common(1)[0][0]
        for place in [k for k, look in those.items() if look != usual]:
            number = listing.fields[stream].index(field)
            part = (samples[place].parts[number],)
            reason = _read(listing, (field,), part, {field: settle([place])})
            if not isinstance(reason, str):
                raise
            found.faults[stream][place] = reason
            for other in listing.fields[stream]:
                looks[other].pop(place)
        tolerate(listing, found.faults)
        return settle(those)


def read_sample(listing: Listing, stream: str, sample: Sample, layouts: Mapping[str, Layout]) -> list[np.ndarray] | str:
    """The rows of a sample, one a field of its stream, or the reason why it has none."""
    return _read(listing, listing.fields[stream], sample.parts, layouts)


def _read(
    listing: Listing, fields: Sequence[str], parts: Sequence[Sequence[Entry]], layouts: Mapping[str, Layout]
) -> list[np.ndarray] | str:
    def row(field: str, files: Sequence[BinaryIO]) -> np.ndarray:
        made = listing.decoders[field].read(files, layouts[field])
        if made.dtype.kind == "f" and not np.isfinite(made).all():
            raise ValueError("there are values that are not finite")
        return made

    return _each(listing, fields, parts, row)


def _each(
    listing: Listing,
    fields: Sequence[str],
    parts: Sequence[Sequence[Entry]],
    ask: Callable[[str, Sequence[BinaryIO]], Any],
) -> list[Any] | str:
    """What is asked of the files of each field, or why one of them does not answer."""
    answers = []
    for field, part in zip(fields, parts, strict=True):
        try:
            with contextlib.ExitStack() as stack:
                answers.append(ask(field, [stack.enter_context(file) for file in listing.open(part)]))
        except Exception as error:  # decoders fed damaged bytes raise what they like
            if isinstance(error, OSError) and error.errno in OURS:
                raise
            return f"{part[0].path!r}: {reason_of(error)}" if part is not parts[0] else reason_of(error)
    return answers


def decoded(
    listing: Listing, stream: str, found: Survey, start: int = 0
) -> Generator[tuple[int, Sample, list[np.ndarray] | str], None, None]:
    """The samples of a stream from a place on, in order, decoded by as many threads as there are cores: decoders let go
    of the interpreter. Only so much is decoded ahead that memory stays bounded."""
    samples, faults = listing.streams[stream], found.faults[stream]
    workers = cores()

    def some(places: range) -> list[list[np.ndarray] | str]:
        return [faults[k] if k in faults else read_sample(listing, stream, samples[k], found.layouts) for k in places]

    chunk = max(1, min(CHUNK, AHEAD // max(1, found.row_bytes)))
    chunks = (range(k, min(k + chunk, len(samples))) for k in range(start, len(samples), chunk))
    ahead: deque[tuple[range, Future[list[list[np.ndarray] | str]]]] = deque()
    with quiet(), ThreadPoolExecutor(workers) as pool:
        try:
            for places in chunks:
                ahead.append((places, pool.submit(some, places)))
                if len(ahead) >= 3 * workers:
                    yield from _first(ahead, samples)
            while ahead:
                yield from _first(ahead, samples)
        finally:
            pool.shutdown(cancel_futures=True)


def _first(ahead: Any, samples: Sequence[Sample]) -> Iterator[tuple[int, Sample, list[np.ndarray] | str]]:
    places, made = ahead.popleft()
    for place, rows in zip(places, made.result(), strict=True):
        yield place, samples[place], rows


def in_memory(listing: Listing, progress: Progress = silent) -> Source:
    """The rows of a listing as arrays.

    Errors: `DataError` as `survey`, or if a class is left without a sample; `ResourceError` if memory has no room.
    """
    found = survey(listing, progress)
    wanted, free = 2 * found.row_bytes * max(len(samples) for samples in listing.streams.values()), store.memory()
    if wanted > free:
        raise ResourceError(
            f"{listing.name!r} would take {wanted / 1e9:.1f} GB of memory, {free / 1e9:.1f} are free: use a smaller "
            "--size, or let ELEGAN_CACHE name a folder that can be written, where it is packed."
        )
    arrays: dict[str, np.ndarray] = {}
    ranges: dict[str, tuple[float, float]] = {}
    names: list[str] = []
    for stream, samples in listing.streams.items():
        fields, kept, labels = listing.fields[stream], [], []
        for place, sample, rows in decoded(listing, stream, found):
            progress("reading", place + 1, len(samples))
            if isinstance(rows, str):
                found.faults[stream][place] = rows
                tolerate(listing, found.faults)
                continue
            kept.append(rows)
            labels.append(sample.label)
            names += [sample.name] if stream == "main" else []
        for number, field in enumerate(fields):
            arrays[field] = np.array([rows[number] for rows in kept])
            ranges[field] = spread(arrays[field]) if kept else (0.0, 0.0)
        if listing.classes:
            arrays["label"] = np.array(labels, np.int64)
    spec = spec_of(listing, found, arrays.get("label"), ranges)
    some_kept(listing, {stream: len(arrays[fields[0]]) for stream, fields in listing.fields.items()})
    left = left_out(listing, found.faults)
    counts = {field: len(rows) for field, rows in arrays.items()}
    return Source(
        listing.name, spec, arrays, describe(listing, spec, counts), left_out=left, names=names,
        own_split=listing.own_split,
    )  # fmt: skip


def spread(rows: np.ndarray) -> tuple[float, float]:
    return float(rows.min()), float(rows.max())


def spec_of(
    listing: Listing, found: Survey, labels: np.ndarray | None, ranges: Mapping[str, tuple[float, float]]
) -> Spec:
    """The fields of packed rows. Errors: `DataError` if a class is left without a sample."""
    fields: dict[str, Field] = {}
    for stream, names in listing.fields.items():
        for name in names:
            made = listing.decoders[name].field(found.layouts[name], *ranges.get(name, (0.0, 0.0)))
            fields[name] = replace(made, stream=stream, classes=len(listing.classes) if name == "real" else 0)
    if labels is not None:
        fields["label"] = label_field(labels, listing.classes)
        if 0 in fields["label"].counts:
            empty = listing.classes[fields["label"].counts.index(0)]
            raise DataError(f"{listing.name!r}: class folder {empty!r} holds no readable {noun(listing)}: mend it")
    return Spec(**fields)


def some_kept(listing: Listing, counts: Mapping[str, int]) -> None:
    for stream, count in counts.items():
        if not count:
            where = "" if stream == "main" else f" in {stream!r}"
            raise DataError(f"{listing.name!r}: no readable {noun(listing)} is left{where}: mend it")


def tolerate(listing: Listing, faults: Mapping[str, Mapping[int, str]]) -> None:
    """Raise `DataError` if too many samples cannot be read."""
    bad, total = sum(map(len, faults.values())), sum(len(samples) for samples in listing.streams.values())
    if bad == total or bad > max(1, BAD * total):
        note = note_of(left_out(listing, faults), total, noun(listing))
        raise DataError(f"{listing.name!r}: {note}: mend or remove them")


def left_out(listing: Listing, faults: Mapping[str, Mapping[int, str]]) -> list[tuple[str, str]]:
    """Name and reason of each sample that cannot be read."""
    return [
        (listing.streams[stream][number].name, reason)
        for stream, those in faults.items()
        for number, reason in sorted(those.items())
    ]


def note_of(left: Sequence[tuple[str, str]], total: int, noun: str) -> str:
    name, reason = left[0]
    return f"{len(left)} of {total:,} {noun}{'s' * (total != 1)} cannot be read, the first is {name!r} ({reason})"


def warn_of(listing: Listing, source: Source) -> None:
    """Tell what was passed over and what was left out."""
    if listing.passed:
        warnings.warn(f"{listing.name!r}: not followed: {passed_over(listing.passed)}", stacklevel=3)
    if source.left_out:
        total = sum(len(samples) for samples in listing.streams.values())
        warnings.warn(f"{listing.name!r}: left out: {note_of(source.left_out, total, noun(listing))}", stacklevel=3)


def describe(listing: Listing, spec: Spec, counts: Mapping[str, int]) -> str:
    """One line for people: how many of what, how they were brought to one form, and where from."""
    names = [name for name in spec if name != "label"]
    field, count = spec[names[0]], f"{counts[names[0]]:,}"
    size = f" of {field.shape[2]}x{field.shape[1]}" if field.kind == "image" else ""
    what = f"{count} {noun(listing)}{'s' * (count != '1')}{size}"
    if len(names) > 1:
        paired = spec["a"].stream == spec["b"].stream
        what = f"{count} pairs of images{size}" if paired else f"{count} and {counts['b']:,} unpaired images"
    classes = f", {len(listing.classes)} classes" if listing.classes else ""
    return f"{what} {listing.what}{classes}"


def noun(listing: Listing) -> str:
    """What one sample is called."""
    if any(len(fields) == 2 for fields in listing.fields.values()):
        return "pair"
    kind = next(iter(listing.decoders.values())).kind
    return {"image": "image", "audio": "recording", "video": "video"}.get(kind, "sample")


def reason_of(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the decoders' warnings on odd metadata; what matters is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
