"""Fashion-MNIST: 28x28 pictures of clothes in ten classes (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747, MIT).

Not bundled: it is read from $ELEGAN_DATA/fashion-mnist, or from where the Debian package dataset-fashion-mnist lies.
"""

import os
from pathlib import Path

from elegan.data.readers import idx
from elegan.data.source import Source, image_field, label_field
from elegan.errors import DataError
from elegan.spec import Spec

ABOUT = "70,000 pictures of clothes, 28x28 grey, 10 classes (Fashion-MNIST, the Debian package dataset-fashion-mnist)"
CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
PACKAGED = Path("/usr/share/datasets/fashion-mnist")
START = {"train": "train", "test": "t10k"}


def read(split: str) -> Source:
    """60,000 pictures to train, 10,000 to test, with their labels, from idx files, plain, .gz or .xz.

    Errors: `DataError`, one line, if the files are not there, are damaged, or are not what their names say.
    """
    home, start = _home(), START[split]
    images, labels = _file(home, f"{start}-images-idx3-ubyte"), _file(home, f"{start}-labels-idx1-ubyte")
    pixels, numbers = idx.read_idx(images), idx.read_idx(labels).astype("int64")
    if pixels.shape[1:] != (28, 28):
        raise DataError(f"{str(images)!r} holds an array of {pixels.shape}, not images of (N, 28, 28): fetch it again")
    if numbers.ndim != 1 or numbers.max(initial=0) >= len(CLASSES):
        raise DataError(f"{str(labels)!r} does not hold class numbers from 0 to {len(CLASSES) - 1}: fetch it again")
    pixels = pixels[:, None]  # (N, 1, 28, 28)
    spec = Spec(real=image_field(pixels, classes=len(CLASSES)), label=label_field(numbers, CLASSES))
    about = f"{len(pixels):,} pictures of clothes, 28x28 grey, 10 classes (Fashion-MNIST {split})"
    return Source("fashion", spec, {"real": pixels, "label": numbers}, about)


def _home() -> Path:
    """The folder of the files: $ELEGAN_DATA/fashion-mnist if there is one, else the package's."""
    given = os.environ.get("ELEGAN_DATA")
    homes = [*([Path(given).expanduser() / "fashion-mnist"] if given else []), PACKAGED]
    for home in homes:
        if home.is_dir():
            return home
    raise DataError(
        f"'fashion' is not in {' or '.join(map(str, homes))}: install the Debian package dataset-fashion-mnist, "
        "put its idx files in $ELEGAN_DATA/fashion-mnist, or give a folder of them by path"
    )


def _file(home: Path, name: str) -> Path:
    """The file of that name, compressed or not."""
    for end in ("", *idx.OPENERS):
        if (file := home / (name + end)).is_file():
            return file
    raise DataError(f"'fashion' lacks {name} (or .gz, .xz) in {str(home)!r}: fetch it again")
