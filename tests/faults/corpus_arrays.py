"""The kinds of `corpus` that hold numbers or columns: npy, npz, idx, HDF5, Parquet, Arrow, CIFAR, LMDB."""

import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.corpus import ROWS, Kind, Trap, add, kind, one_file, outside, png

# ---- npy and npz: the file whole, and what is said


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def plain_zip(*entries: tuple[str, str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, body in entries:
            packed.writestr(name, body)
    return file.getvalue()


def headed(text: str) -> bytes:
    """An .npy file with such a header."""
    raw = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(raw)) + raw + bytes(999)


def labelled(label: np.ndarray) -> bytes:
    return npz(real=ROWS, label=label)


ARRAYS: dict[str, tuple[str, bytes, str]] = {
    "pickled objects": ("x.npy", npy(np.array([Trap()], object)), "pickles are never loaded"),
    "a pickle called npy": ("x.npy", pickle.dumps(Trap()), "pickles are never loaded"),
    "pickled objects in npz": ("x.npz", npz(real=np.array([Trap()], object)), "pickles are never loaded"),
    "a header that is code": ("x.npy", headed("__import__('os').system('touch ran')"), "cannot be read"),
    "a header without an end": ("x.npy", headed("(" * 9000), "cannot be read"),
    "a header of a billion bytes": ("x.npy", b"\x93NUMPY\x02\0\xff\xff\xff\x7f{", "cannot be read"),
    "a shape of a trillion": (
        "x.npy",
        headed("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000)}"),
        "cannot be read",
    ),
    "a shape below zero": (
        "x.npy",
        headed("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, 8, 8)}"),
        "cannot be read|no samples",
    ),
    "a type of a billion bytes": (
        "x.npy",
        headed("{'descr': '|S2000000000', 'fortran_order': False, 'shape': (9,)}"),
        "cannot be read",
    ),
    "records": ("x.npy", npy(np.zeros((4, 2), [("a", "u1")])), "neither uint8"),
    "texts": ("x.npy", npy(np.array([["text"]])), "neither uint8"),
    "complex numbers": ("x.npy", npy(ROWS.astype(np.complex64)), "complex64 is neither"),
    "truths": ("x.npy", npy(ROWS > 99), "bool is neither"),
    "numbers that are none": ("x.npy", npy(np.full((4, 3), np.nan)), "not finite"),
    "numbers beyond float32": ("x.npy", npy(np.full((4, 3), 1e300)), "range of float32"),
    "one number": ("x.npy", npy(np.float32(1)), "no set of images|holds no samples"),
    "five axes": ("x.npy", npy(np.zeros((2, 2, 2, 8, 8), np.uint8)), "no set of images"),
    "no rows": ("x.npy", npy(np.zeros((0, 8, 8), np.uint8)), "no samples"),
    "an npz bomb": (
        "x.npz",
        npz(real=np.zeros((1 << 14, 32, 32), np.uint8)),
        "'real.npy' unpacks to .* bytes: not unpacked",
    ),
    "an npz without arrays": ("x.npz", plain_zip(), "which of nothing are the samples"),
    "an npz of a text": ("x.npz", plain_zip(("real.npy", "text")), "S4 is neither"),
    "keys that clear the screen": (
        "x.npz",
        npz(**{"\x1b[2J": ROWS, "\n": ROWS}),
        r"which of '\\n', '\\x1b\[2J'|which of '\\x1b\[2J', '\\n'",
    ),
    "labels with a gap": ("x.npz", labelled(np.array([0, 1, 3, 0, 1, 3])), "no sample has label 2"),
    "labels below zero, in npz": ("x.npz", labelled(np.array([0, 1, -1, 0, 1, 0])), "label -1 is below zero"),
    "labels of floats": ("x.npz", labelled(np.array([0.0, 1, 0, 1, 0, 1])), "whole numbers"),
    "labels that are none": ("x.npz", labelled(np.full(6, np.nan)), "whole numbers"),
    "labels of texts": ("x.npz", labelled(np.array(["cat"] * 6)), "whole numbers"),
    "labels of pickles": ("x.npz", labelled(np.array([Trap()] * 6, object)), "pickles are never loaded"),
    "labels up to a billion": ("x.npz", labelled(np.array([0, 1, 2, 3, 4, 10**9])), "no sample has label 5"),
    "fewer labels than rows": ("x.npz", labelled(np.array([0, 1])), "6 rows of 'real' but 2 of 'label'"),
    "idx of another type": (
        "train-images-idx3-ubyte",
        struct.pack(">HBBIII", 0, 13, 3, 2, 2, 2) + bytes(32),
        "type 0x0d",
    ),
    "idx of 255 axes": ("train-images-idx3-ubyte", b"\0\0\x08\xff" + b"\xff" * 2000, "claims|axes"),
    "idx that claims an exabyte": ("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\xff" * 12, "not unpacked"),
    "an idx bomb": (
        "train-images-idx3-ubyte.gz",
        gzip.compress(struct.pack(">HBBIII", 0, 8, 3, 1 << 21, 1 << 10, 1) + bytes(1 << 20)),
        "not unpacked",
    ),
    "idx that goes on and on": (
        "train-images-idx3-ubyte.gz",
        gzip.compress(struct.pack(">HBBIII", 0, 8, 3, 2, 2, 2) + bytes(1 << 23)),
        "too long",
    ),
    "an npy called h5": ("x.h5", npy(ROWS), "no whole HDF5 file"),
    "text called parquet": ("x.parquet", b"PAR1 this is none PAR1", "'x.parquet' of .* is damaged"),
    "parquet with a footer of a billion bytes": (
        "x.parquet",
        b"PAR1" + bytes(99) + b"\xff\xff\xff\x7fPAR1",
        "'x.parquet' of .* is damaged",
    ),
    "text called arrow": ("x.arrow", b"ARROW1\0\0 this is none", "'x.arrow' of .* is damaged"),
    "arrow with a message of a billion bytes": (
        "x.arrow",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(99),
        "'x.arrow' of .* is damaged",
    ),
    "an unknown format": ("x.xyz", b"?", "is of no known format"),
}
_ROOMY = {f"elegan.data.readers.{module}.ROOMY": 1 << 20 for module in ("arrays", "hdf5", "idx", "arrow")}


for _name, (_file, _body, _says) in ARRAYS.items():
    add(_name, Kind(one_file(_file, _body), None, _says, {}, _ROOMY))


@kind(rows=None, says="no sample has label 1")
def idx_labels_with_a_gap(root: Path) -> Path:
    (root / "train-images-idx3-ubyte").write_bytes(struct.pack(">HBBIII", 0, 8, 3, 2, 2, 2) + bytes(8))
    (root / "train-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 2) + b"\0\2")
    return root


# ---- HDF5


def hdf5(root: Path, fill: Callable[[Any], None]) -> Path:
    import h5py

    with h5py.File(root / "x.h5", "w") as file:
        fill(file)
    return root / "x.h5"


def _external_link(file: Any) -> None:
    import h5py

    file["real"] = h5py.ExternalLink("../outside/secret.h5", "/real")


def _external_data(file: Any) -> None:
    file.create_dataset("real", (4, 8, 8), "u1", external=[("../outside/secret.png", 0, 256)])


def _virtual(file: Any) -> None:
    import h5py

    layout = h5py.VirtualLayout((4, 8, 8), "u1")
    layout[:] = h5py.VirtualSource("../outside/secret.h5", "real", (4, 8, 8))
    file.create_virtual_dataset("real", layout)


def _references(file: Any) -> None:
    import h5py

    file.create_dataset("real", (4,), h5py.ref_dtype)


def _loop(file: Any) -> None:
    file["images"] = ROWS
    file["loop"] = file["/"]


def _deep(file: Any) -> None:
    for _ in range(300):
        file = file.create_group("g")
    file["real"] = ROWS


def _soft(file: Any) -> None:
    import h5py

    file["images"] = ROWS
    file["real"] = h5py.SoftLink("/nowhere")


HDF5: dict[str, tuple[Callable[[Any], None], int | None, str]] = {
    "an external link": (_external_link, None, r"holds no arrays; passed over: '/real' \(a link\)"),
    "data in other files": (_external_data, None, r"passed over: '/real' \(it lies in other files\)"),
    "virtual data": (_virtual, None, r"passed over: '/real' \(it lies in other files\)"),
    "references": (_references, None, r"passed over: '/real' \(object is no array of numbers\)"),
    "texts in HDF5": (
        lambda file: file.update(real=["x"]) or file.create_dataset("t", data="text"),
        None,
        "passed over|holds no arrays",
    ),
    "a claim of a petabyte": (
        lambda file: file.create_dataset("real", (1 << 40, 32, 32), "u1", chunks=(1, 32, 32)),
        None,
        "it claims 1,125,899,906,842,624 bytes",
    ),
    "nothing in HDF5": (lambda file: None, None, "holds no arrays"),
    "an array without a shape": (lambda file: file.create_dataset("real", dtype="f4"), None, "no array of numbers"),
    "a group in itself": (_loop, 6, ""),
    "groups 300 deep": (_deep, None, "holds no arrays"),
    "a link to nowhere": (_soft, 6, ""),
    "a name that clears the screen, in HDF5": (
        lambda file: file.update({"\x1b[2J": ["x"]}),
        None,
        r"passed over: '/\\x1b\[2J'",
    ),
}
for _name, (_fill, _rows, _words) in HDF5.items():

    def _h5(root: Path, fill: Callable[[Any], None] = _fill) -> Path:
        outside(root)
        return hdf5(root, fill)

    add(_name, Kind(_h5, _rows, _words))


@kind(rows=None, says="'real' cannot be read")
def a_damaged_chunk(root: Path) -> Path:
    path = hdf5(root, lambda file: file.create_dataset("real", data=ROWS, chunks=ROWS.shape, compression="gzip"))
    body = path.read_bytes()
    at = body.rindex(b"\x78\x5e") if b"\x78\x5e" in body else body.rindex(b"\x78")
    path.write_bytes(body[: at + 50] + bytes(50) + body[at + 100 :])
    return path


# ---- Parquet and Arrow


def parquet(root: Path, columns: dict[str, Any], about: bytes = b"", **how: Any) -> Path:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(columns)
    if about:
        table = table.replace_schema_metadata({b"huggingface": about})
    pyarrow.parquet.write_table(table, root / "x.parquet", **how)
    return root / "x.parquet"


def cells(*bodies: bytes | None, path: str | None = None) -> list[dict[str, Any]]:
    return [{"bytes": body, "path": path} for body in bodies]


FIVE = [png(k) for k in range(5)]
FEATURES = json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}).encode()
PARQUET: dict[str, tuple[dict[str, Any], bytes, int | None, str]] = {
    "a picture that lies elsewhere": (
        {"image": [*cells(*FIVE), *cells(None, path="../outside/secret.png")]},
        b"",
        5,
        "its image lies elsewhere, in '../outside/secret.png'",
    ),
    "a cell without a picture": ({"image": cells(*FIVE, None)}, b"", 5, "there is no image"),
    "a bomb in a cell": ({"image": cells(*FIVE, b"II*\0\xff\xff\xff\xff")}, b"", 5, "'x.parquet/5' \\("),
    "labels that are missing": (
        {"image": cells(*FIVE), "label": [0, 1, None, 0, 1]},
        b"",
        None,
        "row 2 has no 'label'",
    ),
    "labels outside of the classes": (
        {"image": cells(*FIVE), "label": [0, 1, 9, 0, 1]},
        FEATURES,
        None,
        "goes from 0 to 9, and there are 2 classes",
    ),
    "a label of 2^63": ({"image": cells(*FIVE), "label": [0, 1, 2**63 - 1, 0, 1]}, b"", None, "no sample has label 2"),
    "features that are no json": ({"image": cells(*FIVE)}, b"\xff{", 5, ""),
    "features without end": ({"image": cells(*FIVE)}, b"[" * 200_000, 5, ""),
    "features of other types": ({"image": cells(*FIVE)}, b'{"info": {"features": [1]}}', 5, ""),
    "lists of mixed lengths": ({"real": [[1.0], [1.0, 2.0]]}, b"", None, "not all of one length"),
    "no rows in parquet": ({"image": cells()}, b"", None, "has no rows|cannot be trained on|holds"),
    "columns that clear the screen": (
        {"\x1b[2J": FIVE, "\n": FIVE},
        b"",
        None,
        r"which of the columns '\\x1b\[2J', '\\n' are",
    ),
    "nothing but nulls": ({"x": [None, None]}, b"", None, "no column of .* can be trained on"),
}
for _name, (_columns, _about, _rows, _words) in PARQUET.items():

    def _parquet(root: Path, columns: dict[str, Any] = _columns, about: bytes = _about) -> Path:
        outside(root)
        return parquet(root, columns, about)

    add(_name, Kind(_parquet, _rows, _words))


