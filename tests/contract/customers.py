"""The contract's hardest customers: eight games in the shape of papers that ask much of a training loop.

They are no good models, only small; each keeps what makes its paper hard, and leaves out what does not.
"""

from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elegan import losses
from elegan.augment import Augment, overfitting
from elegan.game import SGD, Adam, Game, Phase, Turn, cosine
from elegan.penalties import features_of, logits_of, r1


def layers(*sizes: int) -> nn.Sequential:
    """Linear layers with LeakyReLU between them."""
    linear = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    return nn.Sequential(*[part for layer in linear for part in (layer, nn.LeakyReLU(0.2))][:-1])


class Recurrent(nn.Module):
    """A series -> a GRU -> a series.  (B, T, D) -> (B, T, D')"""

    def __init__(self, features: int, hidden: int, out: int):
        super().__init__()
        self.gru = nn.GRU(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0])


class TimeGAN(Game):
    """Three phases with different turns, on series, and a judge that rests while it is ahead.

    Yoon, Jarrett and van der Schaar, 2019, "Time-series generative adversarial networks", NeurIPS.
    """

    def __init__(
        self,
        spec,
        *,
        hidden: int = 4,         # units of every player
        gate: float = 0.15,      # the judge moves only while its loss is greater
        each: int = 2,           # steps of the first two phases
        lr: float = 1e-3,        # learning rate of all players
    ):  # fmt: skip
        super().__init__(spec)
        self.length, features = spec.shape
        self.E = Recurrent(features, hidden, hidden)  # x -> h: (B, T, D) -> (B, T, hidden)
        self.R = Recurrent(hidden, hidden, features)  # h -> x
        self.S = Recurrent(hidden, hidden, hidden)  # h -> h one step later
        self.G = Recurrent(hidden, hidden, hidden)  # noise -> h
        self.D = Recurrent(hidden, hidden, 1)  # h -> (B, T, 1)

    @classmethod
    def accepts(cls, spec):
        return "" if spec.kind == "series" else "it needs series"

    def phases(self):
        adam = Adam(self.lr)
        return [
            Phase("autoencode", lambda: [Turn("E R", self.rebuild, optim=adam)], self.each),
            Phase("supervise", lambda: [Turn("S", self.foresee, optim=adam)], self.each),
            Phase("joint", self.joint),
        ]

    def joint(self):
        adam = Adam(self.lr)
        return [
            Turn("G S", self.g_loss, repeat=2, optim=adam),
            Turn("E R", self.rebuild, repeat=2, optim=adam),
            Turn("D", self.d_loss, optim=adam, when=lambda terms: terms["adv"] > self.gate),
        ]

    # Equation 5
    def rebuild(self, real):
        return {"rec": losses.l2(self.R(self.E(real)), real)}

    # Equation 7
    def foresee(self, real):
        h = self.E(real)
        return {"next": losses.l2(self.S(h)[:, :-1], h[:, 1:])}

    # Equation 6, the generator's side, and the moments of the code's extension
    def g_loss(self, real):
        fake = self.latent(self.rows)
        moments = losses.l1(self.R(fake).mean((0, 1)), real.mean((0, 1)))
        return {"adv": losses.non_saturating_generator(self.D(fake)), "moments": moments, **self.foresee(real)}

    def d_loss(self, real):
        return {"adv": losses.non_saturating_judge(self.D(self.E(real)), self.D(self.latent(self.rows)))}

    def latent(self, n):
        return self.S(self.G(self.randn(n, self.length, self.hidden)))

    def sample(self, n):
        return self.R(self.latent(n))


class Writer(nn.Module):
    """Tokens so far -> logits of the next.  (B, T) -> (B, T + 1, V)"""

    def __init__(self, words: int, width: int):
        super().__init__()
        self.embed = nn.Embedding(words + 1, width)  # the last stands before the first word
        self.body = Recurrent(width, width, words)

    def forward(self, tokens: Tensor) -> Tensor:
        begin = tokens.new_full((len(tokens), 1), self.embed.num_embeddings - 1)
        return self.body(self.embed(torch.cat([begin, tokens], 1)))


