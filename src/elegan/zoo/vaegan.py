"""VAE/GAN: an autoencoder that measures likeness in the judge's features rather than in pixels.

Larsen, Sønderby, Larochelle and Winther, 2015, arXiv:1512.09300. Takes images and vectors. Three players, each with its
own loss (Algorithm 1): the encoder E, the generator G, which is the decoder too, and the judge D. Unlike in the paper
the judge has no BatchNorm, which would let it tell real from drawn by the company a sample keeps.

    elegan train vaegan digits
"""

from typing import Literal

import torch
from torch import Tensor, nn

from elegan.augment import Augment
from elegan.game import Game, RMSprop, Turn
from elegan.losses import LOSSES, minimax_generator, minimax_judge
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.mlp import MLPGenerator, MLPJudge


class VAEGAN(Game):
    tasks = ("generation", "reconstruction")
    recipe = dict(batch=64, steps=10_000, half_life_images=20_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 128,     # latent dimensions
        width: int = 64,      # channels at half resolution; on vectors, half of the hidden units
        gamma: float = 0.01,  # weight γ of likeness against style, in the generator's loss alone
        loss: Literal["minimax", "non-saturating"] = "non-saturating",  # of the generator; the paper's is minimax
        augment: str = "",    # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 3e-4,     # learning rate of all players
    ):  # fmt: skip
        super().__init__(spec)
        if spec.kind == "image":
            encoder, judge = ConvJudge(spec.shape, width), ConvJudge(spec.shape, width)
            self.G = ConvGenerator(z_dim, spec.shape, width)  # (B, z) -> (B, C, H, W)
        else:
            encoder, judge = MLPJudge(spec.shape, [2 * width] * 2), MLPJudge(spec.shape, [2 * width] * 2)
            self.G = MLPGenerator(z_dim, [2 * width] * 2, spec.shape, bounded=False)  # (B, z) -> (B, D)
        self.E = nn.Sequential(encoder.body, nn.Linear(encoder.head.in_features, 2 * z_dim))  # x -> (B, 2 z)
        self.D = Judge(judge)  # (B, *shape) -> (B,), (B, features)
        self.augment = Augment(augment, kind=spec.kind)

    # Algorithm 1; what a player does not move by, its turn does not reach
    def turns(self):
        slow = RMSprop(self.lr)
        losses = {"E": self.e_loss, "G": self.g_loss, "D": self.d_loss}
        then = {"D": self.augment.following(self.images)}
        return [Turn(player, loss, then=then.get(player), optim=slow) for player, loss in losses.items()]

    # L_prior + L_llike
    def e_loss(self, real):
        mean, log_var = self.E(real).chunk(2, 1)  # (B, z) each
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)  # (B,)
        again = self.G(posterior(mean, log_var))
        return {"kl": kl.mean(), "like": likeness(self.D(real)[1], self.D(again)[1])}

    # γ L_llike − L_GAN
    def g_loss(self, real):
        fake, again = self.sample(self.rows), self.again(real)
        (said, _), (said_again, features) = self.D(self.augment(fake)), self.D(self.augment(again))
        if self.augment.policy:  # likeness is of images as they are
            features = self.D(again)[1]
        generator = LOSSES[self.loss].generator
        return {
            "like": self.gamma * likeness(self.D(real)[1], features),
            "adv": generator(None, said),
            "adv_again": generator(None, said_again),
        }

    # L_GAN as a loss: −log D(x) − log(1 − D(G(z_p))) − log(1 − D(G(E(x))))
    def d_loss(self, real):
        fake, again, said = (self.D(self.augment(x))[0] for x in (self.sample(self.rows), self.again(real), real))
        adv = {"adv": minimax_judge(said, fake), "adv_again": -minimax_generator(again)}
        return adv | self.augment.terms(said, fake)

    def again(self, real: Tensor) -> Tensor:
        """Encode, draw from the posterior, decode: (B, *shape) -> the same."""
        return self.G(posterior(*self.E(real).chunk(2, 1)))

    def reconstruct(self, real):
        """Encode to the mean and decode: (B, *shape) -> the same."""
        return self.G(self.E(real).chunk(2, 1)[0])

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        return self.G(self.noise(n, truncation))


def posterior(mean: Tensor, log_var: Tensor) -> Tensor:
    """A draw from N(mean, exp(log_var)), with gradients to both."""  # (B, z)
    return mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)


# Equations 7 and 8: −log N(D_l(x) | D_l(x̃), I), up to a constant
def likeness(real: Tensor, again: Tensor) -> Tensor:
    """½ ‖D_l(x) − D_l(x̃)‖² of a judge's features, as nats a sample: two (B, features) -> ()"""
    return (real - again).square().sum(1).mean() / 2


class Judge(nn.Module):
    """A judge that shows the features behind its logit.  (B, *shape) -> (B,), (B, features)"""

    def __init__(self, judge: ConvJudge | MLPJudge):
        super().__init__()
        self.body, self.head = judge.body, judge.head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return self.head(features).squeeze(1), features


presets = {
    "digits": dict(z_dim=32, width=32, lr=1e-3, steps=1_500),
    "vector": dict(z_dim=2),
    "tiny": dict(z_dim=4, width=4),
}
