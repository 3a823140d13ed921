"""MNIST, bundled: 28x28 handwritten digits in ten classes (LeCun, Cortes and Burges, CC BY-SA 3.0)."""

from pathlib import Path

from elegan.data.readers import idx
from elegan.data.source import Source, image_field, label_field
from elegan.spec import Spec

ABOUT = "70,000 handwritten digits, 28x28 grey, 10 classes (MNIST, bundled)"
HOME = Path(__file__).parent.parent / "digits"
START = {"train": "train", "test": "t10k"}


def read(split: str) -> Source:
    """60,000 digits to train, 10,000 to test, with their labels."""
    pixels = idx.read_idx(HOME / f"{START[split]}-images-idx3-ubyte.xz")[:, None]  # (N, 1, 28, 28)
    labels = idx.read_idx(HOME / f"{START[split]}-labels-idx1-ubyte.xz").astype("int64")
    spec = Spec(real=image_field(pixels, classes=10), label=label_field(labels, tuple("0123456789")))
    about = f"{len(pixels):,} handwritten digits, 28x28 grey, 10 classes (MNIST {split}, bundled)"
    return Source("digits", spec, {"real": pixels, "label": labels}, about)
