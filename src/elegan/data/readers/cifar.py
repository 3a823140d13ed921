"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 60,000 colour pictures of 32x32, as their author packed them.

    cifar-10-batches-bin/   data_batch_1.bin … data_batch_5.bin, test_batch.bin, batches.meta.txt
    cifar-100-binary/       train.bin, test.bin, fine_label_names.txt
    cifar-10-batches-py/    data_batch_1 … data_batch_5, test_batch, batches.meta
    cifar-100-python/       train, test, meta

Folders, or the archives they came in. A binary record is one byte of class (in CIFAR-100 two: coarse, then fine, which
is the one taken), then 3,072 bytes of pixels, the channels red, green, blue one after the other. The Python batches are
pickles; they are read without unpickling, see `pickles`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from elegan.data.form import Form
from elegan.data.readers import pickles
from elegan.data.source import Source, image_field, label_field
from elegan.data.tree import Entry, Tree
from elegan.errors import DataError
from elegan.spec import Spec

PIXELS = (3, 32, 32)
META_BYTES = 1 << 20


@dataclass(frozen=True)
class Layout:
    """One of the four forms. mark: a file that no other data has. head: bytes of class before the pixels."""

    name: str
    mark: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    rows: dict[str, int]  # in each file
    names: str
    head: int


TENTHS = tuple(f"data_batch_{k}" for k in range(1, 6))
LAYOUTS = (
    Layout("CIFAR-10", "data_batch_1.bin", tuple(f"{x}.bin" for x in TENTHS), ("test_batch.bin",),
           {f"{x}.bin": 10_000 for x in (*TENTHS, "test_batch")}, "batches.meta.txt", 1),
    Layout("CIFAR-100", "fine_label_names.txt", ("train.bin",), ("test.bin",),
           {"train.bin": 50_000, "test.bin": 10_000}, "fine_label_names.txt", 2),
    Layout("CIFAR-10", "data_batch_1", TENTHS, ("test_batch",), dict.fromkeys((*TENTHS, "test_batch"), 10_000),
           "batches.meta", 0),
    Layout("CIFAR-100", "meta", ("train",), ("test",), {"train": 50_000, "test": 10_000}, "meta", 0),
)  # fmt: skip
MARKS = {layout.mark: layout for layout in LAYOUTS}
CLASSES = {"CIFAR-10": 10, "CIFAR-100": 100}


def knows(tree: Tree) -> bool:
    return _found(tree) is not None


def of_tree(tree: Tree, *, name: str, split: str, form: Form) -> Source:
    """The pictures of a split with their classes by name.

    Errors: `DataError` naming the file that is missing, cut short, damaged, or a pickle that would run code.
    """
    found = _found(tree)
    if found is None:
        raise DataError(f"{name!r}: {tree.root!r} holds none of CIFAR's files, such as data_batch_1.bin: unpack it")
    layout, files = found
    names = _names(tree, _file(tree, files, layout.names), layout)
    pixels, labels = [], []
    for file in layout.train if split == "train" else layout.test:
        entry = _file(tree, files, file)
        some, numbers = (_binary if layout.head else _pickled)(tree, entry, layout)
        if numbers.max() >= len(names):
            raise _damaged(tree, entry, f"it has a class {numbers.max()}, and there are {len(names)}")
        pixels.append(some)
        labels.append(numbers)
    rows, label = np.concatenate(pixels), np.concatenate(labels)
    spec = Spec(real=image_field(rows, classes=len(names)), label=label_field(label, names))
    about = f"{len(rows):,} pictures of 32x32 from {tree.root!r} ({layout.name} {split}), {len(names)} classes"
    return Source(name, spec, {"real": rows, "label": label}, about, own_split=True)


def _found(tree: Tree) -> tuple[Layout, dict[str, Entry]] | None:
    """Which layout a tree has, and the files beside its mark, by name."""
    for mark in (entry for entry in tree.entries if entry.parts[-1] in MARKS):
        layout = MARKS[mark.parts[-1]]
        beside = {entry.parts[-1]: entry for entry in tree.entries if entry.parts[:-1] == mark.parts[:-1]}
        if layout.rows.keys() & beside.keys():
            return layout, beside
    return None


def _file(tree: Tree, files: dict[str, Entry], name: str) -> Entry:
    if name not in files:
        raise DataError(f"{tree.root!r} lacks {name!r}: unpack or fetch it again")
    return files[name]


def _names(tree: Tree, entry: Entry, layout: Layout) -> tuple[str, ...]:
    """The classes, in the order of their numbers."""
    content = _content(tree, entry, META_BYTES)
    try:
        if layout.head:
            names = [line.strip() for line in content.decode().splitlines() if line.strip()]
        else:
            said = pickles.read_plain(content)
            those = said.get(b"fine_label_names", said.get(b"label_names"))
            names = [name.decode() if isinstance(name, bytes) else name for name in those]
        if len(names) != CLASSES[layout.name] or not all(isinstance(name, str) for name in names):
            raise ValueError(f"it names {len(names)} classes, not {CLASSES[layout.name]}")
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(tree, entry, str(error) if type(error) is ValueError else "it names no classes") from error
    return tuple(names)


def _binary(tree: Tree, entry: Entry, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3, 32, 32) uint8, (N,) int64."""
    rows, record = layout.rows[entry.parts[-1]], layout.head + int(np.prod(PIXELS))
    content = _content(tree, entry, rows * record)
    if len(content) != rows * record:
        raise _damaged(tree, entry, f"it holds {len(content):,} bytes, {rows:,} pictures are {rows * record:,}")
    table = np.frombuffer(content, np.uint8).reshape(rows, record)
    return table[:, layout.head :].reshape(rows, *PIXELS), table[:, layout.head - 1].astype(np.int64)


def _pickled(tree: Tree, entry: Entry, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    rows = layout.rows[entry.parts[-1]]
    try:
        said: Any = pickles.read_plain(_content(tree, entry, pickles.BYTES))
        table, numbers = said[b"data"].made(), said.get(b"fine_labels", said.get(b"labels"))
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("its labels are no class numbers")
        if table.shape != (rows, int(np.prod(PIXELS))) or table.dtype != np.uint8 or len(numbers) != rows:
            raise ValueError(f"it holds {table.dtype} of {table.shape}, not {rows:,} pictures with a label each")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error) if type(error) is ValueError else "it holds no pictures"
        raise _damaged(tree, entry, reason) from error
    return table.reshape(rows, *PIXELS), np.array(numbers, np.int64)


def _content(tree: Tree, entry: Entry, most: int) -> bytes:
    """A file whole, or as much of it as shows that it is too long."""
    try:
        with tree.open(entry) as file:
            return file.read(min(most, entry.size) + 1)
    except (OSError, ValueError) as error:
        raise _damaged(tree, entry, " ".join(str(error).split())) from error


def _damaged(tree: Tree, entry: Entry, reason: str) -> DataError:
    return DataError(f"{entry.path!r} of {tree.root!r} cannot be read ({reason}): fetch it again")
