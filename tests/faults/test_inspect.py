"""Data that is empty, broken, odd or changing while it is looked at; disks that refuse; files moved aside and back."""

import csv
import errno
import json
import os
import shutil
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import elegan.api as api
from elegan.data.curation import aside, parts
from elegan.data.curation.inspect import inspect
from elegan.data.form import Form
from elegan.data.sources import open_data
from elegan.errors import DataError, OptionError, ResourceError
from elegan.view import inspection
from tests.conftest import everything


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight pictures in two classes, one of them twice."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for k in range(8):
        path = folder / ("cat" if k % 2 else "dog") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(path)
    shutil.copy(folder / "cat/1.png", folder / "cat/copy.png")
    return folder


# ---- what there is to look at


def test_there_is_nothing_to_look_at(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    for verb in ("inspect", "clean"):
        said = cli("data", verb, tmp_path / "empty")
        assert said.code == 3
        assert "holds no images" in said.line
        assert cli("data", verb, tmp_path / "nowhere").code == 3


def test_one_picture_is_enough(cli, photos):
    said = cli("data", "inspect", photos / "cat/1.png")
    assert said.code == 0
    assert "nothing to say against it" in said.out
    assert Path("inspection/index.html").is_file()
    assert cli("data", "clean", photos / "cat/1.png").code == 0


def test_all_are_bad_and_each_is_named(cli, tmp_path):
    (tmp_path / "bad").mkdir()
    reasons = {"zero.png": b"", "text.png": b"hello", "bomb.png": bomb(), "cut.jpg": cut()}
    for name, content in reasons.items():
        (tmp_path / "bad" / name).write_bytes(content)
    said = cli("data", "inspect", tmp_path / "bad")
    assert said.code == 3
    assert "train would refuse this" in said.out
    report = json.loads(Path("inspection/report.json").read_text())
    found = {line["name"]: one["kind"] for one in report["findings"] for line in one["names"]}
    assert found == {
        "zero.png": "fault: empty", "text.png": "fault: of no known format", "bomb.png": "fault: too large",
        "cut.jpg": "fault: truncated",
    }  # fmt: skip
    assert cli("train", "dcgan", tmp_path / "bad").code == 3, "and so it would"
    assert cli("data", "clean", tmp_path / "bad").code == 0
    listed = list(csv.reader(Path("quarantine.csv").read_text().splitlines()))
    assert {line[0] for line in listed[1:]} == {*reasons}


def bomb() -> bytes:
    """A PNG that says it is 60,000 pixels wide and high."""
    content = BytesIO()
    Image.new("1", (8, 8)).save(content, "PNG")
    head = bytearray(content.getvalue())
    head[16:24] = (60_000).to_bytes(4, "big") * 2
    head[29:33] = zlib.crc32(head[12:29]).to_bytes(4, "big")
    return bytes(head)


def cut() -> bytes:
    """A JPEG that ends before its end."""
    content = BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(content, "JPEG")
    return content.getvalue()[:1500]


@pytest.mark.parametrize("when", ["gone", "changed"])
def test_a_file_that_goes_or_changes_meanwhile_is_a_fault(photos, when, monkeypatch):
    listed = parts.find_data

    def then(*args, **options):
        found = listed(*args, **options)
        if (photos / "dog/0.png").exists():
            (photos / "dog/0.png").unlink()
            if when == "changed":
                (photos / "dog/0.png").write_bytes(b"something else")
        return found

    monkeypatch.setattr(parts, "find_data", then)
    found = inspect(str(photos), Form())
    kinds = {one.kind: [line.get("name") for line in one.names] for one in found.findings}
    assert kinds[f"fault: {when}"] == ["dog/0.png"]


def test_a_file_that_goes_before_its_picture_is_shown_leaves_a_gap(photos):
    found = inspect(str(photos), Form())
    shutil.rmtree(photos / "cat")
    page = inspection.page(found)
    assert "no picture" in page
    assert page.count("<img ") > 0


def test_odd_names_are_said_and_kept(cli, photos):
    names = [
        "new\nline.png",
        "🦊.png",
        "<b>&.png",
        b"\xff\xfe.png".decode("utf-8", "surrogateescape"),
        "a" * 250 + ".png",
    ]
    for name in names:
        shutil.copy(photos / "dog/2.png", photos / "dog" / name)
    said = cli("data", "inspect", photos)
    assert said.code == 1
    report = json.loads(Path("inspection/report.json").read_text())
    groups = [line["group"] for one in report["findings"] if one["kind"] == "duplicates" for line in one["names"]]
    assert {f"dog/{name}" for name in names} <= {name for group in groups for name in group}
    page = Path("inspection/index.html").read_text()
    assert "<b>&.png" not in page
    assert "&lt;b&gt;&amp;.png" in page
    assert cli("data", "clean", photos, "--embedder", "pixels").code == 0
    assert len(open_data(photos, without="quarantine.csv")) == 8


def test_many_small_files_are_no_matter(cli, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(2)
    Image.fromarray(rng.integers(0, 256, (1, 1), dtype=np.uint8)).save(folder / "0.png")
    for k in range(1, 3_000):
        os.link(folder / "0.png", folder / f"{k}.png")
    said = cli("data", "inspect", folder)
    assert said.code == 1
    assert "2,999 exact duplicates in 1 group" in said.out
    assert len(said.out.splitlines()) < 40, "the terminal is told the first, the report all"
    assert Path("inspection/index.html").stat().st_size < 400_000


# ---- disks that refuse


@pytest.mark.parametrize(("verb", "out"), [("inspect", "file/out"), ("clean", "file/out.csv")])
def test_a_place_that_cannot_be_written_is_told_before_the_work(cli, photos, verb, out, monkeypatch):
    Path("file").write_text("in the way")
    monkeypatch.setattr(parts, "find_data", lambda *_, **__: pytest.fail("looked at the data first"))
    said = cli("data", verb, photos, "--out", out)
    assert said.code == 6
    assert "choose another --out" in said.line


def test_a_disk_that_fills_leaves_no_half_of_a_list(photos, tmp_path, monkeypatch):
    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ResourceError, match="No space left"):
        api.clean(photos, out=tmp_path / "list.csv", rules="duplicate")
    with pytest.raises(ResourceError, match="No space left"):
        api.inspect(photos, out=tmp_path / "page")
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".csv"]
    assert not [*(tmp_path / "page").iterdir()]


