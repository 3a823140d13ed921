"""Differentiable augmentation: a judge that sees only augmented images cannot learn the training set by heart.

Functions of images x in [−1, 1] and of p, the probability with which each sample is augmented, a float or a tensor ()
on the device. Each returns a new tensor of x's shape (B, C, H, W) and dtype, for any C, H and W, draws independently
for every sample from the default generator of x's device, never waits for the device, and raises ValueError if x has
not four dimensions. Gradients flow through, twice if need be, so a penalty may be taken through an augmentation.
`instance_noise` stands apart: it is given to every sample, of any shape, and takes a deviation.

    self.augment = Augment("diffaugment")
    self.D(self.augment(real)), self.D(self.augment(fake))

Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training" (arXiv 2006.10738); strengths that adapt
themselves, and augmentations that do not leak: Karras et al. 2020, "Training generative adversarial networks with
limited data" (2006.06676).

Why samples are not augmented too (Karras et al., section 2.2): an augmentation maps distributions of images linearly,
by T = (1 − p) I + p A, with A what it does where it is applied. If T can be inverted, samples that look like the data
once both are augmented are distributed like the data. Where what is drawn adds up, as angles and logarithms of sizes
do, the eigenvalues of A are the characteristic function of its distribution: for a uniform choice among all flips or
all angles they are 0 or 1, so p = 1 hides which one was drawn for good, and every p below 1 divides by 1 − p at most.
The distributions here are chosen to keep real parts from falling below 0, with one exception: the paper's uniform
colours come down to −.217, and T to 1 − 1.217 p. Hence `MOST`: no policy, preset or adaptation takes p beyond it, and
each T stays above .02. A box cut out can only take values away, so the eigenvalues of its A are the chances that it
takes none, 0 or more; noise has a Gaussian's characteristic function, which is positive.
"""

from collections.abc import Callable, Mapping
from functools import partial, reduce
from itertools import groupby
from math import pi
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from elegan.errors import OptionError, nearest

MOST = 0.8  # the greatest probability: Karras et al. see no leaks below it (section 2.3, Figure 4), and see above
Draw = Callable[[Tensor, float | Tensor], Tensor]

# ---------------------------------------------------------------------------------------------------------------------
# Pixels stay whole


def flip(x: Tensor, p: float | Tensor) -> Tensor:  # (B, C, H, W)
    """Mirror left and right, or not, at equal chances: so p / 2 of all samples are mirrored."""
    return torch.where(_column(_chosen(x, p / 2)), x.flip(-1), x)


def translate(x: Tensor, p: float | Tensor, share: float = 1 / 8) -> Tensor:  # (B, C, H, W)
    """Shift by whole pixels within ±round(share · H) and ±round(share · W); what comes in is zero.

    The shift is the difference of two uniform numbers, since the characteristic function of one alone falls below 0.
    """
    chosen = _chosen(x, p)
    B, C, H, W = x.shape
    rows, columns = (_sources(size, round(share * size), chosen) for size in (H, W))  # (B, H), (B, W)
    padded = pad(x, [round(share * W)] * 2 + [round(share * H)] * 2)
    source = rows[:, :, None] * padded.shape[3] + columns[:, None, :]  # (B, H, W)
    return padded.flatten(2).gather(2, source.view(B, 1, H * W).expand(B, C, H * W)).view(B, C, H, W)


def cutout(x: Tensor, p: float | Tensor, share: float = 1 / 2) -> Tensor:  # (B, C, H, W)
    """Blank a box of round(share · H) × round(share · W) pixels, centred on any pixel and cut by the image's edge."""
    chosen = _chosen(x, p)
    rows, columns = (_box(size, round(share * size), chosen) for size in x.shape[2:])  # (B, H), (B, W)
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


# ---------------------------------------------------------------------------------------------------------------------
# Pixels are interpolated. Each of these draws matrices (B, 3, 3): which place of x, in pixels from its centre, down and
# right, is seen at each place (row, column, 1) of the outcome. Neighbours in a policy become one matrix


def rotations(x: Tensor, p: float | Tensor) -> Tensor:  # -> (B, 3, 3)
    """Turns about the centre by any angle, uniform over the full circle."""
    angle = pi * _uniform(x, -1, 1, _wide(x)) * _chosen(x, p)
    zero, sine, cosine = torch.zeros_like(angle), angle.sin(), angle.cos()
    return _matrices([cosine, sine, zero], [-sine, cosine, zero])


