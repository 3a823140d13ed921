"""Data that everybody knows, from small files in the layout of its authors: by name, by path, folder or archive."""

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from elegan.api import recorded_data
from elegan.data.form import Form
from elegan.data.readers import cifar
from elegan.data.sources import has_name, known_data, open_data
from elegan.errors import DataError, NoSplitError

ROWS = 6
TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HUNDRED = tuple(f"class_{k:02}" for k in range(100))
RNG = np.random.default_rng(0)


@pytest.fixture
def few(monkeypatch):
    """CIFAR's files with `ROWS` pictures each."""
    for layout in cifar.LAYOUTS:
        for file in layout.rows:
            monkeypatch.setitem(layout.rows, file, ROWS)


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    """$ELEGAN_DATA."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    monkeypatch.setenv("ELEGAN_DATA", str(shelf))
    return shelf


def table(seed: int, classes: int) -> tuple[np.ndarray, list[int]]:
    """Pixels as the authors keep them, (N, 3072), and class numbers."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (ROWS, 3072), dtype=np.uint8), rng.integers(0, classes, ROWS).tolist()


FILES10 = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]


def write_ten(home: Path, kind: str, protocol: int = 2) -> Path:
    home.mkdir(parents=True)
    for seed, file in enumerate(FILES10):
        pixels, labels = table(seed, 10)
        if kind == "bin":
            body = b"".join(bytes([label]) + row.tobytes() for row, label in zip(pixels, labels, strict=True))
            (home / f"{file}.bin").write_bytes(body)
        else:
            batch = {
                b"batch_label": b"a batch", b"labels": labels, b"data": pixels,
                b"filenames": [f"{k}.png".encode() for k in range(ROWS)],
            }  # fmt: skip
            (home / file).write_bytes(pickle.dumps(batch, protocol))
    if kind == "bin":
        (home / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    else:
        meta = {b"num_cases_per_batch": ROWS, b"label_names": [name.encode() for name in TEN], b"num_vis": 3072}
        (home / "batches.meta").write_bytes(pickle.dumps(meta, protocol))
    return home


def want_ten(split: str) -> tuple[np.ndarray, list[int]]:
    tables = [table(seed, 10) for seed in (range(5) if split == "train" else (5,))]
    pixels = np.concatenate([pixels for pixels, _ in tables])
    planes = [pixels[:, k * 1024 : (k + 1) * 1024].reshape(-1, 32, 32) for k in range(3)]  # red, then green, then blue
    return np.stack(planes, 1), [label for _, labels in tables for label in labels]


def check_ten(data, split: str) -> None:
    pixels, labels = want_ten(split)
    np.testing.assert_array_equal(data.arrays["real"], pixels)
    assert data.arrays["label"].tolist() == labels
    assert data.spec["label"].names == TEN
    assert data.spec.classes == 10


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("kind", ["bin", "py"])
def test_cifar10_in_both_forms(few, tmp_path, kind, split):
    home = write_ten(tmp_path / "any name", kind)
    check_ten(open_data(home, split=split), split)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_protocol_of_pickles_is_read(few, tmp_path, protocol):
    check_ten(open_data(write_ten(tmp_path / "py", "py", protocol)), "train")


def python_two(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The pickle of a batch as Python 2's cPickle wrote it in protocol 2, its texts being bytes; by hand, from the
    instructions of the format."""

    def text(value: bytes) -> bytes:
        return (
            b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + len(value).to_bytes(4, "little") + value
        )

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + value.to_bytes(2, "little")

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85" + text(b"b") + b"\x87Rq\x03"
        + b"(K\x01" + number(len(pixels)) + number(pixels.shape[1]) + b"\x86"
        + b"cnumpy\ndtype\nq\x04" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + text(pixels.tobytes()) + b"tb"
    )  # fmt: skip
    listed = b"]q\x05(" + b"".join(number(label) for label in labels) + b"e"
    names = b"]q\x06(" + b"".join(text(f"leptodactylus_{k}.png".encode()) for k in range(len(pixels))) + b"e"
    items = text(b"data") + array + text(b"labels") + listed + text(b"filenames") + names
    return b"\x80\x02}q\x07(" + items + text(b"batch_label") + text(b"training batch 1 of 5") + b"u."


def test_batches_as_python_2_wrote_them(few, tmp_path):
    home = write_ten(tmp_path / "py", "py")
    for seed, file in enumerate(FILES10):
        body = python_two(*table(seed, 10))
        assert pickle.loads(body, encoding="bytes")[b"labels"] == table(seed, 10)[1]  # it is what it is meant to be
        (home / file).write_bytes(body)
    check_ten(open_data(home), "train")


def test_batches_packed_again_with_texts_for_keys(few, tmp_path):
    home = write_ten(tmp_path / "py", "py")
    for seed, file in enumerate(FILES10):
        pixels, labels = table(seed, 10)
        (home / file).write_bytes(pickle.dumps({"data": np.asfortranarray(pixels), "labels": labels}))
    (home / "batches.meta").write_bytes(pickle.dumps({"label_names": list(TEN)}))
    check_ten(open_data(home), "train")


def write_hundred(home: Path, kind: str) -> dict[str, tuple[np.ndarray, list[int]]]:
    home.mkdir(parents=True)
    made = {}
    for seed, file in enumerate(("train", "test")):
        pixels, labels = made[file] = table(seed + 50, 100)
        if kind == "bin":
            rows = zip(pixels, labels, strict=True)
            body = b"".join(bytes([label // 5, label]) + row.tobytes() for row, label in rows)
            (home / f"{file}.bin").write_bytes(body)
        else:
            batch = {b"data": pixels, b"fine_labels": labels, b"coarse_labels": [label // 5 for label in labels]}
            (home / file).write_bytes(pickle.dumps(batch, 2))
    if kind == "bin":
        (home / "fine_label_names.txt").write_text("\n".join(HUNDRED))
        (home / "coarse_label_names.txt").write_text("\n".join(map(str, range(20))))
    else:
        meta = {b"fine_label_names": [x.encode() for x in HUNDRED], b"coarse_label_names": [b"fish"] * 20}
        (home / "meta").write_bytes(pickle.dumps(meta, 2))
    return made


@pytest.mark.parametrize("kind", ["bin", "py"])
def test_cifar100_takes_the_fine_classes(few, tmp_path, kind):
    made = write_hundred(tmp_path / "c", kind)
    for split, (pixels, labels) in made.items():
        data = open_data(tmp_path / "c", split=split)
        np.testing.assert_array_equal(data.arrays["real"].reshape(ROWS, -1), pixels)
        assert data.arrays["label"].tolist() == labels
        assert data.spec["label"].names == HUNDRED


@pytest.mark.parametrize(
    ("kind", "folder", "archive"),
    [
        ("bin", "cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
        ("py", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
    ],
)
def test_cifar10_by_name_from_its_archive_and_from_its_folder(few, tmp_path, shelf, kind, folder, archive):
    home = write_ten(tmp_path / folder, kind)
    with tarfile.open(shelf / archive, "w:gz") as packed:
        packed.add(home, folder)
    check_ten(open_data("cifar10", split="test"), "test")
    check_ten(open_data(shelf / archive), "train")
    (shelf / archive).unlink()
    home.rename(shelf / folder)
    check_ten(open_data("cifar10"), "train")


def jpeg(path: Path, value: int, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def values(data, field: str = "real") -> list[int]:
    """The grey level of each picture, in steps of 10, which JPEG keeps."""
    return [round(float(row.mean()) / 10) * 10 for row in data.arrays[field]]


CELEBA = {
    "000001.jpg": ("0", 10),
    "000002.jpg": ("1", 20),
    "000003.jpg": ("2", 30),
    "000004.jpg": ("0", 40),
    "000005.jpg": ("2", 50),
}


def write_celeba(home: Path, *, pack: bool = False, kaggle: bool = False) -> None:
    images = home / "img_align_celeba" / ("img_align_celeba" if kaggle else "")
    for name, (_, value) in CELEBA.items():
        jpeg(images / name, value)
    smiles = {name: 1 if value >= 40 else -1 for name, (_, value) in CELEBA.items()}
    if kaggle:
        lines = ["image_id,partition", *(f"{name},{part}" for name, (part, _) in CELEBA.items())]
        (home / "list_eval_partition.csv").write_text("\n".join(lines))
        lines = ["image_id,Bald,Smiling,Young", *(f"{name},-1,{smile},1" for name, smile in smiles.items())]
        (home / "list_attr_celeba.csv").write_text("\n".join(lines))
    else:
        lists = home / "Eval"
        lists.mkdir()
        (lists / "list_eval_partition.txt").write_text("".join(f"{n} {part}\n" for n, (part, _) in CELEBA.items()))
        lines = [str(len(CELEBA)), "Bald Smiling Young ", *(f"{n} -1  {smile} -1" for n, smile in smiles.items())]
        (home / "list_attr_celeba.txt").write_text("\n".join(lines))
    if pack:
        with zipfile.ZipFile(home / "img_align_celeba.zip", "w") as packed:
            for path in sorted(images.iterdir()):
                packed.write(path, f"img_align_celeba/{path.name}")
                path.unlink()
        images.rmdir()


@pytest.mark.parametrize(("pack", "kaggle"), [(False, False), (True, False), (False, True)])
def test_celeba(tmp_path, shelf, pack, kaggle):
    write_celeba(shelf / "celeba", pack=pack, kaggle=kaggle)
    assert values(open_data("celeba")) == [10, 40]
    test = open_data(shelf / "celeba", split="test", class_column="Smiling")
    assert (values(test), test.arrays["label"].tolist()) == ([30, 50], [0, 1])
    assert test.spec["label"].names == ("not Smiling", "Smiling")
    assert "label" not in open_data("celeba").spec
    with pytest.raises(DataError, match=r"no attribute 'Smilin'.*Smiling"):
        open_data("celeba", class_column="Smilin")


def test_celeba_in_one_zip(tmp_path):
    write_celeba(tmp_path / "c", kaggle=True)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as packed:
        for path in (tmp_path / "c").rglob("*.*"):
            packed.write(path, path.relative_to(tmp_path / "c"))
    assert values(open_data(tmp_path / "archive.zip")) == [10, 40]


@pytest.mark.parametrize("sized", ["", "thumbnails128x128", "images1024x1024"])
def test_ffhq_folders_are_no_classes_and_the_last_ten_thousand_are_for_testing(tmp_path, shelf, sized):
    home = shelf / "ffhq" / sized
    for number, value in {0: 10, 999: 20, 1000: 30, 59999: 40, 60000: 50, 69999: 60}.items():
        jpeg(home / f"{number // 1000 * 1000:05}" / f"{number:05}.png", value)
    for what in ("ffhq", shelf / "ffhq", home):
        train, test = open_data(what), open_data(what, split="test")
        assert (values(train), values(test)) == ([10, 20, 30, 40], [50, 60])
        assert train.spec.classes == 0


def test_ffhq_takes_the_larger_pictures_and_has_flat_thumbnails(tmp_path, shelf):
    jpeg(shelf / "ffhq" / "thumbnails128x128" / "00000.png", 10)
    assert values(open_data("ffhq")) == [10]
    jpeg(shelf / "ffhq" / "images1024x1024" / "00000" / "00000.png", 70)
    assert values(open_data("ffhq")) == [70]
    assert values(open_data(shelf / "ffhq" / "thumbnails128x128")) == [10]
    with pytest.raises(NoSplitError, match="60000"):
        open_data("ffhq", split="test")


def test_pictures_with_other_numbers_are_not_ffhq(tmp_path):
    for folder, number in (("cats", 0), ("dogs", 1)):
        jpeg(tmp_path / folder / f"{number:05}.png", 10)
    assert open_data(tmp_path).spec["label"].names == ("cats", "dogs")


WNIDS = ("n01440764", "n02119789", "n15075141")


def write_imagenet(home: Path, val: str) -> dict[str, str]:
    for k, wnid in enumerate(WNIDS):
        for i in range(2):
            jpeg(home / "train" / wnid / f"{wnid}_{i}.JPEG", 100 * i + 10 * k + 10)
    truth = {f"ILSVRC2012_val_{k:08d}": WNIDS[number] for k, number in enumerate((2, 0, 1, 0), 1)}
    for k, (name, wnid) in enumerate(truth.items()):
        jpeg(home / "val" / (wnid if val == "folders" else "") / f"{name}.JPEG", 10 * k + 10)
    jpeg(home / "test" / "ILSVRC2012_test_00000001.JPEG", 250)
    return truth


def check_imagenet(what, val: str) -> None:
    train, test = open_data(what), open_data(what, split="test")
    assert train.spec["label"].names == test.spec["label"].names == WNIDS
    assert train.arrays["label"].tolist() == [0, 0, 1, 1, 2, 2]
    pairs = sorted(zip(values(test), test.arrays["label"].tolist(), strict=True))
    assert pairs == [(10, 2), (20, 0), (30, 1), (40, 0)], val


@pytest.mark.parametrize("val", ["folders", "solution", "truth"])
def test_imagenet(tmp_path, shelf, val):
    from scipy.io import savemat

    base = shelf / "imagenet" / "ILSVRC" / "Data" / "CLS-LOC"
    truth = write_imagenet(base, val)
    if val == "solution":
        lines = ["ImageId,PredictionString", *(f"{n},{w} 1 2 3 4 {w} 5 6 7 8 " for n, w in reversed(truth.items()))]
        (shelf / "imagenet" / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    elif val == "truth":  # numbers of the development kit, which are not in the order of the names
        numbers = {WNIDS[1]: 1, WNIDS[2]: 2, WNIDS[0]: 3}
        synsets = np.zeros(len(numbers), [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")])
        for row, (wnid, number) in zip(synsets, numbers.items(), strict=True):
            row["ILSVRC2012_ID"], row["WNID"], row["num_children"] = number, wnid, 0
        savemat(shelf / "imagenet" / "meta.mat", {"synsets": synsets})
        lines = [str(numbers[wnid]) for wnid in truth.values()]
        (shelf / "imagenet" / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(lines))
    check_imagenet("imagenet", val)
    check_imagenet(shelf / "imagenet", val)


def test_imagenet_without_labels_of_val_says_what_to_put_there(tmp_path):
    write_imagenet(tmp_path, "flat")
    assert len(open_data(tmp_path)) == 6
    with pytest.raises(DataError, match=r"LOC_val_solution\.csv"):
        open_data(tmp_path, split="test")


def test_a_tar_of_tars_says_how_to_unpack_it(tmp_path):
    with tarfile.open(tmp_path / "ILSVRC2012_img_train.tar", "w") as packed:
        for wnid in WNIDS:
            packed.addfile(tarfile.TarInfo(f"{wnid}.tar"), io.BytesIO())
    with pytest.raises(DataError, match="tar of tars: unpack each"):
        open_data(tmp_path / "ILSVRC2012_img_train.tar")


def write_lmdb(home: Path, greys: dict[bytes, int]) -> None:
    with lmdb.open(str(home), map_size=1 << 20) as env, env.begin(write=True) as filling:
        for key, grey in greys.items():
            file = io.BytesIO()
            Image.new("RGB", (8, 8), (grey, grey, grey)).save(file, "WEBP")
            filling.put(key, file.getvalue())
    (home / "lock.mdb").unlink()


def key(k: int) -> bytes:
    return f"{k:x}".encode() * 40


def test_lsun_databases(tmp_path, shelf):
    (shelf / "lsun").mkdir()
    write_lmdb(shelf / "lsun" / "church_outdoor_train_lmdb", {key(3): 30, key(1): 10, key(2): 20})
    write_lmdb(shelf / "lsun" / "church_outdoor_val_lmdb", {key(9): 90})
    write_lmdb(shelf / "lsun" / "cat_train_lmdb", {key(5): 50, key(6): 60})
    before = sorted(p.name for p in (shelf / "lsun").rglob("*"))
    home = shelf / "lsun"
    for what in ("lsun-church_outdoor", home / "church_outdoor_train_lmdb", home / "church_outdoor_val_lmdb"):
        assert values(open_data(what)) == [10, 20, 30]
        assert values(open_data(what, split="test")) == [90]
    assert values(open_data("lsun-cat")) == [50, 60]
    with pytest.raises(NoSplitError, match="cat_val_lmdb"):
        open_data("lsun-cat", split="test")
    with pytest.raises(DataError, match="several categories, 'cat', 'church_outdoor'"):
        open_data(shelf / "lsun")
    assert sorted(p.name for p in (shelf / "lsun").rglob("*")) == before  # no lock, no journal: nothing is written


def test_lsun_exported_to_files_has_no_classes(tmp_path, shelf):
    for k in (1, 2, 3):
        name = key(k).decode()
        jpeg(shelf / "lsun" / "bedroom_train" / name[0] / name[1] / name[2] / f"{name}.webp", 10 * k)
    jpeg(shelf / "lsun" / "bedroom_val" / f"{key(4).decode()}.webp", 40)
    for what in ("lsun-bedroom", shelf / "lsun" / "bedroom_train"):
        train = open_data(what)
        assert (values(train), train.spec.classes) == ([10, 20, 30], 0)
    assert values(open_data("lsun-bedroom", split="test")) == [40]


def test_a_database_of_ones_own_is_all_training(tmp_path):
    write_lmdb(tmp_path / "mine", {b"a": 10, b"b/c": 20, b"\xff\x00": 30})
    assert values(open_data(tmp_path / "mine")) == [10, 20, 30]
    kept, held = (open_data(tmp_path / "mine", holdout=0.4, split=split) for split in ("train", "test"))
    assert len(kept) + len(held) == 3


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "celeba", "ffhq", "imagenet", "lsun-bedroom"])
def test_what_is_not_there_says_where_it_was_looked_for_and_what_to_put_there(shelf, name):
    with pytest.raises(DataError, match="is not in") as caught:
        open_data(name)
    line = str(caught.value)
    assert str(shelf) in line
    assert ": put it there as " in line
    assert "\n" not in line
    assert ("elegan data fetch" in line) == name.startswith("cifar")


def test_names(shelf, tmp_path, monkeypatch):
    assert {"cifar10", "cifar100", "celeba", "ffhq", "imagenet", "lsun-CATEGORY"} <= known_data().keys()
    monkeypatch.chdir(tmp_path)
    assert has_name("ffhq")
    jpeg(tmp_path / "ffhq" / "cats" / "a.png", 10)  # what is not on the shelf, and lies here under this name, is meant
    assert not has_name("ffhq")
    assert values(open_data("ffhq")) == [10]
    jpeg(shelf / "ffhq" / "00000" / "00000.png", 20)
    assert has_name("ffhq")
    assert values(open_data("ffhq")) == [20]


def test_a_run_remembers_data_by_its_name(few, shelf, tmp_path):
    write_ten(shelf / "cifar-10-batches-bin", "bin")
    known = recorded_data("cifar10", open_data("cifar10"), Form())
    assert (known["name"], known["path"]) == ("cifar10", "")
    assert open_data(known["name"]).fingerprint == known["fingerprint"]
    by_path = recorded_data(shelf / "cifar-10-batches-bin", open_data(shelf / "cifar-10-batches-bin"), Form())
    assert by_path["path"] == str(shelf / "cifar-10-batches-bin")
