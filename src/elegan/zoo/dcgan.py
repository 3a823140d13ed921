"""Deep convolutional GAN: strided convolutions, BatchNorm, and the settings that made GANs train.

Radford, Metz and Chintala, 2015, arXiv:1511.06434. Takes images of any size. The preset `digits` adds the relativistic
loss and zero-centred penalties of R3GAN (2501.05441); `tutorial` is the net of the well-known tutorials.

    elegan train dcgan digits
    elegan train dcgan photos/ --size 64 --width 64
"""

from typing import Literal

from elegan.game import Adam, Game, Turn
from elegan.losses import LOSSES
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.init import dcgan_
from elegan.penalties import r1_r2


class DCGAN(Game):
    recipe = dict(batch=64, steps=10_000, half_life_images=20_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 100,            # noise dimensions
        width: int = 64,             # channels at half resolution, doubled at each coarser size
        base: int = 4,               # the coarsest size has at least so many pixels a side
        kernel: Literal[4, 5] = 4,   # side of the convolution kernels
        stem: bool = False,          # one more convolution at the generator's coarsest size
        slope: float = 0.0,          # of the generator's LeakyReLU; 0 is ReLU
        judge_norm: bool = True,     # BatchNorm in the judge
        dropout: float = 0.0,        # share of judge features dropped
        loss: Literal["minimax", "non-saturating", "least-squares", "hinge", "relativistic-pairing",
                      "relativistic-average"] = "non-saturating",  # adversarial loss
        gamma: float = 0.0,          # weight γ of the penalties γ/2 (R1 + R2); 0 leaves them out
        penalised: float = 0.25,     # share of the batch on which the penalties are taken
        lr: float = 2e-4,            # learning rate of both players
        beta1: float = 0.5,          # first moment of Adam
    ):  # fmt: skip
        super().__init__(spec)
        shape = spec.shape
        # (B, z) -> (B, C, H, W), and (B, C, H, W) -> (B,)
        self.G = dcgan_(ConvGenerator(z_dim, shape, width, base=base, kernel=kernel, stem=stem, slope=slope))
        self.D = dcgan_(ConvJudge(shape, width, base=base, kernel=kernel, norm=judge_norm, dropout=dropout))

    @classmethod
    def accepts(cls, spec):
        return super().accepts(spec) or ("" if spec.kind == "image" else f"it needs images, not {spec.kind}s")

    def turns(self):
        adam = Adam(self.lr, betas=(self.beta1, 0.999))
        return [Turn("D", self.d_loss, optim=adam), Turn("G", self.g_loss, optim=adam)]

    def d_loss(self, real):
        fake = self.sample(self.rows)
        terms = {"adv": LOSSES[self.loss].judge(self.D(real), self.D(fake))}
        if self.gamma:
            r1, r2 = r1_r2(self.D, real, fake, self.penalised)
            terms |= {"r1": self.gamma / 2 * r1, "r2": self.gamma / 2 * r2}
        return terms

    def g_loss(self, real):
        fake = self.D(self.sample(self.rows))
        return {"adv": LOSSES[self.loss].generator(self.D(real) if LOSSES[self.loss].relativistic else None, fake)}

    def sample(self, n, *, truncation: float | None = None):  # cut the noise off at this many deviations
        return self.G(self.noise(n, truncation))


presets = {
    "digits": dict(width=32, judge_norm=False, loss="relativistic-pairing", gamma=0.5, lr=1e-3, steps=3_000, batch=64),
    "tutorial": dict(base=7, kernel=5, stem=True, slope=0.2, judge_norm=False, dropout=0.3, lr=1e-4, beta1=0.9),
    "tiny": dict(z_dim=4, width=4, gamma=0.5, dropout=0.1),
}
