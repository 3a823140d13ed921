"""Parquet and Arrow: columns in files, as Hugging Face's `datasets` and others write them.

    faces.parquet, faces.arrow               one file
    data/train-00000-of-00002.parquet …      shards, anywhere below a folder; a file or folder called test (else val,
    data/test-00000-of-00001.parquet         valid, validation) is the test split, as in a folder of images
    train/state.json, train/data-….arrow     what `save_to_disk` writes; the files that state.json names

Samples: the one column of encoded images, bytes or a struct of `bytes` and `path`, or the one called `image` (else
    `img`, `real`, `x`, `images`, `data`, `pixel_values`); or columns `a` and `b`, paired. Without such a column, the
    one of nested lists of numbers of one shape, as `arrays` has it. Else it is a table, see `table`.
Labels: the column named by `class_column`; or the one that the file says is a ClassLabel, else the one called `label`
    (else `labels`, `y`, `fine_label`). Whole numbers, named by the ClassLabel if there is one, or texts. A split whose
    labels are all -1 has none.
Images are read some rows at a time; what an image's `path` names is never opened.
"""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from elegan.data.form import Form
from elegan.data.listing import Listing, Sample
from elegan.data.readers import arrays, picture, table
from elegan.data.readers.arrow import Columns
from elegan.data.readers.delimited import Cells
from elegan.data.readers.files import TESTS
from elegan.data.readers.picture import Pictures
from elegan.data.source import Source, number_labels
from elegan.data.tree import Entry, Folder, Tree
from elegan.errors import DataError, NoSplitError, nearest

SUFFIXES = frozenset({".parquet", ".arrow"})
IMAGE = ("image", "img", *arrays.REAL, "pixel_values")
LABEL = ("label", "labels", "y", "fine_label")
SPLIT = re.compile(r"(train|test|val|valid|validation)([-_.].*)?", re.IGNORECASE)
STATE_BYTES = 1 << 24


def knows(tree: Tree) -> bool:
    """Whether it holds such files, and no more images than them: a list of images may lie beside these."""
    count = sum(entry.suffix in SUFFIXES for entry in tree.entries)
    return count > 0 and sum(entry.suffix in picture.SUFFIXES for entry in tree.entries) <= count


def of_tree(tree: Tree, *, name: str, split: str, form: Form) -> Source | Listing:
    """The rows of a split as images, arrays or a table, as the module says. Reads the labels and no image.

    Errors: `DataError` if a file is damaged or its columns do not say what they are; `NoSplitError`.
    """
    if not isinstance(tree, Folder):
        raise DataError(f"{tree.root!r} holds Parquet or Arrow files, which cannot be read in an archive: unpack it")
    files = _splits(tree)
    if split not in files:
        raise NoSplitError(f"{name!r} has no {split} split: it holds {files['train'][0].path!r} and no test-….parquet")
    columns = Columns(tree.root, files[split])
    if not len(columns):
        raise DataError(f"{name!r} holds no samples: {files[split][0].path!r} has no rows")
    if form.class_column is not None and form.class_column not in columns.schema.names:
        hint = nearest(form.class_column, columns.schema.names)
        raise DataError(f"{name!r} has no column {form.class_column!r}.{hint}")
    kinds = {column: _kind(columns, column) for column in columns.schema.names}
    images, numbers = ([c for c, kind in kinds.items() if kind == wanted] for wanted in ("image", "numbers"))
    own, path = len(files) > 1, Path(tree.root) if len(files[split]) > 1 else Path(files[split][0].place)
    if form.kind == "table" or not (images or numbers):
        splits = {part: columns if part == split else Columns(tree.root, those) for part, those in files.items()}
        return _table(splits, split, kinds, path, name=name, form=form)
    real = ["a", "b"] if not numbers and {"a", "b"} == {*images} else [_chosen(images or numbers, name)]
    train = columns if split == "train" else Columns(tree.root, files["train"])
    labels, classes = _labels(columns, train, real, form, name=name)
    if not images:
        return _arrays(columns, real[0], labels, classes, path, name=name, own=own)
    streams = zip(*(columns.cells(column) for column in real), strict=True)
    names, decoders = tuple(real), dict.fromkeys(real, Pictures(form))
    if len(real) == 1:
        names = ("a", "b") if form.sides else ("real",)
        decoders = {"a": Pictures(form, 0), "b": Pictures(form, 1)} if form.sides else {"real": Pictures(form)}
        streams = ((cell * len(names)) for cell in streams)
    if len(names) == 2:
        labels, classes = None, ()
    samples = [
        Sample(cells[0].path, tuple((cell,) for cell in cells), -1 if labels is None else int(labels[k]))
        for k, cells in enumerate(streams)
    ]
    return Listing(
        name, columns, form, {"main": samples}, {"main": names}, decoders, classes, f"from {str(path)!r}",
        tree.passed, own,
    )  # fmt: skip