class Reader(nn.Module):
    """Tokens -> a logit.  (B, T) -> (B,)"""

    def __init__(self, words: int, width: int):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.body = Recurrent(width, width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.body(self.embed(tokens))[:, -1, 0]


class SeqGAN(Game):
    """Words cannot be differentiated: likelihood first, then a judge's verdict as the reward of REINFORCE.

    Yu, Zhang, Wang and Yu, 2016, "SeqGAN", arXiv:1609.05473.
    """

    def __init__(
        self,
        spec,
        *,
        width: int = 5,       # units of both players
        pretrain: int = 2,    # steps of maximum likelihood
        lr: float = 1e-2,     # learning rate of both players
    ):  # fmt: skip
        super().__init__(spec)
        self.G = Writer(spec.classes, width)  # (B, T) -> (B, T + 1, V)
        self.D = Reader(spec.classes, width)  # (B, T) -> (B,)
        self.register_buffer("baseline", torch.tensor(0.5))

    @classmethod
    def accepts(cls, spec):
        return "" if spec.kind == "token" else "it needs tokens"

    def phases(self):
        adam = Adam(self.lr, betas=(0.9, 0.999))
        first = Turn("G", self.likelihood, optim=adam)
        later = Turn("G", self.reinforce, optim=adam, then=self.remember)
        judge = Turn("D", self.d_loss, optim=adam)
        return [
            Phase("likelihood", lambda: [first, judge], self.pretrain),
            Phase("adversarial", lambda: [later, judge], fresh=True),
        ]

    def likelihood(self, real):
        return {"nll": -self.log_likelihood(real).mean()}

    # Equation 7, with the judge's verdict on the whole sentence as the reward of every word
    def reinforce(self):
        fake = self.sample(self.rows)
        reward = torch.sigmoid(self.D(fake))  # (B,), without a gradient: words have none
        return {"adv": -(self.log_likelihood(fake) * (reward - self.baseline)).mean(), "reward": reward.mean()}

    def remember(self, terms):
        self.baseline.lerp_(terms["reward"], 0.1)

    def d_loss(self, real):
        return {"adv": losses.non_saturating_judge(self.D(real), self.D(self.sample(self.rows)))}

    def log_likelihood(self, tokens):  # (B, T) -> (B,)
        logits = self.G(tokens[:, :-1])  # (B, T, V)
        return -F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none").sum(1)

    @torch.no_grad()
    def sample(self, n):
        tokens = torch.zeros(n, 0, dtype=torch.long, device=self.device)
        for _ in range(self.spec.shape[0]):
            chances = self.G(tokens)[:, -1].softmax(1)  # (B, V)
            tokens = torch.cat([tokens, torch.multinomial(chances, 1)], 1)
        return tokens


class PeriodJudge(nn.Module):
    """Every p-th sample beside each other.  (B, 1, T) -> logits (B, T), features"""

    def __init__(self, period: int, width: int):
        super().__init__()
        self.period = period
        self.body = nn.ModuleList([nn.Conv2d(1, width, (3, 1), (2, 1), (1, 0)), nn.Conv2d(width, 1, (3, 1), 1, (1, 0))])

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = F.pad(x, (0, -x.shape[2] % self.period)).unflatten(2, (-1, self.period))  # (B, 1, T / p, p)
        features = []
        for layer in self.body:
            x = layer(F.leaky_relu(x, 0.1) if features else x)
            features.append(x)
        return x.flatten(1), features


class ScaleJudge(nn.Module):
    """The signal and its halved self: one judge with two verdicts.  (B, 1, T) -> [logits], [features]"""

    def __init__(self, width: int):
        super().__init__()
        self.into, self.out = nn.Conv1d(1, width, 5, 2, 2), nn.Conv1d(width, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        features = [[F.leaky_relu(self.into(y), 0.1)] for y in (x, F.avg_pool1d(x, 2))]
        return [self.out(f[0]).flatten(1) for f in features], features


class HiFiGAN(Game):
    """Several judges in a list, each with several verdicts and features, least squares over all of them.

    Kong, Kim and Bae, 2020, "HiFi-GAN", arXiv:2010.05646. The field `mel` is derived from `real`.
    """

    tasks = ("vocoding",)

    def __init__(
        self,
        spec,
        *,
        width: int = 3,                      # channels of all players
        periods: tuple[int, ...] = (2, 3),   # of the period judges
        matching: float = 2.0,               # weight of feature matching
        mel: float = 45.0,                   # weight of the distance of spectra
        lr: float = 2e-4,                    # learning rate of all players
    ):  # fmt: skip
        super().__init__(spec)
        self.G = nn.Sequential(
            nn.ConvTranspose1d(MEL, width, 8, 4, 2), nn.LeakyReLU(0.1),
            nn.ConvTranspose1d(width, width, 4, 2, 1), nn.LeakyReLU(0.1), nn.Conv1d(width, 1, 7, 1, 3), nn.Tanh(),
        )  # fmt: skip
        self.D = nn.ModuleList([*[PeriodJudge(p, width) for p in periods], ScaleJudge(width)])

    @classmethod
    def accepts(cls, spec):
        return "" if spec.kind == "audio" else "it needs audio"

    def turns(self):
        adam = Adam(self.lr, betas=(0.8, 0.99), decay=0.01)
        return [Turn("D", self.d_loss, optim=adam), Turn("G", self.g_loss, optim=adam)]

    def judged(self, x):
        return [judge(x) for judge in self.D]

    # Equation 1
    def d_loss(self, real, mel):
        fake = self.G(mel).detach()
        return {"adv": losses.least_squares_judge(logits_of(self.judged(real)), logits_of(self.judged(fake)))}

    # Equations 2 to 5
    def g_loss(self, real, mel):
        fake = self.G(mel)
        ours, theirs = self.judged(real), self.judged(fake)
        return {
            "adv": losses.least_squares_generator(logits_of(theirs)),
            "features": self.matching * losses.feature_matching(features_of(ours), features_of(theirs)),
            "mel": self.mel * losses.l1(spectrum(fake), mel),
        }

    def vocode(self, mel):
        return self.G(mel)


MEL = 5  # bins of a spectrum


def spectrum(x: Tensor) -> Tensor:  # (B, 1, T) -> (B, MEL, T / 8)
    """The logarithm of the magnitudes of short windows."""
    return torch.fft.rfft(x.squeeze(1).unfold(1, 8, 8), dim=2).abs().clamp_min(1e-3).log().transpose(1, 2)


class StyleGAN2ADA(Game):
    """A lazy penalty every fourth step, and an augmentation whose strength follows the judge's overfitting.

    Karras, Aittala, Hellsten, Laine, Lehtinen and Aila, 2020, arXiv:2006.06676. The mapping is a player of its own.
    """

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 4,          # noise dimensions
        width: int = 8,          # units of every player
        gamma: float = 1.0,      # weight γ of R1
        every: int = 4,          # steps between penalties
        target: float = 0.6,     # mean sign of real logits to hold
        strength: float = 0.0,   # of the augmentation at first
        speed: int = 64,         # images in which the strength goes from 0 to 1
        lr: float = 2e-3,        # learning rate of all players
    ):  # fmt: skip
        super().__init__(spec)
        self.M = layers(z_dim, width, width)  # z -> w
        self.G = nn.Sequential(layers(width, width, prod(spec.shape)), nn.Tanh(), nn.Unflatten(1, spec.shape))
        self.D = nn.Sequential(nn.Conv2d(spec.shape[0], 4, 4, 4), nn.LeakyReLU(0.2), nn.Flatten(), layers(36, 1))
        self.augment = Augment("flip,translate", strength, over_images=speed)

    @classmethod
    def accepts(cls, spec):
        return "" if spec.kind == "image" and spec.shape[1:] == (12, 12) else "it needs images of 12 × 12"

    def turns(self):
        adam = Adam(self.lr, betas=(0.0, 0.99))
        return [
            Turn("D", self.d_loss, optim=adam, then=self.adapt),
            Turn("D", self.r1_loss, every=self.every, optim=adam),
            Turn("M G", self.g_loss, optim=adam),
        ]

    def d_loss(self, real):
        logits = self.D(self.augment(real)).squeeze(1)
        fake = self.D(self.augment(self.sample(self.rows))).squeeze(1)
        return {"adv": losses.non_saturating_judge(logits, fake), "sign": overfitting(logits)}

    def r1_loss(self, real):
        return {"r1": self.gamma / 2 * r1(lambda x: self.D(self.augment(x)), real)}

    def g_loss(self):
        return {"adv": losses.non_saturating_generator(self.D(self.augment(self.sample(self.rows))))}

    # Section 3.1
    def adapt(self, terms):
        self.augment.adapt(terms["sign"], self.rows, target=self.target)

    def sample(self, n):
        return self.G(self.M(self.noise(n)))


class Growing(nn.Module):
    """Levels of 3, 6 and 12 pixels, all there from the beginning; the buffer `grown` says how far they are shown."""

    grown: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("grown", torch.zeros(()))

    def shares(self) -> list[Tensor]:
        """How much each level counts: the last two of those grown share one whole."""
        return [(1 - (self.grown - level).abs()).clamp(0, 1) for level in range(LEVELS)]


LEVELS = 3


class GrowingGenerator(Growing):  # (B, z) -> (B, C, 12, 12)
    def __init__(self, z_dim: int, channels: int, width: int):
        super().__init__()
        self.first = nn.Linear(z_dim, width * 9)
        self.blocks = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(LEVELS)])
        self.to_image = nn.ModuleList([nn.Conv2d(width, channels, 1) for _ in range(LEVELS)])

    def forward(self, z: Tensor) -> Tensor:
        x, image = self.first(z).unflatten(1, (-1, 3, 3)), torch.zeros(())
        for level, share in enumerate(self.shares()):
            x = F.leaky_relu(self.blocks[level](x if level == 0 else F.interpolate(x, scale_factor=2)), 0.2)
            image = image + share * F.interpolate(self.to_image[level](x), (12, 12))
        return image


