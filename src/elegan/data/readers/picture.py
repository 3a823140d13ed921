"""One image file -> a row of pixels, upright, by rules that are stated and never clip.

Read: png, jpg, webp, bmp, tif, and the first frame of gif. EXIF orientation is applied.
Channels: grey stays grey (1 bit, 8 bits, grey with alpha), CMYK, palettes and all else become RGB; a set is grey if all
    its images are, else RGB, unless a colour is asked for.
Alpha: laid on white, or kept as the last channel (images without are opaque), or dropped, as asked.
Depth: 16 bits stay uint16 and floats float32, unless 8 bits are asked for; a set has the deepest of its images' types:
    8 bits among 16 are multiplied by 257, whole numbers among floats brought to [0, 1].
Size: resized with antialias (Lanczos), in the image's own depth; see `Form.fit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from elegan.data.codec import ImageCodec
from elegan.data.form import Form
from elegan.data.listing import Layout
from elegan.errors import DataError
from elegan.spec import Field

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # no other decoder is tried, whatever a file is called
PIXELS = 1 << 26  # more than this in one image is taken for a decompression bomb
ORIENTATION = 0x0112  # the EXIF tag
GAP = 3.0  # a JPEG may be read at a fraction of its size if that is still so many times the size wanted
DEPTHS = ("uint8", "uint16", "float32")
MODES = {(1, False): "L", (1, True): "LA", (3, False): "RGB", (3, True): "RGBA"}


@dataclass(frozen=True)
class Look:
    """What an image's header says: its upright size, its channels of colour, whether it has alpha, its type."""

    width: int
    height: int
    colours: int
    alpha: bool
    dtype: str


@dataclass(frozen=True)
class Pictures:
    """The decoder of images, in a form. half: of an image that is a pair side by side, 0 the left or 1 the right."""

    form: Form = field(default_factory=Form)
    half: int | None = None
    kind = "image"
    version = 1

    def look(self, files: Sequence[BinaryIO]) -> Look:
        """Errors: whatever the decoder raises on damaged bytes; `ValueError` if the image is empty or too large."""
        with _open(files[0]) as image:
            width, height = image.size
            if image.getexif().get(ORIENTATION, 1) >= 5:
                width, height = height, width
            if self.half is not None:
                if width % 2:
                    raise ValueError(f"{width} pixels are no two halves side by side")
                width //= 2
            grey = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
            return Look(width, height, 1 if grey else 3, image.has_transparency_data, _depth(image))

    def settle(self, looks: Sequence[tuple[str, Look]], *, name: str) -> Layout:
        """Errors: `DataError` if sizes are mixed and none is asked for."""
        (first_name, first), size = looks[0], self.form.pixels
        for other_name, look in looks if size is None else ():
            if (look.width, look.height) != (first.width, first.height):
                raise DataError(
                    f"{name!r} mixes sizes: {first_name!r} is {first.width}x{first.height}, "
                    f"{other_name!r} is {look.width}x{look.height}: use --size 64"
                )
        colours = max(look.colours for _, look in looks)
        if self.form.colour != "keep":
            colours = 1 if self.form.colour == "grey" else 3
        alpha = self.form.alpha == "keep" and any(look.alpha for _, look in looks)
        depth = max((look.dtype for _, look in looks), key=DEPTHS.index) if self.form.bits == "keep" else "uint8"
        return Layout((colours + alpha, *(size or (first.height, first.width))), depth, {"mode": MODES[colours, alpha]})

    def read(self, files: Sequence[BinaryIO], layout: Layout) -> np.ndarray:
        """(C, H, W) of the layout's type. Errors: as `look`, and `ValueError` if floats cannot be brought to 8 bits."""
        from PIL import ImageOps

        size = self.form.pixels
        with _open(files[0]) as image:
            if size is not None and image.format == "JPEG" and self.half is None:
                turned = image.getexif().get(ORIENTATION, 1) >= 5
                _shrink(image, (size[1], size[0]) if turned else size, self.form.fit)
            upright = ImageOps.exif_transpose(image)
            if self.half is not None:
                middle = upright.width // 2
                upright = upright.crop((self.half * middle, 0, (self.half + 1) * middle, upright.height))
            planes = _planes(upright, layout, self.form)
        if size is not None and planes[0].size != size[::-1]:
            planes = [_fitted(plane, size, self.form.fit) for plane in planes]
        pixels = np.stack([np.asarray(plane) for plane in planes], -1) if len(planes) > 1 else np.asarray(planes[0])
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        if layout.dtype == "uint16" and pixels.dtype != np.uint16:
            pixels = np.rint(pixels).clip(0, 65_535)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1), layout.dtype)

    def field(self, layout: Layout, low: float, high: float) -> Field:
        codec = ImageCodec.of_range(layout.dtype, low, high, mode=str(layout.about["mode"]))
        return Field("image", layout.shape, about=codec.to_json())


