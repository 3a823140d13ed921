"""Deep convolutional GAN: strided convolutions, BatchNorm, and the settings that made GANs train.

Radford, Metz and Chintala, 2015, arXiv:1511.06434. Takes images of any size. The preset `digits` adds the relativistic
loss and zero-centred penalties of R3GAN (2501.05441); `tutorial` is the net of the well-known tutorials. Options are
one-sided label smoothing (Salimans et al., 2016, 1606.03498, section 3.4), noise on what the judge sees (Sønderby et
al., 2016, 1610.04490) and two rates (Heusel et al., 2017, 1706.08500).

    elegan train dcgan digits
    elegan train dcgan photos/ --size 64 --width 64
"""

from typing import Literal

from elegan.augment import Augment, instance_noise
from elegan.game import Adam, Game, Turn
from elegan.losses import LOSSES, minimax_judge
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.init import dcgan_
from elegan.penalties import r1_r2


class DCGAN(Game):
    recipe = dict(batch=64, steps=10_000, half_life_images=20_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 100,                # noise dimensions
        width: int = 64,                 # channels at half resolution, doubled at each coarser size
        base: int = 4,                   # the coarsest size has at least so many pixels a side
        kernel: Literal[4, 5] = 4,       # side of the convolution kernels
        stem: bool = False,              # one more convolution at the generator's coarsest size
        slope: float = 0.0,              # of the generator's LeakyReLU; 0 is ReLU
        judge_norm: bool = True,         # BatchNorm in the judge
        dropout: float = 0.0,            # share of judge features dropped
        loss: Literal["minimax", "non-saturating", "least-squares", "hinge", "relativistic-pairing",
                      "relativistic-average"] = "non-saturating",  # adversarial loss
        gamma: float = 0.0,              # weight γ of the penalties γ/2 (R1 + R2); 0 leaves them out
        penalised: float = 0.25,         # share of the batch on which the penalties are taken
        smooth: float = 0.0,             # the judge is to say 1 − smooth of real samples
        instance_noise: float = 0.0,     # deviation of noise on what the judge sees, at first
        noise_images: int = 500_000,     # images over which that noise falls to nothing; 0 keeps it
        augment: str = "",               # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 2e-4,                # learning rate
        judge_lr: float | None = None,   # the judge's learning rate; none is lr
        beta1: float = 0.5,              # first moment of Adam
    ):  # fmt: skip
        super().__init__(spec)
        shape = spec.shape
        # (B, z) -> (B, C, H, W), and (B, C, H, W) -> (B,)
        self.G = dcgan_(ConvGenerator(z_dim, shape, width, base=base, kernel=kernel, stem=stem, slope=slope))
        self.D = dcgan_(ConvJudge(shape, width, base=base, kernel=kernel, norm=judge_norm, dropout=dropout))
        self.augment = Augment(augment, kind=spec.kind)

    @classmethod
    def accepts(cls, spec):
        return f"it needs images, not {spec.kind}s" if spec.kind not in ("", "image") else super().accepts(spec)

    def turns(self):
        if self.smooth >= 1:
            raise ValueError(f"smooth must be below 1, not {self.smooth}")
        if self.smooth and self.loss not in ("minimax", "non-saturating"):
            raise ValueError(f"smooth is for the losses minimax and non-saturating, not {self.loss}")
        judge_lr = self.lr if self.judge_lr is None else self.judge_lr
        judge, generator = (Adam(lr, betas=(self.beta1, 0.999)) for lr in (judge_lr, self.lr))
        return [
            Turn("D", self.d_loss, then=self.augment.following(self.images), optim=judge),
            Turn("G", self.g_loss, optim=generator),
        ]

    def d_loss(self, real):
        real, fake = self.seen(real), self.seen(self.sample(self.rows))
        scores = self.D(real), self.D(fake)
        adv = minimax_judge(*scores, smooth=self.smooth) if self.smooth else LOSSES[self.loss].judge(*scores)
        terms = {"adv": adv, **self.augment.terms(*scores)}
        if self.gamma:
            r1, r2 = r1_r2(self.D, real, fake, self.penalised)
            terms |= {"r1": self.gamma / 2 * r1, "r2": self.gamma / 2 * r2}
        return terms

    def g_loss(self, real):
        loss = LOSSES[self.loss]
        fake = self.D(self.seen(self.sample(self.rows)))
        return {"adv": loss.generator(self.D(self.seen(real)) if loss.relativistic else None, fake)}

    def seen(self, x):
        """What the judge is shown of x: augmented, with noise whose deviation falls linearly to nothing."""
        left = max(0.0, 1 - self.images / self.noise_images) if self.noise_images else 1.0
        return instance_noise(self.augment(x), self.instance_noise * left)

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        return self.G(self.noise(n, truncation))


presets = {
    "digits": dict(
        width=32,
        judge_norm=False,
        loss="relativistic-pairing",
        gamma=0.3,
        lr=2e-3,
        beta1=0.0,
        steps=3_000,
        batch=64,
    ),
    "fashion": dict(
        width=32,
        judge_norm=False,
        loss="relativistic-pairing",
        gamma=0.3,
        lr=2e-3,
        beta1=0.0,
        steps=3_000,
        batch=64,
    ),
    "tutorial": dict(base=7, kernel=5, stem=True, slope=0.2, judge_norm=False, dropout=0.3, lr=1e-4, beta1=0.9),
    "tiny": dict(z_dim=4, width=4, gamma=0.5, dropout=0.1),
}
