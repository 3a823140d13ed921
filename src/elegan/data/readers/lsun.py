"""LSUN (Yu et al., 2015, arXiv:1506.03365): a million and more pictures of one category of places or things.

    bedroom_train_lmdb/data.mdb, bedroom_val_lmdb/      databases of pictures, each with its key
    bedroom_train/3/f/2/…/3f2….webp, bedroom_val/       the same exported to files, in folders of their keys' letters,
                                                        or without

Of these folders `train` is the training split and `val` the test split, of whatever category. The letters are no
classes. A database of encoded pictures that is not called so is all training. A zipped database is to be unpacked.
"""

import io
import os
import re
import threading
from pathlib import Path
from typing import BinaryIO

from elegan.data.form import Form
from elegan.data.listing import Listing, Sample
from elegan.data.readers.picture import SUFFIXES, Pictures
from elegan.data.tree import Entry, Folder, Tree, plant
from elegan.errors import DataError, NoSplitError

DATABASE = "data.mdb"
FOLDER = re.compile(r"(.+)_(train|val)(_lmdb)?")
PARTS = {"train": "train", "test": "val"}
SPLITS = {part: split for split, part in PARTS.items()}
KEY = re.compile(r"[0-9a-f]{40}")  # how pictures are called


class Database:
    """The values in an LMDB folder, as files called by their keys. Nothing is written, no lock is taken.

    Errors: `DataError` if it is damaged or the library is not there.
    """

    def __init__(self, home: Path):
        self.root, self.passed, self._lock = str(home), (), threading.Lock()
        try:
            import lmdb
        except ImportError:
            raise DataError(f'{self.root!r} needs a library to be read: pip install "elegan[lmdb]"') from None
        try:
            self._env = lmdb.open(self.root, readonly=True, lock=False, readahead=False, max_readers=1)
            size = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
            if size > os.path.getsize(home / DATABASE):  # it is mapped: to read beyond its end would end the process
                raise lmdb.Error("it is cut short")
            self._view = self._env.begin(buffers=True)
            keys = [bytes(key) for key in self._view.cursor().iternext(values=False)]
        except (lmdb.Error, OSError) as error:
            raise DataError(f"{self.root!r} is no whole LMDB database ({_line(error)}): fetch it again") from error
        about = os.stat(home / DATABASE)
        stamp = f"{about.st_mtime_ns} {about.st_size}"
        self.entries = tuple(Entry((_name(key),), 0, stamp, key) for key in keys)

    def open(self, entry: Entry) -> BinaryIO:
        with self._lock:
            value = self._view.get(entry.place)
        if value is None:
            raise ValueError("its entry in the database is gone")
        return io.BytesIO(value)


def knows(tree: Tree) -> bool:
    """Whether it holds a database, or nothing but pictures in folders of their keys' letters."""
    if any(entry.parts[-1] == DATABASE for entry in tree.entries):
        return True
    pictures = [entry for entry in tree.entries if entry.suffix in SUFFIXES]
    return bool(pictures) and all(_lettered(entry) for entry in pictures)


def of_tree(tree: Tree, *, name: str, split: str, form: Form) -> Listing:
    """The pictures of one category. Opens none.

    Errors: `DataError` if there are several categories, or a database is in an archive or damaged; `NoSplitError`.
    """
    sets = _sets(tree)
    if not sets:
        raise DataError(f"{name!r}: {tree.root!r} holds no {DATABASE}, nor pictures called by their keys: unpack it")
    categories = sorted({category for category, _ in sets})
    if len(categories) > 1:
        raise DataError(f"{name!r} holds several categories, {', '.join(map(repr, categories))}: give the path of one")
    category, other = categories[0], _other(tree)
    if (category, split) not in sets:
        if other is not None:  # the split that was not given lies beside the one that was
            return of_tree(plant(other), name=name, split=split, form=form)
        raise NoSplitError(f"{name!r} has no {split} split: there is no {category}_{PARTS[split]}_lmdb")
    home, entries = sets[category, split]
    found: Tree = Database(home) if not entries else tree
    if not found.entries:
        raise DataError(f"{str(home)!r} is empty: fetch it again")
    samples = [Sample(entry.path, ((entry,),)) for entry in entries or found.entries]
    own = other is not None or (category, "test") in sets
    return Listing(
        name, found, form, {"main": samples}, {"main": ("real",)}, {"real": Pictures(form)}, (),
        f"from {str(home)!r} (LSUN {split})", tree.passed, own_split=own,
    )  # fmt: skip


def _sets(tree: Tree) -> dict[tuple[str, str], tuple[Path, list[Entry]]]:
    """By category and split: the folder, and its pictures if it is no database."""
    homes: dict[Path, list[Entry]] = {}
    for entry in tree.entries:
        if entry.parts[-1] == DATABASE:
            if not isinstance(tree, Folder):
                raise DataError(f"{tree.root!r} holds a database, which cannot be read in an archive: unpack it")
            homes[Path(tree.root, *entry.parts[:-1])] = []
        elif entry.suffix in SUFFIXES and KEY.fullmatch(entry.parts[-1].split(".")[0]):
            homes.setdefault(Path(tree.root, *_letters(entry)), []).append(entry)
    sets: dict[tuple[str, str], tuple[Path, list[Entry]]] = {}
    for home, entries in sorted(homes.items()):
        match = FOLDER.fullmatch(home.stem)
        key = (match[1], SPLITS[match[2]]) if match else (home.stem, "train")
        if key in sets:
            raise DataError(f"{str(sets[key][0])!r} and {str(home)!r} are both {' '.join(key)}: give the path of one")
        sets[key] = (home, entries)
    return sets


def _other(tree: Tree) -> Path | None:
    """The folder of the other split beside a tree that is one of them."""
    root = Path(tree.root)
    match = FOLDER.fullmatch(root.name) if isinstance(tree, Folder) else None
    if match is None:
        return None
    beside = root.with_name(f"{match[1]}_{'val' if match[2] == 'train' else 'train'}{match[3] or ''}")
    return beside if beside.is_dir() else None


def _lettered(entry: Entry) -> bool:
    """Whether a picture is called by its key and lies in folders of the key's first letters."""
    key = entry.parts[-1].split(".")[0]
    letters = entry.parts[len(_letters(entry)) : -1]
    return KEY.fullmatch(key) is not None and key.startswith("".join(letters)) and bool(letters)


def _letters(entry: Entry) -> tuple[str, ...]:
    """The folders above those of single letters."""
    above = entry.parts[:-1]
    while above and len(above[-1]) == 1:
        above = above[:-1]
    return above


def _name(key: bytes) -> str:
    return key.decode("ascii", "backslashreplace").replace("/", "\\x2f")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
