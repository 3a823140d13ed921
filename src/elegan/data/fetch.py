"""Fetching data of a name: only what has a known checksum, and nothing that has another is kept.

The sums are those that several packages publish, each on its own, for the files of the data's author.
"""

import contextlib
import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from elegan.data.listing import Progress, silent
from elegan.data.readers import known
from elegan.errors import DataError, OptionError, ResourceError, nearest

BLOCK = 1 << 18
SECONDS = 30.0  # without a byte


@dataclass(frozen=True)
class Remote:
    """A file: where it is, its length in bytes, its SHA-256 as hex."""

    address: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.address.rsplit("/", 1)[-1]


REMOTE: Mapping[str, Remote] = {
    "cifar10": Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", 170_052_171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    "cifar100": Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", 168_513_733,
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
}  # fmt: skip


def fetch(name: str, progress: Progress = silent) -> Path:
    """Bring the file of a name to $ELEGAN_DATA, or without that to the cache, where `open_data(name)` finds it. A fetch
    that was stopped goes on where it was; a file that is there is checked and left alone. Where it lies.

    Errors: `OptionError` if there is no such file; `ResourceError` if it cannot be reached or written, with its address
        and where to put it; `DataError` if its checksum is another.
    """
    if name not in REMOTE:
        raise OptionError(f"{name!r} is not fetched, for want of a known checksum.{nearest(name, REMOTE)}")
    remote = REMOTE[name]
    path = known.folders()[0] / remote.name
    part = path.with_name(f"{path.name}.part")
    by_hand = f"try again, or fetch {remote.address} by hand and put it at {str(path)!r}"
    try:
        if path.exists():
            _check(path, remote, "move it away, and fetch it again", progress)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two who fetch the same: the second finds it done, or goes on
            file.seek(0, os.SEEK_END)
            if not path.exists():
                _receive(remote, file, progress)
                file.flush()
                os.fsync(file.fileno())
                if file.tell() < remote.size:
                    far = f"{file.tell():,} of {remote.size:,} bytes"
                    raise ResourceError(f"{remote.address} ended after {far}: {by_hand}")
                _check(part, remote, "it was taken away; fetch it again", progress)
                os.link(part, path)  # unlike renaming, this never overwrites
            part.unlink(missing_ok=True)
    except DataError:
        part.unlink(missing_ok=True)
        raise
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise ResourceError(f"{remote.address} cannot be reached ({_line(error)}): {by_hand}") from error
    except OSError as error:
        reason = error.strerror or error
        raise ResourceError(f"{str(path)!r} cannot be written ({reason}): make room, then {by_hand}") from error
    return path


def _receive(remote: Remote, file: BinaryIO, progress: Progress) -> None:
    """Append what is missing. A server that does not know of parts begins anew."""
    have = file.tell()
    if have >= remote.size:
        return
    asked = urllib.request.Request(remote.address, headers={"Range": f"bytes={have}-"} if have else {})
    with contextlib.closing(urllib.request.urlopen(asked, timeout=SECONDS)) as answer:
        if answer.status != 206 and have:
            file.seek(file.truncate(0))
        while (block := answer.read(BLOCK)) and file.tell() < remote.size:
            file.write(block[: remote.size + 1 - file.tell()])  # of one too long, as much as shows it
            progress(f"fetching {remote.name}", file.tell(), remote.size)


def _check(path: Path, remote: Remote, remedy: str, progress: Progress) -> None:
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            progress(f"checking {path.name}", done, remote.size)
    if digest.hexdigest() != remote.sha256:
        raise DataError(f"{str(path)!r} is not what {remote.address} should be: its SHA-256 is another; {remedy}")


def _line(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
