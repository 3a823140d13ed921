"""Long files in pieces, each a sample: `a.wav#0`, `a.wav#1`, … A part of it is the file, and a note of which piece."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from elegan.data.listing import Listing, Sample
from elegan.data.tree import Entry, Tree


@dataclass(frozen=True)
class Noted:
    """A tree, and notes: entries whose place is what they hold."""

    tree: Tree
    root: str
    entries: tuple[Entry, ...]
    passed: tuple[tuple[str, str], ...]

    def open(self, entry: Entry) -> BinaryIO:
        return io.BytesIO(entry.place) if isinstance(entry.place, bytes) else self.tree.open(entry)


def cut(listing: Listing, pieces: Callable[[Sequence[Entry]], int]) -> Listing:
    """A listing whose samples are pieces. pieces: how many there are of some files; of one, it is the file as it is."""

    def of(sample: Sample) -> list[Sample]:
        count = max(1, min(pieces(part) for part in sample.parts))
        if count == 1:
            return [sample]
        return [
            replace(sample, name=f"{sample.name}#{k}", parts=tuple((*part, _note(part, k)) for part in sample.parts))
            for k in range(count)
        ]

    tree = listing.tree
    streams = {stream: [s for sample in those for s in of(sample)] for stream, those in listing.streams.items()}
    return replace(listing, tree=Noted(tree, tree.root, tree.entries, tree.passed), streams=streams)


def _note(part: Sequence[Entry], number: int) -> Entry:
    return Entry((*part[0].parts, str(number)), 0, "", str(number).encode())


def piece_of(files: Sequence[BinaryIO]) -> int:
    """Which piece of the first file is meant."""
    return int(files[1].read()) if len(files) > 1 else 0
