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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

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


def write(folder: Path, step: int, tensors: Mapping[str, Tensors], facts: Mapping[str, Any]) -> Path:
    """Write `folder/step-N` atomically and return it. One that is there and whole is left as it is.

    Raises `ResourceError` if the disk is full or unwritable; older checkpoints are untouched then.
    """
    final = folder / name_of(step)
    part = folder / f"{final.name}.tmp-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if final.exists():
            if not fault(final):
                return final
            final.rename(folder / f"{final.name}.damaged-{uuid.uuid4().hex[:8]}")
        part.mkdir()
        files = {}
        for name, named in tensors.items():
            content = safetensors.numpy.save({n: np.asarray(t, order="C") for n, t in named.items()})
            _write_synced(part / f"{name}.safetensors", content)
            files[f"{name}.safetensors"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest = {"schema": SCHEMA, "step": step, "files": files, "facts": dict(facts)}
        _write_synced(part / MANIFEST, json.dumps({**manifest, "sha256": _seal(manifest)}, indent=1).encode())
        _sync_folder(part)
        part.rename(final)
        _sync_folder(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(part)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = f"{'Free some space' if full else 'Mend that'}, then resume."
        reason = error.strerror or error
        raise ResourceError(
            f"checkpoint {final} cannot be written ({reason}); older ones are intact. {remedy}"
        ) from error
    return final


def _seal(manifest: Mapping[str, Any]) -> str:
    """The checksum of a manifest's own content."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def steps(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first, whole or not; unfinished ones do not count."""
    found = [p for p in folder.glob("step-*") if p.name.removeprefix("step-").isdigit()] if folder.is_dir() else []
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")), reverse=True)


def prune(folder: Path, keep: int, best: int | None = None) -> None:
    """Delete all whole checkpoints but the newest `keep` and that of step `best`, and what unfinished writes left;
    damaged ones stay."""
    whole = [path for path in steps(folder) if not fault(path)]
    old_ones = [path for path in whole[keep:] if path.name != name_of(best)]
    for old in [*old_ones, *(folder.glob("step-*.tmp-*") if whole else ())]:
        shutil.rmtree(old, ignore_errors=True)


def fault(path: Path) -> str:
    """What is wrong with a checkpoint, in a few words; empty if it is whole."""
    try:
        _read(path)
    except CheckpointError as error:
        return str(error)
    return ""


def newest(folder: Path, *, trained: bool = False) -> Checkpoint:
    """The newest whole checkpoint of a folder; each damaged one that is passed over is warned of.

    trained: never pass over damaged ones to step 0, where nothing has been learnt.
    Raises `CheckpointError` if there is none. Deletes nothing.
    """
    damaged = []
    for path in steps(folder):
        try:
            checkpoint = _read(path)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        if damaged and trained and checkpoint.step == 0:
            break
        for line in damaged:
            again = "Starting again from step 0, since no other is whole." if checkpoint.step == 0 else ""
            warnings.warn(f"{line} {again or f'Using {path.name} instead.'}", stacklevel=2)
        return checkpoint
    if damaged:
        raise CheckpointError(f"no checkpoint in {folder} is whole: {damaged[0]} Nothing was deleted.")
    raise CheckpointError(f"{folder.parent} has no checkpoint (any more); train a new run with another --out.")


def at(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of a step. Raises `CheckpointError` if it is not there or not whole."""
    return _read(folder / name_of(step))


def name_of(step: int | None) -> str:
    """The name of a step's checkpoint."""
    return "" if step is None else f"step-{step:08d}"


def _read(path: Path) -> Checkpoint:
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if (version := manifest["schema"]) != SCHEMA:
            remedy = "use the version that wrote it"
            raise CheckpointError(f"{path} has layout {version!r}, this elegan reads {SCHEMA}: {remedy}.")
        step, seal, facts = manifest["step"], manifest.pop("sha256"), dict(manifest["facts"])
        listed = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
        if seal != _seal(manifest) or path.name != f"step-{step:08d}":
            raise ValueError(seal)
    except OSError as error:
        raise CheckpointError(f"{path / MANIFEST} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path / MANIFEST} is damaged.") from error
    return Checkpoint(path, step, dict(_tensors(path, listed)), facts)


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
