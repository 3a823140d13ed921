"""`digits-cnn`: a small classifier of handwritten digits, whose features measure drawn ones.

A fiftieth of the Inception network that photographs are measured by, and made for what it measures.
Trained once, by `recipes/digits_cnn.py`; the weights beside this file are that recipe's, held to their hash.

    features, probabilities = load().embed(images)  # uint8 (N, 1, 28, 28) -> float32 (N, 128), (N, 10)
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as read_tensors
from torch import Tensor, nn

from elegan.errors import CheckpointError, DataError

NAME = "digits-cnn"
SHAPE = (1, 28, 28)
FEATURES, CLASSES = 128, 10
WEIGHTS = Path(__file__).parent / "digits-cnn.safetensors"
SHA256 = "387ece493306ed6e3f1ca0dbbb1a518967796bf254ca22b131fccf24efbb26ee"
BLOCK = 250  # images at a time


class DigitsCNN(nn.Module):
    """(B, 1, 28, 28) in [-1, 1] -> logits (B, 10). Features are what the last layer reads, after its ReLU."""

    def __init__(self):
        super().__init__()
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

    @torch.no_grad()
    def embed(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (N, 128) and class probabilities (N, 10), float32, of uint8 images (N, 1, 28, 28).

        Computed in eval mode and in float32, in blocks of fixed size, so that they do not depend on how many are given
        at a time beyond rounding. Raises `DataError` for another shape or type.
        """
        if images.shape[1:] != SHAPE or images.dtype != np.uint8:
            raise DataError(f"{NAME} measures uint8 images of shape {SHAPE}, not {images.dtype} of {images.shape[1:]}.")
        self.eval()
        features, probabilities = [], []
        for start in range(0, len(images), BLOCK):
            block = torch.from_numpy(np.ascontiguousarray(images[start : start + BLOCK])).float()
            features.append(self.body(block / 127.5 - 1))
            probabilities.append(self.head(features[-1]).softmax(1))
        return torch.cat(features).numpy(), torch.cat(probabilities).numpy()


def load(path: Path = WEIGHTS) -> DigitsCNN:
    """The trained network. Raises `CheckpointError` if the file is not the one that was published."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): install elegan again.") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise CheckpointError(f"{path} is damaged: its hash is not {SHA256[:12]}…. Install elegan again.")
    net = DigitsCNN()
    net.load_state_dict(read_tensors(content))
    return net.eval().requires_grad_(False)
