"""Conditional GAN: both players are told the class, so one can ask for a seven and get a seven.

Mirza and Osindero, 2014, arXiv:1411.1784; the judge sees the label by projection (Miyato and Koyama, 2018,
arXiv:1802.05637, Equation 3) or, as in the first paper, as further input channels. The preset `digits`, with the loss
and penalties of R3GAN (2501.05441), is what `elegan train` runs.

    elegan train cgan digits
    elegan sample RUN --label 7
"""

from typing import Literal

import torch
from torch import Tensor, nn

from elegan.augment import Augment
from elegan.game import Adam, Game, Turn
from elegan.losses import LOSSES
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.init import dcgan_
from elegan.penalties import r1_r2


class CGAN(Game):
    recipe = dict(batch=64, steps=10_000, half_life_images=20_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 100,          # noise dimensions
        label_dim: int = 50,       # dimensions of the label's embedding in the generator
        width: int = 64,           # channels at half resolution
        condition: Literal["projection", "channels"] = "projection",  # how the judge sees the label
        loss: Literal["non-saturating", "hinge", "least-squares",
                      "relativistic-pairing"] = "non-saturating",  # adversarial loss
        gamma: float = 0.0,        # weight γ of the penalties γ/2 (R1 + R2); 0 leaves them out
        penalised: float = 0.25,   # share of the batch on which the penalties are taken
        augment: str = "",         # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 2e-4,          # learning rate of both players
        beta1: float = 0.5,        # first moment of Adam
    ):  # fmt: skip
        super().__init__(spec)
        self.G = LabelledGenerator(spec, z_dim, label_dim, width)  # (B, z), (B,) -> (B, C, H, W)
        self.D = LabelledJudge(spec, width, condition)  # (B, C, H, W), (B,) -> (B,)
        self.augment = Augment(augment, kind=spec.kind)

    @classmethod
    def accepts(cls, spec):
        if spec.kind != "image" or "label" not in spec:
            return "it needs images with labels"
        return ""

    def turns(self):
        adam = Adam(self.lr, betas=(self.beta1, 0.999))
        return [
            Turn("D", self.d_loss, then=self.augment.following(self.images), optim=adam),
            Turn("G", self.g_loss, optim=adam),
        ]

    # Equation 2 of 1411.1784; drawn samples carry the labels of the batch, so relativistic pairs share a class
    def d_loss(self, real, label):
        real, fake = self.augment(real), self.augment(self.sample(self.rows, label=label))
        scores = self.D(real, label), self.D(fake, label)
        terms = {"adv": LOSSES[self.loss].judge(*scores), **self.augment.terms(*scores)}
        if self.gamma:
            r1, r2 = r1_r2(self.D, (real, label), (fake, label), self.penalised)
            terms |= {"r1": self.gamma / 2 * r1, "r2": self.gamma / 2 * r2}
        return terms

    def g_loss(self, real, label):
        fake = self.D(self.augment(self.sample(self.rows, label=label)), label)
        return {"adv": LOSSES[self.loss].generator(self.D(self.augment(real), label), fake)}

    def sample(
        self,
        n,
        *,
        label: int | None = None,           # the class to draw; none draws all
        truncation: float | None = None,    # cut the noise off at this many deviations
    ):  # fmt: skip
        return self.G(self.noise(n, truncation), self.labels(n, label))


class LabelledGenerator(nn.Module):
    """Noise beside an embedding of the label."""

    def __init__(self, spec, z_dim: int, label_dim: int, width: int):
        super().__init__()
        self.embed = nn.Embedding(spec.classes, label_dim)
        self.body = dcgan_(ConvGenerator(z_dim + label_dim, spec.shape, width))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.body(torch.cat([z, self.embed(label)], 1))


class LabelledJudge(nn.Module):
    """A judge that projects on the label's embedding, or sees the label as one constant channel a class."""

    def __init__(self, spec, width: int, condition: str):
        super().__init__()
        channels, height, across = spec.shape
        self.classes = spec.classes if condition == "channels" else 0
        shape = (channels + self.classes, height, across)
        self.body = dcgan_(ConvJudge(shape, width, classes=0 if self.classes else spec.classes))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        if not self.classes:
            return self.body(x, label)
        hot = nn.functional.one_hot(label, self.classes).to(x)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.body(torch.cat([x, hot], 1))


presets = {
    "digits": dict(width=32, loss="relativistic-pairing", gamma=0.3, lr=2e-3, beta1=0.0, steps=2_500),
    "fashion": dict(width=32, loss="relativistic-pairing", gamma=0.3, lr=2e-3, beta1=0.0, steps=2_500),
    "tiny": dict(z_dim=4, label_dim=3, width=4, gamma=0.5),
}
