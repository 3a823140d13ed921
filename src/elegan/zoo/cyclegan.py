"""CycleGAN: translate between two sets of images without pairs, by going there and back again.

Zhu, Park, Isola and Efros, 2017, arXiv:1703.10593. Takes data with two fields, `a` and `b`. Two generators, G: a -> b
and F: b -> a, two judges, least squares, and a pool of earlier drawings that keeps the judges from forgetting.

    elegan train cyclegan horse2zebra/ --size 64 --preset small
"""

import torch
from torch import Tensor, nn

from elegan.augment import Augment
from elegan.game import Adam, Game, Turn
from elegan.losses import l1, least_squares_generator, least_squares_judge
from elegan.nn.init import dcgan_


class CycleGAN(Game):
    tasks = ("translation",)
    recipe = dict(batch=1, steps=100_000, half_life_images=0)

    def __init__(
        self,
        spec,
        *,
        width: int = 64,           # channels at full resolution
        blocks: int = 9,           # residual blocks of a generator
        layers: int = 3,           # strided layers of a judge; 3 sees patches of 70 × 70
        pool: int = 50,            # drawings kept to show the judges again; 0 shows only the newest
        cycle: float = 10.0,       # weight of the cycle loss
        identity: float = 0.5,     # weight of the identity loss, as a share of `cycle`
        augment: str = "",         # of what the judges see: light, diffaugment, ada, full, or names
        lr: float = 2e-4,          # learning rate of all players
        decay_from: int = 0,       # images after which the rate falls linearly; 0 never
        decay_over: int = 100_000,  # images over which it falls to zero
    ):  # fmt: skip
        super().__init__(spec)
        a, b = spec["a"].shape, spec["b"].shape
        least = max(3 * 2**layers, 5)  # or a judge, or a translator at a quarter of the size, has nothing left to see
        if min(a[1:]) < least:
            raise ValueError(f"a judge of layers={layers} needs images of {least} pixels a side or more")
        self.G = dcgan_(Translator(a[0], b[0], width, blocks))  # a -> b
        self.F = dcgan_(Translator(b[0], a[0], width, blocks))  # b -> a
        self.DA = dcgan_(PatchJudge(a[0], width, layers))  # (B, C, H, W) -> (B, 1, h, w)
        self.DB = dcgan_(PatchJudge(b[0], width, layers))
        self.augment = Augment(augment)
        for name, shape in {"a": a, "b": b}.items():
            self.register_buffer(f"pool_{name}", torch.zeros(pool, *shape))
            self.register_buffer(f"filled_{name}", torch.zeros((), dtype=torch.long))

    @classmethod
    def accepts(cls, spec):
        if not {"a", "b"} <= set(spec):
            return f"it needs two fields, a and b; the data has {', '.join(spec)}"
        kinds = {spec["a"].kind, spec["b"].kind}
        if kinds != {"image"}:
            return f"it needs images on both sides, not {', '.join(sorted(kinds))}"
        same = spec["a"].shape[1:] == spec["b"].shape[1:] and spec["a"].shape[0] == spec["b"].shape[0]
        return "" if same else f"both sides need one shape, not {spec['a'].shape} and {spec['b'].shape}"

    def turns(self):
        falling = max(0.0, 1 - max(self.images - self.decay_from, 0) / self.decay_over) if self.decay_from else 1.0
        adam = Adam(self.lr * falling, betas=(0.5, 0.999))
        return [
            Turn("G F", self.g_loss, optim=adam),
            Turn("DA DB", self.d_loss, then=self.augment.following(self.images), optim=adam),
        ]

    # Equations 1 to 3, and the identity loss of section 5.2
    def g_loss(self, a, b):
        fake_b, fake_a = self.G(a), self.F(b)
        judged_b, judged_a = self.DB(self.augment(fake_b)), self.DA(self.augment(fake_a))
        terms = {
            "adv": least_squares_generator(judged_b) + least_squares_generator(judged_a),
            "cycle": self.cycle * (l1(self.F(fake_b), a) + l1(self.G(fake_a), b)),
        }
        if self.identity:
            terms["identity"] = self.cycle * self.identity * (l1(self.G(b), b) + l1(self.F(a), a))
        return {**terms, "fake_a": fake_a, "fake_b": fake_b}

    def d_loss(self, a, b, fake_a, fake_b):
        shown = a, b, self.pooled("a", fake_a), self.pooled("b", fake_b)
        a, b, old_a, old_b = map(self.augment, shown)
        on_a, on_b = (self.DA(a), self.DA(old_a)), (self.DB(b), self.DB(old_b))
        both = map(torch.cat, zip(on_a, on_b, strict=True))  # one strength for both domains
        return {"a": least_squares_judge(*on_a), "b": least_squares_judge(*on_b), **self.augment.terms(*both)}

    def pooled(self, name: str, fresh: Tensor) -> Tensor:
        """Swap half of the fresh drawings, chosen at random, for earlier ones (Shrivastava et al., 1612.07828)."""
        pool, filled = getattr(self, f"pool_{name}"), getattr(self, f"filled_{name}")
        if not len(pool):
            return fresh
        shown = fresh.clone()
        for k in range(len(fresh)):  # all on the device: no value of the pool is read by the host
            full = filled >= len(pool)
            slot = torch.where(full, torch.randint(len(pool), (), device=fresh.device), filled)
            swap = full & (torch.rand((), device=fresh.device) < 0.5)
            slot = slot.clamp(max=len(pool) - 1).view(1)
            shown[k] = torch.where(swap, pool.index_select(0, slot)[0], fresh[k])
            keep = swap | ~full
            pool.index_copy_(0, slot, torch.where(keep, fresh[k], pool.index_select(0, slot)[0])[None])
            filled.add_((~full).long())
        return shown

    def translate(self, x: Tensor, *, direction: str = "ab") -> Tensor:
        """Images of one side -> the other side.  (B, C, H, W) -> (B, C, H, W); direction: `ab` or `ba`."""
        return (self.G if direction == "ab" else self.F)(x)


