"""A tree of files (a folder, a zip, a tar), with what its shape says of them.

    photos/*.png                     images
    photos/cat/*.png, photos/dog/    images with labels, if every image lies in one of two or more class folders
    photos/trainA/, photos/trainB/   fields `a` and `b`, unpaired: each is permuted on its own
    photos/a/, photos/b/             fields `a` and `b`, paired: the same names in both
    photos/train/, photos/test/      splits, each of them one of the above; `val` is the test split without `test`
    dataset.json                     labels, as {"labels": [["00000/img00000.png", 6], …]}, or null for none

A class is a folder of the first level; deeper ones are just folders. A folder that holds nothing but one archive (and
notes such as README.md) is that archive; an archive in an archive is not opened.
Files are taken in the order of their names; hidden ones, and those of another kind, are passed over. Duplicates are
kept. All images of a field have one size, or are brought to one. With `sides`, an image is a pair: its left half is
`a`, its right half `b`. A folder of one folder is that folder. `grid.png`, which elegan draws beside samples, is
passed over.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from elegan.data.form import Form
from elegan.data.listing import Decoder, Listing, Sample
from elegan.data.readers import picture
from elegan.data.readers.picture import Pictures
from elegan.data.tree import ARCHIVES, Entry, Tree, passed_over, plant
from elegan.errors import DataError, NoSplitError

TESTS = ("test", "val", "valid", "validation")  # the first there is is the test split
SPLITS = frozenset({"train", *TESTS})
LABELS = "dataset.json"
SHEET = "grid.png"  # all samples in one picture, which lies beside them where elegan drew them
LABELS_BYTES = 1 << 28


def reads(path: Path) -> bool:
    """Whether this is a folder, an archive, or one image."""
    return path.is_dir() or path.name.lower().endswith(ARCHIVES) or path.suffix.lower() in picture.SUFFIXES


def read(path: Path, *, name: str, split: str, form: Form) -> Listing:
    """The images of a tree, as the module says. Opens no image.

    Errors: `DataError` if there are none, a class folder is empty, pairs do not match, or the split is missing.
    """
    return of_tree(plant(path), name=name, split=split, form=form)


def of_tree(tree: Tree, *, name: str, split: str, form: Form) -> Listing:
    """As `read`, of a tree that is there."""
    return arranged(tree, name=name, split=split, form=form, suffixes=picture.SUFFIXES, decoder=Pictures(form))


def arranged(tree: Tree, *, name: str, split: str, form: Form, suffixes: Collection[str], decoder: Decoder) -> Listing:
    """The files of a tree with one of the suffixes, as samples, classes and fields by the folders they lie in."""
    files = [entry for entry in tree.entries if entry.suffix in suffixes]
    if len(files) > 1:
        files = [entry for entry in files if entry.parts[-1] != SHEET]
    if not files:
        note = f", only {passed_over(tree.passed)}: copy the files in" if tree.passed else ""
        if packed := next((entry for entry in tree.entries if entry.path.lower().endswith(ARCHIVES)), None):
            note = f", but archives such as {packed.path!r}: unpack them, or give the path of one"
        raise DataError(f"{tree.root!r} holds no {_what(decoder)} ({', '.join(sorted(s[1:] for s in suffixes))}){note}")
    found = _Found(tree, files, name, form, decoder)
    root = _only(tree.entries)
    inside = _folders(tree.entries, root)
    if {"trainA", "trainB"} <= inside or {f"{split}A", f"{split}B"} <= inside:
        own = {"testA", "testB"} <= inside
        a, b = (f"{split}A", f"{split}B") if own else ("trainA", "trainB")
        return replace(found.unpaired(root, a, b), own_split=own)
    splits = inside if inside <= SPLITS and inside & {"train", "test"} else set()
    wanted = split if split == "train" else next((s for s in TESTS if s in splits), split)
    if splits and wanted not in splits:
        raise NoSplitError(f"{name!r} has no {split} split: there is no folder {'/'.join((*root, split))!r}")
    base = (*root, wanted) if splits else root
    inside = _folders(tree.entries, base)
    if sorted(folder.lower() for folder in inside) == ["a", "b"]:
        return replace(found.paired(base, *sorted(inside, key=str.lower)), own_split=bool(splits))
    labels = _labels(tree)
    listing = found.one(base, labels)
    for other in splits if listing.classes and labels is None else ():
        folders = _folders(tree.entries, (*root, other))
        if folders and (odd := folders ^ set(listing.classes)):
            raise DataError(f"{name!r}: class folder {min(odd)!r} is not in every split: add it or take it away")
    return replace(listing, own_split=bool(splits))


@dataclass(frozen=True)
class _Found:
    """Files of one kind, to be made a listing."""

    tree: Tree
    files: Sequence[Entry]
    name: str
    form: Form
    decoder: Decoder

    def one(self, base: tuple[str, ...], labels: Mapping[str, int] | None) -> Listing:
        """Field `real`, with classes if the files lie in class folders or a file of labels names them."""
        files = self._below(base)
        if labels is not None:
            classes = _numbered(labels, files, self.name) if labels else ()
            numbers = [labels.get(entry.path, -1) for entry in files]
        else:
            classes = _classes(self.tree, files, base)
            numbers = [classes.index(entry.parts[len(base)]) if classes else -1 for entry in files]
        if self.form.sides:
            samples = [Sample(entry.path, ((entry,), (entry,))) for entry in files]
            halves = {"a": Pictures(self.form, 0), "b": Pictures(self.form, 1)}
            return self._listing({"main": samples}, {"main": ("a", "b")}, halves)
        samples = [Sample(entry.path, ((entry,),), number) for entry, number in zip(files, numbers, strict=True)]
        return self._listing({"main": samples}, {"main": ("real",)}, {"real": self.decoder}, classes)

    def unpaired(self, root: tuple[str, ...], a: str, b: str) -> Listing:
        """Fields `a` and `b`, each a stream of its own."""
        homes = {"a": (*root, a), "b": (*root, b)}
        streams = {field: [Sample(e.path, ((e,),)) for e in self._below(home)] for field, home in homes.items()}
        return self._listing(streams, {"a": ("a",), "b": ("b",)}, dict.fromkeys("ab", self.decoder))

    def paired(self, base: tuple[str, ...], a: str, b: str) -> Listing:
        """Fields `a` and `b` of one stream. Of a pair both files are kept or neither."""
        first, second = (self._below((*base, home)) for home in (a, b))
        stems = [[_stem(entry, len(base) + 1) for entry in those] for those in (first, second)]
        if alone := [*(Counter(stems[0]) - Counter(stems[1])), *(Counter(stems[1]) - Counter(stems[0]))]:
            raise DataError(
                f"{self.name!r}: {min(alone)!r} is not in both {a!r} and {b!r}: "
                "the two of a pair share a name; call the folders trainA and trainB if there are no pairs"
            )
        pairs = zip(
            *(sorted(zip(s, those, strict=True)) for s, those in zip(stems, (first, second), strict=True)), strict=True
        )
        samples = [Sample(one.path, ((one,), (other,))) for (_, one), (_, other) in pairs]
        return self._listing({"main": samples}, {"main": ("a", "b")}, dict.fromkeys("ab", self.decoder))

    def _below(self, base: tuple[str, ...]) -> list[Entry]:
        files = [entry for entry in self.files if entry.parts[: len(base)] == base]
        if not files:
            raise DataError(
                f"{'/'.join((self.tree.root, *base))!r} holds no {_what(self.decoder)}: fill it or take it away"
            )
        return files

    def _listing(
        self,
        streams: Mapping[str, Sequence[Sample]],
        fields: Mapping[str, tuple[str, ...]],
        decoders: Mapping[str, Decoder],
        classes: tuple[str, ...] = (),
    ) -> Listing:
        what = f"from {self.tree.root!r}"
        return Listing(self.name, self.tree, self.form, streams, fields, decoders, classes, what, self.tree.passed)


def _what(decoder: Decoder) -> str:
    return "recordings" if decoder.kind == "audio" else f"{decoder.kind}s"


def _only(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The one folder that all there is lies in, and so on down, as archives are made; it must not be a class."""
    root: tuple[str, ...] = ()
    while entries and len({e.parts[len(root)] for e in entries}) == 1 and len(entries[0].parts) > len(root) + 1:
        root = (*root, entries[0].parts[len(root)])
    return root


