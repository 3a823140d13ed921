"""Containers that are cut short, damaged or hostile: each named with its reason, nothing run, nothing outside read."""

import builtins
import io
import json
import os
import pickle
import shutil
import stat
import struct
import tarfile
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from elegan.data import tree as trees
from elegan.data.readers import arrow, cifar, hdf5, pickles
from elegan.data.readers.pickles import read_plain
from elegan.data.sources import open_data
from elegan.errors import DataError, NoSplitError

RNG = np.random.default_rng(0)
ROWS = 5


def png(side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


FILES = [png() for _ in range(12)]


def refused(path: Path, *words: str, seconds: float = 5.0, **options) -> str:
    """The one line with which a path is refused, soon."""
    start = time.monotonic()
    with warnings.catch_warnings(action="ignore", category=UserWarning), pytest.raises(DataError) as caught:
        open_data(path, **options)
    assert time.monotonic() - start < seconds
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line
    return line


@pytest.fixture
def few(monkeypatch):
    """CIFAR's files with `ROWS` pictures each."""
    for layout in cifar.LAYOUTS:
        for file in layout.rows:
            monkeypatch.setitem(layout.rows, file, ROWS)


# Cut short at each tenth


def write_cifar(home: Path, kind: str) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    for file in (*cifar.TENTHS, "test_batch"):
        labels, pixels = [k % 10 for k in range(ROWS)], RNG.integers(0, 256, (ROWS, 3072), dtype=np.uint8)
        if kind == "bin":
            body = b"".join(bytes([k]) + row.tobytes() for k, row in zip(labels, pixels, strict=True))
            (home / f"{file}.bin").write_bytes(body)
        else:
            (home / file).write_bytes(pickle.dumps({b"data": pixels, b"labels": labels}, 2))
    (home / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    if kind != "bin":
        (home / "batches.meta").write_bytes(pickle.dumps({b"label_names": [x.encode() for x in "abcdefghij"]}, 2))
    return home


def cifar_file(home: Path, kind: str, file: str) -> tuple[Path, Path]:
    return write_cifar(home, kind) / file, home


def write_parquet(path: Path, table: pa.Table, **options) -> Path:
    pq.write_table(table, path, **options)
    return path


def write_arrow(path: Path, table: pa.Table, *, file: bool = False, **options) -> Path:
    new = pa.ipc.new_file if file else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema, **options) as packed:
        packed.write_table(table, max_chunksize=4)
    return path


def write_h5(path: Path, **options) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8), **options)
    return path


def write_lmdb(home: Path, values: dict[bytes, bytes]) -> Path:
    with lmdb.open(str(home), map_size=1 << 20) as env, env.begin(write=True) as filling:
        for key, value in values.items():
            filling.put(key, value)
    return home


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, body in files.items():
            packed.writestr(name, body)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as packed:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            packed.addfile(info, io.BytesIO(body))
    return path


