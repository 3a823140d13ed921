"""Differentiable augmentation: a judge that sees only augmented images cannot learn the training set by heart.

Functions of images x in [−1, 1] and of p, the probability with which each sample is augmented, a float or a tensor ()
on the device. Each returns a new tensor of x's shape (B, C, H, W) and dtype, draws independently for every sample from
the default generator of x's device, never waits for the device, and raises ValueError if x has not four dimensions.
Gradients flow through, twice if need be, so a penalty may be taken through an augmentation. `instance_noise` stands
apart: it is given to every sample, of any shape, and takes a deviation.

Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training" (arXiv 2006.10738); a strength that
adapts itself: Karras et al. 2020, "Training generative adversarial networks with limited data" (arXiv 2006.06676).

    self.augment = Augment("flip,translate,colour,cutout", strength=0.2)
    self.D(self.augment(real)), self.D(self.augment(fake))
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from elegan.errors import OptionError, nearest


def flip(x: Tensor, p: float | Tensor) -> Tensor:  # (B, C, H, W)
    """Mirror left and right."""
    return torch.where(_column(_chosen(x, p)), x.flip(-1), x)


def translate(x: Tensor, p: float | Tensor, share: float = 1 / 8) -> Tensor:  # (B, C, H, W)
    """Shift by whole pixels, uniform in ±round(share · H) and ±round(share · W); what comes in is zero."""
    chosen = _chosen(x, p)
    B, C, H, W = x.shape
    rows, columns = (_sources(size, round(share * size), chosen) for size in (H, W))  # (B, H), (B, W)
    padded = pad(x, [round(share * W)] * 2 + [round(share * H)] * 2)
    source = rows[:, :, None] * padded.shape[3] + columns[:, None, :]  # (B, H, W)
    return padded.flatten(2).gather(2, source.view(B, 1, H * W).expand(B, C, H * W)).view(B, C, H, W)


def colour(x: Tensor, p: float | Tensor) -> Tensor:  # (B, C, H, W)
    """Change brightness, then saturation, then contrast.

    Brightness adds b ∈ ±.5. Saturation scales the distance to the mean over channels by s ∈ [0, 2], and means nothing
    with one channel. Contrast scales the distance to the mean over the image by c ∈ [.5, 1.5].
    """
    chosen = _column(_chosen(x, p))
    b, s, c = (_column(_uniform(x, low, high)) for low, high in ((-0.5, 0.5), (0.0, 2.0), (0.5, 1.5)))
    # brightness moves both means by b, saturation keeps the image's mean: so all three are one affine map
    b, s, c = b.where(chosen, 0), s.where(chosen, 1), c.where(chosen, 1)
    offset = (1 - c) * x.mean((1, 2, 3), keepdim=True) + b
    if x.shape[1] == 1:
        return c * x + offset
    return c * s * x + c * (1 - s) * x.mean(1, keepdim=True) + offset


def cutout(x: Tensor, p: float | Tensor, share: float = 1 / 2) -> Tensor:  # (B, C, H, W)
    """Blank a box of round(share · H) × round(share · W) pixels, centred on any pixel and cut by the image's edge."""
    chosen = _chosen(x, p)
    rows, columns = (_box(size, round(share * size), chosen) for size in x.shape[2:])  # (B, H), (B, W)
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


# Sønderby et al. 2016 (arXiv 1610.04490), section 2.4; Arjovsky and Bottou 2017 (1701.04862), section 3
def instance_noise(x: Tensor, deviation: float) -> Tensor:  # (B, …)
    """Add normal noise to samples of any shape. What a judge sees of both sides then overlaps, however thin they are.

    deviation: of the noise, in the samples' unit; at 0 nothing is drawn and x itself is returned.
    """
    return x + deviation * torch.randn_like(x) if deviation else x


