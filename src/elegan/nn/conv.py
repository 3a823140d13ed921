"""Convolutional stacks between a latent vector and an image of any height and width.

An image is halved, rounding up, until halving once more would fall below `base` pixels: 28 -> 14 -> 7, 64 -> 32 -> 16
-> 8 -> 4. The generator climbs these sizes and the judge descends them; sizes that are not even are cropped by a row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def pyramid(height: int, width: int, base: int = 4) -> list[tuple[int, int]]:
    """The sizes from full resolution down: each half of the one before, the smaller side at least `base`."""
    sizes = [(height, width)]
    while min(sizes[-1]) >= 2 * base:
        h, w = sizes[-1]
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    return sizes


class ConvGenerator(nn.Module):
    """z -> the coarsest size -> transposed convolutions -> image in [-1, 1].  (B, z) -> (B, C, H, W)

    width: channels at half resolution, twice as many at each coarser size, at most 8 · width.
    kernel: 4 or 5. stem: one more convolution at the coarsest size. slope: of LeakyReLU, 0 is ReLU. norm: BatchNorm.
    """

    def __init__(
        self,
        z_dim: int,
        shape: Sequence[int],
        width: int,
        *,
        base: int = 4,
        kernel: int = 4,
        stem: bool = False,
        slope: float = 0.0,
        norm: bool = True,
    ):
        super().__init__()
        channels, height, across = shape
        self.sizes = pyramid(height, across, base)[::-1]
        ups = len(self.sizes) - 1
        widths = [width * min(2**k, 8) for k in range(max(ups - 1, 0), -1, -1)]  # coarsest first
        h, w = self.sizes[0]

        def after(features: int) -> list[nn.Module]:
            return [*([nn.BatchNorm2d(features)] if norm else []), nn.LeakyReLU(slope)]

        wide = 2 * widths[0] if stem else widths[0]
        unflatten = nn.Unflatten(1, (wide, h, w))
        self.first = nn.Sequential(nn.Linear(z_dim, wide * h * w, bias=not norm), unflatten, *after(wide))
        self.stem = nn.Sequential()
        if stem:
            middle = nn.Conv2d(wide, widths[0], kernel, padding="same", bias=not norm)
            self.stem = nn.Sequential(middle, *after(widths[0]))
        self.ups = nn.ModuleList()
        for k in range(ups):
            last = k == ups - 1
            into = channels if last else widths[k + 1]
            up = nn.ConvTranspose2d(widths[k], into, kernel, 2, (kernel - 1) // 2, kernel % 2, bias=last or not norm)
            self.ups.append(nn.Sequential(up, *([] if last else after(into))))
        if not ups:
            self.ups.append(nn.Conv2d(widths[-1], channels, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        x = self.stem(self.first(z))  # (B, widest, h, w)
        for up, (h, w) in zip(self.ups, self.sizes[1:] or self.sizes, strict=True):
            x = up(x)[..., :h, :w]
        return torch.tanh(x)


class ConvJudge(nn.Module):
    """Image -> strided convolutions -> one logit; with `classes`, by projection of the label too.

    (B, C, H, W) [, (B,)] -> (B,). Projection: Miyato and Koyama 2018 (arXiv 1802.05637), Equation 3.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        *,
        base: int = 4,
        kernel: int = 4,
        slope: float = 0.2,
        norm: bool = False,
        dropout: float = 0.0,
        classes: int = 0,
    ):
        super().__init__()
        channels, height, across = shape
        sizes = pyramid(height, across, base)
        layers: list[nn.Module] = []
        for k in range(len(sizes) - 1):
            into = width * min(2**k, 8)
            normed = norm and k > 0
            layers.append(nn.Conv2d(channels, into, kernel, 2, (kernel - 1) // 2, bias=not normed))
            layers += [nn.BatchNorm2d(into)] if normed else []
            layers.append(nn.LeakyReLU(slope))
            layers += [nn.Dropout(dropout)] if dropout else []
            channels = into
        self.body = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            features = self.body.eval()(torch.zeros(1, *shape)).shape[1]
        self.body.train()
        self.head = nn.Linear(features, 1)
        self.projection = nn.Embedding(classes, features) if classes else None

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        features = self.body(x)  # (B, features)
        logits = self.head(features).squeeze(1)  # (B,)
        if self.projection is not None and label is not None:
            logits = logits + (self.projection(label) * features).sum(1) / features.shape[1] ** 0.5
        return logits
