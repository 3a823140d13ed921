"""Auxiliary classifier GAN: the judge is not told the class, it has to say it, and both players want it said rightly.

Odena, Olah and Shlens, 2016, arXiv:1610.09585. Takes images with labels. As in the paper the judge drops features and
ends in one layer of 1 + classes logits; unlike there it has no BatchNorm, which would let it tell real from drawn by
the company a sample keeps.

    elegan train acgan digits
    elegan sample RUN --label 7
"""

from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from elegan.augment import Augment
from elegan.game import Adam, Game, Turn
from elegan.losses import LOSSES
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.init import dcgan_


class ACGAN(Game):
    recipe = dict(batch=64, steps=10_000, half_life_images=20_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 100,          # noise dimensions
        width: int = 64,           # channels at half resolution
        dropout: float = 0.5,      # share of judge features dropped
        loss: Literal["minimax", "non-saturating", "least-squares", "hinge"] = "non-saturating",  # adversarial loss
        auxiliary: float = 1.0,    # weight of the class terms, in both players' losses
        augment: str = "",         # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 2e-4,          # learning rate of both players
    ):  # fmt: skip
        super().__init__(spec)
        judge = ConvJudge(spec.shape, width, dropout=dropout)
        heads = nn.Linear(judge.head.in_features, 1 + spec.classes)
        self.G = dcgan_(ConvGenerator(z_dim + spec.classes, spec.shape, width))  # (B, z + classes) -> (B, C, H, W)
        self.D = dcgan_(nn.Sequential(judge.body, heads))  # (B, C, H, W) -> (B, 1 + classes)
        self.augment = Augment(augment, kind=spec.kind)

    @classmethod
    def accepts(cls, spec):
        if spec.kind != "image" or "label" not in spec:
            return "it needs images with labels"
        return ""

    def turns(self):
        adam = Adam(self.lr, betas=(0.5, 0.999))
        return [
            Turn("D", self.d_loss, then=self.augment.following(self.images), optim=adam),
            Turn("G", self.g_loss, optim=adam),
        ]

    # L_S + L_C, Equations 2 and 3, is what the judge maximises
    def d_loss(self, real, label):
        said = self.D(self.augment(real))
        said_of_fake = self.D(self.augment(self.sample(self.rows, label=label)))
        return {
            "adv": LOSSES[self.loss].judge(said[:, 0], said_of_fake[:, 0]),
            "class": self.auxiliary * cross_entropy(said[:, 1:], label),
            "class_fake": self.auxiliary * cross_entropy(said_of_fake[:, 1:], label),
            **self.augment.terms(said[:, 0], said_of_fake[:, 0]),
        }

    # and L_C − L_S the generator
    def g_loss(self, label):
        said = self.D(self.augment(self.sample(self.rows, label=label)))
        return {
            "adv": LOSSES[self.loss].generator(None, said[:, 0]),
            "class": self.auxiliary * cross_entropy(said[:, 1:], label),
        }

    def sample(
        self,
        n,
        *,
        label: int | None = None,           # the class to draw; none draws all
        truncation: float | None = None,    # cut the noise off at this many deviations
    ):  # fmt: skip
        z = self.noise(n, truncation)
        return self.G(torch.cat([z, one_hot(self.labels(n, label), self.spec.classes).to(z)], 1))


presets = {
    "digits": dict(width=32, dropout=0.3, lr=1e-3, steps=2_000),
    "tiny": dict(z_dim=4, width=4, dropout=0.1),
}