# Karras et al. 2020, appendix B: 2^N(0, .2²) for both sides together, and again for one against the other
def scalings(x: Tensor, p: float | Tensor, octaves: float = 0.2) -> Tensor:  # -> (B, 3, 3)
    """Sizes changed about the centre by 2^(s + a) along H and 2^(s − a) along W, both normal of that deviation."""
    s, a = octaves * torch.randn(2, len(x), device=x.device, dtype=_wide(x)) * _chosen(x, p)
    zero = torch.zeros_like(s)
    return _matrices([(-s - a).exp2(), zero, zero], [zero, (a - s).exp2(), zero])


def crops(x: Tensor, p: float | Tensor, octaves: float = 0.5) -> Tensor:  # -> (B, 3, 3)
    """Parts of the image, anywhere in it, enlarged to the whole by 2^|n|, n normal of that deviation."""
    n = octaves * torch.randn(len(x), device=x.device, dtype=_wide(x)) * _chosen(x, p)
    side, zero = (-n.abs()).exp2(), torch.zeros_like(n)
    down, right = (size / 2 * (1 - side) * _uniform(x, -1, 1, _wide(x)) for size in x.shape[2:])
    return _matrices([side, zero, down], [zero, side, right])


def warp(x: Tensor, matrices: Tensor) -> Tensor:  # (B, C, H, W), (B, 3, 3) -> (B, C, H, W)
    """Images seen through matrices as drawn above, interpolated bilinearly; beyond the edge lies the mirrored image.

    A gather with weights, at twice the time of torch's grid_sample, which counts in shares of the image: there, images
    that are left alone would change in their last bits. Nothing is smoothed beforehand: what these augmentations
    shrink, they hardly ever shrink by two.
    """
    B, C, H, W = x.shape
    rows, columns = (torch.arange(n, device=x.device, dtype=matrices.dtype) - (n - 1) / 2 for n in (H, W))
    taps = []  # of each axis, two: which pixel, and its weight
    for axis, size in enumerate((H, W)):
        down, right, shift = matrices[:, axis, :, None, None].unbind(1)  # (B, 1, 1) each
        place = down * rows[:, None] + right * columns + shift + (size - 1) / 2  # (B, H, W), from the first pixel
        first = place.floor()
        taps.append([(_mirrored(first + k, size), (1 - k - (place - first)).abs()) for k in (0, 1)])
    flat, seen = x.flatten(2), torch.zeros((), device=x.device, dtype=matrices.dtype)
    for row, above in taps[0]:
        for column, beside in taps[1]:
            source = (row * W + column).view(B, 1, H * W).expand(B, C, H * W)
            seen = seen + (above * beside)[:, None] * flat.gather(2, source).view(B, C, H, W)
    return seen.to(x.dtype)


def warped(x: Tensor, p: float | Tensor, draws: tuple[Draw, ...]) -> Tensor:  # (B, C, H, W)
    """`warp` by all of the matrices drawn, the first of them first."""
    return warp(x, reduce(torch.matmul, [draw(x, p) for draw in draws]))


def rotate(x: Tensor, p: float | Tensor) -> Tensor:  # (B, C, H, W)
    """Turn about the centre by any angle; what comes in is the mirrored image."""
    return warped(x, p, (rotations,))


def scale(x: Tensor, p: float | Tensor) -> Tensor:  # (B, C, H, W)
    """Enlarge or shrink about the centre, height and width together and apart; what comes in is the mirrored image."""
    return warped(x, p, (scalings,))


def crop(x: Tensor, p: float | Tensor) -> Tensor:  # (B, C, H, W)
    """Enlarge a part of the image, anywhere in it and of its shape, to the whole."""
    return warped(x, p, (crops,))


# ---------------------------------------------------------------------------------------------------------------------
# Values change


def colour(x: Tensor, p: float | Tensor) -> Tensor:  # (B, C, H, W)
    """Change brightness, then saturation, then contrast.

    Brightness adds b ∈ ±.5. Saturation scales the distance to the mean over channels by s ∈ [0, 2], and means nothing
    with one channel. Contrast scales the distance to the mean over the image by c ∈ [.5, 1.5].
    """
    chosen = _column(_chosen(x, p))
    b, s, c = (_column(_uniform(x, low, high, x.dtype)) for low, high in ((-0.5, 0.5), (0.0, 2.0), (0.5, 1.5)))
    # brightness moves both means by b, saturation keeps the image's mean: so all three are one affine map
    b, s, c = b.where(chosen, 0), s.where(chosen, 1), c.where(chosen, 1)
    offset = (1 - c) * x.mean((1, 2, 3), keepdim=True) + b
    if x.shape[1] == 1:
        return c * x + offset
    return c * s * x + c * (1 - s) * x.mean(1, keepdim=True) + offset


