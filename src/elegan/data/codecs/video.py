"""The codec of film: clips (C, T, H, W), the order of axes that three-dimensional convolutions take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from elegan.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

QUALITY = {"libx264": {"crf": "14"}, "mpeg4": {"qscale": "2"}}  # the first that the library was built with


@dataclass(frozen=True)
class VideoCodec:
    """uint8 (B, C, T, H, W) <-> float32 in [-1, 1], x / 127.5 - 1.

    fps: frames per second. mode: what the channels are, L or RGB.
    """

    fps: float
    mode: str = "RGB"
    kind: ClassVar[str] = "video"

    def encode(self, rows: Tensor) -> Tensor:
        return rows.float().div_(127.5).sub_(1)

    def decode(self, batch: Tensor) -> np.ndarray:
        """float (B, C, T, H, W) -> uint8 of the same shape; what lies outside [-1, 1] is clamped."""
        levels = batch.detach().float().add(1).mul_(127.5).round_()
        return levels.clamp_(0, 255).cpu().numpy().astype(np.uint8)

    def write(self, rows: np.ndarray, folder: Path, note: str = "") -> list[Path]:
        """One MP4 and one GIF a clip, at the source's rate. note: kept in the MP4 as its comment.

        An MP4 is H.264 where the library has it, else MPEG-4; both lose a little. A GIF has 256 colours, and its frames
        last whole hundredths of a second.
        """
        width, paths = max(5, len(str(len(rows)))), []
        for k, row in enumerate(rows):
            frames = np.ascontiguousarray(row.transpose(1, 2, 3, 0))  # (T, H, W, C)
            frames = frames[..., 0] if self.mode == "L" else frames
            paths += [folder / f"{k:0{width}d}.mp4", folder / f"{k:0{width}d}.gif"]
            write_mp4(paths[-2], frames, self.fps, note)
            _write_gif(paths[-1], frames, self.fps)
        return paths

    def to_json(self) -> dict[str, Any]:
        return {"codec": {"kind": self.kind, **asdict(self)}}

    @classmethod
    def from_json(cls, made: Mapping[str, Any]) -> VideoCodec:
        return cls(made["fps"], made["mode"])


def write_mp4(path: Path, frames: np.ndarray, fps: float, note: str = "") -> None:
    """Frames, uint8 (T, H, W) or (T, H, W, 3), as an MP4. Odd sizes are kept, by colour at full resolution."""
    av = load_av()
    even = frames.shape[1] % 2 == frames.shape[2] % 2 == 0
    name = next(name for name in QUALITY if name in av.codecs_available)
    with av.open(str(path), "w") as file:
        file.metadata["comment"] = note
        stream = file.add_stream(name, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p" if even or name == "mpeg4" else "yuv444p"
        stream.options = QUALITY[name]
        for frame in frames:
            pictured = av.VideoFrame.from_ndarray(frame, format="gray" if frame.ndim == 2 else "rgb24")
            file.mux(stream.encode(pictured))
        file.mux(stream.encode(None))


def _write_gif(path: Path, frames: np.ndarray, fps: float) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=max(20, round(100 / fps) * 10), loop=0)


def load_av() -> Any:
    """The library that reads and writes film. Errors: `DataError` if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise DataError('video needs av: pip install "elegan[video]"') from error
    return av
