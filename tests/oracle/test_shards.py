"""Tars of samples against tarfile and Pillow: packed, and streamed by ranks without overlap or loss."""

import io
import json
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import elegan
from elegan.data import shards
from elegan.data.batches import Batches
from elegan.data.form import Form
from elegan.data.source import Source
from elegan.data.sources import open_data, packed_data, prepare
from elegan.errors import DataError, NoSplitError, OptionError
from elegan.metrics.features import of_source
from tests.conftest import state, tensors


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ELEGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(level: int, size: tuple[int, int] = (8, 8), mode: str = "L") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, level).save(file, "PNG")
    return file.getvalue()


def tar(path: Path, files: dict[str, bytes], mtime: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as packed:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(body), mtime
            packed.addfile(member, io.BytesIO(body))
    return path


def sharded(path: Path, counts: tuple[int, ...] = (10, 10, 10, 10), classes: int = 3) -> Path:
    """Tars of images whose level is their number; the class is the number mod `classes`."""
    number = 0
    for k, count in enumerate(counts):
        files = {}
        for _ in range(count):
            files |= {f"{number:05}.png": png(number), f"{number:05}.cls": str(number % classes).encode()}
            number += 1
        tar(path / f"x-{k:06}.tar", files)
    return path


def levels(batch: torch.Tensor) -> list[int]:
    """The numbers of the images of a batch."""
    return ((batch[:, 0, 0, 0] + 1) * 127.5).round().long().tolist()


# ---- what a tar says


def test_packed_and_streamed_are_the_same_samples(tmp_path):
    packed, streamed = open_data(sharded(tmp_path / "x")), open_data(tmp_path / "x", stream=True)
    assert np.array_equal(packed.arrays["real"][:, 0, 0, 0], np.arange(40))
    assert np.array_equal(packed.arrays["label"], np.arange(40) % 3)
    assert packed.spec == streamed.spec
    assert np.array_equal(streamed.arrays["real"][:], packed.arrays["real"])
    assert np.array_equal(streamed.arrays["label"], packed.arrays["label"])
    assert np.array_equal(streamed.arrays["real"][7:9], packed.arrays["real"][7:9])
    assert np.array_equal(streamed.arrays["real"][np.array([33, 2, 33])], packed.arrays["real"][[33, 2, 33]])
    assert np.array_equal(streamed.arrays["real"][5], packed.arrays["real"][5])
    assert streamed.cuts == [0, 10, 20, 30]
    assert len(streamed) == 40
    assert streamed.about.startswith("40 images of 8x8 streamed from 4 tars")


@pytest.mark.parametrize(
    ("files", "want"),
    [
        ({"a.cls": b"1\n", "b.cls": b" 0"}, [1, 0]),
        ({"a.txt": b"1", "b.txt": b"0"}, [1, 0]),
        ({"a.json": b'{"label": 1}', "b.json": b'{"cls": 0, "label": 0}'}, [1, 0]),
        ({"a.cls": b"1", "a.json": b'{"label": 0}', "b.txt": b"0"}, [1, 0]),
        ({"a.txt": b"a cat", "b.txt": b"a dog"}, None),
        ({"a.json": b'["x"]', "b.json": b"{"}, None),
        ({"a.json": b'{"label": true}', "b.json": b'{"label": "1"}'}, None),
    ],
)
def test_classes_are_whole_numbers_beside_the_image(tmp_path, files, want):
    tar(tmp_path / "x" / "x-00000.tar", {"a.png": png(1), "b.seg.PNG": png(2), "c.txt": b"alone", **files})
    for options in ({}, {"stream": True}):
        source = open_data(tmp_path / "x", **options)
        assert source.arrays["real"][:][:, 0, 0, 0].tolist() == [1, 2]
        assert (source.arrays["label"].tolist() if "label" in source.spec else None) == want


def test_a_name_ends_at_its_first_dot_and_folders_tell_samples_apart(tmp_path):
    files = {"p/a.png": png(1), "p/a.cls": b"0", "q/a.png": png(2), "q/a.cls": b"1", "q/a.b.txt": b"5"}
    tar(tmp_path / "x" / "00000.tar", files)
    source = open_data(tmp_path / "x", stream=True)
    assert source.arrays["real"][:][:, 0, 0, 0].tolist() == [1, 2]
    assert source.arrays["label"].tolist() == [0, 1]


def test_splits_are_folders_or_the_end_of_the_name(tmp_path):
    tar(tmp_path / "x" / "set-train-000000.tar", {"a.png": png(1)})
    tar(tmp_path / "x" / "set-val-000000.tar", {"a.png": png(2)})
    tar(tmp_path / "y" / "train" / "000000.tar", {"a.png": png(1)})
    tar(tmp_path / "y" / "test" / "000000.tar", {"a.png": png(2)})
    tar(tmp_path / "z" / "000000.tar", {"a.png": png(1)})
    for options in ({}, {"stream": True}):
        for data in "xy":
            for split, level in (("train", 1), ("test", 2)):
                source = open_data(tmp_path / data, split=split, **options)
                assert source.arrays["real"][:].max() == level
                assert source.own_split
        with pytest.raises(NoSplitError, match="no test split"):
            open_data(tmp_path / "z", split="test", **options)
    assert not open_data(tmp_path / "z").own_split


def test_float_images_are_streamed_in_the_range_of_those_looked_at(tmp_path):
    files = {}
    for k in range(6):
        file = io.BytesIO()
        Image.fromarray(np.full((4, 4), k / 2, np.float32)).save(file, "TIFF")
        files[f"{k}.tif"] = file.getvalue()
    tar(tmp_path / "x" / "x-00000.tar", files)
    packed, streamed = open_data(tmp_path / "x"), open_data(tmp_path / "x", stream=True)
    assert streamed.spec == packed.spec
    batch = Batches(streamed, rows=6)(0, 0, 0, 6)["real"]
    assert sorted(batch[:, 0, 0, 0].tolist()) == pytest.approx([-1, -0.6, -0.2, 0.2, 0.6, 1])


# ---- the order


def epoch(batches: Batches, shard: int, number: int, seed: int = 0) -> list[int]:
    size = len(batches._hands[shard])
    got = [
        n for k in range(size // batches.rows) for n in levels(batches(seed, number + k, shard, batches.rows)["real"])
    ]
    assert len(got) == size
    return got


@pytest.mark.parametrize("count", [1, 2, 4])
def test_an_epoch_of_all_shards_is_every_sample_once_and_each_shard_reads_its_own_tars(tmp_path, count):
    source = open_data(sharded(tmp_path / "x"), stream=True)
    batches = Batches(source, rows=5, shards=count)
    epochs = [[epoch(batches, shard, e * 40 // count // 5) for shard in range(count)] for e in range(3)]
    for parts in epochs:
        assert sorted(n for part in parts for n in part) == list(range(40))
        for shard, part in enumerate(parts):
            assert {n // 10 for n in part} == set(range(shard, 4, count))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    own = [[n // (10 * count) * 10 + n % 10 for n in part] for part in epochs[0]]  # counted through a shard's own tars
    assert len({tuple(order) for order in own}) == count, "shards of a length are not permuted alike"
    assert epoch(batches, 0, 0, seed=1) != epochs[0][0]


def test_tars_of_any_length_are_dealt_out_whole(tmp_path):
    source = open_data(sharded(tmp_path / "x", (3, 9, 1, 7, 4)), stream=True)
    batches = Batches(source, rows=4, shards=2)
    assert [len(hand) for hand in batches._hands] == [3 + 1 + 4, 9 + 7]
    assert sorted(epoch(batches, 0, 0)) == [0, 1, 2, 12, 20, 21, 22, 23]
    assert sorted(epoch(batches, 1, 0)) == [*range(3, 12), *range(13, 20)]


def test_a_batch_depends_on_nothing_asked_before_and_labels_stay_with_their_images(tmp_path):
    source = open_data(sharded(tmp_path / "x"), stream=True)
    fresh, used = (Batches(source, rows=4, shards=2) for _ in range(2))
    for number, shard in ((9, 0), (2, 1), (3, 1), (0, 0), (1, 0), (7, 1)):
        used(0, number, shard, 4)
    for number in range(12):
        batch = used(0, number, number % 2, 4)
        assert batch["real"].equal(fresh(0, number, number % 2, 4)["real"])
        assert batch["label"].tolist() == [n % 3 for n in levels(batch["real"])]
        assert levels(fresh(0, number, number % 2, 2, ["real"])["real"]) == levels(
            used(0, number, number % 2, 2)["real"]
        )


def test_what_comes_next_is_read_ahead_and_read_once(tmp_path, monkeypatch):
    source = open_data(sharded(tmp_path / "x"), stream=True)
    read: list[int] = []
    real = shards.Streamed._row
    monkeypatch.setattr(shards.Streamed, "_row", lambda self, k: (read.append(k), real(self, k))[1])
    batches = Batches(source, rows=5, shards=2)
    for number in range(4):
        for shard in range(2):
            batches(0, number, shard, 5)
    ahead = 2 * 5  # the first batches of the next epoch
    rows = source.arrays["real"]
    for future in list(rows._ahead.values()):
        future.result()
    assert len(rows._ahead) == ahead
    assert len(read) == 40 + ahead
    assert sorted(read[:40]) == list(range(40)) or len(set(read)) == 40
    monkeypatch.setattr(shards, "RECENT", 1)
    for number in range(100, 130):  # who jumps about does not fill the memory
        batches(0, number * 7, 0, 5)
        assert len(rows._ahead) <= 5


# ---- the index


def test_tars_are_walked_through_once_and_again_if_one_changes(tmp_path, monkeypatch):
    path, walked = sharded(tmp_path / "x"), []
    real = shards.Shelf.samples
    monkeypatch.setattr(shards.Shelf, "samples", lambda self, tar: (walked.append(tar.name), real(self, tar))[1])
    first = open_data(path, stream=True)
    assert walked == [f"x-{k:06}.tar" for k in range(4)]
    assert open_data(path, stream=True).fingerprint == first.fingerprint
    assert len(walked) == 4
    assert packed_data()[0].about.startswith("where 40 samples lie in 4 tars")
    (tmp_path / "x").rename(tmp_path / "moved")
    assert open_data(tmp_path / "moved", stream=True).fingerprint == first.fingerprint, "of the content, not the place"
    tar(tmp_path / "moved" / "x-000003.tar", {"a.png": png(9), "a.cls": b"0"}, mtime=5)
    assert open_data(tmp_path / "moved", stream=True).fingerprint != first.fingerprint


def test_a_fingerprint_tells_another_name_time_size_class_order_and_form(tmp_path):
    files = {"a.png": png(1), "a.cls": b"0", "b.png": png(2), "b.cls": b"1"}
    variants = [
        files,
        {"c.png": png(1), "c.cls": b"0", "d.png": png(2), "d.cls": b"1"},
        {**files, "b.png": png(2) + bytes(512)},
        {**files, "a.cls": b"1", "b.cls": b"0"},
    ]
    found = []
    for k, variant in enumerate(variants):
        tar(tmp_path / str(k) / "x-00000.tar", variant)
        found.append(open_data(tmp_path / str(k), stream=True).fingerprint)
    tar(tmp_path / "time" / "x-00000.tar", files, mtime=7)
    found.append(open_data(tmp_path / "time", stream=True).fingerprint)
    found.append(open_data(tmp_path / "0", stream=True, size=4).fingerprint)
    assert len(set(found)) == len(found)


def test_a_damaged_index_is_made_anew_and_an_unwritable_cache_done_without(tmp_path, cache, monkeypatch):
    want = open_data(sharded(tmp_path / "x"), stream=True)
    rows = want.arrays["real"][:]
    (index,) = cache.glob("index-*/train-index.npy")
    body = bytearray(index.read_bytes())
    body[-30] ^= 1
    index.write_bytes(body)
    assert open_data(tmp_path / "x", stream=True).fingerprint == want.fingerprint
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ELEGAN_CACHE", str(tmp_path / "file" / "cache"))
    again = open_data(tmp_path / "x", stream=True)
    assert again.fingerprint == want.fingerprint
    assert np.array_equal(again.arrays["real"][:], rows)


# ---- bad samples, bad tars


def test_a_bad_sample_gives_way_to_the_next_of_its_class_in_its_tar(tmp_path):
    path = sharded(tmp_path / "x")
    files = {f"{n:05}.png": png(n) for n in range(10)} | {f"{n:05}.cls": str(n % 3).encode() for n in range(10)}
    tar(path / "x-000000.tar", files | {"00004.png": b"no image", "00008.png": png(8)[:40]})
    source = open_data(path, stream=True)
    with pytest.warns(UserWarning, match=r"'x-000000.tar/00004.png' \(it is no image.*stands in") as told:
        rows = source.arrays["real"][:]
    assert len(told) == 1, "told once, whichever and however many"
    want = np.arange(40)
    want[4], want[8] = 7, 2  # of class 1: 1, 4, 7; of class 2: 2, 5, 8
    assert rows[:, 0, 0, 0].tolist() == want.tolist()
    assert source.arrays["real"][4].max() == 7, "and always the same"


def test_over_a_tenth_that_is_bad_is_refused_and_one_is_always_tolerated(tmp_path):
    files = {f"{n:05}.png": png(n) for n in range(40)}
    tar(tmp_path / "x" / "x-00000.tar", files | {f"{n:05}.png": b"no image" for n in range(3, 8)})
    source = open_data(tmp_path / "x", stream=True)
    with (
        pytest.warns(UserWarning, match="stands in"),
        pytest.raises(DataError, match=r"over 10% of the samples cannot be read"),
    ):
        source.arrays["real"][:]
    tar(tmp_path / "y" / "x-00000.tar", {"a.png": b"no image", "b.png": png(1)})
    source = open_data(tmp_path / "y", stream=True)
    with pytest.warns(UserWarning, match="stands in"):
        assert source.arrays["real"][:].tolist() == np.ones((2, 1, 8, 8)).tolist()
    assert source.arrays["real"][:].max() == 1, "told once; a second time would be an error here"


def test_a_class_without_a_readable_image_in_its_tar_is_named(tmp_path):
    files = {f"{n:05}.png": png(n) for n in range(40)} | {f"{n:05}.cls": b"0" for n in range(39)}
    tar(tmp_path / "x" / "x-00000.tar", files | {"00039.png": b"no image", "00039.cls": b"1"})
    with pytest.raises(DataError, match=r"x-00000.tar': no image like 'x-00000.tar/00039.png' can be read"):
        open_data(tmp_path / "x", stream=True).arrays["real"][30:]


def test_a_size_that_only_a_late_sample_has_is_no_surprise(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "LOOKED", 2)
    files = {f"{n}.png": png(n, (6, 5) if n == 4 else (8, 8)) for n in range(9)}
    tar(tmp_path / "x" / "x-00000.tar", files)
    source = open_data(tmp_path / "x", stream=True)
    with pytest.warns(UserWarning, match=r"it is 6x5, others are not: use --size 64"):
        assert source.arrays["real"][4].max() == 5
    assert open_data(tmp_path / "x", stream=True, size=4).arrays["real"][4].max() == 4


def damaged(path: Path, kind: str) -> str:
    """Damage some of the tars of `sharded`; words of the line that must come of it."""
    match kind:
        case "cut":
            whole = (path / "x-000002.tar").read_bytes()
            (path / "x-000002.tar").write_bytes(whole[: len(whole) // 2])
            return r"x-000002.tar' is no whole tar file"
        case "empty":
            (path / "x-000001.tar").write_bytes(b"")
            return r"x-000001.tar'"
        case "text":
            (path / "x-000001.tar").write_bytes(b"text" * 1000)
            return r"x-000001.tar' is no whole tar file"
        case "bare":
            tar(path / "x-000001.tar", {"a.txt": b"1"})
            return r"x-000001.tar' holds no images"
        case "classless":
            tar(path / "x-000001.tar", {"a.png": png(1)})
            return r"1 of 31 samples have no class: add x.cls"
        case "gap":
            tar(path / "x-000001.tar", {"a.png": png(1), "a.cls": b"7"})
            return r"no sample has class 3 while classes go up to 7"
        case "vast":
            tar(path / "x-000001.tar", {"a.png": png(1), "a.cls": b"999999999"})
            return r"no sample has class . while classes go up to 999999999|classes go up"
    tar(path / "x-000001.tar", {"a.png": png(1), "a.cls": b"cat"})
    return r"'a.cls' in .*x-000001.tar' is no class"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["cut", "empty", "text", "bare", "classless", "gap", "vast", "word"])
def test_a_damaged_tar_is_named(tmp_path, kind, stream):
    path = sharded(tmp_path / "x")
    with pytest.raises(DataError, match=damaged(path, kind)) as caught:
        open_data(path, stream=stream)
    assert "\n" not in str(caught.value)


def test_what_leads_out_of_a_tar_is_not_read(tmp_path):
    tar(tmp_path / "x" / "x-00000.tar", {"../a.png": png(1), "b.png": png(2), "/c.png": png(3)})
    with pytest.warns(UserWarning, match=r"x-00000.tar/../a.png' \(a path that leads out of it\)"):
        assert len(open_data(tmp_path / "x")) == 1
    assert len(open_data(tmp_path / "x", stream=True)) == 1


# ---- options


def test_fewer_tars_than_shards_are_refused_before_a_model_is_built(tmp_path, cli):
    sharded(tmp_path / "x")
    said = cli("train", "dcgan", tmp_path / "x", "--stream", "--shards", "8", "--batch", "32")
    assert said.code == 3
    assert "shard 5 of 8 has 0 samples of 4 tars" in said.line
    assert "--shards" in said.line


def test_what_is_no_folder_of_tars_cannot_be_streamed(tmp_path, small, cli):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(png(1))
    for data in ("digits", small, tmp_path / "photos"):
        said = cli("train", "dcgan", data, "--stream")
        assert said.code == 2
        assert "--stream is for folders of tars" in said.line
    assert "no such path" in cli("train", "dcgan", tmp_path / "gone", "--stream").line
    sharded(tmp_path / "x")
    with pytest.raises(OptionError, match="--holdout"):
        open_data(tmp_path / "x", stream=True, holdout=0.1)
    with pytest.raises(OptionError, match="--sides"):
        open_data(tmp_path / "x", stream=True, sides=True)
    with pytest.raises(OptionError, match="--kind"):
        open_data(tmp_path / "x", kind="audio")
    with pytest.raises(OptionError, match="--stream"):
        prepare(tmp_path / "x", tmp_path / "out", form=Form.of({"stream": True}))


def test_held_out_samples_of_packed_tars_follow_the_rule_of_names(tmp_path):
    sharded(tmp_path / "x")
    train, test = (open_data(tmp_path / "x", split=split, holdout=0.3) for split in ("train", "test"))
    seen = [*train.arrays["real"][:, 0, 0, 0], *test.arrays["real"][:, 0, 0, 0]]
    assert Counter(seen) == Counter(range(40))
    assert len(test)


def test_scores_read_the_first_of_a_stream(tmp_path):
    source: Source = open_data(sharded(tmp_path / "x"), stream=True)
    first = of_source(source, "train", 6)
    assert first.all()[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert first.labels is not None
    assert first.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert of_source(source, "train").count == 40
    assert first.fingerprint != source.fingerprint


# ---- ranks


RANKS = """
import json, os, sys
from pathlib import Path
import elegan
from elegan.data import shards
from elegan.data.batches import Batches
from elegan.data.sources import open_data
from elegan.training.distributed import joined
opened = set()
real = shards._read_at
shards._read_at = lambda tar, place, size: (opened.add(tar.name), real(tar, place, size))[1]
tars, photos, out, steps = sys.argv[1:5]
with joined() as peers:
    assert len(open_data(photos)) == 520
    source = open_data(tars, stream=True)
    opened.clear()
    batches = Batches(source, rows=5, shards=2)
    seen = {}
    for number in range(4):
        for shard in peers.shards(2):
            batch = batches(0, number, shard, 5)["real"]
            seen[f"{number} {shard}"] = ((batch[:, 0, 0, 0] + 1) * 127.5).round().long().tolist()
    said = {"seen": seen, "opened": sorted(opened)}
    Path(out, f"rank-{peers.rank}-of-{peers.size}.json").write_text(json.dumps(said))
    elegan.train("dcgan", tars, stream=True, out=f"{out}/two", steps=int(steps), preset="tiny", batch=10, shards=2,
                 threads=1, precision="fp32")
"""


@pytest.mark.process
def test_two_ranks_read_each_sample_once_in_the_order_of_one_and_a_resume_goes_on_to_the_bit(tmp_path):
    """gloo, two processes; beside the stream, a folder that they pack once for both."""
    sharded(tmp_path / "x")
    (tmp_path / "photos").mkdir()
    for k in range(520):
        (tmp_path / "photos" / f"{k}.png").write_bytes(png(k % 256))
    tokens = [str(tmp_path / "x"), str(tmp_path / "photos"), str(tmp_path), "6"]
    (tmp_path / "ranks.py").write_text(RANKS)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*launch, str(tmp_path / "ranks.py"), *tokens], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[:2000]
    ranks = [json.loads((tmp_path / f"rank-{rank}-of-2.json").read_text()) for rank in range(2)]
    batches = Batches(open_data(tmp_path / "x", stream=True), rows=5, shards=2)
    for rank, said in enumerate(ranks):
        assert said["opened"] == [f"x-{k:06}.tar" for k in range(rank, 4, 2)], "only its own"
        for place, numbers in said["seen"].items():
            number, shard = map(int, place.split())
            assert shard == rank
            assert numbers == levels(batches(0, number, shard, 5)["real"]), "as one process has it"
    together = [n for said in ranks for numbers in said["seen"].values() for n in numbers]
    assert sorted(together) == list(range(40)), "every sample exactly once"
    packed = [one for one in packed_data() if one.about.startswith("520 images")]
    assert len(packed) == 1
    options = dict(stream=True, preset="tiny", batch=10, shards=2, threads=1, precision="fp32")
    elegan.train("dcgan", tmp_path / "x", out=tmp_path / "one", steps=3, **options)
    elegan.resume(tmp_path / "one", steps=6)
    assert tensors(tmp_path / "one") == tensors(tmp_path / "two"), "one that stopped halfway ends where two end"
    assert state(tmp_path / "one") == state(tmp_path / "two")
