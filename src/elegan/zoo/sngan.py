"""Spectrally normalised GAN: every layer of the judge is divided by its largest singular value, and nothing more.

Miyato, Kataoka, Koyama and Yoshida, 2018, arXiv:1802.05957. Takes images of any size, by the paper's residual networks,
and vectors, by fully connected ones. Both rates fall linearly to zero; `judge_lr` makes them two (Heusel et al., 2017,
1706.08500).

    elegan train sngan digits
"""

import torch
from torch import Tensor, nn

from elegan.augment import Augment
from elegan.game import Adam, Game, Turn
from elegan.losses import hinge_generator, hinge_judge
from elegan.nn.conv import pyramid
from elegan.nn.mlp import MLPGenerator, MLPJudge
from elegan.penalties import spectral_norm


class SNGAN(Game):
    recipe = dict(batch=64, steps=100_000, half_life_images=50_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 128,                  # noise dimensions
        width: int = 256,                  # channels of the generator; on vectors, its hidden units
        judge_width: int = 128,            # channels of the judge; on vectors, its hidden units
        n_critic: int = 5,                 # judge moves per generator move
        augment: str = "",                 # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 2e-4,                  # learning rate at first
        judge_lr: float | None = None,     # the judge's learning rate at first; none is lr
        decay_images: int = 32_000_000,    # images over which both rates fall to zero; 0 lets them stay
    ):  # fmt: skip
        super().__init__(spec)
        if spec.kind == "image":
            self.G = Generator(z_dim, spec.shape, width)  # (B, z) -> (B, C, H, W)
            self.D = spectral_norm(Judge(spec.shape, judge_width))  # (B, C, H, W) -> (B,)
        else:
            self.G = MLPGenerator(z_dim, [width] * 3, spec.shape, bounded=False)  # (B, z) -> (B, D)
            self.D = spectral_norm(MLPJudge(spec.shape, [judge_width] * 3))  # (B, D) -> (B,)
        self.augment = Augment(augment, kind=spec.kind)

    def turns(self):
        judge_lr = self.lr if self.judge_lr is None else self.judge_lr
        left = max(0.0, 1 - self.images / self.decay_images) if self.decay_images else 1.0
        judge, generator = (Adam(lr * left, betas=(0.0, 0.9)) for lr in (judge_lr, self.lr))
        return [
            Turn("D", self.d_loss, repeat=self.n_critic, then=self.augment.following(self.images), optim=judge),
            Turn("G", self.g_loss, optim=generator),
        ]

    # Equation 16, by one pass: one power iteration a move
    def d_loss(self, real):
        scores = self.D(self.augment(torch.cat([real, self.sample(self.rows)]))).chunk(2)
        return {"adv": hinge_judge(*scores), **self.augment.terms(*scores)}

    # Equation 17
    def g_loss(self):
        return {"adv": hinge_generator(self.D(self.augment(self.sample(self.rows))))}

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        return self.G(self.noise(n, truncation))


# Table 4 (a), for 32×32: the coarsest size is 4×4, or what halving an image comes to
class Generator(nn.Module):
    """(B, z) -> (B, C, H, W) in [−1, 1]"""

    def __init__(self, z_dim: int, shape: tuple[int, ...], width: int):
        super().__init__()
        channels, height, across = shape
        coarsest, *finer = pyramid(height, across)[::-1]
        unflatten = nn.Unflatten(1, (width, *coarsest))
        self.first = nn.Sequential(nn.Linear(z_dim, width * coarsest[0] * coarsest[1]), unflatten)
        self.blocks = nn.Sequential(*[UpBlock(width, size) for size in finer])
        last = nn.Conv2d(width, channels, 3, padding=1)
        self.image = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), last, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.image(self.blocks(self.first(z)))


# Table 4 (b), for 32×32: halved to 8×8, or as near to that as an image comes, then two blocks more
class Judge(nn.Module):
    """(B, C, H, W) -> (B,)"""

    def __init__(self, shape: tuple[int, ...], width: int):
        super().__init__()
        channels, height, across = shape
        halvings = len(pyramid(height, across, base=7)) - 1
        blocks = [Block(channels, width, down=halvings > 0, first=True)]
        blocks += [Block(width, width, down=True) for _ in range(halvings - 1)]
        blocks += [Block(width, width), Block(width, width)]
        self.blocks = nn.Sequential(*blocks, nn.ReLU())
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).sum((2, 3))).squeeze(1)  # global sum pooling


# Appendix B.4. Resampling and a 1×1 convolution commute: on the shortcuts, here and below, the cheap order is taken
class UpBlock(nn.Module):
    """(B, width, h, w) -> (B, width, *size), by nearest neighbours"""

    def __init__(self, width: int, size: tuple[int, int]):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Upsample(size), nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip
        self.skip = nn.Sequential(nn.Conv2d(width, width, 1), nn.Upsample(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


# Appendix B.4, without the BatchNorm
class Block(nn.Module):
    """(B, into, h, w) -> (B, width, h, w), or half of h and w, rounded up; the first block has no ReLU before it"""

    def __init__(self, into: int, width: int, *, down: bool = False, first: bool = False):
        super().__init__()
        pool = [nn.AvgPool2d(2, ceil_mode=True)] if down else []
        before = [] if first else [nn.ReLU()]
        conv, again = nn.Conv2d(into, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.body = nn.Sequential(*before, conv, nn.ReLU(), again, *pool)
        self.skip = nn.Sequential(*pool, *([nn.Conv2d(into, width, 1)] if down or into != width else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


presets = {
    "digits": dict(width=32, judge_width=16, n_critic=1, lr=1e-3, decay_images=200_000, steps=1_000),
    "vector": dict(z_dim=8, width=128, n_critic=2, lr=1e-3, decay_images=0, batch=256),
    "tiny": dict(z_dim=4, width=4, judge_width=4, n_critic=2, decay_images=1_000),
}
