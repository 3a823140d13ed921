"""Variational autoencoder: no judge at all. The baseline that every GAN should be compared with.

Kingma and Welling, 2013, arXiv:1312.6114. One game of one turn: encoder and generator move together.

    elegan train vae digits
"""

import torch
import torch.nn.functional as F
from torch import nn

from elegan.game import Adam, Game, Turn
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.mlp import MLPGenerator, hidden


class VAE(Game):
    tasks = ("generation", "reconstruction")
    recipe = dict(batch=64, steps=10_000, half_life_images=20_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 16,     # latent dimensions
        width: int = 32,     # channels at half resolution; on vectors, a quarter of the hidden units
        beta: float = 1.0,   # weight β of the divergence from the prior (β-VAE)
        sigma: float = 0.1,  # deviation of the Gaussian likelihood of vectors; images use a Bernoulli one
        lr: float = 1e-3,    # learning rate
    ):  # fmt: skip
        super().__init__(spec)
        if spec.kind == "image":
            features = ConvJudge(spec.shape, width)
            self.E = nn.Sequential(features.body, nn.Linear(features.head.in_features, 2 * z_dim))  # x -> (B, 2 z)
            self.G = ConvGenerator(z_dim, spec.shape, width)  # (B, z) -> (B, C, H, W) in [-1, 1]
        else:
            self.E = nn.Sequential(hidden([*spec.shape, 4 * width, 4 * width]), nn.Linear(4 * width, 2 * z_dim))
            self.G = MLPGenerator(z_dim, [4 * width] * 2, spec.shape, bounded=False)

    def turns(self):
        return [Turn("E G", self.loss, optim=Adam(self.lr, betas=(0.9, 0.999)))]

    # Equation 10: the evidence bound of a sample, as nats a sample
    def loss(self, real):
        mean, log_var = self.E(real).chunk(2, 1)  # (B, z) each
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)  # (B,)
        return {"rec": self.nats(real, self.G(z)).mean(), "kl": self.beta * kl.mean()}

    def nats(self, real, drawn):
        """−log p(x | z) of each sample up to a constant; pixels are taken for probabilities."""  # -> (B,)
        if self.spec.kind == "image":
            p, q = (real + 1) / 2, ((drawn + 1) / 2).clamp(1e-6, 1 - 1e-6)
            return F.binary_cross_entropy(q, p, reduction="none").flatten(1).sum(1)
        return ((real - drawn) / self.sigma).square().flatten(1).sum(1) / 2

    def reconstruct(self, real):
        """Encode to the mean and decode: (B, *shape) -> the same."""
        return self.G(self.E(real).chunk(2, 1)[0])

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        return self.G(self.noise(n, truncation))


presets = {
    "digits": dict(steps=3_000),
    "fashion": dict(steps=3_000),
    "vector": dict(z_dim=2),
    "tiny": dict(z_dim=4, width=4),
}
