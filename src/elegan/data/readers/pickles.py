"""Plain data in a pickle, read without unpickling: dictionaries, lists, tuples, texts, bytes, numbers, numpy arrays.

A pickle is a program. This reads it as a list of instructions (`pickletools`) and knows only those that build the
above; it calls nothing and imports nothing that a file names. What numpy writes for an array is a pattern of names and
values; here it becomes an array of whole numbers or floats over the bytes given. All else is refused by its name.
"""

import io
import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

BYTES = 1 << 30  # of a file; what is larger is none of those that are still written so
STEPS = 2_000_000  # instructions; a list of 50,000 names takes 100,000
MARK = object()
ARRAYS = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
BUFFERS = ("numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer")
NAMES = frozenset({
    *ARRAYS, *BUFFERS, "numpy ndarray", "numpy dtype", "_codecs encode", "__builtin__ bytes", "builtins bytes",
    "__builtin__ bytearray", "builtins bytearray",
})  # fmt: skip
PUSHES = frozenset({
    "BININT", "BININT1", "BININT2", "INT", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINFLOAT",
})  # fmt: skip
NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Name:
    """A global that a pickle names: a word, never looked up."""

    name: str


@dataclass
class Type:
    """A numpy type, told by its short name such as `u1`."""

    code: str
    order: str = "|"

    @property
    def dtype(self) -> np.dtype:
        if self.code not in NUMBERS:
            raise ValueError(f"it holds an array of {self.code!r}, not of numbers")
        return np.dtype(("" if self.order in "|=" else self.order) + self.code)


@dataclass
class Array:
    """A numpy array while its parts come in."""

    shape: Any = ()
    type: Any = None
    fortran: Any = False
    body: Any = None

    def made(self) -> np.ndarray:
        """Errors: `ValueError` if shape, type and bytes do not fit."""
        body = self.body.encode("latin-1") if isinstance(self.body, str) else self.body
        if not isinstance(self.type, Type) or not isinstance(body, (bytes, bytearray)) or type(self.shape) is not tuple:
            raise ValueError("its array is not whole")
        if not all(type(side) is int and side >= 0 for side in self.shape):
            raise ValueError("its array has no shape")
        return np.frombuffer(body, self.type.dtype).reshape(self.shape, order="F" if self.fortran else "C")


def read_plain(content: bytes) -> Any:
    """The plain data in a pickle; texts of Python 2, which were bytes, are bytes, as are all keys of dictionaries.

    Errors: `ValueError` in one line if it is cut short, too long, or does anything but build plain data.
    """
    if len(content) > BYTES:
        raise ValueError(f"it is {len(content):,} bytes long, more than {BYTES:,}")
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
            if step > STEPS:
                raise ValueError(f"it has more than {STEPS:,} instructions")
            if opcode.name == "STOP":
                made = stack.pop()
                if stack:
                    raise TypeError("more than one value")
                return made
            _obey(opcode.name, argument, stack, memo)
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeError, RecursionError, OverflowError) as error:
        raise ValueError("its instructions make no sense: it is damaged") from error
    raise ValueError("it is cut short")


def _obey(what: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if what in PUSHES:
        stack.append(argument)
    elif what in ("SHORT_BINSTRING", "BINSTRING"):  # `pickletools` gives the bytes as latin-1
        stack.append(argument.encode("latin-1"))
    elif what in CONSTANTS:
        stack.append(CONSTANTS[what])
    elif what in EMPTY:
        stack.append(EMPTY[what]())
    elif what == "MARK":
        stack.append(MARK)
    elif what in ("BINPUT", "LONG_BINPUT", "PUT"):
        memo[argument] = stack[-1]
    elif what == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif what in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[argument])
    elif what in TUPLES:
        count = TUPLES[what]
        stack[-count:] = [tuple(stack[-count:])]
    elif what == "TUPLE":
        stack.append(tuple(_marked(stack)))
    elif what == "LIST":
        stack.append(_marked(stack))
    elif what == "DICT":
        stack.append(_filled({}, _marked(stack)))
    elif what in ("APPEND", "APPENDS"):
        those = [stack.pop()] if what == "APPEND" else _marked(stack)
        _known(stack[-1], list).extend(those)
    elif what in ("SETITEM", "SETITEMS"):
        those = [stack.pop(-2), stack.pop()] if what == "SETITEM" else _marked(stack)
        _filled(_known(stack[-1], dict), those)
    elif what in ("GLOBAL", "STACK_GLOBAL"):
        name = argument if what == "GLOBAL" else f"{stack.pop(-2)} {stack.pop()}"
        if name not in NAMES:
            raise ValueError(f"it asks for {name.replace(' ', '.')!r}, which is no plain data: not run")
        stack.append(Name(name))
    elif what == "REDUCE":
        given = stack.pop()
        stack[-1] = _reduced(_known(stack[-1], Name).name, _known(given, tuple))
    elif what == "BUILD":
        _build(stack.pop(), stack[-1])
    elif what not in ("PROTO", "FRAME"):
        raise ValueError(f"it has the instruction {what}, which builds no plain data: not run")


def _marked(stack: list[Any]) -> list[Any]:
    """What lies above the topmost mark, both taken away."""
    place = len(stack) - 1
    while stack[place] is not MARK:
        place -= 1
        if place < 0:
            raise IndexError("no mark")
    those = stack[place + 1 :]
    del stack[place:]
    return those


def _filled(made: dict[Any, Any], those: list[Any]) -> dict[Any, Any]:
    for key, value in zip(those[::2], those[1::2], strict=True):
        made[key.encode() if isinstance(key, str) else key] = value
    return made


def _known(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} where {kind.__name__} should be")
    return value


def _reduced(name: str, given: tuple[Any, ...]) -> Any:
    """What a call of a known name would give."""
    if name in ARRAYS:
        return Array()
    if name in BUFFERS:
        body, kind, shape, order = given
        return Array(shape, kind, order == "F", body)
    if name == "numpy dtype":
        return Type(_text(given[0]))
    if name == "_codecs encode" and given[1:] in (("latin1",), ("latin-1",)):  # bytes, as protocol 2 writes them
        return _known(given[0], str).encode("latin-1")
    if name.endswith((" bytes", " bytearray")) and not any(type(value) is int for value in given):
        return bytes(given[0]) if given else b""
    raise TypeError(name)


def _build(state: Any, made: Any) -> None:
    """Fill what `_reduced` began: the states of numpy's arrays and types."""
    if isinstance(made, Array):
        _, made.shape, made.type, made.fortran, made.body = _known(state, tuple)
    else:
        _known(made, Type).order = _text(state[1])


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else _known(value, str)