# Karras et al. 2020, appendix B: additive noise, its deviation half-normal
def noise(x: Tensor, p: float | Tensor, deviation: float = 0.1) -> Tensor:  # (B, C, H, W)
    """Add normal noise to every value, of a deviation that is |n|, n normal of the one given."""
    strengths = deviation * torch.randn(len(x), device=x.device, dtype=x.dtype).abs() * _chosen(x, p)
    return x + _column(strengths) * torch.randn_like(x)


# Sønderby et al. 2016 (arXiv 1610.04490), section 2.4; Arjovsky and Bottou 2017 (1701.04862), section 3
def instance_noise(x: Tensor, deviation: float) -> Tensor:  # (B, …)
    """Add normal noise to samples of any shape. What a judge sees of both sides then overlaps, however thin they are.

    deviation: of the noise, in the samples' unit; at 0 nothing is drawn and x itself is returned.
    """
    return x + deviation * torch.randn_like(x) if deviation else x


# ---------------------------------------------------------------------------------------------------------------------
# Policies

WARPS: dict[str, Draw] = {"rotate": rotations, "scale": scalings, "crop": crops}
AUGMENTATIONS: dict[str, Draw] = {
    "flip": flip,
    "rotate": rotate,
    "scale": scale,
    "crop": crop,
    "translate": translate,
    "colour": colour,
    "noise": noise,
    "cutout": cutout,
}


class Preset(NamedTuple):
    """A policy by name: augmentations in order, the strength to begin with, and whether it adapts."""

    policy: str
    strength: float
    adapts: bool = False


PRESETS = {
    "light": Preset("flip,translate", 0.3),
    "diffaugment": Preset("colour,translate,cutout", MOST),
    "ada": Preset("flip,rotate,scale,translate,colour", 0.0, adapts=True),
    "full": Preset("flip,rotate,scale,crop,translate,colour,noise,cutout", 0.5),
}


