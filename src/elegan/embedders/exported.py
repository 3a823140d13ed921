"""A network of one's own as embedder: a file of `torch.export` (.pt2) or ONNX (.onnx), named by its hash.

It maps images (N, C, H, W) in [0, 1] to features (N, d), its first output, and if it has a second to logits (N, K). No
code that such a file may carry is run.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elegan.embedders import pt2, resize, weights
from elegan.embedders.blocks import colours, in_blocks
from elegan.embedders.contract import Embedded
from elegan.errors import CheckpointError, OptionError

SUFFIXES = (".pt2", ".onnx")
BLOCK = 16  # images at a time, unless the network takes only so many
Network = Callable[[Tensor], Sequence[Tensor]]


class Exported:
    """The network of a file, for images of its size, or resized to it unless it takes any; grey becomes RGB if it must.

    path: the file. shape: (C, H, W) of one image.
    Errors: `OptionError` if that is no image, or RGB where the network reads grey; `CheckpointError` if the file is
    missing, damaged, or does not do what is said above.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]):
        colours(shape, path.name)
        content, self.sha256 = weights.read(path)
        self._file, self.shape = path.name, shape
        self.name = f"{path.stem}-{self.sha256[:8]}"
        self._net, wanted = (_onnx if path.suffix == ".onnx" else _pt2)(path, content)
        if len(wanted) != 4:
            raise CheckpointError(f"{self._file} reads {len(wanted)} axes, not images (N, C, H, W)")
        self._to = (wanted[1] or shape[0], wanted[2] or shape[1], wanted[3] or shape[2])
        self._block, self._fixed = wanted[0] or BLOCK, wanted[0] is not None
        if self._to[0] != shape[0] and shape[0] != 1:
            raise OptionError(
                f"{self._file} reads {self._to[0]} channels, not those of {shape}: use another --embedder"
            )
        self.features = self._run(torch.zeros(1, *self._to))[0].shape[1]
        how = "as it is" if self._to[1:] == shape[1:] else resize.ABOUT
        self.about = f"{self._to[1]}x{self._to[2]}, {how}, in [0, 1]; first output of {self._file}, {self.features}"

    def embed(self, images: np.ndarray) -> Embedded:
        """Of uint8 images (N, C, H, W). Errors: `DataError` for another shape or type, or none."""
        return in_blocks(self._run, images, name=self.name, shape=self.shape, to=self._to, block=self._block)

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        missing = self._block - len(x) if self._fixed else 0
        filled = torch.cat([x, x[-1:].expand(missing, -1, -1, -1)]) if missing else x
        try:
            outputs = [output[: len(x)].float() for output in self._net(filled / 255)]
        except Exception as error:  # whatever the file's operators raise, it is the file's fault
            raise CheckpointError(f"{self._file} does not run on images of {self._to}: {_line(error)}") from error
        if not 1 <= len(outputs) <= 2 or any(output.ndim != 2 for output in outputs):
            shapes = ", ".join(str(tuple(output.shape)) for output in outputs) or "nothing"
            raise CheckpointError(f"{self._file} gives {shapes}, not features (N, d) and perhaps logits (N, K)")
        if not all(output.isfinite().all() for output in outputs):
            raise CheckpointError(f"{self._file} gives values that are not finite")
        return outputs[0], outputs[1].softmax(1) if len(outputs) > 1 else None


def _pt2(path: Path, content: bytes) -> tuple[Network, Sequence[int | None]]:
    """The network of a .pt2 file, and the shape it reads, None where it is free."""
    try:
        graph = pt2.Graph(content)
    except Exception as error:  # a malformed archive fails in as many ways as there are bytes
        raise CheckpointError(f"{path} is no network that can be run: {_line(error)}") from error
    return graph, graph.shape


def _onnx(path: Path, content: bytes) -> tuple[Network, Sequence[int | None]]:
    """The network of an .onnx file, and the shape it reads, None where it is free."""
    try:
        import onnxruntime
    except ImportError as error:
        raise CheckpointError(f"{path} needs onnxruntime: pip install 'elegan[eval]', or give a .pt2 file") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (given, *more) = session.get_inputs()
    except Exception as error:  # onnxruntime's errors have no class in common
        raise CheckpointError(f"{path} is no network that can be run: {_line(error)}") from error
    if more or given.type != "tensor(float)":
        raise CheckpointError(f"{path} wants {1 + len(more)} inputs, {given.type}, not one batch of float images")

    def run(x: Tensor) -> list[Tensor]:
        made: Sequence[Any] = session.run(None, {given.name: x.contiguous().numpy()})
        return [torch.from_numpy(part) for part in made]

    return run, [size if isinstance(size, int) else None for size in given.shape]


def _line(error: Exception) -> str:
    """What an error of others says, in one line of bounded length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
