"""Marks that say a picture was generated: text in PNG and TIFF, and an XMP packet.

Anyone can strip them; honest tools keep them.
"""

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo, putchunk

import elegan
from elegan.disk import whole
from elegan.errors import plain

# IPTC's digital source type for what a trained model made
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'Iptc4xmpExt:DigitalSourceType={source} xmp:CreatorTool={tool}/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by the number of channels
XMP_TAG = 700  # of TIFF


def marks(facts: Mapping[str, object]) -> PngInfo:
    """PNG text: what made the picture (`facts`: game, run, step, seed …), and the XMP packet that names its source."""
    info = PngInfo()
    info.add_text("Software", tool())
    info.add_text("DigitalSourceType", "trainedAlgorithmicMedia")
    for name, value in facts.items():
        info.add_itxt(f"elegan:{name}", plain(str(value)))
    info.add_itxt("XML:com.adobe.xmp", packet())
    return info


def note(facts: Mapping[str, object]) -> str:
    """The marks as one line, for files that have a comment."""
    said = {"Software": tool(), "DigitalSourceType": "trainedAlgorithmicMedia"}
    said |= {f"elegan:{name}": plain(str(value)) for name, value in facts.items()}
    return "; ".join(f"{name}: {value}" for name, value in said.items())


def tool() -> str:
    return f"elegan {elegan.__version__}"


def packet() -> str:
    """The XMP that names the source."""
    return XMP.format(source=quoteattr(SOURCE_TYPE), tool=quoteattr(tool()))


def save_png(picture: Image.Image, path: Path, facts: Mapping[str, object]) -> Path:
    """Write a marked PNG; whole or not at all."""
    return _whole(path, lambda part: picture.save(part, format="PNG", pnginfo=marks(facts)))


def save_png16(pixels: np.ndarray, path: Path, facts: Mapping[str, object]) -> Path:
    """Write a marked PNG of 16 bits, uint16 (C, H, W) with 1 to 4 channels; whole or not at all."""
    channels, height, width = pixels.shape
    rows = np.zeros((height, 1 + 2 * channels * width), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels.transpose(1, 2, 0).astype(">u2").reshape(height, -1).view(np.uint8)

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
            putchunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0))
            for name, body, *_ in marks(facts).chunks:
                putchunk(file, name, body)
            putchunk(file, b"IDAT", zlib.compress(rows.tobytes()))
            putchunk(file, b"IEND")

    return _whole(path, write)


def save_tiff(pixels: np.ndarray, mode: str, path: Path, facts: Mapping[str, object]) -> Path:
    """Write a marked TIFF of (C, H, W), of any type and number of channels; whole or not at all.

    mode: what the channels are (L, LA, RGB, RGBA), or nothing. Needs tifffile.
    """
    import tifffile

    ink = "rgb" if mode.startswith("RGB") else "minisblack"
    extra = ["unassalpha"] if mode.endswith("A") else ["unspecified"] * (len(pixels) - len(mode or "L"))
    content = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    said = packet().encode()

    def write(part: Path) -> None:
        tifffile.imwrite(
            part, content, photometric=ink, planarconfig="contig" if content.ndim == 3 else None, metadata=None,
            extrasamples=extra, software=tool(), extratags=[(XMP_TAG, 1, len(said), said, True)],
            description=json.dumps({"DigitalSourceType": "trainedAlgorithmicMedia", **facts}, default=str),
        )  # fmt: skip

    return _whole(path, write)


def _whole(path: Path, write: Callable[[Path], object]) -> Path:
    with whole(path) as part:
        write(part)
    return path