# ---- moved aside, and back


def test_files_are_moved_and_put_back_as_they_were(cli, photos):
    before = everything(photos)
    assert cli("data", "clean", photos, "--rules", "duplicate").code == 0
    said = cli("data", "clean", photos, "--move", "odd")
    assert said.code == 0
    assert "1 files moved" in said.out
    assert [*everything(Path("odd"))] == ["cat/copy.png", "moved.csv"]
    assert everything(photos) == {name: body for name, body in before.items() if name != "cat/copy.png"}
    assert cli("data", "clean", photos, "--restore", "odd").code == 0
    assert everything(photos) == before
    assert not Path("odd").exists()
    assert "nothing was moved there" in cli("data", "clean", photos, "--restore", "odd").line


def test_nothing_is_overwritten(photos, tmp_path):
    (tmp_path / "odd/cat").mkdir(parents=True)
    (tmp_path / "odd/cat/1.png").write_text("mine")
    before = everything(photos)
    with pytest.raises(ResourceError, match="is there already"):
        aside.set_aside({"cat/1.png", "dog/2.png"}, str(photos), tmp_path / "odd", form=Form())
    assert everything(photos) == before
    (tmp_path / "odd/cat/1.png").unlink()
    aside.set_aside({"cat/1.png", "dog/2.png"}, str(photos), tmp_path / "odd", form=Form())
    (photos / "cat/1.png").write_text("new")
    with pytest.raises(ResourceError, match="is there again"):
        aside.put_back(str(photos), tmp_path / "odd")
    assert (photos / "cat/1.png").read_text() == "new"
    (photos / "cat/1.png").unlink()
    aside.put_back(str(photos), tmp_path / "odd")
    assert everything(photos) == before


