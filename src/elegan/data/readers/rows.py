"""Images that are rows of numbers in a large file: read one at a time, on their way to a packed store."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from elegan.data.codec import ImageCodec
from elegan.data.form import Form
from elegan.data.listing import Layout
from elegan.data.readers.arrays import rows_of
from elegan.data.readers.picture import formed
from elegan.data.tree import Entry
from elegan.errors import DataError
from elegan.spec import Field


class Rows:
    """The rows of one array, as files called by their numbers. take: gives the bytes of a row."""

    def __init__(self, root: str, count: int, stamp: str, size: int, take: Callable[[int], bytes]):
        self.root, self.passed, self._take = root, (), take
        self.entries = tuple(Entry((str(number),), size, stamp, number) for number in range(count))

    def open(self, entry: Entry) -> BinaryIO:
        return _Row(self._take, entry.place)  # pyright: ignore[reportReturnType]  # its decoder takes it so


class _Row(io.RawIOBase):
    """A file that is fetched when it is read, as a look at its header needs none of it."""

    def __init__(self, take: Callable[[int], bytes], number: int):
        self._take, self._number = take, number

    def readall(self) -> bytes:
        return self._take(self._number)


@dataclass(frozen=True)
class Numbers:
    """The decoder of rows of one shape and type, as found. Which axis holds the channels is `arrays`' rule."""

    shape: tuple[int, ...]
    dtype: str
    form: Form
    kind = "image"
    version = 1

    def look(self, files: Sequence[BinaryIO]) -> None:
        return None

    def settle(self, looks: Sequence[tuple[str, None]], *, name: str) -> Layout:
        """Errors: `DataError` if such rows are no images."""
        row = self._made(np.zeros((1, *self.shape), self.dtype), repr(name))
        return Layout(row.shape, row.dtype.name)

    def read(self, files: Sequence[BinaryIO], layout: Layout) -> np.ndarray:
        """Errors: `ValueError` if the row is damaged."""
        raw = np.frombuffer(files[0].read(), self.dtype).reshape(self.shape)
        try:
            return self._made(raw[None], "it")
        except DataError as error:
            raise ValueError(str(error)) from error

    def _made(self, raw: np.ndarray, where: str) -> np.ndarray:
        return formed(rows_of(raw, where), self.form, where)[0]

    def field(self, layout: Layout, low: float, high: float) -> Field:
        return Field("image", layout.shape, about=ImageCodec.of_range(layout.dtype, low, high).to_json())
