"""InfoGAN: part of the noise is a code that must stay readable in the drawing, and so comes to mean something.

Chen, Duan, Houthooft, Schulman, Sutskever and Abbeel, 2016, arXiv:1606.03657. Takes images and vectors, no labels. The
code is one category and some numbers in [-1, 1]; the reader Q shares the judge's body. The judge has BatchNorm, as in
the paper, and sees real and drawn samples in batches of their own.

    elegan train infogan digits
    elegan sample RUN --category 3
    elegan sample RUN --category 3 --code=-1,0.5
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from elegan.augment import Augment
from elegan.errors import OptionError
from elegan.game import Adam, Game, Turn
from elegan.losses import non_saturating_generator, non_saturating_judge
from elegan.nn.conv import ConvGenerator, ConvJudge
from elegan.nn.init import dcgan_
from elegan.nn.mlp import MLPGenerator, MLPJudge, hidden


class InfoGAN(Game):
    recipe = dict(batch=64, steps=10_000, half_life_images=20_000)

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 62,            # noise dimensions besides the code
        categories: int = 10,       # values of the categorical code; 0 leaves it out
        codes: int = 2,             # continuous codes, uniform in [-1, 1]; 0 leaves them out
        width: int = 64,            # channels at half resolution; on vectors, half of the hidden units
        info: float = 1.0,          # weight λ of what Q must know of the category
        info_code: float = 0.1,     # weight λ of what Q must know of the continuous codes
        augment: str = "",          # of what the judge sees: light, diffaugment, ada, full, or names
        lr: float = 2e-4,           # learning rate of the judge and of Q
        g_lr: float = 1e-3,         # learning rate of the generator
    ):  # fmt: skip
        super().__init__(spec)
        if not categories and not codes:
            raise ValueError("categories and codes cannot both be 0: there would be no code to read")
        inputs = z_dim + categories + codes
        if spec.kind == "image":
            self.G = dcgan_(ConvGenerator(inputs, spec.shape, width))  # (B, z + code) -> (B, C, H, W)
            self.D = dcgan_(Judge(ConvJudge(spec.shape, width, norm=True)))  # (B, C, H, W) -> (B,), (B, features)
        else:
            self.G = MLPGenerator(inputs, [2 * width] * 2, spec.shape, bounded=False)  # (B, z + code) -> (B, D)
            self.D = Judge(MLPJudge(spec.shape, [2 * width] * 2))  # (B, D) -> (B,), (B, features)
        reader = hidden([self.D.head.in_features, 128], norm=True)
        self.Q = nn.Sequential(reader, nn.Linear(128, categories + 2 * codes))  # (B, features) -> logits, mean, log σ
        self.augment = Augment(augment, kind=spec.kind)

    # Equation 6 has Q move with G; its gradient is the same beside D, whose body it shares
    def turns(self):
        judge, generator = Adam(self.lr, betas=(0.5, 0.999)), Adam(self.g_lr, betas=(0.5, 0.999))
        return [
            Turn("D Q", self.d_loss, then=self.augment.following(self.images), optim=judge),
            Turn("G", self.g_loss, optim=generator),
        ]

    def d_loss(self, real):
        category, code = self.draw_code(self.rows)
        fake, features = self.D(self.augment(self.draw(self.noise(self.rows), category, code)))
        scores = self.D(self.augment(real))[0], fake
        unread = self.unread(features, category, code)
        return {"adv": non_saturating_judge(*scores), **unread, **self.augment.terms(*scores)}

    def g_loss(self):
        category, code = self.draw_code(self.rows)
        fake, features = self.D(self.augment(self.draw(self.noise(self.rows), category, code)))
        return {"adv": non_saturating_generator(fake), **self.unread(features, category, code)}

    # Equation 5: −λ L_I(G, Q) up to the entropy of the code, a constant
    def unread(self, features: Tensor, category: Tensor, code: Tensor) -> dict[str, Tensor]:
        """λ E −log Q(c | x) for the category, and for the continuous codes, Gaussian given x, summed over them."""
        logits, mean, log_std = self.Q(features).split([self.categories, self.codes, self.codes], 1)
        terms = {}
        if self.categories:
            terms["category"] = self.info * cross_entropy(logits, category)
        if self.codes:
            nats = ((code - mean) / log_std.exp()).square() / 2 + log_std + math.log(2 * math.pi) / 2  # (B, codes)
            terms["code"] = self.info_code * nats.sum(1).mean()
        return terms

    def draw_code(self, n: int) -> tuple[Tensor, Tensor]:
        """A category, (n,), and continuous codes, (n, codes), from their priors."""
        category = torch.randint(max(self.categories, 1), (n,), device=self.device)
        return category, torch.rand(n, self.codes, device=self.device) * 2 - 1

    def draw(self, z: Tensor, category: Tensor, code: Tensor) -> Tensor:
        hot = one_hot(category, self.categories).to(z) if self.categories else z[:, :0]
        return self.G(torch.cat([z, hot, code], 1))

    def sample(
        self,
        n,
        *,
        category: int | None = None,             # the category to hold; none draws all
        code: tuple[float, ...] | None = None,   # values to hold the first continuous codes at, as --code=-1,0.5
        truncation: float | None = None,         # cut the noise off at this many deviations
    ):  # fmt: skip
        drawn, codes = self.draw_code(n)
        if category is not None:
            if not 0 <= category < self.categories:
                raise OptionError(f"--category {category} is none: there are {self.categories}, numbered from 0.")
            drawn = torch.full_like(drawn, category)
        if code is not None:
            held = torch.as_tensor(code, dtype=codes.dtype, device=codes.device).view(-1)
            if len(held) > self.codes or not held.isfinite().all():
                raise OptionError(f"--code {code} holds no code: give up to {self.codes} numbers, from -1 to 1 or so.")
            codes[:, : len(held)] = held
        return self.draw(self.noise(n, truncation), drawn, codes)


class Judge(nn.Module):
    """A judge that shows the features behind its logit.  (B, *shape) -> (B,), (B, features)"""

    def __init__(self, judge: ConvJudge | MLPJudge):
        super().__init__()
        self.body, self.head = judge.body, judge.head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return self.head(features).squeeze(1), features


presets = {
    "digits": dict(width=32, steps=2_000),
    "vector": dict(z_dim=2, categories=8, codes=0, lr=1e-3),
    "tiny": dict(z_dim=4, categories=3, codes=2, width=4),
}
