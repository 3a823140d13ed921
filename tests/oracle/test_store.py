"""Stores against numpy and hashlib, which read them too; what is kept in memory; the order of very many rows."""

import hashlib
import json
import math
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from elegan.data import batches, pack, source, store
from elegan.data.batches import Batches, Shuffle
from elegan.data.form import Form
from elegan.data.sources import find_data, open_data, packed_data, prepare
from elegan.errors import NoSplitError, OptionError, RunInUseError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ELEGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path) -> Path:
    """Twelve images of noise in two classes, and a test split of two."""
    rng = np.random.default_rng(0)
    for k in range(12):
        file = tmp_path / "photos" / "train" / ("cat", "dog")[k % 2] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(6, 5, 3), dtype=np.uint8)).save(file)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / "test" / name).mkdir(parents=True)
        Image.new("RGB", (5, 6), "red").save(tmp_path / "photos" / "test" / name / "red.png")
    return tmp_path / "photos"


# ---- what lies on the disk


def test_a_store_is_read_by_numpy_and_its_checksums_are_those_of_its_blocks(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BLOCK", 100)
    monkeypatch.setattr(source, "BLOCK", 100)
    prepare(photos, tmp_path / "packed", form=Form())
    want = np.stack([np.asarray(Image.open(file)) for file in sorted((photos / "train").rglob("*.png"), key=str)])
    rows = np.load(tmp_path / "packed" / "train-real.npy", mmap_mode="r")
    assert np.array_equal(rows, want.transpose(0, 3, 1, 2))
    assert np.load(tmp_path / "packed" / "train-label.npy").tolist() == [0] * 6 + [1] * 6
    manifest = json.loads((tmp_path / "packed" / "store.json").read_text())
    assert manifest["format"] == "elegan store 1"
    held = manifest["splits"]["train"]["fields"]["real"]
    raw = rows.tobytes()
    assert held["blocks"] == [hashlib.sha256(raw[k : k + 100]).hexdigest() for k in range(0, len(raw), 100)]
    claimed = manifest.pop("sha256")
    assert claimed == hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    files = {"store.json", *(f"{split}-{field}.npy" for split in ("train", "test") for field in ("real", "label"))}
    assert {file.name for file in (tmp_path / "packed").iterdir()} == files
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == [], "nothing is left beside it"


def test_a_store_holds_what_its_source_held(photos, tmp_path):
    said = prepare(photos, tmp_path / "packed", form=Form())
    assert said.splitlines()[0].startswith("train: 12 images of 5x6")
    assert said.splitlines()[1].startswith("test: 2 images of 5x6")
    for split in ("train", "test"):
        plain, packed = open_data(photos, split=split), open_data(tmp_path / "packed", split=split)
        assert plain.spec == packed.spec
        assert plain.fingerprint == packed.fingerprint
        assert packed.own_split
        assert all(np.array_equal(plain.arrays[field], packed.arrays[field]) for field in plain.spec)
        assert isinstance(packed.arrays["real"], np.memmap)
        assert not packed.arrays["real"].flags.writeable


def test_floats_are_packed_with_the_range_of_all_of_them(tmp_path):
    for k, level in enumerate((3.0, -2.5, 7.25, 1.0)):
        (tmp_path / "floats").mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), level, np.float32)).save(tmp_path / "floats" / f"{k}.tif")
    prepare(tmp_path / "floats", tmp_path / "packed", form=Form())
    codec = open_data(tmp_path / "packed").spec["real"].about["codec"]
    assert (codec["low"], codec["high"], codec["dtype"]) == (-2.5, 7.25, "float32")


def test_rows_that_need_no_decoding_are_packed_too(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "AHEAD", 1 << 20)  # in several portions
    for name in ("digits", "ring"):
        prepare(name, tmp_path / name, form=Form())
        for split in ("train", "test"):
            plain, packed = open_data(name, split=split), open_data(tmp_path / name, split=split)
            assert plain.fingerprint == packed.fingerprint
            assert plain.spec == packed.spec