def _splits(tree: Tree) -> dict[str, list[Entry]]:
    """The files of each split; those of no split are left out if others are of one."""
    files = _of_states(tree) or [entry for entry in tree.entries if entry.suffix in SUFFIXES]
    found: dict[str, list[Entry]] = {}
    for entry in files:
        words = (part for part in entry.parts if len(files) > 1)  # of a file on its own the name says nothing
        matches = (SPLIT.fullmatch(word.rsplit(".", 1)[0] if word == entry.parts[-1] else word) for word in words)
        found.setdefault(next((match[1].lower() for match in matches if match), ""), []).append(entry)
    test = next((part for part in TESTS if part in found), None)
    train = found.get("train") or found.get("")
    if not train:
        raise DataError(f"{tree.root!r} has no training split, only {', '.join(found)}: open one of its files")
    return {"train": train, **({"test": found[test]} if test else {})}


def _of_states(tree: Tree) -> list[Entry]:
    """The files that `save_to_disk` names, where it has been; beside them lie caches of others."""
    by_path = {entry.parts: entry for entry in tree.entries}
    named = []
    for entry in tree.entries:
        if entry.parts[-1] != "state.json":
            continue
        where = f"{entry.path!r} of {tree.root!r}"
        try:
            with tree.open(entry) as file:
                said: Any = json.loads(file.read(STATE_BYTES))
            names = [file["filename"] for file in said["_data_files"]]
            if said.get("_indices_files") or said.get("_indices_data_files"):
                raise DataError(f"{where} says that the rows are in another order: save it after flatten_indices")
            named += [by_path[*entry.parts[:-1], name] for name in names]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(f"{where} is damaged, or a file that it names is missing: save the data again") from error
    return named


def _kind(columns: Columns, name: str) -> str:
    """What a column holds: image, numbers (lists of them), audio, other (lists of other things) or plain."""
    from pyarrow import types

    kind, said = columns.schema.field(name).type, columns.features.get(name)
    kind = getattr(kind, "storage_type", kind)
    told = said.get("_type") if isinstance(said, dict) else None
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type):
        return "audio" if told == "Audio" else "image"
    if _is_bytes(kind):
        return "image"
    if _is_list(kind):
        while _is_list(kind):
            kind = kind.value_type
        return "numbers" if types.is_integer(kind) or types.is_floating(kind) else "other"
    return "other" if types.is_nested(kind) else "plain"


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _chosen(among: Sequence[str], name: str) -> str:
    """Which column is the samples."""
    if len(among) == 1:
        return among[0]
    for known in IMAGE:
        if known in among:
            return known
    those = ", ".join(map(repr, among))
    raise DataError(f"{name!r}: which of the columns {those} are the samples? Call it 'image', or a pair 'a' and 'b'")


