"""A store whose making is stopped, whose disk refuses, whose bytes are wrong: FAULTS 1 to 5, 9 and 20, for data."""

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elegan.data import keep, pack, store
from elegan.data.form import Form
from elegan.data.listing import Layout
from elegan.data.readers.picture import Pictures
from elegan.data.source import Source
from elegan.data.sources import find_data, open_data, packed_data, prepare
from elegan.errors import DataError, ResourceError
from tests.conftest import ELEGAN, everything

pytestmark = pytest.mark.filterwarnings("ignore:.*left out")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ELEGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pack, "FEW", 3)
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two domains of float images, so that there are two streams and ranges, and a test split; one file is bad."""
    rng = np.random.default_rng(0)
    for folder, count in {"trainA": 16, "trainB": 12, "testA": 6, "testB": 4}.items():
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for k in range(count):
            pixels = Image.fromarray(rng.random((4, 4), np.float32) * k)
            pixels.save(tmp_path / "photos" / folder / f"{k:02}.tif")
    bad = tmp_path / "photos" / "trainA" / "07.tif"
    bad.write_bytes(bad.read_bytes()[:-40])
    return tmp_path / "photos"


def forked(work: Callable[[], None]) -> int:
    """The id of a child that does some work; it ends with 0, or with 1 if the work fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons', that threads are not forked
        child = os.fork()
    if child:
        return child
    status = 1
    os.fsync = lambda handle: None  # what a killed process has written is there, synced or not
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def packing(photos: Path, out: Path) -> Callable[[], None]:
    """Pack, with a note in the journal of every sample."""

    def work() -> None:
        keep.JOURNAL_SECONDS = 0.0
        prepare(photos, out, form=Form())

    return work


def undisturbed(photos: Path, out: Path) -> dict[str, bytes]:
    prepare(photos, out, form=Form())
    return everything(out)


def beside(out: Path) -> list[str]:
    """What of a store that is made lies beside it."""
    return [path.name for path in out.parent.iterdir() if path.name.startswith(f".{out.name}")]


# ---- 1, 2: killed


