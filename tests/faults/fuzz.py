"""Targets for fuzzing: whatever the bytes, each returns or raises an `ElegantError`, soon, and changes no other file.

python -m tests.faults.fuzz manifest --seconds 60

`test_fuzz.py` drives them with mutations of good files; as a program this drives them guided by coverage, with atheris.
"""

import argparse
import atexit
import contextlib
import functools
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from PIL import Image

import elegan
from elegan import zoo
from elegan.data.sources import open_data
from elegan.errors import ElegantError, out_of_memory
from elegan.model import load
from elegan.run import checkpoint, events
from elegan.run.directory import RunDirectory
from elegan.run.recorded import unchanged
from elegan.run.saving import load_into
from elegan.spec import Spec
from elegan.training.loop import State
from elegan.view import page

Target = Callable[[bytes], None]


# ---- what is good, before it is changed


@functools.cache
def home() -> Path:
    """A folder for all of it, gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="elegan-fuzz-"))
    maker = os.getpid()
    atexit.register(lambda: os.getpid() == maker and shutil.rmtree(folder, ignore_errors=True))
    return folder


@functools.cache
def run() -> Path:
    """A finished run of three steps."""
    draw = np.random.default_rng(0)
    np.savez(home() / "small.npz", real=draw.integers(0, 255, (16, 8, 8), dtype=np.uint8), label=np.arange(16) % 4)
    settings: dict[str, Any] = dict(preset="tiny", steps=3, batch=8, threads=1, precision="fp32")
    elegan.train("dcgan", home() / "small.npz", out=home() / "run", **settings)
    return home() / "run"


def newest() -> Path:
    return max((run() / "checkpoints").glob("step-????????"))


def sealed(manifest: dict[str, Any]) -> bytes:
    """A manifest with its own checksum, as whoever forges one would write it."""
    bare = {name: value for name, value in manifest.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()
    return json.dumps({**bare, "sha256": digest}).encode()


def packed(kind: str) -> bytes:
    """An archive of three pictures in two classes: zip, tar or tar.gz."""
    file = io.BytesIO()
    pictures = []
    for k in range(3):
        picture = io.BytesIO()
        Image.fromarray(np.full((8, 8), 80 * k, np.uint8)).save(picture, "PNG")
        pictures.append((f"{'xy'[k % 2]}/{k}.png", picture.getvalue()))
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, body in pictures:
                archive.writestr(zipfile.ZipInfo(name), body)
        return file.getvalue()
    with tarfile.open(fileobj=file, mode="w" if kind == "tar" else "w:gz") as archive:
        for name, body in pictures:
            about = tarfile.TarInfo(name)
            about.size = len(body)
            archive.addfile(about, io.BytesIO(body))
    return file.getvalue()


BUNDLED = ("options.json", "manifest.json", "weights.safetensors", "average.safetensors", "optim.safetensors")
ARCHIVES = ("zip", "tar", "tar.gz")


def seeds(name: str) -> list[bytes]:
    """Good bytes for a target."""
    trainee()  # before anything is damaged
    files = {
        "manifest": newest() / "manifest.json",
        "options": run() / "options.json",
        "events": run() / "events.jsonl",
    }
    if name in files:
        return [files[name].read_bytes()]
    if name == "bundle":
        return [bytes([k]) + path(part).read_bytes() for k, part in enumerate(BUNDLED)]
    return [bytes([k]) + packed(kind) for k, kind in enumerate(ARCHIVES)]


def path(part: str) -> Path:
    """Where a part of the run lies."""
    return (run() if part == "options.json" else newest()) / part


# ---- the targets


def manifest(data: bytes) -> None:
    """A checkpoint's manifest, as it is and with a checksum that fits."""
    with suppressed(), contextlib.suppress(ValueError, RecursionError, AttributeError):
        _manifest(sealed(json.loads(data)))
    _manifest(data)


def _manifest(data: bytes) -> None:
    folder = run() / "checkpoints"
    with replaced(newest() / "manifest.json", data):
        for one in (False, True):
            attempt(checkpoint.newest, folder, healthy=one)
        attempt(checkpoint.fault, newest())
        with replaced(run() / "options.json", None):
            attempt(RunDirectory(run()).read_options)
        attempt(load, run())


