"""Marks that say a picture was generated: PNG text and an XMP packet. Anyone can strip them; honest tools keep them."""

import os
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from PIL import Image
from PIL.PngImagePlugin import PngInfo

import elegan

# IPTC's digital source type for what a trained model made
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'Iptc4xmpExt:DigitalSourceType={source} xmp:CreatorTool={tool}/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def marks(facts: Mapping[str, object]) -> PngInfo:
    """PNG text: what made the picture (`facts`: game, run, step, seed …), and the XMP packet that names its source."""
    info = PngInfo()
    tool = f"elegan {elegan.__version__}"
    info.add_text("Software", tool)
    info.add_text("DigitalSourceType", "trainedAlgorithmicMedia")
    for name, value in facts.items():
        info.add_itxt(f"elegan:{name}", str(value))
    packet = XMP.format(source=quoteattr(SOURCE_TYPE), tool=quoteattr(tool))
    info.add_itxt("XML:com.adobe.xmp", packet)
    return info


def save_png(picture: Image.Image, path: Path, facts: Mapping[str, object]) -> Path:
    """Write a marked PNG; whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        picture.save(part, format="PNG", pnginfo=marks(facts))
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path
