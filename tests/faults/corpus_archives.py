"""The kinds of `corpus` that are archives: zip, tar, shards of tars."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.faults.corpus import Kind, add, kind, outside, png

# ---- zip


def zipped(root: Path, *more: tuple[str | zipfile.ZipInfo, bytes], count: int = 5) -> Path:
    """A zip of good pictures, and more."""
    path = root / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for k in range(count):
            packed.writestr(f"in/good-{k}.png", png(k))
        for name, body in more:
            packed.writestr(name, body)
    return path


def patched(path: Path, *changes: tuple[bytes, int, bytes]) -> Path:
    """A file with some bytes replaced at a distance from the last place where a mark stands."""
    body = bytearray(path.read_bytes())
    for mark, distance, new in changes:
        at = body.rindex(mark) + distance
        body[at : at + len(new)] = new
    path.write_bytes(body)
    return path


for _name, _path in {
    "up": "../../evil.png",
    "from the root": "/tmp/evil.png",
    "of windows": "C:\\evil.png",
    "inside and out": "in/../../evil.png",
}.items():

    def _slip(root: Path, path: str = _path) -> Path:
        return zipped(root, (path, png()))

    add(f"zip slip, {_name}", Kind(_slip, 5, r"not followed: 1 entry, such as '.*evil.png' \(a path that leads out"))


@kind(rows=5, says=r"such as '\\x1b\[2J/../evil.png' \(a path that leads out of it\)")
def a_zip_that_clears_the_screen(root: Path) -> Path:
    return zipped(root, ("\x1b[2J/../evil.png", png()))


@kind(rows=5, says=r"such as 'in/link.png' \(a link\)")
def a_link_in_a_zip(root: Path) -> Path:
    link = zipfile.ZipInfo("in/link.png")
    link.external_attr = 0o120777 << 16
    return zipped(root, (link, str(outside(root)).encode()))


@kind(
    rows=5,
    says=r"such as 'in/bomb.png' \(unpacks to 16,777,216 bytes, over 200 times",
    limits={"elegan.data.tree.FILE": 1 << 20},
)
def a_zip_bomb(root: Path) -> Path:
    return zipped(root, ("in/bomb.png", bytes(1 << 24)))


@kind(rows=5, says="the first is 'in/bomb.png' .its entry in the zip is")
def a_zip_bomb_that_lies(root: Path) -> Path:
    path = zipped(root, ("in/bomb.png", bytes(1 << 26)))
    return patched(path, (b"PK\1\2", 24, struct.pack("<I", 999)))


@kind(rows=None, says="x.zip' holds no images")
def a_zip_in_a_zip(root: Path) -> Path:
    return zipped(root, ("in.zip", zipped(root).read_bytes()), count=0)


@kind(rows=None, says="x.zip' holds no images")
def an_empty_zip(root: Path) -> Path:
    return zipped(root, count=0)


@kind(rows=None, says="x.zip' is no whole zip file")
def a_zip_that_is_none(root: Path) -> Path:
    (root / "x.zip").write_bytes(b"Rar!\x1a\7\0" + bytes(99))
    return root / "x.zip"


@kind(rows=5, says=r"such as 'in/bad.png' \(encrypted\)")
def an_encrypted_entry(root: Path) -> Path:
    return patched(zipped(root, ("in/bad.png", png())), (b"PK\1\2", 8, b"\1"))


@kind(rows=5, says="the first is 'in/bad.png' .its entry in the zip is damaged: Bad CRC-32")
def a_zip_with_a_wrong_checksum(root: Path) -> Path:
    return patched(zipped(root, ("in/bad.png", png())), (b"PK\1\2", 16, bytes(4)))


@kind(rows=5, says="the first is 'in/bad.png' .its entry in the zip is damaged: .*compression")
def a_zip_packed_in_an_unknown_way(root: Path) -> Path:
    return patched(zipped(root, ("in/bad.png", png())), (b"PK\1\2", 10, b"\x63"), (b"PK\3\4", 8, b"\x63"))


@kind(rows=5, says="the first is 'in/bad.png' .its entry in the zip is damaged")
def a_zip_whose_entries_overlap(root: Path) -> Path:
    return patched(zipped(root, ("in/bad.png", png())), (b"PK\1\2", 42, bytes(4)))


@kind(rows=None, says="5 of 5 images cannot be read, the first is 'in/good-0.png'")
def a_zip_with_a_damaged_directory(root: Path) -> Path:
    return patched(zipped(root), (b"PK\5\6", 16, b"\xff\xff\xff\x7f"))


@kind(rows=5, says="")
def a_zip_of_a_file_twice(root: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zipped(root, ("in/good-0.png", png(9)))


# ---- tar


def tarred(root: Path, *more: tarfile.TarInfo, name: str = "x.tar", mode: str = "w:") -> Path:
    """A tar of good pictures, and headers without content."""
    with tarfile.open(root / name, mode) as packed:  # type: ignore[call-overload]
        for k in range(5):
            about = tarfile.TarInfo(f"in/good-{k}.png")
            about.size = len(png(k))
            packed.addfile(about, io.BytesIO(png(k)))
        for about in more:
            packed.addfile(about)
    return root / name


def header(name: str, sort: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type, about.linkname, about.size = sort, link, size
    return about


HEADERS: dict[str, tuple[Callable[[Path], tarfile.TarInfo], str]] = {
    "a path up": (lambda root: header("../../evil.png"), "a path that leads out of it"),
    "a path from the root": (lambda root: header("/tmp/evil.png"), "a path that leads out of it"),
    "a link out": (lambda root: header("in/evil.png", tarfile.SYMTYPE, str(outside(root))), "a link"),
    "a hard link out": (lambda root: header("in/evil.png", tarfile.LNKTYPE, str(outside(root))), "a link"),
    "a device": (lambda root: header("in/evil.png", tarfile.CHRTYPE), "a link"),
    "a pipe": (lambda root: header("in/evil.png", tarfile.FIFOTYPE), "a link"),
}
for _name, (_header, _why) in HEADERS.items():

    def _tar(root: Path, of: Callable[[Path], tarfile.TarInfo] = _header) -> Path:
        return tarred(root, of(root))

    add(f"a tar with {_name}", Kind(_tar, 5, rf"not followed: 1 entry, such as '.*evil.png' \({_why}\)"))


@kind(rows=None, says="x.tar' is no whole tar file")
def a_tar_that_claims_a_terabyte(root: Path) -> Path:
    return tarred(root, header("in/evil.png", size=1 << 40))


@kind(rows=None, says="x.tar' is no whole tar file")
def a_tar_with_a_name_of_a_terabyte(root: Path) -> Path:
    return tarred(root, header("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=1 << 40))


@kind(rows=None, says="x.tar' is no whole tar file")
def a_tar_of_ten_thousand_headers_in_headers(root: Path) -> Path:
    one = header("x", tarfile.XHDTYPE, size=9).tobuf() + b"9 path=x\n".ljust(512, b"\0")
    (root / "x.tar").write_bytes(one * 10_000 + bytes(1024))
    return root / "x.tar"


@kind(rows=None, says="x.tar' (is no whole tar file|holds no images)")
def an_empty_tar(root: Path) -> Path:
    (root / "x.tar").write_bytes(bytes(10240))
    return root / "x.tar"


@kind(rows=None, says="x.tar' is no whole tar file")
def a_tar_that_is_none(root: Path) -> Path:
    (root / "x.tar").write_bytes(png())
    return root / "x.tar"


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}
for _end, _pack in PACKERS.items():

    def _bomb(root: Path, end: str = _end, pack: Callable[[bytes], bytes] = _pack) -> Path:
        (root / f"x.tar.{end}").write_bytes(pack(bytes(1 << 24)))
        return root / f"x.tar.{end}"

    def _none(root: Path, end: str = _end) -> Path:
        (root / f"x.tar.{end}").write_bytes(b"none of this")
        return root / f"x.tar.{end}"

    _small = {"elegan.data.tree.ROOMY": 1 << 20}
    add(f"a bomb in {_end}", Kind(_bomb, None, f"x.tar.{_end}' unpacks to over 200 times its size", {}, _small))
    add(f"a tar.{_end} that is none", Kind(_none, None, f"x.tar.{_end}' cannot be unpacked"))


# ---- shards


def shards(root: Path, *files: tuple[str, bytes]) -> None:
    with tarfile.open(root / "x-000000.tar", "w") as packed:
        for name, body in (*((f"{k}.png", png(k)) for k in range(5)), *files):
            about = tarfile.TarInfo(name)
            about.size = len(body)
            packed.addfile(about, io.BytesIO(body))


SHARDS: dict[str, tuple[list[tuple[str, bytes]], int | None, str]] = {
    "a class that is none": ([("0.cls", b"cat")], None, "'0.cls' in .* is no class"),
    "a class of many digits": ([("0.cls", b"9" * 100_000)], None, "'0.cls' in .* is no class"),
    "a class of some": ([("0.cls", b"0")], None, "4 of 5 samples have no class"),
    "classes with a gap": ([(f"{k}.cls", b"%d" % (2 * (k % 2))) for k in range(5)], None, "no sample has class 1"),
    "a class of nearly a billion": (
        [(f"{k}.cls", b"%d" % (k * 999_999_99)) for k in range(5)],
        None,
        "no sample has class",
    ),
    "captions": ([(f"{k}.txt", b"a cat") for k in range(5)], 5, ""),
    "notes without end": ([(f"{k}.json", b"[" * 100_000) for k in range(5)], 5, ""),
    "a sample that leads out": ([("../5.png", png())], 5, r"such as '.*5.png' \(a path that leads out of it\)"),
    "a sample that is bad": ([("5.png", b"")], 5, r"'x-000000.tar/5.png' \(the file is empty\)"),
}
for _name, (_files, _rows, _words) in SHARDS.items():

    def _shards(root: Path, files: list[tuple[str, bytes]] = _files) -> None:
        shards(root, *files)

    add(_name, Kind(_shards, _rows, _words))
