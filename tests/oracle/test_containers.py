"""The same data in whatever it is packed in gives the same rows: archives, HDF5, Parquet, Arrow, each written by its
own library."""

import io
import json
import shutil
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from elegan.data.form import Form
from elegan.data.listing import Listing
from elegan.data.readers import arrow, hdf5
from elegan.data.sources import find_data, open_data
from elegan.errors import DataError, NoSplitError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)  # (N, H, W, C)
PLANES = PICTURES.transpose(0, 3, 1, 2)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


FILES = [png(pixels) for pixels in PICTURES]
LAYOUTS: dict[str, dict[str, bytes]] = {
    "flat": {f"{k}.png": file for k, file in enumerate(FILES)},
    "classes": {f"{'cats' if k < 2 else 'dogs'}/deep/er/{k}.png": file for k, file in enumerate(FILES)},
    "one folder": {f"photos/all/{k}.png": file for k, file in enumerate(FILES)},
    "splits": {f"{'test' if k < 2 else 'train'}/{'ab'[k % 2]}x/{k}.png": file for k, file in enumerate(FILES)},
    "unpaired": {f"set/{'trainA' if k < 2 else 'trainB'}/{k}.png": file for k, file in enumerate(FILES)},
    "paired": {f"{'a' if k < 3 else 'b'}/{k % 3}.png": file for k, file in enumerate(FILES)},
    "stylegan": {f"0000{k % 2}/img{k:08}.png": file for k, file in enumerate(FILES)}
    | {"dataset.json": json.dumps({"labels": [[f"0000{k % 2}/img{k:08}.png", k // 3] for k in range(6)]}).encode()},
    "odd names": {
        f"{name}.png": file
        for name, file in zip(("é", "猫 🐈", "a\nb", "'\"", "%s" * 99, ".5"[1:]), FILES, strict=True)
    },
}


def write_folder(home: Path, files: dict[str, bytes]) -> Path:
    for name, body in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return home


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, body in reversed(files.items()):  # the order in an archive means nothing
            packed.writestr(name, body)
    return path


def write_tar(path: Path, files: dict[str, bytes], kind: int = tarfile.PAX_FORMAT) -> Path:
    end = path.suffix[1:]
    with tarfile.open(path, f"w:{'' if end == 'tar' else end}", format=kind) as packed:
        for name, body in reversed(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(body)
            packed.addfile(info, io.BytesIO(body))
    return path


ARCHIVES: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "deflated.zip": write_zip,
    "stored.zip": lambda path, files: write_zip(path, files, zipfile.ZIP_STORED),
    "bzip2.ZIP": lambda path, files: write_zip(path, files, zipfile.ZIP_BZIP2),
    "lzma.zip": lambda path, files: write_zip(path, files, zipfile.ZIP_LZMA),
    "pax.tar": write_tar,
    "gnu.tar": lambda path, files: write_tar(path, files, tarfile.GNU_FORMAT),
    "x.tar.gz": write_tar,
    "x.tar.bz2": write_tar,
    "x.tar.xz": write_tar,
}


def same(one, other) -> None:
    assert one.arrays.keys() == other.arrays.keys()
    for field, rows in one.arrays.items():
        np.testing.assert_array_equal(rows, other.arrays[field])
    assert {f: (field.kind, field.names, field.stream) for f, field in one.spec.items()} == {
        f: (field.kind, field.names, field.stream) for f, field in other.spec.items()
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("archive", ARCHIVES)
def test_an_archive_is_read_as_the_folder_it_was_made_of(tmp_path, archive, layout):
    folder = write_folder(tmp_path / "folder", LAYOUTS[layout])
    packed = ARCHIVES[archive](tmp_path / archive, LAYOUTS[layout])
    same(open_data(packed), open_data(folder))
    if layout == "splits":
        same(open_data(packed, split="test"), open_data(folder, split="test"))


def test_what_the_folders_are_taken_for(tmp_path):
    """The other side of the test above, on the folders: by the pixels themselves."""
    opened = {layout: open_data(write_folder(tmp_path / layout, files)) for layout, files in LAYOUTS.items()}
    for layout in ("flat", "classes", "one folder", "odd names"):
        found = {row.tobytes() for row in opened[layout].arrays["real"]}
        assert found == {row.tobytes() for row in PLANES}, layout
    np.testing.assert_array_equal(opened["flat"].arrays["real"], PLANES)
    assert opened["classes"].spec["label"].names == ("cats", "dogs")  # what lies deeper is no class
    assert opened["classes"].arrays["label"].tolist() == [0, 0, 1, 1, 1, 1]
    assert "label" not in opened["one folder"].spec
    np.testing.assert_array_equal(opened["unpaired"].arrays["a"], PLANES[:2])
    np.testing.assert_array_equal(opened["unpaired"].arrays["b"], PLANES[2:])
    assert opened["unpaired"].spec["a"].stream != opened["unpaired"].spec["b"].stream
    np.testing.assert_array_equal(opened["paired"].arrays["b"], PLANES[3:])
    assert opened["paired"].spec["a"].stream == opened["paired"].spec["b"].stream
    order = [0, 2, 4, 1, 3, 5]
    np.testing.assert_array_equal(opened["stylegan"].arrays["real"], PLANES[order])
    assert opened["stylegan"].arrays["label"].tolist() == [k // 3 for k in order]


def test_two_halves_side_by_side_in_a_zip(tmp_path):
    wide = {f"{k}.png": png(np.concatenate([PICTURES[k], PICTURES[k + 1]], 1)) for k in range(3)}
    data = open_data(write_zip(tmp_path / "x.zip", wide), sides=True)
    np.testing.assert_array_equal(data.arrays["a"], PLANES[:3])
    np.testing.assert_array_equal(data.arrays["b"], PLANES[1:4])


@pytest.mark.skipif(shutil.which("zip") is None, reason="there is no zip here")
def test_a_zip_made_by_zip(tmp_path):
    folder = write_folder(tmp_path / "folder", LAYOUTS["classes"])
    subprocess.run(["zip", "-qr", tmp_path / "x.zip", "."], cwd=folder, check=True)
    same(open_data(tmp_path / "x.zip"), open_data(folder))


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar here")
def test_a_tar_made_by_tar(tmp_path):
    folder = write_folder(tmp_path / "folder", LAYOUTS["odd names"])
    subprocess.run(["tar", "-czf", tmp_path / "x.tgz", "."], cwd=folder, check=True)
    same(open_data(tmp_path / "x.tgz"), open_data(folder))


def test_zip64(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for name, body in LAYOUTS["flat"].items():
            with packed.open(name, "w", force_zip64=True) as file:
                file.write(body)
    np.testing.assert_array_equal(open_data(tmp_path / "x.zip").arrays["real"], PLANES)


def test_of_two_entries_of_one_name_the_last_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("a.png", FILES[0])
        for file in FILES[1:3]:
            with pytest.warns(UserWarning, match="Duplicate name"):
                packed.writestr("a.png", file)
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        for file in FILES[:3]:
            info = tarfile.TarInfo("a.png")
            info.size = len(file)
            packed.addfile(info, io.BytesIO(file))
    for path in (tmp_path / "x.zip", tmp_path / "x.tar"):
        np.testing.assert_array_equal(open_data(path).arrays["real"], PLANES[2:3])


def test_backslashes_of_windows_are_folders(tmp_path):
    files = {name.replace("/", "\\"): body for name, body in LAYOUTS["classes"].items()}
    same(open_data(write_zip(tmp_path / "x.zip", files)), open_data(write_folder(tmp_path / "f", LAYOUTS["classes"])))


@pytest.mark.parametrize("what", ["x.zip", "x.tar.gz", "x.npz", "x.h5"])
def test_a_folder_of_one_archive_is_that_archive(tmp_path, what):
    home = tmp_path / "download"
    home.mkdir()
    if what.endswith(".npz"):
        np.savez(home / what, real=PLANES)
    elif what.endswith(".h5"):
        with h5py.File(home / what, "w") as file:
            file["real"] = PLANES
    else:
        (write_zip if what.endswith("zip") else write_tar)(home / what, LAYOUTS["flat"])
    for note in ("README.md", "LICENSE", ".hidden"):
        (home / note).write_text("words")
    np.testing.assert_array_equal(open_data(home).arrays["real"], PLANES)
    shutil.copy(home / what, home / f"y{what}")
    with pytest.raises(DataError):
        open_data(home)


@pytest.mark.parametrize("path", ["x.zip", "x.tar"])
def test_many_files_of_an_archive_are_packed_once_and_read_in_threads(tmp_path, path):
    files = {f"{k:04}.png": png(np.full((4, 4), k % 256, np.uint8)) for k in range(600)}
    data = open_data((write_zip if path.endswith("zip") else write_tar)(tmp_path / path, files))
    assert isinstance(data.arrays["real"], np.memmap)
    np.testing.assert_array_equal(data.arrays["real"][:, 0, 0, 0], np.arange(600) % 256)


# HDF5


def write_h5(path: Path, held: dict[str, np.ndarray], **options) -> Path:
    with h5py.File(path, "w") as file:
        for key, rows in held.items():
            file.create_dataset(key, data=rows, **options)
    return path


LABELS = np.array([0, 1, 2, 0, 1, 2])
KEYS = {
    "real": {"real": PLANES},
    "last axis, with labels": {"x": PICTURES, "y": LABELS},
    "one of any name": {"faces": PLANES},
    "splits": {"train_images": PLANES, "test_images": PLANES[:2]},
    "groups": {"train/images": PLANES, "train/labels": LABELS, "test/images": PLANES[:2], "test/labels": LABELS[:2]},
    "pairs": {"a": PLANES, "b": PLANES[::-1]},
    "no pairs": {"a": PLANES, "b": PLANES[:4]},
    "vectors": {"data": RNG.normal(size=(5, 3))},
    "deep": {"x": RNG.integers(0, 65536, (4, 8, 8), dtype=np.uint16)},
    "floats": {"x": RNG.normal(size=(4, 8, 8, 3)).astype(np.float32)},
    "other end": {"x": RNG.integers(0, 65536, (4, 8, 8)).astype(">u2")},
}


@pytest.mark.parametrize("case", KEYS)
@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip", "shuffle": True}])
def test_hdf5_has_the_rules_of_arrays(tmp_path, case, options):
    held = KEYS[case]
    write_h5(tmp_path / "x.h5", held, **options)
    np.savez(tmp_path / "x.npz", **{key.replace("/", "_"): rows for key, rows in held.items()})
    same(open_data(tmp_path / "x.h5"), open_data(tmp_path / "x.npz"))
    if any("test" in key for key in held):
        same(open_data(tmp_path / "x.h5", split="test"), open_data(tmp_path / "x.npz", split="test"))
    else:
        with pytest.raises(NoSplitError):
            open_data(tmp_path / "x.h5", split="test")


@pytest.mark.parametrize("options", [{}, {"size": 4}, {"colour": "grey"}])
def test_a_large_hdf5_is_read_row_by_row_to_the_same_rows(tmp_path, monkeypatch, options):
    path = write_h5(tmp_path / "x.h5", {"train/images": PICTURES, "train/labels": LABELS, "test/images": PICTURES[:2]})
    small = open_data(path, **options)
    monkeypatch.setattr(hdf5, "LARGE", 10)
    assert isinstance(find_data(path, form=Form()), Listing)
    large = open_data(path, **options)
    same(large, small)
    assert large.spec["label"].names == small.spec["label"].names
    np.testing.assert_array_equal(open_data(path, split="test").arrays["real"], PLANES[:2])


def test_a_large_hdf5_is_never_in_memory_whole(tmp_path, monkeypatch):
    rows = RNG.integers(0, 256, (600, 3, 64, 64), dtype=np.uint8)  # 7 MB
    path = write_h5(tmp_path / "x.h5", {"real": rows}, chunks=(8, 3, 64, 64))
    monkeypatch.setattr(hdf5, "LARGE", 1 << 20)
    tracemalloc.start()
    data = open_data(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(data.arrays["real"], np.memmap)
    assert peak < rows.nbytes / 2, peak
    np.testing.assert_array_equal(data.arrays["real"], rows)


# Parquet and Arrow


CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def hugging(features: dict[str, dict]) -> dict[str, str]:
    """The metadata of a schema that `datasets` writes."""
    return {"huggingface": json.dumps({"info": {"features": features}})}


IMAGE = {"image": {"_type": "Image"}}
CLASS = {"label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}}


def images(rows: slice = slice(None), labels: list | None = None, names: bool = True) -> pa.Table:
    cells = [{"bytes": file, "path": f"{k}.png"} for k, file in enumerate(FILES[rows])]
    columns, features = {"image": pa.array(cells, CELL)}, dict(IMAGE)
    if labels is not None:
        columns["label"] = pa.array(labels)
        features |= CLASS if names else {"label": {"dtype": "int64", "_type": "Value"}}
    return pa.table(columns).replace_schema_metadata(hugging(features))


def write_table(path: Path, table: pa.Table, rows: int = 2) -> Path:
    """In groups of some rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=rows, write_batch_size=8, data_page_size=1 << 14)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=rows)
    return path


@pytest.mark.parametrize("end", ["parquet", "arrow"])
def test_one_file_of_images_with_classes_by_name(tmp_path, end):
    data = open_data(write_table(tmp_path / f"x.{end}", images(labels=[2, 0, 1, 1, 2, 0])))
    np.testing.assert_array_equal(data.arrays["real"], PLANES)
    assert data.arrays["label"].tolist() == [2, 0, 1, 1, 2, 0]
    assert data.spec["label"].names == ("cat", "dog", "eel")
    assert list(data.names) == [f"x.{end}/{k}" for k in range(6)]
    with pytest.raises(NoSplitError):
        open_data(tmp_path / f"x.{end}", split="test")


def test_an_arrow_file_is_read_as_a_stream_is(tmp_path):
    table = images(labels=[2, 0, 1, 1, 2, 0])
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as packed:
        packed.write_table(table, max_chunksize=4)
    same(open_data(tmp_path / "x.arrow"), open_data(write_table(tmp_path / "y.arrow", table)))


def test_shards_of_a_hub_repository(tmp_path):
    home = tmp_path / "data"
    for k in range(2):
        write_table(home / f"train-0000{k}-of-00002.parquet", images(slice(3 * k, 3 * k + 3), [0, 1, 2]))
    write_table(home / "test-00000-of-00001.parquet", images(slice(4, 6), [-1, -1]))  # hidden, as the hub has it
    (tmp_path / "README.md").write_text("---\nconfigs: []\n---")
    (tmp_path / "dataset_infos.json").write_text("{}")
    data = open_data(tmp_path)
    np.testing.assert_array_equal(data.arrays["real"], PLANES)
    assert data.arrays["label"].tolist() == [0, 1, 2, 0, 1, 2]
    assert data.names[3:5] == ["data/train-00001-of-00002.parquet/0", "data/train-00001-of-00002.parquet/1"]
    test = open_data(tmp_path, split="test")
    np.testing.assert_array_equal(test.arrays["real"], PLANES[4:])
    assert "label" not in test.spec


def test_what_save_to_disk_writes(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for split, rows in (("train", slice(0, 4)), ("test", slice(4, 6))):
        write_table(tmp_path / split / "data-00000-of-00001.arrow", images(rows))
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split, "_indices_files": None}
        (tmp_path / split / "state.json").write_text(json.dumps(state))
    write_table(tmp_path / "train" / "cache-0123456789abcdef.arrow", pa.table({"other": [1, 2, 3]}))
    np.testing.assert_array_equal(open_data(tmp_path).arrays["real"], PLANES[:4])
    np.testing.assert_array_equal(open_data(tmp_path, split="test").arrays["real"], PLANES[4:])
    np.testing.assert_array_equal(open_data(tmp_path / "test").arrays["real"], PLANES[4:])


def test_a_list_beside_images_is_not_the_data(tmp_path):
    write_folder(tmp_path, LAYOUTS["flat"])
    write_table(tmp_path / "metadata.parquet", pa.table({"file_name": ["0.png"], "text": ["noise"]}))
    np.testing.assert_array_equal(open_data(tmp_path).arrays["real"], PLANES)


def test_plain_bytes_and_labels_without_metadata(tmp_path):
    table = pa.table({"img": FILES, "fine_label": [5, 6, 5, 6, 5, 7], "label": pa.array([1, 2, 1, 2, 1, 2], pa.int8())})
    data = open_data(write_table(tmp_path / "x.parquet", table))
    assert data.arrays["label"].tolist() == [0, 1, 0, 1, 0, 1]
    assert data.spec["label"].names == ("1", "2")


def test_the_class_column_may_be_texts_numbered_alike_in_both_splits(tmp_path):
    for split, rows, kinds in (
        ("train", slice(0, 3), ["owl", "ant", "bee"]),
        ("test", slice(3, 6), ["owl", "bee", "ant"]),
    ):
        table = pa.table({"image": FILES[rows], "kind": kinds})
        write_table(tmp_path / f"{split}.parquet", table)
    train = open_data(tmp_path, class_column="kind")
    assert (train.spec["label"].names, train.arrays["label"].tolist()) == (("ant", "bee", "owl"), [2, 0, 1])
    test = open_data(tmp_path, class_column="kind", split="test")
    assert (test.spec["label"].names, test.arrays["label"].tolist()) == (("ant", "bee", "owl"), [2, 1, 0])


def test_two_columns_of_images_are_pairs(tmp_path):
    data = open_data(write_table(tmp_path / "x.parquet", pa.table({"b": FILES[3:], "a": FILES[:3]})))
    np.testing.assert_array_equal(data.arrays["a"], PLANES[:3])
    np.testing.assert_array_equal(data.arrays["b"], PLANES[3:])
    wide = [png(np.concatenate([PICTURES[k], PICTURES[k + 1]], 1)) for k in range(3)]
    data = open_data(write_table(tmp_path / "y.parquet", pa.table({"image": wide})), sides=True)
    np.testing.assert_array_equal(data.arrays["b"], PLANES[1:4])


@pytest.mark.parametrize("fixed", [False, True])
def test_lists_of_numbers_are_arrays(tmp_path, fixed):
    kind = pa.list_(pa.list_(pa.uint8(), 8), 8) if fixed else pa.list_(pa.list_(pa.uint8()))
    grey = PICTURES[..., 0]
    table = pa.table({"pixels": pa.array(grey.tolist(), kind), "label": pa.array(LABELS)})
    data = open_data(write_table(tmp_path / "x.parquet", table.replace_schema_metadata(hugging(CLASS))))
    np.testing.assert_array_equal(data.arrays["real"][:, 0], grey)
    assert data.spec["label"].names == ("cat", "dog", "eel")
    vectors = RNG.normal(size=(5, 3)).astype(np.float32)
    data = open_data(write_table(tmp_path / "v.arrow", pa.table({"x": pa.array(list(vectors))})))
    np.testing.assert_array_equal(data.arrays["real"], vectors)


def test_plain_columns_are_a_table(tmp_path):
    rows = 40
    held = {
        "age": RNG.normal(40, 9, rows),
        "kind": ["ab"[k % 2] for k in range(rows)],
        "label": [k % 3 for k in range(rows)],
    }
    path = write_table(tmp_path / "x.parquet", pa.table(held).replace_schema_metadata(hugging(CLASS)), 7)
    data = open_data(path, class_column="label")
    assert data.spec["real"].names == ("age", "kind")
    np.testing.assert_allclose(np.asarray(data.arrays["real"])[:, 0], held["age"], rtol=1e-6)
    assert data.spec["label"].names == ("cat", "dog", "eel")
    assert data.arrays["label"].tolist() == held["label"]


def test_a_large_row_group_is_never_in_memory_whole(tmp_path):
    noise = [png(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(600)]  # 12 kB each
    path = write_table(tmp_path / "x.parquet", pa.table({"image": noise}), 600)
    before, peak, counted = pa.total_allocated_bytes(), [], arrow.Columns.open

    def count(self, entry):
        file = counted(self, entry)
        peak.append(pa.total_allocated_bytes() - before)
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow.Columns, "open", count)
        patch.setattr(arrow, "KEPT", 4)
        data = open_data(path)
    assert max(peak) < sum(map(len, noise)) / 2, max(peak)
    for k in (0, 123, 599):
        np.testing.assert_array_equal(
            data.arrays["real"][k].transpose(1, 2, 0), np.asarray(Image.open(io.BytesIO(noise[k])))
        )


def test_one_large_image_in_every_row_of_a_small_file_takes_no_more_memory_than_some(tmp_path, monkeypatch):
    """A dictionary of one value: the file has 30 kB, its rows 600 times that."""
    file = png(RNG.integers(0, 256, (100, 100, 3), dtype=np.uint8))
    path = write_table(tmp_path / "x.parquet", pa.table({"image": pa.array([file]).take(pa.array([0] * 600))}), 600)
    assert path.stat().st_size < 3 * len(file)
    monkeypatch.setattr(arrow, "KEPT", 2)
    columns, before, peak = find_data(path, form=Form()).tree, pa.total_allocated_bytes(), 0
    for entry in columns.cells("image"):
        assert len(columns.open(entry).read()) == len(file)
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 6 * arrow.BATCH * len(file), peak / len(file)
