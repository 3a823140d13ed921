"""The generative adversarial network as it was first written down, on fully connected layers.

Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville and Bengio, 2014, arXiv:1406.2661.
Takes images and vectors of any shape. The presets `mlp`, `mlp-bn` and `conv` are the nets that tutorials teach;
`gan-lab` has the sizes, the noise and the optimiser that GAN Lab begins with (Kahng et al., 2018, 1809.01587), `lab` is
what this package's own lab begins with. Options are one-sided label smoothing (Salimans et al., 2016, 1606.03498,
section 3.4), noise on what the judge sees (Sønderby et al., 2016, 1610.04490) and two rates (Heusel et al., 2017,
1706.08500). A player of 0 moves a step stands still.

    elegan train gan digits --preset mlp
    elegan train gan ring
"""

from typing import Literal

import torch
from torch import nn

from elegan.augment import Augment, instance_noise
from elegan.errors import OptionError
from elegan.game import SGD, Adam, Game, Optim, Turn, cosine
from elegan.losses import LOSSES, minimax_judge
from elegan.nn.conv import pyramid
from elegan.nn.mlp import MLPGenerator, MLPJudge
from elegan.penalties import r1_r2


class GAN(Game):
    recipe = dict(batch=64, steps=10_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 100,                             # noise dimensions
        prior: Literal["normal", "uniform"] = "normal",  # the noise: N(0, 1), or uniform on [-1, 1]
        widths: tuple[int, ...] = (256, 512, 1024),   # units of the generator's hidden layers
        judge_widths: tuple[int, ...] = (512, 256),   # units of the judge's hidden layers
        net: Literal["mlp", "conv"] = "mlp",          # the generator: fully connected, or upsampling convolutions
        norm: bool = False,                           # BatchNorm in the generator
        dropout: float = 0.0,                         # share of judge units dropped
        loss: Literal["minimax", "non-saturating", "least-squares", "hinge"] = "non-saturating",  # adversarial loss
        k: int = 1,                                   # judge moves a step; 0: it stands still
        generator_k: int = 1,                         # generator moves a step, after the judge's; 0: it stands still
        smooth: float = 0.0,                          # the judge is to say 1 − smooth of real samples
        instance_noise: float = 0.0,                  # deviation of noise on what the judge sees, at first
        noise_images: int = 500_000,                  # images over which that noise falls to nothing; 0 keeps it
        gamma: float = 0.0,                           # weight γ of the penalties γ/2 (R1 + R2), at first; 0: none
        augment: str = "",                            # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 2e-4,                             # learning rate, at first
        judge_lr: float | None = None,                # the judge's learning rate; none is lr
        decay: float = 1.0,                           # part of γ and of the rates that is left after decay_images
        decay_images: int = 1_000_000,                # images over which they fall, by a cosine
        optim: Literal["adam", "sgd"] = "adam",       # optimiser
        judge_optim: Literal["adam", "sgd"] | None = None,  # the judge's optimiser; none is optim
        beta1: float = 0.5,                           # first moment of Adam
    ):  # fmt: skip
        super().__init__(spec)
        image = spec.kind == "image"
        if net == "conv" and not image:
            raise ValueError("net conv needs images")
        if net == "conv":
            self.G = UpsamplingGenerator(z_dim, spec.shape)
        else:
            self.G = MLPGenerator(z_dim, widths, spec.shape, norm=norm, bounded=image)  # (B, z) -> (B, *shape)
        self.D = MLPJudge(spec.shape, judge_widths, dropout=dropout)  # (B, *shape) -> (B,)
        self.augment = Augment(augment, kind=spec.kind)

    def turns(self):
        if self.smooth >= 1:
            raise ValueError(f"smooth must be below 1, not {self.smooth}")
        if self.smooth and self.loss not in ("minimax", "non-saturating"):
            raise ValueError(f"smooth is for the losses minimax and non-saturating, not {self.loss}")
        if not self.k and not self.generator_k:
            raise ValueError("k and generator_k are both 0: nobody would move")
        judge_lr = self.lr if self.judge_lr is None else self.judge_lr
        judge, generator = self.record(self.judge_optim or self.optim, judge_lr), self.record(self.optim, self.lr)
        turns = []
        if self.k:
            then = self.augment.following(self.images)
            turns.append(Turn("D", self.d_loss, repeat=self.k, then=then, optim=judge))
        if self.generator_k:
            turns.append(Turn("G", self.g_loss, repeat=self.generator_k, optim=generator))
        return turns

    def record(self, optim: str, lr: float) -> Optim:
        """An optimiser with what is left of a rate."""
        rate = self.left() * lr
        return SGD(rate) if optim == "sgd" else Adam(rate, betas=(self.beta1, 0.999))

    def left(self) -> float:
        """The part of the rates and of γ that is left by now."""
        return cosine(1.0, self.decay, self.images, self.decay_images)

    # Equation 1, the judge's side, halved as the tutorials do
    def d_loss(self, real):
        both = self.seen(torch.cat([real, self.sample(self.rows)]))
        scores = self.D(both).chunk(2)
        adv = minimax_judge(*scores, smooth=self.smooth) if self.smooth else LOSSES[self.loss].judge(*scores)
        terms = {"adv": adv / 2, **self.augment.terms(*scores)}
        if self.gamma:
            seen, drawn = both.chunk(2)
            r1, r2 = r1_r2(self.D, seen, drawn)
            weight = self.gamma * self.left() / 2
            terms |= {"r1": weight * r1, "r2": weight * r2}
        return terms

    def g_loss(self):
        return {"adv": LOSSES[self.loss].generator(None, self.D(self.seen(self.sample(self.rows))))}

    def seen(self, x):
        """What the judge is shown of x: augmented, with noise whose deviation falls linearly to nothing."""
        left = max(0.0, 1 - self.images / self.noise_images) if self.noise_images else 1.0
        return instance_noise(self.augment(x), self.instance_noise * left)

    def noise(self, n, truncation=None):  # (n, z_dim)
        if self.prior == "normal":
            return super().noise(n, truncation)
        if truncation is not None:
            raise OptionError("--truncation cuts a normal prior off; this gan draws uniform noise, which has ends.")
        return torch.rand(n, self.z_dim, device=self.device) * 2 - 1

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        return self.G(self.noise(n, truncation))


