"""Messages between lab, server and page: a JSON header and, behind it, arrays. Nothing here imports torch.

    4 bytes   length H of the header, little endian
    H bytes   the header, JSON in UTF-8, padded with spaces so that 4 + H is a multiple of 8
    the rest  arrays in the order of header["arrays"], each padded to a multiple of 8 bytes

Each entry of `arrays` is `{"name", "type", "shape", "scale", "at"}`: type `u1` or `i2` (little endian), a value is the
number times `scale`, `at` is the offset behind the header. On a pipe a message stands behind its length in 4 bytes.
"""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from elegan.errors import DataError

LARGEST = 16 << 20  # bytes of one message


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] = {}) -> bytes:
    """One message. Floats become 16-bit numbers of a common scale each (what is not finite becomes 0), uint8 stays."""
    entries, bodies, at = [], [], 0
    for name, array in arrays.items():
        numbers, scale = (array, 1.0) if array.dtype == np.uint8 else fixed(array)
        body = np.ascontiguousarray(numbers).tobytes()
        kind = "u1" if array.dtype == np.uint8 else "i2"
        entries.append({"name": name, "type": kind, "shape": list(array.shape), "scale": scale, "at": at})
        body += bytes(-len(body) % 8)
        bodies.append(body)
        at += len(body)
    text = json.dumps({**header, "arrays": entries}, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-(4 + len(text)) % 8)
    return b"".join([len(text).to_bytes(4, "little"), text, *bodies])


def fixed(array: np.ndarray) -> tuple[np.ndarray, float]:
    """An array as int16 and the scale of 1, so that its largest number is 32,767."""
    finite = np.where(np.isfinite(array), array, 0.0)
    scale = float(np.abs(finite).max(initial=0.0)) / 32_767 or 1.0
    return np.round(finite / scale).astype("<i2"), scale


def header(message: bytes) -> dict[str, Any]:
    """The header alone. Raises `DataError` if it is not one."""
    try:
        length = int.from_bytes(message[:4], "little")
        found = json.loads(message[4 : 4 + length])
        if 4 + length <= len(message) and isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise DataError("a message of a lab is damaged: its header does not read.")


def unpack(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays, float32 but for uint8. Raises `DataError` for what is no message."""
    head = header(message)
    body = memoryview(message)[4 + int.from_bytes(message[:4], "little") :]
    arrays = {}
    try:
        for entry in head["arrays"]:
            shape, kind = tuple(entry["shape"]), np.dtype({"u1": "u1", "i2": "<i2"}[entry["type"]])
            count = int(np.prod(shape, dtype=np.int64))
            numbers = np.frombuffer(body, kind, count, entry["at"]).reshape(shape)
            arrays[entry["name"]] = numbers if kind == np.uint8 else numbers.astype(np.float32) * entry["scale"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"a message of a lab is damaged: {error}.") from None
    return head, arrays


def write(stream: BinaryIO, message: bytes) -> None:
    """Put a message on a pipe, whole."""
    stream.write(len(message).to_bytes(4, "little") + message)
    stream.flush()
