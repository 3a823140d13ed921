"""A warmed process that forks a child for each question, with bounds on time and memory: a case costs milliseconds.

A question is a line of JSON, as `Warm.ask` writes it, and so is the answer. Nothing is held over from one to the next.
"""

import contextlib
import gc
import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

WARM = (
    "elegan.api", "elegan.cli", "elegan.cli.data", "elegan.cli.train", "elegan.cli.progress",
    "elegan.data.curation.inspect",
    "PIL.PngImagePlugin", "av", "h5py", "imagecodecs", "lmdb", "pyarrow.parquet", "sklearn.neighbors", "soundfile",
    "soxr", "tifffile", "pydantic.types", "pydantic.fields", "csv", "lzma", "bz2",
)  # fmt: skip
TRACEBACK = 99  # the exit code after one
SECRET = 231  # a picture that is all of this level lies outside of what may be read


@dataclass(frozen=True)
class Answer:
    """What became of a command. code: the exit status, 99 after a traceback, negative for the signal that ended it."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> dict[str, Any]:
        """What `opened` says."""
        return json.loads(self.out)


class Warm:
    """The process, from the side that asks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(
        self,
        *commands: Sequence[object],
        here: Path,
        options: Mapping[str, Any] = {},
        limits: Mapping[str, int] = {},
        seconds: float,
        room: int,
    ) -> list[Answer]:
        """commands: command lines, or `open` and a path, which is opened with the options; all run in one child, one
        after the other, until one ends it. here: where it works. limits: module.NAME -> a value it has in the child.
        seconds: for each. room: bytes of memory that it may take beside what is warm."""
        question = {
            "commands": [[os.fsencode(str(token)).hex() for token in tokens] for tokens in commands],
            "here": str(here), "options": dict(options), "limits": dict(limits), "seconds": seconds, "room": room,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return [Answer(*those) for those in json.loads(self._process.stdout.readline())]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@contextlib.contextmanager
def warmed() -> Iterator[Warm]:
    warm = Warm()
    try:
        yield warm
    finally:
        warm.close()


def opened(path: str, options: Mapping[str, Any]) -> int:
    """Open data as the command line would, and print what it holds."""
    import numpy as np

    from elegan.cli import _fail, _say_warning
    from elegan.data.sources import open_data
    from elegan.errors import ElegantError

    with warnings.catch_warnings():
        warnings.showwarning = _say_warning
        try:
            source = open_data(path, **options)
        except ElegantError as error:
            return _fail(str(error), error.code)
    images = [np.asarray(source.arrays[name]) for name, field in source.spec.items() if field.kind == "image"]
    print(json.dumps({
        "rows": len(source), "left": list(source.left_out), "label": "label" in source.spec,
        "secret": any((rows == SECRET).all((1, 2, 3)).any() for rows in images),
    }))  # fmt: skip
    return 0


def _child(question: Mapping[str, Any], answers: BinaryIO) -> None:
    """Answer a question in a process of its own: of each command a line of JSON as soon as it is done."""
    os.chdir(question["here"])
    held = re.search(r"VmData:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert held is not None
    most = (int(held[1]) << 10) + question["room"]
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    for name, value in question["limits"].items():
        module, _, limit = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), limit), int)
        setattr(sys.modules[module], limit, value)
    for tokens in question["commands"]:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            signal.setitimer(signal.ITIMER_REAL, question["seconds"])  # the child is ended by it
            code = _run([os.fsdecode(bytes.fromhex(token)) for token in tokens], question["options"])
            signal.setitimer(signal.ITIMER_REAL, 0)
            sys.stdout.flush()
            sys.stderr.flush()
            said = [
                code,
                *(os.pread(file.fileno(), 1 << 24, 0).decode("utf-8", "backslashreplace") for file in (out, err)),
            ]
        answers.write(json.dumps(said).encode() + b"\n")
        answers.flush()


def _run(tokens: Sequence[str], options: Mapping[str, Any]) -> int:
    from elegan.cli import main

    try:
        return opened(tokens[1], options) if tokens[0] == "open" else main(tokens)
    except BaseException:
        traceback.print_exc()
        return TRACEBACK


def _answer(question: Mapping[str, Any]) -> list[Any]:
    with tempfile.TemporaryFile() as answers:
        child = os.fork()
        if not child:
            try:
                _child(question, answers)
            except BaseException:
                traceback.print_exc()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        answers.seek(0)
        said = [json.loads(line) for line in answers]
    if len(said) < len(question["commands"]):
        said.append([os.waitstatus_to_exitcode(status), "", "it ended in the middle"])
    return said


def serve(lines: Sequence[str]) -> None:
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    for name in WARM:
        importlib.import_module(name)
    import torch
    from PIL import Image

    from elegan.data.form import Form

    torch.set_num_threads(1)
    Image.init()
    Form.of({"size": 8})
    gc.freeze()  # or each child would copy what its collector marks
    for line in lines:
        print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve(sys.stdin)  # type: ignore[arg-type]
