"""Stacked digits: three random digits as the colours of an image, 1,000 modes to count (Metz et al., 1611.02163)."""

import numpy as np

from elegan.data.readers import digits
from elegan.data.source import Source, image_field, label_field
from elegan.spec import Spec

ABOUT = "70,000 triples of digits as RGB, 28x28, 1,000 classes (made from MNIST)"
SEED = {"train": 1_000, "test": 1_001}


def read(split: str) -> Source:
    """As many triples as the split has digits, drawn with replacement; label = 100 r + 10 g + b. Always the same."""
    base = digits.read(split)
    n = len(base)
    picks = np.random.RandomState(SEED[split]).randint(n, size=(n, 3))  # the stream numpy promises never to change
    pixels = base.arrays["real"][:, 0][picks]  # (N, 3, 28, 28)
    labels = base.arrays["label"][picks] @ np.array([100, 10, 1])
    spec = Spec(
        real=image_field(pixels, classes=1000), label=label_field(labels, tuple(f"{n:03}" for n in range(1000)))
    )
    about = f"{n:,} triples of digits as RGB, 28x28, 1,000 classes (made from MNIST {split})"
    return Source("stacked-digits", spec, {"real": pixels, "label": labels}, about)
