"""A store: rows packed once, on disk, memory-mapped when they are read, with a checksum of every block.

    STORE/store.json         what it holds: spec, counts, checksums, what was left out and why
    STORE/train-real.npy     one array a split and field, as `numpy.load(…, mmap_mode="r")` reads it too

While it is made it lies under another name, beside journals of how far each split is:

    .STORE.part/lock  .STORE.part/journal-train.json  .STORE.part/store/train-real.npy

Whoever is stopped goes on where the journals end; when all is written and synced, the folder inside gets its name. Two
who pack the same wait for each other.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import mmap
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elegan.data.codec import codec_of
from elegan.data.listing import Layout, Progress, silent
from elegan.data.source import BLOCK, Source, bytes_of, seal
from elegan.errors import DataError, NoSplitError, ResourceError
from elegan.spec import Spec

FORMAT = "elegan store 1"
MANIFEST, LOCK = "store.json", "lock"
CHECKED = 1 << 28  # bytes of a file that are checked each time it is opened; a larger one is checked once
SCATTERED = 0.25  # share of the free memory; rows of a larger file are read one by one, without what lies around them
CHECKERS = 4  # threads that check; more than a disk feeds


def cache_folder() -> Path:
    """Where packed data is kept: $ELEGAN_CACHE, or elegan/data in the user's cache. It may be deleted at any time."""
    if given := os.environ.get("ELEGAN_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "elegan" / "data"


class Column:
    """One array of a store, written a few rows at a time: an .npy file and the SHA-256 of each block of its bytes."""

    def __init__(self, path: Path, layout: Layout, done: Mapping[str, Any] | None = None):
        """done: what `sync` said when the journal was written, to go on from there."""
        self.path, self.layout = path, layout
        self.rows, self.blocks = (done["rows"], list(done["blocks"])) if done else (0, [])
        self._file = path.open("r+b" if done else "w+b")
        self._head = len(self._header(0))
        self._file.seek(self._head)
        self._hash, self._hashed = hashlib.sha256(), 0
        if done:
            self._file.truncate(self._head + self.rows * layout.row_bytes)
            self._file.seek(self._head + len(self.blocks) * BLOCK)
            self._take(self._file.read())
            self._file.seek(0, os.SEEK_END)

    def __enter__(self) -> "Column":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk refuses what is left in the buffer once more
            self._file.close()

    def _header(self, rows: int) -> bytes:
        """The head of an .npy file, which is equally long for any number of rows."""
        about = {"descr": np.dtype(self.layout.dtype).str, "fortran_order": False, "shape": (rows, *self.layout.shape)}
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, about)
        return head.getvalue()

    def append(self, rows: np.ndarray) -> None:
        """rows: (n, *shape)."""
        body = np.ascontiguousarray(rows, self.layout.dtype).tobytes()
        self._file.write(body)
        self._take(body)
        self.rows += len(rows)

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
        return {"rows": self.rows, "blocks": list(self.blocks)}

    def finish(self) -> dict[str, Any]:
        """Write the head. What the manifest says of the array."""
        blocks = [*self.blocks, *([self._hash.hexdigest()] if self._hashed else [])]
        self._file.seek(0)
        self._file.write(self._header(self.rows))
        self.sync()
        dtype, shape = np.dtype(self.layout.dtype).str, [self.rows, *self.layout.shape]
        return {"file": self.path.name, "dtype": dtype, "shape": shape, "blocks": blocks}


