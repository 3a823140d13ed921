"""Bad folders of images: FAULTS 14 to 16. One line names the file; nothing outside the root is touched."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from elegan.data.sources import open_data
from elegan.errors import DataError


def paint(path: Path, level: int = 128, size: tuple[int, int] = (6, 5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).save(path)
    return path


def many(folder: Path, count: int) -> None:
    for i in range(count):
        paint(folder / f"good-{i:02}.png", i)


def refused(path, *words: str, **options) -> str:
    """The one line that opening raises; it holds all the words."""
    with pytest.raises(DataError) as caught:
        open_data(path, **options)
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line
    return line


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, body: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


# ---- 14: damaged files

NOISE = np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)


def damage(kind: str, path: Path) -> None:
    if kind == "zero-byte":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no image\n" * 50)
    elif kind == "foreign":  # a format that is not on the list, whatever it is called
        Image.fromarray(NOISE).save(path, format="PPM")
    elif kind == "bomb":
        path.write_bytes(png(30_000, 30_000, 8, 0, bytes(1000)))
    elif kind == "large":  # within Pillow's own limit
        path.write_bytes(png(8_800, 8_800, 1, 0, bytes(1000)))
    else:
        Image.fromarray(NOISE).save(path, format="PNG" if kind == "truncated-png" else "JPEG")
        path.write_bytes(path.read_bytes()[:-200])


KINDS = ["zero-byte", "text", "foreign", "bomb", "large", "truncated-png", "truncated-jpeg"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_bad_file_is_left_out_and_named(tmp_path, kind):
    many(tmp_path, 5)
    damage(kind, tmp_path / "bad.png")
    with pytest.warns(UserWarning, match=r"left out: 1 of 6 images cannot be read, the first is 'bad.png' \(") as told:
        source = open_data(tmp_path)
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    assert source.arrays["real"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_nothing_but_a_bad_file_is_refused(tmp_path, kind):
    damage(kind, tmp_path / "bad.png")
    refused(tmp_path, "1 of 1 image cannot be read", "'bad.png'", "mend or remove")


@pytest.mark.parametrize(("good", "bad", "taken"), [(18, 2, True), (17, 2, False), (1, 1, True), (2, 2, False)])
def test_up_to_a_tenth_may_be_bad_and_always_one(tmp_path, good, bad, taken):
    many(tmp_path, good)
    for i in range(bad):
        (tmp_path / f"bad-{i}.png").write_bytes(b"")
    if taken:
        with pytest.warns(UserWarning, match=f"{bad} of {good + bad}"):
            assert len(open_data(tmp_path)) == good
    else:
        refused(tmp_path, f"{bad} of {good + bad} images", "'bad-0.png'", "the file is empty")


@pytest.mark.parametrize(("kind", "words"), [("bomb", "exceeds limit"), ("large", "8800x8800 is more than 67,108,864")])
def test_a_bomb_is_refused_by_its_header(tmp_path, kind, words, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("it was decoded"))
    damage(kind, tmp_path / "bad.png")
    refused(tmp_path, words)


# ---- 15: every kind of image

UPRIGHT = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
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


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("end", ["png", "tif"])
def test_orientations_come_upright(tmp_path, orientation, end):
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"x.{end}", exif=exif)
    assert np.array_equal(open_data(tmp_path).arrays["real"][0, 0], UPRIGHT)


def only(tmp_path: Path, **options) -> np.ndarray:
    """The one image of a folder as (H, W) or (H, W, C)."""
    rows = open_data(tmp_path, **options).arrays["real"]
    assert len(rows) == 1
    return rows[0, 0] if rows.shape[1] == 1 else rows[0].transpose(1, 2, 0)


@pytest.mark.parametrize("end", ["png", "tif"])
def test_sixteen_bits_are_kept_or_divided_never_clipped(tmp_path, end):
    values = (np.arange(256, dtype=np.uint32) * 257).reshape(16, 16).astype(np.uint16)
    values[0, 0] = 3
    Image.fromarray(values).save(tmp_path / f"x.{end}")
    kept = only(tmp_path)
    assert kept.dtype == np.uint16
    assert np.array_equal(kept, values)
    assert np.array_equal(only(tmp_path, bits="8"), np.arange(256).reshape(16, 16))


def test_float_images_have_a_range_or_are_refused(tmp_path):
    path = tmp_path / "x.tif"
    Image.fromarray(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)).save(path)
    assert np.array_equal(only(tmp_path, bits="8"), np.arange(256).reshape(16, 16))
    for values in ([[0.0, 1.5]], [[-0.1, 1.0]], [[0.5, np.nan]]):
        Image.fromarray(np.array(values, np.float32)).save(path)
        refused(tmp_path, "float pixels must lie in [0, 1]", bits="8")
        if np.isfinite(values).all():
            assert np.array_equal(only(tmp_path), np.array(values, np.float32))
    refused(tmp_path, "not finite")
    Image.fromarray(np.array([[0, 70_000]], np.int32)).save(path)
    refused(tmp_path, "no stated range")


def test_one_bit_is_black_and_white(tmp_path):
    bits = np.array([[0, 1, 1], [1, 0, 0]], bool)
    Image.fromarray(bits).save(tmp_path / "x.png")
    assert np.array_equal(only(tmp_path), bits * 255)


def test_few_bits_fill_the_range(tmp_path):
    (tmp_path / "x.png").write_bytes(png(4, 1, 2, 0, b"\0" + bytes([0b00011011])))
    assert only(tmp_path).tolist() == [[0, 85, 170, 255]]


def test_palettes_become_their_colours(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "x.png")
    assert only(tmp_path).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    image.save(tmp_path / "x.png", transparency=0)
    assert only(tmp_path).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "x.tif")
    assert only(tmp_path)[0, 0].tolist() == [255, 0, 0]
    (tmp_path / "x.tif").unlink()
    Image.new("CMYK", (8, 8), (255, 0, 255, 0)).save(tmp_path / "x.jpg", quality=95)
    assert only(tmp_path)[0, 0] == pytest.approx([0, 255, 0], abs=3)


def test_alpha_is_laid_on_white(tmp_path):
    Image.fromarray(np.array([[[100, 255], [100, 0], [0, 51]]], np.uint8)).save(tmp_path / "x.png")  # LA
    assert only(tmp_path).tolist() == [[100, 255, 204]]
    rgba = [[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 255, 51]]]
    Image.fromarray(np.array(rgba, np.uint8)).save(tmp_path / "x.png")
    assert only(tmp_path).tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 255]]]
    Image.fromarray(np.array([[7, 9]], np.uint8)).save(tmp_path / "x.png", transparency=7)  # grey with a clear level
    assert only(tmp_path).tolist() == [[255, 9]]


# ---- 16: sizes, names, links


def test_mixed_sizes_name_two_files_and_the_remedy(tmp_path):
    paint(tmp_path / "a.png", size=(64, 48))
    paint(tmp_path / "b.png", size=(64, 48))
    paint(tmp_path / "c.png", size=(32, 48))
    refused(tmp_path, "'a.png' is 64x48", "'c.png' is 32x48", "--size 64")
    assert open_data(tmp_path, size=16).arrays["real"].shape == (3, 1, 16, 16)


def test_odd_names(tmp_path):
    names = ["new\nline", "emoji 🎨", "x" * 246, "-rf", "quote'\"", "perçent %s {0}"]
    names.append(os.fsdecode(b"not-utf8-\xff"))
    for i, name in enumerate(names):
        paint(tmp_path / f"{name}.png", i)
    assert len(open_data(tmp_path)) == len(names)
    for name in names:
        (tmp_path / f"{name}.png").write_bytes(b"")
    refused(tmp_path, "7 of 7").encode()  # fit to be written down
    for name in names:
        (tmp_path / f"{name}.png").unlink()
    paint(tmp_path / "new\nline.png", size=(9, 9))
    paint(tmp_path / "z.png")
    refused(tmp_path, "new\\nline.png", "--size 64")


def test_odd_class_names(tmp_path):
    for name in ("a\nb", "🎨", "ü" * 120):
        paint(tmp_path / name / "x.png")
    assert set(open_data(tmp_path).spec["label"].names) == {"a\nb", "🎨", "ü" * 120}


def test_links_out_of_the_root_are_told_and_not_followed(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    paint(outside / "secret.png", 66)
    paint(root / "mine.png", 1)
    (root / "out.png").symlink_to(outside / "secret.png")
    (root / "up").symlink_to(outside)
    (root / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (root / "inside.png").symlink_to(root / "mine.png")
    beside = tmp_path / "root-beside"
    (root / "near.png").symlink_to(paint(beside / "near.png", 77))
    with pytest.warns(UserWarning, match="not followed: 4 links"):
        source = open_data(root)
    assert source.arrays["real"][:, 0, 0, 0].tolist() == [1, 1]
    (root / "mine.png").unlink()
    refused(root, "holds no images", "links that lead out of it", "copy the files in")


def test_links_in_a_loop_end(tmp_path):
    paint(tmp_path / "mine.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    with pytest.warns(UserWarning, match="not followed"):
        assert len(open_data(tmp_path)) == 1


def test_a_link_to_the_root_is_fine(tmp_path):
    paint(tmp_path / "data" / "x.png")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert len(open_data(tmp_path / "link")) == 1


def test_a_pipe_named_png_does_not_hang(tmp_path):
    paint(tmp_path / "x.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert len(open_data(tmp_path)) == 1


def test_duplicates_are_kept(tmp_path):
    paint(tmp_path / "x.png", 5)
    paint(tmp_path / "y.png", 5)
    assert len(open_data(tmp_path)) == 2


# ---- 14 and 15: broken and hostile files of every format, read by a process that has little memory

FLOATS = np.linspace(0, 1, 40 * 40 * 3, dtype=np.float32).reshape(40, 40, 3)
DEEP = NOISE.astype(np.uint16) * 257


def by_pillow(form: str, **how) -> bytes:
    body = io.BytesIO()
    Image.fromarray(NOISE).save(body, form, **how)
    return body.getvalue()


def by_tifffile(pixels: np.ndarray, **how) -> bytes:
    body = io.BytesIO()
    tifffile.imwrite(body, pixels, metadata=None, **{"photometric": "rgb", **how})
    return body.getvalue()


WHOLE: dict[str, Callable[[], bytes]] = {
    "a.png": lambda: by_pillow("PNG"),
    "b.jpg": lambda: by_pillow("JPEG"),
    "c.jpg": lambda: by_pillow("JPEG", progressive=True),
    "d.webp": lambda: by_pillow("WEBP", lossless=True),
    "e.bmp": lambda: by_pillow("BMP"),
    "f.gif": lambda: by_pillow("GIF"),
    "g.tif": lambda: by_pillow("TIFF"),
    "h.tif": lambda: by_pillow("TIFF", compression="tiff_adobe_deflate"),
    "deep.png": lambda: imagecodecs.png_encode(DEEP),
    "i.tif": lambda: by_tifffile(DEEP),
    "j.tif": lambda: by_tifffile(FLOATS, compression="zlib"),
    "k.tif": lambda: by_tifffile(np.tile(NOISE, 2)[..., :5], photometric="minisblack", planarconfig="contig"),
}


def page(
    width: int = 8, height: int = 8, samples: int = 3, bits: int = 16, *, kind: int = 1, strip: bytes = b"",
    first: int = 0, following: int = 0, also: tuple[tuple[int, int, int, int], ...] = (),
) -> bytes:  # fmt: skip
    """A TIFF of one deflated strip, whatever its tags say. first, following: where its pages are said to lie, if not
    where they do. also: tags of its own, as (number, type, count, value)."""
    blob = struct.pack(f"<{2 * samples}H", *[bits] * samples, *[kind] * samples) + strip
    written = (
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, samples, 8), (259, 3, 1, 8), (262, 3, 1, 2),
        (273, 4, 1, 8 + 4 * samples), (277, 3, 1, samples), (278, 4, 1, height), (279, 4, 1, len(strip)),
        (339, 3, samples, 8 + 2 * samples), *also,
    )  # fmt: skip
    entries = {entry[0]: entry for entry in written}.values()
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    start = first or 8 + len(blob)
    return (
        b"II*\0"
        + struct.pack("<I", start)
        + blob
        + struct.pack("<H", len(entries))
        + directory
        + struct.pack("<I", following)
    )


def patched(content: bytes, place: int, with_: bytes) -> bytes:
    return content[:place] + with_ + content[place + len(with_) :]


def zeros(size: int) -> bytes:
    """So many zeros, deflated; the sum at the end is left out."""
    packer = zlib.compressobj(9)
    head = packer.flush(zlib.Z_FULL_FLUSH) + packer.compress(b"")
    once = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + once * (size >> 20) + packer.flush()


def of_chunks(*chunks: bytes, head: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IEND", b"")


@cache
def hostile() -> dict[str, tuple[bytes, str]]:
    """Files, and a word of the reason each must be given; "" where it may be read, or refused for any reason."""
    eight, sixteen = (struct.pack(">IIBBBBB", 8, 8, depth, 2, 0, 0, 0) for depth in (8, 16))
    body, deep = (chunk(b"IDAT", zlib.compress(bytes(size))) for size in (8 * 25, 8 * 49))
    bomb = zeros(1 << 30)
    jpeg, gif, bmp = (by_pillow(form) for form in ("JPEG", "GIF", "BMP"))
    webp = by_pillow("WEBP", lossless=True)
    frame = jpeg.index(b"\xff\xc0") + 5
    made = {
        "png-crc.png": (patched(of_chunks(body, head=eight), 29, b"\0\0\0\0"), ""),
        "png-depth.png": (of_chunks(body, head=struct.pack(">IIBBBBB", 8, 8, 3, 2, 0, 0, 0)), "no image"),
        "png-colour.png": (of_chunks(body, head=struct.pack(">IIBBBBB", 8, 8, 8, 7, 0, 0, 0)), "no image"),
        "png-empty.png": (of_chunks(body, head=struct.pack(">IIBBBBB", 0, 8, 8, 2, 0, 0, 0)), ""),
        "png-large.png": (of_chunks(body, head=struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)), "bomb"),
        "png-wide.png": (of_chunks(body, head=struct.pack(">IIBBBBB", 1 << 31, 8, 16, 2, 0, 0, 0)), ""),
        "png-deep-large.png": (of_chunks(deep, head=struct.pack(">IIBBBBB", 9_000, 9_000, 16, 2, 0, 0, 0)), "pixels"),
        "png-text-bomb.png": (of_chunks(chunk(b"zTXt", b"a\0\0" + bomb), body, head=eight), "MAX_TEXT_CHUNK"),
        "png-icc-bomb.png": (of_chunks(chunk(b"iCCP", b"a\0\0" + bomb), body, head=eight), ""),
        "png-deep-text-bomb.png": (of_chunks(chunk(b"zTXt", b"a\0\0" + bomb), deep, head=sixteen), "MAX_TEXT_CHUNK"),
        "png-deep-late-bomb.png": (of_chunks(deep, chunk(b"zTXt", b"a\0\0" + bomb), head=sixteen), ""),
        "png-pixel-bomb.png": (of_chunks(chunk(b"IDAT", bomb), head=eight), ""),
        "png-deep-pixel-bomb.png": (of_chunks(chunk(b"IDAT", bomb), head=sixteen), ""),
        "png-exif.png": (of_chunks(chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"), body, head=eight), ""),
        "png-long-chunk.png": (of_chunks(head=eight)[:33] + b"\x7f\xff\xff\xffeXIf", ""),
        "png-frames.png": (of_chunks(chunk(b"acTL", b"\xff" * 8), body, head=eight), ""),
        "jpeg-large.jpg": (patched(jpeg, frame, b"\xff\x00\xff\x00"), "bomb"),
        "jpeg-empty.jpg": (patched(jpeg, frame, b"\0\0\0\0"), ""),
        "webp-large.webp": (patched(webp, 21, b"\xff\xff\xff\x0f"), ""),
        "gif-large.gif": (patched(gif, 6, b"\xff\xff\xff\xff"), "bomb"),
        "gif-empty.gif": (patched(gif, 6, b"\0\0\0\0"), ""),
        "bmp-large.bmp": (patched(bmp, 18, struct.pack("<II", 60_000, 60_000)), "bomb"),
        "bmp-empty.bmp": (patched(bmp, 18, struct.pack("<II", 0, 0)), ""),
        "tiff-good.tif": (page(strip=zlib.compress(bytes(8 * 8 * 6))), "read"),
        "tiff-large.tif": (page(60_000, 60_000, strip=b""), "more than 67,108,864 pixels"),
        "tiff-bands.tif": (page(8_000, 8_000, 60), "60 bands is more than"),
        "tiff-empty.tif": (page(0, 8), "no image"),
        "tiff-strip-bomb.tif": (page(strip=bomb), ""),
        "tiff-float-strip-bomb.tif": (page(bits=32, kind=3, strip=bomb), ""),
        "tiff-no-strip.tif": (page(), "are missing"),
        "tiff-cycle.tif": (page(following=8 + 12 + 30, strip=zlib.compress(bytes(384))), ""),
        "tiff-page-nowhere.tif": (page(first=1 << 31), ""),
        "tiff-page-in-header.tif": (page(first=2), ""),
        "tiff-huge-tag.tif": (page(also=((700, 1, 0xFFFFFFFF, 8),)), ""),
        "tiff-huge-bits.tif": (page(also=((258, 3, 0x7FFFFFFF, 8),)), ""),
        "tiff-many-samples.tif": (page(also=((277, 3, 1, 65_535),)), "tags are damaged"),
        "tiff-textual-width.tif": (page(also=((256, 2, 4, 0x41414141),)), "its tags are damaged"),
        "tiff-depths.tif": (page(bits=24), "24-bit integers"),
        "tiff-complex.tif": (page(bits=64, kind=6), "complex numbers"),
        "tiff-nan.tif": (by_tifffile(np.full((4, 4, 3), np.nan, "f4")), "not finite"),
        "tiff-inf.tif": (by_tifffile(np.full((4, 4, 3), -np.inf, "f8")), "not finite"),
        "tiff-no-tags.tif": (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "its tags are damaged"),
        "bigtiff-nowhere.tif": (b"II+\0\x08\0\0\0" + b"\xff" * 8, ""),
        "text.tif": (b"II*\0this is no image, whatever it begins with", ""),
    }  # fmt: skip
    for name, whole in WHOLE.items():
        content = whole()
        made |= {f"cut-{k}-{name}": (content[: len(content) * k // 10], "left out") for k in range(10)}
        made[f"whole-{name}"] = (content, "read")
    return made


CHILD = """
import json, resource, sys, warnings
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))
warnings.simplefilter("ignore")
from elegan.data.sources import open_data
from elegan.errors import DataError
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        said = "read " + str(open_data(path).spec.shape)
    except DataError as error:
        said = "left out: " + str(error)
    print(json.dumps([path.name, said]), flush=True)
most = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]  # its own: ru_maxrss counts its parent's
print(json.dumps(["", int(most) // 1024]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, str]:
    """What a process with 1.5 GiB of address space and a minute says of each file."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, (content, _) in hostile().items():
        (folder / name).write_bytes(content)
    done = subprocess.run([sys.executable, "-c", CHILD, folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    for noise in ("Traceback", "TiffTag", "TiffPage"):  # two libraries in C may say a word of their own
        assert noise not in done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


def test_hostile_files_are_named_with_their_reason(answers):
    expected = {name: word for name, (_, word) in hostile().items()}
    assert expected.keys() == answers.keys() - {""}
    for name, word in expected.items():
        said = answers[name]
        assert word in said, f"{name}: {said}"
        assert "\n" not in said
        if not said.startswith("read"):
            assert f"{name!r} (" in said, said
            assert len(said.split("(", 1)[1]) > 8, said


def test_hostile_files_take_little_memory(answers):
    assert answers[""] < 900  # MiB, at the most, of 1.5 GiB