def _open(file: BinaryIO) -> "Image":
    """An image whose header is read. Not by its path: Pillow maps what has one, and scrambles turned TIFFs."""
    from PIL import Image, UnidentifiedImageError

    if not file.read(1):
        raise ValueError("the file is empty")
    file.seek(0)
    Image.init()  # else `formats` knows only the decoders that happen to be loaded
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError("it is no image of a known format") from error
    width, height = image.size
    if width * height > PIXELS:
        raise ValueError(f"{width}x{height} is more than {PIXELS:,} pixels")
    if image.mode == "I" and image.format != "PNG":
        raise ValueError("32-bit integers have no stated range")
    return image


def _depth(image: "Image") -> str:
    if image.mode == "F":
        return "float32"
    return "uint16" if image.mode.startswith("I") else "uint8"


def _shrink(image: "Image", size: tuple[int, int], fit: str) -> None:
    """Let the JPEG decoder leave out detail, while its result is `GAP` times the size that it is resized to."""
    height, width = size
    scales = image.height / height, image.width / width
    scale = max(scales) if fit == "pad" else min(scales)
    if scale >= 2 * GAP:
        image.draft(None, (round(GAP * width), round(GAP * height)))


def _planes(image: "Image", layout: Layout, form: Form) -> list["Image"]:
    """An upright image of any mode -> one image of 8 bits, or one of mode F for each channel of a deeper layout."""
    from PIL import Image

    mode = str(layout.about["mode"])
    if layout.dtype == "uint8":
        return [_eight_bits(image, mode, form)]
    top = 65_535.0 if layout.dtype == "uint16" else 1.0
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, np.float32)
        if image.mode != "F":
            values = values * np.float32(top / 65_535)
        grey = Image.fromarray(values)
        opaque = [Image.new("F", image.size, top)] if mode.endswith("A") else []
        return [grey] * (3 if mode.startswith("RGB") else 1) + opaque
    channels = np.asarray(_eight_bits(image, mode, form), np.float32) * np.float32(top / 255)
    return [Image.fromarray(np.ascontiguousarray(c)) for c in np.moveaxis(np.atleast_3d(channels), 2, 0)]


def _eight_bits(image: "Image", mode: str, form: Form) -> "Image":
    """An upright image of any mode -> mode L, LA, RGB or RGBA."""
    from PIL import Image

    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # also false of NaN
            raise ValueError("float pixels must lie in [0, 1] to be brought to 8 bits")
        image = Image.fromarray(np.rint(values * 255).astype(np.uint8))
    elif image.mode.startswith("I"):  # 16 bits: 65535 / 257 = 255
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        if form.alpha == "composite":
            seen = Image.alpha_composite(Image.new("RGBA", image.size, "white"), seen)
        image = seen if form.alpha == "keep" else seen.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _fitted(plane: "Image", size: tuple[int, int], fit: str) -> "Image":
    """An image at a size (height, width). With alpha, Pillow weighs colours by it, so that none bleeds in."""
    from PIL import Image, ImageOps

    way, wanted = Image.Resampling.LANCZOS, (size[1], size[0])
    if fit == "crop":
        return ImageOps.fit(plane, wanted, way)
    if fit == "pad":
        return ImageOps.pad(plane, wanted, way, color=0 if len(plane.getbands()) == 1 else (0,) * len(plane.getbands()))
    return plane.resize(wanted, way)


def resize(rows: np.ndarray, size: tuple[int, int], fit: str = "crop") -> np.ndarray:
    """(N, C, H, W) of any depth -> (N, C, *size) of the same, each channel by itself; see `Form.fit`."""
    from PIL import Image

    resized = np.empty((*rows.shape[:2], *size), rows.dtype)
    deep = rows.dtype != np.uint8
    for before, after in zip(rows, resized, strict=True):
        for plane, fitted in zip(before, after, strict=True):
            made = np.asarray(_fitted(Image.fromarray(plane.astype(np.float32) if deep else plane), size, fit))
            fitted[:] = np.rint(made).clip(0, 65_535) if rows.dtype == np.uint16 else made
    return resized