class GrowingJudge(Growing):  # (B, C, 12, 12) -> (B,)
    def __init__(self, channels: int, width: int):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(LEVELS)])
        self.from_image = nn.ModuleList([nn.Conv2d(channels, width, 1) for _ in range(LEVELS)])
        self.last = nn.Linear(width * 9, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.zeros(())
        for level in reversed(range(LEVELS)):
            x = x + self.shares()[level] * self.from_image[level](F.adaptive_avg_pool2d(image, 3 * 2**level))
            x = F.leaky_relu(self.blocks[level](x), 0.2)
            x = F.avg_pool2d(x, 2) if level else x
        return self.last(x.flatten(1)).squeeze(1)


class ProGAN(Game):
    """Networks that grow: the gate is a function of the images seen, so a run may stop in the middle of a fade.

    Karras, Aila, Laine and Lehtinen, 2017, "Progressive growing of GANs", arXiv:1710.10196.
    """

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 4,      # noise dimensions
        width: int = 4,      # channels at every level
        fade: int = 20,      # images over which a level fades in
        lr: float = 1e-3,    # learning rate of both players
    ):  # fmt: skip
        super().__init__(spec)
        self.G = GrowingGenerator(z_dim, spec.shape[0], width)
        self.D = GrowingJudge(spec.shape[0], width)

    @classmethod
    def accepts(cls, spec):
        return "" if spec.kind == "image" and spec.shape[1:] == (12, 12) else "it needs images of 12 × 12"

    def before(self):
        for player in (self.G, self.D):
            player.grown.fill_(min(self.images / self.fade, LEVELS - 1))

    def turns(self):
        adam = Adam(cosine(self.lr, self.lr / 2, self.images, 100), betas=(0.0, 0.99))
        return [Turn("D", self.d_loss, optim=adam), Turn("G", self.g_loss, optim=adam)]

    def d_loss(self, real):
        fake = self.sample(self.rows)
        return {"adv": losses.wasserstein_judge(self.D(real), self.D(fake)), "r1": r1(self.D, real)}

    def g_loss(self):
        return {"adv": losses.wasserstein_generator(self.D(self.sample(self.rows)))}

    def sample(self, n):
        return self.G(self.noise(n))


