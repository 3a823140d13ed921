"""A small classifier of 28x28 grey images: the network behind `digits-cnn` and `fashion-cnn`.

Trained by `recipes/classifiers.py`; the weights beside this file are that recipe's, held to their hash.
"""

from pathlib import Path

import numpy as np
from safetensors.torch import load as read_tensors
from torch import Tensor, nn

from elegan.embedders.blocks import filled, in_blocks
from elegan.embedders.contract import Embedded
from elegan.embedders.weights import published

SHAPE = (1, 28, 28)
FEATURES, CLASSES = 128, 10
BLOCK = 100  # images at a time
ABOUT = "28x28 grey as it is, in [-1, 1]; what the last layer of the classifier reads, 128 after ReLU"


class SmallCNN(nn.Module):
    """(B, 1, 28, 28) in [-1, 1] -> logits (B, 10). Features are what the last layer reads, after its ReLU."""

    about = ABOUT
    features = FEATURES

    def __init__(self, name: str = "", sha256: str = ""):
        super().__init__()
        self.name, self.sha256 = name, sha256
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),   # (B, 32, 14, 14)
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),                   # (B, 64, 14, 14)
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),  # (B, 64, 7, 7)
            nn.Flatten(), nn.Linear(64 * 7 * 7, FEATURES), nn.ReLU(),     # (B, 128)
        )  # fmt: skip
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.body(x)))

    def embed(self, images: np.ndarray) -> Embedded:
        """Features (N, 128) and class probabilities (N, 10) of uint8 images (N, 1, 28, 28).

        Errors: `DataError` for another shape or type, or none.
        """
        return in_blocks(self._run, images, name=self.name, shape=SHAPE, to=SHAPE, block=BLOCK)

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x / 127.5 - 1)
        return features, self.head(features).softmax(1)


def load(name: str, path: Path, sha256: str) -> SmallCNN:
    """The trained network. Errors: `CheckpointError` if the file is not the one that was published."""
    return filled(lambda: SmallCNN(name, sha256), read_tensors(published(path, sha256, "Install elegan again.")))
