"""What augmentation does to images, as one picture to look at before a training."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from elegan.augment import AUGMENTATIONS, MOST, PRESETS, Augment
from elegan.data.codec import ImageCodec
from elegan.view.sheet import sheet


def augmented(
    images: np.ndarray, policy: str = "", strength: float | None = None, *, draws: int = 9, seed: int = 0
) -> Image.Image:
    """A sheet of uint8 images (N, C, H, W): in each row one as it is, then `draws` times as a judge would see it.

    policy: as of `Augment`. With none, a row shows one augmentation, named in front of it, applied for certain, to the
        images in turn.
    strength: the probability of each augmentation; by default the policy's own, and `MOST` where that adapts.
    seed: of the draws. The caller's random state stays as it was.

    Raises OptionError as `Augment` does, ValueError if there are no images.
    """
    if not len(images):
        raise ValueError("there are no images to augment")
    chosen = PRESETS.get(policy.strip())
    if strength is None and chosen is not None and chosen.adapts:
        strength = MOST
    whole = Augment(policy, strength)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        if policy:
            rows = [_row(image, draws, whole) for image in images]
        else:
            each = [lambda x, draw=draw: draw(x, 1.0) for draw in AUGMENTATIONS.values()]
            rows = [_row(images[k % len(images)], draws, augment) for k, augment in enumerate(each)]
    return sheet(np.concatenate(rows), draws + 1, () if policy else tuple(AUGMENTATIONS))


def _row(
    image: np.ndarray, draws: int, augment: Callable[[Tensor], Tensor]
) -> np.ndarray:  # (C, H, W) -> (1 + draws, C, H, W)
    codec = ImageCodec()
    x = codec.encode(torch.from_numpy(image[None].repeat(draws, 0)))
    return np.concatenate([image[None], codec.decode(augment(x))])
