"""Tensors in what a pickle describes: each a view of a storage, checked against the storage's own bytes."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from elegan.exporting.foreign import pickled
from elegan.exporting.foreign.pickled import Name, Record, Stored

DEPTH = 64  # of modules within modules
VISITS = 200_000  # entries looked at; one that is reached by two ways counts twice
LONGEST = 1_000  # characters of a name

ITEMS = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # bytes of an element, by the names of safetensors  # fmt: skip
STORAGES = {
    f"torch {name}Storage": kind
    for name, kind in {
        "Float": "F32", "Double": "F64", "Half": "F16", "BFloat16": "BF16", "Long": "I64", "Int": "I32",
        "Short": "I16", "Char": "I8", "Byte": "U8", "Bool": "BOOL",
    }.items()
}  # fmt: skip
UNTYPED = "torch.storage UntypedStorage"
DTYPES = {
    f"torch {name}": kind
    for name, kind in {
        "float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
        "float8_e5m2": "F8_E5M2", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8",
        "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
    }.items()
}  # fmt: skip
NUMPY = {
    "b1": "BOOL", "u1": "U8", "i1": "I8", "u2": "U16", "i2": "I16", "f2": "F16", "u4": "U32", "i4": "I32", "f4": "F32",
    "u8": "U64", "i8": "I64", "f8": "F64",
}  # fmt: skip
WORDS: dict[int, Literal["B", "H", "I", "Q"]] = {
    1: "B",
    2: "H",
    4: "I",
    8: "Q",
}  # numbers of an element's width, for copying with strides

Body = bytes | bytearray | memoryview
StorageOf = Callable[[Stored], Body]


@dataclass(frozen=True)
class View:
    """A tensor as a file describes it. kind: as safetensors calls it; strides, offset: in elements; body: its storage.

    Errors: `ValueError` if it reaches beyond its storage, or if two of its elements share a place.
    """

    kind: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    body: Body

    def __post_init__(self) -> None:
        numbers = (*self.shape, *self.strides, self.offset)
        if not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers) or len(self.shape) != len(self.strides):
            raise ValueError("a tensor in it has sizes that make no sense")
        moving = sorted((stride, n) for n, stride in zip(self.shape, self.strides, strict=True) if n > 1)
        reach = 0  # of the finer dimensions
        for stride, n in moving if self.count else ():
            if stride <= reach:
                raise ValueError("a tensor in it has elements that share a place")
            reach += (n - 1) * stride
        if self.count and self.offset + reach >= len(self.body) // ITEMS[self.kind]:
            raise ValueError("a tensor in it reaches beyond its storage")
        if self.kind == "BOOL" and max(self.packed(), default=0) > 1:
            raise ValueError("a tensor in it has truth values that are neither 0 nor 1")

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes of its elements."""
        return self.count * ITEMS[self.kind]

    def packed(self) -> Body:
        """Its elements in their order, without gaps."""
        item = ITEMS[self.kind]
        if self.strides == row_major(self.shape) or self.count <= 1:
            return memoryview(self.body)[self.offset * item :][: self.size]
        long = max(range(len(self.shape)), key=lambda d: self.shape[d])  # copied in one go
        source = memoryview(self.body)[: len(self.body) // item * item].cast("B").cast(WORDS[item])
        made = memoryview(bytearray(self.size)).cast(WORDS[item])
        into = row_major(self.shape)
        n, step, stride = self.shape[long], into[long], self.strides[long]
        others = [range(1 if d == long else size) for d, size in enumerate(self.shape)]
        for place in itertools.product(*others):
            here = sum(k * s for k, s in zip(place, into, strict=True))
            there = self.offset + sum(k * s for k, s in zip(place, self.strides, strict=True))
            made[here : here + (n - 1) * step + 1 : step] = source[there : there + (n - 1) * stride + 1 : stride]
        return made.cast("B")


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides without gaps, the last dimension the finest."""
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def storage_kind(stored: Stored) -> tuple[str, str, int]:
    """Type, key and number of elements of a storage that a pickle refers to; the type of an untyped one is empty.

    Errors: `ValueError` for any other reference.
    """
    match stored.place:
        case ("storage", Name() as maker, str(key), _, int(count), *rest):
            if maker not in STORAGES and maker != UNTYPED:
                raise ValueError(f"it has a storage of type {str(maker)[:80]!r}, which is not read")
            if any(part is not None for part in rest):
                raise ValueError("it has storages within storages: save it again with a newer torch")
            return STORAGES.get(maker, ""), key, count
    raise ValueError("it refers to something that is no storage")


class Finder:
    """The tensors in what a pickle describes, by their names: the keys that lead there, joined by dots.

    It goes through dictionaries and through the parameters, buffers and parts of networks that were saved whole.
    storage_of: the bytes of a reference. nested: what a storage that is pickled on its own refers to, and its bytes.
    """

    def __init__(self, storage_of: StorageOf, nested: Callable[[bytes | bytearray], tuple[Stored, Body]]):
        self.storage_of, self.nested = storage_of, nested
        self._visits = 0
        self._opened: dict[int, tuple[Stored, Body]] = {}  # by the identity of the pickled bytes

    def named(self, value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, View]]:
        """Errors: `ValueError` for a tensor that does not fit its storage, and for what has no end."""
        self._visits += 1
        if depth > DEPTH or self._visits > VISITS or len(name) > LONGEST:
            raise ValueError("it is nested too deep, or without end")
        if (view := self.view(value)) is not None:
            yield name, view
            return
        for key, part in entries(value).items():
            if type(key) is str:
                yield from self.named(part, f"{name}.{key}" if name else key, depth + 1)

    def view(self, value: Any, depth: int = 0) -> View | None:
        """The tensor that a value describes, if it does."""
        if not isinstance(value, Record):
            return None
        if value.maker in ("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state"):
            return self.view(value.given[0], depth + 1) if depth < 3 else None
        if value.maker in pickled.REBUILT:
            storage, offset, shape, strides, *rest = value.given
            kind, body = self._storage(storage)
            if value.maker.endswith("_v3"):
                kind = DTYPES.get(rest[2], "") if isinstance(rest[2], Name) else ""
            if kind not in ITEMS or type(shape) is not tuple or type(strides) is not tuple:
                raise ValueError("it has a tensor of a type that is not read")
            return View(kind, shape, strides, offset, body)
        if value.maker in pickled.ARRAYS and type(value.state) is tuple:
            _, shape, kind, fortran, body = value.state
            return array(shape, kind, fortran, body)
        if value.maker in pickled.BUFFERS:
            body, kind, shape, order = value.given
            return array(shape, kind, order == "F", body)
        return None

    def _storage(self, value: Any) -> tuple[str, Body]:
        """Type and bytes of a storage, by reference or pickled on its own."""
        if isinstance(value, Stored):
            stored, body = value, self.storage_of(value)
        elif isinstance(value, Record) and value.maker == pickled.STORED_BYTES:
            (content,) = value.given
            if id(content) not in self._opened:
                self._opened[id(content)] = self.nested(raw(content))
            stored, body = self._opened[id(content)]
        else:
            raise ValueError("it has a tensor without a storage")
        kind, _, count = storage_kind(stored)
        if count * ITEMS.get(kind, 1) != len(body):
            raise ValueError(f"a storage in it is said to have {count} elements, and has {len(body)} bytes")
        return kind, body


def entries(value: Any) -> Mapping[Any, Any]:
    """What lies in a dictionary, or in a network: its parameters, its buffers that are saved, and its parts."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, Record):
        return {}
    if value.maker == pickled.PERSISTENT:
        value = Record(value.maker, (), entries(value.given[0]).get("state"))
    if isinstance(value.state, dict) and "_parameters" in value.state:
        parameters, buffers, parts = (entries(value.state.get(n)) for n in ("_parameters", "_buffers", "_modules"))
        unsaved = _listed(value.state.get("_non_persistent_buffers_set"))
        return {**parameters, **{n: b for n, b in buffers.items() if n not in unsaved}, **parts}
    return value.entries


def _listed(value: Any) -> list[Any]:
    """The texts of a set."""
    if isinstance(value, Record):
        value = value.given[0] if value.given else ()
    return [text for text in value if type(text) is str] if isinstance(value, (list, tuple)) else []


def raw(value: Any) -> bytes | bytearray:
    """Bytes, also as protocol 2 writes them: a text to be encoded. Errors: `ValueError` if they are none."""
    if isinstance(value, Record) and value.maker == pickled.ENCODED:
        text, _ = value.given
        value = text.encode("latin-1")
    if not isinstance(value, (bytes, bytearray)):
        raise ValueError("it has a tensor without numbers")
    return value


def array(shape: Any, kind: Any, fortran: Any, body: Any) -> View:
    """An array of numpy. Errors: `ValueError` unless it is one of numbers, little end first."""
    if not isinstance(kind, Record) or kind.maker != "numpy dtype" or type(shape) is not tuple:
        raise ValueError("it has an array that is not whole")
    code, order = kind.given[0], kind.state[1] if type(kind.state) is tuple else "|"
    if code not in NUMPY or order not in ("<", "|", "="):
        raise ValueError(f"it has an array of {code!r}, which is not read")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("it has an array without a shape")
    strides = row_major(shape[::-1])[::-1] if fortran else row_major(shape)
    return View(NUMPY[code], shape, strides, 0, raw(body))
