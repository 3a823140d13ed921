"""The files that tensors come in, told apart by their first bytes: archives and streams of torch, pickles, safetensors.

Layouts: PyTorch, "Serialization semantics", for the archive (1.6 on) and the stream before it; safetensors, "Format".
"""

import io
import itertools
import json
import stat
import struct
import zipfile
from typing import Any

from elegan.exporting.foreign.pickled import Stored, read_pickle
from elegan.exporting.foreign.views import ITEMS, Body, Finder, View, row_major, storage_kind

MEMBERS = 100_000  # of an archive
STREAM = 0x1950A86A20F9469CFC6C, 1001  # what a stream of torch begins with, and the version of its protocol


def read_tensors(content: bytes) -> dict[str, View]:
    """The tensors of a model file by name, in its order; no more bytes of them than the file has.

    Errors: `ValueError`, one line, for what is no such file or is damaged; others where damage leads further.
    """
    if content.startswith(b"PK\3\4"):
        found = _archive(content)
    elif content.startswith(b"\x80"):
        found = _stream(content)
    elif content[8:9] == b"{":
        found = _safetensors(content)
    else:
        raise ValueError("it is neither a file of torch (.pt, .pth), nor a pickle (.pkl), nor .safetensors")
    tensors: dict[str, View] = {}
    for name, view in found:
        if name in tensors or name == "__metadata__":
            raise ValueError(f"two tensors in it would be called {name[:80]!r}")
        tensors[name] = view
    if sum(view.size for view in tensors.values()) > len(content):
        raise ValueError("its tensors share their bytes, and would be larger than the file")
    if not tensors:
        raise ValueError("it holds no tensors that have a name")
    return tensors


def _archive(content: bytes) -> list[tuple[str, View]]:
    """An archive of torch: `NAME/data.pkl` refers to `NAME/data/0`, `NAME/data/1`, …"""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        _check_members(infos, len(content))
        names = {info.filename for info in infos}
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(roots) != 1:
            raise ValueError("it is an archive, but none of torch: it has no data.pkl")
        (root,) = roots
        if any(name.startswith(f"{root}code/") for name in names):
            raise ValueError("it is a TorchScript program, which is code: save its state_dict() instead")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("it was written by a machine that puts the big end of numbers first")
        bodies: dict[str, bytes] = {}

        def storage_of(stored: Stored) -> Body:
            _, key, _ = storage_kind(stored)
            if key not in bodies:
                bodies[key] = archive.read(f"{root}data/{key}")
            return bodies[key]

        made = read_pickle(io.BytesIO(archive.read(f"{root}data.pkl")))
        return list(Finder(storage_of, _no_more).named(made))


def _check_members(infos: list[zipfile.ZipInfo], size: int) -> None:
    """Errors: `ValueError` for what torch never writes, and what might not end."""
    names = [info.filename for info in infos]
    if len(infos) > MEMBERS or len(set(names)) < len(names):
        raise ValueError("its parts are too many, or two have one name")
    for info in infos:
        if "\\" in info.orig_filename or info.filename.startswith("/") or ".." in info.filename.split("/"):
            raise ValueError(f"it has a part named {info.orig_filename[:80]!r}, which leads out of it")
        if info.flag_bits & 1 or info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its parts are compressed or encrypted, which torch never does")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ValueError(f"its part {info.filename[:80]!r} is a link")
    if sum(info.file_size for info in infos) > size:
        raise ValueError("its parts overlap, and would be larger than the file")


def _stream(content: bytes | bytearray) -> list[tuple[str, View]]:
    """A stream of torch before 1.6, or a pickle on its own."""
    made, storages = _opened(content)

    def storage_of(stored: Stored) -> Body:
        return storages[storage_kind(stored)[1]]

    return list(Finder(storage_of, _storage_alone).named(made))


def _opened(content: bytes | bytearray) -> tuple[Any, dict[str, Body]]:
    """What the pickle of a stream describes, and the storages behind it by their keys; a plain pickle has none."""
    stream, stored = io.BytesIO(content), list[Stored]()
    made = read_pickle(stream, stored)
    if type(made) is not int or made != STREAM[0]:
        if stored:
            raise ValueError("it refers to something outside of it")
        return made, {}
    about = read_pickle(stream), read_pickle(stream)
    if type(about[0]) is not int or about[0] != STREAM[1]:
        raise ValueError("it is a stream of torch in a layout that is not known")
    if not isinstance(about[1], dict) or about[1].get("little_endian") is not True:
        raise ValueError("it was written by a machine that puts the big end of numbers first")
    made, keys = read_pickle(stream, stored), read_pickle(stream)
    known = [storage_kind(each) for each in stored if not _is_source(each)]
    widths = {key: ITEMS.get(kind, 1) for kind, key, _ in known}
    storages: dict[str, Body] = {}
    whole, at = memoryview(content), stream.tell()
    for key in keys:
        (count,) = struct.unpack_from("<q", whole, at)
        end = at + 8 + count * widths[key]
        if count < 0 or end > len(whole):
            raise ValueError("it is cut short")
        storages[key], at = whole[at + 8 : end], end
    return made, storages


def _is_source(stored: Stored) -> bool:
    """Whether a reference is to the source code that an old torch put beside a network; it stands for a class."""
    return type(stored.place) is tuple and stored.place[:1] == ("module",)


def _storage_alone(content: bytes | bytearray) -> tuple[Stored, Body]:
    """A storage that is pickled on its own, as a plain pickle has them: a stream of torch within it."""
    made, storages = _opened(content)
    if not isinstance(made, Stored):
        raise ValueError("it has a storage that is none")
    return made, storages[storage_kind(made)[1]]


def _no_more(content: bytes | bytearray) -> tuple[Stored, Body]:
    raise ValueError("it has storages within its pickle, which an archive of torch never has")


def _safetensors(content: bytes) -> list[tuple[str, View]]:
    """Eight bytes of length, a header of JSON, and the numbers."""
    (length,) = struct.unpack_from("<Q", content)
    if length > len(content) - 8:
        raise ValueError("it is cut short, or no .safetensors")
    header = json.loads(content[8 : 8 + length], object_pairs_hook=_once)
    body = memoryview(content)[8 + length :]
    found: list[tuple[str, View]] = []
    places: list[tuple[int, int]] = []
    for name, about in header.items():
        if name == "__metadata__":
            continue
        (begin, end), shape, kind = about["data_offsets"], tuple(about["shape"]), about["dtype"]
        if kind not in ITEMS or not all(type(n) is int and 0 <= n <= len(body) for n in (begin, end)):
            raise ValueError("it has a tensor of a type that is not read, or beyond its end")
        view = View(kind, shape, row_major(shape), 0, body[begin:end])
        if view.size != end - begin:
            raise ValueError("a tensor in it does not fill its place")
        found.append((name, view))
        places.append((begin, end))
    if any(end != begin for (_, end), (begin, _) in itertools.pairwise(sorted([(0, 0), *places, (len(body),) * 2]))):
        raise ValueError("its tensors share places, or leave some out")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(made := dict(pairs)) < len(pairs):
        raise ValueError("its header names a tensor twice")
    return made
