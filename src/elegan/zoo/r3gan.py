"""R3GAN: a plain modern network, the relativistic loss, and zero-centred penalties on both sides. No tricks.

Huang, Gokaslan, Kuleshov and Tompkin, 2024, "The GAN is dead; long live the GAN!", arXiv:2501.05441.
Takes images, with labels if asked, and vectors. Rates, penalties and augmentation start strong and are relaxed over a
burn-in by a cosine.

    elegan train r3gan digits
    elegan train r3gan ring
"""

from math import prod, sqrt

import torch
from torch import Tensor, nn

from elegan.augment import MOST, Augment
from elegan.errors import OptionError
from elegan.game import Adam, Game, Turn, cosine
from elegan.losses import relativistic_pairing_generator, relativistic_pairing_judge
from elegan.nn.mlp import MLPGenerator, MLPJudge
from elegan.nn.resample import Resample
from elegan.penalties import r1_r2


class R3GAN(Game):
    recipe = dict(batch=64, steps=10_000, half_life_images=50_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 64,                            # noise dimensions
        widths: tuple[int, ...] = (384, 192, 96),   # channels from the coarsest size to the finest, each twice the last
        blocks: int = 2,                            # residual blocks at each size; on vectors, hidden layers
        group: int = 16,                            # channels of a group of the 3×3 convolutions
        conditional: bool = False,                  # tell both players the label
        label_dim: int = 32,                        # dimensions of the generator's label embedding
        gamma: float = 1.0,                         # weight γ of the penalties γ/2 (R1 + R2) at first
        gamma_end: float = 0.1,                     # and after the burn-in
        penalised: float = 1.0,                     # share of the batch on which the penalties are taken
        lr: float = 2e-4,                           # learning rate at first
        lr_end: float = 5e-5,                       # and after the burn-in
        beta2: float = 0.9,                         # second moment of Adam at first
        beta2_end: float = 0.99,                    # and after the burn-in
        augment: str = "",                          # of what the judge sees: light, diffaugment, ada, full, or names
        augment_end: float = 0.3,                   # its probability after the burn-in, from 0; ada finds its own
        burn_in_images: int = 500_000,              # images over which all of these change
    ):  # fmt: skip
        super().__init__(spec)
        if conditional and "label" not in spec:
            raise ValueError("conditional needs data with labels")
        classes = spec.classes if conditional else 0
        if spec.kind == "image":
            sizes = halvings(spec.shape[1:], len(widths))
            self.G = Generator(z_dim, spec.shape, sizes, widths, blocks, group, classes, label_dim)
            self.D = Judge(spec.shape, sizes, widths, blocks, group, classes)  # (B, C, H, W), (B,) -> (B,)
        else:
            hidden = [widths[0]] * max(blocks, 1)
            self.G = VectorGenerator(z_dim, hidden, spec.shape, classes, label_dim)
            self.D = VectorJudge(spec.shape, hidden, classes)  # (B, D), (B,) -> (B,)
        self.augment = Augment(augment, 0.0, kind=spec.kind)

    def turns(self):
        if self.augment_end > MOST:
            raise ValueError(f"augment_end is at most {MOST}: beyond that, samples would look augmented")
        rate, beta2 = self.relaxed(self.lr, self.lr_end), self.relaxed(self.beta2, self.beta2_end)
        adam = Adam(rate, betas=(0.0, beta2))
        return [
            Turn("D", self.d_loss, then=self.augment.following(self.images), optim=adam),
            Turn("G", self.g_loss, optim=adam),
        ]

    def relaxed(self, first: float, last: float) -> float:
        """The value of a schedule now: all of them follow one cosine over the burn-in."""
        return cosine(first, last, self.images, self.burn_in_images)

    def before(self):
        self.augment.schedule(self.relaxed(0.0, self.augment_end))

    # Section 2.2: the relativistic pairing loss with R1 and R2, both taken through the augmentation
    def d_loss(self, real, label=None):
        label = label if self.conditional else None
        fake = self.sample(self.rows, label=label)

        def judge(x, y=None):
            return self.D(self.augment(x), y)

        scores = judge(real, label), judge(fake, label)
        x, x_fake = ((real,), (fake,)) if label is None else ((real, label), (fake, label))
        r1, r2 = r1_r2(judge, x, x_fake, self.penalised)
        weight = self.relaxed(self.gamma, self.gamma_end) / 2
        terms = {"adv": relativistic_pairing_judge(*scores), "r1": weight * r1, "r2": weight * r2}
        return terms | self.augment.terms(*scores)

    def g_loss(self, real, label=None):
        label = label if self.conditional else None
        fake = self.D(self.augment(self.sample(self.rows, label=label)), label)
        return {"adv": relativistic_pairing_generator(self.D(self.augment(real), label), fake)}

    def sample(
        self,
        n,
        *,
        label: int | None = None,          # the class to draw, if the game is conditional; none draws all
        truncation: float | None = None,   # cut the noise off at this many deviations
    ):  # fmt: skip
        if label is not None and not self.conditional:
            raise OptionError("this r3gan was trained without labels; train it with --conditional for --label.")
        z = self.noise(n, truncation)
        return self.G(z, self.labels(n, label) if self.conditional else None)

    @property
    def labelled(self):
        return self.conditional


