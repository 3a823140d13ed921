"""Text with delimiters (CSV and the like) -> the cells of each column, read line by line; of cells that say the same
one is kept, so that memory grows with what differs.

Delimiter: the one of , ; tab | that cuts the first lines into most cells, equally many in each; of a .tsv the tab.
Header: the first line, unless all its cells are numbers.
Encoding: UTF-8, or UTF-16 if it begins with its mark; else Windows-1252 or Latin-1, which is told.
"""

import codecs
import csv
import io
import re
import warnings
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO

import numpy as np

from elegan.data.tree import Entry, Tree
from elegan.errors import DataError

DELIMITERS = ",;\t|"
HEAD = 1 << 20  # characters that the first lines, which a delimiter is found in, may have; the first must end in them
LINES = 50
COLUMNS = 10_000
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class _Numbers(dict[str, int]):
    """Texts, numbered as they come."""

    def __missing__(self, text: str) -> int:
        self[text] = number = len(self)
        return number


@dataclass
class Cells:
    """The cells of a column: texts, all different, without the spaces around them; and which of them each row has."""

    number: _Numbers = field(default_factory=_Numbers)
    rows: "array[int]" = field(default_factory=lambda: array("i"))

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> "Cells":
        """texts: of each row, None if it has none."""
        cells = cls()
        cells.extend("" if text is None else text for text in texts)
        return cells

    def extend(self, texts: Iterable[str]) -> None:
        self.rows.extend(map(self.number.__getitem__, map(str.strip, texts)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def texts(self) -> list[str]:
        return list(self.number)

    @property
    def places(self) -> np.ndarray:
        """Of each row, the number of its text; int32 (N,)."""
        return np.frombuffer(self.rows, np.int32) if self.rows else np.zeros(0, np.int32)

    def __add__(self, other: "Cells") -> "Cells":
        """The rows of both."""
        both = Cells(_Numbers(self.number), array("i", self.rows))
        moved = np.array([both.number[text] for text in other.number], np.int32)
        both.rows.frombytes(moved[other.places].astype(np.int32).tobytes())
        return both


@dataclass(frozen=True)
class Delimited:
    """A table as found. columns: by name. header: whether its first line names them."""

    columns: dict[str, Cells]
    delimiter: str
    header: bool


def read_delimited(tree: Tree, entry: Entry) -> Delimited:
    """The cells of a table.

    Errors: `DataError` with the line, if it is no text, is ragged, badly quoted, too wide, or names a column twice.
    """
    where = f"{entry.path!r} of {tree.root!r}"
    try:
        with tree.open(entry) as file:
            encoding = _encoding(file, where)
        with tree.open(entry) as file:
            text = io.TextIOWrapper(file, encoding, newline="")
            head = text.read(HEAD)
            delimiter = "\t" if entry.suffix == ".tsv" else _delimiter(head)
            text.seek(0)
            return _parsed(text, delimiter, where)
    except (OSError, ValueError) as error:
        raise DataError(f"{where} cannot be read ({' '.join(str(error).split())}): mend it") from error


def _encoding(file: BinaryIO, where: str) -> str:
    """The encoding of a whole file, by trial. Errors: `DataError` if it is no text."""
    mark = file.read(2)
    if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    file.seek(0)
    tried = {name: codecs.getincrementaldecoder(name)() for name in ("utf-8-sig", "cp1252")}
    while block := file.read(1 << 20):
        if b"\0" in block:
            raise DataError(f"{where} holds zero bytes, which no text does: is it a table?")
        for name in tuple(tried):
            try:
                tried[name].decode(block)
            except UnicodeDecodeError:
                del tried[name]
    try:
        tried["utf-8-sig"].decode(b"", final=True)
        return "utf-8-sig"
    except (KeyError, UnicodeDecodeError):
        name, called = ("cp1252", "Windows-1252") if "cp1252" in tried else ("latin-1", "Latin-1")
    warnings.warn(f"{where} is not UTF-8: read as {called}", stacklevel=2)
    return name


def _delimiter(head: str) -> str:
    """The delimiter of the first lines; a comma if none of them cuts all lines alike."""
    best, most = ",", 1
    for delimiter in DELIMITERS:
        whole = io.StringIO(head if len(head) < HEAD else head[: head.rfind("\n") + 1], newline="")
        try:
            widths = {len(line) for line in islice(csv.reader(whole, delimiter=delimiter, strict=True), LINES) if line}
        except csv.Error:
            continue
        if len(widths) == 1 and (width := widths.pop()) > most:
            best, most = delimiter, width
    return best


def _parsed(text: io.TextIOWrapper, delimiter: str, where: str) -> Delimited:
    lines = _lines(text, delimiter, where)
    first = next(lines, None)
    if first is None:
        raise DataError(f"{where} is empty: a table needs a header and rows")
    if len(first) > COLUMNS:
        raise DataError(f"{where} has {len(first):,} columns, over {COLUMNS:,}: is it a table?")
    header = not all(map(NUMBER.fullmatch, (cell.strip() for cell in first)))
    names = [(title.strip() if header else "") or f"column-{k}" for k, title in enumerate(first, 1)]
    if twice := next((title for title in names if names.count(title) > 1), None):
        raise DataError(f"{where} has two columns {twice!r}: rename one")
    columns = [Cells() for _ in names]
    block: list[Sequence[str]] = [] if header else [first]
    while block or not columns[0].rows:
        for column, cells in zip(columns, zip(*block, strict=True), strict=False):
            column.extend(cells)
        block = list(islice(lines, 4096))
        if not block:
            break
    return Delimited(dict(zip(names, columns, strict=True)), delimiter, header)


def _lines(text: io.TextIOWrapper, delimiter: str, where: str) -> Iterator[list[str]]:
    """The lines of a table, equally many cells in each; blank ones are passed over."""
    lines = csv.reader(_bounded(text, where), delimiter=delimiter, strict=True)
    width = None
    try:
        for line in lines:
            if not line:
                continue
            width = len(line) if width is None else width
            if len(line) != width:
                cells = f"{len(line)} cell{'s' * (len(line) != 1)}"
                raise DataError(f"{where}, line {lines.line_num}: {cells}, the first line has {width}: mend it")
            yield line
    except csv.Error as error:
        raise DataError(f"{where}, line {lines.line_num}: {error}: mend it") from error


def _bounded(text: io.TextIOWrapper, where: str) -> Iterator[str]:
    """The lines of a text, none longer than `HEAD`."""
    number = 0
    while line := text.readline(HEAD + 1):
        number += 1
        if len(line) > HEAD:
            raise DataError(f"{where}, line {number} is longer than {HEAD:,} characters: is it a table?")
        yield line