@dataclass(frozen=True)
class Part:
    """A store that is being made, held against others."""

    path: Path

    @property
    def home(self) -> Path:
        """The folder that becomes the store."""
        return self.path / "store"

    def column(self, split: str, field: str, layout: Layout, done: Mapping[str, Any] | None = None) -> Column:
        return Column(self.home / f"{split}-{field}.npy", layout, done)

    def journal(self, split: str, key: str) -> dict[str, Any]:
        """How far an earlier try came with a split, if it was of the same data and its rows are there; else nothing."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads((self.path / f"journal-{split}.json").read_bytes())
            if said["key"] == key and all((self.home / file).stat().st_size >= n for file, n in said["sizes"].items()):
                return said
        return {"key": key, "made": None, "streams": {}}

    def note(self, split: str, journal: Mapping[str, Any]) -> None:
        """Keep a journal; what it says must have been synced."""
        sizes = {file.name: file.stat().st_size for file in self.home.glob(f"{split}-*.npy")}
        write_synced(self.path / f"journal-{split}.json", json.dumps({**journal, "sizes": sizes}).encode())

    def discard(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def being_written(path: Path, progress: Progress = silent) -> Iterator[Part | None]:
    """The store being made for a path, held against others; None if one of them has made it meanwhile.

    It stays if making it fails, for a second try.
    """
    part = Part(path.with_name(f".{path.name}.part"))
    path.parent.mkdir(parents=True, exist_ok=True)
    while not reads(path):
        with contextlib.suppress(FileExistsError):
            os.mkdir(part.path)
        try:
            lock = (part.path / LOCK).open("a")
        except FileNotFoundError:
            continue  # who held it has swept up
        with lock:
            _hold(lock, progress)
            if not _is(lock, part.path / LOCK):
                continue  # a lock that was swept away guards nothing
            if reads(path):
                part.discard()
                break
            part.home.mkdir(exist_ok=True)
            yield part
            return
    yield None


def _hold(lock: Any, progress: Progress) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        progress("waiting for another process that packs the same", 0, 1)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is(file: Any, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def publish(part: Part, path: Path, manifest: Mapping[str, Any]) -> None:
    """Give a store that is all written its manifest and its name; both are on the disk when this returns."""
    body = {"format": FORMAT, **manifest}
    write_synced(part.home / MANIFEST, json.dumps({**body, "sha256": _seal(body)}, indent=1).encode())
    _sync_folder(part.home)
    os.rename(part.home, path)
    _sync_folder(path.parent)
    part.discard()


def kept(place: Path, make: Callable[[], None], read: Callable[[], Source]) -> Source:
    """What a store in the cache holds; it is made if it is not there, and made anew if it is damaged."""
    for last in (False, True):
        if not reads(place):
            if place.exists():  # what is left of one
                discard(place)
            make()
        try:
            return read()
        except DataError:
            discard(place)
            if last:
                raise
    raise AssertionError("unreachable")


def discard(path: Path) -> None:
    """Take a damaged store away at once, if one may, so that it is made anew; who has mapped it keeps it."""
    away = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with contextlib.suppress(OSError):
        os.rename(path, away)
    shutil.rmtree(away, ignore_errors=True)


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
    file = path / MANIFEST
    try:
        said = json.loads(file.read_bytes())
        claimed, version = said.pop("sha256"), str(said["format"])
        if not re.fullmatch(r"elegan store \d+", version):
            raise ValueError("it is no store's")
        if version == FORMAT and _seal(said) != claimed:
            raise ValueError("its checksum is another")
        if version == FORMAT and not all(isinstance(said[part], dict) for part in ("splits", "form")):
            raise ValueError("it is no store's")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{str(file)!r} is damaged ({_line(error)}): prepare the store again") from error
    if version != FORMAT:
        raise DataError(f"{str(file)!r} is an {version!r}, and only {FORMAT!r} is read here: prepare the store again")
    return said


def read(path: Path, *, name: str, split: str, progress: Progress = silent) -> Source:
    """A split of a store, its arrays mapped read-only, after the checksums of all blocks are compared; of large files
    once.

    Errors: `DataError` naming the file that is missing, cut short or damaged; `NoSplitError` if there is no such split.
    """
    splits = read_manifest(path)["splits"]
    if split not in splits:
        raise NoSplitError(f"{name!r} has no {split} split: prepare it with --holdout 0.1, or from data with a split")
    held = splits[split]
    try:
        spec, fields = Spec.from_json(held["spec"]), held["fields"]
        sealed = seal({f: (a["dtype"], tuple(a["shape"]), a["blocks"]) for f, a in fields.items()})
        left = [(str(entry), str(reason)) for entry, reason in held["left_out"]]
        _must_match(spec, fields)
    except (KeyError, ValueError, TypeError, AttributeError, DataError) as error:
        raise DataError(f"{str(path / MANIFEST)!r} is no store's: prepare the store again") from error
    arrays = {field: mapped(path, about, progress) for field, about in fields.items()}
    return Source(name, spec, arrays, held["about"], sealed, left, own_split=len(splits) > 1)


def _must_match(spec: Spec, fields: Mapping[str, Any]) -> None:
    """Raise an error if a manifest's fields are not those of its files; an index has files alone."""
    if not all(isinstance(about["file"], str) for about in fields.values()) or (spec and spec.keys() != fields.keys()):
        raise ValueError("its fields are not its files")
    for name, field in spec.items():
        raw = getattr(codec_of(field), "raw_shape", field.shape)  # a table's rows are encoded wider than they are kept
        if [*raw] != fields[name]["shape"][1:]:
            raise ValueError(f"its field {name!r} is of another shape")


