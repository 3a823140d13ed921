"""Files that are there whole or not at all, and what a disk must be told before one counts as written: first its
content, then its name. Imports nothing slow."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from elegan.errors import ResourceError

SLACK = 1 << 20  # bytes to spare beside what is written: blocks are whole, and the logs need room too


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Inside, write to the path given, beside `path`; at the end it takes its place, or nothing is left of it.

    Raises `OSError`, also where something is that is no file: a device would be gone for good.
    """
    _refuse_no_file(path)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file anew, in a folder that is made if it is not there. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_bytes(content)


def _refuse_no_file(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "it is there and no file", str(path))


def write_synced(path: Path, content: bytes) -> None:
    """Write a file anew, whole or not at all: a killed process or a power cut leaves the old one or the new one.

    Raises `ResourceError` if the disk refuses; the old one stays then.
    """
    part = path.with_name(f"{path.name}.tmp")
    try:
        _refuse_no_file(path)
        _write(part, "wb", content)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise ResourceError(f"{path} cannot be written ({error.strerror or error}): make room.") from error


def create_synced(path: Path, content: bytes) -> None:
    """Write a file that is not there yet; its folder is left to `sync_folder`. Raises `OSError`."""
    _write(path, "xb", content)


def _write(path: Path, mode: str, content: bytes) -> None:
    with path.open(mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk: what was made, renamed or deleted there. Raises `OSError`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks sync no folders at all
            raise
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and what is missing above it, each with its name on the disk. Raises `OSError`."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def need_room(folder: Path, size: int) -> None:
    """Raise `OSError` unless so many bytes, and some more, fit on the disk of a folder, be it there or not."""
    disk = os.statvfs(next(above for above in (folder, *folder.parents) if above.exists()))
    needed, free = size + SLACK, disk.f_bavail * disk.f_frsize
    if free < needed and disk.f_blocks:  # a disk of no blocks does not say
        raise OSError(errno.ENOSPC, f"it needs {needed / 1000:,.0f} kB, {free / 1000:,.0f} kB are free")
