"""Broken, hostile and odd data, each kind with how it is made and what must be said of it: pictures, names, trees.

A maker fills an empty folder, and returns what to open if that is not the folder. Beside a bad file there are five good
ones, of which none may be lost. `outside(root)` is where a secret picture lies that must never come in.
"""

import io
import json
import os
import re
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.faults.warm import SECRET

NOISE = np.random.default_rng(0).integers(0, 200, (24, 32, 3), dtype=np.uint8)
ROWS = np.stack([np.roll(NOISE[..., 0], k) for k in range(6)])  # (6, 24, 32)
Maker = Callable[[Path], Path | None]


@dataclass(frozen=True)
class Kind:
    """One kind of data. rows: how many samples are read, None if all are refused. says: what stderr says, as a regular
    expression; nothing if nothing is said. options: of `open_data`. limits: bounds made small, so that a bomb may be.
    """

    make: Maker
    rows: int | None
    says: str
    options: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)


class Trap:
    """Unpickling it makes a file in the current folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


KINDS: dict[str, Kind] = {}


def kind(*, rows: int | None, says: str, limits: Mapping[str, int] = {}, **options: Any) -> Callable[[Maker], Maker]:
    """Add a kind by its maker; it is called as that is."""

    def keep(make: Maker) -> Maker:
        add(make.__name__.replace("_", " "), Kind(make, rows, says, options, limits))
        return make

    return keep


def add(name: str, made: Kind) -> None:
    assert name not in KINDS
    KINDS[name] = made


def outside(root: Path) -> Path:
    """A picture beside the root, that is never to be read."""
    path = root.parent / "outside" / "secret.png"
    if not path.exists():
        path.parent.mkdir()
        Image.new("RGB", (32, 24), (SECRET,) * 3).save(path)
    return path


def one_file(file: str, body: bytes) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        (root / file).write_bytes(body)
        return root / file

    return make


def png(level: int = 0, size: tuple[int, int] = (32, 24), form: str = "PNG", **how: Any) -> bytes:
    """A picture with something in it."""
    file = io.BytesIO()
    Image.fromarray(np.roll(NOISE, level, 1)).resize(size).save(file, form, **how)
    return file.getvalue()


def good(folder: Path, count: int = 5, ends: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        (folder / f"good-{k}{ends}").write_bytes(png(k))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def raw_png(
    width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 0, body: bytes = bytes(999)
) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def tiff(*tags: tuple[int, int, int, int], after: int = 0, body: bytes = bytes(16)) -> bytes:
    """A little-endian TIFF of one page. tags: number, type, count, value. after: where the next page lies."""
    page = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8) + page + struct.pack("<I", after) + body


def plain_tags(width: int, height: int, at: int = 200, count: int = 16) -> list[tuple[int, int, int, int]]:
    return [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, at),
        (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, count),
    ]  # fmt: skip


def bmp(width: int, height: int, packing: int = 0) -> bytes:
    """The head of a BMP, without pixels."""
    page = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, packing, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 99, 0, 0, 54) + page


def saved(pixels: np.ndarray | Image.Image, form: str, **how: Any) -> bytes:
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, form, **how)
    return file.getvalue()


def turned(level: int, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return png(level, exif=exif)


# ---- one bad file beside five good ones: name, content, reason

END = chunk(b"IEND", b"")
JPEG = png(form="JPEG")
AT = JPEG.index(b"\xff\xc0") + 5  # where its height and width stand
MEGABYTES = zlib.compress(bytes(8 << 20), 9)
ICC = chunk(b"iCCP", b"x\0\0" + MEGABYTES)
WEBP = (
    b"RIFF"
    + struct.pack("<I", 30)
    + b"WEBPVP8X"
    + struct.pack("<I", 10)
    + b"\0\0\0\0\xff\x3f\x00\xff\x3f\x00"
    + bytes(8)
)
BAD: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("bad.png", b"", "the file is empty"),
    "one byte": ("bad.png", b"\x89", "no image of a known format"),
    "text called png": ("bad.png", b"this is no picture\n" * 99, "no image of a known format"),
    "html called jpg": ("bad.jpg", b"<!DOCTYPE html><title>404</title>", "no image of a known format"),
    "a program called png": ("bad.png", b"\x7fELF\2\1\1" + bytes(999), "no image of a known format"),
    "a script called png": ("bad.png", b"#!/bin/sh\ntouch ran\n", "no image of a known format"),
    "postscript called png": ("bad.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of a known"),
    "svg called png": ("bad.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no image of a known format"),
    "a pickle called png": ("bad.png", b"cposix\nsystem\n(S'touch ran'\ntR.", "no image of a known format"),
    "a foreign format": ("bad.png", saved(NOISE, "PPM"), "no image of a known format"),
    "a png's signature": ("bad.png", png()[:8], "no image of a known"),
    "a png of no width": ("bad.png", raw_png(0, 24), "no image of a known"),
    "a png of 2^31 pixels a side": ("bad.png", raw_png(2**31 - 1, 2**31 - 1), "pixels"),
    "a png bomb": ("bad.png", raw_png(30_000, 30_000), "pixels"),
    "a smaller png bomb": ("bad.png", raw_png(8_800, 8_800, depth=1), "more than 67,108,864 pixels"),
    "a png with a damaged head": ("bad.png", png()[:20] + b"\xff" + png()[21:], "no image of a known"),
    "a png without pixels": ("bad.png", raw_png(32, 24).split(b"IDAT")[0][:-4] + END, "cannot load"),
    "a png with a flipped bit": ("bad.png", png()[:400] + bytes([png()[400] ^ 4]) + png()[401:], "broken data stream"),
    "a png's text bomb": ("bad.png", raw_png(32, 24, chunk(b"zTXt", b"x\0\0" + MEGABYTES)), "too large"),
    "a colour profile that is a bomb": ("bad.png", raw_png(32, 24, ICC, body=bytes(33 * 24)), "too large"),
    "a tiff bomb": ("bad.tif", tiff(*plain_tags(100_000, 100_000)), "pixels"),
    "a tiff with pixels elsewhere": ("bad.tif", tiff(*plain_tags(32, 24, at=2**31)), "truncated"),
    "a tiff of many tags": ("bad.tif", b"II*\0\x08\0\0\0\xff\xff" + bytes(64), "its tags are damaged"),
    "a tiff of huge tags": ("bad.tif", tiff(*plain_tags(32, 24)[:2], (258, 3, 2**31, 8)), "no image of a known"),
    "a tiff's page elsewhere": ("bad.tif", b"II*\0\xff\xff\xff\xff", "its tags are damaged"),
    "a tiff of not a number": ("bad.tif", saved(np.full((24, 32), np.nan, np.float32), "TIFF"), "not finite"),
    "a gif bomb": ("bad.gif", b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x4c\x01\0;", "pixels"),
    "a webp bomb": ("bad.webp", WEBP, "268435456 pixels"),
    "a jpeg bomb": ("bad.jpg", JPEG[:AT] + b"\xff\xdc\xff\xdc" + JPEG[AT + 4 :], "pixels"),
    "a bmp bomb": ("bad.bmp", bmp(60_000, 60_000), "pixels"),
    "a bmp of unknown packing": ("bad.bmp", bmp(32, 24, packing=9), "Unsupported BMP compression"),
}  # fmt: skip
for _name, (_file, _body, _reason) in BAD.items():

    def _one_bad(root: Path, file: str = _file, body: bytes = _body) -> None:
        good(root)
        (root / file).write_bytes(body)

    add(_name, Kind(_one_bad, 5, rf"left out: 1 of 6 images cannot be read, the first is '{_file}' \(.*{_reason}"))

# ---- odd files that are read like any other

ODD: dict[str, tuple[str, bytes]] = {
    "a jpeg called png": ("odd.png", png(form="JPEG")),
    "a tiff whose next page is itself": ("odd.tif", tiff(*plain_tags(32, 24, count=768), after=8, body=bytes(1200))),
    "cmyk": ("odd.jpg", saved(Image.fromarray(NOISE).convert("CMYK"), "JPEG")),
    "grey and alpha": ("odd.png", saved(NOISE[..., :2], "PNG")),
    "palette with a clear colour": ("odd.png", saved(Image.fromarray(NOISE).quantize(9), "PNG", transparency=3)),
    "one bit": ("odd.png", saved(NOISE[..., 0] > 99, "PNG")),
    "sixteen bits": ("odd.png", saved(NOISE[..., 0].astype(np.uint16) * 257, "PNG")),
    "floats out of range": ("odd.tif", saved(NOISE[..., 0].astype(np.float32) * 9e9, "TIFF")),
    "upside down": ("odd.png", turned(0, 3)),
    "orientation 99": ("odd.png", turned(0, 99)),
    "damaged exif": ("odd.png", raw_png(32, 24, chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"), body=bytes(33 * 24))),
    "an upper-case suffix": ("ODD.PNG", png()),
    "two suffixes": ("odd.txt.png", png()),
    "bytes after the end": ("odd.png", png() + b"PK\3\4 and more"),
}  # fmt: skip
for _name, (_file, _body) in ODD.items():

    def _one_odd(root: Path, file: str = _file, body: bytes = _body) -> None:
        good(root)
        (root / file).write_bytes(body)

    add(_name, Kind(_one_odd, 6, ""))

# ---- names: a bad file each, so that its name is said, with nothing in it that a terminal would obey

NAMES: dict[str, tuple[bytes, str]] = {
    "a name of two lines": (b"bad\nelegan: all is well.png", r"'bad\nelegan: all is well.png'"),
    "a name that clears the screen": (b"\x1b[2J\x1b]0;x\x07.png", r"'\x1b[2J\x1b]0;x\x07.png'"),
    "a name of other controls": (b"\x7f\xc2\x9b31m\r\x08.png", r"'\x7f\x9b31m\r\x08.png'"),
    "a name from right to left": ("bad\u202egnp.exe.png".encode(), r"'bad\u202egnp.exe.png'"),
    "a name of 255 bytes": (b"n" * 251 + b".png", f"'{'n' * 251}.png'"),
    "a name that is no utf-8": (b"bad-\xff\xfe.png", r"'bad-\udcff\udcfe.png'"),
    "a name with emoji": ("🎨 bäd 图.png".encode(), "'🎨 bäd 图.png'"),
    "a name of quotes": (b"'\"`$(touch ran);&.png", r"""'\'"`$(touch ran);&.png'"""),
    "a name like a flag": (b"--help.png", "'--help.png'"),
    "a name like a format": (b"{0}%s%n.png", "'{0}%s%n.png'"),
}
for _name, (_raw, _said) in NAMES.items():

    def _named(root: Path, raw: bytes = _raw) -> None:
        good(root)
        (root / os.fsdecode(raw)).write_bytes(b"")

    add(_name, Kind(_named, 5, rf"the first is {re.escape(_said)} \(the file is empty\)"))


# ---- trees


@kind(rows=None, says="root' holds no images")
def an_empty_folder(root: Path) -> None:
    pass


@kind(rows=None, says="root' holds no images")
def nothing_but_hidden_files(root: Path) -> None:
    for name in (".DS_Store", "._x.png", ".git/x.png", "__MACOSX/x.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(png())


@kind(rows=None, says="1 of 1 image cannot be read, the first is 'bad.png'")
def nothing_but_a_bad_file(root: Path) -> None:
    (root / "bad.png").write_bytes(b"")


@kind(rows=None, says="3 of 8 images cannot be read, the first is 'bad-0.png'")
def more_than_a_tenth_is_bad(root: Path) -> None:
    good(root)
    for k in range(3):
        (root / f"bad-{k}.png").write_bytes(b"")


@kind(rows=5, says="")
def a_folder_called_png(root: Path) -> None:
    good(root)
    (root / "x.png").mkdir()


@kind(rows=5, says="")
def a_pipe_and_a_socket(root: Path) -> None:
    good(root)
    os.mkfifo(root / "pipe.png")
    here = os.open(".", os.O_RDONLY)
    os.chdir(root)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket.png")
    os.fchdir(here)
    os.close(here)


@kind(rows=5, says="not followed: 2 links that lead out of it")
def links_to_devices(root: Path) -> None:
    good(root)
    (root / "zero.png").symlink_to("/dev/zero")
    (root / "random.png").symlink_to("/dev/random")


@kind(rows=5, says="not followed: 5 links that lead out of it")
def links_out(root: Path) -> None:
    good(root)
    secret = outside(root)
    (root / "out.png").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    (root / "up.png").symlink_to("../outside/secret.png")
    (root / "twice.png").symlink_to("out.png")
    (root / "broken.png").symlink_to("nowhere.png")


@kind(rows=5, says="not followed: 4 links")
def links_in_a_loop(root: Path) -> None:
    good(root)
    for one, other in (("a.png", "b.png"), ("b.png", "a.png"), ("self.png", "self.png"), ("loop", ".")):
        (root / one).symlink_to(other)


@kind(rows=5, says="")
def folders_200_deep(root: Path) -> None:
    good(root.joinpath(*("d" * 200)))


@kind(rows=5, says=r"/in\\x1b\[2J\\nelegan: all is well': left out: 1 of 6")
def a_root_that_clears_the_screen(root: Path) -> Path:
    path = root / "in\x1b[2J\nelegan: all is well"
    good(path)
    (path / "bad.png").write_bytes(b"")
    return path


if os.geteuid():  # the superuser may read everything

    @kind(rows=5, says=r"the first is 'bad.png' \(.*Permission denied")
    def a_file_that_may_not_be_read(root: Path) -> None:
        good(root)
        (root / "bad.png").write_bytes(png())
        (root / "bad.png").chmod(0)

    @kind(rows=None, says="cannot be read: Permission denied")
    def a_folder_that_may_not_be_listed(root: Path) -> None:
        good(root)
        (root / "shut").mkdir(mode=0)


@kind(rows=None, says=r"class folder 'emu' of .* holds no images: fill it")
def an_empty_class(root: Path) -> None:
    good(root / "cat")
    good(root / "dog")
    (root / "emu").mkdir()


@kind(rows=None, says="class folder 'emu' holds no readable image")
def a_class_that_cannot_be_read(root: Path) -> None:
    good(root / "cat")
    good(root / "dog")
    (root / "emu").mkdir()
    (root / "emu" / "bad.png").write_bytes(b"")


@kind(rows=None, says="class folder 'dog' is not in every split")
def a_class_missing_from_a_split(root: Path) -> None:
    for folder in ("train/cat", "train/dog", "train/emu", "test/cat", "test/emu"):
        good(root / folder)


@kind(rows=10, says="")
def class_folders_with_odd_names(root: Path) -> None:
    good(root / "\x1b[2J\nelegan: all is well")
    good(root / os.fsdecode(b"\xff"))


@kind(rows=None, says="mixes sizes: 'good-0.png' is 32x24, 'other.png' is 24x32: use --size 64")
def mixed_sizes(root: Path) -> None:
    good(root)
    (root / "other.png").write_bytes(png(size=(24, 32)))


@kind(rows=None, says=r"'good-4' is not in both 'a' and 'b'")
def pairs_that_do_not_match(root: Path) -> None:
    good(root / "a")
    good(root / "b", 4)


@kind(rows=None, says="trainB' holds no images")
def a_domain_without_pictures(root: Path) -> None:
    good(root / "trainA")
    (root / "trainB").mkdir()
    (root / "trainB" / "notes.md").write_text("none yet")


@kind(rows=None, says="31 pixels are no two halves|cannot be read", sides=True)
def halves_of_odd_width(root: Path) -> None:
    (root / "x.png").write_bytes(png(size=(31, 24)))


@kind(rows=5, says="")
def images_beside_a_hostile_note_of_other_tools(root: Path) -> None:
    good(root)
    (root / "dataset_info.json").write_text("[" * 100_000)
    (root / "metadata.jsonl").write_bytes(b"\xff\0")


# ---- dataset.json

PATHS = [f"good-{k}.png" for k in range(5)]
NO_LIST = "'dataset.json' of .* is no list of labels"
LABELS: dict[str, tuple[bytes | Any, int | None, str]] = {
    "no json": (b"\xff\xfe{", None, NO_LIST),
    "an empty file": (b"", None, NO_LIST),
    "deep nesting": (b'{"labels": ' + b"[" * 200_000, None, NO_LIST),
    "a label of a billion digits": (b'{"labels": [["good-0.png", ' + b"9" * 1_000_000 + b"]]}", None, NO_LIST),
    "a list": ([1, 2], None, NO_LIST),
    "a number for the labels": ({"labels": 7}, None, NO_LIST),
    "labels by name": ({"labels": dict.fromkeys(PATHS, 0)}, None, NO_LIST),
    "paths that are numbers": ({"labels": [[k, 0] for k in range(5)]}, None, NO_LIST),
    "labels without paths": ({"labels": [0, 1, 0, 1, 0]}, None, NO_LIST),
    "labels that are texts": ({"labels": [[p, "cat"] for p in PATHS]}, None, NO_LIST),
    "labels that are floats": ({"labels": [[p, 1.5] for p in PATHS]}, None, NO_LIST),
    "labels that are not numbers": (b'{"labels": [["good-0.png", NaN]]}', None, NO_LIST),
    "labels that are truths": ({"labels": [[p, True] for p in PATHS]}, None, NO_LIST),
    "labels below zero": ({"labels": [[p, -1] for p in PATHS]}, None, NO_LIST),
    "labels with gaps": ({"labels": [[p, 2 * (k % 2)] for k, p in enumerate(PATHS)]}, None, "no image has label 1"),
    "a label of a billion": ({"labels": [[p, k * 10**9] for k, p in enumerate(PATHS)]}, None, "no image has label 1"),
    "a file without a label": ({"labels": [[p, 0] for p in PATHS[:4]]}, None, "'good-4.png' has no label"),
    "null": ({"labels": None}, 5, ""),
    "labels of files that lead out": ({"labels": [[p, 0] for p in [*PATHS, "../outside/secret.png"]]}, 5, ""),
}
for _name, (_said, _rows, _words) in LABELS.items():

    def _labelled(root: Path, said: Any = _said) -> None:
        outside(root)
        good(root)
        (root / "dataset.json").write_bytes(said if isinstance(said, bytes) else json.dumps(said).encode())

    add(f"dataset.json, {_name}", Kind(_labelled, _rows, _words))


@kind(rows=None, says="'dataset.json' of .* bytes long, no list of labels")
def a_list_of_labels_of_many_gigabytes(root: Path) -> None:
    good(root)
    with (root / "dataset.json").open("wb") as file:
        file.truncate(1 << 36)


# ---- pictures of which another file says more


@kind(rows=4, says=r"left out: 1 of 5 pairs cannot be read, the first is 'a/good-0.png' \('b/good-0.png': the file is")
def a_pair_of_which_one_is_bad(root: Path) -> None:
    good(root / "a")
    good(root / "b")
    (root / "b" / "good-0.png").write_bytes(b"")


@kind(rows=5, says="")
def a_zip_beside_pictures(root: Path) -> None:
    good(root)
    with zipfile.ZipFile(root / "more.zip", "w") as packed:
        packed.writestr("more.png", png())
