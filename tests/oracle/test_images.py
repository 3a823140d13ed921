"""Images as they are: every depth, number of channels and shape against arithmetic in numpy."""

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from elegan.data.readers import deep, picture
from elegan.data.readers.picture import Pictures
from elegan.data.sources import open_data
from elegan.errors import DataError

TOPS = {"uint8": 255, "uint16": 65_535, "float32": 1}


def drawn(dtype: str, *shape: int) -> np.ndarray:
    """Noise of a type that fills its range, the same whenever it is asked for."""
    draw = np.random.default_rng([np.dtype(dtype).itemsize, *shape])
    if dtype.startswith("f"):
        return draw.random(shape).astype(dtype)
    return draw.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png16(pixels: np.ndarray, *before: bytes, behind: bytes = b"") -> bytes:
    """A PNG of 16 bits, (H, W, C), from its specification; chunks before and behind the pixels."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    body = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), *before, chunk(b"IDAT", zlib.compress(body)), behind]
    ) + chunk(b"IEND", b"")


def opened(path: Path, **options) -> np.ndarray:
    """The one image of a path as (H, W, C)."""
    rows = open_data(path, **options).arrays["real"]
    assert len(rows) == 1
    return rows[0].transpose(1, 2, 0)


def refused(path: Path, *words: str, **options) -> None:
    with pytest.raises(DataError) as caught:
        open_data(path, **options)
    for word in words:
        assert word in str(caught.value)


# ---- what Pillow would reduce or cannot open


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("by", ["libpng", "hand"])
def test_png_of_sixteen_bits(tmp_path, channels, by):
    pixels, path = drawn("uint16", 5, 7, channels), tmp_path / "x.png"
    content = imagecodecs.png_encode(np.squeeze(pixels)) if by == "libpng" else png16(pixels)
    path.write_bytes(content)
    source = open_data(path, alpha="keep")
    assert source.arrays["real"].dtype == np.uint16
    assert np.array_equal(source.arrays["real"][0].transpose(1, 2, 0), pixels)
    assert source.spec["real"].about["codec"]["mode"] == ["L", "LA", "RGB", "RGBA"][channels - 1]
    assert np.array_equal(opened(path, alpha="keep", bits="8"), np.rint(pixels / 257))


def test_png_of_sixteen_bits_with_a_clear_colour(tmp_path):
    grey = np.array([[[7], [1000], [40_000]]], np.uint16)
    (tmp_path / "x.png").write_bytes(png16(grey, chunk(b"tRNS", struct.pack(">H", 7))))
    want = [[[7, 0], [1000, 65_535], [40_000, 65_535]]]
    assert opened(tmp_path / "x.png", alpha="keep").tolist() == want
    assert opened(tmp_path / "x.png").tolist() == [[[65_535], [1000], [40_000]]]
    assert opened(tmp_path / "x.png", alpha="drop").tolist() == grey.tolist()
    colours = np.array([[[1, 2, 3], [1, 2, 4]]], np.uint16)
    (tmp_path / "x.png").write_bytes(png16(colours, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))))
    assert opened(tmp_path / "x.png").tolist() == [[[65_535] * 3, [1, 2, 4]]]


BANDS = {  # what is written, how, and the layout that must come back
    "rgb16": (("uint16", 5, 7, 3), dict(photometric="rgb"), "RGB"),
    "rgb16-big-endian": (("uint16", 5, 7, 3), dict(photometric="rgb", byteorder=">"), "RGB"),
    "rgb16-big-tiff": (("uint16", 5, 7, 3), dict(photometric="rgb", bigtiff=True), "RGB"),
    "rgb16-lzw-tiles": (("uint16", 40, 50, 3), dict(photometric="rgb", compression="lzw", tile=(16, 16)), "RGB"),
    "rgb16-zlib-predicted": (
        ("uint16", 5, 7, 3), dict(photometric="rgb", compression="zlib", predictor=True), "RGB",
    ),
    "rgb16-planes": (("uint16", 3, 5, 7), dict(photometric="rgb", planarconfig="separate"), "RGB"),
    "rgba16": (("uint16", 5, 7, 4), dict(photometric="rgb", extrasamples=["unassalpha"]), "RGBA"),
    "la16": (
        ("uint16", 5, 7, 2), dict(photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]), "LA",
    ),
    "grey16": (("uint16", 5, 7, 1), dict(photometric="minisblack"), "L"),
    "grey16-big-endian": (("uint16", 5, 7, 1), dict(photometric="minisblack", byteorder=">"), "L"),
    "rgb-float": (("float32", 5, 7, 3), dict(photometric="rgb"), "RGB"),
    "rgba-float": (("float32", 5, 7, 4), dict(photometric="rgb", extrasamples=["unassalpha"]), "RGBA"),
    "grey-half": (("float16", 5, 7, 1), dict(photometric="minisblack"), "L"),
    "grey-double": (("float64", 5, 7, 1), dict(photometric="minisblack"), "L"),
    "two": (("uint8", 5, 7, 2), dict(photometric="minisblack", planarconfig="contig"), ""),
    "rgb-and-one": (("uint8", 5, 7, 4), dict(photometric="rgb", extrasamples=["unspecified"]), ""),
    "five": (("uint8", 5, 7, 5), dict(photometric="minisblack", planarconfig="contig"), ""),
    "five-planes": (("uint8", 5, 9, 7), dict(photometric="minisblack", planarconfig="separate"), ""),
    "thirteen16-planes": (("uint16", 13, 5, 7), dict(photometric="minisblack", planarconfig="separate"), ""),
    "thirteen-float": (("float32", 5, 7, 13), dict(photometric="minisblack", planarconfig="contig"), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BANDS)
def test_tiffs_of_any_depth_and_number_of_bands(tmp_path, name):
    shape, how, mode = BANDS[name]
    pixels = drawn(*shape)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, pixels[..., 0] if pixels.shape[2] == 1 else pixels, metadata=None, **how)
    if how.get("planarconfig") == "separate":
        pixels = pixels.transpose(1, 2, 0)
    source = open_data(path, alpha="keep")
    row = source.arrays["real"][0].transpose(1, 2, 0)
    assert row.dtype == ("float32" if "float" in shape[0] else shape[0])
    assert np.array_equal(row, pixels.astype(row.dtype))
    assert source.spec["real"].about["codec"]["mode"] == mode


def test_white_may_be_zero_and_alpha_multiplied_in(tmp_path):
    path, grey = tmp_path / "x.tif", drawn("uint16", 5, 7)
    for dtype in ("uint8", "uint16"):
        tifffile.imwrite(path, grey.astype(dtype), photometric="miniswhite", metadata=None)
        assert np.array_equal(opened(path)[..., 0], TOPS[dtype] - grey.astype(dtype))
    for dtype in ("uint8", "uint16", "float32"):
        straight = drawn(dtype, 5, 7, 4).astype(np.float64)
        straight[0, 0, 3] = 0
        opacity = straight[..., 3:] / TOPS[dtype]
        stored = np.concatenate([straight[..., :3] * opacity, straight[..., 3:]], -1)
        stored = (stored if dtype == "float32" else np.rint(stored)).astype(dtype)
        tifffile.imwrite(path, stored, photometric="rgb", extrasamples=["assocalpha"], metadata=None)
        seen = opened(path, alpha="keep").astype(np.float64)
        close = 1e-6 if dtype == "float32" else 0.51 / opacity.clip(1e-9) + 1.01  # of rounded light, rounded
        shown = opacity[..., 0] > 0.02
        assert (abs(seen - straight)[..., :3] <= close)[shown].all()
        assert np.array_equal(seen[..., 3], straight[..., 3])
        laid = opened(path).astype(np.float64)  # as light: what is stored, and white where there is room
        want = stored[..., :3] + TOPS[dtype] * (1 - stored[..., 3:] / TOPS[dtype])
        assert abs(laid - want).max() <= (1e-6 if dtype == "float32" else 1.001)


def test_bits_below_sixteen_fill_the_range(tmp_path):
    path, levels = tmp_path / "x.tif", drawn("uint16", 6, 8) >> 4
    tifffile.imwrite(path, levels, bitspersample=12, photometric="minisblack", metadata=None)
    assert np.array_equal(opened(path)[..., 0], np.rint(levels * (65_535 / 4_095)))


def test_cmyk_of_sixteen_bits(tmp_path):
    ink = drawn("uint16", 5, 7, 4)
    tifffile.imwrite(tmp_path / "x.tif", ink, photometric="separated", metadata=None)
    want = (65_535 - ink[..., :3].astype(float)) * (65_535 - ink[..., 3:].astype(float)) / 65_535
    assert abs(opened(tmp_path / "x.tif") - want).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("pixels", "how", "words"),
    [
        (np.zeros((5, 7), "int32"), {}, "signed integers have no stated range"),
        (np.zeros((5, 7), "uint32"), {}, "32-bit integers have no stated range"),
        (np.zeros((5, 7), "int16"), {}, "signed integers"),
        (np.zeros((5, 7), "int8"), {}, "signed integers"),
        (np.zeros((5, 7), "complex64"), {}, "complex numbers"),
        (np.zeros((5, 7, 3), "uint16"), dict(photometric="cielab"), "3 bands of 16 bits in colour space 8"),
        (np.full((5, 7, 3), np.nan, "float32"), dict(photometric="rgb"), "not finite"),
        (np.full((5, 7), np.inf, "float64"), {}, "not finite"),
        (np.full((5, 7), 1e300), {}, "not finite"),
    ],
)
def test_numbers_without_a_range_are_refused(tmp_path, pixels, how, words):
    tifffile.imwrite(tmp_path / "x.tif", pixels, metadata=None, **{"photometric": "minisblack", **how})
    refused(tmp_path / "x.tif", "'x.tif'", words)


def test_without_the_libraries_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(deep, "INSTALLED", False)
    (tmp_path / "x.png").write_bytes(png16(drawn("uint16", 4, 4, 3)))
    refused(tmp_path / "x.png", 'pip install "elegan[images]"')
    (tmp_path / "x.png").write_bytes(png16(drawn("uint16", 4, 4, 1)))
    assert opened(tmp_path / "x.png").dtype == np.uint16  # grey, and floats of one band, need none
    tifffile.imwrite(tmp_path / "x.tif", drawn("float32", 4, 4), metadata=None)
    assert opened(tmp_path / "x.tif").dtype == np.float32


# ---- what Pillow reads


def test_lab_and_ycbcr(tmp_path):
    levels = (np.array([120, 0, 0]) + drawn("uint8", 6, 8, 3).view(np.int8) // 5).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", levels, photometric="cielab", metadata=None)
    lab = levels.view(np.int8).astype(float)  # a, b are signed; L is a share of 100
    lab[..., 0] = levels[..., 0] / 2.55
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.9642, 1, 0.8249)  # D50
    bradford = np.array([[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]])
    linear = xyz @ bradford.T
    want = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert abs(opened(tmp_path / "x.tif") - want).max() < 4
    colours = np.broadcast_to(np.array([200, 60, 90], np.uint8), (16, 16, 3))
    Image.fromarray(np.ascontiguousarray(colours)).save(tmp_path / "y.jpg", quality=98)
    assert abs(opened(tmp_path / "y.jpg").astype(int) - (200, 60, 90)).max() <= 3


def test_cmyk_of_adobe_is_inverted_and_the_others_are_not(tmp_path):
    image = Image.new("CMYK", (16, 16), (30, 200, 90, 40))
    image.save(tmp_path / "x.jpg", quality=100)  # Pillow writes Adobe's mark, and inverts
    want = [(255 - ink) * (255 - 40) / 255 for ink in (30, 200, 90)]
    assert abs(opened(tmp_path / "x.jpg")[8, 8] - want).max() <= 3
    image.save(tmp_path / "x.tif")
    assert abs(opened(tmp_path / "x.tif")[8, 8] - want).max() <= 1


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("end", ["png", "tif"])
def test_few_bits_fill_the_range(tmp_path, bits, end):
    levels = drawn("uint8", 6, 8) >> (8 - bits)
    if end == "tif":
        tifffile.imwrite(tmp_path / "x.tif", levels, bitspersample=bits, photometric="minisblack", metadata=None)
    else:
        packed = [np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:]) for row in levels]
        body = b"".join(b"\0" + row.tobytes() for row in packed)
        head = struct.pack(">IIBBBBB", 8, 6, bits, 0, 0, 0, 0)
        parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert np.array_equal(opened(tmp_path / f"x.{end}")[..., 0], np.rint(levels * (255 / (2**bits - 1))))


def test_a_palette_with_degrees_of_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "x.png", transparency=bytes([255, 0, 51]))
    assert opened(tmp_path / "x.png").tolist() == [[[255, 0, 0], [255, 255, 255], [204, 204, 255]]]
    assert opened(tmp_path / "x.png", alpha="keep").tolist() == [[[255, 0, 0, 255], [0, 255, 0, 0], [0, 0, 255, 51]]]
    assert opened(tmp_path / "x.png", alpha="drop").tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


@pytest.mark.parametrize("end", ["gif", "webp", "png", "tif"])
def test_the_first_frame_or_page(tmp_path, end):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    how = {"lossless": True} if end == "webp" else {}
    frames[0].save(tmp_path / f"x.{end}", save_all=True, append_images=frames[1:], **how)
    assert set(map(tuple, opened(tmp_path / f"x.{end}").reshape(-1, 3).tolist())) == {(200, 0, 0)}


def test_the_first_page_of_deep_tiffs(tmp_path):
    pages = drawn("uint16", 3, 5, 7, 3)
    tifffile.imwrite(tmp_path / "x.tif", pages, photometric="rgb", metadata=None)
    assert np.array_equal(opened(tmp_path / "x.tif"), pages[0])


def test_colour_profiles_and_gamma_are_not_applied(tmp_path):
    pixels = drawn("uint8", 6, 8, 3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    for end in ("png", "tif"):
        Image.fromarray(pixels).save(tmp_path / f"x.{end}", icc_profile=profile)
        assert np.array_equal(opened(tmp_path / f"x.{end}"), pixels)
    deeper = drawn("uint16", 6, 8, 3)
    (tmp_path / "y.png").write_bytes(png16(deeper, chunk(b"gAMA", struct.pack(">I", 100_000))))
    assert np.array_equal(opened(tmp_path / "y.png"), deeper)


# ---- upright

UPRIGHT = np.kron(np.arange(1, 7, dtype=np.uint8).reshape(2, 3) * 40, np.ones((32, 32), np.uint8))
STORED = {  # how EXIF says each orientation is stored
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


def exif(turn: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = turn
    return made


def write_turned(path: Path, turn: int) -> int:
    """Store the picture turned in the way of a kind of file, by the stem of its name; the depth it has."""
    stored = np.ascontiguousarray(STORED[turn])
    deeper = np.stack([stored.astype(np.uint16) * 257] * 3, -1)
    match path.stem:
        case "jpeg" | "webp" | "png" | "tiff":
            how = {"quality": 95} if path.stem == "jpeg" else {"lossless": True} if path.stem == "webp" else {}
            Image.fromarray(stored).convert("RGB").save(path, exif=exif(turn), **how)
            return 1
        case "late":  # EXIF behind the pixels
            body = io.BytesIO()
            Image.fromarray(stored).save(body, "PNG")
            tag = chunk(b"eXIf", exif(turn).tobytes().removeprefix(b"Exif\0\0"))
            path.write_bytes(body.getvalue()[:-12] + tag + body.getvalue()[-12:])
            return 1
        case "png16":
            tag = chunk(b"eXIf", exif(turn).tobytes().removeprefix(b"Exif\0\0"))
            path.write_bytes(png16(deeper, *([tag] if turn % 2 else []), behind=b"" if turn % 2 else tag))
        case "tiff16":
            tifffile.imwrite(path, deeper, photometric="rgb", metadata=None, extratags=[(274, 3, 1, turn, True)])
        case "tiff16-grey":
            tifffile.imwrite(path, deeper[..., 0], metadata=None, extratags=[(274, 3, 1, turn, True)])
    return 257


KINDS = ["jpeg.jpg", "webp.webp", "png.png", "late.png", "tiff.tif", "png16.png", "tiff16.tif", "tiff16-grey.tif"]


@pytest.mark.parametrize("turn", STORED)
@pytest.mark.parametrize("name", KINDS)
def test_every_orientation_comes_upright(tmp_path, turn, name):
    scale = write_turned(tmp_path / name, turn)
    close = 4 if name == "jpeg.jpg" else 0
    source = open_data(tmp_path / name)
    assert source.spec.shape[1:] == source.arrays["real"].shape[2:] == (64, 96)
    assert abs(source.arrays["real"][0, 0] / scale - UPRIGHT).max() <= close
    wide = open_data(tmp_path / name, size="12x8", fit="stretch").arrays["real"][0, 0] / scale
    assert wide.shape == (8, 12)
    for y in range(2):
        for x in range(3):  # away from the edges between
            assert abs(wide[4 * y + 1 : 4 * y + 3, 4 * x + 1 : 4 * x + 3] - 40 * (1 + 3 * y + x)).max() < 14
    halves = open_data(tmp_path / name, sides=True).arrays
    assert abs(halves["a"][0, 0] / scale - UPRIGHT[:, :48]).max() <= close
    assert abs(halves["b"][0, 0] / scale - UPRIGHT[:, 48:]).max() <= close


def test_looking_decodes_nothing(tmp_path, monkeypatch):
    for name in KINDS:
        write_turned(tmp_path / name, 6)
    for reader in (Image.Image, tifffile.TiffPage):
        monkeypatch.setattr(reader, "load" if reader is Image.Image else "asarray", lambda *_: pytest.fail("decoded"))
    for name in KINDS:
        with (tmp_path / name).open("rb") as file:
            look = Pictures().look([file])
        assert (look.width, look.height) == (96, 64)


def test_an_orientation_that_is_none_changes_nothing(tmp_path):
    for turn in (0, 9, 60_000):
        Image.fromarray(UPRIGHT).save(tmp_path / "x.png", exif=exif(turn))
        assert np.array_equal(opened(tmp_path / "x.png")[..., 0], UPRIGHT)


# ---- sizes: antialiased Lanczos in the image's own depth


def lanczos(before: int, after: int, start: float, stop: float) -> np.ndarray:
    """The weights (after, before) of Lanczos with three lobes, stretched over the samples it averages."""
    scale = (stop - start) / after
    wide = max(scale, 1.0)
    centres = start + (np.arange(after) + 0.5) * scale
    at = (np.arange(before) + 0.5 - centres[:, None]) / wide
    weights = np.where(abs(at) < 3, np.sinc(at) * np.sinc(at / 3), 0)
    return weights / weights.sum(1, keepdims=True)


def resized(band: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    """A band (H, W) at a size (height, width), by matrices."""
    (height, width), (tall, wide) = band.shape, size
    if fit == "pad":
        scale = min(tall / height, wide / width)
        down, across = max(1, round(height * scale)), max(1, round(width * scale))
        made, (y, x) = np.zeros(size), ((tall - down) // 2, (wide - across) // 2)
        made[y : y + down, x : x + across] = resized(band, (down, across), "stretch")
        return made
    y0 = x0 = 0.0
    if fit == "crop":
        scale = min(height / tall, width / wide)
        y0, x0 = (height - scale * tall) / 2, (width - scale * wide) / 2
    rows, columns = lanczos(height, tall, y0, height - y0), lanczos(width, wide, x0, width - x0)
    return rows @ band.astype(np.float64) @ columns.T


def save(path: Path, pixels: np.ndarray) -> None:
    """One image (H, W, C) of any type; the last of two or four channels is alpha."""
    content = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if pixels.dtype == np.uint8:
        Image.fromarray(content).save(path.with_suffix(".png"))
    elif pixels.dtype == np.uint16:
        path.with_suffix(".png").write_bytes(png16(pixels))
    else:
        extra = {"extrasamples": ["unassalpha"]} if pixels.shape[2] in (2, 4) else {}
        ink = "rgb" if pixels.shape[2] > 2 else "minisblack"
        planar = {"planarconfig": "contig"} if pixels.shape[2] > 1 else {}
        tifffile.imwrite(path.with_suffix(".tif"), content, photometric=ink, metadata=None, **extra, **planar)


SHAPES = [(40, 60), (60, 40), (9, 11), (1, 1), (1, 1000), (1000, 1), (12, 20)]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_every_size_and_fit(tmp_path, dtype, shape, fit):
    pixels = drawn(dtype, *shape, 3)
    if dtype == "float32":
        pixels = pixels * 5 - 2
    if dtype == "uint8":  # whose overshoot Pillow cuts after each direction: none here
        pixels = 90 + pixels // 4
    save(tmp_path / "x", pixels)
    made = opened(tmp_path, size="20x12", fit=fit)
    assert made.shape == (12, 20, 3)
    want = np.stack([resized(pixels[..., k], (12, 20), fit) for k in range(3)], -1)
    low, high = (pixels.min((0, 1)), pixels.max((0, 1))) if dtype == "float32" else (0, TOPS[dtype])
    want = want.clip(np.minimum(low, 0), np.maximum(high, 0)) if fit == "pad" else want.clip(low, high)
    close = {"uint8": 2.01, "uint16": 4, "float32": 6e-5}[dtype]  # Pillow rounds 8 bits twice, and boxes to float32
    assert abs(made - want).max() <= close
    if dtype == "float32" and fit != "pad":
        assert made.min() >= pixels.min()
        assert made.max() <= pixels.max()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_fine_pattern_becomes_grey_and_no_other_pattern(tmp_path, dtype):
    board = (np.indices((128, 192)).sum(0) % 2 * TOPS[dtype]).astype(dtype)[..., None]
    save(tmp_path / "x", board)
    made = opened(tmp_path, size="48x32") / TOPS[dtype]
    assert abs(made - 0.5).max() < 0.01


def test_a_photograph_read_at_a_fraction_of_its_size_is_near_the_whole(tmp_path, monkeypatch):
    y, x = np.mgrid[0:480, 0:640]
    scene = 110 + 60 * np.sin(x / 17) * np.cos(y / 23) + 40 * ((x // 53 + y // 41) % 2)
    scene += drawn("float32", 480, 640) * 30
    Image.fromarray(scene.clip(0, 255).astype(np.uint8)).save(tmp_path / "x.jpg", quality=92)
    calls = []
    shrink = picture._shrink
    monkeypatch.setattr(picture, "_shrink", lambda *given: (calls.append(given[0].size), shrink(*given)))
    with (tmp_path / "x.jpg").open("rb") as file:
        quick = opened(tmp_path / "x.jpg", size="48x36").astype(int)
        image = Image.open(file)
        picture.GAP, given = 1e9, picture.GAP
        try:
            whole = opened(tmp_path / "x.jpg", size="48x36").astype(int)
        finally:
            picture.GAP = given
        shrink(image, (36, 48), "crop")
        assert image.size == (160, 120), "at a quarter of its size"
    assert calls == [(640, 480)] * 2
    Image.open(tmp_path / "x.jpg").save(tmp_path / "turned.jpg", exif=exif(6))
    asked = []
    monkeypatch.setattr(picture, "_shrink", lambda _, *how: asked.append(how))
    opened(tmp_path / "turned.jpg", size="36x48")
    assert asked == [((36, 48), "crop")], "height and width as they are stored"
    assert 0 < abs(quick - whole).mean() < 1
    assert abs(quick - whole).max() < 20


# ---- alpha


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_alpha_by_arithmetic(tmp_path, dtype, channels):
    pixels, top = drawn(dtype, 40, 50, channels), TOPS[dtype]
    pixels[0, :5, -1] = 0
    pixels[1, :5, -1] = top
    save(tmp_path / "x", pixels)
    assert np.array_equal(opened(tmp_path, alpha="keep"), pixels), "also the colours of what is clear"
    assert np.array_equal(opened(tmp_path, alpha="drop"), pixels[..., :-1])
    opacity = pixels[..., -1:] / np.float64(top)
    want = pixels[..., :-1] * opacity + top * (1 - opacity)
    laid = opened(tmp_path)
    assert laid.dtype == dtype
    if dtype == "float32":
        assert abs(laid - want).max() < 1e-6
    else:
        assert abs(laid - want).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_no_colour_bleeds_out_of_what_is_clear(tmp_path, dtype, channels, fit):
    top = TOPS[dtype]
    pixels = np.zeros((60, 90, channels), dtype)
    pixels[..., 0] = top  # white, or red, under what is clear
    inside = np.hypot(*(np.indices((60, 90)) - np.array([30, 45])[:, None, None])) < 22
    pixels[inside, 0], pixels[inside, -1] = 0.25 * top, top
    save(tmp_path / "x", pixels)
    made = opened(tmp_path, size="20x12", fit=fit, alpha="keep").astype(np.float64)
    opacity = resized(pixels[..., -1] / top, (12, 20), fit).clip(0, 1)
    assert abs(made[..., -1] - opacity * top).max() <= {"uint8": 0.51, "uint16": 0.51, "float32": 1e-6}[dtype]
    seen = made[..., -1] > 0.02 * top
    assert seen.sum() > 20
    assert abs(made[..., 0][seen] / top - 0.25).max() < 0.01, "of one colour, whatever lies under what is clear"
    laid = opened(tmp_path, size="20x12", fit=fit).astype(np.float64)[..., 0] / top
    want = resized(np.where(inside, 0.25, 1.0), (12, 20), fit)
    want = want.clip(0 if fit == "pad" or dtype != "float32" else 0.25, 1)
    assert abs(laid - want).max() < (0.04 if dtype == "uint8" else 0.01)  # of 8 bits, overshoot is cut twice


# ---- sets of several kinds


def test_a_set_has_the_depth_of_its_deepest(tmp_path):
    eight, sixteen, floats = drawn("uint8", 5, 7, 1), drawn("uint16", 5, 7, 1), drawn("float32", 5, 7, 1)
    (tmp_path / "ab").mkdir()
    save(tmp_path / "ab" / "a", eight)
    save(tmp_path / "ab" / "b", sixteen)
    rows = open_data(tmp_path / "ab").arrays["real"]
    assert rows.dtype == np.uint16
    assert np.array_equal(rows[:, 0], np.stack([eight[..., 0] * np.uint16(257), sixteen[..., 0]]))
    assert np.array_equal(open_data(tmp_path / "ab", bits="8").arrays["real"][1, 0], np.rint(sixteen[..., 0] / 257))
    save(tmp_path / "ab" / "c", floats)
    rows = open_data(tmp_path / "ab").arrays["real"]
    assert rows.dtype == np.float32
    assert np.array_equal(rows[:, 0], np.float32([eight[..., 0] / 255, sixteen[..., 0] / 65_535, floats[..., 0]]))
    rows = open_data(tmp_path / "ab", bits="8").arrays["real"]
    assert np.array_equal(rows[2, 0], np.rint(floats[..., 0].astype(float) * 255))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_set_of_grey_and_colours(tmp_path, dtype):
    grey, colours = drawn(dtype, 5, 7, 1), drawn(dtype, 5, 7, 3)
    save(tmp_path / "a", grey)
    save(tmp_path / "b", colours)
    rows = open_data(tmp_path).arrays["real"].transpose(0, 2, 3, 1)
    assert np.array_equal(rows, np.stack([grey.repeat(3, -1), colours]))
    assert rows.dtype == dtype
    rows = open_data(tmp_path, colour="grey").arrays["real"][:, 0]
    want = np.stack([grey[..., 0], colours.astype(float) @ (0.299, 0.587, 0.114)])
    assert abs(rows - want).max() <= (1e-4 if dtype == "float32" else 0.51 if dtype == "uint8" else 2)
    assert open_data(tmp_path / next(tmp_path.glob("a.*")).name, colour="rgb").spec.shape == (3, 5, 7)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_set_with_alpha_and_without(tmp_path, dtype):
    plain, clear = drawn(dtype, 5, 7, 3), drawn(dtype, 5, 7, 2)
    save(tmp_path / "a", plain)
    save(tmp_path / "b", clear)
    rows = open_data(tmp_path, alpha="keep").arrays["real"].transpose(0, 2, 3, 1)
    opaque = np.full((5, 7, 1), TOPS[dtype], dtype)
    assert np.array_equal(rows[0], np.concatenate([plain, opaque], -1))
    assert np.array_equal(rows[1], clear[..., [0, 0, 0, 1]])


def test_sets_of_other_numbers_of_bands_are_not_mixed(tmp_path):
    how = dict(photometric="minisblack", planarconfig="contig", metadata=None)
    for name, count in (("a", 5), ("b", 5)):
        tifffile.imwrite(tmp_path / f"{name}.tif", drawn("uint8", 6, 8, count), **how)
    assert open_data(tmp_path).spec.shape == (5, 6, 8)
    assert open_data(tmp_path, size=4).spec.shape == (5, 4, 4)
    refused(tmp_path, "5 bands are neither grey nor RGB", colour="rgb")
    tifffile.imwrite(tmp_path / "c.tif", drawn("uint8", 6, 8, 4), photometric="rgb", extrasamples=[0], metadata=None)
    refused(tmp_path, "mixes numbers of bands", "'a.tif' has 5", "'c.tif' has 4")


# ---- arrays


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ((3, 8, 9), (1, 8, 9)),
        ((3, 8, 32, 40), (8, 32, 40)),
        ((3, 32, 40, 8), (8, 32, 40)),
        ((3, 16, 32, 32), (16, 32, 32)),
        ((3, 2, 32, 40), (2, 32, 40)),
        ((3, 13, 64, 3), (3, 13, 64)),
        ((3, 3, 64, 12), (3, 64, 12)),
        ((3, 4, 6, 7), (4, 6, 7)),
    ],
)
def test_arrays_are_kept_as_they_are(tmp_path, dtype, shape, want):
    rows = drawn(dtype, *shape)
    np.save(tmp_path / "x.npy", rows)
    source = open_data(tmp_path / "x.npy")
    assert source.spec.shape == want
    given = rows.astype(np.float32) if dtype.startswith("f") else rows
    plain = given[:, None] if given.ndim == 3 else given if shape[1:] == want else np.moveaxis(given, 3, 1)
    assert source.arrays["real"].dtype == given.dtype
    assert np.array_equal(source.arrays["real"], plain)


@pytest.mark.parametrize("shape", [(3, 8, 9, 5), (3, 17, 32, 32), (3, 3, 40, 3)])
def test_arrays_whose_channels_could_be_either_axis_are_refused(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint16))
    refused(tmp_path / "x.npy", "axis 1", "axis 3", str(shape), "(N, C, H, W)")


def test_arrays_of_the_other_byte_order(tmp_path):
    rows = drawn("uint16", 3, 8, 9)
    np.save(tmp_path / "x.npy", rows.astype(">u2"))
    assert np.array_equal(open_data(tmp_path / "x.npy").arrays["real"][:, 0], rows)
    assert open_data(tmp_path / "x.npy").arrays["real"].dtype.isnative


def test_arrays_take_the_form_that_is_asked_for(tmp_path):
    rows = drawn("uint16", 3, 3, 24, 32)
    np.save(tmp_path / "x.npy", rows)
    assert np.array_equal(open_data(tmp_path / "x.npy", bits="8").arrays["real"], np.rint(rows / 257))
    made = open_data(tmp_path / "x.npy", size="16x12", colour="grey")
    assert made.spec.shape == (1, 12, 16)
    grey = np.einsum("nchw,c->nhw", rows.astype(float), (0.299, 0.587, 0.114))
    want = np.stack([resized(band, (12, 16), "crop") for band in grey])
    assert abs(made.arrays["real"][:, 0] - want).max() < 3
    deeper = open_data(tmp_path / "x.npy", size="16x12", bits="8").arrays["real"]
    want = np.stack([[resized(band, (12, 16), "crop") for band in row] for row in rows]).clip(0, 65_535)
    assert abs(deeper - want / 257).max() < 0.51
    np.save(tmp_path / "x.npy", drawn("float32", 3, 5, 24, 32))
    refused(tmp_path / "x.npy", "5 bands are neither grey nor RGB", colour="grey")
    grey = drawn("uint8", 3, 8, 9)
    np.save(tmp_path / "x.npy", grey)
    source = open_data(tmp_path / "x.npy", colour="rgb")
    assert np.array_equal(source.arrays["real"], np.stack([grey] * 3, 1))
    assert source.spec.shape == (3, 8, 9)
    assert open_data(tmp_path / "x.npy").sealed == "" != open_data(tmp_path / "x.npy", colour="rgb").fingerprint