def test_a_packing_killed_at_random_instants_ends_as_if_it_never_was(photos, tmp_path):
    """SIGKILL, twice in each of eleven packings; in more where a busy machine let too few of them fall midway."""
    want = undisturbed(photos, tmp_path / "want")
    begun = time.monotonic()
    assert ended(forked(packing(photos, tmp_path / "timed"))) == 0
    seconds = time.monotonic() - begun
    draw, midway = random.Random(time.time_ns()), 0
    for trial in range(44):
        if trial >= 11 and midway > 2:
            break
        out = tmp_path / f"{trial}"
        for _ in range(2):
            child = forked(packing(photos, out))
            time.sleep(draw.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            midway += any((tmp_path / f".{trial}.part").glob("journal-*"))
        if not out.exists():
            prepare(photos, out, form=Form())
        assert everything(out) == want
        if (tmp_path / f".{trial}.part").exists():  # killed after all was done, before it was swept up
            assert store.reads(out)
    assert midway > 2, "most fell before or after"


CALLS = ("fsync", "replace", "rename")


def stops(name: str, place: int, stop: Callable[[], None]) -> None:
    """Stop at the nth call of a kind."""
    real, seen = getattr(os, name), [0]

    def call(*about, **more):
        seen[0] += 1
        if seen[0] == place:
            stop()
        return real(*about, **more)

    setattr(os, name, call)


@pytest.mark.parametrize("name", CALLS)
def test_a_packing_that_ends_at_any_call_that_brings_it_to_the_disk_is_gone_on_with(photos, tmp_path, name):
    """And what was done is not done again: as many samples are decoded in all as there are, or a few more."""
    want, log = undisturbed(photos, tmp_path / "want"), tmp_path / "log"
    total = 16 + 12 + 6 + 4

    def work(place: int, out: Path) -> None:
        real = pack.read_sample
        pack.CHUNK, pack.cores = 1, lambda: 1
        with log.open("a") as file:
            pack.read_sample = lambda *about: (file.write("."), file.flush(), real(*about))[-1]
            stops(name, place, lambda: os._exit(9))
            packing(photos, out)()

    place, stopped = 1, 0
    while True:
        out = tmp_path / f"{place}"
        log.write_text("")
        code = ended(forked(lambda place=place, out=out: work(place, out)))
        if code == 0:
            break
        assert code == 9
        stopped += 1
        assert not out.exists() or name == "fsync"
        if not out.exists():
            assert ended(forked(lambda out=out: work(-1, out))) == 0
        assert everything(out) == want, place
        assert len(log.read_text()) <= total + 3, "the rows that are there are not decoded again, but for those ahead"
        place += 1 if place < 4 or name == "rename" else 17
    assert stopped >= {"fsync": 9, "replace": 5, "rename": 1}[name]


def test_a_split_that_is_done_is_not_looked_at_again(photos, tmp_path, monkeypatch):
    def work() -> None:
        real = pack.survey

        def survey(listing, progress):
            if next(iter(listing.streams.values()))[0].name.startswith("test"):
                os._exit(9)
            return real(listing, progress)

        pack.survey = survey
        packing(photos, tmp_path / "out")()

    assert ended(forked(work)) == 9
    looked: list[str] = []
    real = pack.survey
    monkeypatch.setattr(pack, "survey", lambda listing, *rest: (looked.append(len(listing)), real(listing, *rest))[1])
    prepare(photos, tmp_path / "out", form=Form())
    assert looked == [4], "the test split alone"
    assert everything(tmp_path / "out") == undisturbed(photos, tmp_path / "want")


def test_rows_are_on_the_disk_before_a_journal_or_manifest_speaks_of_them(photos, tmp_path, monkeypatch):
    """3: every file is synced after its last write and before the name that makes it count; so is each folder."""
    calls: list[tuple[str, str]] = []
    sync, replace, rename = os.fsync, os.replace, os.rename

    def fsync(handle):
        path = os.readlink(f"/proc/self/fd/{handle}")
        calls.append(("sync", Path(path).name if Path(path).parent != tmp_path else f"<{Path(path).name}>"))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(("replace", Path(b).name)), replace(a, b)))
    monkeypatch.setattr(os, "rename", lambda a, b: (calls.append(("rename", Path(b).name)), rename(a, b)))
    monkeypatch.setattr(keep, "JOURNAL_SECONDS", 0.0)
    prepare(photos, tmp_path / "out", form=Form())
    for k, (call, name) in enumerate(calls):
        if call == "replace":
            assert calls[k - 1] == ("sync", f"{name}.new")
        if call == "replace" and name == "journal-train.json" and k > 4:
            assert calls[k - 2][0] == "sync"
            assert calls[k - 2][1].endswith(".npy")
    end = [("sync", "store.json.new"), ("replace", "store.json"), ("sync", "store"), ("rename", "out")]
    assert calls[-5:-1] == end
    assert calls[-1][0] == "sync"
    last = {name: k for k, (call, name) in enumerate(calls) if call == "sync"}
    assert all(last[f"{split}-{field}.npy"] < len(calls) - 5 for split in ("train", "test") for field in "ab")