NAMED = {f"{k:02}.png": file for k, file in enumerate(FILES)}
TABLE = pa.table({"image": FILES, "label": [k % 3 for k in range(12)]})
LISTS = pa.table({"x": pa.array(list(RNG.normal(size=(20, 30)).astype(np.float32)))})
FORMATS: dict[str, Callable[[Path], tuple[Path, Path]]] = {  # what makes: the file to cut, and the path to open
    "cifar binary": lambda home: cifar_file(home / "c", "bin", "data_batch_3.bin"),
    "cifar pickle": lambda home: cifar_file(home / "c", "py", "data_batch_3"),
    "cifar names": lambda home: cifar_file(home / "c", "py", "batches.meta"),
    "parquet": lambda home: (write_parquet(home / "x.parquet", TABLE, row_group_size=5),) * 2,
    "parquet lists": lambda home: (write_parquet(home / "x.parquet", LISTS),) * 2,
    "arrow stream": lambda home: (write_arrow(home / "x.arrow", TABLE),) * 2,
    "arrow file": lambda home: (write_arrow(home / "x.arrow", TABLE, file=True),) * 2,
    "hdf5": lambda home: (write_h5(home / "x.h5"),) * 2,
    "hdf5 gzip": lambda home: (write_h5(home / "x.hdf5", chunks=(4, 8, 8), compression="gzip"),) * 2,
    "lmdb": lambda home: (write_lmdb(home / "m", {b"%d" % k: f for k, f in enumerate(FILES)}) / "data.mdb", home / "m"),
    "zip": lambda home: (write_zip(home / "x.zip", NAMED),) * 2,
    "tar": lambda home: (write_tar(home / "x.tar", NAMED),) * 2,
    "tar.gz": lambda home: (write_tar(home / "x.tar.gz", NAMED, "w:gz"),) * 2,
    "tar.bz2": lambda home: (write_tar(home / "x.tar.bz2", NAMED, "w:bz2"),) * 2,
    "tar.xz": lambda home: (write_tar(home / "x.tar.xz", NAMED, "w:xz"),) * 2,
}


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_short_at_each_tenth(few, tmp_path, kind):
    file, path = FORMATS[kind](tmp_path)
    open_data(path)
    whole = file.read_bytes()
    whole = whole.rstrip(b"\0") if kind == "tar" else whole  # it ends in zeros, of which some may be missing
    for tenth in range(10):
        file.write_bytes(whole[: len(whole) * tenth // 10])
        refused(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_text_under_that_name_is_refused(few, tmp_path, kind):
    file, path = FORMATS[kind](tmp_path)
    file.write_text("these are words, and nothing else\n" * 500)
    refused(path)


def test_a_stream_that_ends_between_two_batches_is_cut_short(tmp_path):
    path = write_arrow(tmp_path / "x.arrow", TABLE)
    path.write_bytes(path.read_bytes()[: -len(arrow.END)])
    refused(path, "cut short")


def test_a_batch_with_a_record_less_is_cut_short(few, tmp_path):
    home = write_cifar(tmp_path / "c", "bin")
    body = (home / "data_batch_2.bin").read_bytes()
    for changed in (body[:-3073], body + body[:3073]):
        (home / "data_batch_2.bin").write_bytes(changed)
        refused(home, "data_batch_2.bin", "bytes")
    (home / "data_batch_2.bin").unlink()
    refused(home, "lacks 'data_batch_2.bin'")


# Pickles that would do something


class Call:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


def hostile(marker: Path) -> dict[str, bytes]:
    """Pickles that make a folder when they are unpickled, or reach for what could."""
    where = str(marker).encode()
    made = {f"reduce {protocol}": pickle.dumps({b"data": Call(marker)}, protocol) for protocol in range(6)}
    made |= {
        "builtins": b"c__builtin__\neval\n(S'1'\ntR.",
        "inst": b"(S'" + where + b"'\niposix\nmkdir\n.",
        "obj": b"(cposix\nmkdir\nS'" + where + b"'\no.",
        "newobj": b"\x80\x02cposix\nmkdir\nU" + bytes([len(where)]) + where + b"\x85\x81.",
        "stack global": b"\x80\x04\x8c\x05posix\x8c\x05mkdir\x93\x8c" + bytes([len(where)]) + where + b"\x85R.",
        "numpy's name, then more": b"cnumpy\nload\n(S'" + where + b"'\ntR.",
        "an inner name": b"cnumpy.core.multiarray\n_reconstruct.__globals__\n(tR.",
        "persistent": b"Psomething\n.",
        "binary persistent": b"K\x01Q.",
        "extension": b"\x80\x02\x82\x01.",
        "dup": b"K\x01" + b"2" * 10 + b"t.",
        "next buffer": b"\x80\x05\x97.",
        "build on a dictionary": b"}(S'__class__'\nK\x01ub.",
        "a call of what is no name": b"K\x01(tR.",
        "bytes of a length": b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
        "memo that is not there": b"h\x07.",
        "no mark": b"t.",
        "empty stack": b"a.",
        "two left": b"K\x01K\x02.",
        "unhashable key": b"}]K\x01s.",
    }
    return made


def test_unpickling_them_would_do_it(tmp_path):
    """The corpus below is worth something."""
    for kind in ("reduce 2", "reduce 5", "inst", "obj", "stack global"):
        pickle.loads(hostile(tmp_path / "made")[kind])
        (tmp_path / "made").rmdir()


@pytest.mark.parametrize("kind", hostile(Path("x")))
def test_a_hostile_pickle_is_refused_and_nothing_runs(few, tmp_path, kind, monkeypatch):
    home = write_cifar(tmp_path / "c", "py")
    body = hostile(tmp_path / "made")[kind]
    for loader in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, loader, None)
    with pytest.raises(ValueError, match=r"it asks for|instruction"):
        read_plain(body)
    for file in ("data_batch_1", "batches.meta"):
        kept = (home / file).read_bytes()
        (home / file).write_bytes(body)
        refused(home, f"{file!r} of", "cannot be read", "fetch it again")
        (home / file).write_bytes(kept)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("reduce 0", "asks for 'posix.mkdir'"),
        ("reduce 5", "asks for 'posix.mkdir'"),
        ("builtins", "asks for '__builtin__.eval'"),
        ("numpy's name, then more", "asks for 'numpy.load'"),
        ("newobj", "asks for 'posix.mkdir'"),
        ("persistent", "the instruction PERSID"),
        ("extension", "the instruction EXT1"),
        ("dup", "the instruction DUP"),
    ],
)
def test_what_a_pickle_asks_for_is_said(kind, words):
    with pytest.raises(ValueError, match=words):
        read_plain(hostile(Path("made"))[kind])