class CycleGAN(Game):
    """The judges see what the generators have just drawn, or drew some time ago: published tensors, and a pool.

    Zhu, Park, Isola and Efros, 2017, arXiv:1703.10593; the pool from Shrivastava et al., 2016, arXiv:1612.07828.
    """

    tasks = ("translation",)

    def __init__(
        self,
        spec,
        *,
        width: int = 4,         # channels
        pool: int = 6,          # drawings kept
        cycle: float = 10.0,    # weight of the way there and back
        lr: float = 2e-4,       # learning rate of all players
    ):  # fmt: skip
        super().__init__(spec)
        self.G, self.F = translator(width), translator(width)  # a -> b and b -> a
        self.DA = nn.Conv2d(3, 1, 4, 2)  # (B, C, H, W) -> (B, 1, h, w)
        self.register_buffer("pool_a", torch.zeros(pool, *spec["a"].shape))
        self.register_buffer("kept", torch.zeros((), dtype=torch.long))

    @classmethod
    def accepts(cls, spec):
        return "" if {"a", "b"} <= set(spec) else "it needs fields a and b"

    def turns(self):
        adam = Adam(self.lr)
        return [Turn("G F", self.g_loss, optim=adam), Turn("DA", self.d_loss, optim=adam)]

    def g_loss(self, a, b):
        fake_a = self.F(b)
        back = losses.l1(self.G(fake_a), b) + losses.l1(self.F(self.G(a)), a)
        adv = losses.least_squares_generator(self.DA(fake_a))
        return {"adv": adv, "cycle": self.cycle * back, "fake_a": fake_a}

    def d_loss(self, a, fake_a):
        return {"adv": losses.least_squares_judge(self.DA(a), self.DA(self.pooled(fake_a)))}

    def pooled(self, fresh):
        """Half of the drawings for earlier ones, and the new ones into the pool, round and round."""
        places = (self.kept + torch.arange(len(fresh))) % len(self.pool_a)
        older = self.pool_a[places]
        known = (torch.rand(len(fresh)) < 0.5) & (self.kept >= len(self.pool_a))
        self.pool_a.index_copy_(0, places, fresh)
        self.kept += len(fresh)
        return torch.where(known[:, None, None, None], older, fresh)

    def translate(self, x, *, direction: str = "ab"):
        return (self.G if direction == "ab" else self.F)(x)


