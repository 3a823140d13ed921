"""Least squares GAN: the judge regresses on targets, so what it is sure of still pulls.

Mao, Li, Xie, Lau, Wang and Smolley, 2016, arXiv:1611.04076. Takes images of any size and vectors. `targets` chooses
between the paper's two codings: `binary`, which it uses most, and `pearson`, under which the game minimises Pearson's
χ² divergence between p_data + p_g and 2 p_g.

    elegan train lsgan digits
"""

from typing import Literal

from elegan.augment import Augment
from elegan.game import Adam, Game, Turn
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.init import dcgan_
from elegan.nn.mlp import MLPGenerator, MLPJudge

# a, b: what the judge is to say of drawn and of real samples; c: what the generator wants it to say of drawn ones
TARGETS = {"binary": (0.0, 1.0, 1.0), "pearson": (-1.0, 1.0, 0.0)}  # Equations 9 and 8


class LSGAN(Game):
    recipe = dict(batch=64, steps=10_000, half_life_images=20_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 100,          # noise dimensions
        width: int = 64,           # channels at half resolution; on vectors, an eighth of the hidden units
        judge_norm: bool = True,   # BatchNorm in the judge of images
        targets: Literal["binary", "pearson"] = "binary",  # what the judge is to say: 0 and 1, or −1 and 1
        augment: str = "",         # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 2e-4,          # learning rate of both players
    ):  # fmt: skip
        super().__init__(spec)
        if spec.kind == "image":
            self.G = dcgan_(ConvGenerator(z_dim, spec.shape, width))  # (B, z) -> (B, C, H, W)
            self.D = dcgan_(ConvJudge(spec.shape, width, norm=judge_norm))  # (B, C, H, W) -> (B,)
        else:
            self.G = MLPGenerator(z_dim, [8 * width] * 3, spec.shape, bounded=False)  # (B, z) -> (B, D)
            self.D = MLPJudge(spec.shape, [8 * width] * 3)  # (B, D) -> (B,)
        self.augment = Augment(augment, kind=spec.kind)

    def turns(self):
        adam = Adam(self.lr, betas=(0.5, 0.999))
        return [
            Turn("D", self.d_loss, then=self.augment.following(self.images), optim=adam),
            Turn("G", self.g_loss, optim=adam),
        ]

    # Equation 2, both lines
    def d_loss(self, real):
        a, b, _ = TARGETS[self.targets]
        real, fake = self.D(self.augment(real)), self.D(self.augment(self.sample(self.rows)))
        adv = (real - b).square().mean() / 2 + (fake - a).square().mean() / 2
        return {"adv": adv, **self.augment.terms(real, fake)}

    def g_loss(self):
        _, _, c = TARGETS[self.targets]
        return {"adv": (self.D(self.augment(self.sample(self.rows))) - c).square().mean() / 2}

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        return self.G(self.noise(n, truncation))


presets = {
    "digits": dict(width=32, lr=1e-3, steps=3_000),
    "vector": dict(z_dim=8, width=16, lr=1e-3, batch=256),
    "tiny": dict(z_dim=4, width=4),
}