@kind(rows=None, says="'x.parquet' of .* is damaged .rows unpack to ", limits=_ROOMY)
def a_parquet_bomb(root: Path) -> Path:
    return parquet(root, {"image": [bytes(1 << 24)]}, compression="zstd", use_dictionary=False, write_statistics=False)


@kind(rows=None, says="'x.arrow' of .* is damaged .it is packed, and unpacks to over", limits=_ROOMY)
def an_arrow_bomb(root: Path) -> Path:
    import pyarrow

    table = pyarrow.table({"image": [bytes(1 << 24)]})
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    with pyarrow.ipc.new_stream(root / "x.arrow", table.schema, options=options) as writer:
        writer.write_table(table)
    return root / "x.arrow"


STATES: dict[str, bytes] = {
    "a state without end": b"[" * 200_000,
    "a state of other types": b'{"_data_files": {"filename": 7}}',
    "a state that names files outside": b'{"_data_files": [{"filename": "../../outside/secret.arrow"}]}',
}
for _name, _body in STATES.items():

    def _state(root: Path, body: bytes = _body) -> None:
        parquet(root, {"image": cells(*FIVE)})
        (root / "state.json").write_bytes(body)

    add(_name, Kind(_state, None, "'state.json' of .* is damaged, or a file that it names is missing"))


