"""Files by name, wherever they lie: below a folder, in a zip, in a tar. Nothing is ever unpacked to the disk.

What stands in an archive is only read, never written, so a name that leads out of it leads nowhere; such names, links
that lead out of a folder, encrypted entries and entries that swell beyond reason are passed over, and told.
"""

import io
import os
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from elegan.errors import DataError

ROOMY = 1 << 30  # bytes that an archive may unpack to from anything; beyond them, no more than
FILE = 1 << 26  # the same of one file in it, which is unpacked in memory
SWELL = 200  # times the packed size, or it is taken for a bomb
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
OUT = "a link that leads out of it"
ARCHIVES = (".zip", ".tar", *PACKED)


@dataclass(frozen=True, order=True)
class Entry:
    """One file of a tree.

    parts: its path below the root. size: in bytes. stamp: what changes if the content does (a time, a checksum).
    place: the container's own note of where it lies.
    """

    parts: tuple[str, ...]
    size: int
    stamp: str
    place: Any = None

    @property
    def path(self) -> str:
        return "/".join(self.parts)

    @property
    def suffix(self) -> str:
        """The lower-case end of its name with the dot, or nothing."""
        return os.path.splitext(self.parts[-1])[1].lower()


class Tree(Protocol):
    """A container of files. entries: all there are, in the order of their parts. passed: (path, reason) of what is
    there and is not read. Entries may be opened from several threads at once."""

    root: str
    entries: tuple[Entry, ...]
    passed: tuple[tuple[str, str], ...]

    def open(self, entry: Entry) -> BinaryIO: ...


def plant(path: Path) -> Tree:
    """The tree at a path: a folder, an archive, or a file on its own.

    Errors: `DataError` if an archive is damaged.
    """
    name = path.name.lower()
    if path.is_dir():
        return Folder(path)
    if name.endswith(".zip"):
        return Zip(path)
    if name.endswith((".tar", *PACKED)):
        return Tar(path)
    return Folder(path.parent, only=path)


class Folder:
    """The regular files below a folder. Links are followed to files inside it only; hidden names are passed over."""

    def __init__(self, path: Path, only: Path | None = None):
        self.root, self._base = str(path), path
        entries, passed = [], []
        inside = os.path.join(os.path.realpath(path), "")
        for file in [only] if only else _walk(path):
            parts = file.relative_to(path).parts
            linked = file.is_symlink() and only is None
            if linked and not (os.path.realpath(file).startswith(inside) and os.path.isfile(file)):
                passed.append(("/".join(parts), OUT))
            elif os.path.isfile(file):  # no pipe, no socket, no device
                about = file.stat()
                entries.append(Entry(parts, about.st_size, str(about.st_mtime_ns), str(file)))
        self.entries, self.passed = tuple(sorted(entries, key=lambda entry: entry.parts)), tuple(passed)

    def open(self, entry: Entry) -> BinaryIO:
        """Errors: `ValueError` if it is not the file that was listed any more."""
        file = open(entry.place, "rb")  # noqa: SIM115 (whoever asks for it closes it)
        about = os.fstat(file.fileno())
        if (about.st_size, str(about.st_mtime_ns)) != (entry.size, entry.stamp):
            file.close()
            raise ValueError("it has changed since it was listed")
        return file


def passed_over(passed: Sequence[tuple[str, str]]) -> str:
    """What is there and is not read, in a few words."""
    (path, reason), count = passed[0], len(passed)
    if all(why == OUT for _, why in passed):
        return f"{count} link{'s' * (count > 1)} that lead out of it, such as {path!r}"
    return f"{count} entr{'ies' if count > 1 else 'y'}, such as {path!r} ({reason})"


def _walk(base: Path) -> Iterator[Path]:
    """Files, and links of any kind, below a folder. A folder that cannot be listed is an `OSError`, never a gap."""

    def fail(error: OSError) -> None:
        raise error

    for here, folders, files in os.walk(base, onerror=fail):  # does not follow links to folders
        folders[:] = [folder for folder in folders if not _hidden(folder)]
        yield from (Path(here, folder) for folder in folders if os.path.islink(os.path.join(here, folder)))
        yield from (Path(here, file) for file in files if not file.startswith("."))


def _hidden(folder: str) -> bool:
    return folder.startswith((".", "__"))  # __MACOSX, __pycache__


