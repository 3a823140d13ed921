"""One image file -> a row of pixels, upright, by rules that are stated and never clip.

Read: png, jpg, webp, bmp, tif, and the first frame or page of gif, animated png and webp, and tif. EXIF orientation is
    applied; colour profiles and gamma are not: values are taken as they are stored.
Channels: grey stays grey (1 bit, 8 bits, grey with alpha), CMYK, palettes and all else become RGB; a set is grey if all
    its images are, else RGB, unless a colour is asked for. Of a TIFF of 2, 4, 5 … bands all are kept, if all images of
    a set have as many; three are RGB.
Alpha: laid on white, or kept as the last channel (images without are opaque), or dropped, as asked.
Depth: 1, 2 and 4 bits fill 8. 16 bits stay uint16 and floats float32, unless 8 bits are asked for; a set has the
    deepest of its images' types: 8 bits among 16 are multiplied by 257, whole numbers among floats brought to [0, 1];
    white under floats is 1. What Pillow would reduce without a word is read by `deep`.
Size: resized with antialias (Lanczos), in the image's own depth, within the range of its values; alpha weighs the
    colours, so that none bleeds out of what is transparent. What is padded is 0. See `Form.fit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from elegan.data.codec import ImageCodec
from elegan.data.form import Form
from elegan.data.listing import Layout
from elegan.data.readers import deep
from elegan.errors import DataError
from elegan.spec import Field

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # no other decoder is tried, whatever a file is called
PIXELS = 1 << 26  # more than this in one image is taken for a decompression bomb
VALUES = 4 * PIXELS  # likewise, over all bands
ORIENTATION = 0x0112  # the EXIF tag
GAP = 2.9  # a JPEG may be read at a fraction of its size if that is still so many times the size wanted
TOPS = {"uint8": 255.0, "uint16": 65_535.0, "float32": 1.0}  # white of each depth, the least first
DEPTHS = tuple(TOPS)
MODES = {(1, False): "L", (1, True): "LA", (3, False): "RGB", (3, True): "RGBA"}  # bands of other numbers have no name
CLEAR = 0.5 / 65_535  # an alpha below it is 0 at every depth but float
GREY = np.array([19_595, 38_470, 7_471]) / 65_536  # of R, G, B, as Pillow makes grey (ITU-R 601)


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
    version = 2 + deep.INSTALLED  # with the libraries more can be read

    def look(self, files: Sequence[BinaryIO]) -> Look:
        """Errors: whatever the decoder raises on damaged bytes; `ValueError` if the image is empty or too large."""
        found, turn = _open(files[0])
        width, height = found.width, found.height
        if isinstance(found, deep.Head):
            colours, alpha, dtype = found.colours, found.alpha != deep.NO_ALPHA, found.dtype
        else:
            grey = found.mode in ("1", "L", "LA", "La", "F") or found.mode.startswith("I")
            colours, alpha, dtype = 1 if grey else 3, found.has_transparency_data, _depth(found)
        if turn >= 5:
            width, height = height, width
        if self.half is not None:
            if width % 2:
                raise ValueError(f"{width} pixels are no two halves side by side")
            width //= 2
        return Look(width, height, colours, alpha, dtype)

    def settle(self, looks: Sequence[tuple[str, Look]], *, name: str) -> Layout:
        """Errors: `DataError` if sizes are mixed and none is asked for, or numbers of bands are."""
        (first_name, first), size = looks[0], self.form.pixels
        for other_name, look in looks:
            if size is None and (look.width, look.height) != (first.width, first.height):
                raise DataError(
                    f"{name!r} mixes sizes: {first_name!r} is {first.width}x{first.height}, "
                    f"{other_name!r} is {look.width}x{look.height}: use --size 64"
                )
            if look.colours != first.colours and {look.colours, first.colours} != {1, 3}:
                raise DataError(
                    f"{name!r} mixes numbers of bands: {first_name!r} has {first.colours}, "
                    f"{other_name!r} has {look.colours}: keep those of one kind"
                )
        colours = max(look.colours for _, look in looks)
        if self.form.colour != "keep":
            if colours not in (1, 3):
                raise DataError(f"{name!r}: {colours} bands are neither grey nor RGB: leave --colour out")
            colours = 1 if self.form.colour == "grey" else 3
        alpha = self.form.alpha == "keep" and any(look.alpha for _, look in looks)
        depth = max((look.dtype for _, look in looks), key=DEPTHS.index) if self.form.bits == "keep" else "uint8"
        shape = colours + alpha, *(size or (first.height, first.width))
        return Layout(shape, depth, {"mode": MODES.get((colours, alpha), "")})

    def read(self, files: Sequence[BinaryIO], layout: Layout) -> np.ndarray:
        """(C, H, W) of the layout's type. Errors: as `look`, and `ValueError` if floats cannot be brought to 8 bits."""
        size, mode = self.form.pixels, str(layout.about["mode"])
        found, turn = _open(files[0])
        if isinstance(found, deep.Head):
            return self._deep(deep.read(files[0], found), found.alpha != deep.NO_ALPHA, turn, layout)
        if size is not None and found.format == "JPEG" and self.half is None:
            _shrink(found, (size[1], size[0]) if turn >= 5 else size, self.form.fit)
        if layout.dtype == _depth(found) == "uint8" and (size is None or not mode.endswith("A")):
            pixels = np.asarray(self._placed(_eight_bits(found, mode, self.form), turn))
            return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))
        return self._deep(*_values(found), turn, layout)

    def _resizes(self, stored: tuple[int, ...], turn: int) -> bool:
        """Whether an image that is stored as (H, W, …) is not of the form's size yet."""
        height, width = stored[1::-1] if turn >= 5 else stored[:2]
        return self.form.pixels not in (None, (height, width if self.half is None else width // 2))

    def _deep(self, values: np.ndarray, alpha: bool, turn: int, layout: Layout) -> np.ndarray:
        """Stored values (H, W, C), the last of which may be alpha -> a row (C, H, W), a band at a time in floats."""
        from PIL import Image

        kept, bands = str(layout.about["mode"]).endswith("A"), values.shape[2] - alpha
        top, found, resizes = TOPS[layout.dtype], str(values.dtype), self._resizes(values.shape, turn)
        if found == "float32" and layout.dtype != "float32" and not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("float pixels must lie in [0, 1] to be brought to 8 bits")  # NaN neither

        def placed(band: np.ndarray) -> np.ndarray:
            return np.asarray(self._placed(Image.fromarray(band.astype(np.float32, copy=False)), turn))

        real = np.float32 if resizes else np.float64  # Pillow resizes in float32; what is not resized is exact
        opacity = values[..., -1].astype(real) / real(TOPS[found]) if alpha else np.ones(values.shape[:2], real)
        seen = placed(opacity) if kept else None
        row = []
        for k in range(bands):
            band = values[..., k].astype(real) * real(top / TOPS[found])
            if alpha and self.form.alpha == "composite":
                band = top + (band - top) * opacity
            low, high = (band.min(), band.max()) if layout.dtype == "float32" else (0.0, top)
            if not resizes:
                band = placed(band if layout.dtype == "float32" else np.rint(band))
            elif seen is None:
                band = placed(band)
            else:
                band = np.divide(placed(band * opacity), seen, out=np.zeros_like(seen), where=seen >= CLEAR)
            row.append(band.clip(min(low, 0), max(high, 0)) if self.form.fit == "pad" else band.clip(low, high))
        wanted = layout.shape[0] - kept
        if bands != wanted:
            row = row * wanted if bands == 1 else [np.tensordot(GREY, np.stack(row), 1)]
        made = np.stack([*row, *([seen.clip(0, 1) * top] if seen is not None else [])])
        return (made if layout.dtype == "float32" else np.rint(made, out=made)).astype(layout.dtype, copy=False)

    def _placed(self, image: "Image", turn: int) -> "Image":
        """An image as stored -> upright, the wanted half of it, at the size of the form."""
        from PIL.Image import Transpose

        if turn > 1:
            turns = (
                Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM, Transpose.TRANSPOSE,
                Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90,
            )  # fmt: skip
            image = image.transpose(turns[turn - 2])
        if self.half is not None:
            middle = image.width // 2
            image = image.crop((self.half * middle, 0, (self.half + 1) * middle, image.height))
        return image if self.form.pixels is None else _fitted(image, self.form.pixels, self.form.fit)

    def field(self, layout: Layout, low: float, high: float) -> Field:
        codec = ImageCodec.of_range(layout.dtype, low, high, mode=str(layout.about["mode"]))
        return Field("image", layout.shape, about=codec.to_json())


def _open(file: BinaryIO) -> "tuple[Image | deep.Head, int]":
    """An image whose header is read, or the head of one that Pillow would not do justice; and its EXIF orientation.

    Not by its path: Pillow maps what has one, and scrambles turned TIFFs.
    """
    from PIL import Image, UnidentifiedImageError

    if not file.read(1):
        raise ValueError("the file is empty")
    if (head := deep.tiff(file)) is not None:
        _bounded(head.width, head.height, head.colours)
        return head, head.orientation
    file.seek(0)
    Image.init()  # else `formats` knows only the decoders that happen to be loaded
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError("it is no image of a known format") from error
    _bounded(image.width, image.height, 1)
    place = file.tell()
    turn = _orientation(image, file)
    head = deep.png(file, alpha=image.has_transparency_data)
    file.seek(place)
    return head or image, turn


def _bounded(width: int, height: int, bands: int) -> None:
    if width * height > PIXELS:
        raise ValueError(f"{width}x{height} is more than {PIXELS:,} pixels")
    if width * height * bands > VALUES:
        raise ValueError(f"{width}x{height} in {bands} bands is more than {VALUES:,} values")
    if not (width > 0 and height > 0):
        raise ValueError(f"{width}x{height} pixels are no image")


def _orientation(image: "Image", file: BinaryIO) -> int:
    """The EXIF orientation, 1 to 8, without decoding anything. TIFFs come upright out of Pillow by themselves."""
    from PIL import Image

    if image.format == "TIFF":
        return 1
    exif = Image.Image.getexif(image)  # that of PNG decodes the image in search of more
    if image.format == "PNG" and ORIENTATION not in exif and (late := _late_exif(file)):
        exif = Image.Exif()
        exif.load(b"Exif\0\0" + late)
    turn = exif.get(ORIENTATION, 1)
    return turn if turn in range(1, 9) else 1


def _late_exif(file: BinaryIO) -> bytes:
    """The EXIF that a PNG may also have behind its pixels; its chunks are passed over, not read."""
    file.seek(8)
    while len(start := file.read(8)) == 8 and start[4:] != b"IEND":
        length = int.from_bytes(start[:4], "big")
        if start[4:] == b"eXIf":
            return file.read(length)
        file.seek(length + 4, 1)
    return b""


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


def _values(image: "Image") -> tuple[np.ndarray, bool]:
    """The stored values of an image, (H, W, C), and whether the last of them is alpha."""
    if image.mode == "F":
        return np.asarray(image, np.float32)[..., None], False
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.uint16)
        if (clear := image.info.get("transparency")) is None:
            return grey[..., None], False
        return np.stack([grey, np.where(grey == clear, 0, 65_535).astype(np.uint16)], -1), True
    alpha = image.has_transparency_data
    colours = 1 if image.mode in ("1", "L", "LA", "La") else 3
    return np.atleast_3d(np.asarray(image.convert(MODES[colours, alpha]))), alpha


def _eight_bits(image: "Image", mode: str, form: Form) -> "Image":
    """An image of 8 bits or fewer -> mode L, LA, RGB or RGBA."""
    from PIL import Image

    if image.has_transparency_data:
        seen = image.convert("RGBA")
        if form.alpha == "composite":
            seen = Image.alpha_composite(Image.new("RGBA", image.size, "white"), seen)
        image = seen if form.alpha == "keep" else seen.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _fitted(image: "Image", size: tuple[int, int], fit: str) -> "Image":
    """An image at a size (height, width)."""
    from PIL import Image

    (height, width), way = size, Image.Resampling.LANCZOS
    if image.size == (width, height):
        return image
    if fit == "pad":
        scale = min(width / image.width, height / image.height)
        across, down = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        padded = Image.new(image.mode, (width, height))
        padded.paste(image.resize((across, down), way), ((width - across) // 2, (height - down) // 2))
        return padded
    scale = min(image.width / width, image.height / height)
    across, down = (scale * width, scale * height) if fit == "crop" else image.size
    left, upper = (image.width - across) / 2, (image.height - down) / 2
    return image.resize((width, height), way, (left, upper, left + across, upper + down))


def formed(rows: np.ndarray, form: Form, where: str) -> np.ndarray:
    """Images (N, C, H, W) that need no decoding, in a form; what their channels mean is not known, so none is alpha.

    Errors: `DataError` of floats that cannot be brought to 8 bits, or bands that are neither grey nor RGB.
    """
    if form.colour != "keep" and rows.shape[1] not in (1, 3):
        raise DataError(f"{where}: {rows.shape[1]} bands are neither grey nor RGB: leave --colour out")
    if form.bits == "8" and rows.dtype == np.float32 and not (rows.min() >= 0 and rows.max() <= 1):
        raise DataError(f"{where}: floats must lie in [0, 1] to be brought to 8 bits: rescale them")
    if form.pixels is not None and form.pixels != rows.shape[2:]:
        rows = _resized(rows, form)
    if form.colour == "grey" and rows.shape[1] == 3:
        grey = np.einsum("nchw,c->nhw", rows, GREY)[:, None]
        rows = (grey if rows.dtype == np.float32 else np.rint(grey)).astype(rows.dtype)
    elif form.colour == "rgb" and rows.shape[1] == 1:
        rows = rows.repeat(3, axis=1)
    if form.bits == "8" and rows.dtype != np.uint8:
        rows = np.rint(rows * np.float32(255 / TOPS[str(rows.dtype)])).astype(np.uint8)
    return rows


def _resized(rows: np.ndarray, form: Form) -> np.ndarray:
    """Images (N, C, H, W) at a form's size, in their own depth; 8 bits in 8 bits, where Pillow is faster."""
    from PIL import Image

    made, top = np.empty((*rows.shape[:2], *(form.pixels or ())), rows.dtype), TOPS[str(rows.dtype)]
    for row, into in zip(rows, made, strict=True):
        for band, to in zip(row, into, strict=True):
            image = Image.fromarray(band if top == 255 else band.astype(np.float32))
            fitted = np.asarray(_fitted(image, form.pixels or band.shape, form.fit))
            if top == 1:
                fitted = fitted.clip(band.min(), band.max())
            to[:] = np.rint(fitted).clip(0, top) if top == 65_535 else fitted
    return made
