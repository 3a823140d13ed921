"""Columns in Parquet and Arrow files: read some rows at a time, from several threads; nothing in them is followed."""

import io
import json
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

from elegan.data.tree import Entry
from elegan.errors import DataError

ROOMY = 1 << 28  # bytes that a row group may unpack to from anything; beyond them, no more than
SWELL = 200  # times the size of its file, or it is taken for a bomb
CLAIMED = 1 << 19  # the same of rows
BATCH, KEPT = 16, 24  # rows that are unpacked together, and how many such stay unpacked
MANY = 1024  # of numbers and texts
WALKS = 4  # columns and groups that are gone through at the same time
END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream


@dataclass(frozen=True)
class Group:
    """Some rows of a file that are read together: the file, which of its groups, and the number of its first row."""

    entry: Entry
    number: int
    start: int
    rows: int


class Columns:
    """The rows of a split, from files of one schema.

    A tree whose entries are the cells of a column: see `cells`. Errors: `DataError` if a file is damaged, the files
    differ in their columns, or two columns have one name.
    """

    def __init__(self, root: str, files: Sequence[Entry]):
        self.root, self.passed, self.entries = root, (), ()
        self._files = {entry: _opened(root, entry) for entry in files}
        self._lock = threading.Lock()
        first, self.schema = files[0], next(iter(self._files.values())).schema
        for entry, file in self._files.items():
            if not file.schema.equals(self.schema):
                raise DataError(f"{root!r}: {entry.path!r} has other columns than {first.path!r}: give the path of one")
        if len({*self.schema.names}) < len(self.schema.names):
            raise DataError(f"{root!r}: {first.path!r} has two columns of one name: rename one")
        self.groups = [group for entry, file in self._files.items() for group in _groups(entry, file)]

    def __len__(self) -> int:
        return sum(group.rows for group in self.groups)

    @cached_property
    def features(self) -> dict[str, Any]:
        """What `datasets` says of the columns, or nothing."""
        try:
            return dict(json.loads((self.schema.metadata or {})[b"huggingface"])["info"]["features"])
        except (KeyError, ValueError, TypeError, RecursionError):
            return {}

    def column(self, name: str) -> Any:
        """A whole column, as chunks. Errors: `DataError` if it is damaged."""
        import pyarrow

        try:
            chunks = [chunk for group in self.groups for chunk in self._read(group, name).chunks]
        except ValueError as error:
            raise DataError(f"{self.root!r}: {error}: fetch or save it again") from error
        return pyarrow.chunked_array(chunks, self.schema.field(name).type)

    def cells(self, name: str) -> Iterator[Entry]:
        """The cells of a column as entries, called by their file and the number of their row in it."""
        for group in self.groups:
            for row in range(group.rows):
                parts = (*group.entry.parts, str(group.start + row))
                yield Entry(parts, 0, group.entry.stamp, (group, name, row))

    def open(self, entry: Entry) -> BinaryIO:
        """The bytes in a cell. Errors: `ValueError` if there are none, or the file is damaged."""
        group, name, row = entry.place
        try:
            with self._lock:
                cell = self._files[group.entry].cell(group.number, name, row)
        except Exception as error:  # the library fed damaged bytes raises what it likes
            raise ValueError(f"its part of {group.entry.path!r} is damaged ({_line(error)})") from error
        if isinstance(cell, dict):
            if cell.get("bytes") is None and cell.get("path"):
                raise ValueError(f"its image lies elsewhere, in {cell['path']!r}: save the data with its images in it")
            cell = cell.get("bytes")
        if cell is None:
            raise ValueError("there is no image")
        return io.BytesIO(cell)

    def _read(self, group: Group, name: str) -> Any:
        """A column of a group. Errors: `ValueError` if it is damaged."""
        try:
            column = self._files[group.entry].read(group.number, name)
            column.validate(full=True)
        except Exception as error:  # as above
            raise ValueError(f"rows from {group.start} of {group.entry.path!r} are damaged ({_line(error)})") from error
        if len(column) != group.rows:
            raise ValueError(f"{group.entry.path!r} has {len(column)} of {group.rows} rows in column {name!r}")
        return column