def _labels(
    columns: Columns, train: Columns, real: Sequence[str], form: Form, *, name: str
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """int64 (N,) and the classes, or None; texts are numbered in their order in the training split.

    Errors: `DataError` if a row has none, or the class column is no classes.
    """
    column = _label_column(columns, real, form, name=name)
    if column is None:
        return None, ()
    names, values = _class_names(columns, column), columns.column(column).to_pylist()
    if None in values:
        raise DataError(f"{name!r}: row {values.index(None):,} has no {column!r}: fill it, or drop the row")
    if all(type(value) is int for value in values):
        labels = np.array(values)
        if (labels == -1).all():
            return None, ()
        if not names:
            return number_labels(name, labels)
        if labels.min() < 0 or labels.max() >= len(names):
            span = f"from {labels.min()} to {labels.max()}"
            raise DataError(f"{name!r}: {column!r} goes {span}, and there are {len(names)} classes: mend the labels")
        return labels.astype(np.int64), names
    if not all(type(value) in (str, bool) for value in values):
        raise DataError(f"{name!r}: the class column {column!r} holds neither whole numbers nor texts: choose another")
    texts = [str(value) for value in values]
    classes = tuple(sorted({str(value) for value in train.column(column).to_pylist()}))
    numbers = {known: number for number, known in enumerate(classes)}
    if strange := {*texts} - {*classes}:
        raise DataError(f"{name!r}: class {min(strange)!r} is not in the training split: add it, or take it away")
    return np.array([numbers[text] for text in texts], np.int64), classes


def _label_column(columns: Columns, real: Sequence[str], form: Form, *, name: str) -> str | None:
    if form.class_column is not None:
        return form.class_column
    plain = [column for column in columns.schema.names if column not in real and _kind(columns, column) == "plain"]
    said = [column for column in plain if _class_names(columns, column)]
    among = said or [column for column in LABEL if column in plain]
    if len(among) <= 1 or not said:
        return among[0] if among else None
    for known in LABEL:
        if known in among:
            return known
    raise DataError(f"{name!r}: which of {', '.join(map(repr, among))} is the class? Say --class-column {among[0]}")


def _class_names(columns: Columns, name: str) -> tuple[str, ...]:
    said = columns.features.get(name)
    names = said.get("names") if isinstance(said, dict) and said.get("_type") == "ClassLabel" else None
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _arrays(
    columns: Columns,
    real: str,
    labels: np.ndarray | None,
    classes: tuple[str, ...],
    path: Path,
    *,
    name: str,
    own: bool,
) -> Source:
    """Lists of numbers as an array. Errors: `DataError` if they are not all of one shape."""
    values, shape = columns.column(real).combine_chunks(), [len(columns)]
    values = getattr(values, "storage", values)
    while _is_list(values.type):
        lengths = values.value_lengths().unique().to_pylist()
        if len(lengths) != 1 or lengths[0] is None:
            raise DataError(f"{name!r}: the lists in {real!r} are not all of one length: pad them, or drop rows")
        shape.append(lengths[0])
        values = values.flatten()
    if values.null_count:
        raise DataError(f"{name!r}: {real!r} misses {values.null_count:,} numbers: fill them, or drop those rows")
    raw = values.to_numpy(zero_copy_only=False).reshape(shape)
    pair = None if labels is None else (labels, classes)
    return replace(arrays.of_rows(raw, pair, path, real, name=name), own_split=own)


def _table(
    splits: Mapping[str, Columns], split: str, kinds: Mapping[str, str], path: Path, *, name: str, form: Form
) -> Source:
    """Plain columns as a table. Those of lists and the like are left out, and told."""
    plain = [column for column, kind in kinds.items() if kind == "plain"]
    if "audio" in kinds.values() or not plain:
        what = next(column for column, kind in kinds.items() if kind != "plain")
        raise DataError(f"{name!r}: column {what!r} holds {kinds[what]}, not read from columns: save it as files")
    if left := [column for column, kind in kinds.items() if kind != "plain"]:
        warnings.warn(f"{name!r}: left out: {len(left)} columns that are no table's, such as {left[0]!r}", stacklevel=2)
    cells = {part: {title: Cells.of(_texts(columns, title)) for title in plain} for part, columns in splits.items()}
    return table.of_columns(cells, split, name=name, form=form, where=repr(str(path)))


def _texts(columns: Columns, title: str) -> list[str]:
    """The cells of a column as texts: classes by name, numbers as Python writes them, nothing where there is none."""
    names = _class_names(columns, title)

    def text(value: Any) -> str:
        if value is None or value != value:  # NaN
            return ""
        if isinstance(value, bool):
            return str(value).lower()
        if names and isinstance(value, int):
            return names[value] if 0 <= value < len(names) else ""
        return value.isoformat(" ", "seconds") if isinstance(value, datetime) else str(value)

    return [text(value) for value in columns.column(title).to_pylist()]
