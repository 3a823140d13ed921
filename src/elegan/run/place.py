"""Where results go: found writable before the work that makes them, not after. Imports nothing slow."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from elegan.errors import ResourceError, RunInUseError


def writable(folder: Path, flag: str = "--out", *, empty: bool = False) -> Path:
    """The folder, be it there or not, if files can be written to it. Leaves nothing behind.

    empty: it must hold nothing yet. Raises `ResourceError` if the disk refuses, `RunInUseError` for what it holds.
    """
    with refusing(folder, flag):
        missing = [above for above in (folder, *folder.parents) if not above.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if empty and any(folder.iterdir()):
                raise RunInUseError(f"{folder} is not empty; choose another {flag}.")
            with tempfile.TemporaryFile(dir=folder):
                return folder
        finally:
            for made in missing:
                with contextlib.suppress(OSError):
                    made.rmdir()


@contextlib.contextmanager
def refusing(path: Path, flag: str = "--out") -> Iterator[None]:
    """Turns what the disk refuses into `ResourceError`."""
    try:
        yield
    except OSError as error:
        raise ResourceError(f"{path} cannot be written ({error.strerror or error}); choose another {flag}.") from error
