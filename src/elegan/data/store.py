"""A store: rows packed once, on disk, memory-mapped when they are read, with a checksum of every block.

    STORE/store.json         what it holds: spec, counts, checksums, what was left out and why
    STORE/train-real.npy     one array a split and field, as `numpy.load(…, mmap_mode="r")` reads it too

It is written under another name, with a journal of how far it is. Whoever is stopped goes on where the journal ends;
when all is written and synced, the folder gets its name. Two who pack the same wait for each other.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elegan.data.listing import Layout
from elegan.data.source import BLOCK, Source, bytes_of, seal
from elegan.errors import DataError, NoSplitError, ResourceError
from elegan.spec import Spec

FORMAT = "elegan store 1"
MANIFEST, JOURNAL, LOCK = "store.json", "journal.json", "lock"
CHECKED = 1 << 30  # bytes of a store that are checked each time it is opened; a larger one is checked once


class Column:
    """One array of a store, written row by row: an .npy file and the SHA-256 of each block of its bytes."""

    def __init__(self, path: Path, layout: Layout, done: Mapping[str, Any] | None = None):
        """done: what `state` said when the journal was written, to go on from there."""
        self.path, self.layout = path, layout
        self.rows, self.blocks = (done["rows"], list(done["blocks"])) if done else (0, [])
        self._file = path.open("r+b" if done else "w+b")
        self._head = len(self._header(0))
        self._file.seek(self._head)
        self._hash, self._hashed = hashlib.sha256(), 0
        if done:
            self._file.truncate(self._head + self.rows * self._row)
            self._file.seek(self._head + len(self.blocks) * BLOCK)
            self._take(self._file.read())
            self._file.seek(0, os.SEEK_END)

    @property
    def _row(self) -> int:
        return int(np.prod(self.layout.shape, dtype=np.int64)) * np.dtype(self.layout.dtype).itemsize

    def _header(self, rows: int) -> bytes:
        """The head of an .npy file, which is equally long for any number of rows."""
        about = {"descr": np.dtype(self.layout.dtype).str, "fortran_order": False, "shape": (rows, *self.layout.shape)}
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, about)
        return head.getvalue()

    def append(self, row: np.ndarray) -> None:
        body = np.ascontiguousarray(row, self.layout.dtype).tobytes()
        self._file.write(body)
        self._take(body)
        self.rows += 1

    def _take(self, body: bytes) -> None:
        view = memoryview(body)
        while view:
            piece = view[: BLOCK - self._hashed]
            self._hash.update(piece)
            self._hashed += len(piece)
            view = view[len(piece) :]
            if self._hashed == BLOCK:
                self.blocks.append(self._hash.hexdigest())
                self._hash, self._hashed = hashlib.sha256(), 0

    def sync(self) -> dict[str, Any]:
        """Bring all rows to the disk, and say how far it is."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"rows": self.rows, "blocks": self.blocks}

    def finish(self) -> dict[str, Any]:
        """Write the head and close. What the manifest says of the array."""
        if self._hashed:
            self.blocks.append(self._hash.hexdigest())
        self._file.seek(0)
        self._file.write(self._header(self.rows))
        self.sync()
        self._file.close()
        return {
            "file": self.path.name, "dtype": np.dtype(self.layout.dtype).str, "shape": [self.rows, *self.layout.shape],
            "blocks": self.blocks,
        }  # fmt: skip

    def close(self) -> None:
        self._file.close()


@contextlib.contextmanager
def being_written(path: Path) -> Iterator[Path | None]:
    """The folder in which a store is being made, held against others; None if one of them has made it meanwhile.

    It stays if making it fails, for a second try.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.mkdir(exist_ok=True)
    with (part / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (path / MANIFEST).exists():
            shutil.rmtree(part, ignore_errors=True)
            yield None
            return
        part.mkdir(exist_ok=True)
        yield part


def publish(part: Path, path: Path, manifest: Mapping[str, Any]) -> None:
    """Give a store that is all written its manifest and its name; both are on the disk when this returns."""
    body = {"format": FORMAT, **manifest}
    write_synced(part / MANIFEST, json.dumps({**body, "sha256": _seal(body)}, indent=1).encode())
    for left in (JOURNAL, LOCK):
        (part / left).unlink(missing_ok=True)
    _sync_folder(part)
    os.rename(part, path)
    _sync_folder(path.parent)


def discard(path: Path) -> None:
    """Take a damaged store away, so that it is made anew."""
    shutil.rmtree(path, ignore_errors=True)


def write_synced(path: Path, content: bytes) -> None:
    """Replace a file, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _seal(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def reads(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def read_manifest(path: Path) -> dict[str, Any]:
    """What a store says it holds. Errors: `DataError` if it is damaged or of another version."""
    try:
        said = json.loads((path / MANIFEST).read_bytes())
        claimed = said.pop("sha256")
        if said["format"] != FORMAT or _seal(said) != claimed:
            raise ValueError("its checksum is another")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{str(path / MANIFEST)!r} is damaged ({_line(error)}): prepare the store again") from error
    return said


def read(path: Path, *, name: str, split: str, check: bool = True) -> Source:
    """A split of a store, its arrays mapped read-only. check: read every byte and compare checksums, large ones once.

    Errors: `DataError` naming the file that is missing, cut short or damaged; `NoSplitError` if there is no such split.
    """
    manifest = read_manifest(path)
    if split not in manifest["splits"]:
        raise NoSplitError(f"{name!r} has no {split} split: prepare it with --holdout 0.1, or from data with a split")
    held = manifest["splits"][split]
    arrays = {field: mapped(path / about["file"], about) for field, about in held["fields"].items()}
    if check:
        verify(path, held["fields"], arrays)
    sealed = seal({f: (a["dtype"], tuple(a["shape"]), a["blocks"]) for f, a in held["fields"].items()})
    left = [(str(entry), str(reason)) for entry, reason in held["left_out"]]
    return Source(
        name, Spec.from_json(held["spec"]), arrays, held["about"], sealed, left, own_split=len(manifest["splits"]) > 1
    )


def mapped(file: Path, about: Mapping[str, Any]) -> np.ndarray:
    """The array in a file, read-only and mapped: pages that are read belong to the system's cache, not to us."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        if [*array.shape] != about["shape"] or array.dtype.str != about["dtype"]:
            raise ValueError(f"it holds {array.dtype} of {array.shape}")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{str(file)!r} is missing, cut short or damaged ({_line(error)}): prepare it again") from error
    return array


def verify(path: Path, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Compare the checksum of every block. Errors: `DataError` naming the first file and block that differ."""
    for field, array in arrays.items():
        raw, file = bytes_of(array), path / fields[field]["file"]
        for k, known in enumerate(fields[field]["blocks"]):
            if hashlib.sha256(raw[k * BLOCK : (k + 1) * BLOCK]).hexdigest() != known:
                raise DataError(f"{str(file)!r} is damaged at byte {k * BLOCK:,}: prepare it again")


def free_for(path: Path, wanted: int) -> None:
    """Raise `ResourceError` if a disk has no room for so many bytes."""
    home = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(home).free
    if wanted > free:
        raise ResourceError(
            f"{str(path)!r} would take {wanted / 1e9:.1f} GB, {free / 1e9:.1f} are free there: make room, "
            "use a smaller --size, or point ELEGAN_CACHE elsewhere."
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