class Block(nn.Module):
    """x + Conv1×1(act(GConv3×3(act(Conv1×1 x)))), twice as wide inside, normalised by its first weights alone."""

    def __init__(self, width: int, group: int, depth: int):
        super().__init__()
        inner = 2 * width
        self.into = biased(nn.Conv2d(width, inner, 1), depth)
        self.mix = biased(nn.Conv2d(inner, inner, 3, padding=1, groups=max(inner // group, 1)), depth)
        self.out = nn.Conv2d(inner, width, 1, bias=False)
        nn.init.zeros_(self.out.weight)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.act(self.mix(self.act(self.into(x)))))


def biased(layer: nn.Conv2d, depth: int) -> nn.Conv2d:
    """Weights from N(0, g L^(-1/4) / √fan_in) with g = √(2/1.04), the gain of LeakyReLU .2, for L blocks in all."""
    fan_in = prod(layer.weight.shape[1:])
    nn.init.normal_(layer.weight, 0.0, sqrt(2 / 1.04) * depth**-0.25 / sqrt(fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def plain(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """Weights from N(0, 1 / √fan_in): variance is kept where no activation follows."""
    nn.init.normal_(layer.weight, 0.0, prod(layer.weight.shape[1:]) ** -0.5)
    return layer


class Generator(nn.Module):
    """(B, z) [, (B,)] -> (B, C, H, W): a learned basis at the coarsest size, weighted by the noise, then stages."""

    def __init__(self, z_dim, shape, sizes, widths, blocks, group, classes, label_dim):
        super().__init__()
        depth = blocks * len(widths)
        self.embed = nn.Embedding(classes, label_dim) if classes else None
        self.weight = plain(nn.Linear(z_dim + (label_dim if classes else 0), widths[0], bias=False))
        self.basis = nn.Parameter(torch.randn(widths[0], *sizes[0]))
        stages: list[nn.Module] = []
        for k, width in enumerate(widths):
            if k > 0:
                stages.append(Resample(sizes[k - 1], sizes[k]))
                if width != widths[k - 1]:
                    stages.append(plain(nn.Conv2d(widths[k - 1], width, 1, bias=False)))
            stages += [Block(width, group, depth) for _ in range(blocks)]
        self.stages = nn.Sequential(*stages)
        self.image = plain(nn.Conv2d(widths[-1], shape[0], 1, bias=False))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        if self.embed is not None and label is not None:
            z = torch.cat([z, self.embed(label)], 1)
        x = self.weight(z)[:, :, None, None] * self.basis  # (B, widest, h, w)
        return self.image(self.stages(x))


class Judge(nn.Module):
    """(B, C, H, W) [, (B,)] -> (B,): the generator's mirror image; the label enters by projection."""

    def __init__(self, shape, sizes, widths, blocks, group, classes):
        super().__init__()
        depth = blocks * len(widths)
        self.image = plain(nn.Conv2d(shape[0], widths[-1], 1, bias=False))
        stages: list[nn.Module] = []
        for k in range(len(widths) - 1, -1, -1):
            stages += [Block(widths[k], group, depth) for _ in range(blocks)]
            if k > 0:
                if widths[k] != widths[k - 1]:
                    stages.append(plain(nn.Conv2d(widths[k], widths[k - 1], 1, bias=False)))
                stages.append(Resample(sizes[k], sizes[k - 1]))
        self.stages = nn.Sequential(*stages)
        self.pool = plain(nn.Conv2d(widths[0], widths[0], sizes[0], groups=widths[0], bias=False))
        self.head = plain(nn.Linear(widths[0], classes or 1, bias=False))
        self.classes = classes

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        logits = self.head(self.pool(self.stages(self.image(x))).flatten(1))  # (B, classes or 1)
        return logits.gather(1, label[:, None]).squeeze(1) if self.classes and label is not None else logits.squeeze(1)


class VectorGenerator(nn.Module):
    """(B, z) [, (B,)] -> (B, D)"""

    def __init__(self, z_dim, hidden, shape, classes, label_dim):
        super().__init__()
        self.embed = nn.Embedding(classes, label_dim) if classes else None
        self.body = MLPGenerator(z_dim + (label_dim if classes else 0), hidden, shape, bounded=False)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.body(z if self.embed is None or label is None else torch.cat([z, self.embed(label)], 1))


class VectorJudge(nn.Module):
    """(B, D) [, (B,)] -> (B,); the label is a further input."""

    def __init__(self, shape, hidden, classes):
        super().__init__()
        self.classes = classes
        self.body = MLPJudge((prod(shape) + classes,), hidden)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        if self.classes and label is not None:
            x = torch.cat([x.flatten(1), nn.functional.one_hot(label, self.classes).to(x)], 1)
        return self.body(x)


def halvings(size: tuple[int, ...], count: int) -> list[tuple[int, int]]:
    """`count` sizes, each half of the next, rounded up, the last being `size`."""
    sizes = [(size[0], size[1])]
    for _ in range(count - 1):
        h, w = sizes[0]
        sizes.insert(0, ((h + 1) // 2, (w + 1) // 2))
    return sizes


presets = {
    "digits": dict(
        widths=(64, 32, 16), blocks=1, gamma=0.3, gamma_end=0.03, penalised=0.25, lr=2e-3, lr_end=2e-4,
        burn_in_images=100_000, half_life_images=5_000, steps=2_000,
    ),
    "fashion": dict(
        widths=(64, 32, 16), blocks=1, gamma=0.3, gamma_end=0.03, penalised=0.25, lr=2e-3, lr_end=2e-4,
        burn_in_images=100_000, half_life_images=5_000, steps=2_000,
    ),
    "vector": dict(
        z_dim=2, widths=(128,), blocks=3, gamma=0.5, gamma_end=0.005, lr=2e-3, lr_end=2e-5, burn_in_images=3_500_000,
        batch=128, steps=28_000,
    ),
    "cifar-10": dict(
        widths=(768, 768, 768, 768), batch=512, gamma=0.05, gamma_end=0.005, augment="flip,translate,colour,cutout",
        augment_end=0.55, half_life_images=5_000_000, burn_in_images=20_000_000,
    ),
    "ffhq-64": dict(
        widths=(768, 768, 768, 768, 384), batch=256, gamma=2.0, gamma_end=0.2, augment="flip,translate,colour,cutout",
        half_life_images=500_000, burn_in_images=20_000_000,
    ),
    "tiny": dict(z_dim=4, widths=(8, 8), blocks=1, group=4, augment="flip,translate", burn_in_images=64),
}  # fmt: skip
