"""The file calls of a save, one by one: recorded in this process, or by strace in another one, where any can be made to
fail or to be the last.

`Tracer` is a small warm process that knows the writer and not torch. It forks a child for each question, to which
strace is attached before it begins: a case costs some ten milliseconds.
"""

import contextlib
import ctypes
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from elegan.errors import ElegantError
from elegan.run import checkpoint
from elegan.run.directory import RunDirectory

END = "/the save is over"  # looked for by the child, so that it can be seen in the log
PR_SET_PTRACER = 0x59616D61  # of prctl
MOVES = ("rename", "replace")


class Call(NamedTuple):
    """create, write, fsync, mkdir, rename, unlink or rmdir, on a path as it was named then; where it was renamed to."""

    name: str
    path: str
    to: str = ""


@contextlib.contextmanager
def recording() -> Iterator[list[Call]]:
    """The calls inside that change files, in their order: a write is one when the system gets it, not Python."""
    calls: list[Call] = []
    kept_open = io.open

    class Raw(io.FileIO):
        def write(self, content: Any) -> int:
            calls.append(Call("write", str(self.name)))
            return super().write(content)

    def opened(path: Any, mode: str = "r", *args: Any, **how: Any) -> Any:
        if mode not in ("wb", "xb"):
            return kept_open(path, mode, *args, **how)
        file = io.BufferedWriter(Raw(path, mode[0]))
        calls.append(Call("create", str(path)))
        return file

    def noting(name: str) -> Any:
        real = getattr(os, name)

        def call(what: Any, *args: Any, dir_fd: int | None = None, **how: Any) -> Any:
            path = of_handle(what) if isinstance(what, int) else str(what)
            kept = path if dir_fd is None else f"{of_handle(dir_fd)}/{path}"
            done = real(what, *args, **(how if dir_fd is None else {**how, "dir_fd": dir_fd}))
            short = {"replace": "rename", "remove": "unlink"}.get(name, name)
            calls.append(Call(short, kept, str(args[0]) if name in MOVES else ""))
            return done

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", opened)
        for name in ("fsync", "mkdir", "unlink", "remove", "rmdir", *MOVES):
            patch.setattr(os, name, noting(name))
        yield calls


def of_handle(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")


# ---- by strace


@dataclass(frozen=True)
class Answer:
    """What became of a child. code: its exit status, negative for the signal that ended it. said: its warnings, and its
    one line of error. names: of every file call, in their order; changes: those of them that change files."""

    code: int
    said: Sequence[str]
    names: Sequence[str]
    changes: Sequence[Call]


class Tracer:
    """The process, from the side that asks. refused: why it cannot trace, if so. modules: what it has imported."""

    refused: str
    modules: list[str]

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.refused, self.modules = json.loads(self._read())

    def ask(self, work: str, folder: Path, inject: str = "") -> Answer:
        """Do some work, one of `WORKS`, in a folder. inject: as strace takes it, `fsync:signal=KILL:when=3`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([work, str(folder), inject]) + "\n")
        self._process.stdin.flush()
        code, said, log = json.loads(self._read())
        names, changes = parsed(log)
        return Answer(code, said, names, changes)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def parsed(log: str) -> tuple[list[str], list[Call]]:
    """The file calls before the end, by name, and those that change files."""
    names, changes = [], []
    for line in log.splitlines():
        if END in line:
            break
        if found := re.match(r"(\w+)\((.*)", line):
            names.append(found[1])
            changes += changed(found[1], found[2])
    return names, changes


def changed(name: str, rest: str) -> Iterator[Call]:
    """The change that a line of strace tells of, if it is one that did not fail."""
    handle = re.match(r"\w+<([^>]*)>", rest)
    base = handle[1] if handle else ""
    paths = [os.path.join(base, path) for path in re.findall(r'"([^"]*)"', rest.partition(" = ")[0])]
    if " = -1 " in rest:
        return
    if name == "openat" and "O_CREAT" in rest:
        yield Call("create", paths[0])
    elif name in ("write", "pwrite64", "fsync", "fdatasync"):
        yield Call(name.removeprefix("p").removesuffix("64").replace("fdatasync", "fsync"), base)
    elif name.startswith("rename"):
        yield Call("rename", *paths)
    elif name.startswith("mkdir"):
        yield Call("mkdir", paths[0])
    elif name.startswith(("unlink", "rmdir")):
        yield Call("rmdir" if "AT_REMOVEDIR" in rest or name == "rmdir" else "unlink", paths[0])


# ---- the process


def contents(step: int) -> dict[str, dict[str, Any]]:
    """What a checkpoint of a step holds here: two files, more than a buffer full."""
    values = np.arange(5_000, dtype=np.float32) + step
    return {"weights": {"w": values, "b": values[:3]}, "optim": {"m": values[::-1] * 2}}


def facts(step: int) -> dict[str, Any]:
    return {"ailments": ["stall"] * (step > 2), "plan": {"game": "none"}}


def save(folder: Path) -> None:
    """The fifth checkpoint, and what is pruned then; the first is the best."""
    checkpoint.write(folder, 5, contents(5), facts(5))
    checkpoint.prune(folder, 2, best=1)


def save_options(folder: Path) -> None:
    RunDirectory(folder).write_options({"game": "new"})


WORKS = {"save": save, "options": save_options}


class Refused(Exception):
    """What strace said instead of attaching itself."""


def answer(work: str, folder: Path, inject: str) -> tuple[int, list[str], str]:
    """Fork a child, attach strace to it, let it work, and tell what it said and what it called."""
    log = folder.parent / "calls.log"
    ends = os.pipe()
    child = os.fork()
    if not child:
        os._exit(worked(work, folder, ends[1]))
    os.close(ends[1])
    how = ["-e", "trace=%file,%desc", *(["-e", f"inject={inject}"] if inject else [])]
    command = ["strace", "-y", "-s", "400", "-o", str(log), *how, "-p", str(child)]
    with open(ends[0]) as told:
        try:
            told.readline()  # it may be traced now
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
                assert strace.stderr is not None
                if "attached" not in (line := strace.stderr.readline()):
                    raise Refused(line.strip())
                os.kill(child, signal.SIGUSR1)
                said = told.read()
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), json.loads(said or "[]"), log.read_text()


def worked(work: str, folder: Path, told: int) -> int:
    said: list[str] = []
    warnings.showwarning = lambda message, *_: said.append(str(message))
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)  # else often only a parent may trace
    os.write(told, b"\n")
    signal.sigwait({signal.SIGUSR1})  # until it is traced
    code = 0
    try:
        WORKS[work](folder)
    except ElegantError as error:
        code = error.code
        said.append(str(error))
    except BaseException as error:
        code = 99
        said.append(repr(error))
    os.path.exists(END)
    os.write(told, json.dumps(said).encode())
    return code


def serve(lines: Iterable[str]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    with tempfile.TemporaryDirectory() as folder:  # once, so that no module is loaded in the middle of a save
        place = Path(folder) / "checkpoints"
        for step in range(1, 5):
            checkpoint.write(place, step, contents(step), facts(step))
        save(place)
        refused = ""
        try:
            answer("options", place, "")
        except (Refused, OSError) as error:
            refused = str(error)
    print(json.dumps([refused, sorted(sys.modules)]), flush=True)
    for line in lines:
        work, folder, inject = json.loads(line)
        print(json.dumps(answer(work, Path(folder), inject)), flush=True)


if __name__ == "__main__":
    serve(sys.stdin)