def _parts(name: str) -> tuple[str, ...] | str | None:
    """The parts of a name in an archive, the reason why it is not read, or None if it is hidden."""
    if name.startswith("/") or "\\" in name or "\0" in name or (len(name) > 1 and name[1] == ":"):
        return "a path that leads out of it"
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        return "a path that leads out of it"
    if not parts or any(_hidden(part) for part in parts[:-1]) or parts[-1].startswith("."):
        return None
    return parts


class Zip:
    """The files in a zip. Two of one name: the last, as every unpacker has it."""

    def __init__(self, path: Path):
        self.root = str(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except PermissionError:
            raise
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise DataError(f"{str(path)!r} is no whole zip file ({_line(error)}): fetch it again") from error
        entries: dict[tuple[str, ...], Entry] = {}
        passed = []
        for info in self._zip.infolist():
            name = info.filename if "/" in info.filename else info.filename.replace("\\", "/")  # as some Windows tools
            parts = _parts(name)
            if name.endswith("/") or parts is None:
                continue
            if isinstance(parts, tuple):
                reason = _unwanted(info)
                if not reason:
                    entries[parts] = Entry(parts, info.file_size, f"{info.CRC:08x}", info)
                    continue
                parts = reason
            passed.append((info.filename, parts))
        self.entries, self.passed = tuple(sorted(entries.values(), key=lambda e: e.parts)), tuple(passed)

    def open(self, entry: Entry) -> BinaryIO:
        """The content in memory, which is what its header says it is.

        Errors: `ValueError` if it is damaged.
        """
        try:
            with self._zip.open(entry.place) as file:
                content = file.read(entry.size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"its entry in the zip is damaged: {_line(error)}") from error
        if len(content) != entry.size:
            raise ValueError("its entry in the zip is not as long as it says")
        return io.BytesIO(content)


def _unwanted(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 1:
        return "encrypted"
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        return "a link"
    if info.file_size > FILE and info.file_size > SWELL * info.compress_size:
        return f"unpacks to {info.file_size:,} bytes, over {SWELL} times its size"
    return ""


class Tar:
    """The files in a tar; a compressed one is unpacked once, to a nameless temporary file. Links are passed over."""

    def __init__(self, path: Path):
        self.root = str(path)
        self._file = _plain(path)
        weakref.finalize(self, self._file.close)
        entries: dict[tuple[str, ...], Entry] = {}
        passed = []
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as packed:
                for member in packed:
                    parts = _parts(member.name)
                    if member.isdir() or parts is None:
                        continue
                    if isinstance(parts, tuple) and member.isreg() and not member.issparse():
                        stamp = f"{member.mtime} {member.chksum}"
                        entries[parts] = Entry(parts, member.size, stamp, member.offset_data)
                    else:
                        reason = parts if isinstance(parts, str) else "a link" if not member.isreg() else "sparse"
                        passed.append((member.name, reason))
                end = packed.offset
            self._file.seek(end)
            if self._file.read(512) != bytes(512):  # the library takes a damaged header for the end
                raise tarfile.ReadError("it ends before its end")
        except (OSError, EOFError, ValueError, RecursionError, tarfile.TarError) as error:  # headers of headers recurse
            raise DataError(f"{str(path)!r} is no whole tar file ({_line(error)}): fetch it again") from error
        self.entries, self.passed = tuple(sorted(entries.values(), key=lambda e: e.parts)), tuple(passed)

    def open(self, entry: Entry) -> BinaryIO:
        content = os.pread(self._file.fileno(), entry.size, entry.place)
        if len(content) != entry.size:
            raise ValueError("its entry in the tar is cut short")
        return io.BytesIO(content)

    def close(self) -> None:
        self._file.close()


def _plain(path: Path) -> BinaryIO:
    """A tar, opened; a compressed one is unpacked to a temporary file, up to `SWELL` times its size."""
    if not path.name.lower().endswith(PACKED):
        return path.open("rb")
    import bz2
    import gzip
    import lzma

    end = path.suffix.lower()
    opener = lzma.open if end.endswith("xz") else bz2.open if end.endswith("bz2") else gzip.open
    most = max(ROOMY, SWELL * path.stat().st_size)
    plain = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the tree)
    try:
        with opener(path, "rb") as packed:
            while block := packed.read(1 << 20):
                plain.write(block)
                if plain.tell() > most:
                    plain.close()
                    raise DataError(f"{str(path)!r} unpacks to over {SWELL} times its size: not unpacked")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        plain.close()
        raise DataError(f"{str(path)!r} cannot be unpacked ({_line(error)}): fetch it again") from error
    plain.seek(0)
    return plain


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
