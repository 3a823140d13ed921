"""A pickle as a list of instructions: what it would make is written down as records, and none of it is made.

A pickle is a program for a small machine that may import and call anything. An unpickler whose `find_class` hands out
harmless stand-ins would still be that machine, and still call them; here the instructions are only told apart
(`pickletools`), so there is nothing that could import or call. What a call would have given stands as a `Record` of the
name and the arguments. A name that is called and is none of `CALLS` is refused, because a file that asks for it is no
model; classes may have any name, since whole networks are saved with theirs.
"""

import pickletools
from dataclasses import dataclass, field
from typing import Any, BinaryIO

STEPS = 2_000_000  # instructions; a network of a thousand tensors takes 50,000
MARK = object()

ORDERED = "collections OrderedDict"
REBUILT = frozenset(
    f"torch._utils _rebuild_{what}"
    for what in ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state")
)
PERSISTENT = "torch_utils.persistence _reconstruct_persistent_obj"  # StyleGAN2-ADA's objects, with their source code
STORED_BYTES = "torch.storage _load_from_bytes"
ENCODED = "_codecs encode"  # bytes, as protocol 2 writes them
ARRAYS = frozenset({"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"})
BUFFERS = frozenset({"numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer"})
SETS = frozenset({"__builtin__ set", "builtins set", "__builtin__ frozenset", "builtins frozenset"})
UNREAD = frozenset({
    "torch device", "torch Size", "numpy.core.multiarray scalar", "numpy._core.multiarray scalar", "pathlib PosixPath",
    "pathlib WindowsPath", "collections defaultdict", "collections Counter", "datetime datetime", "builtins complex",
    "builtins slice", "builtins bytearray", "__builtin__ bytes", "builtins bytes", "copy_reg _reconstructor",
    "copyreg _reconstructor",
})  # fmt: skip
CALLS = REBUILT | ARRAYS | BUFFERS | SETS | UNREAD | {ORDERED, PERSISTENT, STORED_BYTES, ENCODED, "numpy dtype"}

PUSHES = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "STRING", "BINSTRING",
    "SHORT_BINSTRING",
})  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Name(str):
    """A global that a pickle names, `module name`: a word, never looked up."""


@dataclass(eq=False)
class Record:
    """What calling `maker` with `given` would have made. state, entries, items: what would have been put into it."""

    maker: Any
    given: tuple[Any, ...]
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Stored:
    """A reference to something outside of the pickle, such as a storage of torch."""

    place: Any


def read_pickle(stream: BinaryIO, stored: list[Stored] | None = None) -> Any:
    """What the next pickle of a stream describes: plain values, `Name`, `Record`, `Stored`; sets are lists.

    stored: gets what the pickle refers to, in that order.
    Errors: `ValueError`, one line, if it is cut short, too long, damaged, or calls what no model needs.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if step >= STEPS:
                raise ValueError(f"it has more than {STEPS:,} instructions")
            if opcode.name == "STOP":
                if len(stack) != 1:
                    raise ValueError("it describes no value, or several")
                return stack[0]
            _obey(opcode.name, argument, stack, memo)
            if opcode.name == "BINPERSID" and stored is not None:
                stored.append(stack[-1])
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError("its instructions make no sense: it is damaged") from error
    raise ValueError("it is cut short")


def _obey(what: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if what in PUSHES:
        stack.append(argument)
    elif what in CONSTANTS:
        stack.append(CONSTANTS[what])
    elif what in EMPTY:
        stack.append(EMPTY[what]())
    elif what == "MARK":
        stack.append(MARK)
    elif what in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
        memo[len(memo) if what == "MEMOIZE" else argument] = stack[-1]
    elif what in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[argument])
    elif what in TUPLES:
        count = TUPLES[what]
        if len(stack) < count:
            raise IndexError("a tuple of nothing")
        stack[-count:] = [tuple(stack[-count:])]
    elif what in ("TUPLE", "FROZENSET"):
        stack.append(tuple(_marked(stack)))
    elif what == "LIST":
        stack.append(_marked(stack))
    elif what == "DICT":
        made: dict[Any, Any] = {}
        _fill(made, _marked(stack))
        stack.append(made)
    elif what in ("APPEND", "APPENDS", "ADDITEMS"):
        those = [stack.pop()] if what == "APPEND" else _marked(stack)
        (stack[-1].items if isinstance(stack[-1], Record) else _known(stack[-1], list)).extend(those)
    elif what in ("SETITEM", "SETITEMS"):
        those = [stack.pop(-2), stack.pop()] if what == "SETITEM" else _marked(stack)
        _fill(stack[-1].entries if isinstance(stack[-1], Record) else _known(stack[-1], dict), those)
    else:
        _obey_object(what, argument, stack)


def _obey_object(what: str, argument: Any, stack: list[Any]) -> None:
    """The instructions by which a pickle would import, call and build."""
    if what == "GLOBAL":
        stack.append(Name(argument))
    elif what == "STACK_GLOBAL":
        module, name = _known(stack.pop(-2), str), _known(stack.pop(), str)
        stack.append(Name(f"{module} {name}"))
    elif what == "BINPERSID":
        stack.append(Stored(stack.pop()))
    elif what == "REDUCE":
        given, maker = _known(stack.pop(), tuple), stack.pop()
        if not (isinstance(maker, Name) and maker in CALLS):
            raise ValueError(f"it asks to call {_shown(maker)}, which no model needs: not run")
        stack.append(Record(maker, given))
    elif what == "NEWOBJ":
        given, maker = _known(stack.pop(), tuple), stack.pop()
        if not isinstance(maker, (Name, Stored)):
            raise TypeError("an object of no class")
        stack.append(Record(maker, given))
    elif what == "BUILD":
        state = stack.pop()
        _known(stack[-1], Record).state = state
    elif what not in ("PROTO", "FRAME"):
        raise ValueError(f"it has the instruction {what}, which no model needs: not run")


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


def _fill(made: dict[Any, Any], those: list[Any]) -> None:
    """Put keys and values in. A key that is neither text nor a number names no tensor, and hashing it might not end."""
    for key, value in zip(those[::2], those[1::2], strict=True):
        if type(key) in (str, int):
            made[key] = value


def _known(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} where {kind.__name__} should be")
    return value


def _shown(maker: Any) -> str:
    return repr(maker.replace(" ", ".", 1)[:80]) if isinstance(maker, Name) else "what another call made"
