"""A listing: data that has been found and not yet decoded. `pack` turns it into the rows of a `Source`.

The way of a picture: a tree names files, a reader arranges them into samples, a decoder looks at their headers, settles
on one layout for all, and makes a row of each.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Protocol

import numpy as np

from elegan.data.form import Form
from elegan.data.tree import Entry, Tree
from elegan.spec import Field

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


def silent(what: str, done: int, total: int) -> None:
    """A progress that shows nothing."""


@dataclass(frozen=True)
class Layout:
    """What every row of a field is: its shape, its type (of numpy), and what the decoder wants to remember."""

    shape: tuple[int, ...]
    dtype: str
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Decoder(Protocol):
    """Files of one kind to rows. A record without state, called from several threads at once."""

    kind: str  # of the field: image, audio, video
    version: int  # raised whenever the same file gives another row, so that nothing cached is taken for it

    def look(self, files: Sequence[BinaryIO]) -> Any:
        """What the headers say, hashable. Errors: whatever a library raises on damaged bytes; `ValueError` with the
        reason."""
        ...

    def settle(self, looks: Sequence[tuple[str, Any]], *, name: str) -> Layout:
        """One layout for all. looks: (name of the sample, what `look` said). Errors: `DataError` if there is none."""
        ...

    def read(self, files: Sequence[BinaryIO], layout: Layout) -> np.ndarray:
        """The row of a sample. Errors: as `look`."""
        ...

    def field(self, layout: Layout, low: float, high: float) -> Field:
        """The field of such rows, with its codec. low, high: the least and the greatest value of all rows."""
        ...


@dataclass(frozen=True)
class Sample:
    """One sample: its name for people, lists and splits; for each field of its stream the files it is made of; and its
    class, -1 if there are none."""

    name: str
    parts: tuple[tuple[Entry, ...], ...]
    label: int = -1


@dataclass(frozen=True)
class Listing:
    """Data not yet decoded.

    name: what the user typed. tree: where the files lie. form: in which form they are wanted.
    streams: by name, the samples of each, in order. fields: the fields of each stream, in the order of `Sample.parts`.
    decoders: of each field. classes: names of the classes, if samples have labels. what: one line on where it is from.
    passed: (path, reason) of what is not read, for people. own_split: whether the data itself says what is for testing.
    """

    name: str
    tree: Tree
    form: Form
    streams: Mapping[str, Sequence[Sample]]
    fields: Mapping[str, tuple[str, ...]]
    decoders: Mapping[str, Decoder]
    classes: tuple[str, ...] = ()
    what: str = ""
    passed: tuple[tuple[str, str], ...] = ()
    own_split: bool = False

    def __len__(self) -> int:
        return min(len(samples) for samples in self.streams.values())

    def only(self, wanted: Callable[[str], bool]) -> "Listing":
        """The listing of the samples whose names are wanted."""
        streams = {stream: [s for s in samples if wanted(s.name)] for stream, samples in self.streams.items()}
        return replace(self, streams=streams)

    def open(self, part: Sequence[Entry]) -> list[BinaryIO]:
        """The files of a sample's part, opened. Whoever opens them closes them."""
        return [self.tree.open(entry) for entry in part]

    @property
    def fingerprint(self) -> str:
        """SHA-256 as hex over names, sizes and stamps of all files, their order, the form and the decoders' versions:
        what tells that rows packed before are those one would get now."""
        digest = hashlib.sha256(repr((self.form.to_json(), self.fields, self.classes)).encode())
        for name, decoder in self.decoders.items():
            digest.update(f"{name} {decoder!r} {decoder.version}\n".encode())
        for stream, samples in self.streams.items():
            digest.update(repr(stream).encode())
            for sample in samples:
                parts = [[(entry.parts, entry.size, entry.stamp) for entry in part] for part in sample.parts]
                digest.update(repr((sample.name, sample.label, parts)).encode())
        return digest.hexdigest()
