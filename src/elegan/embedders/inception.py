"""`inception:FILE`: the network of the Fréchet Inception distance, from a file of its weights. Only it makes an FID.

Szegedy et al., 2015, arXiv:1512.00567, as it was published for TensorFlow on 2015-12-05, which departs from the paper:
average pools leave the border out of their mean, the last block pools by the maximum, and there are 1,008 outputs.
The file is the widely used conversion for PyTorch, pt_inception-2015-12-05-6726825d.pth, or a .safetensors of the same
names. Every convolution is followed by batch normalisation (ε = 0.001) and a ReLU.
"""

import io
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as read_tensors
from torch import Tensor, nn
from torch.nn import functional as F

from elegan.embedders import resize, weights
from elegan.embedders.blocks import colours, filled, in_blocks
from elegan.embedders.contract import Embedded
from elegan.errors import CheckpointError

NAME = "inception"
INPUT = (3, 299, 299)
BLOCK = 8  # images at a time
LARGEST = 1 << 28  # bytes; the file has 95 million
REMEDY = "give pt_inception-2015-12-05-6726825d.pth, or use --embedder efflite0 or pixels"


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inside: int, out: int, kernel: int | tuple[int, int], stride: int = 1, pad: bool = True):
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        border = (sides[0] // 2, sides[1] // 2) if pad else 0
        self.conv = nn.Conv2d(inside, out, kernel, stride, border, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu_()


def average(x: Tensor) -> Tensor:
    """Means over 3x3, of what lies inside the map only."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class BlockA(nn.Module):
    """35x35, Figure 5: 1x1, 5x5, 3x3 twice, and a pool."""

    def __init__(self, inside: int, pool: int):
        super().__init__()
        self.branch1x1 = Conv(inside, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Conv(inside, 48, 1), Conv(48, 64, 5)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inside, 64, 1), Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3)
        self.branch_pool = Conv(inside, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(average(x))], 1)


class BlockB(nn.Module):
    """35x35 to 17x17, Figure 10."""

    def __init__(self, inside: int):
        super().__init__()
        self.branch3x3 = Conv(inside, 384, 3, 2, pad=False)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inside, 64, 1), Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3, 2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, 2)], 1)


class BlockC(nn.Module):
    """17x17, Figure 6: 7x7 as 1x7 and 7x1, once and twice."""

    def __init__(self, wide: int):
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = Conv(768, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = Conv(768, wide, 1), Conv(wide, wide, row)
        self.branch7x7_3 = Conv(wide, 192, column)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = Conv(768, wide, 1), Conv(wide, wide, column)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = Conv(wide, wide, row), Conv(wide, wide, column)
        self.branch7x7dbl_5 = Conv(wide, 192, row)
        self.branch_pool = Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(average(x))], 1)


class BlockD(nn.Module):
    """17x17 to 8x8."""

    def __init__(self):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(768, 192, 1), Conv(192, 320, 3, 2, pad=False)
        self.branch7x7x3_1, self.branch7x7x3_2 = Conv(768, 192, 1), Conv(192, 192, (1, 7))
        self.branch7x7x3_3, self.branch7x7x3_4 = Conv(192, 192, (7, 1)), Conv(192, 192, 3, 2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)


class BlockE(nn.Module):
    """8x8, Figure 7: 3x3 as 1x3 beside 3x1. largest: pool by the maximum instead of the mean."""

    def __init__(self, inside: int, largest: bool):
        super().__init__()
        row, column = (1, 3), (3, 1)
        self.branch1x1 = Conv(inside, 320, 1)
        self.branch3x3_1 = Conv(inside, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = Conv(384, 384, row), Conv(384, 384, column)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inside, 448, 1), Conv(448, 384, 3)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = Conv(384, 384, row), Conv(384, 384, column)
        self.branch_pool = Conv(inside, 192, 1)
        self.largest = largest

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self.largest else average(x)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(once), self.branch3x3_2b(once),
                self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice),
                self.branch_pool(pooled),
            ],
            1,
        )  # fmt: skip


class Inception(nn.Module):
    """(B, 3, 299, 299) in [-1, 1] -> features (B, 2048), logits without their bias (B, 1008)."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, 2, pad=False)  # (B, 32, 149, 149)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, pad=False)  # (B, 32, 147, 147)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)  # (B, 80, 73, 73), pooled before
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, pad=False)  # (B, 192, 71, 71)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)  # 35x35
        self.Mixed_6a = BlockB(288)  # (B, 768, 17, 17)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d = BlockC(128), BlockC(160), BlockC(160)
        self.Mixed_6e = BlockC(192)
        self.Mixed_7a = BlockD()  # (B, 1280, 8, 8)
        self.Mixed_7b, self.Mixed_7c = BlockE(1280, largest=False), BlockE(2048, largest=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        features = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))  # pool3
        return features, features @ self.fc.weight.T


class InceptionFile:
    """Images of any size, grey or RGB, resized to 299x299: features (N, 2048), probabilities (N, 1008).

    The probabilities leave the bias of the last layer out, as the published Inception scores did.
    path: the file of the weights. shape: (C, H, W) of one image.
    Errors: `OptionError` if that is no image; `CheckpointError` if the file is not such a network.
    """

    name, features = NAME, 2048
    about = f"299x299, {resize.ABOUT}, (x - 128) / 128; pool3, 2048; 1008 logits without bias"

    def __init__(self, path: Path, shape: tuple[int, ...]):
        colours(shape, NAME)
        self.shape = shape
        self.net, self.sha256 = load(path)

    def embed(self, images: np.ndarray) -> Embedded:
        """Of uint8 images (N, C, H, W). Errors: `DataError` for another shape or type, or none."""
        return in_blocks(self._run, images, name=NAME, shape=self.shape, to=INPUT, block=BLOCK)

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.net((x - 128) / 128)
        return features, logits.softmax(1)


def load(path: Path) -> tuple[Inception, str]:
    """The network and the SHA-256 of the file. Errors: `CheckpointError` if it is not that network's."""
    tensors, sha256 = read(path)
    with torch.device("meta"):
        known = Inception().state_dict()
    wanted = {name: tuple(tensor.shape) for name, tensor in known.items() if tensor.ndim}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if tensor.ndim}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise CheckpointError(
                f"{path} is not the Inception of FID: {name} is {found.get(name, 'missing')}, "
                f"not {wanted.get(name, 'known')}; {REMEDY}"
            )
    counts = {name: torch.tensor(0) for name in known if name not in wanted}  # of batches, which nothing reads
    return filled(Inception, {name: tensors[name] for name in wanted} | counts), sha256


def read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a .safetensors or .pth file, without running what a pickle may hold, and its SHA-256."""
    if path.is_file() and path.stat().st_size > LARGEST:
        raise CheckpointError(f"{path} is larger than any Inception: {REMEDY}")
    try:
        content, sha256 = weights.read(path)
    except CheckpointError as error:
        raise CheckpointError(f"{str(error).rstrip('.')}: {REMEDY}") from error
    try:
        if path.suffix == ".safetensors":
            return read_tensors(content), sha256
        tensors = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        raise CheckpointError(f"{path} cannot be read as weights: {REMEDY}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{path} holds no named tensors: {REMEDY}")
    return tensors, sha256