class Residual(nn.Sequential):
    def __init__(self, width: int):
        super().__init__(
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"), nn.InstanceNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"), nn.InstanceNorm2d(width),
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        return input + super().forward(input)


class Translator(nn.Module):
    """Image -> 7×7 -> down twice -> residual blocks -> up twice -> 7×7 -> image of the same size (appendix 7.2)."""

    def __init__(self, channels: int, into: int, width: int, blocks: int):
        super().__init__()

        def layer(conv: nn.Module, features: int) -> list[nn.Module]:
            return [conv, nn.InstanceNorm2d(features), nn.ReLU()]

        w = width
        self.body = nn.Sequential(
            *layer(nn.Conv2d(channels, w, 7, padding=3, padding_mode="reflect"), w),
            *layer(nn.Conv2d(w, 2 * w, 3, 2, 1), 2 * w),
            *layer(nn.Conv2d(2 * w, 4 * w, 3, 2, 1), 4 * w),
            *[Residual(4 * w) for _ in range(blocks)],
            *layer(nn.ConvTranspose2d(4 * w, 2 * w, 3, 2, 1, 1), 2 * w),
            *layer(nn.ConvTranspose2d(2 * w, w, 3, 2, 1, 1), w),
            nn.Conv2d(w, into, 7, padding=3, padding_mode="reflect"), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)[..., : x.shape[2], : x.shape[3]]


class PatchJudge(nn.Sequential):
    """A logit for each overlapping patch.  (B, C, H, W) -> (B, 1, h, w)"""

    def __init__(self, channels: int, width: int, layers: int):
        parts: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        now = width
        for k in range(1, layers + 1):
            then = width * min(2**k, 8)
            stride = 2 if k < layers else 1
            parts += [nn.Conv2d(now, then, 4, stride, 1), nn.InstanceNorm2d(then), nn.LeakyReLU(0.2)]
            now = then
        super().__init__(*parts, nn.Conv2d(now, 1, 4, 1, 1))


presets = {
    "small": dict(width=32, blocks=3, layers=2, batch=8, steps=1_000, half_life_images=4_000),
    "tiny": dict(width=4, blocks=1, layers=1, pool=3, batch=2),
}