class _Parquet:
    """A Parquet file: its schema, the rows of its groups, and the walks through columns that were last gone on with."""

    def __init__(self, path: str):
        self._path = path
        self._walks: OrderedDict[tuple[int, str], _Walk] = OrderedDict()
        with self._opened() as file:
            self.schema, about = file.schema_arrow, file.metadata
            groups = [about.row_group(number) for number in range(about.num_row_groups)]
        self.rows, self._size = [group.num_rows for group in groups], os.path.getsize(path)
        for group in groups:  # not its columns: the library ends the process over some damaged ones
            self._bounded(group.total_byte_size, ROOMY)
            self._bounded(group.num_rows, CLAIMED)

    def _bounded(self, size: int, roomy: int) -> None:
        if size > roomy and size > SWELL * self._size:
            raise ValueError(f"rows unpack to {size:,} or more, over {SWELL} times the size of the file")

    def _opened(self) -> Any:
        import pyarrow.parquet

        return pyarrow.parquet.ParquetFile(self._path, buffer_size=1 << 16, pre_buffer=False)

    def read(self, number: int, name: str) -> Any:
        import pyarrow

        chunks, size = [], 0
        for batch in self._walked(number, name, MANY):
            chunks.append(batch.column(0))
            size += batch.nbytes
            self._bounded(size, ROOMY)
        return pyarrow.chunked_array(chunks, self.schema.field(name).type)

    def _walked(self, number: int, name: str, rows: int) -> Iterator[Any]:
        return self._opened().iter_batches(rows, row_groups=[number], columns=[name], use_threads=False)

    def cell(self, number: int, name: str, row: int) -> Any:
        walk = self._walks.pop((number, name), None)
        if walk is None or row < walk.first:
            walk = _Walk(self._walked(number, name, BATCH))
        self._walks[number, name] = walk
        if len(self._walks) > WALKS:
            self._walks.popitem(last=False)
        return walk.cell(row)


class _Walk:
    """The cells of a column from front to back, some unpacked at a time; the last are kept for threads behind."""

    def __init__(self, batches: Iterator[Any]):
        self._batches, self._kept, self._next = batches, deque[tuple[int, Any]](), 0

    @property
    def first(self) -> int:
        """The first row that is still there."""
        return self._kept[0][0] if self._kept else 0

    def cell(self, row: int) -> Any:
        while row >= self._next:
            column = next(self._batches).column(0)
            column.validate(full=True)
            self._kept.append((self._next, column))
            self._next += len(column)
            if len(self._kept) > KEPT:
                self._kept.popleft()
        start, column = next(pair for pair in reversed(self._kept) if pair[0] <= row)
        return column[row - start].as_py()


class _Arrow:
    """An Arrow file or stream, mapped: what is not packed is read where it lies."""

    def __init__(self, path: str):
        import pyarrow

        mapped = pyarrow.memory_map(path)
        before, self._batches, self._sound = pyarrow.total_allocated_bytes(), [], set[tuple[int, str]]()
        if mapped.read(6) == b"ARROW1":
            file = pyarrow.ipc.open_file(mapped)
            batches = (file.get_batch(k) for k in range(file.num_record_batches))
        else:
            mapped.seek(max(0, mapped.size() - len(END)))
            if mapped.read() != END:  # the library takes a file that ends between two batches for whole
                raise ValueError("it is cut short")
            mapped.seek(0)
            batches = file = pyarrow.ipc.open_stream(mapped)
        for batch in batches:
            self._batches.append(batch)
            if pyarrow.total_allocated_bytes() - before > ROOMY:
                raise ValueError(f"it is packed, and unpacks to over {ROOMY:,} bytes: save it as Parquet")
        self.schema = file.schema
        self.rows = [batch.num_rows for batch in self._batches]

    def read(self, number: int, name: str) -> Any:
        import pyarrow

        return pyarrow.chunked_array([self._batches[number].column(name)])

    def cell(self, number: int, name: str, row: int) -> Any:
        column = self._batches[number].column(name)
        if (number, name) not in self._sound:
            column.validate(full=True)
            self._sound.add((number, name))
        return column[row].as_py()


def _opened(root: str, entry: Entry) -> Any:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise DataError(f'{entry.path!r} of {root!r} needs a library to be read: pip install "elegan[table]"') from None
    try:
        return (_Parquet if entry.suffix == ".parquet" else _Arrow)(entry.place)
    except Exception as error:  # as above
        raise DataError(f"{entry.path!r} of {root!r} is damaged ({_line(error)}): fetch or save it again") from error


def _groups(entry: Entry, file: Any) -> Iterator[Group]:
    start = 0
    for number, rows in enumerate(file.rows):
        yield Group(entry, number, start, rows)
        start += rows


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