def test_a_pickle_of_countless_instructions_is_not_followed(monkeypatch):
    monkeypatch.setattr(pickles, "STEPS", 1000)
    with pytest.raises(ValueError, match="more than 1,000 instructions"):
        read_plain(b"\x80\x02" + b"}" * 2000 + b".")
    monkeypatch.setattr(pickles, "BYTES", 1000)
    with pytest.raises(ValueError, match="bytes long"):
        read_plain(b"\x80\x02" + b"}" * 2000 + b".")


def test_a_list_in_itself_is_no_endless_loop(few, tmp_path):
    home = write_cifar(tmp_path / "c", "py")
    inside = b"\x80\x02}q\x00(U\x06labels]q\x01h\x01aU\x04data]u."
    pickle.loads(inside, encoding="bytes")
    (home / "data_batch_1").write_bytes(inside)
    refused(home, "data_batch_1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda batch: batch | {b"labels": [0] * (ROWS - 1)}, "not 5 pictures"),
        (lambda batch: batch | {b"labels": [0, 1, 2, 3, 10]}, "class 10"),
        (lambda batch: batch | {b"labels": [0, 1, 2, 3, -1]}, "no class numbers"),
        (lambda batch: batch | {b"labels": [0, 1, 2, 3, "4"]}, "no class numbers"),
        (lambda batch: batch | {b"data": batch[b"data"].astype(np.int64)}, "int64"),
        (lambda batch: batch | {b"data": batch[b"data"][:, :-1]}, "(5, 3071)"),
        (lambda batch: batch | {b"data": np.array([None])}, "its array"),
        (lambda batch: batch | {b"data": [1, 2]}, "no pictures"),
        (lambda batch: [batch], "no pictures"),
    ],
)
def test_batches_that_hold_something_else(few, tmp_path, change, words):
    home = write_cifar(tmp_path / "c", "py")
    batch = {b"data": RNG.integers(0, 256, (ROWS, 3072), dtype=np.uint8), b"labels": [0] * ROWS}
    (home / "data_batch_4").write_bytes(pickle.dumps(change(batch), 2))
    refused(home, "data_batch_4", words)


# Archives


def test_names_that_lead_out_are_passed_over_and_told(tmp_path):
    (tmp_path / "secret.png").write_bytes(FILES[0])
    bad = ("../secret.png", "/etc/secret.png", "C:/secret.png", "a/../../secret.png", "..\\secret.png")
    good = {"in/a.png": FILES[1], "in/b.png": FILES[2]}
    for path in (
        write_zip(tmp_path / "x.zip", good | dict.fromkeys(bad, FILES[0])),
        write_tar(tmp_path / "x.tar", good | dict.fromkeys(bad, FILES[0])),
    ):
        with pytest.warns(UserWarning, match=r"not followed: 5 entries.*leads out of it"):
            data = open_data(path)
        assert len(data) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret.png", "x.tar", "x.zip"]