def test_a_move_that_was_stopped_can_be_put_back(photos, tmp_path, monkeypatch):
    """The log is written first, so whatever was moved stands in it."""
    before, moved, synced = everything(photos), aside._move, []
    monkeypatch.setattr(os, "fsync", synced.append)

    def stopped(file, to):
        assert synced, "the log is on the disk before anything is moved"
        if file.name == "3.png":
            raise KeyboardInterrupt
        moved(file, to)

    monkeypatch.setattr(aside, "_move", stopped)
    with pytest.raises(KeyboardInterrupt):
        aside.set_aside({"cat/1.png", "cat/3.png", "dog/2.png"}, str(photos), tmp_path / "odd", form=Form())
    assert not (photos / "cat/1.png").exists()
    monkeypatch.setattr(aside, "_move", moved)
    assert aside.put_back(str(photos), tmp_path / "odd") == 1
    assert everything(photos) == before


def test_another_disk_is_copied_to(photos, tmp_path, monkeypatch):
    def elsewhere(*_, **__):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    before = everything(photos)
    stamp = (photos / "dog/4.png").stat().st_mtime_ns
    monkeypatch.setattr(os, "link", elsewhere)
    aside.set_aside({"dog/4.png"}, str(photos), tmp_path / "odd", form=Form())
    assert (tmp_path / "odd/dog/4.png").read_bytes() == before["dog/4.png"]
    assert not (photos / "dog/4.png").exists()
    aside.put_back(str(photos), tmp_path / "odd")
    assert everything(photos) == before
    assert (photos / "dog/4.png").stat().st_mtime_ns == stamp


def test_what_is_moved_twice_is_put_back_at_once(photos, tmp_path):
    before = everything(photos)
    for name in ("cat/1.png", "dog/2.png"):
        assert aside.set_aside({name}, str(photos), tmp_path / "odd", form=Form()) == (1, [])
    assert aside.put_back(str(photos), tmp_path / "odd") == 2
    assert everything(photos) == before


def test_only_folders_can_be_moved_out_of_and_not_into_themselves(photos, tmp_path):
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", photos)
    for data in (packed, "digits"):
        with pytest.raises(OptionError, match="is no folder of files: use 'elegan train … --without'"):
            aside.set_aside({"cat/1.png"}, data, tmp_path / "odd", form=Form())
    with pytest.raises(OptionError, match="lies in"):
        aside.set_aside({"cat/1.png"}, str(photos), photos / "odd", form=Form())
    with pytest.raises(DataError, match="none of the samples"):
        aside.set_aside({"other.png"}, str(photos), tmp_path / "odd", form=Form())
    assert not (tmp_path / "odd").exists()


def test_a_log_that_leads_out_is_not_followed(photos, tmp_path):
    (tmp_path / "odd").mkdir()
    for path in ("../../etc/x", "/etc/x", ""):
        (tmp_path / "odd/moved.csv").write_text(f'path,from\n"{path}",x\n')
        with pytest.raises(DataError, match="leads out"):
            aside.put_back(str(photos), tmp_path / "odd")


def test_both_files_of_a_pair_are_moved(tmp_path):
    for side in "ab":
        for k in range(3):
            path = tmp_path / "pairs" / side / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 40 * k).save(path)
    assert aside.set_aside({"a/1.png"}, str(tmp_path / "pairs"), tmp_path / "odd", form=Form()) == (2, [])
    assert sorted(everything(tmp_path / "odd")) == ["a/1.png", "b/1.png", "moved.csv"]
