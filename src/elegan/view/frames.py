"""Pictures on their way into a page: as they are if they are small, else as WebP; and which of many are shown."""

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

SIDE = 1_000  # pixels; larger pictures are made smaller
QUALITY = 85  # of WebP, of 100


@dataclass(frozen=True)
class Shown:
    """A picture in a page: a data URI and the size it is shown in. `pixels`: has half of that, to be doubled again."""

    source: str
    width: int
    height: int
    pixels: bool


def shown(path: Path, room: int) -> Shown | None:
    """A picture file for a page, byte by byte if it takes at most `room` bytes, else near that; None if unreadable.

    A picture that is made of doubled pixels is halved without loss before it is packed; marks of origin stay.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            width, height = picture.size
            if len(content) <= room:
                return Shown(uri("png", content), width, height, False)
            origin = str(getattr(picture, "text", {}).get("XML:com.adobe.xmp", ""))
            half = picture.resize((width // 2, height // 2), Image.Resampling.NEAREST)
            doubled = half.resize(picture.size, Image.Resampling.NEAREST).tobytes() == picture.tobytes()
            packed = half if doubled else picture.convert("RGB")
        packed.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        packed.save(buffer, format="WEBP", quality=QUALITY, method=2, xmp=origin.encode())
    except (OSError, SyntaxError, ValueError):  # not whole, or no picture
        return None
    scale = 2 if doubled else 1
    return Shown(uri("webp", buffer.getvalue()), packed.width * scale, packed.height * scale, doubled)


def uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def spread(steps: list[int], count: int) -> list[int]:
    """At most `count` of ascending steps: the first, the last, and between them more of the early than of the late.

    They lie about evenly on a scale that is half logarithmic and half linear.
    """
    if len(steps) <= count:
        return steps
    first, last = steps[0], steps[-1]

    def place(step: int) -> float:
        return math.log1p(step - first) / math.log1p(last - first) + (step - first) / (last - first)

    aims = [2 * k / (count - 1) for k in range(count)]
    return sorted({min(steps, key=lambda step: abs(place(step) - aim)) for aim in aims})
