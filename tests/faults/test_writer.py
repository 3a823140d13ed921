"""The writer of checkpoints: what it does, in which order, and that it needs each of its precautions. FAULTS 2 to 5.

A check takes the writer as its argument, so that it can be asked of one that lacks a precaution: of these, each must
fail the check that is named for it.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from elegan.errors import CheckpointError, ElegantError, ResourceError
from elegan.run import checkpoint, directory
from elegan.run.directory import RunDirectory, free_name
from tests.conftest import everything
from tests.faults.calls import Call, contents, facts, recording
from tests.faults.mutants import WRITER, Writer, mutants
from tests.faults.test_run import cut, flip, sealed

WEIGHTS = "weights.safetensors"


def fill(folder: Path, count: int = 4, writer: Writer = WRITER) -> Path:
    """A folder of checkpoints 1, 2 …; those after 2 are of an ailing training."""
    for step in range(1, count + 1):
        writer.checkpoint.write(folder, step, contents(step), facts(step))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stepped(*numbers: int) -> list[str]:
    return [f"step-{number:08d}" for number in numbers]


def refuse(patch: pytest.MonkeyPatch, below: Path, code: int = errno.EIO) -> None:
    """Let every sync of what lies in a folder fail, or of the folder itself."""
    real = os.fsync

    def fsync(handle: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{handle}")).is_relative_to(below):
            raise OSError(code, os.strerror(code))
        real(handle)

    patch.setattr(os, "fsync", fsync)


def in_order(calls: Sequence[Call], final: Path) -> None:
    """Of a checkpoint and what it made superfluous: nothing counts before all that it counts on is on the disk."""
    at: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, call in enumerate(calls):
        at[call.name, call.path].append(place)
    folder, changes = str(final.parent), list(enumerate(calls))
    ((made, part),) = [(i, c.path) for i, c in changes if c.name == "mkdir" and c.path.startswith(f"{final}.tmp-")]
    files = [call.path for call in calls if call.name == "create"]
    assert len(files) == 3
    assert {os.path.dirname(file) for file in files} == {part}
    assert files[-1] == f"{part}/manifest.json"
    vouches = at["create", files[-1]][0]
    named = next((i for i, c in changes if c.name == "rename" and (c.path, c.to) == (part, str(final))), 0)
    assert named, "it never gets its name"
    for file in files:
        assert at["fsync", file], f"{file} is never synced"
        assert made < at["create", file][0] < at["write", file][0]
        assert at["write", file][-1] < at["fsync", file][-1] < (named if file == files[-1] else vouches)
    assert at["fsync", part], "the names of the files are never synced"
    assert at["create", files[-1]][0] < at["fsync", part][-1] < named
    synced = [i for i in at["fsync", folder] if i > named]
    assert synced, "the checkpoint's own name is never synced"
    gone = [i for i, c in changes if c.name == "rename" and i != named]
    deleted = [i for i, c in changes if c.name in ("unlink", "rmdir")]
    assert all(i > synced[0] for i in (*gone, *deleted)), "deleted before the new one is on the disk"
    assert all(calls[i].to.startswith(f"{calls[i].path}.tmp-") for i in gone)
    for i in deleted:
        moved = [k for k in gone if calls[i].path.startswith(calls[k].to)]
        assert moved, "deleted by its own name"
        assert any(moved[0] < k < i for k in synced), "deleted while it may still have its name on the disk"
    assert not [c for i, c in changes if i > synced[0] and c.name in ("create", "write", "mkdir")]
    for i, call in changes:
        if call.name == "mkdir" and call.path != part:
            assert any(i < k < made for k in at["fsync", os.path.dirname(call.path)]), f"{call.path} is not synced"


# ---- the checks


def check_order(writer: Writer, place: Path) -> None:
    """Of the fifth save, which supersedes the third, and of the first, which makes its folders."""
    folder = fill(place / "checkpoints")
    with recording() as calls:
        writer.checkpoint.write(folder, 5, contents(5), facts(5))
        writer.checkpoint.prune(folder, 2, best=1)
    in_order(calls, folder / "step-00000005")
    assert [c.path for c in calls if c.name == "rmdir"]
    assert names(folder) == stepped(1, 2, 4, 5)
    with recording() as calls:
        writer.checkpoint.write(place / "far" / "below", 5, contents(5), facts(5))
    in_order(calls, place / "far" / "below" / "step-00000005")
    assert [Path(c.path).name for c in calls if c.name == "mkdir"][:2] == ["far", "below"]


def check_order_of_a_file(writer: Writer, place: Path) -> None:
    path = place / "options.json"
    path.write_bytes(b"old")
    with recording() as calls:
        writer.disk.write_synced(path, b"new")
    part = f"{path}.tmp"
    assert calls == [
        ("create", part, ""), ("write", part, ""), ("fsync", part, ""), ("rename", part, str(path)),
        ("fsync", str(place), ""),
    ]  # fmt: skip
    assert everything(place) == {"options.json": b"new"}


def check_name_again(writer: Writer, place: Path) -> None:
    """One that is there may have been written by a process that was killed before its name was on the disk."""
    fill(place, 1)
    before = everything(place)
    with recording() as calls:
        writer.checkpoint.write(place, 1, contents(9), facts(9))
    assert calls == [("fsync", str(place), "")]
    assert everything(place) == before


def check_exclusive(writer: Writer, place: Path) -> None:
    (place / "mine").write_bytes(b"years")
    with pytest.raises(FileExistsError):
        writer.disk.create_synced(place / "mine", b"")
    assert (place / "mine").read_bytes() == b"years"


def check_room(writer: Writer, place: Path) -> None:
    """Asked before anything is made; a disk that does not say how large it is may hold it."""
    fill(place, 1)
    before, real = everything(place), os.statvfs(place)

    def disk(free: int, blocks: int) -> os.statvfs_result:
        return os.statvfs_result((4096, 512, blocks, 9_999_999, free // 512, *list(real)[5:]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "statvfs", lambda path: disk(1_000_000, 10_000_000))  # f_bfree lies: of root's alone
        for folder in (place / "new", place):
            with recording() as calls, pytest.raises(ResourceError) as refused:
                writer.checkpoint.write(folder, 2, contents(2), facts(2))
            assert calls == []
        assert "it needs 1,089 kB, 1,000 kB are free); older ones are intact. Free some space" in str(refused.value)
        assert everything(place) == before
        patch.setattr(os, "statvfs", lambda path: disk(1_000_000, 0))
        writer.checkpoint.write(place, 2, contents(2), facts(2))
        patch.setattr(os, "statvfs", lambda path: disk(1_200_000, 10_000_000))
        writer.checkpoint.write(place / "not" / "there", 3, contents(3), facts(3))
    assert names(place) == ["not", *stepped(1, 2)]


def check_damage(writer: Writer, place: Path) -> None:
    """What is wrong is named, by what has noticed it."""

    def fault() -> str:
        return writer.checkpoint.fault(path)

    path = fill(place, 1) / "step-00000001"
    files = everything(path)
    manifest = json.loads(files["manifest.json"])
    assert fault() == ""
    cut(path / WEIGHTS)
    size = len(files[WEIGHTS])
    assert f"{WEIGHTS} is damaged: it has {size - 9} bytes, not {size}" in fault()
    (path / WEIGHTS).write_bytes(files[WEIGHTS])
    flip(path / WEIGHTS, 0.9)
    assert f"{WEIGHTS} is damaged: its checksum does not match" in fault()
    (path / WEIGHTS).write_bytes(files[WEIGHTS])
    (path / "manifest.json").write_bytes(files["manifest.json"].replace(b"none", b"gone"))
    assert "manifest.json is damaged." in fault()
    (path / "manifest.json").write_text(sealed({**manifest, "schema": 2}))
    assert "has layout 2, this elegan reads 1" in fault()
    named = {"../secret.safetensors": manifest["files"][WEIGHTS]}
    (path / "manifest.json").write_text(sealed({**manifest, "files": named}))
    (place / "secret.safetensors").write_bytes(files[WEIGHTS])
    assert "it names a file '../secret.safetensors'" in fault()
    (path / "manifest.json").write_bytes(files["manifest.json"])
    assert fault() == ""
    path = path.rename(place / "step-00000007")
    assert "manifest.json is damaged." in fault()


def check_read_back(writer: Writer, place: Path) -> None:
    """Where the new one does not read back, an older one stays for it."""
    fill(place, 5)
    flip(place / "step-00000005" / WEIGHTS)
    with pytest.warns(UserWarning, match=r"step-00000005/weights.* checksum does not match. An older one is kept"):
        writer.checkpoint.prune(place, 1)
    assert names(place) == stepped(2, 4, 5)


def check_set_aside(writer: Writer, place: Path) -> None:
    """A damaged one in the place of a new one is kept by another name."""
    damaged = fill(place, 2) / "step-00000002"
    flip(damaged / WEIGHTS)
    content = everything(damaged)
    writer.checkpoint.write(place, 2, contents(2), facts(2))
    assert checkpoint.fault(damaged) == ""
    (aside,) = place.glob("step-00000002.damaged-*")
    assert everything(aside) == content


def check_nothing_is_left(writer: Writer, place: Path) -> None:
    """Of a save that was killed, of one that fails, of what is deleted, and of a file that cannot be synced."""
    left = fill(place / "checkpoints", 3) / "step-00000003.tmp-0123abcd"
    shutil.copytree(left.with_name("step-00000003"), left)
    writer.checkpoint.write(left.parent, 4, contents(4), facts(4))
    assert names(left.parent) == stepped(1, 2, 3, 4)
    writer.checkpoint.prune(left.parent, 1)
    assert names(left.parent) == stepped(2, 4)
    with pytest.MonkeyPatch.context() as patch:
        refuse(patch, place)
        with pytest.raises(ResourceError, match=r"cannot be written \(Input/output error\); older ones are intact"):
            writer.checkpoint.write(left.parent, 5, contents(5), facts(5))
        with pytest.raises(ResourceError, match=r"best.json cannot be written \(Input/output error\)"):
            writer.disk.write_synced(place / "best.json", b"")
    assert names(left.parent) == stepped(2, 4)
    assert names(place) == ["checkpoints"]


def check_folders_that_cannot_be_synced(writer: Writer, place: Path) -> None:
    """Some disks never do; on one that does, it is an error."""
    (place / "in").mkdir()
    for code in (errno.EINVAL, errno.ENOTSUP, errno.EIO):
        with pytest.MonkeyPatch.context() as patch:
            refuse(patch, place / "in", code)
            if code != errno.EIO:
                writer.disk.sync_folder(place / "in")
                continue
            with pytest.raises(OSError, match="Input/output error"):
                writer.disk.sync_folder(place / "in")
    opened = len(os.listdir("/proc/self/fd"))
    writer.disk.sync_folder(place)
    assert len(os.listdir("/proc/self/fd")) == opened


def check_newest(writer: Writer, place: Path) -> None:
    """Healthy ones only, if asked; why there is none, in words."""
    newest = writer.checkpoint.newest
    fill(place, 4)
    assert (newest(place).step, newest(place, healthy=True).step) == (4, 2)
    assert [newest(place).healthy, newest(place, healthy=True).healthy] == [False, True]
    flip(place / "step-00000002" / WEIGHTS)
    with pytest.warns(UserWarning, match="step-00000002/weights.* Using step-00000001 instead"):
        assert newest(place, healthy=True).step == 1
    shutil.rmtree(place / "step-00000001")
    with pytest.raises(CheckpointError, match="is healthy; train a new run with a lower --lr"):
        newest(place, healthy=True)
    for step in (3, 4):
        cut(place / f"step-0000000{step}" / WEIGHTS)
    for healthy in (False, True):
        with pytest.raises(CheckpointError, match=r"is whole: .*step-00000004.* Nothing was deleted"):
            newest(place, healthy=healthy)
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        newest(place / "none")
    writer.checkpoint.write(place / "new", 0, contents(0), facts(0))
    assert newest(place / "new", trained=True).step == 0
    writer.checkpoint.write(place / "new", 1, contents(1), facts(1))
    cut(place / "new" / "step-00000001" / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"is whole: .*step-00000001"):
        newest(place / "new", trained=True)
    with pytest.warns(UserWarning, match="Starting again from step 0"):
        assert newest(place / "new").step == 0


def check_whole(writer: Writer, place: Path) -> None:
    """A file is there whole or not at all, and never where something else was."""

    def fail(part: Path) -> None:
        part.write_bytes(b"new")
        raise ValueError("mine")

    writer.disk.write_whole(place / "file", b"old")
    assert names(place) == ["file"]
    with pytest.raises(ValueError, match="mine"), writer.disk.whole(place / "file") as part:
        fail(part)
    assert names(place) == ["file"]
    assert (place / "file").read_bytes() == b"old"
    (place / "folder").mkdir()
    os.mkfifo(place / "pipe")
    for name, error in (("folder", IsADirectoryError), ("pipe", FileExistsError)):
        with pytest.raises(OSError, match=name) as caught:
            writer.disk.write_whole(place / name, b"new")
        assert type(caught.value) is error
    assert names(place) == ["file", "folder", "pipe"]
    assert (place / "pipe").is_fifo()


NAMED = {
    "write: shutil.rmtree(left, ignore_errors=True)": check_nothing_is_left,
    "write: fault(final)": check_set_aside,
    "write: sync_folder(folder)": check_name_again,
    "write: need_room(folder, sum(map(len, contents.values())))": check_room,
    "write: final.rename(_beside(final, 'damaged'))": check_set_aside,
    "_write_as: sync_folder(part)": check_order,
    "_write_as: part.rename(final)": check_order,
    "_write_as: sync_folder(final.parent)": check_order,
    "_write_as: shutil.rmtree(part)": check_nothing_is_left,
    "prune: _read(path)": check_read_back,
    "prune: found.path.rename(_beside(found.path, 'tmp'))": check_order,
    "prune: sync_folder(folder)": check_order,
    "prune: shutil.rmtree(old)": check_nothing_is_left,
    "newest: if ill:": check_newest,
    "newest: if damaged:": check_newest,
    "_manifest: if (version := manifest['schema']) != SCHEMA:": check_damage,
    "_manifest: if seal != _seal(manifest):": check_damage,
    "_manifest: if path.name != f'step-{step:08d}':": check_damage,
    "_tensors: if Path(name).name != name or not name.endswith('.safetensors'):": check_damage,
    "_tensors: if len(content) != size:": check_damage,
    "_tensors: if hashlib.sha256(content).hexdigest() != digest:": check_damage,
    "whole: part.replace(path)": check_whole,
    "whole: part.unlink(missing_ok=True)": check_whole,
    "_refuse_no_file: if path.is_dir():": check_whole,
    "_refuse_no_file: if path.exists() and (not path.is_file()):": check_whole,
    "write_synced: part.replace(path)": check_order_of_a_file,
    "write_synced: sync_folder(path.parent)": check_order_of_a_file,
    "write_synced: part.unlink()": check_nothing_is_left,
    "create_synced: 'xb'": check_exclusive,
    "_write: file.flush()": check_order,
    "_write: os.fsync(file.fileno())": check_order,
    "sync_folder: os.fsync(handle)": check_order,
    "sync_folder: if error.errno not in (errno.EINVAL, errno.ENOTSUP):": check_folders_that_cannot_be_synced,
    "make_folder: sync_folder(folder.parent)": check_order,
    "need_room: if free < needed and disk.f_blocks:": check_room,
}
CHECKS = sorted({*NAMED.values()}, key=lambda check: check.__name__)
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc to name open files by")


@needs_proc
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_writer_passes(tmp_path, check):
    check(WRITER, tmp_path)


@needs_proc
def test_each_precaution_is_needed(tmp_path):
    """A sync, a rename, a check that is new here fails this until a check is named for it."""
    found = []
    for number, (site, mutant) in enumerate(mutants()):
        found.append(site)
        place = tmp_path / str(number)
        place.mkdir()
        assert site in NAMED, "name a check that misses it"
        try:
            NAMED[site](mutant, place)
        except (AssertionError, ElegantError, pytest.fail.Exception):
            continue
        pytest.fail(f"{NAMED[site].__name__} does not miss {site}")
    assert sorted(found) == sorted(NAMED)


# ---- what is no precaution


def test_a_checkpoint_reads_back_what_was_written(tmp_path):
    """Also numbers as keys, which JSON has as text, and arrays that are not contiguous."""
    values = np.arange(60.0).reshape(6, 10)
    written = {"plan": {2: "two", 10: "ten", "pair": (1, 2)}, "ailments": []}
    path = checkpoint.write(tmp_path, 7, {"weights": {"even": values[:, ::2], "turned": values.T}}, written)
    found = checkpoint.newest(tmp_path)
    assert (found.path, found.step) == (path, 7)
    assert found.facts == {"plan": {"2": "two", "10": "ten", "pair": [1, 2]}, "ailments": []}
    assert (found.tensors["weights"]["even"] == values[:, ::2]).all()
    assert (found.tensors["weights"]["turned"] == values.T).all()


def test_steps_are_numbers_not_words(tmp_path):
    for step in (99_999_999, 100_000_000):
        checkpoint.write(tmp_path, step, contents(1), {})
    (tmp_path / "step-1.tmp-0123abcd").mkdir()
    (tmp_path / "step-two").mkdir()
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-100000000", "step-99999999"]
    assert checkpoint.newest(tmp_path).step == 100_000_000


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [(3, None, (2, 5, 6, 7)), (2, 4, (2, 4, 6, 7)), (1, 2, (2, 7)), (1, None, (2, 7)), (6, 7, (2, 3, 4, 5, 6, 7))],
)
def test_the_newest_the_best_and_the_last_healthy_one_stay(tmp_path, keep, best, left):
    checkpoint.prune(fill(tmp_path, 7), keep, best)
    assert names(tmp_path) == stepped(*left)


def test_what_cannot_be_deleted_is_said_and_deleted_the_next_time(tmp_path, monkeypatch):
    def refused(path, **_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    fill(tmp_path, 5)
    for name, said in [
        ("rmdir", r"cannot be deleted \(Input/output error\)"),
        ("listdir", r"cannot be read .*goes on"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(os, name, refused)
            with pytest.warns(UserWarning, match=said):
                checkpoint.prune(tmp_path, 1)
        assert checkpoint.newest(tmp_path).step == 5
    checkpoint.write(tmp_path, 6, contents(6), facts(6))
    checkpoint.prune(tmp_path, 1)
    assert names(tmp_path) == stepped(2, 6)


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path, monkeypatch):
    fill(tmp_path, 1)
    monkeypatch.setattr(os, "listdir", lambda path: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(CheckpointError, match=r"cannot be read \(Input/output error\)"):
        checkpoint.newest(tmp_path)


@needs_proc
def test_the_folders_of_a_run_are_on_the_disk(tmp_path):
    with recording() as calls:
        RunDirectory.create(tmp_path / "runs" / "mine")
    made = [i for i, call in enumerate(calls) if call.name == "mkdir"]
    assert [Path(calls[i].path).name for i in made] == ["runs", "mine", "samples", "checkpoints"]
    assert all(calls[i + 1] == ("fsync", str(Path(calls[i].path).parent), "") for i in made)
    with recording() as calls:
        path = free_name(tmp_path / "runs", "mine")
    assert calls[-2:] == [("mkdir", str(path), ""), ("fsync", str(tmp_path / "runs"), "")]
    assert directory.write_synced is WRITER.disk.write_synced


# ---- a disk that is really too small

SMALL = """
mount -t tmpfs -o size={size}k tmpfs {place} && exec {python} -c '
import sys
from pathlib import Path
from elegan.errors import ElegantError
from elegan.run import checkpoint
from tests.faults.calls import contents, facts
place = Path("{place}") / "checkpoints"
try:
    for step in range(20):
        checkpoint.write(place, step, contents(step), facts(0))
except ElegantError as error:
    print(error.code, step, sorted(p.name for p in place.iterdir()), checkpoint.newest(place).step, error)
'
"""


@pytest.mark.process
@pytest.mark.parametrize(("size", "fit"), [(1_200, 4), (1_400, 8)])
def test_a_disk_that_fills_up_ends_with_exit_6_before_it_is_full(tmp_path, size, fit):
    """Each takes 44 kB and leaves 1 MiB free, on a tmpfs of its own."""
    made = SMALL.format(size=size, place=tmp_path, python=sys.executable)
    command = ["unshare", "-Urm", "sh", "-c", made]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no disk of one's own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"6 {fit} {stepped(*range(fit))} {fit - 1} checkpoint {tmp_path}/checkpoints/step-")
    assert "kB are free); older ones are intact. Free some space, then resume.\n" in done.stdout
