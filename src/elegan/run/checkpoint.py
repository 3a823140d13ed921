"""Checkpoints: written whole or not at all, and read only if their manifest proves them whole. Imports no torch.

A checkpoint is a directory `step-00001000/` of safetensors files and a `manifest.json` with the size and SHA-256 of
each. It is written under another name, synced file by file, and renamed at the end; nothing is ever overwritten.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from elegan.disk import create_synced, make_folder, need_room, sync_folder
from elegan.errors import CheckpointError, ResourceError

SCHEMA = 1
MANIFEST = "manifest.json"
Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read back whole. tensors: by file, then by name. facts: what the manifest says besides."""

    path: Path
    step: int
    tensors: Mapping[str, Tensors]
    facts: Mapping[str, Any]

    @property
    def healthy(self) -> bool:
        """Whether nothing was wrong with the training when it was written."""
        return not self.facts.get("ailments")


def write(folder: Path, step: int, tensors: Mapping[str, Tensors], facts: Mapping[str, Any]) -> Path:
    """Write `folder/step-N` atomically and return it. One that is there and whole is left as it is.

    What was left by a write or a `prune` that was killed is cleared away first. Raises `ResourceError` if the disk is
    full or unwritable; older checkpoints are untouched then. Where there is too little room, nothing is begun.
    """
    final = folder / name_of(step)
    try:
        for left in folder.glob("step-*.tmp-*"):
            shutil.rmtree(left, ignore_errors=True)
        if final.exists() and not fault(final):
            sync_folder(folder)  # whoever wrote it may have been killed before its name was on the disk
            return final
        contents = _contents(step, tensors, facts)
        need_room(folder, sum(map(len, contents.values())))
        make_folder(folder)
        if final.exists():
            final.rename(_beside(final, "damaged"))
        _write_as(final, contents)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = f"{'Free some space' if full else 'Mend that'}, then resume."
        reason = error.strerror or error
        raise ResourceError(
            f"checkpoint {final} cannot be written ({reason}); older ones are intact. {remedy}"
        ) from error
    return final


def _contents(step: int, tensors: Mapping[str, Tensors], facts: Mapping[str, Any]) -> dict[str, bytes]:
    """What each file of a checkpoint holds. The manifest comes last, as it vouches for the others."""
    contents = {
        f"{name}.safetensors": safetensors.numpy.save({n: np.asarray(t, order="C") for n, t in named.items()})
        for name, named in tensors.items()
    }
    files = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in contents.items()}
    manifest = {"schema": SCHEMA, "step": step, "files": files, "facts": dict(facts)}
    manifest = json.loads(json.dumps(manifest))  # as it will be read: a number as a key has become text
    contents[MANIFEST] = json.dumps({**manifest, "sha256": _seal(manifest)}, indent=1).encode()
    return contents


def _seal(manifest: Mapping[str, Any]) -> str:
    """The checksum of a manifest's own content."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _write_as(final: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder that gets its name once all of them are on the disk."""
    part = _beside(final, "tmp")
    try:
        part.mkdir()
        for name, content in contents.items():
            create_synced(part / name, content)
        sync_folder(part)
        part.rename(final)
        sync_folder(final.parent)
    except OSError:
        with contextlib.suppress(OSError):
            shutil.rmtree(part)
        raise


def _beside(path: Path, kind: str) -> Path:
    """A name of its own for what is no checkpoint, or is none any more."""
    return path.with_name(f"{path.name}.{kind}-{uuid.uuid4().hex[:8]}")


def steps(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first, whole or not; unfinished ones do not count.

    Raises `CheckpointError` if the folder cannot be read.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error.strerror}).") from error
    numbers = [name.removeprefix("step-") for name in names if name.startswith("step-")]
    return [folder / f"step-{number}" for number in sorted(filter(str.isdecimal, numbers), key=int, reverse=True)]


