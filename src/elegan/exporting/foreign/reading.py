"""The side of the parent: a child reads a foreign file, and what it makes of it is plain bytes, read by safetensors."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

import safetensors
import safetensors.torch
from torch import Tensor

import elegan
from elegan.errors import CheckpointError
from elegan.exporting.foreign import child

SOURCE_ROOT = Path(elegan.__file__).parents[1]
START = "import sys; sys.path.append(sys.argv[1]); from elegan.exporting.foreign import child; child.main()"
MEMORY, MEMORY_PER_BYTE = 512 << 20, 4  # of the child: for itself, and for each byte of the file
SECONDS, PATIENCE, BYTES_A_SECOND = 20, 60, 20 << 20  # of processor time, of time, and more for a large file
HEADER = 1 << 20  # bytes of its output beside the file's own


@dataclass(frozen=True)
class Foreign:
    """A model file of another program, read: its tensors by their names there, and the checksum of the file."""

    path: Path
    tensors: dict[str, Tensor]
    sha256: str


def read_foreign(path: Path, scratch: Path) -> Foreign:
    """Read a model file in a child process under limits; what it makes of it goes through a file in `scratch`.

    Raises `CheckpointError` if there is no such file, or it is refused, `OSError` if the disk of `scratch` refuses.
    """
    with _opened(path) as source, tempfile.TemporaryFile(dir=scratch) as made:
        _run_child(path, source, made)
        source.seek(0)
        made.seek(0)
        try:
            content = made.read()
            tensors = safetensors.torch.load(content)
            order = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])  # which the library forgets
            return Foreign(path, {n: tensors[n] for n in order}, hashlib.file_digest(source, "sha256").hexdigest())
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path} cannot be converted: {error}.") from error


def _opened(path: Path) -> BufferedReader:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for a writer
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({getattr(error, 'strerror', error)}).") from error
    if not S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise CheckpointError(f"{path} is no file.")
    return open(handle, "rb")


def _run_child(path: Path, source: BinaryIO, made: BinaryIO) -> None:
    """Let the child read one open file into another. Raises `CheckpointError` however it ends, but well."""
    size = os.fstat(source.fileno()).st_size
    more = size // BYTES_A_SECOND
    files = source.fileno(), made.fileno()
    limits = MEMORY + MEMORY_PER_BYTE * size, SECONDS + more, HEADER + 2 * size
    arguments = [str(n) for n in (*files, *limits)]
    library = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-c", START, str(SOURCE_ROOT), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=files, env=library,
            cwd="/", timeout=PATIENCE + 3 * more, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(f"{path} cannot be converted: reading it took more than {error.timeout} s.") from None
    said = ended.stdout.decode("utf-8", "replace")
    match ended.returncode:
        case 0:
            return
        case child.REFUSED:
            raise CheckpointError(f"{path} cannot be converted: {said}.")
        case child.NO_ROOM:
            raise OSError(said)
        case code:
            how = signal.Signals(-code).name if code < 0 else f"code {code}"
            raise CheckpointError(f"{path} cannot be converted: what read it, under limits, was ended by {how}.")