class UpsamplingGenerator(nn.Sequential):
    """z -> 256 channels at quarter size -> 3×3 convolutions of 128, 128, 64 with nearest upsampling -> image."""

    def __init__(self, z_dim: int, shape: tuple[int, ...]):
        channels, height, width = shape
        middle, small = (pyramid(height, width, base=1) + [(1, 1)] * 2)[1:3]
        super().__init__(
            nn.Linear(z_dim, 256 * small[0] * small[1]), nn.LeakyReLU(0.2), nn.Unflatten(1, (256, *small)),
            nn.Conv2d(256, 128, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Upsample(middle), nn.Conv2d(128, 128, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Upsample((height, width)), nn.Conv2d(128, 64, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(64, channels, 3, padding=1), nn.Tanh(),
        )  # fmt: skip


presets = {
    "mlp": dict(),
    "mlp-bn": dict(widths=(128, 256), judge_widths=(256, 128), norm=True, dropout=0.3, lr=1e-4, beta1=0.9),
    "conv": dict(net="conv"),
    "vector": dict(z_dim=8, widths=(128, 128), judge_widths=(128, 128), lr=1e-3),
    "stable": dict(
        z_dim=2, widths=(128, 128), judge_widths=(128, 128), gamma=0.1, lr=1.5e-3, decay=0.01, decay_images=8_000_000,
        batch=128, steps=64_000,
    ),
    "gan-lab": dict(z_dim=2, prior="uniform", widths=(10,), judge_widths=(9, 9), optim="sgd", lr=0.1, batch=150),
    "lab": dict(
        z_dim=2, widths=(32, 32, 32), judge_widths=(32, 32, 32), gamma=0.05, lr=3e-3, decay=0.01,
        decay_images=3_650_000, batch=128, steps=30_000,
    ),
    "tiny": dict(z_dim=4, widths=(8,), judge_widths=(8,), norm=True, dropout=0.1),
}  # fmt: skip
