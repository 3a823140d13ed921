"""CelebA (Liu, Luo, Wang and Tang, ICCV 2015, arXiv:1411.7766): 202,599 faces of 178x218, 40 attributes, a split.

    img_align_celeba/000001.jpg …      or img_align_celeba.zip, in any folder below
    list_eval_partition.txt or .csv    0 train, 1 validation, 2 test; validation is neither of our splits
    list_attr_celeba.txt or .csv       wanted only if `class_column` names an attribute, such as Smiling

The .csv files are those of Kaggle. Faces without an attribute asked for have no classes.
"""

from collections.abc import Mapping
from pathlib import Path

from elegan.data.form import Form
from elegan.data.listing import Listing, Sample
from elegan.data.readers.picture import SUFFIXES, Pictures
from elegan.data.tree import Entry, Folder, Tree, plant
from elegan.errors import DataError, nearest

IMAGES, PARTITION, ATTRIBUTES = "img_align_celeba", "list_eval_partition", "list_attr_celeba"
LIST_BYTES = 1 << 26  # the longest of the lists has 27 MB
PARTS = {"train": "0", "test": "2"}


def knows(tree: Tree) -> bool:
    return _list(tree, PARTITION) is not None


def of_tree(tree: Tree, *, name: str, split: str, form: Form) -> Listing:
    """The faces of a split. Opens no image.

    Errors: `DataError` if faces or lists are missing or damaged, or there is no such attribute.
    """
    partition = _list(tree, PARTITION)
    if partition is None:
        raise DataError(f"{name!r}: {tree.root!r} holds no {PARTITION}.txt: put it beside {IMAGES}")
    parts = {file: values[-1] for file, values in _rows(tree, partition)[1].items()}
    if strange := {*parts.values()} - {"0", "1", "2"}:
        raise DataError(f"{partition.path!r} of {tree.root!r} puts a face into part {min(strange)!r}: fetch it again")
    attribute = form.class_column
    marks = _marks(tree, attribute) if attribute else {}
    faces = _faces(tree)
    pictures = (entry for entry in faces.entries if entry.suffix in SUFFIXES)
    found = {entry.parts[-1]: entry for entry in pictures if IMAGES in (Path(faces.root).stem, *entry.parts[:-1])}
    wanted = [file for file, part in parts.items() if part == PARTS[split]]
    if not wanted:
        raise DataError(f"{name!r}: {partition.path!r} puts no face into the {split} split: fetch it again")
    for those, where in ((found, IMAGES), *(((marks, ATTRIBUTES),) if attribute else ())):
        if missing := [file for file in wanted if file not in those]:
            raise DataError(
                f"{name!r}: {len(missing):,} faces of {partition.path!r} are not in {where}, "
                f"the first is {missing[0]!r}: unpack or fetch it again"
            )
    samples = [Sample(file, ((found[file],),), marks.get(file, -1)) for file in sorted(wanted)]
    extra = [(file, f"not in {partition.path}") for file in sorted(found.keys() - parts.keys())]
    classes = (f"not {attribute}", attribute) if attribute else ()
    return Listing(
        name, faces, form, {"main": samples}, {"main": ("real",)}, {"real": Pictures(form)}, classes,
        f"from {tree.root!r} (CelebA {split})", (*faces.passed, *extra), own_split=True,
    )  # fmt: skip


def _list(tree: Tree, stem: str) -> Entry | None:
    return next((entry for entry in tree.entries if entry.parts[-1] in (f"{stem}.txt", f"{stem}.csv")), None)


def _faces(tree: Tree) -> Tree:
    """The tree in which the faces lie, which may be a zip beside the lists."""
    if any(IMAGES in entry.parts[:-1] for entry in tree.entries):
        return tree
    packed = next((entry for entry in tree.entries if entry.parts[-1] == f"{IMAGES}.zip"), None)
    if packed is None or not isinstance(tree, Folder):
        raise DataError(f"{tree.root!r} holds no {IMAGES}: unpack or fetch {IMAGES}.zip there")
    return plant(Path(tree.root, *packed.parts))


def _marks(tree: Tree, attribute: str) -> dict[str, int]:
    """Whether each face has an attribute, 0 or 1."""
    entry = _list(tree, ATTRIBUTES)
    if entry is None:
        raise DataError(f"{tree.root!r} holds no {ATTRIBUTES}.txt, which says who has {attribute!r}: fetch it")
    names, rows = _rows(tree, entry)
    if attribute not in names:
        raise DataError(f"{entry.path!r} has no attribute {attribute!r}.{nearest(attribute, names)}")
    place = names.index(attribute)
    return {file: int(values[place] == "1") for file, values in rows.items()}


def _rows(tree: Tree, entry: Entry) -> tuple[list[str], Mapping[str, list[str]]]:
    """The names of the columns, if the list has any, and the values of each face. A .txt may begin with a count."""
    where = f"{entry.path!r} of {tree.root!r}"
    if entry.size > LIST_BYTES:
        raise DataError(f"{where} is {entry.size:,} bytes long, no list of faces: take it away")
    try:
        with tree.open(entry) as file:
            lines = file.read().decode().splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{where} cannot be read ({' '.join(str(error).split())}): fetch it again") from error
    cells = [line.replace(",", " ").split() for line in lines if line.strip()]
    names: list[str] = []
    while cells and not cells[0][0].lower().endswith(tuple(SUFFIXES)):
        names = cells.pop(0)
    if names[:1] == ["image_id"]:
        names = names[1:]
    width = len(names) or 1
    bad = next((row for row in cells if len(row) != width + 1), None)
    if bad is not None or not cells:
        place = " ".join(bad or ["its head"])[:60]
        raise DataError(f"{where} is no list of faces, or cut short at {place!r}: fetch it again")
    return names, {row[0]: row[1:] for row in cells}
