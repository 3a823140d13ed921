"""ImageNet, the 1,000 classes of ILSVRC 2012 (Russakovsky et al., 2015, arXiv:1409.0575).

    train/n01440764/*.JPEG …                     or ILSVRC/Data/CLS-LOC/train/…, as Kaggle has it
    val/n01440764/*.JPEG …                       or flat, val/ILSVRC2012_val_00000001.JPEG …, and then one of
        LOC_val_solution.csv                     whose rows say the class of each picture
        ILSVRC2012_validation_ground_truth.txt   a number a line, in the order of meta.mat, which must be there too

A class is a folder of training pictures; classes are numbered in the order of their names, which are kept. `val` is the
test split: ImageNet's own test pictures have no labels. The tar of tars is to be unpacked first.
"""

import csv
import io
import re

from elegan.data.form import Form
from elegan.data.listing import Listing, Sample
from elegan.data.readers.picture import SUFFIXES, Pictures
from elegan.data.tree import Entry, Tree
from elegan.errors import DataError, NoSplitError

CLASS = re.compile(r"n\d{8}")
SOLUTION, TRUTH, META = "LOC_val_solution.csv", "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
LIST_BYTES = 1 << 26


def knows(tree: Tree) -> bool:
    return _home(tree) is not None or _tar_of_tars(tree)


def of_tree(tree: Tree, *, name: str, split: str, form: Form) -> Listing:
    """The pictures of a split with their classes. Opens none.

    Errors: `DataError` if pictures or labels are missing; `NoSplitError` if there is no `val`.
    """
    if _tar_of_tars(tree):
        raise DataError(
            f"{tree.root!r} is a tar of tars: unpack each into a folder of its own, train/n01440764/ and so on, "
            "and give the folder that holds train"
        )
    home = _home(tree)
    if home is None:
        raise DataError(f"{name!r}: {tree.root!r} holds no train/n01440764 and the like: unpack ImageNet there")
    pictures = [entry for entry in tree.entries if entry.suffix in SUFFIXES and entry.parts[: len(home)] == home]
    parts = {part: [e for e in pictures if e.parts[len(home)] == part] for part in ("train", "val")}
    classes = tuple(sorted({_class(entry) for entry in parts["train"]} - {""}))
    wanted = "train" if split == "train" else "val"
    if not parts[wanted]:
        raise NoSplitError(f"{name!r} has no {split} split: there are no pictures in {'/'.join((*home, wanted))!r}")
    classed = {entry: _class(entry) for entry in parts[wanted]}
    if not all(classed.values()):
        classed = _labelled(tree, parts[wanted])
    if strange := {*classed.values()} - {*classes}:
        raise DataError(f"{name!r}: class {min(strange)!r} of {wanted} has no folder in train: add it")
    numbers = {known: number for number, known in enumerate(classes)}
    samples = [Sample(entry.path, ((entry,),), numbers[classed[entry]]) for entry in parts[wanted]]
    return Listing(
        name, tree, form, {"main": samples}, {"main": ("real",)}, {"real": Pictures(form)}, classes,
        f"from {tree.root!r} (ImageNet {wanted})", tree.passed, own_split=bool(parts["val"]),
    )  # fmt: skip


def _home(tree: Tree) -> tuple[str, ...] | None:
    """The folder in which `train` lies with two or more folders that are called as these classes are."""
    found: set[tuple[str, ...]] = set()
    for entry in tree.entries:
        if len(entry.parts) > 2 and entry.parts[-3] == "train" and CLASS.fullmatch(entry.parts[-2]):
            found.add(entry.parts[:-1])
            if len(found) > 1:
                return entry.parts[:-3]
    return None


def _tar_of_tars(tree: Tree) -> bool:
    names = [entry.parts[-1] for entry in tree.entries]
    return tree.root.endswith(".tar") and bool(names) and all(re.fullmatch(r"n\d{8}\.tar", name) for name in names)


def _class(entry: Entry) -> str:
    folder = entry.parts[-2] if len(entry.parts) > 1 else ""
    return folder if CLASS.fullmatch(folder) else ""


def _labelled(tree: Tree, pictures: list[Entry]) -> dict[Entry, str]:
    """The class of each picture of a flat `val`, by a list that lies anywhere in the tree."""
    lists = {entry.parts[-1]: entry for entry in tree.entries if entry.parts[-1] in (SOLUTION, TRUTH, META)}
    if SOLUTION in lists:
        said = _solution(tree, lists[SOLUTION])
    elif TRUTH in lists and META in lists:
        said = _truth(tree, lists[TRUTH], lists[META])
    else:
        wanted = f"{SOLUTION}, or {TRUTH} and {META}"
        raise DataError(f"{tree.root!r}: the pictures of val have no labels: put {wanted}, there")
    for entry in pictures:
        if entry.parts[-1].split(".")[0] not in said:
            raise DataError(f"{tree.root!r}: {entry.path!r} is not in the list of labels: fetch the list again")
    return {entry: said[entry.parts[-1].split(".")[0]] for entry in pictures}


def _solution(tree: Tree, entry: Entry) -> dict[str, str]:
    """`ILSVRC2012_val_00048981,n03995372 85 1 499 272 …` -> the class by the name of the picture."""
    rows = list(csv.reader(io.StringIO(_text(tree, entry))))
    said = {row[0]: row[1].split()[0] for row in rows[1:] if len(row) == 2 and row[1].split()}
    if len(said) != len(rows) - 1 or not said or not all(CLASS.fullmatch(known) for known in said.values()):
        raise DataError(f"{entry.path!r} of {tree.root!r} is no list of pictures and classes: fetch it again")
    return said


def _truth(tree: Tree, truth: Entry, meta: Entry) -> dict[str, str]:
    """The numbers of the devkit, which are in another order than the names of the classes."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError(
            f'{meta.path!r} needs scipy to be read: pip install "elegan[clean]", or use {SOLUTION}'
        ) from None
    try:
        with tree.open(meta) as file:
            synsets = loadmat(io.BytesIO(file.read(LIST_BYTES)), squeeze_me=True)["synsets"]
        names = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        numbers = [names[int(line)] for line in _text(tree, truth).split()]
    except DataError:
        raise
    except Exception as error:  # what it raises on damaged bytes is not said
        raise DataError(f"{meta.path!r} and {truth.path!r} of {tree.root!r} do not fit: fetch them again") from error
    return {f"ILSVRC2012_val_{k:08d}": known for k, known in enumerate(numbers, 1)}


def _text(tree: Tree, entry: Entry) -> str:
    if entry.size > LIST_BYTES:
        raise DataError(f"{entry.path!r} of {tree.root!r} has {entry.size:,} bytes, no list of labels: take it away")
    try:
        with tree.open(entry) as file:
            return file.read().decode()
    except (OSError, ValueError) as error:
        raise DataError(f"{entry.path!r} of {tree.root!r} cannot be read ({error}): fetch it again") from error
