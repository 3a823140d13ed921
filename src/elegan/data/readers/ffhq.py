"""FFHQ (Karras, Laine and Aila, 2019, arXiv:1812.04948): 70,000 faces, numbered, a thousand to a folder.

    images1024x1024/00000/00000.png … 69000/69999.png
    thumbnails128x128/00000/00000.png … , or flat: thumbnails128x128/00000.png …

The folders are no classes. As its authors have it, the first 60,000 are for training and the last 10,000 for
validation, which is the test split here. Of several sizes in one place the largest is read; give the folder of another.
"""

import re

from elegan.data.form import Form
from elegan.data.listing import Listing, Sample
from elegan.data.readers.picture import Pictures
from elegan.data.tree import Entry, Tree
from elegan.errors import DataError, NoSplitError

FACE = re.compile(r"\d{5}\.(png|jpg|webp)")
SIZES = ("images1024x1024", "thumbnails128x128")  # the larger first
TRAIN = 60_000  # faces with a lower number


def knows(tree: Tree) -> bool:
    """Whether the faces are numbered as these and lie in the folders of their thousands, or in one of the sizes'."""
    faces = [entry for entry in tree.entries if FACE.fullmatch(entry.parts[-1])]
    sized = any(size in (tree.root.rsplit("/", 1)[-1], *faces[0].parts[:-1]) for size in SIZES) if faces else False
    pictures = sum(entry.suffix in (".png", ".jpg", ".webp") for entry in tree.entries)
    return 0 < len(faces) == pictures and (sized or all(_filed(entry) for entry in faces))


def of_tree(tree: Tree, *, name: str, split: str, form: Form) -> Listing:
    """The faces of a split in the order of their numbers. Opens none.

    Errors: `DataError` if there are none; `NoSplitError` if none is in the split.
    """
    faces = [entry for entry in tree.entries if FACE.fullmatch(entry.parts[-1])]
    for size in SIZES:
        if those := [entry for entry in faces if size in entry.parts[:-1]]:
            faces = those
            break
    if not faces:
        raise DataError(f"{name!r}: {tree.root!r} holds no faces such as 00000/00000.png: unpack them there")
    chosen = sorted((e for e in faces if (_number(e) < TRAIN) == (split == "train")), key=_number)
    if not chosen:
        raise NoSplitError(f"{name!r} has no {split} split: of FFHQ's faces, 60000 to 69999 are for testing")
    samples = [Sample(entry.path, ((entry,),)) for entry in chosen]
    own = any(_number(entry) >= TRAIN for entry in faces)
    return Listing(
        name, tree, form, {"main": samples}, {"main": ("real",)}, {"real": Pictures(form)}, (),
        f"from {tree.root!r} (FFHQ {split})", tree.passed, own_split=own,
    )  # fmt: skip


def _number(entry: Entry) -> int:
    return int(entry.path.rsplit("/", 1)[-1][:5])


def _filed(entry: Entry) -> bool:
    """Whether a face lies in the folder of its thousand."""
    return len(entry.parts) > 1 and entry.parts[-2] == f"{_number(entry) // 1000:02}000"