def test_a_store_of_a_store_is_the_same_in_the_same_form(photos, tmp_path):
    prepare(photos, tmp_path / "one", form=Form.of({"size": 4}))
    prepare(tmp_path / "one", tmp_path / "two", form=Form())
    for file in (tmp_path / "one").glob("*.npy"):
        assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes()
    assert open_data(tmp_path / "two", size=4).spec.shape == (3, 4, 4)
    with pytest.raises(OptionError, match="is packed without --size 6"):
        open_data(tmp_path / "two", size=6)


def test_a_split_that_is_held_out_is_packed_with_the_rest(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(256, size=(200, 4, 4), dtype=np.uint8))
    prepare(tmp_path / "x.npy", tmp_path / "packed", form=Form.of({"holdout": 0.2}))
    train, test = (open_data(tmp_path / "packed", split=split) for split in ("train", "test"))
    assert len(train) + len(test) == 200
    assert 20 < len(test) < 60
    assert test.fingerprint == open_data(tmp_path / "x.npy", split="test", holdout=0.2).fingerprint
    prepare(tmp_path / "x.npy", tmp_path / "whole", form=Form())
    with pytest.raises(NoSplitError, match="--holdout"):
        open_data(tmp_path / "whole", split="test")


def test_nothing_is_packed_over(photos, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(RunInUseError, match="is there already"):
        prepare(photos, tmp_path / "there", form=Form())


# ---- the cache


def test_many_files_are_packed_once_and_found_again(photos, cache, monkeypatch):
    monkeypatch.setattr(pack, "FEW", 3)
    told: list[tuple[str, int, int]] = []
    first = open_data(photos, progress=lambda *step: told.append(step))
    assert ("packing", 12, 12) in told
    assert ("looking at headers", 12, 12) in told
    monkeypatch.setattr(pack, "decoded", None)  # would be called to pack again
    assert open_data(photos).fingerprint == first.fingerprint
    (listed,) = packed_data()
    assert listed.path.parent == cache
    assert listed.megabytes == pytest.approx(sum(file.stat().st_size for file in listed.path.iterdir()) / 1e6)
    assert listed.about.startswith("12 images")


def test_other_files_and_another_form_are_another_store(photos, cache, monkeypatch):
    monkeypatch.setattr(pack, "FEW", 3)
    whole = open_data(photos)
    assert open_data(photos, size=4).spec.shape == (3, 4, 4)
    Image.new("RGB", (5, 6), "red").save(photos / "train" / "cat" / "0.png")
    assert open_data(photos).fingerprint != whole.fingerprint
    assert len(packed_data()) == 3


def test_a_large_file_is_checked_once_and_again_when_it_has_changed(photos, tmp_path, monkeypatch):
    prepare(photos, tmp_path / "packed", form=Form())
    checks = []
    real = store._verify
    monkeypatch.setattr(store, "_verify", lambda file, *rest: (checks.append(file.name), real(file, *rest)))
    for _ in range(2):
        open_data(tmp_path / "packed")
    assert checks == ["train-real.npy", "train-label.npy"] * 2, "small files are checked each time"
    monkeypatch.setattr(store, "CHECKED", 200)
    checks.clear()
    for _ in range(2):
        open_data(tmp_path / "packed")
    assert Counter(checks) == {"train-real.npy": 1, "train-label.npy": 2}
    os.utime(tmp_path / "packed" / "train-real.npy", ns=(1, 1))
    open_data(tmp_path / "packed")
    assert Counter(checks)["train-real.npy"] == 2


# ---- memory


def test_no_more_is_decoded_ahead_than_a_few_chunks_for_each_core(tmp_path, monkeypatch):
    for k in range(300):
        Image.new("L", (2, 2), k % 256).save(tmp_path / f"{k:03}.png")
    monkeypatch.setattr(pack, "cores", lambda: 2)
    listing = find_data(tmp_path, form=Form())
    found, begun = pack.survey(listing), []
    real = pack.read_sample
    monkeypatch.setattr(pack, "read_sample", lambda *about: (begun.append(1), real(*about))[1])
    for taken, _ in enumerate(pack.decoded(listing, "main", found)):
        assert len(begun) - taken <= 3 * 2 * pack.CHUNK
    assert len(begun) == 300
    begun.clear()
    monkeypatch.setattr(pack, "AHEAD", 8)  # large rows go one at a time
    for taken, _ in enumerate(pack.decoded(listing, "main", found)):
        assert len(begun) - taken <= 3 * 2 * 2


def test_headers_that_say_the_same_are_kept_once(tmp_path):
    for k in range(400):
        Image.new("L", (2, 2)).save(tmp_path / f"{k:03}.png")
    listing = find_data(tmp_path, form=Form())
    pack.survey(listing)
    looked = []
    decoder = listing.decoders["real"]

    class Watched(type(decoder)):
        def settle(self, looks, *, name):
            looked.extend(id(look) for _, look in looks)
            return super().settle(looks, name=name)

    watched = Watched(decoder.form)
    pack.survey(type(listing)(**{**vars(listing), "decoders": {"real": watched}}))
    assert len(looked) == 400
    assert len(set(looked)) == 1


def test_a_million_files_are_listed_in_less_than_a_kilobyte_each(tmp_path):
    """By a thousand of them."""
    for k in range(1_000):
        (tmp_path / f"image-{k:07}.png").touch()
    tracemalloc.start()
    try:
        listing = find_data(tmp_path, form=Form())
        assert tracemalloc.get_traced_memory()[0] < 1_000 * len(listing)
    finally:
        tracemalloc.stop()


# ---- the order of very many rows


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 65, 1_000, 4_097])
def test_a_shuffle_is_a_permutation_wherever_it_is_cut(n):
    whole = Shuffle(n, 7)[:]
    assert sorted(whole.tolist()) == list(range(n))
    pieces = [Shuffle(n, 7)[k : k + 13] for k in range(0, n, 13)]
    assert torch.cat(pieces).equal(whole)


