"""A `Source`: data as raw rows in memory, with the spec that games are built from."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from elegan.data.codec import ImageCodec, LabelCodec, VectorCodec
from elegan.errors import DataError
from elegan.spec import Field, Spec

BLOCK = 16 << 20  # bytes whose checksum is taken at once


@dataclass(frozen=True)
class Source:
    """Raw rows by field, and what is known of them.

    name: what the user typed, or the bundled name.
    spec: the fields; `Field.about` holds each field's codec.
    arrays: field -> raw rows: images (N, C, H, W) of uint8, uint16 or float32, vectors (N, D) of float32, int64 labels
        (N,); they may be mapped from a file, and are never written to. Of a stream they are `shards.Streamed`, which
        reads the rows that it is asked for.
    about: one line for people: what, how many, where from.
    sealed: the fingerprint, where it is known without reading every byte. left_out: (name, reason) of samples that
        could not be read. names: of the samples of the stream `main`, where they have names. own_split: whether the
        data itself says what is for testing. cuts: of a stream, the first row of each of its files.
    Errors: `DataError` if a field is empty, or if the fields of a stream differ in length.
    """

    name: str
    spec: Spec
    arrays: Mapping[str, np.ndarray]
    about: str
    sealed: str = ""
    left_out: Sequence[tuple[str, str]] = ()
    names: Sequence[str] = ()
    own_split: bool = False
    cuts: Sequence[int] = ()

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
        """SHA-256 as hex over names, types, shapes and blocks of bytes of the fields, in the order of their names."""
        if self.sealed:
            return self.sealed
        return seal({name: (rows.dtype.str, rows.shape, blocks_of(rows)) for name, rows in self.arrays.items()})


def seal(fields: Mapping[str, tuple[str, tuple[int, ...], Sequence[str]]]) -> str:
    """The fingerprint of fields whose type, shape and SHA-256 of each block of bytes are known."""
    digest = hashlib.sha256()
    for name, (dtype, shape, blocks) in sorted(fields.items()):
        digest.update(f"{name} {dtype} {tuple(shape)} {' '.join(blocks)}\n".encode())
    return digest.hexdigest()


def bytes_of(rows: np.ndarray) -> memoryview:
    """The bytes of an array, without a copy if they lie in order."""
    return np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data if rows.size else memoryview(b"")


def blocks_of(rows: np.ndarray) -> list[str]:
    """SHA-256 as hex of each `BLOCK` bytes of an array; a mapped one is read a block at a time."""
    raw = bytes_of(rows)
    return [hashlib.sha256(raw[k : k + BLOCK]).hexdigest() for k in range(0, len(raw), BLOCK)]


def image_field(rows: np.ndarray, *, classes: int = 0, stream: str = "main") -> Field:
    """The field of images (N, C, H, W) of uint8, uint16 or float32."""
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
