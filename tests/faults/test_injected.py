"""A save that is killed, or told EIO or ENOSPC, at each of its file calls, one after the other. FAULTS 2 to 4."""

import errno
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from elegan.run import checkpoint
from elegan.run.directory import RunDirectory
from tests.conftest import everything
from tests.faults.calls import Answer, Tracer, contents, save
from tests.faults.test_writer import fill, in_order, names, stepped

pytestmark = pytest.mark.process
FULL = (
    "open",
    "openat",
    "write",
    "fsync",
    "close",
    "mkdir",
    "rename",
    "unlink",
    "rmdir",
)  # what can say: no space left


@pytest.fixture(scope="module")
def tracer() -> Iterator[Tracer]:
    made = Tracer()
    try:
        if made.refused:
            pytest.skip(f"no process may be traced here: {made.refused}")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder in memory, if there is one: what is asked here is which calls are made, not how long they take."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def older(place: Path) -> Path:
    """Checkpoints 1, the best, 2, the last healthy one, 3 and 4, and what a killed save left."""
    folder = fill(place / "older" / "checkpoints")
    shutil.copytree(folder / "step-00000004", folder / "step-00000005.tmp-0123abcd")
    return folder


@pytest.fixture(scope="module")
def undisturbed(tracer: Tracer, older: Path, place: Path) -> tuple[Answer, dict[str, bytes]]:
    """A save that nothing happens to, and what it leaves."""
    folder = shutil.copytree(older, place / "undisturbed" / "checkpoints")
    told = tracer.ask("save", folder)
    assert (told.code, told.said) == (0, [])
    assert names(folder) == stepped(1, 2, 4, 5)
    return told, everything(folder)


def each(calls: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The calls, each with the number of those of its name up to it."""
    seen: Counter[str] = Counter()
    for name in calls:
        seen[name] += 1
        yield name, seen[name]


def below(files: dict[str, bytes], step: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name.startswith(f"{step}/")}


def nothing_is_lost(folder: Path, whole: dict[str, bytes], older: dict[str, bytes]) -> bool:
    """The checkpoints that count are there to the bit, and nothing half-made or half-deleted has a checkpoint's name;
    whether the new one is there."""
    there = everything(folder)
    kept = stepped(1, 2, 4)
    steps = [path.name for path in checkpoint.steps(folder)]
    assert set(kept) <= set(steps) <= set(stepped(1, 2, 3, 4, 5))
    for name in steps:
        assert below(there, name) == below(whole if name == "step-00000005" else older, name), name
    new = "step-00000005" in steps
    found = checkpoint.newest(folder)  # a warning would be an error here
    assert found.step == (5 if new else 4)
    expected = contents(found.step)
    assert found.tensors.keys() == expected.keys()
    for file, named in expected.items():
        assert all(found.tensors[file][name].tobytes() == value.tobytes() for name, value in named.items())
    return new


def saves_again(folder: Path) -> None:
    """The next save goes well and clears up."""
    save(folder)
    assert names(folder) == stepped(1, 2, 4, 5)


def test_the_writer_knows_no_torch(tracer):
    assert "elegan.run.checkpoint" in tracer.modules
    assert "torch" not in tracer.modules


def test_the_order_is_that_of_the_system(undisturbed, older):
    """As strace sees it, not Python."""
    told, _ = undisturbed
    first = next(i for i, call in enumerate(told.changes) if call.name == "mkdir")
    cleared, changes = told.changes[:first], told.changes[first:]
    assert [call.name for call in cleared] == ["unlink", "unlink", "unlink", "rmdir"]
    assert all("/step-00000005.tmp-0123abcd" in call.path for call in cleared)
    assert len([call for call in changes if call.name == "unlink"]) == 3
    in_order(changes, Path(changes[0].path.partition(".tmp-")[0]))


def test_a_save_killed_at_any_call_loses_nothing(tracer, undisturbed, older, place):
    told, whole = undisturbed
    before, places = everything(older), Counter[bool]()
    for name, number in each(told.names):
        folder = shutil.copytree(older, place / f"{name}-{number}" / "checkpoints")
        killed = tracer.ask("save", folder, f"{name}:signal=KILL:when={number}")
        assert killed.code == -9, (name, number)
        places[nothing_is_lost(folder, whole, before)] += 1
        saves_again(folder)
        shutil.rmtree(folder.parent)
    assert min(places.values()) > 20, "before its name is there, and after"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_a_call_that_fails_costs_no_older_checkpoint(tracer, undisturbed, older, place, code):
    """Exit 6 and one line; or a warning and a whole new one, where deleting or reading back fails."""
    told, whole = undisturbed
    before, ends = everything(older), Counter[int]()
    for name, number in each(told.names):
        if code == errno.ENOSPC and not name.startswith(FULL):
            continue
        folder = shutil.copytree(older, place / f"{name}-{number}" / "checkpoints")
        failed = tracer.ask("save", folder, f"{name}:error={errno.errorcode[code]}:when={number}")
        ends[failed.code] += 1
        assert failed.code in (0, 6), (name, number, failed.said)
        new = nothing_is_lost(folder, whole, before)
        if failed.code == 6:
            (line,) = failed.said
            assert line.startswith(f"checkpoint {folder}/step-00000005 cannot be written ({os.strerror(code)})")
            assert "older ones are intact. " + ("Free some space" if code == errno.ENOSPC else "Mend that") in line
        else:
            assert new, (name, number)
            assert len(failed.said) <= 1, failed.said
        saves_again(folder)
        shutil.rmtree(folder.parent)
    assert min(ends[0], ends[6]) > 10


@pytest.mark.parametrize("action", ["signal=KILL", "error=EIO", "error=ENOSPC"])
def test_options_are_the_old_or_the_new_at_any_call(tracer, tmp_path, action):
    def fresh(name: str) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "options.json").write_bytes(b"old")
        return tmp_path / name

    told = tracer.ask("options", fresh("undisturbed"))
    assert told.code == 0
    new = (tmp_path / "undisturbed" / "options.json").read_bytes()
    seen = set()
    for name, number in each(told.names):
        folder = fresh(f"{name}-{number}")
        done = tracer.ask("options", folder, f"{name}:{action}:when={number}")
        content = (folder / "options.json").read_bytes()
        assert content in (b"old", new)
        seen.add(content)
        if action == "signal=KILL":
            assert done.code == -9
        else:
            assert done.code in (0, 6)  # 0: whether it is a terminal is asked and not insisted on
            assert [line.startswith(f"{folder}/options.json cannot be written (") for line in done.said] == [True] * (
                done.code == 6
            )
            assert names(folder) == ["options.json"]
            assert content == new or done.code == 6
        RunDirectory(folder).write_options({"game": "next"})
        assert names(folder) == ["options.json"]
    assert seen == {b"old", new}
