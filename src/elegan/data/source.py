"""A `Source`: data as raw rows in memory, with the spec that games are built from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from elegan.data.codec import ImageCodec, LabelCodec, VectorCodec
from elegan.errors import DataError
from elegan.spec import Field, Spec


@dataclass(frozen=True)
class Source:
    """Raw rows by field, and what is known of them.

    name: what the user typed, or the bundled name.
    spec: the fields; `Field.about` holds each field's codec.
    arrays: field -> raw rows: uint8 images (N, C, H, W), float32 vectors (N, D), int64 labels (N,).
    about: one line for people: what, how many, where from.
    Errors: `DataError` if a field is empty, or if the fields of a stream differ in length.
    """

    name: str
    spec: Spec
    arrays: Mapping[str, np.ndarray]
    about: str

    def __post_init__(self) -> None:
        first: dict[str, str] = {}  # stream -> its first field
        for field, known in self.spec.items():
            rows = len(self.arrays[field])
            lead = first.setdefault(known.stream, field)
            if rows == 0:
                raise DataError(f"{self.name!r} holds no samples: its field {field!r} is empty")
            if rows != len(self.arrays[lead]):
                raise DataError(
                    f"{self.name!r} has {len(self.arrays[lead])} rows of {lead!r} but {rows} of {field!r}: "
                    "give each sample one row of both"
                )

    def __len__(self) -> int:
        """Number of samples; of unpaired data, in the smaller domain."""
        return min(len(rows) for rows in self.arrays.values())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 as hex over names, types, shapes and bytes of the fields, in the order of their names."""
        digest = hashlib.sha256()
        for field in sorted(self.arrays):
            rows = np.ascontiguousarray(self.arrays[field])
            digest.update(f"{field} {rows.dtype.str} {rows.shape}\n".encode())
            digest.update(rows.data)
        return digest.hexdigest()


def image_field(rows: np.ndarray, *, classes: int = 0, stream: str = "main") -> Field:
    """The field of uint8 images (N, C, H, W)."""
    return Field("image", rows.shape[1:], classes, stream=stream, about=ImageCodec.fit(rows).to_json())


def vector_field(
    rows: np.ndarray, *, classes: int = 0, stream: str = "main", common: bool = False, about: Mapping[str, Any] = {}
) -> Field:
    """The field of float32 vectors (N, D). common: one scale for all columns. about: what to keep beside the codec."""
    codec = VectorCodec.fit(rows, common=common)
    return Field("vector", rows.shape[1:], classes, stream=stream, about={**codec.to_json(), **about})


def label_field(rows: np.ndarray, names: tuple[str, ...]) -> Field:
    """The field of int64 class numbers (N,), one name per class."""
    counts = np.bincount(rows, minlength=len(names))
    return Field(
        "label", (), len(names), names=names, counts=tuple(counts.tolist()), about=LabelCodec.fit(rows).to_json()
    )


def number_labels(name: str, raw: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers as found in a file -> int64 (N,) that count from 0, and the names of the classes.

    Whole numbers from 0 or from 1 without a gap are taken, (N,) or (N, 1); the names are the numbers found.
    Errors: `DataError` on anything else, naming the class that is missing.
    """
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.ndim != 1 or raw.dtype.kind not in "iu":
        raise DataError(
            f"{name!r}: labels are whole numbers, one per sample, not {raw.dtype} of shape {raw.shape}: "
            "save class numbers as integers"
        )
    if not len(raw):
        raise DataError(f"{name!r} holds no samples: its labels are empty")
    found = np.unique(raw)
    start = 0 if found[0] != 1 else 1
    if found[0] < 0:
        raise DataError(f"{name!r}: label {found[0]} is below zero: drop those samples, classes count from 0")
    if int(found[-1]) != start + len(found) - 1:
        missing = next(n for n, seen in enumerate(found.tolist(), start) if n != seen)
        raise DataError(
            f"{name!r}: no sample has label {missing} while labels go up to {found[-1]}: "
            f"add one, or renumber the classes from 0 without gaps"
        )
    return raw.astype(np.int64) - start, tuple(str(n) for n in found.tolist())
