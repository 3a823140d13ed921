"""Codecs: fitted, invertible transforms between raw rows and the tensors that games see, kept as JSON with the weights.

A codec computes with the methods of the tensors it is given and imports no torch, so that readers can fit codecs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from elegan.errors import DataError, nearest
from elegan.spec import Field

DTYPES = ("uint8", "uint16", "float32")  # of images

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
    """Pixels (B, C, H, W) of one type in [low, high] <-> float32 in [-1, 1]; of 8 bits, x / 127.5 - 1.

    dtype: uint8, uint16 or float32. mode: what the channels are (L, LA, RGB, RGBA), or nothing if that is not known.
    """

    low: float = 0
    high: float = 255
    dtype: str = "uint8"
    mode: str = ""
    kind: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf or self.dtype not in DTYPES or type(self.mode) is not str:
            raise ValueError(f"no images are {self}")

    @classmethod
    def fit(cls, rows: np.ndarray, *, mode: str = "") -> ImageCodec:
        """The codec of images (N, C, H, W). Errors: `TypeError` if their type is none that images have."""
        low, high = (rows.min(), rows.max()) if rows.dtype == np.float32 else (0, 1)
        return cls.of_range(str(rows.dtype), float(low), float(high), mode=mode)

    @classmethod
    def of_range(cls, dtype: str, low: float, high: float, *, mode: str = "") -> ImageCodec:
        """The codec of images whose least and greatest values are known. Whole numbers have the range of their type;
        floats have [0, 1] or [-1, 1], the first that holds them, or else the range they fill."""
        match dtype:
            case "uint8":
                return cls(0, 255, dtype, mode)
            case "uint16":
                return cls(0, 65_535, dtype, mode)
            case "float32":
                if low >= -1 and high <= 1:
                    low, high = (0.0, 1.0) if low >= 0 else (-1.0, 1.0)
                return cls(low, high if high > low else low + 1, dtype, mode)
        raise TypeError(f"images are kept as uint8, uint16 or float32, not as {dtype}")

    def encode(self, rows: Tensor) -> Tensor:
        half = (self.high - self.low) / 2
        if self._whole:
            return rows.float().div_(half).sub_(1 + self.low / half)
        return rows.sub(half + self.low).div_(half)  # floats may lie far from 0: nothing is lost in the difference

    def decode(self, batch: Tensor) -> np.ndarray:
        """float (B, C, H, W) -> the same shape in the type of the data; what lies outside [-1, 1] is clamped."""
        half = (self.high - self.low) / 2
        pixels = batch.detach().float().mul(half).add_(half + self.low)
        if self._whole:
            pixels = pixels.round_()
        return pixels.clamp_(self.low, self.high).cpu().numpy().astype(self.dtype, copy=False)

    @property
    def _whole(self) -> bool:
        return self.dtype != "float32"

    def to_json(self) -> dict[str, Any]:
        made = {"kind": self.kind, "low": self.low, "high": self.high, "dtype": self.dtype, "mode": self.mode}
        return {"codec": made}


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


def eight_bits(field: Field, rows: np.ndarray) -> np.ndarray:
    """Raw rows of a field, for eyes and for networks that know no deeper images: of images uint8, of others as is."""
    codec = codec_of(field)
    if not isinstance(codec, ImageCodec) or rows.dtype == np.uint8:
        return rows
    share = (rows.astype(np.float64) - codec.low) / (codec.high - codec.low)
    return np.rint(share.clip(0, 1) * 255).astype(np.uint8)


def mode_of(field: Field) -> str:
    """What the channels of an image field are: L, LA, RGB, RGBA; nothing if two, four or more have no known meaning."""
    known = field.about.get("codec", {}).get("mode", "")
    return known or {1: "L", 3: "RGB"}.get(field.shape[0] or 0, "") if len(field.shape) == 3 else ""


def codec_of(about: Field) -> Codec:
    """The codec of a field, rebuilt from the JSON in `field.about["codec"]`.

    Errors: `DataError` if the field has no codec, or one that this version does not know.
    """
    made: Mapping[str, Any] = about.about.get("codec", {})
    try:
        return _of_json(made, about)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"the codec of a field of kind {about.kind!r} is damaged ({error!r}).") from error


def _of_json(made: Mapping[str, Any], about: Field) -> Codec:
    match made.get("kind"):
        case "image":
            return ImageCodec(made["low"], made["high"], made.get("dtype", "uint8"), made.get("mode", ""))
        case "vector":
            codec = VectorCodec(tuple(made["shift"]), tuple(made["scale"]))
            numbers, widths = (*codec.shift, *codec.scale), (1, *about.shape[-1:])
            if not all(map(math.isfinite, numbers)) or not {len(codec.shift), len(codec.scale)} <= {*widths}:
                raise ValueError(f"no rows of {about.shape} have {len(numbers)} shifts and scales")
            return codec
        case "label":
            return LabelCodec()
        case "table" | "audio" | "video" | "token" as kind:
            from elegan.data import codecs

            return codecs.of_json(kind, made)
        case other:
            known = nearest(str(other), ("image", "vector", "label", "table", "audio", "video", "token"))
            raise DataError(f"a field of kind {about.kind!r} has the unknown codec {other!r}.{known}")
