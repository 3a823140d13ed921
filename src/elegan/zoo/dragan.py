"""DRAGAN: the first GAN's loss, and a gradient penalty around the data, which is where a judge grows sharp.

Kodali, Abernethy, Hays and Kira, 2017, "On convergence and stability of GANs", arXiv:1705.07215. Takes images of any
size and vectors.

    elegan train dragan digits
"""

from elegan.augment import Augment
from elegan.game import Adam, Game, Turn
from elegan.losses import non_saturating_generator, non_saturating_judge
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.init import dcgan_
from elegan.nn.mlp import MLPGenerator, MLPJudge
from elegan.penalties import dragan


class DRAGAN(Game):
    recipe = dict(batch=64, steps=10_000, half_life_images=20_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 100,      # noise dimensions
        width: int = 64,       # channels at half resolution; on vectors, an eighth of the hidden units
        gp: float = 10.0,      # weight λ of the gradient penalty
        spread: float = 0.5,   # deviation of the noise around real samples, as a share of the batch's
        augment: str = "",     # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 2e-4,      # learning rate of both players
    ):  # fmt: skip
        super().__init__(spec)
        if spec.kind == "image":
            self.G = dcgan_(ConvGenerator(z_dim, spec.shape, width))  # (B, z) -> (B, C, H, W)
            self.D = dcgan_(ConvJudge(spec.shape, width))  # (B, C, H, W) -> (B,); no BatchNorm: the slope is a sample's
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

    # the cross entropy of the first GAN, and the penalty of Algorithm 1
    def d_loss(self, real):
        real, fake = self.augment(real), self.augment(self.sample(self.rows))
        scores = self.D(real), self.D(fake)
        penalty = self.gp * dragan(self.D, real, spread=self.spread)
        return {"adv": non_saturating_judge(*scores), "gp": penalty, **self.augment.terms(*scores)}

    def g_loss(self):
        return {"adv": non_saturating_generator(self.D(self.augment(self.sample(self.rows))))}

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        return self.G(self.noise(n, truncation))


presets = {
    "digits": dict(width=32, lr=1e-3, steps=2_500),
    "vector": dict(z_dim=8, width=16, gp=1.0, lr=2e-3, batch=256),
    "tiny": dict(z_dim=4, width=4),
}