def test_a_journal_of_other_data_or_of_rows_that_are_gone_counts_for_nothing(photos, tmp_path):
    want = undisturbed(photos, tmp_path / "want")

    def halfway() -> None:
        stops("replace", 12, lambda: os._exit(9))
        packing(photos, tmp_path / "out")()

    assert ended(forked(halfway)) == 9
    part = tmp_path / ".out.part"
    shutil.copytree(part, tmp_path / "kept")
    for damage in (
        lambda: (part / "store" / "train-a.npy").unlink(),
        lambda: os.truncate(part / "store" / "train-a.npy", 130),
        lambda: (part / "journal-train.json").write_text("{"),
        lambda: (part / "journal-train.json").write_text('{"key": 3}'),
    ):
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(tmp_path / "kept", part)
        damage()
        prepare(photos, tmp_path / "out", form=Form())
        assert everything(tmp_path / "out") == want
        shutil.rmtree(tmp_path / "out")
    shutil.copytree(tmp_path / "kept", part)
    for folder in ("trainA", "trainB"):
        Image.fromarray(np.ones((4, 4), np.float32)).save(photos / folder / "00.tif")
    prepare(photos, tmp_path / "out", form=Form())
    assert np.load(tmp_path / "out" / "train-a.npy")[0].tolist() == np.ones((1, 4, 4)).tolist()


# ---- 4, 20: the disk refuses


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_is_exit_6_and_is_gone_on_with(photos, tmp_path, cli, monkeypatch, code):
    want = undisturbed(photos, tmp_path / "want")
    monkeypatch.setattr(keep, "JOURNAL_SECONDS", 0.0)
    real, synced = os.fsync, []

    def fsync(handle):
        synced.append(handle)
        if len(synced) > 30:
            raise OSError(code, os.strerror(code))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    said = cli("data", "prepare", photos, tmp_path / "out")
    assert said.code == 6
    assert os.strerror(code) in said.line
    assert "what is packed so far is kept" in said.line
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(os, "fsync", real)
    assert json.loads((tmp_path / ".out.part" / "journal-train.json").read_text())["streams"]["a"]["done"] > 3
    assert cli("data", "prepare", photos, tmp_path / "out").code == 0
    assert everything(tmp_path / "out") == want


@pytest.mark.process
def test_a_process_that_may_write_no_more_ends_with_exit_6(photos, tmp_path):
    """RLIMIT_FSIZE: half of the rows fit. Without it, the second try goes on."""
    want = undisturbed(photos, tmp_path / "want")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))

    command = [*ELEGAN, "data", "prepare", str(photos), str(tmp_path / "out")]
    done = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("elegan: warning: ")]
    assert done.returncode == 6, done.stderr
    assert len(errors) == 1, done.stderr
    assert "File too large" in errors[0]
    prepare(photos, tmp_path / "out", form=Form())
    assert everything(tmp_path / "out") == want


