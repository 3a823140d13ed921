"""Wasserstein GAN: a critic that measures a distance, kept Lipschitz by clipping its weights.

Arjovsky, Chintala and Bottou, 2017, arXiv:1701.07875. Takes images of any size and vectors. The critic's loss is minus
the estimated distance: it falls towards nothing as samples come nearer.

    elegan train wgan digits
"""

from elegan.augment import Augment
from elegan.game import Game, RMSprop, Turn
from elegan.losses import wasserstein_generator, wasserstein_judge
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.init import dcgan_
from elegan.nn.mlp import MLPGenerator, MLPJudge
from elegan.penalties import clip_


class WGAN(Game):
    recipe = dict(batch=64, steps=10_000, half_life_images=50_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 100,          # noise dimensions
        width: int = 64,           # channels at half resolution; on vectors, an eighth of the hidden units
        judge_norm: bool = True,   # BatchNorm in the critic of images
        n_critic: int = 5,         # critic moves per generator move
        clip: float = 0.01,        # weights of the critic stay within ± this
        augment: str = "",         # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 5e-5,          # learning rate of both players
    ):  # fmt: skip
        super().__init__(spec)
        if spec.kind == "image":
            self.G = dcgan_(ConvGenerator(z_dim, spec.shape, width))  # (B, z) -> (B, C, H, W)
            self.D = dcgan_(ConvJudge(spec.shape, width, norm=judge_norm))  # (B, C, H, W) -> (B,)
        else:
            self.G = MLPGenerator(z_dim, [8 * width] * 3, spec.shape, bounded=False)  # (B, z) -> (B, D)
            self.D = MLPJudge(spec.shape, [8 * width] * 3)  # (B, D) -> (B,)
        self.augment = Augment(augment, kind=spec.kind)

    # Algorithm 1
    def turns(self):
        slow = RMSprop(self.lr)
        return [
            Turn("D", self.d_loss, repeat=self.n_critic, then=self.clipped, optim=slow),
            Turn("G", self.g_loss, optim=slow),
        ]

    # Algorithm 1, line 7
    def clipped(self, terms):
        clip_(self.D, self.clip)
        self.augment.follow(terms, self.images)

    # Equation 3
    def d_loss(self, real):
        scores = self.D(self.augment(real)), self.D(self.augment(self.sample(self.rows)))
        return {"adv": wasserstein_judge(*scores), **self.augment.terms(*scores)}

    def g_loss(self):
        return {"adv": wasserstein_generator(self.D(self.augment(self.sample(self.rows))))}

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        return self.G(self.noise(n, truncation))


presets = {
    "digits": dict(width=32, lr=5e-4, steps=1_200),
    "vector": dict(z_dim=8, width=16, clip=0.1, lr=1e-3, batch=256),
    "tiny": dict(z_dim=4, width=4, n_critic=2),
}