# ---- CIFAR, LMDB, shards


def cifar(root: Path, batch: bytes) -> None:
    (root / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"x"] * 10}, 2))
    for k in range(1, 6):
        (root / f"data_batch_{k}").write_bytes(batch)


BATCHES: dict[str, bytes] = {
    "a batch that runs code": pickle.dumps({b"data": Trap(), b"labels": [0]}, 2),
    "a batch that runs a shell": b"cposix\nsystem\n(S'touch ran'\ntR.",
    "a batch of newer opcodes": pickle.dumps({b"data": Trap()}, 5),
    "a batch of nothing": b"",
    "a batch of noise": bytes(range(256)),
    "a batch of endless lists": b"\x80\x02" + b"]" * 200_000 + b".",
    "a batch that holds itself": b"\x80\x02}q\0U\4datah\0s.",
    "a batch that claims a terabyte": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "a batch that doubles and doubles": b"\x80\x02]q\0" + b"(h\0h\0ltq\0" * 60 + b".",
}
for _name, _body in BATCHES.items():

    def _cifar(root: Path, body: bytes = _body) -> None:
        cifar(root, body)

    add(_name, Kind(_cifar, None, "'data_batch_1' of .* cannot be read"))


@kind(rows=None, says="is no whole LMDB database")
def a_database_of_noise(root: Path) -> None:
    (root / "data.mdb").write_bytes(np.random.default_rng(0).bytes(1 << 16))


@kind(rows=None, says="is no whole LMDB database")
def a_database_cut_short(root: Path) -> None:
    import lmdb

    with lmdb.open(str(root), map_size=1 << 20) as env, env.begin(write=True) as writer:
        for k in range(40):
            writer.put(b"%040x" % k, png(k))
    (root / "lock.mdb").unlink()
    body = (root / "data.mdb").read_bytes()
    (root / "data.mdb").write_bytes(body[: len(body) // 2 // 4096 * 4096])