@pytest.mark.process
def test_a_full_disk_is_told_before_anything_is_decoded_or_when_it_happens(photos, tmp_path):
    """A tmpfs of a few kilobytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=64k none {disk} && shift 0 && exec "$@"'
    tried = subprocess.run(["unshare", "-Urm", "sh", "-c", script, "sh", "true"], capture_output=True)
    if tried.returncode:
        pytest.skip("no mounts here")
    np.save(tmp_path / "x.npy", np.zeros((100, 32, 32), np.uint8))
    command = ["unshare", "-Urm", "sh", "-c", script, "sh", *ELEGAN, "data", "prepare"]
    done = subprocess.run([*command, str(tmp_path / "x.npy"), str(disk / "out")], capture_output=True, text=True)
    assert done.returncode == 6, done.stderr
    assert done.stderr.count("\n") == 1
    assert "make room" in done.stderr


def test_a_cache_that_cannot_be_written_is_done_without_if_memory_has_room(photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    want = open_data(photos)
    monkeypatch.setenv("ELEGAN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match=r"cannot be written \(Not a directory\), so .* is decoded into memory"):
        assert open_data(photos).fingerprint == want.fingerprint
    monkeypatch.setattr(store, "memory", lambda: 1_000)
    with (
        pytest.warns(UserWarning, match="cannot be written"),
        pytest.raises(ResourceError, match=r"GB of memory.*ELEGAN_CACHE"),
    ):
        open_data(photos)


def test_no_room_is_told_before_anything_is_packed(photos, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(ResourceError, match=r"would take 0.0 GB, 0.0 are free there: make room"):
        open_data(photos)


def test_too_many_open_files_are_no_fault_of_the_images(photos, monkeypatch):
    listing = find_data(photos, form=Form())

    def open_(entry):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(listing.tree, "open", open_)
    with pytest.raises(OSError, match="Too many open files"):
        pack.survey(listing)


# ---- 5: damaged


def damaged_bytes(store_: Path, kind: str, file: str) -> None:
    path = store_ / file
    body = bytearray(path.read_bytes())
    match kind:
        case "flipped":
            body[-3] ^= 4
        case "cut":
            body = body[: len(body) // 2]
        case "empty":
            body = bytearray()
    path.unlink() if kind == "gone" else path.write_bytes(body)


@pytest.mark.parametrize("kind", ["flipped", "cut", "empty", "gone"])
@pytest.mark.parametrize("file", ["store.json", "train-b.npy"])
def test_a_damaged_store_is_named_and_one_in_the_cache_is_made_anew(photos, tmp_path, cache, kind, file):
    prepare(photos, tmp_path / "out", form=Form())
    damaged_bytes(tmp_path / "out", kind, file)
    if (kind, file) != ("gone", "store.json"):  # then it is a folder of arrays like any other
        with pytest.raises(DataError, match=rf"{file}' is (missing, cut short or )?damaged.*prepare") as caught:
            open_data(tmp_path / "out")
        assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match="left out"):
        want = open_data(photos)
    (packed,) = [path for path in cache.iterdir() if store.reads(path)]
    damaged_bytes(packed, kind, file)
    with pytest.warns(UserWarning, match="left out"):
        assert open_data(photos).fingerprint == want.fingerprint
    assert [path for path in cache.iterdir() if path.name != "checked"] == [packed]
    assert len(packed_data()) == 1


def test_no_single_byte_of_a_manifest_goes_unnoticed(photos, tmp_path):
    prepare(photos, tmp_path / "out", form=Form())
    file = tmp_path / "out" / "store.json"
    whole, draw = file.read_bytes(), random.Random(0)
    for place in draw.sample(range(len(whole)), 200):
        body = bytearray(whole)
        body[place] ^= 1 << draw.randrange(7)
        file.write_bytes(body)
        try:
            said = store.read_manifest(tmp_path / "out")
        except DataError:
            continue
        assert said == {**json.loads(whole), "sha256": None} | {"sha256": None} or chr(whole[place]).isspace(), place


def test_a_newer_store_is_refused_with_a_line(photos, tmp_path, cli):
    prepare(photos, tmp_path / "out", form=Form())
    file = tmp_path / "out" / "store.json"
    file.write_text(file.read_text().replace("elegan store 1", "elegan store 2"))
    said = cli("train", "dcgan", tmp_path / "out")
    assert said.code == 3
    assert "'elegan store 2', and only 'elegan store 1' is read here" in said.line


def test_a_manifest_of_another_form_or_that_reaches_elsewhere_is_refused(photos, tmp_path):
    prepare(photos, tmp_path / "out", form=Form())
    file = tmp_path / "out" / "store.json"
    whole = json.loads(file.read_text())
    np.save(tmp_path / "train-a.npy", np.load(tmp_path / "out" / "train-a.npy"))
    (tmp_path / "out" / "train-a.npy").unlink()

    def forge(change: Callable[[dict], None]) -> None:
        body = json.loads(json.dumps({name: value for name, value in whole.items() if name != "sha256"}))
        change(body["splits"]["train"])
        file.write_text(json.dumps({**body, "sha256": store._seal(body)}))

    for change in (
        lambda held: held["fields"]["a"].update(file="../train-a.npy"),
        lambda held: held["fields"]["a"].update(file=str(tmp_path / "train-a.npy")),
        lambda held: held["fields"]["a"].pop("blocks"),
        lambda held: held.pop("spec"),
        lambda held: held.update(left_out=[3]),
        lambda held: held.update(fields=[]),
    ):
        forge(change)
        with pytest.raises(DataError, match="prepare"):
            open_data(tmp_path / "out")


# ---- 9: two at once


def test_of_two_who_pack_the_same_one_packs_and_the_other_waits(photos, tmp_path):
    log = tmp_path / "log"

    def work() -> None:
        real = pack.read_sample
        with log.open("a") as file:
            pack.read_sample = lambda *about: (time.sleep(0.01), file.write(f"{os.getpid()}\n"), real(*about))[-1]
            told = []
            assert len(open_data(photos, progress=lambda what, *_: told.append(what))) == 12
            file.write(f"{'waited' if any('waiting' in what for what in told) else 'packed'}\n")

    children = [forked(work) for _ in range(3)]
    assert [ended(child) for child in children] == [0, 0, 0]
    lines = log.read_text().split()
    assert sorted(lines)[-3:] == ["packed", "waited", "waited"]
    assert len({line for line in lines if line.isdigit()}) == 1


def test_who_waited_for_one_that_was_killed_goes_on(photos, tmp_path):
    held = store.Part(tmp_path / ".out.part")
    held.home.mkdir(parents=True)
    ready = tmp_path / "ready"

    def hold() -> None:
        with store.being_written(tmp_path / "out"):
            ready.touch()
            time.sleep(60)

    holder = forked(hold)
    while not ready.exists():
        time.sleep(0.005)
    waiting = forked(lambda: prepare(photos, tmp_path / "out", form=Form()) and None)
    time.sleep(0.2)
    assert os.waitpid(waiting, os.WNOHANG) == (0, 0)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert ended(waiting) == 0
    assert store.reads(tmp_path / "out")
    assert beside(tmp_path / "out") == []


def test_many_who_make_and_sweep_the_same_never_make_it_together(tmp_path):
    """A lock that was swept away guards nothing: whoever holds one alone is inside."""
    inside, overlaps = tmp_path / "inside", tmp_path / "overlaps"

    def work() -> None:
        for _ in range(60):
            with store.being_written(tmp_path / "out") as part:
                if part is None:
                    store.discard(tmp_path / "out")
                    continue
                try:
                    os.mkdir(inside)
                except FileExistsError:
                    overlaps.touch()
                with part.column("train", "x", Layout((), "|u1")) as column:
                    column.append(np.zeros(1, np.uint8))
                    column.finish()
                os.rmdir(inside)
                store.publish(part, tmp_path / "out", {})

    children = [forked(work) for _ in range(4)]
    assert [ended(child) for child in children] == [0] * 4
    assert not overlaps.exists()


# ---- sources that change meanwhile


def test_files_that_change_or_vanish_while_they_are_packed_are_left_out_and_named(tmp_path, monkeypatch):
    for k in range(40):
        Image.new("L", (4, 4), k).save(tmp_path / f"{k:02}.png")
    real = Pictures.read
    done: list[bool] = []

    def read(self, files, layout):
        if not done:
            done.append(True)
            Image.new("L", (4, 4), 200).save(tmp_path / "38.png", compress_level=0)
            (tmp_path / "39.png").unlink()
        return real(self, files, layout)

    monkeypatch.setattr(pack, "cores", lambda: 1)
    monkeypatch.setattr(Pictures, "read", read)
    with pytest.warns(
        UserWarning, match=r"2 of 40 images cannot be read, the first is '38.png' \(it has changed since"
    ):
        source = open_data(tmp_path)
    assert [name for name, _ in source.left_out] == ["38.png", "39.png"]
    assert "No such file" in source.left_out[1][1]
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again: Source = open_data(tmp_path)
    assert len(again) == 39
    assert again.arrays["real"][38].max() == 200


def test_a_packing_given_up_leaves_nothing_behind(tmp_path, cache):
    for k in range(40):
        Image.new("L", (4, 4), k).save(tmp_path / f"{k:02}.png")
        if k % 5 == 0:
            (tmp_path / f"{k:02}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read"):
        open_data(tmp_path)
    assert list(cache.glob(".*")) == []
