"""Autoencoder: the plainest baseline beside the GANs, with a Gaussian fitted to its codes so that it can draw.

Hinton and Salakhutdinov, 2006, Science 313; denoising, `corrupt`: Vincent, Larochelle, Bengio and Manzagol, 2008. Takes
images and vectors. An autoencoder has no prior to draw from: samples come from a Gaussian with the mean and the full
covariance of the codes, a density fitted to what the encoder makes of the data (Ghosh et al., 2019, arXiv:1903.12436).
Its moments are followed while training and kept with the weights.

    elegan train ae digits
"""

import torch
from torch import Tensor, nn

from elegan.game import Adam, Game, Turn
from elegan.losses import l2
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.mlp import MLPGenerator, hidden

FORGET = 0.01  # the least weight of a new batch in the moments of the codes: they look back a hundred batches or so


class AE(Game):
    tasks = ("generation", "reconstruction")
    recipe = dict(batch=64, steps=10_000, half_life_images=4_000)

    mean: Tensor
    covariance: Tensor
    fitted: Tensor

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 16,        # dimensions of the code
        width: int = 32,        # channels at half resolution; on vectors, a quarter of the hidden units
        corrupt: float = 0.0,   # share of the input's values wiped out before encoding (a denoising autoencoder)
        lr: float = 1e-3,       # learning rate
    ):  # fmt: skip
        super().__init__(spec)
        if corrupt >= 1:
            raise ValueError("corrupt must be below 1: of an input wiped out whole there is nothing to learn")
        if spec.kind == "image":
            features = ConvJudge(spec.shape, width)
            self.E = nn.Sequential(features.body, nn.Linear(features.head.in_features, z_dim))  # x -> (B, z)
            self.G = ConvGenerator(z_dim, spec.shape, width)  # (B, z) -> (B, C, H, W) in [-1, 1]
        else:
            self.E = nn.Sequential(hidden([*spec.shape, 4 * width, 4 * width]), nn.Linear(4 * width, z_dim))
            self.G = MLPGenerator(z_dim, [4 * width] * 2, spec.shape, bounded=False)
        self.register_buffer("mean", torch.zeros(z_dim))
        self.register_buffer("covariance", torch.eye(z_dim))
        self.register_buffer("fitted", torch.zeros(()))  # batches the moments have seen

    def turns(self):
        return [Turn("E G", self.loss, optim=Adam(self.lr, betas=(0.9, 0.999)))]

    def loss(self, real):
        code = self.E(self.corrupted(real) if self.corrupt else real)
        self.follow(code.detach())
        return {"rec": l2(self.G(code), real)}

    # Vincent et al. 2008, section 2.3: values chosen at random are forced to 0, which is black in an image
    def corrupted(self, real: Tensor) -> Tensor:
        zero = -1.0 if self.spec.kind == "image" else 0.0
        return torch.where(torch.rand_like(real) < self.corrupt, zero, real)

    @torch.no_grad()
    def follow(self, code: Tensor) -> None:
        """Mix the moments of a batch of codes, (B, z), into those kept: at first all batches alike, later a hundred."""
        weight = (1 / (self.fitted + 1)).clamp(min=FORGET)
        away = code.mean(0) - self.mean
        self.covariance.lerp_(code.T.cov(correction=0), weight).add_(weight * (1 - weight) * away.outer(away))
        self.mean.add_(weight * away)
        self.fitted.add_(1)

    def reconstruct(self, real):
        """Encode and decode: (B, *shape) -> the same."""
        return self.G(self.E(real))

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        values, axes = torch.linalg.eigh(self.covariance)
        root = axes * values.clamp(min=0).sqrt() @ axes.T  # the one symmetric root, whatever the signs of the axes
        return self.G(self.mean + self.noise(n, truncation) @ root)


presets = {
    "digits": dict(steps=2_000),
    "fashion": dict(steps=2_000),
    "vector": dict(z_dim=2),
    "tiny": dict(z_dim=4, width=4),
}
