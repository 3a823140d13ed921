"""Relativistic average GAN: is a real sample more real than drawn ones are on average, and the other way round.

Jolicoeur-Martineau, 2018, "The relativistic discriminator", arXiv:1807.00734. Takes images of any size and vectors.
`loss` chooses the game that is made relativistic: the paper's RaSGAN, RaLSGAN or RaHingeGAN.

    elegan train ragan digits
"""

from typing import Literal

from elegan.augment import Augment
from elegan.game import Adam, Game, Turn
from elegan.losses import hinge_judge, minimax_judge
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.init import dcgan_
from elegan.nn.mlp import MLPGenerator, MLPJudge
from elegan.penalties import spectral_norm

# what a judge minimises, in logits relative to the other side's mean
LOSSES = {
    "standard": minimax_judge,
    "least-squares": lambda real, fake: (real - 1).square().mean() + (fake + 1).square().mean(),
    "hinge": hinge_judge,
}


class RaGAN(Game):
    recipe = dict(batch=64, steps=10_000, half_life_images=20_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 128,        # noise dimensions
        width: int = 64,         # channels at half resolution; on vectors, an eighth of the hidden units
        loss: Literal["standard", "least-squares", "hinge"] = "standard",  # the game that is made relativistic
        spectral: bool = True,   # spectral norm in the judge
        augment: str = "",       # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 2e-4,        # learning rate of both players
    ):  # fmt: skip
        super().__init__(spec)
        if spec.kind == "image":
            self.G = dcgan_(ConvGenerator(z_dim, spec.shape, width))  # (B, z) -> (B, C, H, W)
            self.D = dcgan_(ConvJudge(spec.shape, width))  # (B, C, H, W) -> (B,)
        else:
            self.G = MLPGenerator(z_dim, [8 * width] * 3, spec.shape, bounded=False)  # (B, z) -> (B, D)
            self.D = MLPJudge(spec.shape, [8 * width] * 3)  # (B, D) -> (B,)
        if spectral:
            spectral_norm(self.D)
        self.augment = Augment(augment, kind=spec.kind)

    def turns(self):
        adam = Adam(self.lr, betas=(0.5, 0.999))
        return [
            Turn("D", self.d_loss, then=self.augment.following(self.images), optim=adam),
            Turn("G", self.g_loss, optim=adam),
        ]

    # the generator's loss is the judge's with the roles swapped; its gradient flows through the drawn side's mean too
    def d_loss(self, real):
        scores = self.D(self.augment(real)), self.D(self.augment(self.sample(self.rows)))
        return {"adv": self.relative(*scores), **self.augment.terms(*scores)}

    def g_loss(self, real):
        fake = self.D(self.augment(self.sample(self.rows)))
        return {"adv": self.relative(fake, self.D(self.augment(real)))}

    def relative(self, upper, lower):
        """How far the upper logits are from lying above the mean of the lower ones, and the lower below theirs."""
        return LOSSES[self.loss](upper - lower.mean(), lower - upper.mean())

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        return self.G(self.noise(n, truncation))


presets = {
    "digits": dict(width=32, lr=1e-3, steps=3_000),
    "vector": dict(z_dim=8, width=16, spectral=False, lr=1e-3, batch=256),
    "tiny": dict(z_dim=4, width=4),
}