def translator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, 3, 3, padding=1), nn.Tanh()
    )


class AdvGAN(Game):
    """A generator of perturbations against a classifier that is there from the beginning and never moves.

    Xiao, Li, Zhu, He, Liu and Song, 2018, arXiv:1801.02610.
    """

    tasks = ("attack",)

    def __init__(
        self,
        spec,
        *,
        width: int = 4,            # channels
        bound: float = 0.3,        # largest change of a pixel
        attack: float = 1.0,       # weight of the classifier's mistake
        momentum: float = 0.9,     # of the judge's SGD
        lr: float = 1e-2,          # learning rate of both players
    ):  # fmt: skip
        super().__init__(spec)
        channels = spec.shape[0]
        self.G = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2),
            nn.Conv2d(width, channels, 3, padding=1), nn.Tanh(),
        )  # fmt: skip
        self.D = nn.Sequential(
            nn.Conv2d(channels, width, 4, 4), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(9 * width, 1)
        )
        self.C = nn.Sequential(
            nn.Conv2d(channels, width, 4, 4), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.5),
            nn.Flatten(), nn.Linear(9 * width, spec.classes),
        )  # fmt: skip

    @classmethod
    def accepts(cls, spec):
        fits = spec.kind == "image" and spec.shape[1:] == (12, 12) and "label" in spec
        return "" if fits else "it needs images of 12 × 12 with labels"

    def turns(self):
        sgd = SGD(self.lr, momentum=self.momentum)
        return [Turn("D", self.d_loss, optim=sgd), Turn("G", self.g_loss, optim=sgd, clip=1.0)]

    # Equation 1
    def d_loss(self, real):
        return {"adv": losses.least_squares_judge(self.D(real), self.D(self.attacked(real)))}

    # Equations 2 and 3, with Carlini and Wagner's margin
    def g_loss(self, real, label):
        fake = self.attacked(real)
        logits = self.C(fake)  # (B, classes)
        own = F.one_hot(label, logits.shape[1]).bool()
        margin = logits[own] - logits.masked_fill(own, -1e9).amax(1)
        return {
            "adv": losses.least_squares_generator(self.D(fake)),
            "attack": self.attack * margin.clamp_min(-1).mean(),
        }

    def attacked(self, x):
        return (x + self.bound * self.G(x)).clamp(-1, 1)