def options(data: bytes) -> None:
    """What a run was made with."""
    with replaced(run() / "options.json", data), replaced(run() / page.NAME, b""):
        attempt(load, run())
        attempt(page.write, RunDirectory(run()))
        attempt(resumable)


def bundle(data: bytes) -> None:
    """A run of which one file, named by the first byte, is other bytes that its manifest vouches for."""
    part, content = BUNDLED[data[0] % len(BUNDLED)] if data else BUNDLED[0], data[1:]
    forged = json.loads((newest() / "manifest.json").read_bytes())
    if part in forged["files"]:
        forged["files"][part] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with replaced(newest() / "manifest.json", sealed(forged)), replaced(path(part), content):
        attempt(lambda: load(run()).sample(2))
        attempt(resumable)


def archive(data: bytes) -> None:
    """Data in a zip or tar, named by the first byte."""
    kind, content = ARCHIVES[data[0] % len(ARCHIVES)] if data else ARCHIVES[0], data[1:]
    (home() / "data").mkdir(exist_ok=True)
    with replaced(home() / "data" / f"x.{kind}", content):
        attempt(open_data, home() / "data" / f"x.{kind}", size=8)


def events_(data: bytes) -> None:
    """The log of a run: read, resumed by, and shown. Of a log whatever can be read counts, so nothing may fail."""
    with replaced(run() / "events.jsonl", data), replaced(run() / page.NAME, b""), suppressed():
        list(events.read(run() / "events.jsonl"))
        events.decided(run() / "events.jsonl", 3)
        page.write(RunDirectory(run()))


TARGETS: dict[str, Target] = {
    "manifest": manifest, "options": options, "bundle": bundle, "archive": archive, "events": events_
}  # fmt: skip


# ---- what they are made of


@functools.cache
def trainee() -> tuple[Any, State]:
    """A game to load into, and its state."""
    plan = json.loads((run() / "options.json").read_bytes())
    game = zoo.build("dcgan", Spec.from_json(plan["spec"]), **plan["options"])
    return game, State.fresh(game)


def resumable() -> None:
    """What a resume does before it trains."""
    directory = RunDirectory.open(run())
    plan = directory.read_options()
    found = checkpoint.newest(directory.checkpoints)
    unchanged(directory, plan, found)
    load_into(*trainee(), found)


@contextlib.contextmanager
def suppressed() -> Iterator[None]:
    """Without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def attempt(function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Do what may fail, if by an `ElegantError`, or for want of the memory that was asked for."""
    with suppressed(), contextlib.suppress(ElegantError):
        try:
            function(*arguments, **named)
        except Exception as error:
            if not out_of_memory(error):
                raise


@contextlib.contextmanager
def replaced(file: Path, content: bytes | None) -> Iterator[None]:
    """Other bytes in a file, or none, for a while; and whatever came to be beside it in the run is gone after."""
    before = file.read_bytes() if file.exists() else None
    kept = {one for one in file.parent.rglob("*") if one.is_file()}
    try:
        file.unlink(missing_ok=True) if content is None else file.write_bytes(content)
        yield
    finally:
        file.unlink(missing_ok=True) if before is None else file.write_bytes(before)
        for one in file.parent.rglob("*"):
            if one.is_file() and one not in kept:
                one.unlink()


def functions() -> Iterator[FunctionType]:
    """Every function and method of elegan that is loaded."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "elegan":
            for made in vars(module).values():
                inside = vars(made).values() if isinstance(made, type) else (made,)
                yield from (f for f in inside if isinstance(f, FunctionType) and f.__module__ == name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    asked = parser.parse_args()
    try:
        import atheris
    except ImportError:
        print("atheris is not here: pip install atheris (Linux; CPython 3.11 to 3.13)", file=sys.stderr)
        return 1
    target = TARGETS[asked.target]
    with tempfile.TemporaryDirectory() as corpus:
        for k, seed in enumerate(seeds(asked.target)):
            (Path(corpus) / str(k)).write_bytes(seed)
        for function in functions():
            atheris.instrument_func(function)
        atheris.Setup(
            [sys.argv[0], corpus, f"-max_total_time={asked.seconds}", "-rss_limit_mb=4096", "-timeout=20"], target
        )
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