def test_shuffles_are_uniform():
    """Where 0 goes, what follows 0, and the first two places, over 6,000 keys, against χ² of the 99.9 % quantile."""
    n, keys = 6, 6_000
    drawn = np.stack([Shuffle(n, key)[:].numpy() for key in range(keys)])
    for column in drawn.T:
        counts = np.bincount(column, minlength=n)
        assert np.square(counts - keys / n).sum() / (keys / n) < 20.5  # 5 degrees of freedom
    pairs = np.bincount(drawn[:, 0] * n + drawn[:, 1], minlength=n * n)
    pairs = pairs[[a * n + b for a in range(n) for b in range(n) if a != b]]
    assert np.square(pairs - keys / 30).sum() / (keys / 30) < 58.3  # 29 degrees of freedom


def test_a_long_shuffle_has_no_pattern():
    n = 10**8
    rows = Shuffle(n, 3)[5_000_000:5_050_000].numpy()
    assert len(set(rows.tolist())) == 50_000
    assert rows.min() >= 0
    assert rows.max() < n
    share = rows / n
    assert abs(share.mean() - 0.5) < 4 / math.sqrt(12 * 50_000)
    assert abs(np.corrcoef(share[1:], share[:-1])[0, 1]) < 4 / math.sqrt(50_000)
    counts = np.bincount(rows % 97, minlength=97)
    assert np.square(counts - 50_000 / 97).sum() / (50_000 / 97) < 148  # 99.95 % at 96 degrees of freedom
    other = Shuffle(n, 4)[5_000_000:5_050_000].numpy()
    assert (rows == other).sum() < 5


def test_very_many_rows_take_no_memory_for_their_order(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.zeros((1_000_000, 1, 1), np.uint8))
    path = tmp_path / "packed"
    prepare(tmp_path / "x.npy", path, form=Form())
    kept = Batches(open_data(path), rows=8)
    want = torch.randperm(1_000_000, generator=torch.Generator().manual_seed(batches.place_seed(0, "order", "main", 0)))
    assert kept._places(0, "main", 3, 0, 8).equal(want[24:32]), "fewer keep the order they always had"
    monkeypatch.setattr(batches, "MANY", 999_999)
    computed = Batches(open_data(path), rows=8)
    seen = torch.cat([computed._places(0, "main", number, 0, 8_000) for number in range(250)])  # two epochs
    assert seen[:1_000_000].sort().values.equal(torch.arange(1_000_000))
    assert seen[1_000_000:].sort().values.equal(torch.arange(1_000_000))
    assert not seen[:1_000_000].equal(seen[1_000_000:])
    tracemalloc.start()
    try:
        computed._places(1, "main", 3, 0, 8)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