def mapped(path: Path, about: Mapping[str, Any], progress: Progress = silent) -> np.ndarray:
    """An array of a store, checked, read-only and mapped: pages that are read are the system's cache, not ours."""
    file = path / Path(about["file"]).name  # a manifest reaches no other folder
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        if [*array.shape] != about["shape"] or array.dtype.str != about["dtype"]:
            raise ValueError(f"it holds {array.dtype} of {array.shape}")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{str(file)!r} is missing, cut short or damaged ({_line(error)}): prepare it again") from error
    found_whole = mark(file, about["blocks"])
    if not found_whole.exists():
        _verify(file, array, about["blocks"], progress)
        if array.nbytes > CHECKED:
            with contextlib.suppress(OSError):
                found_whole.parent.mkdir(parents=True, exist_ok=True)
                found_whole.touch()
    if array.nbytes > SCATTERED * memory() and isinstance(array, np.memmap):
        vars(array)["_mmap"].madvise(mmap.MADV_RANDOM)
    return array


def _verify(file: Path, array: np.ndarray, blocks: list[str], progress: Progress) -> None:
    """Compare the checksum of every block. Errors: `DataError` naming the first that differs."""
    raw = bytes_of(array)

    def whole(k: int) -> bool:
        return hashlib.sha256(raw[k * BLOCK : (k + 1) * BLOCK]).hexdigest() == blocks[k]

    if len(blocks) != -(-len(raw) // BLOCK):
        raise DataError(f"{str(file)!r} is not of the size its checksums are of: prepare it again")
    with ThreadPoolExecutor(CHECKERS) as pool:
        for k, good in enumerate(pool.map(whole, range(len(blocks)))):
            if not good:
                pool.shutdown(cancel_futures=True)
                raise DataError(f"{str(file)!r} is damaged at byte {k * BLOCK:,}: prepare it again")
            progress("checking", k + 1, len(blocks))


def mark(file: Path, blocks: list[str]) -> Path:
    """The empty file whose presence says that this file, as it is, was found whole."""
    about = file.stat()
    key = f"{file.resolve()} {about.st_size} {about.st_mtime_ns} {about.st_ino} {' '.join(blocks)}"
    return cache_folder() / "checked" / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def unwritable(folder: Path) -> str:
    """Why nothing can be written below a folder; empty if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def free_for(path: Path, wanted: int) -> None:
    """Raise `ResourceError` if a disk has no room for so many bytes."""
    home = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(home).free
    if wanted > free:
        raise ResourceError(
            f"{str(path)!r} would take {wanted / 1e9:.1f} GB, {free / 1e9:.1f} are free there: make room, "
            "use a smaller --size, or point ELEGAN_CACHE elsewhere."
        )


def memory() -> int:
    """Bytes of main memory that are free."""
    try:
        said = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(said["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