AUGMENTATIONS: dict[str, Callable[[Tensor, float | Tensor], Tensor]] = {
    "flip": flip,
    "translate": translate,
    "colour": colour,
    "cutout": cutout,
}


class Augment(nn.Module):
    """A chain of augmentations, each applied to each sample with one probability: the buffer `strength`, ().

    policy: names from `AUGMENTATIONS` in the order of their application, with commas between; none is no augmentation.
    strength: the probability to begin with.

    Raises OptionError for a name that is not known, or a strength outside [0, 1]. Works alike in training and
    evaluation mode, since it is called where it is wanted.
    """

    strength: Tensor

    def __init__(self, policy: str = "flip,translate,colour,cutout", strength: float = 1.0):
        super().__init__()
        names = [name.strip() for name in policy.split(",") if name.strip()]
        for name in names:
            if name not in AUGMENTATIONS:
                raise OptionError(f"no augmentation {name!r} in policy {policy!r}.{nearest(name, AUGMENTATIONS)}")
        if not 0 <= strength <= 1:
            raise OptionError(f"strength of augmentation is a probability from 0 to 1, not {strength}")
        self.chain = [AUGMENTATIONS[name] for name in names]
        self.policy = ",".join(names)
        self.register_buffer("strength", torch.tensor(float(strength)))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> the same
        for augmentation in self.chain:
            x = augmentation(x, self.strength)
        return x

    # Karras et al. 2020 (arXiv 2006.06676), section 3.1
    @torch.no_grad()
    def adapt(self, signs: Tensor, images: int, *, target: float = 0.6, over_images: int = 500_000) -> None:
        """Strengthen while the judge overfits, weaken while it does not, on the device and without waiting.

        signs: of the logits of real images since the last call, or their mean, `overfitting(logits)`; if not a
            number, the strength stays.
        images: real images seen since the last call. target: the mean sign to hold.
        over_images: images in which the strength goes from 0 to 1 at the fastest.
        """
        r_t = signs.float().mean()
        direction = (r_t > target).float() - (r_t < target).float()
        self.strength.add_(direction * (images / over_images)).clamp_(0, 1)

    def extra_repr(self) -> str:
        return repr(self.policy)


# Karras et al. 2020 (arXiv 2006.06676), Equation 1, the right-hand heuristic
@torch.no_grad()
def overfitting(real: Tensor) -> Tensor:
    """r_t = E sign D(x): the mean sign of the logits of augmented real images, 0 for a judge that guesses, 1 for one
    that knows them all. A term to log, and what `Augment.adapt` takes."""
    return real.float().sign().mean()


# ---------------------------------------------------------------------------------------------------------------------


def _chosen(x: Tensor, p: float | Tensor) -> Tensor:  # -> (B,), bool
    if x.dim() != 4:
        raise ValueError(f"augmentation takes images (B, C, H, W), not a tensor of shape {tuple(x.shape)}")
    return torch.rand(len(x), device=x.device) < p


def _column(a: Tensor) -> Tensor:
    return a.view(-1, 1, 1, 1)


def _uniform(x: Tensor, low: float, high: float) -> Tensor:  # -> (B,)
    return torch.rand(len(x), device=x.device, dtype=x.dtype) * (high - low) + low


def _sources(size: int, reach: int, chosen: Tensor) -> Tensor:  # -> (B, size)
    """Where in an axis padded by `reach` each pixel comes from."""
    shift = torch.randint(-reach, reach + 1, chosen.shape, device=chosen.device) * chosen
    return torch.arange(reach, reach + size, device=chosen.device) - shift[:, None]


def _box(size: int, length: int, chosen: Tensor) -> Tensor:  # -> (B, size), bool
    """Which pixels of an axis an interval of `length` pixels around a random one covers."""
    start = torch.randint(size, chosen.shape, device=chosen.device) - length // 2
    offset = torch.arange(size, device=chosen.device) - start[:, None]
    return (offset >= 0) & (offset < length) & chosen[:, None]