def test_links_and_devices_in_a_tar_are_passed_over(tmp_path):
    (tmp_path / "secret.png").write_bytes(FILES[0])
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        for k, kind in enumerate(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
        ):
            info = tarfile.TarInfo(f"{k}.png")
            info.type, info.linkname = kind, str(tmp_path / "secret.png")
            packed.addfile(info)
        info = tarfile.TarInfo("a.png")
        info.size = len(FILES[1])
        packed.addfile(info, io.BytesIO(FILES[1]))
    with pytest.warns(UserWarning, match=r"5 entries.*a link"):
        assert len(open_data(tmp_path / "x.tar")) == 1


def test_links_and_encrypted_entries_in_a_zip_are_passed_over(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.png": FILES[0], "b.png": FILES[1], "c.png": FILES[2]})
    with zipfile.ZipFile(path, "a") as packed:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, "/etc/passwd")
    body = bytearray(path.read_bytes())
    place = body.rindex(b"PK\x01\x02", 0, body.rindex(b"c.png"))
    body[place + 8] |= 1  # the flag of encryption
    path.write_bytes(body)
    with pytest.warns(UserWarning, match=r"2 entries.*(encrypted|a link)"):
        assert len(open_data(path)) == 2


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "FILE", 1 << 20)
    path = write_zip(tmp_path / "x.zip", {"bomb.png": bytes(50 << 20), "a.png": FILES[0]})
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    with pytest.warns(UserWarning, match="unpacks to 52,428,800 bytes, over 200 times its size"):
        open_data(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 << 20


def test_a_zip_that_lies_about_sizes_gives_no_more_than_it_says(tmp_path):
    """The entry says 100 bytes and unpacks to many."""
    path = write_zip(tmp_path / "x.zip", {"a.png": FILES[0], "b.png": bytes(30 << 20)})
    body = bytearray(path.read_bytes())
    place = body.rindex(b"PK\x01\x02", 0, body.rindex(b"b.png"))
    body[place + 24 : place + 28] = struct.pack("<I", 100)
    path.write_bytes(body)
    tracemalloc.start()
    with pytest.warns(UserWarning, match=r"1 of 2 images cannot be read.*b\.png"):
        assert len(open_data(path)) == 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 << 20


def test_a_bomb_of_a_packed_tar_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "ROOMY", 1 << 20)
    path = write_tar(tmp_path / "x.tar.xz", {"a.png": bytes(30 << 20)}, "w:xz")
    refused(path, "over 200 times its size: not unpacked")


def test_a_tar_whose_entry_claims_more_than_there_is(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"a.png": FILES[0]})
    body = bytearray(path.read_bytes())
    info = tarfile.TarInfo("a.png")
    info.size = 1 << 60
    body[:512] = info.tobuf(tarfile.GNU_FORMAT)[:512]
    path.write_bytes(body)
    refused(path, "no whole tar file")


