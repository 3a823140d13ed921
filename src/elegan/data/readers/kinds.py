"""What the files of a tree are taken for, and by whom they are read.

A kind that is asked for is taken. Else images, video or audio, whichever the tree has most files of, in this order if
they are equally many; without any of these tables, else texts. So a cover beside twelve songs, captions beside images
and a table of names beside recordings change nothing. Before all this, a layout that has a name (see `known`), Parquet
and Arrow are known by what they hold.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from elegan.data.form import Form
from elegan.data.listing import Listing
from elegan.data.readers import audio, columns, files, known, picture, table, text, video
from elegan.data.source import Source
from elegan.data.tree import Tree, plant
from elegan.errors import OptionError

READERS: dict[str, Any] = {"image": files, "video": video, "audio": audio, "table": table, "text": text}
SUFFIXES = {
    "image": picture.SUFFIXES, "video": video.SUFFIXES, "audio": audio.SUFFIXES, "table": table.SUFFIXES,
    "text": text.SUFFIXES,
}  # fmt: skip
OWN = {  # options that mean something for some kinds only
    "size": ("image", "video"), "fit": ("image", "video"), "alpha": ("image", "video"), "colour": ("image", "video"),
    "bits": ("image",), "sides": ("image",), "seconds": ("audio",), "rate": ("audio",), "mono": ("audio",),
    "frames": ("video",), "fps": ("video",), "length": ("text",), "tokens": ("text",),
}  # fmt: skip


def reads(path: Path) -> bool:
    """Whether this is a folder, an archive, or one file of a kind that is known."""
    suffix = path.suffix.lower()
    return files.reads(path) or suffix in columns.SUFFIXES or any(suffix in those for those in SUFFIXES.values())


def read(path: Path, *, name: str, split: str, form: Form) -> Source | Listing:
    """What a tree holds, as the module of its kind says.

    Errors: as that says, and `OptionError` on an option of another kind.
    """
    tree = plant(path)
    layout = known.layout_of(tree, form.kind)
    kind = "image" if layout else kind_of(tree) if form.kind == "auto" else form.kind
    for option in form.to_json():
        if kind not in OWN.get(option, (kind,)):
            raise OptionError(f"--{option} is for {' and '.join(OWN[option])}, {name!r} is {kind}: leave it out.")
    return (layout or READERS[kind]).of_tree(tree, name=name, split=split, form=form)


def kind_of(tree: Tree) -> str:
    """The kind of a tree, by the rule of the module; images if it holds nothing known."""
    suffixes = Counter(entry.suffix for entry in tree.entries)
    counts = {kind: sum(suffixes[suffix] for suffix in those) for kind, those in SUFFIXES.items()}
    first = max(("video", "audio", "image"), key=counts.__getitem__)  # the first of the most
    return first if counts[first] else next((kind for kind in ("table", "text") if counts[kind]), "image")
