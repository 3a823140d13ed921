"""Wasserstein GAN with gradient penalty: a critic kept 1-Lipschitz by a penalty between real and drawn samples.

Gulrajani, Ahmed, Arjovsky, Dumoulin and Courville, 2017, arXiv:1704.00028. Takes images and vectors. `judge_lr` gives
the critic a rate of its own (Heusel et al., 2017, 1706.08500).

    elegan train wgan-gp digits --steps 3000
"""

from elegan.augment import Augment
from elegan.game import Adam, Game, Turn
from elegan.losses import wasserstein_generator, wasserstein_judge
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.mlp import MLPGenerator, MLPJudge
from elegan.penalties import gradient_penalty


class WGANGP(Game):
    recipe = dict(batch=64, steps=10_000, half_life_images=50_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 128,                # noise dimensions
        width: int = 64,                 # channels at half resolution; on vectors, an eighth of the hidden units
        n_critic: int = 5,               # critic moves per generator move
        gp: float = 10.0,                # weight λ of the gradient penalty
        augment: str = "",               # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 1e-4,                # learning rate
        judge_lr: float | None = None,   # the critic's learning rate; none is lr
    ):  # fmt: skip
        super().__init__(spec)
        if spec.kind == "image":
            self.G = ConvGenerator(z_dim, spec.shape, width)  # (B, z) -> (B, C, H, W)
            self.D = ConvJudge(spec.shape, width)  # (B, C, H, W) -> (B,); no BatchNorm: the penalty is a sample's own
        else:
            self.G = MLPGenerator(z_dim, [8 * width] * 3, spec.shape, bounded=False)  # (B, z) -> (B, D)
            self.D = MLPJudge(spec.shape, [8 * width] * 3)  # (B, D) -> (B,)
        self.augment = Augment(augment, kind=spec.kind)

    def turns(self):
        judge_lr = self.lr if self.judge_lr is None else self.judge_lr
        judge, generator = (Adam(lr, betas=(0.0, 0.9)) for lr in (judge_lr, self.lr))
        return [
            Turn("D", self.d_loss, repeat=self.n_critic, then=self.augment.following(self.images), optim=judge),
            Turn("G", self.g_loss, optim=generator),
        ]

    # Equation 3
    def d_loss(self, real):
        real, fake = self.augment(real), self.augment(self.sample(self.rows))
        scores = self.D(real), self.D(fake)
        penalty = self.gp * gradient_penalty(self.D, real, fake)
        return {"adv": wasserstein_judge(*scores), "gp": penalty, **self.augment.terms(*scores)}

    def g_loss(self):
        return {"adv": wasserstein_generator(self.D(self.augment(self.sample(self.rows))))}

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        return self.G(self.noise(n, truncation))


presets = {
    "digits": dict(width=32, lr=5e-4, steps=2_000),
    "fashion": dict(width=32, lr=5e-4, steps=2_000),
    "vector": dict(z_dim=2, width=16, lr=1e-3),
    "tiny": dict(z_dim=4, width=4, n_critic=2),
}
