"""The codec of tables: mode-specific normalisation (Xu, Skoularidou, Cuesta-Infante, Veeramachaneni 2019,
arXiv 1907.00503, section 4.2).

A number becomes its place within one of the modes of its column, and which mode that is; a category becomes one of many
(one-hot). Raw rows are float64 (N, K) for the K columns that are trained on: numbers as they are, missing ones NaN,
dates as days or seconds since 1970, categories as their number in `Column.categories`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NUMBERS = ("continuous", "integer", "date")
CLASSES = ("categorical", "boolean")
EPOCH = datetime(1970, 1, 1)
REACH = 4.0  # deviations of a mode that its place in [-1, 1] spans to either side


@dataclass(frozen=True)
class Column:
    """One column of a table as it was found.

    kind: continuous, integer, date (numbers); categorical, boolean (classes); or not trained on: constant, which is put
        back; text, which is left empty; class, which is the field `label`.
    categories: texts of the cells of classes, in their order; of a constant, its one text.
    counts: how many of the fitted rows are in each category or mode, the missing last.
    weights, means, deviations: of the modes of numbers. low, high: the least and the greatest number seen.
    decimals: digits behind the point, None for scientific notation, of so many digits. fixed: whether all cells have as
        many decimals.
    comma: whether the decimal point is a comma. stamp: of a date, how `strftime` writes it.
    missing: how a missing cell of numbers is written, None if there are none.
    """

    name: str
    kind: str
    categories: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0
    decimals: int | None = 0
    digits: int = 0
    fixed: bool = False
    comma: bool = False
    stamp: str = ""
    missing: str | None = None

    @property
    def width(self) -> int:
        """How many numbers it is encoded in: of numbers the place, then the modes, then whether it is missing."""
        if self.kind in NUMBERS:
            return 1 + len(self.means) + (self.missing is not None)
        return len(self.categories) if self.kind in CLASSES else 0

    def cell(self, value: float) -> str:
        """A raw value as the table writes it."""
        if self.kind in CLASSES:
            return self.categories[int(value)]
        if np.isnan(value):
            return self.missing or ""
        if self.kind == "date":
            step = timedelta(days=1) if "%H" not in self.stamp else timedelta(seconds=1)
            return (EPOCH + round(value) * step).strftime(self.stamp)
        if self.kind == "integer":
            return str(round(value))
        text = f"{value:.{self.decimals}f}" if self.fixed else repr(round(value, self.decimals or 0))
        if self.decimals is None:
            text = f"{value:.{self.digits}g}"
        return text.replace(".", ",") if self.comma else text


@dataclass(frozen=True)
class TableCodec:
    """Raw rows (B, K) <-> float32 (B, width): for numbers alpha = (x - mean) / (4 deviation) of the likeliest mode,
    then that mode as one of many; for classes one of many. Decoded numbers are rounded and clipped as the column is.

    columns: all of the table, in its order. delimiter: between the cells of a line. header: whether there are names.
    """

    columns: tuple[Column, ...]
    delimiter: str = ","
    header: bool = True
    kind: ClassVar[str] = "table"
    _placed: dict[torch.device, list[tuple[Tensor, Tensor, Tensor]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def trained(self) -> tuple[Column, ...]:
        """The columns of raw rows."""
        return tuple(column for column in self.columns if column.width)

    @cached_property
    def groups(self) -> list[dict[str, Any]]:
        """Where each trained column lies in encoded rows: {name, kind, start, width, counts}; of numbers the first of
        `width` is alpha, the rest is one of many; of classes all is."""
        groups, start = [], 0
        for column in self.trained:
            about = {"name": column.name, "kind": column.kind, "start": start, "width": column.width}
            groups.append({**about, "counts": list(column.counts)})
            start += column.width
        return groups

    @property
    def width(self) -> int:
        return sum(column.width for column in self.trained)

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Of a raw row, (K,)."""
        return (len(self.trained),)

    def encode(self, rows: Tensor) -> Tensor:
        rows = rows.double()
        made = rows.new_zeros(len(rows), self.width).float()  # (B, width)
        for j, (column, about, modes) in enumerate(zip(self.trained, self.groups, self._on(rows), strict=True)):
            start, x = about["start"], rows[:, j]
            if column.kind in CLASSES:
                made.scatter_(1, (start + x.long())[:, None], 1.0)
                continue
            score, means, deviations = modes
            gone = x.isnan()
            known = x.masked_fill(gone, column.means[0])
            place = (known[:, None] - means) / deviations  # (B, modes)
            mode = (score - place.square() / 2).argmax(1, keepdim=True)
            alpha = place.gather(1, mode)[:, 0] / REACH
            made[:, start] = alpha.masked_fill(gone, 0.0).float()
            mode = mode.masked_fill(gone[:, None], len(column.means))
            made.scatter_(1, start + 1 + mode, 1.0)
        return made

    def decode(self, batch: Tensor) -> np.ndarray:
        """float (B, width) -> float64 (B, K). One of many is the greatest."""
        values = batch.detach().double().cpu().numpy()
        rows = np.empty((len(values), len(self.trained)))
        for j, (column, about) in enumerate(zip(self.trained, self.groups, strict=True)):
            group = values[:, about["start"] : about["start"] + about["width"]]
            if column.kind in CLASSES:
                rows[:, j] = group.argmax(1)
                continue
            mode = group[:, 1:].argmax(1)
            means, deviations = np.array([*column.means, np.nan]), np.array([*column.deviations, 0.0])
            x = (group[:, 0] * REACH * deviations[mode] + means[mode]).clip(column.low, column.high)
            rows[:, j] = x if column.decimals is None else x.round(column.decimals)
        return rows

    def cells(self, rows: np.ndarray, labels: np.ndarray | None = None) -> list[list[str]]:
        """Raw rows as the texts of a table in all its columns. labels: class numbers, for the column that is the class,
        which is else left empty."""
        table: list[Sequence[str]] = []
        places = {column.name: j for j, column in enumerate(self.trained)}
        for column in self.columns:
            if column.name in places:
                table.append([column.cell(x) for x in rows[:, places[column.name]].tolist()])
            elif column.kind == "class" and labels is not None:
                table.append([column.categories[k] for k in labels.tolist()])
            else:
                table.append([column.categories[0] if column.kind == "constant" else ""] * len(rows))
        return [list(line) for line in zip(*table, strict=True)]

    def write(self, rows: np.ndarray, folder: Path, note: str = "") -> list[Path]:
        """Write `samples.csv` as the source was: its header, order, delimiter and categories. A table has no place for
        a note."""
        path = folder / "samples.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, delimiter=self.delimiter, lineterminator="\n")
            if self.header:
                lines.writerow([column.name for column in self.columns])
            lines.writerows(self.cells(rows))
        return [path]

    def to_json(self) -> dict[str, Any]:
        made = {"kind": self.kind, "delimiter": self.delimiter, "header": self.header}
        columns = [
            {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(column).items()}
            for column in self.columns
        ]
        return {"codec": {**made, "columns": columns}}

    @classmethod
    def from_json(cls, made: Mapping[str, Any]) -> TableCodec:
        columns = []
        for column in made["columns"]:
            known: dict[str, Any] = {n: tuple(x) if isinstance(x, list) else x for n, x in column.items()}
            columns.append(Column(**known))
        return cls(tuple(columns), made["delimiter"], made["header"])

    def _on(self, like: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Log weight over deviation, mean and deviation of the modes of each column, on the device of a tensor."""
        if like.device not in self._placed:
            self._placed[like.device] = [
                (
                    like.new_tensor([np.log(w / s) for w, s in zip(c.weights, c.deviations, strict=True)]),
                    like.new_tensor(c.means),
                    like.new_tensor(c.deviations),
                )
                for c in self.trained
            ]
        return self._placed[like.device]