class BigGAN(Game):
    """A batch too great for the machine, in shards: their gradients add up to that of the whole.

    Brock, Donahue and Simonyan, 2018, arXiv:1809.11096. The noise is a derived field, so that shards of a batch see the
    rows of the whole; the generator publishes its drawings, and the judge keeps some of them.
    """

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 4,            # noise dimensions
        width: int = 8,            # units of both players
        ortho: float = 1e-4,       # weight of the orthogonal regularisation
        lr: float = 1e-3,          # learning rate of both players
    ):  # fmt: skip
        super().__init__(spec)
        self.G = LabelledMLP(z_dim, spec.classes, width, spec.shape)  # (B, z), (B,) -> (B, C, H, W)
        self.D = nn.Sequential(nn.Flatten(), layers(prod(spec.shape), width, 1))  # (B, C, H, W) -> (B, 1)
        self.register_buffer("pool", torch.zeros(4, *spec.shape))

    @classmethod
    def accepts(cls, spec):
        return "" if spec.kind == "image" and "label" in spec else "it needs images with labels"

    def turns(self):
        adam = Adam(self.lr, betas=(0.0, 0.999))
        return [Turn("G", self.g_loss, optim=adam), Turn("D", self.d_loss, optim=adam)]

    # Equation 3 beside the hinge loss
    def g_loss(self, z, label):
        fake = self.G(z, label)
        W = self.G.into.weight
        gram = W.T @ W
        ortho = self.ortho * (gram - gram.diagonal().diag()).square().sum()
        return {"adv": losses.hinge_generator(self.D(fake)), "ortho": ortho, "fake": fake}

    def d_loss(self, real, fake):
        self.pool.copy_(torch.cat([fake, self.pool])[: len(self.pool)])
        return {"adv": losses.hinge_judge(self.D(real), self.D(fake))}

    def sample(self, n, *, label: int | None = None):  # the class to draw; none draws all
        return self.G(self.noise(n), self.labels(n, label))


class LabelledMLP(nn.Module):
    def __init__(self, z_dim: int, classes: int, width: int, shape: tuple[int, ...]):
        super().__init__()
        self.embed = nn.Embedding(classes, width)
        self.into = nn.Linear(z_dim, width)
        self.out = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(width, prod(shape)), nn.Tanh(), nn.Unflatten(1, shape))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.out(self.into(z) + self.embed(label))