def _folders(entries: Sequence[Entry], base: tuple[str, ...]) -> set[str]:
    """Names of the folders directly below a folder."""
    depth = len(base)
    return {e.parts[depth] for e in entries if len(e.parts) > depth + 1 and e.parts[:depth] == base}


def _classes(tree: Tree, files: Sequence[Entry], base: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the class folders, if every file lies in one of several; else nothing."""
    depth = len(base)
    names = {entry.parts[depth] for entry in files}
    if any(len(entry.parts) < depth + 2 for entry in files) or len(names) < 2:
        return ()
    for folder in sorted(_folders(tree.entries, base) | _empty(tree, base)):
        if folder not in names:
            raise DataError(f"class folder {folder!r} of {tree.root!r} holds no images: fill it or take it away")
    return tuple(sorted(names))


def _empty(tree: Tree, base: tuple[str, ...]) -> set[str]:
    """Folders directly below that hold nothing at all; archives have no such."""
    home = Path(tree.root, *base)
    if not home.is_dir():
        return set()
    return {p.name for p in home.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith((".", "__"))}


def _stem(entry: Entry, depth: int) -> str:
    return "/".join(entry.parts[depth:]).rsplit(".", 1)[0]


def _labels(tree: Tree) -> dict[str, int] | None:
    """What `dataset.json` says of each file, by path from its own folder; nothing if it says null, None without it.

    Errors: `DataError` if it does not say what the module says.
    """
    found = next((entry for entry in tree.entries if entry.parts[-1] == LABELS), None)
    if found is None:
        return None
    where = f"{found.path!r} of {tree.root!r}"
    if found.size > LABELS_BYTES:
        raise DataError(f"{where} is {found.size:,} bytes long, no list of labels: take it away")
    try:
        with tree.open(found) as file:
            said: Any = json.load(file)
        labels = said["labels"]
        home = "".join(f"{part}/" for part in found.parts[:-1])
        made = {home + path: number for path, number in labels or ()}
        if not all(type(number) is int and number >= 0 for number in made.values()):
            raise ValueError("a label is no class number")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        like = '{"labels": [["a.png", 0], …]}'
        raise DataError(f"{where} is no list of labels, {like}: mend it or take it away") from error
    return made


def _numbered(labels: Mapping[str, int], files: Sequence[Entry], name: str) -> tuple[str, ...]:
    """Names of the classes that a list of labels numbers, which are their numbers."""
    for entry in files:
        if entry.path not in labels:
            raise DataError(f"{name!r}: {entry.path!r} has no label in {LABELS}: add it, or take the file away")
    found = {labels[entry.path] for entry in files}
    missing = next((number for number in range(len(found)) if number not in found), None)
    if missing is not None:
        raise DataError(f"{name!r}: no image has label {missing} in {LABELS}: add one, or renumber the classes")
    return tuple(str(number) for number in range(len(found)))