class Augment(nn.Module):
    """A chain of augmentations, each applied to each sample with one probability: the buffer `strength`, ().

    policy: a name from `PRESETS`, or names from `AUGMENTATIONS` in the order of their application, with commas between;
        none is no augmentation, and no buffer.
    strength: the probability to begin with, at most `MOST`; by default the preset's, or `MOST` for a list of names.
    kind: of the field augmented, as a spec says it.
    over_images: images in which a strength that adapts goes from 0 to 1 at the fastest. Karras et al. take 500,000 in
        trainings of 25 million; here they are a hundred times shorter.

    Raises OptionError for a name that is not known, a strength outside [0, `MOST`], or a kind other than images. Works
    alike in training and evaluation mode, since it is called where it is wanted.
    """

    strength: Tensor
    images: Tensor

    def __init__(self, policy: str, strength: float | None = None, *, kind: str = "image", over_images: int = 100_000):
        super().__init__()
        preset = PRESETS.get(policy.strip(), Preset(policy, MOST))
        names = [name.strip() for name in preset.policy.split(",") if name.strip()]
        for name in names:
            if name not in AUGMENTATIONS:
                known = AUGMENTATIONS if "," in policy else {**AUGMENTATIONS, **PRESETS}
                raise OptionError(f"no augmentation {name!r} in policy {policy!r}.{nearest(name, known)}")
        if names and kind != "image":
            raise OptionError(f"augmentation {policy!r} is for images; this data is of kind {kind}.")
        strength = preset.strength if strength is None else strength
        if not 0 <= strength <= MOST:
            why = "beyond that, samples would look augmented"
            raise OptionError(f"strength of augmentation is a probability from 0 to {MOST}, not {strength}: {why}.")
        self.policy, self.adapts, self.over_images = ",".join(names), preset.adapts, over_images
        self.chain = chain(names)
        if names:
            self.register_buffer("strength", torch.tensor(float(strength)))
        if self.adapts:
            self.register_buffer("images", torch.zeros((), dtype=torch.long))  # when it was adapted last

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> the same
        for augmentation in self.chain:
            x = augmentation(x, self.strength)
        return x

    def schedule(self, strength: float) -> None:
        """Set the strength, at most to `MOST`; one that adapts stays its own master."""
        if self.policy and not self.adapts:
            self.strength.fill_(min(strength, MOST))

    def terms(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """What a judge's loss adds to its terms, of the logits it gave both sides: its verdict, and what the policy
        follows if it adapts. None of them trains."""
        follows = {"overfitting": overfitting(real, fake)} if self.adapts else {}
        return {**verdict(real.detach(), fake.detach()), **follows}

    def following(self, images: int) -> Callable[[Mapping[str, Tensor]], None] | None:
        """`follow` for a judge's turn to do after each move, its `then`: None unless the policy adapts."""
        return partial(self.follow, images=images) if self.adapts else None

    def follow(self, terms: Mapping[str, Tensor], images: int) -> None:
        """Adapt after a move of the judge, if the policy does. images: real ones the game has seen so far."""
        if self.adapts:
            self.adapt(terms["overfitting"], images - self.images)
            self.images.fill_(images)

    # Karras et al. 2020 (arXiv 2006.06676), section 3.1
    @torch.no_grad()
    def adapt(self, signs: Tensor, images: int | Tensor, *, target: float = 0.6) -> None:
        """Strengthen while the judge overfits, weaken while it does not, on the device and without waiting.

        signs: of the logits of real images since the last call, or their mean, `overfitting(logits)`; if not a
            number, the strength stays.
        images: real images seen since the last call. target: the mean sign to hold.
        """
        r_t = signs.float().mean()
        direction = (r_t > target).float() - (r_t < target).float()
        self.strength.add_(direction * (images / self.over_images)).clamp_(0, MOST)

    def extra_repr(self) -> str:
        return repr(self.policy)


def chain(names: list[str]) -> list[Draw]:
    """The augmentations of a policy, neighbours that interpolate made one, so that pixels are interpolated once."""
    found: list[Draw] = []
    for warps, group in groupby(names, WARPS.__contains__):
        if warps:
            found.append(partial(warped, draws=tuple(WARPS[name] for name in group)))
        else:
            found += [AUGMENTATIONS[name] for name in group]
    return found


@torch.no_grad()
def verdict(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """How a judge tells two sides apart, of its logits for real and drawn samples, of any shape.

    real, fake: its mean logits. right: the share of pairs in which the real one got the higher, ½ for a judge that
    guesses: the area under its receiver operating characteristic (Hanley and McNeil, 1982).
    """
    real, fake = (real, fake) if real.shape == fake.shape else (real.reshape(-1, 1), fake.reshape(1, -1))  # all pairs
    right = ((real > fake).float() + (real >= fake).float()).mean() / 2
    return {"real": real.float().mean(), "fake": fake.float().mean(), "right": right}


# Karras et al. 2020 (arXiv 2006.06676), Equation 1, the right-hand heuristic
@torch.no_grad()
def overfitting(real: Tensor, fake: Tensor | None = None) -> Tensor:
    """r_t = E sign D(x): the mean sign of the logits of augmented real images, 0 for a judge that guesses, 1 for one
    that knows them all.

    fake: the logits of augmented drawn images, of any shape. The middle between both means is then taken for zero:
        critics, relativistic judges and least squares have theirs elsewhere, or nowhere.
    """
    real = real.float()
    return (real if fake is None else real - (real.mean() + fake.float().mean()) / 2).sign().mean()


# ---------------------------------------------------------------------------------------------------------------------


def _chosen(x: Tensor, p: float | Tensor) -> Tensor:  # -> (B,), bool
    if x.dim() != 4:
        raise ValueError(f"augmentation takes images (B, C, H, W), not a tensor of shape {tuple(x.shape)}")
    return torch.rand(len(x), device=x.device) < p


def _column(a: Tensor) -> Tensor:
    return a.view(-1, 1, 1, 1)


def _uniform(x: Tensor, low: float, high: float, dtype: torch.dtype) -> Tensor:  # -> (B,)
    return torch.rand(len(x), device=x.device, dtype=dtype) * (high - low) + low


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)  # places in bfloat16 would be off by pixels


def _matrices(down: list[Tensor], right: list[Tensor]) -> Tensor:  # two rows of (B,) -> (B, 3, 3)
    zero, one = torch.zeros_like(down[0]), torch.ones_like(down[0])
    return torch.stack([torch.stack(row, 1) for row in (down, right, [zero, zero, one])], 1)


def _mirrored(index: Tensor, size: int) -> Tensor:
    """Any whole number as a pixel of an axis that goes on mirrored, its last pixel twice: … 1 0 0 1 2 2 1 0 0 …"""
    index = index.remainder(2 * size)  # on floats, as it comes: several times faster than on integers
    return torch.minimum(index, 2 * size - 1 - index).long()


def _sources(size: int, reach: int, chosen: Tensor) -> Tensor:  # -> (B, size)
    """Where in an axis padded by `reach` each pixel comes from."""
    one, other = torch.randint(reach + 1, (2, *chosen.shape), device=chosen.device)
    return torch.arange(reach, reach + size, device=chosen.device) - ((one - other) * chosen)[:, None]


def _box(size: int, length: int, chosen: Tensor) -> Tensor:  # -> (B, size), bool
    """Which pixels of an axis an interval of `length` pixels around a random one covers."""
    start = torch.randint(size, chosen.shape, device=chosen.device) - length // 2
    offset = torch.arange(size, device=chosen.device) - start[:, None]
    return (offset >= 0) & (offset < length) & chosen[:, None]