def test_a_damaged_entry_is_left_out_and_named(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.png": FILES[0], "b.png": FILES[1]})
    body = bytearray(path.read_bytes())
    place = body.index(FILES[0][40:60]) if FILES[0][40:60] in body else body.index(b"a.png") + 60
    body[place] ^= 0xFF
    path.write_bytes(body)
    with pytest.warns(UserWarning, match=r"1 of 2 images cannot be read.*a\.png"):
        assert len(open_data(path)) == 1


@pytest.mark.parametrize("end", ["zip", "tar"])
def test_archives_without_images(tmp_path, end):
    write = write_zip if end == "zip" else write_tar
    refused(write(tmp_path / f"x.{end}", {}), "holds no images")
    refused(write(tmp_path / f"y.{end}", {"notes.bin": b"words"}), "holds no images")
    refused(write(tmp_path / f"z.{end}", {"in.zip": b"PK", "other.tar": b""}), "such as 'in.zip': unpack them")


# HDF5


def h5(path: Path) -> h5py.File:
    return h5py.File(path, "w")


def test_what_an_hdf5_file_points_to_elsewhere_is_not_read(tmp_path):
    outside = tmp_path / "outside.h5"
    with h5(outside) as file:
        file["x"] = np.zeros((4, 8, 8), np.uint8)
    (tmp_path / "secret").write_bytes(bytes(256))
    with h5(tmp_path / "a.h5") as file:
        file["x"] = h5py.ExternalLink(str(outside), "/x")
        file["y"] = h5py.SoftLink("/x")
        file["loop"] = h5py.SoftLink("/loop")
    refused(tmp_path / "a.h5", "holds no arrays", "a link")
    with h5(tmp_path / "b.h5") as file:
        file.create_dataset("x", (4, 8, 8), "u1", external=[(str(tmp_path / "secret"), 0, 256)])
    refused(tmp_path / "b.h5", "it lies in other files")
    with h5(tmp_path / "c.h5") as file:
        layout = h5py.VirtualLayout((4, 8, 8), "u1")
        layout[:] = h5py.VirtualSource(str(outside), "x", (4, 8, 8))
        file.create_virtual_dataset("x", layout)
    refused(tmp_path / "c.h5", "it lies in other files")
    with h5(tmp_path / "d.h5") as file:
        file["group/inner"] = np.zeros((4, 8, 8), np.uint8)
        file["group/self"] = file["group"]  # a group in itself
        file["self"] = file["/"]
    assert len(open_data(tmp_path / "d.h5")) == 4


def test_arrays_of_hdf5_that_are_no_numbers(tmp_path):
    for kind, rows in {
        "texts": np.array([b"a", b"b"], "S4"),
        "objects": np.array(["a", "b"], h5py.string_dtype()),
        "records": np.zeros(3, [("a", "u1"), ("b", "f4")]),
        "references": None,
    }.items():
        with h5(tmp_path / f"{kind}.h5") as file:
            if rows is None:
                file.create_dataset("x", data=[file.ref], dtype=h5py.ref_dtype)
            else:
                file["x"] = rows
        refused(tmp_path / f"{kind}.h5", "no array of numbers")
    with h5(tmp_path / "empty.h5") as file:
        file["x"] = h5py.Empty("u1")
    refused(tmp_path / "empty.h5", "holds no arrays")
    with h5(tmp_path / "none.h5") as file:
        file["x"] = np.zeros((0, 8, 8), np.uint8)
    refused(tmp_path / "none.h5", "no samples")
    with h5(tmp_path / "nothing.h5"):
        pass
    refused(tmp_path / "nothing.h5", "holds no arrays")


def test_an_hdf5_file_that_claims_much_and_holds_little(tmp_path):
    with h5(tmp_path / "x.h5") as file:
        file.create_dataset("x", (1 << 40, 64, 64), "u1", chunks=(1, 64, 64))
    assert (tmp_path / "x.h5").stat().st_size < 10_000
    refused(tmp_path / "x.h5", "over 200 times what is stored")


def test_a_large_hdf5_that_is_damaged_or_badly_labelled(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "LARGE", 100)
    with h5(tmp_path / "x.h5") as file:
        file.create_dataset(
            "x", data=RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8), chunks=(1, 8, 8), compression="gzip"
        )
        file["y"] = np.zeros(39, np.int64)
        place = file["x"].id.get_chunk_info(7).byte_offset
    refused(tmp_path / "x.h5", "40 rows of 'x' but 39 of 'y'")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        del file["y"]
    body = bytearray((tmp_path / "x.h5").read_bytes())
    body[place : place + 20] = bytes(20)
    (tmp_path / "x.h5").write_bytes(body)
    with pytest.warns(UserWarning, match=r"1 of 40 images cannot be read, the first is '7'"):
        assert len(open_data(tmp_path / "x.h5")) == 39
    with h5(tmp_path / "z.h5") as file:
        file["x"] = np.zeros((40, 8, 8), np.int64)
    refused(tmp_path / "z.h5", "int64 is neither")


# Parquet and Arrow

CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def test_an_image_that_a_row_only_names_is_never_opened(tmp_path):
    (tmp_path / "secret.png").write_bytes(FILES[0])
    cells = [{"bytes": FILES[k], "path": None} for k in range(11)] + [
        {"bytes": None, "path": str(tmp_path / "secret.png")}
    ]
    path = write_parquet(tmp_path / "x.parquet", pa.table({"image": pa.array(cells, CELL)}))
    with pytest.warns(UserWarning, match=r"1 of 12 images.*'x\.parquet/11' \(its image lies elsewhere"):
        assert len(open_data(path)) == 11
    path = write_parquet(tmp_path / "y.parquet", pa.table({"image": pa.array([cells[-1]] * 3, CELL)}))
    refused(path, "save the data with its images in it")


def test_missing_and_broken_images_are_left_out_and_named(tmp_path):
    cells = [None, b"words", *FILES, *FILES]
    with pytest.warns(UserWarning, match=r"2 of 26 images.*'x\.parquet/0' \(there is no image\)"):
        assert len(open_data(write_parquet(tmp_path / "x.parquet", pa.table({"image": cells})))) == 24


def classed(labels: list, names: list[str]) -> pa.Table:
    info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = pa.table({"image": FILES[: len(labels)], "label": labels})
    return table.replace_schema_metadata({"huggingface": json.dumps(info)})


