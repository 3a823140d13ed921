"""What every embedder is, and what it gives back."""

from typing import NamedTuple, Protocol

import numpy as np


class Embedded(NamedTuple):
    """What an embedder made of N samples, in their order."""

    features: np.ndarray  # (N, d) float32
    probabilities: np.ndarray | None  # (N, K) float32, rows that sum to 1; None of a network that does not classify


class Embedder(Protocol):
    """A fixed network, or a fixed rule, that turns samples into features to measure them by.

    It computes in float32 and in eval mode, in blocks of fixed size, so that features do not depend on how many samples
    are given at a time beyond rounding; it leaves the caller's threads and random state alone.
    """

    @property
    def name(self) -> str:
        """As a score states it: `FD[digits-cnn]`."""
        ...

    @property
    def sha256(self) -> str:
        """Of its weights, as hex; "" where there are none."""
        ...

    @property
    def features(self) -> int:
        """How many each sample has: d."""
        ...

    @property
    def about(self) -> str:
        """One line for the protocol of a score: what input, which resize, which layer."""
        ...

    def embed(self, images: np.ndarray) -> Embedded:
        """Features of uint8 images (N, C, H, W), or of float vectors (N, D) where the embedder takes them.

        Errors: `DataError`, one line, for another shape or type, or values that are not finite.
        """
        ...
