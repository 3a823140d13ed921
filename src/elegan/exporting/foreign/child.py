"""The process that reads a foreign file: it has the file and an empty one to fill, and may open or start nothing more.

It imports neither torch nor numpy nor any package, so there is little that could be asked of it. What it has to say is
one line on its standard output. Exit codes: 0, `REFUSED` for the file, `NO_ROOM` for the disk; any other is a crash or
a limit.
"""

import codecs
import contextlib
import json
import os
import resource
import struct
import sys
from collections.abc import Mapping
from typing import NoReturn

from elegan.exporting.foreign.files import read_tensors
from elegan.exporting.foreign.views import Body, View

REFUSED, NO_ROOM = 4, 6
CODECS = ("ascii", "latin-1", "utf-8", "raw-unicode-escape", "unicode-escape", "cp437")  # looked up before limits hold
LINE = 400


def main() -> None:
    """Arguments: numbers of the two open files, bytes of memory, seconds of processor time, bytes of output."""
    source, target, memory, seconds, output = map(int, sys.argv[-5:])
    for name in CODECS:
        codecs.lookup(name)
    restrict(memory, seconds, output)
    try:
        with open(source, "rb") as file:
            tensors = read_tensors(file.read())
        parts = written(tensors)
    except MemoryError:
        end(REFUSED, "it takes too much memory to read")
    except ValueError as error:
        end(REFUSED, str(error))
    except Exception as error:  # damage leads anywhere
        end(REFUSED, f"it is damaged ({type(error).__name__}: {error})")
    try:
        with open(target, "wb") as file:
            file.writelines(parts)
    except OSError as error:
        end(NO_ROOM, error.strerror or str(error))


def restrict(memory: int, seconds: int, output: int) -> None:
    """Hold this process to limits, for good: it may open no file, start no process. A system that does not know one of
    the limits goes without it."""
    for limit, most in (
        (resource.RLIMIT_AS, memory), (resource.RLIMIT_DATA, memory), (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, output), (resource.RLIMIT_NOFILE, 0), (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):  # fmt: skip
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (most, most))


def written(tensors: Mapping[str, View]) -> list[Body]:
    """What a file of safetensors holds, in the order of the tensors."""
    header, at = {}, 0
    for name, view in tensors.items():
        header[name] = {"dtype": view.kind, "shape": view.shape, "data_offsets": (at, at + view.size)}
        at += view.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [struct.pack("<Q", len(text)), text, *(view.packed() for view in tensors.values())]


def end(code: int, line: str) -> NoReturn:
    """Say a line and be gone, without what a normal end would still run."""
    os.write(1, " ".join(line.split())[:LINE].encode("utf-8", "backslashreplace"))
    os._exit(code)
