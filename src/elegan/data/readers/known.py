"""Data sets that everybody knows, opened by name from $ELEGAN_DATA, or by path, recognised by what a tree holds."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elegan.data.form import Form
from elegan.data.listing import Listing
from elegan.data.readers import celeba, cifar, columns, ffhq, imagenet, lsun
from elegan.data.source import Source
from elegan.data.tree import Tree, plant
from elegan.errors import DataError

LAYOUTS: tuple[Any, ...] = (cifar, celeba, imagenet, lsun, ffhq, columns)  # the first that `knows` a tree reads it


@dataclass(frozen=True)
class Known:
    """A name: what it is, for people; which layout it has; where below $ELEGAN_DATA it is looked for, in this order."""

    about: str
    layout: Any
    places: tuple[str, ...]


NAMED = {
    "cifar10": Known(
        "60,000 pictures of 32x32, 10 classes (CIFAR-10)", cifar,
        ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-10-binary.tar.gz", "cifar-10-python.tar.gz", "cifar10"),
    ),
    "cifar100": Known(
        "60,000 pictures of 32x32, 100 classes (CIFAR-100)", cifar,
        ("cifar-100-binary", "cifar-100-python", "cifar-100-binary.tar.gz", "cifar-100-python.tar.gz", "cifar100"),
    ),
    "celeba": Known("202,599 faces of 178x218, 40 attributes (CelebA)", celeba, ("celeba", "CelebA", "celeba.zip")),
    "ffhq": Known(
        "70,000 faces of 1024x1024 or 128x128 (FFHQ)", ffhq,
        ("ffhq", "FFHQ", "ffhq-dataset", *ffhq.SIZES, *(f"{size}.zip" for size in ffhq.SIZES)),
    ),
    "imagenet": Known(
        "1.3 million pictures, 1,000 classes (ImageNet, ILSVRC 2012)", imagenet, ("imagenet", "ILSVRC2012", "ILSVRC"),
    ),
    "lsun-CATEGORY": Known(
        "a million and more pictures of a CATEGORY such as bedroom, church_outdoor, cat (LSUN)", lsun,
        ("lsun/CATEGORY_train_lmdb", "lsun/CATEGORY_train", "lsun/CATEGORY", "CATEGORY_train_lmdb"),
    ),
}  # fmt: skip


def named(name: str) -> Known | None:
    """What a name stands for, if it is one of these."""
    if match := re.fullmatch(r"lsun-(\w+)", name):
        known = NAMED["lsun-CATEGORY"]
        return Known(known.about, known.layout, tuple(place.replace("CATEGORY", match[1]) for place in known.places))
    return NAMED.get(name) if "CATEGORY" not in name else None


def reads(path: Path) -> bool:
    """Whatever lies where data of a name should, its name says what it is."""
    return True


def read(path: Path, *, name: str, split: str, form: Form) -> Source | Listing:
    """A split of the data of a name, which lies at a path. Errors: `DataError` as its layout."""
    data = named(name)
    assert data is not None
    return data.layout.of_tree(plant(path), name=name, split=split, form=form)


def home(name: str) -> Path:
    """Where the data of a name lies. Errors: `DataError` saying where it was looked for and what to put there."""
    data = named(name)
    assert data is not None
    if (found := find(data)) is not None:
        return found
    where = " or ".join(map(str, folders()))
    places = ", ".join(data.places[:-1]) + f" or {data.places[-1]}"
    given = "" if os.environ.get("ELEGAN_DATA") else ", or set ELEGAN_DATA to the folder that holds it"
    fetch = f", or use 'elegan data fetch {name}'" if data.layout is cifar else ""
    raise DataError(f"{name!r} is not in {where}: put it there as {places}{given}{fetch}")


def folders() -> list[Path]:
    """Where data of a name is looked for: $ELEGAN_DATA, then where `elegan data fetch` puts it without that."""
    given = os.environ.get("ELEGAN_DATA")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "elegan" / "fetched"
    return [*([Path(given).expanduser()] if given else []), cache]


def find(known: Known) -> Path | None:
    return next((p for folder in folders() for place in known.places if (p := folder / place).exists()), None)


def layout_of(tree: Tree, kind: str = "auto") -> Any | None:
    """The module that knows a tree, if one does. kind: what its files are to be taken for."""
    among = {"auto": LAYOUTS, "image": LAYOUTS, "table": (columns,)}.get(kind, ())
    return next((layout for layout in among if layout.knows(tree)), None)