def prune(folder: Path, keep: int, best: int | None = None) -> None:
    """Delete all whole checkpoints but the newest `keep`, the newest healthy one and that of step `best`.

    Damaged ones stay, and do not count as kept: where the newest does not read back, with a warning, an older one stays
    instead. What the disk refuses to delete is warned of, too: it costs room, not the training.
    """
    whole: list[Checkpoint] = []
    try:
        for path in steps(folder):
            try:
                whole.append(replace(_read(path), tensors={}))
            except CheckpointError as error:
                if not whole:
                    warnings.warn(f"{error} An older one is kept instead.", stacklevel=2)
        healthy = [found.path for found in whole if found.healthy]
        kept = {*(found.path for found in whole[:keep]), *healthy[:1], folder / name_of(best)}
        # by another name first: one deleted by half would pass for damaged
        gone = [found.path.rename(_beside(found.path, "tmp")) for found in whole if found.path not in kept]
        if gone:
            sync_folder(folder)
        for old in gone:
            shutil.rmtree(old)
    except (OSError, CheckpointError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        warnings.warn(f"old checkpoints in {folder} cannot be deleted ({reason}); training goes on.", stacklevel=2)


def fault(path: Path) -> str:
    """What is wrong with a checkpoint, in a few words; empty if it is whole."""
    try:
        _read(path)
    except CheckpointError as error:
        return str(error)
    return ""


def newest(folder: Path, *, trained: bool = False, healthy: bool = False) -> Checkpoint:
    """The newest whole checkpoint of a folder; each damaged one that is passed over is warned of.

    trained: never pass over damaged ones to step 0, where nothing has been learnt. healthy: only one without ailments.
    Raises `CheckpointError` if there is none. Deletes nothing.
    """
    damaged, ill = [], 0
    for path in steps(folder):
        try:
            checkpoint = _read(path)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        if damaged and trained and checkpoint.step == 0:
            break
        if healthy and not checkpoint.healthy:
            ill += 1
            continue
        for line in damaged:
            again = "Starting again from step 0, since no other is whole." if checkpoint.step == 0 and not ill else ""
            warnings.warn(f"{line} {again or f'Using {path.name} instead.'}", stacklevel=2)
        return checkpoint
    if ill:
        raise CheckpointError(f"no checkpoint in {folder} is healthy; train a new run with a lower --lr.")
    if damaged:
        raise CheckpointError(f"no checkpoint in {folder} is whole: {damaged[0]} Nothing was deleted.")
    raise CheckpointError(f"{folder.parent} has no checkpoint (any more); train a new run with another --out.")


def recorded(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The facts of each checkpoint with a whole manifest, newest first; its tensors are not looked at."""
    for path in steps(folder):
        with contextlib.suppress(CheckpointError):
            yield path, _manifest(path)[2]


def at(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of a step. Raises `CheckpointError` if it is not there or not whole."""
    return _read(folder / name_of(step))


def name_of(step: int | None) -> str:
    """The name of a step's checkpoint."""
    return "" if step is None else f"step-{step:08d}"


def _read(path: Path) -> Checkpoint:
    step, listed, facts = _manifest(path)
    return Checkpoint(path, step, dict(_tensors(path, listed)), facts)


def _manifest(path: Path) -> tuple[int, dict[str, tuple[Any, Any]], dict[str, Any]]:
    """The step, the size and checksum of each file, and the facts of a manifest that proves itself."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if (version := manifest["schema"]) != SCHEMA:
            remedy = "use the version that wrote it"
            raise CheckpointError(f"{path} has layout {version!r}, this elegan reads {SCHEMA}: {remedy}.")
        step, seal, facts = manifest["step"], manifest.pop("sha256"), dict(manifest["facts"])
        listed = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
        if seal != _seal(manifest):
            raise ValueError(seal)
        if path.name != f"step-{step:08d}":
            raise ValueError(step)
    except OSError as error:
        raise CheckpointError(f"{path / MANIFEST} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path / MANIFEST} is damaged.") from error
    return step, listed, facts


def _tensors(path: Path, listed: Mapping[str, tuple[Any, Any]]) -> Iterator[tuple[str, Tensors]]:
    for name, (size, digest) in listed.items():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{path / MANIFEST} is damaged: it names a file {name!r}.")
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path / name} cannot be read ({error.strerror}).") from error
        if len(content) != size:
            raise CheckpointError(f"{path / name} is damaged: it has {len(content)} bytes, not {size}.")
        if hashlib.sha256(content).hexdigest() != digest:
            raise CheckpointError(f"{path / name} is damaged: its checksum does not match.")
        try:
            yield name.removesuffix(".safetensors"), safetensors.numpy.load(content)
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path / name} is no safetensors file: {error}") from error
