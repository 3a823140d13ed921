"""Which samples of some data are meant: a split by a stated rule, without those on a list.

The rule of `holdout`: a sample is in the test split if the BLAKE2b hash of its name, as a share of 2⁶⁴, is below it.
The name is the path of its first file below the root, or its row's number. So a sample stays where it is when others
come or go, on every machine. Pieces of one recording or film, `a.wav#3`, are all where `a.wav` is.
"""

import csv
import hashlib
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from elegan.data.form import Form
from elegan.data.listing import Listing
from elegan.data.source import Source
from elegan.errors import DataError, NoSplitError
from elegan.spec import Spec

PIECE = re.compile(r"#\d+$")  # the number of a piece
KEPT = re.compile("yes|y|x|true|1|keep", re.IGNORECASE)  # what people write into the column `keep` of a list


@dataclass(frozen=True)
class Selection:
    """A split, the share held out, and the names left out."""

    split: str
    holdout: float = 0.0
    left: frozenset[str] = frozenset()

    @classmethod
    def of(cls, form: Form, split: str) -> "Selection":
        """Errors: `DataError` if the list cannot be read."""
        return cls(split, form.holdout, read_names(Path(form.without)) if form.without else frozenset())

    def of_listing(self, listing: Listing) -> Listing:
        """Errors: `NoSplitError` if the data has no such split; `DataError` if nothing is left of it."""
        self._must_have(listing.name, listing.own_split)
        held = not listing.own_split and self.holdout > 0
        if not held and not self.left:
            return listing
        chosen = listing.only(lambda name: name not in self.left and (not held or self.holds(name)))
        self._told(listing.name, {sample.name for those in listing.streams.values() for sample in those})
        for stream, samples in chosen.streams.items():
            if not samples:
                raise DataError(f"{listing.name!r}: no sample of {stream!r} is left in the {self.split} split")
        return replace(chosen, what=f"{chosen.what}{self._words(held)}")

    def of_source(self, source: Source, *, own_split: bool) -> Source:
        """As `of_listing`, of rows; the name of a row is its number unless it has one."""
        self._must_have(source.name, own_split)
        held = not own_split and self.holdout > 0
        if not held and not self.left:
            return source
        arrays: dict[str, np.ndarray] = {}
        known: set[str] = set()
        main: list[str] = []  # names of what stays, so that it keeps them
        for stream in {field.stream for field in source.spec.values()}:
            fields = [name for name, field in source.spec.items() if field.stream == stream]
            names = source.names if stream == "main" and source.names else range(len(source.arrays[fields[0]]))
            names = [str(name) for name in names]
            known.update(names)
            kept = [k for k, name in enumerate(names) if name not in self.left and (not held or self.holds(name))]
            main = [names[k] for k in kept] if stream == "main" else main
            arrays.update({field: np.ascontiguousarray(source.arrays[field][kept]) for field in fields})
        self._told(source.name, known)
        if "label" in arrays:
            label = source.spec["label"]
            counts = tuple(np.bincount(arrays["label"], minlength=label.classes).tolist())
            source = replace(source, spec=Spec(**{**source.spec, "label": replace(label, counts=counts)}))
        return replace(source, arrays=arrays, names=main, sealed="", about=f"{source.about}{self._words(held)}")

    def among(self, names: Sequence[str]) -> list[int]:
        """Which of some samples are meant, by the rule and the list."""
        return [k for k, name in enumerate(names) if name not in self.left and (not self.holdout or self.holds(name))]

    def holds(self, name: str) -> bool:
        """Whether a sample of that name is in the split, by the rule."""
        whole = PIECE.sub("", name)
        digest = hashlib.blake2b(whole.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return (int.from_bytes(digest, "big") / 2**64 < self.holdout) == (self.split == "test")

    def _must_have(self, name: str, own_split: bool) -> None:
        if self.split == "test" and not own_split and not self.holdout:
            raise NoSplitError(f"{name!r} has no test split: put one into a folder 'test', or use --holdout 0.1")

    def _told(self, name: str, known: Collection[str]) -> None:
        """Errors: `DataError` if no name on the list is one of the data's. A few that are not are told."""
        strange = self.left - frozenset(known)
        if not strange or self.split == "test":  # a list is made of the training samples
            return
        note = f"{name!r} has no sample {min(strange)!r}, which is on the list of those to leave out"
        if strange == self.left:
            raise DataError(f"{note}, nor any other of the list: is it of other data?")
        warnings.warn(f"{note} ({len(strange):,} such)", stacklevel=2)

    def _words(self, held: bool) -> str:
        split = f", the {self.split} split of --holdout {self.holdout:g}" if held else ""
        return split + (f", without {len(self.left):,} on a list" if self.left else "")


def read_names(path: Path) -> frozenset[str]:
    """The names on a list: the column `name` of a CSV file, as `elegan data clean` writes it and people edit it: a line
    that is gone, or that says yes in the column `keep`, names a sample that stays."""
    try:
        if path.is_char_device():
            raise KeyError("name")  # and perhaps no end
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.DictReader(file)
            rows: list[dict[str, Any]] = list(table)
            if "name" not in (table.fieldnames or ()):
                raise KeyError("name")
        left = [row for row in rows if not KEPT.fullmatch((row.get("keep") or "").strip())]
        return frozenset(row["name"] for row in left if row["name"])
    except (OSError, KeyError, TypeError, csv.Error, UnicodeError) as error:
        reason = str(error) if isinstance(error, csv.Error) else getattr(error, "strerror", None)
        reason = reason or "it has no column 'name'"
        raise DataError(f"{str(path)!r} is no list of samples ({reason}): make it by 'elegan data clean'") from error
