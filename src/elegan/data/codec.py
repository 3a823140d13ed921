"""Codecs: fitted, invertible transforms between raw rows and the tensors that games see, kept as JSON with the weights.

A codec computes with the methods of the tensors it is given and imports no torch, so that readers can fit codecs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from elegan.errors import DataError, nearest
from elegan.spec import Field

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Codec(Protocol):
    """What every codec can do. `decode(encode(x))` is x, to within a rounding of float32."""

    kind: ClassVar[str]

    def encode(self, rows: Tensor) -> Tensor:
        """Raw rows to what a game sees, on the device of the rows and without waiting for it."""
        ...

    def decode(self, batch: Tensor) -> np.ndarray:
        """What a game made, back to raw rows in main memory."""
        ...

    def to_json(self) -> dict[str, Any]:
        """`{"codec": {"kind": …}}`, to be kept in `Field.about`."""
        ...


@dataclass(frozen=True)
class ImageCodec:
    """uint8 (B, C, H, W) in [low, high] <-> float32 in [-1, 1]; with the usual 0 and 255, x / 127.5 - 1."""

    low: int = 0
    high: int = 255
    kind: ClassVar[str] = "image"

    @classmethod
    def fit(cls, rows: np.ndarray) -> ImageCodec:
        """The codec of uint8 images: nothing is fitted, every image set has the same range."""
        if rows.dtype != np.uint8:
            raise TypeError(f"images are kept as uint8, not as {rows.dtype}")
        return cls()

    def encode(self, rows: Tensor) -> Tensor:
        half = (self.high - self.low) / 2
        return rows.float().div_(half).sub_(1 + self.low / half)

    def decode(self, batch: Tensor) -> np.ndarray:
        """float (B, C, H, W) -> uint8 of the same shape, rounded; what lies outside [-1, 1] is clamped."""
        half = (self.high - self.low) / 2
        pixels = batch.detach().float().mul(half).add_(half + self.low)
        return pixels.round_().clamp_(self.low, self.high).byte().cpu().numpy()

    def to_json(self) -> dict[str, Any]:
        return {"codec": {"kind": self.kind, "low": self.low, "high": self.high}}


@dataclass(frozen=True)
class VectorCodec:
    """float32 (B, D) <-> float32 (B, D) with mean 0 and deviation 1: encode(x) = (x - shift) / scale, per column."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    kind: ClassVar[str] = "vector"
    _placed: dict[torch.device, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def fit(cls, rows: np.ndarray, *, common: bool = False) -> VectorCodec:
        """Mean and deviation of each column of (N, D). A constant column gets scale 1.

        common: one scale for all columns, so that shapes in the plane are not distorted.
        """
        shift = rows.mean(0, dtype=np.float64)
        spread = rows.std(0, dtype=np.float64)
        if common:
            spread = np.full_like(spread, np.sqrt(np.mean(spread**2)))
        still = spread <= 1e-7 * np.maximum(1.0, np.abs(shift))  # below what float32 can tell from constant
        scale = np.where(still, 1.0, spread)
        return cls(tuple(shift.tolist()), tuple(scale.tolist()))

    def encode(self, rows: Tensor) -> Tensor:
        shift, scale = self._on(rows)
        return rows.float().sub(shift).div_(scale)

    def decode(self, batch: Tensor) -> np.ndarray:
        """float (B, D) -> float32 (B, D) in the units of the data."""
        batch = batch.detach().float()
        shift, scale = self._on(batch)
        return batch.mul(scale).add_(shift).cpu().numpy()

    def to_json(self) -> dict[str, Any]:
        return {"codec": {"kind": self.kind, "shift": list(self.shift), "scale": list(self.scale)}}

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale on the device of a tensor, copied there once: a copy per batch would make the host wait."""
        if like.device not in self._placed:
            blank = like.new_zeros(()).float()
            self._placed[like.device] = (blank.new_tensor(self.shift), blank.new_tensor(self.scale))
        return self._placed[like.device]


@dataclass(frozen=True)
class LabelCodec:
    """Class numbers pass through as int64 (B,)."""

    kind: ClassVar[str] = "label"

    @classmethod
    def fit(cls, rows: np.ndarray) -> LabelCodec:
        return cls()

    def encode(self, rows: Tensor) -> Tensor:
        return rows.long()

    def decode(self, batch: Tensor) -> np.ndarray:
        return batch.detach().long().cpu().numpy()

    def to_json(self) -> dict[str, Any]:
        return {"codec": {"kind": self.kind}}


def codec_of(about: Field) -> Codec:
    """The codec of a field, rebuilt from the JSON in `field.about["codec"]`.

    Errors: `DataError` if the field has no codec, or one that this version does not know.
    """
    made: Mapping[str, Any] = about.about.get("codec", {})
    match made.get("kind"):
        case "image":
            return ImageCodec(made["low"], made["high"])
        case "vector":
            return VectorCodec(tuple(made["shift"]), tuple(made["scale"]))
        case "label":
            return LabelCodec()
        case other:
            known = nearest(str(other), ("image", "vector", "label"))
            raise DataError(f"a field of kind {about.kind!r} has the unknown codec {other!r}.{known}")