@pytest.mark.parametrize(
    ("table", "words", "options"),
    [
        (classed([0, 1, None], ["a", "b"]), "row 2 has no 'label'", {}),
        (classed([0, 1, 2], ["a", "b"]), "from 0 to 2, and there are 2 classes", {}),
        (classed([0, -1, 1], ["a", "b"]), "from -1 to 1", {}),
        (classed([0, 0, 1], ["a", "b", "c"]), "'c'", {}),
        (pa.table({"image": FILES[:3], "label": [1.5, 2.0, 1.0]}), "neither whole numbers nor texts", {}),
        (pa.table({"image": FILES[:3], "label": [0, 2, 2]}), "no sample has label 1", {}),
        (pa.table({"image": FILES[:3], "kind": [0, 1, 1]}), "Did you mean 'kind'?", {"class_column": "kinds"}),
        (pa.table({"one": FILES[:3], "two": FILES[:3]}), "which of the columns 'one', 'two' are the samples?", {}),
        (pa.table({"x": [[1.0, 2.0], [3.0]]}), "not all of one length", {}),
        (pa.table({"x": [[1.0, 2.0], None]}), "not all of one length", {}),
        (pa.table({"x": [[1.0, 2.0], [3.0, None]]}), "misses 1 numbers", {}),
        (pa.table({"x": [["a"], ["b"]]}), "is not read from columns|not read from columns", {}),
        (pa.table({"image": pa.array([], pa.binary())}), "has no rows", {}),
        (pa.Table.from_arrays([pa.array(FILES[:2])] * 2, names=["image", "image"]), "two columns of one name", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["parquet", "arrow"])
def test_columns_that_do_not_say_what_they_are(tmp_path, table, words, options, end):
    write = write_parquet if end == "parquet" else write_arrow
    line = refused(write(tmp_path / f"x.{end}", table), **options)
    assert any(word in line for word in words.split("|")), line


def test_metadata_that_is_no_metadata_is_as_if_there_were_none(tmp_path):
    for k, said in enumerate((b"{", b"[]", b'{"info": 3}', b'{"info": {"features": {"label": 5}}}', b"\xff")):
        table = TABLE.replace_schema_metadata({b"huggingface": said})
        assert open_data(write_parquet(tmp_path / f"{k}.parquet", table)).spec["label"].names == ("0", "1", "2")


def test_a_class_of_the_test_split_that_was_never_seen_is_named(tmp_path):
    for split, kinds in (("train", ["ant", "bee"]), ("test", ["ant", "cow"])):
        write_parquet(tmp_path / f"{split}.parquet", pa.table({"image": FILES[:2], "kind": kinds}))
    with pytest.raises(DataError, match="class 'cow' is not in the training split"):
        open_data(tmp_path, split="test", class_column="kind")


def test_recordings_in_columns_are_refused_by_name(tmp_path):
    table = pa.table({"sound": pa.array([{"bytes": b"RIFF", "path": "a.wav"}], CELL)})
    said = {"info": {"features": {"sound": {"_type": "Audio"}}}}
    path = write_parquet(tmp_path / "x.parquet", table.replace_schema_metadata({"huggingface": json.dumps(said)}))
    refused(path, "column 'sound' holds audio", "save it as files")


def test_shards_that_do_not_fit_together(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", TABLE)
    write_parquet(tmp_path / "train-1.parquet", TABLE.drop_columns(["label"]))
    refused(tmp_path, "'train-1.parquet' has other columns than 'train-0.parquet'")
    (tmp_path / "train-1.parquet").unlink()
    with pytest.raises(NoSplitError, match="no test split"):
        open_data(tmp_path, split="test")
    (tmp_path / "train-0.parquet").rename(tmp_path / "test-0.parquet")
    write_parquet(tmp_path / "test-1.parquet", TABLE)
    refused(tmp_path, "no training split, only test")
    refused(write_zip(tmp_path / "x.zip", {"train.parquet": (tmp_path / "test-1.parquet").read_bytes()}), "unpack it")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ('{"_data_files": [{"filename": "../secret.arrow"}]}', "missing"),
        ('{"_data_files": [{"filename": "/etc/passwd"}]}', "missing"),
        ('{"_data_files": [{"filename": "data-1.arrow"}]}', "missing"),
        ('{"_data_files": 3}', "damaged"),
        ("[" * 100_000, "damaged"),
        ("", "damaged"),
        ('{"_data_files": [{"filename": "data-0.arrow"}], "_indices_files": [{"filename": "i"}]}', "flatten_indices"),
    ],
)
def test_a_state_that_names_other_files(tmp_path, state, words):
    home = tmp_path / "saved"
    home.mkdir()
    write_arrow(tmp_path / "secret.arrow", TABLE)
    write_arrow(home / "data-0.arrow", TABLE)
    (home / "state.json").write_text(state)
    refused(home, words)


def test_columns_that_unpack_to_far_more_than_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow, "ROOMY", 1 << 20)
    monkeypatch.setattr(arrow, "CLAIMED", 1 << 12)
    zeros = pa.table({"image": [bytes(10 << 20)], "label": [0]})
    path = write_parquet(tmp_path / "a.parquet", zeros, compression="zstd", use_dictionary=False)
    refused(path, "over 200 times the size")
    many = pa.table({"image": pa.nulls(1 << 20, pa.binary())})
    refused(write_parquet(tmp_path / "b.parquet", many), "over 200 times the size")
    lists = pa.table({"x": pa.array(np.zeros((600, 2000), np.float32).tolist(), pa.list_(pa.float32()))})
    path = write_parquet(tmp_path / "c.parquet", lists, compression="zstd")
    assert path.stat().st_size < 20_000
    refused(path, "over 200 times the size")
    path = write_arrow(tmp_path / "d.arrow", zeros, options=pa.ipc.IpcWriteOptions(compression="zstd"))
    refused(path, "is packed, and unpacks to over")


# Databases


def test_databases_that_hold_no_images(tmp_path):
    refused(write_lmdb(tmp_path / "a", {b"key": b"words"}), "no image of a known format")
    refused(write_lmdb(tmp_path / "b", {}), "is empty")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "data.mdb").write_bytes(b"")
    refused(tmp_path / "c", "no whole LMDB database")
    home = write_lmdb(tmp_path / "d", {b"key %d" % k: file for k, file in enumerate(FILES)})
    body = bytearray((home / "data.mdb").read_bytes())
    place = body.index(b"key 7\x89PNG") - 8  # the length of a value, as two numbers of 16 bits
    body[place + 2 : place + 4] = b"\xff\x7f"
    (home / "data.mdb").write_bytes(body)
    refused(home, "no whole LMDB database")
    write_zip(tmp_path / "d.zip", {"d/data.mdb": (home / "data.mdb").read_bytes()})
    refused(tmp_path / "d.zip", "cannot be read in an archive: unpack it")


# Lists beside the images


