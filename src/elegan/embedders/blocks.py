"""Images through a network, block by block: what every embedder that is a network does."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from elegan.embedders.contract import Embedded
from elegan.embedders.resize import resize
from elegan.errors import DataError, OptionError

Net = TypeVar("Net", bound=nn.Module)
Run = Callable[[Tensor], tuple[Tensor, Tensor | None]]


def filled(make: Callable[[], Net], tensors: Mapping[str, Tensor]) -> Net:
    """A network of these tensors, in eval mode, and channels last, by a half faster on the CPU. Nothing is drawn."""
    with torch.device("meta"):
        net = make()
    net.to_empty(device="cpu").load_state_dict(tensors)
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # torch's stubs do not know it
    return net.eval().requires_grad_(False)


def colours(shape: tuple[int, ...], name: str) -> None:
    """Refuse samples that are no images in grey or RGB. Errors: `OptionError` naming what takes them."""
    if len(shape) != 3 or shape[0] not in (1, 3) or not all(shape):
        raise OptionError(f"{name} measures images in grey or RGB, not samples of {shape}: use --embedder pixels")


def in_blocks(
    run: Run, images: np.ndarray, *, name: str, shape: tuple[int, ...], to: tuple[int, int, int], block: int
) -> Embedded:
    """What `run` makes of uint8 images (N, C, H, W), `block` at a time, without gradients.

    run: float32 (B, *to) in [0, 255] -> features (B, d), and probabilities (B, K) or None.
    shape: (C, H, W), what the images must have. to: what the network reads; grey becomes RGB by repetition.
    Errors: `DataError` if there are none, or for another shape or type.
    """
    if images.shape[1:] != shape or images.dtype != np.uint8:
        raise DataError(f"{name} measures uint8 images of shape {shape}, not {images.dtype} of {images.shape[1:]}.")
    if not len(images):
        raise DataError(f"{name} was given no images to measure.")
    features: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    for start in range(0, len(images), block):
        x = torch.from_numpy(resize(images[start : start + block], *to[1:]))
        with torch.no_grad():
            seen, classes = run(x.expand(-1, to[0], -1, -1))
        features.append(seen.numpy())
        if classes is not None:
            probabilities.append(classes.numpy())
    return Embedded(np.concatenate(features), np.concatenate(probabilities) if probabilities else None)