def celeba(home: Path) -> Path:
    (home / "img_align_celeba").mkdir(parents=True)
    for k in range(1, 5):
        (home / "img_align_celeba" / f"{k:06}.jpg").write_bytes(FILES[k])
    (home / "list_eval_partition.txt").write_text("".join(f"{k:06}.jpg {k % 2 * 2}\n" for k in range(1, 5)))
    (home / "list_attr_celeba.txt").write_text("4\nBald Young\n" + "".join(f"{k:06}.jpg 1 -1\n" for k in range(1, 5)))
    return home


def test_celeba_with_faces_or_lines_missing(tmp_path):
    home = celeba(tmp_path / "celeba")
    lists, attributes = home / "list_eval_partition.txt", home / "list_attr_celeba.txt"
    said = lists.read_text()
    lists.write_text(said.replace("000003.jpg 2\n", ""))
    with pytest.warns(UserWarning, match=r"'000003\.jpg' \(not in list_eval_partition\.txt\)"):
        open_data(home)
    for bad, words in {
        said.replace("jpg 2", "jpg"): "no list of faces, or cut short at '000001.jpg'",
        said.replace("jpg 2", "jpg 7"): "into part '7'",
        "": "no list of faces",
        "\xff".encode("latin-1").decode("latin-1") * 9: "no list of faces",
    }.items():
        lists.write_text(bad)
        refused(home, words)
    lists.write_bytes(b"\xff\xfe\x00")
    refused(home, "list_eval_partition.txt", "cannot be read")
    lists.write_text(said)
    attributes.write_text("4\nBald Young\n000001.jpg 1 -1\n")
    refused(home, "are not in list_attr_celeba, the first is '000002.jpg'", class_column="Bald")
    attributes.unlink()
    refused(home, "holds no list_attr_celeba.txt", class_column="Bald")
    (home / "img_align_celeba" / "000004.jpg").unlink()
    refused(home, "1 faces of 'list_eval_partition.txt' are not in img_align_celeba, the first is '000004.jpg'")
    shutil.rmtree(home / "img_align_celeba")
    refused(home, "holds no img_align_celeba")


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        (
            "LOC_val_solution.csv",
            "ImageId,PredictionString\nILSVRC2012_val_00000002,n00000001 1 2 3 4\n",
            "is not in the list",
        ),
        (
            "LOC_val_solution.csv",
            "ImageId,PredictionString\nILSVRC2012_val_00000001,n00000007 1 2 3 4\n",
            "no folder in train",
        ),
        ("LOC_val_solution.csv", "ImageId,PredictionString\nILSVRC2012_val_00000001,dog\n", "no list of pictures"),
        ("LOC_val_solution.csv", "ImageId,PredictionString\n", "no list of pictures"),
        ("LOC_val_solution.csv", "ImageId,PredictionString\nILSVRC2012_val_00000001\n", "no list of pictures"),
        ("LOC_val_solution.csv", b"\xff\xfe", "cannot be read"),
        ("ILSVRC2012_validation_ground_truth.txt", "1\n", "have no labels"),
    ],
)
def test_imagenet_with_a_list_that_does_not_fit(tmp_path, name, body, words):
    for wnid in ("n00000001", "n00000002"):
        (tmp_path / "train" / wnid).mkdir(parents=True)
        (tmp_path / "train" / wnid / "a.JPEG").write_bytes(FILES[0])
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(FILES[0])
    (tmp_path / name).write_bytes(body if isinstance(body, bytes) else body.encode())
    assert len(open_data(tmp_path)) == 2
    with pytest.raises(DataError, match=words):
        open_data(tmp_path, split="test")


# Libraries that are not there


@pytest.mark.parametrize(
    ("kind", "library", "extra"),
    [("parquet", "pyarrow", "table"), ("hdf5", "h5py", "science"), ("lmdb", "lmdb", "lmdb")],
)
def test_a_library_that_is_missing_is_named_with_its_remedy(tmp_path, monkeypatch, kind, library, extra):
    _, path = FORMATS[kind](tmp_path)
    importing = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == library:
            raise ImportError(name)
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    refused(path, f'pip install "elegan[{extra}]"')
